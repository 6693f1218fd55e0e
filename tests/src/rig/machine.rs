//! A customer's host as a customer has it: Debian with systemd as its first process and a Docker engine of its own, on a private
//! network that leads nowhere else. It is a container of this machine's engine, told apart by a label, and not one that is safe
//! to run strangers' code in.

use std::net::IpAddr;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use super::images::{self, Suite};
use super::outcome::{Outcome, run};

const LABEL: &str = "dev.kedge.rig.machine";
/// Where systemd is not in a container, mounts that it makes for a service are seen by all, credentials among them.
const BOOT: &str = "mount --make-rshared / && exec /sbin/init \"$@\"";
/// The private network of all hosts.
const NETWORK: &str = "kedge-rig";

/// A host by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    name: String,
}

impl Machine {
    /// A host of this name, started if it is not there, and booted.
    ///
    /// # Panics
    /// When the engine does not answer, or it does not boot.
    pub fn up(name: &str, suite: Suite) -> Self {
        images::ensure_host(suite).unwrap_or_else(|e| panic!("{e}"));
        let machine = Self::named(name);
        {
            let _turn = images::turn("network").unwrap_or_else(|e| panic!("{e}"));
            if docker(&["network", "inspect", NETWORK]).code != Some(0) {
                // Internal: no host reaches anything but the others.
                docker(&["network", "create", "--internal", NETWORK]).succeeded();
            }
            if docker(&["container", "inspect", &machine.container()]).code != Some(0) {
                machine.create(suite);
            }
            docker(&["start", &machine.container()]).succeeded();
        }
        machine.wait_until_booted();
        machine
    }

    /// The host of this name, whether it is there or not.
    pub fn named(name: &str) -> Self {
        Self { name: name.to_owned() }
    }

    /// Names of all hosts there are.
    pub fn all() -> Vec<Self> {
        let format = format!("{{{{.Label \"{LABEL}\"}}}}");
        let filter = format!("label={LABEL}");
        let names = docker(&["ps", "--all", "--filter", &filter, "--format", &format]).succeeded();
        names.lines().map(Self::named).collect()
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn container(&self) -> String {
        format!("kedge-machine-{}", self.name)
    }

    fn create(&self, suite: Suite) {
        let (label, container) = (format!("{LABEL}={}", self.name), self.container());
        let volume = format!("{container}-docker:/var/lib/docker");
        let arguments = [
            &["create", "--name", &container, "--hostname", &self.name, "--label", &label][..],
            // As every host has it; Docker lets its containers open any port.
            &["--sysctl", "net.ipv4.ip_unprivileged_port_start=1024"],
            // Others find it by its name, whatever its address is after a reboot.
            &["--network-alias", &self.name],
            // What --privileged would give, less what this machine itself may lack.
            &["--cap-add", "ALL", "--cap-drop", "SYS_RESOURCE", "--device-cgroup-rule", "a *:* rwm"],
            &["--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined"],
            &["--tmpfs", "/run", "--tmpfs", "/tmp", "--volume", "/sys/fs/cgroup:/sys/fs/cgroup:rw"],
            &[
                "--volume",
                &volume,
                "--network",
                NETWORK,
                "--stop-signal",
                "SIGRTMIN+3",
                suite.image(),
                "sh",
                "-c",
                BOOT,
                "/sbin/init",
            ],
            suite.boot_options(),
            // Modules are this machine's kernel's, and not a host's to load.
            &["systemd.mask=systemd-modules-load.service"],
        ];
        docker(&arguments.concat()).succeeded();
    }

    fn wait_until_booted(&self) {
        let booted = "until [ -S /run/systemd/private ]; do sleep 0.1; done; timeout 120 systemctl is-system-running --wait";
        let outcome = self.exec(&["sh", "-c", booted]);
        assert!(outcome.stdout.trim() == "running", "{} does not boot: {outcome:#?}", self.name);
    }

    /// Runs a command on it, as root.
    pub fn exec(&self, arguments: &[&str]) -> Outcome {
        docker(&[&["exec", &self.container()], arguments].concat())
    }

    /// A script for its shell, which must succeed; gives what it said.
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    pub fn sh(&self, script: &str) -> String {
        self.exec(&["sh", "-c", script]).succeeded()
    }

    /// A command on it that somebody types in.
    pub fn interactive(&self, arguments: &[String], terminal: bool) -> Command {
        let mut command = Command::new("docker");
        command.args(["exec", "--interactive"]).args(terminal.then_some("--tty"));
        command.arg(self.container()).args(arguments);
        command
    }

    /// Copies a file or folder to it. Not to `/run` or `/tmp`, which are memory.
    #[track_caller]
    pub fn put(&self, from: &Path, to: &str) {
        docker(&["cp", &from.display().to_string(), &format!("{}:{to}", self.container())]).succeeded();
    }

    /// Its address on the private network.
    ///
    /// # Panics
    /// When it has none.
    pub fn address(&self) -> IpAddr {
        let format = format!("{{{{(index .NetworkSettings.Networks \"{NETWORK}\").IPAddress}}}}");
        let text = docker(&["inspect", "--format", &format, &self.container()]).succeeded();
        text.trim().parse().expect("an address")
    }

    /// Nothing comes through between this host and another any more; what is under way hangs, as in a real cut.
    pub fn cut(&self, other: &Self) {
        self.drop_packets("-I", other);
    }

    /// Undoes [`Self::cut`].
    pub fn heal(&self, other: &Self) {
        self.drop_packets("-D", other);
    }

    fn drop_packets(&self, how: &str, other: &Self) {
        let address = other.address();
        self.sh(&format!(
            "iptables {how} INPUT -s {address} -j DROP && iptables {how} OUTPUT -d {address} -j DROP"
        ));
    }

    /// Shuts down in order and boots again. Gives the moment at which it was switched on.
    pub fn reboot(&self) -> Instant {
        docker(&["stop", "--time", "60", &self.container()]).succeeded();
        self.switch_on()
    }

    fn switch_on(&self) -> Instant {
        let on = Instant::now();
        docker(&["start", &self.container()]).succeeded();
        self.wait_until_booted();
        on
    }

    /// Every process ends at once, and it boots again. What was written is there though nobody flushed it; for what a disk
    /// forgets, see [`super::scratch_disk`]. Gives the moment at which it was switched on again.
    pub fn power_cut(&self) -> Instant {
        docker(&["kill", &self.container()]).succeeded();
        self.switch_on()
    }

    /// Removes it and its disk.
    pub fn down(&self) {
        docker(&["rm", "--force", "--volumes", &self.container()]);
        docker(&["volume", "rm", &format!("{}-docker", self.container())]);
        let _turn = images::turn("network");
        if Self::all().is_empty() {
            docker(&["network", "rm", NETWORK]);
        }
    }
}

fn docker(arguments: &[&str]) -> Outcome {
    run(Command::new("docker").args(arguments))
}
