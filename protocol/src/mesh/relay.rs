//! Receiving, validating, publishing and forwarding messages, and IDONTWANT (gossipsub v1.0 "Message processing"; v1.1
//! "Flood Publishing", "Extended Validators"; v1.2).
//!
//! A message goes through these steps:
//!
//! 1. **Seen?** A copy of a known message is a duplicate and costs a look-up. It may count for its sender's score, if it is
//!    among the copies that arrive during validation or within a window after it, and we had not sent the message there.
//! 2. **Announced as unwanted.** A large first copy makes us tell all other mesh peers, before validation, that they
//!    need not send theirs (v1.2: "as soon as they receive").
//! 3. **Validated** outside, once. The bound on validations under way sheds the newest message: it is forgotten, so that a
//!    later copy or an announcement can bring it back. After that, for a while, the gater turns away more from senders of
//!    what we do not accept, and at any time what comes from those who bring much that is ignored ([`super::score::gater`]). A verdict that does not come in time counts as Ignore.
//! 4. **Accepted**: remembered, kept for serving, credited, delivered, and forwarded to the mesh and to direct peers, but
//!    not to whom it came from, who said IDONTWANT, or who has it for certain.
//!
//! What a peer sent first and nobody has judged yet when it is sent away is abandoned: it is not worth verifying what comes from somebody whose
//! last messages were invalid. A message of which somebody else sent a copy meanwhile is judged in that one's name instead, and the others are
//! forgotten as those that were shed, so that an honest copy or announcement brings them back.
//!
//! A rejected message costs its senders, all of them, also for copies that arrive later: what is invalid does not depend
//! on who sent it first, and every sender forwarded it without validating. Ignored and shed messages cost nothing.
//!
//! Our own messages are announced as unwanted before they are sent, too: on a slow uplink the last recipients get them
//! from others first. They go to the whole mesh, to more peers of the topic when the mesh is smaller than D, and, with flood
//! publish, small ones to some further peers of the topic whose score is above the publish threshold. *Rationale:* the first hop of a message
//! of ours is the one whose breadth we decide alone, and few attackers among many peers cannot keep it from honest ones. What is
//! [repeated](super::Input::Repeat) is not flooded.

use super::io::{Copied, Event, Output, Sink, ValidationTicket, Verdict};
use super::peers::Told;
use super::pending::Validation;
use super::recent::{Fate, Recent};
use super::score::gater::Outcome;
use super::seen::{Fingerprint, SeenState};
use super::topic::TopicIndex;
use super::trial::OF_USE;
use super::{Counters, Fanout, Mesh};
use crate::id::{MessageId, PeerHandle};
use crate::message::Payload;
use crate::rpc::{Class, Frame};
use crate::time::Time;
use std::collections::BTreeSet;
use std::sync::Arc;

impl Mesh {
    /// Takes in one message from a peer.
    pub(super) fn receive(
        &mut self,
        now: Time,
        peer: PeerHandle,
        payload: &Arc<Payload>,
        received: Time,
        out: &mut impl Sink<Output>,
    ) {
        let topic = self.topics.find(payload.topic()).filter(|topic| self.states[topic.index()].joined);
        let Some(topic) = topic else {
            // We may have asked for it before we left the topic.
            self.promises.delivered(now, &payload.id(), peer);
            self.counters.messages_unwanted += 1;
            return;
        };
        let key = self.seen.fingerprint(&payload.id());
        let (fate, news) = self.recent.note(key, peer.slot);
        let older = if fate == Fate::Unknown { self.seen.peek(key) } else { None };
        let Some(state) = fate.seen().or(older) else {
            return self.receive_first(now, peer, payload, (key, topic), received, out);
        };
        if older.is_some() {
            self.seen.touch(now, key);
        }
        self.counters.messages_duplicate += 1;
        out.copied(&Copied { payload, peer, received });
        if state == SeenState::Rejected {
            self.gater.outcome(peer, Outcome::Rejected);
        } else if let Some(slot) = self.peers.get_mut(peer) {
            slot.duplicates += 1;
        }
        let is_accepted = state == SeenState::Accepted;
        let was_late = is_accepted && self.note_late(topic, peer, key);
        match fate {
            Fate::Accepted(at) if news => {
                if now.since(at) <= OF_USE {
                    self.note_use(topic, peer, key);
                    if let Some(slot) = self.peers.get_mut(peer) {
                        slot.rest.links[topic.index()].served_at = Some(now);
                    }
                }
                self.scores.duplicate_delivery(now, peer, topic, Some(at));
            }
            Fate::Accepted(_) if was_late => self.note_crossing(topic, peer, out),
            _ if state == SeenState::Rejected => self.scores.invalid_message(peer, topic),
            _ => {}
        }
    }

    /// Tells the gater of the duplicates that were counted with the peers, which is where counting them costs nothing. To be done before
    /// the gater decides, decays or loses a peer; at the latest at the heartbeat.
    pub(super) fn tell_gater(&mut self) {
        for slot in self.peers.iter_mut().filter(|slot| slot.duplicates > 0) {
            self.gater.duplicates(slot.handle, core::mem::take(&mut slot.duplicates));
        }
    }

    /// What is known of the message.
    pub(super) fn state_of(&self, key: Fingerprint) -> Option<SeenState> {
        self.recent.fate(key).seen().or_else(|| self.seen.peek(key))
    }

    fn receive_first(
        &mut self,
        now: Time,
        peer: PeerHandle,
        payload: &Arc<Payload>,
        (key, topic): (Fingerprint, TopicIndex),
        received: Time,
        out: &mut impl Sink<Output>,
    ) {
        self.pulse.message(now);
        let id = payload.id();
        let asked = self.promises.asked(&id);
        for other in self.promises.announcers(&id).filter(|other| *other != peer) {
            if let Some(slot) = self.peers.get_mut(other) {
                slot.told = Told::Now;
            }
        }
        let how = self.promises.delivered(now, &id, peer);
        if self.gater.is_closed(now) {
            self.tell_gater();
        }
        let relay = &self.config.relay;
        let Some(slot) = self.peers.get_mut(peer) else { return };
        let overloaded = self.pending.len() >= relay.pending_max;
        if overloaded {
            self.gater.shed(now);
        }
        let admitted = slot.direct || self.gater.admits(now, peer, &mut self.random.gater);
        let fits = admitted && !overloaded && slot.pending < relay.pending_per_peer_max;
        // What is of a priority topic is never turned away for what was ignored of other topics.
        let free = slot.direct || self.config.topics[topic.index()].priority;
        if !fits || !(free || self.gater.charge(peer)) {
            self.counters.messages_shed += 1;
            out.emit(Output::Event(Event::Validated { payload: payload.clone(), peer, verdict: Verdict::Shed }));
            return;
        }
        if !self.seen.insert_pending(now, key) {
            return;
        }
        slot.pending += 1;
        self.gater.validating();
        self.counters.messages_first += 1;
        if payload.data().len() >= relay.idontwant_bytes_min {
            self.send_idontwant(topic, payload, Some(peer), &asked, out);
        }
        let deadline = now + self.config.relay.validation_timeout;
        let ticket = self.pending.insert(Validation { payload: payload.clone(), key, topic, from: peer, deadline });
        self.recent.settle(key, Fate::Pending(ticket));
        self.recent.note(key, peer.slot);
        out.emit(Output::Event(Event::Arrived { payload: payload.clone(), peer, received, how }));
        out.emit(Output::Validate { ticket, payload: payload.clone(), peer });
    }

    /// Tells the mesh, except the peer that sent the message, that the message need not be sent to us, and so the peers
    /// that we asked for it in vain.
    fn send_idontwant(
        &mut self,
        topic: TopicIndex,
        payload: &Payload,
        from: Option<PeerHandle>,
        asked: &[PeerHandle],
        out: &mut impl Sink<Output>,
    ) {
        let frame = payload.idontwant();
        let state = &self.states[topic.index()];
        // Our own messages are brought by nobody.
        let tries = from.is_some() && self.config.trial.messages > 0;
        let mesh = state.mesh.iter().zip(&state.uses).filter(|(_, known)| !(tries && known.is_suspect()));
        let asked = asked.iter().filter(|asked| state.mesh.binary_search(asked).is_err());
        for peer in mesh.map(|(peer, _)| peer).chain(asked).copied() {
            let understands = self.peers.get(peer).is_some_and(|slot| slot.has_idontwant() && !slot.closing);
            if understands && Some(peer) != from {
                self.counters.idontwant_sent += 1;
                out.send(peer, &frame);
            }
        }
    }

    /// Takes in a verdict; one without a validation under way changes nothing.
    pub(super) fn verdict(
        &mut self,
        now: Time,
        ticket: ValidationTicket,
        verdict: Verdict,
        out: &mut impl Sink<Output>,
    ) {
        let Some(validation) = self.end_validation(ticket) else { return };
        let Validation { payload, key, topic, from, .. } = validation;
        let told = if verdict == Verdict::AcceptWithoutTrial { Verdict::Accept } else { verdict };
        out.emit(Output::Event(Event::Validated { payload: payload.clone(), peer: from, verdict: told }));
        match verdict {
            Verdict::Accept | Verdict::AcceptWithoutTrial => {
                self.counters.messages_accepted += 1;
                self.seen.accept(now, key);
                self.scores.first_delivery(now, from, topic);
                if let Some(slot) = self.peers.get_mut(from) {
                    let link = &mut slot.rest.links[topic.index()];
                    (link.brought_at, link.served_at) = (Some(now), Some(now));
                }
                self.gater.outcome(from, Outcome::Accepted);
                let holders = self.recent.settle(key, Fate::Accepted(now));
                for peer in holders.iter().filter_map(|slot| self.peers.occupant(slot)) {
                    if peer != from {
                        self.scores.duplicate_delivery(now, peer, topic, None);
                    }
                }
                out.emit(Output::Deliver { payload: payload.clone(), peer: from });
                self.cache.put(key, &payload);
                if verdict == Verdict::Accept {
                    self.count_silence(topic, &holders);
                    self.begin_trials(now, topic, key, &payload);
                }
                self.forward(topic, key, &payload, out);
            }
            Verdict::Ignore => {
                self.counters.messages_ignored += 1;
                self.seen.ignore(now, key);
                self.recent.settle(key, Fate::Ignored);
                self.gater.outcome(from, Outcome::Ignored);
            }
            Verdict::Reject => {
                self.counters.messages_rejected += 1;
                self.seen.reject(now, key);
                self.recent.settle(key, Fate::Rejected);
                self.gater.outcome(from, Outcome::Rejected);
                for peer in self.recent.holders(key).iter() {
                    let Some(peer) = self.peers.occupant(peer) else { continue };
                    self.scores.invalid_message(peer, topic);
                    self.close_if_graylisted(now, peer, out);
                }
            }
            Verdict::Shed => {
                self.counters.messages_shed += 1;
                self.gater.shed(now);
                self.gater.refund(from);
                self.seen.forget(key);
                self.recent.settle(key, Fate::Unknown);
            }
        }
    }

    fn end_validation(&mut self, ticket: ValidationTicket) -> Option<Validation> {
        let validation = self.pending.remove(ticket)?;
        if let Some(slot) = self.peers.get_mut(validation.from) {
            slot.pending -= 1;
        }
        Some(validation)
    }

    /// Drops what the peer sent and is not judged yet, unless somebody else has sent it, too.
    pub(super) fn abandon_validations(&mut self, peer: PeerHandle, out: &mut impl Sink<Output>) {
        if self.peers.get(peer).is_none_or(|slot| slot.pending == 0) {
            return;
        }
        let mut tickets = Vec::new();
        for (ticket, key) in self.pending.of(peer) {
            if let Some(other) = self.other_sender(key, peer) {
                self.hand_over(ticket, peer, other);
                continue;
            }
            let Some(Validation { payload, .. }) = self.end_validation(ticket) else { continue };
            self.counters.messages_shed += 1;
            self.seen.forget(key);
            self.recent.settle(key, Fate::Unknown);
            out.emit(Output::Event(Event::Validated { payload, peer, verdict: Verdict::Shed }));
            tickets.push(ticket);
        }
        if !tickets.is_empty() {
            out.emit(Output::Abandon { tickets });
        }
    }

    /// Somebody in good standing who sent a copy of the message, too, and for whom one more validation may be under way.
    fn other_sender(&self, key: Fingerprint, than: PeerHandle) -> Option<PeerHandle> {
        let most = self.config.relay.pending_per_peer_max;
        let holders = self.recent.holders(key);
        let mut others = holders.iter().filter_map(|slot| self.peers.occupant(slot)).filter(|peer| *peer != than);
        others.find(|peer| self.peers.get(*peer).is_some_and(|slot| !slot.closing && slot.pending < most))
    }

    fn hand_over(&mut self, ticket: ValidationTicket, from: PeerHandle, to: PeerHandle) {
        self.pending.hand_over(ticket, to);
        if let Some(slot) = self.peers.get_mut(from) {
            slot.pending -= 1;
        }
        if let Some(slot) = self.peers.get_mut(to) {
            slot.pending += 1;
        }
    }

    /// Counts validations that took too long as ignored.
    pub(super) fn expire_validations(&mut self, now: Time, out: &mut impl Sink<Output>) {
        while let Some((ticket, deadline)) = self.pending.oldest()
            && deadline <= now
        {
            self.counters.validations_late += 1;
            self.verdict(now, ticket, Verdict::Ignore, out);
        }
    }

    /// Sends an accepted message on.
    fn forward(&mut self, topic: TopicIndex, key: Fingerprint, payload: &Arc<Payload>, out: &mut impl Sink<Output>) {
        let class = if self.config.topics[topic.index()].priority { Class::Priority } else { Class::Forward };
        let direct = self.direct(topic);
        let trials = Some(&self.trials).filter(|trials| trials.len() > 0);
        let is_free = |peer: &PeerHandle| trials.is_none_or(|trials| !trials.is_of(*peer, key));
        let mesh = self.states[topic.index()].mesh.iter().copied().filter(is_free);
        let frame = Frame::Publish { payload: payload.clone(), class };
        spread(&mut self.recent, &mut self.counters, key, mesh.chain(direct), |peer| out.send(peer, &frame));
    }

    /// The mesh of the topic and the direct peers that are subscribed to it.
    fn mesh_and_direct(&self, topic: TopicIndex) -> Vec<PeerHandle> {
        let mut recipients = self.states[topic.index()].mesh.clone();
        recipients.extend(self.direct(topic));
        recipients
    }

    /// The direct peers that are subscribed to the topic.
    fn direct(&self, topic: TopicIndex) -> Vec<PeerHandle> {
        if self.config.direct_peers.is_empty() {
            return Vec::new();
        }
        let direct = self.peers.iter().filter(|slot| slot.direct && slot.subscribed.contains(topic));
        direct.map(|slot| slot.handle).collect()
    }

    /// Publishes a message of our own. A message that was accepted before is not published again; one that is being
    /// validated is accepted by this.
    pub(super) fn publish(&mut self, now: Time, payload: &Arc<Payload>, out: &mut impl Sink<Output>) {
        let Some(topic) = self.topics.find(payload.topic()) else {
            self.counters.topics_unknown += 1;
            return;
        };
        let id = payload.id();
        let key = self.seen.fingerprint(&id);
        if self.state_of(key) == Some(SeenState::Accepted) {
            return;
        }
        if let Fate::Pending(ticket) = self.recent.fate(key) {
            // It came from a peer at the same time. Our own word settles it.
            self.end_validation(ticket);
        }
        self.counters.messages_published += 1;
        let asked = self.promises.asked(&id);
        self.promises.forget(&id);
        self.seen.accept(now, key);
        self.recent.settle(key, Fate::Accepted(now));
        self.cache.put(key, payload);
        out.emit(Output::Event(Event::Published { payload: payload.clone() }));
        if payload.data().len() >= self.config.relay.idontwant_bytes_min {
            self.send_idontwant(topic, payload, None, &asked, out);
        }
        let flooded = self.flooded_peers(payload.data().len());
        let recipients = self.publish_recipients(now, topic, flooded);
        let frame = Frame::Publish { payload: payload.clone(), class: Class::Priority };
        spread(&mut self.recent, &mut self.counters, key, recipients, |peer| out.send(peer, &frame));
    }

    /// Sends and announces a message again that we vouch for. One that is being validated came from a peer this moment and is
    /// spreading.
    pub(super) fn repeat(&mut self, now: Time, payload: &Arc<Payload>, out: &mut impl Sink<Output>) {
        let (key, topic) = (self.seen.fingerprint(&payload.id()), self.topics.find(payload.topic()));
        let Some(topic) = topic.filter(|_| self.state_of(key) != Some(SeenState::Pending)) else { return };
        self.seen.accept(now, key);
        if !matches!(self.recent.fate(key), Fate::Accepted(_)) {
            // No copy of it counts as a delivery any more.
            self.recent.settle(key, Fate::Accepted(Time::ZERO));
        }
        self.cache.put(key, payload);
        let frame = Frame::Publish { payload: payload.clone(), class: Class::Forward };
        for peer in self.publish_recipients(now, topic, 0) {
            // Whoever is to have it, or says that it need not, brings nothing by sending it back.
            self.recent.note(key, peer.slot);
            if !self.recent.is_refused_by(key, peer.slot) {
                self.counters.messages_sent += 1;
                out.send(peer, &frame);
            }
        }
    }

    /// Besides the mesh, to how many peers a message of ours of so many bytes of data is sent.
    fn flooded_peers(&self, bytes: usize) -> usize {
        let relay = &self.config.relay;
        if relay.flood_publish && bytes <= relay.flood_publish_bytes_max { relay.flood_publish_peers_max } else { 0 }
    }

    /// The mesh, or on a topic that we have not joined the fanout; then others, until there are D and as many as are to be flooded.
    /// Of these, peers that we dialled come first: whoever connects with everybody to learn of messages first, or to swallow them, has
    /// not been chosen by anybody.
    fn publish_recipients(&mut self, now: Time, topic: TopicIndex, flooded: usize) -> Vec<PeerHandle> {
        let joined = self.states[topic.index()].joined;
        let mut recipients = if joined { self.mesh_and_direct(topic) } else { self.fanout_recipients(now, topic) };
        // A young or shrunken mesh: the message must not wait for the next heartbeat.
        let missing = self.config.degree.target.saturating_sub(recipients.len());
        let further = if joined { missing.max(flooded) } else { flooded };
        if further > 0 {
            let known: BTreeSet<PeerHandle> = recipients.iter().copied().collect();
            let mut others = self.flood_candidates(topic);
            others.retain(|peer| !known.contains(peer));
            let (mut dialled, mut others): (Vec<PeerHandle>, Vec<PeerHandle>) =
                others.into_iter().partition(|peer| self.is_outbound(*peer));
            self.random.publish.sample(&mut dialled, further);
            self.random.publish.sample(&mut others, further - dialled.len());
            recipients.extend(dialled);
            recipients.extend(others);
        }
        recipients
    }

    /// Every peer of the topic above the publish threshold, and the direct ones.
    pub(super) fn flood_candidates(&self, topic: TopicIndex) -> Vec<PeerHandle> {
        let threshold = self.scores.thresholds().publish;
        self.peers
            .iter()
            .filter(|slot| slot.subscribed.contains(topic) && !slot.closing)
            .filter(|slot| slot.direct || !self.scores.is_below(slot.handle, threshold))
            .map(|slot| slot.handle)
            .collect()
    }

    /// Who gets our messages on a topic that we have not joined: up to D peers that stay the same for a while, and the
    /// direct peers.
    fn fanout_recipients(&mut self, now: Time, topic: TopicIndex) -> Vec<PeerHandle> {
        let candidates = self.flood_candidates(topic);
        let (direct, mut others): (Vec<PeerHandle>, Vec<PeerHandle>) =
            candidates.into_iter().partition(|peer| self.peers.get(*peer).is_some_and(|slot| slot.direct));
        let target = self.config.degree.target;
        let random = &mut self.random.publish;
        let fanout = self.states[topic.index()].fanout.get_or_insert(Fanout { peers: Vec::new(), published: now });
        fanout.published = now;
        others.retain(|peer| !fanout.peers.contains(peer));
        random.sample(&mut others, target.saturating_sub(fanout.peers.len()));
        fanout.peers.extend(others);
        fanout.peers.sort_unstable();
        let mut recipients = fanout.peers.clone();
        recipients.extend(direct);
        recipients
    }

    /// Takes in IDONTWANT: remembers the ids, within a budget, and has what is queued of them cancelled.
    pub(super) fn idontwant(&mut self, peer: PeerHandle, ids: &[MessageId], out: &mut impl Sink<Output>) {
        let relay = &self.config.relay;
        let Some(slot) = self.peers.get_mut(peer) else { return };
        let left = relay.idontwant_ids_max.saturating_sub(slot.budget.idontwant_ids) as usize;
        let taken = ids.len().min(left);
        slot.budget.idontwant_ids += u32::try_from(taken).unwrap_or(u32::MAX);
        self.counters.idontwant_received += taken as u64;
        self.counters.idontwant_excess += (ids.len() - taken) as u64;
        // Only what we accepted can stand in the peer's queue, and nothing stands there for long.
        let mut queued = |id: &MessageId| {
            let key = self.seen.fingerprint(id);
            matches!(self.recent.refuse(key, peer.slot), Fate::Accepted(_))
        };
        match &ids[..taken] {
            // Nearly always it is one, for which no list need be made.
            [id] if queued(id) => out.cancel(peer, core::slice::from_ref(id)),
            [_] => {}
            ids => {
                let ids: Vec<MessageId> = ids.iter().copied().filter(queued).collect();
                if !ids.is_empty() {
                    out.cancel(peer, &ids);
                }
            }
        }
    }
}

/// Sends the message to those of the peers that neither have it nor refuse it.
fn spread(
    recent: &mut Recent,
    counters: &mut Counters,
    key: Fingerprint,
    peers: impl IntoIterator<Item = PeerHandle>,
    mut send: impl FnMut(PeerHandle),
) {
    counters.sends_refused += recent.spread(key, peers, |peer| {
        counters.messages_sent += 1;
        send(peer);
    });
}
