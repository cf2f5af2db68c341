//! Which announced messages to ask whom for, and who promised and did not deliver.
//!
//! The idea is that of Bitcoin Core's transaction request tracker (`txrequest.h`), applied to IHAVE and IWANT of gossipsub v1.0
//! and to the promises of v1.1 ("Promise Tracking").
//!
//! # Promises of this module
//!
//! - Each message is asked of one announcer, and of one more each time that it does not arrive within the *retry* time, of `asked_max` at a time at
//!   most. As long as one announcer delivers, the message arrives, however many others are silent.
//! - A peer that was asked, and whose message has not arrived from anybody within the *follow-up* time, has broken a promise.
//!   *Rationale for two times:* asking somebody else early costs at most a duplicate for each of `asked_max` peers, while blame must allow for a slow line.
//! - A message that arrives, from whomever, settles every promise for it.
//!   *Rationale:* the others may have dropped it because we said IDONTWANT.
//!
//! # Rules
//!
//! - **A short wait before the first request.** The announcement may have overtaken the push. The wait follows what pushed copies
//!   have recently needed after their announcement (mean plus twice the mean deviation, smoothed as the round-trip
//!   estimate of RFC 6298), within configured bounds; with a maximum of zero every message is asked for at once.
//! - **Whom to ask:** the announcer with the fewest strikes, then with the fewest requests in flight, then the earliest. A
//!   retry or a broken promise is a strike. A delivery on request halves them, and one after the retry takes that strike back and no more. *Rationale:* an attacker who announces
//!   everything first and delivers nothing is soon asked last, and of several who deliver by turns, as late as they dare, each but the one whose turn it is. Large messages on
//!   slow lines always come after the retry, which is nobody's fault.
//! - **The more have been asked for a message, the sooner the next one is**: the longest retry time is halved with each, down to the shortest. *Rationale:* how
//!   long a round trip takes is what the peer makes of it, and a dozen who each take the longest would hold a message up for as many seconds.
//! - **At most one broken promise per peer and moment of asking**, however many messages that request named (as in
//!   go-libp2p-pubsub, which follows up one message of each request). *Rationale:* one lost IWANT is one fault.
//!
//! # Limits and cost
//!
//! Each peer has at most `announced_max` messages on file, so memory is bounded by connected peers times `announced_max` (some 150 bytes each). There is
//! no bound over all peers, nor for a message. *Rationale:* a shared one could be filled by some to starve the others: with twelve announcers of a message at most,
//! twelve who announced it at once and did not deliver it kept out whoever would have. Operations take logarithmic time and that of going through a message's announcers;
//! [`Promises::due`] is that per message due, and [`Promises::next_due`] looks at one element.

use super::io::Arrival;
use crate::id::{MessageId, PeerHandle};
use crate::memory::{Fetch, tree_bytes};
use crate::time::{Duration, Time, micros};
use std::collections::{BTreeMap, BTreeSet};
use thiserror::Error;

/// Times and bounds of [`Promises`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PromiseConfig {
    /// The wait before the first request, as long as nothing is known.
    pub wait_initial: Duration,
    /// The shortest wait.
    pub wait_min: Duration,
    /// The longest wait; zero asks at once.
    pub wait_max: Duration,
    /// Round-trip times after which the next announcer is asked.
    pub retry_rtts: u32,
    /// The shortest retry time.
    pub retry_min: Duration,
    /// The longest retry time, and that towards a peer of unknown round-trip time, for the first peer that is asked for a message.
    pub retry_max: Duration,
    /// The time after which an undelivered message is a broken promise; at least `retry_max`.
    pub follow_up: Duration,
    /// Messages on file for each peer.
    pub announced_max: usize,
    /// Peers that are asked for one message at the same time; another one is when the first of them has had the follow-up time.
    pub asked_max: usize,
}

impl Default for PromiseConfig {
    fn default() -> Self {
        Self {
            // A guess: the spread of arrivals over the paths of one continent.
            wait_initial: Duration::from_millis(30),
            wait_min: Duration::from_millis(5),
            wait_max: Duration::from_millis(100),
            // Guesses: one round trip for the request itself, one for its time in queues.
            retry_rtts: 2,
            retry_min: Duration::from_millis(100),
            retry_max: Duration::from_secs(1),
            // The specification's IWantFollowupTime in go-libp2p-pubsub and rust.
            follow_up: Duration::from_secs(3),
            // Guesses. So many copies may share our line.
            announced_max: 2_048,
            asked_max: 16,
        }
    }
}

impl PromiseConfig {
    /// The behaviour of stock implementations: ask at once, retry and blame after three seconds.
    #[must_use]
    pub fn classic() -> Self {
        let follow_up = Duration::from_secs(3);
        Self {
            wait_initial: Duration::ZERO,
            wait_min: Duration::ZERO,
            wait_max: Duration::ZERO,
            retry_min: follow_up,
            retry_max: follow_up,
            ..Self::default()
        }
    }

    /// How long the next announcer is not asked after this one, when so many were asked before it.
    fn retry_after(&self, rtt: Option<Duration>, asked: usize) -> Duration {
        let halvings = u32::try_from(asked).unwrap_or(u32::MAX).min(20);
        let most = (self.retry_max / (1 << halvings)).max(self.retry_min);
        rtt.map_or(most, |rtt| rtt.saturating_mul(self.retry_rtts).clamp(self.retry_min, most))
    }

    /// # Errors
    /// When bounds contradict each other or leave room for nothing.
    pub fn validate(&self) -> Result<(), PromiseConfigError> {
        if self.announced_max == 0 || self.asked_max == 0 {
            return Err(PromiseConfigError::NoRoom);
        }
        if self.wait_min > self.wait_initial || self.wait_initial > self.wait_max {
            return Err(PromiseConfigError::WaitOrder);
        }
        if self.retry_min.is_zero() || self.retry_min > self.retry_max || self.retry_max > self.follow_up {
            return Err(PromiseConfigError::RetryOrder);
        }
        Ok(())
    }
}

/// Why a [`PromiseConfig`] is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PromiseConfigError {
    /// A bound is zero.
    #[error("announced_max and asked_max must be at least 1")]
    NoRoom,
    /// The waits are out of order.
    #[error("the waits before a request must rise from wait_min over wait_initial to wait_max")]
    WaitOrder,
    /// The retry times are out of order.
    #[error("the times after a request must rise from retry_min (not zero) over retry_max to follow_up")]
    RetryOrder,
}

/// What is to be done at a moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Due {
    /// Messages to ask for, by peer in the order of handles, each list in the order in which they fell due.
    pub requests: Vec<(PeerHandle, Vec<MessageId>)>,
    /// Peers that broke promises, and how many requests they broke; in the order of handles.
    pub broken: Vec<(PeerHandle, u32)>,
}

/// The announced messages that have not arrived.
#[derive(Debug)]
pub struct Promises {
    config: PromiseConfig,
    entries: BTreeMap<MessageId, Entry>,
    peers: BTreeMap<PeerHandle, PeerState>,
    /// One timer for each entry.
    timers: BTreeSet<(Time, MessageId)>,
    wait: WaitEstimate,
}

#[derive(Debug)]
struct Entry {
    announced_at: Time,
    /// In the order of announcement.
    announcers: Vec<Announcer>,
    /// When to ask the next announcer, if one is waiting.
    ask_at: Time,
    /// The entry's element of `timers`.
    timer: Time,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Announcer {
    peer: PeerHandle,
    state: AnnouncerState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AnnouncerState {
    Waiting,
    Asked {
        at: Time,
        /// Whether another one was asked since, which is a strike.
        struck: bool,
    },
    Failed,
}

#[derive(Debug, Default)]
struct PeerState {
    /// Messages that the peer has announced.
    announced: BTreeSet<MessageId>,
    /// How many of them are asked of the peer.
    in_flight: u32,
    strikes: u32,
    rtt: Option<Duration>,
}

impl Promises {
    /// Nothing announced.
    #[must_use]
    pub fn new(config: PromiseConfig) -> Self {
        let wait = WaitEstimate::new(config.wait_initial);
        Self { config, entries: BTreeMap::new(), peers: BTreeMap::new(), timers: BTreeSet::new(), wait }
    }

    /// A connected peer announced a message that we want. False when it is not put on file, because the peer has too much there already.
    pub fn announced(&mut self, now: Time, id: MessageId, peer: PeerHandle) -> bool {
        let known = self.peers.entry(peer).or_default();
        if known.announced.contains(&id) {
            return true;
        }
        if known.announced.len() >= self.config.announced_max {
            return false;
        }
        let wait = self.wait.get(&self.config);
        let entry = self.entries.entry(id).or_insert_with(|| {
            self.timers.insert((now + wait, id));
            Entry { announced_at: now, announcers: Vec::new(), ask_at: now + wait, timer: now + wait }
        });
        entry.announcers.push(Announcer { peer, state: AnnouncerState::Waiting });
        if let Some(state) = self.peers.get_mut(&peer) {
            state.announced.insert(id);
        }
        self.reset_timer(id);
        true
    }

    /// A round-trip time to a connected peer was measured.
    pub fn measured_rtt(&mut self, peer: PeerHandle, rtt: Duration) {
        self.peers.entry(peer).or_default().rtt = Some(rtt);
    }

    /// What is due by now. Asking counts as done when this returns.
    pub fn due(&mut self, now: Time) -> Due {
        let mut requests: BTreeMap<PeerHandle, Vec<MessageId>> = BTreeMap::new();
        let mut broken: BTreeSet<(PeerHandle, Time)> = BTreeSet::new();
        while let Some((_, id)) = self.timers.first().copied().filter(|(at, _)| *at <= now) {
            self.follow_up(now, id, &mut broken);
            if let Some(peer) = self.ask_next(now, id) {
                requests.entry(peer).or_default().push(id);
            }
            self.reset_timer(id);
        }
        let mut counts: BTreeMap<PeerHandle, u32> = BTreeMap::new();
        for (peer, _) in broken {
            *counts.entry(peer).or_default() += 1;
        }
        Due { requests: requests.into_iter().collect(), broken: counts.into_iter().collect() }
    }

    /// When [`Promises::due`] next has something to say. Announcements, deliveries and disconnections may change it.
    #[must_use]
    pub fn next_due(&self) -> Option<Time> {
        // An ordered set that was emptied keeps a node, which need not be looked at.
        if self.timers.is_empty() { None } else { self.timers.first().map(|(at, _)| *at) }
    }

    /// Who has announced a message that has not arrived.
    pub fn announcers(&self, id: &MessageId) -> impl Iterator<Item = PeerHandle> {
        let entry = if self.entries.is_empty() { None } else { self.entries.get(id) };
        entry.into_iter().flat_map(|entry| &entry.announcers).map(|announcer| announcer.peer)
    }

    /// A copy of the message arrived from the peer. All promises for it are settled. Says whether the peer had been asked.
    pub fn delivered(&mut self, now: Time, id: &MessageId, peer: PeerHandle) -> Arrival {
        if self.entries.is_empty() {
            return Arrival::Pushed;
        }
        let Some(entry) = self.take(id) else { return Arrival::Pushed };
        let state = entry.announcers.iter().find(|other| other.peer == peer).map(|announcer| announcer.state);
        let strikes = self.peers.get_mut(&peer).map(|known| &mut known.strikes);
        match (state, strikes) {
            (None | Some(AnnouncerState::Waiting), _) => {
                self.wait.sample(now.since(entry.announced_at), &self.config);
                return Arrival::Pushed;
            }
            (Some(AnnouncerState::Asked { struck: false, .. }), Some(strikes)) => *strikes /= 2,
            (Some(AnnouncerState::Asked { struck: true, .. }), Some(strikes)) => *strikes = strikes.saturating_sub(1),
            _ => {}
        }
        Arrival::Pulled
    }

    /// The message is not wanted any more. Nobody is blamed.
    pub fn forget(&mut self, id: &MessageId) {
        self.take(id);
    }

    /// A peer is gone. What was asked of it is asked of the next announcer at once; nobody is blamed.
    pub fn disconnected(&mut self, peer: PeerHandle) {
        let Some(state) = self.peers.remove(&peer) else { return };
        for id in state.announced {
            let Some(entry) = self.entries.get_mut(&id) else { continue };
            let was_asked = |other: &Announcer| matches!(other.state, AnnouncerState::Asked { .. });
            let asked_it = entry.announcers.iter().any(|other| other.peer == peer && was_asked(other));
            entry.announcers.retain(|other| other.peer != peer);
            if asked_it && !entry.announcers.iter().any(was_asked) {
                entry.ask_at = Time::ZERO;
            }
            self.reset_timer(id);
        }
    }

    /// Has fetched what every input looks at; see [`Fetch`].
    pub(crate) fn fetch(&self, fetch: &mut impl Fetch) {
        fetch.value(&self.entries);
        fetch.value(&self.timers);
    }

    /// Bytes that are allocated, estimated.
    pub(crate) fn memory_bytes(&self) -> usize {
        let announcers: usize = self.entries.values().map(|entry| entry.announcers.capacity()).sum();
        let announced: usize = self.peers.values().map(|state| state.announced.len()).sum();
        tree_bytes::<(MessageId, Entry)>(self.entries.len())
            + tree_bytes::<(PeerHandle, PeerState)>(self.peers.len())
            + tree_bytes::<(Time, MessageId)>(self.timers.len())
            + tree_bytes::<MessageId>(announced)
            + announcers * size_of::<Announcer>()
    }

    /// How many messages are announced and have not arrived.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether no message is awaited.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether a request for the message is open.
    #[must_use]
    pub fn is_asked(&self, id: &MessageId) -> bool {
        let asked = |announcer: &Announcer| matches!(announcer.state, AnnouncerState::Asked { .. });
        self.entries.get(id).is_some_and(|entry| entry.announcers.iter().any(asked))
    }

    /// Of whom the message is asked at this moment, in the order of announcement.
    #[must_use]
    pub fn asked(&self, id: &MessageId) -> Vec<PeerHandle> {
        if self.entries.is_empty() {
            return Vec::new();
        }
        let announcers = self.entries.get(id).into_iter().flat_map(|entry| &entry.announcers);
        let open = announcers.filter(|announcer| matches!(announcer.state, AnnouncerState::Asked { .. }));
        open.map(|announcer| announcer.peer).collect()
    }

    /// Recomputes and asserts every invariant.
    ///
    /// # Panics
    /// When one does not hold.
    pub fn check(&self) {
        let mut in_flight: BTreeMap<PeerHandle, u32> = BTreeMap::new();
        let mut announced: BTreeSet<(PeerHandle, MessageId)> = BTreeSet::new();
        for (id, entry) in &self.entries {
            let settled = |other: &Announcer| other.state == AnnouncerState::Failed;
            assert!(!entry.announcers.iter().all(settled), "a message that nobody can deliver is forgotten");
            assert!(self.timers.contains(&(entry.timer, *id)), "every message has its timer");
            assert_eq!(entry.timer, self.timer_of(entry), "the timer is the earliest of the message's moments");
            for announcer in &entry.announcers {
                assert!(announced.insert((announcer.peer, *id)), "a peer announces a message once");
                if matches!(announcer.state, AnnouncerState::Asked { .. }) {
                    *in_flight.entry(announcer.peer).or_default() += 1;
                }
            }
        }
        assert_eq!(self.timers.len(), self.entries.len(), "one timer for each message");
        for (peer, state) in &self.peers {
            assert!(state.announced.len() <= self.config.announced_max, "announcements stay bounded");
            assert_eq!(state.in_flight, in_flight.remove(peer).unwrap_or(0), "requests in flight equal a recount");
            assert!(state.announced.iter().all(|id| announced.remove(&(*peer, *id))), "the index by peer is exact");
        }
        assert!(in_flight.is_empty() && announced.is_empty(), "nothing is left of peers that are gone");
    }

    /// Blames those whose follow-up time is over.
    fn follow_up(&mut self, now: Time, id: MessageId, broken: &mut BTreeSet<(PeerHandle, Time)>) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        for announcer in &mut entry.announcers {
            let AnnouncerState::Asked { at, .. } = announcer.state else { continue };
            if at + self.config.follow_up > now {
                continue;
            }
            announcer.state = AnnouncerState::Failed;
            broken.insert((announcer.peer, at));
            if let Some(state) = self.peers.get_mut(&announcer.peer) {
                state.in_flight -= 1;
                state.strikes = state.strikes.saturating_add(1);
            }
        }
    }

    /// Chooses whom to ask now, if the moment has come and somebody is waiting.
    fn ask_next(&mut self, now: Time, id: MessageId) -> Option<PeerHandle> {
        let entry = self.entries.get_mut(&id)?;
        if entry.ask_at > now {
            return None;
        }
        let waiting =
            (0..entry.announcers.len()).filter(|index| entry.announcers[*index].state == AnnouncerState::Waiting);
        let next = waiting.min_by_key(|index| {
            let state = self.peers.get(&entry.announcers[*index].peer);
            state.map_or((0, 0), |state| (state.strikes, state.in_flight))
        })?;
        let asked_at = |announcer: &Announcer| match announcer.state {
            AnnouncerState::Asked { at, .. } => Some(at),
            AnnouncerState::Waiting | AnnouncerState::Failed => None,
        };
        let open = || entry.announcers.iter().filter_map(asked_at);
        if open().count() >= self.config.asked_max {
            entry.ask_at = open().min().map_or(now, |at| at + self.config.follow_up);
            return None;
        }
        // Whoever was asked last has let the retry time pass.
        let late = (0..entry.announcers.len()).filter(|index| asked_at(&entry.announcers[*index]).is_some());
        if let Some(late) = late.max_by_key(|index| asked_at(&entry.announcers[*index]))
            && let AnnouncerState::Asked { struck, .. } = &mut entry.announcers[late].state
        {
            // Whoever was asked after it may have gone: then it is the last one again, and was struck for it.
            let is_news = !core::mem::replace(struck, true);
            if let Some(state) = self.peers.get_mut(&entry.announcers[late].peer).filter(|_| is_news) {
                state.strikes = state.strikes.saturating_add(1);
            }
        }
        let asked = entry.announcers.iter().filter(|other| other.state != AnnouncerState::Waiting).count();
        let peer = entry.announcers[next].peer;
        let state = self.peers.entry(peer).or_default();
        state.in_flight += 1;
        entry.ask_at = now + self.config.retry_after(state.rtt, asked);
        entry.announcers[next].state = AnnouncerState::Asked { at: now, struck: false };
        Some(peer)
    }

    /// Sets the timer of the message anew, or forgets the message when nobody is left who could deliver it.
    fn reset_timer(&mut self, id: MessageId) {
        let Some(entry) = self.entries.get(&id) else { return };
        if entry.announcers.iter().all(|announcer| announcer.state == AnnouncerState::Failed) {
            self.take(&id);
            return;
        }
        let timer = self.timer_of(entry);
        if let Some(entry) = self.entries.get_mut(&id)
            && entry.timer != timer
        {
            self.timers.remove(&(entry.timer, id));
            self.timers.insert((timer, id));
            entry.timer = timer;
        }
    }

    fn timer_of(&self, entry: &Entry) -> Time {
        let moments = entry.announcers.iter().map(|announcer| match announcer.state {
            AnnouncerState::Waiting => entry.ask_at,
            AnnouncerState::Asked { at, .. } => at + self.config.follow_up,
            AnnouncerState::Failed => Time::MAX,
        });
        moments.min().unwrap_or(Time::MAX)
    }

    fn take(&mut self, id: &MessageId) -> Option<Entry> {
        if self.entries.is_empty() {
            return None;
        }
        let entry = self.entries.remove(id)?;
        self.timers.remove(&(entry.timer, *id));
        for announcer in &entry.announcers {
            let Some(state) = self.peers.get_mut(&announcer.peer) else { continue };
            state.announced.remove(id);
            if matches!(announcer.state, AnnouncerState::Asked { .. }) {
                state.in_flight -= 1;
            }
        }
        Some(entry)
    }
}

/// How long pushed copies take to follow their announcement.
#[derive(Clone, Copy, Debug)]
struct WaitEstimate {
    mean_us: u64,
    deviation_us: u64,
}

impl WaitEstimate {
    /// An estimate that yields the initial wait.
    fn new(initial: Duration) -> Self {
        Self { mean_us: micros(initial) / 2, deviation_us: micros(initial) / 4 }
    }

    fn get(&self, config: &PromiseConfig) -> Duration {
        let wait_us = self.mean_us.saturating_add(self.deviation_us.saturating_mul(2));
        Duration::from_micros(wait_us).clamp(config.wait_min, config.wait_max)
    }

    fn sample(&mut self, delay: Duration, config: &PromiseConfig) {
        // Beyond the longest wait a sample says nothing more than "late".
        let sample_us = micros(delay.min(config.wait_max));
        let error_us = self.mean_us.abs_diff(sample_us);
        self.deviation_us = (3 * self.deviation_us + error_us) / 4;
        self.mean_us = (7 * self.mean_us + sample_us) / 8;
    }
}

#[cfg(test)]
mod tests;
