//! Letting go of content that no deployment needs.
//!
//! Kept are the releases of every generation that runs, that may be gone back to, or that is being installed, and releases
//! newer than any of those: they were stored to be deployed later. The content store is tidied whenever an operation has
//! ended. Images in the engine cost a pull of the stick to have again, so they stay until somebody asks (`kedge gc`) or
//! until a disk is nearly full; then those go that carry a private tag of ours, that no kept release needs, and that no
//! container uses, whosever it is. Nothing in here knows how to remove a volume.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use kedge_bundle::digest::Digest;
use kedge_proto::local::v1::{Garbage, GarbageImage};
use tokio::time::Instant;

use super::Host;
use crate::audit;
use crate::engine::types::Filter;
use crate::images::load::{REPOSITORY, private_name};
use crate::images::{Loaded, Unneeded, release, room};
use crate::problem::Problem;
use crate::store::{DeploymentRecord, GenerationRecord, ReleaseRef, generation_key};
use crate::world::World;

/// Between two looks at a disk that stays too full.
const PAUSE: Duration = Duration::from_secs(600);

/// From the end of an intake to the moment when its deployment has surely written down what it is to install.
const HEARD: Duration = Duration::from_secs(2);

impl Host {
    /// Lets go of releases, blobs and images that nothing needs, or says which those are. Waits for an import under way.
    ///
    /// # Errors
    /// When it cannot be told what is needed, or the engine does not answer: then nothing is removed.
    pub async fn collect_garbage(&self, dry_run: bool, by: &str) -> Result<Garbage, Problem> {
        let world = &self.inner.world;
        let _no_intake = world.intake.lock().await;
        everything(world, dry_run, by).await
    }
}

/// Removes releases and blobs that nothing needs. What goes wrong is logged and tried the next time.
///
/// An intake under way holds blobs that no release refers to yet: then it is done once that has ended, and nobody waits for it.
pub async fn collect(world: &Arc<World>) {
    if let Ok(_no_intake) = world.intake.try_lock() {
        return tidy(world).await;
    }
    let world = Arc::clone(world);
    tokio::spawn(async move {
        loop {
            drop(world.intake.lock().await);
            // What was taken in is referred to once its deployment has heard of it.
            tokio::time::sleep(HEARD).await;
            if let Ok(_no_intake) = world.intake.try_lock() {
                return tidy(&world).await;
            }
        }
    });
}

async fn tidy(world: &World) {
    match needed(world) {
        Ok(needed) => drop(stored(world, &needed, false).await),
        Err(problem) => tracing::warn!(%problem, "could not tell which content is needed; keeping all"),
    }
}

/// Collects whenever the engine's or our disk is fuller than the configuration allows. Asked every few seconds.
#[derive(Debug, Default)]
pub struct Watermark {
    last: Option<Instant>,
}

impl Watermark {
    /// Looks, and collects if it is time.
    pub async fn look(&mut self, world: &World) {
        let most = world.config.limits.collect_above_percent;
        let engine = world.engine_kind.borrow().clone();
        let engine = engine.map(|info| [info.image_dir(), info.root_dir.into()]).into_iter().flatten();
        let mut disks = engine.chain([world.config.state_dir.clone()]);
        let is_full = |(free, total): (u64, u64)| {
            total > 0 && u128::from(total - free.min(total)) * 100 > u128::from(total) * u128::from(most)
        };
        let full = disks.any(|disk| is_full(room::usage(&disk)));
        if !full || self.last.is_some_and(|last| last.elapsed() < PAUSE) {
            return;
        }
        let Ok(_no_intake) = world.intake.try_lock() else { return };
        self.last = Some(Instant::now());
        match everything(world, false, "a disk that is nearly full").await {
            Ok(collected) => tracing::info!(
                images = collected.images.len(),
                blobs = collected.blobs,
                "a disk is more than {most} % full: what nothing needs was removed"
            ),
            Err(problem) => tracing::warn!(%problem, "a disk is nearly full, and nothing could be removed"),
        }
    }
}

async fn everything(world: &World, dry_run: bool, by: &str) -> Result<Garbage, Problem> {
    let needed = needed(world)?;
    let mut garbage = images(world, &needed).await?;
    garbage.dry_run = dry_run;
    if !dry_run {
        let names = garbage.images.iter().map(|image| image.name.clone()).collect();
        world.audit(audit::Event::Collected { by: by.to_owned(), images: names }).await?;
        let mut removed = Vec::new();
        for image in std::mem::take(&mut garbage.images) {
            match world.engine.remove_image(&image.name).await {
                Ok(()) => removed.push(image),
                // Somebody began to use it just now.
                Err(error) => {
                    tracing::warn!(image = image.name, %error, "the engine keeps an image");
                    garbage.kept.push(image);
                }
            }
        }
        garbage.images = removed;
    }
    let stored = stored(world, &needed, dry_run).await;
    let hex = |path: &std::path::PathBuf| path.file_name().map(|name| name.to_string_lossy().into_owned());
    garbage.releases = stored.releases.iter().filter_map(hex).collect();
    (garbage.blobs, garbage.blob_bytes) = (stored.files.len() as u64, stored.bytes);
    Ok(garbage)
}

/// Images with a name of ours that no kept release has, in use or not.
async fn images(world: &World, needed: &Needed) -> Result<Garbage, Problem> {
    let failed = |error: crate::engine::Error| Problem::from_error(error.code(), &error);
    let containers = world.engine.list_containers(&Filter::default()).await.map_err(failed)?;
    let used: BTreeSet<&str> = containers.iter().map(|container| container.image_id.as_str()).collect();
    let mut garbage = Garbage::default();
    for image in world.engine.list_images().await.map_err(failed)? {
        let ours = |name: &&String| name.strip_prefix(REPOSITORY).is_some_and(|rest| rest.starts_with('/'));
        for name in image.tags.iter().filter(ours).filter(|name| !needed.names.contains(*name)) {
            let found = GarbageImage { name: name.clone(), id: image.id.clone(), bytes: image.size };
            let is_last = image.tags.len() + image.digests.len() == 1;
            if is_last && used.contains(image.id.as_str()) {
                garbage.kept.push(found);
            } else {
                garbage.images.push(found);
            }
        }
    }
    Ok(garbage)
}

async fn stored(world: &World, needed: &Needed, dry_run: bool) -> Unneeded {
    let (content, releases, blobs) = (world.content.clone(), needed.releases.clone(), needed.blobs.clone());
    let removed = tokio::task::spawn_blocking(move || {
        let unneeded = content.beside(&releases, &blobs);
        if !dry_run {
            unneeded.remove();
        }
        unneeded
    });
    removed.await.unwrap_or_default()
}

/// What has to stay.
#[derive(Debug, Default)]
struct Needed {
    releases: BTreeSet<Digest>,
    blobs: BTreeSet<Digest>,
    /// Names of images.
    names: BTreeSet<String>,
}

impl Needed {
    fn keep(&mut self, loaded: &Loaded) {
        self.blobs.extend(loaded.layers());
        self.blobs.extend(loaded.small_blobs.iter());
        self.names.extend(
            loaded.listing.images.iter().map(private_name).map(|(name, tag)| format!("{name}:{tag}")),
        );
    }
}

fn needed(world: &World) -> Result<Needed, Problem> {
    let mut needed = Needed::default();
    let refer = |needed: &mut Needed, reference: &ReleaseRef| -> Result<(), Problem> {
        needed.releases.insert(release::parse_digest(&reference.digest)?);
        Ok(())
    };
    for deployment in world.store.scan::<DeploymentRecord>("")? {
        let numbers = [deployment.active, deployment.previous, Some(deployment.newest)];
        for number in numbers.into_iter().flatten() {
            let key = generation_key(&deployment.name, number);
            if let Some(generation) = world.store.get::<GenerationRecord>(&key)? {
                refer(&mut needed, &generation.release)?;
            }
        }
        if let Some(operation) = deployment.operation.filter(|o| !o.target.digest.is_empty()) {
            refer(&mut needed, &operation.target)?;
        }
    }
    let stream_of = |loaded: &Loaded| (loaded.release.product.clone(), loaded.release.stream.clone());
    let mut newest: BTreeMap<(String, String), (u64, u64)> = BTreeMap::new();
    for digest in needed.releases.clone() {
        if world.content.has_release(&digest) {
            let loaded = release::load(&world.content, &digest)?;
            let known = newest.entry(stream_of(&loaded)).or_default();
            *known = loaded.rank().max(*known);
            needed.keep(&loaded);
        }
    }
    // Of each stream the newest that is stored, if it is newer than what is referred to.
    let mut staged: BTreeMap<(String, String), Loaded> = BTreeMap::new();
    for digest in world.content.releases().into_iter().filter(|digest| !needed.releases.contains(digest)) {
        // One that is damaged is no use to anybody.
        let Ok(loaded) = release::load(&world.content, &digest) else { continue };
        let stream = stream_of(&loaded);
        let known = staged.get(&stream).map(Loaded::rank).max(newest.get(&stream).copied());
        if known.is_none_or(|known| loaded.rank() > known) {
            staged.insert(stream, loaded);
        }
    }
    for loaded in staged.values() {
        needed.releases.insert(loaded.digest);
        needed.keep(loaded);
    }
    Ok(needed)
}
