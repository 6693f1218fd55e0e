//! What the service's unit and what was laid over it say: systemd.unit(5), systemd.exec(5).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::Place;

/// Where units lie; the last that has one is the one that counts.
const UNITS: [&str; 4] =
    ["/lib/systemd/system", "/usr/lib/systemd/system", "/run/systemd/system", "/etc/systemd/system"];
/// Settings that lay out the service's files anew. Where one is used it cannot be told from here what lies where.
const LAYOUT: [&str; 5] =
    ["BindPaths", "BindReadOnlyPaths", "TemporaryFileSystem", "RootDirectory", "RootImage"];
/// Line continuations, quotes, specifiers, and names of links beside a folder's: not understood here.
const ODD: [char; 5] = ['\\', '"', '\'', '%', ':'];
/// What ProtectHome= hides.
const HOMES: [&str; 3] = ["/home", "/root", "/run/user"];

/// The service's settings, in the order in which systemd reads them.
pub(super) struct Unit(Vec<(String, String)>);

impl Unit {
    /// The installed one; `None` where there is none, or it is masked.
    pub(super) fn of(place: &Place) -> Option<Self> {
        let unit = UNITS.iter().rev().find_map(|folder| place.read(&format!("{folder}/kedge.service")))?;
        if unit.is_empty() {
            return None;
        }
        let laid_over = laid_over(place);
        let lines = std::iter::once(&unit).chain(&laid_over).flat_map(|text| text.lines());
        let setting = |(key, value): (&str, &str)| (key.trim().to_owned(), value.trim().to_owned());
        Some(Self(lines.filter_map(|line| line.split_once('=').map(setting)).collect()))
    }

    fn values(&self, key: &'static str) -> impl DoubleEndedIterator<Item = &str> {
        self.0.iter().filter(move |(known, _)| known == key).map(|(_, value)| value.as_str())
    }

    /// What a setting says that has one value.
    pub(super) fn last(&self, key: &'static str) -> Option<&str> {
        self.values(key).next_back().filter(|value| !value.is_empty())
    }

    /// What a setting says that has many; `None` where they are written in ways that are not understood here.
    pub(super) fn list(&self, key: &'static str) -> Option<Vec<&str>> {
        let mut list = Vec::new();
        for value in self.values(key) {
            if value.contains(ODD) {
                return None;
            }
            if value.is_empty() {
                list.clear();
            }
            list.extend(value.split_whitespace());
        }
        Some(list)
    }

    fn lays_out(&self) -> bool {
        LAYOUT.iter().any(|key| self.values(key).next().is_some())
    }

    /// Folders below which the service may write; `None` where no unit keeps it from writing elsewhere, or it cannot be told.
    pub(super) fn writable(&self) -> Option<Vec<PathBuf>> {
        if self.lays_out() || self.last("ProtectSystem") != Some("strict") {
            return None;
        }
        let state = self.list("StateDirectory")?.into_iter().map(|name| Path::new("/var/lib").join(name));
        let paths = self.list("ReadWritePaths")?.into_iter();
        let paths = paths.map(|path| PathBuf::from(path.trim_start_matches(['-', '+'])));
        Some(state.chain(paths).collect())
    }

    /// Whether the service surely cannot see what lies there.
    pub(super) fn hides(&self, path: &Path) -> bool {
        let hides_homes = matches!(self.last("ProtectHome"), Some("yes" | "true" | "on" | "1" | "tmpfs"))
            && !self.lays_out();
        hides_homes && HOMES.iter().any(|home| path.starts_with(home))
    }
}

/// What `systemctl edit` and the like have laid over the unit, in the order in which it is read: by name, wherever it lies.
fn laid_over(place: &Place) -> Vec<String> {
    let mut found = BTreeMap::new();
    for folder in UNITS {
        let folder = format!("{folder}/kedge.service.d");
        let Ok(entries) = std::fs::read_dir(place.path(&folder)) else { continue };
        for name in entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()) {
            if name.ends_with(".conf") {
                let text = place.read(&format!("{folder}/{name}")).unwrap_or_default();
                found.insert(name, text);
            }
        }
    }
    found.into_values().collect()
}
