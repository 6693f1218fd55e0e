//! The host's private key.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use rcgen::{CertificateParams, DnType, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::codes;
use crate::problem::Problem;

/// In the state folder.
const FOLDER: &str = "identity";
const FILE: &str = "host.key";
/// Largest key file that is read, bytes; ours has about 240.
const MAX_FILE: u64 = 16 * 1024;

/// The host's key. Does not print itself.
pub struct HostKey {
    pair: KeyPair,
}

impl std::fmt::Debug for HostKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "HostKey({})", self.public_sha256())
    }
}

impl HostKey {
    /// The key in this state folder; made now if there is none.
    ///
    /// # Errors
    /// [`codes::STATE_FOLDER`] with the path. A key that cannot be read is never replaced.
    pub fn load_or_create(state_dir: &Path) -> Result<Self, Problem> {
        match Self::load(state_dir)? {
            Some(key) => Ok(key),
            None => Self::create(state_dir),
        }
    }

    /// The key in this state folder, if there is one.
    ///
    /// # Errors
    /// [`codes::STATE_FOLDER`] with the path.
    pub fn load(state_dir: &Path) -> Result<Option<Self>, Problem> {
        let path = state_dir.join(FOLDER).join(FILE);
        let failed = |why: String| Problem::new(&codes::STATE_FOLDER, format!("{}: {why}", path.display()));
        let file = match fs::File::open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(failed(e.to_string())),
        };
        let meta = file.metadata().map_err(|e| failed(e.to_string()))?;
        if meta.mode() & 0o077 != 0 {
            tracing::warn!(path = %path.display(), "the host's key could be read by others; its mode is set to 0600");
            file.set_permissions(fs::Permissions::from_mode(0o600)).map_err(|e| failed(e.to_string()))?;
        }
        let mut pem = Zeroizing::new(String::new());
        file.take(MAX_FILE).read_to_string(&mut pem).map_err(|e| failed(e.to_string()))?;
        // The parser's words could quote the file.
        let pair =
            KeyPair::from_pem(&pem).map_err(|_| failed("it does not hold a private key".to_owned()))?;
        Ok(Some(Self { pair }))
    }

    fn create(state_dir: &Path) -> Result<Self, Problem> {
        let folder = state_dir.join(FOLDER);
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)
            .map_err(|e| Problem::new(&codes::INTERNAL, format!("the host's key cannot be made: {e}")))?;
        let pem = Zeroizing::new(pair.serialize_pem());
        write_whole(&folder, pem.as_bytes()).map_err(|e| {
            Problem::new(&codes::STATE_FOLDER, format!("{}: {e}", folder.join(FILE).display()))
        })?;
        Ok(Self { pair })
    }

    /// A certificate request (PKCS#10, DER) that proves possession of the key.
    ///
    /// # Errors
    /// [`codes::INTERNAL`]
    pub fn certificate_request(&self, hostname: &str) -> Result<Vec<u8>, Problem> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, hostname);
        let request = params.serialize_request(&self.pair).map_err(|e| {
            Problem::new(&codes::INTERNAL, format!("the certificate request cannot be made: {e}"))
        })?;
        Ok(request.der().to_vec())
    }

    /// For TLS.
    pub fn private_key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.pair.serialize_der()))
    }

    /// The public key as a certificate's subject key holds it, without its algorithm.
    pub fn public_raw(&self) -> &[u8] {
        self.pair.public_key_raw()
    }

    /// SHA-256 of the public key (its SubjectPublicKeyInfo), hex: a name for the key.
    pub fn public_sha256(&self) -> String {
        hex::encode(Sha256::digest(self.pair.subject_public_key_info()))
    }
}

/// A crash leaves the file as it was or whole; never half a key, never a key that a later start does not see.
fn write_whole(folder: &Path, content: &[u8]) -> std::io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let aside = folder.join("host.key.new");
    match fs::remove_file(&aside) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&aside)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&aside, folder.join(FILE))?;
    fs::File::open(folder)?.sync_all()?;
    // The folder itself may be new as well.
    match folder.parent() {
        Some(parent) => fs::File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_made_once_private_and_found_again() {
        let folder = tempfile::tempdir().unwrap();
        assert!(HostKey::load(folder.path()).unwrap().is_none());
        let made = HostKey::load_or_create(folder.path()).unwrap();
        let found = HostKey::load_or_create(folder.path()).unwrap();
        assert_eq!(made.public_sha256(), found.public_sha256());
        let path = folder.path().join("identity/host.key");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(path.parent().unwrap()).unwrap().mode() & 0o777, 0o700);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_left_by_a_crash_does_not_stop_the_next_start() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("identity")).unwrap();
        fs::write(folder.path().join("identity/host.key.new"), "half").unwrap();
        HostKey::load_or_create(folder.path()).unwrap();
        assert!(HostKey::load(folder.path()).unwrap().is_some());
    }

    #[test]
    fn a_damaged_key_is_told_and_not_replaced_nor_quoted() {
        let folder = tempfile::tempdir().unwrap();
        HostKey::load_or_create(folder.path()).unwrap();
        let path = folder.path().join("identity/host.key");
        fs::write(&path, "hunter2").unwrap();
        let error = HostKey::load_or_create(folder.path()).unwrap_err();
        assert!(error.message.contains("host.key") && !error.message.contains("hunter2"), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "hunter2");
    }

    #[test]
    fn a_key_others_could_read_is_closed() {
        let folder = tempfile::tempdir().unwrap();
        HostKey::load_or_create(folder.path()).unwrap();
        let path = folder.path().join("identity/host.key");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        HostKey::load(folder.path()).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn neither_debug_nor_request_hold_the_private_key() {
        let folder = tempfile::tempdir().unwrap();
        let key = HostKey::load_or_create(folder.path()).unwrap();
        let private = key.pair.serialize_der();
        let secret = &private[36..68];
        let request = key.certificate_request("web-01").unwrap();
        assert!(!request.windows(secret.len()).any(|w| w == secret));
        assert!(private.windows(secret.len()).any(|w| w == secret));
        assert!(!format!("{key:?}").contains(&hex::encode(secret)));
    }
}
