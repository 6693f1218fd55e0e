//! Whether there is memory for the agent and something beside it.

use async_trait::async_trait;

use super::{Check, Finding, Place};

/// What the agent, the engine and the smallest of stacks come along with, MiB.
const LEAST: u64 = 256;
/// Less than this to spare and the first rush of a stack may be killed, MiB.
const TIGHT: u64 = 128;

/// The check.
pub(super) struct Memory;

#[async_trait]
impl Check for Memory {
    fn id(&self) -> &'static str {
        "memory"
    }

    fn what(&self) -> &'static str {
        "Memory"
    }

    async fn look(&self, place: &Place) -> Finding {
        let table = place.read("/proc/meminfo").unwrap_or_default();
        let (Some(total), Some(free)) = (mib(&table, "MemTotal:"), mib(&table, "MemAvailable:")) else {
            return Finding::skipped("/proc/meminfo does not tell");
        };
        let saw = format!("{free} MiB available of {total}");
        if total < LEAST {
            return Finding::bad(saw, format!("Give this host at least {LEAST} MiB"));
        }
        if free < TIGHT {
            return Finding::warning(saw, "End what is not needed, or give this host more memory");
        }
        Finding::good(saw)
    }
}

/// `MemTotal:  16000000 kB`
fn mib(table: &str, field: &str) -> Option<u64> {
    let rest = table.lines().find_map(|line| line.strip_prefix(field))?;
    rest.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib / 1024)
}
