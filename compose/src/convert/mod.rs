//! The canonical tree to the typed model, and what is refused because a customer's host cannot honour it.

mod parts;
mod read;
mod refuse;
mod resources;
mod service;

use std::collections::BTreeMap;

pub(crate) use refuse::refuse;

use crate::diagnostics::Findings;
use crate::finish::is_external;
use crate::load::Raw;
use crate::model::{FileObject, FileSource, IpamPool, Network, Project, Volume};
use crate::node::Node;
use crate::schema::render;
use read::Read;

/// The whole project.
pub(crate) fn project(raw: &Raw, findings: &mut Findings) -> Project {
    let root = &raw.root;
    let services =
        entries(root, "services").map(|(name, node)| (name.clone(), service::service(name, node, findings)));
    let mut project = Project {
        name: raw.name.clone(),
        services: services.collect(),
        networks: entries(root, "networks").map(|(key, node)| (key.clone(), network(node))).collect(),
        volumes: entries(root, "volumes").map(|(key, node)| (key.clone(), volume(node))).collect(),
        configs: entries(root, "configs").map(|(key, node)| (key.clone(), file_object(node))).collect(),
        secrets: entries(root, "secrets").map(|(key, node)| (key.clone(), file_object(node))).collect(),
        extensions: extensions(root),
    };
    // An optional dependency on a service that a profile has taken out is none.
    let names: Vec<String> = project.services.keys().cloned().collect();
    for service in project.services.values_mut() {
        service.depends_on.retain(|name, _| names.binary_search(name).is_ok());
    }
    project
}

fn entries<'a>(root: &'a Node, key: &str) -> impl Iterator<Item = (&'a String, &'a Node)> {
    root.get(key).and_then(Node::as_map).into_iter().flatten().map(|(key, entry)| (key, &entry.node))
}

/// `x-` keys of a mapping, untyped.
fn extensions(node: &Node) -> BTreeMap<String, serde_json::Value> {
    let map = node.as_map().into_iter().flatten().filter(|(key, _)| key.starts_with("x-"));
    map.map(|(key, entry)| (key.clone(), render::plain(&entry.node))).collect()
}

fn network(node: &Node) -> Network {
    let ipam = node.get("ipam");
    let pool = |pool: &Node| IpamPool {
        subnet: pool.text("subnet"),
        gateway: pool.text("gateway"),
        ip_range: pool.text("ip_range"),
        aux_addresses: pool.mapping("aux_addresses"),
    };
    Network {
        name: node.text_or("name", ""),
        external: is_external(node),
        driver: node.text_or("driver", ""),
        driver_opts: node.mapping("driver_opts"),
        internal: node.flag("internal"),
        attachable: node.flag("attachable"),
        enable_ipv4: node.boolean("enable_ipv4"),
        enable_ipv6: node.boolean("enable_ipv6"),
        ipam_driver: ipam.and_then(|ipam| ipam.text("driver")),
        ipam_options: ipam.map(|ipam| ipam.mapping("options")).unwrap_or_default(),
        ipam: ipam.map(|ipam| ipam.items("config").map(pool).collect()).unwrap_or_default(),
        labels: node.mapping("labels"),
    }
}

fn volume(node: &Node) -> Volume {
    Volume {
        name: node.text_or("name", ""),
        external: is_external(node),
        driver: node.text_or("driver", ""),
        driver_opts: node.mapping("driver_opts"),
        labels: node.mapping("labels"),
    }
}

fn file_object(node: &Node) -> FileObject {
    let source = if let Some(file) = node.text("file") {
        FileSource::File(file)
    } else if let Some(variable) = node.text("environment") {
        FileSource::Environment(variable)
    } else if let Some(content) = node.text("content") {
        FileSource::Content(content)
    } else {
        FileSource::External
    };
    FileObject { name: node.text_or("name", ""), source, labels: node.mapping("labels") }
}
