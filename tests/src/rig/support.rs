//! A vendor, a hub, and a customer's host that lets nobody in by itself.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::docker::Docker;
use super::host::{self, Host};
use super::hub::Hub;
use super::lines::Lines;
use super::outcome::{self, Outcome};
use super::process::Guarded;
use super::vendor::{Recipe, Vendor};
use super::{images, programs};
use kedge::channel;
use kedge_bundle::keys;
use kedge_bundle::roles::{FORMAT, PublicKey};
use kedge_bundle::support::tunnel::{self, PrivateKey, Tunnel};
use kedge_bundle::support::{Read, Request, Terms, parse_scopes, unverified};
use kedge_proto::hub::v1::hub_client::HubClient;
use kedge_proto::hub::v1::{SupportOfferRequest, SupportRequestRequest};
use kedge_proto::support::v1::{Frame, Hello, Meeting, News, Offer, Piece, frame, piece};
use kedgectl::hub::serve::admin_socket;
use prost::Message as _;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

/// What most tests permit.
pub const ASK: &str = "mode = 'ask'\nscopes = ['inspect', 'logs', 'bundle', 'shell', 'run:id', 'run:cat /proc/1/cmdline', 'forward:hello:8080', 'forward:hello:9', 'forward:echo:7']";

const PRODUCT: &str = "hello";

/// A vendor, a hub, and a host that runs one product.
pub struct World {
    /// The vendor.
    pub vendor: Vendor,
    /// Its hub.
    pub hub: Hub,
    /// The customer's host.
    pub host: Host,
    /// The deployment.
    pub name: String,
    /// The hub's name for the host.
    pub host_id: String,
    /// For what speaks to the hub as its owner can.
    pub runtime: tokio::runtime::Runtime,
}

/// A session that is held in the foreground; let go when this goes out of scope.
pub struct Held {
    process: Guarded,
    /// What it says.
    pub log: Lines,
}

impl World {
    /// A host with these rules for support.
    pub fn new(rules: &str) -> Self {
        Self::started(rules, |host| host.start_agent())
    }

    /// The same with another program in the agent's place.
    pub fn started(rules: &str, start: impl FnOnce(&mut Host)) -> Self {
        let rules = format!("{rules}\ntools_image = '{}'", images::BUSYBOX);
        Self::made(&rules, start, |vendor, _| vendor.bundle(PRODUCT, "1.0.0"))
    }

    /// A host whose product says this too in its `x-kedge` section, and whose rules name no image with tools.
    pub fn of_product(rules: &str, section: &str) -> Self {
        Self::made(
            rules,
            |host| host.start_agent(),
            |vendor, host| {
                let (project, bundle) = (host.path("project"), host.path("own.kedge"));
                let original = vendor.project(PRODUCT, "1.0.0");
                outcome::run(Command::new("cp").arg("-a").arg(original).arg(&project)).succeeded();
                let compose = project.join("compose.yaml");
                let text = std::fs::read_to_string(&compose).expect("it should have worked");
                let text = text.replacen("x-kedge:\n", &format!("x-kedge:\n{section}\n"), 1);
                std::fs::write(&compose, text).expect("it should have worked");
                let recipe = Recipe { product: PRODUCT, version: "1.0.0", seq: 1, flags: &[] };
                vendor.build_from(&project, &recipe, &bundle).succeeded();
                bundle
            },
        )
    }

    fn made(
        rules: &str,
        start: impl FnOnce(&mut Host),
        bundle: impl FnOnce(&Vendor, &Host) -> PathBuf,
    ) -> Self {
        images::ensure_busybox().expect("it should have worked");
        let vendor = Vendor::shared();
        let hub = Hub::start(&vendor);
        let mut host = Host::prepare(Docker::of_this_machine(), "");
        let guard = host.path("guard.toml");
        std::fs::write(
            &guard,
            format!("[allow]\nhost_paths = ['/var/run/docker.sock']\n[support]\n{rules}\n"),
        )
        .expect("it should have worked");
        std::fs::write(host.path("agent.toml"), format!("guard = {guard:?}\n"))
            .expect("it should have worked");
        start(&mut host);
        let name = host.name(PRODUCT);
        let port = format!("PORT={}", host.docker().free_port());
        let bundle = bundle(&vendor, &host).display().to_string();
        let root = vendor.root_sha256();
        let flags = ["--deployment", &name, "--set", &port, "--root-sha256", &root];
        host.kedge(&[&["import", &bundle], &flags[..]].concat()).succeeded();
        hub.enrol(&host, "site-one");
        hub.wait_for(&name, "should be reported", |d| host::runs(d, "1.0.0"));
        let host_id = host.status()["host_id"].as_str().expect("it should have worked").to_owned();
        let runtime = tokio::runtime::Runtime::new().expect("it should have worked");
        Self { vendor, hub, host, name, host_id, runtime }
    }

    /// `kedgectl support`, as the engineer.
    pub fn engineer(&self, arguments: &[&str]) -> Outcome {
        outcome::run(self.engineer_command().args(arguments))
    }

    /// The same, to be given arguments.
    pub fn engineer_command(&self) -> Command {
        let mut command = Command::new(programs::path("kedgectl"));
        command.arg("support").env("KEDGE_HUB_DATA", self.hub.data()).env("NO_COLOR", "1");
        command.env("KEDGE_SUPPORT_DIR", self.host.path("engineer"));
        command
    }

    /// Asks for this, and gives what came of it.
    pub fn ask(&self, scopes: &str, flags: &[&str]) -> Outcome {
        let (key, root) = (self.vendor.keys().join("support.pem"), self.vendor.keys().join("root"));
        let mut command = self.engineer_command();
        command.args(["request", &self.host_id, "--target", &self.name, "--scope", scopes]);
        command.args(["--ticket", "T-1", "--reason", "it is slow", "--engineer", "ada", "-o", "json"]);
        outcome::run(command.arg("--key").arg(key).arg("--root").arg(root).args(flags))
    }

    /// Asks for this, and gives the session's name.
    #[track_caller]
    pub fn request(&self, scopes: &str, flags: &[&str]) -> String {
        let facts: Value =
            serde_json::from_str(&self.ask(scopes, flags).succeeded()).expect("it should have worked");
        facts["grant_id"].as_str().expect("it should have worked").to_owned()
    }

    /// The customer says yes.
    #[track_caller]
    pub fn approve(&self, grant: &str) {
        self.host.kedge(&["support", "approve", grant, "--yes"]).succeeded();
    }

    /// A session of these scopes, open and held.
    #[track_caller]
    pub fn open(&self, scopes: &str, flags: &[&str]) -> (String, Held) {
        let grant = self.request(scopes, flags);
        self.approve(&grant);
        let held = self.hold(&grant);
        if let Err(why) = held.log.wait_for(0, |line| line.starts_with("open for")) {
            panic!("the session does not open: {why}\nthe agent's log:\n{}", self.host.log().tail());
        }
        (grant, held)
    }

    /// Opens the session, if the host lets it, and holds it.
    pub fn hold(&self, grant: &str) -> Held {
        let mut command = self.engineer_command();
        command.args(["hold", grant]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut process = Guarded::spawn(&mut command).expect("it should have worked");
        let log = Lines::follow(process.child().stderr.take().expect("it should have worked"));
        Held { process, log }
    }

    /// A shell beside the product that is typed these lines and left open.
    pub fn shell(&self, grant: &str, typed: &str) -> (Guarded, Lines) {
        use std::io::Write as _;
        let mut command = self.engineer_command();
        command.args(["shell", &self.service(), "--session", grant]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = Guarded::spawn(&mut command).expect("it should have worked");
        let mut stdin = process.child().stdin.take().expect("it should have worked");
        stdin.write_all(typed.as_bytes()).expect("it should have worked");
        let said = Lines::follow(process.child().stdout.take().expect("it should have worked"));
        // Its end would be the shell's.
        std::mem::forget(stdin);
        (process, said)
    }

    /// Puts a container beside the product's, which the agent leaves alone from then on, as a service of this name.
    pub fn put_beside(&self, service: &str, flags: &[&str], command: &[&str]) -> String {
        self.host.kedge(&["pause", &self.name]).succeeded();
        let name = &self.name;
        let labels = [
            format!("sh.kedge.deployment={name}"),
            format!("com.docker.compose.project={name}"),
            format!("com.docker.compose.service={service}"),
            "com.docker.compose.container-number=1".to_owned(),
        ];
        let container = format!("{name}-{service}");
        let mut arguments = vec!["run", "--detach", "--init", "--name", &container];
        arguments.extend(labels.iter().flat_map(|label| ["--label", label.as_str()]));
        arguments.extend(flags);
        arguments.push(images::BUSYBOX);
        arguments.extend(command);
        self.host.docker().run(&arguments).succeeded();
        format!("{name}/{service}")
    }

    /// A port of a service, brought to this machine: the process, what it says, and where it listens.
    #[track_caller]
    pub fn forward(&self, grant: &str, target: &str, port: u16) -> (Guarded, Lines, std::net::SocketAddr) {
        let mut command = self.engineer_command();
        command.args(["forward", target, &format!("0:{port}"), "--session", grant]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = Guarded::spawn(&mut command).expect("it should have worked");
        let said = Lines::follow(process.child().stdout.take().expect("it should have worked"));
        let noted = Lines::follow(process.child().stderr.take().expect("it should have worked"));
        let (_, line) = said.wait_for(0, |line| line.contains(" leads to ")).expect("it should have worked");
        let address = line.split(' ').next().unwrap_or_default().parse().expect("it should have worked");
        (process, noted, address)
    }

    /// `DEPLOYMENT/SERVICE` of the product's one service.
    pub fn service(&self) -> String {
        format!("{}/{PRODUCT}", self.name)
    }

    /// What the host says of a session.
    #[track_caller]
    pub fn session(&self, grant: &str) -> Value {
        let text = self.host.kedge(&["support", "show", grant, "-o", "json"]).succeeded();
        serde_json::from_str(&text).expect("it should have worked")
    }

    /// Waits until the agent has said that a session is in this state.
    #[track_caller]
    pub fn wait_for(&self, grant: &str, state: &str) {
        let wanted = |line: &str| line.contains(grant) && line.contains(&format!("state=\"{state}\""));
        if let Err(why) = self.host.log().wait_for(0, wanted) {
            panic!("session {grant} should be {state}: {why}");
        }
    }

    /// Containers of a session, in whatever state.
    pub fn containers(&self, grant: &str) -> Vec<String> {
        let filter = format!("label=sh.kedge.support={grant}");
        let all = ["container", "ls", "--all", "--quiet", "--filter", &filter];
        self.host.docker().run(&all).succeeded().lines().map(str::to_owned).collect()
    }

    /// Containers that any session or bundle of this host has left.
    pub fn left(&self) -> String {
        let key = std::fs::read_to_string(self.host.state_dir().join("support/host.pub"));
        let filter = format!("label=sh.kedge.support.host={}", key.expect("it should have worked").trim());
        self.host.docker().run(&["container", "ls", "--all", "--quiet", "--filter", &filter]).succeeded()
    }

    /// Everything in the audit log, one event each.
    pub fn audit(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.audit_log()).expect("it should have worked");
        text.lines()
            .map(|line| serde_json::from_str::<Value>(line).expect("it should have worked")["event"].clone())
            .collect()
    }

    /// Where the audit log is.
    pub fn audit_log(&self) -> PathBuf {
        self.host.state_dir().join("audit/log.jsonl")
    }

    /// Codes of the support requests that were refused.
    pub fn refusals(&self) -> Vec<String> {
        let ours = |event: &&Value| event["what"] == "refused" && event["from"] == "support";
        self.audit()
            .iter()
            .filter(ours)
            .map(|event| event["code"].as_str().expect("it should have worked").to_owned())
            .collect()
    }

    /// A session's files on the engineer's machine.
    pub fn engineers(&self, grant: &str, name: &str) -> Vec<u8> {
        std::fs::read(self.host.path("engineer").join(grant).join(name)).expect("it should have worked")
    }

    // What follows speaks to the hub as whoever owns it can.

    fn hub_client(&self) -> HubClient<Channel> {
        self.runtime.block_on(async {
            let stream = tokio::net::UnixStream::connect(admin_socket(&self.hub.data()))
                .await
                .expect("it should have worked");
            HubClient::new(
                channel::over(stream, channel::Options::default()).await.expect("it should have worked"),
            )
        })
    }

    /// What the host gives out for a request.
    pub fn offer(&self) -> Offer {
        let mut hub = self.hub_client();
        let request = SupportOfferRequest { host: self.host_id.clone() };
        self.runtime.block_on(hub.support_offer(request)).expect("it should have worked").into_inner()
    }

    /// Carries a file to the host as a request, and gives its first word.
    pub fn send(&self, file: &[u8]) -> News {
        let mut hub = self.hub_client();
        let request = SupportRequestRequest { host: self.host_id.clone(), file: file.to_vec() };
        self.runtime.block_on(hub.support_request(request)).expect("it should have worked").into_inner()
    }

    /// A good request of this moment, and the session's key.
    pub fn document(&self, scopes: &str) -> (Request, PrivateKey) {
        let (session_key, public) = PrivateKey::generate().expect("it should have worked");
        let offer = self.offer();
        let key =
            keys::read(&self.vendor.keys().join("support.pem"), || None).expect("it should have worked");
        let now =
            jiff::Timestamp::from_second(jiff::Timestamp::now().as_second()).expect("it should have worked");
        let request = Request {
            format: FORMAT,
            grant_id: format!("{:032x}", rand::random::<u128>()),
            key_id: PublicKey::new(&key.verifying_key(), None).id(),
            product: PRODUCT.into(),
            host_key: offer.host_key,
            agent_nonce: offer.nonce,
            engineer: "ada".into(),
            session_key: public,
            ticket: "T-2".into(),
            reason: "a test".into(),
            terms: Terms {
                scopes: parse_scopes(scopes).expect("it should have worked"),
                targets: [self.name.parse().expect("it should have worked")].into(),
                max_session_seconds: 60,
                max_bytes: 1 << 20,
            },
            issued: now,
            not_after: now + jiff::SignedDuration::from_hours(1),
        };
        (request, session_key)
    }

    /// Signed by the vendor's key of this name.
    pub fn signed(&self, request: &Request, key: &str) -> Vec<u8> {
        let key = keys::read(&self.vendor.keys().join(format!("{key}.pem")), || None)
            .expect("it should have worked");
        request.sign(&[&key]).expect("it should have worked")
    }

    /// A line to the host about a grant.
    pub fn line(&self, grant: &str) -> HubLine {
        let mut hub = self.hub_client();
        let (out, pieces) = mpsc::channel(64);
        let meeting =
            Meeting { grant_id: grant.to_owned(), host: self.host_id.clone(), ..Meeting::default() };
        out.try_send(Piece { body: Some(piece::Body::Meeting(meeting)) }).expect("it should have worked");
        let inbound = self.runtime.block_on(hub.support_connect(ReceiverStream::new(pieces)));
        HubLine {
            out,
            inbound: inbound.ok().map(tonic::Response::into_inner),
            seen: Vec::new(),
            sent: Vec::new(),
        }
    }
}

/// What whoever owns the hub has of a session: sealed pieces, to keep, change and send again.
pub struct HubLine {
    out: mpsc::Sender<Piece>,
    inbound: Option<tonic::Streaming<Piece>>,
    /// What came from the host.
    pub seen: Vec<Vec<u8>>,
    /// What went to it.
    pub sent: Vec<Vec<u8>>,
}

impl HubLine {
    /// Sends a sealed piece, or what is to pass for one.
    pub fn put(&mut self, world: &World, sealed: Vec<u8>) {
        self.sent.push(sealed.clone());
        let piece = Piece { body: Some(piece::Body::Sealed(sealed.into())) };
        let _ = world.runtime.block_on(self.out.send(piece));
    }

    /// The next sealed piece; nothing when the host says no more.
    pub fn get(&mut self, world: &World) -> Option<Vec<u8>> {
        let inbound = self.inbound.as_mut()?;
        let next = async { tokio::time::timeout(std::time::Duration::from_secs(60), inbound.next()).await };
        match world.runtime.block_on(next).expect("the host says no end")?.ok()?.body? {
            piece::Body::Sealed(sealed) => {
                self.seen.push(sealed.to_vec());
                Some(sealed.to_vec())
            }
            piece::Body::Meeting(_) => None,
        }
    }

    /// Opens the tunnel as the engineer would.
    pub fn tunnel(&mut self, world: &World, file: &[u8], key: &PrivateKey) -> Option<Tunnel> {
        let Read { request, digest } = unverified(file).expect("it should have worked");
        let (opening, first) = tunnel::open(key, &request.host_key, digest).expect("it should have worked");
        self.put(world, first);
        let mut tunnel = opening.complete(&self.get(world)?).ok()?;
        self.say(world, &mut tunnel, frame::Body::Hello(Hello {}));
        Some(tunnel)
    }

    /// Says something in the tunnel.
    pub fn say(&mut self, world: &World, tunnel: &mut Tunnel, body: frame::Body) {
        let sealed = tunnel.seal(&Frame { body: Some(body) }.encode_to_vec()).expect("it should have worked");
        self.put(world, sealed);
    }

    /// What the host says in the tunnel; nothing when it says no more.
    pub fn hear(&mut self, world: &World, tunnel: &mut Tunnel) -> Option<frame::Body> {
        let sealed = self.get(world)?;
        Frame::decode(tunnel.unseal(&sealed).ok()?.as_slice()).expect("it should have worked").body
    }
}

impl Held {
    /// Waits until whoever holds it says that it is over, and why.
    #[track_caller]
    pub fn wait_until_over(&mut self) -> String {
        let (_, line) = self
            .log
            .wait_for(0, |line| line.contains("the session is over") || line.contains("KE-75"))
            .expect("it should have worked");
        let _ = self.process.child().wait();
        line
    }
}
