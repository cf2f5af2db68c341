//! Places of the mesh for peers that have been of use of late.

use crate::bench::{Bench, config, message, topic};
use starling_protocol::id::{Direction, PeerHandle, Version};
use starling_protocol::mesh::{Input, Verdict};
use starling_protocol::time::Duration;

/// A mesh of five that we dialled, and so many others that we dialled.
fn bench(seed: u8, others: usize) -> (Bench, Vec<PeerHandle>, Vec<PeerHandle>) {
    let mut config = config();
    // Grafts of other rules.
    config.heartbeat.opportunistic_ticks = 1_000_000;
    let mut bench = Bench::seeded(config, seed);
    bench.input(Input::Subscribe { topic: topic() });
    let mut dialled = |count| (0..count).map(|_| bench.subscriber_of(Direction::Outbound, Version::V1_2)).collect();
    let members: Vec<PeerHandle> = dialled(5);
    bench.heartbeat();
    assert!(members.iter().all(|peer| bench.in_mesh(*peer)));
    let others = (0..others).map(|_| bench.subscriber_of(Direction::Outbound, Version::V1_2)).collect();
    (bench, members, others)
}

/// All of these bring a message, and it is accepted.
fn bring(bench: &mut Bench, peers: &[PeerHandle], number: u64) {
    peers.iter().for_each(|peer| bench.publish_from(*peer, &message(number)));
    bench.judge(Verdict::Accept);
}

/// It announces a message, is asked, and brings it.
fn answer(bench: &mut Bench, peer: PeerHandle, number: u64) {
    bench.ihave_from(peer, &[message(number)]);
    bench.pass(Duration::from_millis(200));
    bring(bench, &[peer], number);
}

/// Whether one of twenty that we have dialled, which brought a message so long ago, takes the place of a silent peer.
fn takes_the_place(seed: u8, ago: Duration) -> bool {
    let (mut bench, members, others) = bench(seed, 20);
    let useful = others[7];
    others.iter().for_each(|peer| assert!(!bench.in_mesh(*peer)));
    answer(&mut bench, useful, 1_000);
    bench.pass(ago);
    assert!(!bench.in_mesh(useful));
    let mut number = 0;
    while bench.in_mesh(members[4]) {
        number += 1;
        assert!(number < 200, "it brings nothing and stays");
        bring(&mut bench, &members[..4], number);
        bench.pass(Duration::from_millis(50));
    }
    let took = others.iter().filter(|peer| bench.in_mesh(**peer)).count();
    assert_eq!(took, 1, "one takes the place of one");
    bench.in_mesh(useful)
}

#[test]
fn who_was_asked_and_brought_it_takes_the_place_of_a_silent_peer() {
    for seed in 1..=8 {
        assert!(takes_the_place(seed, Duration::ZERO), "with seed {seed}");
    }
}

#[test]
fn what_was_brought_long_ago_does_not_count() {
    let took = (1..=16).filter(|seed| takes_the_place(*seed, Duration::from_secs(11))).count();
    assert!(took < 6, "{took} of 16, where chance is one of 20");
}

#[test]
fn whoever_has_dialled_us_has_no_precedence_for_what_it_brings() {
    for seed in 1..=8 {
        let (mut bench, members, others) = bench(seed, 1);
        let pushing = bench.subscriber();
        let mut number = 0;
        while bench.in_mesh(members[4]) {
            number += 1;
            assert!(number < 200, "it brings nothing and stays");
            bring(&mut bench, &members[..4], 2 * number);
            bring(&mut bench, &[pushing], 2 * number + 1);
            bench.pass(Duration::from_millis(50));
        }
        assert_eq!((bench.in_mesh(others[0]), bench.in_mesh(pushing)), (true, false), "with seed {seed}");
    }
}

#[test]
fn who_announces_goes_before_who_says_nothing() {
    // Before others bring it or after that.
    for (seed, first) in (1..=8).flat_map(|seed| [(seed, false), (seed, true)]) {
        let (mut bench, members, others) = bench(seed, 20);
        let mut number = 0;
        while bench.in_mesh(members[4]) {
            number += 1;
            assert!(number < 200, "it brings nothing and stays");
            if first {
                bench.ihave_from(others[3], &[message(number)]);
            }
            bring(&mut bench, &members[..4], number);
            if !first {
                bench.ihave_from(others[3], &[message(number)]);
            }
            bench.pass(Duration::from_millis(50));
        }
        assert!(bench.in_mesh(others[3]), "with seed {seed}");
    }
}

#[test]
fn a_mesh_of_suspects_takes_in_one_that_was_of_use_at_each_heartbeat() {
    let (mut bench, members, others) = bench(3, 12);
    let helpers = &others[..2];
    // So many that all members are suspects, and nobody has been tried long enough to be replaced.
    for number in 0..8 {
        helpers.iter().for_each(|peer| answer(&mut bench, *peer, 2 * number + u64::from(*peer == helpers[1])));
    }
    assert!(members.iter().all(|peer| bench.in_mesh(*peer)));
    let before = bench.mesh.counters().grafts_useful;
    let inside = |bench: &Bench, peers: &[PeerHandle]| peers.iter().filter(|peer| bench.in_mesh(**peer)).count();
    bench.heartbeat();
    bench.heartbeat();
    assert_eq!(inside(&bench, helpers), 2);
    assert!(bench.mesh.counters().grafts_useful > before || before > 0);
    bench.heartbeat();
    assert_eq!(inside(&bench, &others[2..]), 0, "nobody else was of use");
}

#[test]
fn a_mesh_that_is_served_takes_in_nobody() {
    let (mut bench, members, others) = bench(4, 12);
    for number in 0..20 {
        // Three bring everything, two are suspects in the end.
        bring(&mut bench, &members[..3], 2 * number);
        answer(&mut bench, others[0], 2 * number + 1);
    }
    bench.heartbeat();
    assert_eq!(bench.mesh.counters().grafts_useful, 0);
}
