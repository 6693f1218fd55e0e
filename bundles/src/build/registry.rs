//! OCI registries, by the distribution specification 1.1.
//!
//! | module | does |
//! |---|---|
//! | `credentials` | how to log in |
//! | `image` | one image for a bundle that is being built |
//! | `artifact` | pure: what a bundle looks like in a registry |
//! | `reader` | asks, and reads no answer further than it may be long |
//! | `push`, `pull` | a whole bundle, there and back |
//!
//! For pushing, `oci-client` speaks the protocol. What it leaves to its callers is here: which registry may be spoken to without
//! TLS, which failures pass by themselves, and what a person is told.

mod artifact;
mod credentials;
pub(super) mod image;
mod pull;
mod push;
mod reader;
#[cfg(test)]
mod tests;

use std::sync::Once;
use std::time::Duration;

use oci_client::client::{Client, ClientConfig, ClientProtocol};
use oci_client::errors::{OciDistributionError, OciErrorCode};
use oci_client::{Reference, RegistryOperation};

use super::{BuildError, BundleError};
use crate::admission::AdmissionError;
use crate::codes::{self, Code, Coded};
use crate::verify::Refusal;

pub use credentials::Credentials;
pub use pull::{Pulled, Remote};
pub use push::{Push, Pushed, push};

/// How often something is tried that may pass by itself.
const ATTEMPTS: u32 = 5;

/// The first wait between two attempts; it doubles, and each is cut to a random part of itself.
const FIRST_WAIT: Duration = Duration::from_millis(400);

/// A registry that says nothing for so long will not say anything.
const SILENCE: Duration = Duration::from_secs(120);

/// Most characters of what a registry says that are shown.
const MAX_SAID: usize = 300;

/// Where a bundle is in a registry.
#[derive(Debug, Clone)]
pub struct Place(Reference);

impl Place {
    /// Reads `REGISTRY/REPOSITORY:TAG` or `REGISTRY/REPOSITORY@sha256:…`; nothing of it is guessed.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| {
            format!("{why}; write REGISTRY/REPOSITORY:TAG, for example registry.example.com/shop:1.4")
        };
        let (host, rest) = text.split_once('/').ok_or_else(|| wrong("it names no registry"))?;
        if !host.contains(['.', ':']) && host != "localhost" {
            return Err(wrong("it does not begin with a registry's host name"));
        }
        let last = rest.rsplit('/').next().unwrap_or_default();
        if !last.contains([':', '@']) {
            return Err(wrong("it has no tag"));
        }
        text.parse().map(Self).map_err(|error| wrong(&format!("{error}")))
    }

    /// The registry, as `HOST` or `HOST:PORT`.
    #[must_use]
    pub fn registry(&self) -> &str {
        self.0.registry()
    }

    /// The registry's repository.
    #[must_use]
    pub fn repository(&self) -> &str {
        self.0.repository()
    }

    /// Whether it names one content for ever rather than what a tag points to.
    #[must_use]
    pub fn is_fixed(&self) -> bool {
        self.0.digest().is_some()
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.whole())
    }
}

/// Whether a registry is on this machine: only there does nobody listen in on plain HTTP.
fn is_loopback(registry: &str) -> bool {
    let host = match registry.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => registry,
    };
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// Why a bundle did not get to a registry or back.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The login, or a login that is missing.
    #[error("{registry}: {reason}")]
    Login {
        /// Which.
        registry: String,
        /// Why.
        reason: String,
    },
    /// The registry does not answer, or with an error.
    #[error("{registry}: {what}: {reason}")]
    Registry {
        /// Which.
        registry: String,
        /// What was asked for.
        what: String,
        /// What it said.
        reason: String,
    },
    /// There is something, but no bundle.
    #[error("{place} is no bundle: {reason}")]
    NotABundle {
        /// Where.
        place: String,
        /// Why.
        reason: String,
    },
    /// The bundle's file cannot be read, or cannot be written.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// What came is not what was signed.
    #[error("the bundle is refused: {0}")]
    Refused(#[from] AdmissionError),
}

impl Coded for RegistryError {
    fn code(&self) -> Code {
        match self {
            Self::Login { .. } => codes::REGISTRY_LOGIN,
            Self::Registry { .. } => codes::REGISTRY,
            Self::NotABundle { .. } => codes::NOT_A_BUNDLE,
            Self::Bundle(error) => error.code(),
            Self::Refused(error) => error.code(),
        }
    }
}

impl From<BuildError> for RegistryError {
    fn from(error: BuildError) -> Self {
        Self::Bundle(error.into())
    }
}

impl From<Refusal> for RegistryError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal.into())
    }
}

/// A registry to which we are logged in, and a repository there.
struct Connection {
    client: Client,
    at: Reference,
}

impl Connection {
    async fn open(
        place: &Place,
        credentials: &Credentials,
        operation: RegistryOperation,
    ) -> Result<Self, RegistryError> {
        install_crypto();
        let at = place.0.clone();
        let registry = at.resolve_registry().to_owned();
        let plain = if is_loopback(&registry) { vec![registry.clone()] } else { Vec::new() };
        let client = Client::new(ClientConfig {
            protocol: ClientProtocol::HttpsExcept(plain),
            use_monolithic_push: true,
            read_timeout: Some(SILENCE),
            connect_timeout: Some(SILENCE / 4),
            ..ClientConfig::default()
        });
        let login = credentials.for_registry(at.registry()).await;
        let login = login.map_err(|reason| RegistryError::Login { registry, reason })?;
        let this = Self { client, at };
        this.patiently("logging in", async || this.client.auth(&this.at, &login, operation).await.map(drop))
            .await?;
        Ok(this)
    }

    async fn patiently<T>(
        &self,
        what: &str,
        attempt: impl AsyncFn() -> Result<T, OciDistributionError>,
    ) -> Result<T, RegistryError> {
        patiently(self.at.resolve_registry(), what, attempt).await
    }
}

/// Tries something until it succeeds, fails for a reason that does not pass, or has been tried often enough.
async fn patiently<T, E: Fault>(
    registry: &str,
    what: &str,
    attempt: impl AsyncFn() -> Result<T, E>,
) -> Result<T, RegistryError> {
    let mut patience = Patience::default();
    loop {
        match attempt().await {
            Ok(done) => return Ok(done),
            Err(error) if error.passes() && patience.wait().await => {}
            Err(error) => return Err(failed(registry, what, &error)),
        }
    }
}

fn failed(registry: &str, what: &str, error: &impl Fault) -> RegistryError {
    let registry = registry.to_owned();
    match error.status() {
        Some(401) => {
            let reason = format!("{what}: it wants another name or password, or wants one at all");
            RegistryError::Login { registry, reason }
        }
        Some(403) => RegistryError::Login { registry, reason: format!("{what}: this login may not do that") },
        _ => RegistryError::Registry { registry, what: what.into(), reason: said(error) },
    }
}

/// Waits between attempts, each about twice as long as the one before.
#[derive(Default)]
struct Patience {
    failures: u32,
}

impl Patience {
    /// Waits; `false` when it has been tried often enough.
    async fn wait(&mut self) -> bool {
        self.failures += 1;
        if self.failures >= ATTEMPTS {
            return false;
        }
        let longest = FIRST_WAIT * 2_u32.saturating_pow(self.failures);
        tokio::time::sleep(longest.mul_f64(rand::random::<f64>())).await;
        true
    }
}

/// What went wrong on the way.
trait Fault: std::error::Error {
    /// The HTTP status behind it, where there is one.
    fn status(&self) -> Option<u16>;

    /// Whether asking again can help.
    fn passes(&self) -> bool;
}

impl Fault for OciDistributionError {
    fn status(&self) -> Option<u16> {
        match self {
            Self::UnauthorizedError { .. } | Self::AuthenticationFailure(_) => Some(401),
            Self::ServerError { code, .. } => Some(*code),
            Self::RequestError(error) => error.status().map(|status| status.as_u16()),
            Self::RegistryError { envelope, .. } => {
                envelope.errors.first().and_then(|error| match error.code {
                    OciErrorCode::Unauthorized => Some(401),
                    OciErrorCode::Denied => Some(403),
                    OciErrorCode::Toomanyrequests => Some(429),
                    OciErrorCode::ManifestUnknown | OciErrorCode::BlobUnknown | OciErrorCode::NameUnknown => {
                        Some(404)
                    }
                    _ => None,
                })
            }
            _ => None,
        }
    }

    fn passes(&self) -> bool {
        match (self.status(), self) {
            (Some(status), _) => matches!(status, 408 | 429 | 500..),
            (None, Self::RequestError(error)) => !error.is_builder(),
            (None, Self::IoError(_)) => true,
            _ => false,
        }
    }
}

/// What went wrong with all its causes, in few words: much of it comes from the other end.
fn said(error: &impl Fault) -> String {
    if error.status() == Some(404) {
        return "there is no such thing".into();
    }
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text.chars().take(MAX_SAID).collect()
}

/// TLS needs a crypto provider for the process; the first that is installed stays.
fn install_crypto() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // Already installed by the program: just as well.
        drop(rustls::crypto::ring::default_provider().install_default());
    });
}
