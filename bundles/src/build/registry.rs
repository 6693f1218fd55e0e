//! Images from an OCI registry. Manifests are kept byte for byte, so that references by digest stay true.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Once;

use base64::Engine as _;
use oci_client::client::{Client, ClientConfig, ClientProtocol};
use oci_client::secrets::RegistryAuth;
use oci_client::{Reference, RegistryOperation};
use serde::Deserialize;

use super::{Options, Progress, archive};
use crate::assemble::{ImageInput, Source};
use crate::digest::Digest;
use crate::json;
use crate::layout::{Descriptor, Index, Manifest, limits, media};
use crate::parameters::Secret;

/// How to log in to registries.
#[derive(Debug, Clone, Default)]
pub enum Credentials {
    /// Not at all.
    #[default]
    Anonymous,
    /// As `docker login` stored it in this `config.json`; credential helpers are not run.
    DockerConfig(PathBuf),
    /// With this name and password, whatever the registry.
    Basic(String, Secret),
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

    fn for_registry(&self, registry: &str) -> Result<RegistryAuth, String> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Config {
            #[serde(default)]
            auths: BTreeMap<String, Login>,
            #[serde(default)]
            cred_helpers: BTreeMap<String, String>,
        }
        #[derive(Deserialize)]
        struct Login {
            #[serde(default)]
            auth: String,
        }
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
        if config.cred_helpers.contains_key(registry) {
            let reason = format!(
                "{registry} uses a credential helper; give KEDGE_REGISTRY_USER and _PASSWORD instead"
            );
            return Err(unusable(reason));
        }
        let names = if registry == "index.docker.io" || registry == "docker.io" {
            vec!["https://index.docker.io/v1/".to_owned(), "docker.io".into()]
        } else {
            vec![registry.to_owned(), format!("https://{registry}")]
        };
        let Some(login) =
            names.iter().find_map(|name| config.auths.get(name)).filter(|login| !login.auth.is_empty())
        else {
            return Ok(RegistryAuth::Anonymous);
        };
        let decoded = base64::engine::general_purpose::STANDARD.decode(&login.auth).ok();
        let decoded = decoded.and_then(|bytes| String::from_utf8(bytes).ok());
        let (user, password) = decoded
            .as_deref()
            .and_then(|text| text.split_once(':'))
            .ok_or_else(|| unusable(format!("the login of {registry} cannot be read")))?;
        Ok(RegistryAuth::Basic(user.into(), password.into()))
    }
}

/// TLS needs a crypto provider for the process; the first that is installed stays.
fn install_crypto() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // Already installed by the program: just as well.
        drop(rustls::crypto::ring::default_provider().install_default());
    });
}

pub(super) async fn pull(
    reference: &str,
    name: &str,
    options: &Options,
    staging: &Path,
    progress: &dyn Progress,
) -> Result<ImageInput, String> {
    install_crypto();
    let from: Reference =
        name.parse().map_err(|error| format!("{name:?} is not an image reference: {error}"))?;
    let registry = from.resolve_registry().to_owned();
    let config = ClientConfig {
        protocol: ClientProtocol::HttpsExcept(options.insecure_registries.clone()),
        ..ClientConfig::default()
    };
    let client = Client::new(config);
    let auth = options.credentials.for_registry(from.registry())?;
    let failed = |error: &dyn std::fmt::Display| format!("{registry}: {error}");
    client.auth(&from, &auth, RegistryOperation::Pull).await.map_err(|error| failed(&error))?;

    let (mut descriptor, mut bytes) =
        manifest(&client, &from, &auth).await.map_err(|error| failed(&error))?;
    if archive::is_index(&descriptor) {
        let index: Index = json::strict(&bytes).map_err(|error| failed(&error))?;
        let chosen = archive::choose(&index, &options.platform)?;
        let by_digest = from.clone_with_digest(chosen.digest.to_string());
        (descriptor, bytes) = manifest(&client, &by_digest, &auth).await.map_err(|error| failed(&error))?;
        if descriptor.digest != chosen.digest {
            return Err(failed(&format_args!(
                "gave {} where {} was asked for",
                descriptor.digest, chosen.digest
            )));
        }
    }
    let manifest: Manifest = json::strict(&bytes).map_err(|error| failed(&error))?;
    if manifest.config.size > limits::METADATA {
        return Err(failed(&"the image configuration is too large"));
    }
    let total = manifest.layers.iter().map(|layer| layer.size).sum();
    progress.begin(&format!("pulling {name}"), Some(total));
    for one in manifest.layers.iter().chain([&manifest.config]) {
        download(&client, &from, one, &blob_file(staging, &one.digest), progress)
            .await
            .map_err(|error| failed(&error))?;
    }
    progress.end();
    let config =
        std::fs::read(blob_file(staging, &manifest.config.digest)).map_err(|error| failed(&error))?;
    if Digest::of(&config) != manifest.config.digest {
        return Err(failed(&"the image configuration is not what its digest says"));
    }
    progress.begin(&format!("checking {name}"), Some(total));
    let part = |one: &Descriptor| {
        let path = blob_file(staging, &one.digest);
        let size = std::fs::metadata(&path).map_err(|error| failed(&error))?.len();
        Ok(Source::Part { path, offset: 0, size })
    };
    let layers = archive::layers_of(&manifest, &config, part, progress)?;
    progress.end();
    let (reference, manifest_type) = (reference.into(), descriptor.media_type);
    Ok(ImageInput { reference, manifest_type, manifest: bytes, config, layers })
}

fn blob_file(staging: &Path, digest: &Digest) -> PathBuf {
    staging.join(digest.hex())
}

/// A manifest or index with what it is.
async fn manifest(
    client: &Client,
    from: &Reference,
    auth: &RegistryAuth,
) -> Result<(Descriptor, Vec<u8>), String> {
    let list = "application/vnd.docker.distribution.manifest.list.v2+json";
    let accepted = [media::MANIFEST, media::DOCKER_MANIFEST, media::INDEX, list];
    let (bytes, _) =
        client.pull_manifest_raw(from, auth, &accepted).await.map_err(|error| error.to_string())?;
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Typed {
        media_type: Option<String>,
        manifests: Option<Vec<Descriptor>>,
    }
    let typed: Typed = json::strict(&bytes).map_err(|error| error.to_string())?;
    let usual = if typed.manifests.is_some() { media::INDEX } else { media::MANIFEST };
    let digest = Digest::of(&bytes);
    if let Some(wanted) = from.digest().filter(|wanted| *wanted != digest.to_string()) {
        return Err(format!("gave {digest} where {wanted} was asked for"));
    }
    let descriptor = Descriptor {
        media_type: typed.media_type.unwrap_or_else(|| usual.into()),
        digest,
        size: bytes.len() as u64,
        urls: Vec::new(),
        annotations: BTreeMap::new(),
        platform: None,
        artifact_type: None,
    };
    Ok((descriptor, bytes.to_vec()))
}

/// Stores a blob under its digest, unless it is there; its content is checked later, when it is read.
async fn download(
    client: &Client,
    from: &Reference,
    one: &Descriptor,
    path: &Path,
    progress: &dyn Progress,
) -> Result<(), String> {
    use futures_util::StreamExt as _;
    use tokio::io::AsyncWriteExt as _;

    if path.exists() {
        progress.advance(one.size);
        return Ok(());
    }
    let failed = |error: std::io::Error| format!("{}: {error}", path.display());
    let digest = one.digest.to_string();
    let mut stream =
        client.pull_blob_stream(from, digest.as_str()).await.map_err(|error| error.to_string())?;
    let mut out = tokio::fs::File::create(path).await.map_err(failed)?;
    let mut count = 0_u64;
    while let Some(piece) = stream.next().await {
        let piece = piece.map_err(failed)?;
        count += piece.len() as u64;
        if count > one.size {
            return Err(format!("{digest} is longer than the {} bytes listed", one.size));
        }
        out.write_all(&piece).await.map_err(failed)?;
        progress.advance(piece.len() as u64);
    }
    out.flush().await.map_err(failed)
}

#[cfg(test)]
mod tests;
