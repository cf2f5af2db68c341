//! The score of a peer as it is now: the sum of the weighted counters, by the formula at the head of the parent module.

use super::numeric::micros_f64;
use super::{Peer, Scores};
use crate::time::micros;

/// The weighted parts of one topic's score, topic weight included.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct TopicParts {
    pub(super) time_in_mesh: f64,
    pub(super) first_deliveries: f64,
    pub(super) mesh_deliveries: f64,
    pub(super) mesh_failure: f64,
    pub(super) invalid: f64,
    pub(super) positive_max: f64,
}

impl TopicParts {
    pub(super) fn positive(&self) -> f64 {
        (self.time_in_mesh + self.first_deliveries).min(self.positive_max)
    }

    pub(super) fn negative(&self) -> f64 {
        self.mesh_deliveries + self.mesh_failure + self.invalid
    }
}

impl Scores {
    pub(super) fn total(&self, slot: usize, known: &Peer) -> f64 {
        let (mut positive, mut negative) = (0.0, 0.0);
        for index in 0..self.traffic.len() {
            let parts = self.parts(slot, index);
            positive += parts.positive();
            negative += parts.negative();
        }
        f64::min(positive, self.config.positive_max)
            + negative
            + self.application_part(known)
            + self.colocation_part(known)
            + self.behaviour_part(known)
    }

    pub(super) fn parts(&self, slot: usize, topic: usize) -> TopicParts {
        let config = self.config.topic(topic);
        let stats = self.stats(slot, topic);
        let weight = config.weight;
        let time = &config.time_in_mesh;
        let quanta = micros_f64(stats.mesh_time_us) / micros_f64(micros(time.quantum).max(1));
        let deficit = self.deficit(slot, topic);
        TopicParts {
            time_in_mesh: weight * time.weight * quanta.min(time.quanta_max),
            first_deliveries: weight * config.first_deliveries.weight * stats.first_deliveries,
            mesh_deliveries: weight * config.mesh_deliveries.weight * deficit * deficit,
            mesh_failure: weight * config.mesh_failure.weight * stats.mesh_failure,
            invalid: weight * config.invalid.weight * stats.invalid * stats.invalid,
            positive_max: config.positive_max,
        }
    }

    /// Deliveries that the peer owes to the mesh of the topic.
    pub(super) fn deficit(&self, slot: usize, topic: usize) -> f64 {
        let stats = self.stats(slot, topic);
        if !stats.deficit_active || self.deficits_suspended(self.now) {
            return 0.0;
        }
        let config = &self.config.topic(topic).mesh_deliveries;
        let carried = self.traffic[topic] - stats.traffic_at_graft;
        let enough = config.traffic_fraction.is_none_or(|fraction| fraction * carried >= config.threshold);
        if enough { (config.threshold - stats.mesh_deliveries).max(0.0) } else { 0.0 }
    }

    pub(super) fn application_part(&self, known: &Peer) -> f64 {
        self.config.application.weight * known.application
    }

    pub(super) fn colocation_part(&self, known: &Peer) -> f64 {
        let config = &self.config.colocation;
        let count = known.address.map_or(0, |(_, number)| self.colocation.count(number));
        let surplus = f64::from(count.saturating_sub(config.threshold));
        config.weight * surplus * surplus
    }

    pub(super) fn behaviour_part(&self, known: &Peer) -> f64 {
        let config = &self.config.behaviour;
        let surplus = (known.behaviour - config.threshold).max(0.0);
        config.weight * surplus * surplus
    }
}
