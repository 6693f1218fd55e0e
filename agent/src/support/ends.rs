//! How everything ends: by the customer's word, by the kill switch, in time, and after a crash.

use std::time::Duration;

use kedge_bundle::digest::Digest;

use super::core::again;
use super::core::grant::{Event, Grant, Phase, Reason};
use super::{Support, container, news, place, problem, recordings};
use crate::audit;
use crate::licence::newest_root;
use crate::problem::Problem;
use crate::store::{state_folder, write_file};

/// How often grants that are not over are looked at.
const GLANCE: Duration = Duration::from_millis(500);
/// How often recordings are looked at for old ones.
const DAY: Duration = Duration::from_secs(24 * 3600);
/// How long the kill switch waits for what it ends.
const PATIENCE: Duration = Duration::from_secs(10);

impl Support {
    /// Ends a session, or takes back a grant; returns when nothing of it is left, or after a while.
    ///
    /// # Errors
    /// [`codes::NO_SUPPORT_SESSION`].
    pub async fn end(&self, id: &str) -> Result<Grant, Problem> {
        let id = self.find(id).await?.id().to_owned();
        self.end_for(&id, Reason::Customer).await;
        self.until_closed(std::slice::from_ref(&id)).await;
        self.find(&id).await
    }

    /// The kill switch. Off is a file that stays: written first, and whatever else fails, everything is ended. Returns when nothing
    /// of any session is left, or after a while.
    ///
    /// # Errors
    /// When the file cannot be written or removed.
    pub async fn switch(&self, off: bool, by: &str) -> Result<(), Problem> {
        let path = self.inner.folder.join("off");
        let event = audit::Event::SupportSwitched { off, by: by.to_owned() };
        if !off {
            self.inner.world.audit(event).await?;
            return match std::fs::remove_file(&path) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(state_folder(&path, &e)),
                _ => crate::store::sync_folder(&self.inner.folder),
            };
        }
        let written = write_file(&path, format!("{by}\n").as_bytes(), 0o600);
        self.end_all(Reason::KillSwitch).await;
        self.inner.world.audit(event).await?;
        written
    }

    /// Ends everything that is not over; returns when nothing of it is left, or after a while.
    pub async fn end_all(&self, reason: Reason) {
        let ids: Vec<String> = {
            let desk = self.inner.desk.lock().await;
            desk.not_closed().map(|grant| grant.id().to_owned()).collect()
        };
        futures_util::future::join_all(ids.iter().map(|id| self.end_for(id, reason))).await;
        self.until_closed(&ids).await;
    }

    /// Ends the sessions that run: the agent ends. What is only asked for or approved stays.
    pub async fn stop(&self) {
        self.inner.stopping.cancel();
        let ids: Vec<String> = self.live().keys().cloned().collect();
        futures_util::future::join_all(ids.iter().map(|id| self.end_for(id, Reason::Restarted))).await;
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
    }

    /// A session that runs is told and ends itself; anything else is ended here.
    pub(super) async fn end_for(&self, id: &str, reason: Reason) {
        let told = self.live().get(id).map(|end| {
            end.send_if_modified(|now| {
                let first = now.is_none();
                now.get_or_insert(reason);
                first
            })
        });
        if told.is_none() {
            self.ending(id, &Event::End(reason)).await;
        }
    }

    pub(super) async fn until_closed(&self, ids: &[String]) {
        let mut changed = self.inner.changed.subscribe();
        let all = async {
            loop {
                changed.borrow_and_update();
                {
                    let desk = self.inner.desk.lock().await;
                    let is_closed = |id: &String| {
                        desk.grants.get(id).is_none_or(|grant| matches!(grant.phase, Phase::Closed(_)))
                    };
                    if ids.iter().all(is_closed) {
                        return;
                    }
                }
                if changed.changed().await.is_err() {
                    return;
                }
            }
        };
        let _ = tokio::time::timeout(PATIENCE, all).await;
    }

    /// Whether support is switched off. The file counts, whoever made it.
    pub fn is_off(&self) -> bool {
        // What cannot be looked at counts as there.
        self.inner.folder.join("off").try_exists().unwrap_or(true)
    }

    /// Looks after grants that are not over, and removes what sessions have left and recordings that are old, until the agent
    /// ends.
    pub async fn keep(&self) {
        tokio::join!(self.keep_grants(), self.keep_to_root(), self.keep_recordings());
    }

    async fn keep_recordings(&self) {
        let mut due = tokio::time::interval(DAY);
        loop {
            due.tick().await;
            let support = self.clone();
            let pruned = tokio::task::spawn_blocking(move || {
                let world = &support.inner.world;
                let keep = DAY * world.rules.support.keep_days;
                recordings::prune(&recordings::folder(world), keep, |id| support.live().contains_key(id))
            });
            for problem in pruned.await.unwrap_or_default() {
                tracing::warn!(%problem, "an old recording could not be removed");
            }
        }
    }

    async fn keep_grants(&self) {
        self.sweep_strays().await;
        loop {
            for grant in self.not_closed().await {
                // A session that runs looks after itself.
                if self.live().contains_key(grant.id()) {
                    continue;
                }
                match grant.phase {
                    Phase::Closing(_) | Phase::Open(..) => self.clean(grant.id()).await,
                    _ => {
                        let end = Event::End(Reason::KillSwitch);
                        let event =
                            if self.is_off() { end } else { Event::Tick(self.inner.world.time.now()) };
                        self.ending(grant.id(), &event).await;
                    }
                }
            }
            tokio::time::sleep(GLANCE).await;
        }
    }

    /// Those that have something left to do or to be removed; waits until there is one.
    async fn not_closed(&self) -> Vec<Grant> {
        let mut changed = self.inner.changed.subscribe();
        loop {
            changed.borrow_and_update();
            let open: Vec<Grant> = self.inner.desk.lock().await.not_closed().cloned().collect();
            // The sender lives as long as this.
            if !open.is_empty() || changed.changed().await.is_err() {
                return open;
            }
        }
    }

    /// Holds what is not over against every new root, by itself: the engine may take its time with what the others remove.
    async fn keep_to_root(&self) {
        let mut looked_under = None;
        loop {
            let open = self.not_closed().await;
            self.look_again(&open, &mut looked_under).await;
            tokio::time::sleep(GLANCE).await;
        }
    }

    /// Ends what is not permitted any more, also while it runs, if the vendor's newest root is another one than the `last` time.
    async fn look_again(&self, grants: &[Grant], last: &mut Option<Digest>) {
        let world = &self.inner.world;
        let root = {
            let trust = world.trust.lock().await;
            let newest = trust.as_ref().and_then(|trust| trust.root.as_ref()).map(|root| root.fingerprint);
            if newest == *last {
                return;
            }
            *last = newest;
            newest_root(trust.as_ref()).ok()
        };
        let now = world.clock.moment();
        // Whatever the switch says: it ends grants by itself.
        let place = place(world, root.as_ref(), &now, false);
        for grant in grants.iter().filter(|grant| !grant.is_over()) {
            let Err(refusal) = again::holds(&place, grant) else { continue };
            self.end_for(grant.id(), Reason::Withdrawn).await;
            let why = problem(refusal);
            tracing::warn!(grant = grant.id(), "a support session is permitted no more: {why}");
            if let Err(problem) = world.audit(news::not_taken(Some(grant.id().to_owned()), &why)).await {
                tracing::error!(grant = grant.id(), %problem, "it could not be written down why a support session was ended");
            }
        }
    }

    /// Containers of sessions that nobody knows any more, such as of a store that was lost.
    async fn sweep_strays(&self) {
        crate::engine::wait_until_back(&*self.inner.world.engine).await;
        if let Err(error) =
            container::remove_strays(&*self.inner.world.engine, &self.inner.host_key, |grant| {
                self.live().contains_key(grant)
            })
            .await
        {
            tracing::warn!(%error, "containers of earlier support sessions could not be removed");
        }
    }

    /// Removes what a session that runs no more has left; says so when nothing is.
    async fn clean(&self, id: &str) {
        self.ending(id, &Event::End(Reason::Restarted)).await;
        match container::remove_all(&*self.inner.world.engine, id).await {
            Ok(()) => self.ending(id, &Event::Cleaned).await,
            Err(error) => {
                tracing::warn!(grant = id, %error, "what a support session left could not be removed yet")
            }
        }
    }
}
