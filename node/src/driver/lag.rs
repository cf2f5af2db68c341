//! How late the event loop runs.
//!
//! A sample is the time from when something was due (a timer) or decoded (an RPC) until the machine was given it. The
//! percentiles of a second's samples tell whether the host keeps up: a propagation latency measured on a saturated host
//! says more about the host than about the network.

use starling_protocol::time::Duration;

/// Samples kept in one interval; further ones replace the oldest.
const SAMPLES_MAX: usize = 8_192;

/// Collects samples of one interval.
#[derive(Debug, Default)]
pub(super) struct Lag {
    samples: Vec<Duration>,
    next: usize,
}

/// The percentiles of an interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LagSummary {
    pub(super) p50: Duration,
    pub(super) p99: Duration,
    pub(super) max: Duration,
}

impl Lag {
    pub(super) fn record(&mut self, lag: Duration) {
        if self.samples.len() < SAMPLES_MAX {
            self.samples.push(lag);
        } else {
            self.samples[self.next] = lag;
            self.next = (self.next + 1) % SAMPLES_MAX;
        }
    }

    /// The percentiles since the last call; none without samples.
    pub(super) fn take(&mut self) -> Option<LagSummary> {
        self.samples.sort_unstable();
        let max = *self.samples.last()?;
        // The smallest sample that so many hundredths of all samples do not exceed.
        let percentile = |hundredths: usize| self.samples[(self.samples.len() * hundredths).div_ceil(100) - 1];
        let summary = LagSummary { p50: percentile(50), p99: percentile(99), max };
        self.samples.clear();
        self.next = 0;
        Some(summary)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_exact_and_an_interval_begins_empty() {
        let mut lag = Lag::default();
        assert_eq!(lag.take(), None);
        for micros in (1..=1_000).rev() {
            lag.record(Duration::from_micros(micros));
        }
        let us = Duration::from_micros;
        assert_eq!(lag.take(), Some(LagSummary { p50: us(500), p99: us(990), max: us(1_000) }));
        assert_eq!(lag.take(), None);
    }

    #[test]
    fn memory_is_bounded() {
        let mut lag = Lag::default();
        for _ in 0..3 * SAMPLES_MAX {
            lag.record(Duration::ZERO);
        }
        assert_eq!(lag.samples.len(), SAMPLES_MAX);
    }
}
