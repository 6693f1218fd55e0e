//! A service that is updated while clients that retry nothing use it: its compose file, its image, its clients.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::docker::Docker;
use super::images;

/// The one service; its clients know it by this name.
pub const SERVICE: &str = "web";

/// What became of the requests of one kind of client.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// `all`: tries the addresses of the name until it is connected; `first`: knows only the first.
    pub kind: String,
    /// Requests sent.
    pub sent: u64,
    /// Requests without a good answer.
    pub lost: u64,
    /// Why, and how often.
    pub reasons: BTreeMap<String, u64>,
    /// Longest time between two good answers, milliseconds.
    pub gap_ms: u64,
    /// Slowest good answer, milliseconds.
    pub slowest_ms: u64,
    /// Good answers by edition.
    pub editions: BTreeMap<String, u64>,
}

/// The compose file of an edition; editions differ in one variable.
pub fn compose_file(image: &str, edition: u32) -> String {
    format!(
        "services:\n  {SERVICE}:\n    image: {image}\n    command: [/bin/requests, serve]\n    restart: unless-stopped\n    \
         environment: {{EDITION: \"{edition}\"}}\n    healthcheck:\n      test: [CMD, /bin/requests, check]\n      \
         interval: 1s\n      timeout: 5s\n      retries: 10\n"
    )
}

/// Clients of both kinds in a container of their own, asking until they are told to stop.
pub struct Clients<'a> {
    docker: &'a Docker,
    container: String,
}

impl<'a> Clients<'a> {
    /// Starts them in a compose project's network, in a project of their own, and returns when they ask.
    ///
    /// # Panics
    /// When they do not start.
    pub fn start(docker: &'a Docker, image: &str, project: &str, own_project: &str) -> Self {
        let (network, label) =
            (format!("{project}_default"), format!("com.docker.compose.project={own_project}"));
        let run = ["run", "--detach", "--stop-timeout", "60", "--network", &network, "--label", &label];
        let container =
            docker.run(&[&run, &[image, "/bin/requests", "ask", SERVICE][..]].concat()).succeeded();
        Self { docker, container: container.trim().to_owned() }
    }

    /// Stops them; what became of the requests of those that try all addresses, and of those that know only the first.
    ///
    /// # Panics
    /// When they do not say.
    pub fn stop(self) -> [Told; 2] {
        self.docker.run(&["stop", &self.container]).succeeded();
        let said = self.docker.run(&["logs", &self.container]).succeeded();
        self.docker.run(&["rm", &self.container]).succeeded();
        let told: Vec<Told> = said.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        told.try_into().unwrap_or_else(|_| panic!("two lines were expected: {said}"))
    }
}

/// Makes sure that the engine has the image that both are in, and gives its name.
///
/// # Panics
/// When it cannot be made.
pub fn image() -> String {
    images::ensure_requests().unwrap_or_else(|error| panic!("{error}"))
}
