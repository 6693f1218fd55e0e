//! A real registry on this machine's loopback: Debian's `docker-registry`.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::lines::Lines;
use super::names;
use super::outcome::{Outcome, run};
use super::process::Guarded;

/// The login of a registry that asks for one.
pub const USER: &str = "ci";
/// Its password.
pub const PASSWORD: &str = "open sesame";
/// The same as the registry knows it, by bcrypt.
const HASH: &str = "$2b$04$k1Iv6L9x8SsKN3muQyq5He2Du61IM1YxUH5lTRsUSrKqVZVrlCV5S";

/// A running registry; killed when this goes out of scope.
pub struct Registry {
    folder: tempfile::TempDir,
    address: String,
    _process: Guarded,
    _log: Lines,
}

impl Registry {
    /// A registry that asks nobody who they are.
    pub fn start() -> Self {
        Self::start_with("")
    }

    /// A registry for [`USER`] alone.
    pub fn start_for_user() -> Self {
        Self::start_with(&format!("{USER}:{HASH}\n"))
    }

    fn start_with(logins: &str) -> Self {
        let folder = names::scratch("kedge-registry-");
        let store = folder.path().join("store");
        let config = folder.path().join("config.yml");
        let file = folder.path().join("htpasswd");
        fs::write(&file, logins).expect("a writable folder");
        let more = format!("auth: {{htpasswd: {{realm: test, path: {}}}}}\n", file.display());
        let more = if logins.is_empty() { "" } else { &more };
        let text = format!(
            "version: 0.1\nlog: {{level: info, accesslog: {{disabled: true}}}}\n\
             storage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '127.0.0.1:0'}}\n{more}",
            store.display()
        );
        fs::write(&config, text).expect("a writable folder");
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(&config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut process = Guarded::spawn(&mut command).expect("the registry starts");
        let log = Lines::follow(process.child().stderr.take().expect("a pipe"));
        let (_, line) = log
            .wait_for(0, |line| line.contains("listening on 127.0.0.1:"))
            .unwrap_or_else(|why| panic!("the registry does not start: {why}"));
        let port: String = line
            .split("listening on 127.0.0.1:")
            .nth(1)
            .map(|rest| rest.chars().take_while(char::is_ascii_digit).collect())
            .expect("a port");
        Self { folder, address: format!("127.0.0.1:{port}"), _process: process, _log: log }
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// A reference in this registry.
    pub fn at(&self, rest: &str) -> String {
        format!("{}/{rest}", self.address)
    }

    /// Asks the registry's API, as any tool would.
    pub fn curl(&self, method: &str, path: &str, more: &[&str]) -> Outcome {
        let url = format!("http://{}{path}", self.address);
        let mut command = Command::new("curl");
        command.args([
            "--silent",
            "--show-error",
            "--fail-with-body",
            "--max-time",
            "20",
            "--request",
            method,
        ]);
        run(command.args(more).arg(url))
    }

    /// A manifest or an index, by tag or digest.
    ///
    /// # Panics
    /// When there is none.
    #[track_caller]
    pub fn manifest(&self, repository: &str, name: &str) -> Value {
        let accept =
            "Accept: application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json";
        let path = format!("/v2/{repository}/manifests/{name}");
        serde_json::from_str(&self.curl("GET", &path, &["--header", accept]).succeeded()).expect("JSON")
    }

    /// Where the registry keeps the bytes of a blob, for tests that spoil them.
    pub fn blob_file(&self, digest: &str) -> PathBuf {
        let hex = digest.trim_start_matches("sha256:");
        let blobs = self.folder.path().join("store/docker/registry/v2/blobs/sha256");
        blobs.join(&hex[..2]).join(hex).join("data")
    }
}
