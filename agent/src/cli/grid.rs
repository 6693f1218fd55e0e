//! Columns of text: as wide as their widest cell, the last one wrapped to what the line has left.

use super::out::Paint;

/// One cell.
#[derive(Debug, Clone, Default)]
pub(super) struct Cell {
    text: String,
    paint: Paint,
}

impl Cell {
    pub(super) fn new(text: impl Into<String>, paint: Paint) -> Self {
        Self { text: text.into(), paint }
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::new(text, Paint::Plain)
    }
}

/// Rows of cells. A row may have fewer cells than others.
#[derive(Debug, Default)]
pub(super) struct Grid {
    rows: Vec<Vec<Cell>>,
}

/// Columns between two cells.
const GAP: usize = 2;
/// The last column is not made narrower than this.
const NARROWEST: usize = 16;

impl Grid {
    /// Adds a row.
    pub(super) fn row<const N: usize>(&mut self, cells: [Cell; N]) {
        self.rows.push(cells.into());
    }

    /// Adds a dim heading.
    pub(super) fn heading<const N: usize>(&mut self, names: [&str; N]) {
        self.row(names.map(|name| Cell::new(name, Paint::Dim)));
    }

    /// The lines, `indent` columns from the left, at most `width` wide where the last column can be wrapped.
    pub(super) fn render(&self, indent: usize, width: usize, colour: bool) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let last = columns.saturating_sub(1);
        let widths: Vec<usize> = (0..last)
            .map(|i| {
                self.rows.iter().filter_map(|row| row.get(i)).map(|c| length(&c.text)).max().unwrap_or(0)
            })
            .collect();
        let left = indent + widths.iter().map(|w| w + GAP).sum::<usize>();
        let room = width.saturating_sub(left).max(NARROWEST);
        let mut text = String::new();
        for row in &self.rows {
            let mut line = " ".repeat(indent);
            for (cell, width) in row.iter().take(last).zip(&widths) {
                line.push_str(&cell.paint.on(&cell.text, colour));
                line.push_str(&" ".repeat(width + GAP - length(&cell.text)));
            }
            let end = row.get(last).cloned().unwrap_or_default();
            for (i, part) in wrap(&end.text, room).into_iter().enumerate() {
                if i > 0 {
                    text.push('\n');
                    line = " ".repeat(left);
                }
                line.push_str(&end.paint.on(part, colour));
                text.push_str(line.trim_end());
            }
            text.push('\n');
        }
        text
    }
}

fn length(text: &str) -> usize {
    text.chars().count()
}

/// Breaks at spaces; a word longer than the room has its own line. Always at least one part.
pub(super) fn wrap(text: &str, room: usize) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut start = 0;
    let mut end = 0;
    for (at, word) in words(text) {
        if end > start && length(&text[start..at + word.len()]) > room {
            parts.push(&text[start..end]);
            start = at;
        }
        end = at + word.len();
    }
    parts.push(&text[start..end]);
    parts
}

fn words(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.split(' ').scan(0, |at, word| {
        let here = *at;
        *at += word.len() + 1;
        Some((here, word))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_align_and_the_last_one_wraps_under_itself() {
        let mut grid = Grid::default();
        grid.heading(["NAME", "PORTS"]);
        grid.row(["a-long-name".into(), "127.0.0.1:80 127.0.0.1:443 x".into()]);
        grid.row(["b".into(), "".into()]);
        let expected =
            "  NAME         PORTS\n  a-long-name  127.0.0.1:80\n               127.0.0.1:443 x\n  b\n";
        assert_eq!(grid.render(2, 31, false), expected);
    }

    #[test]
    fn colour_does_not_shift_columns() {
        let mut grid = Grid::default();
        grid.row([Cell::new("up", Paint::Good), "x".into()]);
        grid.row(["down".into(), "y".into()]);
        assert_eq!(grid.render(0, 80, true), "\x1b[32mup\x1b[0m    x\ndown  y\n");
    }

    proptest::proptest! {
        #[test]
        fn wrapping_loses_no_word_and_keeps_to_the_room(text in "[a-zü ]{0,80}", room in 1usize..40) {
            let parts = wrap(&text, room);
            let all = |s: &str| s.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
            proptest::prop_assert_eq!(all(&parts.join(" ")), all(&text));
            for part in parts {
                proptest::prop_assert!(length(part) <= room || !part.trim().contains(' '), "{:?}", part);
            }
        }
    }
}
