use super::*;
use crate::testing::{Vendor, key, now};
use crate::verify::{Trust, roots};

fn public(number: u32) -> PublicKey {
    PublicKey::new(&key("new", number).verifying_key(), Some(format!("new-{number}")))
}

fn draft(vendor: &Vendor) -> Draft {
    let expires = now() + jiff::SignedDuration::from_hours(24 * 365 * 2);
    Draft::after(vendor.roots.last().unwrap(), now(), expires).unwrap()
}

/// Whether hosts would take the chain with this draft at its end.
fn taken(vendor: &Vendor, draft: &Draft) -> bool {
    let chain = [vendor.envelopes.clone(), vec![draft.encode()]].concat();
    roots(&Trust::pinned(vendor.fingerprint()), &chain).is_ok()
}

#[test]
fn a_draft_goes_from_hand_to_hand_and_is_complete_when_hosts_take_it() {
    let vendor = Vendor::new("a");
    let mut draft = draft(&vendor);
    draft
        .change(|root| {
            let lost = root.roles.root.keys[2].id();
            remove(root, Role::Root, &lost[..12])?;
            add(root, Role::Root, public(1))?;
            add(root, Role::Release, public(2))
        })
        .unwrap();
    let changes = draft.changes().join("\n");
    assert_eq!(changes.lines().count(), 4, "{changes}");
    for part in ["expires: ", "root: removes key ", "root: adds key ", "release: adds key "] {
        assert!(changes.contains(part), "{part}: {changes}");
    }
    assert_eq!(draft.standing().before, Some(Count { have: 0, need: 2 }));
    let hands = [&vendor.root_keys[0], &vendor.root_keys[2], &key("new", 1)];
    for (hand, (before, own)) in hands.into_iter().zip([(1, 1), (2, 1), (2, 2)]) {
        assert_eq!(draft.standing().complete(), taken(&vendor, &draft));
        // Each on a machine of their own.
        let mut file = Draft::read(&draft.encode(), vendor.roots.last()).unwrap();
        file.sign(hand).unwrap();
        file.sign(hand).unwrap();
        let standing = file.standing();
        assert_eq!((standing.before.unwrap().have, standing.own.have), (before, own));
        draft = file;
    }
    assert!(draft.standing().complete() && taken(&vendor, &draft));
}

#[test]
fn copies_that_went_different_ways_come_together() {
    let vendor = Vendor::new("a");
    let (mut one, mut two) = (draft(&vendor), draft(&vendor));
    one.sign(&vendor.root_keys[0]).unwrap();
    two.sign(&vendor.root_keys[1]).unwrap();
    one.merge(&two).unwrap();
    assert!(one.standing().complete() && taken(&vendor, &one));
    two.change(|root| {
        root.epoch += 1;
        Ok(())
    })
    .unwrap();
    assert_eq!(two.signatures(), 0, "whatever changes is signed anew");
    assert!(one.merge(&two).unwrap_err().to_string().contains("different documents"));
    assert!(two.changes().iter().any(|line| line.contains("start again")));
}

#[test]
fn signatures_that_count_for_nothing_are_not_made_and_not_counted() {
    let vendor = Vendor::new("a");
    let mut draft = draft(&vendor);
    assert!(matches!(draft.sign(&vendor.release_key), Err(Error::Stranger(_))));
    draft.sign(&vendor.root_keys[0]).unwrap();
    let mut envelope = Envelope::parse(&draft.encode()).unwrap();
    let mut forged = envelope.signatures[0].clone();
    envelope.signatures.push(forged.clone());
    forged.keyid = draft.root().roles.root.keys[1].id();
    envelope.signatures.push(forged);
    let read = Draft::read(&envelope.encode(), vendor.roots.last()).unwrap();
    let standing = read.standing();
    assert_eq!((standing.own.have, standing.worthless, standing.complete()), (1, 2, false));
}

#[test]
fn what_is_no_successor_and_what_cannot_be_changed_is_refused() {
    let vendor = Vendor::new("a");
    let first = vendor.roots.last();
    assert!(matches!(
        Draft::read(&vendor.envelopes[0], first),
        Err(Error::Refused(Refusal::RootVersion { expected: 2, found: 1 }))
    ));
    assert!(matches!(Draft::read(&vendor.bundle(1).envelope, first), Err(Error::Refused(_))));
    let mut lower = vendor.roots[0].clone();
    (lower.version, lower.epoch) = (2, 0);
    let lower = sign::root(&lower, &[]).unwrap();
    assert!(matches!(Draft::read(&lower, first), Err(Error::Refused(Refusal::RootEpoch { .. }))));
    let mut draft = draft(&vendor);
    let shared = draft.root().roles.fresh.keys[0].clone();
    for (name, change, reason) in [
        (
            "an online key as a root key",
            Box::new(|root: &mut Root| add(root, Role::Root, shared.clone()))
                as Box<dyn Fn(&mut Root) -> Result<(), Error>>,
            "fresh key already",
        ),
        (
            "a key that is not there",
            Box::new(|root| remove(root, Role::Fresh, "nobody").map(drop)),
            "0 fresh keys",
        ),
        (
            "fewer keys than must sign",
            Box::new(|root| {
                let id = root.roles.release.keys[0].id();
                remove(root, Role::Release, &id).map(drop)
            }),
            "threshold of 1 with 0",
        ),
    ] {
        let error = draft.change(|root| change(root)).expect_err(name).to_string();
        assert!(error.contains(reason), "{name}: {error}");
    }
    assert_eq!(draft.root().version, 2, "what was refused has changed nothing");
}
