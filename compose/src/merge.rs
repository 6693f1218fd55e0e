//! Several files become one: what a later file says is laid over what earlier ones said.
//!
//! Mappings merge by key, lists are appended, anything else is replaced; [`special`] names the exceptions of the
//! Compose specification. Afterwards [`unique`] drops entries of lists that say something about the same thing twice.

use std::collections::{HashMap, HashSet};

use crate::canonical;
use crate::codes;
use crate::diagnostics::{At, Finding};
use crate::node::{Map, Node, Value};

/// How a key departs from the rule.
enum Special {
    /// The later one replaces.
    Replace,
    /// Mappings and lists of `KEY=value` become one list.
    Sequence,
    /// The same, without exact repetitions.
    Hosts,
    /// Text stands for `context`.
    Build,
    /// A list of names stands for a mapping.
    Dependencies,
    /// A list of names stands for a mapping.
    Networks,
    /// Merged only when the driver is the same.
    Logging,
    /// Pools merge by subnet.
    Pools,
}

fn special(path: &[&str]) -> Option<Special> {
    Some(match path {
        ["networks", _, "ipam", "config"] => Special::Pools,
        ["networks" | "volumes", _, "labels"] => Special::Sequence,
        ["services", _, "command" | "entrypoint"]
        | ["services", _, "healthcheck", "test"]
        | ["services", _, "ulimits", _] => Special::Replace,
        [
            "services",
            _,
            "annotations" | "dns" | "dns_opt" | "dns_search" | "env_file" | "label_file" | "environment"
            | "labels" | "sysctls" | "tmpfs",
        ]
        | ["services", _, "build", "args" | "additional_contexts" | "labels"]
        | ["services", _, "deploy", "labels"] => Special::Sequence,
        ["services", _, "extra_hosts"] | ["services", _, "build", "extra_hosts"] => Special::Hosts,
        ["services", _, "build"] => Special::Build,
        ["services", _, "depends_on"] => Special::Dependencies,
        ["services", _, "networks"] => Special::Networks,
        ["services", _, "logging"] => Special::Logging,
        _ => return None,
    })
}

/// Lays `over` over `base`. `path` says where in the project both are.
pub(crate) fn merge(base: Node, over: Node, path: &mut Vec<String>) -> Result<Node, Finding> {
    let parts: Vec<&str> = path.iter().map(String::as_str).collect();
    match special(&parts) {
        None => {}
        Some(Special::Replace) => return Ok(over),
        Some(Special::Sequence) => return Ok(append(base, over, false)),
        Some(Special::Hosts) => return Ok(append(base, over, true)),
        Some(Special::Build) => {
            let build = |mut node: Node| {
                if node.as_str().is_some() {
                    let context = node.take();
                    node.value = Value::Map(Map::new());
                    node.set("context", context.value);
                }
                node
            };
            return maps(build(base), build(over), path);
        }
        Some(Special::Dependencies) => {
            let (mut base, mut over) = (base, over);
            canonical::names_to_map(&mut base, canonical::dependency);
            canonical::names_to_map(&mut over, canonical::dependency);
            return maps(base, over, path);
        }
        Some(Special::Networks) => {
            let (mut base, mut over) = (base, over);
            canonical::names_to_map(&mut base, |_| Value::Null);
            canonical::names_to_map(&mut over, |_| Value::Null);
            return maps(base, over, path);
        }
        Some(Special::Logging) => {
            let driver = |node: &Node| node.get("driver").cloned();
            return match (driver(&base), driver(&over)) {
                (Some(before), Some(after)) if before != after => Ok(over),
                _ => maps(base, over, path),
            };
        }
        Some(Special::Pools) => return pools(base, over, path),
    }
    if over.is_null() {
        return Ok(base);
    }
    match (&base.value, &over.value) {
        (Value::Map(_), _) => maps(base, over, path),
        (Value::List(_), Value::List(_)) => Ok(append(base, over, false)),
        (Value::List(_), _) => Err(cannot(&over, path)),
        _ => Ok(over),
    }
}

fn cannot(over: &Node, path: &[String]) -> Finding {
    let message = format!("`{}` cannot be overridden with {}", path.join("."), over.kind());
    Finding::new(&codes::WRONG_VALUE, over.at, message)
        .help("give it the same form as before, or mark it `!override`")
}

fn maps(mut base: Node, over: Node, path: &mut Vec<String>) -> Result<Node, Finding> {
    if over.is_null() {
        return Ok(base);
    }
    if base.is_null() {
        return Ok(over);
    }
    let Value::Map(changes) = over.value else { return Err(cannot(&over, path)) };
    let Value::Map(map) = &mut base.value else { return Err(cannot(&base, path)) };
    for (key, mut change) in changes {
        match map.remove(&key) {
            Some(before) if !key.starts_with("x-") => {
                path.push(key);
                change.node = merge(before.node, change.node, path)?;
                let Some(key) = path.pop() else { continue };
                map.insert(key, change);
            }
            _ => {
                map.insert(key, change);
            }
        }
    }
    Ok(base)
}

/// Both as lists, one after the other; with `skip`, texts of the later one that the earlier one has are left out.
fn append(base: Node, over: Node, skip: bool) -> Node {
    let hollow = if over.is_null() { base.with(Value::Null) } else { over.with(Value::Null) };
    let mut list = sequence(base);
    let texts = list.iter().filter(|_| skip).filter_map(Node::as_str);
    let known: HashSet<String> = texts.map(str::to_owned).collect();
    let new = |item: &Node| !item.as_str().is_some_and(|text| known.contains(text));
    list.extend(sequence(over).into_iter().filter(new));
    hollow.with(Value::List(list))
}

/// A mapping becomes a list of `KEY=value`, in order; text a list of it.
fn sequence(node: Node) -> Vec<Node> {
    match node.value {
        Value::List(items) => items,
        Value::Map(map) => {
            let mut list = Vec::with_capacity(map.len());
            for (key, entry) in map {
                let item = |value: &Node| {
                    let text = value.scalar_text().unwrap_or_default();
                    value.with(Value::Str(format!("{key}={text}")))
                };
                match &entry.node.value {
                    Value::Null => list.push(Node::text(key, entry.key)),
                    Value::List(values) => list.extend(values.iter().map(item)),
                    _ => list.push(item(&entry.node)),
                }
            }
            list
        }
        Value::Str(_) => vec![node],
        _ => Vec::new(),
    }
}

/// Pools of the later file, each laid over the earlier pool of the same subnet.
fn pools(base: Node, over: Node, path: &mut Vec<String>) -> Result<Node, Finding> {
    let hollow = over.with(Value::Null);
    let (Value::List(before), Value::List(after)) = (base.value, over.value) else {
        return Err(cannot(&hollow, path));
    };
    let subnet = |pool: &Node| pool.get("subnet").and_then(Node::scalar_text);
    let mut by_subnet: HashMap<Option<String>, &Node> = HashMap::new();
    for earlier in &before {
        by_subnet.entry(subnet(earlier)).or_insert(earlier);
    }
    let mut merged = Vec::with_capacity(after.len());
    for pool in after {
        let same = by_subnet.get(&subnet(&pool)).copied();
        merged.push(match same {
            Some(earlier) => maps(earlier.clone(), pool, path)?,
            None => pool,
        });
    }
    Ok(hollow.with(Value::List(merged)))
}

/// What makes two entries of a list be about the same thing.
#[derive(Clone, Copy)]
enum Identity {
    /// What stands before `=`.
    Key,
    /// The path in the container.
    MountTarget,
    DeviceTarget,
    /// The path in the container, by default below the folder given.
    FileTarget(&'static str),
    Port,
    Path,
}

fn identity(path: &[&str]) -> Option<Identity> {
    Some(match path {
        ["networks", _, "labels"]
        | ["services", _, "build", "args" | "additional_contexts" | "tags" | "labels"]
        | ["services", _, "deploy", "labels"]
        | ["services", _, "networks", _, "aliases" | "link_local_ips"]
        | [
            "services",
            _,
            "annotations" | "cap_add" | "cap_drop" | "dns" | "dns_opt" | "dns_search" | "environment"
            | "expose" | "labels" | "links" | "profiles" | "sysctls" | "tmpfs",
        ] => Identity::Key,
        ["services", _, "volumes"] => Identity::MountTarget,
        ["services", _, "devices"] => Identity::DeviceTarget,
        ["services", _, "configs"] => Identity::FileTarget(""),
        ["services", _, "secrets"] => Identity::FileTarget("/run/secrets"),
        ["services", _, "ports"] => Identity::Port,
        ["services", _, "env_file"] => Identity::Path,
        _ => return None,
    })
}

/// Drops earlier entries that a later one replaces; the later one takes the earlier one's position.
pub(crate) fn unique(root: &mut Node) {
    below(root, &mut Vec::new());
}

fn below(node: &mut Node, path: &mut Vec<String>) {
    match &mut node.value {
        Value::Map(map) => {
            for (key, entry) in map {
                path.push(key.clone());
                below(&mut entry.node, path);
                path.pop();
            }
        }
        Value::List(items) => {
            let parts: Vec<&str> = path.iter().map(String::as_str).collect();
            if let Some(identity) = identity(&parts) {
                *items = distinct(std::mem::take(items), identity);
            }
        }
        _ => {}
    }
}

fn distinct(items: Vec<Node>, identity: Identity) -> Vec<Node> {
    let mut positions: HashMap<String, usize> = HashMap::new();
    let mut kept: Vec<Node> = Vec::with_capacity(items.len());
    for item in items {
        // What has no identity is wrong, and said to be so by the check that follows.
        let Some(key) = key_of(&item, identity) else {
            kept.push(item);
            continue;
        };
        match positions.get(&key) {
            Some(&position) => kept[position] = item,
            None => {
                positions.insert(key, kept.len());
                kept.push(item);
            }
        }
    }
    kept
}

fn key_of(item: &Node, identity: Identity) -> Option<String> {
    let field = |key: &str| item.get(key).and_then(Node::scalar_text);
    let text = item.as_str();
    match identity {
        Identity::Key => {
            let text = item.scalar_text()?;
            Some(text.split('=').next().unwrap_or(&text).to_owned())
        }
        Identity::MountTarget => match text {
            Some(text) => canonical::mounts::parse(text).ok().map(|mount| mount.target),
            None => field("target"),
        },
        Identity::DeviceTarget => match text {
            Some(text) => Some(text.split(':').nth(1).unwrap_or(text).to_owned()),
            None => field("target"),
        },
        Identity::FileTarget(folder) => match text {
            Some(text) => Some(format!("{folder}/{text}")),
            None => field("target").or_else(|| field("source").map(|source| format!("{folder}/{source}"))),
        },
        Identity::Port => match item.as_map() {
            Some(_) => {
                let or = |key: &str, default: &str| field(key).unwrap_or_else(|| default.to_owned());
                let (ip, protocol) = (or("host_ip", "0.0.0.0"), or("protocol", "tcp"));
                // Docker Compose does not see that 80 and "80" are one port; the model does.
                let number = matches!(item.get("published"), Some(Node { value: Value::Int(_), .. }));
                let published = or("published", "");
                Some(format!("{ip}:{number}{published}:{}/{protocol}", field("target")?))
            }
            None => item.scalar_text(),
        },
        Identity::Path => text.map(str::to_owned).or_else(|| field("path")),
    }
}

/// Where a file marked something `!reset` or `!override`, so that what earlier files said there is forgotten.
#[derive(Debug, Default)]
pub(crate) struct Resets(Vec<Vec<String>>);

impl Resets {
    /// Collects the marks of a tree and removes what is marked `!reset`.
    pub(crate) fn take_from(root: &mut Node) -> Self {
        let mut resets = Self::default();
        resets.collect(root, &mut Vec::new());
        resets
    }

    fn collect(&mut self, node: &mut Node, path: &mut Vec<String>) {
        use crate::node::Mark;
        let Value::Map(map) = &mut node.value else { return };
        for (key, entry) in map.iter_mut() {
            path.push(key.clone());
            match entry.node.mark {
                Mark::Reset | Mark::Override => self.0.push(path.clone()),
                Mark::None | Mark::Broken => self.collect(&mut entry.node, path),
            }
            path.pop();
        }
        map.retain(|_, entry| entry.node.mark != Mark::Reset);
    }

    /// Forgets, in what earlier files said, what this file marked.
    pub(crate) fn apply(&self, earlier: &mut Node) {
        for path in &self.0 {
            let keys: Vec<&str> = path.iter().map(String::as_str).collect();
            forget(earlier, &keys);
        }
    }

    /// Forgets, in a base that service `name` extends, what this file marked in that service.
    pub(crate) fn apply_to_service(&self, name: &str, base: &mut Node) {
        for path in &self.0 {
            let keys: Vec<&str> = path.iter().map(String::as_str).collect();
            if let ["services", service, rest @ ..] = keys.as_slice()
                && *service == name
            {
                forget(base, rest);
            }
        }
    }
}

fn forget(node: &mut Node, path: &[&str]) {
    match path {
        [] => {}
        [last] => {
            if let Some(map) = node.as_map_mut() {
                map.remove(*last);
            }
        }
        [first, rest @ ..] => {
            if let Some(inner) = node.get_mut(first) {
                forget(inner, rest);
            }
        }
    }
}

/// An empty project.
pub(crate) fn empty() -> Node {
    Node::new(Value::Map(Map::new()), At::default())
}
