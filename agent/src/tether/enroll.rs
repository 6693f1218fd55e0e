//! Making this host a member of a fleet, once.
//!
//! Order matters: the token says which authority the hub must show; only then is the token's secret sent, with a
//! certificate request on a key made here. What comes back is checked to be on that key and from that authority, and
//! the vendor's roots are the host's to verify against the fingerprint that the customer was told.

use std::sync::Arc;
use std::time::Duration;

use kedge_proto::local::v1::EnrollReply;
use kedge_proto::tether::v1::enrolment_client::EnrolmentClient;
use kedge_proto::tether::v1::{EnrollRequest, EnrollResponse};
use sha2::{Digest, Sha256};
use tonic::{Code, Status};

use super::answer::said;
use super::dial::{Address, dial};
use super::token::Token;
use super::{Anchor, proxy, trust};
use crate::codes;
use crate::config::Config;
use crate::host::Enrolment;
use crate::identity::{HostKey, validity};
use crate::problem::Problem;

/// Largest answer, bytes: certificates, and a vendor's whole chain of roots.
const MAX_ANSWER: usize = 4 * 1024 * 1024;
/// Longest chain of roots that is handed on.
const MAX_ROOTS: usize = 1024;
/// How long the hub may think.
const PATIENCE: Duration = Duration::from_secs(30);

/// Enrols this host with the hub at `hub_url`. Asking again with the same token, after a crash or a lost
/// answer, enrols once.
///
/// # Errors
/// [`codes::BAD_TOKEN`], [`codes::HUB_UNREACHABLE`], [`codes::HUB_IDENTITY`] when what answers is not the hub the
/// token names, [`codes::ENROLMENT_REFUSED`], [`codes::ENROLLED_ELSEWHERE`], and what the host says of the roots.
pub async fn enroll(
    host: &impl Anchor,
    config: &Config,
    hub_url: &str,
    token: &str,
    root_sha256: &str,
) -> Result<EnrollReply, Problem> {
    let hub = Address::parse_hub(hub_url)?;
    let token = Token::parse(token)?;
    let root_sha256 = root_fingerprint(config, root_sha256)?;
    if let Some(held) = host.enrolment().borrow().as_ref()
        && <[u8; 32]>::from(Sha256::digest(&held.hub_ca)) != token.ca_sha256()
    {
        let message = format!("this host is {} of {}", held.host_id, held.hub);
        return Err(Problem::new(&codes::ENROLLED_ELSEWHERE, message));
    }
    let state_dir = config.state_dir.clone();
    let key = tokio::task::spawn_blocking(move || HostKey::load_or_create(&state_dir).map(Arc::new))
        .await
        .map_err(|e| Problem::from_error(&codes::INTERNAL, &e))??;

    let proxy = proxy::choose(config.proxy.as_deref(), &proxy::Environment::of_process(), &hub)?;
    let channel = dial(&hub, proxy.as_ref(), trust::pinned(token.ca_sha256())?).await?;
    let hostname = hostname();
    let request = EnrollRequest {
        token: token.reveal().to_owned(),
        csr_der: key.certificate_request(&hostname)?,
        hostname,
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        request_id: token.request_id(&key.public_sha256()),
    };
    let mut client = EnrolmentClient::new(channel).max_decoding_message_size(MAX_ANSWER);
    let answer = tokio::time::timeout(PATIENCE, client.enroll(request))
        .await
        .map_err(|_| Problem::new(&codes::HUB_UNREACHABLE, format!("{hub}: no answer to the enrolment")))?
        .map_err(|status| refusal(&status).at(&hub))?
        .into_inner();

    let (enrolment, roots) = accept(answer, &hub, &token, &key)?;
    let reply = EnrollReply {
        host_id: enrolment.host_id.clone(),
        site: enrolment.site.clone(),
        hub: enrolment.hub.clone(),
    };
    host.enrolled(enrolment, roots, &root_sha256).await?;
    tracing::info!(host = %reply.host_id, site = %reply.site, "enrolled with {}", reply.hub);
    Ok(reply)
}

/// What the customer was told, or what the configuration holds; they must not differ.
fn root_fingerprint(config: &Config, given: &str) -> Result<String, Problem> {
    let given = given.trim().to_ascii_lowercase();
    let configured = config.trust.root_sha256.as_ref().map(|sha| sha.to_ascii_lowercase());
    match (given.as_str(), configured) {
        ("", Some(configured)) => Ok(configured),
        ("", None) => Err(Problem::new(&codes::NO_ROOT, "no fingerprint of the vendor's root was given")),
        (given, _) if given.len() != 64 || !given.bytes().all(|b| b.is_ascii_hexdigit()) => {
            Err(Problem::new(&codes::CONFIG, "the root's fingerprint must be 64 hexadecimal digits"))
        }
        (given, Some(configured)) if given != configured => Err(Problem::new(
            &codes::OTHER_ROOT,
            "the fingerprint given is not the one in this host's configuration",
        )),
        (given, _) => Ok(given.to_owned()),
    }
}

/// Checks that the hub gave what was asked for.
fn accept(
    answer: EnrollResponse,
    hub: &Address,
    token: &Token,
    key: &HostKey,
) -> Result<(Enrolment, Vec<bytes::Bytes>), Problem> {
    let wrong = |why: &str| Problem::new(&codes::PROTOCOL, format!("{hub}: the hub's answer {why}"));
    if <[u8; 32]>::from(Sha256::digest(&answer.hub_ca_der)) != token.ca_sha256() {
        let message = format!("{hub}: the hub names another authority than the token");
        return Err(Problem::new(&codes::HUB_IDENTITY, message));
    }
    let leaf = answer.certificate_chain_der.first().ok_or_else(|| wrong("holds no certificate"))?;
    validity(leaf, key).map_err(|problem| problem.at(hub))?;
    if answer.host_id.is_empty() || answer.host_id.len() > 256 || answer.site.len() > 256 {
        return Err(wrong("does not say who this host is"));
    }
    if answer.roots.len() > MAX_ROOTS {
        return Err(wrong("holds too many roots"));
    }
    let enrolment = Enrolment {
        hub: hub.to_url(),
        host_id: answer.host_id,
        site: answer.site,
        certificate_chain: answer.certificate_chain_der,
        hub_ca: answer.hub_ca_der,
    };
    Ok((enrolment, answer.roots.into_iter().map(Into::into).collect()))
}

fn refusal(status: &Status) -> Problem {
    match status.code() {
        Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::Unauthenticated
        | Code::FailedPrecondition
        | Code::Aborted => Problem::new(&codes::ENROLMENT_REFUSED, said(status)),
        Code::Unimplemented => Problem::new(&codes::PROTOCOL, "what answers takes no enrolments"),
        Code::ResourceExhausted => {
            let message = format!("the hub takes no enrolment now, try again in a minute: {}", said(status));
            Problem::new(&codes::HUB_UNREACHABLE, message)
        }
        _ => Problem::new(&codes::HUB_UNREACHABLE, said(status)),
    }
}

fn hostname() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .chars()
        .filter(|c| !c.is_control())
        .take(128)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fingerprint_given_and_the_one_configured_agree() {
        let (a, b) = ("aa".repeat(32), "bb".repeat(32));
        let config = |sha: Option<&String>| Config {
            trust: crate::config::Trust { root_sha256: sha.cloned() },
            ..Config::default()
        };
        let code = |config: Config, given: &str| root_fingerprint(&config, given).map_err(|p| p.code.id);
        assert_eq!(code(config(None), &a), Ok(a.clone()));
        assert_eq!(code(config(None), &a.to_uppercase()), Ok(a.clone()));
        assert_eq!(code(config(Some(&a)), ""), Ok(a.clone()));
        assert_eq!(code(config(Some(&a)), &a), Ok(a.clone()));
        assert_eq!(code(config(Some(&a)), &b), Err(codes::OTHER_ROOT.id));
        assert_eq!(code(config(None), ""), Err(codes::NO_ROOT.id));
        assert_eq!(code(config(None), "aa"), Err(codes::CONFIG.id));
    }
}
