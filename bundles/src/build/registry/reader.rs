//! Reading from a registry, whatever it answers: a manifest, a token and what it says about an error are read up to a limit and no
//! further, and a blob comes piece by piece.
//!
//! `oci-client` reads all of these but blobs to their end, however far off that is. So it is used for pushing only, to a
//! registry that its user has chosen; whoever pulls trusts nobody.

use std::time::Duration;

use base64::Engine as _;
use bytes::Bytes;
use futures_util::{Stream, TryStreamExt as _};
use oci_client::Reference;
use oci_client::secrets::RegistryAuth;
use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderValue, RANGE, WWW_AUTHENTICATE};
use reqwest::{Client, Response, StatusCode};
use serde::Deserialize;

use super::{Fault, MAX_SAID, SILENCE, install_crypto};
use crate::layout::{limits, media};

/// Most bytes of the answer to a login; tokens have a few thousand.
const MAX_TOKEN: u64 = 256 << 10;

/// Media types of manifests that a bundle or an image can have.
const ACCEPTED: [&str; 4] = [
    media::INDEX,
    media::MANIFEST,
    media::DOCKER_MANIFEST,
    "application/vnd.docker.distribution.manifest.list.v2+json",
];

/// Why something did not come.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// The registry says no.
    #[error("HTTP status {status}{said}")]
    Status {
        /// How.
        status: StatusCode,
        /// In its own words; empty, or behind a colon.
        said: String,
    },
    /// The line, or TLS.
    #[error(transparent)]
    Http(#[from] reqwest::Error),
    /// What is no manifest or token of anybody's.
    #[error("its answer has more than {0} bytes")]
    TooLong(u64),
    /// A login that nobody can make sense of.
    #[error("it asks for a login in a way that cannot be understood")]
    Challenge,
    /// An answer to a login without a token.
    #[error("it answers a login with something that is no token")]
    Token,
}

impl Fault for Error {
    fn status(&self) -> Option<u16> {
        match self {
            Self::Status { status, .. } => Some(status.as_u16()),
            Self::Http(error) => error.status().map(|status| status.as_u16()),
            _ => None,
        }
    }

    fn passes(&self) -> bool {
        match (self.status(), self) {
            (Some(status), _) => matches!(status, 408 | 429 | 500..),
            (None, Self::Http(error)) => !error.is_builder() && !error.is_redirect(),
            _ => false,
        }
    }
}

/// A repository of a registry, to read from.
pub(super) struct Reader {
    http: Client,
    scheme: &'static str,
    registry: String,
    repository: String,
    login: RegistryAuth,
    /// What requests are authorised with; tokens are replaced when the registry does not take them any more.
    granted: tokio::sync::Mutex<Option<HeaderValue>>,
}

impl Reader {
    /// Says how to reach the repository, and sends nothing yet. `plain` is without TLS.
    pub(super) fn new(at: &Reference, plain: bool, login: RegistryAuth) -> Result<Self, Error> {
        install_crypto();
        let http = Client::builder()
            .user_agent(concat!("kedge/", env!("CARGO_PKG_VERSION")))
            // Wherever it is sent on to: what was asked with TLS is not answered without.
            .https_only(!plain)
            .read_timeout(SILENCE)
            .connect_timeout(SILENCE / 4)
            .build()?;
        Ok(Self {
            http,
            scheme: if plain { "http" } else { "https" },
            registry: at.resolve_registry().to_owned(),
            repository: at.repository().to_owned(),
            login,
            granted: tokio::sync::Mutex::default(),
        })
    }

    /// Logs in, as the registry wants it: not at all, by name and password, or for a token.
    pub(super) async fn log_in(&self) -> Result<(), Error> {
        let granted = match &self.login {
            RegistryAuth::Bearer(token) => Some(header(&format!("Bearer {token}"))?),
            _ => self.ask_for_login().await?,
        };
        *self.granted.lock().await = granted;
        Ok(())
    }

    async fn ask_for_login(&self) -> Result<Option<HeaderValue>, Error> {
        let base = format!("{}://{}/v2/", self.scheme, self.registry);
        let answer = self.http.get(base).send().await?;
        let Some(demand) = answer.headers().get(WWW_AUTHENTICATE) else { return Ok(None) };
        let demand = demand.to_str().map_err(|_| Error::Challenge)?;
        let challenges = http_auth::parse_challenges(demand).map_err(|_| Error::Challenge)?;
        let Some(bearer) = challenges.iter().find(|one| one.scheme.eq_ignore_ascii_case("bearer")) else {
            return self.basic();
        };
        let value = |name: &str| {
            let found = bearer.params.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
            found.map(|(_, value)| value.to_unescaped())
        };
        let realm = value("realm").ok_or(Error::Challenge)?;
        let mut query = vec![("scope", format!("repository:{}:pull", self.repository))];
        query.extend(value("service").map(|service| ("service", service)));
        let mut request = self.http.get(realm).query(&query);
        if let Some(basic) = self.basic()? {
            request = request.header(AUTHORIZATION, basic);
        }
        let answer = granted(request.send().await?).await?;
        #[derive(Deserialize)]
        struct Answer {
            token: Option<String>,
            access_token: Option<String>,
        }
        // It may hold whatever the registry likes beside the token, so it is not read as strictly as a document.
        let answer: Answer =
            serde_json::from_slice(&bounded(answer, MAX_TOKEN).await?).map_err(|_| Error::Token)?;
        let token = answer.token.or(answer.access_token).ok_or(Error::Token)?;
        header(&format!("Bearer {token}")).map(Some)
    }

    fn basic(&self) -> Result<Option<HeaderValue>, Error> {
        let RegistryAuth::Basic(name, password) = &self.login else { return Ok(None) };
        let encoded = base64::engine::general_purpose::STANDARD.encode(format!("{name}:{password}"));
        header(&format!("Basic {encoded}")).map(Some)
    }

    /// A manifest or index by tag or digest; whether it has that digest is for the caller to see.
    pub(super) async fn manifest(&self, name: &str) -> Result<Vec<u8>, Error> {
        let answer = self.get(&format!("manifests/{name}"), 0).await?;
        bounded(answer, limits::METADATA).await
    }

    /// A blob from a byte on, and whether it begins there: a registry may begin at the beginning all the same.
    pub(super) async fn blob(
        &self,
        digest: &str,
        from: u64,
    ) -> Result<(bool, impl Stream<Item = Result<Bytes, Error>> + Unpin + use<>), Error> {
        let answer = self.get(&format!("blobs/{digest}"), from).await?;
        let is_rest = from > 0 && answer.status() == StatusCode::PARTIAL_CONTENT;
        Ok((is_rest, Box::pin(answer.bytes_stream().map_err(Error::Http))))
    }

    /// Asks; where the login has run out, once more after another.
    async fn get(&self, what: &str, from: u64) -> Result<Response, Error> {
        match self.ask(what, from).await {
            Err(Error::Status { status: StatusCode::UNAUTHORIZED, .. }) => {
                self.log_in().await?;
                self.ask(what, from).await
            }
            answer => answer,
        }
    }

    async fn ask(&self, what: &str, from: u64) -> Result<Response, Error> {
        let url = format!("{}://{}/v2/{}/{what}", self.scheme, self.registry, self.repository);
        let mut request = self.http.get(url).header(ACCEPT, ACCEPTED.join(", "));
        if let Some(granted) = self.granted.lock().await.clone() {
            request = request.header(AUTHORIZATION, granted);
        }
        if from > 0 {
            request = request.header(RANGE, format!("bytes={from}-"));
        }
        granted(request.send().await?).await
    }
}

/// The answer, if it is none of an error.
async fn granted(mut answer: Response) -> Result<Response, Error> {
    let status = answer.status();
    if status.is_success() {
        return Ok(answer);
    }
    // Its beginning says enough, and whatever is wrong with it does not matter any more.
    let mut said = Vec::new();
    while said.len() < MAX_SAID
        && let Ok(Ok(Some(piece))) = tokio::time::timeout(Duration::from_secs(5), answer.chunk()).await
    {
        said.extend_from_slice(&piece[..piece.len().min(MAX_SAID)]);
    }
    let said: String = String::from_utf8_lossy(&said).chars().filter(|c| !c.is_control()).collect();
    let said = if said.trim().is_empty() { String::new() } else { format!(": {}", said.trim()) };
    Err(Error::Status { status, said })
}

/// All of an answer, which must not be longer than that.
async fn bounded(mut answer: Response, most: u64) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    while let Some(piece) = answer.chunk().await? {
        if (bytes.len() + piece.len()) as u64 > most {
            return Err(Error::TooLong(most));
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes)
}

/// A header that no log shows.
fn header(text: &str) -> Result<HeaderValue, Error> {
    let mut value = HeaderValue::from_str(text).map_err(|_| Error::Token)?;
    value.set_sensitive(true);
    Ok(value)
}
