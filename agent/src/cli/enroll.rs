//! `kedge enroll`: makes this host a member of a fleet.

use std::path::PathBuf;
use std::time::Duration;

use kedge_proto::local::v1 as local;
use kedge_proto::v1;
use zeroize::Zeroizing;

use super::deploy::{self, Product};
use super::failure::Failure;
use super::{Context, follow, request_id, values};

/// Enrol this host with a vendor's hub
///
/// The hub must prove to be the one that made the token before anything is said to it. What it sends is
/// verified against the root fingerprint, which you should have from the vendor by another way.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kedge enroll --hub https://hub.example.com:8443 --token-file token.txt --root-sha256 3f9c…
  echo \"$TOKEN\" | kedge enroll --hub https://hub.example.com --token-file - --root-sha256 3f9c…
  KEDGE_TOKEN=kt1.… kedge enroll --hub https://hub.example.com --root-sha256 3f9c… --deploy shop

A token given with --token can be seen by every user of this host while the command runs:
prefer --token-file, standard input or KEDGE_TOKEN.")]
pub(super) struct Args {
    /// The hub, https://HOST[:PORT]
    #[arg(long, value_name = "URL")]
    hub: String,
    /// The enrolment token (kt1.…); visible in `ps`, see below
    #[arg(long, env = "KEDGE_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    token: Option<Token>,
    /// A file that holds the token; `-` is standard input
    #[arg(long, value_name = "FILE", required_unless_present = "token")]
    token_file: Option<PathBuf>,
    /// SHA-256 of the vendor's root document, in hexadecimal; needed unless the agent's configuration has it
    #[arg(long, value_name = "HEX")]
    root_sha256: Option<String>,
    /// Deploy this product as soon as the hub offers it
    #[arg(long, value_name = "PRODUCT[@STREAM]", value_parser = deploy::parse_product)]
    deploy: Option<Product>,
}

/// A token that does not print.
#[derive(Clone)]
struct Token(Zeroizing<String>);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(…)")
    }
}

impl From<&str> for Token {
    fn from(text: &str) -> Self {
        Self(Zeroizing::new(text.to_owned()))
    }
}

/// Largest token file, bytes; a token has about 150.
const MAX_TOKEN_FILE: u64 = 4096;
/// How long an offer may take to arrive after enrolling.
const OFFER_WAIT: Duration = Duration::from_secs(60);

pub(super) async fn run(context: &Context, args: Args) -> Result<(), Failure> {
    let token = match (&args.token, &args.token_file) {
        // What was said on this command line is meant, whatever the environment holds.
        (_, Some(path)) => Token(Zeroizing::new(values::read_bounded(path, MAX_TOKEN_FILE)?)),
        (Some(token), None) => token.clone(),
        (None, None) => return Err(Failure::usage("--token-file or --token is needed")),
    };
    let request = local::EnrollRequest {
        hub: args.hub,
        token: token.0.trim().to_owned(),
        root_sha256: args.root_sha256.unwrap_or_default(),
    };
    let reply = context.connect().await?.enroll(request).await?.into_inner();
    if context.out.json {
        context.out.json(&reply)?;
    } else if !context.out.quiet {
        let local::EnrollReply { host_id, site, hub } = &reply;
        context.out.text(&format!("enrolled with {hub} as {host_id}, site {site}\n"))?;
    }
    match args.deploy {
        Some(product) => deploy_when_offered(context, product).await,
        None => Ok(()),
    }
}

async fn deploy_when_offered(context: &Context, product: Product) -> Result<(), Failure> {
    context.out.note(&format!("waiting for the hub to offer {}", product.name));
    let mut client = context.connect().await?;
    let mut statuses = client.watch(local::StatusRequest::default()).await?.into_inner();
    let offered = async {
        while let Some(status) = statuses.message().await? {
            if is_offered(&status, &product) {
                break;
            }
        }
        Ok::<_, Failure>(())
    };
    // When the wait is over the daemon says better than we could what is missing.
    if let Ok(outcome) = tokio::time::timeout(OFFER_WAIT, offered).await {
        outcome?;
    }
    let request = local::DeployRequest {
        product: product.name,
        stream: product.stream,
        request_id: request_id(),
        ..local::DeployRequest::default()
    };
    deploy::deploy(context, request, follow::Options::default()).await
}

/// Offered, or already followed by a deployment here.
fn is_offered(status: &v1::HostStatus, product: &Product) -> bool {
    let stream_fits = |stream: &str| match product.stream.as_str() {
        "" => stream == "stable",
        wanted => stream == wanted,
    };
    let offers = status.tether.iter().flat_map(|t| &t.offers).map(|o| (&o.product, &o.stream));
    let deployed = status.deployments.iter().map(|d| (&d.product, &d.stream));
    offers.chain(deployed).any(|(name, stream)| *name == product.name && stream_fits(stream))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_never_prints() {
        assert!(!format!("{:?}", Token::from("kt1.secret")).contains("secret"));
    }

    #[test]
    fn the_default_stream_is_stable() {
        let offer = |stream: &str| v1::HostStatus {
            tether: Some(v1::TetherStatus {
                offers: vec![v1::Offer {
                    product: "shop".into(),
                    stream: stream.into(),
                    ..v1::Offer::default()
                }],
                ..v1::TetherStatus::default()
            }),
            ..v1::HostStatus::default()
        };
        let product = |stream: &str| Product { name: "shop".into(), stream: stream.into() };
        for (offered, wanted, expected) in
            [("stable", "", true), ("beta", "", false), ("beta", "beta", true), ("stable", "beta", false)]
        {
            assert_eq!(is_offered(&offer(offered), &product(wanted)), expected, "{offered} {wanted}");
        }
    }
}
