//! Which releases there are, and which of them a host is told about.
//!
//! Bundles lie in `bundles/<digest of the release document>.tar`, as they came. What is kept in the store
//! is enough to serve documents and blobs straight out of those files: where each entry begins, and how long it
//! is. A file that is published once is never changed.

use super::fresh;
use super::store::Store;
use crate::codes;
use crate::error::{Failure, Result};
use jiff::Timestamp;
use kedge_bundle::digest::Digest;
use kedge_bundle::roles::Audience;
use kedge_bundle::sign::Signer;
use kedge_proto::tether::v1::{Offers, ReleaseOffer};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// Where something lies in a bundle's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// First byte.
    pub offset: u64,
    /// Bytes.
    pub length: u64,
}

/// The documents of a bundle, by place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DocumentSpans {
    /// Root envelopes, oldest first.
    pub roots: Vec<Span>,
    /// The release envelope.
    pub release: Span,
    /// `oci-layout`.
    pub oci_layout: Span,
    /// `index.json`.
    pub index: Span,
    /// `manifest.json`.
    pub manifest: Span,
}

/// A published release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// Of the release document's payload.
    pub digest: Digest,
    /// What is sold.
    pub product: String,
    /// Its line of releases.
    pub stream: String,
    /// The vendor's own version.
    pub version: String,
    /// Order.
    pub seq: u64,
    /// For whom.
    pub audience: Audience,
    /// Bytes of the bundle.
    pub bytes: u64,
    /// When it was published here.
    pub published: Timestamp,
    /// When it can no longer be installed.
    pub expires: Timestamp,
    /// Where the documents are.
    pub documents: DocumentSpans,
    /// Where the blobs are.
    pub blobs: BTreeMap<Digest, Span>,
}

/// What a thin bundle of a release holds beside its documents.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedDelta {
    /// Of the delta document as it is.
    pub digest: Digest,
    /// The release it is of.
    pub release: Digest,
    /// Bytes of the thin bundle.
    pub bytes: u64,
    /// Where the delta document is.
    pub document: Span,
    /// Where the patches are.
    pub patches: BTreeMap<Digest, Span>,
}

/// Deltas of one release, at most: a host gets the documents of all of them.
const MAX_DELTAS: usize = 16;

/// Bytes of the delta documents of one release, at most: the message with a release's documents is bounded.
const MAX_DELTA_BYTES: u64 = 4 << 20;

impl Published {
    /// Whether hosts of this site may have it.
    pub fn is_for(&self, site: &str) -> bool {
        match &self.audience {
            Audience::All => true,
            Audience::Sites(sites) => sites.iter().any(|named| named == site),
        }
    }
}

/// The newest release of each product and stream that `site` may have.
pub fn newest_for<'a>(
    releases: impl IntoIterator<Item = &'a Arc<Published>>,
    site: &str,
) -> Vec<Arc<Published>> {
    let mut newest: BTreeMap<(&str, &str), &Arc<Published>> = BTreeMap::new();
    for release in releases.into_iter().filter(|release| release.is_for(site)) {
        let best = newest.entry((&release.product, &release.stream)).or_insert(release);
        if release.seq > best.seq {
            *best = release;
        }
    }
    newest.into_values().cloned().collect()
}

/// A release that is already there under the same product, stream and sequence number but is another one.
pub fn conflicting<'a>(
    releases: impl IntoIterator<Item = &'a Arc<Published>>,
    new: &Published,
) -> Option<Arc<Published>> {
    let same = |old: &&Arc<Published>| {
        (&old.product, &old.stream, old.seq) == (&new.product, &new.stream, new.seq)
            && old.digest != new.digest
    };
    releases.into_iter().find(same).cloned()
}

/// All releases of the hub.
pub struct Releases {
    store: Arc<Store>,
    folder: PathBuf,
    fresh_key: Option<Box<dyn Signer>>,
    held: Mutex<Held>,
    /// Counts up when offers may have changed.
    version: watch::Sender<u64>,
}

#[derive(Default)]
struct Held {
    by_digest: BTreeMap<Digest, Arc<Published>>,
    /// By the release they are of, which need not be published yet.
    deltas: BTreeMap<Digest, Vec<Arc<PublishedDelta>>>,
    /// Open once, read at any place by any number of streams.
    files: HashMap<Digest, Arc<File>>,
    /// By site.
    offers: HashMap<String, Arc<Offers>>,
}

impl Releases {
    /// Reads what the store knows. `folder` is where bundles lie.
    pub fn open(store: Arc<Store>, folder: PathBuf, fresh_key: Option<Box<dyn Signer>>) -> Result<Self> {
        let mut held = Held::default();
        for release in store.releases::<Published>()? {
            let path = path_of(&folder, release.digest);
            let damaged = |why: &str| Failure::new(codes::STORE, format!("{} {why}", path.display()));
            let file = File::open(&path).map_err(|error| damaged("cannot be read").because(error))?;
            if !file.metadata().is_ok_and(|metadata| metadata.len() == release.bytes) {
                return Err(damaged("is not as long as it was"));
            }
            held.files.insert(release.digest, Arc::new(file));
            held.by_digest.insert(release.digest, Arc::new(release));
        }
        for delta in store.deltas::<PublishedDelta>()? {
            let path = path_of(&folder, delta.digest);
            // One that is gone costs bytes on the line, nothing else.
            let Ok(file) = File::open(&path) else { continue };
            if file.metadata().is_ok_and(|metadata| metadata.len() == delta.bytes) {
                held.files.insert(delta.digest, Arc::new(file));
                held.deltas.entry(delta.release).or_default().push(Arc::new(delta));
            }
        }
        Ok(Releases { store, folder, fresh_key, held: Mutex::new(held), version: watch::Sender::new(0) })
    }

    /// Where the file of a release lies, or will.
    pub fn path(&self, digest: Digest) -> PathBuf {
        path_of(&self.folder, digest)
    }

    /// Every release.
    pub fn all(&self) -> Vec<Arc<Published>> {
        self.lock().by_digest.values().cloned().collect()
    }

    /// A release and its file, if the site may have it.
    pub fn find(&self, digest: &str, site: &str) -> Result<(Arc<Published>, Arc<File>)> {
        let find = |digest: Digest| {
            let held = self.lock();
            Some((held.by_digest.get(&digest)?.clone(), held.files.get(&digest)?.clone()))
        };
        let found = digest.parse::<Digest>().ok().and_then(find);
        found.filter(|(release, _)| release.is_for(site)).ok_or_else(|| {
            let shown: String = digest.chars().take(80).collect();
            let message = format!("there is no release {} for site {site}", shown.escape_debug());
            Failure::new(codes::RELEASE_UNKNOWN, message)
        })
    }

    /// The deltas of a release, each with its file.
    pub fn deltas(&self, release: &Digest) -> Vec<(Arc<PublishedDelta>, Arc<File>)> {
        let held = self.lock();
        let deltas = held.deltas.get(release).into_iter().flatten();
        deltas.filter_map(|delta| Some((delta.clone(), held.files.get(&delta.digest)?.clone()))).collect()
    }

    /// Stores a delta whose file is in place. Nobody is told: it is for those who fetch the release from now on.
    pub fn add_delta(&self, delta: PublishedDelta) -> Result<()> {
        let path = self.path(delta.digest);
        let file = File::open(&path).map_err(|error| {
            Failure::new(codes::STORE, format!("{} cannot be read", path.display())).because(error)
        })?;
        self.store.add_delta(&delta.digest.to_string(), &delta)?;
        let mut held = self.lock();
        held.files.insert(delta.digest, Arc::new(file));
        held.deltas.entry(delta.release).or_default().push(Arc::new(delta));
        Ok(())
    }

    /// Whether a delta is there already; refuses one too many.
    pub fn has_delta(&self, delta: &PublishedDelta) -> Result<bool> {
        let held = self.lock();
        let of_release = held.deltas.get(&delta.release).map(Vec::as_slice).unwrap_or_default();
        if of_release.iter().any(|one| one.digest == delta.digest) {
            return Ok(true);
        }
        let bytes: u64 = of_release.iter().map(|one| one.document.length).sum();
        if of_release.len() >= MAX_DELTAS || bytes + delta.document.length > MAX_DELTA_BYTES {
            let message = format!("release {} has {} deltas already", delta.release, of_release.len());
            return Err(Failure::new(codes::TOO_LARGE, message));
        }
        Ok(false)
    }

    /// Whether a release is there already; refuses another one under the same number.
    pub fn is_published(&self, new: &Published) -> Result<bool> {
        let held = self.lock();
        if let Some(old) = conflicting(held.by_digest.values(), new) {
            return Err(Failure::new(
                kedge_bundle::codes::EQUIVOCATION,
                format!(
                    "{} {} {} was published before with digest {}, this bundle has {}",
                    new.product, new.stream, new.seq, old.digest, new.digest
                ),
            ));
        }
        Ok(held.by_digest.contains_key(&new.digest))
    }

    /// Stores a release whose file is in place, and lets every stream know.
    pub fn add(&self, release: Published, roots: &[Vec<u8>]) -> Result<Arc<Published>> {
        let path = self.path(release.digest);
        let file = File::open(&path).map_err(|error| {
            Failure::new(codes::STORE, format!("{} cannot be read", path.display())).because(error)
        })?;
        self.store.add_release(&release.digest.to_string(), &release, roots)?;
        let release = Arc::new(release);
        let mut held = self.lock();
        held.files.insert(release.digest, Arc::new(file));
        held.by_digest.insert(release.digest, release.clone());
        drop(held);
        self.announce();
        Ok(release)
    }

    /// Makes every statement anew and lets every stream know; nothing to do where none are signed.
    pub fn renew_statements(&self) {
        if self.fresh_key.is_some() {
            self.announce();
        }
    }

    fn announce(&self) {
        self.lock().offers.clear();
        self.version.send_modify(|version| *version += 1);
    }

    /// Changes whenever offers may have.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// What hosts of this site are offered; made once per site and change.
    pub fn offers(&self, site: &str, now: Timestamp) -> Result<Arc<Offers>> {
        let mut held = self.lock();
        if let Some(offers) = held.offers.get(site) {
            return Ok(offers.clone());
        }
        let newest = newest_for(held.by_digest.values(), site);
        let fresh = match &self.fresh_key {
            Some(key) => unhurried(|| fresh::signed(newest.iter().map(AsRef::as_ref), now, key.as_ref()))?,
            None => Vec::new(),
        };
        let offers =
            Arc::new(Offers { fresh, releases: newest.iter().map(|release| offer(release)).collect() });
        held.offers.insert(site.to_owned(), offers.clone());
        Ok(offers)
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A key may be behind a command that takes its time: other tasks of this thread go elsewhere meanwhile.
fn unhurried<T>(work: impl FnOnce() -> T) -> T {
    use tokio::runtime::{Handle, RuntimeFlavor};
    match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        _ => work(),
    }
}

fn path_of(folder: &Path, digest: Digest) -> PathBuf {
    folder.join(format!("{}.tar", digest.hex()))
}

fn offer(release: &Published) -> ReleaseOffer {
    ReleaseOffer {
        product: release.product.clone(),
        stream: release.stream.clone(),
        seq: release.seq,
        version: release.version.clone(),
        release_digest: release.digest.to_string(),
        bundle_bytes: release.bytes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn release(product: &str, stream: &str, seq: u64, sites: &[&str]) -> Arc<Published> {
        let span = Span { offset: 0, length: 0 };
        let sites: Vec<String> = sites.iter().map(|site| (*site).to_owned()).collect();
        Arc::new(Published {
            digest: Digest::of(format!("{product} {stream} {seq} {sites:?}").as_bytes()),
            product: product.into(),
            stream: stream.into(),
            version: format!("{seq}.0"),
            seq,
            audience: if sites.is_empty() { Audience::All } else { Audience::Sites(sites) },
            bytes: 0,
            published: Timestamp::UNIX_EPOCH,
            expires: Timestamp::UNIX_EPOCH,
            documents: DocumentSpans {
                roots: vec![],
                release: span,
                oci_layout: span,
                index: span,
                manifest: span,
            },
            blobs: BTreeMap::new(),
        })
    }

    #[test]
    fn a_site_is_offered_the_newest_of_each_stream_that_it_may_have() {
        let all = [
            release("shop", "stable", 1, &[]),
            release("shop", "stable", 3, &["acme"]),
            release("shop", "stable", 2, &[]),
            release("shop", "beta", 9, &[]),
            release("till", "stable", 5, &["other"]),
        ];
        let offered = |site| -> Vec<_> {
            newest_for(&all, site).iter().map(|r| (r.product.clone(), r.stream.clone(), r.seq)).collect()
        };
        let line = |product: &str, stream: &str, seq| (product.to_owned(), stream.to_owned(), seq);
        assert_eq!(offered("acme"), [line("shop", "beta", 9), line("shop", "stable", 3)]);
        assert_eq!(
            offered("other"),
            [line("shop", "beta", 9), line("shop", "stable", 2), line("till", "stable", 5)]
        );
    }

    #[test]
    fn one_number_means_one_release() {
        let published = [release("shop", "stable", 1, &[])];
        let cases = [
            ("the same again", release("shop", "stable", 1, &[]), false),
            ("the next", release("shop", "stable", 2, &[]), false),
            ("another stream", release("shop", "beta", 1, &[]), false),
            ("same number, other content", release("shop", "stable", 1, &["acme"]), true),
        ];
        for (name, new, refused) in cases {
            assert_eq!(conflicting(&published, &new).is_some(), refused, "{name}");
        }
    }

    #[test]
    fn a_statement_names_what_is_offered_and_lives_a_day() {
        let newest = [release("shop", "stable", 3, &[])];
        let fresh = fresh::statement(newest.iter().map(AsRef::as_ref), Timestamp::UNIX_EPOCH);
        fresh.check().unwrap();
        assert_eq!(fresh.newest("shop", "stable").map(|line| line.release), Some(newest[0].digest));
        assert_eq!(fresh.expires, Timestamp::UNIX_EPOCH + fresh::LIFE);
    }
}
