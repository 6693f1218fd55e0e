//! What counts as a difference and what does not.

use kedge_compose::model::{Healthcheck, Logging, Mount, MountKind, Port, Restart, Ulimit};

use super::builders::{Observing, Stack};
use super::*;
use crate::engine::ContainerSpec;
use crate::engine::types::{Container, Endpoint, MountPoint};

const ANEW: &str = "create p-web-1.next < stop p-web-1 < remove p-web-1 < rename p-web-1.next to p-web-1 < start p-web-1.next";

fn spec(container: &mut Container) -> &mut ContainerSpec {
    &mut container.detail.as_mut().unwrap().spec
}

/// With another digest, everything is compared; each of these changes must be noticed, and named.
#[test]
fn each_field_that_differs_is_noticed_and_named() {
    type Change = fn(&mut Container);
    let table: &[(&str, Change)] = &[
        ("command", |c| spec(c).command = Some(vec!["x".into()])),
        ("entry point", |c| spec(c).entrypoint = Some(vec!["x".into()])),
        ("value of A", |c| drop(spec(c).env.0.insert("A".into(), Some("2".into())))),
        ("value of B", |c| drop(spec(c).env.0.insert("B".into(), Some("1".into())))),
        ("label tier", |c| drop(c.labels.remove("tier"))),
        ("label extra", |c| drop(c.labels.insert("extra".into(), "1".into()))),
        ("user", |c| spec(c).user = Some("root".into())),
        ("group", |c| spec(c).group_add = vec!["7".into()]),
        ("working folder", |c| spec(c).working_dir = Some("/x".into())),
        ("domain name", |c| spec(c).domainname = Some("x".into())),
        ("init process", |c| spec(c).init = Some(true)),
        ("terminal", |c| spec(c).tty = true),
        ("stop grace period", |c| spec(c).stop_grace = Some(std::time::Duration::from_secs(3))),
        ("root file system mode", |c| spec(c).read_only = true),
        ("privilege", |c| spec(c).privileged = true),
        ("capability", |c| spec(c).cap_add = vec!["NET_RAW".into()]),
        ("security option", |c| spec(c).security_opt = vec!["no-new-privileges".into()]),
        ("ulimit", |c| spec(c).ulimits = [("nofile".into(), Ulimit { soft: 1, hard: 1 })].into()),
        ("kernel parameter", |c| drop(spec(c).sysctls.insert("x".into(), "1".into()))),
        ("host entry", |c| spec(c).extra_hosts = vec!["a:1.2.3.4".into()]),
        ("DNS setting", |c| spec(c).dns = vec!["1.1.1.1".into()]),
        ("log driver", |c| spec(c).logging = Some(Logging { driver: "none".into(), ..Logging::default() })),
        ("health check", |c| {
            spec(c).healthcheck = Some(Healthcheck { test: vec!["CMD".into()], ..Healthcheck::default() })
        }),
        ("exposed port", |c| spec(c).expose = ["9/udp".into()].into()),
        ("published port", |c| spec(c).ports[0].published = "81".into()),
        ("mount at /data", |c| c.detail.as_mut().unwrap().mounts.clear()),
        ("mount at /more", |c| {
            let mount = MountPoint { kind: "bind".into(), target: "/more".into(), ..MountPoint::default() };
            c.detail.as_mut().unwrap().mounts.push(mount);
        }),
        ("tmpfs", |c| drop(spec(c).tmpfs.insert("/t".into(), String::new()))),
        ("network mode", |c| spec(c).network_mode = Some("host".into())),
        ("device", |c| spec(c).device_cgroup_rules = vec!["a".into()]),
        ("size of /dev/shm", |c| spec(c).shm_size = Some(1)),
        ("process namespace", |c| spec(c).pid = Some("host".into())),
        ("IPC namespace", |c| spec(c).ipc = Some("host".into())),
        ("UTS namespace", |c| spec(c).uts = Some("host".into())),
        ("user namespace", |c| spec(c).userns = Some("host".into())),
        ("runtime", |c| spec(c).runtime = Some("kata".into())),
        ("limit", |c| spec(c).resources.oom_score_adj = Some(5)),
        ("annotation", |c| drop(spec(c).annotations.insert("a".into(), "b".into()))),
        ("storage option", |c| drop(spec(c).storage_opt.insert("size".into(), "1G".into()))),
        ("cgroup parent", |c| spec(c).cgroup_parent = Some("x".into())),
    ];
    let stack = Stack::of(&["web"]).volume("web", "data").port("web", "80").edit("web", |web| {
        web.environment.insert("A".into(), Some("1".into()));
        web.labels.insert("tier".into(), "front".into());
        web.logging = Some(Logging { driver: "json-file".into(), ..Logging::default() });
    });
    assert_plan(&stack, &stack.running().changed("p-web-1", |_| {}), "");
    for (what, change) in table {
        let plan = assert_plan(&stack, &stack.running().changed("p-web-1", change), ANEW);
        let reason = &plan.steps[0].reason;
        assert!(reason.contains(what), "{what}: {reason}");
    }
}

/// What engines and tools add or write in their own way is no difference.
#[test]
fn spellings_of_the_engine_are_no_difference() {
    type Change = fn(&mut Container);
    let table: &[(&str, Change)] = &[
        ("host name it made up", |c| spec(c).hostname = Some("3f1a".into())),
        ("default stop signal", |c| spec(c).stop_signal = Some("SIGTERM".into())),
        ("default log driver", |c| {
            spec(c).logging = Some(Logging { driver: "json-file".into(), ..Logging::default() })
        }),
        ("private IPC", |c| spec(c).ipc = Some("private".into())),
        ("host cgroups", |c| spec(c).cgroupns = Some("host".into())),
        ("runc", |c| spec(c).runtime = Some("runc".into())),
        ("64 MiB", |c| spec(c).shm_size = Some(64 << 20)),
        ("init off", |c| spec(c).init = Some(false)),
        ("root folder", |c| spec(c).working_dir = Some("/".into())),
        ("name of the first network", |c| spec(c).network_mode = Some("p_default".into())),
        ("swap it chose", |c| spec(c).resources.memory_swap = Some(-1)),
        ("no process limit", |c| spec(c).resources.pids = Some(-1)),
        ("swappiness", |c| spec(c).resources.memory_swappiness = Some(-1)),
        ("a label of docker compose", |c| {
            drop(c.labels.insert("com.docker.compose.replace".into(), "x".into()))
        }),
        ("every address", |c| spec(c).ports.iter_mut().for_each(|port| port.host_ip = "0.0.0.0".into())),
        ("prefixed capability", |c| spec(c).cap_drop = vec!["CAP_NET_RAW".into()]),
        ("short ID as alias", |c| {
            c.detail.as_mut().unwrap().networks.values_mut().for_each(|e| e.aliases.extend(["3f1a".into()]));
        }),
    ];
    let stack =
        Stack::of(&["web"]).port("web", "80").edit("web", |web| web.cap_drop = vec!["NET_RAW".into()]);
    for (what, change) in table {
        let plan = plan(
            &stack.desired(),
            &stack.running().changed("p-web-1", change),
            &Memory::default(),
            Policy::default(),
        );
        assert!(plan.is_empty(), "{what}: {:?}", plan.describe());
    }
}

#[test]
fn what_the_image_says_is_folded_in_before_comparing() {
    let mut stack = Stack::of(&["web"]);
    stack.image.env.insert("PATH".into(), "/bin".into());
    stack.image.labels.insert("maintainer".into(), "x".into());
    stack.image.command = vec!["serve".into()];
    stack.image.user = "app".into();
    stack.image.volumes.insert("/var/lib/app".into());
    stack.image.expose.insert("80/tcp".into());
    assert_plan(&stack, &stack.running().changed("p-web-1", |_| {}), "");
}

#[test]
fn an_image_that_was_replaced_by_hand_is_noticed_whatever_the_labels_say() {
    let stack = Stack::of(&["web"]);
    assert_plan(&stack, &stack.running().but("p-web-1", |web| web.image_id = "sha256:other".into()), ANEW);
}

#[test]
fn without_detail_the_digest_decides() {
    let stack = Stack::of(&["web"]);
    assert_plan(&stack, &stack.running().but("p-web-1", |web| web.detail = None), "");
    assert_plan(&stack, &stack.running().changed("p-web-1", |web| web.detail = None), ANEW);
}

#[test]
fn limits_and_restart_policy_are_changed_in_place() {
    let stack = Stack::of(&["web"]).edit("web", |web| web.resources.memory = Some(1 << 20));
    let newer = stack.clone().restart("web", Restart::Always).edit("web", |web| {
        web.resources.memory = Some(2 << 20);
        web.resources.nano_cpus = Some(500_000_000);
    });
    let plan = assert_plan(&newer, &stack.running(), "update p-web-1");
    for what in ["restart policy", "memory limit", "CPU limit"] {
        assert!(plan.steps[0].reason.contains(what), "{}", plan.steps[0].reason);
    }
}

#[test]
fn limits_changed_by_hand_are_put_back() {
    let stack = Stack::of(&["web"]).edit("web", |web| web.resources.memory = Some(1 << 20));
    let observed = stack.running().but("p-web-1", |web| spec(web).resources.memory = Some(9 << 20));
    assert_plan(&stack, &observed, "update p-web-1");
}

#[test]
fn a_limit_that_is_taken_away_needs_a_new_container() {
    let stack = Stack::of(&["web"]).edit("web", |web| web.resources.memory = Some(1 << 20));
    assert_plan(&Stack::of(&["web"]), &stack.running(), ANEW);
}

#[test]
fn an_update_comes_before_the_start() {
    let stack = Stack::of(&["web"]);
    let newer = stack.clone().restart("web", Restart::Always);
    assert_plan(&newer, &stack.running().ended("p-web-1", 1), "update p-web-1 < start p-web-1");
}

#[test]
fn a_container_torn_from_its_network_is_attached_again() {
    let stack = Stack::of(&["web"]);
    let observed = stack.running().but("p-web-1", |web| web.detail.as_mut().unwrap().networks.clear());
    assert_plan(&stack, &observed, "connect p-web-1 to p_default");
}

#[test]
fn an_alias_that_is_missing_needs_attaching_anew() {
    let stack = Stack::of(&["web"]);
    let observed = stack.running().but("p-web-1", |web| {
        web.detail.as_mut().unwrap().networks.values_mut().for_each(|endpoint| endpoint.aliases.clear());
    });
    assert_plan(&stack, &observed, "give p-web-1 its names in p_default");
}

#[test]
fn a_further_network_is_joined_without_a_new_container() {
    let stack = Stack::of(&["web"]);
    let newer = stack.clone().network("web", "back");
    assert_plan(&newer, &stack.running(), "create network p_back < connect p-web-1 to p_back");
}

#[test]
fn a_network_that_somebody_else_attached_is_left() {
    let stack = Stack::of(&["web"]);
    let observed = stack.running().but("p-web-1", |web| {
        web.detail.as_mut().unwrap().networks.insert("monitoring".into(), Endpoint::default());
    });
    assert_plan(&stack, &observed, "");
}

#[test]
fn a_network_that_was_made_anew_behind_our_back_makes_its_containers_anew() {
    let stack = Stack::of(&["web"]);
    let mut observed = stack.running();
    observed.networks[0].id = "id-other".into();
    assert_plan(&stack, &observed, ANEW);
}

#[test]
fn a_volume_mounted_elsewhere_or_read_only_is_a_difference() {
    let stack = Stack::of(&["web"]).volume("web", "data");
    for change in [
        (|mount: &mut MountPoint| mount.target = "/other".into()) as fn(&mut MountPoint),
        |mount| mount.writable = false,
        |mount| mount.name = Some("another".into()),
    ] {
        let observed =
            stack.running().changed("p-web-1", |web| change(&mut web.detail.as_mut().unwrap().mounts[0]));
        assert_plan(&stack, &observed, ANEW);
    }
}

#[test]
fn order_of_ports_and_mounts_is_no_difference() {
    let stack = Stack::of(&["web"]).volume("web", "a").volume("web", "b").edit("web", |web| {
        for target in [80, 90] {
            web.ports.push(Port {
                target,
                protocol: "tcp".into(),
                published: target.to_string(),
                ..Port::default()
            });
        }
        web.volumes.push(Mount { target: "/anonymous".into(), ..Mount::default() });
    });
    let observed = stack.running().changed("p-web-1", |web| {
        spec(web).ports.reverse();
        web.detail.as_mut().unwrap().mounts.reverse();
    });
    assert_plan(&stack, &observed, "");
}

#[test]
fn where_selinux_confines_what_is_ours_is_labelled_for_the_container_and_the_hosts_own_is_left_alone() {
    let bind = |path: &str| Mount {
        kind: MountKind::Bind,
        source: Some(path.into()),
        target: path.into(),
        ..Mount::default()
    };
    let mut stack = Stack::of(&["web"]).edit("web", |service| {
        service.volumes = vec![bind("/data"), bind("/etc/host")];
        service.volumes.push(Mount { bind_selinux: Some("Z".into()), ..bind("/own") });
    });
    let labels = |stack: &Stack| {
        let spec = stack.desired().containers["p-web-1"].spec.clone();
        spec.mounts.iter().map(|mount| mount.bind_selinux.clone()).collect::<Vec<_>>()
    };
    assert_eq!(labels(&stack), [None, None, Some("Z".to_owned())]);
    stack.relabel = true;
    assert_eq!(labels(&stack), [Some("z".to_owned()), None, Some("Z".to_owned())]);
}
