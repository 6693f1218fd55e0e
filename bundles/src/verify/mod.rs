//! Verification: from bytes and a clock to "this is what the vendor's offline keys chose", or a [`Refusal`].
//!
//! A core without I/O: nothing here reads a file, a socket or the time. The same functions serve a USB stick and
//! the tether. They follow the TUF specification's client workflow (1.0.34, section 5) with fewer documents:
//!
//! | here | TUF |
//! |---|---|
//! | [`roots`] | 5.3, update the root role |
//! | [`fresh`] | 5.4, update the timestamp role |
//! | [`release`] | 5.5 and 5.6, snapshot and targets in one document |
//! | [`delta`] | nothing: what a courier leaves out of that |
//! | [`Trust`] | 5.2, the trusted metadata kept by the client |
//! | [`Advance`] | what a client may write back, and only after everything verified |
//!
//! Decisions:
//! - Documents are named by the digest of their *payload*: adding a signature makes no new release.
//! - Expiry blocks taking something new. A release that this host has already accepted, or has begun to import before
//!   it expired ([`Context::begun`]), can be read again: repairing and resuming are never blocked by a date.
//! - Counters are kept per product and stream under the root's epoch. Under a higher epoch they start again.
//! - Without a [`Fresh`] statement (a file) only `expires` limits how long an attacker can withhold newer releases.

mod delta;
mod fresh;
mod refusal;
mod release;
mod root;
#[cfg(test)]
mod tests;
mod trust;

use jiff::Timestamp;

use crate::digest::Digest;
use crate::envelope::Envelope;
use crate::roles::{Fresh, Role, RoleKeys, Root};

pub use delta::delta;
pub use fresh::{VerifiedFresh, fresh};
pub use refusal::{Document, Refusal};
pub use release::{Verified, release};
pub use root::{MAX_ROOTS, RootSet, roots};
pub use trust::{AcceptedRoot, Advance, Counter, FreshMark, Trust};

/// The signed documents of a bundle and the layout files that the release names by digest, as raw bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Documents {
    /// `oci-layout`.
    pub oci_layout: Vec<u8>,
    /// `index.json`.
    pub index: Vec<u8>,
    /// `manifest.json`.
    pub manifest: Vec<u8>,
    /// Root envelopes from version 1.
    pub roots: Vec<Vec<u8>>,
    /// The release envelope.
    pub release: Vec<u8>,
    /// The delta envelope of a thin bundle.
    pub delta: Option<Vec<u8>>,
}

/// What is true of this host and this moment. `None` fields are not checked.
#[derive(Debug, Clone)]
pub struct Context<'a> {
    /// Best known time.
    pub now: Timestamp,
    /// This host's site. `None` refuses releases that name sites.
    pub site: Option<&'a str>,
    /// The product that is expected.
    pub product: Option<&'a str>,
    /// The stream that is expected.
    pub stream: Option<&'a str>,
    /// The hub's verified statement; set on the tether, `None` for a file.
    pub fresh: Option<&'a Fresh>,
    /// Digest of the release whose import was begun, its documents verified, before now.
    pub begun: Option<Digest>,
}

impl Context<'_> {
    /// A context that asks for nothing but valid signatures and dates.
    #[must_use]
    pub const fn at(now: Timestamp) -> Self {
        Self { now, site: None, product: None, stream: None, fresh: None, begun: None }
    }
}

/// Reads an envelope, checks its type and the threshold of `role` under `root`, and gives the payload.
/// Licences and support requests come through here too.
///
/// # Errors
/// [`Refusal::Malformed`], [`Refusal::PayloadType`] or [`Refusal::Unsigned`].
pub fn signed(root: &Root, role: Role, document: &[u8]) -> Result<Vec<u8>, Refusal> {
    let envelope = open(role, document)?;
    threshold(role.into(), root.role(role), &envelope)?;
    Ok(envelope.payload)
}

/// Reads an envelope whose payload must be of `role`; checks no signature.
pub(crate) fn open(role: Role, document: &[u8]) -> Result<Envelope, Refusal> {
    open_as(role.into(), role.payload_type(), document)
}

/// Reads an envelope whose payload must be of this type; checks no signature.
fn open_as(document: Document, payload_type: &str, bytes: &[u8]) -> Result<Envelope, Refusal> {
    let envelope =
        Envelope::parse(bytes).map_err(|error| Refusal::Malformed { document, reason: error.to_string() })?;
    if envelope.payload_type != payload_type {
        let found = envelope.payload_type.chars().take(80).collect();
        return Err(Refusal::PayloadType { document, found });
    }
    Ok(envelope)
}

/// TUF's threshold rule: enough *different keys* of the role have signed. Signatures by strangers, broken ones and
/// repeated ones neither count nor spoil the rest.
fn threshold(document: Document, role: &RoleKeys, envelope: &Envelope) -> Result<(), Refusal> {
    let message = envelope.signed_bytes();
    let mut have = 0;
    for listed in &role.keys {
        let Ok(key) = listed.key() else { continue };
        let id = listed.id();
        let signed = envelope.signatures.iter().filter(|one| one.keyid == id).any(|one| {
            let Ok(bytes) = <[u8; 64]>::try_from(one.sig.as_slice()) else { return false };
            key.verify_strict(&message, &ed25519_dalek::Signature::from_bytes(&bytes)).is_ok()
        });
        have += u32::from(signed);
    }
    if have < role.threshold {
        return Err(Refusal::Unsigned { document, have, need: role.threshold });
    }
    Ok(())
}

/// What documents say whose signatures nobody has checked: for showing, in the vendor's tools only.
#[cfg(feature = "build")]
pub(crate) fn unverified(documents: &Documents) -> Result<Verified, Refusal> {
    let malformed = |document| move |reason| Refusal::Malformed { document, reason };
    let last = documents.roots.last().ok_or(Refusal::RootCount(0))?;
    let root: Root = payload(Document::Root, &open(Role::Root, last)?.payload)?;
    root.check().map_err(malformed(Document::Root))?;
    let bytes = open(Role::Release, &documents.release)?.payload;
    let release: crate::roles::Release = payload(Document::Release, &bytes)?;
    release.check().map_err(malformed(Document::Release))?;
    release::contents(&release, documents.roots.len() as u64, documents)?;
    let digest = Digest::of(&bytes);
    let delta = documents.delta.as_deref().map(|bytes| delta::unverified(digest, bytes)).transpose()?;
    Ok(Verified { release, digest, root, known: false, advance: Advance::default(), delta })
}

/// Parses a payload; call only after its signatures have been checked.
pub(crate) fn payload<T: serde::de::DeserializeOwned>(
    document: Document,
    bytes: &[u8],
) -> Result<T, Refusal> {
    /// Read first: a newer format may differ in everything else.
    #[derive(serde::Deserialize)]
    struct Format {
        format: u32,
    }
    let malformed =
        |error: crate::json::JsonError| Refusal::Malformed { document, reason: error.to_string() };
    let Format { format } = crate::json::document(bytes).map_err(malformed)?;
    if format > crate::roles::FORMAT {
        return Err(Refusal::NewerFormat { document, format });
    }
    crate::json::document(bytes).map_err(malformed)
}
