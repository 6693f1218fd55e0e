//! Whom the tether believes to be the hub.
//!
//! Before enrolment, only the digest of the hub's authority is known, from the token: [`pinned`] accepts a chain
//! that holds exactly that certificate and checks the rest of the chain against it as the only root, name and
//! dates included. After enrolment, the authority itself is known: [`mutual`] uses it as the only root and shows the host's
//! own certificate. TLS 1.3 only, both ends are ours.

use std::sync::Arc;

use rustls::client::Resumption;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use sha2::{Digest, Sha256};

use crate::codes;
use crate::host::Enrolment;
use crate::identity::HostKey;
use crate::problem::Problem;

/// TLS that shows the hub's certificate to this verifier and to nobody else.
///
/// # Errors
/// [`codes::INTERNAL`]
pub(super) fn shown_to(verifier: Arc<dyn ServerCertVerifier>) -> Result<ClientConfig, Problem> {
    let config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(internal)?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    Ok(finish(config))
}

/// What signatures can be checked.
pub(super) fn schemes() -> Vec<SignatureScheme> {
    provider().signature_verification_algorithms.supported_schemes()
}

/// TLS for enrolment: the hub must show the authority with this SHA-256.
///
/// # Errors
/// [`codes::INTERNAL`]
pub(super) fn pinned(ca_sha256: [u8; 32]) -> Result<ClientConfig, Problem> {
    let provider = provider();
    let verifier = Pinned { ca_sha256, provider: provider.clone() };
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(internal)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    Ok(finish(config))
}

/// TLS for an enrolled host.
///
/// # Errors
/// [`codes::PROTOCOL`] when what enrolment gave cannot be used.
pub(super) fn mutual(enrolment: &Enrolment, key: &HostKey) -> Result<ClientConfig, Problem> {
    let unusable = |what: &str, e: Error| {
        Problem::new(&codes::PROTOCOL, format!("{what} from the hub cannot be used: {e}"))
    };
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(enrolment.hub_ca.clone())).map_err(|e| unusable("the authority", e))?;
    let chain = enrolment.certificate_chain.iter().cloned().map(CertificateDer::from).collect();
    let config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(internal)?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key.private_key())
        .map_err(|e| unusable("the certificate", e))?;
    Ok(finish(config))
}

fn finish(mut config: ClientConfig) -> ClientConfig {
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.resumption = Resumption::disabled();
    config
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn internal(error: Error) -> Problem {
    Problem::from_error(&codes::INTERNAL, &error)
}

/// What is wrong with the hub's certificate, for a person.
pub(super) fn explain(why: &CertificateError) -> String {
    match why {
        CertificateError::UnknownIssuer => {
            "what answers does not show the hub's authority: it is another hub, or something in between"
                .to_owned()
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "the hub's certificate has ended; if it should not have, this host's clock is wrong".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "the hub's certificate is not valid yet; this host's clock may be behind".to_owned()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "the hub's certificate is for another name than this address".to_owned()
        }
        other => format!("the hub's certificate is refused: {other}"),
    }
}

/// Accepts a chain that leads to one certificate, known by its digest.
#[derive(Debug)]
struct Pinned {
    ca_sha256: [u8; 32],
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let is_pinned = |certificate: &&CertificateDer<'_>| {
            <[u8; 32]>::from(Sha256::digest(certificate.as_ref())) == self.ca_sha256
        };
        let authority = intermediates.iter().find(is_pinned).ok_or(CertificateError::UnknownIssuer)?;
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone().into_owned())?;
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), self.provider.clone())
            .build()
            .map_err(|e| Error::General(e.to_string()))?;
        verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("only TLS 1.3 is spoken here".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
#[path = "trust_tests.rs"]
mod tests;
