//! Plain scalars as go-yaml reads them, since that is what compose files have always been read with.
//!
//! `0777` is 511, `1e3` a float, `2024-01-01` a time, `no` and `on` are text. Numbers written out follow Go's `%v`.

use std::fmt;

use crate::node::Value;

/// A point in time as written in YAML, kept only to be printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Timestamp {
    date: (u32, u32, u32),
    clock: (u32, u32, u32),
    /// Digits of the fraction of a second, trailing zeros removed.
    fraction: String,
    /// Minutes east of UTC.
    offset: i32,
}

impl Timestamp {
    /// RFC 3339, the form in JSON.
    pub(crate) fn rfc3339(&self) -> String {
        let zone = match self.offset {
            0 => "Z".to_owned(),
            _ => self.zone(":"),
        };
        format!("{}T{}{zone}", self.day(), self.time())
    }

    fn day(&self) -> String {
        format!("{:04}-{:02}-{:02}", self.date.0, self.date.1, self.date.2)
    }

    fn time(&self) -> String {
        let dot = if self.fraction.is_empty() { "" } else { "." };
        format!("{:02}:{:02}:{:02}{dot}{}", self.clock.0, self.clock.1, self.clock.2, self.fraction)
    }

    fn zone(&self, colon: &str) -> String {
        let sign = if self.offset < 0 { '-' } else { '+' };
        let minutes = self.offset.abs();
        format!("{sign}{:02}{colon}{:02}", minutes / 60, minutes % 60)
    }
}

/// Go's default form, the one that reaches containers: `2024-01-01 00:00:00 +0000 UTC`.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let zone = self.zone("");
        let name = if self.offset == 0 { "UTC" } else { &zone };
        write!(f, "{} {} {zone} {name}", self.day(), self.time())
    }
}

/// The value of a plain (unquoted, untagged) scalar.
pub(crate) fn resolve(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        ".nan" | ".NaN" | ".NAN" => return Value::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => return Value::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => return Value::Float(f64::NEG_INFINITY),
        _ => {}
    }
    let numeric = |c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.');
    // Nothing longer than this is a number or a date.
    if !text.starts_with(numeric) || text.len() > 400 {
        return Value::Str(text.to_owned());
    }
    if let Some(time) = timestamp(text) {
        return Value::Time(Box::new(time));
    }
    let plain = text.replace('_', "");
    if !text.starts_with('.')
        && let Some(number) = integer(&plain)
    {
        return Value::Int(number);
    }
    match float(&plain) {
        Some(number) => Value::Float(number),
        None => Value::Str(text.to_owned()),
    }
}

/// Whole numbers: decimal, `0x`, `0o` or leading `0`, `0b`, signed, up to 64 bits.
fn integer(text: &str) -> Option<i128> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let radix =
        |prefix: &str| digits.strip_prefix(prefix).or_else(|| digits.strip_prefix(&prefix.to_uppercase()));
    let (digits, base) = if let Some(rest) = radix("0x") {
        (rest, 16)
    } else if let Some(rest) = radix("0o") {
        (rest, 8)
    } else if let Some(rest) = radix("0b") {
        (rest, 2)
    } else if digits.len() > 1 && digits.starts_with('0') {
        (&digits[1..], 8)
    } else {
        (digits, 10)
    };
    if !digits.chars().all(|c| c.is_ascii_hexdigit()) {
        return None;
    }
    let number = sign * i128::from_str_radix(digits, base).ok()?;
    (i128::from(i64::MIN)..=i128::from(u64::MAX)).contains(&number).then_some(number)
}

/// Decimal floats: digits with at most one point, and an exponent.
fn float(text: &str) -> Option<f64> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (unsigned, None),
    };
    let digits = |text: &str| text.chars().all(|c| c.is_ascii_digit());
    let (whole, part) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let valid = digits(whole)
        && digits(part)
        && !(whole.is_empty() && part.is_empty())
        && exponent.is_none_or(|e| {
            let e = e.strip_prefix(['+', '-']).unwrap_or(e);
            !e.is_empty() && digits(e)
        });
    valid.then(|| text.parse().ok())?.filter(|number: &f64| number.is_finite())
}

/// YAML dates and times: `2024-1-2`, `2024-01-02 10:00:00.5`, `2024-01-02T10:00:00+02:00`.
fn timestamp(text: &str) -> Option<Timestamp> {
    let (year, rest) = number(text, 4, 4)?;
    let (month, rest) = number(rest.strip_prefix('-')?, 1, 2)?;
    let (day, rest) = number(rest.strip_prefix('-')?, 1, 2)?;
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let days = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        _ => return None,
    };
    if !(1..=days).contains(&day) {
        return None;
    }
    let date = (year, month, day);
    if rest.is_empty() {
        return Some(Timestamp { date, clock: (0, 0, 0), fraction: String::new(), offset: 0 });
    }
    let zoned = rest.starts_with(['T', 't']);
    let (hour, rest) = number(rest.strip_prefix(['T', 't', ' '])?, 1, 2)?;
    let (minute, rest) = number(rest.strip_prefix(':')?, 1, 2)?;
    let (second, rest) = number(rest.strip_prefix(':')?, 1, 2)?;
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let (fraction, rest) = match rest.strip_prefix('.') {
        Some(rest) => {
            let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
            let (digits, rest) = rest.split_at(end);
            if digits.is_empty() {
                return None;
            }
            (digits[..digits.len().min(9)].trim_end_matches('0').to_owned(), rest)
        }
        None => (String::new(), rest),
    };
    let offset = match (zoned, rest) {
        (false, "") | (true, "Z") => 0,
        (true, rest) => zone(rest)?,
        (false, _) => return None,
    };
    Some(Timestamp { date, clock: (hour, minute, second), fraction, offset })
}

/// `+hh:mm` in minutes.
fn zone(text: &str) -> Option<i32> {
    let sign = if text.starts_with('-') { -1 } else { 1 };
    let (hours, rest) = number(text.strip_prefix(['+', '-'])?, 2, 2)?;
    let (minutes, rest) = number(rest.strip_prefix(':')?, 2, 2)?;
    let valid = rest.is_empty() && hours <= 24 && minutes < 60;
    valid.then(|| i32::try_from(hours * 60 + minutes).ok().map(|minutes| sign * minutes))?
}

/// Leading digits, between `least` and `most` of them, and what follows.
fn number(text: &str, least: usize, most: usize) -> Option<(u32, &str)> {
    let count = text.bytes().take(most).take_while(u8::is_ascii_digit).count();
    if count < least {
        return None;
    }
    let (digits, rest) = text.split_at(count);
    Some((digits.parse().ok()?, rest))
}

/// A float as Go's `%v`: shortest digits, and an exponent below 1e-4 and from 1e6 on.
pub(crate) fn float_text(number: f64) -> String {
    if number.is_nan() {
        return "NaN".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let scientific = format!("{number:e}");
    let Some((mantissa, exponent)) = scientific.split_once('e') else { return scientific };
    match exponent.parse::<i32>().unwrap_or(0) {
        -4..6 => format!("{number}"),
        exponent => format!("{mantissa}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(scalar: &str) -> String {
        let node = crate::node::Node::new(resolve(scalar), crate::diagnostics::At::default());
        node.scalar_text().unwrap_or_else(|| "<null>".to_owned())
    }

    #[test]
    fn scalars_read_as_go_yaml_reads_them() {
        for (given, expected) in [
            ("0777", "511"),
            ("0o17", "15"),
            ("0x1F", "31"),
            ("0b11", "3"),
            ("1_000", "1000"),
            ("+12", "12"),
            ("-0", "0"),
            ("00", "0"),
            ("09", "9"),
            ("1e3", "1000"),
            ("1e6", "1e+06"),
            ("1e20", "1e+20"),
            ("1e21", "1e+21"),
            ("20000000.0", "2e+07"),
            ("100000000.5", "1.000000005e+08"),
            ("1.5e-7", "1.5e-07"),
            ("0.0000001", "1e-07"),
            ("0.001", "0.001"),
            (".5", "0.5"),
            ("1.10", "1.1"),
            ("1.0", "1"),
            ("1_0.5", "10.5"),
            ("12345678901234567890", "12345678901234567890"),
            ("123456789012345678901234567890", "1.2345678901234568e+29"),
            ("True", "true"),
            ("no", "no"),
            ("y", "y"),
            ("1:30", "1:30"),
            ("1.2.3", "1.2.3"),
            ("-", "-"),
            (".", "."),
            ("0x", "0x"),
            ("~", "<null>"),
            ("2024-01-01", "2024-01-01 00:00:00 +0000 UTC"),
            ("2024-1-1", "2024-01-01 00:00:00 +0000 UTC"),
            ("2024-01-01 10:00:00", "2024-01-01 10:00:00 +0000 UTC"),
            ("2001-12-14t21:59:43.10-05:00", "2001-12-14 21:59:43.1 -0500 -0500"),
            ("2024-02-30", "2024-02-30"),
            ("2024-01-01x", "2024-01-01x"),
        ] {
            assert_eq!(text(given), expected, "{given}");
        }
    }

    #[test]
    fn dates_in_json_are_rfc_3339() {
        let Value::Time(time) = resolve("2001-12-14t21:59:43.10-05:00") else { unreachable!() };
        assert_eq!(time.rfc3339(), "2001-12-14T21:59:43.1-05:00");
    }
}
