//! What follows once a project's files are one tree: defaults, absolute paths, implied settings, profiles, env files.

use std::collections::{BTreeMap, BTreeSet};

use crate::codes;
use crate::diagnostics::{At, Finding, Findings, Stop};
use crate::interpolate::{Environment, Lookup};
use crate::load::Loader;
use crate::node::{Entry, Map, Node, Value, map_at};
use crate::{paths, values};

/// Visits every service that is a mapping.
fn services(root: &mut Node, mut visit: impl FnMut(&str, &mut Node)) {
    if let Some(services) = root.get_mut("services").and_then(Node::as_map_mut) {
        for (name, entry) in services.iter_mut().filter(|(_, entry)| entry.node.as_map().is_some()) {
            visit(name, &mut entry.node);
        }
    }
}

fn items<'a>(node: &'a mut Node, key: &str) -> impl Iterator<Item = &'a mut Node> {
    let list = match node.get_mut(key).map(|node| &mut node.value) {
        Some(Value::List(items)) => Some(items),
        _ => None,
    };
    list.into_iter().flatten()
}

fn default(node: &mut Node, key: &str, value: &str) {
    if node.get(key).is_none() {
        node.set(key, Value::Str(value.to_owned()));
    }
}

/// Sets what Docker Compose sets on each project, an included one too, before paths are resolved.
pub(crate) fn defaults(root: &mut Node) {
    services(root, |_, service| {
        if let Some(build) = service.get_mut("build") {
            default(build, "context", ".");
        }
        for secret in items(service, "secrets") {
            let target =
                format!("/run/secrets/{}", secret.get("source").and_then(Node::as_str).unwrap_or_default());
            default(secret, "target", &target);
        }
        for port in items(service, "ports") {
            default(port, "protocol", "tcp");
            default(port, "mode", "ingress");
        }
        let all = |request: &mut Node| {
            if request.get("count").is_none() && request.get("device_ids").is_none() {
                request.set("count", Value::Str("all".to_owned()));
            }
        };
        items(service, "gpus").for_each(all);
        let reservations = service
            .get_mut("deploy")
            .and_then(|node| node.get_mut("resources"))
            .and_then(|node| node.get_mut("reservations"));
        if let Some(reservations) = reservations {
            items(reservations, "devices").for_each(all);
        }
    });
}

/// Makes paths absolute, as seen from the folder of their project.
pub(crate) fn resolve_paths(
    root: &mut Node,
    directory: &str,
    environment: &Environment,
    findings: &mut Findings,
) {
    let mut resolver = Resolver { directory, home: environment.get("HOME"), findings };
    services(root, |_, service| resolver.service(service));
    for kind in ["configs", "secrets"] {
        for entry in root.get_mut(kind).and_then(Node::as_map_mut).into_iter().flat_map(Map::values_mut) {
            resolver.path(entry.node.get_mut("file"));
        }
    }
    for entry in root.get_mut("volumes").and_then(Node::as_map_mut).into_iter().flat_map(Map::values_mut) {
        let is = |node: Option<&Node>, text: &str| node.and_then(Node::as_str) == Some(text);
        let local = is(entry.node.get("driver"), "local");
        if let Some(options) = entry.node.get_mut("driver_opts")
            && local
            && is(options.get("o"), "bind")
        {
            resolver.path(options.get_mut("device"));
        }
    }
}

struct Resolver<'a> {
    directory: &'a str,
    home: Option<&'a String>,
    findings: &'a mut Findings,
}

impl Resolver<'_> {
    fn path(&mut self, node: Option<&mut Node>) {
        let Some(node) = node else { return };
        let Some(text) = node.as_str() else { return };
        let path = match (text.strip_prefix('~'), self.home) {
            (Some(rest), Some(home)) => paths::clean(&format!("{home}/{rest}")),
            (Some(_), None) => {
                let finding =
                    Finding::new(&codes::WRONG_VALUE, node.at, "`~` needs HOME, which has no value here");
                self.findings.error(finding.help("write the path from the root"));
                return;
            }
            (None, _) if paths::is_absolute(text) || is_windows(text) => return,
            (None, _) => paths::join(self.directory, text),
        };
        node.value = Value::Str(path);
    }

    /// A path that may be left empty.
    fn optional(&mut self, node: Option<&mut Node>) {
        self.path(node.filter(|node| node.as_str() != Some("")));
    }

    /// A build context may be a URL or a service instead of a path.
    fn context(&mut self, node: Option<&mut Node>) {
        let Some(node) = node else { return };
        let remote = ["https://", "http://", "git://", "ssh://", "github.com/", "git@", "service:"];
        let local =
            |text: &str| !text.contains("://") && !remote.iter().any(|prefix| text.starts_with(prefix));
        if node.as_str().is_some_and(local) {
            self.optional(Some(node));
        }
    }

    fn service(&mut self, service: &mut Node) {
        if let Some(build) = service.get_mut("build") {
            self.context(build.get_mut("context"));
            for entry in build
                .get_mut("additional_contexts")
                .and_then(Node::as_map_mut)
                .into_iter()
                .flat_map(Map::values_mut)
            {
                self.context(Some(&mut entry.node));
            }
            for entry in build.get_mut("ssh").and_then(Node::as_map_mut).into_iter().flat_map(Map::values_mut)
            {
                self.path(Some(&mut entry.node));
            }
        }
        for file in items(service, "env_file") {
            self.optional(file.get_mut("path"));
        }
        for file in items(service, "label_file") {
            self.optional(Some(file));
        }
        if let Some(extends) = service.get_mut("extends") {
            self.optional(extends.get_mut("file"));
        }
        if let Some(develop) = service.get_mut("develop") {
            for watch in items(develop, "watch") {
                self.optional(watch.get_mut("path"));
            }
        }
        for mount in items(service, "volumes") {
            if mount.get("type").and_then(Node::as_str) != Some("bind") {
                continue;
            }
            if mount.get("source").is_none() {
                let finding = Finding::new(&codes::WRONG_VALUE, mount.at, "a bind mount needs a `source`");
                self.findings.error(finding);
            }
            self.path(mount.get_mut("source"));
        }
    }
}

/// Whether a path is absolute on Windows: `C:\x`, or `\\host\share\x`.
fn is_windows(path: &str) -> bool {
    let slash = |c: char| matches!(c, '\\' | '/');
    let mut chars = path.chars();
    match (chars.next(), chars.next(), chars.next()) {
        (Some(drive), Some(':'), Some(after)) => drive.is_ascii_alphabetic() && slash(after),
        (Some(first), Some(second), Some(host)) if slash(first) && slash(second) => {
            let mut parts = path[2..].split(slash);
            let names = [parts.next(), parts.next()];
            !slash(host)
                && host != '.'
                && names.iter().all(|name| name.is_some_and(|name| !name.is_empty()))
                && parts.next().is_some()
        }
        _ => false,
    }
}

/// `environment: [NAME]` takes the value from the environment of the file that says so.
pub(crate) fn bare_variables(root: &mut Node, environment: &Environment) {
    services(root, |_, service| {
        for item in items(service, "environment") {
            let value = item.as_str().and_then(|name| Some((name, environment.get(name)?)));
            if let Some((name, value)) = value {
                item.value = Value::Str(format!("{name}={value}"));
                item.substituted = true;
            }
        }
    });
}

/// Implied settings: the default network, build defaults, implicit dependencies, names of resources.
pub(crate) fn normalise(root: &mut Node, project: &str, environment: &Environment) {
    root.set("name", Value::Str(project.to_owned()));
    default_network(root);
    services(root, |_, service| {
        if service.get("pull_policy").and_then(Node::as_str) == Some("if_not_present") {
            service.set("pull_policy", Value::Str("missing".to_owned()));
        }
        if let Some(build) = service.get_mut("build") {
            if build.get("dockerfile_inline").is_none() {
                default(build, "dockerfile", "Dockerfile");
            }
            if let Some(args) = build.get_mut("args") {
                let resolved = resolved(args, environment).into_iter().filter(|(_, value)| value.is_some());
                args.value = pairs_value(args, resolved);
            }
        }
        if let Some(variables) = service.get_mut("environment") {
            let resolved = resolved(variables, environment);
            variables.value = pairs_value(variables, resolved);
        }
        let scale = service.get("scale").map(|scale| scale.value.clone());
        if let (Some(scale), Some(deploy)) = (scale, service.get_mut("deploy"))
            && deploy.get("replicas").is_none()
        {
            deploy.set("replicas", scale);
        }
        imply_dependencies(service);
        for mount in items(service, "volumes") {
            if let Some(target) = mount.get("target").and_then(Node::as_str) {
                let target = paths::clean(target);
                mount.set("target", Value::Str(target));
            }
        }
    });
    for kind in ["networks", "volumes", "configs", "secrets"] {
        for (key, entry) in root.get_mut(kind).and_then(Node::as_map_mut).into_iter().flatten() {
            if entry.node.is_null() {
                entry.node.value = Value::Map(Map::new());
            }
            let external = is_external(&entry.node);
            let name = if external { key.clone() } else { format!("{project}_{key}") };
            default(&mut entry.node, "name", &name);
        }
    }
}

/// Whether a network, volume, config or secret is managed elsewhere.
pub(crate) fn is_external(resource: &Node) -> bool {
    resource.get("external").is_some_and(|node| node.value == Value::Bool(true))
}

/// Pairs, those without a value taking it from the environment.
fn resolved(node: &Node, environment: &Environment) -> BTreeMap<String, Option<String>> {
    let fill = |(key, value): (String, Option<String>)| {
        let value = value.or_else(|| environment.get(&key).cloned());
        (key, value)
    };
    values::pairs(node).into_iter().map(fill).collect()
}

fn pairs_value(like: &Node, pairs: impl IntoIterator<Item = (String, Option<String>)>) -> Value {
    let entry = |(key, value): (String, Option<String>)| {
        let node = like.with(value.map_or(Value::Null, Value::Str));
        (key, Entry { key: like.at, node })
    };
    Value::Map(pairs.into_iter().map(entry).collect())
}

/// Services that name no network are on `default`, which exists only then.
fn default_network(root: &mut Node) {
    let mut used = false;
    services(root, |_, service| {
        if service.get("network_mode").is_some() {
            return;
        }
        match service.get("networks").and_then(Node::as_map) {
            Some(networks) if !networks.is_empty() => used |= networks.contains_key("default"),
            _ => {
                let default = map_at(service.at, [("default", Value::Null)]);
                service.set("networks", default.value);
                used = true;
            }
        }
    });
    if !used {
        return;
    }
    if root.get("networks").and_then(Node::as_map).is_none() {
        root.set("networks", Value::Map(Map::new()));
    }
    if let Some(networks) = root.get_mut("networks")
        && networks.get("default").is_none()
    {
        networks.set("default", Value::Null);
    }
}

/// Links, shared namespaces and `volumes_from` are dependencies too.
fn imply_dependencies(service: &mut Node) {
    let mut implied: Vec<(String, bool, At)> = Vec::new();
    for link in service.get("links").and_then(Node::as_list).unwrap_or_default() {
        let at = link.at;
        if let Some(link) = link.as_str() {
            // `service:alias`; anything else is taken for a name, and found to be none.
            let parts: Vec<&str> = link.split(':').collect();
            implied.push((if parts.len() == 2 { parts[0] } else { link }.to_owned(), true, at));
        }
    }
    for key in ["network_mode", "ipc", "pid", "uts", "cgroup"] {
        let Some(node) = service.get(key) else { continue };
        let shared = node.as_str().and_then(|value| value.strip_prefix("service:"));
        implied.extend(shared.map(|name| (name.to_owned(), true, node.at)));
    }
    for from in service.get("volumes_from").and_then(Node::as_list).unwrap_or_default() {
        let at = from.at;
        if let Some(from) = from.as_str().filter(|from| !from.starts_with("container:")) {
            implied.push((from.split(':').next().unwrap_or(from).to_owned(), false, at));
        }
    }
    if implied.is_empty() {
        return;
    }
    if service.get("depends_on").and_then(Node::as_map).is_none() {
        service.set("depends_on", Value::Map(Map::new()));
    }
    let Some(dependencies) = service.get_mut("depends_on").and_then(Node::as_map_mut) else { return };
    for (name, restart, at) in implied {
        dependencies.entry(name).or_insert_with(|| Entry {
            key: at,
            node: map_at(
                at,
                [
                    ("condition", Value::Str("service_started".to_owned())),
                    ("required", Value::Bool(true)),
                    ("restart", Value::Bool(restart)),
                ],
            ),
        });
    }
}

/// Takes out services whose profiles are not active, and gives their names.
pub(crate) fn disable_by_profile(root: &mut Node, active: &[String]) -> BTreeSet<String> {
    let mut disabled = BTreeSet::new();
    let Some(services) = root.get_mut("services").and_then(Node::as_map_mut) else { return disabled };
    services.retain(|name, entry| {
        let wanted = entry.node.get("profiles").and_then(Node::as_list).unwrap_or_default();
        let on = |profile: &Node| active.iter().any(|name| name == "*" || profile.as_str() == Some(name));
        let enabled = wanted.is_empty() || wanted.iter().any(on);
        if !enabled {
            disabled.insert(name.clone());
        }
        enabled
    });
    disabled
}

/// Folds env and label files into `environment` and `labels`; what is written in the service wins.
pub(crate) fn resolve_env_files(
    loader: &mut Loader<'_>,
    root: &mut Node,
    environment: &Environment,
) -> Result<(), Stop> {
    let Some(services) = root.get_mut("services").and_then(Node::as_map_mut) else { return Ok(()) };
    for entry in services.values_mut() {
        let service = &mut entry.node;
        if let Some(map) = service.as_map_mut() {
            let env = map.remove("env_file");
            let labels = map.remove("label_file");
            if let Some(files) = env {
                fold(loader, service, "environment", &files.node, &|name| {
                    environment.get(name).map(String::as_str)
                })?;
            }
            if let Some(files) = labels {
                fold(loader, service, "labels", &files.node, &|_| None)?;
            }
        }
    }
    Ok(())
}

fn fold<'e>(
    loader: &mut Loader<'_>,
    service: &mut Node,
    key: &str,
    files: &Node,
    outside: Lookup<'_, 'e>,
) -> Result<(), Stop> {
    let mut all: BTreeMap<String, Option<String>> = BTreeMap::new();
    for file in files.as_list().unwrap_or_default() {
        let long = file.as_map().is_some();
        let Some(path) = (if long { file.get("path").and_then(Node::as_str) } else { file.as_str() }) else {
            continue;
        };
        let required = file.get("required").is_none_or(|node| node.value != Value::Bool(false));
        // Outside the confines is an error even when the file is optional.
        if !required && loader.is_allowed(path) && loader.kind(path).is_none() {
            continue;
        }
        let format = file.get("format").and_then(Node::as_str).unwrap_or_default();
        if !matches!(format, "" | "raw") {
            let finding =
                Finding::new(&codes::WRONG_VALUE, file.at, format!("`{format}` is no format of env files"));
            return loader.fail(finding.help("leave `format` out, or use `raw`"));
        }
        let found = loader.env_file(
            path,
            format == "raw",
            &|name| all.get(name).and_then(Option::as_deref).or_else(|| outside(name)),
            file.at,
        )?;
        all.extend(found.into_iter().map(|(key, value)| (key, Some(value))));
    }
    if all.is_empty() {
        return Ok(());
    }
    if let Some(own) = service.get(key) {
        all.extend(values::pairs(own));
    }
    let mut folded = Node::new(Value::Null, files.at);
    folded.substituted = true;
    let value = pairs_value(&folded, all);
    service.set(key, value);
    Ok(())
}

/// Takes out networks, volumes, configs and secrets that no service uses.
pub(crate) fn drop_unused(root: &mut Node) {
    let mut used: BTreeSet<(&'static str, String)> = BTreeSet::new();
    let mut take = |kind: &'static str, name: Option<&Node>| {
        if let Some(name) = name.and_then(Node::as_str) {
            used.insert((kind, name.to_owned()));
        }
    };
    services(root, |_, service| {
        for (name, entry) in service.get("networks").and_then(Node::as_map).into_iter().flatten() {
            take("networks", Some(&Node::text(name.clone(), entry.key)));
        }
        for mount in service.get("volumes").and_then(Node::as_list).unwrap_or_default() {
            if mount.get("type").and_then(Node::as_str) == Some("volume") {
                take("volumes", mount.get("source"));
            }
        }
        let build = service.get("build").and_then(|build| build.get("secrets"));
        for (kind, list) in
            [("secrets", service.get("secrets")), ("secrets", build), ("configs", service.get("configs"))]
        {
            for mount in list.and_then(Node::as_list).unwrap_or_default() {
                take(kind, mount.get("source"));
            }
        }
    });
    for kind in ["networks", "volumes", "configs", "secrets"] {
        if let Some(map) = root.get_mut(kind).and_then(Node::as_map_mut) {
            map.retain(|name, _| used.contains(&(kind, name.clone())));
        }
    }
}
