//! The hub's own certificate authority: for its server certificate and for the hosts' certificates.
//!
//! It authenticates the line, nothing else: what runs on a host is decided by the vendor's signed
//! documents, which this authority cannot make. Its key and certificate are one file in the data folder,
//! `authority.pem` (0600), so that there is never one without the other. The server's key and certificate are made anew at every start and again before they end, and are
//! never stored. A host certificate takes nothing from the request but its public key.

use crate::codes;
use crate::error::{Failure, Result};
use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType, SerialNumber,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use sha2::{Digest, Sha256};
use std::path::Path;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// How long a host's certificate lives; agents renew after two thirds of it.
pub const HOST_LIFE: SignedDuration = SignedDuration::from_hours(30 * 24);
/// How long the server's certificate lives.
pub const SERVER_LIFE: SignedDuration = SignedDuration::from_hours(30 * 24);
/// Clocks differ: certificates begin this much before they are made.
const SKEW: SignedDuration = SignedDuration::from_hours(1);
const CA_LIFE: SignedDuration = SignedDuration::from_hours(20 * 365 * 24);
/// Largest certificate request, in bytes; a P-256 one has about 250.
const MAX_CSR: usize = 8 * 1024;
/// In the subject alternative name of a host's certificate, before its ID.
const HOST_URN: &str = "urn:kedge:host:";

/// The authority's key and certificate.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    ca_der: CertificateDer<'static>,
}

/// A request that proved possession of its key.
pub struct HostRequest {
    params: CertificateSigningRequestParams,
    /// SHA-256 of the public key, hex.
    pub key_sha256: String,
}

impl Authority {
    /// Reads the authority out of `folder`, or makes one where there is none.
    pub fn open(folder: &Path, now: Timestamp) -> Result<Self> {
        let path = folder.join("authority.pem");
        if !path.exists() {
            Self::create(&path, now)?;
        }
        let pem = std::fs::read_to_string(&path)
            .map(zeroize::Zeroizing::new)
            .map_err(|error| failure(format!("{} cannot be read", path.display())).because(error))?;
        let key: PrivateKeyDer<'static> = PemObject::from_pem_slice(pem.as_bytes())
            .map_err(|error| failure("authority.pem holds no private key").because(error))?;
        let key = KeyPair::try_from(&key)
            .map_err(|error| failure("the key in authority.pem cannot be used").because(error))?;
        let ca_der: CertificateDer<'static> = PemObject::from_pem_slice(pem.as_bytes())
            .map_err(|error| failure("authority.pem holds no certificate").because(error))?;
        let (_, parsed) = X509Certificate::from_der(&ca_der)
            .map_err(|error| failure("the certificate in authority.pem cannot be read").because(error))?;
        if parsed.public_key().subject_public_key.data.as_ref() != key.public_key_raw() {
            return Err(failure("key and certificate in authority.pem do not belong together"));
        }
        let issuer = Issuer::from_ca_cert_der(&ca_der, key).map_err(|error| {
            failure("the certificate in authority.pem is not an authority's").because(error)
        })?;
        Ok(Authority { issuer, ca_der })
    }

    fn create(path: &Path, now: Timestamp) -> Result<()> {
        let made =
            |error: rcgen::Error| failure("the certificate authority could not be made").because(error);
        let key = KeyPair::generate().map_err(made)?;
        let mut params = CertificateParams::default();
        // The name is unique, so that a client that meets two hubs never confuses their authorities.
        params.distinguished_name = common_name(&format!("Kedge hub {}", random_hex::<4>()));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        set_life(&mut params, now, CA_LIFE)?;
        let certificate = params.self_signed(&key).map_err(made)?;
        let pem = zeroize::Zeroizing::new(format!("{}{}", key.serialize_pem(), certificate.pem()));
        super::files::write_new(path, pem.as_bytes(), 0o600)
            .map_err(|error| failure(format!("{} cannot be written", path.display())).because(error))
    }

    /// The authority's certificate.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.ca_der
    }

    /// A new server key and certificate for these names and addresses.
    pub fn server_certificate(
        &self,
        names: &[String],
        now: Timestamp,
    ) -> Result<(CertificateDer<'static>, PrivateKeyDer<'static>)> {
        let made = |error: rcgen::Error| failure("the server's certificate could not be made").because(error);
        let key = KeyPair::generate().map_err(made)?;
        let mut params = CertificateParams::new(names.to_vec()).map_err(made)?;
        params.distinguished_name = common_name("Kedge hub");
        params.serial_number = Some(serial());
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        set_life(&mut params, now, SERVER_LIFE)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(made)?;
        Ok((certificate.der().clone(), PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()))))
    }

    /// A certificate for the host `id` on the request's key; everything else in it is ours.
    pub fn host_certificate(
        &self,
        request: &HostRequest,
        id: &str,
        now: Timestamp,
    ) -> Result<CertificateDer<'static>> {
        let made = |error: rcgen::Error| failure("the host's certificate could not be made").because(error);
        let mut params = CertificateParams::default();
        params.distinguished_name = common_name(id);
        params.subject_alt_names = vec![SanType::URI(format!("{HOST_URN}{id}").try_into().map_err(made)?)];
        params.serial_number = Some(serial());
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        set_life(&mut params, now, HOST_LIFE)?;
        let certificate = params.signed_by(&request.params.public_key, &self.issuer).map_err(made)?;
        Ok(certificate.der().clone())
    }
}

/// Reads a PKCS#10 request and checks that it was signed with the key it names.
pub fn read_request(der: &[u8]) -> Result<HostRequest> {
    let refused = |why: &str| Failure::new(codes::CSR, format!("the certificate request is refused: {why}"));
    if der.is_empty() || der.len() > MAX_CSR {
        return Err(refused(&format!("it has {} bytes, at most {MAX_CSR} are allowed", der.len())));
    }
    let params = CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(der.to_vec()))
        .map_err(|error| refused("it cannot be verified").because(error))?;
    let algorithm = params.public_key.algorithm();
    if *algorithm != rcgen::PKCS_ECDSA_P256_SHA256 && *algorithm != rcgen::PKCS_ED25519 {
        return Err(refused("its key is neither P-256 nor Ed25519"));
    }
    let key_sha256 = hex::encode(Sha256::digest(rcgen::PublicKeyData::der_bytes(&params.public_key)));
    Ok(HostRequest { params, key_sha256 })
}

/// The host's ID in a certificate that TLS has already verified to be of this authority.
pub fn host_of(certificate: &[u8]) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let names = certificate.subject_alternative_name().ok()??;
    match names.value.general_names[..] {
        [GeneralName::URI(uri)] => uri.strip_prefix(HOST_URN).filter(|id| is_host_id(id)).map(str::to_owned),
        _ => None,
    }
}

/// A new host's ID: `h-` and 16 hex digits.
pub fn new_host_id() -> String {
    format!("h-{}", random_hex::<8>())
}

fn is_host_id(id: &str) -> bool {
    id.strip_prefix("h-").is_some_and(|rest| rest.len() == 16 && rest.bytes().all(|b| b.is_ascii_hexdigit()))
}

fn common_name(name: &str) -> DistinguishedName {
    let mut names = DistinguishedName::new();
    names.push(DnType::CommonName, name);
    names
}

/// 128 random bits, positive.
fn serial() -> SerialNumber {
    let mut bytes = [0u8; 16];
    rand::fill(&mut bytes);
    bytes[0] = bytes[0] & 0x7f | 0x40;
    SerialNumber::from_slice(&bytes)
}

fn random_hex<const N: usize>() -> String {
    let mut bytes = [0u8; N];
    rand::fill(&mut bytes);
    hex::encode(bytes)
}

fn set_life(params: &mut CertificateParams, now: Timestamp, life: SignedDuration) -> Result<()> {
    let at = |moment: Timestamp| {
        time::OffsetDateTime::from_unix_timestamp(moment.as_second())
            .map_err(|error| failure("the clock is out of range").because(error))
    };
    let end = now.checked_add(life).map_err(|error| failure("the clock is out of range").because(error))?;
    params.not_before = at(now - SKEW)?;
    params.not_after = at(end)?;
    Ok(())
}

fn failure(message: impl Into<String>) -> Failure {
    Failure::new(codes::AUTHORITY, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn now() -> Timestamp {
        "2026-11-21T00:00:00Z".parse().unwrap()
    }

    fn csr(change: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
        let mut params = CertificateParams::default();
        change(&mut params);
        params.serialize_request(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn the_authority_is_made_once_and_its_key_is_private() {
        let folder = tempfile::tempdir().unwrap();
        let first = Authority::open(folder.path(), now()).unwrap().certificate().clone();
        assert_eq!(&first, Authority::open(folder.path(), now()).unwrap().certificate());
        let mode = std::fs::metadata(folder.path().join("authority.pem")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_damaged_authority_is_refused_and_not_replaced() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let read = |folder: &tempfile::TempDir| {
            Authority::open(folder.path(), now()).unwrap();
            std::fs::read_to_string(folder.path().join("authority.pem")).unwrap()
        };
        let split = |pem: &str| pem.split_at(pem.find("-----BEGIN CERTIFICATE").unwrap()).0.len();
        let (first, second) = (read(&one), read(&two));
        let (key, certificate) = (&first[..split(&first)], &second[split(&second)..]);
        for damaged in [key.to_owned(), certificate.to_owned(), format!("{key}{certificate}"), String::new()]
        {
            std::fs::write(one.path().join("authority.pem"), &damaged).unwrap();
            assert_eq!(Authority::open(one.path(), now()).err().unwrap().code, codes::AUTHORITY);
            assert_eq!(std::fs::read_to_string(one.path().join("authority.pem")).unwrap(), damaged);
        }
    }

    #[test]
    fn a_host_certificate_takes_nothing_but_the_key_from_the_request() {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::open(folder.path(), now()).unwrap();
        let der = csr(|params| {
            params.distinguished_name = common_name("h-ffffffffffffffff");
            params.subject_alt_names =
                vec![SanType::URI(format!("{HOST_URN}h-ffffffffffffffff").try_into().unwrap())];
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        });
        let id = new_host_id();
        let certificate = authority.host_certificate(&read_request(&der).unwrap(), &id, now()).unwrap();
        assert_eq!(host_of(&certificate).as_ref(), Some(&id));
        let (_, parsed) = X509Certificate::from_der(&certificate).unwrap();
        assert!(!parsed.is_ca());
        assert_eq!(parsed.subject().to_string(), format!("CN={id}"));
        assert_eq!(parsed.validity().not_after.timestamp(), (now() + HOST_LIFE).as_second());
    }

    #[test]
    fn requests_with_a_broken_signature_or_of_wrong_size_are_refused() {
        let mut forged = csr(|_| {});
        let last = forged.len() - 1;
        forged[last] ^= 1;
        for bad in [forged, vec![], vec![0x30; MAX_CSR + 1], b"not a request".to_vec()] {
            assert_eq!(read_request(&bad).err().unwrap().code, codes::CSR);
        }
    }

    #[test]
    fn a_server_certificate_names_no_host() {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::open(folder.path(), now()).unwrap();
        let (certificate, _) =
            authority.server_certificate(&["localhost".into(), "127.0.0.1".into()], now()).unwrap();
        assert_eq!(host_of(&certificate), None);
    }
}
