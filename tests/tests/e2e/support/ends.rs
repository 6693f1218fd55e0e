//! How sessions end: always, whatever runs in them, whoever is out of reach.

use std::time::{Duration, Instant};

use kedge_tests::rig::programs;

use super::engine;
use kedge_tests::rig::support::{ASK, World};

/// Processes of this machine whose command line holds a word.
fn processes(word: &str) -> usize {
    let cmdline = |entry: std::fs::DirEntry| std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    entries
        .filter(|entry| entry.file_name().to_string_lossy().bytes().all(|b| b.is_ascii_digit()))
        .map(cmdline)
        .filter(|line| {
            let words: Vec<_> = line.split(|byte| *byte == 0).collect();
            words.first().is_some_and(|first| first.ends_with(b"sleep")) && words.contains(&word.as_bytes())
        })
        .count()
}

#[test]
fn test_05_with_the_wall_clock_set_back_an_hour_it_still_ends_on_time() {
    if !engine() {
        return;
    }
    let folder = kedge_tests::rig::names::scratch("kedge-clock-");
    let clock = folder.path().join("clock");
    std::fs::write(&clock, "0").unwrap();
    let shown = clock.display().to_string();
    let world = World::started(ASK, |host| {
        host.start_program(&programs::path("held-agent"), &[("KEDGE_CLOCK", &shown)])
    });
    let (grant, mut held) = world.open("logs", &["--ttl", "8s"]);
    let opened = Instant::now();
    std::fs::write(&clock, "-3600").unwrap();
    let why = held.wait_until_over();
    assert!(why.contains("its time was up"), "{why}");
    eprintln!("8 s of session took {:.1} s", opened.elapsed().as_secs_f64());
    world.wait_for(&grant, "closed");
    assert_eq!(world.session(&grant)["reason"], "its time was up");
}

#[test]
fn test_06_a_child_that_ignores_signals_is_gone_with_its_session() {
    if !engine() {
        return;
    }
    let world = World::new(ASK);
    let (grant, mut held) = world.open("shell", &["--ttl", "15s"]);
    let opened = Instant::now();
    let number = format!("{}", rand::random_range(10_000_000..90_000_000));
    let stubborn = format!("trap '' HUP TERM INT; sleep {number} & sleep {number} & echo up-$((6*7))\n");
    let (_shell, said) = world.shell(&grant, &stubborn);
    said.wait_for(0, |line| line.contains("up-42")).unwrap();
    // The shell goes on before what it has begun has become what it is to be.
    while processes(&number) < 2 {
        assert!(opened.elapsed() < Duration::from_secs(10), "they do not start");
        std::thread::sleep(Duration::from_millis(20));
    }
    held.wait_until_over();
    world.wait_for(&grant, "closed");
    let took = opened.elapsed();
    eprintln!("15 s of session took {:.1} s with everything in it", took.as_secs_f64());
    assert!(took < Duration::from_secs(15 + 5));
    assert_eq!((processes(&number), world.containers(&grant).len()), (0, 0));
}

#[test]
fn test_07_the_kill_switch_works_with_the_hub_out_of_reach_and_stays_over_a_restart() {
    if !engine() {
        return;
    }
    let mut world = World::new(ASK);
    let (grant, _held) = world.open("shell", &[]);
    let number = format!("{}", rand::random_range(10_000_000..90_000_000));
    let (_shell, said) = world.shell(&grant, &format!("sleep {number} & echo up-$((6*7))\n"));
    said.wait_for(0, |line| line.contains("up-42")).unwrap();
    world.hub.freeze();
    let begun = Instant::now();
    world.host.kedge(&["support", "off"]).succeeded();
    let took = begun.elapsed();
    eprintln!("the kill switch took {:.2} s", took.as_secs_f64());
    assert!(took < Duration::from_secs(1));
    assert_eq!((processes(&number), world.containers(&grant).len()), (0, 0));
    assert_eq!(world.session(&grant)["reason"], "support was switched off");
    world.host.kill_agent();
    world.host.start_agent();
    let listed = world.host.kedge(&["support", "ls", "-o", "json"]).succeeded();
    assert!(listed.contains("\"off\":true"), "{listed}");
    world.hub.thaw();
    world.host.wait_until("should be connected", |status| status["tether"]["connected"] == true);
    world.ask("logs", &[]).failed_with(16, "KE-6401");
    world.host.kedge(&["support", "on"]).succeeded();
    world.request("logs", &[]);
}

#[test]
fn test_08_a_session_whose_tether_is_cut_is_closed() {
    if !engine() {
        return;
    }
    let world = World::new(ASK);
    let (grant, _held) = world.open("shell", &[]);
    let (_shell, said) = world.shell(&grant, "echo up-$((6*7))\n");
    said.wait_for(0, |line| line.contains("up-42")).unwrap();
    // Nothing is refused and nothing answers: the worst way to be cut off.
    world.hub.freeze();
    let begun = Instant::now();
    world.wait_for(&grant, "closed");
    let took = begun.elapsed();
    world.hub.thaw();
    eprintln!("closed {:.1} s after the hub fell silent", took.as_secs_f64());
    // Thirty without a word, and what it takes to notice and to remove what was there.
    assert!(took < Duration::from_secs(32));
    assert_eq!(world.session(&grant)["reason"], "the connection was lost");
    assert!(world.containers(&grant).is_empty());
}

#[test]
fn a_session_ends_when_the_engineer_the_customer_or_its_quota_says_so() {
    if !engine() {
        return;
    }
    let world = World::new(ASK);
    let (one, mut held) = world.open("logs", &[]);
    world.engineer(&["end", &one]).succeeded();
    world.wait_for(&one, "closed");
    assert_eq!(world.session(&one)["reason"], "the engineer ended it");
    drop(held);
    let two;
    (two, held) = world.open("logs", &[]);
    world.host.kedge(&["support", "end", &two]).succeeded();
    assert_eq!(world.session(&two)["state"], "closed");
    assert!(held.wait_until_over().contains("the customer ended it"));
    let three;
    (three, held) = world.open("inspect", &["--max-bytes", "100"]);
    assert_ne!(world.engineer(&["inspect", &world.service(), "--session", &three]).code, Some(0));
    assert!(held.wait_until_over().contains("bytes"));
    world.wait_for(&three, "closed");
}
