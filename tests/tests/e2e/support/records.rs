//! What is written down, and what happens when it cannot be.

use std::process::Command;

use kedge_tests::rig::names;
use kedge_tests::rig::need::{self, Need};
use kedge_tests::rig::outcome::run;

use super::engine;
use kedge_tests::rig::support::{ASK, World};

/// A small file system in memory, unmounted in the end.
struct Small(tempfile::TempDir);

impl Small {
    fn new() -> Self {
        let folder = names::scratch("kedge-small-");
        run(Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(folder.path()))
            .succeeded();
        Self(folder)
    }

    fn remount(&self, how: &str) {
        run(Command::new("mount").args(["-o", &format!("remount,{how}")]).arg(self.0.path())).succeeded();
    }

    fn fill(&self) {
        let full = std::fs::write(self.0.path().join("ballast"), vec![0; 2 << 20]);
        assert!(full.is_err());
    }

    fn empty(&self) {
        std::fs::remove_file(self.0.path().join("ballast")).unwrap();
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = run(Command::new("umount").args(["--lazy"]).arg(self.0.path()));
    }
}

#[test]
fn test_09_what_cannot_be_recorded_is_refused_and_ended() {
    if !need::met(&[Need::Engine, Need::Loop]) {
        return;
    }
    let small = Small::new();
    let world = World::new(&format!("{ASK}\nrecordings = '{}'", small.0.path().display()));
    let refused = |grant: &str| {
        let mut held = world.hold(grant);
        held.wait_until_over();
        assert_eq!(world.session(grant)["state"], "approved", "nothing was opened");
        assert_eq!(world.refusals().last().unwrap(), "KE-6410");
    };
    let grant = world.request("shell", &[]);
    world.approve(&grant);
    small.fill();
    refused(&grant);
    small.empty();
    small.remount("ro");
    refused(&grant);
    small.remount("rw");
    let mut held = world.hold(&grant);
    held.log.wait_for(0, |line| line.starts_with("open for")).unwrap();
    let (_shell, said) = world.shell(&grant, "echo up-$((6*7))\n");
    said.wait_for(0, |line| line.contains("up-42")).unwrap();
    small.fill();
    // It goes on until something would have to be written, and what that is does not leave.
    let (_more, unsaid) = world.shell(&grant, "yes this-must-not-leave | head -c 3000000\n");
    assert!(held.wait_until_over().contains("the recording could not be written"));
    world.wait_for(&grant, "closed");
    assert!(world.containers(&grant).is_empty());
    let left = unsaid.wait_for(0, |_| false).unwrap_err();
    assert!(left.matches("this-must-not-leave").count() < 3, "{left}");
}

#[test]
fn test_11_a_secret_split_across_chunks_is_not_in_the_bytes_that_left() {
    if !engine() {
        return;
    }
    let rules = format!("{ASK}\n").replace(
        "'run:id'",
        r#"'run:id', 'run:sh -c "printf hun; sleep 0.3; printf ter2-swordfish; echo; echo end"'"#,
    );
    let world = World::new(&rules);
    let secret = "hunter2-swordfish";
    super::consent::give_secret(&world, secret);
    let argv = ["sh", "-c", "printf hun; sleep 0.3; printf ter2-swordfish; echo; echo end"];
    let scopes = format!("logs,inspect,shell,run:'sh -c \"{}\"'", argv[2]);
    let (grant, _held) = world.open(&scopes, &[]);
    let service = world.service();
    let words = ["run", &service, "--session", &grant, "--"];
    let said = world.engineer(&[&words[..], &argv].concat()).succeeded();
    assert!(said.contains("[redacted]") && said.contains("end") && !said.contains("ter2"), "{said}");
    // On a terminal, in pieces that come at different times.
    let typed = "a=hun; b=ter2; c=-sword; d=fish; printf $a; sleep 0.5; printf -- $b$c; sleep 0.1; echo $d; echo over-$((6*7))\n";
    let (_shell, said) = world.shell(&grant, typed);
    let (_, _) = said.wait_for(0, |line| line.contains("over-42")).unwrap();
    let left = said.tail();
    assert!(!left.contains(secret) && left.contains("[redacted]"), "{left}");
    let inspected = world.engineer(&["inspect", &service, "--session", &grant]).succeeded();
    assert!(!inspected.contains(secret) && inspected.contains("HELLO_VERSION"), "{inspected}");
    assert!(!inspected.contains("HELLO_VERSION=1"), "values are not shown: {inspected}");
    // Nor is it in the recording, which holds what left.
    world.host.kedge(&["support", "end", &grant]).succeeded();
    let out = world.host.path("exported");
    world.host.kedge(&["support", "export", &grant, &out.display().to_string()]).succeeded();
    for entry in std::fs::read_dir(out.join(&grant)).unwrap().flatten() {
        assert!(!std::fs::read_to_string(entry.path()).unwrap().contains(secret), "{entry:?}");
    }
}

#[test]
fn test_12_a_changed_audit_log_is_found_by_number() {
    if !engine() {
        return;
    }
    let world = World::new(ASK);
    let (grant, _held) = world.open("logs", &[]);
    world.host.kedge(&["support", "end", &grant]).succeeded();
    let log = world.audit_log().display().to_string();
    let head = world.host.kedge(&["audit", "head", "--log", &log]).succeeded();
    world.host.kedge(&["audit", "verify", "--log", &log, "--head", head.trim()]).succeeded();
    let text = std::fs::read_to_string(&log).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let copy = world.host.path("copy.jsonl");
    let found = |lines: &[&str]| {
        std::fs::write(&copy, lines.iter().map(|line| format!("{line}\n")).collect::<String>()).unwrap();
        let shown = copy.display().to_string();
        world
            .host
            .kedge(&["audit", "verify", "--log", &shown, "--head", head.trim()])
            .failed_with(11, "KE-6420")
    };
    let opened = lines.iter().position(|line| line.contains("\"state\":\"open\"")).unwrap();
    let flipped = lines[opened].replace("\"state\":\"open\"", "\"state\":\"shut\"");
    let mut changed = lines.clone();
    changed[opened] = &flipped;
    assert!(
        found(&changed).contains(&format!("line {}", opened + 2)),
        "the next line does not follow from it"
    );
    let mut missing = lines.clone();
    missing.remove(opened);
    assert!(found(&missing).contains(&format!("line {}", opened + 1)));
    let mut swapped = lines.clone();
    swapped.swap(opened, opened + 1);
    assert!(found(&swapped).contains(&format!("line {}", opened + 1)));
    assert!(found(&lines[..lines.len() - 1]).contains(&format!("line {}", lines.len())));
}

#[test]
fn test_15_a_recording_replays_in_asciinema_and_here() {
    if !engine() {
        return;
    }
    let world = World::new(ASK);
    let (grant, _held) = world.open("shell", &[]);
    let (_shell, said) = world.shell(&grant, "echo recorded-$((6*7))\n");
    said.wait_for(0, |line| line.contains("recorded-42")).unwrap();
    world.host.kedge(&["support", "end", &grant]).succeeded();
    let session = world.session(&grant);
    let names: Vec<&str> =
        session["recordings"].as_array().unwrap().iter().filter_map(|n| n.as_str()).collect();
    let cast = names.iter().find(|name| name.ends_with(".cast")).unwrap();
    let replayed = world.host.kedge(&["support", "replay", &grant, cast, "--speed", "0"]).succeeded();
    assert!(replayed.contains("recorded-42"), "{replayed}");
    let out = world.host.path("exported");
    world.host.kedge(&["support", "export", &grant, &out.display().to_string()]).succeeded();
    let file = out.join(&grant).join(cast);
    let has = |program: &str| Command::new(program).arg("--version").output().is_ok();
    if !has("asciinema") || !has("script") {
        eprintln!("skipped: asciinema, or script, which gives it a terminal, is not installed");
        return;
    }
    let line = format!("asciinema cat {}", file.display());
    let mut command = Command::new("script");
    command.args(["--quiet", "--return", "--command", &line, "/dev/null"]).env("LC_ALL", "C.UTF-8");
    let shown = run(&mut command).succeeded();
    assert!(shown.contains("recorded-42"), "{shown}");
}
