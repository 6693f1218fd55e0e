//! A bundle's file, opened: what is in it, and where each blob lies.
//!
//! Every digest is checked on the way; signatures and dates are not: whoever builds upon a bundle made it, and for others to
//! check are those that it is passed on to.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use super::{BuildError, BundleError, Progress};
use crate::assemble::{Source, write_documents};
use crate::digest::Digest;
use crate::layout::{Blob, Content};
use crate::reader::{self, Imported, Sink};
use crate::tar::{BLOCK, padding};
use crate::verify::{Documents, Verified};

/// An opened bundle.
#[derive(Debug)]
pub(super) struct Opened {
    /// Its documents.
    pub(super) documents: Documents,
    /// The beginning of the file, up to the blobs.
    pub(super) head: Vec<u8>,
    /// What they say.
    pub(super) verified: Verified,
    /// What the release holds, come or left out.
    pub(super) content: Content,
    /// The blobs that are in the file, in their order.
    pub(super) blobs: Vec<(Blob, Source)>,
}

impl Opened {
    /// Reads the whole file; `purpose` is what progress calls that.
    pub(super) fn read(path: &Path, purpose: &str, progress: &dyn Progress) -> Result<Self, BundleError> {
        let file = File::open(path).map_err(BuildError::file(path))?;
        progress.begin(purpose, file.metadata().ok().map(|meta| meta.len()));
        let mut passing = Passing { blobs: Vec::new(), progress };
        let Imported { documents, admitted } =
            reader::inspect(BufReader::with_capacity(1 << 20, file), &mut passing)?;
        progress.end();
        // Documents have one spelling, so writing them again says where the blobs begin.
        let mut head = Vec::new();
        write_documents(&mut head, &documents).map_err(BuildError::file(path))?;
        let mut end = head.len() as u64;
        let place = |blob: Blob| {
            let offset = end + BLOCK as u64;
            end = offset + blob.size + padding(blob.size) as u64;
            let source = Source::Part { path: path.into(), offset, size: blob.size };
            (blob, source)
        };
        let blobs = passing.blobs.into_iter().map(place).collect();
        Ok(Self { documents, head, verified: admitted.verified, content: admitted.content, blobs })
    }

    /// The blobs that are in the file, by digest.
    pub(super) fn sources(&self) -> BTreeMap<Digest, &Source> {
        self.blobs.iter().map(|(blob, source)| (blob.digest, source)).collect()
    }
}

/// Notes blobs as they pass.
struct Passing<'a> {
    blobs: Vec<Blob>,
    progress: &'a dyn Progress,
}

impl Sink for Passing<'_> {
    type Error = Infallible;

    fn takes_deltas(&self) -> bool {
        true
    }

    fn verified(&mut self, _: &Verified, _: &Documents) -> Result<(), Infallible> {
        Ok(())
    }

    fn wants(&mut self, _: &Blob) -> bool {
        true
    }

    fn begin(&mut self, blob: &Blob) -> Result<(), Infallible> {
        self.blobs.push(blob.clone());
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Infallible> {
        self.progress.advance(bytes.len() as u64);
        Ok(())
    }

    fn finish(&mut self, _: &Blob) -> Result<(), Infallible> {
        Ok(())
    }

    fn abort(&mut self, _: &Blob) {}
}
