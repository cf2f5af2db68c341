//! GRAFT and PRUNE: who is in the mesh, who must keep away from it, and peer exchange (gossipsub v1.0 "Mesh
//! construction"; v1.1 "Prune Backoff and Peer Exchange", "Spam protection measures").
//!
//! Rules for a received GRAFT, in order:
//!
//! 1. For a topic that we do not know or have not joined it is ignored, without a PRUNE (GHSA-vrx6-jcp8-vm7m).
//!    *Rationale:* an answer would be an amplifier, and would tell what we are not subscribed to.
//! 2. From a direct peer it is refused: direct peers are outside the mesh.
//! 3. Within a backoff it is refused, costs a penalty, and another when the PRUNE was less than `flood_window` ago; the
//!    backoff starts anew.
//! 4. With a negative score, in all or on the topic, it is refused, without peer exchange.
//! 5. At D_high and above it is refused unless we dialled the peer. *Rationale:* otherwise whoever dials us most takes over
//!    our mesh; links that we chose cannot be forced on us.
//! 6. At D_low and above it is refused unless we dialled the peer, while there is a *newcomer* in the mesh: a peer that has not brought
//!    anything since it came, although others have. *Rationale:* it takes some messages to find out that a peer is of no use
//!    ([`super::trial`]), so that whoever comes in numbers and again and again would always have some places of a mesh; like this it is one.
//!    A peer that does its part brings something within a few messages, or passes its first trial. Who has announced a recent message has a place of its own, beside a newcomer that has
//!    not ([`super::useful`]): otherwise silent attackers that ask all the time take every place that becomes free.
//! 7. A peer that has proven useful before is taken all the same, in place of somebody else ([`super::proven`]).
//!
//! A refusal is a PRUNE and sets the backoff. A received PRUNE takes the peer out of our mesh and sets the backoff that it
//! names, clamped at decode and added with saturation (CVE-2026-33040, CVE-2026-34219). A PRUNE for a topic that we have
//! not joined is ignored. Its peers are passed on only when the pruner's score is high enough, and once for each time that it enters our mesh. *Rationale:* an offer has to be
//! verified, sixteen signatures of it; whoever pleased would have us do that hundreds of times with one RPC.

use super::backoff::Violation;
use super::io::{Output, PruneReason, Sink};
use super::topic::TopicIndex;
use super::upkeep::REFUSAL_TIME;
use super::{Mesh, send};
use crate::id::{Direction, PeerHandle, Topic, Version};
use crate::rpc::{ExchangedPeer, Frame, Prune};
use crate::time::{Duration, Time};

impl Mesh {
    /// Whether the peer could be in our mesh of the topic: it wants the messages and nothing speaks against it.
    pub(super) fn is_eligible(&self, topic: TopicIndex, peer: PeerHandle) -> bool {
        self.peers.get(peer).is_some_and(|slot| slot.subscribed.contains(topic) && !slot.direct && !slot.closing)
            && self.has_merit(topic, peer)
    }

    /// Whether the peer's score is not negative, neither in all nor on the topic.
    pub(super) fn has_merit(&self, topic: TopicIndex, peer: PeerHandle) -> bool {
        self.scores.has_merit(peer, topic)
    }

    /// Whether we may add the peer to our mesh of the topic now.
    pub(super) fn may_graft(&self, now: Time, topic: TopicIndex, peer: PeerHandle) -> bool {
        self.is_eligible(topic, peer)
            && self.peers.get(peer).is_some_and(|slot| {
                !slot.mesh.contains(topic) && !self.backoffs.forbids_grafting(now, topic, &slot.rest.id)
            })
    }

    /// All peers that we may add to our mesh now, in the order of slots.
    pub(super) fn graft_candidates(&self, now: Time, topic: TopicIndex) -> Vec<PeerHandle> {
        self.peers.iter().map(|slot| slot.handle).filter(|peer| self.may_graft(now, topic, *peer)).collect()
    }

    /// Up to `count` peers to add to the mesh: a share of them, `near / D`, of the lowest round-trip times, the others at
    /// random.
    pub(super) fn choose_grafts(&mut self, now: Time, topic: TopicIndex, count: usize) -> Vec<PeerHandle> {
        if count == 0 {
            return Vec::new();
        }
        let candidates = self.graft_candidates(now, topic);
        self.choose_among(candidates, count)
    }

    /// As [`Mesh::choose_grafts`], among these peers.
    pub(super) fn choose_among(&mut self, mut random: Vec<PeerHandle>, count: usize) -> Vec<PeerHandle> {
        let degree = &self.config.degree;
        let (whole, rest) = (count * degree.near / degree.target, count * degree.near % degree.target);
        let near_count = whole + usize::from(self.random.graft.chance(rest as u64, degree.target as u64));
        // Ties, and peers that were never measured, fall in random order.
        self.random.graft.shuffle(&mut random);
        let mut near: Vec<PeerHandle> =
            random.iter().copied().filter(|peer| self.rtt_of(*peer) < Duration::MAX).collect();
        near.sort_by_key(|peer| self.rtt_of(*peer));
        near.truncate(near_count);
        random.retain(|peer| !near.contains(peer));
        random.truncate(count - near.len());
        near.extend(random);
        near
    }

    /// Adds the peer to our mesh and tells it.
    pub(super) fn graft(&mut self, now: Time, topic: TopicIndex, peer: PeerHandle, out: &mut impl Sink<Output>) {
        if self.insert_into_mesh(now, topic, peer, out) {
            if let Some(slot) = self.peers.get_mut(peer) {
                slot.rest.links[topic.index()].sought = true;
            }
            self.counters.grafts_sent += 1;
            send(out, peer, Frame::Graft(self.topics.name(topic).clone()));
        }
    }

    /// Removes the peer from our mesh and tells it.
    pub(super) fn prune(
        &mut self,
        now: Time,
        topic: TopicIndex,
        peer: PeerHandle,
        reason: PruneReason,
        out: &mut impl Sink<Output>,
    ) {
        let prune = self.config.prune;
        let backoff = match reason {
            PruneReason::Unsubscribed => prune.unsubscribe_backoff,
            PruneReason::Silent => self.silent_backoff(now, topic, peer, !self.is_newcomer(topic, peer)),
            _ => prune.backoff,
        };
        self.prune_for(now, topic, peer, reason, backoff, out);
    }

    /// For how long a peer that was tried in vain is kept out of our mesh: longer each time that it has brought nothing.
    fn silent_backoff(&mut self, now: Time, topic: TopicIndex, peer: PeerHandle, brought: bool) -> Duration {
        let prune = self.config.prune;
        match self.peers.get(peer).filter(|_| !brought).map(|slot| slot.rest.id) {
            Some(id) => self.backoffs.set_growing(now, topic, id, prune.backoff, prune.silent_backoff_max),
            None => prune.backoff,
        }
    }

    /// Tells a peer that has left our mesh by itself, and was tried in vain too often, to keep away from it.
    pub(super) fn keep_away(
        &mut self,
        now: Time,
        topic: TopicIndex,
        peer: PeerHandle,
        brought: bool,
        out: &mut impl Sink<Output>,
    ) {
        let backoff = self.silent_backoff(now, topic, peer, brought);
        self.send_prune(now, topic, peer, backoff, false, out);
    }

    /// As [`Mesh::prune`], keeping the two apart for this long.
    pub(super) fn prune_for(
        &mut self,
        now: Time,
        topic: TopicIndex,
        peer: PeerHandle,
        reason: PruneReason,
        backoff: Duration,
        out: &mut impl Sink<Output>,
    ) {
        if self.remove_from_mesh(now, topic, peer, reason, out) {
            let exchange = matches!(reason, PruneReason::Excess | PruneReason::Unsubscribed);
            self.send_prune(now, topic, peer, backoff, exchange, out);
        }
    }

    /// Tells the peer to keep out of our mesh, and keeps out of its mesh ourselves.
    fn send_prune(
        &mut self,
        now: Time,
        topic: TopicIndex,
        peer: PeerHandle,
        backoff: Duration,
        exchange: bool,
        out: &mut impl Sink<Output>,
    ) {
        let Some(slot) = self.peers.get(peer) else { return };
        let (id, version) = (slot.rest.id, slot.version);
        self.backoffs.set(now, topic, id, backoff);
        let (backoff_seconds, peers) = if version == Version::V1_0 {
            (None, Vec::new())
        } else {
            let offer = exchange && self.config.exchange.offer && self.has_merit(topic, peer);
            (Some(backoff.as_secs()), if offer { self.exchange_offer(topic, peer) } else { Vec::new() })
        };
        self.counters.prunes_sent += 1;
        let topic = self.topics.name(topic).clone();
        send(out, peer, Frame::Prune(Prune { topic, backoff_seconds, peers }));
    }

    /// Other peers of the topic for the pruned one, at random: those of merit whose signed record we have.
    fn exchange_offer(&mut self, topic: TopicIndex, pruned: PeerHandle) -> Vec<ExchangedPeer> {
        let exchange = self.config.exchange;
        let mut others: Vec<PeerHandle> = self
            .peers
            .iter()
            .filter(|slot| slot.handle != pruned && slot.rest.record.is_some())
            .map(|slot| slot.handle)
            .filter(|peer| self.is_eligible(topic, *peer))
            .collect();
        self.random.exchange.sample(&mut others, exchange.peers_max);
        let mut bytes = 0;
        let mut offer = Vec::new();
        for slot in others.into_iter().filter_map(|peer| self.peers.get(peer)) {
            bytes += slot.rest.record.as_ref().map_or(0, bytes::Bytes::len);
            if bytes > exchange.offer_bytes_max {
                break;
            }
            offer.push(ExchangedPeer { id: slot.rest.id, signed_record: slot.rest.record.clone() });
        }
        offer
    }

    pub(super) fn grafts(&mut self, now: Time, peer: PeerHandle, topics: &[Topic], out: &mut impl Sink<Output>) {
        // Exchange is refused to a peer that asks for what it should not, even on its other topics (as go does).
        let mut exchange = true;
        for topic in topics {
            let Some(index) = self.topics.find(topic).filter(|index| self.states[index.index()].joined) else {
                self.counters.grafts_ignored += 1;
                exchange = false;
                continue;
            };
            match self.judge_graft(now, index, peer) {
                GraftAnswer::Nothing => {}
                GraftAnswer::Accept => {
                    if let Some(slot) = self.peers.get_mut(peer) {
                        slot.subscribed.insert(index);
                    }
                    if self.is_proven(peer) && self.wants_proven(index) {
                        self.make_room_for_proven(now, index, out);
                    }
                    self.insert_into_mesh(now, index, peer, out);
                }
                GraftAnswer::NoRoom => {
                    self.counters.grafts_refused += 1;
                    self.send_prune(now, index, peer, self.config.prune.no_room_backoff, exchange, out);
                }
                GraftAnswer::Refuse { penalties } => {
                    exchange = false;
                    self.counters.grafts_refused += 1;
                    self.scores.penalize(peer, penalties);
                    self.send_prune(now, index, peer, self.config.prune.backoff, exchange, out);
                }
            }
        }
    }

    fn judge_graft(&self, now: Time, topic: TopicIndex, peer: PeerHandle) -> GraftAnswer {
        let Some(slot) = self.peers.get(peer).filter(|slot| !slot.closing && !slot.mesh.contains(topic)) else {
            return GraftAnswer::Nothing;
        };
        if slot.direct {
            return GraftAnswer::Refuse { penalties: 0 };
        }
        if let Some(violation) = self.backoffs.violation(now, topic, &slot.rest.id) {
            let penalties = match violation {
                Violation::Early => 1,
                Violation::Flood => 2,
            };
            return GraftAnswer::Refuse { penalties };
        }
        if !self.has_merit(topic, peer) {
            return GraftAnswer::Refuse { penalties: 0 };
        }
        let (links, degree) = (self.states[topic.index()].mesh.len(), &self.config.degree);
        let full = links >= degree.high || links >= degree.low && self.has_newcomers_enough(topic, peer);
        if full && slot.direction == Direction::Inbound && !(self.is_proven(peer) && self.wants_proven(topic)) {
            return GraftAnswer::NoRoom;
        }
        GraftAnswer::Accept
    }

    pub(super) fn prunes(&mut self, now: Time, peer: PeerHandle, prunes: &[Prune], out: &mut impl Sink<Output>) {
        for prune in prunes {
            let Some(index) = self.topics.find(&prune.topic).filter(|index| self.states[index.index()].joined) else {
                self.counters.prunes_ignored += 1;
                continue;
            };
            let Some(slot) = self.peers.get_mut(peer) else { return };
            let link = &mut slot.rest.links[index.index()];
            let refused = now.since(link.grafted_at) < REFUSAL_TIME;
            let may_offer = !prune.peers.is_empty() && core::mem::take(&mut link.may_offer);
            let sought = link.sought;
            let backoff = match prune.backoff_seconds {
                Some(seconds) if seconds > 0 => Duration::from_secs(seconds),
                _ => self.config.prune.backoff,
            };
            self.backoffs.set(now, index, slot.rest.id, backoff);
            // Whom we asked and who has no room was never in: what happened meanwhile says nothing of it.
            let left = if refused && sought {
                self.take_from_mesh(now, index, peer, PruneReason::ByPeer, out).is_some()
            } else {
                self.peer_left_mesh(now, index, peer, PruneReason::ByPeer, out)
            };
            if left && !refused {
                self.refill_mesh(now, index, out);
            }
            let believed = || !self.scores.is_below(peer, self.scores.thresholds().accept_peer_exchange);
            if may_offer && believed() {
                let candidates = prune.peers.iter().take(self.config.exchange.peers_max).cloned().collect();
                out.emit(Output::PeerExchangeCandidates { peer, candidates });
            }
        }
    }
}

/// What to do about a received GRAFT.
enum GraftAnswer {
    /// It is in the mesh already, or nobody we talk to.
    Nothing,
    Accept,
    /// Refused for no fault of the peer; others may be offered to it.
    NoRoom,
    Refuse {
        /// Behaviour penalties that it costs.
        penalties: u32,
    },
}
