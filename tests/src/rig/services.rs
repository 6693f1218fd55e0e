//! What there is beside customers' hosts: a vendor's hub, a registry, a proxy, a web server. Each is a service on a host of the
//! rig, so that it can be cut off, rebooted and lost like everything else.

use std::path::Path;

use super::machine::Machine;
use super::programs;
use super::vendor::Vendor;

/// Port of the hub.
pub const HUB: u16 = 8443;
/// Port of the registry, which asks nobody who they are and speaks HTTP.
pub const REGISTRY: u16 = 5000;
/// Port of the proxy, which takes CONNECT to the hub's port and nothing else.
pub const PROXY: u16 = 3128;
/// Port of the web server.
pub const WEB: u16 = 80;

/// A kind of service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// The hub of the vendor that all tests share; `kedgectl` speaks to it on that host.
    Hub,
    /// Debian's `docker-registry`.
    Registry,
    /// Debian's `tinyproxy`.
    Proxy,
    /// What lies in `/srv`, over HTTP.
    Web,
}

impl Service {
    /// By the name that a person types.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "hub" => Some(Self::Hub),
            "registry" => Some(Self::Registry),
            "proxy" => Some(Self::Proxy),
            "web" => Some(Self::Web),
            _ => None,
        }
    }

    /// Where it is reached.
    pub fn port(self) -> u16 {
        match self {
            Self::Hub => HUB,
            Self::Registry => REGISTRY,
            Self::Proxy => PROXY,
            Self::Web => WEB,
        }
    }

    /// Starts it on a host, now and at every boot, and returns once it listens.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start(self, machine: &Machine) {
        let (name, command) = match self {
            Self::Hub => {
                machine.put(&programs::path("kedgectl"), "/usr/bin/kedgectl");
                machine.put(&Vendor::shared().keys(), "/root/keys");
                let command = format!(
                    "/usr/bin/kedgectl hub serve --listen 0.0.0.0:{HUB} --name {} --name {} --root /root/keys/root --fresh-key /root/keys/fresh.pem",
                    machine.name(),
                    machine.address()
                );
                ("hub", command)
            }
            Self::Registry => {
                let config = format!(
                    "version: 0.1\nstorage: {{filesystem: {{rootdirectory: /var/lib/registry}}}}\nhttp: {{addr: '0.0.0.0:{REGISTRY}'}}\n"
                );
                write(machine, "/etc/registry.yml", &config);
                ("registry", "/usr/bin/docker-registry serve /etc/registry.yml".to_owned())
            }
            Self::Proxy => {
                let config = format!("Port {PROXY}\nConnectPort {HUB}\nTimeout 600\nLogLevel Connect\n");
                write(machine, "/etc/proxy.conf", &config);
                ("proxy", "/usr/bin/tinyproxy -d -c /etc/proxy.conf".to_owned())
            }
            Self::Web => ("web", format!("/bin/busybox httpd -f -p {WEB} -h /srv")),
        };
        let unit = format!(
            "[Service]\nExecStart={command}\nRestart=always\n\n[Install]\nWantedBy=multi-user.target\n"
        );
        write(machine, &format!("/etc/systemd/system/{name}.service"), &unit);
        machine.sh(&format!("systemctl daemon-reload && systemctl --quiet enable --now {name}.service"));
        machine.sh(&format!(
            "for i in $(seq 300); do ss -ltnH 'sport = {}' | grep -q . && exit 0; sleep 0.1; done; journalctl -u {name} -n 20 --no-pager >&2; exit 1",
            self.port()
        ));
    }
}

/// Writes a file on a host.
#[track_caller]
pub fn write(machine: &Machine, path: &str, text: &str) {
    let folder = super::names::scratch("kedge-file-");
    let file = folder.path().join("file");
    std::fs::write(&file, text).expect("a writable folder");
    let parent = Path::new(path).parent().unwrap_or(Path::new("/"));
    machine.sh(&format!("mkdir -p {}", parent.display()));
    machine.put(&file, path);
}
