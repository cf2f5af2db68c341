//! The clock that stamps what happens on the network.

use starling_protocol::time::Time;

/// The present moment on the host's monotonic clock, in microseconds since its boot.
///
/// All processes of one host share this clock, so the times of different nodes of a local network can be subtracted.
#[must_use]
pub fn monotonic_now() -> Time {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let micros = u64::try_from(now.tv_nsec / 1_000).unwrap_or(0);
    Time::from_micros(seconds.saturating_mul(1_000_000).saturating_add(micros))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_advances_with_the_standard_clock() {
        let (before, started) = (monotonic_now(), std::time::Instant::now());
        while started.elapsed().as_micros() < 2_000 {
            std::hint::spin_loop();
        }
        let passed = monotonic_now().since(before);
        assert!(passed.as_micros() >= 2_000 && passed.as_secs() < 10, "{passed:?}");
    }
}
