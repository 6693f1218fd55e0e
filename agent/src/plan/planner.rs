//! Puts steps together, service by service in the order of their dependencies.

mod container;
mod handover;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kedge_compose::model::{Condition, Dependency};

use super::desired::{Desired, WantedService, is_owned};
use super::matching::{self, Matching};
use super::resources::whose;
use super::rollout::{OnFailure, Rollout};
use super::step::{Action, Plan, Step, StepId, Target, Until, What};
use super::{Memory, Observed, Policy};
use crate::engine::types::{Container, Health, State};

/// The plan in the making.
pub(super) struct Planner<'a> {
    pub(super) desired: &'a Desired,
    pub(super) observed: &'a Observed,
    memory: &'a Memory,
    pub(super) policy: Policy,
    pub(super) plan: Plan,
    matching: Matching<'a>,
    order: Vec<&'a str>,
    /// Steps that make networks and volumes, by name.
    pub(super) ready_networks: BTreeMap<String, StepId>,
    pub(super) ready_volumes: BTreeMap<String, StepId>,
    pub(super) replaced_networks: BTreeSet<String>,
    pub(super) blocked_networks: BTreeSet<String>,
    pub(super) blocked_volumes: BTreeSet<String>,
    blocked_services: BTreeSet<&'a str>,
    /// Step after which a wanted container exists under its own name.
    ready: BTreeMap<&'a str, StepId>,
    /// What steps call a wanted container.
    targets: BTreeMap<&'a str, Target>,
    /// Steps that start a service's containers.
    started: BTreeMap<&'a str, BTreeSet<StepId>>,
    /// Services with a container made anew.
    anew: BTreeSet<&'a str>,
    waits: BTreeMap<(&'a str, Until), StepId>,
    /// Steps that stop an old container and that free its name, by ID.
    disposed: BTreeMap<&'a str, Disposal>,
    /// Old containers, by ID, that this plan gives the name of a kept one.
    renamed: BTreeSet<&'a str>,
    /// The last step that starts a container whose host port the engine picks from a range.
    last_ranged: Option<StepId>,
}

/// A container of which the steps are planned, and those among them that start it.
type Begun<'a> = (&'a String, BTreeSet<StepId>);

/// What has to be over before the next container of a service is replaced.
#[derive(Debug, Clone, Default)]
struct Turn {
    /// Steps that must have succeeded.
    needs: BTreeSet<StepId>,
    /// Steps that must have ended.
    after: BTreeSet<StepId>,
}

/// What became of an old container.
#[derive(Debug, Clone, Copy, Default)]
struct Disposal {
    /// After this it no longer runs; `None` if it does not now.
    stopped: Option<StepId>,
    /// After this its name is free; `None` if it is kept under a name of its own already.
    freed: Option<StepId>,
}

impl<'a> Planner<'a> {
    pub(super) fn new(
        desired: &'a Desired,
        observed: &'a Observed,
        memory: &'a Memory,
        policy: Policy,
    ) -> Self {
        let order = order(&desired.services);
        let matching = matching::sort(desired, observed, &order, memory);
        Self {
            desired,
            observed,
            memory,
            policy,
            plan: Plan::default(),
            matching,
            order,
            ready_networks: BTreeMap::new(),
            ready_volumes: BTreeMap::new(),
            replaced_networks: BTreeSet::new(),
            blocked_networks: BTreeSet::new(),
            blocked_volumes: BTreeSet::new(),
            blocked_services: BTreeSet::new(),
            ready: BTreeMap::new(),
            targets: BTreeMap::new(),
            started: BTreeMap::new(),
            anew: BTreeSet::new(),
            waits: BTreeMap::new(),
            disposed: BTreeMap::new(),
            renamed: BTreeSet::new(),
            last_ranged: None,
        }
    }

    pub(super) fn run(mut self) -> Plan {
        self.volumes();
        self.networks();
        for container in std::mem::take(&mut self.matching.surplus) {
            self.dispose(container, BTreeSet::new(), "the service has fewer containers now");
        }
        for name in std::mem::take(&mut self.order) {
            let service = &self.desired.services[name];
            if let Some((what, why)) = self.obstacle(name, service) {
                self.plan.blocked.push(super::Blocked { what, name: name.to_owned(), why });
                self.blocked_services.insert(name);
            } else {
                self.service(name, service);
            }
        }
        // Whatever an old service did for others, it does until the new ones run.
        let all_started: BTreeSet<StepId> = self.started.values().flatten().copied().collect();
        for container in std::mem::take(&mut self.matching.orphans) {
            self.dispose(container, all_started.clone(), "the release has no such service any more");
        }
        self.orphan_networks();
        self.plan
    }

    /// Adds a step.
    pub(super) fn push(
        &mut self,
        action: Action,
        service: Option<&str>,
        reason: &str,
        needs: impl IntoIterator<Item = StepId>,
    ) -> StepId {
        let id = self.plan.steps.len();
        let needs = needs.into_iter().collect();
        self.plan.steps.push(Step {
            id,
            action,
            service: service.map(str::to_owned),
            reason: reason.to_owned(),
            needs,
            after: BTreeSet::new(),
        });
        id
    }

    /// Lets a step wait for its turn. One that was planned before that, for somebody else's sake, does not.
    fn defer(&mut self, step: StepId, turn: &Turn) {
        let earlier = |others: &BTreeSet<StepId>| others.range(..step).copied().collect::<Vec<_>>();
        let (needs, after) = (earlier(&turn.needs), earlier(&turn.after));
        if let Some(step) = self.plan.steps.get_mut(step) {
            step.needs.extend(needs);
            step.after.extend(after);
        }
    }

    /// How the service is updated, in the direction in which this plan goes.
    fn rollout<'s>(&self, service: &'s WantedService) -> &'s Rollout {
        service.rollout(self.policy.going_back)
    }

    /// How steps name an observed container.
    pub(super) fn target(&self, container: &Container) -> Target {
        Target { name: container.name.clone(), id: Some(container.id.clone()) }
    }

    /// All containers of the deployment.
    pub(super) fn ours(&self) -> impl Iterator<Item = &'a Container> + use<'a> {
        let deployment = &self.desired.deployment;
        self.observed.containers.iter().filter(move |container| is_owned(&container.labels, deployment))
    }

    /// What keeps a service from being planned at all.
    fn obstacle(&self, name: &str, service: &WantedService) -> Option<(What, String)> {
        for container in &service.containers {
            if let Some(other) = self.matching.foreign.get(container.as_str()) {
                return Some((
                    What::ContainerName,
                    format!("{container}: {}", whose(other.deployment(), "container")),
                ));
            }
            let spec = &self.desired.containers.get(container)?.spec;
            if let Some(network) =
                spec.endpoints.keys().find(|network| self.blocked_networks.contains(*network))
            {
                return Some((What::Dependent, format!("it needs the network {network}")));
            }
            let sources = spec.mounts.iter().filter_map(|mount| mount.source.as_ref());
            if let Some(volume) = sources.into_iter().find(|source| self.blocked_volumes.contains(*source)) {
                return Some((What::Dependent, format!("it needs the volume {volume}")));
            }
        }
        if !self.has_work(service) {
            return None;
        }
        if let Some(why) = self.memory.held.get(name) {
            return Some((What::Held, why.clone()));
        }
        let blocked = |on: &&String| self.blocked_services.contains(on.as_str());
        let required = |(on, how): (&'a String, &Dependency)| how.required.then_some(on);
        let dependencies = self.desired.services.get_key_value(name).map(|(_, service)| &service.depends_on);
        let on = dependencies?.iter().filter_map(required).find(blocked)?;
        Some((What::Dependent, format!("it depends on {on}")))
    }

    /// Whether something of the service would be started or made anew.
    fn has_work(&self, service: &WantedService) -> bool {
        service.containers.iter().any(|name| {
            let (Some(wanted), Some(place)) =
                (self.desired.containers.get(name), self.matching.places.get(name.as_str()))
            else {
                return false;
            };
            match &place.current {
                Some((current, _)) => {
                    container::decide(wanted, service, current, self.memory) != container::Run::Leave
                }
                None => !self.memory.is_done(wanted),
            }
        })
    }

    /// Containers that are replaced while they run take turns, so that the others go on; those that do not run come first, all
    /// at once.
    fn service(&mut self, name: &'a str, service: &'a WantedService) {
        let runs = |old: &&Container| matches!(old.state, State::Running | State::Restarting | State::Paused);
        let wanted = |key: &str| self.desired.containers.get(key);
        let is_replaced = |key: &str| {
            let (Some(wanted), Some(place)) = (wanted(key), self.matching.places.get(key)) else {
                return false;
            };
            let is_leaving = |old: &Container| {
                place.current.as_ref().is_some_and(|(new, _)| self.is_leaving(old, new, wanted))
            };
            !service.may_end(wanted) && place.superseded.iter().any(|old| runs(old) && !is_leaving(old))
        };
        let (replaced, others): (Vec<&String>, Vec<&String>) =
            service.containers.iter().partition(|key| is_replaced(key));
        let is_away = |key: &&String| {
            let current = self.matching.places.get(key.as_str()).and_then(|place| place.current.as_ref());
            let is_well = |health| matches!(health, Health::None | Health::Healthy);
            current.is_none_or(|(current, _)| !runs(current) || !is_well(current.health))
        };
        let away: BTreeSet<&String> = others.iter().copied().filter(is_away).collect();
        let mut turn = Turn::default();
        let mut begun = self.batch(name, service, &others, &turn);
        begun.retain(|(key, started)| away.contains(key) || !started.is_empty());
        if !replaced.is_empty() {
            turn = self.turn_after(name, service, &begun, turn);
        }
        let mut batches = replaced.chunks(self.rollout(service).parallelism.max(1)).peekable();
        while let Some(batch) = batches.next() {
            let begun = self.batch(name, service, batch, &turn);
            if batches.peek().is_some() {
                turn = self.turn_after(name, service, &begun, turn);
            }
        }
    }

    /// Plans containers that have the same turn. Gives each with the steps that start it.
    fn batch(
        &mut self,
        name: &'a str,
        service: &'a WantedService,
        keys: &[&'a String],
        turn: &Turn,
    ) -> Vec<Begun<'a>> {
        let mut begun = Vec::new();
        for key in keys {
            let first = self.plan.steps.len();
            self.container(name, service, key, turn);
            let started = self.started.get(name).into_iter().flat_map(|steps| steps.range(first..));
            begun.push((*key, started.copied().collect()));
        }
        begun
    }

    /// The turn of those that come after these, whose own turn it was before.
    fn turn_after(&mut self, name: &str, service: &WantedService, begun: &[Begun<'a>], before: Turn) -> Turn {
        let rollout = self.rollout(service);
        let proof = |key: &str| self.desired.containers.get(key).map(|wanted| rollout.proof(wanted));
        let proof = begun.iter().filter_map(|(key, _)| proof(key)).max().unwrap_or_default();
        // A wait ends with the first failure that it meets. Where that is borne, each of the others is still waited for.
        let together = if rollout.on_failure == OnFailure::Continue { 1 } else { begun.len().max(1) };
        let mut waits = BTreeSet::new();
        for some in begun.chunks(together) {
            let target = |(key, _): &Begun<'a>| self.targets.get(key.as_str()).cloned();
            let containers: Vec<Target> = some.iter().filter_map(target).collect();
            if containers.is_empty() {
                continue;
            }
            let action = Action::Wait { containers, until: Until::Healthy, stays: proof + rollout.delay };
            let started = some.iter().flat_map(|(_, started)| started);
            let needs: BTreeSet<StepId> = started.chain(&before.needs).copied().collect();
            waits.insert(self.push(action, Some(name), "the next one follows when it is well", needs));
        }
        if waits.is_empty() {
            return before;
        }
        match rollout.on_failure {
            // A failure can end a wait before its turn, so that it does not stand for those before it.
            OnFailure::Continue => Turn { after: &before.after | &waits, ..before },
            OnFailure::Rollback | OnFailure::Pause => Turn { needs: waits, ..before },
        }
    }

    /// Steps after which everything that the service depends on is as it must be. Waits are planned once each.
    fn conditions(&mut self, service: &'a WantedService) -> BTreeSet<StepId> {
        let mut steps = BTreeSet::new();
        for (on, dependency) in &service.depends_on {
            let Some((on, dependency_service)) = self.desired.services.get_key_value(on) else { continue };
            // Blocked and not required: it is not waited for.
            if self.blocked_services.contains(on.as_str()) {
                continue;
            }
            let started = self.started.get(on.as_str()).cloned().unwrap_or_default();
            let until = match dependency.condition {
                Condition::ServiceStarted => {
                    steps.extend(started);
                    continue;
                }
                Condition::ServiceHealthy => Until::Healthy,
                Condition::ServiceCompletedSuccessfully => Until::Completed,
            };
            if started.is_empty()
                && dependency_service.containers.iter().all(|name| self.has_reached(name, until))
            {
                continue;
            }
            if let Some(step) = self.waits.get(&(on.as_str(), until)) {
                steps.insert(*step);
                continue;
            }
            let containers = dependency_service
                .containers
                .iter()
                .filter_map(|name| self.targets.get(name.as_str()).cloned())
                .collect();
            let action = Action::Wait { containers, until, stays: Duration::ZERO };
            let step = self.push(action, Some(on), "others depend on it", started);
            self.waits.insert((on, until), step);
            steps.insert(step);
        }
        steps
    }

    /// Whether an observed container that no step disturbs is already where it should get to.
    fn has_reached(&self, name: &str, until: Until) -> bool {
        let Some(wanted) = self.desired.containers.get(name) else { return true };
        let current = self.matching.places.get(name).and_then(|place| place.current.as_ref());
        match (until, current) {
            (Until::Completed, _) if self.memory.is_done(wanted) => true,
            (Until::Completed, Some((container, _))) => {
                container.state == State::Exited && container.exit_code == Some(0)
            }
            (Until::Healthy, Some((container, _))) => {
                container.state == State::Running && container.health == Health::Healthy
            }
            (_, None) => false,
        }
    }
}

/// Services so that each stands after those it depends on. A circle, which compiling refuses, is cut where it is met.
fn order(services: &BTreeMap<String, WantedService>) -> Vec<&str> {
    fn visit<'a>(
        name: &'a str,
        services: &'a BTreeMap<String, WantedService>,
        seen: &mut BTreeSet<&'a str>,
        order: &mut Vec<&'a str>,
    ) {
        let Some(service) = services.get(name) else { return };
        if seen.insert(name) {
            service.depends_on.keys().for_each(|on| visit(on, services, seen, order));
            order.push(name);
        }
    }
    let (mut seen, mut order) = (BTreeSet::new(), Vec::new());
    services.keys().for_each(|name| visit(name, services, &mut seen, &mut order));
    order
}
