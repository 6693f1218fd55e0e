//! Licences: what a customer may use, signed by the vendor's licence keys, checked without asking anybody.
//!
//! A licence restricts what is *begun*: new releases, new deployments, more containers. Nothing that runs is ever
//! stopped for one, and a renewal is always taken. [`Licence`] is the document, [`read`] the only way to a
//! verified one, [`Accepted`] what a host remembers so that an old one cannot come back, and
//! [`standing`](standing::standing) what it amounts to now.

pub mod standing;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::codes::{self, Code, Coded};
use crate::digest::Digest;
use crate::envelope::Envelope;
use crate::roles::{Role, Root, known_format, name, number, period, text, utc};
use crate::verify::{Refusal, open, payload, signed};

pub use standing::{Restriction, Standing, Terms};

/// Bytes of the largest licence file that is read.
pub const MAX_FILE: usize = 64 << 10;

/// Longest grace, in days: ten years.
const MAX_GRACE: u32 = 3660;

/// The licence document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Licence {
    /// [`FORMAT`](crate::roles::FORMAT).
    pub format: u32,
    /// Stays the same through all renewals.
    pub id: String,
    /// Rises with every renewal.
    pub serial: u64,
    /// The root's epoch when it was issued. A root of a higher epoch ends it, after its grace.
    pub epoch: u64,
    /// For whom, for people.
    pub customer: String,
    /// Sites it is for; every site where none is named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sites: Vec<String>,
    /// For which product.
    pub product: String,
    /// When it was signed.
    #[serde(with = "utc")]
    pub issued: Timestamp,
    /// From when it counts.
    #[serde(with = "utc")]
    pub not_before: Timestamp,
    /// Until when it counts without a warning.
    #[serde(with = "utc")]
    pub expires: Timestamp,
    /// Days after `expires` in which it counts with a warning.
    pub grace_days: u32,
    /// How much may be used.
    #[serde(default)]
    pub limits: Limits,
    /// Names of what is switched on, for the product to interpret.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub features: BTreeSet<String>,
}

/// How much may be used; without a limit where nothing is said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Hosts of a site. Stated, not enforced: a host cannot count its neighbours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hosts: Option<u32>,
    /// Containers of a deployment that are there to stay; jobs do not count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub services: Option<u32>,
}

impl Licence {
    /// Checks the rules that a licence keeps by itself.
    ///
    /// # Errors
    /// The rule that is broken.
    pub fn check(&self) -> Result<(), String> {
        known_format(self.format)?;
        name("id", &self.id)?;
        name("product", &self.product)?;
        text("customer", &self.customer, 256)?;
        number("serial", self.serial, 1)?;
        number("epoch", self.epoch, 0)?;
        self.sites.iter().try_for_each(|site| text("site", site, 128))?;
        self.features.iter().try_for_each(|feature| name("feature", feature))?;
        if self.grace_days > MAX_GRACE {
            return Err(format!("grace_days: {} is above {MAX_GRACE}", self.grace_days));
        }
        period(self.issued, self.expires)?;
        period(self.not_before, self.expires)
    }

    /// The licence as a signed file.
    ///
    /// # Errors
    /// [`SignError`](crate::sign::SignError).
    #[cfg(any(test, feature = "build"))]
    pub fn sign(&self, signers: &[&dyn crate::sign::Signer]) -> Result<Vec<u8>, crate::sign::SignError> {
        crate::sign::document(Role::Licence, self, self.check(), signers)
    }
}

/// Verifies a licence file: bounded, signed by the threshold of the root's licence keys, well-formed.
///
/// # Errors
/// [`Refusal::Malformed`], [`Refusal::PayloadType`], [`Refusal::Unsigned`] or [`Refusal::NewerFormat`].
pub fn read(root: &Root, file: &[u8]) -> Result<Licence, Refusal> {
    let malformed = |reason| Refusal::Malformed { document: Role::Licence.into(), reason };
    if file.len() > MAX_FILE {
        return Err(malformed(format!("{} bytes, at most {MAX_FILE} are read", file.len())));
    }
    let licence: Licence = payload(Role::Licence.into(), &signed(root, Role::Licence, file)?)?;
    licence.check().map_err(malformed)?;
    Ok(licence)
}

/// What a licence file says without looking at its signatures: for one that was accepted before, and for showing.
///
/// # Errors
/// [`Refusal::Malformed`], [`Refusal::PayloadType`] or [`Refusal::NewerFormat`].
pub fn unverified(file: &[u8]) -> Result<Licence, Refusal> {
    let licence: Licence = payload(Role::Licence.into(), &open(Role::Licence, file)?.payload)?;
    licence.check().map_err(|reason| Refusal::Malformed { document: Role::Licence.into(), reason })?;
    Ok(licence)
}

/// Digest of what was signed: the same for a file with one signature more.
#[must_use]
pub fn digest(file: &[u8]) -> Option<Digest> {
    Some(Digest::of(&Envelope::parse(file).ok()?.payload))
}

/// What a host remembers of the licence it accepted last for a product. Everything in it only rises, so that no licence that was
/// superseded, such as one for more hosts or a longer time, comes back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// [`Licence::epoch`].
    pub epoch: u64,
    /// [`Licence::id`].
    pub id: String,
    /// [`Licence::serial`].
    pub serial: u64,
    /// [`Licence::issued`].
    #[serde(with = "utc")]
    pub issued: Timestamp,
    /// [`digest`].
    pub digest: Digest,
}

/// Why a well-signed licence was not taken in the place of the one before.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Stale {
    /// Superseded by the one that is here.
    #[error("licence {id} serial {serial}, issued {issued}, is older than the one installed")]
    Older {
        /// Its ID.
        id: String,
        /// Its serial.
        serial: u64,
        /// When it was issued.
        issued: Timestamp,
    },
    /// Two different documents claim one serial: whoever holds the licence key made both.
    #[error("licence {id} serial {serial} is another document than the one installed under that serial")]
    Conflict {
        /// Its ID.
        id: String,
        /// Its serial.
        serial: u64,
    },
    /// Issued under a root that has been given up.
    #[error("the licence is of epoch {found}, the vendor's root of epoch {expected}")]
    Epoch {
        /// The root's.
        expected: u64,
        /// The licence's.
        found: u64,
    },
}

impl Coded for Stale {
    fn code(&self) -> Code {
        match self {
            Self::Older { .. } | Self::Epoch { .. } => codes::LICENCE_STALE,
            Self::Conflict { .. } => codes::LICENCE_CONFLICT,
        }
    }
}

impl Accepted {
    /// What to remember of a licence once it has been taken.
    #[must_use]
    pub fn of(licence: &Licence, digest: Digest) -> Self {
        Self {
            epoch: licence.epoch,
            id: licence.id.clone(),
            serial: licence.serial,
            issued: licence.issued,
            digest,
        }
    }

    /// Whether `licence` may follow the one `before`: a renewal always may, the same one once more too.
    ///
    /// # Errors
    /// [`Stale`].
    pub fn may_follow(
        before: Option<&Self>,
        licence: &Licence,
        digest: Digest,
        root: &Root,
    ) -> Result<(), Stale> {
        if licence.epoch != root.epoch {
            return Err(Stale::Epoch { expected: root.epoch, found: licence.epoch });
        }
        let Some(before) = before.filter(|before| before.epoch >= licence.epoch) else { return Ok(()) };
        let same_id = before.id == licence.id;
        if same_id && before.serial == licence.serial {
            let (id, serial) = (licence.id.clone(), licence.serial);
            return if before.digest == digest { Ok(()) } else { Err(Stale::Conflict { id, serial }) };
        }
        if licence.issued < before.issued || same_id && licence.serial < before.serial {
            let (id, serial, issued) = (licence.id.clone(), licence.serial, licence.issued);
            return Err(Stale::Older { id, serial, issued });
        }
        Ok(())
    }
}
