//! Drafts and chains as files.

use super::super::input;
use crate::codes;
use crate::error::{Failure, Result, coded};
use kedge_bundle::ceremony::Draft;
use kedge_bundle::keys::fingerprint;
use kedge_bundle::roles::Root;
use kedge_bundle::verify::{Trust, roots};
use std::io::Write;
use std::path::Path;

/// The root in force, verified as a host would that was given its first fingerprint.
pub(crate) fn in_force(path: &Path) -> Result<Root> {
    verified(&input::roots(&[path.to_owned()])?)
}

/// The newest root of a chain that hosts would take.
pub(crate) fn verified(chain: &[Vec<u8>]) -> Result<Root> {
    let first = chain.first().ok_or_else(|| Failure::new(codes::INPUT, "there is no root document"))?;
    let trust = Trust::pinned(fingerprint(first).map_err(coded)?);
    Ok(roots(&trust, chain).map_err(coded)?.newest)
}

/// The chain in a folder that may be empty.
pub(crate) fn folder(path: &Path) -> Result<Vec<Vec<u8>>> {
    if path.join("1.json").exists() { input::roots(&[path.to_owned()]) } else { Ok(Vec::new()) }
}

/// A draft with the root that it follows: that of the version before its own, where there is a chain.
pub(crate) fn read_draft(path: &Path, chain: &Path) -> Result<Draft> {
    let bytes = input::read(path, input::MAX_DOCUMENT)?;
    let chain = if chain.exists() { input::roots(&[chain.to_owned()])? } else { Vec::new() };
    let mut outcome = Draft::read(&bytes, None);
    // Not version 1: it follows the newest, or one before, where it is in the chain already.
    for length in (1..=chain.len()).rev() {
        if outcome.is_ok() {
            break;
        }
        let followed = Draft::read(&bytes, Some(&verified(&chain[..length])?));
        if followed.is_ok() || length == chain.len() {
            outcome = followed;
        }
    }
    outcome.map_err(coded)
}

/// A draft that follows this root.
pub(crate) fn read(path: &Path, before: Option<&Root>) -> Result<Draft> {
    Draft::read(&input::read(path, input::MAX_DOCUMENT)?, before).map_err(coded)
}

/// Written beside and renamed: a draft is never half of one.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let place = path.parent().filter(|place| !place.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let attempt = || -> std::io::Result<()> {
        let mut builder = tempfile::Builder::new();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        let mut file = builder.permissions(mode).tempfile_in(place)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        std::fs::File::open(place)?.sync_all()
    };
    attempt().map_err(|error| unwritable(path, error))
}

/// Why a file is not there.
pub(crate) fn unwritable(path: &Path, error: std::io::Error) -> Failure {
    Failure::new(codes::OUTPUT, format!("{} cannot be written", path.display())).because(error)
}
