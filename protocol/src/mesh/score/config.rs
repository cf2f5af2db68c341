//! The parameters of peer scoring, their defaults with sources, and the rules that they must obey.
//!
//! A [`ScoreConfig`] is plain data. [`ScoreConfig::validate`] turns it once into a [`ValidScoreConfig`], which cannot be
//! wrong: signs, ranges and finiteness as the gossipsub v1.1 specification demands ("Peer Scoring", "Score Parameters"), and
//! three relations between parameters that the specification leaves to luck:
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

use super::colocation::IpNetwork;
use super::numeric::decay_factor;
use crate::time::Duration;
use thiserror::Error;

/// Everything that decides what a peer's score is.
#[derive(Clone, Debug, PartialEq)]
pub struct ScoreConfig {
    /// Parameters by topic index.
    pub topics: Vec<TopicScoreConfig>,
    /// Parameters of topics beyond the end of `topics`.
    pub other_topics: TopicScoreConfig,
    /// Cap on the sum of the topics' positive parts, in points. Penalties stay outside.
    pub positive_max: f64,
    /// The application's opinion (P5).
    pub application: ApplicationConfig,
    /// Peers that share an address (P6).
    pub colocation: ColocationConfig,
    /// Breaches of the protocol (P7).
    pub behaviour: BehaviourConfig,
    /// How often counters decay.
    pub decay_interval: Duration,
    /// A counter that decays below this becomes zero; within (0, 1).
    pub decay_to_zero: f64,
    /// What is remembered of peers that left.
    pub retention: RetentionConfig,
    /// Which score means what.
    pub thresholds: Thresholds,
}

/// Parameters of one topic.
#[derive(Clone, Debug, PartialEq)]
pub struct TopicScoreConfig {
    /// Multiplies P1 to P4.
    pub weight: f64,
    /// Cap on the topic's positive part (P1 and P2), in points after `weight`.
    pub positive_max: f64,
    /// P1: time in the mesh.
    pub time_in_mesh: TimeInMeshConfig,
    /// P2: first deliveries.
    pub first_deliveries: FirstDeliveriesConfig,
    /// P3: deficit of deliveries while in the mesh.
    pub mesh_deliveries: MeshDeliveriesConfig,
    /// P3b: deficit on leaving the mesh.
    pub mesh_failure: PenaltyConfig,
    /// P4: invalid messages.
    pub invalid: PenaltyConfig,
}

/// P1: grows with the time spent in the mesh, up to a maximum.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TimeInMeshConfig {
    /// Points per quantum; zero or positive.
    pub weight: f64,
    /// The unit of time.
    pub quantum: Duration,
    /// Most quanta that count.
    pub quanta_max: f64,
}

/// P2: grows with each message that the peer delivers first.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FirstDeliveriesConfig {
    /// Points per delivery; zero or positive.
    pub weight: f64,
    /// Factor on the counter per decay interval, within (0, 1).
    pub decay: f64,
    /// Most deliveries that the counter holds.
    pub deliveries_max: f64,
}

/// P3: the square of what is missing to a threshold of deliveries while in the mesh.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MeshDeliveriesConfig {
    /// Points per squared missing delivery; zero or negative.
    pub weight: f64,
    /// Factor on the counters per decay interval, within (0, 1).
    pub decay: f64,
    /// Most deliveries that the counter holds; at least `threshold`.
    pub deliveries_max: f64,
    /// Deliveries (decayed) below which there is a deficit.
    pub threshold: f64,
    /// How long after our own validation a further copy still counts as a delivery.
    pub window: Duration,
    /// Time in the mesh before a deficit counts.
    pub activation: Duration,
    /// When given, no more than this fraction of what the topic really carried while the peer was in the mesh is demanded, so
    /// that an idle topic demands nothing. `None` is the specification's fixed threshold, which prunes honest peers as
    /// soon as traffic falls.
    pub traffic_fraction: Option<f64>,
}

/// A penalty counter with its weight (P3b, P4).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PenaltyConfig {
    /// Points per unit; zero or negative.
    pub weight: f64,
    /// Factor on the counter per decay interval, within (0, 1).
    pub decay: f64,
}

/// P5: set by the application or the operator.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ApplicationConfig {
    /// Points per unit; zero or positive.
    pub weight: f64,
    /// Greatest magnitude; larger values are clamped. It bounds what an opinion can make up for.
    pub magnitude_max: f64,
}

/// P6: the square of the surplus of peers on one address (IPv6: one /64).
#[derive(Clone, Debug, PartialEq)]
pub struct ColocationConfig {
    /// Points per squared surplus; zero or negative.
    pub weight: f64,
    /// Peers per address that cost nothing; at least one.
    pub threshold: u32,
    /// Networks that are exempt.
    pub allowed: Vec<IpNetwork>,
}

/// P7: the square of the surplus of breaches of the protocol.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BehaviourConfig {
    /// Points per squared surplus; zero or negative.
    pub weight: f64,
    /// Breaches (decayed) that cost nothing.
    pub threshold: f64,
    /// Factor on the counter per decay interval, within (0, 1).
    pub decay: f64,
}

/// What is remembered of peers that left with a score that is not positive.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RetentionConfig {
    /// For how long.
    pub duration: Duration,
    /// Of how many peers; beyond, the least bad is forgotten first.
    pub entries_max: usize,
}

/// Scores below or above which a peer is treated differently (gossipsub v1.1, "Score Thresholds").
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Thresholds {
    /// Below: no gossip to or from the peer. Zero or negative.
    pub gossip: f64,
    /// Below: nothing of our own is published to it. At most `gossip`.
    pub publish: f64,
    /// Below: everything it sends is ignored. At most `publish`, and negative.
    pub graylist: f64,
    /// At or above: its peer exchange is believed. Zero or positive.
    pub accept_peer_exchange: f64,
    /// A mesh whose median score is below is improved by opportunistic grafting. Zero or positive.
    pub opportunistic_graft: f64,
}

impl Default for ScoreConfig {
    fn default() -> Self {
        Self {
            topics: vec![TopicScoreConfig::transactions(), TopicScoreConfig::blocks()],
            other_topics: TopicScoreConfig::transactions(),
            // Both topics' caps together; relation 1 sets the limit.
            positive_max: 100.0,
            // Lotus has weight 1. The magnitude is a guess: as much as can be earned.
            application: ApplicationConfig { weight: 1.0, magnitude_max: 100.0 },
            colocation: ColocationConfig {
                // Lotus has -100 and Lighthouse -53.75; relation 3 demands more than `positive_max`.
                weight: -150.0,
                // Lotus has 5.
                threshold: 5,
                // Only processes of this host can have such an address, and local testnets put many there.
                allowed: vec![IpNetwork::LOOPBACK_V4, IpNetwork::LOOPBACK_V6],
            },
            behaviour: BehaviourConfig {
                // Lotus has -10 and a threshold of 6; Lighthouse about -15.9 and 6.
                weight: -10.0,
                threshold: 6.0,
                // A guess: a peer that breaks a promise every 22 s for ever stays unpunished, as congestion does that to
                // honest ones. Lotus and Lighthouse take about an hour.
                decay: decay_factor(Duration::from_secs(600), DECAY_INTERVAL),
            },
            decay_interval: DECAY_INTERVAL,
            // go-libp2p-pubsub's DefaultDecayToZero.
            decay_to_zero: 0.01,
            // Lotus remembers for 6 h. The number is a guess: some 2 MB.
            retention: RetentionConfig { duration: Duration::from_secs(6 * 3_600), entries_max: 8_192 },
            thresholds: Thresholds::default(),
        }
    }
}

/// go-libp2p-pubsub's DefaultDecayInterval.
const DECAY_INTERVAL: Duration = Duration::from_secs(1);

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            // The three are Lotus'.
            gossip: -500.0,
            publish: -1_000.0,
            graylist: -2_500.0,
            // The rust implementation's. Lotus has 1000, which only its bootstrappers reach.
            accept_peer_exchange: 10.0,
            // Lighthouse's; Lotus has 3.5.
            opportunistic_graft: 5.0,
        }
    }
}

impl TopicScoreConfig {
    /// A topic of many small messages from everywhere.
    #[must_use]
    pub fn transactions() -> Self {
        Self {
            // One, so that points are points; Lotus has 0.1 and larger weights below.
            weight: 1.0,
            // What the best first deliverers earn.
            positive_max: 50.0,
            time_in_mesh: TimeInMeshConfig::HOUR,
            first_deliveries: FirstDeliveriesConfig {
                // Weight and maximum are Lotus'.
                weight: 0.5,
                // Lotus has 10 min. Shorter, because score that lasts can be banked and then spent.
                decay: decay_factor(Duration::from_secs(120), DECAY_INTERVAL),
                deliveries_max: 100.0,
            },
            mesh_deliveries: MeshDeliveriesConfig::OFF,
            mesh_failure: PenaltyConfig::OFF,
            invalid: PenaltyConfig::invalid(),
        }
    }

    /// A topic of one message a slot, which everybody relays.
    #[must_use]
    pub fn blocks() -> Self {
        Self {
            first_deliveries: FirstDeliveriesConfig {
                // Lotus' weight. Maximum and decay are guesses: ten first deliveries within twenty minutes are full
                // marks for one of eight mesh peers at slots of 12 s.
                weight: 5.0,
                decay: decay_factor(Duration::from_secs(1_200), DECAY_INTERVAL),
                deliveries_max: 10.0,
            },
            ..Self::transactions()
        }
    }
}

impl Default for TopicScoreConfig {
    fn default() -> Self {
        Self::transactions()
    }
}

impl TimeInMeshConfig {
    /// No P1.
    pub const OFF: Self = Self { weight: 0.0, quantum: Duration::from_secs(1), quanta_max: 0.0 };
    /// One point after one hour, as in Lotus: enough to order strangers, too little to live on.
    pub const HOUR: Self = Self { weight: 1.0 / 3_600.0, quantum: Duration::from_secs(1), quanta_max: 3_600.0 };
}

impl FirstDeliveriesConfig {
    /// No P2.
    pub const OFF: Self = Self { weight: 0.0, decay: 0.5, deliveries_max: 0.0 };
}

impl MeshDeliveriesConfig {
    /// No P3, which is the default, as in Lotus.
    ///
    /// *Rationale:* whoever is further from the producers than we are has nothing to deliver to us, and IDONTWANT tells
    /// it not to try, so in a sparse or quiet network the deficit prunes honest peers, some of which depend on us.
    pub const OFF: Self = Self {
        weight: 0.0,
        decay: 0.5,
        deliveries_max: 0.0,
        threshold: 0.0,
        window: Duration::ZERO,
        activation: Duration::from_secs(1),
        traffic_fraction: None,
    };

    /// A P3 for dense networks of many publishers, against peers that stay in the mesh and deliver nothing.
    ///
    /// It demands one delivery in fifty of what the topic carried, and four at most, so an idle topic demands nothing
    /// and a peer that was silent while two hundred messages passed loses `16 x 25` points. All numbers are guesses except
    /// the window, which is Lighthouse's.
    #[must_use]
    pub fn relative_to_traffic() -> Self {
        Self {
            weight: -25.0,
            decay: decay_factor(Duration::from_secs(1_200), DECAY_INTERVAL),
            deliveries_max: 16.0,
            threshold: 4.0,
            window: Duration::from_secs(2),
            activation: Duration::from_secs(30),
            traffic_fraction: Some(0.02),
        }
    }
}

impl PenaltyConfig {
    /// No penalty.
    pub const OFF: Self = Self { weight: 0.0, decay: 0.5 };

    /// P4 as in Lotus, but with a topic weight of one: the first invalid message ends gossip, the third graylists.
    #[must_use]
    pub fn invalid() -> Self {
        Self { weight: -1_000.0, decay: decay_factor(Duration::from_secs(3_600), DECAY_INTERVAL) }
    }
}

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
pub struct ValidScoreConfig(pub(super) ScoreConfig);

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
        Self(ScoreConfig::default())
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
        Ok(ValidScoreConfig(self))
    }

    /// The most points that a peer can earn on all topics together.
    #[must_use]
    pub fn earned_max(&self) -> f64 {
        self.positive_max
    }

    /// The parameters of the topic with this index.
    #[must_use]
    pub fn topic(&self, index: usize) -> &TopicScoreConfig {
        self.topics.get(index).unwrap_or(&self.other_topics)
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
            let positive = self.earned_max() + self.application.weight * self.application.magnitude_max;
            let remaining = positive - self.rejections_cost_min(REJECTIONS_TO_GRAYLIST);
            let graylist = self.thresholds.graylist;
            if remaining >= graylist {
                return Err(ScoreConfigError::RejectionsTooCheap { positive, remaining, graylist });
            }
        }
        let positive = self.earned_max();
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
