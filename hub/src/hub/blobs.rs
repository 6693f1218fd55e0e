//! Serves documents and blobs straight out of bundle files.
//!
//! The file was verified when it was published and the host verifies what it gets, so
//! nothing is hashed here.

use super::releases::{Published, PublishedDelta, Span};
use crate::codes;
use crate::error::{Failure, Result};
use futures_util::{Stream, stream};
use kedge_bundle::digest::Digest;
use kedge_proto::tether::v1::{BlobChunk, Documents};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Bytes of blob in one message.
const CHUNK: u64 = 256 * 1024;

/// The part of which file a request from `offset` on asks for: a blob of the release, or a patch of one of its deltas.
pub fn find(
    release: &(Arc<Published>, Arc<File>),
    deltas: &[(Arc<PublishedDelta>, Arc<File>)],
    digest: &str,
    offset: u64,
) -> Result<(Arc<File>, Span)> {
    let (release, file) = release;
    let unknown = || {
        let shown: String = digest.chars().take(80).collect();
        Failure::new(
            codes::BLOB_UNKNOWN,
            format!(
                "release {} has no blob {} of more than {offset} bytes",
                release.digest,
                shown.escape_debug()
            ),
        )
    };
    let find = |digest: Digest| {
        let patch = || deltas.iter().find_map(|(delta, file)| Some((file, delta.patches.get(&digest)?)));
        release.blobs.get(&digest).map(|span| (file, span)).or_else(patch)
    };
    let (file, whole) = digest.parse::<Digest>().ok().and_then(find).ok_or_else(unknown)?;
    // An offset at the very end is an empty rest: the host had it all.
    let length = whole.length.checked_sub(offset).ok_or_else(unknown)?;
    Ok((file.clone(), Span { offset: whole.offset + offset, length }))
}

/// The chunks of a part of a file. Ends with an error if the file is shorter. Between chunks a stream holds no
/// thread, no memory and no turn, so one that its host does not read costs next to nothing.
pub fn chunks(file: Arc<File>, span: Span, reads: Arc<Semaphore>) -> impl Stream<Item = Result<BlobChunk>> {
    stream::try_unfold(span, move |Span { offset, length }| {
        let (file, reads) = (file.clone(), reads.clone());
        async move {
            if length == 0 {
                return Ok(None);
            }
            let wanted = length.min(CHUNK);
            let _turn = reads.acquire().await;
            let data = read(move || exactly(&file, Span { offset, length: wanted })).await?;
            Ok(Some((
                BlobChunk { data: data.into() },
                Span { offset: offset + wanted, length: length - wanted },
            )))
        }
    })
}

/// The signed documents of a release, and of its deltas.
pub async fn documents(
    (release, file): (Arc<Published>, Arc<File>),
    deltas: Vec<(Arc<PublishedDelta>, Arc<File>)>,
) -> Result<Documents> {
    read(move || {
        let deltas = deltas.iter().map(|(delta, file)| exactly(file, delta.document));
        let places = &release.documents;
        Ok(Documents {
            roots: places.roots.iter().map(|root| exactly(&file, *root)).collect::<std::io::Result<_>>()?,
            release: exactly(&file, places.release)?,
            oci_layout: exactly(&file, places.oci_layout)?,
            index: exactly(&file, places.index)?,
            manifest_json: exactly(&file, places.manifest)?,
            deltas: deltas.collect::<std::io::Result<_>>()?,
        })
    })
    .await
}

pub(super) fn exactly(file: &File, span: Span) -> std::io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(span.length).map_err(std::io::Error::other)?];
    file.read_exact_at(&mut bytes, span.offset)?;
    Ok(bytes)
}

/// Reads on a thread that may wait for the disk.
async fn read<T: Send + 'static>(read: impl FnOnce() -> std::io::Result<T> + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(read).await;
    let done = done.map_err(|_| Failure::new(codes::UNEXPECTED, "reading a bundle was interrupted"))?;
    done.map_err(|error| Failure::new(codes::STORE, "a bundle cannot be read").because(error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::TryStreamExt;

    async fn fetch(length: u64, span: Span) -> Result<Vec<usize>> {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&vec![7u8; usize::try_from(length).unwrap()], 0).unwrap();
        let reads = Arc::new(Semaphore::new(1));
        let chunks: Vec<BlobChunk> = chunks(Arc::new(file), span, reads).try_collect().await?;
        assert!(chunks.iter().all(|chunk| chunk.data.iter().all(|byte| *byte == 7)));
        Ok(chunks.iter().map(|chunk| chunk.data.len()).collect())
    }

    #[tokio::test]
    async fn a_blob_comes_in_chunks_of_bounded_size() {
        let whole = usize::try_from(CHUNK).unwrap();
        let cases = [(0, vec![]), (1, vec![1]), (CHUNK, vec![whole]), (2 * CHUNK + 3, vec![whole, whole, 3])];
        for (length, expected) in cases {
            assert_eq!(fetch(length + 5, Span { offset: 5, length }).await.unwrap(), expected);
        }
    }

    #[tokio::test]
    async fn a_file_that_ends_early_is_an_error_not_a_short_blob() {
        assert_eq!(fetch(10, Span { offset: 5, length: 6 }).await.unwrap_err().code, codes::STORE);
    }
}
