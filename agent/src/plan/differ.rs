//! Is this container what is wanted? Compared by meaning, field by field, because digests of whole encodings change
//! with the program that writes them.
//!
//! A container that carries the wanted digest was made from the wanted spec, so only what can be changed in a living
//! container is compared: restart policy, limits, networks. Without that digest everything is compared
//! with what `inspect` tells; a doubt counts as a difference and costs one recreation at most, since the
//! container made anew carries the digest.

mod fields;

use std::collections::BTreeMap;

use kedge_compose::model::{Attachment, Resources};

use super::desired::Wanted;
use crate::engine::spec::{LABEL_SPEC, Update};
use crate::engine::types::{Container, Detail};

/// What differs, sorted by what mends it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Differences {
    /// Differences that only a new container mends, each as a few words.
    pub recreate: Vec<String>,
    /// What an update in place mends.
    pub update: Update,
    /// Words for `update`.
    pub updated: Vec<String>,
    /// Networks to attach to.
    pub connect: Vec<(String, Attachment)>,
    /// Networks of ours to detach from, before attaching.
    pub disconnect: Vec<String>,
}

impl Differences {
    /// Nothing to do.
    pub fn is_empty(&self) -> bool {
        self == &Self::default()
    }
}

/// What else in the engine matters for the comparison.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    /// Container IDs by name.
    pub containers: BTreeMap<String, String>,
    /// IDs of the project's networks by name; those and only those are detached where they are not wanted.
    pub networks: BTreeMap<String, String>,
}

/// Compares a container with what is wanted.
pub fn compare(wanted: &Wanted, seen: &Container, around: &Surroundings) -> Differences {
    let mut differences = Differences::default();
    if seen.image_id != wanted.spec.image {
        differences.recreate.push("another image".to_owned());
    }
    let same_spec = seen.labels.get(LABEL_SPEC) == Some(&wanted.digest);
    let Some(detail) = &seen.detail else {
        if !same_spec {
            differences.recreate.push("another specification".to_owned());
        }
        return differences;
    };
    if !same_spec {
        differences.recreate.extend(fields::compare(wanted, seen, detail, around));
    }
    namespaces(wanted, detail, around, &mut differences);
    in_place(wanted, detail, &mut differences);
    networks(wanted, detail, around, &mut differences);
    differences
}

/// A container that joined another one's namespace holds on to that very container, gone or not.
fn namespaces(wanted: &Wanted, detail: &Detail, around: &Surroundings, differences: &mut Differences) {
    let modes = [
        ("network", &wanted.spec.network_mode, &detail.spec.network_mode),
        ("process", &wanted.spec.pid, &detail.spec.pid),
        ("IPC", &wanted.spec.ipc, &detail.spec.ipc),
    ];
    for (what, wanted, seen) in modes {
        let Some(joined) = wanted.as_deref().and_then(|mode| mode.strip_prefix("container:")) else {
            continue;
        };
        let id = around.containers.get(joined).map_or(joined, String::as_str);
        let seen = seen.as_deref().and_then(|mode| mode.strip_prefix("container:"));
        if seen != Some(id) && seen != Some(joined) {
            differences.recreate.push(format!("{what} namespace of another container"));
        }
    }
}

/// Restart policy and limits. A limit that is taken away cannot be updated in place: to the engine, zero means "as before".
fn in_place(wanted: &Wanted, detail: &Detail, differences: &mut Differences) {
    if wanted.spec.restart != detail.spec.restart {
        differences.update.restart = Some(wanted.spec.restart);
        differences.updated.push("another restart policy".to_owned());
    }
    let (want, seen) = (&wanted.spec.resources, &detail.spec.resources);
    let limits = [
        ("CPU limit", want.nano_cpus, seen.nano_cpus),
        ("memory limit", want.memory.and_then(to_signed), seen.memory.and_then(to_signed)),
        (
            "memory reservation",
            want.memory_reservation.and_then(to_signed),
            seen.memory_reservation.and_then(to_signed),
        ),
        ("process limit", want.pids, seen.pids),
        ("CPU shares", want.cpu_shares, seen.cpu_shares),
        ("CPU quota", want.cpu_quota, seen.cpu_quota),
        ("CPU period", want.cpu_period, seen.cpu_period),
    ];
    let mut changed =
        want.cpuset.as_deref().unwrap_or_default() != seen.cpuset.as_deref().unwrap_or_default();
    let mut taken_away = changed && want.cpuset.is_none();
    if changed {
        differences.updated.push("other CPUs".to_owned());
    }
    for (what, want, seen) in limits {
        // The engine writes "no limit" as zero, and for processes as -1 too.
        let limit = |value: Option<i64>| value.filter(|value| *value > 0);
        if limit(want) != limit(seen) {
            changed = true;
            taken_away |= limit(want).is_none();
            differences.updated.push(format!("another {what}"));
        }
    }
    // Without a wish the engine chooses, twice the memory or none.
    if want.memory_swap.is_some_and(|want| seen.memory_swap != Some(want)) {
        changed = true;
        differences.updated.push("another swap limit".to_owned());
    }
    if taken_away {
        differences.recreate.append(&mut differences.updated);
        differences.update = Update::default();
    } else if changed {
        differences.update.resources = Some(Resources { blkio: None, ..want.clone() });
    }
}

fn to_signed(value: u64) -> Option<i64> {
    i64::try_from(value).ok()
}

/// Attachments. Networks that somebody else attached the container to are left alone.
fn networks(wanted: &Wanted, detail: &Detail, around: &Surroundings, differences: &mut Differences) {
    for (name, attachment) in &wanted.spec.endpoints {
        let Some(seen) = detail.networks.get(name) else {
            differences.connect.push((name.clone(), attachment.clone()));
            continue;
        };
        if !seen.network_id.is_empty() && around.networks.get(name).is_some_and(|id| *id != seen.network_id) {
            differences.recreate.push(format!("network {name} was made anew"));
            continue;
        }
        let fixed = |wanted: &Option<String>, seen: &Option<String>| wanted.is_some() && wanted != seen;
        if !attachment.aliases.is_subset(&seen.aliases)
            || fixed(&attachment.ipv4_address, &seen.ipv4_address)
            || fixed(&attachment.ipv6_address, &seen.ipv6_address)
        {
            differences.disconnect.push(name.clone());
            differences.connect.push((name.clone(), attachment.clone()));
        }
    }
    let unwanted = detail
        .networks
        .keys()
        .filter(|name| !wanted.spec.endpoints.contains_key(*name) && around.networks.contains_key(*name));
    differences.disconnect.extend(unwanted.cloned());
}
