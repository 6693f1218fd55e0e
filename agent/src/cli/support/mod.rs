//! `kedge support`: the customer's word on the vendor's coming in.

mod approve;
mod bundle;
mod recordings;

use std::path::PathBuf;
use std::time::Duration;

use clap::Subcommand;
use kedge_proto::local::v1 as local;

use super::failure::Failure;
use super::grid::Grid;
use super::{Context, say};
use crate::codes;
use crate::problem::Problem;

/// Decide on the vendor's support sessions: see, approve, deny, end, switch off, replay
///
/// An engineer of the vendor's comes in only if the vendor has signed the request and you consent to it, as [support] of
/// guard.toml says. Everything is recorded on this host. docs/support.md tells it all.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kedge support ls                                   who asks, and who was here
  kedge support show 3f9c                            everything that a request asks for
  kedge support approve 3f9c --narrow logs           yes, but only to the logs
  kedge support off                                  end everything now, and let nobody in until `support on`")]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List requests and sessions, newest first
    #[command(
        after_help = "Examples:\n  kedge support ls\n  kedge support ls -o json | jq '.sessions[] | select(.state == \"requested\")'"
    )]
    Ls,
    /// Show a request or session at length, or save the signed request for an approver elsewhere
    #[command(
        after_help = "Examples:\n  kedge support show 3f9c\n  kedge support show 3f9c --save request.json"
    )]
    Show {
        /// The session, or the beginning of its name
        session: String,
        /// Write the signed request into this new file
        #[arg(long, value_name = "FILE")]
        save: Option<PathBuf>,
    },
    Approve(approve::Args),
    /// Make a key for approving requests elsewhere, and print its public half for guard.toml
    #[command(after_help = "Examples:\n  kedge support keygen officer.pem")]
    Keygen {
        /// The new file for the private key
        file: PathBuf,
    },
    /// Say no to a request, take back an approval, or end the session that came of it
    #[command(after_help = "Examples:\n  kedge support deny 3f9c")]
    Deny {
        /// The session, or the beginning of its name
        session: String,
    },
    /// End a session; returns when nothing of it is left
    #[command(after_help = "Examples:\n  kedge support end 3f9c")]
    End {
        /// The session, or the beginning of its name
        session: String,
    },
    /// End every session and let nobody in: the kill switch. It stays off, over restarts too
    #[command(
        after_help = "Examples:\n  kedge support off\n  kedge support off --state-dir /srv/kedge    even where no agent runs"
    )]
    Off {
        /// The agent's state folder, for when no agent answers
        #[arg(long, value_name = "DIR")]
        state_dir: Option<PathBuf>,
    },
    /// Let sessions be asked for again, as guard.toml says
    #[command(after_help = "Examples:\n  kedge support on")]
    On,
    Replay(recordings::Replay),
    Export(recordings::Export),
    Bundle(bundle::Args),
}

pub(super) async fn run(context: &Context, args: Args) -> Result<(), Failure> {
    match args.command {
        Command::Ls => ls(context).await,
        Command::Show { session, save } => show(context, session, save).await,
        Command::Approve(args) => approve::run(context, args).await,
        Command::Keygen { file } => approve::keygen(context, &file),
        Command::Deny { session } => {
            let request = local::SupportDecideRequest { grant_id: session, deny: true, ..Default::default() };
            let denied = context.connect().await?.support_decide(request).await?.into_inner();
            conclude(context, &denied, ("is denied", "closed"))
        }
        Command::End { session } => {
            let request = local::SupportEndRequest { grant_id: session };
            let ended = context.connect().await?.support_end(request).await?.into_inner();
            conclude(context, &ended, ("is over", "closed"))
        }
        Command::Off { state_dir } => off(context, state_dir).await,
        Command::On => {
            let request = local::SupportSwitchRequest { off: false };
            let reply = context.connect().await?.support_switch(request).await?.into_inner();
            switched(context, &reply, "sessions can be asked for again, as guard.toml says")
        }
        Command::Replay(args) => recordings::replay(context, args).await,
        Command::Export(args) => recordings::export(context, args).await,
        Command::Bundle(args) => bundle::run(context, args).await,
    }
}

async fn sessions(context: &Context, session: &str) -> Result<local::SupportSessionsReply, Failure> {
    let request = local::SupportSessionsRequest { grant_id: session.to_owned() };
    Ok(context.connect().await?.support_sessions(request).await?.into_inner())
}

/// One session, which must be there.
async fn one(context: &Context, session: &str) -> Result<local::SupportSession, Failure> {
    if session.is_empty() {
        return Err(Failure::usage("name a session; `kedge support ls` lists them"));
    }
    let found = sessions(context, session).await?.sessions.into_iter().next();
    found.ok_or_else(|| Failure::usage("there is no such session"))
}

async fn ls(context: &Context) -> Result<(), Failure> {
    let reply = sessions(context, "").await?;
    if context.out.json {
        return context.out.json(&reply);
    }
    if reply.off {
        context.out.note("support is switched off: nobody comes in until `kedge support on`");
    }
    if reply.sessions.is_empty() {
        context.out.note(&format!("nobody has asked to come in; guard.toml says: {}", reply.mode));
        return Ok(());
    }
    let mut grid = Grid::default();
    grid.heading(["SESSION", "STATE", "ENGINEER", "TICKET", "ASKS FOR", "ON", "WHY OVER"]);
    for session in &reply.sessions {
        let terms = session.granted.as_ref().or(session.requested.as_ref()).cloned().unwrap_or_default();
        grid.row(
            [
                session.grant_id.chars().take(8).collect::<String>(),
                session.state.clone(),
                say::clean(&session.engineer).into_owned(),
                say::clean(&session.ticket).into_owned(),
                terms.scopes.join(", "),
                terms.targets.join(", "),
                session.reason.clone(),
            ]
            .map(Into::into),
        );
    }
    context.out.text(&grid.render(0, context.out.width(), context.out.colour()))
}

async fn show(context: &Context, session: String, save: Option<PathBuf>) -> Result<(), Failure> {
    let session = one(context, &session).await?;
    if let Some(path) = save {
        approve::write_new(&path, &session.request, 0o644)?;
        context.out.note(&format!("the signed request is in {}", path.display()));
        return Ok(());
    }
    if context.out.json {
        return context.out.json(&session);
    }
    context.out.text(&describe(&session))
}

pub(super) fn describe(session: &local::SupportSession) -> String {
    let terms = |terms: &local::SupportTerms| {
        let list = |all: &[String]| all.join(", ");
        format!(
            "{} on {}, for {} s, at most {} bytes",
            list(&terms.scopes),
            list(&terms.targets),
            terms.max_session_seconds,
            terms.max_bytes
        )
    };
    let state = match session.reason.as_str() {
        "" => session.state.clone(),
        reason => format!("{}: {reason}", session.state),
    };
    let mut lines = vec![
        ("session", session.grant_id.clone()),
        ("state", state),
        ("engineer", session.engineer.clone()),
        ("ticket", session.ticket.clone()),
        ("reason", session.why.clone()),
        ("product", session.product.clone()),
        ("asks for", session.requested.as_ref().map(terms).unwrap_or_default()),
        ("issued", session.issued.clone()),
        ("good until", session.not_after.clone()),
        ("sha256", session.request_sha256.clone()),
    ];
    if let Some(granted) = &session.granted {
        lines.push(("granted", terms(granted)));
        lines.push(("by", session.approver.clone()));
    }
    if session.ends_in_seconds > 0 {
        lines.push(("ends in", format!("{} s", session.ends_in_seconds)));
    }
    lines.extend(session.recordings.iter().map(|name| ("recording", name.clone())));
    lines.iter().map(|(name, value)| format!("{name:<11} {}\n", say::clean(value))).collect()
}

/// Says what has become of a session, if that is so by now: what, and the state that it is in then.
fn conclude(context: &Context, session: &local::SupportSession, what: (&str, &str)) -> Result<(), Failure> {
    let outcome = outcome(session, what)?;
    if context.out.json {
        return context.out.json(session);
    }
    if context.out.quiet {
        return Ok(());
    }
    context.out.text(&outcome)
}

fn outcome(session: &local::SupportSession, (what, wanted): (&str, &str)) -> Result<String, Problem> {
    let (id, state) = (&session.grant_id, &session.state);
    if state != wanted {
        let why = format!("session {id:.8} is {state}: it is ending, and something of it may be left");
        return Err(Problem::new(&codes::SUPPORT_STATE, why));
    }
    Ok(format!("session {id:.8} {what} ({state})\n"))
}

/// How long the kill switch waits for an agent.
const PATIENCE: Duration = Duration::from_secs(8);

async fn off(context: &Context, state_dir: Option<PathBuf>) -> Result<(), Failure> {
    // Where systemd holds the socket it is there without an agent, or with one that is stuck.
    let connected = tokio::time::timeout(PATIENCE, context.connect()).await;
    let silent = || Problem::new(&codes::DAEMON_UNREACHABLE, "no agent answers; --state-dir does without");
    let mut client = match connected.unwrap_or_else(|_| Err(silent().into())) {
        Ok(client) => client,
        Err(failure) => {
            // What is written now counts at once for sessions that run, and from the next start on.
            let Some(folder) = state_dir else { return Err(failure) };
            let folder = folder.join("support");
            crate::deploy::secrets::private_folder(&folder)?;
            crate::store::write_file(&folder.join("off"), b"the command line\n", 0o600)?;
            context.out.note(
                "no agent answers; whatever still runs ends, and it is off from the agent's next start on",
            );
            return Ok(());
        }
    };
    let request = local::SupportSwitchRequest { off: true };
    let reply = client.support_switch(request).await?.into_inner();
    let left = reply.sessions.iter().filter(|session| session.state != "closed").count();
    if left > 0 {
        let why = format!("support is off, but what {left} sessions have left is still being removed");
        return Err(Problem::new(&codes::SUPPORT_STATE, why).into());
    }
    switched(
        context,
        &reply,
        "support is off: every session is over and nobody comes in until `kedge support on`",
    )
}

fn switched(context: &Context, reply: &local::SupportSessionsReply, what: &str) -> Result<(), Failure> {
    if context.out.json {
        return context.out.json(reply);
    }
    if context.out.quiet {
        return Ok(());
    }
    context.out.text(&format!("{what}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_described_without_control_characters() {
        let session = local::SupportSession {
            grant_id: "ab".into(),
            state: "closed".into(),
            reason: "its time was up".into(),
            why: "look\u{1b}[2J".into(),
            recordings: vec!["session.jsonl".into()],
            ..Default::default()
        };
        let text = describe(&session);
        assert!(text.contains("closed: its time was up") && text.contains("session.jsonl"), "{text}");
        assert!(!text.contains('\u{1b}'));
    }

    #[test]
    fn nothing_is_said_to_be_over_that_is_not() {
        let session = |state: &str| local::SupportSession {
            grant_id: "0123456789abcdef".repeat(2),
            state: state.into(),
            ..Default::default()
        };
        assert_eq!(
            outcome(&session("closed"), ("is over", "closed")).unwrap(),
            "session 01234567 is over (closed)\n"
        );
        for state in ["approved", "open", "closing"] {
            let problem = outcome(&session(state), ("is over", "closed")).unwrap_err();
            assert!(problem.code == codes::SUPPORT_STATE && problem.message.contains(state), "{problem}");
        }
    }
}
