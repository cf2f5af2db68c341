//! What can be configured about the mesh, nested by concern.
//!
//! [`MeshConfig`] is plain data; each `Default` says where its numbers come from, or that they are a guess.
//! [`MeshConfig::validate`] turns it, once, into a [`ValidMeshConfig`], which cannot be wrong: the engine takes no other.
//! Sources named below: *spec* is libp2p/specs `pubsub/gossipsub` (v1.0 "Parameters", v1.1, v1.2); *go* is
//! go-libp2p-pubsub v0.16; *Lighthouse* is sigp/lighthouse.

use super::backoff::BackoffConfig;
use super::cache::{CacheConfig, CacheConfigError};
use super::promises::{PromiseConfig, PromiseConfigError};
use super::pulse::PulseConfig;
use super::score::gater::{GaterConfig, GaterConfigError};
use super::score::{ScoreConfig, ScoreConfigError, ValidScoreConfig};
use super::seen::{SeenConfig, SeenConfigError};
use super::topic::{TOPICS_MAX, TopicTable};
use super::trial::TrialConfig;
use crate::id::{PeerId, Topic};
use crate::time::{Duration, micros};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Everything that can be configured about the mesh.
#[derive(Clone, Debug)]
pub struct MeshConfig {
    /// The topics that the engine knows, joined or not; at most [`TOPICS_MAX`].
    pub topics: Vec<TopicConfig>,
    /// How many links of each kind.
    pub degree: DegreeConfig,
    /// When upkeep happens.
    pub heartbeat: HeartbeatConfig,
    /// Announcing and pulling.
    pub gossip: GossipConfig,
    /// Whom to ask for what is announced, and when that is a broken promise.
    pub promise: PromiseConfig,
    /// Which links of the mesh are tried, and how.
    pub trial: TrialConfig,
    /// How long a peer may be silent before it is taken to be gone.
    pub pulse: PulseConfig,
    /// Publishing and forwarding.
    pub relay: RelayConfig,
    /// How long a PRUNE of ours keeps both sides apart.
    pub prune: PruneConfig,
    /// Bounds and margins of the backoffs remembered.
    pub backoff: BackoffConfig,
    /// Offering and accepting other peers in PRUNE.
    pub exchange: ExchangeConfig,
    /// Recent messages, kept for announcing and serving.
    pub cache: CacheConfig,
    /// The seen-cache.
    pub seen: SeenConfig,
    /// Peer scoring.
    pub score: ScoreConfig,
    /// Whose messages are turned away while validation is overloaded.
    pub gater: GaterConfig,
    /// Peers to whom every message of their topics is forwarded outside the mesh and without regard to scores (spec v1.1,
    /// "Explicit Peering Agreements"). Both sides have to configure each other.
    pub direct_peers: BTreeSet<PeerId>,
}

impl MeshConfig {
    /// The defaults, with these topics.
    #[must_use]
    pub fn with_topics(topics: Vec<TopicConfig>) -> Self {
        Self {
            topics,
            degree: DegreeConfig::default(),
            heartbeat: HeartbeatConfig::default(),
            gossip: GossipConfig::default(),
            promise: PromiseConfig::default(),
            trial: TrialConfig::default(),
            pulse: PulseConfig::default(),
            relay: RelayConfig::default(),
            prune: PruneConfig::default(),
            backoff: BackoffConfig::default(),
            exchange: ExchangeConfig::default(),
            cache: CacheConfig::default(),
            seen: SeenConfig::default(),
            score: ScoreConfig::default(),
            gater: GaterConfig::default(),
            direct_peers: BTreeSet::new(),
        }
    }
}

/// A topic that the engine knows.
#[derive(Clone, Debug)]
pub struct TopicConfig {
    /// Its name.
    pub topic: Topic,
    /// Whether its messages are forwarded in [`crate::rpc::Class::Priority`], ahead of other topics' messages.
    pub priority: bool,
}

/// Degrees of the mesh of each topic.
#[derive(Clone, Copy, Debug)]
pub struct DegreeConfig {
    /// D: the degree that maintenance aims at.
    pub target: usize,
    /// D_low: below it, peers are grafted.
    pub low: usize,
    /// D_high: above it, peers are pruned.
    pub high: usize,
    /// D_score: how many of the best-scored peers are kept when pruning.
    pub score: usize,
    /// D_out: how many links that we dialled are kept, whatever happens.
    pub outbound: usize,
    /// D_lazy: at least so many peers outside the mesh are gossiped to.
    pub lazy: usize,
    /// How many mesh links are sought among the peers of lowest round-trip time; the others are random.
    pub near: usize,
    /// Above D_low, a peer that dialled us is not taken in while so many links of the mesh are newcomers: who has not brought anything yet.
    pub newcomers: usize,
}

impl Default for DegreeConfig {
    /// D, D_low, D_out and D_lazy are the spec's 6, 5, 2 and 6, and D_score is its 4. D_high is 8 rather than the spec's 12,
    /// because every link above D costs a copy of each message and the spec's own networks settle well above D. Half of
    /// the links are chosen near: a guess, from a propagation model in which six near and six random links of many
    /// halve the excess of latency over its lower bound. One newcomer at a time is less than a fifth of a mesh.
    fn default() -> Self {
        Self { target: 6, low: 5, high: 8, score: 4, outbound: 2, lazy: 6, near: 3, newcomers: 1 }
    }
}

/// When upkeep happens.
#[derive(Clone, Copy, Debug)]
pub struct HeartbeatConfig {
    /// Between heartbeats; 700 ms to 1 s.
    pub interval: Duration,
    /// From the start to the first heartbeat. The second follows at a random phase.
    pub first_delay: Duration,
    /// Heartbeats between opportunistic grafts.
    pub opportunistic_ticks: u64,
    /// Peers added by one opportunistic graft.
    pub opportunistic_peers: usize,
    /// Heartbeats between attempts to exchange a far mesh link for a nearer one; zero turns it off.
    pub nearer_ticks: u64,
}

impl Default for HeartbeatConfig {
    /// 700 ms as Lighthouse; the first after 100 ms, every 60 and 2 peers as spec v1.1 and go; seeking nearer links every
    /// 8 heartbeats is a guess: a mesh settles within a minute, and one exchange at a time disturbs nobody.
    fn default() -> Self {
        Self {
            interval: Duration::from_millis(700),
            first_delay: Duration::from_millis(100),
            opportunistic_ticks: 60,
            opportunistic_peers: 2,
            nearer_ticks: 8,
        }
    }
}

/// Announcing and pulling.
#[derive(Clone, Copy, Debug)]
pub struct GossipConfig {
    /// The share of the peers outside the mesh that are gossiped to, in percent and rounded up, when that is more than D_lazy. A message reaches
    /// the turn of each of them if this, times [`super::cache::CacheConfig::gossip_windows`], is a hundred at least.
    pub factor_percent: usize,
    /// IHAVE announcements of one peer that are looked at, per heartbeat.
    pub ihave_messages_max: u32,
    /// Ids asked of one peer, and ids announced to one peer, per heartbeat.
    pub ihave_ids_max: u32,
    /// How often one message is served to one peer.
    pub retransmissions_max: u32,
    /// Ids in the IWANTs of one peer that are looked at, per heartbeat.
    pub iwant_ids_max: u32,
    /// Bytes served to one peer, per heartbeat. A message that begins within the budget is served whole.
    pub iwant_bytes_max: usize,
}

impl Default for GossipConfig {
    /// A third, rounded up, covers everybody with three windows; the spec's 25 % does not. 10 announcements, 5000 ids and 3 retransmissions are the spec's and go's; 5000 ids and 4 MiB of service a
    /// heartbeat are guesses.
    fn default() -> Self {
        Self {
            factor_percent: 34,
            ihave_messages_max: 10,
            ihave_ids_max: 5_000,
            retransmissions_max: 3,
            iwant_ids_max: 5_000,
            iwant_bytes_max: 4 << 20,
        }
    }
}

/// Publishing and forwarding.
#[derive(Clone, Copy, Debug)]
pub struct RelayConfig {
    /// Whether our own small messages go to further peers of the topic besides the mesh.
    pub flood_publish: bool,
    /// Own messages of more bytes of data than this go to the mesh only, even when flood publish is on.
    pub flood_publish_bytes_max: usize,
    /// To how many peers outside of the mesh an own message goes at most.
    pub flood_publish_peers_max: usize,
    /// Messages of at least so many bytes of data cause an IDONTWANT.
    pub idontwant_bytes_min: usize,
    /// IDONTWANT ids of one peer that are honoured, per heartbeat.
    pub idontwant_ids_max: u32,
    /// Heartbeats for which an IDONTWANT is honoured.
    pub idontwant_ticks: u64,
    /// Validations under way at a time; the newest message above it is shed.
    pub pending_max: usize,
    /// Validations under way at a time of messages from one peer.
    pub pending_per_peer_max: u32,
    /// After so long without a verdict a message counts as ignored.
    pub validation_timeout: Duration,
    /// How long fanout peers are kept after the last publication.
    pub fanout_ttl: Duration,
    /// Heartbeats in a row in which a peer's send queue overflowed before it leaves our meshes.
    pub slow_ticks_max: u16,
}

impl Default for RelayConfig {
    /// Flood publish is on as in the spec, but for small messages only, because Lighthouse measured that it delays large ones, and to 16
    /// further peers rather than to all: these bring nearly all of the gain in latency, and more of them send the message to each
    /// other at the same time. The limit of 8 KiB is a guess: 16 copies fill a line of 10 Mbit/s for a tenth of a second. IDONTWANT from 1024 bytes on as go, 1000 ids a heartbeat for 3 heartbeats as go.
    /// Fanout lives 60 s (spec). Pending limits, the timeout and the patience with slow peers are guesses.
    fn default() -> Self {
        Self {
            flood_publish: true,
            flood_publish_bytes_max: 8 << 10,
            flood_publish_peers_max: 16,
            idontwant_bytes_min: 1_024,
            idontwant_ids_max: 1_000,
            idontwant_ticks: 3,
            pending_max: 4_096,
            pending_per_peer_max: 1_024,
            validation_timeout: Duration::from_secs(5),
            fanout_ttl: Duration::from_secs(60),
            slow_ticks_max: 3,
        }
    }
}

/// How long a PRUNE of ours keeps both sides apart.
#[derive(Clone, Copy, Debug)]
pub struct PruneConfig {
    /// The backoff in an ordinary PRUNE, and after a PRUNE that names none.
    pub backoff: Duration,
    /// The backoff when we leave the topic.
    pub unsubscribe_backoff: Duration,
    /// The backoff when a GRAFT is refused merely because the mesh is full.
    pub no_room_backoff: Duration,
    /// The backoff when one link more than D goes to make room for a nearer one.
    pub surplus_backoff: Duration,
    /// The longest backoff of a peer that brings nothing. It begins with `backoff` and is doubled each time.
    pub silent_backoff_max: Duration,
}

impl Default for PruneConfig {
    /// One minute and ten seconds, from spec v1.1. The third was chosen after a few runs on a busy host, by turns with other
    /// work: with 10 s, two of eight networks of 16 nodes were ready only after 13 to 14 s, because a node that everybody
    /// refused while everybody grafted at once waited out its backoffs; with 2 s, one of fourteen took 6.5 s and the others
    /// less than 4 s. Two seconds are three heartbeats, enough to try other peers first. The fourth is a guess: long enough
    /// that the link does not come back at once, short enough for a peer that has nobody else to graft. So is the fifth: as long as an
    /// honest peer that could not show its use may have to do with announcements.
    fn default() -> Self {
        Self {
            backoff: Duration::from_secs(60),
            unsubscribe_backoff: Duration::from_secs(10),
            no_room_backoff: Duration::from_secs(2),
            surplus_backoff: Duration::from_secs(10),
            silent_backoff_max: Duration::from_secs(960),
        }
    }
}

/// Peer exchange (spec v1.1, "Prune Backoff and Peer Exchange").
#[derive(Clone, Copy, Debug)]
pub struct ExchangeConfig {
    /// Whether a PRUNE of ours offers other peers.
    pub offer: bool,
    /// How many peers are offered, and how many of an offer are taken up.
    pub peers_max: usize,
    /// Signed records above this size are neither kept nor offered.
    pub record_bytes_max: usize,
    /// Signed records of one PRUNE in bytes.
    pub offer_bytes_max: usize,
}

impl Default for ExchangeConfig {
    /// 16 peers as spec and go; js decodes no more. A record of a few addresses takes some 300 bytes, and rust refuses
    /// control above 16 KiB in one RPC, so that 1 KiB each and 6 KiB together leave room.
    fn default() -> Self {
        Self { offer: true, peers_max: 16, record_bytes_max: 1 << 10, offer_bytes_max: 6 << 10 }
    }
}

/// Why a mesh configuration cannot be used.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum MeshConfigError {
    /// A relation between values does not hold.
    #[error("{what}, but here {found}; choose values that keep this relation")]
    Relation {
        /// The relation, as a sentence.
        what: &'static str,
        /// The values found.
        found: String,
    },
    /// A topic is configured twice.
    #[error("topic {topic:?} is configured twice; name each topic once")]
    TopicTwice {
        /// Which.
        topic: Topic,
    },
    /// The score configuration is wrong.
    #[error(transparent)]
    Score(#[from] ScoreConfigError),
    /// The gater's configuration is wrong.
    #[error(transparent)]
    Gater(#[from] GaterConfigError),
    /// The seen-cache's configuration is wrong.
    #[error(transparent)]
    Seen(#[from] SeenConfigError),
    /// The configuration of requests and promises is wrong.
    #[error(transparent)]
    Promise(#[from] PromiseConfigError),
    /// The message cache's configuration is wrong.
    #[error(transparent)]
    Cache(#[from] CacheConfigError),
}

/// A configuration whose relations hold. Cloning copies pointers.
#[derive(Clone, Debug)]
pub struct ValidMeshConfig {
    config: Arc<MeshConfig>,
    score: ValidScoreConfig,
    names: TopicTable,
}

impl core::ops::Deref for ValidMeshConfig {
    type Target = MeshConfig;

    fn deref(&self) -> &MeshConfig {
        &self.config
    }
}

impl ValidMeshConfig {
    /// The score configuration, as valid as the rest.
    #[must_use]
    pub fn score(&self) -> &ValidScoreConfig {
        &self.score
    }

    /// The topics by their names.
    pub(super) fn names(&self) -> &TopicTable {
        &self.names
    }

    /// For how many heartbeats a message is likely to be heard of again: as long as a copy can count as a mesh delivery, on whichever
    /// topic that is longest, and as long as it is announced or refused.
    pub(super) fn recent_ticks(&self) -> u64 {
        let windows = (0..self.topics.len()).map(|topic| self.score.get().topic(topic).mesh_deliveries.window);
        // What was held back from a peer is not to be forgotten while it is.
        let window_us = windows.max().map_or(0, micros).max(micros(self.trial.time_max));
        let ticks = window_us.div_ceil(micros(self.heartbeat.interval).max(1));
        // One more, because the first heartbeat comes at any time after the message.
        ticks.max(self.cache.gossip_windows as u64).max(self.relay.idontwant_ticks).saturating_add(1)
    }
}

impl MeshConfig {
    /// Checks every relation between the values, once.
    ///
    /// # Errors
    /// The first relation that does not hold, with the values found.
    pub fn validate(self) -> Result<ValidMeshConfig, MeshConfigError> {
        self.check_topics()?;
        self.check_degrees()?;
        self.check_timing()?;
        self.check_bounds()?;
        self.seen.validate()?;
        self.cache.validate()?;
        self.promise.validate()?;
        self.gater.validate()?;
        let score = self.score.clone().validate()?;
        let names = TopicTable::new(self.topics.iter().map(|config| config.topic.clone()).collect());
        Ok(ValidMeshConfig { config: Arc::new(self), score, names })
    }

    fn check_topics(&self) -> Result<(), MeshConfigError> {
        hold((1..=TOPICS_MAX).contains(&self.topics.len()), "between 1 and 32 topics are configured", || {
            format!("there are {}", self.topics.len())
        })?;
        let mut names = BTreeSet::new();
        match self.topics.iter().find(|config| !names.insert(&config.topic)) {
            Some(config) => Err(MeshConfigError::TopicTwice { topic: config.topic.clone() }),
            None => Ok(()),
        }
    }

    fn check_degrees(&self) -> Result<(), MeshConfigError> {
        let degree = &self.degree;
        let show = || format!("{degree:?}");
        hold(degree.low >= 1, "D_low is at least 1", show)?;
        hold(degree.low <= degree.target && degree.target <= degree.high, "D_low <= D <= D_high holds", show)?;
        hold(degree.high <= 128, "D_high is at most 128", show)?;
        hold(degree.score <= degree.target, "D_score is at most D", show)?;
        // Spec v1.1: D_out < D_low and D_out <= D / 2. Only a degree of one or two leaves no room for that.
        hold(
            degree.outbound < degree.low && degree.outbound <= degree.target / 2,
            "D_out is below D_low and at most half of D",
            show,
        )?;
        hold(degree.near <= degree.target, "the number of near links is at most D", show)?;
        hold(degree.newcomers >= 1, "at least one newcomer to a mesh is allowed", show)
    }

    fn check_timing(&self) -> Result<(), MeshConfigError> {
        let heartbeat = &self.heartbeat;
        let show = || format!("{heartbeat:?}");
        hold(
            heartbeat.interval >= Duration::from_millis(10) && heartbeat.interval <= Duration::from_secs(600),
            "the heartbeat interval is between 10 ms and 10 min",
            show,
        )?;
        hold(heartbeat.opportunistic_ticks >= 1, "opportunistic grafts are at least one heartbeat apart", show)?;
        let gossip = &self.gossip;
        let show = || format!("{gossip:?}");
        hold(gossip.factor_percent <= 100, "the gossip factor is at most 100 percent", show)?;
        let relay = &self.relay;
        // The seen-cache would otherwise forget a message that is still being validated.
        hold(
            !relay.validation_timeout.is_zero() && relay.validation_timeout < self.seen.refused_age_max,
            "the validation timeout is positive and shorter than the seen-cache's refused_age_max",
            || format!("{relay:?} and {:?}", self.seen),
        )
    }

    fn check_bounds(&self) -> Result<(), MeshConfigError> {
        let relay = &self.relay;
        hold(
            relay.pending_max >= 1 && relay.pending_per_peer_max >= 1,
            "at least one validation may be pending",
            || format!("{relay:?}"),
        )?;
        hold(
            relay.pending_max <= self.seen.pending_entries_max,
            "the seen-cache has room for every pending validation",
            || format!("{relay:?} and {:?}", self.seen),
        )
    }
}

fn hold(holds: bool, what: &'static str, found: impl FnOnce() -> String) -> Result<(), MeshConfigError> {
    if holds { Ok(()) } else { Err(MeshConfigError::Relation { what, found: found() }) }
}
