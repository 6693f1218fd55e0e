//! Enrolment by a file that the service manager hands over (`LoadCredential=`), for hosts that nobody logs in to.
//!
//! The credential is named [`NAME`] and is TOML: `hub`, `token`, and `root_sha256` unless `agent.toml` has it. It is used once: a host
//! that is enrolled does not look at it again.

use std::path::PathBuf;
use std::sync::Arc;

use serde::Deserialize;
use zeroize::Zeroizing;

use super::{Anchor, Backoff, enroll};
use super::{BACKOFF_BASE, BACKOFF_CAP};
use crate::codes;
use crate::config::Config;
use crate::problem::Problem;

/// Name of the credential, and of the file below `/etc/credstore`.
pub const NAME: &str = "kedge.enrolment";
/// Largest credential, bytes.
const MAX_FILE: u64 = 4096;

/// How to enrol. Does not print its token.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Credential {
    hub: String,
    #[serde(deserialize_with = "token")]
    token: Zeroizing<String>,
    #[serde(default)]
    root_sha256: String,
}

fn token<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Zeroizing<String>, D::Error> {
    String::deserialize(deserializer).map(Zeroizing::new)
}

impl Credential {
    /// The one of this process; `None` where there is none.
    ///
    /// # Errors
    /// [`codes::CONFIG`] when it cannot be read, with nothing of it in the message.
    pub fn of_process() -> Result<Option<Self>, Problem> {
        let folder = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
        let Some(path) = folder.map(|folder| folder.join(NAME)).filter(|path| path.exists()) else {
            return Ok(None);
        };
        let failed = |why: &str| Problem::new(&codes::CONFIG, format!("the credential {NAME} {why}"));
        let size = std::fs::metadata(&path).map_err(|_| failed("cannot be read"))?.len();
        if size > MAX_FILE {
            return Err(failed("is too large"));
        }
        let text = Zeroizing::new(std::fs::read_to_string(&path).map_err(|_| failed("cannot be read"))?);
        Self::parse(&text).map(Some).ok_or_else(|| failed("is not TOML with `hub` and `token`"))
    }

    fn parse(text: &str) -> Option<Self> {
        // An error of the parser quotes the line, and the line may be the token's.
        toml::from_str(text).ok()
    }

    /// Enrols, and goes on trying for as long as that can help.
    pub async fn enrol(self, host: impl Anchor, config: Arc<Config>) {
        let mut backoff = Backoff::new(BACKOFF_BASE, BACKOFF_CAP);
        loop {
            match enroll(&host, &config, &self.hub, &self.token, &self.root_sha256).await {
                Ok(_) => return,
                Err(problem) if !problem.code.retry => {
                    tracing::error!(code = problem.code.id, "enrolment by credential: {}", problem.message);
                    return;
                }
                Err(problem) => {
                    let wait = backoff.next(rand::random());
                    let (code, seconds) = (problem.code.id, wait.as_secs_f64());
                    tracing::warn!(
                        code,
                        "enrolment by credential: {}; trying again in {seconds:.1} s",
                        problem.message
                    );
                    tokio::time::sleep(wait).await;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_names_hub_and_token_and_nothing_that_is_not_known() {
        let credential = Credential::parse("hub = 'https://h'\ntoken = 'kt1.a.b.c'\n").unwrap();
        assert_eq!((credential.hub.as_str(), credential.root_sha256.as_str()), ("https://h", ""));
        assert!(Credential::parse("hub = 'https://h'").is_none());
        assert!(Credential::parse("hub = 'h'\ntoken = 't'\ntokn = 'x'").is_none());
        assert!(Credential::parse("kt1.a.b.c").is_none());
    }
}
