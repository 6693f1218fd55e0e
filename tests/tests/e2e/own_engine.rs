//! The engine that the restart test stops and starts is one of its own.

use kedge_tests::rig::docker::Docker;
use kedge_tests::rig::need::{self, Need};
use kedge_tests::rig::own_engine::{Make, OwnEngine};
use kedge_tests::rig::{images, names};

#[test]
fn an_engine_of_ones_own_is_apart_from_the_machine_s_and_comes_back_with_what_it_had() {
    if !need::met(&[Need::Engine, Need::OwnEngine]) {
        return;
    }
    images::ensure_busybox().unwrap();
    let mut engine = OwnEngine::start(Make::Machine);
    let name = names::unique("volume-");
    engine.docker().run(&["volume", "create", &name]).succeeded();
    assert!(Docker::of_this_machine().run(&["volume", "inspect", &name]).code != Some(0));
    engine.stop().unwrap();
    assert!(engine.docker().run(&["version"]).code != Some(0));
    engine.start_again();
    engine.docker().run(&["volume", "inspect", &name]).succeeded();
}
