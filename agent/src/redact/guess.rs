//! The second net: what looks secret. Every byte of every log that leaves goes through here, so that what is not looked at
//! closer costs a look into a table.

use super::BLACK;

/// A word of mixed letters and digits from this length on looks like a key.
const RANDOM: usize = 24;

/// Parts of names whose values are secret, in small letters.
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

/// What names are made of.
const NAME: [bool; 256] = table(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.");
/// What [`TELLING`] parts begin with.
const BEGINS: [bool; 256] = table(b"pstacdlPSTACDL");

const fn table(bytes: &[u8]) -> [bool; 256] {
    let mut table = [false; 256];
    let mut at = 0;
    while at < bytes.len() {
        table[bytes[at] as usize] = true;
        at += 1;
    }
    table
}

/// Whether a value under this name is secret, as far as a name tells.
pub fn is_telling(name: &str) -> bool {
    let name = name.as_bytes();
    let begins = |at: usize, part: &[u8]| {
        let mut same = 0;
        while same < part.len()
            && at + same < name.len()
            && name[at + same].to_ascii_lowercase() == part[same]
        {
            same += 1;
        }
        same == part.len()
    };
    let mut at = 0;
    while at < name.len() {
        if BEGINS[name[at] as usize] && TELLING.iter().any(|part| begins(at, part.as_bytes())) {
            return true;
        }
        at += 1;
    }
    ["key", "keys"]
        .iter()
        .any(|end| name.len() >= end.len() && begins(name.len() - end.len(), end.as_bytes()))
}

/// Goes from word to word: a telling name blacks out the value after it, any other word is looked at by itself.
///
/// Plain loops and not what the standard library has for them: the program is built to be small, and then those are calls.
pub(super) fn guess(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = String::with_capacity(text.len());
    // Until where the text is in `out`, as it is or blacked out.
    let mut copied = 0;
    let mut at = 0;
    while at < bytes.len() {
        if !NAME[bytes[at] as usize] {
            at += 1;
            continue;
        }
        let start = at;
        while at < bytes.len() && NAME[bytes[at] as usize] {
            at += 1;
        }
        // What stands after most words of a log: a space and then another word, or a line's end.
        let mut sign = at;
        while sign < bytes.len() && matches!(bytes[sign], b' ' | b'"' | b'\'') {
            sign += 1;
        }
        let is_sign = sign < bytes.len() && matches!(bytes[sign], b'=' | b':');
        if !is_sign && at - start < RANDOM && bytes[start] != b'-' {
            continue;
        }
        // Around a name all is ASCII: these are places where a text may be cut.
        let (word, rest) = (&text[start..at], &text[at..]);
        let (black, until) = if let Some(between) = before_value(word, rest) {
            let value = &rest[between..];
            let from = at + between;
            (from, if value.starts_with(BLACK) { from } else { from + value_length(value) })
        } else if let Some(userinfo) = userinfo(rest) {
            let from = at + "://".len();
            (from, from + userinfo)
        } else if looks_random(word) {
            (start, at)
        } else {
            continue;
        };
        if until > black {
            out.push_str(&text[copied..black]);
            out.push_str(BLACK);
            copied = until;
        }
        at = until;
    }
    out.push_str(&text[copied..]);
    out
}

/// Length of what stands between a telling name and its value: `=`, `: `, `":"`, or a space after `--flag`.
fn before_value(word: &str, rest: &str) -> Option<usize> {
    let bytes = rest.as_bytes();
    let skip = |mut at: usize, sign: bool| {
        while at < bytes.len() && (matches!(bytes[at], b' ' | b'"' | b'\'') || sign && bytes[at] == b'=') {
            at += 1;
        }
        at
    };
    let sign = skip(0, false);
    let between = match bytes.get(sign) {
        Some(b'=' | b':') => skip(sign + 1, true),
        _ if word.starts_with("--") && bytes.first() == Some(&b' ') => 1,
        _ => return None,
    };
    // Asked last: it costs the most, and of most words of a log nothing of the above is true.
    is_telling(word).then_some(between)
}

/// What ends a value.
fn ends_value(c: char) -> bool {
    c.is_whitespace() || matches!(c, '"' | '\'' | ',' | ';' | '&' | '}' | ')' | ']')
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
        && word.bytes().any(|c| c.is_ascii_digit())
        && word.bytes().any(|c| c.is_ascii_alphabetic())
        && !word.contains('.')
        && word.bytes().filter(|c| matches!(c, b'-' | b'_')).count() < 3
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The same without haste: each word cut off, looked at and put back.
    fn plainly(text: &str) -> String {
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        let telling = |name: &str| {
            let name = name.to_ascii_lowercase();
            TELLING.iter().any(|part| name.contains(part)) || name.ends_with("key") || name.ends_with("keys")
        };
        let before_value = |word: &str, rest: &str| {
            let trimmed = rest.trim_start_matches(['"', '\'', ' ']);
            let between = match trimmed.strip_prefix(['=', ':']) {
                Some(value) => rest.len() - value.trim_start_matches([' ', '"', '\'', '=']).len(),
                None if word.starts_with("--") && rest.starts_with(' ') => 1,
                None => return None,
            };
            telling(word).then_some(between)
        };
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

    fn part() -> impl Strategy<Value = String> {
        prop_oneof![
            4 => "[a-zA-Z0-9_.-]{0,6}",
            2 => "[ =:\"'/@,;&\\n]{0,3}",
            1 => "[a-z0-9]{22,30}",
            2 => proptest::sample::select(TELLING.as_slice()).prop_map(str::to_owned),
            2 => proptest::sample::select(vec![
                BLACK, "Token", "PASSWORD=", "--", "--key ", "keys", "Bearer ", "basic  ", "://", "u:p@h", "ü", "…", "\u{a0}",
            ]).prop_map(str::to_owned),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.max(2000), ..ProptestConfig::default() })]
        #[test]
        fn haste_misses_nothing(parts in proptest::collection::vec(part(), 0..12)) {
            let text = parts.concat();
            prop_assert_eq!(guess(&text), plainly(&text));
        }
    }
}
