//! What a support session costs: the echo of a key in a shell beside plain `docker exec`, and how fast logs come.

use std::io::{Read, Write};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use kedge_tests::rig::need::{self, Need};
use kedge_tests::rig::support::World;

/// Keys that are typed.
const KEYS: usize = 200;
/// Lines that are logged, and bytes of each.
const LINES: usize = 400_000;
const LINE: usize = 128;

/// `bench support`
pub(crate) fn main() -> ExitCode {
    if !need::met(&[Need::Engine]) {
        return ExitCode::FAILURE;
    }
    let world = World::new(
        "mode = 'ask'\nscopes = ['logs', 'shell']\nmax_bytes = 2000000000\nmax_session_seconds = 3600",
    );
    let name = &world.name;
    // A service that has said a lot.
    let text = "the quick brown fox jumps over the lazy dog ".repeat(3);
    let talk = format!("yes '{}' | head -n {LINES}; echo said; sleep 10000", &text[..LINE - 1]);
    let target = world.put_beside("talker", &[], &["sh", "-c", &talk]);
    let container = format!("{name}-talker");
    while !world.host.docker().run(&["logs", "--tail", "1", &container]).succeeded().contains("said") {
        std::thread::sleep(Duration::from_millis(200));
    }
    let (grant, _held) = world.open("logs,shell", &["--max-bytes", "2000000000", "--ttl", "1h"]);

    let mut shell = world.engineer_command();
    shell.args(["shell", &target, "--session", &grant]);
    let ours = echo(&mut shell);
    let mut exec = Command::new("docker");
    exec.args(["exec", "-i", &container, "cat"]);
    let theirs = echo(&mut exec);
    println!(
        "echo of a key, median of {KEYS}: {:.2} ms in a recorded session, {:.2} ms with docker exec: {:+.2} ms",
        ms(ours),
        ms(theirs),
        ms(ours) - ms(theirs)
    );

    let bytes = LINES * LINE;
    for (what, mut command) in [
        ("docker logs", {
            let mut command = Command::new("docker");
            command.args(["logs", &container]);
            command
        }),
        ("kedgectl support logs", {
            let mut command = world.engineer_command();
            command.args(["logs", &target, "--session", &grant]);
            command
        }),
    ] {
        let begun = Instant::now();
        let mut child = spawn(command.stderr(Stdio::null()));
        let read = std::io::copy(&mut child.stdout.take().expect("a pipe"), &mut std::io::sink())
            .expect("it is read");
        let _ = child.wait();
        let took = begun.elapsed().as_secs_f64();
        println!("{what}: {:.1} MB/s of log ({read} bytes in {took:.2} s)", bytes as f64 / 1e6 / took);
    }
    ExitCode::SUCCESS
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

fn spawn(command: &mut Command) -> Child {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts")
}

/// How long a line takes there and back, the median. `cat` answers with what it was told; so does a terminal.
fn echo(command: &mut Command) -> Duration {
    let mut child = spawn(command.stderr(Stdio::null()));
    let (mut to, mut from) = (child.stdin.take().expect("a pipe"), child.stdout.take().expect("a pipe"));
    let mut until = |byte: u8| {
        let mut got = [0; 1];
        while from.read(&mut got).expect("it answers") == 1 && got[0] != byte {}
    };
    // Whatever greets comes first: waited for by a key that nothing else says.
    to.write_all(b"cat\n~\n").expect("it takes keys");
    until(b'~');
    std::thread::sleep(Duration::from_millis(500));
    let mut took = Vec::with_capacity(KEYS);
    for key in (b'A'..=b'Z').cycle().take(KEYS) {
        let begun = Instant::now();
        to.write_all(&[key, b'\n']).expect("it takes keys");
        until(key);
        took.push(begun.elapsed());
        // Both the terminal and `cat` say it; the rest is not waited for.
        std::thread::sleep(Duration::from_millis(20));
    }
    let _ = child.kill();
    let _ = child.wait();
    took.sort();
    took[took.len() / 2]
}
