//! Whether an installation on this host will work: one file per check, all at once, each with a time limit.
//!
//! A check looks and changes nothing. It works with the agent running or not: what the agent knows is a help ([`Place::status`]),
//! never a condition. Every finding that is not good says how to mend it.

mod account;
mod agent;
mod cgroups;
mod clock;
mod confinement;
mod disk;
mod dns;
mod engine;
mod files;
mod hub;
mod kernel;
mod memory;
mod ports;
mod proxy;
mod socket;
mod state;
mod storage;
#[cfg(test)]
mod tests;
mod unit;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use kedge_proto::v1::HostStatus;
use serde::Serialize;
use tokio::sync::OnceCell;

use crate::config::Config;
use crate::engine::{Engine, EngineInfo};

/// The longest that one check may take.
const PATIENCE: Duration = Duration::from_secs(15);

/// What the checks look at.
pub struct Place {
    /// The agent's configuration.
    pub config: Config,
    /// The file that it was read from.
    pub config_file: PathBuf,
    /// The engine, asked as the caller's user.
    pub engine: Arc<dyn Engine>,
    /// What the agent says, where it answers.
    pub status: Option<HostStatus>,
    /// The hub to look for; the one that the agent is enrolled with by default.
    pub hub: Option<String>,
    /// TCP ports that have to be free.
    pub ports: Vec<u16>,
    /// In front of `/proc`, `/sys`, `/etc` and `/run`; empty but in tests.
    pub root: PathBuf,
    /// The time.
    pub now: Timestamp,
    info: OnceCell<Result<EngineInfo, String>>,
}

impl Place {
    /// This host.
    pub fn new(config: Config, engine: Arc<dyn Engine>, now: Timestamp) -> Self {
        Self {
            config,
            config_file: Config::DEFAULT_PATH.into(),
            engine,
            status: None,
            hub: None,
            ports: Vec::new(),
            root: PathBuf::new(),
            now,
            info: OnceCell::new(),
        }
    }

    /// What the engine says of itself, asked once for all checks.
    async fn info(&self) -> Result<&EngineInfo, &str> {
        let ask = || async { self.engine.info().await.map_err(|error| error.to_string()) };
        self.info.get_or_init(ask).await.as_ref().map_err(String::as_str)
    }

    /// A file of the kernel or of the host, as text without the final newline; `None` where it cannot be read.
    fn read(&self, path: &str) -> Option<String> {
        let text = std::fs::read_to_string(self.path(path)).ok()?;
        Some(text.trim_end().to_owned())
    }

    fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        if self.root.as_os_str().is_empty() {
            path.to_owned()
        } else {
            self.root.join(path.strip_prefix("/").unwrap_or(path))
        }
    }

    /// Where links lead from there; `None` where nothing is there, or it cannot be looked at.
    fn real(&self, path: &Path) -> Option<PathBuf> {
        let real = self.path(path).canonicalize().ok()?;
        if self.root.as_os_str().is_empty() {
            return Some(real);
        }
        Some(Path::new("/").join(real.strip_prefix(self.root.canonicalize().ok()?).ok()?))
    }

    fn hub(&self) -> Option<&str> {
        let enrolled = || self.status.as_ref()?.tether.as_ref().map(|t| t.hub.as_str());
        self.hub.as_deref().or_else(enrolled).filter(|hub| !hub.is_empty())
    }

    fn socket(&self) -> &Path {
        Path::new(self.config.engine.strip_prefix("unix://").unwrap_or(&self.config.engine))
    }
}

/// How a check came out, from best to worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Good,
    /// There was nothing to look at.
    Skipped,
    /// It will work, with something to know.
    Warning,
    /// It will not work.
    Bad,
}

/// What a check saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    verdict: Verdict,
    saw: String,
    mend: Option<String>,
}

impl Finding {
    fn good(saw: impl Into<String>) -> Self {
        Self { verdict: Verdict::Good, saw: saw.into(), mend: None }
    }

    fn skipped(why: impl Into<String>) -> Self {
        Self { verdict: Verdict::Skipped, saw: why.into(), mend: None }
    }

    fn warning(saw: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { verdict: Verdict::Warning, saw: saw.into(), mend: Some(mend.into()) }
    }

    fn bad(saw: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { verdict: Verdict::Bad, saw: saw.into(), mend: Some(mend.into()) }
    }
}

/// One check.
#[async_trait]
pub trait Check: Send + Sync {
    /// Its name in `--only`, `--skip` and reports. Never changes.
    fn id(&self) -> &'static str;
    /// What it looks at, in a few words.
    fn what(&self) -> &'static str;
    /// Looks.
    async fn look(&self, place: &Place) -> Finding;
}

/// All checks, in the order in which they are shown: what others stand on first.
pub fn all() -> Vec<Box<dyn Check>> {
    vec![
        Box::new(socket::Socket),
        Box::new(engine::Version),
        Box::new(storage::Storage),
        Box::new(cgroups::Cgroups),
        Box::new(kernel::Kernel),
        Box::new(confinement::Confinement),
        Box::new(memory::Memory),
        Box::new(disk::Disk),
        Box::new(state::State),
        Box::new(files::Files),
        Box::new(agent::Agent),
        Box::new(clock::Clock),
        Box::new(ports::Ports),
        Box::new(dns::Dns),
        Box::new(proxy::Proxy),
        Box::new(hub::Hub),
    ]
}

/// One line of the report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Line {
    /// [`Check::id`].
    pub id: &'static str,
    /// [`Check::what`].
    pub what: &'static str,
    /// How it came out.
    pub verdict: Verdict,
    /// What was seen.
    pub saw: String,
    /// What to do about it; null where there is nothing to do.
    pub mend: Option<String>,
}

/// Runs these checks beside each other; the lines come in the order of the checks.
pub async fn run(checks: &[Box<dyn Check>], place: &Place) -> Vec<Line> {
    futures_util::future::join_all(checks.iter().map(|check| line(check.as_ref(), place))).await
}

async fn line(check: &dyn Check, place: &Place) -> Line {
    let finding = tokio::time::timeout(PATIENCE, check.look(place)).await.unwrap_or_else(|_| {
        Finding::bad(
            format!("no answer within {} s", PATIENCE.as_secs()),
            "See whether what it looks at hangs, and look again",
        )
    });
    Line {
        id: check.id(),
        what: check.what(),
        verdict: finding.verdict,
        saw: finding.saw,
        mend: finding.mend,
    }
}
