//! What the tether reads out of its own certificate: how long it lives, and whose key it is on.

use jiff::{SignedDuration, Timestamp};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::key::HostKey;
use crate::codes;
use crate::problem::Problem;

/// The life of a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// From then on.
    pub from: Timestamp,
    /// Until then.
    pub until: Timestamp,
}

/// The life of a leaf certificate (DER) that must be on `key`.
///
/// # Errors
/// [`codes::PROTOCOL`] when it cannot be read, is on another key or has no life.
pub fn validity(leaf: &[u8], key: &HostKey) -> Result<Validity, Problem> {
    let wrong = |why: &str| Problem::new(&codes::PROTOCOL, format!("the certificate from the hub {why}"));
    let (rest, certificate) = X509Certificate::from_der(leaf).map_err(|_| wrong("cannot be read"))?;
    if !rest.is_empty() {
        return Err(wrong("has data after its end"));
    }
    if certificate.public_key().subject_public_key.data.as_ref() != key.public_raw() {
        return Err(wrong("is not on this host's key"));
    }
    let at = |time: x509_parser::time::ASN1Time| Timestamp::from_second(time.timestamp()).ok();
    match (at(certificate.validity().not_before), at(certificate.validity().not_after)) {
        (Some(from), Some(until)) if from < until => Ok(Validity { from, until }),
        _ => Err(wrong("ends before it begins")),
    }
}

/// When to ask for the next one: after two thirds of its life, and up to a twelfth of it later, so that hosts
/// enrolled together do not renew together. `spread` is in `0..1`.
pub fn renew_at(validity: Validity, spread: f64) -> Timestamp {
    let life = validity.until.duration_since(validity.from);
    let wait = life.as_secs_f64() * (2.0 / 3.0 + spread.clamp(0.0, 1.0) / 12.0);
    SignedDuration::try_from_secs_f64(wait)
        .ok()
        .and_then(|wait| validity.from.checked_add(wait).ok())
        .unwrap_or(validity.until)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn renewal_falls_between_two_thirds_and_three_quarters_of_the_life() {
        let validity = Validity { from: at("2026-01-01T00:00:00Z"), until: at("2026-01-31T00:00:00Z") };
        assert_eq!(renew_at(validity, 0.0), at("2026-01-21T00:00:00Z"));
        assert_eq!(renew_at(validity, 1.0), at("2026-01-23T12:00:00Z"));
        assert!(renew_at(validity, f64::NAN) <= validity.until);
    }

    #[test]
    fn a_certificate_on_another_key_is_refused() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let ours = HostKey::load_or_create(one.path()).unwrap();
        let other = HostKey::load_or_create(two.path()).unwrap();
        let pair =
            rcgen::KeyPair::from_der_and_sign_algo(&ours.private_key(), &rcgen::PKCS_ECDSA_P256_SHA256);
        let leaf = rcgen::CertificateParams::default().self_signed(&pair.unwrap()).unwrap();
        assert!(validity(leaf.der(), &ours).is_ok());
        assert!(validity(leaf.der(), &other).unwrap_err().message.contains("key"));
        assert!(validity(&leaf.der()[1..], &ours).is_err());
        assert!(validity(&[leaf.der().as_ref(), b"x"].concat(), &ours).is_err());
    }
}
