//! Who may know whom: the rules that hold between the crates and inside them, checked from the manifests and
//! from the source's own tokens, so that breaking one is a failing test and not a matter of taste.
//!
//! Each rule is a function from text to the list of what breaks it; each is shown a bad sample as well, because
//! a rule that cannot fail protects nothing.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "tests fail loudly")]

mod manifests;
mod sources;

use std::path::{Path, PathBuf};

/// The repository.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the repository").to_owned()
}

/// Fails with every finding at once, so that one run shows all there is to mend.
fn assert_none(findings: Vec<String>) {
    assert!(findings.is_empty(), "{} found:\n  {}", findings.len(), findings.join("\n  "));
}

#[test]
fn crates_depend_only_on_those_they_may_know() {
    let all = manifests::read_all(&root());
    assert!(all.len() >= 6, "only {} manifests were found", all.len());
    assert_none(all.iter().flat_map(manifests::broken_rules).collect());
}

/// What verifies must be able to stand alone: in a container of its own, in a boot loader, under a fuzzer.
#[test]
fn verification_needs_no_runtime_no_engine_and_no_network() {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = std::process::Command::new(cargo);
    command.args([
        "tree",
        "-p",
        "kedge-bundle",
        "--no-default-features",
        "--edges",
        "normal",
        "--prefix",
        "none",
    ]);
    let output = command.args(["--locked", "--offline"]).current_dir(root()).output().expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let tree = String::from_utf8(output.stdout).expect("text");
    let names: Vec<&str> = tree.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert!(names.contains(&"ed25519-dalek") && names.contains(&"kedge-compose"), "{tree}");
    let never =
        ["tokio", "mio", "bollard", "hyper", "oci-client", "rustls", "reqwest", "tonic", "rustix", "socket2"];
    assert_none(names.into_iter().filter(|name| never.contains(name)).map(str::to_owned).collect());
}

#[test]
fn modules_name_only_what_they_may_know() {
    let files = sources::read_all(&root());
    assert!(files.len() > 20, "only {} source files were found", files.len());
    let mut findings = Vec::new();
    for rule in sources::RULES {
        let mut covered = files.iter().filter(|file| rule.covers(&file.path)).peekable();
        assert!(covered.peek().is_some(), "the rule \"{}\" covers no file any more", rule.why);
        findings.extend(covered.flat_map(|file| rule.broken_in(file)));
    }
    assert_none(findings);
}

#[test]
fn files_say_what_they_are_for_and_stay_readable() {
    assert_none(sources::read_all(&root()).iter().flat_map(sources::broken_form).collect());
}
