//! A release that is here, read back: its signed statement and the list of its content.
//!
//! Its signatures were checked when it was admitted. What is checked again is the chain of digests from the
//! release's name, which the store remembers, down to every manifest: a changed byte on disk is noticed.

use std::collections::{BTreeMap, BTreeSet};

use kedge_bundle::digest::Digest;
use kedge_bundle::envelope::Envelope;
use kedge_bundle::layout::{Content as Listing, Expected, Kind, limits};
use kedge_bundle::roles::{Release, Root};

use super::Content;
use crate::codes;
use crate::problem::Problem;
use crate::store::ReleaseRef;

/// A release and what is in it.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// Its name.
    pub digest: Digest,
    /// What was signed.
    pub release: Release,
    /// Of the newest root that it came with: numbers of releases mean something within an epoch only.
    pub epoch: u64,
    /// What is in it.
    pub listing: Listing,
    /// All blobs but layers: what has to stay here for the release to be deployed again.
    pub small_blobs: BTreeSet<Digest>,
}

impl Loaded {
    /// As everything here refers to it.
    pub fn reference(&self) -> ReleaseRef {
        reference(&self.release, &self.digest)
    }

    /// Its place among the releases of its stream.
    pub fn rank(&self) -> (u64, u64) {
        (self.epoch, self.release.seq)
    }

    /// The layers, which the engine holds once the images were loaded: as they came, and as plain tars that were made here.
    pub fn layers(&self) -> BTreeSet<Digest> {
        let layers = self.listing.images.iter().flat_map(|image| &image.layers);
        layers.flat_map(|layer| [layer.digest, layer.diff_id]).collect()
    }
}

/// A release as everything here refers to it.
pub fn reference(release: &Release, digest: &Digest) -> ReleaseRef {
    ReleaseRef {
        product: release.product.clone(),
        stream: release.stream.clone(),
        version: release.version.clone(),
        seq: release.seq,
        digest: digest.to_string(),
    }
}

/// Parses a digest that the store or a peer gave as text.
///
/// # Errors
/// When it is none.
pub fn parse_digest(text: &str) -> Result<Digest, Problem> {
    text.parse().map_err(|_| Problem::new(&codes::PROTOCOL, format!("{text:.80} is no digest")))
}

/// Reads a release back.
///
/// # Errors
/// When it is not here or something of it was changed on disk.
pub fn load(content: &Content, digest: &Digest) -> Result<Loaded, Problem> {
    let damaged = |why: String| {
        Problem::new(&codes::STATE_FOLDER, format!("the stored release {digest} is damaged: {why}"))
    };
    let documents = content.documents(digest)?;
    let envelope = Envelope::parse(&documents.release).map_err(|e| damaged(e.to_string()))?;
    if Digest::of(&envelope.payload) != *digest {
        return Err(damaged("release.json is another one".to_owned()));
    }
    let release: Release =
        kedge_bundle::json::strict(&envelope.payload).map_err(|e| damaged(e.to_string()))?;
    if Digest::of(&documents.index) != release.index.digest {
        return Err(damaged("index.json is not the signed one".to_owned()));
    }
    let mut expected =
        Expected::new(&documents.index, release.content_bytes).map_err(|e| damaged(e.to_string()))?;
    let mut small_blobs = BTreeSet::new();
    while let Some(blob) = expected.next().cloned() {
        if blob.kind != Kind::Layer {
            small_blobs.insert(blob.digest);
        }
        let bytes = if blob.kind.is_metadata() {
            content.read_blob(&blob.digest, limits::METADATA)?
        } else {
            Vec::new()
        };
        expected.take(&bytes).map_err(|e| damaged(e.to_string()))?;
    }
    let listing = expected.finish(&documents.manifest).map_err(|e| damaged(e.to_string()))?;
    let epoch = documents.roots.last().map_or(Ok(0), |root| epoch(root)).map_err(damaged)?;
    Ok(Loaded { digest: *digest, release, epoch, listing, small_blobs })
}

fn epoch(root: &[u8]) -> Result<u64, String> {
    let envelope = Envelope::parse(root).map_err(|e| e.to_string())?;
    let root: Root = kedge_bundle::json::strict(&envelope.payload).map_err(|e| e.to_string())?;
    Ok(root.epoch)
}

/// The project's files, from their blobs.
///
/// # Errors
/// When one is not here or damaged.
pub fn files(content: &Content, loaded: &Loaded) -> Result<BTreeMap<String, Vec<u8>>, Problem> {
    let read = |file: &kedge_bundle::layout::File| {
        Ok((file.path.clone(), content.read_blob(&file.digest, limits::FILE)?))
    };
    loaded.listing.files.iter().map(read).collect()
}
