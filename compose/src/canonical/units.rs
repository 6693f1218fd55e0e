//! Sizes and durations: read as Docker reads them, printed as Go prints them.

/// Nanoseconds in a second.
pub(crate) const SECOND: i64 = 1_000_000_000;

/// Bytes of a text that may be a size or a duration.
const MAX_LENGTH: usize = 200;

/// Bytes from text such as `512m`, `1.5GiB` or `64`; `None` when it is not a size.
pub(crate) fn bytes(text: &str) -> Option<i64> {
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    if text.len() > MAX_LENGTH {
        return None;
    }
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !number.split('.').all(digits) {
        return None;
    }
    let number: f64 = number.parse().ok()?;
    let unit = unit.strip_prefix(' ').unwrap_or(unit).to_lowercase();
    let unit = unit.strip_suffix('b').unwrap_or(&unit);
    let power = match unit.strip_suffix('i').unwrap_or(unit) {
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
    if rest.is_empty() || rest.len() > MAX_LENGTH {
        return None;
    }
    let mut total: i64 = 0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !(c.is_ascii_digit() || c == '.')).filter(|end| *end > 0)?;
        let (whole, part) = rest[..end].split_once('.').unwrap_or((&rest[..end], ""));
        rest = &rest[end..];
        let end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let unit = match &rest[..end] {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => SECOND,
            "m" => 60 * SECOND,
            "h" => 3600 * SECOND,
            _ => return None,
        };
        rest = &rest[end..];
        total = total.checked_add(scaled(whole, part, unit)?)?;
    }
    Some(if negative { -total } else { total })
}

/// `whole.part` units, what is below a nanosecond cut off; `None` when it does not fit or is no number.
fn scaled(whole: &str, part: &str, unit: i64) -> Option<i64> {
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if (whole.is_empty() && part.is_empty()) || !digits(whole) || !digits(part) {
        return None;
    }
    let whole: i64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    // No unit has more than thirteen digits of nanoseconds: further digits cannot count.
    let part = &part[..part.len().min(18)];
    let fraction = if part.is_empty() { 0 } else { part.parse::<i128>().ok()? };
    let power = 10_i128.pow(u32::try_from(part.len()).ok()?);
    let below = i64::try_from(fraction * i128::from(unit) / power).ok()?;
    whole.checked_mul(unit)?.checked_add(below)
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
            ("512mi", Some(536_870_912)),
            ("1ib", Some(1)),
            ("1bb", None),
            ("1ii", None),
            ("1kib2", None),
            (".5g", None),
            ("5.g", None),
            ("+3", None),
            ("1e3", None),
            (" 1", None),
            ("1  k", None),
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
            ("1.0000000009s", "1s"),
            (".5s", "500ms"),
            ("5.s", "5s"),
            ("123456789.123456789s", "34293h33m9.123456789s"),
            ("2562047h", "2562047h0m0s"),
            ("9223372036854775807ns", "2562047h47m16.854775807s"),
        ] {
            assert_eq!(duration(text).map(duration_text).as_deref(), Some(printed), "{text}");
        }
        for text in
            ["", "1d", "1", "s", "1s2", "-", "1 s", ".s", "1.2.3s", "2562048h", "9223372036854775808ns"]
        {
            assert_eq!(duration(text), None, "{text}");
        }
    }
}
