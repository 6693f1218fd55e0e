//! Real compose files beside what Docker Compose 2.26.1 makes of them.
//!
//! The corpus is no part of this repository. Where it is present (`KEDGE_CORPUS`, else `../shared/corpus` beside the
//! workspace) every file of its index is loaded with all profiles and compared; where it is not, the test says so.
//! Equal means: with empty values dropped, the JSON is equal.

use std::collections::BTreeMap;
use std::path::PathBuf;

use kedge_compose::{DirFiles, Options, config};
use serde_json::Value;

/// Files that must be equal. Raise it when more are.
const FLOOR: usize = 207;

fn corpus() -> Option<PathBuf> {
    let folder = match std::env::var_os("KEDGE_CORPUS") {
        Some(folder) => PathBuf::from(folder),
        None => PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/corpus"),
    };
    let folder = folder.join("compose").canonicalize().ok()?;
    folder.join("index.txt").is_file().then_some(folder)
}

/// Drops null, empty text, empty lists and empty mappings, from the inside out.
fn without_empty(value: Value) -> Option<Value> {
    match value {
        Value::Null => None,
        Value::String(text) if text.is_empty() => None,
        Value::Array(items) => {
            let items: Vec<Value> = items.into_iter().filter_map(without_empty).collect();
            (!items.is_empty()).then_some(Value::Array(items))
        }
        Value::Object(map) => {
            let map: serde_json::Map<_, _> =
                map.into_iter().filter_map(|(key, value)| Some((key, without_empty(value)?))).collect();
            (!map.is_empty()).then_some(Value::Object(map))
        }
        other => Some(other),
    }
}

/// The paths at which two values differ.
fn differences(path: &str, expected: &Value, found: &Value, into: &mut Vec<String>) {
    match (expected, found) {
        (Value::Object(a), Value::Object(b)) => {
            let keys: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            for key in keys {
                let at = format!("{path}.{key}");
                match (a.get(key), b.get(key)) {
                    (Some(a), Some(b)) => differences(&at, a, b, into),
                    (Some(a), None) => into.push(format!("{at}: missing, expected {a}")),
                    (None, b) => into.push(format!("{at}: not expected, found {b:?}")),
                }
            }
        }
        (a, b) if a == b => {}
        (a, b) => into.push(format!("{path}: expected {a}, found {b}")),
    }
}

#[test]
fn real_files_load_as_docker_compose_loads_them() {
    let Some(folder) = corpus() else {
        println!("skipped: no corpus; set KEDGE_CORPUS to the folder that has compose/index.txt");
        return;
    };
    let index = std::fs::read_to_string(folder.join("index.txt")).unwrap();
    let (mut equal, mut total) = (0, 0);
    for name in index.lines().filter(|line| !line.trim().is_empty()) {
        total += 1;
        let file = folder.join(name);
        let expected = std::fs::read_to_string(file.with_extension("expected.json")).unwrap();
        let expected = expected.replace("{{CORPUS}}", &folder.display().to_string());
        let expected = without_empty(serde_json::from_str(&expected).unwrap());
        let options = Options {
            files: vec![file.display().to_string()],
            profiles: vec!["*".to_owned()],
            // Where the answers were made.
            environment: BTreeMap::from([("HOME".to_owned(), "/root".to_owned())]),
            ..Options::default()
        };
        match config(&DirFiles::unconfined(), &options) {
            Ok(found) => {
                let found = without_empty(found.canonical);
                if found == expected {
                    equal += 1;
                } else {
                    let mut list = Vec::new();
                    let empty = Value::Null;
                    differences(
                        "",
                        expected.as_ref().unwrap_or(&empty),
                        found.as_ref().unwrap_or(&empty),
                        &mut list,
                    );
                    println!("differs: {name}\n    {}", list.join("\n    "));
                }
            }
            Err(errors) => println!("refused: {name}\n{errors}"),
        }
    }
    println!("{equal} of {total} equal");
    assert!(equal >= FLOOR, "{equal} of {total} are equal, {FLOOR} were before");
}
