//! One reader of the engine's event stream, many listeners.
//!
//! The hub owns one task: it subscribes, hands events on, and when the stream breaks says [`Signal::Lost`], waits
//! for the engine and says [`Signal::Back`]. Events are hints to look, never facts to build on: a listener that
//! lags ([`RecvError::Lagged`](broadcast::error::RecvError::Lagged)) or hears `Back` looks at everything again.
//!
//! Nothing is missed between subscribing and looking: the engine is asked for events from shortly before the
//! subscription on, so a listener that subscribes to the hub, then inspects, hears whatever came after.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::StreamExt;
use tokio::sync::{broadcast, watch};
use tokio::task::JoinHandle;

use super::{Engine, EngineEvent, wait_until_back};

/// What a listener hears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signal {
    /// Something happened.
    Event(Arc<EngineEvent>),
    /// The stream broke: until `Back`, nothing is known.
    Lost {
        /// When, nanoseconds since 1970.
        at: i64,
    },
    /// The engine answers again: everything may have changed.
    Back {
        /// When, nanoseconds since 1970. Events from before then may still follow: what the engine did as it started.
        at: i64,
    },
}

/// Events kept for a listener that is slow; one that misses more looks at everything again.
const BACKLOG: usize = 1024;

/// How far before the subscription events are asked for.
const OVERLAP: Duration = Duration::from_secs(2);

/// Pause before subscribing again.
const RESUBSCRIBE: Duration = Duration::from_millis(50);

/// Handle of the task that reads events. Dropping it ends the task.
#[derive(Debug)]
pub struct EventHub {
    sender: broadcast::Sender<Signal>,
    up: watch::Receiver<bool>,
    task: JoinHandle<()>,
}

impl EventHub {
    /// Starts reading.
    pub fn spawn(engine: Arc<dyn Engine>) -> Self {
        let (sender, _) = broadcast::channel(BACKLOG);
        let (up_sender, up) = watch::channel(false);
        let task = tokio::spawn(read(engine, sender.clone(), up_sender));
        Self { sender, up, task }
    }

    /// A new listener, from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<Signal> {
        self.sender.subscribe()
    }

    /// Whether the engine answered when last asked, to watch or to read.
    pub fn up(&self) -> watch::Receiver<bool> {
        self.up.clone()
    }
}

impl Drop for EventHub {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn read(engine: Arc<dyn Engine>, sender: broadcast::Sender<Signal>, up: watch::Sender<bool>) {
    let mut since = now_nanos().saturating_sub(OVERLAP.as_nanos() as i64);
    let mut lost = false;
    loop {
        if let Ok(mut events) = engine.events(since).await {
            up.send_replace(true);
            if std::mem::take(&mut lost) {
                tracing::info!("the container engine answers again");
                let _ = sender.send(Signal::Back { at: now_nanos() });
            }
            // Ends with the stream or its first error: both mean that the engine stopped or restarted.
            while let Some(Ok(event)) = events.next().await {
                since = since.max(event.at.saturating_add(1));
                // No listener is no fault.
                let _ = sender.send(Signal::Event(Arc::new(event)));
            }
        }
        if !std::mem::replace(&mut lost, true) {
            tracing::warn!("the container engine's event stream ended; waiting for the engine");
            let _ = sender.send(Signal::Lost { at: now_nanos() });
        }
        up.send_replace(false);
        // An engine that answers pings and refuses events must not be asked in a tight loop.
        tokio::time::sleep(RESUBSCRIBE).await;
        wait_until_back(engine.as_ref()).await;
    }
}

pub(super) fn now_nanos() -> i64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |elapsed| i64::try_from(elapsed.as_nanos()).unwrap_or(i64::MAX))
}
