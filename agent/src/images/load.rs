//! Giving images to the engine: only those it lacks, of those only the layers it lacks, and then a look whether what
//! it has is what was signed.
//!
//! ```text
//!  bundle being read ──┐                                ┌─▶ POST /images/load, one for each image
//!                      ├─▶ loading: layers, each once ──┤
//!  content store ──────┘        ▲                       └─▶ …
//!  (stored)                    plan: which layers, and after which image   known: what the engine has
//! ```
//!
//! The archive is made on the fly, in memory bounded by a few chunks, for the store at hand:
//!
//! | store | archive | what may be left out | ID of the image |
//! |---|---|---|---|
//! | classic | `manifest.json`, as `docker save` makes | layers whose whole chain the engine has | digest of the configuration |
//! | containerd | OCI image layout | blobs the engine has | digest of the manifest |
//!
//! That something may be left out is a guess about another program's storage, which may be cleaned up at any moment:
//! when the engine refuses, everything is sent, where it is still at hand. Images get a private tag,
//! `kedge.local/NAME:DIGEST`, which keeps them from being pruned as nameless; containers are created by ID.

mod archive;
mod known;
mod loading;
mod plan;
mod request;
mod stored;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read as _};
use std::sync::Arc;

use kedge_bundle::digest::Digest;
use kedge_bundle::layout::{Compression, Image};

use crate::engine::error::{Error, Kind, Result};
use crate::engine::types::ImageStore;
use crate::engine::{Engine, EngineInfo};
use crate::plan::desired::PlacedImage;

pub(crate) use known::lacking;
pub use loading::Loading;

/// Where the blobs of images are.
pub trait Blobs: Send + Sync + 'static {
    /// Opens a blob for reading.
    ///
    /// # Errors
    /// When it is not here or cannot be read.
    fn open(&self, digest: &Digest) -> io::Result<Box<dyn io::Read + Send>>;

    /// Bytes of a blob that is here.
    fn size(&self, digest: &Digest) -> Option<u64> {
        let _ = digest;
        None
    }

    /// What is stored under this name is something else: it must not be found again.
    fn forget(&self, digest: &Digest);
}

impl Blobs for super::Content {
    fn open(&self, digest: &Digest) -> io::Result<Box<dyn io::Read + Send>> {
        let file = self.open_blob(digest).map_err(|problem| io::Error::other(problem.message))?;
        Ok(Box::new(file))
    }

    fn size(&self, digest: &Digest) -> Option<u64> {
        std::fs::metadata(self.blob_path(digest)).ok().map(|meta| meta.len())
    }

    fn forget(&self, digest: &Digest) {
        tracing::warn!(%digest, "a blob was damaged on disk; it is let go of");
        self.remove_blob(digest);
    }
}

/// Hears how many bytes of the archive have been sent, and of how many.
pub type Progress = Arc<dyn Fn(u64, u64) + Send + Sync>;

/// Repository of the private tags.
pub(crate) const REPOSITORY: &str = "kedge.local";

/// Makes sure that the engine has these images, exactly as signed, and gives each under its reference.
///
/// # Errors
/// When the engine refuses, a blob is missing, or the engine's image is not the signed one
/// ([`Kind::WrongImage`]).
pub async fn ensure(
    engine: &Arc<dyn Engine>,
    info: &EngineInfo,
    images: &[Image],
    blobs: &Arc<dyn Blobs>,
    progress: &Progress,
) -> Result<BTreeMap<String, PlacedImage>> {
    let lacking = lacking(engine.as_ref(), info.store, images).await?;
    let lacking: Vec<Image> = lacking.into_iter().map(|image| as_stored(image, blobs.as_ref())).collect();
    if !lacking.is_empty() {
        from_store(engine, info, &lacking, blobs, progress).await?;
    }
    let mut placed = BTreeMap::new();
    for image in images {
        placed.insert(image.reference.clone(), place(engine.as_ref(), image, info.store).await?);
    }
    Ok(placed)
}

/// Images of a bundle that is being read, given to the engine while it is; see [`Loading`].
pub struct Streamed {
    /// Takes the layers.
    pub loading: Loading,
    /// Layers of images that this engine cannot take as they are: they have to be stored first.
    pub to_store: BTreeSet<Digest>,
}

/// Begins to give the engine those of these images that it lacks and can run.
///
/// # Errors
/// When the engine does not answer, or metadata of the images are not among the blobs.
pub async fn stream(
    engine: &Arc<dyn Engine>,
    info: &EngineInfo,
    images: &[Image],
    blobs: &Arc<dyn Blobs>,
) -> Result<Streamed> {
    let lacking = lacking(engine.as_ref(), info.store, images).await?;
    let unpacked = |image: &Image| {
        plain_only(info) && image.layers.iter().any(|layer| layer.compression == Compression::Zstd)
    };
    let (stored, streamed): (Vec<_>, Vec<_>) = lacking.into_iter().partition(unpacked);
    let to_store = stored.iter().flat_map(|image| image.layers.iter().map(|layer| layer.digest)).collect();
    let known = if streamed.is_empty() {
        plan::Known::Blobs(BTreeSet::new())
    } else {
        known::layers(engine.as_ref(), info.store, blobs).await?
    };
    let way = way(engine, info, blobs);
    let loading = aside(move || Loading::begin(way, streamed, &known)).await?;
    Ok(Streamed { loading, to_store })
}

/// Sends the images, first without what the engine should have, and if it refuses, with everything.
async fn from_store(
    engine: &Arc<dyn Engine>,
    info: &EngineInfo,
    images: &[Image],
    blobs: &Arc<dyn Blobs>,
    progress: &Progress,
) -> Result<()> {
    let known = known::layers(engine.as_ref(), info.store, blobs).await?;
    let (is_nothing, nothing) = (known.is_nothing(), known.nothing());
    let feed = |images: Vec<Image>, known: plan::Known| {
        let (way, progress, plain_only) = (way(engine, info, blobs), progress.clone(), plain_only(info));
        aside(move || stored::feed(way, images, &known, plain_only, &progress))
    };
    match feed(images.to_vec(), known).await {
        Err(error)
            if !is_nothing
                && !error.is_engine_away()
                && !matches!(error.kind, Kind::Blob | Kind::NoSpace) =>
        {
            tracing::warn!(%error, "the engine did not take the images without the layers it should have; sending all");
            let lacking = lacking(engine.as_ref(), info.store, images).await?;
            feed(lacking, nothing).await
        }
        result => result,
    }
}

/// The image with those layers as plain tars that are here only so, because a delta gives nothing else. On the classic store
/// that is all the same: it knows an image by its configuration.
fn as_stored(mut image: Image, blobs: &dyn Blobs) -> Image {
    for layer in image.layers.iter_mut().filter(|layer| blobs.size(&layer.digest).is_none()) {
        if let Some(size) = blobs.size(&layer.diff_id) {
            (layer.digest, layer.size, layer.compression) = (layer.diff_id, size, Compression::None);
        }
    }
    image
}

fn way(engine: &Arc<dyn Engine>, info: &EngineInfo, blobs: &Arc<dyn Blobs>) -> loading::Way {
    loading::Way {
        engine: Arc::clone(engine),
        store: info.store,
        runtime: tokio::runtime::Handle::current(),
        blobs: Arc::clone(blobs),
    }
}

async fn aside<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Error::new(Kind::Blob, "load images", error.to_string())),
    }
}

fn read_whole(blobs: &dyn Blobs, digest: &Digest, most: u64) -> Result<Vec<u8>> {
    let read = || -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        blobs.open(digest)?.take(most).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().map_err(|e| Error::new(Kind::Blob, "load images", e.to_string()))?;
    if Digest::of(&bytes) == *digest {
        return Ok(bytes);
    }
    blobs.forget(digest);
    Err(Error::new(Kind::Blob, "load images", format!("what is stored as {digest} is something else")))
}

/// Layers compressed with zstd are read by Engine 23 and newer, and by containerd's store.
fn plain_only(info: &EngineInfo) -> bool {
    info.store == ImageStore::Classic && !reads_zstd(&info.version)
}

fn reads_zstd(version: &str) -> bool {
    version.split('.').next().and_then(|major| major.parse::<u32>().ok()).is_some_and(|major| major >= 23)
}

/// The ID that the signed manifest leads to.
pub fn id(image: &Image, store: ImageStore) -> String {
    match store {
        ImageStore::Classic => image.config.to_string(),
        ImageStore::Containerd => image.manifest.to_string(),
    }
}

/// Compares the engine's image with the signed one and gives it its tag.
async fn place(engine: &dyn Engine, image: &Image, store: ImageStore) -> Result<PlacedImage> {
    let signed = id(image, store);
    let wrong =
        |cause: String| Error::new(Kind::WrongImage, format!("check image {}", image.reference), cause);
    let found = match engine.inspect_image(&signed).await {
        Err(error) if error.kind == Kind::NoImage => {
            return Err(wrong(format!("the engine loaded it, and has no image {signed}")));
        }
        found => found?,
    };
    let layers: Vec<String> = image.layers.iter().map(|layer| layer.diff_id.to_string()).collect();
    if found.id != signed || found.diff_ids != layers {
        return Err(wrong(format!("signed is {signed}, the engine has {}", found.id)));
    }
    let (repository, tag) = private_name(image);
    if !found.tags.contains(&format!("{repository}:{tag}")) {
        engine.tag_image(&found.id, &repository, &tag).await?;
    }
    Ok(PlacedImage { id: found.id, config: found.config })
}

/// Repository and tag that only we use.
pub fn private_name(image: &Image) -> (String, String) {
    let name = image.reference.split('@').next().unwrap_or_default();
    let last = name.rsplit('/').next().unwrap_or_default();
    let base = last.split(':').next().unwrap_or_default();
    let mut clean: String =
        base.chars().map(|c| if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '-' }).collect();
    clean = clean.trim_matches('-').to_owned();
    while clean.contains("--") {
        clean = clean.replace("--", "-");
    }
    let clean = if clean.is_empty() { "image".to_owned() } else { clean };
    let digits = image.manifest.hex();
    (format!("{REPOSITORY}/{clean}"), digits.chars().take(16).collect())
}

#[cfg(test)]
mod tests;
