//! One request to the engine: the archive of one image, sent piece by piece, and completed or broken off.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::engine::Engine;
use crate::engine::error::{Error, Kind, Result};

/// Pieces that wait for the engine: what a request may hold in memory.
const AHEAD: usize = 4;

/// A request whose body is not complete. Dropped, it is broken off.
pub(super) struct Request {
    /// `None` once completed.
    pieces: Option<mpsc::Sender<io::Result<Bytes>>>,
    /// `None` once heard.
    answer: Option<JoinHandle<Result<()>>>,
    what: String,
}

impl Request {
    /// Begins to send.
    pub(super) fn open(engine: Arc<dyn Engine>, runtime: &Handle, what: String) -> Self {
        let (sender, receiver) = mpsc::channel::<io::Result<Bytes>>(AHEAD);
        let body = stream::unfold(receiver, |mut receiver| async move {
            receiver.recv().await.map(|piece| (piece, receiver))
        });
        let answer = runtime.spawn(async move { engine.load(body.boxed()).await.map(|_| ()) });
        Self { pieces: Some(sender), answer: Some(answer), what }
    }

    /// Sends a piece; waits while the engine is slower.
    ///
    /// # Errors
    /// The engine's, when it does not take it.
    pub(super) async fn send(&mut self, piece: Bytes) -> Result<()> {
        let Some(pieces) = &self.pieces else {
            return Err(Error::new(Kind::Engine, self.what.as_str(), "the engine has ended the request"));
        };
        if pieces.send(Ok(piece)).await.is_ok() {
            return Ok(());
        }
        // It has stopped listening, and says why.
        self.pieces = None;
        match self.answer().await {
            Ok(()) => {
                Err(Error::new(Kind::Engine, self.what.as_str(), "the engine stopped reading in the middle"))
            }
            Err(error) => Err(error),
        }
    }

    /// Sends the last piece and waits until the engine has made an image of it.
    ///
    /// # Errors
    /// The engine's.
    pub(super) async fn complete(mut self, last: Bytes) -> Result<()> {
        self.send(last).await?;
        self.pieces = None;
        self.answer().await
    }

    /// Ends the request before its end and waits until the engine has let go of it: it takes nothing.
    pub(super) async fn break_off(mut self) {
        if let Some(pieces) = self.pieces.take() {
            let _ = pieces.send(Err(io::Error::other("not completed"))).await;
        }
        let _ = self.answer().await;
    }

    async fn answer(&mut self) -> Result<()> {
        let Some(answer) = self.answer.take() else { return Ok(()) };
        match answer.await {
            Ok(answer) => answer,
            Err(error) => Err(Error::new(Kind::Engine, self.what.as_str(), error.to_string())),
        }
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        // The body must not end as if it were whole.
        if let Some(answer) = &self.answer {
            answer.abort();
        }
    }
}
