//! What a volume of the engine's own driver mounts: its `driver_opts` go to mount(2) as they are, so that a volume can be the
//! host's folders in disguise, `{o: bind, device: /etc}` or `{type: overlay, o: "lowerdir=/etc:/root"}`.

use kedge_compose::model::Volume;

/// Flags and options of a memory file system, none of which names anything of the host.
const OF_TMPFS: &[&str] = &["size", "mode", "uid", "gid", "nr_inodes", "nr_blocks"];
/// Flags that take rights away, or change nothing of what can be reached.
const HARMLESS: &[&str] =
    &["rw", "ro", "nosuid", "nodev", "noexec", "noatime", "relatime", "nodiratime", "sync", "async"];

/// What it mounts.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Mounted<'v> {
    /// Nothing that was there before: a folder of the engine, or memory.
    Nothing,
    /// This path of the host.
    Path(&'v str),
    /// A file system of this type.
    Other { kind: &'v str, device: &'v str },
    /// What no rule allows.
    Never(String),
}

/// What a volume mounts that is not another program's. What plug-ins do is up to whoever installed them.
pub(super) fn mounted(volume: &Volume) -> Mounted<'_> {
    let option = |key: &str| volume.driver_opts.get(key).map(String::as_str).unwrap_or_default();
    let (kind, device, flags) = (option("type"), option("device"), option("o"));
    let is_local = volume.driver.is_empty() || volume.driver == "local";
    if volume.external || !is_local || [kind, device, flags].iter().all(|given| given.is_empty()) {
        return Mounted::Nothing;
    }
    let flags = || flags.split(',').map(str::trim).filter(|flag| !flag.is_empty());
    let is_bind = flags().any(|flag| matches!(flag, "bind" | "rbind"));
    if is_bind {
        let is_plain = flags().all(|flag| matches!(flag, "bind" | "rbind") || HARMLESS.contains(&flag));
        return match (device.starts_with('/') && is_plain, kind) {
            // The type means nothing to a bind, but for this one, whose device is never looked at otherwise.
            (true, kind) if kind != "tmpfs" => Mounted::Path(device),
            _ => Mounted::Never(format!("a bind of {device:?} in disguise")),
        };
    }
    let is_memory = |flag: &str| {
        HARMLESS.contains(&flag) || OF_TMPFS.contains(&flag.split('=').next().unwrap_or_default())
    };
    match kind {
        "tmpfs" if flags().all(is_memory) => Mounted::Nothing,
        "" | "none" | "bind" | "tmpfs" => Mounted::Never(format!("a mount of {device:?} in disguise")),
        kind => Mounted::Other { kind, device },
    }
}
