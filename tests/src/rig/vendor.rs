//! A software vendor: keys, products, bundles.
//!
//! Building the example servers and their bundles takes a while, and every test is a process of its own. So what all
//! tests share is made once for each build of `kedgectl` and kept in the target folder, under a lock.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::UNIX_EPOCH;

use super::outcome::{Outcome, run};
use super::{images, programs};

/// A vendor's folder: its keys and what it builds.
#[derive(Debug, Clone)]
pub struct Vendor {
    folder: PathBuf,
}

/// What makes one bundle differ from the next of the same product.
#[derive(Debug, Clone)]
pub struct Recipe<'a> {
    /// `hello` or `three-tier`.
    pub product: &'a str,
    /// The version that it says it is. 3.0.0 is broken on purpose.
    pub version: &'a str,
    /// Sequence number in the stream.
    pub seq: u64,
    /// Further flags of `kedgectl bundle build`.
    pub flags: &'a [&'a str],
}

impl Vendor {
    /// The vendor that all tests share.
    ///
    /// # Panics
    /// When the examples cannot be built or no keys can be made.
    pub fn shared() -> Self {
        let target = programs::path("kedgectl").parent().expect("a folder").join("vendors");
        let folder = target.join(format!("vendor-{}", age_of_kedgectl()));
        fs::create_dir_all(&folder).expect("a writable target folder");
        let vendor = Self { folder };
        let _turn = vendor.lock();
        if !vendor.folder.join("products").exists() {
            forget_others(&target, &vendor.folder);
            vendor.make_keys();
            let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../bundles/examples/build");
            // Laid out aside and renamed: what is there is whole.
            let part = vendor.folder.join("products.part");
            run(Command::new(script).arg(&part)).succeeded();
            fs::rename(&part, vendor.folder.join("products")).expect("a writable folder");
        }
        vendor
    }

    /// A vendor of its own, whom nobody trusts yet.
    ///
    /// # Panics
    /// When no keys can be made.
    pub fn another(folder: &Path) -> Self {
        fs::create_dir_all(folder).expect("a writable folder");
        let vendor = Self { folder: folder.to_owned() };
        vendor.make_keys();
        vendor
    }

    fn make_keys(&self) {
        self.kedgectl(&[
            "keys",
            "init",
            "--vendor",
            "Example Ltd",
            "--no-passphrase",
            "--dir",
            &text(&self.keys()),
        ])
        .succeeded();
    }

    /// Runs `kedgectl` with these arguments.
    pub fn kedgectl(&self, arguments: &[&str]) -> Outcome {
        run(Command::new(programs::path("kedgectl")).args(arguments).env("NO_COLOR", "1"))
    }

    /// The folder of the keys.
    pub fn keys(&self) -> PathBuf {
        self.folder.join("keys")
    }

    /// What a customer is told by telephone.
    ///
    /// # Panics
    /// When there are no keys.
    pub fn root_sha256(&self) -> String {
        let shown = self.kedgectl(&["keys", "show", "--dir", &text(&self.keys()), "-o", "json"]).succeeded();
        let shown: serde_json::Value = serde_json::from_str(&shown).expect("JSON");
        shown["root_sha256"].as_str().expect("a fingerprint").to_owned()
    }

    /// One of the shared bundles: version 1.0.0 has sequence number 1, and so on.
    ///
    /// # Panics
    /// When it cannot be built.
    pub fn bundle(&self, product: &str, version: &str) -> PathBuf {
        let path = self.folder.join(format!("{product}-{version}.kedge"));
        let _turn = self.lock();
        if !path.exists() {
            let seq = version.split('.').next().and_then(|n| n.parse().ok()).expect("a version like 2.0.0");
            let part = path.with_extension("part");
            self.build(&Recipe { product, version, seq, flags: &[] }, &part);
            fs::rename(&part, &path).expect("a writable folder");
        }
        path
    }

    /// Builds a bundle to order.
    ///
    /// # Panics
    /// When it cannot be built.
    pub fn build(&self, recipe: &Recipe<'_>, to: &Path) {
        let project = self.project(recipe.product, recipe.version);
        self.build_from(&project, recipe, to).succeeded();
    }

    /// Builds a bundle from a folder of one's own.
    pub fn build_from(&self, project: &Path, recipe: &Recipe<'_>, to: &Path) -> Outcome {
        if recipe.product == "three-tier" {
            images::ensure_three_tier().unwrap_or_else(|e| panic!("{e}"));
        }
        let seq = recipe.seq.to_string();
        let (project, to) = (text(project), text(to));
        let (key, root) = (text(&self.keys().join("release.pem")), text(&self.keys().join("root")));
        let mut arguments = vec!["bundle", "build", &project, "-o", &to];
        arguments.extend(["--release-key", &key, "--root", &root, "--seq", &seq]);
        arguments.extend(recipe.flags);
        self.kedgectl(&arguments)
    }

    /// Builds a bundle that nobody has signed.
    pub fn build_unsigned(&self, project: &Path, seq: u64, to: &Path) {
        let (project, to, root) = (text(project), text(to), text(&self.keys().join("root")));
        let seq = seq.to_string();
        let arguments =
            ["bundle", "build", &project, "-o", &to, "--unsigned", "--root", &root, "--seq", &seq];
        self.kedgectl(&arguments).succeeded();
    }

    /// The folder of a product at a version: one of the three that are laid out, or the first with another number.
    ///
    /// # Panics
    /// When it cannot be laid out.
    pub fn project(&self, product: &str, version: &str) -> PathBuf {
        let products = self.folder.join("products");
        let folder = products.join(format!("{product}-{version}"));
        if !folder.exists() {
            let first = products.join(format!("{product}-1.0.0"));
            let part = products.join(format!("{product}-{version}.part"));
            run(Command::new("cp").arg("-a").arg(&first).arg(&part)).succeeded();
            let compose = part.join("compose.yaml");
            let text = fs::read_to_string(&compose).expect("a compose file");
            fs::write(&compose, text.replace("1.0.0", version)).expect("a writable folder");
            fs::rename(&part, &folder).expect("a writable folder");
        }
        folder
    }

    fn lock(&self) -> File {
        let path = self.folder.join("lock");
        let file = File::create(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        file.lock().unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        file
    }
}

/// A number that changes with every build of `kedgectl` and with the examples.
fn age_of_kedgectl() -> String {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../bundles/examples");
    let mut files = vec![programs::path("kedgectl")];
    files.extend(["hello", "three-tier"].map(|product| examples.join(product).join("compose.yaml")));
    let age = |path: &PathBuf| {
        let modified = fs::metadata(path).and_then(|m| m.modified()).ok();
        modified.and_then(|t| t.duration_since(UNIX_EPOCH).ok()).map_or(0, |d| d.as_nanos())
    };
    format!("{:x}", files.iter().map(age).fold(0, u128::wrapping_add))
}

/// Removes what was made with earlier builds.
fn forget_others(target: &Path, current: &Path) {
    for entry in fs::read_dir(target).into_iter().flatten().flatten() {
        if entry.path() != current {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

fn text(path: &Path) -> String {
    path.display().to_string()
}
