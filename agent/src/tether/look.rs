//! A look at the hub from outside, without a word to it: who answers, and with which certificate.

use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, Error, SignatureScheme};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::dial::{self, Address};
use super::{proxy, trust};
use crate::codes;
use crate::problem::Problem;

/// Most names of a certificate that are shown.
const MOST_NAMES: usize = 5;

/// Where the first connection on the way to the hub goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NextHop {
    /// A name or an address.
    pub host: String,
    /// The port.
    pub port: u16,
    /// It is a proxy and not the hub.
    pub is_proxy: bool,
}

/// The certificate that answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// What it is for.
    pub names: String,
    /// Its first moment.
    pub from: String,
    /// Its last moment.
    pub to: String,
    /// Whether it is valid now. Whom it leads to is not judged.
    pub valid: bool,
}

/// The hub itself, or the proxy in front of it.
///
/// # Errors
/// When the hub's address or the proxy's is none.
pub fn next_hop(hub: &str, configured_proxy: Option<&str>) -> Result<NextHop, Problem> {
    let hub = Address::parse_hub(hub)?;
    let through = proxy::choose(configured_proxy, &proxy::Environment::of_process(), &hub)?;
    let is_proxy = through.is_some();
    let Address { host, port } = through.map_or(hub, |proxy| proxy.address);
    Ok(NextHop { host, port, is_proxy })
}

/// Connects, notes the certificate and hangs up before anything is said.
///
/// # Errors
/// [`codes::HUB_UNREACHABLE`] when nobody answers there or what answers does not speak TLS.
pub async fn look(hub: &str, configured_proxy: Option<&str>, now: Timestamp) -> Result<Seen, Problem> {
    let hub = Address::parse_hub(hub)?;
    let through = proxy::choose(configured_proxy, &proxy::Environment::of_process(), &hub)?;
    let witness = Arc::new(Witness::default());
    let tls = trust::shown_to(Arc::clone(&witness) as Arc<dyn ServerCertVerifier>)?;
    // It always fails: the witness refuses every certificate once it has seen it.
    let failed = dial::dial(&hub, through.as_ref(), tls).await.err();
    let shown = witness.0.lock().unwrap_or_else(PoisonError::into_inner).take();
    match (shown, failed) {
        (Some(certificate), _) => describe(&certificate, now),
        (None, Some(problem)) => Err(problem),
        (None, None) => Err(Problem::new(&codes::HUB_UNREACHABLE, format!("{hub}: it shows no certificate"))),
    }
}

fn describe(der: &[u8], now: Timestamp) -> Result<Seen, Problem> {
    let (_, certificate) = X509Certificate::from_der(der)
        .map_err(|e| Problem::new(&codes::HUB_UNREACHABLE, format!("its certificate cannot be read: {e}")))?;
    let mut names: Vec<String> = Vec::new();
    if let Ok(Some(alternatives)) = certificate.subject_alternative_name() {
        for name in alternatives.value.general_names.iter().take(MOST_NAMES) {
            match name {
                GeneralName::DNSName(name) => {
                    names.push(name.chars().filter(|c| c.is_ascii_graphic()).collect())
                }
                GeneralName::IPAddress([a, b, c, d]) => names.push(format!("{a}.{b}.{c}.{d}")),
                _ => {}
            }
        }
    }
    let validity = certificate.validity();
    let (from, to) = (validity.not_before.timestamp(), validity.not_after.timestamp());
    let moment = |second| Timestamp::from_second(second).map(|t| t.to_string()).unwrap_or_default();
    Ok(Seen {
        names: if names.is_empty() { "no name".to_owned() } else { names.join(", ") },
        from: moment(from),
        to: moment(to),
        valid: (from..=to).contains(&now.as_second()),
    })
}

/// Keeps the certificate that is shown, and accepts none.
#[derive(Debug, Default)]
struct Witness(Mutex<Option<Vec<u8>>>);

impl ServerCertVerifier for Witness {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(end_entity.to_vec());
        Err(CertificateError::ApplicationVerificationFailure.into())
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
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("nothing is accepted here".to_owned()))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        trust::schemes()
    }
}
