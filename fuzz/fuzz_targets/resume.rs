//! Resume state: whatever an interrupted fetch has left of blobs, what is admitted in the end is what was signed.
//!
//! The input is read as orders, one for each blob: how much of the truth lies there, which bytes of it are spoilt or put
//! behind, and in which pieces all of it comes. As the agent does: what lies there goes through the check first, the rest
//! follows, and after a failure the blob is begun anew.

#![no_main]

use std::sync::LazyLock;

use kedge_bundle::admission::Admission;
use kedge_bundle::testing::{TestBundle, Vendor};
use libfuzzer_sys::fuzz_target;

static VENDOR: LazyLock<Vendor> = LazyLock::new(|| Vendor::new("resume"));
static BUNDLE: LazyLock<TestBundle> = LazyLock::new(|| VENDOR.bundle(1));

fuzz_target!(|input: &[u8]| {
    let mut input = input.iter().copied();
    let documents = BUNDLE.documents();
    let Ok(mut admission) = Admission::open(&documents, &VENDOR.trust(), &VENDOR.context()) else {
        unreachable!("a good bundle is opened")
    };
    let blobs = BUNDLE.draft.blobs.len();
    let mut admitted = 0;
    while let Some(blob) = admission.next_needed().cloned() {
        let truth = BUNDLE.blob(&blob.digest).unwrap_or_default();
        let mut order = || usize::from(input.next().unwrap_or(0));
        // What lies there.
        let mut state = truth[..(order() << 3 | order() & 7).min(truth.len())].to_vec();
        let (at, mask, more) = (order(), order(), order() & 15);
        if !state.is_empty() {
            let at = at % state.len();
            state[at] ^= mask as u8;
        }
        state.extend((0..more).map(|_| order() as u8));
        let offset = state.len();
        let whole: Vec<u8> = state.into_iter().chain(truth.iter().skip(offset).copied()).collect();
        let pieces = order().max(1);
        match admission.begin() {
            Ok(Some(mut intake)) => {
                let passed = whole.chunks(pieces).try_for_each(|piece| intake.write(piece));
                let accepted = passed.is_ok() && admission.accept(intake).is_ok();
                assert_eq!(accepted, whole == truth, "{}", blob.digest);
                if !accepted {
                    // Begun anew, from nothing: nothing of the failure stays behind.
                    assert_eq!(admission.next_needed(), Some(&blob));
                    assert!(admission.accept_bytes(&blob.digest, &truth).is_ok());
                }
            }
            other => unreachable!("{other:?}"),
        }
        admitted += 1;
        assert!(admitted <= blobs);
    }
    assert!(admission.finish().is_ok() && admitted == blobs);
});
