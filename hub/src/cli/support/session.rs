//! A session's folder on the engineer's machine: what was asked for, the session's key, and the socket of whoever holds it.

use crate::codes;
use crate::error::{Failure, Result};
use clap::Args;
use kedge_bundle::support::tunnel::PrivateKey;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Where sessions are.
#[derive(Debug, Clone, Args)]
pub(crate) struct Sessions {
    /// Folder of the sessions [default: kedge/support below $XDG_DATA_HOME or ~/.local/share]
    #[arg(long = "sessions", env = "KEDGE_SUPPORT_DIR", value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// What is known of a session.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Facts {
    pub(super) grant_id: String,
    pub(super) host: String,
    pub(super) host_key: String,
    pub(super) data: PathBuf,
    pub(super) ticket: String,
    pub(super) scopes: Vec<String>,
    pub(super) targets: Vec<String>,
    pub(super) issued: String,
    pub(super) not_after: String,
}

/// A session.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) facts: Facts,
    folder: PathBuf,
}

impl Sessions {
    fn folder(&self) -> Result<PathBuf> {
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let own = || {
            let base = set("XDG_DATA_HOME").or_else(|| Some(set("HOME")?.join(".local/share")));
            base.map(|base| base.join("kedge/support"))
        };
        let none = || Failure::new(codes::ARGUMENT, "there is no home folder: name one with --sessions");
        self.dir.clone().or_else(own).ok_or_else(none)
    }

    /// Makes a session's folder.
    pub(super) fn create(&self, facts: Facts, key: &PrivateKey, request: &[u8]) -> Result<Session> {
        let folder = self.folder()?.join(&facts.grant_id);
        let failed = |error: std::io::Error| {
            Failure::new(codes::OUTPUT, format!("{} cannot be written", folder.display())).because(error)
        };
        let make = || -> std::io::Result<()> {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
            write(&folder.join("key"), key.reveal().as_bytes())?;
            write(&folder.join("request.json"), request)?;
            write(&folder.join("session.json"), &serde_json::to_vec(&facts)?)
        };
        make().map_err(failed)?;
        Ok(Session { facts, folder })
    }

    /// All, newest first.
    pub(super) fn all(&self) -> Result<Vec<Session>> {
        let folder = self.folder()?;
        let mut all = Vec::new();
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let folder = entry.path();
            let facts = std::fs::read(folder.join("session.json")).ok();
            if let Some(facts) = facts.and_then(|bytes| serde_json::from_slice(&bytes).ok()) {
                all.push(Session { facts, folder });
            }
        }
        all.sort_by_key(|session: &Session| std::cmp::Reverse(session.facts.issued.clone()));
        Ok(all)
    }

    /// The one whose name begins so; the newest where none is named.
    pub(super) fn find(&self, name: Option<&str>) -> Result<Session> {
        let wanted = name.unwrap_or_default();
        let mut found = self.all()?.into_iter().filter(|session| session.facts.grant_id.starts_with(wanted));
        let unknown =
            |why: &str| Failure::new(codes::SUPPORT_UNKNOWN, format!("{why} `{}`", wanted.escape_debug()));
        let first = found.next().ok_or_else(|| unknown("there is no session"))?;
        if name.is_some() && found.next().is_some() {
            return Err(unknown("there is more than one session"));
        }
        Ok(first)
    }

    /// Compares a host's key with the one it had when it was first seen, as ssh does, or with one that the customer has told.
    pub(super) fn check_host(&self, host: &str, key: &str, told: Option<&str>) -> Result<()> {
        let path = self.folder()?.join("known-hosts.json");
        let mut known: BTreeMap<String, String> = std::fs::read(&path)
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default();
        let differs = |from: &str, expected: &str| {
            let why = format!("host {} shows the key {key}; {from} {expected}", host.escape_debug());
            Failure::new(codes::SUPPORT_HOST_KEY, why)
        };
        if let Some(told) = told.filter(|told| *told != key) {
            return Err(differs("you were told", told));
        }
        match known.get(host) {
            Some(before) if before == key => return Ok(()),
            Some(before) if told.is_none() => {
                return Err(differs(&format!("{} has", path.display()), before));
            }
            _ => {}
        }
        known.insert(host.to_owned(), key.to_owned());
        let write = || -> std::io::Result<()> {
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(self.folder().unwrap_or_default())?;
            let aside = path.with_extension("tmp");
            std::fs::write(&aside, serde_json::to_vec_pretty(&known)?)?;
            std::fs::rename(&aside, &path)
        };
        write().map_err(|e| {
            Failure::new(codes::OUTPUT, format!("{} cannot be written", path.display())).because(e)
        })
    }
}

impl Session {
    /// The signed request.
    pub(super) fn request(&self) -> Result<Vec<u8>> {
        super::super::input::read(&self.folder.join("request.json"), kedge_bundle::support::MAX_FILE as u64)
    }

    /// The session's key.
    pub(super) fn key(&self) -> Result<PrivateKey> {
        let path = self.folder.join("key");
        let text = Zeroizing::new(super::super::input::read_text(&path, 1024)?);
        PrivateKey::from_hex(&text).map_err(|error| {
            Failure::new(codes::INPUT, format!("{} is damaged", path.display())).because(error)
        })
    }

    /// The socket of whoever holds it.
    pub(super) fn socket(&self) -> PathBuf {
        self.folder.join("s")
    }

    /// The log of whoever holds it in the background.
    pub(super) fn log(&self) -> PathBuf {
        self.folder.join("log")
    }

    /// The folder of all sessions.
    pub(super) fn parent(&self) -> &Path {
        self.folder.parent().unwrap_or(Path::new("."))
    }

    /// Whether somebody holds it.
    pub(super) fn is_held(&self) -> bool {
        std::os::unix::net::UnixStream::connect(self.socket()).is_ok()
    }
}

/// For its owner alone; one that is there is not overwritten.
fn write(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_that_shows_another_key_is_not_spoken_to() {
        let folder = tempfile::tempdir().unwrap();
        let sessions = Sessions { dir: Some(folder.path().to_owned()) };
        assert!(sessions.check_host("h", "a", Some("b")).is_err());
        sessions.check_host("h", "a", None).unwrap();
        sessions.check_host("h", "a", None).unwrap();
        assert_eq!(sessions.check_host("h", "b", None).unwrap_err().code, codes::SUPPORT_HOST_KEY);
        sessions.check_host("h", "b", Some("b")).unwrap();
        assert!(sessions.check_host("h", "a", None).is_err(), "what the customer told counts from then on");
    }

    #[test]
    fn sessions_are_found_by_the_beginning_of_their_name_and_the_key_is_private() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let sessions = Sessions { dir: Some(folder.path().to_owned()) };
        let (key, _) = PrivateKey::generate().unwrap();
        for (id, issued) in [("ab12", "2026-01-01"), ("ab34", "2026-01-03"), ("cd", "2026-01-02")] {
            let facts = Facts {
                grant_id: id.into(),
                host: "h".into(),
                host_key: "k".into(),
                data: "/d".into(),
                ticket: "T".into(),
                scopes: Vec::new(),
                targets: Vec::new(),
                issued: issued.into(),
                not_after: String::new(),
            };
            sessions.create(facts, &key, b"{}").unwrap();
        }
        assert_eq!(sessions.find(None).unwrap().facts.grant_id, "ab34");
        assert_eq!(sessions.find(Some("c")).unwrap().facts.grant_id, "cd");
        assert!(sessions.find(Some("ab")).is_err() && sessions.find(Some("x")).is_err());
        let meta = std::fs::metadata(folder.path().join("cd/key")).unwrap();
        assert_eq!(meta.permissions().mode() & 0o777, 0o600);
    }
}
