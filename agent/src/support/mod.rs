//! Support sessions: the vendor comes in when the customer opens the door, and only as far as it was opened.
//!
//! ```text
//!  tether ── offer, request ──▶ Support ◀── approve, deny, end, off ── local socket
//!     │                           │ one Grant each: verified, written, then acted upon (core/, requests, decide, ends)
//!     ╰─ a stream per session ─▶ session ─┬─ channel: logs, inspect, bundle
//!                                         ├─ channel: command in a container of its own (container)
//!                                         ╰─ veil ─▶ recorder ─▶ tunnel ─▶ out
//! ```
//!
//! [`core`] decides, here are the effects. What leaves has passed the [`veil`], which blacks out secrets, and the
//! [`recorder`], which has it on disk; then it is sealed for the engineer's key, and the hub that carries it cannot
//! read it. Whatever ends a session, its containers are removed by their label, if need be at the next start.

mod channel;
mod command;
mod container;
pub mod core;
mod decide;
pub mod diagnostics;
mod ends;
mod forward;
mod inspect;
mod key;
mod logs;
mod news;
mod notify;
mod pour;
pub mod recorder;
mod recordings;
mod requests;
mod session;
#[cfg(test)]
mod tests;
pub mod veil;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kedge_bundle::codes::Coded;
use kedge_bundle::roles::Root;
use kedge_bundle::support::tunnel::PrivateKey;
use kedge_proto::support::v1::News;
use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::core::Moment;
use self::core::again::{self, Next, Place};
use self::core::grant::{Event, Grant, Phase, Reason};
use self::core::refusal::Refusal;
use self::requests::Desk;
use crate::codes;
use crate::deploy::secrets::private_folder;
use crate::licence::newest_root;
use crate::problem::Problem;
use crate::store::{SupportRecord, TrustRecord, Writes};
use crate::world::World;

pub use decide::Answer;
pub use session::Line;

/// News that may wait for a tether that is slow.
const NEWS: usize = 64;

/// Handle on everything about support sessions; cheap to clone.
#[derive(Clone)]
pub struct Support {
    inner: Arc<Inner>,
}

struct Inner {
    world: Arc<World>,
    key: PrivateKey,
    host_key: String,
    folder: PathBuf,
    desk: tokio::sync::Mutex<Desk>,
    /// Sessions that run, or are about to: how each is told to end.
    live: Mutex<BTreeMap<String, watch::Sender<Option<Reason>>>>,
    news: broadcast::Sender<News>,
    /// Sent to when a grant is new or has changed, and when a session has left something to do.
    changed: watch::Sender<()>,
    tasks: TaskTracker,
    /// The agent ends: what no session ends ends by this.
    stopping: CancellationToken,
    /// The minute since boot, and what was refused in it.
    refusals: Mutex<(u64, u32)>,
}

impl Support {
    /// Takes up what the store knows: what was open is closing, and what a reboot has voided is closed.
    ///
    /// # Errors
    /// When store or folder cannot be used.
    pub fn open(world: Arc<World>) -> Result<Self, Problem> {
        let folder = world.config.state_dir.join("support");
        private_folder(&folder)?;
        let (key, host_key) = key::of_host(&folder)?;
        let now = world.clock.moment();
        let trust = world.store.get::<TrustRecord>("")?.map(|record| record.0);
        let root = newest_root(trust.as_ref()).ok();
        // Whatever the switch says: it ends grants by itself, see [`Support::keep`].
        let place = place(&world, root.as_ref(), &now, false);
        let mut desk = Desk::default();
        let mut writes = Writes::new();
        for SupportRecord(grant) in world.store.scan::<SupportRecord>("")? {
            let Next { grant: next, refused } =
                again::next(&place, &grant, &Event::Start).map_err(problem)?;
            if let Some(refusal) = refused {
                world.audit.append(&news::not_taken(Some(next.id().to_owned()), &problem(refusal)))?;
            }
            if next != grant {
                world.audit.append(&news::phase(&next))?;
                writes = writes.put(&SupportRecord(next.clone()))?;
            }
            desk.grants.insert(next.id().to_owned(), next);
        }
        world.store.commit_blocking(writes)?;
        let inner = Inner {
            world,
            key,
            host_key,
            folder,
            desk: tokio::sync::Mutex::new(desk),
            live: Mutex::default(),
            news: broadcast::channel(NEWS).0,
            changed: watch::Sender::new(()),
            tasks: TaskTracker::new(),
            stopping: CancellationToken::new(),
            refusals: Mutex::default(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Every grant, newest first.
    pub async fn grants(&self) -> Vec<Grant> {
        let mut all: Vec<Grant> = self.inner.desk.lock().await.grants.values().cloned().collect();
        all.sort_by_key(|grant| std::cmp::Reverse(grant.request.issued));
        all
    }

    /// The grant of this name, or the one whose name begins so.
    ///
    /// # Errors
    /// [`codes::NO_SUPPORT_SESSION`] when there is none, or more than one.
    pub async fn find(&self, id: &str) -> Result<Grant, Problem> {
        let desk = self.inner.desk.lock().await;
        let mut found = desk.grants.values().filter(|grant| !id.is_empty() && grant.id().starts_with(id));
        match (found.next(), found.next()) {
            (Some(grant), None) => Ok(grant.clone()),
            (None, _) => Err(no_session(id, "there is no support session")),
            (Some(_), Some(_)) => Err(no_session(id, "there is more than one support session")),
        }
    }

    /// News of grants, from now on.
    pub fn news(&self) -> broadcast::Receiver<News> {
        self.inner.news.subscribe()
    }

    /// News of every grant that is not over: for a hub that has just been reached.
    pub async fn standing(&self) -> Vec<News> {
        self.inner.desk.lock().await.not_closed().map(news::of).collect()
    }

    /// Lets an event happen, if everything still is as it must be: audited, written down, then true.
    async fn step(&self, id: &str, event: &Event) -> Result<Grant, Problem> {
        let mut desk = self.inner.desk.lock().await;
        let grant = desk.grants.get(id).ok_or_else(|| no_session(id, "there is no support session"))?;
        let world = &self.inner.world;
        let root = newest_root(world.trust.lock().await.as_ref()).ok();
        let now = world.clock.moment();
        let place = place(world, root.as_ref(), &now, self.is_off());
        let Next { grant: next, refused } = again::next(&place, grant, event).map_err(problem)?;
        if next != *grant {
            self.inner.world.audit(news::phase(&next)).await?;
            self.inner.world.store.commit(Writes::new().put(&SupportRecord(next.clone()))?).await?;
            desk.grants.insert(id.to_owned(), next.clone());
            drop(desk);
            self.tell(&next);
        }
        refused.map_or(Ok(next), |refusal| Err(problem(refusal)))
    }

    /// The same towards the end: what cannot be written down ends nonetheless.
    async fn ending(&self, id: &str, event: &Event) {
        let mut desk = self.inner.desk.lock().await;
        let Some(grant) = desk.grants.get(id) else { return };
        let Ok(next) = grant.after(event, &self.inner.world.clock.moment()) else { return };
        if next == *grant {
            return;
        }
        // In memory first: whatever happens to the disk, this one is over.
        desk.grants.insert(id.to_owned(), next.clone());
        let world = &self.inner.world;
        let written = async {
            world.audit(news::phase(&next)).await?;
            world.store.commit(Writes::new().put(&SupportRecord(next.clone()))?).await
        };
        if let Err(problem) = written.await {
            tracing::error!(grant = id, %problem, "the end of a support session could not be written down");
        }
        drop(desk);
        self.tell(&next);
    }

    /// A grant as the local socket shows it, with the signed `file` where it is wanted.
    pub fn shown(&self, grant: &Grant, file: bool) -> kedge_proto::local::v1::SupportSession {
        let recordings = recordings::list(&self.inner.world, grant.id());
        news::shown(grant, &self.inner.world.clock.moment(), recordings, file)
    }

    /// The mode of guard.toml.
    pub fn mode(&self) -> &'static str {
        news::mode(self.inner.world.rules.support.mode)
    }

    /// Where a file of a session's recording is.
    ///
    /// # Errors
    /// [`codes::NO_SUPPORT_SESSION`] when there is no such session or file.
    pub async fn recording(&self, id: &str, name: &str) -> Result<PathBuf, Problem> {
        let grant = self.find(id).await?;
        // Compared with what is there, so that a name leads nowhere else.
        if !recordings::list(&self.inner.world, grant.id()).iter().any(|there| there == name) {
            return Err(no_session(name, "there is no recording"));
        }
        Ok(recordings::folder(&self.inner.world).join(grant.id()).join(name))
    }

    fn tell(&self, grant: &Grant) {
        if matches!(grant.phase, Phase::Closed(_)) {
            // What was done in it is held elsewhere from now on.
            self.inner.world.show_audit_head();
        }
        let news = news::of(grant);
        tracing::info!(grant = grant.id(), state = news.state, "support session: {}", news.message);
        let _ = self.inner.news.send(news);
        self.inner.changed.send_replace(());
    }

    fn live(&self) -> MutexGuard<'_, BTreeMap<String, watch::Sender<Option<Reason>>>> {
        self.inner.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn place<'a>(world: &'a World, root: Option<&'a Root>, now: &'a Moment, off: bool) -> Place<'a> {
    Place { root, rules: &world.rules.support, wall: world.time.now(), now, off }
}

/// A refusal as everything shows it.
fn problem(refusal: Refusal) -> Problem {
    Problem::from_error(&refusal.code(), &refusal)
}

fn no_session(id: &str, what: &str) -> Problem {
    Problem::new(&codes::NO_SUPPORT_SESSION, format!("{what} `{id:.40}`"))
}
