//! The host that hostile bundles are brought to: a real agent on the machine's engine, running a release that was
//! accepted, and the means to see whether anything has changed.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use kedge_bundle::assemble::{ImageInput, assemble, plain_layer};
use kedge_bundle::digest::Digest;
use kedge_bundle::testing::{TestBundle, Vendor, file, product};
use serde_json::Value;

use super::{Brought, Case, Verdict};
use crate::rig::docker::Docker;
use crate::rig::host::Host;
use crate::rig::lines::{Lines, PATIENCE};
use crate::rig::names;
use crate::rig::outcome::Outcome;
use crate::rig::process::Guarded;
use crate::rig::witness::Witness;

/// The site that the host is of.
pub const SITE: &str = "here";

/// The number of the release that runs.
pub const SEQ: u64 = 7;

/// What became of a bundle that was brought.
#[derive(Debug)]
pub struct Seen {
    /// Exit code of the command line; `None` where it was killed.
    pub exit: Option<i32>,
    /// What it said.
    pub said: String,
}

/// The host and who watches it.
pub struct Stage {
    host: Host,
    witness: Witness,
    /// Who made the release that runs, and whose keys the attacker may have.
    pub vendor: Vendor,
    name: String,
    _socket: tempfile::TempDir,
}

/// Everything that a refused bundle must leave as it was.
#[derive(Debug, PartialEq, Eq)]
struct Snapshot {
    files: BTreeMap<PathBuf, Digest>,
    changes: Vec<String>,
}

impl Stage {
    /// A host that runs release [`SEQ`] of a vendor of its own.
    ///
    /// # Panics
    /// When the engine does not answer, or the release does not run.
    pub fn set() -> Self {
        let folder = names::scratch("kedge-witness-");
        let engine = Docker::of_this_machine().socket().to_owned();
        let witness = Witness::between(folder.path().join("engine.sock"), engine);
        let docker = Docker::at(witness.socket().to_owned(), String::new());
        // Nothing but what a bundle does may change anything: an agent lets go of images by itself when a disk is nearly full.
        let config = format!("site = '{SITE}'\n[limits]\ncollect_above_percent = 100\n");
        let host = Host::start_on(docker, &config);
        let now = jiff::Timestamp::now().round(jiff::Unit::Second).expect("a whole second");
        let vendor = Vendor::at(&names::unique("vendor-"), now);
        let name = host.name("hostile");
        let stage = Self { host, witness, vendor, name, _socket: folder };
        let good = running(&stage.vendor, SEQ);
        let seen = stage.import(&good.bytes(), &["--deployment", &stage.name]);
        assert!(seen.exit == Some(0), "the release that is to run does not: {}", seen.said);
        stage.settle();
        stage
    }

    /// Writes the bundle to a file and has it imported.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn import(&self, bundle: &[u8], flags: &[&str]) -> Seen {
        let path = self.host.path("brought.kedge");
        std::fs::write(&path, bundle).expect("a writable folder");
        let (path, root) = (path.display().to_string(), self.vendor.fingerprint().hex());
        let arguments = [&["import", &path, "--root-sha256", &root], flags].concat();
        let Outcome { code, stdout, stderr, .. } = self.host.kedge(&arguments);
        Seen { exit: code, said: format!("{stdout}{stderr}") }
    }

    /// The same for a release that is only to be stored.
    pub fn offer(&self, bundle: &[u8]) -> Seen {
        self.import(bundle, &["--deployment", "other", "--stage-only"])
    }

    /// Pipes the beginning of a bundle in, and kills the command line before it has come to its end.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn kill_in_the_middle(&self, bundle: &[u8]) -> Seen {
        let mut command = self.host.kedge_command();
        command.args(["import", "-", "--root-sha256", &self.vendor.fingerprint().hex()]);
        command.args(["--deployment", &self.name]);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut process = Guarded::spawn(&mut command).expect("kedge starts");
        let said = Lines::follow(process.child().stderr.take().expect("a pipe"));
        let mut pipe = process.child().stdin.take().expect("a pipe");
        let before = self.audit().len();
        pipe.write_all(bundle).expect("it reads");
        // Its documents are verified by then, and content is coming.
        said.wait_for(0, |line| line.contains("verifying")).unwrap_or_else(|why| panic!("{why}"));
        let status = process.kill().expect("it runs");
        drop(pipe);
        self.wait_for_audit(before);
        Seen { exit: status.code(), said: String::new() }
    }

    /// Whether the case is as expected.
    pub fn judge(&self, case: &Case) -> Verdict {
        let (number, name) = (case.number, case.name);
        let mut wrong = Vec::new();
        let before = self.audit().len();
        let (seen, core) = match &case.brought {
            Brought::Core(attempt) => {
                let code = attempt(&self.vendor).err();
                let exit = code.map_or(0, |code| code.exit);
                let said = code.map_or_else(String::new, |code| code.id.to_owned());
                (Seen { exit: Some(exit.into()), said }, true)
            }
            Brought::File(make) => {
                let bundle = make(&self.vendor);
                let world = self.snapshot();
                let seen = match case.wanted {
                    Some(_) => self.import(&bundle, &["--deployment", &self.name]),
                    None => self.offer(&bundle),
                };
                if case.wanted.is_some() {
                    wrong.extend(world.differs(&self.snapshot()));
                }
                (seen, false)
            }
            Brought::Steps(steps) => (steps(self), false),
        };
        let lines = self.audit();
        let last =
            lines[before.min(lines.len())..].last().map(|line| line["event"].clone()).unwrap_or_default();
        let audited =
            if core { seen.said.clone() } else { last["code"].as_str().unwrap_or_default().to_owned() };
        let reason = match case.wanted {
            None if seen.exit == Some(0) => {
                if last["what"] != "accepted" {
                    wrong.push(format!("audited as {last}"));
                }
                "accepted".to_owned()
            }
            None => {
                wrong.push(format!("refused: {}", seen.said.trim()));
                audited
            }
            Some(code) => {
                // A command line that was killed says nothing.
                let said = seen.exit.is_none() || seen.said.contains(code.id);
                let exit = seen.exit.is_none_or(|exit| exit == i32::from(code.exit));
                if !said || !exit {
                    wrong.push(format!(
                        "{} and exit code {} were expected: {}",
                        code.id,
                        code.exit,
                        seen.said.trim()
                    ));
                }
                if audited != code.id {
                    wrong.push(format!("the audit log says {last}"));
                }
                audited
            }
        };
        Verdict { number, name, reason, exit: seen.exit, wrong }
    }

    /// Checks that steps have left everything as it was.
    ///
    /// # Panics
    /// When they have not.
    pub fn unchanged<T>(&self, steps: impl FnOnce() -> T) -> T {
        let world = self.snapshot();
        let outcome = steps();
        let differences = world.differs(&self.snapshot());
        assert!(differences.is_empty(), "{differences:?}");
        outcome
    }

    /// The same, but for content that had been verified when the bytes stopped coming: it stays, under the digest that it
    /// has, for the next try.
    ///
    /// # Panics
    /// When anything else has changed.
    pub fn unchanged_but_for_content<T>(&self, steps: impl FnOnce() -> T) -> T {
        let world = self.snapshot();
        let outcome = steps();
        let mut after = self.snapshot();
        after.files.retain(|path, digest| {
            let hex = path.file_name().unwrap_or_default().to_string_lossy();
            let blob = path.parent().is_some_and(|folder| folder.ends_with("content/blobs"));
            world.files.contains_key(path) || !(blob && *hex == digest.hex())
        });
        let differences = world.differs(&after);
        assert!(differences.is_empty(), "{differences:?}");
        outcome
    }

    /// What the release that runs still says; the audit log's own chain is checked too.
    ///
    /// # Errors
    /// What is not as it was.
    pub fn inspect(&self) -> Result<(), String> {
        let deployment = self.host.deployment(&self.name);
        if deployment["active"]["version"] != format!("1.0.{SEQ}") {
            return Err(format!("another release runs: {deployment}"));
        }
        let log = std::fs::File::open(self.audit_path()).map_err(|error| error.to_string())?;
        kedge::audit::verify(log).map(drop).map_err(|broken| format!("the audit log: {broken}"))
    }

    fn audit_path(&self) -> PathBuf {
        find(&self.host.state_dir(), &|path| path.extension().is_some_and(|e| e == "jsonl"))
            .unwrap_or_else(|| panic!("there is no audit log"))
    }

    fn audit(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.audit_path()).expect("an audit log");
        // What follows the last newline is being written just now.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
    }

    fn wait_for_audit(&self, before: usize) {
        let deadline = std::time::Instant::now() + PATIENCE;
        while self.audit().len() <= before && std::time::Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn snapshot(&self) -> Snapshot {
        let mut files = BTreeMap::new();
        collect(&self.host.state_dir(), &mut files);
        let audit = self.audit_path();
        files.remove(&audit);
        Snapshot { files, changes: self.witness.changes() }
    }

    /// Waits until the agent has written what it had to write of the release that runs.
    fn settle(&self) {
        let mut last = self.snapshot();
        let mut same = 0;
        while same < 3 {
            std::thread::sleep(Duration::from_millis(400));
            let now = self.snapshot();
            same = if now == last { same + 1 } else { 0 };
            last = now;
        }
    }
}

impl Snapshot {
    fn differs(&self, after: &Self) -> Vec<String> {
        let mut found = Vec::new();
        for path in self.files.keys().chain(after.files.keys()) {
            if self.files.get(path) != after.files.get(path) {
                found.push(format!("{} has changed", path.display()));
            }
        }
        found.dedup();
        let asked = after.changes.iter().skip(self.changes.len());
        found.extend(asked.map(|line| format!("the engine was asked: {line}")));
        found
    }
}

/// A release of busybox that runs and does nothing.
///
/// # Panics
/// When there is no static busybox, or the layout cannot be made.
pub fn running(vendor: &Vendor, seq: u64) -> TestBundle {
    let busybox = ["/usr/bin/busybox", "/bin/busybox"].iter().find_map(|path| std::fs::read(path).ok());
    let layer = super::tamper::program("busybox", &busybox.expect("busybox-static is installed"));
    let architecture = kedge_bundle::build::host_platform().architecture;
    let reference = format!("hostile/{}:1", Digest::of(&vendor.envelopes[0]).hex().get(..12).unwrap_or("x"));
    let config = serde_json::json!({
        "architecture": architecture, "os": "linux", "config": {"Cmd": ["/busybox", "sleep", "1000000"]},
        "rootfs": {"type": "layers", "diff_ids": [Digest::of(&layer)]},
    });
    let image = ImageInput::new(&reference, config.to_string().into_bytes(), vec![plain_layer(layer)]);
    let compose = format!("services:\n  web:\n    image: {reference}\n    stop_grace_period: 0s\n");
    let files = vec![file("compose.yaml", compose.as_bytes())];
    vendor.bundle_with(assemble(&product(seq), files, vec![image]).expect("a layout"), |_| {})
}

fn collect(folder: &Path, files: &mut BTreeMap<PathBuf, Digest>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            files.insert(path.clone(), Digest::of(b"folder"));
            collect(&path, files);
        } else if let Ok(bytes) = std::fs::read(&path) {
            files.insert(path, Digest::of(&bytes));
        }
    }
}

fn find(folder: &Path, wanted: &dyn Fn(&Path) -> bool) -> Option<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    entries
        .into_iter()
        .find_map(|path| if path.is_dir() { find(&path, wanted) } else { wanted(&path).then_some(path) })
}
