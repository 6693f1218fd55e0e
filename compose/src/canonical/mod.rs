//! Short forms written out: after this, each key has one form. Applied after every merge of a file.

pub(crate) mod mounts;
pub(crate) mod ports;
pub(crate) mod units;
pub(crate) mod words;

use crate::budget::MAX_VALUES;
use crate::codes;
use crate::diagnostics::{At, Finding, Findings};
use crate::node::{Entry, Map, Mark, Node, Value, map_at};
use crate::paths;

/// Ports that a project may publish or expose, ranges written out.
const MAX_PORTS: usize = 50_000;

/// Values that a project may have once its short forms are written out.
const MAX_WRITTEN_OUT: usize = 2 * MAX_VALUES;
/// Values of a dependency.
const DEPENDENCY_VALUES: usize = 4;

/// Writes out all short forms of a checked compose file.
pub(crate) fn apply(root: &mut Node, findings: &mut Findings) {
    let mut ports = 0;
    if let Some(services) = root.get_mut("services").and_then(Node::as_map_mut) {
        for entry in services.values_mut() {
            service(&mut entry.node, &mut ports, findings);
        }
    }
    for kind in ["networks", "volumes", "configs", "secrets"] {
        if let Some(resources) = root.get_mut(kind).and_then(Node::as_map_mut) {
            for entry in resources.values_mut() {
                external(&mut entry.node, findings);
            }
        }
    }
}

/// Refuses a project that writing out short forms has made too large, or will: texts that are split into words or
/// addresses, links that become dependencies. Ports have a limit of their own and count for less.
pub(crate) fn check_size(root: &Node, findings: &mut Findings) {
    let mut values = root.weight().values;
    for entry in root.get("services").and_then(Node::as_map).into_iter().flat_map(Map::values) {
        let list = |key: &str| entry.node.get(key).and_then(Node::as_list).unwrap_or_default();
        let lines = ["command", "entrypoint"].iter().filter_map(|key| entry.node.get(key)?.as_str());
        values += lines.map(|line| line.split_ascii_whitespace().count()).sum::<usize>();
        let hosts = list("extra_hosts").iter().filter_map(Node::as_str);
        values += hosts.map(|host| host.matches(',').count()).sum::<usize>();
        values += DEPENDENCY_VALUES * (list("links").len() + list("volumes_from").len());
        let ports = entry.node.get("ports").map_or(0, |ports| ports.weight().values);
        values -= ports - ports / 4;
    }
    if values > MAX_WRITTEN_OUT {
        let message = format!(
            "the project has more than {MAX_WRITTEN_OUT} values once its short forms are written out"
        );
        findings.error(Finding::new(&codes::LIMIT, root.at, message));
    }
}

fn service(service: &mut Node, ports: &mut usize, findings: &mut Findings) {
    change(service, "build", |build| {
        wrap(build, "context");
        change(build, "additional_contexts", pairs_to_map);
        change(build, "ssh", pairs_to_map);
        change(build, "secrets", |list| each(list, |item| wrap(item, "source")));
    });
    change(service, "depends_on", |node| {
        names_to_map(node, dependency);
        for entry in node.as_map_mut().into_iter().flat_map(Map::values_mut) {
            for (key, value) in
                [("condition", Value::Str("service_started".to_owned())), ("required", Value::Bool(true))]
            {
                if entry.node.get(key).is_none() {
                    entry.node.set(key, value);
                }
            }
        }
    });
    change(service, "env_file", |node| {
        listed(node);
        each(node, |item| {
            wrap(item, "path");
            if item.get("required").is_none() {
                item.set("required", Value::Bool(true));
            }
        });
    });
    change(service, "extends", |node| wrap(node, "service"));
    change(service, "gpus", |node| {
        if node.as_str().is_some() {
            let all = map_at(node.at, [("count", Value::Str("all".to_owned()))]);
            node.value = Value::List(vec![all]);
        }
    });
    change(service, "networks", |node| names_to_map(node, |_| Value::Null));
    change(service, "models", |node| names_to_map(node, |_| Value::Null));
    change(service, "label_file", listed);
    change(service, "dns", |node| {
        listed(node);
        if let Value::List(items) = &mut node.value {
            items.retain(|item| !item.is_null() && item.as_str() != Some(""));
        }
    });
    for key in ["secrets", "configs"] {
        change(service, key, |node| each(node, |item| wrap(item, "source")));
    }
    change(service, "devices", |node| each(node, |item| device(item, findings)));
    change(service, "volumes", |node| each(node, |item| mount(item, findings)));
    change(service, "ports", |node| expand_ports(node, ports, findings));
}

fn change(node: &mut Node, key: &str, with: impl FnOnce(&mut Node)) {
    if let Some(inner) = node.get_mut(key) {
        with(inner);
    }
}

fn each(node: &mut Node, with: impl FnMut(&mut Node)) {
    if let Value::List(items) = &mut node.value {
        items.iter_mut().for_each(with);
    }
}

/// Text becomes a mapping with that text under `key`.
fn wrap(node: &mut Node, key: &'static str) {
    if node.as_str().is_some() {
        let inner = node.take();
        let at = inner.at;
        node.value = Value::Map(Map::from([(key.to_owned(), Entry { key: at, node: inner })]));
    }
}

/// One text becomes a list of it.
fn listed(node: &mut Node) {
    if node.as_str().is_some() {
        let inner = node.take();
        node.value = Value::List(vec![inner]);
    }
}

/// `[KEY=value, KEY]` becomes a mapping.
fn pairs_to_map(node: &mut Node) {
    let Value::List(items) = &node.value else { return };
    let pair = |item: &Node| {
        let text = item.as_str()?;
        let (key, value) = match text.split_once('=') {
            Some((key, value)) => (key, Value::Str(value.to_owned())),
            None => (text, Value::Null),
        };
        Some((key.to_owned(), Entry { key: item.at, node: item.with(value) }))
    };
    node.value = Value::Map(items.iter().filter_map(pair).collect());
}

/// A list of names becomes a mapping, each name with a value of its own.
pub(crate) fn names_to_map(node: &mut Node, value: fn(At) -> Value) {
    let Value::List(items) = &node.value else { return };
    let name = |item: &Node| {
        let name = item.as_str()?.to_owned();
        Some((name, Entry { key: item.at, node: Node::new(value(item.at), item.at) }))
    };
    node.value = Value::Map(items.iter().filter_map(name).collect());
}

/// What a dependency given by name alone means.
pub(crate) fn dependency(at: At) -> Value {
    map_at(at, [("condition", Value::Str("service_started".to_owned())), ("required", Value::Bool(true))])
        .value
}

fn external(resource: &mut Node, findings: &mut Findings) {
    let Some(old) = resource.get("external").filter(|node| node.as_map().is_some()) else { return };
    let (at, outer) = (old.at, old.get("name").cloned());
    let inner = resource.get("name").cloned();
    resource.set("external", Value::Bool(true));
    let Some(outer) = outer else { return };
    findings.warn(
        Finding::new(&codes::NOT_HANDLED, at, "`external.name` is an old form")
            .help("write `external: true` and `name: …` beside it"),
    );
    match inner {
        Some(inner) if inner != outer => {
            findings.error(
                Finding::new(&codes::CONTRADICTION, at, "`name` and `external.name` differ")
                    .help("keep only `name`"),
            );
        }
        Some(_) => {}
        None => {
            if let Some(map) = resource.as_map_mut() {
                map.insert("name".to_owned(), Entry { key: at, node: outer });
            }
        }
    }
}

fn broken(node: &mut Node, findings: &mut Findings, what: &str, problem: &str) {
    let message = format!("`{}` is not {what}: {problem}", node.shown());
    findings.error(Finding::new(&codes::WRONG_VALUE, node.at, message));
    node.mark = Mark::Broken;
}

fn device(node: &mut Node, findings: &mut Findings) {
    let Some(text) = node.as_str() else { return };
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, permissions) = match parts.as_slice() {
        [source] => (*source, *source, "rwm"),
        [source, target] => (*source, *target, "rwm"),
        [source, target, permissions] => (*source, *target, *permissions),
        _ => return broken(node, findings, "a device", "there are too many colons; use the long form"),
    };
    let text = |text: &str| Value::Str(text.to_owned());
    let target = if target.is_empty() { source } else { target };
    node.value = map_at(
        node.at,
        [("source", text(source)), ("target", text(target)), ("permissions", text(permissions))],
    )
    .value;
}

fn mount(node: &mut Node, findings: &mut Findings) {
    let Some(text) = node.as_str() else { return };
    let parsed = match mounts::parse(text) {
        Ok(parsed) => parsed,
        Err(problem) => return broken(node, findings, "a mount", problem),
    };
    let text = |text: String| Value::Str(text);
    let at = node.at;
    let kind = if parsed.bind { "bind" } else { "volume" };
    let target = if parsed.target.is_empty() { String::new() } else { paths::clean(&parsed.target) };
    let mut mount = map_at(at, [("type", text(kind.to_owned())), ("target", text(target))]);
    if !parsed.source.is_empty() {
        mount.set("source", text(parsed.source));
    }
    if parsed.read_only {
        mount.set("read_only", Value::Bool(true));
    }
    let mut bind = map_at(at, []);
    if parsed.bind {
        // The short form has always created the folder on the host.
        bind.set("create_host_path", Value::Bool(true));
    }
    for (key, value) in [("propagation", parsed.propagation), ("selinux", parsed.selinux)] {
        if let Some(value) = value {
            bind.set(key, text(value));
        }
    }
    if bind.as_map().is_some_and(|map| !map.is_empty()) {
        mount.set("bind", bind.value);
    }
    if !parsed.bind || parsed.nocopy {
        let nocopy = parsed.nocopy.then_some(("nocopy", Value::Bool(true)));
        mount.set("volume", map_at(at, nocopy).value);
    }
    node.value = mount.value;
}

fn expand_ports(node: &mut Node, total: &mut usize, findings: &mut Findings) {
    let Value::List(items) = &mut node.value else { return };
    let mut expanded = Vec::with_capacity(items.len());
    for mut item in std::mem::take(items) {
        let text = match &item.value {
            Value::Str(text) => text.clone(),
            Value::Int(number) => number.to_string(),
            _ => {
                expanded.push(item);
                continue;
            }
        };
        if *total > MAX_PORTS {
            // Told already.
            return;
        }
        match ports::parse(&text) {
            Ok(parsed) => {
                *total += parsed.len();
                if *total > MAX_PORTS {
                    findings.error(Finding::new(
                        &codes::LIMIT,
                        item.at,
                        format!("more than {MAX_PORTS} ports"),
                    ));
                    return;
                }
                expanded.extend(parsed.into_iter().map(|port| port_node(port, item.at)));
            }
            Err(problem) => {
                broken(&mut item, findings, "a port", &problem);
                expanded.push(item);
            }
        }
    }
    node.value = Value::List(expanded);
}

fn port_node(port: ports::Parsed, at: At) -> Node {
    let mut node = map_at(
        at,
        [
            ("mode", Value::Str("ingress".to_owned())),
            ("protocol", Value::Str(port.protocol)),
            ("target", Value::Int(port.target.into())),
        ],
    );
    for (key, value) in [("host_ip", port.host_ip), ("published", port.published)] {
        if !value.is_empty() {
            node.set(key, Value::Str(value));
        }
    }
    node
}
