//! The chain of roots: what breaks it, and what it must survive.

use ed25519_dalek::SigningKey;

use super::*;

#[test]
fn broken_root_chains_are_refused_with_their_reason() {
    type Case = (&'static str, fn(&mut Vendor), &'static str);
    let cases: [Case; 13] = [
        ("other vendor", |v| *v = Vendor::new("b"), "KE-2102"),
        ("first root unsigned", |v| strip(&mut v.envelopes[0], 0), "KE-2101"),
        ("first root signed by too few", |v| strip(&mut v.envelopes[0], 1), "KE-2101"),
        ("first root is no root", |v| v.envelopes[0] = b"{}".to_vec(), "KE-2004"),
        ("rotated without the old keys", |v| rotate(v, 1, |_| {}, &[]), "KE-2101"),
        ("rotated without the new keys", |v| rotate(v, 0, |r| r.roles.root = other_root(2), &[]), "KE-2101"),
        ("threshold raised and not met", |v| rotate(v, 0, |r| r.roles.root.threshold = 3, &[]), "KE-2101"),
        (
            "threshold lowered, old one not met",
            |v| rotate(v, 1, |r| r.roles.root.threshold = 1, &[]),
            "KE-2101",
        ),
        ("version skipped", |v| rotate(v, 0, |r| r.version = 3, &[]), "KE-2103"),
        ("version repeated", |v| rotate(v, 0, |r| r.version = 1, &[]), "KE-2103"),
        ("epoch falls", |v| rotate(v, 0, |r| r.epoch = 0, &[]), "KE-2103"),
        ("expired", |v| rotate(v, 0, |r| r.expires = now(), &[]), "KE-2110"),
        ("newer format", |v| rotate(v, 0, |r| r.format = 2, &[]), "KE-2005"),
    ];
    let trust = Vendor::new("a").trust();
    for (name, change, code) in cases {
        let mut vendor = Vendor::new("a");
        change(&mut vendor);
        let bundle = vendor.bundle(7);
        let refusal = open(&bundle, &trust, &vendor.context()).expect_err(name);
        assert_eq!(crate::codes::Coded::code(&refusal).id, code, "{name}: {refusal}");
    }
}

/// Leaves only `count` signatures.
fn strip(envelope: &mut Vec<u8>, count: usize) {
    let mut parsed = Envelope::parse(envelope).unwrap();
    parsed.signatures.truncate(count);
    *envelope = parsed.encode();
}

fn other_root(threshold: u32) -> RoleKeys {
    let keys = (30..33).map(|number| PublicKey::new(&key("a", number).verifying_key(), None)).collect();
    RoleKeys { keys, threshold }
}

/// A second root, not necessarily a valid one, with the signatures of `missing` old keys left out.
fn rotate(vendor: &mut Vendor, missing: usize, change: fn(&mut Root), also: &[&SigningKey]) {
    let mut root = vendor.roots[0].clone();
    root.version = 2;
    change(&mut root);
    let mut signers: Vec<&dyn Signer> = vec![&vendor.root_keys[0], &vendor.root_keys[1]];
    signers.truncate(2 - missing);
    signers.extend(also.iter().map(|key| *key as &dyn Signer));
    let payload = serde_json::to_vec(&root).unwrap();
    vendor.envelopes.push(sign::envelope(Role::Root, payload, &signers).unwrap().encode());
}

#[test]
fn impossible_roots_are_refused() {
    type Case = (&'static str, fn(&mut Root), &'static str);
    let cases: [Case; 9] = [
        (
            "more keys than are counted",
            |r| {
                let many = (1000..1065).map(|number| key("a", number).verifying_key());
                r.roles.release.keys = many.map(|key| PublicKey::new(&key, None)).collect();
            },
            "too many keys",
        ),
        ("key twice", |r| r.roles.release.keys.push(r.roles.release.keys[0].clone()), "twice"),
        ("too few keys", |r| r.roles.release.threshold = 2, "threshold of 2 with 1"),
        ("threshold of zero", |r| r.roles.release.threshold = 0, "threshold of 0"),
        ("unknown scheme", |r| r.roles.release.keys[0].scheme = "rsa".into(), "scheme"),
        ("not a point", |r| r.roles.release.keys[0].public = "02".repeat(32), "point"),
        ("weak key", |r| r.roles.release.keys[0].public = format!("01{}", "00".repeat(31)), "weak"),
        ("not hexadecimal", |r| r.roles.release.keys[0].public = "../".into(), "hexadecimal"),
        ("never valid", |r| r.expires = r.issued, "not after"),
    ];
    for (name, change, reason) in cases {
        let mut vendor = Vendor::new("a");
        rotate(&mut vendor, 0, change, &[]);
        let refusal = roots(&vendor.trust(), &vendor.envelopes).expect_err(name);
        assert!(refusal.to_string().contains(reason), "{name}: {refusal}");
    }
    for role in Role::ALL {
        let vendor = Vendor::new("a");
        let mut value = serde_json::to_value(&vendor.roots[0]).unwrap();
        value["roles"].as_object_mut().unwrap().remove(role.name());
        let signers = [&vendor.root_keys[0] as &dyn Signer, &vendor.root_keys[1]];
        let envelope = sign::envelope(Role::Root, value.to_string().into_bytes(), &signers).unwrap().encode();
        let refusal = roots(&vendor.trust(), &[envelope]).unwrap_err();
        assert!(refusal.to_string().contains(role.name()), "{role} removed: {refusal}");
    }
    let vendor = Vendor::new("a");
    assert_eq!(roots(&vendor.trust(), &[]), Err(Refusal::RootCount(0)));
    let many = vec![vendor.envelopes[0].clone(); MAX_ROOTS + 1];
    assert_eq!(roots(&vendor.trust(), &many), Err(Refusal::RootCount(MAX_ROOTS + 1)));
}

#[test]
fn root_keys_can_be_replaced_step_by_step_and_skipped_by_a_host_that_was_away() {
    let mut vendor = Vendor::new("a");
    let away = accepted(&vendor, &vendor.bundle(1));
    for round in 1..=5 {
        let new: Vec<_> = (0..3).map(|number| key("a", 100 * round + number)).collect();
        let listed = new.iter().map(|key| PublicKey::new(&key.verifying_key(), None)).collect();
        vendor.rotate(&[&new[0], &new[1]], |root| root.roles.root.keys = listed);
        vendor.root_keys = new;
    }
    let verified = open(&vendor.bundle(2), &away, &vendor.context()).unwrap();
    assert_eq!(verified.advance.root.unwrap().version, 6);
    // Pinned in the middle: a customer who came later.
    let fourth = Digest::of(&Envelope::parse(&vendor.envelopes[3]).unwrap().payload);
    open(&vendor.bundle(2), &Trust::pinned(fourth), &vendor.context()).unwrap();
}

#[test]
fn an_expired_root_may_lead_to_a_newer_one() {
    let mut vendor = Vendor::new("a");
    let trust = accepted(&vendor, &vendor.bundle(1));
    vendor.rotate(&[], |root| root.expires = time("2030-01-01T00:00:00Z"));
    let year = |text| Context { now: time(text), ..vendor.context() };
    let long = |r: &mut Release| r.expires = time("2031-01-01T00:00:00Z");
    let bundle = vendor.bundle(2).resigned(Role::Release, &[&vendor.release_key], long);
    open(&bundle, &trust, &year("2029-01-01T00:00:00Z")).unwrap();
    let refusal = open(&bundle, &trust, &year("2030-06-01T00:00:00Z")).unwrap_err();
    assert!(matches!(refusal, Refusal::RootExpired { version: 2, .. }));
}

#[test]
fn the_newest_root_of_either_side_decides() {
    let mut vendor = Vendor::new("a");
    let old = vendor.bundle(1);
    // The release key was stolen and replaced; the host has heard of it, the bundle has not.
    let new_key = key("a", 50);
    let listed = vec![PublicKey::new(&new_key.verifying_key(), None)];
    vendor.rotate(&[], |root| root.roles.release.keys = listed);
    vendor.release_key = new_key;
    let mut trust = vendor.trust();
    trust.advance(&open(&vendor.bundle(2), &trust, &vendor.context()).unwrap().advance);
    let refusal = open(&old, &trust, &vendor.context()).unwrap_err();
    assert!(matches!(refusal, Refusal::Unsigned { document: Document::Release, .. }), "{refusal}");
    // Re-signed with the new key, still travelling with the old chain.
    let resigned = old.resigned(Role::Release, &[&vendor.release_key], |r| r.seq = 3);
    let verified = open(&resigned, &trust, &vendor.context()).unwrap();
    assert_eq!((verified.root.version, verified.advance.root), (2, None));
}

#[test]
fn the_chain_is_as_long_as_the_release_says() {
    let vendor = Vendor::new("a");
    let mut longer = vendor.clone();
    longer.rotate(&[], |_| {});
    let mut bundle = vendor.bundle(1);
    bundle.roots = longer.envelopes;
    let refusal = open(&bundle, &vendor.trust(), &vendor.context()).unwrap_err();
    assert_eq!(refusal, Refusal::RootVersion { expected: 1, found: 2 });
}

#[test]
fn a_statement_of_an_earlier_epoch_does_not_bind_and_an_older_root_is_not_taken_back() {
    let mut vendor = Vendor::new("a");
    let mut trust = vendor.trust();
    let believe = |vendor: &Vendor, trust: &Trust, statement: &[u8]| {
        let roots = roots(trust, &vendor.envelopes).unwrap();
        fresh(trust, &Context::at(now()), &roots, statement)
    };
    // A stolen hub key has listed the end of all numbers.
    let far = vendor.bundle(1).resigned(Role::Release, &[&vendor.release_key], |r| r.seq = 1 << 52);
    let late = now() + jiff::SignedDuration::from_hours(20);
    trust.advance(&believe(&vendor, &trust, &vendor.fresh(late, &[&far])).unwrap().advance);
    let before = believe(&vendor, &trust, &vendor.fresh(now(), &[&vendor.bundle(2)]));
    assert!(matches!(before, Err(Refusal::FreshRollback { .. })));
    let old = roots(&vendor.trust(), &vendor.envelopes).unwrap().accepted;
    vendor.rotate(&[], |root| root.epoch = 2);
    let after = believe(&vendor, &trust, &vendor.fresh(now(), &[&vendor.bundle(2)])).unwrap();
    trust.advance(&after.advance);
    assert_eq!(trust.root.as_ref().unwrap().version, 2);
    assert_eq!(trust.fresh.as_ref().unwrap().issued, now());
    // Verifications that began earlier end later.
    trust.advance(&Advance { root: old, ..Advance::default() });
    let mut stale = after.advance.fresh.unwrap();
    (stale.issued, stale.listed) = (now() - jiff::SignedDuration::from_hours(1), vec![]);
    trust.advance(&Advance { fresh: Some(stale), ..Advance::default() });
    assert_eq!(trust.fresh.as_ref().unwrap().listed.len(), 1);
    assert_eq!(trust.root.as_ref().unwrap().version, 2);
}

#[test]
fn two_roots_of_one_version_are_an_attack() {
    let mut one = Vendor::new("a");
    let mut two = one.clone();
    one.rotate(&[], |root| root.vendor = "One".into());
    two.rotate(&[], |root| root.vendor = "Two".into());
    let trust = accepted(&one, &one.bundle(1));
    let refusal = open(&two.bundle(2), &trust, &two.context()).unwrap_err();
    assert!(matches!(refusal, Refusal::RootConflict { version: 2, .. }), "{refusal}");
}

#[test]
fn a_fast_forward_is_undone_by_a_higher_epoch_only() {
    let mut vendor = Vendor::new("a");
    let forward = vendor
        .bundle(1)
        .resigned(Role::Release, &[&vendor.release_key], |r| (r.seq, r.min_seq) = (1 << 52, 1 << 52));
    let mut trust = accepted(&vendor, &forward);
    vendor.rotate(&[], |_| {});
    assert!(matches!(open(&vendor.bundle(2), &trust, &vendor.context()), Err(Refusal::BelowFloor { .. })));
    vendor.rotate(&[], |root| root.epoch = 2);
    let verified = open(&vendor.bundle(2), &trust, &vendor.context()).unwrap();
    trust.advance(&verified.advance);
    let counter = trust.counter("hello", "stable", 2).unwrap();
    assert_eq!((counter.epoch, counter.seq, counter.min_seq), (2, 2, 0));
    assert_eq!(
        open(&vendor.bundle(1), &trust, &vendor.context()),
        Err(Refusal::Rollback { seq: 1, accepted: 2 })
    );
}
