//! What somebody with a producer's key, and peers that help, can do to nodes that are honest.

use crate::leading::{asking_two, half_a_second_after, headers_requests, job};
use crate::support::*;
use crate::world::World;
use bytes::Bytes;
use starling_crypto::Digest;
use starling_protocol::block::{Block, BodyError};
use starling_protocol::chain::{
    Chain, Config, Effect, Moment, Position, Relay, RequestId, ResponseTicket, Verified, VerifyTicket,
};
use starling_protocol::id::{BlockId, PeerHandle};
use starling_protocol::mempool::{self, Mempool};
use starling_protocol::random::Stream;
use starling_protocol::request::{Answer, Head, Request, Response, Status};
use starling_protocol::sync::Checked;
use starling_protocol::time::Duration;

const LIAR: u32 = 7;
const HONEST: u32 = 1;

/// A machine with the first ten blocks, in slot 100.
fn machine() -> (Chain, Vec<Block>) {
    let blocks = blocks_after(&genesis(), &origin(&genesis()), 10);
    let mut chain = Chain::new(genesis(), Config::default());
    let mut out = Vec::new();
    blocks.iter().for_each(|block| chain.insert_block(at(100), block.clone(), None, Verified::Valid, &mut out));
    (chain, blocks)
}

fn blocks_requests(effects: &[Effect]) -> Vec<(RequestId, PeerHandle, Vec<BlockId>)> {
    let asked = |effect: &Effect| match effect {
        Effect::Request { request, peer, body: Request::Blocks(ids) } => Some((*request, *peer, ids.clone())),
        _ => None,
    };
    effects.iter().filter_map(asked).collect()
}

fn verification(effects: &[Effect]) -> Option<VerifyTicket> {
    effects.iter().find_map(|effect| if let Effect::Verify { ticket, .. } = effect { Some(*ticket) } else { None })
}

fn claiming(chain: &Chain, position: &Position) -> Status {
    Status { head: position.head(), ..chain.own_status() }
}

/// All headers of the one answer are found to be signed.
fn verify_headers(chain: &mut Chain, now: Moment, out: &mut Vec<Effect>) {
    let jobs: Vec<VerifyTicket> = out.iter().filter_map(job).collect();
    assert!(!jobs.is_empty(), "{out:?}");
    out.clear();
    jobs.iter().for_each(|job| chain.on_headers_verified(now, *job, &Verified::Valid, out));
}

/// Nobody could build on it before that time has come.
#[test]
fn no_block_of_the_future_is_fetched_as_a_parent() {
    let twice = BodyError::Duplicate { first: 0, second: 1, id: transaction(1, 0, 20).id() };
    for verified in [Verified::Valid, Verified::BodyInvalid(twice)] {
        let (mut chain, blocks) = machine();
        let mut out = Vec::new();
        chain.peer_connected(at(100), peer(LIAR), &mut out);
        out.clear();
        let head = Position::of(&blocks[9]);
        let future = block(&genesis(), &head, 1 << 40, Vec::new());
        let child = misplaced(&genesis(), future.id(), 100, 12);
        chain.insert_block(at(100), child, Some(peer(LIAR)), Verified::Valid, &mut out);
        let (request, _, _) = blocks_requests(&out).pop().expect("the parent is asked for");
        out.clear();
        let response = Response { status: chain.own_status(), answer: Answer::Blocks(vec![future.bytes().clone()]) };
        chain.on_response(at(100), request, Ok(response), &mut out);
        let ticket = verification(&out).expect("it is verified");
        chain.on_verified(at(100), ticket, Checked::Block(future.clone(), verified), &mut out);
        chain.check();
        // Nothing is remembered of it.
        assert_eq!(chain.precheck_relay(at(1 << 40), future.header()), Relay::Accept);
        assert_eq!((chain.head(), chain.orphans()), (head, (0, 0)), "what waited for it can follow on nothing");
        let pool = Mempool::new(mempool::Config::default(), &genesis(), Stream::from_seed([9; 32]));
        assert!(chain.produce_candidate(101, &pool).is_some());
    }
}

/// A block of any height that follows on nothing, which an honest peer has passed on, is no claim of its own.
#[test]
fn nobody_is_blamed_for_the_height_of_what_it_passed_on() {
    let blocks = blocks_after(&genesis(), &origin(&genesis()), 12);
    let mut world = World::new(2, &Config::default());
    let (honest, node) = (0, 1);
    world.set_slot(100);
    (0..2).for_each(|node| blocks[..10].iter().for_each(|block| world.own(node, block)));
    world.connect(honest, node);
    world.run_for(Duration::from_secs(1));
    for first in 0..8 {
        let slot = world.moment().slot;
        let fake = misplaced(&genesis(), BlockId(Digest([first; 32])), slot, slot);
        world.send_block(honest, node, &fake);
        world.run_for(Duration::from_secs(10));
    }
    assert_eq!(world.nodes[node].faults, []);
    // And it is asked as before.
    blocks[10..].iter().for_each(|block| world.own(honest, block));
    world.send_block(honest, node, &blocks[11]);
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.head(node), Position::of(&blocks[11]));
}

/// Whoever answers at once with one header, whose block it keeps, delays the one whose turn it was and does not skip it.
#[test]
fn a_quick_answer_takes_nobodys_turn() {
    let (mut chain, status, [(first, liar), (_, honest)]) = asking_two(&[]);
    let mut now = half_a_second_after(at(100));
    now.now = now.now + Duration::from_millis(100);
    let bait = block(&genesis(), &origin(&genesis()), 90, Vec::new());
    let status = Status { head: Position::of(&bait).head(), ..status };
    let mut out = Vec::new();
    let response = Response { status, answer: Answer::Headers(vec![*bait.signed_header()]) };
    chain.on_response(now, first, Ok(response), &mut out);
    verify_headers(&mut chain, now, &mut out);
    let turn = loop {
        for (request, asked, _) in blocks_requests(&out) {
            // Others say that they have not got it.
            if asked != liar {
                let answer = Answer::Blocks(vec![Bytes::new()]);
                chain.on_response(
                    now,
                    request,
                    Ok(Response { status: Status { head: Head { height: 99, ..status.head }, ..status }, answer }),
                    &mut out,
                );
            }
        }
        out.clear();
        now.now = chain.next_wake().expect("it goes on");
        chain.on_wake(now, &mut out);
        chain.check();
        if let Some((_, asked)) = headers_requests(&out).pop() {
            break asked;
        }
    };
    assert_eq!(turn, honest);
    // It has more than half a second to itself.
    out.clear();
    let end = now.now + Duration::from_millis(1_400);
    while let Some(wake) = chain.next_wake().filter(|wake| *wake <= end) {
        now.now = wake;
        chain.on_wake(now, &mut out);
    }
    assert_eq!(headers_requests(&out), []);
}

/// What a peer has not got of one chain says nothing of another one.
#[test]
fn what_was_asked_for_while_another_chain_was_followed_is_no_matter_now() {
    let (mut chain, blocks) = machine();
    let (liar, honest, now) = (peer(LIAR), peer(HONEST), at(100));
    let head = Position::of(&blocks[9]);
    let bait = block(&genesis(), &head, 20, Vec::new());
    let longer = blocks_after(&genesis(), &Position { slot: 29, ..head }, 30);
    let of_liar = claiming(&chain, &Position::of(&bait));
    let of_honest = claiming(&chain, &Position::of(&longer[29]));
    let mut out = Vec::new();
    [liar, honest].into_iter().for_each(|peer| chain.peer_connected(now, peer, &mut out));
    let hears = |chain: &mut Chain, from: PeerHandle, ticket, status, out: &mut Vec<Effect>| {
        out.clear();
        chain.on_request(now, from, ResponseTicket(ticket), Request::Status(status), out);
        headers_requests(out).pop()
    };
    let (first, _) = hears(&mut chain, liar, 1, of_liar, &mut out).expect("it is followed");
    assert_eq!(hears(&mut chain, honest, 2, of_honest, &mut out), None);
    let headers = Answer::Headers(vec![*bait.signed_header()]);
    chain.on_response(now, first, Ok(Response { status: of_liar, answer: headers }), &mut out);
    verify_headers(&mut chain, now, &mut out);
    let (asked, of, _) = blocks_requests(&out).pop().expect("the block is asked for");
    assert_eq!(of, honest);
    chain.insert_block(now, bait, Some(liar), Verified::Valid, &mut out);
    let (second, of) = hears(&mut chain, liar, 3, of_liar, &mut out).expect("another chain is followed");
    assert_eq!(of, honest);
    let lacks = Response { status: of_honest, answer: Answer::Blocks(vec![Bytes::new()]) };
    chain.on_response(now, asked, Ok(lacks), &mut out);
    let headers = Answer::Headers(longer.iter().map(|block| *block.signed_header()).collect());
    chain.on_response(now, second, Ok(Response { status: of_honest, answer: headers }), &mut out);
    verify_headers(&mut chain, now, &mut out);
    chain.check();
    let asked: Vec<PeerHandle> = blocks_requests(&out).into_iter().map(|(_, peer, _)| peer).collect();
    assert_eq!(asked, [honest]);
}
