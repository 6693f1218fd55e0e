//! Which containers a session may join: none from which the host is in reach.
//!
//! A session's container has no capabilities and no engine; it shares its target's processes and network. In the
//! host's own namespaces that would be the host's processes and network, and beside the engine's socket it is a step from it.

use crate::engine::types::Container;

/// Paths of the host that lead to an engine's socket, or to everything.
const PERILOUS: [&str; 8] =
    ["/", "/run", "/var/run", "/var", "/run/docker", "/run/containerd", "/proc", "/sys"];

/// Why a container may not be joined; `None` when it may. `container` must have been inspected.
pub fn objection(container: &Container, engine_socket: &str) -> Option<String> {
    let Some(detail) = &container.detail else { return Some("nothing is known of it".into()) };
    let spec = &detail.spec;
    if spec.privileged {
        return Some("it has all privileges".into());
    }
    let namespaces = [
        ("network", &spec.network_mode),
        ("process", &spec.pid),
        ("IPC", &spec.ipc),
        ("UTS", &spec.uts),
        ("user", &spec.userns),
        ("cgroup", &spec.cgroupns),
    ];
    for (name, mode) in namespaces {
        match mode.as_deref() {
            // Engines without namespaces of control groups say `host` for every container.
            Some("host") if name != "cgroup" => return Some(format!("it is in the host's {name} namespace")),
            // Whose that is has not been looked at.
            Some(mode) if mode.starts_with("container:") => {
                return Some(format!("it shares another container's {name} namespace"));
            }
            _ => {}
        }
    }
    let sources = detail.mounts.iter().map(|mount| mount.source.as_str());
    let asked = spec.mounts.iter().filter_map(|mount| mount.source.as_deref());
    for source in sources.chain(asked) {
        let path = source.trim_end_matches('/');
        let path = if path.is_empty() && !source.is_empty() { "/" } else { path };
        let is_socket = path.ends_with(".sock") || path == engine_socket.trim_end_matches('/');
        if is_socket || PERILOUS.contains(&path) {
            return Some(format!("it has {source} of the host mounted"));
        }
    }
    if !spec.devices.is_empty() || !spec.device_cgroup_rules.is_empty() {
        return Some("it has devices of the host".into());
    }
    None
}

#[cfg(test)]
mod tests {
    use crate::engine::spec::ContainerSpec;
    use crate::engine::types::{Detail, MountPoint};

    use super::*;

    fn container(change: impl FnOnce(&mut ContainerSpec), mounts: &[&str]) -> Container {
        let mut detail = Detail::default();
        change(&mut detail.spec);
        let mount = |source: &&str| MountPoint {
            kind: "bind".into(),
            source: (*source).to_owned(),
            ..MountPoint::default()
        };
        detail.mounts = mounts.iter().map(mount).collect();
        Container { detail: Some(detail), ..Container::default() }
    }

    #[test]
    fn a_container_from_which_the_host_is_in_reach_is_not_joined() {
        let table: Vec<Container> = vec![
            Container::default(),
            container(|s| s.privileged = true, &[]),
            container(|s| s.pid = Some("host".into()), &[]),
            container(|s| s.network_mode = Some("host".into()), &[]),
            container(|s| s.ipc = Some("host".into()), &[]),
            container(|s| s.uts = Some("host".into()), &[]),
            container(|s| s.userns = Some("host".into()), &[]),
            container(|s| s.network_mode = Some("container:abc".into()), &[]),
            container(|s| s.pid = Some("container:abc".into()), &[]),
            container(|s| s.device_cgroup_rules.push("a *:* rwm".into()), &[]),
            container(|_| {}, &["/var/run/docker.sock"]),
            container(|_| {}, &["/srv/engine/socket"]),
            container(|_| {}, &["/run/podman/podman.sock"]),
            container(|_| {}, &["/"]),
            container(|_| {}, &["/var/run/"]),
            container(|_| {}, &["/data", "/run"]),
        ];
        for container in table {
            assert!(objection(&container, "/srv/engine/socket").is_some(), "{container:?}");
        }
    }

    #[test]
    fn an_ordinary_container_is_joined() {
        for container in [
            container(|_| {}, &[]),
            container(
                |s| s.network_mode = Some("shop_default".into()),
                &["/var/lib/docker/volumes/x/_data", "/srv/shop"],
            ),
            container(|s| s.ipc = Some("private".into()), &["/etc/kedge/conf"]),
            container(|s| s.cgroupns = Some("host".into()), &[]),
        ] {
            assert_eq!(objection(&container, "/var/run/docker.sock"), None);
        }
    }
}
