//! Files that a command line names: read whole, up to a limit.

use crate::codes;
use crate::error::{Failure, Result};
use std::io::Read;
use std::path::{Path, PathBuf};

/// Largest signed document, in bytes.
pub(crate) const MAX_DOCUMENT: u64 = 4 << 20;

/// Reads a file of at most `limit` bytes.
pub(crate) fn read(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let unreadable = |error: std::io::Error| {
        Failure::new(codes::INPUT, format!("{} cannot be read", path.display())).because(error)
    };
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > limit {
        return Err(Failure::new(codes::INPUT, format!("{} has more than {limit} bytes", path.display())));
    }
    Ok(bytes)
}

/// Says early, and as a mistake in the command line, that a file is not there.
pub(crate) fn check_readable(path: &Path) -> Result<()> {
    let opened = std::fs::File::open(path).and_then(|file| file.metadata());
    let reason = match opened {
        Ok(metadata) if metadata.is_dir() => std::io::ErrorKind::IsADirectory.into(),
        Ok(_) => return Ok(()),
        Err(error) => error,
    };
    Err(Failure::new(codes::INPUT, format!("{} cannot be read", path.display())).because(reason))
}

/// The same as [`read`], as text.
pub(crate) fn read_text(path: &Path, limit: u64) -> Result<String> {
    String::from_utf8(read(path, limit)?)
        .map_err(|_| Failure::new(codes::INPUT, format!("{} is not UTF-8 text", path.display())))
}

/// A chain of root documents: files, version 1 first, or a folder with `1.json`, `2.json`… (or, in it, the folder
/// `root`).
pub(crate) fn roots(paths: &[PathBuf]) -> Result<Vec<Vec<u8>>> {
    let mut chain = Vec::new();
    for path in paths {
        if !path.is_dir() {
            chain.push(read(path, MAX_DOCUMENT)?);
            continue;
        }
        let inner = path.join("root");
        let folder = if inner.is_dir() { &inner } else { path };
        let versions = (1..).map(|version| folder.join(format!("{version}.json")));
        for file in versions.take_while(|file| file.exists()).take(kedge_bundle::verify::MAX_ROOTS) {
            chain.push(read(&file, MAX_DOCUMENT)?);
        }
        if chain.is_empty() {
            return Err(Failure::new(
                codes::INPUT,
                format!("{} holds no root document 1.json", folder.display()),
            ));
        }
    }
    Ok(chain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_of_roots_is_read_from_a_file_a_folder_or_the_folder_of_keys() {
        let keys = tempfile::tempdir().unwrap();
        let folder = keys.path().join("root");
        std::fs::create_dir(&folder).unwrap();
        for (name, text) in [("1.json", "one"), ("2.json", "two"), ("4.json", "gap")] {
            std::fs::write(folder.join(name), text).unwrap();
        }
        let both = vec![b"one".to_vec(), b"two".to_vec()];
        assert_eq!(roots(&[keys.path().to_owned()]).unwrap(), both);
        assert_eq!(roots(std::slice::from_ref(&folder)).unwrap(), both);
        assert_eq!(roots(&[folder.join("1.json"), folder.join("2.json")]).unwrap(), both);
        let empty = tempfile::tempdir().unwrap();
        assert_eq!(roots(&[empty.path().to_owned()]).unwrap_err().code, codes::INPUT);
    }

    #[test]
    fn a_file_beyond_the_limit_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "12345").unwrap();
        assert_eq!(read(file.path(), 5).unwrap(), b"12345");
        assert_eq!(read(file.path(), 4).unwrap_err().code, codes::INPUT);
    }
}
