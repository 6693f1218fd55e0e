//! Pulling one image for a bundle that is being built. Manifests are kept byte for byte, so that references by digest
//! stay true.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use oci_client::Reference;
use serde::Deserialize;

use super::reader::Reader;
use super::said;
use crate::assemble::{ImageInput, Source};
use crate::build::{Options, Progress, archive};
use crate::digest::Digest;
use crate::json;
use crate::layout::{Descriptor, Index, Manifest, limits, media};

/// Pulls one image into `staging`; errors are sentences that follow its name.
pub(in crate::build) async fn pull(
    reference: &str,
    name: &str,
    options: &Options,
    staging: &Path,
    progress: &dyn Progress,
) -> Result<ImageInput, String> {
    let from: Reference =
        name.parse().map_err(|error| format!("{name:?} is not an image reference: {error}"))?;
    let registry = from.resolve_registry().to_owned();
    let failed = |error: &dyn std::fmt::Display| format!("{registry}: {error}");
    let plain = options.insecure_registries.contains(&registry);
    let login = options.credentials.for_registry(from.registry()).await?;
    let reader = Reader::new(&from, plain, login).map_err(|error| failed(&said(&error)))?;
    reader.log_in().await.map_err(|error| failed(&said(&error)))?;

    let wanted = from.digest().or(from.tag()).unwrap_or("latest");
    let (mut descriptor, mut bytes) = manifest(&reader, wanted).await.map_err(|error| failed(&error))?;
    if archive::is_index(&descriptor) {
        let index: Index = json::strict(&bytes).map_err(|error| failed(&error))?;
        let chosen = archive::choose(&index, &options.platform)?;
        let by_digest = chosen.digest.to_string();
        (descriptor, bytes) = manifest(&reader, &by_digest).await.map_err(|error| failed(&error))?;
    }
    let manifest: Manifest = json::strict(&bytes).map_err(|error| failed(&error))?;
    if manifest.config.size > limits::METADATA {
        return Err(failed(&"the image configuration is too large"));
    }
    let total = manifest.layers.iter().map(|layer| layer.size).fold(0, u64::saturating_add);
    progress.begin(&format!("pulling {name}"), Some(total));
    for one in manifest.layers.iter().chain([&manifest.config]) {
        download(&reader, one, &blob_file(staging, &one.digest), progress)
            .await
            .map_err(|error| failed(&error))?;
    }
    progress.end();
    let config = blob_file(staging, &manifest.config.digest);
    // A manifest may name the same blob as a layer, of another size.
    if std::fs::metadata(&config).map_err(|error| failed(&error))?.len() != manifest.config.size {
        return Err(failed(&"the image configuration is not of the size listed"));
    }
    let config = std::fs::read(config).map_err(|error| failed(&error))?;
    if Digest::of(&config) != manifest.config.digest {
        return Err(failed(&"the image configuration is not what its digest says"));
    }
    progress.begin(&format!("checking {name}"), Some(total));
    let part = |one: &Descriptor| {
        let path = blob_file(staging, &one.digest);
        let size = std::fs::metadata(&path).map_err(|error| format!("{}: {error}", path.display()))?.len();
        Ok(Source::Part { path, offset: 0, size })
    };
    let layers = archive::layers_of(&manifest, &config, part, progress).map_err(|error| failed(&error))?;
    progress.end();
    let (reference, manifest_type) = (reference.into(), descriptor.media_type);
    Ok(ImageInput { reference, manifest_type, manifest: bytes, config, layers })
}

fn blob_file(staging: &Path, digest: &Digest) -> PathBuf {
    staging.join(digest.hex())
}

/// A manifest or index by tag or digest, with what it is; what has a digest is what it says.
async fn manifest(reader: &Reader, name: &str) -> Result<(Descriptor, Vec<u8>), String> {
    let bytes = reader.manifest(name).await.map_err(|error| said(&error))?;
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Typed {
        media_type: Option<String>,
        manifests: Option<Vec<Descriptor>>,
    }
    let typed: Typed = json::strict(&bytes).map_err(|error| error.to_string())?;
    let usual = if typed.manifests.is_some() { media::INDEX } else { media::MANIFEST };
    let digest = Digest::of(&bytes);
    if name.contains(':') && name != digest.to_string() {
        return Err(format!("gave {digest} where {name} was asked for"));
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
    Ok((descriptor, bytes))
}

/// Stores a blob under its digest, unless it is there; its content is checked later, when it is read.
async fn download(
    reader: &Reader,
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
    let (_, mut stream) = reader.blob(&digest, 0).await.map_err(|error| said(&error))?;
    let mut out = tokio::fs::File::create(path).await.map_err(failed)?;
    let mut count = 0_u64;
    while let Some(piece) = stream.next().await {
        let piece = piece.map_err(|error| said(&error))?;
        count += piece.len() as u64;
        if count > one.size {
            return Err(format!("{digest} is longer than the {} bytes listed", one.size));
        }
        out.write_all(&piece).await.map_err(failed)?;
        progress.advance(piece.len() as u64);
    }
    out.flush().await.map_err(failed)
}
