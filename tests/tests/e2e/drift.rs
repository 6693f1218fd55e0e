//! Whatever somebody does to a container by hand is put right, and told with its reason.

use kedge_tests::rig::host::{self, Host};
use kedge_tests::rig::need::{self, Need};
use kedge_tests::rig::vendor::Vendor;
use serde_json::Value;

use crate::stack::Stack;

const PRODUCT: &str = "hello";

/// What `docker inspect` says of the stack's one container.
fn inspect(host: &Host, stack: &Stack) -> Value {
    let container = host.docker().container(&stack.name, PRODUCT);
    let text = host.docker().run(&["inspect", &container]).succeeded();
    serde_json::from_str::<Value>(&text).expect("JSON")[0].take()
}

/// The status says of the last drift what `expected` says.
fn told(deployment: &Value, expected: &str) -> bool {
    let what = deployment["last_drift"]["what"].as_array().into_iter().flatten();
    what.into_iter().any(|sentence| sentence.as_str().is_some_and(|sentence| sentence.contains(expected)))
}

#[test]
fn every_change_by_hand_is_noticed_put_right_and_told() {
    if !need::met(&[Need::Engine]) {
        return;
    }
    let (vendor, host) = (Vendor::shared(), Host::start());
    let stack = Stack::new(&host, PRODUCT);
    stack.import(&host, &vendor, &vendor.bundle(PRODUCT, "1.0.0")).succeeded();
    let network = format!("{}_default", stack.name);
    let first = inspect(&host, &stack);
    // What is done with the container's ID, and what is told of it.
    let table: [(&[&str], &str); 8] = [
        (&["update", "--memory", "48m", "ID"], "another memory limit"),
        (&["update", "--restart", "no", "ID"], "another restart policy"),
        (&["network", "disconnect", &network, "ID"], "it is not attached as it should be"),
        (&["pause", "ID"], "somebody paused it"),
        (&["kill", "ID"], "somebody stopped it with signal"),
        (&["stop", "ID"], "somebody stopped it"),
        (&["restart", "ID"], "was restarted by somebody"),
        (&["rm", "--force", "ID"], "somebody removed it"),
    ];
    for (deed, expected) in table {
        let id = host.docker().container(&stack.name, PRODUCT);
        let arguments: Vec<&str> =
            deed.iter().map(|word| if *word == "ID" { id.as_str() } else { word }).collect();
        host.docker().run(&arguments).succeeded();
        let seen = host.wait_for(&stack.name, &format!("should tell of {deed:?}"), |d| {
            told(d, expected) && host::runs(d, "1.0.0") && d["last_drift"]["outcome"] != "failed"
        });
        let now = inspect(&host, &stack);
        for field in ["Memory", "NanoCpus", "RestartPolicy"] {
            assert_eq!(
                now["HostConfig"][field], first["HostConfig"][field],
                "{field} after {deed:?}: {seen}"
            );
        }
        assert!(now["NetworkSettings"]["Networks"][&network].is_object(), "{deed:?}: {now}");
        assert_eq!(now["State"]["Status"], "running", "{deed:?}");
        assert_eq!(stack.get(&host, "/").trim(), "Hello from hello 1.0.0");
        let audited = std::fs::read_to_string(host.state_dir().join("audit/log.jsonl")).unwrap_or_default();
        assert!(audited.contains(expected), "{deed:?} is not in the audit log: {audited}");
    }
    let table = host.kedge(&["status", &stack.name]).succeeded();
    // Long lines are wrapped.
    let words = table.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains("drift") && words.contains("somebody removed it"), "{table}");
    // Nothing of it is taken for a crash.
    assert!(stack.status(&host)["services"][0]["crash_loop"].is_null());
}

#[test]
fn a_crash_loop_is_told_as_one_with_what_it_said_last() {
    if !need::met(&[Need::Engine]) {
        return;
    }
    let (vendor, host) = (Vendor::shared(), Host::start());
    let stack = Stack::new(&host, PRODUCT);
    stack.import(&host, &vendor, &vendor.bundle(PRODUCT, "1.0.0")).succeeded();
    for round in 1..=5 {
        // From outside of the engine, as a process that crashes: the engine has no request to tell of.
        let state = inspect(&host, &stack)["State"].take();
        let (pid, started) = (state["Pid"].to_string(), state["StartedAt"].clone());
        let mut kill = std::process::Command::new("kill");
        assert!(kill.args(["-9", &pid]).status().expect("kill runs").success(), "round {round}");
        host.wait_for(&stack.name, &format!("should be started again, round {round}"), |d| {
            let now = inspect(&host, &stack)["State"].take();
            now["Running"] == true && now["StartedAt"] != started && !d.is_null()
        });
    }
    let seen = host.wait_for(&stack.name, "should be in a crash loop", |d| {
        d["services"][0]["crash_loop"]["count"].as_u64() >= Some(5)
    });
    let crash = &seen["services"][0]["crash_loop"];
    assert_eq!(crash["exit_code"], 137, "{crash}");
    assert!(crash["output"].to_string().contains("listens on port"), "{crash}");
    let table = host.kedge(&["status", &stack.name]).succeeded();
    assert!(table.contains("hello keeps ending: 5 times"), "{table}");
}
