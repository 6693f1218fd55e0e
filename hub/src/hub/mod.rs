//! The hub: enrols hosts, tells them what is published, serves bundles, and keeps what they report.
//!
//! A courier, not an authority: it holds no root or release key, and a host believes nothing that it says
//! unless the vendor signed it. Losing the hub to an attacker means that releases can be delayed, not
//! chosen.
//!
//! ```text
//!   port ── listener ──┬─ enrolment ── tokens, ca ─── store        one task each:
//!    (TLS)             └─ tether ──┬── fleet (who is here)          accept, recorder, fresh and certificate
//!                                  ├── recorder ───── store         renewal, publish folder, admin socket;
//!                                  ├── support (who meets whom)     streams live in their connection's task
//!                                  └── releases, blobs
//!   hub.sock ── admin ── all of the above
//! ```
//!
//! `serve` is the map: it opens everything, starts the tasks and takes them down in order.

pub mod admin;
pub mod blobs;
pub mod bundle;
pub mod ca;
mod enrolment;
pub mod files;
pub mod fleet;
pub mod fresh;
pub mod limits;
mod listener;
pub mod publish;
pub mod recorder;
pub mod releases;
pub mod reports;
pub mod serve;
pub mod store;
pub mod support;
mod tether;
pub mod tokens;
mod watch_folder;

pub use serve::{Config, Hub, serve};

use jiff::Timestamp;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The time, passed in so that tests choose it.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// What the services share.
pub(crate) struct Shared {
    pub(crate) store: Arc<store::Store>,
    pub(crate) fleet: fleet::Fleet,
    pub(crate) support: support::Support,
    pub(crate) releases: releases::Releases,
    pub(crate) authority: ca::Authority,
    pub(crate) publisher: publish::Publisher,
    pub(crate) clock: Clock,
    pub(crate) attempts: Mutex<limits::Attempts>,
    pub(crate) reads: Arc<tokio::sync::Semaphore>,
}

impl Shared {
    pub(crate) fn now(&self) -> Timestamp {
        (self.clock)()
    }

    pub(crate) fn attempts(&self) -> MutexGuard<'_, limits::Attempts> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
