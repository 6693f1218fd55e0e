//! A software bill of materials: every image and layer of a bundle, and what the package databases in them say.
//!
//! | module | does |
//! |---|---|
//! | `tape` | one layer, entry by entry |
//! | `view` | layers on top of each other: what a container would see of package databases |
//! | `databases` | the databases: dpkg, apk, Python, npm; rpm's is told of and not read |
//! | `purl` | package URLs |
//! | `spdx`, `cyclonedx` | the two formats |
//!
//! Layers are read as streams. Only packages are kept, each cut to a sensible size and all of them together within
//! [`MAX_KEPT`]: whatever a layer holds, memory stays small. The same bundle gives the same bill, byte for byte: times
//! come from the release.
//!
//! rpm's databases are Berkeley DB, ndb or SQLite files; no small crate reads all three. Build information in Go and Rust
//! programs is left out: finding it takes whole programs in memory.

mod cyclonedx;
mod databases;
mod purl;
mod spdx;
mod tape;
#[cfg(test)]
mod tests;
mod view;

use std::collections::BTreeMap;
use std::io::{BufReader, Read};
use std::path::Path;

use serde::Deserialize;

use super::opened::Opened;
use super::{BundleError, Progress};
use crate::assemble::Source;
use crate::codes::{self, Code, Coded};
use crate::digest::Digest;
use crate::layout::{Compression, Image, limits};
use crate::roles::Release;
use crate::unpack::ZSTD_WINDOW_LOG;
use databases::Package;
use view::View;

/// Most that is kept of all packages of an image together, bytes.
const MAX_KEPT: usize = 64 << 20;

/// Longest command of a layer that is told, characters.
const MAX_COMMAND: usize = 1024;

/// In which format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BillFormat {
    /// SPDX 2.3, JSON.
    Spdx,
    /// CycloneDX 1.6, JSON.
    CycloneDx,
}

/// What a bundle is made of.
#[derive(Debug)]
pub struct Bill {
    /// The release.
    release: Release,
    /// Its digest.
    digest: Digest,
    images: Vec<ImageBill>,
}

/// What an image is made of.
#[derive(Debug)]
struct ImageBill {
    image: Image,
    /// What made each layer, where the configuration says so.
    created_by: Vec<Option<String>>,
    databases: Vec<Database>,
    /// Sorted, each once.
    packages: Vec<Installed>,
}

/// A package database that was found.
#[derive(Debug, PartialEq, Eq)]
struct Database {
    path: String,
    kind: &'static str,
    /// Whether it could be read.
    read: bool,
    /// DiffID of the layer that it is in.
    layer: Digest,
}

/// A package of an image.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Installed {
    package: Package,
    /// Its package URL.
    purl: String,
    /// Of the database that says so.
    path: String,
    /// DiffID of the layer that this is in.
    layer: Digest,
}

/// Why there is no bill.
#[derive(Debug, thiserror::Error)]
pub enum BillError {
    /// The bundle.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// A layer is not in the bundle.
    #[error("image {image:.200}: layer {layer} is not in this bundle; ask the full one, not the delta")]
    Absent {
        /// Which.
        image: String,
        /// DiffID.
        layer: Digest,
    },
    /// A layer.
    #[error("image {image:.200}: layer {layer}: {reason}")]
    Layer {
        /// Which.
        image: String,
        /// DiffID.
        layer: Digest,
        /// What is wrong with it.
        reason: String,
    },
}

impl Coded for BillError {
    fn code(&self) -> Code {
        match self {
            Self::Bundle(error) => error.code(),
            Self::Absent { .. } | Self::Layer { .. } => codes::BILL,
        }
    }
}

/// The part of an image configuration that says what made its layers.
#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    history: Vec<Step>,
}

#[derive(Deserialize)]
struct Step {
    #[serde(default)]
    created_by: Option<String>,
    #[serde(default)]
    empty_layer: bool,
}

impl Bill {
    /// Reads a bundle. Digests are checked, signatures are not.
    ///
    /// # Errors
    /// [`BillError`].
    pub fn of(path: &Path, progress: &dyn Progress) -> Result<Self, BillError> {
        let opened = Opened::read(path, "checking the bundle", progress)?;
        let sources = opened.sources();
        let most = opened.verified.release.unpacked_bytes;
        let mut images = Vec::new();
        for image in &opened.content.images {
            images.push(read(image.clone(), &sources, most, progress)?);
        }
        images.sort_by(|a, b| a.image.reference.cmp(&b.image.reference));
        Ok(Self { digest: opened.verified.digest, release: opened.verified.release, images })
    }

    /// The bill as a document. `tool` is the name and version of the program that asks.
    #[must_use]
    pub fn document(&self, format: BillFormat, tool: (&str, &str)) -> serde_json::Value {
        match format {
            BillFormat::Spdx => spdx::document(self, tool),
            BillFormat::CycloneDx => cyclonedx::document(self, tool),
        }
    }

    /// Packages in all, for people.
    #[must_use]
    pub fn packages(&self) -> usize {
        self.images.iter().map(|image| image.packages.len()).sum()
    }

    /// Databases that were found and could not be read: image and path.
    #[must_use]
    pub fn unread(&self) -> Vec<(String, String)> {
        let all = self
            .images
            .iter()
            .flat_map(|image| image.databases.iter().map(move |database| (&image.image.reference, database)));
        let unread = all.filter(|(_, database)| !database.read);
        unread.map(|(reference, database)| (reference.clone(), database.path.clone())).collect()
    }

    /// When the release was issued, to the second.
    fn issued(&self) -> String {
        self.release.issued.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
    }
}

/// Reads all layers of an image, lowest first.
fn read(
    image: Image,
    sources: &BTreeMap<Digest, &Source>,
    most: u64,
    progress: &dyn Progress,
) -> Result<ImageBill, BillError> {
    progress
        .begin(&format!("reading {}", image.reference), Some(image.layers.iter().map(|one| one.size).sum()));
    let mut view = View::new(MAX_KEPT);
    for (number, layer) in image.layers.iter().enumerate() {
        let name = || (image.reference.clone(), layer.diff_id);
        let Some(source) = sources.get(&layer.digest) else {
            let (image, layer) = name();
            return Err(BillError::Absent { image, layer });
        };
        let passed = source.open().map_err(|error| error.to_string()).and_then(|stored| {
            let told = Told { inner: stored, progress };
            let plain = plain(told, layer.compression).map_err(|error| error.to_string())?;
            view.put(number, plain.take(most)).map_err(|fault| fault.to_string())
        });
        passed.map_err(|reason| {
            let (image, layer) = name();
            BillError::Layer { image, layer, reason }
        })?;
    }
    progress.end();
    let created_by = sources.get(&image.config).map(|source| created_by(source)).unwrap_or_default();
    let created_by =
        if created_by.len() == image.layers.len() { created_by } else { vec![None; image.layers.len()] };
    let diff_ids: Vec<Digest> = image.layers.iter().map(|layer| layer.diff_id).collect();
    let (databases, packages) = view.into_parts(&diff_ids);
    Ok(ImageBill { image, created_by, databases, packages })
}

/// What made each layer.
fn created_by(config: &Source) -> Vec<Option<String>> {
    let mut bytes = Vec::new();
    let read = config.open().and_then(|config| config.take(limits::METADATA).read_to_end(&mut bytes));
    let config = read.ok().and_then(|_| serde_json::from_slice::<Config>(&bytes).ok());
    let steps = config.map(|config| config.history).unwrap_or_default().into_iter();
    let short = |text: String| databases::clip(&text, MAX_COMMAND);
    steps.filter(|step| !step.empty_layer).map(|step| step.created_by.map(short)).collect()
}

/// A layer's plain tar.
fn plain<'a>(stored: impl Read + 'a, compression: Compression) -> std::io::Result<Box<dyn Read + 'a>> {
    Ok(match compression {
        Compression::None => Box::new(BufReader::with_capacity(1 << 18, stored)),
        Compression::Gzip => Box::new(flate2::read::MultiGzDecoder::new(stored)),
        Compression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::new(stored)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG)?;
            Box::new(decoder)
        }
    })
}

/// Tells of stored bytes as they are read.
struct Told<'a, R> {
    inner: R,
    progress: &'a dyn Progress,
}

impl<R: Read> Read for Told<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.progress.advance(count as u64);
        Ok(count)
    }
}
