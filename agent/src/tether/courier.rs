//! Fetches documents and blobs over the tether's connection, for deployments.
//!
//! Nothing that arrives here is believed: whoever asked verifies it. Sizes and silences are bounded.

use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use kedge_proto::tether::v1::tether_client::TetherClient;
use kedge_proto::tether::v1::{Documents, FetchBlobRequest, FetchDocumentsRequest};
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::answer::said;
use crate::codes;
use crate::host::{ByteStream, Courier};
use crate::problem::Problem;

/// Largest message with the documents of a release, bytes.
const MAX_DOCUMENTS: usize = 16 * 1024 * 1024;
/// Largest chunk of a blob with its frame, bytes; the protocol says 256 KiB.
const MAX_CHUNK: usize = 256 * 1024 + 1024;
/// The hub's longest silence in the middle of a fetch. A dead connection is noticed sooner, by its pings.
const SILENCE: Duration = Duration::from_secs(60);

/// A [`Courier`] on one connection. When that is lost its calls fail with [`codes::TETHER_LOST`].
#[derive(Debug, Clone)]
pub(super) struct OnChannel {
    channel: Channel,
}

impl OnChannel {
    pub(super) fn new(channel: Channel) -> Self {
        Self { channel }
    }
}

#[tonic::async_trait]
impl Courier for OnChannel {
    async fn documents(&self, release: &str) -> Result<Documents, Problem> {
        let mut client = TetherClient::new(self.channel.clone()).max_decoding_message_size(MAX_DOCUMENTS);
        let request = FetchDocumentsRequest { release_digest: release.to_owned() };
        let place = format!("documents of {release}");
        let answer = within(&place, client.fetch_documents(request)).await?;
        Ok(answer.into_inner())
    }

    async fn blob(&self, release: &str, digest: &str, offset: u64) -> Result<ByteStream, Problem> {
        let mut client = TetherClient::new(self.channel.clone()).max_decoding_message_size(MAX_CHUNK);
        let request =
            FetchBlobRequest { release_digest: release.to_owned(), digest: digest.to_owned(), offset };
        let place = format!("blob {digest}");
        let chunks = within(&place, client.fetch_blob(request)).await?.into_inner();
        // After an error the stream is over: nothing can follow a gap.
        Ok(Box::pin(stream::unfold(Some((chunks, place)), |state| async move {
            let (mut chunks, place) = state?;
            match within(&place, chunks.message()).await {
                Ok(Some(chunk)) => Some((Ok::<Bytes, _>(chunk.data), Some((chunks, place)))),
                Ok(None) => None,
                Err(problem) => Some((Err(problem), None)),
            }
        })))
    }
}

async fn within<T>(place: &str, call: impl Future<Output = Result<T, Status>>) -> Result<T, Problem> {
    match tokio::time::timeout(SILENCE, call).await {
        Ok(answer) => answer.map_err(|status| problem_of(&status).at(place)),
        Err(_) => {
            let message = format!("{place}: the hub said nothing for {} s", SILENCE.as_secs());
            Err(Problem::new(&codes::TETHER_LOST, message))
        }
    }
}

fn problem_of(status: &Status) -> Problem {
    match status.code() {
        Code::NotFound | Code::PermissionDenied => Problem::new(&codes::NOT_OFFERED, said(status)),
        Code::InvalidArgument | Code::OutOfRange | Code::Unimplemented => {
            Problem::new(&codes::PROTOCOL, said(status))
        }
        _ => Problem::new(&codes::TETHER_LOST, said(status)),
    }
}
