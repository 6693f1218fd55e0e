//! Reads a bundle in one pass, from a file, a pipe or anything else that gives bytes.
//!
//! Entries have one order and one spelling (see [`crate::tar`] and [`Expected`](crate::layout::Expected)), so at every entry the
//! reader knows which name and size must be there; a bundle that verifies has not one byte that could have been
//! another, what the sink already has included: a medium that lies in one place is not to be believed in others. Memory is bounded by the documents
//! (4 MiB each, 32 MiB of them in all) and one manifest. Nothing is written but through the [`Sink`], and nothing to the
//! sink before all signatures have been verified.

use std::collections::VecDeque;
use std::io::{self, Read};

use crate::admission::{Admission, AdmissionError, Admitted};
use crate::codes::{self, Code, Coded};
use crate::delta;
use crate::json::MAX_SIZE;
use crate::layout::{Blob, Content, blob_path};
use crate::tar::{self, BLOCK};
use crate::verify::{Context, Documents, MAX_ROOTS, Trust, Verified};

/// All documents together, in bytes.
const MAX_DOCUMENTS: usize = 32 << 20;

/// Where the content of a bundle goes.
pub trait Sink {
    /// What can go wrong there.
    type Error: std::error::Error + Coded;

    /// Called once, when the documents are verified and before any blob: the place to check the disk
    /// ([`Release::content_bytes`](crate::roles::Release::content_bytes)), to keep the documents, and to see whether what a
    /// thin bundle leaves out ([`Verified::delta`]) is here.
    ///
    /// # Errors
    /// Ends the reading.
    fn verified(&mut self, verified: &Verified, documents: &Documents) -> Result<(), Self::Error>;

    /// Whether this sink can do with a thin bundle: what it leaves out does not come, and patches
    /// ([`Kind::Patch`](crate::layout::Kind::Patch)) come instead of layers. Otherwise one is refused.
    fn takes_deltas(&self) -> bool {
        false
    }

    /// Called once, when everything but the layers has come and before the first of them: all that the bundle holds is
    /// known from here on. The place to say no to a release that is genuine and not wanted, and to decide where layers go.
    ///
    /// # Errors
    /// Ends the reading.
    fn listed(&mut self, verified: &Verified, content: &Content) -> Result<(), Self::Error> {
        let _ = (verified, content);
        Ok(())
    }

    /// Whether a file or layer is wanted. `false` promises that its verified content is already stored; its bytes are
    /// then only compared with its digest. Metadata is always read, and offered by [`begin`](Self::begin) without asking.
    fn wants(&mut self, blob: &Blob) -> bool;

    /// The first of the calls for one blob.
    ///
    /// # Errors
    /// Ends the reading.
    fn begin(&mut self, blob: &Blob) -> Result<(), Self::Error>;

    /// Bytes of the blob begun last; not yet known to be right.
    ///
    /// # Errors
    /// Ends the reading; [`abort`](Self::abort) follows.
    fn write(&mut self, bytes: &[u8]) -> Result<(), Self::Error>;

    /// The blob begun last was complete and is what its digest says.
    ///
    /// # Errors
    /// Ends the reading.
    fn finish(&mut self, blob: &Blob) -> Result<(), Self::Error>;

    /// The blob begun last will not be completed: forget its bytes.
    fn abort(&mut self, blob: &Blob);
}

/// A sink that keeps nothing and wants everything: for verifying alone.
#[derive(Debug, Default)]
pub struct Discard;

impl Sink for Discard {
    type Error = std::convert::Infallible;

    fn takes_deltas(&self) -> bool {
        true
    }

    fn verified(&mut self, _: &Verified, _: &Documents) -> Result<(), Self::Error> {
        Ok(())
    }

    fn wants(&mut self, _: &Blob) -> bool {
        true
    }

    fn begin(&mut self, _: &Blob) -> Result<(), Self::Error> {
        Ok(())
    }

    fn write(&mut self, _: &[u8]) -> Result<(), Self::Error> {
        Ok(())
    }

    fn finish(&mut self, _: &Blob) -> Result<(), Self::Error> {
        Ok(())
    }

    fn abort(&mut self, _: &Blob) {}
}

/// A bundle that was read and verified whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// Its signed documents, as they were.
    pub documents: Documents,
    /// Release and content.
    pub admitted: Admitted,
}

/// Why a bundle was not read to its end. `E` is the sink's own error.
#[derive(Debug, thiserror::Error)]
pub enum Error<E: std::error::Error> {
    /// The archive is not as it should be.
    #[error("at byte {offset}: {fault}")]
    Archive {
        /// Of the entry's header.
        offset: u64,
        /// What is wrong.
        fault: ArchiveFault,
    },
    /// Verification refused it.
    #[error(transparent)]
    Admission(#[from] AdmissionError),
    /// A thin bundle where only a full one is taken.
    #[error("this is a delta, which builds on {0}; the full bundle is needed here")]
    Thin(String),
    /// The source failed.
    #[error("reading the bundle failed at byte {offset}: {source}")]
    Read {
        /// How far it was read.
        offset: u64,
        /// Why.
        source: io::Error,
    },
    /// The sink failed.
    #[error(transparent)]
    Sink(E),
}

/// What is wrong with an archive.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArchiveFault {
    /// A header.
    #[error(transparent)]
    Header(#[from] tar::Fault),
    /// The data end in the middle.
    #[error("the bundle ends in the middle of {0}")]
    Truncated(String),
    /// The archive ends, properly, before everything has come.
    #[error("the archive ends where {0} must come")]
    Missing(String),
    /// An entry that has been there already.
    #[error("{0} is there twice")]
    Duplicate(String),
    /// An entry that must come later, or earlier.
    #[error("{found} comes where {wanted} must come")]
    Order {
        /// What must come.
        wanted: String,
        /// What came.
        found: String,
    },
    /// A layer that is there though the delta document says that it is not.
    #[error("{0} is there, though the delta document leaves it out")]
    LeftOut(String),
    /// An entry that nothing lists.
    #[error("{0} is not listed by any signed document")]
    Unlisted(String),
    /// The header's size is not the listed one.
    #[error("{name} has {found} bytes, {wanted} are listed")]
    Size {
        /// Which.
        name: String,
        /// Listed.
        wanted: u64,
        /// In the header.
        found: u64,
    },
    /// A document larger than a document may be.
    #[error("{0} is too large for a document")]
    TooLarge(String),
    /// More root documents than allowed.
    #[error("more than {MAX_ROOTS} root documents")]
    TooManyRoots,
    /// Padding or the end marker is not zero.
    #[error("there are bytes other than zero in the padding")]
    Padding,
    /// Bytes after the end.
    #[error("there is data after the end of the archive")]
    Trailing,
}

impl<E: std::error::Error + Coded> Coded for Error<E> {
    fn code(&self) -> Code {
        match self {
            Self::Archive { fault, .. } => match fault {
                ArchiveFault::Truncated(_) => codes::TRUNCATED,
                ArchiveFault::Trailing => codes::TRAILING,
                ArchiveFault::Missing(_) | ArchiveFault::LeftOut(_) | ArchiveFault::Unlisted(_) => {
                    codes::BLOBS
                }
                _ => codes::ARCHIVE,
            },
            Self::Admission(error) => error.code(),
            Self::Thin(_) => codes::DELTA_BASE,
            Self::Read { .. } => codes::READ,
            Self::Sink(error) => error.code(),
        }
    }
}

/// Reads and verifies a whole bundle.
///
/// # Errors
/// [`Error`]. Whatever the sink took before is verified content under its own digest; a blob in the making is aborted.
pub fn read<S: Sink>(
    source: impl Read,
    trust: &Trust,
    context: &Context<'_>,
    sink: &mut S,
) -> Result<Imported, Error<S::Error>> {
    let mut archive = Archive::new(source);
    let documents = archive.documents()?;
    let mut admission = Admission::open(&documents, trust, context)?;
    if let Some(delta) = admission.verified().delta.as_ref().filter(|_| !sink.takes_deltas()) {
        return Err(Error::Thin(delta.built_on()));
    }
    sink.verified(admission.verified(), &documents).map_err(Error::Sink)?;
    blobs(&mut archive, &mut admission, sink)?;
    Ok(Imported { documents, admitted: admission.finish()? })
}

/// Reads only the documents at a bundle's beginning, and up to a block beyond them; nothing is verified.
///
/// # Errors
/// [`Error::Archive`] or [`Error::Read`].
pub fn documents(source: impl Read) -> Result<Documents, Error<std::convert::Infallible>> {
    Archive::new(source).documents()
}

/// Reads a whole bundle and checks every digest, but no signature: for showing what is in it, in the vendor's tools.
#[cfg(feature = "build")]
pub(crate) fn inspect<S: Sink>(source: impl Read, sink: &mut S) -> Result<Imported, Error<S::Error>> {
    let mut archive = Archive::new(source);
    let documents = archive.documents()?;
    let verified = crate::verify::unverified(&documents).map_err(AdmissionError::from)?;
    let mut admission = Admission::unverified(&documents, verified)?;
    sink.verified(admission.verified(), &documents).map_err(Error::Sink)?;
    blobs(&mut archive, &mut admission, sink)?;
    Ok(Imported { documents, admitted: admission.finish()? })
}

/// Reads the blobs that the admission expects, and the end of the archive.
fn blobs<R: Read, S: Sink>(
    archive: &mut Archive<R>,
    admission: &mut Admission,
    sink: &mut S,
) -> Result<(), Error<S::Error>> {
    let mut buffer = vec![0; 128 << 10];
    let mut is_listed = false;
    loop {
        if !is_listed && let Some(content) = admission.listing()? {
            sink.listed(admission.verified(), &content).map_err(Error::Sink)?;
            is_listed = true;
        }
        let Some(mut intake) = admission.begin()? else { break };
        let blob = intake.blob().clone();
        archive.blob_header(admission, &blob)?;
        if !blob.kind.is_metadata() && !sink.wants(&blob) {
            intake.already_unpacked();
            let path = blob_path(&blob.digest);
            archive.content(&path, blob.size, &mut buffer, |bytes| Ok(intake.write(bytes)?))?;
            admission.accept(intake)?;
            continue;
        }
        sink.begin(&blob).map_err(Error::Sink)?;
        let passed = archive.content(&blob_path(&blob.digest), blob.size, &mut buffer, |bytes| {
            intake.write(bytes)?;
            sink.write(bytes).map_err(Error::Sink)
        });
        let verified = passed.and_then(|()| Ok(admission.accept(intake)?));
        if let Err(error) = verified {
            sink.abort(&blob);
            return Err(error);
        }
        sink.finish(&blob).map_err(Error::Sink)?;
    }
    archive.end(admission)
}

/// The archive as it is read.
struct Archive<R> {
    source: R,
    /// Bytes read.
    offset: u64,
    /// Where the entry at hand began.
    entry: u64,
    /// Read ahead to see whether one more document comes.
    ahead: VecDeque<u8>,
    /// Why no more could be read ahead.
    failed: Option<io::Error>,
}

impl<R: Read> Archive<R> {
    const fn new(source: R) -> Self {
        Self { source, offset: 0, entry: 0, ahead: VecDeque::new(), failed: None }
    }

    fn fault<E: std::error::Error>(&self, fault: ArchiveFault) -> Error<E> {
        Error::Archive { offset: self.entry, fault }
    }

    /// Fills `bytes`, which belong to `what`.
    fn fill<E: std::error::Error>(&mut self, what: &str, bytes: &mut [u8]) -> Result<(), Error<E>> {
        let mut filled = 0;
        while filled < bytes.len() {
            match self.read(&mut bytes[filled..]) {
                Ok(0) => return Err(self.fault(ArchiveFault::Truncated(what.into()))),
                Ok(count) => {
                    filled += count;
                    self.offset += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(Error::Read { offset: self.offset, source }),
            }
        }
        Ok(())
    }

    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        if !self.ahead.is_empty() {
            return io::Read::read(&mut self.ahead, bytes);
        }
        self.failed.take().map_or_else(|| self.source.read(bytes), Err)
    }

    /// Whether the next entry has this name. Trouble is left for whoever reads on.
    fn comes(&mut self, name: &str) -> bool {
        let mut block = [0; BLOCK];
        while self.ahead.len() < BLOCK {
            let left = BLOCK - self.ahead.len();
            match self.source.read(&mut block[..left]) {
                Ok(0) => return false,
                Ok(count) => self.ahead.extend(&block[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.failed = Some(error);
                    return false;
                }
            }
        }
        block.copy_from_slice(self.ahead.make_contiguous());
        matches!(tar::parse(&block), Ok(Some(entry)) if entry.name == name)
    }

    /// The next header; `None` for the first block of the end.
    fn header<E: std::error::Error>(&mut self, wanted: &str) -> Result<Option<tar::Entry>, Error<E>> {
        self.entry = self.offset;
        let mut block = [0; BLOCK];
        self.fill(&format!("the header of {wanted}"), &mut block)?;
        tar::parse(&block).map_err(|fault| self.fault(fault.into()))
    }

    /// Hands over `size` bytes of content piece by piece, and checks the padding.
    fn content<E: std::error::Error>(
        &mut self,
        name: &str,
        size: u64,
        buffer: &mut [u8],
        mut take: impl FnMut(&[u8]) -> Result<(), Error<E>>,
    ) -> Result<(), Error<E>> {
        let mut left = size;
        while left > 0 {
            let piece = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
            self.fill(name, &mut buffer[..piece])?;
            take(&buffer[..piece])?;
            left -= piece as u64;
        }
        let mut padding = [0; BLOCK];
        let padding = &mut padding[..tar::padding(size)];
        self.fill(name, padding)?;
        if padding.iter().any(|byte| *byte != 0) {
            return Err(self.fault(ArchiveFault::Padding));
        }
        Ok(())
    }

    /// Everything before the blobs.
    fn documents<E: std::error::Error>(&mut self) -> Result<Documents, Error<E>> {
        let mut left = MAX_DOCUMENTS;
        let mut documents = Documents {
            oci_layout: self.document("oci-layout", None, &mut left)?.1,
            index: self.document("index.json", None, &mut left)?.1,
            manifest: self.document("manifest.json", None, &mut left)?.1,
            ..Documents::default()
        };
        loop {
            let root = format!("kedge/root/{}.json", documents.roots.len() + 1);
            let release = "kedge/release.json";
            // A chain of none is no chain: the first must be there.
            let other = (!documents.roots.is_empty()).then_some(release);
            let (name, bytes) = self.document(&root, other, &mut left)?;
            if name == release {
                documents.release = bytes;
                if self.comes(delta::PATH) {
                    documents.delta = Some(self.document(delta::PATH, None, &mut left)?.1);
                }
                return Ok(documents);
            }
            if documents.roots.len() == MAX_ROOTS {
                return Err(self.fault(ArchiveFault::TooManyRoots));
            }
            documents.roots.push(bytes);
        }
    }

    /// The document `wanted`, or `other` where that may come instead.
    fn document<E: std::error::Error>(
        &mut self,
        wanted: &str,
        other: Option<&str>,
        left: &mut usize,
    ) -> Result<(String, Vec<u8>), Error<E>> {
        let Some(entry) = self.header(wanted)? else {
            return Err(self.fault(ArchiveFault::Missing(other.unwrap_or(wanted).into())));
        };
        if entry.name != wanted && Some(entry.name.as_str()) != other {
            let wanted = other.map_or_else(|| wanted.to_owned(), |other| format!("{wanted} or {other}"));
            return Err(self.fault(ArchiveFault::Order { wanted, found: entry.name }));
        }
        let size = usize::try_from(entry.size).unwrap_or(usize::MAX);
        if size > MAX_SIZE.min(*left) {
            return Err(self.fault(ArchiveFault::TooLarge(entry.name)));
        }
        *left -= size;
        let mut bytes = Vec::with_capacity(size);
        self.content(&entry.name, entry.size, &mut vec![0; size.max(1)], |piece| {
            bytes.extend_from_slice(piece);
            Ok(())
        })?;
        Ok((entry.name, bytes))
    }

    /// The header of the blob that must come now.
    fn blob_header<E: std::error::Error>(
        &mut self,
        admission: &Admission,
        blob: &Blob,
    ) -> Result<(), Error<E>> {
        let wanted = blob_path(&blob.digest);
        let Some(entry) = self.header(&wanted)? else {
            return Err(self.fault(ArchiveFault::Missing(wanted)));
        };
        if entry.name != wanted {
            return Err(self.fault(misplaced(admission, wanted, entry.name)));
        }
        if entry.size != blob.size {
            let (name, wanted, found) = (wanted, blob.size, entry.size);
            return Err(self.fault(ArchiveFault::Size { name, wanted, found }));
        }
        Ok(())
    }

    /// Two blocks of zeros, and then nothing.
    fn end<E: std::error::Error>(&mut self, admission: &Admission) -> Result<(), Error<E>> {
        let end = "the end of the archive";
        if let Some(entry) = self.header(end)? {
            return Err(self.fault(misplaced(admission, end.into(), entry.name)));
        }
        let mut block = [0; BLOCK];
        self.fill(end, &mut block)?;
        if block.iter().any(|byte| *byte != 0) {
            return Err(self.fault(ArchiveFault::Trailing));
        }
        loop {
            match self.read(&mut block) {
                Ok(0) => return Ok(()),
                Ok(_) => return Err(self.fault(ArchiveFault::Trailing)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(Error::Read { offset: self.offset, source }),
            }
        }
    }
}

/// Why an entry is not where it should be.
fn misplaced(admission: &Admission, wanted: String, found: String) -> ArchiveFault {
    let digest =
        found.strip_prefix("blobs/sha256/").and_then(|hex| crate::digest::Digest::from_hex(hex).ok());
    let coming = digest.is_some_and(|digest| admission.remaining().any(|blob| blob.digest == digest));
    let left_out = |digest| {
        let delta = admission.verified().delta.as_ref();
        delta.is_some_and(|delta| {
            delta.left_out.iter().any(|one| one.digest == digest)
                || delta.patches.iter().any(|one| one.digest == digest)
        })
    };
    match digest {
        _ if coming => ArchiveFault::Order { wanted, found },
        Some(digest) if left_out(digest) => ArchiveFault::LeftOut(found),
        Some(digest) if admission.listed(&digest).is_some() => ArchiveFault::Duplicate(found),
        _ => ArchiveFault::Unlisted(found),
    }
}

#[cfg(test)]
mod tests;
