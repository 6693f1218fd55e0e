//! What the engine has already, as far as it can be told from its images.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::{StreamExt, stream};
use kedge_bundle::digest::Digest;
use kedge_bundle::layout::{Image, Manifest, limits};

use super::plan::Known;
use super::{Blobs, id, read_whole};
use crate::engine::Engine;
use crate::engine::error::{Kind, Result};
use crate::engine::types::ImageStore;

/// Inspections under way at the same moment.
const INSPECTIONS: usize = 8;

/// Images that the engine does not have, each once.
pub(crate) async fn lacking(engine: &dyn Engine, store: ImageStore, images: &[Image]) -> Result<Vec<Image>> {
    let mut lacking: Vec<Image> = Vec::new();
    let mut seen = BTreeSet::new();
    for image in images.iter().filter(|image| seen.insert(id(image, store))) {
        match engine.inspect_image(&id(image, store)).await {
            Ok(_) => {}
            Err(error) if error.kind == Kind::NoImage => lacking.push(image.clone()),
            Err(error) => return Err(error),
        }
    }
    Ok(lacking)
}

/// Layers that need not be sent.
pub(super) async fn layers(engine: &dyn Engine, store: ImageStore, blobs: &Arc<dyn Blobs>) -> Result<Known> {
    let listed = engine.list_images().await?;
    match store {
        ImageStore::Classic => {
            let inspected: Vec<_> = stream::iter(listed)
                .map(|image| async move { engine.inspect_image(&image.id).await })
                .buffer_unordered(INSPECTIONS)
                .collect()
                .await;
            // An image that vanished between list and inspection is one that helps nothing.
            Ok(Known::Chains(inspected.into_iter().flatten().map(|image| image.diff_ids).collect()))
        }
        ImageStore::Containerd => {
            let (blobs, ids) = (blobs.clone(), listed.into_iter().map(|image| image.id).collect::<Vec<_>>());
            let read = tokio::task::spawn_blocking(move || {
                ids.iter().flat_map(|id| of_manifest(id, blobs.as_ref())).collect()
            });
            Ok(Known::Blobs(read.await.unwrap_or_default()))
        }
    }
}

/// Layers of an image of the containerd store that we loaded ourselves: its ID is its manifest's digest, and we keep manifests.
fn of_manifest(id: &str, blobs: &dyn Blobs) -> Vec<Digest> {
    let read = || -> Option<Vec<Digest>> {
        let bytes = read_whole(blobs, &id.parse().ok()?, limits::METADATA).ok()?;
        let manifest: Manifest = kedge_bundle::json::strict(&bytes).ok()?;
        Some(manifest.layers.iter().map(|layer| layer.digest).collect())
    };
    read().unwrap_or_default()
}
