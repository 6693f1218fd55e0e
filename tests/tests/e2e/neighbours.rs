//! Kedge is a good citizen: `docker compose` sees its stacks as its own.

use kedge_tests::rig::host::Host;
use kedge_tests::rig::need::{self, Need};
use kedge_tests::rig::outcome::{Outcome, run};
use kedge_tests::rig::vendor::Vendor;

use crate::stack::Stack;

#[test]
fn docker_compose_ps_logs_and_down_work_on_our_stack() {
    if !need::met(&[Need::Engine, Need::Compose]) {
        return;
    }
    let (vendor, mut host) = (Vendor::shared(), Host::start());
    let stack = Stack::new(&host, "hello");
    stack.import(&host, &vendor, &vendor.bundle("hello", "1.0.0")).succeeded();

    let listed = compose(&host, &stack, &["ps", "--format", "json"]).succeeded();
    assert!(listed.contains("\"Service\":\"hello\"") && listed.contains("\"healthy\""), "{listed}");
    let logs = compose(&host, &stack, &["logs", "--no-color"]).succeeded();
    assert!(logs.contains("listens on port"), "{logs}");
    let stacks = compose(&host, &stack, &["ls", "--format", "json"]).succeeded();
    assert!(stacks.contains(&stack.name), "{stacks}");

    // Without the agent, which would bring it up again.
    host.stop_agent();
    compose(&host, &stack, &["down", "--volumes"]).succeeded();
    for kind in ["container", "network", "volume"] {
        assert_eq!(host.docker().of_project(kind, &stack.name), Vec::<String>::new(), "{kind}s are left");
    }
}

fn compose(host: &Host, stack: &Stack, arguments: &[&str]) -> Outcome {
    let binary = need::compose().expect("it was asked for");
    run(host.docker().command(&binary).args(["-p", &stack.name]).args(arguments))
}
