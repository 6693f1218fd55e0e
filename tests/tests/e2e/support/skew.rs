//! An engineer's tool that is older or newer than the agent: what is not known is refused by name, and nothing else ends.

use std::io::Write as _;

use kedge_bundle::keys;
use kedge_bundle::roles::Role;
use kedge_bundle::sign;
use kedge_bundle::support::tunnel::Tunnel;
use kedge_proto::support::v1::{Data, Inspect, Open, Shell, frame, open};

use super::engine;
use kedge_tests::rig::support::{ASK, HubLine, World};

/// Until a channel ends: what it said, and its last word.
fn to_the_end(
    line: &mut HubLine,
    world: &World,
    tunnel: &mut Tunnel,
    channel: u32,
) -> (String, kedge_proto::support::v1::Exit) {
    let mut said = Vec::new();
    loop {
        match line.hear(world, tunnel) {
            Some(frame::Body::Data(data)) if data.channel == channel => said.extend_from_slice(&data.bytes),
            Some(frame::Body::Exit(exit)) if exit.channel == channel => {
                return (String::from_utf8(said).unwrap(), exit);
            }
            Some(_) => {}
            None => panic!("the session ended: {}", world.host.log().tail()),
        }
    }
}

fn inspect(channel: u32, world: &World) -> frame::Body {
    let what = Some(open::What::Inspect(Inspect {}));
    frame::Body::Open(Open { channel, target: world.service(), what, ..Open::default() })
}

#[test]
fn what_a_newer_tool_asks_for_is_refused_by_name_and_the_session_goes_on() {
    if !engine() {
        return;
    }
    let world = World::new(ASK);
    // A scope of the future makes a request that is refused, whoever signed it.
    let (request, _) = world.document("logs");
    let mut newer = serde_json::to_value(&request).unwrap();
    newer["terms"]["scopes"] = serde_json::json!(["logs", "teleport:hello:8080"]);
    let key = keys::read(&world.vendor.keys().join("support.pem"), || None).unwrap();
    let envelope = sign::envelope(Role::Support, serde_json::to_vec(&newer).unwrap(), &[&key]).unwrap();
    let refused = world.send(&envelope.encode());
    assert_eq!(refused.state, "refused");
    assert!(refused.message.contains("teleport:hello:8080"), "{refused:?}");

    let (request, key) = world.document("inspect");
    let file = world.signed(&request, "support");
    assert_eq!(world.send(&file).state, "requested");
    world.approve(&request.grant_id);
    let mut line = world.line(&request.grant_id);
    let mut tunnel = line.tunnel(&world, &file, &key).unwrap();
    assert!(matches!(line.hear(&world, &mut tunnel), Some(frame::Body::Welcome(_))));
    // A frame of the future, number 4711.
    let sealed = tunnel.seal(&[0xba, 0xa6, 0x02, 0x00]).unwrap();
    line.put(&world, sealed);
    let Some(frame::Body::Unknown(unknown)) = line.hear(&world, &mut tunnel) else { panic!("no answer") };
    assert_eq!(unknown.frame, 4711);
    // Something to do that has no name here but the one it gives itself.
    let teleport =
        Open { channel: 1, target: world.service(), what: None, called: "teleport\u{1b}[2J".to_owned() };
    line.say(&world, &mut tunnel, frame::Body::Open(teleport));
    let (_, exit) = to_the_end(&mut line, &world, &mut tunnel, 1);
    let problem = exit.problem.unwrap();
    assert!(problem.message.contains("`teleport[2J`") && !problem.message.contains('\u{1b}'), "{problem:?}");
    line.say(&world, &mut tunnel, inspect(2, &world));
    let (said, exit) = to_the_end(&mut line, &world, &mut tunnel, 2);
    assert!(exit.code == 0 && said.contains("running"), "{exit:?} {said}");
}

#[test]
fn a_tool_that_knows_of_no_window_types_as_before_and_one_that_floods_loses_the_channel_alone() {
    if !engine() {
        return;
    }
    let world = World::new(ASK);
    let (request, key) = world.document("shell,inspect");
    let file = world.signed(&request, "support");
    assert_eq!(world.send(&file).state, "requested");
    world.approve(&request.grant_id);
    let mut line = world.line(&request.grant_id);
    let mut tunnel = line.tunnel(&world, &file, &key).unwrap();
    let shell = |channel| {
        let what = Some(open::What::Shell(Shell { rows: 24, columns: 80 }));
        frame::Body::Open(Open { channel, target: world.service(), what, ..Open::default() })
    };
    let typed = |channel, text: &[u8]| {
        frame::Body::Data(Data { channel, stderr: false, bytes: text.to_vec().into() })
    };
    line.say(&world, &mut tunnel, shell(1));
    line.say(&world, &mut tunnel, typed(1, b"echo up-$((6*7))\nexit\n"));
    let (said, exit) = to_the_end(&mut line, &world, &mut tunnel, 1);
    assert!(exit.code == 0 && said.contains("up-42"), "{exit:?} {said}");
    // One that does not wait for what nobody reads.
    line.say(&world, &mut tunnel, shell(2));
    line.say(&world, &mut tunnel, typed(2, b"stty -echo -icanon; sleep 1000\n"));
    let mut flood = Vec::new();
    flood.write_all(&[b'x'; 16 << 10]).unwrap();
    for _ in 0..64 {
        line.say(&world, &mut tunnel, typed(2, &flood));
    }
    let (_, exit) = to_the_end(&mut line, &world, &mut tunnel, 2);
    assert_ne!(exit.code, 0, "{exit:?}");
    line.say(&world, &mut tunnel, inspect(3, &world));
    let (said, exit) = to_the_end(&mut line, &world, &mut tunnel, 3);
    assert!(exit.code == 0 && said.contains("running"), "{exit:?} {said}");
}
