//! Variables in values and in env files: never a panic, never more text than the limits allow, and no variable's value
//! in an error.
//!
//! The input is text: the first line is a template, the rest an env file that gives it values.

#![no_main]

use kedge_compose::{MemoryFiles, Options, config, variables};
use libfuzzer_sys::fuzz_target;

const SECRET: &str = "S3CR3T";

fuzz_target!(|input: &str| {
    let (template, env) = input.split_once('\n').unwrap_or((input, ""));
    if template.contains(SECRET) || env.contains(SECRET) {
        return;
    }
    let service =
        serde_json::json!({"image": "x", "hostname": template, "tty": template, "env_file": "e.env"});
    let files = MemoryFiles::new("/p")
        .with("compose.yaml", serde_json::json!({"services": {"a": service}}).to_string())
        .with(".env", env)
        .with("e.env", env);
    let options = Options {
        project_directory: "/p".to_owned(),
        environment: [("A", SECRET), ("EMPTY", "")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into(),
        confined: true,
        ..Options::default()
    };
    match config(&files, &options) {
        Ok(config) => {
            let host = config.canonical["services"]["a"]["hostname"].as_str().unwrap_or_default();
            assert!(host.len() <= 2 << 20, "dollar signs are doubled, nothing else grows");
        }
        // What stands after `?` is meant to be shown, and may itself name variables.
        Err(errors) if input.contains('?') => drop(errors),
        Err(errors) => assert!(!errors.to_string().contains(SECRET), "{errors}"),
    }
    let _ = variables(&files, &options, &[]);
});
