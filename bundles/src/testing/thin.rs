//! Thin bundles for tests, which can be made wrong in every way.

use std::collections::BTreeMap;
use std::io::Read as _;

use crate::assemble::{Source, write_blobs, write_documents};
use crate::delta::{BaseRelease, Delta, LeftOut, METHOD, PAYLOAD_TYPE, Patch, Prefix, make};
use crate::digest::Digest;
use crate::layout::{Blob, Kind, Layer};
use crate::sign::{self, Signer};
use crate::verify::Documents;

use super::{TestBundle, Vendor};

/// A thin bundle of a full one.
#[derive(Debug)]
pub struct ThinBundle {
    /// The full one.
    pub full: TestBundle,
    /// What is left out.
    pub delta: Delta,
    /// Blobs that come instead, by digest.
    pub patches: BTreeMap<Digest, Vec<u8>>,
}

impl ThinBundle {
    /// For hosts that have `base`: layers that both have are left out, others are patched on the layer in the same place.
    /// All layers must be plain.
    #[must_use]
    pub fn new(full: TestBundle, base: &TestBundle) -> Self {
        let have: Vec<&Layer> = base.draft.content.images.iter().flat_map(|image| &image.layers).collect();
        let of = BaseRelease {
            version: base.release.version.clone(),
            stream: base.release.stream.clone(),
            seq: base.release.seq,
            release: base.digest(),
        };
        let mut this = Self { delta: Delta::new(full.digest(), vec![of]), full, patches: BTreeMap::new() };
        let layers: Vec<Layer> =
            this.full.draft.content.images.iter().flat_map(|image| image.layers.clone()).collect();
        for (position, layer) in layers.into_iter().enumerate() {
            let Layer { digest, diff_id, size, .. } = layer;
            if have.iter().any(|one| one.diff_id == diff_id) {
                this.delta.left_out.push(LeftOut { digest, diff_id, unpacked: size });
                continue;
            }
            let old = have.get(position).map(|one| one.digest);
            let old = old.and_then(|digest| base.blob(&digest)).unwrap_or_default();
            let plain = this.full.blob(&digest).unwrap_or_default();
            let bytes = make::patch(&old, &plain, 3, &mut |_| {}).expect("memory is enough");
            this.delta.patches.push(Patch {
                digest,
                diff_id,
                unpacked: size,
                base: (!old.is_empty()).then(|| Prefix { diff_id: Digest::of(&old), size: old.len() as u64 }),
                patch: Digest::of(&bytes),
                patch_size: bytes.len() as u64,
                method: METHOD.into(),
            });
            this.patches.insert(Digest::of(&bytes), bytes);
        }
        this.delta.left_out.sort_by_key(|one| one.digest);
        this.delta.patches.sort_by_key(|one| one.digest);
        this
    }

    /// Puts other bytes in the place of a patch, and says so.
    pub fn replace_patch(&mut self, index: usize, bytes: Vec<u8>) {
        let patch = &mut self.delta.patches[index];
        (patch.patch, patch.patch_size) = (Digest::of(&bytes), bytes.len() as u64);
        self.patches.insert(patch.patch, bytes);
    }

    /// The delta document, signed as it is, by these.
    #[must_use]
    pub fn envelope(&self, signers: &[&dyn Signer]) -> Vec<u8> {
        let payload = serde_json::to_vec(&self.delta).expect("JSON");
        sign::envelope_of(PAYLOAD_TYPE, payload, signers).expect("signed").encode()
    }

    /// The archive with this delta document.
    #[must_use]
    pub fn bytes_with(&self, envelope: Vec<u8>) -> Vec<u8> {
        let documents = Documents { delta: Some(envelope), ..self.full.documents() };
        let mut blobs = Vec::new();
        for (blob, source) in &self.full.draft.blobs {
            if blob.kind == Kind::Layer && self.delta.left_out.iter().any(|one| one.digest == blob.digest) {
                continue;
            }
            let Some(patch) = self.delta.patches.iter().find(|one| one.digest == blob.digest) else {
                blobs.push((blob.clone(), source.clone()));
                continue;
            };
            let bytes = self.patches.get(&patch.patch).cloned().unwrap_or_default();
            let (digest, size) = (Digest::of(&bytes), bytes.len() as u64);
            blobs.push((Blob { digest, size, kind: Kind::Patch, layer: None }, Source::Bytes(bytes)));
        }
        let mut out = Vec::new();
        write_documents(&mut out, &documents).expect("memory is enough");
        write_blobs(&mut out, &blobs, &mut |_| {}).expect("memory is enough");
        out
    }

    /// The archive, signed by the vendor's release key.
    #[must_use]
    pub fn bytes(&self, vendor: &Vendor) -> Vec<u8> {
        self.bytes_with(self.envelope(&[&vendor.release_key]))
    }

    /// What the layers of the full bundle are, plain, by DiffID.
    #[must_use]
    pub fn plain(&self, diff_id: &Digest) -> Option<Vec<u8>> {
        let (_, source) = self
            .full
            .draft
            .blobs
            .iter()
            .find(|(blob, _)| blob.layer.is_some_and(|(_, id)| id == *diff_id))?;
        let mut bytes = Vec::new();
        source.open().ok()?.read_to_end(&mut bytes).ok()?;
        Some(bytes)
    }
}
