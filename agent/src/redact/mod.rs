//! Blacking out what may be secret before a text is shown, logged or sent. Pure.
//!
//! Two nets. What this host *knows* to be secret, the values of a deployment's secrets, is replaced wherever it stands. What
//! *looks* secret is replaced too: the value after a telling name (`password=…`, `"token": "…"`, `Authorization: Bearer …`),
//! the password in a URL, and long random words. The second net has holes, and it is the first that promises something.

mod guess;

use std::borrow::Cow;

use guess::guess;
use kedge_bundle::parameters::Secret;

/// What stands in place of a secret.
pub const BLACK: &str = "[redacted]";
/// A known secret shorter than this is only replaced as a whole word: `1` would black out everything.
pub const SHORT: usize = 4;
pub use guess::is_telling;

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
        guess(&self.without_known(text))
    }

    /// The text without what is known: for what is known to hold digests, which look random.
    pub fn only_known(&self, text: &str) -> String {
        self.without_known(text).into_owned()
    }

    /// Copies nothing where nothing is known to stand.
    fn without_known<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut text = Cow::Borrowed(text);
        for secret in &self.known {
            if memchr::memmem::find(text.as_bytes(), secret.reveal().as_bytes()).is_some() {
                text = replace(&text, secret.reveal()).into();
            }
        }
        if self.ends_in_beginning(&text) {
            let whole =
                text.split_inclusive('\n').fold(String::with_capacity(text.len()), |mut out, line| {
                    self.push_without_beginning(&mut out, line);
                    out
                });
            text = whole.into();
        }
        text
    }

    /// Whether a line of this may end in the beginning of a secret.
    fn ends_in_beginning(&self, text: &str) -> bool {
        if self.known.is_empty() {
            return false;
        }
        let mut from = 0;
        let ends = memchr::memchr_iter(b'\n', text.as_bytes()).chain([text.len()]);
        for end in ends {
            if self.beginning(body(&text[from..end])) > 0 {
                return true;
            }
            from = (end + 1).min(text.len());
        }
        false
    }

    /// A line that was cut may end in the beginning of a secret.
    fn push_without_beginning(&self, out: &mut String, line: &str) {
        let body = body(line);
        let beginning = self.beginning(body);
        out.push_str(&body[..body.len() - beginning]);
        if beginning > 0 {
            out.push_str(BLACK);
        }
        out.push_str(&line[body.len()..]);
    }

    /// Length of the longest beginning of a secret that this ends in.
    fn beginning(&self, body: &str) -> usize {
        let mut longest = 0;
        for secret in
            self.known.iter().map(|secret| secret.reveal().as_bytes()).filter(|secret| secret.len() > SHORT)
        {
            let body = body.as_bytes();
            let mut length = body.len().min(secret.len() - 1);
            while length >= SHORT && length > longest {
                let end = &body[body.len() - length..];
                if end[0] == secret[0] && secret.starts_with(end) {
                    longest = length;
                }
                length -= 1;
            }
        }
        longest
    }

    /// Whether a value under this name may be shown as it is.
    pub fn may_show(&self, name: &str, value: &str) -> bool {
        !is_telling(name) && self.text(value) == value
    }
}

/// A line without its end.
fn body(line: &str) -> &str {
    let mut line = line.strip_suffix('\n').unwrap_or(line);
    // By bytes first: hardly a line ends so.
    while matches!(line.as_bytes().last(), Some(b'\r' | 0xa6)) {
        match line.strip_suffix(['…', '\r']) {
            Some(rest) => line = rest,
            None => break,
        }
    }
    line
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
