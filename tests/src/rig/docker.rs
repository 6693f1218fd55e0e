//! An engine as the tests speak to it: through the `docker` command, as a person would.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::lines::Lines;
use super::outcome::{Outcome, run};
use super::process::Guarded;

/// An engine, and the network that its published ports are in.
#[derive(Debug, Clone)]
pub struct Docker {
    socket: PathBuf,
    /// A network namespace by name; the machine's own where there is none.
    network: Option<String>,
}

impl Docker {
    /// The engine of this machine.
    pub fn of_this_machine() -> Self {
        let host = std::env::var("DOCKER_HOST").unwrap_or_default();
        let socket = host.strip_prefix("unix://").unwrap_or("/var/run/docker.sock");
        Self { socket: socket.into(), network: None }
    }

    /// An engine behind this socket, in a network namespace of its own.
    pub fn at(socket: PathBuf, network: String) -> Self {
        Self { socket, network: Some(network) }
    }

    /// The engine's socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// A command in the network that the engine publishes ports in.
    pub fn beside(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        match &self.network {
            None => Command::new(program),
            Some(name) => {
                // Not `ip netns exec`, which hides the control groups behind a new /sys.
                let mut command = Command::new("nsenter");
                command.arg(format!("--net=/run/netns/{name}")).arg(program);
                command
            }
        }
    }

    /// Runs `docker` with these arguments.
    pub fn run(&self, arguments: &[&str]) -> Outcome {
        run(self.command(Path::new("docker")).args(arguments))
    }

    /// A client, such as `docker` or Docker Compose, that speaks to this engine.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.env("DOCKER_HOST", format!("unix://{}", self.socket.display()));
        command
    }

    /// IDs of what the engine has of this kind (`container`, `network`, `volume`) and compose project.
    pub fn of_project(&self, kind: &str, project: &str) -> Vec<String> {
        let filter = format!("label=com.docker.compose.project={project}");
        let mut arguments = vec![kind, "ls", "--quiet", "--filter", &filter];
        if kind == "container" {
            arguments.extend(["--all", "--no-trunc"]);
        }
        self.run(&arguments).succeeded().lines().map(str::to_owned).collect()
    }

    /// The one container of a service; one that an update has replaced and that still ends what it has begun is none.
    ///
    /// # Panics
    /// When there is none or more than one.
    #[track_caller]
    pub fn container(&self, project: &str, service: &str) -> String {
        let filters = ["project", "service"].map(|l| {
            format!("label=com.docker.compose.{l}={}", if l == "project" { project } else { service })
        });
        let found = self
            .run(&[
                "container",
                "ls",
                "--all",
                "--no-trunc",
                "--format",
                "{{.ID}} {{.Names}}",
                "--filter",
                &filters[0],
                "--filter",
                &filters[1],
            ])
            .succeeded();
        let ids: Vec<&str> = found
            .lines()
            .filter_map(|line| line.split_once(' '))
            .filter(|(_, name)| !name.contains(kedge::plan::KEPT))
            .map(|(id, _)| id)
            .collect();
        assert!(ids.len() == 1, "one container of {service} in {project} was expected, there are {ids:?}");
        ids[0].to_owned()
    }

    /// Waits until the engine says that a container was removed, now or since the time given (as `docker events` takes it).
    ///
    /// # Panics
    /// When it has not been after a minute.
    #[track_caller]
    fn wait_until_removed(&self, id: &str, since: &str) {
        let container = format!("container={id}");
        let mut command = self.command(Path::new("docker"));
        command.args(["events", "--since", since, "--filter", &container, "--filter", "event=destroy"]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = Guarded::spawn(&mut command).expect("docker starts");
        let lines = Lines::follow(process.child().stdout.take().expect("a pipe"));
        lines.wait_for(0, |_| true).unwrap_or_else(|why| panic!("{id} is not removed: {why}"));
    }

    /// Waits until those containers of a project are removed that an update has replaced.
    ///
    /// # Panics
    /// When one is still there after a minute.
    #[track_caller]
    pub fn wait_until_replaced_are_gone(&self, project: &str) {
        let filter = format!("label=com.docker.compose.project={project}");
        let format = "{{.ID}} {{.Names}}";
        let list = ["container", "ls", "--all", "--no-trunc", "--format", format, "--filter", &filter];
        let found = self.run(&list).succeeded();
        let named = found.lines().filter_map(|line| line.split_once(' '));
        for (id, _) in named.filter(|(_, name)| name.contains(kedge::plan::KEPT)) {
            self.wait_until_removed(id, "1h");
        }
    }

    /// Removes everything of a compose project. Errors are for the test's output only: cleaning up goes on.
    pub fn remove_project(&self, project: &str) {
        for (kind, flags) in
            [("container", &["--force", "--volumes"][..]), ("network", &[]), ("volume", &["--force"])]
        {
            let filter = format!("label=com.docker.compose.project={project}");
            let mut list = vec![kind, "ls", "--quiet", "--filter", &filter];
            if kind == "container" {
                list.push("--all");
            }
            let ids = self.run(&list).stdout;
            let ids: Vec<&str> = ids.lines().collect();
            if ids.is_empty() {
                continue;
            }
            let outcome = self.run(&[&[kind, "rm"], flags, &ids].concat());
            if outcome.code != Some(0) {
                eprintln!("left behind: {outcome:?}");
            }
        }
    }

    /// Asks a URL in the engine's network, `curl`'s way.
    pub fn curl(&self, arguments: &[&str]) -> Outcome {
        let mut command = self.beside("curl");
        run(command
            .args(["--silent", "--show-error", "--fail-with-body", "--max-time", "20"])
            .args(arguments))
    }

    /// A TCP port of this network's loopback that nobody uses now.
    ///
    /// # Panics
    /// When there is none.
    pub fn free_port(&self) -> u16 {
        if self.network.is_some() {
            // A network of one's own has all of them.
            return rand::random_range(20_000..30_000);
        }
        // Below the range that outgoing connections take theirs from, so that none takes it before the engine does.
        let mut candidates = std::iter::repeat_with(|| rand::random_range(20_000..30_000)).take(1_000);
        candidates
            .find(|port| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok())
            .expect("there is a free port")
    }
}
