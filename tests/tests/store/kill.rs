//! `kill -9` at any moment.

use rand::RngExt;

use super::{Writer, read};

#[test]
fn nothing_acknowledged_is_lost_when_the_writer_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    // The same store throughout: each writer goes on where the one before was killed.
    for round in 1..=10 {
        let mut writer = Writer::start(&store, &[]);
        writer.wait_for(rand::rng().random_range(1..40));
        let acknowledged = writer.kill();
        let found = read(&store).unwrap_or_else(|why| panic!("after kill {round}: {why}"));
        // The one that was under way may have made it.
        assert!(
            found == acknowledged || found == acknowledged + 1,
            "after kill {round}: {acknowledged} acknowledged, {found} found"
        );
    }
}
