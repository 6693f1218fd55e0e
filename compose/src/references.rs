//! What a project refers to, found by reading its files as they are written, without filling in anything.

use std::collections::{BTreeMap, BTreeSet};

use crate::Options;
use crate::diagnostics::{At, Stop};
use crate::extends::is_remote;
use crate::interpolate::{self, Variable};
use crate::load::{self, Loader, Parsed};
use crate::node::Node;
use crate::paths;

/// The variables of all files that the project is made of.
pub(crate) fn variables(
    loader: &mut Loader<'_>,
    options: &Options,
    except: &[&str],
) -> Result<Vec<Variable>, Stop> {
    let directory = load::find_project(loader, options);
    let own = load::parse_files(loader, options, &directory)?;
    let mut known: BTreeSet<String> = own.iter().map(|file| file.path.clone()).collect();
    // Files, each with the folder that its paths are seen from.
    let mut waiting: Vec<(Parsed, String)> = own.into_iter().map(|file| (file, directory.clone())).collect();
    let mut found = BTreeMap::new();
    while let Some((file, folder)) = waiting.pop() {
        for document in &file.documents {
            for (key, entry) in document.as_map().into_iter().flatten() {
                if !except.contains(&key.as_str()) {
                    interpolate::collect(&entry.node, &mut found);
                }
            }
            for (path, folder, at) in others(document, &folder) {
                if known.insert(path.clone()) {
                    waiting.push((loader.parse(&path, at)?, folder));
                }
            }
        }
    }
    Ok(found.into_values().collect())
}

/// Files that a document includes or extends from: path, folder that they see their paths from, place.
fn others(document: &Node, folder: &str) -> Vec<(String, String, At)> {
    let written = |node: &Node| {
        let text = node.as_str().filter(|text| !text.contains('$') && !is_remote(text))?;
        Some(paths::join(folder, text))
    };
    let mut others = Vec::new();
    for inclusion in document.get("include").and_then(Node::as_list).unwrap_or_default() {
        let named = inclusion.get("path").unwrap_or(inclusion);
        let files = named.as_list().unwrap_or(std::slice::from_ref(named));
        // The first file says where the project is; the others are laid over it.
        let project = inclusion.get("project_directory").and_then(written);
        let project = project.or_else(|| files.first().and_then(written).map(|main| paths::parent(&main)));
        let Some(project) = project else { continue };
        others.extend(files.iter().filter_map(|file| Some((written(file)?, project.clone(), file.at))));
    }
    for entry in document.get("services").and_then(Node::as_map).into_iter().flat_map(|map| map.values()) {
        let file = entry.node.get("extends").and_then(|extends| extends.get("file"));
        if let Some((file, path)) = file.and_then(|file| Some((file, written(file)?))) {
            others.push((path.clone(), paths::parent(&path), file.at));
        }
    }
    others
}
