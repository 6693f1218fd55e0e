//! A hub in this process and scripted hosts to talk to it.

use futures_util::StreamExt;
use jiff::{SignedDuration, Timestamp};
use kedge_bundle::testing::{Vendor, sample};
use kedge_proto::hub::v1 as admin;
use kedge_proto::hub::v1::hub_client::HubClient;
use kedge_proto::tether::v1::agent_frame::Body as FromAgent;
use kedge_proto::tether::v1::enrolment_client::EnrolmentClient;
use kedge_proto::tether::v1::hub_frame::Body as FromHub;
use kedge_proto::tether::v1::tether_client::TetherClient;
use kedge_proto::tether::v1::{AgentFrame, EnrollRequest, EnrollResponse, Hello, HubFrame, Report, Welcome};
use kedge_proto::v1::{DeploymentStatus, HostStatus, Problem};
use kedgectl::hub::{Config, Hub, serve::admin_socket};
use prost::Message;
use sha2::{Digest, Sha256};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Status, Streaming};

/// Nothing in these tests takes longer unless it is broken.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Awaits something that must come.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("{what} did not come"))
}

/// The code that a refusal carries.
pub(crate) fn code(status: &Status) -> String {
    Problem::decode(status.details()).map(|problem| problem.code).unwrap_or_else(|_| status.to_string())
}

/// A vendor whose documents are valid today.
pub(crate) fn vendor() -> Vendor {
    let mut vendor = Vendor::new("hub tests");
    vendor.rotate(&[], |root| root.expires = Timestamp::now() + SignedDuration::from_hours(1000));
    vendor
}

/// A bundle of `hello` that is valid today, for these sites (none: all).
pub(crate) fn bundle(vendor: &Vendor, seq: u64, sites: &[&str]) -> kedge_bundle::testing::TestBundle {
    vendor.bundle_with(sample(seq), |release| {
        release.expires = Timestamp::now() + SignedDuration::from_hours(100);
        if !sites.is_empty() {
            let sites = sites.iter().map(|site| (*site).to_owned()).collect();
            release.audience = kedge_bundle::roles::Audience::Sites(sites);
        }
    })
}

/// A running hub; stops when dropped.
pub(crate) struct TestHub {
    pub(crate) address: SocketAddr,
    pub(crate) folder: Arc<tempfile::TempDir>,
    pub(crate) vendor: Vendor,
    stop: CancellationToken,
    running: Option<tokio::task::JoinHandle<kedgectl::error::Result<()>>>,
}

impl TestHub {
    pub(crate) async fn start() -> Self {
        Self::start_in(Arc::new(tempfile::tempdir().unwrap()), vendor(), None).await
    }

    pub(crate) async fn start_in(
        folder: Arc<tempfile::TempDir>,
        vendor: Vendor,
        publish: Option<PathBuf>,
    ) -> Self {
        let config = Config { publish, ..config(folder.path(), &vendor) };
        let hub = Hub::start(config).await.unwrap();
        let (address, stop) = (hub.address(), CancellationToken::new());
        let running = tokio::spawn(hub.run(stop.clone().cancelled_owned()));
        TestHub { address, folder, vendor, stop, running: Some(running) }
    }

    /// Stops it as a signal would, and starts another one on the same folder.
    pub(crate) async fn restart(mut self) -> Self {
        self.stop().await;
        Self::start_in(self.folder.clone(), self.vendor.clone(), None).await
    }

    pub(crate) async fn stop(&mut self) {
        self.stop.cancel();
        if let Some(running) = self.running.take() {
            soon("the hub's end", running).await.unwrap().unwrap();
        }
    }

    pub(crate) async fn admin(&self) -> HubClient<Channel> {
        let socket = admin_socket(self.folder.path());
        let connector = tower::service_fn(move |_| {
            let socket = socket.clone();
            async move { tokio::net::UnixStream::connect(socket).await.map(hyper_util::rt::TokioIo::new) }
        });
        let channel = Endpoint::from_static("http://hub").connect_with_connector(connector).await.unwrap();
        HubClient::new(channel)
    }

    pub(crate) async fn token(&self, site: &str, uses: u32) -> String {
        let request =
            admin::CreateTokenRequest { site: site.into(), ttl_seconds: 60, uses, note: String::new() };
        self.admin().await.create_token(request).await.unwrap().into_inner().token
    }

    pub(crate) async fn publish(&self, bundle: &[u8], stream: &str) -> Result<admin::PublishReply, Status> {
        use admin::publish_request::Body;
        let options = admin::PublishOptions { stream: stream.into(), total_bytes: bundle.len() as u64 };
        let mut pieces = vec![admin::PublishRequest { body: Some(Body::Options(options)) }];
        pieces.extend(
            bundle
                .chunks(4096)
                .map(|data| admin::PublishRequest { body: Some(Body::Data(data.to_vec().into())) }),
        );
        Ok(self.admin().await.publish(tokio_stream::iter(pieces)).await?.into_inner())
    }

    pub(crate) async fn host(&self, id: &str) -> admin::Host {
        let request = admin::FleetRequest { host: id.into() };
        self.admin().await.fleet(request).await.unwrap().into_inner().hosts.remove(0)
    }

    /// The host once it is as wanted.
    pub(crate) async fn host_that(&self, id: &str, wanted: impl Fn(&admin::Host) -> bool) -> admin::Host {
        let request = admin::FleetRequest { host: id.into() };
        let mut changes = self.admin().await.watch_fleet(request).await.unwrap().into_inner();
        soon("the host's change", async {
            loop {
                let reply = changes.message().await.unwrap().expect("the watch goes on");
                if let Some(host) = reply.hosts.into_iter().find(&wanted) {
                    return host;
                }
            }
        })
        .await
    }

    /// The certificate of the hub's authority, as a host gets it: from the handshake, by the token's pin.
    pub(crate) fn authority(&self) -> Certificate {
        let pem = std::fs::read_to_string(self.folder.path().join("authority.pem")).unwrap();
        let begin = pem.find("-----BEGIN CERTIFICATE").unwrap();
        Certificate::from_pem(&pem[begin..])
    }

    pub(crate) async fn channel(&self, identity: Option<Identity>) -> Channel {
        let mut tls = ClientTlsConfig::new().ca_certificate(self.authority()).domain_name("localhost");
        if let Some(identity) = identity {
            tls = tls.identity(identity);
        }
        let endpoint =
            Endpoint::from_shared(format!("https://{}", self.address)).unwrap().tls_config(tls).unwrap();
        endpoint.connect().await.unwrap()
    }

    pub(crate) async fn enrol_with(
        &self,
        token: &str,
        request: &EnrolRequest,
    ) -> Result<EnrollResponse, Status> {
        let request = EnrollRequest {
            token: token.into(),
            csr_der: request.csr(),
            hostname: "db1".into(),
            agent_version: "0.1.0".into(),
            request_id: request.id.clone(),
        };
        Ok(EnrolmentClient::new(self.channel(None).await).enroll(request).await?.into_inner())
    }

    /// Enrols a host of this site.
    pub(crate) async fn enrol(&self, site: &str) -> TestHost {
        let request = EnrolRequest::new("r1");
        let answer = self.enrol_with(&self.token(site, 1).await, &request).await.unwrap();
        TestHost { id: answer.host_id.clone(), identity: request.identity(&answer), answer }
    }

    pub(crate) async fn tether(&self, host: &TestHost) -> TetherClient<Channel> {
        TetherClient::new(self.channel(Some(host.identity.clone())).await)
    }
}

impl Drop for TestHub {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// What a hub of this vendor on this folder is given.
pub(crate) fn config(folder: &Path, vendor: &Vendor) -> Config {
    Config {
        data: folder.to_owned(),
        listen: "127.0.0.1:0".parse().unwrap(),
        names: Vec::new(),
        roots: vendor.envelopes.clone(),
        publish: None,
        fresh_key: Some(Box::new(vendor.fresh_key.clone())),
        clock: Arc::new(Timestamp::now),
    }
}

/// A host that asks to be enrolled.
pub(crate) struct EnrolRequest {
    pub(crate) id: String,
    key: rcgen::KeyPair,
}

impl EnrolRequest {
    pub(crate) fn new(id: &str) -> Self {
        EnrolRequest { id: id.into(), key: rcgen::KeyPair::generate().unwrap() }
    }

    pub(crate) fn csr(&self) -> Vec<u8> {
        let params = rcgen::CertificateParams::default();
        params.serialize_request(&self.key).unwrap().der().to_vec()
    }

    pub(crate) fn identity(&self, answer: &EnrollResponse) -> Identity {
        self.identity_from(&answer.certificate_chain_der)
    }

    pub(crate) fn identity_from(&self, chain: &[Vec<u8>]) -> Identity {
        let body = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, &chain[0]);
        let pem = format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n");
        Identity::from_pem(pem, self.key.serialize_pem())
    }
}

/// An enrolled host.
pub(crate) struct TestHost {
    pub(crate) id: String,
    pub(crate) identity: Identity,
    pub(crate) answer: EnrollResponse,
}

/// An open `Connect` stream.
pub(crate) struct Stream {
    send: mpsc::Sender<AgentFrame>,
    frames: Streaming<HubFrame>,
}

impl Stream {
    /// Connects and says hello.
    pub(crate) async fn open(tether: &mut TetherClient<Channel>, hello: Hello) -> (Self, Welcome) {
        let mut stream = Self::silent(tether).await;
        stream.send(FromAgent::Hello(hello)).await;
        match stream.next().await {
            Some(FromHub::Welcome(welcome)) => (stream, welcome),
            other => panic!("no welcome but {other:?}"),
        }
    }

    /// Connects and says nothing.
    pub(crate) async fn silent(tether: &mut TetherClient<Channel>) -> Self {
        let (send, receive) = mpsc::channel(64);
        let frames =
            soon("the stream", tether.connect(ReceiverStream::new(receive))).await.unwrap().into_inner();
        Stream { send, frames }
    }

    pub(crate) async fn send(&self, body: FromAgent) {
        self.send.send(AgentFrame { body: Some(body) }).await.unwrap();
    }

    pub(crate) async fn report(&self, number: u64, full: bool, deployments: &[&str]) {
        let deployments = deployments
            .iter()
            .map(|name| DeploymentStatus {
                name: (*name).to_owned(),
                generation: number,
                ..Default::default()
            })
            .collect();
        let host = HostStatus { hostname: "db1".into(), deployments, ..Default::default() };
        let event = kedge_proto::v1::Event { message: format!("event {number}"), ..Default::default() };
        self.send(FromAgent::Report(Report {
            number,
            full,
            host: Some(host),
            events: vec![event],
            ..Default::default()
        }))
        .await;
    }

    /// The next frame; none when the hub has ended the stream.
    pub(crate) async fn next(&mut self) -> Option<FromHub> {
        let frame = soon("a frame", self.frames.next()).await?;
        Some(frame.unwrap().body.unwrap())
    }

    /// The error that ends the stream.
    pub(crate) async fn error(&mut self) -> Status {
        soon("the stream's end", async {
            loop {
                if let Err(status) = self.frames.next().await.expect("an error, not an orderly end") {
                    return status;
                }
            }
        })
        .await
    }

    /// Waits until everything up to this number is acknowledged.
    pub(crate) async fn acked(&mut self, number: u64) {
        loop {
            match self.next().await {
                Some(FromHub::Ack(ack)) if ack.up_to >= number => return assert_eq!(ack.up_to, number),
                Some(FromHub::Goodbye(_)) | None => panic!("the stream ended before the acknowledgement"),
                Some(_) => {}
            }
        }
    }

    /// The next offers.
    pub(crate) async fn offers(&mut self) -> kedge_proto::tether::v1::Offers {
        loop {
            match self.next().await {
                Some(FromHub::Offers(offers)) => return offers,
                Some(FromHub::Goodbye(_)) | None => panic!("the stream ended before the offers"),
                Some(_) => {}
            }
        }
    }

    /// The hub's goodbye, after which the stream ends.
    pub(crate) async fn goodbye(&mut self) -> String {
        loop {
            match self.next().await {
                Some(FromHub::Goodbye(goodbye)) => {
                    assert!(self.next().await.is_none(), "nothing follows a goodbye");
                    return goodbye.reason;
                }
                None => panic!("the stream ended without goodbye"),
                Some(_) => {}
            }
        }
    }
}

/// A hello of this outbox.
pub(crate) fn hello(session: &str) -> Hello {
    Hello { protocol: 1, session: session.into(), agent_version: "0.1.0".into(), ..Default::default() }
}

/// `sha256:…` of some bytes.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}
