//! A layer against its DiffID: unpacked as it passes, bounded, kept nowhere.
//!
//! Push-style, so that a reader hands over the same bytes that it stores. The bound on unpacked bytes comes
//! from the signed release; zstd windows above 8 MiB (the limit that RFC 8878 recommends every decoder to support) need
//! more memory than a small host should give to a stranger and are refused.

use std::io::{self, Write};

use sha2::{Digest as _, Sha256};

use crate::digest::Digest;
use crate::layout::Compression;

/// log2 of the largest zstd window taken.
pub const ZSTD_WINDOW_LOG: u32 = 23;

/// Why a layer is not what the image configuration says.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// Unpacks to more than the bound.
    #[error("unpacks to more than {0} bytes")]
    Bomb(u64),
    /// Not valid gzip or zstd, or cut off, or its window is too large.
    #[error("cannot be unpacked: {0}")]
    Damaged(String),
    /// Unpacks to something else.
    #[error("unpacks to {found}, but the image configuration says {wanted}")]
    DiffId {
        /// In the configuration.
        wanted: Digest,
        /// Of the bytes.
        found: Digest,
    },
}

/// Checks one layer.
pub struct LayerCheck {
    unpacker: Unpacker,
    diff_id: Digest,
}

enum Unpacker {
    Plain(Tally),
    Gzip(flate2::write::MultiGzDecoder<Tally>),
    Zstd(zstd::stream::write::Decoder<'static, Tally>),
}

/// Counts and hashes what comes out.
struct Tally {
    hash: Sha256,
    count: u64,
    limit: u64,
    exceeded: bool,
}

impl Write for Tally {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.count = self.count.saturating_add(bytes.len() as u64);
        if self.count > self.limit {
            self.exceeded = true;
            return Err(io::Error::other("too large"));
        }
        self.hash.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl LayerCheck {
    /// Begins a layer that must unpack to `diff_id` and to at most `limit` bytes.
    ///
    /// # Errors
    /// [`UnpackError::Damaged`] when no decoder could be made.
    pub fn new(compression: Compression, diff_id: Digest, limit: u64) -> Result<Self, UnpackError> {
        let tally = Tally { hash: Sha256::new(), count: 0, limit, exceeded: false };
        let unpacker = match compression {
            Compression::None => Unpacker::Plain(tally),
            Compression::Gzip => Unpacker::Gzip(flate2::write::MultiGzDecoder::new(tally)),
            Compression::Zstd => {
                let mut decoder = zstd::stream::write::Decoder::new(tally)
                    .map_err(|error| UnpackError::Damaged(error.to_string()))?;
                decoder
                    .window_log_max(ZSTD_WINDOW_LOG)
                    .map_err(|error| UnpackError::Damaged(error.to_string()))?;
                Unpacker::Zstd(decoder)
            }
        };
        Ok(Self { unpacker, diff_id })
    }

    /// Takes the next stored bytes.
    ///
    /// # Errors
    /// [`UnpackError`] as soon as it is known.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), UnpackError> {
        let result = match &mut self.unpacker {
            Unpacker::Plain(tally) => tally.write_all(bytes),
            Unpacker::Gzip(decoder) => decoder.write_all(bytes),
            Unpacker::Zstd(decoder) => decoder.write_all(bytes),
        };
        result.map_err(|error| self.error(&error))
    }

    /// Ends the layer; gives the bytes it unpacked to.
    ///
    /// # Errors
    /// [`UnpackError`].
    pub fn finish(mut self) -> Result<u64, UnpackError> {
        let ended = match &mut self.unpacker {
            Unpacker::Plain(_) => Ok(()),
            Unpacker::Gzip(decoder) => decoder.try_finish(),
            Unpacker::Zstd(decoder) => decoder.flush(),
        };
        ended.map_err(|error| self.error(&error))?;
        let tally = match self.unpacker {
            Unpacker::Plain(tally) => tally,
            Unpacker::Gzip(decoder) => {
                decoder.finish().map_err(|error| UnpackError::Damaged(error.to_string()))?
            }
            Unpacker::Zstd(decoder) => decoder.into_inner(),
        };
        let found = Digest::from_bytes(tally.hash.finalize().into());
        if found != self.diff_id {
            return Err(UnpackError::DiffId { wanted: self.diff_id, found });
        }
        Ok(tally.count)
    }

    fn error(&self, error: &io::Error) -> UnpackError {
        let tally = match &self.unpacker {
            Unpacker::Plain(tally) => tally,
            Unpacker::Gzip(decoder) => decoder.get_ref(),
            Unpacker::Zstd(decoder) => decoder.get_ref(),
        };
        if tally.exceeded { UnpackError::Bomb(tally.limit) } else { UnpackError::Damaged(error.to_string()) }
    }
}

impl std::fmt::Debug for LayerCheck {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LayerCheck").field("diff_id", &self.diff_id).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        out.write_all(bytes).unwrap();
        out.finish().unwrap()
    }

    fn zstd(bytes: &[u8], window_log: u32) -> Vec<u8> {
        let mut out = zstd::stream::write::Encoder::new(Vec::new(), 3).unwrap();
        out.window_log(window_log).unwrap();
        out.write_all(bytes).unwrap();
        out.finish().unwrap()
    }

    fn check(compression: Compression, stored: &[u8], plain: &[u8], limit: u64) -> Result<u64, UnpackError> {
        let mut check = LayerCheck::new(compression, Digest::of(plain), limit)?;
        for chunk in stored.chunks(1000) {
            check.write(chunk)?;
        }
        check.finish()
    }

    #[test]
    fn layers_of_every_compression_are_recognised() {
        let plain: Vec<u8> = (0..300_000_u32).map(|n| (n.wrapping_mul(n) >> 7) as u8).collect();
        let all = plain.len() as u64;
        assert_eq!(check(Compression::None, &plain, &plain, all).unwrap(), all);
        assert_eq!(check(Compression::Gzip, &gzip(&plain), &plain, all).unwrap(), all);
        assert_eq!(check(Compression::Zstd, &zstd(&plain, 20), &plain, all).unwrap(), all);
    }

    #[test]
    fn bombs_wrong_content_damage_and_great_windows_are_refused() {
        let zeros = vec![0; 10 << 20];
        for (compression, stored) in [
            (Compression::Gzip, gzip(&zeros)),
            (Compression::Zstd, zstd(&zeros, 20)),
            (Compression::None, zeros.clone()),
        ] {
            let bomb = check(compression, &stored, &zeros, (10 << 20) - 1);
            assert!(matches!(bomb, Err(UnpackError::Bomb(_))), "{compression:?}: {bomb:?}");
            let other = check(compression, &stored, b"other", 10 << 20);
            assert!(matches!(other, Err(UnpackError::DiffId { .. })), "{compression:?}: {other:?}");
            if compression != Compression::None {
                let cut = check(compression, &stored[..stored.len() / 2], &zeros, 10 << 20);
                assert!(cut.is_err(), "{compression:?}");
                let mut flipped = stored.clone();
                flipped[stored.len() / 2] ^= 0x55;
                assert!(check(compression, &flipped, &zeros, 10 << 20).is_err(), "{compression:?}");
            }
        }
        let large = check(Compression::Zstd, &zstd(&zeros, 27), &zeros, 10 << 20);
        assert!(matches!(large, Err(UnpackError::Damaged(_))), "{large:?}");
    }
}
