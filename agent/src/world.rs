//! What every task is given: nothing here is global, everything can be replaced in a test.

use std::path::PathBuf;
use std::sync::Arc;

use kedge_proto::v1;
use tokio::sync::{Mutex, watch};

use kedge_bundle::verify::Trust;

use crate::audit;
use crate::clock::{Clock, stamp};
use crate::codes;
use crate::config::Config;
use crate::engine::types::EngineInfo;
use crate::engine::{Engine, EventHub};
use crate::guard::Rules;
use crate::health::{Board, Journal};
use crate::host::Courier;
use crate::images::Content;
use crate::problem::Problem;
use crate::store::{Phase, Store, TrustRecord, Writes};
use crate::timekeeper::Timekeeper;
use crate::watchdog;

/// The surroundings of all tasks.
pub struct World {
    /// `agent.toml`.
    pub config: Config,
    /// `guard.toml`.
    pub rules: Rules,
    /// What must not be forgotten.
    pub store: Store,
    /// Releases and their blobs.
    pub content: Content,
    /// The container engine.
    pub engine: Arc<dyn Engine>,
    /// Its events.
    pub events: EventHub,
    /// What the engine is; `None` until it has answered once.
    pub engine_kind: watch::Receiver<Option<EngineInfo>>,
    /// The audit log.
    pub audit: Arc<audit::Log>,
    /// The wall clock, for saying when something happened.
    pub clock: Arc<dyn Clock>,
    /// The time by which documents expire.
    pub time: Timekeeper,
    /// The status that everyone shows.
    pub board: Board,
    /// Where main tasks show that they are alive.
    pub pulses: watchdog::Registry,
    /// Events for the hub.
    pub journal: Arc<Journal>,
    /// The way to fetch, while the tether is up.
    pub courier: watch::Sender<Option<Arc<dyn Courier>>>,
    /// Vendor's trusted state; whoever changes it holds the lock until it is written.
    pub trust: Mutex<Option<Trust>>,
    /// The hub's newest verified statement of which releases are the newest.
    pub fresh: watch::Sender<Option<kedge_bundle::roles::Fresh>>,
    /// Held from what is read of a product's licence to what is written for it.
    pub licensing: Mutex<()>,
    /// One large intake at a time: disk is checked before, and two would each believe it to be theirs.
    pub intake: Mutex<()>,
    /// For tests: called when a phase has been written and before its effect.
    pub hooks: Arc<dyn Hooks>,
}

/// Called at moments that a test may want to hold. Production does nothing in them.
#[tonic::async_trait]
pub trait Hooks: Send + Sync {
    /// The phase is on disk; its effect has not begun.
    async fn entered(&self, _deployment: &str, _phase: Phase) {}
}

/// Nothing happens.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoHooks;

impl Hooks for NoHooks {}

impl World {
    /// The folder of a deployment.
    pub fn deployment_folder(&self, name: &str) -> PathBuf {
        self.config.state_dir.join("deployments").join(name)
    }

    /// The engine, once it has answered.
    ///
    /// # Errors
    /// [`UNREACHABLE`](crate::engine::codes::UNREACHABLE) before that.
    pub fn engine_info(&self) -> Result<EngineInfo, Problem> {
        self.engine_kind.borrow().clone().ok_or_else(|| {
            let why = format!("{} has not answered yet", self.config.engine);
            Problem::new(&crate::engine::codes::UNREACHABLE, why)
        })
    }

    /// The customer's site, by enrolment or configuration.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn site(&self) -> Result<Option<String>, Problem> {
        let enrolled = self.store.get::<crate::host::Enrolment>("")?.map(|e| e.site);
        Ok(enrolled.filter(|site| !site.is_empty()).or_else(|| self.config.site.clone()))
    }

    /// Writes to the audit log, off the runtime's threads.
    ///
    /// # Errors
    /// When it could not be written: the caller must not go on.
    pub async fn audit(&self, event: audit::Event) -> Result<(), Problem> {
        let log = Arc::clone(&self.audit);
        tokio::task::spawn_blocking(move || log.append(&event))
            .await
            .map_err(|e| Problem::from_error(&crate::codes::INTERNAL, &e).at("audit log"))?
    }

    /// Shows where the audit log ends, for the next report.
    pub fn show_audit_head(&self) {
        let (seq, sha256) = self.audit.head();
        let at = stamp(&*self.clock);
        self.board.host(|host| {
            // The time alone is no news.
            if host.audit.as_ref().is_none_or(|head| head.seq != seq || head.sha256 != sha256) {
                host.audit = Some(v1::AuditHead { seq, sha256, at, problem: String::new() });
            }
        });
    }

    /// Commits `writes` with an event that tells of them.
    ///
    /// # Errors
    /// When the store cannot be written: the caller must not go on.
    pub async fn commit_with_event(&self, writes: Writes, mut event: v1::Event) -> Result<(), Problem> {
        event.at = stamp(&*self.clock);
        let writes = self.journal.add(writes, &event)?;
        self.store.commit(writes).await?;
        self.journal.committed();
        Ok(())
    }

    /// Takes over what a verification allows to be remembered, on disk before this returns.
    ///
    /// # Errors
    /// [`codes::OTHER_ROOT`] when that was verified under another root than this host's, or when the store cannot be written.
    pub async fn advance(
        &self,
        pinned: &Trust,
        advance: &kedge_bundle::verify::Advance,
    ) -> Result<(), Problem> {
        let mut trust = self.trust.lock().await;
        let mut next = trust.clone().unwrap_or_else(|| pinned.clone());
        // Somebody may have pinned a root while this was verified under another one.
        if next.pinned != pinned.pinned {
            return Err(Problem::new(&codes::OTHER_ROOT, "another root was pinned on this host meanwhile"));
        }
        next.advance(advance);
        if trust.as_ref() != Some(&next) {
            self.store.commit(Writes::new().put(&TrustRecord(next.clone()))?).await?;
            *trust = Some(next);
        }
        Ok(())
    }
}
