//! Whether there is room for a release, asked before the first byte is written.

use std::path::PathBuf;

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

fn enough(path: &PathBuf, needed: u64, reserve: u64) -> Result<(), Problem> {
    // Whoever brings nothing takes nothing of what must stay free.
    if needed == 0 {
        return Ok(());
    }
    let Ok(disk) = statvfs(path) else { return Ok(()) };
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    if free >= needed.saturating_add(reserve) {
        return Ok(());
    }
    let mib = |bytes: u64| bytes.div_ceil(1 << 20);
    Err(Problem::new(
        &codes::NO_SPACE,
        format!(
            "{}: the release needs {} MiB and {} MiB must stay free, but only {} MiB are",
            path.display(),
            mib(needed),
            mib(reserve),
            free >> 20
        ),
    ))
}

/// Bytes free and in all below a folder; zeros where that cannot be told.
pub fn usage(path: &std::path::Path) -> (u64, u64) {
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
    fn on_one_file_system_both_needs_add_up() {
        let folder = tempfile::tempdir().unwrap();
        let (free, _) = usage(folder.path());
        let one =
            Disks { state: folder.path().to_owned(), engine: Some(folder.path().to_owned()), reserve: 0 };
        assert!(one.check(free / 3 * 2, free / 3 * 2).is_err());
        assert!(one.check(free / 3, free / 3).is_ok());
    }
}
