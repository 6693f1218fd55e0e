//! Layers that need not come over the tether.
//!
//! The hub lists the deltas that it holds and the host chooses: the same bytes as if the host said what it has, and the hub
//! learns nothing of that.

use futures_util::StreamExt;
use kedge_bundle::delta::{Delta, Patch};
use kedge_bundle::digest::Digest;
use kedge_bundle::layout::{Blob, Image, Layer};
use kedge_bundle::verify::{self, Verified};

use super::{Bases, Holdings, Needs, plan};
use crate::codes;
use crate::host::Courier;
use crate::images::Content;
use crate::images::intake::leftover;
use crate::problem::Problem;

/// The deltas that the hub holds, as far as the vendor signed them for this release. One that is not right is no reason to
/// refuse the release: whoever carries it could as well have left it out.
pub fn deltas(verified: &Verified, documents: &[Vec<u8>]) -> Vec<Delta> {
    let verify = |document: &Vec<u8>| match verify::delta(&verified.root, verified.digest, document) {
        Ok(delta) => Some(delta),
        Err(refusal) => {
            tracing::warn!(%refusal, "the hub offers a delta that is not taken");
            None
        }
    };
    documents.iter().take(MAX_DELTAS).filter_map(verify).collect()
}

/// Layers that are not fetched whole.
pub struct FromBases {
    plan: plan::Plan,
    holdings: Holdings,
    /// What all of it takes here, those fetched whole included.
    pub needs: Needs,
    /// Plain tars that came out of the engine and are only bases.
    bases: Vec<Digest>,
}

impl FromBases {
    /// Finds out what need not travel. Changes nothing.
    pub async fn plan(bases: &Bases, deltas: &[Delta], images: &[Image]) -> Self {
        let content = &bases.content;
        let holdings = bases.holdings().await.unwrap_or_else(|problem| {
            tracing::warn!(%problem, "what the engine has cannot be told; everything is fetched");
            Holdings::default()
        });
        let lacking: Vec<&Image> = images.iter().collect();
        let held = |layer: &Layer| content.holds(&layer.digest, layer.size);
        let plan = plan::of_tether(deltas, &lacking, &holdings, &held);
        let comes = |layer: &Layer| if plan.is_whole(&layer.digest) { bases.missing(layer) } else { 0 };
        let needs = bases.needs_of(&plan, images, &holdings, &comes);
        Self { plan, holdings, needs, bases: Vec::new() }
    }

    /// Brings out of the engine what the layers are, or are made of. Gives the layers of the release among that.
    ///
    /// # Errors
    /// When the disk or the engine fails.
    pub async fn bring(&mut self, bases: &Bases) -> Result<Vec<Digest>, Problem> {
        let extracted = match bases.extract(&self.holdings, &self.plan.extract).await {
            Ok(extracted) => extracted,
            Err(problem) if problem.code == kedge_bundle::codes::DELTA_BASE => {
                tracing::warn!(%problem, "layers cannot be made of what is here; they are fetched");
                self.plan = plan::Plan { omit: std::mem::take(&mut self.plan.omit), ..plan::Plan::default() };
                Default::default()
            }
            Err(problem) => return Err(problem),
        };
        let layers = self.plan.extracted_layers();
        let (brought, only_bases) = extracted.into_iter().partition(|digest| layers.contains(digest));
        self.bases = only_bases;
        Ok(brought)
    }

    /// Whether a layer is here, or can be made here; gives what was written for it.
    ///
    /// # Errors
    /// When the line is lost, or the disk fails.
    pub async fn have(
        &self,
        courier: &dyn Courier,
        release: &Digest,
        bases: &Bases,
        layer: &Blob,
    ) -> Result<Option<Option<Digest>>, Problem> {
        if self.plan.is_whole(&layer.digest) {
            return Ok(None);
        }
        let Some(patch) = self.plan.patches.iter().find(|patch| patch.digest == layer.digest) else {
            return Ok(Some(None));
        };
        match fetch_patch(courier, release, &bases.content, patch).await {
            Ok(()) => {}
            Err(problem) if problem.code == kedge_bundle::codes::CONTENT => {
                tracing::warn!(%problem, "a layer is fetched whole");
                return Ok(None);
            }
            Err(problem) => return Err(problem),
        }
        let (making, patch_made) = (bases.clone(), patch.clone());
        let made = tokio::task::spawn_blocking(move || making.patch(&patch_made)).await;
        let made = made.map_err(|e| Problem::from_error(&codes::INTERNAL, &e).at("applying a patch"))?;
        bases.content.remove_blob(&patch.patch);
        match made {
            Ok(()) => Ok(Some(Some(patch.diff_id))),
            Err(problem) if problem.code.retry => Err(problem),
            Err(problem) => {
                tracing::warn!(%problem, "a patch does not give its layer; it is fetched whole");
                Ok(None)
            }
        }
    }

    /// Removes what was only built upon.
    pub fn tidy(&self, content: &Content) {
        for digest in &self.bases {
            content.remove_blob(digest);
        }
    }
}

/// Deltas of one release that are looked at: verifying each costs a signature check.
const MAX_DELTAS: usize = 32;

/// Fetches a patch into the content store, going on where an earlier try ended.
async fn fetch_patch(
    courier: &dyn Courier,
    release: &Digest,
    content: &Content,
    patch: &Patch,
) -> Result<(), Problem> {
    if content.holds_whole(&patch.patch, patch.patch_size) {
        return Ok(());
    }
    let mut have = content.partial(&patch.patch).map_or(0, |(_, size)| size);
    if have >= patch.patch_size {
        content.remove_partial(&patch.patch);
        have = 0;
    }
    let is_resumed = have > 0;
    let mut writer = content.writer(&patch.patch, is_resumed)?;
    let mut stream = courier.blob(&release.to_string(), &patch.patch.to_string(), have).await?;
    while let Some(bytes) = stream.next().await {
        let bytes = bytes?;
        have += bytes.len() as u64;
        if have > patch.patch_size {
            break;
        }
        writer.write(&bytes)?;
    }
    if have < patch.patch_size {
        let missing = patch.patch_size - have;
        let message = format!("{}: {missing} bytes did not come", patch.patch);
        return Err(Problem::new(&codes::TETHER_LOST, message));
    }
    writer.finish()?;
    if have > patch.patch_size || !content.holds_whole(&patch.patch, patch.patch_size) {
        content.remove_blob(&patch.patch);
        if is_resumed {
            return Err(leftover(&patch.patch));
        }
        let message = format!("patch {} is not what was signed", patch.patch);
        return Err(Problem::new(&kedge_bundle::codes::CONTENT, message));
    }
    Ok(())
}
