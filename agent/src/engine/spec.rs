//! What may be asked of the engine at creation: everything, and nothing that the engine decides itself.
//!
//! Shapes that mean the same in a compose file and in the engine (limits, mounts, health checks) are those of
//! [`kedge_compose::model`], with references resolved: a mount's source is a volume's name or a host path.
//!
//! The digest of a [`ContainerSpec`] is written to the container's label [`LABEL_SPEC`]. It leaves out what is
//! empty, so that a field added to the agent changes no digest and recreates nothing, and what is
//! [informational](is_informational).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use kedge_compose::model::{
    Attachment, Device, DeviceRequest, Healthcheck, Logging, Mount, Network, Port, Resources, Restart,
    Ulimit, Volume,
};
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::types::ImageConfig;

/// Label: which deployment owns the object. Without it an object is not ours.
pub const LABEL_DEPLOYMENT: &str = "sh.kedge.deployment";
/// Label: digest of the container's spec.
pub const LABEL_SPEC: &str = "sh.kedge.spec";
/// Label: digest of the contents of the files mounted into the container.
pub const LABEL_FILES: &str = "sh.kedge.files";
/// Label: the container's lifecycle hooks, so that they are known wherever it is started or stopped.
pub const LABEL_HOOKS: &str = "sh.kedge.hooks";
/// Label of a container that only runs a hook: which one.
pub const LABEL_HOOK: &str = "sh.kedge.hook";
/// Label of a container that belongs to a support session: which one. It belongs to no deployment.
pub const LABEL_SUPPORT: &str = "sh.kedge.support";
/// Label of a support session's container: the key of the agent that made it, so that agents that share an engine leave each
/// other's alone.
pub const LABEL_SUPPORT_HOST: &str = "sh.kedge.support.host";
/// Label: generation that made the object; informational.
pub const LABEL_GENERATION: &str = "sh.kedge.generation";
/// Label: the network's range of addresses was named when it was made, so the engine lets a container have a particular
/// address there (see [`super::types::Network::keeps_addresses`]); informational.
pub const LABEL_RANGE: &str = "sh.kedge.range";
/// Label of docker compose: project.
pub const LABEL_PROJECT: &str = "com.docker.compose.project";
/// Label of docker compose: service.
pub const LABEL_SERVICE: &str = "com.docker.compose.service";
/// Label of docker compose: number of the container within its service, from 1.
pub const LABEL_NUMBER: &str = "com.docker.compose.container-number";
/// Label of docker compose: what a container's service depends on, as `service:condition:restart,…`.
pub const LABEL_DEPENDS_ON: &str = "com.docker.compose.depends_on";
/// Label of docker compose: key of a network.
pub const LABEL_NETWORK: &str = "com.docker.compose.network";
/// Label of docker compose: key of a volume.
pub const LABEL_VOLUME: &str = "com.docker.compose.volume";

/// Labels that inform people and tools and are no reason to make a container anew when they differ.
const INFORMATIONAL: &[&str] = &[
    LABEL_SPEC,
    LABEL_GENERATION,
    LABEL_RANGE,
    "com.docker.compose.config-hash",
    LABEL_DEPENDS_ON,
    "com.docker.compose.image",
    "com.docker.compose.oneoff",
    "com.docker.compose.project.config_files",
    "com.docker.compose.project.environment_file",
    "com.docker.compose.project.working_dir",
    "com.docker.compose.replace",
    "com.docker.compose.version",
];

/// Whether a label only informs: left out of digest and comparison.
pub fn is_informational(label: &str) -> bool {
    INFORMATIONAL.contains(&label)
}

/// Environment of a container. Values may be secrets: `Debug` shows names only.
#[derive(Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Environment(pub BTreeMap<String, Option<String>>);

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// A container as it is asked for. `None` and empty leave the matter to image and engine.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct ContainerSpec {
    /// Image ID, `sha256:…`.
    pub image: String,
    /// `None` takes the image's, an empty list clears it.
    pub command: Option<Vec<String>>,
    /// `None` takes the image's, an empty list clears it.
    pub entrypoint: Option<Vec<String>>,
    /// Environment; `None` as a value unsets the image's.
    pub env: Environment,
    /// Labels, ours included.
    pub labels: BTreeMap<String, String>,
    /// OCI annotations.
    pub annotations: BTreeMap<String, String>,
    /// User.
    pub user: Option<String>,
    /// Supplementary groups.
    pub group_add: Vec<String>,
    /// Working directory.
    pub working_dir: Option<String>,
    /// Host name.
    pub hostname: Option<String>,
    /// Domain name.
    pub domainname: Option<String>,
    /// An init process as PID 1.
    pub init: Option<bool>,
    /// A terminal.
    pub tty: bool,
    /// Standard input kept open.
    pub stdin_open: bool,
    /// It ends when whoever is attached ends theirs.
    #[serde(skip)]
    pub stdin_once: bool,
    /// Signal that asks it to end.
    pub stop_signal: Option<String>,
    /// Time between that signal and SIGKILL.
    pub stop_grace: Option<Duration>,
    /// Read-only root file system.
    pub read_only: bool,
    /// All privileges.
    pub privileged: bool,
    /// Capabilities added.
    pub cap_add: Vec<String>,
    /// Capabilities dropped.
    pub cap_drop: Vec<String>,
    /// Security options.
    pub security_opt: Vec<String>,
    /// Ulimits by name.
    pub ulimits: BTreeMap<String, Ulimit>,
    /// Kernel parameters.
    pub sysctls: BTreeMap<String, String>,
    /// `name:address`.
    pub extra_hosts: Vec<String>,
    /// DNS servers.
    pub dns: Vec<String>,
    /// DNS search domains.
    pub dns_search: Vec<String>,
    /// DNS options.
    pub dns_opt: Vec<String>,
    /// Log driver.
    pub logging: Option<Logging>,
    /// Restart policy.
    pub restart: Restart,
    /// Limits.
    pub resources: Resources,
    /// Health check.
    pub healthcheck: Option<Healthcheck>,
    /// Exposed, `port/protocol`.
    pub expose: BTreeSet<String>,
    /// Published.
    pub ports: Vec<Port>,
    /// Mounts; sources are volume names or absolute host paths.
    pub mounts: Vec<Mount>,
    /// `tmpfs` by path, with options.
    pub tmpfs: BTreeMap<String, String>,
    /// Containers whose volumes are mounted too, `name[:ro]`.
    pub volumes_from: Vec<String>,
    /// `none`, `host`, `bridge`, `container:NAME`; `None` with [`ContainerSpec::endpoints`].
    pub network_mode: Option<String>,
    /// Networks by engine name.
    pub endpoints: BTreeMap<String, Attachment>,
    /// `name:alias` of other containers on the same network.
    pub links: Vec<String>,
    /// Fixed MAC address.
    pub mac_address: Option<String>,
    /// Devices.
    pub devices: Vec<Device>,
    /// Device cgroup rules.
    pub device_cgroup_rules: Vec<String>,
    /// Devices by capability.
    pub device_requests: Vec<DeviceRequest>,
    /// `/dev/shm`, bytes.
    pub shm_size: Option<u64>,
    /// PID namespace: `host` or `container:NAME`.
    pub pid: Option<String>,
    /// IPC namespace.
    pub ipc: Option<String>,
    /// UTS namespace.
    pub uts: Option<String>,
    /// User namespace.
    pub userns: Option<String>,
    /// Cgroup namespace: `host` or `private`.
    pub cgroupns: Option<String>,
    /// Cgroup parent.
    pub cgroup_parent: Option<String>,
    /// OCI runtime.
    pub runtime: Option<String>,
    /// Isolation (Windows).
    pub isolation: Option<String>,
    /// Storage driver options.
    pub storage_opt: BTreeMap<String, String>,
    /// Platform `os/arch[/variant]`.
    pub platform: Option<String>,
}

impl ContainerSpec {
    /// Our digest of the spec: 64 hex digits, equal for specs that ask for the same.
    pub fn digest(&self) -> String {
        digest_of(self)
    }

    /// The configuration an engine makes of this spec on an image: what the spec leaves open is the image's.
    #[must_use]
    pub fn over(&self, image: &ImageConfig) -> Self {
        let mut whole = self.clone();
        // The engine's rule: whoever gives an entry point gives the command too.
        match &self.entrypoint {
            Some(entrypoint) if !entrypoint.is_empty() => {
                whole.command = Some(self.command.clone().unwrap_or_default())
            }
            given => {
                whole.entrypoint = Some(given.clone().unwrap_or_else(|| image.entrypoint.clone()));
                let command = self.command.clone().unwrap_or_default();
                whole.command = Some(if command.is_empty() { image.command.clone() } else { command });
            }
        }
        for (name, value) in &image.env {
            whole.env.0.entry(name.clone()).or_insert_with(|| Some(value.clone()));
        }
        whole.env.0.retain(|_, value| value.is_some());
        for (name, value) in &image.labels {
            whole.labels.entry(name.clone()).or_insert_with(|| value.clone());
        }
        let or_image = |given: &Option<String>, image: &str| {
            given.clone().or_else(|| (!image.is_empty()).then(|| image.to_owned()))
        };
        whole.user = or_image(&self.user, &image.user);
        whole.working_dir = or_image(&self.working_dir, &image.working_dir);
        whole.stop_signal = self.stop_signal.clone().or_else(|| image.stop_signal.clone());
        whole.expose.extend(image.expose.iter().cloned());
        whole.healthcheck = match (&self.healthcheck, &image.healthcheck) {
            (Some(given), Some(image)) if given.test.first().is_none_or(|word| word != "NONE") => {
                Some(Healthcheck {
                    test: if given.test.is_empty() { image.test.clone() } else { given.test.clone() },
                    interval: given.interval.or(image.interval),
                    timeout: given.timeout.or(image.timeout),
                    retries: given.retries.or(image.retries),
                    start_period: given.start_period.or(image.start_period),
                    start_interval: given.start_interval.or(image.start_interval),
                })
            }
            (given, image) => given.clone().or_else(|| image.clone()),
        };
        whole
    }

    /// Whether the engine checks its health, on this image.
    pub fn is_checked(&self, image: &ImageConfig) -> bool {
        let test = |check: &Option<Healthcheck>| {
            check.as_ref().map(|check| check.test.clone()).filter(|test| !test.is_empty())
        };
        test(&self.healthcheck).or_else(|| test(&image.healthcheck)).is_some_and(|test| test[0] != "NONE")
    }

    /// Names of containers whose namespaces or volumes this one joins.
    pub fn joins(&self) -> impl Iterator<Item = &str> {
        let namespaces = [&self.network_mode, &self.pid, &self.ipc].into_iter().flatten();
        namespaces.filter_map(|mode| mode.strip_prefix("container:")).chain(
            self.volumes_from.iter().map(|from| from.split_once(':').map_or(from.as_str(), |(name, _)| name)),
        )
    }
}

/// A network as it is asked for: the compose model's, whose labels hold ours too.
pub type NetworkSpec = Network;

/// A volume as it is asked for: the compose model's, whose labels hold ours too.
pub type VolumeSpec = Volume;

/// What can be changed in a running container.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Update {
    /// New restart policy.
    pub restart: Option<Restart>,
    /// New limits, whole.
    pub resources: Option<Resources>,
}

/// Digest of anything that serialises, without its empty values and informational labels.
pub fn digest_of(value: &impl Serialize) -> String {
    // Our types serialise without fail; should one not, it differs from everything and is made anew.
    let mut tree = serde_json::to_value(value).unwrap_or_else(|error| Value::String(error.to_string()));
    if let Some(labels) = tree.get_mut("labels").and_then(Value::as_object_mut) {
        labels.retain(|name, _| !is_informational(name));
    }
    prune(&mut tree, "");
    hex::encode(Sha256::digest(tree.to_string().as_bytes()))
}

/// Drops what is empty. An empty `command` or `entrypoint` says something and a bare variable does too; they stay.
fn prune(value: &mut Value, within: &str) {
    let Value::Object(map) = value else {
        if let Value::Array(items) = value {
            items.iter_mut().for_each(|item| prune(item, ""));
        }
        return;
    };
    if within == "env" {
        return;
    }
    map.iter_mut().for_each(|(key, child)| prune(child, key));
    map.retain(|key, child| match child {
        Value::Null | Value::Bool(false) => false,
        Value::String(text) => within == "labels" || !text.is_empty(),
        Value::Array(items) => !items.is_empty() || key == "command" || key == "entrypoint",
        // An endpoint without options is still an endpoint.
        Value::Object(children) => within == "endpoints" || !children.is_empty(),
        _ => true,
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> ContainerSpec {
        ContainerSpec { image: "sha256:1".into(), ..ContainerSpec::default() }
    }

    #[test]
    fn informational_labels_do_not_change_the_digest() {
        let mut labelled = spec();
        labelled.labels.insert(LABEL_GENERATION.into(), "7".into());
        assert_eq!(labelled.digest(), spec().digest());
        labelled.labels.insert("tier".into(), "".into());
        assert_ne!(labelled.digest(), spec().digest());
    }

    #[test]
    fn a_cleared_command_differs_from_the_images() {
        let cleared = ContainerSpec { command: Some(Vec::new()), ..spec() };
        assert_ne!(cleared.digest(), spec().digest());
    }

    #[test]
    fn an_endpoint_without_options_and_a_bare_variable_count() {
        let mut joined = spec();
        joined.endpoints.insert("net".into(), Attachment::default());
        assert_ne!(joined.digest(), spec().digest());
        let mut bare = spec();
        bare.env.0.insert("PATH".into(), None);
        assert_ne!(bare.digest(), spec().digest());
    }

    #[test]
    fn debug_shows_no_value_of_the_environment() {
        let mut secret = spec();
        secret.env.0.insert("PASSWORD".into(), Some("hunter2".into()));
        let shown = format!("{secret:?}");
        assert!(shown.contains("PASSWORD") && !shown.contains("hunter2"));
    }

    #[test]
    fn joined_containers_are_named() {
        let spec = ContainerSpec {
            network_mode: Some("container:a".into()),
            pid: Some("host".into()),
            volumes_from: vec!["b:ro".into()],
            ..spec()
        };
        assert_eq!(spec.joins().collect::<Vec<_>>(), ["a", "b"]);
    }
}
