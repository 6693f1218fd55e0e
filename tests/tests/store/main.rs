//! What the agent's store promises: that what was acknowledged is there after a `kill -9` and after a power cut.
//!
//! `KEDGE_CUTS` sets the number of power cuts, 12 where it is not set.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "tests fail loudly")]

mod kill;
mod power_cut;

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};

use kedge_tests::rig::process::Guarded;

/// A process that writes and says what was acknowledged.
struct Writer {
    process: Guarded,
    acknowledged: BufReader<std::process::ChildStdout>,
    last: u64,
}

impl Writer {
    fn start(folder: &Path, flags: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_store-writer"));
        command.arg("write").args(flags).arg(folder).stdout(Stdio::piped());
        let mut process = Guarded::spawn(&mut command).expect("the writer starts");
        let stdout = process.child().stdout.take().expect("its output is a pipe");
        Self { process, acknowledged: BufReader::new(stdout), last: 0 }
    }

    /// Returns once `count` more commits were acknowledged.
    fn wait_for(&mut self, count: u64) {
        for _ in 0..count {
            let mut line = String::new();
            self.acknowledged.read_line(&mut line).expect("a readable pipe");
            self.last = line.trim().parse().expect("the writer goes on and says numbers");
        }
    }

    /// The highest number acknowledged by a writer that is held, so that everything it said is in the pipe.
    fn acknowledged_while_held(&mut self) -> u64 {
        while self.acknowledged.buffer().contains(&b'\n') || self.pipe_holds_something() {
            self.wait_for(1);
        }
        self.last
    }

    fn pipe_holds_something(&self) -> bool {
        rustix::io::ioctl_fionread(self.acknowledged.get_ref()).expect("it is a pipe") > 0
    }

    /// Kills it and returns the highest number that it had acknowledged.
    fn kill(mut self) -> u64 {
        self.process.kill().expect("it was running");
        let mut rest = String::new();
        self.acknowledged.read_to_string(&mut rest).expect("a readable pipe");
        // The last line may be cut short, and then says nothing.
        let whole = rest.rfind('\n').map_or("", |end| &rest[..end]);
        whole.lines().last().map_or(self.last, |line| line.parse().expect("a number"))
    }
}

/// The highest record that the store in this folder holds whole, or why it holds nothing one can rely on.
fn read(folder: &Path) -> Result<u64, String> {
    let output = Command::new(env!("CARGO_BIN_EXE_store-writer"))
        .arg("read")
        .arg(folder)
        .output()
        .expect("the reader starts");
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().parse().expect("a number"))
}
