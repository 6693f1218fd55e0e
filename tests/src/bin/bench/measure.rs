//! Medians, spreads and the table.

use std::fmt;
use std::time::Duration;

/// The middle one; of an even number, the lower of the two.
pub(crate) fn median(times: &[Duration]) -> Option<Duration> {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len().saturating_sub(1) / 2).copied()
}

/// `1.23 s (1.20 to 1.31)`
pub(crate) struct Spread<'a>(pub(crate) &'a [Duration]);

impl fmt::Display for Spread<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Some(middle), Some(least), Some(most)) =
            (median(self.0), self.0.iter().min(), self.0.iter().max())
        else {
            return f.write_str("-");
        };
        let (factor, unit, digits) = match middle {
            time if time < Duration::from_millis(1) => (1e6, "µs", 0),
            time if time < Duration::from_secs(1) => (1e3, "ms", 1),
            _ => (1.0, "s", 2),
        };
        let show = |time: &Duration| format!("{:.digits$}", time.as_secs_f64() * factor);
        write!(f, "{} {unit} ({} to {})", show(&middle), show(least), show(most))
    }
}

/// One line: what was measured, ours, what stands beside it, and the ratio of the medians that is aimed at.
pub(crate) struct Row<'a> {
    /// What was measured.
    pub(crate) what: &'a str,
    /// Ours.
    pub(crate) ours: &'a [Duration],
    /// The other's name and times.
    pub(crate) beside: (&'a str, &'a [Duration]),
    /// Ratio aimed at, where there is an aim.
    pub(crate) aim: Option<f64>,
}

/// The heading that [`Row`]s and [`plain`] lines stand under.
pub(crate) const HEADING: &str = "| what | Kedge | beside it | ratio | aim |\n|---|---:|---:|---:|---:|";

impl fmt::Display for Row<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, theirs) = self.beside;
        let ratio = match (median(self.ours), median(theirs)) {
            (Some(ours), Some(theirs)) if !theirs.is_zero() => {
                let ratio = ours.as_secs_f64() / theirs.as_secs_f64();
                if ratio < 0.01 { format!("{ratio:.5}x") } else { format!("{ratio:.2}x") }
            }
            _ => "-".to_owned(),
        };
        let aim = self.aim.map(|aim| format!("{aim}x")).unwrap_or_default();
        let (ours, theirs) = (Spread(self.ours), Spread(theirs));
        write!(f, "| {} | {ours} | {name}: {theirs} | {ratio} | {aim} |", self.what)
    }
}

/// A line without a ratio.
pub(crate) fn plain(what: &str, ours: &str, beside: &str, aim: &str) -> String {
    format!("| {what} | {ours} | {beside} | | {aim} |")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(list: &[u64]) -> Vec<Duration> {
        list.iter().map(|n| Duration::from_millis(*n)).collect()
    }

    #[test]
    fn the_median_is_the_middle_one() {
        for (times, expected) in [(&[9, 1, 5][..], Some(5)), (&[9, 1], Some(1)), (&[], None)] {
            assert_eq!(median(&ms(times)), expected.map(Duration::from_millis), "{times:?}");
        }
    }

    #[test]
    fn a_spread_is_shown_in_the_unit_of_its_median() {
        for (times, expected) in
            [(&[9, 1, 5][..], "5.0 ms (1.0 to 9.0)"), (&[1900], "1.90 s (1.90 to 1.90)"), (&[], "-")]
        {
            assert_eq!(Spread(&ms(times)).to_string(), expected);
        }
        assert_eq!(Spread(&[Duration::from_micros(250)]).to_string(), "250 µs (250 to 250)");
    }

    #[test]
    fn a_row_divides_the_medians() {
        let row = |ours: &[u64], theirs: &[u64]| {
            let (ours, theirs) = (ms(ours), ms(theirs));
            Row { what: "w", ours: &ours, beside: ("b", &theirs), aim: Some(0.5) }.to_string()
        };
        assert_eq!(
            row(&[1, 2, 99], &[4]),
            "| w | 2.0 ms (1.0 to 99.0) | b: 4.0 ms (4.0 to 4.0) | 0.50x | 0.5x |"
        );
        assert!(row(&[1], &[1000]).contains("| 0.00100x |"));
        assert!(row(&[1], &[]).contains("| - | 0.5x |"));
    }
}
