//! Docker Compose with the stack.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use kedge_tests::rig::docker::Docker;
use kedge_tests::rig::outcome::run;
use kedge_tests::rig::process::{Guarded, peak_memory};
use kedge_tests::rig::{names, need};

use super::Took;
use super::events::{Events, Moment};
use super::stack::{Stack, WATCHED};

/// Versions of engine and Compose, for the heading.
pub(crate) fn versions() -> String {
    let docker = Docker::of_this_machine();
    let ask = |arguments: &[&str]| docker.run(arguments).succeeded().trim().to_owned();
    let engine = ask(&["version", "--format", "Engine {{.Server.Version}} (API {{.Server.APIVersion}})"]);
    let driver = ask(&["info", "--format", "{{.Driver}}, cgroup v{{.CgroupVersion}}"]);
    let compose =
        need::compose().map(|binary| run(docker.command(&binary).args(["version", "--short"])).succeeded());
    format!("{engine}, {driver}; Docker Compose {}", compose.unwrap_or_default().trim())
}

/// The peer with its project; removed when this goes out of scope.
pub(crate) struct Compose {
    docker: Docker,
    folder: PathBuf,
    binary: PathBuf,
    project: String,
    stack: Stack,
}

impl Compose {
    pub(crate) fn prepare(folder: &Path, stack: Stack) -> Self {
        fs::create_dir_all(folder).expect("a writable folder");
        for edition in [1, 2] {
            fs::write(folder.join(format!("{edition}.yaml")), stack.compose_file(edition))
                .expect("a writable folder");
        }
        let binary = need::compose().expect("it was asked for");
        let docker = Docker::of_this_machine();
        Self { docker, folder: folder.to_owned(), binary, project: names::unique("bench"), stack }
    }

    /// `up -d --wait` with nothing there.
    pub(crate) fn cold_start(&self) -> Took {
        let events = Events::follow(&self.docker, &self.project);
        let began = Moment::now();
        run(&mut self.up(1, &["--wait"])).succeeded();
        let returned = Moment::now();
        let healthy = events.healthy(began, self.stack.services());
        Took { healthy: healthy.since(began), returned: returned.since(began) }
    }

    /// `up -d` with nothing to do.
    pub(crate) fn nothing_to_do(&self) -> Duration {
        let began = Moment::now();
        run(&mut self.up(1, &[])).succeeded();
        Moment::now().since(began)
    }

    /// `up -d --wait` with one service that differs.
    pub(crate) fn update(&self) -> Took {
        let events = Events::follow(&self.docker, &self.project);
        let began = Moment::now();
        run(&mut self.up(2, &["--wait"])).succeeded();
        let returned = Moment::now();
        let healthy = events.first(began, WATCHED, "health_status: healthy");
        Took { healthy: healthy.since(began), returned: returned.since(began) }
    }

    /// The most memory that an `up -d` with nothing to do was seen to hold, bytes.
    pub(crate) fn peak(&self) -> u64 {
        let mut command = self.docker.command(&self.binary);
        command.args(self.arguments(1, &["up", "--detach"]));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut process = Guarded::spawn(&mut command).expect("compose starts");
        let mut peak = 0;
        while process.child().try_wait().expect("a child").is_none() {
            peak = peak.max(peak_memory(process.child().id()));
            std::thread::sleep(Duration::from_millis(5));
        }
        peak
    }

    pub(crate) fn down(&self) {
        // The engine can lose track of an endpoint among many, and keeps the network then: that is no figure of ours.
        let down = run(&mut self.command(1, &["down", "--volumes"]));
        if down.code != Some(0) {
            eprintln!("docker compose down: {}", down.stderr.lines().last().unwrap_or_default());
        }
    }

    fn up(&self, edition: u32, flags: &[&str]) -> Command {
        let mut command = self.command(edition, &["up", "--detach"]);
        command.args(flags);
        command
    }

    fn command(&self, edition: u32, arguments: &[&str]) -> Command {
        // An end for what would never end.
        let mut command = self.docker.command("timeout".as_ref());
        command.arg("600").arg(&self.binary).args(self.arguments(edition, arguments));
        command
    }

    fn arguments(&self, edition: u32, arguments: &[&str]) -> Vec<String> {
        let file = self.folder.join(format!("{edition}.yaml")).display().to_string();
        let all = ["-p", &self.project, "-f", &file].into_iter().chain(arguments.iter().copied());
        all.map(str::to_owned).collect()
    }
}

impl Drop for Compose {
    fn drop(&mut self) {
        self.docker.remove_project(&self.project);
    }
}
