//! How to log in to a registry: what was said on the command line, what the environment says, what `docker login` has
//! stored, or what a credential helper of Docker's knows.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use base64::Engine as _;
use oci_client::secrets::RegistryAuth;
use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use zeroize::Zeroizing;

use crate::json;
use crate::parameters::Secret;

/// A helper that asks a person, or a service that does not answer, is not waited for longer than this.
const HELPER_TIMEOUT: Duration = Duration::from_secs(60);

/// A helper says a name and a password; more than this it has no reason to say, bytes.
const MAX_ANSWER: u64 = 64 << 10;

/// How to log in to registries.
#[derive(Debug, Clone, Default)]
pub enum Credentials {
    /// Not at all.
    #[default]
    Anonymous,
    /// As `docker login` stored it in this `config.json`, or in the credential helper that it names.
    DockerConfig(PathBuf),
    /// With this name and password, whatever the registry.
    Basic(String, Secret),
}

/// Docker's `config.json`, as far as it concerns logins.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Config {
    #[serde(default)]
    auths: BTreeMap<String, Login>,
    #[serde(default)]
    cred_helpers: BTreeMap<String, String>,
    #[serde(default)]
    creds_store: String,
}

#[derive(Default, Deserialize)]
struct Login {
    #[serde(default)]
    auth: String,
    #[serde(default)]
    identitytoken: String,
}

/// What a credential helper answers to `get`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    #[serde(default)]
    username: String,
    #[serde(default)]
    secret: String,
}

impl Credentials {
    /// `KEDGE_REGISTRY_USER` and `KEDGE_REGISTRY_PASSWORD`, else Docker's `config.json`, else nothing.
    #[must_use]
    pub fn from_environment() -> Self {
        let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        if let (Some(user), Some(password)) =
            (variable("KEDGE_REGISTRY_USER"), variable("KEDGE_REGISTRY_PASSWORD"))
        {
            return Self::Basic(user, Secret::new(password));
        }
        let folder = variable("DOCKER_CONFIG").map(PathBuf::from);
        let folder = folder.or_else(|| variable("HOME").map(|home| Path::new(&home).join(".docker")));
        match folder.map(|folder| folder.join("config.json")) {
            Some(file) if file.is_file() => Self::DockerConfig(file),
            _ => Self::Anonymous,
        }
    }

    /// What to log in to this registry with. Errors never hold a password.
    pub(super) async fn for_registry(&self, registry: &str) -> Result<RegistryAuth, String> {
        let file = match self {
            Self::Anonymous => return Ok(RegistryAuth::Anonymous),
            Self::Basic(user, password) => {
                return Ok(RegistryAuth::Basic(user.clone(), password.reveal().into()));
            }
            Self::DockerConfig(file) => file,
        };
        let unusable = |reason: String| format!("{}: {reason}", file.display());
        let bytes = std::fs::read(file).map_err(|error| unusable(error.to_string()))?;
        let config: Config = json::strict(&bytes).map_err(|error| unusable(error.to_string()))?;
        let names = if registry == "index.docker.io" || registry == "docker.io" {
            vec!["https://index.docker.io/v1/".to_owned(), "docker.io".into()]
        } else {
            vec![registry.to_owned(), format!("https://{registry}")]
        };
        let helper = names.iter().find_map(|name| Some((name, config.cred_helpers.get(name)?)));
        if let Some((name, helper)) = helper {
            return ask(helper, name).await.map_err(unusable);
        }
        let login = names.iter().find_map(|name| Some((name, config.auths.get(name)?)));
        match login {
            Some((_, login)) if !login.identitytoken.is_empty() => {
                let reason = "has an identity token, which this cannot use; give a name and a password";
                Err(unusable(format!("the login of {registry} {reason}")))
            }
            Some((_, login)) if !login.auth.is_empty() => {
                stored(&login.auth).ok_or_else(|| unusable(format!("the login of {registry} cannot be read")))
            }
            // With a store, `auths` says only which registries it knows.
            Some((name, _)) if !config.creds_store.is_empty() => {
                ask(&config.creds_store, name).await.map_err(unusable)
            }
            _ => Ok(RegistryAuth::Anonymous),
        }
    }
}

/// `name:password` in base64.
fn stored(auth: &str) -> Option<RegistryAuth> {
    let bytes = Zeroizing::new(base64::engine::general_purpose::STANDARD.decode(auth).ok()?);
    let (user, password) = std::str::from_utf8(&bytes).ok()?.split_once(':')?;
    Some(RegistryAuth::Basic(user.into(), password.trim_end_matches('\0').into()))
}

/// Asks `docker-credential-HELPER get`, as Docker does: the registry on its standard input, JSON on its standard output.
async fn ask(helper: &str, registry: &str) -> Result<RegistryAuth, String> {
    let usual = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if helper.is_empty() || !helper.chars().all(usual) {
        return Err(format!("{helper:?} is no credential helper's name"));
    }
    let program = format!("docker-credential-{helper}");
    let failed = |reason: &dyn std::fmt::Display| format!("{program} for {registry}: {reason}");
    let mut child = tokio::process::Command::new(&program)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| failed(&error))?;
    let (Some(mut input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(failed(&"has no input or no output"));
    };
    let mut said = Zeroizing::new(Vec::new());
    let talk = async {
        // One that does not care to read may still answer.
        let _ = input.write_all(registry.as_bytes()).await;
        drop(input);
        output.take(MAX_ANSWER).read_to_end(&mut said).await?;
        child.wait().await
    };
    let status = tokio::time::timeout(HELPER_TIMEOUT, talk)
        .await
        .map_err(|_| failed(&"does not answer"))?
        .map_err(|error| failed(&error))?;
    if !status.success() {
        return Err(failed(&"knows no login; run `docker login`, or give a name and a password"));
    }
    let answer: Answer = serde_json::from_slice(&said).map_err(|_| failed(&"did not answer in JSON"))?;
    if answer.username.is_empty() || answer.username == "<token>" {
        return Err(failed(&"gave a token, which this cannot use; give a name and a password"));
    }
    Ok(RegistryAuth::Basic(answer.username, answer.secret))
}
