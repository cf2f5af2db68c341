//! Watches the wall clock against the monotonic one, which never jumps: what the machine has to know of it, and what the
//! operator should.
//!
//! # Rules
//! 1. The machine is told of every difference of at least [`TELL_MIN_US`]; slots follow the wall clock. *Rationale:* a clock
//!    that is slewed by NTP drifts by up to 500 parts in a million, 2.5 ms between two readings; a slot must not drift away.
//! 2. A difference of at least [`STEP_MIN_US`] between two readings is a *step*: somebody set the clock, it was wrong before or
//!    is wrong now, or the machine slept (`CLOCK_MONOTONIC` stands still then). It is said once, with its amount, and
//!    remembered for [`REMEMBERED`].
//! 3. A clock before the start of the network, or before 1970, is said when it becomes so. The node goes on: it connects,
//!    catches up and relays, and takes no part in slots that have not begun.
//!
//! What was signed for a slot stays signed: a clock that went forward and back leaves a producer silent until the slots that
//! it has passed over are over. See `starling_protocol`'s slot clock.

use starling_protocol::time::{Duration, Time};

/// A difference from which on the machine is told.
const TELL_MIN_US: u64 = 1_000;

/// A difference from which on somebody should look: no slewing comes near it between two readings.
const STEP_MIN_US: u64 = 250_000;

/// How long a step is remembered. A guess: longer than an operator takes to look, shorter than the next day.
const REMEMBERED: Duration = Duration::from_secs(15 * 60);

/// What has been seen of the wall clock.
#[derive(Clone, Debug, Default)]
pub(super) struct WallClock {
    /// Microseconds from the monotonic to the wall clock, as the machine was last told.
    told_us: Option<i64>,
    /// The same at the last reading.
    read_us: i64,
    step: Option<Step>,
    /// Whether the clock was before the network's start at the last reading.
    early: bool,
}

/// The wall clock was set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step {
    /// When it was noticed.
    pub(super) at: Time,
    /// By how many microseconds; positive if forward. Steps that follow each other within [`REMEMBERED`] are added up, so
    /// that a clock that is back where it was is none.
    pub(super) by_us: i64,
}

/// What a reading says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Reading {
    /// What the machine is to be told: Unix time in microseconds at [`Time::ZERO`].
    pub(super) tell: Option<u64>,
    /// By how much the clock was set since the last reading, in microseconds; positive if forward.
    pub(super) stepped_us: Option<i64>,
    /// The network begins only in so long, which is new.
    pub(super) early: Option<Duration>,
}

impl WallClock {
    /// Takes a reading: `offset_us` is what is to be added to `now` to get Unix time, and the network starts at `start_us`.
    pub(super) fn read(&mut self, now: Time, offset_us: i64, start_us: u64) -> Reading {
        let mut reading = Reading::default();
        match self.told_us {
            None => self.tell(offset_us, &mut reading),
            Some(told) => {
                let by_us = offset_us.saturating_sub(self.read_us);
                if by_us.unsigned_abs() >= STEP_MIN_US {
                    reading.stepped_us = Some(by_us);
                    let before_us = self.step(now).map_or(0, |step| step.by_us);
                    self.step = Some(Step { at: now, by_us: before_us.saturating_add(by_us) });
                }
                if offset_us.abs_diff(told) >= TELL_MIN_US {
                    self.tell(offset_us, &mut reading);
                }
            }
        }
        self.read_us = offset_us;
        let unix_us = at_zero(offset_us).saturating_add(now.as_micros());
        let early = start_us.checked_sub(unix_us).filter(|early| *early > 0);
        if !self.early {
            reading.early = early.map(Duration::from_micros);
        }
        self.early = early.is_some();
        reading
    }

    /// The step that is remembered; none if what followed has undone it.
    pub(super) fn step(&self, now: Time) -> Option<Step> {
        self.step.filter(|step| now.since(step.at) < REMEMBERED && step.by_us.unsigned_abs() >= STEP_MIN_US)
    }

    fn tell(&mut self, offset_us: i64, reading: &mut Reading) {
        self.told_us = Some(offset_us);
        reading.tell = Some(at_zero(offset_us));
    }
}

/// Negative only on a host whose wall clock was never set; then no slot has begun.
fn at_zero(offset_us: i64) -> u64 {
    u64::try_from(offset_us).unwrap_or(0)
}

/// A step in words: `3h 5m 2s forward`.
pub(super) fn in_words(stepped_us: i64) -> String {
    let direction = if stepped_us < 0 { "back" } else { "forward" };
    format!("{} {direction}", length_in_words(Duration::from_micros(stepped_us.unsigned_abs())))
}

/// A length of time in its two largest units: `3h 5m`, `12s`, `0.4s`.
pub(super) fn length_in_words(length: Duration) -> String {
    let seconds = length.as_secs();
    if seconds < 10 {
        return format!("{:.1}s", length.as_secs_f64());
    }
    let parts = [(seconds / 86_400, "d"), (seconds / 3_600 % 24, "h"), (seconds / 60 % 60, "m"), (seconds % 60, "s")];
    let from_largest = parts.iter().skip_while(|(count, _)| *count == 0).take(2);
    from_largest.filter(|(count, _)| *count > 0).map(|(n, unit)| format!("{n}{unit}")).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_US: i64 = 3_600_000_000;
    /// The offset at which the tests begin, and a network that has run for a day.
    const OFFSET_US: i64 = 1_700_000_000_000_000;
    const START_US: u64 = 1_700_000_000_000_000 - 86_400_000_000;

    fn at(seconds: u64) -> Time {
        Time::from_secs(1_000 + seconds)
    }

    fn started() -> WallClock {
        let mut clock = WallClock::default();
        let first = clock.read(at(0), OFFSET_US, START_US);
        assert_eq!(first, Reading { tell: Some(1_700_000_000_000_000), ..Reading::default() });
        clock
    }

    #[test]
    fn a_clock_that_keeps_time_says_nothing() {
        let mut clock = started();
        for tick in 1..100 {
            assert_eq!(clock.read(at(5 * tick), OFFSET_US + 900, START_US), Reading::default());
        }
        assert_eq!(clock.step(at(500)), None);
    }

    #[test]
    fn slewing_is_told_to_the_machine_and_to_nobody_else() {
        let mut clock = started();
        let mut told = 0;
        for tick in 1..=400 {
            let reading = clock.read(at(5 * u64::try_from(tick).expect("small")), OFFSET_US + tick * 2_500, START_US);
            assert_eq!(reading.stepped_us, None);
            told += usize::from(reading.tell.is_some());
        }
        assert_eq!((told, clock.step(at(2_000))), (400, None), "a second in all, but never at once");
    }

    #[test]
    fn a_jump_is_said_once_with_its_amount_and_remembered_for_a_while() {
        for by_us in [3 * HOUR_US, -3 * HOUR_US, 300_000, -300_000] {
            let mut clock = started();
            let reading = clock.read(at(5), OFFSET_US + by_us, START_US);
            assert_eq!(reading.stepped_us, Some(by_us));
            assert_eq!(reading.tell, Some(u64::try_from(OFFSET_US + by_us).expect("positive")));
            assert_eq!(clock.read(at(10), OFFSET_US + by_us, START_US), Reading::default(), "once");
            assert_eq!(clock.step(at(10)), Some(Step { at: at(5), by_us }));
            assert_eq!(clock.step(at(5 + 15 * 60)), None);
        }
    }

    #[test]
    fn a_clock_that_is_back_where_it_was_is_no_trouble_any_more() {
        let mut clock = started();
        clock.read(at(5), OFFSET_US + 3 * HOUR_US, START_US);
        let reading = clock.read(at(10), OFFSET_US + 40, START_US);
        assert_eq!(reading.stepped_us, Some(40 - 3 * HOUR_US), "it is said all the same");
        assert_eq!(clock.step(at(10)), None);
    }

    #[test]
    fn a_clock_before_the_start_is_said_when_it_becomes_so() {
        let mut clock = started();
        let reading = clock.read(at(5), OFFSET_US - 48 * HOUR_US, START_US);
        let early = reading.early.expect("before the start").as_secs();
        assert_eq!(early, 24 * 3_600 - 1_005);
        assert_eq!(clock.read(at(10), OFFSET_US - 48 * HOUR_US, START_US).early, None, "once");
        assert_eq!(clock.read(at(15), OFFSET_US, START_US).early, None);
        assert!(clock.read(at(20), OFFSET_US - 48 * HOUR_US, START_US).early.is_some(), "and again when it is again");
    }

    #[test]
    fn a_clock_that_was_never_set_begins_at_zero_and_saturates() {
        let mut clock = WallClock::default();
        let reading = clock.read(at(0), -1_000_000, START_US);
        assert_eq!((reading.tell, reading.stepped_us), (Some(0), None));
        assert!(reading.early.is_some());
        let set = clock.read(at(5), OFFSET_US, START_US);
        assert!(set.stepped_us.is_some() && set.tell == Some(1_700_000_000_000_000));
        for offset_us in [i64::MAX, i64::MIN, 0, i64::MAX] {
            let reading = clock.read(at(10), offset_us, START_US);
            assert!(reading.stepped_us.is_some(), "no arithmetic overflows");
        }
    }

    #[test]
    fn amounts_are_told_in_words() {
        assert_eq!(in_words(3 * HOUR_US + 5 * 60_000_000 + 2_000_000), "3h 5m forward");
        assert_eq!(in_words(-400_000), "0.4s back");
        assert_eq!(in_words(-(26 * HOUR_US)), "1d 2h back");
        assert_eq!(in_words(12_000_000), "12s forward");
        assert_eq!(in_words(HOUR_US), "1h forward");
        assert_eq!(in_words(i64::MIN), "106751991d 4h back");
    }
}
