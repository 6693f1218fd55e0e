//! Sessions against the engine in memory: what the state machine alone does not show.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use kedge_bundle::digest::Digest;
use kedge_bundle::support::flow;
use kedge_bundle::support::tunnel::{self, PrivateKey, Tunnel};
use kedge_bundle::support::{testing::request, unverified};
use kedge_bundle::testing::{self, Vendor};
use kedge_bundle::verify::AcceptedRoot;
use kedge_proto::support::v1::{Data, Ended, Frame, Hello, Open, Shell, frame, open};
use kedge_proto::v1;
use prost::Message as _;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;

use super::core::grant::{Phase, Reason};
use super::{Answer, Line, Support};
use crate::audit;
use crate::clock::Clock;
use crate::config::Config;
use crate::engine::fake::Fake;
use crate::engine::spec::{LABEL_DEPLOYMENT, LABEL_NUMBER, LABEL_PROJECT, LABEL_SERVICE, LABEL_SUPPORT};
use crate::engine::types::ImageConfig;
use crate::engine::{ContainerSpec, Engine, EventHub};
use crate::guard::Rules;
use crate::health::{Board, Journal};
use crate::images::Content;
use crate::store::{DeploymentRecord, Store, TrustRecord, Writes};
use crate::world::{NoHooks, World};

pub(super) const ASK: &str = "mode = 'ask'\nscopes = ['logs', 'shell']\ntools_image = 'tools'";

struct FixedClock;

impl Clock for FixedClock {
    fn now(&self) -> jiff::Timestamp {
        testing::now()
    }
}

/// A host that can be started again on the same folder.
pub(super) struct Rig {
    pub(super) folder: tempfile::TempDir,
    pub(super) engine: Fake,
    vendor: Vendor,
    key: PrivateKey,
    public: String,
}

/// The engineer's end of a line.
struct Engineer {
    to: mpsc::Sender<Bytes>,
    from: mpsc::Receiver<Bytes>,
    tunnel: Option<Tunnel>,
}

impl Rig {
    pub(super) fn new() -> Self {
        let (key, public) = PrivateKey::generate().unwrap();
        let (folder, engine) = (tempfile::tempdir().unwrap(), Fake::new());
        Self { folder, engine, vendor: Vendor::new("support"), key, public }
    }

    /// The agent with these rules, and a container of the deployment's that runs.
    pub(super) async fn start(&self, rules: &str) -> Support {
        let config = Config { state_dir: self.folder.path().to_owned(), ..Config::default() };
        let store = loop {
            // The one before is free once its tasks have been dropped.
            match Store::open(&config.state_dir.join("store")) {
                Ok(store) => break store,
                Err(problem) if problem.message.contains("lock") => tokio::task::yield_now().await,
                Err(problem) => panic!("{problem}"),
            }
        };
        let envelope = String::from_utf8(self.vendor.envelopes[0].clone()).unwrap();
        let fingerprint = self.vendor.fingerprint();
        let mut trust = self.vendor.trust();
        trust.root = Some(AcceptedRoot { version: 1, epoch: 1, fingerprint, envelope });
        let shop = DeploymentRecord {
            name: "shop".into(),
            product: "hello".into(),
            stream: "stable".into(),
            parameters: [].into(),
            active: None,
            previous: None,
            newest: 0,
            operation: None,
            last_problem: None,
            since: String::new(),
            requests: Vec::new(),
        };
        let writes = Writes::new().put(&TrustRecord(trust.clone())).unwrap().put(&shop).unwrap();
        store.commit_blocking(writes).unwrap();
        let engine: Arc<dyn Engine> = Arc::new(self.engine.clone());
        let (_, engine_kind) = watch::channel(self.engine.info().await.ok());
        let clock: Arc<dyn Clock> = Arc::new(FixedClock);
        let world = World {
            rules: Rules { support: toml::from_str(rules).unwrap(), ..Rules::default() },
            content: Content::open(config.state_dir.join("content")).unwrap(),
            events: EventHub::spawn(Arc::clone(&engine)),
            engine,
            engine_kind,
            audit: Arc::new(audit::Log::open(&config.state_dir.join("audit.jsonl")).unwrap()),
            time: crate::timekeeper::Timekeeper::open(&store, Arc::clone(&clock)).unwrap(),
            clock,
            board: Board::new(v1::HostStatus::default()),
            pulses: crate::watchdog::Registry::default(),
            journal: Arc::new(Journal::open(&store).unwrap()),
            courier: watch::Sender::new(None),
            trust: tokio::sync::Mutex::new(Some(trust)),
            fresh: watch::Sender::new(None),
            licensing: tokio::sync::Mutex::new(()),
            intake: tokio::sync::Mutex::new(()),
            hooks: Arc::new(NoHooks),
            store,
            config,
        };
        self.engine.add_image("tools", ImageConfig::default());
        if self.engine.container("shop-web-1").is_none() {
            let labels = [
                (LABEL_DEPLOYMENT, "shop"),
                (LABEL_PROJECT, "shop"),
                (LABEL_SERVICE, "web"),
                (LABEL_NUMBER, "1"),
            ];
            let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
            let spec = ContainerSpec { image: "tools".into(), labels, ..ContainerSpec::default() };
            let id = self.engine.create_container("shop-web-1", &spec).await.unwrap();
            self.engine.start_container(&id).await.unwrap();
        }
        Support::open(Arc::new(world)).unwrap()
    }

    /// A request for a shell and logs that the host has taken; its name.
    pub(super) async fn ask(&self, support: &Support) -> String {
        let offer = support.offer().await;
        let mut asked = request(&self.vendor, testing::now());
        asked.grant_id = format!("{:032x}", rand::random::<u128>());
        (asked.host_key, asked.agent_nonce) = (offer.host_key, offer.nonce);
        asked.session_key = self.public.clone();
        support.request(&asked.sign(&[&self.vendor.support_key]).unwrap()).await;
        asked.grant_id
    }

    pub(super) async fn approved(&self, support: &Support) -> String {
        let id = self.ask(support).await;
        let yes = Answer::Approve { by: "bea", seen: None, narrowed: None };
        support.decide(&id, yes).await.unwrap();
        id
    }

    /// A line about this grant, held by a task.
    fn line(support: &Support, id: &str) -> (Engineer, tokio::task::JoinHandle<()>) {
        let ((out, from), (to, inbound)) = (mpsc::channel(64), mpsc::channel(64));
        let line = Line { out, inbound: ReceiverStream::new(inbound).boxed() };
        let (support, id) = (support.clone(), id.to_owned());
        let held = tokio::spawn(async move { support.hold(&id, line).await });
        (Engineer { to, from, tunnel: None }, held)
    }

    /// The engineer is who they say, and says so.
    async fn greet(&self, support: &Support, id: &str, engineer: &mut Engineer) {
        let grant = support.find(id).await.unwrap();
        let digest: Digest = unverified(grant.file.as_bytes()).unwrap().digest;
        let (opening, first) = tunnel::open(&self.key, &support.inner.host_key, digest).unwrap();
        engineer.to.send(first.into()).await.unwrap();
        let answer = engineer.from.recv().await.unwrap();
        engineer.tunnel = Some(opening.complete(&answer).unwrap());
        engineer.say(frame::Body::Hello(Hello {})).await;
    }

    /// An open session.
    async fn open(&self, support: &Support) -> (String, Engineer, tokio::task::JoinHandle<()>) {
        let id = self.approved(support).await;
        let (mut engineer, held) = Self::line(support, &id);
        self.greet(support, &id, &mut engineer).await;
        assert!(matches!(engineer.hear().await, Some(frame::Body::Welcome(_))));
        (id, engineer, held)
    }

    /// The vendor signs for support with another key from now on, and this host knows it.
    async fn withdraw_key(&self, support: &Support) {
        let mut later = self.vendor.clone();
        let other = Vendor::new("another").roots[0].roles.support.clone();
        later.rotate(&[], |root| root.roles.support = other);
        let envelope = String::from_utf8(later.envelopes[1].clone()).unwrap();
        let payload = kedge_bundle::envelope::Envelope::parse(envelope.as_bytes()).unwrap().payload;
        let root = AcceptedRoot { version: 2, epoch: 1, fingerprint: Digest::of(&payload), envelope };
        support.inner.world.trust.lock().await.as_mut().unwrap().root = Some(root);
    }

    pub(super) fn audited(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("audit.jsonl")).unwrap()
    }

    /// Containers of a session.
    pub(super) fn containers(&self, id: &str) -> usize {
        let ours = |label: Option<&String>| label.is_some_and(|grant| grant == id);
        self.engine.containers().iter().filter(|c| ours(c.labels.get(LABEL_SUPPORT))).count()
    }
}

impl Engineer {
    async fn say(&mut self, body: frame::Body) {
        let frame = Frame { body: Some(body) }.encode_to_vec();
        let sealed = self.tunnel.as_mut().unwrap().seal(&frame).unwrap();
        let _ = self.to.send(sealed.into()).await;
    }

    async fn hear(&mut self) -> Option<frame::Body> {
        let sealed = self.from.recv().await?;
        Frame::decode(self.tunnel.as_mut().unwrap().unseal(&sealed).unwrap().as_slice()).unwrap().body
    }

    /// The last word.
    async fn ended(&mut self) -> String {
        let word = async {
            loop {
                match self.hear().await {
                    Some(frame::Body::Ended(ended)) => return ended.message,
                    Some(_) => {}
                    None => panic!("it ended without a word"),
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(20), word).await.expect("it does not end")
    }

    /// A shell that runs.
    async fn shell(&mut self) {
        let what = Some(open::What::Shell(Shell { rows: 24, columns: 80 }));
        let asked = Open { channel: 1, target: "shop/web".into(), what, ..Open::default() };
        self.say(frame::Body::Open(asked)).await;
        assert!(matches!(self.hear().await, Some(frame::Body::Opened(_))));
    }
}

/// Waits for what is about to be so.
pub(super) async fn until(mut is_so: impl FnMut() -> bool) {
    let so = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), so).await.expect("it is not so");
}

async fn phase(support: &Support, id: &str) -> Phase {
    support.find(id).await.unwrap().phase
}

#[tokio::test]
async fn what_is_on_record_is_looked_at_again_at_the_next_start() {
    let rig = Rig::new();
    let support = rig.start(ASK).await;
    let (asked, approved) = (rig.ask(&support).await, rig.approved(&support).await);
    drop(support);
    let support = rig.start(ASK).await;
    assert_eq!(phase(&support, &asked).await, Phase::Requested);
    assert!(matches!(phase(&support, &approved).await, Phase::Approved(_)));
    drop(support);
    let support = rig.start(&ASK.replace(", 'shell'", "")).await;
    for id in [&asked, &approved] {
        assert_eq!(phase(&support, id).await, Phase::Closed(Reason::Withdrawn));
        let why = rig.audited().lines().filter(|line| line.contains(id) && line.contains("KE-6403")).count();
        assert_eq!(why, 1, "{}", rig.audited());
    }
}

#[tokio::test]
async fn a_grant_whose_key_the_vendor_has_withdrawn_is_not_approved_and_not_opened() {
    let rig = Rig::new();
    let support = rig.start(ASK).await;
    let (asked, approved) = (rig.ask(&support).await, rig.approved(&support).await);
    rig.withdraw_key(&support).await;
    let (mut engineer, held) = Rig::line(&support, &approved);
    rig.greet(&support, &approved, &mut engineer).await;
    assert!(!engineer.ended().await.is_empty());
    held.await.unwrap();
    assert_eq!(phase(&support, &approved).await, Phase::Closed(Reason::Withdrawn));
    let yes = Answer::Approve { by: "bea", seen: None, narrowed: None };
    assert!(support.decide(&asked, yes).await.is_err());
    assert_eq!(phase(&support, &asked).await, Phase::Closed(Reason::Withdrawn));
    assert_eq!(rig.audited().matches("KE-2101").count(), 2, "{}", rig.audited());
}

#[tokio::test]
async fn a_session_whose_key_the_vendor_withdraws_is_ended_while_it_runs_and_so_is_all_that_waits() {
    let rig = Rig::new();
    let support = rig.start(ASK).await;
    let keep = tokio::spawn({
        let support = support.clone();
        async move { support.keep().await }
    });
    let (id, mut engineer, held) = rig.open(&support).await;
    let (asked, approved) = (rig.ask(&support).await, rig.approved(&support).await);
    engineer.shell().await;
    until(|| rig.containers(&id) == 1).await;
    rig.withdraw_key(&support).await;
    assert_eq!(engineer.ended().await, Reason::Withdrawn.to_string());
    held.await.unwrap();
    let all = [id.clone(), asked, approved];
    support.until_closed(&all).await;
    for id in &all {
        assert_eq!(phase(&support, id).await, Phase::Closed(Reason::Withdrawn));
    }
    assert_eq!(rig.containers(&id), 0);
    until(|| rig.audited().matches("KE-2101").count() == 3).await;
    keep.abort();
}

#[tokio::test]
async fn an_end_that_comes_while_a_line_is_in_its_handshake_is_not_lost() {
    let rig = Rig::new();
    let support = rig.start(ASK).await;
    let id = rig.approved(&support).await;
    let (engineer, held) = Rig::line(&support, &id);
    until(|| support.live().contains_key(&id)).await;
    assert_eq!(support.end(&id).await.unwrap().phase, Phase::Closed(Reason::Customer));
    held.await.unwrap();
    drop(engineer);
    // The agent's own end takes nothing back.
    let id = rig.approved(&support).await;
    let (_engineer, held) = Rig::line(&support, &id);
    until(|| support.live().contains_key(&id)).await;
    tokio::time::timeout(Duration::from_secs(5), support.stop()).await.unwrap();
    held.await.unwrap();
    assert!(matches!(phase(&support, &id).await, Phase::Approved(_)));
}

#[tokio::test]
async fn an_end_that_comes_while_the_disk_takes_its_time_opens_nothing() {
    let rig = Rig::new();
    let support = rig.start(ASK).await;
    let id = rig.approved(&support).await;
    // Whoever writes to it waits until somebody reads.
    let folder = rig.folder.path().join("support/recordings").join(&id);
    std::fs::create_dir_all(&folder).unwrap();
    let pipe = folder.join("request.json");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let (mut engineer, held) = Rig::line(&support, &id);
    rig.greet(&support, &id, &mut engineer).await;
    // Heard to the end, so that what follows has begun.
    until(|| engineer.to.capacity() == engineer.to.max_capacity()).await;
    let ended = support.end(&id).await;
    let reader = std::thread::spawn(move || std::fs::read(pipe));
    assert_eq!(ended.unwrap().phase, Phase::Closed(Reason::Customer));
    assert_eq!(engineer.ended().await, Reason::Customer.to_string());
    held.await.unwrap();
    assert!(!rig.audited().contains("\"open\""), "{}", rig.audited());
    reader.join().unwrap().unwrap();
}

#[tokio::test]
async fn a_no_ends_a_session_that_is_open() {
    let rig = Rig::new();
    let support = rig.start(ASK).await;
    let (id, mut engineer, held) = rig.open(&support).await;
    engineer.shell().await;
    until(|| rig.containers(&id) == 1).await;
    let denied = support.decide(&id, Answer::Deny).await.unwrap();
    assert_eq!(denied.phase, Phase::Closed(Reason::Customer));
    assert_eq!(rig.containers(&id), 0);
    assert_eq!(engineer.ended().await, Reason::Customer.to_string());
    held.await.unwrap();
}

#[tokio::test]
async fn what_runs_in_a_session_is_removed_also_while_its_end_cannot_be_written_down() {
    let rig = Rig::new();
    let support = rig.start(ASK).await;
    let (id, mut engineer, held) = rig.open(&support).await;
    engineer.shell().await;
    until(|| rig.containers(&id) == 1).await;
    // As long as this is held nothing is written down.
    let desk = support.inner.desk.lock().await;
    engineer.say(frame::Body::Ended(Ended::default())).await;
    until(|| rig.containers(&id) == 0).await;
    assert_eq!(engineer.ended().await, Reason::Engineer.to_string());
    drop(desk);
    held.await.unwrap();
    assert_eq!(phase(&support, &id).await, Phase::Closed(Reason::Engineer));
}

#[tokio::test]
async fn what_is_typed_counts_against_the_quota() {
    let rig = Rig::new();
    let support = rig.start(ASK).await;
    let (id, mut engineer, held) = rig.open(&support).await;
    engineer.shell().await;
    // A mebibyte is granted, and typed as fast as the host takes it in.
    let typed = Bytes::from(vec![b'a'; 32 << 10]);
    let (mut room, mut sent) = (flow::WINDOW, 0);
    let why = loop {
        while room >= flow::cost(typed.len()) {
            room -= flow::cost(typed.len());
            sent += typed.len();
            engineer
                .say(frame::Body::Data(Data { channel: 1, bytes: typed.clone(), ..Data::default() }))
                .await;
        }
        assert!(sent <= 3 << 20, "it goes on and on");
        match engineer.hear().await {
            Some(frame::Body::Credit(credit)) => room += credit.bytes,
            Some(frame::Body::Ended(ended)) => break ended.message,
            Some(_) => {}
            None => panic!("it ended without a word"),
        }
    };
    assert!(sent > 1 << 20);
    assert_eq!(why, Reason::Quota.to_string());
    held.await.unwrap();
    assert_eq!(phase(&support, &id).await, Phase::Closed(Reason::Quota));
}

#[tokio::test]
async fn a_session_in_which_channels_are_opened_without_end_ends() {
    let rig = Rig::new();
    let support = rig.start(ASK).await;
    let (_, mut engineer, held) = rig.open(&support).await;
    engineer.shell().await;
    for _ in 0..1000 {
        // Refused, which costs something too.
        engineer.say(frame::Body::Open(Open { channel: 1, ..Open::default() })).await;
    }
    assert_eq!(engineer.ended().await, Reason::Quota.to_string());
    held.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn old_recordings_are_removed_every_day() {
    let rig = Rig::new();
    let support = rig.start(&format!("{ASK}\nkeep_days = 0")).await;
    let kept = tokio::spawn({
        let support = support.clone();
        async move { support.keep().await }
    });
    let folder = rig.folder.path().join("support/recordings").join("ab".repeat(16));
    for _ in 0..3 {
        std::fs::create_dir_all(&folder).unwrap();
        // The clock stands still but for this.
        let gone = async {
            while folder.exists() {
                tokio::time::sleep(Duration::from_secs(60)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(25 * 3600), gone).await.expect("it stays");
    }
    kept.abort();
}
