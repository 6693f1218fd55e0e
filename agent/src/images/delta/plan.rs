//! For each layer of a release: does it have to travel, and as what? Pure.

use std::collections::{BTreeMap, BTreeSet};

use kedge_bundle::delta::{Delta, Patch};
use kedge_bundle::digest::Digest;
use kedge_bundle::layout::{Compression, Image, Layer};

use super::Holdings;

/// Where the layers come from that do not come themselves.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// Layers, by the digest of their blob, that the engine has where it needs them.
    pub omit: BTreeSet<Digest>,
    /// Layers, by the digest of their blob, that the engine has somewhere else: their plain tar is brought back to it.
    pub bring: BTreeMap<Digest, Digest>,
    /// Layers that are made of patches.
    pub patches: Vec<Patch>,
    /// Plain tars that have to come out of the engine, with their sizes: bases, and layers to bring back.
    pub extract: BTreeMap<Digest, u64>,
}

impl Plan {
    /// Plain tars that are layers of the release, and not only bases.
    #[must_use]
    pub fn extracted_layers(&self) -> BTreeSet<Digest> {
        self.bring.values().copied().collect()
    }

    /// Whether a layer has to come as it is.
    #[must_use]
    pub fn is_whole(&self, digest: &Digest) -> bool {
        !self.omit.contains(digest)
            && !self.bring.contains_key(digest)
            && !self.patches.iter().any(|patch| patch.digest == *digest)
    }

    /// Bytes that carrying it out writes to the content store: plain tars out of the engine but for those that are there,
    /// patches, and the layers made of them.
    #[must_use]
    pub fn bytes(&self, held: &dyn Fn(&Digest, u64) -> bool) -> u64 {
        let extracted =
            self.extract.iter().filter(|(digest, size)| !held(digest, **size)).map(|(_, size)| *size);
        let patched = self.patches.iter().map(|patch| patch.patch_size.saturating_add(patch.unpacked));
        extracted.chain(patched).fold(0, u64::saturating_add)
    }

    fn bring(&mut self, layer: &Layer, size: u64) {
        self.bring.insert(layer.digest, layer.diff_id);
        self.extract.insert(layer.diff_id, size);
    }

    fn patch(&mut self, patch: &Patch) {
        self.extract.extend(patch.base.map(|base| (base.diff_id, base.size)));
        self.patches.push(patch.clone());
    }
}

/// Layers of these images, each once, and those of them that the engine has wherever they are needed.
fn layers<'i>(images: &[&'i Image], holdings: &Holdings) -> (BTreeMap<Digest, &'i Layer>, BTreeSet<Digest>) {
    let (mut all, mut known, mut needed) = (BTreeMap::new(), BTreeSet::new(), BTreeSet::new());
    for image in images {
        let omitted: BTreeSet<Digest> = holdings.omitted(image).iter().map(|layer| layer.digest).collect();
        for layer in &image.layers {
            all.insert(layer.digest, layer);
            if !omitted.contains(&layer.digest) {
                needed.insert(layer.digest);
            }
        }
        known.extend(omitted);
    }
    // A blob that any image needs in an unknown place is sent.
    (all, known.difference(&needed).copied().collect())
}

/// What a thin bundle from a file asks for: it has no other way.
#[must_use]
pub fn of_file(delta: &Delta, images: &[&Image], holdings: &Holdings) -> Plan {
    let (all, omit) = layers(images, holdings);
    let mut plan = Plan { omit, ..Plan::default() };
    for one in &delta.left_out {
        if let Some(layer) = all.get(&one.digest).filter(|layer| !plan.omit.contains(&layer.digest)) {
            plan.bring(layer, one.unpacked);
        }
    }
    for patch in &delta.patches {
        if all.contains_key(&patch.digest) && !plan.omit.contains(&patch.digest) {
            plan.patch(patch);
        }
    }
    plan
}

/// What takes the fewest bytes over the tether; every layer that is not in the plan is fetched whole. `held` says whether the
/// content store has a blob.
#[must_use]
pub fn of_tether(
    deltas: &[Delta],
    images: &[&Image],
    holdings: &Holdings,
    held: &dyn Fn(&Layer) -> bool,
) -> Plan {
    let (all, omit) = layers(images, holdings);
    let mut plan = Plan { omit, ..Plan::default() };
    for layer in all.values().filter(|layer| !held(layer)) {
        if plan.omit.contains(&layer.digest) || !holdings.takes_plain(&layer.digest, &layer.diff_id) {
            continue;
        }
        let said = deltas.iter().flat_map(|delta| &delta.left_out).find(|one| one.digest == layer.digest);
        let size = match layer.compression {
            Compression::None => Some(layer.size),
            // Only a delta document says how large a compressed layer is once unpacked.
            _ => said.filter(|one| one.diff_id == layer.diff_id).map(|one| one.unpacked),
        };
        if let Some(size) = size.filter(|_| holdings.image_with(&layer.diff_id).is_some()) {
            plan.bring(layer, size);
            continue;
        }
        let fits = |patch: &&Patch| {
            let has_base = patch.base.is_none_or(|base| holdings.image_with(&base.diff_id).is_some());
            (patch.digest, patch.diff_id) == (layer.digest, layer.diff_id)
                && has_base
                && patch.patch_size < layer.size
        };
        let patches = deltas.iter().flat_map(|delta| &delta.patches).filter(fits);
        if let Some(patch) = patches.min_by_key(|patch| patch.patch_size) {
            plan.patch(patch);
        }
    }
    plan
}
