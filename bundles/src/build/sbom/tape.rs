//! One layer, entry by entry: tar as image builders write it, with GNU's and POSIX' extensions for long names and sizes.
//!
//! The `tar` crate reads a long name whole, however long a header says that it is. Layers come from many hands, so here
//! every extension is bounded before it is read, and nothing else is kept.

use std::io::{self, Read};

/// Unit of headers and padding.
const BLOCK: usize = 512;
/// Longest extension header that is read, bytes; one that is longer ends the reading.
const MAX_EXTENSION: u64 = 1 << 20;
/// Longest path that is looked at, bytes; Linux knows none that is longer.
const MAX_PATH: usize = 4096;

/// Why a layer could not be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    /// Reading or unpacking.
    #[error("cannot be read: {0}")]
    Read(#[from] io::Error),
    /// Not tar.
    #[error("is no tar archive: {0}")]
    Form(&'static str),
    /// More packages than anybody has.
    #[error("its package databases hold more than is kept in memory")]
    TooMuch,
}

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    /// A regular file, whose content can be read.
    File,
    /// A folder.
    Folder,
    /// A link, a device and the like.
    Other,
}

/// One entry.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Item {
    /// Without leading, trailing and double slashes and without `.`; `None` where it would leave the root or is longer than a path
    /// can be.
    pub(super) path: Option<String>,
    pub(super) what: What,
    /// Bytes of content.
    pub(super) size: u64,
}

/// A layer that is being read. After [`next`](Self::next), [`Read`] gives the content of the entry, as much of it as is
/// wanted.
pub(super) struct Tape<R> {
    source: R,
    /// Content of the entry at hand that has not been read.
    left: u64,
    /// And then zeros.
    padding: u64,
}

impl<R: Read> Tape<R> {
    pub(super) const fn new(source: R) -> Self {
        Self { source, left: 0, padding: 0 }
    }

    /// The next entry; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<Item>, Fault> {
        let (mut name, mut size) = (None, None);
        loop {
            self.skip()?;
            let Some(header) = self.header()? else { return Ok(None) };
            let listed = number(&header[124..136]).ok_or(Fault::Form("a size is no number"))?;
            match header[156] {
                b'L' => {
                    let mut long = self.extension(listed)?;
                    long.truncate(long.iter().position(|byte| *byte == 0).unwrap_or(long.len()));
                    name = Some(long);
                }
                b'x' => {
                    let records = self.extension(listed)?;
                    name = record(&records, "GNU.sparse.name")
                        .or(record(&records, "path"))
                        .map(<[u8]>::to_vec)
                        .or(name);
                    if let Some(text) = record(&records, "size") {
                        let text = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
                        size = Some(text.ok_or(Fault::Form("a size is no number"))?);
                    }
                }
                b'K' | b'g' => self.begin(listed),
                kind => {
                    if kind == b'S' {
                        self.sparse(&header)?;
                    }
                    let size = size.unwrap_or(listed);
                    let what = match kind {
                        b'0' | 0 | b'7' => What::File,
                        b'5' => What::Folder,
                        _ => What::Other,
                    };
                    // Links may say the size of what they lead to, and have no content.
                    let has_content = !matches!(kind, b'1'..=b'6');
                    self.begin(if has_content { size } else { 0 });
                    let path = path(&name.unwrap_or_else(|| short_name(&header)));
                    return Ok(Some(Item { path, what, size }));
                }
            }
        }
    }

    fn begin(&mut self, size: u64) {
        self.left = size;
        self.padding = size.wrapping_neg() % BLOCK as u64;
    }

    /// What nobody wanted of the entry at hand.
    fn skip(&mut self) -> Result<(), Fault> {
        let wanted = self.left.saturating_add(self.padding);
        let passed = io::copy(&mut (&mut self.source).take(wanted), &mut io::sink())?;
        // Some writers leave out the last padding.
        if passed < self.left {
            return Err(Fault::Form("it ends in the middle of a file"));
        }
        (self.left, self.padding) = (0, 0);
        Ok(())
    }

    fn header(&mut self) -> Result<Option<[u8; BLOCK]>, Fault> {
        let mut block = [0; BLOCK];
        let mut filled = 0;
        while filled < BLOCK {
            match self.source.read(&mut block[filled..]) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        if filled == 0 || block.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        if filled < BLOCK {
            return Err(Fault::Form("it ends in the middle of a header"));
        }
        let sum: u64 = block
            .iter()
            .enumerate()
            .map(|(at, byte)| u64::from(if (148..156).contains(&at) { b' ' } else { *byte }))
            .sum();
        if number(&block[148..156]) != Some(sum) {
            return Err(Fault::Form("a header's checksum is wrong"));
        }
        Ok(Some(block))
    }

    fn extension(&mut self, size: u64) -> Result<Vec<u8>, Fault> {
        if size > MAX_EXTENSION {
            return Err(Fault::Form("a name is too long"));
        }
        self.begin(size);
        let mut bytes = Vec::new();
        self.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Maps of an old GNU sparse file that do not fit its header.
    fn sparse(&mut self, header: &[u8; BLOCK]) -> Result<(), Fault> {
        let mut more = header[482] != 0;
        while more {
            let mut block = [0; BLOCK];
            self.source.read_exact(&mut block)?;
            more = block[504] != 0;
        }
        Ok(())
    }
}

impl<R: Read> Read for Tape<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let count = self.source.read(&mut buffer[..most])?;
        self.left -= count as u64;
        Ok(count)
    }
}

/// Octal digits between blanks and NULs, or GNU's base-256.
fn number(field: &[u8]) -> Option<u64> {
    if field[0] & 0x80 != 0 {
        let (high, low) = field.split_at(field.len().checked_sub(8)?);
        let negligible = high.iter().enumerate().all(|(at, byte)| *byte == if at == 0 { 0x80 } else { 0 });
        return negligible.then(|| low.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)));
    }
    let text = std::str::from_utf8(field).ok()?.trim_matches([' ', '\0']);
    let text = text.split(['\0', ' ']).next().unwrap_or_default();
    if text.is_empty() { Some(0) } else { u64::from_str_radix(text, 8).ok() }
}

/// The value of a record `LENGTH KEY=VALUE\n`; the last one counts.
fn record<'a>(mut records: &'a [u8], key: &str) -> Option<&'a [u8]> {
    let mut found = None;
    while let Some(blank) = records.iter().position(|byte| *byte == b' ') {
        let length: usize = std::str::from_utf8(&records[..blank]).ok()?.parse().ok()?;
        let one = records.get(blank + 1..length)?.strip_suffix(b"\n")?;
        if let Some(value) = one.strip_prefix(key.as_bytes()).and_then(|rest| rest.strip_prefix(b"=")) {
            found = Some(value);
        }
        records = &records[length..];
    }
    found
}

fn short_name(header: &[u8; BLOCK]) -> Vec<u8> {
    let text = |field: &[u8]| field.split(|byte| *byte == 0).next().unwrap_or_default().to_vec();
    let (name, prefix) = (text(&header[..100]), text(&header[345..500]));
    if &header[257..263] == b"ustar\0" && !prefix.is_empty() { [prefix, name].join(&b'/') } else { name }
}

fn path(bytes: &[u8]) -> Option<String> {
    if bytes.len() > MAX_PATH {
        return None;
    }
    let text = String::from_utf8_lossy(bytes);
    let parts: Vec<&str> = text.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    (!parts.contains(&"..")).then(|| parts.join("/"))
}
