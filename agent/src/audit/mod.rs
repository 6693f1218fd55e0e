//! The audit log: a hash-chained record of everything decided or done, in an append-only file of JSON lines.
//!
//! Each line holds `{seq, prev, boot_id, mono_ms, wall, event}`; `prev` is the SHA-256 of the line before, as written.
//! A line is flushed before the thing it tells of is done. It is a file and not part of the store, so that a person
//! can read it with `tail`, and so that damage to one does not touch the other.
//!
//! Honest limit: whoever is root on the host can rewrite all of it since the last head that was held elsewhere.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Instant;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::problem::Problem;
use crate::store::{state_folder, sync_folder};

/// Longest line that is written or read, bytes.
const MAX_LINE: u64 = 64 * 1024;

/// What is written down.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum Event {
    /// The agent started.
    AgentStarted {
        /// Its version.
        version: String,
    },
    /// The agent ended in order.
    AgentStopped,
    /// The host was enrolled.
    Enrolled {
        /// Hub.
        hub: String,
        /// Host ID.
        host_id: String,
        /// Fingerprint of the pinned root.
        root_sha256: String,
    },
    /// A bundle or release was refused; nothing was changed.
    Refused {
        /// `file` or `tether`.
        from: String,
        /// What it said it was, as far as that was verified.
        release: Option<String>,
        /// Stable code.
        code: String,
        /// Why.
        reason: String,
    },
    /// Images that nothing needs were let go of.
    Collected {
        /// User, or what made it necessary.
        by: String,
        /// Their names.
        images: Vec<String>,
    },
    /// A release was verified and accepted.
    Accepted {
        /// `file` or `tether`.
        from: String,
        /// Product, stream, number, version.
        release: String,
        /// Digest of the signed payload.
        digest: String,
    },
    /// A licence was taken.
    LicenceInstalled {
        /// Product.
        product: String,
        /// Its ID.
        id: String,
        /// Its serial.
        serial: u64,
        /// Digest of the signed payload.
        digest: String,
    },
    /// A deployment's operation entered a phase.
    Phase {
        /// Deployment.
        deployment: String,
        /// Phase.
        phase: String,
        /// Digest of the target release.
        release: String,
    },
    /// A deployment's operation ended.
    Ended {
        /// Deployment.
        deployment: String,
        /// `active`, `rolled back`, `given up`, `failed`, `removed`.
        outcome: String,
        /// Digest of the target release.
        release: String,
        /// Stable code, where it did not succeed.
        code: Option<String>,
    },
    /// A deployment was paused: nothing of it is changed until it is resumed.
    Paused {
        /// Deployment.
        deployment: String,
        /// User.
        by: String,
        /// Why, in their words.
        reason: String,
    },
    /// A deployment was resumed.
    Resumed {
        /// Deployment.
        deployment: String,
        /// User.
        by: String,
    },
    /// What plain `docker compose` needs was handed out.
    Exported {
        /// Deployment.
        deployment: String,
        /// User.
        by: String,
        /// With the values of secrets.
        secrets: bool,
    },
    /// A compose project was taken over.
    Adopted {
        /// Deployment.
        deployment: String,
        /// Compose project.
        project: String,
        /// User.
        by: String,
        /// IDs of containers and networks, names of volumes.
        objects: Vec<String>,
    },
    /// A deployment was found changed though nobody had asked, and is being put right.
    Drift {
        /// Deployment.
        deployment: String,
        /// What was found and what is done about it.
        found: Vec<String>,
    },
    /// A service ends as often as it is started, or no longer does.
    CrashLoop {
        /// Deployment.
        deployment: String,
        /// Service.
        service: String,
        /// Ends in a row; 0: it is over.
        count: u32,
        /// Exit code of the last one.
        exit_code: i64,
    },
    /// A support request was taken; the customer is asked.
    SupportRequested {
        /// Grant.
        grant: String,
        /// SHA-256 of the signed request.
        request: String,
        /// Who wants to come in.
        engineer: String,
        /// The vendor's ticket.
        ticket: String,
        /// What was asked for.
        terms: String,
    },
    /// A support grant is now in another state.
    SupportPhase {
        /// Grant.
        grant: String,
        /// SHA-256 of the signed request.
        request: String,
        /// `approved`, `open`, `closing`, `closed`.
        state: String,
        /// Who consented.
        by: Option<String>,
        /// To what.
        terms: Option<String>,
        /// Why it is over.
        reason: Option<String>,
    },
    /// The engineer asked for something within a session.
    SupportChannel {
        /// Grant.
        grant: String,
        /// Number within the session.
        channel: u32,
        /// What for.
        scope: String,
        /// Of which service.
        target: String,
        /// `begun`, or why not.
        outcome: String,
    },
    /// Support sessions were switched off or on.
    SupportSwitched {
        /// Off.
        off: bool,
        /// User.
        by: String,
    },
    /// A removal was asked for.
    RemovalRequested {
        /// Deployment.
        deployment: String,
        /// Volumes too.
        volumes: bool,
    },
}

#[derive(Serialize, Deserialize)]
struct Line<E> {
    seq: u64,
    prev: String,
    boot_id: String,
    mono_ms: u64,
    wall: String,
    event: E,
}

/// The open log.
pub struct Log {
    path: PathBuf,
    boot_id: String,
    started: Instant,
    tail: Mutex<Tail>,
}

struct Tail {
    file: File,
    seq: u64,
    prev: String,
}

/// Where a chain is broken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {seq}: {why}")]
pub struct Broken {
    /// Sequence number at which it breaks.
    pub seq: u64,
    /// In which way.
    pub why: String,
}

impl Log {
    /// Opens or creates the log; goes on where it ended. A last line cut off by a crash is completed by a line end and
    /// stays visible: nothing is ever removed.
    ///
    /// # Errors
    /// When the file cannot be read or written.
    pub fn open(path: &Path) -> Result<Self, Problem> {
        let failed = |e: std::io::Error| state_folder(path, &e);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(failed)?;
        }
        let new = !path.exists();
        let mut file =
            OpenOptions::new().read(true).append(true).create(true).mode(0o640).open(path).map_err(failed)?;
        if new && let Some(folder) = path.parent() {
            sync_folder(folder)?;
        }
        let (mut seq, mut prev) = (0, String::new());
        let mut torn = false;
        let mut lines = BufReader::new(&mut file);
        let mut line = Vec::new();
        loop {
            line.clear();
            let read = (&mut lines).take(MAX_LINE).read_until(b'\n', &mut line).map_err(failed)?;
            if read == 0 {
                break;
            }
            torn = line.last() != Some(&b'\n');
            let content = line.strip_suffix(b"\n").unwrap_or(&line);
            prev = hash(content);
            seq = serde_json::from_slice::<Line<serde_json::Value>>(content).map_or(seq + 1, |l| l.seq);
        }
        if torn {
            file.write_all(b"\n").and_then(|()| file.sync_data()).map_err(failed)?;
        }
        let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
            .map(|id| id.trim().to_owned())
            .unwrap_or_default();
        Ok(Self {
            path: path.to_owned(),
            boot_id,
            started: Instant::now(),
            tail: Mutex::new(Tail { file, seq, prev }),
        })
    }

    /// Writes an event; returns once it would survive a power cut. Blocks for a disk flush.
    ///
    /// # Errors
    /// When it could not be written: the caller must not do what it wanted to do.
    pub fn append(&self, event: &Event) -> Result<(), Problem> {
        let failed = |e: std::io::Error| state_folder(&self.path, &e);
        let mut tail = self.tail.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let line = Line {
            seq: tail.seq + 1,
            prev: tail.prev.clone(),
            boot_id: self.boot_id.clone(),
            mono_ms: u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            wall: Timestamp::now().to_string(),
            event,
        };
        let mut bytes = serde_json::to_vec(&line).map_err(|e| failed(e.into()))?;
        if bytes.len() as u64 >= MAX_LINE {
            // Whoever checks the chain would stumble over it.
            let why = format!("an event of {} bytes is too long for it", bytes.len());
            return Err(failed(std::io::Error::other(why)));
        }
        let digest = hash(&bytes);
        bytes.push(b'\n');
        let before = tail.file.seek(SeekFrom::End(0)).map_err(failed)?;
        if let Err(error) = tail.file.write_all(&bytes).and_then(|()| tail.file.sync_data()) {
            // Half a line would break the chain for good; what cannot be written whole is taken back.
            let _ = tail.file.set_len(before);
            return Err(failed(error));
        }
        tail.seq += 1;
        tail.prev = digest;
        Ok(())
    }

    /// Number and digest of the last line: held elsewhere, it makes truncation visible.
    pub fn head(&self) -> (u64, String) {
        let tail = self.tail.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        (tail.seq, tail.prev.clone())
    }
}

/// Checks the chain of a log; gives its head.
///
/// # Errors
/// The first place where it is broken.
pub fn verify(log: impl Read) -> Result<(u64, String), Broken> {
    verify_with(log, None)
}

/// The same, with a head that was held elsewhere: the line of that number must be there and be that line.
///
/// # Errors
/// The first place where it is broken; the line after the last where lines are missing at the end.
pub fn verify_with(log: impl Read, head: Option<(u64, &str)>) -> Result<(u64, String), Broken> {
    let (mut seq, mut prev) = (0u64, String::new());
    let mut lines = BufReader::new(log);
    let mut line = Vec::new();
    loop {
        line.clear();
        let broken = |why: String| Broken { seq: seq + 1, why };
        let read =
            (&mut lines).take(MAX_LINE).read_until(b'\n', &mut line).map_err(|e| broken(e.to_string()))?;
        if read == 0 {
            return match head {
                Some((held, _)) if held > seq => {
                    Err(broken(format!("it is missing: there were {held} lines once")))
                }
                _ => Ok((seq, prev)),
            };
        }
        let content = line.strip_suffix(b"\n").ok_or_else(|| broken("it is cut off".to_owned()))?;
        let parsed: Line<serde_json::Value> =
            serde_json::from_slice(content).map_err(|e| broken(format!("it cannot be read: {e}")))?;
        if parsed.seq != seq + 1 {
            return Err(broken(format!("it says that it is number {}", parsed.seq)));
        }
        if parsed.prev != prev {
            return Err(broken("it does not follow from the line before".to_owned()));
        }
        (seq, prev) = (parsed.seq, hash(content));
        if head.is_some_and(|(held, digest)| held == seq && digest != prev) {
            return Err(Broken { seq, why: "it is not the line that it was".to_owned() });
        }
    }
}

fn hash(line: &[u8]) -> String {
    hex::encode(Sha256::digest(line))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log_of(n: usize) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit/log.jsonl");
        for _ in 0..n {
            // Opened anew each time: the chain goes on across restarts.
            Log::open(&path).unwrap().append(&Event::AgentStopped).unwrap();
        }
        (folder, path)
    }

    #[test]
    fn a_log_written_across_restarts_verifies() {
        let (_folder, path) = log_of(3);
        let (seq, head) = verify(File::open(&path).unwrap()).unwrap();
        assert_eq!((seq, head), Log::open(&path).unwrap().head());
    }

    #[test]
    fn an_event_too_long_to_be_checked_is_not_written() {
        let (_folder, path) = log_of(1);
        let log = Log::open(&path).unwrap();
        let version = "x".repeat(MAX_LINE as usize);
        assert!(log.append(&Event::AgentStarted { version }).is_err());
        log.append(&Event::AgentStopped).unwrap();
        assert_eq!(verify(File::open(&path).unwrap()).unwrap(), log.head());
    }

    #[test]
    fn a_changed_byte_a_missing_line_and_a_swap_are_found_by_number() {
        let (_folder, path) = log_of(4);
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        let join = |lines: &[&str]| lines.iter().map(|l| format!("{l}\n")).collect::<String>();
        let changed = text.replacen("agent_stopped", "agent_stoppeD", 1);
        assert_eq!(verify(changed.as_bytes()).unwrap_err().seq, 2);
        assert_eq!(verify(join(&[lines[0], lines[2], lines[3]]).as_bytes()).unwrap_err().seq, 2);
        assert_eq!(verify(join(&[lines[0], lines[2], lines[1], lines[3]]).as_bytes()).unwrap_err().seq, 2);
        assert_eq!(verify(&text.as_bytes()[..text.len() - 1]).unwrap_err().seq, 4);
        // What is missing at the end shows against a head that was held elsewhere, and so does a log written anew.
        let (seq, head) = verify(text.as_bytes()).unwrap();
        assert!(verify(join(&lines[..3]).as_bytes()).is_ok());
        assert_eq!(verify_with(join(&lines[..3]).as_bytes(), Some((seq, &head))).unwrap_err().seq, 4);
        assert_eq!(verify_with(text.as_bytes(), Some((2, &head))).unwrap_err().seq, 2);
        assert!(verify_with(text.as_bytes(), Some((seq, &head))).is_ok());
    }
}
