//! The statement of what is newest, signed by the hub's only key that a host's verifier knows.
//!
//! It can hold a host back no longer than it lives (24 hours) and can choose nothing: every line names a
//! release that the vendor signed. One is made per site, so that no site learns of another's releases.

use super::releases::Published;
use crate::codes;
use crate::error::{Failure, Result};
use jiff::{SignedDuration, Timestamp};
use kedge_bundle::roles::{FORMAT, Fresh, Newest, PublicKey, Role, Root};
use kedge_bundle::sign::{self, Signer};

/// How long a statement lives.
pub const LIFE: SignedDuration = SignedDuration::from_hours(24);
/// How often it is made again.
pub const RENEWAL: std::time::Duration = std::time::Duration::from_secs(3600);

/// The statement that names these releases.
pub fn statement<'a>(newest: impl IntoIterator<Item = &'a Published>, now: Timestamp) -> Fresh {
    let streams = newest
        .into_iter()
        .map(|release| Newest {
            product: release.product.clone(),
            stream: release.stream.clone(),
            seq: release.seq,
            release: release.digest,
        })
        .collect();
    Fresh { format: FORMAT, issued: now, expires: now + LIFE, streams }
}

/// The same, signed: the envelope.
pub fn signed<'a>(
    newest: impl IntoIterator<Item = &'a Published>,
    now: Timestamp,
    key: &dyn Signer,
) -> Result<Vec<u8>> {
    sign::fresh(&statement(newest, now), &[key]).map_err(|error| {
        Failure::new(codes::FRESH_KEY, "the statement of what is newest was not signed").because(error)
    })
}

/// Refuses a key that no host would believe.
pub fn check_key(root: &Root, key: &dyn Signer) -> Result<()> {
    let public = PublicKey::new(&key.public(), None).public;
    let role = root.role(Role::Fresh);
    if !role.keys.iter().any(|listed| listed.public == public) {
        let message = format!("root version {} does not list this key for the fresh role", root.version);
        return Err(Failure::new(codes::FRESH_KEY, message));
    }
    if role.threshold > 1 {
        let message = format!(
            "root version {} wants {} signatures on statements, a hub gives one",
            root.version, role.threshold
        );
        return Err(Failure::new(codes::FRESH_KEY, message));
    }
    Ok(())
}
