//! Names and folders that no other test, and no other run, has.

/// `prefix` with eight letters and digits behind it.
pub fn unique(prefix: &str) -> String {
    format!("{prefix}{:08x}", rand::random::<u32>())
}

/// A folder that is removed when this goes out of scope.
///
/// # Panics
/// When there is none to be had.
pub fn scratch(prefix: &str) -> tempfile::TempDir {
    tempfile::Builder::new().prefix(prefix).tempdir().expect("a folder")
}
