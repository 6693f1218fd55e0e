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

/// The list of rules in `docs/trust.md` names the tests that hold them: each must be there.
#[test]
fn every_test_that_the_page_on_trust_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let page = std::fs::read_to_string(root.join("docs/trust.md")).unwrap();
    let (_, list) = page.split_once("## Rule and test").expect("the list");
    let named = list
        .lines()
        .filter(|line| line.starts_with("| "))
        .flat_map(|line| line.split('`').skip(1).step_by(2));
    let named: Vec<&str> = named.filter(|name| name.contains('_')).collect();
    assert!(named.len() > 20, "only {named:?}");
    let mut sources = String::new();
    for folder in ["bundles/src", "agent/src"] {
        collect(&root.join(folder), &mut sources);
    }
    let missing: Vec<_> = named.iter().filter(|name| !sources.contains(&format!("fn {name}("))).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

fn collect(folder: &Path, sources: &mut String) {
    for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            collect(&path, sources);
        } else {
            sources.push_str(&std::fs::read_to_string(&path).unwrap());
        }
    }
}
