//! Whether the file system of the state folder keeps what it is told to keep.

use async_trait::async_trait;
use rustix::fs::{StatVfsMountFlags, statfs, statvfs};

use super::{Check, Finding, Place, unit::Unit};

/// Magic numbers of file systems, from statfs(2).
const FORGETFUL: [(i64, &str); 2] = [(0x0102_1994, "tmpfs"), (0x8584_58f6, "ramfs")];
const FAR: [(i64, &str); 3] = [(0x6969, "NFS"), (0x517b, "SMB"), (0xff53_4d42, "CIFS")];
const LAYERED: [(i64, &str); 2] = [(0x794c_7630, "overlay"), (0x6573_5546, "FUSE")];

/// The check.
pub(super) struct State;

#[async_trait]
impl Check for State {
    fn id(&self) -> &'static str {
        "state"
    }

    fn what(&self) -> &'static str {
        "State folder"
    }

    async fn look(&self, place: &Place) -> Finding {
        let folder = &place.config.state_dir;
        let Some(there) = folder.ancestors().find(|path| path.exists()) else {
            return Finding::skipped("there is no such folder yet");
        };
        let shown = folder.display();
        let (Ok(kind), Ok(flags)) = (statfs(there), statvfs(there)) else {
            return Finding::warning(format!("{shown} cannot be looked at"), "Run this as root");
        };
        if flags.f_flag.contains(StatVfsMountFlags::RDONLY) {
            return Finding::bad(
                format!("{shown} is on a file system that is mounted for reading only"),
                "Mount it for writing, or name another folder as `state_dir` in agent.toml and run this again: it says what the service needs for it",
            );
        }
        // Also with an agent that answers: it may have been started before the folder was named.
        let writable = Unit::of(place).and_then(|unit| unit.writable());
        if writable.is_some_and(|open| !open.iter().any(|open| folder.starts_with(open))) {
            // In this order: a service does not start whose ReadWritePaths= names a folder that is not there.
            return Finding::bad(
                format!("the service may not write to {shown}"),
                format!(
                    "Run `install -d -o kedge -g kedge -m 700 {shown}`, then `systemctl edit kedge` and give ReadWritePaths={shown} below [Service], then `systemctl restart kedge`"
                ),
            );
        }
        // Whether 32 or 64 bits, the number is the lower ones.
        #[allow(clippy::useless_conversion, clippy::unnecessary_cast)]
        let magic = (kind.f_type as i64) & 0xffff_ffff;
        let named =
            |table: &[(i64, &'static str)]| table.iter().find(|(m, _)| *m == magic).map(|(_, name)| *name);
        if let Some(name) = named(&FORGETFUL) {
            return Finding::bad(
                format!("{shown} is on {name}, which a restart empties"),
                "Name a folder on a disk as `state_dir` in agent.toml and run this again: it says what the service needs for it",
            );
        }
        if let Some(name) = named(&FAR) {
            return Finding::bad(
                format!("{shown} is on {name}"),
                "Locks and flushes do not hold over a network: name a folder on a local disk as `state_dir` in agent.toml and run this again: it says what the service needs for it",
            );
        }
        match named(&LAYERED) {
            Some(name) => Finding::warning(
                format!("{shown} is on {name}"),
                "What is flushed there may be lost in a power cut; ext4 or xfs is better",
            ),
            None => Finding::good(format!("{shown} is on a disk of this host")),
        }
    }
}
