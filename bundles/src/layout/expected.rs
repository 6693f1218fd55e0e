//! Which blob must come next.
//!
//! A bundle's documents fix its blobs and their order: product manifest, product document, files, image
//! manifests, configurations, layers, each in the order in which its parents list it and each once. So a reader knows name
//! and size of every blob before it arrives, nothing that is not listed can hide in a bundle, and one set of documents
//! makes exactly one archive.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{
    Blob, Compression, Content, Descriptor, Fault, File, Image, ImageConfig, Index, Kind, Layer, Manifest,
    Paths, Platform, docker_manifest, limits, media,
};
use crate::digest::Digest;
use crate::json;
use crate::product::Product;

/// The blobs still to come, and what has been learnt from those that came.
#[derive(Debug)]
pub struct Expected {
    queues: BTreeMap<Kind, VecDeque<Blob>>,
    seen: BTreeMap<Digest, Blob>,
    signed_bytes: u64,
    listed_bytes: u64,
    product: Option<Product>,
    files: Vec<File>,
    /// In the order of the index; filled in as manifests and configurations come.
    images: Vec<Pending>,
}

/// An image of which not everything is known yet.
#[derive(Debug)]
struct Pending {
    reference: String,
    descriptor: Descriptor,
    manifest: Option<Manifest>,
    platform: Option<Platform>,
    layers: Vec<Layer>,
}

impl Expected {
    /// Starts from a verified `index.json` and the signed sum of all blob sizes.
    ///
    /// # Errors
    /// A [`Fault`] of the index.
    pub fn new(index: &[u8], content_bytes: u64) -> Result<Self, Fault> {
        let index: Index = parse("index.json", index)?;
        let broken = |reason: String| Fault::Index(reason);
        if index.schema_version != 2 || index.media_type.as_deref().is_some_and(|found| found != media::INDEX)
        {
            return Err(broken("not an OCI image index of schema version 2".into()));
        }
        bound("images", index.manifests.len() as u64, limits::IMAGES as u64)?;
        let mut this = Self {
            queues: BTreeMap::new(),
            seen: BTreeMap::new(),
            signed_bytes: content_bytes,
            listed_bytes: 0,
            product: None,
            files: Vec::new(),
            images: Vec::new(),
        };
        let (products, images): (Vec<_>, Vec<_>) =
            index.manifests.into_iter().partition(|one| one.artifact_type.as_deref() == Some(media::PRODUCT));
        let [product] = products.as_slice() else {
            return Err(broken(format!("{} product manifests where one must be", products.len())));
        };
        manifest_type("index.json", product)?;
        this.expect(product, Kind::ProductManifest, None)?;
        let mut references = BTreeSet::new();
        for descriptor in images {
            manifest_type("index.json", &descriptor)?;
            let Some(reference) = descriptor.annotations.get(media::REF_NAME).cloned() else {
                return Err(broken(format!("{} has no reference", descriptor.digest)));
            };
            if reference.is_empty() || reference.len() > 512 || reference.contains(char::is_control) {
                return Err(broken(format!("{} has an unusable reference", descriptor.digest)));
            }
            if !references.insert(reference.clone()) {
                return Err(broken(format!("reference {reference:?} is there twice")));
            }
            this.expect(&descriptor, Kind::ImageManifest, None)?;
            this.images.push(Pending {
                reference,
                descriptor,
                manifest: None,
                platform: None,
                layers: Vec::new(),
            });
        }
        Ok(this)
    }

    /// The blob that must come next; `None` when all have come.
    #[must_use]
    pub fn next(&self) -> Option<&Blob> {
        self.queues.values().find_map(VecDeque::front)
    }

    /// What is known of a digest: listed so far, come or not.
    #[must_use]
    pub fn listed(&self, digest: &Digest) -> Option<&Blob> {
        self.seen.get(digest)
    }

    /// Every blob that is listed so far and has not come, in order.
    pub fn remaining(&self) -> impl Iterator<Item = &Blob> {
        self.queues.values().flatten()
    }

    /// Takes the blob that was [`next`](Self::next), whose digest the caller has verified. `bytes` is its content if it
    /// is metadata and is not looked at otherwise.
    ///
    /// # Errors
    /// A [`Fault`] of the blob.
    pub fn take(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        let Some(blob) =
            self.queues.values_mut().find(|queue| !queue.is_empty()).and_then(VecDeque::pop_front)
        else {
            return Ok(());
        };
        match blob.kind {
            Kind::ProductManifest => self.product_manifest(blob.digest, bytes),
            Kind::Product => {
                let product: Product = parse("product document", bytes)?;
                product.check().map_err(Fault::Product)?;
                self.product = Some(product);
                Ok(())
            }
            Kind::ImageManifest => self.image_manifest(blob.digest, bytes),
            Kind::Config => self.config(blob.digest, bytes),
            Kind::File | Kind::Layer => Ok(()),
        }
    }

    /// Sum of the blobs that are listed so far, in bytes.
    #[must_use]
    pub const fn listed_bytes(&self) -> u64 {
        self.listed_bytes
    }

    /// Ends the walk.
    ///
    /// # Errors
    /// [`Fault::Missing`], or one that the whole shows: sizes that do not add up, a `manifest.json` that does not match.
    pub fn finish(self, docker: &[u8]) -> Result<Content, Fault> {
        let (signed, found) = (self.signed_bytes, self.listed_bytes);
        let content = self.into_content()?;
        if found != signed {
            return Err(Fault::ContentBytes { signed, found });
        }
        if docker_manifest(&content.images) != docker {
            return Err(Fault::DockerManifest);
        }
        Ok(content)
    }

    /// What was listed, once all of it has come.
    pub(crate) fn into_content(self) -> Result<Content, Fault> {
        let missing: Vec<_> = self.remaining().map(|blob| blob.digest).collect();
        if !missing.is_empty() {
            return Err(Fault::Missing(missing));
        }
        let product = self.product.ok_or_else(|| Fault::Product("missing".into()))?;
        let files: BTreeSet<&str> = self.files.iter().map(|file| file.path.as_str()).collect();
        for path in product.compose.iter().chain(&product.env_files) {
            if !files.contains(path.as_str()) {
                return Err(Fault::Product(format!("the file {path:?} that it names is not in the bundle")));
            }
        }
        let images = self.images.into_iter().filter_map(Pending::complete).collect();
        Ok(Content { product, files: self.files, images })
    }

    fn product_manifest(&mut self, digest: Digest, bytes: &[u8]) -> Result<(), Fault> {
        let what = format!("product manifest {digest}");
        let manifest: Manifest = parse(&what, bytes)?;
        if manifest.artifact_type.as_deref() != Some(media::PRODUCT) {
            return Err(Fault::MediaType { what, found: manifest.artifact_type.unwrap_or_default() });
        }
        media_type(&what, &manifest.config, &[media::PRODUCT])?;
        bound("files", manifest.layers.len() as u64, limits::FILES as u64)?;
        self.expect(&manifest.config, Kind::Product, None)?;
        let mut paths = Paths::default();
        for descriptor in &manifest.layers {
            media_type(&what, descriptor, &[media::FILE])?;
            let path = descriptor.annotations.get(media::TITLE).cloned().unwrap_or_default();
            paths.add(&path)?;
            let executable = match descriptor.annotations.get(media::MODE).map(String::as_str) {
                Some("0644") => false,
                Some("0755") => true,
                _ => return Err(Fault::Path { path, reason: "has a mode other than 0644 and 0755" }),
            };
            bound("bytes of a file", descriptor.size, limits::FILE)?;
            self.expect(descriptor, Kind::File, None)?;
            self.files.push(File { path, digest: descriptor.digest, size: descriptor.size, executable });
        }
        Ok(())
    }

    fn image_manifest(&mut self, digest: Digest, bytes: &[u8]) -> Result<(), Fault> {
        let what = format!("image manifest {digest}");
        let manifest: Manifest = parse(&what, bytes)?;
        if manifest.schema_version != 2 {
            return Err(Fault::Malformed { what, reason: "not of schema version 2".into() });
        }
        media_type(&what, &manifest.config, &[media::CONFIG, media::DOCKER_CONFIG])?;
        bound("layers", manifest.layers.len() as u64, limits::LAYERS as u64)?;
        for layer in &manifest.layers {
            if !layer.urls.is_empty() {
                return Err(Fault::Foreign { what, digest: layer.digest });
            }
            if Compression::of(&layer.media_type).is_none() {
                return Err(Fault::MediaType { what, found: shown(&layer.media_type) });
            }
        }
        self.expect(&manifest.config, Kind::Config, None)?;
        for image in self.images.iter_mut().filter(|image| image.descriptor.digest == digest) {
            let said = &image.descriptor.media_type;
            if let Some(found) = manifest.media_type.as_ref().filter(|found| *found != said) {
                return Err(Fault::MediaType { what, found: shown(found) });
            }
            image.manifest = Some(manifest.clone());
        }
        Ok(())
    }

    fn config(&mut self, digest: Digest, bytes: &[u8]) -> Result<(), Fault> {
        let config: ImageConfig = parse(&format!("image configuration {digest}"), bytes)?;
        let fault = |reason: String| Fault::DiffIds { config: digest, reason };
        if config.rootfs.kind != "layers" {
            return Err(fault(format!("rootfs type {:?}", shown(&config.rootfs.kind))));
        }
        let diff_ids = &config.rootfs.diff_ids;
        let mut wanted = Vec::new();
        for image in &mut self.images {
            let Some(manifest) = image.manifest.as_ref().filter(|one| one.config.digest == digest) else {
                continue;
            };
            if diff_ids.len() != manifest.layers.len() {
                return Err(fault(format!(
                    "{} diff_ids for {} layers",
                    diff_ids.len(),
                    manifest.layers.len()
                )));
            }
            let platform = Platform {
                architecture: config.architecture.clone(),
                os: config.os.clone(),
                variant: config.variant.clone(),
            };
            // Some readers choose by the index, the engine by the configuration: they must choose alike.
            let listed = image.descriptor.platform.as_ref();
            if listed.is_some_and(|listed| {
                (&listed.architecture, &listed.os) != (&platform.architecture, &platform.os)
            }) {
                return Err(Fault::Index(format!("{:.80} is listed for another platform", image.reference)));
            }
            image.platform = Some(platform);
            image.layers.clear();
            for (descriptor, &diff_id) in manifest.layers.iter().zip(diff_ids) {
                // Checked when the manifest was taken.
                let Some(compression) = Compression::of(&descriptor.media_type) else { continue };
                if compression == Compression::None && descriptor.digest != diff_id {
                    return Err(fault(format!("layer {} has diff_id {diff_id}", descriptor.digest)));
                }
                wanted.push((descriptor.clone(), compression, diff_id));
                let (digest, size) = (descriptor.digest, descriptor.size);
                image.layers.push(Layer { digest, size, diff_id, compression });
            }
        }
        for (descriptor, compression, diff_id) in wanted {
            self.expect(&descriptor, Kind::Layer, Some((compression, diff_id)))?;
        }
        Ok(())
    }

    /// Puts a descriptor's blob in its queue, once.
    fn expect(
        &mut self,
        descriptor: &Descriptor,
        kind: Kind,
        layer: Option<(Compression, Digest)>,
    ) -> Result<(), Fault> {
        let blob = Blob { digest: descriptor.digest, size: descriptor.size, kind, layer };
        if let Some(first) = self.seen.get(&blob.digest) {
            if *first == blob {
                return Ok(());
            }
            let show = |blob: &Blob| match blob.layer {
                Some((_, diff_id)) => format!("layer of {} bytes with diff_id {diff_id}", blob.size),
                None => format!("{} of {} bytes", blob.kind.name(), blob.size),
            };
            return Err(Fault::Conflict { digest: blob.digest, first: show(first), second: show(&blob) });
        }
        if kind.is_metadata() {
            bound("bytes of a manifest or configuration", blob.size, limits::METADATA)?;
        }
        let listed = self.listed_bytes.checked_add(blob.size).filter(|sum| *sum <= self.signed_bytes);
        let Some(listed) = listed else {
            let found = self.listed_bytes.saturating_add(blob.size);
            return Err(Fault::ContentBytes { signed: self.signed_bytes, found });
        };
        self.listed_bytes = listed;
        self.seen.insert(blob.digest, blob.clone());
        self.queues.entry(kind).or_default().push_back(blob);
        Ok(())
    }
}

impl Pending {
    fn complete(self) -> Option<Image> {
        let manifest = self.manifest?;
        Some(Image {
            reference: self.reference,
            platform: self.platform?,
            manifest: self.descriptor.digest,
            manifest_size: self.descriptor.size,
            manifest_type: self.descriptor.media_type,
            config: manifest.config.digest,
            config_size: manifest.config.size,
            layers: self.layers,
        })
    }
}

fn parse<T: serde::de::DeserializeOwned>(what: &str, bytes: &[u8]) -> Result<T, Fault> {
    json::document(bytes).map_err(|error| Fault::Malformed { what: what.into(), reason: error.to_string() })
}

fn manifest_type(what: &str, descriptor: &Descriptor) -> Result<(), Fault> {
    media_type(what, descriptor, &[media::MANIFEST, media::DOCKER_MANIFEST])
}

fn media_type(what: &str, descriptor: &Descriptor, allowed: &[&str]) -> Result<(), Fault> {
    if !descriptor.urls.is_empty() {
        return Err(Fault::Foreign { what: what.into(), digest: descriptor.digest });
    }
    if !allowed.contains(&descriptor.media_type.as_str()) {
        return Err(Fault::MediaType { what: what.into(), found: shown(&descriptor.media_type) });
    }
    Ok(())
}

fn bound(what: &'static str, found: u64, max: u64) -> Result<(), Fault> {
    if found > max { Err(Fault::TooMany { what, found, max }) } else { Ok(()) }
}

/// A text from outside, short enough to be shown.
fn shown(text: &str) -> String {
    text.chars().take(80).collect()
}
