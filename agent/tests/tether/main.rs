//! The tether against a hub of the tests' own, over real TCP and TLS on this machine.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests are outside of them

mod hub;
mod proxy;
mod shore;

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use hub::{Authority, Hub};
use kedge::codes;
use kedge::config::Config;
use kedge::problem::Problem;
use kedge::tether;
use kedge_proto::tether::v1::{Goodbye, Offers, ReleaseOffer, Report, hub_frame};
use proxy::Proxy;
use shore::Shore;

/// An agent's outer ring: a host in memory, a state folder, and the tether's task once it runs.
struct Agent {
    shore: Shore,
    config: Config,
    folder: tempfile::TempDir,
    task: Option<tokio::task::JoinHandle<()>>,
}

impl Drop for Agent {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl Agent {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = Config { state_dir: folder.path().join("state"), ..Config::default() };
        Self { shore: Shore::default(), config, folder, task: None }
    }

    async fn enroll(&self, hub: &str, token: &str) -> Result<(), Problem> {
        tether::enroll(&self.shore, &self.config, hub, token, &"ab".repeat(32)).await.map(|_| ())
    }

    fn report(&self, count: u64) {
        self.shore.add(count, |number| Report { number, ..Report::default() });
    }

    /// Runs the tether; it waits as little as it may between two connections.
    fn run(&mut self) {
        let (shore, config) = (self.shore.clone(), Arc::new(self.config.clone()));
        let task = tether::run_with(shore, config, std::future::pending(), || 0.0);
        self.task = Some(tokio::spawn(task));
    }

    async fn running(hub: &Hub) -> Self {
        let mut agent = Self::new();
        agent.enroll(&hub.url(), &hub.token()).await.unwrap();
        agent.run();
        agent
    }
}

/// Tests wait for events; this only keeps a broken one from waiting for ever.
async fn in_time<T>(test: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), test).await.expect("the test hangs")
}

#[tokio::test(flavor = "multi_thread")]
async fn enrolling_gives_the_host_its_membership_and_twice_enrols_once() {
    let (hub, agent) = (Hub::start().await, Agent::new());
    agent.enroll(&hub.url(), &hub.token()).await.unwrap();
    agent.enroll(&hub.url(), &hub.token()).await.unwrap();
    assert_eq!(hub.state.enrolled.lock().unwrap().len(), 1, "one request ID");
    let enrolment = agent.shore.0.enrolment.borrow().clone().unwrap();
    assert_eq!((enrolment.hub.as_str(), enrolment.host_id.as_str()), (hub.url().as_str(), "h-1"));
    assert_eq!(enrolment.hub_ca, hub.state.authority.certificate.to_vec());
    let trusted = agent.shore.0.trusted.lock().unwrap().clone().unwrap();
    assert_eq!(trusted, (vec!["root one".into(), "root two".into()], "ab".repeat(32)));
    assert!(agent.folder.path().join("state/identity/host.key").is_file());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_with_another_authority_never_hears_the_token() {
    let (hub, agent) = (Hub::start().await, Agent::new());
    let token = hub.token().replace(&hub.state.authority.sha256(), &Authority::new().sha256());
    let problem = agent.enroll(&hub.url(), &token).await.unwrap_err();
    assert_eq!(problem.code.id, codes::HUB_IDENTITY.id, "{problem}");
    assert!(hub.state.enrolled.lock().unwrap().is_empty());
    assert!(agent.shore.0.enrolment.borrow().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_under_another_name_is_refused() {
    let (hub, agent) = (Hub::start().await, Agent::new());
    let url = format!("https://localhost:{}", hub.address.port());
    let problem = agent.enroll(&url, &hub.token()).await.unwrap_err();
    assert_eq!(problem.code.id, codes::HUB_IDENTITY.id, "{problem}");
    assert!(problem.message.contains("another name"), "{problem}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_token_a_closed_port_and_another_fleet_are_told_apart() {
    let (hub, agent) = (Hub::start().await, Agent::new());
    let unknown = hub.token().replace(&hub.state.secret, &"0".repeat(24));
    let problem = agent.enroll(&hub.url(), &unknown).await.unwrap_err();
    assert_eq!(problem.code.id, codes::ENROLMENT_REFUSED.id);
    assert!(problem.message.contains("no such token") && !problem.message.contains("000000"), "{problem}");

    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let problem = agent.enroll(&format!("https://{closed}"), &hub.token()).await.unwrap_err();
    assert_eq!(problem.code.id, codes::HUB_UNREACHABLE.id, "{problem}");

    agent.enroll(&hub.url(), &hub.token()).await.unwrap();
    let other = Hub::start().await;
    let problem = agent.enroll(&other.url(), &other.token()).await.unwrap_err();
    assert_eq!(problem.code.id, codes::ENROLLED_ELSEWHERE.id);
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_go_out_in_order_and_leave_the_outbox_when_acknowledged() {
    in_time(async {
        let hub = Hub::start().await;
        let agent = Agent::running(&hub).await;
        agent.report(50);
        agent.shore.acked(50).await;
        agent.report(3);
        agent.shore.acked(53).await;
        assert_eq!(hub.reports(53).await, (1..=53).collect::<Vec<u64>>());
        assert!(agent.shore.0.outbox.lock().unwrap().is_empty());
        let hello = hub.hello(1).await;
        assert_eq!((hello.session.as_str(), hello.subscriptions[0].seq), ("outbox-1", 7));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_than_a_window_is_under_way_at_once() {
    in_time(async {
        let hub = Hub::start().await;
        hub.state.acking.send_replace(false);
        let agent = Agent::running(&hub).await;
        agent.report(100);
        hub.reports(32).await;
        // A frame there and its effect back: whatever the agent was going to send has been sent.
        hub.send(hub_frame::Body::Offers(Offers::default())).await;
        agent.shore.0.offers.subscribe().wait_for(|offers| !offers.is_empty()).await.unwrap();
        assert_eq!(hub.state.reports.borrow().len(), 32);
        hub.state.acking.send_replace(true);
        agent.shore.acked(100).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_break_nothing_is_lost_and_nothing_comes_twice() {
    in_time(async {
        let hub = Hub::start().await;
        let agent = Agent::running(&hub).await;
        for round in 1..=5u64 {
            // The hub takes these and its acknowledgements never arrive.
            hub.state.acking.send_replace(false);
            agent.report(20);
            hub.reports(usize::try_from(round * 20).unwrap()).await;
            hub.cut().await;
            hub.hello(usize::try_from(round).unwrap() + 1).await;
            agent.shore.acked(round * 20).await;
            hub.state.acking.send_replace(true);
        }
        assert_eq!(hub.reports(100).await, (1..=100).collect::<Vec<u64>>());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_hub_forgot_is_sent_again() {
    in_time(async {
        let hub = Hub::start().await;
        hub.state.acking.send_replace(false);
        let agent = Agent::running(&hub).await;
        agent.report(5);
        hub.reports(5).await;
        hub.state.reports.send_replace(Vec::new());
        hub.cut().await;
        assert_eq!(hub.reports(5).await, [1, 2, 3, 4, 5]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn offers_arrive_whole_and_a_hub_that_knows_nothing_is_told_everything() {
    in_time(async {
        let hub = Hub::start().await;
        *hub.state.want_full.lock().unwrap() = true;
        let agent = Agent::running(&hub).await;
        let release = ReleaseOffer { product: "shop".into(), seq: 8, ..ReleaseOffer::default() };
        let offers = Offers { fresh: b"signed".to_vec(), releases: vec![release.clone()] };
        hub.send(hub_frame::Body::Offers(offers)).await;
        let mut offered = agent.shore.0.offers.subscribe();
        let offered = offered.wait_for(|offers| !offers.is_empty()).await.unwrap();
        assert_eq!((offered[0].fresh.as_ref(), &offered[0].releases[0]), (&b"signed"[..], &release));
        assert_eq!(*agent.shore.0.full.borrow(), 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_that_breaks_off_goes_on_from_where_it_was() {
    in_time(async {
        let hub = Hub::start().await;
        let blob: Vec<u8> = (0..3_000_000u32).map(|i| u8::try_from(i % 251).unwrap()).collect();
        hub.state.blobs.lock().unwrap().insert("sha256:b".into(), blob.clone().into());
        *hub.state.break_blob_after.lock().unwrap() = Some(1_000_001);
        let agent = Agent::running(&hub).await;
        let courier = agent.shore.courier().await;
        let documents = courier.documents("sha256:r").await.unwrap();
        assert_eq!(documents.release, b"sha256:r");

        let mut fetched = Vec::new();
        let mut breaks = 0;
        while fetched.len() < blob.len() {
            let offset = u64::try_from(fetched.len()).unwrap();
            let mut chunks = courier.blob("sha256:r", "sha256:b", offset).await.unwrap();
            while let Some(chunk) = chunks.next().await {
                match chunk {
                    Ok(chunk) => fetched.extend_from_slice(&chunk),
                    Err(problem) => {
                        assert_eq!(problem.code.id, codes::TETHER_LOST.id);
                        breaks += 1;
                    }
                }
            }
        }
        assert_eq!((fetched == blob, breaks), (true, 1));
        let missing = courier.blob("sha256:r", "sha256:nope", 0).await.err().unwrap();
        assert_eq!(missing.code.id, codes::NOT_OFFERED.id);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_line_is_said_and_the_old_courier_fails_while_a_new_one_serves() {
    in_time(async {
        let hub = Hub::start().await;
        let agent = Agent::running(&hub).await;
        agent.shore.status(|status| status.connected).await;
        hub.cut().await;
        let down = agent.shore.status(|status| status.enrolled && !status.connected).await;
        assert!(down.problem.contains("KE-5007") && down.problem.contains("cut by the test"), "{down:?}");
        hub.hello(2).await;
        assert!(agent.shore.courier().await.documents("sha256:r").await.is_ok());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_was_thrown_out_says_so_and_comes_back_when_let_in() {
    in_time(async {
        let hub = Hub::start().await;
        *hub.state.refusal.lock().unwrap() = Some(tonic::Status::permission_denied("revoked"));
        let agent = Agent::running(&hub).await;
        let status = agent.shore.status(|status| !status.problem.is_empty()).await;
        assert!(status.problem.contains("revoked") && status.problem.contains("KE-5002"), "{status:?}");
        *hub.state.refusal.lock().unwrap() = None;
        agent.shore.status(|status| status.connected).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn goodbye_is_obeyed_and_returned_from() {
    in_time(async {
        let hub = Hub::start().await;
        let agent = Agent::running(&hub).await;
        let goodbye = Goodbye { reason: "restarting".into(), retry_after_seconds: 1 };
        hub.send(hub_frame::Body::Goodbye(goodbye)).await;
        let away = agent.shore.status(|status| status.problem.contains("restarting")).await;
        assert!(!away.connected);
        hub.hello(2).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_certificate_is_renewed_without_leaving_the_line() {
    in_time(async {
        let hub = Hub::start().await;
        *hub.state.certificate_age.lock().unwrap() = 25;
        let mut agent = Agent::new();
        agent.enroll(&hub.url(), &hub.token()).await.unwrap();
        let old = agent.shore.0.enrolment.borrow().clone().unwrap();
        agent.run();
        agent.shore.0.renewed.subscribe().wait_for(|count| *count == 1).await.unwrap();
        let new = agent.shore.0.enrolment.borrow().clone().unwrap();
        assert_ne!(new.certificate_chain, old.certificate_chain);
        assert_eq!((&new.hub_ca, &new.host_id), (&old.hub_ca, &old.host_id));
        // Still the same connection; and the new certificate opens the next one.
        agent.report(1);
        agent.shore.acked(1).await;
        assert_eq!(hub.state.hellos.borrow().len(), 1);
        hub.cut().await;
        hub.hello(2).await;
        assert_eq!(*hub.state.renewals.borrow(), 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_line_goes_through_a_proxy_that_wants_a_password() {
    in_time(async {
        let (hub, proxy) = (Hub::start().await, Proxy::start().await);
        let mut agent = Agent::new();
        agent.config.proxy = Some(format!("http://{}", proxy.address));
        let problem = agent.enroll(&hub.url(), &hub.token()).await.unwrap_err();
        assert!(problem.message.contains("user name and password"), "{problem}");
        agent.config.proxy = Some(format!("http://me:secret@{}", proxy.address));
        agent.enroll(&hub.url(), &hub.token()).await.unwrap();
        agent.run();
        agent.report(2);
        agent.shore.acked(2).await;
        let hub = hub.address;
        assert_eq!(proxy.asked(), [format!("{hub} false"), format!("{hub} true"), format!("{hub} true")]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_enrolled_while_running_connects_at_once() {
    in_time(async {
        let hub = Hub::start().await;
        let mut agent = Agent::new();
        agent.run();
        let idle = agent.shore.status(|_| true).await;
        assert!(!idle.enrolled);
        agent.enroll(&hub.url(), &hub.token()).await.unwrap();
        hub.hello(1).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_task_ends_when_told_and_takes_the_courier_with_it() {
    in_time(async {
        let hub = Hub::start().await;
        let agent = Agent::new();
        agent.enroll(&hub.url(), &hub.token()).await.unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let shutdown = async move {
            let _ = stopped.await;
        };
        let task = tokio::spawn(tether::run(agent.shore.clone(), Arc::new(agent.config.clone()), shutdown));
        agent.shore.courier().await;
        stop.send(()).unwrap();
        task.await.unwrap();
        assert!(agent.shore.0.courier.borrow().is_none());
    })
    .await;
}
