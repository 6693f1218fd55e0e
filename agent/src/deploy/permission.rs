//! What the product's licence has to say about a change of a deployment.

use std::collections::BTreeSet;
use std::sync::Arc;

use kedge_bundle::licence::standing::Change;
use kedge_bundle::product::Product;

use super::compile::{Compiled, Order, compile_aside, lasting};
use crate::images::release;
use crate::licence;
use crate::problem::Problem;
use crate::store::{DeploymentRecord, GenerationRecord, ReleaseRef, generation_key};
use crate::world::World;

/// Whether the licence permits what has been compiled.
///
/// # Errors
/// [`crate::codes::LICENCE`] with what it does not permit.
pub async fn permitted(
    world: &Arc<World>,
    record: &DeploymentRecord,
    product: &Product,
    target: &str,
    compiled: &Compiled,
) -> Result<(), Problem> {
    if product.licence.is_none() {
        return Ok(());
    }
    let key = record.active.map(|number| generation_key(&record.name, number));
    let active = key.map(|key| world.store.get::<GenerationRecord>(&key)).transpose()?.flatten();
    let change = match &active {
        Some(active) if active.release.digest == target => Change::Reconfigure,
        _ => Change::Install,
    };
    let now = match active {
        Some(active) => lasting(&compiled_again(world, active).await?.desired),
        None => 0,
    };
    licence::check(world, product, change, now, lasting(&compiled.desired)).await
}

/// A generation as it was made, without writing anything.
async fn compiled_again(world: &Arc<World>, generation: GenerationRecord) -> Result<Compiled, Problem> {
    let digest = release::parse_digest(&generation.release.digest)?;
    let order = Order {
        deployment: generation.deployment,
        generation: generation.number,
        parameters: generation.parameters,
        loaded: release::load(&world.content, &digest)?,
        engine: world.engine_info()?,
        features: generation.features,
        dry_run: true,
        adoption: None,
    };
    compile_aside(world, order).await
}

/// The features with which a generation of this release is made.
///
/// # Errors
/// When the release or the licence cannot be read.
pub async fn features_of(world: &World, target: &ReleaseRef) -> Result<BTreeSet<String>, Problem> {
    let loaded = release::load(&world.content, &release::parse_digest(&target.digest)?)?;
    licence::features(world, &loaded.listing.product).await
}
