//! What the specification allows and a customer's host cannot honour: refused by name, with what to do instead, or,
//! where nothing is lost by leaving it out, a warning.

use super::read::Read;
use crate::codes;
use crate::diagnostics::{Finding, Findings};
use crate::finish::is_external;
use crate::load::Loader;
use crate::node::{Entry, Map, Node};

/// Service keys that are refused: nothing on the host could stand in for them.
const REFUSED: [(&str, &str); 5] = [
    ("credential_spec", "it is for Windows; remove it"),
    ("models", "run the model as a service with an image of its own"),
    (
        "provider",
        "run what it provides as a service, or have the customer provide it and pass its address as a parameter",
    ),
    (
        "use_api_socket",
        "a service that needs the engine must mount its socket openly, which the customer's guard can then judge",
    ),
    ("pull_refresh_after", "images come with the release; remove it"),
];
/// Keys of `deploy` that have no meaning on one host.
const IGNORED_DEPLOY: [&str; 4] = ["endpoint_mode", "labels", "mode", "placement"];

/// Puts down what is refused in a project that is to be run.
pub(crate) fn refuse(root: &Node, loader: &mut Loader<'_>) {
    let empty = Map::new();
    let map = |key: &str| root.get(key).and_then(Node::as_map).unwrap_or(&empty);
    for (name, entry) in map("services") {
        service(name, entry, &mut loader.findings);
    }
    if let Some(models) = root.as_map().and_then(|map| map.get("models")) {
        let finding = Finding::new(&codes::NOT_HANDLED, models.key, "`models` is not handled yet");
        loader.findings.error(finding.help("run the model as a service with an image of its own"));
    }
    for (kind, what) in [("configs", "config"), ("secrets", "secret")] {
        for (name, entry) in map(kind) {
            file_object(what, name, entry, loader);
        }
    }
}

fn service(name: &str, entry: &Entry, findings: &mut Findings) {
    let Some(map) = entry.node.as_map() else { return };
    for (key, instead) in REFUSED {
        if let Some(entry) = map.get(key) {
            let message = format!("service `{name}`: `{key}` is not handled");
            findings.error(Finding::new(&codes::NOT_HANDLED, entry.key, message).help(instead));
        }
    }
    if let Some(develop) = map.get("develop") {
        let message = format!("service `{name}`: `develop` is for development and is ignored");
        findings.warn(Finding::new(&codes::NOT_HANDLED, develop.key, message));
    }
    if let Some(build) = map.get("build") {
        match entry.node.text("image") {
            Some(image) => {
                let message =
                    format!("service `{name}`: `build` is ignored; the image `{image}` is used as published");
                findings.warn(Finding::new(&codes::BUILD_WITHOUT_IMAGE, build.key, message));
            }
            None => {
                let message = format!("service `{name}` is built from source and names no image");
                let help = format!(
                    "nothing is built on a customer's host: publish the image when releasing \
                     (`docker build -t REGISTRY/{name}:VERSION . && docker push REGISTRY/{name}:VERSION`) \
                     and add `image: REGISTRY/{name}:VERSION`"
                );
                findings.error(Finding::new(&codes::BUILD_WITHOUT_IMAGE, build.key, message).help(help));
            }
        }
    }
    deploy(name, &entry.node, findings);
    for mount in entry.node.items("volumes") {
        let kind = mount.text_or("type", "");
        if matches!(kind.as_str(), "cluster" | "npipe") {
            let message = format!("service `{name}`: mounts of type `{kind}` are not handled");
            let finding = Finding::new(&codes::NOT_HANDLED, mount.at, message);
            findings.error(finding.help("use a volume, a bind mount or tmpfs"));
        }
        let target = mount.text_or("target", "");
        if !target.starts_with('/') {
            let finding =
                Finding::new(&codes::WRONG_VALUE, mount.at, "a mount needs a `target` that starts with `/`");
            let drive = target.chars().nth(1) == Some(':');
            findings.error(if drive {
                finding.help("a name of one letter before a colon is taken for a drive; use the long form, or a longer name")
            } else {
                finding
            });
        }
    }
    if let Some(check) = entry.node.get("healthcheck")
        && let Some(interval) = check.get("start_interval")
        && check.get("start_period").is_none()
    {
        let finding =
            Finding::new(&codes::CONTRADICTION, interval.at, "`start_interval` needs `start_period`");
        findings.error(finding.help("add `start_period`, during which the interval holds"));
    }
}

/// `deploy` has much that only a cluster can honour.
fn deploy(name: &str, service: &Node, findings: &mut Findings) {
    let ignored: [(&[&str], &[&str]); 3] = [
        (&["deploy"], &IGNORED_DEPLOY),
        (&["deploy", "restart_policy"], &["delay", "window"]),
        (&["deploy", "resources", "reservations"], &["cpus", "generic_resources"]),
    ];
    for (path, keys) in ignored {
        let group = path.iter().try_fold(service, |node, key| node.get(key));
        for (key, entry) in group.and_then(Node::as_map).into_iter().flatten() {
            let replicated = key == "mode" && entry.node.as_str() == Some("replicated");
            if keys.contains(&key.as_str()) && !replicated {
                let path = path.join(".");
                let message =
                    format!("service `{name}`: `{path}.{key}` has no meaning on one host and is ignored");
                findings.warn(Finding::new(&codes::NOT_HANDLED, entry.key, message));
            }
        }
    }
}

fn file_object(what: &str, name: &str, entry: &Entry, loader: &mut Loader<'_>) {
    let node = &entry.node;
    if is_external(node) || node.get("driver").is_some() || node.get("template_driver").is_some() {
        let message = format!("{what} `{name}` is managed elsewhere, which a plain Docker engine cannot do");
        let finding = Finding::new(&codes::NOT_HANDLED, entry.key, message);
        loader.findings.error(finding.help("take it from a `file` or from an `environment` variable"));
        return;
    }
    let Some(file) = node.get("file") else { return };
    let path = file.as_str().unwrap_or_default();
    if !loader.is_allowed(path) {
        let message = format!("{what} `{name}` is taken from {path}, outside the project's folder");
        loader.findings.error(Finding::new(&codes::ESCAPES, file.at, message));
    } else if loader.kind(path).is_none() {
        let message = format!("{what} `{name}` is taken from {path}, which does not exist");
        loader.findings.error(Finding::new(&codes::FILE_MISSING, file.at, message));
    }
}
