//! Printing.

pub(super) mod format;
mod screen;
mod table;

pub(super) use screen::{Screen, Style};
pub(super) use table::{Cell, Column, Table, printable};

use super::Failure;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::Serialize;
use std::io::{self, Write as _};
use std::process::ExitCode;

/// Writes text to standard output. Nobody reading on (`| head`) is no error.
pub(super) fn print(text: &str) -> Result<ExitCode, Failure> {
    write(text).map(|_audience| ExitCode::SUCCESS)
}

/// Whether somebody still reads what is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Audience {
    /// As far as is known, yes.
    There,
    /// The other end of the pipe is closed: nothing that is written is read any more.
    Gone,
}

/// Writes text to standard output, at once.
pub(super) fn write(text: &str) -> Result<Audience, Failure> {
    let mut stdout = io::stdout().lock();
    let newline = if text.ends_with('\n') || text.is_empty() { "" } else { "\n" };
    match write!(stdout, "{text}{newline}").and_then(|()| stdout.flush()) {
        Ok(()) => Ok(Audience::There),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Audience::Gone),
        Err(error) => Err(Failure::Runtime(format!("cannot write to standard output: {error}"))),
    }
}

/// Whether somebody still reads standard output, without writing to it.
pub(super) fn audience() -> Audience {
    let stdout = io::stdout();
    let mut ends = [PollFd::new(&stdout, PollFlags::empty())];
    // What the system cannot tell is found out at the next write.
    let _asked = poll(&mut ends, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }));
    if ends[0].revents().contains(PollFlags::ERR) { Audience::Gone } else { Audience::There }
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

/// Writes a note to standard error: something that a watcher should know and that is no answer.
pub(super) fn note(message: &str) {
    let _closed = writeln!(io::stderr(), "{message}");
}

/// Names and values below each other, the values aligned.
pub(super) fn fields(rows: &[(&str, String)]) -> String {
    let width = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    rows.iter().map(|(name, value)| format!("{name:<width$}  {value}\n")).collect()
}
