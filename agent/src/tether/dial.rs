//! One TCP connection to the hub, direct or through a proxy, and TLS on it. Everything here has a deadline.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::codegen::http::Uri;
use tonic::transport::Channel;

use super::proxy::Proxy;
use crate::channel;
use crate::codes;
use crate::problem::Problem;

/// How long name look-up, connecting and TLS may take together.
const PATIENCE: Duration = Duration::from_secs(30);
/// Port of a hub whose URL names none.
const DEFAULT_PORT: u16 = 443;
/// Longest answer of a proxy to CONNECT, bytes.
const MAX_ANSWER: usize = 8 * 1024;
/// HTTP/2 pings on an idle line: often enough for the routers in between to keep it, rare enough for its
/// bound of 1 KiB a minute.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(10));
/// Bytes of a blob under way, so that distance does not slow a fetch.
const BLOB_WINDOW: u32 = 2 * 1024 * 1024;

/// A host and a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    /// A name or an address, without brackets.
    pub(super) host: String,
    /// The port.
    pub(super) port: u16,
}

impl Address {
    /// Reads `https://HOST[:PORT]`.
    ///
    /// # Errors
    /// [`codes::BAD_HUB`] when that is not what it is.
    pub(super) fn parse_hub(url: &str) -> Result<Self, Problem> {
        let wrong = || {
            let shown: String = url.chars().filter(|c| !c.is_control()).take(200).collect();
            Problem::new(&codes::BAD_HUB, format!("hub `{shown}`: it must be https://HOST[:PORT]"))
        };
        let uri: Uri = url.trim().parse().map_err(|_| wrong())?;
        let path_is_empty = uri.path_and_query().is_none_or(|p| p.as_str() == "/");
        let authority = uri.authority().filter(|a| !a.as_str().contains('@'));
        match (uri.scheme_str(), authority) {
            (Some("https"), Some(authority)) if path_is_empty => {
                Self::parse_authority(authority.as_str(), DEFAULT_PORT).ok_or_else(wrong)
            }
            _ => Err(wrong()),
        }
    }

    /// Reads `HOST[:PORT]`, with brackets around an IPv6 address.
    pub(super) fn parse_authority(text: &str, default_port: u16) -> Option<Self> {
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, after) = rest.split_once(']')?;
                host.parse::<std::net::Ipv6Addr>().ok()?;
                (host, if after.is_empty() { None } else { Some(after.strip_prefix(':')?) })
            }
            None => match text.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            },
        };
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._:".contains(&b);
        if host.is_empty() || host.len() > 253 || !host.bytes().all(plain) {
            return None;
        }
        let port = port.map_or(Some(default_port), |port| port.parse().ok().filter(|p| *p != 0))?;
        Some(Self { host: host.to_owned(), port })
    }

    /// As a URL.
    pub(super) fn to_url(&self) -> String {
        format!("https://{self}")
    }

    pub(super) fn is_loopback(&self) -> bool {
        self.host == "localhost" || self.host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }

    fn server_name(&self) -> Result<ServerName<'static>, Problem> {
        ServerName::try_from(self.host.clone())
            .map_err(|_| Problem::new(&codes::HUB_UNREACHABLE, format!("`{}` cannot be a host", self.host)))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Connects to the hub and speaks gRPC with it. The channel is this one connection and no other.
///
/// # Errors
/// [`codes::HUB_UNREACHABLE`], or [`codes::HUB_IDENTITY`] when something answers that is not the hub.
pub(super) async fn dial(
    hub: &Address,
    proxy: Option<&Proxy>,
    tls: ClientConfig,
) -> Result<Channel, Problem> {
    let connecting = async {
        let stream = connect(hub, proxy).await?;
        let stream = secure(stream, hub, tls).await?;
        let options = channel::Options {
            origin: hub.to_url().parse().ok(),
            keep_alive: Some(KEEP_ALIVE),
            stream_window: Some(BLOB_WINDOW),
        };
        let failed = |e| Problem::from_error(&codes::HUB_UNREACHABLE, &e).at(hub);
        channel::over(stream, options).await.map_err(failed)
    };
    tokio::time::timeout(PATIENCE, connecting).await.unwrap_or_else(|_| {
        Err(unreachable(hub, proxy, &format!("no answer within {} s", PATIENCE.as_secs())))
    })
}

fn unreachable(hub: &Address, proxy: Option<&Proxy>, why: &str) -> Problem {
    let via = proxy.map(|proxy| format!(" through the proxy {}", proxy.address)).unwrap_or_default();
    Problem::new(&codes::HUB_UNREACHABLE, format!("{hub}{via}: {why}"))
}

async fn connect(hub: &Address, proxy: Option<&Proxy>) -> Result<TcpStream, Problem> {
    let next = proxy.map_or(hub, |proxy| &proxy.address);
    let failed = |e: std::io::Error| unreachable(hub, proxy, &e.to_string());
    let mut stream = TcpStream::connect((next.host.as_str(), next.port)).await.map_err(failed)?;
    stream.set_nodelay(true).map_err(failed)?;
    if let Some(proxy) = proxy {
        tunnel(&mut stream, hub, proxy).await.map_err(|why| unreachable(hub, Some(proxy), &why))?;
    }
    Ok(stream)
}

/// Asks the proxy for the way to the hub (RFC 9110, 9.3.6).
async fn tunnel(stream: &mut TcpStream, hub: &Address, proxy: &Proxy) -> Result<(), String> {
    let mut request = zeroize::Zeroizing::new(format!("CONNECT {hub} HTTP/1.1\r\nHost: {hub}\r\n"));
    if let Some(authorization) = &proxy.authorization {
        request.push_str("Proxy-Authorization: ");
        request.push_str(authorization);
        request.push_str("\r\n");
    }
    request.push_str("\r\n");
    stream.write_all(request.as_bytes()).await.map_err(|e| e.to_string())?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        // Byte by byte, so that nothing of what comes after the answer is taken: it is the hub's.
        let byte = stream.read_u8().await.map_err(|_| "the proxy hung up".to_owned())?;
        answer.push(byte);
        if answer.len() > MAX_ANSWER {
            return Err("the proxy's answer does not end".to_owned());
        }
    }
    match status_of(&answer) {
        Some(200..300) => Ok(()),
        Some(407) => Err("the proxy wants a user name and password, or others than it was given".to_owned()),
        Some(status) => Err(format!("the proxy refuses with status {status}")),
        None => Err("the proxy does not speak HTTP".to_owned()),
    }
}

fn status_of(answer: &[u8]) -> Option<u16> {
    let line = std::str::from_utf8(answer.split(|b| *b == b'\r').next()?).ok()?;
    let mut parts = line.split(' ');
    parts.next()?.strip_prefix("HTTP/1.")?;
    parts.next()?.parse().ok()
}

async fn secure(
    stream: TcpStream,
    hub: &Address,
    config: ClientConfig,
) -> Result<TlsStream<TcpStream>, Problem> {
    let connector = TlsConnector::from(Arc::new(config));
    connector.connect(hub.server_name()?, stream).await.map_err(|e| {
        match e.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(rustls::Error::InvalidCertificate(why)) => {
                let message = format!("{hub}: {}", super::trust::explain(why));
                Problem::new(&codes::HUB_IDENTITY, message)
            }
            _ => Problem::new(&codes::HUB_UNREACHABLE, format!("{hub}: TLS: {e}")),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hub_is_an_https_url_without_anything_else() {
        let good = [
            ("https://hub.example.com", "hub.example.com:443"),
            ("https://hub.example.com:8443/", "hub.example.com:8443"),
            (" https://10.0.0.1:1 ", "10.0.0.1:1"),
            ("https://[::1]:8443", "[::1]:8443"),
        ];
        for (url, expected) in good {
            assert_eq!(Address::parse_hub(url).unwrap().to_string(), expected, "{url}");
        }
        let bad = [
            "",
            "hub",
            "http://hub",
            "https://",
            "https://hub/path",
            "https://me:pw@hub",
            "https://hub:0",
            "https://hub:99999",
            "https://hub?x",
            "ftp://hub",
            "https://h_b\u{7f}",
        ];
        for url in bad {
            assert!(Address::parse_hub(url).is_err(), "{url}");
        }
    }

    #[test]
    fn a_proxys_answer_is_its_status() {
        assert_eq!(status_of(b"HTTP/1.1 200 Connection established\r\n\r\n"), Some(200));
        assert_eq!(status_of(b"HTTP/1.0 407 x\r\nA: b\r\n\r\n"), Some(407));
        assert_eq!(status_of(b"SSH-2.0-OpenSSH\r\n\r\n"), None);
        assert_eq!(status_of(b"\xff\r\n"), None);
    }
}
