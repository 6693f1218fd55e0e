//! Each call of the protocol as one call of [`Operations`].

use std::pin::Pin;
use std::sync::Arc;

use futures_util::{Stream, StreamExt};
use kedge_proto::local::v1 as proto;
use kedge_proto::local::v1::import_request::Body;
use kedge_proto::local::v1::local_server::Local;
use kedge_proto::v1;
use tokio_stream::wrappers::{ReceiverStream, WatchStream};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use super::{Operations, peer, wire};
use crate::codes;
use crate::host::{Adopt, ByteStream, DeployOptions, ImportOptions, LogLine, LogOptions, Progress};
use crate::problem::Problem;

pub(super) type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The service behind the socket.
pub(super) struct Service<O> {
    pub(super) operations: O,
    ending: CancellationToken,
}

impl<O: Operations> Service<O> {
    pub(super) fn new(operations: O, ending: CancellationToken) -> Self {
        Self { operations, ending }
    }

    /// A stream that ends when the daemon does.
    pub(super) fn until_the_end<T: 'static>(
        &self,
        stream: impl Stream<Item = Result<T, Status>> + Send + 'static,
    ) -> Response<Answers<T>> {
        Response::new(Box::pin(stream.take_until(self.ending.clone().cancelled_owned())))
    }

    #[allow(clippy::result_large_err)] // a gRPC status is what a call answers with
    fn paused(
        &self,
        deployment: &str,
        said: Result<String, Problem>,
    ) -> Result<Response<proto::PauseReply>, Status> {
        let message = said.map_err(|problem| wire::to_status(&problem))?;
        let status = self.operations.status().borrow().clone();
        let deployment = status.deployments.iter().find(|d| d.name == deployment).cloned();
        Ok(Response::new(proto::PauseReply { message, deployment }))
    }

    fn follow(&self, progress: tokio::sync::mpsc::Receiver<Progress>) -> Response<Answers<proto::Progress>> {
        self.until_the_end(ReceiverStream::new(progress).map(|step| Ok(wire::progress(step))))
    }
}

#[tonic::async_trait]
impl<O: Operations> Local for Service<O> {
    type WatchStream = Answers<v1::HostStatus>;
    type ImportStream = Answers<proto::Progress>;
    type DeployStream = Answers<proto::Progress>;
    type RemoveStream = Answers<proto::Progress>;
    type LogsStream = Answers<proto::LogChunk>;
    type SupportRecordingStream = Answers<proto::SupportBytes>;
    type SupportBundleStream = Answers<proto::SupportPiece>;

    async fn status(
        &self,
        request: Request<proto::StatusRequest>,
    ) -> Result<Response<v1::HostStatus>, Status> {
        let status = self.operations.status().borrow().clone();
        narrow(&status, &request.into_inner().deployment).map(Response::new)
    }

    async fn watch(
        &self,
        request: Request<proto::StatusRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let name = request.into_inner().deployment;
        let now = self.operations.status();
        // Named wrongly is said at once; gone later ends the stream with the same words.
        narrow(&now.borrow(), &name)?;
        Ok(self.until_the_end(WatchStream::new(now).map(move |status| narrow(&status, &name))))
    }

    async fn import(
        &self,
        request: Request<Streaming<proto::ImportRequest>>,
    ) -> Result<Response<Self::ImportStream>, Status> {
        let by = peer::name(&request);
        let mut frames = request.into_inner();
        let Some(proto::ImportRequest { body: Some(Body::Options(options)) }) = frames.message().await?
        else {
            return Err(Status::invalid_argument("the first message of an import holds its options"));
        };
        let options = ImportOptions {
            deployment: given(options.deployment),
            parameters: options.parameters.into_iter().collect(),
            root_sha256: given(options.root_sha256),
            dry_run: options.dry_run,
            stage_only: options.stage_only,
            request_id: options.request_id,
            adopt: given(options.adopt).map(|project| Adopt {
                project,
                agreed: options.agreed,
                leave_binds: options.leave_binds,
                by,
            }),
        };
        let bytes: ByteStream = Box::pin(frames.map(|frame| match frame {
            Ok(proto::ImportRequest { body: Some(Body::Data(data)) }) => Ok(data),
            Ok(_) => Err(Problem::new(&codes::PROTOCOL, "a message of the import holds no data")),
            Err(status) => {
                let message = format!("the upload ended early: {}", status.message());
                Err(Problem::new(&codes::UNREADABLE, message))
            }
        }));
        Ok(self.follow(self.operations.import(options, bytes).await))
    }

    async fn deploy(
        &self,
        request: Request<proto::DeployRequest>,
    ) -> Result<Response<Self::DeployStream>, Status> {
        let request = request.into_inner();
        let options = DeployOptions {
            product: request.product,
            stream: given(request.stream),
            deployment: given(request.deployment),
            parameters: request.parameters.into_iter().collect(),
            dry_run: request.dry_run,
            request_id: request.request_id,
        };
        Ok(self.follow(self.operations.deploy(options).await))
    }

    async fn remove(
        &self,
        request: Request<proto::RemoveRequest>,
    ) -> Result<Response<Self::RemoveStream>, Status> {
        let request = request.into_inner();
        let progress =
            self.operations.remove(&request.deployment, request.remove_volumes, &request.request_id).await;
        Ok(self.follow(progress))
    }

    async fn diff(&self, request: Request<proto::DiffRequest>) -> Result<Response<proto::Diff>, Status> {
        let diff = self.operations.diff(&request.into_inner().deployment).await;
        diff.map(Response::new).map_err(|problem| wire::to_status(&problem))
    }

    async fn pause(
        &self,
        request: Request<proto::PauseRequest>,
    ) -> Result<Response<proto::PauseReply>, Status> {
        let by = peer::name(&request);
        let proto::PauseRequest { deployment, reason } = request.into_inner();
        self.paused(&deployment, self.operations.pause(&deployment, &by, &reason).await)
    }

    async fn install_licence(
        &self,
        request: Request<proto::InstallLicenceRequest>,
    ) -> Result<Response<proto::Licence>, Status> {
        let installed = self.operations.install_licence(&request.into_inner().file).await;
        installed.map(Response::new).map_err(|problem| wire::to_status(&problem))
    }

    async fn licences(
        &self,
        request: Request<proto::LicencesRequest>,
    ) -> Result<Response<proto::LicencesReply>, Status> {
        let product = request.into_inner().product;
        let mut licences = self.operations.licences().await.map_err(|problem| wire::to_status(&problem))?;
        licences.retain(|licence| product.is_empty() || licence.product == product);
        if licences.is_empty() && !product.is_empty() {
            let problem = Problem::new(&codes::NO_LICENCE, format!("there is no licence for `{product}`"));
            return Err(wire::to_status(&problem));
        }
        Ok(Response::new(proto::LicencesReply { licences }))
    }

    async fn inventory(
        &self,
        request: Request<proto::InventoryRequest>,
    ) -> Result<Response<proto::Inventory>, Status> {
        let deployment = given(request.into_inner().deployment);
        let inventory = self.operations.inventory(deployment.as_deref()).await;
        inventory.map(Response::new).map_err(|problem| wire::to_status(&problem))
    }

    async fn resume(
        &self,
        request: Request<proto::ResumeRequest>,
    ) -> Result<Response<proto::PauseReply>, Status> {
        let by = peer::name(&request);
        let deployment = request.into_inner().deployment;
        self.paused(&deployment, self.operations.resume(&deployment, &by).await)
    }

    async fn export(
        &self,
        request: Request<proto::ExportRequest>,
    ) -> Result<Response<proto::ExportReply>, Status> {
        let by = peer::name(&request);
        let proto::ExportRequest { deployment, secrets } = request.into_inner();
        let exported = self.operations.export(&deployment, secrets, &by).await;
        exported.map(Response::new).map_err(|problem| wire::to_status(&problem))
    }

    async fn support_sessions(
        &self,
        request: Request<proto::SupportSessionsRequest>,
    ) -> Result<Response<proto::SupportSessionsReply>, Status> {
        self.sessions(request).await
    }

    async fn support_decide(
        &self,
        request: Request<proto::SupportDecideRequest>,
    ) -> Result<Response<proto::SupportSession>, Status> {
        self.decide(request).await
    }

    async fn support_end(
        &self,
        request: Request<proto::SupportEndRequest>,
    ) -> Result<Response<proto::SupportSession>, Status> {
        self.end(request).await
    }

    async fn support_switch(
        &self,
        request: Request<proto::SupportSwitchRequest>,
    ) -> Result<Response<proto::SupportSessionsReply>, Status> {
        self.switch(request).await
    }

    async fn support_recording(
        &self,
        request: Request<proto::SupportRecordingRequest>,
    ) -> Result<Response<Self::SupportRecordingStream>, Status> {
        self.recording(request).await
    }

    async fn support_bundle(
        &self,
        request: Request<proto::SupportBundleRequest>,
    ) -> Result<Response<Self::SupportBundleStream>, Status> {
        self.diagnostics(request).await
    }

    async fn collect_garbage(
        &self,
        request: Request<proto::GarbageRequest>,
    ) -> Result<Response<proto::Garbage>, Status> {
        let by = peer::name(&request);
        let collected = self.operations.collect_garbage(request.into_inner().dry_run, &by).await;
        collected.map(Response::new).map_err(|problem| wire::to_status(&problem))
    }

    async fn logs(&self, request: Request<proto::LogsRequest>) -> Result<Response<Self::LogsStream>, Status> {
        let request = request.into_inner();
        let timestamps = request.timestamps;
        let options = LogOptions {
            deployment: request.deployment,
            services: request.services,
            follow: request.follow,
            tail: u64::try_from(request.tail).ok(),
            since: given(request.since),
        };
        let lines = self.operations.logs(options).await.map_err(|problem| wire::to_status(&problem))?;
        Ok(self.until_the_end(ReceiverStream::new(lines).map(move |line| {
            line.map(|line| log_chunk(line, timestamps)).map_err(|problem| wire::to_status(&problem))
        })))
    }

    async fn enroll(
        &self,
        request: Request<proto::EnrollRequest>,
    ) -> Result<Response<proto::EnrollReply>, Status> {
        let proto::EnrollRequest { hub, token, root_sha256 } = request.into_inner();
        let token = zeroize::Zeroizing::new(token);
        let reply = self.operations.enroll(&hub, &token, &root_sha256).await;
        reply.map(Response::new).map_err(|problem| wire::to_status(&problem))
    }
}

/// An empty field is one that was not given.
fn given(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

fn log_chunk(line: LogLine, timestamps: bool) -> proto::LogChunk {
    proto::LogChunk {
        service: line.service,
        number: line.number,
        stderr: line.stderr,
        line: line.line.into(),
        at: if timestamps { line.at } else { String::new() },
    }
}

/// The status of one deployment, or of all where none is named.
#[allow(clippy::result_large_err)] // a gRPC status is what a call answers with
fn narrow(status: &Arc<v1::HostStatus>, deployment: &str) -> Result<v1::HostStatus, Status> {
    let mut status = v1::HostStatus::clone(status);
    if !deployment.is_empty() {
        status.deployments.retain(|d| d.name == deployment);
        if status.deployments.is_empty() {
            let problem =
                Problem::new(&codes::NO_DEPLOYMENT, format!("there is no deployment `{deployment}`"));
            return Err(wire::to_status(&problem));
        }
    }
    Ok(status)
}
