//! What the engine has already, as far as it can be told from its images.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::sync::Arc;

use futures_util::{StreamExt, stream};
use kedge_bundle::digest::Digest;
use kedge_bundle::layout::{Image, Manifest, limits};

use super::Blobs;
use crate::engine::Engine;
use crate::engine::error::Result;
use crate::engine::types::ImageStore;

/// Inspections under way at the same moment.
const INSPECTIONS: usize = 8;

/// Blobs of these images that need not be sent.
pub(super) async fn blobs(
    engine: &dyn Engine,
    store: ImageStore,
    images: &[&Image],
    blobs: &Arc<dyn Blobs>,
) -> Result<BTreeSet<Digest>> {
    let listed = engine.list_images().await?;
    match store {
        ImageStore::Classic => {
            let inspected: Vec<_> = stream::iter(listed)
                .map(|image| async move { engine.inspect_image(&image.id).await })
                .buffer_unordered(INSPECTIONS)
                .collect()
                .await;
            // An image that vanished between list and inspection is one that helps nothing.
            let chains: Vec<Vec<String>> =
                inspected.into_iter().flatten().map(|image| image.diff_ids).collect();
            Ok(below_known_chains(images, &chains))
        }
        ImageStore::Containerd => {
            let (blobs, ids) = (blobs.clone(), listed.into_iter().map(|image| image.id).collect::<Vec<_>>());
            let read = tokio::task::spawn_blocking(move || {
                ids.iter().flat_map(|id| of_manifest(id, blobs.as_ref())).collect()
            });
            Ok(read.await.unwrap_or_default())
        }
    }
}

/// The classic store finds a layer by its whole chain, so a layer is known where the engine has an image that begins alike.
/// A blob that any image needs in an unknown place is sent.
fn below_known_chains(images: &[&Image], chains: &[Vec<String>]) -> BTreeSet<Digest> {
    let mut known = BTreeSet::new();
    let mut needed = BTreeSet::new();
    for image in images {
        let own: Vec<String> = image.layers.iter().map(|layer| layer.diff_id.to_string()).collect();
        let common =
            |chain: &Vec<String>| own.iter().zip(chain).take_while(|(own, theirs)| own == theirs).count();
        let depth = chains.iter().map(common).max().unwrap_or_default();
        let (below, above) = image.layers.split_at(depth);
        known.extend(below.iter().map(|layer| layer.digest));
        needed.extend(above.iter().map(|layer| layer.digest));
    }
    known.difference(&needed).copied().collect()
}

/// Layers of an image of the containerd store that we loaded ourselves: its ID is its manifest's digest, and we keep manifests.
fn of_manifest(id: &str, blobs: &dyn Blobs) -> Vec<Digest> {
    let read = || -> Option<Vec<Digest>> {
        let digest: Digest = id.parse().ok()?;
        let mut bytes = Vec::new();
        blobs.open(&digest).ok()?.take(limits::METADATA).read_to_end(&mut bytes).ok()?;
        let manifest: Manifest = kedge_bundle::json::strict(&bytes).ok()?;
        Some(manifest.layers.iter().map(|layer| layer.digest).collect())
    };
    read().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use kedge_bundle::layout::{Compression, Layer, Platform};

    use super::*;

    fn image(layers: &[&str]) -> Image {
        let layer = |name: &&str| Layer {
            digest: Digest::of(name.as_bytes()),
            size: 1,
            diff_id: Digest::of(format!("plain {name}").as_bytes()),
            compression: Compression::Gzip,
        };
        Image {
            reference: "a".into(),
            platform: Platform::default(),
            manifest: Digest::of(b"m"),
            manifest_size: 1,
            manifest_type: String::new(),
            config: Digest::of(b"c"),
            config_size: 1,
            layers: layers.iter().map(layer).collect(),
        }
    }

    fn chain(layers: &[&str]) -> Vec<String> {
        image(layers).layers.iter().map(|layer| layer.diff_id.to_string()).collect()
    }

    #[test]
    fn a_layer_is_known_only_where_all_below_it_are() {
        let known = |image: &Image, chains: &[Vec<String>]| below_known_chains(&[image], chains).len();
        assert_eq!(known(&image(&["a", "b", "c"]), &[chain(&["a", "b", "x"])]), 2);
        assert_eq!(known(&image(&["a", "b"]), &[chain(&["x", "b"])]), 0, "b lies on something else there");
        assert_eq!(known(&image(&["a"]), &[]), 0);
    }

    #[test]
    fn a_blob_that_one_image_needs_is_sent_though_another_does_not() {
        let (one, two) = (image(&["a", "b"]), image(&["c", "a"]));
        let known = below_known_chains(&[&one, &two], &[chain(&["a", "b"])]);
        assert_eq!(known.into_iter().collect::<Vec<_>>(), [Digest::of(b"b")]);
    }
}
