//! Holding a session: the engineer's end of the tunnel, shared by the commands of this machine over a socket.

use super::frames;
use super::session::Session;
use crate::cli::client::Data;
use crate::cli::out;
use crate::codes;
use crate::error::{Failure, Result};
use bytes::Bytes;
use kedge_bundle::support::tunnel::{self, Tunnel};
use kedge_proto::support::v1::{Ended, Exit, Frame, Hello, Meeting, Piece, Ping, Welcome, frame, piece};
use prost::Message as _;
use std::collections::HashMap;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;
use std::time::Duration;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;

/// How often the host hears that somebody is here.
const PING: Duration = Duration::from_secs(5);
/// How long opening may take.
const PATIENCE: Duration = Duration::from_secs(40);
/// How long the host may take to hear that it is over.
const FAREWELL: Duration = Duration::from_secs(5);
/// Frames that may wait for a client. One that does not take them is cut off: its credit is less than this.
const WAITING: usize = 64 << 10;
/// Pieces under way to the hub.
const AHEAD: usize = 8;
/// Largest piece that is read, bytes.
const MAX_PIECE: usize = 66 * 1024;

/// Starts a process that holds the session and outlives this one; returns once it is open.
pub(super) async fn in_background(session: &Session) -> Result<()> {
    let failed = |error: std::io::Error| {
        Failure::new(codes::UNEXPECTED, "the session cannot be held in the background").because(error)
    };
    let program = std::env::current_exe().map_err(failed)?;
    let log = std::fs::File::create(session.log()).map_err(failed)?;
    let mut command = tokio::process::Command::new(program);
    command.args(["support", "hold", &session.facts.grant_id, "--sessions"]).arg(session.parent());
    // A group of its own: Ctrl-C here is not meant for it.
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).process_group(0);
    let mut child = command.spawn().map_err(failed)?;
    let open = async {
        loop {
            if session.is_held() {
                return true;
            }
            tokio::select! {
                _ = child.wait() => return false,
                () = tokio::time::sleep(Duration::from_millis(50)) => {}
            }
        }
    };
    if tokio::time::timeout(PATIENCE, open).await.unwrap_or(false) {
        return Ok(());
    }
    let said = std::fs::read_to_string(session.log()).unwrap_or_default();
    let said = said.lines().next().unwrap_or("it does not answer").to_owned();
    Err(Failure::new(codes::SUPPORT_OVER, format!("the session did not open: {}", out::clean(&said))))
}

/// Opens the session and holds it to its end.
pub(super) async fn run(session: &Session) -> Result<()> {
    let (mut line, welcome) = tokio::time::timeout(PATIENCE, open(session)).await.map_err(|_| lost())??;
    let socket = listen(session)?;
    let _remove = RemoveSocket(session.socket());
    out::note(&format!(
        "open for {} s: {} on {}; {}",
        welcome.ends_in_seconds,
        welcome.scopes.join(", "),
        welcome.targets.join(", "),
        out::clean(&welcome.notice)
    ));
    let mut holder =
        Holder { clients: HashMap::new(), channels: HashMap::new(), next_client: 0, next_channel: 0 };
    let (say, mut said) = mpsc::channel::<(u64, Option<frame::Body>)>(64);
    let mut pings = tokio::time::interval(PING);
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
        .map_err(|error| Failure::new(codes::UNEXPECTED, "signals cannot be waited for").because(error))?;
    loop {
        tokio::select! {
            body = line.hear() => match body? {
                frame::Body::Ended(ended) => {
                    return Err(Failure::new(codes::SUPPORT_OVER, format!("the session is over: {}", ended.message)));
                }
                frame::Body::Unknown(unknown) => {
                    let frame = unknown.frame;
                    out::note(&format!("the host's agent is older and does not know frame {frame}: it did nothing"));
                }
                body => holder.deliver(body),
            },
            Ok((stream, _)) = socket.accept() => holder.welcome(stream, say.clone()),
            Some((client, body)) = said.recv() => {
                for body in holder.take(client, body) {
                    if matches!(body, frame::Body::Ended(_)) {
                        return line.end().await;
                    }
                    line.say(body).await?;
                }
            }
            _ = pings.tick() => line.say(frame::Body::Ping(Ping {})).await?,
            _ = terminate.recv() => return line.end().await,
            _ = tokio::signal::ctrl_c() => return line.end().await,
        }
    }
}

/// The tunnel to the host, by way of the hub.
struct Line {
    tunnel: Tunnel,
    out: mpsc::Sender<Piece>,
    inbound: tonic::Streaming<Piece>,
}

async fn open(session: &Session) -> Result<(Line, Welcome)> {
    let read = kedge_bundle::support::unverified(&session.request()?).map_err(crate::error::coded)?;
    let broken = |error: tunnel::Broken| {
        Failure::new(codes::SUPPORT_HOST_KEY, "the host could not prove who it is").because(error)
    };
    let (opening, first) =
        tunnel::open(&session.key()?, &session.facts.host_key, read.digest).map_err(broken)?;
    let (out, pieces) = mpsc::channel(AHEAD);
    let meeting = Meeting {
        grant_id: session.facts.grant_id.clone(),
        host: session.facts.host.clone(),
        ..Meeting::default()
    };
    let to_hub = |body| Piece { body: Some(body) };
    let first_pieces = [to_hub(piece::Body::Meeting(meeting)), to_hub(piece::Body::Sealed(first.into()))];
    let pieces = tokio_stream::iter(first_pieces).chain(ReceiverStream::new(pieces));
    let data = Data { data: session.facts.data.clone() };
    let mut hub = data.connect().await?.max_decoding_message_size(MAX_PIECE);
    let reply = hub.support_connect(pieces).await.map_err(|status| Failure::from_status(&status))?;
    let mut inbound = reply.into_inner();
    let answer = sealed(&mut inbound).await?;
    let mut line = Line { tunnel: opening.complete(&answer).map_err(broken)?, out, inbound };
    line.say(frame::Body::Hello(Hello {})).await?;
    match line.hear().await? {
        frame::Body::Welcome(welcome) => Ok((line, welcome)),
        frame::Body::Ended(ended) => {
            Err(Failure::new(codes::SUPPORT_REFUSED, format!("the host says: {}", ended.message)))
        }
        _ => Err(lost()),
    }
}

async fn sealed(inbound: &mut tonic::Streaming<Piece>) -> Result<Bytes> {
    match inbound.message().await {
        Ok(Some(Piece { body: Some(piece::Body::Sealed(sealed)) })) => Ok(sealed),
        _ => Err(lost()),
    }
}

impl Line {
    async fn say(&mut self, body: frame::Body) -> Result<()> {
        let content = Frame { body: Some(body) }.encode_to_vec();
        let sealed = self.tunnel.seal(&content).map_err(|_| lost())?;
        let piece = Piece { body: Some(piece::Body::Sealed(sealed.into())) };
        self.out.send(piece).await.map_err(|_| lost())
    }

    /// Ends the session, and waits until the host has heard of it: a line that is dropped at once takes what is on its way
    /// with it, and the host would believe that it was lost.
    async fn end(mut self) -> Result<()> {
        self.say(frame::Body::Ended(Ended::default())).await?;
        let Self { out, mut inbound, .. } = self;
        drop(out);
        let heard = async { while let Ok(Some(_)) = inbound.message().await {} };
        let _ = tokio::time::timeout(FAREWELL, heard).await;
        Ok(())
    }

    /// The host's next frame. Cancel safe: opening it takes no waiting.
    async fn hear(&mut self) -> Result<frame::Body> {
        loop {
            let message = sealed(&mut self.inbound).await?;
            let content = self.tunnel.unseal(&message).map_err(|error| {
                Failure::new(codes::SUPPORT_OVER, "somebody between here and the host is tampering")
                    .because(error)
            })?;
            if let Some(body) = Frame::decode(Bytes::from(content)).ok().and_then(|frame| frame.body) {
                return Ok(body);
            }
        }
    }
}

/// Who has which channel. Clients number theirs as they like; on the line every number is new.
struct Holder {
    clients: HashMap<u64, mpsc::Sender<frame::Body>>,
    channels: HashMap<u32, (u64, u32)>,
    next_client: u64,
    next_channel: u32,
}

impl Holder {
    fn welcome(&mut self, stream: UnixStream, say: mpsc::Sender<(u64, Option<frame::Body>)>) {
        self.next_client += 1;
        let client = self.next_client;
        let (sender, mut receiver) = mpsc::channel(WAITING);
        self.clients.insert(client, sender);
        let (from, mut to) = stream.into_split();
        let mut from = frames::Frames::of(from);
        tokio::spawn(async move {
            while let Some(body) = receiver.recv().await {
                if frames::write(&mut to, body).await.is_err() {
                    return;
                }
            }
        });
        tokio::spawn(async move {
            loop {
                let body = from.next().await;
                let is_gone = body.is_none();
                if say.send((client, body)).await.is_err() || is_gone {
                    return;
                }
            }
        });
    }

    /// What a client says, as the host is to hear it.
    fn take(&mut self, client: u64, body: Option<frame::Body>) -> Vec<frame::Body> {
        let Some(mut body) = body else {
            self.clients.remove(&client);
            let gone: Vec<u32> = self
                .channels
                .iter()
                .filter(|(_, (of, _))| *of == client)
                .map(|(channel, _)| *channel)
                .collect();
            self.channels.retain(|_, (of, _)| *of != client);
            let close = |channel| frame::Body::Close(kedge_proto::support::v1::Close { channel });
            return gone.into_iter().map(close).collect();
        };
        if let frame::Body::Open(open) = &mut body {
            self.next_channel += 1;
            self.channels.insert(self.next_channel, (client, open.channel));
            open.channel = self.next_channel;
            return vec![body];
        }
        if matches!(body, frame::Body::Ended(_)) {
            return vec![body];
        }
        let Some(channel) = number(&mut body) else { return Vec::new() };
        let on_line = self
            .channels
            .iter()
            .find(|(_, owner)| **owner == (client, *channel))
            .map(|(on_line, _)| *on_line);
        match on_line {
            Some(on_line) => {
                *channel = on_line;
                vec![body]
            }
            None => Vec::new(),
        }
    }

    /// What the host says, to the client whose channel it is.
    fn deliver(&mut self, mut body: frame::Body) {
        let is_last = matches!(body, frame::Body::Exit(Exit { .. }));
        let Some(channel) = number(&mut body) else { return };
        let Some((client, theirs)) = self.channels.get(channel).copied() else { return };
        if is_last {
            self.channels.remove(channel);
        }
        *channel = theirs;
        if let Some(sender) = self.clients.get(&client)
            && sender.try_send(body).is_err()
        {
            self.clients.remove(&client);
        }
    }
}

fn number(body: &mut frame::Body) -> Option<&mut u32> {
    Some(match body {
        frame::Body::Opened(body) => &mut body.channel,
        frame::Body::Data(body) => &mut body.channel,
        frame::Body::Credit(body) => &mut body.channel,
        frame::Body::Resize(body) => &mut body.channel,
        frame::Body::Exit(body) => &mut body.channel,
        frame::Body::Close(body) => &mut body.channel,
        frame::Body::Finish(body) => &mut body.channel,
        _ => return None,
    })
}

struct RemoveSocket(std::path::PathBuf);

impl Drop for RemoveSocket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn listen(session: &Session) -> Result<UnixListener> {
    let path = session.socket();
    if session.is_held() {
        return Err(Failure::new(codes::SUPPORT_OVER, "the session is held by another process already"));
    }
    let bind = || -> std::io::Result<UnixListener> {
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        Ok(listener)
    };
    bind().map_err(|e| Failure::new(codes::OUTPUT, format!("{} cannot be made", path.display())).because(e))
}

fn lost() -> Failure {
    Failure::new(codes::SUPPORT_OVER, "the line to the host was lost, or the host let nobody in")
}
