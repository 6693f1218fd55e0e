//! `sha256:<64 lower-case hex digits>`, the only name that content has in a bundle.
//!
//! One algorithm, one spelling: an unknown algorithm or an upper-case digit is refused, so that two
//! different texts never mean the same digest.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

/// A SHA-256 digest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

/// Why a text is not a digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseDigestError {
    /// Not `sha256:`.
    #[error("unknown hash algorithm {0:?}, only sha256 is used here")]
    Algorithm(String),
    /// Not 64 lower-case hexadecimal digits.
    #[error("not 64 lower-case hexadecimal digits")]
    Hex,
}

impl Digest {
    /// The digest of some bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// A digest from its 32 raw bytes, for instance a finished hasher's.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 raw bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The digits alone, without the algorithm.
    #[must_use]
    pub fn hex(&self) -> String {
        hex::encode(self.0)
    }

    /// Reads the digits alone.
    ///
    /// # Errors
    /// When they are not exactly 64 lower-case hexadecimal digits.
    pub fn from_hex(text: &str) -> Result<Self, ParseDigestError> {
        if text.len() != 64 || text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(ParseDigestError::Hex);
        }
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| ParseDigestError::Hex)?;
        Ok(Self(bytes))
    }
}

impl FromStr for Digest {
    type Err = ParseDigestError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once(':') {
            Some(("sha256", digits)) => Self::from_hex(digits),
            Some((other, _)) => Err(ParseDigestError::Algorithm(other.chars().take(32).collect())),
            None => Err(ParseDigestError::Algorithm(String::new())),
        }
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_spelling_of_one_algorithm_is_a_digest() {
        let good = Digest::of(b"kedge").to_string();
        assert_eq!(good.parse::<Digest>().unwrap().to_string(), good);
        for bad in [
            good.to_uppercase(),
            format!("sha256:{}", good[7..].to_uppercase()),
            good.replace("sha256:", "sha512:"),
            good.replace("sha256:", ""),
            good[..70].to_owned(),
            format!("{good}0"),
            good.replace("sha256:", "sha256:../"),
        ] {
            assert!(bad.parse::<Digest>().is_err(), "{bad}");
        }
    }
}
