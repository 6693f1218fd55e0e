//! Writes `docs/errors.md` from the catalogues in the code.

use std::path::Path;
use std::process::ExitCode;

use kedge_tests::reference;

fn main() -> ExitCode {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(reference::PATH);
    match std::fs::write(&path, reference::render()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("reference: {}: {error}", path.display());
            ExitCode::FAILURE
        }
    }
}
