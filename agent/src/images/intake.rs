//! Taking a release in. One verification, two couriers: a file's bytes in one pass ([`from_file`]), or document by
//! document and blob by blob over the tether ([`from_courier`]).
//!
//! Nothing is written before all signatures hold and the disk is known to be large enough. A file that is refused
//! half-way leaves nothing behind; one that stops coming, or a line that is lost, leaves its verified blobs, and the
//! next try goes on from there.

use std::io::{self, Read};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;
use kedge_bundle::admission::{Admission, Admitted};
use kedge_bundle::codes::{Code, Coded};
use kedge_bundle::digest::Digest;
use kedge_bundle::layout::{Blob, limits};
use kedge_bundle::reader::{self, Sink};
use kedge_bundle::verify::{Context, Documents, Trust, Verified};
use tokio::sync::mpsc;

use super::{BlobWriter, Content};
use crate::codes;
use crate::host::{ByteStream, Courier};
use crate::problem::Problem;

/// What must stay free and how much of the disk is left, asked at the moment it matters.
pub trait Room: Send + Sync {
    /// Refuses when `bytes` more would leave too little.
    ///
    /// # Errors
    /// [`codes::NO_SPACE`], naming the file system.
    fn check(&self, content_bytes: u64, unpacked_bytes: u64) -> Result<(), Problem>;
}

/// Called with bytes done and bytes in all.
pub type OnBytes = Arc<dyn Fn(u64, u64) + Send + Sync>;

/// A release taken in: all blobs are here, nothing is remembered yet.
#[derive(Debug)]
pub struct Taken {
    /// What was verified, and what may be remembered.
    pub admitted: Admitted,
    /// The documents, to be kept.
    pub documents: Documents,
    /// Blobs that were not here before: to be removed if the release is not taken after all.
    pub added: Vec<Digest>,
}

/// Verifies and stores a bundle as its bytes come. Blocks: run it where blocking is allowed.
///
/// # Errors
/// The reason of the refusal; nothing is left behind.
pub fn from_file(
    source: impl Read,
    content: &Content,
    trust: &Trust,
    context: &Context<'_>,
    room: &dyn Room,
    on_bytes: &OnBytes,
) -> Result<Taken, Problem> {
    let mut store = Store { content, room, on_bytes, writer: None, added: Vec::new(), done: 0, total: 0 };
    match reader::read(source, trust, context, &mut store) {
        Ok(imported) => {
            Ok(Taken { admitted: imported.admitted, documents: imported.documents, added: store.added })
        }
        Err(error) => {
            // Bytes that stopped coming are no refusal: what came is verified, and the next try goes on from there.
            if !matches!(error, reader::Error::Read { .. }) {
                for digest in &store.added {
                    content.remove_blob(digest);
                }
            }
            Err(match error {
                reader::Error::Sink(SinkError(problem)) => problem,
                error => Problem::from_error(&error.code(), &error),
            })
        }
    }
}

struct Store<'a> {
    content: &'a Content,
    room: &'a dyn Room,
    on_bytes: &'a OnBytes,
    writer: Option<BlobWriter>,
    added: Vec<Digest>,
    done: u64,
    total: u64,
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

impl Sink for Store<'_> {
    type Error = SinkError;

    fn verified(&mut self, verified: &Verified, _: &Documents) -> Result<(), SinkError> {
        self.total = verified.release.content_bytes;
        Ok(self.room.check(verified.release.content_bytes, verified.release.unpacked_bytes)?)
    }

    fn wants(&mut self, blob: &Blob) -> bool {
        let wanted = !self.content.has(&blob.digest);
        if !wanted {
            self.done += blob.size;
        }
        wanted
    }

    fn begin(&mut self, blob: &Blob) -> Result<(), SinkError> {
        if !self.content.has(&blob.digest) {
            self.writer = Some(self.content.writer(&blob.digest, false)?);
        }
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), SinkError> {
        self.done += bytes.len() as u64;
        (self.on_bytes)(self.done, self.total);
        self.writer.as_mut().map_or(Ok(()), |writer| Ok(writer.write(bytes)?))
    }

    fn finish(&mut self, blob: &Blob) -> Result<(), SinkError> {
        if let Some(writer) = self.writer.take() {
            writer.finish()?;
            self.added.push(blob.digest);
        }
        Ok(())
    }

    fn abort(&mut self, blob: &Blob) {
        self.writer = None;
        self.content.remove_partial(&blob.digest);
    }
}

/// Fetches what is not here of a release and verifies all of it.
///
/// # Errors
/// A lost line ([`codes::TETHER_LOST`] and the like, worth another try: what was fetched stays) or a refusal.
pub async fn from_courier(
    courier: &dyn Courier,
    release: &Digest,
    content: &Content,
    trust: &Trust,
    context: &Context<'_>,
    room: &dyn Room,
    on_bytes: &OnBytes,
) -> Result<Taken, Problem> {
    let answer = courier.documents(&release.to_string()).await?;
    let documents = Documents {
        oci_layout: answer.oci_layout,
        index: answer.index,
        manifest: answer.manifest_json,
        roots: answer.roots,
        release: answer.release,
    };
    let refused = |e: kedge_bundle::admission::AdmissionError| Problem::from_error(&e.code(), &e);
    let mut admission = Admission::open(&documents, trust, context).map_err(refused)?;
    if admission.verified().digest != *release {
        let found = admission.verified().digest;
        return Err(Problem::new(&codes::PROTOCOL, format!("the hub sent release {found} for {release}")));
    }
    let signed = &admission.verified().release;
    let total = signed.content_bytes;
    room.check(signed.content_bytes, signed.unpacked_bytes)?;
    let (mut done, mut added) = (0, Vec::new());
    while let Some(blob) = admission.next_needed().cloned() {
        if content.has(&blob.digest) {
            if blob.kind.is_metadata() {
                let bytes = content.read_blob(&blob.digest, limits::METADATA)?;
                admission.accept_bytes(&blob.digest, &bytes).map_err(refused)?;
            } else {
                admission.accept_present(&blob.digest).map_err(refused)?;
            }
        } else {
            fetch(courier, release, content, &mut admission, &|n| on_bytes(done + n, total)).await?;
            added.push(blob.digest);
        }
        done += blob.size;
        on_bytes(done, total);
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
            intake.write(&buffer[..read]).map_err(refused)?;
            offset += read as u64;
        }
    }
    let verified = async {
        let mut writer = content.writer(&blob.digest, offset > 0)?;
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
    if outcome.as_ref().is_err_and(|problem| !problem.code.retry) {
        content.remove_partial(&blob.digest);
    }
    outcome
}

/// Bytes that come in a stream, for a reader that blocks.
pub struct StreamReader {
    chunks: mpsc::Receiver<Result<Bytes, Problem>>,
    current: Bytes,
}

impl StreamReader {
    /// Forwards `stream` from a task of its own, a bounded number of chunks ahead.
    pub fn new(mut stream: ByteStream) -> Self {
        let (sender, chunks) = mpsc::channel(4);
        tokio::spawn(async move {
            while let Some(chunk) = stream.next().await {
                if sender.send(chunk).await.is_err() {
                    return;
                }
            }
        });
        Self { chunks, current: Bytes::new() }
    }
}

impl Read for StreamReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.chunks.blocking_recv() {
                Some(Ok(chunk)) => self.current = chunk,
                Some(Err(problem)) => return Err(io::Error::other(problem)),
                None => return Ok(0),
            }
        }
        let count = buffer.len().min(self.current.len());
        buffer[..count].copy_from_slice(&self.current.split_to(count));
        Ok(count)
    }
}
