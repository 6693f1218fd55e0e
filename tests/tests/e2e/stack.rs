//! A deployment under test, and someone who uses it.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use kedge_tests::rig::docker::Docker;
use kedge_tests::rig::host::{self, Host};
use kedge_tests::rig::outcome::Outcome;
use kedge_tests::rig::vendor::Vendor;
use serde_json::Value;

/// One deployment on a host.
pub(crate) struct Stack {
    pub(crate) name: String,
    pub(crate) port: u16,
}

impl Stack {
    /// A name and a port for a deployment of this product.
    pub(crate) fn new(host: &Host, product: &str) -> Self {
        Self { name: host.name(product), port: host.docker().free_port() }
    }

    /// `kedge import` of a bundle under this name, with this port.
    pub(crate) fn import(&self, host: &Host, vendor: &Vendor, bundle: &Path) -> Outcome {
        let (bundle, port, root) =
            (bundle.display().to_string(), format!("PORT={}", self.port), vendor.root_sha256());
        host.kedge(&["import", &bundle, "--deployment", &self.name, "--set", &port, "--root-sha256", &root])
    }

    /// What this host says of it.
    pub(crate) fn status(&self, host: &Host) -> Value {
        host.deployment(&self.name)
    }

    /// Waits until it runs this version and nothing else, healthy, with nothing under way.
    #[track_caller]
    pub(crate) fn wait_until_it_runs(&self, host: &Host, version: &str) -> Value {
        let runs = host.wait_for(&self.name, &format!("should run {version}"), |d| host::runs(d, version));
        host.docker().wait_until_replaced_are_gone(&self.name);
        runs
    }

    /// The answer of its front.
    #[track_caller]
    pub(crate) fn get(&self, host: &Host, path: &str) -> String {
        host.docker().curl(&[&self.url(path)]).succeeded()
    }

    /// Waits until its front gives this answer. A client that has looked a name up goes on with the address for as long as it
    /// likes, and the old container lets it in until it ends: the three-tier front looks once a second.
    #[track_caller]
    pub(crate) fn wait_for_answer(&self, host: &Host, wanted: &str) {
        let deadline = Instant::now() + LATECOMERS;
        loop {
            let answer = self.get(host, "/");
            if answer.trim() == wanted {
                return;
            }
            assert!(Instant::now() < deadline, "{wanted:?} was expected, not {:?}", answer.trim());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The answer of its front to a POST.
    pub(crate) fn post(&self, docker: &Docker, path: &str) -> Outcome {
        docker.curl(&["--request", "POST", &self.url(path)])
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }
}

/// How long the answer may be an old container's.
const LATECOMERS: Duration = Duration::from_secs(10);

/// Somebody who writes rows into a three-tier stack all the time, whatever happens to it, and remembers which were
/// acknowledged.
pub(crate) struct Customer {
    acknowledged: Arc<Mutex<Vec<u64>>>,
    enough: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Customer {
    /// Begins to write.
    pub(crate) fn of(stack: &Stack, docker: &Docker) -> Self {
        let acknowledged = Arc::new(Mutex::new(Vec::new()));
        let enough = Arc::new(AtomicBool::new(false));
        let (list, stop) = (Arc::clone(&acknowledged), Arc::clone(&enough));
        let (stack, docker) = (Stack { name: stack.name.clone(), port: stack.port }, docker.clone());
        let thread = std::thread::spawn(move || {
            let mut number = 0;
            while !stop.load(Ordering::Relaxed) {
                number += 1;
                let outcome = stack.post(&docker, &format!("/rows?value=row-{number}"));
                // Refused or cut off while the stack changes: whoever gets no answer knows nothing.
                if outcome.code == Some(0) {
                    let row: Value = serde_json::from_str(&outcome.stdout).expect("JSON");
                    list.lock().expect("no panic in here").push(row["id"].as_u64().expect("an id"));
                }
                // A person, not a load test: what is measured is what is lost.
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
        });
        Self { acknowledged, enough, thread: Some(thread) }
    }

    /// How many rows were acknowledged by now.
    pub(crate) fn rows(&self) -> usize {
        self.acknowledged.lock().expect("no panic in here").len()
    }

    /// Stops writing, and looks whether every acknowledged row is there.
    #[track_caller]
    pub(crate) fn finds_every_row(mut self, host: &Host, stack: &Stack) {
        self.stop();
        let acknowledged = std::mem::take(&mut *self.acknowledged.lock().expect("no panic in here"));
        assert!(!acknowledged.is_empty(), "no row was ever acknowledged");
        // Asked in the database itself, one by one: a count could hide one lost behind one written twice.
        let postgres = host.docker().container(&stack.name, "postgres");
        let query = "select id from rows order by id";
        let text = host
            .docker()
            .run(&[
                "exec",
                &postgres,
                "psql",
                "--username=app",
                "--dbname=app",
                "--tuples-only",
                "--no-align",
                "--command",
                query,
            ])
            .succeeded();
        let found: std::collections::BTreeSet<u64> =
            text.lines().filter_map(|l| l.trim().parse().ok()).collect();
        let lost: Vec<_> = acknowledged.iter().filter(|id| !found.contains(id)).collect();
        assert!(lost.is_empty(), "{} of {} rows are lost: {lost:?}", lost.len(), acknowledged.len());
    }

    fn stop(&mut self) {
        self.enough.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Customer {
    fn drop(&mut self) {
        self.stop();
    }
}
