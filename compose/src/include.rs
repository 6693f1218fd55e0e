//! `include`: another project's services, networks, volumes, configs and secrets become part of this one.
//!
//! An included project has its own folder and its own `.env`; variables of the including one win. What both define
//! must be the same.

use crate::budget::Weight;
use crate::codes;
use crate::diagnostics::{At, Finding, Stop};
use crate::extends::{is_remote, remote};
use crate::files::FileKind;
use crate::load::{Loader, Scope};
use crate::node::{Entry, Map, Node, Value};
use crate::{paths, schema};

/// Projects included by included projects.
const MAX_DEPTH: usize = 16;

/// One entry of `include`.
struct Inclusion {
    at: At,
    files: Vec<(String, At)>,
    env_files: Vec<(String, At)>,
    directory: Option<String>,
}

impl Loader<'_> {
    /// Resolves and removes `include`.
    pub(crate) fn include(&mut self, document: &mut Node, path: &str, scope: &Scope) -> Result<(), Stop> {
        let Some(mut include) = document.as_map_mut().and_then(|map| map.remove("include")) else {
            return Ok(());
        };
        if include.node.is_null() {
            return Ok(());
        }
        schema::check::fragment(&mut include.node, &schema::INCLUDES, "include", &mut self.findings)?;
        let entries: Vec<Inclusion> =
            include.node.as_list().unwrap_or_default().iter().map(inclusion).collect();
        for entry in entries {
            let at = entry.at;
            let imported = self.included(entry, path, scope)?;
            self.import(document, imported, at)?;
        }
        Ok(())
    }

    fn included(&mut self, entry: Inclusion, path: &str, scope: &Scope) -> Result<Node, Stop> {
        let mut trail = scope.trail.clone();
        if !trail.iter().any(|known| known == path) {
            trail.push(path.to_owned());
        }
        let mut files = Vec::new();
        for (file, at) in &entry.files {
            if is_remote(file) {
                return self.fail(remote(file, *at));
            }
            let full = paths::join(&scope.directory, file);
            if trail.contains(&full) || trail.len() > MAX_DEPTH {
                let message =
                    format!("files include each other in a circle: {} -> {full}", trail.join(" -> "));
                return self.fail(Finding::new(&codes::CYCLE, *at, message));
            }
            files.push((full, *at));
        }
        let Some((main, _)) = files.first() else {
            return self.fail(Finding::new(&codes::WRONG_VALUE, entry.at, "`include` needs a `path`"));
        };
        let directory = match &entry.directory {
            Some(directory) => paths::join(&scope.directory, directory),
            None => paths::parent(main),
        };
        let env_files = if entry.env_files.is_empty() {
            let default = paths::join(&directory, ".env");
            let found = self.kind(&default) == Some(FileKind::File);
            if found { vec![(default, entry.at)] } else { Vec::new() }
        } else {
            entry.env_files.iter().map(|(file, at)| (paths::join(&scope.directory, file), *at)).collect()
        };
        let text = scope.environment.iter().map(|(name, value)| name.len() + value.len()).sum();
        self.spend(Weight { values: scope.environment.len(), text }, entry.at)?;
        let mut environment = scope.environment.clone();
        self.add_env_files(&mut environment, &env_files)?;
        trail.extend(files.iter().map(|(file, _)| file.clone()));
        let inner = Scope { directory, environment, trail };
        let mut parsed = Vec::new();
        for (file, at) in files {
            parsed.push(self.parse(&file, at)?);
        }
        // Its variables differ, and so may what it extends.
        let outer = std::mem::take(&mut self.bases);
        let loaded = self.load_files(parsed, &inner);
        self.bases = outer;
        loaded
    }

    fn import(&mut self, document: &mut Node, imported: Node, at: At) -> Result<(), Stop> {
        let Value::Map(mut imported) = imported.value else { return Ok(()) };
        let Some(target) = document.as_map_mut() else { return Ok(()) };
        for kind in ["services", "volumes", "networks", "secrets", "configs"] {
            let Some(Entry { node: Node { value: Value::Map(resources), .. }, .. }) = imported.remove(kind)
            else {
                continue;
            };
            let empty = || Entry { key: at, node: Node::new(Value::Map(Map::new()), at) };
            let entry = target.entry(kind.to_owned()).or_insert_with(empty);
            if entry.node.is_null() {
                *entry = empty();
            }
            let Some(known) = entry.node.as_map_mut() else { continue };
            for (name, resource) in resources {
                match known.get(&name) {
                    None => {
                        known.insert(name, resource);
                    }
                    Some(own) if *own == resource => {}
                    Some(own) => {
                        let message =
                            format!("`{kind}.{name}` is defined here and, differently, by an included file");
                        let finding = Finding::new(&codes::CONTRADICTION, own.key, message);
                        self.findings.error(
                            finding
                                .help("rename one of them, or override it in a second file of the include"),
                        );
                    }
                }
            }
        }
        Ok(())
    }
}

fn inclusion(node: &Node) -> Inclusion {
    let texts = |node: &Node| -> Vec<(String, At)> {
        let one = |node: &Node| node.as_str().map(|text| (text.to_owned(), node.at));
        node.as_list()
            .map_or_else(|| one(node).into_iter().collect(), |items| items.iter().filter_map(one).collect())
    };
    if node.as_str().is_some() {
        return Inclusion { at: node.at, files: texts(node), env_files: Vec::new(), directory: None };
    }
    let directory = node.get("project_directory").and_then(Node::as_str).filter(|text| !text.is_empty());
    Inclusion {
        at: node.at,
        files: node.get("path").map(texts).unwrap_or_default(),
        env_files: node.get("env_file").map(texts).unwrap_or_default(),
        directory: directory.map(str::to_owned),
    }
}
