//! Where text is shown: how much fits, and whether colours do.

use rustix::termios::tcgetwinsize;
use std::io::{self, IsTerminal as _};

/// Assumed of a terminal that does not tell its size, as VT100 and POSIX do.
const COLUMNS_DEFAULT: usize = 80;
const ROWS_DEFAULT: usize = 24;

/// Text is laid out for at least and at most so many columns, whatever a terminal claims: below, nothing is readable
/// anyway, and above, a broken setting would make lines of gigabytes.
const COLUMNS: std::ops::RangeInclusive<usize> = 20..=1_000;

/// Where text is shown. The default is a file or a pipe: no limits and no colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::cli) struct Screen {
    /// Characters that fit on a line; `None` when lines may have any length.
    pub(in crate::cli) columns: Option<usize>,
    /// Lines that fit on the screen; `None` when there is no screen.
    pub(in crate::cli) rows: Option<usize>,
    /// Whether to colour.
    pub(in crate::cli) colour: bool,
}

impl Screen {
    /// Standard output as it is. The variables `COLUMNS` and `LINES` go before what the terminal says, as in POSIX.
    pub(in crate::cli) fn stdout() -> Self {
        let stdout = io::stdout();
        let size = stdout.is_terminal().then(|| match tcgetwinsize(&stdout) {
            Ok(size) => (usize::from(size.ws_col), usize::from(size.ws_row)),
            Err(_unknown) => (0, 0),
        });
        Self::new(size, |name| std::env::var(name).ok(), crate::telemetry::use_colour(&stdout))
    }

    fn new(terminal: Option<(usize, usize)>, variable: impl Fn(&str) -> Option<String>, colour: bool) -> Self {
        let set = |name| variable(name).and_then(|text| text.parse().ok()).filter(|size: &usize| *size > 0);
        let known = |size: usize, default| if size == 0 { default } else { size };
        let columns = set("COLUMNS").or_else(|| terminal.map(|(columns, _)| known(columns, COLUMNS_DEFAULT)));
        let rows = set("LINES").or_else(|| terminal.map(|(_, rows)| known(rows, ROWS_DEFAULT)));
        Self { columns: columns.map(|columns| columns.clamp(*COLUMNS.start(), *COLUMNS.end())), rows, colour }
    }

    /// A terminal of this width without colours.
    #[cfg(test)]
    pub(in crate::cli) fn of(columns: usize) -> Self {
        Self { columns: Some(columns), rows: Some(ROWS_DEFAULT), colour: false }
    }

    /// The text in this style.
    pub(in crate::cli) fn paint(&self, style: Style, text: &str) -> String {
        let code = match style {
            Style::Plain => return text.to_owned(),
            Style::Title => "1",
            Style::Good => "32",
            Style::Warn => "33",
            Style::Bad => "1;31",
        };
        if self.colour && !text.is_empty() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// Breaks a text between words so that it fits beside `indent` columns; the lines after the first are indented so.
    pub(in crate::cli) fn wrap(&self, indent: usize, text: &str) -> String {
        let room = self.columns.map_or(usize::MAX, |columns| columns.saturating_sub(indent).max(20));
        let (mut wrapped, mut used) = (String::new(), 0);
        for word in text.split_whitespace() {
            let length = word.chars().count();
            if used > 0 && used + 1 + length > room {
                wrapped.push('\n');
                wrapped.push_str(&" ".repeat(indent));
                used = 0;
            } else if used > 0 {
                wrapped.push(' ');
                used += 1;
            }
            wrapped.push_str(word);
            used += length;
        }
        wrapped
    }
}

/// What a piece of text is, which decides its colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::cli) enum Style {
    /// Nothing special.
    #[default]
    Plain,
    /// A heading.
    Title,
    /// As it should be.
    Good,
    /// Someone should look.
    Warn,
    /// Someone must act.
    Bad,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn screen(terminal: Option<(usize, usize)>, variables: &[(&str, &str)]) -> (Option<usize>, Option<usize>) {
        let variable = |name: &str| variables.iter().find(|(given, _)| *given == name).map(|(_, v)| (*v).to_owned());
        let screen = Screen::new(terminal, variable, false);
        (screen.columns, screen.rows)
    }

    #[test]
    fn the_size_is_the_users_else_the_terminals_else_the_usual_one() {
        assert_eq!(screen(None, &[]), (None, None), "a pipe has no width");
        assert_eq!(screen(Some((120, 50)), &[]), (Some(120), Some(50)));
        assert_eq!(screen(Some((0, 0)), &[]), (Some(80), Some(24)));
        assert_eq!(screen(Some((120, 50)), &[("COLUMNS", "60"), ("LINES", "9")]), (Some(60), Some(9)));
        assert_eq!(screen(Some((120, 50)), &[("COLUMNS", "wide"), ("LINES", "-1")]), (Some(120), Some(50)));
        assert_eq!(screen(Some((1, 1)), &[]), (Some(20), Some(1)), "an absurd width is no reason to fail");
        assert_eq!(screen(None, &[("COLUMNS", "18446744073709551615")]), (Some(1_000), None));
    }

    #[test]
    fn colours_only_where_they_are_shown() {
        assert_eq!(Screen::of(80).paint(Style::Bad, "no"), "no");
        let coloured = Screen { colour: true, ..Screen::of(80) };
        assert_eq!(coloured.paint(Style::Bad, "no"), "\x1b[1;31mno\x1b[0m");
        assert_eq!(coloured.paint(Style::Plain, "yes"), "yes");
        assert_eq!(coloured.paint(Style::Bad, ""), "");
    }

    #[test]
    fn text_is_broken_between_words() {
        assert_eq!(Screen::of(24).wrap(2, "one two three four five six"), "one two three four\n  five six");
        assert_eq!(Screen::of(24).wrap(0, "a-word-that-is-longer-than-the-screen is kept"), {
            "a-word-that-is-longer-than-the-screen\nis kept"
        });
        assert_eq!(Screen::default().wrap(2, "one two three four five six"), "one two three four five six");
    }
}
