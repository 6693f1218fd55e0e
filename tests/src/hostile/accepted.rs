//! What looks wrong and must be taken, and what only shows after something was: these change what the host trusts, so they
//! are brought last.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use kedge_bundle::codes;
use kedge_bundle::roles::MAX_NUMBER;
use kedge_bundle::testing::{TestBundle, Vendor};

use super::Brought::{File, Steps};
use super::Case;
use super::stage::{Seen, Stage};
use super::tamper::{envelope, payload};

/// The three, and the recovery from a fast-forward.
pub(super) fn cases() -> Vec<Case> {
    vec![
        Case {
            number: "B",
            name: "unknown fields",
            wanted: None,
            brought: File(|v| payload(v, |text| text.insert_str(1, "\"colour\":{\"r\":[1.5,null]},"))),
        },
        Case {
            number: "C",
            name: "one extra invalid signature",
            wanted: None,
            brought: File(|v| {
                envelope(v, |envelope| {
                    let mut extra = envelope.signatures[0].clone();
                    extra.sig[5] ^= 1;
                    envelope.signatures.insert(0, extra.clone());
                    extra.keyid = "somebody".into();
                    extra.sig.truncate(3);
                    envelope.signatures.push(extra);
                })
            }),
        },
        Case {
            number: "19",
            name: "the same release under a higher epoch",
            wanted: None,
            brought: Steps(recovered),
        },
        Case {
            number: "19",
            name: "a release by the key that the epoch took away",
            wanted: Some(codes::UNSIGNED),
            brought: Steps(|stage| {
                stage.unchanged(|| stage.offer(&forward(&stage.vendor, MAX_NUMBER, 0).bytes()))
            }),
        },
        Case {
            number: "A",
            name: "an expired local root that leads to a newer one",
            wanted: None,
            brought: Steps(expired_root),
        },
    ]
}

/// A release of a stream that nothing else is about.
fn forward(vendor: &Vendor, seq: u64, min_seq: u64) -> TestBundle {
    let change = |release: &mut kedge_bundle::roles::Release| {
        (release.stream, release.seq, release.min_seq) = ("forward".into(), seq, min_seq);
    };
    vendor.bundle_with(kedge_bundle::testing::sample(9), change)
}

/// Somebody with the release key has set the floor to the end of all numbers; the vendor's next release comes.
pub(super) fn after_a_fast_forward(stage: &Stage) -> Seen {
    let taken = stage.offer(&forward(&stage.vendor, MAX_NUMBER, MAX_NUMBER).bytes());
    assert!(taken.exit == Some(0), "{}", taken.said);
    stage.unchanged(|| stage.offer(&forward(&stage.vendor, 8, 0).bytes()))
}

/// The vendor's way out: a root with a higher epoch and another release key.
fn recovered(stage: &Stage) -> Seen {
    stage.offer(&forward(&after_compromise(&stage.vendor), 8, 0).bytes())
}

fn after_compromise(vendor: &Vendor) -> Vendor {
    let mut vendor = vendor.clone();
    let new = kedge_bundle::testing::key("after the compromise", 1);
    let listed = kedge_bundle::roles::PublicKey::new(&new.verifying_key(), None);
    vendor.rotate(&[], |root| {
        root.epoch += 1;
        root.roles.release.keys = vec![listed];
    });
    vendor.release_key = new;
    vendor
}

/// A root that lives for seconds is accepted; once it has expired, a chain that goes on from it is.
fn expired_root(stage: &Stage) -> Seen {
    let (mut vendor, end) = short_lived_root(stage);
    // What is waited for is the time itself.
    let left = end.duration_since(Timestamp::now()) + SignedDuration::from_millis(50);
    std::thread::sleep(Duration::try_from(left).unwrap_or_default());
    let refused = stage.unchanged(|| stage.offer(&forward(&vendor, 10, 0).bytes()));
    assert!(refused.said.contains(codes::ROOT_EXPIRED.id), "{}", refused.said);
    vendor.rotate(&[], |root| root.expires = vendor_end(&stage.vendor));
    stage.offer(&forward(&vendor, 10, 0).bytes())
}

/// Has a root accepted that expires soon, and says when. A busy machine may take longer to import it than it lives: then it is
/// refused, nothing has changed, and one that lives longer is brought.
fn short_lived_root(stage: &Stage) -> (Vendor, Timestamp) {
    for seconds in [3, 10, 30] {
        let mut vendor = after_compromise(&stage.vendor);
        let end = Timestamp::now() + SignedDuration::from_secs(seconds);
        vendor.rotate(&[], |root| root.expires = end);
        let taken = stage.offer(&forward(&vendor, 9, 0).bytes());
        if taken.exit == Some(0) {
            return (vendor, end);
        }
        assert!(taken.said.contains(codes::ROOT_EXPIRED.id), "{}", taken.said);
    }
    panic!("an import takes longer than half a minute");
}

fn vendor_end(vendor: &Vendor) -> Timestamp {
    vendor.now + SignedDuration::from_hours(10_000)
}
