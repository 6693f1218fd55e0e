//! Kedge as a customer has it: the resident agent, and `kedge import` with a signed bundle.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kedge_tests::rig::docker::Docker;
use kedge_tests::rig::host::Host;
use kedge_tests::rig::process::{processor_time, proportional_memory, resident_memory};
use kedge_tests::rig::programs;
use kedge_tests::rig::vendor::{Recipe, Vendor};

use super::Took;
use super::events::{Events, Moment};
use super::stack::{Stack, WATCHED};

/// As much log as a customer has, and the environment that the systemd unit sets.
pub(crate) const AS_THE_UNIT_DOES: &[(&str, &str)] = &[("KEDGE_LOG", "info"), ("MALLOC_ARENA_MAX", "2")];

/// How long an idle agent is watched.
const IDLE: Duration = Duration::from_secs(30);

/// A vendor with a bundle of each edition.
pub(crate) struct Product {
    vendor: Vendor,
    folder: PathBuf,
    stack: Stack,
}

/// A host that runs it.
pub(crate) struct Running<'a> {
    product: &'a Product,
    host: Host,
    name: String,
    events: Events,
    /// The first installation.
    pub(crate) cold_start: Took,
}

/// What the agent needs while nothing happens.
pub(crate) struct Idle {
    /// Bytes that are in memory for it, shared or not.
    pub(crate) resident: u64,
    /// The same, with what it shares with others divided by their number.
    pub(crate) proportional: u64,
    /// Share of one core.
    pub(crate) processor: f64,
}

/// From the moment that something happened to a container to the start of its successor.
pub(crate) struct Replaced {
    /// Killed: the same container is started again.
    pub(crate) killed: Duration,
    /// Removed: another one is created and started.
    pub(crate) removed: Duration,
}

impl Product {
    pub(crate) fn prepare(folder: &Path, stack: Stack) -> Self {
        let vendor = Vendor::another(&folder.join("vendor"));
        for edition in [1, 2] {
            let project = folder.join(edition.to_string());
            fs::create_dir_all(&project).expect("a writable folder");
            let version = format!("{edition}.0.0");
            let head = format!("x-kedge: {{product: bench, version: {version}, gate: {{timeout: 300s}}}}\n");
            fs::write(project.join("compose.yaml"), head + &stack.compose_file(edition))
                .expect("a writable folder");
            let recipe = Recipe { product: "bench", version: &version, seq: edition.into(), flags: &[] };
            vendor.build_from(&project, &recipe, &bundle(folder, edition)).succeeded();
        }
        Self { vendor, folder: folder.to_owned(), stack }
    }

    /// A fresh host, and the stack from the file: verified, started and found healthy.
    pub(crate) fn install(&self) -> Running<'_> {
        let mut host = Host::prepare(Docker::of_this_machine(), "");
        host.start_program(&programs::path("kedge"), AS_THE_UNIT_DOES);
        let name = host.name("bench");
        let events = Events::follow(host.docker(), &name);
        let root = self.vendor.root_sha256();
        let mut running = Running { product: self, host, name, events, cold_start: Took::default() };
        let (began, returned) = running.import(1, &["--root-sha256", &root]);
        let healthy = running.events.healthy(began, self.stack.services());
        running.cold_start = Took { healthy: healthy.since(began), returned: returned.since(began) };
        running
    }
}

impl Running<'_> {
    /// The same file once more: read, verified, found active already.
    pub(crate) fn nothing_to_do(&self) -> Duration {
        let (began, returned) = self.import(1, &[]);
        returned.since(began)
    }

    /// The next release, in which one service differs.
    pub(crate) fn update(&self) -> Took {
        let (began, returned) = self.import(2, &[]);
        let healthy = self.events.first(began, WATCHED, "health_status: healthy");
        Took { healthy: healthy.since(began), returned: returned.since(began) }
    }

    /// Kills a container, then removes one by force, and waits each time until the agent has put it right.
    pub(crate) fn replacement(&self) -> Replaced {
        let after = |command: &[&str], event: &str| {
            let docker = self.host.docker();
            let container = docker.container(&self.name, WATCHED);
            let began = Moment::now();
            docker.run(&[command, &[container.as_str()]].concat()).succeeded();
            let gone = self.events.first(began, WATCHED, event);
            let started = self.events.first(gone, WATCHED, "start");
            self.events.first(started, WATCHED, "health_status: healthy");
            started.since(gone)
        };
        Replaced { killed: after(&["kill"], "die"), removed: after(&["rm", "--force"], "destroy") }
    }

    /// Half a minute of doing nothing.
    pub(crate) fn idle(&self) -> Idle {
        let pid = self.host.agent_pid();
        let before = processor_time(pid);
        std::thread::sleep(IDLE);
        let used = processor_time(pid).saturating_sub(before);
        Idle {
            resident: resident_memory(pid),
            proportional: proportional_memory(pid),
            processor: used.as_secs_f64() / IDLE.as_secs_f64(),
        }
    }

    fn import(&self, edition: u32, flags: &[&str]) -> (Moment, Moment) {
        let bundle = bundle(&self.product.folder, edition).display().to_string();
        let began = Moment::now();
        let arguments = [&["import", &bundle, "--deployment", &self.name], flags].concat();
        self.host.kedge(&arguments).succeeded();
        (began, Moment::now())
    }
}

fn bundle(folder: &Path, edition: u32) -> PathBuf {
    folder.join(format!("{edition}.kedge"))
}
