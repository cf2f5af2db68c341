//! The rules that the parameters of peer scoring must obey.
//!
//! Signs, ranges and finiteness are those of the gossipsub v1.1 specification ("Peer Scoring"), and three relations between
//! parameters are those that it leaves to luck:
//!
//! 1. **Three rejections graylist.** From the highest score that a peer can have, three rejected messages, spread over
//!    topics in the way that costs least, end below the graylist threshold.
//!    *Rationale:* otherwise score can be banked and then spent on invalid messages.
//! 2. **Silence outweighs merit.** Where the mesh-delivery deficit (P3) is on, a peer that delivers nothing has a negative
//!    topic score whatever positive score it holds there.
//!    *Rationale:* otherwise one topic can be withheld for ever (CVE-2022-47547, arXiv 2212.05197).
//! 3. **Colocation outweighs merit.** Where P6 is on, one peer too many on an address makes all of them negative, whatever
//!    they deliver. *Rationale:* this is what makes the threshold a bound on mesh-eligible peers per address.
//!
//! A weight of zero turns a parameter off, and with it the relation that it takes part in.

use super::config::{
    FirstDeliveriesConfig, MeshDeliveriesConfig, ScoreConfig, Thresholds, TimeInMeshConfig, TopicScoreConfig,
};
use crate::time::Duration;
use std::sync::Arc;
use thiserror::Error;

/// Why a [`ScoreConfig`] is refused.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum ScoreConfigError {
    /// Infinite or not a number.
    #[error("score parameter {parameter} is {value}, but it must be a finite number")]
    NotFinite {
        /// Path of the parameter.
        parameter: String,
        /// What was given.
        value: f64,
    },
    /// Outside its range.
    #[error("score parameter {parameter} is {value}, but it must be {range}")]
    OutOfRange {
        /// Path of the parameter.
        parameter: String,
        /// What was given.
        value: f64,
        /// What would be right.
        range: &'static str,
    },
    /// A duration is too short.
    #[error("score parameter {parameter} is {value:?}, but it must be at least {least:?}")]
    TooShort {
        /// Path of the parameter.
        parameter: String,
        /// What was given.
        value: Duration,
        /// What would be right.
        least: Duration,
    },
    /// The negative thresholds are not in order.
    #[error("score thresholds must fall from gossip ({gossip}) over publish ({publish}) to graylist ({graylist})")]
    ThresholdOrder {
        /// As given.
        gossip: f64,
        /// As given.
        publish: f64,
        /// As given.
        graylist: f64,
    },
    /// Relation 1 of the module does not hold.
    #[error(
        "a peer may hold {positive} points and then be left with {remaining} after three rejected messages, which is not below \
         the graylist threshold {graylist}: lower positive_max or make invalid.weight more negative"
    )]
    RejectionsTooCheap {
        /// The highest score a peer can have.
        positive: f64,
        /// What is left after the cheapest three rejections.
        remaining: f64,
        /// The threshold to get below.
        graylist: f64,
    },
    /// Relation 2 of the module does not hold.
    #[error(
        "on {topic} a peer that delivers nothing loses {deficit} points but may hold {positive} there: lower its positive_max or \
         make mesh_deliveries.weight more negative"
    )]
    DeficitTooCheap {
        /// Path of the topic's parameters.
        topic: String,
        /// Points lost for full silence.
        deficit: f64,
        /// Points that can be held on the topic.
        positive: f64,
    },
    /// Relation 3 of the module does not hold.
    #[error(
        "one peer too many on an address costs {penalty} points but each may hold {positive}: lower positive_max or make \
         colocation.weight more negative"
    )]
    ColocationTooCheap {
        /// Points that one surplus peer costs.
        penalty: f64,
        /// Points that can be earned on all topics.
        positive: f64,
    },
}

/// Rejected messages after which relation 1 demands the graylist.
pub const REJECTIONS_TO_GRAYLIST: u32 = 3;

/// The shortest decay interval (go-libp2p-pubsub refuses shorter ones too).
pub const DECAY_INTERVAL_MIN: Duration = Duration::from_secs(1);

/// A [`ScoreConfig`] that obeys every rule of this module.
#[derive(Clone, Debug, PartialEq)]
pub struct ValidScoreConfig(pub(super) Arc<ScoreConfig>);

impl ValidScoreConfig {
    /// The parameters.
    #[must_use]
    pub fn get(&self) -> &ScoreConfig {
        &self.0
    }
}

impl Default for ValidScoreConfig {
    /// The default parameters, which obey the rules (a test says so).
    fn default() -> Self {
        Self(Arc::new(ScoreConfig::default()))
    }
}

impl ScoreConfig {
    /// Checks every rule of this module.
    ///
    /// # Errors
    /// The first rule that is broken, with the parameter's path and what would be right.
    pub fn validate(self) -> Result<ValidScoreConfig, ScoreConfigError> {
        self.thresholds.validate()?;
        non_negative("positive_max", self.positive_max)?;
        non_negative("application.weight", self.application.weight)?;
        non_negative("application.magnitude_max", self.application.magnitude_max)?;
        non_positive("colocation.weight", self.colocation.weight)?;
        if self.colocation.weight != 0.0 {
            in_range(
                "colocation.threshold",
                f64::from(self.colocation.threshold),
                self.colocation.threshold >= 1,
                "at least 1",
            )?;
        }
        non_positive("behaviour.weight", self.behaviour.weight)?;
        if self.behaviour.weight != 0.0 {
            non_negative("behaviour.threshold", self.behaviour.threshold)?;
            fraction("behaviour.decay", self.behaviour.decay)?;
        }
        fraction("decay_to_zero", self.decay_to_zero)?;
        at_least("decay_interval", self.decay_interval, DECAY_INTERVAL_MIN)?;
        for (index, topic) in self.topics.iter().enumerate() {
            topic.validate(&format!("topics[{index}]"))?;
        }
        self.other_topics.validate("other_topics")?;
        self.validate_relations()?;
        Ok(ValidScoreConfig(Arc::new(self)))
    }

    /// Points lost by `count` fresh rejections, spread over topics in the way that costs the sender least.
    #[must_use]
    pub fn rejections_cost_min(&self, count: u32) -> f64 {
        // There may be any number of other topics, but `count` rejections reach no more than `count` of them.
        let others = (0..count).map(|_| &self.other_topics);
        let mut topics: Vec<(f64, f64)> =
            self.topics.iter().chain(others).map(|topic| (topic.weight * topic.invalid.weight, 0.0)).collect();
        // The cost on each topic is convex in its count, so taking the cheapest next step each time is optimal.
        let mut cost = 0.0;
        for _ in 0..count {
            let step = |(weight, have): &(f64, f64)| -weight * (2.0 * have + 1.0);
            if let Some(cheapest) = topics.iter_mut().min_by(|a, b| step(a).total_cmp(&step(b))) {
                cost += step(cheapest);
                cheapest.1 += 1.0;
            }
        }
        cost
    }

    fn validate_relations(&self) -> Result<(), ScoreConfigError> {
        let all_topics = || self.topics.iter().chain(core::iter::once(&self.other_topics));
        if all_topics().any(|topic| topic.weight * topic.invalid.weight != 0.0) {
            let positive = self.positive_max + self.application.weight * self.application.magnitude_max;
            let remaining = positive - self.rejections_cost_min(REJECTIONS_TO_GRAYLIST);
            let graylist = self.thresholds.graylist;
            if remaining >= graylist {
                return Err(ScoreConfigError::RejectionsTooCheap { positive, remaining, graylist });
            }
        }
        let positive = self.positive_max;
        let penalty = -self.colocation.weight;
        if penalty != 0.0 && penalty <= positive {
            return Err(ScoreConfigError::ColocationTooCheap { penalty, positive });
        }
        Ok(())
    }
}

impl Thresholds {
    /// # Errors
    /// When a threshold is not finite, has the wrong sign or is out of order.
    pub fn validate(&self) -> Result<(), ScoreConfigError> {
        non_positive("thresholds.gossip", self.gossip)?;
        non_positive("thresholds.publish", self.publish)?;
        non_positive("thresholds.graylist", self.graylist)?;
        non_negative("thresholds.accept_peer_exchange", self.accept_peer_exchange)?;
        non_negative("thresholds.opportunistic_graft", self.opportunistic_graft)?;
        let Self { gossip, publish, graylist, .. } = *self;
        if publish > gossip || graylist > publish {
            return Err(ScoreConfigError::ThresholdOrder { gossip, publish, graylist });
        }
        in_range("thresholds.graylist", graylist, graylist < 0.0, "negative")
    }
}

impl TopicScoreConfig {
    /// # Errors
    /// When a parameter is out of its range, or relation 2 of the module does not hold. `path` names the topic in the error.
    pub fn validate(&self, path: &str) -> Result<(), ScoreConfigError> {
        let at = |name: &str| format!("{path}.{name}");
        non_negative(&at("weight"), self.weight)?;
        non_negative(&at("positive_max"), self.positive_max)?;
        self.time_in_mesh.validate(&at)?;
        self.first_deliveries.validate(&at)?;
        non_positive(&at("mesh_failure.weight"), self.mesh_failure.weight)?;
        if self.mesh_failure.weight != 0.0 {
            fraction(&at("mesh_failure.decay"), self.mesh_failure.decay)?;
        }
        non_positive(&at("mesh_deliveries.weight"), self.mesh_deliveries.weight)?;
        if self.mesh_deliveries.weight != 0.0 || self.mesh_failure.weight != 0.0 {
            self.mesh_deliveries.validate(&at)?;
        }
        non_positive(&at("invalid.weight"), self.invalid.weight)?;
        if self.invalid.weight != 0.0 {
            fraction(&at("invalid.decay"), self.invalid.decay)?;
        }
        let deliveries = &self.mesh_deliveries;
        let deficit = -self.weight * deliveries.weight * deliveries.threshold * deliveries.threshold;
        if self.weight * deliveries.weight != 0.0 && deficit <= self.positive_max {
            let (topic, positive) = (path.to_owned(), self.positive_max);
            return Err(ScoreConfigError::DeficitTooCheap { topic, deficit, positive });
        }
        Ok(())
    }
}

impl TimeInMeshConfig {
    fn validate(&self, at: &impl Fn(&str) -> String) -> Result<(), ScoreConfigError> {
        non_negative(&at("time_in_mesh.weight"), self.weight)?;
        at_least(&at("time_in_mesh.quantum"), self.quantum, Duration::from_micros(1))?;
        non_negative(&at("time_in_mesh.quanta_max"), self.quanta_max)
    }
}

impl FirstDeliveriesConfig {
    fn validate(&self, at: &impl Fn(&str) -> String) -> Result<(), ScoreConfigError> {
        non_negative(&at("first_deliveries.weight"), self.weight)?;
        fraction(&at("first_deliveries.decay"), self.decay)?;
        non_negative(&at("first_deliveries.deliveries_max"), self.deliveries_max)
    }
}

impl MeshDeliveriesConfig {
    fn validate(&self, at: &impl Fn(&str) -> String) -> Result<(), ScoreConfigError> {
        fraction(&at("mesh_deliveries.decay"), self.decay)?;
        finite(&at("mesh_deliveries.threshold"), self.threshold)?;
        in_range(&at("mesh_deliveries.threshold"), self.threshold, self.threshold > 0.0, "positive")?;
        finite(&at("mesh_deliveries.deliveries_max"), self.deliveries_max)?;
        in_range(
            &at("mesh_deliveries.deliveries_max"),
            self.deliveries_max,
            self.deliveries_max >= self.threshold,
            "at least mesh_deliveries.threshold",
        )?;
        at_least(&at("mesh_deliveries.activation"), self.activation, Duration::from_secs(1))?;
        if let Some(value) = self.traffic_fraction {
            fraction(&at("mesh_deliveries.traffic_fraction"), value)?;
        }
        Ok(())
    }
}

fn finite(parameter: &str, value: f64) -> Result<(), ScoreConfigError> {
    if value.is_finite() {
        return Ok(());
    }
    Err(ScoreConfigError::NotFinite { parameter: parameter.to_owned(), value })
}

fn in_range(parameter: &str, value: f64, holds: bool, range: &'static str) -> Result<(), ScoreConfigError> {
    if holds {
        return Ok(());
    }
    Err(ScoreConfigError::OutOfRange { parameter: parameter.to_owned(), value, range })
}

fn non_negative(parameter: &str, value: f64) -> Result<(), ScoreConfigError> {
    finite(parameter, value)?;
    in_range(parameter, value, value >= 0.0, "zero or positive")
}

fn non_positive(parameter: &str, value: f64) -> Result<(), ScoreConfigError> {
    finite(parameter, value)?;
    in_range(parameter, value, value <= 0.0, "zero or negative")
}

fn fraction(parameter: &str, value: f64) -> Result<(), ScoreConfigError> {
    finite(parameter, value)?;
    in_range(parameter, value, value > 0.0 && value < 1.0, "above 0 and below 1")
}

fn at_least(parameter: &str, value: Duration, least: Duration) -> Result<(), ScoreConfigError> {
    if value >= least {
        return Ok(());
    }
    Err(ScoreConfigError::TooShort { parameter: parameter.to_owned(), value, least })
}
