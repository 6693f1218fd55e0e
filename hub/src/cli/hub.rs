//! `kedgectl hub`: the server and its tokens.

use super::client::Data;
use super::input;
use super::out::{self, Format, Table};
use super::signers::SignerArgs;
use crate::codes;
use crate::error::{Failure, Result};
use crate::hub::{Config, Hub};
use clap::{Args, Subcommand, ValueEnum};
use jiff::Timestamp;
use kedge_proto::hub::v1::{CreateTokenRequest, ListTokensRequest, RevokeTokenRequest};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt;
use tracing_subscriber::prelude::*;

/// Runs the hub and manages its tokens.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the hub
    Serve(Serve),
    /// Enrolment tokens
    #[command(subcommand)]
    Token(Token),
}

/// `hub serve`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  First start, trusting the vendor's root document:
    kedgectl hub serve --data /srv/hub --listen 0.0.0.0:8443 --name hub.example.com --root keys/root

  With statements of what is newest, and a folder of bundles to publish:
    kedgectl hub serve --data /srv/hub --fresh-key fresh.pem --publish /srv/bundles

  On a free port, written to a file (for tests):
    kedgectl hub serve --data /tmp/hub --listen 127.0.0.1:0 --port-file /tmp/hub.port --root keys/root")]
pub(crate) struct Serve {
    #[command(flatten)]
    data: Data,
    /// Address and port to listen on; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8443")]
    listen: SocketAddr,
    /// Name or address by which hosts reach the hub, for its certificate; may be repeated
    #[arg(long = "name", value_name = "HOST")]
    names: Vec<String>,
    /// The vendor's root document, or the folder with the chain of them; needed at the first start
    #[arg(long = "root", value_name = "PATH")]
    roots: Vec<PathBuf>,
    /// Publish the bundles that appear in this folder
    #[arg(long, value_name = "FOLDER")]
    publish: Option<PathBuf>,
    /// Key for signed statements of what is newest; or a --signer-cmd
    #[arg(long, value_name = "FILE")]
    fresh_key: Option<PathBuf>,
    #[command(flatten)]
    signer: SignerArgs,
    /// Write the port's number to this file when it is open
    #[arg(long, value_name = "FILE")]
    port_file: Option<PathBuf>,
    /// How the log is written to standard error
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    log: LogFormat,
}

/// How the log is written.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum LogFormat {
    /// Sentences.
    Text,
    /// One JSON object a line.
    Json,
}

/// `hub token`.
#[derive(Debug, Subcommand)]
pub(crate) enum Token {
    /// Make a token that lets hosts of one site enrol; it is shown once
    #[command(after_help = "Example:
  kedgectl hub token create --site acme-berlin --ttl 2d --uses 5 --note 'ticket 4711'

The token is the only line on standard output. On the customer's host:
  kedge enroll --hub https://hub.example.com:8443 --token TOKEN --root-sha256 FINGERPRINT")]
    Create {
        #[command(flatten)]
        data: Data,
        /// The customer's site: a-z, 0-9, `-`, `_` and `.`
        #[arg(long)]
        site: String,
        /// How long it can be used: 90s, 30m, 1h, 2d
        #[arg(long, default_value = "1h", value_parser = super::duration)]
        ttl: Duration,
        /// How many hosts it enrols
        #[arg(long, default_value_t = 1)]
        uses: u32,
        /// A note for yourself
        #[arg(long, default_value = "")]
        note: String,
        /// How the result is written
        #[arg(short, long, default_value = "table")]
        output: Format,
    },
    /// List the tokens that are known; their secrets are not
    #[command(after_help = "Example:\n  kedgectl hub token ls -o json")]
    Ls {
        #[command(flatten)]
        data: Data,
        /// How the result is written
        #[arg(short, long, default_value = "table")]
        output: Format,
    },
    /// Forget a token; hosts that it enrolled stay enrolled
    #[command(after_help = "Example:\n  kedgectl hub token revoke 0a1b2c3d4e5f")]
    Revoke {
        #[command(flatten)]
        data: Data,
        /// The token's ID, its second part
        id: String,
    },
}

/// Runs the command.
pub(crate) async fn run(command: Command) -> Result<()> {
    match command {
        Command::Serve(serve) => run_hub(serve).await,
        Command::Token(Token::Create { data, site, ttl, uses, note, output }) => {
            let request = CreateTokenRequest { site, ttl_seconds: ttl.as_secs(), uses, note };
            let reply = data.connect().await?.create_token(request).await;
            let reply = reply.map_err(|status| Failure::from_status(&status))?.into_inner();
            match output {
                Format::Json => out::json(&serde_json::json!({
                    "token": reply.token, "id": reply.id, "expires": reply.expires,
                })),
                Format::Table => {
                    out::text(&format!("{}\n", reply.token))?;
                    out::note(&format!("Token {} can be used until {}.", reply.id, reply.expires));
                    Ok(())
                }
            }
        }
        Command::Token(Token::Ls { data, output }) => {
            let reply = data.connect().await?.list_tokens(ListTokensRequest {}).await;
            let tokens = reply.map_err(|status| Failure::from_status(&status))?.into_inner().tokens;
            if output == Format::Json {
                return out::json(&tokens);
            }
            let mut table = Table::new(["ID", "SITE", "USES LEFT", "EXPIRES IN", "NOTE"]);
            let now = Timestamp::now();
            for token in tokens {
                let over = token.expires.parse::<Timestamp>().is_ok_and(|expires| expires <= now);
                let expires = if over { "expired".to_owned() } else { out::distance(&token.expires, now) };
                table.row([token.id, token.site, token.uses_left.to_string(), expires, token.note]);
            }
            out::text(&table.render(out::colour()))
        }
        Command::Token(Token::Revoke { data, id }) => {
            let reply = data.connect().await?.revoke_token(RevokeTokenRequest { id: id.clone() }).await;
            if !reply.map_err(|status| Failure::from_status(&status))?.into_inner().existed {
                return Err(Failure::new(
                    codes::ARGUMENT,
                    format!("there is no token {}", id.escape_debug()),
                ));
            }
            out::note(&format!("Token {id} is revoked."));
            Ok(())
        }
    }
}

async fn run_hub(serve: Serve) -> Result<()> {
    start_log(serve.log);
    let roots = input::roots(&serve.roots)?;
    let fresh_key = if serve.fresh_key.is_some() || serve.signer.has_command() {
        Some(serve.signer.one(serve.fresh_key.as_ref())?)
    } else {
        None
    };
    let config = Config {
        data: serve.data.data,
        listen: serve.listen,
        names: serve.names,
        roots,
        publish: serve.publish,
        fresh_key,
        clock: Arc::new(Timestamp::now),
    };
    // Before the port opens, so that no signal is lost in between.
    let unavailable =
        |error: std::io::Error| Failure::new(codes::UNEXPECTED, "signals cannot be received").because(error);
    let mut terminate = signal(SignalKind::terminate()).map_err(unavailable)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(unavailable)?;
    let hub = Hub::start(config).await?;
    let address = hub.address();
    if let Some(path) = &serve.port_file {
        write_port(path, address.port())?;
    }
    out::text(&format!("https://{address}\n"))?;
    hub.run(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
    .await
}

/// Written beside and renamed, so that whoever waits for the file reads a whole number.
fn write_port(path: &Path, port: u16) -> Result<()> {
    let write = || -> std::io::Result<()> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        std::io::Write::write_all(&mut file, format!("{port}\n").as_bytes())?;
        file.persist(path)?;
        Ok(())
    };
    write().map_err(|error| {
        Failure::new(codes::OUTPUT, format!("{} cannot be written", path.display())).because(error)
    })
}

/// `RUST_LOG` chooses what is said; the default is what an operator wants to see.
fn start_log(format: LogFormat) {
    let asked = std::env::var("RUST_LOG").ok().and_then(|filter| filter.parse::<Targets>().ok());
    let filter = asked.unwrap_or_else(|| Targets::new().with_default(LevelFilter::INFO));
    let log = fmt::layer().with_writer(std::io::stderr);
    let layer = match format {
        LogFormat::Text => log.with_ansi(out::bars() && out::colour()).with_target(false).boxed(),
        LogFormat::Json => log.json().flatten_event(true).boxed(),
    };
    // A log that is already there (an embedding program's) stays.
    let _ = tracing_subscriber::registry().with(layer).with(filter).try_init();
}
