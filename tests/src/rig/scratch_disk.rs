//! A disk of one's own: ext4 in a file, mounted through a loop device.
//!
//! A copy of the file, taken while whoever writes is held, is what a power cut would have left: the file holds what
//! the file system above has sent to its "disk" and nothing that is still in memory.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Size of the file, bytes. It is sparse: what is not written takes no space.
const SIZE: u64 = 64 * 1024 * 1024;

/// An image file with a file system in it.
#[derive(Debug)]
pub struct Image {
    path: PathBuf,
}

/// An image that is mounted until this goes out of scope.
#[derive(Debug)]
pub struct Mounted {
    folder: PathBuf,
}

impl Image {
    /// Makes an empty file system.
    ///
    /// # Errors
    /// When the file cannot be made or `mkfs.ext4` fails.
    pub fn make(path: PathBuf) -> io::Result<Self> {
        std::fs::File::create(&path)?.set_len(SIZE)?;
        run(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&path))?;
        Ok(Self { path })
    }

    /// What a power cut at this moment would leave. Hold the writer first.
    ///
    /// # Errors
    /// When the copy fails.
    pub fn copy_as_it_is(&self, to: PathBuf) -> io::Result<Self> {
        run(Command::new("cp").arg("--sparse=always").arg(&self.path).arg(&to))?;
        Ok(Self { path: to })
    }

    /// Mounts it on a folder, which is made.
    ///
    /// # Errors
    /// When mounting fails: not root, no free loop device, or not a file system any more.
    pub fn mount(&self, folder: PathBuf) -> io::Result<Mounted> {
        std::fs::create_dir_all(&folder)?;
        // mount(8) takes a free loop device, and the kernel gives it back at the unmount.
        run(Command::new("mount").args(["-t", "ext4", "-o", "loop"]).arg(&self.path).arg(&folder))?;
        Ok(Mounted { folder })
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Mounted {
    /// Where it is mounted.
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Err(error) = run(Command::new("umount").arg(&self.folder)) {
            eprintln!("{} stays mounted: {error}", self.folder.display());
        }
    }
}

fn run(command: &mut Command) -> io::Result<()> {
    let output = command.output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(io::Error::other(format!("{} failed, {}: {said}", command.get_program().display(), output.status)))
}
