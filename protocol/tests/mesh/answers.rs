//! What a GRAFT and a PRUNE are answered with: to whom others are offered, what an offence costs, what is counted.

use crate::bench::{Bench, config, message, topic};
use bytes::Bytes;
use starling_protocol::id::{Direction, PeerHandle, Topic, Version};
use starling_protocol::mesh::{Input, MeshConfig, Verdict};
use starling_protocol::rpc::{Frame, Prune, Rpc};
use starling_protocol::time::Duration;

/// The PRUNE that the peer was sent since outputs were last taken.
fn prune_to(bench: &Bench, peer: PeerHandle) -> Option<Prune> {
    let prunes = bench.frames_to(peer).into_iter();
    let mut prunes = prunes.filter_map(|frame| if let Frame::Prune(prune) = frame { Some(prune) } else { None });
    let first = prunes.next();
    assert!(prunes.next().is_none(), "one PRUNE at most");
    first
}

/// How many peers it was offered with that; none if there was no PRUNE.
fn offered_to(bench: &Bench, peer: PeerHandle) -> Option<usize> {
    prune_to(bench, peer).map(|prune| prune.peers.len())
}

/// A mesh of eight, which is full, of whom each has a signed record.
fn full(config: MeshConfig) -> (Bench, Vec<PeerHandle>) {
    let mut bench = Bench::joined(config);
    let mesh = bench.subscribers(8);
    for peer in &mesh {
        bench.graft_from(*peer);
        bench.input(Input::PeerRecord { peer: *peer, signed_record: Bytes::from_static(b"record") });
    }
    assert_eq!(bench.mesh.mesh_degree(&topic()), 8);
    bench.take();
    (bench, mesh)
}

#[test]
fn who_finds_no_room_is_offered_others() {
    let (mut bench, _) = full(config());
    let peer = bench.subscriber();
    bench.graft_from(peer);
    assert_eq!(offered_to(&bench, peer), Some(8));
    let counters = bench.mesh.counters();
    assert_eq!((counters.grafts_received, counters.grafts_refused, counters.prunes_sent), (9, 1, 1));

    let mut config = config();
    config.exchange.offer = false;
    let (mut bench, _) = full(config);
    let peer = bench.subscriber();
    bench.graft_from(peer);
    assert_eq!(offered_to(&bench, peer), Some(0), "offers are turned off");
}

/// As go does it: on none of the topics of its RPC.
#[test]
fn who_asks_for_what_it_should_not_is_offered_nobody() {
    let (mut bench, _) = full(config());
    let peer = bench.subscriber();
    bench.rpc(peer, &Rpc { graft: vec![Topic::new("unknown"), topic()], ..Rpc::default() });
    assert_eq!(offered_to(&bench, peer), Some(0));

    let (mut bench, _) = full(config());
    let early = bench.subscriber();
    bench.prune_from(early, Some(60));
    bench.graft_from(early);
    assert_eq!(offered_to(&bench, early), Some(0), "during a backoff");
    assert_eq!(bench.mesh.counters().grafts_refused, 1);
    assert_eq!(bench.mesh.counters().prunes_sent, 1);
}

#[test]
fn others_are_offered_to_who_is_one_too_many_and_not_to_who_has_no_merit() {
    let (mut bench, mesh) = full(config());
    for _ in 0..4 {
        let peer = bench.subscriber_of(Direction::Outbound, Version::V1_2);
        bench.graft_from(peer);
    }
    bench.input(Input::Misbehaved { peer: mesh[0], penalties: 8 });
    bench.take();
    bench.heartbeat();
    assert_eq!(offered_to(&bench, mesh[0]), Some(0), "it leaves for its score");
    let others: Vec<usize> = mesh[1..].iter().filter_map(|peer| offered_to(&bench, *peer)).collect();
    assert!(!others.is_empty(), "some leave because the mesh is too large");
    assert!(others.iter().all(|offered| *offered >= 6), "{others:?}");

    // Who leaves with us when we leave the topic is told of the others, unless it has no merit.
    let (mut bench, mesh) = full(config());
    bench.input(Input::Misbehaved { peer: mesh[0], penalties: 8 });
    bench.input(Input::Unsubscribe { topic: topic() });
    let offered: Vec<Option<usize>> = mesh.iter().map(|peer| offered_to(&bench, *peer)).collect();
    assert_eq!(offered, [[Some(0)].as_slice(), &[Some(6); 7]].concat());
}

#[test]
fn who_is_too_slow_is_offered_nobody() {
    let (mut bench, mesh) = full(config());
    for _ in 0..config().relay.slow_ticks_max {
        bench.take();
        bench.input(Input::SendQueueFull { peer: mesh[0], dropped: 5 });
        bench.heartbeat();
    }
    assert_eq!(offered_to(&bench, mesh[0]), Some(0));
}

#[test]
fn a_second_graft_of_who_is_in_a_full_mesh_means_nothing() {
    let (mut bench, mesh) = full(config());
    bench.graft_from(mesh[0]);
    assert!(bench.in_mesh(mesh[0]));
    assert_eq!(bench.frames_to(mesh[0]), []);
    assert_eq!(bench.mesh.counters().grafts_refused, 0);
}

/// P7 bears six.
#[test]
fn an_early_graft_costs_one_penalty_and_one_right_after_the_prune_two() {
    for (wait_s, borne) in [(11, 5), (1, 4)] {
        for (penalties, bad) in [(borne, false), (borne + 1, true)] {
            let mut bench = Bench::joined(config());
            let peer = bench.subscriber();
            bench.prune_from(peer, Some(60));
            bench.pass(Duration::from_secs(wait_s));
            bench.input(Input::Misbehaved { peer, penalties });
            assert!(bench.mesh.score(peer) >= 0.0);
            bench.graft_from(peer);
            assert_eq!(bench.mesh.score(peer) < 0.0, bad, "{penalties} before, after {wait_s} s");
        }
    }
}

#[test]
fn a_graft_says_that_the_peer_is_subscribed() {
    let mut bench = Bench::joined(config());
    let peer = bench.connect(Direction::Inbound, Version::V1_2);
    bench.graft_from(peer);
    assert!(bench.in_mesh(peer));
    bench.prune_from(peer, Some(1));
    bench.pass(Duration::from_secs(4));
    assert!(bench.in_mesh(peer), "it is grafted again");
}

/// As in the specification: a backoff of zero is none that was named.
#[test]
fn a_prune_without_a_backoff_sets_our_own() {
    for named in [None, Some(0)] {
        let mut bench = Bench::joined(config());
        let peer = bench.subscriber();
        bench.heartbeat();
        bench.prune_from(peer, named);
        bench.pass(config().prune.backoff - Duration::from_secs(1));
        assert!(!bench.in_mesh(peer), "{named:?}");
        bench.pass(Duration::from_secs(4));
        assert!(bench.in_mesh(peer), "{named:?}");
    }
}

/// For as long as it is outside, it has no reason to say anything.
#[test]
fn a_peer_is_a_stranger_when_it_enters_the_mesh() {
    let mut bench = Bench::joined(config());
    let good: Vec<PeerHandle> = (0..5).map(|_| bench.subscriber_of(Direction::Outbound, Version::V1_2)).collect();
    bench.heartbeat();
    let late = bench.subscriber();
    let mut number = 0;
    let mut messages = |bench: &mut Bench, good: &[PeerHandle], millis: u64| {
        for _ in 0..millis / 50 {
            number += 1;
            good.iter().for_each(|peer| bench.publish_from(*peer, &message(number)));
            bench.judge(Verdict::Accept);
            bench.take();
            bench.pass(Duration::from_millis(50));
        }
    };
    messages(&mut bench, &good, 20_000);
    assert!(!bench.in_mesh(late));
    bench.disconnect(good[4]);
    assert!(bench.in_mesh(late), "it takes the place");
    messages(&mut bench, &good[..4], 4_400);
    assert_eq!(bench.mesh.counters().peers_gone, 0, "as long as is borne of a stranger");
    messages(&mut bench, &good[..4], 1_200);
    assert_eq!(bench.mesh.counters().peers_gone, 1);
}
