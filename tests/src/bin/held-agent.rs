//! The agent, held: once a deployment has entered the phase that `KEDGE_HOLD_AT` names, and that is on disk, it goes no
//! further and says so on its standard error. A test kills it there, at the worst moment there is; or leaves it there, for the
//! service manager to notice. With `KEDGE_HOLD_ONCE` it holds only if the file of that name is there, and removes it. Its wall
//! clock is as many seconds off as the file says that `KEDGE_CLOCK` names.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use kedge::clock::{Clock, SystemClock};
use kedge::config::Config;
use kedge::engine::docker::Docker;
use kedge::logging;
use kedge::store::Phase;
use kedge::world::Hooks;

struct Hold {
    at: String,
    once: Option<PathBuf>,
}

#[tonic::async_trait]
impl Hooks for Hold {
    async fn entered(&self, _deployment: &str, phase: Phase) {
        if serde_json::to_value(phase).is_ok_and(|name| name == self.at.as_str())
            && self.once.as_ref().is_none_or(|file| std::fs::remove_file(file).is_ok())
        {
            eprintln!("held at {}", self.at);
            std::future::pending::<()>().await;
        }
    }
}

/// A wall clock that is as many seconds off as a file says. The clock that nobody can set is the host's.
struct Shifted(Option<PathBuf>);

impl Clock for Shifted {
    fn now(&self) -> jiff::Timestamp {
        let text = self.0.as_ref().and_then(|path| std::fs::read_to_string(path).ok()).unwrap_or_default();
        let seconds = text.trim().parse().unwrap_or_default();
        SystemClock.now() + jiff::SignedDuration::from_secs(seconds)
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("held-agent: {reason}");
            ExitCode::FAILURE
        }
    }
}

/// `agent --config FILE --state-dir DIR --run-dir DIR --engine URL`, as the tests start `kedge`.
async fn run() -> Result<(), String> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let value = |flag: &str| {
        let at = arguments.iter().position(|a| a == flag).ok_or(format!("{flag} is missing"))?;
        arguments.get(at + 1).cloned().ok_or(format!("{flag} needs a value"))
    };
    let mut config = Config::read(&PathBuf::from(value("--config")?), true).map_err(|p| p.to_string())?;
    config.state_dir = value("--state-dir")?.into();
    config.run_dir = value("--run-dir")?.into();
    config.engine = value("--engine")?;
    let filter = std::env::var(logging::FILTER).unwrap_or_else(|_| config.log.level.clone());
    logging::init(&logging::Options { json: false, filter, colour: false }).map_err(|p| p.to_string())?;
    // No phase has an empty name: nothing is held.
    let hold = std::env::var("KEDGE_HOLD_AT").unwrap_or_default();
    let engine = Arc::new(Docker::at(config.engine.clone()));
    let (clock, hooks) = (
        Arc::new(Shifted(std::env::var_os("KEDGE_CLOCK").map(Into::into))),
        Arc::new(Hold { at: hold, once: std::env::var_os("KEDGE_HOLD_ONCE").map(PathBuf::from) }),
    );
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
        .map_err(|e| e.to_string())?;
    let end = async move {
        terminate.recv().await;
    };
    kedge::daemon::run_with(config, engine, clock, hooks, end).await.map_err(|p| p.to_string())
}
