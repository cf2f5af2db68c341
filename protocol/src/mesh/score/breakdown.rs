//! A score taken apart, for operators.

use super::counters::TopicStats;
use super::value::TopicParts;
use serde::Serialize;

/// A peer's score with its parts, in points: `total` is the topics' capped positive parts, their penalties and the three
/// parts that belong to no topic.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ScoreBreakdown {
    /// The score.
    pub total: f64,
    /// Parts by topic, in the order of topic indices.
    pub topics: Vec<TopicBreakdown>,
    /// P5: the application's opinion.
    pub application: f64,
    /// P6: peers on the same address.
    pub colocation: f64,
    /// P7: breaches of the protocol.
    pub behaviour: f64,
}

/// One topic's parts, in points with all weights applied.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TopicBreakdown {
    /// Index of the topic.
    pub topic: usize,
    /// Whether the peer is in our mesh.
    pub in_mesh: bool,
    /// The topic's score: the capped sum of the first two parts, plus the penalties.
    pub score: f64,
    /// P1: time in the mesh.
    pub time_in_mesh: f64,
    /// P2: first deliveries.
    pub first_deliveries: f64,
    /// P3: deficit of deliveries.
    pub mesh_deliveries: f64,
    /// P3b: deficits when it left the mesh.
    pub mesh_failure: f64,
    /// P4: invalid messages.
    pub invalid: f64,
}

impl TopicBreakdown {
    pub(super) fn new(topic: usize, parts: &TopicParts, stats: &TopicStats) -> Self {
        Self {
            topic,
            in_mesh: stats.grafted_at.is_some(),
            score: parts.positive() + parts.negative(),
            time_in_mesh: parts.time_in_mesh,
            first_deliveries: parts.first_deliveries,
            mesh_deliveries: parts.mesh_deliveries,
            mesh_failure: parts.mesh_failure,
            invalid: parts.invalid,
        }
    }
}
