//! What a release asks for and the engine of this host cannot do: told by name before anything is touched, because an
//! older engine ignores in silence what it does not know.
//!
//! Refused is what would run as something else than was asked for: another file system, another address, another
//! runtime. What only makes things slower or less informative is a warning. The versions are those of the history of the
//! Docker API.

use kedge_compose::model::MountKind;

use super::desired::{Desired, Wanted};
use crate::engine::EngineInfo;

/// What the engine cannot do for a release, a sentence each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lacks {
    /// The release cannot run here.
    pub refused: Vec<String>,
    /// It can, without this.
    pub warned: Vec<String>,
}

/// First API version and engine that can do something.
#[derive(Debug, Clone, Copy)]
struct Since(u32, &'static str);

const ANNOTATIONS: Since = Since(43, "24");
const START_INTERVAL: Since = Since(44, "25");
const MAC_ADDRESS: Since = Since(44, "25");
const RECURSIVE_READ_ONLY: Since = Since(44, "25");
const SUBPATH: Since = Since(45, "26");
const IMAGE_MOUNT: Since = Since(48, "28");
const GATEWAY: Since = Since(48, "28");
const INTERFACE_NAME: Since = Since(48, "28");
const NO_IPV4: Since = Since(48, "28");

/// Compares what is desired with what the engine says of itself.
pub fn lacks(desired: &Desired, engine: &EngineInfo) -> Lacks {
    let mut lacks = Lacks::default();
    for wanted in desired.containers.values().filter(|wanted| wanted.number == 1) {
        for (what, why) in refusals(wanted, engine) {
            lacks.refused.push(format!("service {}: `{what}` {why}", wanted.service));
        }
        for (what, why) in warnings(wanted, engine) {
            lacks.warned.push(format!("service {}: `{what}` {why} and is ignored", wanted.service));
        }
    }
    for network in desired.networks.values() {
        if let Some(why) = too_old(network.enable_ipv4 == Some(false), NO_IPV4, engine) {
            lacks.refused.push(format!("network {}: `enable_ipv4` {why}", network.name));
        }
    }
    lacks
}

type Sentence = (&'static str, String);

fn refusals(wanted: &Wanted, engine: &EngineInfo) -> Vec<Sentence> {
    let spec = &wanted.spec;
    let mut found: Vec<Sentence> = Vec::new();
    let mut needs = |what: &'static str, asked: bool, since: Since| {
        found.extend(too_old(asked, since, engine).map(|why| (what, why)));
    };
    let mounts = |kind: MountKind| spec.mounts.iter().filter(move |mount| mount.kind == kind);
    let of_networks =
        |asked: fn(&kedge_compose::model::Attachment) -> bool| spec.endpoints.values().any(asked);
    let mac_address = spec.mac_address.is_some() || of_networks(|network| network.mac_address.is_some());
    needs("mac_address", mac_address, MAC_ADDRESS);
    needs("interface_name", of_networks(|network| network.interface_name.is_some()), INTERFACE_NAME);
    needs("volume.subpath", mounts(MountKind::Volume).any(|mount| mount.subpath.is_some()), SUBPATH);
    needs("type: image", mounts(MountKind::Image).next().is_some(), IMAGE_MOUNT);
    let recursive = |how: Option<&str>| matches!(how, Some("readonly" | "writable"));
    let recursive = mounts(MountKind::Bind).any(|mount| recursive(mount.bind_recursive.as_deref()));
    needs("bind.recursive", recursive, RECURSIVE_READ_ONLY);

    let lists = |known: &[String], asked: &str| known.is_empty() || known.iter().any(|one| one == asked);
    if let Some(runtime) = spec.runtime.as_ref().filter(|runtime| !lists(&engine.runtimes, runtime)) {
        found.push(("runtime", none_of("runtime", runtime, &engine.runtimes)));
    }
    if let Some(logging) = spec.logging.as_ref().filter(|logging| !logging.driver.is_empty())
        && !lists(&engine.log_drivers, &logging.driver)
        // A plug-in is not in the list before it is first used.
        && !logging.driver.contains([':', '/'])
    {
        found.push(("logging.driver", none_of("log driver", &logging.driver, &engine.log_drivers)));
    }
    if spec.isolation.as_deref().is_some_and(|mode| !mode.is_empty() && mode != "default") {
        found.push(("isolation", "is for Windows; remove it".to_owned()));
    }
    found
}

fn warnings(wanted: &Wanted, engine: &EngineInfo) -> Vec<Sentence> {
    let (spec, limits) = (&wanted.spec, &wanted.spec.resources);
    let mut found: Vec<Sentence> = Vec::new();
    let mut needs = |what: &'static str, asked: bool, since: Since| {
        found.extend(too_old(asked, since, engine).map(|why| (what, why)));
    };
    let start_interval = spec.healthcheck.as_ref().is_some_and(|check| check.start_interval.is_some());
    needs("healthcheck.start_interval", start_interval, START_INTERVAL);
    needs("annotations", !spec.annotations.is_empty(), ANNOTATIONS);
    needs("gw_priority", spec.endpoints.values().any(|network| network.gw_priority != 0), GATEWAY);
    for (what, asked) in
        [("cpu_count", limits.cpu_count.is_some()), ("cpu_percent", limits.cpu_percent.is_some())]
    {
        found.extend(asked.then(|| (what, "is for Windows".to_owned())));
    }
    let only_first = [
        ("mem_swappiness", limits.memory_swappiness.is_some()),
        ("oom_kill_disable", limits.oom_kill_disable == Some(true)),
        ("cpu_rt_runtime", limits.cpu_rt_runtime.is_some()),
    ];
    for (what, asked) in only_first {
        let asked = asked && engine.cgroup_version >= 2;
        found.extend(asked.then(|| (what, "needs control groups of version 1".to_owned())));
    }
    found
}

fn too_old(asked: bool, since: Since, engine: &EngineInfo) -> Option<String> {
    let minor: Option<u32> = engine.api.split_once('.').and_then(|(_, minor)| minor.parse().ok());
    let is_old = asked && minor.is_some_and(|minor| minor < since.0);
    is_old.then(|| format!("needs Docker Engine {} or newer, this host has {}", since.1, engine.version))
}

fn none_of(kind: &str, asked: &str, known: &[String]) -> String {
    format!("asks for {asked}, and the engine of this host has no such {kind}; it has {}", known.join(", "))
}

#[cfg(test)]
mod tests {
    use kedge_compose::model::{Attachment, Healthcheck, Logging, Mount};

    use super::*;
    use crate::plan::tests::builders::Stack;

    fn engine(api: &str) -> EngineInfo {
        EngineInfo {
            api: api.into(),
            version: "9.9".into(),
            cgroup_version: 2,
            runtimes: vec!["runc".into()],
            log_drivers: vec!["json-file".into()],
            ..EngineInfo::default()
        }
    }

    fn asking(change: impl FnOnce(&mut kedge_compose::model::Service)) -> Desired {
        Stack::of(&["web"]).volume("web", "data").edit("web", change).desired()
    }

    #[test]
    fn an_ordinary_release_lacks_nothing_on_the_oldest_engine() {
        assert_eq!(lacks(&asking(|_| {}), &engine("1.41")), Lacks::default());
    }

    #[test]
    fn what_an_old_engine_would_ignore_or_do_otherwise_is_named() {
        let subpath = asking(|web| web.volumes[0].subpath = Some("a".into()));
        let said = lacks(&subpath, &engine("1.44")).refused;
        assert_eq!(
            said,
            ["service web: `volume.subpath` needs Docker Engine 26 or newer, this host has 9.9"]
        );
        assert_eq!(lacks(&subpath, &engine("1.45")), Lacks::default());

        let mac = asking(|web| {
            let attachment =
                Attachment { mac_address: Some("02:42:ac:11:00:01".into()), ..Attachment::default() };
            web.networks.insert("default".into(), attachment);
        });
        assert_eq!(lacks(&mac, &engine("1.41")).refused.len(), 1);

        let image = Mount {
            kind: MountKind::Image,
            source: Some("tool:1".into()),
            target: "/t".into(),
            ..Mount::default()
        };
        assert_eq!(lacks(&asking(|web| web.volumes.push(image)), &engine("1.47")).refused.len(), 1);

        let check =
            Healthcheck { start_interval: Some(std::time::Duration::from_secs(1)), ..Healthcheck::default() };
        let warned = lacks(&asking(|web| web.healthcheck = Some(check)), &engine("1.43"));
        assert!(warned.refused.is_empty() && warned.warned[0].contains("start_interval"), "{warned:?}");
    }

    #[test]
    fn what_the_engine_does_not_have_is_named_with_what_it_has() {
        let runtime = lacks(&asking(|web| web.runtime = Some("kata".into())), &engine("1.41")).refused;
        assert!(runtime[0].contains("kata") && runtime[0].ends_with("it has runc"), "{runtime:?}");
        let log = |driver: &str| Some(Logging { driver: driver.into(), ..Logging::default() });
        assert_eq!(lacks(&asking(|web| web.logging = log("fluentd")), &engine("1.41")).refused.len(), 1);
        assert_eq!(
            lacks(&asking(|web| web.logging = log("grafana/loki:3")), &engine("1.41")),
            Lacks::default()
        );
        assert_eq!(lacks(&asking(|web| web.logging = log("json-file")), &engine("1.41")), Lacks::default());
    }

    #[test]
    fn what_only_windows_or_the_older_control_groups_have_is_warned_of() {
        let asked = asking(|web| {
            web.resources.cpu_percent = Some(50);
            web.resources.memory_swappiness = Some(10);
        });
        assert_eq!(lacks(&asked, &engine("1.41")).warned.len(), 2);
        let older = EngineInfo { cgroup_version: 1, ..engine("1.41") };
        assert_eq!(lacks(&asked, &older).warned.len(), 1);
    }
}
