//! The agent's tether and the real hub, over real TCP and TLS on this machine: both ends of the protocol as they ship,
//! with a host in memory. No container engine is needed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "../../../agent/tests/tether/shore.rs"]
mod shore;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use jiff::{SignedDuration, Timestamp};
use kedge::{channel, codes, config::Config, tether};
use kedge_bundle::testing::{Vendor, sample};
use kedge_proto::hub::v1 as admin;
use kedge_proto::hub::v1::publish_request::Body;
use kedge_proto::tether::v1::Report;
use kedge_proto::v1::{Event, HostStatus};
use kedgectl::hub::{self, Hub, serve::admin_socket};
use shore::Shore;
use tokio::sync::oneshot;

/// A hub that is running, stopped on request.
struct Running {
    address: std::net::SocketAddr,
    stop: oneshot::Sender<()>,
    task: tokio::task::JoinHandle<()>,
}

/// Both ends' folders.
struct World {
    folder: tempfile::TempDir,
    vendor: Vendor,
    shore: Shore,
}

impl World {
    fn new() -> Self {
        let mut vendor = Vendor::new("tether");
        vendor.rotate(&[], |root| root.expires = Timestamp::now() + SignedDuration::from_hours(1000));
        Self { folder: tempfile::tempdir().unwrap(), vendor, shore: Shore::default() }
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("hub")
    }

    async fn hub(&self, port: u16) -> Running {
        let config = hub::Config {
            data: self.data(),
            listen: ([127, 0, 0, 1], port).into(),
            names: Vec::new(),
            roots: self.vendor.envelopes.clone(),
            publish: None,
            fresh_key: Some(Box::new(self.vendor.fresh_key.clone())),
            clock: Arc::new(Timestamp::now),
        };
        let hub = Hub::start(config).await.unwrap();
        let address = hub.address();
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(async move {
            let shutdown = async {
                let _ = stopped.await;
            };
            hub.run(shutdown).await.unwrap();
        });
        Running { address, stop, task }
    }

    fn config(&self) -> Config {
        Config { state_dir: self.folder.path().join("agent"), ..Config::default() }
    }

    async fn admin(&self) -> admin::hub_client::HubClient<tonic::transport::Channel> {
        let stream = tokio::net::UnixStream::connect(admin_socket(&self.data())).await.unwrap();
        admin::hub_client::HubClient::new(channel::over(stream, channel::Options::default()).await.unwrap())
    }

    async fn token(&self) -> String {
        let request =
            admin::CreateTokenRequest { site: "here".into(), ttl_seconds: 60, ..Default::default() };
        self.admin().await.create_token(request).await.unwrap().into_inner().token
    }

    async fn enrol(&self, hub: &Running, token: &str) -> Result<String, kedge::problem::Problem> {
        let url = format!("https://{}", hub.address);
        let root = self.vendor.fingerprint().to_string();
        let root = root.trim_start_matches("sha256:");
        tether::enroll(&self.shore, &self.config(), &url, token, root).await.map(|reply| reply.host_id)
    }

    /// Runs the tether until the test ends.
    fn run(&self) -> tokio::task::JoinHandle<()> {
        let never = std::future::pending();
        tokio::spawn(tether::run_with(self.shore.clone(), Arc::new(self.config()), never, || 0.0))
    }

    /// Puts so many more reports with an event each into the outbox.
    fn report(&self, count: u64) {
        self.shore.add(count, |number| {
            let event = Event { message: format!("event {number}"), ..Event::default() };
            let host = HostStatus { hostname: "web-01".into(), ..HostStatus::default() };
            Report { number, events: vec![event], host: Some(host), ..Report::default() }
        });
    }
}

async fn in_time<T>(test: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), test).await.expect("the test hangs")
}

#[tokio::test(flavor = "multi_thread")]
async fn events_reach_the_fleet_once_each_over_a_restart_of_the_hub() {
    in_time(async {
        let world = World::new();
        let hub = world.hub(0).await;
        let id = world.enrol(&hub, &world.token().await).await.unwrap();
        let tether = world.run();
        world.report(40);
        world.shore.acked(40).await;

        hub.stop.send(()).unwrap();
        hub.task.await.unwrap();
        let down = world.shore.status(|status| status.enrolled && !status.connected).await;
        assert!(down.problem.contains("goodbye"), "{down:?}");
        world.report(20);
        let _hub = world.hub(hub.address.port()).await;
        world.shore.acked(60).await;

        let request = admin::FleetRequest { host: id };
        let fleet = world.admin().await.fleet(request).await.unwrap().into_inner();
        let said: Vec<&str> = fleet.hosts[0].events.iter().map(|event| event.message.as_str()).collect();
        let expected: Vec<String> = (1..=60).map(|number| format!("event {number}")).collect();
        assert_eq!(said, expected);
        assert_eq!(fleet.hosts[0].status.as_ref().unwrap().hostname, "web-01");
        tether.abort();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_published_release_is_offered_and_its_bytes_are_what_was_signed() {
    in_time(async {
        let world = World::new();
        let hub = world.hub(0).await;
        world.enrol(&hub, &world.token().await).await.unwrap();
        let tether = world.run();
        let bundle = world.vendor.bundle_with(sample(1), |release| {
            release.expires = Timestamp::now() + SignedDuration::from_hours(100);
        });
        let bytes = bundle.bytes();
        let options = admin::PublishOptions { stream: "stable".into(), total_bytes: bytes.len() as u64 };
        let frame = |body| admin::PublishRequest { body: Some(body) };
        let mut frames = vec![frame(Body::Options(options))];
        frames.extend(bytes.chunks(4096).map(|data| frame(Body::Data(data.to_vec().into()))));
        world.admin().await.publish(futures_util::stream::iter(frames)).await.unwrap();

        let mut offers = world.shore.0.offers.subscribe();
        let offers = offers.wait_for(|all| all.iter().any(|o| !o.releases.is_empty())).await.unwrap().clone();
        let offered = offers.last().unwrap();
        let release = bundle.digest().to_string();
        assert_eq!(offered.releases[0].release_digest, release);
        assert!(!offered.fresh.is_empty());

        let courier = world.shore.courier().await;
        let documents = courier.documents(&release).await.unwrap();
        assert_eq!(documents.release, bundle.envelope);
        let (blob, _) = &bundle.draft.blobs[0];
        let expected = bundle.blob(&blob.digest).unwrap();
        for offset in [0, 1, expected.len() / 2, expected.len()] {
            let digest = blob.digest.to_string();
            let mut chunks = courier.blob(&release, &digest, offset as u64).await.unwrap();
            let mut fetched = Vec::new();
            while let Some(chunk) = chunks.next().await {
                fetched.extend_from_slice(&chunk.unwrap());
            }
            assert_eq!(fetched, expected[offset..], "from {offset}");
        }
        let unknown = courier.documents(&format!("sha256:{}", "0".repeat(64))).await.unwrap_err();
        assert_eq!(unknown.code.id, codes::NOT_OFFERED.id, "{unknown}");
        tether.abort();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_used_up_is_refused_with_the_hubs_reason() {
    in_time(async {
        let (world, other) = (World::new(), World::new());
        let hub = world.hub(0).await;
        let token = world.token().await;
        let id = world.enrol(&hub, &token).await.unwrap();
        assert_eq!(world.enrol(&hub, &token).await.unwrap(), id, "asking again enrols once");
        let problem = other.enrol(&hub, &token).await.unwrap_err();
        assert_eq!(problem.code.id, codes::ENROLMENT_REFUSED.id);
        assert!(problem.message.contains("KE-7104"), "{problem}");
    })
    .await;
}
