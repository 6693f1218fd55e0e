//! The customer's rules, evaluated. Pure: rules and a project in, what is not allowed out.
//!
//! The rules are in `/etc/kedge/guard.toml`, owned by root; nothing from the vendor can change them. By default a
//! release may not ask for what would make it master of the host: all privileges, the host's namespaces, the engine's socket,
//! the host's own folders, added capabilities, devices. What is not said is not allowed.

mod disguise;
pub mod support;

use std::collections::BTreeSet;

use disguise::Mounted;
use kedge_compose::model::{Hook, MountKind, Project, Service};
use serde::Deserialize;

use crate::engine::spec::LABEL_PROJECT;
use crate::engine::types as engine;
use crate::plan::Desired;

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
    /// Types of file systems that volumes may mount by `driver_opts`, such as `nfs`.
    pub volume_types: BTreeSet<String>,
    /// Volumes of other programs that may be used, by name. One that nobody's label is on needs no rule.
    pub external_volumes: BTreeSet<String>,
    /// Containers of other programs whose volumes may be shared, by name.
    pub volumes_from: BTreeSet<String>,
    /// Devices of the host.
    pub devices: bool,
    /// Profiles switched off or exchanged: any `security_opt` but `no-new-privileges`.
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
/// no access to the host. `really` says where a path of the host leads once links are followed, if that can be told.
pub fn evaluate(
    rules: &Rules,
    project: &Project,
    project_root: &str,
    really: &dyn Fn(&str) -> Option<String>,
) -> Vec<Violation> {
    let paths = rules.allow.host_paths.iter();
    let real = Allow { host_paths: paths.filter_map(|path| really(path)).collect(), ..Allow::default() };
    let host_path_allowed = |path: &str| {
        let there = really(path);
        host_path_allowed(&rules.allow, path) && there.is_none_or(|there| host_path_allowed(&real, &there))
    };
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
            if !below(source, project_root) && !host_path_allowed(source) {
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
            // A profile given in full text can allow all that `unconfined` does.
            if !option.starts_with("no-new-privileges") && !allow.unconfined {
                let shown: String = option.chars().take(80).collect();
                no(format!("`security_opt: {shown}`"), "allow.unconfined = true");
            }
        }
        for name in service.volumes_from.iter().filter_map(|from| from.strip_prefix("container:")) {
            let name = name.split(':').next().unwrap_or_default();
            if !allow.volumes_from.contains(name) {
                let rule = format!("allow.volumes_from = [\"{name}\"]");
                no(format!("all that the container {name} mounts"), &rule);
            }
        }
    }
    for (key, volume) in &project.volumes {
        let mut no = |what: String, rule: String| {
            violations.push(Violation { service: format!("(volume {key})"), what, rule });
        };
        match disguise::mounted(volume) {
            Mounted::Nothing => {}
            Mounted::Path(path) if host_path_allowed(path) => {}
            Mounted::Path(path) => {
                no(format!("the host's {path}"), format!("allow.host_paths = [\"{path}\"]"));
            }
            Mounted::Other { kind, device } => {
                if !rules.allow.volume_types.contains(kind) {
                    let rule = format!("allow.volume_types = [\"{kind}\"]");
                    no(format!("a mount of the type {kind:?}"), rule);
                } else if device.starts_with('/') && !host_path_allowed(device) {
                    no(format!("the host's {device}"), format!("allow.host_paths = [\"{device}\"]"));
                }
            }
            Mounted::Never(why) => {
                no(why, "nothing: name an absolute path, and no flags but `ro`".to_owned())
            }
        }
    }
    violations
}

/// Volumes that exist, that the project calls its own surroundings' (`external`), and that belong to another deployment or
/// compose project: somebody else's data, which the rules would have to name.
pub fn others_volumes(rules: &Rules, desired: &Desired, there: &[engine::Volume]) -> Vec<String> {
    let is_anothers = |volume: &engine::Volume| {
        let project = volume.labels.get(LABEL_PROJECT);
        volume.deployment().is_some_and(|owner| owner != desired.deployment)
            || project.is_some_and(|project| *project != desired.project)
    };
    let is_external = |name: &str| desired.volumes.get(name).is_some_and(|spec| spec.external);
    there
        .iter()
        .filter(|volume| is_external(&volume.name) && is_anothers(volume))
        .filter(|volume| !rules.allow.external_volumes.contains(&volume.name))
        .map(|volume| {
            let name = &volume.name;
            format!("the volume {name} is another program's; guard.toml would allow it with allow.external_volumes = [\"{name}\"]")
        })
        .collect()
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
    use kedge_compose::model::{Device, Mount, PreStart, Volume};

    use crate::engine::spec::VolumeSpec;

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
        evaluate(rules, project, "/project", &|_| None).len()
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
            project(|s| s.security_opt.push("label=type:spc_t".into())),
            project(|s| s.security_opt.push("seccomp={\"defaultAction\":\"SCMP_ACT_ALLOW\"}".into())),
            project(|s| s.volumes_from.push("container:portainer:ro".into())),
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

    fn volume(kind: &str, device: &str, options: &str) -> Project {
        let mut project = project(|_| {});
        let given = [("type", kind), ("device", device), ("o", options)];
        let given = given.into_iter().filter(|(_, value)| !value.is_empty());
        let driver_opts = given.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        project.volumes.insert("data".into(), Volume { driver_opts, ..Volume::default() });
        project
    }

    #[test]
    fn a_mount_disguised_as_a_volume_is_refused_like_a_bind() {
        let rules = |text: &str| toml::from_str::<Rules>(&format!("[allow]\n{text}")).unwrap();
        let paths = rules("host_paths = ['/var/run', '/dev/sdb1']");
        let types = rules("volume_types = ['nfs', 'overlay', 'ext4', 'none', 'tmpfs']");
        // Refused without a rule, with rules for paths, and with rules for types?
        for (kind, device, options, refused) in [
            ("", "", "", [false, false, false]),
            ("tmpfs", "tmpfs", "size=1m,mode=0700,uid=1", [false, false, false]),
            ("tmpfs", "/var/run", "bind", [true, true, true]),
            ("", "/var/run", "bind", [true, false, true]),
            ("none", "/var/run/x", "rbind,ro", [true, false, true]),
            ("none", "/var/run", "bind,rshared", [true, true, true]),
            ("none", "var/run", "bind", [true, true, true]),
            ("none", "/project/x", "bind", [true, true, true]),
            ("nfs", ":/export", "addr=10.0.0.1,rw", [true, true, false]),
            ("nfs", "/var/run", "bind", [true, false, true]),
            ("ext4", "/dev/sdb1", "", [true, true, true]),
            ("overlay", "overlay", "lowerdir=/etc:/var/lib", [true, true, false]),
        ] {
            let project = volume(kind, device, options);
            let found = [&Rules::default(), &paths, &types].map(|rules| count(rules, &project) > 0);
            assert_eq!(found, refused, "{kind} {device} {options}");
        }
        let both = rules("host_paths = ['/dev/sdb1']\nvolume_types = ['ext4']");
        assert_eq!(count(&both, &volume("ext4", "/dev/sdb1", "")), 0);
    }

    #[test]
    fn a_link_below_what_is_allowed_allows_nothing_else() {
        let rules: Rules = toml::from_str("[allow]\nhost_paths = ['/srv/data']").unwrap();
        let leads = |path: &str| {
            Some(if path.ends_with("/link") { "/etc".to_owned() } else { path.replace("/srv", "/mnt/srv") })
        };
        assert_eq!(evaluate(&rules, &bind("/srv/data/link"), "/project", &leads).len(), 1);
        assert_eq!(evaluate(&rules, &bind("/srv/data/pg"), "/project", &leads).len(), 0);
    }

    #[test]
    fn an_external_volume_that_is_another_programs_needs_a_rule() {
        let mut desired = Desired::nothing("shop", "shop");
        for (name, external) in [("plain", true), ("theirs", true), ("own", true), ("made", false)] {
            desired.volumes.insert(name.into(), VolumeSpec { external, ..Default::default() });
        }
        let there = |name: &str, project: Option<&str>| engine::Volume {
            name: name.into(),
            labels: project.map(|p| (LABEL_PROJECT.to_owned(), p.to_owned())).into_iter().collect(),
            ..engine::Volume::default()
        };
        let there = [
            there("plain", None),
            there("theirs", Some("crm")),
            there("own", Some("shop")),
            there("made", Some("crm")),
        ];
        let found = others_volumes(&Rules::default(), &desired, &there);
        assert!(found.len() == 1 && found[0].contains("[\"theirs\"]"), "{found:?}");
        let rules: Rules = toml::from_str("[allow]\nexternal_volumes = ['theirs']").unwrap();
        assert!(others_volumes(&rules, &desired, &there).is_empty());
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
