//! Recordings on disk: where they are, which there are, and how long they stay. They are the customer's; nothing here sends one.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use crate::problem::Problem;
use crate::store::state_folder;
use crate::world::World;

/// The folder of all recordings.
pub(super) fn folder(world: &World) -> PathBuf {
    let own = || world.config.state_dir.join("support/recordings");
    world.rules.support.recordings.clone().unwrap_or_else(own)
}

/// Files of one session's recording.
pub(super) fn list(world: &World, grant: &str) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder(world).join(grant))
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// Removes recordings that are older than guard.toml keeps them.
///
/// # Errors
/// When one cannot be removed.
pub(super) fn prune(world: &World) -> Result<(), Problem> {
    let folder = folder(world);
    let keep = Duration::from_secs(u64::from(world.rules.support.keep_days) * 24 * 3600);
    let Ok(entries) = std::fs::read_dir(&folder) else { return Ok(()) };
    for entry in entries.flatten() {
        let name = entry.file_name();
        // Only what a session has made: 32 hexadecimal digits.
        let ours =
            name.to_str().is_some_and(|name| name.len() == 32 && name.bytes().all(|b| b.is_ascii_hexdigit()));
        let modified =
            entry.metadata().and_then(|meta| meta.modified()).unwrap_or_else(|_| SystemTime::now());
        if ours && modified.elapsed().unwrap_or_default() > keep {
            std::fs::remove_dir_all(entry.path()).map_err(|e| state_folder(&entry.path(), &e))?;
        }
    }
    Ok(())
}
