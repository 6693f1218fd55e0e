//! The time by which documents expire: [`kedge_bundle::clock`] with this process' clocks, kept across restarts.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use kedge_bundle::clock::{Clocks, Reading, Seen};
use kedge_proto::v1;
use tokio::time::Instant;

use crate::clock::Clock;
use crate::problem::Problem;
use crate::store::{SeenRecord, Store, Writes};
use crate::world::World;

/// How often the last time seen is written, and how long an agent runs before it is written first: a wrong clock is not made
/// worse by starting often. What a crash forgets is at most this long.
const WRITTEN_EVERY: Duration = Duration::from_secs(3600);

/// All clocks of this process.
pub struct Timekeeper {
    wall: Arc<dyn Clock>,
    started: Instant,
    clocks: Mutex<Clocks>,
}

impl Timekeeper {
    /// Goes on from what the store has.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn open(store: &Store, wall: Arc<dyn Clock>) -> Result<Self, Problem> {
        let kept = store.get::<SeenRecord>("")?.map(|record| record.0);
        let known = store.get::<crate::store::TrustRecord>("")?.and_then(|trust| Some(trust.0.fresh?.issued));
        let clocks = Mutex::new(Clocks::start(kept, known, wall.now()));
        Ok(Self { wall, started: Instant::now(), clocks })
    }

    /// What all clocks say together.
    pub fn read(&self) -> Reading {
        self.clocks().read(self.wall.now(), self.elapsed())
    }

    /// The time that counts.
    pub fn now(&self) -> Timestamp {
        self.read().now
    }

    /// A verified document says that this moment has come.
    pub fn learn(&self, moment: Timestamp) {
        let elapsed = self.elapsed();
        self.clocks().learn(moment, elapsed);
    }

    fn seen(&self) -> Seen {
        self.clocks().seen(self.elapsed())
    }

    fn elapsed(&self) -> SignedDuration {
        SignedDuration::try_from(self.started.elapsed()).unwrap_or(SignedDuration::MAX)
    }

    fn clocks(&self) -> MutexGuard<'_, Clocks> {
        // Poisoned or not, it is one plain value.
        self.clocks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes down the last time seen, now and then, and shows a clock that is behind.
pub async fn keep(world: Arc<World>) {
    let mut due = tokio::time::interval(WRITTEN_EVERY);
    for tick in 0_u64.. {
        due.tick().await;
        let behind = world.time.read().behind;
        if let Some(behind) = behind {
            tracing::warn!(
                behind_s = behind.as_secs(),
                "this host's clock is behind what is known: it is suspect"
            );
        }
        let behind_seconds = behind.map_or(0, |behind| u64::try_from(behind.as_secs()).unwrap_or_default());
        let clock = v1::Clock { suspect: behind.is_some(), behind_seconds };
        world.board.host(|host| host.clock = Some(clock));
        if tick > 0
            && let Err(problem) = write(&world).await
        {
            tracing::warn!(%problem, "the last time seen could not be written");
        }
    }
}

/// Writes it down as the agent ends, if it has run for long enough.
///
/// # Errors
/// When the store cannot be written.
pub async fn end(world: &World) -> Result<(), Problem> {
    if world.time.started.elapsed() < WRITTEN_EVERY {
        return Ok(());
    }
    write(world).await
}

async fn write(world: &World) -> Result<(), Problem> {
    world.store.commit(Writes::new().put(&SeenRecord(world.time.seen()))?).await
}
