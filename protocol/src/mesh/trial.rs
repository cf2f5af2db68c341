//! Trials: whether a link of the mesh that brings nothing could bring something.
//!
//! A peer that takes a place in our mesh and forwards nothing cannot be told by its silence alone: we send it most messages before it
//! has them, and of large ones we tell it that it need not send them. So silence makes a suspect, and a trial decides.
//!
//! # Rules
//!
//! - A peer is *suspect* on a topic when so many accepted messages in a row ([`TrialConfig::messages`]) came without a copy from it, of those
//!   that others published. What we had sent to it before does not count: it would be our own message mirrored.
//! - A suspect is not told that it need not send a message, and with even chances a message is held back from it. That begins its
//!   trial: it has [`TrialConfig::time_min`] to [`TrialConfig::time_max`], by its round-trip time, to send the message to us. *Rationale:*
//!   whoever has another honest link hears of the message there and sends it on to us, because it does not know that we have it;
//!   whoever does not send it would not have sent it when we needed it. It cannot see which messages it is tried by.
//! - Who sends the message has passed. It is trusted for twice as many messages as before, up to [`TrialConfig::messages_max`].
//! - Who does not is sent the message then, unless it refused it: it may depend on us. After [`TrialConfig::strikes`] failures without a success
//!   it leaves the mesh, and somebody else is grafted in its place. If there is nobody else it stays; after twice as many it leaves all the
//!   same, for the shortest backoff, if half of D links of the mesh are not suspect. *Rationale:* among many attackers everybody else may
//!   be in a backoff, and a place that is kept by who brings nothing is not sought for anybody else.
//!   *Rationale:* what is shown is that the link does not help us, not that the peer is at fault; so it is replaced and not punished.
//! - Who is replaced without having brought anything since it came keeps away for twice as long each time ([`super::backoff`]). *Rationale:* a peer
//!   that stood still for a while did its part before, and does again.
//! - While our own heartbeat is late, failures do not count: what came may be unread.
//!
//! What this leaves an attacker: it keeps its place by bringing every message that we hold back, within the time of a trial. Then it
//! delays messages by that time at most.
//!
//! # Limits and cost
//!
//! One trial for each link of each mesh, and one message of each. A trial costs nothing on the wire; a message that was held back in vain comes
//! late by the time of the trial over that link. In a healthy network a link is tried every [`TrialConfig::messages_max`] messages at most.

use super::Mesh;
use super::io::{Output, PruneReason, Sink};
use super::seen::Fingerprint;
use super::send;
use super::slots::SlotSet;
use super::topic::TopicIndex;
use crate::id::PeerHandle;
use crate::message::Payload;
use crate::rpc::{Class, Frame};
use crate::time::{Duration, Time};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// When a peer of the mesh is tried, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrialConfig {
    /// Messages without a copy from a peer that make it suspect; zero turns trials off.
    pub messages: u32,
    /// The same, at most, of a peer that has passed trials.
    pub messages_max: u32,
    /// The shortest trial.
    pub time_min: Duration,
    /// The longest trial, and that of a peer of unknown round-trip time.
    pub time_max: Duration,
    /// Round-trip times that a trial takes within these bounds.
    pub round_trips: u32,
    /// Failures without a success after which the peer is replaced.
    pub strikes: u8,
}

impl Default for TrialConfig {
    /// Guesses: a link that carries each message in one direction or in both is silent for eight in a row once in fifty times; at
    /// a message a second, a silent peer is out within a minute even when it passed trials before. A message takes three round trips
    /// of the link to come around it at most, or else it is of no help.
    fn default() -> Self {
        Self {
            messages: 8,
            messages_max: 32,
            time_min: Duration::from_millis(200),
            time_max: Duration::from_millis(600),
            round_trips: 3,
            strikes: 3,
        }
    }
}

/// What a peer of the mesh of a topic has brought.
#[derive(Clone, Copy, Debug)]
pub(super) struct Use {
    /// Messages in a row that came without a copy from it.
    silent: u32,
    /// How many of them make it suspect.
    patience: u32,
    /// Failures since the last success.
    strikes: u8,
    /// Whether it has brought anything.
    brought: bool,
}

/// Trials under way.
#[derive(Debug, Default)]
pub(super) struct Trials {
    /// By who is tried, on which topic.
    by_link: BTreeMap<(PeerHandle, TopicIndex), Trial>,
    by_end: BTreeSet<(Time, PeerHandle, TopicIndex)>,
}

#[derive(Debug)]
struct Trial {
    ends: Time,
    key: Fingerprint,
    payload: Arc<Payload>,
}

impl Trials {
    /// When the next trial ends.
    pub(super) fn next_end(&self) -> Option<Time> {
        // An ordered set that was emptied keeps a node, which need not be looked at.
        if self.by_end.is_empty() { None } else { self.by_end.first().map(|(ends, ..)| *ends) }
    }

    /// Whether the message is held back from the peer.
    pub(super) fn is_of(&self, peer: PeerHandle, key: Fingerprint) -> bool {
        !self.by_link.is_empty() && self.of_peer(peer).any(|(_, trial)| trial.key == key)
    }

    fn of_peer(&self, peer: PeerHandle) -> impl Iterator<Item = (TopicIndex, &Trial)> {
        let links = self.by_link.range((peer, TopicIndex(0))..=(peer, TopicIndex(u8::MAX)));
        links.map(|((_, topic), trial)| (*topic, trial))
    }

    fn begin(&mut self, link: (PeerHandle, TopicIndex), trial: Trial) {
        self.by_end.insert((trial.ends, link.0, link.1));
        self.by_link.insert(link, trial);
    }

    fn end(&mut self, link: (PeerHandle, TopicIndex)) -> Option<Trial> {
        if self.by_link.is_empty() {
            return None;
        }
        let trial = self.by_link.remove(&link)?;
        self.by_end.remove(&(trial.ends, link.0, link.1));
        Some(trial)
    }

    pub(super) fn len(&self) -> usize {
        self.by_link.len()
    }

    /// The links that are tried.
    pub(super) fn links(&self) -> impl Iterator<Item = (PeerHandle, TopicIndex)> {
        self.by_link.keys().copied()
    }

    pub(super) fn check(&self) {
        let ends = self.by_link.iter().map(|((peer, topic), trial)| (trial.ends, *peer, *topic));
        assert_eq!(self.by_end, ends.collect::<BTreeSet<_>>(), "the order of trials has drifted");
    }
}

impl Mesh {
    /// A peer has entered the mesh in this place.
    pub(super) fn begin_use(&mut self, topic: TopicIndex, place: usize) {
        let patience = self.config.trial.messages;
        self.states[topic.index()].uses.insert(place, Use { silent: 0, patience, strikes: 0, brought: false });
    }

    /// The peer has left the mesh, in which it was in this place.
    pub(super) fn end_use(&mut self, topic: TopicIndex, place: usize, peer: PeerHandle) {
        self.states[topic.index()].uses.remove(place);
        self.trials.end((peer, topic));
    }

    fn use_of(&mut self, topic: TopicIndex, peer: PeerHandle) -> Option<&mut Use> {
        let state = &mut self.states[topic.index()];
        let place = state.mesh.binary_search(&peer).ok()?;
        state.uses.get_mut(place)
    }

    /// A message of others was accepted. Who has sent it by now has not been silent.
    pub(super) fn count_silence(&mut self, topic: TopicIndex, holders: &SlotSet) {
        let state = &mut self.states[topic.index()];
        for (peer, known) in state.mesh.iter().zip(&mut state.uses) {
            let brought = holders.contains(peer.slot);
            known.brought |= brought;
            known.silent = if brought { 0 } else { known.silent.saturating_add(1) };
        }
    }

    /// A further copy of an accepted message has come from a peer that we had not sent it to.
    pub(super) fn note_use(&mut self, topic: TopicIndex, peer: PeerHandle, key: Fingerprint) {
        let passed = self.trials.is_of(peer, key) && self.trials.end((peer, topic)).is_some();
        self.counters.trials_passed += u64::from(passed);
        let most = self.config.trial.messages_max;
        if let Some(known) = self.use_of(topic, peer) {
            known.silent = 0;
            known.brought = true;
            if passed {
                known.strikes = 0;
                known.patience = known.patience.saturating_mul(2).min(most);
            }
        }
    }

    /// Begins to try suspects of the mesh by this message.
    pub(super) fn begin_trials(
        &mut self,
        now: Time,
        topic: TopicIndex,
        (key, payload): (Fingerprint, &Arc<Payload>),
        holders: &SlotSet,
    ) {
        if self.config.trial.messages == 0 || !self.states[topic.index()].uses.iter().any(Use::is_suspect) {
            return;
        }
        let state = &self.states[topic.index()];
        let suspects = state.mesh.iter().zip(&state.uses).filter(|(_, known)| known.is_suspect());
        let suspects: Vec<PeerHandle> = suspects.map(|(peer, _)| *peer).collect();
        for peer in suspects {
            let free = !holders.contains(peer.slot) && !self.trials.by_link.contains_key(&(peer, topic));
            if free && self.random.trial.chance(1, 2) {
                let ends = now + self.trial_time(peer);
                self.trials.begin((peer, topic), Trial { ends, key, payload: payload.clone() });
                self.counters.trials += 1;
            }
        }
    }

    fn trial_time(&self, peer: PeerHandle) -> Duration {
        let trial = &self.config.trial;
        self.rtt_of(peer).saturating_mul(trial.round_trips).clamp(trial.time_min, trial.time_max)
    }

    /// Ends the trials that are over, and replaces who has failed too often.
    pub(super) fn end_trials(&mut self, now: Time, out: &mut impl Sink<Output>) {
        while let Some((_, peer, topic)) = self.trials.by_end.first().copied().filter(|(ends, ..)| *ends <= now) {
            let Some(trial) = self.trials.end((peer, topic)) else { return };
            // It may depend on us.
            let mut sent = 0;
            self.recent.spread(trial.key, [peer], |peer| {
                sent += 1;
                send(out, peer, Frame::Publish { payload: trial.payload.clone(), class: Class::Forward });
            });
            self.counters.messages_sent += sent;
            if self.scores.deficits_suspended(now) {
                continue;
            }
            self.counters.trials_failed += 1;
            let strikes_max = self.config.trial.strikes;
            let Some(known) = self.use_of(topic, peer) else { continue };
            known.strikes = known.strikes.saturating_add(1);
            let strikes = known.strikes;
            if strikes >= strikes_max && !self.replace(now, topic, peer, out) {
                let enough = self.config.degree.target / 2;
                if strikes >= strikes_max.saturating_mul(2) && self.useful_links(topic) >= enough {
                    let backoff = self.config.prune.surplus_backoff;
                    self.prune_for(now, topic, peer, PruneReason::Silent, backoff, out);
                }
            }
        }
    }

    /// Grafts somebody else in place of a peer of the mesh, if there is anybody. Peers that we dialled come first: whoever dialled us to take a
    /// place may be one of many, and the others are waiting for this one.
    fn replace(&mut self, now: Time, topic: TopicIndex, peer: PeerHandle, out: &mut impl Sink<Output>) -> bool {
        let mut candidates = self.graft_candidates(now, topic);
        if candidates.iter().any(|peer| self.is_outbound(*peer)) {
            candidates.retain(|peer| self.is_outbound(*peer));
        }
        let other = self.choose_among(candidates, 1).first().copied();
        if let Some(other) = other {
            self.counters.links_replaced += 1;
            self.graft(now, topic, other, out);
            self.prune(now, topic, peer, PruneReason::Silent, out);
        }
        other.is_some()
    }

    /// Whether the peer has not brought anything since it entered the mesh.
    pub(super) fn is_newcomer(&self, topic: TopicIndex, peer: PeerHandle) -> bool {
        let state = &self.states[topic.index()];
        state.mesh.binary_search(&peer).is_ok_and(|place| !state.uses[place].brought)
    }

    /// Whether the mesh has as many newcomers as it may have, so that peers that ask for a place have to wait.
    /// Where nobody has brought anything, in a young or idle mesh, that says nothing about them.
    pub(super) fn has_newcomers_enough(&self, topic: TopicIndex) -> bool {
        let uses = &self.states[topic.index()].uses;
        let newcomers = uses.iter().filter(|known| !known.brought).count();
        self.config.trial.messages > 0 && newcomers < uses.len() && newcomers >= self.config.degree.newcomers
    }

    /// Links of the mesh that are not suspect.
    fn useful_links(&self, topic: TopicIndex) -> usize {
        self.states[topic.index()].uses.iter().filter(|known| !known.is_suspect()).count()
    }
}

impl Use {
    /// Whether the peer has been silent for long.
    pub(super) fn is_suspect(&self) -> bool {
        self.silent >= self.patience
    }
}
