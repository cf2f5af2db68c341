//! Between the chain and the machine of catching up ([`crate::sync`]): what it is told, and what it has done.

use super::io::{Effect, Event, Invalid, Moment, PeerFault, RequestFailure, RequestId, Verified, VerifyTicket};
use super::orphans::Orphan;
use super::{Chain, Position};
use crate::block::Block;
use crate::genesis::Genesis;
use crate::id::{BlockId, PeerHandle};
use crate::mesh::Sink;
use crate::request::{Response, Status};
use crate::sync::{self, Checked, Local, Sync, SyncCounters, SyncProgress};
use crate::time::Time;

/// Batches that the disk has not written, above which nothing more is placed. Far below what the disk's queue holds.
const UNWRITTEN_MAX: usize = 8;

impl Local for Chain {
    fn genesis(&self) -> &Genesis {
        &self.genesis
    }

    fn config(&self) -> &sync::Config {
        &self.config.sync
    }

    fn status(&self) -> Status {
        self.own_status()
    }

    fn head(&self) -> Position {
        self.head
    }

    fn root(&self) -> Position {
        *self.tree.root()
    }

    fn position(&self, id: &BlockId) -> Option<Position> {
        self.tree.position(id)
    }

    fn is_invalid(&self, id: &BlockId) -> bool {
        self.invalid.contains(id)
    }

    fn locator(&self) -> Vec<BlockId> {
        self.locator()
    }

    fn disk_lags(&self) -> bool {
        self.unwritten >= UNWRITTEN_MAX
    }
}

impl Chain {
    /// A peer that speaks the request-response protocol is connected.
    pub fn peer_connected(&mut self, at: Moment, peer: PeerHandle, out: &mut impl Sink<Effect>) {
        self.with_sync(at, out, |sync, chain, out| sync.connected(at, peer, chain, out));
    }

    /// The peer is gone. What it was asked for is asked of others.
    pub fn peer_disconnected(&mut self, at: Moment, peer: PeerHandle, out: &mut impl Sink<Effect>) {
        self.serve.forget(peer);
        self.with_sync(at, out, |sync, chain, out| sync.disconnected(at, peer, chain, out));
        for request in self.fetch.lost(peer) {
            self.parent_response(at, request, Err(RequestFailure::Failed), out);
        }
    }

    /// The answer to [`Effect::Request`]. An answer that is too late is ignored.
    pub fn on_response(
        &mut self,
        at: Moment,
        request: RequestId,
        response: Result<Response, RequestFailure>,
        out: &mut impl Sink<Effect>,
    ) {
        if self.fetch.knows(request) {
            self.parent_response(at, request, response, out);
        } else {
            self.with_sync(at, out, |sync, chain, out| sync.on_response(at, request, response, chain, out));
        }
    }

    /// The answer to [`Effect::Verify`].
    pub fn on_verified(&mut self, at: Moment, ticket: VerifyTicket, checked: Checked, out: &mut impl Sink<Effect>) {
        if self.fetch.verifies(ticket) {
            self.parent_verified(at, ticket, checked, out);
        } else {
            self.with_sync(at, out, |sync, chain, out| sync.on_block_verified(at, ticket, checked, chain, out));
        }
    }

    /// The answer to [`Effect::VerifyHeaders`].
    pub fn on_headers_verified(
        &mut self,
        at: Moment,
        ticket: VerifyTicket,
        verified: &Verified,
        out: &mut impl Sink<Effect>,
    ) {
        self.with_sync(at, out, |sync, chain, out| sync.on_headers_verified(at, ticket, verified, chain, out));
    }

    /// The answer to [`Effect::Persist`], whether it was written or could not be.
    pub fn on_persisted(&mut self, at: Moment, out: &mut impl Sink<Effect>) {
        let lagged = self.disk_lags();
        self.unwritten = self.unwritten.saturating_sub(1);
        if lagged && !self.disk_lags() {
            self.with_sync(at, out, |sync, chain, out| sync.disk_caught_up(at, chain, out));
        }
    }

    /// Something seems to be wrong: all peers are asked how they stand.
    pub fn ask_all(&mut self, at: Moment, out: &mut impl Sink<Effect>) {
        self.with_sync(at, out, |sync, chain, out| sync.ask_all(at.now, chain, out));
    }

    /// The store keeps the canonical blocks from this height on.
    pub fn set_earliest(&mut self, height: u64) {
        self.earliest = height.max(1);
    }

    /// How we stand, as peers are told.
    #[must_use]
    pub fn own_status(&self) -> Status {
        Status { network: self.genesis.network_id(), head: self.head.head(), earliest: self.earliest }
    }

    /// How far catching up has come.
    #[must_use]
    pub fn sync_progress(&self, now: Time) -> SyncProgress {
        self.sync.progress(now, self.head.height)
    }

    /// What catching up has cost in requests.
    #[must_use]
    pub fn sync_counters(&self) -> SyncCounters {
        self.sync.counters()
    }

    pub(super) fn wake_sync(&mut self, at: Moment, out: &mut dyn Sink<Effect>) {
        self.with_sync(at, out, |sync, chain, out| sync.on_wake(at, chain, out));
    }

    /// A peer has told how it stands.
    pub(super) fn heard(&mut self, at: Moment, peer: PeerHandle, status: &Status, out: &mut dyn Sink<Effect>) {
        self.with_sync(at, out, |sync, chain, out| sync.heard(at, peer, status, chain, out));
    }

    /// Reports a peer and asks it no more.
    pub(super) fn bar(&mut self, at: Moment, peer: PeerHandle, fault: PeerFault, out: &mut dyn Sink<Effect>) {
        self.with_sync(at, out, |sync, chain, out| sync.at_fault(at, peer, fault, chain, out));
    }

    pub(super) fn head_moved(&mut self, at: Moment) {
        let mut sync = core::mem::take(&mut self.sync);
        sync.head_moved(at.now, self);
        self.sync = sync;
    }

    pub(super) fn check_sync(&self) {
        self.sync.check(self);
    }

    /// Calls the machine, which reads the chain meanwhile, and carries out what it asks for.
    pub(super) fn with_sync(
        &mut self,
        at: Moment,
        out: &mut dyn Sink<Effect>,
        call: impl FnOnce(&mut Sync, &Self, &mut Vec<sync::Effect>),
    ) {
        let mut effects = Vec::new();
        let mut sync = core::mem::take(&mut self.sync);
        call(&mut sync, self, &mut effects);
        self.sync = sync;
        for effect in effects {
            self.carry_out(at, effect, out);
        }
    }

    fn carry_out(&mut self, at: Moment, effect: sync::Effect, out: &mut dyn Sink<Effect>) {
        match effect {
            sync::Effect::Request { request, peer, body } => out.emit(Effect::Request { request, peer, body }),
            sync::Effect::VerifyHeaders { ticket, headers } => out.emit(Effect::VerifyHeaders { ticket, headers }),
            sync::Effect::VerifyBlock { ticket, encoded, header } => {
                out.emit(Effect::Verify { ticket, encoded, header: Some(header) });
            }
            sync::Effect::Place { blocks, peer } => {
                let placed = self.place_run(at, blocks, peer, out);
                self.with_sync(at, out, |sync, chain, out| sync.on_placed(at, placed, chain, out));
            }
            sync::Effect::Invalid { position, error } => self.mark_invalid(&position, Invalid::Body(error), out),
            sync::Effect::PeerFault { peer, fault } => out.emit(Effect::PeerFault { peer, fault }),
            sync::Effect::Event(event) => out.emit(Effect::Event(event)),
            sync::Effect::Ended { peer, started, complete } => {
                if started {
                    let height = self.head.height;
                    out.emit(Effect::Event(Event::SyncEnded { peer, height, complete }));
                }
                // If another chain is followed by now, requests for it are still to be said, and come first; the next block that waits asks for its parent.
                if !self.sync.is_running() {
                    self.want_missing(at, 0, out);
                }
            }
        }
    }

    /// Puts blocks that follow on each other, and on one that is here, into their places, and then chooses the head once.
    fn place_run(
        &mut self,
        at: Moment,
        blocks: Vec<Block>,
        from: PeerHandle,
        out: &mut dyn Sink<Effect>,
    ) -> Result<(), Option<PeerFault>> {
        let mut placed: Result<(), Option<PeerFault>> = Ok(());
        let ids: Vec<BlockId> = blocks.iter().map(Block::id).collect();
        for block in blocks {
            let (position, parent) = (Position::of(&block), block.header().parent);
            self.sync.saw(from, position.height);
            self.fetch.no_longer_wanted(&position.id);
            if self.tree.position(&position.id).is_some() {
                continue;
            }
            if self.invalid.contains(&position.id) || self.invalid.contains(&parent) {
                self.mark_invalid(&position, Invalid::Ancestor(parent), out);
                placed = Err(Some(PeerFault::InvalidChain));
                break;
            }
            if self.tree.position(&parent).is_none() {
                // The branch had to go meanwhile, for want of room.
                placed = Err(None);
                break;
            }
            self.insert_with_waiting(Orphan { block, from: Some(from) }, out);
        }
        self.update_head(at, out);
        if ids.iter().any(|id| self.invalid.contains(id)) {
            placed = Err(Some(PeerFault::InvalidChain));
        }
        self.want_missing(at, 0, out);
        placed
    }
}
