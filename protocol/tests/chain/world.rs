//! Several chains that talk to each other in virtual time: requests, answers and blocks take a while, may be lost, and some peers lie.

use crate::manners::Manner;
use crate::support::*;
use bytes::Bytes;
use starling_protocol::block::{Block, BlockError, SignedHeader};
use starling_protocol::chain::{
    Chain, Config, Effect, Event, LoadTicket, Moment, PeerFault, Position, Relay, RequestFailure, RequestId,
    ResponseTicket, Verified, VerifyTicket,
};
use starling_protocol::genesis::Genesis;
use starling_protocol::id::{BlockId, PeerHandle};
use starling_protocol::mempool::{self, Mempool};
use starling_protocol::random::Stream;
use starling_protocol::request::{Answer, Request, Response};
use starling_protocol::store::LoadRequest;
use starling_protocol::sync::Checked;
use starling_protocol::time::{Duration, Time};
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _};
use std::sync::Mutex;

/// One way between any two nodes.
const LATENCY: Duration = Duration::from_millis(40);
const VERIFYING: Duration = Duration::from_millis(3);
const DISK: Duration = Duration::from_millis(5);

pub(crate) struct Node {
    pub(crate) chain: Chain,
    pub(crate) pool: Mempool,
    pub(crate) store: Store,
    pub(crate) manner: Manner,
    pub(crate) events: Vec<Event>,
    pub(crate) faults: Vec<(PeerHandle, PeerFault)>,
    /// Requests for headers and blocks.
    pub(crate) requests_sent: usize,
    /// Of those, requests for headers, and the blocks that the others asked for.
    pub(crate) asked: (usize, usize),
    /// Batches that the disk has not written, and the most that there were.
    unwritten: usize,
    pub(crate) unwritten_max: usize,
    /// How many headers [`Manner::Rehearses`] has told of those that the asker has.
    rehearsed: u64,
}

enum Happening {
    Block { to: usize, from: usize, block: Block },
    Request { to: usize, from: usize, request: RequestId, body: Request },
    Response { to: usize, from: usize, request: RequestId, response: Result<Response, RequestFailure> },
    Verified { node: usize, ticket: VerifyTicket, checked: Checked },
    HeadersVerified { node: usize, ticket: VerifyTicket, verified: Verified },
    Persisted { node: usize },
    MeshVerified { node: usize, from: usize, block: Block },
    Loaded { node: usize, ticket: LoadTicket, what: LoadRequest },
}

pub(crate) struct World {
    pub(crate) genesis: Genesis,
    pub(crate) nodes: Vec<Node>,
    pub(crate) now: Time,
    queue: BTreeMap<(Time, u64), Happening>,
    sequence: u64,
    /// Requests that peers wait to have answered: who asks, with which id.
    awaiting: BTreeMap<ResponseTicket, (usize, RequestId)>,
    /// How many of a hundred jobs are refused by the workers, because they have too much to do.
    pub(crate) shed_percent: u64,
    /// How many of a hundred messages are lost.
    pub(crate) lost_percent: u64,
    /// The most milliseconds that a message takes longer than another, so that messages overtake each other.
    pub(crate) jitter_ms: u64,
    /// How long [`Manner::Repeats`] takes for headers.
    pub(crate) repeats_after: Duration,
    /// If set, the nodes below this number and the others cannot reach each other.
    pub(crate) cut: Option<usize>,
    /// A hash of all that was observed.
    pub(crate) trace: DefaultHasher,
    random: u64,
    calls: u64,
}

impl World {
    pub(crate) fn new(nodes: usize, config: &Config) -> Self {
        Self::with_genesis(&genesis(), nodes, config)
    }

    pub(crate) fn with_genesis(genesis: &Genesis, nodes: usize, config: &Config) -> Self {
        let node = || Node {
            chain: Chain::new(genesis.clone(), config.clone()),
            pool: Mempool::new(mempool::Config::default(), genesis, Stream::from_seed([9; 32])),
            store: Store::default(),
            manner: Manner::Honest,
            events: Vec::new(),
            faults: Vec::new(),
            requests_sent: 0,
            asked: (0, 0),
            unwritten: 0,
            unwritten_max: 0,
            rehearsed: 0,
        };
        Self {
            nodes: (0..nodes).map(|_| node()).collect(),
            genesis: genesis.clone(),
            now: Time::ZERO,
            queue: BTreeMap::new(),
            sequence: 0,
            awaiting: BTreeMap::new(),
            shed_percent: 0,
            lost_percent: 0,
            jitter_ms: 0,
            repeats_after: LATENCY,
            cut: None,
            trace: DefaultHasher::new(),
            random: 1,
            calls: 0,
        }
    }

    pub(crate) fn handle(node: usize) -> PeerHandle {
        peer(u32::try_from(node).expect("few nodes"))
    }

    pub(crate) fn moment(&self) -> Moment {
        let us = self.now.as_micros();
        Moment::new(self.now, us, &self.genesis, starling_protocol::chain::CLOCK_ALLOWANCE)
    }

    /// Lets time pass until a slot has begun.
    pub(crate) fn set_slot(&mut self, slot: u64) {
        self.run_until(Time::from_secs(slot));
    }

    pub(crate) fn connect(&mut self, one: usize, other: usize) {
        self.call(one, |chain, at, out| chain.peer_connected(at, Self::handle(other), out));
        self.call(other, |chain, at, out| chain.peer_connected(at, Self::handle(one), out));
    }

    pub(crate) fn disconnect(&mut self, one: usize, other: usize) {
        self.call(one, |chain, at, out| chain.peer_disconnected(at, Self::handle(other), out));
        self.call(other, |chain, at, out| chain.peer_disconnected(at, Self::handle(one), out));
    }

    /// Gives a node a block of its own.
    pub(crate) fn own(&mut self, node: usize, block: &Block) {
        self.call(node, |chain, at, out| chain.insert_block(at, block.clone(), None, Verified::Valid, out));
    }

    /// The mesh brings a block from one node to another.
    pub(crate) fn send_block(&mut self, from: usize, to: usize, block: &Block) {
        self.post(LATENCY, true, Happening::Block { to, from, block: block.clone() });
    }

    pub(crate) fn head(&self, node: usize) -> Position {
        self.nodes[node].chain.head()
    }

    pub(crate) fn run_for(&mut self, duration: Duration) {
        self.run_until(self.now + duration);
    }

    pub(crate) fn run_until(&mut self, end: Time) {
        let mut steps = 0;
        loop {
            let wakes = self.nodes.iter().enumerate();
            let wake = wakes.filter_map(|(node, state)| Some((state.chain.next_wake()?, node))).min();
            let next = self.queue.first_key_value().map(|((time, _), _)| *time);
            let wake_first = match (wake, next) {
                (None, None) => break,
                (Some((wake, _)), Some(next)) => wake < next,
                (wake, None) => wake.is_some(),
                (None, Some(_)) => false,
            };
            let time = if wake_first { wake.map(|(time, _)| time) } else { next }.expect("one of the two is first");
            if time > end {
                break;
            }
            self.now = self.now.max(time);
            if wake_first {
                let node = wake.expect("it is first").1;
                self.call(node, Chain::on_wake);
            } else {
                let (_, happening) = self.queue.pop_first().expect("it is first");
                self.happen(happening);
            }
            steps += 1;
            assert!(steps < 200_000, "the nodes never come to rest");
        }
        self.now = self.now.max(end);
        for node in &self.nodes {
            node.chain.check();
        }
    }

    fn call(&mut self, node: usize, act: impl FnOnce(&mut Chain, Moment, &mut Vec<Effect>)) {
        let at = self.moment();
        let mut effects = Vec::new();
        act(&mut self.nodes[node].chain, at, &mut effects);
        // Recomputing everything after each of many thousand calls would take most of the tests' time.
        self.calls += 1;
        if self.calls.is_multiple_of(16) {
            self.nodes[node].chain.check();
        }
        for effect in effects {
            self.carry_out(node, effect);
        }
    }

    pub(crate) fn seed(&mut self, seed: u64) {
        self.random = seed | 1;
    }

    /// A number below `bound`: the high bits of a linear congruential generator (constants by Knuth).
    pub(crate) fn random(&mut self, bound: u64) -> u64 {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 33) % bound
    }

    fn post(&mut self, delay: Duration, over_the_network: bool, happening: Happening) {
        let mut delay = delay;
        if over_the_network {
            if self.random(100) < self.lost_percent {
                return;
            }
            let jitter_ms = self.jitter_ms + 1;
            delay += Duration::from_millis(self.random(jitter_ms));
        }
        self.sequence += 1;
        self.queue.insert((self.now + delay, self.sequence), happening);
    }

    fn sheds(&mut self) -> bool {
        self.random(100) < self.shed_percent
    }

    fn reaches(&self, one: usize, other: usize) -> bool {
        self.cut.is_none_or(|cut| (one < cut) == (other < cut))
    }

    fn carry_out(&mut self, node: usize, effect: Effect) {
        if let Effect::HeadChanged { .. } | Effect::Request { .. } | Effect::Event(_) | Effect::PeerFault { .. } =
            &effect
        {
            (self.now, node, format!("{effect:?}")).hash(&mut self.trace);
        }
        match effect {
            Effect::Verify { ticket, encoded, .. } => {
                let checked = if self.sheds() { Checked::Shed } else { check(&encoded, &self.genesis) };
                self.post(VERIFYING, false, Happening::Verified { node, ticket, checked });
            }
            Effect::VerifyHeaders { ticket, headers } => {
                let valid = headers.iter().all(|header| is_signed(header, &self.genesis));
                let verified = if valid { Verified::Valid } else { Verified::HeaderInvalid };
                let verified = if self.sheds() { Verified::Shed } else { verified };
                self.post(VERIFYING, false, Happening::HeadersVerified { node, ticket, verified });
            }
            Effect::Request { request, peer, body } => {
                let state = &mut self.nodes[node];
                state.requests_sent += usize::from(!matches!(body, Request::Status(_)));
                state.asked.0 += usize::from(matches!(body, Request::Headers { .. }));
                state.asked.1 += if let Request::Blocks(ids) = &body { ids.len() } else { 0 };
                // As the wire would have it.
                let body = Request::decode(&body.encode()).expect("a request of ours decodes");
                self.post(LATENCY, true, Happening::Request { to: peer.index(), from: node, request, body });
            }
            Effect::Respond { ticket, response } => {
                let (to, request) = self.awaiting.remove(&ticket).expect("each request is answered once");
                self.call(node, |chain, at, _| chain.on_responded(at.now, ticket));
                let (delay, response) = self.spoken_by(node, response);
                if let Some(response) = response {
                    self.post(delay, true, Happening::Response { to, from: node, request, response });
                }
            }
            Effect::Load { ticket, what } => self.post(DISK, false, Happening::Loaded { node, ticket, what }),
            Effect::Persist(batch) => {
                let state = &mut self.nodes[node];
                state.store.apply(&batch);
                state.unwritten += 1;
                state.unwritten_max = state.unwritten_max.max(state.unwritten);
                self.post(DISK, false, Happening::Persisted { node });
            }
            Effect::HeadChanged { undone, adopted } => {
                let slot = self.moment().slot;
                let Node { chain, pool, .. } = &mut self.nodes[node];
                pool.on_head_changed(&undone, &adopted, slot, |account| chain.next_nonce(account, slot));
                pool.check();
            }
            Effect::PeerFault { peer, fault } => self.nodes[node].faults.push((peer, fault)),
            Effect::Disputed { .. } => {}
            Effect::Event(event) => self.nodes[node].events.push(event),
        }
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Block { to, from, .. }
            | Happening::Request { to, from, .. }
            | Happening::Response { to, from, .. }
                if !self.reaches(to, from) => {}
            Happening::Block { to, from, block } => {
                let mut relay = None;
                self.call(to, |chain, at, out| relay = Some(chain.check_relay(at, block.signed_header(), out)));
                if relay == Some(Relay::Accept) {
                    self.post(VERIFYING, false, Happening::MeshVerified { node: to, from, block });
                }
            }
            Happening::MeshVerified { node, from, block } => {
                let verified = verify_once(&block, &self.genesis);
                let from = Some(Self::handle(from));
                self.call(node, |chain, at, out| chain.insert_block(at, block, from, verified, out));
            }
            Happening::Request { to, from, request, body } => {
                self.sequence += 1;
                let ticket = ResponseTicket(self.sequence);
                self.awaiting.insert(ticket, (from, request));
                let body = match body {
                    Request::Headers { headers_max, .. } if self.nodes[to].manner == Manner::Repeats => {
                        Request::Headers { locator: vec![self.genesis.block_id()], headers_max }
                    }
                    Request::Headers { locator, .. } if self.nodes[to].manner == Manner::Rehearses => {
                        let told = self.nodes[to].rehearsed;
                        let id = self.nodes[to].chain.block_at(told).map_or(self.genesis.block_id(), Block::id);
                        let goes_on = locator.first() == Some(&id);
                        self.nodes[to].rehearsed = if goes_on { told + 1 } else { 1 };
                        let locator = vec![if goes_on { id } else { self.genesis.block_id() }];
                        Request::Headers { locator, headers_max: 1 }
                    }
                    body => body,
                };
                self.call(to, |chain, at, out| chain.on_request(at, Self::handle(from), ticket, body, out));
            }
            Happening::Response { to, request, response, .. } => {
                self.call(to, |chain, at, out| chain.on_response(at, request, response, out));
            }
            Happening::Verified { node, ticket, checked } => {
                self.call(node, |chain, at, out| chain.on_verified(at, ticket, checked, out));
            }
            Happening::HeadersVerified { node, ticket, verified } => {
                self.call(node, |chain, at, out| chain.on_headers_verified(at, ticket, &verified, out));
            }
            Happening::Persisted { node } => {
                self.nodes[node].unwritten -= 1;
                self.call(node, |chain, at, out| chain.on_persisted(at, out));
            }
            Happening::Loaded { node, ticket, what } => {
                let blocks = self.nodes[node].store.load(&what);
                self.call(node, |chain, at, out| chain.on_loaded(at.now, ticket, Some(blocks), out));
            }
        }
    }

    /// What a node says instead of its honest answer, and after how long; nothing if it never answers.
    fn spoken_by(&self, node: usize, honest: Option<Response>) -> (Duration, Option<Result<Response, RequestFailure>>) {
        let Some(response) = honest else { return (LATENCY, Some(Err(RequestFailure::Failed))) };
        let manner = self.nodes[node].manner;
        let delay = match (manner, &response.answer) {
            (Manner::Repeats, Answer::Headers(_)) => self.repeats_after,
            (_, answer) => manner.takes(answer).unwrap_or(LATENCY),
        };
        (delay, manner.says(response, &self.genesis))
    }
}

pub(crate) fn check(encoded: &Bytes, genesis: &Genesis) -> Checked {
    match Block::decode(encoded.clone(), genesis) {
        Ok(block) => {
            let verified = verify_once(&block, genesis);
            Checked::Block(block, verified)
        }
        Err(BlockError::Count { .. } | BlockError::Root { .. }) => Checked::OtherBody,
        Err(_) => Checked::Malformed,
    }
}

/// What verification says of a block's bytes. All nodes of all worlds verify the same blocks, so it is computed once.
fn verify_once(block: &Block, genesis: &Genesis) -> Verified {
    static KNOWN: Mutex<BTreeMap<Bytes, Verified>> = Mutex::new(BTreeMap::new());
    if block.encoded_len() > 4 << 10 {
        return verify(block, genesis);
    }
    let mut known = KNOWN.lock().expect("verification does not panic");
    known.entry(block.bytes().clone()).or_insert_with(|| verify(block, genesis)).clone()
}

fn is_signed(header: &SignedHeader, genesis: &Genesis) -> bool {
    static KNOWN: Mutex<BTreeMap<(BlockId, [u8; 64]), bool>> = Mutex::new(BTreeMap::new());
    let mut known = KNOWN.lock().expect("verification does not panic");
    *known.entry((header.header.id(), header.signature.0)).or_insert_with(|| header.verify(genesis).is_ok())
}

pub(crate) fn verify(block: &Block, genesis: &Genesis) -> Verified {
    if block.verify_header_signature(genesis).is_err() {
        return Verified::HeaderInvalid;
    }
    match block.verify_bodies(genesis) {
        Ok(()) => Verified::Valid,
        Err(error) => Verified::BodyInvalid(error),
    }
}
