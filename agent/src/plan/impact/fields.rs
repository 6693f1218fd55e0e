//! A field that differs, with what it is and what it should be, as far as that may be shown and has a short form.
//!
//! The comparison names what differs in words (`another memory limit`); here the words find the values again. A word without a
//! rule here is shown without values, never wrongly.

use std::fmt::Display;

use kedge_compose::model::{Mount, Port, Resources, Restart};
use kedge_proto::local::v1::FieldDiff;

use crate::engine::spec::{ContainerSpec, LABEL_FILES};
use crate::engine::types::{Container, Detail};
use crate::plan::desired::Wanted;
use crate::redact::Redactor;

/// Longest value that is shown, characters.
const LONGEST: usize = 120;

/// From and to; `None` where there is no short form, empty where it is not set.
type Values = Option<(String, String)>;

/// The field that `word` names in the comparison of these two.
pub(super) fn shown(word: &str, wanted: &Wanted, seen: &Container, redactor: &Redactor) -> FieldDiff {
    let what = word.strip_prefix("another ").unwrap_or(word);
    let now = seen.detail.as_ref();
    let over = wanted.spec.over(&wanted.image);
    if let Some(name) = what.strip_prefix("value of ") {
        let values = now.map(|now| (variable(&now.spec, name), variable(&over, name)));
        return field(format!("environment {name}"), hide(name, values, redactor));
    }
    if what == format!("label {LABEL_FILES}") {
        return field("content of its files".to_owned(), None);
    }
    if let Some(name) = what.strip_prefix("label ") {
        let of = |labels: &std::collections::BTreeMap<String, String>| {
            labels.get(name).cloned().unwrap_or_default()
        };
        return field(what.to_owned(), hide(name, Some((of(&seen.labels), of(&over.labels))), redactor));
    }
    if what == "image" {
        return field(what.to_owned(), Some((short_id(&seen.image_id), short_id(&wanted.spec.image))));
    }
    if let Some(target) = what.strip_prefix("mount at ") {
        return field(format!("mount {target}"), now.map(|now| mounts(now, &over, target)));
    }
    let name = if what == "other CPUs" { "CPUs" } else { what };
    let values = now.and_then(|now| Some((value(name, &now.spec)?, value(name, &over)?)));
    field(name.to_owned(), hide(name, values, redactor))
}

fn field(field: String, values: Values) -> FieldDiff {
    match values {
        Some((from, to)) => FieldDiff { field, from: cut(&from), to: cut(&to), hidden: false },
        None => FieldDiff { field, hidden: true, ..FieldDiff::default() },
    }
}

/// Values that are or look secret are not shown, neither of the two.
fn hide(name: &str, values: Values, redactor: &Redactor) -> Values {
    values.filter(|(from, to)| redactor.may_show(name, from) && redactor.may_show(name, to))
}

fn cut(text: &str) -> String {
    let mut cut: String = text.chars().filter(|c| !c.is_control()).take(LONGEST).collect();
    if text.chars().count() > LONGEST {
        cut.push('…');
    }
    cut
}

fn variable(spec: &ContainerSpec, name: &str) -> String {
    spec.env.0.get(name).cloned().flatten().unwrap_or_default()
}

/// `sha256:1a2b3c4d5e6f`, as the engine's own lists show it.
fn short_id(id: &str) -> String {
    let digits = id.strip_prefix("sha256:").unwrap_or(id);
    digits.chars().take(12).collect()
}

fn mounts(now: &Detail, wanted: &ContainerSpec, target: &str) -> (String, String) {
    let same = |other: &str| other.trim_end_matches('/') == target.trim_end_matches('/');
    let seen = now.mounts.iter().find(|mount| same(&mount.target)).map(|mount| {
        let source = mount.name.as_deref().unwrap_or(&mount.source);
        described(&mount.kind, source, !mount.writable)
    });
    let wanted = wanted.mounts.iter().find(|mount| same(&mount.target)).map(|mount: &Mount| {
        let kind = format!("{:?}", mount.kind).to_lowercase();
        described(&kind, mount.source.as_deref().unwrap_or_default(), mount.read_only)
    });
    (seen.unwrap_or_default(), wanted.unwrap_or_default())
}

fn described(kind: &str, source: &str, read_only: bool) -> String {
    let mode = if read_only { ", read-only" } else { "" };
    format!("{kind} {source}").trim_end().to_owned() + mode
}

/// The value of a field that has a short form.
fn value(field: &str, spec: &ContainerSpec) -> Option<String> {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let list = |values: &[String]| values.join(" ");
    let of_resources = |resources: &Resources| limit(field, resources);
    Some(match field {
        "command" => list(spec.command.as_deref().unwrap_or_default()),
        "entry point" => list(spec.entrypoint.as_deref().unwrap_or_default()),
        "user" => text(&spec.user),
        "group" => list(&spec.group_add),
        "working folder" => text(&spec.working_dir),
        "host name" => text(&spec.hostname),
        "domain name" => text(&spec.domainname),
        "init process" => spec.init.unwrap_or(false).to_string(),
        "stop signal" => text(&spec.stop_signal),
        "stop grace period" => {
            spec.stop_grace.map(|grace| format!("{} s", grace.as_secs_f64())).unwrap_or_default()
        }
        "root file system mode" => if spec.read_only { "read-only" } else { "writable" }.to_owned(),
        "privilege" => spec.privileged.to_string(),
        "capability" => {
            let signed = |sign: &'static str| move |name: &String| format!("{sign}{name}");
            let all = spec.cap_add.iter().map(signed("+")).chain(spec.cap_drop.iter().map(signed("-")));
            all.collect::<Vec<_>>().join(" ")
        }
        "security option" => list(&spec.security_opt),
        "host entry" => list(&spec.extra_hosts),
        "log driver" => spec.logging.as_ref().map(|logging| logging.driver.clone()).unwrap_or_default(),
        "health check" => spec.healthcheck.as_ref().map(|check| list(&check.test)).unwrap_or_default(),
        "published port" => spec.ports.iter().map(port).collect::<Vec<_>>().join(" "),
        "network mode" => text(&spec.network_mode),
        "size of /dev/shm" => bytes(spec.shm_size),
        "runtime" => text(&spec.runtime),
        "restart policy" => restart(spec.restart),
        _ => return of_resources(&spec.resources),
    })
}

fn limit(field: &str, resources: &Resources) -> Option<String> {
    fn plain<T: Display>(value: Option<T>) -> String {
        value.map(|value| value.to_string()).unwrap_or_default()
    }
    Some(match field {
        "CPU limit" => plain(resources.nano_cpus.filter(|n| *n > 0).map(|n| n as f64 / 1e9)),
        "memory limit" => bytes(resources.memory),
        "memory reservation" => bytes(resources.memory_reservation),
        "swap limit" => bytes(resources.memory_swap.and_then(|swap| u64::try_from(swap).ok())),
        "process limit" => plain(resources.pids.filter(|pids| *pids > 0)),
        "CPU shares" => plain(resources.cpu_shares.filter(|shares| *shares > 0)),
        "CPU quota" => plain(resources.cpu_quota.filter(|quota| *quota > 0)),
        "CPU period" => plain(resources.cpu_period.filter(|period| *period > 0)),
        "CPUs" => plain(resources.cpuset.clone()),
        _ => return None,
    })
}

fn bytes(size: Option<u64>) -> String {
    const MIB: u64 = 1 << 20;
    match size {
        None | Some(0) => String::new(),
        Some(size) if size % MIB == 0 => format!("{} MiB", size / MIB),
        Some(size) => format!("{size} bytes"),
    }
}

fn port(port: &Port) -> String {
    let address = if port.host_ip.is_empty() { String::new() } else { format!("{}:", port.host_ip) };
    format!("{address}{}->{}/{}", port.published, port.target, port.protocol)
}

fn restart(policy: Restart) -> String {
    match policy {
        Restart::No => "no".to_owned(),
        Restart::Always => "always".to_owned(),
        Restart::UnlessStopped => "unless-stopped".to_owned(),
        Restart::OnFailure { max_retries: None } => "on-failure".to_owned(),
        Restart::OnFailure { max_retries: Some(most) } => format!("on-failure:{most}"),
    }
}
