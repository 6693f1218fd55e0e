//! A key that never comes here: a command in front of a hardware module or a cloud's key service signs with it.
//!
//! The contract: the bytes to be signed come on standard input, to its end; the signature goes to standard output, as its 64
//! raw bytes or as base64, and the command exits with 0. What it says on standard error is shown where it fails. It
//! is started directly, by no shell, and given a time. What it answers is verified against the public key that was given
//! beside it before anything is done with it: a command that signs with another key signs nothing.

use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature, VerifyingKey};

use crate::sign::{SignError, Signer};
use crate::words;

/// No more than this is read of what the command says, in bytes.
const MAX_OUTPUT: u64 = 4096;

/// How often it is looked whether the command has ended. Its pipes say so first, mostly.
const GLANCE: Duration = Duration::from_millis(10);

/// A command that signs.
#[derive(Debug, Clone)]
pub struct CommandSigner {
    program: String,
    arguments: Vec<String>,
    public: VerifyingKey,
    patience: Duration,
}

impl CommandSigner {
    /// A command line, split at spaces; quotes and backslashes hold a word together, and nothing else means anything.
    ///
    /// # Errors
    /// A reason when it is empty or a quote is left open.
    pub fn new(line: &str, public: VerifyingKey, patience: Duration) -> Result<Self, String> {
        let mut words = words::split(line)?.into_iter();
        let program = words.next().ok_or("the signing command is empty")?;
        Ok(Self { program, arguments: words.collect(), public, patience })
    }

    fn run(&self, message: &[u8]) -> Result<Vec<u8>, String> {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = Guarded(command.spawn().map_err(|error| format!("cannot be started: {error}"))?);
        let deadline = Instant::now() + self.patience;
        let late = || format!("did not answer within {} seconds", self.patience.as_secs());
        let message = message.to_vec();
        let stdin = child.0.stdin.take();
        std::thread::spawn(move || {
            // One that does not read all of it and signs nonetheless is found out by its signature.
            let _ = stdin.map(|mut pipe| pipe.write_all(&message));
        });
        let (out, errors) = (follow(child.0.stdout.take()), follow(child.0.stderr.take()));
        let left = || deadline.saturating_duration_since(Instant::now());
        let answer = out.recv_timeout(left()).map_err(|_| late())?;
        if answer.len() as u64 == MAX_OUTPUT {
            return Err(format!("said {MAX_OUTPUT} bytes and more, which is no signature"));
        }
        let status = loop {
            if let Some(status) = child.0.try_wait().map_err(|error| error.to_string())? {
                break status;
            }
            if left().is_zero() {
                return Err(late());
            }
            std::thread::sleep(GLANCE);
        };
        if status.success() {
            return Ok(answer);
        }
        // Something that it started may hold the pipe open; that is not waited for.
        let said = errors.recv_timeout(left().min(Duration::from_secs(1))).unwrap_or_default();
        let said: String =
            String::from_utf8_lossy(&said).trim().chars().filter(|c| !c.is_control()).collect();
        Err(format!("ended with {status}: {said}"))
    }
}

impl Signer for CommandSigner {
    fn public(&self) -> VerifyingKey {
        self.public
    }

    fn sign(&self, message: &[u8]) -> Result<[u8; 64], SignError> {
        let failed = |why: String| SignError::Signer(format!("{}: {why}", self.program));
        let answer = self.run(message).map_err(failed)?;
        let signature = signature(&answer).ok_or_else(|| {
            failed(format!("{} bytes are no signature: 64 raw bytes or base64 must come", answer.len()))
        })?;
        self.public
            .verify_strict(message, &Signature::from_bytes(&signature))
            .map_err(|_| failed("what it gave is no signature by the public key that was named".into()))?;
        Ok(signature)
    }
}

/// 64 raw bytes, or the same as base64 with white space around it.
fn signature(answer: &[u8]) -> Option<[u8; 64]> {
    if let Ok(raw) = answer.try_into() {
        return Some(raw);
    }
    STANDARD.decode(answer.trim_ascii()).ok()?.try_into().ok()
}

/// Reads what comes, up to the bound, in a thread of its own.
fn follow(pipe: Option<impl Read + Send + 'static>) -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(pipe) = pipe {
            // What cannot be read is no signature.
            let _ = pipe.take(MAX_OUTPUT).read_to_end(&mut bytes);
        }
        let _ = sender.send(bytes);
    });
    receiver
}

/// A child that is ended and reaped in any case.
struct Guarded(Child);

impl Drop for Guarded {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::key;

    /// A shell script in place of a hardware module.
    fn signer(script: &str, patience: Duration) -> CommandSigner {
        let line = format!("sh -c '{script}'");
        CommandSigner::new(&line, key("a", 0).verifying_key(), patience).unwrap()
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn a_signature_is_taken_raw_or_as_base64_and_only_if_it_is_by_the_key_named() {
        let message = b"some bytes\0and more";
        let folder = tempfile::tempdir().unwrap();
        let of = |number| key("a", number).sign(message).unwrap();
        let (raw, other) = (folder.path().join("raw"), folder.path().join("other"));
        std::fs::write(&raw, of(0)).unwrap();
        std::fs::write(&other, of(1)).unwrap();
        let cat = |path: &std::path::Path| format!("cat >/dev/null; cat {}", path.display());
        assert_eq!(signer(&cat(&raw), LONG).sign(message).unwrap(), of(0));
        std::fs::write(&raw, format!(" {}\n", STANDARD.encode(of(0)))).unwrap();
        assert_eq!(signer(&cat(&raw), LONG).sign(message).unwrap(), of(0));
        for (name, script, reason) in [
            ("another key's", cat(&other), "no signature by the public key"),
            ("nothing", "cat >/dev/null".to_owned(), "0 bytes are no signature"),
            ("too much", "cat /dev/zero".to_owned(), "4096 bytes and more"),
            ("a failure", "echo module locked >&2; exit 3".to_owned(), "module locked"),
        ] {
            let error = signer(&script, LONG).sign(message).expect_err(name).to_string();
            assert!(error.contains(reason), "{name}: {error}");
        }
        let error = signer(&cat(&raw), LONG).sign(b"other bytes").unwrap_err().to_string();
        assert!(error.contains("no signature by the public key"), "{error}");
    }

    #[test]
    fn a_command_that_does_not_answer_or_is_not_there_is_given_up() {
        let begun = Instant::now();
        let error = signer("sleep 600", Duration::from_millis(200)).sign(b"x").unwrap_err().to_string();
        assert!(error.contains("did not answer") && begun.elapsed() < LONG, "{error}");
        let error = signer("exec >&-; sleep 600", Duration::from_millis(200)).sign(b"x").unwrap_err();
        assert!(error.to_string().contains("did not answer"), "{error}");
        let public = key("a", 0).verifying_key();
        let missing = CommandSigner::new("/no/such/module", public, LONG).unwrap();
        assert!(missing.sign(b"x").unwrap_err().to_string().contains("cannot be started"));
    }

    #[test]
    fn a_command_line_that_cannot_be_split_signs_nothing() {
        let public = key("a", 0).verifying_key();
        for bad in ["", "  ", "a 'b", "a \"b", "a\\"] {
            assert!(CommandSigner::new(bad, public, LONG).is_err(), "{bad}");
        }
    }
}
