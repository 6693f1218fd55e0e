//! What the engine has, as layers: a copy of what it says of its images.

use std::collections::BTreeSet;
use std::io::Read as _;

use futures_util::{StreamExt, stream};
use kedge_bundle::delta::Delta;
use kedge_bundle::digest::Digest;
use kedge_bundle::layout::{Image, Layer, Manifest, limits};

use crate::engine::Engine;
use crate::engine::error::Result;
use crate::engine::types::ImageStore;
use crate::images::Content;

/// Inspections under way at the same moment.
const INSPECTIONS: usize = 8;

/// Images that the engine has, and their layers.
#[derive(Debug, Clone, Default)]
pub struct Holdings {
    store: Option<ImageStore>,
    images: Vec<Held>,
}

#[derive(Debug, Clone)]
struct Held {
    id: String,
    /// Plain tars, lowest first.
    diff_ids: Vec<Digest>,
    /// Blobs as they are stored; the containerd store only.
    blobs: BTreeSet<Digest>,
}

impl Holdings {
    /// Asks the engine.
    ///
    /// # Errors
    /// The engine's.
    pub async fn of(engine: &dyn Engine, store: ImageStore, content: &Content) -> Result<Self> {
        let listed = engine.list_images().await?;
        let inspected: Vec<_> = stream::iter(listed)
            .map(|image| async move { engine.inspect_image(&image.id).await })
            .buffer_unordered(INSPECTIONS)
            .collect()
            .await;
        // An image that vanished between list and inspection is one that helps nothing.
        let held = inspected.into_iter().flatten().map(|image| Held {
            blobs: if store == ImageStore::Containerd {
                blobs_of(&image.id, content)
            } else {
                BTreeSet::new()
            },
            diff_ids: image.diff_ids.iter().filter_map(|id| id.parse().ok()).collect(),
            id: image.id,
        });
        Ok(Self { store: Some(store), images: held.collect() })
    }

    /// An image that holds this plain tar so that it can be read back. The containerd store gives layers back as
    /// they are stored, so there a compressed one is of no use.
    #[must_use]
    pub fn image_with(&self, diff_id: &Digest) -> Option<&str> {
        let holds = |held: &&Held| match self.store {
            Some(ImageStore::Containerd) => held.blobs.contains(diff_id),
            _ => held.diff_ids.contains(diff_id),
        };
        self.images.iter().find(holds).map(|held| held.id.as_str())
    }

    /// Whether the engine has the image itself.
    #[must_use]
    pub fn has_image(&self, image: &Image) -> bool {
        let id = match self.store {
            Some(ImageStore::Containerd) => image.manifest,
            _ => image.config,
        };
        self.images.iter().any(|held| held.id == id.to_string())
    }

    /// Images that the engine does not have.
    #[must_use]
    pub fn lacking_images<'i>(&self, images: &'i [Image]) -> Vec<&'i Image> {
        images.iter().filter(|image| !self.has_image(image)).collect()
    }

    /// Layers that the engine has to be given so that it has these images; some of them several times.
    #[must_use]
    pub fn lacking_layers<'i>(&self, images: &'i [Image]) -> Vec<&'i Layer> {
        let lacking = |image: &'i Image| {
            let omitted: BTreeSet<Digest> = self.omitted(image).iter().map(|layer| layer.digest).collect();
            image.layers.iter().filter(move |layer| !omitted.contains(&layer.digest))
        };
        self.lacking_images(images).into_iter().flat_map(lacking).collect()
    }

    /// Layers of this image, from the bottom, that `load` may leave out.
    #[must_use]
    pub fn omitted<'i>(&self, image: &'i Image) -> Vec<&'i Layer> {
        match self.store {
            Some(ImageStore::Containerd) => {
                let known = |digest: &Digest| self.images.iter().any(|held| held.blobs.contains(digest));
                image.layers.iter().filter(|layer| known(&layer.digest)).collect()
            }
            // The classic store finds a layer by its whole chain.
            _ => {
                let common = |held: &Held| {
                    let pairs = image.layers.iter().zip(&held.diff_ids);
                    pairs.take_while(|(layer, diff_id)| layer.diff_id == **diff_id).count()
                };
                let depth = self.images.iter().map(common).max().unwrap_or_default();
                image.layers.iter().take(depth).collect()
            }
        }
    }

    /// Whether a plain tar can stand in for a blob: not where the engine wants the very blob.
    #[must_use]
    pub fn takes_plain(&self, digest: &Digest, diff_id: &Digest) -> bool {
        self.store != Some(ImageStore::Containerd) || digest == diff_id
    }

    /// The layers that a delta counts on and that are not here.
    #[must_use]
    pub fn lacking(&self, delta: &Delta, content: &Content) -> Vec<Digest> {
        let mut lacking = BTreeSet::new();
        for one in &delta.left_out {
            let as_it_is = self.images.iter().any(|held| held.blobs.contains(&one.digest))
                || content.holds_size(&one.diff_id, one.unpacked);
            if !as_it_is
                && (self.image_with(&one.diff_id).is_none() || !self.takes_plain(&one.digest, &one.diff_id))
            {
                lacking.insert(one.diff_id);
            }
        }
        for one in &delta.patches {
            if !self.takes_plain(&one.digest, &one.diff_id) {
                lacking.insert(one.digest);
            }
            if let Some(base) = one.base
                && self.image_with(&base.diff_id).is_none()
                && !content.holds_size(&base.diff_id, base.size)
            {
                lacking.insert(base.diff_id);
            }
        }
        lacking.into_iter().collect()
    }
}

/// Layers of an image of the containerd store that we loaded ourselves: its ID is its manifest's digest, and we keep manifests.
fn blobs_of(id: &str, content: &Content) -> BTreeSet<Digest> {
    let read = || -> Option<BTreeSet<Digest>> {
        let digest: Digest = id.parse().ok()?;
        let mut bytes = Vec::new();
        content.open_blob(&digest).ok()?.take(limits::METADATA).read_to_end(&mut bytes).ok()?;
        let manifest: Manifest = kedge_bundle::json::strict(&bytes).ok()?;
        Some(manifest.layers.iter().map(|layer| layer.digest).collect())
    };
    read().unwrap_or_default()
}
