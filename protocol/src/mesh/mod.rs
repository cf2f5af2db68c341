//! The gossipsub mesh engine.
//!
//! [`Mesh`] spreads messages over topics, wire-compatible with `/meshsub/1.0.0`, `1.1.0` and `1.2.0` (libp2p/specs,
//! `pubsub/gossipsub`). It is a pure state machine: what happens comes in through [`Mesh::handle`], the passing of time
//! through [`Mesh::on_wake`], and effects go into the caller's sink; see [`io`] for both. The same configuration, seed,
//! times and inputs give the same outputs, byte for byte.
//!
//! # What it promises
//!
//! 1. **A message is taken once.** Each accepted message is delivered exactly once while the seen-cache remembers it, and
//!    validated once: copies that arrive during and after validation cost a look-up.
//! 2. **Nothing is forwarded before it is accepted**, and nothing goes back to whom it came from, to whom said IDONTWANT,
//!    or to whom was sent it before.
//! 3. **The mesh heals.** Each heartbeat brings the degree of every joined topic between D_low and D_high, removes who has
//!    a negative score, in all or on that topic, and keeps D_out links that we dialled. *Rationale for gating on the
//!    topic:* a sum over topics lets a peer withhold one of them for ever (CVE-2022-47547).
//! 4. **Few links, well chosen.** Among peers of equal merit some links prefer low round-trip times and the others stay
//!    random: near links carry speed, random links carry reach, and an attacker that is close gets only the near share.
//! 5. **Whatever a peer sends costs bounded memory.** Topics are configured, so subscriptions and mesh memberships are
//!    bits; every other map names its bound where it is declared.
//! 6. **A peer is blamed only for what it answers for**: rejected messages, broken promises, grafts within a backoff, signed
//!    messages. While our own heartbeat is late, or many peers turn bad at once, promises and deficits are suspended.
//! 7. **A disconnect leaves nothing behind** but a bounded record of penalties and backoffs, keyed by peer id.
//!
//! # How it is divided
//!
//! | file | what |
//! |---|---|
//! | `subscribe` | connections, our subscriptions and the peers' |
//! | `graft` | GRAFT and PRUNE, backoffs, peer exchange |
//! | `relay` | receiving, validating, publishing, forwarding, IDONTWANT |
//! | `gossip` | IHAVE, IWANT, promises |
//! | `trial` | whether silent links are of use |
//! | `pulse` | whether silent peers are gone |
//! | `health` | whether so many turn bad at once that the fault is ours |
//! | `heartbeat`, `upkeep` | what is due regularly; the mesh's maintenance |
//! | `query` | reading the state |
//! | `fetch` | what inputs are going to look at |
//! | `peers`, `pending`, `recent`, `index`, `promises`, `seen`, `cache`, `backoff`, `score` | the tables |
//!
//! # Limits
//!
//! Messages and control for topics that are not configured are ignored and counted. Extensions (v1.3) are not spoken.
//! Direct peers are recognised but not dialled: dialling belongs to the peer manager.
//!
//! # Cost
//!
//! For n connected peers: a received message costs O(log) look-ups and O(D) outputs; a heartbeat O(n) per topic;
//! [`Mesh::next_wake`] O(log) of small maps.

pub mod backoff;
pub mod cache;
pub mod config;
mod fetch;
mod gossip;
mod graft;
mod health;
mod heartbeat;
mod index;
pub mod io;
mod peers;
mod pending;
pub mod promises;
mod proven;
pub mod pulse;
pub mod query;
mod recent;
mod relay;
pub mod score;
pub mod seen;
mod slots;
mod subscribe;
mod topic;
pub mod trial;
mod upkeep;
mod useful;

pub use config::{MeshConfig, MeshConfigError, TopicConfig, ValidMeshConfig};
pub use io::{
    Arrival, Copied, DisconnectReason, Event, Input, Output, PruneReason, Sink, ValidationTicket, Verdict, WakeReason,
};
pub use query::{Counters, PeerView};
pub use topic::{TOPICS_MAX, TopicIndex, TopicSet, TopicTable};

use crate::id::PeerHandle;
use crate::random::{Stream, Streams};
use crate::rpc::{Frame, Rpc};
use crate::time::{Duration, Time};
use backoff::Backoffs;
use cache::MessageCache;
use health::Health;
use peers::{PeerSlot, PeerTable};
use pending::Pending;
use promises::Promises;
use pulse::Pulse;
use recent::{Fate, Recent, RecentConfig};
use score::Scores;
use score::gater::Gater;
use seen::SeenCache;
use std::collections::BTreeSet;
use trial::{Trials, Use};

/// The gossipsub engine of one node. See the module documentation.
#[derive(Debug)]
pub struct Mesh {
    config: ValidMeshConfig,
    topics: TopicTable,
    /// Per topic, by its index.
    states: Vec<TopicState>,
    peers: PeerTable,
    scores: Scores,
    gater: Gater,
    seen: SeenCache,
    cache: MessageCache,
    pending: Pending,
    recent: Recent,
    promises: Promises,
    trials: Trials,
    pulse: Pulse,
    health: Health,
    backoffs: Backoffs,
    /// Connected peers that had proven useful before; few.
    proven: BTreeSet<PeerHandle>,
    random: Randomness,
    beat: Beat,
    counters: Counters,
}

/// What the engine knows of a topic.
#[derive(Debug, Default)]
struct TopicState {
    /// Whether we are subscribed.
    joined: bool,
    /// Our mesh, ascending; empty unless joined. At most the connected peers.
    mesh: Vec<PeerHandle>,
    /// What each of them brought, in the same order.
    uses: Vec<Use>,
    /// At how many heartbeats something was announced.
    announcements: u64,
    /// With which of these each connected peer had its last turn, by slot. All of them are looked at whenever something is announced. As long as
    /// the peers' table.
    announced_at: Vec<u64>,
    /// To whom we publish while not joined; none unless we did of late.
    fanout: Option<Fanout>,
}

/// To whom messages of our own go on a topic that we have not joined.
#[derive(Debug)]
struct Fanout {
    /// Ascending; at most D.
    peers: Vec<PeerHandle>,
    published: Time,
}

/// One stream of random numbers for each concern.
#[derive(Debug)]
struct Randomness {
    graft: Stream,
    gossip: Stream,
    publish: Stream,
    exchange: Stream,
    trial: Stream,
    gater: Stream,
    phase: Stream,
}

/// The heartbeat's clock.
#[derive(Debug)]
struct Beat {
    next: Time,
    ticks: u64,
    /// By how much the last one was late, and the one before it; zero if it was no more than half an interval.
    late_by: [Duration; 2],
    /// Added to `ticks` when nearer links are due, so that nodes started together do not change links at once.
    nearer_phase: u64,
}

impl Mesh {
    /// An engine without peers that has joined nothing; its first heartbeat is due shortly after `now`.
    #[must_use]
    pub fn new(config: ValidMeshConfig, seed: [u8; 32], now: Time) -> Self {
        let streams = Streams::new(seed);
        let mut phase = streams.stream("mesh/phase");
        let first = config.heartbeat.first_delay;
        let jitter_us = phase.below(crate::time::micros(first).max(1));
        let nearer_phase = phase.below(config.heartbeat.nearer_ticks.max(1));
        let topics = config.names().clone();
        let scores = Scores::new(config.score().clone(), topics.len());
        let ticks = |ticks| u32::try_from(ticks).unwrap_or(u32::MAX);
        let recent =
            RecentConfig { ticks: ticks(config.recent_ticks()), refusal_ticks: ticks(config.relay.idontwant_ticks) };
        Self {
            states: (0..topics.len()).map(|_| TopicState::default()).collect(),
            peers: PeerTable::default(),
            scores,
            gater: Gater::new(config.gater),
            seen: SeenCache::new(config.seen, streams.stream("mesh/seen")),
            cache: MessageCache::new(config.cache),
            pending: Pending::default(),
            recent: Recent::new(recent),
            promises: Promises::new(config.promise),
            trials: Trials::default(),
            pulse: Pulse::new(config.pulse, now),
            health: Health::default(),
            backoffs: Backoffs::new(config.backoff),
            proven: BTreeSet::new(),
            random: Randomness {
                graft: streams.stream("mesh/graft"),
                gossip: streams.stream("mesh/gossip"),
                publish: streams.stream("mesh/publish"),
                exchange: streams.stream("mesh/exchange"),
                trial: streams.stream("mesh/trial"),
                gater: streams.stream("mesh/gater"),
                phase,
            },
            beat: Beat {
                next: now + first + Duration::from_micros(jitter_us),
                ticks: 0,
                late_by: [Duration::ZERO; 2],
                nearer_phase,
            },
            counters: Counters::default(),
            topics,
            config,
        }
    }

    /// Takes in what happened. `now` never runs backwards.
    pub fn handle(&mut self, now: Time, input: Input<'_>, out: &mut impl Sink<Output>) {
        match input {
            Input::Connected { peer, id, ip, direction, version } => {
                self.connected(now, subscribe::Arrived { peer, id, ip, direction, version }, out);
            }
            Input::Turned { peer, direction } => {
                if let Some(slot) = self.peers.get_mut(peer) {
                    slot.direction = direction;
                }
            }
            Input::Disconnected { peer } => self.disconnected(now, peer, out),
            Input::Rpc { peer, rpc, received } => self.rpc(now, peer, rpc, received, out),
            Input::Publish { payload } => self.publish(now, &payload, out),
            Input::Repeat { payload } => self.repeat(now, &payload, out),
            Input::Offer { peer, payloads } => self.offer(now, peer, payloads, out),
            Input::Verdict { ticket, verdict } => self.verdict(now, ticket, verdict, out),
            Input::Disputed { id } => self.void_trials(&id, out),
            Input::Subscribe { topic } => self.join(now, &topic, out),
            Input::Unsubscribe { topic } => self.leave(now, &topic, out),
            Input::Rtt { peer, rtt } => {
                if let Some(slot) = self.peers.get_mut(peer) {
                    slot.rest.rtt = Some(rtt);
                    self.promises.measured_rtt(peer, rtt);
                }
            }
            Input::PeerRecord { peer, signed_record } => {
                let bytes_max = self.config.exchange.record_bytes_max;
                if let Some(slot) = self.peers.get_mut(peer) {
                    slot.rest.record = Some(signed_record).filter(|record| record.len() <= bytes_max);
                }
            }
            Input::SendQueueFull { peer, dropped } => {
                self.counters.frames_dropped += u64::from(dropped);
                if let Some(slot) = self.peers.get_mut(peer) {
                    slot.overflowed |= dropped > 0;
                }
            }
            Input::Misbehaved { peer, penalties } => {
                self.scores.penalize(peer, penalties);
                self.close_if_graylisted(now, peer, out);
            }
        }
    }

    /// Whether a verdict on this validation still matters.
    #[must_use]
    pub fn is_validating(&self, ticket: ValidationTicket) -> bool {
        self.pending.contains(ticket)
    }

    /// Does what is due. A call when nothing is due does nothing.
    pub fn on_wake(&mut self, now: Time, out: &mut impl Sink<Output>) {
        if let Some((due, _)) = self.next_wake() {
            self.pulse.woke(now, due);
        }
        // The heartbeat comes first, because it notices when it is us who are late.
        if self.beat.next <= now {
            self.heartbeat(now, out);
        }
        self.expire_validations(now, out);
        self.pull_due(now, out);
        self.end_trials(now, out);
    }

    /// When [`Mesh::on_wake`] has something to do, and what. Any call of `handle` or `on_wake` may change the answer.
    #[must_use]
    pub fn next_wake(&self) -> Option<(Time, WakeReason)> {
        let mut next = (self.beat.next, WakeReason::Heartbeat);
        if let Some((_, deadline)) = self.pending.oldest()
            && deadline < next.0
        {
            next = (deadline, WakeReason::ValidationDeadline);
        }
        if let Some(due) = self.promises.next_due()
            && due < next.0
        {
            next = (due, WakeReason::Pull);
        }
        if let Some(ends) = self.trials.next_end()
            && ends < next.0
        {
            next = (ends, WakeReason::Trial);
        }
        Some(next)
    }

    /// An RPC: subscriptions, then messages, then control, as go-libp2p-pubsub does it.
    ///
    /// Thresholds (spec v1.1, "Score Thresholds"): from a graylisted peer nothing is read, from one below the gossip
    /// threshold neither IHAVE nor IWANT. Direct peers are exempt.
    fn rpc(&mut self, now: Time, peer: PeerHandle, rpc: &Rpc, received: Time, out: &mut impl Sink<Output>) {
        self.hear(peer);
        let Some(slot) = self.peers.get(peer) else { return };
        if slot.closing {
            return;
        }
        if self.is_graylisted(slot) {
            self.counters.rpcs_graylisted += 1;
            return;
        }
        if !rpc.subscriptions.is_empty() {
            self.subscriptions(now, peer, &rpc.subscriptions, out);
        }
        if rpc.publish_signed > 0 {
            // StrictNoSign: an author, sequence number or signature makes a message invalid. Its topic is unknown here, so it
            // counts as misbehaviour.
            self.counters.messages_signed += u64::from(rpc.publish_signed);
            self.scores.penalize(peer, rpc.publish_signed);
        }
        self.counters.ids_foreign += u64::from(rpc.foreign_ids);
        for payload in &rpc.publish {
            self.receive(now, peer, payload, received, out);
        }
        // Nearly all have one kind of content and none of the others.
        if !rpc.idontwant.is_empty() {
            self.idontwant(peer, &rpc.idontwant, out);
        }
        if !rpc.ihave.is_empty() {
            self.ihave(now, peer, &rpc.ihave);
        }
        if !rpc.iwant.is_empty() {
            self.iwant(peer, &rpc.iwant, out);
        }
        if !rpc.graft.is_empty() {
            self.counters.grafts_received += rpc.graft.len() as u64;
            self.grafts(now, peer, &rpc.graft, out);
        }
        if !rpc.prune.is_empty() {
            self.counters.prunes_received += rpc.prune.len() as u64;
            self.prunes(now, peer, &rpc.prune, out);
        }
        self.close_if_graylisted(now, peer, out);
        // Announcements may be due at once.
        self.pull_due(now, out);
    }

    /// Something has come from the peer, whatever it is.
    fn hear(&mut self, peer: PeerHandle) {
        let Some(slot) = self.peers.get_mut(peer) else { return };
        let heard = core::mem::replace(&mut slot.heard, self.pulse.lived());
        if self.pulse.is_pause(heard) {
            self.pulse.note_pause(&mut slot.rest.rhythm, heard);
        }
    }

    fn is_graylisted(&self, slot: &PeerSlot) -> bool {
        !slot.direct && self.scores.is_below(slot.handle, self.scores.thresholds().graylist)
    }

    /// Whether gossip with the peer is above the threshold.
    fn gossips(&self, slot: &PeerSlot) -> bool {
        slot.direct || !self.scores.is_below(slot.handle, self.scores.thresholds().gossip)
    }

    /// Removes a graylisted peer from every mesh and asks the driver to disconnect it.
    fn close_if_graylisted(&mut self, now: Time, peer: PeerHandle, out: &mut impl Sink<Output>) {
        // Asked after every RPC, so the shortest question comes first.
        if !self.scores.is_below(peer, self.scores.thresholds().graylist) {
            return;
        }
        if self.peers.get(peer).is_none_or(|slot| slot.closing || slot.direct) {
            return;
        }
        self.forget_memberships(now, peer, PruneReason::Score, out);
        if let Some(slot) = self.peers.get_mut(peer) {
            slot.closing = true;
        }
        self.counters.graylisted += 1;
        self.abandon_validations(peer, out);
        out.emit(Output::Disconnect { peer, reason: DisconnectReason::Graylisted });
    }

    /// The link quality that breaks ties between peers of equal merit; a peer that was never measured counts as far.
    fn rtt_of(&self, peer: PeerHandle) -> Duration {
        self.peers.get(peer).and_then(|slot| slot.rest.rtt).unwrap_or(Duration::MAX)
    }

    /// Recomputes and asserts every invariant. For tests: it costs time in proportion to the whole state.
    ///
    /// # Panics
    /// When an invariant does not hold.
    pub fn check(&self) {
        self.peers.check();
        self.scores.check();
        self.gater.check();
        self.seen.check();
        self.cache.check();
        self.pending.check();
        self.recent.check(|key| self.seen.peek(key));
        self.promises.check();
        self.trials.check();
        for (peer, topic) in self.trials.links() {
            assert!(
                self.states[topic.index()].mesh.contains(&peer),
                "a peer outside the mesh is tried, or its trial is left behind"
            );
        }
        self.backoffs.check();
        self.check_topics();
        self.check_peers();
    }

    fn check_topics(&self) {
        for topic in self.topics.iter() {
            let state = &self.states[topic.index()];
            assert!(state.joined || state.mesh.is_empty(), "a mesh of a topic that we left");
            assert_eq!(state.mesh.len(), state.uses.len(), "what mesh peers brought is kept for each of them");
            assert!(state.mesh.is_sorted_by(|a, b| a < b), "the mesh is ascending and without repetition");
            for peer in &state.mesh {
                let slot = self.peers.get(*peer).expect("a mesh peer is connected");
                assert!(slot.mesh.contains(topic), "{peer:?} does not know of its place in the mesh");
                assert!(!slot.direct && !slot.closing, "a direct or closing peer is in the mesh");
            }
            if let Some(fanout) = &state.fanout {
                assert!(!state.joined, "fanout on a joined topic");
                assert!(fanout.peers.is_sorted_by(|a, b| a < b), "the fanout is ascending and without repetition");
                assert!(fanout.peers.len() <= self.config.degree.target, "the fanout has at most D peers");
                assert!(fanout.peers.iter().all(|peer| self.peers.get(*peer).is_some()), "a fanout peer is connected");
            }
        }
    }

    fn check_peers(&self) {
        let unwanted_max = u64::from(self.config.relay.idontwant_ids_max) * (self.config.relay.idontwant_ticks + 1);
        for slot in self.peers.iter() {
            for topic in self.topics.iter() {
                let in_mesh = self.states[topic.index()].mesh.binary_search(&slot.handle).is_ok();
                assert_eq!(slot.mesh.contains(topic), in_mesh, "the mesh of {topic:?} and its peer disagree");
            }
            let unwanted = self.recent.refused_by(slot.handle.slot);
            assert!(unwanted as u64 <= unwanted_max, "more unwanted messages than allowed");
            let pending = self.pending.iter().filter(|(_, validation)| validation.from == slot.handle).count();
            assert_eq!(slot.pending as usize, pending, "the count of pending validations has drifted");
            assert!(slot.pending <= self.config.relay.pending_per_peer_max, "too many pending validations of one peer");
        }
        assert!(self.pending.len() <= self.config.relay.pending_max, "too many pending validations");
        for (ticket, validation) in self.pending.iter() {
            assert_eq!(self.recent.fate(validation.key), Fate::Pending(ticket), "a validation that nobody knows of");
        }
        assert!(self.proven.iter().all(|peer| self.peers.get(*peer).is_some()), "a proven peer is connected");
    }
}

/// Emits one frame for one peer.
fn send(out: &mut impl Sink<Output>, peer: PeerHandle, frame: Frame) {
    out.emit(Output::Send { peer, frame });
}
