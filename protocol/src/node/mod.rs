//! The whole node as one machine.
//!
//! [`Node`] composes the mesh, the mempool, the chain and the peer book, and is the only machine that a driver sees.
//! Whatever drives this one type exercises the whole system: the real node, a simulator, a property test, a fuzzer.
//!
//! # What it decides
//! - Whether a message is valid. Transactions: canonical, of this network, stamped, not expired, nonce acceptable, then
//!   the signature. Blocks: canonical, of this network, within limits, the right producer for the slot, transaction
//!   root, then the header's signature; what is inside is judged after it was relayed.
//! - Who is to blame. Only what a sender could have known is rejected: an honest relay may have another head or clock.
//! - What is published, sent again, produced, stored, fetched and dialled.
//!
//! # Rules
//! 1. Every asynchronous step is an output with a [`Ticket`] and comes back as an input with the same ticket, exactly
//!    once. Tickets of one kind of output are never reused; two kinds may use the same number. An answer to an unknown
//!    ticket is ignored.
//! 2. At most [`NodeConfig::verifications_max`] verifications are under way, of at most
//!    [`NodeConfig::verification_bytes_max`] bytes; beyond that messages are shed without blame, submissions are
//!    refused as overload, and blocks are fetched again later.
//! 3. A submission is answered exactly once, and accepted only when the transaction is on the disk ([`persist`]): what was
//!    accepted is offered to the network, also after a crash, until it is included or has expired ([`own`]). What is pending is offered to
//!    new peers ([`offers`]).
//! 4. Without a wall clock ([`Input::WallClock`]) there are no slots: nothing is produced, nothing expires, and nobody
//!    is blamed for what depends on the time.
//!
//! # Cost
//! An input costs what the machine it is for charges; [`Node::next_wake`] is O(1).

mod blocks;
mod config;
mod disputes;
mod fetch;
pub mod io;
pub mod offers;
pub mod own;
mod payloads;
pub mod persist;
mod query;
mod relay;
mod restore;
mod silence;
mod slots;
mod submit;
mod turns;
mod verifications;

use crate::chain::{Chain, ResponseTicket};
use crate::genesis::Genesis;
use crate::id::{PeerHandle, PeerId, Topic};
use crate::mempool::Mempool;
use crate::mesh::{self, Mesh, Sink, Verdict};
use crate::peers::bans::{Ban, BanError, BanTarget};
use crate::peers::{PeerAction, PeerBook};
use crate::random::Streams;
use crate::time::Time;
use crate::verify::{Job, Outcome};
pub use config::{NodeConfig, NodeConfigError, NodeParts, topics};
pub use fetch::FETCH_STEPS;
pub use io::{Event, Input, MessageClass, Output, SubmitError, Submitted, Ticket, WakeReason};
pub use persist::StorageView;
pub use query::{TransactionStatus, UnderWay};
use starling_crypto::SecretKey;
use std::collections::{BTreeMap, VecDeque};
use verifications::{Verification, Verifications};

/// The node machine. See the module documentation.
#[derive(Debug)]
pub struct Node {
    genesis: Genesis,
    config: NodeConfig,
    mesh: Mesh,
    mempool: Mempool,
    chain: Chain,
    peers: PeerBook,
    producer: Option<SecretKey>,
    account: Option<SecretKey>,
    /// Who sits in each slot of the driver's peer table.
    connected: Vec<Option<(PeerHandle, PeerId)>>,
    clock: slots::SlotClock,
    tickets: u64,
    verifications: Verifications,
    /// Blocks being verified, each in several jobs.
    checks: BTreeMap<Ticket, blocks::BlockCheck>,
    disputes: disputes::Disputes,
    /// Payloads that wait for their stamps; that of the first one is being searched for.
    drafts: VecDeque<payloads::Draft>,
    silence: silence::Silence,
    offers: offers::Offers,
    own: own::OwnTransactions,
    persistence: persist::Persistence,
    restoring: restore::Restoring,
    turns: turns::Turns,
    /// When it was last looked at who was of use.
    turn_at: Time,
    /// When everything but the mesh and the watch for silence has something to do, and what.
    others_wake: Option<(Time, WakeReason)>,
}

/// Heartbeats between two looks at who was of use, and who should be an anchor. A guess: these are worth keeping for being old.
const TURN_TICKS: u64 = 8;

impl Node {
    /// A node without peers that has joined both topics. `seed` decides every random choice; in a real node it is
    /// secret.
    #[must_use]
    pub fn new(parts: NodeParts, seed: [u8; 32], now: Time) -> Self {
        let NodeParts { genesis, own_id, config, chain, mesh, peers, producer, account, signed_slot } = parts;
        let streams = Streams::new(seed);
        let mut mesh = Mesh::new(mesh, streams.derive("mesh"), now);
        // Nobody is connected yet, so joining has no effects.
        let mut nothing = Vec::new();
        for topic in [genesis.transaction_topic(), genesis.block_topic()] {
            mesh.handle(now, mesh::Input::Subscribe { topic: topic.clone() }, &mut nothing);
        }
        assert!(nothing.is_empty(), "joining a topic without peers has effects");
        let mut node = Self {
            mempool: Mempool::new(config.mempool.clone(), &genesis, streams.stream("mempool")),
            peers: PeerBook::new(peers, own_id, streams.stream("peers"), now),
            clock: slots::SlotClock::default(),
            connected: Vec::new(),
            tickets: 0,
            verifications: Verifications::default(),
            checks: BTreeMap::new(),
            disputes: disputes::Disputes::default(),
            drafts: VecDeque::new(),
            silence: silence::Silence::new(now, silence::patience(config.suspect_after_slots, genesis.slot_us())),
            offers: offers::Offers::default(),
            own: own::OwnTransactions::default(),
            persistence: persist::Persistence::default(),
            restoring: restore::Restoring::default(),
            turns: turns::Turns::new(signed_slot),
            turn_at: now,
            others_wake: None,
            chain,
            mesh,
            genesis,
            config,
            producer,
            account,
        };
        node.others_wake = node.find_others_wake();
        node
    }

    /// Takes in what happened. `now` never runs backwards.
    pub fn handle(&mut self, now: Time, input: Input<'_>, out: &mut impl Sink<Output>) {
        match input {
            Input::Connected { peer, id, ip, direction, version } => {
                if self.connected.len() <= peer.index() {
                    self.connected.resize(peer.index() + 1, None);
                }
                self.connected[peer.index()] = Some((peer, id));
                self.peers.connected(now, id, ip, direction);
                self.mesh_input(now, mesh::Input::Connected { peer, id, ip, direction, version }, out);
                if self.peers.merit(&id) > 0 {
                    self.mesh.recognise(peer);
                }
                let mut effects = Vec::new();
                self.chain.peer_connected(self.moment(now), peer, &mut effects);
                self.chain_effects(now, effects, out);
                self.offer_if_dialled(now, peer, direction, out);
            }
            Input::Turned { peer, direction } => {
                if let Some(id) = self.peer_id(peer) {
                    self.peers.turned(id, direction);
                }
                self.mesh_input(now, mesh::Input::Turned { peer, direction }, out);
            }
            Input::Disconnected { peer } => self.disconnected(now, peer, out),
            Input::Rpc { peer, rpc, received } => {
                let others = self.mesh_input(now, mesh::Input::Rpc { peer, rpc, received }, out);
                if !others && self.others_sleep(now) {
                    // Most inputs end here, without a look at anything else.
                    return;
                }
            }
            Input::SendQueueFull { peer, dropped } => {
                self.mesh_input(now, mesh::Input::SendQueueFull { peer, dropped }, out);
            }
            Input::Misbehaved { peer, penalties } => {
                self.mesh_input(now, mesh::Input::Misbehaved { peer, penalties }, out);
            }
            Input::Rtt { peer, rtt } => {
                self.mesh_input(now, mesh::Input::Rtt { peer, rtt }, out);
            }
            Input::PeerRecord { peer, signed_record } => {
                self.mesh_input(now, mesh::Input::PeerRecord { peer, signed_record }, out);
            }
            Input::Discovered { id, addresses, standing, source } => {
                self.peers.discovered(now, id, addresses, standing, source);
            }
            Input::Reached { id, address } => self.peers.reached(now, id, &address),
            Input::DialFailed { id } => self.peers.dial_failed(now, id),
            Input::Submit { ticket, bytes } => self.submit(now, ticket, bytes, out),
            Input::SubmitPayload { ticket, payload } => self.submit_payload(now, ticket, payload, out),
            Input::Verified { ticket, outcome } => {
                let others = self.verified(now, ticket, outcome, out);
                if !others && self.others_sleep(now) {
                    return;
                }
            }
            Input::WallClock { unix_us_at_zero } => {
                self.peers.set_wall_clock(unix_us_at_zero);
                self.set_wall_clock(now, unix_us_at_zero);
            }
            Input::Request { ticket, peer, body } => self.block_request(now, (ticket, peer), body, out),
            Input::Response { ticket, body } => self.block_response(now, ticket, body.as_ref(), out),
            Input::Loaded { ticket, blocks } => self.blocks_loaded(now, ticket, blocks, out),
            Input::Responded { ticket } => self.chain.on_responded(now, ResponseTicket(ticket.0)),
            Input::Earliest { height } => self.chain.set_earliest(height),
            Input::Persisted { ticket, durable } => self.persisted(now, ticket, durable, out),
            Input::StorageBack => self.storage_is_back(out),
            Input::Restore { pending, pool } => self.restore(now, pending, pool, out),
        }
        self.act_on_peers(now, out);
        self.others_wake = self.find_others_wake();
    }

    /// Does what is due. A call when nothing is due does nothing.
    pub fn on_wake(&mut self, now: Time, out: &mut impl Sink<Output>) {
        let mut sink = relay::MeshSink::new(out);
        let heartbeats = self.mesh.counters().heartbeats;
        self.mesh.on_wake(now, &mut sink);
        if let Some(asks) = sink.into_asks() {
            self.follow_up(now, asks, out);
        }
        let mut effects = Vec::new();
        self.chain.on_wake(self.moment(now), &mut effects);
        self.chain_effects(now, effects, out);
        if self.mesh.counters().heartbeats > heartbeats {
            let low = self.mesh.degree_low();
            let short = self.mesh.topics().any(|(topic, _)| self.mesh.mesh_degree(topic) < low);
            self.peers.mesh_is_short(now, short);
            if (heartbeats + 1).is_multiple_of(TURN_TICKS) {
                self.take_turn(now, out);
            }
        }
        self.act_on_turn(now, out);
        self.act_on_slot(now, out);
        self.act_on_silence(now, out);
        self.act_on_peers(now, out);
        self.others_wake = self.find_others_wake();
    }

    /// When [`Node::on_wake`] has something to do, and what.
    #[must_use]
    pub fn next_wake(&self) -> Option<(Time, WakeReason)> {
        let mut next = (self.silence.next_wake(), WakeReason::Silence);
        if let Some(others) = self.others_wake
            && others.0 <= next.0
        {
            next = others;
        }
        if let Some((at, reason)) = self.mesh.next_wake()
            && at <= next.0
        {
            next = (at, WakeReason::Mesh(reason));
        }
        Some(next)
    }

    /// Whether the book of peers has nothing to do, where nothing but the mesh, the mempool and verifications has changed since it was asked last.
    fn others_sleep(&self, now: Time) -> bool {
        self.others_wake.is_none_or(|(at, _)| at > now) || self.peers.next_wake() > now
    }

    pub(super) fn find_others_wake(&self) -> Option<(Time, WakeReason)> {
        let chain = self.chain.next_wake().map(|at| (at, WakeReason::Chain));
        let peers = Some((self.peers.next_wake(), WakeReason::Peers));
        let slot = self.clock.next_slot(&self.genesis).map(|at| (at, WakeReason::Slot));
        let turn = self.turns.next_wake().map(|at| (at, WakeReason::Turn));
        [chain, peers, slot, turn].into_iter().flatten().min_by_key(|(at, _)| *at)
    }

    /// Asserts every invariant of every machine inside.
    ///
    /// # Panics
    /// When one does not hold.
    pub fn check(&self) {
        self.mesh.check();
        self.mempool.check();
        self.chain.check();
        self.peers.check();
        assert_eq!(self.others_wake, self.find_others_wake(), "the node sleeps through something");
        assert!(self.verifications.len() <= self.config.verifications_max, "too many verifications under way");
        self.verifications.check();
        self.check_persistence();
        self.check_drafts();
        self.offers.check(|peer| self.peer_id(peer).is_some());
        for (ticket, check) in &self.checks {
            let jobs = self.verifications.iter().filter(|(_, each)| each.is_of_block(*ticket)).count();
            assert!(
                jobs > 0 && jobs == check.jobs(),
                "a block waits for {} jobs, but {jobs} are under way",
                check.jobs()
            );
        }
        let seats = self.connected.iter().flatten().count();
        assert_eq!(seats, self.mesh.peers_len(), "the mesh knows other peers than the node");
    }

    fn disconnected(&mut self, now: Time, peer: PeerHandle, out: &mut impl Sink<Output>) {
        let Some(seat) = self.connected.get_mut(peer.index()) else { return };
        let Some((_, id)) = seat.take_if(|(handle, _)| *handle == peer) else { return };
        self.peers.disconnected(now, id);
        self.offers.disconnected(peer);
        self.mesh_input(now, mesh::Input::Disconnected { peer }, out);
        let mut effects = Vec::new();
        self.chain.peer_disconnected(self.moment(now), peer, &mut effects);
        self.chain_effects(now, effects, out);
    }

    /// Tells the peer book who has been of use of late and who is in our meshes, from whom it takes acquaintances and anchors, and disconnects whom it
    /// wants to make room.
    fn take_turn(&mut self, now: Time, out: &mut impl Sink<Output>) {
        let Self { mesh, peers, connected, turn_at, .. } = self;
        let served = connected.iter().flatten().filter_map(|(peer, id)| Some((*id, mesh.served_at(*peer)?)));
        let served: std::collections::BTreeMap<PeerId, Time> = served.collect();
        peers.credit(now, |id| served.get(id).copied());
        let handles = mesh.topics().flat_map(|(topic, _)| mesh.mesh_peers(topic));
        let seats = handles.filter_map(|peer| connected.get(peer.index())?.as_ref());
        let ids: std::collections::BTreeSet<PeerId> = seats.map(|(_, id)| *id).collect();
        peers.mesh_has(now, |id| ids.contains(id));
        let told = mesh.take_told();
        let since = core::mem::replace(turn_at, now);
        let was_of_use = |id: &PeerId| told.contains(id) || served.get(id).is_some_and(|at| *at > since);
        // Who is in a mesh is tried there.
        let of_use = |id: &PeerId| (!ids.contains(id) || was_of_use(id)).then(|| was_of_use(id));
        let gone = peers.renew(now, mesh.counters().links_replaced, of_use);
        for (peer, _) in connected.iter().flatten().filter(|(_, id)| gone.contains(id)) {
            out.emit(Output::Disconnect { peer: *peer, reason: mesh::DisconnectReason::Evicted });
        }
    }

    /// Keeps a peer or a subnet out: whoever it is about is disconnected, forgotten and not dialled.
    ///
    /// # Errors
    /// When the list of bans does not take it.
    pub fn ban(&mut self, now: Time, ban: Ban, out: &mut impl Sink<Output>) -> Result<(), BanError> {
        self.peers.ban(now, ban)?;
        self.others_wake = self.find_others_wake();
        for (peer, id) in self.connected.iter().flatten() {
            if self.peers.is_banned(now, *id, self.peers.connected_ip(id)) {
                out.emit(Output::Disconnect { peer: *peer, reason: mesh::DisconnectReason::Requested });
            }
        }
        Ok(())
    }

    /// Ends a ban; false when there was none.
    pub fn unban(&mut self, target: BanTarget) -> bool {
        let ended = self.peers.unban(target);
        self.others_wake = self.find_others_wake();
        ended
    }

    fn act_on_peers(&mut self, now: Time, out: &mut impl Sink<Output>) {
        self.peers.on_wake(now, |action| {
            out.emit(match action {
                PeerAction::Dial { id, addresses, purpose } => Output::Dial { id, addresses, purpose },
                PeerAction::Discover => Output::Discover,
                PeerAction::Save => Output::SavePeers,
            });
        });
    }

    fn ticket(&mut self) -> Ticket {
        self.tickets += 1;
        Ticket(self.tickets)
    }

    /// Starts a verification; false when too many are under way.
    fn verify(&mut self, job: Job, purpose: Verification, out: &mut impl Sink<Output>) -> bool {
        let (before, cost) = (self.verifications.bytes(), purpose.bytes());
        let bytes = before.saturating_add(cost);
        let fits = cost == 0 || before == 0 || bytes <= self.config.verification_bytes_max;
        if self.verifications.len() >= self.config.verifications_max || !fits {
            return false;
        }
        let ticket = self.ticket();
        self.verifications.insert(ticket, purpose);
        out.emit(Output::Verify { ticket, job });
        true
    }

    /// Says the same as [`Self::mesh_input`].
    fn verified(&mut self, now: Time, ticket: Ticket, outcome: Outcome, out: &mut impl Sink<Output>) -> bool {
        match self.verifications.remove(ticket) {
            None => return false,
            Some(Verification::Relay { validation, candidate, peer }) => {
                let (verdict, disputed) = self.admit(now, candidate, peer, &outcome);
                if verdict == Verdict::Accept && self.chain.head().height == 0 {
                    self.news(now);
                }
                let others = self.mesh_input(now, mesh::Input::Verdict { ticket: validation, verdict }, out);
                let disputes = disputed.is_some_and(|id| self.mesh_input(now, mesh::Input::Disputed { id }, out));
                return others || disputes;
            }
            Some(Verification::Submission { ticket, transaction }) => {
                self.submission_verified(now, ticket, &transaction, &outcome, out);
            }
            Some(Verification::Restored { transaction, own }) => {
                self.restored_verified(now, (transaction, own), &outcome, out);
            }
            Some(Verification::Relayed { validation, message, peer, .. }) => {
                self.relayed_decoded(now, (validation, message, peer), outcome, out);
            }
            Some(Verification::Block { check, header }) => self.block_job_done(now, (check, header), &outcome, out),
            Some(Verification::Headers { ticket }) => self.headers_verified(now, ticket, &outcome, out),
            Some(Verification::Decode { ticket, header }) => {
                self.block_decoded(now, ticket, header.as_deref(), outcome, out);
            }
            Some(Verification::Stamp) => self.stamp_sought(now, &outcome, out),
        }
        true
    }

    /// The class of messages that a topic carries.
    fn class_of(&self, topic: &Topic) -> Option<MessageClass> {
        if topic == self.genesis.transaction_topic() {
            Some(MessageClass::Transaction)
        } else if topic == self.genesis.block_topic() {
            Some(MessageClass::Block)
        } else {
            None
        }
    }
}
