//! Whole builds: a folder in, a bundle that verifies out.

use std::fs;
use std::fs::File;
use std::sync::Mutex;

use tempfile::TempDir;

use super::*;
use crate::digest::Digest;
use crate::envelope::Envelope;
use crate::reader::{self, Discard, Imported};
use crate::testing::{TestBundle, Vendor, terms};
use crate::verify::Trust;

const COMPOSE: &str = r#"
x-kedge:
  product: shop
  version: 1.2.0
  parameters:
    PORT: {type: integer, default: 8080}
    DOMAIN: {required: true}
    PASSWORD: {type: secret, generate: 24}
  images:
    shop/web:1: dir:web
    shop/tool:1: binary:tool
services:
  web:
    image: shop/web:1
    ports: ["${PORT}:80"]
    env_file: [web.env]
    environment: {DOMAIN: "${DOMAIN:?}"}
    volumes: ["./conf:/etc/web:ro", "/var/log:/log"]
    configs: [{source: main, target: /main.conf}]
    secrets: [password]
  tool:
    image: shop/tool:1
configs:
  main: {file: ./main.conf}
secrets:
  password: {environment: PASSWORD}
"#;

fn elf() -> Vec<u8> {
    let mut bytes = vec![0; 120];
    bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
    (bytes[18], bytes[32], bytes[54], bytes[56]) = (62, 64, 56, 0);
    bytes
}

fn project(compose: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let write = |path: &str, bytes: &[u8]| {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    };
    write("compose.yaml", compose.as_bytes());
    write("web.env", b"COLOUR=blue\n");
    write("main.conf", b"main\n");
    write("conf/a.conf", b"a\n");
    write("conf/deep/b.conf", b"b\n");
    write("web/index.html", b"hello\n");
    write("tool", &elf());
    write("unrelated.txt", b"stays at home\n");
    dir
}

fn options(dir: &Path, vendor: &Vendor) -> Options {
    Options {
        dir: dir.into(),
        compose: Vec::new(),
        version: None,
        images: BTreeMap::new(),
        platform: Platform { architecture: "amd64".into(), os: "linux".into(), variant: None },
        credentials: Credentials::Anonymous,
        insecure_registries: Vec::new(),
        engine_socket: dir.join("no-engine.sock"),
        terms: terms(4),
        roots: vendor.envelopes.clone(),
    }
}

fn verify(bundle: &Path, vendor: &Vendor) -> Imported {
    let context = crate::verify::Context { product: Some("shop"), ..vendor.context() };
    reader::read(File::open(bundle).unwrap(), &vendor.trust(), &context, &mut Discard).unwrap()
}

#[tokio::test]
async fn a_folder_becomes_a_bundle_that_verifies_with_every_file_it_needs() {
    let (vendor, dir, out) = (Vendor::new("a"), project(COMPOSE), tempfile::tempdir().unwrap());
    let bundle = out.path().join("shop.bundle");
    let built = build(&options(dir.path(), &vendor), &bundle, &[&vendor.release_key], &Quiet).await.unwrap();
    let content = verify(&bundle, &vendor).admitted.content;
    assert_eq!(content, built.content);
    let paths: Vec<_> = content.files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(paths, ["compose.yaml", "conf/a.conf", "conf/deep/b.conf", "main.conf", "web.env"]);
    let references: Vec<_> = content.images.iter().map(|image| image.reference.as_str()).collect();
    assert_eq!(references, ["shop/tool:1", "shop/web:1"]);
    assert_eq!((content.product.product.as_str(), content.product.version.as_str()), ("shop", "1.2.0"));
    assert_eq!(content.product.compose, ["compose.yaml"]);
    assert!(built.warnings.iter().any(|warning| warning.contains("/var/log")), "{:?}", built.warnings);
    assert_eq!(fs::read_dir(out.path()).unwrap().count(), 1, "nothing but the bundle is left");
}

#[tokio::test]
async fn a_project_that_mounts_its_own_folder_is_taken_whole() {
    let compose = COMPOSE.replace("./conf:/etc/web:ro", "./:/etc/web:ro");
    let (vendor, dir, out) = (Vendor::new("a"), project(&compose), tempfile::tempdir().unwrap());
    let bundle = out.path().join("shop.bundle");
    build(&options(dir.path(), &vendor), &bundle, &[&vendor.release_key], &Quiet).await.unwrap();
    let content = verify(&bundle, &vendor).admitted.content;
    let paths: Vec<_> = content.files.iter().map(|file| file.path.as_str()).collect();
    assert!(paths.contains(&"conf/deep/b.conf") && paths.contains(&"unrelated.txt"), "{paths:?}");
}

#[tokio::test]
async fn two_builds_of_one_folder_are_the_same_byte_for_byte() {
    let (vendor, out) = (Vendor::new("a"), tempfile::tempdir().unwrap());
    let mut digests = Vec::new();
    for name in ["one", "two"] {
        let dir = project(COMPOSE);
        let bundle = out.path().join(name);
        build(&options(dir.path(), &vendor), &bundle, &[&vendor.release_key], &Quiet).await.unwrap();
        digests.push(Digest::of(&fs::read(&bundle).unwrap()));
    }
    assert_eq!(digests[0], digests[1]);
}

#[tokio::test]
async fn an_unsigned_bundle_is_refused_until_it_is_signed() {
    let (vendor, dir, out) = (Vendor::new("a"), project(COMPOSE), tempfile::tempdir().unwrap());
    let bundle = out.path().join("shop.bundle");
    build(&options(dir.path(), &vendor), &bundle, &[], &Quiet).await.unwrap();
    let refused =
        reader::read(File::open(&bundle).unwrap(), &vendor.trust(), &vendor.context(), &mut Discard)
            .unwrap_err();
    assert_eq!(refused.code().id, "KE-2101");
    let before = inspect(&bundle).unwrap();
    assert!(before.signatures.is_empty());
    assert_eq!(before.fingerprints, [vendor.fingerprint()]);
    sign_bundle(&bundle, &bundle, &vendor.release_key).unwrap();
    assert_eq!(verify(&bundle, &vendor).admitted.verified.digest, before.digest);
    sign_bundle(&bundle, &bundle, &vendor.release_key).unwrap();
    assert_eq!(inspect(&bundle).unwrap().signatures.len(), 1);
}

/// A bundle is an OCI layout and a `docker save` archive at once, so it can be a source of both kinds.
#[tokio::test]
async fn images_come_out_of_both_kinds_of_archive_as_they_were() {
    let (vendor, out) = (Vendor::new("a"), tempfile::tempdir().unwrap());
    let first: TestBundle = vendor.bundle(1);
    let archive = out.path().join("first.tar");
    fs::write(&archive, first.bytes()).unwrap();
    let original = &first.draft.content.images[0];
    for kind in ["oci-archive", "docker-archive"] {
        let compose = "x-kedge: {product: shop, version: '1'}\nservices: {a: {image: 'example/hello:1'}}\n";
        let dir = project(compose);
        let mut options = options(dir.path(), &vendor);
        let source = format!("{kind}:{}:example/hello:1", archive.display());
        options.images.insert("example/hello:1".into(), source);
        let bundle = out.path().join(kind);
        build(&options, &bundle, &[&vendor.release_key], &Quiet).await.unwrap();
        let image = verify(&bundle, &vendor).admitted.content.images.remove(0);
        assert_eq!((&image.layers, image.config), (&original.layers, original.config), "{kind}");
        if kind == "oci-archive" {
            assert_eq!(image.manifest, original.manifest);
        }
    }
}

#[tokio::test]
async fn what_cannot_be_built_says_why_and_leaves_nothing() {
    let service = "services: {a: {image: 'a:1'}}\n";
    let head = "x-kedge: {product: shop, version: '1'}\n";
    for (name, compose, reason) in [
        ("no section", service.to_owned(), "x-kedge"),
        (
            "misspelt key",
            format!("x-kedge: {{product: shop, version: '1', imagse: {{}}}}\n{service}"),
            "imagse",
        ),
        ("no version", format!("x-kedge: {{product: shop}}\n{service}"), "version"),
        (
            "image that nobody uses",
            format!("x-kedge: {{product: shop, version: '1', images: {{'b:1': engine}}}}\n{service}"),
            "b:1",
        ),
        (
            "unknown source",
            format!("x-kedge: {{product: shop, version: '1', images: {{'a:1': 'zip:x'}}}}\n{service}"),
            "unknown source",
        ),
        (
            "collector of no service",
            format!(
                "x-kedge: {{product: shop, version: '1', diagnostics: {{q: {{service: b, http: '80'}}}}}}\n{service}"
            ),
            "diagnostics.q: there is no service",
        ),
        (
            "collector of nothing",
            format!(
                "x-kedge: {{product: shop, version: '1', diagnostics: {{q: {{service: a}}}}}}\n{service}"
            ),
            "diagnostics.q: give one of",
        ),
        ("no engine", format!("{head}{service}"), "does not answer"),
        ("unknown compose key", format!("{head}services: {{a: {{image: 'a:1', colour: red}}}}\n"), "colour"),
        ("build without image", format!("{head}services: {{a: {{build: .}}}}\n"), "image"),
        (
            "secret in a file",
            format!(
                "{head}services: {{a: {{image: 'a:1', secrets: [s]}}}}\nsecrets: {{s: {{file: ./main.conf}}}}\n"
            ),
            "not secret",
        ),
        (
            "binary that is none",
            format!(
                "x-kedge: {{product: shop, version: '1', images: {{'a:1': 'binary:main.conf'}}}}\n{service}"
            ),
            "Linux binary",
        ),
        (
            "folder that is not there",
            format!("x-kedge: {{product: shop, version: '1', images: {{'a:1': 'dir:nowhere'}}}}\n{service}"),
            "nowhere",
        ),
    ] {
        let (vendor, dir, out) = (Vendor::new("a"), project(&compose), tempfile::tempdir().unwrap());
        let bundle = out.path().join("x");
        let error = build(&options(dir.path(), &vendor), &bundle, &[], &Quiet).await.expect_err(name);
        assert!(error.to_string().contains(reason), "{name}: {error}");
        assert_eq!(fs::read_dir(out.path()).unwrap().count(), 0, "{name}");
    }
}

#[test]
fn a_damaged_bundle_can_be_neither_inspected_nor_signed() {
    let (vendor, out) = (Vendor::new("a"), tempfile::tempdir().unwrap());
    let path = out.path().join("x");
    let mut bytes = vendor.bundle(1).bytes();
    let middle = bytes.len() - 3000;
    bytes[middle] ^= 1;
    fs::write(&path, &bytes).unwrap();
    assert!(inspect(&path).is_err());
    fs::write(&path, b"hello").unwrap();
    assert!(sign_bundle(&path, &path, &vendor.release_key).is_err());
    assert_eq!(fs::read(&path).unwrap(), b"hello");
}

#[tokio::test]
async fn progress_adds_up_to_the_bundles_content() {
    #[derive(Default)]
    struct Count(Mutex<(u64, u64)>);
    impl Progress for Count {
        fn begin(&self, what: &str, total: Option<u64>) {
            if what == "writing the bundle" {
                *self.0.lock().unwrap() = (total.unwrap(), 0);
            }
        }
        fn advance(&self, bytes: u64) {
            self.0.lock().unwrap().1 += bytes;
        }
        fn end(&self) {}
    }
    let (vendor, dir, out) = (Vendor::new("a"), project(COMPOSE), tempfile::tempdir().unwrap());
    let count = Count::default();
    let built = build(&options(dir.path(), &vendor), &out.path().join("x"), &[&vendor.release_key], &count)
        .await
        .unwrap();
    let (total, done) = *count.0.lock().unwrap();
    assert_eq!((total, done), (built.release.content_bytes, built.release.content_bytes));
}

#[test]
fn the_vendors_trust_is_the_fingerprint_of_its_first_root() {
    let vendor = Vendor::new("a");
    let payload = Envelope::parse(&vendor.envelopes[0]).unwrap().payload;
    assert_eq!(Trust::pinned(Digest::of(&payload)), vendor.trust());
}

#[tokio::test]
async fn an_image_with_tools_travels_without_being_a_services() {
    let (vendor, out, dir) = (Vendor::new("a"), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let compose = "x-kedge: {product: shop, version: 1.0.0, tools: 'shop/tools:1', \
                   images: {'shop/web:1': 'dir:web', 'shop/tools:1': 'dir:tools'}}\n\
                   services: {web: {image: 'shop/web:1'}}\n";
    fs::write(dir.path().join("compose.yaml"), compose).unwrap();
    for folder in ["web", "tools"] {
        fs::create_dir(dir.path().join(folder)).unwrap();
        fs::write(dir.path().join(folder).join("sh"), folder).unwrap();
    }
    let bundle = out.path().join("x");
    build(&options(dir.path(), &vendor), &bundle, &[&vendor.release_key], &Quiet).await.unwrap();
    let content = verify(&bundle, &vendor).admitted.content;
    assert_eq!(content.product.tools.as_deref(), Some("shop/tools:1"));
    let references: Vec<&str> = content.images.iter().map(|image| image.reference.as_str()).collect();
    assert_eq!(references, ["shop/tools:1", "shop/web:1"]);
}

/// A release whose image is a folder with these files.
async fn of_folder(vendor: &Vendor, out: &Path, seq: u64, files: &[(&str, Vec<u8>)]) -> PathBuf {
    let compose = "x-kedge: {product: shop, version: 1.0.0, images: {'shop/web:1': 'dir:web', 'shop/base:1': 'dir:base'}}\n\
                   services: {web: {image: 'shop/web:1'}, base: {image: 'shop/base:1'}}\n";
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("compose.yaml"), compose).unwrap();
    for folder in ["web", "base"] {
        fs::create_dir(dir.path().join(folder)).unwrap();
    }
    fs::write(dir.path().join("base/library"), vec![1; 5000]).unwrap();
    for (name, content) in files {
        fs::write(dir.path().join("web").join(name), content).unwrap();
    }
    let options = Options { terms: terms(seq), ..options(dir.path(), vendor) };
    let bundle = out.join(format!("{seq}.bundle"));
    build(&options, &bundle, &[&vendor.release_key], &Quiet).await.unwrap();
    bundle
}

fn noise(seed: u64) -> Vec<u8> {
    let next = |state: &mut u64| {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        Some((*state >> 56) as u8)
    };
    let mut state = seed;
    std::iter::from_fn(|| next(&mut state)).take(200_000).collect()
}

#[tokio::test]
async fn a_thin_bundle_leaves_out_what_is_the_same_and_patches_what_changed() {
    let (vendor, out) = (Vendor::new("a"), tempfile::tempdir().unwrap());
    let old = of_folder(&vendor, out.path(), 4, &[("data", noise(1))]).await;
    let changed = [noise(1), b"and one thing more".to_vec()].concat();
    let new = of_folder(&vendor, out.path(), 5, &[("data", changed)]).await;
    let output = out.path().join("thin.bundle");
    let signers: [&dyn Signer; 1] = [&vendor.release_key];
    let thin = thin(&new, std::slice::from_ref(&old), &output, 3, &signers, &Quiet).unwrap();
    assert_eq!((thin.delta.left_out.len(), thin.delta.patches.len()), (1, 1));
    assert!(thin.delta.patches[0].base.is_some() && thin.bytes < 20_000, "{}", thin.bytes);
    assert_eq!(thin.costs.bases[0].seq, 4);
    let (imported, full) = (verify(&output, &vendor), verify(&new, &vendor));
    assert_eq!(imported.admitted.content, full.admitted.content);
    assert_eq!(imported.documents.release, full.documents.release);

    // The same costs without the file, and about the same quickly.
    let costs = diff(&old, &new, 3, false, &Quiet).unwrap();
    assert_eq!(costs.bytes(), thin.costs.bytes());
    assert!(diff(&old, &new, 19, true, &Quiet).unwrap().bytes() < 20_000);

    // A second signature goes under both documents.
    sign_bundle(&output, &output, &crate::testing::key("another", 1)).unwrap();
    let signatures = |bytes: &[u8]| Envelope::parse(bytes).unwrap().signatures.len();
    let documents = verify(&output, &vendor).documents;
    assert_eq!((signatures(&documents.release), signatures(&documents.delta.unwrap())), (2, 2));
    assert_eq!(fs::read_dir(out.path()).unwrap().count(), 3, "nothing but the bundles is left");
}

#[tokio::test]
async fn what_nothing_can_be_built_on_is_refused() {
    let (vendor, out) = (Vendor::new("a"), tempfile::tempdir().unwrap());
    let old = of_folder(&vendor, out.path(), 4, &[("data", noise(1))]).await;
    let other = out.path().join("other.bundle");
    fs::write(&other, vendor.bundle(3).bytes()).unwrap();
    let make = |full: &Path, bases: &[PathBuf]| {
        thin(full, bases, &out.path().join("thin"), 3, &[&vendor.release_key], &Quiet)
            .unwrap_err()
            .to_string()
    };
    assert!(make(&old, std::slice::from_ref(&other)).contains("is of product hello, not shop"));
    assert!(make(&old, &[]).contains("1 to 16 bases"));
    fs::write(out.path().join("cut"), &fs::read(&old).unwrap()[..3000]).unwrap();
    assert!(make(&old, &[out.path().join("cut")]).contains("ends in the middle"));
    assert!(!out.path().join("thin").exists());
}
