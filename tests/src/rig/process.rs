//! Child processes that cannot outlive the test that started them, and that can be stopped in mid-air.

use std::io;
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

/// A child that is killed and reaped when this goes out of scope.
#[derive(Debug)]
pub struct Guarded(Child);

impl Guarded {
    /// Starts the command.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(command: &mut Command) -> io::Result<Self> {
        command.spawn().map(Self)
    }

    /// The child, for its pipes.
    pub fn child(&mut self) -> &mut Child {
        &mut self.0
    }

    /// Its process ID.
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// Holds every thread of the process where it is, and returns once they are held.
    ///
    /// # Errors
    /// When the process has ended.
    pub fn freeze(&self) -> io::Result<()> {
        let pid = self.pid()?;
        kill_process(pid, Signal::STOP)?;
        match waitpid(Some(pid), WaitOptions::UNTRACED)? {
            Some((_, status)) if status.stopped() => Ok(()),
            _ => Err(io::Error::other("the process ended instead of stopping")),
        }
    }

    /// Lets a held process go on.
    ///
    /// # Errors
    /// When the process has ended.
    pub fn thaw(&self) -> io::Result<()> {
        Ok(kill_process(self.pid()?, Signal::CONT)?)
    }

    /// Ends the process as a crash would: at once, with no last word.
    ///
    /// # Errors
    /// When it has ended already.
    pub fn kill(&mut self) -> io::Result<ExitStatus> {
        self.0.kill()?;
        self.0.wait()
    }

    /// Asks the process to end, as a service manager would, and waits until it has.
    ///
    /// # Errors
    /// When it has ended already.
    pub fn terminate(&mut self) -> io::Result<ExitStatus> {
        kill_process(self.pid()?, Signal::TERM)?;
        self.0.wait()
    }

    fn pid(&self) -> io::Result<Pid> {
        i32::try_from(self.0.id()).ok().and_then(Pid::from_raw).ok_or_else(|| io::Error::other("no such pid"))
    }
}

/// Memory that a process holds now, bytes; 0 when it has ended.
pub fn resident_memory(pid: u32) -> u64 {
    kibibytes(pid, "status", "VmRSS:")
}

/// Memory that a process holds now, with what it shares divided among those who share it, bytes; 0 when it has ended.
pub fn proportional_memory(pid: u32) -> u64 {
    kibibytes(pid, "smaps_rollup", "Pss:")
}

/// Forgets the most memory that a process has held: [`peak_memory`] begins at what it holds now.
///
/// # Panics
/// When it has ended, or is another user's.
pub fn forget_peak_memory(pid: u32) {
    // 5 resets VmHWM (proc_pid_clear_refs(5)).
    std::fs::write(format!("/proc/{pid}/clear_refs"), "5").expect("a process of this user");
}

/// The most memory that a process has held, bytes; 0 when it has ended.
pub fn peak_memory(pid: u32) -> u64 {
    kibibytes(pid, "status", "VmHWM:")
}

fn kibibytes(pid: u32, file: &str, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap_or_default();
    line.trim().trim_end_matches("kB").trim().parse().map_or(0, |kib: u64| kib * 1024)
}

/// Time on a processor that a process has used, in its own code and in the kernel.
pub fn processor_time(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name in brackets may hold spaces. Behind it, user and system time are the 12th and 13th, in ticks.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks: u64 = fields.iter().skip(11).take(2).filter_map(|f| f.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second().max(1))
}

impl Drop for Guarded {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
