//! Tables that fit the screen.
//!
//! Two blanks stand between columns, nothing around them. When a table is wider than the screen, columns that may be cut give
//! way, the widest first, down to the width that each names; what was cut ends in `…` or has it in its middle. A table that is
//! too wide even then stays so: a terminal that wraps a line loses nothing.
//!
//! Cells may come from strangers (what a peer calls itself), so control characters never reach the terminal.

use super::screen::{Screen, Style};

/// A column: its heading, on which side its cells stand, and what it gives up when room is short.
#[derive(Clone, Copy, Debug)]
pub(in crate::cli) struct Column {
    name: &'static str,
    right: bool,
    least: Option<usize>,
    keeps_end: bool,
}

impl Column {
    /// A column of texts.
    pub(in crate::cli) const fn left(name: &'static str) -> Self {
        Self { name, right: false, least: None, keeps_end: false }
    }

    /// A column of numbers.
    pub(in crate::cli) const fn right(name: &'static str) -> Self {
        Self { right: true, ..Self::left(name) }
    }

    /// Its cells may be cut to this width, at least 2; their beginning is kept.
    pub(in crate::cli) const fn cut_to(self, least: usize) -> Self {
        Self { least: Some(least), ..self }
    }

    /// Its cells may be cut to this width, at least 2; their end is kept, and as much of the beginning as there is room for.
    /// For identifiers, which begin alike.
    pub(in crate::cli) const fn cut_middle_to(self, least: usize) -> Self {
        Self { least: Some(least), keeps_end: true, ..self }
    }
}

/// The content of a table at one place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::cli) struct Cell {
    text: String,
    style: Style,
}

impl Cell {
    /// A cell in a style.
    pub(in crate::cli) fn styled(text: impl Into<String>, style: Style) -> Self {
        Self { text: printable(&text.into()), style }
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::styled(text, Style::Plain)
    }
}

/// A table.
#[derive(Clone, Debug)]
pub(in crate::cli) struct Table<const N: usize> {
    columns: [Column; N],
    rows: Vec<[Cell; N]>,
}

impl<const N: usize> Table<N> {
    /// A table without rows.
    pub(in crate::cli) fn new(columns: [Column; N]) -> Self {
        Self { columns, rows: Vec::new() }
    }

    /// Adds a row.
    pub(in crate::cli) fn row(&mut self, cells: [Cell; N]) {
        self.rows.push(cells);
    }

    /// The heading and the rows, a line each.
    pub(in crate::cli) fn text(&self, screen: &Screen) -> String {
        let widths = self.widths(screen.columns);
        let heading = self.columns.map(|column| Cell::styled(column.name, Style::Title));
        let mut text = String::new();
        for row in std::iter::once(&heading).chain(&self.rows) {
            let mut line = String::new();
            // Blanks are written when something follows them, so that no line ends in blanks.
            let mut blanks = 0;
            for ((cell, column), width) in row.iter().zip(&self.columns).zip(widths) {
                let shown = shorten(&cell.text, width, column.keeps_end);
                let padding = width - shown.chars().count().min(width);
                let (before, after) = if column.right { (padding, 0) } else { (0, padding) };
                if !shown.is_empty() {
                    line.push_str(&" ".repeat(blanks + before));
                    line.push_str(&screen.paint(cell.style, &shown));
                    blanks = 0;
                } else {
                    blanks += before;
                }
                blanks += after + 2;
            }
            text.push_str(&line);
            text.push('\n');
        }
        text
    }

    fn widths(&self, room: Option<usize>) -> [usize; N] {
        let mut widths = self.columns.map(|column| column.name.chars().count());
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.text.chars().count());
            }
        }
        let Some(room) = room else { return widths };
        loop {
            let total = widths.iter().sum::<usize>() + 2 * N.saturating_sub(1);
            let can_give =
                |index: &usize| self.columns[*index].least.is_some_and(|least| widths[*index] > least.max(2));
            let Some(widest) = (0..N).filter(can_give).max_by_key(|index| widths[*index]) else { return widths };
            if total <= room {
                return widths;
            }
            widths[widest] -= 1;
        }
    }
}

/// Cuts a text to a width.
fn shorten(text: &str, width: usize, keeps_end: bool) -> String {
    let length = text.chars().count();
    if length <= width {
        return text.to_owned();
    }
    let kept = width.saturating_sub(1);
    // The end tells identifiers apart, so it gets the larger half.
    let end = match (keeps_end, kept) {
        (false, _) => 0,
        // Two letters or less of the beginning say nothing.
        (true, ..=10) => kept,
        (true, _) => 8.max(kept / 2),
    };
    let first: String = text.chars().take(kept - end).collect();
    let last: String = text.chars().skip(length - end).collect();
    format!("{first}…{last}")
}

/// The text with control characters, and those that reorder or hide text, replaced.
pub(in crate::cli) fn printable(text: &str) -> String {
    let hides = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
    };
    text.chars().map(|c| if hides(c) { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [Column; 3] =
        [Column::left("peer").cut_middle_to(10), Column::right("score"), Column::left("agent").cut_to(4)];

    fn table() -> Table<3> {
        let mut table = Table::new(COLUMNS);
        table.row(["12D3KooWHyku2BBBqEaCYPbayhhTne15".into(), "9.82".into(), "starling/0.1".into()]);
        table.row(["12D3KooWBuctCX9soToZxbRftqq44jLS".into(), "-10.00".into(), "".into()]);
        table
    }

    #[test]
    fn columns_align_without_trailing_blanks() {
        let text = table().text(&Screen::default());
        assert_eq!(
            text,
            "peer                               score  agent\n\
             12D3KooWHyku2BBBqEaCYPbayhhTne15    9.82  starling/0.1\n\
             12D3KooWBuctCX9soToZxbRftqq44jLS  -10.00\n"
        );
        assert_eq!(table().text(&Screen::of(200)), text, "more room changes nothing");
    }

    #[test]
    fn the_widest_column_gives_way_first() {
        let text = table().text(&Screen::of(40));
        assert_eq!(
            text,
            "peer                 score  agent\n\
             12D3KooWH…yhhTne15    9.82  starling/0.1\n\
             12D3KooWB…tqq44jLS  -10.00\n"
        );
    }

    #[test]
    fn nothing_is_cut_below_what_its_column_says() {
        let text = table().text(&Screen::of(20));
        assert_eq!(text.lines().nth(1), Some("…ayhhTne15    9.82  sta…"), "{text}");
    }

    #[test]
    fn every_width_can_be_laid_out() {
        for columns in 0..100 {
            let screen = Screen { columns: Some(columns), ..Screen::default() };
            let longest = table().text(&screen).lines().map(|line| line.chars().count()).max();
            assert!(longest <= Some(columns.max(24)), "{columns}: {longest:?}");
        }
    }

    #[test]
    fn strangers_cannot_control_the_terminal() {
        assert_eq!(printable("a\x1b[2J\u{9b}b\u{202e}c"), "a\u{fffd}[2J\u{fffd}b\u{fffd}c");
        let mut table = Table::new([Column::left("agent")]);
        table.row(["\x1b]0;owned\x07".into()]);
        assert!(!table.text(&Screen::of(80)).contains('\x1b'));
    }

    #[test]
    fn colours_do_not_move_columns() {
        let mut table = Table::new(COLUMNS);
        table.row(["a".into(), Cell::styled("-1", Style::Bad), "b".into()]);
        let coloured = table.text(&Screen { colour: true, ..Screen::of(80) });
        assert_eq!(coloured.lines().nth(1), Some("a        \x1b[1;31m-1\x1b[0m  b"));
    }
}
