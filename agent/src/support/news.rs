//! What is said about a grant: to the hub, to the audit log, on this host.

use kedge_bundle::support::Terms;
use kedge_proto::local::v1 as local;
use kedge_proto::support::v1::News;

use super::core::Moment;
use super::core::grant::{Grant, Phase, ends_in};
use crate::audit;
use crate::guard::support::Mode;
use crate::problem::Problem;

/// A mode as guard.toml spells it.
pub(super) fn mode(mode: Mode) -> &'static str {
    match mode {
        Mode::Deny => "deny",
        Mode::Ask => "ask",
        Mode::AskSigned => "ask-signed",
        Mode::Window => "window",
    }
}

fn state(phase: &Phase) -> &'static str {
    match phase {
        Phase::Requested => "requested",
        Phase::Approved(_) => "approved",
        Phase::Open(..) => "open",
        Phase::Closing(_) => "closing",
        Phase::Closed(_) => "closed",
    }
}

/// News of a grant for the hub: where it stands and on which terms, and nothing of the session.
pub(super) fn of(grant: &Grant) -> News {
    let message = match &grant.phase {
        Phase::Requested => "the customer has been asked".to_owned(),
        Phase::Approved(consent) => format!("approved: {}", sentence(&consent.terms)),
        Phase::Open(..) => "the session is open".to_owned(),
        Phase::Closing(reason) | Phase::Closed(reason) => reason.to_string(),
    };
    let (grant_id, state) = (grant.id().to_owned(), state(&grant.phase).to_owned());
    News { grant_id, state, message, ..News::default() }
}

/// News of a request that was not taken.
pub(super) fn refused(grant_id: &str, why: &Problem) -> News {
    News {
        grant_id: grant_id.to_owned(),
        state: "refused".to_owned(),
        message: why.message.clone(),
        problem: Some(why.to_proto()),
        ..News::default()
    }
}

fn listed<T: ToString>(all: impl IntoIterator<Item = T>) -> Vec<String> {
    all.into_iter().map(|one| one.to_string()).collect()
}

fn sentence(terms: &Terms) -> String {
    format!(
        "{} on {}, for {} s, {} bytes",
        listed(&terms.scopes).join(", "),
        listed(&terms.targets).join(", "),
        terms.max_session_seconds,
        terms.max_bytes
    )
}

/// That a request was taken, for the audit log.
pub(super) fn requested(grant: &Grant) -> audit::Event {
    audit::Event::SupportRequested {
        grant: grant.id().to_owned(),
        request: grant.digest.hex(),
        engineer: grant.request.engineer.clone(),
        ticket: grant.request.ticket.clone(),
        terms: sentence(&grant.request.terms),
    }
}

/// That something was refused, for the audit log.
pub(super) fn not_taken(grant: Option<String>, why: &Problem) -> audit::Event {
    audit::Event::Refused {
        from: "support".to_owned(),
        release: grant,
        code: why.code.id.to_owned(),
        reason: why.message.clone(),
    }
}

/// Where a grant stands now, for the audit log.
pub(super) fn phase(grant: &Grant) -> audit::Event {
    let (by, terms) = match &grant.phase {
        Phase::Approved(consent) | Phase::Open(consent, _) => {
            (Some(consent.by.clone()), Some(sentence(&consent.terms)))
        }
        _ => (None, None),
    };
    let reason = match &grant.phase {
        Phase::Closing(reason) | Phase::Closed(reason) => Some(reason.to_string()),
        _ => None,
    };
    let (state, request) = (state(&grant.phase).to_owned(), grant.digest.hex());
    audit::Event::SupportPhase { grant: grant.id().to_owned(), request, state, by, terms, reason }
}

/// A grant as the local socket shows it.
pub fn shown(grant: &Grant, now: &Moment, recordings: Vec<String>, file: bool) -> local::SupportSession {
    let terms = |terms: &Terms| local::SupportTerms {
        scopes: listed(&terms.scopes),
        targets: listed(&terms.targets),
        max_session_seconds: terms.max_session_seconds,
        max_bytes: terms.max_bytes,
    };
    let request = &grant.request;
    let (granted, approver) = match &grant.phase {
        Phase::Approved(consent) | Phase::Open(consent, _) => {
            (Some(terms(&consent.terms)), consent.by.clone())
        }
        _ => (None, String::new()),
    };
    local::SupportSession {
        grant_id: grant.id().to_owned(),
        state: state(&grant.phase).to_owned(),
        reason: match &grant.phase {
            Phase::Closing(reason) | Phase::Closed(reason) => reason.to_string(),
            _ => String::new(),
        },
        engineer: request.engineer.clone(),
        product: request.product.clone(),
        ticket: request.ticket.clone(),
        why: request.reason.clone(),
        requested: Some(terms(&request.terms)),
        granted,
        approver,
        issued: request.issued.to_string(),
        not_after: request.not_after.to_string(),
        ends_in_seconds: match &grant.phase {
            Phase::Open(consent, opened) => {
                ends_in(&consent.terms, opened, now).unwrap_or_default().as_secs()
            }
            _ => 0,
        },
        request_sha256: grant.digest.hex(),
        request: if file { grant.file.clone().into_bytes() } else { Vec::new() },
        recordings,
    }
}
