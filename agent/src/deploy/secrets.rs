//! Secret parameters of a deployment: given or made on this host, kept in files of their own, mode 0600, outside the
//! store, so that no record, report or log can come to hold one.
//!
//! A value is never replaced: one that is given anew is another file, and a generation's parameters hold a reference to its
//! own. So a release that is refused or rolled back leaves the running one with the secrets it had.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use kedge_bundle::parameters::Secret;
use rand::RngExt;
use rand::distr::Alphanumeric;

use crate::problem::Problem;
use crate::store::{state_folder, write_file};

/// Largest secret that is read back, bytes.
const MAX_BYTES: u64 = 64 * 1024;

/// In parameters: what follows names a file.
const REFERENCE: &str = "@secret:";
/// In file names: made on this host.
const MADE: &str = "made";

/// The secrets of one deployment.
#[derive(Debug, Clone)]
pub struct Secrets {
    folder: PathBuf,
}

impl Secrets {
    /// Those below `folder`.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn open(folder: PathBuf) -> Result<Self, Problem> {
        private_folder(&folder)?;
        Ok(Self { folder })
    }

    /// All that are there.
    ///
    /// # Errors
    /// When one cannot be read.
    pub fn all(&self) -> Result<BTreeMap<String, Secret>, Problem> {
        let failed = |e: std::io::Error| state_folder(&self.folder, &e);
        let mut secrets = BTreeMap::new();
        for entry in fs::read_dir(&self.folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.ends_with(".tmp") || !entry.file_type().map_err(failed)?.is_file() {
                continue;
            }
            if entry.metadata().map_err(failed)?.len() <= MAX_BYTES {
                secrets.insert(name, Secret::new(fs::read_to_string(entry.path()).map_err(failed)?));
            }
        }
        Ok(secrets)
    }

    /// Keeps a value and gives the reference that parameters hold in its place.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn keep_new(&self, name: &str, secret: &Secret) -> Result<String, Problem> {
        let id = format!("{:016x}", rand::random::<u64>());
        self.keep(&format!("{name}.{id}"), secret)?;
        Ok(format!("{REFERENCE}{id}"))
    }

    /// The value that a parameter's text refers to; `None` when it is no reference.
    ///
    /// # Errors
    /// When the value is gone.
    pub fn referred(&self, name: &str, text: &str) -> Result<Option<Secret>, Problem> {
        let Some(id) = text.strip_prefix(REFERENCE) else { return Ok(None) };
        self.read(&format!("{name}.{id}")).map(Some)
    }

    /// The value that was made for this parameter on this host, if one was.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn made(&self, name: &str) -> Result<Option<Secret>, Problem> {
        let file = format!("{name}.{MADE}");
        if self.folder.join(&file).exists() { self.read(&file).map(Some) } else { Ok(None) }
    }

    /// Keeps a value that was made on this host. It is made once.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn keep_made(&self, name: &str, secret: &Secret) -> Result<(), Problem> {
        self.keep(&format!("{name}.{MADE}"), secret)
    }

    fn read(&self, file: &str) -> Result<Secret, Problem> {
        let path = self.folder.join(file);
        fs::read_to_string(&path).map(Secret::new).map_err(|e| state_folder(&path, &e))
    }

    /// Keeps a value. `name` is a parameter's, which has only letters, digits and `_`.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn keep(&self, name: &str, secret: &Secret) -> Result<(), Problem> {
        write_file(&self.folder.join(name), secret.reveal().as_bytes(), 0o600)
    }
}

/// A new secret of so many letters and digits.
pub fn generate(length: u32) -> Secret {
    let length = usize::try_from(length).unwrap_or(usize::MAX).min(4096);
    Secret::new(rand::rng().sample_iter(Alphanumeric).take(length).map(char::from).collect())
}

/// A folder that only its owner may enter.
///
/// # Errors
/// When it cannot be made.
pub fn private_folder(folder: &Path) -> Result<(), Problem> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|e| state_folder(folder, &e))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_secret_is_kept_for_its_owner_only_and_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let secrets = Secrets::open(folder.path().join("secrets")).unwrap();
        secrets.keep("DB_PASSWORD", &Secret::new("hunter2".into())).unwrap();
        assert_eq!(secrets.all().unwrap()["DB_PASSWORD"].reveal(), "hunter2");
        let mode = |p: &Path| fs::metadata(p).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&folder.path().join("secrets/DB_PASSWORD")), 0o600);
        assert_eq!(mode(&folder.path().join("secrets")), 0o700);
    }

    #[test]
    fn a_new_value_leaves_the_old_one_to_those_who_refer_to_it() {
        let folder = tempfile::tempdir().unwrap();
        let secrets = Secrets::open(folder.path().to_owned()).unwrap();
        let old = secrets.keep_new("PW", &Secret::new("old".into())).unwrap();
        let new = secrets.keep_new("PW", &Secret::new("new".into())).unwrap();
        assert!(!old.contains("old"));
        assert_eq!(secrets.referred("PW", &old).unwrap().unwrap().reveal(), "old");
        assert_eq!(secrets.referred("PW", &new).unwrap().unwrap().reveal(), "new");
        assert_eq!(secrets.referred("PW", "plain").unwrap(), None);
        assert_eq!(secrets.made("PW").unwrap(), None);
    }

    #[test]
    fn generated_secrets_have_their_length_and_differ() {
        let (a, b) = (generate(24), generate(24));
        assert_eq!(a.reveal().len(), 24);
        assert_ne!(a.reveal(), b.reveal());
    }
}
