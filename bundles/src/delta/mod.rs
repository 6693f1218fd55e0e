//! Deltas: a bundle without what an older release has already brought.
//!
//! A delta is a matter of the courier, not of the release. The full bundle and every thin one of a release carry the same
//! release document, byte for byte; what is left out and what comes in its place is said in a document of its own,
//! [`PATH`], signed by the keys of the release role under a payload type of its own. So one release has one number and
//! one digest, however it travels, and everything in the archive is still listed by a signed document.
//!
//! A layer of a thin bundle is either
//! - *left out*: the host has its plain tar from an older release; or
//! - *patched*: in its place comes a zstd frame which, with a layer that the host has as its prefix, gives the plain tar; or
//!   *packed*, the same with no prefix, where a layer was stored plain and nothing resembles it; or
//! - whole, as ever.
//!
//! What a patch gives is compared with the DiffID in the signed image configuration before it is used, so neither base nor
//! patch has to be believed. zstd's prefix mode is what `zstd --patch-from` does: RFC 8878 frames, nothing of our own.
//!
//! | module | does |
//! |---|---|
//! | `apply` | base and patch to the plain tar; pure, bounded |
//! | `make` | (feature `build`) the patch, and which of the older layers makes the smallest |

mod apply;
#[cfg(any(test, feature = "testing"))]
pub mod make;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::roles::{FORMAT, MAX_NUMBER, known_format, number, text};

pub use apply::{ApplyError, Base, apply};

/// Where the document lies in the archive, after the release document.
pub const PATH: &str = "kedge/delta.json";

/// The DSSE payload type: the release role's keys, but no release document.
pub const PAYLOAD_TYPE: &str = "application/vnd.kedge.delta.v1+json";

/// The only method: one zstd frame, the base as its prefix.
pub const METHOD: &str = "zstd-patch";

/// Layers whose plain tar is larger, in bytes, are neither patched nor used as a base: both are held in memory.
pub const MAX_LAYER: u64 = 512 << 20;

/// More releases than this are not built upon at once.
pub const MAX_BASES: usize = 16;

/// An older release that a delta builds on, for people: what a host has is decided layer by layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BaseRelease {
    /// The vendor's own version.
    pub version: String,
    /// Its line of releases.
    pub stream: String,
    /// Its number there.
    pub seq: u64,
    /// Digest of its release document's payload.
    pub release: Digest,
}

/// A layer that does not come, because the host has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// The blob that does not come.
    pub digest: Digest,
    /// Its plain tar, which the host has.
    pub diff_id: Digest,
    /// Bytes of the plain tar.
    pub unpacked: u64,
}

/// What a patch builds on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prefix {
    /// The plain tar of a layer that the host has.
    pub diff_id: Digest,
    /// Its bytes.
    pub size: u64,
}

/// A layer in whose place a patch comes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Patch {
    /// The blob that does not come.
    pub digest: Digest,
    /// Its plain tar: what the patch must give.
    pub diff_id: Digest,
    /// Bytes of the plain tar.
    pub unpacked: u64,
    /// What it builds on; nothing for a layer that is only packed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<Prefix>,
    /// The blob that comes instead.
    pub patch: Digest,
    /// Its bytes.
    pub patch_size: u64,
    /// [`METHOD`].
    pub method: String,
}

/// The delta document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delta {
    /// [`FORMAT`].
    pub format: u32,
    /// Digest of the release document's payload: of which release it is a delta.
    pub release: Digest,
    /// The older releases it was made for.
    pub bases: Vec<BaseRelease>,
    /// Layers that do not come, by digest.
    pub left_out: Vec<LeftOut>,
    /// Layers in whose place patches come, by digest.
    pub patches: Vec<Patch>,
}

impl Delta {
    /// An empty one, to be filled.
    #[must_use]
    pub const fn new(release: Digest, bases: Vec<BaseRelease>) -> Self {
        Self { format: FORMAT, release, bases, left_out: Vec::new(), patches: Vec::new() }
    }

    /// Checks the rules that a delta keeps by itself; whether its layers are those of the release is for
    /// [`Expected`](crate::layout::Expected) to see.
    ///
    /// # Errors
    /// The rule that is broken.
    pub fn check(&self) -> Result<(), String> {
        known_format(self.format)?;
        if self.bases.len() > MAX_BASES {
            return Err(format!("more than {MAX_BASES} bases"));
        }
        for base in &self.bases {
            text("version", &base.version, 64)?;
            text("stream", &base.stream, 63)?;
            number("seq", base.seq, 1)?;
        }
        if self.left_out.is_empty() && self.patches.is_empty() {
            return Err("nothing is left out".into());
        }
        // Strictly rising: one spelling, and nothing twice.
        ordered("left_out", self.left_out.iter().map(|one| one.digest))?;
        ordered("patches", self.patches.iter().map(|one| one.digest))?;
        let left_out: BTreeSet<Digest> = self.left_out.iter().map(|one| one.digest).collect();
        let made: BTreeSet<Digest> = self.patches.iter().map(|one| one.diff_id).collect();
        let mut blobs = BTreeSet::new();
        for one in &self.left_out {
            number("unpacked", one.unpacked, 1)?;
        }
        for one in &self.patches {
            let wrong = |why: &str| Err(format!("patch for layer {}: {why}", one.digest));
            if one.method != METHOD {
                return wrong("its method is unknown");
            }
            if left_out.contains(&one.digest) {
                return wrong("the layer is left out as well");
            }
            if one.unpacked == 0 || one.unpacked > MAX_LAYER {
                return wrong("it gives nothing, or more than a patch may");
            }
            if one.patch_size == 0 || one.patch_size > MAX_NUMBER.min(one.unpacked.saturating_add(1 << 16)) {
                return wrong("it is empty, or larger than what it gives");
            }
            if let Some(base) = one.base {
                if base.size == 0 || base.size > MAX_LAYER {
                    return wrong("its base is empty, or larger than a base may be");
                }
                if base.diff_id == one.diff_id {
                    return wrong("it is its own base");
                }
                if made.contains(&base.diff_id) {
                    return wrong("its base is what another patch gives");
                }
            }
            if !blobs.insert(one.patch) {
                return wrong("its blob is another one's as well");
            }
        }
        if let Some(one) = self.patches.iter().find(|one| blobs.contains(&one.digest)) {
            return Err(format!("layer {} is a patch of another", one.digest));
        }
        Ok(())
    }

    /// The plain tars that the host must have, each once.
    #[must_use]
    pub fn needs(&self) -> BTreeSet<Digest> {
        let bases = self.patches.iter().filter_map(|one| one.base).map(|base| base.diff_id);
        self.left_out.iter().map(|one| one.diff_id).chain(bases).collect()
    }

    /// The older releases, as people name them.
    #[must_use]
    pub fn built_on(&self) -> String {
        let name = |base: &BaseRelease| format!("{} ({} {})", base.version, base.stream, base.seq);
        self.bases.iter().map(name).collect::<Vec<_>>().join(", ")
    }

    /// The patch whose blob this is.
    #[must_use]
    pub fn patch(&self, blob: &Digest) -> Option<&Patch> {
        self.patches.iter().find(|one| one.patch == *blob)
    }
}

fn ordered(field: &str, digests: impl Iterator<Item = Digest>) -> Result<(), String> {
    let mut last: Option<Digest> = None;
    for digest in digests {
        match last {
            Some(before) if before == digest => return Err(format!("{field}: {digest} is there twice")),
            Some(before) if before > digest => return Err(format!("{field}: not in order")),
            _ => last = Some(digest),
        }
    }
    Ok(())
}
