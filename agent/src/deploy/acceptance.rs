//! Accepting and refusing releases: room for them, what is remembered of them, and what the audit log says.

use kedge_bundle::roles::Release;
use kedge_bundle::verify::{Advance, Counter, Documents, Verified};

use super::status::sentence;
use crate::codes;
use crate::engine::types::EngineInfo;
use crate::images::delta::Bases;
use crate::images::intake::Taken;
use crate::images::release::{self, load, parse_digest};
use crate::images::room::Disks;
use crate::problem::Problem;
use crate::store::ReleaseRef;
use crate::world::World;

/// Room on the disks that a release needs.
pub fn room(world: &World) -> Disks {
    let engine = world.engine_kind.borrow().as_ref().map(EngineInfo::image_dir);
    Disks {
        state: world.config.state_dir.clone(),
        // Where the engine's folder is another machine's or hidden from us, only our own disk can be asked.
        engine: engine.filter(|folder| folder.is_dir()),
        reserve: world.config.limits.reserve_bytes,
    }
}

/// What layers of a release can be made of here.
pub fn bases(world: &World) -> Bases {
    let info = world.engine_kind.borrow().clone();
    Bases { engine: info.map(|info| (world.engine.clone(), info)), content: world.content.clone() }
}

/// Remembers a release whose blobs are all here: trust first, then its documents, by which it counts as being here.
///
/// # Errors
/// When it has been overtaken meanwhile, or something cannot be written.
pub async fn take_in(
    world: &World,
    trust: &kedge_bundle::verify::Trust,
    taken: Taken,
    from: &str,
) -> Result<(), Problem> {
    let Taken { admitted, documents, added } = taken;
    let verified = &admitted.verified;
    let name = sentence(&release::reference(&verified.release, &verified.digest));
    let remembered = remember(world, trust, verified, documents, (&name, from)).await;
    if let Err(problem) = remembered {
        added.forget(&world.content, &*world.engine).await;
        return Err(problem);
    }
    tracing::info!(release = name, from, "verified and accepted");
    Ok(())
}

async fn remember(
    world: &World,
    trust: &kedge_bundle::verify::Trust,
    verified: &Verified,
    documents: Documents,
    (name, from): (&str, &str),
) -> Result<(), Problem> {
    world
        .audit(crate::audit::Event::Accepted {
            from: from.to_owned(),
            release: name.to_owned(),
            digest: verified.digest.to_string(),
        })
        .await?;
    world.advance(trust, &floor_only(&verified.advance)).await?;
    world.time.learn(verified.release.issued);
    let (content, digest) = (world.content.clone(), verified.digest);
    tokio::task::spawn_blocking(move || content.save_documents(&digest, &documents))
        .await
        .map_err(|e| Problem::from_error(&codes::INTERNAL, &e).at("keeping documents"))?
}

/// What may be remembered of a release that is verified and does not run yet: the root, and the floor below which nothing may
/// be installed. Its own number counts once it is active, so that one that this host could not run strands nobody.
fn floor_only(advance: &Advance) -> Advance {
    let mut floor = advance.clone();
    if let Some((_, _, counter)) = &mut floor.counter {
        counter.seq = 0;
    }
    floor
}

/// A release has become the active one: nothing older is installed from now on. Its number counts in the epoch under which it
/// was accepted: a root that came meanwhile has begun to count anew.
///
/// # Errors
/// When its documents are gone or the store cannot be written.
pub async fn installed(world: &World, release: &ReleaseRef, epoch: Option<u64>) -> Result<(), Problem> {
    let digest = parse_digest(&release.digest)?;
    let loaded = load(&world.content, &digest)?;
    let trust = world.trust.lock().await.clone();
    let trust = trust.ok_or_else(|| Problem::new(&codes::NO_ROOT, "no root is pinned on this host"))?;
    let Release { seq, min_seq, product, stream, .. } = loaded.release;
    let epoch = epoch.unwrap_or_else(|| trust.epoch());
    let counter = Some((product, stream, Counter { epoch, seq, release: digest, min_seq }));
    world.advance(&trust, &Advance { counter, ..Advance::default() }).await
}

/// Longest reason in the audit log, in characters: it quotes what a stranger wrote.
const MAX_REASON: usize = 2_000;

/// Writes a refusal to the audit log.
///
/// # Errors
/// When it cannot be written.
pub async fn audit_refusal(
    world: &World,
    from: &str,
    release: Option<String>,
    problem: &Problem,
) -> Result<(), Problem> {
    tracing::warn!(from, release, %problem, "refused");
    world
        .audit(crate::audit::Event::Refused {
            from: from.to_owned(),
            release,
            code: problem.code.id.to_owned(),
            reason: problem.message.chars().take(MAX_REASON).collect(),
        })
        .await
}
