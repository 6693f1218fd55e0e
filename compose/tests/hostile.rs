//! Files that are made to do harm: they are refused, in few words, before they cost much, and they see nothing but
//! the project's own folder.
#![allow(clippy::expect_used, reason = "tests fail loudly")]

use kedge_compose::{DirFiles, Errors, MemoryFiles, Options, config, load};

fn options() -> Options {
    Options { project_directory: "/p".to_owned(), confined: true, ..Options::default() }
}

fn refused(text: &str) -> Errors {
    let files = MemoryFiles::new("/p").with("compose.yaml", text);
    config(&files, &options()).expect_err(&text.chars().take(80).collect::<String>())
}

#[test]
fn limits_are_told_as_limits() {
    let long = "x".repeat(1 << 20);
    for text in [
        "[".repeat(200),
        "- ".repeat(200),
        "{a: ".repeat(200),
        format!("a: &a '{long}'\nb: [{}]", "*a, ".repeat(1000)),
        format!("services: {{a: {{image: '{}'}}}}", "$".repeat(2 << 20)),
        "---\na: 1\n".repeat(33),
        format!(
            "services: {{a: {{image: '{}'}}}}",
            (0..200_000).map(|n| format!("$U{n}")).collect::<String>()
        ),
    ] {
        assert_eq!(refused(&text).code().id, "KE-1007", "{}", &text[..60]);
    }
}

#[test]
fn short_forms_that_are_not_short_are_mistakes() {
    for text in [
        format!("services: {{a: {{image: x, volumes: ['{}']}}}}", ":".repeat(1 << 20)),
        format!("services: {{a: {{image: x, ports: ['{}']}}}}", "1-".repeat(1 << 20)),
        format!("services: {{a: {{image: x, stop_grace_period: '{}'}}}}", "1s".repeat(1 << 20)),
        format!("services: {{a: {{image: x, mem_limit: '{}1g'}}}}", "1.".repeat(1 << 20)),
    ] {
        assert_eq!(refused(&text).code().id, "KE-1003", "{}", &text[..60]);
    }
}

#[test]
fn however_long_a_line_or_a_name_is_an_error_is_short() {
    for text in [
        format!("? {}\n: 1\n", "k".repeat(1 << 20)),
        format!("services: {{a: {{image: x, {}: 1}}}}", "k".repeat(1000)),
        format!("services: {{a: {{image: x, tty: {}}}}}", "y".repeat(1 << 20)),
        format!("{{\"services\": {{\"a\": {{\"image\": \"x\"}}, \"b\": [{}]}}}}", "1, ".repeat(20_000)),
    ] {
        let shown = refused(&text).to_string();
        assert!(shown.len() < 5000, "{} bytes: {}", shown.len(), shown.chars().take(200).collect::<String>());
    }
}

#[test]
fn a_circle_ends_however_many_files_it_goes_through() {
    let ring = |count: usize, line: &dyn Fn(usize) -> String| {
        (0..count).fold(MemoryFiles::new("/p"), |files, n| {
            let name = if n == 0 { "compose.yaml".to_owned() } else { format!("f{n}.yaml") };
            files.with(&name, line((n + 1) % count))
        })
    };
    let name = |n: usize| if n == 0 { "compose.yaml".to_owned() } else { format!("f{n}.yaml") };
    for count in [1, 2, 5, 12] {
        let includes =
            ring(count, &|next| format!("include: [{}]\nservices: {{s{next}: {{image: x}}}}", name(next)));
        let extends = ring(count, &|next| {
            format!("services: {{a: {{image: x, extends: {{file: {}, service: a}}}}}}", name(next))
        });
        for files in [includes, extends] {
            let errors = config(&files, &options()).expect_err("a circle");
            assert_eq!(errors.code().id, "KE-1008", "{count}: {errors}");
        }
    }
    let deep: String =
        (0..999).map(|n| format!("  s{n}: {{image: x, depends_on: [s{}]}}\n", (n + 1) % 999)).collect();
    assert_eq!(refused(&format!("services:\n{deep}")).code().id, "KE-1008");
}

/// A link that leads out is as good as a path that does.
#[cfg(unix)]
#[test]
fn links_that_lead_out_of_the_project_are_refused_wherever_a_file_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let project = folder.path().join("project");
    std::fs::create_dir(&project).unwrap();
    std::fs::write(folder.path().join("outside"), "services: {b: {image: SECRET}}\n").unwrap();
    std::os::unix::fs::symlink("../outside", project.join("link")).unwrap();
    std::os::unix::fs::symlink("..", project.join("up")).unwrap();
    let files = DirFiles::confined(&project).unwrap();
    let here = project.display().to_string();
    let options = Options { project_directory: here.clone(), confined: true, ..Options::default() };
    for path in ["link", "up/outside", "../outside", "./up/../../outside", "/etc/shadow"] {
        for text in [
            format!("services: {{a: {{image: x, env_file: {path}}}}}"),
            format!("services: {{a: {{image: x, label_file: {path}}}}}"),
            format!("services: {{a: {{extends: {{file: {path}, service: b}}}}}}"),
            format!("include: [{path}]"),
            format!("include: [{{path: in.yaml, env_file: {path}}}]"),
            format!("services: {{a: {{image: x, configs: [c]}}}}\nconfigs: {{c: {{file: {path}}}}}"),
            format!("services: {{a: {{image: x, secrets: [c]}}}}\nsecrets: {{c: {{file: {path}}}}}"),
        ] {
            std::fs::write(project.join("compose.yaml"), &text).unwrap();
            std::fs::write(project.join("in.yaml"), "services: {i: {image: x}}").unwrap();
            let errors = load(&files, &options).expect_err(&text);
            assert!(matches!(errors.code().id, "KE-1009" | "KE-1011"), "{text}: {errors}");
            assert!(!errors.to_string().contains("SECRET"), "{text}: {errors}");
        }
    }
}
