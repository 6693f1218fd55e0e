//! Whether there is room for a release, asked before the first byte is written.

use std::path::{Path, PathBuf};

use rustix::fs::statvfs;

use super::intake::Room;
use crate::codes;
use crate::problem::Problem;

/// Looks at the file systems themselves.
#[derive(Debug, Clone)]
pub struct Disks {
    /// The agent's state folder: blobs go there.
    pub state: PathBuf,
    /// The engine's folder, where it can be seen: unpacked layers go there.
    pub engine: Option<PathBuf>,
    /// What must stay free on each, bytes.
    pub reserve: u64,
}

impl Room for Disks {
    fn could_hold(&self, content_bytes: u64, unpacked_bytes: u64) -> Result<(), Problem> {
        let (path, needed) = match &self.engine {
            Some(engine) => (engine, content_bytes.max(unpacked_bytes)),
            None => (&self.state, content_bytes),
        };
        let (_, size) = usage(path);
        if size == 0 || size >= needed.saturating_add(self.reserve) {
            return Ok(());
        }
        Err(lack(path, needed, self.reserve, &format!("it has only {} MiB in all", size >> 20)))
    }

    fn check(&self, content_bytes: u64, unpacked_bytes: u64) -> Result<(), Problem> {
        let same = |a: &PathBuf, b: &PathBuf| {
            let device = |p: &PathBuf| rustix::fs::stat(p).map(|s| s.st_dev).ok();
            device(a).is_some() && device(a) == device(b)
        };
        match &self.engine {
            Some(engine) if same(&self.state, engine) => {
                enough(&self.state, content_bytes.saturating_add(unpacked_bytes), self.reserve)
            }
            Some(engine) => {
                enough(&self.state, content_bytes, self.reserve)?;
                enough(engine, unpacked_bytes, self.reserve)
            }
            None => enough(&self.state, content_bytes, self.reserve),
        }
    }
}

fn enough(path: &Path, needed: u64, reserve: u64) -> Result<(), Problem> {
    // Whoever brings nothing takes nothing of what must stay free.
    if needed == 0 {
        return Ok(());
    }
    let Ok(disk) = statvfs(path) else { return Ok(()) };
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    if free >= needed.saturating_add(reserve) {
        return Ok(());
    }
    Err(lack(path, needed, reserve, &format!("only {} MiB are", free >> 20)))
}

fn lack(path: &Path, needed: u64, reserve: u64, but: &str) -> Problem {
    let mib = |bytes: u64| bytes.div_ceil(1 << 20);
    let (needed, reserve) = (mib(needed), mib(reserve));
    Problem::new(
        &codes::NO_SPACE,
        format!(
            "{}: the release needs {needed} MiB and {reserve} MiB must stay free, but {but}",
            path.display()
        ),
    )
}

/// What falls to `some` of `all` packed bytes when all of them together take so much unpacked: their share of it, since
/// only the sum is signed.
#[must_use]
pub fn share(unpacked: u64, some: u64, all: u64) -> u64 {
    let share = u128::from(unpacked) * u128::from(some.min(all)) / u128::from(all.max(1));
    u64::try_from(share).unwrap_or(unpacked)
}

/// Bytes free and in all below a folder; zeros where that cannot be told.
pub fn usage(path: &Path) -> (u64, u64) {
    statvfs(path)
        .map_or((0, 0), |d| (d.f_bavail.saturating_mul(d.f_frsize), d.f_blocks.saturating_mul(d.f_frsize)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_too_small_is_named_with_what_is_needed() {
        let folder = tempfile::tempdir().unwrap();
        let disks = Disks { state: folder.path().to_owned(), engine: None, reserve: 1 << 20 };
        disks.check(1, 1).unwrap();
        let full = Disks { reserve: u64::MAX, ..disks.clone() };
        assert!(full.check(1, 0).is_err());
        full.check(0, 0).unwrap();
        let problem = disks.check(u64::MAX / 2, 0).unwrap_err();
        assert_eq!(problem.code, codes::NO_SPACE);
        assert!(problem.message.contains(&*folder.path().to_string_lossy()), "{problem}");
    }

    #[test]
    fn what_no_disk_here_could_ever_hold_is_named_whatever_is_missing_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let (_, size) = usage(folder.path());
        let state = Disks { state: folder.path().to_owned(), engine: None, reserve: 1 << 20 };
        state.could_hold(size / 2, size * 2).unwrap();
        assert_eq!(state.could_hold(size, 0).unwrap_err().code, codes::NO_SPACE);
        let both = Disks { engine: Some(folder.path().to_owned()), ..state };
        assert_eq!(both.could_hold(size / 2, size * 2).unwrap_err().code, codes::NO_SPACE);
        both.could_hold(size / 2, size / 2).unwrap();
    }

    #[test]
    fn what_some_layers_take_is_their_share_of_what_was_signed_for_all() {
        let most = u64::MAX;
        for (unpacked, some, all, expected) in [
            (100, 1, 4, 25),
            (100, 0, 4, 0),
            (100, 4, 4, 100),
            (100, 9, 4, 100),
            (100, 0, 0, 0),
            (most, most, most, most),
        ] {
            assert_eq!(share(unpacked, some, all), expected, "{some} of {all}");
        }
    }

    #[test]
    fn on_one_file_system_both_needs_add_up() {
        let folder = tempfile::tempdir().unwrap();
        let (free, _) = usage(folder.path());
        let one =
            Disks { state: folder.path().to_owned(), engine: Some(folder.path().to_owned()), reserve: 0 };
        assert!(one.check(free / 3 * 2, free / 3 * 2).is_err());
        assert!(one.check(free / 3, free / 3).is_ok());
    }
}
