//! `hello`: the smallest product worth deploying. It greets, it says whether it is well, and it keeps a count in a
//! volume, so that one can see an update, a roll-back and a restart lose nothing.
//!
//! | request | answer |
//! |---|---|
//! | `GET /` | the greeting and the version |
//! | `GET /healthz` | 200, or 503 when started with `--broken` |
//! | `GET /data`, `POST /data` | the count; one more, on disk before the answer is sent |
//!
//! `hello --check` asks a running `hello` how it is and exits 0 or 1: the image holds nothing else to ask with.
//!
//! There is no signal handler: as an ordinary process the default action of SIGTERM ends it at once, which loses nothing
//! because every count is on disk before it is answered. As process 1 of a container that default would not apply,
//! hence `init: true` in compose.yaml.

mod counter;

use counter::Counter;
use example_http::{Request, Response, ask_own, serve};
use std::env;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::ExitCode;

const PORT: u16 = 8080;
const WORKERS: usize = 4;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let done = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => run(variable("HELLO_BROKEN", "0") == "1"),
        ["--broken"] => run(true),
        ["--check"] => check(),
        _ => Err("usage: hello [--broken | --check]".into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("hello: {reason}");
            ExitCode::FAILURE
        }
    }
}

fn variable(name: &str, default: &str) -> String {
    env::var(name).unwrap_or_else(|_| default.to_owned())
}

fn run(broken: bool) -> Result<(), String> {
    let hello = Hello {
        version: variable("HELLO_VERSION", env!("CARGO_PKG_VERSION")),
        greeting: variable("HELLO_GREETING", "Hello"),
        broken,
        counter: Counter::open(Path::new(&variable("HELLO_DATA", "/data"))),
    };
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT))
        .map_err(|error| format!("cannot listen on port {PORT}: {error}"))?;
    println!("hello {} listens on port {PORT}", hello.version);
    serve(&listener, WORKERS, |request| hello.answer(request))
        .map_err(|error| format!("cannot accept: {error}"))
}

fn check() -> Result<(), String> {
    match ask_own(PORT, "/healthz") {
        Ok(200) => Ok(()),
        Ok(status) => Err(format!("unwell: /healthz answered {status}")),
        Err(error) => Err(format!("no answer from /healthz: {error}")),
    }
}

struct Hello {
    version: String,
    greeting: String,
    broken: bool,
    counter: Counter,
}

impl Hello {
    fn answer(&self, request: &Request) -> Response {
        match (request.method.as_str(), request.path.as_str()) {
            ("GET", "/") => Response::text(200, format!("{} from hello {}\n", self.greeting, self.version)),
            ("GET", "/healthz") if self.broken => Response::text(503, "this version is broken on purpose\n"),
            ("GET", "/healthz") => Response::text(200, "ok\n"),
            ("GET", "/data") => count(self.counter.read()),
            ("POST", "/data") => count(self.counter.increment()),
            (_, "/" | "/healthz" | "/data") => Response::text(405, "GET, or POST to /data\n"),
            _ => Response::text(404, "there are /, /healthz and /data\n"),
        }
    }
}

fn count(result: std::io::Result<u64>) -> Response {
    match result {
        Ok(count) => Response::text(200, format!("{count}\n")),
        Err(error) => Response::text(500, format!("the counter's file: {error}\n")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_request_has_its_answer() {
        let folder = env::temp_dir().join(format!("hello-answers-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let hello = |broken| Hello {
            version: "2.0.0".into(),
            greeting: "Hi".into(),
            broken,
            counter: Counter::open(&folder),
        };
        for (broken, line, status, body) in [
            (false, "GET /", 200, "Hi from hello 2.0.0\n"),
            (false, "GET /healthz", 200, "ok\n"),
            (true, "GET /healthz", 503, "this version is broken on purpose\n"),
            (false, "GET /data", 200, "0\n"),
            (false, "POST /data", 200, "1\n"),
            (true, "POST /data", 200, "2\n"),
            (false, "GET /data", 200, "2\n"),
            (false, "DELETE /data", 405, "GET, or POST to /data\n"),
            (false, "GET /other", 404, "there are /, /healthz and /data\n"),
        ] {
            let request = Request::parse(&format!("{line} HTTP/1.1")).unwrap();
            assert_eq!(hello(broken).answer(&request), Response::text(status, body), "{line}");
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
