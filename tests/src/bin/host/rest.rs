//! What the agent takes of a host on which nothing happens: memory, by what it is, and processor time.

use std::time::Duration;

use kedge_tests::rig::images::Suite;

use crate::site::{Site, quote, say};

/// Installs the agent and a stack of 20 services, waits, and prints.
pub(crate) fn measure(minutes: u64) {
    let site = Site::new("rest", Suite::Bookworm);
    let package = site.bring(&Site::package(&site.packages("1")));
    site.machine.sh(&format!("dpkg -i {package} 2>&1"));
    let bundle = site.product("rest", &compose());
    site.machine.sh(&format!("kedge import {bundle} --root-sha256 {}", site.vendor.root_sha256()));
    site.wait_until_it_runs("rest", "1.0.0");
    let (pid, ticks) = (site.unit("MainPID"), |site: &Site, pid: &str| -> u64 {
        let stat = site.machine.sh(&format!("cat /proc/{pid}/stat"));
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        fields.iter().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum()
    });
    let before = ticks(&site, &pid);
    std::thread::sleep(Duration::from_secs(minutes * 60));
    let used = ticks(&site, &pid) - before;
    let share = used as f64 / (minutes * 60 * rustix::param::clock_ticks_per_second()) as f64;
    say(&format!("20 services, {minutes} minutes at rest: {:.3} % of one core", share * 100.0));
    quote(&site.machine.sh(&format!("grep -E 'VmHWM|VmRSS|RssAnon|RssFile|Threads' /proc/{pid}/status")));
    say("the biggest mappings, KiB resident");
    let mappings = "awk '/^[0-9a-f]+-/ {name=$6==\"\"?\"[anonymous]\":$6} /^Rss:/ {rss[name]+=$2} END {for (n in rss) print rss[n], n}' /proc/PID/smaps | sort -rn | head -n 8";
    quote(&site.machine.sh(&mappings.replace("PID", &pid)));
}

fn compose() -> String {
    let mut compose = String::from(
        "x-kedge: {product: rest, version: 1.0.0, gate: {timeout: 120s, soak: 1s}}\nservices:\n",
    );
    for number in 0..20 {
        let waits = if number < 5 {
            String::new()
        } else {
            format!("    depends_on: {{s{}: {{condition: service_healthy}}}}\n", number - 5)
        };
        compose.push_str(&format!("  s{number}:\n    image: rig/busybox:1\n    command: [sleep, 1d]\n    init: true\n    healthcheck: {{test: [CMD, 'true'], interval: 30s, start_period: 5s}}\n{waits}"));
    }
    compose
}
