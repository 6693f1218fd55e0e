//! nginx, an API, PostgreSQL and Redis, each the real one, while somebody writes rows all the time: whatever happens to
//! the stack, no row that was acknowledged is lost.

use kedge_tests::rig::docker::Docker;
use kedge_tests::rig::host::{self, Host};
use kedge_tests::rig::hub::Hub;
use kedge_tests::rig::images;
use kedge_tests::rig::need::{self, Need};
use kedge_tests::rig::own_engine::{Make, OwnEngine};
use kedge_tests::rig::vendor::Vendor;

use crate::stack::{Customer, Stack};

const PRODUCT: &str = "three-tier";

#[test]
fn it_is_installed_from_a_file() {
    if !need::met(&[Need::Engine]) {
        return;
    }
    let (vendor, host) = (Vendor::shared(), Host::start());
    let stack = Stack::new(&host, PRODUCT);
    stack.import(&host, &vendor, &vendor.bundle(PRODUCT, "1.0.0")).succeeded();
    assert!(host::runs(&stack.status(&host), "1.0.0"), "{}", stack.status(&host));
    assert_eq!(stack.get(&host, "/").trim(), "three-tier 1.0.0");
    let customer = Customer::of(&stack, host.docker());
    // The same again is nothing new: the same containers, untouched.
    let before = host.docker().of_project("container", &stack.name);
    stack.import(&host, &vendor, &vendor.bundle(PRODUCT, "1.0.0")).succeeded();
    assert_eq!(host.docker().of_project("container", &stack.name), before);
    customer.finds_every_row(&host, &stack);
}

#[test]
fn it_is_installed_and_updated_over_the_tether() {
    if !need::met(&[Need::Engine]) {
        return;
    }
    let vendor = Vendor::shared();
    let hub = Hub::start(&vendor);
    let host = Host::start();
    let stack = install_over_tether(&hub, &vendor, &host);
    let customer = Customer::of(&stack, host.docker());
    hub.publish(&vendor.bundle(PRODUCT, "2.0.0"));
    stack.wait_until_it_runs(&host, "2.0.0");
    stack.wait_for_answer(&host, "three-tier 2.0.0");
    // The vendor sees it, too.
    hub.wait_for(&stack.name, "should show 2.0.0", |d| host::runs(d, "2.0.0"));
    customer.finds_every_row(&host, &stack);
}

#[test]
fn an_update_that_does_not_get_healthy_undoes_itself() {
    if !need::met(&[Need::Engine]) {
        return;
    }
    let (vendor, host) = (Vendor::shared(), Host::start());
    let stack = Stack::new(&host, PRODUCT);
    stack.import(&host, &vendor, &vendor.bundle(PRODUCT, "2.0.0")).succeeded();
    let database = host.docker().container(&stack.name, "postgres");
    let customer = Customer::of(&stack, host.docker());
    let said = stack.import(&host, &vendor, &vendor.bundle(PRODUCT, "3.0.0")).failed_with(30, "KE-3006");
    assert!(said.contains("api"), "it should name the service that is not healthy: {said}");
    let status = stack.wait_until_it_runs(&host, "2.0.0");
    assert_eq!(status["last_problem"]["code"], "KE-3006", "{status}");
    stack.wait_for_answer(&host, "three-tier 2.0.0");
    // What neither release changed was never touched.
    assert_eq!(host.docker().container(&stack.name, "postgres"), database);
    customer.finds_every_row(&host, &stack);
}

#[test]
fn it_outlives_a_restart_of_the_agent() {
    if !need::met(&[Need::Engine]) {
        return;
    }
    let (vendor, mut host) = (Vendor::shared(), Host::start());
    let stack = Stack::new(&host, PRODUCT);
    stack.import(&host, &vendor, &vendor.bundle(PRODUCT, "1.0.0")).succeeded();
    let customer = Customer::of(&stack, host.docker());
    let before = host.docker().of_project("container", &stack.name);
    host.stop_agent();
    host.start_agent();
    stack.wait_until_it_runs(&host, "1.0.0");
    assert_eq!(host.docker().of_project("container", &stack.name), before);
    // While nobody watched, a container went away.
    host.kill_agent();
    let api = host.docker().container(&stack.name, "api");
    host.docker().run(&["rm", "--force", &api]).succeeded();
    host.start_agent();
    stack.wait_until_it_runs(&host, "1.0.0");
    assert_eq!(stack.get(&host, "/").trim(), "three-tier 1.0.0");
    customer.finds_every_row(&host, &stack);
}

#[test]
fn it_outlives_a_restart_of_the_engine() {
    if !need::met(&[Need::Engine, Need::OwnEngine]) {
        return;
    }
    let vendor = Vendor::shared();
    let bundle = vendor.bundle(PRODUCT, "1.0.0");
    let mut engine = OwnEngine::start(Make::Machine);
    let host = Host::start_on(engine.docker(), "");
    let stack = Stack::new(&host, PRODUCT);
    stack.import(&host, &vendor, &bundle).succeeded();
    let customer = Customer::of(&stack, host.docker());
    engine.stop().unwrap();
    host.wait_for(&stack.name, "should be unknown without an engine", |d| d["health"] == "unknown");
    engine.start_again();
    stack.wait_until_it_runs(&host, "1.0.0");
    let rows = customer.rows();
    stack.post(host.docker(), "/rows?value=after").succeeded();
    assert!(rows > 0);
    customer.finds_every_row(&host, &stack);
}

#[test]
fn it_is_installed_and_updated_on_a_newer_engine() {
    on_newer(Make::Newer);
}

#[test]
fn it_is_installed_and_updated_on_a_newer_engine_with_containerds_image_store() {
    on_newer(Make::NewerContainerd);
}

/// From files, without a network: what runs is what was signed, also where images have other IDs.
fn on_newer(make: Make) {
    if !need::met(&[Need::Engine, Need::NewerEngine]) {
        return;
    }
    let (vendor, engine) = (Vendor::shared(), OwnEngine::start(make));
    let host = Host::start_on(engine.docker(), "");
    let stack = Stack::new(&host, PRODUCT);
    stack.import(&host, &vendor, &vendor.bundle(PRODUCT, "1.0.0")).succeeded();
    assert!(host::runs(&stack.status(&host), "1.0.0"), "{}", stack.status(&host));
    let customer = Customer::of(&stack, host.docker());
    let before = host.docker().of_project("container", &stack.name);
    stack.import(&host, &vendor, &vendor.bundle(PRODUCT, "1.0.0")).succeeded();
    assert_eq!(host.docker().of_project("container", &stack.name), before, "the same again is nothing new");
    // A container that dies is noticed by the engine's events.
    let api = host.docker().container(&stack.name, "api");
    host.docker().run(&["kill", &api]).succeeded();
    stack.wait_until_it_runs(&host, "1.0.0");
    stack.import(&host, &vendor, &vendor.bundle(PRODUCT, "2.0.0")).succeeded();
    stack.wait_for_answer(&host, "three-tier 2.0.0");
    stack.import(&host, &vendor, &vendor.bundle(PRODUCT, "3.0.0")).failed_with(30, "KE-3006");
    stack.wait_until_it_runs(&host, "2.0.0");
    customer.finds_every_row(&host, &stack);
}

/// Enrols the host, and deploys version 1.0.0 from the hub.
pub(crate) fn install_over_tether(hub: &Hub, vendor: &Vendor, host: &Host) -> Stack {
    images::ensure_three_tier().unwrap();
    hub.publish(&vendor.bundle(PRODUCT, "1.0.0"));
    hub.enrol(host, "site-one");
    let stack = Stack::new(host, PRODUCT);
    let port = format!("PORT={}", stack.port);
    host.wait_for_offer(PRODUCT);
    host.kedge(&["deploy", PRODUCT, "--as", &stack.name, "--set", &port]).succeeded();
    stack.wait_until_it_runs(host, "1.0.0");
    stack
}

#[test]
fn the_engine_of_these_tests_answers() {
    // A wrong DOCKER_HOST would make every other test here skip.
    if need::met(&[Need::Engine]) {
        Docker::of_this_machine().run(&["version"]).succeeded();
    }
}
