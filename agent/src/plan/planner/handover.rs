//! Start-first: the new container of a place takes over while the old one still serves.
//!
//! Nothing is remembered between two plans. Where a replacement stands is read off the two containers:
//!
//! | the new one | the old one | what comes next |
//! |---|---|---|
//! | is not there | serves | it is made under an interim name, and known by no other |
//! | does not run | serves | it starts |
//! | runs, without its names | serves | it gets well, and then its names; DNS leads to both |
//! | has its names | serves, in its place | it proves itself, and they exchange places |
//! | has its place | serves | the old one loses its names, and goes on with what it has and what still comes |
//! | has its place | has no names | the old one ends what it has begun, is stopped, and removed or kept |
//!
//! *Names* are aliases in a network, which DNS knows; they come and go only by leaving the network and joining it again. Where
//! the network lets a container keep its address, its connections outlive that. Elsewhere the new one begins anew, and the
//! old one is stopped as it is: it closes its listener while DNS still leads to it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use kedge_compose::model::Attachment;

use super::container::{Run, carried, decide, kept_name};
use super::{Planner, Turn};
use crate::engine::types::{Container, State};
use crate::plan::desired::{Wanted, WantedService};
use crate::plan::differ::Differences;
use crate::plan::rollout::{Circumstances, Order, choose};
use crate::plan::step::{Action, StepId, Target, Until};
use crate::plan::{KEPT, NEXT};

/// Time between the loss of a container's names and its end. Whoever has looked up its address just before is let in: those who
/// remember it for a second, and a connection that met the moment of rejoining, which TCP begins again one second later.
const DRAIN: Duration = Duration::from_secs(3);

/// A place whose container is to be replaced while it serves.
pub(super) struct Handover<'a, 'b> {
    pub(super) name: &'a str,
    pub(super) service: &'a WantedService,
    pub(super) key: &'a str,
    pub(super) wanted: &'a Wanted,
    /// The new container, if it is there already.
    pub(super) new: Option<(&'a Container, &'b Differences)>,
    /// Those that serve.
    pub(super) old: Vec<&'a Container>,
    pub(super) why: &'b str,
    pub(super) turn: &'b Turn,
    /// Steps after which the interim name is free.
    pub(super) free: BTreeSet<StepId>,
}

/// Whether a container is reached by names that the wanted one is to have.
pub(super) fn serves(container: &Container, wanted: &Wanted) -> bool {
    container.state == State::Running
        && wanted.spec.endpoints.iter().any(|(network, endpoint)| has_names(container, network, endpoint))
}

fn has_names(container: &Container, network: &str, endpoint: &Attachment) -> bool {
    let seen = container.detail.as_ref().and_then(|detail| detail.networks.get(network));
    seen.is_some_and(|seen| !seen.aliases.is_disjoint(&endpoint.aliases))
}

fn nameless(endpoint: &Attachment) -> Attachment {
    Attachment { aliases: BTreeSet::new(), ..endpoint.clone() }
}

impl<'a> Planner<'a> {
    /// Those among the superseded that serve, if the new one is to take over from them while they do.
    pub(super) fn start_first(
        &mut self,
        service: &WantedService,
        key: &str,
        wanted: &Wanted,
        superseded: &[&'a Container],
    ) -> Option<Vec<&'a Container>> {
        let old: Vec<&Container> = superseded.iter().filter(|old| serves(old, wanted)).copied().collect();
        if old.is_empty() {
            return None;
        }
        let around = Circumstances {
            is_joined: self
                .desired
                .containers
                .values()
                .any(|other| other.spec.joins().any(|joined| joined == key)),
            keeps_addresses: wanted.spec.endpoints.keys().all(|network| self.keeps_addresses(network)),
        };
        let rollout = self.rollout(service);
        // One that must end for somebody else's sake, such as a port that moves, cannot be waited for.
        let mut is_start_first = !old.iter().any(|old| self.disposed.contains_key(old.id.as_str()));
        for old in &old {
            let choice = choose(rollout, service, wanted, old, around);
            is_start_first &= choice.order == Order::StartFirst;
            if let Some(note) = choice.note.filter(|note| !self.plan.notes.contains(note)) {
                self.plan.notes.push(note);
            }
        }
        is_start_first.then_some(old)
    }

    /// Whether an old container has handed over to one that runs, and only ends what it has begun.
    pub(super) fn is_leaving(&self, old: &Container, successor: &Container, wanted: &Wanted) -> bool {
        let is_running = old.state == State::Running && successor.state == State::Running;
        let mut networks = wanted.spec.endpoints.keys();
        is_running
            && old.name.contains(KEPT)
            && !serves(old, wanted)
            && networks.any(|network| self.keeps_addresses(network))
    }

    /// Ends those that others serve in place of.
    pub(super) fn see_off(
        &mut self,
        of: (&str, &Wanted),
        superseded: &[&'a Container],
        serving: &[&'a Container],
        why: &str,
    ) {
        for idle in superseded.iter().filter(|one| !serving.iter().any(|other| other.id == one.id)) {
            let needs = self.drained_if_leaving(of, idle, serving, BTreeSet::new());
            self.dispose(idle, needs, why);
        }
    }

    /// Steps after which an old container may end: one that has just handed over gets time for it.
    pub(super) fn drained_if_leaving(
        &mut self,
        (name, wanted): (&str, &Wanted),
        old: &Container,
        serving: &[&Container],
        needs: BTreeSet<StepId>,
    ) -> BTreeSet<StepId> {
        match serving.iter().find(|successor| self.is_leaving(old, successor, wanted)) {
            Some(successor) => {
                let successor = self.target(successor);
                [self.drain(name, old, &successor, needs)].into()
            }
            None => needs,
        }
    }

    fn drain(&mut self, name: &str, old: &Container, successor: &Target, needs: BTreeSet<StepId>) -> StepId {
        let action =
            Action::Drain { container: self.target(old), successor: successor.clone(), lasts: DRAIN };
        self.push(action, Some(name), "its successor has taken over", needs)
    }

    pub(super) fn keeps_addresses(&self, name: &str) -> bool {
        let found = self.observed.networks.iter().find(|network| network.name == name);
        found.is_some_and(|network| network.keeps_addresses()) && !self.replaced_networks.contains(name)
    }

    /// Plans what is left of it.
    pub(super) fn hand_over(&mut self, place: &Handover<'a, '_>) {
        let (name, key, wanted) = (place.name, place.key, place.wanted);
        let (target, running) = self.running(place);
        let proven = self.named(place, &target, running);
        self.started.entry(name).or_default().insert(proven);
        let exchanged = self.exchanged(place, &target, proven);
        for old in &place.old {
            let mut drained = exchanged.clone();
            for (network, endpoint) in &wanted.spec.endpoints {
                if has_names(old, network, endpoint) && self.keeps_addresses(network) {
                    let why = "its successor has taken over";
                    let action = rejoin(self.target(old), network, &nameless(endpoint), true);
                    drained.insert(self.push(action, Some(name), why, exchanged.clone()));
                }
            }
            if drained != exchanged {
                drained = [self.drain(name, old, &target, drained)].into();
            }
            self.dispose(old, drained, place.why);
        }
        self.targets.insert(key, target);
    }

    /// The new container, running without its names unless it has them and runs; and what must be done before.
    fn running(&mut self, place: &Handover<'a, '_>) -> (Target, BTreeSet<StepId>) {
        let (name, service, key, wanted) = (place.name, place.service, place.key, place.wanted);
        let (target, run, mut before) = match place.new {
            None => {
                self.anew.insert(name);
                let mut spec = wanted.spec.clone();
                spec.endpoints.values_mut().for_each(|endpoint| *endpoint = nameless(endpoint));
                let created_as = format!("{key}{NEXT}");
                let mut needs = self.needs_of_making(wanted);
                needs.extend(&place.free);
                let carry = carried(wanted, &place.old);
                let action =
                    Action::CreateContainer { name: created_as.clone(), spec: Arc::new(spec), carry };
                let created = self.push(action, Some(name), place.why, needs);
                (Target { name: created_as, id: None }, Run::Start("it is new"), BTreeSet::from([created]))
            }
            Some((new, differences)) => {
                let run = decide(wanted, service, new, self.memory);
                let before = self.mended(place, new, differences);
                (self.target(new), run, before)
            }
        };
        before.extend(&place.turn.needs);
        let started = match run {
            Run::Leave => return (target, before),
            Run::Start(why) => {
                before.extend(self.conditions(service));
                self.push_start(target.clone(), name, wanted, why, before)
            }
            Run::Unpause => {
                let action = Action::Unpause { container: target.clone() };
                self.push(action, Some(name), "it was paused", before)
            }
        };
        self.defer(started, place.turn);
        (target, [started].into())
    }

    /// What is amiss with a new container that is there: limits, networks; and names that it must not have yet.
    fn mended(
        &mut self,
        place: &Handover<'a, '_>,
        new: &'a Container,
        differences: &Differences,
    ) -> BTreeSet<StepId> {
        let (name, target) = (place.name, self.target(new));
        let mut steps: BTreeSet<StepId> = self.updated(name, &target, differences).into_iter().collect();
        for network in &differences.disconnect {
            if !place.wanted.spec.endpoints.contains_key(network) {
                let action = Action::Disconnect { container: target.clone(), network: network.clone() };
                steps.insert(self.push(action, Some(name), "it does not belong there", []));
            }
        }
        for (network, endpoint) in &place.wanted.spec.endpoints {
            let attached = new.detail.as_ref().is_some_and(|detail| detail.networks.contains_key(network));
            let action = if !attached {
                let (container, network) = (target.clone(), network.clone());
                Action::Connect { container, network, endpoint: Box::new(nameless(endpoint)) }
            } else if new.state != State::Running && has_names(new, network, endpoint) {
                rejoin(target.clone(), network, &nameless(endpoint), false)
            } else {
                continue;
            };
            let needs = self.ready_networks.get(network).copied();
            steps.insert(self.push(action, Some(name), "it has to get well before it is known", needs));
        }
        steps
    }

    /// Gives the new container the names that it lacks once it is well. Gives the step after which it has proven itself.
    fn named(&mut self, place: &Handover<'a, '_>, target: &Target, running: BTreeSet<StepId>) -> StepId {
        let (name, service, wanted) = (place.name, place.service, place.wanted);
        let rollout = self.rollout(service);
        let (proof, monitor) = (rollout.proof(wanted), rollout.monitor.unwrap_or_default());
        let has_all = |network: &str, endpoint: &Attachment| {
            let seen = place.new.filter(|(new, _)| new.state == State::Running);
            let seen = seen.and_then(|(new, _)| new.detail.as_ref()?.networks.get(network));
            seen.is_some_and(|seen| endpoint.aliases.is_subset(&seen.aliases))
        };
        let lacking: Vec<(&String, &Attachment)> =
            wanted.spec.endpoints.iter().filter(|(network, endpoint)| !has_all(network, endpoint)).collect();
        let mut chain = running;
        if !lacking.is_empty() {
            let well =
                self.push(wait(target, proof), Some(name), "it must be well before it is known", chain);
            chain = [well].into();
        }
        for (network, endpoint) in lacking {
            let action = rejoin(target.clone(), network, endpoint, self.keeps_addresses(network));
            chain = [self.push(action, Some(name), "it is well", chain)].into();
        }
        self.push(wait(target, monitor), Some(name), "it takes over only if it stays well", chain)
    }

    /// The old one leaves the place, the new one takes it: their names as containers. Both serve meanwhile.
    fn exchanged(&mut self, place: &Handover<'a, '_>, target: &Target, proven: StepId) -> BTreeSet<StepId> {
        let (name, key) = (place.name, place.key);
        let mut free = BTreeSet::from([proven]);
        for old in place.old.iter().filter(|old| old.name == key) {
            let action = Action::Rename { container: self.target(old), to: kept_name(old) };
            free.insert(self.push(action, Some(name), "its successor takes its place", [proven]));
            self.renamed.insert(&old.id);
        }
        if target.name == key {
            return free;
        }
        if !place.old.iter().any(|old| old.name == key) {
            free.extend(self.free_name(key));
        }
        let action = Action::Rename { container: target.clone(), to: key.to_owned() };
        let renamed = self.push(action, Some(name), "it takes its own name", free);
        self.ready.insert(key, renamed);
        [renamed].into()
    }
}

fn rejoin(container: Target, network: &str, endpoint: &Attachment, keep_address: bool) -> Action {
    Action::Rejoin {
        container,
        network: network.to_owned(),
        endpoint: Box::new(endpoint.clone()),
        keep_address,
    }
}

fn wait(target: &Target, stays: Duration) -> Action {
    Action::Wait { containers: vec![target.clone()], until: Until::Healthy, stays }
}
