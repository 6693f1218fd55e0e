//! What must hold between the parts of a project: references lead somewhere, keys do not contradict each other,
//! dependencies form no circle.

use std::collections::{BTreeMap, BTreeSet};

use crate::codes;
use crate::diagnostics::{At, Finding, Findings, nearest};
use crate::finish::is_external;
use crate::node::{Map, Node, Value};
use crate::values;

/// Checks a normalised project; `disabled` are services taken out by profile.
pub(crate) fn check(root: &Node, disabled: &BTreeSet<String>, findings: &mut Findings) {
    let empty = Map::new();
    let map = |key: &str| root.get(key).and_then(Node::as_map).unwrap_or(&empty);
    resources(root, findings);
    let services = map("services");
    let checker = Checker {
        services,
        disabled,
        networks: map("networks"),
        volumes: map("volumes"),
        configs: map("configs"),
        secrets: map("secrets"),
    };
    for (name, entry) in services {
        if findings.is_full() {
            return;
        }
        checker.service(name, &entry.node, entry.key, findings);
    }
    circles(services, findings);
}

/// Networks, volumes, configs and secrets by themselves.
fn resources(root: &Node, findings: &mut Findings) {
    let each = |kind: &'static str| {
        let map = root.get(kind).and_then(Node::as_map).into_iter().flatten();
        map.map(move |(name, entry)| (kind, name, entry))
    };
    for (kind, name, entry) in each("volumes") {
        let Some(map) = entry.node.as_map().filter(|_| is_external(&entry.node)) else { continue };
        for (key, other) in map {
            if !matches!(key.as_str(), "name" | "external") && !key.starts_with("x-") {
                let message = format!("`{kind}.{name}` is external and cannot have `{key}`");
                findings.error(
                    Finding::new(&codes::CONTRADICTION, other.key, message).help("remove one of the two"),
                );
            }
        }
    }
    let sources: [(&'static str, &[&str]); 2] =
        [("configs", &["file", "environment", "content"]), ("secrets", &["file", "environment"])];
    for (kind, keys) in sources {
        for (_, name, entry) in each(kind) {
            let given = keys.iter().filter(|key| entry.node.get(key).is_some()).count();
            let listed = keys.join("`, `");
            if given > 1 {
                let message = format!("`{kind}.{name}` must have only one of `{listed}`");
                findings.error(Finding::new(&codes::CONTRADICTION, entry.key, message));
            }
            if given == 0 && !is_external(&entry.node) {
                let message = format!("`{kind}.{name}` needs one of `{listed}`");
                findings.error(Finding::new(&codes::WRONG_VALUE, entry.key, message));
            }
        }
    }
}

struct Checker<'a> {
    services: &'a Map,
    disabled: &'a BTreeSet<String>,
    networks: &'a Map,
    volumes: &'a Map,
    configs: &'a Map,
    secrets: &'a Map,
}

impl Checker<'_> {
    fn service(&self, name: &str, service: &Node, at: At, findings: &mut Findings) {
        let text = |key: &str| service.get(key).and_then(Node::as_str);
        if service.get("build").is_none()
            && text("image").is_none_or(str::is_empty)
            && service.get("provider").is_none()
        {
            let message = format!("service `{name}` has neither `image` nor `build`");
            findings
                .error(Finding::new(&codes::WRONG_VALUE, at, message).help("name the image that it runs"));
        }
        let mode = service.get("network_mode").filter(|mode| mode.as_str() != Some(""));
        if let (Some(mode), Some(networks)) = (mode, service.get("networks"))
            && networks.as_map().is_some_and(|map| !map.is_empty())
        {
            let message = format!("service `{name}` has both `network_mode` and `networks`");
            findings.error(Finding::new(&codes::CONTRADICTION, mode.at, message).help("keep one of the two"));
        }
        self.references(name, service, findings);
        if let Some(test) = service.get("healthcheck").and_then(|check| check.get("test"))
            && let Some([first, ..]) = test.as_list()
            && !matches!(first.as_str(), Some("CMD" | "CMD-SHELL" | "NONE"))
        {
            let finding = Finding::new(
                &codes::WRONG_VALUE,
                first.at,
                "a health check must start with CMD, CMD-SHELL or NONE",
            );
            findings.error(finding.help("for a plain command write `[\"CMD\", …]`"));
        }
        if let Some(build) = service.get("build") {
            self.build(name, service, build, findings);
        }
        watch(service, findings);
        for mount in service.get("volumes").and_then(Node::as_list).unwrap_or_default() {
            let size = mount.get("tmpfs").and_then(|tmpfs| tmpfs.get("size"));
            if let Some(size) = size.filter(|size| values::bytes(size).is_some_and(|bytes| bytes < 0)) {
                let finding = Finding::new(&codes::WRONG_VALUE, size.at, "the size is below zero");
                findings.error(finding.help("leave it out to have no limit"));
            }
        }
        if let Some(policy) = service.get("pull_policy")
            && !policy.as_str().is_some_and(is_pull_policy)
        {
            let message = format!("`{}` is no pull policy", policy.shown());
            let help = "use always, never, missing, build, refresh, daily, weekly or every_<time>";
            findings.error(Finding::new(&codes::WRONG_VALUE, policy.at, message).help(help));
        }
        contradictions(name, service, findings);
        devices(service, findings);
    }

    fn build(&self, name: &str, service: &Node, build: &Node, findings: &mut Findings) {
        if let (Some(inline), Some(_)) = (build.get("dockerfile_inline"), build.get("dockerfile")) {
            let message = format!("service `{name}` has both `dockerfile` and `dockerfile_inline`");
            findings
                .error(Finding::new(&codes::CONTRADICTION, inline.at, message).help("keep one of the two"));
        }
        let contexts = build.get("additional_contexts").and_then(Node::as_map);
        for (context, entry) in contexts.into_iter().flatten() {
            let wanted = entry.node.as_str().and_then(|text| text.strip_prefix("service:"));
            let Some(wanted) = wanted else { continue };
            let built = self.services.get(wanted).map(|other| other.node.get("build").is_some());
            let problem = match built {
                Some(true) => continue,
                Some(false) => "is not built",
                None => "is not defined",
            };
            let message = format!(
                "service `{name}` takes the build context `{context}` from `{wanted}`, which {problem}"
            );
            findings.error(Finding::new(&codes::UNDEFINED, entry.node.at, message));
        }
        let platform = service.get("platform").filter(|platform| platform.as_str() != Some(""));
        let platforms = build.get("platforms").and_then(Node::as_list).unwrap_or_default();
        if let Some(platform) = platform
            && !platforms.is_empty()
            && !platforms.contains(platform)
        {
            let message = format!("service `{name}` is built for other platforms than its `platform`");
            let finding = Finding::new(&codes::CONTRADICTION, platform.at, message);
            findings.error(finding.help("add it to `build.platforms`"));
        }
    }

    fn references(&self, name: &str, service: &Node, findings: &mut Findings) {
        let mut undefined = |what: &str, wanted: &str, known: &Map, at: At| {
            if known.contains_key(wanted) || findings.is_full() {
                return;
            }
            let message = format!("service `{name}` refers to the {what} `{wanted}`, which is not defined");
            let finding = Finding::new(&codes::UNDEFINED, at, message);
            let finding = match nearest(wanted, known.keys().map(String::as_str)) {
                Some(near) => finding.help(format!("did you mean `{near}`?")),
                None => finding.help(format!("define it under `{what}s:`")),
            };
            findings.error(finding);
        };
        for (network, entry) in service.get("networks").and_then(Node::as_map).into_iter().flatten() {
            undefined("network", network, self.networks, entry.key);
        }
        let list = |key: &str| service.get(key).and_then(Node::as_list).unwrap_or_default();
        let source = |node: &'_ Node| {
            node.get("source").and_then(Node::as_str).map(str::to_owned).filter(|s| !s.is_empty())
        };
        for mount in list("volumes") {
            let volume = mount.get("type").and_then(Node::as_str) == Some("volume");
            if let Some(wanted) = source(mount).filter(|_| volume) {
                undefined("volume", &wanted, self.volumes, mount.at);
            }
        }
        let build = service
            .get("build")
            .and_then(|build| build.get("secrets"))
            .and_then(Node::as_list)
            .unwrap_or_default();
        for (what, mounts, known) in [
            ("config", list("configs"), self.configs),
            ("secret", list("secrets"), self.secrets),
            ("secret", build, self.secrets),
        ] {
            for mount in mounts {
                if let Some(wanted) = source(mount) {
                    undefined(what, &wanted, known, mount.at);
                }
            }
        }
        for (wanted, entry) in service.get("depends_on").and_then(Node::as_map).into_iter().flatten() {
            let optional = entry.node.get("required").is_some_and(|node| node.value == Value::Bool(false));
            let fine = self.services.contains_key(wanted) || (optional && self.disabled.contains(wanted));
            if fine || findings.is_full() {
                continue;
            }
            let (message, help) = if self.disabled.contains(wanted) {
                let message = format!("service `{name}` depends on `{wanted}`, whose profile is not active");
                (message, Some("activate the profile, or set `required: false`".to_owned()))
            } else {
                let near = nearest(wanted, self.services.keys().map(String::as_str));
                let help = near.map(|near| format!("did you mean `{near}`?"));
                (format!("service `{name}` depends on `{wanted}`, which is not defined"), help)
            };
            let mut finding = Finding::new(&codes::UNDEFINED, entry.key, message);
            finding.help = help;
            findings.error(finding);
        }
    }
}

/// Rules of `develop.watch`.
fn watch(service: &Node, findings: &mut Findings) {
    let rules = service.get("develop").and_then(|develop| develop.get("watch")).and_then(Node::as_list);
    for rule in rules.unwrap_or_default() {
        let given = |key: &str| rule.get(key).and_then(Node::as_str).is_some_and(|text| !text.is_empty());
        let action = rule.get("action").and_then(Node::as_str).unwrap_or_default();
        if !given("path") {
            let finding = Finding::new(&codes::WRONG_VALUE, rule.at, "the `path` of a watch rule is empty");
            findings.error(finding);
        }
        if !given("target") && !matches!(action, "rebuild" | "restart") {
            let message = format!("a watch rule with the action `{action}` needs a `target`");
            findings.error(Finding::new(&codes::WRONG_VALUE, rule.at, message));
        }
    }
}

/// Policies of the specification; an interval is such as `every_12h` or `every_1w2d`.
fn is_pull_policy(policy: &str) -> bool {
    let known = ["always", "never", "missing", "if_not_present", "build", "refresh", "daily", "weekly"];
    let interval = |text: &str| {
        let mut parts = text.split_inclusive(|c: char| !c.is_ascii_digit()).peekable();
        parts.peek().is_some()
            && parts.all(|part| part.len() > 1 && part.ends_with(['w', 'd', 'h', 'm', 's']))
    };
    known.contains(&policy) || policy.strip_prefix("every_").is_some_and(interval)
}

/// Keys of a service and of its `deploy` that say the same thing differently.
fn contradictions(name: &str, service: &Node, findings: &mut Findings) {
    let at = service.at;
    let mut differ = |a: &str, b: &str, at: At| {
        let message = format!("service `{name}` has different values for `{a}` and `{b}`");
        findings.error(Finding::new(&codes::CONTRADICTION, at, message).help("keep one of the two"));
    };
    let deploy = |path: &[&str]| path.iter().try_fold(service.get("deploy")?, |node, key| node.get(key));
    let number = |node: &Node| match node.value {
        Value::Int(value) => Some(value as f64),
        Value::Float(value) => Some(f64::from(value as f32)),
        _ => None,
    };
    let bytes = |node: &Node| values::bytes(node).map(|bytes| bytes as f64);
    type Reading<'a> = &'a dyn Fn(&Node) -> Option<f64>;
    let pairs: [(&str, &[&str], &str, Reading<'_>); 4] = [
        ("cpus", &["resources", "limits"], "cpus", &number),
        ("mem_limit", &["resources", "limits"], "memory", &bytes),
        ("mem_reservation", &["resources", "reservations"], "memory", &bytes),
        ("pids_limit", &["resources", "limits"], "pids", &number),
    ];
    for (key, group, inner, read) in pairs {
        let own = service.get(key).and_then(read).filter(|value| *value != 0.0);
        let Some((own, group_node)) = own.zip(deploy(group)) else { continue };
        if group_node.get(inner).and_then(read) != Some(own) {
            let at = service.get(key).map_or(at, |node| node.at);
            differ(key, &format!("deploy.{}.{inner}", group.join(".")), at);
        }
    }
    let scale = service.get("scale");
    let replicas = deploy(&["replicas"]);
    if let (Some(scale), Some(replicas)) = (scale, replicas)
        && scale != replicas
    {
        differ("scale", "deploy.replicas", scale.at);
    }
    if let (Some(many), Some(fixed)) = (scale.or(replicas), service.get("container_name"))
        && number(many).is_some_and(|count| count > 1.0)
    {
        let message = format!("service `{name}` has `container_name` and more than one container");
        findings
            .error(Finding::new(&codes::CONTRADICTION, fixed.at, message).help("remove `container_name`"));
    }
}

fn devices(service: &Node, findings: &mut Findings) {
    let reserved = ["deploy", "resources", "reservations", "devices"]
        .iter()
        .try_fold(service, |node, key| node.get(key));
    for list in [service.get("gpus"), reserved].into_iter().flatten() {
        for request in list.as_list().unwrap_or_default() {
            if request.get("count").is_some() && request.get("device_ids").is_some() {
                let finding = Finding::new(
                    &codes::CONTRADICTION,
                    request.at,
                    "`count` and `device_ids` exclude each other",
                );
                findings.error(finding.help("keep one of the two"));
            }
        }
    }
}

/// Finds a circle of dependencies, without recursion.
fn circles(services: &Map, findings: &mut Findings) {
    let edges: BTreeMap<&str, Vec<(&str, At)>> = services
        .iter()
        .map(|(name, entry)| {
            let to = entry.node.get("depends_on").and_then(Node::as_map).into_iter().flatten();
            (name.as_str(), to.map(|(name, entry)| (name.as_str(), entry.key)).collect())
        })
        .collect();
    let mut done: BTreeSet<&str> = BTreeSet::new();
    let mut walked: BTreeSet<&str> = BTreeSet::new();
    for start in edges.keys().copied() {
        if done.contains(start) {
            continue;
        }
        // The path walked, with the next edge to try at each step.
        let mut path: Vec<(&str, usize)> = vec![(start, 0)];
        while let Some((name, next)) = path.pop() {
            let Some(&(to, at)) = edges.get(name).and_then(|edges| edges.get(next)) else {
                done.insert(name);
                walked.remove(name);
                continue;
            };
            path.push((name, next + 1));
            walked.insert(name);
            if walked.contains(to)
                && let Some(first) = path.iter().position(|(name, _)| *name == to)
            {
                let circle: Vec<&str> = path[first..].iter().map(|(name, _)| *name).chain([to]).collect();
                let message = format!("services depend on each other in a circle: {}", circle.join(" -> "));
                findings.error(Finding::new(&codes::CYCLE, at, message));
                return;
            }
            if !done.contains(to) {
                path.push((to, 0));
            }
        }
    }
}
