//! How the containers of a service are replaced: what the file asks for, and what is possible.
//!
//! *Stop-first* ends the old container before the new one starts: always possible, and the service is away in between.
//! *Start-first* has both for a while. It is chosen by itself where nothing speaks against two at once, and a file that
//! asks for it gets it unless it is impossible. What speaks against it is said in words, for the plan and the log.

use std::time::Duration;

use kedge_compose::model::{Mount, MountKind, UpdateConfig};

use super::desired::{Wanted, WantedService};
use crate::engine::types::{Container, Detail, MountPoint};

/// Which one goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// The new one is there, well and known by its names before the old one ends.
    StartFirst,
    /// The old one ends before the new one starts.
    StopFirst,
}

/// What becomes of an update of which a container does not get well.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnFailure {
    /// The deployment goes back to the generation before.
    #[default]
    Rollback,
    /// Nothing more is changed until somebody decides.
    Pause,
    /// The other containers are updated all the same.
    Continue,
}

/// `deploy.update_config`, or `deploy.rollback_config`, with our defaults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rollout {
    /// What the file asks for; `None` leaves it to us.
    pub order: Option<Order>,
    /// Containers replaced at the same time, at least one.
    pub parallelism: usize,
    /// Pause between those and the next.
    pub delay: Duration,
    /// How long a new container is watched before it counts as well; `None` leaves it to whether it has a health check.
    pub monitor: Option<Duration>,
    /// When one does not get well.
    pub on_failure: OnFailure,
}

impl Default for Rollout {
    fn default() -> Self {
        Self::from(None)
    }
}

impl From<Option<&UpdateConfig>> for Rollout {
    fn from(config: Option<&UpdateConfig>) -> Self {
        let nothing = UpdateConfig::default();
        let config = config.unwrap_or(&nothing);
        Self {
            order: config.order.as_deref().map(|order| match order {
                "start-first" => Order::StartFirst,
                _ => Order::StopFirst,
            }),
            parallelism: match config.parallelism {
                None => 1,
                Some(0) => usize::MAX,
                Some(some) => usize::try_from(some).unwrap_or(usize::MAX),
            },
            delay: config.delay.unwrap_or_default(),
            monitor: config.monitor,
            on_failure: match config.failure_action.as_deref() {
                Some("pause") => OnFailure::Pause,
                Some("continue") => OnFailure::Continue,
                _ => OnFailure::Rollback,
            },
        }
    }
}

/// Time that a container without a health check must keep running before it counts as well.
const SETTLE: Duration = Duration::from_secs(2);

impl Rollout {
    /// How long a new container must stay well before the next step relies on it.
    pub(super) fn proof(&self, wanted: &Wanted) -> Duration {
        let least = if wanted.spec.is_checked(&wanted.image) { Duration::ZERO } else { SETTLE };
        self.monitor.unwrap_or_default().max(least)
    }
}

/// An order, and why it is not the one that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Choice {
    pub(super) order: Order,
    pub(super) note: Option<String>,
}

/// What else is known of the place.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Circumstances {
    /// Others live in its namespaces or use its volumes.
    pub(super) is_joined: bool,
    /// Every network of it lets a container keep its address.
    pub(super) keeps_addresses: bool,
}

/// Chooses for a container that takes the place of one that runs.
pub(super) fn choose(
    rollout: &Rollout,
    service: &WantedService,
    wanted: &Wanted,
    old: &Container,
    around: Circumstances,
) -> Choice {
    let stop_first = |note| Choice { order: Order::StopFirst, note };
    let start_first = Choice { order: Order::StartFirst, note: None };
    match (rollout.order, impossible(service, wanted, around), unwise(wanted, old, around)) {
        (Some(Order::StopFirst), ..) | (None, Some(_), _) | (None, None, Some(_)) => stop_first(None),
        (Some(Order::StartFirst), Some(why), _) => stop_first(Some(format!(
            "service {} asks for start-first and is updated stop-first: {why}",
            wanted.service
        ))),
        (Some(Order::StartFirst), None, _) | (None, None, None) => start_first,
    }
}

/// Why two of this cannot be there at once.
fn impossible(service: &WantedService, wanted: &Wanted, around: Circumstances) -> Option<String> {
    let spec = &wanted.spec;
    let fixed_port = spec.ports.iter().find(|port| port.published.parse::<u16>().is_ok_and(|port| port > 0));
    let mut attachments = spec.endpoints.values();
    if service.may_end(wanted) {
        Some("it may end by itself, so that nothing tells whether it got well".to_owned())
    } else if let Some(port) = fixed_port {
        Some(format!("port {} of this host can be one container's only", port.published))
    } else if spec.mac_address.is_some()
        || attachments
            .any(|on| on.ipv4_address.is_some() || on.ipv6_address.is_some() || on.mac_address.is_some())
    {
        Some("its address is fixed, and can be one container's only".to_owned())
    } else if spec.endpoints.is_empty() {
        Some("it has no network of its own on which one could take over from the other".to_owned())
    } else if around.is_joined {
        Some("other services live in its namespaces or use its volumes".to_owned())
    } else if !spec.links.is_empty() {
        Some("it uses `links`, which a container gets only when it is made".to_owned())
    } else {
        None
    }
}

/// Why two of this should not be there at once unless somebody says that they may.
fn unwise(wanted: &Wanted, old: &Container, around: Circumstances) -> Option<String> {
    let spec = &wanted.spec;
    let nothing = Detail::default();
    let mounts = &old.detail.as_ref().unwrap_or(&nothing).mounts;
    if wanted.fixed_name {
        Some("its name is fixed".to_owned())
    } else if !spec.ports.is_empty() {
        Some("it publishes ports on this host".to_owned())
    } else if let Some(mount) = spec.mounts.iter().find(|mount| is_written_by_both(mount, mounts)) {
        Some(format!("both would write to {}", mount.target))
    } else if !wanted.image.volumes.is_empty() || spec.volumes_from.iter().any(|from| !from.ends_with(":ro"))
    {
        Some("both would write to its volumes".to_owned())
    } else if !spec.devices.is_empty() || !spec.device_requests.is_empty() {
        Some("it uses devices".to_owned())
    } else if spec.joins().next().is_some() {
        Some("it lives in another container's namespaces".to_owned())
    } else if !around.keeps_addresses {
        Some("in its network a container that is given its names loses its connections".to_owned())
    } else {
        None
    }
}

/// Whether what the new container may write to is mounted in the old one too. An anonymous volume is handed on.
fn is_written_by_both(mount: &Mount, old: &[MountPoint]) -> bool {
    let within = |path: &str, folder: &str| {
        path.strip_prefix(folder.trim_end_matches('/'))
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    match (mount.kind, &mount.source) {
        _ if mount.read_only => false,
        (MountKind::Tmpfs | MountKind::Image | MountKind::Npipe, _) => false,
        (MountKind::Volume, None) | (MountKind::Cluster, _) => true,
        (MountKind::Volume, Some(name)) => old.iter().any(|seen| seen.name.as_ref() == Some(name)),
        (MountKind::Bind, source) => {
            let source = source.as_deref().unwrap_or("/");
            let binds = old.iter().filter(|seen| seen.kind == "bind");
            binds.into_iter().any(|seen| within(&seen.source, source) || within(source, &seen.source))
        }
    }
}
