//! What the engine reports: containers, networks, volumes, images, events and itself, in our own words, so that
//! nothing outside `engine/docker` depends on the shapes of the Docker API.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use kedge_compose::model::Healthcheck;
use serde::Serialize;

use super::spec::{ContainerSpec, LABEL_DEPLOYMENT, LABEL_NUMBER, LABEL_PROJECT, LABEL_RANGE, LABEL_SERVICE};

/// Which objects to list: those that carry every label and, where names are given, have one of the names exactly.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// `key=value`, all of them.
    pub labels: Vec<String>,
    /// Exact names, any of them; empty means any name.
    pub names: BTreeSet<String>,
}

impl Filter {
    /// Everything of a compose project.
    pub fn project(project: &str) -> Self {
        Self { labels: vec![format!("{LABEL_PROJECT}={project}")], names: BTreeSet::new() }
    }

    /// Everything of one of our deployments.
    pub fn deployment(deployment: &str) -> Self {
        Self { labels: vec![format!("{LABEL_DEPLOYMENT}={deployment}")], names: BTreeSet::new() }
    }

    /// Objects of exactly these names.
    pub fn names(names: impl IntoIterator<Item = String>) -> Self {
        Self { labels: Vec::new(), names: names.into_iter().collect() }
    }
}

/// What a container is doing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Made and never started.
    #[default]
    Created,
    /// Running.
    Running,
    /// Frozen.
    Paused,
    /// Ended, and the engine is about to start it again.
    Restarting,
    /// Ended.
    Exited,
    /// Being removed.
    Removing,
    /// Could not be removed; only removal is possible.
    Dead,
}

/// Result of a container's health check.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// It has no health check.
    #[default]
    None,
    /// Not yet known.
    Starting,
    /// Good.
    Healthy,
    /// Bad.
    Unhealthy,
}

/// A container as listed.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Container {
    /// ID, 64 hex digits.
    pub id: String,
    /// Name without the leading slash.
    pub name: String,
    /// Image ID.
    pub image_id: String,
    /// What it does.
    pub state: State,
    /// Its health.
    pub health: Health,
    /// Exit code, once ended.
    pub exit_code: Option<i64>,
    /// Labels, the image's included.
    pub labels: BTreeMap<String, String>,
    /// Host ports in use: `address`, `host port`, `container port`, `protocol`.
    pub ports: Vec<PortInUse>,
    /// What inspect adds; `None` when only listed.
    pub detail: Option<Detail>,
}

impl Container {
    /// Service, by docker compose's label.
    pub fn service(&self) -> Option<&str> {
        self.labels.get(LABEL_SERVICE).map(String::as_str)
    }

    /// Whether one of our deployments made it.
    pub fn is_ours(&self) -> bool {
        self.labels.contains_key(LABEL_DEPLOYMENT)
    }

    /// Number within the service, by docker compose's label.
    pub fn number(&self) -> Option<u32> {
        self.labels.get(LABEL_NUMBER)?.parse().ok()
    }

    /// Deployment that owns it, if it is one of ours.
    pub fn deployment(&self) -> Option<&str> {
        self.labels.get(LABEL_DEPLOYMENT).map(String::as_str)
    }
}

/// A host port bound by a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct PortInUse {
    /// Address on the host.
    pub host_ip: String,
    /// Port on the host.
    pub host_port: u16,
    /// Port in the container.
    pub target: u16,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: String,
}

/// What inspecting a container tells beyond the list.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Detail {
    /// The container's whole configuration as the engine holds it, image defaults folded in. Not serialised:
    /// it holds the environment.
    #[serde(skip)]
    pub spec: ContainerSpec,
    /// Networks it is attached to, by name.
    pub networks: BTreeMap<String, Endpoint>,
    /// Mounts as they are, anonymous volumes by their generated names.
    pub mounts: Vec<MountPoint>,
    /// When it was made.
    pub created_at: Option<Timestamp>,
    /// When it last started.
    pub started_at: Option<Timestamp>,
    /// When it last ended.
    pub finished_at: Option<Timestamp>,
    /// How often the engine restarted it.
    pub restarts: u64,
    /// Killed for want of memory.
    pub oom_killed: bool,
    /// The engine's error from the last start.
    pub error: Option<String>,
    /// Output of the last health check, bounded.
    pub health_output: Option<String>,
    /// Failed health checks in a row.
    pub failing_streak: u64,
}

/// An attachment to a network, as reported.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Endpoint {
    /// Network ID.
    pub network_id: String,
    /// Aliases.
    pub aliases: BTreeSet<String>,
    /// Address now in use.
    pub ip: Option<String>,
    /// Fixed IPv4 address that was asked for.
    pub ipv4_address: Option<String>,
    /// Fixed IPv6 address that was asked for.
    pub ipv6_address: Option<String>,
}

/// A mount as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct MountPoint {
    /// `bind`, `volume`, `tmpfs`…
    pub kind: String,
    /// Name of the volume.
    pub name: Option<String>,
    /// Path on the host.
    pub source: String,
    /// Path in the container.
    pub target: String,
    /// Writable.
    pub writable: bool,
}

/// A network as listed.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Network {
    /// ID.
    pub id: String,
    /// Name; the engine does not make it unique.
    pub name: String,
    /// Driver.
    pub driver: String,
    /// No way out.
    pub internal: bool,
    /// Attachable.
    pub attachable: bool,
    /// IPv6 switched on.
    pub ipv6: bool,
    /// Driver options.
    pub options: BTreeMap<String, String>,
    /// Subnet and gateway of each pool.
    pub pools: Vec<(Option<String>, Option<String>)>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

impl Network {
    /// Whether a container can leave and join again with the address it had, so that its connections live on. Docker
    /// allows that only where the range was named when the network was made.
    pub fn keeps_addresses(&self) -> bool {
        self.driver == "bridge" && !self.ipv6 && self.labels.contains_key(LABEL_RANGE)
    }

    /// Deployment that owns it, if it is one of ours.
    pub fn deployment(&self) -> Option<&str> {
        self.labels.get(LABEL_DEPLOYMENT).map(String::as_str)
    }
}

/// A volume as listed.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Volume {
    /// Name.
    pub name: String,
    /// Driver.
    pub driver: String,
    /// Driver options.
    pub options: BTreeMap<String, String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Where the data lies on the host.
    pub mountpoint: String,
}

impl Volume {
    /// Deployment that owns it, if it is one of ours.
    pub fn deployment(&self) -> Option<&str> {
        self.labels.get(LABEL_DEPLOYMENT).map(String::as_str)
    }

    /// Whether it can still be the volume of this name that `deployment` has adopted from `project`: a volume has no ID, and
    /// somebody else may have made it anew under its name.
    pub fn is_adoptable(&self, deployment: &str, project: &str) -> bool {
        self.deployment().is_none_or(|owner| owner == deployment)
            && self.labels.get(LABEL_PROJECT).is_some_and(|of| of == project)
    }
}

/// An image in the engine.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Image {
    /// ID: the config's digest on the classic store, the manifest's on the containerd store.
    pub id: String,
    /// Tags, `name:tag`.
    pub tags: Vec<String>,
    /// `name@sha256:…`.
    pub digests: Vec<String>,
    /// Bytes on disk.
    pub size: u64,
    /// Digests of the unpacked layers, lowest first.
    pub diff_ids: Vec<String>,
    /// What containers take from it.
    #[serde(skip)]
    pub config: ImageConfig,
}

/// What containers take from an image where their spec says nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageConfig {
    /// Environment, `NAME=value` split.
    pub env: BTreeMap<String, String>,
    /// Command.
    pub command: Vec<String>,
    /// Entry point.
    pub entrypoint: Vec<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// User.
    pub user: String,
    /// Working directory.
    pub working_dir: String,
    /// Stop signal.
    pub stop_signal: Option<String>,
    /// Anonymous volumes.
    pub volumes: BTreeSet<String>,
    /// Exposed, `port/protocol`.
    pub expose: BTreeSet<String>,
    /// Health check.
    pub healthcheck: Option<Healthcheck>,
}

/// How the engine keeps images.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ImageStore {
    /// Docker's own graph drivers: an image's ID is its config's digest.
    #[default]
    Classic,
    /// containerd's content store: an image's ID is its manifest's digest.
    Containerd,
}

/// The engine itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct EngineInfo {
    /// Version, as in `20.10.24`.
    pub version: String,
    /// API version in use, as in `1.41`.
    pub api: String,
    /// How it keeps images.
    pub store: ImageStore,
    /// Storage driver.
    pub storage_driver: String,
    /// Root folder.
    pub root_dir: String,
    /// Cgroup version, 1 or 2.
    pub cgroup_version: u8,
    /// `cgroupfs` or `systemd`.
    pub cgroup_driver: String,
    /// Operating system, for people.
    pub os: String,
    /// `linux/amd64`…
    pub platform: String,
    /// OCI runtimes by name.
    pub runtimes: Vec<String>,
    /// Log drivers.
    pub log_drivers: Vec<String>,
    /// CPUs.
    pub cpus: u64,
    /// Memory, bytes.
    pub memory: u64,
    /// Security options: `name=seccomp,profile=default`…
    pub security: Vec<String>,
    /// The engine's own warnings.
    pub warnings: Vec<String>,
}

/// Where containerd keeps what it has, unless it is told otherwise.
pub(crate) const CONTAINERD: &str = "/var/lib/containerd";

impl EngineInfo {
    /// The folder in which images take room: containerd's own, where it keeps them and lies in its usual place.
    pub fn image_dir(&self) -> PathBuf {
        let containerd = Path::new(CONTAINERD);
        match self.store {
            ImageStore::Containerd if containerd.is_dir() => containerd.to_owned(),
            ImageStore::Containerd | ImageStore::Classic => self.root_dir.clone().into(),
        }
    }

    /// Whether containers are confined by SELinux.
    pub fn is_selinux(&self) -> bool {
        self.security.iter().any(|option| option.starts_with("name=selinux"))
    }
}

/// Which stream a line of a log came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// One line of a container's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LogLine {
    /// Where it came from.
    pub stream: Stream,
    /// When, RFC 3339 with nanoseconds, as the engine wrote it.
    pub at: String,
    /// The line without its end, what is no UTF-8 replaced; at most 16 KiB.
    pub text: String,
}

/// What to read of a log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogQuery {
    /// Go on as lines come.
    pub follow: bool,
    /// Only the last so many lines.
    pub tail: Option<u64>,
    /// Only lines from this time on, seconds since 1970.
    pub since: Option<i64>,
}

/// What a load said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Loaded {
    /// References or IDs the engine says it loaded.
    pub loaded: Vec<String>,
}

/// What happened in the engine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct EngineEvent {
    /// When, nanoseconds since 1970 by the engine's clock.
    pub at: i64,
    /// What it happened to.
    pub subject: Subject,
    /// What happened.
    pub action: Action,
    /// ID of the container or network, name of the volume. For an attachment the network's ID.
    pub id: String,
    /// Attributes: labels, `name`, `container`, `exitCode`, `signal`…
    pub attributes: BTreeMap<String, String>,
}

impl EngineEvent {
    /// The container concerned, also for events of networks.
    pub fn container(&self) -> Option<&str> {
        match self.subject {
            Subject::Container => Some(&self.id),
            Subject::Network | Subject::Volume => self.attributes.get("container").map(String::as_str),
            Subject::Other => None,
        }
    }

    /// The compose project concerned, where the event carries it (containers do, attachments do not).
    pub fn project(&self) -> Option<&str> {
        self.attributes.get(LABEL_PROJECT).map(String::as_str)
    }
}

/// Kinds of objects with events.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Subject {
    /// A container.
    Container,
    /// A network.
    Network,
    /// A volume.
    Volume,
    /// Anything else.
    #[default]
    Other,
}

/// What can happen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Made.
    Create,
    /// Started.
    Start,
    /// Ended, with this code.
    Die(i64),
    /// Stopped on request.
    Stop,
    /// Sent a signal on request.
    Kill,
    /// Out of memory.
    Oom,
    /// Gone.
    Destroy,
    /// Renamed.
    Rename,
    /// Frozen.
    Pause,
    /// Thawed.
    Unpause,
    /// Limits or policy changed.
    Update,
    /// Health changed.
    Health(Health),
    /// Stopped and started again in one request.
    Restart,
    /// Attached to a network.
    Connect,
    /// Detached from a network.
    Disconnect,
    /// Anything else.
    #[default]
    Other,
}
