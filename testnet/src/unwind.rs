//! Panics as findings.
//!
//! Simulated nodes are the machines of real nodes, and one that panics would have ended a process. Whoever runs many of them says so of the run
//! in which it happened, and goes on with the others.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// What work came to, or the words of the panic that ended it. Nothing that the work has changed may be used after a panic.
pub(crate) fn caught<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| format!("a node panicked: {}", words_of(&*panic)))
}

fn words_of(panic: &(dyn core::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a word")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panics_are_told_in_their_own_words() {
        assert_eq!(caught(|| 3), Ok(3));
        assert_eq!(caught(|| panic!("no {}", 5)), Err::<(), _>("a node panicked: no 5".to_owned()));
        assert_eq!(caught(|| panic!("plain")), Err::<(), _>("a node panicked: plain".to_owned()));
        assert_eq!(caught(|| std::panic::panic_any(7)), Err::<(), _>("a node panicked: without a word".to_owned()));
    }
}
