//! `kedgectl keys root`: ceremonies. A draft is a file that goes from hand to hand; each holder signs on a machine of their own.

mod files;
pub(crate) mod show;

use self::files::{folder, in_force, read, read_draft, unwritable, verified, write};
use self::show::{called, describe, json, missing, tell};
use super::out::{self, Format};
use super::signers::{SignerArgs, public_key};
use super::{after, duration, input};
use crate::codes;
use crate::error::{Failure, Result, coded};
use clap::{Args, Subcommand};
use jiff::Timestamp;
use kedge_bundle::ceremony::{self, Draft};
use kedge_bundle::roles::{FORMAT, PublicKey, Role, RoleKeys, Roles, Root};
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Makes and signs root documents.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Draft the first root document from public keys
    #[command(after_help = "Example, each `.pub` made by `kedgectl keys new` on its holder's machine:
  kedgectl keys root init --draft root-1.json --vendor 'Example Ltd' --threshold 2 \\
      --root-key alice.pub --root-key bob.pub --root-key carol.pub \\
      --release-key release.pub --fresh-key fresh.pub --licence-key licence.pub --support-key support.pub

Then each holder: kedgectl keys root sign root-1.json --key alice.pem
At last:          kedgectl keys root publish root-1.json --root keys/root")]
    Init(Init),
    /// Draft a root document that lists one more key
    #[command(after_help = "Examples:
  kedgectl keys root add --root keys/root --draft next.json --role release --key build-farm.pub
  kedgectl keys root add --draft next.json --role root --key dave.pub --threshold 3

A draft that is there is changed further; one that has signatures only with --discard-signatures.")]
    Add(Add),
    /// Draft a root document without a key
    #[command(after_help = "Examples:
  kedgectl keys root remove --draft next.json --role root --key carol
  kedgectl keys root remove --draft next.json --role release --key 3f0c9a7e --threshold 1 --dry-run")]
    Remove(Remove),
    /// Draft a root document with a key replaced, with a new date, or with a new epoch
    #[command(after_help = "Examples:
  kedgectl keys root rotate --draft next.json --role fresh --key fresh --with fresh-2027.pub
  kedgectl keys root rotate --draft next.json                       the same keys, a new date
  kedgectl keys root rotate --draft next.json --role release --key release --with new.pub --new-epoch

A new epoch makes every host count from anew: the way back after someone with a release key has used up the sequence
numbers. Releases signed before it cannot be told apart by number from those after it, so replace the key as well.")]
    Rotate(Rotate),
    /// Add one signature to a draft, after showing what it changes and what the signature counts for
    #[command(after_help = "Examples:
  kedgectl keys root sign next.json --key alice.pem --root keys/root
  kedgectl keys root sign next.json --signer-cmd 'hsm-sign --slot 2' --public-key alice.pub --yes
  kedgectl keys root sign next.json --dry-run                         only show")]
    Sign(Sign),
    /// Show who has signed, what is missing, versions, expiry and epochs
    #[command(after_help = "Examples:
  kedgectl keys root show --root keys/root                            the chain in force
  kedgectl keys root show next.json --root keys/root -o json          a draft")]
    Show(Show),
    /// Put a completely signed draft at the end of the chain; several copies of it bring their signatures together
    #[command(after_help = "Example:
  kedgectl keys root publish next-alice.json next-bob.json --root keys/root

Hosts learn of it with the next bundle that is built with this chain; the hub when it is started with it.")]
    Publish(Publish),
}

/// `keys root init`.
#[derive(Debug, Args)]
pub(crate) struct Init {
    /// The draft to write
    #[arg(long, value_name = "FILE")]
    draft: PathBuf,
    /// The vendor's name, as customers read it
    #[arg(long)]
    vendor: String,
    /// Public key of a root key's holder: a file or 64 digits; may be repeated
    #[arg(long = "root-key", value_name = "PUBLIC", required = true)]
    root: Vec<String>,
    /// How many of them must sign
    #[arg(long)]
    threshold: u32,
    /// Public key that signs releases; may be repeated
    #[arg(long = "release-key", value_name = "PUBLIC", required = true)]
    release: Vec<String>,
    /// Public key that the hub signs statements with; may be repeated
    #[arg(long = "fresh-key", value_name = "PUBLIC", required = true)]
    fresh: Vec<String>,
    /// Public key that signs licences; may be repeated
    #[arg(long = "licence-key", value_name = "PUBLIC", required = true)]
    licence: Vec<String>,
    /// Public key that signs requests for support sessions; may be repeated
    #[arg(long = "support-key", value_name = "PUBLIC", required = true)]
    support: Vec<String>,
    /// How long the root document lives
    #[arg(long, default_value = "1825d", value_parser = duration)]
    expires: Duration,
    #[command(flatten)]
    how: How,
}

/// What every drafting command is told.
#[derive(Debug, Args)]
pub(crate) struct Change {
    /// The chain in force: the folder with 1.json, 2.json…
    #[arg(long, value_name = "FOLDER", default_value = "keys/root")]
    root: PathBuf,
    /// The draft to write, or to change further
    #[arg(long, value_name = "FILE")]
    draft: PathBuf,
    /// How many of the role's keys must sign from now on
    #[arg(long, value_name = "NUMBER")]
    threshold: Option<u32>,
    /// How long the new root document lives
    #[arg(long, default_value = "1825d", value_parser = duration)]
    expires: Duration,
    /// Change a draft that has signatures, which are lost
    #[arg(long)]
    discard_signatures: bool,
    #[command(flatten)]
    how: How,
}

/// Whether, and how it is told.
#[derive(Debug, Args)]
pub(crate) struct How {
    /// Show what would be done; write nothing
    #[arg(long)]
    dry_run: bool,
    /// How the result is written
    #[arg(short, long, default_value = "table")]
    output: Format,
}

/// `keys root add`.
#[derive(Debug, Args)]
pub(crate) struct Add {
    /// The role
    #[arg(long, value_parser = role)]
    role: Role,
    /// Public key to add: a file or 64 digits
    #[arg(long, value_name = "PUBLIC")]
    key: String,
    /// Whose key it is; default: the file's name
    #[arg(long)]
    name: Option<String>,
    #[command(flatten)]
    change: Change,
}

/// `keys root remove`.
#[derive(Debug, Args)]
pub(crate) struct Remove {
    /// The role
    #[arg(long, value_parser = role)]
    role: Role,
    /// Key to remove: its name, its ID, or the first digits of that
    #[arg(long, value_name = "NAME|ID")]
    key: String,
    #[command(flatten)]
    change: Change,
}

/// `keys root rotate`.
#[derive(Debug, Args)]
pub(crate) struct Rotate {
    /// The role
    #[arg(long, value_parser = role, requires = "key")]
    role: Option<Role>,
    /// Key to replace: its name, its ID, or the first digits of that
    #[arg(long, value_name = "NAME|ID", requires = "with", requires = "role")]
    key: Option<String>,
    /// Public key in its place: a file or 64 digits
    #[arg(long, value_name = "PUBLIC", requires = "key")]
    with: Option<String>,
    /// Whose key the new one is; default: the file's name
    #[arg(long)]
    name: Option<String>,
    /// Raise the epoch: sequence numbers start again on every host
    #[arg(long)]
    new_epoch: bool,
    #[command(flatten)]
    change: Change,
}

/// `keys root sign`.
#[derive(Debug, Args)]
pub(crate) struct Sign {
    /// The draft
    draft: PathBuf,
    /// The chain in force; not needed for version 1
    #[arg(long, value_name = "PATH", default_value = "keys/root")]
    root: PathBuf,
    /// The key's file
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    #[command(flatten)]
    signer: SignerArgs,
    /// Sign without asking
    #[arg(short, long)]
    yes: bool,
    #[command(flatten)]
    how: How,
}

/// `keys root show`.
#[derive(Debug, Args)]
pub(crate) struct Show {
    /// A draft; default: the newest of the chain
    draft: Option<PathBuf>,
    /// The chain in force; not needed for a draft of version 1
    #[arg(long, value_name = "PATH", default_value = "keys/root")]
    root: PathBuf,
    /// How the result is written
    #[arg(short, long, default_value = "table")]
    output: Format,
}

/// `keys root publish`.
#[derive(Debug, Args)]
pub(crate) struct Publish {
    /// The draft, or copies of it with different signatures
    #[arg(required = true)]
    drafts: Vec<PathBuf>,
    /// The folder of the chain
    #[arg(long, value_name = "FOLDER", default_value = "keys/root")]
    root: PathBuf,
    #[command(flatten)]
    how: How,
}

/// Runs the command.
pub(crate) fn run(command: Command) -> Result<()> {
    match command {
        Command::Init(args) => init(&args),
        Command::Add(Add { role, key, name, change }) => {
            let key = named(&key, name)?;
            draft(&change, Some(role), |root| ceremony::add(root, role, key))
        }
        Command::Remove(Remove { role, key, change }) => {
            draft(&change, Some(role), |root| ceremony::remove(root, role, &key).map(drop))
        }
        Command::Rotate(args) => rotate(&args),
        Command::Sign(args) => sign(&args),
        Command::Show(args) => shown(&args),
        Command::Publish(args) => publish(&args),
    }
}

fn role(text: &str) -> Result<Role, String> {
    let known = || Role::ALL.map(Role::name).join(", ");
    Role::ALL.into_iter().find(|role| role.name() == text).ok_or_else(|| format!("one of {}", known()))
}

/// A public key with a name: what is said, else that of its file.
fn named(key: &str, name: Option<String>) -> Result<PublicKey> {
    let public = public_key(key)?;
    let stem = Path::new(key).file_stem().map(|stem| stem.to_string_lossy().into_owned());
    Ok(PublicKey::new(&public, name.or(stem.filter(|stem| stem.len() < 64))))
}

fn init(args: &Init) -> Result<()> {
    if args.draft.exists() {
        let why = format!("{} is there already", args.draft.display());
        return Err(Failure::new(codes::EXISTS, why));
    }
    let role = |keys: &[String], threshold| -> Result<RoleKeys> {
        let keys = keys.iter().map(|key| named(key, None)).collect::<Result<_>>()?;
        Ok(RoleKeys { keys, threshold })
    };
    let issued = Timestamp::now();
    let empty = RoleKeys { keys: Vec::new(), threshold: 1 };
    let mut root = Root {
        format: FORMAT,
        version: 1,
        epoch: 1,
        vendor: args.vendor.clone(),
        issued,
        expires: after(issued, args.expires)?,
        roles: Roles {
            root: role(&args.root, args.threshold)?,
            release: empty.clone(),
            fresh: empty.clone(),
            licence: empty.clone(),
            support: empty,
        },
    };
    let others = [
        (Role::Release, &args.release),
        (Role::Fresh, &args.fresh),
        (Role::Licence, &args.licence),
        (Role::Support, &args.support),
    ];
    for (role, keys) in others {
        for key in keys {
            ceremony::add(&mut root, role, named(key, None)?).map_err(coded)?;
        }
    }
    let draft = Draft::first(root).map_err(coded)?;
    tell_draft(&draft, &args.draft, &args.how)
}

fn rotate(args: &Rotate) -> Result<()> {
    let replaced = match (args.role, &args.key, &args.with) {
        (Some(role), Some(key), Some(with)) => Some((role, key, named(with, args.name.clone())?)),
        _ => None,
    };
    draft(&args.change, args.role, |root| {
        if let Some((role, key, with)) = replaced {
            ceremony::remove(root, role, key)?;
            ceremony::add(root, role, with)?;
        }
        root.epoch += u64::from(args.new_epoch);
        Ok(())
    })
}

/// Makes or changes a draft, and shows it.
fn draft(
    args: &Change,
    role: Option<Role>,
    change: impl FnOnce(&mut Root) -> Result<(), ceremony::Error>,
) -> Result<()> {
    let before = in_force(&args.root)?;
    let issued = Timestamp::now();
    let expires = after(issued, args.expires)?;
    let mut draft = if args.draft.exists() {
        let draft = read(&args.draft, Some(&before))?;
        if draft.signatures() > 0 && !args.discard_signatures {
            let why = format!(
                "{} has {} signatures, which a change makes worthless; give --discard-signatures",
                args.draft.display(),
                draft.signatures()
            );
            return Err(Failure::new(codes::EXISTS, why));
        }
        draft
    } else {
        Draft::after(&before, issued, expires).map_err(coded)?
    };
    let threshold = args.threshold;
    let changed = draft.change(|root| {
        change(root)?;
        if let (Some(role), Some(threshold)) = (role, threshold) {
            ceremony::set_threshold(root, role, threshold);
        }
        (root.issued, root.expires) = (issued, expires);
        Ok(())
    });
    changed.map_err(coded)?;
    tell_draft(&draft, &args.draft, &args.how)
}

fn tell_draft(draft: &Draft, path: &Path, how: &How) -> Result<()> {
    if !how.dry_run {
        write(path, &draft.encode())?;
    }
    tell(draft, Some(path), how.output)?;
    if how.output == Format::Table {
        out::note(&if how.dry_run {
            "Nothing was written.".to_owned()
        } else {
            format!("{0} is drafted. Each holder: kedgectl keys root sign {0} --key KEY", path.display())
        });
    }
    Ok(())
}

fn sign(args: &Sign) -> Result<()> {
    let mut draft = read_draft(&args.draft, &args.root)?;
    if args.key.is_none() && !args.signer.has_command() && args.how.dry_run {
        return tell(&draft, Some(&args.draft), args.how.output);
    }
    out::note(describe(&draft, Some(&args.draft), false).trim_end());
    let signer = args.signer.one(args.key.as_ref())?;
    let id = PublicKey::new(&signer.public(), None).id();
    let standing = draft.standing();
    let Some(holder) = standing.holders.iter().find(|holder| holder.id == id) else {
        return Err(coded(ceremony::Error::Stranger(id)));
    };
    let version = draft.root().version;
    let towards = match (holder.before, holder.own) {
        (true, true) => format!("the thresholds of version {} and of version {version}", version - 1),
        (true, false) => format!("the threshold of version {} only", version - 1),
        (false, _) => format!("the threshold of version {version} only"),
    };
    let again = if holder.signed { ", again" } else { "" };
    out::note(&format!("This signature by {} counts for {towards}{again}.", called(holder)));
    if args.how.dry_run {
        out::note("Nothing was signed.");
        return if args.how.output == Format::Json { out::json(&json(&draft)) } else { Ok(()) };
    }
    if !args.yes && !confirmed("Sign it? [y/N] ")? {
        return Err(Failure::new(codes::ARGUMENT, "not signed: nobody said yes"));
    }
    draft.sign(signer.as_ref()).map_err(coded)?;
    write(&args.draft, &draft.encode())?;
    let standing = draft.standing();
    match args.how.output {
        Format::Json => out::json(&json(&draft)),
        Format::Table => out::text(&format!("{}: {}\n", args.draft.display(), missing(&standing, version))),
    }
}

fn shown(args: &Show) -> Result<()> {
    if let Some(path) = &args.draft {
        return tell(&read_draft(path, &args.root)?, Some(path), args.output);
    }
    let chain = input::roots(std::slice::from_ref(&args.root))?;
    let (mut before, mut shown) = (None, None);
    for bytes in &chain {
        let draft = Draft::read(bytes, before.as_ref()).map_err(coded)?;
        before = Some(draft.root().clone());
        shown = Some(draft);
    }
    // A chain that hosts would not take is not shown as one.
    verified(&chain)?;
    match shown {
        Some(draft) => tell(&draft, None, args.output),
        None => Err(Failure::new(codes::INPUT, "there is no root document")),
    }
}

fn publish(args: &Publish) -> Result<()> {
    let mut copies = args.drafts.iter().map(|path| read_draft(path, &args.root));
    let mut draft =
        copies.next().transpose()?.ok_or_else(|| Failure::new(codes::INPUT, "there is no draft"))?;
    for copy in copies {
        draft.merge(&copy?).map_err(coded)?;
    }
    let version = draft.root().version;
    let path = args.root.join(format!("{version}.json"));
    if path.exists() {
        return Err(Failure::new(codes::EXISTS, format!("{} is there already", path.display())));
    }
    let mut chain = if args.root.exists() { folder(&args.root)? } else { Vec::new() };
    chain.push(draft.encode());
    verified(&chain)?;
    if !args.how.dry_run {
        let made = std::fs::create_dir_all(&args.root);
        made.map_err(|error| unwritable(&args.root, error))?;
        write(&path, &draft.encode())?;
    }
    match args.how.output {
        Format::Json => out::json(&json(&draft)),
        Format::Table if args.how.dry_run => {
            out::text(&format!("Version {version} would be {}.\n", path.display()))
        }
        Format::Table => out::text(&format!("Version {version} is {}.\n", path.display())),
    }
}

fn confirmed(question: &str) -> Result<bool> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::new(codes::ARGUMENT, "there is no terminal to ask on; give --yes to sign"));
    }
    let _ = write!(std::io::stderr().lock(), "{question}");
    let mut answer = String::new();
    let read = std::io::stdin().read_line(&mut answer);
    read.map_err(|error| Failure::new(codes::INPUT, "the answer cannot be read").because(error))?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
