//! Whether limits on memory, processors and processes will hold.

use async_trait::async_trait;

use super::{Check, Finding, Place};

const NEEDED: [&str; 3] = ["memory", "cpu", "pids"];

/// The check.
pub(super) struct Cgroups;

#[async_trait]
impl Check for Cgroups {
    fn id(&self) -> &'static str {
        "cgroups"
    }

    fn what(&self) -> &'static str {
        "Control groups"
    }

    async fn look(&self, place: &Place) -> Finding {
        let (version, controllers) = match place.read("/sys/fs/cgroup/cgroup.controllers") {
            Some(text) => (2, text.split_whitespace().map(str::to_owned).collect()),
            None => (1, enabled(&place.read("/proc/cgroups").unwrap_or_default())),
        };
        let missing: Vec<&str> =
            NEEDED.into_iter().filter(|name| !controllers.iter().any(|c| c == name)).collect();
        let driver = match place.info().await {
            Ok(info) => format!(", driver {}", info.cgroup_driver),
            Err(_) => String::new(),
        };
        if missing.is_empty() {
            return Finding::good(format!("version {version}{driver}"));
        }
        let missing = missing.join(", ");
        Finding::warning(
            format!("version {version}{driver}, without {missing}"),
            "Limits of these kinds do not hold. Boot the kernel with cgroup_enable=memory, or with control groups version 2",
        )
    }
}

/// `subsystem hierarchy groups enabled` a line.
fn enabled(table: &str) -> Vec<String> {
    let rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    rows.filter(|row| row.get(3) == Some(&"1")).map(|row| row[0].to_owned()).collect()
}
