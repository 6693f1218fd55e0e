//! The archive's headers: ustar, and of that one spelling.
//!
//! A header is a function of an entry's name and size. Reading means writing the header that should be there and comparing
//! all 512 bytes; whatever differs is refused, with a name for the usual tricks (links, devices, PAX and GNU extensions,
//! sparse files, forged checksums). So there is no room in a header for two readers to see two things.

/// Size of a header and unit of padding, in bytes.
pub const BLOCK: usize = 512;

/// Longest name. All names of a bundle are shorter than the classic field.
pub const MAX_NAME: usize = 100;

/// Largest size in octal; above it the base-256 form of GNU tar is used, which every common reader knows.
const MAX_OCTAL: u64 = 0o77_777_777_777;

/// What a header says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The name.
    pub name: String,
    /// Bytes of content.
    pub size: u64,
}

/// What is wrong with a header.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The checksum does not match.
    #[error("the header's checksum is wrong")]
    Checksum,
    /// Not ustar.
    #[error("not a ustar header")]
    Magic,
    /// Something else than a regular file.
    #[error("a {0} is not allowed")]
    Type(&'static str),
    /// A name that is no plain relative path.
    #[error("the name {name:?} {reason}")]
    Name {
        /// As far as it can be shown.
        name: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// A size that is negative, overflows or is spelt otherwise.
    #[error("the size is negative, too large or not spelt as it should be")]
    Size,
    /// Set-user-ID and the like.
    #[error("the mode is not 0644")]
    Mode,
    /// Any other field.
    #[error("the field `{0}` is not as it should be")]
    Field(&'static str),
}

/// Fields of a ustar header: name and end offset.
const FIELDS: [(&str, usize); 17] = [
    ("name", 100),
    ("mode", 108),
    ("uid", 116),
    ("gid", 124),
    ("size", 136),
    ("mtime", 148),
    ("chksum", 156),
    ("typeflag", 157),
    ("linkname", 257),
    ("magic", 263),
    ("version", 265),
    ("uname", 297),
    ("gname", 329),
    ("devmajor", 337),
    ("devminor", 345),
    ("prefix", 500),
    ("padding", 512),
];

/// The header of a regular file: mode 0644, owner 0, time 0.
///
/// Names longer than [`MAX_NAME`] are cut; no name of a bundle is.
#[must_use]
pub fn header(name: &str, size: u64) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    put(&mut block, 0, &name.as_bytes()[..name.len().min(MAX_NAME)]);
    put(&mut block, 100, b"0000644\0");
    put(&mut block, 108, b"0000000\0");
    put(&mut block, 116, b"0000000\0");
    if size <= MAX_OCTAL {
        put(&mut block, 124, format!("{size:011o}\0").as_bytes());
    } else {
        put(&mut block, 124, &[0x80, 0, 0, 0]);
        put(&mut block, 128, &size.to_be_bytes());
    }
    put(&mut block, 136, b"00000000000\0");
    put(&mut block, 156, b"0");
    put(&mut block, 257, b"ustar\x0000");
    let sum = checksum(&block);
    put(&mut block, 148, format!("{sum:06o}\0 ").as_bytes());
    block
}

/// Bytes of padding after `size` bytes of content.
#[must_use]
pub const fn padding(size: u64) -> usize {
    (size.wrapping_neg() % BLOCK as u64) as usize
}

/// Reads a header; `None` for a block of zeros, which begins the end of the archive.
///
/// # Errors
/// [`Fault`] for everything that [`header`] would not have written.
pub fn parse(block: &[u8; BLOCK]) -> Result<Option<Entry>, Fault> {
    if block.iter().all(|byte| *byte == 0) {
        return Ok(None);
    }
    let stored = octal(&block[148..154]);
    if stored != Some(u64::from(checksum(block))) {
        return Err(Fault::Checksum);
    }
    // The kind first: it names the trick, where the magic of GNU's extensions would only say that it is not ustar.
    kind(block[156])?;
    if block[257..265] != *b"ustar\x0000" {
        return Err(Fault::Magic);
    }
    if block[100..108] != *b"0000644\0" {
        return Err(Fault::Mode);
    }
    let name = name(&block[..100])?;
    let size = size(&block[124..136])?;
    let canonical = header(&name, size);
    let differ = |offset: &usize| block[*offset] != canonical[*offset];
    // A checksum that differs because something else does is right, so it is looked at last.
    let (sum, others): (Vec<_>, Vec<_>) = (0..BLOCK).partition(|offset| (148..156).contains(offset));
    if let Some(offset) = others.into_iter().chain(sum).find(differ) {
        let field = FIELDS.iter().find(|(_, end)| offset < *end).map_or("header", |(field, _)| field);
        return Err(Fault::Field(field));
    }
    Ok(Some(Entry { name, size }))
}

fn kind(flag: u8) -> Result<(), Fault> {
    Err(Fault::Type(match flag {
        b'0' => return Ok(()),
        0 => "file of the old tar format",
        b'1' => "hard link",
        b'2' => "symbolic link",
        b'3' => "character device",
        b'4' => "block device",
        b'5' => "folder",
        b'6' => "FIFO",
        b'7' => "contiguous file",
        b'g' => "global PAX header",
        b'x' | b'X' => "PAX header",
        b'L' => "GNU long name",
        b'K' => "GNU long link name",
        b'S' => "GNU sparse file",
        b'M' => "continuation of another volume",
        b'V' => "volume label",
        _ => "file of unknown type",
    }))
}

fn name(field: &[u8]) -> Result<String, Fault> {
    let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
    let shown = || String::from_utf8_lossy(&field[..end]).into_owned();
    let bad = |reason| Fault::Name { name: shown(), reason };
    let Ok(name) = std::str::from_utf8(&field[..end]) else { return Err(bad("is not UTF-8")) };
    if field[end..].iter().any(|byte| *byte != 0) {
        return Err(bad("contains NUL"));
    }
    if name.starts_with('/') {
        return Err(bad("is absolute"));
    }
    if name.contains('\\') || name.contains(char::is_control) {
        return Err(bad("contains a backslash or a control character"));
    }
    if name.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err(bad("is not a plain relative path"));
    }
    Ok(name.to_owned())
}

fn size(field: &[u8]) -> Result<u64, Fault> {
    if field[0] & 0x80 == 0 {
        return octal(&field[..11]).filter(|_| field[11] == 0).ok_or(Fault::Size);
    }
    let mut value = [0; 8];
    value.copy_from_slice(&field[4..12]);
    let value = u64::from_be_bytes(value);
    if field[..4] != [0x80, 0, 0, 0] || value <= MAX_OCTAL || value > i64::MAX as u64 {
        return Err(Fault::Size);
    }
    Ok(value)
}

/// Octal digits and nothing else.
fn octal(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0_u64, |value, digit| match digit {
        b'0'..=b'7' => Some(value * 8 + u64::from(digit - b'0')),
        _ => None,
    })
}

/// Sum of all bytes, those of the checksum counted as spaces.
fn checksum(block: &[u8; BLOCK]) -> u32 {
    let spaces = 148..156;
    block
        .iter()
        .enumerate()
        .map(|(offset, byte)| if spaces.contains(&offset) { 32 } else { u32::from(*byte) })
        .sum()
}

fn put(block: &mut [u8; BLOCK], at: usize, bytes: &[u8]) {
    block[at..at + bytes.len()].copy_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A header with one field replaced and the checksum made right again.
    fn forged(at: usize, bytes: &[u8]) -> [u8; BLOCK] {
        let mut block = header("blobs/sha256/aa", 5);
        put(&mut block, at, bytes);
        let sum = checksum(&block);
        put(&mut block, 148, format!("{sum:06o}\0 ").as_bytes());
        block
    }

    #[test]
    fn every_deviation_has_its_reason() {
        let name = |text: &'static [u8]| {
            let mut field = [0; 100];
            field[..text.len()].copy_from_slice(text);
            forged(0, &field)
        };
        let mut broken = header("a", 1);
        broken[0] = b'b';
        for (block, reason) in [
            (broken, "checksum"),
            (forged(156, b"1"), "hard link"),
            (forged(156, b"2"), "symbolic link"),
            (forged(156, b"3"), "character device"),
            (forged(156, b"4"), "block device"),
            (forged(156, b"5"), "folder"),
            (forged(156, b"6"), "FIFO"),
            (forged(156, b"S"), "sparse"),
            (forged(156, b"x"), "PAX"),
            (forged(156, b"g"), "global PAX"),
            (forged(156, b"L"), "GNU long name"),
            (forged(156, b"K"), "GNU long link"),
            (forged(156, b"\0"), "old tar"),
            (forged(156, b"?"), "unknown"),
            (forged(257, b"ustar  \0"), "ustar"),
            (forged(100, b"0004755\0"), "the mode is not 0644"),
            (forged(100, b"0000755\0"), "mode"),
            (forged(108, b"0000001\0"), "uid"),
            (forged(136, b"00000000001\0"), "mtime"),
            (forged(157, b"x"), "linkname"),
            (forged(265, b"root"), "uname"),
            (forged(329, b"0000001\0"), "devmajor"),
            (forged(345, b"pre"), "prefix"),
            (forged(511, b"x"), "padding"),
            (forged(124, b"-0000000005\0"), "size"),
            (forged(124, b"00000000005 "), "size"),
            (forged(124, &[0xff; 12]), "size"),
            (forged(124, &[0x80, 0, 0, 0, 0x80, 0, 0, 0, 0, 0, 0, 0]), "size"),
            (forged(124, &[0x80, 0, 0, 1, 0, 0, 0, 9, 0, 0, 0, 0]), "size"),
            (forged(124, &[0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5]), "size"),
            (name(b"/etc/passwd"), "absolute"),
            (name(b"../x"), "plain relative"),
            (name(b"a/../x"), "plain relative"),
            (name(b"a\\x"), "backslash"),
            (name(b"a\0x"), "NUL"),
            (name(b"\xff"), "UTF-8"),
            (name(b""), "plain relative"),
        ] {
            let error = parse(&block).unwrap_err().to_string();
            assert!(error.contains(reason), "{reason}: {error}");
        }
        // A checksum that is right in value but spelt otherwise.
        let mut spelt = header("a", 1);
        spelt[154] = b' ';
        assert_eq!(parse(&spelt), Err(Fault::Field("chksum")));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(name in "[a-z]{1,20}(/[a-z0-9]{1,20}){0,3}", size in 0..i64::MAX as u64) {
            prop_assert_eq!(parse(&header(&name, size)), Ok(Some(Entry { name, size })));
        }

        #[test]
        fn any_single_changed_byte_is_refused(at in 0..BLOCK, change in 1_u8..) {
            let mut block = header("blobs/sha256/aa", 5);
            block[at] ^= change;
            prop_assert!(parse(&block).is_err());
        }

        #[test]
        fn arbitrary_blocks_never_panic(block in proptest::collection::vec(any::<u8>(), BLOCK)) {
            let _ = parse(&<[u8; BLOCK]>::try_from(block).unwrap());
        }
    }
}
