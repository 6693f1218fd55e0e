//! An engine of the test's own, which it may stop and start: `dockerd` with folders, a socket and a network namespace
//! of its own, so that neither knows of the machine's engine. It is the machine's version, or a newer one that `./test`
//! has unpacked.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::docker::Docker;
use super::names;
use super::need;
use super::outcome::run;
use super::process::Guarded;

/// Which engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Make {
    /// As the machine's own.
    Machine,
    /// Engine 26.1 with Docker's own image store.
    Newer,
    /// Engine 26.1 with containerd's image store.
    NewerContainerd,
}

impl Make {
    fn config(self) -> &'static str {
        match self {
            Self::Machine | Self::Newer => "{}",
            Self::NewerContainerd => r#"{"features": {"containerd-snapshotter": true}}"#,
        }
    }

    /// Where its programs are, if not on the `PATH`.
    fn programs(self) -> Option<PathBuf> {
        match self {
            Self::Machine => None,
            Self::Newer | Self::NewerContainerd => {
                Some(need::newer_engine().expect("see need::Need::NewerEngine"))
            }
        }
    }
}

/// A running engine; ended and removed when this goes out of scope.
#[derive(Debug)]
pub struct OwnEngine {
    make: Make,
    folder: tempfile::TempDir,
    network: String,
    daemon: Option<Guarded>,
}

impl OwnEngine {
    /// Starts one.
    ///
    /// # Panics
    /// When it does not start: see [`super::need::Need::OwnEngine`] and [`super::need::Need::NewerEngine`].
    pub fn start(make: Make) -> Self {
        let folder = names::scratch("kedge-engine-");
        std::fs::write(folder.path().join("daemon.json"), make.config()).expect("a writable folder");
        let network = names::unique("kt");
        run(Command::new("ip").args(["netns", "add", &network])).succeeded();
        let mut engine = Self { make, folder, network, daemon: None };
        run(Command::new("ip").args(["-n", &engine.network, "link", "set", "lo", "up"])).succeeded();
        engine.start_again();
        engine
    }

    /// How to speak to it.
    pub fn docker(&self) -> Docker {
        Docker::at(self.path("docker.sock"), self.network.clone())
    }

    /// Ends it as `systemctl stop docker` would: its containers end with it.
    ///
    /// # Errors
    /// When it was not running.
    pub fn stop(&mut self) -> io::Result<()> {
        let mut daemon = self.daemon.take().ok_or_else(|| io::Error::other("it is not running"))?;
        daemon.terminate()?;
        Ok(())
    }

    /// Starts it after a stop, on what it had.
    ///
    /// # Panics
    /// When it does not answer within a minute.
    pub fn start_again(&mut self) {
        let log = File::options().create(true).append(true).open(self.path("log")).expect("a log");
        let mut command = self.docker().beside("dockerd");
        if let Some(programs) = self.make.programs() {
            // It starts a containerd of its own version; the runtime is the machine's.
            let path = std::env::var("PATH").unwrap_or_default();
            let own = ["usr/sbin", "usr/bin"].map(|folder| programs.join(folder).display().to_string());
            command = self.docker().beside(programs.join("usr/sbin/dockerd"));
            command.env("PATH", format!("{}:{path}", own.join(":")));
            // Where the kernel lets nobody switch IPv6 off for one interface, it would refuse every bridge.
            command.env("DOCKER_ALLOW_IPV6_ON_IPV4_INTERFACE", "1");
        }
        let folders = [
            ("--config-file", "daemon.json"),
            ("--data-root", "data"),
            ("--exec-root", "exec"),
            ("--pidfile", "pid"),
        ];
        for (flag, name) in folders {
            command.arg(flag).arg(self.path(name));
        }
        command.arg("--host").arg(format!("unix://{}", self.path("docker.sock").display()));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.daemon = Some(Guarded::spawn(&mut command).expect("dockerd"));
        let deadline = Instant::now() + Duration::from_secs(60);
        // It makes its socket before it answers on it, and says nothing that one could wait for otherwise.
        while self.docker().run(&["version"]).code != Some(0) {
            let ended = self.daemon.as_mut().is_none_or(|d| d.child().try_wait().is_ok_and(|s| s.is_some()));
            if ended || Instant::now() > deadline {
                let log = std::fs::read_to_string(self.path("log")).unwrap_or_default();
                panic!("the engine does not start:\n{log}");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

impl Drop for OwnEngine {
    /// Nothing here may panic: the test may be failing already.
    fn drop(&mut self) {
        if self.daemon.is_some() {
            // What still runs would keep its file systems mounted.
            let docker = self.docker();
            let ids = docker.run(&["container", "ls", "--all", "--quiet"]).stdout;
            let ids: Vec<&str> = ids.lines().collect();
            if !ids.is_empty() {
                docker.run(&[&["container", "rm", "--force"], &ids[..]].concat());
            }
            let _ = self.stop();
            // It leaves a network namespace mounted, and its folder could not be removed.
            let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
            let below = mounts.lines().filter_map(|line| line.split(' ').nth(1));
            for mount in below.filter(|mount| std::path::Path::new(mount).starts_with(self.folder.path())) {
                let _ = Command::new("umount").arg(mount).status();
            }
        }
        let _ = Command::new("ip").args(["netns", "delete", &self.network]).status();
    }
}
