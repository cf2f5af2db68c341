//! Peers that are followed and lead nowhere, and those that ask too much.

use crate::manners::Manner;
use crate::support::*;
use crate::world::World;
use bytes::Bytes;
use starling_crypto::Digest;
use starling_protocol::block::{Block, SignedHeader};
use starling_protocol::chain::{
    Chain, Config, Effect, LoadTicket, Moment, PeerFault, Position, RequestFailure, RequestId, ResponseTicket,
    Verified, VerifyTicket,
};
use starling_protocol::id::{BlockId, NetworkId, PeerHandle};
use starling_protocol::request::{Answer, Head, Request, Response, Status};
use starling_protocol::time::Duration;

/// Slots without a block, so that there is room for claims beyond the chain.
const EMPTY_SLOTS: u64 = 100;

/// A world whose last node has nothing, connected with others that have all of these blocks.
fn joining(manners: &[Manner], blocks: &[Block]) -> (World, usize) {
    let joiner = manners.len();
    let mut world = World::new(joiner + 1, &Config::default());
    world.set_slot(blocks.last().map_or(1, |block| block.header().slot) + EMPTY_SLOTS);
    for (node, manner) in manners.iter().enumerate() {
        blocks.iter().for_each(|block| world.own(node, block));
        world.nodes[node].manner = *manner;
        world.connect(node, joiner);
    }
    (world, joiner)
}

fn chain_of(count: u64) -> Vec<Block> {
    blocks_after(&genesis(), &origin(&genesis()), count)
}

#[test]
fn peers_that_take_turns_at_leading_nowhere_keep_nobody_from_an_honest_one() {
    let blocks = chain_of(200);
    for liar in [Manner::BusyLate, Manner::Sips] {
        let (mut world, joiner) = joining(&[liar, liar, Manner::Honest], &blocks);
        world.run_for(Duration::from_secs(30));
        assert_eq!(world.head(joiner), Position::of(&blocks[199]), "{liar:?}");
        assert_eq!(world.nodes[joiner].faults, [], "it might be misfortune");
        // What is missed later comes at once, and what they claim is not believed any more in the end.
        world.run_for(Duration::from_secs(40));
        let slot = world.moment().slot;
        let next = blocks_after(&world.genesis, &Position { slot: slot - 1, ..Position::of(&blocks[199]) }, 1);
        world.own(2, &next[0]);
        world.send_block(2, joiner, &next[0]);
        world.run_for(Duration::from_secs(1));
        assert_eq!(world.head(joiner), Position::of(&next[0]), "{liar:?}");
        let progress = world.nodes[joiner].chain.sync_progress(world.now);
        assert_eq!((progress.target, progress.unheard), (201, false), "{liar:?}: {progress:?}");
    }
}

/// It is known by then who they are.
#[test]
fn many_that_lead_nowhere_do_so_once_each() {
    let blocks = chain_of(260);
    let manners = [[Manner::BusyLate; 10].as_slice(), &[Manner::Honest]].concat();
    let (mut world, joiner) = joining(&manners, &blocks[..200]);
    world.run_for(Duration::from_secs(60));
    assert_eq!(world.head(joiner), Position::of(&blocks[199]));
    world.run_for(Duration::from_secs(60));
    blocks[200..].iter().for_each(|block| world.own(10, block));
    world.disconnect(10, joiner);
    world.connect(10, joiner);
    world.run_for(Duration::from_secs(15));
    assert_eq!(world.head(joiner), Position::of(&blocks[259]));
}

/// Nobody has all the time that it takes for itself alone: ten liars of 4.8 s each would be 48 s.
#[test]
fn while_some_take_their_time_others_are_asked() {
    let blocks = chain_of(200);
    for liar in [Manner::BusyLate, Manner::Sips, Manner::Silent] {
        let manners = [[liar; 10].as_slice(), &[Manner::Honest]].concat();
        let (mut world, joiner) = joining(&manners, &blocks);
        world.run_for(Duration::from_secs(30));
        assert_eq!(world.head(joiner), Position::of(&blocks[199]), "{liar:?}");
        assert_eq!(world.nodes[joiner].faults, [], "it might be misfortune");
    }
}

/// Who is far away is followed like anybody else if nobody is nearer, and what it gives late is not asked for again.
#[test]
fn headers_that_come_late_are_taken_from_whoever_gives_them_first() {
    let blocks = chain_of(200);
    let (mut world, joiner) = joining(&[Manner::Far, Manner::Far, Manner::Far], &blocks);
    // Whoever was asked last gives them a second later.
    world.run_for(Duration::from_millis(2_800));
    assert_eq!(world.head(joiner), Position::of(&blocks[199]));
    assert_eq!(world.nodes[joiner].faults, []);
    let asked = world.nodes[joiner].chain.sync_counters();
    assert_eq!(asked.failed, 0, "{asked:?}");
}

/// A header every half a second, of all that one has, would take minutes in which nobody else is asked.
#[test]
fn nobody_is_told_for_long_what_it_has() {
    let blocks = chain_of(220);
    let mut world = World::new(3, &Config::default());
    world.set_slot(260);
    let (liar, honest, joiner) = (0, 1, 2);
    world.nodes[liar].manner = Manner::Rehearses;
    blocks.iter().for_each(|block| world.own(honest, block));
    for node in [liar, joiner] {
        blocks[..200].iter().for_each(|block| world.own(node, block));
    }
    world.connect(liar, joiner);
    world.run_for(Duration::from_millis(600));
    world.connect(honest, joiner);
    world.run_for(Duration::from_secs(10));
    assert_eq!(world.head(joiner), Position::of(&blocks[219]));
    world.run_for(Duration::from_secs(30));
    assert_eq!(world.nodes[joiner].faults, [(World::handle(liar), PeerFault::Useless)]);
}

/// A machine that has these blocks, and two peers that claim 99 more; with the request for headers of the first one that is asked, and of
/// the second one half a second later.
pub(crate) fn asking_two(own: &[Block]) -> (Chain, Status, [(RequestId, PeerHandle); 2]) {
    // So that headers of all of them are known, as many as one answer has.
    let mut world = World::new(1, &Config { undo_depth: 1_024, tree_blocks_max: 2_048, ..Config::default() });
    let last = own.last().map_or_else(|| origin(&genesis()), Position::of);
    world.set_slot(last.slot + 100);
    own.iter().for_each(|block| world.own(0, block));
    let mut chain = world.nodes.remove(0).chain;
    let head = Head { height: last.height + 99, slot: last.slot + 99, id: BlockId(Digest([9; 32])) };
    let status = Status { network: genesis().network_id(), head, earliest: 1 };
    let now = at(last.slot + 100);
    let mut out = Vec::new();
    for number in 0..4 {
        chain.peer_connected(now, peer(number), &mut out);
        chain.on_request(now, peer(number), ResponseTicket(number.into()), Request::Status(status), &mut out);
    }
    assert_eq!(headers_requests(&out).len(), 1, "one is asked");
    chain.on_wake(half_a_second_after(now), &mut out);
    let asked = headers_requests(&out);
    assert_eq!(asked.len(), 2, "{asked:?}");
    (chain, status, [asked[0], asked[1]])
}

pub(crate) fn half_a_second_after(at: Moment) -> Moment {
    Moment { now: at.now + Config::default().sync.headers_slow_after, ..at }
}

pub(crate) fn headers_requests(effects: &[Effect]) -> Vec<(RequestId, PeerHandle)> {
    let asked = |effect: &Effect| match effect {
        Effect::Request { request, peer, body: Request::Headers { .. } } => Some((*request, *peer)),
        _ => None,
    };
    effects.iter().filter_map(asked).collect()
}

/// Whoever is asked beside another one has promised nothing, so what it does wrong is its own affair.
#[test]
fn nobody_takes_another_ones_answer_with_it() {
    let headers: Vec<SignedHeader> = chain_of(99).iter().map(|block| *block.signed_header()).collect();
    let good = |status| Response { status, answer: Answer::Headers(headers.clone()) };
    let foreign = |status| Ok(good(Status { network: NetworkId(Digest([7; 32])), ..status }));
    let confused = |status| Ok(Response { status, answer: Answer::Blocks(vec![]) });
    let wrongs: [&dyn Fn(Status) -> Result<Response, RequestFailure>; 3] =
        [&foreign, &confused, &|_| Err(RequestFailure::Malformed)];
    for wrong in wrongs {
        let (mut chain, status, [(first, _), (second, _)]) = asking_two(&[]);
        let mut out = Vec::new();
        let now = half_a_second_after(at(100));
        chain.on_response(now, second, wrong(status), &mut out);
        assert!(out.iter().any(|effect| matches!(effect, Effect::PeerFault { .. })), "{out:?}");
        assert!(!out.iter().any(|effect| job(effect).is_some()), "{out:?}");
        chain.check();
        out.clear();
        chain.on_response(now, first, Ok(good(status)), &mut out);
        assert!(out.iter().any(|effect| job(effect).is_some()), "{out:?}");
        chain.check();
    }
}

/// Each time that headers are asked for it takes half a second until somebody else is asked for them, too.
#[test]
fn whoever_is_chosen_has_its_time_for_the_next_headers() {
    let own = chain_of(600);
    let (mut chain, status, [_, (second, _)]) = asking_two(&own);
    let mut out = Vec::new();
    let now = half_a_second_after(at(700));
    let known = own[..512].iter().map(|block| *block.signed_header()).collect();
    chain.on_response(now, second, Ok(Response { status, answer: Answer::Headers(known) }), &mut out);
    assert_eq!(headers_requests(&out).len(), 1, "{out:?}");
}

/// A claim alone keeps nobody from asking for a block that is missing.
#[test]
fn a_missing_parent_is_asked_for_while_a_claim_leads_nowhere() {
    let blocks = chain_of(60);
    let mut world = World::new(3, &Config::default());
    world.set_slot(70);
    let (liar, honest, node) = (0, 1, 2);
    world.nodes[liar].manner = Manner::BusyLate;
    blocks[..58].iter().for_each(|block| (0..3).for_each(|node| world.own(node, block)));
    world.connect(liar, node);
    world.connect(honest, node);
    world.run_for(Duration::from_secs(2));
    assert!(world.nodes[node].chain.sync_progress(world.now).target > 60, "somebody claims more");
    blocks[58..].iter().for_each(|block| world.own(honest, block));
    // One that waits for something far away keeps no other from its parent.
    for first in 0..4 {
        let far = misplaced(&genesis(), BlockId(Digest([first; 32])), 65 + u64::from(first), 64);
        world.send_block(liar, node, &far);
    }
    world.run_for(Duration::from_millis(100));
    assert_eq!(world.nodes[node].chain.orphans().0, 4);
    world.send_block(honest, node, &blocks[59]);
    world.run_for(Duration::from_millis(500));
    assert_eq!(world.head(node), Position::of(&blocks[59]));
}

/// With each new identity a liar is as good as anybody who has just come.
#[test]
fn coming_again_keeps_nobody_from_an_honest_peer() {
    let blocks = chain_of(200);
    let (mut world, joiner) = joining(&[Manner::BusyLate, Manner::BusyLate, Manner::Busy], &blocks);
    // The honest one has led in vain, because it was busy.
    world.run_for(Duration::from_secs(20));
    world.nodes[2].manner = Manner::Honest;
    for second in 0..60 {
        let liar = second / 2 % 2;
        if second % 2 == 0 {
            world.disconnect(liar, joiner);
            world.connect(liar, joiner);
        }
        world.run_for(Duration::from_secs(1));
    }
    assert_eq!(world.head(joiner), Position::of(&blocks[199]));
}

/// A peer alone is believed whatever became of following it: there is nobody else to ask.
#[test]
fn one_that_is_busy_for_long_is_believed_if_there_is_nobody_else() {
    let blocks = chain_of(200);
    let (mut world, joiner) = joining(&[Manner::BusyLate], &blocks);
    world.run_for(Duration::from_secs(60));
    let target = |world: &World| world.nodes[joiner].chain.sync_progress(world.now).target;
    assert!(target(&world) >= 200, "{}", target(&world));
    world.nodes[0].manner = Manner::Honest;
    world.run_for(Duration::from_secs(20));
    assert_eq!(world.head(joiner), Position::of(&blocks[199]));
}

#[test]
fn a_block_that_nobody_gives_does_not_keep_a_node_from_other_chains() {
    let genesis = genesis();
    let withheld = chain_of(60);
    let other = blocks_after(&genesis, &Position { slot: 1, ..origin(&genesis) }, 55);
    for liars in [vec![Manner::Mute], vec![Manner::Evades, Manner::Evades]] {
        let (honest, joiner) = (liars.len(), liars.len() + 1);
        let mut world = World::new(joiner + 1, &Config::default());
        world.set_slot(100);
        for (node, manner) in liars.iter().enumerate() {
            withheld.iter().for_each(|block| world.own(node, block));
            world.nodes[node].manner = *manner;
        }
        other.iter().for_each(|block| world.own(honest, block));
        (0..joiner).for_each(|node| world.connect(node, joiner));
        world.run_for(Duration::from_secs(80));
        assert_eq!(world.head(joiner), Position::of(&other[54]), "{liars:?}");
        assert_eq!(world.nodes[joiner].faults, [], "who does not answer may have a bad line");
    }
}

#[test]
fn headers_that_come_again_while_blocks_are_placed_corrupt_nothing() {
    let blocks = chain_of(1_200);
    for after_ms in [40, 80, 120, 160, 200, 240, 300, 400] {
        let (mut world, joiner) = joining(&[Manner::Repeats, Manner::Honest], &blocks);
        world.repeats_after = Duration::from_millis(after_ms);
        world.run_for(Duration::from_secs(30));
        assert_eq!(world.head(joiner), Position::of(&blocks[1_199]), "{after_ms} ms");
        let asked = world.nodes[joiner].asked.1;
        assert!(asked <= 2 * blocks.len(), "{asked} blocks were asked for, {after_ms} ms");
    }
}

/// A peer's clock may be ahead of ours by more than is allowed for.
#[test]
fn whoever_sends_headers_from_the_future_has_not_stopped_short() {
    let genesis = genesis();
    let mut blocks = chain_of(98);
    blocks.extend(blocks_after(&genesis, &Position { slot: 100, ..Position::of(&blocks[97]) }, 1));
    let mut chain = Chain::new(genesis.clone(), Config::default());
    let (now, leader) = (at(100), peer(1));
    let head = Head { height: 99, slot: 101, id: blocks[98].id() };
    let status = Status { network: genesis.network_id(), head, earliest: 1 };
    let mut out = Vec::new();
    chain.peer_connected(now, leader, &mut out);
    answer(&mut chain, &mut out, Response { status, answer: Answer::Status });
    let headers = blocks.iter().map(|block| *block.signed_header()).collect();
    answer(&mut chain, &mut out, Response { status, answer: Answer::Headers(headers) });
    let jobs: Vec<VerifyTicket> = out.iter().filter_map(job).collect();
    assert!(!jobs.is_empty(), "{out:?}");
    out.clear();
    jobs.iter().for_each(|job| chain.on_headers_verified(now, *job, &Verified::Valid, &mut out));
    assert!(matches!(request(&out), Some((_, Request::Blocks(_)))), "it does not rest: {out:?}");
}

fn load(effect: &Effect) -> Option<LoadTicket> {
    if let Effect::Load { ticket, .. } = effect { Some(*ticket) } else { None }
}

pub(crate) fn job(effect: &Effect) -> Option<VerifyTicket> {
    if let Effect::VerifyHeaders { ticket, .. } = effect { Some(*ticket) } else { None }
}

/// The last request.
fn request(effects: &[Effect]) -> Option<(RequestId, Request)> {
    let asked = |effect: &Effect| match effect {
        Effect::Request { request, body, .. } => Some((*request, body.clone())),
        _ => None,
    };
    effects.iter().rev().find_map(asked)
}

/// Answers the last request.
fn answer(chain: &mut Chain, effects: &mut Vec<Effect>, response: Response) {
    let (asked, _) = request(effects).expect("something is asked");
    effects.clear();
    chain.on_response(at(100), asked, Ok(response), effects);
}

fn is_busy(effect: &Effect) -> bool {
    matches!(effect, Effect::Respond { response: Some(Response { answer: Answer::Busy, .. }), .. })
}

#[test]
fn a_few_that_do_not_read_leave_something_for_others() {
    let blocks = chain_of(20);
    let mut world = World::new(1, &Config::default());
    world.set_slot(20);
    blocks.iter().for_each(|block| world.own(0, block));
    let ids: Vec<BlockId> = blocks.iter().map(Block::id).collect();
    let chain = &mut world.nodes[0].chain;
    let mut out = Vec::new();
    let (mut tickets, askers) = (0, 20);
    let mut ask = |asker: u32, out: &mut Vec<Effect>| {
        tickets += 1;
        chain.on_request(at(20), peer(asker), ResponseTicket(tickets), Request::Blocks(ids.clone()), out);
        chain.check();
    };
    for asker in 0..askers {
        (0..10).for_each(|_| ask(asker, &mut out));
    }
    assert!(out.iter().filter(|effect| is_busy(effect)).count() > 100, "they ask for more than they get");
    out.clear();
    ask(askers, &mut out);
    assert!(!out.is_empty() && !out.iter().any(is_busy), "{out:?}");
}

/// Whoever has held its places for long once has none of the last half of them any more, however many such peers there are.
#[test]
fn many_that_do_not_read_leave_something_for_others() {
    let blocks = chain_of(20);
    let mut world = World::new(1, &Config::default());
    world.set_slot(20);
    blocks.iter().for_each(|block| world.own(0, block));
    let ids: Vec<BlockId> = blocks.iter().map(Block::id).collect();
    let chain = &mut world.nodes[0].chain;
    let (mut tickets, mut out, askers) = (0, Vec::new(), 100);
    // They are served until there is no place left, and read nothing for ten seconds; then the same again.
    for round in 0..5 {
        let (begins, ends) = (at(20 + 10 * round), at(30 + 10 * round));
        let first = tickets + 1;
        for asker in (0..askers).flat_map(|asker| [asker; 6]) {
            tickets += 1;
            chain.on_request(begins, peer(asker), ResponseTicket(tickets), Request::Blocks(ids.clone()), &mut out);
        }
        out.clear();
        tickets += 1;
        chain.on_request(begins, peer(askers), ResponseTicket(tickets), Request::Blocks(ids.clone()), &mut out);
        assert_eq!(out.iter().any(is_busy), round < 3, "in round {round}");
        chain.on_responded(begins.now, ResponseTicket(tickets));
        (first..tickets).for_each(|ticket| chain.on_responded(ends.now, ResponseTicket(ticket)));
        // A small answer goes out to whoever reads nothing, so it is no sign of reading.
        let small =
            [Request::Blocks(vec![BlockId(Digest([7; 32]))]), Request::Headers { locator: vec![], headers_max: 1 }];
        for (asker, request) in (0..askers).flat_map(|asker| small.clone().map(|request| (asker, request))) {
            tickets += 1;
            chain.on_request(ends, peer(asker), ResponseTicket(tickets), request, &mut out);
            let loads: Vec<LoadTicket> = out.iter().filter_map(load).collect();
            out.clear();
            loads.into_iter().for_each(|load| chain.on_loaded(ends.now, load, Some(vec![Bytes::new()]), &mut out));
            chain.on_responded(ends.now, ResponseTicket(tickets));
        }
        chain.check();
        out.clear();
    }
    // As many bytes as it might have left unread make up for it.
    let bytes: usize = blocks.iter().map(|block| block.bytes().len()).sum();
    for _ in 0..=(512 << 10) / bytes {
        tickets += 1;
        chain.on_request(at(80), peer(0), ResponseTicket(tickets), Request::Blocks(ids.clone()), &mut out);
        chain.on_responded(at(80).now, ResponseTicket(tickets));
    }
    for asker in (1..askers).flat_map(|asker| [asker; 6]).chain([0]) {
        tickets += 1;
        out.clear();
        chain.on_request(at(81), peer(asker), ResponseTicket(tickets), Request::Blocks(ids.clone()), &mut out);
    }
    assert!(!out.iter().any(is_busy), "{out:?}");
}

/// Of those who read nothing at all.
#[test]
fn a_small_answer_is_no_sign_of_reading() {
    let mut world = World::new(1, &Config::default());
    world.set_slot(20);
    let status = world.nodes[0].chain.own_status();
    let chain = &mut world.nodes[0].chain;
    let (mut out, mut tickets) = (Vec::new(), 0);
    let mut ask = |asker: u32, begins: u64, ends: Option<u64>| {
        tickets += 1;
        chain.on_request(at(begins), peer(asker), ResponseTicket(tickets), Request::Status(status), &mut out);
        ends.into_iter().for_each(|ends| chain.on_responded(at(ends).now, ResponseTicket(tickets)));
        out.drain(..).any(|effect| is_busy(&effect))
    };
    assert!(!ask(0, 20, Some(30)), "it leaves a status unread for ten seconds");
    assert!(!ask(0, 30, Some(30)), "and reads one");
    assert!((1..=33).all(|asker| !ask(asker, 31, None)));
    assert!(ask(0, 31, None) && !ask(34, 31, None));
}

#[test]
fn what_is_read_for_peers_that_have_gone_is_bounded_with_the_rest() {
    let mut chain = Chain::new(genesis(), Config::default());
    let (mut out, mut tickets) = (Vec::new(), 0);
    for round in 0..50 {
        chain.peer_connected(at(20), peer(round), &mut out);
        for _ in 0..6 {
            tickets += 1;
            let unknown = BlockId(starling_crypto::Digest([7; 32]));
            chain.on_request(at(20), peer(round), ResponseTicket(tickets), Request::Blocks(vec![unknown]), &mut out);
        }
        chain.peer_disconnected(at(20), peer(round), &mut out);
    }
    let loads = out.iter().filter(|effect| matches!(effect, Effect::Load { .. })).count();
    assert!(loads <= Config::default().served_max, "{loads} at once");
}
