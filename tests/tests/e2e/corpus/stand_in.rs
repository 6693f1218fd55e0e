//! Images that stand in for servers: busybox, two scripts, and the ports to listen on.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use kedge_tests::rig::docker::Docker;
use kedge_tests::rig::images::BUSYBOX;
use kedge_tests::rig::names;
use kedge_tests::rig::outcome::run;
use serde_json::Value;

const SERVER: &str = include_str!("stand_in.sh");
const CLIENT: &str = include_str!("listening.sh");

/// What the clients of servers are called, by paths.
const CLIENTS: [&str; 8] = [
    "bin/curl",
    "bin/mariadb",
    "bin/mongosh",
    "bin/mysql",
    "bin/mysqladmin",
    "bin/pg_isready",
    "bin/redis-cli",
    "opt/mssql-tools/bin/sqlcmd",
];

/// Ports of servers that stacks take for granted, by a part of the image's name.
const KNOWN: [(&str, u16); 8] = [
    ("azure-sql", 1433),
    ("mariadb", 3306),
    ("mongo", 27017),
    ("mysql", 3306),
    ("nginx", 80),
    ("postgres", 5432),
    ("redis", 6379),
    ("wordpress", 80),
];

/// The images made so far; removed when this goes out of scope.
pub(super) struct StandIns {
    /// The files of all of them, as an archive.
    archive: PathBuf,
    prefix: String,
    made: BTreeMap<Vec<u16>, String>,
}

impl StandIns {
    pub(super) fn new(folder: &Path) -> Self {
        let (stage, archive) = (folder.join("stand-in"), folder.join("stand-in.tar"));
        fs::create_dir(&stage).unwrap();
        // Everything of busybox, and who databases run as.
        let container = Docker::of_this_machine().run(&["container", "create", BUSYBOX]).succeeded();
        let export = folder.join("busybox.tar");
        let exported =
            run(Command::new("docker").args(["export", "--output"]).arg(&export).arg(container.trim()));
        Docker::of_this_machine().run(&["container", "rm", container.trim()]).succeeded();
        exported.succeeded();
        run(Command::new("tar").arg("-xf").arg(&export).arg("-C").arg(&stage)).succeeded();
        let users = ["postgres", "mysql", "redis", "node"];
        for file in ["passwd", "group"] {
            let path = stage.join("etc").join(file);
            let mut text = fs::read_to_string(&path).unwrap();
            for (id, user) in (900..).zip(users) {
                let line = if file == "passwd" {
                    format!("{user}:x:{id}:{id}::/:/bin/sh\n")
                } else {
                    format!("{user}:x:{id}:\n")
                };
                text.push_str(&line);
            }
            fs::write(&path, text).unwrap();
        }
        script(&stage.join("bin/stand-in"), SERVER);
        script(&stage.join("bin/listening"), CLIENT);
        for client in CLIENTS {
            let link = stage.join(client);
            fs::create_dir_all(link.parent().unwrap()).unwrap();
            symlink("/bin/listening", link).unwrap();
        }
        run(Command::new("tar").arg("-C").arg(&stage).arg("-cf").arg(&archive).arg(".")).succeeded();
        Self { archive, prefix: names::unique("stand-in-"), made: BTreeMap::new() }
    }

    /// The image for a service, which listens on what it publishes, exposes or is known for.
    pub(super) fn of(&mut self, service: &Value) -> String {
        let mut ports: BTreeSet<u16> = BTreeSet::new();
        for port in service["ports"].as_array().into_iter().flatten().filter(|port| port["protocol"] == "tcp")
        {
            ports.extend(port["target"].as_u64().and_then(|port| u16::try_from(port).ok()));
        }
        for port in service["expose"].as_array().into_iter().flatten() {
            ports.extend(port.as_str().and_then(|port| port.parse::<u16>().ok()));
        }
        let image = service["image"].as_str().unwrap_or_default();
        ports.extend(KNOWN.iter().find(|(name, _)| image.contains(name)).map(|(_, port)| *port));
        let ports: Vec<u16> = ports.into_iter().collect();
        let (archive, prefix) = (&self.archive, &self.prefix);
        self.made.entry(ports.clone()).or_insert_with(|| make(archive, prefix, &ports)).clone()
    }
}

fn make(archive: &Path, prefix: &str, ports: &[u16]) -> String {
    let words = |separator: &str| ports.iter().map(u16::to_string).collect::<Vec<_>>().join(separator);
    let name = format!("{prefix}:p{}", words("-"));
    let ports = format!("ENV STAND_IN_PORTS=\"{}\"", words(" "));
    let changes = ["ENV PATH=/bin", &ports, "ENTRYPOINT [\"/bin/stand-in\"]"];
    let mut import = Command::new("docker");
    import.arg("import").args(changes.iter().flat_map(|change| ["--change", change]));
    run(import.arg(archive).arg(&name)).succeeded();
    name
}

fn script(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

impl Drop for StandIns {
    fn drop(&mut self) {
        let mut remove = Command::new("docker");
        remove.args(["image", "rm", "--force"]).args(self.made.values());
        if !self.made.is_empty() {
            let _ = remove.stdout(Stdio::null()).status();
        }
    }
}
