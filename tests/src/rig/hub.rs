//! A vendor's hub.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use super::host::Host;
use super::lines::Lines;
use super::names;
use super::outcome::Outcome;
use super::process::Guarded;
use super::programs;
use super::vendor::Vendor;

/// A running hub; killed when this goes out of scope.
pub struct Hub {
    folder: tempfile::TempDir,
    vendor: Vendor,
    url: String,
    log: Lines,
    process: Option<Guarded>,
}

impl Hub {
    /// Starts a hub for this vendor, on a free port.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start(vendor: &Vendor) -> Self {
        let folder = names::scratch("kedge-hub-");
        let (process, url, log) = serve(&folder.path().join("data"), vendor, "127.0.0.1:0");
        Self { folder, vendor: vendor.clone(), url, log, process: Some(process) }
    }

    /// Kills it as a crash would.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Starts it after a [`Hub::kill`], on what it had and where it was.
    pub fn start_again(&mut self) {
        let address = self.url.trim_start_matches("https://").to_owned();
        let (process, _, log) = serve(&self.data(), &self.vendor, &address);
        self.process = Some(process);
        self.log = log;
    }

    /// Makes this host a member of the fleet.
    #[track_caller]
    pub fn enrol(&self, host: &Host, site: &str) {
        self.enrol_by(host, site, &self.url);
    }

    /// The same where the host reaches it at another address.
    #[track_caller]
    pub fn enrol_by(&self, host: &Host, site: &str, url: &str) {
        let token = self.kedgectl(&["hub", "token", "create", "--site", site]).succeeded();
        // In the environment, because arguments are for everyone to see.
        let mut command = host.kedge_command();
        command.args(["enroll", "--hub", url, "--root-sha256", &self.vendor.root_sha256()]);
        super::outcome::run(command.env("KEDGE_TOKEN", token.trim())).succeeded();
    }

    /// Publishes a bundle.
    #[track_caller]
    pub fn publish(&self, bundle: &Path) {
        self.kedgectl(&["release", "publish", &bundle.display().to_string()]).succeeded();
    }

    /// What `kedgectl fleet ls -o json` says.
    ///
    /// # Panics
    /// When it is not JSON.
    #[track_caller]
    pub fn fleet(&self) -> Value {
        serde_json::from_str(&self.kedgectl(&["fleet", "ls", "-o", "json"]).succeeded()).expect("JSON")
    }

    /// Waits until what a host reports of a deployment satisfies `wanted`.
    ///
    /// # Panics
    /// When it does not happen.
    #[track_caller]
    pub fn wait_for(&self, name: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut command = Command::new(programs::path("kedgectl"));
        command.args(["fleet", "watch", "-o", "json"]).env("KEDGE_HUB_DATA", self.data());
        let mut watch =
            Guarded::spawn(command.stdin(Stdio::null()).stdout(Stdio::piped())).expect("kedgectl starts");
        let lines = Lines::follow(watch.child().stdout.take().expect("a pipe"));
        let parse = |line: &str| {
            let host: Value = serde_json::from_str(line).expect("JSON");
            super::host::deployment(&host["status"], name)
        };
        match lines.wait_for(0, |line| wanted(&parse(line))) {
            Ok((_, line)) => parse(&line),
            Err(why) => panic!("the hub's view of {name} {what}: {why}\nits log:\n{}", self.log.tail()),
        }
    }

    /// Runs `kedgectl` against this hub.
    pub fn kedgectl(&self, arguments: &[&str]) -> Outcome {
        let mut command = Command::new(programs::path("kedgectl"));
        command.args(arguments).env("KEDGE_HUB_DATA", self.data()).env("NO_COLOR", "1");
        super::outcome::run(&mut command)
    }

    /// Where it is reached.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Holds it where it is: whoever speaks to it is neither refused nor answered.
    ///
    /// # Panics
    /// When it does not run.
    pub fn freeze(&self) {
        self.process.as_ref().expect("it is running").freeze().expect("it is running");
    }

    /// Lets it go on after a [`Hub::freeze`].
    ///
    /// # Panics
    /// When it does not run.
    pub fn thaw(&self) {
        self.process.as_ref().expect("it is running").thaw().expect("it is running");
    }

    /// The folder of its data, with its administration's socket.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }
}

fn serve(data: &Path, vendor: &Vendor, listen: &str) -> (Guarded, String, Lines) {
    let mut command = Command::new(programs::path("kedgectl"));
    command.args(["hub", "serve", "--listen", listen, "--name", "127.0.0.1"]);
    command.arg("--data").arg(data).arg("--root").arg(vendor.keys().join("root"));
    command.arg("--fresh-key").arg(vendor.keys().join("fresh.pem"));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).env("NO_COLOR", "1");
    let mut process = Guarded::spawn(&mut command).expect("kedgectl starts");
    let log = Lines::follow(process.child().stderr.take().expect("a pipe"));
    let said = Lines::follow(process.child().stdout.take().expect("a pipe"));
    match said.wait_for(0, |line| line.starts_with("https://")) {
        Ok((_, url)) => (process, url.trim().to_owned(), log),
        Err(why) => panic!("the hub does not start: {why}\nits log:\n{}", log.tail()),
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the hub's log:\n{}", self.log.tail());
        }
    }
}
