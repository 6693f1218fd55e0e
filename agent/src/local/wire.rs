//! How a [`Problem`] and an operation's [`Progress`] travel over the socket.

use bytes::Bytes;
use kedge_bundle::licence::Standing;
use kedge_proto::local::v1 as local;
use kedge_proto::local::v1::progress::Body;
use kedge_proto::v1;
use prost::Message;
use tonic::{Code, Status};

use crate::codes;
use crate::host::Progress;
use crate::licence::Judged;
use crate::plan::impact::sentences;
use crate::problem::Problem;

/// Statuses travel in headers, which are small; the start of a message says what matters.
const MAX_STATUS: usize = 2048;

/// A problem as the end of a call: its text for any gRPC client, all of it in the details.
pub fn to_status(problem: &Problem) -> Status {
    let mut proto = problem.to_proto();
    let end = (0..=MAX_STATUS.min(proto.message.len())).rev().find(|&i| proto.message.is_char_boundary(i));
    proto.message.truncate(end.unwrap_or(0));
    let code = match problem.code.id {
        id if id == codes::PERMISSION.id => Code::PermissionDenied,
        id if id == codes::NO_DEPLOYMENT.id => Code::NotFound,
        _ if problem.code.retry => Code::Unavailable,
        _ => Code::FailedPrecondition,
    };
    Status::with_details(code, proto.message.clone(), Bytes::from(proto.encode_to_vec()))
}

/// What the daemon said when a call failed; where it said nothing, that it went away.
pub fn from_status(status: &Status) -> v1::Problem {
    match v1::Problem::decode(status.details()) {
        Ok(problem) if !problem.code.is_empty() => problem,
        _ => match status.code() {
            Code::Unimplemented => {
                Problem::new(&codes::PROTOCOL, "the agent is older than this command line").to_proto()
            }
            code => {
                let message = format!("the agent ended the call: {} ({code})", status.message());
                Problem::new(&codes::DAEMON_UNREACHABLE, message).to_proto()
            }
        },
    }
}

/// One step of an operation as the protocol carries it.
pub fn progress(progress: Progress) -> local::Progress {
    let body = match progress {
        Progress::Step { phase, message, done_bytes, total_bytes } => {
            Body::Step(local::Step { phase: phase.into(), message, done_bytes, total_bytes })
        }
        Progress::Done { message, deployment, plan, kept } => {
            let deployment = deployment.map(|d| *d);
            Body::Done(local::Done { message, deployment, plan, kept, diff: None })
        }
        Progress::Would { message, diff } => {
            // The sentences are for a command line that is older than the diff.
            let plan = sentences(&diff);
            Body::Done(local::Done { message, plan, diff: Some(*diff), ..local::Done::default() })
        }
        Progress::Failed(problem) => Body::Failed(problem.to_proto()),
    };
    local::Progress { body: Some(body) }
}

/// A licence as the protocol has it.
pub fn licence(judged: &Judged) -> local::Licence {
    let Judged { licence, standing, installed } = judged;
    let why = match standing {
        Standing::Valid { .. } => String::new(),
        Standing::Grace { expired, until } => format!("it expired at {expired} and counts until {until}"),
        Standing::Restricted(why) => why.to_string(),
    };
    local::Licence {
        product: licence.product.clone(),
        id: licence.id.clone(),
        serial: licence.serial,
        customer: licence.customer.clone(),
        sites: licence.sites.clone(),
        issued: licence.issued.to_string(),
        not_before: licence.not_before.to_string(),
        expires: licence.expires.to_string(),
        grace_days: licence.grace_days,
        hosts: licence.limits.hosts,
        services: licence.limits.services,
        features: licence.features.iter().cloned().collect(),
        standing: standing.name().to_owned(),
        why,
        installed: installed.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_arrives_whole() {
        let problem = Problem::new(&codes::NO_SPACE, "disk /var: 3 bytes are free");
        assert_eq!(from_status(&to_status(&problem)), problem.to_proto());
    }

    #[test]
    fn a_very_long_problem_is_cut_between_characters() {
        let problem = Problem::new(&codes::PROJECT, "ü".repeat(5000));
        let arrived = from_status(&to_status(&problem));
        assert_eq!(arrived.message.len(), MAX_STATUS);
        assert_eq!(arrived.code, codes::PROJECT.id);
    }

    #[test]
    fn an_end_without_a_reason_says_that_the_daemon_went_away() {
        assert_eq!(from_status(&Status::unknown("h2 error")).code, codes::DAEMON_UNREACHABLE.id);
    }
}
