//! `kedgectl bundle push` and `pull`: bundles through OCI registries.

use super::super::out::{self, Format};
use super::super::pin::Pin;
use super::super::progress::Bars;
use super::super::{input, output};
use super::name;
use crate::codes;
use crate::error::{Failure, Result, coded};
use crate::hub::bundle::one_site;
use clap::Args;
use jiff::Timestamp;
use kedge_bundle::build::{self, Credentials, Place, Pulled, Remote};
use kedge_bundle::parameters::Secret;
use kedge_bundle::verify::{Context, Trust};
use std::io::Read;
use std::path::PathBuf;
use zeroize::Zeroizing;

/// Longest password, in bytes: tokens of cloud registries are long.
const MAX_PASSWORD: u64 = 64 << 10;

/// How to log in to a registry.
#[derive(Debug, Args)]
pub(crate) struct Login {
    /// Name to log in with; default: as `docker login` stored it
    #[arg(long, value_name = "NAME", requires = "password_stdin")]
    username: Option<String>,
    /// Read the password from standard input
    #[arg(long, requires = "username")]
    password_stdin: bool,
}

impl Login {
    fn credentials(self) -> Result<Credentials> {
        let Some(user) = self.username else { return Ok(Credentials::from_environment()) };
        let mut bytes = Zeroizing::new(Vec::new());
        let unreadable =
            |why: &str| Failure::new(codes::INPUT, format!("the password on standard input {why}"));
        std::io::stdin()
            .take(MAX_PASSWORD)
            .read_to_end(&mut bytes)
            .map_err(|error| unreadable("cannot be read").because(error))?;
        let text = std::str::from_utf8(&bytes).map_err(|_| unreadable("is not text"))?;
        let password = text.strip_suffix('\n').unwrap_or(text);
        let password = password.strip_suffix('\r').unwrap_or(password);
        if password.is_empty() {
            return Err(unreadable("is empty"));
        }
        Ok(Credentials::Basic(user, Secret::new(password.to_owned())))
    }
}

/// `bundle push`.
#[derive(Debug, Args)]
pub(crate) struct Push {
    /// The bundle
    file: PathBuf,
    /// Where to: REGISTRY/REPOSITORY:TAG
    #[arg(value_parser = Place::parse)]
    to: Place,
    #[command(flatten)]
    login: Login,
    /// Another repository of the registry that may have some of the layers; may be repeated
    #[arg(long, value_name = "REPOSITORY")]
    mount_from: Vec<String>,
    /// How many blobs are sent at the same time
    #[arg(long, value_name = "NUMBER", default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=32))]
    jobs: u8,
    /// How the result is written
    #[arg(short = 'o', long, default_value = "table")]
    output: Format,
}

/// `bundle pull`.
#[derive(Debug, Args)]
pub(crate) struct Pull {
    /// Where from: REGISTRY/REPOSITORY:TAG, or @sha256:… instead of the tag
    #[arg(value_parser = Place::parse)]
    from: Place,
    /// The bundle to write
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Overwrite a file that is there
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    pin: Pin,
    #[command(flatten)]
    login: Login,
    /// How the result is written
    #[arg(long = "format", default_value = "table")]
    format: Format,
}

/// Runs `bundle push`.
pub(crate) async fn push(args: Push) -> Result<()> {
    input::check_readable(&args.file)?;
    if args.to.is_fixed() {
        let why = "push needs a tag: the digest follows from the bundle";
        return Err(Failure::new(codes::ARGUMENT, why));
    }
    let how = build::Push { jobs: args.jobs.into(), mount_from: args.mount_from };
    let credentials = args.login.credentials()?;
    let pushed =
        build::push(&args.file, &args.to, &credentials, &how, &Bars::default()).await.map_err(coded)?;
    let repository = format!("{}/{}", args.to.registry(), args.to.repository());
    match args.output {
        Format::Json => {
            let images = pushed.images.iter().map(|(reference, digest)| {
                serde_json::json!({ "reference": reference, "pull": format!("{repository}@{digest}") })
            });
            out::json(&serde_json::json!({
                "at": args.to.to_string(), "digest": pushed.digest, "release": pushed.release,
                "blobs": { "sent": pushed.sent, "mounted": pushed.mounted, "present": pushed.present },
                "sent_bytes": pushed.sent_bytes, "images": images.collect::<Vec<_>>(),
            }))
        }
        Format::Table => out::text(&format!(
            "{} is at {}, {}: {} blobs sent ({}), {} were there.\n",
            name(&pushed.release),
            args.to,
            pushed.digest,
            pushed.sent,
            out::bytes(pushed.sent_bytes),
            pushed.present + pushed.mounted,
        )),
    }
}

/// Runs `bundle pull`.
pub(crate) async fn pull(args: Pull) -> Result<()> {
    output::check_new(&args.output, args.force)?;
    let trust = Trust::pinned(args.pin.fingerprint()?);
    let remote = Remote::open(&args.from, &args.login.credentials()?).await.map_err(coded)?;
    let site = one_site(remote.documents(), &trust)?;
    let context = Context { site: site.as_deref(), ..Context::at(Timestamp::now()) };
    let pulled = remote.pull(&args.output, &trust, &context, &Bars::default()).await.map_err(coded)?;
    let Pulled { admitted, index, file, bytes } = pulled;
    let release = &admitted.verified.release;
    match args.format {
        Format::Json => out::json(&serde_json::json!({
            "file": args.output, "sha256": file.hex(), "bytes": bytes, "from": args.from.to_string(), "index": index,
            "verified": true, "digest": admitted.verified.digest, "release": release,
        })),
        Format::Table => out::text(&format!(
            "{} holds {}, verified: {}, sha256 {}.\n",
            args.output.display(),
            name(release),
            out::bytes(bytes),
            file.hex(),
        )),
    }
}
