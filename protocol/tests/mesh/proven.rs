//! Places of the mesh for peers that have proven useful before.

use crate::bench::{Bench, config, message, topic};
use starling_protocol::id::{Direction, PeerHandle, Version};
use starling_protocol::mesh::Verdict;
use starling_protocol::time::Duration;

/// A bench whose mesh eight strangers have filled before anybody else came.
fn full() -> (Bench, Vec<PeerHandle>) {
    let mut bench = Bench::joined(config());
    let strangers = bench.subscribers(8);
    strangers.iter().for_each(|peer| bench.graft_from(*peer));
    assert_eq!(bench.mesh.mesh_degree(&topic()), 8);
    (bench, strangers)
}

/// So many peers that are known from former connections.
fn friends(bench: &mut Bench, count: usize, direction: Direction) -> Vec<PeerHandle> {
    let friends: Vec<PeerHandle> = (0..count).map(|_| bench.subscriber_of(direction, Version::V1_2)).collect();
    friends.iter().for_each(|peer| bench.mesh.recognise(*peer));
    friends
}

fn in_mesh(bench: &Bench, peers: &[PeerHandle]) -> usize {
    peers.iter().filter(|peer| bench.in_mesh(**peer)).count()
}

#[test]
fn a_heartbeat_takes_half_of_d_into_a_full_mesh_and_not_more() {
    let (mut bench, strangers) = full();
    let friends = friends(&mut bench, 5, Direction::Inbound);
    assert_eq!(in_mesh(&bench, &friends), 0);
    bench.heartbeat();
    assert_eq!((in_mesh(&bench, &friends), in_mesh(&bench, &strangers)), (3, 5));
    bench.pass(Duration::from_secs(20));
    assert!(in_mesh(&bench, &friends) >= 3, "they stay");
}

#[test]
fn a_graft_of_theirs_is_taken_by_a_full_mesh_and_a_strangers_is_not() {
    let (mut bench, strangers) = full();
    let stranger = bench.subscriber_of(Direction::Inbound, Version::V1_2);
    bench.graft_from(stranger);
    assert!(!bench.in_mesh(stranger));
    let friends = friends(&mut bench, 4, Direction::Inbound);
    friends.iter().for_each(|peer| bench.graft_from(*peer));
    assert_eq!((in_mesh(&bench, &friends), in_mesh(&bench, &strangers)), (3, 5), "one for one, up to half of D");
    assert!(!bench.in_mesh(friends[3]));
}

#[test]
fn they_are_kept_when_a_mesh_has_too_many_links() {
    for seed in 0..8 {
        let mut bench = Bench::seeded(config(), seed);
        bench.input(starling_protocol::mesh::Input::Subscribe { topic: topic() });
        let friends = friends(&mut bench, 3, Direction::Inbound);
        friends.iter().for_each(|peer| bench.graft_from(*peer));
        let dialled: Vec<PeerHandle> =
            (0..9).map(|_| bench.subscriber_of(Direction::Outbound, Version::V1_2)).collect();
        dialled.iter().for_each(|peer| bench.graft_from(*peer));
        assert_eq!(bench.mesh.mesh_degree(&topic()), 12);
        bench.heartbeat();
        assert!(bench.mesh.mesh_degree(&topic()) <= 8);
        assert_eq!(in_mesh(&bench, &friends), 3, "seed {seed}");
    }
}

#[test]
fn who_brings_nothing_makes_room_for_them_beyond_half_of_d() {
    let (mut bench, strangers) = full();
    let friends = friends(&mut bench, 5, Direction::Inbound);
    friends[..3].iter().for_each(|peer| bench.graft_from(*peer));
    for number in 0..8 {
        bench.publish_from(friends[0], &message(number));
        bench.judge(Verdict::Accept);
    }
    bench.take();
    assert_eq!(in_mesh(&bench, &strangers), 5, "they are suspect, which is no reason to go by itself");
    bench.graft_from(friends[3]);
    assert!(bench.in_mesh(friends[0]) && bench.in_mesh(friends[3]));
    assert_eq!(bench.mesh.mesh_degree(&topic()), 8);
    bench.heartbeat();
    assert!(bench.in_mesh(friends[0]) && bench.in_mesh(friends[4]), "a heartbeat grafts the others");
}

#[test]
fn suspects_go_first_when_a_mesh_has_too_many_links() {
    for seed in 0..8 {
        let mut bench = Bench::seeded(config(), seed);
        bench.input(starling_protocol::mesh::Input::Subscribe { topic: topic() });
        let old: Vec<PeerHandle> = (0..8).map(|_| bench.subscriber_of(Direction::Outbound, Version::V1_2)).collect();
        old.iter().for_each(|peer| bench.graft_from(*peer));
        for number in 0..8 {
            bench.publish_from(old[0], &message(number));
            bench.judge(Verdict::Accept);
        }
        let fresh: Vec<PeerHandle> = (0..4).map(|_| bench.subscriber_of(Direction::Outbound, Version::V1_2)).collect();
        fresh.iter().for_each(|peer| bench.graft_from(*peer));
        assert_eq!(bench.mesh.mesh_degree(&topic()), 12);
        bench.mesh.recognise(fresh[0]);
        bench.heartbeat();
        assert_eq!((in_mesh(&bench, &fresh), bench.in_mesh(old[0])), (4, true), "seed {seed}");
    }
}

/// A mesh of so many that we dialled, all of whom bring each message and the last of them first.
fn useful(count: usize, seed: u8) -> (Bench, Vec<PeerHandle>) {
    let mut bench = Bench::seeded(config(), seed);
    bench.input(starling_protocol::mesh::Input::Subscribe { topic: topic() });
    let peers: Vec<PeerHandle> = (0..count).map(|_| bench.subscriber_of(Direction::Outbound, Version::V1_2)).collect();
    peers.iter().for_each(|peer| bench.graft_from(*peer));
    bring(&mut bench, &peers, 0..20);
    (bench, peers)
}

/// All of these bring these messages, the last of them first.
fn bring(bench: &mut Bench, peers: &[PeerHandle], numbers: core::ops::Range<u64>) {
    for number in numbers {
        peers.iter().rev().for_each(|peer| bench.publish_from(*peer, &message(number)));
        bench.judge(Verdict::Accept);
        bench.take();
    }
}

#[test]
fn below_d_high_nobody_makes_room() {
    let (mut bench, peers) = useful(7, 1);
    let friends = friends(&mut bench, 2, Direction::Inbound);
    bench.graft_from(friends[0]);
    assert_eq!((in_mesh(&bench, &friends), in_mesh(&bench, &peers)), (1, 7));
    bench.graft_from(friends[1]);
    assert_eq!((in_mesh(&bench, &friends), in_mesh(&bench, &peers)), (2, 6));
}

#[test]
fn the_last_in_rank_makes_room_and_may_come_back_soon() {
    for seed in 0..8 {
        let (mut bench, peers) = useful(8, seed);
        let friend = friends(&mut bench, 1, Direction::Inbound)[0];
        bench.take();
        bench.graft_from(friend);
        assert!(bench.in_mesh(friend) && bench.in_mesh(peers[7]), "it brought every message first");
        let gone: Vec<PeerHandle> = peers.into_iter().filter(|peer| !bench.in_mesh(*peer)).collect();
        let [gone] = gone[..] else { panic!("one makes room: {gone:?}") };
        let backoff = bench.frames_to(gone).into_iter().find_map(|frame| match frame {
            starling_protocol::rpc::Frame::Prune(prune) => prune.backoff_seconds,
            _ => None,
        });
        assert_eq!(backoff, Some(config().prune.surplus_backoff.as_secs()));
    }
}

#[test]
fn a_suspect_makes_room_before_who_ranks_lower_and_of_suspects_the_last_in_rank() {
    for seed in 0..8 {
        let (mut bench, peers) = useful(8, seed);
        // The best and another one fall silent.
        bring(&mut bench, &peers[1..7], 20..30);
        let friends = friends(&mut bench, 2, Direction::Inbound);
        bench.graft_from(friends[0]);
        assert_eq!((in_mesh(&bench, &friends), in_mesh(&bench, &peers)), (1, 7));
        assert!(!bench.in_mesh(peers[0]), "with seed {seed}");
        bench.graft_from(friends[1]);
        assert!(!bench.in_mesh(peers[7]), "with seed {seed}");
    }
}

#[test]
fn strangers_are_not_grafted_into_a_full_mesh_beside_them() {
    for seed in 0..4 {
        let (mut bench, _) = useful(8, seed);
        let strangers = bench.subscribers(20);
        let friends = friends(&mut bench, 3, Direction::Inbound);
        bench.heartbeat();
        assert_eq!((in_mesh(&bench, &friends), in_mesh(&bench, &strangers)), (3, 0));
    }
}

#[test]
fn where_no_more_are_wanted_one_that_we_dialled_is_taken_and_nobody_makes_room() {
    let (mut bench, peers) = useful(8, 1);
    let friends = friends(&mut bench, 4, Direction::Outbound);
    friends.iter().for_each(|peer| bench.graft_from(*peer));
    assert_eq!((in_mesh(&bench, &friends), in_mesh(&bench, &peers)), (4, 5));
}

#[test]
fn without_trials_nobody_is_suspect() {
    let mut config = config();
    config.trial.messages = 0;
    let mut bench = Bench::joined(config);
    let strangers = bench.subscribers(8);
    strangers.iter().for_each(|peer| bench.graft_from(*peer));
    let friends = friends(&mut bench, 4, Direction::Inbound);
    friends.iter().for_each(|peer| bench.graft_from(*peer));
    assert_eq!((in_mesh(&bench, &friends), in_mesh(&bench, &strangers)), (3, 5));
}

#[test]
fn half_of_d_with_them_are_kept_and_the_others_as_they_rank() {
    for seed in 0..8 {
        let (mut bench, mut peers) = useful(12, seed);
        let strangers = peers.split_off(8);
        // In turn each of the four brings messages first.
        for turn in 0..4 {
            let from = 20 + 20 * turn;
            let mut order = [&peers[..], &strangers[..]].concat();
            order[8..].rotate_left(usize::try_from(turn).expect("few"));
            bring(&mut bench, &order, from..from + 20);
        }
        peers.iter().for_each(|peer| bench.mesh.recognise(*peer));
        bench.heartbeat();
        assert_eq!((in_mesh(&bench, &peers), in_mesh(&bench, &strangers)), (3, 3), "seed {seed}");
    }
}

#[test]
fn suspects_go_first_even_if_they_were_of_use_in_former_connections() {
    for seed in 0..8 {
        let (mut bench, old) = useful(8, seed);
        bring(&mut bench, &old[7..], 20..30);
        old[..7].iter().for_each(|peer| bench.mesh.recognise(*peer));
        let fresh: Vec<PeerHandle> = (0..5).map(|_| bench.subscriber_of(Direction::Outbound, Version::V1_2)).collect();
        fresh.iter().for_each(|peer| bench.graft_from(*peer));
        assert_eq!(bench.mesh.mesh_degree(&topic()), 13);
        bench.heartbeat();
        assert!(bench.in_mesh(old[7]) && in_mesh(&bench, &fresh) == 5, "seed {seed}");
    }
}
