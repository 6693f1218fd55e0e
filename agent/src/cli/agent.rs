//! `kedge agent`: the daemon.

use std::path::{Path, PathBuf};

use super::Context;
use super::failure::Failure;
use crate::codes;
use crate::config::Config;
use crate::logging;
use crate::problem::Problem;

/// Run the agent itself, in the foreground
///
/// Configuration comes from /etc/kedge/agent.toml, flags win. It ends on SIGTERM and SIGINT; what it runs
/// goes on running.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kedge agent
  kedge agent --config ./agent.toml --state-dir ./state --run-dir ./run
  KEDGE_LOG=debug kedge agent -o json                log lines as JSON")]
pub(super) struct Args {
    /// Configuration [default: /etc/kedge/agent.toml, where it exists]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Folder of everything that must survive
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// The container engine's socket, such as unix:///var/run/docker.sock
    #[arg(long, value_name = "URL")]
    engine: Option<String>,
}

/// Threads of the daemon: its work is waiting, and hashing, which runs beside them.
const WORKERS: usize = 2;
/// Threads for file system and hashing work.
const BLOCKING: usize = 8;

pub(super) fn run(context: &Context, args: Args) -> Result<(), Failure> {
    let config = configure(context, &args)?;
    logging::init(&logging::Options {
        json: config.log.json || context.out.json,
        filter: std::env::var(logging::FILTER).unwrap_or_else(|_| config.log.level.clone()),
        colour: std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty()),
    })?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .max_blocking_threads(BLOCKING)
        .thread_name("kedge")
        .enable_all()
        .build()
        .map_err(|e| Problem::new(&codes::INTERNAL, format!("no runtime: {e}")))?;
    let outcome = runtime.block_on(async {
        let shutdown = signals()?;
        crate::daemon::run(config, shutdown).await
    });
    runtime.shutdown_timeout(std::time::Duration::from_secs(5));
    Ok(outcome?)
}

/// The file, then the flags over it.
fn configure(context: &Context, args: &Args) -> Result<Config, Problem> {
    let path = args.config.as_deref().unwrap_or_else(|| Path::new(Config::DEFAULT_PATH));
    let mut config = Config::read(path, args.config.is_some())?;
    if let Some(dir) = &args.state_dir {
        config.state_dir.clone_from(dir);
    }
    if let Some(dir) = &context.run_dir {
        config.run_dir.clone_from(dir);
    }
    if let Some(engine) = &args.engine {
        if !engine.starts_with("unix://") {
            return Err(Problem::new(&codes::CONFIG, format!("--engine {engine}: it must be unix:///…")));
        }
        config.engine.clone_from(engine);
    }
    for dir in [&mut config.state_dir, &mut config.run_dir] {
        *dir = std::path::absolute(&*dir)
            .map_err(|e| Problem::new(&codes::CONFIG, format!("{}: {e}", dir.display())))?;
    }
    Ok(config)
}

/// Ends with the first SIGTERM or SIGINT.
fn signals() -> Result<impl Future<Output = ()> + Send, Problem> {
    use tokio::signal::unix::{SignalKind, signal};
    let listen = |kind| {
        signal(kind).map_err(|e| Problem::new(&codes::INTERNAL, format!("signals cannot be received: {e}")))
    };
    let (mut terminate, mut interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    Ok(async move {
        // Cancel safe: receiving a signal loses nothing.
        let name = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        };
        tracing::info!("the agent ends on {name}; what it runs goes on");
    })
}

#[cfg(test)]
mod tests {
    use super::super::out::Out;
    use super::*;

    fn context(run_dir: Option<&str>) -> Context {
        let out = Out::detect(false, false);
        Context { out, socket: PathBuf::new(), run_dir: run_dir.map(PathBuf::from) }
    }

    #[test]
    fn flags_win_over_the_file_and_folders_become_absolute() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.toml");
        std::fs::write(&path, "state_dir = '/a'\nrun_dir = '/b'\nengine = 'unix:///c'\n").unwrap();
        let mut args = Args { config: Some(path), state_dir: None, engine: None };
        let config = configure(&context(None), &args).unwrap();
        assert_eq!((config.state_dir, config.run_dir), (PathBuf::from("/a"), PathBuf::from("/b")));
        args.state_dir = Some("s".into());
        args.engine = Some("unix:///d".into());
        let config = configure(&context(Some("/r")), &args).unwrap();
        assert!(config.state_dir.is_absolute() && config.state_dir.ends_with("s"));
        assert_eq!((config.run_dir, config.engine.as_str()), (PathBuf::from("/r"), "unix:///d"));
        args.engine = Some("tcp://1.2.3.4:2375".into());
        assert_eq!(configure(&context(None), &args).unwrap_err().code.id, codes::CONFIG.id);
    }

    #[test]
    fn a_configuration_asked_for_by_name_must_be_there() {
        let args = Args { config: Some("/nonexistent/agent.toml".into()), state_dir: None, engine: None };
        assert_eq!(configure(&context(None), &args).unwrap_err().code.id, codes::CONFIG.id);
    }
}
