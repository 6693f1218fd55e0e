//! Who is let in, and who is not.

use crate::common::{EnrolRequest, Stream, TestHost, TestHub, code, hello};
use kedge_proto::hub::v1 as admin;
use kedge_proto::tether::v1::RenewRequest;
use kedge_proto::tether::v1::tether_client::TetherClient;
use kedgectl::codes;

#[tokio::test]
async fn a_host_enrols_with_a_token_and_connects_with_its_certificate() {
    let hub = TestHub::start().await;
    let token = hub.token("acme", 1).await;
    assert_eq!(token.len(), 146);
    let request = EnrolRequest::new("r1");
    let answer = hub.enrol_with(&token, &request).await.unwrap();
    assert_eq!(answer.site, "acme");
    assert_eq!(answer.roots, hub.vendor.envelopes);
    assert!(
        token.ends_with(crate::common::sha256(&answer.hub_ca_der).trim_start_matches("sha256:")),
        "the token pins the hub"
    );

    let host = TestHost { id: answer.host_id.clone(), identity: request.identity(&answer), answer };
    let (_stream, welcome) = Stream::open(&mut hub.tether(&host).await, hello("s")).await;
    assert_eq!((welcome.protocol, welcome.last_seen, welcome.want_full), (1, 0, true));
    assert!(hub.host(&host.id).await.connected);
}

#[tokio::test]
async fn tokens_that_are_wrong_used_up_revoked_or_malformed_enrol_nobody() {
    let hub = TestHub::start().await;
    let good = hub.token("acme", 1).await;
    let mut parts: Vec<String> = good.split('.').map(str::to_owned).collect();
    parts[2] = "0".repeat(64);
    let wrong_secret = parts.join(".");
    let revoked = hub.token("acme", 1).await;
    let id = revoked.split('.').nth(1).unwrap().to_owned();
    assert!(
        hub.admin().await.revoke_token(admin::RevokeTokenRequest { id }).await.unwrap().into_inner().existed
    );
    hub.enrol_with(&good, &EnrolRequest::new("first")).await.unwrap();
    let cases = [
        (good.as_str(), codes::TOKEN_USED),
        (&wrong_secret, codes::TOKEN_UNKNOWN),
        (&revoked, codes::TOKEN_UNKNOWN),
        ("kt1.not-a-token", codes::TOKEN_FORM),
    ];
    for (token, expected) in cases {
        let refusal = hub.enrol_with(token, &EnrolRequest::new("another")).await.unwrap_err();
        assert_eq!(code(&refusal), expected.id);
        assert!(!refusal.message().contains(token), "a token is never echoed");
    }
    let fleet = hub.admin().await.fleet(admin::FleetRequest::default()).await.unwrap().into_inner();
    assert_eq!(fleet.hosts.len(), 1);
}

#[tokio::test]
async fn asking_twice_with_one_request_enrols_once_and_only_for_the_same_key() {
    let hub = TestHub::start().await;
    let token = hub.token("acme", 1).await;
    let request = EnrolRequest::new("r1");
    let first = hub.enrol_with(&token, &request).await.unwrap();
    let again = hub.enrol_with(&token, &request).await.unwrap();
    assert_eq!(first.host_id, again.host_id);
    let thief = hub.enrol_with(&token, &EnrolRequest::new("r1")).await.unwrap_err();
    assert_eq!(code(&thief), codes::REQUEST_CONFLICT.id);
}

#[tokio::test]
async fn guessing_tokens_is_slowed_down() {
    let hub = TestHub::start().await;
    let mut seen = Vec::new();
    for _ in 0..12 {
        seen.push(code(&hub.enrol_with("kt1.guess", &EnrolRequest::new("r1")).await.unwrap_err()));
    }
    assert_eq!(seen[0], codes::TOKEN_FORM.id);
    assert_eq!(seen[11], codes::BUSY.id);
}

#[tokio::test]
async fn the_tether_is_closed_to_whoever_shows_no_certificate() {
    let hub = TestHub::start().await;
    let mut tether = TetherClient::new(hub.channel(None).await);
    let refusal = tether.connect(tokio_stream::pending()).await.unwrap_err();
    assert_eq!(code(&refusal), codes::NO_CERTIFICATE.id);
    assert_eq!(refusal.code(), tonic::Code::Unauthenticated);
    let refusal = tether.renew(RenewRequest { csr_der: EnrolRequest::new("r").csr() }).await.unwrap_err();
    assert_eq!(code(&refusal), codes::NO_CERTIFICATE.id);
}

#[tokio::test]
async fn a_certificate_of_another_hub_is_refused_by_the_handshake() {
    let (hub, other) = (TestHub::start().await, TestHub::start().await);
    let stranger = other.enrol("acme").await;
    let tls = tonic::transport::ClientTlsConfig::new()
        .ca_certificate(hub.authority())
        .domain_name("localhost")
        .identity(stranger.identity);
    let endpoint = tonic::transport::Endpoint::from_shared(format!("https://{}", hub.address)).unwrap();
    // With TLS 1.3 a client may believe itself connected until its first request.
    let refused = match endpoint.tls_config(tls).unwrap().connect().await {
        Err(_) => true,
        Ok(channel) => {
            let request = RenewRequest { csr_der: EnrolRequest::new("r").csr() };
            let refusal = TetherClient::new(channel).renew(request).await.unwrap_err();
            refusal.code() != tonic::Code::Unauthenticated && refusal.details().is_empty()
        }
    };
    assert!(refused, "not even a service of the hub was reached");
}

#[tokio::test]
async fn a_revoked_host_is_sent_away_and_stays_out() {
    let hub = TestHub::start().await;
    let host = hub.enrol("acme").await;
    let mut tether = hub.tether(&host).await;
    let (mut stream, _) = Stream::open(&mut tether, hello("s")).await;
    let request = admin::RevokeHostRequest { host: host.id.clone() };
    assert!(hub.admin().await.revoke_host(request).await.unwrap().into_inner().existed);
    assert!(stream.goodbye().await.contains("revoked"));
    let refusal = tether.connect(tokio_stream::pending()).await.unwrap_err();
    assert_eq!(code(&refusal), codes::REVOKED.id);
    let refusal = tether.renew(RenewRequest { csr_der: EnrolRequest::new("r").csr() }).await.unwrap_err();
    assert_eq!(code(&refusal), codes::REVOKED.id, "a revoked host cannot renew its way back");
    let hub = hub.restart().await;
    let refusal = hub.tether(&host).await.connect(tokio_stream::pending()).await.unwrap_err();
    assert_eq!(code(&refusal), codes::REVOKED.id);
}

#[tokio::test]
async fn a_renewed_certificate_is_for_the_same_host_on_a_new_key() {
    let hub = TestHub::start().await;
    let host = hub.enrol("acme").await;
    let next = EnrolRequest::new("renewal");
    let answer =
        hub.tether(&host).await.renew(RenewRequest { csr_der: next.csr() }).await.unwrap().into_inner();
    let identity = next.identity_from(&answer.certificate_chain_der);
    let renewed = TestHost { id: host.id.clone(), identity, answer: host.answer };
    let (_stream, _) = Stream::open(&mut hub.tether(&renewed).await, hello("s")).await;
    assert!(hub.host(&host.id).await.connected);
}
