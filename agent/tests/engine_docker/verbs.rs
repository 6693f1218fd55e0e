//! Each verb, and what comes back of what was asked.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::StreamExt;
use kedge::engine::spec::LABEL_SPEC;
use kedge::engine::types::{Filter, LogQuery, State, Stream};
use kedge::engine::{Action, ContainerSpec, Engine, Error, Kind, Update};
use kedge::plan::differ::{Surroundings, compare};
use kedge_compose::model::{
    Attachment, Healthcheck, Logging, Mount, MountKind, Port, Resources, Restart, Service, Ulimit, Volume,
};

use crate::rig::{Rig, soon};

/// A service that says something about everything.
fn talkative(image: &str) -> Service {
    let tmpfs = Mount {
        kind: MountKind::Tmpfs,
        target: "/memory".into(),
        tmpfs_size: Some(1 << 20),
        ..Mount::default()
    };
    let volume = Mount {
        source: Some("data".into()),
        target: "/data".into(),
        volume_nocopy: true,
        ..Mount::default()
    };
    let anonymous = Mount { target: "/anonymous".into(), ..Mount::default() };
    let bind = |create: bool, target: &str| Mount {
        kind: MountKind::Bind,
        source: Some("/etc/hostname".into()),
        target: target.into(),
        read_only: true,
        bind_create_host_path: create,
        ..Mount::default()
    };
    Service {
        name: "all".into(),
        image: image.into(),
        command: Some(vec!["sleep".into(), "500".into()]),
        entrypoint: Some(vec!["/bin/busybox".into()]),
        environment: BTreeMap::from([
            ("A".into(), Some("1=2".into())),
            ("FROM_IMAGE".into(), None),
            ("EMPTY".into(), Some("".into())),
        ]),
        labels: BTreeMap::from([("tier".into(), "front".into())]),
        user: Some("1000:1000".into()),
        group_add: vec!["2000".into()],
        working_dir: Some("/tmp".into()),
        hostname: Some("talkative".into()),
        domainname: Some("example".into()),
        init: Some(true),
        tty: false,
        stdin_open: true,
        stop_signal: Some("SIGTERM".into()),
        stop_grace_period: Some(Duration::from_secs(3)),
        read_only: true,
        cap_add: vec!["NET_ADMIN".into()],
        cap_drop: vec!["MKNOD".into()],
        security_opt: vec!["no-new-privileges:true".into()],
        ulimits: BTreeMap::from([("nofile".into(), Ulimit { soft: 1000, hard: 2000 })]),
        sysctls: BTreeMap::from([("net.ipv4.ip_unprivileged_port_start".into(), "0".into())]),
        extra_hosts: BTreeMap::from([("db.example".into(), vec!["10.0.0.1".into()])]),
        dns: vec!["10.0.0.53".into()],
        dns_search: vec!["example".into()],
        dns_opt: vec!["ndots:2".into()],
        logging: Some(Logging {
            driver: "json-file".into(),
            options: BTreeMap::from([("max-size".into(), "1m".into())]),
        }),
        restart: Restart::OnFailure { max_retries: Some(3) },
        resources: Resources {
            nano_cpus: Some(500_000_000),
            memory: Some(64 << 20),
            memory_reservation: Some(32 << 20),
            pids: Some(100),
            cpu_shares: Some(512),
            oom_score_adj: Some(100),
            ..Resources::default()
        },
        healthcheck: Some(Healthcheck {
            test: vec!["CMD".into(), "/bin/busybox".into(), "true".into()],
            interval: Some(Duration::from_secs(1)),
            timeout: Some(Duration::from_secs(5)),
            retries: Some(2),
            start_period: Some(Duration::from_millis(500)),
            start_interval: None,
        }),
        expose: vec!["9000".into(), "9001/udp".into()],
        ports: vec![Port {
            target: 8080,
            protocol: "tcp".into(),
            host_ip: "127.0.0.1".into(),
            ..Port::default()
        }],
        volumes: vec![tmpfs, volume, anonymous, bind(true, "/by-bind"), bind(false, "/by-mount")],
        tmpfs: vec!["/run:size=1m".into()],
        shm_size: Some(8 << 20),
        ..Service::default()
    }
}

#[tokio::test]
async fn everything_that_was_asked_for_is_found_again() {
    let Some(mut rig) = Rig::new("all").await else { return };
    let image = rig.image("1");
    let images = soon(rig.load(std::slice::from_ref(&image))).await.0.unwrap();
    let mut project = rig.project(vec![talkative(&image.reference)]);
    let volume = Volume { name: format!("{}_data", rig.name), ..Volume::default() };
    project.volumes.insert("data".into(), volume);
    let second = kedge_compose::model::Network {
        name: format!("{}_back", rig.name),
        internal: true,
        ..Default::default()
    };
    project.networks.insert("back".into(), second);
    let service = project.services.get_mut("all").unwrap();
    service.networks.insert(
        "back".into(),
        Attachment { aliases: ["other-name".to_owned()].into(), ..Attachment::default() },
    );
    let desired = rig.desired(&project, &images);
    soon(async { rig.apply(&rig.plan(&desired).await).await }).await;
    let (name, wanted) = desired.containers.first_key_value().unwrap();
    let mut seen = rig.engine.inspect_container(name).await.unwrap();
    assert_eq!(seen.state, State::Running);
    // Without our digest every field is compared.
    seen.labels.remove(LABEL_SPEC);
    let networks = rig.engine.list_networks(&Filter::deployment(&rig.name)).await.unwrap();
    let around = Surroundings {
        containers: BTreeMap::new(),
        networks: networks.into_iter().map(|network| (network.name, network.id)).collect(),
    };
    assert_eq!(around.networks.len(), 2);
    let differences = compare(wanted, &seen, &around);
    assert!(differences.is_empty(), "{differences:?}");
    assert!(soon(rig.plan(&desired)).await.is_empty());

    let update = Update {
        restart: Some(Restart::Always),
        resources: Some(Resources {
            memory: Some(128 << 20),
            nano_cpus: Some(250_000_000),
            ..Resources::default()
        }),
    };
    rig.engine.update_container(&seen.id, &update).await.unwrap();
    let plan = rig.plan(&desired).await;
    assert_eq!(
        plan.steps.iter().map(|step| step.action.to_string()).collect::<Vec<_>>(),
        [format!("update {name}")]
    );
    soon(rig.apply(&plan)).await;
    assert!(rig.plan(&desired).await.is_empty());
}

#[tokio::test]
async fn a_container_lives_and_dies_and_its_words_are_heard() {
    let Some(mut rig) = Rig::new("life").await else { return };
    let image = rig.image("1");
    let id = soon(rig.load(std::slice::from_ref(&image))).await.0.unwrap()[&image.reference].id.clone();
    let engine = rig.engine.clone();
    let script = "cat /tmp/greeting; echo two >&2; printf three; exit 7";
    let spec = ContainerSpec {
        image: id,
        entrypoint: Some(["/bin/busybox", "sh", "-c"].map(str::to_owned).to_vec()),
        command: Some(vec![script.replace("cat", "/bin/busybox cat")]),
        labels: BTreeMap::from([("sh.kedge.deployment".to_owned(), rig.name.clone())]),
        network_mode: Some("none".into()),
        ..ContainerSpec::default()
    };
    let name = format!("{}-one", rig.name);
    let id = engine.create_container(&name, &spec).await.unwrap();
    assert_eq!(engine.create_container(&name, &spec).await.unwrap_err().kind, Kind::NameTaken);
    let mut tar = kedge_bundle::tar::header("greeting", 4).to_vec();
    tar.extend_from_slice(b"one\n");
    tar.resize(2048, 0);
    engine.put_archive(&id, "/", tar.clone().into()).await.unwrap();
    // The folder has to be there.
    assert!(engine.put_archive(&id, "/no-such-folder", tar.into()).await.is_err());
    engine.rename_container(&id, &format!("{name}-renamed")).await.unwrap();
    engine.rename_container(&id, &format!("{name}-renamed")).await.unwrap();
    engine.start_container(&id).await.unwrap();
    assert_eq!(soon(engine.wait_container(&id)).await.unwrap(), 7);
    let listed = engine.list_containers(&Filter::names([format!("{name}-renamed")])).await.unwrap();
    assert_eq!((listed.len(), listed[0].state, listed[0].exit_code), (1, State::Exited, Some(7)));
    let lines: Vec<_> = soon(engine.logs(&id, &LogQuery::default()).await.unwrap().collect::<Vec<_>>()).await;
    let mut said: Vec<(Stream, String)> =
        lines.into_iter().map(|line| line.unwrap()).map(|line| (line.stream, line.text)).collect();
    said.sort_by_key(|(stream, _)| *stream == Stream::Stderr);
    let words: Vec<&str> = said.iter().map(|(_, text)| text.as_str()).collect();
    assert!(words.contains(&"three") && said.contains(&(Stream::Stderr, "two".into())), "{said:?}");
    engine.remove_container(&id).await.unwrap();
    engine.remove_container(&id).await.unwrap();
    assert!(engine.inspect_container(&id).await.is_err_and(|error: Error| error.is_not_found()));
}

#[tokio::test]
async fn what_the_engine_refuses_is_told_apart() {
    let Some(mut rig) = Rig::new("refuse").await else { return };
    let image = rig.image("1");
    let id = soon(rig.load(std::slice::from_ref(&image))).await.0.unwrap()[&image.reference].id.clone();
    let engine = rig.engine.clone();
    let labels = BTreeMap::from([("sh.kedge.deployment".to_owned(), rig.name.clone())]);
    let missing = ContainerSpec { image: format!("sha256:{}", "0".repeat(64)), ..ContainerSpec::default() };
    let name = |suffix: &str| format!("{}-{suffix}", rig.name);
    assert_eq!(engine.create_container(&name("a"), &missing).await.unwrap_err().kind, Kind::NoImage);
    assert_eq!(engine.inspect_image("kedge.local/none:1").await.unwrap_err().kind, Kind::NoImage);
    assert_eq!(engine.start_container(&name("a")).await.unwrap_err().kind, Kind::NotFound);

    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = Port {
        target: 80,
        protocol: "tcp".into(),
        host_ip: "127.0.0.1".into(),
        published: taken.local_addr().unwrap().port().to_string(),
        ..Port::default()
    };
    let spec = ContainerSpec {
        image: id.clone(),
        labels: labels.clone(),
        ports: vec![port],
        ..ContainerSpec::default()
    };
    let container = engine.create_container(&name("port"), &spec).await.unwrap();
    assert_eq!(soon(engine.start_container(&container)).await.unwrap_err().kind, Kind::PortTaken);

    let spec = ContainerSpec {
        image: id,
        labels,
        entrypoint: Some(vec!["/none".into()]),
        ..ContainerSpec::default()
    };
    let container = engine.create_container(&name("none"), &spec).await.unwrap();
    assert_eq!(soon(engine.start_container(&container)).await.unwrap_err().kind, Kind::StartFailed);
}

#[tokio::test]
async fn an_engine_that_is_not_there_is_unreachable() {
    let nowhere = kedge::engine::docker::Docker::at("/nonexistent/docker.sock");
    assert_eq!(nowhere.ping().await.unwrap_err().kind, Kind::Unreachable);
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("engine.sock");
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    let deaf = kedge::engine::docker::Docker::at(socket.to_str().unwrap());
    assert_eq!(deaf.info().await.unwrap_err().kind, Kind::Unreachable);
}

#[tokio::test]
async fn events_tell_what_happened_since() {
    let Some(mut rig) = Rig::new("events").await else { return };
    let image = rig.image("1");
    let id = soon(rig.load(std::slice::from_ref(&image))).await.0.unwrap()[&image.reference].id.clone();
    let engine = rig.engine.clone();
    let labels = BTreeMap::from([("sh.kedge.deployment".to_owned(), rig.name.clone())]);
    let spec =
        ContainerSpec { image: id, labels, network_mode: Some("none".into()), ..ContainerSpec::default() };
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as i64;
    let container = engine.create_container(&format!("{}-x", rig.name), &spec).await.unwrap();
    engine.start_container(&container).await.unwrap();
    engine.kill_container(&container, "SIGKILL").await.unwrap();
    // Subscribed only now: what went before is told all the same.
    let mut events = engine.events(since).await.unwrap();
    let mut seen = Vec::new();
    soon(async {
        while let Some(event) = events.next().await {
            let event = event.unwrap();
            if event.id == container {
                seen.push(event.action);
                if event.action == Action::Die(137) {
                    break;
                }
            }
        }
    })
    .await;
    assert_eq!(seen, [Action::Create, Action::Start, Action::Kill, Action::Die(137)]);
}
