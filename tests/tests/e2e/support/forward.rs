//! Ports of services, brought to the engineer, and how much may be under way to the host.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::process::{Command, Stdio};

use super::engine;
use kedge_tests::rig::outcome::run;
use kedge_tests::rig::support::{ASK, World};

/// Bytes that go there and back: many windows.
const MANY: usize = 3 << 20;

fn get(address: SocketAddr) -> String {
    run(Command::new("curl").args(["--silent", "--max-time", "60", &format!("http://{address}/")]))
        .succeeded()
}

/// What comes back of what was sent, with the sending side shut after it.
fn there_and_back(address: SocketAddr, sent: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).unwrap();
    let mut writer = stream.try_clone().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            // One that is refused is closed before all of it is taken.
            let _ = writer.write_all(sent).and_then(|()| writer.shutdown(Shutdown::Write));
        });
        let mut back = Vec::new();
        let _ = stream.read_to_end(&mut back);
        back
    })
}

#[test]
fn a_port_that_was_granted_is_reached_and_no_other_and_all_of_it_is_recorded_and_ends() {
    if !engine() {
        return;
    }
    let world = World::new(ASK);
    let echo = world.put_beside("echo", &[], &["nc", "-ll", "-p", "7", "-e", "cat"]);
    let scopes = "forward:hello:8080,forward:hello:9,forward:echo:7";
    let (grant, mut held) = world.open(scopes, &["--max-bytes", "8000000"]);
    let (_forward, _, address) = world.forward(&grant, &world.service(), 8080);
    assert!(address.ip().is_loopback());
    std::thread::scope(|scope| {
        let both = [scope.spawn(|| get(address)), scope.spawn(|| get(address))];
        for said in both {
            let said = said.join().unwrap();
            assert!(said.contains("Hello"), "{said}");
        }
    });
    // More than fits any window, both ways at once, to the last byte.
    let (_echo, _, address) = world.forward(&grant, &echo, 7);
    let sent: Vec<u8> = (0..MANY).map(|at| (at / 7 % 251) as u8).collect();
    let back = there_and_back(address, &sent);
    assert!(back == sent, "{} of {MANY} bytes came back", back.len());
    // Nothing listens there; and another port was not granted, nor another service's.
    let (_closed, noted, address) = world.forward(&grant, &world.service(), 9);
    assert!(there_and_back(address, b"x").is_empty());
    noted.wait_for(0, |line| line.contains("KE-3016") && line.contains("refused")).unwrap();
    for (target, port) in [(&world.service(), 7), (&echo, 8080), (&world.name, 8080)] {
        let (_other, noted, address) = world.forward(&grant, target, port);
        assert!(there_and_back(address, b"x").is_empty());
        noted.wait_for(0, |line| line.contains("KE-6412")).unwrap();
    }
    // A connection that is open when the session ends goes with it, and so does whoever listens.
    let (mut forward, _, address) = world.forward(&grant, &echo, 7);
    let mut open = TcpStream::connect(address).unwrap();
    open.write_all(b"x").unwrap();
    let mut byte = [0; 1];
    open.read_exact(&mut byte).unwrap();
    assert_eq!(world.containers(&grant).len(), 1);
    world.host.kedge(&["support", "end", &grant]).succeeded();
    assert_eq!(open.read(&mut byte).unwrap_or(0), 0);
    held.wait_until_over();
    assert!(!forward.child().wait().unwrap().success());
    assert!(world.containers(&grant).is_empty());
    // When and how much is recorded, and not what.
    let out = world.host.path("exported");
    world.host.kedge(&["support", "export", &grant, &out.display().to_string()]).succeeded();
    let journal = std::fs::read_to_string(out.join(&grant).join("session.jsonl")).unwrap();
    let ends: Vec<serde_json::Value> = journal
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .filter(|line| line["event"] == "end" && line["in"].is_u64())
        .collect();
    assert!(ends.iter().any(|end| end["in"] == MANY && end["out"] == MANY), "{ends:?}");
    assert!(!journal.contains("Hello"), "{journal}");
}

#[test]
fn what_is_carried_counts_against_the_quota() {
    if !engine() {
        return;
    }
    let world = World::new(ASK);
    let echo = world.put_beside("echo", &[], &["nc", "-ll", "-p", "7", "-e", "cat"]);
    let (grant, mut held) = world.open("forward:echo:7", &["--max-bytes", "100000"]);
    let (_forward, _, address) = world.forward(&grant, &echo, 7);
    let sent = vec![b'x'; 1 << 20];
    let mut stream = TcpStream::connect(address).unwrap();
    let mut writer = stream.try_clone().unwrap();
    std::thread::spawn(move || writer.write_all(&sent));
    let mut back = Vec::new();
    let _ = stream.read_to_end(&mut back);
    assert!(back.len() <= 100_000, "{} bytes left", back.len());
    assert!(held.wait_until_over().contains("bytes"));
    world.wait_for(&grant, "closed");
    assert!(world.containers(&grant).is_empty());
}

#[test]
fn what_is_pasted_into_a_shell_that_does_not_read_yet_arrives_whole() {
    if !engine() {
        return;
    }
    let world = World::new(ASK);
    let (grant, _held) = world.open("shell", &["--max-bytes", "8000000"]);
    let mut command = world.engineer_command();
    command.args(["shell", &world.service(), "--session", &grant]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut shell = kedge_tests::rig::process::Guarded::spawn(&mut command).unwrap();
    let mut stdin = shell.child().stdin.take().unwrap();
    let said = kedge_tests::rig::lines::Lines::follow(shell.child().stdout.take().unwrap());
    stdin.write_all(b"stty -echo; echo ready-$((6*7)); sleep 3; wc -c\n").unwrap();
    said.wait_for(0, |line| line.contains("ready-42")).unwrap();
    let line = [&[b'x'; 99][..], b"\n"].concat();
    for _ in 0..10_000 {
        stdin.write_all(&line).unwrap();
    }
    // Its end is the end of what `wc` reads.
    drop(stdin);
    said.wait_for(0, |line| line.trim() == "1000000").unwrap();
    world.host.kedge(&["support", "end", &grant]).succeeded();
    assert_eq!(world.left(), "");
}
