//! An image of a program of ours: the binary as it was built for this run, and the libraries that it is linked to.

use std::fs;
use std::path::Path;
use std::process::Command;

use sha2::{Digest, Sha256};

use super::run::{Context, RigError, output, pipe, run};
use crate::rig::programs;

/// Makes sure that the engine has an image with the program `requests` in `/bin`, and gives its name. The name has a hash of the
/// program in it, so that several builds get along with one engine.
///
/// # Errors
/// [`RigError`] when the engine does not answer or a tool fails.
pub fn ensure_requests() -> Result<String, RigError> {
    let program = programs::path("requests");
    let bytes = fs::read(&program).context("read", &program)?;
    let hash: String = Sha256::digest(&bytes).iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    let name = format!("rig/requests:{hash}");
    if !output(Command::new("docker").args(["image", "ls", "--quiet", &name]))?.trim().is_empty() {
        return Ok(name);
    }
    let work = tempfile::tempdir().context("make a folder in", &std::env::temp_dir())?;
    let stage = work.path();
    take(&program, &stage.join("bin"))?;
    for library in
        output(Command::new("ldd").arg(&program))?.split_whitespace().filter(|word| word.starts_with('/'))
    {
        let folder = Path::new(library).parent().unwrap_or(Path::new("/"));
        take(Path::new(library), &stage.join(folder.strip_prefix("/").unwrap_or(folder)))?;
    }
    let mut tar = Command::new("tar");
    pipe(
        tar.arg("--create").arg("--directory").arg(stage).arg("."),
        Command::new("docker").args(["import", "-", &name]),
    )?;
    Ok(name)
}

/// Copies a file, not a link to it, into a folder of the image.
fn take(file: &Path, folder: &Path) -> Result<(), RigError> {
    fs::create_dir_all(folder).context("make the folder", folder)?;
    run(Command::new("cp").arg("--dereference").arg(file).arg(folder))
}
