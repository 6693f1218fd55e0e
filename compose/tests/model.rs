//! From file to model: what the planner is given, and what is refused on a customer's host.

use std::time::Duration;

use kedge_compose::model::{Condition, FileSource, MountKind, Restart};
use kedge_compose::{Errors, Loaded, MemoryFiles, Options, extension, load, variables};
use serde_json::json;

fn options() -> Options {
    Options { project_directory: "/p".to_owned(), confined: true, ..Options::default() }
}

fn loaded(text: &str) -> Result<Loaded, Errors> {
    load(&MemoryFiles::new("/p").with("compose.yaml", text).with("c.conf", "x"), &options())
}

fn codes(text: &str) -> Vec<&'static str> {
    loaded(text)
        .err()
        .map(|errors| errors.all().iter().map(|error| error.code.id).collect())
        .unwrap_or_default()
}

#[test]
fn a_service_arrives_whole() {
    let text = r#"
services:
  web:
    image: nginx:1
    command: nginx -g 'daemon off;'
    entrypoint: []
    environment: {A: 1, B: }
    ports: ["127.0.0.1:8080:80/tcp", {target: 81, published: 81}, "81:81"]
    expose: [9000]
    volumes: ["data:/data:ro", "./conf:/conf:z", {type: tmpfs, target: /t, tmpfs: {size: 1m, mode: 0700}}]
    networks: {front: {aliases: [www], priority: 5, gw_priority: 7}}
    depends_on: {db: {condition: service_healthy, restart: true}}
    links: ["cache:c"]
    healthcheck: {test: curl -f localhost, interval: 5s, retries: 2}
    deploy:
      replicas: 2
      resources: {limits: {cpus: "0.5", memory: 64m, pids: 10}, reservations: {memory: 32m}}
      restart_policy: {condition: on-failure, max_attempts: 3}
      update_config: {order: start-first, delay: 2s}
    configs: [conf, {source: conf, target: /etc/x, mode: 0440}]
    secrets: [key]
    ulimits: {nofile: 1024, nproc: {soft: 1, hard: 2}}
    extra_hosts: ["h=1.2.3.4", "h:5.6.7.8"]
    stop_grace_period: 1m
    x-own: {a: 1}
  db: {image: postgres, healthcheck: {disable: true}, restart: "on-failure:5"}
  cache: {image: redis, restart: unless-stopped}
volumes: {data: }
networks: {front: {internal: true, ipam: {options: {o: p}, config: [{subnet: 10.0.0.0/8}]}}}
configs: {conf: {file: ./c.conf}}
secrets: {key: {environment: KEY}}
x-top: [1]
"#;
    let project = loaded(text).map_err(|errors| errors.to_string()).unwrap().project;
    let web = &project.services["web"];
    assert_eq!(web.command.as_deref(), Some(&["nginx", "-g", "daemon off;"].map(str::to_owned)[..]));
    assert_eq!(web.entrypoint.as_deref(), Some(&[][..]));
    assert_eq!(web.environment["B"], None);
    let ports: Vec<_> =
        web.ports.iter().map(|port| (port.host_ip.as_str(), port.published.as_str(), port.target)).collect();
    assert_eq!(ports, [("127.0.0.1", "8080", 80), ("", "81", 81)], "one port written twice is one");
    assert_eq!(web.expose, ["9000/tcp"]);
    let kinds: Vec<_> = web.volumes.iter().map(|mount| mount.kind).collect();
    assert_eq!(kinds, [MountKind::Volume, MountKind::Bind, MountKind::Tmpfs]);
    assert!(web.volumes[0].read_only && web.volumes[1].bind_create_host_path);
    assert_eq!(web.volumes[1].bind_selinux.as_deref(), Some("z"));
    assert_eq!((web.volumes[2].tmpfs_size, web.volumes[2].tmpfs_mode), (Some(1 << 20), Some(0o700)));
    assert_eq!((web.networks["front"].priority, web.networks["front"].gw_priority), (5, 7));
    assert_eq!(web.depends_on["db"].condition, Condition::ServiceHealthy);
    assert!(web.depends_on["cache"].restart, "a link is a dependency");
    assert_eq!(web.healthcheck.as_ref().unwrap().test, ["CMD-SHELL", "curl -f localhost"]);
    assert_eq!((web.replicas, web.restart), (2, Restart::OnFailure { max_retries: Some(3) }));
    assert_eq!((web.resources.nano_cpus, web.resources.memory), (Some(500_000_000), Some(64 << 20)));
    assert_eq!((web.resources.pids, web.resources.memory_reservation), (Some(10), Some(32 << 20)));
    assert_eq!(web.update_config.as_ref().unwrap().delay, Some(Duration::from_secs(2)));
    let targets: Vec<_> = web.configs.iter().map(|mount| (mount.target.as_str(), mount.mode)).collect();
    assert_eq!(targets, [("/conf", None), ("/etc/x", Some(0o440))]);
    assert_eq!(web.secrets[0].target, "/run/secrets/key");
    assert_eq!((web.ulimits["nofile"].soft, web.ulimits["nproc"].hard), (1024, 2));
    assert_eq!(web.extra_hosts["h"], ["1.2.3.4", "5.6.7.8"]);
    assert_eq!(web.stop_grace_period, Some(Duration::from_secs(60)));
    assert_eq!(web.extensions["x-own"], json!({"a": 1}));
    assert_eq!(project.services["db"].healthcheck.as_ref().unwrap().test, ["NONE"]);
    assert_eq!(project.services["db"].restart, Restart::OnFailure { max_retries: Some(5) });
    assert_eq!(project.services["cache"].restart, Restart::UnlessStopped);
    assert_eq!(project.networks["front"].ipam_options["o"], "p");
    assert_eq!(project.configs["conf"].source, FileSource::File("/p/c.conf".to_owned()));
    assert_eq!(project.secrets["key"].source, FileSource::Environment("KEY".to_owned()));
    assert_eq!(
        (project.volumes["data"].name.as_str(), &project.extensions["x-top"]),
        ("p_data", &json!([1]))
    );
}

#[test]
fn what_a_host_cannot_honour_is_refused_by_name() {
    for (text, code) in [
        ("services: {a: {build: .}}", "KE-1006"),
        ("services: {a: {image: x, provider: {type: y}}}", "KE-1005"),
        ("services: {a: {image: x, models: [m]}}\nmodels: {m: {model: y}}", "KE-1005"),
        ("services: {a: {image: x, use_api_socket: true}}", "KE-1005"),
        ("services: {a: {image: x, credential_spec: {file: f}}}", "KE-1005"),
        ("services: {a: {image: x, secrets: [s]}}\nsecrets: {s: {external: true}}", "KE-1005"),
        ("services: {a: {image: x, volumes: [{type: cluster, source: c, target: /c}]}}", "KE-1005"),
        ("services: {a: {image: x, configs: [c]}}\nconfigs: {c: {file: ../../etc/shadow}}", "KE-1009"),
        ("services: {a: {image: x, secrets: [c]}}\nsecrets: {c: {file: /etc/shadow}}", "KE-1009"),
        ("services: {a: {image: x, configs: [c]}}\nconfigs: {c: {file: no.conf}}", "KE-1011"),
        ("services: {a: {image: x, post_start: [{user: root}]}}", "KE-1003"),
        ("services: {a: {image: x, restart: sometimes}}", "KE-1003"),
        ("services: {a: {image: x, volumes: ['v:/v']}}\nvolumes: {v: }", "KE-1003"),
        ("services: {a: {image: x, volumes: [{type: tmpfs, target: t}]}}", "KE-1003"),
        ("services: {a: {image: x, scale: 100000}}", "KE-1003"),
        ("services: {a: {image: x, healthcheck: {test: t, start_interval: 1s}}}", "KE-1012"),
    ] {
        let found = codes(text);
        assert!(!found.is_empty() && found.iter().all(|found| *found == code), "{text}: {found:?}");
    }
    let error = loaded("services: {a: {build: .}}").unwrap_err().to_string();
    assert!(error.contains("docker push") && error.contains("image: REGISTRY/a:VERSION"), "{error}");
}

#[test]
fn what_may_be_left_out_is_left_out_with_a_warning() {
    let text = "services:\n  a:\n    image: x\n    build: .\n    command: a && b\n    hostname: ${NOPE}\n    \
                develop: {watch: []}\n    deploy: {mode: global, restart_policy: {delay: 1s}}\n";
    let warnings = loaded(text).unwrap().warnings;
    let lines: Vec<u32> = warnings.iter().map(|warning| warning.line).collect();
    assert_eq!(lines, [4, 5, 6, 7, 8, 8], "{warnings:?}");
}

#[test]
fn an_extension_is_read_without_variables_and_over_several_files() {
    let files = MemoryFiles::new("/p")
        .with(
            "compose.yaml",
            "x-kedge: {parameters: {A: {default: 1}}, product: '${P:?no}'}\nservices: {a: {image: '${A:?}'}}",
        )
        .with("compose.override.yaml", "x-kedge: {parameters: {B: {}}}");
    let found = extension(&files, &options(), "x-kedge").unwrap();
    assert_eq!(found, Some(json!({"parameters": {"A": {"default": 1}, "B": {}}, "product": "${P:?no}"})));
    assert_eq!(extension(&files, &options(), "x-none").unwrap(), None);
}

#[test]
fn variables_are_listed() {
    let files = MemoryFiles::new("/p").with(
        "compose.yaml",
        "x-kedge: {p: '$IGNORED'}\nservices: {a: {image: '${REPO}:${TAG:-1}', user: '${UID:?who}'}}",
    );
    let found = variables(&files, &options(), &["x-kedge"]).unwrap();
    let shown: Vec<_> =
        found.iter().map(|v| (v.name.as_str(), v.default.as_deref(), v.required, v.plain)).collect();
    assert_eq!(
        shown,
        [("REPO", None, false, true), ("TAG", Some("1"), false, false), ("UID", None, true, false)]
    );

    let files = MemoryFiles::new("/p")
        .with("compose.yaml", "include: [sub/c.yaml]\nservices: {a: {extends: {file: e.yaml, service: e}}}")
        .with("e.yaml", "services: {e: {image: $E, extends: {file: compose.yaml, service: a}}}")
        .with("sub/c.yaml", "include: [d.yaml, '$NOT/found.yaml']\nservices: {c: {image: $C}}")
        .with("sub/d.yaml", "services: {d: {image: $D}}");
    let found = variables(&files, &options(), &[]).unwrap();
    let names: Vec<_> = found.iter().map(|variable| variable.name.as_str()).collect();
    assert_eq!(names, ["C", "D", "E", "NOT"], "those of other files too, and circles end");
}
