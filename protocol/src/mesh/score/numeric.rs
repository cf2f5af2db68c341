//! Decay arithmetic from `+ - * /` alone, so that every platform and build computes the same bits.

use crate::time::{Duration, micros};

/// The factor per `interval` that brings a counter to one hundredth within `period` (the convention of
/// go-libp2p-pubsub's ScoreParameterDecay). Found by bisection, because `powf` has no fixed precision.
///
/// A period shorter than the interval gives a factor of at most one hundredth.
#[must_use]
pub fn decay_factor(period: Duration, interval: Duration) -> f64 {
    let steps = (micros(period) / micros(interval).max(1)).max(1);
    let (mut low, mut high) = (0.0, 1.0);
    // A double has 53 significant bits, and the factor is above one hundredth.
    for _ in 0..64 {
        let middle = (low + high) / 2.0;
        if power(middle, steps) < 0.01 {
            low = middle;
        } else {
            high = middle;
        }
    }
    high
}

/// `base` to the power of `exponent`, by squaring: at most 128 multiplications.
#[must_use]
pub(super) fn power(base: f64, exponent: u64) -> f64 {
    let (mut result, mut square, mut left) = (1.0, base, exponent);
    while left > 0 {
        if left & 1 == 1 {
            result *= square;
        }
        square *= square;
        left >>= 1;
    }
    result
}

/// A count of microseconds as a number; exact below 2^53 (some 285 years).
#[must_use]
pub(super) fn micros_f64(duration_us: u64) -> f64 {
    let (high, low) = (duration_us >> 32, duration_us & u64::from(u32::MAX));
    let exact = |half: u64| f64::from(u32::try_from(half).unwrap_or(u32::MAX));
    exact(high) * 4_294_967_296.0 + exact(low)
}
