//! `kedgectl compose`: compose files as Kedge understands them.

use super::out;
use crate::codes;
use crate::error::{Failure, Result};
use clap::{Args, Subcommand, ValueEnum};
use kedge_compose::{DirFiles, Options};
use std::path::{Path, PathBuf};

/// Looks at compose files.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Print the project with everything filled in and written out, as `docker compose config` does
    #[command(after_help = "Examples:
  kedgectl compose config
  kedgectl compose config -f compose.yaml -f compose.prod.yaml --profile debug
  TAG=1.4 kedgectl compose config -f compose.yaml --env-file prod.env --for-host

Variables come from the environment, then from the env files. Every error is shown, with its place.")]
    Config(Config),
}

/// `compose config`.
#[derive(Debug, Args)]
pub(crate) struct Config {
    /// Compose file; repeated, later ones are laid over earlier ones. Default: compose.yaml and its kin
    #[arg(short, long = "file", value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Profile to activate; `*` is all
    #[arg(long = "profile", value_name = "PROFILE")]
    profiles: Vec<String>,
    /// File with variables; default: .env in the project's folder
    #[arg(long = "env-file", value_name = "FILE")]
    env_files: Vec<PathBuf>,
    /// The project's folder; default: that of the first file
    #[arg(long, value_name = "DIR")]
    project_directory: Option<PathBuf>,
    /// The project's name
    #[arg(short, long, value_name = "NAME")]
    project_name: Option<String>,
    /// Refuse what Kedge does not run on a customer's host, such as `build`
    #[arg(long)]
    for_host: bool,
    /// How the project is written
    #[arg(long, default_value = "json")]
    format: Format,
}

/// How the project is written.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    /// Indented JSON.
    Json,
}

/// Runs the command.
pub(crate) fn run(command: Command) -> Result<()> {
    let Command::Config(config) = command;
    let Format::Json = config.format;
    let for_host = config.for_host;
    let options = options(config)?;
    let files = DirFiles::unconfined();
    let loaded = match for_host {
        true => kedge_compose::load(&files, &options).map(|loaded| (loaded.canonical, loaded.warnings)),
        false => kedge_compose::config(&files, &options).map(|config| (config.canonical, config.warnings)),
    };
    let (canonical, warnings) = loaded.map_err(|errors| {
        out::note(&out::clean_lines(&errors.to_string()));
        let count = errors.all().len();
        let message = format!("the project has {count} {}", if count == 1 { "error" } else { "errors" });
        Failure::new(codes::COMPOSE, message)
    })?;
    for warning in warnings {
        out::note(&format!("warning: {}", out::clean_lines(&warning.to_string())));
    }
    let text = serde_json::to_string_pretty(&canonical).map_err(|error| {
        Failure::new(codes::UNEXPECTED, "the project cannot be written as JSON").because(error)
    })?;
    out::text(&format!("{text}\n"))
}

/// Paths on the command line are seen from here, not from the project's folder.
fn options(config: Config) -> Result<Options> {
    let files = config.files.iter().map(|path| absolute(path)).collect::<Result<_>>()?;
    let project_directory = match &config.project_directory {
        Some(folder) => absolute(folder)?,
        None if config.files.is_empty() => absolute(Path::new("."))?,
        None => String::new(),
    };
    Ok(Options {
        files,
        project_directory,
        project_name: config.project_name,
        profiles: config.profiles,
        // A variable that is not text cannot be meant.
        environment: std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect(),
        env_files: config.env_files.iter().map(|path| absolute(path)).collect::<Result<_>>()?,
        confined: false,
    })
}

fn absolute(path: &Path) -> Result<String> {
    let unusable = || Failure::new(codes::ARGUMENT, format!("the path {} cannot be used", path.display()));
    let path = std::path::absolute(path).map_err(|error| unusable().because(error))?;
    path.into_os_string().into_string().map_err(|_| unusable())
}
