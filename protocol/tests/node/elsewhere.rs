//! Two nodes with one producer key: each learns of the other.

use crate::bench::Bench;
use crate::support::*;
use starling_protocol::block::Block;
use starling_protocol::chain::Position;
use starling_protocol::node::{Event, Output};
use starling_protocol::time::Duration;

fn producing(listen_first: Duration) -> Bench {
    Bench::with(&genesis(1), |parts| {
        parts.producer = Some(producer(0));
        parts.config.listen_first = listen_first;
    })
}

/// The slots of blocks that were recognised as another node's.
fn elsewhere(bench: &Bench) -> Vec<u64> {
    let slots = bench.out.iter().filter_map(|output| match output {
        Output::Event(Event::KeyElsewhere { slot, .. }) => Some(*slot),
        _ => None,
    });
    slots.collect()
}

/// Has a new peer send a block.
fn send(bench: &mut Bench, block: &Block) {
    let peer = bench.connect();
    bench.send_block(peer, block);
    bench.work();
}

#[test]
fn a_block_that_our_key_signed_and_we_did_not_make_gives_the_other_away() {
    let mut bench = producing(Duration::ZERO);
    bench.run_to_slot(3);
    assert_eq!(bench.produced(), [1, 2, 3]);
    let head = bench.node.chain().head();
    let own = bench.node.chain().block(&head.id).expect("in memory").clone();
    send(&mut bench, &own);
    assert_eq!((elsewhere(&bench), bench.node.key_elsewhere()), (vec![], None), "our own coming back");

    let parent = Position { id: own.header().parent, height: head.height - 1, slot: 2 };
    let other = block(&bench.genesis, &parent, 3, vec![transaction(&bench.genesis, 1, 0, 20)]);
    send(&mut bench, &other);
    assert_eq!((elsewhere(&bench), bench.node.key_elsewhere()), (vec![3], Some(3)), "another one for slot 3");
    // Earlier than ours: their clock is a little ahead of ours.
    let early = block(&bench.genesis, &head, 4, Vec::new());
    bench.run(Duration::from_millis(SLOT_MS / 2 - 1));
    send(&mut bench, &early);
    assert_eq!((elsewhere(&bench), bench.node.key_elsewhere()), (vec![3, 4], Some(4)));
}

#[test]
fn what_an_earlier_life_or_another_producer_has_made_is_no_alarm() {
    let genesis = genesis(2);
    let mut bench = Bench::with(&genesis, |parts| {
        parts.producer = Some(producer(0));
        parts.signed_slot = Some(14);
    });
    let blocks = blocks_after(&genesis, &origin(&genesis), 16);
    bench.run_to_slot(15);
    for block in &blocks[7..14] {
        send(&mut bench, block);
    }
    assert_eq!(elsewhere(&bench), [], "the disk says that slots up to 14 may have been signed for");
    send(&mut bench, &blocks[14]);
    assert_eq!(elsewhere(&bench), [], "the turn of another");
    bench.run_to_slot(16);
    send(&mut bench, &blocks[15]);
    assert_eq!(elsewhere(&bench), [16]);
}

#[test]
fn a_producer_listens_in_its_first_turn_before_it_makes_a_block() {
    let listen = Duration::from_millis(SLOT_MS / 4);
    let mut bench = producing(listen);
    let at = |bench: &mut Bench, slot: u64, ms: u64| {
        let until = starling_protocol::time::Time::from_millis(slot * SLOT_MS + ms);
        bench.run(until.since(bench.now));
        bench.produced()
    };
    assert_eq!(at(&mut bench, 1, SLOT_MS / 4 - 1), []);
    assert_eq!(at(&mut bench, 1, SLOT_MS / 4), [1]);
    assert_eq!(at(&mut bench, 2, 0), [1, 2], "only in the first");

    // The other is there already, and makes the very block that we would make.
    let mut bench = producing(listen);
    assert_eq!(at(&mut bench, 1, 1), []);
    let same = block(&bench.genesis, &origin(&bench.genesis), 1, Vec::new());
    send(&mut bench, &same);
    assert_eq!(elsewhere(&bench), [1]);
    assert_eq!(at(&mut bench, 1, SLOT_MS - 1), [], "the slot has its block");
    assert_eq!(at(&mut bench, 2, 1), [2], "the operator was told, and decides");
}
