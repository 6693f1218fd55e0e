//! The pipeline of one container: made, swapped with the old one, mended, started.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kedge_compose::model::MountKind;

use super::{Disposal, Planner};
use crate::engine::types::{Container, State};
use crate::plan::desired::{Wanted, WantedService};
use crate::plan::differ::Differences;
use crate::plan::matching::is_done;
use crate::plan::step::{Action, StepId, Target};
use crate::plan::{KEPT, Memory, NEXT};

/// What a container that is what is wanted needs in order to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Run {
    /// Nothing: it runs, is about to, or is done.
    Leave,
    /// Start, because of this.
    Start(&'static str),
    /// Thaw.
    Unpause,
}

/// Decides by state, exit code and the service's nature.
pub(super) fn decide(
    wanted: &Wanted,
    service: &WantedService,
    container: &Container,
    memory: &Memory,
) -> Run {
    match container.state {
        State::Running | State::Restarting | State::Removing | State::Dead => Run::Leave,
        State::Paused => Run::Unpause,
        State::Created | State::Exited if is_done(wanted, memory) => Run::Leave,
        State::Created => Run::Start("it was never started"),
        State::Exited => {
            let clean = container.exit_code == Some(0);
            if service.is_job {
                return if clean { Run::Leave } else { Run::Start("it failed") };
            }
            // One that was kept was stopped by us: its exit code says nothing.
            let ended_by_itself = clean && !wanted.engine_restarts(0) && !container.name.contains(KEPT);
            match ended_by_itself && !service.is_server {
                true => Run::Leave,
                false if clean => Run::Start("it was stopped"),
                false => Run::Start("it ended with an error"),
            }
        }
    }
}

impl<'a> Planner<'a> {
    /// Plans everything for one wanted container.
    pub(super) fn container(&mut self, name: &'a str, service: &'a WantedService, key: &'a str) {
        let (Some(wanted), Some(place)) =
            (self.desired.containers.get(key), self.matching.places.remove(key))
        else {
            return;
        };
        match place.current.clone() {
            Some((current, differences)) => {
                self.current(name, service, (key, wanted), current, &differences, &place.superseded);
                self.matching.places.insert(key, place);
            }
            None if is_done(wanted, self.memory) => {
                for old in &place.superseded {
                    self.dispose(old, BTreeSet::new(), "its work is done");
                }
                self.matching.places.insert(key, place);
            }
            None => self.create(name, service, (key, wanted), &place.superseded, &place.why),
        }
    }

    /// A container that is what is wanted: name, limits, networks, running.
    fn current(
        &mut self,
        name: &'a str,
        service: &'a WantedService,
        (key, wanted): (&'a str, &'a Wanted),
        current: &'a Container,
        differences: &Differences,
        superseded: &[&'a Container],
    ) {
        let target = self.target(current);
        self.targets.insert(key, target.clone());
        let run = decide(wanted, service, current, self.memory);
        let conditions = if run == Run::Leave { BTreeSet::new() } else { self.conditions(service) };
        let why = if current.name.contains(KEPT) {
            "the deployment goes back to the one before"
        } else {
            "another one takes its place"
        };
        let gone: Vec<Disposal> =
            superseded.iter().map(|old| self.dispose(old, conditions.clone(), why)).collect();
        let mut before_start: BTreeSet<StepId> = gone.iter().filter_map(|gone| gone.stopped).collect();
        before_start.extend(conditions);
        before_start.extend(self.contested(wanted, current.id.as_str()));

        if !differences.updated.is_empty() {
            let action =
                Action::Update { container: target.clone(), update: Box::new(differences.update.clone()) };
            before_start.insert(self.push(
                action,
                Some(name),
                &format!("it has {}", differences.updated.join(", ")),
                [],
            ));
        }
        before_start.extend(self.attachments(name, wanted, &target, current, differences));
        let started = match run {
            Run::Leave => self.restart_with_dependencies(name, service, current, &target),
            Run::Start(why) => {
                let why = if current.name.contains(KEPT) { "it was kept to go back to" } else { why };
                Some(self.push(Action::Start { container: target.clone() }, Some(name), why, before_start))
            }
            Run::Unpause => Some(self.push(
                Action::Unpause { container: target.clone() },
                Some(name),
                "it was paused",
                before_start,
            )),
        };
        self.started.entry(name).or_default().extend(started);
        if current.name != key {
            let mut needs: BTreeSet<StepId> = gone.iter().filter_map(|gone| gone.freed).collect();
            needs.extend(started);
            needs.extend(self.free_name(key));
            let action = Action::Rename { container: target, to: key.to_owned() };
            let renamed = self.push(action, Some(name), "it takes its own name", needs);
            self.ready.insert(key, renamed);
        }
    }

    /// Detaches and attaches; networks that are being made anew have already been left.
    fn attachments(
        &mut self,
        name: &str,
        wanted: &Wanted,
        target: &Target,
        current: &Container,
        differences: &Differences,
    ) -> Vec<StepId> {
        let mut steps = Vec::new();
        let mut left = BTreeMap::new();
        for network in &differences.disconnect {
            if self.replaced_networks.contains(network) {
                continue;
            }
            let action = Action::Disconnect { container: target.clone(), network: network.clone() };
            let why = if wanted.spec.endpoints.contains_key(network) {
                "its names or addresses there differ"
            } else {
                "it does not belong there"
            };
            let step = self.push(action, Some(name), why, []);
            left.insert(network, step);
            steps.push(step);
        }
        let attached = |network: &str| {
            current.detail.as_ref().is_some_and(|detail| detail.networks.contains_key(network))
        };
        for (network, endpoint) in &wanted.spec.endpoints {
            let replaced = self.replaced_networks.contains(network) && attached(network);
            if !replaced && !differences.connect.iter().any(|(missing, _)| missing == network) {
                continue;
            }
            let needs: Vec<StepId> =
                left.get(network).into_iter().chain(self.ready_networks.get(network)).copied().collect();
            let action = Action::Connect {
                container: target.clone(),
                network: network.clone(),
                endpoint: Box::new(endpoint.clone()),
            };
            steps.push(self.push(action, Some(name), "it is not attached as it should be", needs));
        }
        steps
    }

    /// `depends_on` with `restart: true`: a running container is restarted once a dependency was made anew, in this plan or
    /// since the container started.
    fn restart_with_dependencies(
        &mut self,
        name: &'a str,
        service: &'a WantedService,
        current: &'a Container,
        target: &Target,
    ) -> Option<StepId> {
        // One that has ended may have been stopped for this very restart, just before we were interrupted.
        let has_ended = current.state == State::Exited && !service.is_job;
        if current.state != State::Running && !has_ended {
            return None;
        }
        let started_at = current.detail.as_ref().and_then(|detail| detail.started_at);
        let newer = |on: &String| {
            let containers = self
                .desired
                .services
                .get(on)
                .map(|service| service.containers.as_slice())
                .unwrap_or_default();
            let made = containers.iter().map(|name| {
                let (current, _) = self.matching.places.get(name.as_str())?.current.as_ref()?;
                current.detail.as_ref()?.created_at
            });
            let first = made.min().flatten();
            first.zip(started_at).is_some_and(|(made, started)| made > started)
        };
        let restarts = service.depends_on.iter().filter(|(_, how)| how.restart);
        let on = restarts.map(|(on, _)| on).find(|on| self.anew.contains(on.as_str()) || newer(on))?;
        let why = format!("{on} was made anew");
        let mut needs = self.conditions(service);
        if !has_ended {
            let stop = Action::Stop { container: target.clone() };
            needs = [self.push(stop, Some(name), &why, needs)].into();
        }
        Some(self.push(Action::Start { container: target.clone() }, Some(name), &why, needs))
    }

    /// A container that does not exist, or not as it should be.
    fn create(
        &mut self,
        name: &'a str,
        service: &'a WantedService,
        (key, wanted): (&'a str, &'a Wanted),
        superseded: &[&'a Container],
        why: &str,
    ) {
        self.anew.insert(name);
        let next = format!("{key}{NEXT}");
        // What an interrupted update left behind is in the way before anything else.
        let (stale, old): (Vec<&Container>, Vec<&Container>) =
            superseded.iter().partition(|old| old.name == next);
        let mut needs: BTreeSet<StepId> = stale
            .iter()
            .filter_map(|old| self.dispose(old, BTreeSet::new(), "an interrupted update left it").freed)
            .collect();
        let held = self.ours().any(|container| container.name == key);
        let created_as = if held { next } else { key.to_owned() };
        needs.extend(wanted.spec.endpoints.keys().filter_map(|network| self.ready_networks.get(network)));
        let sources = wanted.spec.mounts.iter().filter_map(|mount| mount.source.as_ref());
        needs.extend(sources.filter_map(|source| self.ready_volumes.get(source)));
        needs.extend(wanted.spec.joins().filter_map(|joined| self.ready.get(joined)));
        let spec = Arc::new(wanted.spec.clone());
        let action = Action::CreateContainer { name: created_as.clone(), spec, carry: carried(wanted, &old) };
        let created = self.push(action, Some(name), why, needs);
        let target = Target { name: created_as.clone(), id: None };
        self.targets.insert(key, target.clone());

        let conditions = self.conditions(service);
        let mut swap = conditions.clone();
        swap.insert(created);
        let gone: Vec<Disposal> = old.iter().map(|old| self.dispose(old, swap.clone(), why)).collect();
        let mut before_start: BTreeSet<StepId> = gone.iter().filter_map(|gone| gone.stopped).collect();
        before_start.extend(swap);
        before_start.extend(self.contested(wanted, ""));
        let mut ready = created;
        if created_as != key {
            let mut needs: BTreeSet<StepId> = gone.iter().filter_map(|gone| gone.freed).collect();
            needs.insert(created);
            needs.extend(self.free_name(key));
            let action = Action::Rename { container: target.clone(), to: key.to_owned() };
            ready = self.push(action, Some(name), "it takes its own name", needs);
        }
        self.ready.insert(key, ready);
        before_start.insert(ready);
        let started = self.push(Action::Start { container: target }, Some(name), "it is new", before_start);
        self.started.entry(name).or_default().insert(started);
    }

    /// Frees a wanted name from a container of ours that has another place or none.
    fn free_name(&mut self, name: &str) -> Option<StepId> {
        let is_current = |container: &Container| {
            self.matching
                .places
                .values()
                .any(|place| place.current.as_ref().is_some_and(|(current, _)| current.id == container.id))
        };
        let holder = self.ours().find(|container| container.name == name && !is_current(container))?;
        self.dispose(holder, BTreeSet::new(), "its name goes to another container").freed
    }

    /// Stops containers of ours that hold a host port which this one is about to take.
    fn contested(&mut self, wanted: &Wanted, own: &str) -> Vec<StepId> {
        let takes = |container: &Container| {
            container.ports.iter().any(|used| {
                let same = |port: &&kedge_compose::model::Port| {
                    port.published.parse() == Ok(used.host_port)
                        && (port.protocol.is_empty() || port.protocol == used.protocol)
                };
                wanted.spec.ports.iter().any(|port| same(&port))
            })
        };
        let leaving = |container: &&Container| {
            let stays =
                self.matching.places.values().any(|place| {
                    place.current.as_ref().is_some_and(|(current, _)| current.id == container.id)
                });
            container.id != own && !stays && takes(container)
        };
        let others: Vec<&'a Container> = self.ours().filter(leaving).collect();
        let why = "another container takes its port";
        others.into_iter().filter_map(|other| self.dispose(other, BTreeSet::new(), why).stopped).collect()
    }

    /// Plans the end of a container of ours, once: stopped, then removed or kept under another name.
    pub(super) fn dispose(&mut self, old: &'a Container, needs: BTreeSet<StepId>, why: &str) -> Disposal {
        if let Some(disposal) = self.disposed.get(old.id.as_str()) {
            return *disposal;
        }
        let target = self.target(old);
        let service = old.service();
        let mut needs = needs;
        let runs = matches!(old.state, State::Running | State::Restarting | State::Paused);
        if old.state == State::Paused {
            needs = [self.push(
                Action::Unpause { container: target.clone() },
                service,
                "a frozen container cannot be stopped",
                needs,
            )]
            .into();
        }
        let stopped =
            runs.then(|| self.push(Action::Stop { container: target.clone() }, service, why, needs.clone()));
        if let Some(step) = stopped {
            needs = [step].into();
        }
        let keep = self.policy.keep_superseded && (runs || old.state == State::Exited);
        let freed = if keep && old.name.contains(KEPT) {
            None
        } else if keep {
            let base = old.name.split(KEPT).next().unwrap_or_default();
            let to = format!("{base}{KEPT}{}", old.id.get(..8).unwrap_or(&old.id));
            Some(self.push(
                Action::Rename { container: target, to },
                service,
                "it is kept to go back to",
                needs,
            ))
        } else {
            Some(self.push(Action::Remove { container: target }, service, why, needs))
        };
        let disposal = Disposal { stopped, freed };
        self.disposed.insert(&old.id, disposal);
        disposal
    }
}

/// Anonymous volumes of the container that is replaced, for the places where the new one has anonymous volumes too.
fn carried(wanted: &Wanted, old: &[&Container]) -> BTreeMap<String, String> {
    let anonymous =
        wanted.spec.mounts.iter().filter(|mount| mount.kind == MountKind::Volume && mount.source.is_none());
    let named: BTreeSet<&str> = wanted
        .spec
        .mounts
        .iter()
        .filter(|mount| mount.source.is_some())
        .map(|mount| mount.target.as_str())
        .collect();
    let targets: BTreeSet<&str> = anonymous
        .map(|mount| mount.target.as_str())
        .chain(wanted.image.volumes.iter().map(String::as_str))
        .collect();
    let mut carried = BTreeMap::new();
    let details = old.iter().filter_map(|old| old.detail.as_ref());
    for mount in details.flat_map(|detail| &detail.mounts) {
        let target = mount.target.as_str();
        if let Some(name) = &mount.name
            && mount.kind == "volume"
            && targets.contains(target)
            && !named.contains(target)
        {
            carried.entry(target.to_owned()).or_insert_with(|| name.clone());
        }
    }
    carried
}
