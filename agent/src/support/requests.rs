//! What the vendor asks: a nonce first, then the signed request that answers it.

use std::collections::BTreeMap;
use std::sync::PoisonError;

use kedge_bundle::roles::Root;
use kedge_proto::support::v1::Offer;

use super::core::grant::{Grant, Phase};
use super::core::nonces::Nonces;
use super::core::refusal::Refusal;
use super::core::verify::{Here, beforehand, verify};
use super::{Support, news, notify, problem};
use crate::guard::support::Mode;
use crate::problem::Problem;
use crate::store::{DeploymentRecord, SupportRecord, Writes};
use crate::world::World;

/// Requests that may wait for the customer's answer, or for the engineer.
const MOST_WAITING: usize = 16;
/// Grants that are remembered after their end.
const MOST_REMEMBERED: usize = 500;
/// Requests that may be refused in a minute. More are not even looked at: each costs a line of the audit log.
const MOST_REFUSALS: u32 = 30;

/// What is known of requests.
#[derive(Default)]
pub(super) struct Desk {
    pub(super) grants: BTreeMap<String, Grant>,
    pub(super) nonces: Nonces,
}

impl Support {
    /// What this host gives out for one request.
    pub async fn offer(&self) -> Offer {
        if let Err(refusal) = self.permitted() {
            return Offer { problem: Some(problem(refusal).to_proto()), ..Offer::default() };
        }
        let nonce = hex::encode(rand::random::<[u8; 32]>());
        self.inner.desk.lock().await.nonces.give(nonce.clone(), &self.inner.world.clock.moment());
        let mode = news::mode(self.inner.world.rules.support.mode).to_owned();
        Offer { host_key: self.inner.host_key.clone(), nonce, mode, problem: None }
    }

    pub(super) fn permitted(&self) -> Result<(), Refusal> {
        if self.is_off() {
            return Err(Refusal::Off);
        }
        if self.inner.world.rules.support.mode == Mode::Deny {
            return Err(Refusal::Mode("guard.toml denies support sessions".into()));
        }
        Ok(())
    }

    /// Takes a request from the vendor. Whatever becomes of it is audited and told.
    pub async fn request(&self, file: &[u8]) {
        let claimed = kedge_bundle::support::claimed_grant(file).unwrap_or_default();
        match self.take(file).await {
            Ok(Some(grant)) => {
                notify::of(&self.inner.world, &grant);
                let World { rules, time, clock, .. } = &*self.inner.world;
                let yes = beforehand(&rules.support, time.now(), &clock.moment(), &grant);
                if let Some(yes) = yes
                    && let Err(why) = self.step(grant.id(), &yes).await
                {
                    tracing::warn!(%why, "a request that guard.toml approves was not");
                }
            }
            Ok(None) => {}
            Err(why) => {
                tracing::warn!(grant = claimed, "a support request was refused: {why}");
                let _ = self.inner.news.send(news::refused(&claimed, &why));
            }
        }
    }

    /// `None`: too many were refused lately for this one to be looked at.
    async fn take(&self, file: &[u8]) -> Result<Option<Grant>, Problem> {
        let world = &self.inner.world;
        let root = crate::licence::newest_root(world.trust.lock().await.as_ref())?;
        if self.refusals_left() == 0 {
            return Ok(None);
        }
        let mut desk = self.inner.desk.lock().await;
        match self.judge(&desk, &root, file) {
            Ok(grant) => {
                desk.nonces.used(&grant.request.agent_nonce);
                world.audit(news::requested(&grant)).await?;
                let mut writes = Writes::new().put(&SupportRecord(grant.clone()))?;
                for old in desk.forgettable() {
                    writes = writes.remove::<SupportRecord>(&old);
                    desk.grants.remove(&old);
                }
                world.store.commit(writes).await?;
                desk.grants.insert(grant.id().to_owned(), grant.clone());
                drop(desk);
                self.tell(&grant);
                Ok(Some(grant))
            }
            Err(why) => {
                drop(desk);
                let claimed = kedge_bundle::support::claimed_grant(file);
                self.refused(claimed, &why).await?;
                Err(why)
            }
        }
    }

    fn judge(&self, desk: &Desk, root: &Root, file: &[u8]) -> Result<Grant, Problem> {
        let world = &self.inner.world;
        let deployments = world.store.scan::<DeploymentRecord>("")?;
        let products: Vec<_> = deployments.into_iter().map(|record| (record.name, record.product)).collect();
        let now = world.clock.moment();
        let here = Here {
            root,
            rules: &world.rules.support,
            host_key: &self.inner.host_key,
            products: &products,
            wall: world.time.now(),
            now: &now,
            off: self.is_off(),
        };
        let known = desk.grants.keys().cloned().collect();
        let grant = verify(&here, &desk.nonces, &known, file).map_err(problem)?;
        let waiting = |grant: &&Grant| matches!(grant.phase, Phase::Requested | Phase::Approved(_));
        if desk.grants.values().filter(waiting).count() >= MOST_WAITING {
            return Err(problem(Refusal::State(format!("one too many: {MOST_WAITING} wait already"))));
        }
        Ok(grant)
    }

    /// How many more may be refused in this minute.
    pub(super) fn refusals_left(&self) -> u32 {
        let minute = self.inner.world.clock.moment().since.as_secs() / 60;
        let mut refusals = self.inner.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        if refusals.0 != minute {
            *refusals = (minute, 0);
        }
        MOST_REFUSALS.saturating_sub(refusals.1)
    }

    pub(super) async fn refused(&self, grant: Option<String>, why: &Problem) -> Result<(), Problem> {
        self.inner.refusals.lock().unwrap_or_else(PoisonError::into_inner).1 += 1;
        self.inner.world.audit(news::not_taken(grant, why)).await
    }
}

impl Desk {
    /// Those that have something left to do or to be removed.
    pub(super) fn not_closed(&self) -> impl Iterator<Item = &Grant> {
        self.grants.values().filter(|grant| !matches!(grant.phase, Phase::Closed(_)))
    }

    /// The oldest that are over, beyond those that are remembered.
    fn forgettable(&self) -> Vec<String> {
        let mut over: Vec<&Grant> =
            self.grants.values().filter(|grant| matches!(grant.phase, Phase::Closed(_))).collect();
        over.sort_by_key(|grant| grant.request.issued);
        let many = over.len().saturating_sub(MOST_REMEMBERED);
        over.into_iter().take(many).map(|grant| grant.id().to_owned()).collect()
    }
}
