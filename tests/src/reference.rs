//! `docs/errors.md`, made from the catalogues in the code: every error code with cause, remedy, exit code and whether
//! trying again can help.

use std::fmt::Write;

use kedge_bundle::codes::{Code, exit};

/// Where the page lies, relative to the repository.
pub const PATH: &str = "docs/errors.md";

/// The catalogues in the order of their numbers, each under its heading.
fn parts() -> Vec<(&'static str, Vec<Code>)> {
    let compose = kedge_compose::codes::ALL.iter().map(|c| Code {
        id: c.id,
        exit: c.exit,
        retry: c.retry,
        cause: c.cause,
        remedy: c.remedy,
    });
    vec![
        ("Compose files", compose.collect()),
        ("Bundles", kedge_bundle::codes::ALL.to_vec()),
        ("The agent and the customer's command line", kedge::codes::ALL.to_vec()),
        ("The container engine", kedge::engine::codes::ALL.to_vec()),
        ("The hub and the vendor's command line", kedgectl::codes::ALL.to_vec()),
    ]
}

/// The page.
pub fn render() -> String {
    let mut page = String::from(
        "# Errors and exit codes\n\n\
         Every error says what failed, where, and what to do, and carries a code that never changes its meaning: the same\n\
         in the message on the terminal, in the log, in `kedge status` and in what the hub is told. This page is made from\n\
         the code by `cargo run -p kedge-tests --bin reference`.\n\n\
         ## Exit codes\n\n\
         The same for `kedge` and `kedgectl`.\n\n\
         | exit | meaning |\n|---:|---|\n| 0 | It is done. |\n",
    );
    for (number, meaning) in exit::ALL {
        let _ = writeln!(page, "| {number} | {} |", cell(meaning));
    }
    for (title, codes) in parts() {
        let _ = write!(
            page,
            "\n## {title}\n\n| code | exit | again? | what happened | what to do |\n|---|---:|---|---|---|\n"
        );
        for code in codes {
            let again = if code.retry { "can help" } else { "cannot help" };
            let (cause, remedy) = (cell(code.cause), cell(code.remedy));
            let _ = writeln!(page, "| {} | {} | {again} | {cause}. | {remedy}. |", code.id, code.exit);
        }
    }
    page
}

/// What is wrong with the catalogues as a whole: a code that is there twice, an exit code that nobody explains.
pub fn inconsistencies() -> Vec<String> {
    let codes = parts().into_iter().flat_map(|(_, codes)| codes).collect::<Vec<_>>();
    check(&codes)
}

fn check(codes: &[Code]) -> Vec<String> {
    let mut found = Vec::new();
    let mut seen = std::collections::BTreeSet::new();
    for code in codes {
        let digits = code.id.strip_prefix("KE-").unwrap_or_default();
        if digits.len() != 4 || !digits.bytes().all(|b| b.is_ascii_digit()) {
            found.push(format!("{} is not `KE-` and four digits", code.id));
        }
        if !seen.insert(code.id) {
            found.push(format!("{} is there twice", code.id));
        }
        if !exit::ALL.iter().any(|(number, _)| *number == code.exit) {
            found.push(format!("{} ends with exit code {}, which no table explains", code.id, code.exit));
        }
        for text in [code.cause, code.remedy] {
            if text.is_empty() || text.ends_with('.') {
                found.push(format!("{}: \"{text}\" is not a sentence without its full stop", code.id));
            }
        }
    }
    found
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_catalogue_that_contradicts_itself_is_noticed() {
        let good = Code { id: "KE-1234", exit: 2, retry: false, cause: "It broke", remedy: "Mend it" };
        assert!(check(&[good]).is_empty());
        for (bad, expected) in [
            (vec![good, good], "twice"),
            (vec![Code { id: "KE-12", ..good }], "four digits"),
            (vec![Code { exit: 99, ..good }], "no table explains"),
            (vec![Code { cause: "It broke.", ..good }], "full stop"),
            (vec![Code { remedy: "", ..good }], "full stop"),
        ] {
            let found = check(&bad);
            assert!(found.len() == 1 && found[0].contains(expected), "{found:?}");
        }
    }
}
