//! What a thin bundle leaves out: signed by the keys of the release role, for one release.

use super::{Document, Refusal, open_as, payload, threshold};
use crate::delta::{Delta, PAYLOAD_TYPE};
use crate::digest::Digest;
use crate::roles::{Role, Root};

/// Verifies a delta document for the release with this digest.
///
/// It can only leave out and replace what the release lists, and what replaces a layer must give that very layer. So a
/// delta that was signed for a release is no way to bring another, however old it is, and it has no dates of its own.
///
/// # Errors
/// A [`Refusal`] that names the rule.
pub fn delta(root: &Root, release: Digest, document: &[u8]) -> Result<Delta, Refusal> {
    let envelope = open_as(Document::Delta, PAYLOAD_TYPE, document)?;
    threshold(Document::Delta, root.role(Role::Release), &envelope)?;
    of_release(release, &envelope.payload)
}

/// The same without a look at the signatures.
#[cfg(feature = "build")]
pub(super) fn unverified(release: Digest, document: &[u8]) -> Result<Delta, Refusal> {
    of_release(release, &open_as(Document::Delta, PAYLOAD_TYPE, document)?.payload)
}

fn of_release(release: Digest, bytes: &[u8]) -> Result<Delta, Refusal> {
    let delta: Delta = payload(Document::Delta, bytes)?;
    delta.check().map_err(|reason| Refusal::Malformed { document: Document::Delta, reason })?;
    if delta.release != release {
        return Err(Refusal::DeltaRelease { named: delta.release, found: release });
    }
    Ok(delta)
}
