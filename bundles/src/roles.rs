//! The signed documents, one type per role, and the rules that each keeps by itself.
//!
//! Payloads are JSON; unknown fields are accepted so that a newer vendor tool can add some, a newer `format` is
//! not. Numbers stay below 2^53, so that every JSON reader sees the same one and none can be pushed to its end.
//! Times are RFC 3339 in UTC.

use std::collections::BTreeSet;

use ed25519_dalek::VerifyingKey;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;

/// The format of documents that this version writes, and the newest that it reads.
pub const FORMAT: u32 = 1;

/// The largest number in a document: 2^53 - 1.
pub const MAX_NUMBER: u64 = (1 << 53) - 1;

/// The longest life of a [`Fresh`] statement: what an attacker who has the hub and its key can hold hosts back for.
pub const MAX_FRESH_LIFE: jiff::SignedDuration = jiff::SignedDuration::from_hours(7 * 24);

/// Who may say what. Each role has its own keys and its own payload type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Says who holds the other roles. Offline, t-of-n.
    Root,
    /// Says what a release is.
    Release,
    /// Says, for some days, which releases are the newest. Online.
    Fresh,
    /// Says what a customer may use.
    Licence,
    /// Asks for support sessions.
    Support,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 5] = [Self::Root, Self::Release, Self::Fresh, Self::Licence, Self::Support];

    /// Lower-case name, also the field in a root document.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Release => "release",
            Self::Fresh => "fresh",
            Self::Licence => "licence",
            Self::Support => "support",
        }
    }

    /// The DSSE payload type: a document of one role can never be shown as another's.
    #[must_use]
    pub const fn payload_type(self) -> &'static str {
        match self {
            Self::Root => "application/vnd.kedge.root.v1+json",
            Self::Release => "application/vnd.kedge.release.v1+json",
            Self::Fresh => "application/vnd.kedge.fresh.v1+json",
            Self::Licence => "application/vnd.kedge.licence.v1+json",
            Self::Support => "application/vnd.kedge.support.v1+json",
        }
    }
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// A public key as a root document lists it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublicKey {
    /// Always `ed25519`.
    pub scheme: String,
    /// The 32 raw bytes, in hexadecimal.
    pub public: String,
    /// Whose key it is, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

impl PublicKey {
    /// Describes a key.
    #[must_use]
    pub fn new(key: &VerifyingKey, name: Option<String>) -> Self {
        Self { scheme: "ed25519".into(), public: hex::encode(key.as_bytes()), name }
    }

    /// The key itself.
    ///
    /// # Errors
    /// A reason when the scheme is unknown, the bytes are no point of the curve, or the point is of small order
    /// (such a key would accept signatures that nobody made).
    pub fn key(&self) -> Result<VerifyingKey, String> {
        if self.scheme != "ed25519" {
            return Err(format!(
                "unknown signature scheme {:?}",
                self.scheme.chars().take(32).collect::<String>()
            ));
        }
        let bytes =
            *Digest::from_hex(&self.public).map_err(|error| format!("public key: {error}"))?.as_bytes();
        let key = VerifyingKey::from_bytes(&bytes)
            .map_err(|_| "public key: not a point of the curve".to_owned())?;
        if key.is_weak() {
            return Err("public key: weak".into());
        }
        Ok(key)
    }

    /// Hexadecimal SHA-256 of the raw key: what `keyid` in an envelope says.
    #[must_use]
    pub fn id(&self) -> String {
        hex::decode(&self.public).map(|raw| Digest::of(&raw).hex()).unwrap_or_default()
    }
}

/// The keys of one role and how many of them must sign.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleKeys {
    /// At least `threshold` different ones.
    pub keys: Vec<PublicKey>,
    /// At least 1.
    pub threshold: u32,
}

/// The keys of every role. All five must be there: leaving one out is no way to be rid of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "each field is the role of that name")]
pub struct Roles {
    pub root: RoleKeys,
    pub release: RoleKeys,
    pub fresh: RoleKeys,
    pub licence: RoleKeys,
    pub support: RoleKeys,
}

/// The root document: who may say what. TUF's `root.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Root {
    /// [`FORMAT`].
    pub format: u32,
    /// Counts up by one with each root document, from 1.
    pub version: u64,
    /// Never falls. When it rises, counters that were kept under a lower one start again:
    /// the way back after an attacker with a release key has used up the sequence numbers.
    pub epoch: u64,
    /// The vendor's name, for people.
    pub vendor: String,
    /// When it was made.
    #[serde(with = "utc")]
    pub issued: Timestamp,
    /// When it stops being a basis for installing.
    #[serde(with = "utc")]
    pub expires: Timestamp,
    /// Who may say what.
    pub roles: Roles,
}

impl Root {
    /// The keys of one role.
    #[must_use]
    pub const fn role(&self, role: Role) -> &RoleKeys {
        match role {
            Role::Root => &self.roles.root,
            Role::Release => &self.roles.release,
            Role::Fresh => &self.roles.fresh,
            Role::Licence => &self.roles.licence,
            Role::Support => &self.roles.support,
        }
    }

    /// The same, to be changed in a ceremony.
    #[cfg(any(test, feature = "build"))]
    pub(crate) const fn role_mut(&mut self, role: Role) -> &mut RoleKeys {
        match role {
            Role::Root => &mut self.roles.root,
            Role::Release => &mut self.roles.release,
            Role::Fresh => &mut self.roles.fresh,
            Role::Licence => &mut self.roles.licence,
            Role::Support => &mut self.roles.support,
        }
    }

    /// Checks the rules that a root document keeps by itself.
    ///
    /// # Errors
    /// The rule that is broken.
    pub fn check(&self) -> Result<(), String> {
        known_format(self.format)?;
        text("vendor", &self.vendor, 128)?;
        number("version", self.version, 1)?;
        number("epoch", self.epoch, 0)?;
        period(self.issued, self.expires)?;
        for role in Role::ALL {
            let RoleKeys { keys, threshold } = self.role(role);
            if keys.len() > crate::envelope::MAX_SIGNATURES {
                return Err(format!("role {role}: too many keys"));
            }
            let mut seen = BTreeSet::new();
            for key in keys {
                key.key().map_err(|reason| format!("role {role}: {reason}"))?;
                if !seen.insert(&key.public) {
                    return Err(format!("role {role}: the same key is there twice"));
                }
            }
            if *threshold == 0 || *threshold as usize > keys.len() {
                return Err(format!("role {role}: a threshold of {threshold} with {} keys", keys.len()));
            }
        }
        Ok(())
    }
}

/// For which sites a release is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Audience {
    /// Every site.
    All,
    /// These, by name.
    Sites(Vec<String>),
}

/// The root chain that a release travels with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootChain {
    /// The version of the last one.
    pub version: u64,
    /// Digest of each envelope, from version 1.
    pub digests: Vec<Digest>,
}

/// Digest and size of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sized {
    /// Of its bytes.
    pub digest: Digest,
    /// Bytes.
    pub size: u64,
}

/// The release document: everything about one release in one place, so that nothing can be mixed and matched.
/// It stands for TUF's targets and snapshot at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// [`FORMAT`].
    pub format: u32,
    /// What is sold.
    pub product: String,
    /// The vendor's own version, for people; order comes from `seq` alone.
    pub version: String,
    /// A line of releases.
    pub stream: String,
    /// Rises with every release of a stream.
    pub seq: u64,
    /// Nothing below this may be installed or gone back to once this release was accepted.
    pub min_seq: u64,
    /// For whom.
    pub audience: Audience,
    /// When it was signed.
    #[serde(with = "utc")]
    pub issued: Timestamp,
    /// When it can no longer be installed.
    #[serde(with = "utc")]
    pub expires: Timestamp,
    /// The root documents it travels with.
    pub root: RootChain,
    /// `index.json`.
    pub index: Sized,
    /// `oci-layout`.
    pub oci_layout: Sized,
    /// `manifest.json`.
    pub manifest: Sized,
    /// Bytes of all blobs, as stored in the bundle, each counted once.
    pub content_bytes: u64,
    /// Bytes of all layers once unpacked, each counted once.
    pub unpacked_bytes: u64,
    /// Release notes, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notes: Option<String>,
}

impl Release {
    /// Checks the rules that a release keeps by itself.
    ///
    /// # Errors
    /// The rule that is broken.
    pub fn check(&self) -> Result<(), String> {
        known_format(self.format)?;
        name("product", &self.product)?;
        name("stream", &self.stream)?;
        text("version", &self.version, 64)?;
        number("seq", self.seq, 1)?;
        number("min_seq", self.min_seq, 0)?;
        number("content_bytes", self.content_bytes, 0)?;
        number("unpacked_bytes", self.unpacked_bytes, 0)?;
        if self.min_seq > self.seq {
            return Err(format!("min_seq {} is above seq {}", self.min_seq, self.seq));
        }
        if self.root.version != self.root.digests.len() as u64 {
            return Err("root: not one digest per version".into());
        }
        if let Audience::Sites(sites) = &self.audience {
            sites.iter().try_for_each(|site| text("site", site, 128))?;
        }
        if self.notes.as_ref().is_some_and(|notes| notes.len() > 64 << 10) {
            return Err("notes: more than 64 KiB".into());
        }
        period(self.issued, self.expires)
    }
}

/// One line of a [`Fresh`] statement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Newest {
    /// Product.
    pub product: String,
    /// Stream.
    pub stream: String,
    /// Its newest sequence number.
    pub seq: u64,
    /// The digest of the release document (its payload) with that number.
    pub release: Digest,
}

/// The hub's short-lived statement of what is newest: TUF's timestamp.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fresh {
    /// [`FORMAT`].
    pub format: u32,
    /// When it was made; never falls from one statement to the next.
    #[serde(with = "utc")]
    pub issued: Timestamp,
    /// Some days later, at most [`MAX_FRESH_LIFE`].
    #[serde(with = "utc")]
    pub expires: Timestamp,
    /// One line per product and stream.
    pub streams: Vec<Newest>,
}

impl Fresh {
    /// Checks the rules that a statement keeps by itself.
    ///
    /// # Errors
    /// The rule that is broken.
    pub fn check(&self) -> Result<(), String> {
        known_format(self.format)?;
        let mut seen = BTreeSet::new();
        for line in &self.streams {
            name("product", &line.product)?;
            name("stream", &line.stream)?;
            number("seq", line.seq, 1)?;
            if !seen.insert((&line.product, &line.stream)) {
                return Err(format!("{} {} is listed twice", line.product, line.stream));
            }
        }
        period(self.issued, self.expires)?;
        if self.expires.duration_since(self.issued) > MAX_FRESH_LIFE {
            return Err("a statement that lives longer than 7 days".into());
        }
        Ok(())
    }

    /// The line of one stream.
    #[must_use]
    pub fn newest(&self, product: &str, stream: &str) -> Option<&Newest> {
        self.streams.iter().find(|line| line.product == product && line.stream == stream)
    }
}

/// A product's or stream's name: lower-case letters, digits, `.`, `_` and `-`, at most 63, starting with a letter or digit.
///
/// # Errors
/// A sentence naming `field`.
pub fn name(field: &str, value: &str) -> Result<(), String> {
    let ok = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let first = value.bytes().next().is_some_and(ok);
    if first && value.len() <= 63 && value.bytes().all(|byte| ok(byte) || b"._-".contains(&byte)) {
        return Ok(());
    }
    Err(format!("{field}: use 1 to 63 of a-z, 0-9, '.', '_' and '-', starting with a letter or digit"))
}

pub(crate) fn text(field: &str, value: &str, max: usize) -> Result<(), String> {
    if value.is_empty() || value.len() > max || value.chars().any(char::is_control) {
        return Err(format!("{field}: use 1 to {max} bytes without control characters"));
    }
    Ok(())
}

pub(crate) fn number(field: &str, value: u64, min: u64) -> Result<(), String> {
    if value < min || value > MAX_NUMBER {
        return Err(format!("{field}: {value} is not between {min} and {MAX_NUMBER}"));
    }
    Ok(())
}

pub(crate) fn period(issued: Timestamp, expires: Timestamp) -> Result<(), String> {
    if expires <= issued {
        return Err(format!("expires {expires} is not after issued {issued}"));
    }
    Ok(())
}

pub(crate) fn known_format(format: u32) -> Result<(), String> {
    if format != FORMAT {
        return Err(format!("format {format}; this version reads {FORMAT}"));
    }
    Ok(())
}

/// RFC 3339 with `Z`: no other offset, so that a time has one spelling.
pub(crate) mod utc {
    use jiff::Timestamp;
    use serde::{Deserialize, Deserializer, Serializer, de::Error as _};

    pub(crate) fn serialize<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(time)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        if !text.ends_with('Z') || text.len() > 32 {
            return Err(D::Error::custom("a time must be RFC 3339 in UTC, ending in Z"));
        }
        text.parse().map_err(D::Error::custom)
    }
}
