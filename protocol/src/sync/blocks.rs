//! The window of blocks whose headers are verified: whom each is asked of, and what has come of it.

use super::Sync;
use super::io::{
    BLOCK_REQUESTS_MAX, CHUNK_BLOCKS_MAX, Checked, Effect, Local, PLACED_AT_ONCE_MAX, VERIFYING_BLOCKS_MAX,
    VERIFYING_TRANSACTIONS_MAX, WINDOW_BLOCKS_MAX, WINDOW_BYTES_MAX,
};
use super::peers::Peer;
use super::requests::{Open, Purpose, Requests};
use crate::block::{BLOCK_OVERHEAD_BYTES, Block, SignedHeader, encoded_id};
use crate::chain::{Moment, PeerFault, Position, RequestId, Verified, VerifyTicket};
use crate::id::{BlockId, PeerHandle};
use crate::mesh::Sink;
use crate::request::{RESPONSE_BLOCK_BYTES_MAX, Request, Response};
use bytes::Bytes;
use core::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};

/// Blocks that are not placed, in order.
#[derive(Clone, Debug, Default)]
pub(super) struct Window {
    entries: VecDeque<Entry>,
    /// What the first entry follows on, once that is known.
    before: Option<Position>,
    held_bytes: usize,
    /// Heights of the blocks in verification.
    verifying: BTreeMap<VerifyTicket, u64>,
    verifying_transactions: usize,
    /// What has come: bytes besides the headers, and transactions.
    come: (usize, usize),
}

#[derive(Clone, Debug)]
struct Entry {
    position: Position,
    header: SignedHeader,
    state: State,
}

#[derive(Clone, Debug)]
enum State {
    Missing,
    Requested(RequestId),
    Fetched(PeerHandle, Bytes),
    Verifying(VerifyTicket, PeerHandle, Bytes),
    Ready(Block),
}

impl State {
    fn held_bytes(&self) -> usize {
        match self {
            Self::Missing | Self::Requested(_) => 0,
            Self::Fetched(_, bytes) | Self::Verifying(_, _, bytes) => bytes.len(),
            Self::Ready(block) => block.encoded_len(),
        }
    }
}

impl Window {
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    pub(super) fn verifying(&self) -> usize {
        self.verifying.len()
    }

    /// Where the known headers end, if any are known.
    pub(super) fn last(&self) -> Option<Position> {
        self.entries.back().map(|entry| entry.position).or(self.before)
    }

    /// The next header follows on this block, which we have.
    pub(super) fn begin_after(&mut self, position: Position) {
        if self.entries.is_empty() {
            self.before = Some(position);
        }
    }

    pub(super) fn extend(&mut self, headers: &[SignedHeader]) {
        self.entries.extend(headers.iter().map(|header| {
            let SignedHeader { header: inner, .. } = header;
            let position = Position { id: inner.id(), height: inner.height, slot: inner.slot };
            Entry { position, header: *header, state: State::Missing }
        }));
    }

    /// The height of the first block.
    pub(super) fn first_height(&self) -> Option<u64> {
        self.entries.front().map(|entry| entry.position.height)
    }

    /// Whether the first block has not come.
    pub(super) fn first_is_awaited(&self) -> bool {
        self.entries.front().is_some_and(|first| matches!(first.state, State::Missing | State::Requested(_)))
    }

    /// The height of the first block, if nobody is asked for it.
    pub(super) fn first_is_missing(&self) -> Option<u64> {
        let first = self.entries.front()?;
        matches!(first.state, State::Missing).then_some(first.position.height)
    }

    /// Has blocks that this request was to bring asked for again; returns how many.
    pub(super) fn take_back(&mut self, request: RequestId, blocks: &[(u64, BlockId)]) -> u64 {
        let mut taken = 0;
        for (height, id) in blocks {
            if let Some(entry) = self.get_mut(*height, id)
                && matches!(entry.state, State::Requested(by) if by == request)
            {
                entry.state = State::Missing;
                taken += 1;
            }
        }
        taken
    }

    fn get_mut(&mut self, height: u64, id: &BlockId) -> Option<&mut Entry> {
        self.at(height).filter(|entry| entry.position.id == *id)
    }

    fn at(&mut self, height: u64) -> Option<&mut Entry> {
        let first = self.entries.front()?.position.height;
        self.entries.get_mut(usize::try_from(height.checked_sub(first)?).ok()?)
    }

    /// A block of so many bytes and transactions has come.
    fn count(&mut self, bytes: usize, transactions: usize) {
        self.held_bytes += bytes;
        self.come.0 = self.come.0.saturating_add(bytes.saturating_sub(BLOCK_OVERHEAD_BYTES));
        self.come.1 = self.come.1.saturating_add(transactions);
    }

    /// How many bytes a block is likely to have, by what others had for each of their transactions.
    /// Before any have come, the most that it can have.
    fn estimate(&self, entry: &Entry, local: &dyn Local) -> usize {
        let most = local.genesis().limits().payload_bytes_max as usize;
        let each = self.come.0.checked_div(self.come.1).unwrap_or(most);
        BLOCK_OVERHEAD_BYTES + each.saturating_mul(entry.header.header.transaction_count as usize)
    }

    fn pop(&mut self) -> Option<Entry> {
        let entry = self.entries.pop_front()?;
        self.before = Some(entry.position);
        self.held_bytes -= entry.state.held_bytes();
        Some(entry)
    }

    /// Takes the blocks that can be placed next.
    fn take_ready(&mut self) -> Vec<Block> {
        let mut blocks = Vec::new();
        while blocks.len() < PLACED_AT_ONCE_MAX
            && self.entries.front().is_some_and(|entry| matches!(entry.state, State::Ready(_)))
            && let Some(State::Ready(block)) = self.pop().map(|entry| entry.state)
        {
            blocks.push(block);
        }
        blocks
    }

    /// The place of the first block that nobody is asked for, if it is in reach.
    fn first_missing(&self) -> Option<usize> {
        self.entries.iter().take(WINDOW_BLOCKS_MAX).position(|entry| matches!(entry.state, State::Missing))
    }

    fn verification_ended(&mut self, ticket: VerifyTicket) -> Option<&mut Entry> {
        let height = self.verifying.remove(&ticket)?;
        let entry = self.at(height).filter(|entry| matches!(entry.state, State::Verifying(by, ..) if by == ticket))?;
        let transactions = entry.header.header.transaction_count as usize;
        self.verifying_transactions -= transactions;
        self.at(height)
    }

    pub(super) fn check(&self, requests: &Requests, local: &dyn Local) {
        let held: usize = self.entries.iter().map(|entry| entry.state.held_bytes()).sum();
        assert_eq!(held, self.held_bytes, "bytes of blocks that have come");
        let response = Response::bytes_max(local.genesis());
        // The block that all others wait for is asked for in any case, beside requests that are given up.
        let bytes_max = WINDOW_BYTES_MAX + 2 * response;
        assert!(held + requests.blocks() * response <= bytes_max, "{held} bytes of blocks wait to be placed");
        let mut transactions = 0;
        for (index, entry) in self.entries.iter().enumerate() {
            let first = self.entries[0].position.height;
            assert_eq!(entry.position.height, first + index as u64, "heights follow on each other");
            assert!(index < WINDOW_BLOCKS_MAX || !matches!(entry.state, State::Requested(_)), "asked for too early");
            match &entry.state {
                State::Requested(request) => assert!(requests.get(*request).is_some(), "nobody brings a block"),
                State::Verifying(ticket, ..) => {
                    assert_eq!(self.verifying.get(ticket), Some(&entry.position.height), "a verification");
                    transactions += entry.header.header.transaction_count as usize;
                }
                State::Missing | State::Fetched(..) | State::Ready(_) => {}
            }
        }
        assert_eq!(transactions, self.verifying_transactions, "transactions in verification");
        assert!(self.verifying.len() <= VERIFYING_BLOCKS_MAX, "too many blocks in verification");
        assert!(transactions <= VERIFYING_TRANSACTIONS_MAX || self.verifying.len() == 1, "too many transactions");
    }
}

impl Sync {
    /// Places what is verified and next in turn.
    pub(super) fn place_ready(&mut self, at: Moment, local: &dyn Local, out: &mut dyn Sink<Effect>) {
        let Some(session) = &mut self.session else { return };
        if session.placing > 0 {
            return;
        }
        // The mesh may have brought some of them.
        while let Some(first) = session.window.entries.front()
            && local.position(&first.position.id).is_some()
        {
            session.window.skip();
        }
        let leader = session.leader;
        if session.window.entries.front().is_some_and(|first| local.is_invalid(&first.position.id)) {
            return self.bar(leader, PeerFault::InvalidChain, out);
        }
        if local.disk_lags() {
            return;
        }
        let blocks = session.window.take_ready();
        if !blocks.is_empty() {
            session.placing = blocks.len() as u64;
            out.emit(Effect::Place { blocks, peer: leader });
        }
        let _ = at;
    }

    /// The answer to [`Effect::Place`]: whether all blocks are in their places, or why not.
    pub fn on_placed(
        &mut self,
        at: Moment,
        placed: Result<(), Option<PeerFault>>,
        local: &dyn Local,
        out: &mut dyn Sink<Effect>,
    ) {
        let Some(session) = &mut self.session else { return };
        let (leader, count) = (session.leader, core::mem::take(&mut session.placing));
        match placed {
            Ok(()) => {
                session.placed += count;
                session.rate.placed(at.now, count);
            }
            Err(Some(fault)) => self.bar(leader, fault, out),
            Err(None) => {
                self.rest(at.now, leader, local);
                self.end(out, false);
            }
        }
        self.go_on(at, local, out);
    }

    /// Hands blocks that have come to the workers, as many as they may have.
    pub(super) fn verify_fetched(&mut self, at: Moment, out: &mut dyn Sink<Effect>) {
        let Some(session) = self.session.as_mut().filter(|session| session.paused_until <= at.now) else { return };
        let window = &mut session.window;
        for entry in window.entries.iter_mut().take(WINDOW_BLOCKS_MAX) {
            let State::Fetched(peer, bytes) = &entry.state else { continue };
            let transactions = entry.header.header.transaction_count as usize;
            let first = window.verifying.is_empty();
            let fits = window.verifying_transactions + transactions <= VERIFYING_TRANSACTIONS_MAX;
            if window.verifying.len() >= VERIFYING_BLOCKS_MAX || !(first || fits) {
                return;
            }
            self.tickets += 1;
            let ticket = VerifyTicket(self.tickets);
            window.verifying.insert(ticket, entry.position.height);
            window.verifying_transactions += transactions;
            out.emit(Effect::VerifyBlock { ticket, encoded: bytes.clone(), header: entry.header });
            entry.state = State::Verifying(ticket, *peer, bytes.clone());
        }
    }

    /// The answer to [`Effect::VerifyBlock`].
    pub fn on_block_verified(
        &mut self,
        at: Moment,
        ticket: VerifyTicket,
        checked: Checked,
        local: &dyn Local,
        out: &mut dyn Sink<Effect>,
    ) {
        let Some(session) = &mut self.session else { return };
        let leader = session.leader;
        let Some(entry) = session.window.verification_ended(ticket) else { return };
        let State::Verifying(_, peer, bytes) = core::mem::replace(&mut entry.state, State::Missing) else { return };
        let (position, length) = (entry.position, bytes.len());
        let fault = match checked {
            Checked::Block(block, Verified::Valid) => {
                entry.state = State::Ready(block);
                None
            }
            Checked::Shed | Checked::Block(_, Verified::Shed) => {
                entry.state = State::Fetched(peer, bytes);
                self.pause_workers(at.now, local);
                None
            }
            Checked::Block(_, Verified::BodyInvalid(error)) => {
                session.window.held_bytes -= length;
                out.emit(Effect::Invalid { position, error });
                self.bar(leader, PeerFault::InvalidChain, out);
                None
            }
            Checked::Malformed => Some(PeerFault::Malformed),
            Checked::OtherBody => Some(PeerFault::OtherBody),
            Checked::Block(_, Verified::HeaderInvalid) => Some(PeerFault::BadSignature),
        };
        if let Some(fault) = fault {
            if let Some(session) = &mut self.session {
                session.window.held_bytes -= length;
            }
            self.bar(peer, fault, out);
        }
        self.go_on(at, local, out);
    }

    /// Asks for the blocks that nobody is asked for.
    pub(super) fn ask_for_blocks(&mut self, at: Moment, local: &dyn Local, out: &mut dyn Sink<Effect>) {
        let response = Response::bytes_max(local.genesis());
        while self.requests.awaited() < BLOCK_REQUESTS_MAX
            && let Some(session) = &self.session
            && let Some(place) = session.window.first_missing()
        {
            let entries = &session.window.entries;
            let first = entries[place].position.height;
            let fitting = self
                .peers
                .iter()
                .filter(|(_, peer)| peer.should_have(first) && peer.is_rested(at.now) && peer.has_room());
            let order = |peer: &Peer| (peer.in_flight, peer.rests, Reverse(peer.chunk_bytes));
            let best = fitting.min_by_key(|(peer, state)| (order(state), **peer));
            let Some((peer, state)) = best else { return };
            let held = session.window.held_bytes + (self.requests.blocks() + 1) * response;
            let count = match (held <= WINDOW_BYTES_MAX, place) {
                (true, _) => CHUNK_BLOCKS_MAX,
                // All others wait for this one, so it is worth a little more than there is room for, and once more beside requests that are
                // given up.
                (false, 0) if held - response <= WINDOW_BYTES_MAX => 1,
                (false, 0) if held - 2 * response <= WINDOW_BYTES_MAX && self.requests.awaited() == 0 => 1,
                (false, _) => return,
            };
            let mut bytes = 0;
            let run = entries.iter().take(WINDOW_BLOCKS_MAX).skip(place).take(count).take_while(|entry| {
                let estimate = session.window.estimate(entry, local);
                let fits = bytes == 0 || bytes + estimate <= state.chunk_bytes;
                bytes += estimate;
                fits && matches!(entry.state, State::Missing) && state.should_have(entry.position.height)
            });
            let blocks: Vec<(u64, BlockId)> = run.map(|entry| (entry.position.height, entry.position.id)).collect();
            let peer = *peer;
            let body = Request::Blocks(blocks.iter().map(|(_, id)| *id).collect());
            let slow_after = Some(local.config().slow_after);
            let request = self.ask(at.now, (peer, Purpose::Blocks(blocks.clone())), slow_after, body, local, out);
            let Some(session) = &mut self.session else { return };
            for (height, id) in &blocks {
                if let Some(entry) = session.window.get_mut(*height, id)
                    && matches!(entry.state, State::Missing)
                {
                    entry.state = State::Requested(request);
                }
            }
        }
    }

    pub(super) fn blocks_came(
        &mut self,
        at: Moment,
        request: RequestId,
        (open, asked): (&Open, &[(u64, BlockId)]),
        blocks: Vec<Bytes>,
        local: &dyn Local,
        out: &mut dyn Sink<Effect>,
    ) {
        let peer = open.peer;
        let bytes: usize = blocks.iter().map(Bytes::len).sum();
        let wrong = |((_, id), block): (&(u64, BlockId), &Bytes)| !block.is_empty() && encoded_id(block) != Some(*id);
        let fault = if blocks.len() > asked.len() {
            Some(PeerFault::TooMany)
        } else {
            asked.iter().zip(&blocks).any(wrong).then_some(PeerFault::WrongBlock)
        };
        let came = blocks.len();
        let missing = asked.iter().zip(&blocks).filter(|(_, block)| block.is_empty());
        let missing: Vec<(u64, BlockId)> = missing.map(|(asked, _)| *asked).collect();
        // What it was asked for while another chain was followed says nothing of this one.
        let lacks = self.session.as_mut().and_then(|session| {
            missing.iter().find(|(height, id)| session.window.get_mut(*height, id).is_some()).map(|(height, _)| *height)
        });
        if let Some(session) = &mut self.session {
            for ((height, id), block) in
                asked.iter().zip(blocks).filter(|(_, block)| fault.is_none() && !block.is_empty())
            {
                if let Some(entry) = session.window.get_mut(*height, id)
                    && matches!(entry.state, State::Missing | State::Requested(_))
                {
                    let length = block.len();
                    entry.state = State::Fetched(peer, block);
                    let transactions = entry.header.header.transaction_count as usize;
                    session.window.count(length, transactions);
                }
            }
            session.window.take_back(request, asked);
        }
        if let Some(fault) = fault {
            return self.bar(peer, fault, out);
        }
        // An honest peer stops only where the next block might not fit.
        let small = bytes + local.genesis().limits().block_bytes_max as usize <= RESPONSE_BLOCK_BYTES_MAX as usize;
        if came == 0 {
            return self.strike(at.now, peer, local, out);
        }
        if let Some(state) = self.peers.get_mut(&peer) {
            if let Some(height) = lacks {
                state.lacks_from = Some(state.lacks_from.map_or(height, |lacks_from| lacks_from.min(height)));
            } else if missing.is_empty() {
                state.delivered(at.now.since(open.sent), local.config());
            }
        }
        let leads = self.session.as_ref().is_some_and(|session| session.leader == peer);
        if lacks.is_some() && leads {
            self.strike(at.now, peer, local, out);
        } else if came < asked.len() && small {
            self.rest(at.now, peer, local);
        }
    }

    /// A request for blocks takes long: others are asked for what it was to bring, if there are any.
    pub(super) fn blocks_are_slow(&mut self, at: Moment, request: RequestId, local: &dyn Local) {
        let Some(open) = self.requests.get(request) else { return };
        let (peer, Purpose::Blocks(blocks)) = (open.peer, open.purpose.clone()) else { return };
        let Some((first, _)) = blocks.first() else { return };
        let mut others = self.peers.iter().filter(|(other, _)| **other != peer);
        if others.any(|(_, other)| other.should_have(*first) && other.is_rested(at.now) && other.has_room()) {
            let taken = self.session.as_mut().map_or(0, |session| session.window.take_back(request, &blocks));
            self.counters.reassigned += taken;
            self.requests.give_up(request);
            self.rest(at.now, peer, local);
        } else {
            self.requests.slow_again(request, at.now + local.config().slow_after);
        }
    }
}

impl Window {
    /// Passes over the first block, which has come another way.
    fn skip(&mut self) {
        if let Some(Entry { state: State::Verifying(ticket, ..), header, .. }) = self.pop() {
            self.verifying.remove(&ticket);
            self.verifying_transactions -= header.header.transaction_count as usize;
        }
    }
}
