//! The tether: the one outbound line of this host, from enrolment to the last acknowledgement.
//!
//! [`run`] is one task. It waits until there is an enrolment, connects (`dial`: direct or through a proxy, mutual TLS by
//! `trust`), lives one connection (`session`) and, when that ends, waits (`backoff`) and begins again. What goes
//! out is the host's outbox, in order, a window at a time (`window`); what comes in are offers, handed to the
//! host, and blobs, fetched by deployments through the `courier` while the line is up. A line that is lost disturbs nothing here.
//!
//! | from | what | to |
//! |---|---|---|
//! | host | enrolment (watch), outbox (watch and read), subscriptions | hub |
//! | hub | offers, acknowledgements, certificates | host |
//! | this | how the line is, the courier | host |
//!
//! An idle line carries HTTP/2 pings alone: under 1 KiB a minute each way.

mod answer;
mod backoff;
mod courier;
pub mod credential;
mod dial;
mod enroll;
mod look;
mod proxy;
mod session;
mod support;
mod token;
mod trust;
mod window;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use kedge_proto::tether::v1::Subscription;
use kedge_proto::v1::TetherStatus;
use tokio::sync::watch;
use tonic::transport::Channel;

pub use backoff::Backoff;
pub use enroll::enroll;
pub use look::{NextHop, Seen, look, next_hop};

use crate::codes;
use crate::config::Config;
use crate::host::{Courier, Enrolment, Host, Offers, OutboxEntry};
use crate::identity::HostKey;
use crate::problem::Problem;
use crate::support::Support;
use dial::Address;
use session::Ended;

/// First ceiling of the wait before connecting again.
const BACKOFF_BASE: Duration = Duration::from_secs(1);
/// Last ceiling.
const BACKOFF_CAP: Duration = Duration::from_secs(300);
/// A connection that held this long was a good one: the next failure is the first again.
const STABLE: Duration = Duration::from_secs(60);
/// The longest that a hub may send a host away for.
const MAX_AWAY: Duration = Duration::from_secs(3600);

/// What the line is made fast to: the host, and in tests something smaller. Each method is [`Host`]'s of the same name.
pub trait Anchor: Clone + Send + Sync + 'static {
    /// See [`Host::enrolment`].
    fn enrolment(&self) -> watch::Receiver<Option<Arc<Enrolment>>>;
    /// See [`Host::enrolled`].
    fn enrolled(
        &self,
        enrolment: Enrolment,
        roots: Vec<Bytes>,
        root_sha256: &str,
    ) -> impl Future<Output = Result<(), Problem>> + Send;
    /// See [`Host::renewed`].
    fn renewed(&self, enrolment: Enrolment) -> impl Future<Output = Result<(), Problem>> + Send;
    /// See [`Host::subscriptions`].
    fn subscriptions(&self) -> Vec<Subscription>;
    /// See [`Host::offered`].
    fn offered(&self, offers: Offers) -> impl Future<Output = ()> + Send;
    /// See [`Host::set_courier`].
    fn set_courier(&self, courier: Option<Arc<dyn Courier>>);
    /// See [`Host::set_tether_status`].
    fn set_tether_status(&self, status: TetherStatus);
    /// See [`Host::outbox_after`].
    fn outbox_after(
        &self,
        after: u64,
        most: usize,
    ) -> impl Future<Output = Result<Vec<OutboxEntry>, Problem>> + Send;
    /// See [`Host::outbox_changed`].
    fn outbox_changed(&self) -> watch::Receiver<u64>;
    /// See [`Host::outbox_session`].
    fn outbox_session(&self) -> (String, u64);
    /// See [`Host::outbox_acked`].
    fn outbox_acked(&self, up_to: u64) -> impl Future<Output = Result<(), Problem>> + Send;
    /// See [`Host::report_everything`].
    fn report_everything(&self) -> impl Future<Output = ()> + Send;
    /// See [`Host::support`]; nothing where there are no support sessions.
    fn support(&self) -> Option<Support> {
        None
    }
}

impl Anchor for Host {
    fn enrolment(&self) -> watch::Receiver<Option<Arc<Enrolment>>> {
        Host::enrolment(self)
    }

    async fn enrolled(
        &self,
        enrolment: Enrolment,
        roots: Vec<Bytes>,
        root_sha256: &str,
    ) -> Result<(), Problem> {
        Host::enrolled(self, enrolment, roots, root_sha256).await
    }

    async fn renewed(&self, enrolment: Enrolment) -> Result<(), Problem> {
        Host::renewed(self, enrolment).await
    }

    fn subscriptions(&self) -> Vec<Subscription> {
        Host::subscriptions(self)
    }

    async fn offered(&self, offers: Offers) {
        Host::offered(self, offers).await;
    }

    fn set_courier(&self, courier: Option<Arc<dyn Courier>>) {
        Host::set_courier(self, courier);
    }

    fn set_tether_status(&self, status: TetherStatus) {
        Host::set_tether_status(self, status);
    }

    async fn outbox_after(&self, after: u64, most: usize) -> Result<Vec<OutboxEntry>, Problem> {
        Host::outbox_after(self, after, most).await
    }

    fn outbox_changed(&self) -> watch::Receiver<u64> {
        Host::outbox_changed(self)
    }

    fn outbox_session(&self) -> (String, u64) {
        Host::outbox_session(self)
    }

    async fn outbox_acked(&self, up_to: u64) -> Result<(), Problem> {
        Host::outbox_acked(self, up_to).await
    }

    async fn report_everything(&self) {
        Host::report_everything(self).await;
    }

    fn support(&self) -> Option<Support> {
        Some(Host::support(self).clone())
    }
}

/// Keeps the line until `shutdown`.
pub async fn run(host: impl Anchor, config: Arc<Config>, shutdown: impl Future<Output = ()> + Send) {
    run_with(host, config, shutdown, rand::random::<f64>).await;
}

/// The same with the dice passed in: they give numbers in `0..1`.
pub async fn run_with(
    host: impl Anchor,
    config: Arc<Config>,
    shutdown: impl Future<Output = ()> + Send,
    dice: impl FnMut() -> f64 + Send,
) {
    let mut line =
        Line { host, config, dice, backoff: Backoff::new(BACKOFF_BASE, BACKOFF_CAP), down: Timestamp::now() };
    // Cancel safe: whatever the line was doing is begun again at the next start; acknowledgements and
    // certificates are stored by the host before they count.
    tokio::select! {
        () = line.keep() => {}
        () = shutdown => tracing::debug!("the tether is let go: the agent ends"),
    }
    line.host.set_courier(None);
}

struct Line<A, D> {
    host: A,
    config: Arc<Config>,
    dice: D,
    backoff: Backoff,
    /// Since when there is no line.
    down: Timestamp,
}

impl<A: Anchor, D: FnMut() -> f64 + Send> Line<A, D> {
    /// Ends only when the host has gone.
    async fn keep(&mut self) {
        let mut enrolments = self.host.enrolment();
        loop {
            let Some(enrolment) = enrolments.borrow_and_update().clone() else {
                self.host.set_tether_status(TetherStatus::default());
                if enrolments.changed().await.is_err() {
                    return;
                }
                continue;
            };
            let ended = self.once(&enrolment).await;
            let (wait, problem) = match ended {
                Ended::HostGone => return,
                Ended::Reenrolled => {
                    tracing::info!("connecting anew: the enrolment changed");
                    continue;
                }
                Ended::SentAway { reason, wait } => {
                    let wait = away(wait, (self.dice)());
                    let seconds = wait.as_secs_f64();
                    tracing::info!("the hub says goodbye ({reason}); connecting again in {seconds:.0} s");
                    (wait, format!("the hub said goodbye: {reason}"))
                }
                Ended::Lost(problem) => {
                    let wait = self.backoff.next((self.dice)());
                    let (code, seconds) = (problem.code.id, wait.as_secs_f64());
                    tracing::warn!(code, "{}; trying again in {seconds:.1} s", problem.message);
                    (wait, problem.to_string())
                }
            };
            self.host.set_tether_status(self.status(&enrolment, problem));
            // Cancel safe: both arms only wait.
            tokio::select! {
                () = tokio::time::sleep(wait) => tracing::debug!("connecting: the wait is over"),
                gone = enrolments.changed() => {
                    if gone.is_err() {
                        return;
                    }
                    tracing::debug!("connecting: the enrolment changed");
                }
            }
        }
    }

    /// One connection, from dialling to its end.
    async fn once(&mut self, enrolment: &Arc<Enrolment>) -> Ended {
        let (channel, key) = match self.connect(enrolment).await {
            Ok(connected) => connected,
            Err(problem) => return Ended::Lost(problem),
        };
        let session = session::Session {
            host: self.host.clone(),
            enrolment: enrolment.clone(),
            channel,
            key,
            spread: (self.dice)(),
        };
        let (ended, welcomed) = session.live().await;
        self.host.set_courier(None);
        if let Some(since) = welcomed {
            self.down = Timestamp::now();
            if since.elapsed() >= STABLE {
                self.backoff.reset();
            }
        }
        ended
    }

    async fn connect(&self, enrolment: &Enrolment) -> Result<(Channel, Arc<HostKey>), Problem> {
        let hub = Address::parse_hub(&enrolment.hub)?;
        let key = self.key().await?;
        let environment = proxy::Environment::of_process();
        let proxy = proxy::choose(self.config.proxy.as_deref(), &environment, &hub)?;
        let channel = dial::dial(&hub, proxy.as_ref(), trust::mutual(enrolment, &key)?).await?;
        Ok((channel, key))
    }

    /// Of a line that is down. Reports waiting and offers are the host's to add.
    fn status(&self, enrolment: &Enrolment, problem: String) -> TetherStatus {
        TetherStatus {
            enrolled: true,
            connected: false,
            hub: enrolment.hub.clone(),
            since: self.down.to_string(),
            problem,
            ..TetherStatus::default()
        }
    }

    async fn key(&self) -> Result<Arc<HostKey>, Problem> {
        let state_dir = self.config.state_dir.clone();
        let loaded = tokio::task::spawn_blocking(move || HostKey::load(&state_dir)).await;
        let key = loaded.map_err(|e| Problem::from_error(&codes::INTERNAL, &e))??;
        key.map(Arc::new).ok_or_else(|| {
            Problem::new(
                &codes::NOT_ENROLLED,
                "the key of this host is gone from its state folder; enrol again",
            )
        })
    }
}

/// As long as the hub said and up to half as long again, so that those sent away together do not return together.
fn away(asked: Duration, dice: f64) -> Duration {
    let asked = asked.clamp(BACKOFF_BASE, MAX_AWAY);
    asked + asked.mul_f64(dice.clamp(0.0, 1.0) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_returns_before_the_hub_said_nor_stays_away_for_ever() {
        for (asked, dice, expected) in
            [(10.0, 0.0, 10.0), (10.0, 1.0, 15.0), (0.0, 0.0, 1.0), (1e9, 1.0, 5400.0)]
        {
            let wait = away(Duration::from_secs_f64(asked), dice);
            assert_eq!(wait, Duration::from_secs_f64(expected), "{asked} {dice}");
        }
    }
}
