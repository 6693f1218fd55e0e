//! What the engine says happened to a project's containers, and when, by the engine's own clock, which is this machine's:
//! so both are measured by somebody who takes no side.

use std::collections::BTreeSet;
use std::process::Stdio;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kedge_tests::rig::docker::Docker;
use kedge_tests::rig::lines::Lines;
use kedge_tests::rig::process::Guarded;

/// A moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(u128);

impl Moment {
    /// Now.
    pub(crate) fn now() -> Self {
        Self(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos())
    }

    /// From an earlier moment to this one.
    pub(crate) fn since(self, earlier: Self) -> Duration {
        let nanos = self.0.saturating_sub(earlier.0);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

/// Follows a project's events; the engine keeps only the last few hundred of them.
pub(crate) struct Events {
    lines: Lines,
    _process: Guarded,
}

impl Events {
    /// Begins to listen. What happens after this returns is heard.
    pub(crate) fn follow(docker: &Docker, project: &str) -> Self {
        // Shortly before now: what happens while the listener starts is told all the same.
        let since = Moment::now().0.saturating_sub(100_000_000);
        let since = format!("{}.{:09}", since / 1_000_000_000, since % 1_000_000_000);
        let mut command = docker.command("docker".as_ref());
        command.args(["events", "--since", &since, "--filter"]);
        command.arg(format!("label=com.docker.compose.project={project}"));
        for kind in ["start", "die", "destroy", "health_status"] {
            command.arg("--filter").arg(format!("event={kind}"));
        }
        let service = "{{index .Actor.Attributes \"com.docker.compose.service\"}}";
        command.arg("--format").arg(format!("{{{{.TimeNano}}}} {service} {{{{.Action}}}}"));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = Guarded::spawn(&mut command).expect("docker starts");
        let lines = Lines::follow(process.child().stdout.take().expect("a pipe"));
        Self { lines, _process: process }
    }

    /// Waits until so many services have become healthy after `since`, and says when the last of them did.
    pub(crate) fn healthy(&self, since: Moment, services: usize) -> Moment {
        let mut healthy = BTreeSet::new();
        self.wait(since, &format!("{services} healthy services"), |service, action| {
            if action == "health_status: healthy" {
                healthy.insert(service.to_owned());
            }
            healthy.len() == services
        })
    }

    /// When a service's container did this, first, after `since`.
    pub(crate) fn first(&self, since: Moment, service: &str, action: &str) -> Moment {
        self.wait(since, &format!("{service}: {action}"), |s, a| s == service && a == action)
    }

    fn wait(&self, since: Moment, what: &str, mut wanted: impl FnMut(&str, &str) -> bool) -> Moment {
        let mut at = since;
        let found = self.lines.wait_for(0, |line| {
            let Some((moment, service, action)) = parse(line).filter(|(moment, ..)| *moment >= since) else {
                return false;
            };
            at = moment;
            wanted(service, action)
        });
        match found {
            Ok(_) => at,
            Err(why) => panic!("{what}: {why}"),
        }
    }
}

/// `nanoseconds service action`.
fn parse(line: &str) -> Option<(Moment, &str, &str)> {
    let mut parts = line.splitn(3, ' ');
    Some((Moment(parts.next()?.parse().ok()?), parts.next()?, parts.next()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_a_time_a_service_and_what_happened() {
        let line = "1700000000000000001 layer2-1 health_status: healthy";
        assert_eq!(
            parse(line),
            Some((Moment(1_700_000_000_000_000_001), "layer2-1", "health_status: healthy"))
        );
        assert_eq!(parse("nonsense"), None);
        assert_eq!(Moment(5).since(Moment(2)), Duration::from_nanos(3));
        assert_eq!(Moment(2).since(Moment(5)), Duration::ZERO);
    }
}
