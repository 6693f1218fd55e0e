//! The compose loader on several files at once: never a panic, the same answer each time, and what it prints loads
//! again to the same.
//!
//! The input is text. A line `#: NAME` starts a further file of that name; what stands before the first is `compose.yaml`.

#![no_main]

use kedge_compose::{Errors, MemoryFiles, Options, config, extension, load, variables};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &str| {
    let options = Options {
        project_directory: "/p".to_owned(),
        profiles: vec!["*".to_owned()],
        environment: [("A", "a"), ("EMPTY", ""), ("HOME", "/home/me")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into(),
        confined: true,
        ..Options::default()
    };
    let files = split(input);
    let first = config(&files, &options);
    assert_eq!(first, config(&files, &options), "the same files give the same answer");
    match &first {
        Ok(config) => printed_loads_to_the_same(&config.canonical, &files, &options),
        Err(errors) => check(errors),
    }
    if let Err(errors) = load(&files, &options) {
        check(&errors);
    }
    let _ = extension(&files, &options, "x-kedge");
    let _ = variables(&files, &options, &["x-kedge"]);
});

fn split(input: &str) -> MemoryFiles {
    let mut files = MemoryFiles::new("/p");
    let mut name = "compose.yaml";
    let mut text = String::new();
    for line in input.split_inclusive('\n') {
        match line.strip_prefix("#: ") {
            Some(next) => {
                files.insert(name, std::mem::take(&mut text));
                name = next.trim();
            }
            None => text.push_str(line),
        }
    }
    files.insert(name, text);
    files
}

/// An error names its place in a way that a terminal can show.
fn check(errors: &Errors) {
    assert!(!errors.all().is_empty());
    let shown = errors.to_string();
    assert!(!shown.contains(|c: char| c.is_control() && c != '\n' && c != '\t'), "{shown:?}");
}

fn has_dollar_key(value: &serde_json::Value) -> bool {
    match value {
        serde_json::Value::Array(items) => items.iter().any(has_dollar_key),
        serde_json::Value::Object(map) => {
            map.iter().any(|(key, value)| key.contains('$') || has_dollar_key(value))
        }
        _ => false,
    }
}

/// JSON is YAML. A project without services is printed but is none; dollar signs are doubled in keys too, where
/// nothing halves them again.
fn printed_loads_to_the_same(printed: &serde_json::Value, files: &MemoryFiles, options: &Options) {
    if printed["services"].as_object().is_none_or(serde_json::Map::is_empty) || has_dollar_key(printed) {
        return;
    }
    let files = files.clone().with("compose.yaml", printed.to_string());
    let options = Options { files: vec!["compose.yaml".to_owned()], ..options.clone() };
    match config(&files, &options) {
        Ok(again) => assert_eq!(again.canonical, *printed),
        Err(errors) => panic!("what was printed is refused: {errors}\n{printed}"),
    }
}
