//! Catching up.

use crate::manners::Manner;
use crate::support::*;
use crate::world::World;
use starling_protocol::block::Block;
use starling_protocol::chain::{
    Chain, Config, Effect, Event, PeerFault, Position, ResponseTicket, SERVED_PER_PEER_MAX,
};
use starling_protocol::genesis::Limits;
use starling_protocol::request::{Answer, Request, Response};
use starling_protocol::time::Duration;

/// A world whose first nodes have all of these blocks.
fn world_with(nodes: usize, ahead: usize, blocks: &[Block], config: &Config) -> World {
    let mut world = World::new(nodes, config);
    world.set_slot(blocks.last().map_or(1, |block| block.header().slot));
    for node in 0..ahead {
        for block in blocks {
            world.own(node, block);
        }
    }
    world
}

fn chain_of(count: u64) -> Vec<Block> {
    static EMPTY: SharedChain = SharedChain::new();
    EMPTY.first(count, |_| Vec::new())
}

/// The same with a transaction in each.
fn full_chain_of(count: u64) -> Vec<Block> {
    static FULL: SharedChain = SharedChain::new();
    FULL.first(count, |slot| vec![transaction(1, slot - 1, slot + 1)])
}

#[test]
fn a_missed_parent_is_fetched_from_whoever_sent_the_child() {
    let blocks = chain_of(5);
    let mut world = world_with(3, 3, &blocks[..2], &Config::default());
    world.connect(0, 2);
    world.connect(1, 2);
    world.set_slot(5);
    world.own(1, &blocks[2]);
    for block in &blocks[3..] {
        world.own(1, block);
    }
    // Node 2 knows of nobody that is ahead, and missed blocks 3 and 4.
    world.send_block(1, 2, &blocks[4]);
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.head(2), Position::of(&blocks[4]));
    assert_eq!(world.nodes[2].requests_sent, 2, "one for each missing block");
    assert_eq!(world.nodes[2].chain.orphans(), (0, 0));
}

#[test]
fn a_parent_is_asked_of_others_if_the_first_fails() {
    for manner in [Manner::Silent, Manner::Refuses, Manner::Garbage, Manner::Spoils, Manner::Unasked] {
        let blocks = chain_of(3);
        let mut world = world_with(3, 3, &blocks[..1], &Config::default());
        world.connect(0, 2);
        world.connect(1, 2);
        world.set_slot(3);
        for node in 0..2 {
            blocks[1..].iter().for_each(|block| world.own(node, block));
        }
        world.nodes[0].manner = manner;
        world.send_block(0, 2, &blocks[2]);
        world.run_for(Duration::from_secs(8));
        assert_eq!(world.head(2), Position::of(&blocks[2]), "{manner:?}");
        let expected = match manner {
            Manner::Garbage => Some(PeerFault::Malformed),
            Manner::Spoils => Some(PeerFault::BadSignature),
            Manner::Unasked => Some(PeerFault::WrongBlock),
            _ => None,
        };
        let faults: Vec<_> = expected.map(|fault| (World::handle(0), fault)).into_iter().collect();
        assert_eq!(world.nodes[2].faults, faults, "{manner:?}");
    }
}

#[test]
fn a_late_joiner_catches_up_with_a_thousand_blocks() {
    let blocks = chain_of(1_000);
    let mut world = world_with(2, 1, &blocks, &Config::default());
    let started = world.now;
    world.connect(0, 1);
    world.run_for(Duration::from_secs(8));
    assert_eq!(world.head(1), Position::of(&blocks[999]));
    assert!(world.nodes[1].requests_sent <= 24, "1000 blocks, 64 at once in the end: {}", world.nodes[1].requests_sent);
    assert_eq!(world.nodes[1].faults, []);
    assert!(world.now.since(started) <= Duration::from_secs(8));
    let events = &world.nodes[1].events;
    assert!(matches!(events[0], Event::SyncStarted { height: 0, .. }), "{events:?}");
    assert!(matches!(events[1], Event::SyncEnded { height: 1_000, complete: true, .. }), "{events:?}");
    assert_eq!(world.nodes[1].store.canonical, world.nodes[0].store.canonical);

    // Restarted from its own store, it has the same chain.
    let (genesis, config) = (world.genesis.clone(), Config::default());
    let depth = usize::try_from(Chain::restore_depth(&genesis, &config)).expect("small");
    let stored = world.nodes[1].store.canonical_blocks(&genesis);
    let restored = Chain::restore(genesis, config, stored[1_000 - depth..].to_vec()).expect("a chain");
    assert_eq!((restored.head(), restored.root()), (world.head(1), world.nodes[1].chain.root()));
}

#[test]
fn a_joiner_learns_from_the_mesh_what_it_lacks() {
    let blocks = chain_of(300);
    let mut world = world_with(2, 1, &blocks[..299], &Config::default());
    world.set_slot(300);
    world.connect(0, 1);
    world.own(0, &blocks[299]);
    world.send_block(0, 1, &blocks[299]);
    world.run_for(Duration::from_secs(3));
    assert_eq!(world.head(1), Position::of(&blocks[299]));
    assert_eq!(world.nodes[1].chain.sync_progress(world.now).target, 300);
}

#[test]
fn a_quiet_network_is_probed() {
    let blocks = chain_of(10);
    let mut world = world_with(2, 1, &blocks, &Config::default());
    world.connect(0, 1);
    world.run_for(Duration::from_secs(11));
    assert_eq!(world.head(1), Position::of(&blocks[9]));
}

#[test]
fn a_lying_or_useless_peer_is_replaced_and_reported() {
    let faults = [
        (Manner::Silent, None),
        (Manner::Refuses, None),
        (Manner::Drips, None),
        (Manner::Repeats, None),
        (Manner::Garbage, Some(PeerFault::Malformed)),
        (Manner::Boasts, Some(PeerFault::Useless)),
        (Manner::Shuffles, Some(PeerFault::Unconnected)),
        (Manner::Spoils, Some(PeerFault::BadSignature)),
        (Manner::Unasked, Some(PeerFault::Unconnected)),
        (Manner::Busy, None),
        (Manner::Claims, None),
        (Manner::Withholds, None),
        (Manner::Slow, None),
        (Manner::SpoilsSignatures, Some(PeerFault::BadSignature)),
        (Manner::SpoilsBodies, Some(PeerFault::OtherBody)),
        (Manner::Overflows, Some(PeerFault::TooMany)),
        (Manner::Foreign, Some(PeerFault::OtherNetwork)),
        (Manner::Swaps, Some(PeerFault::WrongBlock)),
    ];
    for (manner, fault) in faults {
        let blocks = full_chain_of(200);
        let mut world = world_with(3, 2, &blocks, &Config::default());
        world.nodes[0].manner = manner;
        world.connect(0, 2);
        world.connect(1, 2);
        world.run_for(Duration::from_secs(25));
        assert_eq!(world.head(2), Position::of(&blocks[199]), "{manner:?}");
        let expected: Vec<_> = fault.map(|fault| (World::handle(0), fault)).into_iter().collect();
        assert_eq!(world.nodes[2].faults, expected, "{manner:?}");
    }
}

#[test]
fn a_partition_heals_to_one_head() {
    // Each side has 140 blocks of its own, more than a batch, and one side is one block ahead.
    let genesis = genesis();
    let common = chain_of(10);
    let last = Position::of(&common[9]);
    let mut sides: [Vec<Block>; 2] = [common.clone(), common];
    let mut heads = [last, last];
    for slot in 11..=291 {
        let side = usize::try_from(slot % 2).expect("small");
        let next = block(&genesis, &heads[side], slot, vec![]);
        heads[side] = Position::of(&next);
        sides[side].push(next);
    }
    let mut world = World::new(2, &Config::default());
    world.set_slot(291);
    for (node, side) in sides.iter().enumerate() {
        for block in side {
            world.own(node, block);
        }
    }
    assert_eq!(world.head(1).height, world.head(0).height + 1);
    world.connect(0, 1);
    world.run_for(Duration::from_secs(10));
    assert_eq!(world.head(0), world.head(1));
    assert_eq!(world.head(0), heads[1]);
    assert_eq!(world.nodes[0].store.canonical, world.nodes[1].store.canonical);
    assert!(world.nodes[0].faults.is_empty() && world.nodes[1].faults.is_empty());
}

/// Nobody makes another block that would decide it.
#[test]
fn of_two_forks_of_one_length_all_take_the_one_that_the_fork_choice_prefers() {
    let common = chain_of(3);
    let mut world = world_with(2, 2, &common, &Config::default());
    world.set_slot(7);
    let mut ends = Vec::new();
    for (node, slots) in [(0, [4, 7]), (1, [5, 6])] {
        let mut end = Position::of(&common[2]);
        for slot in slots {
            let next = block(&world.genesis, &end, slot, Vec::new());
            world.own(node, &next);
            end = Position::of(&next);
        }
        ends.push(end);
    }
    assert_eq!((world.head(0), world.head(1)), (ends[0], ends[1]));
    world.connect(0, 1);
    world.run_for(Duration::from_secs(2));
    assert_eq!((world.head(0), world.head(1)), (ends[1], ends[1]), "the lower slot wins");
    assert!(world.nodes.iter().all(|node| node.faults.is_empty()));
}

#[test]
fn whoever_pretends_to_have_a_better_end_is_asked_for_it_once() {
    let mut world = world_with(2, 2, &chain_of(3), &Config::default());
    world.nodes[1].manner = Manner::Pretends;
    world.connect(0, 1);
    world.run_for(Duration::from_secs(60));
    assert_eq!(world.nodes[0].faults, [(World::handle(1), PeerFault::Useless)]);
    assert!(world.nodes[0].requests_sent <= 2, "{}", world.nodes[0].requests_sent);
}

#[test]
fn a_fork_deeper_than_can_be_undone_is_told_and_nobody_is_blamed() {
    let genesis = genesis();
    let config = Config { undo_depth: 8, ..Config::default() };
    let common = chain_of(5);
    let mut world = World::new(2, &config);
    world.set_slot(100);
    let mut heads = [Position::of(&common[4]); 2];
    for block in &common {
        world.own(0, block);
        world.own(1, block);
    }
    for slot in 6..=65 {
        let side = usize::from(slot % 3 == 0);
        let next = block(&genesis, &heads[side], slot, vec![]);
        world.own(side, &next);
        heads[side] = Position::of(&next);
    }
    world.connect(0, 1);
    world.run_for(Duration::from_secs(5));
    assert_eq!([world.head(0), world.head(1)], heads);
    let deep = |event: &Event| matches!(event, Event::DeepFork { .. });
    assert!(world.nodes[1].events.iter().any(deep), "{:?}", world.nodes[1].events);
    assert!(world.nodes[1].faults.is_empty() && world.nodes[0].faults.is_empty());
}

#[test]
fn an_invalid_block_in_a_peers_chain_ends_the_sync_with_it() {
    // The liar is a producer with a modified node: its chain holds a replay, which honest nodes do not adopt.
    let genesis = genesis();
    let blocks = chain_of(20);
    let mut world = World::new(3, &Config::default());
    world.set_slot(50);
    for block in &blocks {
        world.own(0, block);
    }
    let bad = block(&genesis, &Position::of(&blocks[10]), 12, vec![transaction(1, 0, 1)]);
    let on_bad = blocks_after(&genesis, &Position::of(&bad), 30);
    for block in blocks[..11].iter().chain([&bad]).chain(&on_bad) {
        world.own(1, block);
    }
    world.connect(1, 2);
    world.connect(0, 2);
    world.run_for(Duration::from_secs(40));
    assert_eq!(world.head(2), Position::of(&blocks[19]));
    assert_eq!(world.nodes[2].faults, [(World::handle(1), PeerFault::InvalidChain)]);
    assert!(world.nodes[2].events.iter().any(|event| matches!(event, Event::Invalid { height: 12, .. })));
}

#[test]
fn a_storm_of_orphans_stays_within_bounds_and_costs_others_nothing() {
    let config = Config { orphans_max: 10, orphans_per_peer_max: 4, ..Config::default() };
    let genesis = genesis();
    let blocks = chain_of(3);
    let mut world = world_with(3, 1, &blocks, &config);
    world.set_slot(400);
    world.own(2, &blocks[0]);
    world.connect(0, 2);
    world.connect(1, 2);
    // Node 1, a producer's accomplice, sends blocks on parents that do not exist.
    for slot in 370..400 {
        let nowhere =
            starling_protocol::id::BlockId(starling_crypto::Digest([u8::try_from(slot % 256).expect("small"); 32]));
        let orphan = misplaced(&genesis, nowhere, slot, 3);
        world.send_block(1, 2, &orphan);
        world.run_for(Duration::from_millis(1));
        assert!(world.nodes[2].chain.orphans().0 <= 4);
    }
    let child = block(&genesis, &Position::of(&blocks[2]), 400, vec![]);
    world.own(0, &child);
    world.send_block(0, 2, &child);
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.head(2), Position::of(&child));
    world.run_for(Duration::from_secs(60));
    assert_eq!(world.nodes[2].chain.orphans(), (0, 0), "what nobody has is given up");
}

#[test]
fn losing_messages_delays_and_does_not_wedge() {
    for lost_percent in [10, 30, 50] {
        let blocks = chain_of(400);
        let mut world = world_with(4, 3, &blocks[..350], &Config::default());
        world.lost_percent = lost_percent;
        for other in 0..3 {
            world.connect(other, 3);
        }
        for block in &blocks[350..] {
            world.set_slot(block.header().slot);
            for node in 0..3 {
                world.own(node, block);
            }
            world.send_block(0, 3, block);
        }
        // Where half is lost, of a request and its answer one in four comes through: some seconds, or some minutes.
        world.run_for(Duration::from_secs(if lost_percent < 50 { 120 } else { 600 }));
        assert_eq!(world.head(3), Position::of(&blocks[399]), "{lost_percent} % lost");
        assert_eq!(world.nodes[3].faults, [], "loss is nobody's fault");
    }
}

#[test]
fn large_blocks_come_in_smaller_batches() {
    let limits = Limits { expiry_slots_max: EXPIRY_SLOTS_MAX, ..Limits::default() };
    let genesis = genesis_with(limits);
    let mut parent = origin(&genesis);
    let mut blocks = Vec::new();
    for slot in 1..=9 {
        let payloads = (0..60).map(|nonce| {
            let builder = starling_protocol::transaction::TransactionBuilder::new(&genesis, slot + 1);
            let nonce = nonce + 60 * (slot - 1);
            builder.nonce(nonce).payload(vec![1; 16 << 10]).build(&key(1)).expect("a valid transaction")
        });
        let next = block(&genesis, &parent, slot, payloads.collect());
        parent = Position::of(&next);
        blocks.push(next);
    }
    let mut world = World::with_genesis(&genesis, 2, &Config::default());
    world.set_slot(9);
    for block in &blocks {
        world.own(0, block);
    }
    world.connect(0, 1);
    world.run_for(Duration::from_secs(5));
    assert_eq!(world.head(1), parent);
    let requests = world.nodes[1].requests_sent;
    assert!(requests <= 8, "one for the headers, then two blocks of nearly 1 MiB at a time: {requests}");
}

#[test]
fn a_peer_that_leaves_in_the_middle_is_replaced_at_once() {
    let blocks = chain_of(500);
    let mut world = world_with(3, 2, &blocks, &Config::default());
    world.connect(0, 2);
    world.connect(1, 2);
    world.run_for(Duration::from_millis(270));
    assert!((1..500).contains(&world.head(2).height));
    world.disconnect(0, 2);
    // The mesh tells node 2 that node 1 is ahead.
    world.send_block(1, 2, &blocks[499]);
    world.run_for(Duration::from_secs(3));
    assert_eq!(world.head(2), Position::of(&blocks[499]));
}

/// How a node fares that joins when these peers have all of a chain of so many blocks.
fn join(blocks: &[Block], manners: &[Manner], within: Duration) -> World {
    let joiner = manners.len();
    let mut world = world_with(joiner + 1, joiner, blocks, &Config::default());
    for (node, manner) in manners.iter().enumerate() {
        world.nodes[node].manner = *manner;
        world.connect(node, joiner);
    }
    world.run_for(within);
    world
}

#[test]
fn a_node_that_joins_at_height_5000_catches_up_from_several_peers() {
    let blocks = chain_of(5_000);
    let world = join(&blocks, &[Manner::Honest; 4], Duration::from_secs(20));
    assert_eq!(world.head(4), Position::of(&blocks[4_999]));
    assert_eq!(world.nodes[4].faults, []);
    let asked = (0..4).filter(|peer| world.nodes[*peer].chain.serve_counters().served > 10).count();
    assert_eq!(asked, 4, "all of them bring blocks");
    let progress = world.nodes[4].chain.sync_progress(world.now);
    assert_eq!((progress.height, progress.target, progress.requests), (5_000, 5_000, 0));
    let behind = world.nodes[4].unwritten_max;
    assert!(behind <= 8, "no more is placed than the disk keeps up with: {behind} batches");
}

#[test]
fn one_honest_peer_among_liars_of_every_kind_is_enough() {
    let liars = [
        Manner::Silent,
        Manner::Refuses,
        Manner::Garbage,
        Manner::Boasts,
        Manner::Shuffles,
        Manner::Spoils,
        Manner::Unasked,
        Manner::Drips,
        Manner::Repeats,
        Manner::Busy,
        Manner::Claims,
        Manner::Withholds,
        Manner::SpoilsSignatures,
        Manner::SpoilsBodies,
        Manner::Overflows,
        Manner::Foreign,
        Manner::Swaps,
        Manner::Slow,
    ];
    let blocks = full_chain_of(400);
    // The honest one is asked last of those that claim as much.
    let manners = [&liars[..], &[Manner::Honest]].concat();
    let world = join(&blocks, &manners, Duration::from_secs(90));
    let joiner = manners.len();
    assert_eq!(world.head(joiner), Position::of(&blocks[399]));
    let honest = World::handle(joiner - 1);
    assert!(world.nodes[joiner].faults.iter().all(|(peer, _)| *peer != honest), "{:?}", world.nodes[joiner].faults);
    assert!(world.nodes[joiner].faults.len() >= 8, "{:?}", world.nodes[joiner].faults);
}

#[test]
fn slow_peers_do_not_hold_up_a_fast_one() {
    let blocks = chain_of(1_000);
    let manners = [Manner::Slow, Manner::Slow, Manner::Slow, Manner::Honest];
    let world = join(&blocks, &manners, Duration::from_secs(8));
    assert_eq!(world.head(4), Position::of(&blocks[999]));
    assert_eq!(world.nodes[4].faults, [], "to be slow is no fault");
    assert!(world.nodes[4].chain.sync_counters().reassigned > 0);
}

/// As many as may be asked at a time, and the honest one after them.
#[test]
fn those_who_never_answer_do_not_hold_up_whoever_does() {
    let blocks = chain_of(600);
    let manners = [[Manner::Mute; 8].as_slice(), &[Manner::Honest]].concat();
    let world = join(&blocks, &manners, Duration::from_millis(3_500));
    assert_eq!(world.head(9), Position::of(&blocks[599]));
}

#[test]
fn workers_that_go_on_refusing_delay_and_have_nothing_fetched_twice() {
    let blocks = chain_of(1_200);
    for shed_percent in [0, 27, 50, 90] {
        let mut world = world_with(3, 2, &blocks, &Config::default());
        world.shed_percent = shed_percent;
        world.connect(0, 2);
        world.connect(1, 2);
        world.run_for(Duration::from_secs(120));
        assert_eq!(world.head(2), Position::of(&blocks[1_199]), "{shed_percent} % refused");
        // 512, 512 and 176 headers.
        assert_eq!(world.nodes[2].asked, (3, 1_200), "{shed_percent} % refused");
        assert_eq!(world.nodes[2].faults, [], "that is nobody's fault");
    }
}

#[test]
fn what_a_peer_that_left_has_sent_is_verified_although_the_workers_refused_it_first() {
    let blocks = chain_of(300);
    let mut world = world_with(3, 2, &blocks, &Config::default());
    world.connect(0, 2);
    world.shed_percent = 100;
    world.run_for(Duration::from_secs(1));
    assert_eq!((world.head(2).height, world.nodes[2].asked), (0, (1, 0)));
    world.disconnect(0, 2);
    world.connect(1, 2);
    world.shed_percent = 0;
    world.run_for(Duration::from_secs(3));
    assert_eq!(world.head(2), Position::of(&blocks[299]));
    assert_eq!(world.nodes[2].asked, (1, 300), "the second was asked for the blocks only");
}

/// It can be blamed for nothing any more, and what it has sent must not keep us from asking others.
#[test]
fn what_a_peer_that_left_has_sent_is_dropped_if_it_is_not_valid() {
    let blocks = full_chain_of(200);
    for manner in [Manner::Spoils, Manner::SpoilsFirst, Manner::SpoilsBodies, Manner::SpoilsSignatures] {
        let mut world = world_with(3, 2, &blocks, &Config::default());
        world.nodes[0].manner = manner;
        world.connect(0, 2);
        // Its headers wait for the workers, or its blocks do.
        world.run_for(Duration::from_millis(if manner == Manner::SpoilsBodies { 170 } else { 100 }));
        world.shed_percent = 100;
        world.run_for(Duration::from_secs(1));
        world.disconnect(0, 2);
        world.shed_percent = 0;
        world.run_for(Duration::from_secs(1));
        world.connect(1, 2);
        world.run_for(Duration::from_secs(10));
        assert_eq!(world.head(2), Position::of(&blocks[199]), "{manner:?}");
        assert_eq!(world.nodes[2].faults, [], "{manner:?}");
    }
}

#[test]
fn a_peer_that_gives_headers_but_never_blocks_is_found_out() {
    let blocks = chain_of(50);
    let world = join(&blocks, &[Manner::Withholds], Duration::from_secs(60));
    assert_eq!(world.head(1).height, 0);
    assert_eq!(world.nodes[1].faults, [(World::handle(0), PeerFault::Useless)]);
}

#[test]
fn nobody_is_asked_for_what_it_has_pruned_and_that_is_said() {
    let blocks = chain_of(300);
    let mut world = world_with(3, 2, &blocks, &Config::default());
    world.nodes[0].chain.set_earliest(200);
    world.connect(0, 2);
    world.run_for(Duration::from_secs(30));
    assert_eq!((world.head(2).height, world.nodes[2].requests_sent), (0, 0));
    let told = |event: &&Event| matches!(event, Event::NobodyKeeps { height: 1, earliest: 200, peers: 1 });
    assert_eq!(world.nodes[2].events.iter().filter(told).count(), 1, "once: {:?}", world.nodes[2].events);
    assert_eq!(world.nodes[2].faults, []);
    // With one that keeps them, the other one helps where it can.
    world.connect(1, 2);
    world.run_for(Duration::from_secs(10));
    assert_eq!(world.head(2), Position::of(&blocks[299]));
    assert_eq!(world.nodes[2].faults, []);
}

#[test]
fn what_a_peer_may_have_asked_at_once_is_bounded_and_the_rest_is_refused() {
    let blocks = chain_of(20);
    let mut world = world_with(1, 1, &blocks, &Config::default());
    let chain = &mut world.nodes[0].chain;
    let ids: Vec<_> = blocks.iter().map(Block::id).collect();
    let mut answers = Vec::new();
    for ticket in 0..SERVED_PER_PEER_MAX as u64 + 2 {
        chain.on_request(at(20), peer(7), ResponseTicket(ticket), Request::Blocks(ids.clone()), &mut answers);
        chain.check();
    }
    let busy = |effect: &&Effect| {
        matches!(effect, Effect::Respond { response: Some(Response { answer: Answer::Busy, .. }), .. })
    };
    assert_eq!(answers.iter().filter(busy).count(), 2);
    assert_eq!(chain.serve_counters().refused, 2);
    // Once an answer has gone out there is room for another.
    chain.on_responded(at(20).now, ResponseTicket(0));
    answers.clear();
    chain.on_request(at(20), peer(7), ResponseTicket(99), Request::Blocks(ids), &mut answers);
    assert_eq!(answers.iter().filter(busy).count(), 0);
}

#[test]
fn blocks_that_wait_for_a_slow_one_stay_within_bounds() {
    let limits = Limits { expiry_slots_max: EXPIRY_SLOTS_MAX, payload_bytes_max: 1 << 20, ..Limits::default() };
    let limits = Limits { block_bytes_max: (1 << 20) + 1_000, ..limits };
    let genesis = genesis_with(limits);
    let mut parent = origin(&genesis);
    let large = |slot| {
        let builder = starling_protocol::transaction::TransactionBuilder::new(&genesis, slot + 1);
        let large = builder.nonce(slot - 1).payload(vec![1; 1 << 20]).build(&key(1)).expect("a valid transaction");
        let next = block(&genesis, &parent, slot, vec![large]);
        parent = Position::of(&next);
        next
    };
    let blocks: Vec<Block> = (1..=50).map(large).collect();
    let mut world = World::with_genesis(&genesis, 6, &Config::default());
    world.set_slot(50);
    for node in 0..5 {
        blocks.iter().for_each(|block| world.own(node, block));
        world.nodes[node].manner = if node == 0 { Manner::Slow } else { Manner::Honest };
    }
    (0..5).for_each(|node| world.connect(node, 5));
    // The slow one is followed and has the first block; everything else would fit before it is given up.
    for _ in 0..40 {
        world.run_for(Duration::from_millis(50));
        let held = world.nodes[5].chain.sync_progress(world.now).held_bytes;
        assert!(held <= 34 << 20, "{held} bytes wait");
    }
    world.run_for(Duration::from_secs(10));
    assert_eq!(world.head(5), Position::of(&blocks[49]));
}
