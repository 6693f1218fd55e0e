//! Between a host and its hub: counts the bytes that come.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Forwards connections and counts what comes back. Goes on for as long as the process does.
#[derive(Debug)]
pub struct Counter {
    address: SocketAddr,
    moved: Arc<AtomicU64>,
}

impl Counter {
    /// Begins to listen, and to forward to the hub at this address.
    ///
    /// # Panics
    /// When it cannot listen.
    pub fn before(hub: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it listens");
        let moved = Arc::new(AtomicU64::new(0));
        let (count, hub) = (moved.clone(), hub.to_owned());
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(&hub) else { continue };
                let (Ok(from), Ok(to)) = (client.try_clone(), server.try_clone()) else { continue };
                std::thread::spawn(move || pump(from, to, None));
                let count = count.clone();
                std::thread::spawn(move || pump(server, client, Some(&count)));
            }
        });
        Self { address, moved }
    }

    /// Where the hub is reached through this.
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// Bytes that have come from the hub.
    pub fn moved(&self) -> u64 {
        self.moved.load(Ordering::Relaxed)
    }
}

fn pump(mut from: TcpStream, mut to: TcpStream, count: Option<&AtomicU64>) {
    let mut buffer = [0; 16 << 10];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        if let Some(count) = count {
            count.fetch_add(read as u64, Ordering::Relaxed);
        }
        if to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}
