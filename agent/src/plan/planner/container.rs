//! The pipeline of one container: made, swapped with the old one, mended, started.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kedge_compose::model::{Attachment, MountKind};

use super::handover::Handover;
use super::{Disposal, Planner, Turn};
use crate::engine::types::{Container, State};
use crate::plan::desired::{Wanted, WantedService};
use crate::plan::differ::Differences;
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
        State::Created | State::Exited if memory.is_done(wanted) => Run::Leave,
        State::Created => Run::Start("it was never started"),
        State::Exited => {
            let clean = container.exit_code == Some(0);
            if service.is_job {
                return if clean { Run::Leave } else { Run::Start("it failed") };
            }
            // One that was kept was stopped by us: its exit code says nothing.
            let ended_by_itself = clean && !container.name.contains(KEPT);
            match ended_by_itself && service.may_end(wanted) {
                true => Run::Leave,
                false if clean => Run::Start("it was stopped"),
                false => Run::Start("it ended with an error"),
            }
        }
    }
}

impl<'a> Planner<'a> {
    /// Plans everything for one wanted container.
    pub(super) fn container(&mut self, name: &'a str, service: &'a WantedService, key: &'a str, turn: &Turn) {
        let (Some(wanted), Some(place)) =
            (self.desired.containers.get(key), self.matching.places.remove(key))
        else {
            return;
        };
        match place.current.clone() {
            Some((current, differences)) => {
                match self.start_first(service, key, wanted, &place.superseded) {
                    Some(old) => {
                        let why = "another one takes its place";
                        self.see_off((name, wanted), &place.superseded, &old, why);
                        let (new, why) = (Some((current, &differences)), replaced_by(current));
                        let free = BTreeSet::new();
                        self.hand_over(&Handover { name, service, key, wanted, new, old, why, turn, free });
                    }
                    None => {
                        let key = (key, wanted);
                        let found = (current, &differences);
                        self.current(name, service, key, found, &place.superseded, turn);
                    }
                }
                self.matching.places.insert(key, place);
            }
            None if self.memory.is_done(wanted) => {
                for old in &place.superseded {
                    self.dispose(old, BTreeSet::new(), "its work is done");
                }
                self.matching.places.insert(key, place);
            }
            None => self.create(name, service, (key, wanted), &place.superseded, &place.why, turn),
        }
    }

    /// A container that is what is wanted: name, limits, networks, running.
    fn current(
        &mut self,
        name: &'a str,
        service: &'a WantedService,
        (key, wanted): (&'a str, &'a Wanted),
        (current, differences): (&'a Container, &Differences),
        superseded: &[&'a Container],
        turn: &Turn,
    ) {
        let target = self.target(current);
        self.targets.insert(key, target.clone());
        let run = decide(wanted, service, current, self.memory);
        let mut conditions = if run == Run::Leave { BTreeSet::new() } else { self.conditions(service) };
        conditions.extend(&turn.needs);
        let why = replaced_by(current);
        let mut gone: Vec<Disposal> = Vec::new();
        for old in superseded {
            let needs = self.drained_if_leaving((name, wanted), old, &[current], conditions.clone());
            gone.push(self.dispose(old, needs, why));
        }
        let mut before_start: BTreeSet<StepId> = gone.iter().filter_map(|gone| gone.stopped).collect();
        for step in &before_start {
            self.defer(*step, turn);
        }
        before_start.extend(conditions);
        before_start.extend(self.contested(wanted, current.id.as_str()));

        before_start.extend(self.updated(name, &target, differences));
        before_start.extend(self.attachments(name, wanted, &target, current, differences));
        let started = match run {
            Run::Leave => self.restart_with_dependencies(name, service, wanted, current, &target),
            Run::Start(why) => {
                let why = if current.name.contains(KEPT) { "it was kept to go back to" } else { why };
                Some(self.push_start(target.clone(), name, wanted, why, before_start))
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
        let seen = |network: &str| current.detail.as_ref().and_then(|detail| detail.networks.get(network));
        let is_new = |network: &str| self.replaced_networks.contains(network);
        // An address that was only kept could be somebody else's by the time it starts again.
        let clings = |(network, endpoint): &(&String, &Attachment)| {
            let fixed = seen(network).is_some_and(|seen| seen.ipv4_address.is_some());
            fixed && endpoint.ipv4_address.is_none() && current.state == State::Exited
        };
        let again: Vec<(&String, &Attachment)> = wanted
            .spec
            .endpoints
            .iter()
            .filter(|(network, _)| !is_new(network))
            .filter(|on| differences.disconnect.contains(on.0) || clings(on))
            .collect();
        let foreign: Vec<&String> = differences
            .disconnect
            .iter()
            .filter(|network| !is_new(network) && !wanted.spec.endpoints.contains_key(*network))
            .collect();
        for network in foreign {
            let action = Action::Disconnect { container: target.clone(), network: network.clone() };
            steps.push(self.push(action, Some(name), "it does not belong there", []));
        }
        for (network, endpoint) in &again {
            let keep_address = current.state == State::Running && self.keeps_addresses(network);
            let (container, network) = (target.clone(), (*network).clone());
            let endpoint = Box::new((*endpoint).clone());
            let action = Action::Rejoin { container, network, endpoint, keep_address };
            steps.push(self.push(action, Some(name), "its names or addresses there differ", []));
        }
        let attached = |network: &str| seen(network).is_some();
        for (network, endpoint) in &wanted.spec.endpoints {
            let replaced = self.replaced_networks.contains(network) && attached(network);
            let missing = !attached(network) && differences.connect.iter().any(|(other, _)| other == network);
            if !replaced && !missing {
                continue;
            }
            let needs = self.ready_networks.get(network).copied();
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
        wanted: &Wanted,
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
        Some(self.push_start(target.clone(), name, wanted, &why, needs))
    }

    /// A start. Those for which the engine picks a port from a range go one after the other: it gives two of them the same.
    pub(super) fn push_start(
        &mut self,
        container: Target,
        name: &str,
        wanted: &Wanted,
        why: &str,
        needs: BTreeSet<StepId>,
    ) -> StepId {
        let step = self.push(Action::Start { container }, Some(name), why, needs);
        if wanted.spec.ports.iter().any(|port| port.published.contains('-')) {
            let after = self.last_ranged.replace(step).into_iter().collect();
            self.defer(step, &Turn { after, ..Turn::default() });
        }
        step
    }

    /// Changes limits and restart policy in place where they differ.
    pub(super) fn updated(
        &mut self,
        name: &str,
        target: &Target,
        differences: &Differences,
    ) -> Option<StepId> {
        if differences.updated.is_empty() {
            return None;
        }
        let action =
            Action::Update { container: target.clone(), update: Box::new(differences.update.clone()) };
        Some(self.push(action, Some(name), &format!("it has {}", differences.updated.join(", ")), []))
    }

    /// Steps that make what a container needs in order to be made.
    pub(super) fn needs_of_making(&self, wanted: &Wanted) -> BTreeSet<StepId> {
        let networks = wanted.spec.endpoints.keys().filter_map(|network| self.ready_networks.get(network));
        let sources = wanted.spec.mounts.iter().filter_map(|mount| mount.source.as_ref());
        let volumes = sources.filter_map(|source| self.ready_volumes.get(source));
        let joined = wanted.spec.joins().filter_map(|joined| self.ready.get(joined));
        networks.chain(volumes).chain(joined).copied().collect()
    }

    /// A container that does not exist, or not as it should be.
    fn create(
        &mut self,
        name: &'a str,
        service: &'a WantedService,
        (key, wanted): (&'a str, &'a Wanted),
        superseded: &[&'a Container],
        why: &str,
        turn: &Turn,
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
        if let Some(serving) = self.start_first(service, key, wanted, &old) {
            self.see_off((name, wanted), &old, &serving, why);
            let (new, old, free) = (None, serving, needs);
            self.hand_over(&Handover { name, service, key, wanted, new, old, why, turn, free });
            return;
        }
        let held = self.ours().any(|container| container.name == key);
        let created_as = if held { next } else { key.to_owned() };
        needs.extend(self.needs_of_making(wanted));
        let spec = Arc::new(wanted.spec.clone());
        let action = Action::CreateContainer { name: created_as.clone(), spec, carry: carried(wanted, &old) };
        let created = self.push(action, Some(name), why, needs);
        let target = Target { name: created_as.clone(), id: None };
        self.targets.insert(key, target.clone());

        let conditions = self.conditions(service);
        let mut swap = conditions.clone();
        swap.insert(created);
        swap.extend(&turn.needs);
        let gone: Vec<Disposal> = old.iter().map(|old| self.dispose(old, swap.clone(), why)).collect();
        let stopped: Vec<StepId> = gone.iter().filter_map(|gone| gone.stopped).collect();
        for step in &stopped {
            self.defer(*step, turn);
        }
        let mut before_start: BTreeSet<StepId> = stopped.into_iter().collect();
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
        let started = self.push_start(target, name, wanted, "it is new", before_start);
        self.started.entry(name).or_default().insert(started);
    }

    /// Frees a wanted name from a container of ours that has another place or none.
    pub(super) fn free_name(&mut self, name: &str) -> Option<StepId> {
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
        // Most publish nothing, and a pass that finds nothing to do asks for each.
        if wanted.spec.ports.is_empty() {
            return Vec::new();
        }
        let takes = |container: &Container| {
            container.ports.iter().any(|used| {
                let same = |port: &&kedge_compose::model::Port| {
                    port.published.parse() == Ok(used.host_port)
                        && (port.protocol.is_empty() || port.protocol == used.protocol)
                };
                wanted.spec.ports.iter().any(|port| same(&port))
            })
        };
        let is_current = |container: &Container| {
            self.matching
                .places
                .values()
                .any(|place| place.current.as_ref().is_some_and(|(current, _)| current.id == container.id))
        };
        let leaving =
            |container: &&Container| container.id != own && takes(container) && !is_current(container);
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
        let freed = if keep && (old.name.contains(KEPT) || self.renamed.contains(old.id.as_str())) {
            None
        } else if keep {
            Some(self.push(
                Action::Rename { container: target, to: kept_name(old) },
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

/// Why others make way for a container that is what is wanted.
fn replaced_by(current: &Container) -> &'static str {
    if current.name.contains(KEPT) {
        "the deployment goes back to the one before"
    } else {
        "another one takes its place"
    }
}

/// Name of an old container that is kept, or about to go.
pub(super) fn kept_name(old: &Container) -> String {
    let base = old.name.split(KEPT).next().unwrap_or_default();
    format!("{base}{KEPT}{}", old.id.get(..8).unwrap_or(&old.id))
}

/// Anonymous volumes of the container that is replaced, for the places where the new one has anonymous volumes too.
pub(super) fn carried(wanted: &Wanted, old: &[&Container]) -> BTreeMap<String, String> {
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
