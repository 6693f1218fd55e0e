//! Blacking out secrets in a stream that is cut anywhere.
//!
//! By lines, both nets of [`crate::redact`] are cast, and a line leaves when it is whole. On a terminal nothing may wait for
//! the end of a line: there only what the host *knows* to be secret is blacked out, and only what could be the
//! beginning of such a thing waits, for a moment. Once the moment is over the beginning leaves, and if the rest follows, that
//! is blacked out: a whole secret never leaves. Against somebody who prints it in another form there is no veil.

use crate::redact::{BLACK, Redactor, SHORT};

/// Longest line that is waited for, bytes.
const LONGEST_LINE: usize = 64 * 1024;

/// A veil over output that comes in lines.
#[derive(Debug)]
pub struct Lines {
    redactor: Redactor,
    pending: Vec<u8>,
    longest: usize,
}

impl Lines {
    /// With what is known.
    pub fn new(redactor: Redactor) -> Self {
        let longest = redactor.known().map(str::len).max().unwrap_or_default();
        Self { redactor, pending: Vec::new(), longest }
    }

    /// Takes more; gives what may leave.
    pub fn take(&mut self, bytes: &[u8]) -> String {
        // What was pending has no line's end in it.
        let end = bytes.iter().rposition(|byte| *byte == b'\n').map(|end| end + 1);
        if let Some(end) = end.filter(|_| self.pending.is_empty()) {
            self.pending.extend_from_slice(&bytes[end..]);
            return self.clear(&bytes[..end]);
        }
        let before = self.pending.len();
        self.pending.extend_from_slice(bytes);
        match end {
            Some(end) => self.leave(before + end),
            None if self.pending.len() > LONGEST_LINE + self.longest => self.leave(self.cut()),
            None => String::new(),
        }
    }

    /// The rest.
    pub fn rest(&mut self) -> String {
        self.leave(self.pending.len())
    }

    fn leave(&mut self, end: usize) -> String {
        let rest = self.pending.split_off(end);
        let whole = std::mem::replace(&mut self.pending, rest);
        self.clear(&whole)
    }

    fn clear(&self, whole: &[u8]) -> String {
        self.redactor.text(&String::from_utf8_lossy(whole))
    }

    /// Where a line that is too long may be cut: before whatever may be a secret's beginning, and through none.
    fn cut(&self) -> usize {
        let mut cut = self.pending.len() - self.longest;
        loop {
            let spans = |secret: &str| {
                let from = cut.saturating_sub(secret.len() - 1);
                let until = (cut + secret.len() - 1).min(self.pending.len());
                find(&self.pending[from..until], secret.as_bytes()).map(|at| from + at)
            };
            match self.redactor.known().filter(|secret| !secret.is_empty()).filter_map(spans).min() {
                Some(at) if at < cut && at > 0 => cut = at,
                _ => return cut,
            }
        }
    }
}

/// A veil over a terminal.
#[derive(Debug)]
pub struct Terminal {
    known: Vec<Vec<u8>>,
    /// What could be the beginning of a secret, or of a character.
    held: Vec<u8>,
    /// So many bytes of it have left.
    gone: usize,
}

impl Terminal {
    /// With what is known. What is very short is not looked for: it would black out everything.
    pub fn new(redactor: &Redactor) -> Self {
        let known =
            redactor.known().filter(|secret| secret.len() >= SHORT).map(|secret| secret.as_bytes().to_vec());
        Self { known: known.collect(), held: Vec::new(), gone: 0 }
    }

    /// Takes more; gives what may leave now.
    pub fn take(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.held.extend_from_slice(bytes);
        let (text, mut gone) = (std::mem::take(&mut self.held), std::mem::take(&mut self.gone));
        let mut out = Vec::with_capacity(text.len());
        let mut at = 0;
        // Known are sorted, the longest first: of two at one place the longer counts.
        let next = |from: usize| {
            let found = self
                .known
                .iter()
                .filter_map(|secret| Some((from + find(&text[from..], secret)?, secret.len())));
            found.min_by_key(|(place, length)| (*place, std::cmp::Reverse(*length)))
        };
        while let Some((place, length)) = next(at) {
            out.extend_from_slice(text.get(at.max(gone)..place).unwrap_or_default());
            out.extend_from_slice(BLACK.as_bytes());
            at = place + length;
            gone = gone.max(at);
        }
        let hold = self.beginning(&text[at..]).max(unfinished(&text[at..]));
        let until = text.len() - hold;
        out.extend_from_slice(text.get(at.max(gone)..until).unwrap_or_default());
        self.held = text[until..].to_vec();
        self.gone = gone.saturating_sub(until);
        out
    }

    /// Lets what is held leave; it is remembered all the same.
    pub fn let_go(&mut self) -> Vec<u8> {
        let out = self.held[self.gone..].to_vec();
        self.gone = self.held.len();
        out
    }

    /// Whether something waits.
    pub fn holds(&self) -> bool {
        self.gone < self.held.len()
    }

    /// Length of the longest end of `text` that begins a secret.
    fn beginning(&self, text: &[u8]) -> usize {
        let longest = |secret: &Vec<u8>| {
            (1..secret.len().min(text.len() + 1))
                .rev()
                .find(|length| text.ends_with(&secret[..*length]))
                .unwrap_or(0)
        };
        self.known.iter().map(longest).max().unwrap_or(0)
    }
}

/// Length of a character at the end that has begun and not ended.
fn unfinished(text: &[u8]) -> usize {
    let tail = &text[text.len().saturating_sub(3)..];
    match std::str::from_utf8(tail) {
        Err(error) if error.error_len().is_none() => tail.len() - error.valid_up_to(),
        // Cut at the front, or no text at all.
        Err(_) => (1..=tail.len())
            .find(|length| {
                let last = &tail[tail.len() - length..];
                std::str::from_utf8(last).is_err_and(|e| e.error_len().is_none() && e.valid_up_to() == 0)
            })
            .unwrap_or(0),
        Ok(_) => 0,
    }
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    let first = *what.first()?;
    let mut from = 0;
    while let Some(at) = text.get(from..)?.iter().position(|byte| *byte == first) {
        if text[from + at..].starts_with(what) {
            return Some(from + at);
        }
        from += at + 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use kedge_bundle::parameters::Secret;
    use proptest::prelude::*;

    use super::*;

    const SECRETS: [&str; 3] = ["hunter2", "hunter2-longer", "überhund"];

    fn redactor() -> Redactor {
        Redactor::knowing(SECRETS.map(|secret| Secret::new(secret.into())))
    }

    fn text(bytes: Vec<u8>) -> String {
        String::from_utf8_lossy(&bytes).into_owned()
    }

    #[test]
    fn a_secret_split_across_chunks_of_lines_is_caught() {
        let mut veil = Lines::new(redactor());
        assert_eq!(veil.take(b"login with hun"), "");
        assert_eq!(veil.take(b"ter2 ok\npassword=x"), "login with [redacted] ok\n");
        assert_eq!(veil.rest(), "password=[redacted]");
    }

    #[test]
    fn a_line_without_end_leaves_in_pieces_that_cut_no_secret() {
        let mut veil = Lines::new(redactor());
        let mut all = String::new();
        for _ in 0..40_000 {
            all.push_str(&veil.take(b".hunter2"));
            assert!(veil.pending.len() <= LONGEST_LINE + 100);
        }
        all.push_str(&veil.rest());
        assert!(!all.contains("hunter2") && !all.contains("unter"), "{}", &all[..200]);
        assert_eq!(all.matches(BLACK).count(), 40_000);
    }

    #[test]
    fn on_a_terminal_only_beginnings_of_secrets_wait() {
        let mut veil = Terminal::new(&redactor());
        assert_eq!(text(veil.take(b"$ ls -l")), "$ ls -l");
        assert!(!veil.holds());
        assert_eq!(text(veil.take(b"\r\necho h")), "\r\necho ");
        assert!(veil.holds());
        assert_eq!(text(veil.take(b"ello")), "hello");
        assert_eq!(text(veil.take(b"=hunter")), "=");
        assert_eq!(text(veil.take(b"2=")), "[redacted]=");
    }

    #[test]
    fn a_secret_typed_slowly_never_leaves_whole() {
        let mut veil = Terminal::new(&redactor());
        let mut left = Vec::new();
        for byte in b"a hunter2 b" {
            left.extend(veil.take(&[*byte]));
            left.extend(veil.let_go());
        }
        let left = text(left);
        assert!(!left.contains("hunter2") && left.contains(BLACK) && left.ends_with(" b"), "{left}");
    }

    proptest! {
        #[test]
        fn however_it_is_cut_no_secret_leaves_and_the_rest_does(
            parts in proptest::collection::vec(prop_oneof!["[a-z ]{0,6}", Just("hunter2".to_owned()), Just("überhund".to_owned()), Just("ü".to_owned())], 0..12),
            cuts in proptest::collection::vec(1..5_usize, 1..40),
            slow in any::<bool>(),
        ) {
            let whole = parts.concat();
            let mut veil = Terminal::new(&redactor());
            let (mut left, mut rest, mut cuts) = (Vec::new(), whole.as_bytes(), cuts.into_iter().cycle());
            while !rest.is_empty() {
                let (now, later) = rest.split_at(cuts.next().unwrap().min(rest.len()));
                left.extend(veil.take(now));
                if slow {
                    left.extend(veil.let_go());
                }
                rest = later;
            }
            left.extend(veil.let_go());
            let left = String::from_utf8(left).unwrap();
            for secret in SECRETS {
                prop_assert!(!left.contains(secret), "{left}");
            }
            if !slow {
                let mut expected = whole;
                for secret in ["hunter2-longer", "überhund", "hunter2"] {
                    expected = expected.replace(secret, BLACK);
                }
                prop_assert_eq!(left, expected);
            }
        }
    }
}
