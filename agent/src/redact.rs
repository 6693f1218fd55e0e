//! Blacking out what may be secret before a text is shown, logged or sent. Pure.
//!
//! Two nets. What this host *knows* to be secret, the values of a deployment's secrets, is replaced wherever it stands. What
//! *looks* secret is replaced too: the value after a telling name (`password=…`, `"token": "…"`, `Authorization: Bearer …`),
//! the password in a URL, and long random words. The second net has holes, and it is the first that promises something.

use kedge_bundle::parameters::Secret;

/// What stands in place of a secret.
pub const BLACK: &str = "[redacted]";
/// A known secret shorter than this is only replaced as a whole word: `1` would black out everything.
pub const SHORT: usize = 4;
/// A word of mixed letters and digits from this length on looks like a key.
const RANDOM: usize = 24;

/// Parts of names whose values are secret.
const TELLING: [&str; 16] = [
    "pass",
    "pwd",
    "secret",
    "token",
    "apikey",
    "api_key",
    "api-key",
    "private",
    "cred",
    "auth",
    "dsn",
    "cookie",
    "salt",
    "licen",
    "signature",
    "session",
];

/// Whether a value under this name is secret, as far as a name tells.
pub fn is_telling(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    TELLING.iter().any(|part| name.contains(part)) || name.ends_with("key") || name.ends_with("keys")
}

/// Replaces what is known or looks secret.
#[derive(Debug, Clone, Default)]
pub struct Redactor {
    known: Vec<Secret>,
}

impl Redactor {
    /// One that knows these secrets.
    pub fn knowing(secrets: impl IntoIterator<Item = Secret>) -> Self {
        let mut known = Vec::new();
        for secret in secrets {
            // Logs come line by line: of a key that has many, each may turn up alone.
            // A short one of many says nothing: it would black out every lone brace.
            let many = secret.reveal().trim().lines().count() > 1;
            let least = if many { SHORT } else { 1 };
            let lines = secret.reveal().lines().map(str::trim).filter(|line| line.len() >= least);
            known.extend(lines.map(|line| Secret::new(line.to_owned())));
        }
        known.sort_by_key(|secret| std::cmp::Reverse(secret.reveal().len()));
        Self { known }
    }

    /// The same, knowing these too.
    #[must_use]
    pub fn and(mut self, secrets: impl IntoIterator<Item = Secret>) -> Self {
        self.known.extend(Self::knowing(secrets).known);
        self.known.sort_by_key(|secret| std::cmp::Reverse(secret.reveal().len()));
        self
    }

    /// The same, knowing what another one knows too.
    #[must_use]
    pub fn with(self, other: &Self) -> Self {
        self.and(other.known.iter().cloned())
    }

    /// What is known, the longest first.
    pub fn known(&self) -> impl Iterator<Item = &str> {
        self.known.iter().map(Secret::reveal)
    }

    /// The text without what is known or looks secret.
    pub fn text(&self, text: &str) -> String {
        guess(&self.only_known(text))
    }

    /// The text without what is known: for what is known to hold digests, which look random.
    pub fn only_known(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for secret in &self.known {
            text = replace(&text, secret.reveal());
        }
        if !self.known.is_empty() {
            text = text.split_inclusive('\n').fold(String::with_capacity(text.len()), |mut out, line| {
                self.push_without_beginning(&mut out, line);
                out
            });
        }
        text
    }

    /// A line that was cut may end in the beginning of a secret.
    fn push_without_beginning(&self, out: &mut String, line: &str) {
        let body = line.trim_end_matches('\n').trim_end_matches(['…', '\r']);
        let secrets = self.known.iter().map(Secret::reveal).filter(|secret| secret.len() > SHORT);
        let longest = secrets
            .flat_map(|secret| secret.char_indices().map(|(end, _)| &secret[..end]))
            .filter(|beginning| beginning.len() >= SHORT && body.ends_with(beginning))
            .map(str::len)
            .max();
        out.push_str(&body[..body.len() - longest.unwrap_or_default()]);
        if longest.is_some() {
            out.push_str(BLACK);
        }
        out.push_str(&line[body.len()..]);
    }

    /// Whether a value under this name may be shown as it is.
    pub fn may_show(&self, name: &str, value: &str) -> bool {
        !is_telling(name) && self.text(value) == value
    }
}

fn replace(text: &str, secret: &str) -> String {
    if secret.len() >= SHORT {
        return text.replace(secret, BLACK);
    }
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(secret) {
        let (before, from) = rest.split_at(at);
        let after = &from[secret.len()..];
        let alone = !before.ends_with(is_word) && !after.starts_with(is_word);
        out.push_str(before);
        out.push_str(if alone { BLACK } else { secret });
        rest = after;
    }
    out.push_str(rest);
    out
}

/// What ends a value.
fn ends_value(c: char) -> bool {
    c.is_whitespace() || matches!(c, '"' | '\'' | ',' | ';' | '&' | '}' | ')' | ']')
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.')
}

/// Goes from word to word: a telling name blacks out the value after it, any other word is looked at by itself.
fn guess(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(is_name) {
        out.push_str(&rest[..start]);
        rest = &rest[start..];
        let word = &rest[..rest.find(|c| !is_name(c)).unwrap_or(rest.len())];
        rest = &rest[word.len()..];
        if let Some(between) = before_value(word, rest) {
            out.push_str(word);
            out.push_str(&rest[..between]);
            rest = &rest[between..];
            let value = value_length(rest);
            if value > 0 && !rest.starts_with(BLACK) {
                out.push_str(BLACK);
            }
            rest = if rest.starts_with(BLACK) { rest } else { &rest[value..] };
        } else if let Some(userinfo) = userinfo(rest) {
            out.push_str(word);
            out.push_str("://");
            out.push_str(BLACK);
            rest = &rest["://".len() + userinfo..];
        } else {
            out.push_str(if looks_random(word) { BLACK } else { word });
        }
    }
    out.push_str(rest);
    out
}

/// Length of what stands between a telling name and its value: `=`, `: `, `":"`, or a space after `--flag`.
fn before_value(word: &str, rest: &str) -> Option<usize> {
    let trimmed = rest.trim_start_matches(['"', '\'', ' ']);
    let between = match trimmed.strip_prefix(['=', ':']) {
        Some(value) => rest.len() - value.trim_start_matches([' ', '"', '\'', '=']).len(),
        None if word.starts_with("--") && rest.starts_with(' ') => 1,
        None => return None,
    };
    // Asked last: it costs the most, and of most words of a log nothing of the above is true.
    is_telling(word).then_some(between)
}

/// Length of a value, the scheme of an `Authorization` header included.
fn value_length(rest: &str) -> usize {
    let word = |text: &str| text.find(ends_value).unwrap_or(text.len());
    let first = word(rest);
    let scheme = &rest[..first];
    if scheme.eq_ignore_ascii_case("bearer") || scheme.eq_ignore_ascii_case("basic") {
        let after = rest[first..].trim_start_matches(' ');
        let gap = rest.len() - first - after.len();
        return first + gap + word(after);
    }
    first
}

/// Length of `user:password` in `://user:password@host`.
fn userinfo(rest: &str) -> Option<usize> {
    let authority = rest.strip_prefix("://")?;
    let authority =
        &authority[..authority.find(|c: char| c == '/' || ends_value(c)).unwrap_or(authority.len())];
    let at = authority.rfind('@')?;
    authority[..at].contains(':').then_some(at)
}

fn looks_random(word: &str) -> bool {
    word.len() >= RANDOM
        && word.chars().any(|c| c.is_ascii_digit())
        && word.chars().any(|c| c.is_ascii_alphabetic())
        && !word.contains('.')
        && word.chars().filter(|c| *c == '-' || *c == '_').count() < 3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_goes_wherever_it_stands() {
        let redactor =
            Redactor::knowing(["hunter2", "ab", "-----BEGIN\nMIIxyz\n"].map(|s| Secret::new(s.into())));
        let table = [
            ("login with hunter2 failed", "login with [redacted] failed"),
            ("xhunter2y", "x[redacted]y"),
            ("a cab for ab.", "a cab for [redacted]."),
            ("read MIIxyz", "read [redacted]"),
        ];
        for (text, expected) in table {
            assert_eq!(redactor.text(text), expected, "{text}");
        }
        assert!(!redactor.may_show("GREETING", "hunter2"));
        assert!(!format!("{redactor:?}").contains("hunter2"));
    }

    #[test]
    fn the_beginning_of_a_secret_at_the_end_of_a_line_that_was_cut_goes_too() {
        let redactor = Redactor::knowing([Secret::new("hunter2-überlang".into())]);
        let table = [
            ("login with hunter2-ü", "login with [redacted]"),
            ("login with hunter2…\nnext", "login with [redacted]…\nnext"),
            ("login with hunt", "login with [redacted]"),
            ("login with hun", "login with hun"),
            ("hunter", "[redacted]"),
        ];
        for (text, expected) in table {
            assert_eq!(redactor.text(text), expected, "{text}");
        }
    }

    #[test]
    fn a_short_line_of_a_long_secret_blacks_out_nothing() {
        let redactor = Redactor::knowing([Secret::new("{\n  very: private\n}\n".into())]);
        assert_eq!(redactor.text("fn main() {\n}"), "fn main() {\n}");
        assert_eq!(redactor.text("read very: private"), "read [redacted]");
    }

    #[test]
    fn what_looks_secret_goes_too() {
        let table = [
            ("password=swordfish; user=ada", "password=[redacted]; user=ada"),
            ("DB_PASSWORD: swordfish", "DB_PASSWORD: [redacted]"),
            (r#"{"token":"abc","n":1}"#, r#"{"token":"[redacted]","n":1}"#),
            ("Authorization: Bearer abc.def ok", "Authorization: [redacted] ok"),
            ("run --api-key abc --verbose", "run --api-key [redacted] --verbose"),
            ("postgres://app:pw@db:5432/shop", "postgres://[redacted]@db:5432/shop"),
            ("key AKIAIOSFODNN7EXAMPLE0123abcd", "key [redacted]"),
        ];
        for (text, expected) in table {
            assert_eq!(Redactor::default().text(text), expected, "{text}");
        }
    }

    #[test]
    fn ordinary_text_stays_as_it_is() {
        for text in [
            "listens on port 8080",
            "GET http://api:8080/rows?value=1 200",
            "2026-01-31T12:00:00Z INFO ready in 12 ms",
            "sha256:1a2b3c",
            "höher, schöner; weiter…",
            "",
            "a-long-name-with-many-parts-v2-final",
        ] {
            assert_eq!(Redactor::default().text(text), text);
        }
        assert!(Redactor::default().may_show("LOG_LEVEL", "debug"));
        assert!(!Redactor::default().may_show("STRIPE_KEY", "x"));
    }
}
