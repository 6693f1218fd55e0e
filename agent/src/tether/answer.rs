//! What a failed call says, for a person: the hub's own words where it had any, else what broke on the way.

use kedge_proto::v1;
use prost::Message;
use tonic::Status;

/// Longest text taken from the other end, characters.
const MOST: usize = 500;

/// The status in one bounded line, with the hub's error code where it sent one.
pub(super) fn said(status: &Status) -> String {
    let mut text = match v1::Problem::decode(status.details()) {
        Ok(problem) if !problem.code.is_empty() => format!("{} ({})", problem.message, problem.code),
        _ => status.message().to_owned(),
    };
    let mut source = std::error::Error::source(status);
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    if text.is_empty() {
        text = status.code().description().to_owned();
    }
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MOST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hubs_own_words_and_code_are_kept() {
        let problem = v1::Problem {
            code: "KE-7103".into(),
            message: "token 0a1b expired".into(),
            ..v1::Problem::default()
        };
        let details = problem.encode_to_vec().into();
        let status = Status::with_details(tonic::Code::Unauthenticated, "x", details);
        assert_eq!(said(&status), "token 0a1b expired (KE-7103)");
    }

    #[test]
    fn what_comes_from_outside_is_one_bounded_line_and_never_empty() {
        assert_eq!(said(&Status::unavailable("a\r\nb\x1b[2J")), "a  b [2J");
        assert_eq!(said(&Status::internal("x".repeat(9999))).len(), MOST);
        assert_eq!(said(&Status::unavailable("")), "The service is currently unavailable");
    }

    #[test]
    fn what_broke_on_the_way_is_said_once() {
        let broken = std::io::Error::other("connection reset");
        let mut status = Status::unknown("transport error");
        status.set_source(std::sync::Arc::new(broken));
        assert_eq!(said(&status), "transport error: connection reset");
    }
}
