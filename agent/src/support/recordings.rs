//! Recordings on disk: where they are, which there are, and how long they stay. They are the customer's; nothing here sends one.

use std::path::{Path, PathBuf};
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

/// Removes recordings below `folder` that are older than `keep`, but for those of sessions that run. One that cannot be removed
/// is named, and hinders no other.
pub(super) fn prune(folder: &Path, keep: Duration, runs: impl Fn(&str) -> bool) -> Vec<Problem> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut problems = Vec::new();
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        // Only what a session has made: 32 hexadecimal digits.
        let ours = name.len() == 32 && name.bytes().all(|b| b.is_ascii_hexdigit()) && !runs(name);
        let modified =
            entry.metadata().and_then(|meta| meta.modified()).unwrap_or_else(|_| SystemTime::now());
        if ours
            && modified.elapsed().unwrap_or_default() > keep
            && let Err(error) = std::fs::remove_dir_all(entry.path())
        {
            problems.push(state_folder(&entry.path(), &error));
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_removed_hinders_nothing_else_and_what_runs_stays() {
        let folder = tempfile::tempdir().unwrap();
        let old = SystemTime::now() - Duration::from_secs(3600);
        let made = |name: &str, at: SystemTime| {
            let path = folder.path().join(name);
            std::fs::create_dir(&path).unwrap();
            std::fs::File::open(&path).unwrap().set_modified(at).unwrap();
            path
        };
        let name = |digit: &str| digit.repeat(32);
        let gone: Vec<_> = ["a", "c", "e", "f"].map(|digit| made(&name(digit), old)).into();
        let kept = [made(&name("1"), old), made(&name("2"), SystemTime::now()), made("mine", old)];
        // A file in a folder's place cannot be removed as one, whoever asks.
        for digit in ["b", "d"] {
            let path = folder.path().join(name(digit));
            std::fs::write(&path, "").unwrap();
            std::fs::File::options().write(true).open(&path).unwrap().set_modified(old).unwrap();
        }
        let problems = prune(folder.path(), Duration::from_secs(60), |grant| grant == name("1"));
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(gone.iter().all(|path| !path.exists()) && kept.iter().all(|path| path.exists()));
    }
}
