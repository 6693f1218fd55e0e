//! Images on their way into the engine: one request each, all fed from one stream of layers.
//!
//! ```text
//!   layers, in any order ──┬─▶ request of image 1 ─▶ engine: spools, then unpacks
//!   each once              ├─▶ request of image 2        (meanwhile the next is sent)
//!                          └─▶ …
//! ```
//!
//! Whoever feeds it has two ways: a bundle as it is verified, or the content store. An image's archive gets its last entry
//! only when all its layers were ended, which says that they are right, and when the images that it relies on are in
//! the engine; the last image only at the very end of what is fed. Anything else breaks the request off, and the engine
//! takes nothing of it. It blocks: feed it from a thread that may.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use kedge_bundle::digest::Digest;
use kedge_bundle::layout::{Image, Layer, limits};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};

use super::archive::{self, Metadata};
use super::plan::{self, Delivery, Known};
use super::request::Request;
use super::{Blobs, id, private_name, read_whole};
use crate::engine::Engine;
use crate::engine::error::{Error, Kind, Result};
use crate::engine::types::ImageStore;

/// Images that the engine unpacks at the same moment.
const UNPACKING: usize = 2;

/// What has become of an image; `None` until that is known.
type Fate = Option<Result<()>>;

/// Images on their way.
pub struct Loading {
    engine: Arc<dyn Engine>,
    store: ImageStore,
    runtime: Handle,
    blobs: Arc<dyn Blobs>,
    unpacking: Arc<Semaphore>,
    images: Vec<OnItsWay>,
    /// The layer that is being fed: its bytes still to come, its size, and the images that it goes to.
    layer: Option<(u64, u64, Vec<usize>)>,
}

struct OnItsWay {
    delivery: Delivery,
    /// Layers still to come.
    missing: BTreeSet<Digest>,
    state: State,
    fate: watch::Sender<Fate>,
}

enum State {
    /// For its first layer.
    Waiting,
    /// For its other layers.
    Open(Request),
    /// For the engine, and no longer for us.
    Completing,
}

/// Where images go, and where their metadata are.
#[derive(Clone)]
pub(super) struct Way {
    pub(super) engine: Arc<dyn Engine>,
    pub(super) store: ImageStore,
    pub(super) runtime: Handle,
    pub(super) blobs: Arc<dyn Blobs>,
}

impl Loading {
    /// Begins. Manifests and configurations of the images must be among the blobs.
    ///
    /// # Errors
    /// When those cannot be read.
    pub(super) fn begin(way: Way, images: Vec<Image>, known: &Known) -> Result<Self> {
        let deliveries = plan::deliveries(images, known);
        let images = deliveries.into_iter().map(|delivery| OnItsWay {
            missing: delivery.send.iter().map(|layer| layer.digest).collect(),
            delivery,
            state: State::Waiting,
            fate: watch::Sender::new(None),
        });
        let Way { engine, store, runtime, blobs } = way;
        let unpacking = Arc::new(Semaphore::new(UNPACKING));
        let images = images.collect();
        let mut loading = Self { engine, store, runtime, blobs, unpacking, images, layer: None };
        let is_last = loading.images.iter().all(|image| image.missing.is_empty());
        for place in 0..loading.images.len() {
            if loading.images[place].missing.is_empty() {
                loading.open(place)?;
                if !is_last {
                    loading.complete(place)?;
                }
            }
        }
        Ok(loading)
    }

    /// Layers that have to be fed, each once.
    pub fn needed(&self) -> Vec<Layer> {
        let mut seen = BTreeSet::new();
        let all = self.images.iter().flat_map(|image| &image.delivery.send);
        all.filter(|layer| seen.insert(layer.digest)).cloned().collect()
    }

    /// Whether a layer has to be fed still.
    pub fn needs(&self, layer: &Digest) -> bool {
        self.images.iter().any(|image| image.missing.contains(layer))
    }

    /// Begins a layer of `size` bytes that is needed.
    ///
    /// # Errors
    /// The engine's, or when metadata cannot be read.
    pub fn layer(&mut self, layer: &Digest, size: u64) -> Result<()> {
        let mut takers = Vec::new();
        for place in 0..self.images.len() {
            if self.images[place].missing.contains(layer) {
                self.open(place)?;
                self.send(place, archive::layer_head(layer, size))?;
                takers.push(place);
            }
        }
        self.layer = Some((size, size, takers));
        Ok(())
    }

    /// Whether a layer was begun and not ended.
    pub fn is_hungry(&self) -> bool {
        self.layer.is_some()
    }

    /// Bytes of the layer begun last.
    ///
    /// # Errors
    /// The engine's.
    pub fn bytes(&mut self, bytes: Bytes) -> Result<()> {
        let Some((left, size, takers)) = self.layer.take() else { return Ok(()) };
        let left = left.checked_sub(bytes.len() as u64).ok_or_else(|| mismatch("more bytes than it has"))?;
        for place in &takers {
            self.send(*place, bytes.clone())?;
        }
        self.layer = Some((left, size, takers));
        Ok(())
    }

    /// The layer begun last is whole and right.
    ///
    /// # Errors
    /// The engine's.
    pub fn end(&mut self, layer: &Digest) -> Result<()> {
        let Some((left, size, takers)) = self.layer.take() else { return Ok(()) };
        if left != 0 {
            return Err(mismatch("fewer bytes than it has"));
        }
        for place in &takers {
            self.send(*place, archive::layer_tail(size))?;
            self.images[*place].missing.remove(layer);
        }
        // Those for which it was the very last wait for the end of the bundle.
        if self.images.iter().any(|image| !image.missing.is_empty()) {
            for place in takers {
                self.complete(place)?;
            }
        }
        Ok(())
    }

    /// Waits until the engine has every image. Gives those that it has now and had not before, by the names they got.
    ///
    /// # Errors
    /// The first that went wrong, with the names of those that did not.
    pub fn finish(mut self) -> std::result::Result<Vec<String>, (Error, Vec<String>)> {
        let completed = (0..self.images.len()).try_for_each(|place| self.complete(place));
        let (loaded, error) = self.settle();
        completed.err().or(error).map_or(Ok(loaded.clone()), |error| Err((error, loaded)))
    }

    /// Breaks off what is not complete. Gives the names of the images that the engine has got all the same.
    pub fn break_off(self) -> Vec<String> {
        self.settle().0
    }

    fn settle(mut self) -> (Vec<String>, Option<Error>) {
        // Those that wait for a layer first: others may be waiting for them.
        for image in &mut self.images {
            match std::mem::replace(&mut image.state, State::Completing) {
                State::Open(request) => self.runtime.block_on(request.break_off()),
                State::Completing => continue,
                State::Waiting => {}
            }
            image.fate.send_replace(Some(Err(mismatch("not all of it has come"))));
        }
        let (mut loaded, mut failed) = (Vec::new(), None);
        for image in &self.images {
            match self.runtime.block_on(known_fate(image.fate.subscribe())) {
                Ok(()) => {
                    let (repository, tag) = private_name(&image.delivery.image);
                    loaded.push(format!("{repository}:{tag}"));
                }
                Err(error) => {
                    failed.get_or_insert(error);
                }
            }
        }
        (loaded, failed)
    }

    fn send(&mut self, place: usize, piece: Bytes) -> Result<()> {
        match &mut self.images[place].state {
            State::Open(request) if !piece.is_empty() => self.runtime.block_on(request.send(piece)),
            _ => Ok(()),
        }
    }

    fn open(&mut self, place: usize) -> Result<()> {
        let image = &self.images[place].delivery.image;
        if !matches!(self.images[place].state, State::Waiting) {
            return Ok(());
        }
        let metadata = Metadata {
            manifest: read_whole(&*self.blobs, &image.manifest, limits::METADATA)?,
            config: read_whole(&*self.blobs, &image.config, limits::METADATA)?,
        };
        let opening = archive::opening(image, self.store, &metadata);
        let what = format!("load image {}", image.reference);
        let request = Request::open(Arc::clone(&self.engine), &self.runtime, what);
        self.images[place].state = State::Open(request);
        self.send(place, opening)
    }

    /// All layers of an image have come: the rest happens beside what is fed next.
    fn complete(&mut self, place: usize) -> Result<()> {
        if !self.images[place].missing.is_empty() {
            return Ok(());
        }
        let State::Open(request) = std::mem::replace(&mut self.images[place].state, State::Completing) else {
            return Ok(());
        };
        let Delivery { image, after, .. } = &self.images[place].delivery;
        let what = format!("load image {}", image.reference);
        let last = archive::closing(image, self.store)
            .map_err(|error| Error::new(Kind::Blob, what.as_str(), error.to_string()))?;
        let completion = Completion {
            request,
            last,
            before: after.iter().map(|place| self.images[*place].fate.subscribe()).collect(),
            unpacking: Arc::clone(&self.unpacking),
            engine: Arc::clone(&self.engine),
            id: id(image, self.store),
            what,
        };
        let fate = self.images[place].fate.clone();
        self.runtime.spawn(async move {
            fate.send_replace(Some(completion.run().await));
        });
        Ok(())
    }
}

/// What is left to do for an image whose layers were all sent.
struct Completion {
    request: Request,
    last: Bytes,
    /// Images that it relies on.
    before: Vec<watch::Receiver<Fate>>,
    unpacking: Arc<Semaphore>,
    engine: Arc<dyn Engine>,
    id: String,
    what: String,
}

impl Completion {
    async fn run(self) -> Result<()> {
        for before in self.before {
            if let Err(error) = known_fate(before).await {
                self.request.break_off().await;
                return Err(error);
            }
        }
        let Ok(_turn) = self.unpacking.acquire().await else {
            return Err(Error::new(Kind::Engine, self.what, "it was given up"));
        };
        self.request.complete(self.last).await?;
        // The containerd store reports success and leaves an image out that it could not complete.
        match self.engine.inspect_image(&self.id).await {
            Err(error) if error.kind == Kind::NoImage => {
                let why = "the engine does not have the layers any more that it seemed to have";
                Err(Error::new(Kind::NoImage, self.what, why))
            }
            found => found.map(|_| ()),
        }
    }
}

async fn known_fate(mut fate: watch::Receiver<Fate>) -> Result<()> {
    match fate.wait_for(Option::is_some).await.map(|fate| fate.clone()) {
        Ok(Some(fate)) => fate,
        _ => Err(mismatch("it was given up")),
    }
}

fn mismatch(why: &str) -> Error {
    Error::new(Kind::Blob, "load images", why)
}
