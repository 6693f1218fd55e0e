//! Private keys in files, and the vendor's first set of them.
//!
//! A key is PKCS#8 in PEM, encrypted under a passphrase (PBES2 with scrypt and AES-256-CBC) unless the vendor insists otherwise,
//! readable by its owner alone. It is of version 1, which `openssl` reads too. Passphrases and keys are wiped from memory after use and appear in no error.

use std::fs::{DirBuilder, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use ed25519_dalek::SigningKey;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{DecodePrivateKey as _, EncodePrivateKey as _, KeypairBytes};
use jiff::Timestamp;
use zeroize::Zeroizing;

use crate::codes::{self, Code, Coded};
use crate::digest::Digest;
use crate::envelope::Envelope;
use crate::parameters::Secret;
use crate::roles::{FORMAT, PublicKey, RoleKeys, Roles, Root};
use crate::sign::{self, SignError, Signer};

/// Key files are smaller than this, in bytes.
const MAX_FILE: u64 = 16 << 10;

/// Why a key could not be read, made or written.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file.
    #[error("{path}: {source}", path = .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Encrypted, and no passphrase was given.
    #[error("{}: the key is encrypted and no passphrase was given", .0.display())]
    PassphraseNeeded(PathBuf),
    /// Encrypted under another passphrase.
    #[error("{}: wrong passphrase, or the file is damaged", .0.display())]
    WrongPassphrase(PathBuf),
    /// Something else than a private ed25519 key.
    #[error("{}: not a private ed25519 key in PKCS#8 PEM", .0.display())]
    NotAKey(PathBuf),
    /// A key could not be encrypted.
    #[error("the key could not be encrypted: {0}")]
    Encrypt(String),
    /// A number of keys or a threshold that makes no sense.
    #[error("{0}")]
    Number(String),
    /// The first root could not be signed.
    #[error(transparent)]
    Sign(#[from] SignError),
}

impl Coded for KeyError {
    fn code(&self) -> Code {
        codes::KEY
    }
}

/// A new random key.
#[must_use]
pub fn generate() -> SigningKey {
    let seed = Zeroizing::new(rand::random::<[u8; 32]>());
    SigningKey::from_bytes(&seed)
}

/// A key as PEM, encrypted if there is a passphrase.
///
/// # Errors
/// [`KeyError::Encrypt`].
pub fn to_pem(key: &SigningKey, passphrase: Option<&Secret>) -> Result<Zeroizing<String>, KeyError> {
    let failed = |error: pkcs8::Error| KeyError::Encrypt(error.to_string());
    // Without the public key, which version 2 of PKCS#8 would hold as well: `openssl` reads version 1 only.
    let key = KeypairBytes { secret_key: key.to_bytes(), public_key: None };
    match passphrase {
        None => key.to_pkcs8_pem(LineEnding::LF).map_err(failed),
        Some(passphrase) => key.to_pkcs8_encrypted_pem(passphrase.reveal(), LineEnding::LF).map_err(failed),
    }
}

/// Reads a key file. `passphrase` is asked only if the key is encrypted.
///
/// # Errors
/// [`KeyError`], never with any part of the key.
pub fn read(path: &Path, passphrase: impl FnOnce() -> Option<Secret>) -> Result<SigningKey, KeyError> {
    let file = |source| KeyError::File { path: path.into(), source };
    let mut pem = Zeroizing::new(String::new());
    let opened = std::fs::File::open(path).map_err(file)?;
    opened.take(MAX_FILE).read_to_string(&mut pem).map_err(file)?;
    if pem.contains("BEGIN ENCRYPTED PRIVATE KEY") {
        let passphrase = passphrase().ok_or_else(|| KeyError::PassphraseNeeded(path.into()))?;
        return SigningKey::from_pkcs8_encrypted_pem(&pem, passphrase.reveal())
            .map_err(|_| KeyError::WrongPassphrase(path.into()));
    }
    SigningKey::from_pkcs8_pem(&pem).map_err(|_| KeyError::NotAKey(path.into()))
}

/// Writes a key to a new file, mode 0600; an existing file is left alone.
///
/// # Errors
/// [`KeyError::File`] when it exists or cannot be written, [`KeyError::Encrypt`].
pub fn write_new(path: &Path, key: &SigningKey, passphrase: Option<&Secret>) -> Result<(), KeyError> {
    let pem = to_pem(key, passphrase)?;
    write_new_file(path, pem.as_bytes(), 0o600)
}

fn write_new_file(path: &Path, bytes: &[u8], mode: u32) -> Result<(), KeyError> {
    let file = |source| KeyError::File { path: path.into(), source };
    let mut out = OpenOptions::new().write(true).create_new(true).mode(mode).open(path).map_err(file)?;
    out.write_all(bytes).map_err(file)?;
    out.sync_all().map_err(file)
}

/// What the first set of keys shall be.
#[derive(Debug)]
pub struct Init<'a> {
    /// The vendor's name.
    pub vendor: &'a str,
    /// Number of root keys.
    pub root_keys: u32,
    /// How many of them must sign.
    pub root_threshold: u32,
    /// Now.
    pub issued: Timestamp,
    /// When the root expires.
    pub expires: Timestamp,
    /// `None` leaves the private keys in the clear.
    pub passphrase: Option<&'a Secret>,
}

/// The vendor's files: private keys, and the chain of root documents under `root/`.
#[derive(Debug, Clone)]
pub struct Keyring {
    dir: PathBuf,
}

impl Keyring {
    /// The keyring of a folder.
    #[must_use]
    pub fn at(dir: &Path) -> Self {
        Self { dir: dir.into() }
    }

    /// Makes keys for every role and a first root document signed by its threshold. Nothing that exists is touched.
    ///
    /// # Errors
    /// [`KeyError`]; files made before it stay, since a key that was written once may have been copied.
    pub fn init(dir: &Path, init: &Init<'_>) -> Result<Self, KeyError> {
        let this = Self::at(dir);
        if init.root_threshold == 0 || init.root_threshold > init.root_keys || init.root_keys > 32 {
            let reason = format!("a threshold of {} with {} root keys", init.root_threshold, init.root_keys);
            return Err(KeyError::Number(reason));
        }
        let file = |path: &Path| {
            let path = path.to_owned();
            |source| KeyError::File { path, source }
        };
        let roots = dir.join("root");
        DirBuilder::new().recursive(true).mode(0o700).create(&roots).map_err(file(&roots))?;
        let new = |name: &str| -> Result<(SigningKey, PublicKey), KeyError> {
            let key = generate();
            write_new(&this.key_path(name), &key, init.passphrase)?;
            let public = PublicKey::new(&key.verifying_key(), Some(name.into()));
            Ok((key, public))
        };
        let root_keys = (1..=init.root_keys)
            .map(|number| new(&format!("root-{number}")))
            .collect::<Result<Vec<_>, _>>()?;
        let single = |name| Ok::<_, KeyError>(RoleKeys { keys: vec![new(name)?.1], threshold: 1 });
        let root = Root {
            format: FORMAT,
            version: 1,
            epoch: 1,
            vendor: init.vendor.into(),
            issued: init.issued,
            expires: init.expires,
            roles: Roles {
                root: RoleKeys {
                    keys: root_keys.iter().map(|(_, public)| public.clone()).collect(),
                    threshold: init.root_threshold,
                },
                release: single("release")?,
                fresh: single("fresh")?,
                licence: single("licence")?,
                support: single("support")?,
            },
        };
        let signers: Vec<&dyn Signer> = root_keys.iter().map(|(key, _)| key as &dyn Signer).collect();
        let envelope = sign::root(&root, &signers)?;
        write_new_file(&this.root_path(1), &envelope, 0o644)?;
        Ok(this)
    }

    /// Path of a private key: `root-1`, `release`, `fresh`, `licence`, `support`.
    #[must_use]
    pub fn key_path(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.pem"))
    }

    /// Path of a root document.
    #[must_use]
    pub fn root_path(&self, version: u64) -> PathBuf {
        self.dir.join("root").join(format!("{version}.json"))
    }

    /// The chain of root envelopes, version 1 first.
    ///
    /// # Errors
    /// [`KeyError::File`] when there is not even the first.
    pub fn roots(&self) -> Result<Vec<Vec<u8>>, KeyError> {
        let mut chain = Vec::new();
        for version in 1.. {
            let path = self.root_path(version);
            match std::fs::read(&path) {
                Ok(bytes) => chain.push(bytes),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound && version > 1 => break,
                Err(source) => return Err(KeyError::File { path, source }),
            }
        }
        Ok(chain)
    }

    /// The fingerprint that customers are given: SHA-256 of the first root's signed bytes.
    ///
    /// # Errors
    /// [`KeyError`] when there is no proper root.
    pub fn fingerprint(&self) -> Result<Digest, KeyError> {
        let path = self.root_path(1);
        let bytes = std::fs::read(&path).map_err(|source| KeyError::File { path, source })?;
        fingerprint(&bytes)
    }
}

/// The fingerprint of a root envelope.
///
/// # Errors
/// [`KeyError::Sign`] when it is not one.
pub fn fingerprint(root: &[u8]) -> Result<Digest, KeyError> {
    let envelope = Envelope::parse(root)
        .map_err(|error| SignError::Envelope { role: crate::roles::Role::Root, reason: error.to_string() })?;
    Ok(Digest::of(&envelope.payload))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::verify::{Trust, roots};

    fn init<'a>(passphrase: Option<&'a Secret>) -> Init<'a> {
        Init {
            vendor: "Example",
            root_keys: 3,
            root_threshold: 2,
            issued: "2026-01-01T00:00:00Z".parse().unwrap(),
            expires: "2027-01-01T00:00:00Z".parse().unwrap(),
            passphrase,
        }
    }

    #[test]
    fn a_first_set_of_keys_makes_a_root_that_verifies_and_is_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("keys");
        let keyring = Keyring::init(&home, &init(None)).unwrap();
        let set = roots(&Trust::pinned(keyring.fingerprint().unwrap()), &keyring.roots().unwrap()).unwrap();
        assert_eq!((set.newest.roles.root.keys.len(), set.newest.roles.root.threshold), (3, 2));
        let release = read(&keyring.key_path("release"), || None).unwrap();
        assert_eq!(set.newest.roles.release.keys[0].key().unwrap(), release.verifying_key());
        let mode = std::fs::metadata(keyring.key_path("release")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(Keyring::init(&home, &init(None)).is_err());
        assert_eq!(read(&keyring.key_path("release"), || None).unwrap(), release);
    }

    #[test]
    fn encrypted_keys_open_with_their_passphrase_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("k.pem");
        let key = generate();
        write_new(&path, &key, Some(&Secret::new("correct horse".into()))).unwrap();
        assert!(matches!(read(&path, || None), Err(KeyError::PassphraseNeeded(_))));
        let wrong = read(&path, || Some(Secret::new("battery".into())));
        assert!(matches!(wrong, Err(KeyError::WrongPassphrase(_))));
        assert_eq!(read(&path, || Some(Secret::new("correct horse".into()))).unwrap(), key);
        std::fs::write(&path, "hello").unwrap();
        assert!(matches!(read(&path, || None), Err(KeyError::NotAKey(_))));
    }

    #[test]
    fn keys_are_those_that_openssl_reads_and_older_ones_still_open() {
        let dir = tempfile::tempdir().unwrap();
        let key = generate();
        let older = dir.path().join("older.pem");
        std::fs::write(&older, key.to_pkcs8_pem(LineEnding::LF).unwrap()).unwrap();
        assert_eq!(read(&older, || None).unwrap(), key);
        if std::process::Command::new("openssl").arg("version").output().is_err() {
            eprintln!("skipped: openssl is not installed");
            return;
        }
        for passphrase in [None, Some(Secret::new("correct horse".into()))] {
            let path = dir.path().join(format!("{}.pem", passphrase.is_some()));
            write_new(&path, &key, passphrase.as_ref()).unwrap();
            let mut openssl = std::process::Command::new("openssl");
            openssl.args(["pkey", "-pubout", "-outform", "DER", "-passin", "pass:correct horse", "-in"]);
            let output = openssl.arg(&path).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            assert!(output.stdout.ends_with(key.verifying_key().as_bytes()), "{path:?}");
        }
    }
}
