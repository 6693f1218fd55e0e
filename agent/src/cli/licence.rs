//! `kedge licence`: what this host may use.

use std::path::PathBuf;

use clap::Subcommand;
use kedge_bundle::licence::MAX_FILE;
use kedge_proto::local::v1 as local;

use super::Context;
use super::failure::Failure;
use super::{say, values};

/// Install a vendor's licence, or show those that are here
///
/// Without a licence that a product asks for, and once one and its grace have expired, nothing new is begun: no release, no
/// deployment, no more containers. What runs goes on, and a renewal is always taken.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kedge licence install shop-2027.licence
  kedge licence show
  kedge licence show shop -o json")]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Take a licence: verified against the vendor's root, refused if it is older than the one here
    #[command(
        after_help = "Examples:\n  kedge licence install shop-2027.licence\n  cat shop.licence | kedge licence install -"
    )]
    Install {
        /// The licence; `-` is standard input
        file: PathBuf,
    },
    /// Show the licences on this host and what they amount to now
    #[command(after_help = "Examples:\n  kedge licence show\n  kedge licence show shop -o json")]
    Show {
        /// Only this product's
        product: Option<String>,
    },
}

pub(super) async fn run(context: &Context, args: Args) -> Result<(), Failure> {
    match args.command {
        Command::Install { file } => install(context, file).await,
        Command::Show { product } => show(context, product).await,
    }
}

async fn install(context: &Context, file: PathBuf) -> Result<(), Failure> {
    let file = values::read_bounded_bytes(&file, MAX_FILE as u64)?;
    let request = local::InstallLicenceRequest { file };
    let licence = context.connect().await?.install_licence(request).await?.into_inner();
    if context.out.json {
        return context.out.json(&licence);
    }
    if context.out.quiet {
        return Ok(());
    }
    let local::Licence { id, serial, product, expires, .. } = &licence;
    context.out.text(&format!(
        "licence {id} serial {serial} for {product} is installed; it expires at {expires}\n"
    ))?;
    if !licence.why.is_empty() {
        context.out.note(&format!("it is {}: {}", licence.standing, say::clean(&licence.why)));
    }
    Ok(())
}

async fn show(context: &Context, product: Option<String>) -> Result<(), Failure> {
    let request = local::LicencesRequest { product: product.unwrap_or_default() };
    let licences = context.connect().await?.licences(request).await?.into_inner().licences;
    if context.out.json {
        return context.out.json(&licences);
    }
    if licences.is_empty() {
        context.out.note("no licence is installed");
        return Ok(());
    }
    for (number, licence) in licences.iter().enumerate() {
        if number > 0 {
            context.out.text("\n")?;
        }
        context.out.text(&describe(licence))?;
    }
    Ok(())
}

fn describe(licence: &local::Licence) -> String {
    let limit = |limit: Option<u32>| limit.map_or_else(|| "no limit".to_owned(), |limit| limit.to_string());
    let list = |all: &[String], none: &str| if all.is_empty() { none.to_owned() } else { all.join(", ") };
    let standing = match licence.why.as_str() {
        "" => licence.standing.clone(),
        why => format!("{}: {why}", licence.standing),
    };
    [
        ("product", licence.product.clone()),
        ("licence", format!("{} serial {}", licence.id, licence.serial)),
        ("customer", licence.customer.clone()),
        ("standing", standing),
        ("expires", format!("{}, then {} days of grace", licence.expires, licence.grace_days)),
        ("sites", list(&licence.sites, "all")),
        ("hosts", limit(licence.hosts)),
        ("services", limit(licence.services)),
        ("features", list(&licence.features, "none")),
        ("installed", licence.installed.clone()),
    ]
    .iter()
    .map(|(name, value)| format!("{name:<10} {}\n", say::clean(value)))
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_licence_is_described_with_what_it_amounts_to() {
        let licence = local::Licence {
            product: "shop".into(),
            id: "north-1".into(),
            serial: 3,
            standing: "grace".into(),
            why: "it expired".into(),
            services: Some(5),
            ..local::Licence::default()
        };
        let text = describe(&licence);
        for expected in
            ["standing   grace: it expired", "services   5", "hosts      no limit", "sites      all"]
        {
            assert!(text.contains(expected), "{text}");
        }
    }
}
