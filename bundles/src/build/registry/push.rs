//! A bundle into a registry: blobs first, several at a time and only those that it lacks; then manifests; the tag last,
//! so that it never points to something that is not there.

use std::collections::BTreeMap;
use std::io::{Read as _, SeekFrom};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, TryStreamExt as _};
use oci_client::errors::OciDistributionError;
use oci_client::{Reference, RegistryOperation};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};

use super::artifact::{Artifact, EMPTY_CONTENT, Own, is_manifest};
use super::{Connection, Credentials, Place, RegistryError};
use crate::assemble::Source;
use crate::build::opened::Opened;
use crate::build::{BuildError, Progress};
use crate::digest::Digest;
use crate::layout::{Blob, blob_path, media};
use crate::roles::Release;

/// Bytes that are read and sent at a time.
const PIECE: usize = 256 << 10;

/// How often it is told how far all uploads together have come.
const TELL: Duration = Duration::from_millis(100);

/// How to push.
#[derive(Debug, Clone)]
pub struct Push {
    /// Blobs that are sent at the same time.
    pub jobs: usize,
    /// Repositories of the same registry that may have some of the blobs already. Those that the bundle's images come
    /// from are looked into without being named.
    pub mount_from: Vec<String>,
}

/// What a push did.
#[derive(Debug)]
pub struct Pushed {
    /// Digest of the index that the tag points to.
    pub digest: Digest,
    /// What the bundle says it is.
    pub release: Release,
    /// Images by reference, with the digest under which each can be pulled.
    pub images: Vec<(String, Digest)>,
    /// Blobs that were sent.
    pub sent: u64,
    /// Their bytes.
    pub sent_bytes: u64,
    /// Blobs that the registry took over from another repository.
    pub mounted: u64,
    /// Blobs that were there.
    pub present: u64,
}

/// What became of one blob.
enum Outcome {
    Present,
    Mounted,
    Sent,
}

/// Puts a bundle into a registry. Every digest of the file is checked first; signatures are for whoever pulls.
///
/// # Errors
/// [`RegistryError`]; the tag is then as it was.
pub async fn push(
    file: &Path,
    to: &Place,
    credentials: &Credentials,
    how: &Push,
    progress: &dyn Progress,
) -> Result<Pushed, RegistryError> {
    let not_a_bundle =
        |reason: String| RegistryError::NotABundle { place: file.display().to_string(), reason };
    let opened = Opened::read(file, "checking the bundle", progress)?;
    let Opened { documents, head, verified, content, blobs } = opened;
    let release = verified.release;
    let mut manifests = BTreeMap::new();
    for (blob, source) in blobs.iter().filter(|(blob, _)| is_manifest(blob.kind)) {
        let mut bytes = Vec::new();
        source
            .open()
            .and_then(|mut source| source.read_to_end(&mut bytes))
            .map_err(BuildError::file(file))?;
        manifests.insert(blob.digest, bytes);
    }
    let all: Vec<&Blob> = blobs.iter().map(|(blob, _)| blob).collect();
    let artifact =
        Artifact::new(&head, &documents.index, &release, &all, &manifests).map_err(not_a_bundle)?;

    let connection = Connection::open(to, credentials, RegistryOperation::Push).await?;
    let mut elsewhere: Vec<Reference> =
        how.mount_from.iter().map(|repository| neighbour(&connection.at, repository)).collect();
    let origins = content.images.iter().filter_map(|image| image.reference.parse::<Reference>().ok());
    elsewhere.extend(origins.filter(|origin| origin.registry() == connection.at.registry()));
    elsewhere.sort_by(|a, b| a.repository().cmp(b.repository()));
    elsewhere.dedup_by(|a, b| a.repository() == b.repository());
    elsewhere.retain(|origin| origin.repository() != connection.at.repository());

    let blobs = sources(blobs, &artifact);
    let (mut sent, mut mounted, mut present, mut sent_bytes) = (0, 0, 0, 0);
    progress.begin("pushing blobs", Some(blobs.iter().map(|(_, size, _)| size).sum()));
    let (passed, mut told) = (Arc::new(AtomicU64::new(0)), 0);
    let mut tell = || {
        let now = passed.load(Ordering::Relaxed);
        progress.advance(now.saturating_sub(std::mem::replace(&mut told, now)));
    };
    let mut tick = tokio::time::interval(TELL);
    let mut uploads = futures_util::stream::iter(&blobs)
        .map(|(digest, size, source)| {
            let (connection, elsewhere, passed) = (&connection, &elsewhere, &passed);
            async move {
                let outcome = provide(connection, elsewhere, digest, *size, source, passed).await?;
                Ok::<_, RegistryError>((*size, outcome))
            }
        })
        .buffer_unordered(how.jobs.max(1));
    loop {
        // Cancel safe: the stream keeps what it has not given yet, and a tick that is missed is none.
        tokio::select! {
            _ = tick.tick() => tell(),
            done = uploads.try_next() => match done? {
                Some((_, Outcome::Present)) => present += 1,
                Some((_, Outcome::Mounted)) => mounted += 1,
                Some((size, Outcome::Sent)) => { sent += 1; sent_bytes += size; }
                None => break,
            },
        }
    }
    tell();
    progress.end();

    for (digest, Own { media_type, bytes }) in &artifact.manifests {
        put_manifest(&connection, &digest.to_string(), media_type, bytes).await?;
    }
    let listing = Digest::of(&artifact.listing).to_string();
    put_manifest(&connection, &listing, media::MANIFEST, &artifact.listing).await?;
    let digest = Digest::of(&artifact.index);
    let tag = connection.at.tag().map_or_else(|| digest.to_string(), str::to_owned);
    put_manifest(&connection, &tag, media::INDEX, &artifact.index).await?;
    let whole = content.images.into_iter().filter(|image| artifact.manifests.contains_key(&image.manifest));
    let images = whole.map(|image| (image.reference, image.manifest)).collect();
    Ok(Pushed { digest, release, images, sent, sent_bytes, mounted, present })
}

/// Every blob that must be there before the manifests, each once: digest, size and where its bytes are.
fn sources(blobs: Vec<(Blob, Source)>, artifact: &Artifact) -> Vec<(Digest, u64, Source)> {
    let mut found = BTreeMap::new();
    let documents = artifact.documents.iter().map(|(_, bytes)| bytes.as_slice());
    for bytes in documents.chain([EMPTY_CONTENT]) {
        found.insert(Digest::of(bytes), (bytes.len() as u64, Source::Bytes(bytes.to_vec())));
    }
    for (blob, source) in blobs {
        if !artifact.manifests.contains_key(&blob.digest) {
            found.insert(blob.digest, (blob.size, source));
        }
    }
    found.into_iter().map(|(digest, (size, source))| (digest, size, source)).collect()
}

/// Another repository of the same registry.
fn neighbour(at: &Reference, repository: &str) -> Reference {
    Reference::with_tag(at.registry().into(), repository.into(), "latest".into())
}

/// Sees to it that the registry has a blob.
async fn provide(
    connection: &Connection,
    elsewhere: &[Reference],
    digest: &Digest,
    size: u64,
    source: &Source,
    passed: &Arc<AtomicU64>,
) -> Result<Outcome, RegistryError> {
    let (client, at, name) = (&connection.client, &connection.at, digest.to_string());
    let what = format!("asking for {}", blob_path(digest));
    if connection.patiently(&what, async || client.blob_exists(at, &name).await).await? {
        passed.fetch_add(size, Ordering::Relaxed);
        return Ok(Outcome::Present);
    }
    for origin in elsewhere {
        // Whatever stands in the way of a mount, the blob can still be sent.
        if client.mount_blob(at, origin, &name).await.is_ok() {
            passed.fetch_add(size, Ordering::Relaxed);
            return Ok(Outcome::Mounted);
        }
    }
    // What an earlier attempt has told is not told again.
    let furthest = Arc::new(AtomicU64::new(0));
    let what = format!("sending {name}");
    connection
        .patiently(&what, async || {
            let (furthest, passed) = (Arc::clone(&furthest), Arc::clone(passed));
            let mut here = 0;
            let pieces = pieces(source.clone()).inspect_ok(move |piece| {
                here += piece.len() as u64;
                let before = furthest.fetch_max(here, Ordering::Relaxed);
                passed.fetch_add(here.saturating_sub(before), Ordering::Relaxed);
            });
            client.push_blob_stream(at, pieces, &name, Some(size)).await.map(drop)
        })
        .await?;
    Ok(Outcome::Sent)
}

/// A blob's bytes, piece by piece.
fn pieces(source: Source) -> impl Stream<Item = Result<Bytes, OciDistributionError>> + Send + 'static {
    enum State {
        New(Source),
        Open(tokio::io::Take<tokio::fs::File>),
        End,
    }
    futures_util::stream::try_unfold(State::New(source), |state| async {
        let mut open = match state {
            State::New(Source::Bytes(bytes)) if !bytes.is_empty() => {
                return Ok(Some((Bytes::from(bytes), State::End)));
            }
            State::New(Source::Part { path, offset, size }) => {
                let mut file = tokio::fs::File::open(path).await?;
                file.seek(SeekFrom::Start(offset)).await?;
                file.take(size)
            }
            State::Open(open) => open,
            State::New(Source::Bytes(_)) | State::End => return Ok(None),
        };
        let mut piece = vec![0; PIECE];
        let mut filled = 0;
        while filled < piece.len() {
            match open.read(&mut piece[filled..]).await? {
                0 => break,
                count => filled += count,
            }
        }
        piece.truncate(filled);
        let next = if filled == PIECE { State::Open(open) } else { State::End };
        Ok((filled > 0).then_some((Bytes::from(piece), next)))
    })
}

/// Puts a manifest under a tag, or under its digest.
async fn put_manifest(
    connection: &Connection,
    name: &str,
    media_type: &str,
    bytes: &[u8],
) -> Result<(), RegistryError> {
    let at = Reference::with_tag(
        connection.at.registry().into(),
        connection.at.repository().into(),
        // As a tag, whatever it is: the client takes it apart again where a registry forgets to say where it has put it.
        name.into(),
    );
    let what = format!("putting the manifest {name}");
    connection
        .patiently(&what, async || {
            let media_type = media_type
                .parse()
                .map_err(|_| OciDistributionError::UnsupportedMediaTypeError(media_type.into()))?;
            connection.client.push_manifest_raw(&at, bytes.to_vec(), media_type).await.map(drop)
        })
        .await
}
