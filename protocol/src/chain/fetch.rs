//! Missing parents: asking for them one by one.
//!
//! # Two ways to come by blocks
//! - *By hash*: the parent of a block that waits is asked for, from whoever sent the block, then from others, at most
//!   [`Config::parent_attempts_max`] in all; then its descendants are dropped, and if they are worth having, the next
//!   status finds them again.
//! - *Catching up* ([`crate::sync`]) with everything that follows our chain. It takes over where a parent is
//!   [`Config::sync_gap`] blocks or more away: in height, or in parents already fetched one after the other, which is what a
//!   fork of equal height looks like.
//!
//! While we catch up, no parent is asked for once headers have come: what waits may well come with them. When that ends, what still waits is
//! asked for. *Rationale:* until headers have come, nothing but a claim says that anything will.

use super::io::{Config, Effect, Moment, PeerFault, Position, RequestFailure, RequestId, Verified, VerifyTicket};
use super::{Chain, Invalid};
use crate::block::encoded_id;
use crate::id::{BlockId, PeerHandle};
use crate::mesh::Sink;
use crate::request::{Answer, Request, Response};
use crate::sync::Checked;
use crate::time::{Duration, Time};
use std::collections::{BTreeMap, BTreeSet};

/// How many blocks whose bodies are being verified are waited for before anybody is asked for them again.
const BODIES_AWAITED_MAX: usize = 64;

#[derive(Clone, Debug)]
pub(super) struct Fetch {
    requests: BTreeMap<RequestId, Outstanding>,
    wants: BTreeMap<BlockId, Want>,
    verifying: BTreeMap<VerifyTicket, (BlockId, PeerHandle)>,
    /// Blocks that the mesh brought and whose bodies are being verified, until when they are waited for.
    bodies_awaited: BTreeMap<BlockId, Time>,
    timers: BTreeSet<(Time, Timer)>,
    verify_timeout: Duration,
}

#[derive(Clone, Copy, Debug)]
struct Outstanding {
    peer: PeerHandle,
    parent: BlockId,
    deadline: Time,
}

/// A missing parent.
#[derive(Clone, Debug)]
struct Want {
    asked: BTreeSet<PeerHandle>,
    /// How many blocks were fetched one by one to find that this one is missing.
    depth: u64,
    state: WantState,
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
}

impl Fetch {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            requests: BTreeMap::new(),
            wants: BTreeMap::new(),
            verifying: BTreeMap::new(),
            bodies_awaited: BTreeMap::new(),
            timers: BTreeSet::new(),
            verify_timeout: config.verify_timeout,
        }
    }

    pub(super) fn next_wake(&self) -> Option<Time> {
        // An ordered set that was emptied keeps a node, which need not be looked at.
        if self.timers.is_empty() { None } else { self.timers.first().map(|(time, _)| *time) }
    }

    pub(super) fn under_way(&self) -> usize {
        self.requests.len() + self.verifying.len()
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

    /// What the peer was asked for is asked of others.
    pub(super) fn lost(&self, peer: PeerHandle) -> Vec<RequestId> {
        let lost = self.requests.iter().filter(|(_, outstanding)| outstanding.peer == peer);
        lost.map(|(request, _)| *request).collect()
    }

    pub(super) fn knows(&self, request: RequestId) -> bool {
        self.requests.contains_key(&request)
    }

    pub(super) fn verifies(&self, ticket: VerifyTicket) -> bool {
        self.verifying.contains_key(&ticket)
    }
}

impl Chain {
    /// Asks for the missing parents of all blocks that wait, unless that has been done or catching up may bring them.
    pub(super) fn want_missing(&mut self, at: Moment, depth: u64, out: &mut dyn Sink<Effect>) {
        if self.sync.is_bringing() {
            return;
        }
        let unasked = self.orphans.missing().filter(|(parent, _)| !self.fetch.wants.contains_key(parent));
        let unasked: Vec<(BlockId, u64, Option<PeerHandle>)> =
            unasked.map(|(parent, orphan)| (parent, orphan.block.header().height, orphan.from)).collect();
        for (parent, height, from) in unasked {
            let far = depth >= self.config.sync_gap || height > self.head.height.saturating_add(self.config.sync_gap);
            if far {
                let mut started = false;
                self.with_sync(at, out, |sync, chain, out| started = sync.start(at, from, chain, out));
                if started {
                    continue;
                }
            }
            let awaited = self.fetch.bodies_awaited.get(&parent).copied().filter(|until| *until > at.now);
            let state = WantState::Awaited(awaited.unwrap_or(at.now));
            self.fetch.wants.insert(parent, Want { asked: BTreeSet::new(), depth, state });
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

    pub(super) fn run_timers(&mut self, at: Moment, out: &mut dyn Sink<Effect>) {
        while let Some((time, timer)) = self.fetch.timers.first().copied()
            && time <= at.now
        {
            match timer {
                Timer::Request(request) => self.parent_response(at, request, Err(RequestFailure::Failed), out),
                Timer::Want(parent) => {
                    self.fetch.timers.remove(&(time, timer));
                    self.ask_for_parent(at, parent, out);
                }
            }
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
        let request = RequestId(self.sync.ticket());
        let deadline = at.now + self.config.sync.request_timeout;
        self.fetch.requests.insert(request, Outstanding { peer, parent, deadline });
        self.fetch.timers.insert((deadline, Timer::Request(request)));
        out.emit(Effect::Request { request, peer, body: Request::Blocks(vec![parent]) });
        if let Some(want) = self.fetch.wants.get_mut(&parent) {
            want.asked.insert(peer);
            want.state = WantState::Requested(request);
        }
    }

    /// Whoever sent a block that waits for the parent, else whoever is furthest ahead, else the lowest handle.
    fn parent_candidate(&self, parent: &BlockId, want: &Want) -> Option<PeerHandle> {
        let senders = self.orphans.senders_of_children(parent);
        let mut all = senders.into_iter().chain(self.sync.by_height());
        all.find(|peer| self.sync.may_ask(*peer) && !want.asked.contains(peer))
    }

    pub(super) fn parent_response(
        &mut self,
        at: Moment,
        request: RequestId,
        response: Result<Response, RequestFailure>,
        out: &mut dyn Sink<Effect>,
    ) {
        let Some(Outstanding { peer, parent, deadline }) = self.fetch.requests.remove(&request) else { return };
        self.fetch.timers.remove(&(deadline, Timer::Request(request)));
        if let Ok(response) = &response {
            self.sync.note(at, peer, &response.status);
        }
        let encoded = match response {
            Err(RequestFailure::Failed) => Ok(None),
            Err(RequestFailure::Malformed) => Err(PeerFault::Malformed),
            Ok(response) => match response.answer {
                Answer::Busy => Ok(None),
                Answer::Blocks(mut blocks) => match (blocks.len(), blocks.pop()) {
                    (0, _) => Ok(None),
                    (1, Some(block)) if block.is_empty() => Ok(None),
                    (1, Some(block)) if encoded_id(&block) == Some(parent) => Ok(Some(block)),
                    (1, _) => Err(PeerFault::WrongBlock),
                    _ => Err(PeerFault::TooMany),
                },
                Answer::Status | Answer::Headers(_) => Err(PeerFault::Malformed),
            },
        };
        let wanted = self.fetch.wants.get(&parent).is_some_and(|want| want.state == WantState::Requested(request));
        match encoded {
            Ok(Some(encoded)) if wanted => {
                let ticket = VerifyTicket(self.sync.ticket());
                self.fetch.verifying.insert(ticket, (parent, peer));
                if let Some(want) = self.fetch.wants.get_mut(&parent) {
                    want.state = WantState::Verifying(ticket);
                }
                out.emit(Effect::Verify { ticket, encoded, header: None });
                return;
            }
            Ok(_) => {}
            Err(fault) => self.bar(at, peer, fault, out),
        }
        if wanted {
            self.ask_for_parent(at, parent, out);
        }
    }

    pub(super) fn parent_verified(
        &mut self,
        at: Moment,
        ticket: VerifyTicket,
        checked: Checked,
        out: &mut dyn Sink<Effect>,
    ) {
        let Some((id, peer)) = self.fetch.verifying.remove(&ticket) else { return };
        let Some(want) = self.fetch.wants.get(&id).filter(|want| want.state == WantState::Verifying(ticket)) else {
            return;
        };
        let fault = match checked {
            Checked::Block(block, Verified::Valid) => {
                let depth = want.depth + 1;
                self.place(at, block, Some(peer), depth, out);
                return;
            }
            Checked::Block(block, Verified::BodyInvalid(error)) => {
                self.fetch.no_longer_wanted(&id);
                if !self.is_of_the_future(at, &block, out) {
                    self.mark_invalid(&Position::of(&block), Invalid::Body(error), out);
                }
                return;
            }
            Checked::Shed | Checked::Block(_, Verified::Shed) => None,
            Checked::Block(_, Verified::HeaderInvalid) => Some(PeerFault::BadSignature),
            Checked::Malformed => Some(PeerFault::Malformed),
            Checked::OtherBody => Some(PeerFault::OtherBody),
        };
        if let Some(fault) = fault {
            self.bar(at, peer, fault, out);
        }
        self.ask_for_parent(at, id, out);
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
        if !self.sync.is_running() {
            for (parent, _) in self.orphans.missing() {
                assert!(fetch.wants.contains_key(&parent), "a missing parent that nobody asks for");
            }
        }
    }
}
