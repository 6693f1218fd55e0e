//! Making signed documents. Only the vendor's tools have this.

use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};
use serde::Serialize;

use crate::delta::{self, Delta};
use crate::envelope::{Envelope, Signature, signed_bytes};
use crate::roles::{Fresh, PublicKey, Release, Role, Root};

/// Something that holds a private key: a file today, a command in front of a hardware module tomorrow.
pub trait Signer: Send + Sync {
    /// The key's public half.
    fn public(&self) -> VerifyingKey;

    /// An ed25519 signature of the message.
    ///
    /// # Errors
    /// What the holder of the key said.
    fn sign(&self, message: &[u8]) -> Result<[u8; 64], SignError>;
}

/// Why a document was not signed.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// The holder of a key refused or failed.
    #[error("the signer failed: {0}")]
    Signer(String),
    /// The document breaks a rule of its own, so nobody would take it.
    #[error("{role} document: {reason}")]
    Document {
        /// Its role.
        role: Role,
        /// The rule.
        reason: String,
    },
    /// Not an envelope of that role.
    #[error("not a {role} envelope: {reason}")]
    Envelope {
        /// What it should be.
        role: Role,
        /// Why not.
        reason: String,
    },
}

impl crate::codes::Coded for SignError {
    fn code(&self) -> crate::codes::Code {
        match self {
            Self::Signer(_) => crate::codes::KEY,
            Self::Document { .. } | Self::Envelope { .. } => crate::codes::DOCUMENT,
        }
    }
}

impl Signer for SigningKey {
    fn public(&self) -> VerifyingKey {
        self.verifying_key()
    }

    fn sign(&self, message: &[u8]) -> Result<[u8; 64], SignError> {
        Ok(self.try_sign(message).map_err(|error| SignError::Signer(error.to_string()))?.to_bytes())
    }
}

/// Signs any payload for a role.
///
/// # Errors
/// [`SignError::Signer`].
pub fn envelope(role: Role, payload: Vec<u8>, signers: &[&dyn Signer]) -> Result<Envelope, SignError> {
    envelope_of(role.payload_type(), payload, signers)
}

/// Signs a payload of any type.
///
/// # Errors
/// [`SignError::Signer`].
pub fn envelope_of(
    payload_type: &str,
    payload: Vec<u8>,
    signers: &[&dyn Signer],
) -> Result<Envelope, SignError> {
    let mut envelope = Envelope { payload_type: payload_type.into(), payload, signatures: Vec::new() };
    for signer in signers {
        add(&mut envelope, *signer)?;
    }
    Ok(envelope)
}

/// Adds a signature, or replaces the one by the same key.
///
/// # Errors
/// [`SignError::Signer`].
pub fn add(envelope: &mut Envelope, signer: &dyn Signer) -> Result<(), SignError> {
    let keyid = PublicKey::new(&signer.public(), None).id();
    let sig = signer.sign(&signed_bytes(&envelope.payload_type, &envelope.payload))?.to_vec();
    envelope.signatures.retain(|one| one.keyid != keyid);
    envelope.signatures.push(Signature { keyid, sig });
    envelope.signatures.sort_by(|a, b| a.keyid.cmp(&b.keyid));
    Ok(())
}

/// Adds a signature to an envelope in its text form; the payload's bytes stay as they are.
///
/// # Errors
/// [`SignError::Envelope`] when it is not one of that role.
pub fn add_to(role: Role, document: &[u8], signer: &dyn Signer) -> Result<Vec<u8>, SignError> {
    add_to_any(role, role.payload_type(), document, signer)
}

/// The same for the delta document of a thin bundle.
///
/// # Errors
/// [`SignError::Envelope`] when it is not one.
pub fn add_to_delta(document: &[u8], signer: &dyn Signer) -> Result<Vec<u8>, SignError> {
    add_to_any(Role::Release, delta::PAYLOAD_TYPE, document, signer)
}

fn add_to_any(
    role: Role,
    payload_type: &str,
    document: &[u8],
    signer: &dyn Signer,
) -> Result<Vec<u8>, SignError> {
    let wrong = |reason: String| SignError::Envelope { role, reason };
    let mut envelope = Envelope::parse(document).map_err(|error| wrong(error.to_string()))?;
    if envelope.payload_type != payload_type {
        return Err(wrong(format!("its payload type is {:?}", envelope.payload_type)));
    }
    add(&mut envelope, signer)?;
    Ok(envelope.encode())
}

/// A signed root document.
///
/// # Errors
/// [`SignError`].
pub fn root(root: &Root, signers: &[&dyn Signer]) -> Result<Vec<u8>, SignError> {
    document(Role::Root, root, root.check(), signers)
}

/// A signed release document; with no signers, one that `bundle sign` completes.
///
/// # Errors
/// [`SignError`].
pub fn release(release: &Release, signers: &[&dyn Signer]) -> Result<Vec<u8>, SignError> {
    document(Role::Release, release, release.check(), signers)
}

/// A signed delta document, by the keys of the release role.
///
/// # Errors
/// [`SignError`].
pub fn delta(delta: &Delta, signers: &[&dyn Signer]) -> Result<Vec<u8>, SignError> {
    let role = Role::Release;
    delta.check().map_err(|reason| SignError::Document { role, reason })?;
    let payload =
        serde_json::to_vec(delta).map_err(|error| SignError::Document { role, reason: error.to_string() })?;
    Ok(envelope_of(delta::PAYLOAD_TYPE, payload, signers)?.encode())
}

/// A signed statement of what is newest.
///
/// # Errors
/// [`SignError`].
pub fn fresh(fresh: &Fresh, signers: &[&dyn Signer]) -> Result<Vec<u8>, SignError> {
    document(Role::Fresh, fresh, fresh.check(), signers)
}

/// A document of any role, refused if it breaks a rule of its own.
pub(crate) fn document<T: Serialize>(
    role: Role,
    value: &T,
    check: Result<(), String>,
    signers: &[&dyn Signer],
) -> Result<Vec<u8>, SignError> {
    check.map_err(|reason| SignError::Document { role, reason })?;
    let payload =
        serde_json::to_vec(value).map_err(|error| SignError::Document { role, reason: error.to_string() })?;
    Ok(envelope(role, payload, signers)?.encode())
}
