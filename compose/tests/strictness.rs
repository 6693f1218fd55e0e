//! What is a valid value of each key and what is not, as Docker Compose 2.26.1 has it, and where Kedge departs from it.

use kedge_compose::{Diagnostic, MemoryFiles, Options, config};
use serde_json::{Value, json};

const REST: &str = "  b: {image: y, build: .}\nnetworks: {n: }\nvolumes: {v: }\nsecrets: {s: {file: f}}\nconfigs: {c: {file: f}}\n";

/// A project whose service `a` has these lines.
fn service(lines: &str) -> Result<Value, Vec<Diagnostic>> {
    project(&format!("services:\n  a:\n    image: x\n    {lines}\n{REST}"))
}

fn project(text: &str) -> Result<Value, Vec<Diagnostic>> {
    let options = Options {
        project_directory: "/p".to_owned(),
        environment: [("HOME".to_owned(), "/home/me".to_owned())].into(),
        confined: true,
        ..Options::default()
    };
    let loaded = config(&MemoryFiles::new("/p").with("compose.yaml", text), &options);
    loaded.map(|config| config.canonical).map_err(|errors| errors.all().to_vec())
}

#[test]
fn values_mean_what_they_mean_to_docker_compose() {
    let cases: &[(&str, &str, Value)] = &[
        ("mem_limit: 512mi", "mem_limit", json!("536870912")),
        ("stop_grace_period: 1.0000000009s", "stop_grace_period", json!("1s")),
        ("stop_grace_period: 2562047h", "stop_grace_period", json!("2562047h0m0s")),
        ("scale: 2.0", "scale", json!(2)),
        ("healthcheck: {retries: 1.5}", "healthcheck/retries", json!(1)),
        ("cpu_percent: '50'", "cpu_percent", json!(50)),
        ("network_mode: ''\n    networks: [n]", "networks", json!({"n": null})),
        ("build: ''", "build/context", Value::Null),
        (
            "build: {context: ., additional_contexts: {q: 'service:b'}}",
            "build/additional_contexts/q",
            json!("service:b"),
        ),
        ("volumes: ['\\\\host\\share\\x:/x']", "volumes/0/source", json!("\\\\host\\share\\x")),
        ("volumes: ['\\\\.\\pipe\\x:/x']", "volumes/0/source", json!("/p/\\\\.\\pipe\\x")),
        ("ulimits: {nofile: 0}", "ulimits/nofile", json!({})),
        ("environment: {!!merge <<: {A: 1}, B: 2}", "environment", json!({"A": "1", "B": "2"})),
        ("expose: [80, '81-82/udp']", "expose", json!(["80", "81-82/udp"])),
        ("group_add: [1, '2']", "group_add", json!(["1", "2"])),
        ("gpus: all", "gpus/0/count", json!(-1)),
        ("hostname: '${NO:-{}'", "hostname", json!("{")),
    ];
    for (lines, pointer, expected) in cases {
        let found = service(lines).unwrap_or_else(|errors| panic!("{lines}: {errors:?}"));
        let found = found.pointer(&format!("/services/a/{pointer}")).cloned().unwrap_or_default();
        assert_eq!(found, *expected, "{lines}");
    }
}

#[test]
fn values_that_docker_compose_refuses_are_refused_where_they_stand() {
    let cases: &[(&str, &str)] = &[
        // Lists in which nothing may stand twice.
        ("group_add: [a, a]", "`a` stands in the list twice"),
        ("security_opt: [a, b, a]", "twice"),
        ("external_links: [a, a]", "twice"),
        ("device_cgroup_rules: [a, a]", "twice"),
        ("volumes_from: [b, b]", "twice"),
        ("networks: [n, n]", "twice"),
        ("depends_on: [b, b]", "twice"),
        ("extra_hosts: ['h:1.1.1.1', 'h:1.1.1.1']", "twice"),
        ("build: {context: ., ssh: [default, default]}", "twice"),
        ("gpus: [{capabilities: [a, a]}]", "twice"),
        // Numbers out of bounds, or of the wrong kind.
        ("oom_score_adj: 1001", "from -1000 to 1000"),
        ("cpu_count: -1", "from 0 on"),
        ("cpu_count: 1.5", "whole number"),
        ("cpu_percent: 101", "from 0 to 100"),
        ("cpu_percent: 1.5", "whole number"),
        ("scale: 1.5", "whole number"),
        ("healthcheck: {retries: -1}", "from 0 on"),
        ("ports: [{target: -1}]", "from 0 on"),
        ("ports: [{target: 80, published: 80.5}]", "whole number"),
        ("ports: [{target: 80, published: }]", "whole number"),
        ("configs: [{source: c, mode: -1}]", "from 0 on"),
        ("deploy: {update_config: {parallelism: -1}}", "from 0 on"),
        ("expose: [80.5]", "whole number"),
        ("group_add: [1.5]", "whole number"),
        ("volumes: [{type: tmpfs, target: /t, tmpfs: {size: -1}}]", "below zero"),
        ("networks: {n: {priority: '10'}}", "without quotes"),
        ("depends_on: {b: {condition: service_started, required: 'yes'}}", "without quotes"),
        ("mem_limit: .5g", "not a size"),
        ("mem_limit: 1e99", "must be a size"),
        ("mem_limit: '1e3'", "not a size"),
        ("ports: ['::1:80:80']", "in brackets"),
        ("gpus: ALL", "`all` or a list"),
        // Keys that have to be there.
        ("configs: [{target: /c}]", "the key `source` is missing"),
        ("secrets: [{target: c}]", "the key `source` is missing"),
        ("volumes: [{type: bind, source: /a}]", "the key `target` is missing"),
        ("devices: [{source: /dev/a}]", "the key `target` is missing"),
        ("environment: {'': x}", "the key is empty"),
        ("networks: {n: {driver_opts: {a: }}}", "must be text or a number"),
        // Keys that depend on each other.
        ("links: ['b:c:d']", "`b:c:d`, which is not defined"),
        ("build: {context: ., additional_contexts: {q: 'service:z'}}", "`z`, which is not defined"),
        ("platform: p\n    build: {context: ., platforms: [q]}", "other platforms"),
        ("develop: {watch: [{path: w, action: sync}]}", "needs a `target`"),
        ("develop: {watch: [{path: '', action: rebuild}]}", "is empty"),
    ];
    for (lines, message) in cases {
        let errors = service(lines).expect_err(lines);
        assert!(errors.iter().any(|error| error.to_string().contains(message)), "{lines}: {errors:?}");
        assert!(errors.iter().all(|error| error.line >= 4), "{lines}: {errors:?}");
    }
}

#[test]
fn projects_that_docker_compose_refuses_are_refused() {
    for (text, message) in [
        ("name: '${NO}'\nservices: {a: {image: x}}", "has no name"),
        ("services: {a: {image: x}}\nsecrets: {s: {driver: d}}", "needs one of `file`, `environment`"),
        ("services: {a: {image: x}}\nnetworks: {n: {driver_opts: {a: }}}", "must be text or a number"),
        ("services: {a: {image: x}}\nvolumes: {v: {labels: [a=b, a=b]}}", "twice"),
        (
            "services: {a: {image: x, build: {context: ., additional_contexts: {q: 'service:b'}}}, b: {image: y}}",
            "`b`, which is not built",
        ),
        ("services: {a: {image: \"\u{1}\"}}", "control character U+0001"),
    ] {
        let errors = project(text).expect_err(text);
        assert!(errors.iter().any(|error| error.message.contains(message)), "{text}: {errors:?}");
    }
}

/// Docker Compose takes these, and nothing good comes of it.
#[test]
fn what_could_only_fail_later_is_refused_now() {
    for (text, message) in [
        // A name that no engine takes.
        ("services: {a: {image: x}}\nnetworks: {'a b': {}}", "not a valid name"),
        // No content, and not managed elsewhere.
        ("services: {a: {image: x}}\nconfigs: {c: {external: false}}", "needs one of"),
        // What stands after the second slash would be ignored.
        ("services: {a: {image: x, ports: [80/tcp/udp]}}", "protocol"),
        ("services: {a: {image: x, volumes: [{type: tmpsf, target: /t}]}}", "one of bind"),
        // A variable or label without a name, which the engine refuses.
        ("services: {a: {image: x, environment: [=x]}}", "the key is empty"),
        // A misspelt key that would be ignored.
        ("services: {a: {extends: {service: b, fiel: c.yaml}}, b: {image: x}}", "unknown key `fiel`"),
        ("include: [{path: b.yaml, projct_directory: x}]", "unknown key `projct_directory`"),
        // More than 64 bits: Docker Compose would have a negative limit.
        ("services: {a: {image: x, mem_limit: '99999999999999999999'}}", "not a size"),
    ] {
        let errors = project(text).expect_err(text);
        assert!(errors.iter().any(|error| error.message.contains(message)), "{text}: {errors:?}");
    }
}
