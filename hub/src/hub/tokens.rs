//! Enrolment tokens: `kt1.<id>.<secret>.<sha256 of the hub CA's certificate, hex>`.
//!
//! The last part lets the agent pin the hub's authority before it says anything, so a token cannot be
//! handed to the wrong hub. The store holds only a hash of the secret (32 random bytes, so a plain
//! SHA-256 is enough), compared in constant time. Everything here is pure; the store applies it inside
//! one transaction.

use crate::codes;
use crate::error::{Failure, Result};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// Longest token accepted, in bytes; ours have 146.
const MAX_TOKEN: usize = 512;
/// Longest site name, note or request ID, in bytes.
pub const MAX_TEXT: usize = 128;
/// Most uses of one token.
pub const MAX_USES: u32 = 100_000;
/// Longest life of a token, in seconds: 90 days.
pub const MAX_TTL_SECONDS: u64 = 90 * 86_400;

/// A token as the store keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRecord {
    /// Public part.
    pub id: String,
    /// SHA-256 of the secret's text, hex.
    pub secret_sha256: String,
    /// The customer's site that hosts enrolled with it belong to.
    pub site: String,
    /// The vendor's own words.
    pub note: String,
    /// After this, refused.
    pub expires: Timestamp,
    /// Enrolments left.
    pub uses_left: u32,
}

/// A token as an agent presents it. Does not print its secret.
pub struct Presented {
    /// Public part.
    pub id: String,
    secret: zeroize::Zeroizing<String>,
}

impl std::fmt::Debug for Presented {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "token {}", self.id)
    }
}

/// Makes a token; returns the record and the text, which exists nowhere else.
pub fn create(
    site: &str,
    note: &str,
    uses: u32,
    ttl_seconds: u64,
    now: Timestamp,
    ca_der: &[u8],
) -> Result<(TokenRecord, String)> {
    if !is_site(site) {
        return Err(Failure::new(
            codes::ARGUMENT,
            format!(
                "`{}` cannot be a site: 1 to {MAX_TEXT} of a-z, 0-9, `-`, `_` and `.`",
                site.escape_debug()
            ),
        ));
    }
    if note.len() > MAX_TEXT
        || !(1..=MAX_USES).contains(&uses)
        || !(1..=MAX_TTL_SECONDS).contains(&ttl_seconds)
    {
        return Err(Failure::new(
            codes::ARGUMENT,
            format!(
                "a token has 1 to {MAX_USES} uses, lives at most 90 days and has a note of at most {MAX_TEXT} bytes"
            ),
        ));
    }
    let expires = now
        .checked_add(jiff::SignedDuration::from_secs(i64::try_from(ttl_seconds).unwrap_or(i64::MAX)))
        .map_err(|error| Failure::new(codes::ARGUMENT, "the token would live too long").because(error))?;
    let (mut id, mut secret) = ([0u8; 6], zeroize::Zeroizing::new([0u8; 32]));
    rand::fill(&mut id);
    rand::fill(&mut secret[..]);
    let (id, secret) = (hex::encode(id), zeroize::Zeroizing::new(hex::encode(*secret)));
    let text = format!("kt1.{id}.{}.{}", *secret, hex::encode(Sha256::digest(ca_der)));
    let record = TokenRecord {
        secret_sha256: hash(&secret),
        id,
        site: site.to_owned(),
        note: note.to_owned(),
        expires,
        uses_left: uses,
    };
    Ok((record, text))
}

/// Whether `site` is a name that is safe in certificates, tables and paths.
pub fn is_site(site: &str) -> bool {
    !site.is_empty()
        && site.len() <= MAX_TEXT
        && site.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b))
}

/// Takes a token's text apart.
pub fn parse(text: &str) -> Result<Presented> {
    let malformed = || Failure::new(codes::TOKEN_FORM, "the enrolment token is malformed");
    if text.len() > MAX_TOKEN {
        return Err(malformed());
    }
    let parts: Vec<&str> = text.trim().split('.').collect();
    let is_hex =
        |part: &str, length: usize| part.len() == length && part.bytes().all(|b| b.is_ascii_hexdigit());
    match parts[..] {
        ["kt1", id, secret, ca] if is_hex(id, 12) && is_hex(secret, 64) && is_hex(ca, 64) => {
            Ok(Presented { id: id.to_owned(), secret: zeroize::Zeroizing::new(secret.to_owned()) })
        }
        _ => Err(malformed()),
    }
}

/// Whether the presented secret is the record's. An unknown token is compared too, so that time does not
/// tell a wrong ID from a wrong secret.
pub fn check_secret(record: Option<&TokenRecord>, presented: &Presented) -> Result<()> {
    let given = hash(&presented.secret);
    let wanted = record.map_or("", |record| record.secret_sha256.as_str());
    if given.as_bytes().ct_eq(wanted.as_bytes()).into() {
        Ok(())
    } else {
        Err(Failure::new(
            codes::TOKEN_UNKNOWN,
            format!("the hub knows no token {} with this secret", presented.id),
        ))
    }
}

/// Whether a token whose secret was right may enrol one more host.
pub fn check_usable(record: &TokenRecord, now: Timestamp) -> Result<()> {
    if now >= record.expires {
        return Err(Failure::new(
            codes::TOKEN_EXPIRED,
            format!("token {} expired at {}", record.id, record.expires),
        ));
    }
    if record.uses_left == 0 {
        return Err(Failure::new(codes::TOKEN_USED, format!("token {} has no uses left", record.id)));
    }
    Ok(())
}

fn hash(secret: &str) -> String {
    hex::encode(Sha256::digest(secret.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-11-21T00:00:00Z".parse().unwrap()
    }

    #[test]
    fn a_token_is_accepted_by_its_own_record_only() {
        let (record, text) = create("acme", "", 1, 60, now(), b"ca").unwrap();
        let (other, _) = create("acme", "", 1, 60, now(), b"ca").unwrap();
        let presented = parse(&text).unwrap();
        assert!(check_secret(Some(&record), &presented).is_ok());
        assert_eq!(check_secret(Some(&other), &presented).unwrap_err().code, codes::TOKEN_UNKNOWN);
        assert_eq!(check_secret(None, &presented).unwrap_err().code, codes::TOKEN_UNKNOWN);
    }

    #[test]
    fn neither_record_nor_debug_output_holds_the_secret() {
        let (record, text) = create("acme", "", 1, 60, now(), b"ca").unwrap();
        let secret = text.split('.').nth(2).unwrap().to_owned();
        assert!(!serde_json::to_string(&record).unwrap().contains(&secret));
        assert!(!format!("{:?}", parse(&text).unwrap()).contains(&secret));
    }

    #[test]
    fn expiry_and_uses_are_checked_at_their_edges() {
        let (record, _) = create("acme", "", 1, 60, now(), b"ca").unwrap();
        let at = |seconds| now() + jiff::SignedDuration::from_secs(seconds);
        let cases = [(1, 59, None), (1, 60, Some(codes::TOKEN_EXPIRED)), (0, 0, Some(codes::TOKEN_USED))];
        for (uses_left, seconds, expected) in cases {
            let record = TokenRecord { uses_left, ..record.clone() };
            assert_eq!(
                check_usable(&record, at(seconds)).err().map(|e| e.code),
                expected,
                "{uses_left} {seconds}"
            );
        }
    }

    #[test]
    fn malformed_tokens_are_refused_without_echoing_them() {
        let good = create("acme", "", 1, 60, now(), b"ca").unwrap().1;
        let long = "k".repeat(10_000);
        for bad in [
            "",
            "kt1",
            "kt2.a.b.c",
            &good[..good.len() - 1],
            &format!("{good}.x"),
            &long,
            &good.replace("kt1", "KT1"),
        ] {
            let error = parse(bad).unwrap_err();
            assert_eq!(error.code, codes::TOKEN_FORM);
            assert!(bad.is_empty() || !error.to_string().contains(bad));
        }
    }

    #[test]
    fn sites_uses_and_lives_out_of_bounds_are_refused() {
        let (long, ttl) = ("s".repeat(129), MAX_TTL_SECONDS);
        for (site, uses, ttl) in [
            ("", 1, 1),
            ("A", 1, 1),
            ("a/b", 1, 1),
            (&long, 1, 1),
            ("a", 0, 1),
            ("a", 1, 0),
            ("a", 1, ttl + 1),
        ] {
            assert_eq!(
                create(site, "", uses, ttl, now(), b"").unwrap_err().code,
                codes::ARGUMENT,
                "{site} {uses} {ttl}"
            );
        }
    }
}
