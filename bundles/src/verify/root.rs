//! The chain of root documents (TUF 5.3).

use super::{AcceptedRoot, Document, Refusal, Trust, open, payload, threshold};
use crate::digest::Digest;
use crate::roles::{Role, Root};

/// More root documents than this are refused; each costs signature checks.
pub const MAX_ROOTS: usize = 512;

/// The outcome of [`roots`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootSet {
    /// The root in force: the newest of the chain and of what the host had accepted.
    pub newest: Root,
    /// The same, to be remembered, when it is newer than what the host had.
    pub accepted: Option<AcceptedRoot>,
    /// Length of the chain that was offered.
    pub versions: u64,
}

/// Verifies a chain of root envelopes, version 1 first, against what the host trusts.
///
/// - TUF 5.3.4: each root is signed by the threshold of the one before *and* by its own; the first by its own.
/// - TUF 5.3.5: versions rise by one, so none is skipped. Epochs never fall.
/// - The pinned fingerprint is in the chain, and where the host has accepted a root of a version in
///   the chain, it is that very one.
/// - TUF 5.3.10: expiry is checked by the callers, on [`RootSet::newest`] only: an expired root may lead to a newer one.
///
/// # Errors
/// A [`Refusal`] that names the rule.
pub fn roots(trust: &Trust, chain: &[Vec<u8>]) -> Result<RootSet, Refusal> {
    if chain.is_empty() || chain.len() > MAX_ROOTS {
        return Err(Refusal::RootCount(chain.len()));
    }
    let mut pinned = false;
    let mut conflict = None;
    let mut newest: Option<(Root, Digest, &[u8])> = None;
    for (bytes, expected) in chain.iter().zip(1..) {
        let (root, fingerprint) = link(newest.as_ref().map(|(root, ..)| root), bytes, expected)?;
        pinned |= fingerprint == trust.pinned;
        if let Some(known) = trust.root.as_ref().filter(|known| known.version == expected)
            && known.fingerprint != fingerprint
        {
            let accepted = known.fingerprint;
            conflict = Some(Refusal::RootConflict { version: expected, accepted, found: fingerprint });
        }
        newest = Some((root, fingerprint, bytes));
    }
    // A host that has accepted a root beyond the chain's end may have been pinned beyond it, too: then the chain
    // proves nothing and the accepted root decides alone.
    let beyond = trust.root.as_ref().is_some_and(|known| known.version > chain.len() as u64);
    // A chain without the pinned root is a stranger's, not this vendor's contradicting itself.
    if !pinned && (conflict.is_some() || !beyond) {
        return Err(Refusal::UnknownRoot { pinned: trust.pinned, versions: chain.len() });
    }
    if let Some(conflict) = conflict {
        return Err(conflict);
    }
    let Some((root, fingerprint, bytes)) = newest else { return Err(Refusal::RootCount(0)) };
    let versions = chain.len() as u64;
    match &trust.root {
        Some(known) if known.version > root.version => {
            Ok(RootSet { newest: known.document()?, accepted: None, versions })
        }
        Some(known) if known.version == root.version => {
            Ok(RootSet { newest: root, accepted: None, versions })
        }
        _ => {
            let envelope = String::from_utf8_lossy(bytes).into_owned();
            let accepted = AcceptedRoot { version: root.version, epoch: root.epoch, fingerprint, envelope };
            Ok(RootSet { newest: root, accepted: Some(accepted), versions })
        }
    }
}

/// Verifies one root document as the successor of `before`.
fn link(before: Option<&Root>, bytes: &[u8], expected: u64) -> Result<(Root, Digest), Refusal> {
    let document = Document::Root;
    let envelope = open(Role::Root, bytes)?;
    if let Some(before) = before {
        threshold(document, before.role(Role::Root), &envelope)?;
    }
    // The first root vouches for itself, so its keys have to be read before they can be used. What makes it
    // trusted is the fingerprint, which covers the same bytes.
    let root: Root = payload(document, &envelope.payload)?;
    root.check().map_err(|reason| Refusal::Malformed { document, reason })?;
    threshold(document, root.role(Role::Root), &envelope)?;
    if root.version != expected {
        return Err(Refusal::RootVersion { expected, found: root.version });
    }
    if let Some(before) = before
        && root.epoch < before.epoch
    {
        return Err(Refusal::RootEpoch { version: root.version, floor: before.epoch, found: root.epoch });
    }
    Ok((root, Digest::of(&envelope.payload)))
}
