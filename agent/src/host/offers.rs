//! What comes in through the tether: the enrolment, and releases that the hub offers.
//!
//! An offer is a hint: it names a digest to ask for. What is fetched is verified like a file; what the hub's signed
//! statement does not name is refused, when there is such a statement.

use std::sync::Arc;

use bytes::Bytes;
use kedge_bundle::codes::Coded;
use kedge_bundle::digest::Digest;
use kedge_bundle::verify::{self, Context, Trust};
use kedge_proto::tether::v1::ReleaseOffer;
use kedge_proto::v1;

use super::{DEFAULT_STREAM, Enrolment, Host, Offers};
use crate::audit;
use crate::codes;
use crate::deploy::{Command, Install};
use crate::problem::Problem;
use crate::store::{DeploymentRecord, Origin, ReleaseRef, TrustRecord, Writes};

/// Releases looked at in one offer; a hub that sends more is not one of ours.
const MOST: usize = 1_000;

impl Host {
    /// For the tether: a host that has been enrolled, written to the store before this returns. `roots` is the vendor's
    /// chain as the hub gave it; it is verified against `root_sha256` first and refused when it does not lead from it.
    ///
    /// # Errors
    /// [`codes::OTHER_ROOT`], a refusal of the chain, or what the store says.
    pub async fn enrolled(
        &self,
        enrolment: Enrolment,
        roots: Vec<Bytes>,
        root_sha256: &str,
    ) -> Result<(), Problem> {
        let world = &self.inner.world;
        let chain: Vec<Vec<u8>> = roots.iter().map(|root| root.to_vec()).collect();
        let mut trust = world.trust.lock().await;
        let mut next = self.pinned(trust.as_ref(), Some(root_sha256))?;
        let set = verify::roots(&next, &chain).map_err(|e| Problem::from_error(&e.code(), &e))?;
        let advance = verify::Advance { root: set.accepted, ..verify::Advance::default() };
        next.advance(&advance);
        world
            .audit(audit::Event::Enrolled {
                hub: enrolment.hub.clone(),
                host_id: enrolment.host_id.clone(),
                root_sha256: root_sha256.to_owned(),
            })
            .await?;
        let writes = Writes::new().put(&enrolment)?.put(&TrustRecord(next.clone()))?;
        world.store.commit(writes).await?;
        *trust = Some(next);
        drop(trust);
        world.board.host(|host| {
            host.host_id.clone_from(&enrolment.host_id);
            host.site.clone_from(&enrolment.site);
        });
        self.inner.enrolment.send_replace(Some(Arc::new(enrolment)));
        Ok(())
    }

    /// From the tether: a new certificate for the same host, on disk before this returns.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn renewed(&self, enrolment: Enrolment) -> Result<(), Problem> {
        self.inner.world.store.commit(Writes::new().put(&enrolment)?).await?;
        self.inner.enrolment.send_replace(Some(Arc::new(enrolment)));
        Ok(())
    }

    /// The trust to verify with: what the host has, else what is pinned now by `given` or by configuration.
    pub(super) fn pinned(&self, trust: Option<&Trust>, given: Option<&str>) -> Result<Trust, Problem> {
        let configured = self.inner.world.config.trust.root_sha256.as_deref();
        let parse = |text: &str| {
            let wrong =
                |_| Problem::new(&codes::BAD_FINGERPRINT, "a root's fingerprint has 64 hexadecimal digits");
            Digest::from_hex(&text.to_ascii_lowercase()).map_err(wrong)
        };
        let wanted = given.or(configured).map(parse).transpose()?;
        match (trust, wanted) {
            (Some(trust), Some(wanted)) if trust.pinned != wanted => Err(Problem::new(
                &codes::OTHER_ROOT,
                format!("this host has pinned {}, not {}", trust.pinned.hex(), wanted.hex()),
            )),
            (Some(trust), _) => Ok(trust.clone()),
            (None, Some(wanted)) => Ok(Trust::pinned(wanted)),
            (None, None) => Err(Problem::new(&codes::NO_ROOT, "no root is pinned on this host")),
        }
    }

    /// From the tether: what the hub offers now. Deployments that follow these streams start fetching by themselves.
    pub async fn offered(&self, offers: Offers) {
        if offers.releases.len() > MOST {
            tracing::warn!(count = offers.releases.len(), "the hub offers too many releases; ignored");
            return;
        }
        if let Err(problem) = self.believe(&offers.fresh).await {
            let _ = crate::deploy::audit_refusal(&self.inner.world, "tether", None, &problem).await;
            return;
        }
        for offer in &offers.releases {
            if let Err(problem) = self.follow(offer).await {
                tracing::warn!(%problem, product = offer.product, "an offered release is not followed");
            }
        }
        let wanted = |offer: &ReleaseOffer| {
            let records = self.inner.world.store.scan::<DeploymentRecord>("").unwrap_or_default();
            records.iter().any(|r| r.product == offer.product && r.stream == offer.stream)
        };
        let unasked: Vec<v1::Offer> = offers
            .releases
            .iter()
            .filter(|offer| !wanted(offer))
            .map(|offer| v1::Offer {
                product: offer.product.clone(),
                stream: offer.stream.clone(),
                seq: offer.seq,
                version: offer.version.clone(),
            })
            .collect();
        self.inner.world.board.host(|host| host.tether.get_or_insert_default().offers = unasked);
        *self.inner.offered.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = offers.releases;
        self.inner.offers_changed.send_modify(|count| *count += 1);
    }

    /// Verifies the hub's statement and remembers it. A hub without one can withhold releases unnoticed until they expire; one
    /// that has had them must go on, or leaving them out would be the way around them.
    async fn believe(&self, fresh: &Bytes) -> Result<(), Problem> {
        let world = &self.inner.world;
        let trust = world.trust.lock().await.clone();
        if fresh.is_empty() {
            let heard = trust.as_ref().is_some_and(|trust| trust.fresh.is_some());
            let missing =
                || Problem::new(&codes::FRESH_MISSING, "the hub made statements before, and now none");
            return if heard { Err(missing()) } else { Ok(()) };
        }
        let trust = trust.ok_or_else(|| Problem::new(&codes::NO_ROOT, "no root is pinned on this host"))?;
        let root = trust.root.as_ref().map(verify::AcceptedRoot::document).transpose();
        let newest = root
            .map_err(|e| Problem::from_error(&e.code(), &e))?
            .ok_or_else(|| Problem::new(&codes::NO_ROOT, "no root was accepted on this host"))?;
        let roots = verify::RootSet { versions: newest.version, newest, accepted: None };
        let verified = verify::fresh(&trust, &Context::at(world.time.now()), &roots, fresh)
            .map_err(|e| Problem::from_error(&e.code(), &e))?;
        world.advance(&trust, &verified.advance).await?;
        world.time.learn(verified.fresh.issued);
        world.fresh.send_replace(Some(verified.fresh));
        Ok(())
    }

    /// Hands an offer to the deployments that follow its stream, and starts those that the configuration names.
    async fn follow(&self, offer: &ReleaseOffer) -> Result<(), Problem> {
        let release = reference(offer)?;
        let world = &self.inner.world;
        for record in world.store.scan::<DeploymentRecord>("")? {
            if record.product == offer.product && record.stream == offer.stream {
                self.hand_over(&record.name, &release).await?;
            }
        }
        for (name, wanted) in &world.config.deployment {
            let stream = wanted.stream.as_deref().unwrap_or(DEFAULT_STREAM);
            let there = world.store.get::<DeploymentRecord>(name)?.is_some();
            if wanted.product == offer.product && stream == offer.stream && !there {
                let install = Install {
                    id: super::request_or_fresh(""),
                    release: release.clone(),
                    given: wanted.parameters_as_text(),
                    origin: Origin::Tether,
                    watcher: None,
                };
                self.install(name, install).await?;
            }
        }
        Ok(())
    }

    async fn hand_over(&self, deployment: &str, release: &ReleaseRef) -> Result<(), Problem> {
        let install = Install {
            id: super::request_or_fresh(""),
            release: release.clone(),
            given: std::collections::BTreeMap::new(),
            origin: Origin::Tether,
            watcher: None,
        };
        // One that has just gone follows nothing.
        let _ = self.handle(deployment)?.send(Command::Install(install)).await;
        Ok(())
    }
}

/// An offer as a reference, bounded and checked.
///
/// # Errors
/// [`codes::PROTOCOL`].
pub(super) fn reference(offer: &ReleaseOffer) -> Result<ReleaseRef, Problem> {
    let long = [&offer.product, &offer.stream, &offer.version].iter().any(|text| text.len() > 256);
    if long {
        return Err(Problem::new(&codes::PROTOCOL, "the hub offers a release with a name too long"));
    }
    let digest = crate::images::release::parse_digest(&offer.release_digest)?;
    Ok(ReleaseRef {
        product: offer.product.clone(),
        stream: offer.stream.clone(),
        version: offer.version.clone(),
        seq: offer.seq,
        digest: digest.to_string(),
    })
}
