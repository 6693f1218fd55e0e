//! From the kit to the purge, on a host without a network.

use std::time::Instant;

use kedge_tests::rig::images::Suite;
use kedge_tests::rig::programs;

use crate::site::{Site, last_lines, quote, say};

pub(crate) const PRODUCT: &str = "three-tier";
pub(crate) const PORT: &str = "18081";

/// A container that writes as root into a folder of its deployment.
const NOTES: &str = "\
x-kedge: {product: notes, version: 1.0.0, gate: {timeout: 20s, soak: 1s}}
services:
  notes:
    image: rig/busybox:1
    command: [sh, -c, 'mkdir -p /data/deep && echo hello >/data/deep/note && chmod 700 /data/deep && sleep 1d']
    init: true
    volumes: ['./data:/data']
    healthcheck: {test: [CMD, test, -e, /data/deep/note], interval: 1s, retries: 5}
";

/// Tells it; panics where it comes out otherwise.
pub(crate) fn tell() {
    let site = Site::new("story", Suite::Bookworm);
    install(&site);
    reboot(&site);
    upgrade(&site);
    docker_comes_and_goes(&site);
    a_wedged_task(&site);
    what_only_root_can_remove(&site);
    leave(&site);
    say("the end: all of it came out as it should");
}

fn install(site: &Site) {
    let packages = site.packages("1");
    let (kit, said) = site.kit(PRODUCT, "1.0.0", &packages, None);
    say("the kit");
    quote(&said);
    let reached = site.machine.exec(&["curl", "--silent", "--max-time", "3", "http://deb.debian.org/"]);
    assert_ne!(reached.code, Some(0), "the host should have no network: {reached:#?}");
    let kit = site.bring(&kit);
    say("a kit that was changed on its way is refused");
    let changed = format!(
        "cd /root && sh {kit} --unpack bad && for f in bad/*.kedge; do printf x >>$f; done && sh bad/install.sh 2>&1"
    );
    let refused = site.machine.exec(&["sh", "-c", &changed]);
    assert!(
        refused.code == Some(1) && refused.stdout.contains("is not what SHA256SUMS says"),
        "{refused:#?}"
    );
    assert_ne!(site.machine.exec(&["test", "-e", "/usr/bin/kedge"]).code, Some(0));
    say("one command installs and deploys");
    let command = format!("sh {kit} --root-sha256 {} --set PORT={PORT} 2>&1", site.vendor.root_sha256());
    quote(&site.machine.sh(&command));
    site.wait_until_it_runs(PRODUCT, "1.0.0");
    say("the same again does nothing");
    let before = site.containers();
    let again = site.machine.sh(&command);
    quote(&last_lines(&again, 3));
    assert!(again.contains("nothing: all was so already"), "{again}");
    assert_eq!(site.containers(), before);
    quote(&site.machine.sh(
        "systemctl status kedge --no-pager | head -n 12; ls -l /run/kedge; systemctl show -P User kedge",
    ));
    let (says, is) = (
        "systemctl show -P SocketUser -P SocketGroup kedge.socket | paste -sd:",
        "stat -c %U:%G /run/kedge/kedge.sock",
    );
    assert_eq!(site.machine.sh(is), site.machine.sh(says), "the socket should be whose its unit says");
}

/// What the product's front says.
fn front(site: &Site) -> String {
    site.machine.sh(&format!("curl -fsS http://127.0.0.1:{PORT}/")).trim().to_owned()
}

fn reboot(site: &Site) {
    let get = format!("curl -fsS http://127.0.0.1:{PORT}");
    let rows = site.machine.sh(&format!("{get}/rows?value=kept -X POST >/dev/null && {get}/rows"));
    let on = site.machine.reboot();
    site.wait_until_it_runs(PRODUCT, "1.0.0");
    let took = on.elapsed();
    say(&format!(
        "a reboot: healthy {:.1} s after it was switched on, without a hand on it",
        took.as_secs_f64()
    ));
    quote(&site.machine.sh("kedge status"));
    assert_eq!(front(site), "three-tier 1.0.0");
    assert_eq!(site.machine.sh(&format!("{get}/rows")), rows, "what was written should still be there");
    assert!(took.as_secs() < 60, "it took {took:?}");
}

fn upgrade(site: &Site) {
    let package = site.bring(&Site::package(&site.packages("2")));
    let (before, agent) = (site.containers(), site.unit("MainPID"));
    site.machine.sh("echo '# mine' >>/etc/kedge/agent.toml");
    quote(&site.machine.sh(&format!("DEBIAN_FRONTEND=noninteractive dpkg -i {package} 2>&1")));
    site.wait_until_it_runs(PRODUCT, "1.0.0");
    assert_ne!(site.unit("MainPID"), agent, "the agent should be a new one");
    assert_eq!(site.containers(), before, "no container should have been touched");
    assert_eq!(site.machine.sh("tail -n 1 /etc/kedge/agent.toml").trim(), "# mine");
    say("the package was upgraded: a new agent, the same containers, the changed configuration kept");
}

fn docker_comes_and_goes(site: &Site) {
    let agent = site.unit("MainPID");
    let engine = |up: bool| {
        move |status: &serde_json::Value| status["engine"]["reachable"].as_bool().unwrap_or_default() == up
    };
    site.machine.sh("systemctl stop docker.socket docker.service");
    site.wait_until("it should notice that Docker is gone", engine(false));
    quote(&site.machine.sh("kedge status | head -n 4; systemctl show -P StatusText kedge"));
    let back = |command: &str| {
        let began = Instant::now();
        site.machine.sh(command);
        site.wait_until_it_runs(PRODUCT, "1.0.0");
        let took = began.elapsed();
        // Not only said.
        assert_eq!(front(site), "three-tier 1.0.0");
        took.as_secs_f64()
    };
    let stopped = back("systemctl start docker.service");
    let restarted = back("systemctl restart docker.service");
    // It counts as active for a moment longer than it lives.
    let killed = back(
        "pid() { systemctl show -P MainPID docker.service; }; was=$(pid); systemctl kill --signal=KILL docker.service; until [ \"$(pid)\" != \"$was\" ] && systemctl is-active --quiet docker.service; do sleep 0.2; done",
    );
    assert_eq!(site.unit("MainPID"), agent, "the agent should have waited, not ended");
    let told = site.machine.sh("journalctl -u kedge -o cat --no-pager; cat /var/lib/kedge/audit/log.jsonl");
    let blamed: Vec<&str> = told.lines().filter(|line| line.contains("somebody")).collect();
    assert!(blamed.is_empty(), "Docker ended them, and nobody else: {blamed:#?}");
    quote(&site.machine.sh("journalctl -u kedge -o cat --no-pager | grep -c 'container engine answers again'; kedge status | grep -i drift; true"));
    say(&format!(
        "Docker stopped and started, restarted, killed: healthy again {stopped:.1}, {restarted:.1} and {killed:.1} s after the command, by the same agent"
    ));
}

/// An agent that is told to wedge once: in the middle of taking a release, its deployment's task waits for what never comes.
fn a_wedged_task(site: &Site) {
    site.machine.put(&programs::path("held-agent"), "/usr/bin/held-agent");
    let bundle = site.bring(&site.vendor.bundle(PRODUCT, "2.0.0"));
    let override_ = "[Service]\nWatchdogSec=10\nExecStart=\nExecStart=/usr/bin/held-agent --config /etc/kedge/agent.toml --state-dir /var/lib/kedge --run-dir /run/kedge --engine unix:///var/run/docker.sock\nEnvironment=KEDGE_HOLD_AT=preflight KEDGE_HOLD_ONCE=/run/kedge/hold\n";
    site.machine.sh(&format!(
        "mkdir -p /run/systemd/system/kedge.service.d && printf '{}' >/run/systemd/system/kedge.service.d/wedge.conf && systemctl daemon-reload && touch /run/kedge/hold && chown kedge /run/kedge/hold && systemctl restart kedge",
        override_.replace('\n', "\\n")
    ));
    site.wait_until_it_runs(PRODUCT, "1.0.0");
    let (before, restarts) = (site.containers(), site.unit("NRestarts"));
    let began = site.now();
    site.machine.exec(&["kedge", "import", "--detach", &bundle]);
    let waited = "for i in $(seq 600); do [ $(systemctl show -P NRestarts kedge) = N ] || exit 0; sleep 0.1; done; exit 1";
    site.machine.sh(&waited.replace("= N ", &format!("= {restarts} ")));
    let text = "journalctl -u kedge --no-pager -o cat | grep -iE 'watchdog|does not answer' | tail -n 4";
    quote(&site.machine.sh(text));
    assert!(
        site.machine.sh(text).contains(&format!("deployment {PRODUCT}")),
        "the journal should name the task"
    );
    // Nobody asks again: the operation is found on disk, and goes on.
    let took = site.wait_until_it_runs(PRODUCT, "2.0.0");
    let died = site.machine.sh(&format!(
        "docker events --since {began} --until $(date +%s) --filter event=die --format '{{{{.Time}}}} {{{{.Actor.Attributes.name}}}}'; true"
    ));
    let restarted: u64 = site.seconds(&site.unit("ExecMainStartTimestamp"));
    let before_its_time: Vec<&str> = died
        .lines()
        .filter(|line| {
            line.split(' ').next().and_then(|t| t.parse::<u64>().ok()).is_some_and(|t| t < restarted)
        })
        .collect();
    assert!(before_its_time.is_empty(), "the wedge should have touched nothing: {before_its_time:?}");
    let after = site.containers();
    let kept = before.lines().filter(|line| after.contains(line)).count();
    assert!(kept >= 2, "what the update does not change should run on:\n{before}{after}");
    say(&format!(
        "a task was wedged on purpose in the middle of an update: systemd restarted the agent, no container ended, and {:.1} s later the update was done",
        took.as_secs_f64()
    ));
    site.machine.sh(
        "rm /run/systemd/system/kedge.service.d/wedge.conf && systemctl daemon-reload && systemctl restart kedge",
    );
    site.wait_until_it_runs(PRODUCT, "2.0.0");
}

fn what_only_root_can_remove(site: &Site) {
    let bundle = site.product("notes", NOTES);
    for volumes in ["", "--volumes"] {
        site.machine.sh(&format!("kedge import {bundle} 2>&1"));
        site.wait_until_it_runs("notes", "1.0.0");
        let said = site.machine.sh(&format!("kedge remove notes {volumes} --yes 2>&1"));
        quote(&said);
        assert!(said.contains("kept: "), "it should say what it leaves: {said}");
        assert_eq!(
            site.machine.sh("cat /var/lib/kedge/deployments/notes/binds/data/deep/note").trim(),
            "hello"
        );
        assert_eq!(said.contains("sudo rm -r"), !volumes.is_empty(), "{said}");
    }
    say(
        "data that a container's root wrote is kept, and where it was to go the agent says that only root can remove it",
    );
}

fn leave(site: &Site) {
    quote(
        &site
            .machine
            .sh("cd /root && kedge export-compose three-tier --dir leaving --secrets 2>&1 && ls -la leaving"),
    );
    let before = site.containers();
    say("dpkg --remove");
    quote(&site.machine.sh("dpkg --remove kedge 2>&1"));
    assert_eq!(site.containers(), before, "the stack should run on");
    assert_eq!(front(site), "three-tier 2.0.0");
    let volumes = site.machine.sh("docker volume ls -q | sort");
    say("dpkg --purge");
    quote(&site.machine.sh("dpkg --purge kedge 2>&1"));
    assert_eq!(site.containers(), before, "the stack should still run on");
    assert_eq!(site.machine.sh("docker volume ls -q | sort"), volumes);
    match kedge_tests::rig::need::compose() {
        None => say("skipped: there is no Docker Compose to go on with"),
        Some(compose) => {
            site.machine.sh("mkdir -p /usr/libexec/docker/cli-plugins");
            site.machine.put(&compose, "/usr/libexec/docker/cli-plugins/docker-compose");
            quote(&site.machine.sh("cd /root/leaving && docker compose up -d --no-recreate 2>&1 && docker compose ps --format '{{.Service}} {{.Status}}'"));
            assert_eq!(site.containers(), before, "plain compose should take over what runs");
            let anew = site.machine.sh("cd /root/leaving && docker compose up -d --wait 2>&1");
            quote(&last_lines(&anew, 3));
            assert_eq!(site.machine.sh("docker volume ls -q | sort"), volumes);
            assert_eq!(
                site.machine.sh(&format!("curl -fsS http://127.0.0.1:{PORT}/")).trim(),
                "three-tier 2.0.0"
            );
            say("plain docker compose has taken over");
            site.machine.sh("cd /root/leaving && docker compose down 2>&1");
        }
    }
    site.machine.exec(&["sh", "-c", "docker ps -aq | xargs -r docker rm -f"]);
    let left = "find / -xdev \\( -iname '*kedge*' \\) -not -path '/proc/*' -not -path '/root/*' -not -path '/var/log/*' 2>/dev/null; getent passwd kedge";
    say("what is left on the host, on purpose");
    quote(&site.machine.exec(&["sh", "-c", left]).stdout);
}
