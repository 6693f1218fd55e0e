//! The phases before this host looks at itself: the release is brought here, or, where it is here already, asked once more
//! whether it may be installed.
//!
//! What is here is not believed to be whole: layers are let go once the engine has them, and disks fail. What is missing, or
//! was damaged, is fetched again where there is a line to a hub.

use kedge_bundle::codes::Coded as _;
use kedge_bundle::digest::Digest;
use kedge_bundle::layout::Layer;
use kedge_bundle::verify::{self, Context, Trust};

use super::acceptance::{audit_refusal, bases, room, take_in};
use super::phases::{Failed, Job};
use super::status::sentence;
use crate::codes;
use crate::images::{intake, release};
use crate::problem::Problem;
use crate::store::{Origin, ReleaseRef};

impl Job {
    /// Brings here what is not here of the target, verified.
    pub async fn fetch(&self) -> Result<(), Failed> {
        let target = &self.operation.target;
        let digest = release::parse_digest(&target.digest)?;
        let courier = self.world.courier.borrow().clone();
        if self.world.content.has_release(&digest) {
            // What runs already may go on with other parameters.
            if self.active()?.is_some_and(|active| active.release.digest == target.digest) {
                return Ok(());
            }
            self.still_allowed(&digest).await?;
            // Without a line nothing can be fetched; the engine will say what it lacks.
            if courier.is_none() || !self.is_lacking(&digest).await? {
                return Ok(());
            }
            tracing::warn!(deployment = self.record.name, "not all of {} is here any more", sentence(target));
        }
        let Some(courier) = courier else {
            let enrolled = self.world.store.get::<crate::host::Enrolment>("")?.is_some();
            let (code, why) = if enrolled {
                (&codes::HUB_UNREACHABLE, "there is no line to the hub now")
            } else {
                (&codes::NOT_ENROLLED, "the rest of it can only come from a hub or from the file again")
            };
            return Err(Problem::new(code, format!("{} is not here: {why}", sentence(target))).into());
        };
        let _one_at_a_time = self.world.intake.lock().await;
        let trust = self.trust().await?;
        let site = self.world.site()?;
        let fresh = self.world.fresh.borrow().clone();
        let context = Context {
            site: site.as_deref(),
            product: Some(&target.product),
            stream: Some(&target.stream),
            fresh: fresh.as_ref(),
            ..Context::at(self.world.time.now())
        };
        let on_bytes = self.on_bytes(format!("fetching {}", sentence(target)));
        let room = room(&self.world);
        let taken =
            intake::from_courier(&*courier, &digest, &bases(&self.world), &trust, &context, &room, &on_bytes)
                .await;
        match taken {
            Ok(taken) => Ok(take_in(&self.world, &trust, taken, "tether").await?),
            Err(problem) => {
                // What a damaged disk holds was refused, too, though the release was not.
                if !problem.code.retry || problem.code == codes::LEFTOVER {
                    audit_refusal(&self.world, "tether", Some(sentence(target)), &problem).await?;
                }
                Err(problem.into())
            }
        }
    }

    /// Whether the engine has to be given a layer that is not here any more.
    async fn is_lacking(&self, digest: &Digest) -> Result<bool, Failed> {
        let (content, loaded) = (&self.world.content, self.loaded(&digest.to_string())?);
        if !self.lacks_images(&loaded).await? {
            return Ok(false);
        }
        let holdings = bases(&self.world).holdings().await?;
        let is_here = |layer: &Layer| content.holds(&layer.digest, layer.size) || content.has(&layer.diff_id);
        Ok(!holdings.lacking_layers(&loaded.listing.images).into_iter().all(is_here))
    }

    /// Asks again of a release that is here whether it may be installed. It was verified when it came, perhaps long ago: a
    /// courier that names it now must not thereby take this host back, or to another stream. Its dates are not asked
    /// about again.
    async fn still_allowed(&self, digest: &Digest) -> Result<(), Failed> {
        let target = &self.operation.target;
        let trust = self.trust().await?;
        let site = self.world.site()?;
        let fresh = self.world.fresh.borrow().clone().filter(|_| self.operation.origin == Origin::Tether);
        let context = Context {
            site: site.as_deref(),
            product: Some(&target.product),
            stream: Some(&target.stream),
            fresh: fresh.as_ref(),
            begun: Some(*digest),
            ..Context::at(self.world.time.now())
        };
        let documents = self.world.content.documents(digest)?;
        let roots = verify::roots(&trust, &documents.roots);
        match roots.and_then(|roots| verify::release(&trust, &context, &roots, &documents)) {
            Ok(_) => Ok(()),
            Err(refusal) => {
                let problem = Problem::from_error(&refusal.code(), &refusal);
                let from = if self.operation.origin == Origin::Tether { "tether" } else { "file" };
                audit_refusal(&self.world, from, Some(sentence(target)), &problem).await?;
                Err(problem.into())
            }
        }
    }

    async fn trust(&self) -> Result<Trust, Problem> {
        let trust = self.world.trust.lock().await.clone();
        trust.ok_or_else(|| Problem::new(&codes::NO_ROOT, "no root is pinned on this host"))
    }

    /// The target in the words of whoever signed it: a courier's are only a hint.
    ///
    /// # Errors
    /// When the release is not here, or damaged.
    pub fn target_as_signed(&self) -> Result<ReleaseRef, Problem> {
        Ok(self.loaded(&self.operation.target.digest)?.reference())
    }

    /// Reads the release back and checks its chain of digests.
    pub fn verify(&self) -> Result<(), Failed> {
        let loaded = self.loaded(&self.operation.target.digest)?;
        if loaded.release.product != self.record.product {
            return Err(Problem::new(
                &codes::OTHER_PRODUCT,
                format!(
                    "deployment {} runs {}, the release is of {}",
                    self.record.name, self.record.product, loaded.release.product
                ),
            )
            .into());
        }
        Ok(())
    }
}
