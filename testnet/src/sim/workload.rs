//! When who publishes what.

use super::scenario::Scenario;
use crate::wan::Stream;
use starling_protocol::time::{Duration, Time, micros};

/// Messages that are published while the load lasts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    /// When.
    pub pace: Pace,
    /// Bytes of each message's payload.
    pub payload_bytes: u32,
    /// By whom.
    pub publishers: Publishers,
    /// From when on, counted from the end of the warm-up.
    pub from: Duration,
    /// Until when; to the end of the load if none.
    pub until: Option<Duration>,
}

/// The times of messages. Rates are in messages per thousand seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// At regular intervals.
    Constant {
        /// Of all publishers together.
        messages_per_ks: u64,
    },
    /// At times that do not depend on each other (a Poisson process).
    Poisson {
        /// Of all publishers together, on average.
        messages_per_ks: u64,
    },
    /// Several at once, at regular intervals.
    Bursts {
        /// Between two bursts.
        every: Duration,
        /// Messages of a burst.
        messages: u32,
    },
}

/// Who publishes, by turns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Publishers {
    /// So many nodes, evenly spread over the numbers.
    Spread(usize),
    /// These.
    Nodes(Vec<u32>),
}

/// One message to be published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Submission {
    /// When, from the start of the run.
    pub at: Time,
    /// By whom.
    pub node: u32,
    /// Bytes of its payload.
    pub payload_bytes: u32,
}

/// All messages of a scenario, in the order of workloads and times.
#[must_use]
pub fn submissions(scenario: &Scenario) -> Vec<Submission> {
    let start = Time::ZERO + scenario.warm_up;
    let mut all = Vec::new();
    for (number, workload) in (0_u64..).zip(&scenario.workloads) {
        let until = workload.until.unwrap_or(scenario.duration).min(scenario.duration);
        let length_us = micros(until).saturating_sub(micros(workload.from));
        let mut stream = Stream::new(scenario.seed.wrapping_add(number << 48), "workload");
        let publishers = workload.publishers.numbers(scenario.nodes);
        for (turn, offset_us) in workload.pace.times_us(length_us, &mut stream).into_iter().enumerate() {
            let at = start + workload.from + Duration::from_micros(offset_us);
            let node = publishers[turn % publishers.len()];
            all.push(Submission { at, node, payload_bytes: workload.payload_bytes });
        }
    }
    all
}

/// How many messages [`submissions`] has, of random times about: known without making them, which may be more than there is memory for.
#[must_use]
pub fn submissions_count(scenario: &Scenario) -> u64 {
    submissions_within(scenario, Duration::MAX)
}

/// How many of them there are at most within so long.
#[must_use]
pub fn submissions_within(scenario: &Scenario, length: Duration) -> u64 {
    counts(scenario, length).map(|(count, _)| count).fold(0, u64::saturating_add)
}

/// How many bytes of payload [`submissions`] have in all, as far as it is known without making them.
#[must_use]
pub fn submissions_bytes(scenario: &Scenario) -> u128 {
    let all = counts(scenario, Duration::MAX);
    all.map(|(count, workload)| u128::from(count) * u128::from(workload.payload_bytes)).sum()
}

/// How many messages each workload has within so long at most.
fn counts(scenario: &Scenario, length: Duration) -> impl Iterator<Item = (u64, &Workload)> {
    scenario.workloads.iter().map(move |workload| {
        let until = workload.until.unwrap_or(scenario.duration).min(scenario.duration);
        let lasts = until.saturating_sub(workload.from).min(length);
        (workload.pace.count(micros(lasts)), workload)
    })
}

impl Publishers {
    fn numbers(&self, nodes: usize) -> Vec<u32> {
        let node = |number: usize| u32::try_from(number).expect("fewer than 2^32 nodes");
        match self {
            Self::Spread(count) => {
                let count = (*count).clamp(1, nodes);
                (0..count).map(|place| node(place * nodes / count)).collect()
            }
            Self::Nodes(nodes) => nodes.clone(),
        }
    }
}

impl Pace {
    /// How many messages there are within so many microseconds, on average if their times are random.
    fn count(self, length_us: u64) -> u64 {
        match self {
            Self::Constant { messages_per_ks } | Self::Poisson { messages_per_ks } => {
                let exact = u128::from(length_us) * u128::from(messages_per_ks);
                u64::try_from(exact.div_ceil(1_000_000_000)).unwrap_or(u64::MAX)
            }
            Self::Bursts { every, messages } => {
                length_us.div_ceil(micros(every).max(1)).saturating_mul(u64::from(messages))
            }
        }
    }

    /// Offsets of all messages within so many microseconds, ascending.
    fn times_us(self, length_us: u64, stream: &mut Stream) -> Vec<u64> {
        match self {
            Self::Constant { messages_per_ks: 0 } | Self::Poisson { messages_per_ks: 0 } => Vec::new(),
            Self::Constant { messages_per_ks } => {
                let time_us = |number: u64| number * 1_000_000_000 / messages_per_ks;
                (0..).map(time_us).take_while(|at_us| *at_us < length_us).collect()
            }
            Self::Poisson { messages_per_ks } => {
                // In nanoseconds, or high rates would be rounded up.
                let mean_ns = 1_000_000_000_000 / messages_per_ks;
                let mut at_ns: u64 = 0;
                let times = core::iter::from_fn(|| {
                    at_ns = at_ns.saturating_add(exponential(mean_ns, stream));
                    Some(at_ns / 1_000)
                });
                times.take_while(|at_us| *at_us < length_us).collect()
            }
            Self::Bursts { every, messages } => {
                let bursts = (0..length_us).step_by(usize::try_from(micros(every).max(1)).unwrap_or(usize::MAX));
                bursts.flat_map(|at_us| (0..messages).map(move |_| at_us)).collect()
            }
        }
    }
}

/// An exponentially distributed number with this mean, from comparisons of whole numbers alone (von Neumann, "Various techniques used
/// in connection with random digits", 1951), because logarithms are not the same on all machines.
fn exponential(mean: u64, stream: &mut Stream) -> u64 {
    let mut whole = 0;
    loop {
        let first = stream.next_u32();
        let (mut last, mut falling) = (first, 1_u32);
        loop {
            let next = stream.next_u32();
            if next > last {
                break;
            }
            last = next;
            falling += 1;
        }
        if falling % 2 == 1 {
            let part = (u128::from(first) * u128::from(mean)) >> 32;
            return whole * mean + u64::try_from(part).expect("below the mean");
        }
        whole += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_constant_pace_is_regular_and_ends() {
        let mut stream = Stream::new(1, "workload");
        let times = Pace::Constant { messages_per_ks: 3_000 }.times_us(1_000_000, &mut stream);
        assert_eq!(times, [0, 333_333, 666_666]);
        let bursts = Pace::Bursts { every: Duration::from_millis(400), messages: 2 };
        assert_eq!(bursts.times_us(1_000_000, &mut stream), [0, 0, 400_000, 400_000, 800_000, 800_000]);
    }

    #[test]
    fn messages_are_counted_without_being_made() {
        let every = Duration::from_millis(400);
        for (pace, slack) in [
            (Pace::Constant { messages_per_ks: 0 }, 0),
            (Pace::Constant { messages_per_ks: 3_000 }, 0),
            (Pace::Constant { messages_per_ks: 700 }, 0),
            (Pace::Bursts { every, messages: 2 }, 0),
            (Pace::Poisson { messages_per_ks: 1_000_000 }, 200),
        ] {
            for length_us in [0, 1, 1_000_000, 2_000_001] {
                let made = pace.times_us(length_us, &mut Stream::new(1, "workload")).len() as u64;
                let counted = pace.count(length_us);
                assert!(made.abs_diff(counted) <= slack, "{pace:?} for {length_us}: {made}, counted {counted}");
            }
        }
        let huge = Pace::Bursts { every: Duration::from_micros(1), messages: u32::MAX };
        assert_eq!(huge.count(u64::MAX), u64::MAX);
    }

    /// An exponential distribution has its mean, and its mean as standard deviation; 1 - 1/e of it is below the mean.
    #[test]
    fn gaps_of_a_poisson_process_are_exponential() {
        let mut stream = Stream::new(1, "workload");
        let gaps: Vec<u64> = (0..100_000).map(|_| exponential(1_000_000, &mut stream)).collect();
        let mean = gaps.iter().sum::<u64>() / 100_000;
        assert!((990_000..1_010_000).contains(&mean), "{mean}");
        let square = gaps.iter().map(|gap| u128::from(gap.abs_diff(mean)).pow(2)).sum::<u128>() / 100_000;
        assert!((970_000_000_000..1_030_000_000_000).contains(&square), "{square}");
        let below = gaps.iter().filter(|gap| **gap < 1_000_000).count();
        assert!((62_700..63_700).contains(&below), "{below}");
    }

    #[test]
    fn publishers_take_turns() {
        assert_eq!(Publishers::Spread(4).numbers(10), [0, 2, 5, 7]);
        assert_eq!(Publishers::Spread(99).numbers(3), [0, 1, 2]);
        assert_eq!(Publishers::Nodes(vec![7]).numbers(10), [7]);
    }
}
