//! Images out of archives: what `docker save` writes, and OCI layouts in a tar.
//!
//! Nothing is unpacked: entries are parts of the archive and stay where they are. Names in the archive are looked up, never
//! used as paths. Every blob is hashed on the way, compressed layers are unpacked to nowhere and compared with the
//! configuration.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read as _};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::Progress;
use crate::assemble::{ImageInput, LayerInput, Source, layer_type};
use crate::digest::Digest;
use crate::json;
use crate::layout::{
    Compression, Descriptor, ImageConfig, Index, Manifest, Platform, blob_path, limits, media, tagged,
};
use crate::roles::MAX_NUMBER;
use crate::unpack::LayerCheck;

/// An archive whose entries are known by name.
struct Archive {
    path: PathBuf,
    parts: BTreeMap<String, (u64, u64)>,
    links: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

impl Archive {
    fn open(path: &Path) -> Result<Self, String> {
        let failed = |error: std::io::Error| format!("{}: {error}", path.display());
        let file = File::open(path).map_err(failed)?;
        let mut this = Self { path: path.into(), parts: BTreeMap::new(), links: BTreeMap::new() };
        let mut archive = ::tar::Archive::new(BufReader::new(file));
        for entry in archive.entries_with_seek().map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = String::from_utf8_lossy(&entry.path_bytes()).trim_start_matches("./").to_owned();
            match entry.header().entry_type() {
                ::tar::EntryType::Regular => {
                    this.parts.insert(name, (entry.raw_file_position(), entry.size()));
                }
                // Older engines save a layer that two images share as a link to the first.
                ::tar::EntryType::Symlink | ::tar::EntryType::Link => {
                    let target = entry.link_name_bytes().unwrap_or_default();
                    this.links.insert(name, String::from_utf8_lossy(&target).into_owned());
                }
                _ => {}
            }
        }
        Ok(this)
    }

    fn part(&self, name: &str) -> Result<Source, String> {
        let linked = self.links.get(name).map(|target| resolve(name, target));
        let found = self.parts.get(linked.as_deref().unwrap_or(name));
        let (offset, size) = *found.ok_or_else(|| format!("{}: {name} is not in it", self.path.display()))?;
        Ok(Source::Part { path: self.path.clone(), offset, size })
    }

    fn bytes(&self, name: &str) -> Result<Vec<u8>, String> {
        let Source::Part { path, offset, size } = self.part(name)? else { return Ok(Vec::new()) };
        if size > limits::METADATA {
            return Err(format!("{name} has {size} bytes, too many for a manifest or configuration"));
        }
        let mut bytes = Vec::new();
        let mut reader = Source::Part { path, offset, size };
        read_all(&mut reader, &mut bytes).map_err(|error| format!("{name}: {error}"))?;
        Ok(bytes)
    }

    fn blob(&self, digest: &Digest) -> Result<Vec<u8>, String> {
        let bytes = self.bytes(&blob_path(digest))?;
        if Digest::of(&bytes) != *digest {
            return Err(format!("{digest} is not what its name says"));
        }
        Ok(bytes)
    }
}

fn read_all(source: &mut Source, bytes: &mut Vec<u8>) -> std::io::Result<()> {
    source.open()?.read_to_end(bytes).map(drop)
}

/// A link's target, relative to the folder of the link, without leaving the archive.
fn resolve(name: &str, target: &str) -> String {
    let mut parts: Vec<&str> = name.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            ".." => drop(parts.pop()),
            "." | "" => {}
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// An image out of an archive of `docker save`.
pub(super) fn docker(
    reference: &str,
    file: &Path,
    inner: Option<&str>,
    progress: &dyn Progress,
) -> Result<ImageInput, String> {
    let archive = Archive::open(file)?;
    let saved: Vec<Saved> =
        json::strict(&archive.bytes("manifest.json")?).map_err(|error| format!("manifest.json: {error}"))?;
    let wanted = tagged(inner.unwrap_or(reference));
    let tagged = |one: &&Saved| one.repo_tags.iter().flatten().any(|tag| *tag == wanted);
    let image = match (saved.iter().find(tagged), saved.as_slice()) {
        (Some(image), _) => image,
        (None, [only]) if inner.is_none() => only,
        _ => return Err(format!("{} holds {} images, none of them {wanted}", file.display(), saved.len())),
    };
    let config = archive.bytes(&image.config)?;
    let diff_ids = diff_ids(&config)?;
    if diff_ids.len() != image.layers.len() {
        return Err(format!(
            "its configuration lists {} layers, the archive {}",
            diff_ids.len(),
            image.layers.len()
        ));
    }
    progress.begin(&format!("reading {reference}"), None);
    let layers = image
        .layers
        .iter()
        .zip(diff_ids)
        .map(|(name, diff_id)| layer(archive.part(name)?, None, diff_id, progress))
        .collect::<Result<_, _>>()?;
    progress.end();
    Ok(ImageInput::new(reference, config, layers))
}

/// An image out of an OCI layout in a tar; its manifest stays as it is, byte for byte.
pub(super) fn oci(
    reference: &str,
    file: &Path,
    inner: Option<&str>,
    platform: &Platform,
    progress: &dyn Progress,
) -> Result<ImageInput, String> {
    let archive = Archive::open(file)?;
    let mut index: Index =
        json::strict(&archive.bytes("index.json")?).map_err(|error| format!("index.json: {error}"))?;
    let named = |one: &Descriptor| one.annotations.get(media::REF_NAME).map(String::as_str) == inner;
    if inner.is_some() {
        index.manifests.retain(named);
    }
    let mut chosen = choose(&index, platform)?;
    if is_index(&chosen) {
        let bytes = archive.blob(&chosen.digest)?;
        let nested = json::strict(&bytes).map_err(|error| format!("{}: {error}", chosen.digest))?;
        chosen = choose(&nested, platform)?;
    }
    let bytes = archive.blob(&chosen.digest)?;
    let manifest: Manifest = json::strict(&bytes).map_err(|error| format!("{}: {error}", chosen.digest))?;
    let config = archive.blob(&manifest.config.digest)?;
    progress.begin(&format!("reading {reference}"), None);
    let layers = layers_of(&manifest, &config, |one| archive.part(&blob_path(&one.digest)), progress)?;
    progress.end();
    Ok(ImageInput {
        reference: reference.into(),
        manifest_type: chosen.media_type,
        manifest: bytes,
        config,
        layers,
    })
}

/// Checks all layers of a manifest against it and the configuration.
pub(super) fn layers_of(
    manifest: &Manifest,
    config: &[u8],
    source: impl Fn(&Descriptor) -> Result<Source, String>,
    progress: &dyn Progress,
) -> Result<Vec<LayerInput>, String> {
    let diff_ids = diff_ids(config)?;
    if diff_ids.len() != manifest.layers.len() {
        return Err(format!(
            "its configuration lists {} layers, its manifest {}",
            diff_ids.len(),
            manifest.layers.len()
        ));
    }
    manifest
        .layers
        .iter()
        .zip(diff_ids)
        .map(|(one, diff_id)| layer(source(one)?, Some(one), diff_id, progress))
        .collect()
}

pub(super) fn is_index(descriptor: &Descriptor) -> bool {
    [media::INDEX, "application/vnd.docker.distribution.manifest.list.v2+json"]
        .contains(&descriptor.media_type.as_str())
}

/// The manifest for the platform; a single one without a platform is taken as it is.
pub(super) fn choose(index: &Index, platform: &Platform) -> Result<Descriptor, String> {
    if let [only] = index.manifests.as_slice()
        && only.platform.is_none()
    {
        return Ok(only.clone());
    }
    let fits = |one: &&Descriptor| {
        one.platform.as_ref().is_some_and(|has| {
            (&has.os, &has.architecture) == (&platform.os, &platform.architecture)
                && (platform.variant.is_none() || has.variant == platform.variant)
        })
    };
    let found = index.manifests.iter().find(fits).cloned();
    found.ok_or_else(|| format!("it has no manifest for {}/{}", platform.os, platform.architecture))
}

fn diff_ids(config: &[u8]) -> Result<Vec<Digest>, String> {
    let config: ImageConfig =
        json::strict(config).map_err(|error| format!("image configuration: {error}"))?;
    Ok(config.rootfs.diff_ids)
}

/// Hashes a layer, unpacks it if it is compressed, and compares both with what is said of it.
fn layer(
    source: Source,
    listed: Option<&Descriptor>,
    diff_id: Digest,
    progress: &dyn Progress,
) -> Result<LayerInput, String> {
    let wrong = |error: &dyn std::fmt::Display| format!("layer {diff_id}: {error}");
    let mut reader = source.open().map_err(|error| wrong(&error))?;
    let mut buffer = vec![0; 128 << 10];
    let mut count = reader.read(&mut buffer).map_err(|error| wrong(&error))?;
    let (media_type, compression) = match listed {
        Some(listed) => {
            let compression = Compression::of(&listed.media_type).filter(|_| listed.urls.is_empty());
            let unusable = || wrong(&format_args!("media type {} cannot be bundled", listed.media_type));
            (listed.media_type.clone(), compression.ok_or_else(unusable)?)
        }
        None => {
            let compression = match &buffer[..count.min(4)] {
                [0x1f, 0x8b, ..] => Compression::Gzip,
                [0x28, 0xb5, 0x2f, 0xfd] => Compression::Zstd,
                _ => Compression::None,
            };
            (layer_type(compression), compression)
        }
    };
    let mut check = LayerCheck::new(compression, diff_id, MAX_NUMBER).map_err(|error| wrong(&error))?;
    let (mut hash, mut size) = (Sha256::new(), 0);
    while count > 0 {
        hash.update(&buffer[..count]);
        check.write(&buffer[..count]).map_err(|error| wrong(&error))?;
        size += count as u64;
        progress.advance(count as u64);
        count = reader.read(&mut buffer).map_err(|error| wrong(&error))?;
    }
    drop(reader);
    let digest = Digest::from_bytes(hash.finalize().into());
    if let Some(listed) = listed.filter(|listed| (listed.digest, listed.size) != (digest, size)) {
        return Err(wrong(&format_args!(
            "{size} bytes with {digest} where {} are listed as {}",
            listed.size, listed.digest
        )));
    }
    let unpacked = check.finish().map_err(|error| wrong(&error))?;
    Ok(LayerInput { media_type, digest, size, unpacked, source })
}
