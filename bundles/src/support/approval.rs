//! The customer's answer to a request: by a person on the host, or in a file signed elsewhere by a key that the customer's
//! rules name.
//!
//! It names the request by the digest of its very bytes, so that nothing else is approved with it, and says on which terms.
//! The key is the customer's own and no role of the vendor's root.

use ed25519_dalek::pkcs8::{DecodePrivateKey, EncodePrivateKey};
use ed25519_dalek::{Signature, Signer as _, SigningKey};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{Terms, hexadecimal};
use crate::digest::Digest;
use crate::envelope::{self, Envelope, signed_bytes};
use crate::roles::{FORMAT, PublicKey, known_format, text, utc};

/// Type of the payload: an approval can never be shown as a document of the vendor's.
pub const PAYLOAD_TYPE: &str = "application/vnd.kedge.support-approval.v1+json";

/// Bytes of the largest approval that is read.
pub const MAX_FILE: usize = 64 << 10;

/// What was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decision {
    /// The vendor may come in, on these terms.
    Approve,
    /// The vendor may not.
    Deny,
}

/// The answer to one request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Approval {
    /// [`FORMAT`].
    pub format: u32,
    /// The grant, for people and for finding the request.
    pub grant_id: String,
    /// SHA-256 of the request's signed bytes.
    pub request: Digest,
    /// What was decided.
    pub decision: Decision,
    /// Who decided, for people. What counts is the key.
    pub approver: String,
    /// The request's terms, or narrower ones.
    pub terms: Terms,
    /// When.
    #[serde(with = "utc")]
    pub at: Timestamp,
}

impl Approval {
    /// An answer to a request on these terms.
    #[must_use]
    pub fn new(read: &super::Read, decision: Decision, approver: &str, terms: Terms, at: Timestamp) -> Self {
        let approver = approver.chars().filter(|c| !c.is_control()).take(100).collect();
        let grant_id = read.request.grant_id.clone();
        Self { format: FORMAT, grant_id, request: read.digest, decision, approver, terms, at }
    }

    fn check(&self) -> Result<(), String> {
        known_format(self.format)?;
        hexadecimal("grant_id", &self.grant_id, 16)?;
        text("approver", &self.approver, 128)?;
        self.terms.check()
    }
}

/// Why a file is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoApproval {
    /// Not a document as it should be.
    #[error("the approval is not well-formed: {0}")]
    Malformed(String),
    /// No key that the customer's rules name has signed it.
    #[error("the approval is signed by none of the approvers that guard.toml names")]
    Unsigned,
    /// A private key that cannot be read.
    #[error("the approver's key cannot be used: {0}")]
    Key(String),
}

/// Reads an answer that one of these keys has signed, strictly and over its raw bytes; with the name of the key.
///
/// # Errors
/// [`NoApproval`].
pub fn read(approvers: &[PublicKey], file: &[u8]) -> Result<(Approval, String), NoApproval> {
    let malformed = |why: String| NoApproval::Malformed(why);
    if file.len() > MAX_FILE {
        return Err(malformed(format!("{} bytes, at most {MAX_FILE} are read", file.len())));
    }
    let envelope = Envelope::parse(file).map_err(|e| malformed(e.to_string()))?;
    if envelope.payload_type != PAYLOAD_TYPE {
        return Err(malformed("it is a document of another kind".into()));
    }
    let message = envelope.signed_bytes();
    let signed = |approver: &&PublicKey| {
        let Ok(key) = approver.key() else { return false };
        envelope.signatures.iter().any(|one| {
            let Ok(bytes) = <[u8; 64]>::try_from(one.sig.as_slice()) else { return false };
            key.verify_strict(&message, &Signature::from_bytes(&bytes)).is_ok()
        })
    };
    let approver = approvers.iter().find(signed).ok_or(NoApproval::Unsigned)?;
    let approval: Approval =
        crate::json::document(&envelope.payload).map_err(|e| malformed(e.to_string()))?;
    approval.check().map_err(malformed)?;
    Ok((approval, approver.name.clone().unwrap_or_else(|| approver.id())))
}

/// A private key of an approver, as PKCS#8 PEM, and its public half in hexadecimal, for guard.toml.
///
/// # Errors
/// [`NoApproval::Key`].
pub fn new_key(seed: &Zeroizing<[u8; 32]>) -> Result<(Zeroizing<String>, String), NoApproval> {
    let key = SigningKey::from_bytes(seed);
    let pem = key
        .to_pkcs8_pem(ed25519_dalek::pkcs8::spki::der::pem::LineEnding::LF)
        .map_err(|e| NoApproval::Key(e.to_string()))?;
    Ok((pem, hex::encode(key.verifying_key().as_bytes())))
}

/// The answer as a file, signed by the approver's key (PKCS#8 PEM, as `openssl genpkey -algorithm ed25519` makes it too).
///
/// # Errors
/// [`NoApproval`].
pub fn sign(approval: &Approval, pem: &str) -> Result<Vec<u8>, NoApproval> {
    let key = SigningKey::from_pkcs8_pem(pem)
        .map_err(|_| NoApproval::Key("it is no ed25519 key in PKCS#8 PEM".into()))?;
    approval.check().map_err(NoApproval::Malformed)?;
    let payload = serde_json::to_vec(approval).map_err(|e| NoApproval::Malformed(e.to_string()))?;
    let sig = key.sign(&signed_bytes(PAYLOAD_TYPE, &payload)).to_bytes().to_vec();
    let keyid = PublicKey::new(&key.verifying_key(), None).id();
    let signatures = vec![envelope::Signature { keyid, sig }];
    Ok(Envelope { payload_type: PAYLOAD_TYPE.into(), payload, signatures }.encode())
}
