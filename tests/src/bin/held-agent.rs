//! The agent, held: once a deployment has entered the phase that `KEDGE_HOLD_AT` names, and that is on disk, it goes no
//! further and says so on its standard error. A test kills it there, at the worst moment there is.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use kedge::clock::SystemClock;
use kedge::config::Config;
use kedge::engine::docker::Docker;
use kedge::logging;
use kedge::store::Phase;
use kedge::world::Hooks;

struct Hold(String);

#[tonic::async_trait]
impl Hooks for Hold {
    async fn entered(&self, _deployment: &str, phase: Phase) {
        if serde_json::to_value(phase).is_ok_and(|name| name == self.0.as_str()) {
            eprintln!("held at {}", self.0);
            std::future::pending::<()>().await;
        }
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
    let hold = std::env::var("KEDGE_HOLD_AT").map_err(|_| "KEDGE_HOLD_AT names no phase")?;
    let engine = Arc::new(Docker::at(config.engine.clone()));
    let (clock, hooks) = (Arc::new(SystemClock), Arc::new(Hold(hold)));
    // It is killed; nothing else ends it.
    let never = std::future::pending();
    kedge::daemon::run_with(config, engine, clock, hooks, never).await.map_err(|p| p.to_string())
}
