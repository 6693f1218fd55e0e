//! The catalogue of error codes that reading a compose file can give. `docs/errors.md` is made from it.
//!
//! A code is a promise: its number never changes its meaning. None of these passes by itself, so none is worth a retry.

/// One entry of the catalogue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Code {
    /// Stable identifier, `KE-` and four digits.
    pub id: &'static str,
    /// Exit status of a command that ends with it.
    pub exit: u8,
    /// What happened, as a sentence without the final full stop.
    pub cause: &'static str,
    /// What to do about it, likewise.
    pub remedy: &'static str,
    /// Whether trying again, unchanged, can help.
    pub retry: bool,
}

impl std::fmt::Display for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.id)
    }
}

const fn code(id: &'static str, cause: &'static str, remedy: &'static str) -> Code {
    Code { id, exit: 10, cause, remedy, retry: false }
}

/// KE-1001.
pub static UNREADABLE: Code = code(
    "KE-1001",
    "A compose file or env file is not readable: not UTF-8, not YAML, a key given twice, or a malformed line",
    "Correct the line shown; mind indentation and quotes",
);
/// KE-1002.
pub static UNKNOWN_KEY: Code = code(
    "KE-1002",
    "A key is not part of the Compose specification at this place",
    "Correct the spelling, move it to where it belongs, or prefix it with `x-` if it is meant as an extension",
);
/// KE-1003.
pub static WRONG_VALUE: Code = code(
    "KE-1003",
    "A value has the wrong type or form for its key",
    "Write the value in the form that the message names; numbers that are meant as text need quotes",
);
/// KE-1004.
pub static VARIABLE_MISSING: Code = code(
    "KE-1004",
    "A variable is required and has no value, or its `${…}` expression is malformed",
    "Give the parameter or environment variable a value; write a literal dollar sign as `$$`",
);
/// KE-1005.
pub static NOT_HANDLED: Code = code(
    "KE-1005",
    "A key is part of the Compose specification, and Kedge cannot honour it on a customer's host",
    "Remove the key or use what the message suggests instead",
);
/// KE-1006.
pub static BUILD_WITHOUT_IMAGE: Code = code(
    "KE-1006",
    "A service is built from source and names no image; nothing is ever built on a customer's host",
    "Build and publish the image when releasing (`docker build -t NAME . && docker push NAME`) and add `image: NAME` to the service",
);
/// KE-1007.
pub static LIMIT: Code = code(
    "KE-1007",
    "A limit was passed: file size, nesting, repeated aliases, expanded ports, or text after filling in variables",
    "Simplify the file. Real projects stay far below the limits, which exist so that a hostile file cannot exhaust the host",
);
/// KE-1008.
pub static CYCLE: Code = code(
    "KE-1008",
    "Services, included files or extended services depend on each other in a circle",
    "Remove one of the links that the message lists",
);
/// KE-1009.
pub static ESCAPES: Code = code(
    "KE-1009",
    "A path leads outside the project's folder, directly or through a symbolic link",
    "Move the file into the project's folder and refer to it by a relative path",
);
/// KE-1010.
pub static UNDEFINED: Code = code(
    "KE-1010",
    "Something refers to a service, network, volume, config or secret that the project does not define or has disabled",
    "Define it, correct the name, or enable the profile that it belongs to",
);
/// KE-1011.
pub static FILE_MISSING: Code = code(
    "KE-1011",
    "A file that the project needs does not exist or cannot be read",
    "Add the file, or correct its path; an optional env file can be marked `required: false`",
);
/// KE-1012.
pub static CONTRADICTION: Code =
    code("KE-1012", "Two keys of the same thing contradict each other", "Keep one of the two");
/// KE-1013.
pub static NAME: Code = code(
    "KE-1013",
    "The project has no name, or one with characters that Docker does not allow",
    "Use lower-case letters, digits, `-` and `_`, starting with a letter or digit, in `name:` or with `--project-name`",
);

/// Every code of this crate, ascending.
pub static ALL: &[&Code] = &[
    &UNREADABLE,
    &UNKNOWN_KEY,
    &WRONG_VALUE,
    &VARIABLE_MISSING,
    &NOT_HANDLED,
    &BUILD_WITHOUT_IMAGE,
    &LIMIT,
    &CYCLE,
    &ESCAPES,
    &UNDEFINED,
    &FILE_MISSING,
    &CONTRADICTION,
    &NAME,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_ascending_and_explained() {
        let ids: Vec<&str> = ALL.iter().map(|code| code.id).collect();
        let mut sorted = ids.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(ids, sorted);
        assert!(ALL.iter().all(|code| !code.cause.is_empty() && !code.remedy.is_empty() && code.exit == 10));
    }
}
