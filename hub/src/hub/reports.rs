//! What a report does to what the hub holds about a host. Pure.
//!
//! A report is a difference. Scalars that are set replace; `engine` and each deployment replace their whole
//! former selves (a deployment is found by its name); `removed` takes a deployment away; `full` begins
//! from nothing. Who the host is and whether it is connected is the hub's own knowledge, and never taken
//! from a report.

use kedge_proto::tether::v1::{Hello, Report};
use kedge_proto::v1::{AuditHead, Event, HostStatus};

/// Most deployments held for a host.
pub const MAX_DEPLOYMENTS: usize = 256;
/// Most services held for a deployment.
pub const MAX_SERVICES: usize = 512;
/// Most events taken from one report; of more, the newest are kept.
pub const MAX_EVENTS: usize = 200;
/// Longest free text kept, in bytes.
const MAX_TEXT: usize = 2048;
/// Most heads of a host's audit log that are held. The first is always among them.
const MAX_HEADS: usize = 32;

/// Cuts a report to the sizes the hub holds. Refusing it instead would make the agent send it for ever.
/// Returns whether anything was cut.
pub fn clip(report: &mut Report) -> bool {
    let mut cut = false;
    if report.events.len() > MAX_EVENTS {
        report.events.drain(..report.events.len() - MAX_EVENTS);
        cut = true;
    }
    for event in &mut report.events {
        cut |= clip_event(event);
    }
    if let Some(host) = &mut report.host {
        cut |= host.deployments.len() > MAX_DEPLOYMENTS;
        host.deployments.truncate(MAX_DEPLOYMENTS);
        for text in [&mut host.agent_version, &mut host.hostname, &mut host.os, &mut host.arch] {
            cut |= clip_text(text);
        }
        for deployment in &mut host.deployments {
            cut |= deployment.services.len() > MAX_SERVICES || clip_text(&mut deployment.name);
            deployment.services.truncate(MAX_SERVICES);
            for service in &mut deployment.services {
                cut |= clip_text(&mut service.message) | clip_text(&mut service.state);
            }
            if let Some(problem) = &mut deployment.last_problem {
                cut |= clip_text(&mut problem.message) | clip_text(&mut problem.remedy);
            }
        }
    }
    cut
}

fn clip_event(event: &mut Event) -> bool {
    let mut cut =
        clip_text(&mut event.message) | clip_text(&mut event.deployment) | clip_text(&mut event.kind);
    if let Some(problem) = &mut event.problem {
        cut |= clip_text(&mut problem.message) | clip_text(&mut problem.remedy);
    }
    cut
}

fn clip_text(text: &mut String) -> bool {
    if text.len() <= MAX_TEXT {
        return false;
    }
    text.truncate(text.floor_char_boundary(MAX_TEXT));
    true
}

/// Applies a report to the status held.
pub fn apply(status: &mut HostStatus, report: Report) {
    if report.full {
        *status = HostStatus {
            host_id: status.host_id.clone(),
            site: status.site.clone(),
            // What a host has said of its audit log is never forgotten at its word.
            audit_heads: std::mem::take(&mut status.audit_heads),
            ..HostStatus::default()
        };
    }
    let Some(change) = report.host else { return };
    let HostStatus {
        host_id: _,
        site: _,
        tether: _,
        agent_version,
        hostname,
        os,
        arch,
        engine,
        deployments,
        memory_bytes,
        disk_free_bytes,
        disk_total_bytes,
        cpus,
        clock,
        audit,
        audit_heads: _,
    } = change;
    let texts = [
        (&mut status.agent_version, agent_version),
        (&mut status.hostname, hostname),
        (&mut status.os, os),
        (&mut status.arch, arch),
    ];
    for (held, new) in texts {
        if !new.is_empty() {
            *held = new;
        }
    }
    let numbers = [
        (&mut status.memory_bytes, memory_bytes),
        (&mut status.disk_free_bytes, disk_free_bytes),
        (&mut status.disk_total_bytes, disk_total_bytes),
    ];
    for (held, new) in numbers {
        if new != 0 {
            *held = new;
        }
    }
    if cpus != 0 {
        status.cpus = cpus;
    }
    if engine.is_some() {
        status.engine = engine;
    }
    if clock.is_some() {
        status.clock = clock;
    }
    if let Some(head) = audit.filter(is_head) {
        hold(&mut status.audit_heads, head.clone());
        status.audit = Some(head);
    }
    for deployment in deployments {
        let held = status.deployments.iter().position(|held| held.name == deployment.name);
        match (held, deployment.removed) {
            (Some(index), true) => drop(status.deployments.remove(index)),
            (Some(index), false) => status.deployments[index] = deployment,
            (None, true) => {}
            (None, false) if status.deployments.len() < MAX_DEPLOYMENTS => {
                status.deployments.push(deployment)
            }
            (None, false) => {}
        }
    }
    status.deployments.sort_by(|a, b| a.name.cmp(&b.name));
}

/// Whether it is one: a digest, and a time of no more than a time's length.
fn is_head(head: &AuditHead) -> bool {
    let hex = head.sha256.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    head.seq > 0 && head.sha256.len() == 64 && hex && head.at.len() <= 64
}

/// Holds a head with those before, and says in it what does not go with them. A log only grows, and its lines stay what they
/// were. Those that show something are held for good, as far as there is room.
fn hold(heads: &mut Vec<AuditHead>, mut head: AuditHead) {
    let known = heads.iter().find(|held| held.seq == head.seq);
    if known.is_some_and(|held| held.sha256 == head.sha256) {
        return;
    }
    head.problem = match heads.iter().map(|held| held.seq).max() {
        _ if known.is_some() => format!("line {} is not the line that it was", head.seq),
        Some(last) if head.seq < last => format!("it ends at line {}, and had {last} before", head.seq),
        _ => String::new(),
    };
    heads.push(head);
    if heads.len() > MAX_HEADS {
        heads.remove(dispensable(heads));
    }
}

/// Which of them is missed least: what is left lies the closer together the newer it is.
fn dispensable(heads: &[AuditHead]) -> usize {
    let newest = heads.last().map_or(0, |head| head.seq);
    let gap = |at: usize| {
        let (before, after) = (heads[at - 1].seq, heads[at + 1].seq);
        after.saturating_sub(before) as f64 / (newest.saturating_sub(heads[at].seq) + 1) as f64
    };
    let inner = 1..heads.len() - 1;
    let unsuspicious = inner.filter(|at| heads[*at].problem.is_empty());
    unsuspicious.min_by(|a, b| gap(*a).total_cmp(&gap(*b))).unwrap_or(1)
}

/// How far the hub has followed a host's reports.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Followed {
    /// The agent's outbox, as its hello named it.
    pub session: String,
    /// Highest report number applied of that outbox.
    pub last: u64,
}

/// What the welcome says to a hello: highest number held of this outbox, and whether everything is wanted
/// once. It is when the outbox is new to the hub, when the hub holds nothing, or when the agent remembers
/// an acknowledgement that the hub does not (its store was restored from an older copy).
pub fn welcome(hello: &Hello, held: Option<&Followed>) -> (u64, bool) {
    match held {
        Some(held) if held.session == hello.session => (held.last, held.last < hello.last_acked),
        _ => (0, true),
    }
}

/// Whether a report is new; `held` moves on if so. A repeated one is acknowledged and otherwise ignored.
pub fn accept(held: &mut Followed, session: &str, number: u64) -> bool {
    if held.session != session {
        *held = Followed { session: session.to_owned(), last: 0 };
    }
    let new = number > held.last;
    held.last = held.last.max(number);
    new
}

#[cfg(test)]
mod tests {
    use super::*;
    use kedge_proto::v1::{DeploymentStatus, EngineStatus, ServiceStatus};

    fn deployment(name: &str, generation: u64) -> DeploymentStatus {
        DeploymentStatus { name: name.into(), generation, ..Default::default() }
    }

    fn report(full: bool, host: HostStatus) -> Report {
        Report { number: 1, full, host: Some(host), ..Default::default() }
    }

    fn held() -> HostStatus {
        HostStatus {
            host_id: "h-1".into(),
            site: "acme".into(),
            hostname: "db1".into(),
            cpus: 4,
            deployments: vec![deployment("a", 1), deployment("b", 1)],
            engine: Some(EngineStatus { reachable: true, version: "20.10".into(), ..Default::default() }),
            ..Default::default()
        }
    }

    #[test]
    fn heads_of_the_audit_log_are_held_and_one_that_contradicts_them_is_marked() {
        let mut status = held();
        let mut told = |full, seq, digit: &str| {
            let audit = Some(AuditHead { seq, sha256: digit.repeat(64), ..AuditHead::default() });
            apply(&mut status, report(full, HostStatus { audit, ..HostStatus::default() }));
            status.audit_heads.last().unwrap().clone()
        };
        assert_eq!(told(true, 10, "a").problem, "");
        assert_eq!(told(false, 20, "b").problem, "");
        // Said twice is held once; a full report forgets nothing; what is no digest is none.
        assert_eq!(told(true, 20, "b").seq, 20);
        assert_eq!(told(true, 21, "B").seq, 20);
        assert!(told(true, 20, "c").problem.contains("line 20 is not"));
        assert!(told(false, 12, "d").problem.contains("had 20 before"));
        for seq in 21..300 {
            assert_eq!(told(false, seq, "e").problem, "");
        }
        let heads = &status.audit_heads;
        assert_eq!((heads.len(), heads[0].seq, heads.last().unwrap().seq), (MAX_HEADS, 10, 299));
        // Many new ones, and a few of every age.
        for (from, until) in [(21, 200), (200, 280), (280, 300)] {
            let many = heads.iter().filter(|head| (from..until).contains(&head.seq)).count();
            assert!((2..=20).contains(&many), "{many} of {from} to {until}");
        }
        assert_eq!(heads.iter().filter(|head| !head.problem.is_empty()).count(), 2);
    }

    #[test]
    fn a_difference_changes_what_it_names_and_nothing_else() {
        let mut status = held();
        let change = HostStatus {
            host_id: "h-2".into(),
            site: "evil".into(),
            cpus: 8,
            deployments: vec![deployment("b", 2), deployment("0", 1)],
            ..Default::default()
        };
        apply(&mut status, report(false, change));
        let expected = HostStatus {
            cpus: 8,
            deployments: vec![deployment("0", 1), deployment("a", 1), deployment("b", 2)],
            ..held()
        };
        assert_eq!(status, expected);
    }

    #[test]
    fn a_removed_deployment_goes_and_an_unknown_one_does_not_matter() {
        let mut status = held();
        let gone = |name: &str| DeploymentStatus { removed: true, ..deployment(name, 9) };
        apply(
            &mut status,
            report(false, HostStatus { deployments: vec![gone("a"), gone("x")], ..Default::default() }),
        );
        assert_eq!(status.deployments, [deployment("b", 1)]);
    }

    #[test]
    fn a_full_report_replaces_all_but_who_the_host_is() {
        let mut status = held();
        apply(&mut status, report(true, HostStatus { hostname: "db2".into(), ..Default::default() }));
        let expected = HostStatus {
            host_id: "h-1".into(),
            site: "acme".into(),
            hostname: "db2".into(),
            ..Default::default()
        };
        assert_eq!(status, expected);
    }

    #[test]
    fn deployments_never_grow_past_their_limit() {
        let mut status = held();
        for n in 0..2 * MAX_DEPLOYMENTS {
            let change =
                HostStatus { deployments: vec![deployment(&format!("d{n}"), 1)], ..Default::default() };
            apply(&mut status, report(false, change));
        }
        assert_eq!(status.deployments.len(), MAX_DEPLOYMENTS);
    }

    #[test]
    fn reports_are_cut_to_size_keeping_the_newest_events_and_whole_characters() {
        let event = |n: usize| Event { message: n.to_string(), ..Default::default() };
        let service = ServiceStatus { message: "é".repeat(MAX_TEXT), ..Default::default() };
        let long = DeploymentStatus { services: vec![service; MAX_SERVICES + 1], ..deployment("a", 1) };
        let mut big =
            report(false, HostStatus { deployments: vec![long; MAX_DEPLOYMENTS + 1], ..Default::default() });
        big.events = (0..MAX_EVENTS + 5).map(event).collect();
        assert!(clip(&mut big));
        assert_eq!(big.events.len(), MAX_EVENTS);
        assert_eq!(big.events[0].message, "5");
        let deployments = &big.host.as_ref().unwrap().deployments;
        assert_eq!((deployments.len(), deployments[0].services.len()), (MAX_DEPLOYMENTS, MAX_SERVICES));
        assert!(deployments[0].services[0].message.len() <= MAX_TEXT);
        assert!(!clip(&mut big), "what was cut once fits");
    }

    #[test]
    fn the_welcome_asks_for_everything_exactly_when_the_hub_may_have_missed_something() {
        let followed = |session: &str, last| Followed { session: session.into(), last };
        let cases = [
            ("nothing held", None, "s", 0, (0, true)),
            ("other outbox", Some(followed("r", 7)), "s", 0, (0, true)),
            ("in step", Some(followed("s", 7)), "s", 7, (7, false)),
            ("acknowledgement lost", Some(followed("s", 7)), "s", 5, (7, false)),
            ("hub restored from an older copy", Some(followed("s", 7)), "s", 9, (7, true)),
        ];
        for (name, held, session, last_acked, expected) in cases {
            let hello = Hello { session: session.into(), last_acked, ..Default::default() };
            assert_eq!(welcome(&hello, held.as_ref()), expected, "{name}");
        }
    }

    #[test]
    fn a_report_counts_once_and_a_new_outbox_starts_again() {
        let mut held = Followed::default();
        let sequence = [
            ("s", 1, true),
            ("s", 2, true),
            ("s", 2, false),
            ("s", 1, false),
            ("s", 5, true),
            ("t", 1, true),
        ];
        for (session, number, new) in sequence {
            assert_eq!(accept(&mut held, session, number), new, "{session} {number}");
        }
    }
}
