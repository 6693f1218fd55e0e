//! Taking over a compose project: what stands in the way, and the record that makes it ours.

use std::collections::BTreeMap;

use kedge_bundle::layout::Content as Listing;
use kedge_bundle::parameters::ParameterKind;
use kedge_bundle::verify::Verified;
use kedge_proto::v1;

use super::{Adopt, Host};
use crate::audit;
use crate::codes;
use crate::deploy::adoption::{self, AdoptionRecord};
use crate::deploy::{self, secrets::Secrets};
use crate::problem::Problem;
use crate::store::{DeploymentRecord, ReleaseRef, Writes};

impl Host {
    /// What would be taken over, where nothing stands in the way of it. Writes nothing.
    pub(super) async fn adoptable(
        &self,
        name: &str,
        adopt: &Adopt,
        (verified, listing): (&Verified, &Listing),
        given: &BTreeMap<String, String>,
        dry_run: bool,
    ) -> Result<AdoptionRecord, Problem> {
        let world = &self.inner.world;
        let found = adoption::find(world, name, &adopt.project).await?;
        let record = AdoptionRecord { by: adopt.by.clone(), ..found };
        self.no_secret_is_made_anew(name, listing, given)?;
        if dry_run {
            return Ok(record);
        }
        let diff = self.plan_of(name, verified, listing, given.clone(), Some(record.clone())).await?;
        if !adopt.leave_binds && !diff.left_behind.is_empty() {
            return Err(Problem::new(&codes::LEFT_BEHIND, diff.left_behind.join("; ")));
        }
        if !adopt.agreed.is_empty() && adopt.agreed != diff.digest {
            let why = format!("the compose project {} or the host has changed meanwhile", adopt.project);
            return Err(Problem::new(&codes::NOT_AGREED, why));
        }
        Ok(record)
    }

    /// A secret that this host would make belongs to data that has another one already.
    fn no_secret_is_made_anew(
        &self,
        name: &str,
        listing: &Listing,
        given: &BTreeMap<String, String>,
    ) -> Result<(), Problem> {
        let folder = self.inner.world.deployment_folder(name).join("secrets");
        let kept = if folder.is_dir() { Some(Secrets::open(folder)?) } else { None };
        for (parameter, about) in &listing.product.parameters {
            if about.kind != ParameterKind::Secret
                || about.generate.is_none()
                || given.contains_key(parameter)
            {
                continue;
            }
            let made = kept.as_ref().map(|kept| kept.made(parameter)).transpose()?.flatten();
            if made.is_none() {
                let why = format!(
                    "{parameter} would be made anew, and what runs has another one: give that with --values FILE"
                );
                return Err(Problem::new(&codes::PARAMETERS, why));
            }
        }
        Ok(())
    }

    /// From here on it is ours: on disk before anything is done with it.
    pub(super) async fn write_adoption(
        &self,
        record: &AdoptionRecord,
        release: &ReleaseRef,
    ) -> Result<(), Problem> {
        let world = &self.inner.world;
        let adopted = &record.adopted;
        let objects = adopted.containers.iter().chain(&adopted.networks).chain(&adopted.volumes);
        world
            .audit(audit::Event::Adopted {
                deployment: record.deployment.clone(),
                project: record.project.clone(),
                by: record.by.clone(),
                objects: objects.cloned().collect(),
            })
            .await?;
        let mut writes = Writes::new().put(record)?;
        if world.store.get::<DeploymentRecord>(&record.deployment)?.is_none() {
            writes = writes.put(&DeploymentRecord {
                name: record.deployment.clone(),
                product: release.product.clone(),
                stream: release.stream.clone(),
                ..DeploymentRecord::default()
            })?;
        }
        let message = format!(
            "the compose project {} was taken over by {}: {} containers, {} networks, {} volumes; {} is next",
            record.project,
            record.by,
            adopted.containers.len(),
            adopted.networks.len(),
            adopted.volumes.len(),
            deploy::sentence(release)
        );
        tracing::info!(deployment = record.deployment, "{message}");
        let event = v1::Event {
            deployment: record.deployment.clone(),
            kind: "adopted".to_owned(),
            message,
            ..v1::Event::default()
        };
        world.commit_with_event(writes, event).await
    }
}
