//! Newcomers to a mesh: how many it takes in at a time, who replaces whom, and for how long who brings nothing has to wait.

use crate::bench::{Bench, config, message, topic};
use starling_protocol::id::{Direction, PeerHandle, Version};
use starling_protocol::mesh::{MeshConfig, Verdict};
use starling_protocol::rpc::{Frame, Rpc, Subscription};
use starling_protocol::time::Duration;

/// A mesh of so many peers that we dialled, and nobody else to graft.
fn bench(config: MeshConfig, count: usize) -> (Bench, Vec<PeerHandle>) {
    let mut bench = Bench::joined(config);
    let peers: Vec<PeerHandle> = (0..count).map(|_| bench.subscriber_of(Direction::Outbound, Version::V1_2)).collect();
    bench.heartbeat();
    // Above D_low nobody is grafted, but who asks and was dialled.
    peers.iter().for_each(|peer| bench.graft_from(*peer));
    assert!(peers.iter().all(|peer| bench.in_mesh(*peer)));
    bench.take();
    (bench, peers)
}

/// Each of these peers brings the message, and it is accepted.
fn bring(bench: &mut Bench, peers: &[PeerHandle], number: u64) {
    peers.iter().for_each(|peer| bench.publish_from(*peer, &message(number)));
    bench.judge(Verdict::Accept);
    bench.take();
}

/// The backoff in the PRUNE that the peer was sent, if it was.
fn pruned_for(bench: &Bench, peer: PeerHandle) -> Option<Duration> {
    let backoff = |frame| if let Frame::Prune(prune) = frame { prune.backoff_seconds } else { None };
    bench.frames_to(peer).into_iter().find_map(backoff).map(Duration::from_secs)
}

/// A peer that dialled us asks for a place; whether it got it.
fn asks(bench: &mut Bench) -> (PeerHandle, bool) {
    let peer = bench.connect(Direction::Inbound, Version::V1_2);
    bench.graft_from(peer);
    (peer, bench.in_mesh(peer))
}

#[test]
fn one_newcomer_at_a_time_is_taken_in() {
    let (mut bench, peers) = bench(config(), 6);
    bring(&mut bench, &peers, 1);
    let (first, taken) = asks(&mut bench);
    assert!(taken);
    let (second, taken) = asks(&mut bench);
    assert!(!taken);
    assert_eq!(pruned_for(&bench, second), Some(config().prune.no_room_backoff), "it may come again soon");
    assert!(bench.mesh.score(second) >= 0.0);
    // What others bring is no merit of the newcomer's; what it brings is.
    bring(&mut bench, &peers, 2);
    assert!(!asks(&mut bench).1);
    bring(&mut bench, &[first], 3);
    assert!(asks(&mut bench).1);
}

/// Silent attackers that ask all the time do not keep out who announces, and who announces gets no more places by it than one.
#[test]
fn who_announces_has_a_place_of_its_own() {
    // Who announces asks before or after one that says nothing.
    for order in [[false, true], [true, false]] {
        let (mut bench, peers) = bench(config(), 6);
        bring(&mut bench, &peers, 1);
        let mut asks = |announces: bool| {
            let peer = bench.subscriber();
            if announces {
                bench.ihave_from(peer, &[message(1)]);
            }
            bench.graft_from(peer);
            bench.in_mesh(peer)
        };
        // A silent one has to wait for whatever newcomer there is.
        let [first, second] = order;
        assert_eq!((asks(first), asks(second)), (true, second), "{order:?}");
        assert_eq!((asks(false), asks(true)), (false, false), "{order:?}");
    }
}

/// A copy that comes after the verdict shows as much as one that comes first.
#[test]
fn a_late_copy_makes_an_old_hand_and_our_own_message_does_not() {
    let (mut bench, peers) = bench(config(), 6);
    bring(&mut bench, &peers, 1);
    let (newcomer, _) = asks(&mut bench);
    bring(&mut bench, &peers[..1], 2);
    bench.publish_from(newcomer, &message(2));
    assert!(!asks(&mut bench).1, "it was sent that one");
    bench.idontwant_from(newcomer, &message(3));
    bring(&mut bench, &peers[..1], 3);
    bench.publish_from(newcomer, &message(3));
    assert!(asks(&mut bench).1);
}

#[test]
fn where_nobody_has_brought_anything_all_places_are_free() {
    let (mut bench, peers) = bench(config(), 6);
    for taken in [true, true, false] {
        assert_eq!(asks(&mut bench).1, taken, "up to D_high");
    }
    bring(&mut bench, &peers[..1], 1);
    peers[1..4].iter().for_each(|peer| bench.disconnect(*peer));
    assert!(!asks(&mut bench).1, "now somebody has");
}

#[test]
fn below_d_low_newcomers_are_welcome() {
    let (mut bench, peers) = bench(config(), 3);
    bring(&mut bench, &peers, 1);
    for taken in [true, true, false] {
        assert_eq!(asks(&mut bench).1, taken);
    }
}

#[test]
fn peers_that_we_dialled_are_welcome() {
    let (mut bench, peers) = bench(config(), 6);
    bring(&mut bench, &peers, 1);
    assert!(asks(&mut bench).1);
    let dialled = bench.connect(Direction::Outbound, Version::V1_2);
    bench.graft_from(dialled);
    assert!(bench.in_mesh(dialled));
}

#[test]
fn without_trials_newcomers_are_not_counted() {
    let mut config = config();
    config.trial.messages = 0;
    let (mut bench, peers) = bench(config, 6);
    bring(&mut bench, &peers, 1);
    for taken in [true, true, false] {
        assert_eq!(asks(&mut bench).1, taken);
    }
}

#[test]
fn a_silent_peer_is_replaced_by_one_that_we_dialled_if_there_is_one() {
    for seed in 1..=8 {
        let mut bench = Bench::seeded(config(), seed);
        bench.input(starling_protocol::mesh::Input::Subscribe { topic: topic() });
        let members: Vec<PeerHandle> =
            (0..5).map(|_| bench.subscriber_of(Direction::Outbound, Version::V1_2)).collect();
        bench.heartbeat();
        let dialled = bench.subscriber_of(Direction::Outbound, Version::V1_2);
        let others = bench.subscribers(30);
        assert!(members.iter().all(|peer| bench.in_mesh(*peer)));
        let mut number = 0;
        while bench.in_mesh(members[4]) {
            number += 1;
            assert!(number < 200, "it brings nothing and stays");
            bring(&mut bench, &members[..4], number);
            bench.pass(Duration::from_millis(50));
        }
        assert!(bench.in_mesh(dialled));
        assert!(!others.iter().any(|peer| bench.in_mesh(*peer)));
    }
}

/// For how long a peer has to wait each time, that is silent and grafted again as soon as that is allowed.
fn waits_s(brings_one: bool) -> Vec<u64> {
    let mut config = config();
    config.prune.silent_backoff_max = Duration::from_secs(240);
    let mut bench = Bench::joined(config);
    let members = bench.subscribers(5);
    bench.heartbeat();
    let (good, silent) = (&members[..4], members[4]);
    let (mut number, mut waits) = (0, Vec::new());
    for _ in 0..4 {
        assert!(bench.in_mesh(silent));
        let spare = bench.subscriber();
        if brings_one {
            number += 1;
            bring(&mut bench, &[silent], number);
        }
        let wait = loop {
            number += 1;
            assert!(number < 1_000, "it brings nothing and stays");
            good.iter().for_each(|peer| bench.publish_from(*peer, &message(number)));
            bench.judge(Verdict::Accept);
            bench.pass(Duration::from_millis(100));
            let wait = pruned_for(&bench, silent);
            bench.take();
            if let Some(wait) = wait {
                break wait;
            }
        };
        waits.push(wait.as_secs());
        // There is nobody else to take its place, and it is asked as soon as that is allowed.
        assert!(bench.in_mesh(spare));
        bench.disconnect(spare);
        bench.pass(wait - Duration::from_secs(1));
        assert!(!bench.in_mesh(silent));
        bench.pass(Duration::from_secs(4));
    }
    waits
}

#[test]
fn who_brings_nothing_again_and_again_waits_longer_each_time() {
    assert_eq!(waits_s(false), [60, 120, 240, 240]);
    assert_eq!(waits_s(true), [10; 4], "who brought something before it fell silent may have stood still");
}

#[test]
fn there_may_be_as_many_newcomers_as_is_configured() {
    let mut config = config();
    config.degree.newcomers = 2;
    let (mut bench, peers) = bench(config, 5);
    bring(&mut bench, &peers, 1);
    for taken in [true, true, false] {
        assert_eq!(asks(&mut bench).1, taken);
    }
}

/// In one RPC: it unsubscribes, subscribes, and asks for its place again.
fn slip_out_and_in(bench: &mut Bench, peer: PeerHandle) {
    let subscription = |subscribe| Subscription { subscribe, topic: topic() };
    bench.rpc(
        peer,
        &Rpc { subscriptions: vec![subscription(false), subscription(true)], graft: vec![topic()], ..Rpc::default() },
    );
}

/// It says that it leaves, and asks again as soon as it said that it would be back.
fn leave_and_ask(bench: &mut Bench, peer: PeerHandle) {
    bench.prune_from(peer, Some(1));
    bench.pass(Duration::from_millis(1_500));
    bench.graft_from(peer);
}

/// Whoever leaves and comes back is known by what it has not brought, and by leaving while it was tried.
#[test]
fn nobody_keeps_a_place_by_leaving_it_again_and_again() {
    // A little before a trial is over, and long after it, when one that says nothing is awaited.
    let times = [Direction::Inbound, Direction::Outbound].map(|direction| [5, 40].map(|every| (direction, every)));
    let ways: [fn(&mut Bench, PeerHandle); 2] = [slip_out_and_in, leave_and_ask];
    let all = times.into_iter().flatten().flat_map(|(direction, every)| ways.map(|way| (direction, every, way)));
    for (direction, every, leave) in all {
        let (mut bench, peers) = bench(config(), 6);
        bring(&mut bench, &peers, 0);
        let squatter = bench.connect(direction, Version::V1_2);
        bench.graft_from(squatter);
        assert!(bench.in_mesh(squatter));
        let mut number = 0;
        while bench.in_mesh(squatter) {
            number += 1;
            assert!(number < 400, "{direction:?}, {every}: it brings nothing and stays");
            bring(&mut bench, &peers, number);
            if number.is_multiple_of(every) {
                leave(&mut bench, squatter);
            }
            bench.pass(Duration::from_millis(50));
        }
        bench.take();
        leave(&mut bench, squatter);
        assert!(!bench.in_mesh(squatter), "{direction:?}: it is to keep away");
        assert!(asks(&mut bench).1, "{direction:?}: others have their turn");
    }
}

/// A peer without room was never in the mesh, however often it was asked and whatever came while its answer was under way.
#[test]
fn nothing_is_held_against_whoever_refuses() {
    let mut bench = Bench::joined(config());
    let members: Vec<PeerHandle> = (0..4).map(|_| bench.subscriber_of(Direction::Outbound, Version::V1_2)).collect();
    let full = bench.subscriber_of(Direction::Outbound, Version::V1_2);
    let (mut number, mut asked) = (0, 0);
    for _ in 0..60 {
        bench.heartbeat();
        if bench.in_mesh(full) {
            asked += 1;
            // A round trip in which there are many messages.
            for _ in 0..12 {
                number += 1;
                bring(&mut bench, &members, number);
                bench.pass(Duration::from_millis(8));
            }
            bench.prune_from(full, Some(2));
            assert_eq!(pruned_for(&bench, full), None, "after {asked} refusals");
            bench.take();
        }
        bench.pass(Duration::from_millis(500));
    }
    assert!(asked > 12, "it was asked {asked} times");
    assert!(bench.mesh.score(full) >= 0.0);
}

/// An honest peer that leaves for reasons of its own loses nothing by it.
#[test]
fn who_has_brought_much_and_leaves_is_welcome_again() {
    let (mut bench, peers) = bench(config(), 6);
    for number in 0..40 {
        bring(&mut bench, &peers, number);
        if number.is_multiple_of(4) {
            slip_out_and_in(&mut bench, peers[0]);
            assert!(bench.in_mesh(peers[0]), "after {number} messages");
        }
        bench.pass(Duration::from_millis(50));
    }
    assert!(asks(&mut bench).1, "it is no newcomer");
}
