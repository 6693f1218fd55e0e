//! Frames between whoever holds a session and its clients on this machine: each with its length in front, four bytes.

use crate::codes;
use crate::error::{Failure, Result};
use bytes::{Buf as _, BytesMut};
use kedge_proto::support::v1::{Frame, frame};
use prost::Message as _;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;

/// Longest frame, bytes.
const LONGEST: usize = 128 * 1024;

/// Frames as they come.
pub(super) struct Frames<R> {
    from: R,
    buffer: BytesMut,
}

impl<R: AsyncRead + Unpin> Frames<R> {
    pub(super) fn of(from: R) -> Self {
        Self { from, buffer: BytesMut::new() }
    }

    /// The next frame; nothing at the end. Cancel safe: what has been read stays in the buffer.
    pub(super) async fn next(&mut self) -> Option<frame::Body> {
        let length = loop {
            let missing = match self.buffer.first_chunk() {
                Some(length) => {
                    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
                    if length > LONGEST {
                        return None;
                    }
                    if self.buffer.len() >= 4 + length {
                        break length;
                    }
                    4 + length - self.buffer.len()
                }
                None => 4,
            };
            // As much as a socket holds at a time: every call into the kernel costs more than a copy of what it brings.
            self.buffer.reserve(missing.max(LONGEST));
            if self.from.read_buf(&mut self.buffer).await.ok()? == 0 {
                return None;
            }
        };
        self.buffer.advance(4);
        // Not copied: what a frame carries goes on from where it was read.
        Frame::decode(self.buffer.split_to(length).freeze()).ok()?.body
    }
}

/// Reads frames in a task of its own, a few ahead.
pub(super) fn reader(from: impl AsyncRead + Unpin + Send + 'static) -> mpsc::Receiver<frame::Body> {
    let (sender, receiver) = mpsc::channel(16);
    let mut frames = Frames::of(from);
    tokio::spawn(async move {
        while let Some(body) = frames.next().await {
            if sender.send(body).await.is_err() {
                return;
            }
        }
    });
    receiver
}

/// Writes a frame.
pub(super) async fn write(to: &mut (impl AsyncWrite + Unpin), body: frame::Body) -> Result<()> {
    let frame = Frame { body: Some(body) };
    let length = frame.encoded_len();
    let mut message = Vec::with_capacity(4 + length);
    message.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
    frame.encode_raw(&mut message);
    let written = async {
        to.write_all(&message).await?;
        to.flush().await
    };
    written.await.map_err(|error| Failure::new(codes::SUPPORT_OVER, "the session has ended").because(error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use kedge_proto::support::v1::Data;

    fn data(bytes: &[u8]) -> frame::Body {
        frame::Body::Data(Data { channel: 1, stderr: false, bytes: bytes.to_vec().into() })
    }

    #[tokio::test]
    async fn frames_come_as_they_were_written_however_they_are_cut() {
        let (mut to, from) = tokio::io::duplex(7);
        let bodies = [data(b"one"), data(&[7; 100_000]), data(b"")];
        let written = bodies.clone();
        tokio::spawn(async move {
            for body in written {
                write(&mut to, body).await.unwrap();
            }
            // Half a length, and the end.
            to.write_all(&[0, 0]).await.unwrap();
        });
        let mut frames = Frames::of(from);
        for body in bodies {
            assert_eq!(frames.next().await, Some(body));
        }
        assert_eq!(frames.next().await, None);
    }

    #[tokio::test]
    async fn a_frame_that_is_too_long_is_the_end() {
        let message = u32::try_from(LONGEST + 1).unwrap().to_be_bytes();
        assert_eq!(Frames::of(&message[..]).next().await, None);
    }
}
