//! That no relaxation of the unit is there without need: with each taken away, something that works stops working.

use std::fs;

use kedge_tests::rig::images::Suite;

use crate::site::{Site, last_lines, quote, say};

/// Why it does not, where it does not.
type Works = Result<(), String>;

/// A relaxation, the lines that take it away, what then breaks, and words that are in the reason it breaks for: an agent that is
/// merely slow breaks nothing.
struct Relaxation {
    what: &'static str,
    without: &'static str,
    works: fn(&Site) -> Works,
    why: &'static [&'static str],
}

const ALL: &[Relaxation] = &[
    Relaxation {
        what: "CAP_CHOWN, @chown: a secret with an owner",
        without: "CapabilityBoundingSet=\\nCapabilityBoundingSet=CAP_NET_BIND_SERVICE\\nAmbientCapabilities=\\nAmbientCapabilities=CAP_NET_BIND_SERVICE",
        works: an_owned_secret_is_delivered,
        why: &["KE-3007", "Operation not permitted"],
    },
    Relaxation {
        what: "SystemCallFilter=@chown: a secret with an owner",
        without: "SystemCallFilter=~@chown",
        works: an_owned_secret_is_delivered,
        why: &["KE-3007", "Operation not permitted"],
    },
    Relaxation {
        what: "CAP_NET_BIND_SERVICE: a taken port below 1024 is seen before containers are touched",
        without: "CapabilityBoundingSet=\\nCapabilityBoundingSet=CAP_CHOWN\\nAmbientCapabilities=\\nAmbientCapabilities=CAP_CHOWN",
        works: a_taken_port_is_seen,
        why: &["KE-3007", "address already in use"],
    },
    Relaxation {
        what: "AF_INET, AF_INET6: ports are tried",
        without: "RestrictAddressFamilies=\\nRestrictAddressFamilies=AF_UNIX",
        works: a_taken_port_is_seen,
        why: &["KE-3007", "address already in use"],
    },
    Relaxation {
        what: "AF_UNIX: Docker's socket",
        without: "RestrictAddressFamilies=\\nRestrictAddressFamilies=AF_INET AF_INET6",
        works: the_engine_is_seen,
        why: &["engine: ", "does not answer"],
    },
    Relaxation {
        what: "no PrivateNetwork: the host's ports are the ones that are tried",
        without: "PrivateNetwork=yes",
        works: a_taken_port_is_seen,
        why: &["KE-3007", "address already in use"],
    },
    Relaxation {
        what: "UMask=0022: a folder of the release is open to the user in the container",
        without: "UMask=0077",
        works: an_owned_secret_is_delivered,
        why: &["KE-3007", "ended with an error"],
    },
    Relaxation {
        what: "ProtectProc=default: members of the group may speak",
        without: "ProtectProc=invisible",
        works: a_member_may_speak,
        why: &["KE-6010"],
    },
    Relaxation {
        what: "no PrivateUsers: a secret with an owner",
        without: "PrivateUsers=yes",
        works: an_owned_secret_is_delivered,
        why: &["KE-3007", "Invalid argument"],
    },
    Relaxation {
        what: "ProcSubset=all: the host's memory is read",
        without: "ProcSubset=pid",
        works: memory_is_known,
        why: &["memory_bytes: "],
    },
];

const COMPOSE: &str = "\
x-kedge:
  product: owned
  version: 1.0.0
  parameters:
    PW: {type: secret, generate: 16}
    PORT: {type: integer, default: 0, min: 0, max: 65535}
  gate: {timeout: 20s, soak: 1s}
services:
  web:
    image: rig/busybox:1
    user: '4711:4711'
    command: [sh, -c, 'cat /pages/deep/index && cat /run/secrets/pw && touch /tmp/ok && sleep 1d']
    init: true
    volumes: ['./pages:/pages:ro']
    ports: ['${PORT}:8080']
    secrets: [{source: pw, uid: '4711', gid: '4711', mode: 0400}]
    healthcheck: {test: [CMD, test, -e, /tmp/ok], interval: 1s, retries: 3}
secrets:
  pw: {environment: PW}
";

/// Waits until the engine is seen, for a while.
const SETTLED: &str = "for i in $(seq 40); do timeout 2 kedge status -o json 2>/dev/null | tr -d ' \\n' | grep -q '\"reachable\":true' && exit 0; sleep 0.2; done";

/// Takes each away and panics where nothing breaks.
pub(crate) fn take_each_away() {
    let site = Site::new("relaxations", Suite::Bookworm);
    let package = site.bring(&Site::package(&site.packages("1")));
    site.machine.sh(&format!("dpkg -i {package} 2>&1"));
    bring_bundle(&site);
    site.machine.sh("useradd ada && usermod -aG kedge ada");
    // Somebody else has port 80.
    site.machine.sh("systemd-run --quiet --unit=port80 systemd-socket-activate --listen=80 /bin/cat && until ss -ltn | grep -q ':80 '; do sleep 0.1; done");
    wait_until_it_answers(&site);
    for relaxation in ALL {
        if let Err(why) = (relaxation.works)(&site) {
            panic!("as shipped, this should work: {}: {why}", relaxation.what);
        }
    }
    say("as shipped, all of it works");
    let mut in_doubt = Vec::new();
    for relaxation in ALL {
        site.machine.sh(&format!(
            "mkdir -p /run/systemd/system/kedge.service.d && printf '[Service]\\n{}\\n' >/run/systemd/system/kedge.service.d/less.conf && systemctl daemon-reload && systemctl restart kedge; true",
            relaxation.without
        ));
        // An agent that has just started knows nothing yet, and that is not what is looked for.
        site.machine.exec(&["sh", "-c", SETTLED]);
        match (relaxation.works)(&site) {
            Ok(()) => {
                say(&format!("{}: NOT NEEDED", relaxation.what));
                in_doubt.push(relaxation.what);
            }
            Err(why) => {
                let expected = relaxation.why.iter().all(|words| why.contains(words));
                let verdict = if expected { "breaks without it" } else { "FAILS FOR ANOTHER REASON" };
                say(&format!("{}: {verdict}", relaxation.what));
                quote(&last_lines(&why, 3));
                if !expected {
                    in_doubt.push(relaxation.what);
                }
            }
        }
        site.machine.sh("rm /run/systemd/system/kedge.service.d/less.conf && systemctl daemon-reload && systemctl reset-failed kedge; systemctl restart kedge");
        wait_until_it_answers(&site);
    }
    assert!(in_doubt.is_empty(), "nothing shows that these are needed: {in_doubt:?}");
}

fn wait_until_it_answers(site: &Site) {
    site.wait_until("the engine should be seen", |status| status["engine"]["reachable"] == true);
}

/// A release that mounts a folder of its own, and a secret for one user; its container runs as that user and reads both.
fn bring_bundle(site: &Site) {
    let folder = site.folder.path().join("owned/pages/deep");
    fs::create_dir_all(&folder).expect("a writable folder");
    fs::write(folder.join("index"), "hello").expect("a writable folder");
    site.product("owned", COMPOSE);
}

/// Imports the release and removes it again; what the agent said where it failed.
fn import(site: &Site, name: &str, port: &str) -> Works {
    let (port, root) = (format!("PORT={port}"), site.vendor.root_sha256());
    let arguments = ["timeout", "60", "kedge", "import", "/root/owned.kedge", "--deployment", name];
    let outcome = site.machine.exec(&[&arguments[..], &["--set", &port, "--root-sha256", &root]].concat());
    site.machine.exec(&["timeout", "60", "kedge", "remove", name, "--volumes", "--yes"]);
    if outcome.code == Some(0) { Ok(()) } else { Err(outcome.stderr) }
}

fn an_owned_secret_is_delivered(site: &Site) -> Works {
    import(site, "owned", "18099")
}

fn a_taken_port_is_seen(site: &Site) -> Works {
    match import(site, "taken", "80") {
        Err(why) if why.contains("KE-3003") => Ok(()),
        Err(why) => Err(why),
        Ok(()) => Err("it was imported".to_owned()),
    }
}

fn status(site: &Site) -> Result<serde_json::Value, String> {
    let outcome = site.machine.exec(&["timeout", "10", "kedge", "status", "-o", "json"]);
    serde_json::from_str(&outcome.stdout).map_err(|_| outcome.stderr)
}

fn the_engine_is_seen(site: &Site) -> Works {
    let engine = &status(site)?["engine"];
    if engine["reachable"] == true { Ok(()) } else { Err(format!("engine: {}", engine["problem"])) }
}

fn a_member_may_speak(site: &Site) -> Works {
    let outcome = site.machine.exec(&[
        "timeout",
        "10",
        "setpriv",
        "--reuid=ada",
        "--regid=ada",
        "--init-groups",
        "kedge",
        "status",
    ]);
    if outcome.code == Some(0) { Ok(()) } else { Err(outcome.stderr) }
}

fn memory_is_known(site: &Site) -> Works {
    let bytes = status(site)?["memory_bytes"].clone();
    let known = bytes.as_u64().or_else(|| bytes.as_str()?.parse().ok()).unwrap_or(0);
    if known > 0 { Ok(()) } else { Err(format!("memory_bytes: {bytes}")) }
}
