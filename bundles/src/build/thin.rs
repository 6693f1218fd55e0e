//! Thin bundles: what an update has to carry, layer by layer, and the file that carries no more.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::opened::Opened;
use super::{BuildError, BundleError, Progress, output};
use crate::assemble::{Source, write_blobs, write_documents};
use crate::delta::make::{self, Sketch};
use crate::delta::{self, Base, BaseRelease, Delta, LeftOut, MAX_BASES, MAX_LAYER, METHOD, Patch, Prefix};
use crate::digest::Digest;
use crate::layout::{Blob, Compression, Content, Kind, Layer};
use crate::roles::Release;
use crate::sign::{self, Signer};
use crate::verify::Documents;

/// Older layers that are tried for one layer, at most.
const TRIES: usize = 3;

/// The level of a try, and of an estimate.
const QUICK: i32 = 3;

/// How a layer travels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum How {
    /// Not at all: the older release has it.
    Same,
    /// As a patch on a layer of the older release.
    Patched(Patch),
    /// Stored plain in the bundle, and resembling nothing: compressed.
    Packed(Patch),
    /// As it is in the bundle.
    Whole,
}

/// What one layer costs.
#[derive(Debug, Clone)]
pub struct LayerCost {
    /// The image that lists it first.
    pub reference: String,
    /// Its place there, from 1, bottom first.
    pub position: usize,
    /// The layer.
    pub layer: Layer,
    /// How it travels.
    pub how: How,
}

impl LayerCost {
    /// Bytes that travel.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        match &self.how {
            How::Same => 0,
            How::Patched(patch) | How::Packed(patch) => patch.patch_size,
            How::Whole => self.layer.size,
        }
    }
}

/// What an update costs.
#[derive(Debug)]
pub struct Costs {
    /// The release that it brings.
    pub release: Release,
    /// The releases that it builds on.
    pub bases: Vec<BaseRelease>,
    /// Each layer once, in the order of the bundle.
    pub layers: Vec<LayerCost>,
    /// Bytes of manifests, configurations and files, which always travel.
    pub other_bytes: u64,
}

impl Costs {
    /// Bytes of all blobs that travel.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.layers.iter().map(LayerCost::bytes).sum::<u64>() + self.other_bytes
    }
}

/// A thin bundle that was written.
#[derive(Debug)]
pub struct Thin {
    /// What travels, and why.
    pub costs: Costs,
    /// Its delta document.
    pub delta: Delta,
    /// Bytes of the file.
    pub bytes: u64,
}

/// Writes the thin bundle of the release in `full` for hosts that have one of `bases` to `output`. The release document
/// stays what it is; without signers the delta document is unsigned, for [`sign_bundle`](super::sign_bundle).
///
/// # Errors
/// [`BundleError`]; nothing is left at the output's place.
pub fn thin(
    full: &Path,
    bases: &[PathBuf],
    output: &Path,
    level: i32,
    signers: &[&dyn Signer],
    progress: &dyn Progress,
) -> Result<Thin, BundleError> {
    let staging = output::staging(output)?;
    let (new, olds) = open(full, bases, progress)?;
    if new.documents.delta.is_some() {
        return Err(BundleError::Base {
            path: full.into(),
            reason: "is a delta itself; give the full bundle".into(),
        });
    }
    let (costs, mut patches) =
        Weighing { new: &new, olds: &olds, level, progress }.weigh(Some(staging.path()))?;
    let mut delta = Delta::new(new.verified.digest, costs.bases.clone());
    for cost in &costs.layers {
        let Layer { digest, diff_id, .. } = cost.layer;
        match &cost.how {
            How::Same => {
                let unpacked = unpacked_size(&new, &cost.layer).map_err(BuildError::file(full))?;
                delta.left_out.push(LeftOut { digest, diff_id, unpacked });
            }
            How::Patched(patch) | How::Packed(patch) => delta.patches.push(patch.clone()),
            How::Whole => {}
        }
    }
    delta.left_out.sort_by_key(|one| one.digest);
    delta.patches.sort_by_key(|one| one.digest);
    if delta.left_out.is_empty() && delta.patches.is_empty() {
        return Err(BundleError::Base {
            path: full.into(),
            reason: "has no layer that the bases could stand in for; the full bundle is as small as it gets"
                .into(),
        });
    }
    let absent: BTreeSet<Digest> = delta.left_out.iter().map(|one| one.digest).collect();
    let instead: BTreeMap<Digest, &Patch> = delta.patches.iter().map(|one| (one.digest, one)).collect();
    let mut blobs = Vec::new();
    for (blob, source) in &new.blobs {
        match instead.get(&blob.digest) {
            _ if absent.contains(&blob.digest) => {}
            Some(patch) => {
                let kind = Kind::Patch;
                let blob = Blob { digest: patch.patch, size: patch.patch_size, kind, layer: None };
                blobs.extend(patches.remove(&patch.patch).map(|source| (blob, source)));
            }
            None => blobs.push((blob.clone(), source.clone())),
        }
    }
    let envelope = sign::delta(&delta, signers)?;
    let documents = Documents { delta: Some(envelope), ..new.documents.clone() };
    progress.begin("writing the thin bundle", Some(costs.bytes()));
    output::replace(output, |out| {
        write_documents(out, &documents)?;
        write_blobs(out, &blobs, &mut |bytes| progress.advance(bytes))
    })?;
    progress.end();
    let bytes = fs::metadata(output).map_err(BuildError::file(output))?.len();
    Ok(Thin { costs, delta, bytes })
}

/// Where and how a thin bundle is built.
#[derive(Debug, Clone, Copy)]
pub struct ThinOutput<'a> {
    /// Bundles of older releases.
    pub bases: &'a [PathBuf],
    /// zstd's level for patches.
    pub level: i32,
    /// The thin bundle.
    pub thin: &'a Path,
    /// The full bundle, if it is wanted as well.
    pub full: Option<&'a Path>,
}

/// Builds a release and its thin bundle in one go.
///
/// # Errors
/// [`BundleError`]; nothing is left at the outputs' places, but for a full bundle that was complete.
pub async fn build_thin(
    options: &super::Options,
    output: &ThinOutput<'_>,
    signers: &[&dyn Signer],
    progress: &dyn Progress,
) -> Result<(super::Built, Thin), BundleError> {
    let staging = output::staging(output.thin)?;
    let full = output.full.map_or_else(|| staging.path().join("full"), Path::to_owned);
    let built = super::build(options, &full, signers, progress).await?;
    let thin = thin(&full, output.bases, output.thin, output.level, signers, progress)?;
    Ok((built, thin))
}

/// What an update from `old` to `new` costs. An estimate makes its patches quickly; real ones are smaller.
///
/// # Errors
/// [`BundleError`].
pub fn diff(
    old: &Path,
    new: &Path,
    level: i32,
    estimate: bool,
    progress: &dyn Progress,
) -> Result<Costs, BundleError> {
    let (new, olds) = open(new, &[old.into()], progress)?;
    let level = if estimate { QUICK } else { level };
    Ok(Weighing { new: &new, olds: &olds, level, progress }.weigh(None)?.0)
}

fn open(new: &Path, olds: &[PathBuf], progress: &dyn Progress) -> Result<(Opened, Vec<Opened>), BundleError> {
    if olds.is_empty() || olds.len() > MAX_BASES {
        let reason = format!("needs 1 to {MAX_BASES} bases");
        return Err(BundleError::Base { path: new.into(), reason });
    }
    let read = |path: &Path| Opened::read(path, &format!("reading {}", path.display()), progress);
    let new = read(new)?;
    let mut opened = Vec::new();
    for path in olds {
        let old = read(path)?;
        let (found, wanted) = (&old.verified.release.product, &new.verified.release.product);
        if found != wanted {
            let reason = format!("is of product {found}, not {wanted}");
            return Err(BundleError::Base { path: path.clone(), reason });
        }
        opened.push(old);
    }
    Ok((new, opened))
}

/// A layer of an older release that can be built on.
struct Candidate<'a> {
    layer: Layer,
    reference: &'a str,
    position: usize,
    source: &'a Source,
    sketch: Sketch,
}

struct Weighing<'a> {
    new: &'a Opened,
    olds: &'a [Opened],
    level: i32,
    progress: &'a dyn Progress,
}

impl<'a> Weighing<'a> {
    /// Weighs every layer; keeps the patches in `staging`, if there is one.
    fn weigh(&self, staging: Option<&Path>) -> Result<(Costs, BTreeMap<Digest, Source>), BundleError> {
        let known: BTreeSet<Digest> =
            self.olds.iter().flat_map(|old| layers(&old.content)).map(|(.., layer)| layer.diff_id).collect();
        let (mut candidates, mut costs, mut patches) = (None, Vec::new(), BTreeMap::new());
        let sources = self.new.sources();
        for (reference, position, layer) in layers(&self.new.content) {
            let mut how = How::Whole;
            if known.contains(&layer.diff_id) {
                how = How::Same;
            } else if let Some(source) = sources.get(&layer.digest)
                && let Some(plain) = self.plain(reference, position, layer, source)?
            {
                if candidates.is_none() {
                    candidates = Some(self.candidates()?);
                }
                let candidates: &[Candidate<'_>] = candidates.as_deref().unwrap_or_default();
                let what = format!("layer {position} of {reference}");
                if let Some((patch, bytes)) =
                    self.smallest(&what, (reference, position), layer, &plain, candidates)?
                    && patch.patch_size < layer.size
                    && !sources.contains_key(&patch.patch)
                    && !patches.contains_key(&patch.patch)
                {
                    let source = keep(staging, &patch.patch, bytes)?;
                    patches.insert(patch.patch, source);
                    how = if patch.base.is_some() { How::Patched(patch) } else { How::Packed(patch) };
                }
            }
            costs.push(LayerCost { reference: reference.to_owned(), position, layer: layer.clone(), how });
        }
        let bases = self.olds.iter().map(|old| {
            let Release { version, stream, seq, .. } = old.verified.release.clone();
            BaseRelease { version, stream, seq, release: old.verified.digest }
        });
        let others = self.new.blobs.iter().filter(|(blob, _)| blob.kind != Kind::Layer);
        let costs = Costs {
            release: self.new.verified.release.clone(),
            bases: bases.collect(),
            layers: costs,
            other_bytes: others.map(|(blob, _)| blob.size).sum(),
        };
        Ok((costs, patches))
    }

    /// The layers of the older releases that are in their files and not too large.
    fn candidates(&self) -> Result<Vec<Candidate<'a>>, BundleError> {
        let (mut found, mut seen) = (Vec::new(), BTreeSet::new());
        for old in self.olds {
            let sources = old.sources();
            for (reference, position, layer) in layers(&old.content) {
                let Some(source) = sources.get(&layer.digest).copied() else { continue };
                if !seen.insert(layer.diff_id) {
                    continue;
                }
                if let Some(plain) = self.plain(reference, position, layer, source)? {
                    let sketch = Sketch::of(&plain);
                    found.push(Candidate { layer: layer.clone(), reference, position, source, sketch });
                }
            }
        }
        Ok(found)
    }

    /// The plain tar of a layer; `None` for one that is too large, or empty.
    fn plain(
        &self,
        reference: &str,
        position: usize,
        layer: &Layer,
        source: &Source,
    ) -> Result<Option<Vec<u8>>, BundleError> {
        if layer.compression == Compression::None && layer.size > MAX_LAYER {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        let read =
            unpacked(layer, source).and_then(|reader| reader.take(MAX_LAYER + 1).read_to_end(&mut bytes));
        read.map_err(|error| BundleError::Base {
            path: PathBuf::from(reference),
            reason: format!("layer {position} cannot be read: {error}"),
        })?;
        Ok(Some(bytes).filter(|bytes| !bytes.is_empty() && bytes.len() as u64 <= MAX_LAYER))
    }

    /// The smallest patch for a layer, checked: it gives the layer.
    fn smallest(
        &self,
        what: &str,
        place: (&str, usize),
        layer: &Layer,
        plain: &[u8],
        candidates: &[Candidate<'_>],
    ) -> Result<Option<(Patch, Vec<u8>)>, BundleError> {
        let mut best: Option<(usize, Base, &Candidate<'_>)> = None;
        let chosen = ranked(place, &Sketch::of(plain), candidates);
        let only = chosen.len() == 1;
        for candidate in chosen {
            let Some(bytes) =
                self.plain(candidate.reference, candidate.position, &candidate.layer, candidate.source)?
            else {
                continue;
            };
            self.progress.begin(&format!("comparing {what}"), Some(plain.len() as u64));
            let size = if only {
                0
            } else {
                make::patch(&bytes, plain, QUICK, &mut |bytes| self.progress.advance(bytes))
                    .map_err(failed(what))?
                    .len()
            };
            self.progress.end();
            if best.as_ref().is_none_or(|(smallest, ..)| size < *smallest) {
                let prefix = Prefix { diff_id: candidate.layer.diff_id, size: bytes.len() as u64 };
                let base = Base::read(bytes.as_slice(), prefix)
                    .map_err(|error| failed(what)(io::Error::other(error)))?;
                best = Some((size, base, candidate));
            }
        }
        let base = match best {
            Some((_, base, _)) => base,
            // A compressed layer would only be compressed again, and no longer be what a registry knows.
            None if layer.compression != Compression::None => return Ok(None),
            None => Base::none(),
        };
        self.progress.begin(&format!("patching {what}"), Some(plain.len() as u64));
        let bytes = make::patch(base.bytes(), plain, self.level, &mut |bytes| self.progress.advance(bytes))
            .map_err(failed(what))?;
        self.progress.end();
        let patch = Patch {
            digest: layer.digest,
            diff_id: layer.diff_id,
            unpacked: plain.len() as u64,
            base: base.prefix(),
            patch: Digest::of(&bytes),
            patch_size: bytes.len() as u64,
            method: METHOD.into(),
        };
        delta::apply(&base, &patch, bytes.as_slice(), &mut io::sink())
            .map_err(|error| failed(what)(io::Error::other(error)))?;
        Ok(Some((patch, bytes)))
    }
}

/// Layers worth a try: the one in the same place of the same image, then those that share most.
fn ranked<'c>(
    (reference, position): (&str, usize),
    sketch: &Sketch,
    candidates: &'c [Candidate<'c>],
) -> Vec<&'c Candidate<'c>> {
    let name = |reference: &str| {
        let reference = reference.split('@').next().unwrap_or_default().to_owned();
        match reference.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => name.to_owned(),
            _ => reference,
        }
    };
    let mut scored: Vec<_> = candidates
        .iter()
        .map(|one| {
            let same_place = one.position == position && name(one.reference) == name(reference);
            (same_place, sketch.shared(&one.sketch), one)
        })
        .filter(|(same_place, shared, _)| *same_place || *shared > 0)
        .collect();
    scored.sort_by_key(|(same_place, shared, _)| std::cmp::Reverse((*same_place, *shared)));
    scored.into_iter().map(|(.., one)| one).take(TRIES).collect()
}

/// Every layer once, with the image that lists it first and its place there.
fn layers(content: &Content) -> impl Iterator<Item = (&str, usize, &Layer)> {
    let mut seen = BTreeSet::new();
    let all = content.images.iter().flat_map(|image| {
        image.layers.iter().zip(1..).map(|(layer, position)| (image.reference.as_str(), position, layer))
    });
    all.filter(move |(.., layer)| seen.insert(layer.digest))
}

fn unpacked<'s>(layer: &Layer, source: &'s Source) -> io::Result<Box<dyn Read + 's>> {
    let reader = source.open()?;
    Ok(match layer.compression {
        Compression::None => reader,
        Compression::Gzip => Box::new(flate2::read::MultiGzDecoder::new(reader)),
        Compression::Zstd => Box::new(zstd::Decoder::new(reader)?),
    })
}

fn unpacked_size(new: &Opened, layer: &Layer) -> io::Result<u64> {
    if layer.compression == Compression::None {
        return Ok(layer.size);
    }
    let source = new.sources().get(&layer.digest).copied();
    let source = source.ok_or_else(|| io::Error::other(format!("{} is not in it", layer.digest)))?;
    io::copy(&mut unpacked(layer, source)?, &mut io::sink())
}

/// Keeps a patch in a file, so that memory holds one at a time; without a folder, not at all.
fn keep(staging: Option<&Path>, digest: &Digest, bytes: Vec<u8>) -> Result<Source, BundleError> {
    let Some(staging) = staging else { return Ok(Source::Bytes(Vec::new())) };
    let path = staging.join(digest.hex());
    fs::write(&path, &bytes).map_err(BuildError::file(&path))?;
    Ok(Source::Part { path, offset: 0, size: bytes.len() as u64 })
}

fn failed(what: &str) -> impl Fn(io::Error) -> BundleError + use<> {
    let what = what.to_owned();
    move |error| BundleError::Base {
        path: PathBuf::from(&what),
        reason: format!("cannot be patched: {error}"),
    }
}
