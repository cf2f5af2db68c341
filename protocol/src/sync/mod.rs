//! Catching up: headers first, from one peer, then the blocks, from many.
//!
//! # What it promises
//! - **Convergence.** A node with one honest peer that keeps what it lacks comes to that peer's chain, whatever the
//!   other peers do.
//! - **Nobody holds it up.** Every request has a deadline; what a slow peer was asked for is asked of another before
//!   that. Whom a peer that lies has misled loses at most one round trip and what it had not placed yet.
//! - **Bounds.** Headers that were verified ahead, blocks that have come and are not placed, requests under way and blocks
//!   in verification are bounded by the constants in `sync/io.rs`, whatever heights peers claim.
//! - **Blame where it belongs.** See below.
//!
//! # Rules
//! 1. *Status.* Both ends of a new connection tell each other how they stand ([`Status`]), and every response says it
//!    again. Who does not answer is asked [`STRIKES_MAX`] times in all. When no block has come for [`Config::stall_after`], the next peer in turn is asked. A claimed height counts
//!    for no more than there are slots.
//! 2. *Headers.* While peers claim more than we have, or a chain of the same length whose end the fork choice prefers,
//!    one of them is *followed*, by turns the one that claims most, of those that have led us in vain least often, and the one that was not
//!    followed for longest: its headers are fetched with a locator, [`HEADERS_MAX`] at a time. They
//!    have to follow on each other and on the locator, and each is checked for its network, its height, whose turn its
//!    slot was and the producer's signature before any block is asked for.
//!    *Rationale:* headers cost 212 bytes for each block of up to megabytes, and from then on every block is known by
//!    its digest: whoever sends another one is at fault, and no honest peer ever is for somebody else's lie.
//!    While none have come, one peer more is asked for them after each [`Config::headers_slow_after`], up to [`HEADERS_ASKED_MAX`] at a time, and the
//!    first one that gives any is followed. Whoever is asked because it is its turn has [`Config::slow_after`] to itself, and its turn again if another
//!    one is followed before that. *Rationale:* whoever claims much and answers late would cost its whole time otherwise, and of many peers
//!    that do so each would. And whoever answers first with next to nothing would use up everybody's turn.
//! 3. *Blocks* are asked for by id, in runs, of every peer that should have them: the least occupied one first, then the one
//!    that was late or failed least often since it delivered, then the one with the best pace. A peer's runs grow while it answers quickly and shrink when it does not.
//! 4. *Order.* Blocks are decoded and verified in parallel by the workers, and placed in order. What the chain makes of
//!    them (a longer fork is adopted, a shorter one waits) is its business.
//! 5. *Slow peers.* What was asked for and has not come after [`Config::slow_after`] is asked of another peer, if one
//!    has room, and the slow one rests; its answer still counts if it comes first. A rest doubles until the peer
//!    delivers again.
//! 6. *Faults* ([`PeerFault`]): what no honest peer does. The peer is reported and not asked again while it is
//!    connected, and its work goes to others. For headers and for the validity of a chain the peer that is followed answers;
//!    for bytes whoever sent them. Saying that one has a chain and then not giving it is a fault when it happens
//!    [`STRIKES_MAX`] times in a row: once may be an honest race.
//! 7. *Pruned peers.* No peer is asked for blocks below its earliest height. If all that claim more than we have lack the
//!    next block, that is said ([`Event::NobodyKeeps`]).
//! 8. *Leading in vain.* Whoever was followed, and our chain did not become as long as it had claimed when that began, comes after all who
//!    have done so less often, whatever the reason: to say late that one is busy, or to give one block at a time, is no fault that could be told
//!    from misfortune. Every other time the one is followed that was not for longest; who has just come was followed just now. A block that
//!    does not come for as long as [`STRIKES_MAX`] requests may take ends the following of that chain. *Rationale:* otherwise two peers that claim
//!    much and take turns at being busy, or at coming again, or one that withholds a block, keep us from all others for ever.
//!    Whoever has led [`LED_NOWHERE_MAX`] times without a single block says nothing of whether we are behind, if anybody else has told.
//! 9. *Excess.* A peer that is busy says so and is asked again after [`Config::busy_pause`]. The same goes for our own
//!    workers: a job that they refuse is offered again after that pause, and nothing else is done again. *Rationale:* an
//!    answer of headers is many jobs. If it had to be verified without any refusal, workers that refuse one job in four
//!    would never let a node catch up.
//!
//! # When a peer that is followed fails
//! What its headers promised is dropped and begun anew with the next peer. Blocks that have been placed stay, so this
//! costs a window of blocks at most.
//!
//! # Cost
//! O(log n) for each header and block, plus O(peers) for each request.
//!
//! The scheme is that of Bitcoin's headers-first synchronisation; bounded windows, pace and reassignment follow its
//! block download window and stalling logic (Bitcoin Core 0.10, 2015) in our own way.

mod blocks;
mod headers;
pub mod io;
mod peers;
mod query;
mod rate;
mod requests;
mod session;

use crate::chain::{Moment, PeerFault, RequestFailure, RequestId};
use crate::id::PeerHandle;
use crate::mesh::Sink;
use crate::request::{Answer, Request, Response, Status};
use crate::time::{Duration, Time};
pub use io::{Checked, Config, Effect, Local, SyncCounters, SyncProgress, SyncState};
use peers::Peer;
use requests::{Open, Purpose, Requests, Timer};
use session::Session;
use std::collections::BTreeMap;

#[cfg(doc)]
use crate::chain::Event;
#[cfg(doc)]
use crate::request::HEADERS_MAX;
#[cfg(doc)]
use io::{HEADERS_ASKED_MAX, LED_NOWHERE_MAX, STRIKES_MAX};

/// The machine; see the head of this module. Whoever owns it hands in what it needs to know of the chain with each
/// call.
#[derive(Clone, Debug, Default)]
pub struct Sync {
    peers: BTreeMap<PeerHandle, Peer>,
    requests: Requests,
    session: Option<Session>,
    stall_at: Option<Time>,
    /// Whom the last stall made us ask.
    asked_last: Option<PeerHandle>,
    counters: SyncCounters,
    tickets: u64,
    /// How often a peer was chosen to be asked for headers.
    followed: u64,
    /// The height of which [`Event::NobodyKeeps`] was emitted last.
    told_nobody_keeps: Option<u64>,
}

impl Sync {
    /// A number that was not used before, for requests and verifications.
    pub fn ticket(&mut self) -> u64 {
        self.tickets += 1;
        self.tickets
    }

    /// A peer is connected: it is told how we stand, and asked how it does.
    pub fn connected(&mut self, at: Moment, peer: PeerHandle, local: &dyn Local, out: &mut dyn Sink<Effect>) {
        self.peers.insert(peer, Peer { followed_at: at.now, ..Peer::default() });
        if self.stall_at.is_none() {
            self.arm_stall(at.now, local);
        }
        self.ask_status(at.now, peer, local, out);
    }

    /// A peer is gone. What it was asked for is asked of others.
    pub fn disconnected(&mut self, at: Moment, peer: PeerHandle, local: &dyn Local, out: &mut dyn Sink<Effect>) {
        self.drop_requests_of(peer);
        self.peers.remove(&peer);
        if self.session.as_ref().is_some_and(|session| session.leader == peer) {
            self.leader_is_gone();
        }
        self.go_on(at, local, out);
    }

    /// A peer has told how it stands.
    pub fn heard(
        &mut self,
        at: Moment,
        peer: PeerHandle,
        status: &Status,
        local: &dyn Local,
        out: &mut dyn Sink<Effect>,
    ) {
        self.take_status(at, peer, status, local, out);
        self.go_on(at, local, out);
    }

    /// A peer has told how it stands while it answered something else, which comes first.
    pub fn note(&mut self, at: Moment, peer: PeerHandle, status: &Status) {
        if let Some(state) = self.peers.get_mut(&peer) {
            // There are no more blocks than slots, whatever it claims.
            state.height = status.head.height.min(at.slot_ahead);
            state.head = Some(status.head);
            state.earliest = status.earliest;
            state.told = true;
        }
    }

    /// A peer has, or builds on, a block of this height.
    pub fn saw(&mut self, peer: PeerHandle, height: u64) {
        if let Some(peer) = self.peers.get_mut(&peer) {
            peer.height = peer.height.max(height);
        }
    }

    /// Our head has moved, so the network is not quiet.
    pub fn head_moved(&mut self, now: Time, local: &dyn Local) {
        if self.stall_at.is_some() {
            self.arm_stall(now, local);
        }
    }

    /// Asks all peers how they stand: something seems to be wrong.
    pub fn ask_all(&mut self, now: Time, local: &dyn Local, out: &mut dyn Sink<Effect>) {
        let peers: Vec<PeerHandle> = self.askable().collect();
        for peer in peers {
            self.ask_status(now, peer, local, out);
        }
    }

    /// The answer to [`Effect::Request`]. One that is too late is ignored.
    pub fn on_response(
        &mut self,
        at: Moment,
        request: RequestId,
        response: Result<Response, RequestFailure>,
        local: &dyn Local,
        out: &mut dyn Sink<Effect>,
    ) {
        let Some(open) = self.requests.close(request) else { return };
        self.returned(&open);
        match response {
            Ok(response) => {
                if response.status.network == local.status().network {
                    self.note(at, open.peer, &response.status);
                    self.answered(at, request, &open, response, local, out);
                } else {
                    // Of whom that has told to be of another network nothing else is of use.
                    self.take_back_from(request, &open, PeerFault::OtherNetwork, out);
                }
            }
            Err(RequestFailure::Malformed) => {
                self.counters.failed += 1;
                self.take_back_from(request, &open, PeerFault::Malformed, out);
            }
            Err(_) => self.failed(at, request, &open, local),
        }
        self.go_on(at, local, out);
    }

    /// The disk has room again.
    pub fn disk_caught_up(&mut self, at: Moment, local: &dyn Local, out: &mut dyn Sink<Effect>) {
        self.go_on(at, local, out);
    }

    /// Does what is due. A spurious call does nothing.
    pub fn on_wake(&mut self, at: Moment, local: &dyn Local, out: &mut dyn Sink<Effect>) {
        let mut woken = false;
        while let Some(timer) = self.requests.take_due(at.now) {
            woken = true;
            match timer {
                Timer::Deadline(request) => {
                    if let Some(open) = self.requests.close(request) {
                        self.returned(&open);
                        self.failed(at, request, &open, local);
                    }
                }
                Timer::Slow(request) => match self.requests.get(request).map(|open| &open.purpose) {
                    Some(Purpose::Headers) => self.headers_are_slow(request),
                    Some(Purpose::Blocks(_)) => self.blocks_are_slow(at, request, local),
                    Some(Purpose::Status) | None => {}
                },
                Timer::Stall => self.stalled(at.now, local, out),
                Timer::Rested => {}
            }
        }
        if woken {
            self.ask_again(at.now, local, out);
            self.go_on(at, local, out);
        }
    }

    /// A peer was found at fault outside of catching up, which goes on with others.
    pub fn at_fault(
        &mut self,
        at: Moment,
        peer: PeerHandle,
        fault: PeerFault,
        local: &dyn Local,
        out: &mut dyn Sink<Effect>,
    ) {
        self.bar(peer, fault, out);
        self.go_on(at, local, out);
    }

    /// Reports a peer, asks it no more, and gives its work to others. One that has left is not reported, but what it has promised
    /// is dropped all the same.
    fn bar(&mut self, peer: PeerHandle, fault: PeerFault, out: &mut dyn Sink<Effect>) {
        if let Some(state) = self.peers.get_mut(&peer).filter(|state| !state.barred) {
            state.barred = true;
            out.emit(Effect::PeerFault { peer, fault });
            self.drop_requests_of(peer);
        }
        if self.session.as_ref().is_some_and(|session| session.leader == peer) {
            // What it promised may be a lie as well.
            self.end(out, false);
        }
    }

    fn askable(&self) -> impl Iterator<Item = PeerHandle> {
        self.peers.iter().filter(|(_, state)| !state.barred).map(|(peer, _)| *peer)
    }

    fn ask_status(&mut self, now: Time, peer: PeerHandle, local: &dyn Local, out: &mut dyn Sink<Effect>) {
        let asked = |open: &Open| open.peer == peer && open.purpose == Purpose::Status;
        if self.requests.iter().any(|(_, open)| asked(open)) {
            return;
        }
        self.ask(now, (peer, Purpose::Status), None, Request::Status(local.status()), local, out);
    }

    /// Sends a request, which takes long after so much time.
    fn ask(
        &mut self,
        now: Time,
        (peer, purpose): (PeerHandle, Purpose),
        slow_after: Option<Duration>,
        body: Request,
        local: &dyn Local,
        out: &mut dyn Sink<Effect>,
    ) -> RequestId {
        let request = RequestId(self.ticket());
        let config = local.config();
        let blocks = matches!(purpose, Purpose::Blocks(_));
        if let Some(state) = self.peers.get_mut(&peer) {
            state.in_flight += usize::from(blocks);
        }
        let slow_at = slow_after.map(|after| now + after);
        self.requests.open(request, (peer, purpose), now, (now + config.request_timeout, slow_at));
        self.counters.sent += 1;
        out.emit(Effect::Request { request, peer, body });
        request
    }

    /// A request is no longer under way.
    fn returned(&mut self, open: &Open) {
        if matches!(open.purpose, Purpose::Blocks(_))
            && let Some(peer) = self.peers.get_mut(&open.peer)
        {
            peer.in_flight -= 1;
        }
    }

    fn take_status(
        &mut self,
        at: Moment,
        peer: PeerHandle,
        status: &Status,
        local: &dyn Local,
        out: &mut dyn Sink<Effect>,
    ) {
        if status.network != local.status().network {
            return self.bar(peer, PeerFault::OtherNetwork, out);
        }
        self.note(at, peer, status);
    }

    fn answered(
        &mut self,
        at: Moment,
        request: RequestId,
        open: &Open,
        response: Response,
        local: &dyn Local,
        out: &mut dyn Sink<Effect>,
    ) {
        let Response { status, answer } = response;
        match (&open.purpose, answer) {
            (_, Answer::Busy) => {
                self.counters.refused += 1;
                self.pause_peer(at.now, open.peer, local);
                self.take_back(request, open);
            }
            (Purpose::Status, Answer::Status) => {}
            (Purpose::Headers, Answer::Headers(headers)) => {
                self.headers_came(at, request, (open.peer, &status), headers, local, out);
            }
            (Purpose::Blocks(asked), Answer::Blocks(blocks)) => {
                self.blocks_came(at, request, (open, asked), blocks, local, out);
            }
            _ => self.take_back_from(request, open, PeerFault::Malformed, out),
        }
    }

    /// A request brought nothing.
    fn failed(&mut self, at: Moment, request: RequestId, open: &Open, local: &dyn Local) {
        self.counters.failed += 1;
        if open.purpose == Purpose::Status {
            self.status_failed(at.now, open.peer, local);
        } else {
            self.rest(at.now, open.peer, local);
        }
        self.take_back(request, open);
    }

    /// What was asked for with this request has to be asked for again.
    fn take_back(&mut self, request: RequestId, open: &Open) {
        match &open.purpose {
            Purpose::Status => {}
            Purpose::Headers => self.headers_failed(request),
            Purpose::Blocks(blocks) => {
                if let Some(session) = &mut self.session {
                    session.window.take_back(request, blocks);
                }
            }
        }
    }

    /// As [`Sync::take_back`] and [`Sync::bar`], in this order: whoever was asked for headers beside another peer has
    /// promised nothing yet, and leads no more when it is barred.
    fn take_back_from(&mut self, request: RequestId, open: &Open, fault: PeerFault, out: &mut dyn Sink<Effect>) {
        self.take_back(request, open);
        self.bar(open.peer, fault, out);
    }

    fn drop_requests_of(&mut self, peer: PeerHandle) {
        for request in self.requests.of(peer) {
            if let Some(open) = self.requests.close(request) {
                self.returned(&open);
                self.take_back(request, &open);
            }
        }
    }

    fn arm_stall(&mut self, now: Time, local: &dyn Local) {
        let due = now + local.config().stall_after;
        if let Some(before) = self.stall_at.replace(due) {
            self.requests.disarm(before, Timer::Stall);
        }
        self.requests.arm(due, Timer::Stall);
    }

    /// No block has come for a while: asks the next peer in turn how it stands.
    fn stalled(&mut self, now: Time, local: &dyn Local, out: &mut dyn Sink<Effect>) {
        self.stall_at = None;
        if self.peers.is_empty() {
            return;
        }
        self.arm_stall(now, local);
        let next = self.askable().find(|peer| Some(*peer) > self.asked_last).or_else(|| self.askable().next());
        if let Some(peer) = next {
            self.asked_last = next;
            self.ask_status(now, peer, local, out);
        }
    }
}
