//! The page of error codes says what the code says.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "tests fail loudly")]

use std::path::Path;

use kedge_tests::reference;

#[test]
fn the_page_of_errors_is_what_the_catalogues_say() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(reference::PATH);
    let page = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        page == reference::render(),
        "{} is out of date: cargo run -p kedge-tests --bin reference",
        reference::PATH
    );
}

#[test]
fn the_catalogues_agree_with_each_other() {
    assert_eq!(reference::inconsistencies(), Vec::<String>::new());
}
