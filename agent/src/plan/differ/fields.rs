//! The fields that only a new container can change, each compared by what it means to the engine.

use std::collections::{BTreeMap, BTreeSet};

use kedge_compose::model::{Healthcheck, Logging, Mount, MountKind, Port};

use super::Surroundings;
use crate::engine::spec::{ContainerSpec, LABEL_SPEC, is_informational};
use crate::engine::types::{Container, Detail};
use crate::plan::desired::Wanted;

/// What the engine reports for `/dev/shm` when nobody asked for a size.
const DEFAULT_SHM: u64 = 64 << 20;

/// Names of the fields that differ. Taking the spec apart by name makes a field that is added without a rule here
/// an error of the compiler.
pub(super) fn compare(
    wanted: &Wanted,
    seen: &Container,
    detail: &Detail,
    around: &Surroundings,
) -> Vec<String> {
    let ContainerSpec {
        image: _, // compared by the caller, against what the engine says the container runs
        command,
        entrypoint,
        env,
        labels,
        annotations,
        user,
        group_add,
        working_dir,
        hostname,
        domainname,
        init,
        tty,
        stdin_open,
        stdin_once: _, // of our own containers only
        stop_signal,
        stop_grace,
        read_only,
        privileged,
        cap_add,
        cap_drop,
        security_opt,
        ulimits,
        sysctls,
        extra_hosts,
        dns,
        dns_search,
        dns_opt,
        logging,
        restart: _, // in place
        resources,  // mostly in place
        healthcheck,
        expose,
        ports,
        mounts,
        tmpfs,
        volumes_from,
        network_mode,
        endpoints: _, // in place
        links,
        mac_address,
        devices,
        device_cgroup_rules,
        device_requests,
        shm_size,
        pid,
        ipc,
        uts,
        userns,
        cgroupns,
        cgroup_parent,
        runtime,
        isolation,
        storage_opt,
        platform: _, // the image ID says it
    } = &wanted.spec.over(&wanted.image);
    let now = &detail.spec;
    let is_ours = seen.labels.contains_key(LABEL_SPEC);
    let mut found = Vec::new();
    let mut check = |what: &str, same: bool| {
        if !same {
            found.push(format!("another {what}"));
        }
    };
    let list = |value: &Option<Vec<String>>| value.clone().unwrap_or_default();
    check("command", list(command) == list(&now.command));
    // An entry point of one empty word is how one is cleared.
    let entry = |value: &Option<Vec<String>>| {
        list(value).into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>()
    };
    check("entry point", entry(entrypoint) == entry(&now.entrypoint));
    for name in differing_keys(&env.0, &now.env.0) {
        check(&format!("value of {name}"), false);
    }
    for name in differing_labels(labels, &seen.labels) {
        check(&format!("label {name}"), false);
    }
    check("annotation", annotations == &now.annotations);
    check("user", text(user) == text(&now.user));
    check("group", set(group_add) == set(&now.group_add));
    check("working folder", path(working_dir) == path(&now.working_dir));
    check("host name", hostname.is_none() || hostname == &now.hostname);
    check("domain name", text(domainname) == text(&now.domainname));
    check("init process", init.unwrap_or(false) == now.init.unwrap_or(false));
    check("terminal", (tty, stdin_open) == (&now.tty, &now.stdin_open));
    check("stop signal", stop_signal.is_none() || stop_signal == &now.stop_signal);
    check("stop grace period", stop_grace == &now.stop_grace);
    check("root file system mode", read_only == &now.read_only);
    check("privilege", privileged == &now.privileged);
    check(
        "capability",
        capabilities(cap_add) == capabilities(&now.cap_add)
            && capabilities(cap_drop) == capabilities(&now.cap_drop),
    );
    check("security option", set(security_opt) == set(&now.security_opt));
    check("ulimit", ulimits == &now.ulimits);
    check("kernel parameter", sysctls == &now.sysctls);
    check("host entry", set(extra_hosts) == set(&now.extra_hosts));
    check("DNS setting", (dns, dns_search, dns_opt) == (&now.dns, &now.dns_search, &now.dns_opt));
    check("log driver", same_logging(logging.as_ref(), now.logging.as_ref(), is_ours));
    check("health check", same_healthcheck(healthcheck.as_ref(), now.healthcheck.as_ref()));
    check("exposed port", exposed(expose, ports) == exposed(&now.expose, &now.ports));
    check("published port", published(ports) == published(&now.ports));
    for target in differing_mounts(mounts, &wanted.image.volumes, volumes_from, detail) {
        check(&format!("mount at {target}"), false);
    }
    check("tmpfs", tmpfs == &now.tmpfs);
    let named = |from: &String| {
        let (name, mode) = from.split_once(':').unwrap_or((from, "rw"));
        (around.containers.get(name).map_or(name, String::as_str).to_owned(), mode.to_owned())
    };
    check("source of volumes", volumes_from.iter().map(named).eq(now.volumes_from.iter().map(named)));
    check("network mode", same_network_mode(network_mode.as_deref(), now.network_mode.as_deref()));
    check("link", set(links) == set(&now.links));
    check("MAC address", mac_address.is_none() || mac_address == &now.mac_address);
    check(
        "device",
        devices == &now.devices
            && set(device_cgroup_rules) == set(&now.device_cgroup_rules)
            && device_requests == &now.device_requests,
    );
    check(
        "size of /dev/shm",
        shm_size.unwrap_or(DEFAULT_SHM) == now.shm_size.filter(|size| *size > 0).unwrap_or(DEFAULT_SHM),
    );
    check("process namespace", same_namespace(pid.as_deref(), now.pid.as_deref(), &[]));
    check("IPC namespace", same_namespace(ipc.as_deref(), now.ipc.as_deref(), &["private", "shareable"]));
    check("UTS namespace", same_namespace(uts.as_deref(), now.uts.as_deref(), &[]));
    check("user namespace", same_namespace(userns.as_deref(), now.userns.as_deref(), &[]));
    check(
        "cgroup namespace",
        same_namespace(cgroupns.as_deref(), now.cgroupns.as_deref(), &["private", "host"]),
    );
    check("cgroup parent", text(cgroup_parent) == text(&now.cgroup_parent));
    check("runtime", same_namespace(runtime.as_deref(), now.runtime.as_deref(), &["runc"]));
    check("isolation", same_namespace(isolation.as_deref(), now.isolation.as_deref(), &["default"]));
    check("storage option", storage_opt == &now.storage_opt);
    let other_limits = |of: &kedge_compose::model::Resources| {
        let positive = |value: Option<i64>| value.filter(|value| *value != 0);
        let of_realtime = (positive(of.cpu_rt_period), positive(of.cpu_rt_runtime));
        (
            positive(of.oom_score_adj),
            of.oom_kill_disable.unwrap_or(false),
            of.memory_swappiness.filter(|value| *value >= 0),
            of_realtime,
            of.blkio.clone(),
        )
    };
    check("limit", other_limits(resources) == other_limits(&now.resources));
    found
}

fn text(value: &Option<String>) -> &str {
    value.as_deref().unwrap_or_default()
}

/// The engine reports `/` where no folder was given, or nothing.
fn path(value: &Option<String>) -> &str {
    match text(value) {
        "" => "/",
        given => given,
    }
}

fn set(values: &[String]) -> BTreeSet<&str> {
    values.iter().map(String::as_str).collect()
}

fn capabilities(values: &[String]) -> BTreeSet<String> {
    values
        .iter()
        .map(|name| name.to_uppercase())
        .map(|name| name.strip_prefix("CAP_").map(str::to_owned).unwrap_or(name))
        .collect()
}

fn differing_keys<'a>(
    wanted: &'a BTreeMap<String, Option<String>>,
    seen: &'a BTreeMap<String, Option<String>>,
) -> BTreeSet<&'a str> {
    let names = wanted.keys().chain(seen.keys()).map(String::as_str);
    names.filter(|name| wanted.get(*name) != seen.get(*name)).collect()
}

/// Labels of docker compose and ours that we do not ask for are no difference: they tell who made the container.
fn differing_labels<'a>(
    wanted: &'a BTreeMap<String, String>,
    seen: &'a BTreeMap<String, String>,
) -> BTreeSet<&'a str> {
    let is_tools = |name: &str| {
        name.starts_with("com.docker.compose.")
            || name.starts_with("sh.kedge.")
            || name.starts_with("desktop.docker.io/")
    };
    let missing = wanted
        .iter()
        .filter(|(name, value)| !is_informational(name) && seen.get(*name) != Some(value))
        .map(|(name, _)| name.as_str());
    let extra = seen.keys().map(String::as_str).filter(|name| !wanted.contains_key(*name) && !is_tools(name));
    missing.chain(extra).collect()
}

/// The engine adds options of its own configuration. In a container that another program made, options that nobody asks for
/// are taken for those; one of ours that has more than is asked for has lost an option since.
fn same_logging(wanted: Option<&Logging>, seen: Option<&Logging>, exact: bool) -> bool {
    let Some(wanted) = wanted else { return true };
    seen.is_some_and(|seen| {
        let has_all = wanted.options.iter().all(|(name, value)| seen.options.get(name) == Some(value));
        let no_more = !exact || wanted.options.len() == seen.options.len();
        (wanted.driver.is_empty() || wanted.driver == seen.driver) && has_all && no_more
    })
}

fn same_healthcheck(wanted: Option<&Healthcheck>, seen: Option<&Healthcheck>) -> bool {
    let is_none = |check: Option<&Healthcheck>| {
        check.is_none_or(|check| check.test.first().is_none_or(|word| word == "NONE"))
    };
    is_none(wanted) && is_none(seen) || wanted == seen
}

/// Ports that are published are exposed too; the engine lists both.
fn exposed(expose: &BTreeSet<String>, ports: &[Port]) -> BTreeSet<String> {
    expose
        .iter()
        .cloned()
        .chain(ports.iter().map(|port| format!("{}/{}", port.target, port.protocol)))
        .collect()
}

/// All addresses can be written in three ways, and any port in two.
fn published(ports: &[Port]) -> BTreeSet<(u16, &str, &str, &str)> {
    fn key(port: &Port) -> (u16, &str, &str, &str) {
        let address = if matches!(port.host_ip.as_str(), "0.0.0.0" | "::") { "" } else { &port.host_ip };
        let published = if port.published == "0" { "" } else { &port.published };
        (port.target, &port.protocol, address, published)
    }
    ports.iter().map(key).collect()
}

fn same_network_mode(wanted: Option<&str>, seen: Option<&str>) -> bool {
    let seen = seen.unwrap_or_default();
    match wanted {
        // Networks are compared by attachment; joined containers by ID.
        None => !matches!(seen, "none" | "host") && !seen.starts_with("container:"),
        Some(wanted) if wanted.starts_with("container:") => seen.starts_with("container:"),
        Some("bridge" | "default") => matches!(seen, "bridge" | "default" | ""),
        Some(wanted) => wanted == seen,
    }
}

/// Equal, or nothing asked for and the engine chose one of its defaults. Joined containers are compared elsewhere.
fn same_namespace(wanted: Option<&str>, seen: Option<&str>, defaults: &[&str]) -> bool {
    let seen = seen.unwrap_or_default();
    match wanted.unwrap_or_default() {
        "" => seen.is_empty() || defaults.contains(&seen),
        wanted if wanted.starts_with("container:") => seen.starts_with("container:"),
        wanted => wanted == seen,
    }
}

/// Targets of mounts that are missing, different, or there though nobody asked. Anonymous volumes count by their place only.
fn differing_mounts(
    wanted: &[Mount],
    image: &BTreeSet<String>,
    volumes_from: &[String],
    detail: &Detail,
) -> BTreeSet<String> {
    let mut differing = BTreeSet::new();
    let seen = |target: &str| {
        detail
            .mounts
            .iter()
            .find(|mount| mount.target == target.trim_end_matches('/') || mount.target == target)
    };
    for mount in wanted.iter() {
        let kind = match mount.kind {
            MountKind::Volume => "volume",
            MountKind::Bind => "bind",
            MountKind::Tmpfs => "tmpfs",
            MountKind::Npipe => "npipe",
            MountKind::Cluster => "cluster",
            MountKind::Image => "image",
        };
        let same = seen(&mount.target).is_some_and(|seen| {
            let source = match (mount.kind, &mount.source) {
                (MountKind::Volume, Some(name)) => seen.name.as_ref() == Some(name),
                (MountKind::Bind, Some(path)) => &seen.source == path,
                _ => true,
            };
            seen.kind == kind && source && seen.writable != mount.read_only
        });
        let options = detail.spec.mounts.iter().find(|other| other.target == mount.target);
        let same_options = options.is_none_or(|seen| {
            let of = |mount: &Mount| {
                (mount.subpath.clone(), mount.tmpfs_size, mount.tmpfs_mode, mount.volume_nocopy)
            };
            of(mount) == of(seen)
        });
        if !same || !same_options {
            differing.insert(mount.target.clone());
        }
    }
    let asked = |target: &str| {
        wanted.iter().any(|mount| mount.target.trim_end_matches('/') == target.trim_end_matches('/'))
            || image.contains(target)
    };
    let extra = detail
        .mounts
        .iter()
        .filter(|mount| mount.kind != "tmpfs" && volumes_from.is_empty() && !asked(&mount.target));
    differing.extend(extra.map(|mount| mount.target.clone()));
    differing
}
