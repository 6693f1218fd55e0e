//! Other engines than the oldest: a host with a newer one, and one whose engine becomes newer under the running agent.

use std::path::Path;

use kedge_tests::rig::images::Suite;
use kedge_tests::rig::need;
use serde_json::Value;

use crate::lives;
use crate::site::{Site, quote, say};
use crate::story::{PORT, PRODUCT};

/// Tells both; panics where one comes out otherwise.
pub(crate) fn tell() {
    lives::whole("newer", Suite::Trixie);
    match need::newer_engine() {
        None => say("skipped: KEDGE_NEWER_ENGINE names no folder with Engine 26.1"),
        Some(programs) => becomes_newer(&programs),
    }
    say("the end: all of it came out as it should");
}

/// The customer upgrades Docker by two major versions, on what the old one has left in /var/lib/docker.
fn becomes_newer(programs: &Path) {
    let site = Site::new("older", Suite::Bookworm);
    lives::deploy(&site);
    let get = format!("curl -fsS http://127.0.0.1:{PORT}");
    let rows = site.machine.sh(&format!("{get}/rows?value=kept -X POST >/dev/null && {get}/rows"));
    let agent = site.unit("MainPID");
    let version = |status: &Value| status["engine"]["version"].as_str().unwrap_or_default().to_owned();
    site.wait_until("it should be the old engine", |status| version(status).starts_with("20.10"));
    site.machine.sh("systemctl stop docker.socket docker.service containerd.service");
    site.wait_until("it should notice that Docker is gone", |status| status["engine"]["reachable"] != true);
    quote(&site.machine.sh("kedge status | head -n 4; systemctl show -P StatusText kedge"));
    // As its package would: new programs beside the same folders.
    for folder in ["usr/sbin", "usr/bin"] {
        for entry in std::fs::read_dir(programs.join(folder)).expect("a folder").flatten() {
            site.machine.put(&entry.path(), &format!("/{folder}/"));
        }
    }
    site.machine.sh("mkdir -p /etc/systemd/system/docker.service.d && printf '[Service]\\nEnvironment=DOCKER_ALLOW_IPV6_ON_IPV4_INTERFACE=1\\n' >/etc/systemd/system/docker.service.d/rig.conf && systemctl daemon-reload && systemctl start docker.service");
    let took = site.wait_until("it should be the new engine, with everything healthy", |status| {
        version(status).starts_with("26.1") && Site::is_running(status, PRODUCT, "1.0.0")
    });
    quote(
        &site.machine.sh("kedge status; journalctl -u kedge -o cat --no-pager | grep -i engine | tail -n 6"),
    );
    assert_eq!(site.unit("MainPID"), agent, "the agent should have waited, not ended");
    assert_eq!(site.machine.sh(&format!("{get}/rows")), rows, "what was written should still be there");
    let bundle = site.bring(&site.vendor.bundle(PRODUCT, "2.0.0"));
    site.machine.sh(&format!("kedge import {bundle} 2>&1"));
    site.wait_until_it_runs(PRODUCT, "2.0.0");
    assert_eq!(site.unit("MainPID"), agent, "the agent should still be the same");
    say(&format!(
        "Engine 20.10 became 26.1 on the same /var/lib/docker: the same agent noticed, waited, had everything healthy {:.1} s after the start, and took the next release",
        took.as_secs_f64()
    ));
}
