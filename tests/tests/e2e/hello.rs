//! The smallest product: what an agent does with releases, and refuses to do.

use std::fs;

use kedge_tests::rig::host::{self, Host};
use kedge_tests::rig::hub::Hub;
use kedge_tests::rig::images;
use kedge_tests::rig::need::{self, Need};
use kedge_tests::rig::vendor::Vendor;

use crate::stack::Stack;

const PRODUCT: &str = "hello";

#[test]
fn it_is_installed_updated_rolled_back_and_removed() {
    if !need::met(&[Need::Engine]) {
        return;
    }
    let (vendor, host) = (Vendor::shared(), Host::start());
    let stack = Stack::new(&host, PRODUCT);
    stack.import(&host, &vendor, &vendor.bundle(PRODUCT, "1.0.0")).succeeded();
    assert_eq!(stack.get(&host, "/").trim(), "Hello from hello 1.0.0");
    stack.post(host.docker(), "/data").succeeded();

    stack.import(&host, &vendor, &vendor.bundle(PRODUCT, "2.0.0")).succeeded();
    assert_eq!(stack.get(&host, "/").trim(), "Hello from hello 2.0.0");

    stack.import(&host, &vendor, &vendor.bundle(PRODUCT, "3.0.0")).failed_with(30, "KE-3006");
    assert_eq!(stack.get(&host, "/").trim(), "Hello from hello 2.0.0");
    assert_eq!(stack.get(&host, "/data").trim(), "1");

    let logs = host.kedge(&["logs", &stack.name]).succeeded();
    assert!(logs.contains("listens on port"), "{logs}");
    let table = host.kedge(&["deployments"]).succeeded();
    assert!(table.contains(&stack.name), "{table}");

    let said = host.kedge(&["remove", &stack.name, "--yes"]).succeeded();
    assert_eq!(host.docker().of_project("container", &stack.name), Vec::<String>::new());
    assert_eq!(host.docker().of_project("network", &stack.name), Vec::<String>::new());
    assert_eq!(host.docker().of_project("volume", &stack.name).len(), 1, "volumes are kept: {said}");
    assert!(stack.status(&host).is_null());
}

#[test]
fn what_was_removed_by_hand_comes_back_and_what_is_not_ours_is_left_alone() {
    if !need::met(&[Need::Engine]) {
        return;
    }
    let (vendor, host) = (Vendor::shared(), Host::start());
    let stack = Stack::new(&host, PRODUCT);
    let bundle = vendor.bundle(PRODUCT, "1.0.0");
    stack.import(&host, &vendor, &bundle).succeeded();
    // A neighbour that somebody else runs, in a project of its own.
    images::ensure_busybox().unwrap();
    let neighbour = host.name("neighbour");
    let label = format!("com.docker.compose.project={neighbour}");
    let image = [images::BUSYBOX, "sleep", "1000"];
    host.docker().run(&[&["run", "--detach", "--init", "--label", &label], &image[..]].concat()).succeeded();
    let before = host.docker().container(&stack.name, PRODUCT);
    host.docker().run(&["rm", "--force", &before]).succeeded();
    host.wait_for(&stack.name, "should lose its container", |_| {
        let now = host.docker().of_project("container", &stack.name);
        now.len() == 1 && now[0] != before
    });
    stack.wait_until_it_runs(&host, "1.0.0");
    assert_eq!(host.docker().of_project("container", &neighbour).len(), 1);
}

#[test]
fn a_host_in_the_dark_goes_on_and_its_reports_arrive_later() {
    if !need::met(&[Need::Engine]) {
        return;
    }
    let vendor = Vendor::shared();
    let (mut hub, host) = (Hub::start(&vendor), Host::start());
    hub.publish(&vendor.bundle(PRODUCT, "1.0.0"));
    hub.enrol(&host, "site-one");
    host.wait_for_offer(PRODUCT);
    let stack = Stack::new(&host, PRODUCT);
    let port = format!("PORT={}", stack.port);
    host.kedge(&["deploy", PRODUCT, "--as", &stack.name, "--set", &port]).succeeded();
    hub.wait_for(&stack.name, "should show 1.0.0", |d| host::runs(d, "1.0.0"));
    hub.kill();
    host.wait_until("should notice", |status| status["tether"]["connected"] != true);
    // Meanwhile somebody comes with a stick.
    stack.import(&host, &vendor, &vendor.bundle(PRODUCT, "2.0.0")).succeeded();
    hub.start_again();
    hub.wait_for(&stack.name, "should show 2.0.0", |d| host::runs(d, "2.0.0"));
}

#[test]
fn a_bundle_with_any_byte_changed_moved_or_missing_is_refused_and_changes_nothing() {
    if !need::met(&[Need::Engine]) {
        return;
    }
    let (vendor, host) = (Vendor::shared(), Host::start());
    let stack = Stack::new(&host, PRODUCT);
    stack.import(&host, &vendor, &vendor.bundle(PRODUCT, "1.0.0")).succeeded();
    let whole = fs::read(vendor.bundle(PRODUCT, "2.0.0")).unwrap();
    let before = (host.docker().of_project("container", &stack.name), stack.status(&host)["active"].clone());
    let tampered = host.path("tampered.kedge");
    for round in 0..30 {
        let at = rand::random_range(0..whole.len() - 1);
        let mut bytes = whole.clone();
        let what = match round % 3 {
            0 => {
                bytes[at] ^= 1 << (round % 8);
                "changed"
            }
            1 => {
                bytes.remove(at);
                "missing"
            }
            _ => {
                let other = (at + 1..whole.len()).find(|i| whole[*i] != whole[at]);
                let Some(other) = other else { continue };
                bytes.swap(at, other);
                "moved"
            }
        };
        fs::write(&tampered, &bytes).unwrap();
        let outcome = stack.import(&host, &vendor, &tampered);
        assert!(matches!(outcome.code, Some(10..=14)), "byte {at} {what}: {outcome:#?}");
        assert!(outcome.stderr.contains("[KE-2"), "byte {at} {what}: {outcome:#?}");
    }
    let after = (host.docker().of_project("container", &stack.name), stack.status(&host)["active"].clone());
    assert_eq!(after, before);
    // And the bundle itself is good.
    stack.import(&host, &vendor, &vendor.bundle(PRODUCT, "2.0.0")).succeeded();
}
