//! One step, done. "Already so" is success.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::try_join_all;
use kedge_compose::model::{Attachment, Mount, MountKind};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Options;
use super::conditions::{Goal, explain, lost, reach};
use super::hooks::Runner;
use super::outcome::{Cause, Failure};
use crate::engine::spec::{LABEL_DEPLOYMENT, LABEL_HOOKS, LABEL_SPEC};
use crate::engine::types::Filter;
use crate::engine::{ContainerSpec, Engine, Error, EventHub, Kind, NetworkSpec, Result};
use crate::plan::{Action, Step, Target, Until};

/// What the steps of one plan share.
pub(super) struct Steps<'a> {
    engine: &'a Arc<dyn Engine>,
    hub: &'a EventHub,
    options: Options,
    hooks: Runner<'a>,
    /// Containers made by this plan, by the name they were made under.
    made: Mutex<BTreeMap<String, Made>>,
}

struct Made {
    id: String,
    has_hooks: bool,
}

impl<'a> Steps<'a> {
    pub(super) fn new(
        engine: &'a Arc<dyn Engine>,
        hub: &'a EventHub,
        options: Options,
        cancel: &'a CancellationToken,
    ) -> Self {
        let hooks = Runner::new(engine, options.condition_timeout, cancel);
        Self { engine, hub, options, hooks, made: Mutex::default() }
    }

    /// Does a step.
    pub(super) async fn run(&self, step: &Step) -> Result<(), Failure> {
        match &step.action {
            Action::Wait { containers, until, stays } => {
                return self.wait(step, containers, *until, *stays).await;
            }
            Action::Drain { successor, lasts, .. } => {
                return self.wait(step, std::slice::from_ref(successor), Until::Healthy, *lasts).await;
            }
            Action::Start { container } if self.may_have_hooks(container) => {
                return self.hooks.start(step, &self.id(container)).await;
            }
            _ => {}
        }
        self.ask(&step.action).await.map_err(|error| Failure::of_step(step, Cause::Engine(error)))
    }

    /// A container made by this plan is known; of others only the engine knows.
    fn may_have_hooks(&self, target: &Target) -> bool {
        let made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        target.id.is_some() || made.get(&target.name).is_none_or(|made| made.has_hooks)
    }

    fn id(&self, target: &Target) -> String {
        let made = || {
            let made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
            made.get(&target.name).map(|made| made.id.clone())
        };
        target.id.clone().or_else(made).unwrap_or_else(|| target.name.clone())
    }

    async fn ask(&self, action: &Action) -> Result<()> {
        let engine = self.engine.as_ref();
        match action {
            Action::CreateNetwork { spec, .. } => self.create_network_if_needed(spec).await,
            Action::RemoveNetwork { id, .. } => engine.remove_network(id).await,
            Action::CreateVolume { spec, .. } => engine.create_volume(spec).await,
            Action::CreateContainer { name, spec, carry } => self.create_if_needed(name, spec, carry).await,
            Action::Start { container } => engine.start_container(&self.id(container)).await,
            Action::Stop { container } => gone_is_fine(self.hooks.stop(&self.id(container)).await),
            Action::Unpause { container } => engine.unpause_container(&self.id(container)).await,
            Action::Remove { container } => gone_is_fine(engine.remove_container(&self.id(container)).await),
            Action::Rename { container, to } => engine.rename_container(&self.id(container), to).await,
            Action::Update { container, update } => {
                engine.update_container(&self.id(container), update).await
            }
            Action::Connect { container, network, endpoint } => {
                match engine.connect(network, &self.id(container), endpoint).await {
                    Err(error) if error.kind == Kind::NameTaken => Ok(()),
                    result => result,
                }
            }
            Action::Disconnect { container, network } => {
                gone_is_fine(engine.disconnect(network, &self.id(container)).await)
            }
            Action::Rejoin { container, network, endpoint, keep_address } => {
                rejoin(engine, &self.id(container), network, endpoint, *keep_address).await
            }
            Action::Wait { .. } | Action::Drain { .. } => Ok(()),
        }
    }

    /// Creates a container unless one of this name and spec is there already, as after a crash between asking and hearing.
    async fn create_if_needed(
        &self,
        name: &str,
        spec: &Arc<ContainerSpec>,
        carry: &BTreeMap<String, String>,
    ) -> Result<()> {
        let mut spec = ContainerSpec::clone(spec);
        for (target, volume) in carry {
            spec.mounts.retain(|mount| &mount.target != target);
            spec.mounts.push(Mount {
                kind: MountKind::Volume,
                source: Some(volume.clone()),
                target: target.clone(),
                ..Mount::default()
            });
        }
        let id = match self.engine.create_container(name, &spec).await {
            Ok(id) => id,
            Err(error) if error.kind == Kind::NameTaken => {
                let found = self.engine.inspect_container(name).await?;
                let same = |label: &str| found.labels.get(label) == spec.labels.get(label);
                if !same(LABEL_SPEC) || !same(LABEL_DEPLOYMENT) {
                    return Err(error);
                }
                found.id
            }
            Err(error) => return Err(error),
        };
        let made = Made { id, has_hooks: spec.labels.contains_key(LABEL_HOOKS) };
        self.made.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), made);
        Ok(())
    }

    async fn create_network_if_needed(&self, spec: &NetworkSpec) -> Result<()> {
        match self.engine.create_network(spec).await {
            Ok(_) => Ok(()),
            Err(error) if error.kind == Kind::NameTaken => {
                let found = self.engine.list_networks(&Filter::names([spec.name.clone()])).await?;
                let ours = |labels: &BTreeMap<String, String>| {
                    labels.get(LABEL_DEPLOYMENT) == spec.labels.get(LABEL_DEPLOYMENT)
                };
                if found.iter().any(|network| ours(&network.labels)) { Ok(()) } else { Err(error) }
            }
            Err(error) => Err(error),
        }
    }

    async fn wait(
        &self,
        step: &Step,
        containers: &[Target],
        until: Until,
        stays: Duration,
    ) -> Result<(), Failure> {
        let goal = match until {
            Until::Healthy => Goal::Healthy,
            Until::Completed => Goal::Completed,
        };
        let engine = self.engine.as_ref();
        let each = containers.iter().map(|target| async {
            let mut signals = self.hub.subscribe();
            let id = self.id(target);
            let reached = reach(engine, &mut signals, &id, goal);
            match tokio::time::timeout(self.options.condition_timeout, reached).await {
                Ok(Ok(container)) => {
                    let until = Instant::now() + stays;
                    match lost(engine, &mut signals, &container, goal, until).await {
                        None => Ok(()),
                        Some((cause, now)) => {
                            let failure = Failure::of_step(step, cause);
                            Err(explain(engine, now.as_ref().or(Some(&container)), failure).await)
                        }
                    }
                }
                Ok(Err((cause, container))) => {
                    let failure = Failure::of_step(step, named(cause, &target.name));
                    Err(explain(engine, container.as_ref(), failure).await)
                }
                Err(_) => {
                    let container = engine.inspect_container(&id).await.ok();
                    let failure = Failure::of_step(step, Cause::Timeout(target.name.clone()));
                    Err(explain(engine, container.as_ref(), failure).await)
                }
            }
        });
        try_join_all(each).await.map(|_| ())
    }
}

/// Leaves a network and joins it again. Where the address cannot be kept it is better to have another one than none.
async fn rejoin(
    engine: &dyn Engine,
    id: &str,
    network: &str,
    endpoint: &Attachment,
    keep_address: bool,
) -> Result<()> {
    let mut kept = endpoint.clone();
    if keep_address {
        let seen =
            engine.inspect_container(id).await?.detail.and_then(|mut detail| detail.networks.remove(network));
        kept.ipv4_address = kept.ipv4_address.or(seen.and_then(|seen| seen.ip));
    }
    gone_is_fine(engine.disconnect(network, id).await)?;
    let joined = match engine.connect(network, id, &kept).await {
        Err(error) if !error.is_engine_away() && kept != *endpoint && error.kind != Kind::NameTaken => {
            tracing::warn!(%error, "it gets another address");
            engine.connect(network, id, endpoint).await
        }
        result => result,
    };
    match joined {
        Err(error) if error.kind == Kind::NameTaken => Ok(()),
        result => result,
    }
}

fn named(cause: Cause, name: &str) -> Cause {
    match cause {
        Cause::Absent(_) => Cause::Absent(name.to_owned()),
        other => other,
    }
}

fn gone_is_fine(result: Result<(), Error>) -> Result<()> {
    match result {
        Err(error) if error.is_not_found() => Ok(()),
        result => result,
    }
}
