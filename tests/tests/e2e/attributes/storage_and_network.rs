//! The groups of attributes that concern files and networks.

use serde_json::json;

use super::probe::Probe;
use super::table::{NONE, Row};

pub(super) const ROWS: &[Row] = &[
    Row {
        group: "volumes",
        keys: &["volumes", "tmpfs", "volumes_from", "volumes.driver_opts", "volumes.labels"],
        compose: r#"
services:
  stored:
    extends: {file: base.yaml, service: base}
    volumes:
      - data:/data
      - /anonymous
      - ./page.txt:/srv/page.txt:ro
      - /etc/hostname:/host/name:ro
      - {type: bind, source: ./made, target: /made, bind: {create_host_path: true}}
      - {type: volume, source: plain, target: /plain, volume: {nocopy: true}, read_only: true}
    tmpfs: ["/run:size=1m,mode=700"]
  in-memory:
    extends: {file: base.yaml, service: base}
    volumes: [{type: tmpfs, target: /memory, tmpfs: {size: 2m, mode: 0o1700}}]
  borrowed:
    extends: {file: base.yaml, service: base}
    volumes_from: ["stored:ro"]
volumes:
  data: {labels: {com.example.keep: "yes"}}
  plain: {driver: local, driver_opts: {type: tmpfs, device: tmpfs, o: "size=1m"}}
"#,
        files: &[("page.txt", "a page\n")],
        inside: &[
            (
                "stored",
                "cat /srv/page.txt; touch /srv/page.txt 2>/dev/null || echo read-only",
                "a page\nread-only",
            ),
            ("stored", "test -s /host/name && echo there", "there"),
            (
                "stored",
                "echo 1 > /data/x && echo 2 > /made/x && echo 3 > /anonymous/x && echo written",
                "written",
            ),
            ("stored", "touch /plain/x 2>/dev/null || echo read-only", "read-only"),
            ("in-memory", "df -k /memory | awk 'NR==2 { print $2 }'; stat -c %a /memory", "2048\n1700"),
            ("stored", "df -k /run | awk 'NR==2 { print $2 }'; stat -c %a /run", "1024\n700"),
            (
                "borrowed",
                "cat /data/x /made/x /anonymous/x; touch /data/y 2>/dev/null || echo read-only",
                "1\n2\n3\nread-only",
            ),
        ],
        look: Some(|probe| {
            let found = [
                probe.object("volume", "data")["Labels"]["com.example.keep"].clone(),
                probe.object("volume", "plain")["Options"]["o"].clone(),
            ];
            if found == [json!("yes"), json!("size=1m")] { Vec::new() } else { vec![format!("{found:?}")] }
        }),
        ..NONE
    },
    Row {
        group: "subpath",
        keys: &["volume.subpath"],
        since: 45,
        compose: r#"
services:
  fill:
    image: rig/busybox:1
    command: [sh, -c, 'mkdir -p /v/inner; echo deep > /v/inner/file']
    volumes: [nested:/v]
  inner:
    extends: {file: base.yaml, service: base}
    depends_on: {fill: {condition: service_completed_successfully}}
    volumes: [{type: volume, source: nested, target: /inner, volume: {subpath: inner}}]
volumes: {nested: }
"#,
        inside: &[("inner", "cat /inner/file", "deep")],
        ..NONE
    },
    Row {
        group: "image-mount",
        keys: &["type: image"],
        since: 48,
        compose: r#"
services:
  mounting:
    extends: {file: base.yaml, service: base}
    volumes: [{type: image, source: "rig/busybox:1", target: /image}]
"#,
        inside: &[("mounting", "test -x /image/bin/busybox && echo there", "there")],
        ..NONE
    },
    Row {
        group: "files",
        keys: &["configs", "secrets", "configs.content", "secrets.environment"],
        compose: r#"
services:
  reading:
    extends: {file: base.yaml, service: base}
    configs:
      - plain
      - {source: written, target: /etc/written.conf, uid: "1000", gid: "1001", mode: 0o440}
    secrets:
      - password
      - {source: password, target: own, uid: "1000", gid: "1000", mode: 0o400}
configs:
  plain: {file: ./plain.conf}
  written: {content: "of ${KEDGE_DEPLOYMENT}\n"}
secrets:
  password: {environment: PASSWORD}
"#,
        files: &[("plain.conf", "plainly\n")],
        inside: &[
            ("reading", "cat /plain; stat -c '%u:%g %a' /plain", "plainly\n0:0 444"),
            (
                "reading",
                "cut -c 1-13 /etc/written.conf; stat -c '%u:%g %a' /etc/written.conf",
                "of attributes\n1000:1001 440",
            ),
            ("reading", "wc -c < /run/secrets/password; stat -c %a /run/secrets/password", "20\n444"),
            (
                "reading",
                "cmp /run/secrets/password /run/secrets/own && stat -c '%u:%g %a' /run/secrets/own",
                "1000:1000 400",
            ),
        ],
        look: Some(|probe| {
            let secret = probe.inside("reading", "cat /run/secrets/password");
            let shown = probe.inspect("reading").to_string();
            if shown.contains(secret.trim()) {
                vec!["the secret is in the container's inspection".into()]
            } else {
                Vec::new()
            }
        }),
        ..NONE
    },
    Row {
        group: "networks",
        keys: &["networks", "links", "external_links", "networks.ipam", "networks.internal", "network_mode"],
        compose: r#"
services:
  server:
    extends: {file: base.yaml, service: base}
    command: [sh, -c, 'echo served > /tmp/index.html; exec httpd -f -p 8080 -h /tmp']
    networks:
      front: {aliases: [frontdoor]}
      back: {ipv4_address: 10.213.77.9, aliases: [backdoor], priority: 10}
    healthcheck: {test: "wget -q -O /dev/null http://127.0.0.1:8080/", interval: 1s}
  client:
    extends: {file: base.yaml, service: base}
    networks: [front]
    links: ["server:linked"]
    external_links: ["${KEDGE_DEPLOYMENT}-server-1:outside"]
    depends_on: {server: {condition: service_healthy}}
  beside:
    extends: {file: base.yaml, service: base}
    network_mode: service:server
  alone:
    extends: {file: base.yaml, service: base}
    network_mode: none
  hosted:
    extends: {file: base.yaml, service: base}
    network_mode: host
networks:
  front: {labels: {com.example.side: front}, driver: bridge, driver_opts: {com.docker.network.bridge.enable_icc: "true"}}
  back:
    internal: true
    attachable: true
    ipam: {config: [{subnet: 10.213.77.0/24, gateway: 10.213.77.254, ip_range: 10.213.77.128/25}]}
"#,
        inspect: &[
            ("hosted", "/HostConfig/NetworkMode", r#""host""#),
            ("alone", "/HostConfig/NetworkMode", r#""none""#),
        ],
        inside: &[
            (
                "client",
                "for n in server frontdoor linked outside; do wget -q -O - http://$n:8080/; done",
                "served\nserved\nserved\nserved",
            ),
            ("client", "nslookup backdoor >/dev/null 2>&1 || echo unknown", "unknown"),
            ("server", "ip -4 addr | grep -c 10.213.77.9/24", "1"),
            ("server", "nslookup backdoor 2>/dev/null | grep -c 10.213.77.9", "1"),
            ("beside", "wget -q -O - http://127.0.0.1:8080/", "served"),
            ("alone", "ls /sys/class/net", "lo"),
        ],
        look: Some(|probe| {
            let (front, back) = (probe.object("network", "front"), probe.object("network", "back"));
            let found = [
                front["Labels"]["com.example.side"].clone(),
                front["Options"]["com.docker.network.bridge.enable_icc"].clone(),
                back["Internal"].clone(),
                back["Attachable"].clone(),
                back["IPAM"]["Config"][0]["IPRange"].clone(),
            ];
            let wanted = [json!("front"), json!("true"), json!(true), json!(true), json!("10.213.77.128/25")];
            if found == wanted { Vec::new() } else { vec![format!("networks: {found:?}")] }
        }),
        ..NONE
    },
    Row {
        group: "mac-address",
        keys: &["mac_address"],
        since: 44,
        compose: r#"
services:
  addressed:
    extends: {file: base.yaml, service: base}
    mac_address: 02:42:ac:11:77:01
    networks: {default: , second: {mac_address: "02:42:ac:11:77:02"}}
networks: {second: }
"#,
        inside: &[(
            "addressed",
            "cat /sys/class/net/eth*/address | sort",
            "02:42:ac:11:77:01\n02:42:ac:11:77:02",
        )],
        ..NONE
    },
    Row {
        group: "ports",
        keys: &["ports", "expose"],
        compose: r#"
services:
  published:
    extends: {file: base.yaml, service: base}
    command: [sh, -c, 'echo published > /tmp/index.html; httpd -p 8081 -h /tmp; exec httpd -f -p 8080 -h /tmp']
    healthcheck: {test: "wget -q -O /dev/null http://127.0.0.1:8080/", interval: 1s}
    ports:
      - "127.0.0.1:${PORT}-${LAST}:8080-8081"
      - "127.0.0.1::53/udp"
      - "8082"
      - {target: 8080, host_ip: 127.0.0.1, protocol: tcp, mode: host}
      - "127.0.0.1:31000-31999:8080"
    expose: ["9000", "9001/udp"]
"#,
        look: Some(ports),
        ..NONE
    },
];

fn ports(probe: &Probe<'_>) -> Vec<String> {
    let container = probe.inspect("published");
    let bound = |port: &str| {
        let bindings = container["NetworkSettings"]["Ports"][port].as_array().cloned().unwrap_or_default();
        let binding = |b: &serde_json::Value| {
            format!(
                "{}:{}",
                b["HostIp"].as_str().unwrap_or_default(),
                b["HostPort"].as_str().unwrap_or_default()
            )
        };
        bindings.iter().map(binding).collect::<Vec<_>>()
    };
    let mut findings = Vec::new();
    let (first, second) = (bound("8080/tcp"), bound("8081/tcp"));
    if first.len() != 3 || second.len() != 1 {
        findings.push(format!("8080 and 8081 are published as {first:?} and {second:?}"));
    }
    if !first.iter().any(|one| one.starts_with("127.0.0.1:31")) {
        findings.push(format!("none of the range is bound: {first:?}"));
    }
    for address in first.iter().chain(&second) {
        let answer = probe.get(address);
        if answer.trim() != "published" {
            findings.push(format!("{address} answers {answer:?}"));
        }
    }
    if bound("53/udp").len() != 1 || bound("8082/tcp").is_empty() {
        findings.push(format!("53/udp: {:?}, 8082: {:?}", bound("53/udp"), bound("8082/tcp")));
    }
    let exposed = &container["Config"]["ExposedPorts"];
    if exposed["9000/tcp"].is_null() || exposed["9001/udp"].is_null() {
        findings.push(format!("exposed are {exposed}"));
    }
    findings
}
