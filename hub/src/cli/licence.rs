//! `kedgectl licence`: what customers may use.

use super::out::{self, Format};
use super::signers::{SignerArgs, borrowed};
use super::{after, input};
use crate::codes;
use crate::error::{Failure, Result, coded};
use clap::{Args, Subcommand};
use jiff::Timestamp;
use kedge_bundle::licence::{self, Licence, Limits};
use kedge_bundle::roles::{FORMAT, PublicKey, Role, Root};
use kedge_bundle::verify::{Trust, roots};
use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

/// Issues licences and shows them.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Issue a licence, or renew one
    #[command(after_help = "Examples:
  kedgectl licence issue --product shop --customer 'North Bank' --id north-1 --site north --services 20 \\
      --feature reporting --expires 365d --key keys/licence.pem --root keys -o north-1.licence
  kedgectl licence issue --renew north-1.licence --expires 365d --key keys/licence.pem --root keys -o north-1-2.licence

On the host: kedge licence install north-1.licence. A renewal keeps what it does not change and takes the next serial;
what it replaced is not taken any more.")]
    Issue(Box<Issue>),
    /// Show what a licence says, and whether it is signed by those who may
    #[command(after_help = "Examples:
  kedgectl licence inspect north-1.licence --root keys
  kedgectl licence inspect north-1.licence -o json | jq .licence.expires")]
    Inspect {
        /// The licence
        file: PathBuf,
        /// Root documents, or the folder with them, to check the signatures with; not checked where none are given
        #[arg(long = "root", value_name = "PATH")]
        roots: Vec<PathBuf>,
        /// How the result is written
        #[arg(short, long, default_value = "table")]
        output: Format,
    },
}

/// `licence issue`.
#[derive(Debug, Args)]
pub(crate) struct Issue {
    /// The licence to renew: everything that is not given stays as it is there
    #[arg(long, value_name = "FILE")]
    renew: Option<PathBuf>,
    /// The product
    #[arg(long, required_unless_present = "renew")]
    product: Option<String>,
    /// For whom
    #[arg(long, required_unless_present = "renew")]
    customer: Option<String>,
    /// Name of the licence; it stays the same through all renewals
    #[arg(long, required_unless_present = "renew", conflicts_with = "renew")]
    id: Option<String>,
    /// A site it is for; again for more. Every site where none is named
    #[arg(long = "site", value_name = "SITE")]
    sites: Vec<String>,
    /// How long it counts, from --not-before on
    #[arg(long, default_value = "365d", value_parser = super::duration, value_name = "DURATION")]
    expires: Duration,
    /// From when it counts, RFC 3339 [default: now]
    #[arg(long, value_name = "TIME")]
    not_before: Option<Timestamp>,
    /// Days after it expired in which it counts with a warning [default: 30]
    #[arg(long, value_name = "DAYS")]
    grace_days: Option<u32>,
    /// Most hosts of a site, stated but not enforced [default: no limit]
    #[arg(long, value_name = "NUMBER")]
    hosts: Option<u32>,
    /// Most containers of a deployment that are there to stay [default: no limit]
    #[arg(long, value_name = "NUMBER")]
    services: Option<u32>,
    /// A feature that it switches on; again for more
    #[arg(long = "feature", value_name = "NAME")]
    features: Vec<String>,
    /// Private licence key; again where the root asks for more than one
    #[arg(long = "key", required_unless_present = "signer_cmd", value_name = "FILE")]
    keys: Vec<PathBuf>,
    #[command(flatten)]
    signer: SignerArgs,
    /// Root documents, or the folder with them
    #[arg(long = "root", required = true, value_name = "PATH")]
    roots: Vec<PathBuf>,
    /// The file to write; one that is there is not overwritten
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// How the result is written
    #[arg(long, default_value = "table")]
    format: Format,
}

/// Runs the command.
pub(crate) fn run(command: Command) -> Result<()> {
    match command {
        Command::Issue(args) => issue(*args),
        Command::Inspect { file, roots, output } => inspect(&file, &roots, output),
    }
}

fn issue(args: Issue) -> Result<()> {
    let root = newest_root(&args.roots)?;
    let before = args.renew.as_ref().map(|path| {
        let file = input::read(path, licence::MAX_FILE as u64)?;
        licence::read(&root, &file).map_err(coded)
    });
    let licence = draft(&args, before.transpose()?, root.epoch, Timestamp::now())?;
    let keys = args.signer.open(&args.keys)?;
    let signers = borrowed(&keys);
    let listed: Vec<String> = root.role(Role::Licence).keys.iter().map(PublicKey::id).collect();
    for signer in &signers {
        let id = PublicKey::new(&signer.public(), None).id();
        if !listed.contains(&id) {
            let why = format!("key {id} is no licence key of root version {}", root.version);
            return Err(Failure::new(codes::LICENCE_KEY, why));
        }
    }
    let file = licence.sign(&signers).map_err(coded)?;
    write_new(&args.output, &file)?;
    let Licence { id, serial, customer, expires, .. } = &licence;
    match args.format {
        Format::Json => out::json(&serde_json::json!({ "file": args.output, "licence": licence })),
        Format::Table => out::text(&format!(
            "{}: licence {id} serial {serial} for {}, until {expires}\n",
            args.output.display(),
            out::clean(customer)
        )),
    }
}

/// What is to be signed: what was said, over what the licence before it had.
fn draft(args: &Issue, before: Option<Licence>, epoch: u64, now: Timestamp) -> Result<Licence> {
    let not_before = args.not_before.unwrap_or(now);
    let expires = after(not_before, args.expires)?;
    let mut licence = match before {
        // Serials start anew in a new epoch; counting on does no harm.
        Some(before) => Licence { serial: before.serial + 1, ..before },
        None => Licence {
            format: FORMAT,
            id: args.id.clone().unwrap_or_default(),
            serial: 1,
            epoch,
            customer: String::new(),
            sites: Vec::new(),
            product: String::new(),
            issued: now,
            not_before,
            expires,
            grace_days: 30,
            limits: Limits::default(),
            features: BTreeSet::new(),
        },
    };
    (licence.epoch, licence.issued, licence.not_before, licence.expires) = (epoch, now, not_before, expires);
    if let Some(product) = &args.product {
        licence.product.clone_from(product);
    }
    if let Some(customer) = &args.customer {
        licence.customer.clone_from(customer);
    }
    if !args.sites.is_empty() {
        licence.sites.clone_from(&args.sites);
    }
    if let Some(days) = args.grace_days {
        licence.grace_days = days;
    }
    licence.limits.hosts = args.hosts.or(licence.limits.hosts);
    licence.limits.services = args.services.or(licence.limits.services);
    if !args.features.is_empty() {
        licence.features = args.features.iter().cloned().collect();
    }
    licence.check().map_err(|reason| Failure::new(codes::ARGUMENT, reason))?;
    Ok(licence)
}

fn inspect(file: &std::path::Path, paths: &[PathBuf], output: Format) -> Result<()> {
    let bytes = input::read(file, licence::MAX_FILE as u64)?;
    let (licence, verified) = if paths.is_empty() {
        (licence::unverified(&bytes).map_err(coded)?, false)
    } else {
        (licence::read(&newest_root(paths)?, &bytes).map_err(coded)?, true)
    };
    match output {
        Format::Json => out::json(&serde_json::json!({ "verified": verified, "licence": licence })),
        Format::Table => out::text(&describe(&licence, verified)),
    }
}

fn describe(licence: &Licence, verified: bool) -> String {
    let limit = |limit: Option<u32>| limit.map_or_else(|| "no limit".to_owned(), |limit| limit.to_string());
    let list = |all: Vec<&str>, none: &str| if all.is_empty() { none.to_owned() } else { all.join(", ") };
    let signed = if verified { "by the licence keys of the root" } else { "not checked; give --root" };
    [
        ("licence", format!("{} serial {}, epoch {}", licence.id, licence.serial, licence.epoch)),
        ("signed", signed.to_owned()),
        ("product", licence.product.clone()),
        ("customer", licence.customer.clone()),
        ("sites", list(licence.sites.iter().map(String::as_str).collect(), "all")),
        ("issued", licence.issued.to_string()),
        ("counts", format!("{} to {}", licence.not_before, licence.expires)),
        ("grace", format!("{} days", licence.grace_days)),
        ("hosts", limit(licence.limits.hosts)),
        ("services", limit(licence.limits.services)),
        ("features", list(licence.features.iter().map(String::as_str).collect(), "none")),
    ]
    .iter()
    .map(|(name, value)| format!("{name:<9} {}\n", out::clean(value)))
    .collect()
}

/// The last root of the chain; the chain is the vendor's own, so its first root is believed.
pub(crate) fn newest_root(paths: &[PathBuf]) -> Result<Root> {
    let chain = input::roots(paths)?;
    let first = chain.first().ok_or_else(|| Failure::new(codes::INPUT, "there is no root document"))?;
    let pinned = crate::hub::bundle::fingerprint(first)?;
    Ok(roots(&Trust::pinned(pinned), &chain).map_err(coded)?.newest)
}

fn write_new(path: &std::path::Path, bytes: &[u8]) -> Result<()> {
    let failed = |error: std::io::Error| {
        let code =
            if error.kind() == std::io::ErrorKind::AlreadyExists { codes::EXISTS } else { codes::INPUT };
        Failure::new(code, format!("{} cannot be written", path.display())).because(error)
    };
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).open(path).map_err(failed)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(flatten)]
        issue: Issue,
    }

    fn drafted(line: &str, before: Option<Licence>) -> Result<Licence> {
        let fixed = "licence --key k --root r -o out";
        let words = fixed.split(' ').chain(line.split_whitespace());
        draft(&Line::parse_from(words).issue, before, 4, "2026-01-01T00:00:00Z".parse().unwrap())
    }

    #[test]
    fn a_renewal_keeps_what_it_does_not_change() {
        let first = drafted(
            "--product shop --customer North --id north-1 --site north --services 5 --feature a --grace-days 7",
            None,
        )
        .unwrap();
        assert_eq!((first.serial, first.epoch, first.grace_days), (1, 4, 7));
        assert_eq!(first.expires.to_string(), "2027-01-01T00:00:00Z");
        let next = drafted("--renew old --expires 730d --feature b", Some(first.clone())).unwrap();
        assert_eq!((next.serial, &next.id, &next.sites), (2, &first.id, &first.sites));
        assert_eq!(next.limits.services, Some(5));
        assert_eq!(next.features, ["b".to_owned()].into());
        assert_eq!(next.expires.to_string(), "2028-01-01T00:00:00Z");
    }

    #[test]
    fn a_licence_that_no_host_would_take_is_not_issued() {
        assert!(drafted("--product ../x --customer North --id north-1", None).is_err());
        assert!(drafted("--product shop --customer North --id north-1 --grace-days 9999", None).is_err());
    }
}
