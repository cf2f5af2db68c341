//! The parameters of peer scoring and their defaults, each with its source.
//!
//! [`ScoreConfig`] is plain data. [`ScoreConfig::validate`] turns it once into a [`super::ValidScoreConfig`], which cannot be
//! wrong. A weight of zero turns a parameter off.

use super::colocation::IpNetwork;
use super::numeric::decay_factor;
use crate::time::Duration;

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
    /// When given, nothing is demanded before the topic carried `threshold / traffic_fraction` messages (decayed like the
    /// deliveries) while the peer was in the mesh: an idle topic demands nothing, and nobody is judged on little evidence.
    /// `None` is the specification's fixed threshold, which prunes honest peers as soon as traffic falls.
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

impl ScoreConfig {
    /// The parameters of the topic with this index.
    #[must_use]
    pub fn topic(&self, index: usize) -> &TopicScoreConfig {
        self.topics.get(index).unwrap_or(&self.other_topics)
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
    /// A peer that delivered nothing, first or within the window, while the topic carried 45 messages is out; at one
    /// message a second that takes a minute. *Rationale:* whoever delivers a third of the messages, as on a link that
    /// carries each message in one direction or both, is silent for 45 of them with probability 10^-8. All numbers are guesses
    /// on that ground, except the window, which is Lighthouse's.
    #[must_use]
    pub fn relative_to_traffic() -> Self {
        Self {
            weight: -100.0,
            decay: decay_factor(Duration::from_secs(600), DECAY_INTERVAL),
            deliveries_max: 2.0,
            threshold: 1.0,
            window: Duration::from_secs(2),
            activation: Duration::from_secs(30),
            traffic_fraction: Some(1.0 / 45.0),
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
