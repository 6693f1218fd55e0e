//! Every rule has a case here that fails when the rule is taken out.

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

use super::*;
use crate::admission::{Admission, AdmissionError};
use crate::roles::{Audience, MAX_FRESH_LIFE, PublicKey, Release};
use crate::sign::{self, Signer};
use crate::testing::{TestBundle, Vendor, key, now, sample};

mod roots;

/// Verifies the documents of a bundle on a host.
fn open(bundle: &TestBundle, trust: &Trust, context: &Context<'_>) -> Result<Verified, Refusal> {
    documents(&bundle.documents(), trust, context)
}

fn documents(documents: &Documents, trust: &Trust, context: &Context<'_>) -> Result<Verified, Refusal> {
    match Admission::open(documents, trust, context) {
        Ok(admission) => Ok(admission.verified().clone()),
        Err(AdmissionError::Refused(refusal)) => Err(refusal),
        Err(other) => panic!("not a refusal: {other}"),
    }
}

/// A host that has accepted release `seq`.
fn accepted(vendor: &Vendor, bundle: &TestBundle) -> Trust {
    let mut trust = vendor.trust();
    let verified = open(bundle, &trust, &vendor.context()).unwrap();
    trust.advance(&verified.advance);
    trust
}

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

#[test]
fn a_proper_release_is_verified_and_says_what_to_remember() {
    let vendor = Vendor::new("a");
    let bundle = vendor.bundle(7);
    let verified = open(&bundle, &vendor.trust(), &vendor.context()).unwrap();
    assert_eq!((verified.release.seq, verified.known), (7, false));
    let trust = accepted(&vendor, &bundle);
    assert_eq!(trust.counter("hello", "stable", 1).unwrap().seq, 7);
    assert_eq!(trust.root.as_ref().unwrap().version, 1);
    assert!(open(&bundle, &trust, &vendor.context()).unwrap().known);
}

/// Cases about the release: what is changed, and the refusal that must follow.
#[test]
fn releases_that_break_a_rule_are_refused_with_its_reason() {
    type Case = (&'static str, fn(&mut Release), &'static str);
    let cases: [Case; 19] = [
        ("digest of a root missing", |r| r.root.digests.clear(), "KE-2004"),
        ("wrong product", |r| r.product = "other".into(), "KE-2115"),
        ("wrong stream", |r| r.stream = "edge".into(), "KE-2116"),
        ("other sites", |r| r.audience = Audience::Sites(vec!["south".into()]), "KE-2117"),
        ("no site", |r| r.audience = Audience::Sites(vec![]), "KE-2117"),
        ("expired", |r| r.expires = time("2026-06-01T12:00:00Z"), "KE-2109"),
        ("newer format", |r| r.format = 2, "KE-2005"),
        ("format zero", |r| r.format = 0, "KE-2004"),
        ("sequence zero", |r| r.seq = 0, "KE-2004"),
        ("sequence at the end of numbers", |r| r.seq = u64::MAX, "KE-2004"),
        ("floor above itself", |r| r.min_seq = 8, "KE-2004"),
        ("expires before issued", |r| r.expires = time("2026-01-01T00:00:00Z"), "KE-2004"),
        ("product that is a path", |r| r.product = "../hello".into(), "KE-2004"),
        ("version with a control character", |r| r.version = "1\n2".into(), "KE-2004"),
        ("other index", |r| r.index.digest = Digest::of(b"x"), "KE-2106"),
        ("index of another size", |r| r.index.size += 1, "KE-2106"),
        ("other oci-layout", |r| r.oci_layout.digest = Digest::of(b"x"), "KE-2106"),
        ("other manifest.json", |r| r.manifest.digest = Digest::of(b"x"), "KE-2106"),
        ("other root", |r| r.root.digests[0] = Digest::of(b"x"), "KE-2106"),
    ];
    let vendor = Vendor::new("a");
    for (name, change, code) in cases {
        let bundle = vendor.bundle(7).resigned(Role::Release, &[&vendor.release_key], change);
        let refusal = open(&bundle, &vendor.trust(), &vendor.context()).expect_err(name);
        assert_eq!(crate::codes::Coded::code(&refusal).id, code, "{name}: {refusal}");
        assert!(!refusal.to_string().is_empty());
    }
    let sites = |r: &mut Release| r.audience = Audience::Sites(vec!["south".into(), "north".into()]);
    let bundle = vendor.bundle(7).resigned(Role::Release, &[&vendor.release_key], sites);
    open(&bundle, &vendor.trust(), &vendor.context()).unwrap();
    let nowhere = Context { site: None, ..vendor.context() };
    assert_eq!(open(&bundle, &vendor.trust(), &nowhere), Err(Refusal::WrongSite { site: None }));
}

#[test]
fn signatures_count_once_per_key_of_the_role_and_only_if_valid() {
    let vendor = Vendor::new("a");
    let stranger = key("stranger", 0);
    let sign_with = |signers: &[&dyn Signer]| vendor.bundle(7).resigned(Role::Release, signers, |_| {});
    for (name, signers) in [
        ("nobody", vec![]),
        ("a stranger", vec![&stranger as &dyn Signer]),
        ("a key of another role", vec![&vendor.fresh_key as &dyn Signer]),
        ("root keys", vec![&vendor.root_keys[0] as &dyn Signer, &vendor.root_keys[1]]),
    ] {
        let refusal = open(&sign_with(&signers), &vendor.trust(), &vendor.context()).expect_err(name);
        assert!(
            matches!(refusal, Refusal::Unsigned { document: Document::Release, have: 0, need: 1 }),
            "{name}"
        );
    }
    // One more signature that is nothing worth spoils nothing.
    let mut bundle = sign_with(&[&vendor.release_key, &stranger]);
    open(&bundle, &vendor.trust(), &vendor.context()).unwrap();
    let mut envelope = Envelope::parse(&bundle.envelope).unwrap();
    envelope.signatures.push(crate::envelope::Signature { keyid: "x".into(), sig: vec![1, 2, 3] });
    bundle.envelope = envelope.encode();
    open(&bundle, &vendor.trust(), &vendor.context()).unwrap();
}

#[test]
fn one_key_cannot_meet_a_threshold_of_two() {
    let mut vendor = Vendor::new("a");
    let second = key("a", 20);
    vendor.rotate(&[], |root| {
        root.roles.release.keys.push(PublicKey::new(&second.verifying_key(), None));
        root.roles.release.threshold = 2;
    });
    let mut bundle = vendor.bundle(7);
    let mut envelope = Envelope::parse(&bundle.envelope).unwrap();
    let mut twice = envelope.signatures[0].clone();
    envelope.signatures.push(twice.clone());
    // The same signature under the other key's name.
    twice.keyid = PublicKey::new(&second.verifying_key(), None).id();
    envelope.signatures.push(twice);
    bundle.envelope = envelope.encode();
    let refusal = open(&bundle, &vendor.trust(), &vendor.context()).unwrap_err();
    assert_eq!(refusal, Refusal::Unsigned { document: Document::Release, have: 1, need: 2 });
    let both = bundle.resigned(Role::Release, &[&vendor.release_key, &second], |_| {});
    open(&both, &vendor.trust(), &vendor.context()).unwrap();
}

/// Made by the holder of the key with the neutral element in place of a random point: lenient verifiers take it, for
/// other messages as well if the key is chosen for it.
#[test]
fn a_signature_that_only_lenient_verifiers_take_counts_for_nothing() {
    let vendor = Vendor::new("a");
    let made = "0100000000000000000000000000000000000000000000000000000000000000\
                273224397626756eeee1e6b3f1f120541255d3e4cbd36ce34d79dfff02088f0d";
    let sig = hex::decode(made).unwrap();
    let payload_type = Role::Release.payload_type().to_owned();
    let keyid = PublicKey::new(&vendor.release_key.verifying_key(), None).id();
    let signatures = vec![crate::envelope::Signature { keyid, sig: sig.clone() }];
    let envelope = Envelope { payload_type, payload: b"{}".to_vec(), signatures };
    let signature = ed25519_dalek::Signature::from_slice(&sig).unwrap();
    let lenient = ed25519_dalek::Verifier::verify(
        &vendor.release_key.verifying_key(),
        &envelope.signed_bytes(),
        &signature,
    );
    assert!(lenient.is_ok(), "the case is one");
    let refused = Refusal::Unsigned { document: Document::Release, have: 0, need: 1 };
    assert_eq!(signed(&vendor.roots[0], Role::Release, &envelope.encode()), Err(refused));
}

#[test]
fn a_document_of_one_role_never_passes_as_another() {
    let vendor = Vendor::new("a");
    for role in [Role::Root, Role::Fresh, Role::Licence, Role::Support] {
        let bundle = vendor.bundle(7).resigned(role, &[&vendor.release_key], |_| {});
        let refusal = open(&bundle, &vendor.trust(), &vendor.context()).unwrap_err();
        assert!(matches!(refusal, Refusal::PayloadType { document: Document::Release, .. }), "{role}");
    }
    // The type is under the signature: changing the label alone is no way either.
    let mut bundle = vendor.bundle(7).resigned(Role::Licence, &[&vendor.release_key], |_| {});
    let mut envelope = Envelope::parse(&bundle.envelope).unwrap();
    envelope.payload_type = Role::Release.payload_type().into();
    bundle.envelope = envelope.encode();
    let refusal = open(&bundle, &vendor.trust(), &vendor.context()).unwrap_err();
    assert!(matches!(refusal, Refusal::Unsigned { .. }));
}

#[test]
fn malformed_documents_are_refused_before_anything_is_believed() {
    let vendor = Vendor::new("a");
    let good = vendor.bundle(7).documents();
    let payload = |text: &str| {
        let signers = [&vendor.release_key as &dyn Signer];
        sign::envelope(Role::Release, text.as_bytes().to_vec(), &signers).unwrap().encode()
    };
    let zoned = serde_json::to_string(&vendor.bundle(7).release).unwrap();
    let zoned = zoned.replacen("Z\"", "+00:00\"", 1);
    let deep = format!("{{\"format\":1,\"x\":{}{}}}", "[".repeat(40), "]".repeat(40));
    for (name, release) in [
        ("not JSON", b"hello".to_vec()),
        ("empty", vec![]),
        ("bare payload", serde_json::to_vec(&vendor.bundle(7).release).unwrap()),
        ("too large", vec![b' '; crate::json::MAX_SIZE + 1]),
        ("key twice", payload(r#"{"format":1,"seq":1,"seq":2}"#)),
        ("too deep", payload(&deep)),
        ("field missing", payload(r#"{"format":1}"#)),
        ("no format", payload("{}")),
        ("number with a fraction", payload(r#"{"format":1.0}"#)),
        ("number with an exponent", payload(r#"{"format":1e0}"#)),
        ("negative number", payload(r#"{"format":-1}"#)),
        ("number beyond 64 bits", payload(r#"{"format":18446744073709551617}"#)),
        ("time in another zone", payload(&zoned)),
        ("number as text", payload(r#"{"format":"1"}"#)),
        ("bytes after the payload", payload(r#"{"format":1} x"#)),
        ("envelope as a list", br#"["application/vnd.kedge.release.v1+json","e30=",[]]"#.to_vec()),
        ("byte order mark", [b"\xef\xbb\xbf", good.release.as_slice()].concat()),
        ("bytes after the envelope", [good.release.as_slice(), b"{}"].concat()),
    ] {
        let refusal = documents(&Documents { release, ..good.clone() }, &vendor.trust(), &vendor.context());
        assert!(
            matches!(refusal, Err(Refusal::Malformed { document: Document::Release, .. })),
            "{name}: {refusal:?}"
        );
    }
    let mut value = serde_json::to_value(&vendor.bundle(7).release).unwrap();
    value["index"]["digest"] = "sha512:00".into();
    let release = payload(&value.to_string());
    let refusal =
        documents(&Documents { release, ..good.clone() }, &vendor.trust(), &vendor.context()).unwrap_err();
    assert!(refusal.to_string().contains("unknown hash algorithm"), "{refusal}");
    // Unknown fields are accepted.
    value["index"]["digest"] = vendor.bundle(7).release.index.digest.to_string().into();
    value["colour"] = "blue".into();
    let release = payload(&value.to_string());
    documents(&Documents { release, ..good }, &vendor.trust(), &vendor.context()).unwrap();
}

#[test]
fn numbers_only_rise_and_one_number_means_one_release() {
    let vendor = Vendor::new("a");
    let seven = vendor.bundle(7);
    let trust = accepted(&vendor, &seven);
    let context = vendor.context();
    assert_eq!(
        open(&vendor.bundle(6), &trust, &context).unwrap_err(),
        Refusal::Rollback { seq: 6, accepted: 7 }
    );
    let other =
        vendor.bundle(7).resigned(Role::Release, &[&vendor.release_key], |r| r.notes = Some("x".into()));
    assert!(matches!(open(&other, &trust, &context), Err(Refusal::Equivocation { seq: 7, .. })));
    open(&vendor.bundle(8), &trust, &context).unwrap();
    // Another stream counts by itself.
    let edge = vendor.bundle(6).resigned(Role::Release, &[&vendor.release_key], |r| r.stream = "edge".into());
    open(&edge, &trust, &Context { stream: Some("edge"), ..context }).unwrap();
}

#[test]
fn a_signed_again_release_is_the_same_release() {
    let mut vendor = Vendor::new("a");
    let second = key("a", 20);
    vendor.rotate(&[], |root| root.roles.release.keys.push(PublicKey::new(&second.verifying_key(), None)));
    let mut bundle = vendor.bundle(7);
    let trust = accepted(&vendor, &bundle);
    bundle.envelope = sign::add_to(Role::Release, &bundle.envelope, &second).unwrap();
    assert!(open(&bundle, &trust, &vendor.context()).unwrap().known);
}

#[test]
fn the_highest_floor_holds_for_installing_and_for_going_back() {
    let vendor = Vendor::new("a");
    let floor = |seq, min_seq| {
        vendor.bundle(seq).resigned(Role::Release, &[&vendor.release_key], |r| r.min_seq = min_seq)
    };
    let mut trust = accepted(&vendor, &floor(9, 8));
    let next = open(&floor(10, 2), &trust, &vendor.context()).unwrap();
    trust.advance(&next.advance);
    assert_eq!(open(&floor(7, 0), &trust, &vendor.context()), Err(Refusal::BelowFloor { seq: 7, floor: 8 }));
    assert_eq!(trust.may_return_to("hello", "stable", 7), Err(Refusal::BelowFloor { seq: 7, floor: 8 }));
    trust.may_return_to("hello", "stable", 8).unwrap();
}

#[test]
fn expiry_blocks_the_new_and_not_what_was_accepted_or_begun() {
    let vendor = Vendor::new("a");
    let bundle = vendor.bundle(7);
    let late = Context { now: time("2027-05-01T00:00:00Z"), ..vendor.context() };
    assert!(matches!(open(&bundle, &vendor.trust(), &late), Err(Refusal::ReleaseExpired { .. })));
    open(&bundle, &accepted(&vendor, &bundle), &late).unwrap();
    open(&bundle, &vendor.trust(), &Context { begun: Some(bundle.digest()), ..late.clone() }).unwrap();
    let other = Context { begun: Some(Digest::of(b"x")), ..late };
    assert!(open(&bundle, &vendor.trust(), &other).is_err());
}

#[test]
fn a_fresh_statement_is_held_to_its_rules() {
    let vendor = Vendor::new("a");
    let (five, six) = (vendor.bundle(5), vendor.bundle(6));
    let roots = |trust: &Trust| super::roots(trust, &vendor.envelopes).unwrap();
    let check = |trust: &Trust, document: &[u8], now: Timestamp| {
        fresh(trust, &Context::at(now), &roots(trust), document)
    };
    let earlier = now() - SignedDuration::from_hours(1);
    let mut trust = vendor.trust();
    let verified = check(&trust, &vendor.fresh(now(), &[&six]), now()).unwrap();
    trust.advance(&verified.advance);

    let refused = |document: &[u8], now| check(&trust, document, now).unwrap_err();
    let twice = vendor.fresh(now(), &[&six]);
    let mut twice: Fresh = json_of(&twice);
    twice.streams.push(twice.streams[0].clone());
    let payload = serde_json::to_vec(&twice).unwrap();
    let twice = sign::envelope(Role::Fresh, payload, &[&vendor.fresh_key]).unwrap().encode();
    assert!(refused(&twice, now()).to_string().contains("listed twice"));
    assert!(matches!(refused(&vendor.fresh(earlier, &[&six]), now()), Refusal::FreshRollback { .. }));
    assert!(matches!(refused(&vendor.fresh(now(), &[&five]), now()), Refusal::FreshRollback { .. }));
    let late = now() + SignedDuration::from_hours(72);
    assert!(matches!(refused(&vendor.fresh(now(), &[&six]), late), Refusal::FreshExpired { .. }));
    for (life, good) in [(MAX_FRESH_LIFE, true), (MAX_FRESH_LIFE + SignedDuration::from_secs(1), false)] {
        let statement = Fresh { format: 1, issued: now(), expires: now() + life, streams: vec![] };
        let payload = serde_json::to_vec(&statement).unwrap();
        let long = sign::envelope(Role::Fresh, payload, &[&vendor.fresh_key]).unwrap().encode();
        assert_eq!(check(&trust, &long, now()).is_ok(), good, "{life:?}");
    }
    for (hours, good) in [(24, true), (25, false)] {
        let future = now() + SignedDuration::from_hours(hours);
        let outcome = check(&trust, &vendor.fresh(future, &[&six]), now());
        assert_eq!(outcome.is_ok(), good, "{hours}");
        assert!(good || matches!(outcome, Err(Refusal::FreshFuture { .. })));
    }
    let end = time("2028-01-01T00:00:00Z");
    let statement = vendor.fresh(end - SignedDuration::from_hours(1), &[&six]);
    assert!(matches!(refused(&statement, end), Refusal::RootExpired { version: 1, .. }));
    let mut other =
        vendor.bundle(6).resigned(Role::Release, &[&vendor.release_key], |r| r.notes = Some("x".into()));
    assert!(matches!(refused(&vendor.fresh(now(), &[&other]), now()), Refusal::Equivocation { seq: 6, .. }));
    // Left out once and listed again below: the number is remembered.
    let mut gap = trust.clone();
    gap.advance(&check(&trust, &vendor.fresh(now(), &[]), now()).unwrap().advance);
    assert!(matches!(check(&gap, &vendor.fresh(now(), &[&five]), now()), Err(Refusal::FreshRollback { .. })));
    // A statement about an accepted release under another content.
    let mut host = accepted(&vendor, &six);
    other.release.seq = 6;
    assert!(matches!(
        check(&host, &vendor.fresh(now(), &[&other]), now()),
        Err(Refusal::Equivocation { seq: 6, .. })
    ));
    host.advance(&check(&host, &vendor.fresh(now(), &[&six]), now()).unwrap().advance);
    // Signed by the release key instead of the fresh key.
    let mut thief = vendor.clone();
    thief.fresh_key = vendor.release_key.clone();
    assert!(matches!(
        refused(&thief.fresh(now(), &[&six]), now()),
        Refusal::Unsigned { document: Document::Fresh, .. }
    ));
    assert!(matches!(refused(&six.envelope, now()), Refusal::PayloadType { document: Document::Fresh, .. }));
}

fn json_of<T: serde::de::DeserializeOwned>(document: &[u8]) -> T {
    serde_json::from_slice(&Envelope::parse(document).unwrap().payload).unwrap()
}

#[test]
fn a_document_is_looked_at_only_if_it_is_small_enough() {
    let vendor = Vendor::new("a");
    let good = vendor.bundle(7).documents();
    let large = vec![b' '; crate::json::MAX_SIZE + 1];
    for (name, large) in [
        ("manifest.json", Documents { manifest: large.clone(), ..good.clone() }),
        ("oci-layout", Documents { oci_layout: large, ..good }),
    ] {
        let refusal = documents(&large, &vendor.trust(), &vendor.context()).expect_err(name);
        assert!(matches!(refusal, Refusal::Malformed { .. }), "{name}: {refusal}");
    }
}

#[test]
fn on_the_tether_only_the_listed_release_is_taken() {
    let vendor = Vendor::new("a");
    let (five, six) = (vendor.bundle(5), vendor.bundle(6));
    let mut trust = vendor.trust();
    let roots = super::roots(&trust, &vendor.envelopes).unwrap();
    let statement = fresh(&trust, &Context::at(now()), &roots, &vendor.fresh(now(), &[&six])).unwrap();
    let tether = Context { fresh: Some(&statement.fresh), ..vendor.context() };
    open(&six, &trust, &tether).unwrap();
    assert_eq!(open(&five, &trust, &tether), Err(Refusal::NotListed { seq: 5, newest: 6 }));
    assert_eq!(open(&vendor.bundle(7), &trust, &tether), Err(Refusal::NotListed { seq: 7, newest: 6 }));
    let twin =
        vendor.bundle(6).resigned(Role::Release, &[&vendor.release_key], |r| r.notes = Some("x".into()));
    assert!(matches!(open(&twin, &trust, &tether), Err(Refusal::Equivocation { .. })));
    // From a file later on: older than listed is allowed, another content under the listed number is not.
    trust.advance(&statement.advance);
    open(&five, &trust, &vendor.context()).unwrap();
    assert!(matches!(open(&twin, &trust, &vendor.context()), Err(Refusal::Equivocation { .. })));
}

#[test]
fn what_is_remembered_survives_its_own_text() {
    let vendor = Vendor::new("a");
    let trust = accepted(&vendor, &vendor.bundle(3));
    let text = serde_json::to_string(&trust).unwrap();
    assert_eq!(serde_json::from_str::<Trust>(&text).unwrap(), trust);
    let mut damaged = trust.root.unwrap();
    damaged.fingerprint = Digest::of(b"x");
    assert!(damaged.document().is_err());
}

proptest! {
    /// In whatever order verifications end, what is remembered is the highest of each.
    #[test]
    fn remembering_only_rises(order in Just((1_u64..=6).collect::<Vec<_>>()).prop_shuffle()) {
        let vendor = Vendor::new("a");
        let start = vendor.trust();
        let mut trust = start.clone();
        for seq in order {
            let draft = sample(seq);
            let bundle = vendor.bundle_with(draft, |r| r.min_seq = r.seq / 2);
            trust.advance(&open(&bundle, &start, &vendor.context()).unwrap().advance);
        }
        let counter = trust.counter("hello", "stable", 1).unwrap();
        prop_assert_eq!((counter.seq, counter.min_seq), (6, 3));
    }

    #[test]
    fn arbitrary_documents_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let vendor = Vendor::new("a");
        let _ = roots(&vendor.trust(), std::slice::from_ref(&bytes));
        let good = vendor.bundle(1).documents();
        let _ = documents(&Documents { release: bytes, ..good }, &vendor.trust(), &vendor.context());
    }
}
