//! A witness between an agent and its engine: passes everything on, and remembers what was asked that changes something.
//!
//! The engine of a test machine is shared, so looking at all it has proves nothing about one agent. What the agent
//! asked for does.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A socket that leads to the engine.
#[derive(Debug)]
pub struct Witness {
    socket: PathBuf,
    changes: Arc<Mutex<Vec<String>>>,
    sent: Arc<AtomicU64>,
}

impl Witness {
    /// Begins to listen on `socket` and to pass on to `engine`. Goes on for as long as the process does.
    ///
    /// # Panics
    /// When it cannot listen there.
    pub fn between(socket: PathBuf, engine: PathBuf) -> Self {
        let listener = UnixListener::bind(&socket).expect("a free path");
        let changes = Arc::new(Mutex::new(Vec::new()));
        let (noted, sent) = (Arc::clone(&changes), Arc::new(AtomicU64::new(0)));
        let counted = Arc::clone(&sent);
        std::thread::spawn(move || {
            for agent in listener.incoming().map_while(Result::ok) {
                let Ok(engine) = UnixStream::connect(&engine) else { continue };
                let (noted, counted) = (Arc::clone(&noted), Arc::clone(&counted));
                let (Ok(back_from), Ok(back_to)) = (engine.try_clone(), agent.try_clone()) else { continue };
                std::thread::spawn(move || {
                    let mut loading = None;
                    pass(agent, engine, |bytes| {
                        // A request begins where a write begins: that is how HTTP clients send them.
                        let line = bytes.split(|byte| *byte == b'\r').next().unwrap_or_default();
                        let line = String::from_utf8_lossy(line).into_owned();
                        if [&b"POST "[..], b"PUT ", b"DELETE "].iter().any(|verb| bytes.starts_with(verb)) {
                            if line.contains("/images/load") {
                                loading = Some(line);
                            } else {
                                lock(&noted).push(line);
                            }
                        }
                        if loading.is_some() {
                            counted.fetch_add(bytes.len() as u64, Ordering::Relaxed);
                        }
                        // Of an archive that is broken off the engine takes nothing: what counts is its end.
                        if bytes.ends_with(b"0\r\n\r\n") {
                            lock(&noted).extend(loading.take());
                        }
                    });
                });
                std::thread::spawn(move || pass(back_from, back_to, |_| {}));
            }
        });
        Self { socket, changes, sent }
    }

    /// Where an agent finds it.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Every request so far that could change something, by its first line; images, once all of their archive was sent.
    pub fn changes(&self) -> Vec<String> {
        lock(&self.changes).clone()
    }

    /// Requests with images whose archives were sent to their end, and the bytes of all such requests.
    pub fn loads(&self) -> (usize, u64) {
        let requests = lock(&self.changes).iter().filter(|line| line.contains("/images/load")).count();
        (requests, self.sent.load(Ordering::Relaxed))
    }
}

fn lock(changes: &Mutex<Vec<String>>) -> MutexGuard<'_, Vec<String>> {
    changes.lock().unwrap_or_else(PoisonError::into_inner)
}

fn pass(mut from: UnixStream, mut to: UnixStream, mut hear: impl FnMut(&[u8])) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(count) = from.read(&mut buffer) {
        hear(&buffer[..count]);
        if count == 0 || to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    // Whoever has nothing more to say may still listen.
    let _ = to.shutdown(Shutdown::Write);
    let _ = from.shutdown(Shutdown::Read);
}
