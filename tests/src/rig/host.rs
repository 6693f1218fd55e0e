//! A customer's host: an agent with folders of its own, on an engine.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

use serde_json::Value;

use super::docker::Docker;
use super::lines::Lines;
use super::names;
use super::outcome::{Outcome, run};
use super::process::Guarded;
use super::programs;

/// A host; its agent is killed and what it deployed is removed when this goes out of scope.
pub struct Host {
    folder: tempfile::TempDir,
    docker: Docker,
    daemon: Option<Daemon>,
    projects: Mutex<Vec<String>>,
}

struct Daemon {
    process: Guarded,
    log: Lines,
}

impl Host {
    /// A host on this machine's engine, its agent running.
    pub fn start() -> Self {
        Self::start_on(Docker::of_this_machine(), "")
    }

    /// A host on this engine, its agent running with this `agent.toml`.
    pub fn start_on(docker: Docker, config: &str) -> Self {
        let mut host = Self::prepare(docker, config);
        host.start_agent();
        host
    }

    /// A host whose agent does not run yet.
    ///
    /// # Panics
    /// When there is no folder for it.
    pub fn prepare(docker: Docker, config: &str) -> Self {
        let folder = names::scratch("kedge-host-");
        std::fs::write(folder.path().join("agent.toml"), config).expect("a writable folder");
        Self { folder, docker, daemon: None, projects: Mutex::default() }
    }

    /// A name for a deployment that nobody else has. What is deployed under it is removed in the end.
    ///
    /// # Panics
    /// When another thread has panicked here.
    pub fn name(&self, prefix: &str) -> String {
        let name = names::unique(&format!("{prefix}-"));
        self.projects.lock().expect("no panic in here").push(name.clone());
        name
    }

    /// Starts the agent and returns once it takes requests.
    pub fn start_agent(&mut self) {
        self.start_program(&programs::path("kedge"), &[]);
    }

    /// Starts another program in the agent's place, with these variables, and returns once it takes requests.
    ///
    /// # Panics
    /// When it ends instead.
    pub fn start_program(&mut self, program: &Path, environment: &[(&str, &str)]) {
        let mut command = self.agent_command(program);
        command.envs(environment.iter().copied()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut process = Guarded::spawn(&mut command).expect("the agent starts");
        let log = Lines::follow(process.child().stderr.take().expect("a pipe"));
        if let Err(why) = log.wait_for(0, |line| line.contains(READY)) {
            panic!("the agent does not start: {why}");
        }
        self.daemon = Some(Daemon { process, log });
    }

    /// The command line of the agent.
    pub fn agent_command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.arg("agent").arg("--config").arg(self.folder.path().join("agent.toml"));
        command.arg("--state-dir").arg(self.state_dir()).arg("--run-dir").arg(self.run_dir());
        command.arg("--engine").arg(format!("unix://{}", self.docker.socket().display()));
        command.stdin(Stdio::null()).env("KEDGE_LOG", "info,kedge=debug").env("NO_COLOR", "1");
        command
    }

    /// Kills the agent as a crash would.
    ///
    /// # Panics
    /// When it is not running.
    pub fn kill_agent(&mut self) {
        self.daemon.take().expect("it is running").process.kill().expect("it is running");
    }

    /// Ends the agent as `systemctl stop` would.
    ///
    /// # Panics
    /// When it is not running, or does not end well.
    pub fn stop_agent(&mut self) {
        let mut daemon = self.daemon.take().expect("it is running");
        let status = daemon.process.terminate().expect("it is running");
        assert!(status.success(), "the agent ended with {status}:\n{}", daemon.log.tail());
    }

    /// The agent's process.
    ///
    /// # Panics
    /// When it is not running.
    pub fn agent_pid(&self) -> u32 {
        self.daemon.as_ref().expect("it is running").process.id()
    }

    /// What the agent has logged.
    ///
    /// # Panics
    /// When it is not running.
    pub fn log(&self) -> &Lines {
        &self.daemon.as_ref().expect("it is running").log
    }

    /// Runs `kedge` with these arguments against this agent.
    pub fn kedge(&self, arguments: &[&str]) -> Outcome {
        run(self.kedge_command().args(arguments))
    }

    /// `kedge`, told where the agent's socket is.
    pub fn kedge_command(&self) -> Command {
        let mut command = Command::new(programs::path("kedge"));
        command.env("KEDGE_RUN_DIR", self.run_dir()).env("NO_COLOR", "1");
        command
    }

    /// What `kedge status -o json` says.
    ///
    /// # Panics
    /// When it fails or is not JSON.
    #[track_caller]
    pub fn status(&self) -> Value {
        let text = self.kedge(&["status", "-o", "json"]).succeeded();
        serde_json::from_str(&text).expect("JSON")
    }

    /// What the status says about one deployment.
    pub fn deployment(&self, name: &str) -> Value {
        deployment(&self.status(), name)
    }

    /// Waits for a status of a deployment that `wanted` says yes to, and returns it.
    ///
    /// # Panics
    /// When it does not come; the message has the last statuses and the agent's log.
    #[track_caller]
    pub fn wait_for(&self, name: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        deployment(
            &self.wait_until(&format!("{name} {what}"), |status| wanted(&deployment(status, name))),
            name,
        )
    }

    /// Waits until the hub has offered a product.
    #[track_caller]
    pub fn wait_for_offer(&self, product: &str) {
        self.wait_until(&format!("the hub should offer {product}"), |status| {
            let offers = status["tether"]["offers"].as_array().into_iter().flatten();
            offers.into_iter().any(|offer| offer["product"] == product)
        });
    }

    /// Waits for a status of the host that `wanted` says yes to, and returns it.
    ///
    /// # Panics
    /// When it does not come; the message has the last statuses and the agent's log.
    #[track_caller]
    pub fn wait_until(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut command = self.kedge_command();
        command.args(["status", "--watch", "-o", "json"]).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut watch = Guarded::spawn(&mut command).expect("kedge starts");
        let lines = Lines::follow(watch.child().stdout.take().expect("a pipe"));
        let parse = |line: &str| serde_json::from_str(line).expect("JSON");
        match lines.wait_for(0, |line| wanted(&parse(line))) {
            Ok((_, line)) => parse(&line),
            Err(why) => panic!("{what}: {why}\nthe agent's log:\n{}", self.log().tail()),
        }
    }

    /// The engine.
    pub fn docker(&self) -> &Docker {
        &self.docker
    }

    /// A path in a folder of this host's own.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The agent's state folder.
    pub fn state_dir(&self) -> PathBuf {
        self.path("state")
    }

    /// The folder of the agent's socket.
    pub fn run_dir(&self) -> PathBuf {
        self.path("run")
    }
}

/// What the agent logs once it takes requests.
const READY: &str = " ready version=";

/// The deployment with this name in a status; null where there is none.
pub fn deployment(status: &Value, name: &str) -> Value {
    let all = status["deployments"].as_array().into_iter().flatten();
    all.into_iter().find(|d| d["name"] == name).cloned().unwrap_or_default()
}

/// Whether a deployment runs this version, healthy, with nothing under way.
pub fn runs(deployment: &Value, version: &str) -> bool {
    deployment["active"]["version"] == version
        && deployment["phase"] == "active"
        && deployment["health"] == "healthy"
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Some(daemon) = self.daemon.take() {
            if std::thread::panicking() {
                eprintln!("the agent's log:\n{}", daemon.log.tail());
            }
            drop(daemon);
        }
        for project in self.projects.get_mut().into_iter().flatten() {
            self.docker.remove_project(project);
        }
    }
}
