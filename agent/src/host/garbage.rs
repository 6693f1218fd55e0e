//! Letting go of content that no deployment refers to.
//!
//! Kept are the releases of every generation that runs, that may be gone back to, or that is being installed. Images
//! in the engine are not touched here.

use std::collections::BTreeSet;

use crate::images::release;
use crate::problem::Problem;
use crate::store::{DeploymentRecord, GenerationRecord, generation_key};
use crate::world::World;

/// Removes releases and blobs that nothing needs. What goes wrong is logged and tried the next time.
pub async fn collect(world: &World) {
    // An intake under way holds blobs that no release refers to yet.
    let Ok(_no_intake) = world.intake.try_lock() else { return };
    match needed(world) {
        Ok((releases, blobs)) => {
            let content = world.content.clone();
            let _ = tokio::task::spawn_blocking(move || content.keep_only(&releases, &blobs)).await;
        }
        Err(problem) => tracing::warn!(%problem, "could not tell which content is needed; keeping all"),
    }
}

type Digests = BTreeSet<kedge_bundle::digest::Digest>;

fn needed(world: &World) -> Result<(Digests, Digests), Problem> {
    let mut releases = Digests::new();
    for deployment in world.store.scan::<DeploymentRecord>("")? {
        let numbers = [deployment.active, deployment.previous, Some(deployment.newest)];
        for number in numbers.into_iter().flatten() {
            let key = generation_key(&deployment.name, number);
            if let Some(generation) = world.store.get::<GenerationRecord>(&key)? {
                releases.insert(release::parse_digest(&generation.release.digest)?);
            }
        }
        if let Some(operation) = deployment.operation.filter(|o| !o.target.digest.is_empty()) {
            releases.insert(release::parse_digest(&operation.target.digest)?);
        }
    }
    let mut blobs = Digests::new();
    for digest in releases.iter().filter(|digest| world.content.has_release(digest)) {
        let loaded = release::load(&world.content, digest)?;
        blobs.extend(loaded.layers());
        blobs.extend(loaded.small_blobs);
    }
    Ok((releases, blobs))
}
