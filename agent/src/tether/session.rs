//! The life of one connection: hello, welcome, then reports out and offers in until it ends.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kedge_proto::PROTOCOL;
use kedge_proto::tether::v1::tether_client::TetherClient;
use kedge_proto::tether::v1::{
    AgentFrame, Goodbye, Hello, HubFrame, RenewRequest, Report, Welcome, agent_frame, hub_frame,
};
use kedge_proto::v1::TetherStatus;
use prost::Message;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

use super::answer::said;
use super::window::{MOST, Window};
use super::{Anchor, courier, support};
use crate::codes;
use crate::host::{Enrolment, Offers, OutboxEntry};
use crate::identity::{HostKey, renew_at, validity};
use crate::problem::Problem;

/// What this agent can, beyond what every version can.
const CAPABILITIES: [&str; 3] = ["blobs", "renew", "support"];
/// Largest frame from the hub, bytes: offers of very many streams.
const MAX_FRAME: usize = 4 * 1024 * 1024;
/// Largest report that is sent, bytes; hubs take frames of 1 MiB.
const MAX_REPORT: usize = 1_000_000;
/// How long the hub may take to say welcome, or to renew.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long to wait after a renewal that failed.
const RENEW_AGAIN: Duration = Duration::from_secs(3600);

/// Why a connection ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// It broke, or never came about.
    Lost(Problem),
    /// The hub asked to be left alone for a while.
    SentAway {
        /// In the hub's words.
        reason: String,
        /// At least this long.
        wait: Duration,
    },
    /// This host now belongs to another fleet, or was enrolled anew.
    Reenrolled,
    /// The agent ends.
    HostGone,
}

impl From<Problem> for Ended {
    fn from(problem: Problem) -> Self {
        Self::Lost(problem)
    }
}

/// What one connection needs.
pub(super) struct Session<A> {
    pub host: A,
    pub enrolment: Arc<Enrolment>,
    pub channel: Channel,
    pub key: Arc<HostKey>,
    /// A throw of the dice for the moment of renewal.
    pub spread: f64,
}

impl<A: Anchor> Session<A> {
    /// Lives until the connection ends; says why, and since when the hub had said welcome, if it had.
    pub(super) async fn live(mut self) -> (Ended, Option<Instant>) {
        let mut enrolments = self.host.enrolment();
        enrolments.mark_unchanged();
        let (session, last_acked) = self.host.outbox_session();
        let greeted = async {
            let (frames, inbound) = self.open(session, last_acked).await?;
            let (welcome, inbound) = welcome(inbound).await?;
            Ok::<_, Problem>((frames, inbound, welcome))
        };
        // Cancel safe: nothing is held by either end before the welcome.
        let (frames, inbound, welcome) = tokio::select! {
            greeted = greeted => match greeted {
                Ok(greeted) => greeted,
                Err(problem) => return (problem.into(), None),
            },
            ended = changed_membership(&mut enrolments, &self.enrolment) => return (ended, None),
        };
        let since = Instant::now();
        let ended = match self.talk(frames, inbound, &welcome, last_acked, &mut enrolments).await {
            Ok(ended) => ended,
            Err(problem) => Ended::Lost(problem),
        };
        (ended, Some(since))
    }

    async fn open(
        &self,
        session: String,
        last_acked: u64,
    ) -> Result<(mpsc::Sender<AgentFrame>, Streaming<HubFrame>), Problem> {
        // As many as can be under way, and the hello: sending never waits.
        let (frames, receiver) = mpsc::channel(MOST + 1);
        let hello = Hello {
            protocol: PROTOCOL,
            capabilities: CAPABILITIES.map(str::to_owned).into(),
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            session,
            last_acked,
            subscriptions: self.host.subscriptions(),
        };
        send(&frames, agent_frame::Body::Hello(hello)).await?;
        let mut client = TetherClient::new(self.channel.clone()).max_decoding_message_size(MAX_FRAME);
        let answer = tokio::time::timeout(PATIENCE, client.connect(ReceiverStream::new(receiver))).await;
        let inbound = answer.map_err(|_| silent())?.map_err(|status| lost(&status))?.into_inner();
        Ok((frames, inbound))
    }

    async fn talk(
        &mut self,
        frames: mpsc::Sender<AgentFrame>,
        mut inbound: Streaming<HubFrame>,
        welcome: &Welcome,
        last_acked: u64,
        enrolments: &mut watch::Receiver<Option<Arc<Enrolment>>>,
    ) -> Result<Ended, Problem> {
        let mut added = self.host.outbox_changed();
        let held = held_by_hub(welcome.last_seen, last_acked, *added.borrow());
        if held > last_acked {
            self.host.outbox_acked(held).await?;
        }
        let mut window = Window::new(held);
        self.host.set_courier(Some(Arc::new(courier::OnChannel::new(self.channel.clone()))));
        self.host.set_tether_status(up(&self.enrolment));
        tracing::info!("connected to {}", self.enrolment.hub);
        if welcome.want_full {
            tracing::debug!("the hub holds nothing of this host: reporting everything");
            self.host.report_everything().await;
        }
        let mut renewal = self.renewal();
        let mut desk = support::Desk::new(self.host.support());
        for news in desk.standing().await {
            send(&frames, news).await?;
        }
        loop {
            self.pump(&mut window, &mut added, &frames).await?;
            // Cancel safe, all of them: a stream keeps the frame that it has not given yet, a watch keeps its
            // mark, sleeping is begun again for the same moment.
            tokio::select! {
                frame = inbound.message() => {
                    let frame = frame.map_err(|status| lost(&status))?;
                    let Some(HubFrame { body }) = frame else {
                        return Err(Problem::new(&codes::TETHER_LOST, "the hub ended the connection"));
                    };
                    let body = body.and_then(|body| desk.hear(body, &self.channel));
                    if let Some(ended) = self.hear(body, &mut window).await? {
                        return Ok(ended);
                    }
                }
                changed = added.changed(), if window.room() > 0 => {
                    if changed.is_err() {
                        return Ok(Ended::HostGone);
                    }
                    tracing::trace!("woken: there is a new report");
                }
                news = desk.next() => send(&frames, news).await?,
                () = tokio::time::sleep_until(renewal) => {
                    tracing::debug!("woken: the certificate wants to be renewed");
                    renewal = self.renew().await;
                }
                ended = changed_membership(enrolments, &self.enrolment) => return Ok(ended),
            }
        }
    }

    /// Sends what the outbox holds, as far as the window goes.
    async fn pump(
        &self,
        window: &mut Window,
        added: &mut watch::Receiver<u64>,
        frames: &mpsc::Sender<AgentFrame>,
    ) -> Result<(), Problem> {
        while window.room() > 0 {
            // Marked as seen before reading, so that what is added meanwhile wakes us again.
            added.borrow_and_update();
            let entries = self.host.outbox_after(window.sent(), window.room()).await?;
            if entries.is_empty() {
                break;
            }
            for entry in entries.into_iter().take(window.room()) {
                window.send(entry.number).map_err(|e| Problem::from_error(&codes::INTERNAL, &e))?;
                let number = entry.number;
                let report = match readable(entry) {
                    Some(report) => report,
                    // Its number must go out, or nothing after it would ever be acknowledged.
                    None => {
                        self.host.report_everything().await;
                        Report { number, ..Report::default() }
                    }
                };
                send(frames, agent_frame::Body::Report(report)).await?;
            }
        }
        Ok(())
    }

    async fn hear(
        &self,
        body: Option<hub_frame::Body>,
        window: &mut Window,
    ) -> Result<Option<Ended>, Problem> {
        match body {
            Some(hub_frame::Body::Ack(ack)) => {
                let news = window.ack(ack.up_to).map_err(|e| Problem::from_error(&codes::PROTOCOL, &e))?;
                if let Some(up_to) = news {
                    self.host.outbox_acked(up_to).await?;
                }
            }
            Some(hub_frame::Body::Offers(offers)) => {
                tracing::debug!(releases = offers.releases.len(), "the hub offers releases");
                let offers = Offers { fresh: offers.fresh.into(), releases: offers.releases };
                self.host.offered(offers).await;
            }
            Some(hub_frame::Body::Goodbye(Goodbye { reason, retry_after_seconds })) => {
                let reason = reason.chars().filter(|c| !c.is_control()).take(200).collect();
                let wait = Duration::from_secs(retry_after_seconds.into());
                return Ok(Some(Ended::SentAway { reason, wait }));
            }
            // A second welcome says nothing new; what a newer hub adds is not ours to understand.
            _ => {}
        }
        Ok(None)
    }

    /// When to renew, on the monotonic clock.
    fn renewal(&self) -> Instant {
        let leaf = self.enrolment.certificate_chain.first();
        let wait = leaf.and_then(|leaf| validity(leaf, &self.key).ok()).map_or(Duration::ZERO, |validity| {
            let wait = renew_at(validity, self.spread).duration_since(Timestamp::now());
            Duration::try_from(wait).unwrap_or(Duration::ZERO)
        });
        Instant::now() + wait
    }

    /// Asks for the next certificate. Gives the moment to think of it again.
    async fn renew(&mut self) -> Instant {
        match self.renewed().await {
            Ok(enrolment) => {
                self.enrolment = enrolment;
                tracing::info!("the host's certificate was renewed; the next connection uses it");
                self.renewal().max(Instant::now() + RENEW_AGAIN)
            }
            Err(problem) => {
                tracing::warn!(
                    code = problem.code.id,
                    "the host's certificate was not renewed: {}",
                    problem.message
                );
                Instant::now() + RENEW_AGAIN.mul_f64(0.5 + self.spread / 2.0)
            }
        }
    }

    async fn renewed(&self) -> Result<Arc<Enrolment>, Problem> {
        let request = RenewRequest { csr_der: self.key.certificate_request(&self.enrolment.host_id)? };
        let mut client = TetherClient::new(self.channel.clone()).max_decoding_message_size(MAX_FRAME);
        let answer = tokio::time::timeout(PATIENCE, client.renew(request)).await;
        let answer = answer.map_err(|_| silent())?.map_err(|status| lost(&status))?.into_inner();
        let leaf = answer.certificate_chain_der.first().map_or(&[][..], Vec::as_slice);
        validity(leaf, &self.key)?;
        let hub_ca = match answer.hub_ca_der {
            ca if ca.is_empty() => self.enrolment.hub_ca.clone(),
            ca => ca,
        };
        let enrolment = Enrolment {
            certificate_chain: answer.certificate_chain_der,
            hub_ca,
            ..(*self.enrolment).clone()
        };
        // What cannot be connected with must not replace what can.
        super::trust::mutual(&enrolment, &self.key)?;
        self.host.renewed(enrolment.clone()).await?;
        Ok(Arc::new(enrolment))
    }
}

/// The report of an entry; `None` for one that cannot be sent.
fn readable(entry: OutboxEntry) -> Option<Report> {
    let OutboxEntry { number, report } = entry;
    if report.len() > MAX_REPORT {
        tracing::error!(number, bytes = report.len(), "a report in the outbox is too large for any hub");
        return None;
    }
    match Report::decode(report) {
        Ok(report) => Some(Report { number, ..report }),
        Err(error) => {
            tracing::error!(number, %error, "a report in the outbox is damaged");
            None
        }
    }
}

async fn send(frames: &mpsc::Sender<AgentFrame>, body: agent_frame::Body) -> Result<(), Problem> {
    let sent = frames.send(AgentFrame { body: Some(body) }).await;
    sent.map_err(|_| Problem::new(&codes::TETHER_LOST, "the connection ended"))
}

/// The hub's first frame.
async fn welcome(mut inbound: Streaming<HubFrame>) -> Result<(Welcome, Streaming<HubFrame>), Problem> {
    let first = tokio::time::timeout(PATIENCE, inbound.message()).await;
    let first = first.map_err(|_| silent())?.map_err(|status| lost(&status))?;
    match first.and_then(|frame| frame.body) {
        Some(hub_frame::Body::Welcome(welcome)) if (1..=PROTOCOL).contains(&welcome.protocol) => {
            Ok((welcome, inbound))
        }
        Some(hub_frame::Body::Welcome(welcome)) => {
            let message =
                format!("the hub wants protocol {}, this agent speaks {PROTOCOL}", welcome.protocol);
            Err(Problem::new(&codes::PROTOCOL, message))
        }
        Some(hub_frame::Body::Goodbye(goodbye)) => {
            Err(Problem::new(&codes::TETHER_LOST, format!("the hub said goodbye: {}", goodbye.reason)))
        }
        _ => Err(Problem::new(&codes::PROTOCOL, "the hub's first word was not a welcome")),
    }
}

/// What the hub holds of this outbox. Never more than there is: a number that was not given out yet must not be
/// taken for one that arrived.
fn held_by_hub(last_seen: u64, last_acked: u64, highest: u64) -> u64 {
    let highest = highest.max(last_acked);
    if last_seen > highest {
        tracing::warn!(last_seen, highest, "the hub claims reports that were never made");
    }
    last_seen.clamp(last_acked, highest)
}

/// Ends when this host is no longer what it was connected as. A renewed certificate is the same membership.
async fn changed_membership(
    enrolments: &mut watch::Receiver<Option<Arc<Enrolment>>>,
    ours: &Arc<Enrolment>,
) -> Ended {
    let differs = |now: &Option<Arc<Enrolment>>| {
        now.as_ref().is_none_or(|now| now.host_id != ours.host_id || now.hub != ours.hub)
    };
    match enrolments.wait_for(differs).await {
        Ok(_) => Ended::Reenrolled,
        Err(_) => Ended::HostGone,
    }
}

fn lost(status: &Status) -> Problem {
    match status.code() {
        Code::PermissionDenied | Code::Unauthenticated => {
            let message = format!("the hub does not let this host connect: {}", said(status));
            Problem::new(&codes::ENROLMENT_REFUSED, message)
        }
        Code::OutOfRange | Code::InvalidArgument | Code::Unimplemented | Code::FailedPrecondition => {
            Problem::new(&codes::PROTOCOL, said(status))
        }
        _ => Problem::new(&codes::TETHER_LOST, said(status)),
    }
}

fn silent() -> Problem {
    Problem::new(&codes::TETHER_LOST, format!("the hub said nothing for {} s", PATIENCE.as_secs()))
}

fn up(enrolment: &Enrolment) -> TetherStatus {
    TetherStatus {
        enrolled: true,
        connected: true,
        hub: enrolment.hub.clone(),
        since: Timestamp::now().to_string(),
        ..TetherStatus::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hub_cannot_claim_more_or_less_than_there_is() {
        for (last_seen, last_acked, highest, expected) in
            [(0, 0, 0, 0), (5, 3, 9, 5), (2, 3, 9, 3), (99, 3, 9, 9), (99, 3, 0, 3)]
        {
            assert_eq!(held_by_hub(last_seen, last_acked, highest), expected);
        }
    }

    #[test]
    fn a_report_is_sent_under_its_number_in_the_outbox_or_not_at_all() {
        let entry = |report: Vec<u8>| OutboxEntry { number: 7, report: report.into() };
        let good = Report { number: 6, full: true, ..Report::default() };
        assert_eq!(readable(entry(good.encode_to_vec())), Some(Report { number: 7, ..good }));
        for bad in [b"\xff\xff\xff".to_vec(), vec![0; MAX_REPORT + 1]] {
            assert_eq!(readable(entry(bad)), None);
        }
    }

    #[tokio::test]
    async fn a_renewed_certificate_is_the_same_membership() {
        let ours = Arc::new(Enrolment {
            hub: "https://h:1".into(),
            host_id: "h-1".into(),
            site: "s".into(),
            certificate_chain: vec![],
            hub_ca: vec![],
        });
        let (sender, mut receiver) = watch::channel(Some(ours.clone()));
        let renewed = Enrolment { certificate_chain: vec![vec![1]], ..(*ours).clone() };
        sender.send_replace(Some(Arc::new(renewed)));
        let soon = std::time::Duration::from_millis(1);
        assert!(tokio::time::timeout(soon, changed_membership(&mut receiver, &ours)).await.is_err());
        let other = Enrolment { host_id: "h-2".into(), ..(*ours).clone() };
        sender.send_replace(Some(Arc::new(other)));
        assert!(matches!(changed_membership(&mut receiver, &ours).await, Ended::Reenrolled));
        drop(sender);
    }
}
