//! The images that the tests run: real PostgreSQL, Redis and nginx, and busybox, made from Debian packages and kept.
//!
//! An image is looked for in the engine, then as a tar in the cache folder, and only then made, which takes about a
//! minute and, for a host without `debootstrap`, root. The key of both caches is a hash of the recipe, so a changed
//! recipe is a new image under the same name. A lock file lets parallel test processes make each image once.

mod debian;
mod host;
mod own;
mod run;

pub use host::Suite;
pub use own::ensure_requests;
pub use run::RigError;

use run::{Context, output, run};
use sha2::{Digest, Sha256};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

/// PostgreSQL 15, told what to do by the variables and paths of the official image.
pub const POSTGRES: &str = "rig/postgres:15";
/// Redis 7, with the official image's user, folder and command.
pub const REDIS: &str = "rig/redis:7";
/// nginx 1.22; runs as any user with a configuration mounted at `/etc/nginx/nginx.conf`.
pub const NGINX: &str = "rig/nginx:1.22";
/// A static busybox with all its applets, `/bin/sh` among them; of the Debian release that the tests run on.
pub const BUSYBOX: &str = "rig/busybox:1";

const LABEL: &str = "dev.kedge.rig.recipe";

/// Where images were found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// In the engine: nothing had to be done.
    Engine,
    /// In the cache folder.
    Cache,
    /// Nowhere: they were made.
    Made,
}

/// Makes sure that the engine has [`POSTGRES`], [`REDIS`] and [`NGINX`], each as its present recipe says.
///
/// # Errors
/// [`RigError`] when the engine does not answer or a tool fails; what was begun is removed.
pub fn ensure_three_tier() -> Result<Origin, RigError> {
    ensure("three-tier", &[POSTGRES, REDIS, NGINX], debian::SOURCES, debian::make_three_tier)
}

/// Makes sure that the engine has [`BUSYBOX`].
///
/// # Errors
/// As [`ensure_three_tier`].
pub fn ensure_busybox() -> Result<Origin, RigError> {
    ensure("busybox", &[BUSYBOX], debian::SOURCES, debian::make_busybox)
}

/// Makes sure that the engine has a customer's host of this suite. See [`super::machine`].
///
/// # Errors
/// As [`ensure_three_tier`].
pub fn ensure_host(suite: Suite) -> Result<Origin, RigError> {
    ensure(suite.set(), &[suite.image()], host::SOURCES, |label, work| host::make(suite, label, work))
}

/// `make` is given the label that each image must carry, and an empty folder to work in.
fn ensure(
    set: &str,
    names: &[&str],
    sources: &[&str],
    make: impl FnOnce(&str, &Path) -> Result<(), RigError>,
) -> Result<Origin, RigError> {
    let key = recipe_key(sources);
    let cache = cache_folder()?;
    fs::create_dir_all(&cache).context("make the folder", &cache)?;
    let _turn = turn(set)?;
    if in_engine(names, &key)? {
        return Ok(Origin::Engine);
    }
    let tar = cache.join(format!("{set}-{key}.tar"));
    if tar.exists() {
        run(Command::new("docker").args(["image", "load", "--quiet", "--input"]).arg(&tar))?;
        if in_engine(names, &key)? {
            return Ok(Origin::Cache);
        }
    }
    let work = tempfile::tempdir().context("make a folder in", &std::env::temp_dir())?;
    make(&format!("LABEL {LABEL}={key}"), work.path())?;
    // Written aside and renamed: a tar that is there is whole.
    let part = tar.with_extension("part");
    run(Command::new("docker").args(["image", "save", "--output"]).arg(&part).args(names))?;
    forget_older(&cache, set)?;
    // Earlier recipes' images have lost their name to the new ones.
    let ours = format!("label={LABEL}");
    run(Command::new("docker").args(["image", "prune", "--force", "--filter", &ours]))?;
    fs::rename(&part, &tar).context("rename to", &tar)?;
    Ok(Origin::Made)
}

/// Whose turn it is to make something that there is to be once, among all processes of this user; until it is dropped.
pub(super) fn turn(name: &str) -> Result<File, RigError> {
    let cache = cache_folder()?;
    fs::create_dir_all(&cache).context("make the folder", &cache)?;
    let lock = cache.join(format!("{name}.lock"));
    let file = File::create(&lock).context("open", &lock)?;
    file.lock().context("lock", &lock)?;
    Ok(file)
}

/// A short hash of everything that decides what is in an image: the recipe's own source.
fn recipe_key(sources: &[&str]) -> String {
    let mut hash = Sha256::new();
    for text in sources {
        hash.update((text.len() as u64).to_be_bytes());
        hash.update(text);
    }
    hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

fn cache_folder() -> Result<PathBuf, RigError> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("KEDGE_CACHE").or_else(|| Some(set("HOME")?.join(".cache/kedge"))).ok_or(RigError::NoCacheFolder)
}

fn in_engine(names: &[&str], key: &str) -> Result<bool, RigError> {
    let format =
        format!("{{{{range .RepoTags}}}}{{{{.}}}} {{{{end}}}}{{{{index .Config.Labels \"{LABEL}\"}}}}");
    // Listing first keeps "no such image" apart from "no engine".
    let filter = format!("label={LABEL}={key}");
    let ids =
        output(Command::new("docker").args(["image", "ls", "--quiet", "--no-trunc", "--filter", &filter]))?;
    let ids: Vec<&str> = ids.split_whitespace().collect();
    if ids.is_empty() {
        return Ok(false);
    }
    let tags = output(Command::new("docker").args(["image", "inspect", "--format", &format]).args(ids))?;
    Ok(names.iter().all(|name| tags.split_whitespace().any(|tag| tag == *name)))
}

/// Removes the tars of earlier recipes.
fn forget_older(cache: &Path, set: &str) -> Result<(), RigError> {
    for entry in fs::read_dir(cache).context("list", cache)? {
        let path = entry.context("list", cache)?.path();
        let ours =
            path.file_name().and_then(OsStr::to_str).is_some_and(|name| name.starts_with(&format!("{set}-")));
        if ours && path.extension() == Some(OsStr::new("tar")) {
            fs::remove_file(&path).context("remove", &path)?;
        }
    }
    Ok(())
}
