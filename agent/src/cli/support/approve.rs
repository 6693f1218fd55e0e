//! `kedge support approve`: here, by whoever may use the socket; or elsewhere, into a file, with a key that guard.toml names.

use std::io::{BufRead, IsTerminal, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use kedge_bundle::support::approval::{self, Approval, Decision};
use kedge_bundle::support::{self, Terms, parse_scopes};
use kedge_proto::local::v1 as local;
use zeroize::Zeroizing;

use super::super::failure::Failure;
use super::super::{Context, values};
use super::{conclude, describe, one};
use crate::codes;
use crate::problem::Problem;

/// Approve a request: here, or with a key on another machine
///
/// Here it asks first. Elsewhere it takes the request as a file and makes an approval of it, which is brought back and given
/// with --approval: no network is needed.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kedge support approve 3f9c                         shows what is asked for, and asks
  kedge support approve 3f9c --narrow logs,run:'pg_isready -h db' --targets shop/api --ttl 600 --yes
  kedge support approve --request request.json --key officer.pem --approver 'Bea Office' --out approval.json
  kedge support approve 3f9c --approval approval.json")]
pub(super) struct Args {
    /// The session, or the beginning of its name
    #[arg(required_unless_present = "request")]
    session: Option<String>,
    /// Approve only these scopes of those requested
    #[arg(long, value_name = "SCOPES")]
    narrow: Option<String>,
    /// Approve only these services, parted by commas
    #[arg(long, value_delimiter = ',', value_name = "TARGETS")]
    targets: Vec<String>,
    /// Approve only so many seconds
    #[arg(long, value_name = "SECONDS")]
    ttl: Option<u64>,
    /// Approve only so many bytes
    #[arg(long, value_name = "BYTES")]
    max_bytes: Option<u64>,
    /// An approval that was signed elsewhere
    #[arg(long, value_name = "FILE", conflicts_with_all = ["narrow", "targets", "ttl", "max_bytes", "request"])]
    approval: Option<PathBuf>,
    /// A request as `kedge support show --save` wrote it, to approve without an agent
    #[arg(long, value_name = "FILE", requires_all = ["key", "out"], conflicts_with = "session")]
    request: Option<PathBuf>,
    /// The approver's private key
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// The approver's name
    #[arg(long, default_value = "approver", value_name = "NAME")]
    approver: String,
    /// The new file for the approval
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

pub(super) async fn run(context: &Context, args: Args) -> Result<(), Failure> {
    if let (Some(request), Some(key), Some(out)) = (&args.request, &args.key, &args.out) {
        return elsewhere(context, &args, request, key, out);
    }
    let session = args.session.clone().unwrap_or_default();
    let mut request = local::SupportDecideRequest::default();
    if let Some(path) = &args.approval {
        request.grant_id = session;
        request.approval = values::read_bounded_bytes(path, approval::MAX_FILE as u64)?;
    } else {
        let seen = one(context, &session).await?;
        if !args.yes {
            confirm(context, &describe(&seen))?;
        }
        request.grant_id = seen.grant_id;
        request.seen_sha256 = seen.request_sha256;
        request.narrowed = Some(local::SupportTerms {
            scopes: scopes(&args)?,
            targets: args.targets.clone(),
            max_session_seconds: args.ttl.unwrap_or_default(),
            max_bytes: args.max_bytes.unwrap_or_default(),
        });
    }
    let approved = context.connect().await?.support_decide(request).await?.into_inner();
    // A file may say no, also to a session that runs.
    let what =
        if approved.state == "approved" { ("is approved", "approved") } else { ("is denied", "closed") };
    conclude(context, &approved, what)
}

fn scopes(args: &Args) -> Result<Vec<String>, Failure> {
    let Some(line) = &args.narrow else { return Ok(Vec::new()) };
    let scopes = parse_scopes(line).map_err(|why| Failure::usage(format!("--narrow: {why}")))?;
    if scopes.is_empty() {
        return Err(Failure::usage("--narrow names no scope; to approve nothing, deny it"));
    }
    Ok(scopes.iter().map(ToString::to_string).collect())
}

fn elsewhere(context: &Context, args: &Args, request: &Path, key: &Path, out: &Path) -> Result<(), Failure> {
    let file = values::read_bounded_bytes(request, support::MAX_FILE as u64)?;
    let read = support::unverified(&file).map_err(|e| Problem::from_error(&codes::UNREADABLE, &e))?;
    let pem = Zeroizing::new(values::read_bounded_bytes(key, 4096)?);
    let pem = std::str::from_utf8(&pem).map_err(|_| Failure::usage("the key is no PEM file"))?;
    let asked = read.request.terms.clone();
    let wrong = |why: String| Failure::from(Problem::new(&codes::SUPPORT_APPROVAL, why));
    let scopes = scopes(args)?.iter().map(|scope| scope.parse()).collect::<Result<_, _>>().map_err(wrong)?;
    let targets =
        args.targets.iter().map(|target| target.parse()).collect::<Result<_, _>>().map_err(wrong)?;
    let terms = Terms {
        scopes: if args.narrow.is_some() { scopes } else { asked.scopes.clone() },
        targets: if args.targets.is_empty() { asked.targets.clone() } else { targets },
        max_session_seconds: args.ttl.unwrap_or(asked.max_session_seconds),
        max_bytes: args.max_bytes.unwrap_or(asked.max_bytes),
    };
    if let Some(beyond) = terms.beyond(&asked) {
        return Err(wrong(format!("an approval can only narrow a request: {beyond}")));
    }
    if !args.yes {
        let request = &read.request;
        let text = format!(
            "engineer    {}\nticket      {}\nreason      {}\nscopes      {}\ntargets     {}\nseconds     {}\nbytes       {}\n",
            request.engineer,
            request.ticket,
            request.reason,
            terms.scopes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
            terms.targets.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
            terms.max_session_seconds,
            terms.max_bytes
        );
        context.out.note("the vendor's signature is checked on the host, not here");
        confirm(context, &text)?;
    }
    let answer = Approval::new(&read, Decision::Approve, &args.approver, terms, jiff::Timestamp::now());
    let signed =
        approval::sign(&answer, pem).map_err(|e| Problem::from_error(&codes::SUPPORT_APPROVAL, &e))?;
    write_new(out, &signed, 0o644)?;
    context.out.note(&format!(
        "on the host: kedge support approve {:.8} --approval {}",
        read.request.grant_id,
        out.display()
    ));
    Ok(())
}

/// A yes takes a person who is there.
fn confirm(context: &Context, what: &str) -> Result<(), Failure> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return Err(Failure::usage("approving asks first; without a terminal, say --yes"));
    }
    context.out.ask(&format!("{what}Let them in? Type yes: "));
    let mut typed = String::new();
    let read = stdin.lock().take(16).read_line(&mut typed);
    if read.is_ok() && typed.trim() == "yes" { Ok(()) } else { Err(Failure::usage("nothing was approved")) }
}

/// `kedge support keygen`.
pub(super) fn keygen(context: &Context, path: &Path) -> Result<(), Failure> {
    let seed = Zeroizing::new(rand::random::<[u8; 32]>());
    let (pem, public) = approval::new_key(&seed).map_err(|e| Problem::from_error(&codes::INTERNAL, &e))?;
    write_new(path, pem.as_bytes(), 0o600)?;
    if context.out.json {
        return context.out.json(&serde_json::json!({ "public": public }));
    }
    context.out.text(&format!("approvers = [{{ name = \"…\", key = \"{public}\" }}]\n"))
}

/// Writes a file that is not there yet.
pub(super) fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Failure> {
    let write = || -> std::io::Result<()> {
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(|e| Problem::new(&codes::UNREADABLE, format!("{}: {e}", path.display())).into())
}
