//! Layers that need not travel: what this host has of a release already, and layers made of that.
//!
//! ```text
//!  engine's images ──▶ holdings ──▶ plan: for each layer, where from? ──▶ extract: plain tars out of `docker save`
//!  delta documents ─────────────────▲  (pure)                          └▶ patch: base and patch to a plain tar
//! ```
//!
//! Whatever is made here is written to the content store under the digest of its plain tar, after that digest was
//! compared: the same rule as for every blob. From a file the plan is a demand (what a thin bundle leaves out must be
//! here, or it is refused before anything is written); over the tether it is a choice, and what fails is fetched whole.

mod extract;
mod holdings;
pub mod plan;
pub mod tether;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::TryStreamExt;
use kedge_bundle::codes::{self, Coded};
use kedge_bundle::delta::{self, Base, Delta, Patch};
use kedge_bundle::digest::Digest;
use kedge_bundle::layout::{Image, Layer};

use super::Content;
use crate::engine::{Engine, EngineInfo};
use crate::problem::Problem;
use extract::Extractor;
pub use holdings::Holdings;

/// What layers can be made of, on this host.
#[derive(Clone)]
pub struct Bases {
    /// The engine, and what it is; `None` while it does not answer.
    pub engine: Option<(Arc<dyn Engine>, EngineInfo)>,
    /// Where plain tars go.
    pub content: Content,
}

/// What a release asks of the disks here, bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Needs {
    /// More in the content store while it is taken in: what comes, what it builds on, and what is made of both.
    pub stored: u64,
    /// Layers, packed, that the engine has to be given.
    pub loaded: u64,
    /// Layers, packed, that the release has.
    pub all: u64,
}

impl Bases {
    /// What the engine has; nothing while it does not answer.
    ///
    /// # Errors
    /// When it answers with an error.
    pub async fn holdings(&self) -> Result<Holdings, Problem> {
        match &self.engine {
            Some((engine, info)) => Holdings::of(&**engine, info.store, &self.content)
                .await
                .map_err(|error| Problem::from_error(error.code(), &error)),
            None => Ok(Holdings::default()),
        }
    }

    /// What a thin bundle with these images takes here.
    ///
    /// # Errors
    /// When the engine answers with an error.
    pub async fn needs(&self, delta: &Delta, images: &[Image]) -> Result<Needs, Problem> {
        let holdings = self.holdings().await?;
        let plan = plan::of_file(delta, &holdings.lacking_images(images), &holdings);
        let left_out = delta.left_out.iter().map(|one| one.digest);
        let absent: BTreeSet<Digest> = left_out.chain(delta.patches.iter().map(|one| one.digest)).collect();
        let comes = |layer: &Layer| if absent.contains(&layer.digest) { 0 } else { self.missing(layer) };
        Ok(self.needs_of(&plan, images, &holdings, &comes))
    }

    /// What images whose layers are stored take when they are given to the engine.
    ///
    /// # Errors
    /// When the engine answers with an error.
    pub async fn needs_in_engine(&self, images: &[Image]) -> Result<Needs, Problem> {
        Ok(self.needs_of(&plan::Plan::default(), images, &self.holdings().await?, &|_| 0))
    }

    /// What a plan takes, when so many bytes of each layer come.
    fn needs_of(
        &self,
        plan: &plan::Plan,
        images: &[Image],
        holdings: &Holdings,
        comes: &dyn Fn(&Layer) -> u64,
    ) -> Needs {
        let by_digest = |layers: Vec<&Layer>| layers.into_iter().map(|l| (l.digest, l.clone())).collect();
        let all: BTreeMap<Digest, Layer> = by_digest(images.iter().flat_map(|image| &image.layers).collect());
        let loaded: BTreeMap<Digest, Layer> = by_digest(holdings.lacking_layers(images));
        let made = plan.bytes(&|digest, size| self.content.holds_size(digest, size));
        Needs {
            stored: all.values().map(comes).fold(made, u64::saturating_add),
            loaded: loaded.values().map(|layer| layer.size).fold(0, u64::saturating_add),
            all: all.values().map(|layer| layer.size).fold(0, u64::saturating_add),
        }
    }

    /// Bytes of a layer that are not here: some may be, of a fetch that was interrupted.
    fn missing(&self, layer: &Layer) -> u64 {
        if self.content.holds(&layer.digest, layer.size) {
            return 0;
        }
        layer.size.saturating_sub(self.content.partial(&layer.digest).map_or(0, |(_, size)| size))
    }

    /// Refuses a thin bundle on a host that lacks what it builds on. Changes nothing.
    ///
    /// # Errors
    /// [`codes::DELTA_BASE`], naming the releases that would help.
    pub async fn preflight(&self, delta: &Delta) -> Result<(), Problem> {
        if self.engine.is_none() {
            let why = "the engine does not answer, and what this delta builds on is there: start it, or use the full bundle";
            return Err(Problem::new(&codes::DELTA_BASE, why));
        }
        let holdings = self.holdings().await?;
        let lacking = holdings.lacking(delta, &self.content);
        let Some(first) = lacking.first() else { return Ok(()) };
        let on = delta.built_on();
        Err(Problem::new(
            &codes::DELTA_BASE,
            format!(
                "{} layers that this delta builds on are not here, the first is {first}: install {on} first, or use the full bundle",
                lacking.len()
            ),
        ))
    }

    /// Makes the layers that a thin bundle left out or patched and that these images need here. Gives what was written.
    ///
    /// # Errors
    /// When a base has vanished, or a patch does not give its layer; what was written is removed then.
    pub async fn make(&self, delta: &Delta, images: &[Image]) -> Result<Vec<Digest>, Problem> {
        let holdings = self.holdings().await?;
        let plan = plan::of_file(delta, &holdings.lacking_images(images), &holdings);
        let mut added = Vec::new();
        let made = self.make_planned(&holdings, &plan, &mut added).await;
        if made.is_err() {
            for digest in added.drain(..) {
                self.content.remove_blob(&digest);
            }
        }
        made.map(|()| added)
    }

    async fn make_planned(
        &self,
        holdings: &Holdings,
        plan: &plan::Plan,
        added: &mut Vec<Digest>,
    ) -> Result<(), Problem> {
        let extracted = self.extract(holdings, &plan.extract).await?;
        let wanted: BTreeSet<Digest> = plan.extracted_layers();
        added.extend(extracted.iter().filter(|digest| wanted.contains(digest)));
        let done = plan.patches.iter().try_for_each(|patch| {
            self.patch(patch)?;
            added.push(patch.diff_id);
            Ok(())
        });
        for digest in extracted.difference(&wanted) {
            self.content.remove_blob(digest);
        }
        for patch in &plan.patches {
            self.content.remove_blob(&patch.patch);
        }
        done
    }

    /// Brings plain tars out of the engine into the content store, as far as they are not there. Gives those that it
    /// brought.
    ///
    /// # Errors
    /// [`codes::DELTA_BASE`] when one cannot be found.
    pub async fn extract(
        &self,
        holdings: &Holdings,
        wanted: &BTreeMap<Digest, u64>,
    ) -> Result<BTreeSet<Digest>, Problem> {
        let mut missing: BTreeMap<Digest, u64> = wanted.clone();
        missing.retain(|digest, size| !self.content.holds_size(digest, *size));
        let mut found = BTreeSet::new();
        while let Some(digest) = missing.keys().next().copied() {
            let absent =
                || Problem::new(&codes::DELTA_BASE, format!("layer {digest} is not in the engine any more"));
            let (Some((engine, _)), Some(image)) = (&self.engine, holdings.image_with(&digest)) else {
                return Err(absent());
            };
            let failed = |error: crate::engine::Error| Problem::from_error(error.code(), &error);
            let mut archive = engine.save(image).await.map_err(failed)?;
            let mut extractor = Extractor::new(&self.content, missing.clone());
            while !extractor.is_done() {
                // An engine that cannot give a layer out may say so for good: then it is no base.
                let piece = archive.try_next().await;
                let piece = piece.map_err(|error| Problem::new(&codes::DELTA_BASE, error.to_string()))?;
                let Some(piece) = piece else { break };
                extractor.push(&piece)?;
            }
            let here = extractor.finish();
            if !here.contains(&digest) {
                for digest in found.iter().chain(&here) {
                    self.content.remove_blob(digest);
                }
                return Err(absent());
            }
            missing.retain(|digest, _| !here.contains(digest));
            found.extend(here);
        }
        Ok(found)
    }

    /// Makes a layer of its base and its patch, both in the content store, and stores it there.
    ///
    /// # Errors
    /// [`codes::PATCH`] when it is another layer, [`codes::DELTA_BASE`] when the base is; nothing is stored then.
    pub fn patch(&self, patch: &Patch) -> Result<(), Problem> {
        let refused = |error: delta::ApplyError| Problem::from_error(&error.code(), &error);
        let base = match patch.base {
            None => Base::none(),
            Some(prefix) => Base::read(self.content.open_blob(&prefix.diff_id)?, prefix).map_err(refused)?,
        };
        let source = self.content.open_blob(&patch.patch)?;
        let mut writer = self.content.writer(&patch.diff_id, false)?;
        match delta::apply(&base, patch, source, &mut writer) {
            Ok(()) => writer.finish(),
            Err(error) => {
                drop(writer);
                self.content.remove_partial(&patch.diff_id);
                Err(refused(error))
            }
        }
    }
}
