//! Slots: when a producer produces, and what a wall clock that is set does to that.

use crate::bench::{Bench, response};
use crate::support::*;
use starling_protocol::chain::Position;
use starling_protocol::node::{Event, Input, Output, WakeReason};
use starling_protocol::request::{Answer, Request};
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
fn a_peer_that_claims_a_longer_chain_costs_a_few_turns_and_no_more() {
    // Every other slot is empty, so that there is room for claims.
    let mut bench = Bench::with(&genesis(2), |parts| parts.producer = Some(producer(0)));
    let claimed = Position { height: 1 << 40, ..origin(&bench.genesis) };
    bench.connect();
    let (mut left_out, mut waiting) = (0, Vec::new());
    for slot in 1..=120 {
        for (ticket, _, request) in bench.requests() {
            waiting.push((slot, ticket, matches!(request, Request::Status(_))));
        }
        bench.out.retain(|output| !matches!(output, Output::Request { .. }));
        // It says how it stands, and when it is asked for headers, as late as it dares, that it is busy.
        let is_due = |(asked, _, is_status): &(u64, _, bool)| *is_status || asked + 4 <= slot;
        for (_, ticket, is_status) in waiting.extract_if(.., |request| is_due(request)).collect::<Vec<_>>() {
            let body = response(&bench.genesis, &claimed, if is_status { Answer::Status } else { Answer::Busy });
            bench.input(Input::Response { ticket, body: Some(body) });
        }
        bench.run_to_slot(slot);
        let is_left_out = |output: &&Output| matches!(output, Output::Event(Event::BehindPeers { .. }));
        left_out = bench.out.iter().filter(is_left_out).count();
    }
    assert!((1..=3).contains(&left_out), "{left_out} of 60 turns");
    assert!(bench.produced().len() >= 56, "{:?}", bench.produced());
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
