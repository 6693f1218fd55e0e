//! `kedgectl fleet`: the hosts, where they stand, and what happened there.

use super::client::Data;
use super::out::{self, Format, Table, or_dash};
use crate::codes;
use crate::error::{Failure, Result};
use clap::Subcommand;
use jiff::Timestamp;
use kedge_proto::hub::v1::{FleetRequest, Host, RevokeHostRequest};
use kedge_proto::name;
use kedge_proto::v1::{DeploymentStatus, HostStatus, ServiceStatus};
use std::collections::BTreeMap;
use std::io::IsTerminal;

/// Shows the fleet.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List the hosts and their deployments
    #[command(
        after_help = "Examples:\n  kedgectl fleet ls\n  kedgectl fleet ls -o json | jq '.[] | select(.connected | not) | .status.host_id'"
    )]
    Ls {
        #[command(flatten)]
        data: Data,
        /// How the result is written
        #[arg(short, long, default_value = "table")]
        output: Format,
    },
    /// Show one host: its services and its latest events
    #[command(after_help = "Example:\n  kedgectl fleet show h-0123456789abcdef")]
    Show {
        /// The host's ID
        host: String,
        #[command(flatten)]
        data: Data,
        /// How the result is written
        #[arg(short, long, default_value = "table")]
        output: Format,
    },
    /// Show the fleet now and again whenever it changes, until interrupted
    #[command(
        after_help = "Examples:\n  kedgectl fleet watch\n  kedgectl fleet watch -o json    # one line for each host that changed"
    )]
    Watch {
        /// Only this host
        #[arg(default_value = "")]
        host: String,
        #[command(flatten)]
        data: Data,
        /// How the result is written
        #[arg(short, long, default_value = "table")]
        output: Format,
    },
    /// Bar a host for good: its certificate is no longer accepted
    #[command(after_help = "Example:\n  kedgectl fleet revoke h-0123456789abcdef")]
    Revoke {
        /// The host's ID
        host: String,
        #[command(flatten)]
        data: Data,
    },
}

/// Runs the command.
pub(crate) async fn run(command: Command) -> Result<()> {
    match command {
        Command::Ls { data, output } => {
            let hosts = fetch(&data, String::new()).await?;
            match output {
                Format::Json => out::json(&hosts),
                Format::Table => out::text(&overview(hosts.iter(), Timestamp::now()).render(out::colour())),
            }
        }
        Command::Show { host, data, output } => {
            let hosts = fetch(&data, host).await?;
            let Some(host) = hosts.first() else { return Ok(()) };
            match output {
                Format::Json => out::json(host),
                Format::Table => out::text(&details(host, Timestamp::now())),
            }
        }
        Command::Watch { host, data, output } => watch(host, &data, output).await,
        Command::Revoke { host, data } => {
            let reply = data.connect().await?.revoke_host(RevokeHostRequest { host: host.clone() }).await;
            if !reply.map_err(|status| Failure::from_status(&status))?.into_inner().existed {
                return Err(Failure::new(
                    codes::HOST_UNKNOWN,
                    format!("there is no host {}", host.escape_debug()),
                ));
            }
            out::note(&format!("Host {host} is barred from this hub."));
            Ok(())
        }
    }
}

async fn fetch(data: &Data, host: String) -> Result<Vec<Host>> {
    let reply = data.connect().await?.fleet(FleetRequest { host }).await;
    Ok(reply.map_err(|status| Failure::from_status(&status))?.into_inner().hosts)
}

async fn watch(host: String, data: &Data, output: Format) -> Result<()> {
    let reply = data.connect().await?.watch_fleet(FleetRequest { host }).await;
    let mut changes = reply.map_err(|status| Failure::from_status(&status))?.into_inner();
    let mut known: BTreeMap<String, Host> = BTreeMap::new();
    let redraw = std::io::stdout().is_terminal();
    loop {
        let reply = tokio::select! {
            reply = changes.message() => reply.map_err(|status| Failure::from_status(&status))?,
            // Interrupted: that is how a watch ends.
            _ = tokio::signal::ctrl_c() => return Ok(()),
        };
        let Some(reply) = reply else { return Ok(()) };
        if output == Format::Json {
            for host in &reply.hosts {
                out::json(host)?;
            }
            continue;
        }
        for host in reply.hosts {
            known.insert(id(&host).to_owned(), host);
        }
        let table = overview(known.values(), Timestamp::now()).render(out::colour());
        // Home, the table, and everything below it cleared.
        out::text(&if redraw { format!("\x1b[H\x1b[2J{table}") } else { format!("{table}\n") })?;
    }
}

/// One row for each deployment; a host without any has one row too.
fn overview<'a>(hosts: impl Iterator<Item = &'a Host>, now: Timestamp) -> Table {
    let mut table = Table::new([
        "HOST",
        "NAME",
        "SITE",
        "CONNECTED",
        "DEPLOYMENT",
        "VERSION",
        "PHASE",
        "HEALTH",
        "LAST PROBLEM",
    ]);
    let nobody = HostStatus::default();
    let none = DeploymentStatus::default();
    for host in hosts {
        let status = host.status.as_ref().unwrap_or(&nobody);
        let deployments =
            if status.deployments.is_empty() { std::slice::from_ref(&none) } else { &status.deployments };
        for deployment in deployments {
            let is_there = !deployment.name.is_empty();
            table.row([
                status.host_id.clone(),
                or_dash(&status.hostname),
                status.site.clone(),
                connection(host, now),
                or_dash(&deployment.name),
                version(deployment),
                if is_there { phase(deployment) } else { "-".to_owned() },
                if is_there { name::of_health(deployment.health) } else { "-".to_owned() },
                problem(deployment),
            ]);
        }
    }
    table
}

fn id(host: &Host) -> &str {
    host.status.as_ref().map_or("", |status| &status.host_id)
}

fn connection(host: &Host, now: Timestamp) -> String {
    match host {
        Host { revoked: true, .. } => "revoked".to_owned(),
        Host { connected: true, connected_since, .. } => {
            format!("yes, {}", out::distance(connected_since, now))
        }
        Host { last_seen, .. } => format!("no, {} ago", out::distance(last_seen, now)),
    }
}

fn version(deployment: &DeploymentStatus) -> String {
    let release = |release: &kedge_proto::v1::Release| format!("{} (#{})", release.version, release.seq);
    let target = deployment.operation.as_ref().and_then(|operation| operation.target.as_ref()).map(release);
    match (deployment.active.as_ref().map(release), target) {
        (Some(active), Some(target)) if active != target => format!("{active} -> {target}"),
        (Some(active), _) => active,
        (None, Some(target)) => format!("-> {target}"),
        (None, None) => "-".to_owned(),
    }
}

fn phase(deployment: &DeploymentStatus) -> String {
    let paused = if deployment.paused { ", paused" } else { "" };
    format!("{}{paused}", name::of_phase(deployment.phase).replace('_', " "))
}

/// What is wrong now, and what went wrong last.
fn problem(deployment: &DeploymentStatus) -> String {
    let crash = deployment.services.iter().find_map(crash);
    let last = deployment.last_problem.as_ref().map(|p| format!("{} {}", p.code, p.message));
    let both: Vec<String> = crash.into_iter().chain(last).collect();
    if both.is_empty() { "-".to_owned() } else { both.join("; ") }
}

fn crash(service: &ServiceStatus) -> Option<String> {
    let crash = service.crash_loop.as_ref()?;
    Some(format!("{} keeps ending: {} times, exit code {}", service.name, crash.count, crash.exit_code))
}

/// What a person has to know of a deployment beyond its services, a line each.
fn notes(deployment: &DeploymentStatus, now: Timestamp) -> Vec<String> {
    let ago = |at: &str| format!("{} ago", out::distance(at, now));
    let because = |reason: &str| if reason.is_empty() { String::new() } else { format!(": {reason}") };
    let paused =
        deployment.pause.iter().map(|p| format!("paused by {} {}{}", p.by, ago(&p.at), because(&p.reason)));
    let crashes = deployment.services.iter().filter_map(crash);
    let problem = deployment.last_problem.iter().map(|p| format!("last problem: {} {}", p.code, p.message));
    let drift = deployment
        .last_drift
        .iter()
        .map(|drift| format!("drift {}, {}: {}", ago(&drift.at), drift.outcome, drift.what.join("; ")));
    paused.chain(crashes).chain(problem).chain(drift).collect()
}

/// The newest head of the audit log, as `kedge audit verify --head` takes it, and what does not go with those before.
fn audit(status: &HostStatus) -> String {
    let Some(head) = status.audit_heads.last() else { return "-".to_owned() };
    let mut text = format!("{}:{} at {}", head.seq, head.sha256, head.at);
    for odd in status.audit_heads.iter().filter(|head| !head.problem.is_empty()) {
        text.push_str(&format!("; REWRITTEN, as told at {}: {}", odd.at, odd.problem));
    }
    text
}

/// One host at length.
fn details(host: &Host, now: Timestamp) -> String {
    let nobody = HostStatus::default();
    let status = host.status.as_ref().unwrap_or(&nobody);
    let engine = match &status.engine {
        Some(engine) if engine.reachable => {
            format!("Docker {}, {} image store", engine.version, or_dash(&engine.image_store))
        }
        Some(engine) => format!("not reachable: {}", engine.problem),
        None => "-".to_owned(),
    };
    let facts = [
        ("Host", status.host_id.clone()),
        ("Name", or_dash(&status.hostname)),
        ("Site", status.site.clone()),
        ("Connected", connection(host, now)),
        ("Enrolled", format!("{} ago", out::distance(&host.enrolled, now))),
        ("Agent", or_dash(&status.agent_version)),
        (
            "System",
            format!(
                "{} {}, {} CPUs, {} memory",
                status.os,
                status.arch,
                status.cpus,
                out::bytes(status.memory_bytes)
            ),
        ),
        (
            "Disk",
            format!("{} free of {}", out::bytes(status.disk_free_bytes), out::bytes(status.disk_total_bytes)),
        ),
        ("Engine", engine),
        ("Audit log", audit(status)),
    ];
    let mut text: String =
        facts.iter().map(|(name, fact)| format!("{name:<10} {}\n", out::clean(fact))).collect();
    for deployment in &status.deployments {
        let state = [
            format!("Deployment {}", deployment.name),
            version(deployment),
            phase(deployment),
            name::of_health(deployment.health),
        ];
        text.push_str(&format!("\n{}\n", out::clean(&state.join(", "))));
        for note in notes(deployment, now) {
            text.push_str(&format!("  {}\n", out::clean(&note)));
        }
        let mut table =
            Table::new(["  SERVICE", "RUNNING", "HEALTH", "STATE", "RESTARTS", "PORTS", "MESSAGE"]);
        for service in &deployment.services {
            table.row([
                format!("  {}", service.name),
                format!("{}/{}", service.running, service.desired),
                name::of_health(service.health),
                or_dash(&service.state),
                service.restarts.to_string(),
                or_dash(&service.ports.join(" ")),
                or_dash(&service.message),
            ]);
        }
        text.push_str(&table.render(out::colour()));
    }
    if !host.events.is_empty() {
        text.push_str("\nEvents, newest last:\n");
        for event in &host.events {
            let of =
                if event.deployment.is_empty() { String::new() } else { format!("{}: ", event.deployment) };
            text.push_str(&out::clean(&format!("  {}  {of}{}", event.at, event.message)));
            text.push('\n');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use kedge_proto::v1::{CrashLoop, Drift, Health, Pause, Phase, Problem, Release};

    fn now() -> Timestamp {
        "2026-11-21T12:00:00Z".parse().unwrap()
    }

    fn release(seq: u64) -> Release {
        Release { version: format!("1.{seq}"), seq, digest: String::new() }
    }

    #[test]
    fn a_row_says_where_a_deployment_stands_and_why() {
        let deployment = DeploymentStatus {
            name: "shop".into(),
            active: Some(release(2)),
            phase: Phase::RollingBack.into(),
            health: Health::Degraded.into(),
            last_problem: Some(Problem {
                code: "KE-3001".into(),
                message: "web is\nunhealthy".into(),
                ..Default::default()
            }),
            ..Default::default()
        };
        let status = HostStatus {
            host_id: "h-1".into(),
            hostname: "db1".into(),
            site: "acme".into(),
            deployments: vec![deployment],
            ..Default::default()
        };
        let up = Host {
            status: Some(status),
            connected: true,
            connected_since: "2026-11-21T11:00:00Z".into(),
            ..Default::default()
        };
        let down = Host {
            status: Some(HostStatus { host_id: "h-2".into(), site: "acme".into(), ..Default::default() }),
            last_seen: "2026-11-21T11:59:00Z".into(),
            ..Default::default()
        };
        let text = overview([&up, &down].into_iter(), now()).render(false);
        let lines: Vec<Vec<&str>> = text
            .lines()
            .map(|line| line.split("  ").filter(|c| !c.is_empty()).map(str::trim).collect())
            .collect();
        assert_eq!(
            lines[1],
            [
                "h-1",
                "db1",
                "acme",
                "yes, 60 min",
                "shop",
                "1.2 (#2)",
                "rolling back",
                "degraded",
                "KE-3001 web is unhealthy"
            ]
        );
        assert_eq!(lines[2], ["h-2", "-", "acme", "no, 60 s ago", "-", "-", "-", "-", "-"]);
    }

    #[test]
    fn who_paused_what_keeps_ending_and_what_drifted_is_told() {
        let crash_loop = CrashLoop { count: 6, exit_code: 137, ..Default::default() };
        let web =
            ServiceStatus { name: "web".into(), crash_loop: Some(crash_loop), ..ServiceStatus::default() };
        let pause = Pause {
            by: "bea".into(),
            at: "2026-11-21T11:00:00Z".into(),
            reason: "restore\x1b[2J, ticket 4711".into(),
        };
        let drift = Drift {
            at: "2026-11-21T11:59:00Z".into(),
            what: vec!["db was removed".into()],
            outcome: "put right".into(),
        };
        let deployment = DeploymentStatus {
            name: "shop".into(),
            phase: Phase::Active.into(),
            paused: true,
            pause: Some(pause),
            services: vec![web],
            last_problem: Some(Problem {
                code: "KE-3001".into(),
                message: "web is gone".into(),
                ..Default::default()
            }),
            last_drift: Some(drift),
            ..Default::default()
        };
        assert_eq!(phase(&deployment), "active, paused");
        assert_eq!(problem(&deployment), "web keeps ending: 6 times, exit code 137; KE-3001 web is gone");
        let status = HostStatus { deployments: vec![deployment], ..Default::default() };
        let text = details(&Host { status: Some(status), ..Default::default() }, now());
        for line in [
            "  paused by bea 60 min ago: restore",
            "  web keeps ending: 6 times, exit code 137",
            "  last problem: KE-3001",
            "  drift 60 s ago, put right: db was removed",
        ] {
            assert!(text.contains(line), "{text}");
        }
        assert!(!text.contains('\x1b'), "{text:?}");
    }

    #[test]
    fn a_version_shows_what_is_under_way() {
        let operation =
            |seq| Some(kedge_proto::v1::Operation { target: Some(release(seq)), ..Default::default() });
        let cases = [
            (None, None, "-"),
            (Some(release(1)), None, "1.1 (#1)"),
            (Some(release(1)), operation(2), "1.1 (#1) -> 1.2 (#2)"),
            (None, operation(2), "-> 1.2 (#2)"),
            (Some(release(2)), operation(2), "1.2 (#2)"),
        ];
        for (active, operation, expected) in cases {
            let deployment = DeploymentStatus { active, operation, ..Default::default() };
            assert_eq!(version(&deployment), expected);
        }
    }
}
