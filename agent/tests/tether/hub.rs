//! A hub of the tests' own: the protocol's other end, with every failure at hand.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::Stream;
use kedge_proto::support::v1::Piece;
use kedge_proto::tether::v1::enrolment_server::{Enrolment, EnrolmentServer};
use kedge_proto::tether::v1::tether_server::{Tether, TetherServer};
use kedge_proto::tether::v1::*;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType, IsCa, Issuer, KeyPair,
};
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer};
use sha2::{Digest, Sha256};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status, Streaming};

type Frames = mpsc::Sender<Result<HubFrame, Status>>;

/// A certificate authority.
pub(crate) struct Authority {
    pub(crate) certificate: CertificateDer<'static>,
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "test hub");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let certificate = params.self_signed(&key).unwrap();
        let (pem, certificate) = (certificate.pem(), certificate.der().clone());
        Self { certificate, pem, issuer: Issuer::new(params, key) }
    }

    pub(crate) fn sha256(&self) -> String {
        hex::encode(Sha256::digest(&self.certificate))
    }

    fn identity(&self) -> Identity {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
        let leaf = params.signed_by(&key, &self.issuer).unwrap();
        Identity::from_pem(format!("{}{}", leaf.pem(), self.pem), key.serialize_pem())
    }

    fn sign(&self, csr: &[u8], begins_days_ago: i64) -> Result<Vec<u8>, Status> {
        let request =
            CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(csr.to_vec()))
                .map_err(|e| Status::invalid_argument(e.to_string()))?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "h-1");
        let day = time::Duration::days(1);
        let begin = time::OffsetDateTime::now_utc() - day * i32::try_from(begins_days_ago).unwrap();
        (params.not_before, params.not_after) = (begin, begin + day * 30);
        Ok(params.signed_by(&request.public_key, &self.issuer).unwrap().der().to_vec())
    }
}

/// What the hub saw and how it behaves.
pub(crate) struct State {
    pub(crate) authority: Authority,
    pub(crate) secret: String,
    /// Reports in the order they came, by outbox.
    pub(crate) reports: watch::Sender<Vec<(String, u64)>>,
    pub(crate) hellos: watch::Sender<Vec<Hello>>,
    /// By request, with the key's request: hosts made.
    pub(crate) enrolled: Mutex<BTreeMap<String, Vec<u8>>>,
    pub(crate) renewals: watch::Sender<u32>,
    /// Certificates begin this many days ago, of 30.
    pub(crate) certificate_age: Mutex<i64>,
    /// Acknowledge reports as they come.
    pub(crate) acking: watch::Sender<bool>,
    /// What `Connect` refuses hosts with.
    pub(crate) refusal: Mutex<Option<Status>>,
    pub(crate) want_full: Mutex<bool>,
    pub(crate) blobs: Mutex<HashMap<String, Bytes>>,
    /// A blob's stream breaks after so many bytes.
    pub(crate) break_blob_after: Mutex<Option<usize>>,
    connection: watch::Sender<Option<Frames>>,
}

/// The running hub.
pub(crate) struct Hub {
    pub(crate) state: Arc<State>,
    pub(crate) address: SocketAddr,
    server: tokio::task::JoinHandle<()>,
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Hub {
    pub(crate) async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            authority: Authority::new(),
            secret: "5ec2e7".repeat(4),
            reports: watch::Sender::default(),
            hellos: watch::Sender::default(),
            enrolled: Mutex::default(),
            renewals: watch::Sender::default(),
            certificate_age: Mutex::new(0),
            acking: watch::Sender::new(true),
            refusal: Mutex::default(),
            want_full: Mutex::default(),
            blobs: Mutex::default(),
            break_blob_after: Mutex::default(),
            connection: watch::Sender::default(),
        });
        let tls = ServerTlsConfig::new()
            .identity(state.authority.identity())
            .client_ca_root(Certificate::from_pem(&state.authority.pem))
            .client_auth_optional(true);
        let server = Server::builder()
            .tls_config(tls)
            .unwrap()
            .add_service(EnrolmentServer::new(Service(state.clone())))
            .add_service(TetherServer::new(Service(state.clone())))
            .serve_with_incoming(TcpListenerStream::new(listener));
        let server = tokio::spawn(async move {
            let _ = server.await;
        });
        Self { state, address, server }
    }

    pub(crate) fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    pub(crate) fn token(&self) -> String {
        format!("kt1.0a1b2c.{}.{}", self.state.secret, self.state.authority.sha256())
    }

    /// Sends a frame on the connection there is, or on the next.
    pub(crate) async fn send(&self, body: hub_frame::Body) {
        self.put(Ok(HubFrame { body: Some(body) })).await;
    }

    /// Breaks the connection there is.
    pub(crate) async fn cut(&self) {
        self.put(Err(Status::unavailable("cut by the test"))).await;
        self.state.connection.send_replace(None);
    }

    async fn put(&self, frame: Result<HubFrame, Status>) {
        let mut connection = self.state.connection.subscribe();
        let frames = connection.wait_for(Option::is_some).await.unwrap().clone().unwrap();
        frames.send(frame).await.unwrap();
    }

    /// Waits until this many reports have come.
    pub(crate) async fn reports(&self, count: usize) -> Vec<u64> {
        let mut reports = self.state.reports.subscribe();
        let reports = reports.wait_for(|reports| reports.len() >= count).await.unwrap();
        reports.iter().map(|(_, number)| *number).collect()
    }

    /// Waits for this many connections and gives the last one's hello.
    pub(crate) async fn hello(&self, count: usize) -> Hello {
        let mut hellos = self.state.hellos.subscribe();
        let hellos = hellos.wait_for(|hellos| hellos.len() >= count).await.unwrap();
        hellos[count - 1].clone()
    }
}

#[derive(Clone)]
struct Service(Arc<State>);

#[tonic::async_trait]
impl Enrolment for Service {
    async fn enroll(&self, request: Request<EnrollRequest>) -> Result<Response<EnrollResponse>, Status> {
        let request = request.into_inner();
        if !request.token.contains(&self.0.secret) {
            return Err(Status::permission_denied("no such token"));
        }
        let leaf = self.0.authority.sign(&request.csr_der, *self.0.certificate_age.lock().unwrap())?;
        self.0.enrolled.lock().unwrap().insert(request.request_id, request.csr_der);
        Ok(Response::new(EnrollResponse {
            host_id: "h-1".into(),
            site: "here".into(),
            certificate_chain_der: vec![leaf],
            hub_ca_der: self.0.authority.certificate.to_vec(),
            roots: vec![b"root one".to_vec(), b"root two".to_vec()],
        }))
    }
}

#[tonic::async_trait]
impl Tether for Service {
    type ConnectStream = ReceiverStream<Result<HubFrame, Status>>;
    type FetchBlobStream = Pin<Box<dyn Stream<Item = Result<BlobChunk, Status>> + Send>>;
    type SupportStream = ReceiverStream<Result<Piece, Status>>;

    async fn support(&self, _: Request<Streaming<Piece>>) -> Result<Response<Self::SupportStream>, Status> {
        Err(Status::unimplemented("no sessions here"))
    }

    async fn connect(
        &self,
        request: Request<Streaming<AgentFrame>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        let state = self.0.clone();
        if request.peer_certs().is_none_or(|certificates| certificates.is_empty()) {
            return Err(Status::unauthenticated("no certificate"));
        }
        if let Some(status) = state.refusal.lock().unwrap().clone() {
            return Err(status);
        }
        let mut inbound = request.into_inner();
        let Some(AgentFrame { body: Some(agent_frame::Body::Hello(hello)) }) = inbound.message().await?
        else {
            return Err(Status::invalid_argument("the first frame is a hello"));
        };
        let (frames, receiver) = mpsc::channel(64);
        let held = last_seen(&state, &hello.session);
        let welcome = Welcome {
            protocol: 1,
            last_seen: held,
            want_full: *state.want_full.lock().unwrap(),
            ..Welcome::default()
        };
        let welcome = HubFrame { body: Some(hub_frame::Body::Welcome(welcome)) };
        frames.send(Ok(welcome)).await.unwrap();
        state.connection.send_replace(Some(frames.clone()));
        let session = hello.session.clone();
        state.hellos.send_modify(|hellos| hellos.push(hello));
        tokio::spawn(async move {
            let mut acking = state.acking.subscribe();
            loop {
                tokio::select! {
                    frame = inbound.message() => match frame {
                        Ok(Some(AgentFrame { body: Some(agent_frame::Body::Report(report)) })) => {
                            state.reports.send_modify(|r| r.push((session.clone(), report.number)));
                        }
                        Ok(Some(_)) => {}
                        _ => return,
                    },
                    changed = acking.changed() => if changed.is_err() { return },
                }
                if *acking.borrow_and_update() {
                    let ack = Ack { up_to: last_seen(&state, &session) };
                    let _ = frames.send(Ok(HubFrame { body: Some(hub_frame::Body::Ack(ack)) })).await;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn fetch_documents(
        &self,
        request: Request<FetchDocumentsRequest>,
    ) -> Result<Response<Documents>, Status> {
        let release = request.into_inner().release_digest.into_bytes();
        Ok(Response::new(Documents { release, ..Documents::default() }))
    }

    async fn fetch_blob(
        &self,
        request: Request<FetchBlobRequest>,
    ) -> Result<Response<Self::FetchBlobStream>, Status> {
        let request = request.into_inner();
        let blob = self.0.blobs.lock().unwrap().get(&request.digest).cloned();
        let blob = blob.ok_or_else(|| Status::not_found("no such blob"))?;
        let rest = blob.slice(usize::try_from(request.offset).unwrap().min(blob.len())..);
        let broken = self.0.break_blob_after.lock().unwrap().take();
        let whole = broken.unwrap_or(rest.len()).min(rest.len());
        let mut chunks: Vec<Result<BlobChunk, Status>> = (0..whole)
            .step_by(256 * 1024)
            .map(|at| Ok(BlobChunk { data: rest.slice(at..whole.min(at + 256 * 1024)) }))
            .collect();
        if broken.is_some() {
            chunks.push(Err(Status::unavailable("broken by the test")));
        }
        Ok(Response::new(Box::pin(futures_util::stream::iter(chunks))))
    }

    async fn renew(&self, request: Request<RenewRequest>) -> Result<Response<RenewResponse>, Status> {
        let leaf = self.0.authority.sign(&request.into_inner().csr_der, 0)?;
        self.0.renewals.send_modify(|count| *count += 1);
        Ok(Response::new(RenewResponse { certificate_chain_der: vec![leaf], hub_ca_der: vec![] }))
    }
}

fn last_seen(state: &State, session: &str) -> u64 {
    let reports = state.reports.borrow();
    reports.iter().filter(|(s, _)| s == session).map(|(_, number)| *number).max().unwrap_or(0)
}
