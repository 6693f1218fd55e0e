//! Writing down what happens in a session, on the customer's disk, before it leaves: asciicast v2 for terminals, JSON lines for
//! the rest.
//!
//! A session has a folder: `request.json`, as the vendor signed it; `session.jsonl`, one event a line; `02-shell-api.cast`
//! for a terminal on channel 2. What [`Recorder::write`] has returned from would survive a power cut. A recorder that has
//! failed once stays failed: a recording has no holes.
//!
//! Format of a `.cast`: <https://docs.asciinema.org/manual/asciicast/v2/>.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::json;

use crate::codes;
use crate::problem::Problem;
use crate::store::sync_folder;

/// Bytes of disk that must be free to begin.
const LEAST_FREE: u64 = 64 * 1024;

/// Something that happens on a channel.
#[derive(Debug, Clone)]
pub enum Event {
    /// It begins: what was asked for, in words.
    Open {
        /// What.
        what: String,
        /// To which service.
        target: String,
        /// Rows and columns, of a terminal.
        terminal: Option<(u16, u16)>,
    },
    /// What leaves.
    Out {
        /// From standard error.
        stderr: bool,
        /// As it leaves.
        bytes: Bytes,
    },
    /// What the engineer types.
    In(Bytes),
    /// So many bytes were carried to a port, or from it.
    Carried {
        /// To it.
        inwards: bool,
        /// How many.
        bytes: usize,
    },
    /// The terminal has another size: rows, columns.
    Resize(u16, u16),
    /// It ends.
    End(String),
}

/// One session's recording.
#[derive(Debug)]
pub struct Recorder {
    folder: PathBuf,
    begun: Instant,
    at: Timestamp,
    journal: File,
    terminals: BTreeMap<u32, File>,
    /// Bytes that a channel has carried to a port, and from it.
    carried: BTreeMap<u32, (u64, u64)>,
    failed: bool,
}

impl Recorder {
    /// Begins a recording below `folder`, where none of this name is.
    ///
    /// # Errors
    /// [`codes::SUPPORT_RECORDING`] when nothing could be written there.
    pub fn begin(folder: &Path, grant: &str, request: &str, at: Timestamp) -> Result<Self, Problem> {
        let folder = folder.join(grant);
        let failed = |path: &Path, e: &std::io::Error| {
            Problem::new(&codes::SUPPORT_RECORDING, format!("{}: {e}", path.display()))
        };
        let private = DirBuilder::new().recursive(true).mode(0o700).create(&folder);
        private.map_err(|e| failed(&folder, &e))?;
        let begin = || -> std::io::Result<File> {
            let free = rustix::fs::statvfs(&folder)?;
            if free.f_bavail.saturating_mul(free.f_frsize) < LEAST_FREE {
                return Err(std::io::ErrorKind::StorageFull.into());
            }
            let mut copy = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(folder.join("request.json"))?;
            copy.write_all(request.as_bytes())?;
            copy.sync_all()?;
            OpenOptions::new().append(true).create(true).mode(0o600).open(folder.join("session.jsonl"))
        };
        let journal = begin().map_err(|e| failed(&folder, &e))?;
        let mut this = Self {
            folder,
            begun: Instant::now(),
            at,
            journal,
            terminals: BTreeMap::new(),
            carried: BTreeMap::new(),
            failed: false,
        };
        this.write(&[(0, Event::Open { what: "session".into(), target: grant.into(), terminal: None })])?;
        sync_folder(&this.folder)?;
        this.folder.parent().map_or(Ok(()), sync_folder)?;
        Ok(this)
    }

    /// Writes events of channels down; returns once they would survive a power cut. Blocks for a disk flush.
    ///
    /// # Errors
    /// [`codes::SUPPORT_RECORDING`]; what was to be recorded must not leave, now or later.
    pub fn write(&mut self, events: &[(u32, Event)]) -> Result<(), Problem> {
        let written =
            if self.failed { Err(std::io::Error::other("it failed before")) } else { self.try_write(events) };
        written.map_err(|e| {
            self.failed = true;
            Problem::new(&codes::SUPPORT_RECORDING, format!("{}: {e}", self.folder.display()))
        })
    }

    fn try_write(&mut self, events: &[(u32, Event)]) -> std::io::Result<()> {
        let now = self.begun.elapsed().as_secs_f64();
        let mut lines: BTreeMap<Option<u32>, Vec<u8>> = BTreeMap::new();
        let mut made = BTreeSet::new();
        for (channel, event) in events {
            if let Event::Open { what, target, terminal: Some(size) } = event {
                self.terminals.insert(*channel, self.terminal(*channel, what, target, *size)?);
                made.insert(*channel);
            }
            if let Event::Carried { inwards, bytes } = event {
                let (to, from) = self.carried.entry(*channel).or_default();
                *(if *inwards { to } else { from }) += *bytes as u64;
            }
            let is_terminal = self.terminals.contains_key(channel);
            if is_terminal && let Some(line) = cast_line(now, event) {
                add(lines.entry(Some(*channel)).or_default(), &line)?;
            } else if let Event::Out { stderr, bytes } = event {
                add(lines.entry(None).or_default(), &Said::new(now, *channel, *stderr, bytes))?;
            } else {
                let mut line = journal_line(now, *channel, event);
                if matches!(event, Event::End(_))
                    && let Some((to, from)) = self.carried.remove(channel)
                {
                    line["in"] = to.into();
                    line["out"] = from.into();
                }
                add(lines.entry(None).or_default(), &line)?;
            }
        }
        for (channel, lines) in lines {
            let file = match channel {
                Some(channel) => self.terminals.get_mut(&channel),
                None => Some(&mut self.journal),
            };
            let file = file.ok_or_else(|| std::io::Error::other("no such terminal"))?;
            file.write_all(&lines)?;
            file.sync_data()?;
        }
        if !made.is_empty() {
            File::open(&self.folder)?.sync_all()?;
        }
        Ok(())
    }

    fn terminal(
        &self,
        channel: u32,
        what: &str,
        target: &str,
        (rows, columns): (u16, u16),
    ) -> std::io::Result<File> {
        let plain = |text: &str| {
            text.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect::<String>()
        };
        let name = format!("{channel:02}-{}-{}.cast", plain(what), plain(target));
        let mut file =
            OpenOptions::new().append(true).create_new(true).mode(0o600).open(self.folder.join(name))?;
        let header = json!({
            "version": 2, "width": columns, "height": rows, "timestamp": self.at.as_second(),
            "title": format!("{what} {target}"),
        });
        let mut line = Vec::new();
        add(&mut line, &header)?;
        file.write_all(&line)?;
        Ok(file)
    }
}

/// What leaves, as a line of the journal. Most of a recording is that, so that it is written from where it lies.
#[derive(Serialize)]
struct Said<'a> {
    channel: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    base64: Option<String>,
    event: &'static str,
    t: f64,
}

impl<'a> Said<'a> {
    fn new(t: f64, channel: u32, stderr: bool, bytes: &'a Bytes) -> Self {
        let data = std::str::from_utf8(bytes).ok();
        let base64 = data.is_none().then(|| STANDARD.encode(bytes));
        Self { channel, data, base64, event: if stderr { "err" } else { "out" }, t }
    }
}

fn add(lines: &mut Vec<u8>, value: &impl Serialize) -> std::io::Result<()> {
    serde_json::to_writer(&mut *lines, value)?;
    lines.push(b'\n');
    Ok(())
}

fn cast_line(now: f64, event: &Event) -> Option<serde_json::Value> {
    Some(match event {
        Event::Out { bytes, .. } => json!([now, "o", String::from_utf8_lossy(bytes)]),
        Event::In(bytes) => json!([now, "i", String::from_utf8_lossy(bytes)]),
        Event::Resize(rows, columns) => json!([now, "r", format!("{columns}x{rows}")]),
        Event::Open { .. } | Event::Carried { .. } | Event::End(_) => return None,
    })
}

fn journal_line(now: f64, channel: u32, event: &Event) -> serde_json::Value {
    let data = |bytes: &Bytes| match std::str::from_utf8(bytes) {
        Ok(text) => ("data", text.to_owned()),
        Err(_) => ("base64", STANDARD.encode(bytes)),
    };
    match event {
        Event::Open { what, target, .. } => {
            json!({ "t": now, "channel": channel, "event": "open", "what": what, "target": target })
        }
        Event::Out { stderr, bytes } => json!(Said::new(now, channel, *stderr, bytes)),
        Event::In(bytes) => {
            let (key, data) = data(bytes);
            json!({ "t": now, "channel": channel, "event": "in", key: data })
        }
        Event::Carried { inwards, bytes } => {
            let key = if *inwards { "in" } else { "out" };
            json!({ "t": now, "channel": channel, "event": "carried", key: bytes })
        }
        Event::Resize(rows, columns) => {
            json!({ "t": now, "channel": channel, "event": "resize", "rows": rows, "columns": columns })
        }
        Event::End(how) => json!({ "t": now, "channel": channel, "event": "end", "how": how }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(what: &str, terminal: Option<(u16, u16)>) -> Event {
        Event::Open { what: what.into(), target: "shop/api".into(), terminal }
    }

    #[test]
    fn a_terminal_becomes_an_asciicast_and_the_rest_lines_of_json() {
        let folder = tempfile::tempdir().unwrap();
        let mut recorder = Recorder::begin(folder.path(), "ab", "{}", Timestamp::UNIX_EPOCH).unwrap();
        let out =
            |text: &'static str| Event::Out { stderr: false, bytes: Bytes::from_static(text.as_bytes()) };
        recorder.write(&[(1, open("logs", None)), (1, out("a\n"))]).unwrap();
        recorder.write(&[(2, open("shell", Some((24, 80)))), (2, out("$ "))]).unwrap();
        recorder
            .write(&[(2, Event::In("l".into())), (2, Event::Resize(30, 90)), (2, Event::End("0".into()))])
            .unwrap();
        let read = |name: &str| std::fs::read_to_string(folder.path().join("ab").join(name)).unwrap();
        let cast = read("02-shell-shop-api.cast");
        let lines: Vec<serde_json::Value> =
            cast.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(
            (&lines[0]["version"], &lines[0]["width"], &lines[0]["height"]),
            (&2.into(), &80.into(), &24.into())
        );
        let kinds: Vec<_> =
            lines[1..].iter().map(|line| (line[1].as_str().unwrap(), line[2].as_str().unwrap())).collect();
        assert_eq!(kinds, [("o", "$ "), ("i", "l"), ("r", "90x30")]);
        let journal = read("session.jsonl");
        for part in [r#""what":"logs""#, r#""data":"a\n""#, r#""what":"shell""#, r#""event":"end""#] {
            assert!(journal.contains(part), "{part}: {journal}");
        }
        assert_eq!(read("request.json"), "{}");
    }

    #[test]
    fn what_is_carried_to_a_port_is_counted_and_not_written_down() {
        let folder = tempfile::tempdir().unwrap();
        let mut recorder = Recorder::begin(folder.path(), "ab", "{}", Timestamp::UNIX_EPOCH).unwrap();
        let carried = |inwards, bytes| (3, Event::Carried { inwards, bytes });
        recorder.write(&[(3, open("forward:db:5432", None)), carried(true, 7)]).unwrap();
        recorder.write(&[carried(false, 100), carried(true, 5), (3, Event::End("code 0".into()))]).unwrap();
        let journal = std::fs::read_to_string(folder.path().join("ab/session.jsonl")).unwrap();
        let last: serde_json::Value = serde_json::from_str(journal.lines().last().unwrap()).unwrap();
        assert_eq!((&last["event"], &last["in"], &last["out"]), (&"end".into(), &12.into(), &100.into()));
    }

    #[test]
    fn where_nothing_can_be_written_nothing_begins_and_a_failure_stays_one() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ab"), "a file in its place").unwrap();
        let refused = Recorder::begin(folder.path(), "ab", "{}", Timestamp::UNIX_EPOCH).unwrap_err();
        assert_eq!(refused.code.id, codes::SUPPORT_RECORDING.id);
        let mut recorder = Recorder::begin(folder.path(), "cd", "{}", Timestamp::UNIX_EPOCH).unwrap();
        recorder.write(&[(1, open("shell", Some((1, 1))))]).unwrap();
        // The same terminal once more: its file is there.
        assert!(recorder.write(&[(1, open("shell", Some((1, 1))))]).is_err());
        assert!(recorder.write(&[(1, open("logs", None))]).is_err(), "a recording has no holes");
    }
}
