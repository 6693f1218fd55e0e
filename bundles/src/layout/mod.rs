//! The OCI image layout inside a bundle: what `index.json`, manifests and image configurations may say.
//!
//! Formats are those of the OCI image specification 1.1. Only what can be installed offline is taken: one level
//! of manifests (an index inside an index is refused, so no cycle can exist), layers that are in the bundle,
//! known compression, SHA-256. Everything here is pure; [`Expected`] turns the documents into the one order in
//! which blobs must come.

mod expected;
mod paths;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::codes::{self, Code, Coded};
use crate::digest::Digest;
use crate::product::Product;

pub use expected::Expected;
pub use paths::Paths;

/// Media types and annotation keys.
pub mod media {
    /// `index.json`.
    pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
    /// An image or artifact manifest.
    pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    /// Docker's own spelling of the same, kept so that a registry's digests stay true.
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    /// An image configuration.
    pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    /// Docker's own spelling of the same.
    pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
    /// A layer, plain tar.
    pub const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
    /// Artifact type of the product manifest and media type of its configuration.
    pub const PRODUCT: &str = "application/vnd.kedge.product.v1+json";
    /// One file of the product's project.
    pub const FILE: &str = "application/vnd.kedge.file.v1";
    /// Annotation: the reference that the compose file uses.
    pub const REF_NAME: &str = "org.opencontainers.image.ref.name";
    /// Annotation: a file's path in the project.
    pub const TITLE: &str = "org.opencontainers.image.title";
    /// Annotation: a file's mode, `0644` or `0755`.
    pub const MODE: &str = "io.kedge.file.mode";
}

/// The only content of `oci-layout`.
pub const OCI_LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// Bounds on what one bundle may list.
pub mod limits {
    /// Images.
    pub const IMAGES: usize = 1024;
    /// Layers of one image.
    pub const LAYERS: usize = 512;
    /// Files of the project.
    pub const FILES: usize = 4096;
    /// Bytes of a blob that has to be parsed.
    pub const METADATA: u64 = crate::json::MAX_SIZE as u64;
    /// Bytes of one file of the project.
    pub const FILE: u64 = 64 << 20;
}

/// Which rule of the layout is broken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Not JSON as it should be.
    #[error("{what}: {reason}")]
    Malformed {
        /// Which document, with its digest if it is a blob.
        what: String,
        /// Why.
        reason: String,
    },
    /// A media type that has no business there.
    #[error("{what}: media type {found:?} is not allowed here")]
    MediaType {
        /// Where.
        what: String,
        /// What it says.
        found: String,
    },
    /// A layer that is to be fetched from elsewhere.
    #[error("{what}: layer {digest} is to be fetched from a URL, which a bundle cannot")]
    Foreign {
        /// Where.
        what: String,
        /// Which.
        digest: Digest,
    },
    /// One digest in two places that cannot be the same thing.
    #[error("{digest} is listed as {first} and as {second}")]
    Conflict {
        /// Which.
        digest: Digest,
        /// How it is listed first.
        first: String,
        /// And then.
        second: String,
    },
    /// More of something than the bounds allow.
    #[error("{what}: {found} are more than the {max} allowed")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many or how large.
        found: u64,
        /// The bound.
        max: u64,
    },
    /// A configuration's `diff_ids` do not fit the manifest's layers.
    #[error("image configuration {config}: {reason}")]
    DiffIds {
        /// Which.
        config: Digest,
        /// Why.
        reason: String,
    },
    /// A file path that could leave the project's folder or be mistaken for another.
    #[error("file path {path:?}: {reason}")]
    Path {
        /// As listed.
        path: String,
        /// Why.
        reason: &'static str,
    },
    /// Not exactly one product manifest, or one reference twice.
    #[error("index.json: {0}")]
    Index(String),
    /// The sizes listed do not add up to what was signed.
    #[error("the blobs add up to {found} bytes, but the release was signed for {signed}")]
    ContentBytes {
        /// In the release.
        signed: u64,
        /// Found so far.
        found: u64,
    },
    /// `manifest.json` tells another story than `index.json`.
    #[error("manifest.json does not say the same as index.json")]
    DockerManifest,
    /// The product document breaks a rule.
    #[error("product document: {0}")]
    Product(String),
    /// A delta document that does not fit the release.
    #[error("delta document: {0}")]
    Delta(String),
    /// Blobs that never came.
    #[error("{} blobs are missing, the first is {}", .0.len(), .0.first().map(ToString::to_string).unwrap_or_default())]
    Missing(Vec<Digest>),
}

impl Coded for Fault {
    fn code(&self) -> Code {
        match self {
            Self::Product(_) => codes::PRODUCT_DOCUMENT,
            Self::Delta(_) => codes::DELTA,
            Self::Missing(_) => codes::BLOBS,
            _ => codes::LAYOUT,
        }
    }
}

/// What a blob is for. The order is the order in which a bundle holds them: parents before children.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// The manifest that lists product document and files.
    ProductManifest,
    /// The product document.
    Product,
    /// A file of the project.
    File,
    /// An image manifest.
    ImageManifest,
    /// An image configuration.
    Config,
    /// A layer.
    Layer,
    /// What comes in the place of a layer, see [`crate::delta`].
    Patch,
}

impl Kind {
    /// Whether the blob has to be read to know what follows.
    #[must_use]
    pub const fn is_metadata(self) -> bool {
        matches!(self, Self::ProductManifest | Self::Product | Self::ImageManifest | Self::Config)
    }

    /// For people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ProductManifest => "product manifest",
            Self::Product => "product document",
            Self::File => "file",
            Self::ImageManifest => "image manifest",
            Self::Config => "image configuration",
            Self::Layer => "layer",
            Self::Patch => "patch",
        }
    }
}

/// How a layer is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Compression {
    /// Plain tar: its digest is its DiffID.
    None,
    /// gzip.
    Gzip,
    /// zstd. Engines before 23.0 cannot load it.
    Zstd,
}

impl Compression {
    /// From a layer's media type; `None` for those that are refused.
    #[must_use]
    pub fn of(media_type: &str) -> Option<Self> {
        match media_type {
            media::LAYER | "application/vnd.docker.image.rootfs.diff.tar" => Some(Self::None),
            "application/vnd.oci.image.layer.v1.tar+gzip"
            | "application/vnd.docker.image.rootfs.diff.tar.gzip" => Some(Self::Gzip),
            "application/vnd.oci.image.layer.v1.tar+zstd" => Some(Self::Zstd),
            _ => None,
        }
    }
}

/// A blob that is expected: everything about it is known before its first byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blob {
    /// Its name.
    pub digest: Digest,
    /// Bytes, as stored.
    pub size: u64,
    /// What for.
    pub kind: Kind,
    /// Layers: how it is stored and the digest of its plain tar.
    pub layer: Option<(Compression, Digest)>,
}

/// A platform as OCI spells it.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Platform {
    /// `amd64`, `arm64`…
    pub architecture: String,
    /// `linux`.
    pub os: String,
    /// `v7`…
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

/// An OCI descriptor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "fields of the OCI specification")]
pub struct Descriptor {
    pub media_type: String,
    pub digest: Digest,
    pub size: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
}

impl Descriptor {
    /// One of these bytes.
    #[must_use]
    pub fn of(media_type: &str, bytes: &[u8]) -> Self {
        Self {
            media_type: media_type.into(),
            digest: Digest::of(bytes),
            size: bytes.len() as u64,
            urls: Vec::new(),
            annotations: BTreeMap::new(),
            platform: None,
            artifact_type: None,
        }
    }
}

/// An OCI image index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "fields of the OCI specification")]
pub struct Index {
    pub schema_version: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    pub manifests: Vec<Descriptor>,
}

/// An OCI image manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "fields of the OCI specification")]
pub struct Manifest {
    pub schema_version: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    pub config: Descriptor,
    pub layers: Vec<Descriptor>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// The part of an image configuration that verification needs.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[expect(missing_docs, reason = "fields of the OCI specification")]
pub struct ImageConfig {
    pub architecture: String,
    pub os: String,
    #[serde(default)]
    pub variant: Option<String>,
    pub rootfs: RootFs,
}

/// `rootfs` of an image configuration.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[expect(missing_docs, reason = "fields of the OCI specification")]
pub struct RootFs {
    #[serde(rename = "type")]
    pub kind: String,
    pub diff_ids: Vec<Digest>,
}

/// One layer of an [`Image`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// Of the stored blob.
    pub digest: Digest,
    /// Bytes of the stored blob.
    pub size: u64,
    /// Of the plain tar.
    pub diff_id: Digest,
    /// How it is stored.
    pub compression: Compression,
}

/// An image of the bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// As the compose file refers to it.
    pub reference: String,
    /// From its configuration.
    pub platform: Platform,
    /// The image's ID on the containerd store.
    pub manifest: Digest,
    /// Bytes of the manifest.
    pub manifest_size: u64,
    /// Media type of the manifest.
    pub manifest_type: String,
    /// The image's ID on Docker's classic store.
    pub config: Digest,
    /// Bytes of the configuration.
    pub config_size: u64,
    /// Bottom first.
    pub layers: Vec<Layer>,
}

/// A file of the product's project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Relative, `/`-separated, checked by [`Paths`].
    pub path: String,
    /// Of its content.
    pub digest: Digest,
    /// Bytes.
    pub size: u64,
    /// Mode 0755 rather than 0644.
    pub executable: bool,
}

/// Everything that a bundle holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// What the product asks for.
    pub product: Product,
    /// Its files, by path.
    pub files: Vec<File>,
    /// Its images, in the order of the index.
    pub images: Vec<Image>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct DockerManifest {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// The path of a blob in the archive.
#[must_use]
pub fn blob_path(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// `manifest.json` of Docker's archive format for these images, so that `docker load` of an older engine can read the
/// bundle. Derived, never chosen: there is one right text.
#[must_use]
pub fn docker_manifest(images: &[Image]) -> Vec<u8> {
    let entries: Vec<_> = images
        .iter()
        .map(|image| DockerManifest {
            config: blob_path(&image.config),
            // Docker's archives can carry tags, but not digests.
            repo_tags: (!image.reference.contains('@')).then(|| vec![tagged(&image.reference)]),
            layers: image.layers.iter().map(|layer| blob_path(&layer.digest)).collect(),
        })
        .collect();
    serde_json::to_vec(&entries).unwrap_or_default()
}

/// The reference with `:latest` where it has no tag.
#[must_use]
pub fn tagged(reference: &str) -> String {
    let name = reference.rsplit('/').next().unwrap_or(reference);
    if name.contains(':') { reference.to_owned() } else { format!("{reference}:latest") }
}
