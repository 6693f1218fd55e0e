//! A gRPC channel over one stream that is already connected.
//!
//! It never connects again by itself: when the stream ends, calls fail, and whoever made it decides when
//! there is to be another. That keeps the one TCP connection of the tether one, and its backoff in one place.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tonic::codegen::http::Uri;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

/// How the channel treats its connection.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// What `:scheme` and `:authority` say; `http://kedge` when there is nothing to say.
    pub origin: Option<Uri>,
    /// HTTP/2 pings while idle: every so long, and how long an answer may take. `None`: no pings.
    pub keep_alive: Option<(Duration, Duration)>,
    /// Bytes that may be under way on one stream, twice that on all; HTTP/2's 64 KiB when nothing is said.
    pub stream_window: Option<u32>,
}

/// Speaks HTTP/2 on `stream`.
///
/// # Errors
/// The peer does not speak HTTP/2.
pub async fn over<S>(stream: S, options: Options) -> Result<Channel, tonic::transport::Error>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    // The address is never looked up: the connector below hands out the stream it holds.
    let mut endpoint = Endpoint::from_static("http://kedge");
    if let Some(origin) = options.origin {
        endpoint = endpoint.origin(origin);
    }
    if let Some((interval, timeout)) = options.keep_alive {
        endpoint = endpoint
            .http2_keep_alive_interval(interval)
            .keep_alive_timeout(timeout)
            .keep_alive_while_idle(true);
    }
    if let Some(window) = options.stream_window {
        endpoint = endpoint
            .initial_stream_window_size(window)
            .initial_connection_window_size(window.saturating_mul(2));
    }
    let stream = Arc::new(Mutex::new(Some(TokioIo::new(stream))));
    let hand_out = service_fn(move |_: Uri| {
        let taken = stream.lock().unwrap_or_else(PoisonError::into_inner).take();
        async move { taken.ok_or_else(|| std::io::Error::from(std::io::ErrorKind::NotConnected)) }
    });
    endpoint.connect_with_connector(hand_out).await
}
