//! The client: sends requests, each over a connection of its own to a name that it resolves anew, and sends none twice.
//!
//! There are two kinds of clients. One tries the addresses of a name one after the other until it is connected, as the C
//! library's users, curl and most languages' HTTP clients do; that is no retry, since no request was sent yet. The
//! other knows only the first address.

use std::io::{self, Error};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;

use kedge_tests::rig::requests::Told;

use crate::PORT;
use crate::resolve::resolve;

/// Requests of each kind under way at the same moment.
const WORKERS: usize = 4;
/// Longest time for connecting to one address, and for a whole request.
const PATIENCE: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(15));

/// Which addresses a client tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    All,
    First,
}

pub(crate) async fn ask(name: &str) -> io::Result<()> {
    let mut end = signal(SignalKind::terminate())?;
    println!("asking {name}");
    let stop = tokio::sync::watch::Sender::new(false);
    let all =
        [Kind::All, Kind::First].map(|kind| tokio::spawn(of_kind(kind, name.to_owned(), stop.subscribe())));
    end.recv().await;
    stop.send_replace(true);
    for told in all {
        let told = told.await.map_err(Error::other)?;
        println!("{}", serde_json::to_string(&told)?);
    }
    Ok(())
}

async fn of_kind(kind: Kind, name: String, stop: tokio::sync::watch::Receiver<bool>) -> Told {
    let (sender, mut receiver) = tokio::sync::mpsc::channel(64);
    let mut workers = JoinSet::new();
    for _ in 0..WORKERS {
        let (name, stop, sender) = (name.clone(), stop.clone(), sender.clone());
        workers.spawn(async move {
            while !*stop.borrow() {
                let began = Instant::now();
                let answer = tokio::time::timeout(PATIENCE.1, once(kind, &name)).await;
                let answer = answer.unwrap_or_else(|_| Err(Error::other("no answer in time")));
                let _ = sender.send((began.elapsed(), answer)).await;
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
    }
    drop(sender);
    let mut told = Told { kind: format!("{kind:?}").to_lowercase(), ..Told::default() };
    let mut last = Instant::now();
    while let Some((took, answer)) = receiver.recv().await {
        told.sent += 1;
        match answer {
            Ok(edition) => {
                told.gap_ms = told.gap_ms.max(millis(last.elapsed()));
                last = Instant::now();
                told.slowest_ms = told.slowest_ms.max(millis(took));
                *told.editions.entry(edition).or_default() += 1;
            }
            Err(error) => {
                told.lost += 1;
                *told.reasons.entry(error.to_string()).or_default() += 1;
            }
        }
    }
    told
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// One request: resolved, connected, sent, answered.
async fn once(kind: Kind, name: &str) -> io::Result<String> {
    let mut addresses = resolve(name).await?;
    if kind == Kind::First {
        addresses.truncate(1);
    }
    let mut last = Error::other("no address");
    for address in addresses {
        match connect((address, PORT).into()).await {
            Ok(stream) => return converse(stream, name).await,
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// One request to one address.
pub(crate) async fn request(address: SocketAddr, name: &str) -> io::Result<String> {
    converse(connect(address).await?, name).await
}

async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let connected = tokio::time::timeout(PATIENCE.0, TcpStream::connect(address)).await;
    connected.map_err(|_| Error::other("no connection in time"))?
}

async fn converse(mut stream: TcpStream, name: &str) -> io::Result<String> {
    let head = format!("GET / HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    let mut answer = String::new();
    (&mut stream).take(4096).read_to_string(&mut answer).await?;
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.starts_with("HTTP/1.1 200 ") => Ok(body.to_owned()),
        Some((head, _)) => Err(Error::other(head.lines().next().unwrap_or_default().to_owned())),
        None => Err(Error::other("cut off")),
    }
}
