//! What a bundle looks like in a registry. Pure: bytes in, bytes out, and the same bytes for the same bundle.
//!
//! ```text
//!  TAG ─► index, artifactType application/vnd.kedge.bundle.v1+json
//!           ├── image manifests      as they are in the bundle, byte for byte: `docker pull REPOSITORY@DIGEST` takes them
//!           ├── product manifest     the same; its layers are the product's files
//!           └── documents manifest   artifactType application/vnd.kedge.documents.v1+json; its layers are
//!                                    oci-layout, index.json, manifest.json, kedge/root/1.json …, kedge/release.json
//! ```
//!
//! Everything hangs on the one tag, so that a registry's clean-up takes all of it or none, and nothing depends on the
//! referrers API, which many registries lack. The signed documents lead to every blob, and one set of documents makes
//! exactly one archive: so the same file comes back.
//!
//! Registries refuse a manifest whose blobs they lack. An image that is not whole in the bundle (of a delta) is therefore no
//! manifest there; it and what else no manifest lists are further layers of the documents manifest.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::json;
use crate::layout::{Blob, Descriptor, Index, Kind, Manifest, media};
use crate::roles::Release;
use crate::tar::{self, BLOCK};

/// Artifact type of the index that a tag points to.
pub(super) const BUNDLE: &str = "application/vnd.kedge.bundle.v1+json";
/// Artifact type of the manifest that lists the documents.
pub(super) const DOCUMENTS: &str = "application/vnd.kedge.documents.v1+json";
/// Media type of one document.
pub(super) const DOCUMENT: &str = "application/vnd.kedge.document.v1+json";
/// Media type of a blob that no other manifest lists.
const BLOB: &str = "application/vnd.kedge.blob.v1";
/// The configuration of an artifact that has none, by the OCI image specification 1.1.
const EMPTY: &str = "application/vnd.oci.empty.v1+json";
/// Its content.
pub(super) const EMPTY_CONTENT: &[u8] = b"{}";
/// Most documents: the chain of roots, and a few.
const MAX_DOCUMENTS: usize = crate::verify::MAX_ROOTS + 16;

/// The index that a tag points to.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Tagged {
    schema_version: u32,
    media_type: String,
    #[serde(default)]
    artifact_type: String,
    manifests: Vec<Descriptor>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

/// A manifest to be put into a registry under its own digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Own {
    pub(super) media_type: String,
    pub(super) bytes: Vec<u8>,
}

/// A bundle as it is to be put into a registry.
#[derive(Debug)]
pub(super) struct Artifact {
    /// By name, in the order of the archive.
    pub(super) documents: Vec<(String, Vec<u8>)>,
    /// Manifests of images and of the product that are whole, each once.
    pub(super) manifests: BTreeMap<Digest, Own>,
    /// The documents manifest.
    pub(super) listing: Vec<u8>,
    /// What the tag points to.
    pub(super) index: Vec<u8>,
}

impl Artifact {
    /// Arranges a bundle. `head` is the beginning of the archive, up to the blobs; `manifests` are the bytes of those blobs
    /// that are manifests.
    ///
    /// # Errors
    /// What is wrong with the bundle, which then was not read to its end.
    pub(super) fn new(
        head: &[u8],
        index: &[u8],
        release: &Release,
        blobs: &[&Blob],
        manifests: &BTreeMap<Digest, Vec<u8>>,
    ) -> Result<Self, String> {
        let index: Index = json::strict(index).map_err(|error| format!("index.json: {error}"))?;
        let present: BTreeSet<Digest> = blobs.iter().map(|blob| blob.digest).collect();
        let mut whole = BTreeMap::new();
        let mut listed = BTreeSet::new();
        for descriptor in &index.manifests {
            let Some(bytes) = manifests.get(&descriptor.digest) else { continue };
            let manifest: Manifest =
                json::strict(bytes).map_err(|error| format!("{}: {error}", descriptor.digest))?;
            let children = || manifest.layers.iter().chain([&manifest.config]).map(|one| one.digest);
            if children().all(|digest| present.contains(&digest)) {
                listed.extend(children());
                listed.insert(descriptor.digest);
                let own = Own { media_type: descriptor.media_type.clone(), bytes: bytes.clone() };
                whole.insert(descriptor.digest, own);
            }
        }
        let documents = split(head)?;
        let mut layers: Vec<Descriptor> = documents
            .iter()
            .map(|(name, bytes)| Descriptor {
                annotations: [(media::TITLE.to_owned(), name.clone())].into(),
                ..Descriptor::of(DOCUMENT, bytes)
            })
            .collect();
        let others = blobs.iter().filter(|blob| !listed.contains(&blob.digest));
        layers.extend(others.map(|blob| Descriptor {
            digest: blob.digest,
            size: blob.size,
            ..Descriptor::of(BLOB, &[])
        }));
        let listing = Manifest {
            schema_version: 2,
            media_type: Some(media::MANIFEST.into()),
            artifact_type: Some(DOCUMENTS.into()),
            config: Descriptor::of(EMPTY, EMPTY_CONTENT),
            layers,
            annotations: BTreeMap::new(),
        };
        let listing = encode(&listing)?;
        let mut children: Vec<Descriptor> =
            index.manifests.into_iter().filter(|one| whole.contains_key(&one.digest)).collect();
        children.push(Descriptor {
            artifact_type: Some(DOCUMENTS.into()),
            ..Descriptor::of(media::MANIFEST, &listing)
        });
        let annotations = [
            (media::TITLE, release.product.clone()),
            ("org.opencontainers.image.version", release.version.clone()),
            ("org.opencontainers.image.created", release.issued.to_string()),
        ];
        let index = encode(&Tagged {
            schema_version: 2,
            media_type: media::INDEX.into(),
            artifact_type: BUNDLE.into(),
            manifests: children,
            annotations: annotations.map(|(key, value)| (key.to_owned(), value)).into(),
        })?;
        Ok(Self { documents, manifests: whole, listing, index })
    }
}

/// Where the index that a tag points to says that the documents are.
pub(super) fn documents_of(index: &[u8]) -> Result<Descriptor, String> {
    let index: Tagged = json::document(index).map_err(|error| error.to_string())?;
    let mut found = index.manifests.into_iter().filter(|one| one.artifact_type.as_deref() == Some(DOCUMENTS));
    match (found.next(), found.next()) {
        (Some(one), None) if one.size <= crate::layout::limits::METADATA => Ok(one),
        (Some(_), _) => Err("it lists more documents than one bundle has".into()),
        (None, _) => Err(format!("it lists no {DOCUMENTS}; was it pushed with `kedgectl bundle push`?")),
    }
}

/// The documents that their manifest lists: name and blob, in the order of the archive.
pub(super) fn listed(listing: &[u8]) -> Result<Vec<(String, Descriptor)>, String> {
    let manifest: Manifest = json::document(listing).map_err(|error| error.to_string())?;
    let documents: Vec<_> = manifest
        .layers
        .into_iter()
        .filter(|one| one.media_type == DOCUMENT)
        .map(|one| (one.annotations.get(media::TITLE).cloned().unwrap_or_default(), one))
        .collect();
    if documents.len() > MAX_DOCUMENTS {
        return Err(format!("{} documents are more than the {MAX_DOCUMENTS} allowed", documents.len()));
    }
    if let Some((name, _)) = documents.iter().find(|(_, one)| one.size > json::MAX_SIZE as u64) {
        return Err(format!("{name:.80} is too large for a document"));
    }
    Ok(documents)
}

/// Which of a bundle's blobs are manifests.
pub(super) const fn is_manifest(kind: Kind) -> bool {
    matches!(kind, Kind::ProductManifest | Kind::ImageManifest)
}

/// The beginning of an archive from its documents: the reverse of [`split`].
pub(super) fn join(documents: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut head = Vec::new();
    for (name, bytes) in documents {
        let size = bytes.len() as u64;
        head.extend_from_slice(&tar::header(name, size));
        head.extend_from_slice(bytes);
        head.extend_from_slice(&[0; BLOCK][..tar::padding(size)]);
    }
    head
}

/// The documents at the beginning of an archive.
fn split(mut head: &[u8]) -> Result<Vec<(String, Vec<u8>)>, String> {
    let mut documents = Vec::new();
    while let Some((block, rest)) = head.split_first_chunk::<BLOCK>() {
        let entry = tar::parse(block).map_err(|fault| fault.to_string())?;
        let entry = entry.ok_or("its documents end early")?;
        let size = usize::try_from(entry.size).map_err(|_| "a document is too large")?;
        let bytes = rest.get(..size).ok_or("a document is cut off")?;
        head = rest.get(size + tar::padding(entry.size)..).ok_or("a document is cut off")?;
        documents.push((entry.name, bytes.to_vec()));
    }
    Ok(documents)
}

fn encode(value: &impl Serialize) -> Result<Vec<u8>, String> {
    serde_json::to_vec(value).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assemble::write_documents;
    use crate::testing::Vendor;

    fn artifact(without: Option<Kind>) -> (Artifact, Vec<u8>, crate::verify::Documents) {
        let bundle = Vendor::new("a").bundle(1);
        let documents = bundle.documents();
        let mut head = Vec::new();
        write_documents(&mut head, &documents).unwrap();
        let blobs: Vec<Blob> = bundle.draft.blobs.iter().map(|(blob, _)| blob.clone()).collect();
        let blobs: Vec<&Blob> = blobs.iter().filter(|blob| Some(blob.kind) != without).collect();
        let manifests = blobs
            .iter()
            .filter(|blob| is_manifest(blob.kind))
            .map(|blob| (blob.digest, bundle.blob(&blob.digest).unwrap()))
            .collect();
        let made = Artifact::new(&head, &documents.index, &bundle.release, &blobs, &manifests).unwrap();
        (made, head, documents)
    }

    #[test]
    fn the_same_documents_come_back_and_the_same_bundle_makes_the_same_artifact() {
        let (one, head, documents) = artifact(None);
        let found = documents_of(&one.index).unwrap();
        assert_eq!((found.digest, found.size), (Digest::of(&one.listing), one.listing.len() as u64));
        let names: Vec<_> = listed(&one.listing).unwrap().into_iter().map(|(name, _)| name).collect();
        assert_eq!(
            names,
            ["oci-layout", "index.json", "manifest.json", "kedge/root/1.json", "kedge/release.json"]
        );
        assert_eq!(join(&one.documents), head);
        assert_eq!(crate::reader::documents(head.as_slice()).unwrap(), documents);
        let (two, ..) = artifact(None);
        assert_eq!((one.index, one.listing), (two.index, two.listing));
    }

    #[test]
    fn an_image_that_is_not_whole_is_no_manifest_and_what_nobody_lists_is_kept_all_the_same() {
        let (whole, ..) = artifact(None);
        let (part, ..) = artifact(Some(Kind::Layer));
        assert!(part.manifests.len() < whole.manifests.len());
        let layers = |listing: &[u8]| json::document::<Manifest>(listing).unwrap().layers;
        assert!(layers(&whole.listing).iter().all(|one| one.media_type == DOCUMENT));
        let kept: BTreeSet<_> = layers(&part.listing)
            .into_iter()
            .filter(|one| one.media_type == BLOB)
            .map(|one| one.digest)
            .collect();
        for (digest, _) in whole.manifests.iter().filter(|(digest, _)| !part.manifests.contains_key(*digest))
        {
            assert!(kept.contains(digest), "{digest}");
        }
    }

    #[test]
    fn what_is_no_bundle_is_told() {
        for (index, reason) in [
            (r#"{"schemaVersion":2,"mediaType":"x","manifests":[]}"#, "lists no"),
            (r#"{"schemaVersion":2,"config":{}}"#, "missing field"),
            ("[]", "invalid length"),
        ] {
            let why = documents_of(index.as_bytes()).unwrap_err();
            assert!(why.contains(reason), "{why}");
        }
        assert!(listed(b"{}").is_err());
    }
}
