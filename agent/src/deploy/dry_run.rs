//! What installing a release would do, without doing it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::compile::{Order, compile_aside};
use super::memory;
use crate::engine::observe::observe;
use crate::images::Loaded;
use crate::plan::{self, Policy};
use crate::problem::Problem;
use crate::store::DeploymentRecord;
use crate::world::World;

/// What installing a release would do, a sentence each. Writes nothing.
///
/// # Errors
/// What would be in the way.
pub async fn dry_run(
    world: &Arc<World>,
    name: &str,
    loaded: Loaded,
    given: BTreeMap<String, String>,
) -> Result<Vec<String>, Problem> {
    let info = world.engine_kind.borrow().clone();
    let info = info.ok_or_else(|| {
        Problem::new(
            &crate::engine::codes::UNREACHABLE,
            format!("{} has not answered yet", world.config.engine),
        )
    })?;
    let record = world.store.get::<DeploymentRecord>(name)?.unwrap_or_default();
    let mut parameters = record.parameters.clone();
    parameters.extend(given);
    let order = Order {
        deployment: name.to_owned(),
        generation: record.newest + 1,
        parameters,
        loaded,
        engine: info,
        dry_run: true,
    };
    let compiled = compile_aside(world, order).await?;
    let failed = |e: crate::engine::Error| Problem::from_error(e.code(), &e);
    let observed = observe(&*world.engine, &compiled.desired.scope()).await.map_err(failed)?;
    let memory = memory::load(&world.store, name)?;
    let plan = plan::plan(&compiled.desired, &observed, &memory, Policy::default());
    Ok(compiled.warnings.into_iter().chain(plan.describe()).collect())
}
