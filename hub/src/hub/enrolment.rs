//! Enrolment: a token and a certificate request in, an identity out. The only service that answers
//! without a client certificate.

use super::Shared;
use super::ca;
use super::listener::Peer;
use super::store::Enrolment as Asked;
use super::tokens;
use crate::codes;
use crate::error::{Failure, Result};
use kedge_proto::tether::v1::enrolment_server::Enrolment;
use kedge_proto::tether::v1::{EnrollRequest, EnrollResponse};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use tonic::{Request, Response, Status};
use tracing::{debug, info, warn};

/// Largest request, in bytes.
pub(super) const MAX_MESSAGE: usize = 16 * 1024;

/// The service.
pub(super) struct Service(pub(super) Arc<Shared>);

#[tonic::async_trait]
impl Enrolment for Service {
    async fn enroll(&self, request: Request<EnrollRequest>) -> Result<Response<EnrollResponse>, Status> {
        let peer = request
            .extensions()
            .get::<Peer>()
            .map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.address.ip());
        let shared = self.0.clone();
        if !shared.attempts().allow(peer, shared.now()) {
            // No louder: whoever fills the log with guesses should not.
            debug!(%peer, code = codes::BUSY.id, "Too many enrolments come from {peer}; they are refused for a while.");
            return Err(Failure::new(codes::BUSY, format!("too many enrolments come from {peer}")).into());
        }
        let request = request.into_inner();
        // Signing and the durable write both block.
        let answer = tokio::task::spawn_blocking({
            let shared = shared.clone();
            move || enrol(&shared, &request)
        })
        .await
        .map_err(|_| Failure::new(codes::UNEXPECTED, "the enrolment was interrupted"))?;
        match answer {
            Ok(answer) => {
                shared.attempts().accepted(peer, shared.now());
                info!(host = answer.host_id, site = answer.site, %peer, "Host {} of site {} enrolled.", answer.host_id, answer.site);
                Ok(Response::new(answer))
            }
            Err(failure) => {
                if !failure.code.retry {
                    shared.attempts().refused(peer, shared.now());
                }
                warn!(%peer, code = failure.code.id, "An enrolment from {peer} was refused: {}.", failure.chain());
                Err(failure.into())
            }
        }
    }
}

fn enrol(shared: &Shared, request: &EnrollRequest) -> Result<EnrollResponse> {
    let token = tokens::parse(&request.token)?;
    let id = &request.request_id;
    if !(1..=tokens::MAX_TEXT).contains(&id.len())
        || !id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
    {
        return Err(Failure::new(
            codes::PROTOCOL,
            "request_id must be 1 to 128 letters, digits, `-` and `_`",
        ));
    }
    let certificate_request = ca::read_request(&request.csr_der)?;
    let hostname: String = request.hostname.chars().filter(|c| !c.is_control()).take(253).collect();
    let now = shared.now();
    let asked = Asked {
        token: &token,
        request: &certificate_request,
        request_id: &request.request_id,
        hostname: &hostname,
    };
    let host = shared.store.enrol(&asked, ca::new_host_id(), now)?;
    let certificate = shared.authority.host_certificate(&certificate_request, &host.id, now)?;
    shared.fleet.changed(&host.id);
    Ok(EnrollResponse {
        host_id: host.id,
        site: host.site,
        certificate_chain_der: vec![certificate.to_vec()],
        hub_ca_der: shared.authority.certificate().to_vec(),
        roots: shared.store.roots()?,
    })
}
