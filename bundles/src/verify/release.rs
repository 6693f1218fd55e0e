//! One release (TUF 5.5 and 5.6).

use super::{Advance, Context, Counter, Document, Documents, Refusal, RootSet, Trust, payload, signed};
use crate::delta::Delta;
use crate::digest::Digest;
use crate::roles::{Audience, Release, Role, Root, Sized};

/// A release that may be installed on this host, now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// What was signed.
    pub release: Release,
    /// Digest of the release's payload: its name everywhere.
    pub digest: Digest,
    /// The root in force.
    pub root: Root,
    /// The host had accepted this very release before.
    pub known: bool,
    /// To be remembered once the blobs have been verified as well.
    pub advance: Advance,
    /// What a thin bundle leaves out.
    pub delta: Option<Delta>,
}

/// Verifies a release and the documents it names.
///
/// Checked in this order: signatures (TUF 5.6.3), own rules, product, stream and site, the bytes it names (5.6.2),
/// one content per number, rollback (5.6.4) and floor, the hub's statement (5.5.2), expiry (5.6.6), and what is left out. Cheap and
/// telling checks come before dates, so that an attack is reported as one even when it is old.
///
/// # Errors
/// A [`Refusal`] that names the rule.
pub fn release(
    trust: &Trust,
    context: &Context<'_>,
    roots: &RootSet,
    documents: &Documents,
) -> Result<Verified, Refusal> {
    let bytes = signed(&roots.newest, Role::Release, &documents.release)?;
    let release: Release = payload(Document::Release, &bytes)?;
    release.check().map_err(|reason| Refusal::Malformed { document: Document::Release, reason })?;
    let digest = Digest::of(&bytes);
    audience(context, &release)?;
    contents(&release, roots.versions, documents)?;

    let epoch = roots.newest.epoch;
    let known = numbers(trust, epoch, &release, digest)?;
    if let Some(fresh) = context.fresh {
        listed(fresh.newest(&release.product, &release.stream), release.seq, digest)?;
    }
    if !known && context.begun != Some(digest) {
        if roots.newest.expires <= context.now {
            return Err(Refusal::RootExpired {
                version: roots.newest.version,
                expired: roots.newest.expires,
            });
        }
        if release.expires <= context.now {
            return Err(Refusal::ReleaseExpired { expired: release.expires, now: context.now });
        }
    }
    let counter = Counter { epoch, seq: release.seq, release: digest, min_seq: release.min_seq };
    let advance = Advance {
        root: roots.accepted.clone(),
        counter: Some((release.product.clone(), release.stream.clone(), counter)),
        fresh: None,
    };
    let delta = documents.delta.as_deref();
    let delta = delta.map(|bytes| super::delta(&roots.newest, digest, bytes)).transpose()?;
    Ok(Verified { release, digest, root: roots.newest.clone(), known, advance, delta })
}

/// Wrong product, stream or site: a valid release of the vendor that is not meant for here.
fn audience(context: &Context<'_>, release: &Release) -> Result<(), Refusal> {
    if let Some(wanted) = context.product.filter(|wanted| *wanted != release.product) {
        return Err(Refusal::WrongProduct { wanted: wanted.into(), found: release.product.clone() });
    }
    if let Some(wanted) = context.stream.filter(|wanted| *wanted != release.stream) {
        return Err(Refusal::WrongStream { wanted: wanted.into(), found: release.stream.clone() });
    }
    match &release.audience {
        Audience::All => Ok(()),
        Audience::Sites(sites) if sites.iter().any(|site| context.site == Some(site)) => Ok(()),
        Audience::Sites(_) => Err(Refusal::WrongSite { site: context.site.map(str::to_owned) }),
    }
}

/// TUF 5.6.2: every other document is byte for byte what the release was signed for.
pub(super) fn contents(release: &Release, versions: u64, documents: &Documents) -> Result<(), Refusal> {
    if release.root.version != versions {
        return Err(Refusal::RootVersion { expected: release.root.version, found: versions });
    }
    for (signed, bytes) in release.root.digests.iter().zip(&documents.roots) {
        same(Document::Root, Sized { digest: *signed, size: bytes.len() as u64 }, bytes)?;
    }
    same(Document::OciLayout, release.oci_layout, &documents.oci_layout)?;
    same(Document::Index, release.index, &documents.index)?;
    same(Document::Manifest, release.manifest, &documents.manifest)
}

fn same(document: Document, signed: Sized, bytes: &[u8]) -> Result<(), Refusal> {
    let (found, found_size) = (Digest::of(bytes), bytes.len() as u64);
    if (found, found_size) == (signed.digest, signed.size) {
        return Ok(());
    }
    Err(Refusal::Content { document, signed: signed.digest, signed_size: signed.size, found, found_size })
}

/// TUF 5.5.5 and 5.6.4 against what this host has accepted and heard of; `true` when it has accepted this very release.
fn numbers(trust: &Trust, epoch: u64, release: &Release, digest: Digest) -> Result<bool, Refusal> {
    let heard = trust.fresh.as_ref().filter(|mark| mark.epoch >= epoch).and_then(|mark| {
        mark.listed.iter().find(|line| line.product == release.product && line.stream == release.stream)
    });
    if let Some(line) = heard.filter(|line| line.seq == release.seq && line.release != digest) {
        return Err(Refusal::Equivocation { seq: release.seq, accepted: line.release, found: digest });
    }
    let Some(counter) = trust.counter(&release.product, &release.stream, epoch) else { return Ok(false) };
    if release.seq == counter.seq && counter.release != digest {
        return Err(Refusal::Equivocation { seq: release.seq, accepted: counter.release, found: digest });
    }
    if release.seq < counter.min_seq {
        return Err(Refusal::BelowFloor { seq: release.seq, floor: counter.min_seq });
    }
    if release.seq < counter.seq {
        return Err(Refusal::Rollback { seq: release.seq, accepted: counter.seq });
    }
    Ok(release.seq == counter.seq)
}

/// TUF 5.5.2: on the tether, only the release that the statement names.
fn listed(line: Option<&crate::roles::Newest>, seq: u64, digest: Digest) -> Result<(), Refusal> {
    match line {
        Some(line) if line.seq == seq && line.release == digest => Ok(()),
        Some(line) if line.seq == seq => {
            Err(Refusal::Equivocation { seq, accepted: line.release, found: digest })
        }
        other => Err(Refusal::NotListed { seq, newest: other.map_or(0, |line| line.seq) }),
    }
}
