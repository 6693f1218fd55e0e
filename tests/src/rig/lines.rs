//! The lines that a process writes, kept as they come, so that a test can wait for one.

use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a test waits for anything. Nothing takes this long; what does is a failure with a message.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// Lines of a pipe, read by a thread of their own until the pipe ends.
#[derive(Debug, Clone)]
pub struct Lines(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    lines: Vec<String>,
    ended: bool,
}

impl Lines {
    /// Begins to read.
    pub fn follow(pipe: impl Read + Send + 'static) -> Self {
        let shared = Arc::new(Shared { state: Mutex::default(), changed: Condvar::new() });
        let theirs = Arc::clone(&shared);
        std::thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                theirs.lock().lines.push(line);
                theirs.changed.notify_all();
            }
            theirs.lock().ended = true;
            theirs.changed.notify_all();
        });
        Self(shared)
    }

    /// The first line, from the `after`th on, that `wanted` says yes to, and how many lines there were with it.
    ///
    /// # Errors
    /// The last lines, when the pipe ends or [`PATIENCE`] does.
    pub fn wait_for(
        &self,
        after: usize,
        mut wanted: impl FnMut(&str) -> bool,
    ) -> Result<(usize, String), String> {
        let deadline = Instant::now() + PATIENCE;
        let mut seen = after;
        let mut state = self.0.lock();
        loop {
            while let Some(line) = state.lines.get(seen) {
                seen += 1;
                if wanted(line) {
                    return Ok((seen, line.clone()));
                }
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if state.ended || left.is_zero() {
                let how = if state.ended { "the process ended" } else { "it did not happen in time" };
                return Err(format!("{how}; the last lines:\n{}", tail(&state.lines)));
            }
            state = self.0.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// How many lines there are by now.
    pub fn count(&self) -> usize {
        self.0.lock().lines.len()
    }

    /// The last lines, for a message.
    pub fn tail(&self) -> String {
        tail(&self.0.lock().lines)
    }

    /// Everything so far.
    pub fn text(&self) -> String {
        self.0.lock().lines.join("\n")
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn tail(lines: &[String]) -> String {
    lines[lines.len().saturating_sub(40)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_is_waited_for_is_found_once() {
        let lines = Lines::follow(&b"one\ntwo\none\n"[..]);
        let (after, _) = lines.wait_for(0, |l| l == "one").unwrap();
        assert_eq!(after, 1);
        let (after, _) = lines.wait_for(after, |l| l == "one").unwrap();
        assert_eq!(after, 3);
        assert!(lines.wait_for(after, |l| l == "one").unwrap_err().contains("two"));
    }
}
