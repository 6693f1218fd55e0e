//! The tether's services, for hosts with a certificate of this hub.
//!
//! A `Connect` stream is one value, polled by its connection: it reads the host's frames and produces ours in
//! turn, with no task and no queue of its own. At most [`IN_FLIGHT`] reports of a host wait for
//! the disk; until then no more are read, and HTTP/2's own window slows the host down.

use super::Shared;
use super::blobs;
use super::ca;
use super::fleet::{End as Ending, Seat};
use super::listener::Peer;
use super::recorder::Entry;
use super::reports;
use super::store::{Arrived, HostRecord};
use super::support::End;
use crate::codes;
use crate::error::{Failure, Result};
use futures_util::{Stream, StreamExt, stream};
use kedge_proto::PROTOCOL;
use kedge_proto::support::v1::{Piece, piece};
use kedge_proto::tether::v1::agent_frame::Body as FromAgent;
use kedge_proto::tether::v1::hub_frame::Body as FromHub;
use kedge_proto::tether::v1::tether_server::Tether;
use kedge_proto::tether::v1::{
    Ack, AgentFrame, BlobChunk, Documents, FetchBlobRequest, FetchDocumentsRequest, Goodbye, Hello, HubFrame,
    RenewRequest, RenewResponse, Report, Welcome,
};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use tracing::{debug, info, warn};

/// Largest frame from an agent, in bytes.
pub(super) const MAX_MESSAGE: usize = 1 << 20;
/// Reports of one host that may wait for the disk.
const IN_FLIGHT: u64 = 16;
/// Time for the first frame.
const HELLO_TIME: Duration = Duration::from_secs(10);
/// What this hub can do beyond protocol 1.
const CAPABILITIES: [&str; 1] = ["support"];
/// Longest session name and agent version, in bytes.
const MAX_NAME: usize = 128;

/// The service.
pub(super) struct Service {
    pub(super) shared: Arc<Shared>,
    pub(super) recorder: mpsc::Sender<Entry>,
}

type Frames = Pin<Box<dyn Stream<Item = Result<HubFrame, Status>> + Send>>;
type Pieces = Pin<Box<dyn Stream<Item = Result<Piece, Status>> + Send>>;
type Chunks = Pin<Box<dyn Stream<Item = Result<BlobChunk, Status>> + Send>>;

impl Service {
    /// The host behind a request: its certificate was verified by TLS, its enrolment is looked up.
    fn host<T>(&self, request: &Request<T>) -> Result<HostRecord> {
        let peer = request.extensions().get::<Peer>();
        let id = peer.and_then(|peer| peer.host.as_deref()).ok_or_else(|| {
            Failure::new(
                codes::NO_CERTIFICATE,
                "the tether needs the certificate that this hub gave at enrolment",
            )
        })?;
        self.shared.store.active_host(id)
    }
}

#[tonic::async_trait]
impl Tether for Service {
    type ConnectStream = Frames;
    type FetchBlobStream = Chunks;
    type SupportStream = Pieces;

    async fn connect(&self, request: Request<Streaming<AgentFrame>>) -> Result<Response<Frames>, Status> {
        let host = self.host(&request)?;
        let session = Session {
            shared: self.shared.clone(),
            recorder: self.recorder.clone(),
            offers: self.shared.releases.watch(),
            frames: request.into_inner(),
            host,
            stage: Stage::Opening,
        };
        Ok(Response::new(Box::pin(stream::unfold(session, Session::next))))
    }

    async fn fetch_documents(
        &self,
        request: Request<FetchDocumentsRequest>,
    ) -> Result<Response<Documents>, Status> {
        let host = self.host(&request)?;
        let release = self.shared.releases.find(&request.get_ref().release_digest, &host.site)?;
        let deltas = self.shared.releases.deltas(&release.0.digest);
        Ok(Response::new(blobs::documents(release, deltas).await?))
    }

    async fn fetch_blob(&self, request: Request<FetchBlobRequest>) -> Result<Response<Chunks>, Status> {
        let host = self.host(&request)?;
        let FetchBlobRequest { release_digest, digest, offset } = request.into_inner();
        let release = self.shared.releases.find(&release_digest, &host.site)?;
        let deltas = self.shared.releases.deltas(&release.0.digest);
        let (file, span) = blobs::find(&release, &deltas, &digest, offset)?;
        debug!(host = host.id, digest, offset, "Host {} fetches {digest} from byte {offset}.", host.id);
        let chunks = blobs::chunks(file, span, self.shared.reads.clone());
        Ok(Response::new(Box::pin(chunks.map(|chunk| chunk.map_err(Status::from)))))
    }

    async fn support(&self, request: Request<Streaming<Piece>>) -> Result<Response<Pieces>, Status> {
        let host = self.host(&request)?;
        let mut pieces = request.into_inner();
        let first = tokio::time::timeout(HELLO_TIME, pieces.message()).await;
        let silent = || Failure::new(codes::SILENT, "nobody said which meeting this is");
        let Some(Piece { body: Some(piece::Body::Meeting(meeting)) }) = first.map_err(|_| silent())?? else {
            return Err(silent().into());
        };
        let end = self.shared.support.come(&host.id, &meeting.grant_id, &meeting.meeting);
        let end = end.ok_or_else(|| Failure::new(codes::PROTOCOL, "nobody waits at this meeting"))?;
        info!(host = host.id, grant = meeting.grant_id, "A support session with host {} begins.", host.id);
        Ok(Response::new(relay(pieces, end)))
    }

    async fn renew(&self, request: Request<RenewRequest>) -> Result<Response<RenewResponse>, Status> {
        let host = self.host(&request)?;
        let csr = ca::read_request(&request.get_ref().csr_der)?;
        let certificate = self.shared.authority.host_certificate(&csr, &host.id, self.shared.now())?;
        info!(host = host.id, "Host {} renewed its certificate.", host.id);
        Ok(Response::new(RenewResponse {
            certificate_chain_der: vec![certificate.to_vec()],
            hub_ca_der: self.shared.authority.certificate().to_vec(),
        }))
    }
}

/// Passes sealed pieces on, both ways, as fast as both take them. Either end's going is the end of both.
pub(super) fn relay(mut pieces: Streaming<Piece>, end: End) -> Pieces {
    let End { to, from } = end;
    tokio::spawn(async move {
        loop {
            let piece = tokio::select! {
                piece = pieces.message() => piece,
                () = to.closed() => return,
            };
            let Ok(Some(Piece { body: Some(piece::Body::Sealed(sealed)) })) = piece else { return };
            if to.send(sealed).await.is_err() {
                return;
            }
        }
    });
    let sealed = |sealed| Ok(Piece { body: Some(piece::Body::Sealed(sealed)) });
    Box::pin(ReceiverStream::new(from).map(sealed))
}

/// One `Connect` stream.
struct Session {
    shared: Arc<Shared>,
    recorder: mpsc::Sender<Entry>,
    offers: watch::Receiver<u64>,
    frames: Streaming<AgentFrame>,
    host: HostRecord,
    stage: Stage,
}

enum Stage {
    /// The hello is awaited.
    Opening,
    /// Welcomed.
    Open(Open),
    /// The last frame was sent.
    Closed,
}

struct Open {
    seat: Seat,
    /// The agent's outbox.
    outbox: String,
    /// Highest report number passed to the recorder; no more than [`IN_FLIGHT`] beyond what is acknowledged.
    waiting: u64,
    taken: u64,
}

/// Why a session woke. Lives for one turn of the loop only.
#[expect(clippy::large_enum_variant, reason = "never stored")]
enum Wake {
    End(Ending),
    Acked(u64),
    Offers,
    Support(Box<FromHub>),
    Frame(Option<Result<AgentFrame, Status>>),
}

impl Session {
    /// The next frame for the host, and the session after it.
    async fn next(mut self) -> Option<(Result<HubFrame, Status>, Session)> {
        let answer = match std::mem::replace(&mut self.stage, Stage::Closed) {
            Stage::Opening => self.open().await,
            Stage::Open(open) => self.follow(open).await,
            Stage::Closed => return None,
        };
        match answer {
            Ok(Some(body)) => Some((Ok(HubFrame { body: Some(body) }), self)),
            Ok(None) => None,
            Err(failure) => {
                warn!(
                    host = self.host.id,
                    code = failure.code.id,
                    "The stream of host {} ends: {}.",
                    self.host.id,
                    failure.chain()
                );
                Some((Err(failure.into()), self))
            }
        }
    }

    async fn open(&mut self) -> Result<Option<FromHub>> {
        let silent =
            |_| Failure::new(codes::SILENT, format!("no hello came within {} s", HELLO_TIME.as_secs()));
        let frame = match tokio::time::timeout(HELLO_TIME, self.frames.next()).await.map_err(silent)? {
            Some(Ok(frame)) => frame,
            _ => return Ok(None),
        };
        let Some(FromAgent::Hello(hello)) = frame.body else {
            return Err(Failure::new(codes::PROTOCOL, "the first frame is not a hello"));
        };
        check_hello(&hello)?;
        let now = self.shared.now();
        let followed = self.shared.store.active_host(&self.host.id)?.followed();
        let (last_seen, want_full) = reports::welcome(&hello, followed.as_ref());
        let seat = self.shared.fleet.sit(&self.host.id, last_seen, now);
        // A revocation before this line is seen here, a later one ends the seat.
        self.shared.store.active_host(&self.host.id)?;
        info!(
            host = self.host.id,
            site = self.host.site,
            agent = hello.agent_version,
            "Host {} of site {} connected.",
            self.host.id,
            self.host.site
        );
        // Offers follow at once, whether or not anything was published since the hub started.
        self.offers.mark_changed();
        self.stage = Stage::Open(Open { seat, outbox: hello.session, waiting: 0, taken: last_seen });
        Ok(Some(FromHub::Welcome(Welcome {
            protocol: PROTOCOL,
            capabilities: CAPABILITIES.map(str::to_owned).to_vec(),
            last_seen,
            time: now.to_string(),
            want_full,
        })))
    }

    async fn follow(&mut self, mut open: Open) -> Result<Option<FromHub>> {
        loop {
            let wake = {
                let Open { seat, waiting, .. } = &mut open;
                // All arms are cancel safe: watch channels and the frame stream keep what they have.
                tokio::select! {
                    biased;
                    end = seat.end.wait_for(Option::is_some) => Wake::End(end.ok().and_then(|end| *end).unwrap_or(Ending::Stopping)),
                    Ok(()) = seat.acked.changed() => Wake::Acked(*seat.acked.borrow_and_update()),
                    Ok(()) = self.offers.changed() => Wake::Offers,
                    Some(body) = seat.support.recv() => Wake::Support(Box::new(body)),
                    frame = self.frames.next(), if *waiting < IN_FLIGHT => Wake::Frame(frame),
                }
            };
            let answer = match wake {
                Wake::End(end) => {
                    let (reason, retry_after_seconds) = end.goodbye();
                    info!(host = self.host.id, "Host {} is sent away: {reason}.", self.host.id);
                    return Ok(Some(FromHub::Goodbye(Goodbye {
                        reason: reason.to_owned(),
                        retry_after_seconds,
                    })));
                }
                Wake::Acked(up_to) => {
                    // Acknowledgements come in batches that end at a number; what is beyond still waits.
                    open.waiting = open.taken.saturating_sub(up_to).min(open.waiting);
                    FromHub::Ack(Ack { up_to })
                }
                Wake::Offers => FromHub::Offers(
                    self.shared.releases.offers(&self.host.site, self.shared.now())?.as_ref().clone(),
                ),
                Wake::Frame(Some(Ok(AgentFrame { body: Some(FromAgent::Report(report)) }))) => {
                    self.take(&mut open, report).await?;
                    continue;
                }
                Wake::Support(body) => *body,
                Wake::Frame(Some(Ok(AgentFrame { body: Some(FromAgent::SupportOffer(offer)) }))) => {
                    self.shared.support.offered(&self.host.id, &offer.ask, offer.offer.unwrap_or_default());
                    continue;
                }
                Wake::Frame(Some(Ok(AgentFrame { body: Some(FromAgent::SupportNews(news)) }))) => {
                    self.shared.support.heard(&self.host.id, news);
                    continue;
                }
                Wake::Frame(Some(Ok(AgentFrame { body: Some(FromAgent::Hello(_)) }))) => {
                    return Err(Failure::new(codes::PROTOCOL, "a second hello came"));
                }
                // A frame of a newer protocol: not for us.
                Wake::Frame(Some(Ok(AgentFrame { body: None }))) => continue,
                Wake::Frame(Some(Err(status))) => {
                    info!(
                        host = self.host.id,
                        "Host {} is disconnected: {}.",
                        self.host.id,
                        status.message()
                    );
                    return Ok(None);
                }
                Wake::Frame(None) => {
                    info!(host = self.host.id, "Host {} disconnected.", self.host.id);
                    return Ok(None);
                }
            };
            self.stage = Stage::Open(open);
            return Ok(Some(answer));
        }
    }

    async fn take(&self, open: &mut Open, mut report: Report) -> Result<()> {
        if report.number == 0 {
            return Err(Failure::new(codes::PROTOCOL, "a report has no number"));
        }
        if reports::clip(&mut report) {
            warn!(
                host = self.host.id,
                report = report.number,
                "A report of host {} is cut to size.",
                self.host.id
            );
        }
        open.taken = open.taken.max(report.number);
        open.waiting += 1;
        let arrived = Arrived {
            host: self.host.id.clone(),
            session: open.outbox.clone(),
            report,
            at: self.shared.now(),
        };
        let entry = Entry::Report(open.seat.number, Box::new(arrived));
        self.recorder
            .send(entry)
            .await
            .map_err(|_| Failure::new(codes::STORE, "reports are no longer stored"))
    }
}

impl Drop for Session {
    /// Leaves a last sign of life. If the recorder is busy or gone, the last report's time stands.
    fn drop(&mut self) {
        let seen = Entry::Seen(self.host.id.clone(), self.shared.now());
        let _ = self.recorder.try_send(seen);
    }
}

fn check_hello(hello: &Hello) -> Result<()> {
    if hello.protocol == 0 {
        return Err(Failure::new(codes::PROTOCOL, "the hello names no protocol"));
    }
    if hello.session.is_empty() || hello.session.len() > MAX_NAME || hello.agent_version.len() > MAX_NAME {
        return Err(Failure::new(
            codes::PROTOCOL,
            format!("session must be 1 to {MAX_NAME} bytes, agent_version at most as many"),
        ));
    }
    Ok(())
}
