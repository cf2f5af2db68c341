//! Slots: when a producer produces, and what a wall clock that is set does to that.

use crate::bench::Bench;
use crate::support::*;
use starling_protocol::node::{Input, WakeReason};
use starling_protocol::time::{Duration, Time};

fn producing() -> Bench {
    Bench::with(&genesis(1), |parts| parts.producer = Some(producer(0)))
}

#[test]
fn a_producer_takes_its_turns_and_no_others() {
    let genesis = genesis(3);
    let mut bench = Bench::with(&genesis, |parts| parts.producer = Some(producer(1)));
    bench.run_to_slot(9);
    assert_eq!(bench.produced(), [1, 4, 7]);
    assert_eq!(bench.node.chain().head().height, 3);
}

#[test]
fn a_producer_leaves_out_the_slot_in_which_it_starts() {
    let genesis = genesis(1);
    let mut bench = producing();
    bench.run_to_slot(3);
    assert_eq!(bench.produced(), [1, 2, 3]);
    // A new life within slot 3, which knows nothing of the block that was made for it.
    let mut again = Bench::with(&genesis, |parts| parts.producer = Some(producer(0)));
    again.out.clear();
    again.set_clock(3_000);
    again.run(Duration::from_millis(SLOT_MS / 2 - 100));
    assert_eq!(again.node.slot(again.now), Some(3));
    assert_eq!(again.produced(), []);
    again.run(Duration::from_millis(SLOT_MS));
    assert_eq!(again.produced(), [4]);
}

#[test]
fn a_wall_clock_that_is_set_back_makes_no_slot_come_twice() {
    let mut bench = producing();
    bench.run_to_slot(5);
    bench.set_clock(-3_000);
    assert_eq!(bench.node.slot(bench.now), Some(2));
    bench.run(Duration::from_secs(5));
    assert_eq!(bench.produced(), [1, 2, 3, 4, 5, 6, 7]);
}

#[test]
fn a_wall_clock_that_is_set_forward_skips_the_slot_that_it_jumps_into() {
    let mut bench = producing();
    bench.run_to_slot(2);
    bench.set_clock(100_000);
    bench.run(Duration::from_secs(2));
    assert_eq!(bench.produced(), [1, 2, 103, 104], "an earlier life may have signed for slot 102");
    // Back and forth: nothing between comes again.
    bench.set_clock(50_000);
    bench.run(Duration::from_secs(3));
    bench.set_clock(100_000);
    bench.run(Duration::from_secs(2));
    assert_eq!(bench.produced(), [1, 2, 103, 104, 108, 109]);
}

#[test]
fn setting_the_clock_forward_expires_and_setting_it_back_revives_nothing() {
    let mut bench = producing();
    let transaction = transaction(&bench.genesis, 1, 7, 20);
    bench.submit(&transaction);
    bench.work();
    bench.set_clock(60_000);
    assert_eq!(bench.node.mempool().len(), 0);
    bench.set_clock(0);
    bench.run(Duration::from_secs(1));
    assert_eq!(bench.node.mempool().len(), 0);
}

#[test]
fn no_wall_clock_is_so_wrong_that_the_node_spins() {
    for unix_us_at_zero in [0, 1, START_MS * 1_000 - 1, u64::MAX / 2, u64::MAX - 1, u64::MAX] {
        let mut bench = producing();
        bench.input(Input::WallClock { unix_us_at_zero });
        // The bench asserts that each waking leads to progress.
        bench.run(Duration::from_secs(3));
        bench.set_clock(0);
        bench.run(Duration::from_secs(3));
    }
}

#[test]
fn the_node_says_when_the_network_begins() {
    let mut bench = producing();
    // Slot 0 begins in ten seconds; it was here before, by a wrong clock.
    bench.set_clock(-10_000);
    bench.run(Duration::from_secs(9));
    assert_eq!((bench.node.slot(bench.now), bench.produced()), (None, vec![]));
    let slots = std::iter::from_fn(|| {
        let (due, reason) = bench.node.next_wake()?;
        bench.run(due.since(bench.now));
        Some((due, reason))
    });
    let first = slots.take(100).find(|(_, reason)| *reason == WakeReason::Slot);
    assert_eq!(first.map(|(due, _)| due), Some(Time::from_secs(11)));
}
