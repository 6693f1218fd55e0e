//! Plain tars of layers out of what `docker save` gives.
//!
//! Engines name layers in their archives differently (`HEX/layer.tar` before 25, `blobs/sha256/HEX` since), and say which is
//! which at the end. So an entry of a size that is wanted is stored while it is hashed, and kept if it is a layer that is
//! wanted. What else the archive holds passes by. The engine's archive is not believed: a digest is.

use std::collections::{BTreeMap, BTreeSet};

use kedge_bundle::digest::Digest;
use kedge_bundle::tar::{BLOCK, padding};
use sha2::{Digest as _, Sha256};

use crate::images::{BlobWriter, Content};
use crate::problem::Problem;

/// Takes an archive piece by piece.
pub(super) struct Extractor<'a> {
    content: &'a Content,
    /// DiffIDs and sizes of those that have not been found.
    wanted: BTreeMap<Digest, u64>,
    found: BTreeSet<Digest>,
    header: Vec<u8>,
    state: State,
}

enum State {
    /// In a header, or before one.
    Header,
    /// So many bytes do not matter.
    Skip(u64),
    /// In an entry that may be wanted.
    Layer { left: u64, size: u64, hash: Sha256, writer: BlobWriter, name: Digest },
    /// Behind the last entry, or in what is no archive.
    End,
}

impl<'a> Extractor<'a> {
    pub(super) fn new(content: &'a Content, wanted: BTreeMap<Digest, u64>) -> Self {
        Self {
            content,
            wanted,
            found: BTreeSet::new(),
            header: Vec::with_capacity(BLOCK),
            state: State::Header,
        }
    }

    /// Whether nothing more is wanted, or to be had.
    pub(super) fn is_done(&self) -> bool {
        self.wanted.is_empty() || matches!(self.state, State::End)
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// When a layer cannot be stored.
    pub(super) fn push(&mut self, mut bytes: &[u8]) -> Result<(), Problem> {
        while !bytes.is_empty() && !self.is_done() {
            match std::mem::replace(&mut self.state, State::Header) {
                State::End => return Ok(()),
                State::Skip(left) => {
                    let count = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                    bytes = &bytes[count..];
                    let left = left - count as u64;
                    self.state = if left > 0 { State::Skip(left) } else { State::Header };
                }
                State::Header => {
                    let count = (BLOCK - self.header.len()).min(bytes.len());
                    self.header.extend_from_slice(&bytes[..count]);
                    bytes = &bytes[count..];
                    if self.header.len() == BLOCK {
                        self.state = self.begin()?;
                        self.header.clear();
                    }
                }
                State::Layer { left, size, mut hash, mut writer, name } => {
                    let count = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                    hash.update(&bytes[..count]);
                    writer.write(&bytes[..count])?;
                    bytes = &bytes[count..];
                    let left = left - count as u64;
                    if left > 0 {
                        self.state = State::Layer { left, size, hash, writer, name };
                        continue;
                    }
                    let found = Digest::from_bytes(hash.finalize().into());
                    if self.wanted.remove(&found).is_some() {
                        writer.finish_as(&self.content.blob_path(&found))?;
                        self.found.insert(found);
                    } else {
                        drop(writer);
                        self.content.remove_partial(&name);
                    }
                    self.state = State::Skip(padding(size) as u64);
                }
            }
        }
        Ok(())
    }

    /// What was found and is in the content store now.
    pub(super) fn finish(self) -> BTreeSet<Digest> {
        if let State::Layer { writer, name, .. } = self.state {
            drop(writer);
            self.content.remove_partial(&name);
        }
        self.found
    }

    /// What follows the header.
    fn begin(&self) -> Result<State, Problem> {
        let header = self.header.as_slice();
        let Some(size) = size_of(&header[124..136]).filter(|_| header[0] != 0) else { return Ok(State::End) };
        let is_file = matches!(header[156], b'0' | 0);
        let length = size.saturating_add(padding(size) as u64);
        let fits = self.wanted.iter().find(|(_, wanted)| **wanted == size).filter(|_| is_file && size > 0);
        let Some((name, _)) = fits else {
            return Ok(if length > 0 { State::Skip(length) } else { State::Header });
        };
        let writer = self.content.writer(name, false)?;
        Ok(State::Layer { left: size, size, hash: Sha256::new(), writer, name: *name })
    }
}

/// Octal, or base 256; `None` for neither.
fn size_of(field: &[u8]) -> Option<u64> {
    if field[0] == 0x80 {
        return field[4..]
            .iter()
            .try_fold(0_u64, |value, byte| Some(value.checked_mul(256)? | u64::from(*byte)));
    }
    let text = field.split(|byte| matches!(byte, 0 | b' ')).find(|part| !part.is_empty());
    text.map_or(Some(0), |text| u64::from_str_radix(std::str::from_utf8(text).ok()?, 8).ok())
}

#[cfg(test)]
mod tests {
    use kedge_bundle::tar;

    use super::*;

    fn archive(entries: &[(&str, &[u8])]) -> Vec<u8> {
        let mut out = Vec::new();
        for (name, content) in entries {
            out.extend_from_slice(&tar::header(name, content.len() as u64));
            out.extend_from_slice(content);
            out.resize(out.len() + tar::padding(content.len() as u64), 0);
        }
        out.resize(out.len() + 2 * BLOCK, 0);
        out
    }

    fn extract(archive: &[u8], wanted: &[&[u8]], piece: usize) -> (BTreeSet<Digest>, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let content = Content::open(folder.path().to_owned()).unwrap();
        let wanted = wanted.iter().map(|layer| (Digest::of(layer), layer.len() as u64)).collect();
        let mut extractor = Extractor::new(&content, wanted);
        for piece in archive.chunks(piece) {
            extractor.push(piece).unwrap();
        }
        let found = extractor.finish();
        for digest in &found {
            content.read_blob(digest, 1 << 20).unwrap();
        }
        assert_eq!(std::fs::read_dir(folder.path().join("partial")).unwrap().count(), 0);
        (found, folder)
    }

    #[test]
    fn layers_are_found_by_what_they_are_whatever_they_are_called() {
        let (a, b, c) = (vec![1; 700], vec![2; 700], vec![3; 512]);
        let archive = archive(&[("x/layer.tar", &a), ("x/json", b"{}"), ("blobs/sha256/y", &b), ("z", &c)]);
        for piece in [1, 511, 513, 100_000] {
            let (found, _folder) = extract(&archive, &[&b, &c], piece);
            assert_eq!(found, BTreeSet::from([Digest::of(&b), Digest::of(&c)]));
        }
        assert!(extract(&archive, &[&[9; 700]], 100).0.is_empty(), "of the right size, and another");
        assert!(extract(&archive[..900], &[&a], 100).0.is_empty(), "cut off");
        assert!(extract(&vec![0xff; 5000], &[&a], 100).0.is_empty(), "no archive");
    }
}
