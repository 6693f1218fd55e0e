//! Paths of project files: relative, plain, and distinct on every file system.

use std::collections::BTreeMap;

use unicode_normalization::{UnicodeNormalization as _, is_nfc};

use super::Fault;

/// Collects the paths of one project and refuses those that could leave its folder, or that would be one file
/// on a file system that folds case or normalises Unicode.
#[derive(Debug, Default)]
pub struct Paths {
    /// Folded path of every file and folder so far, how it was spelt, and whether it is a file.
    seen: BTreeMap<String, (String, bool)>,
}

impl Paths {
    /// Adds a file.
    ///
    /// # Errors
    /// [`Fault::Path`] that says what is wrong with it.
    pub fn add(&mut self, path: &str) -> Result<(), Fault> {
        let fault = |reason| Fault::Path { path: path.chars().take(256).collect(), reason };
        check(path).map_err(fault)?;
        let parents = path.match_indices('/').map(|(end, _)| (&path[..end], false));
        for (part, is_file) in parents.chain([(path, true)]) {
            let folded: String = part.nfc().flat_map(char::to_lowercase).nfc().collect();
            match self.seen.get(&folded) {
                None => {
                    self.seen.insert(folded, (part.to_owned(), is_file));
                }
                Some((spelt, _)) if spelt != part => {
                    return Err(fault("differs from another path only in case or Unicode form"));
                }
                Some((_, true)) if is_file => return Err(fault("is there twice")),
                Some((_, other)) if *other != is_file => return Err(fault("is a file and a folder")),
                Some(_) => {}
            }
        }
        Ok(())
    }
}

fn check(path: &str) -> Result<(), &'static str> {
    if path.is_empty() || path.len() > 512 {
        return Err("must have 1 to 512 bytes");
    }
    if path.starts_with('/') {
        return Err("must be relative");
    }
    if path.contains('\\') || path.chars().any(char::is_control) {
        return Err("must not contain a backslash or control characters");
    }
    for part in path.split('/') {
        match part {
            "" => return Err("must not have an empty part"),
            "." | ".." => return Err("must not contain `.` or `..`"),
            part if part.len() > 255 => return Err("has a part of more than 255 bytes"),
            _ => {}
        }
    }
    if !is_nfc(path) {
        return Err("must be in Unicode normalisation form C");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_escape_or_collide_are_refused() {
        let long = "x/".repeat(300);
        for (before, path, reason) in [
            ("", "", "1 to 512"),
            ("", &long, "1 to 512"),
            ("", "/etc/passwd", "relative"),
            ("", "../x", "`..`"),
            ("", "a/../x", "`..`"),
            ("", "./x", "`..`"),
            ("", "a//x", "empty part"),
            ("", "a/", "empty part"),
            ("", "a\\b", "backslash"),
            ("", "a\0b", "control"),
            ("", "cafe\u{301}", "form C"),
            ("a", "a", "twice"),
            ("a", "A", "case"),
            ("\u{e9}", "\u{c9}", "case"),
            ("dir/a", "Dir/b", "case"),
            ("a", "a/b", "file and a folder"),
            ("a/b", "a", "file and a folder"),
            ("A/b", "a", "case"),
        ] {
            let mut paths = Paths::default();
            if !before.is_empty() {
                paths.add(before).unwrap();
            }
            let error = paths.add(path).unwrap_err().to_string();
            assert!(error.contains(reason), "{before:?} {path:?}: {error}");
        }
    }

    #[test]
    fn ordinary_projects_pass() {
        let mut paths = Paths::default();
        for path in ["compose.yaml", ".env", "conf/nginx.conf", "conf/sites/a.conf", "b", "b.c", "\u{e9}"] {
            paths.add(path).unwrap();
        }
    }
}
