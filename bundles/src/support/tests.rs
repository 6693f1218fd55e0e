use super::approval::{Approval, Decision, NoApproval};
use super::testing::request;
use super::tunnel::{Broken, PrivateKey};
use super::*;
use crate::roles::PublicKey;
use crate::testing::{Vendor, key, now};

#[test]
fn a_request_is_read_only_as_the_support_key_signed_it() {
    let vendor = Vendor::new("support");
    let root = vendor.roots.last().unwrap();
    let good = request(&vendor, now());
    let file = good.sign(&[&vendor.support_key]).unwrap();
    assert_eq!(read(root, &file).unwrap().request, good);
    assert_eq!(claimed_grant(&file), Some(good.grant_id.clone()));

    let other_key = good.sign(&[&vendor.licence_key]).unwrap();
    assert!(matches!(read(root, &other_key), Err(Refusal::Unsigned { .. })));
    let nobody = good.sign(&[]).unwrap();
    assert!(matches!(read(root, &nobody), Err(Refusal::Unsigned { .. })));
    let mut envelope = Envelope::parse(&file).unwrap();
    let at = envelope.payload.windows(5).position(|part| part == b"\"ada\"").unwrap();
    envelope.payload[at + 1] = b'b';
    assert!(matches!(read(root, &envelope.encode()), Err(Refusal::Unsigned { .. })));
    let mut as_licence = Envelope::parse(&file).unwrap();
    as_licence.payload_type = Role::Licence.payload_type().into();
    assert!(matches!(read(root, &as_licence.encode()), Err(Refusal::PayloadType { .. })));
    assert!(read(root, &vec![b' '; MAX_FILE + 1]).is_err());
    let stranger = Request { key_id: "00".repeat(32), ..good };
    assert!(matches!(
        read(root, &stranger.sign(&[&vendor.support_key]).unwrap()),
        Err(Refusal::Malformed { .. })
    ));
}

#[test]
fn a_request_that_breaks_a_rule_or_says_more_than_is_known_is_refused() {
    let vendor = Vendor::new("support");
    let good = request(&vendor, now());
    let broken: [fn(&mut Request); 8] = [
        |r| r.format = 2,
        |r| r.grant_id = "x".into(),
        |r| r.host_key = "AA".repeat(32),
        |r| r.engineer.clear(),
        |r| r.reason = "a\nb".into(),
        |r| r.terms.scopes.clear(),
        |r| r.not_after = r.issued,
        |r| r.not_after = r.issued + jiff::SignedDuration::from_hours(8 * 24),
    ];
    for (number, change) in broken.iter().enumerate() {
        let mut request = good.clone();
        change(&mut request);
        assert!(request.check().is_err(), "{number}");
    }
    let mut value = serde_json::to_value(&good).unwrap();
    value["also"] = "a second purpose".into();
    let payload = serde_json::to_vec(&value).unwrap();
    assert!(parsed(&payload).is_err());
}

#[test]
fn an_approval_is_read_only_as_an_approver_signed_it() {
    let vendor = Vendor::new("support");
    let file = request(&vendor, now()).sign(&[&vendor.support_key]).unwrap();
    let read = unverified(&file).unwrap();
    let (pem, public) = approval::new_key(&zeroize::Zeroizing::new([7; 32])).unwrap();
    let approvers = [PublicKey { scheme: "ed25519".into(), public, name: Some("officer".into()) }];
    let answer = Approval::new(&read, Decision::Approve, "bea", read.request.terms.clone(), now());
    let signed = approval::sign(&answer, &pem).unwrap();
    assert_eq!(approval::read(&approvers, &signed).unwrap(), (answer, "officer".to_owned()));
    let others = [PublicKey::new(&key("a", 1).verifying_key(), None)];
    assert_eq!(approval::read(&others, &signed), Err(NoApproval::Unsigned));
    assert_eq!(approval::read(&[], &signed), Err(NoApproval::Unsigned));
    // A request is no approval, whoever signed it.
    let vendors = [PublicKey::new(&vendor.support_key.verifying_key(), None)];
    assert!(matches!(approval::read(&vendors, &file), Err(NoApproval::Malformed(_))));
    assert!(matches!(
        approval::sign(
            &Approval { terms: read.request.terms.clone(), ..approval::read(&approvers, &signed).unwrap().0 },
            "no key"
        ),
        Err(NoApproval::Key(_))
    ));
}

/// Both ends of a tunnel about one request.
fn tunnel() -> (tunnel::Tunnel, tunnel::Tunnel) {
    let (engineer, session_key) = PrivateKey::generate().unwrap();
    let (host, host_key) = PrivateKey::generate().unwrap();
    let digest = Digest::of(b"request");
    let (opening, first) = tunnel::open(&engineer, &host_key, digest).unwrap();
    let (theirs, answer) = tunnel::accept(&host, &session_key, digest, &first).unwrap();
    (opening.complete(&answer).unwrap(), theirs)
}

#[test]
fn a_tunnel_carries_both_ways_and_nothing_that_was_tampered_with() {
    let (mut engineer, mut host) = tunnel();
    let long = vec![7; tunnel::MAX_CONTENT];
    for content in [b"hello".to_vec(), Vec::new(), long] {
        let sealed = engineer.seal(&content).unwrap();
        assert_eq!(host.unseal(&sealed).unwrap(), content);
        let sealed = host.seal(&content).unwrap();
        assert_eq!(engineer.unseal(&sealed).unwrap(), content);
    }
    assert_eq!(engineer.seal(&vec![0; tunnel::MAX_CONTENT + 1]), Err(Broken::Length));

    let changed = |how: fn(&mut Vec<Vec<u8>>)| {
        let (mut engineer, mut host) = tunnel();
        let mut messages: Vec<_> = (0..3).map(|n| engineer.seal(&[n; 20]).unwrap()).collect();
        how(&mut messages);
        messages.iter().map(|message| host.unseal(message)).collect::<Result<Vec<_>, _>>().is_err()
    };
    assert!(!changed(|_| {}));
    assert!(changed(|m| m.swap(0, 1)), "reordered");
    assert!(changed(|m| m[1] = m[0].clone()), "replayed");
    assert!(changed(|m| drop(m.remove(0))), "left out");
    assert!(changed(|m| m[2][3] ^= 1), "changed");
    assert!(changed(|m| m[2].truncate(4)), "cut");
    let (mut a, _) = tunnel();
    let (_, mut b) = tunnel();
    assert_eq!(b.unseal(&a.seal(b"x").unwrap()), Err(Broken::Message), "another tunnel's");
}

#[test]
fn a_tunnel_opens_only_between_the_two_keys_and_about_the_one_request() {
    let (engineer, session_key) = PrivateKey::generate().unwrap();
    let (host, host_key) = PrivateKey::generate().unwrap();
    let (hub, hub_key) = PrivateKey::generate().unwrap();
    let (one, other) = (Digest::of(b"one"), Digest::of(b"other"));
    let first = |own: &PrivateKey, to: &str| tunnel::open(own, to, one).unwrap();
    assert!(tunnel::accept(&host, &session_key, one, &first(&hub, &host_key).1).is_err(), "not the engineer");
    assert!(
        tunnel::accept(&host, &session_key, other, &first(&engineer, &host_key).1).is_err(),
        "another request"
    );
    assert!(tunnel::accept(&hub, &session_key, one, &first(&engineer, &host_key).1).is_err(), "not the host");
    assert!(tunnel::accept(&host, &session_key, one, b"rubbish").is_err());
    // The hub answers in the host's place with its own key.
    let (opening, _) = first(&engineer, &host_key);
    let (_, message) = first(&engineer, &hub_key);
    let (_, answer) = tunnel::accept(&hub, &session_key, one, &message).unwrap();
    assert!(opening.complete(&answer).is_err());
    assert!(PrivateKey::from_hex("ab").is_err());
}
