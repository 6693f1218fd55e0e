//! The way to the hub's administration socket.

use crate::codes;
use crate::error::{Failure, Result};
use crate::hub::serve::admin_socket;
use clap::Args;
use hyper_util::rt::TokioIo;
use kedge_proto::hub::v1::hub_client::HubClient;
use std::path::PathBuf;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};

/// Largest answer, in bytes: a fleet of ten thousand hosts in one piece.
const MAX_ANSWER: usize = 512 << 20;

/// Which hub.
#[derive(Debug, Clone, Args)]
pub(crate) struct Data {
    /// The hub's data folder
    #[arg(long, value_name = "DIR", env = "KEDGE_HUB_DATA", default_value = "/var/lib/kedge-hub")]
    pub(crate) data: PathBuf,
}

impl Data {
    /// Connects to the hub that serves this folder.
    pub(crate) async fn connect(&self) -> Result<HubClient<Channel>> {
        let socket = admin_socket(&self.data);
        let shown = socket.display().to_string();
        // The name is not used: the connector knows where to go.
        let endpoint = Endpoint::from_static("http://hub.sock");
        let connector = tower::service_fn(move |_| {
            let socket = socket.clone();
            async move { UnixStream::connect(socket).await.map(TokioIo::new) }
        });
        let channel = endpoint.connect_with_connector(connector).await;
        let channel = channel.map_err(|error| {
            Failure::new(codes::UNREACHABLE, format!("no hub answers on {shown}")).because(error)
        })?;
        Ok(HubClient::new(channel).max_decoding_message_size(MAX_ANSWER))
    }
}
