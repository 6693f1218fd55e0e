//! Support sessions: the vendor's signed request, the customer's answer, and the tunnel between the two.
//!
//! [`Request`] is signed by the vendor's support keys; [`read`] is the only way to a verified one. What the customer says is
//! an [`Approval`](approval::Approval), which names the request by the digest of its very bytes and can only narrow it.
//! [`tunnel`] encrypts between the engineer's key in the request and the host's. Both consents are needed;
//! whether they suffice now, on this host, is the agent's to decide.

pub mod approval;
pub mod flow;
mod scope;
mod terms;
pub mod tunnel;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::envelope::Envelope;
use crate::roles::{Role, Root, known_format, name, period, text, utc};
use crate::verify::{Refusal, open, payload, signed};

pub use scope::{Scope, Target, parse_scopes};
pub use terms::{LONGEST, Terms};

/// Bytes of the largest request that is read.
pub const MAX_FILE: usize = 64 << 10;

/// Longest time between a request's making and its end, in which the customer can answer it.
const LONGEST_WAIT: jiff::SignedDuration = jiff::SignedDuration::from_hours(7 * 24);

/// The request document. Unknown fields are refused: whoever approves it approves all of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// [`FORMAT`](crate::roles::FORMAT).
    pub format: u32,
    /// Random, 32 hexadecimal digits: names this request and the grant that may come of it. Opens once.
    pub grant_id: String,
    /// Which support key signs: hexadecimal SHA-256 of the raw key.
    pub key_id: String,
    /// Of which product the targets are.
    pub product: String,
    /// For which host: its public key of [`tunnel`], hexadecimal.
    pub host_key: String,
    /// What that host gave out for this request, hexadecimal: once, and not for long.
    pub agent_nonce: String,
    /// Who wants to come in.
    pub engineer: String,
    /// The engineer's public key for this session, of [`tunnel`], hexadecimal.
    pub session_key: String,
    /// The vendor's ticket.
    pub ticket: String,
    /// Why, for people.
    pub reason: String,
    /// What is asked for.
    pub terms: Terms,
    /// When it was signed.
    #[serde(with = "utc")]
    pub issued: Timestamp,
    /// When it can no longer be opened.
    #[serde(with = "utc")]
    pub not_after: Timestamp,
}

impl Request {
    /// Checks the rules that a request keeps by itself.
    ///
    /// # Errors
    /// The rule that is broken.
    pub fn check(&self) -> Result<(), String> {
        known_format(self.format)?;
        hexadecimal("grant_id", &self.grant_id, 16)?;
        hexadecimal("key_id", &self.key_id, 32)?;
        hexadecimal("host_key", &self.host_key, 32)?;
        hexadecimal("agent_nonce", &self.agent_nonce, 32)?;
        hexadecimal("session_key", &self.session_key, 32)?;
        name("product", &self.product)?;
        text("engineer", &self.engineer, 128)?;
        text("ticket", &self.ticket, 128)?;
        text("reason", &self.reason, 500)?;
        self.terms.check()?;
        period(self.issued, self.not_after)?;
        if self.not_after.duration_since(self.issued) > LONGEST_WAIT {
            return Err("a request that can be answered for longer than 7 days".into());
        }
        Ok(())
    }

    /// The request as a signed file.
    ///
    /// # Errors
    /// [`SignError`](crate::sign::SignError).
    #[cfg(any(test, feature = "testing"))]
    pub fn sign(&self, signers: &[&dyn crate::sign::Signer]) -> Result<Vec<u8>, crate::sign::SignError> {
        crate::sign::document(Role::Support, self, self.check(), signers)
    }
}

/// A request and the digest of the bytes that were signed: what an approval names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    /// What it says.
    pub request: Request,
    /// SHA-256 of its payload.
    pub digest: Digest,
}

/// Verifies a request: bounded, signed by the threshold of the root's support keys, well-formed.
///
/// # Errors
/// [`Refusal::Malformed`], [`Refusal::PayloadType`], [`Refusal::Unsigned`] or [`Refusal::NewerFormat`].
pub fn read(root: &Root, file: &[u8]) -> Result<Read, Refusal> {
    bounded(file)?;
    let read = parsed(&signed(root, Role::Support, file)?)?;
    if !root.role(Role::Support).keys.iter().any(|key| key.id() == read.request.key_id) {
        return Err(malformed("key_id names no support key of the root".into()));
    }
    Ok(read)
}

/// What a request says without looking at its signatures: for showing, and for one that was accepted before.
///
/// # Errors
/// [`Refusal::Malformed`], [`Refusal::PayloadType`] or [`Refusal::NewerFormat`].
pub fn unverified(file: &[u8]) -> Result<Read, Refusal> {
    bounded(file)?;
    parsed(&open(Role::Support, file)?.payload)
}

/// The grant that a file of whatever worth claims to ask for, for the record of its refusal. Nothing in it is verified.
#[must_use]
pub fn claimed_grant(file: &[u8]) -> Option<String> {
    let envelope = (file.len() <= MAX_FILE).then(|| Envelope::parse(file).ok())??;
    let value: serde_json::Value = crate::json::document(&envelope.payload).ok()?;
    let id = value.get("grant_id")?.as_str()?;
    hexadecimal("grant_id", id, 16).ok()?;
    Some(id.to_owned())
}

fn bounded(file: &[u8]) -> Result<(), Refusal> {
    if file.len() > MAX_FILE {
        return Err(malformed(format!("{} bytes, at most {MAX_FILE} are read", file.len())));
    }
    Ok(())
}

fn parsed(bytes: &[u8]) -> Result<Read, Refusal> {
    let request: Request = payload(Role::Support.into(), bytes)?;
    request.check().map_err(malformed)?;
    Ok(Read { request, digest: Digest::of(bytes) })
}

fn malformed(reason: String) -> Refusal {
    Refusal::Malformed { document: Role::Support.into(), reason }
}

/// Lower case, so that a value has one spelling.
pub(crate) fn hexadecimal(field: &str, value: &str, bytes: usize) -> Result<(), String> {
    if value.len() != 2 * bytes || !value.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
        return Err(format!("{field}: use {} hexadecimal digits", 2 * bytes));
    }
    Ok(())
}

#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(test)]
mod tests;
