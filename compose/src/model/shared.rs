//! What services share: networks, volumes, configs and secrets.

use std::collections::BTreeMap;

use serde::Serialize;

/// A config or a secret of the project.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct FileObject {
    /// Full name.
    pub name: String,
    /// Where the content comes from.
    pub source: FileSource,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

/// Where the content of a config or secret comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FileSource {
    /// A file of the project.
    File(String),
    /// A variable of the project's environment. The value is not in the model.
    Environment(String),
    /// Given in place (configs only).
    Content(String),
    /// Managed elsewhere; refused on a plain engine.
    #[default]
    External,
}

/// A network of the project.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Network {
    /// Name in the engine: `{project}_{key}` unless given.
    pub name: String,
    /// Exists already and is not ours.
    pub external: bool,
    /// Driver; empty is the engine's default (`bridge`).
    pub driver: String,
    /// Driver options.
    pub driver_opts: BTreeMap<String, String>,
    /// No way out.
    pub internal: bool,
    /// `attachable`.
    pub attachable: bool,
    /// `enable_ipv4`.
    pub enable_ipv4: Option<bool>,
    /// `enable_ipv6`.
    pub enable_ipv6: Option<bool>,
    /// IPAM driver.
    pub ipam_driver: Option<String>,
    /// IPAM driver options.
    pub ipam_options: BTreeMap<String, String>,
    /// IPAM pools.
    pub ipam: Vec<IpamPool>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

/// One address pool of a network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct IpamPool {
    /// Subnet in CIDR form.
    pub subnet: Option<String>,
    /// Gateway.
    pub gateway: Option<String>,
    /// Range in CIDR form.
    pub ip_range: Option<String>,
    /// Addresses kept free, by host name.
    pub aux_addresses: BTreeMap<String, String>,
}

/// A named volume of the project.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Volume {
    /// Name in the engine: `{project}_{key}` unless given.
    pub name: String,
    /// Exists already and is not ours.
    pub external: bool,
    /// Driver; empty is `local`.
    pub driver: String,
    /// Driver options.
    pub driver_opts: BTreeMap<String, String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}
