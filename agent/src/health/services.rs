//! From what the engine holds to the state of each service. Pure.

use std::collections::BTreeMap;

use kedge_proto::v1::{Health, ServiceStatus};

use crate::engine::types::{self, Container, State};
use crate::plan::desired::WantedService;
use crate::plan::{Desired, Memory, Observed};

/// Longest message of a service, bytes.
const LONGEST: usize = 300;

/// The state of every service, by name. `references` are the images as signed.
pub fn services(
    desired: &Desired,
    observed: &Observed,
    memory: &Memory,
    references: &BTreeMap<String, String>,
) -> Vec<ServiceStatus> {
    let service = |(name, wanted): (&String, &WantedService)| {
        let containers: Vec<Option<&Container>> = wanted
            .containers
            .iter()
            .map(|name| observed.containers.iter().find(|c| &c.name == name))
            .collect();
        let done = |name: &String| desired.containers.get(name).is_some_and(|one| memory.is_done(one));
        let finished = wanted.is_job
            && wanted
                .containers
                .iter()
                .zip(&containers)
                .all(|(name, container)| done(name) || container.is_some_and(ended_well));
        let there: Vec<&Container> = containers.iter().copied().flatten().collect();
        let health = if finished { Health::Healthy } else { worst(&containers) };
        ServiceStatus {
            name: name.clone(),
            desired: u32::try_from(wanted.containers.len()).unwrap_or(u32::MAX),
            running: count(&there, |c| c.state == State::Running),
            health: health.into(),
            state: if finished { "done".to_owned() } else { state(&containers) },
            image: references.get(name).cloned().unwrap_or_default(),
            message: message(name, &there, memory, health),
            restarts: there
                .iter()
                .filter_map(|c| c.detail.as_ref())
                .map(|d| u32::try_from(d.restarts).unwrap_or(u32::MAX))
                .fold(0, u32::saturating_add),
            ports: ports(&there),
            crash_loop: None,
        }
    };
    desired.services.iter().map(service).collect()
}

/// The health of a whole deployment, from that of its services.
pub fn overall(services: &[ServiceStatus]) -> Health {
    let any = |health: Health| services.iter().any(|s| s.health() == health);
    if services.is_empty() || services.iter().all(|s| s.health() == Health::Stopped) {
        Health::Stopped
    } else if any(Health::Unhealthy) {
        Health::Unhealthy
    } else if any(Health::Stopped) || any(Health::Degraded) {
        Health::Degraded
    } else if any(Health::Starting) {
        Health::Starting
    } else if any(Health::Unknown) {
        Health::Unknown
    } else {
        Health::Healthy
    }
}

fn ended_well(container: &Container) -> bool {
    container.state == State::Exited && container.exit_code == Some(0)
}

fn count(containers: &[&Container], is: impl Fn(&Container) -> bool) -> u32 {
    u32::try_from(containers.iter().filter(|c| is(c)).count()).unwrap_or(u32::MAX)
}

fn health_of(container: Option<&Container>) -> Health {
    let Some(container) = container else { return Health::Stopped };
    match (container.state, container.health) {
        (State::Running, types::Health::None | types::Health::Healthy) => Health::Healthy,
        (State::Running, types::Health::Starting) => Health::Starting,
        (State::Running, types::Health::Unhealthy) | (State::Restarting, _) => Health::Unhealthy,
        (State::Created, _) => Health::Starting,
        (State::Paused | State::Exited | State::Removing | State::Dead, _) => Health::Stopped,
    }
}

/// The worst of a service's containers; one that is missing counts as stopped.
fn worst(containers: &[Option<&Container>]) -> Health {
    let all: Vec<Health> = containers.iter().map(|c| health_of(*c)).collect();
    let any = |health: Health| all.contains(&health);
    if all.is_empty() {
        // Scaled to zero on purpose.
        Health::Healthy
    } else if any(Health::Unhealthy) {
        Health::Unhealthy
    } else if any(Health::Stopped) {
        if all.iter().all(|h| *h == Health::Stopped) { Health::Stopped } else { Health::Degraded }
    } else if any(Health::Starting) {
        Health::Starting
    } else {
        Health::Healthy
    }
}

fn state(containers: &[Option<&Container>]) -> String {
    let mut states: Vec<String> = containers
        .iter()
        .map(|container| match container {
            None => "missing".to_owned(),
            Some(c) => match c.state {
                State::Exited => format!("exited ({})", c.exit_code.unwrap_or_default()),
                State::Created => "created".to_owned(),
                State::Running => "running".to_owned(),
                State::Paused => "paused".to_owned(),
                State::Restarting => "restarting".to_owned(),
                State::Removing => "removing".to_owned(),
                State::Dead => "dead".to_owned(),
            },
        })
        .collect();
    states.sort();
    states.dedup();
    if states.is_empty() { "scaled to 0".to_owned() } else { states.join(", ") }
}

/// Why a service is not as it should be, in one line; empty when it is.
fn message(name: &str, containers: &[&Container], memory: &Memory, health: Health) -> String {
    if health == Health::Healthy {
        return String::new();
    }
    if let Some(why) = memory.held.get(name) {
        return shorten(why);
    }
    for detail in containers.iter().filter_map(|c| c.detail.as_ref()) {
        if detail.oom_killed {
            return "killed because its memory limit was reached".to_owned();
        }
        for text in [&detail.error, &detail.health_output].into_iter().flatten() {
            if !text.trim().is_empty() {
                return shorten(text);
            }
        }
    }
    String::new()
}

fn shorten(text: &str) -> String {
    let line = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    let mut end = line.len().min(LONGEST);
    while !line.is_char_boundary(end) {
        end -= 1;
    }
    line[..end].chars().filter(|c| !c.is_control()).collect()
}

fn ports(containers: &[&Container]) -> Vec<String> {
    let mut ports: Vec<String> = containers
        .iter()
        .flat_map(|c| &c.ports)
        .filter(|p| p.host_port != 0)
        .map(|p| {
            let ip = if p.host_ip.is_empty() { "0.0.0.0" } else { &p.host_ip };
            let ip = if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() };
            format!("{ip}:{}->{}/{}", p.host_port, p.target, p.protocol)
        })
        .collect();
    ports.sort();
    ports.dedup();
    ports
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::desired::Wanted;

    fn desired(services: &[(&str, u32, bool)]) -> Desired {
        let mut desired = Desired::nothing("d", "d");
        for (name, count, is_job) in services {
            let names: Vec<String> = (1..=*count).map(|n| format!("d-{name}-{n}")).collect();
            for container in &names {
                let wanted = Wanted {
                    service: (*name).to_owned(),
                    digest: format!("digest of {name}"),
                    ..Wanted::default()
                };
                desired.containers.insert(container.clone(), wanted);
            }
            let service = WantedService { containers: names, is_job: *is_job, ..WantedService::default() };
            desired.services.insert((*name).to_owned(), service);
        }
        desired
    }

    fn container(name: &str, state: State, health: types::Health) -> Container {
        Container { name: name.into(), state, health, ..Container::default() }
    }

    fn of(desired: &Desired, containers: Vec<Container>) -> Vec<ServiceStatus> {
        let observed = Observed { containers, ..Observed::default() };
        services(desired, &observed, &Memory::default(), &BTreeMap::new())
    }

    #[test]
    fn the_health_of_one_container_follows_its_state() {
        let table = [
            (State::Running, types::Health::None, Health::Healthy),
            (State::Running, types::Health::Healthy, Health::Healthy),
            (State::Running, types::Health::Starting, Health::Starting),
            (State::Running, types::Health::Unhealthy, Health::Unhealthy),
            (State::Restarting, types::Health::None, Health::Unhealthy),
            (State::Exited, types::Health::None, Health::Stopped),
            (State::Paused, types::Health::Healthy, Health::Stopped),
            (State::Dead, types::Health::None, Health::Stopped),
        ];
        for (state, health, expected) in table {
            let services = of(&desired(&[("web", 1, false)]), vec![container("d-web-1", state, health)]);
            assert_eq!(services[0].health(), expected, "{state:?} {health:?}");
        }
    }

    #[test]
    fn a_missing_replica_is_degraded_and_all_missing_is_stopped() {
        let wanted = desired(&[("web", 2, false)]);
        let one = of(&wanted, vec![container("d-web-1", State::Running, types::Health::None)]);
        assert_eq!((one[0].health(), one[0].running, one[0].desired), (Health::Degraded, 1, 2));
        assert_eq!(one[0].state, "missing, running");
        assert_eq!(of(&wanted, vec![])[0].health(), Health::Stopped);
    }

    #[test]
    fn a_job_that_ended_well_or_is_remembered_is_done() {
        let wanted = desired(&[("job", 1, true)]);
        let mut ended = container("d-job-1", State::Exited, types::Health::None);
        ended.exit_code = Some(0);
        assert_eq!(of(&wanted, vec![ended.clone()])[0].state, "done");
        ended.exit_code = Some(1);
        assert_eq!(of(&wanted, vec![ended])[0].state, "exited (1)");
        let mut memory = Memory::default();
        memory.done.entry("job".into()).or_default().insert("digest of job".into());
        let services = services(&wanted, &Observed::default(), &memory, &BTreeMap::new());
        assert_eq!((services[0].state.as_str(), services[0].health()), ("done", Health::Healthy));
    }

    #[test]
    fn the_whole_is_as_bad_as_its_worst_part() {
        let status = |health: Health| ServiceStatus { health: health.into(), ..ServiceStatus::default() };
        let table = [
            (vec![Health::Healthy, Health::Healthy], Health::Healthy),
            (vec![Health::Healthy, Health::Starting], Health::Starting),
            (vec![Health::Healthy, Health::Stopped], Health::Degraded),
            (vec![Health::Stopped, Health::Stopped], Health::Stopped),
            (vec![Health::Unhealthy, Health::Starting], Health::Unhealthy),
        ];
        for (parts, expected) in table {
            let services: Vec<_> = parts.iter().copied().map(status).collect();
            assert_eq!(overall(&services), expected, "{parts:?}");
        }
    }

    #[test]
    fn a_message_is_one_short_line_without_control_characters() {
        assert_eq!(shorten("\n  curl: refused\x1b[31m\nmore"), "curl: refused[31m");
        assert!(shorten(&"é".repeat(1000)).len() <= LONGEST);
    }
}
