//! The server: what one has to do to lose nothing, and no more.

use std::io::{self, Error};
use std::net::Ipv4Addr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;

use crate::PORT;

/// How long each answer takes, so that some are always under way.
const WORK: Duration = Duration::from_millis(20);
/// How long it takes to get ready: it listens first and is well later, as many servers are.
const WARM_UP: Duration = Duration::from_millis(500);

pub(crate) async fn serve() -> io::Result<()> {
    let edition = std::env::var("EDITION").unwrap_or_default();
    let mut end = signal(SignalKind::terminate())?;
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT)).await?;
    let ready_at = tokio::time::Instant::now() + WARM_UP;
    println!("edition {edition} listens");
    let mut under_way = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((stream, _)) = accepted {
                    under_way.spawn(answer(stream, edition.clone(), ready_at));
                }
            }
            Some(_) = under_way.join_next() => {}
            _ = end.recv() => break,
        }
    }
    drop(listener);
    while under_way.join_next().await.is_some() {}
    Ok(())
}

async fn answer(mut stream: TcpStream, edition: String, ready_at: tokio::time::Instant) -> io::Result<()> {
    let mut head = [0; 1024];
    let mut read = 0;
    while !head[..read].ends_with(b"\r\n\r\n") {
        let more = stream.read(head.get_mut(read..).ok_or_else(|| Error::other("too long"))?).await?;
        if more == 0 {
            return Err(Error::other("the client went away"));
        }
        read += more;
    }
    let ready = tokio::time::Instant::now() >= ready_at;
    tokio::time::sleep(WORK).await;
    let status = if ready { "200 OK" } else { "503 Service Unavailable" };
    let length = edition.len();
    let answer =
        format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{edition}");
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}

pub(crate) async fn check() -> io::Result<()> {
    let address = (Ipv4Addr::LOCALHOST, PORT).into();
    crate::ask::request(address, "localhost").await.map(|_| ())
}
