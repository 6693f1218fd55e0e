//! `kedgectl support request`: signs what is asked for and has it carried to the host.

use super::session::{Facts, Sessions};
use crate::cli::client::Data;
use crate::cli::out::{self, Format};
use crate::cli::signers::SignerArgs;
use crate::cli::{after, licence};
use crate::codes;
use crate::error::{Failure, Result, coded};
use clap::Args;
use jiff::Timestamp;
use kedge_bundle::roles::{FORMAT, PublicKey, Role};
use kedge_bundle::support::tunnel::PrivateKey;
use kedge_bundle::support::{Request as Document, Target, Terms, parse_scopes};
use kedge_proto::hub::v1::{FleetRequest, SupportOfferRequest, SupportRequestRequest};
use std::path::PathBuf;
use std::time::Duration;

/// Ask a customer to be let in to a host
///
/// The request is signed with the vendor's support key and carried to the host, whose owner decides. Nothing is opened by it.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  kedgectl support request h-0123456789abcdef --target shop --scope logs,inspect,run:'pg_isready -h db' \\
      --ticket T-4711 --reason 'orders are stuck' --ttl 30m --key keys/support.pem --root keys
  kedgectl support request h-0123456789abcdef --target shop/api --scope shell --ticket T-4711 --reason 'see above' \\
      --signer-cmd 'hsm-sign support' --public-key support.pub --root keys")]
pub(crate) struct Request {
    /// The host's ID
    host: String,
    /// Deployment, or deployment/service; parted by commas or given again
    #[arg(long = "target", required = true, value_delimiter = ',', value_name = "TARGET")]
    targets: Vec<String>,
    /// What to do there: inspect, logs, bundle, shell, run:'COMMAND', forward:SERVICE:PORT, parted by commas
    #[arg(long = "scope", required = true, value_name = "SCOPES")]
    scopes: Vec<String>,
    /// The product [default: what the host says that it is]
    #[arg(long)]
    product: Option<String>,
    /// The ticket that this is about
    #[arg(long)]
    ticket: String,
    /// Why, for the customer to read
    #[arg(long)]
    reason: String,
    /// How long the session may last, from its opening
    #[arg(long, default_value = "30m", value_parser = crate::cli::duration, value_name = "TIME")]
    ttl: Duration,
    /// How many bytes may leave the host
    #[arg(long, default_value_t = 64 << 20, value_name = "BYTES")]
    max_bytes: u64,
    /// How long the customer may take to answer, and the session to be opened
    #[arg(long, default_value = "1d", value_parser = crate::cli::duration, value_name = "TIME")]
    answer_within: Duration,
    /// Who comes [default: this user]
    #[arg(long, env = "USER", default_value = "somebody", value_name = "NAME")]
    engineer: String,
    /// The host's key, as the customer told it (`kedge support show`) [default: the one it had before]
    #[arg(long, value_name = "HEX")]
    host_key: Option<String>,
    /// Private support key
    #[arg(long, required_unless_present = "signer_cmd", value_name = "FILE")]
    key: Option<PathBuf>,
    #[command(flatten)]
    signer: SignerArgs,
    /// Root documents, or the folder with them
    #[arg(long = "root", required = true, value_name = "PATH")]
    roots: Vec<PathBuf>,
    #[command(flatten)]
    sessions: Sessions,
    #[command(flatten)]
    data: Data,
    /// How the result is written
    #[arg(short, long, default_value = "table")]
    output: Format,
}

pub(super) async fn run(args: Request) -> Result<()> {
    let root = licence::newest_root(&args.roots)?;
    let signer = args.signer.one(args.key.as_ref())?;
    let key_id = PublicKey::new(&signer.public(), None).id();
    if !root.role(Role::Support).keys.iter().any(|key| key.id() == key_id) {
        let why = format!("key {key_id} is no support key of root version {}", root.version);
        return Err(Failure::new(codes::SUPPORT_KEY, why));
    }
    let terms = terms(&args)?;
    let mut hub = args.data.connect().await?;
    let failed = |status: tonic::Status| Failure::from_status(&status);
    let product = match &args.product {
        Some(product) => product.clone(),
        None => {
            let reply =
                hub.fleet(FleetRequest { host: args.host.clone() }).await.map_err(failed)?.into_inner();
            let status = reply.hosts.into_iter().next().and_then(|host| host.status).unwrap_or_default();
            let its = |target: &Target| status.deployments.iter().find(|d| d.name == target.deployment);
            let found = terms.targets.iter().find_map(its).map(|deployment| deployment.product.clone());
            found.ok_or_else(|| {
                Failure::new(codes::ARGUMENT, "the host reports no such deployment; name the --product")
            })?
        }
    };
    let offer = hub
        .support_offer(SupportOfferRequest { host: args.host.clone() })
        .await
        .map_err(failed)?
        .into_inner();
    if let Some(problem) = offer.problem {
        let why = format!("the host says: {} [{}]", problem.message, problem.code);
        return Err(Failure::new(codes::SUPPORT_REFUSED, why));
    }
    args.sessions.check_host(&args.host, &offer.host_key, args.host_key.as_deref())?;
    let (session_key, public) = PrivateKey::generate()
        .map_err(|error| Failure::new(codes::UNEXPECTED, "no key for the session").because(error))?;
    let now = Timestamp::now();
    // Whole seconds: what is signed is what people see.
    let issued = Timestamp::from_second(now.as_second()).unwrap_or(now);
    let document = Document {
        format: FORMAT,
        grant_id: format!("{:032x}", rand::random::<u128>()),
        key_id,
        product,
        host_key: offer.host_key.clone(),
        agent_nonce: offer.nonce,
        engineer: args.engineer.clone(),
        session_key: public,
        ticket: args.ticket.clone(),
        reason: args.reason.clone(),
        terms,
        issued,
        not_after: after(issued, args.answer_within)?,
    };
    document.check().map_err(|why| Failure::new(codes::ARGUMENT, why))?;
    let file = document.sign(&[signer.as_ref()]).map_err(coded)?;
    let facts = Facts {
        grant_id: document.grant_id.clone(),
        host: args.host.clone(),
        host_key: offer.host_key,
        data: args.data.data.clone(),
        ticket: document.ticket.clone(),
        scopes: document.terms.scopes.iter().map(ToString::to_string).collect(),
        targets: document.terms.targets.iter().map(ToString::to_string).collect(),
        issued: document.issued.to_string(),
        not_after: document.not_after.to_string(),
    };
    let session = args.sessions.create(facts, &session_key, &file)?;
    let request = SupportRequestRequest { host: args.host.clone(), file };
    let news = hub.support_request(request).await.map_err(failed)?.into_inner();
    if news.state == "refused" {
        return Err(super::refused(&news));
    }
    match args.output {
        Format::Json => out::json(&session.facts),
        Format::Table => out::text(&format!(
            "session {}: {}; kedgectl support wait {:.8}\n",
            session.facts.grant_id,
            out::clean(&news.message),
            session.facts.grant_id
        )),
    }
}

fn terms(args: &Request) -> Result<Terms> {
    let wrong = |why: String| Failure::new(codes::ARGUMENT, why);
    let mut scopes = std::collections::BTreeSet::new();
    for line in &args.scopes {
        scopes.extend(parse_scopes(line).map_err(wrong)?);
    }
    let targets = args.targets.iter().map(|target| target.parse::<Target>());
    let terms = Terms {
        scopes,
        targets: targets.collect::<std::result::Result<_, _>>().map_err(wrong)?,
        max_session_seconds: args.ttl.as_secs(),
        max_bytes: args.max_bytes,
    };
    terms.check().map_err(wrong)?;
    Ok(terms)
}
