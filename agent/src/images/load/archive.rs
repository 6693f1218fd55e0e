//! The archive that the engine loads, as a list of entries whose sizes are known, and as a stream of bytes.

use std::collections::BTreeSet;
use std::io::{self, Read};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use kedge_bundle::digest::Digest;
use kedge_bundle::layout::{Compression, Descriptor, Image, Index, OCI_LAYOUT, blob_path, media};
use kedge_bundle::tar;
use serde::Serialize;
use tokio::sync::mpsc;

use super::{Blobs, Progress, private_name};
use crate::engine::TarStream;
use crate::engine::types::ImageStore;

/// Bytes of one chunk, and chunks on their way: what the stream may hold in memory.
const CHUNK: usize = 256 << 10;
const AHEAD: usize = 4;

/// One file of the archive.
pub(super) struct Entry {
    name: String,
    size: u64,
    content: Content,
}

enum Content {
    Bytes(Vec<u8>),
    Blob(Digest),
    /// A blob compressed with zstd, for an engine that cannot read that.
    Unpacked(Digest),
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct DockerManifest {
    config: String,
    repo_tags: Vec<String>,
    layers: Vec<String>,
}

/// Files of the archive for these images, without the known layers.
pub(super) fn entries(
    images: &[&Image],
    store: ImageStore,
    known: &BTreeSet<Digest>,
    plain_only: bool,
    blobs: &dyn Blobs,
) -> io::Result<Vec<Entry>> {
    let mut entries = match store {
        ImageStore::Classic => vec![of_bytes("manifest.json", docker_manifest(images)?)],
        ImageStore::Containerd => {
            vec![of_bytes("oci-layout", OCI_LAYOUT.to_vec()), of_bytes("index.json", index(images)?)]
        }
    };
    let mut sent = BTreeSet::new();
    for image in images {
        let mut metadata = vec![(image.config, image.config_size)];
        if store == ImageStore::Containerd {
            metadata.push((image.manifest, image.manifest_size));
        }
        for (digest, size) in metadata.into_iter().filter(|(digest, _)| sent.insert(*digest)) {
            entries.push(Entry { name: blob_path(&digest), size, content: Content::Blob(digest) });
        }
        for layer in &image.layers {
            if known.contains(&layer.digest) || !sent.insert(layer.digest) {
                continue;
            }
            let (size, content) = if plain_only && layer.compression == Compression::Zstd {
                (unpacked_size(blobs, &layer.digest)?, Content::Unpacked(layer.digest))
            } else {
                (layer.size, Content::Blob(layer.digest))
            };
            entries.push(Entry { name: blob_path(&layer.digest), size, content });
        }
    }
    Ok(entries)
}

fn of_bytes(name: &str, bytes: Vec<u8>) -> Entry {
    Entry { name: name.to_owned(), size: bytes.len() as u64, content: Content::Bytes(bytes) }
}

fn docker_manifest(images: &[&Image]) -> io::Result<Vec<u8>> {
    let entry = |image: &&Image| {
        let (repository, tag) = private_name(image);
        DockerManifest {
            config: blob_path(&image.config),
            repo_tags: vec![format!("{repository}:{tag}")],
            layers: image.layers.iter().map(|layer| blob_path(&layer.digest)).collect(),
        }
    };
    Ok(serde_json::to_vec(&images.iter().map(entry).collect::<Vec<_>>())?)
}

/// The index that containerd imports: the name it gives an image stands in an annotation of its own.
fn index(images: &[&Image]) -> io::Result<Vec<u8>> {
    let descriptor = |image: &&Image| {
        let (repository, tag) = private_name(image);
        Descriptor {
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
        }
    };
    let index = Index {
        schema_version: 2,
        media_type: Some(media::INDEX.to_owned()),
        manifests: images.iter().map(descriptor).collect(),
    };
    Ok(serde_json::to_vec(&index)?)
}

/// The size stands before the content in an archive, so unpacking is done twice: once to count.
fn unpacked_size(blobs: &dyn Blobs, digest: &Digest) -> io::Result<u64> {
    io::copy(&mut zstd::Decoder::new(blobs.open(digest)?)?, &mut io::sink())
}

/// Why our side of the stream broke off.
#[derive(Clone, Default)]
pub(super) struct Fault(Arc<Mutex<Option<String>>>);

impl Fault {
    /// The reason, if it did.
    pub(super) fn take(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn set(&self, error: &io::Error) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.to_string());
    }
}

/// Reads the entries on a thread that may block, a few chunks ahead of the engine.
pub(super) fn stream(entries: Vec<Entry>, blobs: Arc<dyn Blobs>, progress: Progress) -> (TarStream, Fault) {
    let (sender, receiver) = mpsc::channel::<io::Result<Bytes>>(AHEAD);
    let fault = Fault::default();
    let report = fault.clone();
    tokio::task::spawn_blocking(move || {
        let mut out = Out {
            sender,
            sent: 0,
            total: entries.iter().map(occupies).sum::<u64>() + 2 * tar::BLOCK as u64,
            progress,
        };
        if let Err(error) = write(entries, blobs.as_ref(), &mut out) {
            report.set(&error);
            // Nobody listens any more, or hears it now.
            let _ = out.sender.blocking_send(Err(error));
        }
    });
    let chunks = stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|chunk| (chunk, receiver))
    });
    (chunks.boxed(), fault)
}

fn occupies(entry: &Entry) -> u64 {
    tar::BLOCK as u64 + entry.size + tar::padding(entry.size) as u64
}

struct Out {
    sender: mpsc::Sender<io::Result<Bytes>>,
    sent: u64,
    total: u64,
    progress: Progress,
}

impl Out {
    fn put(&mut self, bytes: Bytes) -> io::Result<()> {
        self.sent += bytes.len() as u64;
        self.sender.blocking_send(Ok(bytes)).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        (self.progress)(self.sent, self.total);
        Ok(())
    }
}

fn write(entries: Vec<Entry>, blobs: &dyn Blobs, out: &mut Out) -> io::Result<()> {
    for entry in entries {
        out.put(Bytes::copy_from_slice(&tar::header(&entry.name, entry.size)))?;
        let mut reader: Box<dyn Read> = match entry.content {
            Content::Bytes(bytes) => Box::new(io::Cursor::new(bytes)),
            Content::Blob(digest) => blobs.open(&digest)?,
            Content::Unpacked(digest) => Box::new(zstd::Decoder::new(blobs.open(&digest)?)?),
        };
        let mut left = entry.size;
        while left > 0 {
            let mut chunk = vec![0; CHUNK.min(usize::try_from(left).unwrap_or(CHUNK))];
            let read = reader.read(&mut chunk)?;
            if read == 0 {
                return Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    format!("{} is shorter than it was", entry.name),
                ));
            }
            chunk.truncate(read);
            left -= read as u64;
            out.put(chunk.into())?;
        }
        out.put(Bytes::from(vec![0; tar::padding(entry.size)]))?;
    }
    out.put(Bytes::from(vec![0; 2 * tar::BLOCK]))
}
