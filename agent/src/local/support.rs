//! The calls about support sessions.

use futures_util::{Stream, StreamExt as _, stream};
use kedge_proto::local::v1 as proto;
use tokio::io::AsyncReadExt as _;
use tonic::{Request, Response, Status};

use super::service::{Answers, Service};
use super::{Operations, peer, wire};
use crate::codes;
use crate::host::Host;
use crate::problem::Problem;
use crate::store::state_folder;
use crate::support::diagnostics::{Piece, Wish};

/// Bytes of one piece of a recording.
const PIECE: usize = 64 * 1024;

type Answer<T> = Result<Response<T>, Status>;

impl<O: Operations> Service<O> {
    #[allow(clippy::result_large_err)] // a gRPC status is what a call answers with
    fn host(&self) -> Result<Host, Status> {
        self.operations.support().ok_or_else(|| Status::unimplemented("there are no support sessions here"))
    }

    pub(super) async fn sessions(
        &self,
        request: Request<proto::SupportSessionsRequest>,
    ) -> Answer<proto::SupportSessionsReply> {
        let reply = self.host()?.support_sessions(&request.into_inner().grant_id).await;
        answer(reply)
    }

    pub(super) async fn decide(
        &self,
        request: Request<proto::SupportDecideRequest>,
    ) -> Answer<proto::SupportSession> {
        let by = peer::name(&request);
        answer(self.host()?.support_decide(&request.into_inner(), &by).await)
    }

    pub(super) async fn end(
        &self,
        request: Request<proto::SupportEndRequest>,
    ) -> Answer<proto::SupportSession> {
        let host = self.host()?;
        let ended = host.support().end(&request.into_inner().grant_id).await;
        answer(ended.map(|grant| host.support().shown(&grant, false)))
    }

    pub(super) async fn switch(
        &self,
        request: Request<proto::SupportSwitchRequest>,
    ) -> Answer<proto::SupportSessionsReply> {
        let by = peer::name(&request);
        let host = self.host()?;
        let switched = host.support().switch(request.into_inner().off, &by).await;
        switched.map_err(|problem| wire::to_status(&problem))?;
        answer(host.support_sessions("").await)
    }

    pub(super) async fn recording(
        &self,
        request: Request<proto::SupportRecordingRequest>,
    ) -> Answer<Answers<proto::SupportBytes>> {
        let proto::SupportRecordingRequest { grant_id, name } = request.into_inner();
        let path = self.host()?.support().recording(&grant_id, &name).await;
        let path = path.map_err(|problem| wire::to_status(&problem))?;
        let file =
            tokio::fs::File::open(&path).await.map_err(|e| wire::to_status(&state_folder(&path, &e)))?;
        Ok(self.until_the_end(pieces(file)))
    }

    pub(super) async fn diagnostics(
        &self,
        request: Request<proto::SupportBundleRequest>,
    ) -> Answer<Answers<proto::SupportPiece>> {
        let proto::SupportBundleRequest { skip, only } = request.into_inner();
        let made = self.host()?.support_bundle(&Wish { only, skip }).await;
        let pieces = made.map_err(|problem| wire::to_status(&problem))?;
        let shown = |piece: Piece| proto::SupportPiece {
            name: piece.name,
            text: piece.text.into_bytes(),
            black: piece
                .black
                .iter()
                .map(|(line, times)| proto::SupportBlack { line: *line, times: *times })
                .collect(),
            cut: piece.cut,
        };
        Ok(self.until_the_end(stream::iter(pieces.into_iter().map(move |piece| Ok(shown(piece))))))
    }
}

#[allow(clippy::result_large_err)] // a gRPC status is what a call answers with
fn answer<T>(result: Result<T, Problem>) -> Answer<T> {
    result.map(Response::new).map_err(|problem| wire::to_status(&problem))
}

fn pieces(file: tokio::fs::File) -> impl Stream<Item = Result<proto::SupportBytes, Status>> + Send {
    stream::unfold(Some(file), |file| async {
        let mut file = file?;
        let mut data = vec![0; PIECE];
        match file.read(&mut data).await {
            Ok(0) => None,
            Ok(read) => {
                data.truncate(read);
                Some((Ok(proto::SupportBytes { data }), Some(file)))
            }
            Err(error) => {
                let problem = Problem::from_error(&codes::STATE_FOLDER, &error).at("reading a recording");
                Some((Err(wire::to_status(&problem)), None))
            }
        }
    })
    .boxed()
}
