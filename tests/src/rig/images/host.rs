//! A whole Debian that boots: systemd as the first process, and an engine of its own. What a vendor runs beside a hub (a
//! registry, a proxy, a web server) is installed as well and does not start by itself.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::debian::{import, install_debootstrap, mirror};
use super::run::{Context, RigError, run};

/// Everything that decides what the images hold.
pub(super) const SOURCES: &[&str] = &[include_str!("host.rs")];

const PACKAGES: &str = "systemd,systemd-sysv,dbus,docker.io,iptables,iproute2,ca-certificates,curl,openssl,rpm,\
                        docker-registry,tinyproxy-bin,busybox-static";
/// Nobody reads these on a test host, and they are half of it.
const NOT_NEEDED: &[&str] =
    &["usr/share/doc", "usr/share/man", "usr/share/locale", "var/lib/apt/lists", "var/cache/apt"];
/// Services that are installed and start only where they are told to.
const SLEEPING: &[&str] = &["docker-registry"];

/// Which Debian a host has, and with it which engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Suite {
    /// Debian 11: Engine 20.10, systemd 247, glibc 2.31. The oldest that there are still packages of.
    Bullseye,
    /// Debian 12: Engine 20.10, systemd 252.
    Bookworm,
    /// Debian 13: Engine 26.1, systemd 257.
    Trixie,
}

impl Suite {
    /// By its code name.
    pub fn named(name: &str) -> Option<Self> {
        [Self::Bullseye, Self::Bookworm, Self::Trixie].into_iter().find(|suite| suite.name() == name)
    }

    /// The image of such a host.
    pub fn image(self) -> &'static str {
        match self {
            Self::Bullseye => "rig/host:11",
            Self::Bookworm => "rig/host:12",
            Self::Trixie => "rig/host:13",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Bullseye => "bullseye",
            Self::Bookworm => "bookworm",
            Self::Trixie => "trixie",
        }
    }

    /// What the cache calls it. None begins as another does.
    pub(super) fn set(self) -> &'static str {
        match self {
            Self::Bullseye => "host11",
            Self::Bookworm => "host12",
            Self::Trixie => "host13",
        }
    }

    /// What its systemd is started with; in a container these words are its kernel command line.
    pub fn boot_options(self) -> &'static [&'static str] {
        match self {
            Self::Bullseye | Self::Bookworm => &[],
            // It refuses the older version of cgroups, which this machine may have, unless told otherwise.
            Self::Trixie => &["SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1"],
        }
    }

    fn more_packages(self) -> &'static str {
        match self {
            Self::Bullseye | Self::Bookworm => "",
            // A package of its own since this one.
            Self::Trixie => ",docker-cli",
        }
    }
}

/// Makes the host.
pub(super) fn make(suite: Suite, label: &str, work: &Path) -> Result<(), RigError> {
    install_debootstrap()?;
    let root = work.join("root");
    let mut debootstrap = Command::new("debootstrap");
    debootstrap
        .args(["--variant=minbase", &format!("--include={PACKAGES}{}", suite.more_packages()), suite.name()])
        .arg(&root)
        .args(mirror());
    run(&mut debootstrap)?;
    for folder in NOT_NEEDED {
        let folder = root.join(folder);
        fs::remove_dir_all(&folder).context("remove", &folder)?;
    }
    for service in SLEEPING {
        let link = root.join(format!("etc/systemd/system/multi-user.target.wants/{service}.service"));
        if link.is_symlink() {
            fs::remove_file(&link).context("remove", &link)?;
        }
    }
    if suite == Suite::Trixie {
        // Where the kernel lets nobody switch IPv6 off for one interface, this engine would refuse every bridge.
        let folder = root.join("etc/systemd/system/docker.service.d");
        fs::create_dir_all(&folder).context("make the folder", &folder)?;
        let text = "[Service]\nEnvironment=DOCKER_ALLOW_IPV6_ON_IPV4_INTERFACE=1\n";
        fs::write(folder.join("rig.conf"), text).context("write to", &folder)?;
    }
    // Each host makes its own.
    let id = root.join("etc/machine-id");
    fs::write(&id, "").context("write", &id)?;
    import(&root, suite.image(), label, &["CMD [\"/sbin/init\"]"])
}
