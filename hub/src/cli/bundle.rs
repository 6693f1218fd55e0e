//! `kedgectl bundle`: building, signing, verifying and looking into bundles; to registries and back; bills of materials.

mod delta;
mod parts;
mod registry;
mod sbom;

use super::out::{self, Format, Table};
use super::pin::Pin;
use super::progress::Bars;
use super::signers::{SignerArgs, borrowed};
use super::{after, duration, input, output};
use crate::codes;
use crate::error::{Failure, Result, coded};
use crate::hub::bundle::{Checked, check};
use clap::{Args, Subcommand};
use jiff::Timestamp;
use kedge_bundle::assemble::Terms;
use kedge_bundle::build::{self, Built, Credentials, Inspection, Options};
use kedge_bundle::digest::Digest;
use kedge_bundle::envelope::Envelope;
use kedge_bundle::json;
use kedge_bundle::layout::{Content, Platform};
use kedge_bundle::roles::{Audience, MAX_NUMBER, PublicKey, Release, Role, Root};
use kedge_bundle::sign::Signer;
use kedge_bundle::verify::Trust;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Builds, signs, verifies and inspects bundles.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Build a bundle from a folder with a compose file
    #[command(after_help = "Examples:
  kedgectl bundle build ./shop -o shop-1.4.0.kedge --release-key keys/release.pem --root keys/root --seq 14
  kedgectl bundle build ./shop -o shop.kedge --release-key keys/release.pem --root keys/root --seq 15 \\
      --site acme-berlin --image shop/api:1.4=binary:target/release/api --image postgres:16=registry
  kedgectl bundle build ./shop -o shop-thin.kedge --full shop.kedge --base shop-1.3.9.kedge \\
      --release-key keys/release.pem --root keys/root --seq 16

With --base, the bundle leaves out what the older releases have brought; first installations need the full one (--full).

Image sources: engine, registry, oci-archive:FILE, docker-archive:FILE, dir:FOLDER, binary:FILE; they are also
read from x-kedge.images in the compose file. Registry credentials are KEDGE_REGISTRY_USER and
KEDGE_REGISTRY_PASSWORD, else those of `docker login`.")]
    Build(Box<Build>),
    /// Make a thin bundle: what a host that has an older release lacks of this one
    #[command(after_help = "Examples:
  kedgectl bundle delta shop-1.4.0.kedge --base shop-1.3.9.kedge -o shop-1.4.0-thin.kedge --release-key keys/release.pem
  kedgectl bundle delta shop.kedge --base old.kedge --base older.kedge -o thin.kedge --release-key keys/release.pem --level 9")]
    Delta(delta::Delta),
    /// Say what an update from one bundle to another costs, layer by layer
    #[command(after_help = "Examples:
  kedgectl bundle diff shop-1.3.9.kedge shop-1.4.0.kedge
  kedgectl bundle diff shop-1.3.9.kedge shop-1.4.0.kedge --estimate -o json")]
    Diff(delta::Diff),
    /// Add a signature to a bundle
    #[command(after_help = "Examples:
  kedgectl bundle sign shop.kedge --key keys/release.pem
  kedgectl bundle sign shop.kedge --signer-cmd 'hsm-sign --slot 3' --public-key release.pub")]
    Sign {
        /// The bundle
        file: PathBuf,
        /// The release key's file
        #[arg(long, value_name = "FILE")]
        key: Option<PathBuf>,
        #[command(flatten)]
        signer: SignerArgs,
        /// Write the signed bundle here; default: in place
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Verify a bundle as a host would
    #[command(after_help = "Examples:
  kedgectl bundle verify shop-1.4.0.kedge --root keys/root
  kedgectl bundle verify shop-1.4.0.kedge --root-sha256 3f0c…")]
    Verify {
        /// The bundle
        file: PathBuf,
        #[command(flatten)]
        pin: Pin,
        /// How the result is written
        #[arg(short = 'o', long, default_value = "table")]
        output: Format,
    },
    /// Show what a bundle says of itself; digests are checked, signatures and dates are not
    #[command(after_help = "Example:\n  kedgectl bundle inspect shop-1.4.0.kedge -o json")]
    Inspect {
        /// The bundle
        file: PathBuf,
        /// How the result is written
        #[arg(short = 'o', long, default_value = "table")]
        output: Format,
    },
    /// Put a bundle into an OCI registry
    #[command(after_help = "Examples:
  kedgectl bundle push shop-1.4.0.kedge registry.example.com/shop:1.4.0
  kedgectl bundle push shop-1.4.0.kedge registry.example.com/shop:1.4.0 --username ci --password-stdin < token

Only what the registry lacks is sent. Images can be pulled from there by digest: see -o json. Logins are those of
`docker login`, credential helpers included, or KEDGE_REGISTRY_USER and KEDGE_REGISTRY_PASSWORD. Registries on this
machine are spoken to without TLS, all others with it.")]
    Push(registry::Push),
    /// Get a bundle out of an OCI registry, and verify it
    #[command(after_help = "Examples:
  kedgectl bundle pull registry.example.com/shop:1.4.0 -o shop-1.4.0.kedge --root keys/root
  kedgectl bundle pull registry.example.com/shop:1.4.0 -o shop-1.4.0.kedge --root-sha256 3f0c…

The file is the one that was pushed, byte for byte. It gets its name once all of it is verified.")]
    Pull(registry::Pull),
    /// List what a bundle is made of: images, layers, and the packages found in them
    #[command(after_help = "Examples:
  kedgectl bundle sbom shop-1.4.0.kedge --format spdx -o shop-1.4.0.spdx.json
  kedgectl bundle sbom shop-1.4.0.kedge --format cyclonedx | jq '.components[].name'

Packages are those that the databases of dpkg, apk, Python and npm in the layers name; a database of rpm is told of and not
read. The same bundle gives the same document. Digests are checked, signatures are not.")]
    Sbom(sbom::Sbom),
    /// Cut a bundle into parts, for media that cannot hold it in one file
    #[command(
        after_help = "Example:\n  kedgectl bundle split shop-1.4.0.kedge --size 4G --folder /media/stick"
    )]
    Split(parts::Split),
    /// Put the parts of a bundle together again; `kedge import FOLDER` does not need it
    #[command(after_help = "Example:\n  kedgectl bundle join /media/stick -o shop-1.4.0.kedge")]
    Join(parts::Join),
}

/// `bundle build`.
#[derive(Debug, Args)]
pub(crate) struct Build {
    /// The project's folder
    dir: PathBuf,
    /// The bundle to write
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Overwrite a file that is there
    #[arg(long)]
    force: bool,
    /// Bundle of an older release: layers that it has are left out, changed ones become patches; may be repeated
    #[arg(long = "base", value_name = "FILE")]
    bases: Vec<PathBuf>,
    /// With --base: write the full bundle of the same release here as well
    #[arg(long, value_name = "FILE", requires = "bases")]
    full: Option<PathBuf>,
    /// zstd's level for patches: 1 is quick, 19 small
    #[arg(long, default_value_t = kedge_bundle::delta::make::LEVEL, value_parser = clap::value_parser!(i32).range(1..=22))]
    level: i32,
    /// Key to sign the release with; may be repeated
    #[arg(long = "release-key", value_name = "FILE", required_unless_present_any = ["unsigned", "signer_cmd"])]
    release_keys: Vec<PathBuf>,
    /// Leave the release unsigned, for `bundle sign`
    #[arg(long, conflicts_with_all = ["release_keys", "signer_cmd"])]
    unsigned: bool,
    #[command(flatten)]
    signer: SignerArgs,
    /// Root document, or the folder with the chain of them; repeated: the chain, version 1 first
    #[arg(long = "root", value_name = "PATH", required = true)]
    roots: Vec<PathBuf>,
    /// Sequence number: higher than that of every release of this stream before; the first may be 1
    #[arg(long, value_parser = sequence_number)]
    seq: u64,
    /// Lowest sequence number that hosts may still install or go back to
    #[arg(long, default_value_t = 0)]
    min_seq: u64,
    /// The line of releases that it belongs to
    #[arg(long, default_value = "stable")]
    stream: String,
    /// Site that may install it; may be repeated. Default: all
    #[arg(long = "site", value_name = "SITE")]
    sites: Vec<String>,
    /// How long it can be installed
    #[arg(long, default_value = "365d", value_parser = duration)]
    expires: Duration,
    /// Compose file, relative to the folder; may be repeated. Default: the usual names
    #[arg(short, long = "file", value_name = "FILE")]
    compose: Vec<String>,
    /// The product's version; default: that in x-kedge
    #[arg(long, value_name = "VERSION")]
    product_version: Option<String>,
    /// Where an image comes from; may be repeated
    #[arg(long = "image", value_name = "REF=SOURCE", value_parser = image)]
    images: Vec<(String, String)>,
    /// Platform of multi-platform images, as OS/ARCHITECTURE; default: this machine's
    #[arg(long, value_parser = platform)]
    platform: Option<Platform>,
    /// Registry, as HOST:PORT, that is spoken to without TLS; may be repeated
    #[arg(long, value_name = "HOST:PORT")]
    insecure_registry: Vec<String>,
    /// Socket of the local engine
    #[arg(long, value_name = "PATH", default_value = "/var/run/docker.sock")]
    engine_socket: PathBuf,
    /// File with release notes, for people
    #[arg(long, value_name = "FILE")]
    notes: Option<PathBuf>,
    /// How the result is written
    #[arg(long = "format", default_value = "table")]
    format: Format,
}

/// Runs the command.
pub(crate) async fn run(command: Command) -> Result<()> {
    match command {
        Command::Build(args) => run_build(*args).await,
        Command::Delta(args) => delta::delta(args),
        Command::Diff(args) => delta::diff(&args),
        Command::Sign { file, key, signer, output } => {
            input::check_readable(&file)?;
            let signer = signer.one(key.as_ref())?;
            build::sign_bundle(&file, output.as_deref().unwrap_or(&file), signer.as_ref()).map_err(coded)?;
            out::note(&format!("{} is signed.", output.unwrap_or(file).display()));
            Ok(())
        }
        Command::Verify { file, pin, output } => verify(&file, pin, output),
        Command::Push(args) => registry::push(args).await,
        Command::Pull(args) => registry::pull(args).await,
        Command::Sbom(args) => sbom::run(args),
        Command::Split(args) => parts::split(args),
        Command::Join(args) => parts::join(&args),
        Command::Inspect { file, output } => {
            input::check_readable(&file)?;
            let inspection = build::inspect(&file).map_err(coded)?;
            match output {
                Format::Json => out::json(&json(&inspection)),
                Format::Table => out::text(&describe(&inspection)),
            }
        }
    }
}

async fn run_build(args: Build) -> Result<()> {
    if !args.dir.is_dir() {
        let why = if args.dir.exists() { "is not a folder" } else { "does not exist" };
        return Err(Failure::new(codes::INPUT, format!("the project's folder {} {why}", args.dir.display())));
    }
    args.full.iter().chain([&args.output]).try_for_each(|file| output::check_new(file, args.force))?;
    if args.min_seq > args.seq {
        let (floor, seq) = (args.min_seq, args.seq);
        let why = format!("--min-seq {floor} is above --seq {seq}: no host could install this release");
        return Err(Failure::new(codes::ARGUMENT, why));
    }
    let keys = args.signer.open(&args.release_keys)?;
    let signers = borrowed(&keys);
    let notes = args.notes.as_deref().map(|path| input::read_text(path, input::MAX_DOCUMENT)).transpose()?;
    let issued = Timestamp::now();
    let audience = if args.sites.is_empty() { Audience::All } else { Audience::Sites(args.sites) };
    let options = Options {
        dir: args.dir,
        compose: args.compose,
        version: args.product_version,
        images: args.images.into_iter().collect(),
        platform: args.platform.unwrap_or_else(build::host_platform),
        credentials: Credentials::from_environment(),
        insecure_registries: args.insecure_registry,
        engine_socket: args.engine_socket,
        terms: Terms {
            stream: args.stream,
            seq: args.seq,
            min_seq: args.min_seq,
            audience,
            issued,
            expires: after(issued, args.expires)?,
            notes,
        },
        roots: input::roots(&args.roots)?,
    };
    listed_in_root(&options.roots, &signers)?;
    let bars = Bars::default();
    let (built, thin) = if args.bases.is_empty() {
        (build::build(&options, &args.output, &signers, &bars).await.map_err(coded)?, None)
    } else {
        let output = build::ThinOutput {
            bases: &args.bases,
            level: args.level,
            thin: &args.output,
            full: args.full.as_deref(),
        };
        let (built, thin) = build::build_thin(&options, &output, &signers, &bars).await.map_err(coded)?;
        (built, Some(thin))
    };
    let Built { release, content, warnings } = built;
    for warning in warnings {
        out::note(&format!("warning: {}", out::clean(&warning)));
    }
    if args.unsigned {
        out::note("The bundle is not signed yet; no host takes it before `kedgectl bundle sign`.");
    }
    match (args.format, thin) {
        (Format::Json, thin) => out::json(&serde_json::json!({
            "file": args.output, "release": release, "content": content_json(&content),
            "full": args.full, "delta": thin.map(|thin| thin.delta),
        })),
        (Format::Table, Some(thin)) => {
            if args.full.is_none() {
                out::note("First installations need the full bundle: --full FILE writes it as well.");
            }
            out::text(&delta::said(&args.output, &thin))
        }
        (Format::Table, None) => out::text(&format!(
            "{} holds {}: {} images, {} files, {}.\n",
            args.output.display(),
            name(&release),
            content.images.len(),
            content.files.len(),
            out::bytes(release.content_bytes),
        )),
    }
}

/// Signing with a key that no host accepts is a mistake that shows only at the customer's: it is refused here.
fn listed_in_root(roots: &[Vec<u8>], signers: &[&dyn Signer]) -> Result<()> {
    let unusable = |why: String| Failure::new(codes::INPUT, format!("the newest root cannot be read: {why}"));
    let newest = roots.last().ok_or_else(|| unusable("there is none".into()))?;
    let payload = Envelope::parse(newest).map_err(|e| unusable(e.to_string()))?.payload;
    let root: Root = json::strict(&payload).map_err(|e| unusable(e.to_string()))?;
    let listed: Vec<String> = root.role(Role::Release).keys.iter().map(PublicKey::id).collect();
    for signer in signers {
        let id = PublicKey::new(&signer.public(), None).id();
        if !listed.contains(&id) {
            let version = root.version;
            return Err(Failure::new(codes::RELEASE_KEY, format!("key {id} and root version {version}")));
        }
    }
    Ok(())
}

fn verify(file: &Path, pin: Pin, output: Format) -> Result<()> {
    let pinned = pin.fingerprint()?;
    input::check_readable(file)?;
    let bars = Bars::default();
    let size = std::fs::metadata(file).map(|metadata| metadata.len()).ok();
    build::Progress::begin(&bars, "verifying", size);
    let checked = check(file, &Trust::pinned(pinned), Timestamp::now(), &mut |bytes| {
        build::Progress::advance(&bars, bytes)
    });
    build::Progress::end(&bars);
    let Checked { verified, roots, bytes, .. } = checked?;
    match output {
        Format::Json => out::json(&serde_json::json!({
            "verified": true, "needs": verified.delta.as_ref().map(kedge_bundle::delta::Delta::needs), "digest": verified.digest, "release": verified.release, "bytes": bytes,
            "root_version": verified.root.version, "roots": roots.len(),
        })),
        Format::Table => out::text(&format!(
            "{} is good: {}{}, signed by {} under root version {}, can be installed until {}.\n",
            file.display(),
            match &verified.delta {
                Some(delta) => format!("a delta on {} to ", out::clean(&delta.built_on())),
                None => String::new(),
            },
            name(&verified.release),
            out::clean(&verified.root.vendor),
            verified.root.version,
            verified.release.expires,
        )),
    }
}

fn name(release: &Release) -> String {
    let Release { product, version, stream, seq, .. } = release;
    format!("{product} {} ({stream} {seq})", out::clean(version))
}

fn json(inspection: &Inspection) -> serde_json::Value {
    serde_json::json!({
        "trusted": false,
        "digest": inspection.digest,
        "release": inspection.release,
        "signatures": inspection.signatures,
        "root_sha256": inspection.fingerprints.first().map(Digest::hex),
        "root": inspection.root,
        "delta": inspection.delta,
        "content": content_json(&inspection.content),
    })
}

fn content_json(content: &Content) -> serde_json::Value {
    let files = content.files.iter().map(|file| {
        serde_json::json!({ "path": file.path, "digest": file.digest, "size": file.size, "executable": file.executable })
    });
    let images = content.images.iter().map(|image| {
        let layers = image.layers.iter().map(|layer| {
            serde_json::json!({ "digest": layer.digest, "size": layer.size, "diff_id": layer.diff_id })
        });
        serde_json::json!({
            "reference": image.reference,
            "platform": format!("{}/{}", image.platform.os, image.platform.architecture),
            "manifest": image.manifest,
            "config": image.config,
            "layers": layers.collect::<Vec<_>>(),
        })
    });
    serde_json::json!({
        "product": content.product,
        "files": files.collect::<Vec<_>>(),
        "images": images.collect::<Vec<_>>(),
    })
}

fn describe(inspection: &Inspection) -> String {
    let Inspection { release, digest, signatures, root, fingerprints, content, delta } = inspection;
    let audience = match &release.audience {
        Audience::All => "all sites".to_owned(),
        Audience::Sites(sites) => sites.join(", "),
    };
    let pinned = fingerprints.first().map(Digest::hex).unwrap_or_default();
    let facts = [
        ("Release", name(release)),
        ("Digest", digest.to_string()),
        ("For", audience),
        ("Lowest seq", release.min_seq.to_string()),
        ("Issued", release.issued.to_string()),
        ("Expires", release.expires.to_string()),
        ("Signatures", if signatures.is_empty() { "none".to_owned() } else { signatures.join(", ") }),
        ("Vendor", format!("{}, root version {}, fingerprint {pinned}", root.vendor, root.version)),
        (
            "Content",
            format!("{}, {} unpacked", out::bytes(release.content_bytes), out::bytes(release.unpacked_bytes)),
        ),
    ];
    let mut text: String =
        facts.iter().map(|(name, fact)| format!("{name:<12}{}\n", out::clean(fact))).collect();
    if let Some(delta) = delta {
        let (left_out, patched) = (delta.left_out.len(), delta.patches.len());
        let fact = format!("{left_out} layers left out, {patched} patched, for {}", delta.built_on());
        text.push_str(&format!("{:<12}{}\n", "Delta", out::clean(&fact)));
    }
    let mut images = Table::new(["IMAGE", "PLATFORM", "LAYERS", "SIZE", "ID"]);
    for image in &content.images {
        let size = image.layers.iter().map(|layer| layer.size).sum();
        images.row([
            image.reference.clone(),
            format!("{}/{}", image.platform.os, image.platform.architecture),
            image.layers.len().to_string(),
            out::bytes(size),
            image.config.to_string(),
        ]);
    }
    let mut files = Table::new(["FILE", "SIZE"]);
    for file in &content.files {
        files.row([file.path.clone(), out::bytes(file.size)]);
    }
    let colour = out::colour();
    text.push_str(&format!("\n{}\n{}", images.render(colour), files.render(colour)));
    text.push_str("\nDigests were checked; signatures and dates were not: see `kedgectl bundle verify`.\n");
    text
}

fn image(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((reference, source)) if !reference.is_empty() && !source.is_empty() => {
            Ok((reference.into(), source.into()))
        }
        _ => Err("write REF=SOURCE, for example shop/api:1.4=binary:target/release/api".into()),
    }
}

/// As the release document takes it: nobody waits for images that could then not be signed.
fn sequence_number(text: &str) -> Result<u64, String> {
    match text.parse() {
        Ok(0) => Err("sequence numbers begin with 1".into()),
        Ok(number) if number <= MAX_NUMBER => Ok(number),
        _ => Err(format!("write a whole number from 1 to {MAX_NUMBER}")),
    }
}

fn platform(text: &str) -> Result<Platform, String> {
    let mut parts = text.splitn(3, '/').map(str::to_owned);
    match (parts.next(), parts.next(), parts.next()) {
        (Some(os), Some(architecture), variant) if !os.is_empty() && !architecture.is_empty() => {
            Ok(Platform { architecture, os, variant })
        }
        _ => Err("write OS/ARCHITECTURE, for example linux/amd64".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn image_arguments_split_at_the_first_equals_sign() {
        assert_eq!(image("a/b:1=dir:x=y"), Ok(("a/b:1".into(), "dir:x=y".into())));
        for bad in ["", "a", "=x", "a="] {
            assert!(image(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn platforms_have_a_system_and_an_architecture() {
        let arm = platform("linux/arm/v7").unwrap();
        assert_eq!(
            (arm.os.as_str(), arm.architecture.as_str(), arm.variant.as_deref()),
            ("linux", "arm", Some("v7"))
        );
        for bad in ["", "linux", "linux/", "/amd64"] {
            assert!(platform(bad).is_err(), "{bad}");
        }
    }
}
