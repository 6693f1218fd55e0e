//! What a host remembers between verifications, and how it may change.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Refusal, payload};
use crate::digest::Digest;
use crate::envelope::Envelope;
use crate::roles::{Role, Root};

/// The trusted state of one vendor on one host (TUF 5.2). The caller persists it as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trust {
    /// Fingerprint (SHA-256 of the payload) of the root document that the host was given out of band; it may be any
    /// version of the chain.
    pub pinned: Digest,
    /// The newest root accepted so far.
    #[serde(default)]
    pub root: Option<AcceptedRoot>,
    /// Highest accepted release, by product and stream.
    #[serde(default)]
    pub streams: BTreeMap<String, BTreeMap<String, Counter>>,
    /// Newest statement seen from the hub.
    #[serde(default)]
    pub fresh: Option<FreshMark>,
}

/// A root document that was verified once, kept as its envelope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AcceptedRoot {
    /// Its version.
    pub version: u64,
    /// Its epoch.
    pub epoch: u64,
    /// Digest of its payload.
    pub fingerprint: Digest,
    /// The envelope's text.
    pub envelope: String,
}

impl AcceptedRoot {
    /// The document. Its signatures were checked when it was accepted.
    ///
    /// # Errors
    /// [`Refusal::Malformed`] when the record was damaged.
    pub fn document(&self) -> Result<Root, Refusal> {
        let document = Role::Root.into();
        let envelope = Envelope::parse(self.envelope.as_bytes())
            .map_err(|error| Refusal::Malformed { document, reason: error.to_string() })?;
        if Digest::of(&envelope.payload) != self.fingerprint {
            return Err(Refusal::Malformed {
                document,
                reason: "the accepted root on record is damaged".into(),
            });
        }
        payload(document, &envelope.payload)
    }
}

/// Rollback protection of one stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counter {
    /// The root's epoch at that time; under a higher one this counter means nothing.
    pub epoch: u64,
    /// Highest accepted sequence number.
    pub seq: u64,
    /// Its release's digest.
    pub release: Digest,
    /// Highest accepted floor.
    pub min_seq: u64,
}

/// Rollback protection of the hub's statements.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FreshMark {
    /// The root's epoch at that time.
    pub epoch: u64,
    /// When the newest statement was made.
    #[serde(with = "crate::roles::utc")]
    pub issued: Timestamp,
    /// What it said: product, stream, sequence number, digest.
    pub listed: Vec<crate::roles::Newest>,
}

/// What a successful verification allows to be remembered. Apply it with [`Trust::advance`] once everything that
/// belongs to it has been verified, never before: rejected metadata must leave no trace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Advance {
    /// A newer root.
    pub root: Option<AcceptedRoot>,
    /// Product, stream and counter of an accepted release.
    pub counter: Option<(String, String, Counter)>,
    /// A newer statement.
    pub fresh: Option<FreshMark>,
}

impl Trust {
    /// A host that knows nothing but the pinned root's fingerprint.
    #[must_use]
    pub const fn pinned(fingerprint: Digest) -> Self {
        Self { pinned: fingerprint, root: None, streams: BTreeMap::new(), fresh: None }
    }

    /// The counter of a stream, unless it belongs to an epoch below `epoch`.
    #[must_use]
    pub fn counter(&self, product: &str, stream: &str, epoch: u64) -> Option<&Counter> {
        self.streams.get(product)?.get(stream).filter(|counter| counter.epoch >= epoch)
    }

    /// The epoch in force.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.root.as_ref().map_or(0, |root| root.epoch)
    }

    /// Whether the host may go back, by itself, to a release it had: down to the floor and no further.
    ///
    /// # Errors
    /// [`Refusal::BelowFloor`].
    pub fn may_return_to(&self, product: &str, stream: &str, seq: u64) -> Result<(), Refusal> {
        match self.counter(product, stream, self.epoch()) {
            Some(counter) if seq < counter.min_seq => {
                Err(Refusal::BelowFloor { seq, floor: counter.min_seq })
            }
            _ => Ok(()),
        }
    }

    /// Takes over what was verified. Everything only rises, in whatever order verifications end.
    pub fn advance(&mut self, advance: &Advance) {
        if let Some(new) = &advance.root
            && self.root.as_ref().is_none_or(|old| old.version < new.version)
        {
            self.root = Some(new.clone());
        }
        if let Some((product, stream, new)) = &advance.counter {
            let streams = self.streams.entry(product.clone()).or_default();
            let counter = streams.entry(stream.clone()).or_insert(*new);
            if new.epoch > counter.epoch {
                *counter = *new;
            } else if new.epoch == counter.epoch {
                if new.seq > counter.seq {
                    (counter.seq, counter.release) = (new.seq, new.release);
                }
                counter.min_seq = counter.min_seq.max(new.min_seq);
            }
        }
        if let Some(new) = &advance.fresh
            && self.fresh.as_ref().is_none_or(|old| (old.epoch, old.issued) <= (new.epoch, new.issued))
        {
            self.fresh = Some(new.clone());
        }
    }
}
