//! Making patches: the frame itself, and a cheap guess which of the older layers makes a small one.

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash as _, Hasher as _};
use std::io::{self, Write};

use zstd::zstd_safe::CParameter;

use super::apply::window_log;
use crate::tar::BLOCK;

/// The level for patches that travel: the best that zstd has without more memory on the host.
pub const LEVEL: i32 = 19;

/// log2 of the most positions that the compressor remembers; the tables for them take 12 bytes each.
const MOST_REMEMBERED: u32 = 27;

/// Packs `plain` with `base` as its prefix (empty for none). `passed` hears of every piece of `plain`, in bytes.
///
/// # Errors
/// Those of zstd: not enough memory.
pub fn patch(base: &[u8], plain: &[u8], level: i32, passed: &mut dyn FnMut(u64)) -> io::Result<Vec<u8>> {
    let mut out = zstd::stream::write::Encoder::with_ref_prefix(Vec::new(), level, base)?;
    let all = (base.len() as u64).saturating_add(plain.len() as u64);
    out.window_log(window_log(plain.len() as u64))?;
    out.long_distance_matching(true)?;
    if level >= LEVEL {
        // By itself a level remembers some MiB at most, which is less than the base of a large layer is away.
        let remembered = window_log(all).clamp(20, MOST_REMEMBERED);
        out.set_parameter(CParameter::ChainLog(remembered + 1))?;
        out.set_parameter(CParameter::HashLog(remembered.saturating_sub(1)))?;
    }
    out.include_checksum(false)?;
    out.set_pledged_src_size(Some(plain.len() as u64))?;
    for piece in plain.chunks(1 << 20) {
        out.write_all(piece)?;
        passed(piece.len() as u64);
    }
    out.finish()
}

/// What a layer looks like from afar: the names in its tar, and how much is under each.
#[derive(Debug, Default, Clone)]
pub struct Sketch {
    names: HashMap<u64, u64>,
}

impl Sketch {
    /// Of a plain tar; what cannot be read as one looks like nothing.
    #[must_use]
    pub fn of(plain: &[u8]) -> Self {
        let mut this = Self::default();
        let mut at = 0_usize;
        while let Some(header) = plain.get(at..at.saturating_add(BLOCK)) {
            if header[0] == 0 {
                break;
            }
            let size = size_of(&header[124..136]);
            *this.names.entry(key_of(&header[..100], &header[345..500])).or_default() += size;
            let Ok(step) = usize::try_from(size.next_multiple_of(BLOCK as u64)) else { break };
            at = at.saturating_add(BLOCK).saturating_add(step);
        }
        this
    }

    /// Bytes that lie under the same names in both.
    #[must_use]
    pub fn shared(&self, other: &Self) -> u64 {
        let common = |(name, size): (&u64, &u64)| other.names.get(name).map(|theirs| *size.min(theirs));
        self.names.iter().filter_map(common).fold(0, u64::saturating_add)
    }
}

/// Names differ between versions in their numbers: `numpy-2.2.5.dist-info`, `libx.so.1.4`. Those are one name here.
fn key_of(name: &[u8], prefix: &[u8]) -> u64 {
    let mut hash = DefaultHasher::new();
    for field in [prefix, name] {
        for byte in field.iter().take_while(|byte| **byte != 0).filter(|byte| !byte.is_ascii_digit()) {
            byte.hash(&mut hash);
        }
        0_u8.hash(&mut hash);
    }
    hash.finish()
}

/// Octal, or base 256 above 8 GiB; 0 where it is neither.
fn size_of(field: &[u8]) -> u64 {
    if field[0] & 0x80 != 0 {
        return field[4..].iter().fold(0, |value: u64, byte| value << 8 | u64::from(*byte)).min(1 << 52);
    }
    let digits = field.iter().filter(|byte| (b'0'..=b'7').contains(byte));
    digits.fold(0, |value: u64, digit| value << 3 | u64::from(digit - b'0'))
}
