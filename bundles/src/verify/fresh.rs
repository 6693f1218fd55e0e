//! The hub's statement of what is newest (TUF 5.4).

use super::{Advance, Context, Document, FreshMark, Refusal, RootSet, Trust, payload, signed};
use crate::clock::SUSPECT;
use crate::roles::{Fresh, Role};

/// A statement that may be believed, now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedFresh {
    /// What it says.
    pub fresh: Fresh,
    /// To be remembered at once: the statement is complete in itself.
    pub advance: Advance,
}

/// Verifies a fresh statement.
///
/// - TUF 5.4.2: signed by the fresh role of the newest root.
/// - TUF 5.4.3: not made before the last one seen, and naming no lower number for any stream.
/// - One number never stands for two releases, whether heard of or accepted.
/// - TUF 5.4.4: not expired; nor is the root. Nor made more than [`SUSPECT`] after now.
///
/// # Errors
/// A [`Refusal`] that names the rule.
pub fn fresh(
    trust: &Trust,
    context: &Context<'_>,
    roots: &RootSet,
    document: &[u8],
) -> Result<VerifiedFresh, Refusal> {
    let bytes = signed(&roots.newest, Role::Fresh, document)?;
    let fresh: Fresh = payload(Document::Fresh, &bytes)?;
    fresh.check().map_err(|reason| Refusal::Malformed { document: Document::Fresh, reason })?;

    let epoch = roots.newest.epoch;
    if let Some(mark) = trust.fresh.as_ref().filter(|mark| mark.epoch >= epoch) {
        if fresh.issued < mark.issued {
            let reason = format!("it was made at {}, the last one at {}", fresh.issued, mark.issued);
            return Err(Refusal::FreshRollback { reason });
        }
        for old in &mark.listed {
            match fresh.newest(&old.product, &old.stream) {
                Some(new) if new.seq == old.seq && new.release != old.release => {
                    let (seq, accepted, found) = (new.seq, old.release, new.release);
                    return Err(Refusal::Equivocation { seq, accepted, found });
                }
                Some(new) if new.seq < old.seq => {
                    let (product, stream) = (&old.product, &old.stream);
                    let reason = format!("{product} {stream} falls from {} to {}", old.seq, new.seq);
                    return Err(Refusal::FreshRollback { reason });
                }
                // A stream that is not listed offers nothing.
                Some(_) | None => {}
            }
        }
    }
    for line in &fresh.streams {
        let counter = trust.counter(&line.product, &line.stream, epoch);
        if let Some(counter) = counter.filter(|old| old.seq == line.seq && old.release != line.release) {
            let (accepted, found) = (counter.release, line.release);
            return Err(Refusal::Equivocation { seq: line.seq, accepted, found });
        }
    }
    if roots.newest.expires <= context.now {
        return Err(Refusal::RootExpired { version: roots.newest.version, expired: roots.newest.expires });
    }
    if fresh.expires <= context.now {
        return Err(Refusal::FreshExpired { expired: fresh.expires, now: context.now });
    }
    // Its life is counted from when it says it was made: one from the future would live for longer.
    if fresh.issued.duration_since(context.now) > SUSPECT {
        return Err(Refusal::FreshFuture { issued: fresh.issued, now: context.now });
    }
    // What is no longer listed is remembered: leaving a stream out and listing it again is no way back.
    let mut listed = fresh.streams.clone();
    let heard = trust.fresh.iter().filter(|mark| mark.epoch >= epoch).flat_map(|mark| &mark.listed);
    listed.extend(heard.filter(|old| fresh.newest(&old.product, &old.stream).is_none()).cloned());
    let mark = FreshMark { epoch, issued: fresh.issued, listed };
    let advance = Advance { root: roots.accepted.clone(), counter: None, fresh: Some(mark) };
    Ok(VerifiedFresh { fresh, advance })
}
