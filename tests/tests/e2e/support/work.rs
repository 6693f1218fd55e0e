//! What an engineer can do in a session, and what not.

use super::engine;
use kedge_tests::rig::support::{ASK, World};

#[test]
fn logs_inspect_run_and_a_bundle_work_and_what_was_not_granted_does_not() {
    if !engine() {
        return;
    }
    let world = World::new(ASK);
    let (grant, _held) = world.open("logs,inspect,bundle,run:id,run:'cat /proc/1/cmdline'", &[]);
    let service = world.service();
    let run = |arguments: &[&str]| world.engineer(&[arguments, &["--session", &grant]].concat());
    let logs = run(&["logs", &world.name]).succeeded();
    assert!(logs.contains("hello-1 | ") && logs.contains("listens on port"), "{logs}");
    let shown: serde_json::Value = serde_json::from_str(&run(&["inspect", &service]).succeeded()).unwrap();
    assert_eq!(shown["state"], "running");
    let id = world.engineer(&["run", &service, "--session", &grant, "--", "id"]).succeeded();
    assert!(id.contains("uid=65527") && !id.contains("uid=0"), "{id}");
    // Its processes are the product's: the first one is the service itself.
    let first =
        world.engineer(&["run", &service, "--session", &grant, "--", "cat", "/proc/1/cmdline"]).succeeded();
    assert!(first.contains("hello"), "{first}");
    for (argv, code) in [(&["id", "-u"][..], "KE-6412"), (&["sh", "-c", "id"], "KE-6412")] {
        let outcome = world.engineer(&[&["run", &service, "--session", &grant, "--"], argv].concat());
        outcome.failed_with(16, code);
    }
    run(&["shell", &service]).failed_with(16, "KE-6412");
    run(&["logs", "another"]).failed_with(16, "KE-6412");
    let bundle = world.host.path("bundle.tar").display().to_string();
    run(&["bundle", "-o", &bundle]).succeeded();
    let listed =
        kedge_tests::rig::outcome::run(std::process::Command::new("tar").args(["-tf", &bundle])).succeeded();
    for piece in
        ["versions.json", "host.json", "audit-head.json", "redactions.txt", "inspect/", "logs/", "plans/"]
    {
        assert!(listed.contains(piece), "{piece}: {listed}");
    }
    world.host.kedge(&["support", "end", &grant]).succeeded();
    assert!(world.containers(&grant).is_empty());
    // The customer can make one without anybody.
    let own = world.host.path("own.tar").display().to_string();
    world.host.kedge(&["support", "bundle", "-f", &own, "--skip", "logs/"]).succeeded();
    let listed =
        kedge_tests::rig::outcome::run(std::process::Command::new("tar").args(["-tf", &own])).succeeded();
    assert!(listed.starts_with("doctor.txt\n") && !listed.contains("logs/"), "{listed}");
}

#[test]
fn what_was_approved_is_narrower_than_what_was_asked_for() {
    if !engine() {
        return;
    }
    let world = World::new(ASK);
    let grant = world.request("logs,shell", &[]);
    world
        .host
        .kedge(&["support", "approve", &grant, "--narrow", "logs,inspect", "--yes"])
        .failed_with(11, "KE-6407");
    world.host.kedge(&["support", "approve", &grant, "--narrow", "logs", "--ttl", "60", "--yes"]).succeeded();
    let held = world.hold(&grant);
    held.log.wait_for(0, |line| line.starts_with("open for") && line.contains("logs on")).unwrap();
    world.engineer(&["logs", &world.name, "--session", &grant]).succeeded();
    world.engineer(&["shell", &world.service(), "--session", &grant]).failed_with(16, "KE-6412");
}

#[test]
fn test_10_a_target_from_which_the_host_is_in_reach_is_refused() {
    if !engine() {
        return;
    }
    let world = World::new(ASK);
    let (grant, _held) = world.open("logs,shell,run:id", &[]);
    let name = &world.name;
    for (service, flags) in [
        ("socket", &["-v", "/var/run/docker.sock:/engine.sock"][..]),
        ("processes", &["--pid", "host"]),
        ("network", &["--network", "host"]),
        ("everything", &["-v", "/:/host:ro"]),
    ] {
        let target = world.put_beside(service, flags, &["sleep", "1000"]);
        let outcome = world.engineer(&["run", &target, "--session", &grant, "--", "id"]);
        outcome.failed_with(16, "KE-6409");
        world.engineer(&["shell", &target, "--session", &grant]).failed_with(16, "KE-6409");
    }
    assert!(world.containers(&grant).is_empty());
    // Its logs are another matter.
    world.engineer(&["logs", &format!("{name}/socket"), "--session", &grant]).succeeded();
}
