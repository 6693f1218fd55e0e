//! Planning: what must be done to get from what the engine holds to what it should hold. Pure: no clock, no I/O, no
//! failure. What cannot be done is a [`Blocked`] entry of the result, and the rest is planned all the same.
//!
//! - [`desired`] compiles a compose project into names and specs; [`differ`] tells by meaning whether a container is
//!   what is wanted; [`plan`] puts both together into a graph of steps.
//! - *Ours* is what carries our deployment's label. Nothing else is ever touched, and no plan removes a volume.
//! - A container is replaced in one of two orders, see [`rollout`].
//! - There is no barrier: a service's pipeline goes on as soon as its own dependencies are met. All containers are
//!   created early, in parallel; only starting waits for conditions. An old container runs on until its successor
//!   exists and the successor's dependencies are met.
//! - Planning is level-triggered: a plan that was interrupted anywhere is taken up by planning again.
//! - Old containers can be kept, stopped, until the new ones have proven themselves ([`Policy::keep_superseded`]); a plan
//!   towards the previous generation then finds them and starts them again.

pub mod abilities;
pub mod desired;
pub mod differ;
pub mod impact;
mod matching;
mod planner;
mod resources;
pub mod rollout;
pub mod step;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::engine::types::{Container, Network, Volume};

pub use desired::Desired;
pub use step::{Action, Blocked, Plan, Step, StepId, Target, Until, What};

/// What to look for in the engine: everything of the deployment and the project, and whoever bears a wanted name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scope {
    /// Deployment whose label marks what is ours.
    pub deployment: String,
    /// Compose project.
    pub project: String,
    /// Wanted container names.
    pub containers: BTreeSet<String>,
    /// Wanted network names.
    pub networks: BTreeSet<String>,
    /// Wanted volume names.
    pub volumes: BTreeSet<String>,
    /// What is ours though its labels do not say so.
    pub adopted: Adopted,
}

/// What a deployment has taken over from another program. Observing puts our label on it; nothing in here looks at it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Adopted {
    /// IDs.
    pub containers: BTreeSet<String>,
    /// IDs.
    pub networks: BTreeSet<String>,
    /// Names.
    pub volumes: BTreeSet<String>,
}

impl Adopted {
    /// Whether both name the same object.
    pub fn meets(&self, other: &Self) -> bool {
        !self.containers.is_disjoint(&other.containers)
            || !self.networks.is_disjoint(&other.networks)
            || !self.volumes.is_disjoint(&other.volumes)
    }
}

/// What the engine holds within a [`Scope`].
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Observed {
    /// Containers, with detail where they are ours.
    pub containers: Vec<Container>,
    /// Networks.
    pub networks: Vec<Network>,
    /// Volumes.
    pub volumes: Vec<Volume>,
}

/// What the engine cannot tell and the store remembers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Memory {
    /// Digests of specs whose one-shot run has succeeded, by service.
    pub done: BTreeMap<String, BTreeSet<String>>,
    /// Services that keep failing and are not to be started for now, with the reason.
    pub held: BTreeMap<String, String>,
}

impl Memory {
    /// Whether this one-shot has already succeeded with this very spec.
    pub fn is_done(&self, wanted: &desired::Wanted) -> bool {
        self.done.get(&wanted.service).is_some_and(|done| done.contains(&wanted.digest))
    }
}

/// How to proceed where there is a choice.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Policy {
    /// Containers that are replaced or no longer wanted are stopped and kept until a plan without this flag removes them.
    pub keep_superseded: bool,
    /// The deployment goes back to a generation before: `deploy.rollback_config` applies.
    pub going_back: bool,
}

/// Suffix of a container that is to take another one's name.
pub const NEXT: &str = ".next";
/// Infix of a kept container's name, followed by the start of its ID.
pub const KEPT: &str = ".kept-";

/// Plans the way from observed to desired.
pub fn plan(desired: &Desired, observed: &Observed, memory: &Memory, policy: Policy) -> Plan {
    planner::Planner::new(desired, observed, memory, policy).run()
}

/// One-shot runs that have succeeded as observed: digests by service, for [`Memory::done`].
pub fn finished(desired: &Desired, observed: &Observed) -> BTreeMap<String, BTreeSet<String>> {
    let mut finished: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for wanted in desired.containers.values() {
        let is_job = desired.services.get(&wanted.service).is_some_and(|service| service.is_job);
        let succeeded = |container: &&Container| {
            container.service() == Some(&wanted.service)
                && container.number() == Some(wanted.number)
                && container.labels.get(crate::engine::spec::LABEL_SPEC) == Some(&wanted.digest)
                && container.state == crate::engine::types::State::Exited
                && container.exit_code == Some(0)
        };
        if is_job && observed.containers.iter().any(|container| succeeded(&container)) {
            finished.entry(wanted.service.clone()).or_default().insert(wanted.digest.clone());
        }
    }
    finished
}
