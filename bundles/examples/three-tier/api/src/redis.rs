//! The three things that the API asks of Redis, as inline commands over one connection each. A client library would be
//! half of the program.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(3);
/// The most bytes of an answer that are read: none of ours is longer than a number or an error's text.
const ANSWER_LIMIT: u64 = 1024;

/// A Redis at an address, asked anew each time.
pub(crate) struct Redis {
    address: String,
}

impl Redis {
    /// `address` is `host:port`; nothing is connected yet.
    pub(crate) fn new(address: &str) -> Self {
        Self { address: address.to_owned() }
    }

    /// Redis answers and has finished loading its data.
    pub(crate) fn ping(&self) -> Result<(), String> {
        self.ask("PING").map(drop)
    }

    /// Adds one to a number and returns it.
    pub(crate) fn increment(&self, key: &str) -> Result<i64, String> {
        number(&self.ask(&format!("INCR {key}"))?)
    }

    /// A number; 0 if it was never set.
    pub(crate) fn get(&self, key: &str) -> Result<i64, String> {
        let answer = self.ask(&format!("GET {key}"))?;
        if answer.is_empty() { Ok(0) } else { number(&answer) }
    }

    fn ask(&self, command: &str) -> Result<String, String> {
        self.exchange(command).map_err(|error| format!("Redis at {}: {error}", self.address))
    }

    fn exchange(&self, command: &str) -> io::Result<String> {
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        for address in self.address.to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, PATIENCE) {
                Ok(mut stream) => {
                    stream.set_read_timeout(Some(PATIENCE))?;
                    stream.set_write_timeout(Some(PATIENCE))?;
                    stream.write_all(format!("{command}\r\n").as_bytes())?;
                    return read_answer(BufReader::new(stream.take(ANSWER_LIMIT)));
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

fn number(answer: &str) -> Result<i64, String> {
    answer.parse().map_err(|_| format!("Redis: {answer:?} is not a number"))
}

/// Reads one answer: `+text`, `:number`, `-error`, or `$length` and a line; nil (`$-1`) reads as the empty text.
fn read_answer(mut stream: impl BufRead) -> io::Result<String> {
    let line = read_line(&mut stream)?;
    match line.split_at_checked(1) {
        Some(("+" | ":", text)) => Ok(text.to_owned()),
        Some(("$", "-1")) => Ok(String::new()),
        Some(("$", _)) => read_line(&mut stream),
        Some(("-", text)) => Err(io::Error::other(text.to_owned())),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "the answer is not Redis's")),
    }
}

fn read_line(stream: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    stream.read_line(&mut line)?;
    match line.strip_suffix("\r\n") {
        Some(line) => Ok(line.to_owned()),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_answer_is_read() {
        for (bytes, text) in
            [("+PONG\r\n", "PONG"), (":12\r\n", "12"), ("$2\r\n34\r\n", "34"), ("$-1\r\n", "")]
        {
            assert_eq!(read_answer(bytes.as_bytes()).unwrap(), text);
        }
    }

    #[test]
    fn errors_and_cut_or_foreign_answers_are_errors() {
        for bytes in ["-LOADING data\r\n", "", "+PO", "$2\r\n3", "HTTP/1.1 400\r\n", "\r\n"] {
            assert!(read_answer(bytes.as_bytes()).is_err(), "{bytes:?}");
        }
    }
}
