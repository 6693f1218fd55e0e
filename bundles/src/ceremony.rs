//! Root ceremonies: a new root document on its way from hand to hand.
//!
//! A draft is the envelope itself, a plain file: whoever holds a key adds one signature on their own machine and passes the
//! file on. What the draft changes and which thresholds a signature counts for is worked out here, from the root
//! in force and the bytes that are to be signed, so that nobody signs what they have not seen. Signing one
//! version twice with different content would split the customers: [`Draft::change`] drops signatures, and says so.

use std::collections::BTreeSet;

use ed25519_dalek::{Signature, VerifyingKey};
use jiff::Timestamp;
use serde::Serialize;

use crate::codes::{self, Code, Coded};
use crate::digest::Digest;
use crate::envelope::Envelope;
use crate::roles::{PublicKey, Role, RoleKeys, Root};
use crate::sign::{self, SignError, Signer};
use crate::verify::{Document, Refusal};

/// Why a ceremony does not go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The draft, or the chain it is to follow.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Signing.
    #[error(transparent)]
    Sign(#[from] SignError),
    /// A signature that would count for nothing.
    #[error(
        "key {0} is listed neither by the root in force nor by the new one: its signature would count for nothing"
    )]
    Stranger(String),
    /// A change that cannot be made.
    #[error("{0}")]
    Change(String),
}

impl Coded for Error {
    fn code(&self) -> Code {
        match self {
            Self::Refused(refusal) => refusal.code(),
            Self::Sign(error) => error.code(),
            Self::Stranger(_) => codes::KEY,
            Self::Change(_) => codes::CEREMONY,
        }
    }
}

/// A root document that is to follow `before`, with the signatures that it has so far.
#[derive(Debug, Clone)]
pub struct Draft {
    before: Option<Root>,
    root: Root,
    envelope: Envelope,
}

/// Who has signed, and what is still missing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Standing {
    /// Every root key of either document, in that order.
    pub holders: Vec<Holder>,
    /// Towards the threshold of the root in force; none for version 1.
    pub before: Option<Count>,
    /// Towards the new document's own threshold.
    pub own: Count,
    /// Signatures that count for neither.
    pub worthless: usize,
}

/// Signatures counted against a threshold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Count {
    /// Different keys that have validly signed.
    pub have: u32,
    /// The threshold.
    pub need: u32,
}

/// One root key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Holder {
    /// Key ID.
    pub id: String,
    /// Whose it is.
    pub name: Option<String>,
    /// Whether the root in force lists it.
    pub before: bool,
    /// Whether the new one lists it.
    pub own: bool,
    /// Whether it has validly signed.
    pub signed: bool,
}

impl Count {
    /// Whether the threshold is met.
    #[must_use]
    pub const fn met(self) -> bool {
        self.have >= self.need
    }
}

impl Standing {
    /// Whether nothing is missing.
    #[must_use]
    pub fn complete(&self) -> bool {
        self.own.met() && self.before.is_none_or(Count::met)
    }
}

impl Draft {
    /// A first root document.
    ///
    /// # Errors
    /// [`Error::Sign`] for one that breaks a rule of its own.
    pub fn first(root: Root) -> Result<Self, Error> {
        Self::of(None, root)
    }

    /// The successor of the root in force: the same, but for the version and the dates.
    ///
    /// # Errors
    /// [`Error::Sign`] for one that breaks a rule of its own.
    pub fn after(before: &Root, issued: Timestamp, expires: Timestamp) -> Result<Self, Error> {
        let root = Root { version: before.version + 1, issued, expires, ..before.clone() };
        Self::of(Some(before.clone()), root)
    }

    fn of(before: Option<Root>, root: Root) -> Result<Self, Error> {
        let envelope =
            Envelope::parse(&sign::root(&root, &[])?).map_err(|error| Error::Change(error.to_string()))?;
        Ok(Self { before, root, envelope })
    }

    /// Reads a draft, which is to follow `before` (none: version 1). Its signatures may be any and none.
    ///
    /// # Errors
    /// [`Error::Refused`] when it is no root document, or not the next one.
    pub fn read(bytes: &[u8], before: Option<&Root>) -> Result<Self, Error> {
        let envelope = crate::verify::open(Role::Root, bytes)?;
        let root: Root = crate::verify::payload(Document::Root, &envelope.payload)?;
        let malformed = |reason| Refusal::Malformed { document: Document::Root, reason };
        root.check().map_err(malformed)?;
        let expected = before.map_or(1, |before| before.version + 1);
        if root.version != expected {
            return Err(Refusal::RootVersion { expected, found: root.version }.into());
        }
        if let Some(before) = before.filter(|before| root.epoch < before.epoch) {
            let (version, floor, found) = (root.version, before.epoch, root.epoch);
            return Err(Refusal::RootEpoch { version, floor, found }.into());
        }
        Ok(Self { before: before.cloned(), root, envelope })
    }

    /// The document.
    #[must_use]
    pub const fn root(&self) -> &Root {
        &self.root
    }

    /// Its file.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        self.envelope.encode()
    }

    /// The fingerprint: the digest of what is signed.
    #[must_use]
    pub fn fingerprint(&self) -> Digest {
        Digest::of(&self.envelope.payload)
    }

    /// How many signatures of any kind are on it.
    #[must_use]
    pub const fn signatures(&self) -> usize {
        self.envelope.signatures.len()
    }

    /// Changes the document. Its bytes change, so whatever was signed before is gone.
    ///
    /// # Errors
    /// [`Error::Sign`] for a document that would break a rule of its own.
    pub fn change(&mut self, change: impl FnOnce(&mut Root) -> Result<(), Error>) -> Result<(), Error> {
        let mut root = self.root.clone();
        change(&mut root)?;
        *self = Self::of(self.before.clone(), root)?;
        Ok(())
    }

    /// Adds one signature.
    ///
    /// # Errors
    /// [`Error::Stranger`] for a key that neither document lists, and what the holder of the key says.
    pub fn sign(&mut self, signer: &dyn Signer) -> Result<(), Error> {
        let id = PublicKey::new(&signer.public(), None).id();
        if !self.standing().holders.iter().any(|holder| holder.id == id) {
            return Err(Error::Stranger(id));
        }
        Ok(sign::add(&mut self.envelope, signer)?)
    }

    /// Takes over the signatures of a copy that went another way.
    ///
    /// # Errors
    /// [`Error::Change`] when it is a copy of something else.
    pub fn merge(&mut self, other: &Self) -> Result<(), Error> {
        if other.envelope.payload != self.envelope.payload {
            return Err(Error::Change(format!(
                "{} and {} are different documents: signatures on one are none on the other",
                self.fingerprint().hex(),
                other.fingerprint().hex()
            )));
        }
        for signature in &other.envelope.signatures {
            if !self.envelope.signatures.contains(signature) {
                self.envelope.signatures.push(signature.clone());
            }
        }
        Ok(())
    }

    /// Who has signed.
    #[must_use]
    pub fn standing(&self) -> Standing {
        let message = self.envelope.signed_bytes();
        let own = self.root.role(Role::Root);
        let before = self.before.as_ref().map(|root| root.role(Role::Root));
        let mut holders: Vec<Holder> = Vec::new();
        for key in before.iter().flat_map(|role| &role.keys).chain(&own.keys) {
            let id = key.id();
            if holders.iter().any(|holder| holder.id == id) {
                continue;
            }
            let lists = |role: &RoleKeys| role.keys.iter().any(|other| other.public == key.public);
            let signed = key.key().is_ok_and(|key| self.signed_by(&id, &key, &message));
            let name = own.keys.iter().chain([key]).find(|other| other.public == key.public);
            holders.push(Holder {
                before: before.is_some_and(lists),
                own: lists(own),
                name: name.and_then(|key| key.name.clone()),
                id,
                signed,
            });
        }
        let count = |need, counts: fn(&Holder) -> bool| Count {
            have: holders.iter().filter(|holder| holder.signed && counts(holder)).map(|_| 1).sum(),
            need,
        };
        let signed = holders.iter().filter(|holder| holder.signed).count();
        Standing {
            before: before.map(|role| count(role.threshold, |holder| holder.before)),
            own: count(own.threshold, |holder| holder.own),
            worthless: self.envelope.signatures.len().saturating_sub(signed),
            holders,
        }
    }

    fn signed_by(&self, id: &str, key: &VerifyingKey, message: &[u8]) -> bool {
        self.envelope.signatures.iter().filter(|one| one.keyid == id).any(|one| {
            let bytes = <[u8; 64]>::try_from(one.sig.as_slice());
            bytes.is_ok_and(|bytes| key.verify_strict(message, &Signature::from_bytes(&bytes)).is_ok())
        })
    }

    /// What the document changes, a line each; for version 1, nothing.
    #[must_use]
    pub fn changes(&self) -> Vec<String> {
        self.before.as_ref().map_or_else(Vec::new, |before| changes(before, &self.root))
    }
}

fn changes(before: &Root, after: &Root) -> Vec<String> {
    let mut lines = Vec::new();
    if before.vendor != after.vendor {
        lines.push(format!("vendor: {} becomes {}", before.vendor, after.vendor));
    }
    if before.epoch != after.epoch {
        let (old, new) = (before.epoch, after.epoch);
        lines.push(format!("epoch: {old} becomes {new}: sequence numbers start again on every host"));
    }
    if before.expires != after.expires {
        lines.push(format!("expires: {} becomes {}", before.expires, after.expires));
    }
    for role in Role::ALL {
        let (old, new) = (before.role(role), after.role(role));
        if old.threshold != new.threshold {
            lines.push(format!("{role}: threshold {} becomes {}", old.threshold, new.threshold));
        }
        let lists = |keys: &RoleKeys, key: &PublicKey| keys.keys.iter().any(|one| one.public == key.public);
        let lost = old.keys.iter().filter(|key| !lists(new, key)).map(|key| ("removes", key));
        let won = new.keys.iter().filter(|key| !lists(old, key)).map(|key| ("adds", key));
        for (what, key) in lost.chain(won) {
            let name = key.name.as_deref().unwrap_or("no name");
            lines.push(format!("{role}: {what} key {} ({name})", key.id()));
        }
    }
    lines
}

/// Adds a key to a role.
///
/// # Errors
/// [`Error::Change`] when it is there, in this role or in one that it must not be shared with.
pub fn add(root: &mut Root, role: Role, key: PublicKey) -> Result<(), Error> {
    for other in Role::ALL {
        if root.role(other).keys.iter().any(|one| one.public == key.public) {
            return Err(Error::Change(format!(
                "key {} is a {other} key already; each role has its own",
                key.id()
            )));
        }
    }
    root.role_mut(role).keys.push(key);
    Ok(())
}

/// Removes a key from a role, by its ID, the beginning of it (8 digits at least) or its name.
///
/// # Errors
/// [`Error::Change`] when none or several are meant.
pub fn remove(root: &mut Root, role: Role, which: &str) -> Result<PublicKey, Error> {
    let keys = &mut root.role_mut(role).keys;
    let meant = |key: &PublicKey| {
        key.name.as_deref() == Some(which) || which.len() >= 8 && key.id().starts_with(which)
    };
    let found: BTreeSet<usize> = (0..keys.len()).filter(|index| meant(&keys[*index])).collect();
    match (found.first(), found.len()) {
        (Some(index), 1) => Ok(keys.remove(*index)),
        (_, count) => Err(Error::Change(format!("{count} {role} keys are meant by {which:?}"))),
    }
}

/// Sets how many keys of a role must sign.
pub const fn set_threshold(root: &mut Root, role: Role, threshold: u32) {
    root.role_mut(role).threshold = threshold;
}

#[cfg(test)]
mod tests;
