//! Commands run inside a running container.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;

use serde::{Deserialize, Serialize};

/// A command to run in a running container.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Exec {
    /// The command and its arguments.
    pub command: Vec<String>,
    /// User; `None` is the container's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Working directory; `None` is the container's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
    /// Environment beside the container's; `None` as a value passes the name alone.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<String, Option<String>>,
    /// With all privileges.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub privileged: bool,
}

/// Names of the environment only: values may be anything.
impl fmt::Debug for Exec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exec")
            .field("command", &self.command)
            .field("user", &self.user)
            .field("working_dir", &self.working_dir)
            .field("environment", &self.environment.keys())
            .field("privileged", &self.privileged)
            .finish()
    }
}

impl Exec {
    /// The environment as the engine takes it.
    pub fn variables(&self) -> Vec<String> {
        let written = |(name, value): (&String, &Option<String>)| match value {
            Some(value) => format!("{name}={value}"),
            None => name.clone(),
        };
        self.environment.iter().map(written).collect()
    }
}

/// How a command ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Finished {
    /// Exit code.
    pub code: i64,
    /// The last lines of what it said, bounded by [`Tail`].
    pub output: Vec<String>,
}

/// The last lines of an output, however long it is.
#[derive(Debug, Default)]
pub struct Tail {
    lines: VecDeque<String>,
    /// The line that has not ended yet.
    open: Vec<u8>,
}

impl Tail {
    /// Lines kept.
    pub const LINES: usize = 10;
    /// Bytes kept of a line.
    pub const LINE: usize = 300;

    /// Takes more output, cut anywhere.
    pub fn take(&mut self, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let room = Self::LINE.saturating_sub(self.open.len());
            self.open.extend(piece.iter().filter(|byte| **byte != b'\n').take(room));
            if piece.ends_with(b"\n") {
                self.close();
            }
        }
    }

    fn close(&mut self) {
        let line = String::from_utf8_lossy(&std::mem::take(&mut self.open)).trim_end().to_owned();
        if line.is_empty() {
            return;
        }
        if self.lines.len() == Self::LINES {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }

    /// What was kept.
    pub fn into_lines(mut self) -> Vec<String> {
        self.close();
        self.lines.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_kept_and_nothing_grows_without_end() {
        let mut tail = Tail::default();
        for number in 0..100 {
            tail.take(format!("line {number}\nli").as_bytes());
            tail.take(b"ne\n\n");
        }
        tail.take(&[b'x'; 100_000]);
        let lines = tail.into_lines();
        assert_eq!(lines.len(), Tail::LINES);
        assert_eq!(lines[Tail::LINES - 1], "x".repeat(Tail::LINE));
        assert_eq!(lines[Tail::LINES - 2], "line");
        assert_eq!(lines[Tail::LINES - 3], "line 99");
    }

    #[test]
    fn debug_shows_no_value_of_the_environment() {
        let exec =
            Exec { environment: [("PASSWORD".into(), Some("hunter2".into()))].into(), ..Exec::default() };
        let shown = format!("{exec:?}");
        assert!(shown.contains("PASSWORD") && !shown.contains("hunter2"));
    }
}
