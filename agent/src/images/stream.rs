//! A stream of bytes as something that can be read.

use std::io::{self, Read};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use tokio::sync::mpsc;

use crate::codes;
use crate::host::ByteStream;
use crate::problem::Problem;

/// How long nothing may come.
const SILENCE: Duration = Duration::from_secs(120);

/// Bytes that come in a stream, for a reader that blocks.
pub struct StreamReader {
    chunks: mpsc::Receiver<Result<Bytes, Problem>>,
    current: Bytes,
}

impl StreamReader {
    /// Forwards `stream` from a task of its own, a bounded number of chunks ahead. One that falls silent ends in an error:
    /// whoever holds the turn to bring something in would keep everybody else waiting.
    pub fn new(mut stream: ByteStream, runtime: &tokio::runtime::Handle) -> Self {
        let (sender, chunks) = mpsc::channel(4);
        runtime.spawn(async move {
            loop {
                let chunk = match tokio::time::timeout(SILENCE, stream.next()).await {
                    Ok(Some(chunk)) => chunk,
                    Ok(None) => return,
                    Err(_) => {
                        let why = format!("nothing came for {} s", SILENCE.as_secs());
                        Err(Problem::new(&codes::UNREADABLE, why))
                    }
                };
                let is_last = chunk.is_err();
                if sender.send(chunk).await.is_err() || is_last {
                    return;
                }
            }
        });
        Self { chunks, current: Bytes::new() }
    }
}

impl Read for StreamReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.chunks.blocking_recv() {
                Some(Ok(chunk)) => self.current = chunk,
                Some(Err(problem)) => return Err(io::Error::other(problem)),
                None => return Ok(0),
            }
        }
        let count = buffer.len().min(self.current.len());
        buffer[..count].copy_from_slice(&self.current.split_to(count));
        Ok(count)
    }
}
