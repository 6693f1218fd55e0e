//! One agent per state folder.

use std::fs::{File, OpenOptions};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

use super::state_folder;
use crate::codes;
use crate::problem::Problem;

/// Held for as long as the agent runs; the kernel lets go of it however the process ends.
#[derive(Debug)]
pub struct FolderLock {
    _file: File,
}

impl FolderLock {
    /// Takes the folder.
    ///
    /// # Errors
    /// [`codes::ALREADY_RUNNING`] when another process holds it, [`codes::STATE_FOLDER`] when it cannot be used.
    pub fn take(folder: &Path) -> Result<Self, Problem> {
        std::fs::create_dir_all(folder).map_err(|e| state_folder(folder, &e))?;
        let path = folder.join("lock");
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|e| state_folder(&path, &e))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { _file: file }),
            Err(rustix::io::Errno::WOULDBLOCK) => {
                Err(Problem::new(&codes::ALREADY_RUNNING, format!("{} is locked", path.display())))
            }
            Err(e) => Err(state_folder(&path, &e.into())),
        }
    }
}
