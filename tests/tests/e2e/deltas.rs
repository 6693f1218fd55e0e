//! Updates that carry only what has changed, from a file and over the tether.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use kedge_bundle::digest::Digest;
use kedge_tests::hostile::tamper;
use kedge_tests::rig::counter::Counter;
use kedge_tests::rig::host::{self, Host};
use kedge_tests::rig::hub::Hub;
use kedge_tests::rig::lines::PATIENCE;
use kedge_tests::rig::names;
use kedge_tests::rig::need::{self, Need};
use kedge_tests::rig::outcome::run;
use kedge_tests::rig::vendor::{Recipe, Vendor};
use serde_json::json;

/// Layers of the image; the lowest is busybox.
pub(crate) const LAYERS: usize = 10;

/// Bytes of each of the others, about.
const LAYER: usize = 300_000;

/// A vendor of a product whose image has ten layers, and its releases.
pub(crate) struct Shop {
    folder: tempfile::TempDir,
    pub(crate) vendor: Vendor,
    pub(crate) product: String,
}

impl Shop {
    pub(crate) fn open() -> Self {
        let folder = names::scratch("kedge-deltas-");
        let vendor = Vendor::another(&folder.path().join("vendor"));
        Self { folder, vendor, product: names::unique("delta-") }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The project of a release whose layers have had so many changes each.
    fn project(&self, seq: u64, changes: [u8; LAYERS]) -> PathBuf {
        let project = self.path(&format!("project-{seq}"));
        let stage = project.join("image");
        fs::create_dir_all(&stage).unwrap();
        let busybox = ["/usr/bin/busybox", "/bin/busybox"].iter().find_map(|path| fs::read(path).ok());
        let mut layers = vec![tamper::program("busybox", &busybox.expect("busybox-static is installed"))];
        for (number, change) in changes.into_iter().enumerate().skip(1) {
            let mut content = noise(&self.product, number);
            content[1000] = change;
            layers.push(tamper::program(&format!("data-{number}"), &content));
        }
        let names: Vec<String> = (0..LAYERS).map(|number| format!("{number}.tar")).collect();
        for (name, layer) in names.iter().zip(&layers) {
            fs::write(stage.join(name), layer).unwrap();
        }
        let reference = format!("{}/web:1", self.product);
        let config = json!({
            "architecture": kedge_bundle::build::host_platform().architecture, "os": "linux",
            "config": {"Cmd": ["/busybox", "sleep", "1000000"]},
            "rootfs": {"type": "layers", "diff_ids": layers.iter().map(|layer| Digest::of(layer)).collect::<Vec<_>>()},
        });
        let manifest = json!([{"Config": "config.json", "RepoTags": [reference], "Layers": names}]);
        fs::write(stage.join("config.json"), config.to_string()).unwrap();
        fs::write(stage.join("manifest.json"), manifest.to_string()).unwrap();
        let archive = project.join("image.tar");
        run(Command::new("tar").arg("-cf").arg(&archive).arg("-C").arg(&stage).arg(".")).succeeded();
        let compose = format!(
            "x-kedge: {{product: {0}, version: {seq}.0.0, images: {{'{reference}': 'docker-archive:image.tar'}}}}\n\
             services: {{web: {{image: '{reference}', stop_grace_period: 0s}}}}\n",
            self.product
        );
        fs::write(project.join("compose.yaml"), compose).unwrap();
        project
    }

    /// Builds a release; with a base, its thin bundle too.
    pub(crate) fn build(&self, seq: u64, changes: [u8; LAYERS], base: Option<&Path>) -> (PathBuf, PathBuf) {
        let (full, thin) = (self.path(&format!("{seq}.full")), self.path(&format!("{seq}.thin")));
        let (full_text, base) = (full.display().to_string(), base.map(|base| base.display().to_string()));
        let version = format!("{seq}.0.0");
        let recipe = |flags| Recipe { product: &self.product, version: &version, seq, flags };
        let project = self.project(seq, changes);
        match &base {
            None => self.vendor.build_from(&project, &recipe(&[]), &full).succeeded(),
            Some(base) => {
                let flags = ["--base", base, "--full", &full_text, "--level", "9"];
                self.vendor.build_from(&project, &recipe(&flags), &thin).succeeded()
            }
        };
        (full, thin)
    }

    fn import(&self, host: &Host, name: &str, bundle: &Path) -> kedge_tests::rig::outcome::Outcome {
        let (bundle, root) = (bundle.display().to_string(), self.vendor.root_sha256());
        host.kedge(&["import", &bundle, "--deployment", name, "--root-sha256", &root])
    }
}

/// Bytes that do not compress, the same for the same name.
fn noise(name: &str, number: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(LAYER + 32);
    let mut block = Digest::of(format!("{name}/{number}").as_bytes());
    while bytes.len() < LAYER {
        block = Digest::of(block.as_bytes());
        bytes.extend_from_slice(block.as_bytes());
    }
    bytes
}

/// Layers have no business in the content store once the engine has them. They are collected when the operation is over,
/// which is a moment after the release runs.
#[track_caller]
fn keeps_no_layer(host: &Host) {
    let blobs = host.state_dir().join("content/blobs");
    let deadline = Instant::now() + PATIENCE;
    loop {
        let entries = fs::read_dir(&blobs).unwrap().map(|entry| entry.unwrap());
        // One that goes while we look is gone.
        let is_large = |entry: &fs::DirEntry| entry.metadata().is_ok_and(|meta| meta.len() > 50_000);
        let large: Vec<PathBuf> = entries.filter(is_large).map(|entry| entry.path()).collect();
        if large.is_empty() {
            return;
        }
        assert!(Instant::now() < deadline, "{large:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_thin_bundle_installs_where_its_base_is_and_nowhere_else() {
    if !need::met(&[Need::Engine]) {
        return;
    }
    let (shop, host) = (Shop::open(), Host::start());
    let name = host.name("delta");
    let (first, _) = shop.build(1, [0; LAYERS], None);
    let mut changes = [0; LAYERS];
    changes[5] = 1;
    let (full, thin) = shop.build(2, changes, Some(&first));
    let size = |path: &Path| fs::metadata(path).unwrap().len();
    assert!(size(&thin) < 50_000 && size(&full) > 2_500_000, "{} of {}", size(&thin), size(&full));

    let said = shop.import(&host, &name, &thin).failed_with(22, "KE-2022");
    assert!(said.contains("1.0.0 (stable 1)") && said.contains("full bundle"), "{said}");
    keeps_no_layer(&host);
    assert!(host.deployment(&name).is_null());

    shop.import(&host, &name, &first).succeeded();
    shop.import(&host, &name, &thin).succeeded();
    host.wait_for(&name, "should run 2.0.0", |d| host::runs(d, "2.0.0"));
    keeps_no_layer(&host);
    // The full bundle is the same release: nothing is left to do.
    shop.import(&host, &name, &full).succeeded();
    host.wait_for(&name, "should run 2.0.0", |d| host::runs(d, "2.0.0"));
}

#[test]
fn an_update_over_the_tether_that_changes_one_of_ten_layers_moves_about_one_patch() {
    if !need::met(&[Need::Engine]) {
        return;
    }
    let (shop, host) = (Shop::open(), Host::start());
    let hub = Hub::start(&shop.vendor);
    let line = Counter::before(hub.url().trim_start_matches("https://"));
    hub.enrol_by(&host, "north", &line.url());
    let (first, _) = shop.build(1, [0; LAYERS], None);
    hub.publish(&first);
    let name = host.name("delta");
    host.kedge(&["deploy", &shop.product, "--as", &name]).succeeded();
    let whole = line.moved();
    assert!(whole > 2_500_000, "{whole}");

    let mut changes = [0; LAYERS];
    changes[5] = 1;
    let (second, thin) = shop.build(2, changes, Some(&first));
    let before = line.moved();
    hub.publish(&thin);
    hub.publish(&second);
    host.wait_for(&name, "should run 2.0.0", |d| host::runs(d, "2.0.0"));
    let patched = line.moved() - before;
    assert!(patched < LAYER as u64 / 4, "{patched} bytes for a patch");

    // Without a delta, only what no image here has: one layer. Those above it come out of the engine.
    changes[3] = 1;
    let (third, _) = shop.build(3, changes, None);
    let before = line.moved();
    hub.publish(&third);
    host.wait_for(&name, "should run 3.0.0", |d| host::runs(d, "3.0.0"));
    let one = line.moved() - before;
    assert!((LAYER as u64..2 * LAYER as u64).contains(&one), "{one} bytes for one layer");
    keeps_no_layer(&host);
    eprintln!("first installation {whole} bytes, one patch {patched}, one layer without a delta {one}");
}
