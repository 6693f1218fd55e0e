//! `kedgectl keys`: the vendor's keys.

use super::keyfile::{PassphraseArgs, new_passphrase};
use super::out::{self, Format};
use crate::codes;
use crate::error::{Failure, Result, coded};
use clap::{Args, Subcommand};
use jiff::Timestamp;
use kedge_bundle::keys::{Init, Keyring, generate, write_new};
use kedge_bundle::roles::{PublicKey, Root};
use kedge_bundle::verify::{Trust, roots};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Makes and shows keys.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make keys for every role, and the root document that names them
    #[command(after_help = "Examples:
  kedgectl keys init --vendor 'Example Ltd' --passphrase-file passphrase.txt
  kedgectl keys init --dir demo-keys --no-passphrase

Afterwards: root-1.pem, root-2.pem… belong on media of their own, in different hands and off line; release.pem
where releases are made; fresh.pem on the hub. The fingerprint, the only line on standard output, is what
customers are given by a way that does not lead through the hub.")]
    Init(InitArgs),
    /// Make one key pair, on the machine of the person who will hold it
    #[command(after_help = "Example:
  kedgectl keys new alice

writes alice.pem, the private key, and alice.pub, which goes to whoever drafts the root document.")]
    New {
        /// Where: NAME.pem and NAME.pub, neither of which may be there
        name: PathBuf,
        #[command(flatten)]
        passphrase: PassphraseArgs,
        /// Leave the private key readable to whoever can read the file
        #[arg(long, conflicts_with = "passphrase_file")]
        no_passphrase: bool,
        /// How the result is written
        #[arg(short, long, default_value = "table")]
        output: Format,
    },
    /// Draft, sign, show and publish root documents: ceremonies
    #[command(subcommand)]
    Root(super::root::Command),
    /// Show the root document: roles, keys and the fingerprint for customers
    #[command(after_help = "Example:\n  kedgectl keys show --dir keys -o json")]
    Show {
        /// Folder with the keys
        #[arg(long, default_value = "keys")]
        dir: PathBuf,
        /// How the result is written
        #[arg(short, long, default_value = "table")]
        output: Format,
    },
}

/// `keys init`.
#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    /// Folder to make; keys that are there are never overwritten
    #[arg(long, default_value = "keys")]
    dir: PathBuf,
    /// The vendor's name, as customers read it
    #[arg(long, default_value = "Unnamed vendor")]
    vendor: String,
    /// Number of root keys
    #[arg(long, default_value_t = 3)]
    root_keys: u32,
    /// How many of them must sign a new root document
    #[arg(long, default_value_t = 2)]
    root_threshold: u32,
    /// How long the root document lives
    #[arg(long, default_value = "1825d", value_parser = super::duration)]
    expires: Duration,
    #[command(flatten)]
    passphrase: PassphraseArgs,
    /// Leave the private keys readable to whoever can read the files
    #[arg(long, conflicts_with = "passphrase_file")]
    no_passphrase: bool,
    /// How the result is written
    #[arg(short, long, default_value = "table")]
    output: Format,
}

/// Runs the command.
pub(crate) fn run(command: Command) -> Result<()> {
    match command {
        Command::Init(args) => init(&args),
        Command::New { name, passphrase, no_passphrase, output } => {
            new(&name, &passphrase, no_passphrase, output)
        }
        Command::Root(command) => super::root::run(command),
        Command::Show { dir, output } => show(&dir, output),
    }
}

fn init(args: &InitArgs) -> Result<()> {
    let there = Keyring::at(&args.dir);
    let names = ["root-1", "release", "fresh", "licence", "support"].map(|name| there.key_path(name));
    if let Some(path) = names.iter().chain([&there.root_path(1)]).find(|path| path.exists()) {
        return Err(Failure::new(codes::EXISTS, format!("{} is there already", path.display())));
    }
    let passphrase = if args.no_passphrase { None } else { Some(new_passphrase(&args.passphrase)?) };
    let issued = Timestamp::now();
    let expires = super::after(issued, args.expires)?;
    let keyring = Keyring::init(
        &args.dir,
        &Init {
            vendor: &args.vendor,
            root_keys: args.root_keys,
            root_threshold: args.root_threshold,
            issued,
            expires,
            passphrase: passphrase.as_ref(),
        },
    )
    .map_err(coded)?;
    if passphrase.is_none() {
        out::note("warning: the private keys are not encrypted; whoever can read the files can sign as you");
    }
    let fingerprint = keyring.fingerprint().map_err(coded)?;
    match args.output {
        Format::Json => out::json(&serde_json::json!({
            "dir": args.dir,
            "root": keyring.root_path(1),
            "root_sha256": fingerprint.hex(),
            "expires": expires,
        })),
        Format::Table => {
            let (keys, threshold) = (args.root_keys, args.root_threshold);
            out::note(&format!(
                "Made {keys} root keys, of which {threshold} must sign, and one key for each other role."
            ));
            out::note(&format!("Root document: {}", keyring.root_path(1).display()));
            out::note("Fingerprint (SHA-256) for customers:");
            out::text(&format!("{}\n", fingerprint.hex()))
        }
    }
}

fn new(name: &Path, passphrase: &PassphraseArgs, no_passphrase: bool, output: Format) -> Result<()> {
    let with = |extension: &str| {
        let mut path = name.as_os_str().to_owned();
        path.push(extension);
        PathBuf::from(path)
    };
    let (private, public) = (with(".pem"), with(".pub"));
    if let Some(path) = [&private, &public].into_iter().find(|path| path.exists()) {
        return Err(Failure::new(codes::EXISTS, format!("{} is there already", path.display())));
    }
    let passphrase = if no_passphrase { None } else { Some(new_passphrase(passphrase)?) };
    let holder = name.file_name().map(|name| name.to_string_lossy().into_owned());
    let key = generate();
    let described = PublicKey::new(&key.verifying_key(), holder.clone());
    write_new(&private, &key, passphrase.as_ref()).map_err(coded)?;
    let line = format!("{} {}\n", described.public, holder.unwrap_or_default());
    std::fs::write(&public, line).map_err(|error| {
        Failure::new(codes::OUTPUT, format!("{} cannot be written", public.display())).because(error)
    })?;
    if passphrase.is_none() {
        out::note("warning: the private key is not encrypted; whoever can read the file can sign as you");
    }
    match output {
        Format::Json => out::json(&serde_json::json!({
            "key": private, "public_key": public, "public": described.public, "id": described.id(),
        })),
        Format::Table => {
            out::note(&format!(
                "Made {}, to be kept, and {}, to be given away.",
                private.display(),
                public.display()
            ));
            out::text(&format!("{}\n", described.public))
        }
    }
}

fn show(dir: &Path, output: Format) -> Result<()> {
    let keyring = Keyring::at(dir);
    let chain = keyring.roots().map_err(coded)?;
    let fingerprint = keyring.fingerprint().map_err(coded)?;
    let root = roots(&Trust::pinned(fingerprint), &chain).map_err(coded)?.newest;
    match output {
        Format::Json => out::json(&serde_json::json!({ "root_sha256": fingerprint.hex(), "root": root })),
        Format::Table => out::text(&describe(&root, &fingerprint.hex())),
    }
}

fn describe(root: &Root, fingerprint: &str) -> String {
    format!(
        "Vendor       {}\nRoot         version {}, epoch {}, expires {}\nFingerprint  {fingerprint}\n\n{}",
        out::clean(&root.vendor),
        root.version,
        root.epoch,
        root.expires,
        super::root::show::roles(root).render(out::colour())
    )
}
