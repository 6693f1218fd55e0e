//! How much one load may cost, whatever its files say: a small file must not become a large tree.
//!
//! Everything that makes more of something is counted here before it is made: files read, values parsed, aliases and
//! `extends` written out, variables filled in, env files folded in. What is left is linear in what was counted.

use crate::codes;
use crate::diagnostics::{At, Finding};

/// Values that a project may have, once all is written out. Real projects stay below a few thousand.
pub(crate) const MAX_VALUES: usize = 100_000;
/// Bytes of text that these values, and the files they come from, may have.
pub(crate) const MAX_TEXT: usize = 16 << 20;

/// What has been spent so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Budget {
    values: usize,
    text: usize,
}

impl Budget {
    /// Counts values and bytes of text that are about to be made at a place.
    pub(crate) fn spend(&mut self, weight: Weight, at: At) -> Result<(), Finding> {
        self.values = self.values.saturating_add(weight.values);
        self.text = self.text.saturating_add(weight.text);
        let limit = |message: String| Finding::new(&codes::LIMIT, at, message);
        if self.values > MAX_VALUES {
            return Err(limit(format!(
                "the project has more than {MAX_VALUES} values once all that repeats is written out"
            )));
        }
        if self.text > MAX_TEXT {
            return Err(limit(format!(
                "the project has more than {} MiB of text once all that repeats is written out",
                MAX_TEXT >> 20
            )));
        }
        Ok(())
    }

    /// What has been spent so far.
    #[cfg(test)]
    pub(crate) fn spent(self) -> Weight {
        Weight { values: self.values, text: self.text }
    }
}

/// How much a tree is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Weight {
    /// Its values, lists and mappings counted too.
    pub(crate) values: usize,
    /// Bytes of its keys and texts.
    pub(crate) text: usize,
}

impl Weight {
    /// Text alone.
    pub(crate) fn text(bytes: usize) -> Self {
        Self { values: 0, text: bytes }
    }

    /// One value with so much text.
    pub(crate) fn value(bytes: usize) -> Self {
        Self { values: 1, text: bytes }
    }
}

impl std::ops::Add for Weight {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { values: self.values + other.values, text: self.text + other.text }
    }
}

impl std::iter::Sum for Weight {
    fn sum<I: Iterator<Item = Self>>(parts: I) -> Self {
        parts.fold(Self::default(), std::ops::Add::add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::{self, Loader};
    use crate::{MemoryFiles, Options};

    /// What loading these files costs, and why it fails, if it does.
    fn cost(files: &[(&str, &str)]) -> (Weight, Option<&'static str>) {
        let memory = files.iter().fold(MemoryFiles::new("/p"), |all, (name, text)| all.with(name, *text));
        let options = Options { project_directory: "/p".to_owned(), confined: true, ..Options::default() };
        let mut loader = Loader::new(&memory, &options);
        let fine = load::load(&mut loader, &options).is_ok();
        let spent = loader.budget.spent();
        let errors = (!fine).then(|| loader.findings.into_errors(&loader.sources));
        // Of several errors the limit is the one that counts here.
        let limit = |errors: crate::Errors| {
            let found = errors.all().iter().find(|error| error.code == &codes::LIMIT);
            found.map_or(errors.code().id, |error| error.code.id)
        };
        (spent, errors.map(limit))
    }

    fn services(count: usize, body: &str) -> String {
        let each: String = (0..count).map(|index| format!("  s{index}: {body}\n")).collect();
        format!("services:\n{each}")
    }

    /// Work grows with the file, not with its square.
    #[test]
    fn twice_the_file_costs_twice_as_much() {
        let pairs = |count: usize| (0..count).map(|n| format!("'K{n}=$A${{U{n}:-x}}', ")).collect::<String>();
        let shapes: [&dyn Fn(usize) -> String; 5] = [
            &|n| services(n, "{image: x, depends_on: [s0]}").replacen(", depends_on: [s0]", "", 1),
            &|n| format!("services: {{a: {{image: x, environment: [{}]}}}}", pairs(10 * n)),
            &|n| format!("x-a: &a [1, 2]\nx-b: [{}]\nservices: {{a: {{image: x}}}}", "*a, ".repeat(10 * n)),
            &|n| {
                format!(
                    "x-a: &a {{k: 1}}\nservices:\n  a: {{image: x, x-b: {{<<: [{}]}}}}",
                    "*a, ".repeat(10 * n)
                )
            },
            &|n| services(n, "{image: x, extends: s0}").replacen(", extends: s0", "", 1),
        ];
        for shape in shapes {
            let ((once, fine), (twice, also)) =
                (cost(&[("compose.yaml", &shape(100))]), cost(&[("compose.yaml", &shape(200))]));
            assert!(fine.is_none() && also.is_none(), "{}", shape(3));
            let at_most = |one: usize, two: usize| two * 100 <= one * 215;
            assert!(at_most(once.values, twice.values), "{once:?} {twice:?}: {}", shape(3));
            assert!(at_most(once.text, twice.text), "{once:?} {twice:?}: {}", shape(3));
        }
    }

    /// What is refused is refused as soon as the limit is passed: no more is made than the one thing that passed it.
    #[test]
    fn a_bomb_goes_off_at_the_limit() {
        let long = "x".repeat(1 << 20);
        let many: String = (0..20_000).map(|n| format!("K{n}=1\n")).collect();
        let base = format!("base: {{image: x, environment: [{}]}}", many.replace('\n', ", "));
        let bombs = [
            format!("x-a: &a '{long}'\nx-b: [{}]", "*a, ".repeat(1000)),
            format!("x-a: &a {{? '{long}' : 1}}\nx-b: [{}]", "*a, ".repeat(1000)),
            services(500, "{extends: base}") + "  " + &base,
            services(500, &format!("{{image: x, hostname: '{}'}}", "$BIG".repeat(2))),
            services(500, "{image: x, hostname: '${BIG:+x}${PATH:-$BIG}'}"),
            services(500, "{image: x, hostname: '${NO:?$BIG}'}"),
            services(100, "{image: x, env_file: many.env}"),
            services(100, "{image: x, label_file: many.env}"),
            "---\nservices: {a: {image: x}}\n".repeat(100),
            services(
                900,
                &format!("{{image: x, links: [{}]}}", (0..90).map(|n| format!("s{n}, ")).collect::<String>()),
            ),
            services(900, &format!("{{image: x, command: '{}'}}", "a ".repeat(500))),
            services(9, &format!("{{image: x, extra_hosts: ['a={}']}}", "1,".repeat(50_000))),
        ];
        let big = format!("BIG={}", &long[..500_000]);
        for bomb in bombs {
            let (spent, code) = cost(&[("compose.yaml", &bomb), ("many.env", &many), (".env", &big)]);
            assert_eq!(code, Some("KE-1007"), "{}", &bomb[..80]);
            assert!(spent.values <= MAX_VALUES + 25_000, "{spent:?}: {}", &bomb[..80]);
            assert!(spent.text <= MAX_TEXT + (2 << 20), "{spent:?}: {}", &bomb[..80]);
        }
    }
}
