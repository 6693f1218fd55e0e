//! The one TCP port: TLS 1.2 and 1.3, client certificates asked for but not demanded.
//!
//! Enrolment must work without a certificate and the tether never does, and both share a port, so the
//! handshake takes either and each service checks what it got. Handshakes run side by side, bounded in number and in time, so that
//! a silent peer holds up nobody. The server's certificate is looked up at each handshake and can be
//! replaced at any moment.

use super::ca::{self, Authority, SERVER_LIFE};
use crate::codes;
use crate::error::{Failure, Result};
use jiff::Timestamp;
use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Sleep;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;
use tracing::{debug, warn};

/// Handshakes at one time; the kernel's backlog holds the rest.
const HANDSHAKES: usize = 1024;
/// Time for one.
const HANDSHAKE_TIME: Duration = Duration::from_secs(10);

/// How long a connection without certificate may last: enough to enrol, too short to pile up.
const STRANGER_TIME: Duration = Duration::from_secs(30);

/// Who is at the other end of a connection.
#[derive(Debug, Clone)]
pub(super) struct Peer {
    /// Its address, or its proxy's.
    pub(super) address: SocketAddr,
    /// The host named by a certificate of this hub; none without one.
    pub(super) host: Option<Arc<str>>,
}

/// An accepted connection.
pub(super) struct Connection {
    stream: TlsStream<TcpStream>,
    peer: Peer,
    /// Only for peers without certificate.
    deadline: Option<Pin<Box<Sleep>>>,
}

/// The server's certificate at this moment.
#[derive(Debug)]
pub(super) struct ServerCertificate {
    current: Mutex<Arc<CertifiedKey>>,
}

impl ServerCertificate {
    /// Makes the first one.
    pub(super) fn new(authority: &Authority, names: &[String], now: Timestamp) -> Result<Self> {
        Ok(ServerCertificate { current: Mutex::new(make(authority, names, now)?) })
    }

    /// Makes another one, for handshakes from now on.
    pub(super) fn renew(&self, authority: &Authority, names: &[String], now: Timestamp) -> Result<()> {
        let renewed = make(authority, names, now)?;
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = renewed;
        Ok(())
    }

    /// How long after making one the next is due.
    pub(super) fn renewal() -> Duration {
        SERVER_LIFE.unsigned_abs() / 2
    }
}

fn make(authority: &Authority, names: &[String], now: Timestamp) -> Result<Arc<CertifiedKey>> {
    let (certificate, key) = authority.server_certificate(names, now)?;
    let key = rustls::crypto::ring::sign::any_supported_type(&key)
        .map_err(|error| Failure::new(codes::AUTHORITY, "the server's key cannot be used").because(error))?;
    Ok(Arc::new(CertifiedKey::new(vec![certificate, authority.certificate().clone()], key)))
}

impl ResolvesServerCert for ServerCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

/// The TLS side of the port.
pub(super) fn tls(authority: &Authority, certificate: Arc<ServerCertificate>) -> Result<TlsAcceptor> {
    let failure = |message| Failure::new(codes::AUTHORITY, message);
    let provider: Arc<CryptoProvider> = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots
        .add(authority.certificate().clone())
        .map_err(|error| failure("the hub's own authority is not accepted by TLS").because(error))?;
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .allow_unauthenticated()
        .build()
        .map_err(|error| failure("client certificates cannot be verified").because(error))?;
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| failure("TLS cannot be configured").because(error))?
        .with_client_cert_verifier(clients)
        .with_cert_resolver(certificate);
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Accepts until the receiver is gone.
pub(super) async fn accept(
    listener: TcpListener,
    tls: TlsAcceptor,
    ready: mpsc::Sender<std::io::Result<Connection>>,
) {
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES));
    loop {
        let Ok(permit) = handshakes.clone().acquire_owned().await else { return };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = ready.closed() => return,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, most often: give connections time to end.
                warn!("A connection could not be accepted: {error}.");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (tls, ready) = (tls.clone(), ready.clone());
        tokio::spawn(async move {
            let _permit = permit;
            match tokio::time::timeout(HANDSHAKE_TIME, handshake(tls, stream, address)).await {
                Ok(Ok(connection)) => drop(ready.send(Ok(connection)).await),
                Ok(Err(error)) => debug!(%address, "The handshake with {address} failed: {error}."),
                Err(_) => debug!(%address, "{address} did not finish its handshake in time."),
            }
        });
    }
}

async fn handshake(tls: TlsAcceptor, stream: TcpStream, address: SocketAddr) -> std::io::Result<Connection> {
    stream.set_nodelay(true)?;
    let stream = tls.accept(stream).await?;
    let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let host = certificate.and_then(|certificate| ca::host_of(certificate)).map(Arc::from);
    let deadline = if host.is_none() { Some(Box::pin(tokio::time::sleep(STRANGER_TIME))) } else { None };
    Ok(Connection { stream, peer: Peer { address, host }, deadline })
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        // HTTP/2 always has a read under way, so the deadline is always watched.
        if self.deadline.as_mut().is_some_and(|deadline| deadline.as_mut().poll(cx).is_ready()) {
            return Poll::Ready(Err(std::io::ErrorKind::TimedOut.into()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
