//! How fast blocks come: pure arithmetic over the time that the machine is told.

use crate::time::{Duration, Time};

/// How much the latest sample counts against those before.
const WEIGHT: f64 = 0.3;
/// How long one sample is.
const SAMPLE: Duration = Duration::from_secs(1);

/// Blocks a second, as a moving average over samples of a second.
#[derive(Clone, Debug, Default)]
pub(super) struct Rate {
    since: Time,
    placed: u64,
    average: Option<f64>,
}

impl Rate {
    pub(super) fn start(now: Time) -> Self {
        Self { since: now, placed: 0, average: None }
    }

    pub(super) fn placed(&mut self, now: Time, blocks: u64) {
        self.placed += blocks;
        if now.since(self.since) >= SAMPLE {
            self.average = Some(self.per_second(now));
            (self.since, self.placed) = (now, 0);
        }
    }

    /// The average, the unfinished sample included if it is long enough to say something.
    pub(super) fn per_second(&self, now: Time) -> f64 {
        let seconds = now.since(self.since).as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "far fewer blocks than 2^52 come in a sample")]
        let sample = if seconds > 0.0 { self.placed as f64 / seconds } else { 0.0 };
        match self.average {
            None => sample,
            Some(average) if now.since(self.since) >= SAMPLE => average + WEIGHT * (sample - average),
            Some(average) => average,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_rate_is_told_and_a_stop_is_noticed() {
        let mut rate = Rate::start(Time::from_secs(5));
        assert!(rate.per_second(Time::from_secs(5)) < 0.001);
        for ms in 1..=3_000 {
            rate.placed(Time::from_millis(5_000 + ms), 2);
        }
        let steady = rate.per_second(Time::from_secs(8));
        assert!((steady - 2_000.0).abs() < 10.0, "{steady}");
        let stopped = rate.per_second(Time::from_secs(28));
        assert!(stopped < steady * 0.8, "{stopped}");
    }
}
