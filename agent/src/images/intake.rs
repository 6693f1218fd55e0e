//! Taking a release in. One verification, two couriers: a file's bytes in one pass ([`from_file`]), or document by
//! document and blob by blob over the tether ([`from_courier`]).
//!
//! Nothing is written before all signatures hold and the disk is known to be large enough. The layers of a file go straight
//! into the engine while they are verified, each image in a request of its own that is completed once all of it was right
//! ([`load`]); where that cannot be, and always over the tether, they go into the content store. Before the first layer the caller is
//! asked whether it takes the release ([`Decide`]): the engine sees nothing of one that is refused there.
//!
//! What a thin bundle leaves out must be here before anything is written, and its layers are made when all of it is verified;
//! over the tether, whatever this host has of a release or can make of deltas does not travel ([`super::delta`]).
//!
//! A file that is refused half-way leaves nothing behind; one that stops coming, or a line that is lost, leaves what was
//! whole, blobs and images, and the next try goes on from there.

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;
use kedge_bundle::admission::{Admission, Admitted};
use kedge_bundle::codes::{Code, Coded};
use kedge_bundle::digest::Digest;
use kedge_bundle::layout::{Blob, Content as Listing, Kind, limits};
use kedge_bundle::reader::{self, Sink};
use kedge_bundle::verify::{Context, Documents, Trust, Verified};
use tokio::runtime::Handle;

use super::delta::Bases;
use super::delta::tether::{FromBases, deltas};
use super::room::share;
use super::{BlobWriter, Content, load};
use crate::codes;
use crate::engine::{self, Engine};
use crate::host::Courier;
use crate::problem::Problem;

/// What must stay free and how much of the disk is left, asked at the moment it matters.
pub trait Room: Send + Sync {
    /// Refuses what would not even fit if nothing else were on the disks: asked first, of all that is signed, while nobody
    /// knows yet how much of it is missing.
    ///
    /// # Errors
    /// [`codes::NO_SPACE`], naming the file system.
    fn could_hold(&self, content_bytes: u64, unpacked_bytes: u64) -> Result<(), Problem>;

    /// Refuses when so many bytes more would leave too little: asked of what is missing.
    ///
    /// # Errors
    /// [`codes::NO_SPACE`], naming the file system.
    fn check(&self, content_bytes: u64, unpacked_bytes: u64) -> Result<(), Problem>;
}

/// Called with bytes done and bytes in all.
pub type OnBytes = Arc<dyn Fn(u64, u64) + Send + Sync>;

/// A release taken in: everything of it is here, nothing is remembered yet.
#[derive(Debug)]
pub struct Taken {
    /// What was verified, and what may be remembered.
    pub admitted: Admitted,
    /// The documents, to be kept.
    pub documents: Documents,
    /// What was not here before.
    pub added: Added,
}

/// What an intake has brought here: to be removed if the release is not taken after all.
#[derive(Debug, Default)]
pub struct Added {
    /// Blobs, in the content store.
    pub blobs: Vec<Digest>,
    /// Images, in the engine, by the names that we gave them.
    pub images: Vec<String>,
}

impl Added {
    /// Removes it, as far as the engine lets go of it: what somebody has begun to use stays.
    pub async fn forget(&self, content: &Content, engine: &dyn Engine) {
        for digest in &self.blobs {
            content.remove_blob(digest);
        }
        for name in &self.images {
            if let Err(error) = engine.remove_image(name).await {
                tracing::warn!(name, %error, "an image of a release that was not taken stays in the engine");
            }
        }
    }
}

/// Where the layers of a release go.
pub enum Layers {
    /// Nowhere: they are verified only.
    Verify,
    /// Into the content store.
    Store,
    /// Into the engine while they are verified.
    Engine(load::Streamed),
}

/// Asked once, when all of a bundle but its layers is here and verified: is the release wanted, and where do its layers go?
pub type Decide<'a> = &'a mut dyn FnMut(&Verified, &Listing) -> Result<Layers, Problem>;

/// A bundle that was not taken.
#[derive(Debug)]
pub struct Refused {
    /// Why.
    pub problem: Problem,
    /// What it brought here before that was known. Where the bytes only stopped coming, what came is verified, the next try
    /// goes on from there, and there is nothing in here.
    pub added: Added,
}

/// Verifies a bundle as its bytes come, and stores it, or gives it to the engine, meanwhile. Blocks: run it where blocking is
/// allowed.
///
/// # Errors
/// The reason of the refusal, and what the caller has to let go of.
pub fn from_file(
    source: impl Read,
    bases: &Bases,
    trust: &Trust,
    context: &Context<'_>,
    room: &dyn Room,
    decide: Decide<'_>,
    on_bytes: &OnBytes,
) -> Result<Taken, Box<Refused>> {
    let content = &bases.content;
    let mut store = Store {
        content,
        bases,
        room,
        decide,
        on_bytes,
        layers: Layers::Verify,
        writer: None,
        added: Vec::new(),
        done: 0,
        total: 0,
    };
    let read = reader::read(source, trust, context, &mut store);
    let (mut blobs, layers) = (store.added, store.layers);
    let makes = !matches!(layers, Layers::Verify);
    let loaded = match (layers, &read) {
        (Layers::Engine(streamed), Ok(_)) => streamed.loading.finish(),
        (Layers::Engine(streamed), Err(_)) => Ok(streamed.loading.break_off()),
        _ => Ok(Vec::new()),
    };
    let (problem, images) = match (read, loaded) {
        (Ok(imported), Ok(images)) => {
            let Admitted { verified, content: listing } = &imported.admitted;
            let made = match &verified.delta {
                Some(delta) if makes => Handle::current().block_on(bases.make(delta, &listing.images)),
                _ => Ok(Vec::new()),
            };
            match made {
                Ok(made) => {
                    blobs.extend(made);
                    let added = Added { blobs, images };
                    return Ok(Taken { admitted: imported.admitted, documents: imported.documents, added });
                }
                Err(problem) => (problem, images),
            }
        }
        (Ok(_), Err((error, images))) => (SinkError::from(error).0, images),
        (Err(error), loaded) => {
            let images = loaded.unwrap_or_else(|(_, images)| images);
            // Bytes that stopped coming are no refusal.
            if matches!(error, reader::Error::Read { .. }) {
                let problem = Problem::from_error(&error.code(), &error);
                return Err(Box::new(Refused { problem, added: Added::default() }));
            }
            let problem = match error {
                reader::Error::Sink(SinkError(problem)) => problem,
                error => Problem::from_error(&error.code(), &error),
            };
            (problem, images)
        }
    };
    // Nor is an engine that went away.
    let is_engine_away = [engine::codes::UNREACHABLE, engine::codes::TIMEOUT].contains(&problem.code);
    let added = if is_engine_away { Added::default() } else { Added { blobs, images } };
    Err(Box::new(Refused { problem, added }))
}

struct Store<'a> {
    content: &'a Content,
    bases: &'a Bases,
    room: &'a dyn Room,
    decide: Decide<'a>,
    on_bytes: &'a OnBytes,
    layers: Layers,
    writer: Option<BlobWriter>,
    added: Vec<Digest>,
    done: u64,
    total: u64,
}

impl Store<'_> {
    fn is_stored(&self, blob: &Blob) -> bool {
        match &self.layers {
            _ if !is_layer(blob) => true,
            Layers::Verify => false,
            Layers::Store => true,
            Layers::Engine(streamed) => streamed.to_store.contains(&blob.digest),
        }
    }

    fn is_loaded(&self, blob: &Blob) -> bool {
        blob.kind == Kind::Layer
            && matches!(&self.layers, Layers::Engine(streamed) if streamed.loading.needs(&blob.digest))
    }

    fn holds(&self, blob: &Blob) -> bool {
        match blob.kind {
            Kind::Layer | Kind::Patch => self.content.holds(&blob.digest, blob.size),
            _ => self.content.holds_whole(&blob.digest, blob.size),
        }
    }
}

/// A layer, or what comes in the place of one.
fn is_layer(blob: &Blob) -> bool {
    matches!(blob.kind, Kind::Layer | Kind::Patch)
}

/// A [`Problem`] as the reader passes it through.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
struct SinkError(#[from] Problem);

impl Coded for SinkError {
    fn code(&self) -> Code {
        self.0.code
    }
}

impl From<crate::engine::Error> for SinkError {
    fn from(error: crate::engine::Error) -> Self {
        Self(Problem::from_error(error.code(), &error))
    }
}

impl Sink for Store<'_> {
    type Error = SinkError;

    fn takes_deltas(&self) -> bool {
        true
    }

    fn verified(&mut self, verified: &Verified, _: &Documents) -> Result<(), SinkError> {
        self.total = verified.release.content_bytes;
        if let Some(delta) = &verified.delta {
            Handle::current().block_on(self.bases.preflight(delta))?;
        }
        // How much of it is missing shows once everything is listed, and of what was here before that may be nothing.
        if self.content.has_release(&verified.digest) {
            return Ok(());
        }
        Ok(self.room.could_hold(self.total, verified.release.unpacked_bytes)?)
    }

    fn listed(&mut self, verified: &Verified, listing: &Listing) -> Result<(), SinkError> {
        self.layers = (self.decide)(verified, listing)?;
        let layers: BTreeMap<Digest, u64> =
            listing.images.iter().flat_map(|image| image.layers.iter().map(|l| (l.digest, l.size))).collect();
        let all = layers.values().sum();
        let unpacked = |some| share(verified.release.unpacked_bytes, some, all);
        let (stored, in_engine) = match (&self.layers, &verified.delta) {
            (Layers::Verify, _) => (0, 0),
            (Layers::Store, Some(delta)) => {
                let needs = Handle::current().block_on(self.bases.needs(delta, &listing.images))?;
                (needs.stored, unpacked(needs.loaded))
            }
            (Layers::Store, None) => {
                let missing = layers.iter().filter(|(digest, size)| !self.content.holds(digest, **size));
                let stored = missing.map(|(_, size)| size).sum();
                // What was stored before had to have its room in the engine then.
                (stored, unpacked(stored))
            }
            (Layers::Engine(streamed), _) => {
                let stored = streamed.to_store.iter().filter_map(|digest| layers.get(digest)).sum::<u64>();
                // The engine keeps what it is sent until it has unpacked it.
                let sent = streamed.loading.needed().iter().map(|layer| layer.size).sum::<u64>();
                (stored, unpacked(stored.saturating_add(sent)).saturating_add(sent))
            }
        };
        Ok(self.room.check(stored, in_engine)?)
    }

    fn wants(&mut self, blob: &Blob) -> bool {
        let is_only_verified = is_layer(blob) && matches!(self.layers, Layers::Verify);
        let wanted = is_only_verified || self.is_loaded(blob) || (self.is_stored(blob) && !self.holds(blob));
        if !wanted {
            self.done += blob.size;
            (self.on_bytes)(self.done, self.total);
        }
        wanted
    }

    fn begin(&mut self, blob: &Blob) -> Result<(), SinkError> {
        if self.is_stored(blob) && !self.holds(blob) {
            self.writer = Some(self.content.writer(&blob.digest, false)?);
        }
        match &mut self.layers {
            Layers::Engine(streamed) if streamed.loading.needs(&blob.digest) => {
                Ok(streamed.loading.layer(&blob.digest, blob.size)?)
            }
            _ => Ok(()),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), SinkError> {
        self.done += bytes.len() as u64;
        (self.on_bytes)(self.done, self.total);
        if let Some(writer) = &mut self.writer {
            writer.write(bytes)?;
        }
        match &mut self.layers {
            Layers::Engine(streamed) if streamed.loading.is_hungry() => {
                Ok(streamed.loading.bytes(Bytes::copy_from_slice(bytes))?)
            }
            _ => Ok(()),
        }
    }

    fn finish(&mut self, blob: &Blob) -> Result<(), SinkError> {
        if let Some(writer) = self.writer.take() {
            writer.finish()?;
            self.added.push(blob.digest);
        }
        match &mut self.layers {
            Layers::Engine(streamed) => Ok(streamed.loading.end(&blob.digest)?),
            _ => Ok(()),
        }
    }

    fn abort(&mut self, blob: &Blob) {
        if self.writer.take().is_some() {
            self.content.remove_partial(&blob.digest);
        }
    }
}

/// Fetches what is not here of a release and verifies all of it.
///
/// # Errors
/// A lost line ([`codes::TETHER_LOST`] and the like, worth another try: what was fetched stays) or a refusal.
pub async fn from_courier(
    courier: &dyn Courier,
    release: &Digest,
    bases: &Bases,
    trust: &Trust,
    context: &Context<'_>,
    room: &dyn Room,
    on_bytes: &OnBytes,
) -> Result<Taken, Problem> {
    let content = &bases.content;
    let answer = courier.documents(&release.to_string()).await?;
    let documents = Documents {
        oci_layout: answer.oci_layout,
        index: answer.index,
        manifest: answer.manifest_json,
        roots: answer.roots,
        release: answer.release,
        delta: None,
    };
    let refused = |e: kedge_bundle::admission::AdmissionError| Problem::from_error(&e.code(), &e);
    let mut admission = Admission::open(&documents, trust, context).map_err(refused)?;
    if admission.verified().digest != *release {
        let found = admission.verified().digest;
        return Err(Problem::new(&codes::PROTOCOL, format!("the hub sent release {found} for {release}")));
    }
    let signed = &admission.verified().release;
    let total = signed.content_bytes;
    let unpacked = signed.unpacked_bytes;
    room.could_hold(total, unpacked)?;
    let deltas = deltas(admission.verified(), &answer.deltas);
    let (mut done, mut added) = (0, Added::default());
    let mut layers: Option<FromBases> = None;
    while let Some(blob) = admission.next_needed().cloned() {
        if blob.kind == Kind::Layer {
            let from_bases = match &mut layers {
                Some(layers) => layers,
                none => {
                    let images = admission.listing().map_err(refused)?.map(|listing| listing.images);
                    let mut found = FromBases::plan(bases, &deltas, &images.unwrap_or_default()).await;
                    room.check(found.needs.stored, share(unpacked, found.needs.loaded, found.needs.all))?;
                    added.blobs.extend(found.bring(bases).await?);
                    none.insert(found)
                }
            };
            if let Some(made) = from_bases.have(courier, release, bases, &blob).await? {
                added.blobs.extend(made);
                admission.accept_present(&blob.digest).map_err(refused)?;
                done += blob.size;
                on_bytes(done, total);
                continue;
            }
        }
        let is_here = match blob.kind {
            // Its digest is compared when it is given to the engine.
            Kind::Layer => content.holds(&blob.digest, blob.size),
            _ => content.holds_whole(&blob.digest, blob.size),
        };
        if is_here && blob.kind.is_metadata() {
            let bytes = content.read_blob(&blob.digest, limits::METADATA)?;
            admission.accept_bytes(&blob.digest, &bytes).map_err(refused)?;
        } else if is_here {
            admission.accept_present(&blob.digest).map_err(refused)?;
        } else {
            fetch(courier, release, content, &mut admission, &|n| on_bytes(done + n, total)).await?;
            added.blobs.push(blob.digest);
        }
        done += blob.size;
        on_bytes(done, total);
    }
    if let Some(layers) = layers {
        layers.tidy(content);
    }
    let admitted = admission.finish().map_err(refused)?;
    Ok(Taken { admitted, documents, added })
}

/// Fetches the next blob, going on where an earlier try ended.
async fn fetch(
    courier: &dyn Courier,
    release: &Digest,
    content: &Content,
    admission: &mut Admission,
    on_bytes: &(dyn Fn(u64) + Send + Sync),
) -> Result<(), Problem> {
    let refused = |e: kedge_bundle::admission::AdmissionError| Problem::from_error(&e.code(), &e);
    let Some(mut intake) = admission.begin().map_err(refused)? else { return Ok(()) };
    let blob = intake.blob().clone();
    let mut offset = 0;
    if let Some((mut file, size)) = content.partial(&blob.digest) {
        let mut buffer = vec![0; 128 << 10];
        while size <= blob.size && offset < size {
            let read = file.read(&mut buffer).map_err(|e| crate::store::state_folder(content.root(), &e))?;
            if read == 0 {
                break;
            }
            if intake.write(&buffer[..read]).is_err() {
                content.remove_partial(&blob.digest);
                return Err(leftover(&blob.digest));
            }
            offset += read as u64;
        }
    }
    let is_resumed = offset > 0;
    let verified = async {
        let mut writer = content.writer(&blob.digest, is_resumed)?;
        if offset < blob.size {
            let mut stream = courier.blob(&release.to_string(), &blob.digest.to_string(), offset).await?;
            while let Some(bytes) = stream.next().await {
                let bytes = bytes?;
                intake.write(&bytes).map_err(refused)?;
                writer.write(&bytes)?;
                offset += bytes.len() as u64;
                on_bytes(offset);
            }
            if offset < blob.size {
                let missing = blob.size - offset;
                return Err(Problem::new(
                    &codes::TETHER_LOST,
                    format!("{}: {missing} bytes did not come", blob.digest),
                ));
            }
        }
        admission.accept(intake).map_err(refused)?;
        writer.finish()
    };
    let outcome = verified.await;
    // Bytes of which the blob cannot be made are not worth keeping; those of a line that was cut are.
    match outcome {
        Err(problem) if !problem.code.retry => {
            content.remove_partial(&blob.digest);
            // Whether the hub or the disk lies shows when all of it comes from the hub.
            Err(if is_resumed { leftover(&blob.digest) } else { problem })
        }
        outcome => outcome,
    }
}

/// What was here of a blob is thrown away.
pub(super) fn leftover(digest: &Digest) -> Problem {
    let message =
        format!("{digest}: what an interrupted fetch had left is not its beginning; it is fetched anew");
    Problem::new(&codes::LEFTOVER, message)
}
