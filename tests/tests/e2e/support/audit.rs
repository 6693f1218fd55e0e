//! Heads of the audit log, held by the hub.

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::engine;
use kedge_tests::rig::support::{ASK, World};

/// The newest head that the hub holds of the host.
fn head(world: &World) -> Value {
    let shown = world.hub.kedgectl(&["fleet", "show", &world.host_id, "-o", "json"]).succeeded();
    let host: Value = serde_json::from_str(&shown).unwrap();
    host["status"]["audit_heads"].as_array().and_then(|heads| heads.last().cloned()).unwrap_or_default()
}

#[test]
fn a_log_that_was_rewritten_whole_contradicts_the_head_that_the_hub_holds() {
    if !engine() {
        return;
    }
    let world = World::new(ASK);
    let (grant, _held) = world.open("logs", &[]);
    world.host.kedge(&["support", "end", &grant]).succeeded();
    // The end of a session is told at once.
    let closed = world.audit().iter().rposition(|event| event["state"] == "closed").unwrap() as u64 + 1;
    world.hub.wait_for(&world.name, "should have told the head", |_| {
        head(&world)["seq"].as_u64().is_some_and(|seq| seq >= closed)
    });
    let held = head(&world);
    let held = format!("{}:{}", held["seq"], held["sha256"].as_str().unwrap());
    let shown = world.hub.kedgectl(&["fleet", "show", &world.host_id]).succeeded();
    assert!(shown.contains(&held) && !shown.contains("REWRITTEN"), "{shown}");
    let log = world.audit_log().display().to_string();
    world.host.kedge(&["audit", "verify", "--log", &log, "--head", &held]).succeeded();

    // Root on the host writes all of it anew, without the engineer's name: each line follows from the one before.
    let text = std::fs::read_to_string(&log).unwrap().replace("\"ada\"", "\"eve\"");
    let (mut prev, mut anew) = (String::new(), String::new());
    for line in text.lines() {
        let old: Value = serde_json::from_str(line).unwrap();
        let line = line.replace(&format!("\"prev\":{}", old["prev"]), &format!("\"prev\":\"{prev}\""));
        prev = Sha256::digest(&line).iter().map(|byte| format!("{byte:02x}")).collect();
        anew.push_str(&line);
        anew.push('\n');
    }
    let copy = world.host.path("anew.jsonl").display().to_string();
    std::fs::write(&copy, anew).unwrap();
    world.host.kedge(&["audit", "verify", "--log", &copy]).succeeded();
    let found = world.host.kedge(&["audit", "verify", "--log", &copy, "--head", &held]);
    assert!(found.failed_with(11, "KE-6420").contains("not the line that it was"));
}
