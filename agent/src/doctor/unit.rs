//! Where the service's sandbox lets the agent write, by its unit and what was laid over it: systemd.unit(5), systemd.exec(5).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::Place;

/// Where units lie; the last that has one is the one that counts.
const UNITS: [&str; 4] =
    ["/lib/systemd/system", "/usr/lib/systemd/system", "/run/systemd/system", "/etc/systemd/system"];

/// Folders below which the service may write; `None` where no unit keeps it from writing elsewhere.
pub(super) fn writable(place: &Place) -> Option<Vec<PathBuf>> {
    let unit = UNITS.iter().rev().find_map(|folder| place.read(&format!("{folder}/kedge.service")))?;
    let laid_over = laid_over(place);
    let (mut strict, mut paths, mut state) = (false, Vec::new(), Vec::new());
    for line in std::iter::once(&unit).chain(&laid_over).flat_map(|text| text.lines()) {
        let Some((key, value)) = line.split_once('=') else { continue };
        let list = match key.trim() {
            "ProtectSystem" => {
                strict = value.trim() == "strict";
                continue;
            }
            "ReadWritePaths" => &mut paths,
            "StateDirectory" => &mut state,
            _ => continue,
        };
        if value.trim().is_empty() {
            list.clear();
        }
        list.extend(value.split_whitespace().map(str::to_owned));
    }
    let state = state.iter().map(|name| Path::new("/var/lib").join(name));
    let paths = paths.iter().map(|path| PathBuf::from(path.trim_start_matches(['-', '+'])));
    strict.then(|| state.chain(paths).collect())
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
