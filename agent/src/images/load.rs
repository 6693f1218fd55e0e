//! Giving images to the engine: only those it lacks, of those only the layers it lacks, and then a look whether what
//! it has is what was signed.
//!
//! The archive is made on the fly, in memory bounded by a few chunks, for the store at hand:
//!
//! | store | archive | what may be left out | ID of the image |
//! |---|---|---|---|
//! | classic | `manifest.json`, as `docker save` makes | layers whose whole chain the engine has | digest of the configuration |
//! | containerd | OCI image layout | blobs the engine has | digest of the manifest |
//!
//! That something may be left out is a guess about another program's storage, which may be cleaned up at any moment:
//! when the engine refuses, everything is sent. Images get a private tag, `kedge.local/NAME:DIGEST`, which keeps them from
//! being pruned as nameless; containers are created by ID.

mod archive;
mod known;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use kedge_bundle::digest::Digest;
use kedge_bundle::layout::Image;

use crate::engine::error::{Error, Kind, Result};
use crate::engine::types::ImageStore;
use crate::engine::{Engine, EngineInfo};
use crate::plan::desired::PlacedImage;

/// Where the blobs of images are.
pub trait Blobs: Send + Sync + 'static {
    /// Opens a blob for reading.
    ///
    /// # Errors
    /// When it is not here or cannot be read.
    fn open(&self, digest: &Digest) -> io::Result<Box<dyn io::Read + Send>>;
}

impl Blobs for super::Content {
    fn open(&self, digest: &Digest) -> io::Result<Box<dyn io::Read + Send>> {
        let file = self.open_blob(digest).map_err(|problem| io::Error::other(problem.message))?;
        Ok(Box::new(file))
    }
}

/// Hears how many bytes of the archive have been sent, and of how many.
pub type Progress = Arc<dyn Fn(u64, u64) + Send + Sync>;

/// Repository of the private tags.
const REPOSITORY: &str = "kedge.local";

/// Makes sure that the engine has these images, exactly as signed, and gives each under its reference.
///
/// # Errors
/// When the engine refuses, a blob is missing, or the engine's image is not the signed one
/// ([`Kind::WrongImage`]).
pub async fn ensure(
    engine: &dyn Engine,
    info: &EngineInfo,
    images: &[Image],
    blobs: &Arc<dyn Blobs>,
    progress: &Progress,
) -> Result<BTreeMap<String, PlacedImage>> {
    let mut lacking: Vec<&Image> = Vec::new();
    let mut seen = BTreeSet::new();
    for image in images.iter().filter(|image| seen.insert(image.manifest)) {
        match engine.inspect_image(&id(image, info.store)).await {
            Ok(_) => {}
            Err(error) if error.kind == Kind::NoImage => lacking.push(image),
            Err(error) => return Err(error),
        }
    }
    if !lacking.is_empty() {
        load(engine, info, &lacking, blobs, progress).await?;
    }
    let mut placed = BTreeMap::new();
    for image in images {
        placed.insert(image.reference.clone(), place(engine, image, info.store).await?);
    }
    Ok(placed)
}

/// Sends the images, first without what the engine should have, and if it refuses, with everything.
async fn load(
    engine: &dyn Engine,
    info: &EngineInfo,
    images: &[&Image],
    blobs: &Arc<dyn Blobs>,
    progress: &Progress,
) -> Result<()> {
    let known = known::blobs(engine, info.store, images, blobs).await?;
    let first = send(engine, info, images, &known, blobs, progress).await;
    match first {
        Err(error)
            if !known.is_empty()
                && !error.is_engine_away()
                && !matches!(error.kind, Kind::Blob | Kind::NoSpace) =>
        {
            tracing::warn!(%error, "the engine did not take the images without the layers it should have; sending all");
            send(engine, info, images, &BTreeSet::new(), blobs, progress).await
        }
        // The containerd store reports success and leaves an image out that it could not complete.
        Ok(()) if !known.is_empty() && !all_there(engine, info.store, images).await? => {
            send(engine, info, images, &BTreeSet::new(), blobs, progress).await
        }
        result => result,
    }
}

async fn all_there(engine: &dyn Engine, store: ImageStore, images: &[&Image]) -> Result<bool> {
    for image in images {
        match engine.inspect_image(&id(image, store)).await {
            Ok(_) => {}
            Err(error) if error.kind == Kind::NoImage => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

async fn send(
    engine: &dyn Engine,
    info: &EngineInfo,
    images: &[&Image],
    known: &BTreeSet<Digest>,
    blobs: &Arc<dyn Blobs>,
    progress: &Progress,
) -> Result<()> {
    let plain_only = info.store == ImageStore::Classic && !reads_zstd(&info.version);
    let entries = archive::entries(images, info.store, known, plain_only, blobs.as_ref())
        .map_err(|error| Error::new(Kind::Blob, "prepare images", error.to_string()))?;
    let (stream, fault) = archive::stream(entries, blobs.clone(), progress.clone());
    let sent = engine.load(stream).await;
    match fault.take() {
        // The engine only saw its input break off; the reason is ours.
        Some(error) if sent.is_err() => Err(Error::new(Kind::Blob, "load images", error)),
        _ => sent.map(|_| ()),
    }
}

/// Layers compressed with zstd are read by Engine 23 and newer.
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
