//! Sizes and durations: read as Docker reads them, printed as Go prints them.

/// Nanoseconds in a second.
pub(crate) const SECOND: i64 = 1_000_000_000;

/// Bytes from text such as `512m`, `1.5GiB` or `64`; `None` when it is not a size.
pub(crate) fn bytes(text: &str) -> Option<i64> {
    let end = text.rfind(|c: char| c.is_ascii_digit() || c == '.')? + 1;
    let (number, unit) = text.split_at(end);
    let unit = unit.strip_prefix(' ').unwrap_or(unit).to_lowercase();
    let number: f64 = number.parse().ok()?;
    if !number.is_finite() || number < 0.0 {
        return None;
    }
    let power = match unit.strip_suffix("ib").or_else(|| unit.strip_suffix('b')).unwrap_or(&unit) {
        "" if unit == "ib" => return None,
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return None,
    };
    let bytes = number * 1024f64.powi(power);
    // 2^63 is the first float that does not fit.
    (bytes < 9_223_372_036_854_775_808.0).then_some(bytes as i64)
}

/// Nanoseconds from text such as `1m30s`; `None` when it is not a duration.
pub(crate) fn duration(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total: f64 = 0.0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !(c.is_ascii_digit() || c == '.')).filter(|end| *end > 0)?;
        let number: f64 = rest[..end].parse().ok()?;
        rest = &rest[end..];
        let end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let unit = match &rest[..end] {
            "ns" => 1.0,
            "us" | "µs" | "μs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            _ => return None,
        };
        rest = &rest[end..];
        total += number * unit;
    }
    if !total.is_finite() || total >= 9.2e18 {
        return None;
    }
    let total = total.round() as i64;
    Some(if negative { -total } else { total })
}

/// A duration as Go prints it: `1m30s`, `1h0m0s`, `1.5s`, `100ms`.
pub(crate) fn duration_text(nanos: i64) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    let nanos = nanos.unsigned_abs();
    let second = SECOND.unsigned_abs();
    if nanos == 0 {
        return "0s".to_owned();
    }
    if nanos < second {
        let (unit, size) = match nanos {
            0..1_000 => ("ns", 1),
            1_000..1_000_000 => ("µs", 1_000),
            _ => ("ms", 1_000_000),
        };
        return format!("{sign}{}{unit}", decimal(nanos, size));
    }
    let (hours, rest) = (nanos / (3600 * second), nanos % (3600 * second));
    let (minutes, rest) = (rest / (60 * second), rest % (60 * second));
    let seconds = decimal(rest, second);
    match (hours, minutes) {
        (0, 0) => format!("{sign}{seconds}s"),
        (0, _) => format!("{sign}{minutes}m{seconds}s"),
        _ => format!("{sign}{hours}h{minutes}m{seconds}s"),
    }
}

/// `value / size` without trailing zeros; `size` is a power of ten.
fn decimal(value: u64, size: u64) -> String {
    let (whole, part) = (value / size, value % size);
    if part == 0 {
        return whole.to_string();
    }
    let width = size.ilog10() as usize;
    let digits = format!("{part:0width$}");
    format!("{whole}.{}", digits.trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, expected) in [
            ("64", Some(64)),
            ("12b", Some(12)),
            ("50M", Some(52_428_800)),
            ("50MB", Some(52_428_800)),
            ("50MiB", Some(52_428_800)),
            ("50 mb", Some(52_428_800)),
            ("1.5g", Some(1_610_612_736)),
            ("1gb", Some(1_073_741_824)),
            ("0", Some(0)),
            ("-1", None),
            ("", None),
            ("m", None),
            ("1ib", None),
            ("1bb", None),
            ("1x", None),
            ("99999999p", None),
            ("1.2.3k", None),
        ] {
            assert_eq!(bytes(text), expected, "{text}");
        }
    }

    #[test]
    fn durations_are_read_and_printed_as_in_go() {
        for (text, printed) in [
            ("1m30s", "1m30s"),
            ("90s", "1m30s"),
            ("1500ms", "1.5s"),
            ("1h", "1h0m0s"),
            ("1.5h", "1h30m0s"),
            ("0", "0s"),
            ("0s", "0s"),
            ("100ms", "100ms"),
            ("1us", "1µs"),
            ("1.5ms", "1.5ms"),
            ("-2s", "-2s"),
            ("10ns", "10ns"),
            ("1h0m0.5s", "1h0m0.5s"),
        ] {
            assert_eq!(duration(text).map(duration_text).as_deref(), Some(printed), "{text}");
        }
        for text in ["", "1d", "1", "s", "1s2", "-", "1 s", ".s", "9999999999h"] {
            assert_eq!(duration(text), None, "{text}");
        }
    }
}
