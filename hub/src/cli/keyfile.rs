//! Key files and their passphrases. A passphrase comes from a file or from the terminal, never from an
//! argument or a plain environment variable, which other processes could read.

use super::{input, out};
use crate::codes;
use crate::error::{Failure, Result, coded};
use clap::Args;
use ed25519_dalek::SigningKey;
use kedge_bundle::keys::{self, KeyError};
use kedge_bundle::parameters::Secret;
use std::cell::OnceCell;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Longest passphrase, in bytes.
const MAX_PASSPHRASE: u64 = 4096;

/// Where the passphrase of encrypted keys is.
#[derive(Debug, Clone, Args)]
pub(crate) struct PassphraseArgs {
    /// File whose first line is the passphrase of encrypted keys; on a terminal it is asked for
    #[arg(long, value_name = "FILE", env = "KEDGE_PASSPHRASE_FILE")]
    passphrase_file: Option<PathBuf>,
}

/// Opens keys; the passphrase is asked for once and only if a key is encrypted.
pub(crate) struct Opener<'a> {
    from: &'a PassphraseArgs,
    passphrase: OnceCell<Secret>,
}

impl<'a> Opener<'a> {
    /// Nothing is asked yet.
    pub(crate) fn new(from: &'a PassphraseArgs) -> Self {
        Opener { from, passphrase: OnceCell::new() }
    }

    /// Reads a key.
    pub(crate) fn open(&self, path: &Path) -> Result<SigningKey> {
        match keys::read(path, || self.passphrase.get().cloned()) {
            // Only now is it known that one is needed.
            Err(KeyError::PassphraseNeeded(_)) => {
                let passphrase = existing(self.from, path)?;
                let key = keys::read(path, || Some(passphrase.clone())).map_err(coded)?;
                // Had it been set meanwhile, by nobody, the first would stand.
                let _ = self.passphrase.set(passphrase);
                Ok(key)
            }
            read => read.map_err(coded),
        }
    }
}

/// The passphrase of a key that is there.
fn existing(from: &PassphraseArgs, path: &Path) -> Result<Secret> {
    match &from.passphrase_file {
        Some(file) => read(file),
        None => ask(&format!("Passphrase of {}: ", path.display())),
    }
}

/// The passphrase for keys that are to be made.
pub(crate) fn new_passphrase(from: &PassphraseArgs) -> Result<Secret> {
    let passphrase = match &from.passphrase_file {
        Some(file) => read(file)?,
        None => {
            let first = ask("Passphrase for the new keys: ")?;
            if ask("The same again: ")? != first {
                return Err(Failure::new(codes::PASSPHRASE, "the two passphrases differ"));
            }
            first
        }
    };
    if passphrase.reveal().is_empty() {
        return Err(Failure::new(codes::PASSPHRASE, "the passphrase is empty"));
    }
    Ok(passphrase)
}

fn read(file: &Path) -> Result<Secret> {
    let bytes = Zeroizing::new(input::read(file, MAX_PASSPHRASE)?);
    let text = std::str::from_utf8(&bytes)
        .map_err(|_| Failure::new(codes::PASSPHRASE, format!("{} is not text", file.display())))?;
    Ok(Secret::new(text.lines().next().unwrap_or_default().to_owned()))
}

fn ask(question: &str) -> Result<Secret> {
    if !std::io::stdin().is_terminal() || !out::bars() {
        return Err(Failure::new(
            codes::PASSPHRASE,
            "a passphrase is needed and there is no terminal to ask on",
        ));
    }
    rpassword::prompt_password(question)
        .map(Secret::new)
        .map_err(|error| Failure::new(codes::PASSPHRASE, "the passphrase cannot be asked for").because(error))
}
