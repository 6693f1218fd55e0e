//! A count in a file that a crash or a power cut at any moment leaves at its old or its new value: the new value is
//! written beside the old one, flushed, renamed over it, and the rename flushed.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

pub(crate) struct Counter {
    folder: PathBuf,
    /// Held by whoever increments: two increments are two steps.
    turn: Mutex<()>,
}

impl Counter {
    /// The count kept in `folder`; nothing is read or written yet.
    pub(crate) fn open(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), turn: Mutex::new(()) }
    }

    /// The count on disk; 0 before the first increment.
    pub(crate) fn read(&self) -> io::Result<u64> {
        let mut text = String::new();
        match File::open(self.folder.join("count")) {
            Ok(file) => file.take(32).read_to_string(&mut text)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
            Err(error) => return Err(error),
        };
        text.trim().parse().map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }

    /// Adds one and returns the new count, once it is on disk.
    pub(crate) fn increment(&self) -> io::Result<u64> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let count = self.read()?.saturating_add(1);
        let new = self.folder.join("count.new");
        let mut file = File::create(&new)?;
        writeln!(file, "{count}")?;
        file.sync_all()?;
        fs::rename(&new, self.folder.join("count"))?;
        File::open(&self.folder)?.sync_all()?;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("hello-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    #[test]
    fn no_increment_is_lost_between_threads_or_on_reopening() {
        let folder = folder("threads");
        let counter = Counter::open(&folder);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..10).for_each(|_| assert!(counter.increment().unwrap() > 0)));
            }
        });
        assert_eq!(Counter::open(&folder).read().unwrap(), 40);
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_damaged_count_is_an_error_and_is_not_overwritten() {
        let folder = folder("damaged");
        fs::write(folder.join("count"), "many").unwrap();
        let counter = Counter::open(&folder);
        assert_eq!(counter.read().unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert_eq!(counter.increment().unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert_eq!(fs::read_to_string(folder.join("count")).unwrap(), "many");
        fs::remove_dir_all(folder).unwrap();
    }
}
