//! Which observed container is which wanted one.
//!
//! Several containers can claim one place: the old one, the new one of an update that was interrupted, one that was kept.
//! The place goes to the one that is what is wanted; the others are superseded.

use std::collections::{BTreeMap, BTreeSet};

use super::desired::{Desired, Wanted, is_owned};
use super::differ::{Differences, Surroundings, compare};
use super::{Memory, Observed};
use crate::engine::types::{Container, State};

/// A place in the deployment and who claims it.
#[derive(Debug, Default)]
pub(super) struct Place<'a> {
    /// The container that is what is wanted, and what can be mended in it.
    pub(super) current: Option<(&'a Container, Differences)>,
    /// Ours, for the same place, not what is wanted.
    pub(super) superseded: Vec<&'a Container>,
    /// Why there is no current one, in words.
    pub(super) why: String,
}

/// All containers of the deployment, sorted.
#[derive(Debug, Default)]
pub(super) struct Matching<'a> {
    /// By wanted name.
    pub(super) places: BTreeMap<&'a str, Place<'a>>,
    /// Ours, wanted nowhere: the service is gone.
    pub(super) orphans: Vec<&'a Container>,
    /// Ours, wanted nowhere: the service has fewer containers now.
    pub(super) surplus: Vec<&'a Container>,
    /// Somebody else's, by name.
    pub(super) foreign: BTreeMap<&'a str, &'a Container>,
}

/// Sorts the observed containers. Services are visited in the order given, so that those whose namespaces others join come first.
pub(super) fn sort<'a>(
    desired: &'a Desired,
    observed: &'a Observed,
    order: &[&'a str],
    memory: &Memory,
) -> Matching<'a> {
    let mut matching = Matching::default();
    let mut around = Surroundings::default();
    for network in observed.networks.iter().filter(|network| {
        desired.networks.contains_key(&network.name) || is_owned(&network.labels, &desired.deployment)
    }) {
        around.networks.insert(network.name.clone(), network.id.clone());
    }
    let places: BTreeMap<(&str, u32), &str> = desired
        .containers
        .iter()
        .map(|(name, wanted)| ((wanted.service.as_str(), wanted.number), name.as_str()))
        .collect();
    let mut claims: BTreeMap<&str, Vec<&Container>> = BTreeMap::new();
    for container in &observed.containers {
        if !is_owned(&container.labels, &desired.deployment) {
            matching.foreign.insert(&container.name, container);
            continue;
        }
        let service = container.service().unwrap_or_default();
        match places.get(&(service, container.number().unwrap_or_default())) {
            Some(place) => claims.entry(place).or_default().push(container),
            None if desired.services.contains_key(service) => matching.surplus.push(container),
            None => matching.orphans.push(container),
        }
    }
    let mut anew: BTreeSet<&str> = BTreeSet::new();
    for name in order.iter().flat_map(|service| &desired.services[*service].containers) {
        let Some(wanted) = desired.containers.get(name) else { continue };
        let claims = claims.remove(name.as_str()).unwrap_or_default();
        let joins_anew = namespaces(wanted).find(|joined| anew.contains(joined));
        let mut place = choose(name, wanted, claims, &around);
        if let (Some(joined), Some((old, _))) = (joins_anew, &place.current) {
            place.why = format!("it uses a namespace of {joined}, which is made anew");
            place.superseded.push(old);
            place.current = None;
        }
        match &place.current {
            Some((current, _)) => {
                around.containers.insert(name.clone(), current.id.clone());
            }
            None if memory.is_done(wanted) => {}
            None => {
                anew.insert(name);
            }
        }
        matching.places.insert(name, place);
    }
    matching
}

fn namespaces(wanted: &Wanted) -> impl Iterator<Item = &str> {
    let modes = [&wanted.spec.network_mode, &wanted.spec.pid, &wanted.spec.ipc];
    modes.into_iter().flatten().filter_map(|mode| mode.strip_prefix("container:"))
}

fn choose<'a>(name: &str, wanted: &Wanted, claims: Vec<&'a Container>, around: &Surroundings) -> Place<'a> {
    let mut place = Place { why: "there is none".to_owned(), ..Place::default() };
    let mut fitting: Vec<(&Container, Differences)> = Vec::new();
    for container in claims {
        let differences = compare(wanted, container, around);
        if matches!(container.state, State::Dead | State::Removing) {
            let removing = container.state == State::Removing;
            place.why =
                if removing { "the old one is being removed" } else { "the old one is dead" }.to_owned();
            place.superseded.push(container);
        } else if differences.recreate.is_empty() {
            fitting.push((container, differences));
        } else {
            place.why = format!("it has {}", differences.recreate.join(", "));
            place.superseded.push(container);
        }
    }
    // The one that serves goes first, then the one with the right name, then whichever comes first by ID.
    fitting.sort_by_key(|(container, _)| {
        let serves = matches!(container.state, State::Running | State::Restarting | State::Paused);
        (!serves, container.name != name, container.id.clone())
    });
    let mut fitting = fitting.into_iter();
    place.current = fitting.next();
    place.superseded.extend(fitting.map(|(container, _)| container));
    place
}
