//! Who signs: keys in files, or a command in front of a hardware module or a cloud's key service. The same arguments
//! wherever something is signed.

use super::input;
use super::keyfile::{Opener, PassphraseArgs};
use crate::codes;
use crate::error::{Failure, Result};
use clap::Args;
use ed25519_dalek::VerifyingKey;
use kedge_bundle::command_signer::CommandSigner;
use kedge_bundle::roles::PublicKey;
use kedge_bundle::sign::Signer;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Keys that are not in a file given by name, and what opens those that are.
#[derive(Debug, Clone, Args)]
pub(crate) struct SignerArgs {
    #[command(flatten)]
    passphrase: PassphraseArgs,
    /// Command that signs: the bytes on its standard input, the signature (raw or base64) on its standard output. No
    /// shell: split at spaces, quotes hold words together
    #[arg(long, value_name = "COMMAND", requires = "public_key")]
    signer_cmd: Option<String>,
    /// Public key of the signing command: a file, or 64 hexadecimal digits
    #[arg(long, value_name = "FILE|HEX", requires = "signer_cmd")]
    public_key: Option<String>,
    /// How long the signing command may take
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = super::duration)]
    signer_timeout: Duration,
}

impl SignerArgs {
    /// The keys in these files, and the command where one is given. A passphrase is asked for once.
    pub(crate) fn open<P: AsRef<Path>>(
        &self,
        files: impl IntoIterator<Item = P>,
    ) -> Result<Vec<Box<dyn Signer>>> {
        let opener = Opener::new(&self.passphrase);
        let mut signers: Vec<Box<dyn Signer>> = Vec::new();
        for file in files {
            signers.push(Box::new(opener.open(file.as_ref())?));
        }
        if let (Some(line), Some(key)) = (&self.signer_cmd, &self.public_key) {
            let command = CommandSigner::new(line, public_key(key)?, self.signer_timeout);
            signers.push(Box::new(command.map_err(|why| Failure::new(codes::ARGUMENT, why))?));
        }
        Ok(signers)
    }

    /// The same where exactly one is wanted.
    pub(crate) fn one(&self, file: Option<&PathBuf>) -> Result<Box<dyn Signer>> {
        let mut signers = self.open(file)?;
        match (signers.pop(), signers.is_empty()) {
            (Some(signer), true) => Ok(signer),
            (None, _) => Err(Failure::new(codes::ARGUMENT, "give --key FILE or --signer-cmd COMMAND")),
            (Some(_), false) => {
                Err(Failure::new(codes::ARGUMENT, "give either a key file or --signer-cmd, not both"))
            }
        }
    }

    /// Whether a signing command is given.
    pub(crate) const fn has_command(&self) -> bool {
        self.signer_cmd.is_some()
    }
}

/// Borrowed, as signing takes them.
pub(crate) fn borrowed(signers: &[Box<dyn Signer>]) -> Vec<&dyn Signer> {
    signers.iter().map(AsRef::as_ref).collect()
}

/// A public key: a file that begins with its 64 hexadecimal digits, as `keys new` writes it, or the digits themselves.
pub(crate) fn public_key(text: &str) -> Result<VerifyingKey> {
    let unusable = |why: String| {
        Failure::new(codes::ARGUMENT, format!("{} is no public key: {why}", text.escape_debug()))
    };
    let looks_like_digits = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let digits = if looks_like_digits {
        text.to_ascii_lowercase()
    } else {
        let content = input::read_text(Path::new(text), 4096)?;
        content.split_whitespace().next().unwrap_or_default().to_ascii_lowercase()
    };
    PublicKey { scheme: "ed25519".into(), public: digits, name: None }.key().map_err(unusable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_public_key_is_given_as_digits_or_as_a_file() {
        let key = kedge_bundle::testing::key("a", 0).verifying_key();
        let digits = PublicKey::new(&key, None).public;
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), format!("{digits} alice\n")).unwrap();
        assert_eq!(public_key(&digits).unwrap(), key);
        assert_eq!(public_key(&digits.to_ascii_uppercase()).unwrap(), key);
        assert_eq!(public_key(file.path().to_str().unwrap()).unwrap(), key);
        std::fs::write(file.path(), "hello\n").unwrap();
        for bad in [file.path().to_str().unwrap(), "/no/such/file", &"0".repeat(64)] {
            assert!(public_key(bad).is_err(), "{bad}");
        }
    }
}
