//! Rules that can be read off a `Cargo.toml`.

use std::path::Path;

use toml::{Table, Value};

/// A manifest and where it is.
pub(crate) struct Manifest {
    path: String,
    table: Table,
}

/// Which of our own crates each of them may build upon. Tests may know all.
const OURS: &[(&str, &[&str])] = &[
    ("kedge-compose", &[]),
    ("kedge-proto", &[]),
    ("kedge-bundle", &["kedge-compose"]),
    ("kedge", &["kedge-compose", "kedge-proto", "kedge-bundle"]),
    ("kedgectl", &["kedge-compose", "kedge-proto", "kedge-bundle"]),
    ("kedge-tests", &["kedge-compose", "kedge-proto", "kedge-bundle", "kedge", "kedgectl"]),
];

/// Crates from outside that only some of ours may use, and why.
const RESERVED: &[(&str, &[&str], &str)] = &[
    (
        "bollard",
        &["kedge", "kedge-bundle", "kedge-tests"],
        "only the agent runs containers; a build may read images",
    ),
    ("sled", &["kedge"], "the agent's store"),
    ("redb", &["kedgectl"], "the hub's store"),
    ("tokio", &["kedge", "kedge-bundle", "kedgectl", "kedge-tests"], "what is pure needs no runtime"),
    ("oci-client", &["kedge-bundle"], "only a build reads registries"),
];

/// Dependencies that must be optional, because only a feature may turn them on.
const OPTIONAL: &[(&str, &[&str])] = &[("kedge-bundle", &["bollard", "oci-client", "tokio", "indicatif"])];

/// Every manifest of the workspace's members.
pub(crate) fn read_all(root: &Path) -> Vec<Manifest> {
    let workspace = read(root, "Cargo.toml");
    let members = workspace.table["workspace"]["members"].as_array().expect("the workspace has members");
    members.iter().map(|m| read(root, &format!("{}/Cargo.toml", m.as_str().expect("a path")))).collect()
}

fn read(root: &Path, path: &str) -> Manifest {
    let text = std::fs::read_to_string(root.join(path)).unwrap_or_else(|e| panic!("{path}: {e}"));
    parse(path, &text)
}

fn parse(path: &str, text: &str) -> Manifest {
    Manifest { path: path.to_owned(), table: text.parse().unwrap_or_else(|e| panic!("{path}: {e}")) }
}

/// What in this manifest breaks a rule.
pub(crate) fn broken_rules(manifest: &Manifest) -> Vec<String> {
    let name = manifest.table["package"]["name"].as_str().expect("a package has a name");
    let mut found = Vec::new();
    for (dependency, spec) in
        dependencies(manifest, &["dependencies", "dev-dependencies", "build-dependencies"])
    {
        if OURS.iter().any(|(ours, _)| *ours == dependency) && !may_know(name, dependency) {
            found.push(format!("{name} depends on {dependency}, which it may not know"));
        }
        for (reserved, owners, why) in RESERVED {
            if *reserved == dependency && !owners.contains(&name) {
                found.push(format!("{name} depends on {dependency}: {why}"));
            }
        }
        let must_be_optional = OPTIONAL.iter().any(|(n, list)| *n == name && list.contains(&dependency));
        let optional = spec.get("optional").and_then(Value::as_bool) == Some(true);
        if must_be_optional && !optional && in_table(manifest, "dependencies", dependency) {
            found.push(format!("{name} depends on {dependency} without `optional = true`"));
        }
    }
    // What its tests do is their own affair: the binary is what must not be able to build or sign.
    for (dependency, spec) in dependencies(manifest, &["dependencies"]) {
        let features = spec.get("features").and_then(Value::as_array);
        let builds =
            features.is_some_and(|list| list.iter().any(|f| matches!(f.as_str(), Some("build" | "testing"))));
        if name == "kedge" && dependency == "kedge-bundle" && builds {
            found
                .push("kedge turns on kedge-bundle's `build`: the agent neither builds nor signs".to_owned());
        }
    }
    let lints = manifest.table.get("lints").and_then(|l| l.get("workspace")).and_then(Value::as_bool);
    if lints != Some(true) {
        found.push(format!(
            "{} does not take the workspace's lints, so unsafe code is not forbidden",
            manifest.path
        ));
    }
    found
}

fn may_know(name: &str, dependency: &str) -> bool {
    OURS.iter().any(|(n, may)| *n == name && may.contains(&dependency))
}

fn in_table(manifest: &Manifest, table: &str, dependency: &str) -> bool {
    dependencies(manifest, &[table]).iter().any(|(name, _)| *name == dependency)
}

fn dependencies<'a>(manifest: &'a Manifest, tables: &[&str]) -> Vec<(&'a str, &'a Value)> {
    let plain = tables.iter().filter_map(|t| manifest.table.get(*t));
    let targets = manifest.table.get("target").and_then(Value::as_table).into_iter().flat_map(|t| t.values());
    let of_targets = targets.flat_map(|target| tables.iter().filter_map(|t| target.get(*t)));
    plain.chain(of_targets).filter_map(Value::as_table).flatten().map(|(k, v)| (k.as_str(), v)).collect()
}

#[test]
fn the_workspace_forbids_unsafe_code() {
    let workspace = read(&super::root(), "Cargo.toml");
    assert_eq!(workspace.table["workspace"]["lints"]["rust"]["unsafe_code"].as_str(), Some("forbid"));
}

#[test]
fn every_rule_about_manifests_can_fail() {
    let cases: &[(&str, &str, &str)] = &[
        ("kedge", "[dependencies]\nkedgectl.workspace = true", "kedge depends on kedgectl"),
        ("kedgectl", "[dependencies]\nkedge.workspace = true", "kedgectl depends on kedge,"),
        ("kedge-compose", "[dependencies]\nkedge-bundle = '1'", "kedge-compose depends on kedge-bundle"),
        ("kedge-proto", "[dev-dependencies]\nkedge-compose = '1'", "kedge-proto depends on kedge-compose"),
        ("kedgectl", "[target.'cfg(unix)'.dependencies]\nbollard = '1'", "kedgectl depends on bollard"),
        ("kedge-compose", "[dependencies]\ntokio = '1'", "kedge-compose depends on tokio"),
        ("kedge-bundle", "[dependencies]\nbollard = '1'", "without `optional = true`"),
        (
            "kedge",
            "[dependencies]\nkedge-bundle = { path = 'x', features = ['build'] }",
            "neither builds nor signs",
        ),
        ("hello", "[dependencies]\nkedge-bundle = '1'", "hello depends on kedge-bundle"),
    ];
    for (name, text, expected) in cases {
        let manifest = parse("sample", &format!("package.name = '{name}'\nlints.workspace = true\n{text}"));
        let found = broken_rules(&manifest);
        assert!(found.len() == 1 && found[0].contains(expected), "{name}, {text}: {found:?}");
    }
    let without_lints = parse("sample", "package.name = 'kedge'");
    assert!(broken_rules(&without_lints)[0].contains("unsafe code is not forbidden"));
    let good = parse(
        "sample",
        "package.name = 'kedge'\nlints.workspace = true\n[dependencies]\nbollard = '1'\nkedge-bundle = '1'",
    );
    assert!(broken_rules(&good).is_empty());
}
