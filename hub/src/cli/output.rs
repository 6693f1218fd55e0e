//! Files that a command writes: nothing that is there is overwritten unasked.

use crate::codes;
use crate::error::{Failure, Result};
use std::path::Path;

/// Says early that a file would be overwritten, or has no folder to be written to.
pub(crate) fn check_new(path: &Path, force: bool) -> Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !folder.is_dir() {
        return Err(Failure::new(
            codes::NO_FOLDER,
            format!("{} cannot be written: there is no folder {}", path.display(), folder.display()),
        ));
    }
    match path.symlink_metadata() {
        Ok(meta) if meta.is_dir() => {
            Err(Failure::new(codes::OUTPUT_EXISTS, format!("{} is a folder", path.display())))
        }
        Ok(_) if !force => {
            Err(Failure::new(codes::OUTPUT_EXISTS, format!("{} is there already", path.display())))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_overwritten_only_by_force_and_a_folder_never() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        assert!(check_new(&path, false).is_ok());
        std::fs::write(&path, "a").unwrap();
        assert_eq!(check_new(&path, false).unwrap_err().code, codes::OUTPUT_EXISTS);
        assert!(check_new(&path, true).is_ok());
        assert_eq!(check_new(folder.path(), true).unwrap_err().code, codes::OUTPUT_EXISTS);
        let lost = folder.path().join("no/such/file");
        assert_eq!(check_new(&lost, true).unwrap_err().code, codes::NO_FOLDER);
    }
}
