//! The peer gater: whose messages to turn away while our own validation is overloaded.
//!
//! Scoring punishes what a peer did; the gater shares out what we can do. It is a random early drop, as in
//! go-libp2p-pubsub's peer gater. gossipsub's control is never turned away.
//!
//! # Rules
//!
//! - **Nothing is turned away while we keep up.** The gate closes only when messages were shed within the last `quiet` time, and
//!   more than a `threshold` of those that we began to validate.
//! - **When it is closed, a message passes with the probability `(1 + accepted) / (1 + total)`** of its sender's address, where the
//!   total weighs accepted, further copies, ignored and rejected messages. *Rationale:* an address that brings what we accept
//!   keeps its share; one that brings what we reject loses it first; a new one is believed once.
//! - **What is neither valid nor blameworthy is taken on account**, whether or not we keep up: a message that goes into validation takes one from
//!   the allowance of its sender's address, an accepted one gives two back, one that we shed gives its own back, and what was ignored is paid for
//!   as time passes. While nothing is left, no message of the address goes into validation. *Rationale:* a transaction that
//!   conflicts with one that we have cannot be held against whoever passes it on, because to that one it was the first. So it is free to send by
//!   the thousand. An honest peer brings more that is accepted than that is ignored, or little of either; and nothing is lost when it is turned
//!   away, because the message is not remembered and the next copy is looked at again.
//! - Statistics belong to the address (IPv6: the /64) and are kept for `retention` after its last peer has gone.
//!   *Rationale:* new identities are free, addresses are not.
//!
//! # Limits and cost
//!
//! One entry for each connected peer and each of their addresses, and at most `sources_max` addresses in all; beyond, the
//! abandoned address that expires first is forgotten. Counting takes constant time, coming and going is logarithmic, and
//! [`Gater::decay`] is linear in the addresses.

use super::colocation::AddressGroup;
use super::numeric::{decay_factor, power};
use crate::id::PeerHandle;
use crate::memory::{Fetch, tree_bytes};
use crate::random::Stream;
use crate::time::{Duration, Time, micros};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use thiserror::Error;

/// When the gate closes, and how senders are weighed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GaterConfig {
    /// Share of validations that had to be shed above which the gate closes; within (0, 1).
    pub threshold: f64,
    /// For how long after the last shed message the gate may be closed.
    pub quiet: Duration,
    /// Factor on our own counts per decay interval, within (0, 1).
    pub own_decay: f64,
    /// Factor on an address's counts per decay interval, within (0, 1).
    pub source_decay: f64,
    /// How often counts decay.
    pub decay_interval: Duration,
    /// What a further copy of a known message weighs.
    pub duplicate_weight: f64,
    /// What an ignored message weighs.
    pub ignored_weight: f64,
    /// What a rejected message weighs.
    pub rejected_weight: f64,
    /// How many messages of an address that are ignored in the end may be validated in a row.
    pub allowance: u32,
    /// How many of them are forgotten per decay interval.
    pub allowance_refill: u32,
    /// For how long an address is remembered after its last peer has gone.
    pub retention: Duration,
    /// Addresses at most.
    pub sources_max: usize,
}

impl Default for GaterConfig {
    /// All numbers are go-libp2p-pubsub's defaults, but for the bound on addresses and the allowance, which are guesses: 64 conflicting messages
    /// a second cost a few thousandths of a core, and a thousand at once are what two halves of a network have for each other that
    /// were apart for some seconds.
    fn default() -> Self {
        let decay_interval = Duration::from_secs(1);
        Self {
            threshold: 0.33,
            quiet: Duration::from_secs(60),
            own_decay: decay_factor(Duration::from_secs(120), decay_interval),
            source_decay: decay_factor(Duration::from_secs(3_600), decay_interval),
            decay_interval,
            duplicate_weight: 0.125,
            ignored_weight: 1.0,
            rejected_weight: 16.0,
            allowance: 1_024,
            allowance_refill: 64,
            retention: Duration::from_secs(6 * 3_600),
            sources_max: 4_096,
        }
    }
}

/// Why a [`GaterConfig`] is refused.
#[derive(Clone, Copy, Debug, PartialEq, Error)]
pub enum GaterConfigError {
    /// Not a fraction.
    #[error("gater parameter {parameter} is {value}, but it must be above 0 and below 1")]
    NotAFraction {
        /// Which.
        parameter: &'static str,
        /// As given.
        value: f64,
    },
    /// Not a weight.
    #[error("gater parameter {parameter} is {value}, but it must be a finite number that is not negative")]
    NotAWeight {
        /// Which.
        parameter: &'static str,
        /// As given.
        value: f64,
    },
    /// A time or bound is zero.
    #[error("gater parameter {0} is zero, but it must be positive")]
    Zero(&'static str),
}

impl GaterConfig {
    /// # Errors
    /// When a parameter is outside its range.
    pub fn validate(&self) -> Result<(), GaterConfigError> {
        let fractions =
            [("threshold", self.threshold), ("own_decay", self.own_decay), ("source_decay", self.source_decay)];
        for (parameter, value) in fractions {
            if !(value > 0.0 && value < 1.0) {
                return Err(GaterConfigError::NotAFraction { parameter, value });
            }
        }
        let weights = [
            ("duplicate_weight", self.duplicate_weight),
            ("ignored_weight", self.ignored_weight),
            ("rejected_weight", self.rejected_weight),
        ];
        for (parameter, value) in weights {
            if !(value >= 0.0 && value.is_finite()) {
                return Err(GaterConfigError::NotAWeight { parameter, value });
            }
        }
        let positive = [
            ("quiet", !self.quiet.is_zero()),
            ("decay_interval", !self.decay_interval.is_zero()),
            ("retention", !self.retention.is_zero()),
            ("allowance", self.allowance > 0),
            ("allowance_refill", self.allowance_refill > 0),
            ("sources_max", self.sources_max > 0),
        ];
        match positive.iter().find(|(_, holds)| !holds) {
            Some((parameter, _)) => Err(GaterConfigError::Zero(parameter)),
            None => Ok(()),
        }
    }
}

/// What became of a message that an address brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was valid and new.
    Accepted,
    /// It was a further copy of a known message.
    Duplicate,
    /// It was dropped without blame.
    Ignored,
    /// It was invalid.
    Rejected,
}

/// The gate.
#[derive(Debug)]
pub struct Gater {
    config: GaterConfig,
    /// Messages that we began to validate, decayed.
    validated: f64,
    /// Messages that we shed, decayed.
    shed: f64,
    shed_at: Option<Time>,
    /// Where each address stands in `sources`.
    index: BTreeMap<AddressGroup, usize>,
    /// None where the place is free.
    sources: Vec<Option<Source>>,
    free: Vec<usize>,
    /// Who sits in each slot, and the place of their address.
    peers: Vec<Option<(u32, usize)>>,
    /// Addresses without peers, by the time at which they are forgotten.
    abandoned: BTreeSet<(Time, AddressGroup)>,
    decayed_until: Time,
}

/// What is known of an address.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Source {
    address: AddressGroup,
    connected: u32,
    /// When it is forgotten, once its last peer has gone.
    expires: Option<Time>,
    accepted: f64,
    duplicate: f64,
    ignored: f64,
    rejected: f64,
    /// What is used of the allowance; at most that.
    spent: u32,
}

impl Gater {
    /// An open gate.
    #[must_use]
    pub fn new(config: GaterConfig) -> Self {
        Self {
            config,
            validated: 0.0,
            shed: 0.0,
            shed_at: None,
            index: BTreeMap::new(),
            sources: Vec::new(),
            free: Vec::new(),
            peers: Vec::new(),
            abandoned: BTreeSet::new(),
            decayed_until: Time::ZERO,
        }
    }

    /// Whether a message from the peer may go into validation now. Draws from the stream only when the gate is closed.
    pub fn admits(&self, now: Time, peer: PeerHandle, random: &mut Stream) -> bool {
        if !self.is_closed(now) {
            return true;
        }
        let Some(source) = self.place_of(peer).and_then(|place| self.sources[place].as_ref()) else { return true };
        let config = &self.config;
        let total = source.accepted
            + config.duplicate_weight * source.duplicate
            + config.ignored_weight * source.ignored
            + config.rejected_weight * source.rejected;
        let share = (1.0 + source.accepted) / (1.0 + total);
        let drawn = f64::from(u32::try_from(random.below(1 << 32)).unwrap_or(u32::MAX)) / 4_294_967_296.0;
        drawn < share
    }

    /// Takes a message of the peer on account; false if nothing is left, and then the message is not to be validated.
    pub fn charge(&mut self, peer: PeerHandle) -> bool {
        let allowance = self.config.allowance;
        let Some(source) = self.source_of(peer).filter(|source| source.spent < allowance) else {
            return self.place_of(peer).is_none();
        };
        source.spent += 1;
        true
    }

    /// A message that was [charged](Self::charge) for was not looked at for a reason of ours.
    pub fn refund(&mut self, peer: PeerHandle) {
        if let Some(source) = self.source_of(peer) {
            source.spent = source.spent.saturating_sub(1);
        }
    }

    /// Whether overload is such that senders are weighed.
    #[must_use]
    pub fn is_closed(&self, now: Time) -> bool {
        let recent = self.shed_at.is_some_and(|at| now.since(at) <= self.config.quiet);
        recent && self.shed > 0.0 && self.shed >= self.config.threshold * self.validated
    }

    /// A peer connected from this address.
    pub fn connected(&mut self, peer: PeerHandle, ip: IpAddr) {
        if self.place_of(peer).is_some() {
            return;
        }
        let address = AddressGroup::of(ip);
        let place = self.place_for(address);
        if self.peers.len() <= peer.index() {
            self.peers.resize(peer.index() + 1, None);
        }
        self.peers[peer.index()] = Some((peer.generation, place));
        if let Some(source) = &mut self.sources[place] {
            source.connected += 1;
            if let Some(expires) = source.expires.take() {
                self.abandoned.remove(&(expires, address));
            }
        }
        self.enforce_bound();
    }

    /// A peer is gone.
    pub fn disconnected(&mut self, now: Time, peer: PeerHandle) {
        let Some(place) = self.place_of(peer) else { return };
        self.peers[peer.index()] = None;
        let Some(source) = &mut self.sources[place] else { return };
        source.connected -= 1;
        if source.connected == 0 {
            let expires = now + self.config.retention;
            source.expires = Some(expires);
            self.abandoned.insert((expires, source.address));
            self.enforce_bound();
        }
    }

    /// We began to validate a message.
    pub fn validating(&mut self) {
        self.validated += 1.0;
    }

    /// A message was shed because we do not keep up.
    pub fn shed(&mut self, now: Time) {
        self.shed += 1.0;
        self.shed_at = Some(now);
    }

    /// The peer brought so many copies of messages that were known; as so many [`Outcome::Duplicate`].
    pub fn duplicates(&mut self, peer: PeerHandle, count: u32) {
        if let Some(source) = self.source_of(peer) {
            source.duplicate += f64::from(count);
        }
    }

    /// What became of a message that the peer brought.
    pub fn outcome(&mut self, peer: PeerHandle, outcome: Outcome) {
        let Some(source) = self.source_of(peer) else { return };
        let count = match outcome {
            Outcome::Accepted => {
                source.spent = source.spent.saturating_sub(2);
                &mut source.accepted
            }
            Outcome::Duplicate => &mut source.duplicate,
            Outcome::Ignored => &mut source.ignored,
            Outcome::Rejected => &mut source.rejected,
        };
        *count += 1.0;
    }

    /// Applies the decay of every interval that has passed, and forgets addresses that were abandoned long ago.
    pub fn decay(&mut self, now: Time) {
        while let Some((_, address)) = self.abandoned.first().copied().filter(|(expires, _)| *expires <= now) {
            self.forget(address);
        }
        let interval_us = micros(self.config.decay_interval).max(1);
        let steps = micros(now.since(self.decayed_until)) / interval_us;
        if steps == 0 {
            return;
        }
        self.decayed_until = self.decayed_until + Duration::from_micros(steps.saturating_mul(interval_us));
        let shrink = |count: &mut f64, factor: f64| {
            *count *= factor;
            if *count < DECAY_TO_ZERO {
                *count = 0.0;
            }
        };
        let own = power(self.config.own_decay, steps);
        shrink(&mut self.validated, own);
        shrink(&mut self.shed, own);
        let factor = power(self.config.source_decay, steps);
        let refill = u32::try_from(steps.saturating_mul(u64::from(self.config.allowance_refill))).unwrap_or(u32::MAX);
        for source in self.sources.iter_mut().flatten() {
            source.spent = source.spent.saturating_sub(refill);
            let Source { accepted, duplicate, ignored, rejected, .. } = source;
            [accepted, duplicate, ignored, rejected].into_iter().for_each(|count| shrink(count, factor));
        }
    }

    /// Has fetched what is known of the peer's address; see [`Fetch`].
    pub(crate) fn fetch(&self, peer: PeerHandle, fetch: &mut impl Fetch) {
        if let Some(place) = self.place_of(peer) {
            fetch.item(&self.sources, place);
            fetch.item(&self.sources, place + 1);
        }
    }

    /// As [`Self::fetch`], for all addresses.
    pub(crate) fn fetch_all(&self, fetch: &mut impl Fetch) {
        (0..self.sources.len()).for_each(|place| fetch.item(&self.sources, place));
    }

    /// Bytes that are allocated, estimated.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.sources.capacity() * size_of::<Option<Source>>()
            + self.peers.capacity() * size_of::<Option<(u32, usize)>>()
            + self.free.capacity() * size_of::<usize>()
            + tree_bytes::<(AddressGroup, usize)>(self.index.len())
            + tree_bytes::<(Time, AddressGroup)>(self.abandoned.len())
    }

    /// How many addresses are remembered.
    #[must_use]
    pub fn sources_len(&self) -> usize {
        self.index.len()
    }

    /// Recomputes and asserts every invariant.
    ///
    /// # Panics
    /// When one does not hold.
    pub fn check(&self) {
        let mut connected = vec![0; self.sources.len()];
        self.peers.iter().flatten().for_each(|(_, place)| connected[*place] += 1);
        assert_eq!(self.index.len() + self.free.len(), self.sources.len(), "every place is in use or free");
        for (address, place) in &self.index {
            let source = self.sources[*place].as_ref().expect("a place in use holds an address");
            assert_eq!(source.address, *address, "an address is in its place");
            assert_eq!(source.connected, connected[*place], "peers by address equal a recount");
            assert_eq!(source.expires.is_some(), source.connected == 0, "abandoned addresses, and no others, expire");
            let listed = source.expires.is_none_or(|expires| self.abandoned.contains(&(expires, *address)));
            assert!(listed, "every abandoned address is listed");
            let counts = [source.accepted, source.duplicate, source.ignored, source.rejected];
            assert!(source.spent <= self.config.allowance, "nobody takes more than the allowance");
            assert!(counts.iter().all(|count| count.is_finite() && *count >= 0.0), "counts are counts");
        }
        let in_use = |(place, count): (usize, &u32)| *count == 0 || self.sources[place].is_some();
        assert!(connected.iter().enumerate().all(in_use), "every connected peer's address is known");
        let expiring = self.sources.iter().flatten().filter(|source| source.expires.is_some()).count();
        assert_eq!(expiring, self.abandoned.len(), "one listing for each abandoned address");
        let bound = self.config.sources_max.max(self.peers.iter().flatten().count());
        assert!(self.index.len() <= bound, "addresses stay bounded");
    }

    /// Forgets abandoned addresses until the bound holds. Those of connected peers stay: connections are bounded elsewhere.
    fn enforce_bound(&mut self) {
        while self.index.len() > self.config.sources_max {
            let Some((_, address)) = self.abandoned.first().copied() else { return };
            self.forget(address);
        }
    }

    fn forget(&mut self, address: AddressGroup) {
        let Some(place) = self.index.remove(&address) else { return };
        self.free.push(place);
        if let Some(expires) = self.sources[place].take().and_then(|source| source.expires) {
            self.abandoned.remove(&(expires, address));
        }
    }

    fn source_of(&mut self, peer: PeerHandle) -> Option<&mut Source> {
        let place = self.place_of(peer)?;
        self.sources[place].as_mut()
    }

    fn place_of(&self, peer: PeerHandle) -> Option<usize> {
        let (generation, place) = (*self.peers.get(peer.index())?)?;
        (generation == peer.generation).then_some(place)
    }

    /// The place of an address, which is made if it has none.
    fn place_for(&mut self, address: AddressGroup) -> usize {
        if let Some(place) = self.index.get(&address) {
            return *place;
        }
        let source = Source {
            address,
            connected: 0,
            expires: None,
            accepted: 0.0,
            duplicate: 0.0,
            ignored: 0.0,
            rejected: 0.0,
            spent: 0,
        };
        let place = self.free.pop().unwrap_or_else(|| {
            self.sources.push(None);
            self.sources.len() - 1
        });
        self.sources[place] = Some(source);
        self.index.insert(address, place);
        place
    }
}

/// go-libp2p-pubsub's DefaultDecayToZero.
const DECAY_TO_ZERO: f64 = 0.01;
