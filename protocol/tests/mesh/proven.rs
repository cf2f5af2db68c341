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
