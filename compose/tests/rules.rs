//! The rules by which files become a project, each with the smallest project that shows it.

use kedge_compose::{Config, Errors, MemoryFiles, Options, config};
use serde_json::{Value, json};

/// A folder `/p` from `(path, content)` pairs.
fn files(list: &[(&str, &str)]) -> MemoryFiles {
    list.iter().fold(MemoryFiles::new("/p"), |files, (path, content)| files.with(path, *content))
}

fn options(names: &[&str]) -> Options {
    Options {
        files: names.iter().map(|name| (*name).to_owned()).collect(),
        project_directory: "/p".to_owned(),
        environment: [("HOME".to_owned(), "/home/me".to_owned())].into(),
        confined: true,
        ..Options::default()
    }
}

fn read(list: &[(&str, &str)], options: &Options) -> Result<Config, Errors> {
    config(&files(list), options)
}

/// The canonical form of `compose.yaml`, or of it and `over.yaml`, at a JSON pointer.
fn at(list: &[(&str, &str)], pointer: &str) -> Value {
    let names: Vec<&str> = list
        .iter()
        .map(|(name, _)| *name)
        .filter(|name| matches!(*name, "compose.yaml" | "over.yaml"))
        .collect();
    match read(list, &options(&names)) {
        Ok(config) => config.canonical.pointer(pointer).cloned().unwrap_or_default(),
        Err(errors) => json!(errors.to_string()),
    }
}

/// Codes and places of all errors of `compose.yaml`.
fn errors(list: &[(&str, &str)]) -> Vec<(&'static str, u32, String)> {
    let errors =
        read(list, &options(&["compose.yaml"])).err().map(|errors| errors.all().to_vec()).unwrap_or_default();
    errors.into_iter().map(|error| (error.code.id, error.line, format!("{error}"))).collect()
}

fn codes(list: &[(&str, &str)]) -> Vec<&'static str> {
    errors(list).into_iter().map(|(code, ..)| code).collect()
}

/// Base, override, and where in service `a` to look.
#[test]
fn later_files_are_laid_over_earlier_ones() {
    let cases: &[(&str, &str, &str, Value)] = &[
        ("command: x y", "command: [z]", "command", json!(["z"])),
        ("entrypoint: x", "entrypoint: []", "entrypoint", json!([])),
        (
            "environment: {A: 1, B: 2}",
            "environment: [B=3, C=4]",
            "environment",
            json!({"A": "1", "B": "3", "C": "4"}),
        ),
        ("labels: [a=b]", "labels: {a: c}", "labels", json!({"a": "c"})),
        ("sysctls: {a: 1}", "sysctls: [b=2]", "sysctls", json!({"a": "1", "b": "2"})),
        ("dns: 1.1.1.1", "dns: [2.2.2.2, 1.1.1.1]", "dns", json!(["1.1.1.1", "2.2.2.2"])),
        ("cap_add: [A]", "cap_add: [A, B]", "cap_add", json!(["A", "B"])),
        ("expose: [80]", "expose: ['80', 81]", "expose", json!(["80", "81"])),
        ("ulimits: {n: {soft: 1, hard: 2}}", "ulimits: {n: 5}", "ulimits", json!({"n": 5})),
        (
            "healthcheck: {test: a, retries: 3}",
            "healthcheck: {test: [CMD, b]}",
            "healthcheck",
            json!({"test": ["CMD", "b"], "retries": 3}),
        ),
        (
            "logging: {driver: a, options: {x: 1}}",
            "logging: {options: {y: 2}}",
            "logging/options",
            json!({"x": "1", "y": "2"}),
        ),
        ("logging: {driver: a, options: {x: 1}}", "logging: {driver: b}", "logging", json!({"driver": "b"})),
        (
            "extra_hosts: [a=1.1.1.1]",
            "extra_hosts: {a: 1.1.1.1, b: 2.2.2.2}",
            "extra_hosts",
            json!(["a=1.1.1.1", "b=2.2.2.2"]),
        ),
        ("volumes: ['./x:/t', /u]", "volumes: ['./y:/t:ro']", "volumes/0/source", json!("/p/y")),
        ("devices: ['/dev/a:/dev/t']", "devices: ['/dev/b:/dev/t']", "devices/0/source", json!("/dev/b")),
        ("tmpfs: /a", "tmpfs: [/a, /b]", "tmpfs", json!(["/a", "/b"])),
        (
            "deploy: {replicas: 3, labels: {a: b}}",
            "deploy: {replicas: 1}",
            "deploy/labels",
            json!({"a": "b"}),
        ),
        ("hostname: a", "hostname: b", "hostname", json!("b")),
        ("hostname: a", "hostname:", "hostname", json!("a")),
        ("ports: ['80:80']", "ports: !override ['81:81']", "ports/0/target", json!(81)),
        ("environment: {A: 1}", "environment: !reset {}", "environment", Value::Null),
        ("labels: {a: 1, b: 2}", "labels: {a: !reset 1}", "labels", json!({"b": "2"})),
    ];
    for (base, over, pointer, expected) in cases {
        let base = format!("services:\n  a:\n    image: x\n    {base}\n");
        let over = format!("services:\n  a:\n    {over}\n");
        let found = at(&[("compose.yaml", &base), ("over.yaml", &over)], &format!("/services/a/{pointer}"));
        assert_eq!(found, *expected, "{base}{over}");
    }
}

#[test]
fn ports_are_one_by_address_published_target_and_protocol() {
    let base = "services: {a: {image: x, ports: ['80:80', '127.0.0.1:80:80', '53:53/udp']}}";
    let over = "services: {a: {ports: ['80:80', '53:53/tcp', '53:53/udp']}}";
    let ports = at(&[("compose.yaml", base), ("over.yaml", over)], "/services/a/ports");
    assert_eq!(ports.as_array().map(Vec::len), Some(4));
}

#[test]
fn a_list_cannot_be_overridden_with_text() {
    let list = [
        ("compose.yaml", "services: {a: {image: x, ports: ['80']}}"),
        ("over.yaml", "services: {a: {ports: '81'}}"),
    ];
    let errors = read(&list, &options(&["compose.yaml", "over.yaml"])).unwrap_err();
    assert_eq!((errors.code().id, errors.all()[0].file.as_str()), ("KE-1003", "/p/over.yaml"));
}

#[test]
fn tags_work_through_anchors_and_merge_keys() {
    let base = "services: {a: {image: x, ports: ['80:80'], command: c}}";
    let over =
        "x-o: &o !override ['81:81']\nx-r: &r {command: !reset null}\nservices:\n  a: {<<: *r, ports: *o}\n";
    let list = [("compose.yaml", base), ("over.yaml", over)];
    assert_eq!(at(&list, "/services/a/command"), Value::Null);
    assert_eq!(at(&list, "/services/a/ports").as_array().map(Vec::len), Some(1));
}

#[test]
fn extending_from_another_file_sees_paths_from_its_folder() {
    let list = [
        ("compose.yaml", "services: {a: {extends: {file: sub/b.yaml, service: b}, ports: ['2:2']}}"),
        (
            "sub/b.yaml",
            "services: {b: {extends: {file: c/c.yaml, service: c}, image: i, ports: ['1:1'], volumes: ['./v:/v']}}",
        ),
        ("sub/c/c.yaml", "services: {c: {env_file: e.env, command: deep}}"),
        ("sub/c/e.env", "A=1"),
    ];
    let service = at(&list, "/services/a");
    assert_eq!(service["volumes"][0]["source"], "/p/sub/v");
    assert_eq!(service["environment"]["A"], "1");
    assert_eq!(service["command"], json!(["deep"]));
    assert_eq!(service["ports"].as_array().map(Vec::len), Some(2));
}

#[test]
fn an_included_project_has_its_own_folder_and_variables() {
    let list = [
        ("compose.yaml", "include: [sub/c.yaml]\nservices: {a: {image: '${V:-none}'}}"),
        (
            "sub/c.yaml",
            "services: {b: {image: '${V}', volumes: ['./x:/x', 'vv:/v'], environment: [W, HOME]}}\nvolumes: {vv: }",
        ),
        ("sub/.env", "V=inner\nHOME=/not/this\nW=w"),
    ];
    let services = at(&list, "/services");
    assert_eq!(services["a"]["image"], "none");
    assert_eq!(services["b"]["image"], "inner");
    assert_eq!(services["b"]["volumes"][0]["source"], "/p/sub/x");
    assert_eq!(services["b"]["environment"], json!({"W": "w", "HOME": "/home/me"}));
    assert_eq!(at(&list, "/volumes/vv/name"), "p_vv");
}

#[test]
fn an_include_may_be_overridden_in_itself_and_conflicts_otherwise() {
    let over = ("over.yaml", "services: {b: {labels: [a=b]}}");
    let base = ("b.yaml", "services: {b: {image: y}}");
    let both = [("compose.yaml", "include: [{path: [b.yaml, over.yaml]}]"), base, over];
    let config = read(&both, &options(&["compose.yaml"])).unwrap();
    assert_eq!(config.canonical["services"]["b"]["labels"], json!({"a": "b"}));
    assert_eq!(codes(&[("compose.yaml", "include: [b.yaml]\nservices: {b: {image: z}}"), base]), ["KE-1012"]);
    let same = [("compose.yaml", "include: [b.yaml, c.yaml]"), base, ("c.yaml", base.1)];
    assert_eq!(codes(&same), [""; 0]);
}

#[test]
fn circles_are_refused() {
    for list in [
        &[("compose.yaml", "services: {a: {extends: b, image: x}, b: {extends: a}}")][..],
        &[("compose.yaml", "services: {a: {extends: a, image: x}}")],
        &[
            ("compose.yaml", "include: [b.yaml]"),
            ("b.yaml", "include: [compose.yaml]\nservices: {b: {image: y}}"),
        ],
        &[(
            "compose.yaml",
            "services: {a: {image: x, depends_on: [b]}, b: {image: x, links: [c]}, c: {image: x, network_mode: 'service:a'}}",
        )],
        &[
            ("compose.yaml", "services: {a: {extends: {file: b.yaml, service: b}}}"),
            ("b.yaml", "services: {b: {extends: {file: compose.yaml, service: a}}}"),
        ],
    ] {
        assert_eq!(codes(list), ["KE-1008"], "{list:?}");
    }
}

#[test]
fn files_outside_the_project_are_refused() {
    for text in [
        "services: {a: {image: x, env_file: ../../etc/shadow}}",
        "services: {a: {image: x, env_file: [{path: /etc/shadow, required: false}]}}",
        "services: {a: {image: x, label_file: ../x}}",
        "services: {a: {extends: {file: ../x.yaml, service: b}}}",
        "include: [../x.yaml]",
        "include: [{path: b.yaml, env_file: ../x.env}]",
    ] {
        assert_eq!(
            codes(&[("compose.yaml", text), ("b.yaml", "services: {b: {image: y}}")]),
            ["KE-1009"],
            "{text}"
        );
    }
}

#[test]
fn profiles_choose_services_and_unused_resources_are_dropped() {
    let text = "services:\n  a: {image: x}\n  b: {image: x, profiles: [p], networks: [n], volumes: ['vv:/v']}\n  \
                c: {image: x, depends_on: {b: {condition: service_started, required: false}}}\nnetworks: {n: }\nvolumes: {vv: }\n";
    let list = [("compose.yaml", text)];
    let with = |profiles: &[&str]| {
        let profiles = profiles.iter().map(|name| (*name).to_owned()).collect();
        read(&list, &Options { profiles, ..options(&["compose.yaml"]) }).unwrap().canonical
    };
    let none = with(&[]);
    assert_eq!(
        none["services"].as_object().map(|map| map.keys().cloned().collect::<Vec<_>>()),
        Some(vec!["a".into(), "c".into()])
    );
    assert_eq!((&none["networks"]["n"], &none["volumes"]), (&Value::Null, &Value::Null));
    for profiles in [&["p"][..], &["*"]] {
        assert_eq!(with(profiles)["volumes"]["vv"]["name"], "p_vv");
    }
    let needed =
        [("compose.yaml", "services: {a: {image: x, depends_on: [b]}, b: {image: x, profiles: [p]}}")];
    assert!(errors(&needed)[0].2.contains("whose profile is not active"));
}

#[test]
fn the_default_network_exists_only_when_used() {
    let networks = |text: &str| at(&[("compose.yaml", text)], "/networks");
    assert_eq!(networks("services: {a: {image: x}}")["default"]["name"], "p_default");
    assert_eq!(networks("services: {a: {image: x, network_mode: host}}"), Value::Null);
    assert_eq!(networks("services: {a: {image: x, networks: [n]}}\nnetworks: {n: }")["default"], Value::Null);
}

#[test]
fn the_name_comes_from_the_option_the_environment_the_file_or_the_folder() {
    let list = [("compose.yaml", "name: In_File\nservices: {a: {image: '${COMPOSE_PROJECT_NAME}'}}")];
    let name = |options: Options| read(&list, &options).map(|config| config.canonical["name"].clone());
    let base = options(&["compose.yaml"]);
    assert_eq!(name(base.clone()).unwrap(), "in_file");
    let environment = [("COMPOSE_PROJECT_NAME".to_owned(), "env".to_owned())].into();
    assert_eq!(name(Options { environment, ..base.clone() }).unwrap(), "env");
    assert_eq!(name(Options { project_name: Some("given".into()), ..base.clone() }).unwrap(), "given");
    assert_eq!(name(Options { project_name: Some("No!".into()), ..base }).unwrap_err().code().id, "KE-1013");
    assert_eq!(at(&[("compose.yaml", "services: {a: {image: x}}")], "/name"), "p");
}

#[test]
fn the_project_is_looked_for_in_the_folders_above_unless_confined() {
    let list = [("compose.yaml", "services: {a: {image: x, volumes: ['./v:/v']}}"), ("sub/deep/x", "")];
    let inside = Options { project_directory: "/p/sub/deep".to_owned(), ..options(&[]) };
    let found = read(&list, &Options { confined: false, ..inside.clone() }).unwrap().canonical;
    assert_eq!(
        (&found["name"], &found["services"]["a"]["volumes"][0]["source"]),
        (&json!("p"), &json!("/p/v"))
    );
    assert_eq!(read(&list, &inside).unwrap_err().code().id, "KE-1011");
}

#[test]
fn a_name_that_is_empty_is_none() {
    let list = [("compose.yaml", "services: {a: {image: x}}")];
    let environment = [("COMPOSE_PROJECT_NAME".to_owned(), "env".to_owned())].into();
    let empty = Options { project_name: Some(String::new()), environment, ..options(&["compose.yaml"]) };
    assert_eq!(read(&list, &empty).unwrap().canonical["name"], "env");
}

#[test]
fn env_files_are_folded_in_and_what_is_written_wins() {
    let text = "services:\n  a:\n    image: x\n    env_file: [one.env, {path: two.env}, {path: none.env, required: false}]\n    \
                environment: {B: own, D: , E: }\n";
    let list = [("compose.yaml", text), ("one.env", "A=1\nB=1\nD=1\n"), ("two.env", "A=${A}2\nC='$A'\n")];
    let expected = json!({"A": "12", "B": "own", "C": "$$A", "D": null, "E": null});
    assert_eq!(at(&list, "/services/a/environment"), expected);
    assert_eq!(codes(&[("compose.yaml", "services: {a: {image: x, env_file: no.env}}")]), ["KE-1011"]);
    // A folder is no missing file, even where one may be missing.
    let folder = "services: {a: {image: x, env_file: [{path: sub, required: false}]}}";
    assert_eq!(codes(&[("compose.yaml", folder), ("sub/x", "")]), ["KE-1011"]);
}

#[test]
fn values_print_as_docker_compose_prints_them() {
    let cases: &[(&str, &str, Value)] = &[
        ("mem_limit: 1.5g", "mem_limit", json!("1610612736")),
        ("stop_grace_period: 90s", "stop_grace_period", json!("1m30s")),
        ("cpus: '0.1'", "cpus", json!(0.1)),
        (
            "environment: {A: 0777, B: 1e3, C: 2024-01-01, D: no}",
            "environment",
            json!({"A": "511", "B": "1000", "C": "2024-01-01 00:00:00 +0000 UTC", "D": "no"}),
        ),
        ("healthcheck: {test: x}", "healthcheck/test", json!(["CMD-SHELL", "x"])),
        ("tty: yes", "tty", json!(true)),
        ("tty: false", "tty", Value::Null),
        ("init: false", "init", json!(false)),
        (
            "volumes: ['~/d:/d/']",
            "volumes/0",
            json!({"type": "bind", "source": "/home/me/d", "target": "/d", "bind": {"create_host_path": true}}),
        ),
        ("gpus: all", "gpus", json!([{"count": -1}])),
        ("hostname: 'a$$b'", "hostname", json!("a$$b")),
        ("scale: 2\n    deploy: {mode: replicated}", "deploy/replicas", json!(2)),
        ("pull_policy: if_not_present", "pull_policy", json!("missing")),
        (
            "blkio_config: {device_read_bps: [{path: /d, rate: 1k}]}",
            "blkio_config/device_read_bps",
            json!([{"Path": "/d", "Rate": "1024"}]),
        ),
    ];
    for (text, pointer, expected) in cases {
        let file = format!("services:\n  a:\n    image: x\n    {text}\n");
        assert_eq!(at(&[("compose.yaml", &file)], &format!("/services/a/{pointer}")), *expected, "{text}");
    }
}

#[test]
fn all_errors_are_told_at_once_with_their_lines() {
    let text = "services:\n  a:\n    imgae: x\n    user: 1000\n    tty: maybe\n    ports: {}\n    hostname: ${X:?set X}\nnetwroks: {}\n";
    let found = errors(&[("compose.yaml", text)]);
    let places: Vec<(&str, u32)> = found.iter().map(|(code, line, _)| (*code, *line)).collect();
    assert_eq!(
        places,
        [("KE-1002", 3), ("KE-1003", 4), ("KE-1003", 5), ("KE-1003", 6), ("KE-1004", 7), ("KE-1002", 8)]
    );
    assert!(found[0].2.contains("help: did you mean `image`?") && found[0].2.contains("3 |     imgae: x"));
    assert!(found[1].2.contains("put the value in quotes"));
    assert!(found[5].2.contains("did you mean `networks`?"));
}

#[test]
fn contradictions_and_loose_ends_are_refused() {
    for (text, code) in [
        ("services: {a: {image: x, networks: [n]}}", "KE-1010"),
        ("services: {a: {image: x, volumes: ['vv:/v']}}", "KE-1010"),
        ("services: {a: {image: x, secrets: [s]}}", "KE-1010"),
        ("services: {a: {image: x, depends_on: [b]}}", "KE-1010"),
        ("services: {a: {image: x, network_mode: host, networks: [n]}}\nnetworks: {n: }", "KE-1012"),
        ("services: {a: {image: x, scale: 2, deploy: {replicas: 3}}}", "KE-1012"),
        ("services: {a: {image: x, container_name: c, scale: 2}}", "KE-1012"),
        ("services: {a: {image: x, cpus: 1, deploy: {resources: {limits: {cpus: 2}}}}}", "KE-1012"),
        ("services: {a: {image: x}}\nvolumes: {v: {external: true, driver: d}}", "KE-1012"),
        ("services: {a: {image: x}}\nsecrets: {s: {file: a, environment: b}}", "KE-1012"),
        ("services: {a: {image: x}}\nsecrets: {s: {}}", "KE-1003"),
        ("services: {a: {restart: always}}", "KE-1003"),
        ("services: {a: {image: x, command: echo 'open}}", "KE-1003"),
        ("services: {a: {image: x, healthcheck: {interval: 1d}}}", "KE-1003"),
        ("services: {a: {image: x, extra_hosts: [a]}}", "KE-1003"),
        ("services: {a: {image: x, pull_policy: sometimes}}", "KE-1003"),
        ("services: {a: {image: x, ports: ['1-2:3-5']}}", "KE-1003"),
        ("services: {a: {image: x, ports: ['1-65535', '1-65535/udp']}}", "KE-1007"),
        ("services: {'a b': {image: x}}", "KE-1003"),
        ("include: [oci://example.com/x]", "KE-1005"),
        ("services: {a: {extends: {file: 'https://x/y.yaml', service: z}}}", "KE-1005"),
        ("services: {a: {image: x, image: y}}", "KE-1001"),
        ("", "KE-1001"),
        ("- a", "KE-1001"),
    ] {
        assert_eq!(codes(&[("compose.yaml", text)]), [code], "{text}");
    }
}

#[test]
fn a_hostile_file_is_refused_before_it_costs_much() {
    let services = |count: usize, body: &str| {
        let each: String = (0..count).map(|index| format!("  s{index}: {body}\n")).collect();
        format!("services:\n{each}")
    };
    let chain: String = (0..40).map(|index| format!("  s{index}: {{extends: s{}}}\n", index + 1)).collect();
    for text in [
        services(1001, "{image: x}"),
        format!("services:\n  s40: {{image: x}}\n{chain}"),
        format!("services: {{a: {{image: x, command: '{}'}}}}", "x".repeat(200_000)),
        format!("services: {{a: {{image: x, hostname: '{}'}}}}", "$$".repeat(1_100_000)),
        format!("#{}", "x".repeat(5 << 20)),
        format!("services: {{a: {{image: x, group_add: [{}]}}}}", "a, ".repeat(100_000)),
    ] {
        assert_eq!(codes(&[("compose.yaml", &text)]), ["KE-1007"], "{}", &text[..60]);
    }
    let unknown = services(500, "{image: x, depends_on: [no1, no2, no3]}");
    assert_eq!(codes(&[("compose.yaml", &unknown)]).len(), 100, "errors are told, not endlessly");
}

#[test]
fn values_from_variables_are_not_repeated_in_messages() {
    let list = [
        ("compose.yaml", "services: {a: {image: x, scale: '${SECRET}', ports: ['${SECRET}']}}"),
        (".env", "SECRET=hunter2"),
    ];
    for (_, _, text) in errors(&list) {
        assert!(!text.contains("hunter2"), "{text}");
    }
    let list = [
        ("compose.yaml", "services: {a: {image: x, env_file: e.env}}"),
        ("e.env", "GOOD=1\nBAD KEY=hunter2"),
    ];
    let found = errors(&list);
    assert_eq!((found[0].0, found[0].1), ("KE-1001", 2));
    assert!(!found[0].2.contains("hunter2"));
}
