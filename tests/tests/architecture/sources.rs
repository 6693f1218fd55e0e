//! Rules that need the source: what a module names, and how a file is made.
//!
//! Files are read as tokens, so comments and strings never count, macros do, and `use std::{fs, net}` is seen
//! for what it is. What stands under `#[cfg(test)]` is left out: tests may use what the code may not.

use std::path::Path;
use std::str::FromStr;

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// Longest file, lines. What grows beyond it holds two ideas.
const MOST_LINES: usize = 800;

/// A source file, path relative to the repository.
pub(crate) struct Source {
    pub(crate) path: String,
    text: String,
}

/// A prohibition: what the files under some folders may not name.
pub(crate) struct Rule {
    /// Prefixes of paths that the rule is about.
    within: &'static [&'static str],
    /// Prefixes of paths that are excepted.
    except: &'static [&'static str],
    /// Names and paths, such as `tokio` or `std::fs`.
    never: &'static [&'static str],
    /// The reason, for whoever breaks it.
    pub(crate) why: &'static str,
}

const EFFECTS: &[&str] = &[
    "tokio",
    "bollard",
    "sled",
    "rustix",
    "reqwest",
    "hyper",
    "tonic",
    "std::fs",
    "std::net",
    "std::process",
    "std::env",
    "std::os",
];

/// The rules.
pub(crate) const RULES: &[Rule] = &[
    Rule {
        within: &["agent/src/plan", "agent/src/guard", "bundles/src/verify", "agent/src/support/core"],
        except: &[],
        never: EFFECTS,
        why: "a pure core: what it decides must not depend on a runtime, an engine, a disk or a network",
    },
    Rule {
        within: &["compose/src"],
        except: &["compose/src/files.rs"],
        never: EFFECTS,
        why: "reading a compose file has no effects",
    },
    Rule {
        within: &["agent/src"],
        except: &["agent/src/engine/"],
        never: &["bollard"],
        why: "engine/ is the only module that speaks to Docker",
    },
    Rule {
        within: &["agent/src"],
        except: &["agent/src/store/"],
        never: &["sled"],
        why: "store/ is the only module that names the database, so that nothing gets round the barrier",
    },
    Rule {
        within: &["agent/src"],
        except: &[],
        never: &["TcpListener", "TcpIncoming"],
        why: "the agent never listens on the network",
    },
    Rule {
        within: &["agent/src"],
        except: &[],
        never: &["SigningKey", "kedge_bundle::build", "kedge_bundle::keys"],
        why: "the agent signs no releases and builds no bundles",
    },
    Rule {
        within: &["agent/src"],
        except: &[],
        never: &["kedgectl"],
        why: "the agent does not know the hub's code",
    },
    Rule {
        within: &["hub/src"],
        except: &[],
        never: &["kedge", "bollard"],
        why: "the hub runs no containers and does not know the agent's code",
    },
];

impl Rule {
    /// Whether the rule is about this file.
    pub(crate) fn covers(&self, path: &str) -> bool {
        self.within.iter().any(|p| path.starts_with(p)) && !self.except.iter().any(|p| path.starts_with(p))
    }

    /// Where the file names what it may not.
    pub(crate) fn broken_in(&self, file: &Source) -> Vec<String> {
        if is_test_module(&file.path) {
            return Vec::new();
        }
        let words = words(tokens(file));
        let mut found = Vec::new();
        for name in self.never {
            let parts: Vec<&str> = name.split("::").collect();
            for line in occurrences(&words, &parts) {
                found.push(format!("{}:{line} names {name}: {}", file.path, self.why));
            }
        }
        found
    }
}

/// Every source file of the repository that is written by hand.
pub(crate) fn read_all(root: &Path) -> Vec<Source> {
    let mut files = Vec::new();
    for folder in ["compose", "bundles", "proto", "agent", "hub", "tests", "packaging", "fuzz"] {
        collect(root, &root.join(folder), &mut files);
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files
}

fn collect(root: &Path, folder: &Path, files: &mut Vec<Source>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let path = entry.expect("a readable folder").path();
        if path.is_dir() && path.file_name().is_some_and(|n| n != "target") {
            collect(root, &path, files);
        } else if path.extension().is_some_and(|e| e == "rs") {
            let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            let path = path.strip_prefix(root).expect("it lies within").display().to_string();
            files.push(Source { path, text });
        }
    }
}

/// What about the form of a file breaks a rule.
pub(crate) fn broken_form(file: &Source) -> Vec<String> {
    let mut found = Vec::new();
    if !is_test_module(&file.path) && !file.text.starts_with("//! ") {
        found.push(format!("{}: it does not begin with a `//!` that says what it is for", file.path));
    }
    let lines = file.text.lines().count();
    if lines > MOST_LINES {
        found.push(format!("{}: {lines} lines; at most {MOST_LINES}", file.path));
    }
    found
}

/// A module of unit tests beside what it tests, in a file or folder of its own.
fn is_test_module(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.contains("src/") && path.contains("/tests/")
}

fn tokens(file: &Source) -> TokenStream {
    TokenStream::from_str(&file.text).unwrap_or_else(|e| panic!("{} is not Rust: {e}", file.path))
}

/// One token that matters here: a name, or one of `::`, `{`, `}` and `,`.
struct Word {
    text: String,
    line: usize,
}

/// The names in order, without what is compiled for tests only.
fn words(stream: TokenStream) -> Vec<Word> {
    let mut out = Vec::new();
    flatten(stream, &mut out);
    out
}

fn flatten(stream: TokenStream, out: &mut Vec<Word>) {
    let mut trees = stream.into_iter().peekable();
    while let Some(tree) = trees.next() {
        let line = tree.span().start().line;
        match tree {
            TokenTree::Punct(p) if p.as_char() == '#' => {
                let Some(TokenTree::Group(attribute)) = trees.peek() else { continue };
                if is_cfg_test(&attribute.stream()) {
                    trees.next();
                    // The item that it stands before ends with its braces or its semicolon.
                    for tree in trees.by_ref() {
                        match tree {
                            TokenTree::Group(g) if g.delimiter() == Delimiter::Brace => break,
                            TokenTree::Punct(p) if p.as_char() == ';' => break,
                            _ => {}
                        }
                    }
                }
            }
            TokenTree::Punct(p) if p.as_char() == ':' => {
                if matches!(trees.peek(), Some(TokenTree::Punct(next)) if next.as_char() == ':') {
                    trees.next();
                    out.push(Word { text: "::".to_owned(), line });
                }
            }
            TokenTree::Punct(p) if p.as_char() == ',' => out.push(Word { text: ",".to_owned(), line }),
            TokenTree::Punct(_) | TokenTree::Literal(_) => {}
            TokenTree::Ident(ident) => out.push(Word { text: ident.to_string(), line }),
            TokenTree::Group(group) => {
                let braces = group.delimiter() == Delimiter::Brace;
                if braces {
                    out.push(Word { text: "{".to_owned(), line });
                }
                flatten(group.stream(), out);
                if braces {
                    out.push(Word { text: "}".to_owned(), line });
                }
            }
        }
    }
}

fn is_cfg_test(attribute: &TokenStream) -> bool {
    attribute.to_string().replace(' ', "") == "cfg(test)"
}

/// Lines on which the path is named, written out or through `a::{b, c}`.
fn occurrences(words: &[Word], path: &[&str]) -> Vec<usize> {
    let mut lines = Vec::new();
    for start in 0..words.len() {
        // A crate's name within another path, such as `crate::tokio`, is somebody else's; a type's name never is.
        let is_type = path[0].starts_with(char::is_uppercase);
        let within = start > 0 && words[start - 1].text == "::" && !leads_from_root(words, start);
        if words[start].text == path[0] && (is_type || !within) {
            find_rest(words, start + 1, &path[1..], words[start].line, &mut lines);
        }
    }
    lines.dedup();
    lines
}

/// Whether the `::` before `at` begins a path, as in `::tokio`.
fn leads_from_root(words: &[Word], at: usize) -> bool {
    at < 2 || matches!(words[at - 2].text.as_str(), "{" | "}" | "," | "use")
}

fn find_rest(words: &[Word], at: usize, rest: &[&str], line: usize, lines: &mut Vec<usize>) {
    let Some(next) = rest.first() else {
        lines.push(line);
        return;
    };
    let text = |i: usize| words.get(i).map(|w| w.text.as_str());
    if text(at) != Some("::") {
        return;
    }
    if text(at + 1) == Some(next) {
        find_rest(words, at + 2, &rest[1..], words[at + 1].line, lines);
    } else if text(at + 1) == Some("{") {
        let mut depth = 1;
        let mut i = at + 2;
        while depth > 0 && i < words.len() {
            match text(i) {
                Some("{") => depth += 1,
                Some("}") => depth -= 1,
                Some(word) if depth == 1 && word == *next && matches!(text(i - 1), Some("{" | ",")) => {
                    find_rest(words, i + 1, &rest[1..], words[i].line, lines);
                }
                _ => {}
            }
            i += 1;
        }
    }
}

#[cfg(test)]
mod samples {
    use super::*;

    fn found(path: &str, text: &str) -> Vec<String> {
        let file = Source { path: path.to_owned(), text: text.to_owned() };
        RULES.iter().filter(|r| r.covers(path)).flat_map(|r| r.broken_in(&file)).collect()
    }

    #[test]
    fn what_may_not_be_named_is_found_however_it_is_written() {
        for (path, text) in [
            ("agent/src/plan/mod.rs", "use tokio::sync::Mutex;"),
            ("agent/src/plan/mod.rs", "use ::tokio::sync::Mutex;"),
            ("agent/src/plan/mod.rs", "use std::{collections::BTreeMap, fs};"),
            ("agent/src/plan/mod.rs", "use {std::{sync::Arc, fs::{File}}, serde::Serialize};"),
            ("agent/src/plan/mod.rs", "fn f() { let x = std::fs::read(\"x\"); }"),
            ("agent/src/plan/mod.rs", "fn f() { println!(\"{}\", std::env::var(\"X\")); }"),
            ("agent/src/guard/rules.rs", "use std::net::IpAddr as Address;"),
            ("bundles/src/verify/mod.rs", "pub use std::fs as disk;"),
            ("compose/src/parse.rs", "use std::fs;"),
            ("agent/src/apply/mod.rs", "use bollard::Docker;"),
            ("agent/src/engines.rs", "use bollard::Docker;"),
            ("agent/src/deploy/mod.rs", "type Db = sled::Db;"),
            ("agent/src/local/mod.rs", "fn f() { tokio::net::TcpListener::bind(a); }"),
            ("agent/src/tether/mod.rs", "use ed25519_dalek::{Signature, SigningKey};"),
            ("agent/src/tether/mod.rs", "use kedge_bundle::{build, verify};"),
            ("agent/src/tether/mod.rs", "use kedgectl::hub;"),
            ("hub/src/lib.rs", "use kedge::store;"),
        ] {
            assert_eq!(found(path, text).len(), 1, "{path}: {text}");
        }
    }

    #[test]
    fn what_is_allowed_is_not_found() {
        for (path, text) in [
            (
                "agent/src/plan/mod.rs",
                "//! Never tokio, never std::fs.\n/* bollard */ const X: &str = \"tokio::fs\";",
            ),
            ("agent/src/plan/mod.rs", "#[cfg(test)]\nmod tests { use std::fs; }\nfn f() {}"),
            ("agent/src/plan/mod.rs", "#[cfg(test)]\nuse std::fs;\nfn f() {}"),
            ("agent/src/plan/tests.rs", "use std::fs;"),
            ("agent/src/plan/mod.rs", "use crate::{desired::fs, std_like};"),
            ("agent/src/plan/mod.rs", "use std::{collections::{BTreeMap, fs}};"),
            ("agent/src/engine/docker/mod.rs", "use bollard::Docker;"),
            ("agent/src/store/mod.rs", "use sled::Db;"),
            ("agent/src/local/mod.rs", "use tokio::net::UnixListener;"),
            ("bundles/src/build/mod.rs", "use std::fs;"),
        ] {
            assert_eq!(found(path, text), Vec::<String>::new(), "{path}: {text}");
        }
    }

    #[test]
    fn what_follows_a_test_module_still_counts() {
        let text = "#[cfg(test)]\nmod tests { use std::fs; }\nuse std::net::IpAddr;";
        assert_eq!(found("agent/src/plan/mod.rs", text).len(), 1);
    }

    #[test]
    fn findings_name_the_line() {
        let text = "//! Plan.\n\nuse std::{\n    sync::Arc,\n    fs,\n};";
        assert!(found("agent/src/plan/mod.rs", text)[0].starts_with("agent/src/plan/mod.rs:5 names std::fs"));
    }

    #[test]
    fn the_form_of_files_is_checked() {
        let broken = |path: &str, text: String| broken_form(&Source { path: path.to_owned(), text }).len();
        assert_eq!(broken("agent/src/a.rs", "use x;".to_owned()), 1);
        assert_eq!(broken("agent/src/a.rs", format!("//! A.\n{}", "\n".repeat(MOST_LINES))), 1);
        assert_eq!(broken("agent/src/a.rs", "//! A.".to_owned()), 0);
        assert_eq!(broken("agent/src/a/tests.rs", "use x;".to_owned()), 0);
        assert_eq!(broken("tests/tests/story.rs", "use x;".to_owned()), 1);
    }
}
