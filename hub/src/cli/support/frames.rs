//! Frames between whoever holds a session and its clients on this machine: each with its length in front, four bytes.

use crate::codes;
use crate::error::{Failure, Result};
use kedge_proto::support::v1::{Frame, frame};
use prost::Message as _;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;

/// Longest frame, bytes.
const LONGEST: usize = 128 * 1024;

/// The next frame; nothing at the end.
pub(super) async fn read(from: &mut (impl AsyncRead + Unpin)) -> Option<frame::Body> {
    let length = usize::try_from(from.read_u32().await.ok()?).ok().filter(|length| *length <= LONGEST)?;
    let mut bytes = vec![0; length];
    from.read_exact(&mut bytes).await.ok()?;
    Frame::decode(bytes.as_slice()).ok()?.body
}

/// Reads frames in a task of its own, a few ahead.
pub(super) fn reader(mut from: impl AsyncRead + Unpin + Send + 'static) -> mpsc::Receiver<frame::Body> {
    let (sender, receiver) = mpsc::channel(16);
    tokio::spawn(async move {
        while let Some(body) = read(&mut from).await {
            if sender.send(body).await.is_err() {
                return;
            }
        }
    });
    receiver
}

/// Writes a frame.
pub(super) async fn write(to: &mut (impl AsyncWrite + Unpin), body: frame::Body) -> Result<()> {
    let bytes = Frame { body: Some(body) }.encode_to_vec();
    let mut message = u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes().to_vec();
    message.extend_from_slice(&bytes);
    let written = async {
        to.write_all(&message).await?;
        to.flush().await
    };
    written.await.map_err(|error| Failure::new(codes::SUPPORT_OVER, "the session has ended").because(error))
}
