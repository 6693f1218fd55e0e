//! Feeding images from the content store: what came over the tether, or while the engine was away.
//!
//! A blob's bytes are compared with its name once more while they are sent: the disk may have changed them since. A damaged
//! one is let go of, so that it is fetched again, and the engine takes nothing that was made of it.

use std::io::{self, Read};

use bytes::Bytes;
use kedge_bundle::digest::Digest;
use kedge_bundle::layout::{Compression, Image, Layer};
use sha2::{Digest as _, Sha256};

use super::loading::{Loading, Way};
use super::plan::Known;
use super::{Blobs, Progress};
use crate::engine::error::{Error, Kind, Result};

/// Bytes of one piece.
const PIECE: usize = 256 << 10;

/// Sends these images from their blobs. Blocks.
pub(super) fn feed(
    way: Way,
    images: Vec<Image>,
    known: &Known,
    plain_only: bool,
    progress: &Progress,
) -> Result<()> {
    let blobs = way.blobs.clone();
    let mut loading = Loading::begin(way, images, known)?;
    let needed = loading.needed();
    let total = needed.iter().map(|layer| layer.size).sum();
    let mut done = 0;
    for layer in needed {
        let mut on_bytes = |more: u64| {
            done += more;
            progress(done, total);
        };
        if let Err(error) = feed_one(&mut loading, &layer, plain_only, blobs.as_ref(), &mut on_bytes) {
            loading.break_off();
            return Err(error);
        }
    }
    loading.finish().map(|_| ()).map_err(|(error, _)| error)
}

fn feed_one(
    loading: &mut Loading,
    layer: &Layer,
    plain_only: bool,
    blobs: &dyn Blobs,
    on_bytes: &mut dyn FnMut(u64),
) -> Result<()> {
    let failed =
        |error: io::Error| Error::new(Kind::Blob, "load images", format!("layer {}: {error}", layer.digest));
    let mut stored = Checked::new(blobs.open(&layer.digest).map_err(failed)?);
    if plain_only && layer.compression == Compression::Zstd {
        // The size stands before the content in an archive, so unpacking is done twice: once to count.
        let count = || io::copy(&mut zstd::Decoder::new(blobs.open(&layer.digest)?)?, &mut io::sink());
        let size = count().map_err(failed)?;
        loading.layer(&layer.digest, size)?;
        let mut plain = zstd::Decoder::new(&mut stored).map_err(failed)?;
        pump(loading, &mut plain, size, &mut |_| {}).map_err(|stop| stop.into_error(&failed))?;
        on_bytes(layer.size);
    } else {
        loading.layer(&layer.digest, layer.size)?;
        pump(loading, &mut stored, layer.size, on_bytes).map_err(|stop| stop.into_error(&failed))?;
    }
    if stored.finish().map_err(failed)? != layer.digest {
        blobs.forget(&layer.digest);
        return Err(failed(io::Error::other("what is stored under this name is something else")));
    }
    loading.end(&layer.digest)
}

/// Why bytes stopped flowing: at their source or at the engine.
enum Stop {
    Source(io::Error),
    Engine(Error),
}

impl Stop {
    fn into_error(self, failed: &dyn Fn(io::Error) -> Error) -> Error {
        match self {
            Self::Source(error) => failed(error),
            Self::Engine(error) => error,
        }
    }
}

fn pump(
    loading: &mut Loading,
    source: &mut dyn Read,
    size: u64,
    on_bytes: &mut dyn FnMut(u64),
) -> std::result::Result<(), Stop> {
    let mut left = size;
    while left > 0 {
        let mut piece = vec![0; PIECE.min(usize::try_from(left).unwrap_or(PIECE))];
        let read = source.read(&mut piece).map_err(Stop::Source)?;
        if read == 0 {
            return Err(Stop::Source(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "it is shorter than it was",
            )));
        }
        piece.truncate(read);
        left -= read as u64;
        on_bytes(read as u64);
        loading.bytes(Bytes::from(piece)).map_err(Stop::Engine)?;
    }
    Ok(())
}

/// A reader that knows the digest of what it read.
struct Checked<R> {
    source: R,
    hash: Sha256,
}

impl<R: Read> Checked<R> {
    fn new(source: R) -> Self {
        Self { source, hash: Sha256::new() }
    }

    /// Reads what is left.
    fn finish(mut self) -> io::Result<Digest> {
        io::copy(&mut self, &mut io::sink())?;
        Ok(Digest::from_bytes(self.hash.finalize().into()))
    }
}

impl<R: Read> Read for Checked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.source.read(buffer)?;
        self.hash.update(&buffer[..read]);
        Ok(read)
    }
}
