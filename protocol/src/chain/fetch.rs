//! Asking peers for blocks that we lack: requests and their timeouts, and missing parents one by one.
//!
//! # Two ways to come by blocks
//! - *By hash*: the parent of a block that waits is asked for, from whoever sent the block, then from others, at most
//!   [`Config::parent_attempts_max`] in all; then its descendants are dropped, and if they are worth having, the stall
//!   probe finds them again.
//! - *Forward sync* ([`super::sync`]): everything that follows our chain, in batches, from one peer at a time. It takes
//!   over where a parent is [`Config::sync_gap`] blocks or more away: in height, or in parents already fetched one
//!   after the other, which is what a fork of equal height looks like.
//!
//! While a sync runs, no parent is asked for: what waits may well come with it. When it ends, what still waits is asked
//! for.
//!
//! # When a peer is asked
//! The first few peers are asked for their chains as they connect, one after the other. After that blocks come by the
//! mesh; when none has for [`Config::stall_after`], peers are asked in turn, one each time.
//!
//! # Trust
//! A peer may claim any height; that makes us ask it, and only if it then sends nothing is it at fault. One that does
//! what no honest peer does is reported and not asked again while it is connected. One that failed, timed out or was
//! slow rests for [`Config::stall_after`].

use super::io::{
    Config, Effect, Moment, PeerFault, Position, RequestFailure, RequestId, SyncProgress, Verified, VerifyTicket,
};
use super::sync::Sync;
use super::{Chain, Invalid, Placed};
use crate::block::Block;
use crate::genesis::Genesis;
use crate::id::{BlockId, PeerHandle};
use crate::mesh::Sink;
use crate::request::{BlockRequest, BlockResponse};
use crate::time::{Duration, Time};
use std::collections::{BTreeMap, BTreeSet};

/// How many blocks whose bodies are being verified are waited for before anybody is asked for them again.
const BODIES_AWAITED_MAX: usize = 64;

#[derive(Clone, Debug)]
pub(super) struct Fetch {
    pub(super) peers: BTreeMap<PeerHandle, Peer>,
    requests: BTreeMap<RequestId, Outstanding>,
    wants: BTreeMap<BlockId, Want>,
    verifying: BTreeMap<VerifyTicket, Purpose>,
    /// Blocks that the mesh brought and whose bodies are being verified, until when they are waited for.
    bodies_awaited: BTreeMap<BlockId, Time>,
    pub(super) sync: Option<Sync>,
    timers: BTreeSet<(Time, Timer)>,
    /// When the next stall probe is due, if one is.
    stall_at: Option<Time>,
    pub(super) stall_after: Duration,
    verify_timeout: Duration,
    /// How many of the first peers are still to be asked.
    pub(super) first_probes: u32,
    last_probed: Option<PeerHandle>,
    tickets: u64,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Peer {
    /// The highest block that the peer is known or claims to have.
    pub(super) height: u64,
    /// It did what no honest peer does.
    barred: bool,
    /// It is not asked to sync before.
    pub(super) rests_until: Time,
}

#[derive(Clone, Copy, Debug)]
struct Outstanding {
    peer: PeerHandle,
    purpose: Purpose,
    deadline: Time,
}

/// What a request or verification is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// A missing parent, from this peer.
    Parent(BlockId, PeerHandle),
    /// The running sync.
    Sync,
}

/// A missing parent.
#[derive(Clone, Debug)]
struct Want {
    asked: BTreeSet<PeerHandle>,
    /// How many blocks were fetched one by one to find that this one is missing.
    depth: u64,
    state: WantState,
    /// The block, while it is being verified.
    block: Option<Block>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WantState {
    /// Its body is being verified; it is asked for if that takes too long.
    Awaited(Time),
    Requested(RequestId),
    Verifying(VerifyTicket),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    Request(RequestId),
    Want(BlockId),
    Stall,
}

impl Fetch {
    pub(super) fn new(config: &Config, genesis: &Genesis) -> Self {
        let slots = Duration::from_micros(genesis.slot_us().saturating_mul(3));
        Self {
            peers: BTreeMap::new(),
            requests: BTreeMap::new(),
            wants: BTreeMap::new(),
            verifying: BTreeMap::new(),
            bodies_awaited: BTreeMap::new(),
            sync: None,
            timers: BTreeSet::new(),
            stall_at: None,
            // With long slots a quiet chain is no stalled one.
            stall_after: config.stall_after.max(slots),
            verify_timeout: config.verify_timeout,
            first_probes: config.first_probes,
            last_probed: None,
            tickets: 0,
        }
    }

    pub(super) fn next_wake(&self) -> Option<Time> {
        self.timers.first().map(|(time, _)| *time)
    }

    pub(super) fn under_way(&self) -> usize {
        self.requests.len() + self.verifying.len()
    }

    /// A peer has a block of this height.
    pub(super) fn saw(&mut self, peer: Option<PeerHandle>, height: u64) {
        if let Some(peer) = peer.and_then(|peer| self.peers.get_mut(&peer)) {
            peer.height = peer.height.max(height);
        }
    }

    /// The body of a block that the mesh brought is going to be verified.
    pub(super) fn body_awaited(&mut self, at: Moment, id: BlockId) {
        if self.bodies_awaited.len() >= BODIES_AWAITED_MAX {
            self.bodies_awaited.retain(|_, until| *until > at.now);
        }
        if self.bodies_awaited.len() < BODIES_AWAITED_MAX {
            self.bodies_awaited.insert(id, at.now + self.verify_timeout);
        }
    }

    pub(super) fn body_verified(&mut self, id: &BlockId) {
        self.bodies_awaited.remove(id);
    }

    /// The block has come, or is known to be of no use.
    pub(super) fn no_longer_wanted(&mut self, id: &BlockId) {
        if let Some(Want { state: WantState::Awaited(until), .. }) = self.wants.remove(id) {
            self.timers.remove(&(until, Timer::Want(*id)));
        }
    }

    pub(super) fn head_moved(&mut self, at: Moment) {
        if self.stall_at.is_some() {
            self.arm_stall(at);
        }
    }

    fn arm_stall(&mut self, at: Moment) {
        if let Some(before) = self.stall_at.replace(at.now + self.stall_after) {
            self.timers.remove(&(before, Timer::Stall));
        }
        self.timers.insert((at.now + self.stall_after, Timer::Stall));
    }

    pub(super) fn request(
        &mut self,
        deadline: Time,
        peer: PeerHandle,
        purpose: Purpose,
        body: BlockRequest,
        out: &mut dyn Sink<Effect>,
    ) -> RequestId {
        self.tickets += 1;
        let request = RequestId(self.tickets);
        self.requests.insert(request, Outstanding { peer, purpose, deadline });
        self.timers.insert((deadline, Timer::Request(request)));
        out.emit(Effect::Request { request, peer, body });
        request
    }

    pub(super) fn verify(&mut self, purpose: Purpose, block: &Block, out: &mut dyn Sink<Effect>) -> VerifyTicket {
        self.tickets += 1;
        let ticket = VerifyTicket(self.tickets);
        self.verifying.insert(ticket, purpose);
        out.emit(Effect::Verify { ticket, block: block.clone() });
        ticket
    }

    /// Whether the peer is connected and may be asked.
    pub(super) fn may_ask(&self, peer: PeerHandle) -> bool {
        self.peers.get(&peer).is_some_and(|peer| !peer.barred)
    }

    /// Reports a peer and asks it no more.
    pub(super) fn bar(&mut self, peer: PeerHandle, fault: PeerFault, out: &mut dyn Sink<Effect>) {
        if let Some(state) = self.peers.get_mut(&peer) {
            state.barred = true;
            out.emit(Effect::PeerFault { peer, fault });
        }
    }
}

impl Chain {
    /// A peer that speaks the request-response protocol is connected.
    pub fn peer_connected(&mut self, at: Moment, peer: PeerHandle, out: &mut impl Sink<Effect>) {
        self.fetch.peers.insert(peer, Peer::default());
        if self.fetch.stall_at.is_none() {
            self.fetch.arm_stall(at);
        }
        if self.fetch.first_probes > 0 && self.fetch.sync.is_none() {
            self.fetch.first_probes -= 1;
            self.start_sync(at, peer, out);
        }
    }

    /// The peer is gone. What it was asked for is asked of others.
    pub fn peer_disconnected(&mut self, at: Moment, peer: PeerHandle, out: &mut impl Sink<Effect>) {
        self.fetch.peers.remove(&peer);
        let lost = self.fetch.requests.iter().filter(|(_, outstanding)| outstanding.peer == peer);
        let lost: Vec<RequestId> = lost.map(|(request, _)| *request).collect();
        for request in lost {
            self.on_response(at, request, Err(RequestFailure::Failed), out);
        }
    }

    /// The answer to [`Effect::Request`]. An answer that is too late is ignored.
    pub fn on_response(
        &mut self,
        at: Moment,
        request: RequestId,
        response: Result<BlockResponse, RequestFailure>,
        out: &mut impl Sink<Effect>,
    ) {
        self.response(at, request, response, out);
    }

    /// The answer to [`Effect::Verify`].
    pub fn on_verified(&mut self, at: Moment, ticket: VerifyTicket, verified: Verified, out: &mut impl Sink<Effect>) {
        match self.fetch.verifying.remove(&ticket) {
            Some(Purpose::Sync) => self.sync_verified(at, ticket, verified, out),
            Some(Purpose::Parent(id, peer)) => self.parent_verified(at, (id, peer), ticket, verified, out),
            None => {}
        }
    }

    /// How far catching up has come.
    #[must_use]
    pub fn sync_progress(&self) -> SyncProgress {
        let target = self.fetch.peers.values().filter(|peer| !peer.barred).map(|peer| peer.height).max();
        SyncProgress {
            peer: self.fetch.sync.as_ref().map(|sync| sync.peer),
            height: self.head.height,
            target: target.unwrap_or(0).max(self.head.height),
        }
    }

    /// Asks for the missing parents of all blocks that wait, unless that has been done or a sync may bring them.
    pub(super) fn want_missing(&mut self, at: Moment, depth: u64, out: &mut dyn Sink<Effect>) {
        if self.fetch.sync.is_some() {
            return;
        }
        let unasked = self.orphans.missing().filter(|(parent, _)| !self.fetch.wants.contains_key(parent));
        let unasked: Vec<(BlockId, u64, Option<PeerHandle>)> =
            unasked.map(|(parent, orphan)| (parent, orphan.block.header().height, orphan.from)).collect();
        for (parent, height, from) in unasked {
            let far = depth >= self.config.sync_gap || height > self.head.height.saturating_add(self.config.sync_gap);
            if far && let Some(peer) = self.sync_candidate(at, from) {
                self.start_sync(at, peer, out);
                return;
            }
            let awaited = self.fetch.bodies_awaited.get(&parent).copied().filter(|until| *until > at.now);
            let state = WantState::Awaited(awaited.unwrap_or(at.now));
            self.fetch.wants.insert(parent, Want { asked: BTreeSet::new(), depth, state, block: None });
            match awaited {
                Some(until) => {
                    self.fetch.timers.insert((until, Timer::Want(parent)));
                }
                None => self.ask_for_parent(at, parent, out),
            }
        }
    }

    /// Forgets missing parents that no block waits for any more.
    pub(super) fn forget_idle_wants(&mut self) {
        let idle = self.fetch.wants.keys().filter(|parent| !self.orphans.awaits(parent));
        let idle: Vec<BlockId> = idle.copied().collect();
        for parent in idle {
            self.fetch.no_longer_wanted(&parent);
        }
    }

    /// A peer claims a height. There are no more blocks than slots, whatever it claims.
    pub(super) fn heard(&mut self, at: Moment, peer: PeerHandle, height: u64) {
        self.fetch.saw(Some(peer), height.min(at.slot_ahead));
    }

    pub(super) fn run_timers(&mut self, at: Moment, out: &mut dyn Sink<Effect>) {
        while let Some((time, timer)) = self.fetch.timers.first().copied()
            && time <= at.now
        {
            match timer {
                Timer::Request(request) => self.response(at, request, Err(RequestFailure::Failed), out),
                Timer::Want(parent) => {
                    self.fetch.timers.remove(&(time, timer));
                    self.ask_for_parent(at, parent, out);
                }
                Timer::Stall => {
                    self.fetch.timers.remove(&(time, timer));
                    self.fetch.stall_at = None;
                    self.probe(at, out);
                }
            }
        }
    }

    /// No block has come for a while: asks the next peer in turn whether there is one.
    fn probe(&mut self, at: Moment, out: &mut dyn Sink<Effect>) {
        let askable = || self.fetch.peers.keys().copied().filter(|peer| self.fetch.may_ask(*peer));
        let next = askable().find(|peer| Some(*peer) > self.fetch.last_probed).or_else(|| askable().next());
        if self.fetch.peers.is_empty() {
            return;
        }
        self.fetch.arm_stall(at);
        if let Some(peer) = next
            && self.fetch.sync.is_none()
        {
            self.fetch.last_probed = next;
            self.start_sync(at, peer, out);
        }
    }

    fn response(
        &mut self,
        at: Moment,
        request: RequestId,
        response: Result<BlockResponse, RequestFailure>,
        out: &mut dyn Sink<Effect>,
    ) {
        let Some(Outstanding { peer, purpose, deadline }) = self.fetch.requests.remove(&request) else { return };
        self.fetch.timers.remove(&(deadline, Timer::Request(request)));
        if response == Err(RequestFailure::Malformed) {
            self.fetch.bar(peer, PeerFault::Malformed, out);
        }
        match purpose {
            Purpose::Parent(id, _) => self.parent_response(at, request, (id, peer), response, out),
            Purpose::Sync => self.sync_response(at, request, response, out),
        }
    }

    /// Asks the next peer for a missing parent, or gives it up.
    fn ask_for_parent(&mut self, at: Moment, parent: BlockId, out: &mut dyn Sink<Effect>) {
        let Some(want) = self.fetch.wants.get(&parent) else { return };
        let peer = (want.asked.len() < self.config.parent_attempts_max).then(|| self.parent_candidate(&parent, want));
        let Some(peer) = peer.flatten() else {
            self.fetch.no_longer_wanted(&parent);
            self.drop_orphans_of(&parent, out);
            return;
        };
        let (deadline, purpose) = (at.now + self.config.request_timeout, Purpose::Parent(parent, peer));
        let request = self.fetch.request(deadline, peer, purpose, BlockRequest::ByHash(parent), out);
        if let Some(want) = self.fetch.wants.get_mut(&parent) {
            want.asked.insert(peer);
            want.state = WantState::Requested(request);
        }
    }

    /// Whoever sent a block that waits for the parent, else whoever is furthest ahead, else the lowest handle.
    fn parent_candidate(&self, parent: &BlockId, want: &Want) -> Option<PeerHandle> {
        let senders = self.orphans.senders_of_children(parent);
        let others = self.fetch.peers.iter().map(|(peer, state)| (*peer, state.height));
        let mut others: Vec<(PeerHandle, u64)> = others.collect();
        others.sort_by_key(|(peer, height)| (core::cmp::Reverse(*height), *peer));
        let mut all = senders.into_iter().chain(others.into_iter().map(|(peer, _)| peer));
        all.find(|peer| self.fetch.may_ask(*peer) && !want.asked.contains(peer))
    }

    fn parent_response(
        &mut self,
        at: Moment,
        request: RequestId,
        (id, peer): (BlockId, PeerHandle),
        response: Result<BlockResponse, RequestFailure>,
        out: &mut dyn Sink<Effect>,
    ) {
        if self.fetch.wants.get(&id).is_none_or(|want| want.state != WantState::Requested(request)) {
            return;
        }
        if let Ok(response) = response {
            self.heard(at, peer, response.head.height);
            match self.the_block(id, &response) {
                Ok(Some(block)) => {
                    let ticket = self.fetch.verify(Purpose::Parent(id, peer), &block, out);
                    if let Some(want) = self.fetch.wants.get_mut(&id) {
                        want.state = WantState::Verifying(ticket);
                        want.block = Some(block);
                    }
                    return;
                }
                Ok(None) => {}
                Err(fault) => self.fetch.bar(peer, fault, out),
            }
        }
        self.ask_for_parent(at, id, out);
    }

    /// The one block of a response, if it has one and that is the right one.
    fn the_block(&self, id: BlockId, response: &BlockResponse) -> Result<Option<Block>, PeerFault> {
        match &response.blocks[..] {
            [] => Ok(None),
            [bytes] => {
                let block = Block::decode(bytes.0.clone(), &self.genesis).map_err(|_any| PeerFault::Malformed)?;
                if block.id() == id { Ok(Some(block)) } else { Err(PeerFault::WrongBlock) }
            }
            _ => Err(PeerFault::TooMany),
        }
    }

    fn parent_verified(
        &mut self,
        at: Moment,
        (id, peer): (BlockId, PeerHandle),
        ticket: VerifyTicket,
        verified: Verified,
        out: &mut dyn Sink<Effect>,
    ) {
        let Some(want) = self.fetch.wants.get_mut(&id) else { return };
        if want.state != WantState::Verifying(ticket) {
            return;
        }
        let (depth, Some(block)) = (want.depth, want.block.take()) else { return };
        match verified {
            Verified::Valid => {
                self.place(at, block, Some(peer), depth + 1, out);
            }
            Verified::BodyInvalid(error) => self.mark_invalid(&Position::of(&block), Invalid::Body(error), out),
            Verified::HeaderInvalid => {
                self.fetch.bar(peer, PeerFault::BadSignature, out);
                self.ask_for_parent(at, id, out);
            }
            Verified::Shed => self.ask_for_parent(at, id, out),
        }
    }

    pub(super) fn check_fetch(&self) {
        let fetch = &self.fetch;
        assert!(fetch.bodies_awaited.len() <= BODIES_AWAITED_MAX, "too many bodies awaited");
        assert!(fetch.wants.len() <= self.config.orphans_max, "too many missing parents");
        for (parent, want) in &fetch.wants {
            assert!(self.orphans.awaits(parent), "nothing waits for a wanted block");
            assert!(self.tree.position(parent).is_none(), "a wanted block is here");
            match want.state {
                WantState::Awaited(until) => assert!(fetch.timers.contains(&(until, Timer::Want(*parent)))),
                WantState::Requested(request) => assert!(fetch.requests.contains_key(&request)),
                WantState::Verifying(ticket) => assert!(fetch.verifying.contains_key(&ticket)),
            }
        }
        for (request, outstanding) in &fetch.requests {
            assert!(
                fetch.timers.contains(&(outstanding.deadline, Timer::Request(*request))),
                "a request without timeout"
            );
        }
        // Nothing waits in vain: each missing parent is on its way.
        if fetch.sync.is_none() {
            for (parent, _) in self.orphans.missing() {
                assert!(fetch.wants.contains_key(&parent), "a missing parent that nobody asks for");
            }
        }
    }

    /// Places a block that a sync brought.
    pub(super) fn place_synced(
        &mut self,
        at: Moment,
        block: Block,
        peer: PeerHandle,
        out: &mut dyn Sink<Effect>,
    ) -> bool {
        let id = block.id();
        let placed = self.place(at, block, Some(peer), 0, out);
        matches!(placed, Placed::Connected | Placed::Known) && !self.invalid.contains(&id)
    }
}
