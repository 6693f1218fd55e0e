//! A bundle through a real registry and back: byte for byte, only what is missing, and nothing that was not signed.

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use kedge_tests::rig::names;
use kedge_tests::rig::need::{self, Need};
use kedge_tests::rig::outcome::{Outcome, run};
use kedge_tests::rig::programs;
use kedge_tests::rig::registry::{PASSWORD, Registry, USER};
use kedge_tests::rig::vendor::{Recipe, Vendor};
use serde_json::Value;

/// A vendor with a product of one image, whose base stays and whose page changes.
pub(crate) struct Shop {
    folder: tempfile::TempDir,
    pub(crate) vendor: Vendor,
}

impl Shop {
    pub(crate) fn new() -> Self {
        let folder = names::scratch("kedge-shop-");
        let vendor = Vendor::another(&folder.path().join("vendor"));
        Self { folder, vendor }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A bundle with this sequence number. Its image `shop/base:1` is always the same, `shop/page:1` never.
    pub(crate) fn bundle(&self, seq: u64) -> PathBuf {
        let project = self.path(&format!("project-{seq}"));
        let write = |name: &str, text: &str| {
            let path = project.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("base/var/lib/dpkg/status", "Package: libc6\nStatus: install ok installed\nVersion: 2.36-9\n");
        write("base/filler", &"base ".repeat(100_000));
        write("page/index.html", &format!("edition {seq} ").repeat(50_000));
        write("empty.conf", "");
        let head = format!("x-kedge: {{product: shop, version: {seq}.0.0, images: ");
        let images = "{'shop/base:1': 'dir:base', 'shop/page:1': 'dir:page'}}\n";
        let configs = "configs: {empty: {file: ./empty.conf}}\n";
        let services =
            "services:\n  base: {image: 'shop/base:1', configs: [empty]}\n  page: {image: 'shop/page:1'}\n";
        write("compose.yaml", &format!("{head}{images}{configs}{services}"));
        let bundle = self.path(&format!("{seq}.kedge"));
        let version = format!("{seq}.0.0");
        let recipe = Recipe { product: "shop", version: &version, seq, flags: &[] };
        self.vendor.build_from(&project, &recipe, &bundle).succeeded();
        bundle
    }

    pub(crate) fn push(&self, bundle: &std::path::Path, to: &str) -> Value {
        let bundle = bundle.display().to_string();
        let said = self.vendor.kedgectl(&["bundle", "push", &bundle, to, "-o", "json"]).succeeded();
        serde_json::from_str(&said).unwrap()
    }

    fn pull(&self, from: &str, to: &str) -> Outcome {
        let (to, root) = (self.path(to).display().to_string(), self.vendor.keys().display().to_string());
        self.vendor.kedgectl(&["bundle", "pull", from, "-o", &to, "--root", &root, "--format", "json"])
    }
}

#[test]
fn a_bundle_comes_back_as_it_went_and_only_what_is_missing_travels() {
    if !need::met(&[Need::Registry]) {
        return;
    }
    let (shop, registry) = (Shop::new(), Registry::start());
    let one = shop.bundle(1);
    let at = registry.at("products/shop:1.0.0");
    let first = shop.push(&one, &at);
    assert_eq!((&first["blobs"]["present"], &first["blobs"]["mounted"]), (&0.into(), &0.into()));
    let sent = first["blobs"]["sent"].as_u64().unwrap();
    let again = shop.push(&one, &at);
    assert_eq!((&again["blobs"]["sent"], &again["blobs"]["present"]), (&0.into(), &sent.into()));
    assert_eq!(again["digest"], first["digest"], "the same bundle, the same index");

    let said: Value = serde_json::from_str(&shop.pull(&at, "back.kedge").succeeded()).unwrap();
    assert!(fs::read(&one).unwrap() == fs::read(shop.path("back.kedge")).unwrap(), "another file came back");
    assert_eq!((&said["verified"], &said["release"]["seq"]), (&true.into(), &1.into()));
    let by_digest = registry.at(&format!("products/shop@{}", first["digest"].as_str().unwrap()));
    shop.pull(&by_digest, "by-digest.kedge").succeeded();
    assert!(fs::read(&one).unwrap() == fs::read(shop.path("by-digest.kedge")).unwrap());
    shop.pull(&at, "back.kedge").failed_with(2, "KE-7408");

    // An update sends what it changes; another repository of the registry lends the rest.
    let two = shop.bundle(2);
    let update = shop.push(&two, &registry.at("products/shop:2.0.0"));
    assert!(update["sent_bytes"].as_u64() < first["sent_bytes"].as_u64(), "{update}");
    assert!(update["blobs"]["present"].as_u64() >= Some(4), "{update}");
    let lent = shop.vendor.kedgectl(&[
        "bundle",
        "push",
        &two.display().to_string(),
        &registry.at("mirror/shop:2.0.0"),
        "-o",
        "json",
        "--mount-from",
        "products/shop",
    ]);
    let lent: Value = serde_json::from_str(&lent.succeeded()).unwrap();
    assert_eq!((&lent["blobs"]["sent"], &lent["blobs"]["present"]), (&0.into(), &0.into()));
    shop.pull(&registry.at("mirror/shop:2.0.0"), "two.kedge").succeeded();
    assert!(fs::read(&two).unwrap() == fs::read(shop.path("two.kedge")).unwrap());
}

#[test]
fn what_a_registry_spoils_is_refused_and_leaves_no_file() {
    if !need::met(&[Need::Registry]) {
        return;
    }
    let (shop, registry) = (Shop::new(), Registry::start());
    let at = registry.at("shop:1.0.0");
    let pushed = shop.push(&shop.bundle(1), &at);
    let image = pushed["images"][1]["pull"].as_str().unwrap().split('@').nth(1).unwrap().to_owned();
    let layer = registry.manifest("shop", &image)["layers"][0]["digest"].as_str().unwrap().to_owned();
    let index = registry.manifest("shop", "1.0.0");
    let documents =
        index["manifests"].as_array().unwrap().last().unwrap()["digest"].as_str().unwrap().to_owned();
    let listing = registry.manifest("shop", &documents);
    let release = listing["layers"].as_array().unwrap().last().unwrap();
    assert_eq!(release["annotations"]["org.opencontainers.image.title"], "kedge/release.json");
    let release = release["digest"].as_str().unwrap().to_owned();

    let spoil = |digest: &str, change: &dyn Fn(&mut Vec<u8>)| {
        let file = registry.blob_file(digest);
        let whole = fs::read(&file).unwrap();
        let mut spoilt = whole.clone();
        change(&mut spoilt);
        fs::write(&file, spoilt).unwrap();
        let outcome = shop.pull(&at, "no.kedge");
        fs::write(&file, whole).unwrap();
        assert!(!shop.path("no.kedge").exists(), "{outcome:#?}");
        outcome
    };
    let flip = |bytes: &mut Vec<u8>| bytes[1000] ^= 1;
    assert!(spoil(&layer, &flip).failed_with(11, "KE-2106").contains(&layer));
    let cut = |bytes: &mut Vec<u8>| bytes.truncate(bytes.len() / 2);
    assert!(spoil(&layer, &cut).failed_with(40, "KE-2307").contains("it ends after"));
    let longer = |bytes: &mut Vec<u8>| bytes.push(0);
    spoil(&image, &longer).failed_with(40, "KE-2307");
    let other = |bytes: &mut Vec<u8>| bytes[100] ^= 1;
    spoil(&release, &other).failed_with(10, "KE-2309");
    spoil(&documents, &other).failed_with(40, "KE-2307");
    shop.pull(&at, "yes.kedge").succeeded();

    let stranger = Shop::new();
    stranger.pull(&at, "no.kedge").failed_with(11, "KE-2102");
    assert!(!stranger.path("no.kedge").exists());
    let left: Vec<_> = fs::read_dir(shop.path("")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().starts_with(".tmp")), "{left:?}");

    // Something else under a tag, and nothing.
    let put = serde_json::json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": []});
    let kind = "Content-Type: application/vnd.oci.image.index.v1+json";
    registry
        .curl("PUT", "/v2/shop/manifests/other", &["--header", kind, "--data", &put.to_string()])
        .succeeded();
    shop.pull(&registry.at("shop:other"), "no.kedge").failed_with(10, "KE-2309");
    shop.pull(&registry.at("shop:nothing"), "no.kedge").failed_with(40, "KE-2307");
    shop.pull("shop:1", "no.kedge").failed_with(2, "names no registry");
}

#[test]
fn a_login_is_taken_from_where_people_keep_it_and_a_wrong_one_is_told() {
    if !need::met(&[Need::Registry]) {
        return;
    }
    let (shop, registry) = (Shop::new(), Registry::start_for_user());
    let (bundle, at) = (shop.bundle(1).display().to_string(), registry.at("shop:1.0.0"));
    let docker = shop.path("docker");
    fs::create_dir_all(&docker).unwrap();
    let kedgectl = |arguments: &[&str]| {
        let mut command = Command::new(programs::path("kedgectl"));
        command.args(arguments).env("DOCKER_CONFIG", &docker).env("HOME", &docker);
        command.env_remove("KEDGE_REGISTRY_USER").env_remove("KEDGE_REGISTRY_PASSWORD");
        command
    };
    let push = ["bundle", "push", &bundle, &at];
    let told = run(&mut kedgectl(&push)).failed_with(2, "KE-2308");
    assert!(told.contains("docker login") && told.contains(registry.address()), "{told}");
    let with = |password: &str| {
        let mut command = kedgectl(&[&push[..], &["--username", USER, "--password-stdin"]].concat());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(format!("{password}\n").as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, told) = with("let me in");
    assert!(code == Some(2) && told.contains("KE-2308") && !told.contains("let me in"), "{code:?}: {told}");
    assert_eq!(with(PASSWORD).0, Some(0));
    assert_eq!(run(&mut kedgectl(&[&push[..], &["--username", USER]].concat())).code, Some(2));

    // As `docker login` keeps it, and as a credential helper does.
    let encoded =
        run(Command::new("sh").args(["-c", &format!("printf '{USER}:{PASSWORD}' | base64")])).succeeded();
    let stored = serde_json::json!({"auths": {registry.address(): {"auth": encoded.trim()}}});
    fs::write(docker.join("config.json"), stored.to_string()).unwrap();
    run(&mut kedgectl(&push)).succeeded();
    let helper = docker.join("docker-credential-test");
    let answer = serde_json::json!({"ServerURL": registry.address(), "Username": USER, "Secret": PASSWORD});
    fs::write(
        &helper,
        format!("#!/bin/sh\n[ \"$1 $(cat)\" = 'get {}' ] && echo '{answer}'\n", registry.address()),
    )
    .unwrap();
    fs::set_permissions(&helper, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let stored = serde_json::json!({"credHelpers": {registry.address(): "test"}});
    fs::write(docker.join("config.json"), stored.to_string()).unwrap();
    let path = format!("{}:{}", docker.display(), std::env::var("PATH").unwrap());
    run(kedgectl(&push).env("PATH", path)).succeeded();
    run(&mut kedgectl(&push)).failed_with(2, "KE-2308");
}
