//! `kedgectl support`: asking a customer to be let in, and working there.
//!
//! ```text
//!  request ─▶ hub ─▶ host        the signed request; the customer decides
//!  wait ─▶ hold ═════▶ host      one process holds the session: the tunnel ends in it
//!  logs, run, forward… ─▶ hold   each a client of its socket, and a channel of the session
//! ```
//!
//! The session's private key is made by `request`, lies in the session's folder for its owner alone, and is useless
//! without the customer's approval and after the one session that it opens.

mod attach;
mod forward;
mod frames;
mod hold;
mod request;
mod session;
mod terminal;

use super::client::Data;
use super::out::{self, Format, Table};
use crate::codes;
use crate::error::{Failure, Result};
use clap::{Args, Subcommand};
use kedge_proto::hub::v1::SupportWatchRequest;
use kedge_proto::support::v1 as support;
use session::{Session, Sessions};
use std::time::Duration;

/// Asks a customer to be let in, and works there once they have agreed.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Request(Box<request::Request>),
    /// Wait until the customer has decided; once they agree, open the session and hold it in the background
    #[command(
        after_help = "Examples:\n  kedgectl support wait\n  kedgectl support wait 3f9c --timeout 2h && kedgectl support logs shop/api"
    )]
    Wait {
        #[command(flatten)]
        which: Which,
        /// How long to wait for the customer
        #[arg(long, default_value = "1d", value_parser = super::duration, value_name = "TIME")]
        timeout: Duration,
        /// Do not open it: say what was decided
        #[arg(long)]
        only: bool,
    },
    /// Open an approved session and hold it here until it ends or is interrupted
    #[command(after_help = "Example:\n  kedgectl support hold 3f9c")]
    Hold {
        #[command(flatten)]
        which: Which,
    },
    /// List the sessions that were asked for on this machine
    #[command(after_help = "Examples:\n  kedgectl support ls\n  kedgectl support ls -o json")]
    Ls {
        #[command(flatten)]
        sessions: Sessions,
        /// How the result is written
        #[arg(short, long, default_value = "table")]
        output: Format,
    },
    /// Read what services have logged
    #[command(
        after_help = "Examples:\n  kedgectl support logs shop\n  kedgectl support logs shop/api --tail 200 -f"
    )]
    Logs {
        /// Deployment, or deployment/service
        target: String,
        #[command(flatten)]
        which: Chosen,
        /// Only the last so many lines of each container
        #[arg(long, default_value_t = -1, allow_negative_numbers = true, value_name = "LINES")]
        tail: i64,
        /// Go on as lines come
        #[arg(short, long)]
        follow: bool,
        /// Only lines from then on, RFC 3339
        #[arg(long, default_value = "", value_name = "TIME")]
        since: String,
        /// Show when each line was written
        #[arg(long)]
        timestamps: bool,
    },
    /// Show containers as the engine describes them, one line of JSON each, without the values of their environment
    #[command(after_help = "Example:\n  kedgectl support inspect shop/api | jq .state")]
    Inspect {
        /// Deployment, or deployment/service
        target: String,
        #[command(flatten)]
        which: Chosen,
    },
    /// Run a command that was granted, word by word, beside a service; its exit code is this one's
    #[command(after_help = "Example:\n  kedgectl support run shop/db -- pg_isready -h db")]
    Run {
        /// Deployment/service
        target: String,
        #[command(flatten)]
        which: Chosen,
        /// The words
        #[arg(required = true, last = true)]
        argv: Vec<String>,
    },
    /// Have a terminal beside a service. It is recorded
    #[command(after_help = "Example:\n  kedgectl support shell shop/api")]
    Shell {
        /// Deployment/service
        target: String,
        #[command(flatten)]
        which: Chosen,
    },
    /// Reach a port of a service from this machine's loopback, until interrupted
    ///
    /// Each connection is carried within the session and joins the service's own network. Several may be open at once.
    #[command(
        after_help = "Examples:\n  kedgectl support forward shop/db 5432\n  kedgectl support forward shop/api 8081:8080 & curl http://127.0.0.1:8081/metrics"
    )]
    Forward {
        /// Deployment/service
        target: String,
        #[command(flatten)]
        which: Chosen,
        /// The service's port, and before it the one here if that is another; 0 takes any that is free
        #[arg(value_name = "[LOCAL_PORT:]PORT")]
        ports: forward::Ports,
    },
    /// Take a diagnostics bundle
    #[command(after_help = "Example:\n  kedgectl support bundle -o shop.tar")]
    Bundle {
        #[command(flatten)]
        which: Chosen,
        /// The new file
        #[arg(short, long, value_name = "FILE")]
        output: std::path::PathBuf,
    },
    /// End a session that is held on this machine
    #[command(after_help = "Example:\n  kedgectl support end 3f9c")]
    End {
        #[command(flatten)]
        which: Which,
    },
}

/// One session.
#[derive(Debug, Args)]
pub(crate) struct Which {
    /// The session, or the beginning of its name [default: the newest]
    session: Option<String>,
    #[command(flatten)]
    sessions: Sessions,
}

/// The same as an option.
#[derive(Debug, Args)]
pub(crate) struct Chosen {
    /// The session, or the beginning of its name [default: the newest]
    #[arg(long)]
    session: Option<String>,
    #[command(flatten)]
    sessions: Sessions,
}

impl Which {
    fn find(&self) -> Result<Session> {
        self.sessions.find(self.session.as_deref())
    }
}

impl Chosen {
    fn find(&self) -> Result<Session> {
        self.sessions.find(self.session.as_deref())
    }
}

/// Runs the command.
pub(crate) async fn run(command: Command) -> Result<()> {
    use support::open::What;
    match command {
        Command::Request(args) => request::run(*args).await,
        Command::Wait { which, timeout, only } => wait(&which.find()?, timeout, only).await,
        Command::Hold { which } => hold::run(&which.find()?).await,
        Command::Ls { sessions, output } => ls(&sessions, output),
        Command::Logs { target, which, tail, follow, since, timestamps } => {
            let logs = support::Logs { follow, tail, since, timestamps };
            attach::run(&which.find()?, &target, What::Logs(logs)).await
        }
        Command::Inspect { target, which } => {
            attach::run(&which.find()?, &target, What::Inspect(support::Inspect {})).await
        }
        Command::Run { target, which, argv } => {
            attach::run(&which.find()?, &target, What::Run(support::Run { argv })).await
        }
        Command::Shell { target, which } => terminal::run(&which.find()?, &target).await,
        Command::Forward { target, which, ports } => forward::run(&which.find()?, &target, ports).await,
        Command::Bundle { which, output } => attach::save(&which.find()?, &output).await,
        Command::End { which } => attach::end(&which.find()?).await,
    }
}

fn ls(sessions: &Sessions, output: Format) -> Result<()> {
    let all = sessions.all()?;
    match output {
        Format::Json => out::json(&all.iter().map(|session| &session.facts).collect::<Vec<_>>()),
        Format::Table => {
            let mut table = Table::new(["SESSION", "HOST", "TICKET", "SCOPES", "TARGETS", "HELD", "ISSUED"]);
            for session in &all {
                let facts = &session.facts;
                table.row([
                    facts.grant_id.chars().take(8).collect(),
                    facts.host.clone(),
                    facts.ticket.clone(),
                    facts.scopes.join(", "),
                    facts.targets.join(", "),
                    if session.is_held() { "yes".to_owned() } else { "no".to_owned() },
                    facts.issued.clone(),
                ]);
            }
            out::text(&table.render(out::colour()))
        }
    }
}

/// What the host says of it, until it is decided.
async fn wait(session: &Session, timeout: Duration, only: bool) -> Result<()> {
    let decided = tokio::time::timeout(timeout, decided(session)).await;
    let late = |_| {
        Failure::new(codes::SUPPORT_OVER, "the customer has not answered in time; the request still stands")
    };
    let state = decided.map_err(late)??;
    if only || state == "open" {
        return out::text(&format!("{state}\n"));
    }
    hold::in_background(session).await?;
    out::text("open\n")
}

async fn decided(session: &Session) -> Result<String> {
    let data = Data { data: session.facts.data.clone() };
    let request =
        SupportWatchRequest { host: session.facts.host.clone(), grant_id: session.facts.grant_id.clone() };
    let reply = data.connect().await?.support_watch(request).await;
    let mut news = reply.map_err(|status| Failure::from_status(&status))?.into_inner();
    while let Some(news) = news.message().await.map_err(|status| Failure::from_status(&status))? {
        out::note(&format!("{}: {}", out::clean(&news.state), out::clean(&news.message)));
        match news.state.as_str() {
            "approved" | "open" => return Ok(news.state),
            "refused" => return Err(refused(&news)),
            "closing" | "closed" => {
                return Err(Failure::new(
                    codes::SUPPORT_OVER,
                    format!("session {:.8}: {}", news.grant_id, news.message),
                ));
            }
            _ => {}
        }
    }
    Err(Failure::new(codes::UNREACHABLE, "the hub ended the watch"))
}

/// Why a host did not take a request, in its own words.
fn refused(news: &support::News) -> Failure {
    let code = news.problem.as_ref().map(|problem| format!(" [{}]", problem.code)).unwrap_or_default();
    Failure::new(codes::SUPPORT_REFUSED, format!("the host says: {}{code}", news.message))
}
