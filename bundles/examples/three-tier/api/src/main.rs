//! `api`: the middle tier of the example `three-tier`. Rows live in PostgreSQL, which is the truth; Redis counts the
//! writes, which is convenience.
//!
//! | request | answer |
//! |---|---|
//! | `GET /` | the version |
//! | `GET /healthz` | 200 when both backends answer, else 503 and why |
//! | `POST /rows?value=…` | 201 and the row's id, once PostgreSQL has it on disk |
//! | `GET /rows` | how many rows, the greatest id, and the writes counted by Redis |
//!
//! `api migrate` brings the tables up to date and exits: a one-shot job that the service waits for. `api check` is the
//! health check of an image that holds nothing but this program.

mod backends;
mod redis;

use backends::Backends;
use example_http::{Request, Response, ask_own, serve};
use std::env;
use std::net::{Ipv4Addr, TcpListener};
use std::process::ExitCode;

const PORT: u16 = 8080;
const WORKERS: usize = 8;
/// The longest value of a row, in bytes.
const VALUE_LIMIT: usize = 1024;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let done = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] | ["serve"] => run(),
        ["migrate"] => migrate(),
        ["check"] => check(),
        _ => Err("usage: api [serve | migrate | check]".into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("api: {reason}");
            ExitCode::FAILURE
        }
    }
}

fn version() -> String {
    env::var("API_VERSION").unwrap_or_else(|_| env!("CARGO_PKG_VERSION").to_owned())
}

fn run() -> Result<(), String> {
    let broken = env::var("API_BROKEN").is_ok_and(|value| value == "1");
    let api = Api { version: version(), broken, backends: Backends::from_environment()? };
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT))
        .map_err(|error| format!("cannot listen on port {PORT}: {error}"))?;
    println!("api {} listens on port {PORT}", api.version);
    serve(&listener, WORKERS, |request| api.answer(request))
        .map_err(|error| format!("cannot accept: {error}"))
}

fn migrate() -> Result<(), String> {
    Backends::from_environment()?.migrate()?;
    println!("api {}: the tables are up to date", version());
    Ok(())
}

fn check() -> Result<(), String> {
    match ask_own(PORT, "/healthz") {
        Ok(200) => Ok(()),
        Ok(status) => Err(format!("unwell: /healthz answered {status}")),
        Err(error) => Err(format!("no answer from /healthz: {error}")),
    }
}

struct Api {
    version: String,
    broken: bool,
    backends: Backends,
}

impl Api {
    fn answer(&self, request: &Request) -> Response {
        let answered = match (request.method.as_str(), request.path.as_str()) {
            ("GET", "/") => Ok(Response::text(200, format!("three-tier {}\n", self.version))),
            ("GET", "/healthz") if self.broken => Err("this version is broken on purpose".into()),
            ("GET", "/healthz") => self.backends.ping().map(|()| Response::text(200, "ok\n")),
            ("GET", "/rows") => self.backends.rows().map(|rows| Response::json(200, rows.to_json())),
            ("POST", "/rows") => match request.param("value") {
                Some(value) if !value.contains('\0') && (1..=VALUE_LIMIT).contains(&value.len()) => {
                    self.backends.insert(value, &self.version).map(|row| Response::json(201, row.to_json()))
                }
                _ => Ok(Response::text(400, format!("value: 1 to {VALUE_LIMIT} bytes of text\n"))),
            },
            (_, "/" | "/healthz" | "/rows") => Ok(Response::text(405, "GET, or POST to /rows\n")),
            _ => Ok(Response::text(404, "there are /, /healthz and /rows\n")),
        };
        answered.unwrap_or_else(|reason| Response::text(503, format!("{reason}\n")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_needs_no_backend_is_answered_without_one() {
        // Ports of the loopback that nobody listens on: a backend that is asked is unreachable at once.
        let backends = || Backends::new("host=127.0.0.1 port=1 user=nobody", "127.0.0.1:1").unwrap();
        let long = "x".repeat(VALUE_LIMIT + 1);
        for (broken, line, status) in [
            (false, "GET /".to_owned(), 200),
            (true, "GET /healthz".to_owned(), 503),
            (false, "GET /healthz".to_owned(), 503),
            (false, "GET /rows".to_owned(), 503),
            (false, "POST /rows?value=a".to_owned(), 503),
            (false, "POST /rows".to_owned(), 400),
            (false, "POST /rows?value=".to_owned(), 400),
            (false, "POST /rows?value=%00".to_owned(), 400),
            (false, format!("POST /rows?value={long}"), 400),
            (false, "PUT /rows".to_owned(), 405),
            (false, "GET /other".to_owned(), 404),
        ] {
            let api = Api { version: "1.0.0".into(), broken, backends: backends() };
            let request = Request::parse(&format!("{line} HTTP/1.1")).unwrap();
            assert_eq!(api.answer(&request).status, status, "{line}");
        }
    }
}
