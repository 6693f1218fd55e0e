//! A bundle's file as the hub sees it: verified whole, and where everything lies in it.
//!
//! The archive has one spelling (strict ustar, one order, no extensions), so places follow from sizes:
//! each entry is one block of header, its bytes, and zeros up to the next block.

use super::releases::{DocumentSpans, Span};
use crate::error::{Failure, Result};
use jiff::Timestamp;
use kedge_bundle::codes::Coded;
use kedge_bundle::digest::Digest;
use kedge_bundle::envelope::Envelope;
use kedge_bundle::layout::Blob;
use kedge_bundle::reader::{self, Sink};
use kedge_bundle::roles::{Audience, Release, Role};
use kedge_bundle::tar::BLOCK;
use kedge_bundle::verify::{self, Context, Documents, Trust, Verified};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fs::File;
use std::io::{BufReader, Seek};
use std::path::Path;

/// A bundle that may be published.
pub struct Checked {
    /// The release that it holds.
    pub verified: Verified,
    /// Where its documents are.
    pub documents: DocumentSpans,
    /// Where its blobs are.
    pub blobs: BTreeMap<Digest, Span>,
    /// Where the delta document of a thin one is.
    pub delta: Option<Span>,
    /// Its chain of roots.
    pub roots: Vec<Vec<u8>>,
    /// Length of the file.
    pub bytes: u64,
}

/// Verifies the file as a host of its audience would. `progress` hears of bytes as they are read.
pub fn check(path: &Path, trust: &Trust, now: Timestamp, progress: &mut dyn FnMut(u64)) -> Result<Checked> {
    let unreadable = |error: std::io::Error| {
        Failure::new(kedge_bundle::codes::READ, format!("{} cannot be read", path.display())).because(error)
    };
    let mut file = File::open(path).map_err(unreadable)?;
    let bytes = file.metadata().map_err(unreadable)?.len();
    let site = one_site(&reader::documents(BufReader::new(&file)).map_err(|error| refused(&error))?, trust)?;
    file.rewind().map_err(unreadable)?;
    let context = Context { site: site.as_deref(), ..Context::at(now) };
    let mut places = Places { end: 0, verified: None, delta: None, blobs: BTreeMap::new(), progress };
    reader::read(BufReader::new(&file), trust, &context, &mut places).map_err(|error| refused(&error))?;
    match places {
        Places { verified: Some((verified, documents, roots)), blobs, delta, .. } => {
            Ok(Checked { verified, documents, blobs, delta, roots, bytes })
        }
        Places { verified: None, .. } => {
            Err(Failure::new(kedge_bundle::codes::DOCUMENT, "the bundle holds no release"))
        }
    }
}

/// Fingerprint of a root document: the digest of its payload.
pub fn fingerprint(root: &[u8]) -> Result<Digest> {
    let envelope = Envelope::parse(root).map_err(|error| {
        Failure::new(kedge_bundle::codes::DOCUMENT, "this is not a root document").because(error)
    })?;
    Ok(Digest::of(&envelope.payload))
}

/// As which site to verify: the hub has none of its own, so it takes the first that is named.
pub fn one_site(documents: &Documents, trust: &Trust) -> Result<Option<String>> {
    let roots = verify::roots(trust, &documents.roots).map_err(|refusal| refused(&refusal))?;
    let payload = verify::signed(&roots.newest, Role::Release, &documents.release)
        .map_err(|refusal| refused(&refusal))?;
    match kedge_bundle::json::strict::<Release>(&payload) {
        Ok(Release { audience: Audience::Sites(sites), .. }) => Ok(sites.into_iter().next()),
        // What cannot be read is refused, with its reason, when all is verified.
        Ok(Release { audience: Audience::All, .. }) | Err(_) => Ok(None),
    }
}

fn refused<E: std::error::Error + Coded>(error: &E) -> Failure {
    Failure::new(error.code(), format!("the bundle is refused: {error}"))
}

/// Notes where entries lie as they pass.
struct Places<'a> {
    /// First byte after the last entry.
    end: u64,
    verified: Option<(Verified, DocumentSpans, Vec<Vec<u8>>)>,
    delta: Option<Span>,
    blobs: BTreeMap<Digest, Span>,
    progress: &'a mut dyn FnMut(u64),
}

impl Places<'_> {
    fn entry(&mut self, length: u64) -> Span {
        let block = BLOCK as u64;
        let offset = self.end + block;
        self.end = offset + length.next_multiple_of(block);
        Span { offset, length }
    }
}

impl Sink for Places<'_> {
    type Error = Infallible;

    fn takes_deltas(&self) -> bool {
        true
    }

    fn verified(&mut self, verified: &Verified, documents: &Documents) -> Result<(), Infallible> {
        // In the order of the archive.
        let oci_layout = self.entry(documents.oci_layout.len() as u64);
        let index = self.entry(documents.index.len() as u64);
        let manifest = self.entry(documents.manifest.len() as u64);
        let roots = documents.roots.iter().map(|root| self.entry(root.len() as u64)).collect();
        let release = self.entry(documents.release.len() as u64);
        let spans = DocumentSpans { roots, release, oci_layout, index, manifest };
        self.verified = Some((verified.clone(), spans, documents.roots.clone()));
        self.delta = documents.delta.as_ref().map(|delta| self.entry(delta.len() as u64));
        Ok(())
    }

    fn wants(&mut self, _: &Blob) -> bool {
        true
    }

    fn begin(&mut self, blob: &Blob) -> Result<(), Infallible> {
        let span = self.entry(blob.size);
        self.blobs.insert(blob.digest, span);
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Infallible> {
        (self.progress)(bytes.len() as u64);
        Ok(())
    }

    fn finish(&mut self, _: &Blob) -> Result<(), Infallible> {
        Ok(())
    }

    fn abort(&mut self, _: &Blob) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_follow_each_other_in_whole_blocks() {
        let mut places =
            Places { end: 0, verified: None, delta: None, blobs: BTreeMap::new(), progress: &mut |_| {} };
        let offsets: Vec<_> = [0, 1, 512, 513].map(|length| places.entry(length).offset).to_vec();
        assert_eq!(offsets, [512, 1024, 2048, 3072]);
        assert_eq!(places.end, 3072 + 1024);
    }
}
