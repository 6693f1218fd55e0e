//! The programs under test.

use std::path::PathBuf;

/// The binary with this name: in the folder `KEDGE_PROGRAMS` where it is there (the bench measures a release build),
/// else what `cargo build --workspace --bins` made beside the running test.
///
/// # Panics
/// When it is not there.
pub fn path(name: &str) -> PathBuf {
    let chosen = std::env::var_os("KEDGE_PROGRAMS").map(|folder| PathBuf::from(folder).join(name));
    if let Some(path) = chosen.filter(|path| path.is_file()) {
        return path;
    }
    let test = std::env::current_exe().expect("a process has a path");
    let beside = test.ancestors().skip(1).take(2).map(|folder| folder.join(name)).find(|path| path.is_file());
    beside.unwrap_or_else(|| panic!("{name} is not built: cargo build --workspace --bins"))
}
