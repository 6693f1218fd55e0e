//! The archive of one image, as the store at hand reads it: what stands before its layers, the head of each, and what
//! completes it. Without its last entry no engine takes anything of it.

use bytes::{Bytes, BytesMut};
use kedge_bundle::digest::Digest;
use kedge_bundle::layout::{Descriptor, Image, Index, OCI_LAYOUT, blob_path, media};
use kedge_bundle::tar;
use serde::Serialize;

use super::private_name;
use crate::engine::types::ImageStore;

/// Bytes of an image's metadata, by digest.
pub(super) struct Metadata {
    /// The manifest.
    pub(super) manifest: Vec<u8>,
    /// The configuration.
    pub(super) config: Vec<u8>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct DockerManifest {
    config: String,
    repo_tags: Vec<String>,
    layers: Vec<String>,
}

/// Everything before the layers.
pub(super) fn opening(image: &Image, store: ImageStore, metadata: &Metadata) -> Bytes {
    let mut bytes = BytesMut::new();
    if store == ImageStore::Containerd {
        entry(&mut bytes, "oci-layout", OCI_LAYOUT);
        entry(&mut bytes, &blob_path(&image.manifest), &metadata.manifest);
    }
    entry(&mut bytes, &blob_path(&image.config), &metadata.config);
    bytes.freeze()
}

/// What stands before a layer of this many bytes.
pub(super) fn layer_head(layer: &Digest, size: u64) -> Bytes {
    Bytes::copy_from_slice(&tar::header(&blob_path(layer), size))
}

/// What stands after it.
pub(super) fn layer_tail(size: u64) -> Bytes {
    Bytes::from(vec![0; tar::padding(size)])
}

/// The entry that makes an image of what came before, and the end of the archive.
pub(super) fn closing(image: &Image, store: ImageStore) -> serde_json::Result<Bytes> {
    let mut bytes = BytesMut::new();
    match store {
        ImageStore::Classic => entry(&mut bytes, "manifest.json", &docker_manifest(image)?),
        ImageStore::Containerd => entry(&mut bytes, "index.json", &index(image)?),
    }
    bytes.extend_from_slice(&[0; 2 * tar::BLOCK]);
    Ok(bytes.freeze())
}

fn entry(bytes: &mut BytesMut, name: &str, content: &[u8]) {
    let size = content.len() as u64;
    bytes.extend_from_slice(&tar::header(name, size));
    bytes.extend_from_slice(content);
    bytes.resize(bytes.len() + tar::padding(size), 0);
}

/// The list of layers is whole, whichever of them were sent.
fn docker_manifest(image: &Image) -> serde_json::Result<Vec<u8>> {
    let (repository, tag) = private_name(image);
    serde_json::to_vec(&[DockerManifest {
        config: blob_path(&image.config),
        repo_tags: vec![format!("{repository}:{tag}")],
        layers: image.layers.iter().map(|layer| blob_path(&layer.digest)).collect(),
    }])
}

/// The index that containerd imports: the name it gives an image stands in an annotation of its own.
fn index(image: &Image) -> serde_json::Result<Vec<u8>> {
    let (repository, tag) = private_name(image);
    let descriptor = Descriptor {
        media_type: image.manifest_type.clone(),
        digest: image.manifest,
        size: image.manifest_size,
        urls: Vec::new(),
        annotations: [
            ("io.containerd.image.name".to_owned(), format!("{repository}:{tag}")),
            (media::REF_NAME.to_owned(), tag),
        ]
        .into(),
        platform: Some(image.platform.clone()),
        artifact_type: None,
    };
    serde_json::to_vec(&Index {
        schema_version: 2,
        media_type: Some(media::INDEX.to_owned()),
        manifests: vec![descriptor],
    })
}
