//! Puts a bundle together: from a product document, files and images to the documents and blobs of one archive.
//!
//! The order of the blobs and every sum come from [`Expected`], the same code that reads them: what this writes is what
//! the reader will ask for, or it is not written. Same input, same bytes.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;

use sha2::{Digest as _, Sha256};

use crate::digest::Digest;
use crate::layout::{
    Blob, Compression, Content, Descriptor, Expected, Fault, Index, Kind, Manifest, OCI_LAYOUT, blob_path,
    docker_manifest, media,
};
use crate::product::Product;
use crate::roles::{Audience, FORMAT, MAX_NUMBER, Release, RootChain, Sized};
use crate::tar;
use crate::verify::Documents;

/// Where the bytes of a blob are.
#[derive(Debug, Clone)]
pub enum Source {
    /// In memory.
    Bytes(Vec<u8>),
    /// In a part of a file, for instance of another archive.
    Part {
        /// The file.
        path: PathBuf,
        /// Where the blob begins, in bytes.
        offset: u64,
        /// Its bytes.
        size: u64,
    },
}

impl Source {
    /// Opens the blob for reading.
    ///
    /// # Errors
    /// Those of the file.
    pub fn open(&self) -> io::Result<Box<dyn Read + Send + '_>> {
        Ok(match self {
            Self::Bytes(bytes) => Box::new(bytes.as_slice()),
            Self::Part { path, offset, size } => {
                let mut file = File::open(path)?;
                file.seek(SeekFrom::Start(*offset))?;
                Box::new(file.take(*size))
            }
        })
    }
}

/// A layer to be put into a bundle; all of it has been checked against its bytes.
#[derive(Debug, Clone)]
pub struct LayerInput {
    /// Media type.
    pub media_type: String,
    /// Digest of the stored bytes.
    pub digest: Digest,
    /// Stored bytes.
    pub size: u64,
    /// Bytes once unpacked.
    pub unpacked: u64,
    /// The stored bytes.
    pub source: Source,
}

/// An image to be put into a bundle.
#[derive(Debug, Clone)]
pub struct ImageInput {
    /// As the compose file refers to it.
    pub reference: String,
    /// Media type of the manifest.
    pub manifest_type: String,
    /// The manifest, byte for byte.
    pub manifest: Vec<u8>,
    /// The configuration, byte for byte.
    pub config: Vec<u8>,
    /// In the order of the manifest.
    pub layers: Vec<LayerInput>,
}

impl ImageInput {
    /// An image with a manifest made for these layers.
    #[must_use]
    pub fn new(reference: &str, config: Vec<u8>, layers: Vec<LayerInput>) -> Self {
        let manifest = Manifest {
            schema_version: 2,
            media_type: Some(media::MANIFEST.into()),
            artifact_type: None,
            config: Descriptor::of(media::CONFIG, &config),
            layers: layers
                .iter()
                .map(|layer| Descriptor {
                    size: layer.size,
                    digest: layer.digest,
                    ..Descriptor::of(&layer.media_type, &[])
                })
                .collect(),
            annotations: BTreeMap::new(),
        };
        let manifest = serde_json::to_vec(&manifest).unwrap_or_default();
        Self { reference: reference.into(), manifest_type: media::MANIFEST.into(), manifest, config, layers }
    }
}

/// A file of the project to be put into a bundle.
#[derive(Debug, Clone)]
pub struct FileInput {
    /// Relative path.
    pub path: String,
    /// Its content.
    pub bytes: Vec<u8>,
    /// Mode 0755 rather than 0644.
    pub executable: bool,
}

/// What the vendor says of a release, beside its content.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "fields of `Release`, explained there")]
pub struct Terms {
    pub stream: String,
    pub seq: u64,
    pub min_seq: u64,
    pub audience: Audience,
    pub issued: jiff::Timestamp,
    pub expires: jiff::Timestamp,
    pub notes: Option<String>,
}

/// A bundle that is complete but for its release document.
#[derive(Debug)]
pub struct Draft {
    /// What is in it.
    pub content: Content,
    /// All documents but roots and release.
    pub documents: Documents,
    /// Blobs in their order.
    pub blobs: Vec<(Blob, Source)>,
    /// Sum of all blobs, bytes.
    pub content_bytes: u64,
    /// Sum of all layers once unpacked, bytes.
    pub unpacked_bytes: u64,
}

/// Puts a bundle together.
///
/// # Errors
/// The [`Fault`] that a reader would find in it.
pub fn assemble(
    product: &Product,
    mut files: Vec<FileInput>,
    images: Vec<ImageInput>,
) -> Result<Draft, Fault> {
    files.sort_by(|a, b| a.path.cmp(&b.path));
    let mut sources = BTreeMap::new();
    let product_bytes = serde_json::to_vec(product).unwrap_or_default();
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(media::MANIFEST.into()),
        artifact_type: Some(media::PRODUCT.into()),
        config: Descriptor::of(media::PRODUCT, &product_bytes),
        layers: files.iter().map(file_descriptor).collect(),
        annotations: BTreeMap::new(),
    };
    let manifest = serde_json::to_vec(&manifest).unwrap_or_default();
    let mut index = Index { schema_version: 2, media_type: Some(media::INDEX.into()), manifests: Vec::new() };
    for image in &images {
        let mut one = Descriptor::of(&image.manifest_type, &image.manifest);
        one.annotations.insert(media::REF_NAME.into(), image.reference.clone());
        index.manifests.push(one);
    }
    let artifact_type = Some(media::PRODUCT.into());
    index.manifests.push(Descriptor { artifact_type, ..Descriptor::of(media::MANIFEST, &manifest) });

    let mut keep = |bytes: Vec<u8>| sources.insert(Digest::of(&bytes), (Source::Bytes(bytes), 0));
    keep(product_bytes);
    keep(manifest);
    for file in files {
        keep(file.bytes);
    }
    let mut layers = Vec::new();
    for image in images {
        keep(image.manifest);
        keep(image.config);
        layers.extend(image.layers);
    }
    sources.extend(layers.into_iter().map(|layer| (layer.digest, (layer.source, layer.unpacked))));
    let index = serde_json::to_vec(&index).unwrap_or_default();
    arrange(index, sources)
}

/// Walks the layout as a reader will, and puts the blobs in that order.
fn arrange(index: Vec<u8>, mut sources: BTreeMap<Digest, (Source, u64)>) -> Result<Draft, Fault> {
    let mut expected = Expected::new(&index, MAX_NUMBER)?;
    let mut blobs = Vec::new();
    let mut unpacked_bytes = 0;
    while let Some(blob) = expected.next().cloned() {
        let Some((source, unpacked)) = sources.remove(&blob.digest) else {
            return Err(Fault::Missing(vec![blob.digest]));
        };
        match &source {
            Source::Bytes(bytes) => expected.take(bytes)?,
            // Metadata is always in memory here.
            Source::Part { .. } => expected.take(&[])?,
        }
        unpacked_bytes += if blob.kind == Kind::Layer { unpacked } else { 0 };
        blobs.push((blob, source));
    }
    let content_bytes = expected.listed_bytes();
    let content = expected.into_content()?;
    let documents = Documents {
        oci_layout: OCI_LAYOUT.to_vec(),
        manifest: docker_manifest(&content.images),
        index,
        ..Documents::default()
    };
    Ok(Draft { content, documents, blobs, content_bytes, unpacked_bytes })
}

impl Draft {
    /// The release document's payload for this content and chain of roots.
    #[must_use]
    pub fn release(&self, terms: Terms, roots: &[Vec<u8>]) -> Release {
        let sized = |bytes: &[u8]| Sized { digest: Digest::of(bytes), size: bytes.len() as u64 };
        Release {
            format: FORMAT,
            product: self.content.product.product.clone(),
            version: self.content.product.version.clone(),
            stream: terms.stream,
            seq: terms.seq,
            min_seq: terms.min_seq,
            audience: terms.audience,
            issued: terms.issued,
            expires: terms.expires,
            root: RootChain {
                version: roots.len() as u64,
                digests: roots.iter().map(|root| Digest::of(root)).collect(),
            },
            index: sized(&self.documents.index),
            oci_layout: sized(&self.documents.oci_layout),
            manifest: sized(&self.documents.manifest),
            content_bytes: self.content_bytes,
            unpacked_bytes: self.unpacked_bytes,
            notes: terms.notes,
        }
    }

    /// Writes the archive; `passed` hears of every piece of blob written, in bytes.
    ///
    /// # Errors
    /// Those of the output and of the sources; a source that changed since it was checked is one of them.
    pub fn write(
        &self,
        out: &mut dyn Write,
        roots: &[Vec<u8>],
        release: &[u8],
        passed: &mut dyn FnMut(u64),
    ) -> io::Result<()> {
        let documents =
            Documents { roots: roots.to_vec(), release: release.to_vec(), ..self.documents.clone() };
        write_documents(out, &documents)?;
        write_blobs(out, &self.blobs, passed)
    }
}

/// Writes the blobs and the end of the archive; `passed` hears of every piece, in bytes.
pub(crate) fn write_blobs(
    out: &mut dyn Write,
    blobs: &[(Blob, Source)],
    passed: &mut dyn FnMut(u64),
) -> io::Result<()> {
    let mut buffer = vec![0; 128 << 10];
    for (blob, source) in blobs {
        out.write_all(&tar::header(&blob_path(&blob.digest), blob.size))?;
        let mut left = blob.size;
        let mut reader = source.open()?;
        let mut hash = Sha256::new();
        while left > 0 {
            let piece = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
            reader.read_exact(&mut buffer[..piece])?;
            hash.update(&buffer[..piece]);
            out.write_all(&buffer[..piece])?;
            left -= piece as u64;
            passed(piece as u64);
        }
        if Digest::from_bytes(hash.finalize().into()) != blob.digest {
            return Err(io::Error::other(format!(
                "the source of {} has changed since it was read",
                blob.digest
            )));
        }
        out.write_all(&[0; tar::BLOCK][..tar::padding(blob.size)])?;
    }
    out.write_all(&[0; 2 * tar::BLOCK])
}

/// Writes the entries before the blobs.
pub(crate) fn write_documents(out: &mut dyn Write, documents: &Documents) -> io::Result<()> {
    let mut entry = |name: &str, bytes: &[u8]| {
        out.write_all(&tar::header(name, bytes.len() as u64))?;
        out.write_all(bytes)?;
        out.write_all(&[0; tar::BLOCK][..tar::padding(bytes.len() as u64)])
    };
    entry("oci-layout", &documents.oci_layout)?;
    entry("index.json", &documents.index)?;
    entry("manifest.json", &documents.manifest)?;
    for (version, root) in (1..).zip(&documents.roots) {
        entry(&format!("kedge/root/{version}.json"), root)?;
    }
    entry("kedge/release.json", &documents.release)?;
    documents.delta.as_deref().map_or(Ok(()), |delta| entry(crate::delta::PATH, delta))
}

/// A layer that is plain tar and in memory.
#[must_use]
pub fn plain_layer(bytes: Vec<u8>) -> LayerInput {
    let size = bytes.len() as u64;
    let digest = Digest::of(&bytes);
    LayerInput { media_type: media::LAYER.into(), digest, size, unpacked: size, source: Source::Bytes(bytes) }
}

/// The media type under which a layer of this compression is listed.
#[must_use]
pub fn layer_type(compression: Compression) -> String {
    match compression {
        Compression::None => media::LAYER.into(),
        Compression::Gzip => format!("{}+gzip", media::LAYER),
        Compression::Zstd => format!("{}+zstd", media::LAYER),
    }
}

fn file_descriptor(file: &FileInput) -> Descriptor {
    let mode = if file.executable { "0755" } else { "0644" };
    let annotations = [(media::TITLE, file.path.as_str()), (media::MODE, mode)];
    let annotations = annotations.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    Descriptor { annotations, ..Descriptor::of(media::FILE, &file.bytes) }
}
