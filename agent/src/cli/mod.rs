//! The command line: one file per command, each a thin caller of the daemon's socket.
//!
//! What a command says goes to standard output, everything about how it goes to standard error. `-o json`
//! turns both answers and progress into JSON, one object a line. Colours, bars and redrawing happen on a
//! terminal only. Exit codes come from the error catalogue.

mod adopt;
mod agent;
mod audit;
mod completions;
mod deploy;
mod deployments;
mod diff;
mod doctor;
mod enroll;
mod export_compose;
mod failure;
mod follow;
mod gc;
mod grid;
mod import;
mod inventory;
mod licence;
mod logs;
mod out;
mod pause;
mod remove;
mod say;
mod status;
mod support;
mod table;
mod values;
mod version;

use std::future::Future;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use kedge_proto::local::v1::local_client::LocalClient;
use tonic::transport::Channel;

pub use failure::Failure;
use out::Out;

use crate::codes;
use crate::local::client;
use crate::problem::Problem;

/// Runs a vendor's products on this host, from signed bundles, and keeps them as they should be.
#[derive(Debug, Parser)]
#[command(name = "kedge", version, propagate_version = true, after_help = EXAMPLES, max_term_width = 100)]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  kedge import shop-1.2.kedge --root-sha256 3f9c…    take a bundle from a file, no network needed
  kedge enroll --hub https://hub.example.com --token-file token --root-sha256 3f9c…
  kedge status --watch                               what runs here, redrawn as it changes
  kedge logs shop api -f                             what it says

Exit codes are those of the error, see the code in brackets: 2 usage, 3 `diff` found changes, 10 malformed, 11 untrusted,
12 expired, 13 older, 14 other audience, 15 parameter, 16 policy, 20 engine, 21 disk, 22 preflight,
23 agent not reachable, 30 rolled back, 31 failed, 40 hub.";

#[derive(Debug, Args)]
#[command(next_help_heading = "Options of every command")]
struct Global {
    /// Folder of the agent's socket
    #[arg(long, global = true, env = "KEDGE_RUN_DIR", value_name = "DIR")]
    run_dir: Option<PathBuf>,
    /// The agent's socket itself [default: kedge.sock in the run folder]
    #[arg(long, global = true, value_name = "FILE")]
    socket: Option<PathBuf>,
    /// Say nothing but results and errors
    #[arg(short, long, global = true)]
    quiet: bool,
    /// How to print: for people, or JSON, one object a line
    #[arg(short, long, global = true, value_enum, default_value_t = Format::Table, value_name = "FORMAT")]
    output: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Table,
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    Agent(agent::Args),
    Audit(audit::Args),
    Import(import::Args),
    Adopt(adopt::Args),
    Deploy(deploy::Args),
    Enroll(enroll::Args),
    Status(status::Args),
    Deployments(deployments::Args),
    Inventory(inventory::Args),
    Licence(licence::Args),
    Logs(logs::Args),
    Diff(diff::Args),
    ExportCompose(export_compose::Args),
    Doctor(doctor::Args),
    Pause(pause::Args),
    Resume(pause::ResumeArgs),
    Remove(remove::Args),
    Support(support::Args),
    Gc(gc::Args),
    Version(version::Args),
    Completions(completions::Args),
}

/// What every command is given.
struct Context {
    out: Out,
    socket: PathBuf,
    run_dir: Option<PathBuf>,
}

impl Context {
    async fn connect(&self) -> Result<LocalClient<Channel>, Failure> {
        let hint = "the socket is there, but the agent does not answer yet: see `systemctl status kedge`";
        Ok(patiently(client::connect(&self.socket), || self.out.note(hint)).await?)
    }
}

/// An agent that takes longer than this to answer is worth a word.
const PATIENCE: Duration = Duration::from_secs(5);

/// Waits, and says so once when it takes long: it may be starting, or may never.
async fn patiently<T>(answer: impl Future<Output = T>, say: impl FnOnce()) -> T {
    tokio::pin!(answer);
    match tokio::time::timeout(PATIENCE, &mut answer).await {
        Ok(answer) => answer,
        Err(_) => {
            say();
            answer.await
        }
    }
}

/// Runs the command and says what went wrong, if anything did.
pub fn main(cli: Cli) -> ExitCode {
    let Global { run_dir, socket, quiet, output } = cli.global;
    let socket = socket.unwrap_or_else(|| {
        let run_dir = run_dir.clone().unwrap_or_else(|| crate::config::Config::default().run_dir);
        run_dir.join("kedge.sock")
    });
    let context = Context { out: Out::detect(output == Format::Json, quiet), socket, run_dir };
    let outcome = match cli.command {
        Command::Agent(args) => agent::run(&context, args),
        Command::Audit(args) => audit::run(&context, args),
        Command::Import(args) => block_on(import::run(&context, args)),
        Command::Adopt(args) => block_on(adopt::run(&context, args)),
        Command::Deploy(args) => block_on(deploy::run(&context, args)),
        Command::Enroll(args) => block_on(enroll::run(&context, args)),
        Command::Status(args) => block_on(status::run(&context, args)),
        Command::Deployments(args) => block_on(deployments::run(&context, args)),
        Command::Inventory(args) => block_on(inventory::run(&context, args)),
        Command::Licence(args) => block_on(licence::run(&context, args)),
        Command::Logs(args) => block_on(logs::run(&context, args)),
        Command::ExportCompose(args) => block_on(export_compose::run(&context, args)),
        Command::Diff(args) => block_on(diff::run(&context, args)),
        Command::Doctor(args) => block_on(doctor::run(&context, args)),
        Command::Pause(args) => block_on(pause::run(&context, args)),
        Command::Resume(args) => block_on(pause::resume(&context, args)),
        Command::Remove(args) => block_on(remove::run(&context, args)),
        Command::Support(args) => block_on(support::run(&context, args)),
        Command::Gc(args) => block_on(gc::run(&context, args)),
        Command::Version(args) => block_on(version::run(&context, args)),
        Command::Completions(args) => completions::run(&context, args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(&context.out),
    }
}

/// A command speaks on one connection; one thread is plenty.
fn block_on(command: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| Problem::new(&codes::INTERNAL, format!("no runtime: {e}")))?;
    let outcome = runtime.block_on(command);
    // A read of standard input may still be blocked; nobody waits for it.
    runtime.shutdown_background();
    outcome
}

/// A fresh name for one request, so that asking twice does once.
fn request_id() -> String {
    hex::encode(rand::random::<[u8; 16]>())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[tokio::test(start_paused = true)]
    async fn a_socket_on_which_nobody_answers_is_told_once_and_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kedge.sock");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let mut said = 0;
        let waiting = patiently(client::connect(&path), || said += 1);
        assert!(tokio::time::timeout(PATIENCE * 100, waiting).await.is_err());
        assert_eq!(said, 1);
        drop(listener.accept().unwrap());
        // It comes at last, and says what HTTP/2 begins with.
        let comes = async {
            tokio::time::sleep(PATIENCE * 2).await;
            let mut stream = listener.accept().unwrap().0;
            std::io::Write::write_all(&mut stream, &[0, 0, 0, 4, 0, 0, 0, 0, 0]).unwrap();
            stream
        };
        let (connected, _stream) = tokio::join!(patiently(client::connect(&path), || said += 1), comes);
        assert!(connected.is_ok());
        assert_eq!(said, 2);
    }

    #[tokio::test]
    async fn an_agent_that_answers_is_not_remarked_on() {
        patiently(std::future::ready(()), || panic!("said something")).await;
    }

    #[test]
    fn every_command_has_a_sentence_and_examples() {
        for command in Cli::command().get_subcommands() {
            assert!(command.get_about().is_some(), "{}", command.get_name());
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.starts_with("Examples:"), "{}", command.get_name());
        }
    }

    #[test]
    fn global_flags_stand_before_and_after_the_command() {
        let before = Cli::try_parse_from(["kedge", "-o", "json", "--run-dir", "/r", "status"]).unwrap();
        let after = Cli::try_parse_from(["kedge", "status", "-o", "json", "--run-dir", "/r"]).unwrap();
        for cli in [before, after] {
            assert_eq!(cli.global.output, Format::Json);
            assert_eq!(cli.global.run_dir, Some(PathBuf::from("/r")));
        }
    }
}
