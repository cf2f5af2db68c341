//! What an honest network does, whatever its links, disks and clocks do to it.

use crate::support::*;
use crate::world::{Faults, Options, World};
use starling_protocol::block::Block;
use starling_protocol::chain::Position;
use starling_protocol::message::Payload;
use starling_protocol::node::NodeConfig;
use starling_protocol::time::Duration;
use std::collections::BTreeSet;

#[test]
fn transactions_and_blocks_reach_everybody_and_nobody_is_blamed() {
    let genesis = genesis(3);
    let mut world = World::new(Options::new(&genesis, 8, 1));
    world.run(Duration::from_secs(5));
    let mut transactions = Vec::new();
    for number in 0..40 {
        let (index, sender) = (usize::from(number) % 8, number % 10);
        let transaction = transaction(&genesis, sender, u64::from(number / 10), 30);
        world.submit(index, &transaction);
        transactions.push(transaction);
        world.run(Duration::from_millis(50));
    }
    let all = |world: &World| transactions.iter().all(|transaction| world.included_everywhere(&transaction.id()));
    assert!(world.run_while_not(Duration::from_secs(10), all), "transactions are missing");
    assert!(world.run_while_not(Duration::from_secs(2), |world| world.heads().len() == 1), "heads differ");
    let height = world.check_chain(7).len();
    assert!(height >= 6, "{height}");
    let odd = &world.odd;
    assert!(odd.rejected.is_empty() && odd.peer_faults.is_empty() && odd.disconnects.is_empty(), "{odd:?}");
    assert!(odd.equivocations.is_empty() && odd.bad_frames == 0, "{odd:?}");
}

fn bad_world(seed: u64, traced: bool) -> World {
    let genesis = genesis(2);
    let faults = Faults {
        loss: 50,
        duplication: 50,
        jitter: Duration::from_millis(80),
        request_failure: 100,
        shed: 20,
        dial_failure: 200,
        disk: 50,
    };
    let mut world = World::new(Options { faults, ..Options::new(&genesis, 6, seed) });
    world.trace = traced.then_some(1);
    for number in 0..12_u8 {
        world.run(Duration::from_millis(400));
        if world.machines[usize::from(number) % 6].node.is_some() {
            world.publish(usize::from(number) % 6, &[number]);
        }
        match number {
            4 => world.kill(1),
            8 => world.start(1),
            _ => {}
        }
    }
    world.run(Duration::from_secs(3));
    world
}

#[test]
fn the_same_seed_gives_the_same_run_and_another_seed_another() {
    let run = |seed| {
        let world = bad_world(seed, true);
        (world.trace, world.events)
    };
    let first = run(5);
    assert_eq!(first, run(5));
    assert_ne!(first.0, run(6).0);
}

#[test]
fn a_lossy_network_includes_everything_that_was_taken_in() {
    let genesis = genesis(3);
    let faults = Faults {
        loss: 100,
        duplication: 100,
        jitter: Duration::from_millis(150),
        request_failure: 100,
        ..Faults::default()
    };
    let mut world = World::new(Options { faults, ..Options::new(&genesis, 8, 3) });
    world.run(Duration::from_secs(4));
    let mut tickets = Vec::new();
    for number in 0..30_u8 {
        let index = usize::from(number) % 8;
        tickets.push((index, world.publish(index, &[number])));
        world.run(Duration::from_millis(100));
    }
    let taken = tickets.iter().map(|(index, ticket)| world.answer(*index, *ticket).expect("an answer"));
    let ids: BTreeSet<_> = taken.map(|result| result.as_ref().expect("is taken in").id).collect();
    assert_eq!(ids.len(), 30);
    let all = |world: &World| ids.iter().all(|id| world.included_everywhere(id));
    assert!(world.run_while_not(Duration::from_secs(20), all), "transactions are missing");
    assert!(world.odd.rejected.is_empty() && world.odd.equivocations.is_empty(), "{:?}", world.odd);
}

#[test]
fn a_late_joiner_catches_up_with_hundreds_of_blocks() {
    let genesis = genesis_with(2, |parameters| parameters.slot_ms = 200);
    let mut world = World::new(Options { check_every: 50, ..Options::new(&genesis, 5, 4) });
    world.kill(4);
    for number in 0..20_u8 {
        world.publish(usize::from(number) % 4, &[number]);
        world.run(Duration::from_secs(4));
    }
    let height = world.machines[0].node().chain().head().height;
    assert!(height > 350, "{height}");
    world.start(4);
    let caught_up = |world: &World| world.machines[4].node().chain().head().height >= height;
    assert!(world.run_while_not(Duration::from_secs(4), caught_up), "{:?}", world.machines[4].node().chain().head());
    assert!(world.run_while_not(Duration::from_secs(2), |world| world.heads().len() == 1));
    // The last blocks are still being written.
    world.run(Duration::from_millis(50));
    let (own, other) = (world.check_chain(4), world.check_chain(0));
    let common = own.len().min(other.len());
    assert_eq!(own[..common], other[..common], "the whole chain is the same");
    // And with what it stored it can serve the next one, and start again.
    world.run(Duration::from_secs(1));
    world.kill(4);
    world.start(4);
    assert!(world.machines[4].node().chain().head().height >= height);
    assert!(world.odd.peer_faults.is_empty(), "{:?}", world.odd);
}

#[test]
fn a_node_that_is_killed_while_it_catches_up_goes_on_where_it_stopped() {
    let genesis = genesis_with(2, |parameters| parameters.slot_ms = 200);
    let mut world = World::new(Options { check_every: 50, ..Options::new(&genesis, 4, 5) });
    world.kill(3);
    world.run(Duration::from_secs(100));
    let height = world.machines[0].node().chain().head().height;
    assert!(height > 450, "{height}");
    world.start(3);
    let ours = |world: &World| world.machines[3].node().chain().head().height;
    let end = world.now + Duration::from_secs(5);
    while ours(&world) < 50 && world.now < end {
        world.run(Duration::from_millis(1));
    }
    let reached = ours(&world);
    assert!((50..height).contains(&reached), "{reached} of {height}");
    world.kill(3);
    world.start(3);
    assert!(ours(&world) <= reached, "the disk was a little behind");
    assert!(world.run_while_not(Duration::from_secs(5), |world| ours(world) >= height), "{}", ours(&world));
    assert!(world.run_while_not(Duration::from_secs(2), |world| world.heads().len() == 1));
    // The disk may still be writing what was adopted last.
    world.run(Duration::from_secs(1));
    world.check_chain(3);
    assert!(world.odd.peer_faults.is_empty(), "{:?}", world.odd);
}

#[test]
fn a_node_that_hears_nothing_suspects_itself_and_finds_back() {
    let genesis = genesis(3);
    let mut world = World::new(Options::new(&genesis, 6, 6));
    world.run(Duration::from_secs(20));
    assert_eq!(world.odd.cut_off, [], "nobody has reason to suspect anything");
    // The second producer is alone now. Its own blocks are no news.
    world.partition(|index| u8::from(index == 1));
    world.run(Duration::from_secs(40));
    assert!(world.odd.cut_off.iter().all(|(index, _)| *index == 1), "{:?}", world.odd.cut_off);
    let times = world.odd.cut_off.len();
    assert!((2..=3).contains(&times), "after 16 slots and ever more rarely: {:?}", world.odd.cut_off);
    assert_eq!(world.odd.cut_off[0], (1, 16));
    let silent = |world: &World| world.machines[1].node().silent_slots(world.now);
    assert!(silent(&world) >= Some(30), "{:?}", silent(&world));
    world.heal();
    assert!(world.run_while_not(Duration::from_secs(60), |world| world.heads().len() == 1 && silent(world).is_none()));
    let times = world.odd.cut_off.len();
    world.run(Duration::from_secs(20));
    assert_eq!((world.odd.cut_off.len(), silent(&world)), (times, None), "{:?}", world.odd.cut_off);
}

#[test]
fn a_producer_that_is_killed_and_restarted_at_any_moment_never_equivocates() {
    let genesis = genesis(1);
    for late_ms in (0..1_000).step_by(90) {
        let mut world = World::new(Options { skew_max: Duration::ZERO, ..Options::new(&genesis, 3, late_ms) });
        world.run(Duration::from_millis(3_000));
        world.run(Duration::from_millis(late_ms));
        world.kill(0);
        world.run(Duration::from_millis(5));
        world.start(0);
        world.run(Duration::from_secs(4));
        assert_eq!(world.odd.equivocations, [], "killed {late_ms} ms into the slot");
        assert!(world.run_while_not(Duration::from_secs(2), |world| world.heads().len() == 1));
        let height = world.machines[1].node().chain().head().height;
        assert!(height >= 4, "it goes on producing: {height}");
    }
}

#[test]
fn two_sides_of_a_partition_become_one_chain_again() {
    let genesis = genesis(2);
    let mut world = World::new(Options::new(&genesis, 6, 8));
    world.run(Duration::from_secs(3));
    world.partition(|index| u8::from(index % 2 == 1));
    for number in 0..10_u8 {
        world.publish(usize::from(number) % 6, &[number]);
        world.run(Duration::from_secs(1));
    }
    assert_eq!(world.heads().len(), 2, "each side has its chain");
    world.heal();
    assert!(world.run_while_not(Duration::from_secs(20), |world| world.heads().len() == 1), "heads differ");
    (0..6).for_each(|index| drop(world.check_chain(index)));
    assert!(world.odd.rejected.is_empty() && world.odd.peer_faults.is_empty(), "{:?}", world.odd);
}

#[test]
fn a_transaction_submitted_to_a_node_without_peers_spreads_when_it_has_some() {
    let genesis = genesis(1);
    let mut world = World::new(Options::new(&genesis, 4, 15));
    world.run(Duration::from_secs(3));
    world.partition(|index| u8::from(index == 3));
    let ticket = world.publish(3, b"hello");
    world.run(Duration::from_millis(100));
    let id = world.answer(3, ticket).expect("it is stored").as_ref().expect("is taken in").id;
    // Twice as long as messages are announced for.
    world.run(Duration::from_secs(6));
    world.heal();
    let included = |world: &World| world.included_everywhere(&id);
    assert!(world.run_while_not(Duration::from_secs(20), included), "it was not sent again");
}

#[test]
fn nothing_is_left_behind_when_all_peers_have_gone() {
    let mut world = bad_world(9, false);
    world.partition(|index| u8::try_from(index).expect("few"));
    // What was asked of others times out; what is of no use any more is dropped.
    world.faults = Faults::default();
    world.run(Duration::from_secs(20));
    for (index, machine) in world.running() {
        assert_eq!(machine.node().mesh().peers_len(), 0);
        let under_way = machine.node().under_way();
        assert_eq!(under_way, Default::default(), "node {index}");
        assert_eq!((machine.under_way(), machine.unanswered()), (0, 0), "node {index}");
    }
}

#[test]
fn a_node_that_does_not_read_for_a_while_misses_nothing() {
    // Nobody makes blocks, so that what comes comes over the mesh.
    let genesis = genesis(1);
    let nodes = vec![(genesis.clone(), None); 16];
    let mut world = World::new(Options { nodes, ..Options::new(&genesis, 0, 17) });
    world.run(Duration::from_secs(5));
    let deaf = 15;
    let strangers: Vec<usize> = (0..15).filter(|origin| world.machines[*origin].link_to(deaf).is_none()).collect();
    assert!(!strangers.is_empty(), "some reach it through others only");
    // Longer than its neighbours keep a forward for it.
    world.deafen(deaf, Duration::from_millis(1_800));
    let mut transactions = Vec::new();
    for (number, origin) in (0..).zip(strangers.iter().cycle().take(20)) {
        let transaction = transaction(&genesis, number, 0, 30);
        world.submit(*origin, &transaction);
        transactions.push(transaction);
        world.run(Duration::from_millis(20));
    }
    // Sooner than an origin would send its own again.
    world.run(Duration::from_millis(2_600));
    let pool = world.machines[deaf].node().mempool();
    let missed = transactions.iter().filter(|transaction| pool.get(&transaction.id()).is_none()).count();
    assert_eq!(missed, 0, "of {}", transactions.len());
    assert!(world.odd.disconnects.is_empty(), "{:?}", world.odd);
}

#[test]
fn two_networks_exchange_nothing() {
    let (one, other) = (genesis(1), genesis_with(1, |parameters| parameters.name = "other".into()));
    let nodes = [(&one, Some(0)), (&other, Some(0)), (&one, None), (&other, None)];
    let nodes = nodes.map(|(genesis, place)| (genesis.clone(), place)).to_vec();
    let mut world = World::new(Options { nodes, ..Options::new(&one, 0, 11) });
    for number in 0..10_u8 {
        world.publish(usize::from(number) % 4, &[number]);
        world.run(Duration::from_secs(1));
    }
    assert!(world.machines[0].link_to(1).is_some() || world.machines[1].link_to(0).is_some(), "they are connected");
    assert_eq!(world.heads().len(), 2);
    for (index, machine) in world.running() {
        let counters = machine.node().mesh().counters();
        assert_eq!((counters.messages_unwanted, counters.messages_rejected), (0, 0), "node {index} is sent nothing");
        for block in world.check_chain(index) {
            assert_eq!(block.header().network, machine.genesis.network_id());
        }
    }
    assert!(world.odd.peer_faults.is_empty(), "{:?}", world.odd);
}

#[test]
fn nodes_that_see_an_equivocation_choose_the_same_block_and_blame_no_relay() {
    let genesis = genesis(1);
    let nodes = vec![(genesis.clone(), None); 5];
    let mut world = World::new(Options { nodes, skew_max: Duration::ZERO, ..Options::new(&genesis, 0, 12) });
    world.run(Duration::from_millis(3_100));
    let twins: Vec<Block> = (0..2)
        .map(|sender| block(&genesis, &origin(&genesis), 3, vec![transaction(&genesis, sender, 0, 10)]))
        .collect();
    // The two reach the network at opposite ends.
    for (index, twin) in [0, 4].into_iter().zip(&twins) {
        let puppet = world.puppet(index, index as u64);
        world.puppet_sends(index, puppet, &Payload::new(genesis.block_topic(), twin.bytes()));
    }
    world.run(Duration::from_secs(1));
    let lowest = twins.iter().map(Block::id).min().expect("two");
    assert_eq!(world.heads(), BTreeSet::from([lowest]));
    let witnesses: BTreeSet<usize> = world.odd.equivocations.iter().map(|(index, _)| *index).collect();
    assert_eq!(witnesses.len(), 5, "everybody has the evidence");
    assert!(world.odd.rejected.is_empty() && world.odd.disconnects.is_empty(), "{:?}", world.odd);
}

#[test]
fn an_invalid_block_reaches_everybody_and_nobody_builds_on_it() {
    let genesis = genesis(1);
    let nodes = vec![(genesis.clone(), None); 5];
    let mut world = World::new(Options { nodes, skew_max: Duration::ZERO, ..Options::new(&genesis, 0, 13) });
    world.run(Duration::from_millis(3_100));
    let expired = transaction(&genesis, 1, 0, 2);
    let bad = block(&genesis, &origin(&genesis), 3, vec![expired]);
    let puppet = world.puppet(0, 1);
    world.puppet_sends(0, puppet, &Payload::new(genesis.block_topic(), bad.bytes()));
    world.run(Duration::from_secs(1));
    let accepted = |world: &World| {
        world
            .running()
            .all(|(_, machine)| machine.node().mesh().has_seen(&Payload::new(genesis.block_topic(), bad.bytes()).id()))
    };
    assert!(accepted(&world), "it is passed on, because relays do not look inside");
    assert_eq!(world.heads(), BTreeSet::from([genesis.block_id()]), "and adopted by nobody");
    let good = block(&genesis, &origin(&genesis), 4, Vec::new());
    world.puppet_sends(0, puppet, &Payload::new(genesis.block_topic(), good.bytes()));
    world.run(Duration::from_secs(1));
    assert_eq!(world.heads(), BTreeSet::from([Position::of(&good).id]));
    assert!(world.odd.rejected.is_empty() && world.odd.disconnects.is_empty(), "{:?}", world.odd);
}

#[test]
fn a_network_with_little_room_for_verification_gets_there_later() {
    let genesis = genesis(1);
    let config = NodeConfig { verifications_max: 4, ..NodeConfig::default() };
    let mut world = World::new(Options { config, ..Options::new(&genesis, 4, 14) });
    world.run(Duration::from_secs(3));
    let transactions: Vec<_> =
        (0..60_u8).map(|number| transaction(&genesis, number % 20, u64::from(number / 20), 40)).collect();
    for (index, transaction) in transactions.iter().enumerate() {
        world.submit(index % 4, transaction);
        world.run(Duration::from_millis(5));
    }
    world.run(Duration::from_millis(100));
    assert_eq!(world.machines.iter().map(|machine| machine.unanswered()).sum::<usize>(), 0);
    let one = |world: &World| world.heads().len() == 1 && world.machines[0].node().mempool().is_empty();
    assert!(world.run_while_not(Duration::from_secs(30), one), "heads differ");
    assert!(world.odd.rejected.is_empty() && world.odd.disconnects.is_empty(), "{:?}", world.odd);
}
