//! The status of the host as everyone shows it, put together from what each task knows of its part.

use std::sync::Arc;

use kedge_proto::v1::{DeploymentStatus, EngineStatus, HostStatus, TetherStatus};
use tokio::sync::watch;

/// Where tasks post what they know. Cheap to clone; readers subscribe.
#[derive(Clone)]
pub struct Board {
    status: Arc<watch::Sender<Arc<HostStatus>>>,
}

impl Board {
    /// A board that starts with what is known of the host itself.
    pub fn new(status: HostStatus) -> Self {
        Self { status: Arc::new(watch::Sender::new(Arc::new(status))) }
    }

    /// The status now and after every change.
    pub fn subscribe(&self) -> watch::Receiver<Arc<HostStatus>> {
        self.status.subscribe()
    }

    /// Posts a deployment's status in place of its last one.
    pub fn deployment(&self, status: DeploymentStatus) {
        self.change(|host| match host.deployments.iter_mut().find(|d| d.name == status.name) {
            Some(old) => *old = status,
            None => {
                host.deployments.push(status);
                host.deployments.sort_by(|a, b| a.name.cmp(&b.name));
            }
        });
    }

    /// Takes a deployment off.
    pub fn deployment_gone(&self, name: &str) {
        self.change(|host| host.deployments.retain(|d| d.name != name));
    }

    /// Posts the engine's status.
    pub fn engine(&self, status: EngineStatus) {
        self.change(|host| host.engine = Some(status));
    }

    /// Posts the tether's status.
    pub fn tether(&self, status: TetherStatus) {
        self.change(|host| host.tether = Some(status));
    }

    /// Posts anything else.
    pub fn host(&self, change: impl FnOnce(&mut HostStatus)) {
        self.change(change);
    }

    fn change(&self, change: impl FnOnce(&mut HostStatus)) {
        self.status.send_if_modified(|current| {
            let mut next = HostStatus::clone(current);
            change(&mut next);
            let changed = next != **current;
            if changed {
                *current = Arc::new(next);
            }
            changed
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn posting_the_same_again_wakes_nobody() {
        let board = Board::new(HostStatus::default());
        let mut seen = board.subscribe();
        let status = DeploymentStatus { name: "a".into(), ..Default::default() };
        board.deployment(status.clone());
        assert!(seen.has_changed().unwrap());
        seen.mark_unchanged();
        board.deployment(status);
        assert!(!seen.has_changed().unwrap());
        board.deployment_gone("a");
        assert!(seen.borrow_and_update().deployments.is_empty());
    }
}
