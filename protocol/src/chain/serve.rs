//! Answering peers' requests: from memory if that has what is asked for, else through the store.
//!
//! A request counts as being answered until the driver says that the answer has gone out ([`Chain::on_responded`]). One
//! peer has at most [`super::Config::served_per_peer_max`] of them, all together [`super::Config::served_max`]; further
//! ones are told at once that we are busy. When more than half of all are under way a peer has one for blocks and one other, and none if it took [`SLOW`] or longer over
//! an answer and has not taken as many bytes in less time since: otherwise some that do not read what they ask for would leave nothing for the others. What is being read from the disk for peers that have gone counts until it has come. So what answers take of memory, of the disk's queue and of the line is
//! bounded, and nothing is queued for anybody.

use super::Chain;
use super::io::{Effect, LoadTicket, Moment, ResponseTicket};
use crate::block::{Block, SIGNED_HEADER_BYTES, SignedHeader};
use crate::codec;
use crate::id::{BlockId, PeerHandle};
use crate::mesh::Sink;
use crate::request::{Answer, BLOCKS_MAX, HEADERS_MAX, RESPONSE_BLOCK_BYTES_MAX, Request, Response};
use crate::store::LoadRequest;
use crate::time::{Duration, Time};
use bytes::Bytes;
use std::collections::BTreeMap;

/// How much of answers somebody has to take at least who was slow over one. As much as goes out to whoever reads nothing: a guess, above the
/// first window of a stream.
const FORGIVEN_FOR_MIN: usize = 512 << 10;
/// Whose answer has taken so long to go out is not served where places are few. Two seconds bring 2 MiB over a line of some 8 Mbit/s.
const SLOW: Duration = Duration::from_secs(2);

#[derive(Clone, Debug, Default)]
pub(super) struct Serve {
    /// Requests whose answers have not gone out.
    open: BTreeMap<ResponseTicket, Open>,
    /// Connected peers of which an answer took long to go out, and how many bytes they have to take quickly before they are like others: as many as
    /// that answer had, or [`FORGIVEN_FOR_MIN`]. *Rationale:* a small one goes out to whoever reads nothing.
    slow: BTreeMap<PeerHandle, usize>,
    loads: BTreeMap<LoadTicket, Load>,
    tickets: u64,
    counters: ServeCounters,
}

#[derive(Clone, Copy, Debug)]
struct Open {
    peer: PeerHandle,
    /// Whether it is for blocks.
    blocks: bool,
    /// What the answer has, and since when it is on its way.
    answer: Option<(usize, Time)>,
}

/// What peers asked for, counted since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServeCounters {
    /// Requests that were answered.
    pub served: u64,
    /// Requests that were refused because there were too many.
    pub refused: u64,
    /// Requests that could not be answered because the disk failed or lagged behind.
    pub failed: u64,
}

#[derive(Clone, Debug)]
struct Load {
    ticket: ResponseTicket,
    wanted: Wanted,
}

#[derive(Clone, Debug)]
enum Wanted {
    /// There are some: the peer's chain and ours have a common block below our head.
    Headers,
    /// What memory has of the blocks; the others are being loaded, in their order.
    Blocks(Vec<Option<Bytes>>),
}

impl Serve {
    pub(super) fn under_way(&self) -> usize {
        self.loads.len()
    }

    pub(super) fn counters(&self) -> ServeCounters {
        self.counters
    }

    /// The peer is gone, and nothing is on its way to it any more; what is read for it from the disk is still being read.
    pub(super) fn forget(&mut self, peer: PeerHandle) {
        self.open.retain(|_, open| open.peer != peer);
        self.slow.remove(&peer);
    }

    /// How many answers to a peer are under way.
    fn of(&self, peer: PeerHandle) -> usize {
        self.open.values().filter(|open| open.peer == peer).count()
    }
}

impl Chain {
    /// Answers a peer's request, now or after a load from disk, or says that there is too much to do.
    pub fn on_request(
        &mut self,
        at: Moment,
        peer: PeerHandle,
        ticket: ResponseTicket,
        request: Request,
        out: &mut impl Sink<Effect>,
    ) {
        let own = self.serve.of(peer);
        let blocks = matches!(request, Request::Blocks(_));
        let has = |open: &Open| open.peer == peer && open.blocks == blocks;
        let more = self.serve.slow.contains_key(&peer) || self.serve.open.values().any(has);
        let open = self.serve.open.len().max(self.serve.loads.len());
        let half = open > self.config.served_max / 2;
        if open >= self.config.served_max || own >= self.config.served_per_peer_max || more && half {
            self.serve.counters.refused += 1;
            self.emit_response(at.now, ticket, Answer::Busy, out);
            return;
        }
        self.serve.open.insert(ticket, Open { peer, blocks, answer: None });
        match request {
            Request::Status(status) => {
                self.respond(at.now, ticket, Answer::Status, out);
                self.heard(at, peer, &status, out);
            }
            Request::Headers { locator, headers_max } => {
                let headers_max = headers_max.min(HEADERS_MAX);
                let common = locator.iter().find(|id| self.is_canonical(id));
                let common = common.and_then(|id| self.tree.position(id)).map(|position| position.height);
                let whole = self.tree.root().height == 0;
                match common.or(whole.then_some(0)) {
                    Some(height) => {
                        let headers = self.headers_after(height, headers_max);
                        self.respond(at.now, ticket, Answer::Headers(headers), out);
                    }
                    None => self.load(ticket, Wanted::Headers, LoadRequest::Headers { locator, headers_max }, out),
                }
            }
            Request::Blocks(ids) => self.serve_blocks(at.now, ticket, ids, out),
        }
    }

    /// The answer to [`Effect::Load`]: as [`LoadRequest`] says, or none if the disk failed.
    pub fn on_loaded(
        &mut self,
        now: Time,
        ticket: LoadTicket,
        loaded: Option<Vec<Bytes>>,
        out: &mut impl Sink<Effect>,
    ) {
        let Some(Load { ticket, wanted }) = self.serve.loads.remove(&ticket) else { return };
        // Who has pruned may have no header that follows on what the peer has, and says from where on it keeps them.
        let may_be_none = matches!((&wanted, self.earliest), (Wanted::Headers, 2..));
        let Some(loaded) = loaded.filter(|loaded| may_be_none || !loaded.is_empty()) else {
            // The disk failed or lags behind. To say how long our chain is and send nothing would look like a lie.
            self.serve.counters.failed += 1;
            self.emit_response(now, ticket, Answer::Busy, out);
            return;
        };
        let answer = match wanted {
            Wanted::Headers => {
                let headers = loaded.iter().map_while(|header| header_of(header));
                Answer::Headers(headers.take(usize::from(HEADERS_MAX)).collect())
            }
            Wanted::Blocks(places) => {
                let mut loaded = loaded.into_iter();
                let filled = places.into_iter().map_while(|place| place.or_else(|| loaded.next()));
                Answer::Blocks(up_to(filled, RESPONSE_BLOCK_BYTES_MAX as usize))
            }
        };
        self.respond(now, ticket, answer, out);
    }

    /// The answer to a request has gone out, or cannot any more.
    pub fn on_responded(&mut self, now: Time, ticket: ResponseTicket) {
        let Some(Open { peer, answer: Some((bytes, since)), .. }) = self.serve.open.remove(&ticket) else { return };
        let slow = &mut self.serve.slow;
        if now.since(since) >= SLOW {
            let most = slow.get(&peer).copied().unwrap_or(FORGIVEN_FOR_MIN).max(bytes);
            slow.insert(peer, most);
        } else if let Some(left) = slow.get(&peer).copied() {
            match left.saturating_sub(bytes) {
                0 => slow.remove(&peer),
                left => slow.insert(peer, left),
            };
        }
    }

    /// What peers asked for.
    #[must_use]
    pub fn serve_counters(&self) -> ServeCounters {
        self.serve.counters()
    }

    fn serve_blocks(&mut self, now: Time, ticket: ResponseTicket, mut ids: Vec<BlockId>, out: &mut dyn Sink<Effect>) {
        ids.truncate(usize::from(BLOCKS_MAX));
        let in_memory =
            |id| self.tree.get(id).or_else(|| Some(&self.orphans.get(id)?.block)).map(Block::bytes).cloned();
        let places: Vec<Option<Bytes>> = ids.iter().map(in_memory).collect();
        let missing = ids.iter().zip(&places).filter(|(_, place)| place.is_none());
        let missing: Vec<BlockId> = missing.map(|(id, _)| *id).collect();
        if missing.is_empty() {
            let blocks = up_to(places.into_iter().flatten(), RESPONSE_BLOCK_BYTES_MAX as usize);
            self.respond(now, ticket, Answer::Blocks(blocks), out);
        } else {
            let what = LoadRequest::Blocks { ids: missing, bytes_max: RESPONSE_BLOCK_BYTES_MAX };
            self.load(ticket, Wanted::Blocks(places), what, out);
        }
    }

    fn headers_after(&self, height: u64, headers_max: u16) -> Vec<SignedHeader> {
        let heights = height.saturating_add(1)..=self.head.height;
        let blocks = heights.map_while(|height| self.block_at(height)).take(usize::from(headers_max));
        blocks.map(|block| *block.signed_header()).collect()
    }

    fn respond(&mut self, now: Time, ticket: ResponseTicket, answer: Answer, out: &mut dyn Sink<Effect>) {
        self.serve.counters.served += 1;
        self.emit_response(now, ticket, answer, out);
    }

    fn emit_response(&mut self, now: Time, ticket: ResponseTicket, answer: Answer, out: &mut dyn Sink<Effect>) {
        if let Some(open) = self.serve.open.get_mut(&ticket) {
            open.answer = Some((bytes_of(&answer), now));
        }
        out.emit(Effect::Respond { ticket, response: Some(Response { status: self.own_status(), answer }) });
    }

    fn load(&mut self, ticket: ResponseTicket, wanted: Wanted, what: LoadRequest, out: &mut dyn Sink<Effect>) {
        self.serve.tickets += 1;
        let load = LoadTicket(self.serve.tickets);
        self.serve.loads.insert(load, Load { ticket, wanted });
        out.emit(Effect::Load { ticket: load, what });
    }

    pub(super) fn check_serve(&self) {
        let serve = &self.serve;
        assert!(serve.open.len() <= self.config.served_max, "too many requests are being answered");
        for open in serve.open.values() {
            let own = serve.of(open.peer);
            assert!(own <= self.config.served_per_peer_max, "too many requests of one peer are being answered");
        }
    }
}

/// How many bytes an answer brings, beside the status.
fn bytes_of(answer: &Answer) -> usize {
    match answer {
        Answer::Headers(headers) => headers.len() * SIGNED_HEADER_BYTES,
        Answer::Blocks(blocks) => blocks.iter().map(Bytes::len).sum(),
        Answer::Status | Answer::Busy => 0,
    }
}

fn header_of(encoded: &[u8]) -> Option<SignedHeader> {
    codec::decode_canonical(encoded.get(..SIGNED_HEADER_BYTES)?, SIGNED_HEADER_BYTES).ok()
}

/// As many blocks as fit, but at least the first.
fn up_to(blocks: impl Iterator<Item = Bytes>, bytes_max: usize) -> Vec<Bytes> {
    let (mut bytes, mut taken) = (0, Vec::new());
    for block in blocks {
        bytes += block.len();
        if bytes > bytes_max && !taken.is_empty() {
            break;
        }
        taken.push(block);
    }
    taken
}
