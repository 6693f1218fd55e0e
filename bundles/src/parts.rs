//! A bundle in parts: for media and file systems that cannot hold it in one file.
//!
//! A part is a head of [`HEAD`] bytes and a piece of the bundle. The head is text, in one spelling, filled up with zeros:
//!
//! ```text
//!  kedge bundle part 1      the format
//!  number 2                 from 1
//!  count 3
//!  bytes 4294966272         of this piece
//!  total 9663676416         of the bundle
//!  bundle 6ab0…             SHA-256 of the whole bundle: parts of one bundle know each other by it
//!  digest 91c4…             SHA-256 of this head, with zeros in this place, and the piece
//! ```
//!
//! Names and order of the files mean nothing. Nothing here is trust: what is joined is verified as any bundle is. Heads and
//! digests are there to say *which* file is missing, foreign or damaged, and to say it before hours were spent.

pub mod folder;

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Read};

use sha2::{Digest as _, Sha256};

use crate::codes::{self, Code, Coded};
use crate::digest::Digest;

/// Bytes of a head.
pub const HEAD: usize = 512;

/// Parts of one bundle.
pub const MOST: u32 = 9999;

/// What a part says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// From 1.
    pub number: u32,
    /// How many there are.
    pub count: u32,
    /// Bytes of this piece.
    pub bytes: u64,
    /// Bytes of the bundle.
    pub total: u64,
    /// Of the whole bundle.
    pub bundle: Digest,
    /// Of this part.
    pub digest: Digest,
}

/// What is wrong with the parts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Not the head of a part.
    #[error("it is no part of a bundle")]
    Head,
    /// Not all are there.
    #[error("part {} of {count} is missing{}", .numbers.first().copied().unwrap_or_default(), others(.numbers))]
    Missing {
        /// Which.
        numbers: Vec<u32>,
        /// Of how many.
        count: u32,
    },
    /// One number twice.
    #[error("part {0} is there twice")]
    Duplicate(u32),
    /// Parts of more than one bundle, or of two splittings of one.
    #[error("there are parts of different bundles: {0} and {1}")]
    Foreign(Digest, Digest),
    /// Sizes that do not add up.
    #[error("the parts have {found} bytes, the bundle has {wanted}")]
    Total {
        /// Of the bundle.
        wanted: u64,
        /// Of all parts.
        found: u64,
    },
    /// Not what its head says.
    #[error("part {0} was damaged or cut off: its content is not what its head says")]
    Damaged(u32),
}

fn others(numbers: &[u32]) -> String {
    match numbers.len() {
        0 | 1 => String::new(),
        more => format!(", and {} more", more - 1),
    }
}

impl Coded for Fault {
    fn code(&self) -> Code {
        codes::PARTS
    }
}

impl Head {
    /// The head's bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; HEAD] {
        let Self { number, count, bytes, total, bundle, digest } = self;
        let text = format!(
            "kedge bundle part 1\nnumber {number}\ncount {count}\nbytes {bytes}\ntotal {total}\nbundle {}\ndigest {}\n",
            bundle.hex(),
            digest.hex()
        );
        let mut head = [0; HEAD];
        // Five numbers and two digests have 270 bytes at most.
        for (to, from) in head.iter_mut().zip(text.bytes()) {
            *to = from;
        }
        head
    }

    /// Reads a head, which has one spelling.
    ///
    /// # Errors
    /// [`Fault::Head`].
    pub fn parse(head: &[u8; HEAD]) -> Result<Self, Fault> {
        let parsed = Self::lines(head).ok_or(Fault::Head)?;
        let is_sound = (1..=MOST).contains(&parsed.count) && (1..=parsed.count).contains(&parsed.number);
        if is_sound && parsed.encode() == *head { Ok(parsed) } else { Err(Fault::Head) }
    }

    fn lines(head: &[u8]) -> Option<Self> {
        let text = head.split(|byte| *byte == 0).next()?;
        let mut lines = std::str::from_utf8(text).ok()?.lines();
        (lines.next()? == "kedge bundle part 1").then_some(())?;
        let mut field = |name: &str| lines.next()?.strip_prefix(name)?.strip_prefix(' ');
        Some(Self {
            number: field("number")?.parse().ok()?,
            count: field("count")?.parse().ok()?,
            bytes: field("bytes")?.parse().ok()?,
            total: field("total")?.parse().ok()?,
            bundle: Digest::from_hex(field("bundle")?).ok()?,
            digest: Digest::from_hex(field("digest")?).ok()?,
        })
    }

    /// The digest that the head must have, over a piece.
    ///
    /// # Errors
    /// Those of reading it.
    pub fn sealed(mut self, piece: &mut impl Read) -> io::Result<Self> {
        let mut seal = self.seal();
        hash(piece, &mut seal)?;
        self.digest = Digest::from_bytes(seal.finalize().into());
        Ok(self)
    }

    fn seal(&self) -> Sha256 {
        let unsealed = Self { digest: Digest::from_bytes([0; 32]), ..self.clone() };
        Sha256::new_with_prefix(unsealed.encode())
    }
}

/// Hashes all that is left to read.
fn hash(source: &mut impl Read, hash: &mut Sha256) -> io::Result<()> {
    let mut buffer = vec![0; 128 << 10];
    loop {
        match source.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(read) => hash.update(&buffer[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Puts parts in their order, each with whatever belongs to it.
///
/// # Errors
/// [`Fault`] where they are not all the parts of one bundle, each once.
pub fn arrange<T>(parts: Vec<(Head, T)>) -> Result<Vec<(Head, T)>, Fault> {
    let Some(first) = parts.first().map(|(head, _)| head.clone()) else {
        return Err(Fault::Missing { numbers: vec![1], count: 1 });
    };
    let mut ordered = BTreeMap::new();
    for (head, part) in parts {
        if head.bundle != first.bundle || (head.count, head.total) != (first.count, first.total) {
            return Err(Fault::Foreign(first.bundle, head.bundle));
        }
        let number = head.number;
        if ordered.insert(number, (head, part)).is_some() {
            return Err(Fault::Duplicate(number));
        }
    }
    let numbers: Vec<u32> = (1..=first.count).filter(|number| !ordered.contains_key(number)).collect();
    if !numbers.is_empty() {
        return Err(Fault::Missing { numbers, count: first.count });
    }
    let found = ordered.values().fold(0_u64, |sum, (head, _)| sum.saturating_add(head.bytes));
    if found != first.total {
        return Err(Fault::Total { wanted: first.total, found });
    }
    Ok(ordered.into_values().collect())
}

/// A piece of a bundle that can be opened: what it reads begins after the head.
pub type Open = Box<dyn FnOnce() -> io::Result<Box<dyn Read + Send>> + Send>;

/// The bundle of which these are the parts, read in one pass.
///
/// Each part is compared with its head as it passes; one that is not what that says ends the reading with an error that
/// holds a [`Fault`].
pub struct Joined {
    waiting: VecDeque<(Head, Open)>,
    current: Option<Current>,
}

struct Current {
    head: Head,
    piece: io::Take<Box<dyn Read + Send>>,
    seal: Sha256,
}

impl Joined {
    /// Of parts in their order: see [`arrange`].
    #[must_use]
    pub fn new(parts: Vec<(Head, Open)>) -> Self {
        Self { waiting: parts.into(), current: None }
    }
}

impl Read for Joined {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            let Some(current) = &mut self.current else {
                let Some((head, open)) = self.waiting.pop_front() else { return Ok(0) };
                // One byte more, to notice a file that goes on after its piece.
                let piece = open()?.take(head.bytes.saturating_add(1));
                self.current = Some(Current { seal: head.seal(), head, piece });
                continue;
            };
            let damaged = Fault::Damaged(current.head.number);
            let read = match current.piece.read(buffer) {
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if current.piece.limit() == 0 {
                return Err(io::Error::new(io::ErrorKind::InvalidData, damaged));
            }
            if read > 0 {
                current.seal.update(&buffer[..read]);
                return Ok(read);
            }
            let is_whole = current.piece.limit() == 1
                && Digest::from_bytes(current.seal.clone().finalize().into()) == current.head.digest;
            self.current = None;
            if !is_whole {
                self.waiting.clear();
                return Err(io::Error::new(io::ErrorKind::InvalidData, damaged));
            }
        }
    }
}

/// How a bundle of this many bytes is cut into files of at most `size` bytes: numbers and bytes of the pieces.
///
/// A file stays 512 bytes below `size`: file systems that cannot hold 4 GiB can hold a part of 4 GiB's size.
/// `None` where that would make more than [`MOST`] parts, or no room for content.
#[must_use]
pub fn pieces(total: u64, size: u64) -> Option<Vec<(u32, u64)>> {
    let most = size.checked_sub(2 * HEAD as u64).filter(|most| *most > 0)?;
    let count = u32::try_from(total.div_ceil(most).max(1)).ok().filter(|count| *count <= MOST)?;
    let bytes = |number: u32| most.min(total - u64::from(number - 1) * most);
    Some((1..=count).map(|number| (number, bytes(number))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Head and piece of every part of a bundle.
    fn split(bundle: &[u8], size: u64) -> Vec<(Head, Vec<u8>)> {
        let pieces = pieces(bundle.len() as u64, size).unwrap();
        let mut at = 0;
        let head = |number, bytes| Head {
            number,
            count: pieces.len() as u32,
            bytes,
            total: bundle.len() as u64,
            bundle: Digest::of(bundle),
            digest: Digest::from_bytes([0; 32]),
        };
        let cut = |(number, bytes): &(u32, u64)| {
            let piece = bundle[at..at + *bytes as usize].to_vec();
            at += *bytes as usize;
            (head(*number, *bytes).sealed(&mut piece.as_slice()).unwrap(), piece)
        };
        pieces.iter().map(cut).collect()
    }

    fn join(parts: Vec<(Head, Vec<u8>)>) -> Result<Vec<u8>, Fault> {
        let open = |(head, piece): (Head, Vec<u8>)| -> (Head, Open) {
            (head, Box::new(move || Ok(Box::new(io::Cursor::new(piece)))))
        };
        let mut joined = Vec::new();
        match Joined::new(arrange(parts)?.into_iter().map(open).collect()).read_to_end(&mut joined) {
            Ok(_) => Ok(joined),
            Err(error) => Err(error.into_inner().unwrap().downcast_ref::<Fault>().unwrap().clone()),
        }
    }

    fn bundle() -> Vec<u8> {
        (0..10_000_u32).flat_map(u32::to_le_bytes).collect()
    }

    #[test]
    fn a_head_has_one_spelling() {
        let (head, _) = split(&bundle(), 20_000).remove(1);
        let bytes = head.encode();
        assert_eq!(Head::parse(&bytes).unwrap(), head);
        for change in ["number 02", "number +2", "number  2", "kedge bundle part 2", "NUMBER 2"] {
            let text = String::from_utf8(bytes.to_vec()).unwrap();
            let line = if change.contains("kedge") { "kedge bundle part 1" } else { "number 2" };
            let mut other = text.replacen(line, change, 1).into_bytes();
            other.resize(HEAD, 0);
            assert_eq!(Head::parse(&other.try_into().unwrap()), Err(Fault::Head), "{change}");
        }
        let mut trailing = bytes;
        trailing[HEAD - 1] = 1;
        assert_eq!(Head::parse(&trailing), Err(Fault::Head));
        for (number, count) in [(0, 3), (4, 3), (1, 0), (1, MOST + 1)] {
            let other = Head { number, count, ..head.clone() };
            assert_eq!(Head::parse(&other.encode()), Err(Fault::Head), "{number} of {count}");
        }
        let longest = Head { number: MOST, count: MOST, bytes: u64::MAX, total: u64::MAX, ..head };
        assert_eq!(Head::parse(&longest.encode()).unwrap(), longest);
    }

    #[test]
    fn parts_in_any_order_are_the_bundle() {
        let bundle = bundle();
        let mut parts = split(&bundle, 12_000);
        assert_eq!(parts.len(), 4);
        parts.rotate_left(3);
        parts.swap(0, 1);
        assert_eq!(join(parts).unwrap(), bundle);
        assert_eq!(join(split(&bundle, 1 << 30)).unwrap(), bundle, "one is enough");
    }

    #[test]
    fn a_set_that_is_not_whole_is_refused_before_it_is_read() {
        let parts = || split(&bundle(), 12_000);
        let of = |numbers: &[usize]| numbers.iter().map(|n| parts()[*n].clone()).collect::<Vec<_>>();
        assert_eq!(join(of(&[0, 1, 3])), Err(Fault::Missing { numbers: vec![3], count: 4 }));
        assert_eq!(join(of(&[2])), Err(Fault::Missing { numbers: vec![1, 2, 4], count: 4 }));
        assert_eq!(join(of(&[0, 1, 1, 2, 3])), Err(Fault::Duplicate(2)));
        let mut other = bundle();
        other[0] ^= 1;
        let foreign = split(&other, 12_000);
        let mixed = vec![parts()[0].clone(), foreign[1].clone(), parts()[2].clone(), parts()[3].clone()];
        assert_eq!(join(mixed), Err(Fault::Foreign(Digest::of(&bundle()), Digest::of(&other))));
        let resplit = vec![parts()[0].clone(), split(&bundle(), 20_000)[1].clone()];
        assert!(matches!(join(resplit), Err(Fault::Foreign(..))), "of another splitting");
        let mut lying = parts();
        lying[0].0.bytes += 1;
        assert!(matches!(join(lying), Err(Fault::Total { .. })));
        assert!(join(Vec::new()).is_err());
    }

    #[test]
    fn a_part_that_is_not_what_its_head_says_is_named() {
        let broken = |change: fn(&mut Vec<(Head, Vec<u8>)>)| {
            let mut parts = split(&bundle(), 12_000);
            change(&mut parts);
            join(parts)
        };
        assert_eq!(broken(|parts| parts[1].1[7] ^= 1), Err(Fault::Damaged(2)));
        assert_eq!(broken(|parts| parts[1].1.truncate(7)), Err(Fault::Damaged(2)));
        assert_eq!(broken(|parts| parts[3].1.push(0)), Err(Fault::Damaged(4)));
        let renumbered = broken(|parts| {
            parts[1].0.number = 3;
            parts[2].0.number = 2;
        });
        assert!(matches!(renumbered, Err(Fault::Damaged(2))), "{renumbered:?}");
    }

    #[test]
    fn pieces_fill_the_bundle_and_stay_below_the_size() {
        assert_eq!(pieces(1000, 1024 + 400), Some(vec![(1, 400), (2, 400), (3, 200)]));
        assert_eq!(pieces(800, 1024 + 400), Some(vec![(1, 400), (2, 400)]));
        assert_eq!(pieces(0, 2000), Some(vec![(1, 0)]));
        assert_eq!(pieces(1, 1024), None);
        assert_eq!(pieces(u64::MAX, 1 << 20), None);
    }
}
