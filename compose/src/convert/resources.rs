//! Resources, restart and update policies: `deploy` and the older service keys folded into one.

use super::read::Read;
use crate::codes;
use crate::diagnostics::{Finding, Findings};
use crate::model::{Blkio, DeviceRate, DeviceWeight, Resources, Restart, UpdateConfig};
use crate::node::Node;

fn below<'a>(node: &'a Node, path: &[&str]) -> Option<&'a Node> {
    path.iter().try_fold(node, |node, key| node.get(key))
}

/// CPU, memory and processes; `deploy.resources` wins.
pub(super) fn resources(service: &Node) -> Resources {
    let limits = below(service, &["deploy", "resources", "limits"]);
    let reservations = below(service, &["deploy", "resources", "reservations"]);
    let positive = |bytes: i64| u64::try_from(bytes).ok();
    let nonzero = |value: &i64| *value != 0;
    let cpus = limits.and_then(|node| node.float("cpus")).or_else(|| service.float("cpus"));
    Resources {
        nano_cpus: cpus.map(nano_cpus).filter(nonzero),
        memory: limits
            .and_then(|node| node.bytes("memory"))
            .or_else(|| service.bytes("mem_limit"))
            .and_then(positive),
        memory_reservation: reservations
            .and_then(|node| node.bytes("memory"))
            .or_else(|| service.bytes("mem_reservation"))
            .and_then(positive),
        memory_swap: service.bytes("memswap_limit"),
        memory_swappiness: service.get("mem_swappiness").and_then(crate::values::bytes),
        pids: limits.and_then(|node| node.int("pids")).or_else(|| service.int("pids_limit")).filter(nonzero),
        cpu_shares: service.int("cpu_shares").filter(nonzero),
        cpu_quota: service.int("cpu_quota").filter(nonzero),
        cpu_period: service.int("cpu_period").filter(nonzero),
        cpu_rt_runtime: service.int("cpu_rt_runtime").filter(nonzero),
        cpu_rt_period: service.int("cpu_rt_period").filter(nonzero),
        cpu_count: service.int("cpu_count").filter(nonzero),
        cpu_percent: service.float("cpu_percent").map(|percent| percent as i64).filter(nonzero),
        cpuset: service.text("cpuset"),
        oom_kill_disable: service.boolean("oom_kill_disable"),
        oom_score_adj: service.int("oom_score_adj").filter(nonzero),
        blkio: service.get("blkio_config").map(blkio),
    }
}

fn blkio(node: &Node) -> Blkio {
    let weight = |node: &Node| node.unsigned("weight").unwrap_or_default();
    let path = |node: &Node| node.text_or("path", "");
    let rates = |key: &str| {
        node.items(key)
            .map(|node| DeviceRate { path: path(node), rate: node.bytes("rate").unwrap_or_default() })
            .collect()
    };
    Blkio {
        weight: weight(node),
        weight_device: node
            .items("weight_device")
            .map(|node| DeviceWeight { path: path(node), weight: weight(node) })
            .collect(),
        read_bps: rates("device_read_bps"),
        write_bps: rates("device_write_bps"),
        read_iops: rates("device_read_iops"),
        write_iops: rates("device_write_iops"),
    }
}

/// Billionths of a CPU, from as many digits as were written: 0.1 is 100,000,000 exactly.
fn nano_cpus(cpus: f64) -> i64 {
    (cpus * 1e9).round() as i64
}

/// `deploy.restart_policy`, else `restart`.
pub(super) fn restart(service: &Node, findings: &mut Findings) -> Restart {
    if let Some(policy) = below(service, &["deploy", "restart_policy"]) {
        let max_retries = policy.unsigned("max_attempts").filter(|retries: &u32| *retries > 0);
        let condition = policy.text_or("condition", "any");
        return match condition.as_str() {
            "none" | "no" => Restart::No,
            "on-failure" => Restart::OnFailure { max_retries },
            "any" | "always" => Restart::Always,
            "unless-stopped" => Restart::UnlessStopped,
            _ => {
                wrong(policy.get("condition").unwrap_or(policy), "none, on-failure or any", findings);
                Restart::No
            }
        };
    }
    let Some(node) = service.get("restart") else { return Restart::No };
    let text = node.as_str().unwrap_or_default();
    let (policy, retries) =
        text.split_once(':').map_or((text, None), |(policy, retries)| (policy, Some(retries)));
    let max_retries = retries.and_then(|retries| retries.parse::<u32>().ok());
    match (policy, retries, max_retries) {
        ("no" | "", None, _) => Restart::No,
        ("always", None, _) => Restart::Always,
        ("unless-stopped", None, _) => Restart::UnlessStopped,
        ("on-failure", None, _) => Restart::OnFailure { max_retries: None },
        ("on-failure", Some(_), Some(retries)) => {
            Restart::OnFailure { max_retries: Some(retries).filter(|retries| *retries > 0) }
        }
        _ => {
            wrong(node, "no, always, unless-stopped, on-failure or on-failure:N", findings);
            Restart::No
        }
    }
}

fn wrong(node: &Node, expected: &str, findings: &mut Findings) {
    let message = format!("`{}` is no restart policy", node.shown());
    findings.error(Finding::new(&codes::WRONG_VALUE, node.at, message).help(format!("use {expected}")));
}

/// `deploy.update_config` or `deploy.rollback_config`, which have the same keys.
pub(super) fn update_config(service: &Node, key: &str) -> Option<UpdateConfig> {
    let config = below(service, &["deploy", key])?;
    Some(UpdateConfig {
        parallelism: config.unsigned("parallelism"),
        delay: config.duration("delay"),
        failure_action: config.text("failure_action"),
        monitor: config.duration("monitor"),
        max_failure_ratio: config.float("max_failure_ratio"),
        order: config.text("order"),
    })
}

/// `deploy.replicas`, else `scale`, else one.
pub(super) fn replicas(service: &Node, findings: &mut Findings) -> u32 {
    let node = below(service, &["deploy", "replicas"]).or_else(|| service.get("scale"));
    let Some(node) = node else { return 1 };
    let count = match node.value {
        crate::node::Value::Int(count) => u32::try_from(count).ok().filter(|count| *count <= 1000),
        _ => None,
    };
    count.unwrap_or_else(|| {
        findings.error(Finding::new(
            &codes::WRONG_VALUE,
            node.at,
            "the number of containers must be from 0 to 1000",
        ));
        1
    })
}
