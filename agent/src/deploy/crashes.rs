//! Services that end as often as they are started: left alone for longer and longer, and told as one thing.
//!
//! What is counted are ends that nobody asked for, also those that the engine's restart policy follows up by itself: that
//! one has a backoff of its own, so only our own starts are held back here. Pauses double, are jittered and capped.

use std::collections::BTreeMap;
use std::time::Duration;

use kedge_proto::v1;
use tokio::time::Instant;

use super::supervisor::backoff;

/// Ends in a row from which on it is a loop.
pub(super) const PATIENCE: u32 = 5;
/// A service that ran for so long is in no crash loop.
pub(super) const CALM: Duration = Duration::from_secs(600);
/// First and longest pause before the next start.
const HOLD: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(300));

/// All services that have ended by themselves lately.
#[derive(Debug, Default)]
pub(super) struct Crashes {
    services: BTreeMap<String, Crash>,
}

#[derive(Debug)]
struct Crash {
    ends: u32,
    exit_code: i64,
    /// RFC 3339: the first end of the row.
    since: String,
    last: Instant,
    until: Option<Instant>,
    output: Vec<String>,
}

impl Crash {
    fn is_loop(&self) -> bool {
        self.ends >= PATIENCE
    }

    fn is_over(&self, now: Instant) -> bool {
        now.duration_since(self.last) >= CALM
    }
}

impl Crashes {
    /// A service has ended by itself. `true` when this makes it a loop.
    pub(super) fn ended(&mut self, service: &str, exit_code: i64, now: Instant, at: &str) -> bool {
        let crash = self.services.entry(service.to_owned()).or_insert_with(|| Crash {
            ends: 0,
            exit_code,
            since: at.to_owned(),
            last: now,
            until: None,
            output: Vec::new(),
        });
        if crash.is_over(now) {
            (crash.ends, crash.since) = (0, at.to_owned());
        }
        crash.ends = crash.ends.saturating_add(1);
        (crash.exit_code, crash.last) = (exit_code, now);
        crash.until = crash.is_loop().then(|| now + backoff(crash.ends - PATIENCE + 1, HOLD.0, HOLD.1));
        crash.ends == PATIENCE
    }

    /// What it said last.
    pub(super) fn said(&mut self, service: &str, output: Vec<String>) {
        if let Some(crash) = self.services.get_mut(service) {
            crash.output = output;
        }
    }

    /// The loop that a service is in.
    pub(super) fn of(&self, service: &str) -> Option<v1::CrashLoop> {
        let crash = self.services.get(service).filter(|crash| crash.is_loop())?;
        Some(v1::CrashLoop {
            count: crash.ends,
            exit_code: crash.exit_code,
            since: crash.since.clone(),
            output: crash.output.clone(),
        })
    }

    /// Takes out the services that have run long enough, and gives those that were in a loop.
    pub(super) fn calmed(&mut self, now: Instant) -> Vec<String> {
        let mut calmed = Vec::new();
        self.services.retain(|service, crash| {
            let over = crash.is_over(now);
            if over && crash.is_loop() {
                calmed.push(service.clone());
            }
            !over
        });
        calmed
    }

    /// Services that are not to be started now, with the reason.
    pub(super) fn held(&self, now: Instant) -> BTreeMap<String, String> {
        let held = self.services.iter().filter(|(_, crash)| crash.until.is_some_and(|until| until > now));
        held.map(|(service, crash)| {
            let why = format!(
                "it keeps ending, {} times by now, the last time with exit code {}; waiting before the next try",
                crash.ends, crash.exit_code
            );
            (service.clone(), why)
        })
        .collect()
    }

    /// When a pause ends or a loop may be over.
    pub(super) fn next_due(&self, now: Instant) -> Option<Instant> {
        let pauses = self.services.values().filter_map(|crash| crash.until);
        let calm = self.services.values().filter(|crash| crash.is_loop()).map(|crash| crash.last + CALM);
        pauses.chain(calm).filter(|due| *due > now).min()
    }
}

/// The sentence for a loop that has begun.
pub(super) fn sentence(service: &str, crash: &v1::CrashLoop) -> String {
    let mut text = format!(
        "{service} keeps ending: {} times since {}, the last time with exit code {}",
        crash.count, crash.since, crash.exit_code
    );
    if !crash.output.is_empty() {
        text.push_str(&format!("; it said last: {}", crash.output.join(" | ")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(crashes: &mut Crashes) -> bool {
        crashes.ended("web", 1, Instant::now(), "then")
    }

    #[tokio::test(start_paused = true)]
    async fn a_service_that_keeps_ending_is_told_once_held_back_and_tried_again() {
        let mut crashes = Crashes::default();
        for _ in 1..PATIENCE {
            assert!(!end(&mut crashes));
        }
        assert!(crashes.held(Instant::now()).is_empty() && crashes.of("web").is_none());
        assert!(end(&mut crashes) && !end(&mut crashes));
        assert!(crashes.held(Instant::now())["web"].contains("6 times"));
        crashes.said("web", vec!["oh no".into()]);
        let told = sentence("web", &crashes.of("web").unwrap());
        assert_eq!(
            told,
            "web keeps ending: 6 times since then, the last time with exit code 1; it said last: oh no"
        );
        tokio::time::sleep_until(crashes.next_due(Instant::now()).unwrap()).await;
        assert!(crashes.held(Instant::now()).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_grow_up_to_their_cap() {
        let mut crashes = Crashes::default();
        let mut pauses = Vec::new();
        for _ in 0..60 {
            end(&mut crashes);
            pauses.extend(crashes.next_due(Instant::now()).map(|due| due - Instant::now()));
        }
        assert!(pauses.iter().all(|pause| *pause <= HOLD.1), "{pauses:?}");
        assert!(pauses[0] <= HOLD.0 && pauses.last().unwrap() >= &(HOLD.1 / 2), "{pauses:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_runs_long_enough_is_in_no_loop_any_more() {
        let mut crashes = Crashes::default();
        for _ in 0..PATIENCE {
            end(&mut crashes);
        }
        assert!(crashes.calmed(Instant::now()).is_empty());
        tokio::time::sleep(CALM).await;
        assert_eq!(crashes.calmed(Instant::now()), ["web"]);
        assert!(crashes.of("web").is_none() && crashes.next_due(Instant::now()).is_none());
        assert!(!end(&mut crashes));
    }
}
