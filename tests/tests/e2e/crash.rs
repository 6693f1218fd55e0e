//! `kill -9` of the agent right after each phase was written down and before its effect began, with the three-tier
//! stack, and somebody who writes rows all the time.

use std::fs;
use std::path::{Path, PathBuf};

use kedge_tests::rig::host::{self, Host};
use kedge_tests::rig::hub::Hub;
use kedge_tests::rig::need::{self, Need};
use kedge_tests::rig::vendor::{Recipe, Vendor};

use crate::stack::Customer;
use crate::three_tier::install_over_tether;

/// The phases of an update that succeeds.
const PHASES: [&str; 9] = [
    "offered",
    "fetching",
    "verified",
    "preflight",
    "awaiting_approval",
    "awaiting_window",
    "snapshotting",
    "applying",
    "gating",
];

/// Each phase gets an update of its own. All go through one life of one stack, so that whatever one crash left behind
/// would meet the next.
#[test]
fn an_agent_killed_at_any_phase_goes_on_from_there() {
    if !need::met(&[Need::Engine]) {
        return;
    }
    let vendor = Vendor::shared();
    let hub = Hub::start(&vendor);
    let mut host = Host::start();
    let stack = install_over_tether(&hub, &vendor, &host);
    let customer = Customer::of(&stack, host.docker());

    for (number, phase) in (10..).zip(PHASES) {
        let version = format!("1.0.{number}");
        let bundle = quick_release(&vendor, &host, &version, number);
        kill_at(&mut host, &hub, phase, &bundle);
        host.start_agent();
        stack.wait_until_it_runs(&host, &version);
        eprintln!("after a kill at {phase}");
        stack.wait_for_answer(&host, &format!("three-tier {version}"));
    }
    let healthy = format!("1.0.{}", 9 + PHASES.len());

    // And a broken one, killed on its way back.
    let broken = host.path("broken.kedge");
    vendor.build(&Recipe { product: "three-tier", version: "3.0.0", seq: 50, flags: &[] }, &broken);
    kill_at(&mut host, &hub, "rolling_back", &broken);
    host.start_agent();
    host.wait_for(&stack.name, "should be back", |d| {
        host::runs(d, &healthy) && d["last_problem"]["code"] == "KE-3006"
    });
    stack.wait_for_answer(&host, &format!("three-tier {healthy}"));
    customer.finds_every_row(&host, &stack);

    // Last, its removal.
    host.stop_agent();
    host.start_program(&kedge_tests::rig::programs::path("held-agent"), &[("KEDGE_HOLD_AT", "removing")]);
    let after = host.log().count();
    let mut removal = host.kedge_command();
    let removal = removal.args(["remove", &stack.name, "--yes"]).spawn();
    let mut removal = removal.expect("kedge starts");
    host.log().wait_for(after, |line| line == "held at removing").unwrap();
    host.kill_agent();
    let _ = removal.wait();
    host.start_agent();
    host.wait_until("the deployment should be gone", |status| {
        host::deployment(status, &stack.name).is_null()
    });
    assert_eq!(host.docker().of_project("container", &stack.name), Vec::<String>::new());
    assert!(!host.docker().of_project("volume", &stack.name).is_empty(), "volumes are kept");
}

/// Publishes a release, and kills the agent when it has written down that it is at this phase.
fn kill_at(host: &mut Host, hub: &Hub, phase: &str, bundle: &Path) {
    host.stop_agent();
    host.start_program(&kedge_tests::rig::programs::path("held-agent"), &[("KEDGE_HOLD_AT", phase)]);
    let after = host.log().count();
    hub.publish(bundle);
    let line = format!("held at {phase}");
    host.log().wait_for(after, |l| l == line).unwrap_or_else(|why| panic!("never at {phase}: {why}"));
    host.kill_agent();
}

/// A release of the stack that does not have to prove itself for long.
fn quick_release(vendor: &Vendor, host: &Host, version: &str, seq: u64) -> PathBuf {
    let project = host.path(&format!("project-{version}"));
    let source = vendor.project("three-tier", version);
    kedge_tests::rig::outcome::run(std::process::Command::new("cp").arg("-a").arg(source).arg(&project))
        .succeeded();
    let compose = project.join("compose.yaml");
    let text = fs::read_to_string(&compose).unwrap();
    assert!(text.contains("soak: 10s"), "the example's gate has changed");
    fs::write(&compose, text.replace("soak: 10s", "soak: 0s")).unwrap();
    let bundle = host.path(&format!("{version}.kedge"));
    let recipe = Recipe { product: "three-tier", version, seq, flags: &[] };
    vendor.build_from(&project, &recipe, &bundle).succeeded();
    bundle
}
