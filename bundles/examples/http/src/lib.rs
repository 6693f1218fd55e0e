//! The little HTTP that the example servers share: standard library only, so that an example is one static binary
//! in an otherwise empty image.
//!
//! One request a connection, a fixed number of worker threads, and everything that a client sends is bounded in size
//! and in time. Behind a real front (nginx in `three-tier`) or on loopback (`hello`) that is enough; it is no
//! general-purpose server.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

/// The most bytes of request line and headers that are read before the request is refused.
const HEAD_LIMIT: usize = 8 * 1024;
/// The most bytes of a body that are read, and thrown away, before the answer is sent.
const BODY_LIMIT: u64 = 64 * 1024;
/// How long a client may take to send its request, and to take the answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// What was asked, without headers or body: the examples need neither.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The method as sent, such as `GET`.
    pub method: String,
    /// The path without the query, such as `/rows`.
    pub path: String,
    /// The query's pairs in order, decoded.
    pub query: Vec<(String, String)>,
    /// The body's announced length in bytes.
    body: u64,
}

/// What is answered: a status and a short text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The HTTP status.
    pub status: u16,
    /// The body's media type.
    pub content_type: &'static str,
    /// The body.
    pub body: String,
}

impl Response {
    /// A plain text answer.
    pub fn text(status: u16, body: impl Into<String>) -> Self {
        Self { status, content_type: "text/plain; charset=utf-8", body: body.into() }
    }

    /// An answer whose body the caller has already written as JSON.
    pub fn json(status: u16, body: impl Into<String>) -> Self {
        Self { status, content_type: "application/json", body: body.into() }
    }
}

impl Request {
    /// Reads request line and headers, which end with an empty line. `None` if they are not HTTP/1.
    pub fn parse(head: &str) -> Option<Self> {
        let mut lines = head.split("\r\n");
        let mut words = lines.next()?.split(' ');
        let (method, target, protocol) = (words.next()?, words.next()?, words.next()?);
        if words.next().is_some() || !protocol.starts_with("HTTP/1.") || !target.starts_with('/') {
            return None;
        }
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let query =
            query.split('&').filter(|pair| !pair.is_empty()).map(decode_pair).collect::<Option<_>>()?;
        let mut body = 0;
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            if name.eq_ignore_ascii_case("content-length") {
                body = value.trim().parse().ok()?;
            }
        }
        Some(Self { method: method.to_owned(), path: path.to_owned(), query, body })
    }

    /// The first value of a query parameter.
    pub fn param(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

fn decode_pair(pair: &str) -> Option<(String, String)> {
    let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
    Some((decode(key)?, decode(value)?))
}

/// Undoes percent-encoding, and `+` for a space. `None` if the result would not be UTF-8.
fn decode(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut out = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || char::from(bytes.next()?).to_digit(16);
                u8::try_from(digit()? * 16 + digit()?).ok()?
            }
            other => other,
        });
    }
    String::from_utf8(out).ok()
}

/// Answers requests on `listener` with `workers` threads. Returns only when accepting fails for good.
pub fn serve(
    listener: &TcpListener,
    workers: usize,
    answer: impl Fn(&Request) -> Response + Sync,
) -> io::Result<()> {
    thread::scope(|scope| {
        let work = || -> io::Result<()> {
            loop {
                match listener.accept() {
                    // A client that went away or dawdled is the client's loss.
                    Ok((stream, _)) => drop(converse(stream, &answer)),
                    Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                    Err(error) => return Err(error),
                }
            }
        };
        for _ in 1..workers {
            scope.spawn(work);
        }
        work()
    })
}

fn converse(mut stream: TcpStream, answer: &impl Fn(&Request) -> Response) -> io::Result<()> {
    stream.set_write_timeout(Some(PATIENCE))?;
    let response = match read_request(&mut stream)? {
        Some(request) => answer(&request),
        None => Response::text(400, "bad request\n"),
    };
    let Response { status, content_type, body } = response;
    let head = format!(
        "HTTP/1.1 {status} {}\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        reason(status),
        body.len()
    );
    stream.write_all((head + &body).as_bytes())
}

/// Reads head and body within the limits. `None` for what is no request, or too large a one.
fn read_request(stream: &mut TcpStream) -> io::Result<Option<Request>> {
    let deadline = Instant::now() + PATIENCE;
    let mut seen = Vec::new();
    let end = loop {
        if let Some(at) = seen.windows(4).position(|window| window == b"\r\n\r\n") {
            break at;
        }
        if seen.len() > HEAD_LIMIT || read_some(stream, deadline, &mut seen)? == 0 {
            return Ok(None);
        }
    };
    let Some(request) = std::str::from_utf8(&seen[..end]).ok().and_then(Request::parse) else {
        return Ok(None);
    };
    if request.body > BODY_LIMIT {
        return Ok(None);
    }
    // A body left unread would make the kernel reset the connection under the answer.
    while ((seen.len() - end - 4) as u64) < request.body {
        if read_some(stream, deadline, &mut seen)? == 0 {
            return Ok(None);
        }
    }
    Ok(Some(request))
}

fn read_some(stream: &mut TcpStream, deadline: Instant, seen: &mut Vec<u8>) -> io::Result<usize> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(io::ErrorKind::TimedOut.into());
    }
    stream.set_read_timeout(Some(left))?;
    let mut chunk = [0; 1024];
    let count = stream.read(&mut chunk)?;
    seen.extend_from_slice(&chunk[..count]);
    Ok(count)
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        503 => "Service Unavailable",
        _ => "Internal Server Error",
    }
}

/// Asks the server on this machine's own `port` for `path` and returns the status: the health check of an image that
/// holds no shell and no `curl`.
pub fn ask_own(port: u16, path: &str) -> io::Result<u16> {
    let mut stream = TcpStream::connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)), PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
    // "HTTP/1.1 200": the status is bytes 9 to 12.
    let mut start = [0; 12];
    stream.read_exact(&mut start)?;
    let status = std::str::from_utf8(&start[9..]).ok().and_then(|digits| digits.parse().ok());
    status.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the answer is not HTTP"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_taken_apart() {
        let request =
            Request::parse("POST /rows?value=a%20b+c&x HTTP/1.1\r\nHost: h\r\ncontent-LENGTH: 7").unwrap();
        assert_eq!((request.method.as_str(), request.path.as_str(), request.body), ("POST", "/rows", 7));
        assert_eq!(request.param("value"), Some("a b c"));
        assert_eq!(request.param("x"), Some(""));
        assert_eq!(request.param("y"), None);
    }

    #[test]
    fn what_is_not_http_is_refused() {
        for head in [
            "",
            "GET",
            "GET /",
            "GET / SPDY/3",
            "GET x HTTP/1.1",
            "GET / HTTP/1.1 x",
            "GET /?a=%zz HTTP/1.1",
            "GET /?a=%ff HTTP/1.1",
            "GET /?a=%f HTTP/1.1",
            "GET / HTTP/1.1\r\nContent-Length: -1",
        ] {
            assert_eq!(Request::parse(head), None, "{head:?}");
        }
    }

    /// Starts a server whose thread ends with the test process, and returns its port.
    fn start() -> u16 {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        thread::spawn(move || {
            serve(&listener, 2, |request| match request.path.as_str() {
                "/ok" => Response::text(200, "yes"),
                _ => Response::text(404, "no"),
            })
        });
        port
    }

    fn exchange(port: u16, request: &[u8]) -> String {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        stream.write_all(request).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    #[test]
    fn the_own_status_is_seen() {
        let port = start();
        assert_eq!(ask_own(port, "/ok").unwrap(), 200);
        assert_eq!(ask_own(port, "/other").unwrap(), 404);
    }

    #[test]
    fn a_body_is_read_before_the_answer_is_sent() {
        let answer = exchange(start(), b"POST /ok HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello");
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\nyes"), "{answer}");
    }

    #[test]
    fn a_body_over_the_limit_is_refused() {
        let answer = exchange(start(), b"POST /ok HTTP/1.1\r\nContent-Length: 65537\r\n\r\n");
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    }
}
