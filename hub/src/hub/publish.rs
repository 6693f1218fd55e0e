//! From a file to an offered release: verified whole, then put in place, then announced.
//!
//! Bytes first land in `incoming/`, which is emptied at start. A bundle moves to `bundles/` only after
//! everything in it was verified, and is recorded only after the move is durable; a crash in between leaves a
//! file that publishing again simply finds in its place. One bundle is verified at a time: it is bounded by the disk anyway.

use super::blobs;
use super::bundle::{self, Checked};
use super::files;
use super::releases::{Published, PublishedDelta, Releases, Span};
use super::store::Store;
use crate::codes;
use crate::error::{Failure, Result};
use jiff::Timestamp;
use kedge_bundle::digest::Digest;
use kedge_bundle::roles::Root;
use kedge_bundle::verify::{self, Advance, RootSet, Trust};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use tracing::info;

/// Puts releases in place.
pub struct Publisher {
    store: Arc<Store>,
    incoming: PathBuf,
    one_at_a_time: Mutex<()>,
}

/// What publishing did.
pub struct Outcome {
    /// The release.
    pub release: Arc<Published>,
    /// It was there before.
    pub already: bool,
    /// It is a delta of that release.
    pub delta: bool,
}

impl Publisher {
    /// `incoming` is emptied: nothing in it was finished.
    pub fn new(store: Arc<Store>, incoming: PathBuf) -> Result<Self> {
        let prepare = || -> std::io::Result<()> {
            match std::fs::remove_dir_all(&incoming) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            std::fs::create_dir_all(&incoming)
        };
        prepare().map_err(|error| {
            Failure::new(codes::DATA_FOLDER, format!("{} cannot be prepared", incoming.display()))
                .because(error)
        })?;
        Ok(Publisher { store, incoming, one_at_a_time: Mutex::new(()) })
    }

    /// An empty file for an upload; what is left of it goes when the path is dropped.
    pub fn incoming(&self) -> Result<tempfile::TempPath> {
        let file = tempfile::NamedTempFile::new_in(&self.incoming).map_err(|error| {
            Failure::new(codes::STORE, format!("{} cannot be written", self.incoming.display()))
                .because(error)
        })?;
        Ok(file.into_temp_path())
    }

    /// Verifies the file and publishes it. The file is moved away unless it was published before.
    /// Blocks for as long as reading the file takes.
    pub fn publish(
        &self,
        releases: &Releases,
        file: &Path,
        stream: Option<&str>,
        now: Timestamp,
    ) -> Result<Outcome> {
        let _turn = self.one_at_a_time.lock().unwrap_or_else(PoisonError::into_inner);
        let chain = self.store.roots()?;
        let Checked { verified, documents, blobs, delta, roots, bytes } =
            bundle::check(file, &trust_of(&chain)?.0, now, &mut |_| {})?;
        let release = verified.release.clone();
        if let Some(wanted) = stream.filter(|wanted| *wanted != release.stream) {
            return Err(Failure::new(
                codes::STREAM_DIFFERS,
                format!("the bundle is for stream {}, not for {}", release.stream, wanted.escape_debug()),
            ));
        }
        let published = Published {
            digest: verified.digest,
            product: release.product,
            stream: release.stream,
            version: release.version,
            seq: release.seq,
            audience: release.audience,
            bytes,
            published: now,
            expires: release.expires,
            documents,
            blobs,
        };
        let already = releases.is_published(&published)?;
        if let Some(document) = delta {
            let patches = verified.delta.iter().flat_map(|delta| &delta.patches);
            let patches = patches.filter_map(|one| Some((one.patch, *published.blobs.get(&one.patch)?)));
            let delta = PublishedDelta {
                digest: digest_of(file, document)?,
                release: published.digest,
                bytes,
                document,
                patches: patches.collect(),
            };
            let already = self.publish_delta(releases, file, delta)?;
            return Ok(Outcome { release: Arc::new(published), already, delta: true });
        }
        if already {
            let digest = published.digest;
            let release = releases.all().into_iter().find(|held| held.digest == digest);
            let release = release.unwrap_or_else(|| Arc::new(published));
            return Ok(Outcome { release, already, delta: false });
        }
        put_in_place(file, &releases.path(published.digest))?;
        let longer = if roots.len() > chain.len() { roots.as_slice() } else { &[] };
        let release = releases.add(published, longer)?;
        info!(
            product = release.product,
            stream = release.stream,
            seq = release.seq,
            digest = %release.digest,
            "Published {} {} ({} {}).",
            release.product,
            release.version,
            release.stream,
            release.seq
        );
        Ok(Outcome { release, already: false, delta: false })
    }

    /// Puts a thin bundle beside its release, which may come later: whoever is told of that finds the delta there.
    fn publish_delta(&self, releases: &Releases, file: &Path, delta: PublishedDelta) -> Result<bool> {
        if releases.has_delta(&delta)? {
            return Ok(true);
        }
        put_in_place(file, &releases.path(delta.digest))?;
        info!(release = %delta.release, digest = %delta.digest, "Published a delta of release {}.", delta.release);
        releases.add_delta(delta)?;
        Ok(false)
    }
}

fn put_in_place(file: &Path, place: &Path) -> Result<()> {
    let moved = || {
        std::fs::File::open(file)?.sync_all()?;
        std::fs::rename(file, place)?;
        files::sync_folder(place)
    };
    moved().map_err(|error: std::io::Error| {
        Failure::new(codes::STORE, format!("{} cannot be written", place.display())).because(error)
    })
}

fn digest_of(file: &Path, span: Span) -> Result<Digest> {
    let read = || blobs::exactly(&std::fs::File::open(file)?, span);
    let bytes = read().map_err(|error| {
        Failure::new(codes::STORE, format!("{} cannot be read", file.display())).because(error)
    })?;
    Ok(Digest::of(&bytes))
}

/// What the hub believes, from its chain of roots (everything that descends from the first of them), and
/// the newest of them.
pub fn trust_of(chain: &[Vec<u8>]) -> Result<(Trust, Root)> {
    let refused =
        |refusal| Failure::new(codes::CONFIG, "the root documents given are not acceptable").because(refusal);
    let first =
        chain.first().ok_or_else(|| Failure::new(codes::CONFIG, "the hub was given no root document"))?;
    let mut trust = Trust::pinned(bundle::fingerprint(first)?);
    let roots: RootSet = verify::roots(&trust, chain).map_err(refused)?;
    trust.advance(&Advance { root: roots.accepted, ..Advance::default() });
    Ok((trust, roots.newest))
}
