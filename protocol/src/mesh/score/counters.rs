//! What is counted of one peer on one topic, and how it decays.

use super::config::TopicScoreConfig;
use super::numeric::power;
use crate::time::{Time, micros};

/// Counters of one peer on one topic. All are finite and not negative.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct TopicStats {
    /// When the peer joined our mesh; None outside.
    pub(super) grafted_at: Option<Time>,
    /// Microseconds in the mesh as of the last decay; zero outside.
    pub(super) mesh_time_us: u64,
    /// Whether the peer has been in the mesh for long enough to owe deliveries.
    pub(super) deficit_active: bool,
    pub(super) first_deliveries: f64,
    pub(super) mesh_deliveries: f64,
    /// The topic's traffic counter at the graft, decayed since: the difference is what the peer could have delivered.
    pub(super) traffic_at_graft: f64,
    pub(super) mesh_failure: f64,
    pub(super) invalid: f64,
}

/// Penalty counters saturate here: their squares are still far from the end of doubles.
pub(super) const COUNTER_MAX: f64 = 1e12;

/// What the counters of a topic are multiplied with in one decay pass.
pub(super) struct Factors {
    pub(super) first_deliveries: f64,
    pub(super) mesh_deliveries: f64,
    pub(super) mesh_failure: f64,
    pub(super) invalid: f64,
}

impl Factors {
    pub(super) fn of(config: &TopicScoreConfig, steps: u64, suspended: bool) -> Self {
        Self {
            first_deliveries: power(config.first_deliveries.decay, steps),
            mesh_deliveries: if suspended { 1.0 } else { power(config.mesh_deliveries.decay, steps) },
            mesh_failure: power(config.mesh_failure.decay, steps),
            invalid: power(config.invalid.decay, steps),
        }
    }
}

impl TopicStats {
    pub(super) fn decay(&mut self, now: Time, config: &TopicScoreConfig, factors: &Factors, floor: f64) {
        self.first_deliveries = decayed(self.first_deliveries, factors.first_deliveries, floor);
        self.mesh_deliveries = decayed(self.mesh_deliveries, factors.mesh_deliveries, floor);
        self.mesh_failure = decayed(self.mesh_failure, factors.mesh_failure, floor);
        self.invalid = decayed(self.invalid, factors.invalid, floor);
        // Not brought to zero: it must shrink exactly as the traffic counter does.
        self.traffic_at_graft *= factors.mesh_deliveries;
        if let Some(grafted_at) = self.grafted_at {
            self.mesh_time_us = micros(now.since(grafted_at));
            self.deficit_active |= now.since(grafted_at) > config.mesh_deliveries.activation;
        }
    }

    pub(super) fn check(&self, config: &TopicScoreConfig) {
        let counts = [self.traffic_at_graft, self.mesh_failure, self.invalid];
        assert!(counts.iter().all(|count| (0.0..=f64::MAX).contains(count)), "counters are counts: {self:?}");
        assert!((0.0..=config.first_deliveries.deliveries_max).contains(&self.first_deliveries), "P2 is capped");
        assert!((0.0..=config.mesh_deliveries.deliveries_max).contains(&self.mesh_deliveries), "P3 is capped");
        let outside = self.mesh_time_us == 0 && !self.deficit_active;
        assert!(self.grafted_at.is_some() || outside, "only mesh members gain time and owe deliveries");
    }
}

pub(super) fn decayed(count: f64, factor: f64, floor: f64) -> f64 {
    let count = count * factor;
    if count < floor { 0.0 } else { count }
}
