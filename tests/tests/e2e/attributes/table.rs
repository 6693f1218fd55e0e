//! The groups: what is asked for, and what must be seen. This file has what concerns processes, resources, rights and
//! life; `storage_and_network` the rest.

use serde_json::json;

use super::probe::Probe;

/// A group of attributes: a compose file, and what it must bring about.
pub(super) struct Row {
    /// Name of the group and of its file.
    pub(super) group: &'static str,
    /// Keys that this shows: of a service, or with a dot of something below or beside it.
    pub(super) keys: &'static [&'static str],
    /// Minor version of the API below which the engine cannot do the first of them.
    pub(super) since: u32,
    pub(super) compose: &'static str,
    /// Further files of the project.
    pub(super) files: &'static [(&'static str, &'static str)],
    /// Service, JSON pointer into `docker inspect`, and the value there.
    pub(super) inspect: &'static [(&'static str, &'static str, &'static str)],
    /// Service, shell line in its container, and what it says.
    pub(super) inside: &'static [(&'static str, &'static str, &'static str)],
    /// What takes more than a comparison.
    pub(super) look: Option<fn(&Probe<'_>) -> Vec<String>>,
}

pub(super) const NONE: Row =
    Row { group: "", keys: &[], since: 0, compose: "", files: &[], inspect: &[], inside: &[], look: None };

/// Start of the project's first file; the list of the others follows.
pub(super) const BASE: &str = "\
x-kedge:
  product: attributes
  version: 1.0.0
  parameters:
    PORT: {type: integer, default: 20000}
    LAST: {type: integer, default: 20001}
    BLOCK: {default: /dev/null}
    PASSWORD: {type: secret, generate: 20}
  gate: {timeout: 60s, soak: 0s}
";

/// What most services extend.
pub(super) const EXTENDED: &str = "\
services:
  base:
    image: rig/busybox:1
    command: [sleep, '3600']
    init: true
";

pub(super) const ROWS: &[Row] = &[
    Row {
        group: "process",
        keys: &[
            "image",
            "extends",
            "command",
            "entrypoint",
            "environment",
            "env_file",
            "working_dir",
            "user",
            "group_add",
            "labels",
            "label_file",
            "hostname",
            "domainname",
            "init",
            "tty",
            "stdin_open",
            "container_name",
            "platform",
            "pull_policy",
            "profiles",
            "runtime",
        ],
        compose: r#"
services:
  process:
    extends: {file: base.yaml, service: base}
    entrypoint: [sh, -c]
    command: ['echo "$$PLAIN" > /tmp/said; exec sleep 3600']
    environment: {PLAIN: plain, NUMBER: 0777, OVER: service}
    env_file: [process.env, {path: absent.env, required: false}]
    working_dir: /tmp
    user: "1000:1000"
    group_add: ["2000"]
    labels: {com.example.team: red}
    label_file: process.labels
    hostname: box
    domainname: example.test
    container_name: ${KEDGE_DEPLOYMENT}-of-its-own
    platform: linux/amd64
    pull_policy: never
    runtime: runc
  terminal:
    extends: {file: base.yaml, service: base}
    tty: true
    stdin_open: true
  debugging:
    extends: {file: base.yaml, service: base}
    profiles: [debug]
"#,
        files: &[
            ("process.env", "FROM_FILE=\"of a file\"\nOVER=file\n"),
            ("process.labels", "com.example.of-file=yes\n"),
        ],
        inspect: &[
            ("process", "/Config/Entrypoint", r#"["sh", "-c"]"#),
            ("process", "/Config/User", r#""1000:1000""#),
            ("process", "/Config/Labels/com.example.team", r#""red""#),
            ("process", "/Config/Labels/com.example.of-file", r#""yes""#),
            ("process", "/Config/Domainname", r#""example.test""#),
            ("process", "/HostConfig/Init", "true"),
            ("process", "/HostConfig/Runtime", r#""runc""#),
            ("terminal", "/Config/Tty", "true"),
            ("terminal", "/Config/OpenStdin", "true"),
        ],
        inside: &[
            ("process", "cat /tmp/said", "plain"),
            ("process", "echo $NUMBER $OVER $FROM_FILE", "511 service of a file"),
            ("process", "pwd", "/tmp"),
            ("process", "id -u; id -g; id -G", "1000\n1000\n1000 2000"),
            ("process", "hostname", "box"),
            ("process", "cat /proc/1/comm", "docker-init"),
            ("terminal", "readlink /proc/1/fd/0 | cut -c 1-8", "/dev/pts"),
        ],
        look: Some(|probe| {
            let mut findings = Vec::new();
            if probe.inspect("process")["Name"] != json!(format!("/{}-of-its-own", probe.name())) {
                findings.push(format!("container_name: {}", probe.inspect("process")["Name"]));
            }
            if probe.count("debugging") != 0 {
                findings.push("a service of a profile that is not enabled runs".to_owned());
            }
            findings
        }),
        ..NONE
    },
    Row {
        group: "annotations",
        keys: &["annotations"],
        compose: r#"
services:
  annotated:
    extends: {file: base.yaml, service: base}
    annotations: {com.example.note: seen}
"#,
        look: Some(|probe| {
            let found =
                probe.inspect("annotated").pointer("/HostConfig/Annotations/com.example.note").cloned();
            // Older engines know none, which the plan warns of.
            let right = probe.api < 43 || found == Some(json!("seen"));
            if right { Vec::new() } else { vec![format!("the annotation is {found:?}")] }
        }),
        ..NONE
    },
    Row {
        group: "names",
        keys: &["extra_hosts", "dns", "dns_search", "dns_opt"],
        compose: r#"
services:
  named:
    extends: {file: base.yaml, service: base}
    network_mode: bridge
    extra_hosts: ["db.test=10.1.2.3", "six.test:fd00::1"]
    dns: 10.9.8.7
    dns_search: [example.test]
    dns_opt: ["ndots:3"]
"#,
        inside: &[
            ("named", "grep -c '10.1.2.3.*db.test' /etc/hosts", "1"),
            ("named", "grep -c 'fd00::1.*six.test' /etc/hosts", "1"),
            ("named", "grep ^nameserver /etc/resolv.conf", "nameserver 10.9.8.7"),
            ("named", "grep ^search /etc/resolv.conf", "search example.test"),
            ("named", "grep ^options /etc/resolv.conf", "options ndots:3"),
        ],
        ..NONE
    },
    Row {
        group: "resources",
        keys: &[
            "cpus",
            "cpu_shares",
            "cpuset",
            "cpu_quota",
            "cpu_period",
            "mem_limit",
            "mem_reservation",
            "memswap_limit",
            "mem_swappiness",
            "pids_limit",
            "shm_size",
            "ulimits",
            "oom_score_adj",
            "oom_kill_disable",
            "blkio_config",
            "cgroup_parent",
        ],
        compose: r#"
services:
  limited:
    extends: {file: base.yaml, service: base}
    cpus: 0.25
    cpu_shares: 512
    cpuset: "0"
    mem_limit: 64m
    mem_reservation: 32m
    memswap_limit: 128m
    mem_swappiness: 10
    pids_limit: 50
    shm_size: 8m
    ulimits: {nofile: {soft: 500, hard: 900}, nproc: 400}
    oom_score_adj: 300
    oom_kill_disable: true
    blkio_config:
      device_read_bps: [{path: "${BLOCK}", rate: 10mb}]
      device_write_iops: [{path: "${BLOCK}", rate: 100}]
  quota:
    extends: {file: base.yaml, service: base}
    cpu_quota: 20000
    cpu_period: 50000
    cgroup_parent: kedge-attributes
"#,
        inspect: &[
            ("limited", "/HostConfig/NanoCpus", "250000000"),
            ("limited", "/HostConfig/CpuShares", "512"),
            ("limited", "/HostConfig/CpusetCpus", r#""0""#),
            ("limited", "/HostConfig/Memory", "67108864"),
            ("limited", "/HostConfig/MemoryReservation", "33554432"),
            ("limited", "/HostConfig/PidsLimit", "50"),
            ("limited", "/HostConfig/OomScoreAdj", "300"),
            ("limited", "/HostConfig/BlkioDeviceReadBps/0/Rate", "10485760"),
            ("limited", "/HostConfig/BlkioDeviceWriteIOps/0/Rate", "100"),
            ("quota", "/HostConfig/CpuQuota", "20000"),
            ("quota", "/HostConfig/CpuPeriod", "50000"),
            ("quota", "/HostConfig/CgroupParent", r#""kedge-attributes""#),
        ],
        inside: &[
            (
                "limited",
                "cd /sys/fs/cgroup; cat memory.max 2>/dev/null || cat memory/memory.limit_in_bytes",
                "67108864",
            ),
            ("limited", "cd /sys/fs/cgroup; cat pids.max 2>/dev/null || cat pids/pids.max", "50"),
            ("limited", "awk '/open files/ { print $4, $5 }' /proc/1/limits", "500 900"),
            ("limited", "df -k /dev/shm | awk 'NR==2 { print $2 }'", "8192"),
            ("limited", "nproc", "1"),
            ("limited", "cat /proc/1/oom_score_adj", "300"),
        ],
        ..NONE
    },
    Row {
        group: "deploy",
        keys: &[
            "deploy",
            "scale",
            "deploy.replicas",
            "deploy.resources",
            "deploy.restart_policy",
            "deploy.update_config",
        ],
        compose: r#"
services:
  deployed:
    extends: {file: base.yaml, service: base}
    deploy:
      resources:
        limits: {cpus: "0.5", memory: 48M, pids: 60}
        reservations: {memory: 16M}
      restart_policy: {condition: on-failure, max_attempts: 3}
      update_config: {order: stop-first, parallelism: 1}
  replicas:
    extends: {file: base.yaml, service: base}
    deploy: {replicas: 2}
  scaled:
    extends: {file: base.yaml, service: base}
    scale: 2
"#,
        inspect: &[
            ("deployed", "/HostConfig/NanoCpus", "500000000"),
            ("deployed", "/HostConfig/Memory", "50331648"),
            ("deployed", "/HostConfig/MemoryReservation", "16777216"),
            ("deployed", "/HostConfig/PidsLimit", "60"),
            ("deployed", "/HostConfig/RestartPolicy", r#"{"Name": "on-failure", "MaximumRetryCount": 3}"#),
        ],
        look: Some(|probe| {
            let counts = ["replicas", "scaled"].map(|service| probe.count(service));
            if counts == [2, 2] { Vec::new() } else { vec![format!("there are {counts:?} containers")] }
        }),
        ..NONE
    },
    Row {
        group: "rights",
        keys: &["cap_add", "cap_drop", "security_opt", "read_only", "sysctls", "userns_mode"],
        compose: r#"
services:
  confined:
    extends: {file: base.yaml, service: base}
    cap_drop: [ALL]
    cap_add: [NET_ADMIN]
    security_opt: [no-new-privileges:true]
    read_only: true
    sysctls: {net.ipv4.ip_unprivileged_port_start: 80}
    userns_mode: host
"#,
        inspect: &[("confined", "/HostConfig/UsernsMode", r#""host""#)],
        inside: &[
            ("confined", "grep CapEff /proc/self/status | cut -f 2", "0000000000001000"),
            ("confined", "grep NoNewPrivs /proc/self/status | cut -f 2", "1"),
            ("confined", "touch /x 2>/dev/null || echo read-only", "read-only"),
            ("confined", "cat /proc/sys/net/ipv4/ip_unprivileged_port_start", "80"),
        ],
        ..NONE
    },
    Row {
        group: "life",
        keys: &["restart", "stop_signal", "stop_grace_period", "healthcheck", "depends_on", "logging"],
        compose: r#"
services:
  job:
    image: rig/busybox:1
    command: [sh, -c, exit 0]
  lasting:
    extends: {file: base.yaml, service: base}
    command: [sh, -c, 'sleep 2; touch /tmp/ready; exec sleep 3600']
    restart: unless-stopped
    stop_signal: SIGUSR1
    stop_grace_period: 1500ms
    healthcheck: {test: test -e /tmp/ready, interval: 1s, timeout: 5s, retries: 4, start_period: 30s}
    depends_on: {job: {condition: service_completed_successfully}}
    logging: {driver: json-file, options: {max-size: 1m, max-file: "2"}}
  waiting:
    extends: {file: base.yaml, service: base}
    restart: on-failure:5
    healthcheck: {disable: true}
    depends_on: {lasting: {condition: service_healthy}, job: {condition: service_started}}
"#,
        inspect: &[
            ("job", "/State/ExitCode", "0"),
            ("lasting", "/HostConfig/RestartPolicy/Name", r#""unless-stopped""#),
            ("lasting", "/Config/StopSignal", r#""SIGUSR1""#),
            ("lasting", "/Config/StopTimeout", "2"),
            ("lasting", "/Config/Healthcheck/Test", r#"["CMD-SHELL", "test -e /tmp/ready"]"#),
            ("lasting", "/Config/Healthcheck/Interval", "1000000000"),
            ("lasting", "/Config/Healthcheck/Timeout", "5000000000"),
            ("lasting", "/Config/Healthcheck/Retries", "4"),
            ("lasting", "/Config/Healthcheck/StartPeriod", "30000000000"),
            ("lasting", "/State/Health/Status", r#""healthy""#),
            ("lasting", "/HostConfig/LogConfig/Type", r#""json-file""#),
            ("lasting", "/HostConfig/LogConfig/Config", r#"{"max-size": "1m", "max-file": "2"}"#),
            ("waiting", "/HostConfig/RestartPolicy", r#"{"Name": "on-failure", "MaximumRetryCount": 5}"#),
            ("waiting", "/Config/Healthcheck/Test", r#"["NONE"]"#),
        ],
        look: Some(|probe| {
            let time = |service: &str, field: &str| -> jiff::Timestamp {
                let text = probe.inspect(service)["State"][field].as_str().unwrap_or_default().to_owned();
                text.parse().unwrap_or_else(|e| panic!("{service} {field} {text}: {e}"))
            };
            let mut findings = Vec::new();
            if time("job", "FinishedAt") > time("lasting", "StartedAt") {
                findings.push("it was started before the job had ended".to_owned());
            }
            // Its dependency needs so long to be healthy.
            if time("waiting", "StartedAt").duration_since(time("lasting", "StartedAt")).as_secs() < 2 {
                findings.push("it was started before its dependency was healthy".to_owned());
            }
            findings
        }),
        ..NONE
    },
    Row {
        group: "start-interval",
        keys: &["healthcheck"],
        compose: r#"
services:
  eager:
    extends: {file: base.yaml, service: base}
    healthcheck: {test: test -e /tmp, interval: 2s, start_period: 20s, start_interval: 1s}
"#,
        look: Some(|probe| {
            let found = probe.inspect("eager").pointer("/Config/Healthcheck/StartInterval").cloned();
            // Older engines know none, which the plan warns of.
            let right = probe.api < 44 || found == Some(json!(1_000_000_000));
            if right { Vec::new() } else { vec![format!("start_interval is {found:?}")] }
        }),
        ..NONE
    },
    Row {
        group: "hooks",
        keys: &["pre_start", "post_start", "pre_stop"],
        compose: r#"
services:
  hooks:
    extends: {file: base.yaml, service: base}
    environment: {WHO: web}
    volumes: [hooked:/hooked]
    pre_start:
      - command: [sh, -c, 'echo pre_start $$WHO > /hooked/said; chmod 666 /hooked/said']
      - {image: "rig/busybox:1", command: [sh, -c, 'echo pre_start $$WHO >> /hooked/said'], environment: {WHO: tool}}
    post_start:
      - {command: [sh, -c, 'echo post_start $$(id -u) >> /hooked/said; pwd > /tmp/place'], user: "1000", working_dir: /etc}
    pre_stop:
      - command: [sh, -c, 'echo pre_stop $$(id -u) >> /hooked/said']
volumes: {hooked: }
"#,
        inside: &[
            ("hooks", "cat /hooked/said", "pre_start web\npre_start tool\npost_start 1000"),
            ("hooks", "cat /tmp/place", "/etc"),
        ],
        ..NONE
    },
    Row {
        group: "namespaces",
        keys: &["pid", "ipc", "uts", "cgroup"],
        compose: r#"
services:
  shared:
    extends: {file: base.yaml, service: base}
    ipc: shareable
    cgroup: private
  joining:
    extends: {file: base.yaml, service: base}
    init: false
    pid: service:shared
    ipc: service:shared
    uts: host
"#,
        inspect: &[
            ("shared", "/HostConfig/IpcMode", r#""shareable""#),
            ("shared", "/HostConfig/CgroupnsMode", r#""private""#),
            ("joining", "/HostConfig/UTSMode", r#""host""#),
        ],
        inside: &[("joining", "cat /proc/1/comm", "docker-init")],
        look: Some(|probe| {
            let of = |service: &str| {
                probe.inside(service, "readlink /proc/self/ns/ipc; readlink /proc/self/ns/pid")
            };
            if of("shared") == of("joining") { Vec::new() } else { vec!["the namespaces differ".to_owned()] }
        }),
        ..NONE
    },
    Row {
        group: "devices",
        keys: &["devices", "device_cgroup_rules"],
        compose: r#"
services:
  device:
    extends: {file: base.yaml, service: base}
    devices: ["/dev/zero:/dev/nothing:r"]
    device_cgroup_rules: ["c 1:11 r"]
"#,
        inspect: &[("device", "/HostConfig/DeviceCgroupRules", r#"["c 1:11 r"]"#)],
        inside: &[("device", "head -c 3 /dev/nothing | od -An -tx1 | tr -d ' '", "000000")],
        ..NONE
    },
];
