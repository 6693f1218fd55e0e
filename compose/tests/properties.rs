//! What holds for any input: no panic, no hang, and the same input gives the same result.

use kedge_compose::{MemoryFiles, Options, config, load, variables};
use proptest::prelude::*;

fn options() -> Options {
    Options {
        project_directory: "/p".to_owned(),
        environment: [("A".to_owned(), "a".to_owned()), ("E".to_owned(), String::new())].into(),
        profiles: vec!["*".to_owned()],
        confined: true,
        ..Options::default()
    }
}

fn files(text: &str, env: &str) -> MemoryFiles {
    MemoryFiles::new("/p").with("compose.yaml", text).with("e.env", env)
}

/// Text that looks like a compose file often enough to get past the first stage.
fn compose_like() -> impl Strategy<Value = String> {
    let key = prop::sample::select(vec![
        "image",
        "ports",
        "volumes",
        "environment",
        "command",
        "depends_on",
        "networks",
        "deploy",
        "extends",
        "healthcheck",
        "build",
        "labels",
        "secrets",
        "configs",
        "ulimits",
        "logging",
        "extra_hosts",
        "devices",
        "gpus",
        "env_file",
        "x-a",
        "<<",
    ]);
    let scalar = prop_oneof![
        "[a-z0-9:./$~{}-]{0,12}",
        prop::sample::select(vec![
            "80:80",
            "1-3:1-3",
            "./a:/b:ro",
            "${A:-x}",
            "1m30s",
            "~",
            "!reset x",
            "*a",
            "&a b",
            "0777",
            "a b; c"
        ])
        .prop_map(str::to_owned),
    ];
    let value = scalar.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(|items| format!("[{}]", items.join(", "))),
            prop::collection::vec(("[a-z]{1,6}", inner), 0..3).prop_map(|items| {
                let pairs: Vec<String> =
                    items.into_iter().map(|(key, value)| format!("{key}: {value}")).collect();
                format!("{{{}}}", pairs.join(", "))
            }),
        ]
    });
    let service = prop::collection::vec((key, value), 0..6).prop_map(|keys| {
        keys.into_iter().map(|(key, value)| format!("    {key}: {value}\n")).collect::<String>()
    });
    prop::collection::vec(("[a-c]", service), 1..3).prop_map(|services| {
        let body: String = services.into_iter().map(|(name, body)| format!("  {name}:\n{body}")).collect();
        format!("services:\n{body}")
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_loaded_or_refused(text in any::<String>()) {
        let _ = load(&files(&text, ""), &options());
    }

    #[test]
    fn any_bytes_are_loaded_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = load(&MemoryFiles::new("/p").with("compose.yaml", bytes), &options());
    }

    #[test]
    fn what_looks_like_a_compose_file_is_loaded_or_refused_and_always_alike(text in compose_like()) {
        let files = files(&text, "X=1");
        prop_assert_eq!(config(&files, &options()), config(&files, &options()));
        if let Err(errors) = load(&files, &options()) {
            prop_assert!(!errors.all().is_empty());
            prop_assert!(errors.all().iter().all(|error| !error.message.is_empty()), "{}", errors);
        }
        let _ = variables(&files, &options(), &[]);
    }

    #[test]
    fn any_env_file_is_read_or_refused(env in any::<String>()) {
        let _ = config(&files("services: {a: {image: x, env_file: e.env}}", &env), &options());
    }

    #[test]
    fn any_template_is_filled_in_or_refused(template in "[$A-E{}:?+ -]{0,40}") {
        let text = format!("services: {{a: {{image: x, hostname: {}}}}}", serde_json::to_string(&template)?);
        let _ = config(&files(&text, ""), &options());
    }

    #[test]
    fn what_was_printed_loads_again_to_the_same(text in compose_like()) {
        if let Ok(first) = config(&files(&text, "X=1"), &options()) {
            // JSON is YAML. A project without services is printed but is none.
            let printed = first.canonical.to_string();
            if first.canonical["services"].as_object().is_some_and(|services| !services.is_empty()) {
                let again = config(&files(&printed, "X=1"), &options());
                prop_assert_eq!(again.map(|config| config.canonical.to_string()).map_err(|e| e.to_string()), Ok(printed));
            }
        }
    }
}
