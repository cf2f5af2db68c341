//! The machine of catching up by itself, in lockstep with a naive book of what is under way.
//!
//! Peers answer each request in a way that is drawn anew: truly, late, never, with nothing, or with a lie. The book knows only what
//! the machine was told and what it asked for, and after every call it must agree with the machine on how much is under way. One
//! peer is honest, though its answers may get lost, and that must be enough.

use crate::support::*;
use crate::world::check;
use bytes::Bytes;
use proptest::prelude::*;
use starling_protocol::block::Block;
use starling_protocol::chain::{Moment, Position, RequestFailure, RequestId, Verified, VerifyTicket};
use starling_protocol::genesis::{Genesis, Limits};
use starling_protocol::id::{BlockId, NetworkId, PeerHandle};
use starling_protocol::request::{Answer, HEADERS_MAX, LOCATOR_IDS_MAX, Request, Response, Status};
use starling_protocol::sync::io::{
    BLOCK_REQUESTS_MAX, BLOCK_REQUESTS_PER_PEER_MAX, CHUNK_BLOCKS_MAX, HEADERS_AHEAD_MAX, HEADERS_PER_JOB,
    WINDOW_BYTES_MAX,
};
use starling_protocol::sync::{Checked, Config, Effect, Local, Sync};
use starling_protocol::time::{Duration, Time};
use starling_protocol::transaction::TransactionBuilder;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

/// The blocks that a network has, and its genesis.
struct Network {
    genesis: Genesis,
    blocks: Vec<Block>,
    /// Where each stands; the first is what all start from.
    positions: Vec<Position>,
    heights: BTreeMap<BlockId, usize>,
}

impl Network {
    /// `count` blocks of one transaction with such a payload each.
    fn new(limits: Limits, count: u64, payload_bytes: usize) -> Self {
        let genesis = genesis_with(limits);
        let (mut blocks, mut parent) = (Vec::new(), origin(&genesis));
        for slot in 1..=count {
            let builder = TransactionBuilder::new(&genesis, slot + 1).nonce(slot - 1);
            let transaction = builder.payload(vec![1; payload_bytes]).build(&key(1)).expect("a valid transaction");
            let next = block(&genesis, &parent, slot, vec![transaction]);
            parent = Position::of(&next);
            blocks.push(next);
        }
        let positions: Vec<Position> = [origin(&genesis)].into_iter().chain(blocks.iter().map(Position::of)).collect();
        let heights = positions.iter().enumerate().map(|(height, position)| (position.id, height)).collect();
        Self { genesis, blocks, positions, heights }
    }
}

static SMALL: LazyLock<Network> =
    LazyLock::new(|| Network::new(Limits { expiry_slots_max: EXPIRY_SLOTS_MAX, ..Limits::default() }, 600, 3));

/// More bytes than the window takes.
static LARGE: LazyLock<Network> = LazyLock::new(|| {
    let limits = Limits { expiry_slots_max: EXPIRY_SLOTS_MAX, payload_bytes_max: 1 << 20, ..Limits::default() };
    Network::new(Limits { block_bytes_max: (1 << 20) + 1_000, ..limits }, 48, 1 << 20)
});

/// A naive chain: as many of the network's blocks as are placed.
struct Placed<'a> {
    network: &'a Network,
    config: Config,
    height: usize,
    disk_lags: bool,
}

impl Local for Placed<'_> {
    fn genesis(&self) -> &Genesis {
        &self.network.genesis
    }

    fn config(&self) -> &Config {
        &self.config
    }

    fn status(&self) -> Status {
        Status { network: self.network.genesis.network_id(), head: self.head().head(), earliest: 1 }
    }

    fn head(&self) -> Position {
        self.network.positions[self.height]
    }

    fn root(&self) -> Position {
        self.network.positions[0]
    }

    fn position(&self, id: &BlockId) -> Option<Position> {
        let height = *self.network.heights.get(id)?;
        (height <= self.height).then(|| self.network.positions[height])
    }

    fn is_invalid(&self, _: &BlockId) -> bool {
        false
    }

    fn locator(&self) -> Vec<BlockId> {
        let mut ids = vec![self.head().id];
        ids.extend((self.height > 0).then(|| self.network.genesis.block_id()));
        ids
    }

    fn disk_lags(&self) -> bool {
        self.disk_lags
    }
}

/// How a request is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Truly,
    Never,
    /// After the request's time is up.
    TooLate,
    /// Just before.
    Slowly,
    Fails,
    Busy,
    /// With nothing in it.
    Empty,
    /// With the first half.
    Half,
    /// Truly, while claiming more than there can be.
    Boasting,
    // What follows is what no honest peer does.
    Garbage,
    OtherNetwork,
    OtherKind,
    TooMany,
    Swapped,
    SpoiltSignature,
    SpoiltBody,
}

const WAYS: [Way; 16] = [
    Way::Truly,
    Way::Never,
    Way::TooLate,
    Way::Slowly,
    Way::Fails,
    Way::Busy,
    Way::Empty,
    Way::Half,
    Way::Boasting,
    Way::Garbage,
    Way::OtherNetwork,
    Way::OtherKind,
    Way::TooMany,
    Way::Swapped,
    Way::SpoiltSignature,
    Way::SpoiltBody,
];

#[derive(Clone, Debug)]
struct Scenario {
    seed: u64,
    large: bool,
    /// For each peer but the honest one, the ways in which it answers.
    others: Vec<Vec<Way>>,
    /// When the honest peer comes.
    honest_at_ms: u64,
    /// How many of a hundred of its answers are lost.
    lost_percent: u64,
    /// How many of a hundred jobs the workers refuse, all the time.
    shed_percent: u64,
    /// How many of a hundred placings the disk needs a pause after.
    lag_percent: u64,
}

fn scenario() -> impl Strategy<Value = Scenario> {
    let ways = prop::collection::vec(prop::sample::select(&WAYS[..]), 1..4);
    let percents = (0..40_u64, prop_oneof![Just(0), 0..60_u64], prop_oneof![Just(0), 0..50_u64]);
    (any::<u64>(), prop::bool::weighted(0.2), prop::collection::vec(ways, 0..6), 0..8_000_u64, percents).prop_map(
        |(seed, large, others, honest_at_ms, (lost_percent, shed_percent, lag_percent))| Scenario {
            seed,
            large,
            others,
            honest_at_ms,
            lost_percent,
            shed_percent,
            lag_percent,
        },
    )
}

enum Happening {
    Connect(PeerHandle),
    /// Somebody leaves, and comes back as somebody else.
    Replace(PeerHandle, PeerHandle),
    Response(PeerHandle, RequestId, Result<Response, RequestFailure>, bool),
    Headers(VerifyTicket, Verified),
    Block(VerifyTicket, Checked),
    DiskCaughtUp,
}

/// A request as the book has it.
struct Open {
    peer: PeerHandle,
    body: Request,
    sent: Time,
}

struct Play<'a> {
    scenario: &'a Scenario,
    sync: Sync,
    local: Placed<'a>,
    now: Time,
    queue: BTreeMap<(Time, u64), Happening>,
    sequence: u64,
    random: u64,
    open: BTreeMap<RequestId, Open>,
    header_tickets: BTreeSet<VerifyTicket>,
    block_tickets: BTreeSet<VerifyTicket>,
    /// Headers whose signatures were found to be right.
    known: BTreeSet<BlockId>,
    batches: BTreeMap<VerifyTicket, Vec<BlockId>>,
    /// Headers that came and that the workers refused.
    refused: BTreeSet<Vec<BlockId>>,
    connected: BTreeSet<PeerHandle>,
    barred: BTreeSet<PeerHandle>,
    /// Who sent bytes that are a lie, by where they are.
    spoilt: BTreeMap<usize, (PeerHandle, Bytes)>,
}

/// The honest one.
const HONEST: PeerHandle = PeerHandle { slot: 3, generation: 0 };

impl<'a> Play<'a> {
    fn new(scenario: &'a Scenario) -> Self {
        let network = if scenario.large { &*LARGE } else { &*SMALL };
        let local = Placed { network, config: Config::default(), height: 0, disk_lags: false };
        let mut play = Self {
            scenario,
            sync: Sync::default(),
            local,
            now: Time::from_secs(1),
            queue: BTreeMap::new(),
            sequence: 0,
            random: scenario.seed | 1,
            open: BTreeMap::new(),
            header_tickets: BTreeSet::new(),
            block_tickets: BTreeSet::new(),
            known: BTreeSet::new(),
            batches: BTreeMap::new(),
            refused: BTreeSet::new(),
            connected: BTreeSet::new(),
            barred: BTreeSet::new(),
            spoilt: BTreeMap::new(),
        };
        for place in 0..scenario.others.len() {
            let other = other(place);
            play.post(Duration::from_millis(1), Happening::Connect(other));
            if play.random(3) == 0 {
                let leaves = Duration::from_millis(1_000 + play.random(9_000));
                play.post(leaves, Happening::Replace(other, PeerHandle { generation: 1, ..other }));
            }
        }
        play.post(Duration::from_millis(scenario.honest_at_ms), Happening::Connect(HONEST));
        play
    }

    fn random(&mut self, bound: u64) -> u64 {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 33) % bound
    }

    /// Whether the workers refuse a job.
    fn sheds(&mut self) -> bool {
        self.random(100) < self.scenario.shed_percent
    }

    fn post(&mut self, delay: Duration, happening: Happening) {
        self.sequence += 1;
        self.queue.insert((self.now + delay, self.sequence), happening);
    }

    fn moment(&self) -> Moment {
        let slot = self.local.network.blocks.len() as u64 + 10;
        Moment { now: self.now, slot, slot_ahead: slot }
    }

    /// Plays until all blocks are placed; panics if they are not in time.
    fn play(&mut self) {
        let blocks = self.local.network.blocks.len();
        while self.local.height < blocks {
            let next = self.queue.first_key_value().map(|((at, _), _)| *at);
            let wake = self.sync.next_wake();
            let at = next.into_iter().chain(wake).min().expect("something will happen");
            self.now = self.now.max(at);
            // A third may be lost, and half of what is left be refused by the workers: then blocks come one in some seconds.
            assert!(self.now < Time::from_secs(3_000), "never done: {:?}", self.sync.progress(self.now, 0));
            if wake == Some(at) && next != Some(at) {
                let timeout = self.local.config.request_timeout;
                let now = self.now;
                self.open.retain(|_, open| open.sent + timeout > now);
                self.call(|sync, at, local, out| sync.on_wake(at, local, out));
            } else {
                let (_, happening) = self.queue.pop_first().expect("it is first");
                self.happen(happening);
            }
        }
        // Whoever leaves takes along what it was asked for; those who are still there may be asked in its place.
        while let Some(peer) = self.connected.pop_first() {
            self.open.retain(|_, open| open.peer != peer);
            self.call(|sync, at, local, out| sync.disconnected(at, peer, local, out));
        }
        assert!(self.open.is_empty(), "requests to nobody");
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Connect(peer) => {
                self.connected.insert(peer);
                self.call(|sync, at, local, out| sync.connected(at, peer, local, out));
            }
            Happening::Replace(old, new) => {
                self.connected.remove(&old);
                self.open.retain(|_, open| open.peer != old);
                self.call(|sync, at, local, out| sync.disconnected(at, old, local, out));
                self.happen(Happening::Connect(new));
            }
            Happening::Response(peer, request, response, is_lie) => {
                let awaited = self.open.remove(&request).is_some();
                self.call(|sync, at, local, out| sync.on_response(at, request, response, local, out));
                assert!(!(awaited && is_lie) || self.barred.contains(&peer), "a lie of {peer:?} that nobody noticed");
            }
            Happening::Headers(ticket, verified) => {
                let awaited = self.header_tickets.remove(&ticket);
                let ids = self.batches.remove(&ticket).expect("a batch");
                match verified {
                    Verified::Valid => self.known.extend(ids),
                    Verified::Shed if awaited => {
                        self.refused.insert(ids);
                    }
                    // Nobody is followed any more.
                    _ if awaited => self.header_tickets.clear(),
                    _ => {}
                }
                let before = self.barred.len();
                // Who sent them may be gone.
                let leader = self.sync.progress(self.now, 0).peer;
                let is_here = leader.is_some_and(|leader| self.connected.contains(&leader));
                self.call(|sync, at, local, out| sync.on_headers_verified(at, ticket, &verified, local, out));
                let lie = awaited && is_here && verified == Verified::HeaderInvalid;
                assert!(!lie || self.barred.len() > before, "headers that nobody signed, and nobody is at fault");
            }
            Happening::Block(ticket, checked) => {
                let awaited = self.block_tickets.remove(&ticket);
                let before = self.barred.len();
                let lie = matches!(checked, Checked::Malformed | Checked::OtherBody);
                self.call(|sync, at, local, out| sync.on_block_verified(at, ticket, checked, local, out));
                // Who sent it may be gone, or be known as a liar already.
                let liars: BTreeSet<_> = self.spoilt.values().map(|(peer, _)| *peer).collect();
                let all_known = liars.iter().all(|peer| self.barred.contains(peer) || !self.connected.contains(peer));
                let first = liars.len() == 1;
                assert!(!(awaited && lie && first) || self.barred.len() > before || all_known, "a false block");
            }
            Happening::DiskCaughtUp => {
                self.local.disk_lags = false;
                self.call(|sync, at, local, out| sync.disk_caught_up(at, local, out));
            }
        }
    }

    fn call(&mut self, act: impl FnOnce(&mut Sync, Moment, &Placed<'_>, &mut Vec<Effect>)) {
        let at = self.moment();
        let mut effects = Vec::new();
        act(&mut self.sync, at, &self.local, &mut effects);
        while !effects.is_empty() {
            let mut placed = false;
            for effect in core::mem::take(&mut effects) {
                placed |= self.carry_out(effect);
            }
            if placed {
                self.sync.on_placed(at, Ok(()), &self.local, &mut effects);
            }
        }
        self.sync.check(&self.local);
        let tickets = self.header_tickets.len() + self.block_tickets.len();
        assert_eq!(self.sync.under_way(), self.open.len() + tickets, "what is under way");
        let progress = self.sync.progress(self.now, self.local.height as u64);
        assert!(progress.headers_ahead <= HEADERS_AHEAD_MAX);
        let response = Response::bytes_max(&self.local.network.genesis);
        assert!(progress.held_bytes <= WINDOW_BYTES_MAX + response, "{} bytes wait", progress.held_bytes);
    }

    /// Whether blocks were placed.
    fn carry_out(&mut self, effect: Effect) -> bool {
        match effect {
            Effect::Request { request, peer, body } => {
                self.check_request(peer, &body);
                self.answer(peer, request, &body);
                let open = Open { peer, body, sent: self.now };
                assert!(self.open.insert(request, open).is_none(), "each request has a number of its own");
                self.check_counts(peer);
            }
            Effect::VerifyHeaders { ticket, headers } => {
                self.header_tickets.insert(ticket);
                let ids: Vec<BlockId> = headers.iter().map(|header| header.header.id()).collect();
                assert!(headers.len() <= HEADERS_PER_JOB);
                self.refused.remove(&ids);
                self.batches.insert(ticket, ids);
                let true_ones = &self.local.network.blocks;
                let place = |height: u64| usize::try_from(height - 1).expect("small");
                let valid =
                    headers.iter().all(|header| *true_ones[place(header.header.height)].signed_header() == *header);
                let verified = if valid { Verified::Valid } else { Verified::HeaderInvalid };
                let shed = self.sheds();
                let verified = if shed { Verified::Shed } else { verified };
                self.post(Duration::from_millis(3), Happening::Headers(ticket, verified));
            }
            Effect::VerifyBlock { ticket, encoded, header } => {
                self.block_tickets.insert(ticket);
                let true_one = &self.local.network.blocks[usize::try_from(header.header.height - 1).expect("small")];
                let checked = match () {
                    () if self.sheds() => Checked::Shed,
                    // Megabytes need not be looked at again and again.
                    () if encoded.as_ptr() == true_one.bytes().as_ptr() => {
                        Checked::Block(true_one.clone(), Verified::Valid)
                    }
                    () => check(&encoded, &self.local.network.genesis),
                };
                self.post(Duration::from_millis(3), Happening::Block(ticket, checked));
            }
            Effect::Place { blocks, .. } => {
                for block in &blocks {
                    assert_eq!(block, &self.local.network.blocks[self.local.height], "in order, and no other ones");
                    self.local.height += 1;
                }
                assert!(!self.local.disk_lags, "nothing is placed while the disk lags");
                if self.random(100) < self.scenario.lag_percent {
                    self.local.disk_lags = true;
                    self.post(Duration::from_millis(40), Happening::DiskCaughtUp);
                }
                return true;
            }
            Effect::PeerFault { peer, fault } => {
                assert_ne!(peer, HONEST, "the honest one is blamed: {fault:?}");
                assert!(self.barred.insert(peer), "a peer is reported once");
                self.open.retain(|_, open| open.peer != peer);
            }
            Effect::Ended { .. } => {
                self.refused.clear();
                self.header_tickets.clear();
                self.block_tickets.clear();
            }
            Effect::Invalid { .. } => panic!("no block is invalid"),
            Effect::Event(_) => {}
        }
        false
    }

    fn check_request(&self, peer: PeerHandle, body: &Request) {
        assert!(self.connected.contains(&peer) && !self.barred.contains(&peer), "whoever lied is asked no more");
        match body {
            Request::Status(_) => {}
            Request::Headers { locator, headers_max } => {
                assert!(locator.len() <= LOCATOR_IDS_MAX && *headers_max <= HEADERS_MAX);
                let unverified = self.refused.len() + self.header_tickets.len();
                assert_eq!(unverified, 0, "headers are asked for while others wait for the workers");
            }
            Request::Blocks(ids) => {
                assert!((1..=CHUNK_BLOCKS_MAX).contains(&ids.len()), "{} blocks", ids.len());
                assert!(ids.iter().all(|id| self.known.contains(id)), "a block whose header was not verified");
            }
        }
    }

    /// That so much may be asked at once.
    fn check_counts(&self, peer: PeerHandle) {
        let blocks = || self.open.values().filter(|open| matches!(open.body, Request::Blocks(_)));
        // Beside those that are late, whose blocks others may be asked for.
        let in_time = |open: &&Open| self.now.since(open.sent) < self.local.config().slow_after;
        assert!(blocks().filter(in_time).count() <= BLOCK_REQUESTS_MAX && blocks().count() <= 2 * BLOCK_REQUESTS_MAX);
        assert!(blocks().filter(|open| open.peer == peer).count() <= BLOCK_REQUESTS_PER_PEER_MAX);
    }

    /// Has the peer answer in its way.
    fn answer(&mut self, peer: PeerHandle, request: RequestId, body: &Request) {
        let way = if peer == HONEST {
            let lost = !matches!(body, Request::Status(_)) && self.random(100) < self.scenario.lost_percent;
            if lost { Way::Never } else { Way::Truly }
        } else {
            let ways = &self.scenario.others[place_of(peer)];
            let drawn = usize::try_from(self.random(ways.len() as u64)).expect("small");
            self.scenario.others[place_of(peer)][drawn]
        };
        let mut response = self.truth(body);
        let mut delay = Duration::from_millis(5 + self.random(120));
        let mut is_lie = false;
        match (way, &mut response.answer) {
            (Way::Never, _) => return,
            (Way::TooLate, _) => delay = self.local.config.request_timeout + Duration::from_millis(200),
            (Way::Slowly, _) => delay = self.local.config.request_timeout.saturating_sub(Duration::from_millis(100)),
            (Way::Fails, _) => return self.respond(peer, request, Err(RequestFailure::Failed), (delay, false)),
            (Way::Garbage, _) => return self.respond(peer, request, Err(RequestFailure::Malformed), (delay, true)),
            (Way::Busy, answer) => *answer = Answer::Busy,
            (Way::Boasting, _) => response.status.head.height = 1 << 40,
            (Way::OtherNetwork, _) => {
                response.status.network = NetworkId(starling_crypto::Digest([9; 32]));
                is_lie = true;
            }
            (Way::OtherKind, answer) => {
                is_lie = true;
                *answer = match answer {
                    Answer::Status => Answer::Blocks(Vec::new()),
                    _ => Answer::Status,
                };
            }
            (Way::Empty, Answer::Blocks(blocks)) => blocks.clear(),
            (Way::Half, Answer::Blocks(blocks)) => blocks.truncate(blocks.len().div_ceil(2)),
            (Way::Half, Answer::Headers(headers)) => headers.truncate(headers.len().div_ceil(2)),
            (Way::TooMany, Answer::Blocks(blocks)) => {
                let excess = blocks[0].clone();
                blocks.resize(CHUNK_BLOCKS_MAX + 1, excess);
                is_lie = true;
            }
            (Way::Swapped, Answer::Blocks(blocks)) if blocks.len() > 1 => {
                blocks.reverse();
                is_lie = true;
            }
            (Way::Swapped, Answer::Headers(headers)) if headers.len() > 1 => {
                headers.swap(0, 1);
                is_lie = true;
            }
            (Way::SpoiltSignature, Answer::Headers(headers)) => {
                headers.iter_mut().for_each(|header| header.signature.0[3] ^= 1);
            }
            (Way::SpoiltBody, Answer::Blocks(blocks)) => {
                for block in blocks.iter_mut() {
                    let mut bytes = block.to_vec();
                    *bytes.last_mut().expect("a block has bytes") ^= 1;
                    *block = bytes.into();
                    self.spoilt.insert(block.as_ptr().addr(), (peer, block.clone()));
                }
            }
            // The answers of which there is no such lie.
            _ => {}
        }
        self.respond(peer, request, Ok(response), (delay, is_lie));
    }

    fn respond(
        &mut self,
        peer: PeerHandle,
        request: RequestId,
        response: Result<Response, RequestFailure>,
        (delay, is_lie): (Duration, bool),
    ) {
        self.post(delay, Happening::Response(peer, request, response, is_lie));
    }

    /// What a peer that has all blocks answers.
    fn truth(&self, body: &Request) -> Response {
        let Network { genesis, blocks, positions, heights } = self.local.network;
        let head = positions.last().expect("there are blocks");
        let status = Status { network: genesis.network_id(), head: head.head(), earliest: 1 };
        let answer = match body {
            Request::Status(_) => Answer::Status,
            Request::Headers { locator, headers_max } => {
                let after = locator.iter().find_map(|id| heights.get(id)).copied().unwrap_or(0);
                let headers = blocks[after..].iter().take(usize::from(*headers_max));
                Answer::Headers(headers.map(|block| *block.signed_header()).collect())
            }
            Request::Blocks(ids) => {
                let wanted = ids.iter().map(|id| blocks[heights[id] - 1].bytes().clone());
                let (mut bytes, limit) = (0, starling_protocol::request::RESPONSE_BLOCK_BYTES_MAX as usize);
                let fits = |block: &Bytes| {
                    bytes += block.len();
                    bytes == block.len() || bytes <= limit
                };
                Answer::Blocks(wanted.take_while(fits).collect())
            }
        };
        Response { status, answer }
    }
}

/// The handle of the other at this place, some before and some after the honest one.
fn other(place: usize) -> PeerHandle {
    let slot = u32::try_from(place).expect("few");
    PeerHandle { slot: if slot < HONEST.slot { slot } else { slot + 1 }, generation: 0 }
}

fn place_of(peer: PeerHandle) -> usize {
    let slot = if peer.slot < HONEST.slot { peer.slot } else { peer.slot - 1 };
    usize::try_from(slot).expect("few")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, max_shrink_iters: 64, ..ProptestConfig::default() })]

    #[test]
    fn one_honest_peer_is_enough_and_everything_is_accounted_for(scenario in scenario()) {
        Play::new(&scenario).play();
    }
}

/// The book once took everybody for gone when the first one left, while the machine still asked the others.
#[test]
fn those_who_are_still_there_are_asked_when_somebody_leaves() {
    let others = vec![
        vec![Way::Boasting],
        vec![Way::Boasting],
        vec![Way::Empty],
        vec![Way::Never],
        vec![Way::Boasting, Way::Busy, Way::Truly],
    ];
    let scenario = Scenario {
        seed: 5_588_142_832_094_742_388,
        large: false,
        others,
        honest_at_ms: 2_457,
        lost_percent: 33,
        shed_percent: 7,
        lag_percent: 47,
    };
    Play::new(&scenario).play();
}
