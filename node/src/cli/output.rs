//! Printing.

pub(super) mod format;
mod screen;
mod table;

pub(super) use screen::{Screen, Style};
pub(super) use table::{Cell, Column, Table, printable};

use super::Failure;
use serde::Serialize;
use std::io::{self, Write as _};
use std::process::ExitCode;

/// Writes text to standard output. Nobody reading on (`| head`) is no error.
pub(super) fn print(text: &str) -> Result<ExitCode, Failure> {
    let mut stdout = io::stdout().lock();
    let newline = if text.ends_with('\n') || text.is_empty() { "" } else { "\n" };
    match write!(stdout, "{text}{newline}").and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::Runtime(format!("cannot write to standard output: {error}")))
        }
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// Writes a value as JSON, or as text that is made only when it is needed.
pub(super) fn print_as(json: bool, value: &impl Serialize, text: impl FnOnce() -> String) -> Result<ExitCode, Failure> {
    if json { print(&serde_json::to_string_pretty(value).map_err(Failure::runtime)?) } else { print(&text()) }
}

/// Writes an error to standard error.
pub(super) fn error(message: &str) {
    let label = if crate::telemetry::use_colour(&io::stderr()) { "\x1b[1;31merror:\x1b[0m" } else { "error:" };
    // Without standard error there is nobody to tell.
    let _closed = writeln!(io::stderr(), "{label} {message}");
}

/// Names and values below each other, the values aligned.
pub(super) fn fields(rows: &[(&str, String)]) -> String {
    let width = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    rows.iter().map(|(name, value)| format!("{name:<width$}  {value}\n")).collect()
}
