//! Peer scoring of gossipsub v1.1 ("Peer Scoring"), hardened.
//!
//! A score is a sum of points:
//!
//! ```text
//! min(positive_max, sum over topics of min(topic.positive_max, topic.weight * (P1 + P2)))
//!   + sum over topics of topic.weight * (P3 + P3b + P4)
//!   + P5 + P6 + P7
//! ```
//!
//! where each P carries its own weight: P1 = time in the mesh, P2 = first deliveries, P3 = squared deficit of mesh
//! deliveries, P3b = squared deficits at the times the peer left the mesh, P4 = squared invalid messages, P5 = the
//! application's opinion, P6 = squared surplus of peers on the address, P7 = squared surplus of breaches of the protocol.
//!
//! # Rules, where they differ from the specification
//!
//! - **Positive parts are capped by topic before they are summed; penalties are outside every cap.** *Rationale:* with one
//!   cap over the sum of both, a peer can withhold a topic for ever and stay positive (CVE-2022-47547, arXiv 2212.05197). For the
//!   same reason the mesh gates membership on [`Scores::topic_score`] besides the total.
//! - **Three rejected messages graylist, whatever was banked**, as [`ScoreConfig::validate`] enforces.
//! - **Ranking ignores P1** and what was earned on other topics ([`Scores::rank`]). *Rationale:* time is cheap; a sleeper
//!   must not keep its place for having waited.
//! - **A deficit can depend on traffic** ([`MeshDeliveriesConfig::traffic_fraction`]), so that an idle network prunes nobody.
//! - **Deficits and broken promises are suspended while our own heartbeat is late or many peers turn bad at once** ([`Scores::suspend_deficits`]).
//!   *Rationale:* a starved node would blame its peers for its own lateness (the self-health idea of Lifeguard, arXiv
//!   1707.00788).
//! - **Colocation counts connected peers only**, IPv6 by /64.
//!
//! The caller must not report as a delivery a message that it had sent to that peer before: it would be our own message
//! mirrored back.
//!
//! # Limits and cost
//!
//! State is dense: one slot per connected peer, one block of counters per slot and topic. A score costs O(topics) and one
//! look-up of the address; a decay pass touches each counter once however much time has passed. Retained records and
//! address counts are bounded (see [`RetentionConfig`]). A stale [`PeerHandle`] changes nothing and scores zero.

mod breakdown;
mod colocation;
mod config;
mod counters;
pub mod gater;
mod numeric;
mod retained;
#[cfg(test)]
mod tests;
mod validate;
mod value;

pub use breakdown::{ScoreBreakdown, TopicBreakdown};
pub use colocation::IpNetwork;
pub use config::{
    ApplicationConfig, BehaviourConfig, ColocationConfig, FirstDeliveriesConfig, MeshDeliveriesConfig, PenaltyConfig,
    RetentionConfig, ScoreConfig, Thresholds, TimeInMeshConfig, TopicScoreConfig,
};
pub use numeric::decay_factor;
pub use validate::{DECAY_INTERVAL_MIN, REJECTIONS_TO_GRAYLIST, ScoreConfigError, ValidScoreConfig};

use super::slots::SlotSet;
use super::topic::TopicIndex;
use crate::id::{PeerHandle, PeerId};
use crate::memory::Fetch;
use crate::time::{Duration, Time, micros};
use colocation::{AddressGroup, Colocation};
use counters::{COUNTER_MAX, Factors, TopicStats, decayed};
use numeric::power;
use retained::{Record, Retained, TopicPenalties};
use std::net::IpAddr;
use std::sync::Arc;

/// Scores of all connected peers, and what is retained of others.
#[derive(Debug)]
pub struct Scores {
    /// Shared with whoever else has the same parameters.
    config: Arc<ScoreConfig>,
    /// Messages that each topic carried, one count for every topic there is, decayed like the mesh deliveries they are compared with.
    traffic: Vec<f64>,
    slots: Vec<Option<Peer>>,
    /// Slots of peers no part of whose score is negative, as far as that is known: what nearly every question is about.
    clean: SlotSet,
    /// Slots of connected peers of which some part of the score but P6 may be negative, and of all who have breached the protocol: the only
    /// ones that time can make clean.
    spotted: SlotSet,
    /// Counters, one for every topic of each slot.
    stats: Vec<TopicStats>,
    colocation: Colocation,
    retained: Retained,
    /// The latest moment that we were told of.
    now: Time,
    decayed_until: Time,
    suspended_until: Time,
}

/// What is known of a connected peer apart from topics.
#[derive(Clone, Debug)]
struct Peer {
    generation: u32,
    id: PeerId,
    /// The address and its number; none when it is exempt from P6.
    address: Option<(AddressGroup, u32)>,
    application: f64,
    behaviour: f64,
}

impl Scores {
    /// Scoring without peers, for topics with indices below `topics`.
    #[must_use]
    pub fn new(config: ValidScoreConfig, topics: usize) -> Self {
        let ValidScoreConfig(config) = config;
        Self {
            traffic: vec![0.0; topics],
            slots: Vec::new(),
            clean: SlotSet::default(),
            spotted: SlotSet::default(),
            stats: Vec::new(),
            colocation: Colocation::default(),
            retained: Retained::new(config.retention),
            now: Time::ZERO,
            decayed_until: Time::ZERO,
            suspended_until: Time::ZERO,
            config,
        }
    }

    /// The thresholds that scores are to be compared with.
    #[must_use]
    pub fn thresholds(&self) -> &Thresholds {
        &self.config.thresholds
    }

    /// The score; zero for a handle that is not in force.
    #[must_use]
    pub fn score(&self, peer: PeerHandle) -> f64 {
        self.live(peer).map_or(0.0, |known| self.total(peer.index(), known))
    }

    /// Whether the score is below the limit. For a limit that is not positive and a peer without penalties, which nearly all are, this
    /// takes a few steps, whatever the number of topics.
    #[must_use]
    #[inline]
    pub fn is_below(&self, peer: PeerHandle, limit: f64) -> bool {
        // Neither a peer without penalties nor one that is not connected is below zero.
        let cannot_be = limit <= 0.0 && self.clean.contains(peer.slot);
        !cannot_be && self.score(peer) < limit
    }

    /// Whether neither the score nor that on the topic alone is negative; true for a handle that is not in force.
    #[must_use]
    pub fn has_merit(&self, peer: PeerHandle, topic: TopicIndex) -> bool {
        if self.clean.contains(peer.slot) {
            return true;
        }
        let Some(known) = self.live(peer) else { return true };
        self.total(peer.index(), known) >= 0.0 && self.topic_score(peer, topic) >= 0.0
    }

    /// The score on one topic alone: its capped positive part and its penalties. Mesh membership demands that it is not
    /// negative; zero for a handle that is not in force.
    #[must_use]
    pub fn topic_score(&self, peer: PeerHandle, topic: TopicIndex) -> f64 {
        if self.live(peer).is_none() {
            return 0.0;
        }
        let parts = self.parts(peer.index(), topic.index());
        parts.positive() + parts.negative()
    }

    /// The value by which to rank peers for a place in the mesh of the topic: what was delivered first on this topic, and
    /// every penalty. Neither time in the mesh nor what was earned elsewhere counts.
    #[must_use]
    pub fn rank(&self, peer: PeerHandle, topic: TopicIndex) -> f64 {
        let Some(known) = self.live(peer) else { return 0.0 };
        let slot = peer.index();
        let here = self.parts(slot, topic.index());
        let penalties: f64 = (0..self.traffic.len()).map(|index| self.parts(slot, index).negative()).sum();
        here.first_deliveries.min(here.positive_max)
            + penalties
            + self.application_part(known)
            + self.colocation_part(known)
            + self.behaviour_part(known)
    }

    /// The score with all its parts; None for a handle that is not in force.
    #[must_use]
    pub fn breakdown(&self, peer: PeerHandle) -> Option<ScoreBreakdown> {
        let known = self.live(peer)?;
        let slot = peer.index();
        let topics = (0..self.traffic.len())
            .map(|index| TopicBreakdown::new(index, &self.parts(slot, index), self.stats(slot, index)))
            .collect();
        Some(ScoreBreakdown {
            total: self.total(slot, known),
            topics,
            application: self.application_part(known),
            colocation: self.colocation_part(known),
            behaviour: self.behaviour_part(known),
        })
    }

    /// A peer connected. If it left with penalties not long ago, it has them again.
    pub fn connected(&mut self, now: Time, peer: PeerHandle, id: PeerId, ip: IpAddr) {
        self.advance(now);
        self.vacate(peer.index());
        if self.slots.len() <= peer.index() {
            self.slots.resize(peer.index() + 1, None);
            self.stats.resize(self.slots.len() * self.traffic.len(), TopicStats::default());
        }
        let exempt = self.config.colocation.allowed.iter().any(|network| network.contains(ip));
        let group = (!exempt).then(|| AddressGroup::of(ip));
        let address = group.map(|group| (group, self.colocation.insert(group)));
        let mut known = Peer { generation: peer.generation, id, address, application: 0.0, behaviour: 0.0 };
        if let Some(record) = self.retained.take(now, &id) {
            self.spotted.insert(peer.slot);
            known.application = record.application;
            known.behaviour = record.behaviour;
            for (index, penalties) in record.topics.iter().enumerate() {
                let stats = self.stats_mut(peer.index(), index);
                stats.mesh_failure = penalties.mesh_failure;
                stats.invalid = penalties.invalid;
            }
        }
        self.slots[peer.index()] = Some(known);
        self.find_all_clean();
    }

    /// A peer is gone. Unless its score is positive, its penalties are retained, together with what it owes to the
    /// meshes that it was in (P3b).
    pub fn disconnected(&mut self, now: Time, peer: PeerHandle) {
        self.advance(now);
        let Some(known) = self.live(peer).cloned() else { return };
        let slot = peer.index();
        if self.total(slot, &known) <= 0.0 {
            for index in 0..self.traffic.len() {
                self.leave_mesh(slot, index);
                self.stats_mut(slot, index).first_deliveries = 0.0;
            }
            let record = Record {
                topics: (0..self.traffic.len())
                    .map(|index| self.stats(slot, index))
                    .map(|stats| TopicPenalties { mesh_failure: stats.mesh_failure, invalid: stats.invalid })
                    .collect(),
                behaviour: known.behaviour,
                application: known.application.min(0.0),
                score: self.total(slot, &known).min(0.0),
            };
            if record.is_a_penalty() {
                self.retained.insert(now, known.id, record);
            }
        }
        self.vacate(slot);
    }

    /// The peer joined our mesh of the topic.
    pub fn grafted(&mut self, now: Time, peer: PeerHandle, topic: TopicIndex) {
        self.advance(now);
        let traffic = self.traffic[topic.index()];
        if let Some(stats) = self.live_stats(peer, topic) {
            stats.grafted_at = Some(now);
            stats.mesh_time_us = 0;
            stats.deficit_active = false;
            stats.traffic_at_graft = traffic;
        }
        if self.config.topic(topic.index()).mesh_deliveries.weight < 0.0 {
            self.spot(peer);
        }
    }

    /// The peer left our mesh of the topic; a deficit at that moment sticks (P3b).
    pub fn pruned(&mut self, now: Time, peer: PeerHandle, topic: TopicIndex) {
        self.advance(now);
        if self.live(peer).is_some() {
            self.leave_mesh(peer.index(), topic.index());
            self.spot(peer);
        }
    }

    /// A message that the peer sent first was accepted.
    pub fn first_delivery(&mut self, now: Time, peer: PeerHandle, topic: TopicIndex) {
        self.advance(now);
        if !self.deficits_suspended(now) {
            self.traffic[topic.index()] += 1.0;
        }
        let config = self.config.topic(topic.index());
        let most = config.first_deliveries.deliveries_max;
        if let Some(stats) = self.live_stats(peer, topic) {
            stats.first_deliveries = (stats.first_deliveries + 1.0).min(most);
        }
        self.count_mesh_delivery(peer, topic);
    }

    /// The peer sent a further copy of an accepted message. `validated_at` is when our own validation ended, None when the
    /// copy arrived before that. A copy within the window counts as a mesh delivery.
    pub fn duplicate_delivery(&mut self, now: Time, peer: PeerHandle, topic: TopicIndex, validated_at: Option<Time>) {
        self.advance(now);
        let window = self.config.topic(topic.index()).mesh_deliveries.window;
        if validated_at.is_none_or(|validated_at| now.since(validated_at) <= window) {
            self.count_mesh_delivery(peer, topic);
        }
    }

    /// The peer sent a message that was rejected.
    pub fn invalid_message(&mut self, peer: PeerHandle, topic: TopicIndex) {
        if let Some(stats) = self.live_stats(peer, topic) {
            stats.invalid = (stats.invalid + 1.0).min(COUNTER_MAX);
        }
        self.spot(peer);
    }

    /// The peer breached the protocol `count` times.
    pub fn penalize(&mut self, peer: PeerHandle, count: u32) {
        if let Some(known) = self.live_mut(peer) {
            known.behaviour = (known.behaviour + f64::from(count)).min(COUNTER_MAX);
        }
        self.spot(peer);
    }

    /// The peer broke `count` promises to deliver; a breach unless deficits are suspended.
    pub fn broken_promises(&mut self, now: Time, peer: PeerHandle, count: u32) {
        self.advance(now);
        if !self.deficits_suspended(now) {
            self.penalize(peer, count);
        }
    }

    /// Sets the application's opinion of the peer, clamped to the configured magnitude; what is not a number counts as zero.
    pub fn set_application_score(&mut self, peer: PeerHandle, value: f64) {
        let most = self.config.application.magnitude_max;
        if let Some(known) = self.live_mut(peer) {
            known.application = if value.is_nan() { 0.0 } else { value.clamp(-most, most) };
        }
        self.spot(peer);
    }

    /// Until then no deficit counts, no broken promise is charged and mesh deliveries neither decay nor fall due, because
    /// the fault is likely ours. An earlier moment than one given before changes nothing.
    pub fn suspend_deficits(&mut self, until: Time) {
        self.suspended_until = self.suspended_until.max(until);
    }

    /// Whether deficits are suspended.
    #[must_use]
    pub fn deficits_suspended(&self, now: Time) -> bool {
        now < self.suspended_until
    }

    /// Applies the decay of every interval that has passed since the last call, and forgets expired records. To be called
    /// about once per decay interval; calling more often does nothing.
    pub fn decay(&mut self, now: Time) {
        self.advance(now);
        self.retained.expire(now);
        let interval_us = micros(self.config.decay_interval).max(1);
        let steps = micros(now.since(self.decayed_until)) / interval_us;
        if steps == 0 {
            return;
        }
        self.decayed_until = self.decayed_until + Duration::from_micros(steps.saturating_mul(interval_us));
        let suspended = self.deficits_suspended(now);
        let topics = self.traffic.len();
        let floor = self.config.decay_to_zero;
        for index in 0..self.traffic.len() {
            let config = self.config.topic(index);
            let factors = Factors::of(config, steps, suspended);
            self.traffic[index] *= factors.mesh_deliveries;
            for stats in self.stats.iter_mut().skip(index).step_by(topics) {
                stats.decay(now, config, &factors, floor);
            }
        }
        let factor = power(self.config.behaviour.decay, steps);
        let spotted = self.spotted.clone();
        for slot in spotted.iter() {
            if let Some(known) = &mut self.slots[slot as usize] {
                known.behaviour = decayed(known.behaviour, factor, floor);
            }
        }
        self.find_spotless(spotted.iter());
    }

    /// Changes the parameters of a topic; counters above a lower maximum come down to it.
    ///
    /// # Errors
    /// When the new parameters, or with them the configuration as a whole, break a rule; then nothing has changed.
    ///
    /// # Panics
    /// When there is no such topic.
    pub fn set_topic_config(&mut self, topic: TopicIndex, config: TopicScoreConfig) -> Result<(), ScoreConfigError> {
        assert!(topic.index() < self.traffic.len(), "there is no {topic:?}");
        let configured = self.traffic.len().max(self.config.topics.len());
        let mut topics: Vec<TopicScoreConfig> = (0..configured).map(|index| self.config.topic(index).clone()).collect();
        let first_max = config.first_deliveries.deliveries_max;
        let mesh_max = config.mesh_deliveries.deliveries_max;
        topics[topic.index()] = config;
        let ValidScoreConfig(valid) = ScoreConfig { topics, ..ScoreConfig::clone(&self.config) }.validate()?;
        self.config = valid;
        let count = self.traffic.len();
        for stats in self.stats.iter_mut().skip(topic.index()).step_by(count) {
            stats.first_deliveries = stats.first_deliveries.min(first_max);
            stats.mesh_deliveries = stats.mesh_deliveries.min(mesh_max);
        }
        let connected = self.slots.iter().zip(0..).filter(|(known, _)| known.is_some());
        let connected: Vec<u32> = connected.map(|(_, slot)| slot).collect();
        self.find_spotless(connected.into_iter());
        Ok(())
    }

    /// How many peers that left are remembered.
    #[must_use]
    pub fn retained_len(&self) -> usize {
        self.retained.len()
    }

    /// Recomputes and asserts every invariant.
    ///
    /// # Panics
    /// When one does not hold.
    pub fn check(&self) {
        assert_eq!(self.stats.len(), self.slots.len() * self.traffic.len(), "one block of counters per slot");
        self.colocation.check(self.slots.iter().flatten().filter_map(|known| known.address));
        for (slot, known) in self.slots.iter().enumerate() {
            let spotless = known.as_ref().is_some_and(|known| self.is_spotless(slot, known));
            let spotted = u32::try_from(slot).is_ok_and(|slot| self.spotted.contains(slot));
            assert!(spotless || spotted == known.is_some(), "a peer with a penalty passes for one without");
            assert!(known.is_some() || !spotted, "nothing is held against nobody");
        }
        let clean =
            |slot: u32| self.slots[slot as usize].as_ref().is_some_and(|known| self.has_no_penalty(slot, known));
        let slots = self.slots.iter().zip(0..).map(|(_, slot)| slot);
        assert!(slots.filter(|slot| clean(*slot)).eq(self.clean.iter()), "the set of clean peers has drifted");
        self.retained.check();
        assert!(self.decayed_until <= self.now, "decay does not run ahead of time");
        assert!(self.traffic.iter().all(|count| count.is_finite() && *count >= 0.0), "traffic is a count");
        for (slot, known) in self.slots.iter().enumerate() {
            if let Some(known) = known {
                assert!((0.0..=COUNTER_MAX).contains(&known.behaviour), "breaches are a bounded count");
                assert!(known.application.abs() <= self.config.application.magnitude_max, "P5 is clamped");
                assert!(self.total(slot, known).is_finite(), "a score is a number");
            }
            for index in 0..self.traffic.len() {
                let config = self.config.topic(index);
                let stats = self.stats(slot, index);
                stats.check(config);
                assert!(known.is_some() || *stats == TopicStats::default(), "nothing is left behind in a free slot");
            }
        }
    }

    /// Has fetched what nearly every question looks at; see [`Fetch`].
    pub(crate) fn fetch(&self, fetch: &mut impl Fetch) {
        fetch.value(&self.clean);
        fetch.value(&self.stats);
        fetch.value(&self.now);
    }

    /// Has fetched what decays; see [`Fetch`].
    pub(crate) fn fetch_all(&self, fetch: &mut impl Fetch) {
        (0..self.stats.len()).for_each(|place| fetch.item(&self.stats, place));
    }

    /// Has fetched what a delivery of the peer changes; see [`Fetch`].
    pub(crate) fn fetch_peer(&self, peer: PeerHandle, fetch: &mut impl Fetch) {
        fetch.item(&self.slots, peer.index());
        let first = peer.index() * self.traffic.len();
        fetch.item(&self.stats, first);
        fetch.item(&self.stats, first + 1);
    }

    /// Bytes that are allocated, estimated.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.slots.capacity() * size_of::<Option<Peer>>()
            + self.stats.capacity() * size_of::<TopicStats>()
            + self.colocation.memory_bytes()
            + self.retained.memory_bytes()
    }

    /// Whether no part of the peer's score is negative, as far as that is known.
    fn has_no_penalty(&self, slot: u32, known: &Peer) -> bool {
        let colocated = known.address.map_or(0, |(_, number)| self.colocation.count(number));
        !self.spotted.contains(slot) && colocated <= self.config.colocation.threshold
    }

    /// Whether the peer has not breached the protocol, and every part of its score but P6 is not negative and cannot become so unless
    /// [`Self::spot`] is called.
    fn is_spotless(&self, slot: usize, known: &Peer) -> bool {
        let mut clean = (0..self.traffic.len()).map(|index| {
            let config = self.config.topic(index);
            let stats = self.stats(slot, index);
            // A deficit depends on the traffic, so it can come at any time once it may.
            let owes = config.mesh_deliveries.weight < 0.0 && (stats.deficit_active || stats.grafted_at.is_some());
            stats.mesh_failure <= 0.0 && stats.invalid <= 0.0 && !owes
        });
        known.application >= 0.0 && known.behaviour <= 0.0 && clean.all(|clean| clean)
    }

    /// Finds out anew which of these peers, who are connected, are spotted, and whether they are clean.
    fn find_spotless(&mut self, slots: impl Iterator<Item = u32>) {
        for slot in slots {
            let Some(known) = &self.slots[slot as usize] else { continue };
            if self.is_spotless(slot as usize, known) {
                self.spotted.remove(slot);
            } else {
                self.spotted.insert(slot);
            }
            self.find_clean(slot);
        }
    }

    /// Finds out anew who is clean, after the peers of some address have become more or fewer.
    fn find_all_clean(&mut self) {
        for slot in (0..).take(self.slots.len()) {
            self.find_clean(slot);
        }
    }

    fn find_clean(&mut self, slot: u32) {
        if self.slots[slot as usize].as_ref().is_some_and(|known| self.has_no_penalty(slot, known)) {
            self.clean.insert(slot);
        } else {
            self.clean.remove(slot);
        }
    }

    /// Something of the peer may have become negative.
    fn spot(&mut self, peer: PeerHandle) {
        if self.live(peer).is_some() {
            self.spotted.insert(peer.slot);
            self.clean.remove(peer.slot);
        }
    }

    fn count_mesh_delivery(&mut self, peer: PeerHandle, topic: TopicIndex) {
        let most = self.config.topic(topic.index()).mesh_deliveries.deliveries_max;
        if let Some(stats) = self.live_stats(peer, topic)
            && stats.grafted_at.is_some()
        {
            stats.mesh_deliveries = (stats.mesh_deliveries + 1.0).min(most);
        }
    }

    fn leave_mesh(&mut self, slot: usize, topic: usize) {
        let deficit = self.deficit(slot, topic);
        let stats = self.stats_mut(slot, topic);
        stats.mesh_failure = (stats.mesh_failure + deficit * deficit).min(COUNTER_MAX);
        stats.grafted_at = None;
        stats.mesh_time_us = 0;
        stats.deficit_active = false;
        stats.traffic_at_graft = 0.0;
    }

    fn advance(&mut self, now: Time) {
        self.now = self.now.max(now);
    }

    fn vacate(&mut self, slot: usize) {
        let Some(known) = self.slots.get_mut(slot).and_then(Option::take) else { return };
        if let Some((group, _)) = known.address {
            self.colocation.remove(group);
        }
        let topics = self.traffic.len();
        self.stats[slot * topics..(slot + 1) * topics].fill(TopicStats::default());
        self.spotted.remove(u32::try_from(slot).expect("slots are numbered in 32 bits"));
        self.find_all_clean();
    }

    fn live(&self, peer: PeerHandle) -> Option<&Peer> {
        self.slots.get(peer.index())?.as_ref().filter(|known| known.generation == peer.generation)
    }

    fn live_mut(&mut self, peer: PeerHandle) -> Option<&mut Peer> {
        self.slots.get_mut(peer.index())?.as_mut().filter(|known| known.generation == peer.generation)
    }

    fn live_stats(&mut self, peer: PeerHandle, topic: TopicIndex) -> Option<&mut TopicStats> {
        self.live(peer)?;
        Some(self.stats_mut(peer.index(), topic.index()))
    }

    fn stats(&self, slot: usize, topic: usize) -> &TopicStats {
        &self.stats[slot * self.traffic.len() + topic]
    }

    fn stats_mut(&mut self, slot: usize, topic: usize) -> &mut TopicStats {
        let index = slot * self.traffic.len() + topic;
        &mut self.stats[index]
    }
}
