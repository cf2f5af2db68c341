//! What is said on standard output and standard error.
//!
//! The macros [`say!`] and [`note!`] are `println!` and `eprintln!` that do not panic. Whoever reads may go before the end, as in
//! `starling-testnet sim --list | head -3`: that is no error, and least of all one to leave a running network for. Where standard output fails
//! for another reason, such as a full disk behind it, standard error says so, once for each line that is lost.

use std::fmt::Arguments;
use std::io::{self, ErrorKind, Write};

/// Writes a line to standard output.
macro_rules! say {
    ($($words:tt)*) => { $crate::output::line(format_args!($($words)*)) };
}

/// Writes a line to standard error.
macro_rules! note {
    ($($words:tt)*) => { $crate::output::aside(format_args!($($words)*)) };
}

/// Writes a line to standard output, at once.
pub(crate) fn line(words: Arguments<'_>) {
    write(format_args!("{words}\n"));
}

/// Writes to standard output, at once.
pub(crate) fn write(words: Arguments<'_>) {
    if let Err(error) = to(&mut io::stdout().lock(), words) {
        aside(format_args!("cannot write to standard output: {error}"));
    }
}

/// Writes a line to standard error. If that fails there is nobody to tell.
pub(crate) fn aside(words: Arguments<'_>) {
    let _nobody = writeln!(io::stderr(), "{words}");
}

/// Writes to whoever reads; if nobody does any more, that is all right.
fn to(reader: &mut impl Write, words: Arguments<'_>) -> io::Result<()> {
    match reader.write_fmt(words).and_then(|()| reader.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fails in one way.
    struct Fails(ErrorKind);

    impl Write for Fails {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Err(self.0.into())
        }
    }

    #[test]
    fn a_reader_that_has_gone_is_no_error_and_a_full_disk_is() {
        assert!(to(&mut Fails(ErrorKind::BrokenPipe), format_args!("x")).is_ok());
        let full = to(&mut Fails(ErrorKind::StorageFull), format_args!("x"));
        assert!(full.is_err_and(|error| error.kind() == ErrorKind::StorageFull));
        let mut read = Vec::new();
        assert!(to(&mut read, format_args!("{} {}", 1, "two")).is_ok());
        assert_eq!(read, b"1 two");
    }
}
