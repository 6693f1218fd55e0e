//! Whether the main tasks are alive: each is pinged now and then and answers where it waits for something to do.
//!
//! Idle or busy, a task that comes back to its `select!` answers. One that is blocked, or waits for something that never
//! comes, does not; once it owes an answer for longer than its patience allows, it is [`Wedged`]. A long piece of work, such
//! as bringing up a stack, answers for its task while it runs ([`Pulse::work`]), for a limited time.
//!
//! [`Book`] is the rule, without clock or channels. [`Registry`] shares it between tasks; whoever pings and judges
//! ([`crate::service_manager`]) passes the time in.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::{Future, pending};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

/// A task that owes an answer for too long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wedged {
    /// What the task is for.
    pub task: String,
    /// How long ago it was asked.
    pub silent: Duration,
}

/// Who was asked when, and who has answered. Moments are durations since any fixed one.
#[derive(Debug, Default)]
pub struct Book {
    round: u64,
    next: u64,
    tasks: BTreeMap<u64, Entry>,
}

#[derive(Debug)]
struct Entry {
    name: String,
    /// The first ping that it has not answered.
    asked: Option<Duration>,
}

impl Book {
    /// A task begins; it is named by the number that this gives.
    pub fn enter(&mut self, name: String) -> u64 {
        self.next += 1;
        self.tasks.insert(self.next, Entry { name, asked: None });
        self.next
    }

    /// A task ends.
    pub fn leave(&mut self, task: u64) {
        self.tasks.remove(&task);
    }

    /// Asks everybody. Who still owes an answer to an earlier ping owes it since then.
    pub fn ping(&mut self, now: Duration) -> u64 {
        self.round += 1;
        for entry in self.tasks.values_mut() {
            entry.asked.get_or_insert(now);
        }
        self.round
    }

    /// A task has heard of the pings up to `round`. An answer to an earlier one than the last is late and counts for nothing.
    pub fn answer(&mut self, task: u64, round: u64) {
        if round == self.round
            && let Some(entry) = self.tasks.get_mut(&task)
        {
            entry.asked = None;
        }
    }

    /// The tasks that owe an answer for `patience` or longer, by the time they have been silent for, longest first.
    pub fn wedged(&self, now: Duration, patience: Duration) -> Vec<Wedged> {
        let silent = |entry: &Entry| {
            let silent = now.saturating_sub(entry.asked?);
            (silent >= patience).then(|| Wedged { task: entry.name.clone(), silent })
        };
        let mut found: Vec<Wedged> = self.tasks.values().filter_map(silent).collect();
        found.sort_by_key(|wedged| std::cmp::Reverse(wedged.silent));
        found
    }
}

/// The book that all tasks of an agent share. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Registry {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    book: Mutex<Book>,
    round: watch::Sender<u64>,
}

impl Inner {
    fn book(&self) -> MutexGuard<'_, Book> {
        // Nothing in the book is left half-way by a panic.
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Registry {
    fn default() -> Self {
        Self { inner: Arc::new(Inner { book: Mutex::default(), round: watch::Sender::new(0) }) }
    }
}

impl Registry {
    /// For a task that begins. It is watched until the pulse is dropped, and for good where a panic drops it.
    pub fn pulse(&self, name: impl Into<String>) -> Pulse {
        let id = self.inner.book().enter(name.into());
        Pulse { id, rounds: self.inner.round.subscribe(), inner: Arc::clone(&self.inner) }
    }

    /// Asks every task; `now` as in [`Book`].
    pub fn ping(&self, now: Duration) {
        let round = self.inner.book().ping(now);
        self.inner.round.send_replace(round);
    }

    /// See [`Book::wedged`].
    pub fn wedged(&self, now: Duration, patience: Duration) -> Vec<Wedged> {
        self.inner.book().wedged(now, patience)
    }
}

/// A task's own end of the registry.
#[derive(Debug)]
pub struct Pulse {
    id: u64,
    rounds: watch::Receiver<u64>,
    inner: Arc<Inner>,
}

impl Pulse {
    /// Answers every ping for as long as it is polled, and never ends: an arm for the task's `select!`. Cancel safe.
    pub async fn answer(&mut self) -> Infallible {
        loop {
            let round = *self.rounds.borrow_and_update();
            self.inner.book().answer(self.id, round);
            if self.rounds.changed().await.is_err() {
                return pending().await;
            }
        }
    }

    /// Does `work`, which may take up to `limit`, and answers meanwhile. Beyond the limit the work goes on and the task counts as
    /// wedged.
    pub async fn work<T>(&mut self, limit: Duration, work: impl Future<Output = T>) -> T {
        tokio::pin!(work);
        // Both arms only wait; the work is polled by reference.
        tokio::select! {
            biased;
            done = &mut work => return done,
            _ = tokio::time::timeout(limit, self.answer()) => {}
        }
        work.await
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        // What a panic ends owes its answer for good: nobody does its work until the agent is started anew.
        if !std::thread::panicking() {
            self.inner.book().leave(self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn names(wedged: &[Wedged]) -> Vec<&str> {
        wedged.iter().map(|w| w.task.as_str()).collect()
    }

    #[test]
    fn who_answers_is_alive_and_who_does_not_is_wedged_since_the_first_ping_unanswered() {
        let mut book = Book::default();
        let (well, ill) = (book.enter("well".into()), book.enter("ill".into()));
        for second in [0, 15, 30] {
            let round = book.ping(at(second));
            book.answer(well, round);
        }
        assert_eq!(book.wedged(at(29), PATIENCE), []);
        assert_eq!(book.wedged(at(31), PATIENCE), [Wedged { task: "ill".into(), silent: at(31) }]);
        book.answer(ill, 3);
        assert_eq!(book.wedged(at(1000), PATIENCE), []);
    }

    #[test]
    fn a_late_answer_to_an_old_ping_counts_for_nothing() {
        let mut book = Book::default();
        let task = book.enter("slow".into());
        let first = book.ping(at(0));
        book.ping(at(15));
        book.answer(task, first);
        assert_eq!(names(&book.wedged(at(40), PATIENCE)), ["slow"]);
    }

    #[test]
    fn nobody_is_wedged_who_was_not_asked_or_has_left() {
        let mut book = Book::default();
        book.enter("new".into());
        assert_eq!(book.wedged(at(1000), PATIENCE), []);
        book.ping(at(1000));
        book.leave(1);
        assert_eq!(book.wedged(at(2000), PATIENCE), []);
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_task_answers_and_one_that_waits_for_what_never_comes_does_not() {
        let registry = Registry::default();
        let (mut idle, mut stuck) = (registry.pulse("idle"), registry.pulse("stuck"));
        tokio::spawn(async move { idle.answer().await });
        tokio::spawn(async move {
            let _ = tokio::time::timeout(at(1), stuck.answer()).await;
            pending::<()>().await;
            drop(stuck);
        });
        for second in [2, 20, 40] {
            tokio::time::sleep(at(15)).await;
            registry.ping(at(second));
        }
        tokio::time::sleep(at(1)).await;
        assert_eq!(names(&registry.wedged(at(41), PATIENCE)), ["stuck"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_a_panic_ends_is_wedged_and_one_that_ends_is_not() {
        let registry = Registry::default();
        let (fine, mut ill) = (registry.pulse("fine"), registry.pulse("ill"));
        tokio::spawn(async move { drop(fine) }).await.unwrap();
        let task = tokio::spawn(async move { ill.work(at(100), async { panic!("on purpose") }).await });
        let _: () = task.await.unwrap_or_default();
        registry.ping(at(0));
        assert_eq!(names(&registry.wedged(at(31), PATIENCE)), ["ill"]);
    }

    #[tokio::test(start_paused = true)]
    async fn long_work_answers_up_to_its_limit() {
        let registry = Registry::default();
        let mut pulse = registry.pulse("busy");
        let worker = tokio::spawn(async move { pulse.work(at(100), tokio::time::sleep(at(500))).await });
        tokio::time::sleep(at(50)).await;
        registry.ping(at(50));
        tokio::time::sleep(at(40)).await;
        assert_eq!(registry.wedged(at(90), PATIENCE), []);
        tokio::time::sleep(at(20)).await;
        registry.ping(at(110));
        tokio::time::sleep(at(40)).await;
        assert_eq!(names(&registry.wedged(at(150), PATIENCE)), ["busy"]);
        worker.await.unwrap();
        assert_eq!(registry.wedged(at(1000), PATIENCE), []);
    }
}
