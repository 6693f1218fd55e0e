//! Where a project's files come from: a folder, or memory (on a customer's host, the files of a signed bundle).
//!
//! [`DirFiles`] is the only place of this crate that touches the file system.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::paths;

/// What a path leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// A file.
    File,
    /// A folder.
    Dir,
}

/// Why a file could not be read.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// There is none.
    #[error("{0}: no such file")]
    Missing(String),
    /// It is outside the folder that reading is confined to.
    #[error("{0}: outside the project's folder")]
    Escapes(String),
    /// It is larger than the limit given, in bytes.
    #[error("{path}: larger than {limit} bytes")]
    TooLarge {
        /// The file.
        path: String,
        /// The limit, bytes.
        limit: u64,
    },
    /// Anything else the system said.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
}

/// A source of files. Paths are clean, and absolute whenever the project's folder is.
pub trait Files {
    /// The whole file.
    ///
    /// # Errors
    /// When there is none, it is outside the confines, larger than `limit` bytes, or unreadable.
    fn read(&self, path: &str, limit: u64) -> Result<Vec<u8>, FileError>;

    /// What a path leads to; `None` when to nothing, or outside the confines.
    fn kind(&self, path: &str) -> Option<FileKind>;
}

/// Files held in memory, below a root that need not exist.
#[derive(Debug, Clone, Default)]
pub struct MemoryFiles {
    root: String,
    files: BTreeMap<String, Vec<u8>>,
}

impl MemoryFiles {
    /// No files, below `root` (for example the folder that a bundle will be unpacked to, or `/`).
    #[must_use]
    pub fn new(root: &str) -> Self {
        Self { root: paths::clean(root), files: BTreeMap::new() }
    }

    /// Adds a file by its path below the root; a path that leads out of the root is never found.
    pub fn insert(&mut self, path: &str, content: impl Into<Vec<u8>>) {
        self.files.insert(paths::clean(path), content.into());
    }

    /// The same, for building in one expression.
    #[must_use]
    pub fn with(mut self, path: &str, content: impl Into<Vec<u8>>) -> Self {
        self.insert(path, content);
        self
    }
}

impl Files for MemoryFiles {
    fn read(&self, path: &str, limit: u64) -> Result<Vec<u8>, FileError> {
        let path = paths::clean(path);
        let inside = paths::within(&self.root, &path).ok_or_else(|| FileError::Escapes(path.clone()))?;
        let content = self.files.get(inside).ok_or_else(|| FileError::Missing(path.clone()))?;
        if content.len() as u64 > limit {
            return Err(FileError::TooLarge { path, limit });
        }
        Ok(content.clone())
    }

    fn kind(&self, path: &str) -> Option<FileKind> {
        let path = paths::clean(path);
        let inside = paths::within(&self.root, &path)?;
        if self.files.contains_key(inside) {
            return Some(FileKind::File);
        }
        let folder = format!("{inside}/");
        let any = inside == "." || self.files.keys().any(|name| name.starts_with(&folder));
        any.then_some(FileKind::Dir)
    }
}

/// Files of the file system, confined to a folder or not.
#[derive(Debug, Clone)]
pub struct DirFiles {
    root: Option<PathBuf>,
}

impl DirFiles {
    /// Any file that the process may read.
    #[must_use]
    pub fn unconfined() -> Self {
        Self { root: None }
    }

    /// Only files below `root`; a symbolic link that leads out of it is refused too.
    ///
    /// # Errors
    /// When `root` does not exist.
    pub fn confined(root: &Path) -> Result<Self, FileError> {
        let path = root.display().to_string();
        let root = root.canonicalize().map_err(|source| FileError::Io { path, source })?;
        Ok(Self { root: Some(root) })
    }

    /// The real path, links resolved, when it is within the confines.
    fn real(&self, path: &str) -> Result<PathBuf, FileError> {
        let real = Path::new(path).canonicalize().map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => FileError::Missing(path.to_owned()),
            _ => FileError::Io { path: path.to_owned(), source },
        })?;
        match &self.root {
            Some(root) if !real.starts_with(root) => Err(FileError::Escapes(path.to_owned())),
            _ => Ok(real),
        }
    }
}

impl Files for DirFiles {
    fn read(&self, path: &str, limit: u64) -> Result<Vec<u8>, FileError> {
        let io = |source| FileError::Io { path: path.to_owned(), source };
        let real = self.real(path)?;
        // A device or a pipe could block or never end; asked before opening, since opening a pipe blocks.
        if !real.metadata().map_err(io)?.is_file() {
            return Err(FileError::Io {
                path: path.to_owned(),
                source: std::io::Error::other("not a regular file"),
            });
        }
        let mut content = Vec::new();
        let file = std::fs::File::open(real).map_err(io)?;
        file.take(limit.saturating_add(1)).read_to_end(&mut content).map_err(io)?;
        if content.len() as u64 > limit {
            return Err(FileError::TooLarge { path: path.to_owned(), limit });
        }
        Ok(content)
    }

    fn kind(&self, path: &str) -> Option<FileKind> {
        let real = self.real(path).ok()?;
        Some(if real.is_dir() { FileKind::Dir } else { FileKind::File })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_knows_files_folders_and_its_confines() {
        let files = MemoryFiles::new("/p").with("sub/a.env", "A=1").with("../../etc/shadow", "x");
        assert_eq!(files.kind("/p/sub"), Some(FileKind::Dir));
        assert_eq!(files.kind("/p/sub/a.env"), Some(FileKind::File));
        assert_eq!(files.kind("/p/su"), None);
        assert!(matches!(files.read("/p/../etc/shadow", 10), Err(FileError::Escapes(_))));
        assert!(matches!(files.read("/p/nope", 10), Err(FileError::Missing(_))));
        assert!(matches!(files.read("/p/sub/a.env", 2), Err(FileError::TooLarge { .. })));
    }

    #[test]
    fn a_confined_folder_refuses_links_that_lead_out() {
        let folder = tempfile::tempdir().unwrap();
        let inside = folder.path().join("in");
        std::fs::create_dir(&inside).unwrap();
        std::fs::write(folder.path().join("secret"), "x").unwrap();
        std::fs::write(inside.join("ok"), "y").unwrap();
        std::os::unix::fs::symlink(folder.path().join("secret"), inside.join("link")).unwrap();
        let files = DirFiles::confined(&inside).unwrap();
        let path = |name: &str| inside.join(name).display().to_string();
        assert_eq!(files.read(&path("ok"), 10).unwrap(), b"y");
        assert!(matches!(files.read(&path("link"), 10), Err(FileError::Escapes(_))));
        assert!(matches!(files.read(&path("../secret"), 10), Err(FileError::Escapes(_))));
        assert_eq!(files.kind(&path("link")), None);
        assert_eq!(DirFiles::unconfined().read(&path("link"), 10).unwrap(), b"x");
    }
}
