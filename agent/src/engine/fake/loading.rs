//! What the fake engine makes of an archive: as both stores do, it takes an image only whole, and lets those layers be left
//! out that it has.

use std::collections::{BTreeMap, BTreeSet};

use kedge_bundle::digest::Digest;
use kedge_bundle::layout::{Index, Manifest, blob_path};
use kedge_bundle::tar::{self, BLOCK};
use serde::Deserialize;

use super::super::error::{Error, Kind, Result};
use super::super::types::{Image, ImageStore};
use super::world::World;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    config: String,
    repo_tags: Vec<String>,
    layers: Vec<String>,
}

#[derive(Deserialize)]
struct Config {
    rootfs: RootFs,
}

#[derive(Deserialize)]
struct RootFs {
    diff_ids: Vec<String>,
}

fn refused(why: impl Into<String>) -> Error {
    Error::new(Kind::Engine, "load images", why)
}

impl World {
    /// Takes the images of an archive.
    pub(super) fn load(&mut self, archive: &[u8]) -> Result<()> {
        let files = files(archive).ok_or_else(|| refused("unexpected EOF"))?;
        self.loads.push(files.keys().cloned().collect());
        match self.store {
            ImageStore::Classic => self.load_classic(&files),
            ImageStore::Containerd => self.load_containerd(&files),
        }
    }

    fn load_classic(&mut self, files: &BTreeMap<String, Vec<u8>>) -> Result<()> {
        for listed in parse::<Vec<Listed>>(files, "manifest.json")? {
            let diff_ids = parse::<Config>(files, &listed.config)?.rootfs.diff_ids;
            for (depth, path) in listed.layers.iter().enumerate() {
                let chain = &diff_ids[..=depth];
                let is_there = self.images.values().any(|image| image.diff_ids.starts_with(chain));
                match files.get(path) {
                    _ if is_there => {}
                    Some(bytes) if Digest::of(bytes).to_string() == diff_ids[depth] => {}
                    Some(_) => {
                        return Err(refused(format!("wrong diff id calculated on extraction of {path}")));
                    }
                    None => return Err(refused(format!("open {path}: no such file or directory"))),
                }
            }
            let id = files.get(&listed.config).map(|bytes| Digest::of(bytes).to_string()).unwrap_or_default();
            self.images
                .insert(id.clone(), Image { id, diff_ids, tags: listed.repo_tags, ..Image::default() });
        }
        Ok(())
    }

    fn load_containerd(&mut self, files: &BTreeMap<String, Vec<u8>>) -> Result<()> {
        for image in parse::<Index>(files, "index.json")?.manifests {
            let manifest: Manifest = parse(files, &blob_path(&image.digest))?;
            let diff_ids = parse::<Config>(files, &blob_path(&manifest.config.digest))?.rootfs.diff_ids;
            let sent = manifest.layers.iter().filter(|layer| files.contains_key(&blob_path(&layer.digest)));
            let sent: BTreeSet<Digest> = sent.map(|layer| layer.digest).collect();
            // It says that all went well, and has no such image.
            if manifest.layers.iter().all(|l| sent.contains(&l.digest) || self.layers.contains(&l.digest)) {
                self.layers.extend(sent);
                let id = image.digest.to_string();
                let tags = image.annotations.get("io.containerd.image.name").cloned().into_iter().collect();
                self.images.insert(id.clone(), Image { id, diff_ids, tags, ..Image::default() });
            }
        }
        Ok(())
    }
}

fn parse<T: serde::de::DeserializeOwned>(files: &BTreeMap<String, Vec<u8>>, name: &str) -> Result<T> {
    let bytes = files.get(name).ok_or_else(|| refused(format!("open {name}: no such file or directory")))?;
    serde_json::from_slice(bytes).map_err(|error| refused(format!("{name}: {error}")))
}

/// Names and contents; `None` where the archive is cut off.
fn files(archive: &[u8]) -> Option<BTreeMap<String, Vec<u8>>> {
    let mut files = BTreeMap::new();
    let mut at = 0;
    loop {
        let block: [u8; BLOCK] = archive.get(at..at + BLOCK)?.try_into().ok()?;
        let Some(entry) = tar::parse(&block).ok()? else { return Some(files) };
        at += BLOCK;
        let size = usize::try_from(entry.size).ok()?;
        files.insert(entry.name, archive.get(at..at + size)?.to_vec());
        at += size + tar::padding(entry.size);
    }
}
