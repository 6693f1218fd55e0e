//! Enrolment tokens: `kt1.<id>.<secret>.<SHA-256 of the hub's authority, hex>`.
//!
//! The last part pins the hub before a word is said to it; the secret is the hub's to check.

use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::codes;
use crate::problem::Problem;

/// Longest token accepted, bytes; ours have 146.
const MAX_TOKEN: usize = 512;

/// A token. Does not print its secret.
pub(super) struct Token {
    id: String,
    text: Zeroizing<String>,
    ca_sha256: [u8; 32],
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Token({})", self.id)
    }
}

impl Token {
    /// Takes a token apart.
    ///
    /// # Errors
    /// [`codes::BAD_TOKEN`], with nothing of the token in it.
    pub(super) fn parse(text: &str) -> Result<Self, Problem> {
        let text = text.trim();
        let bad = |why: &str| Problem::new(&codes::BAD_TOKEN, format!("the enrolment token {why}"));
        if text.len() > MAX_TOKEN {
            return Err(bad("is too long"));
        }
        let plain = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric());
        let parts: Vec<&str> = text.split('.').collect();
        let [version, id, secret, ca] = parts[..] else {
            return Err(bad("does not have its four parts; it may have been cut"));
        };
        if version != "kt1" {
            return Err(bad("is of a kind that this version does not know"));
        }
        if !plain(id) || !plain(secret) {
            return Err(bad("holds characters that no token has"));
        }
        let mut ca_sha256 = [0; 32];
        hex::decode_to_slice(ca, &mut ca_sha256).map_err(|_| bad("is cut or altered at its end"))?;
        Ok(Self { id: id.to_owned(), text: Zeroizing::new(text.to_owned()), ca_sha256 })
    }

    /// All of it, for the hub alone.
    pub(super) fn reveal(&self) -> &str {
        &self.text
    }

    /// SHA-256 of the authority's certificate that the hub must show.
    pub(super) fn ca_sha256(&self) -> [u8; 32] {
        self.ca_sha256
    }

    /// A name for enrolling the host with this key by this token, so that asking again enrols once.
    pub(super) fn request_id(&self, key_sha256: &str) -> String {
        hex::encode(Sha256::digest(format!("{}.{key_sha256}", self.id)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ca() -> String {
        "ab".repeat(32)
    }

    #[test]
    fn a_token_is_taken_apart() {
        let token = Token::parse(&format!("  kt1.0a1b.5ec2e7.{}\n", ca())).unwrap();
        assert_eq!((token.id.as_str(), token.ca_sha256()), ("0a1b", [0xab; 32]));
        assert!(token.reveal().starts_with("kt1.") && token.reveal().ends_with("ab"));
        assert!(!format!("{token:?}").contains("5ec2e7"));
    }

    #[test]
    fn what_is_no_token_is_refused_without_being_quoted() {
        let bad = [
            String::new(),
            "kt1".into(),
            format!("kt2.a.5ec2e7.{}", ca()),
            format!("kt1.a.5ec2e7.{}", &ca()[1..]),
            format!("kt1.a.5ec2e7.{}00", ca()),
            format!("kt1.a.5ec2e7.{}", "zz".repeat(32)),
            format!("kt1.a.5ec2e7.{}.x", ca()),
            format!("kt1..5ec2e7.{}", ca()),
            format!("kt1.a.5ec 2e7.{}", ca()),
            format!("kt1.a.{}.{}", "5ec2e7".repeat(100), ca()),
        ];
        for text in bad {
            let problem = Token::parse(&text).unwrap_err();
            assert_eq!(problem.code.id, codes::BAD_TOKEN.id, "{text}");
            assert!(!problem.message.contains("5ec2e7"), "{problem}");
        }
    }

    #[test]
    fn one_key_and_one_token_make_one_request() {
        let token = |id: &str| Token::parse(&format!("kt1.{id}.5ec2e7.{}", ca())).unwrap();
        assert_eq!(token("a").request_id("k"), token("a").request_id("k"));
        assert_ne!(token("a").request_id("k"), token("a").request_id("l"));
        assert_ne!(token("a").request_id("k"), token("b").request_id("k"));
    }
}
