//! The hostile bundles, all of them, on a real agent.

use kedge_tests::hostile;
use kedge_tests::rig::need::{self, Need};

#[test]
fn every_hostile_bundle_is_refused_with_its_reason_and_changes_nothing() {
    if !need::met(&[Need::Engine]) {
        return;
    }
    let verdicts = hostile::run(&mut |verdict| println!("{}", hostile::line(verdict)));
    let wrong: Vec<_> =
        verdicts.iter().filter(|verdict| !verdict.wrong.is_empty()).map(hostile::line).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(hostile::summary(&verdicts), "60 of 60 as expected");
}
