//! Forward sync: fetching all that follows our chain, in batches, from one peer at a time.
//!
//! A batch is asked for with a locator. Its blocks must follow on each other, the first one on a block that the locator
//! named. They are verified in parallel and put in their places in order. While the peer claims a longer chain, the
//! next batch is asked for with the last block's id in front of the locator, so that a branch that is not yet better
//! than ours comes to its end.
//!
//! A batch that is short although more is to come ends the sync with this peer for a while, so that nobody can hold us
//! up by handing out blocks one by one.

use super::Chain;
use super::fetch::{Peer, Purpose};
use super::io::{
    Effect, Event, Invalid, Moment, PeerFault, Position, RequestFailure, RequestId, Verified, VerifyTicket,
};
use crate::block::Block;
use crate::id::{BlockId, PeerHandle};
use crate::mesh::Sink;
use crate::request::{BLOCKS_MAX, BlockRequest, BlockResponse, RESPONSE_BLOCK_BYTES_MAX};
use core::cmp::Reverse;
use std::collections::VecDeque;

/// A sync with one peer.
#[derive(Clone, Debug)]
pub(super) struct Sync {
    pub(super) peer: PeerHandle,
    locator: Vec<BlockId>,
    stage: Stage,
    /// The height of the last block that the peer has sent, if it has sent any. Each batch must go further, or one
    /// could go on for ever.
    reached: Option<u64>,
}

#[derive(Clone, Debug)]
enum Stage {
    Requested(RequestId),
    Verifying(Batch),
}

/// Blocks that are being verified, in order.
#[derive(Clone, Debug)]
struct Batch {
    blocks: VecDeque<Pending>,
    /// The last block of the response.
    last: Position,
    /// The height of the peer's chain.
    claimed: u64,
    /// Fewer blocks than there was room for, although there are more.
    short: bool,
}

#[derive(Clone, Debug)]
struct Pending {
    ticket: VerifyTicket,
    block: Block,
    verified: Option<Verified>,
}

/// What a response means.
enum Reading {
    /// New blocks, and perhaps more later.
    Blocks(Vec<Block>, Position),
    /// The peer has nothing that we lack.
    Nothing,
    /// It belongs to a fork that began below our root.
    TooDeep(Position),
    Fault(PeerFault),
}

impl Chain {
    /// Whom to sync with: `preferred` if it may be asked, else whoever claims the longest chain, if longer than ours.
    pub(super) fn sync_candidate(&self, at: Moment, preferred: Option<PeerHandle>) -> Option<PeerHandle> {
        let rested = |peer: &PeerHandle| {
            let rests_until = self.fetch.peers.get(peer).map(|state| state.rests_until);
            self.fetch.may_ask(*peer) && rests_until.is_some_and(|until| until <= at.now)
        };
        let ahead = self.fetch.peers.iter().filter(|(_, state)| state.height > self.head.height);
        let best = ahead.filter(|(peer, _)| rested(peer)).min_by_key(|(peer, state)| (Reverse(state.height), **peer));
        preferred.filter(rested).or_else(|| best.map(|(peer, _)| *peer))
    }

    pub(super) fn start_sync(&mut self, at: Moment, peer: PeerHandle, out: &mut dyn Sink<Effect>) {
        let locator = self.locator();
        self.ask_for_batch(at, peer, locator, None, out);
    }

    fn ask_for_batch(
        &mut self,
        at: Moment,
        peer: PeerHandle,
        locator: Vec<BlockId>,
        reached: Option<u64>,
        out: &mut dyn Sink<Effect>,
    ) {
        let body = BlockRequest::After {
            locator: locator.clone(),
            blocks_max: BLOCKS_MAX,
            bytes_max: RESPONSE_BLOCK_BYTES_MAX,
        };
        let request = self.fetch.request(at.now + self.config.request_timeout, peer, Purpose::Sync, body, out);
        self.fetch.sync = Some(Sync { peer, locator, stage: Stage::Requested(request), reached });
    }

    pub(super) fn sync_response(
        &mut self,
        at: Moment,
        request: RequestId,
        response: Result<BlockResponse, RequestFailure>,
        out: &mut dyn Sink<Effect>,
    ) {
        let Some(sync) = &self.fetch.sync else { return };
        if !matches!(sync.stage, Stage::Requested(awaited) if awaited == request) {
            return;
        }
        let (peer, reached) = (sync.peer, sync.reached);
        let Ok(response) = response else { return self.end_sync(at, false, out) };
        self.heard(at, peer, response.head.height);
        match self.read(at, &sync_locator(&self.fetch.sync), &response) {
            Reading::Nothing => self.end_sync(at, true, out),
            Reading::Fault(fault) => {
                self.fetch.bar(peer, fault, out);
                self.end_sync(at, false, out);
            }
            Reading::TooDeep(Position { id: block, height, .. }) => {
                let root_height = self.tree.root().height;
                out.emit(Effect::Event(Event::DeepFork { block, height, root_height, from: Some(peer) }));
                self.end_sync(at, false, out);
            }
            Reading::Blocks(_, last) if reached.is_some_and(|reached| last.height <= reached) => {
                self.end_sync(at, false, out);
            }
            Reading::Blocks(blocks, last) => {
                let bytes: usize = response.blocks.iter().map(|block| block.0.len()).sum();
                let claimed = response.head.height;
                let few = response.blocks.len() < usize::from(BLOCKS_MAX);
                // An honest peer stops only where the next block would exceed the limit.
                let small =
                    bytes + (self.genesis.limits().block_bytes_max as usize) < RESPONSE_BLOCK_BYTES_MAX as usize;
                let short = few && small && last.height < claimed;
                self.verify_batch(at, blocks, last, (claimed, short), out);
            }
        }
    }

    fn verify_batch(
        &mut self,
        at: Moment,
        blocks: Vec<Block>,
        last: Position,
        (claimed, short): (u64, bool),
        out: &mut dyn Sink<Effect>,
    ) {
        let pending = blocks.into_iter().map(|block| {
            let ticket = self.fetch.verify(Purpose::Sync, &block, out);
            Pending { ticket, block, verified: None }
        });
        let batch = Batch { blocks: pending.collect(), last, claimed, short };
        let height = self.head.height;
        let Some(sync) = &mut self.fetch.sync else { return };
        if sync.reached.replace(last.height).is_none() {
            out.emit(Effect::Event(Event::SyncStarted { peer: sync.peer, height }));
        }
        sync.stage = Stage::Verifying(batch);
        self.place_batch(at, out);
    }

    pub(super) fn sync_verified(
        &mut self,
        at: Moment,
        ticket: VerifyTicket,
        verified: Verified,
        out: &mut dyn Sink<Effect>,
    ) {
        if let Some(Sync { stage: Stage::Verifying(batch), .. }) = &mut self.fetch.sync
            && let Some(pending) = batch.blocks.iter_mut().find(|pending| pending.ticket == ticket)
        {
            pending.verified = Some(verified);
            self.place_batch(at, out);
        }
    }

    /// Puts the verified blocks at the front of the batch in their places, and goes on when there are no more.
    fn place_batch(&mut self, at: Moment, out: &mut dyn Sink<Effect>) {
        loop {
            let Some(Sync { peer, stage: Stage::Verifying(batch), .. }) = &mut self.fetch.sync else { return };
            let peer = *peer;
            if batch.blocks.is_empty() {
                return self.continue_sync(at, out);
            }
            let ready = batch.blocks.front().is_some_and(|pending| pending.verified.is_some());
            let Some(pending) = ready.then(|| batch.blocks.pop_front()).flatten() else { return };
            match pending.verified {
                Some(Verified::Valid) => {
                    let id = pending.block.id();
                    if self.place_synced(at, pending.block, peer, out) {
                        continue;
                    }
                    if self.invalid.contains(&id) {
                        self.fetch.bar(peer, PeerFault::InvalidChain, out);
                    }
                }
                Some(Verified::HeaderInvalid) => self.fetch.bar(peer, PeerFault::BadSignature, out),
                Some(Verified::BodyInvalid(error)) => {
                    self.mark_invalid(&Position::of(&pending.block), Invalid::Body(error), out);
                    self.fetch.bar(peer, PeerFault::InvalidChain, out);
                }
                Some(Verified::Shed) | None => {}
            }
            return self.end_sync(at, false, out);
        }
    }

    fn continue_sync(&mut self, at: Moment, out: &mut dyn Sink<Effect>) {
        let Some(Sync { peer, stage: Stage::Verifying(batch), .. }) = &self.fetch.sync else { return };
        let (peer, last, short, more) = (*peer, batch.last.id, batch.short, batch.claimed > batch.last.height);
        if !more || short || !self.fetch.may_ask(peer) {
            return self.end_sync(at, !more, out);
        }
        let reached = Some(batch.last.height);
        let mut locator = self.locator();
        if locator.first() != Some(&last) {
            locator.insert(0, last);
        }
        self.ask_for_batch(at, peer, locator, reached, out);
    }

    fn end_sync(&mut self, at: Moment, complete: bool, out: &mut dyn Sink<Effect>) {
        let Some(sync) = self.fetch.sync.take() else { return };
        if sync.reached.is_some() {
            let height = self.head.height;
            out.emit(Effect::Event(Event::SyncEnded { peer: sync.peer, height, complete }));
        }
        let rests_until = at.now + self.fetch.stall_after;
        if let Some(peer) = self.fetch.peers.get_mut(&sync.peer) {
            peer.rests_until = rests_until;
        }
        match self.sync_candidate(at, None).or_else(|| self.unheard(at, complete)) {
            Some(next) => self.start_sync(at, next, out),
            None => self.want_missing(at, 0, out),
        }
    }

    /// A peer whose chain is unknown, if a sync has failed or some of the first peers are still to be asked.
    fn unheard(&mut self, at: Moment, complete: bool) -> Option<PeerHandle> {
        if complete && self.fetch.first_probes == 0 {
            return None;
        }
        let mut peers = self.fetch.peers.iter();
        let unheard = |(peer, state): &(&PeerHandle, &Peer)| {
            state.height == 0 && state.rests_until <= at.now && self.fetch.may_ask(**peer)
        };
        let peer = peers.find(unheard).map(|(peer, _)| *peer)?;
        self.fetch.first_probes = self.fetch.first_probes.saturating_sub(1);
        Some(peer)
    }

    /// Decodes a response and checks that its blocks follow on each other and on what we named.
    fn read(&self, at: Moment, locator: &[BlockId], response: &BlockResponse) -> Reading {
        if response.blocks.len() > usize::from(BLOCKS_MAX) {
            return Reading::Fault(PeerFault::TooMany);
        }
        let mut blocks: Vec<Block> = Vec::with_capacity(response.blocks.len());
        for bytes in &response.blocks {
            let Ok(block) = Block::decode(bytes.0.clone(), &self.genesis) else {
                return Reading::Fault(PeerFault::Malformed);
            };
            let (header, before) = (block.header(), blocks.last().map(Block::header));
            let follows = match before {
                None => locator.contains(&header.parent),
                Some(before) => {
                    header.parent == blocks[blocks.len() - 1].id()
                        && before.height.checked_add(1) == Some(header.height)
                        && before.slot < header.slot
                }
            };
            if !follows {
                return Reading::Fault(PeerFault::Unconnected);
            }
            // The peer's clock may be ahead of ours; what is from the future will come again when its time has come.
            if header.slot > at.slot_ahead {
                break;
            }
            blocks.push(block);
        }
        self.classify(blocks, response)
    }

    fn classify(&self, mut blocks: Vec<Block>, response: &BlockResponse) -> Reading {
        let (Some(first), Some(last)) = (blocks.first(), blocks.last()) else {
            // From the future, or nothing at all.
            let withheld = response.blocks.is_empty() && response.head.height > self.head.height;
            return if withheld { Reading::Fault(PeerFault::Useless) } else { Reading::Nothing };
        };
        let (first_position, last) = (Position::of(first), Position::of(last));
        if self.tree.position(&first.header().parent).is_none() {
            return Reading::TooDeep(first_position);
        }
        if blocks.iter().any(|block| self.invalid.contains(&block.id())) {
            return Reading::Fault(PeerFault::InvalidChain);
        }
        blocks.retain(|block| self.tree.get(&block.id()).is_none());
        if blocks.is_empty() && last.height >= response.head.height {
            return Reading::Nothing;
        }
        Reading::Blocks(blocks, last)
    }
}

fn sync_locator(sync: &Option<Sync>) -> Vec<BlockId> {
    sync.as_ref().map(|sync| sync.locator.clone()).unwrap_or_default()
}
