//! Base and patch to the plain tar of a layer.
//!
//! Memory is bounded by what the signed document says: the base, and a window no larger than the result needs. The result is
//! exactly as long as was said and has the DiffID of the signed configuration, or it is an error; what was written before the
//! error is not to be used.

use std::io::{self, BufRead, BufReader, Read, Write};

use sha2::{Digest as _, Sha256};

use super::{MAX_LAYER, Patch, Prefix};
use crate::codes::{self, Code, Coded};
use crate::digest::Digest;

/// Why no layer came of a patch.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// What was given as base is not the base.
    #[error("the base of {diff_id} is another layer: {found}")]
    WrongBase {
        /// What was to be made.
        diff_id: Digest,
        /// What is wrong with the base.
        found: String,
    },
    /// Not one zstd frame, cut off, or with something after it; or its window is larger than the result.
    #[error("the patch for {diff_id} cannot be applied: {reason}")]
    Damaged {
        /// What was to be made.
        diff_id: Digest,
        /// Why not.
        reason: String,
    },
    /// Gives more or less than was said.
    #[error("the patch for {diff_id} gives {} {wanted} bytes", if *.more { "more than" } else { "fewer than" })]
    Size {
        /// What was to be made.
        diff_id: Digest,
        /// Bytes that were said.
        wanted: u64,
        /// It gives more; otherwise less.
        more: bool,
    },
    /// Gives another layer.
    #[error("the patch for {wanted} gives {found}")]
    DiffId {
        /// In the image configuration.
        wanted: Digest,
        /// What came.
        found: Digest,
    },
    /// Reading or writing failed.
    #[error("applying a patch: {0}")]
    Io(#[from] io::Error),
}

impl Coded for ApplyError {
    fn code(&self) -> Code {
        match self {
            Self::WrongBase { .. } => codes::DELTA_BASE,
            Self::Damaged { .. } | Self::Size { .. } | Self::DiffId { .. } => codes::PATCH,
            Self::Io(_) => codes::SINK,
        }
    }
}

/// The plain tar of a layer that patches build on, in memory and verified.
pub struct Base {
    diff_id: Option<Digest>,
    bytes: Vec<u8>,
}

impl Base {
    /// No base: for patches that only pack.
    #[must_use]
    pub const fn none() -> Self {
        Self { diff_id: None, bytes: Vec::new() }
    }

    /// Reads a base, which must be exactly what `prefix` says; never more than that and one byte is read.
    ///
    /// # Errors
    /// [`ApplyError::WrongBase`] or [`ApplyError::Io`].
    pub fn read(source: impl Read, prefix: Prefix) -> Result<Self, ApplyError> {
        let wrong = |found: String| ApplyError::WrongBase { diff_id: prefix.diff_id, found };
        if prefix.size > MAX_LAYER {
            return Err(wrong(format!("{} bytes are more than a base may have", prefix.size)));
        }
        let mut bytes = Vec::new();
        bytes
            .try_reserve_exact(usize::try_from(prefix.size).unwrap_or(usize::MAX))
            .map_err(|error| io::Error::new(io::ErrorKind::OutOfMemory, error))?;
        source.take(prefix.size + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 != prefix.size {
            return Err(wrong(format!("not {} bytes", prefix.size)));
        }
        let found = Digest::of(&bytes);
        if found != prefix.diff_id {
            return Err(wrong(found.to_string()));
        }
        Ok(Self { diff_id: Some(found), bytes })
    }

    /// How a document names it.
    #[must_use]
    pub fn prefix(&self) -> Option<Prefix> {
        self.diff_id.map(|diff_id| Prefix { diff_id, size: self.bytes.len() as u64 })
    }

    /// The plain tar; empty for none.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl std::fmt::Debug for Base {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Base").field("diff_id", &self.diff_id).finish_non_exhaustive()
    }
}

/// log2 of the window that a result of this size needs: the whole of it, so that every byte of the base can be reached from
/// every place of the result.
pub(super) const fn window_log(unpacked: u64) -> u32 {
    let bits = u64::BITS - unpacked.saturating_sub(1).leading_zeros();
    if bits < 10 { 10 } else { bits }
}

/// Writes the plain tar that `patch` gives on `base` to `out`.
///
/// # Errors
/// [`ApplyError`]; what was written is then not to be used.
pub fn apply(base: &Base, patch: &Patch, source: impl Read, out: &mut dyn Write) -> Result<(), ApplyError> {
    let diff_id = patch.diff_id;
    let damaged = |reason: String| ApplyError::Damaged { diff_id, reason };
    if base.diff_id != patch.base.map(|base| base.diff_id) {
        let found = base.diff_id.map_or_else(|| "none".to_owned(), |found| found.to_string());
        return Err(ApplyError::WrongBase { diff_id, found });
    }
    if patch.unpacked > MAX_LAYER {
        return Err(damaged(format!("{} bytes are more than a patch may give", patch.unpacked)));
    }
    let source = BufReader::new(source.take(patch.patch_size));
    let mut decoder = zstd::stream::read::Decoder::with_ref_prefix(source, &base.bytes)?.single_frame();
    decoder.window_log_max(window_log(patch.unpacked))?;
    let (mut hash, mut left) = (Sha256::new(), patch.unpacked);
    let mut buffer = vec![0; 128 << 10];
    loop {
        let count = decoder.read(&mut buffer).map_err(|error| damaged(error.to_string()))?;
        if count == 0 {
            break;
        }
        let Some(rest) = left.checked_sub(count as u64) else {
            return Err(ApplyError::Size { diff_id, wanted: patch.unpacked, more: true });
        };
        left = rest;
        hash.update(&buffer[..count]);
        out.write_all(&buffer[..count])?;
    }
    if left > 0 {
        return Err(ApplyError::Size { diff_id, wanted: patch.unpacked, more: false });
    }
    if !decoder.finish().fill_buf()?.is_empty() {
        return Err(damaged("something follows its frame".into()));
    }
    let found = Digest::from_bytes(hash.finalize().into());
    if found != diff_id {
        return Err(ApplyError::DiffId { wanted: diff_id, found });
    }
    Ok(())
}
