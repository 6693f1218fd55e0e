//! What a support session costs: the echo of a key in a shell beside plain `docker exec`, and how fast logs and the output of
//! a command come, beside Docker's own.

use std::io::{Read, Write};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use kedge_tests::rig::need::{self, Need};
use kedge_tests::rig::support::World;

/// Keys that are typed.
const KEYS: usize = 200;
/// Bytes that are logged, each time in lines of so many: engines take their time for each line.
const LOGGED: usize = 51_200_000;
const LINES: [usize; 2] = [128, 1024];
/// Bytes that a command says, which no log of the engine's holds up, in lines of the first length.
const SAID: usize = 204_800_000;
/// Each is measured so many times, in turns; what is printed is the median.
const ROUNDS: usize = 3;

/// `bench support`
pub(crate) fn main() -> ExitCode {
    if !need::met(&[Need::Engine]) {
        return ExitCode::FAILURE;
    }
    let say = ["sh".to_owned(), "-c".to_owned(), talk(SAID, LINES[0])];
    let run = format!("run:sh -c \"{}\"", say[2]);
    let world = World::new(&format!(
        "mode = 'ask'\nscopes = ['logs', 'shell', {}]\nmax_bytes = 20000000000\nmax_session_seconds = 3600",
        serde_json::to_string(&run).expect("it is text")
    ));
    let name = &world.name;
    // Services that have said a lot, of which this engine is not to forget anything, as it else may be told to.
    let keep = ["--log-driver", "json-file", "--log-opt", "max-size=1g", "--log-opt", "max-file=1"];
    let talkers = LINES.map(|line| {
        let talk = format!("{}; echo said; exec sleep 10000", talk(LOGGED, line));
        let target = world.put_beside(&format!("talker{line}"), &keep, &["sh", "-c", &talk]);
        let container = format!("{name}-talker{line}");
        while !world.host.docker().run(&["logs", "--tail", "1", &container]).succeeded().contains("said") {
            std::thread::sleep(Duration::from_millis(200));
        }
        (line, target, container)
    });
    let scopes = format!("logs,shell,{run}");
    let (grant, _held) = world.open(&scopes, &["--max-bytes", "20000000000", "--ttl", "1h"]);
    let (_, target, container) = &talkers[0];

    let mut shell = world.engineer_command();
    shell.args(["shell", target, "--session", &grant]);
    let ours = echo(&mut shell);
    let mut exec = Command::new("docker");
    exec.args(["exec", "-i", container, "cat"]);
    let theirs = echo(&mut exec);
    println!(
        "echo of a key, median of {KEYS}: {:.2} ms in a recorded session, {:.2} ms with docker exec: {:+.2} ms",
        ms(ours),
        ms(theirs),
        ms(ours) - ms(theirs)
    );

    for (line, target, container) in &talkers {
        let lines = LOGGED / line + 1;
        let mut docker = Command::new("docker");
        docker.args(["logs", container]);
        let mut session = world.engineer_command();
        session.args(["logs", target, "--session", &grant]);
        let label = format!("talker{line}-1 | ").len();
        let logged = LOGGED + "said\n".len();
        let what = format!("logs, lines of {line} bytes");
        compare(&what, logged, (&mut docker, logged), (&mut session, logged + lines * label));
    }
    let mut docker = Command::new("docker");
    docker.args(["exec", container]).args(&say);
    let mut session = world.engineer_command();
    session.args(["run", target, "--session", &grant, "--"]).args(&say);
    compare("a command's output", SAID, (&mut docker, SAID), (&mut session, SAID));
    ExitCode::SUCCESS
}

/// A command of a shell that says so many bytes in lines of this length.
fn talk(bytes: usize, line: usize) -> String {
    let text = "the quick brown fox jumps over the lazy dog ".repeat(line / 40 + 1);
    format!("yes '{}' | head -n {}", &text[..line - 1], bytes / line)
}

/// How fast so many bytes come from each, which must be so many with what it adds: the medians.
fn compare(what: &str, bytes: usize, docker: (&mut Command, usize), session: (&mut Command, usize)) {
    let mut sides = [(docker, Vec::new()), (session, Vec::new())];
    for _ in 0..ROUNDS {
        for ((command, expected), took) in &mut sides {
            took.push(read_all(command, *expected));
        }
    }
    let [docker, session] = sides.map(|(_, mut took)| {
        took.sort_by(f64::total_cmp);
        bytes as f64 / 1e6 / took[took.len() / 2]
    });
    println!(
        "{what}, {:.1} MB, median of {ROUNDS}: {session:.1} MB/s in a recorded session, {docker:.1} MB/s with docker: {:.2}x",
        bytes as f64 / 1e6,
        session / docker
    );
}

/// Seconds until all of a command's output has been read. What is printed here is only worth something if all of it came.
fn read_all(command: &mut Command, expected: usize) -> f64 {
    let begun = Instant::now();
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it starts");
    let mut from = child.stdout.take().expect("a pipe");
    let (mut buffer, mut read) = (vec![0; 1 << 20], 0);
    loop {
        match from.read(&mut buffer).expect("it is read") {
            0 => break,
            more => read += more,
        }
    }
    let ended = child.wait().expect("it ends");
    let took = begun.elapsed().as_secs_f64();
    assert!(ended.success(), "{command:?} ended with {ended}");
    assert_eq!(read, expected, "bytes of {command:?}");
    took
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
