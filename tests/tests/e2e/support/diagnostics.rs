//! Diagnostics bundles, with what the product has gathered itself and with the tools that it brings.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::{Duration, Instant};

use super::consent::give_secret;
use super::engine;
use kedge_tests::rig::outcome::run;
use kedge_tests::rig::process::Guarded;
use kedge_tests::rig::support::{ASK, World};

const SECRET: &str = "hunter2-swordfish";

/// What the product declares: of every kind one, and what goes wrong.
const SECTION: &str = "  tools: rig/busybox:1
  diagnostics:
    greeting: {service: hello, http: 8080/}
    closed: {service: hello, http: 9/}
    count: {service: hello, file: /data/count}
    nowhere: {service: hello, file: /data/nowhere}
    folder: {service: hello, file: /data}
    words: {service: hello, command: [echo, '*', 'a b']}
    leak: {service: hello, command: [echo, hunter2-swordfish]}
    bad: {service: hello, command: [sh, -c, 'echo so far; exit 3']}
    slow: {service: hello, command: [sh, -c, 'echo begun; sleep 1000'], timeout: 1s}
    much: {service: hello, command: [sh, -c, 'seq 1 100000'], max_bytes: 1000}";

/// The files of a tar.
fn unpacked(world: &World, tar: &std::path::Path) -> BTreeMap<String, String> {
    let folder = world.host.path(&format!("unpacked-{}", rand::random::<u32>()));
    std::fs::create_dir(&folder).unwrap();
    run(Command::new("tar").arg("-xf").arg(tar).arg("-C").arg(&folder)).succeeded();
    let names = run(Command::new("tar").arg("-tf").arg(tar)).succeeded();
    names
        .lines()
        .map(|name| {
            (
                name.to_owned(),
                String::from_utf8_lossy(&std::fs::read(folder.join(name)).unwrap()).into_owned(),
            )
        })
        .collect()
}

#[test]
fn the_customers_own_bundle_holds_what_the_product_gathers_bounded_and_blacked_out() {
    if !engine() {
        return;
    }
    // Nobody may come in, and the customer can make a file all the same.
    let world = World::of_product("mode = 'deny'", SECTION);
    give_secret(&world, SECRET);
    let status = world.host.kedge(&["status", "-o", "json"]).succeeded();
    let port = status.split("127.0.0.1:").nth(1).and_then(|rest| rest.split("->").next()).unwrap();
    run(Command::new("curl").args(["--silent", "-X", "POST", &format!("http://127.0.0.1:{port}/data")]))
        .succeeded();
    let preview = world
        .host
        .kedge(&["support", "bundle", "--preview", "--only", "doctor.txt,versions.json"])
        .succeeded();
    assert!(preview.contains("doctor.txt") && !preview.contains("logs/"), "{preview}");
    let file = world.host.path("own.tar");
    let begun = Instant::now();
    world.host.kedge(&["support", "bundle", "-f", &file.display().to_string(), "--yes"]).succeeded();
    assert!(begun.elapsed() < Duration::from_secs(90));
    let pieces = unpacked(&world, &file);
    let first = run(Command::new("tar").arg("-tf").arg(&file)).succeeded();
    assert!(first.starts_with("doctor.txt\n"), "{first}");
    let collected = |name: &str| &pieces[&format!("collectors/{:.40}/{name}.txt", world.name)];
    assert!(collected("greeting").contains("Hello"), "{pieces:#?}");
    assert!(collected("closed").contains("[it ended with code 1]"), "{}", collected("closed"));
    assert_eq!(collected("count"), "1\n");
    assert!(collected("nowhere").starts_with("not to be had"), "{}", collected("nowhere"));
    assert!(collected("folder").contains("it is a folder"), "{}", collected("folder"));
    assert_eq!(collected("words"), "* a b\n", "no shell comes between");
    assert_eq!(collected("leak"), "[redacted]\n");
    assert_eq!(collected("bad"), "so far\n[it ended with code 3]\n");
    assert_eq!(collected("slow"), "begun\n[it was ended after 1 s]\n");
    let much = collected("much");
    assert!(much.len() < 1100 && much.starts_with("[the beginning") && much.ends_with("100000\n"), "{much}");
    let report = &pieces["redactions.txt"];
    assert!(
        report.contains(&format!("leak.txt: {} bytes, 1 times, in line 1\n", "[redacted]\n".len())),
        "{report}"
    );
    assert!(pieces.values().all(|text| !text.contains(SECRET)));
    for piece in ["versions.json", "host.json", "events.jsonl", "history.jsonl", "audit-head.json"] {
        assert!(pieces.contains_key(piece), "{piece}: {:?}", pieces.keys());
    }
    // Digests are no secrets, and a head without its digest would be worth nothing.
    let head: serde_json::Value = serde_json::from_str(&pieces["audit-head.json"]).unwrap();
    assert_eq!(head["sha256"].as_str().unwrap().len(), 64);
    assert_eq!(world.left(), "");
}

#[test]
fn in_a_session_collectors_run_only_where_the_customer_says_so_and_commands_in_the_products_own_tools() {
    if !engine() {
        return;
    }
    let bundle = |world: &World, grant: &str| {
        let file = world.host.path("session.tar");
        let shown = file.display().to_string();
        world.engineer(&["bundle", "-o", &shown, "--session", grant]).succeeded();
        unpacked(world, &file)
    };
    let world = World::of_product(ASK, SECTION);
    let (grant, _held) = world.open("bundle,run:id", &[]);
    let pieces = bundle(&world, &grant);
    assert!(
        pieces.contains_key("doctor.txt") && pieces.contains_key("redactions.txt"),
        "{:?}",
        pieces.keys()
    );
    assert!(!pieces.keys().any(|name| name.starts_with("collectors/")), "{:?}", pieces.keys());
    let service = world.service();
    let id = world.engineer(&["run", &service, "--session", &grant, "--", "id"]).succeeded();
    assert!(id.contains("uid=65527"), "{id}");
    // What it ran in is what was signed, under the name that keeps it.
    let names = world.host.docker().run(&["image", "ls", "--format", "{{.Repository}}"]).succeeded();
    assert!(names.lines().any(|name| name == "kedge.local/busybox"), "{names}");

    let world = World::of_product(&format!("{ASK}\nbundle_skip = ['logs/']"), SECTION);
    give_secret(&world, SECRET);
    let (grant, _held) = world.open("bundle", &[]);
    let pieces = bundle(&world, &grant);
    assert!(pieces.keys().any(|name| name.ends_with("greeting.txt")), "{:?}", pieces.keys());
    assert!(!pieces.keys().any(|name| name.starts_with("logs/")), "{:?}", pieces.keys());
    assert!(pieces.values().all(|text| !text.contains(SECRET)));
    assert_eq!(world.left(), "");
}

#[test]
fn what_gathers_for_a_session_is_gone_with_it_when_the_customer_denies_it_late() {
    if !engine() {
        return;
    }
    let section = "  tools: rig/busybox:1
  diagnostics:
    slow: {service: hello, command: [sleep, '1000'], timeout: 60s}";
    let world = World::of_product(&format!("{ASK}\nbundle_skip = ['logs/']"), section);
    let (grant, mut held) = world.open("bundle", &[]);
    let file = world.host.path("session.tar").display().to_string();
    let mut command = world.engineer_command();
    let _bundle = Guarded::spawn(command.args(["bundle", "-o", &file, "--session", &grant])).unwrap();
    let begun = Instant::now();
    while world.containers(&grant).is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(30), "nothing is gathered for it");
        std::thread::sleep(Duration::from_millis(20));
    }
    world.host.kedge(&["support", "deny", &grant]).succeeded();
    assert_eq!((world.containers(&grant).len(), world.left().as_str()), (0, ""));
    assert!(held.wait_until_over().contains("the customer ended it"));
    let session = world.session(&grant);
    assert_eq!((&session["state"], &session["reason"]), (&"closed".into(), &"the customer ended it".into()));
}
