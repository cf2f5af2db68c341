//! The clocks of the operating system, read here and nowhere else in the node's own code.
//!
//! The protocol's [`Time`] is the absolute reading of `CLOCK_MONOTONIC` in microseconds. All processes of a host share that
//! clock, so the times that different nodes of a local testnet write into their traces can be compared without any
//! synchronisation. It does not jump when the wall clock is set. Slots are wall time; [`wall_offset_us`] tells how far the
//! two clocks are apart.

use rustix::time::{ClockId, Timespec, clock_gettime};
use starling_protocol::time::{Duration, Time};

/// The present moment.
#[must_use]
pub fn now() -> Time {
    Time::from_micros(micros(clock_gettime(ClockId::Monotonic)))
}

/// Microseconds to add to a [`Time`] to get microseconds since the Unix epoch. Negative only on a host whose wall clock was
/// never set.
#[must_use]
pub fn wall_offset_us() -> i64 {
    // The monotonic clock is read on both sides of the wall clock, and the middle is taken: a preemption in between then
    // shifts the answer by at most half of its length.
    let before = micros(clock_gettime(ClockId::Monotonic));
    let wall = micros(clock_gettime(ClockId::Realtime));
    let after = micros(clock_gettime(ClockId::Monotonic));
    let middle = before + (after - before) / 2;
    let signed = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    signed(wall).saturating_sub(signed(middle))
}

/// Unix time in seconds; zero on a host whose clock was never set.
#[must_use]
pub fn unix_s() -> u64 {
    let unix_us = i128::from(now().as_micros()) + i128::from(wall_offset_us());
    u64::try_from(unix_us / 1_000_000).unwrap_or(0)
}

/// The same moment on the async runtime's clock, for sleeping until it. A moment that has passed maps to the present.
#[must_use]
pub fn tokio_instant(at: Time) -> tokio::time::Instant {
    // `Instant` has the same origin but does not say so; the distance from the present is what both can express. A wait of
    // a day is as good as for ever: the driver asks again whenever anything happens.
    const FAR: Duration = Duration::from_secs(86_400);
    tokio::time::Instant::now() + at.since(now()).min(FAR)
}

fn micros(time: Timespec) -> u64 {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanoseconds = u64::try_from(time.tv_nsec).unwrap_or(0);
    seconds.saturating_mul(1_000_000).saturating_add(nanoseconds / 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_the_monotonic_clock_and_the_offset_leads_to_the_wall_clock() {
        let uptime = std::fs::read_to_string("/proc/uptime").expect("Linux");
        let uptime_s: f64 = uptime.split(' ').next().and_then(|text| text.parse().ok()).expect("a number");
        // CLOCK_MONOTONIC and the uptime differ by the time the host was suspended, never in the other direction.
        #[expect(clippy::cast_precision_loss, reason = "a comparison to within a second")]
        let now_s = now().as_micros() as f64 / 1e6;
        assert!(now_s < uptime_s + 1.0, "{now_s} {uptime_s}");

        let unix = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
        let computed = i64::try_from(now().as_micros()).expect("fits") + wall_offset_us();
        let difference_us = computed.abs_diff(i64::try_from(unix.as_micros()).expect("fits"));
        assert!(difference_us < 1_000_000, "{difference_us}");
    }

    #[test]
    fn the_clock_never_goes_back() {
        let mut last = now();
        for _ in 0..1_000 {
            let next = now();
            assert!(next >= last);
            last = next;
        }
    }
}
