//! Which blob must come next.
//!
//! A bundle's documents fix its blobs and their order: product manifest, product document, files, image
//! manifests, configurations, layers, each in the order in which its parents list it and each once. So a reader knows name
//! and size of every blob before it arrives, nothing that is not listed can hide in a bundle, and one set of documents
//! makes exactly one archive. Where a delta document leaves a layer out, its place stays empty or a patch takes it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{
    Blob, Compression, Content, Descriptor, Fault, File, Image, ImageConfig, Index, Kind, Layer, Manifest,
    Paths, Platform, docker_manifest, limits, media,
};
use crate::delta::{Delta, LeftOut, Patch};
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
    /// Layers that do not come themselves; each is taken out when the release turns out to list it.
    absent: BTreeMap<Digest, Absent>,
}

/// Why a layer does not come itself.
#[derive(Debug)]
enum Absent {
    LeftOut(LeftOut),
    Patched(Patch),
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
            absent: BTreeMap::new(),
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

    /// Lets layers be left out and replaced as a verified delta document says. To be called before anything is taken.
    #[must_use]
    pub fn with_delta(mut self, delta: &Delta) -> Self {
        self.absent = delta.left_out.iter().map(|one| (one.digest, Absent::LeftOut(one.clone()))).collect();
        self.absent.extend(delta.patches.iter().map(|one| (one.digest, Absent::Patched(one.clone()))));
        self
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
            Kind::ProductManifest => self.product_manifest(blob.digest, bytes)?,
            Kind::Product => {
                let product: Product = parse("product document", bytes)?;
                product.check().map_err(Fault::Product)?;
                self.product = Some(product);
            }
            Kind::ImageManifest => self.image_manifest(blob.digest, bytes)?,
            Kind::Config => self.config(blob.digest, bytes)?,
            Kind::File | Kind::Layer | Kind::Patch => {}
        }
        self.all_absent_are_listed()
    }

    /// Once every layer is listed, nothing may be left of what the delta document says.
    fn all_absent_are_listed(&self) -> Result<(), Fault> {
        match self.absent.keys().next() {
            Some(digest) if self.is_listed() => {
                Err(Fault::Delta(format!("the release has no layer {digest}, or not as it is said there")))
            }
            _ => Ok(()),
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
        self.all_came()?;
        let (signed, found) = (self.signed_bytes, self.listed_bytes);
        if found != signed {
            return Err(Fault::ContentBytes { signed, found });
        }
        self.whole(docker)
    }

    /// Whether all that is still to come are layers: nothing that follows can list anything more.
    #[must_use]
    pub fn is_listed(&self) -> bool {
        self.remaining().all(|blob| matches!(blob.kind, Kind::Layer | Kind::Patch))
    }

    /// Everything that the bundle holds, once it [is listed](Self::is_listed); its layers need not have come.
    ///
    /// # Errors
    /// One that the whole shows: a product document that names what is not there, a `manifest.json` that does not match.
    pub fn whole(&self, docker: &[u8]) -> Result<Content, Fault> {
        let content = self.content()?;
        if docker_manifest(&content.images) != docker {
            return Err(Fault::DockerManifest);
        }
        Ok(content)
    }

    /// What was listed, once all of it has come.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn into_content(self) -> Result<Content, Fault> {
        self.all_came()?;
        self.content()
    }

    fn all_came(&self) -> Result<(), Fault> {
        let missing: Vec<_> = self.remaining().map(|blob| blob.digest).collect();
        if missing.is_empty() { Ok(()) } else { Err(Fault::Missing(missing)) }
    }

    fn content(&self) -> Result<Content, Fault> {
        let product = self.product.clone().ok_or_else(|| Fault::Product("missing".into()))?;
        let files: BTreeSet<&str> = self.files.iter().map(|file| file.path.as_str()).collect();
        for path in product.compose.iter().chain(&product.env_files) {
            if !files.contains(path.as_str()) {
                return Err(Fault::Product(format!("the file {path:?} that it names is not in the bundle")));
            }
        }
        let images: Vec<Image> = self.images.iter().filter_map(Pending::complete).collect();
        if let Some(tools) = &product.tools
            && !images.iter().any(|image| image.reference == *tools)
        {
            return Err(Fault::Product(format!("the image {tools:?} that it names is not in the bundle")));
        }
        Ok(Content { product, files: self.files.clone(), images })
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
        let coming = match blob.layer.and_then(|layer| Some((layer, self.absent.remove(&blob.digest)?))) {
            None => Some(blob),
            Some((layer, absent)) => self.instead(&blob, layer, absent)?,
        };
        self.queues.entry(kind).or_default().extend(coming);
        Ok(())
    }

    /// What comes in the place of a layer that does not come itself.
    fn instead(
        &mut self,
        layer: &Blob,
        (compression, diff_id): (Compression, Digest),
        absent: Absent,
    ) -> Result<Option<Blob>, Fault> {
        let (said, unpacked) = match &absent {
            Absent::LeftOut(one) => (one.diff_id, one.unpacked),
            Absent::Patched(one) => (one.diff_id, one.unpacked),
        };
        let wrong = |why: &str| Fault::Delta(format!("layer {}: {why}", layer.digest));
        if said != diff_id {
            return Err(wrong(&format!("its diff_id is {diff_id}, not {said}")));
        }
        if compression == Compression::None && layer.size != unpacked {
            return Err(wrong(&format!("it has {} bytes, not {unpacked}", layer.size)));
        }
        let Absent::Patched(patch) = absent else { return Ok(None) };
        let blob = Blob { digest: patch.patch, size: patch.patch_size, kind: Kind::Patch, layer: None };
        if self.seen.contains_key(&blob.digest) {
            return Err(wrong("its patch is a blob of the release"));
        }
        self.seen.insert(blob.digest, blob.clone());
        Ok(Some(blob))
    }
}

impl Pending {
    fn complete(&self) -> Option<Image> {
        let manifest = self.manifest.as_ref()?;
        Some(Image {
            reference: self.reference.clone(),
            platform: self.platform.clone()?,
            manifest: self.descriptor.digest,
            manifest_size: self.descriptor.size,
            manifest_type: self.descriptor.media_type.clone(),
            config: manifest.config.digest,
            config_size: manifest.config.size,
            layers: self.layers.clone(),
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
