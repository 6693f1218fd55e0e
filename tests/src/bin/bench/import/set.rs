//! What is imported: five images that share layers as real ones do, a gibibyte in all, as a `docker save` file and as signed
//! bundles. Made when the bench runs, from a seed: the same bytes each time.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use kedge_bundle::digest::Digest;
use kedge_bundle::tar::{self, BLOCK};
use kedge_tests::hostile::tamper;
use kedge_tests::rig::docker::Docker;
use kedge_tests::rig::names;
use kedge_tests::rig::outcome::run;
use kedge_tests::rig::vendor::{Recipe, Vendor};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::json;
use sha2::{Digest as _, Sha256};

/// Mebibytes of each layer, 1024 in all.
pub(super) const LAYERS: [u64; 16] = [160, 128, 24, 24, 24, 24, 24, 24, 24, 24, 80, 80, 96, 72, 72, 144];

/// Each image with its layers; the first holds busybox, and everything else is built on it.
pub(super) const IMAGES: [(&str, &[usize]); 5] = [
    ("api", &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]),
    ("web", &[0, 1, 10, 11]),
    ("worker", &[0, 1, 12]),
    ("queue", &[0, 13, 14]),
    ("store", &[0, 15]),
];

/// The layer that the second edition changes, in one file: the topmost of the ten of the first image.
pub(super) const CHANGED: usize = 9;

/// Bytes of the files of a layer, in turn.
const FILES: [u64; 7] = [400, 1_500, 4_000, 9_000, 30_000, 120_000, 600_000];

/// Everything that was made; its images are removed from the engine when this goes out of scope.
pub(super) struct Set {
    folder: PathBuf,
    pub(super) product: String,
    pub(super) vendor: Vendor,
    /// What customers are told of the vendor.
    pub(super) root: String,
    docker: Docker,
}

impl Set {
    /// Makes both editions below `folder`.
    pub(super) fn make(folder: &Path) -> Self {
        let vendor = Vendor::another(&folder.join("vendor"));
        let product = names::unique("bench-import-");
        let (root, docker) = (vendor.root_sha256(), Docker::of_this_machine());
        let set = Self { folder: folder.to_owned(), product, vendor, root, docker };
        eprintln!("making the images");
        let all: Vec<usize> = (0..IMAGES.len()).collect();
        for (edition, images) in [(1, &all[..]), (2, &[0])] {
            set.archive(edition, images).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        }
        eprintln!("making the `docker save` file");
        set.docker(&["load", "--quiet", "--input", &text(&set.images(1))]);
        let references: Vec<String> = IMAGES.iter().map(|(name, _)| set.reference(name)).collect();
        let save: Vec<&str> = references.iter().map(String::as_str).collect();
        set.docker(&[&["save", "--output", &text(&set.saved())], &save[..]].concat());
        set.forget();
        eprintln!("building the bundles");
        set.build(1, &[], &set.bundle(1));
        let (base, full) = (text(&set.bundle(1)), text(&set.bundle(2)));
        set.build(2, &["--base", &base, "--full", &full], &set.thin());
        set
    }

    /// The signed bundle of an edition.
    pub(super) fn bundle(&self, edition: usize) -> PathBuf {
        self.folder.join(format!("{edition}.kedge"))
    }

    /// The second edition without what the first has.
    pub(super) fn thin(&self) -> PathBuf {
        self.folder.join("thin.kedge")
    }

    /// What `docker save` wrote of the first edition.
    pub(super) fn saved(&self) -> PathBuf {
        self.folder.join("saved.tar")
    }

    /// Removes the images, whoever brought them, and lets the disks come to rest.
    pub(super) fn forget(&self) {
        for owner in ["", "kedge.local/"] {
            let filter = format!("reference={owner}{}-*", self.product);
            let listed = self.docker.run(&["image", "ls", "--quiet", "--no-trunc", "--filter", &filter]);
            let mut ids: Vec<&str> = listed.stdout.lines().collect();
            ids.sort_unstable();
            ids.dedup();
            if !ids.is_empty() {
                self.docker.run(&[&["image", "rm", "--force"], &ids[..]].concat());
            }
        }
        run(&mut Command::new("sync"));
    }

    /// How many of the first edition's images the engine has.
    pub(super) fn loaded(&self) -> usize {
        let ids = fs::read_to_string(self.folder.join("1.ids")).expect("it was written");
        ids.lines().filter(|id| self.docker.run(&["image", "inspect", id]).code == Some(0)).count()
    }

    fn docker(&self, arguments: &[&str]) {
        self.docker.run(arguments).succeeded();
    }

    fn reference(&self, image: &str) -> String {
        format!("{}-{image}:1", self.product)
    }

    fn images(&self, edition: usize) -> PathBuf {
        self.folder.join(format!("images-{edition}.tar"))
    }

    fn build(&self, edition: usize, flags: &[&str], to: &Path) {
        let project = self.folder.join(format!("project-{edition}"));
        fs::create_dir_all(&project).expect("a writable folder");
        let (mut sources, mut services) = (String::new(), String::new());
        for (number, (name, _)) in IMAGES.iter().enumerate() {
            // Only the first image differs.
            let archive = text(&self.images(if number == 0 { edition } else { 1 }));
            let reference = self.reference(name);
            sources.push_str(&format!("    '{reference}': 'docker-archive:{archive}:{reference}'\n"));
            services.push_str(&format!("  {name}: {{image: '{reference}', stop_grace_period: 0s}}\n"));
        }
        let head = format!("x-kedge:\n  product: {}\n  version: {edition}.0.0\n  images:\n", self.product);
        fs::write(project.join("compose.yaml"), format!("{head}{sources}services:\n{services}"))
            .expect("a writable folder");
        let version = format!("{edition}.0.0");
        let recipe = Recipe { product: &self.product, version: &version, seq: edition as u64, flags };
        self.vendor.build_from(&project, &recipe, to).succeeded();
    }

    /// Writes images as `docker save` would, and the digests of their configurations beside them.
    fn archive(&self, edition: usize, images: &[usize]) -> io::Result<()> {
        let mut out = BufWriter::with_capacity(1 << 20, File::create(self.images(edition))?);
        let mut diff_ids = vec![None; LAYERS.len()];
        for layer in images.iter().flat_map(|image| IMAGES[*image].1) {
            if diff_ids[*layer].is_none() {
                out.write_all(&tar::header(&format!("{layer}.tar"), size(*layer)))?;
                diff_ids[*layer] = Some(write_layer(&mut out, *layer, edition)?);
            }
        }
        let (mut manifest, mut ids) = (Vec::new(), String::new());
        for image in images {
            let (name, layers) = IMAGES[*image];
            let config = json!({
                "architecture": kedge_bundle::build::host_platform().architecture, "os": "linux",
                "config": {"Cmd": ["/busybox", "sleep", "1000000"]},
                "rootfs": {"type": "layers", "diff_ids": layers.iter().map(|n| diff_ids[*n]).collect::<Vec<_>>()},
            });
            let config = config.to_string();
            entry(&mut out, &format!("{name}.json"), config.as_bytes())?;
            ids.push_str(&format!("{}\n", Digest::of(config.as_bytes())));
            let files: Vec<String> = layers.iter().map(|layer| format!("{layer}.tar")).collect();
            let tags = [self.reference(name)];
            manifest.push(json!({"Config": format!("{name}.json"), "RepoTags": tags, "Layers": files}));
        }
        entry(&mut out, "manifest.json", json!(manifest).to_string().as_bytes())?;
        out.write_all(&[0; 2 * BLOCK])?;
        out.flush()?;
        fs::write(self.folder.join(format!("{edition}.ids")), ids)
    }
}

impl Drop for Set {
    fn drop(&mut self) {
        self.forget();
    }
}

fn entry(out: &mut impl Write, name: &str, content: &[u8]) -> io::Result<()> {
    let mut whole = Vec::new();
    tamper::put(&mut whole, name, content);
    out.write_all(&whole)
}

/// Bytes of the files of a layer, in their order.
fn files(layer: usize) -> Vec<u64> {
    let mut left = LAYERS[layer] << 20;
    let mut sizes = Vec::new();
    for size in FILES.into_iter().cycle() {
        if left < size {
            return sizes;
        }
        left -= size;
        sizes.push(size);
    }
    sizes
}

/// Bytes of a layer.
pub(super) fn size(layer: usize) -> u64 {
    let whole = |size: u64| BLOCK as u64 + size + tar::padding(size) as u64;
    let program = if layer == 0 { program().len() as u64 } else { 0 };
    program + files(layer).into_iter().map(whole).sum::<u64>() + 2 * BLOCK as u64
}

/// The entry of busybox.
fn program() -> Vec<u8> {
    let busybox = ["/usr/bin/busybox", "/bin/busybox"].iter().find_map(|path| fs::read(path).ok());
    let mut bytes = tamper::program("busybox", &busybox.expect("busybox-static is installed"));
    bytes.truncate(bytes.len() - 2 * BLOCK);
    bytes
}

fn write_layer(out: &mut impl Write, layer: usize, edition: usize) -> io::Result<Digest> {
    let mut hash = Sha256::new();
    let mut put = |bytes: &[u8]| {
        hash.update(bytes);
        out.write_all(bytes)
    };
    if layer == 0 {
        put(&program())?;
    }
    let mut content = vec![0; 1 << 20];
    for (number, size) in files(layer).into_iter().enumerate() {
        let is_changed = layer == CHANGED && number == FILES.len() - 1;
        let seed = [layer, number, if is_changed { edition } else { 1 }];
        let seed = seed.into_iter().fold(0, |seed, part| seed * 1_000_003 + part as u64);
        put(&tar::header(&format!("data/{layer}/{}/{number}", number / 200), size))?;
        let piece = &mut content[..usize::try_from(size).map_err(io::Error::other)?];
        fill(&mut StdRng::seed_from_u64(seed), piece);
        put(piece)?;
        put(&[0; BLOCK][..tar::padding(size)])?;
    }
    put(&[0; 2 * BLOCK])?;
    Ok(Digest::from_bytes(hash.finalize().into()))
}

/// Half of it noise, half of it letters.
fn fill(random: &mut StdRng, piece: &mut [u8]) {
    random.fill_bytes(piece);
    for page in piece.chunks_mut(4096).skip(1).step_by(2) {
        page.iter_mut().for_each(|byte| *byte = b'a' + (*byte & 15));
    }
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_has_the_size_that_its_header_says_and_differs_where_it_should() {
        let made = |edition| {
            let mut bytes = Vec::new();
            let digest = write_layer(&mut bytes, CHANGED, edition).unwrap();
            assert_eq!(digest, Digest::of(&bytes));
            bytes
        };
        let (one, two) = (made(1), made(2));
        assert_eq!((one.len() as u64, one.len()), (size(CHANGED), two.len()));
        let differing = one.iter().zip(&two).filter(|(a, b)| a != b).count() as u64;
        assert!((1..=FILES[FILES.len() - 1]).contains(&differing), "{differing}");
        assert_eq!(LAYERS.iter().sum::<u64>(), 1024);
        assert_eq!(IMAGES[0].1.len(), 10);
        assert!(IMAGES[0].1.contains(&CHANGED) && IMAGES[1..].iter().all(|(_, l)| !l.contains(&CHANGED)));
    }
}
