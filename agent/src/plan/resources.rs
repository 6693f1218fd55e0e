//! Networks and volumes: created where they are missing, networks replaced where they differ, volumes never removed.

use super::desired::is_owned;
use super::planner::Planner;
use super::step::{Action, Blocked, StepId, What};
use crate::engine::spec::NetworkSpec;
use crate::engine::types::Network;

impl Planner<'_> {
    /// Plans volumes. Ours that differ keep their data and are noted.
    pub(super) fn volumes(&mut self) {
        for (name, spec) in &self.desired.volumes {
            let found = self.observed.volumes.iter().find(|volume| &volume.name == name);
            match (found, spec.external) {
                (Some(_), true) => {}
                (None, true) => self.block(
                    What::ExternalVolume,
                    name,
                    "it is declared external and does not exist; create it first".to_owned(),
                ),
                (Some(volume), false) if !is_owned(&volume.labels, &self.desired.deployment) => {
                    self.block(What::VolumeName, name, whose(volume.deployment(), "volume"));
                }
                (Some(volume), false) => {
                    let driver = if spec.driver.is_empty() { "local" } else { &spec.driver };
                    if volume.driver != driver || volume.options != spec.driver_opts {
                        let note = format!(
                            "volume {name} has other options than the release asks for; it is used as it is, because making it anew would lose its data"
                        );
                        self.plan.notes.push(note);
                    }
                }
                (None, false) => {
                    let action = Action::CreateVolume { name: name.clone(), spec: Box::new(spec.clone()) };
                    let step = self.push(action, None, "there is none", []);
                    self.ready_volumes.insert(name.clone(), step);
                }
            }
        }
    }

    /// Plans networks: those that are missing, and those that differ, from which all our containers are detached first.
    pub(super) fn networks(&mut self) {
        for (name, spec) in &self.desired.networks {
            let named: Vec<&Network> =
                self.observed.networks.iter().filter(|network| &network.name == name).collect();
            let ours = named.iter().find(|network| is_owned(&network.labels, &self.desired.deployment));
            match (ours, named.first(), spec.external) {
                (_, Some(_), true) => {}
                (_, None, true) => self.block(
                    What::ExternalNetwork,
                    name,
                    "it is declared external and does not exist; create it first".to_owned(),
                ),
                (None, Some(other), false) => {
                    self.block(What::NetworkName, name, whose(other.deployment(), "network"))
                }
                (None, None, false) => {
                    let action = Action::CreateNetwork { name: name.clone(), spec: Box::new(spec.clone()) };
                    let step = self.push(action, None, "there is none", []);
                    self.ready_networks.insert(name.clone(), step);
                }
                (Some(network), _, false) => {
                    if let Some(difference) = difference(spec, network) {
                        self.replace_network(name, spec, network, &difference);
                    }
                }
            }
        }
    }

    fn replace_network(&mut self, name: &str, spec: &NetworkSpec, network: &Network, difference: &str) {
        let reason = format!("network {name} is made anew with {difference}");
        let mut detached: Vec<StepId> = Vec::new();
        for container in self.ours() {
            let attached = container.detail.as_ref().is_some_and(|detail| detail.networks.contains_key(name));
            if attached {
                let action =
                    Action::Disconnect { container: self.target(container), network: name.to_owned() };
                detached.push(self.push(action, container.service(), &reason, []));
            }
        }
        let remove = Action::RemoveNetwork { name: name.to_owned(), id: network.id.clone() };
        let removed = self.push(remove, None, &format!("it is made anew with {difference}"), detached);
        let create = Action::CreateNetwork { name: name.to_owned(), spec: Box::new(spec.clone()) };
        let created = self.push(create, None, &format!("it is made anew with {difference}"), [removed]);
        self.ready_networks.insert(name.to_owned(), created);
        self.replaced_networks.insert(name.to_owned());
    }

    /// Removes networks of ours that nothing wants, once no container of ours is attached.
    pub(super) fn orphan_networks(&mut self) {
        if self.policy.keep_superseded {
            return;
        }
        let unwanted = |network: &&Network| {
            is_owned(&network.labels, &self.desired.deployment)
                && !self.desired.networks.contains_key(&network.name)
        };
        for network in self.observed.networks.iter().filter(unwanted) {
            let leaving = |step: &&super::Step| {
                matches!(step.action, Action::Remove { .. } | Action::Disconnect { .. } | Action::Stop { .. })
            };
            let needs: Vec<StepId> = self.plan.steps.iter().filter(leaving).map(|step| step.id).collect();
            let action = Action::RemoveNetwork { name: network.name.clone(), id: network.id.clone() };
            self.push(action, None, "no service uses it any more", needs);
        }
    }

    pub(super) fn block(&mut self, what: What, name: &str, why: String) {
        self.plan.blocked.push(Blocked { what, name: name.to_owned(), why });
        if matches!(what, What::NetworkName | What::ExternalNetwork) {
            self.blocked_networks.insert(name.to_owned());
        } else if matches!(what, What::VolumeName | What::ExternalVolume) {
            self.blocked_volumes.insert(name.to_owned());
        }
    }
}

/// Why something of the same name stays untouched.
pub(super) fn whose(deployment: Option<&str>, kind: &str) -> String {
    match deployment {
        Some(other) => format!("a {kind} of this name belongs to the deployment {other}"),
        None => format!("a {kind} of this name exists and is not Kedge's; rename or remove it"),
    }
}

/// What differs, in words. Options that the file does not mention are the driver's own business.
fn difference(wanted: &NetworkSpec, seen: &Network) -> Option<String> {
    let driver = if wanted.driver.is_empty() { "bridge" } else { &wanted.driver };
    if driver != seen.driver {
        return Some(format!("driver {driver}"));
    }
    if wanted.internal != seen.internal {
        return Some("another way out".to_owned());
    }
    if wanted.enable_ipv6.is_some_and(|ipv6| ipv6 != seen.ipv6) {
        return Some("another IPv6 setting".to_owned());
    }
    if let Some((name, _)) =
        wanted.driver_opts.iter().find(|(name, value)| seen.options.get(*name) != Some(value))
    {
        return Some(format!("another value of {name}"));
    }
    for pool in wanted.ipam.iter().filter(|pool| pool.subnet.is_some()) {
        let same = seen.pools.iter().any(|(subnet, gateway)| {
            subnet == &pool.subnet && (pool.gateway.is_none() || gateway == &pool.gateway)
        });
        if !same {
            return Some(format!("subnet {}", pool.subnet.as_deref().unwrap_or_default()));
        }
    }
    let labels = wanted.labels.iter().filter(|(name, _)| !crate::engine::spec::is_informational(name));
    labels
        .clone()
        .find(|(name, value)| seen.labels.get(*name) != Some(value))
        .map(|(name, _)| format!("another label {name}"))
}
