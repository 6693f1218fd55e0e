//! The customer's rules, evaluated. Pure: rules and a project in, what is not allowed out.
//!
//! The rules are in `/etc/kedge/guard.toml`, owned by root; nothing from the vendor can change them. By default a
//! release may not ask for what would make it master of the host: all privileges, the host's namespaces, the engine's socket,
//! the host's own folders, added capabilities, devices. What is not said is not allowed.

pub mod support;

use std::collections::BTreeSet;

use kedge_compose::model::{Hook, MountKind, Project, Service, Volume};
use serde::Deserialize;

/// `/etc/kedge/guard.toml`
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rules {
    /// What releases may ask for.
    pub allow: Allow,
    /// What may leave the host in reports.
    pub reports: Reports,
    /// Whether and how the vendor may come in.
    pub support: support::Support,
}

/// `[reports]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Reports {
    /// Lines of a failing service's log that its report may quote, secrets blacked out: 0 to 20.
    pub log_lines: u8,
}

impl Default for Reports {
    fn default() -> Self {
        Self { log_lines: 5 }
    }
}

/// `[allow]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Allow {
    /// Containers with all privileges.
    pub privileged: bool,
    /// The host's network, process, IPC, UTS, user or cgroup namespace.
    pub host_namespaces: bool,
    /// Capabilities that may be added.
    pub capabilities: BTreeSet<String>,
    /// Paths of the host below which binds are allowed.
    pub host_paths: BTreeSet<String>,
    /// Devices of the host.
    pub devices: bool,
    /// Profiles switched off: `seccomp=unconfined`, `apparmor=unconfined`, `label=disable`.
    pub unconfined: bool,
}

/// One thing that a release asks for and may not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("service {service} asks for {what}; guard.toml would allow it with {rule}")]
pub struct Violation {
    /// Service.
    pub service: String,
    /// What it asks for.
    pub what: String,
    /// The line that would allow it.
    pub rule: String,
}

/// What of `project` the rules do not allow. `project_root` is where the bundle's own files are: binding those is
/// no access to the host.
pub fn evaluate(rules: &Rules, project: &Project, project_root: &str) -> Vec<Violation> {
    let mut violations = Vec::new();
    for service in project.services.values() {
        let mut no = |what: String, rule: &str| {
            violations.push(Violation { service: service.name.clone(), what, rule: rule.to_owned() });
        };
        let allow = &rules.allow;
        if service.privileged && !allow.privileged {
            no("all privileges".to_owned(), "allow.privileged = true");
        }
        for (key, _) in hooks(service).filter(|(_, hook)| hook.privileged && !allow.privileged) {
            no(format!("all privileges for a `{key}` hook"), "allow.privileged = true");
        }
        if !allow.host_namespaces {
            for (key, mode) in namespaces(service) {
                if mode == "host" || mode.starts_with("container:") {
                    no(format!("`{key}: {mode}`"), "allow.host_namespaces = true");
                }
            }
        }
        for capability in &service.cap_add {
            let name = capability.to_ascii_uppercase();
            let name = name.strip_prefix("CAP_").unwrap_or(&name);
            if !allow.capabilities.contains(name) {
                no(format!("the capability {name}"), &format!("allow.capabilities = [\"{name}\"]"));
            }
        }
        for source in binds(service) {
            if !below(source, project_root) && !host_path_allowed(allow, source) {
                no(format!("the host's {source}"), &format!("allow.host_paths = [\"{source}\"]"));
            }
        }
        if !allow.devices
            && (!service.devices.is_empty()
                || !service.device_requests.is_empty()
                || !service.device_cgroup_rules.is_empty())
        {
            no("devices of the host".to_owned(), "allow.devices = true");
        }
        for option in &service.security_opt {
            let relaxes =
                ["unconfined", "label=disable", "label:disable"].iter().any(|bad| option.contains(bad));
            if relaxes && !allow.unconfined {
                no(format!("`security_opt: {option}`"), "allow.unconfined = true");
            }
        }
    }
    for (key, volume) in &project.volumes {
        if let Some(device) = disguised_bind(volume)
            && !host_path_allowed(&rules.allow, device)
        {
            violations.push(Violation {
                service: format!("(volume {key})"),
                what: format!("the host's {device}"),
                rule: format!("allow.host_paths = [\"{device}\"]"),
            });
        }
    }
    violations
}

/// Volumes of the local driver can be binds in disguise: `driver_opts: {o: bind, device: /etc}`.
fn disguised_bind(volume: &Volume) -> Option<&str> {
    let device = volume.driver_opts.get("device")?;
    (!volume.external && device.starts_with('/')).then_some(device)
}

fn namespaces(service: &Service) -> impl Iterator<Item = (&'static str, &str)> {
    [
        ("network_mode", &service.network_mode),
        ("pid", &service.pid),
        ("ipc", &service.ipc),
        ("uts", &service.uts),
        ("userns_mode", &service.userns_mode),
        ("cgroup", &service.cgroup),
    ]
    .into_iter()
    .filter_map(|(key, value)| Some((key, value.as_deref()?)))
}

fn hooks(service: &Service) -> impl Iterator<Item = (&'static str, &Hook)> {
    let pre_start = service.pre_start.iter().map(|hook| ("pre_start", &hook.hook));
    let post_start = service.post_start.iter().map(|hook| ("post_start", hook));
    pre_start.chain(post_start).chain(service.pre_stop.iter().map(|hook| ("pre_stop", hook)))
}

fn binds(service: &Service) -> impl Iterator<Item = &str> {
    service.volumes.iter().filter(|m| m.kind == MountKind::Bind).filter_map(|m| m.source.as_deref())
}

/// Whether `path` is `root` or below it, by whole names. Paths with `..` are below nothing.
fn below(path: &str, root: &str) -> bool {
    if path.split('/').any(|part| part == "..") {
        return false;
    }
    let root = root.trim_end_matches('/');
    path == root || path.strip_prefix(root).is_some_and(|rest| rest.starts_with('/'))
}

/// Whether the rules allow a path of the host. An allowed `/` would allow everything, the engine's socket included: it only
/// ever allows itself, spelt out.
fn host_path_allowed(allow: &Allow, path: &str) -> bool {
    let is_root = |allowed: &str| allowed.trim_end_matches('/').is_empty();
    allow.host_paths.iter().any(|allowed| below(path, allowed) && (!is_root(allowed) || path == "/"))
}

#[cfg(test)]
mod tests {
    use kedge_compose::model::{Device, Mount, PreStart};

    use super::*;

    fn project(change: impl FnOnce(&mut Service)) -> Project {
        let mut service = Service { name: "web".into(), ..Service::default() };
        change(&mut service);
        let mut project = Project::default();
        project.services.insert("web".into(), service);
        project
    }

    fn bind(source: &str) -> Project {
        let source = source.to_owned();
        project(|s| {
            s.volumes.push(Mount { kind: MountKind::Bind, source: Some(source), ..Mount::default() });
        })
    }

    fn count(rules: &Rules, project: &Project) -> usize {
        evaluate(rules, project, "/project").len()
    }

    #[test]
    fn an_ordinary_service_is_allowed() {
        assert_eq!(count(&Rules::default(), &project(|_| {})), 0);
        assert_eq!(count(&Rules::default(), &bind("/project/conf/nginx.conf")), 0);
    }

    #[test]
    fn what_makes_a_service_master_of_the_host_is_refused_by_default() {
        let table: Vec<Project> = vec![
            project(|s| s.privileged = true),
            project(|s| s.post_start.push(Hook { privileged: true, ..Hook::default() })),
            project(|s| s.pre_stop.push(Hook { privileged: true, ..Hook::default() })),
            project(|s| {
                let hook = Hook { privileged: true, ..Hook::default() };
                s.pre_start.push(PreStart { hook, ..PreStart::default() });
            }),
            project(|s| s.network_mode = Some("host".into())),
            project(|s| s.pid = Some("host".into())),
            project(|s| s.ipc = Some("host".into())),
            project(|s| s.uts = Some("host".into())),
            project(|s| s.userns_mode = Some("host".into())),
            project(|s| s.cgroup = Some("host".into())),
            project(|s| s.pid = Some("container:other".into())),
            project(|s| s.cap_add.push("SYS_ADMIN".into())),
            project(|s| s.devices.push(Device::default())),
            project(|s| s.device_cgroup_rules.push("a *:* rwm".into())),
            project(|s| s.security_opt.push("seccomp=unconfined".into())),
            project(|s| s.security_opt.push("label:disable".into())),
            bind("/"),
            bind("/var/run/docker.sock"),
            bind("/etc"),
            bind("/project/../etc"),
            bind("/projects"),
        ];
        for project in table {
            assert_eq!(count(&Rules::default(), &project), 1, "{project:?}");
        }
    }

    #[test]
    fn a_bind_disguised_as_a_volume_is_refused_like_a_bind() {
        let mut project = project(|_| {});
        let mut volume = Volume::default();
        volume.driver_opts.insert("o".into(), "bind".into());
        volume.driver_opts.insert("device".into(), "/var/run".into());
        project.volumes.insert("data".into(), volume);
        assert_eq!(count(&Rules::default(), &project), 1);
        let rules: Rules = toml::from_str("[allow]\nhost_paths = ['/var/run']").unwrap();
        assert_eq!(count(&rules, &project), 0);
    }

    #[test]
    fn each_rule_allows_what_it_names_and_nothing_else() {
        let rules = |text: &str| toml::from_str::<Rules>(text).unwrap();
        let capabilities = rules("[allow]\ncapabilities = ['NET_ADMIN']");
        assert_eq!(count(&capabilities, &project(|s| s.cap_add.push("cap_net_admin".into()))), 0);
        assert_eq!(count(&capabilities, &project(|s| s.cap_add.push("ALL".into()))), 1);
        let paths = rules("[allow]\nhost_paths = ['/srv/data']");
        assert_eq!(count(&paths, &bind("/srv/data/pg")), 0);
        assert_eq!(count(&paths, &bind("/srv/data2")), 1);
        assert_eq!(count(&paths, &bind("/srv")), 1);
        let root = rules("[allow]\nhost_paths = ['/']");
        assert_eq!(count(&root, &bind("/")), 0);
        assert_eq!(count(&root, &bind("/var/run/docker.sock")), 1);
    }

    #[test]
    fn a_misspelt_rule_is_an_error() {
        assert!(toml::from_str::<Rules>("[allow]\nprivilegd = true").is_err());
    }
}
