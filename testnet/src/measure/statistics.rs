//! Condensing deliveries: exact quantiles, copies, bytes and hops of one class, beside the lower bound of the same
//! deliveries.

use std::collections::BTreeMap;

use super::deliveries::{Deliveries, Message, Outcome};
use super::trace::{Class, How};
use crate::wan::Bounds;

/// The value that at least `percent` percent of the values do not exceed (nearest rank): `None` without values.
///
/// `sorted` must be in rising order.
#[must_use]
pub fn nearest_rank(sorted: &[u64], percent: usize) -> Option<u64> {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied()
}

/// The usual points of a distribution, each a value that did occur.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quantiles {
    /// Half of the values are at most this.
    pub p50: u64,
    /// Nine in ten are.
    pub p90: u64,
    /// Ninety-nine in a hundred are.
    pub p99: u64,
    /// All are.
    pub max: u64,
}

impl Quantiles {
    /// The quantiles of values in rising order; `None` without values.
    #[must_use]
    pub fn of_sorted(sorted: &[u64]) -> Option<Self> {
        debug_assert!(sorted.is_sorted());
        Some(Self {
            p50: nearest_rank(sorted, 50)?,
            p90: nearest_rank(sorted, 90)?,
            p99: nearest_rank(sorted, 99)?,
            max: *sorted.last()?,
        })
    }
}

/// How the messages of one class spread. Vectors of times are in rising order.
#[derive(Debug, Clone)]
pub struct ClassStatistics {
    /// Messages.
    pub published: usize,
    /// Messages times other nodes, but for those that did not run.
    pub expected: usize,
    /// Expected deliveries that came over the mesh in time.
    pub deliveries: usize,
    /// How many of those were pulled.
    pub pulled: usize,
    /// Expected deliveries that came only inside a block.
    pub in_block_only: usize,
    /// Expected deliveries that did not come, but whose message the node has in the end: see
    /// [`Deliveries::came_with_the_chain`].
    pub with_the_chain: usize,
    /// From `t0` to arrival, for every delivery.
    pub latency_us: Vec<u64>,
    /// From `t0` to acceptance, for every delivery that was accepted.
    pub accepted_us: Vec<u64>,
    /// The lower bound on the latency of every delivery.
    pub bound_us: Vec<u64>,
    /// Copies of payloads received by all nodes.
    pub copies: u64,
    /// Mesh-frame bytes of those copies.
    pub frame_bytes: u64,
    /// Payload bytes of all messages, each counted once.
    pub payload_bytes: u64,
    /// How many deliveries took how many hops.
    pub hops: BTreeMap<u32, usize>,
    /// How many deliveries had how many copies.
    pub copies_of_delivery: BTreeMap<u32, usize>,
}

impl ClassStatistics {
    /// The statistics of a class; `None` if it has no messages.
    ///
    /// # Panics
    /// If `bounds` are those of a network of another size.
    #[must_use]
    pub fn of(class: Class, deliveries: &Deliveries, bounds: &Bounds) -> Option<Self> {
        assert_eq!(deliveries.nodes(), bounds.nodes(), "deliveries and bounds of one network");
        deliveries.of_class(class).next()?;
        let mut statistics = Self {
            published: 0,
            expected: 0,
            deliveries: 0,
            pulled: 0,
            in_block_only: 0,
            with_the_chain: 0,
            latency_us: Vec::new(),
            accepted_us: Vec::new(),
            bound_us: Vec::new(),
            copies: 0,
            frame_bytes: 0,
            payload_bytes: 0,
            hops: BTreeMap::new(),
            copies_of_delivery: BTreeMap::new(),
        };
        for message in deliveries.of_class(class) {
            statistics.add(message, deliveries, bounds);
        }
        for times_us in [&mut statistics.latency_us, &mut statistics.accepted_us, &mut statistics.bound_us] {
            times_us.sort_unstable();
        }
        Some(statistics)
    }

    fn add(&mut self, message: &Message, deliveries: &Deliveries, bounds: &Bounds) {
        self.published += 1;
        self.payload_bytes += message.payload_bytes;
        let hops = message.hops();
        for (node, reception) in message.receptions.iter().enumerate() {
            self.copies += u64::from(reception.copies);
            self.frame_bytes += reception.frame_bytes;
            let outcome = deliveries.outcome(message, node);
            self.expected += usize::from(!matches!(outcome, Outcome::Origin | Outcome::Absent));
            match outcome {
                Outcome::Delivered(arrival) => {
                    self.deliveries += 1;
                    self.pulled += usize::from(arrival.how == How::Pulled);
                    self.latency_us.push(arrival.t_us.saturating_sub(message.t0_us));
                    self.accepted_us.extend(reception.accepted_us.map(|t_us| t_us.saturating_sub(message.t0_us)));
                    self.bound_us.push(bounds.least_us(message.origin, node));
                    *self.copies_of_delivery.entry(reception.copies).or_default() += 1;
                    if let Some(hops) = hops[node] {
                        *self.hops.entry(hops).or_default() += 1;
                    }
                }
                Outcome::InBlock(_) => self.in_block_only += 1,
                Outcome::Missing => self.with_the_chain += usize::from(reception.had_in_the_end),
                Outcome::Origin | Outcome::Absent => {}
            }
        }
    }

    /// The share of the expected deliveries that happened, from 0 to 1; 1 if none is expected.
    #[must_use]
    pub fn coverage(&self) -> f64 {
        if self.expected == 0 { 1.0 } else { ratio(self.deliveries as u64, self.expected as u64) }
    }

    /// Copies of payloads for each delivery; `None` without deliveries.
    #[must_use]
    pub fn copies_per_delivery(&self) -> Option<f64> {
        (self.deliveries > 0).then(|| ratio(self.copies, self.deliveries as u64))
    }

    /// Bytes of the mesh frames that carried those copies, for each delivery; `None` without deliveries.
    #[must_use]
    pub fn frame_bytes_per_delivery(&self) -> Option<f64> {
        (self.deliveries > 0).then(|| ratio(self.frame_bytes, self.deliveries as u64))
    }

    /// The mean size of a payload: the least that a delivery can cost.
    #[must_use]
    pub fn payload_bytes_mean(&self) -> f64 {
        ratio(self.payload_bytes, self.published as u64)
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of a run are far below 2^53")]
fn ratio(numerator: u64, denominator: u64) -> f64 {
    numerator as f64 / denominator as f64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn quantiles_are_values_that_occurred() {
        let hundred: Vec<u64> = (1..=100).collect();
        let expected = Quantiles { p50: 50, p90: 90, p99: 99, max: 100 };
        assert_eq!(Quantiles::of_sorted(&hundred), Some(expected));
        assert_eq!(Quantiles::of_sorted(&[7]), Some(Quantiles { p50: 7, p90: 7, p99: 7, max: 7 }));
        assert_eq!(Quantiles::of_sorted(&[]), None);
    }

    proptest! {
        /// By the definition: at least the given share is at most the quantile, and nothing smaller will do.
        #[test]
        fn the_nearest_rank_is_the_least_that_covers(mut values in prop::collection::vec(0_u64..50, 1..200), percent in 1_usize..=100) {
            values.sort_unstable();
            let quantile = nearest_rank(&values, percent).expect("there are values");
            let covered = |limit: u64| values.iter().filter(|&&value| value <= limit).count() * 100;
            prop_assert!(covered(quantile) >= values.len() * percent);
            prop_assert!(quantile == 0 || covered(quantile - 1) < values.len() * percent);
        }
    }
}
