//! Undoing an adoption that failed: what was made for it goes, and the containers that were adopted run again under their old
//! names, on their old networks. Volumes and data folders stay, as ever.
//!
//! The adoption's record says how each container was found ([`Found`]); [`way_back`] compares that with what is there now and
//! plans, without I/O. Nothing is waited for and no health is judged: the stack is the customer's again.

use std::collections::{BTreeMap, BTreeSet};

use kedge_compose::model::Attachment;
use serde::{Deserialize, Serialize};

use super::adoption::AdoptionRecord;
use super::phases::{Failed, Job};
use crate::codes;
use crate::engine::observe::observe;
use crate::engine::spec::LABEL_DEPENDS_ON;
use crate::engine::types::{Container, State};
use crate::plan::{Action, Desired, Observed, Plan, Step, StepId, Target};
use crate::problem::Problem;

/// How a container was when it was adopted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// Its name.
    pub name: String,
    /// It ran, or was frozen.
    pub ran: bool,
    /// Networks that it was attached to, by name.
    pub networks: BTreeMap<String, FoundEndpoint>,
}

/// How it was attached to a network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundEndpoint {
    /// Names there.
    pub aliases: BTreeSet<String>,
    /// Fixed IPv4 address.
    pub ipv4_address: Option<String>,
    /// Fixed IPv6 address.
    pub ipv6_address: Option<String>,
}

impl Found {
    /// What has to be known of an inspected container to bring it back.
    pub fn of(container: &Container) -> Self {
        let networks = container.detail.iter().flat_map(|detail| &detail.networks);
        let networks = networks.map(|(name, endpoint)| {
            let found = FoundEndpoint {
                aliases: endpoint.aliases.clone(),
                ipv4_address: endpoint.ipv4_address.clone(),
                ipv6_address: endpoint.ipv6_address.clone(),
            };
            (name.clone(), found)
        });
        Self { name: container.name.clone(), ran: runs(container), networks: networks.collect() }
    }
}

impl Job {
    /// Brings the stack that was adopted back to how it was found.
    ///
    /// # Errors
    /// When the engine refuses a step; done again, it goes on where it was.
    pub(super) async fn as_it_was(&self) -> Result<(), Failed> {
        let world = &self.world;
        let adoption = self.adoption()?;
        let _turn = self.turn.lock().await;
        self.say(format!("starting the compose project {} again as it was", adoption.project));
        let nothing = Desired {
            adopted: adoption.adopted.clone(),
            ..Desired::nothing(&self.record.name, &adoption.project)
        };
        let observed = observe(&*world.engine, &nothing.scope()).await?;
        let plan = way_back(&adoption, &observed);
        let outcome = self.carry_out(&plan).await;
        let failures: Vec<String> = outcome.failures().map(ToString::to_string).collect();
        if failures.is_empty() {
            return Ok(());
        }
        Err(Failed {
            problem: Problem::new(&codes::APPLY, failures.join("; ")),
            passing: true,
            engine_away: outcome.engine_went_away(),
            lacking: false,
            pauses: None,
        })
    }
}

/// Steps from what is there to what was found.
pub(super) fn way_back(adoption: &AdoptionRecord, observed: &Observed) -> Plan {
    let mut way = Way::default();
    let adopted = &adoption.adopted;
    let (found, made): (Vec<&Container>, Vec<&Container>) = observed
        .containers
        .iter()
        .filter(|container| container.deployment() == Some(&adoption.deployment))
        .partition(|container| adopted.containers.contains(&container.id));
    let gone: BTreeSet<StepId> = made
        .into_iter()
        .map(|container| {
            let stopped = runs(container).then(|| way.stop(container, "the adoption failed"));
            let remove = Action::Remove { container: target(container) };
            way.push(remove, container, "the adoption failed", stopped.into_iter().collect())
        })
        .collect();
    let mut started: BTreeMap<&str, StepId> = BTreeMap::new();
    for container in in_order(found) {
        let Some(before) = adoption.found.get(&container.id) else { continue };
        let mut needs = gone.clone();
        if container.name != before.name {
            let rename = Action::Rename { container: target(container), to: before.name.clone() };
            needs.insert(way.push(rename, container, "that was its name", gone.clone()));
        }
        let attached = container.detail.as_ref().map(|detail| &detail.networks);
        for (network, endpoint) in &before.networks {
            if attached.is_none_or(|attached| attached.contains_key(network)) {
                continue;
            }
            let endpoint = Attachment {
                aliases: endpoint.aliases.clone(),
                ipv4_address: endpoint.ipv4_address.clone(),
                ipv6_address: endpoint.ipv6_address.clone(),
                ..Attachment::default()
            };
            let (container_, network) = (target(container), network.clone());
            let connect = Action::Connect { container: container_, network, endpoint: Box::new(endpoint) };
            needs.insert(way.push(connect, container, "it was attached", gone.clone()));
        }
        if before.ran && matches!(container.state, State::Created | State::Exited) {
            let start = Action::Start { container: target(container) };
            let step = way.push(start, container, "it ran before the adoption", needs);
            // One that does not start keeps no other from being tried.
            let earlier = leads(container).filter_map(|lead| started.get(lead).copied()).collect();
            if let Some(step) = way.0.steps.get_mut(step) {
                step.after = earlier;
            }
            started.insert(&container.id, step);
            started.extend(container.service().map(|service| (service, step)));
        } else if !before.ran && runs(container) {
            way.stop(container, "it did not run before the adoption");
        }
    }
    let is_used = |name: &str| adoption.found.values().any(|found| found.networks.contains_key(name));
    for network in &observed.networks {
        let is_made = network.deployment() == Some(&adoption.deployment);
        if is_made && !adopted.networks.contains(&network.id) && !is_used(&network.name) {
            let remove = Action::RemoveNetwork { name: network.name.clone(), id: network.id.clone() };
            way.add(remove, None, "the adoption failed", gone.clone());
        }
    }
    way.0
}

#[derive(Default)]
struct Way(Plan);

impl Way {
    fn push(&mut self, action: Action, of: &Container, why: &str, needs: BTreeSet<StepId>) -> StepId {
        self.add(action, of.service(), why, needs)
    }

    fn stop(&mut self, container: &Container, why: &str) -> StepId {
        let mut needs = BTreeSet::new();
        if container.state == State::Paused {
            let thaw = Action::Unpause { container: target(container) };
            needs.insert(self.push(thaw, container, "a frozen container cannot be stopped", BTreeSet::new()));
        }
        self.push(Action::Stop { container: target(container) }, container, why, needs)
    }

    fn add(&mut self, action: Action, service: Option<&str>, why: &str, needs: BTreeSet<StepId>) -> StepId {
        let (id, service, reason) = (self.0.steps.len(), service.map(str::to_owned), why.to_owned());
        self.0.steps.push(Step { id, action, service, reason, needs, after: BTreeSet::new() });
        id
    }
}

fn runs(container: &Container) -> bool {
    matches!(container.state, State::Running | State::Restarting | State::Paused)
}

fn target(container: &Container) -> Target {
    Target { name: container.name.clone(), id: Some(container.id.clone()) }
}

/// Those that others depend on, or whose namespaces they join, first; within a circle as they come.
fn in_order(mut left: Vec<&Container>) -> Vec<&Container> {
    let mut ordered = Vec::new();
    while !left.is_empty() {
        let waits = |container: &&Container| {
            leads(container).any(|lead| {
                left.iter().any(|other| {
                    other.id != container.id && (other.id == lead || other.service() == Some(lead))
                })
            })
        };
        let next = left.iter().position(|container| !waits(container)).unwrap_or_default();
        ordered.push(left.remove(next));
    }
    ordered
}

/// Services and container IDs that a container starts after, as docker compose's label and its namespaces say.
fn leads(container: &Container) -> impl Iterator<Item = &str> {
    let depends_on = container.labels.get(LABEL_DEPENDS_ON).map(String::as_str).unwrap_or_default();
    let services = depends_on.split(',').filter_map(|entry| entry.split(':').next());
    let spec = container.detail.as_ref().map(|detail| &detail.spec);
    let modes = spec.into_iter().flat_map(|spec| [&spec.network_mode, &spec.pid, &spec.ipc]);
    services.chain(modes.flatten().filter_map(|mode| mode.strip_prefix("container:")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::spec::{LABEL_DEPLOYMENT, LABEL_SERVICE};
    use crate::engine::types::{Detail, Endpoint, Network};
    use crate::plan::Adopted;

    fn container(name: &str, service: &str, state: State, networks: &[&str]) -> Container {
        let networks = networks.iter().map(|name| ((*name).to_owned(), Endpoint::default()));
        Container {
            id: format!("id of {name}"),
            name: name.to_owned(),
            state,
            labels: [(LABEL_SERVICE, service), (LABEL_DEPLOYMENT, "shop")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            detail: Some(Detail { networks: networks.collect(), ..Detail::default() }),
            ..Container::default()
        }
    }

    fn network(name: &str) -> Network {
        let labels = [(LABEL_DEPLOYMENT.to_owned(), "shop".to_owned())].into();
        Network { id: format!("id of {name}"), name: name.to_owned(), labels, ..Network::default() }
    }

    #[test]
    fn what_was_made_goes_and_what_was_found_comes_back_with_name_and_networks_after_what_it_depends_on() {
        let (mut web, db) =
            (container("web", "web", State::Running, &["a"]), container("db", "db", State::Running, &["a"]));
        web.labels.insert(LABEL_DEPENDS_ON.to_owned(), "db:service_started:false".to_owned());
        let idle = container("idle", "idle", State::Exited, &["a"]);
        let found = [&web, &db, &idle].map(|container| (container.id.clone(), Found::of(container)));
        let adoption = AdoptionRecord {
            deployment: "shop".to_owned(),
            adopted: Adopted {
                containers: found.iter().map(|(id, _)| id.clone()).collect(),
                ..Adopted::default()
            },
            found: found.into(),
            ..AdoptionRecord::default()
        };
        let kept = |container: &Container| Container {
            name: format!("{}.kept-1", container.name),
            state: State::Exited,
            detail: Some(Detail::default()),
            ..container.clone()
        };
        let observed = Observed {
            containers: vec![
                kept(&web),
                kept(&db),
                Container { state: State::Running, ..idle },
                container("new", "web", State::Running, &["a", "b"]),
            ],
            networks: vec![network("a"), network("b")],
            ..Observed::default()
        };
        let plan = way_back(&adoption, &observed);
        let steps: Vec<String> = plan.steps.iter().map(|step| step.action.to_string()).collect();
        assert_eq!(
            steps,
            [
                "stop new",
                "remove new",
                "rename db.kept-1 to db",
                "connect db.kept-1 to a",
                "start db.kept-1",
                "rename web.kept-1 to web",
                "connect web.kept-1 to a",
                "start web.kept-1",
                "stop idle",
                "remove network b",
            ]
        );
        assert_eq!(plan.steps[7].after, [4].into());
        assert_eq!(plan.steps[7].needs, [1, 5, 6].into());
    }

    #[test]
    fn what_is_as_it_was_needs_nothing() {
        let web = container("web", "web", State::Running, &["a"]);
        let adoption = AdoptionRecord {
            deployment: "shop".to_owned(),
            adopted: Adopted { containers: [web.id.clone()].into(), ..Adopted::default() },
            found: [(web.id.clone(), Found::of(&web))].into(),
            ..AdoptionRecord::default()
        };
        let observed = Observed { containers: vec![web], ..Observed::default() };
        assert!(way_back(&adoption, &observed).is_empty());
    }
}
