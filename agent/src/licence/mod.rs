//! Licences on this host: taken, remembered, and judged before something new is begun. The rules themselves are
//! [`kedge_bundle::licence`]'s; here are the store, the clock and the files that containers read.
//!
//! Nothing that runs is ever stopped for a licence: going back, putting right and starting again never ask for one.

mod delivery;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;

use kedge_bundle::codes::Coded;
use kedge_bundle::licence::standing::{Change, Place, permit, standing};
use kedge_bundle::licence::{self, Accepted, Licence, MAX_FILE, Restriction, Standing};
use kedge_bundle::product::Product;
use kedge_bundle::roles::Root;
use kedge_bundle::verify::Trust;

use crate::audit;
use crate::clock::stamp;
use crate::codes;
use crate::problem::Problem;
use crate::store::{LicenceRecord, Writes};
use crate::world::World;

pub use delivery::{deliver, folder};

/// A licence and what it amounts to now.
#[derive(Debug, Clone)]
pub struct Judged {
    /// What it says.
    pub licence: Licence,
    /// What that amounts to.
    pub standing: Standing,
    /// RFC 3339: when it was installed here.
    pub installed: String,
}

/// Takes a licence: verified, not older than the one before, for this site. On disk, in the audit log and with the
/// containers that read it before this returns. A refusal changes nothing and is audited.
///
/// # Errors
/// Why it was refused, or what could not be written.
pub async fn install(world: &Arc<World>, file: &[u8]) -> Result<Judged, Problem> {
    let alone = world.licensing.lock().await;
    match verified(world, file).await {
        Ok(record) => {
            let licence = record.licence()?;
            world
                .audit(audit::Event::LicenceInstalled {
                    product: record.product.clone(),
                    id: licence.id.clone(),
                    serial: licence.serial,
                    digest: record.accepted.digest.to_string(),
                })
                .await?;
            world.store.commit(Writes::new().put(&record)?).await?;
            drop(alone);
            world.time.learn(licence.issued);
            delivery::to_all(world, &record.product).await?;
            tracing::info!(
                product = record.product,
                id = licence.id,
                serial = licence.serial,
                "licence installed"
            );
            let standing = judge(world, &record.product, Some(&licence)).await?;
            Ok(Judged { licence, standing, installed: record.installed })
        }
        Err(problem) => {
            let refused = audit::Event::Refused {
                from: "licence".to_owned(),
                release: None,
                code: problem.code.id.to_owned(),
                reason: problem.message.clone(),
            };
            world.audit(refused).await?;
            Err(problem)
        }
    }
}

async fn verified(world: &World, file: &[u8]) -> Result<LicenceRecord, Problem> {
    let root = newest_root(world.trust.lock().await.as_ref())?;
    let licence = licence::read(&root, file).map_err(|e| Problem::from_error(&e.code(), &e))?;
    let malformed = || Problem::new(&kedge_bundle::codes::DOCUMENT, "the licence is not text");
    let text = std::str::from_utf8(file).map_err(|_| malformed())?.to_owned();
    let digest = licence::digest(file).ok_or_else(malformed)?;
    let before = world.store.get::<LicenceRecord>(&licence.product)?;
    Accepted::may_follow(before.as_ref().map(|record| &record.accepted), &licence, digest, &root)
        .map_err(|e| Problem::from_error(&e.code(), &e))?;
    match judge(world, &licence.product, Some(&licence)).await? {
        Standing::Restricted(why @ Restriction::Site(_)) => {
            return Err(Problem::from_error(&kedge_bundle::codes::LICENCE_ELSEWHERE, &why));
        }
        // It would take the place of one that counts.
        Standing::Restricted(why @ Restriction::NotYet(_)) if before.is_some() => {
            return Err(Problem::from_error(&kedge_bundle::codes::LICENCE_EARLY, &why));
        }
        Standing::Restricted(_) | Standing::Valid { .. } | Standing::Grace { .. } => {}
    }
    Ok(LicenceRecord {
        product: licence.product.clone(),
        accepted: Accepted::of(&licence, digest),
        file: text,
        installed: stamp(&*world.clock),
    })
}

/// Every licence on this host, by product.
///
/// # Errors
/// When the store cannot be read or a record of it is damaged.
pub async fn all(world: &World) -> Result<Vec<Judged>, Problem> {
    let mut all = Vec::new();
    for record in world.store.scan::<LicenceRecord>("")? {
        let licence = record.licence()?;
        let standing = judge(world, &record.product, Some(&licence)).await?;
        all.push(Judged { licence, standing, installed: record.installed });
    }
    Ok(all)
}

/// Whether a product's licence permits a change; `now` and `wanted` are the containers that are there to stay, before
/// and after it. A product that asks for no licence is asked for none.
///
/// # Errors
/// [`codes::LICENCE`] with what is not permitted.
pub async fn check(
    world: &World,
    product: &Product,
    change: Change,
    now: usize,
    wanted: usize,
) -> Result<(), Problem> {
    let Some(terms) = &product.licence else { return Ok(()) };
    let licence = installed(world, &product.product)?;
    if licence.is_none() && !terms.required {
        return Ok(());
    }
    let standing = judge(world, &product.product, licence.as_ref()).await?;
    // Where none is required, one that no longer counts takes away no more than having none does.
    if !terms.required && standing.restriction().is_some() {
        return Ok(());
    }
    if let Standing::Grace { expired, until } = &standing {
        tracing::warn!(product = product.product, %expired, %until, "the licence has expired; it counts until its grace ends");
    }
    let limits = licence.map(|licence| licence.limits).unwrap_or_default();
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    permit(&standing, limits, change, count(now), count(wanted)).map_err(|denied| {
        Problem::from_error(&codes::LICENCE, &denied).at(format!("product {}", product.product))
    })
}

/// The features that a product's licence switches on. An expired one keeps them: what runs is not stopped. One whose time or
/// place this is not has none.
///
/// # Errors
/// When the store cannot be read.
pub async fn features(world: &World, product: &Product) -> Result<BTreeSet<String>, Problem> {
    if product.licence.is_none() {
        return Ok(BTreeSet::new());
    }
    let licence = installed(world, &product.product)?;
    let standing = judge(world, &product.product, licence.as_ref()).await?;
    Ok(match (licence, standing.restriction()) {
        (Some(licence), None | Some(Restriction::Expired { .. })) => licence.features,
        _ => BTreeSet::new(),
    })
}

fn installed(world: &World, product: &str) -> Result<Option<Licence>, Problem> {
    world.store.get::<LicenceRecord>(product)?.map(|record| record.licence()).transpose()
}

async fn judge(world: &World, product: &str, licence: Option<&Licence>) -> Result<Standing, Problem> {
    let root = newest_root(world.trust.lock().await.as_ref())?;
    let site = world.site()?;
    Ok(standing(licence, &place(world, product, site.as_deref(), &root)))
}

fn place<'a>(world: &World, product: &'a str, site: Option<&'a str>, root: &Root) -> Place<'a> {
    Place { product, site, root: (root.epoch, root.issued), now: world.time.now() }
}

/// The vendor's newest root.
///
/// # Errors
/// [`codes::NO_ROOT`] when this host trusts nobody yet.
pub(crate) fn newest_root(trust: Option<&Trust>) -> Result<Root, Problem> {
    let none = || {
        Problem::new(
            &codes::NO_ROOT,
            "no root was accepted on this host; import a bundle first, if need be with --stage-only",
        )
    };
    let accepted = trust.and_then(|trust| trust.root.as_ref()).ok_or_else(none)?;
    accepted.document().map_err(|e| Problem::from_error(&e.code(), &e))
}

impl LicenceRecord {
    /// What the record's file says. Its signatures were checked when it was accepted; that it is the same file is checked again.
    ///
    /// # Errors
    /// When the record was damaged.
    pub fn licence(&self) -> Result<Licence, Problem> {
        let damaged = |why: String| {
            Problem::new(&codes::STATE_FOLDER, format!("the licence on record is damaged: {why}"))
        };
        if self.file.len() > MAX_FILE || licence::digest(self.file.as_bytes()) != Some(self.accepted.digest) {
            return Err(damaged("it is not the one that was accepted".to_owned()));
        }
        licence::unverified(self.file.as_bytes()).map_err(|e| damaged(e.to_string()))
    }
}
