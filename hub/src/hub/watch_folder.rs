//! The publish folder: a bundle that is put there is published.
//!
//! A light look every two seconds; a file is taken when it was the same in two looks, so that one that is still being copied is
//! left alone. What was taken or refused is not looked at again until it changes. The file itself stays.

use super::Shared;
use crate::codes;
use crate::error::{Failure, Result};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

/// Between two looks.
const LOOK: Duration = Duration::from_secs(2);

/// What a file looked like: length and time of the last change.
type Look = BTreeMap<PathBuf, (u64, SystemTime)>;

/// Publishes what appears in the folder until stopped.
pub(super) async fn run(shared: Arc<Shared>, folder: PathBuf, stop: CancellationToken) {
    let (mut before, mut done) = (Look::new(), Look::new());
    let mut looks = tokio::time::interval(LOOK);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = looks.tick() => {}
        }
        let Ok(now) = tokio::task::spawn_blocking({
            let folder = folder.clone();
            move || look(&folder)
        })
        .await
        else {
            return;
        };
        done.retain(|path, seen| now.get(path) == Some(seen));
        let take = due(&now, &before, &done);
        for path in take.keys() {
            let (shared, path) = (shared.clone(), path.clone());
            let _ = tokio::task::spawn_blocking(move || publish(&shared, &path)).await;
        }
        done.extend(take);
        before = now;
    }
}

/// Files that are the same as at the last look and were not dealt with as they are.
fn due(now: &Look, before: &Look, done: &Look) -> Look {
    let is_due = |path: &PathBuf, seen| before.get(path) == Some(seen) && done.get(path) != Some(seen);
    now.iter().filter(|(path, seen)| is_due(path, seen)).map(|(path, seen)| (path.clone(), *seen)).collect()
}

fn look(folder: &Path) -> Look {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let seen = entries.filter_map(|entry| {
        let hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
        let metadata = entry.metadata().ok().filter(|metadata| metadata.is_file() && !hidden)?;
        Some((entry.path(), (metadata.len(), metadata.modified().ok()?)))
    });
    seen.collect()
}

fn publish(shared: &Shared, path: &Path) {
    let publish = || -> Result<_> {
        let copy = shared.publisher.incoming()?;
        std::fs::copy(path, &copy)
            .map_err(|error| Failure::new(codes::INPUT, "the file cannot be copied").because(error))?;
        shared.publisher.publish(&shared.releases, &copy, None, shared.now())
    };
    match publish() {
        Ok(outcome) if outcome.already => {
            info!(path = %path.display(), "{} was published before.", path.display())
        }
        Ok(_) => {}
        Err(failure) => {
            error!(path = %path.display(), code = failure.code.id, "{} is not published: {}.", path.display(), failure.chain());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_due_once_when_it_has_stopped_changing() {
        let at = |length| Look::from([("a".into(), (length, SystemTime::UNIX_EPOCH))]);
        let none = Look::new();
        let cases = [
            ("new", at(1), none.clone(), none.clone(), false),
            ("growing", at(2), at(1), none.clone(), false),
            ("complete", at(2), at(2), none.clone(), true),
            ("dealt with", at(2), at(2), at(2), false),
            ("replaced", at(3), at(3), at(2), true),
            ("gone", none.clone(), at(2), none, false),
        ];
        for (name, now, before, done, expected) in cases {
            assert_eq!(due(&now, &before, &done).len(), usize::from(expected), "{name}");
        }
    }

    #[test]
    fn hidden_files_and_folders_are_not_bundles() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(".part"), b"x").unwrap();
        std::fs::create_dir(folder.path().join("sub")).unwrap();
        std::fs::write(folder.path().join("one.kedge"), b"x").unwrap();
        assert_eq!(look(folder.path()).into_keys().collect::<Vec<_>>(), [folder.path().join("one.kedge")]);
        assert!(look(&folder.path().join("missing")).is_empty());
    }
}
