//! Tools that know nothing of Kedge on our bundles: as files, and in a registry.

use std::path::Path;
use std::process::Command;

use kedge_tests::rig::docker::Docker;
use kedge_tests::rig::need::{self, Need};
use kedge_tests::rig::outcome::{Outcome, run};
use kedge_tests::rig::registry::Registry;
use serde_json::Value;

use crate::registry::Shop;

fn skopeo(arguments: &[&str]) -> Outcome {
    run(Command::new("skopeo").args(arguments))
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

#[test]
fn skopeo_reads_a_bundle_as_an_archive_of_either_kind_and_copies_it_anywhere() {
    if !need::met(&[Need::Skopeo, Need::Registry]) {
        return;
    }
    let (shop, registry) = (Shop::new(), Registry::start());
    let bundle = text(&shop.bundle(1));
    let inspected = shop.vendor.kedgectl(&["bundle", "inspect", &bundle, "-o", "json"]).succeeded();
    let inspected: Value = serde_json::from_str(&inspected).unwrap();
    let image = &inspected["content"]["images"][1];
    assert_eq!(image["reference"], "shop/page:1");

    let oci = format!("oci-archive:{bundle}:shop/page:1");
    let seen: Value = serde_json::from_str(&skopeo(&["inspect", &oci]).succeeded()).unwrap();
    assert_eq!((&seen["Digest"], &seen["Layers"][0]), (&image["manifest"], &image["layers"][0]["digest"]));
    let folder = |name: &str| format!("dir:{}", text(&shop.path(name)));
    skopeo(&["copy", &oci, &folder("oci")]).succeeded();
    let manifest = std::fs::read(shop.path("oci/manifest.json")).unwrap();
    let seen: Value = serde_json::from_slice(&manifest).unwrap();
    assert_eq!(seen["config"]["digest"], image["config"]);
    skopeo(&["copy", &format!("docker-archive:{bundle}:shop/page:1"), &folder("docker")]).succeeded();
    let manifest: Value =
        serde_json::from_slice(&std::fs::read(shop.path("docker/manifest.json")).unwrap()).unwrap();
    assert_eq!(manifest["config"]["digest"], image["config"]);
    let to = registry.at("copied/page:1");
    skopeo(&["copy", "--dest-tls-verify=false", &oci, &format!("docker://{to}")]).succeeded();
    assert_eq!(registry.manifest("copied/page", "1")["config"]["digest"], image["config"]);
}

#[test]
fn a_pushed_bundle_is_plain_oci_for_whoever_asks_the_registry() {
    if !need::met(&[Need::Registry]) {
        return;
    }
    let (shop, registry) = (Shop::new(), Registry::start());
    let pushed = shop.push(&shop.bundle(1), &registry.at("shop:1.0.0"));
    let index = registry.manifest("shop", "1.0.0");
    assert_eq!(index["mediaType"], "application/vnd.oci.image.index.v1+json");
    assert_eq!(index["artifactType"], "application/vnd.kedge.bundle.v1+json");
    assert_eq!(index["annotations"]["org.opencontainers.image.version"], "1.0.0");
    assert_eq!(registry.manifest("shop", pushed["digest"].as_str().unwrap()), index, "by digest as by tag");
    // Down from the tag, as tools walk: every manifest and every blob is there, with the size that is listed.
    let mut kinds = Vec::new();
    for child in index["manifests"].as_array().unwrap() {
        let manifest = registry.manifest("shop", child["digest"].as_str().unwrap());
        assert_eq!(manifest["mediaType"], child["mediaType"]);
        assert_eq!(manifest["artifactType"], child["artifactType"]);
        kinds.push(child["artifactType"].as_str().unwrap_or("image").to_owned());
        for blob in manifest["layers"].as_array().unwrap().iter().chain([&manifest["config"]]) {
            let path = format!("/v2/shop/blobs/{}", blob["digest"].as_str().unwrap());
            let head = registry.curl("HEAD", &path, &["--head"]).succeeded().to_lowercase();
            assert!(head.contains(&format!("content-length: {}\r\n", blob["size"])), "{path}: {head}");
        }
        if child["artifactType"] == "application/vnd.kedge.documents.v1+json" {
            assert_eq!(manifest["config"]["mediaType"], "application/vnd.oci.empty.v1+json");
            let release = manifest["layers"].as_array().unwrap().last().unwrap();
            let path = format!("/v2/shop/blobs/{}", release["digest"].as_str().unwrap());
            let envelope: Value =
                serde_json::from_str(&registry.curl("GET", &path, &[]).succeeded()).unwrap();
            assert!(envelope["payload"].is_string() && envelope["signatures"].is_array());
        }
    }
    let wanted = [
        "image",
        "image",
        "application/vnd.kedge.product.v1+json",
        "application/vnd.kedge.documents.v1+json",
    ];
    assert_eq!(kinds, wanted);
    let tags = registry.curl("GET", "/v2/shop/tags/list", &[]).succeeded();
    assert_eq!(serde_json::from_str::<Value>(&tags).unwrap()["tags"], serde_json::json!(["1.0.0"]));
}

#[test]
fn an_image_of_a_pushed_bundle_can_be_pulled_by_docker() {
    if !need::met(&[Need::Registry, Need::Engine]) {
        return;
    }
    let (shop, registry, docker) = (Shop::new(), Registry::start(), Docker::of_this_machine());
    let bundle = shop.bundle(1);
    let pushed = shop.push(&bundle, &registry.at("shop:1.0.0"));
    let inspected = shop.vendor.kedgectl(&["bundle", "inspect", &text(&bundle), "-o", "json"]).succeeded();
    let inspected: Value = serde_json::from_str(&inspected).unwrap();
    let image = pushed["images"][1]["pull"].as_str().unwrap();
    docker.run(&["pull", "--quiet", image]).succeeded();
    let id = docker.run(&["image", "inspect", "--format", "{{.Id}}", image]).succeeded();
    let removed = docker.run(&["image", "rm", image]);
    assert_eq!(id.trim(), inspected["content"]["images"][1]["config"], "what is pulled is what was signed");
    removed.succeeded();
}
