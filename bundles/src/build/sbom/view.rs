//! Layers on top of each other, as far as package databases are concerned: a file of a higher layer takes the place of
//! one below, whiteouts take away (OCI image specification 1.1, "Image Layer Filesystem Changeset").

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

use super::databases::{self, Distribution, Kind, Package};
use super::tape::{Fault, Tape, What};
use super::{Database, Installed, purl};
use crate::digest::Digest;

/// Takes away one name below.
const WHITEOUT: &str = ".wh.";
/// Takes away everything below in its folder.
const OPAQUE: &str = ".wh..wh..opq";

/// What is seen so far.
pub(super) struct View {
    found: BTreeMap<String, Found>,
    /// Bytes that may still be kept.
    left: usize,
}

/// A file that says something of packages.
struct Found {
    /// Number of its layer.
    layer: usize,
    kind: Kind,
    packages: Vec<Package>,
    distribution: Option<Distribution>,
}

impl Found {
    fn weight(&self) -> usize {
        // A file without packages takes room as well.
        256 + self.packages.iter().map(Package::weight).sum::<usize>()
    }
}

impl View {
    /// Nothing yet; `most` bytes of packages may be kept.
    pub(super) const fn new(most: usize) -> Self {
        Self { found: BTreeMap::new(), left: most }
    }

    /// Puts a layer on top. Numbers rise.
    pub(super) fn put(&mut self, layer: usize, tar: impl Read) -> Result<(), Fault> {
        let mut tape = Tape::new(tar);
        while let Some(item) = tape.next()? {
            let Some(path) = item.path else { continue };
            let (folder, name) = path.rsplit_once('/').unwrap_or(("", &path));
            if name == OPAQUE {
                self.hide_within(folder, layer);
            } else if let Some(hidden) = name.strip_prefix(WHITEOUT) {
                // Others that begin like this are notes of an old storage driver.
                if !hidden.starts_with(WHITEOUT) && !hidden.is_empty() {
                    let gone =
                        if folder.is_empty() { hidden.to_owned() } else { format!("{folder}/{hidden}") };
                    self.hide(&gone, layer);
                }
            } else if item.what != What::Folder {
                self.hide(&path, layer);
                if item.what == What::File
                    && let Some(kind) = databases::kind(&path)
                {
                    let (packages, distribution) = databases::read(kind, &mut tape, item.size, self.left)?;
                    let found = Found { layer, kind, packages, distribution };
                    self.left = self.left.checked_sub(found.weight()).ok_or(Fault::TooMuch)?;
                    if let Some(before) = self.found.insert(path, found) {
                        self.left += before.weight();
                    }
                }
            }
        }
        Ok(())
    }

    /// Takes away a name of lower layers, and what is below it.
    fn hide(&mut self, path: &str, layer: usize) {
        if self.found.get(path).is_some_and(|found| found.layer < layer)
            && let Some(gone) = self.found.remove(path)
        {
            self.left += gone.weight();
        }
        self.hide_within(path, layer);
    }

    /// Takes away what lower layers have in a folder.
    fn hide_within(&mut self, folder: &str, layer: usize) {
        let start = if folder.is_empty() { String::new() } else { format!("{folder}/") };
        let within = self.found.range(start.clone()..).take_while(|(path, _)| path.starts_with(&start));
        let gone: Vec<String> =
            within.filter(|(_, found)| found.layer < layer).map(|(path, _)| path.clone()).collect();
        for path in gone {
            if let Some(gone) = self.found.remove(&path) {
                self.left += gone.weight();
            }
        }
    }

    /// Databases and packages; `diff_ids` are those of the layers.
    pub(super) fn into_parts(self, diff_ids: &[Digest]) -> (Vec<Database>, Vec<Installed>) {
        let distribution = ["etc/os-release", "usr/lib/os-release"]
            .iter()
            .find_map(|path| self.found.get(*path)?.distribution.clone())
            .unwrap_or_default();
        let mut databases = Vec::new();
        let mut packages = BTreeSet::new();
        for (path, found) in self.found {
            let Some(layer) = diff_ids.get(found.layer).copied() else { continue };
            for package in found.packages {
                let purl = purl::of(&package, &distribution);
                packages.insert(Installed { package, purl, path: path.clone(), layer });
            }
            if let Some(kind) = found.kind.database() {
                databases.push(Database { path, kind, read: found.kind != Kind::Rpm, layer });
            }
        }
        (databases, packages.into_iter().collect())
    }
}
