//! What would be done to a deployment, without doing it: `kedge diff`, every dry run, and what is shown before adopting.

use std::collections::BTreeMap;
use std::sync::Arc;

use kedge_proto::local::v1::Diff;

use super::adoption::{AdoptionRecord, left_behind};
use super::compile::{Order, compile_aside, split_secrets};
use super::permission::permitted;
use super::secrets::Secrets;
use super::{memory, status};
use crate::engine::observe::observe;
use crate::images::{Loaded, release};
use crate::licence;
use crate::plan::impact::{digest, impact};
use crate::plan::{self, Policy};
use crate::problem::Problem;
use crate::redact::Redactor;
use crate::store::{DeploymentRecord, GenerationRecord, ReleaseRef, generation_key};
use crate::world::World;

/// What is to be looked at.
pub struct Request {
    /// Deployment; it need not exist.
    pub deployment: String,
    /// The release that it would be brought to.
    pub loaded: Loaded,
    /// Parameters given now, over those it has.
    pub given: BTreeMap<String, String>,
    /// What would be adopted; `None`: what the store says.
    pub adoption: Option<AdoptionRecord>,
}

/// What bringing the deployment to its active release would do.
///
/// # Errors
/// What would be in the way.
pub async fn of_active(world: &Arc<World>, deployment: &str) -> Result<Diff, Problem> {
    let (order, release) = order_of_active(world, deployment)?;
    let redactor = redactor(world, deployment)?;
    of_order(world, order, redactor, (Some(release.clone()), release), None).await
}

/// The active release of a deployment and how to compile it, writing nothing.
///
/// # Errors
/// [`crate::codes::NO_DEPLOYMENT`] where none is active.
pub(super) fn order_of_active(world: &World, deployment: &str) -> Result<(Order, ReleaseRef), Problem> {
    let record = world.store.get::<DeploymentRecord>(deployment)?.unwrap_or_default();
    let Some(active) = generation(world, &record, record.active)? else {
        return Err(Problem::new(
            &crate::codes::NO_DEPLOYMENT,
            format!("{deployment} has no active release to compare with; give one with --bundle"),
        ));
    };
    let order = Order {
        deployment: deployment.to_owned(),
        generation: active.number,
        parameters: active.parameters,
        loaded: release::load(&world.content, &release::parse_digest(&active.release.digest)?)?,
        engine: world.engine_info()?,
        features: active.features,
        dry_run: true,
        adoption: None,
    };
    Ok((order, active.release))
}

/// What installing a release would do. Writes nothing.
///
/// # Errors
/// What would be in the way.
pub async fn of_release(world: &Arc<World>, request: Request) -> Result<Diff, Problem> {
    let name = request.deployment;
    let record = world.store.get::<DeploymentRecord>(&name)?.unwrap_or_default();
    let mut parameters = record.parameters.clone();
    let (_, secrets) = split_secrets(&request.loaded.listing.product, request.given.clone());
    parameters.extend(request.given);
    let redactor = redactor(world, &name)?.and(secrets.into_values());
    let active = generation(world, &record, record.active)?.map(|active| active.release);
    let features = licence::features(world, &request.loaded.listing.product).await?;
    let to = release::reference(&request.loaded.release, &request.loaded.digest);
    let order = Order {
        deployment: name,
        generation: record.newest + 1,
        parameters,
        loaded: request.loaded,
        engine: world.engine_info()?,
        features,
        dry_run: true,
        adoption: request.adoption,
    };
    of_order(world, order, redactor, (active, to), Some(&record)).await
}

async fn of_order(
    world: &Arc<World>,
    order: Order,
    redactor: Redactor,
    (from, to): (Option<ReleaseRef>, ReleaseRef),
    change_of: Option<&DeploymentRecord>,
) -> Result<Diff, Problem> {
    let name = order.deployment.clone();
    let product = order.loaded.listing.product.clone();
    let compiled = compile_aside(world, order).await?;
    if let Some(record) = change_of {
        permitted(world, record, &product, &to.digest, &compiled).await?;
    }
    let failed = |e: crate::engine::Error| Problem::from_error(e.code(), &e);
    let observed = observe(&*world.engine, &compiled.desired.scope()).await.map_err(failed)?;
    let mut memory = memory::load(&world.store, &name)?;
    memory::learn(&mut memory, &compiled.desired, &observed);
    let plan = plan::plan(&compiled.desired, &observed, &memory, Policy::default());
    let mut diff = impact(&compiled.desired, &observed, &plan, &redactor);
    diff.left_behind = left_behind(&compiled.desired, &observed);
    diff.notes.splice(0..0, compiled.warnings.iter().map(|warning| redactor.text(warning)));
    diff.changes |= from.as_ref().is_none_or(|from| from.digest != to.digest);
    diff.from = from.as_ref().map(status::release);
    diff.to = Some(status::release(&to));
    diff.digest = digest(&diff);
    Ok(diff)
}

/// One that knows the deployment's secrets. Reads them where there are any; makes no folder.
///
/// # Errors
/// When they cannot be read: then nothing may be shown either.
pub fn redactor(world: &World, deployment: &str) -> Result<Redactor, Problem> {
    let mut known = Vec::new();
    for below in ["secrets", "given"] {
        let folder = world.deployment_folder(deployment).join(below);
        if folder.is_dir() {
            known.extend(Secrets::open(folder)?.all()?.into_values());
        }
    }
    Ok(Redactor::knowing(known))
}

fn generation(
    world: &World,
    record: &DeploymentRecord,
    number: Option<u64>,
) -> Result<Option<GenerationRecord>, Problem> {
    let Some(number) = number else { return Ok(None) };
    world.store.get(&generation_key(&record.name, number))
}
