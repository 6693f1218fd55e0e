//! `kedgectl kit`: everything for a host without a network in one file, which unpacks itself.
//!
//! A kit is a shell script with a ustar archive behind it: `install.sh`, the agent's packages, the bundle, the root documents, a
//! page for people, and `SHA256SUMS` over all of them, signed where a key is given. The same inputs give the same bytes.

use super::input;
use super::out::{self, Format};
use super::signers::SignerArgs;
use crate::codes;
use crate::error::{Failure, Result};
use crate::hub::bundle::{check, fingerprint};
use clap::{Args, Subcommand};
use jiff::Timestamp;
use kedge_bundle::verify::Trust;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

const HEADER: &str = include_str!("../../../packaging/kit/header.sh");
const README: &str = include_str!("../../../packaging/kit/README");
const INSTALL: &str = include_str!("../../../packaging/install.sh");
/// Largest package of the agent, bytes.
const MAX_PACKAGE: u64 = 256 << 20;

/// Makes kits for hosts without a network.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Put the agent's packages, a bundle and how to install them into one file
    #[command(after_help = "Examples:
  kedgectl kit build --packages ./packages --bundle shop-1.4.0.kedge --root keys/root -o shop-1.4.0.kit
  kedgectl kit build --packages ./packages --bundle shop.kedge --root keys/root -o shop.kit --key keys/kit.pem

On the host:  sudo sh shop-1.4.0.kit --root-sha256 FINGERPRINT
Tell the customer the SHA-256 that this prints, and the fingerprint, by a way that the kit does not take.")]
    Build(Box<Build>),
}

/// `kit build`.
#[derive(Debug, Args)]
pub(crate) struct Build {
    /// Folder with the agent's packages (kedge_*.deb, kedge-*.rpm)
    #[arg(long, value_name = "DIR")]
    packages: PathBuf,
    /// The signed bundle
    #[arg(long, value_name = "FILE")]
    bundle: PathBuf,
    /// Root document, or the folder with the chain of them: the bundle is verified under it first
    #[arg(long = "root", value_name = "PATH", required = true)]
    roots: Vec<PathBuf>,
    /// The kit to write
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Key that signs the list of sums, for `install.sh --key`
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    #[command(flatten)]
    signer: SignerArgs,
    /// How the result is written
    #[arg(long = "format", default_value = "table")]
    format: Format,
}

/// Runs the command.
pub(crate) fn run(command: Command) -> Result<()> {
    let Command::Build(args) = command;
    build(&args)
}

/// A file of the kit: where it is from, or its content.
enum Source<'a> {
    File(&'a Path),
    Bytes(Vec<u8>),
}

fn build(args: &Build) -> Result<()> {
    let roots = input::roots(&args.roots)?;
    let first = roots.first().ok_or_else(|| Failure::new(codes::INPUT, "there is no root document"))?;
    let pinned = fingerprint(first)?;
    let checked = check(&args.bundle, &Trust::pinned(pinned), Timestamp::now(), &mut |_| {})?;
    let release = &checked.verified.release;
    let readme =
        README.replace("@PRODUCT@", &release.product).replace("@VERSION@", &out::clean(&release.version));
    let mut entries = vec![
        ("README".to_owned(), 0o644, Source::Bytes(readme.into_bytes())),
        ("install.sh".to_owned(), 0o755, Source::Bytes(INSTALL.as_bytes().to_vec())),
    ];
    let packages = packages(&args.packages)?;
    for path in &packages {
        entries.push((file_name(path)?, 0o644, Source::File(path)));
    }
    let bundle = format!("{}-{}.kedge", release.product, plain(&release.version));
    entries.push((bundle, 0o644, Source::File(&args.bundle)));
    for (number, root) in roots.iter().enumerate() {
        entries.push((format!("{}.root.json", number + 1), 0o644, Source::Bytes(root.clone())));
    }
    let mut sums = String::new();
    for (name, _, source) in &entries {
        sums.push_str(&format!("{}  {name}\n", sum(source)?));
    }
    if args.key.is_some() || args.signer.has_command() {
        let signature = args.signer.one(args.key.as_ref())?.sign(sums.as_bytes());
        let signature =
            signature.map_err(|e| Failure::new(codes::INPUT, "the sums could not be signed").because(e))?;
        entries.push(("SHA256SUMS.sig".to_owned(), 0o644, Source::Bytes(signature.to_vec())));
    }
    let sums_sha256 = hex::encode(Sha256::digest(sums.as_bytes()));
    entries.insert(0, ("SHA256SUMS".to_owned(), 0o644, Source::Bytes(sums.into_bytes())));
    let (kit_sha256, bytes) = write(&args.output, &entries)?;
    let fingerprint = pinned.hex();
    match args.format {
        Format::Json => out::json(&serde_json::json!({
            "file": args.output, "bytes": bytes, "sha256": kit_sha256, "sums_sha256": sums_sha256,
            "root_sha256": fingerprint, "product": release.product, "version": release.version,
            "packages": packages.len(),
        })),
        Format::Table => out::text(&format!(
            "{} holds {} {} and {} packages of the agent, {}.\nTell the customer by another way:\n  \
             SHA-256 of the kit      {kit_sha256}\n  fingerprint of the root {fingerprint}\n",
            args.output.display(),
            release.product,
            out::clean(&release.version),
            packages.len(),
            out::bytes(bytes),
        )),
    }
}

/// Packages of the agent, by name.
fn packages(folder: &Path) -> Result<Vec<PathBuf>> {
    let unreadable = |e: std::io::Error| {
        Failure::new(codes::INPUT, format!("{} cannot be read", folder.display())).because(e)
    };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let agent = (name.starts_with("kedge_") && name.ends_with(".deb"))
            || (name.starts_with("kedge-") && name.ends_with(".rpm"));
        if agent {
            found.push(path);
        }
    }
    if found.is_empty() {
        let why = format!("{} holds no package of the agent; packaging/build makes them", folder.display());
        return Err(Failure::new(codes::INPUT, why));
    }
    found.sort();
    Ok(found)
}

/// Writes header and archive beside the target and renames it into place: a kit that is there is whole.
fn write(to: &Path, entries: &[(String, u32, Source<'_>)]) -> Result<(String, u64)> {
    let failed = |e: std::io::Error| {
        Failure::new(codes::INPUT, format!("{} cannot be written", to.display())).because(e)
    };
    // The archive begins in the line after the header's last.
    let header = HEADER.replace("@LINES@", &(HEADER.lines().count() + 1).to_string());
    let part = to.with_extension("part");
    let file = File::create(&part).map_err(failed)?;
    let mut hashing = Hashing { inner: BufWriter::new(file), hash: Sha256::new(), bytes: 0 };
    hashing.write_all(header.as_bytes()).map_err(failed)?;
    let mut archive = tar::Builder::new(hashing);
    for (name, mode, source) in entries {
        append(&mut archive, name, *mode, source).map_err(failed)?;
    }
    let mut hashing = archive.into_inner().map_err(failed)?;
    hashing.flush().map_err(failed)?;
    let file = hashing.inner.get_ref();
    file.set_permissions(std::fs::Permissions::from_mode(0o755)).map_err(failed)?;
    file.sync_all().map_err(failed)?;
    std::fs::rename(&part, to).map_err(failed)?;
    Ok((hex::encode(hashing.hash.finalize()), hashing.bytes))
}

fn append(
    archive: &mut tar::Builder<impl Write>,
    name: &str,
    mode: u32,
    source: &Source<'_>,
) -> std::io::Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_mode(mode);
    header.set_mtime(0);
    match source {
        Source::Bytes(bytes) => {
            header.set_size(bytes.len() as u64);
            archive.append_data(&mut header, name, bytes.as_slice())
        }
        Source::File(path) => {
            let file = File::open(path)?;
            header.set_size(file.metadata()?.len());
            archive.append_data(&mut header, name, file)
        }
    }
}

fn sum(source: &Source<'_>) -> Result<String> {
    let path = match source {
        Source::Bytes(bytes) => return Ok(hex::encode(Sha256::digest(bytes))),
        Source::File(path) => path,
    };
    let unreadable = |e: std::io::Error| {
        Failure::new(codes::INPUT, format!("{} cannot be read", path.display())).because(e)
    };
    let mut file = File::open(path).map_err(unreadable)?;
    let limit = if path.extension().is_some_and(|e| e == "kedge") { u64::MAX } else { MAX_PACKAGE };
    if file.metadata().map_err(unreadable)?.len() > limit {
        return Err(Failure::new(codes::INPUT, format!("{} is too large for a package", path.display())));
    }
    let (mut hash, mut buffer) = (Sha256::new(), vec![0; 1 << 16]);
    loop {
        match file.read(&mut buffer).map_err(unreadable)? {
            0 => return Ok(hex::encode(hash.finalize())),
            read => hash.update(&buffer[..read]),
        }
    }
}

fn file_name(path: &Path) -> Result<String> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    if !name.is_empty() && plain(name) == name {
        return Ok(name.to_owned());
    }
    Err(Failure::new(
        codes::INPUT,
        format!("{}: its name has characters that no package has", path.display()),
    ))
}

/// What stands in file names; everything else becomes `-`.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_alphanumeric() || "._+~-".contains(c) { c } else { '-' }).collect()
}

/// Counts and hashes what goes through.
struct Hashing<W> {
    inner: W,
    hash: Sha256,
    bytes: u64,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
        let written = self.inner.write(buffer)?;
        self.hash.update(&buffer[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command as Program;

    #[test]
    fn a_kit_unpacks_itself_and_is_the_same_twice() {
        let folder = tempfile::tempdir().unwrap();
        let package = folder.path().join("kedge_1_amd64.deb");
        std::fs::write(&package, vec![7; 100_000]).unwrap();
        let entries = [
            ("README".to_owned(), 0o644, Source::Bytes(b"hello\n".to_vec())),
            ("kedge_1_amd64.deb".to_owned(), 0o644, Source::File(&package)),
        ];
        let (one, two) = (folder.path().join("one.kit"), folder.path().join("two.kit"));
        let (sum, bytes) = write(&one, &entries).unwrap();
        assert_eq!(write(&two, &entries).unwrap().0, sum);
        let kit = std::fs::read(&one).unwrap();
        assert_eq!((hex::encode(Sha256::digest(&kit)), kit.len() as u64), (sum, bytes));
        let to = folder.path().join("unpacked");
        let status = Program::new("sh").arg(&one).arg("--unpack").arg(&to).status().unwrap();
        assert!(status.success());
        assert_eq!(std::fs::read(to.join("kedge_1_amd64.deb")).unwrap(), vec![7; 100_000]);
        assert_eq!(std::fs::read(to.join("README")).unwrap(), b"hello\n");
    }

    #[test]
    fn names_that_a_shell_would_trip_over_are_refused() {
        assert!(file_name(Path::new("/x/kedge_1;rm.deb")).is_err());
        assert_eq!(file_name(Path::new("/x/kedge_1.0~rc-1_amd64.deb")).unwrap(), "kedge_1.0~rc-1_amd64.deb");
        assert_eq!(plain("1.0 beta/2"), "1.0-beta-2");
    }
}
