//! A port of a service on the host, brought to this machine's loopback: each connection is a channel of the session.

use super::session::Session;
use super::{attach, frames};
use crate::cli::out;
use crate::codes;
use crate::error::{Failure, Result};
use bytes::Bytes;
use kedge_bundle::support::flow;
use kedge_proto::support::v1::{Credit, Data, Finish, Forward, Open, frame, open};
use std::net::Ipv4Addr;
use std::str::FromStr;
use std::sync::Arc;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};

/// Bytes taken before more are asked for.
const TAKEN: u32 = 256 * 1024;
/// Bytes that are read of a connection at once.
const PIECE: usize = 16 * 1024;
/// Pieces that may wait for a connection that is not read. The host's credit is less than this.
const WAITING: usize = 8192;
/// Frames under way to whoever holds the session.
const AHEAD: usize = 4;

/// `PORT` or `LOCAL_PORT:PORT`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ports {
    local: u16,
    remote: u16,
}

impl FromStr for Ports {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let number = |text: &str| text.parse::<u16>().map_err(|_| format!("`{text}` is no port"));
        let (local, remote) = match text.split_once(':') {
            Some((local, remote)) => (number(local)?, number(remote)?),
            None => (number(text)?, number(text)?),
        };
        if remote == 0 { Err("a service listens on no port 0".into()) } else { Ok(Self { local, remote }) }
    }
}

/// Listens until it is interrupted or the session ends.
pub(super) async fn run(session: &Session, target: &str, ports: Ports) -> Result<()> {
    // As long as the session is held, this stays open.
    let mut held = frames::reader(attach::connect(session).await?);
    let failed = |error: std::io::Error| {
        let why = format!("127.0.0.1:{} cannot be listened on", ports.local);
        Failure::new(codes::OUTPUT, why).because(error)
    };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, ports.local)).await.map_err(failed)?;
    let here = listener.local_addr().map_err(failed)?;
    out::text(&format!("{here} leads to port {} of {target}; Ctrl-C ends it\n", ports.remote))?;
    let mut connections = tokio::task::JoinSet::new();
    loop {
        // Cancel safe, all of them.
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                let line = attach::connect(session).await?;
                let forward = open::What::Forward(Forward { port: ports.remote.into() });
                let open = attach::open(target, forward);
                connections.spawn(async move {
                    if let Err(failure) = carry(line, open, stream).await {
                        out::note(&out::clean(&failure.chain()));
                    }
                });
            }
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            frame = held.recv() => if frame.is_none() {
                return Err(Failure::new(codes::SUPPORT_OVER, "the session has ended"));
            },
            // Interrupted: that is how it ends.
            _ = tokio::signal::ctrl_c() => return Ok(()),
        }
    }
}

/// One connection, until either side ends it.
async fn carry(line: tokio::net::UnixStream, open: Open, stream: TcpStream) -> Result<()> {
    let (from, mut to) = line.into_split();
    let mut heard = frames::reader(from);
    frames::write(&mut to, frame::Body::Open(open)).await?;
    let (say, mut said) = mpsc::channel::<frame::Body>(AHEAD);
    let (here, there) = stream.into_split();
    let room = Arc::new(Semaphore::new(0));
    let (arrived, arriving) = mpsc::channel(WAITING);
    let spoken = async {
        while let Some(body) = said.recv().await {
            frames::write(&mut to, body).await?;
        }
        std::future::pending().await
    };
    let heard = async {
        // Let go when the host has said its last word: then what has arrived is all there is.
        let arrived = arrived;
        loop {
            match heard.recv().await {
                Some(frame::Body::Opened(opened)) => add(&room, opened.window),
                Some(frame::Body::Credit(credit)) => add(&room, credit.bytes),
                Some(frame::Body::Data(data)) => {
                    match arrived.try_send(data.bytes) {
                        Ok(()) => {}
                        // Whoever had connected has gone.
                        Err(mpsc::error::TrySendError::Closed(_)) => return Ok(()),
                        Err(mpsc::error::TrySendError::Full(_)) => {
                            return Err(Failure::new(codes::SUPPORT_OVER, "the host sends more than it may"));
                        }
                    }
                }
                Some(frame::Body::Exit(exit)) => return attach::ended(&exit),
                Some(_) => {}
                None => return Err(Failure::new(codes::SUPPORT_OVER, "the session has ended")),
            }
        }
    };
    let carried = async { tokio::join!(heard, down(arriving, there, say.clone())).0 };
    // Cancel safe: a connection that one side has ended is over.
    tokio::select! {
        outcome = carried => outcome,
        lost = spoken => lost,
        () = up(here, &room, say.clone()) => Ok(()),
    }
}

fn add(room: &Semaphore, bytes: u32) {
    let most = Semaphore::MAX_PERMITS - room.available_permits();
    room.add_permits(usize::try_from(bytes).unwrap_or(most).min(most));
}

/// From the host to whoever has connected.
async fn down(
    mut arriving: mpsc::Receiver<Bytes>,
    mut there: OwnedWriteHalf,
    say: mpsc::Sender<frame::Body>,
) {
    let mut taken = 0;
    while let Some(bytes) = arriving.recv().await {
        if there.write_all(&bytes).await.is_err() {
            return;
        }
        taken += u32::try_from(bytes.len()).unwrap_or(0);
        if taken >= TAKEN {
            if say.send(frame::Body::Credit(Credit { channel: 1, bytes: taken })).await.is_err() {
                return;
            }
            taken = 0;
        }
    }
    let _ = there.shutdown().await;
}

/// From whoever has connected to the host, as far as it has room. Returns when the connection is broken.
async fn up(mut here: OwnedReadHalf, room: &Semaphore, say: mpsc::Sender<frame::Body>) {
    let mut piece = vec![0; PIECE];
    loop {
        let body = match here.read(&mut piece).await {
            Ok(0) => frame::Body::Finish(Finish { channel: 1 }),
            Ok(read) => {
                let Ok(permit) = room.acquire_many(flow::cost(read)).await else { return };
                permit.forget();
                let bytes = Bytes::copy_from_slice(&piece[..read]);
                frame::Body::Data(Data { channel: 1, stderr: false, bytes })
            }
            Err(_) => return,
        };
        let is_last = matches!(body, frame::Body::Finish(_));
        if say.send(body).await.is_err() {
            return;
        }
        if is_last {
            // The other direction may go on.
            return std::future::pending().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_read_as_people_type_them() {
        let ports = |local, remote| Ok(Ports { local, remote });
        for (text, expected) in
            [("5432", ports(5432, 5432)), ("15432:5432", ports(15432, 5432)), ("0:80", ports(0, 80))]
        {
            assert_eq!(text.parse(), expected, "{text}");
        }
        for bad in ["", "0", "80:0", ":80", "80:", "a", "1:2:3", "65536", "0.0.0.0:80:80"] {
            assert!(bad.parse::<Ports>().is_err(), "{bad}");
        }
    }
}
