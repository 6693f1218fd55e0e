//! The standard streams of a container's own process.

use std::pin::Pin;

use bytes::Bytes;
use futures_util::stream::BoxStream;
use tokio::io::AsyncWrite;

use super::error::Result;
use super::types::Stream;

/// A piece of what a process says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// With a terminal everything is standard output.
    pub stream: Stream,
    /// The bytes, cut anywhere.
    pub bytes: Bytes,
}

/// Both directions.
pub struct Attached {
    /// Ends when the process does.
    pub output: BoxStream<'static, Result<Output>>,
    /// Its standard input, where the container was made with one.
    pub input: Pin<Box<dyn AsyncWrite + Send>>,
}

impl std::fmt::Debug for Attached {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Attached")
    }
}
