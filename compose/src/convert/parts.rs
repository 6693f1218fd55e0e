//! Parts of a service: ports, mounts, networks, dependencies, health checks, files, devices, hooks.

use std::collections::{BTreeMap, BTreeSet};

use super::read::Read;
use crate::canonical::words;
use crate::codes;
use crate::diagnostics::{Finding, Findings};
use crate::model::{
    Attachment, Condition, Dependency, Device, DeviceRequest, FileMount, Healthcheck, Hook, Logging, Mount,
    MountKind, Port, PreStart, Ulimit,
};
use crate::node::{Node, Value};

/// A `command` or `entrypoint`; `None` when not given.
pub(super) fn command(node: Option<&Node>, findings: &mut Findings) -> Option<Vec<String>> {
    let node = node.filter(|node| !node.is_null())?;
    let Some(line) = node.as_str() else {
        return Some(node.as_list().unwrap_or_default().iter().filter_map(Node::scalar_text).collect());
    };
    let words = words::split(line)?;
    if let Some(operator) = words.cut_at {
        let message =
            format!("the command ends at `{operator}`, and what follows is lost: no shell reads it");
        let finding = Finding::new(&codes::WRONG_VALUE, node.at, message);
        findings.warn(finding.help("write `[\"sh\", \"-c\", \"…\"]` to have a shell"));
    }
    Some(words.words)
}

pub(super) fn ports(service: &Node, findings: &mut Findings) -> Vec<Port> {
    let mut port = |node: &Node| {
        let Some(target) = node.unsigned("target").filter(|target: &u16| *target > 0) else {
            findings.error(Finding::new(
                &codes::WRONG_VALUE,
                node.at,
                "a port needs a `target` from 1 to 65535",
            ));
            return None;
        };
        let protocol = node.text_or("protocol", "tcp");
        if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
            findings.error(Finding::new(
                &codes::WRONG_VALUE,
                node.at,
                "the protocol of a port must be tcp, udp or sctp",
            ));
        }
        let published = node.text_or("published", "");
        let one = |text: &str| text.is_empty() || text.parse::<u16>().is_ok();
        let (low, high) = published.split_once('-').unwrap_or((&published, ""));
        if !one(low) || !one(high) {
            findings.error(Finding::new(
                &codes::WRONG_VALUE,
                node.at,
                "`published` must be a port or a range of ports",
            ));
        }
        Some(Port {
            target,
            protocol,
            host_ip: node.text_or("host_ip", ""),
            published,
            mode: node.text_or("mode", "ingress"),
            name: node.text("name"),
            app_protocol: node.text("app_protocol"),
        })
    };
    // Written once as a number and once as text, a port is still one port.
    let mut seen: BTreeSet<Port> = BTreeSet::new();
    service.items("ports").filter_map(&mut port).filter(|port| seen.insert(port.clone())).collect()
}

/// `expose`, a protocol added where none is given.
pub(super) fn expose(service: &Node) -> Vec<String> {
    let with_protocol = |port: String| if port.contains('/') { port } else { format!("{port}/tcp") };
    service.texts("expose").into_iter().map(with_protocol).collect()
}

pub(super) fn mount(node: &Node) -> Mount {
    let kind = match node.text_or("type", "volume").as_str() {
        "bind" => MountKind::Bind,
        "tmpfs" => MountKind::Tmpfs,
        "npipe" => MountKind::Npipe,
        "cluster" => MountKind::Cluster,
        "image" => MountKind::Image,
        _ => MountKind::Volume,
    };
    let group = |key: &str| node.get(key).filter(|node| node.as_map().is_some());
    let (bind, volume, image, tmpfs) = (group("bind"), group("volume"), group("image"), group("tmpfs"));
    Mount {
        kind,
        source: node.text("source"),
        target: node.text_or("target", ""),
        read_only: node.flag("read_only"),
        consistency: node.text("consistency"),
        bind_propagation: bind.and_then(|bind| bind.text("propagation")),
        bind_create_host_path: bind.is_some_and(|bind| bind.flag("create_host_path")),
        bind_selinux: bind.and_then(|bind| bind.text("selinux")),
        bind_recursive: bind.and_then(|bind| bind.text("recursive")),
        volume_nocopy: volume.is_some_and(|volume| volume.flag("nocopy")),
        subpath: volume.or(image).and_then(|group| group.text("subpath")),
        volume_labels: volume.map(|volume| volume.mapping("labels")).unwrap_or_default(),
        tmpfs_size: tmpfs.and_then(|tmpfs| tmpfs.bytes("size")).and_then(|bytes| u64::try_from(bytes).ok()),
        tmpfs_mode: tmpfs.and_then(|tmpfs| tmpfs.unsigned("mode")),
    }
}

pub(super) fn attachment(node: &Node) -> Attachment {
    Attachment {
        aliases: node.texts("aliases").into_iter().collect(),
        ipv4_address: node.text("ipv4_address"),
        ipv6_address: node.text("ipv6_address"),
        link_local_ips: node.texts("link_local_ips"),
        mac_address: node.text("mac_address"),
        driver_opts: node.mapping("driver_opts"),
        priority: node.int("priority").unwrap_or_default(),
        gw_priority: node.int("gw_priority").unwrap_or_default(),
        interface_name: node.text("interface_name"),
    }
}

pub(super) fn dependency(node: &Node) -> Dependency {
    let condition = match node.text_or("condition", "").as_str() {
        "service_healthy" => Condition::ServiceHealthy,
        "service_completed_successfully" => Condition::ServiceCompletedSuccessfully,
        _ => Condition::ServiceStarted,
    };
    Dependency {
        condition,
        restart: node.flag("restart"),
        required: node.boolean("required").unwrap_or(true),
    }
}

pub(super) fn healthcheck(node: &Node) -> Healthcheck {
    let test = match node.get("test").map(|node| &node.value) {
        _ if node.flag("disable") => vec!["NONE".to_owned()],
        Some(Value::Str(line)) => vec!["CMD-SHELL".to_owned(), line.clone()],
        _ => node.texts("test"),
    };
    Healthcheck {
        test,
        interval: node.duration("interval"),
        timeout: node.duration("timeout"),
        retries: node.unsigned("retries"),
        start_period: node.duration("start_period"),
        start_interval: node.duration("start_interval"),
    }
}

/// A config or secret; a target that is only a name stands below `folder`.
pub(super) fn file_mount(node: &Node, folder: &str) -> FileMount {
    let source = node.text_or("source", "");
    let target = node.text("target").unwrap_or_else(|| source.clone());
    let target = if target.starts_with('/') { target } else { format!("{folder}/{target}") };
    FileMount { source, target, uid: node.text("uid"), gid: node.text("gid"), mode: node.unsigned("mode") }
}

pub(super) fn device(node: &Node) -> Device {
    let source = node.text_or("source", "");
    Device {
        target: node.text("target").unwrap_or_else(|| source.clone()),
        source,
        permissions: node.text_or("permissions", "rwm"),
    }
}

/// `gpus` and `deploy.resources.reservations.devices`.
pub(super) fn device_requests(service: &Node) -> Vec<DeviceRequest> {
    let request = |node: &Node, gpu: bool| {
        let mut capabilities = node.texts("capabilities");
        if gpu && !capabilities.iter().any(|capability| capability == "gpu") {
            capabilities.push("gpu".to_owned());
        }
        DeviceRequest {
            driver: node.text_or("driver", ""),
            count: node.text("count").map(|count| count.parse().unwrap_or(-1)),
            device_ids: node.texts("device_ids"),
            capabilities,
            options: node.mapping("options"),
        }
    };
    let path = ["deploy", "resources", "reservations"];
    let reserved = path.iter().try_fold(service, |node, key| node.get(key));
    let reserved = reserved.into_iter().flat_map(|node| node.items("devices"));
    service
        .items("gpus")
        .map(|node| request(node, true))
        .chain(reserved.map(|node| request(node, false)))
        .collect()
}

pub(super) fn logging(node: &Node) -> Logging {
    Logging { driver: node.text_or("driver", ""), options: node.mapping("options") }
}

pub(super) fn ulimit(node: &Node) -> Ulimit {
    match node.value {
        Value::Int(both) => {
            let both = i64::try_from(both).unwrap_or(-1);
            Ulimit { soft: both, hard: both }
        }
        _ => {
            Ulimit { soft: node.int("soft").unwrap_or_default(), hard: node.int("hard").unwrap_or_default() }
        }
    }
}

/// `post_start` and `pre_stop`.
pub(super) fn hooks(service: &Node, key: &str, findings: &mut Findings) -> Vec<Hook> {
    let mut one = |node: &Node| {
        let hook = hook(node, findings);
        if hook.command.is_empty() {
            let message = format!("a `{key}` hook needs a `command`");
            findings.error(Finding::new(&codes::WRONG_VALUE, node.at, message));
        }
        hook
    };
    service.items(key).map(&mut one).collect()
}

pub(super) fn pre_start(service: &Node, findings: &mut Findings) -> Vec<PreStart> {
    let mut one = |node: &Node| PreStart {
        image: node.text("image"),
        per_replica: node.flag("per_replica"),
        hook: hook(node, findings),
    };
    service.items("pre_start").map(&mut one).collect()
}

fn hook(node: &Node, findings: &mut Findings) -> Hook {
    Hook {
        command: command(node.get("command"), findings).unwrap_or_default(),
        user: node.text("user"),
        privileged: node.flag("privileged"),
        working_dir: node.text("working_dir"),
        environment: node.pairs("environment"),
    }
}

pub(super) fn named<T>(service: &Node, key: &str, each: impl Fn(&Node) -> T) -> BTreeMap<String, T> {
    service.entries(key).map(|(name, node)| (name.clone(), each(node))).collect()
}
