//! IHAVE and IWANT: announcing to peers outside the mesh and pulling what the mesh did not bring (gossipsub v1.0 "Gossip";
//! v1.1 "Adaptive Gossip Dissemination", "Spam Protection Measures").
//!
//! **Announcing.** Each heartbeat, the ids of the last `gossip_windows` windows go to peers of the topic outside the mesh:
//! to `factor_percent` of them, at least D_lazy. Those that were passed over for longest come first, in random order among
//! equals; who has just connected takes a place among those who wait by chance. What counts is how often something was announced, not time.
//! The share is such that everybody has a turn while a message is announced, which a quarter, the spec's, would not be with three windows; and whoever
//! would miss a message otherwise, because others have come, left the mesh, or come back, has a turn beside the share. A share that could not be enough, one below a hundredth
//! by the number of windows, is kept to.
//! A frame names at most [`IHAVE_IDS_PER_FRAME`] ids.
//! *Rationale:* with a fresh draw each time a peer that has only one honest link, outside the mesh, misses a message whenever
//! it is passed over in all windows; by turns it hardly can be, as long as those who are announced to in all windows cover the peers outside.
//! A newcomer whose neighbours all put it last, because it came to all of them at the same time, would hear of nothing until all others had had
//! their turns; and while there is nothing to announce nobody waits. Who comes back right after each turn gains less than one more turn for each that it has,
//! at the price of its places in meshes, and those who have waited for longest go before it in any case. A peer that enters the mesh is announced the same ids at once. *Rationale:* it comes
//! too late for their push and too early for their announcement. Older messages can be [offered](super::Input::Offer) to a single peer.
//!
//! **Pulling.** An announced message that we have not seen goes on file with [`super::promises`], which says whom to ask
//! for it and when, and who broke a promise; a broken promise costs one penalty (P7). Of each peer, per heartbeat,
//! `ihave_messages_max` announcements are looked at and `ihave_ids_max` ids are taken up.
//!
//! **Serving.** A message is served to a peer at most `retransmissions_max` times, not if the peer said IDONTWANT, and
//! within budgets of ids and bytes per heartbeat. The byte budget is what keeps a small request from costing us an
//! unbounded upload. Whoever asks for far more than can have been announced to it is penalised at the heartbeat (P7), once for each whole
//! `iwant_ids_max` of ids beyond the first. *Rationale:* an honest peer asks for what we announce, which is no more, and for twice as much at most,
//! when what we announce at two heartbeats reaches it together; where our own heartbeat or the one before it was late, for as many more as it was late by.

use super::Mesh;
use super::io::{Output, Sink};
use super::peers::{PeerSlot, Told};
use super::recent::Fate;
use super::seen::SeenState;
use super::send;
use super::topic::TopicIndex;
use crate::id::{MessageId, PeerHandle, Topic};
use crate::message::Payload;
use crate::rpc::{Class, Frame, IHave};
use crate::time::Time;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Ids in one IHAVE or IWANT frame: 500 ids of 22 bytes stay below the 16 KiB of control in one RPC that the rust
/// implementation allows, with room for what the queue puts beside them.
pub(super) const IHAVE_IDS_PER_FRAME: usize = 500;

impl Mesh {
    /// Takes in announcements.
    pub(super) fn ihave(&mut self, now: Time, peer: PeerHandle, announcements: &[IHave]) {
        let ids = announcements.iter().map(|announced| announced.ids.len() as u64);
        self.counters.ihave_received += ids.sum::<u64>();
        let Some(slot) = self.peers.get(peer).filter(|slot| self.gossips(slot)) else { return };
        let (mut budget, mut told) = (slot.budget, slot.told);
        let limits = self.config.gossip;
        for IHave { topic, ids } in announcements {
            budget.ihave_messages = budget.ihave_messages.saturating_add(1);
            if budget.ihave_messages > limits.ihave_messages_max {
                self.counters.ihave_excess += 1;
                continue;
            }
            if self.topics.find(topic).is_none_or(|topic| !self.states[topic.index()].joined) {
                continue;
            }
            for id in ids {
                if budget.asked_ids >= limits.ihave_ids_max {
                    self.counters.ihave_excess += 1;
                    break;
                }
                let key = self.seen.fingerprint(id);
                let known = self.recent.is_known(key) || self.seen.peek(key).is_some();
                if known && told != Told::Now && matches!(self.recent.fate(key), Fate::Accepted(_)) {
                    told = Told::Now;
                }
                if !known && self.promises.announced(now, *id, peer) {
                    budget.asked_ids += 1;
                }
            }
        }
        if let Some(slot) = self.peers.get_mut(peer) {
            (slot.budget, slot.told) = (budget, told);
        }
    }

    /// Asks for what is due, one batch per peer, and notes the promises that are broken by now, which are charged at the heartbeat.
    pub(super) fn pull_due(&mut self, now: Time, out: &mut impl Sink<Output>) {
        if self.promises.next_due().is_none_or(|due| due > now) {
            return;
        }
        let due = self.promises.due(now);
        for (peer, ids) in due.requests {
            for batch in ids.chunks(IHAVE_IDS_PER_FRAME) {
                self.counters.ids_pulled += batch.len() as u64;
                send(out, peer, Frame::IWant(batch.into()));
            }
        }
        for (peer, count) in due.broken {
            self.counters.promises_broken += u64::from(count);
            self.health.broke(peer, count);
        }
    }

    /// Serves requests.
    pub(super) fn iwant(&mut self, peer: PeerHandle, ids: &[MessageId], out: &mut impl Sink<Output>) {
        self.counters.iwant_received += ids.len() as u64;
        let Some(slot) = self.peers.get_mut(peer) else { return };
        let limits = self.config.gossip;
        let left = limits.iwant_ids_max.saturating_sub(slot.budget.iwant_ids) as usize;
        let taken = ids.len().min(left);
        let asked = u32::try_from(ids.len()).unwrap_or(u32::MAX);
        slot.budget.iwant_ids = slot.budget.iwant_ids.saturating_add(asked);
        self.counters.iwant_excess += (ids.len() - taken) as u64;
        if !self.peers.get(peer).is_some_and(|slot| self.gossips(slot)) {
            return;
        }
        // Within one RPC an id is asked for once.
        let mut repeated = BTreeSet::new();
        for id in &ids[..taken] {
            let Some(slot) = self.peers.get_mut(peer) else { return };
            let key = self.seen.fingerprint(id);
            if self.recent.is_refused_by(key, peer.slot) || !repeated.insert(*id) {
                continue;
            }
            if slot.budget.served_bytes as usize >= limits.iwant_bytes_max {
                self.counters.iwant_excess += 1;
                continue;
            }
            let Some((payload, transmissions)) = self.cache.transmit(key, peer) else { continue };
            if transmissions > limits.retransmissions_max {
                self.counters.iwant_excess += 1;
                continue;
            }
            let bytes = u32::try_from(payload.encoded().len()).unwrap_or(u32::MAX);
            slot.budget.served_bytes = slot.budget.served_bytes.saturating_add(bytes);
            self.counters.messages_served += 1;
            self.recent.note(key, peer.slot);
            send(out, peer, Frame::Publish { payload, class: Class::Reply });
        }
    }

    /// Announces the topic's recent messages to some of its peers that are not in the mesh, or on a topic that we have not joined, not in
    /// the fanout.
    pub(super) fn emit_gossip(&mut self, topic: TopicIndex, out: &mut impl Sink<Output>) {
        let name = self.topics.name(topic).clone();
        let mut ids = self.cache.gossip_ids(&name);
        if ids.is_empty() {
            return;
        }
        let state = &self.states[topic.index()];
        let fanout = state.fanout.as_ref().map_or(&[][..], |fanout| &fanout.peers);
        // With the number of its last turn, which decides the order.
        let mut outside: Vec<(u64, PeerHandle)> = Vec::with_capacity(self.peers.len());
        let takers = self.peers.iter().filter(|slot| Self::takes_gossip(slot, topic) && !slot.mesh.contains(topic));
        for slot in takers.filter(|slot| self.gossips(slot)) {
            if fanout.is_empty() || fanout.binary_search(&slot.handle).is_err() {
                outside.push((state.announced_at[slot.handle.index()], slot.handle));
            }
        }
        let share = self.announced_at_once(outside.len()).max(self.overdue(topic, &outside));
        self.random.gossip.shuffle(&mut outside);
        let outside = first_by_turn(&outside, share);
        self.states[topic.index()].announcements += 1;
        let ids_max = self.config.gossip.ihave_ids_max as usize;
        self.random.gossip.shuffle(&mut ids);
        let shared = frames(&name, &ids[..ids.len().min(ids_max)]);
        for peer in outside {
            let state = &mut self.states[topic.index()];
            state.announced_at[peer.index()] = state.announcements;
            // With more ids than one peer takes, different peers get different ones.
            let own = (ids.len() > ids_max).then(|| {
                self.random.gossip.shuffle(&mut ids);
                frames(&name, &ids[..ids_max])
            });
            for frame in own.as_ref().unwrap_or(&shared) {
                out.send(peer, frame);
            }
            self.counters.ids_announced += ids.len().min(ids_max) as u64;
        }
    }

    /// Announces the topic's recent messages to a peer that enters the mesh: those that went to the mesh before and are not
    /// announced to the mesh later.
    pub(super) fn announce_to_newcomer(&mut self, topic: TopicIndex, peer: PeerHandle, out: &mut impl Sink<Output>) {
        let name = self.topics.name(topic).clone();
        let mut ids = self.cache.gossip_ids(&name);
        ids.truncate(self.config.gossip.ihave_ids_max as usize);
        self.counters.ids_announced += ids.len() as u64;
        for frame in frames(&name, &ids) {
            send(out, peer, frame);
        }
    }

    /// Announces what we vouch for to a peer that may lack it, and keeps it to be served.
    pub(super) fn offer(
        &mut self,
        now: Time,
        peer: PeerHandle,
        payloads: &[Arc<Payload>],
        out: &mut impl Sink<Output>,
    ) {
        let Some(slot) = self.peers.get(peer).filter(|slot| !slot.closing && self.gossips(slot)) else { return };
        let (peer, most) = (slot.handle, self.config.gossip.ihave_ids_max as usize);
        let Some(topic) = payloads.first().map(|payload| payload.topic().clone()) else { return };
        let mut ids = Vec::new();
        for payload in payloads.iter().take(most) {
            let key = self.seen.fingerprint(&payload.id());
            match self.state_of(key) {
                Some(SeenState::Accepted) => {}
                // It was seen so long ago that it is forgotten. Who sends it back is not to be judged by it.
                None => self.seen.accept(now, key),
                Some(SeenState::Pending | SeenState::Ignored | SeenState::Rejected) => continue,
            }
            self.cache.keep(key, payload);
            ids.push(payload.id());
        }
        self.counters.ids_announced += ids.len() as u64;
        for frame in frames(&topic, &ids) {
            send(out, peer, frame);
        }
    }

    /// To how many of so many peers is announced at a heartbeat.
    fn announced_at_once(&self, outside: usize) -> usize {
        (outside * self.config.gossip.factor_percent).div_ceil(100).max(self.config.degree.lazy)
    }

    /// How many of them have to be announced to now, or else something of this moment or before will never be.
    fn overdue(&self, topic: TopicIndex, outside: &[(u64, PeerHandle)]) -> usize {
        let windows = self.config.cache.gossip_windows;
        if self.config.gossip.factor_percent * windows < 100 {
            return 0;
        }
        let this = self.states[topic.index()].announcements + 1;
        outside.iter().filter(|(turn, _)| this.saturating_sub(*turn) >= windows as u64).count()
    }

    /// Gives a peer that has just connected a place among those who wait for an announcement.
    pub(super) fn queue_for_gossip(&mut self, peer: PeerHandle) {
        let turns = self.peers.len().div_ceil(self.announced_at_once(self.peers.len()).max(1)) as u64;
        let Self { states, random, .. } = self;
        for state in states {
            let slots = state.announced_at.len().max(peer.index() + 1);
            state.announced_at.resize(slots, 0);
            state.announced_at[peer.index()] = state.announcements.saturating_sub(random.gossip.below(turns));
        }
    }

    fn takes_gossip(slot: &PeerSlot, topic: TopicIndex) -> bool {
        slot.subscribed.contains(topic) && !slot.direct && !slot.closing
    }
}

/// So many peers whose last turn is longest ago, in the order of their turns and among equals in the given order. There are few different
/// turns, so going through the list for each of them that is needed takes less than sorting it.
fn first_by_turn(peers: &[(u64, PeerHandle)], count: usize) -> Vec<PeerHandle> {
    let mut first = Vec::with_capacity(count.min(peers.len()));
    let mut next = peers.iter().map(|(turn, _)| *turn).min();
    while let Some(turn) = next.filter(|_| first.len() < count) {
        let of_turn = peers.iter().filter(|(other, _)| *other == turn).map(|(_, peer)| *peer);
        first.extend(of_turn.take(count - first.len()));
        next = peers.iter().map(|(other, _)| *other).filter(|other| *other > turn).min();
    }
    first
}

fn frames(topic: &Topic, ids: &[MessageId]) -> Vec<Frame> {
    ids.chunks(IHAVE_IDS_PER_FRAME).map(|ids| Frame::IHave { topic: topic.clone(), ids: ids.into() }).collect()
}
