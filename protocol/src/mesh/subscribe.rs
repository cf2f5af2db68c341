//! Connections, our own subscriptions and the peers' (gossipsub v1.0, "Peering" and "Topic membership").
//!
//! A new peer is told at once what we are subscribed to. A peer that subscribes while our mesh is below D_low is grafted
//! at once, without waiting for the heartbeat: a network that starts up has its meshes after one round trip.
//!
//! Joining a topic takes over the fanout and respects a backoff still in force (jvm-libp2p#472): the PRUNE that set it may be
//! younger than our leaving. Leaving sends PRUNE with the unsubscribe backoff to the mesh.

use super::io::{Event, Output, PruneReason, Sink};
use super::peers::{Budget, PeerRest, PeerSlot, Told, TopicLink};
use super::pulse::Rhythm;
use super::topic::{TopicIndex, TopicSet};
use super::trial::Use;
use super::{Mesh, send};
use crate::id::{Direction, PeerHandle, PeerId, Topic, Version};
use crate::rpc::{Frame, Subscription};
use crate::time::Time;
use std::net::IpAddr;

/// What is said of a peer when it connects.
#[derive(Clone, Copy)]
pub(super) struct Arrived {
    pub(super) peer: PeerHandle,
    pub(super) id: PeerId,
    pub(super) ip: IpAddr,
    pub(super) direction: Direction,
    pub(super) version: Version,
}

impl Mesh {
    pub(super) fn connected(&mut self, now: Time, arrived: Arrived, out: &mut impl Sink<Output>) {
        let Arrived { peer, id, ip, direction, version } = arrived;
        if let Some(former) = self.peers.occupant(peer.slot) {
            self.disconnected(now, former, out);
        }
        self.scores.connected(now, peer, id, ip);
        self.gater.connected(peer, ip);
        self.peers.insert(PeerSlot {
            handle: peer,
            direction,
            version,
            direct: self.config.direct_peers.contains(&id),
            told: Told::Nothing,
            closing: false,
            subscribed: TopicSet::default(),
            mesh: TopicSet::default(),
            pending: 0,
            duplicates: 0,
            slow_ticks: 0,
            overflowed: false,
            heard: self.pulse.lived(),
            budget: Budget::default(),
            rest: Box::new(PeerRest {
                id,
                ip,
                rtt: None,
                record: None,
                rhythm: Rhythm::new(self.pulse.lived()),
                links: vec![TopicLink::NEVER; self.topics.len()],
            }),
        });
        self.queue_for_gossip(peer);
        for topic in self.topics.iter() {
            if self.states[topic.index()].joined {
                let topic = self.topics.name(topic).clone();
                send(out, peer, Frame::Subscription(Subscription { subscribe: true, topic }));
            }
        }
        // Penalties are remembered across connections.
        self.close_if_graylisted(now, peer, out);
    }

    pub(super) fn disconnected(&mut self, now: Time, peer: PeerHandle, out: &mut impl Sink<Output>) {
        if self.peers.get(peer).is_none() {
            return;
        }
        self.forget_memberships(now, peer, PruneReason::Disconnected, out);
        self.tell_gater();
        self.peers.remove(peer);
        self.recent.disconnected(peer.slot);
        if let Some(count) = self.health.disconnected(peer) {
            self.scores.broken_promises(now, peer, count);
        }
        self.scores.disconnected(now, peer);
        self.gater.disconnected(now, peer);
        for topic in self.topics.iter() {
            self.refill_mesh(now, topic, out);
        }
        self.pull_due(now, out);
    }

    /// Takes the peer out of every mesh and fanout and stops asking it for messages.
    pub(super) fn forget_memberships(
        &mut self,
        now: Time,
        peer: PeerHandle,
        reason: PruneReason,
        out: &mut impl Sink<Output>,
    ) {
        for topic in self.topics.iter() {
            self.remove_from_mesh(now, topic, peer, reason, out);
            if let Some(fanout) = &mut self.states[topic.index()].fanout {
                fanout.peers.retain(|other| *other != peer);
            }
        }
        self.promises.disconnected(peer);
        self.cache.disconnected(peer);
        self.proven.remove(&peer);
    }

    pub(super) fn subscriptions(
        &mut self,
        now: Time,
        peer: PeerHandle,
        subscriptions: &[Subscription],
        out: &mut impl Sink<Output>,
    ) {
        for Subscription { subscribe, topic } in subscriptions {
            let Some(topic) = self.topics.find(topic) else {
                self.counters.topics_unknown += 1;
                continue;
            };
            if *subscribe {
                self.peer_subscribed(now, peer, topic, out);
            } else {
                self.peer_unsubscribed(now, peer, topic, out);
            }
        }
    }

    fn peer_subscribed(&mut self, now: Time, peer: PeerHandle, topic: TopicIndex, out: &mut impl Sink<Output>) {
        let new = self.peers.get_mut(peer).is_some_and(|slot| slot.subscribed.insert(topic));
        let state = &self.states[topic.index()];
        if new && state.joined && state.mesh.len() < self.config.degree.low && self.may_graft(now, topic, peer) {
            self.graft(now, topic, peer, out);
        }
    }

    fn peer_unsubscribed(&mut self, now: Time, peer: PeerHandle, topic: TopicIndex, out: &mut impl Sink<Output>) {
        if let Some(slot) = self.peers.get_mut(peer) {
            slot.subscribed.remove(topic);
        }
        if self.peer_left_mesh(now, topic, peer, PruneReason::Unsubscribed, out) {
            self.refill_mesh(now, topic, out);
        }
        if let Some(fanout) = &mut self.states[topic.index()].fanout {
            fanout.peers.retain(|other| *other != peer);
        }
    }

    /// Joins a topic: announces it to all peers and makes a mesh. Joining twice, or a topic that is not configured, does
    /// nothing.
    pub(super) fn join(&mut self, now: Time, topic: &Topic, out: &mut impl Sink<Output>) {
        let Some(index) = self.topics.find(topic) else {
            self.counters.topics_unknown += 1;
            return;
        };
        let state = &mut self.states[index.index()];
        if state.joined {
            return;
        }
        state.joined = true;
        let fanout = state.fanout.take().map(|fanout| fanout.peers).unwrap_or_default();
        self.announce_subscription(index, true, out);
        for peer in fanout {
            if self.may_graft(now, index, peer) {
                self.graft(now, index, peer, out);
            }
        }
        let missing = self.config.degree.target.saturating_sub(self.states[index.index()].mesh.len());
        for peer in self.choose_grafts(now, index, missing) {
            self.graft(now, index, peer, out);
        }
    }

    /// Leaves a topic: tells all peers, and prunes the mesh.
    pub(super) fn leave(&mut self, now: Time, topic: &Topic, out: &mut impl Sink<Output>) {
        let Some(index) = self.topics.find(topic).filter(|index| self.states[index.index()].joined) else { return };
        self.announce_subscription(index, false, out);
        for peer in self.states[index.index()].mesh.clone() {
            self.prune(now, index, peer, PruneReason::Unsubscribed, out);
        }
        self.states[index.index()].joined = false;
    }

    fn announce_subscription(&self, topic: TopicIndex, subscribe: bool, out: &mut impl Sink<Output>) {
        for slot in self.peers.iter().filter(|slot| !slot.closing) {
            let topic = self.topics.name(topic).clone();
            send(out, slot.handle, Frame::Subscription(Subscription { subscribe, topic }));
        }
    }

    /// Puts the peer into our mesh and announces recent messages to it. False when it is there already.
    pub(super) fn insert_into_mesh(
        &mut self,
        now: Time,
        topic: TopicIndex,
        peer: PeerHandle,
        out: &mut impl Sink<Output>,
    ) -> bool {
        let mesh = &mut self.states[topic.index()].mesh;
        let Err(position) = mesh.binary_search(&peer) else { return false };
        mesh.insert(position, peer);
        self.begin_use(topic, position, peer);
        if let Some(slot) = self.peers.get_mut(peer) {
            if slot.mesh.is_empty() {
                // Outside the mesh it had little to say to us.
                slot.heard = self.pulse.lived();
                slot.rest.rhythm = Rhythm::new(slot.heard);
            }
            slot.mesh.insert(topic);
            let link = &mut slot.rest.links[topic.index()];
            (link.grafted_at, link.sought, link.may_offer) = (now, false, true);
        }
        self.scores.grafted(now, peer, topic);
        out.emit(Output::Event(Event::Grafted { peer, topic: self.topics.name(topic).clone() }));
        self.announce_to_newcomer(topic, peer, out);
        true
    }

    /// Takes the peer out of our mesh, without telling it. False when it is not there.
    pub(super) fn remove_from_mesh(
        &mut self,
        now: Time,
        topic: TopicIndex,
        peer: PeerHandle,
        reason: PruneReason,
        out: &mut impl Sink<Output>,
    ) -> bool {
        let known = self.take_from_mesh(now, topic, peer, reason, out);
        if known.is_some()
            && let Some(slot) = self.peers.get_mut(peer)
        {
            // We part from it with a back-off, after which it begins anew.
            slot.rest.links[topic.index()].left = None;
        }
        known.is_some()
    }

    /// As [`Mesh::remove_from_mesh`], of a peer that has left by itself and may come back.
    pub(super) fn peer_left_mesh(
        &mut self,
        now: Time,
        topic: TopicIndex,
        peer: PeerHandle,
        reason: PruneReason,
        out: &mut impl Sink<Output>,
    ) -> bool {
        let known = self.take_from_mesh(now, topic, peer, reason, out);
        if let Some(known) = known {
            self.remember_use(now, topic, peer, known, out);
        }
        known.is_some()
    }

    /// Takes the peer out of our mesh, and tells what was known of its use; what was known before it entered stays. None when it is not there.
    pub(super) fn take_from_mesh(
        &mut self,
        now: Time,
        topic: TopicIndex,
        peer: PeerHandle,
        reason: PruneReason,
        out: &mut impl Sink<Output>,
    ) -> Option<Use> {
        let mesh = &mut self.states[topic.index()].mesh;
        let position = mesh.binary_search(&peer).ok()?;
        mesh.remove(position);
        let known = self.end_use(topic, position, peer);
        // What was to be announced was pushed to it.
        let state = &mut self.states[topic.index()];
        if let Some(turn) = state.announced_at.get_mut(peer.index()) {
            *turn = state.announcements;
        }
        if let Some(slot) = self.peers.get_mut(peer) {
            slot.mesh.remove(topic);
        }
        self.scores.pruned(now, peer, topic);
        out.emit(Output::Event(Event::Pruned { peer, topic: self.topics.name(topic).clone(), reason }));
        Some(known)
    }
}
