//! Every rule has a case here that fails when the rule is taken out.

use super::standing::{Change, Denied, Place, permit, standing};
use super::*;
use crate::sign::Signer;
use crate::testing::{Vendor, key, now};

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn licence() -> Licence {
    Licence {
        format: 1,
        id: "north-1".into(),
        serial: 3,
        epoch: 1,
        customer: "North Bank".into(),
        sites: vec!["north".into()],
        product: "hello".into(),
        issued: time("2026-01-01T00:00:00Z"),
        not_before: time("2026-01-01T00:00:00Z"),
        expires: time("2026-07-01T00:00:00Z"),
        grace_days: 30,
        limits: Limits { hosts: Some(3), services: Some(5) },
        features: ["reports".to_owned()].into(),
    }
}

fn changed(change: impl FnOnce(&mut Licence)) -> Licence {
    let mut licence = licence();
    change(&mut licence);
    licence
}

fn root() -> Root {
    Vendor::new("a").roots[0].clone()
}

#[test]
fn a_licence_counts_only_signed_by_the_licence_keys() {
    let vendor = Vendor::new("a");
    let file = licence().sign(&[&vendor.licence_key]).unwrap();
    assert_eq!(read(&root(), &file).unwrap(), licence());
    for signers in [vec![], vec![&vendor.release_key as &dyn Signer], vec![&key("stranger", 0)]] {
        let file = licence().sign(&signers).unwrap();
        assert!(matches!(read(&root(), &file), Err(Refusal::Unsigned { have: 0, .. })));
    }
    let release = vendor.bundle(7).envelope;
    assert!(matches!(read(&root(), &release), Err(Refusal::PayloadType { .. })));
    assert!(matches!(read(&root(), &vec![b' '; MAX_FILE + 1]), Err(Refusal::Malformed { .. })));
}

#[test]
fn a_licence_that_breaks_a_rule_of_its_own_is_refused_even_if_signed() {
    let vendor = Vendor::new("a");
    type Case = (&'static str, fn(&mut Licence));
    let cases: [Case; 9] = [
        ("newer format", |l| l.format = 2),
        ("id that is a path", |l| l.id = "../x".into()),
        ("product that is a path", |l| l.product = "../x".into()),
        ("no customer", |l| l.customer.clear()),
        ("serial zero", |l| l.serial = 0),
        ("serial at the end of numbers", |l| l.serial = u64::MAX),
        ("expired before it was issued", |l| l.expires = time("2025-12-31T00:00:00Z")),
        ("over before it begins", |l| l.not_before = time("2026-07-01T00:00:00Z")),
        ("a grace of eleven years", |l| l.grace_days = 4000),
    ];
    for (name, change) in cases {
        let bad = changed(change);
        assert!(bad.sign(&[&vendor.licence_key]).is_err(), "{name}: nobody signs it by mistake");
        let payload = serde_json::to_vec(&bad).unwrap();
        let file = crate::sign::envelope(Role::Licence, payload, &[&vendor.licence_key]).unwrap().encode();
        assert!(read(&root(), &file).is_err(), "{name}");
    }
}

#[test]
fn a_renewal_is_taken_and_what_it_superseded_is_not() {
    let first = Accepted::of(&licence(), Digest::of(b"first"));
    let follows = |change: fn(&mut Licence), digest: &[u8]| {
        Accepted::may_follow(Some(&first), &changed(change), Digest::of(digest), &root())
    };
    let nothing: fn(&mut Licence) = |_| {};
    assert_eq!(Accepted::may_follow(None, &licence(), Digest::of(b"first"), &root()), Ok(()));
    assert_eq!(follows(nothing, b"first"), Ok(()), "the same once more");
    assert_eq!(follows(|l| l.serial = 4, b"x"), Ok(()));
    assert_eq!(
        follows(
            |l| {
                l.id = "north-2".into();
                l.serial = 1
            },
            b"x"
        ),
        Ok(()),
        "a contract of its own"
    );
    assert!(matches!(follows(nothing, b"other"), Err(Stale::Conflict { .. })));
    assert!(matches!(follows(|l| l.serial = 2, b"x"), Err(Stale::Older { .. })));
    let earlier: fn(&mut Licence) = |l| {
        l.id = "north-0".into();
        l.issued = time("2025-06-01T00:00:00Z");
    };
    assert!(matches!(follows(earlier, b"x"), Err(Stale::Older { .. })));
    assert!(matches!(follows(|l| l.epoch = 0, b"x"), Err(Stale::Epoch { expected: 1, found: 0 })));
    let mut next = root();
    next.epoch = 2;
    let again = changed(|l| {
        l.epoch = 2;
        l.serial = 1
    });
    assert_eq!(
        Accepted::may_follow(Some(&first), &again, Digest::of(b"x"), &next),
        Ok(()),
        "a new epoch starts anew"
    );
}

fn place(now: &str) -> Place<'static> {
    Place { product: "hello", site: Some("north"), root: (1, time("2026-01-01T00:00:00Z")), now: time(now) }
}

#[test]
fn a_licence_is_valid_then_in_grace_then_restricted() {
    for (now, expected) in [
        ("2025-12-31T23:59:59Z", "restricted"),
        ("2026-01-01T00:00:00Z", "valid"),
        ("2026-06-30T23:59:59Z", "valid"),
        ("2026-07-01T00:00:00Z", "grace"),
        ("2026-07-30T23:59:59Z", "grace"),
        ("2026-07-31T00:00:00Z", "restricted"),
    ] {
        assert_eq!(standing(Some(&licence()), &place(now)).name(), expected, "{now}");
    }
}

#[test]
fn a_licence_for_another_product_or_site_does_not_count() {
    let at = now().to_string();
    let here = place(&at);
    let judged =
        |licence: Option<&Licence>, place: &Place<'_>| standing(licence, place).restriction().cloned();
    assert_eq!(judged(Some(&licence()), &here), None);
    assert_eq!(judged(None, &here), Some(Restriction::Missing("hello".into())));
    let other = Place { product: "other", ..here };
    assert_eq!(judged(Some(&licence()), &other), Some(Restriction::Product("hello".into())));
    for site in [Some("south"), None] {
        let elsewhere = Place { site, ..here };
        assert_eq!(judged(Some(&licence()), &elsewhere), Some(Restriction::Site(vec!["north".into()])));
    }
    let everywhere = changed(|l| l.sites.clear());
    assert_eq!(judged(Some(&everywhere), &Place { site: None, ..here }), None);
}

#[test]
fn a_root_of_a_new_epoch_ends_the_licences_of_the_old_one_after_their_grace() {
    let root = (2, time("2026-03-01T00:00:00Z"));
    let at = |now| standing(Some(&licence()), &Place { root, ..place(now) }).name();
    assert_eq!(at("2026-03-02T00:00:00Z"), "grace");
    assert_eq!(at("2026-04-02T00:00:00Z"), "restricted");
}

#[test]
fn what_is_restricted_begins_nothing_and_ends_nothing() {
    let restricted = Standing::Restricted(Restriction::Missing("hello".into()));
    let limits = Limits::default();
    assert!(matches!(permit(&restricted, limits, Change::Install, 0, 3), Err(Denied::Restricted(_))));
    assert!(matches!(permit(&restricted, limits, Change::Install, 3, 3), Err(Denied::Restricted(_))));
    assert!(matches!(permit(&restricted, limits, Change::Reconfigure, 3, 4), Err(Denied::ScaleUp { .. })));
    assert_eq!(permit(&restricted, limits, Change::Reconfigure, 3, 3), Ok(()));
    assert_eq!(permit(&restricted, limits, Change::Reconfigure, 3, 1), Ok(()));
}

#[test]
fn a_limit_is_met_by_what_is_added_not_by_what_is_there() {
    let valid = Standing::Valid { until: now() };
    let grace = Standing::Grace { expired: now(), until: now() };
    let limits = Limits { services: Some(5), ..Limits::default() };
    for standing in [valid, grace] {
        assert_eq!(permit(&standing, limits, Change::Install, 0, 5), Ok(()));
        assert_eq!(
            permit(&standing, limits, Change::Install, 0, 6),
            Err(Denied::Services { wanted: 6, limit: 5 })
        );
        assert_eq!(
            permit(&standing, limits, Change::Install, 7, 7),
            Ok(()),
            "a smaller licence stops nobody"
        );
        assert_eq!(permit(&standing, Limits::default(), Change::Install, 0, 600), Ok(()));
    }
}
