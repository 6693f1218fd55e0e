//! `kedge support replay` and `export`: what the customer has of sessions, and may give away.

use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use kedge_proto::local::v1 as local;

use super::super::failure::Failure;
use super::super::{Context, say};
use super::approve::write_new;
use super::one;

/// Longest pause of a replay.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Show a recording again, a terminal as it was
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kedge support replay 3f9c                          what was done, line by line
  kedge support replay 3f9c 02-shell-shop-api.cast   a terminal, at twice its speed: --speed 2
  kedge support export 3f9c . && asciinema play 3f9c*/02-shell-shop-api.cast")]
pub(super) struct Replay {
    /// The session, or the beginning of its name
    session: String,
    /// Which of its recordings
    #[arg(default_value = "session.jsonl")]
    name: String,
    /// How much faster than it was; 0 shows it at once
    #[arg(long, default_value_t = 1.0)]
    speed: f64,
}

/// Copy a session's recordings into a folder
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  kedge support export 3f9c ./for-the-auditors")]
pub(super) struct Export {
    /// The session, or the beginning of its name
    session: String,
    /// The folder; a new one is made in it
    folder: PathBuf,
}

async fn recording(context: &Context, grant_id: &str, name: &str) -> Result<Vec<u8>, Failure> {
    let request = local::SupportRecordingRequest { grant_id: grant_id.to_owned(), name: name.to_owned() };
    let mut pieces = context.connect().await?.support_recording(request).await?.into_inner();
    let mut bytes = Vec::new();
    while let Some(piece) = pieces.message().await? {
        bytes.extend_from_slice(&piece.data);
    }
    Ok(bytes)
}

pub(super) async fn replay(context: &Context, args: Replay) -> Result<(), Failure> {
    let session = one(context, &args.session).await?;
    let bytes = recording(context, &session.grant_id, &args.name).await?;
    let text = String::from_utf8_lossy(&bytes);
    if !args.name.ends_with(".cast") {
        for line in text.lines() {
            context.out.text(&format!("{}\n", say::clean(line)))?;
        }
        return Ok(());
    }
    let mut at = 0.0;
    for line in text.lines().skip(1) {
        let Ok((time, kind, data)) = serde_json::from_str::<(f64, String, String)>(line) else { continue };
        if kind != "o" {
            continue;
        }
        if args.speed > 0.0 {
            let pause = ((time - at) / args.speed).clamp(0.0, LONGEST_PAUSE.as_secs_f64());
            tokio::time::sleep(Duration::from_secs_f64(pause)).await;
        }
        at = time;
        let mut stdout = std::io::stdout().lock();
        stdout.write_all(data.as_bytes())?;
        stdout.flush()?;
    }
    context.out.text("\n")
}

pub(super) async fn export(context: &Context, args: Export) -> Result<(), Failure> {
    let session = one(context, &args.session).await?;
    let folder = args.folder.join(&session.grant_id);
    std::fs::create_dir_all(&folder)?;
    for name in &session.recordings {
        // Names are the agent's own; one with a path in it would be none.
        if name.contains('/') {
            continue;
        }
        let bytes = recording(context, &session.grant_id, name).await?;
        write_new(&folder.join(name), &bytes, 0o600)?;
    }
    context.out.note(&format!("{} files are in {}", session.recordings.len(), folder.display()));
    Ok(())
}
