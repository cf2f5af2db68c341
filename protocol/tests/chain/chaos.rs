//! Many slots of a network in which everything goes wrong, and then nothing any more: safety throughout, liveness at the end.

use crate::manners::Manner;
use crate::support::*;
use crate::world::World;
use proptest::prelude::*;
use starling_protocol::block::Block;
use starling_protocol::chain::{Config, Position, Template};
use starling_protocol::mempool::Source;
use starling_protocol::time::Duration;
use starling_protocol::transaction::Transaction;
use std::collections::BTreeSet;
use std::hash::Hasher as _;

/// Nodes 0 to 2 produce, 3 observes, 4 lies when it is asked for blocks, 5 joins late.
const NODES: usize = 6;
const LIAR: usize = 4;
const LATE: usize = 5;

#[derive(Clone, Debug)]
struct Scenario {
    seed: u64,
    lost_percent: u64,
    /// How many of a hundred jobs the workers refuse, to the end.
    shed_percent: u64,
    jitter_ms: u64,
    /// Where the network is cut in two, from which slot on and for how many slots.
    cut: Option<(usize, u64, u64)>,
    liar: Manner,
    joins_at: u64,
    /// How many of a hundred slots have two or three blocks instead of one.
    equivocating_percent: u64,
    /// How many of a hundred slots have a block with a replayed transaction instead of a good one.
    invalid_percent: u64,
}

const TROUBLE_SLOTS: u64 = 40;
const CALM_SLOTS: u64 = 15;

fn scenario() -> impl Strategy<Value = Scenario> {
    let manner = prop_oneof![
        Just(Manner::Honest),
        Just(Manner::Silent),
        Just(Manner::Refuses),
        Just(Manner::Garbage),
        Just(Manner::Boasts),
        Just(Manner::Pretends),
        Just(Manner::Shuffles),
        Just(Manner::Spoils),
        Just(Manner::Unasked),
        Just(Manner::Drips),
        Just(Manner::Repeats),
        Just(Manner::Busy),
        Just(Manner::Claims),
        Just(Manner::Withholds),
        Just(Manner::SpoilsSignatures),
        Just(Manner::SpoilsBodies),
        Just(Manner::Overflows),
        Just(Manner::Foreign),
        Just(Manner::Swaps),
        Just(Manner::Slow),
    ];
    let cut = prop::option::of((1..NODES, 1..20_u64, 1..20_u64));
    let faults = (0..50_u64, 0..40_u64, 0..30_u64, prop_oneof![Just(0), 0..50_u64]);
    (any::<u64>(), prop_oneof![Just(0), Just(300), Just(1_500)], cut, manner, 1..TROUBLE_SLOTS, faults).prop_map(
        |(
            seed,
            jitter_ms,
            cut,
            liar,
            joins_at,
            (lost_percent, equivocating_percent, invalid_percent, shed_percent),
        )| Scenario {
            seed,
            lost_percent,
            shed_percent,
            jitter_ms,
            cut,
            liar,
            joins_at,
            equivocating_percent,
            invalid_percent,
        },
    )
}

fn run(scenario: &Scenario) -> World {
    let mut world = World::new(NODES, &Config::default());
    world.seed(scenario.seed);
    world.shed_percent = scenario.shed_percent;
    world.nodes[LIAR].manner = scenario.liar;
    for one in 0..LATE {
        for other in 0..one {
            world.connect(one, other);
        }
    }
    for slot in 1..=TROUBLE_SLOTS + CALM_SLOTS {
        let trouble = slot <= TROUBLE_SLOTS;
        world.lost_percent = if trouble { scenario.lost_percent } else { 0 };
        world.jitter_ms = if trouble { scenario.jitter_ms } else { 0 };
        world.cut = scenario.cut.filter(|(_, from, slots)| (*from..from + slots).contains(&slot)).map(|(at, ..)| at);
        world.set_slot(slot);
        if slot == scenario.joins_at {
            (0..LATE).for_each(|other| world.connect(LATE, other));
        }
        submit(&mut world, slot);
        let (invalid, equivocating) = (world.random(100), world.random(100));
        if trouble && invalid < scenario.invalid_percent {
            produce_invalid(&mut world, slot);
        } else {
            let count = if trouble && equivocating < scenario.equivocating_percent { 2 + world.random(2) } else { 1 };
            produce(&mut world, slot, count);
        }
    }
    // Long enough to fetch a side branch of all the slots, one parent after the other, from one who takes nearly as long for each as
    // an answer may.
    world.run_for(Duration::from_secs(5 * (TROUBLE_SLOTS + CALM_SLOTS)));
    world
}

/// Some senders submit their next transaction to some node.
fn submit(world: &mut World, slot: u64) {
    for sender in 1..=4 {
        let node = usize::try_from(world.random(NODES as u64)).expect("small");
        let next = world.nodes[node].chain.next_nonce(&account(sender), slot);
        let nonce = world.nodes[node].pool.next_free_nonce(&account(sender), next);
        let expiry_slot = slot + world.random(EXPIRY_SLOTS_MAX);
        let transaction = transaction(sender, nonce, expiry_slot);
        for node in &mut world.nodes {
            let next = node.chain.next_nonce(&account(sender), slot);
            // Refusals are part of the game: nodes have different heads.
            let _refused = node.pool.insert(transaction.clone(), Source::Local, next, slot).is_err();
        }
    }
}

fn producer(slot: u64) -> usize {
    usize::try_from(slot % u64::from(PRODUCERS)).expect("small")
}

/// Makes `count` blocks for the slot and tells each other node of one of them.
fn produce(world: &mut World, slot: u64, count: u64) {
    let node = producer(slot);
    let Some(template) = world.nodes[node].chain.produce_candidate(slot, &world.nodes[node].pool) else { return };
    let Template { height, parent, transactions, .. } = template;
    let parent = Position { id: parent, height: height - 1, slot: 0 };
    let blocks: Vec<Block> = (0..count)
        .map(|number| {
            let kept = transactions.len().saturating_sub(usize::try_from(number).expect("small"));
            block(&world.genesis, &parent, slot, transactions[..kept].to_vec())
        })
        .collect();
    for block in &blocks {
        world.own(node, block);
    }
    for other in (0..NODES).filter(|other| *other != node && *other != LATE) {
        let which = usize::try_from(world.random(count)).expect("small");
        world.send_block(node, other, &blocks[which]);
    }
}

/// Tells the others of a block that includes a transaction again.
fn produce_invalid(world: &mut World, slot: u64) {
    let node = producer(slot);
    let head = world.head(node);
    let again = (1..=head.height).rev().find_map(|height| {
        let chain = &world.nodes[node].chain;
        let alive = |one: &&Transaction| one.expiry_slot() >= slot;
        chain.block_at(height)?.transactions().iter().find(alive).cloned()
    });
    let invalid = block(&world.genesis, &head, slot, again.into_iter().collect());
    for other in (0..NODES).filter(|other| *other != node && *other != LATE) {
        world.send_block(node, other, &invalid);
    }
}

fn check(world: &World, scenario: &Scenario) -> Result<(), TestCaseError> {
    let head = world.head(0);
    prop_assert!(head.height >= CALM_SLOTS, "the chain grows: {:?}", head);
    for node in 0..NODES {
        prop_assert_eq!(world.head(node), head, "node {} has the head", node);
        prop_assert_eq!(&world.nodes[node].store.canonical, &world.nodes[0].store.canonical);
        for (peer, fault) in &world.nodes[node].faults {
            prop_assert_eq!(*peer, World::handle(LIAR), "node {} blames an honest one: {:?}", node, fault);
            prop_assert_ne!(scenario.liar, Manner::Honest);
        }
        prop_assert_eq!(world.nodes[node].chain.orphans(), (0, 0));
    }
    let mut included = BTreeSet::new();
    for block in world.nodes[0].store.canonical_blocks(&world.genesis) {
        for transaction in block.transactions() {
            prop_assert!(included.insert(transaction.id()), "a transaction is included twice");
        }
    }
    prop_assert!(!included.is_empty());
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

    #[test]
    fn after_any_trouble_all_agree(scenario in scenario()) {
        check(&run(&scenario), &scenario)?;
    }
}

/// Drawn once: two chains of one length remained, and nobody asked for the other.
#[test]
fn two_chains_of_one_length_do_not_remain() {
    let scenario = Scenario {
        seed: 4_677_242_904_692_126_700,
        lost_percent: 42,
        shed_percent: 48,
        jitter_ms: 1_500,
        cut: Some((4, 3, 8)),
        liar: Manner::Drips,
        joins_at: 1,
        equivocating_percent: 22,
        invalid_percent: 5,
    };
    check(&run(&scenario), &scenario).expect("all agree");
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    let scenario = Scenario {
        seed: 7,
        lost_percent: 20,
        shed_percent: 10,
        jitter_ms: 300,
        cut: Some((2, 5, 10)),
        liar: Manner::Spoils,
        joins_at: 20,
        equivocating_percent: 20,
        invalid_percent: 10,
    };
    let traces = [run(&scenario), run(&scenario)].map(|world| world.trace.finish());
    assert_eq!(traces[0], traces[1]);
    assert_ne!(traces[0], run(&Scenario { seed: 9, ..scenario }).trace.finish(), "the seed matters");
}
