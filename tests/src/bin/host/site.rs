//! A test host with the agent on it, as a customer would have put it there.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use kedge_tests::rig::host::{deployment, runs};
use kedge_tests::rig::images::{self, Suite};
use kedge_tests::rig::lines::Lines;
use kedge_tests::rig::machine::Machine;
use kedge_tests::rig::names;
use kedge_tests::rig::outcome::run;
use kedge_tests::rig::process::Guarded;
use kedge_tests::rig::programs;
use kedge_tests::rig::vendor::{Recipe, Vendor};
use serde_json::Value;

/// A machine that goes when this does, the vendor, and the packages of this build.
pub(crate) struct Site {
    pub(crate) machine: Machine,
    pub(crate) vendor: Vendor,
    pub(crate) folder: tempfile::TempDir,
}

impl Site {
    /// A fresh host of this suite.
    pub(crate) fn new(name: &str, suite: Suite) -> Self {
        let machine = Machine::named(&names::unique(&format!("{name}-")));
        let site = Self { machine, vendor: Vendor::shared(), folder: names::scratch("kedge-site-") };
        let began = Instant::now();
        Machine::up(site.machine.name(), suite);
        say(&format!("{} is up, {:.1} s", site.machine.name(), began.elapsed().as_secs_f64()));
        site
    }

    /// The packages of this build, at this revision.
    pub(crate) fn packages(&self, revision: &str) -> PathBuf {
        let to = self.folder.path().join(format!("packages-{revision}"));
        let programs = programs::path("kedge").parent().expect("a folder").to_owned();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/build");
        run(Command::new(script).arg("--programs").arg(programs).args(["--revision", revision]).arg(&to))
            .succeeded();
        to
    }

    /// A bundle of a product of one compose file, in the host's `/root`; gives its path there. It may use busybox.
    pub(crate) fn product(&self, product: &str, compose: &str) -> String {
        let folder = self.folder.path().join(product);
        std::fs::create_dir_all(&folder).expect("a writable folder");
        std::fs::write(folder.join("compose.yaml"), compose).expect("a writable folder");
        images::ensure_busybox().expect("busybox");
        let to = self.folder.path().join(format!("{product}.kedge"));
        let recipe = Recipe { product, version: "1.0.0", seq: 1, flags: &[] };
        self.vendor.build_from(&folder, &recipe, &to).succeeded();
        self.bring(&to)
    }

    /// The agent's package of a folder, for Debian.
    pub(crate) fn package(folder: &Path) -> PathBuf {
        Self::find(folder, "kedge_", ".deb")
    }

    /// The file in a folder whose name begins and ends so.
    pub(crate) fn find(folder: &Path, begins: &str, ends: &str) -> PathBuf {
        let entries = std::fs::read_dir(folder).expect("a folder").flatten().map(|entry| entry.path());
        let is_it = |path: &PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            name.starts_with(begins) && name.ends_with(ends)
        };
        entries.into_iter().find(is_it).unwrap_or_else(|| panic!("{begins}…{ends} in {}", folder.display()))
    }

    /// A kit of a product at a version with the packages of a folder, and what was said of it.
    pub(crate) fn kit(
        &self,
        product: &str,
        version: &str,
        packages: &Path,
        key: Option<&Path>,
    ) -> (PathBuf, String) {
        let kit = self.folder.path().join(format!("{product}-{version}.kit"));
        let mut command = Command::new(programs::path("kedgectl"));
        command.args(["kit", "build", "--packages"]).arg(packages);
        command.arg("--bundle").arg(self.vendor.bundle(product, version));
        command.arg("--root").arg(self.vendor.keys().join("root")).arg("-o").arg(&kit);
        if let Some(key) = key {
            command.arg("--key").arg(key);
        }
        let said = run(&mut command).succeeded();
        (kit, said)
    }

    /// One command that installs from a kit and deploys; further flags are given to it.
    pub(crate) fn install(&self, kit: &Path, more: &str) -> String {
        let kit = self.bring(kit);
        self.machine.sh(&format!("sh {kit} --root-sha256 {} {more} 2>&1", self.vendor.root_sha256()))
    }

    /// Puts a file into the host's `/root` and gives its path there.
    pub(crate) fn bring(&self, file: &Path) -> String {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let to = format!("/root/{name}");
        self.machine.put(file, &to);
        to
    }

    /// Waits until a deployment runs this version and gives the time that it took.
    #[track_caller]
    pub(crate) fn wait_until_it_runs(&self, name: &str, version: &str) -> Duration {
        self.wait_until(&format!("{name} should run {version}"), |status| {
            Self::is_running(status, name, version)
        })
    }

    /// Whether a status says that a deployment runs this version and is healthy.
    pub(crate) fn is_running(status: &Value, name: &str, version: &str) -> bool {
        status["engine"]["reachable"] == true && runs(&deployment(status, name), version)
    }

    /// Waits for a status that `wanted` says yes to.
    #[track_caller]
    pub(crate) fn wait_until(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Duration {
        let began = Instant::now();
        let arguments = ["kedge", "status", "--watch", "-o", "json"].map(str::to_owned);
        loop {
            let mut command = self.machine.interactive(&arguments, false);
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
            let mut watch = Guarded::spawn(&mut command).expect("docker starts");
            let lines = Lines::follow(watch.child().stdout.take().expect("a pipe"));
            let met =
                lines.wait_for(0, |line| serde_json::from_str(line).is_ok_and(|status| wanted(&status)));
            match met {
                Ok(_) => return began.elapsed(),
                // The watch ends with the agent; whoever restarts it, the next one goes on.
                Err(_) if began.elapsed() < Duration::from_secs(180) => {}
                Err(why) => {
                    panic!("{what}: {why}\n{}", self.machine.sh("journalctl -u kedge -n 60 --no-pager"))
                }
            }
        }
    }

    /// IDs and start times of all containers, sorted.
    pub(crate) fn containers(&self) -> String {
        self.machine.sh("docker ps -q --no-trunc | xargs -r docker inspect --format '{{.Name}} {{.Id}} {{.State.StartedAt}}' | sort")
    }

    /// The host's clock, seconds since 1970.
    pub(crate) fn now(&self) -> u64 {
        self.seconds("now")
    }

    /// A moment as `date` reads it, seconds since 1970.
    pub(crate) fn seconds(&self, moment: &str) -> u64 {
        self.machine.sh(&format!("date --date='{moment}' +%s")).trim().parse().expect("a number")
    }

    /// A property of the agent's unit.
    pub(crate) fn unit(&self, property: &str) -> String {
        self.machine.sh(&format!("systemctl show -P {property} kedge.service")).trim().to_owned()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "{}",
                self.machine.exec(&["journalctl", "-u", "kedge", "-n", "60", "--no-pager"]).stdout
            );
        }
        self.machine.down();
    }
}

/// One line of the story.
pub(crate) fn say(text: &str) {
    println!("== {text}");
}

/// The end of what was said. Not by `| tail` on the host: of a pipe only the last command's success is seen.
pub(crate) fn last_lines(text: &str, most: usize) -> String {
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(most)..].join("\n")
}

/// What a host said, indented.
pub(crate) fn quote(text: &str) {
    for line in text.trim_end().lines() {
        println!("   {line}");
    }
}
