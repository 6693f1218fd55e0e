//! What the service manager (systemd) is told: ready, stopping, how things are in a sentence, and that the agent is alive.
//!
//! The protocol is sd_notify(3); where nobody started this process with `NOTIFY_SOCKET`, nothing is said and nothing is
//! pinged. The sign of life is not a timer's: it is given only while every main task answers ([`crate::watchdog`]).

use std::sync::Arc;

use kedge_proto::v1::{Health, HostStatus};
use sd_notify::NotifyState;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::watchdog::Registry;

/// Pings within the time after which systemd acts. Half of it is a task's patience, so that the last sign of life is
/// followed by the end of that time, and not by twice of it.
const PINGS: u32 = 6;

/// Startup is over.
pub fn ready() {
    tell(&[NotifyState::Ready]);
}

/// The agent ends in order.
pub fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("ending; what runs goes on running")]);
}

/// Keeps the sentence of `systemctl status` true.
pub async fn say_status(mut status: watch::Receiver<Arc<HostStatus>>) {
    let mut said = String::new();
    loop {
        let sentence = sentence(&status.borrow_and_update());
        if sentence != said {
            tell(&[NotifyState::Status(&sentence)]);
            said = sentence;
        }
        if status.changed().await.is_err() {
            return;
        }
    }
}

/// Gives the sign of life for as long as all tasks answer. Ends at once where no watchdog waits for it.
pub async fn feed_watchdog(registry: Registry) {
    let Some(limit) = sd_notify::watchdog_enabled() else { return };
    let began = Instant::now();
    let mut due = tokio::time::interval(limit / PINGS);
    due.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        due.tick().await;
        let wedged = registry.wedged(began.elapsed(), limit / 2);
        if wedged.is_empty() {
            tell(&[NotifyState::Watchdog]);
        }
        for wedged in wedged {
            let (task, seconds) = (wedged.task, wedged.silent.as_secs());
            tracing::error!(
                task,
                seconds,
                "a task does not answer; the service manager will restart the agent"
            );
            tell(&[NotifyState::Status(&format!("{task} has not answered for {seconds} s"))]);
        }
        registry.ping(began.elapsed());
    }
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "the service manager could not be told");
    }
}

fn sentence(host: &HostStatus) -> String {
    let engine = host.engine.as_ref().filter(|engine| engine.reachable);
    let Some(engine) = engine else {
        return "the container engine does not answer; waiting for it".to_owned();
    };
    let ill: Vec<&str> = host
        .deployments
        .iter()
        .filter(|deployment| deployment.health() != Health::Healthy)
        .map(|deployment| deployment.name.as_str())
        .collect();
    let deployments = match (host.deployments.len(), ill.as_slice()) {
        (0, _) => "no deployments".to_owned(),
        (1, []) => "1 deployment, healthy".to_owned(),
        (n, []) => format!("{n} deployments, all healthy"),
        (n, ill) => format!("{n} deployments, not healthy: {}", ill.join(", ")),
    };
    format!("engine {}; {deployments}", engine.version)
}

#[cfg(test)]
mod tests {
    use kedge_proto::v1::{DeploymentStatus, EngineStatus};

    use super::*;

    #[test]
    fn the_sentence_says_what_a_person_would_ask_first() {
        let mut host = HostStatus::default();
        assert!(sentence(&host).contains("does not answer"));
        host.engine =
            Some(EngineStatus { reachable: true, version: "20.10".into(), ..EngineStatus::default() });
        assert_eq!(sentence(&host), "engine 20.10; no deployments");
        let deployment = |name: &str, health: Health| DeploymentStatus {
            name: name.into(),
            health: health.into(),
            ..DeploymentStatus::default()
        };
        host.deployments.push(deployment("shop", Health::Healthy));
        assert_eq!(sentence(&host), "engine 20.10; 1 deployment, healthy");
        host.deployments.push(deployment("wiki", Health::Unhealthy));
        assert_eq!(sentence(&host), "engine 20.10; 2 deployments, not healthy: wiki");
    }
}
