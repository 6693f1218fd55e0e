//! What the person in charge of a host asks before and while something changes: diff, pause, resume.

use std::path::Path;

use kedge_tests::rig::host::Host;
use kedge_tests::rig::need::{self, Need};
use kedge_tests::rig::outcome::Outcome;
use kedge_tests::rig::vendor::Vendor;
use serde_json::Value;

use crate::stack::Stack;

const PRODUCT: &str = "hello";

/// `kedge diff` of the stack, against a bundle where one is given.
fn diff(host: &Host, stack: &Stack, bundle: Option<&Path>, flags: &[&str]) -> Outcome {
    let path = bundle.map(|bundle| bundle.display().to_string());
    let mut arguments = vec!["diff", &stack.name];
    arguments.extend(path.iter().flat_map(|path| ["--bundle", path]));
    host.kedge(&[&arguments, flags].concat())
}

fn json(outcome: &Outcome) -> Value {
    serde_json::from_str(&outcome.stdout).unwrap_or_else(|e| panic!("{e}: {outcome:#?}"))
}

#[test]
fn a_diff_tells_of_an_update_and_of_a_change_by_hand_and_changes_nothing() {
    if !need::met(&[Need::Engine]) {
        return;
    }
    let (vendor, host) = (Vendor::shared(), Host::start());
    let stack = Stack::new(&host, PRODUCT);
    stack.import(&host, &vendor, &vendor.bundle(PRODUCT, "1.0.0")).succeeded();
    let said = diff(&host, &stack, None, &[]).succeeded();
    assert!(said.contains("nothing to do"), "{said}");

    let (newer, before) = (vendor.bundle(PRODUCT, "2.0.0"), host.docker().container(&stack.name, PRODUCT));
    let page = diff(&host, &stack, Some(&newer), &[]);
    assert_eq!(page.code, Some(3), "{page:#?}");
    for part in [
        "1.0.0 (#1) → 2.0.0 (#2)",
        "~ recreate hello",
        "environment HELLO_VERSION  1.0.0 → 2.0.0",
        "downtime",
    ] {
        assert!(page.stdout.contains(part), "{part}: {}", page.stdout);
    }
    let shown = json(&diff(&host, &stack, Some(&newer), &["-o", "json"]));
    assert_eq!(
        (&shown["changes"], &shown["services"][0]["action"]),
        (&true.into(), &"recreate".into()),
        "{shown}"
    );
    assert_eq!(shown["to"]["version"], "2.0.0", "{shown}");
    // A dry run of the import shows the same.
    let bundle = newer.display().to_string();
    let dry = host.kedge(&["import", &bundle, "--deployment", &stack.name, "--dry-run"]).succeeded();
    assert!(dry.contains("environment HELLO_VERSION  1.0.0 → 2.0.0"), "{dry}");
    assert_eq!(host.docker().container(&stack.name, PRODUCT), before);
    assert_eq!(stack.status(&host)["active"]["version"], "1.0.0");

    let missing = host.kedge(&["diff", "no-such-deployment"]);
    missing.failed_with(2, "KE-3009");
}

#[test]
fn a_paused_deployment_is_left_alone_across_a_restart_of_the_agent_and_put_right_when_resumed() {
    if !need::met(&[Need::Engine]) {
        return;
    }
    let (vendor, mut host) = (Vendor::shared(), Host::start());
    let stack = Stack::new(&host, PRODUCT);
    stack.import(&host, &vendor, &vendor.bundle(PRODUCT, "1.0.0")).succeeded();
    let said = host.kedge(&["pause", &stack.name, "--reason", "restoring, ticket 4711"]).succeeded();
    assert!(said.contains("paused"), "{said}");
    let container = host.docker().container(&stack.name, PRODUCT);
    host.docker().run(&["rm", "--force", &container]).succeeded();
    let seen = host.wait_for(&stack.name, "should be seen down", |d| d["health"] == "stopped");
    assert_eq!((&seen["paused"], &seen["pause"]["reason"]), (&true.into(), &"restoring, ticket 4711".into()));
    assert!(!seen["pause"]["by"].as_str().unwrap_or_default().is_empty(), "{seen}");
    let shown = diff(&host, &stack, None, &[]);
    assert!(shown.code == Some(3) && shown.stdout.contains("+ create hello"), "{shown:#?}");

    host.kill_agent();
    host.start_agent();
    host.wait_for(&stack.name, "should still be paused", |d| d["paused"] == true && d["health"] == "stopped");
    let table = host.kedge(&["status", &stack.name]).succeeded();
    assert!(table.contains("PAUSED") && table.contains("ticket 4711"), "{table}");
    // A release waits meanwhile, and says for what.
    let bundle = vendor.bundle(PRODUCT, "2.0.0").display().to_string();
    host.kedge(&["import", &bundle, "--deployment", &stack.name, "--detach"]).succeeded();
    host.wait_for(&stack.name, "should wait", |d| {
        d["operation"]["step"].as_str().is_some_and(|step| step.contains("ticket 4711"))
    });
    assert_eq!(host.docker().of_project("container", &stack.name), Vec::<String>::new());

    host.kedge(&["resume", &stack.name]).succeeded();
    let now = stack.wait_until_it_runs(&host, "2.0.0");
    assert_eq!(now["paused"], false, "{now}");
}
