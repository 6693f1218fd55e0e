//! `extends`: a service takes another one, of this file or of another, as its base and is laid over it.

use std::collections::BTreeMap;

use crate::canonical;
use crate::codes;
use crate::diagnostics::{Finding, Stop};
use crate::finish;
use crate::interpolate;
use crate::load::{Loader, Scope};
use crate::merge::{self, Resets};
use crate::node::{Map, Node};
use crate::{paths, schema};

/// Services that a chain of `extends` may have.
const MAX_CHAIN: usize = 32;

/// Services of other files that were extended, by file, variables filled in.
pub(crate) type Bases = BTreeMap<String, (Map, Resets)>;

impl Loader<'_> {
    /// Replaces every service that extends another by the merged one.
    pub(crate) fn extend_services(
        &mut self,
        document: &mut Node,
        path: &str,
        scope: &Scope,
        resets: &Resets,
    ) -> Result<(), Stop> {
        let Some(services) = document.get_mut("services").and_then(Node::as_map_mut) else { return Ok(()) };
        let names: Vec<String> = services.keys().cloned().collect();
        for name in names {
            self.extend(services, &name, path, scope, resets, &mut Vec::new())?;
        }
        Ok(())
    }

    /// Resolves one service of `services` in place.
    fn extend(
        &mut self,
        services: &mut Map,
        name: &str,
        path: &str,
        scope: &Scope,
        resets: &Resets,
        chain: &mut Vec<(String, String)>,
    ) -> Result<(), Stop> {
        let Some(service) = services.get_mut(name).and_then(|entry| entry.node.as_map_mut()) else {
            return Ok(());
        };
        let Some(mut extends) = service.remove("extends") else { return Ok(()) };
        let place = format!("services.{name}.extends");
        schema::check::fragment(&mut extends.node, &schema::EXTENDS, &place, &mut self.findings)?;
        let (file, wanted) = reference(&extends.node);
        let link = (path.to_owned(), name.to_owned());
        let at = extends.node.at;
        if chain.len() >= MAX_CHAIN {
            let message = format!("more than {MAX_CHAIN} services extend each other in a row");
            return self.fail(Finding::new(&codes::LIMIT, at, message));
        }
        if chain.contains(&link) {
            let names: Vec<&str> = chain.iter().map(|(_, name)| name.as_str()).chain([name]).collect();
            let message = format!("services extend each other in a circle: {}", names.join(" -> "));
            return self.fail(Finding::new(&codes::CYCLE, at, message));
        }
        chain.push(link);
        let base = match file {
            None if wanted == name => {
                let message = format!("service `{name}` extends itself");
                return self.fail(Finding::new(&codes::CYCLE, at, message));
            }
            None => {
                // Put back for the time being, so that a circle is seen as one.
                if let Some(service) = services.get_mut(name).and_then(|entry| entry.node.as_map_mut()) {
                    service.insert("extends".to_owned(), extends);
                }
                self.extend(services, &wanted, path, scope, resets, chain)?;
                if let Some(service) = services.get_mut(name).and_then(|entry| entry.node.as_map_mut()) {
                    service.remove("extends");
                }
                services.get(&wanted).map(|entry| entry.node.clone())
            }
            Some(file) => {
                if is_remote(&file) {
                    return self.fail(remote(&file, at));
                }
                let full = paths::join(&scope.directory, &file);
                let (mut others, own) = self.base_file(&full, scope, at)?;
                self.extend(&mut others, &wanted, &full, scope, &own, chain)?;
                let base = others.get(&wanted).map(|entry| entry.node.clone());
                self.bases.insert(full, (others, own));
                base
            }
        };
        chain.pop();
        let Some(mut base) = base else {
            let message = format!("service `{name}` extends `{wanted}`, which does not exist");
            return self.fail(Finding::new(&codes::UNDEFINED, at, message));
        };
        self.spend(base.weight(), at)?;
        resets.apply_to_service(name, &mut base);
        let Some(entry) = services.get_mut(name) else { return Ok(()) };
        let over = entry.node.take();
        match merge::merge(base, over, &mut vec!["services".to_owned(), name.to_owned()]) {
            Ok(merged) => entry.node = merged,
            Err(finding) => return self.fail(finding),
        }
        Ok(())
    }

    /// Services of another file, short forms written out and paths made absolute, since they are seen from its folder.
    fn base_file(
        &mut self,
        path: &str,
        scope: &Scope,
        at: crate::diagnostics::At,
    ) -> Result<(Map, Resets), Stop> {
        if let Some(known) = self.bases.remove(path) {
            return Ok(known);
        }
        let parsed = self.parse(path, at)?;
        let mut project = merge::empty();
        let mut all = Resets::default();
        for mut document in parsed.documents {
            self.prepare(&mut document, parsed.file)?;
            let resets = Resets::take_from(&mut document);
            interpolate::apply(&mut document, &scope.environment, &mut self.findings, &mut self.budget);
            resets.apply(&mut project);
            project = match merge::merge(project, document, &mut Vec::new()) {
                Ok(merged) => merged,
                Err(finding) => return self.fail(finding),
            };
            all = resets;
        }
        canonical::apply(&mut project, &mut self.findings);
        merge::unique(&mut project);
        finish::resolve_paths(&mut project, &paths::parent(path), &scope.environment, &mut self.findings);
        let services = project.as_map_mut().and_then(|map| map.remove("services"));
        let services = services.and_then(|entry| match entry.node.value {
            crate::node::Value::Map(map) => Some(map),
            _ => None,
        });
        Ok((services.unwrap_or_default(), all))
    }
}

/// File and service that a checked `extends` refers to.
fn reference(extends: &Node) -> (Option<String>, String) {
    let text = |key: &str| extends.get(key).and_then(Node::as_str).map(str::to_owned);
    match extends.as_str() {
        Some(service) => (None, service.to_owned()),
        None => (text("file"), text("service").unwrap_or_default()),
    }
}

/// Whether a reference is to something that would have to be fetched.
pub(crate) fn is_remote(path: &str) -> bool {
    path.contains("://") || path.contains(":/") || path.starts_with("git@")
}

/// Remote compose files are refused: a release is complete in itself.
pub(crate) fn remote(path: &str, at: crate::diagnostics::At) -> Finding {
    Finding::new(&codes::NOT_HANDLED, at, format!("`{path}` would have to be fetched"))
        .help("put the file beside the compose file and refer to it by its path")
}
