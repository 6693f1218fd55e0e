//! `kedge deploy`: a product that the hub offers.

use kedge_proto::local::v1 as local;

use super::failure::Failure;
use super::{Context, follow, request_id, values};

/// Deploy a product that the hub offers, or give one that runs new parameters
///
/// The deployment follows its stream from then on: newer releases are taken by themselves.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kedge deploy acme-shop                             the newest of its stable stream
  kedge deploy acme-shop@beta --as shop-beta --set PORT=8081
  kedge deploy acme-shop --set LOG_LEVEL=debug       a new parameter for the one that runs
  kedge deploy acme-shop --dry-run")]
pub(super) struct Args {
    /// The product, and its stream where it is not `stable`
    #[arg(value_name = "PRODUCT[@STREAM]", value_parser = parse_product)]
    product: Product,
    /// Name of the deployment [default: the product's name]
    #[arg(long = "as", value_name = "NAME")]
    name: Option<String>,
    #[command(flatten)]
    values: values::Values,
    /// Say what would be done; change nothing
    #[arg(long)]
    dry_run: bool,
    /// Come back at once, without waiting for the deployment
    #[arg(long)]
    detach: bool,
}

/// `PRODUCT[@STREAM]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Product {
    pub name: String,
    /// Empty: the default stream.
    pub stream: String,
}

pub(super) fn parse_product(text: &str) -> Result<Product, String> {
    let (name, stream) = text.split_once('@').unwrap_or((text, ""));
    if name.is_empty() || (text.contains('@') && stream.is_empty()) || stream.contains('@') {
        return Err("it must be PRODUCT or PRODUCT@STREAM".to_owned());
    }
    Ok(Product { name: name.to_owned(), stream: stream.to_owned() })
}

pub(super) async fn run(context: &Context, args: Args) -> Result<(), Failure> {
    let request = local::DeployRequest {
        product: args.product.name,
        stream: args.product.stream,
        deployment: args.name.unwrap_or_default(),
        parameters: args.values.read()?.into_iter().collect(),
        request_id: request_id(),
        dry_run: args.dry_run,
    };
    let options = follow::Options { detach: args.detach, ..follow::Options::default() };
    deploy(context, request, options).await
}

/// Asks and follows.
pub(super) async fn deploy(
    context: &Context,
    request: local::DeployRequest,
    options: follow::Options,
) -> Result<(), Failure> {
    let mut client = context.connect().await?;
    let done = follow::follow(&context.out, client.deploy(request), options).await?;
    follow::conclude(&context.out, done.as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_product_may_name_its_stream() {
        let product = |name: &str, stream: &str| Product { name: name.into(), stream: stream.into() };
        assert_eq!(parse_product("shop"), Ok(product("shop", "")));
        assert_eq!(parse_product("shop@beta"), Ok(product("shop", "beta")));
        for bad in ["", "@", "shop@", "@beta", "a@b@c"] {
            assert!(parse_product(bad).is_err(), "{bad}");
        }
    }
}
