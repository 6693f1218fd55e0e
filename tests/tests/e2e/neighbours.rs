//! Kedge is a good citizen: `docker compose` sees its stacks as its own.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use kedge_tests::rig::host::Host;
use kedge_tests::rig::need::{self, Need};
use kedge_tests::rig::outcome::{Outcome, run};
use kedge_tests::rig::vendor::{Recipe, Vendor};

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

#[test]
fn a_stack_that_is_left_to_docker_compose_keeps_what_it_wrote_into_a_folder() {
    if !need::met(&[Need::Engine, Need::Compose]) {
        return;
    }
    let (vendor, mut host) = (Vendor::shared(), Host::start());
    let (product, bundle, left) = (host.path("product"), host.path("folder.kedge"), host.path("left"));
    run(Command::new("cp").arg("-a").arg(vendor.project("hello", "1.0.0")).arg(&product)).succeeded();
    let file = product.join("compose.yaml");
    let text = fs::read_to_string(&file).expect("a compose file");
    fs::write(&file, text.replace("[data:/data]", "['./data:/data']")).expect("a writable folder");
    let recipe = Recipe { product: "hello", version: "1.0.0", seq: 1, flags: &[] };
    vendor.build_from(&product, &recipe, &bundle).succeeded();
    let stack = Stack::new(&host, "hello");
    stack.import(&host, &vendor, &bundle).succeeded();
    // The container's root may write only where everyone may; where the agent is not root, the folder is another's.
    let data = host.state_dir().join("deployments").join(&stack.name).join("binds/data");
    fs::set_permissions(&data, fs::Permissions::from_mode(0o777)).expect("the agent's folder");
    stack.post(host.docker(), "/data").succeeded();
    let before = host.docker().container(&stack.name, "hello");

    let folder = left.display().to_string();
    let said = host.kedge(&["export-compose", &stack.name, "--dir", &folder]);
    assert!(said.stderr.contains("binds/data"), "{said:#?}");
    host.stop_agent();
    let binary = need::compose().expect("it was asked for");
    run(host.docker().command(&binary).current_dir(&left).args(["up", "--detach", "--wait"])).succeeded();
    assert_ne!(host.docker().container(&stack.name, "hello"), before, "it was made anew");
    assert_eq!(stack.get(&host, "/data").trim(), "1");
    compose(&host, &stack, &["down", "--volumes"]).succeeded();
}

fn compose(host: &Host, stack: &Stack, arguments: &[&str]) -> Outcome {
    let binary = need::compose().expect("it was asked for");
    run(host.docker().command(&binary).args(["-p", &stack.name]).args(arguments))
}
