//! Lines that a peer can cause: so many in a time, and then their number.
//!
//! A peer that opens, breaks and reopens connections, or sends what cannot be read, causes a line each time. Written without
//! a limit, they fill disks and hide what matters. [`rate_limited!`](crate::rate_limited) gives every place in the code
//! that logs such a thing a budget of its own: the first lines of a window are written, the rest is counted, and the next
//! line that is written says how many like it were left out (`suppressed`). When the flood just ends, [`report`] says it.
//!
//! The budget belongs to the place and not to the peer: peers are free to come under new names. What one peer did is in the
//! metrics and in `starling peers`.
//!
//! Cost: a line at a level that the filter leaves out is not counted and costs what `tracing` costs; another takes an
//! uncontended lock. Memory: one small record for each place in the code.

use starling_protocol::time::{Duration, Time};
use std::sync::{Mutex, PoisonError};

/// Lines of one place and how many of them may be written.
#[derive(Debug)]
pub struct RateLimited {
    /// What [`report`] calls it: the place in the code.
    place: &'static str,
    /// How many are written in a window.
    lines: u32,
    /// How long a window is.
    window: Duration,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    window_began: Time,
    written: u32,
    suppressed: u64,
    listed: bool,
}

/// Every place that has ever suppressed a line.
static LISTED: Mutex<Vec<&'static RateLimited>> = Mutex::new(Vec::new());

impl RateLimited {
    /// For `error`, `warn` and `info`: what an operator reads. A guess at what does not tire: ten lines a minute from one place.
    #[must_use]
    pub const fn for_operators(place: &'static str) -> Self {
        Self::new(place, 10, Duration::from_secs(60))
    }

    /// For `debug`: what is asked for when something is sought. A hundred lines in ten seconds from one place.
    #[must_use]
    pub const fn for_developers(place: &'static str) -> Self {
        Self::new(place, 100, Duration::from_secs(10))
    }

    /// So many lines in each window.
    #[must_use]
    pub const fn new(place: &'static str, lines: u32, window: Duration) -> Self {
        let state = State { window_began: Time::ZERO, written: 0, suppressed: 0, listed: false };
        Self { place, lines, window, state: Mutex::new(state) }
    }

    /// Whether a line may be written now; if so, how many were left out since the last one. Otherwise it is counted.
    #[must_use]
    pub fn admit(&'static self, now: Time) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if now.since(state.window_began) >= self.window {
            state.window_began = now;
            state.written = 0;
        }
        if state.written < self.lines {
            state.written += 1;
            return Some(core::mem::take(&mut state.suppressed));
        }
        state.suppressed = state.suppressed.saturating_add(1);
        if !core::mem::replace(&mut state.listed, true) {
            LISTED.lock().unwrap_or_else(PoisonError::into_inner).push(self);
        }
        None
    }

    /// How many lines were left out and not told of, if the window in which that happened is over.
    fn overdue(&self, now: Time) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let over = now.since(state.window_began) >= self.window;
        (over && state.suppressed > 0).then(|| core::mem::take(&mut state.suppressed))
    }
}

/// Tells how many lines were left out by places that have been quiet since. To be called every few seconds.
pub fn report(now: Time) {
    for (place, suppressed) in overdue(now) {
        tracing::info!(place, suppressed, "log lines of one kind were left out");
    }
}

fn overdue(now: Time) -> Vec<(&'static str, u64)> {
    let listed = LISTED.lock().unwrap_or_else(PoisonError::into_inner);
    listed.iter().filter_map(|limited| Some((limited.place, limited.overdue(now)?))).collect()
}

/// A line of `tracing` that a peer can cause, within the budget of its place in the code; see [`crate::telemetry::limit`].
///
/// `rate_limited!(warn, %peer, "a peer failed us")` is `tracing::warn!(%peer, "a peer failed us")`, and has `suppressed = 3`
/// besides when three like it were left out before.
#[macro_export]
macro_rules! rate_limited {
    (error, $($line:tt)+) => { $crate::rate_limited!(@ ERROR, for_operators, $($line)+) };
    (warn, $($line:tt)+) => { $crate::rate_limited!(@ WARN, for_operators, $($line)+) };
    (info, $($line:tt)+) => { $crate::rate_limited!(@ INFO, for_operators, $($line)+) };
    (debug, $($line:tt)+) => { $crate::rate_limited!(@ DEBUG, for_developers, $($line)+) };
    (@ $level:ident, $budget:ident, $($line:tt)+) => {{
        static LIMITED: $crate::telemetry::limit::RateLimited =
            $crate::telemetry::limit::RateLimited::$budget(concat!(module_path!(), ":", line!()));
        if tracing::enabled!(tracing::Level::$level) {
            match LIMITED.admit($crate::clock::now()) {
                Some(0) => tracing::event!(tracing::Level::$level, $($line)+),
                Some(suppressed) => tracing::event!(tracing::Level::$level, suppressed, $($line)+),
                None => {}
            }
        }
    }};
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_cut_to_its_budget_and_what_was_left_out_is_told() {
        static LIMITED: RateLimited = RateLimited::new("test:flood", 3, Duration::from_secs(60));
        // The first window need not begin at the epoch.
        let start = Time::from_secs(1_000);
        let at = |ms: u64| start + Duration::from_millis(ms);
        let admitted: Vec<_> = (0..100).map(|i| LIMITED.admit(at(i * 10))).collect();
        assert_eq!(&admitted[..3], [Some(0), Some(0), Some(0)]);
        assert!(admitted[3..].iter().all(Option::is_none));
        assert_eq!(LIMITED.admit(at(59_999)), None, "the window is not over");
        assert_eq!(LIMITED.admit(at(60_000)), Some(98), "the next line tells of those before");
        assert_eq!(LIMITED.admit(at(60_001)), Some(0), "once");
    }

    #[test]
    fn what_a_flood_that_ended_left_out_is_reported_once() {
        static LIMITED: RateLimited = RateLimited::new("test:ended", 1, Duration::from_secs(10));
        let start = Time::from_secs(50);
        assert_eq!(LIMITED.admit(start), Some(0));
        assert_eq!(LIMITED.admit(start), None);
        assert_eq!(LIMITED.admit(start), None);
        let mine = |now| overdue(now).into_iter().filter(|(place, _)| *place == "test:ended").collect::<Vec<_>>();
        assert_eq!(mine(start + Duration::from_secs(9)), [], "it may still be told by the next line");
        assert_eq!(mine(start + Duration::from_secs(10)), [("test:ended", 2)]);
        assert_eq!(mine(start + Duration::from_secs(20)), []);
        assert_eq!(LIMITED.admit(start + Duration::from_secs(30)), Some(0));
    }

    #[test]
    fn a_clock_that_stands_still_or_goes_back_admits_no_more() {
        static LIMITED: RateLimited = RateLimited::new("test:clock", 2, Duration::from_secs(10));
        let start = Time::from_secs(100);
        let admitted = (0..50).filter(|i| LIMITED.admit(start - Duration::from_secs(i % 5)).is_some()).count();
        assert_eq!(admitted, 2);
    }

    #[test]
    fn the_macro_writes_the_lines_and_their_number() {
        use std::sync::Arc;
        #[derive(Clone, Default)]
        struct Buffer(Arc<Mutex<Vec<u8>>>);
        impl std::io::Write for Buffer {
            fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
                self.0.lock().expect("no panic").extend_from_slice(bytes);
                Ok(bytes.len())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let buffer = Buffer::default();
        let writer = buffer.clone();
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
        tracing::subscriber::with_default(subscriber, || {
            for number in 0..1_000 {
                rate_limited!(info, number, "a peer did {}", "something");
                rate_limited!(debug, number, "not asked for");
            }
        });
        let text = String::from_utf8(buffer.0.lock().expect("no panic").clone()).expect("text");
        assert_eq!(text.lines().count(), 10, "{text}");
        assert!(text.contains("a peer did something number=9") && !text.contains("not asked for"), "{text}");
    }
}
