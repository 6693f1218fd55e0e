//! Starting and stopping with lifecycle hooks, which the container's own label tells.
//!
//! | hook | where | when | failure |
//! |---|---|---|---|
//! | `pre_start` | a container of its own, with the service's volumes and networks | before the first start, once for a service unless `per_replica` | the container is not started |
//! | `post_start` | in the container | after each start that Kedge asks for | the container is stopped, for it is not what was asked for |
//! | `pre_stop` | in the container | before Kedge asks it to end | told, and it is stopped all the same |
//!
//! A start that the agent does not live to see through is done again by the next plan, `pre_start` included; of one that had
//! happened already the `post_start` is lost. All have their time: what does not end is given up, and ends with its container.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kedge_compose::model::{Attachment, Mount, MountKind};
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;

use super::conditions::explain;
use super::outcome::{Cause, Failure};
use crate::engine::spec::{LABEL_DEPLOYMENT, LABEL_HOOK, LABEL_HOOKS, LABEL_PROJECT, LABEL_SERVICE};
use crate::engine::types::{Filter, State};
use crate::engine::{Container, ContainerSpec, Engine, Exec, Result};
use crate::plan::Step;
use crate::plan::desired::{Hooks, PreStart};

/// Time for all hooks of one stop, beside the container's own grace.
const BEFORE_STOP: Duration = Duration::from_secs(120);

/// Why a hook did not end well, and what it said last.
struct No(Cause, Vec<String>);

/// How something ended that runs once for many.
type Once = OnceCell<std::result::Result<(), Failure>>;

/// Runs hooks for the steps of one plan.
pub(super) struct Runner<'a> {
    engine: &'a Arc<dyn Engine>,
    /// Longest time for a hook of a start.
    patience: Duration,
    cancel: &'a CancellationToken,
    /// What runs once for a service, by its definition and number.
    once: Mutex<BTreeMap<(String, usize), Arc<Once>>>,
}

impl<'a> Runner<'a> {
    pub(super) fn new(
        engine: &'a Arc<dyn Engine>,
        patience: Duration,
        cancel: &'a CancellationToken,
    ) -> Self {
        Self { engine, patience, cancel, once: Mutex::default() }
    }

    /// Starts a container between its hooks.
    pub(super) async fn start(&self, step: &Step, id: &str) -> std::result::Result<(), Failure> {
        let of_engine = |error| Failure::of_step(step, Cause::Engine(error));
        let container = self.engine.inspect_container(id).await.map_err(of_engine)?;
        let hooks = Hooks::of(&container.labels);
        if container.state == State::Created {
            self.prepare(step, &container, &hooks).await?;
        }
        self.engine.start_container(id).await.map_err(of_engine)?;
        if matches!(container.state, State::Running | State::Restarting) {
            return Ok(());
        }
        for hook in &hooks.post_start {
            let ended = tokio::select! {
                ended = self.exec(&container, "post_start", hook, self.patience) => ended,
                () = self.cancel.cancelled() => Err(No(Cause::Cancelled, Vec::new())),
            };
            if let Err(No(cause, output)) = ended {
                if let Err(error) = self.engine.stop_container(id, None).await {
                    tracing::warn!(container = container.name, %error, "could not be stopped after its hook had failed");
                }
                return Err(Failure { output, ..Failure::of_step(step, cause) });
            }
        }
        Ok(())
    }

    /// Asks a container to end, after its hooks.
    pub(super) async fn stop(&self, id: &str) -> Result<()> {
        let container = self.engine.inspect_container(id).await?;
        let hooks = Hooks::of(&container.labels).pre_stop;
        if container.state == State::Running && !hooks.is_empty() {
            let all = async {
                for hook in &hooks {
                    // Not cut short by a cancellation: it may be saving what the stop would lose.
                    let ended = self.exec(&container, "pre_stop", hook, BEFORE_STOP).await;
                    if let Err(No(cause, _)) = ended {
                        let container = &container.name;
                        tracing::warn!(
                            container,
                            ?cause,
                            "a pre_stop hook failed; it is stopped all the same"
                        );
                    }
                }
            };
            if tokio::time::timeout(BEFORE_STOP, all).await.is_err() {
                tracing::warn!(
                    container = container.name,
                    "its pre_stop hooks take too long; it is stopped all the same"
                );
            }
        }
        self.engine.stop_container(id, None).await
    }

    async fn exec(
        &self,
        container: &Container,
        key: &'static str,
        hook: &Exec,
        patience: Duration,
    ) -> std::result::Result<(), No> {
        let name = || container.name.clone();
        match tokio::time::timeout(patience, self.engine.exec(&container.id, hook)).await {
            Ok(Ok(finished)) if finished.code == 0 => {
                tracing::debug!(container = container.name, hook = key, "ended well");
                Ok(())
            }
            Ok(Ok(finished)) => Err(No(Cause::Hook(key, name(), finished.code), finished.output)),
            Ok(Err(error)) => Err(No(Cause::Engine(error), Vec::new())),
            Err(_) => Err(No(Cause::Timeout(format!("the {key} hook of {}", name())), Vec::new())),
        }
    }

    /// Runs what must have run before a container starts for the first time.
    async fn prepare(
        &self,
        step: &Step,
        container: &Container,
        hooks: &Hooks,
    ) -> std::result::Result<(), Failure> {
        for (number, hook) in hooks.pre_start.iter().enumerate() {
            if hook.per_replica {
                self.run(step, container, number, hook).await?;
                continue;
            }
            let cell = {
                let mut once = self.once.lock().unwrap_or_else(PoisonError::into_inner);
                Arc::clone(once.entry((hooks.definition.clone(), number)).or_default())
            };
            let run = || async {
                match self.has_run(container).await {
                    Ok(true) => Ok(()),
                    Ok(false) => self.run(step, container, number, hook).await,
                    Err(error) => Err(Failure::of_step(step, Cause::Engine(error))),
                }
            };
            cell.get_or_init(run).await.clone()?;
        }
        Ok(())
    }

    /// Whether another container of the same definition has been started: what runs once has run.
    async fn has_run(&self, container: &Container) -> Result<bool> {
        let labels = [LABEL_DEPLOYMENT, LABEL_PROJECT, LABEL_SERVICE];
        let same = |label: &&str| container.labels.get(*label).map(|value| format!("{label}={value}"));
        let filter = Filter { labels: labels.iter().filter_map(same).collect(), names: BTreeSet::new() };
        let all = self.engine.list_containers(&filter).await?;
        let hooks = |container: &Container| container.labels.get(LABEL_HOOKS).cloned();
        let is_sibling = |other: &Container| other.id != container.id && hooks(other) == hooks(container);
        Ok(all.iter().any(|other| is_sibling(other) && other.state != State::Created))
    }

    /// Runs a hook in a container of its own and takes that away again.
    async fn run(
        &self,
        step: &Step,
        service: &Container,
        number: usize,
        hook: &PreStart,
    ) -> std::result::Result<(), Failure> {
        let of_engine = |error| Failure::of_step(step, Cause::Engine(error));
        let name = format!("{}.pre-start-{}", service.name, number + 1);
        // One that an interrupted attempt has left; another's of that name makes creating fail, which says so.
        match self.engine.inspect_container(&name).await {
            Ok(left) if is_hook_of(&left, service) => {
                self.engine.remove_container(&left.id).await.map_err(of_engine)?;
            }
            Err(error) if !error.is_not_found() => return Err(of_engine(error)),
            Ok(_) | Err(_) => {}
        }
        let spec = self.spec(service, hook).await.map_err(of_engine)?;
        let id = self.engine.create_container(&name, &spec).await.map_err(of_engine)?;
        let work = async {
            self.engine.start_container(&id).await?;
            self.engine.wait_container(&id).await
        };
        let cause = tokio::select! {
            ended = tokio::time::timeout(self.patience, work) => match ended {
                Ok(Ok(0)) => None,
                Ok(Ok(code)) => Some(Cause::Hook("pre_start", service.name.clone(), code)),
                Ok(Err(error)) => Some(Cause::Engine(error)),
                Err(_) => Some(Cause::Timeout(format!("the pre_start hook of {}", service.name))),
            },
            () = self.cancel.cancelled() => Some(Cause::Cancelled),
        };
        let failure = match cause {
            None => None,
            Some(cause) => {
                let hook = Container { id: id.clone(), ..Container::default() };
                Some(explain(self.engine.as_ref(), Some(&hook), Failure::of_step(step, cause)).await)
            }
        };
        if let Err(error) = self.engine.remove_container(&id).await {
            tracing::warn!(container = name, %error, "the container of a hook could not be removed");
        }
        failure.map_or(Ok(()), Err)
    }

    /// The container of a hook: the service's environment, folder, name servers, networks, volumes and restraints; nothing
    /// of its names, ports and limits.
    async fn spec(&self, service: &Container, hook: &PreStart) -> Result<ContainerSpec> {
        let detail = service.detail.clone().unwrap_or_default();
        let of_service = detail.spec;
        let mut env = of_service.env;
        let mut user = hook.run.user.clone();
        if hook.image.is_none() {
            user = user.or(of_service.user);
        } else {
            // Another image has its own PATH.
            let own = self.engine.inspect_image(&service.image_id).await?.config.env;
            env.0.retain(|name, value| own.get(name) != value.as_ref());
        }
        env.0.extend(hook.run.environment.clone());
        let of_label = |label: &str| {
            let value = service.labels.get(label)?;
            Some((label.to_owned(), value.clone()))
        };
        let mut labels: BTreeMap<String, String> =
            [LABEL_DEPLOYMENT, LABEL_PROJECT].into_iter().filter_map(of_label).collect();
        labels.insert(LABEL_HOOK.to_owned(), "pre_start".to_owned());
        labels.insert("com.docker.compose.oneoff".to_owned(), "True".to_owned());
        let joined = of_service.network_mode.filter(|mode| {
            matches!(mode.as_str(), "none" | "host" | "bridge" | "default") || mode.starts_with("container:")
        });
        let networks = detail.networks.into_keys().map(|name| (name, Attachment::default()));
        let endpoints = if joined.is_some() { BTreeMap::new() } else { networks.collect() };
        // Not `volumes_from`, which the engine refuses where one of the mounts is in memory.
        let mounts = detail.mounts.iter().filter_map(|seen| {
            let kind = match seen.kind.as_str() {
                "volume" => MountKind::Volume,
                "bind" => MountKind::Bind,
                _ => return None,
            };
            let asked = of_service.mounts.iter().find(|asked| asked.target == seen.target);
            Some(Mount {
                kind,
                source: Some(seen.name.clone().unwrap_or_else(|| seen.source.clone())),
                target: seen.target.clone(),
                read_only: !seen.writable,
                subpath: asked.and_then(|asked| asked.subpath.clone()),
                ..Mount::default()
            })
        });
        let mounts = mounts.collect();
        Ok(ContainerSpec {
            image: hook.image.clone().unwrap_or_else(|| service.image_id.clone()),
            command: Some(hook.run.command.clone()).filter(|command| !command.is_empty()),
            env,
            labels,
            user,
            working_dir: hook.run.working_dir.clone().or(of_service.working_dir),
            privileged: hook.run.privileged,
            cap_drop: of_service.cap_drop,
            security_opt: of_service.security_opt,
            read_only: of_service.read_only,
            extra_hosts: of_service.extra_hosts,
            dns: of_service.dns,
            dns_search: of_service.dns_search,
            dns_opt: of_service.dns_opt,
            mounts,
            network_mode: joined,
            endpoints,
            ..ContainerSpec::default()
        })
    }
}

/// Whether a container was made for a hook of this one's deployment.
fn is_hook_of(container: &Container, service: &Container) -> bool {
    let same = |label| container.labels.get(label) == service.labels.get(label);
    container.labels.contains_key(LABEL_HOOK) && same(LABEL_DEPLOYMENT) && same(LABEL_PROJECT)
}

#[cfg(test)]
mod tests;
