//! A hub in the hands of somebody else, with every key that a hub has: what it may do is to be silent.

use kedge_bundle::support::tunnel::{self, PrivateKey};
use kedge_bundle::support::unverified;
use kedge_proto::support::v1::{Inspect, Open, frame, open};

use super::consent::give_secret;
use super::engine;
use kedge_tests::rig::support::{ASK, World};

#[test]
fn test_13_whoever_has_the_hub_and_all_its_keys_cannot_open_read_or_extend_a_session() {
    if !engine() {
        return;
    }
    let world = World::new(ASK);
    give_secret(&world, "hunter2-swordfish");
    // The hub's own keys sign nothing that counts.
    let (request, key) = world.document("inspect,logs");
    for theirs in ["fresh", "release", "licence"] {
        assert_eq!(world.send(&world.signed(&request, theirs)).state, "refused", "{theirs}");
    }
    // A good request, which the hub has seen: not before the customer says so.
    let file = world.signed(&request, "support");
    assert_eq!(world.send(&file).state, "requested");
    let grant = request.grant_id.clone();
    assert!(world.line(&grant).tunnel(&world, &file, &key).is_none());
    world.approve(&grant);
    // Approved: the hub comes in the engineer's place, with a key of its own, with rubbish, about another request.
    let (stranger, stranger_key) = PrivateKey::generate().unwrap();
    assert!(world.line(&grant).tunnel(&world, &file, &stranger).is_none());
    let mut line = world.line(&grant);
    line.put(&world, vec![0; 100]);
    assert!(line.get(&world).is_none());
    let mut changed = request.clone();
    changed.session_key = stranger_key;
    changed.terms.max_session_seconds = 3600;
    assert_eq!(
        world.send(&world.signed(&changed, "support")).state,
        "refused",
        "a grant's name is used once"
    );
    let mut line = world.line(&grant);
    let digest = unverified(&world.signed(&changed, "support")).unwrap().digest;
    let (_, first) = tunnel::open(&stranger, &request.host_key, digest).unwrap();
    line.put(&world, first);
    assert!(line.get(&world).is_none());
    assert_eq!(world.session(&grant)["state"], "approved");

    // The engineer comes; the hub passes everything on, and keeps it.
    let mut line = world.line(&grant);
    let mut tunnel = line.tunnel(&world, &file, &key).expect("the engineer is let in");
    assert!(matches!(line.hear(&world, &mut tunnel), Some(frame::Body::Welcome(_))));
    let what = Some(open::What::Inspect(Inspect {}));
    line.say(
        &world,
        &mut tunnel,
        frame::Body::Open(Open { channel: 1, target: world.service(), what, ..Open::default() }),
    );
    let mut said = Vec::new();
    loop {
        match line.hear(&world, &mut tunnel) {
            Some(frame::Body::Data(data)) => said.extend_from_slice(&data.bytes),
            Some(frame::Body::Exit(exit)) => break assert_eq!(exit.code, 0, "{exit:?}"),
            Some(_) => {}
            None => panic!("it ended: {}", world.host.log().tail()),
        }
    }
    let said = String::from_utf8(said).unwrap();
    assert!(said.contains("HELLO_VERSION"), "{said}");
    // A second line for the same grant is none.
    assert!(world.line(&grant).tunnel(&world, &file, &key).is_none());
    // What passed through is noise to whoever kept it.
    let kept = [line.seen.concat(), line.sent.concat()].concat();
    let has = |word: &str| kept.windows(word.len()).any(|part| part == word.as_bytes());
    assert!(!has("HELLO_VERSION") && !has(&world.name) && !has("running"));
    // One piece that is sent again, and it is over.
    let again = line.sent.last().unwrap().clone();
    let sent = line.sent.clone();
    line.put(&world, again);
    world.wait_for(&grant, "closed");
    assert_eq!(world.session(&grant)["reason"], "a message was tampered with on its way");
    // All of it again, from the first piece on.
    let mut line = world.line(&grant);
    for piece in sent {
        line.put(&world, piece);
    }
    assert!(line.get(&world).is_none());
    assert_eq!(world.send(&file).problem.unwrap().code, "KE-6406");
    assert_eq!(world.session(&grant)["state"], "closed");
    assert!(world.containers(&grant).is_empty());
}
