//! Small pure pieces of what people read: ages, sizes, and text from elsewhere made safe for a terminal.

use std::borrow::Cow;

use jiff::Timestamp;
use kedge_proto::v1;

/// One line without control characters. What hubs, bundles and containers say must not move the cursor.
pub(super) fn clean(text: &str) -> Cow<'_, str> {
    if text.chars().any(char::is_control) {
        Cow::Owned(text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect())
    } else {
        Cow::Borrowed(text)
    }
}

/// The same, with line ends kept: an error may show the lines of a file that it is about.
pub(super) fn clean_lines(text: &str) -> String {
    text.trim_end().lines().map(clean).collect::<Vec<_>>().join("\n")
}

/// How long ago an RFC 3339 moment was: `40 s`, `12 min`, `3 h`, `8 d`. What is no moment is said as it is.
pub(super) fn age(moment: &str, now: Timestamp) -> String {
    let Ok(then) = moment.parse::<Timestamp>() else { return clean(moment).into_owned() };
    let seconds = now.duration_since(then).as_secs().max(0);
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// A size: `512 B`, `1.5 MiB`.
pub(super) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    #[allow(clippy::cast_precision_loss)] // one decimal is shown
    let mut value = count as f64 / 1024.0;
    let mut unit = 0;
    while value >= 999.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// A phase in words: `rolling back`.
pub(super) fn phase(value: i32) -> String {
    kedge_proto::name::of_phase(value).replace('_', " ")
}

/// A release in words: `1.2.0 (#7)`.
pub(super) fn release(release: &v1::Release) -> String {
    format!("{} (#{})", clean(&release.version), release.seq)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_short() {
        let now: Timestamp = "2026-01-10T12:00:00Z".parse().unwrap();
        let cases = [
            ("2026-01-10T11:59:20Z", "40 s"),
            ("2026-01-10T11:48:00Z", "12 min"),
            ("2026-01-10T09:00:00Z", "3 h"),
            ("2026-01-02T12:00:00Z", "8 d"),
            ("2026-01-10T13:00:00Z", "0 s"),
            ("yesterday\x1b[2J", "yesterday [2J"),
        ];
        for (moment, expected) in cases {
            assert_eq!(age(moment, now), expected, "{moment:?}");
        }
    }

    #[test]
    fn sizes_have_one_decimal_and_never_four_digits() {
        let cases = [
            (0, "0 B"),
            (1023, "1023 B"),
            (1536, "1.5 KiB"),
            (1024 * 1024 - 1, "1.0 MiB"),
            (5 * 1024 * 1024 * 1024, "5.0 GiB"),
            (u64::MAX, "16384.0 PiB"),
        ];
        for (count, expected) in cases {
            assert_eq!(bytes(count), expected);
        }
    }

    #[test]
    fn escape_sequences_never_reach_the_terminal() {
        assert_eq!(clean("a\x1b[31mb\nc"), "a [31mb c");
        assert_eq!(clean_lines("one\n\x07two\n"), "one\n two");
    }
}
