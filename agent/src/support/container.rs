//! The containers that commands of a session run in: ours, joined to the target's processes and network, with no capability,
//! no way to gain one, nothing to write to, and bounds on memory, processes and time on a processor.
//!
//! A command inside the target itself could not be ended: closing an exec ends nothing, and Docker has no call that does. A
//! container can be removed, and everything in it goes, whatever signals it ignores.

use std::collections::BTreeMap;

use kedge_bundle::support::Target;
use kedge_compose::model::{Healthcheck, Logging, Resources};
use tokio_util::sync::CancellationToken;

use super::Support;
use super::core::target::objection;
use crate::codes;
use crate::deploy::adoption;
use crate::engine::spec::{Environment, LABEL_SUPPORT, LABEL_SUPPORT_HOST};
use crate::engine::types::State;
use crate::engine::{Attached, Container, ContainerSpec, Engine, Error, Filter, Kind};
use crate::images;
use crate::images::release::{self, Loaded};
use crate::problem::Problem;
use crate::store::{DeploymentRecord, GenerationRecord, generation_key};
use crate::world::World;

/// Memory of a session's container, swap included, bytes.
const MEMORY: u64 = 256 << 20;
/// Processes in it.
const PROCESSES: i64 = 64;
/// Billionths of a processor.
const NANO_CPUS: i64 = 1_000_000_000;
/// Whom its processes run as: somebody whom nothing else runs as, so that they can neither signal the target's nor read
/// their files and memory. `nobody` would be a bad choice: services run as that. systemd gives out no numbers from 65520 to
/// 65533, distributions assign none, and an engine that remaps users maps none above 65535.
const USER: &str = "65527:65527";

/// How a session's container is spoken with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ends {
    /// It only speaks.
    Output,
    /// By a terminal of so many rows and columns.
    Terminal(u16, u16),
    /// By bytes, both ways; its input ends when ours does.
    Pipe,
}

/// The running containers that a target names, by service and number.
///
/// # Errors
/// When there are none, or the engine cannot be asked.
pub(super) async fn targets(world: &World, target: &Target) -> Result<Vec<Container>, Problem> {
    let failed = |e: Error| Problem::from_error(e.code(), &e);
    let adoption = adoption::load(&world.store, &target.deployment)?;
    let mut found = adoption.containers(&*world.engine).await.map_err(failed)?;
    found.retain(|c| {
        c.service().is_some() && target.service.as_deref().is_none_or(|service| c.service() == Some(service))
    });
    if found.is_empty() {
        return Err(Problem::new(&codes::NO_SERVICE, format!("{target} has no containers")));
    }
    found.sort_by(|a, b| (a.service(), a.number()).cmp(&(b.service(), b.number())));
    Ok(found)
}

/// Whether a container may be joined, as it is now.
///
/// # Errors
/// [`codes::SUPPORT_TARGET`], or that it does not run.
pub(super) async fn joinable(world: &World, id: &str) -> Result<(), Problem> {
    let container =
        world.engine.inspect_container(id).await.map_err(|e| Problem::from_error(e.code(), &e))?;
    let socket = world.config.engine.trim_start_matches("unix://");
    if let Some(objection) = objection(&container, socket) {
        return Err(Problem::new(&codes::SUPPORT_TARGET, format!("{}: {objection}", container.name)));
    }
    if container.state != State::Running {
        return Err(Problem::new(&codes::NO_SERVICE, format!("{} is not running", container.name)));
    }
    Ok(())
}

/// The active release of a deployment; nothing where none is.
///
/// # Errors
/// When it cannot be read.
pub(super) fn active(world: &World, deployment: &str) -> Result<Option<Loaded>, Problem> {
    let record = world.store.get::<DeploymentRecord>(deployment)?;
    let Some(number) = record.and_then(|record| record.active) else { return Ok(None) };
    let generation = world.store.get::<GenerationRecord>(&generation_key(deployment, number))?;
    let Some(generation) = generation else { return Ok(None) };
    release::load(&world.content, &release::parse_digest(&generation.release.digest)?).map(Some)
}

/// The ID of the image with tools: the one that guard.toml names, else the one that the product brings.
///
/// # Errors
/// [`codes::SUPPORT_TOOLS`] when there is none, or it would leave volumes behind.
async fn tools(world: &World, deployment: &str) -> Result<String, Problem> {
    let none = |why: String| Problem::new(&codes::SUPPORT_TOOLS, why);
    let (reference, id) = match &world.rules.support.tools_image {
        Some(reference) => (reference.clone(), reference.clone()),
        None => signed(world, deployment)?
            .ok_or_else(|| none("guard.toml names no tools_image, and the product brings none".to_owned()))?,
    };
    let image = match world.engine.inspect_image(&id).await {
        Ok(image) => image,
        Err(error) if matches!(error.kind, Kind::NotFound | Kind::NoImage) => {
            return Err(none(format!("{reference} is not in the engine")));
        }
        Err(error) => return Err(Problem::from_error(error.code(), &error)),
    };
    if !image.config.volumes.is_empty() {
        return Err(none(format!("{reference} declares volumes, which would be left behind")));
    }
    Ok(image.id)
}

/// Reference and ID of the image with tools that came with the deployment's active release.
fn signed(world: &World, deployment: &str) -> Result<Option<(String, String)>, Problem> {
    let Some(loaded) = active(world, deployment)? else { return Ok(None) };
    let Some(reference) = loaded.listing.product.tools else { return Ok(None) };
    let image = loaded.listing.images.iter().find(|image| image.reference == reference);
    let Some(image) = image else { return Ok(None) };
    let placed = images::config::placed(&world.content, image, world.engine_info()?.store)?;
    Ok(Some((reference, placed.id)))
}

/// Makes and starts a container beside the target, attached so that nothing it says is missed. It is labelled with the grant,
/// and named after it and the number of its channel.
///
/// # Errors
/// When the target may not be joined, or the engine fails; nothing is left then.
pub(super) async fn launch(
    support: &Support,
    (grant, channel): (&str, u32),
    target: &Target,
    argv: &[String],
    ends: Ends,
    cancel: &CancellationToken,
) -> Result<(String, Attached), Problem> {
    let failed = |e: Error| Problem::from_error(e.code(), &e);
    let world = &support.inner.world;
    let running = targets(world, target).await?;
    let joined = running.first().map(|container| container.id.clone()).unwrap_or_default();
    joinable(world, &joined).await?;
    let image = tools(world, &target.deployment).await?;
    let spec = spec((&support.inner.host_key, grant), image, &joined, argv, ends);
    let name = format!("kedge-support-{grant:.12}-{channel}-{:08x}", rand::random::<u32>());
    let id = world.engine.create_container(&name, &spec).await.map_err(failed)?;
    let started = async {
        // Once more: between the first look and now somebody may have changed what is to be joined.
        joinable(world, &joined).await?;
        let attached = world.engine.attach(&id).await.map_err(failed)?;
        if cancel.is_cancelled() {
            return Err(Problem::new(&codes::SUPPORT_STATE, "the session has ended"));
        }
        world.engine.start_container(&id).await.map_err(failed)?;
        if let Ends::Terminal(rows, columns) = ends {
            let _ = world.engine.resize(&id, rows, columns).await;
        }
        Ok(attached)
    };
    match started.await {
        Ok(attached) => Ok((id, attached)),
        Err(problem) => {
            remove(support, grant, &id).await;
            Err(problem)
        }
    }
}

/// Removes a container. Where that fails, the session's end does it, or the next start.
pub(super) async fn remove(support: &Support, grant: &str, id: &str) {
    if let Err(error) = support.inner.world.engine.remove_container(id).await {
        tracing::warn!(grant, %error, "a container of a support session could not be removed yet");
    }
}

/// What a command runs in.
fn spec(
    (host, grant): (&str, &str),
    image: String,
    target: &str,
    argv: &[String],
    ends: Ends,
) -> ContainerSpec {
    let terminal = matches!(ends, Ends::Terminal(..));
    let env = [("HOME", "/tmp"), ("TERM", if terminal { "xterm-256color" } else { "dumb" })];
    ContainerSpec {
        image,
        // Both, so that nothing of the image's own comes between.
        entrypoint: Some(argv.iter().take(1).cloned().collect()),
        command: Some(argv.iter().skip(1).cloned().collect()),
        env: Environment(env.map(|(name, value)| (name.to_owned(), Some(value.to_owned()))).into()),
        labels: BTreeMap::from([
            (LABEL_SUPPORT.to_owned(), grant.to_owned()),
            (LABEL_SUPPORT_HOST.to_owned(), host.to_owned()),
        ]),
        user: Some(USER.to_owned()),
        working_dir: Some("/".to_owned()),
        tty: terminal,
        stdin_open: ends != Ends::Output,
        stdin_once: ends == Ends::Pipe,
        read_only: true,
        cap_drop: vec!["ALL".to_owned()],
        security_opt: vec!["no-new-privileges".to_owned()],
        tmpfs: BTreeMap::from([("/tmp".to_owned(), "rw,nosuid,nodev,noexec,size=16m,mode=1777".to_owned())]),
        // What it says is recorded by us, blacked out, and nowhere else.
        logging: Some(Logging { driver: "none".to_owned(), ..Logging::default() }),
        healthcheck: Some(Healthcheck { test: vec!["NONE".to_owned()], ..Healthcheck::default() }),
        resources: Resources {
            memory: Some(MEMORY),
            memory_swap: i64::try_from(MEMORY).ok(),
            pids: Some(PROCESSES),
            nano_cpus: Some(NANO_CPUS),
            ..Resources::default()
        },
        network_mode: Some(format!("container:{target}")),
        pid: Some(format!("container:{target}")),
        ..ContainerSpec::default()
    }
}

/// Removes every container of a session; returns when there is none left.
///
/// # Errors
/// When the engine fails; some may be left.
pub(super) async fn remove_all(engine: &dyn Engine, grant: &str) -> Result<(), Error> {
    remove_with(engine, &format!("{LABEL_SUPPORT}={grant}"), |_| false).await
}

/// Removes containers of this agent's sessions that do not run.
///
/// # Errors
/// As [`remove_all`].
pub(super) async fn remove_strays(
    engine: &dyn Engine,
    host: &str,
    runs: impl Fn(&str) -> bool,
) -> Result<(), Error> {
    remove_with(engine, &format!("{LABEL_SUPPORT_HOST}={host}"), runs).await
}

async fn remove_with(engine: &dyn Engine, label: &str, keep: impl Fn(&str) -> bool) -> Result<(), Error> {
    loop {
        let filter = Filter { labels: vec![label.to_owned()], ..Filter::default() };
        let mut found = engine.list_containers(&filter).await?;
        found.retain(|c| c.labels.get(LABEL_SUPPORT).is_some_and(|grant| !keep(grant)));
        if found.is_empty() {
            return Ok(());
        }
        futures_util::future::try_join_all(
            found.iter().map(|container| engine.remove_container(&container.id)),
        )
        .await?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sessions_container_has_nothing_that_it_does_not_need() {
        let argv = ["pg_isready", "-h", "db"].map(str::to_owned);
        let spec = spec(("h", "g"), "sha256:1".into(), "abc", &argv, Ends::Output);
        assert_eq!(
            (spec.entrypoint.unwrap(), spec.command.unwrap()),
            (vec![argv[0].clone()], argv[1..].to_vec())
        );
        assert!(spec.read_only && !spec.privileged && !spec.stdin_open);
        assert_eq!((spec.cap_drop, spec.cap_add.len()), (vec!["ALL".to_owned()], 0));
        assert_eq!(spec.security_opt, ["no-new-privileges"]);
        assert_eq!(spec.pid.as_deref(), Some("container:abc"));
        assert_eq!(spec.network_mode, spec.pid);
        assert!(spec.mounts.is_empty() && spec.volumes_from.is_empty());
        assert!(
            spec.resources.memory.is_some()
                && spec.resources.pids.is_some()
                && spec.resources.nano_cpus.is_some()
        );
        assert_eq!(spec.logging.unwrap().driver, "none");
        assert_eq!(spec.labels.keys().collect::<Vec<_>>(), [LABEL_SUPPORT, LABEL_SUPPORT_HOST]);
    }
}
