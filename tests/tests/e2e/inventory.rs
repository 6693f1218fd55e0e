//! What a host says that it runs, by digest.

use kedge_tests::rig::host::Host;
use kedge_tests::rig::images;
use kedge_tests::rig::need::{self, Need};
use kedge_tests::rig::vendor::Vendor;
use serde_json::Value;

use crate::stack::Stack;

const PRODUCT: &str = "hello";

fn inventory(host: &Host) -> Value {
    serde_json::from_str(&host.kedge(&["inventory", "-o", "json"]).succeeded()).unwrap()
}

#[test]
fn every_container_is_held_against_what_was_signed_and_what_is_kept_is_told() {
    if !need::met(&[Need::Engine]) {
        return;
    }
    let (vendor, host) = (Vendor::shared(), Host::start());
    let empty = inventory(&host);
    assert_eq!((&empty["deployments"], &empty["stored"]), (&Value::Array(vec![]), &Value::Array(vec![])));
    assert!(host.kedge(&["inventory"]).succeeded().contains("Nothing is deployed"));
    host.kedge(&["inventory", "no-such"]).failed_with(2, "KE-3");

    let stack = Stack::new(&host, PRODUCT);
    for version in ["1.0.0", "2.0.0"] {
        stack.import(&host, &vendor, &vendor.bundle(PRODUCT, version)).succeeded();
    }
    let bundle = vendor.bundle(PRODUCT, "2.0.0").display().to_string();
    let signed = vendor.kedgectl(&["bundle", "inspect", &bundle, "-o", "json"]).succeeded();
    let signed: Value = serde_json::from_str(&signed).unwrap();
    let told = inventory(&host);
    let deployment = &told["deployments"][0];
    assert_eq!(deployment["name"], stack.name);
    assert_eq!(deployment["release"]["digest"], signed["digest"]);
    assert_eq!(deployment["problem"], "");
    let containers = deployment["containers"].as_array().unwrap();
    let container = containers.iter().find(|one| one["state"] == "running").unwrap();
    let image = &signed["content"]["images"][0];
    assert_eq!((&container["image"], &container["manifest"]), (&image["reference"], &image["manifest"]));
    assert_eq!((&container["config"], &container["agrees"]), (&image["config"], &Value::Bool(true)));
    assert_eq!(container["id"], host.docker().container(&stack.name, PRODUCT));
    assert!(container["started_at"].as_str().unwrap().starts_with("20"));
    let stored = told["stored"].as_array().unwrap();
    let of = |version: &str| stored.iter().find(|one| one["release"]["version"] == version).unwrap();
    assert_eq!(of("2.0.0")["active"], serde_json::json!([stack.name]));
    assert_eq!(of("1.0.0")["previous"], serde_json::json!([stack.name]));
    assert!(host.kedge(&["inventory"]).succeeded().contains("can go back to it"));

    // Somebody starts something else in the deployment's name.
    images::ensure_busybox().unwrap();
    let intruder = host.name("intruder");
    let labels = [
        format!("com.docker.compose.project={}", stack.name),
        format!("sh.kedge.deployment={}", stack.name),
        "com.docker.compose.service=hello".to_owned(),
        "com.docker.compose.container-number=9".to_owned(),
    ];
    host.kedge(&["pause", &stack.name]).succeeded();
    let mut arguments = vec!["run", "--detach", "--init", "--name", &intruder];
    arguments.extend(labels.iter().flat_map(|label| ["--label", label.as_str()]));
    arguments.extend([images::BUSYBOX, "sleep", "1000"]);
    host.docker().run(&arguments).succeeded();
    let told = inventory(&host);
    let containers = told["deployments"][0]["containers"].as_array().unwrap();
    let found = containers.iter().find(|one| one["name"] == intruder.as_str()).unwrap();
    assert_eq!(found["agrees"], false);
    assert!(found["why"].as_str().unwrap().starts_with("signed is sha256:"));
    let page = host.kedge(&["inventory"]).succeeded();
    let removed = host.docker().run(&["rm", "--force", &intruder]);
    assert!(page.contains("NO"), "{page}");
    removed.succeeded();
}
