//! The host's own key.

use std::path::Path;

use kedge_bundle::support::tunnel::PrivateKey;

use crate::codes;
use crate::problem::Problem;
use crate::store::{state_folder, write_file};

/// This host's key for tunnels; made once, for its owner's eyes only.
pub(super) fn of_host(folder: &Path) -> Result<(PrivateKey, String), Problem> {
    let (private, public) = (folder.join("host.key"), folder.join("host.pub"));
    let broken = |why: &str| Problem::new(&codes::STATE_FOLDER, format!("{}: {why}", private.display()));
    if private.exists() {
        let text = zeroize::Zeroizing::new(
            std::fs::read_to_string(&private).map_err(|e| state_folder(&private, &e))?,
        );
        let key = PrivateKey::from_hex(&text).map_err(|e| broken(&e.to_string()))?;
        let public = std::fs::read_to_string(&public).map_err(|e| state_folder(&public, &e))?;
        return Ok((key, public.trim().to_owned()));
    }
    let (key, hex) = PrivateKey::generate().map_err(|e| broken(&e.to_string()))?;
    // The private half last: where it is, the other is too.
    write_file(&public, format!("{hex}\n").as_bytes(), 0o600)?;
    write_file(&private, key.reveal().as_bytes(), 0o600)?;
    Ok((key, hex))
}
