//! Trials: whether a link of the mesh that brings nothing could bring something.
//!
//! A peer that takes a place in our mesh and forwards nothing cannot be told by its silence alone: we send it most messages before it
//! has them, and of large ones we tell it that it need not send them. So silence makes a suspect, and a trial decides.
//!
//! # Rules
//!
//! - A peer is *suspect* on a topic when so many accepted messages in a row ([`TrialConfig::messages`]) came without a copy from it, of those
//!   that others published. What we had sent to it before does not count: it would be our own message mirrored. Nor does a copy that comes so late
//!   that an announcement would have brought the message sooner.
//! - A suspect is not told that it need not send a message, and one of its next few messages is held back from it, drawn by chance: of five, or of
//!   three from who has failed before, of two from who has stood still. *Rationale:* a peer that is far from all publishers is a suspect of all its
//!   neighbours at the same time, after the first messages of a network even exactly; what all of them hold back it has to ask for. Holding it back begins the peer's
//!   trial: it has [`TrialConfig::round_trips`] and [`TrialConfig::retransmission`], at most [`TrialConfig::time_max`], to send the message to us. *Rationale:*
//!   whoever has another honest link hears of the message there and sends it on to us, because it does not know that we have it;
//!   whoever does not send it would not have sent it when we needed it. It cannot see beforehand which messages it is tried by.
//! - Who sends the message has passed. It is trusted for twice as many messages as before, up to [`TrialConfig::messages_max`].
//! - Who does not is sent the message then, unless it refused it: it may depend on us. After [`TrialConfig::strikes`] failures without a success
//!   it leaves the mesh, and somebody else is grafted in its place. If there is nobody else it stays; after twice as many it leaves all the
//!   same, for the shortest backoff, if half of D links of the mesh are not suspect. *Rationale:* among many attackers everybody else may
//!   be in a backoff, and a place that is kept by who brings nothing is not sought for anybody else.
//!   *Rationale:* what is shown is that the link does not help us, not that the peer is at fault; so it is replaced and not punished.
//! - **Both ends do not try each other by the same message twice.** Both ends of a link that is of use to neither are suspects of each other, from the
//!   same message on even. When both hold back the same one neither sends it, and both fail. Then each sends it when its trial is over, and the
//!   copies cross: whoever has failed and then sends that very message tried us by it, too. Whoever dialled the link lets three messages pass then, before
//!   the next trial, so that the other end tries first and is answered; if the next one has begun, it ends without a verdict.
//! - **What comes after its trial makes of a failure half of one**, whichever end dialled, and whether or not it was sent back what we had sent it. *Rationale:* it
//!   was held back from us, or it is large, or a segment of it was lost on the way. It may as well have been mirrored, so it is not forgiven wholly, but by the next success.
//! - Who is replaced without having brought anything since it came keeps away for twice as long each time ([`super::backoff`]). *Rationale:* a peer
//!   that stood still for a while did its part before, and does again.
//! - **Who stands still does not fail.** A peer from which nothing at all has come in the last half of its trial may have crashed, may be
//!   without a processor, or may have nothing to say; the trial says nothing about which. It is sent what was held back, and awaited. If it
//!   is heard again before it brings something, that counts as a failure if it spoke in its trial or has never brought anything since it came, and as half of one if not; it
//!   leaves the mesh when it is silent for longer than is borne of it ([`super::pulse`]). *Rationale:* a node that stands still for a second now and
//!   then would fail three trials each time. The half keeps a peer from passing for one that stands still by falling silent whenever it is tried. Where messages are
//!   few, most who say nothing have nothing to say, and a stranger would gain a minute by it. It is a half however long that takes: to count
//!   a second of silence as a whole failure was tried, and honest nodes that stand still often lost nine times as many places by it.
//! - **A message that others may have had long ago, or may have reason to refuse,** tries nobody, and nobody's silence is counted by it: it says nothing about a peer that it does not
//!   bring such a message. Who judges messages knows it beforehand ([`super::Verdict::AcceptWithoutTrial`]) or finds out ([`super::Input::Disputed`]); then trials by it end without a verdict, and
//!   others follow soon. *Rationale:* otherwise whoever gives a node what others have had, or different things to different nodes, has it take honest peers out of its mesh.
//! - Nothing counts of a trial in which we were away ([`super::pulse`]), and nobody is taken to be gone before what came meanwhile is
//!   read.
//! - Who leaves the mesh because it was silent, and has brought a message of late, may come back soon: it keeps the shortest backoff.
//! - **Who leaves the mesh by itself and comes back is who it was**, in the same connection: what is known of its use stays, and to leave while it is tried is half of
//!   a failure, awaited or not. Who has failed too often by then is told to keep away, like anybody who brings nothing. Whom we asked for its place and who refuses was never in. *Rationale:* whoever unsubscribes, subscribes and grafts in one RPC would
//!   never be found out otherwise. Honest peers leave as well, and seldom in a trial.
//!
//! What this leaves an attacker: it keeps its place by bringing every message that we hold back, within the time of a trial. If it counts what it is
//! sent it knows that the fifth message at the latest is held back, or the sixth where we have dialled it and it sends
//! back what was held back, and may be sure of passing by bringing every eighth. Whoever has a second place in our mesh sees at once by what the first one is
//! tried, and may bring that and nothing else: a link that passes its trials has shown what it can bring, not that it will. Who is surrounded
//! by such peers has what is announced to it, a heartbeat later.
//!
//! # Limits and cost
//!
//! One trial for each link of each mesh, and one message of each. A trial costs nothing on the wire; a message that was held back in vain comes
//! late by the time of the trial over that link. In a healthy network a link is tried every [`TrialConfig::messages_max`] messages at most.

use super::Mesh;
use super::io::{Output, PruneReason, Sink};
use super::pulse::Lived;
use super::seen::Fingerprint;
use super::send;
use super::slots::SlotSet;
use super::topic::TopicIndex;
use crate::id::{MessageId, PeerHandle};
use crate::memory::Fetch;
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
    /// Round-trip times that a trial takes.
    pub round_trips: u32,
    /// What a trial takes beside these: as long as TCP waits before it sends a lost segment again.
    pub retransmission: Duration,
    /// The longest trial, and that of a peer of unknown round-trip time.
    pub time_max: Duration,
    /// Failures without a success after which the peer is replaced.
    pub strikes: u8,
}

impl Default for TrialConfig {
    /// Guesses: a link that carries each message in one direction or in both is silent for eight in a row once in fifty times; at
    /// a message a second, a silent peer is out within a minute even when it passed trials before. A message takes three round trips
    /// of the link to come around it at most, or else it is of no help. 200 ms is the least that Linux waits for, beside a round trip, before it sends a
    /// lost segment again. Without these, the two ends of a lossy link fail each other's trials in turns, until honest links end.
    fn default() -> Self {
        Self {
            messages: 8,
            messages_max: 32,
            round_trips: 3,
            retransmission: Duration::from_millis(200),
            time_max: Duration::from_millis(600),
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
    /// Failures since the last success, in halves.
    failures: u8,
    /// How often it stood still in a trial since it brought something last.
    standstills: u8,
    /// In how many messages it is to be tried; none if that is not drawn yet.
    tried_in: u8,
    /// How many messages pass before those.
    spared: u8,
    /// Whether it has brought anything.
    pub(super) brought: bool,
}

/// What is to be said against a peer after a trial.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// It was there and did not bring what was held back.
    Failed,
    /// It brought that when its trial was over.
    Late,
    /// It stood still, and went on without having brought it.
    StoodStill,
    /// It has been silent for longer than is borne of it.
    Gone,
}

/// Of so many messages one is held back from a suspect, and from one that has failed before. Guesses: few enough that who brings nothing is
/// found soon where there are few messages.
const TRIED_WITHIN: u8 = 5;
const TRIED_AGAIN_WITHIN: u8 = 3;
const HEARD_AGAIN_WITHIN: u8 = 2;
/// So many messages pass first at the end that has dialled, when both have tried each other by the same message.
const SPARED: u8 = TRIED_AGAIN_WITHIN;
/// What a failure counts, where a standstill is one.
const WHOLE: u8 = 2;
/// A copy that comes so long after the message was accepted is of no use: who announces brings it sooner.
pub(super) const OF_USE: Duration = Duration::from_secs(1);
/// Between two looks at a peer that is awaited, at least.
const LOOK_MIN: Duration = Duration::from_millis(50);
/// And at most: it may have gone on.
const LOOK_MAX: Duration = Duration::from_secs(1);
/// Who has brought a message so recently is no stranger.
const OF_LATE: Duration = Duration::from_secs(60);

/// Trials under way.
#[derive(Debug, Default)]
pub(super) struct Trials {
    /// By who is tried, on which topic.
    by_link: BTreeMap<(PeerHandle, TopicIndex), Trial>,
    by_end: BTreeSet<(Time, PeerHandle, TopicIndex)>,
    /// By what those were tried last who did not bring it in time.
    in_vain: BTreeMap<(PeerHandle, TopicIndex), InVain>,
}

#[derive(Clone, Copy, Debug)]
struct InVain {
    key: Fingerprint,
    /// Whether that was counted as a failure.
    counted: bool,
}

#[derive(Debug)]
struct Trial {
    /// When it ends, or when to look again at who is awaited.
    ends: Time,
    /// When it began, or since when the peer is awaited.
    began: Lived,
    key: Fingerprint,
    /// What is held back; none when the peer stands still and is awaited.
    held: Option<Arc<Payload>>,
    /// Whether something came from who is awaited after the trial had begun.
    spoke: bool,
    /// Whether the message came from who is awaited.
    late: bool,
}

impl Trials {
    /// When the next trial ends.
    pub(super) fn next_end(&self) -> Option<Time> {
        // An ordered set that was emptied keeps a node, which need not be looked at.
        if self.by_end.is_empty() { None } else { self.by_end.first().map(|(ends, ..)| *ends) }
    }

    /// Has fetched what every input looks at; see [`Fetch`].
    pub(super) fn fetch(&self, fetch: &mut impl Fetch) {
        fetch.value(&self.by_link);
        fetch.value(&self.by_end);
        fetch.value(&self.in_vain);
    }

    /// Whether the message is held back from the peer.
    pub(super) fn is_of(&self, peer: PeerHandle, key: Fingerprint) -> bool {
        !self.by_link.is_empty() && self.of_peer(peer).any(|trial| trial.key == key && trial.held.is_some())
    }

    fn of_peer(&self, peer: PeerHandle) -> impl Iterator<Item = &Trial> {
        self.by_link.range((peer, TopicIndex(0))..=(peer, TopicIndex(u8::MAX))).map(|(_, trial)| trial)
    }

    fn is_awaited(&self, link: (PeerHandle, TopicIndex)) -> bool {
        !self.by_link.is_empty() && self.by_link.get(&link).is_some_and(|trial| trial.held.is_none())
    }

    fn awaited(&mut self, link: (PeerHandle, TopicIndex)) -> Option<&mut Trial> {
        self.by_link.get_mut(&link).filter(|trial| trial.held.is_none())
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

    /// The links that are tried or were tried in vain.
    pub(super) fn links(&self) -> impl Iterator<Item = (PeerHandle, TopicIndex)> {
        self.by_link.keys().chain(self.in_vain.keys()).copied()
    }

    pub(super) fn check(&self) {
        let ends = self.by_link.iter().map(|((peer, topic), trial)| (trial.ends, *peer, *topic));
        assert_eq!(self.by_end, ends.collect::<BTreeSet<_>>(), "the order of trials has drifted");
    }
}

impl Mesh {
    /// A peer has entered the mesh in this place.
    pub(super) fn begin_use(&mut self, topic: TopicIndex, place: usize, peer: PeerHandle) {
        let patience = self.config.trial.messages;
        let known = self.peers.get(peer).and_then(|slot| slot.rest.links[topic.index()].left);
        let unknown = Use { silent: 0, patience, failures: 0, standstills: 0, tried_in: 0, spared: 0, brought: false };
        self.states[topic.index()].uses.insert(place, known.unwrap_or(unknown));
    }

    /// The peer has left the mesh, in which it was in this place. What is known of its use, a trial that was not over included.
    pub(super) fn end_use(&mut self, topic: TopicIndex, place: usize, peer: PeerHandle) -> Use {
        let mut known = self.states[topic.index()].uses.remove(place);
        if self.trials.end((peer, topic)).is_some() {
            known.failures = known.failures.saturating_add(WHOLE / 2);
        }
        self.trials.in_vain.remove(&(peer, topic));
        known
    }

    /// The peer has left the mesh by itself, and may come back.
    pub(super) fn remember_use(
        &mut self,
        now: Time,
        topic: TopicIndex,
        peer: PeerHandle,
        known: Use,
        out: &mut impl Sink<Output>,
    ) {
        let has_failed = self.has_failed(&known);
        if let Some(slot) = self.peers.get_mut(peer) {
            slot.rest.links[topic.index()].left = Some(known).filter(|_| !has_failed);
        }
        if has_failed {
            self.keep_away(now, topic, peer, known.brought, out);
        }
    }

    /// Whether a peer was tried in vain as often as it may be.
    fn has_failed(&self, known: &Use) -> bool {
        known.strikes() >= u16::from(self.strikes_max())
    }

    /// How many strikes a peer may have, in the measure of [`WHOLE`].
    fn strikes_max(&self) -> u8 {
        self.config.trial.strikes.saturating_mul(WHOLE)
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
            if holders.contains(peer.slot) {
                known.has_brought();
            } else {
                known.silent = known.silent.saturating_add(1);
            }
        }
    }

    /// A further copy of an accepted message has come from a peer that we had not sent it to.
    pub(super) fn note_use(&mut self, topic: TopicIndex, peer: PeerHandle, key: Fingerprint) {
        let passed = self.trials.is_of(peer, key) && self.trials.end((peer, topic)).is_some();
        self.counters.trials_passed += u64::from(passed);
        if self.trials.is_awaited((peer, topic)) {
            self.trials.end((peer, topic));
        }
        let most = self.config.trial.messages_max;
        if let Some(known) = self.use_of(topic, peer) {
            known.has_brought();
            if passed {
                known.failures = 0;
                known.patience = known.patience.saturating_mul(2).min(most);
            }
        }
    }

    /// A copy of an accepted message has come from a peer, however late. Whether the peer was tried by it in vain: then that is half of a failure.
    pub(super) fn note_late(&mut self, topic: TopicIndex, peer: PeerHandle, key: Fingerprint) -> bool {
        let in_vain = &mut self.trials.in_vain;
        if in_vain.is_empty() {
            return false;
        }
        let Some(tried) = in_vain.get(&(peer, topic)).copied().filter(|tried| tried.key == key) else { return false };
        in_vain.remove(&(peer, topic));
        if let Some(trial) = self.trials.awaited((peer, topic)) {
            trial.late = true;
        } else if let Some(known) = self.use_of(topic, peer).filter(|_| tried.counted) {
            known.failures = known.failures.saturating_sub(WHOLE / 2);
        }
        true
    }

    /// What a peer was tried by in vain has come from it when we had sent it: the peer held it back from us.
    pub(super) fn note_crossing(&mut self, topic: TopicIndex, peer: PeerHandle, out: &mut impl Sink<Output>) {
        if !self.is_outbound(peer) {
            return;
        }
        if let Some(known) = self.use_of(topic, peer) {
            known.spared = SPARED;
        }
        // Where there are many messages the next trial has begun before the copy could come: of that one the same may be true.
        if !self.trials.is_awaited((peer, topic))
            && let Some(mut trial) = self.trials.end((peer, topic))
        {
            self.send_held(peer, &mut trial, out);
        }
    }

    /// Ends the trials by this message without a verdict, and takes back what was said by it against others: who does not send it may have reason to
    /// refuse it. Each is tried by one of the next two instead.
    pub(super) fn void_trials(&mut self, id: &MessageId, out: &mut impl Sink<Output>) {
        let key = self.seen.fingerprint(id);
        let by_it = self.trials.by_link.iter().filter(|(_, trial)| trial.key == key);
        for (peer, topic) in by_it.map(|(link, _)| *link).collect::<Vec<_>>() {
            let Some(mut trial) = self.trials.end((peer, topic)) else { continue };
            self.send_held(peer, &mut trial, out);
            let soon = 1 + u8::from(self.random.trial.below(2) == 1);
            if let Some(known) = self.use_of(topic, peer) {
                known.tried_in = soon;
            }
        }
        let in_vain = self.trials.in_vain.extract_if(.., |_, tried| tried.key == key && tried.counted);
        for (peer, topic) in in_vain.map(|(link, _)| link).collect::<Vec<_>>() {
            if let Some(known) = self.use_of(topic, peer) {
                known.failures = known.failures.saturating_sub(WHOLE);
            }
        }
    }

    /// Sends what was held back from a peer, which may depend on us.
    fn send_held(&mut self, peer: PeerHandle, trial: &mut Trial, out: &mut impl Sink<Output>) {
        let Some(payload) = trial.held.take() else { return };
        let mut sent = 0;
        self.recent.spread(trial.key, [peer], |peer| {
            sent += 1;
            send(out, peer, Frame::Publish { payload: payload.clone(), class: Class::Forward });
        });
        self.counters.messages_sent += sent;
    }

    /// Begins to try suspects of the mesh by this message, of which silences were counted: who has it is no suspect.
    pub(super) fn begin_trials(&mut self, now: Time, topic: TopicIndex, key: Fingerprint, payload: &Arc<Payload>) {
        if self.config.trial.messages == 0 || !self.states[topic.index()].uses.iter().any(Use::is_suspect) {
            return;
        }
        let Self { states, random, trials, .. } = self;
        let state = &mut states[topic.index()];
        let mut tried = Vec::new();
        for (peer, known) in state.mesh.iter().zip(&mut state.uses) {
            // Who became suspect by this very message was told that it need not send it.
            let is_tried = known.silent > known.patience && !trials.by_link.contains_key(&(*peer, topic));
            if is_tried && known.is_its_turn(|most| random.trial.below(u64::from(most))) {
                tried.push(*peer);
            }
        }
        for peer in tried {
            let ends = now + self.trial_time(peer);
            let began = self.pulse.lived();
            self.trials.begin(
                (peer, topic),
                Trial { ends, began, key, held: Some(payload.clone()), spoke: false, late: false },
            );
            self.counters.trials += 1;
        }
    }

    fn trial_time(&self, peer: PeerHandle) -> Duration {
        let trial = &self.config.trial;
        self.rtt_of(peer).saturating_mul(trial.round_trips).saturating_add(trial.retransmission).min(trial.time_max)
    }

    /// Ends the trials that are over, and replaces who has failed too often or is gone.
    pub(super) fn end_trials(&mut self, now: Time, out: &mut impl Sink<Output>) {
        while let Some((_, peer, topic)) = self.trials.by_end.first().copied().filter(|(ends, ..)| *ends <= now) {
            let Some(mut trial) = self.trials.end((peer, topic)) else { return };
            let was_awaited = trial.held.is_none();
            if !was_awaited {
                self.trials.in_vain.insert((peer, topic), InVain { key: trial.key, counted: false });
                self.send_held(peer, &mut trial, out);
            }
            let Some(slot) = self.peers.get(peer) else { continue };
            let silence = self.pulse.silence(slot.heard);
            let goes_on =
                if was_awaited { slot.heard.is_after(trial.began) } else { silence < self.trial_time(peer) / 2 };
            // What it said while we were away may have been followed by more that is not read yet.
            if goes_on && (!was_awaited || self.pulse.is_settled()) {
                if was_awaited {
                    // Nothing is to be said against who has brought something since.
                    if let Some(known) = self.use_of(topic, peer).filter(|known| known.is_suspect()) {
                        let fault = match trial {
                            Trial { spoke: false, .. } if known.brought => Fault::StoodStill,
                            Trial { late: true, .. } => Fault::Late,
                            Trial { .. } => Fault::Failed,
                        };
                        self.blame(now, topic, peer, fault, out);
                    }
                } else if !self.pulse.was_away(trial.began) {
                    self.counters.trials_failed += 1;
                    self.blame(now, topic, peer, Fault::Failed, out);
                }
                continue;
            }
            if !was_awaited {
                trial.spoke = slot.heard.is_after(trial.began) && !self.pulse.was_away(trial.began);
                trial.began = self.pulse.lived();
                self.health.turned_bad(peer);
            }
            let left = self.pulse.bearable(&slot.rest.rhythm, slot.heard).saturating_sub(silence);
            let mut look_after = left.clamp(LOOK_MIN, LOOK_MAX);
            if !self.pulse.is_settled() {
                look_after = LOOK_MIN;
            } else if left.is_zero() {
                look_after = LOOK_MAX;
                self.blame(now, topic, peer, Fault::Gone, out);
            }
            // Where there is nobody to take its place it is awaited for longer.
            if self.use_of(topic, peer).is_some() {
                self.trials.begin((peer, topic), Trial { ends: now + look_after, ..trial });
            }
        }
    }

    /// Counts a fault of a peer of the mesh, and replaces it if there were too many.
    fn blame(&mut self, now: Time, topic: TopicIndex, peer: PeerHandle, fault: Fault, out: &mut impl Sink<Output>) {
        let most = self.strikes_max();
        let Some(known) = self.use_of(topic, peer) else { return };
        match fault {
            Fault::Failed => known.failures = known.failures.saturating_add(WHOLE),
            Fault::Late => known.failures = known.failures.saturating_add(WHOLE / 2),
            Fault::StoodStill => known.standstills = known.standstills.saturating_add(1),
            Fault::Gone => {
                let is_news = known.failures < most;
                known.failures = known.failures.saturating_add(most);
                self.counters.peers_gone += u64::from(is_news);
            }
        }
        if fault == Fault::Failed
            && let Some(tried) = self.trials.in_vain.get_mut(&(peer, topic))
        {
            tried.counted = true;
        }
        let Some(known) = self.use_of(topic, peer) else { return };
        let strikes = known.strikes();
        if strikes >= u16::from(most) && !self.replace(now, topic, peer, out) {
            let enough = self.config.degree.target / 2;
            if strikes >= u16::from(most) * 2 && self.useful_links(topic) >= enough {
                let backoff = self.config.prune.surplus_backoff;
                self.prune_for(now, topic, peer, PruneReason::Silent, backoff, out);
            }
        }
    }

    /// Grafts somebody else in place of a peer of the mesh, if there is anybody: see [`super::useful`].
    fn replace(&mut self, now: Time, topic: TopicIndex, peer: PeerHandle, out: &mut impl Sink<Output>) -> bool {
        let other = self.replacement(now, topic);
        if let Some(other) = other {
            self.counters.links_replaced += 1;
            let is_gone_for_now = self.has_fallen_silent(now, topic, peer);
            self.graft(now, topic, other, out);
            if is_gone_for_now {
                let backoff = self.config.prune.surplus_backoff;
                self.prune_for(now, topic, peer, PruneReason::Silent, backoff, out);
            } else {
                self.prune(now, topic, peer, PruneReason::Silent, out);
            }
        }
        other.is_some()
    }

    /// Whether the peer has not brought anything since it entered the mesh.
    pub(super) fn is_newcomer(&self, topic: TopicIndex, peer: PeerHandle) -> bool {
        let state = &self.states[topic.index()];
        state.mesh.binary_search(&peer).is_ok_and(|place| !state.uses[place].brought)
    }

    /// Whether the mesh has as many newcomers as it may have, so that a peer that asks for a place has to wait; for one that announces, those that do.
    /// Where nobody has brought anything, in a young or idle mesh, that says nothing about them.
    pub(super) fn has_newcomers_enough(&self, topic: TopicIndex, peer: PeerHandle) -> bool {
        let (state, tells) = (&self.states[topic.index()], self.has_told(peer));
        let newcomers = state.mesh.iter().zip(&state.uses).filter(|(_, known)| !known.brought).map(|(peer, _)| *peer);
        let (mut all, mut rivals) = (0, 0);
        for newcomer in newcomers {
            all += 1;
            rivals += usize::from(!tells || self.has_told(newcomer));
        }
        self.config.trial.messages > 0 && all < state.uses.len() && rivals >= self.config.degree.newcomers
    }

    /// Whether nothing comes from a peer that has brought a message of late.
    fn has_fallen_silent(&self, now: Time, topic: TopicIndex, peer: PeerHandle) -> bool {
        let Some(slot) = self.peers.get(peer) else { return false };
        let is_silent = self.pulse.silence(slot.heard) >= self.config.pulse.silence_min;
        is_silent && slot.rest.links[topic.index()].brought_at.is_some_and(|at| now.since(at) <= OF_LATE)
    }

    /// Links of the mesh that are not suspect.
    fn useful_links(&self, topic: TopicIndex) -> usize {
        self.states[topic.index()].uses.iter().filter(|known| !known.is_suspect()).count()
    }
}

impl Use {
    fn has_brought(&mut self) {
        (self.silent, self.standstills, self.tried_in, self.spared, self.brought) = (0, 0, 0, 0, true);
    }

    /// What counts against the peer.
    fn strikes(&self) -> u16 {
        u16::from(self.failures) + u16::from(self.standstills)
    }

    /// Whether a suspect is tried by this message, where chance draws a number below the one it is given.
    fn is_its_turn(&mut self, below: impl FnOnce(u8) -> u64) -> bool {
        if self.spared > 0 {
            self.spared -= 1;
            return false;
        }
        if self.tried_in == 0 {
            let within = match (self.failures, self.standstills) {
                (0, 0) => TRIED_WITHIN,
                (0, _) => HEARD_AGAIN_WITHIN,
                _ => TRIED_AGAIN_WITHIN,
            };
            self.tried_in = 1 + u8::try_from(below(within)).unwrap_or(0);
        }
        self.tried_in -= 1;
        self.tried_in == 0
    }

    /// Whether the peer has been silent for long.
    pub(super) fn is_suspect(&self) -> bool {
        self.silent >= self.patience
    }
}
