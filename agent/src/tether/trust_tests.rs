//! Which hubs are believed and which are not.

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

use super::*;

struct Authority {
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

fn authority() -> Authority {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let certificate = params.self_signed(&key).unwrap().der().clone();
    Authority { certificate, issuer: Issuer::new(params, key) }
}

fn leaf(authority: &Authority, name: &str) -> CertificateDer<'static> {
    let params = CertificateParams::new([name.to_owned()]).unwrap();
    params.signed_by(&KeyPair::generate().unwrap(), &authority.issuer).unwrap().der().clone()
}

fn verify(
    pin: &CertificateDer<'_>,
    leaf: &CertificateDer<'_>,
    others: &[CertificateDer<'_>],
    now: UnixTime,
) -> Result<(), Error> {
    let pinned = Pinned { ca_sha256: Sha256::digest(pin.as_ref()).into(), provider: provider() };
    let name = ServerName::try_from("hub.example.com").unwrap();
    pinned.verify_server_cert(leaf, others, &name, &[], now).map(|_| ())
}

#[test]
fn only_a_chain_to_the_pinned_authority_is_believed() {
    let (ours, theirs) = (authority(), authority());
    let good = leaf(&ours, "hub.example.com");
    let now = UnixTime::now();
    let ca = ours.certificate.clone();
    assert_eq!(verify(&ca, &good, std::slice::from_ref(&ca), now), Ok(()));

    let unknown = Err(CertificateError::UnknownIssuer.into());
    // The authority is not shown; another one is; the leaf is another authority's, the pinned one shown beside it.
    assert_eq!(verify(&ca, &good, &[], now), unknown);
    assert_eq!(verify(&ca, &good, std::slice::from_ref(&theirs.certificate), now), unknown);
    let stranger = leaf(&theirs, "hub.example.com");
    let both = [ca.clone(), theirs.certificate.clone()];
    assert!(verify(&ca, &stranger, &both, now).is_err());
    // The pinned certificate as the leaf itself is no chain.
    assert_eq!(verify(&ca, &ca, &[], now), unknown);
}

#[test]
fn name_and_dates_are_checked_too() {
    let ours = authority();
    let ca = ours.certificate.clone();
    let other_name = leaf(&ours, "other.example.com");
    let error = verify(&ca, &other_name, std::slice::from_ref(&ca), UnixTime::now()).unwrap_err();
    let Error::InvalidCertificate(why) = error else { panic!("{error}") };
    assert!(explain(&why).contains("another name"), "{why:?}");

    let good = leaf(&ours, "hub.example.com");
    let year_5000 = UnixTime::since_unix_epoch(std::time::Duration::from_secs(95_617_584_000));
    let error = verify(&ca, &good, std::slice::from_ref(&ca), year_5000).unwrap_err();
    let Error::InvalidCertificate(why) = error else { panic!("{error}") };
    assert!(explain(&why).contains("clock"), "{why:?}");
}
