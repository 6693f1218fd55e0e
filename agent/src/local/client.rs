//! The command line's end of the socket.

use std::io::ErrorKind;
use std::path::Path;

use kedge_proto::local::v1::local_client::LocalClient;
use tokio::net::UnixStream;
use tonic::transport::Channel;

use crate::channel;
use crate::codes;
use crate::problem::Problem;

/// Largest message accepted from the daemon, bytes: the status of a host with very many services.
const MAX_MESSAGE: usize = 16 * 1024 * 1024;

/// Connects to the daemon that listens on `socket`, and waits until it has said its first word. Where the service manager
/// holds the socket that may be long after the stream is there.
///
/// # Errors
/// [`codes::PERMISSION`] when this user may not, [`codes::DAEMON_UNREACHABLE`] when nobody listens.
pub async fn connect(socket: &Path) -> Result<LocalClient<Channel>, Problem> {
    let stream = UnixStream::connect(socket).await.map_err(|e| {
        let code = match e.kind() {
            ErrorKind::PermissionDenied => &codes::PERMISSION,
            _ => &codes::DAEMON_UNREACHABLE,
        };
        let why = match e.kind() {
            ErrorKind::NotFound => "there is no such socket".to_owned(),
            ErrorKind::ConnectionRefused => "nobody listens there".to_owned(),
            _ => e.to_string(),
        };
        Problem::new(code, format!("{}: {why}", socket.display()))
    })?;
    // In HTTP/2 the server sends its settings unasked. The end of the stream counts as well, and is told by the first call.
    let said = stream.readable().await;
    said.map_err(|e| Problem::from_error(&codes::DAEMON_UNREACHABLE, &e).at(socket.display()))?;
    let channel = channel::over(stream, channel::Options::default())
        .await
        .map_err(|e| Problem::from_error(&codes::DAEMON_UNREACHABLE, &e).at(socket.display()))?;
    Ok(LocalClient::new(channel).max_decoding_message_size(MAX_MESSAGE))
}
