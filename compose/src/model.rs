//! The typed model: what a project says once files are merged, variables filled in and short forms
//! written out. The planner reads this and nothing else.
//!
//! Field names and meanings are those of the Compose specification. Sizes are bytes, durations are
//! [`Duration`], shares of a CPU are in billionths (`NanoCPUs`, as the Docker API counts them).
//! Maps are ordered so that the same input gives the same output, byte for byte.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

mod blkio;
mod shared;

pub use blkio::{Blkio, DeviceRate, DeviceWeight};
pub use shared::{FileObject, FileSource, IpamPool, Network, Volume};

/// A whole project: one stack that is brought up and down together.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Project {
    /// Project name, matching `[a-z0-9][a-z0-9_-]*`.
    pub name: String,
    /// Enabled services by name (services of inactive profiles are left out).
    pub services: BTreeMap<String, Service>,
    /// Networks in use, by key; `default` is there when some service uses it.
    pub networks: BTreeMap<String, Network>,
    /// Named volumes, by key.
    pub volumes: BTreeMap<String, Volume>,
    /// Configs, by key.
    pub configs: BTreeMap<String, FileObject>,
    /// Secrets, by key.
    pub secrets: BTreeMap<String, FileObject>,
    /// Top-level `x-` extensions, interpolated, untyped.
    pub extensions: BTreeMap<String, Value>,
}

/// One service: a template for one or more like containers.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Service {
    /// Name, the key under `services`.
    pub name: String,
    /// Image reference as written after interpolation.
    pub image: String,
    /// `command`; `None` takes the image's, an empty list clears it.
    pub command: Option<Vec<String>>,
    /// `entrypoint`; `None` takes the image's, an empty list clears it.
    pub entrypoint: Option<Vec<String>>,
    /// Environment, `env_file` already folded in. `None`: the variable is passed bare, which unsets the image's.
    pub environment: BTreeMap<String, Option<String>>,
    /// Published ports, ranges expanded where the specification says so.
    pub ports: Vec<Port>,
    /// `expose`: `port/protocol`.
    pub expose: Vec<String>,
    /// Mounts.
    pub volumes: Vec<Mount>,
    /// `volumes_from`, as written.
    pub volumes_from: Vec<String>,
    /// `tmpfs` short form: `path` or `path:options`.
    pub tmpfs: Vec<String>,
    /// Networks to join, by key of [`Project::networks`]; empty with a `network_mode`.
    pub networks: BTreeMap<String, Attachment>,
    /// `network_mode`: `none`, `host`, `bridge`, `service:NAME`, `container:NAME`.
    pub network_mode: Option<String>,
    /// What must have happened to others before this starts, implicit dependencies included.
    pub depends_on: BTreeMap<String, Dependency>,
    /// Health check; `None` takes the image's.
    pub healthcheck: Option<Healthcheck>,
    /// Restart policy, `deploy.restart_policy` included.
    pub restart: Restart,
    /// Number of containers (`deploy.replicas`, else `scale`, else 1).
    pub replicas: u32,
    /// CPU and memory, `deploy.resources` folded in.
    pub resources: Resources,
    /// `deploy.update_config`, where given.
    pub update_config: Option<UpdateConfig>,
    /// `deploy.rollback_config`: the same for going back.
    pub rollback_config: Option<UpdateConfig>,
    /// Configs mounted into the container.
    pub configs: Vec<FileMount>,
    /// Secrets mounted into the container.
    pub secrets: Vec<FileMount>,
    /// Container labels (`labels` and `label_file`; not `deploy.labels`).
    pub labels: BTreeMap<String, String>,
    /// `annotations`.
    pub annotations: BTreeMap<String, String>,
    /// `container_name`.
    pub container_name: Option<String>,
    /// `hostname`.
    pub hostname: Option<String>,
    /// `domainname`.
    pub domainname: Option<String>,
    /// `user`.
    pub user: Option<String>,
    /// `group_add`.
    pub group_add: Vec<String>,
    /// `working_dir`.
    pub working_dir: Option<String>,
    /// `init`; `None` leaves it to the engine's default.
    pub init: Option<bool>,
    /// `tty`.
    pub tty: bool,
    /// `stdin_open`.
    pub stdin_open: bool,
    /// `stop_signal`; `None` takes the image's.
    pub stop_signal: Option<String>,
    /// `stop_grace_period`; `None` takes the engine's 10 s.
    pub stop_grace_period: Option<Duration>,
    /// `read_only` root file system.
    pub read_only: bool,
    /// `privileged`.
    pub privileged: bool,
    /// `cap_add`.
    pub cap_add: Vec<String>,
    /// `cap_drop`.
    pub cap_drop: Vec<String>,
    /// `security_opt`.
    pub security_opt: Vec<String>,
    /// `ulimits` by name.
    pub ulimits: BTreeMap<String, Ulimit>,
    /// `sysctls`.
    pub sysctls: BTreeMap<String, String>,
    /// `extra_hosts`: host name to addresses.
    pub extra_hosts: BTreeMap<String, Vec<String>>,
    /// `dns`.
    pub dns: Vec<String>,
    /// `dns_search`.
    pub dns_search: Vec<String>,
    /// `dns_opt`.
    pub dns_opt: Vec<String>,
    /// `logging`.
    pub logging: Option<Logging>,
    /// `devices`: host path, container path, permissions.
    pub devices: Vec<Device>,
    /// `device_cgroup_rules`.
    pub device_cgroup_rules: Vec<String>,
    /// GPU and other device requests (`gpus`, `deploy.resources.reservations.devices`).
    pub device_requests: Vec<DeviceRequest>,
    /// `shm_size`, bytes.
    pub shm_size: Option<u64>,
    /// `pid`: `host`, `service:NAME`, `container:NAME`.
    pub pid: Option<String>,
    /// `ipc`: `host`, `shareable`, `service:NAME`…
    pub ipc: Option<String>,
    /// `uts`: `host`.
    pub uts: Option<String>,
    /// `userns_mode`.
    pub userns_mode: Option<String>,
    /// `cgroup`: `host` or `private`.
    pub cgroup: Option<String>,
    /// `cgroup_parent`.
    pub cgroup_parent: Option<String>,
    /// `runtime`.
    pub runtime: Option<String>,
    /// `isolation`.
    pub isolation: Option<String>,
    /// `storage_opt`.
    pub storage_opt: BTreeMap<String, String>,
    /// `links`, as written; each is an implicit dependency too.
    pub links: Vec<String>,
    /// `external_links`.
    pub external_links: Vec<String>,
    /// `mac_address` of the service.
    pub mac_address: Option<String>,
    /// `platform`.
    pub platform: Option<String>,
    /// `pull_policy`.
    pub pull_policy: Option<String>,
    /// `attach`; informational.
    pub attach: Option<bool>,
    /// `profiles`, informational once the project is loaded.
    pub profiles: Vec<String>,
    /// `pre_start` hooks, each in a container of its own before this one starts (specification of 2026).
    pub pre_start: Vec<PreStart>,
    /// `post_start` hooks.
    pub post_start: Vec<Hook>,
    /// `pre_stop` hooks.
    pub pre_stop: Vec<Hook>,
    /// Service-level `x-` extensions, untyped.
    pub extensions: BTreeMap<String, Value>,
}

impl Service {
    /// Every image that running the service takes, by reference: its own, those it mounts, those of its hooks.
    pub fn images(&self) -> impl Iterator<Item = &str> {
        let mounted = self.volumes.iter().filter(|mount| mount.kind == MountKind::Image);
        let mounted = mounted.filter_map(|mount| mount.source.as_deref());
        let of_hooks = self.pre_start.iter().filter_map(|hook| hook.image.as_deref());
        std::iter::once(self.image.as_str()).chain(mounted).chain(of_hooks)
    }
}

/// A published or merely exposed port.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Port {
    /// Port in the container.
    pub target: u16,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: String,
    /// Address on the host; empty means all.
    pub host_ip: String,
    /// Port on the host, or a range `9000-9010` the engine picks from; empty lets it pick any.
    pub published: String,
    /// `ingress` or `host`; no difference on one host.
    pub mode: String,
    /// `name`, informational.
    pub name: Option<String>,
    /// `app_protocol`, informational.
    pub app_protocol: Option<String>,
}

/// What kind of mount.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum MountKind {
    /// A named or (without source) anonymous volume.
    #[default]
    Volume,
    /// A path of the host.
    Bind,
    /// Memory.
    Tmpfs,
    /// A named pipe (Windows).
    Npipe,
    /// Cluster volume.
    Cluster,
    /// Content of an image.
    Image,
}

/// One mount of a service.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Mount {
    /// Kind.
    pub kind: MountKind,
    /// Key of [`Project::volumes`], host path (absolute once resolved) or image; `None` for tmpfs and anonymous volumes.
    pub source: Option<String>,
    /// Path in the container.
    pub target: String,
    /// Mounted read-only.
    pub read_only: bool,
    /// `consistency`, ignored on Linux.
    pub consistency: Option<String>,
    /// `bind.propagation`.
    pub bind_propagation: Option<String>,
    /// `bind.create_host_path`.
    pub bind_create_host_path: bool,
    /// `bind.selinux`: `z` or `Z`.
    pub bind_selinux: Option<String>,
    /// `bind.recursive`.
    pub bind_recursive: Option<String>,
    /// `volume.nocopy`.
    pub volume_nocopy: bool,
    /// `volume.subpath` or `image.subpath`.
    pub subpath: Option<String>,
    /// `volume.labels`.
    pub volume_labels: BTreeMap<String, String>,
    /// `tmpfs.size`, bytes.
    pub tmpfs_size: Option<u64>,
    /// `tmpfs.mode`.
    pub tmpfs_mode: Option<u32>,
}

/// How a service is attached to a network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Attachment {
    /// Extra aliases (service and container names come with the planner).
    pub aliases: BTreeSet<String>,
    /// Fixed IPv4 address.
    pub ipv4_address: Option<String>,
    /// Fixed IPv6 address.
    pub ipv6_address: Option<String>,
    /// Link-local addresses.
    pub link_local_ips: Vec<String>,
    /// Fixed MAC address.
    pub mac_address: Option<String>,
    /// Driver options.
    pub driver_opts: BTreeMap<String, String>,
    /// Higher connects first.
    pub priority: i64,
    /// Higher provides the default gateway.
    pub gw_priority: i64,
    /// Name of the interface in the container.
    pub interface_name: Option<String>,
}

/// When a dependency counts as met.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// Its containers were started.
    #[default]
    ServiceStarted,
    /// Its containers are healthy.
    ServiceHealthy,
    /// Its containers ended with exit code 0.
    ServiceCompletedSuccessfully,
}

/// An edge of the dependency graph.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Dependency {
    /// When it counts as met.
    pub condition: Condition,
    /// Restart this service when the other one is recreated.
    pub restart: bool,
    /// `false`: a missing dependency is a warning.
    pub required: bool,
}

/// A health check that replaces the image's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Healthcheck {
    /// `["NONE"]`, `["CMD", …]` or `["CMD-SHELL", line]`; empty keeps the image's test.
    pub test: Vec<String>,
    /// Time between checks.
    pub interval: Option<Duration>,
    /// Time after which one check has failed.
    pub timeout: Option<Duration>,
    /// Failures in a row that mean unhealthy.
    pub retries: Option<u64>,
    /// Time in which failures do not count.
    pub start_period: Option<Duration>,
    /// Time between checks during the start period (Engine 25 and newer).
    pub start_interval: Option<Duration>,
}

/// Restart policy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Restart {
    /// Never.
    #[default]
    No,
    /// Always.
    Always,
    /// Always, unless a person stopped it.
    UnlessStopped,
    /// On a non-zero exit code, at most so many times.
    OnFailure {
        /// `None`: without limit.
        max_retries: Option<u32>,
    },
}

/// CPU, memory and processes. `None` means no limit.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Resources {
    /// Billionths of a CPU (`cpus`, `deploy.resources.limits.cpus`).
    pub nano_cpus: Option<i64>,
    /// Hard memory limit, bytes.
    pub memory: Option<u64>,
    /// Soft memory limit, bytes (`mem_reservation`).
    pub memory_reservation: Option<u64>,
    /// Memory and swap together, bytes; -1 is without limit.
    pub memory_swap: Option<i64>,
    /// 0 to 100.
    pub memory_swappiness: Option<i64>,
    /// Processes.
    pub pids: Option<i64>,
    /// `cpu_shares`.
    pub cpu_shares: Option<i64>,
    /// `cpu_quota`, µs.
    pub cpu_quota: Option<i64>,
    /// `cpu_period`, µs.
    pub cpu_period: Option<i64>,
    /// `cpu_rt_runtime`, µs.
    pub cpu_rt_runtime: Option<i64>,
    /// `cpu_rt_period`, µs.
    pub cpu_rt_period: Option<i64>,
    /// `cpu_count` (Windows).
    pub cpu_count: Option<i64>,
    /// `cpu_percent` (Windows).
    pub cpu_percent: Option<i64>,
    /// `cpuset`.
    pub cpuset: Option<String>,
    /// `oom_kill_disable`.
    pub oom_kill_disable: Option<bool>,
    /// `oom_score_adj`.
    pub oom_score_adj: Option<i64>,
    /// `blkio_config`.
    pub blkio: Option<Blkio>,
}

/// How an update of a service proceeds.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct UpdateConfig {
    /// Containers at a time; 0 is all.
    pub parallelism: Option<u64>,
    /// Pause between batches.
    pub delay: Option<Duration>,
    /// `continue`, `rollback`, `pause`.
    pub failure_action: Option<String>,
    /// Time to watch after each.
    pub monitor: Option<Duration>,
    /// Share of failures tolerated.
    pub max_failure_ratio: Option<f64>,
    /// `start-first` or `stop-first`.
    pub order: Option<String>,
}

/// A config or secret mounted as a file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct FileMount {
    /// Key of [`Project::configs`] or [`Project::secrets`].
    pub source: String,
    /// Absolute path in the container.
    pub target: String,
    /// Owner, numeric.
    pub uid: Option<String>,
    /// Group, numeric.
    pub gid: Option<String>,
    /// Permission bits.
    pub mode: Option<u32>,
}

/// `ulimits` entry.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Ulimit {
    /// Soft limit; -1 is without limit.
    pub soft: i64,
    /// Hard limit; -1 is without limit.
    pub hard: i64,
}

/// Log driver and its options.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Logging {
    /// Driver; empty is the engine's default.
    pub driver: String,
    /// Options.
    pub options: BTreeMap<String, String>,
}

/// A device of the host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Device {
    /// Path on the host, or a CDI name.
    pub source: String,
    /// Path in the container.
    pub target: String,
    /// Some of `rwm`.
    pub permissions: String,
}

/// A request for devices by capability.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct DeviceRequest {
    /// Driver, for example `nvidia`.
    pub driver: String,
    /// How many; -1 is all.
    pub count: Option<i64>,
    /// Which.
    pub device_ids: Vec<String>,
    /// Capabilities that must all be there.
    pub capabilities: Vec<String>,
    /// Driver options.
    pub options: BTreeMap<String, String>,
}

/// A `pre_start` hook: a container that shares the service's volumes and networks and must end well.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct PreStart {
    /// Its image; `None` is the service's.
    pub image: Option<String>,
    /// Once for each of the service's containers, instead of once for all.
    pub per_replica: bool,
    /// What it runs. An empty command leaves it to the image.
    pub hook: Hook,
}

/// A lifecycle hook: a command run in the service's container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Hook {
    /// Command.
    pub command: Vec<String>,
    /// User.
    pub user: Option<String>,
    /// With all privileges.
    pub privileged: bool,
    /// Working directory.
    pub working_dir: Option<String>,
    /// Environment.
    pub environment: BTreeMap<String, Option<String>>,
}
