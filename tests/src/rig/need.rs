//! What a test needs of the machine: an engine, loop devices, a peer to compare with.
//!
//! A test that cannot have what it needs says so and does nothing. `./test` names in `KEDGE_MUST_HAVE` what it has
//! made sure of, and there a lack is a failure: a suite that skips in silence proves nothing.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Something that not every machine has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// A container engine that answers.
    Engine,
    /// Root and loop devices, to mount file systems of one's own.
    Loop,
    /// Docker Compose 2 as `KEDGE_COMPOSE`, a path to its binary.
    Compose,
    /// Root and `dockerd`, to start and restart an engine of one's own.
    OwnEngine,
    /// Root and Engine 26.1 unpacked below `KEDGE_NEWER_ENGINE`.
    NewerEngine,
    /// A registry to start: Debian's `docker-registry`.
    Registry,
    /// `skopeo`.
    Skopeo,
}

impl Need {
    fn name(self) -> &'static str {
        match self {
            Self::Engine => "engine",
            Self::Loop => "loop",
            Self::Compose => "compose",
            Self::OwnEngine => "own-engine",
            Self::NewerEngine => "newer-engine",
            Self::Registry => "registry",
            Self::Skopeo => "skopeo",
        }
    }

    fn lack(self) -> Option<String> {
        match self {
            Self::Engine if !succeeds("docker", &["version"]) => {
                Some("no container engine answers".to_owned())
            }
            Self::Loop if !is_root() => Some("mounting needs root".to_owned()),
            Self::Loop if !succeeds("losetup", &["--find"]) => {
                Some("there is no free loop device".to_owned())
            }
            Self::Compose if compose().is_none() => Some("KEDGE_COMPOSE names no binary".to_owned()),
            Self::OwnEngine if !is_root() => Some("an engine of its own needs root".to_owned()),
            Self::OwnEngine if !succeeds("dockerd", &["--version"]) => {
                Some("dockerd is not installed".to_owned())
            }
            Self::NewerEngine if !is_root() => Some("an engine of its own needs root".to_owned()),
            Self::NewerEngine if newer_engine().is_none() => {
                Some("KEDGE_NEWER_ENGINE names no folder with Engine 26.1".to_owned())
            }
            Self::Registry if !succeeds("docker-registry", &["--version"]) => {
                Some("docker-registry is not installed".to_owned())
            }
            Self::Skopeo if !succeeds("skopeo", &["--version"]) => Some("skopeo is not installed".to_owned()),
            Self::Engine
            | Self::Loop
            | Self::Compose
            | Self::OwnEngine
            | Self::NewerEngine
            | Self::Registry
            | Self::Skopeo => None,
        }
    }
}

/// Whether the machine has all of it. Where not, says what is lacking; the test returns.
///
/// # Panics
/// When `KEDGE_MUST_HAVE` promises what is lacking.
#[must_use]
pub fn met(needs: &[Need]) -> bool {
    let promised = std::env::var("KEDGE_MUST_HAVE").unwrap_or_default();
    for need in needs {
        if let Some(lack) = need.lack() {
            assert!(
                !promised.split_whitespace().any(|name| name == need.name()),
                "KEDGE_MUST_HAVE promises {}, but {lack}",
                need.name()
            );
            eprintln!("skipped: {lack}");
            return false;
        }
    }
    true
}

/// The binary of Docker Compose 2, where there is one.
pub fn compose() -> Option<PathBuf> {
    std::env::var_os("KEDGE_COMPOSE").map(PathBuf::from).filter(|path| Path::is_file(path))
}

/// The folder that holds Engine 26.1, where there is one.
pub fn newer_engine() -> Option<PathBuf> {
    let folder = std::env::var_os("KEDGE_NEWER_ENGINE").map(PathBuf::from);
    folder.filter(|folder| folder.join("usr/sbin/dockerd").is_file())
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn succeeds(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
