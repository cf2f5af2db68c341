//! Messages reach everybody: over meshes of several densities and shapes, by fanout, by gossip, under faults.

use crate::bench::{Bench, config, large_message, message, other_topic, topic};
use crate::network::{Faults, Network};
use bytes::Bytes;
use starling_protocol::id::{Direction, PeerHandle, Version};
use starling_protocol::mesh::{Input, Verdict};
use starling_protocol::rpc::{Class, Frame};
use starling_protocol::time::Duration;

const MS: Duration = Duration::from_millis(1);

/// Publishes from each of the first `count` nodes in turn and expects every message everywhere.
fn expect_spread(network: &mut Network, count: u64) {
    for number in 0..count {
        let payload = message(number);
        network.publish(usize::try_from(number).expect("few") % network.nodes.len(), &payload);
        network.run(MS * 500);
        assert_eq!(network.reached(&payload), network.nodes.len() - 1, "message {number}");
    }
}

fn spreads_over(dials: usize) -> Network {
    let mut network = Network::new(20, 1, |_| config());
    network.connect_some(dials, MS * 20);
    network.run(MS * 2_000);
    expect_spread(&mut network, 20);
    network
}

#[test]
fn sparse_gossipsub() {
    spreads_over(3);
}

#[test]
fn dense_gossipsub() {
    let network = spreads_over(10);
    for node in &network.nodes {
        let degree = node.mesh.mesh_degree(&topic());
        assert!((5..=8).contains(&degree), "degree {degree}");
        // No more copies than links, and far fewer than connections.
        assert!(node.copies <= 20 * 8, "{} copies of 20 messages", node.copies);
    }
}

#[test]
fn gossipsub_fanout() {
    let mut network = Network::new(20, 2, |_| config());
    network.connect_some(10, MS * 20);
    network.leave(0, &topic());
    network.run(MS * 2_000);
    let payload = message(1);
    network.publish(0, &payload);
    network.run(MS * 500);
    assert_eq!(network.reached(&payload), 19);
    // Joining takes the fanout over into the mesh.
    let fanout = network.nodes[0].mesh.fanout_peers(&topic()).to_vec();
    assert!(!fanout.is_empty() && fanout.len() <= 6);
    // The unsubscribe backoff of ten seconds is respected, so the fanout cannot be grafted at once (jvm-libp2p#472).
    network.run(MS * 12_000);
    network.join(0, &topic());
    network.run(MS * 1_500);
    assert!(network.nodes[0].mesh.mesh_degree(&topic()) >= 5);
    assert!(network.nodes[0].mesh.fanout_peers(&topic()).is_empty());
    let payload = message(2);
    network.publish(0, &payload);
    network.run(MS * 500);
    assert_eq!(network.reached(&payload), 19);
}

#[test]
fn gossipsub_fanout_maintenance() {
    let mut bench = Bench::new(config());
    let peers = bench.subscribers(10);
    bench.publish(&message(1));
    let fanout = bench.mesh.fanout_peers(&topic()).to_vec();
    assert_eq!(fanout.len(), 6);
    // Those that leave are replaced at the heartbeat.
    bench.disconnect(fanout[0]);
    bench.disconnect(fanout[1]);
    bench.heartbeat();
    let renewed = bench.mesh.fanout_peers(&topic());
    assert_eq!(renewed.len(), 6);
    assert!(fanout[2..].iter().all(|peer| renewed.contains(peer)), "those that stay keep their place");
    assert!(renewed.iter().all(|peer| peers.contains(peer)));
}

#[test]
fn gossipsub_fanout_expiry() {
    let mut bench = Bench::new(config());
    bench.subscribers(10);
    bench.publish(&message(1));
    bench.pass(MS * 59_000);
    assert!(!bench.mesh.fanout_peers(&topic()).is_empty());
    bench.pass(MS * 2_000);
    assert!(bench.mesh.fanout_peers(&topic()).is_empty());
}

#[test]
fn mixed_gossipsub() {
    // Peers of all three versions in one network.
    let versions = [Version::V1_0, Version::V1_1, Version::V1_2];
    let mut network = Network::new(18, 3, |_| config());
    for node in 0..18 {
        for step in [1, 2, 5, 7] {
            let other = (node + step) % 18;
            if !network.are_connected(node, other) {
                network.connect_versions(node, other, MS * 10, versions[(node + step) % 3]);
            }
        }
    }
    network.run(MS * 2_000);
    expect_spread(&mut network, 18);
    let payload = large_message(99);
    network.publish(3, &payload);
    network.run(MS * 500);
    assert_eq!(network.reached(&payload), 17);
}

#[test]
fn gossipsub_multihops() {
    let mut network = Network::new(6, 4, |_| config());
    (0..5).for_each(|node| network.connect(node, node + 1, MS * 10));
    network.run(MS * 2_000);
    let payload = message(1);
    network.publish(0, &payload);
    network.run(MS * 100);
    assert_eq!(network.reached(&payload), 5, "five hops of 11 ms each");
}

#[test]
fn gossipsub_tree_topology() {
    let mut network = Network::new(10, 5, |_| config());
    for (parent, child) in [(0, 1), (1, 2), (1, 4), (2, 3), (0, 5), (5, 6), (5, 8), (6, 7), (8, 9)] {
        network.connect(parent, child, MS * 10);
    }
    network.run(MS * 2_000);
    expect_spread(&mut network, 10);
}

#[test]
fn gossipsub_star_topology_with_signed_peer_records() {
    let mut network = Network::new(20, 6, |_| {
        let mut config = config();
        config.score.thresholds.accept_peer_exchange = 0.0;
        config
    });
    for node in 1..20 {
        network.connect(node, 0, MS * 10);
        // The centre knows everybody's record.
        let peer = network.handle(0, node);
        network.input(0, Input::PeerRecord { peer, signed_record: Bytes::from(format!("record of {node}")) });
    }
    network.run(MS * 3_000);
    assert!(
        !network.exchanged.is_empty(),
        "the centre has more peers than its mesh takes, and offers them to each other"
    );
    for (node, candidate) in core::mem::take(&mut network.exchanged) {
        let other = (0..20).find(|other| Network::peer_id(*other) == candidate.id).expect("a node of the network");
        assert_eq!(candidate.signed_record, Some(Bytes::from(format!("record of {other}"))));
        assert_ne!(node, other, "nobody is offered itself");
        if !network.are_connected(node, other) {
            network.connect(node, other, MS * 10);
        }
    }
    network.run(MS * 3_000);
    assert!((1..20).all(|node| network.nodes[node].mesh.peers_len() > 1), "nobody hangs on the centre alone");
    network.disconnect(0, 1);
    expect_spread(&mut network, 20);
}

#[test]
fn gossipsub_direct_peers() {
    let mut network = Network::new(3, 7, |index| {
        let mut config = config();
        match index {
            1 => config.direct_peers.insert(Network::peer_id(2)),
            2 => config.direct_peers.insert(Network::peer_id(1)),
            _ => false,
        };
        config
    });
    for (one, other) in [(0, 1), (0, 2), (1, 2)] {
        network.connect(one, other, MS * 10);
    }
    network.run(MS * 2_000);
    let (one, two) = (network.handle(1, 2), network.handle(2, 1));
    assert!(!network.nodes[1].mesh.mesh_peers(&topic()).contains(&one), "direct peers are outside the mesh");
    assert!(!network.nodes[2].mesh.mesh_peers(&topic()).contains(&two));
    expect_spread(&mut network, 3);
    // With the only mesh link gone, direct peers still exchange messages at once.
    network.disconnect(0, 1);
    network.disconnect(0, 2);
    let payload = message(100);
    network.publish(1, &payload);
    network.run(MS * 20);
    assert_eq!(network.reached(&payload), 1);
}

#[test]
fn gossipsub_direct_peers_are_heard_whatever_their_score() {
    let mut config = config();
    let id = starling_protocol::id::PeerId::from_number(1);
    config.direct_peers.insert(id);
    let mut bench = Bench::joined(config);
    let peer = bench.connect_as(id, Direction::Inbound, Version::V1_2);
    bench.subscribe(peer, &topic());
    bench.input(Input::Misbehaved { peer, penalties: 1_000 });
    assert!(bench.mesh.score(peer) < bench.mesh.thresholds().graylist);
    bench.take();
    bench.publish_from(peer, &message(1));
    assert_eq!(bench.tickets().len(), 1);
    bench.graft_from(peer);
    assert!(!bench.in_mesh(peer));
    assert!(bench.frames_to(peer).iter().any(|frame| matches!(frame, Frame::Prune(_))), "a graft is refused");
    bench.publish(&message(2));
    assert_eq!(bench.copies_to(peer, &message(2)), 1);
}

#[test]
fn gossipsub_flood_publish() {
    let mut config = config();
    config.relay.flood_publish_bytes_max = 1_000;
    config.relay.flood_publish_peers_max = 20;
    let mut bench = Bench::joined(config);
    let peers = bench.subscribers(20);
    bench.heartbeat();
    bench.take();
    bench.publish(&message(1));
    assert!(peers.iter().all(|peer| bench.copies_to(*peer, &message(1)) == 1));
    bench.publish(&large_message(2));
    let large = peers.iter().filter(|peer| bench.copies_to(**peer, &large_message(2)) == 1).count();
    assert!(large <= 8, "a large message goes to the mesh only, not to {large} peers");
}

#[test]
fn flooding_reaches_some_more_and_leaves_what_is_repeated_alone() {
    let mut config = config();
    config.relay.flood_publish_peers_max = 5;
    let mut bench = Bench::joined(config);
    let peers = bench.subscribers(20);
    bench.heartbeat();
    bench.take();
    bench.publish(&message(1));
    let reached = |bench: &Bench, id| peers.iter().filter(|peer| bench.copies_to(**peer, &message(id)) == 1).count();
    let mesh = bench.mesh.mesh_peers(&topic()).to_vec();
    assert!(mesh.iter().all(|peer| bench.copies_to(*peer, &message(1)) == 1), "the mesh comes first");
    assert_eq!(reached(&bench, 1), mesh.len() + 5);
    bench.take();
    bench.input(Input::Repeat { payload: message(1) });
    assert_eq!(reached(&bench, 1), mesh.len().max(6), "D peers");
}

#[test]
fn peers_that_we_dialled_are_flooded_before_those_that_dialled_us() {
    let mut config = config();
    config.relay.flood_publish_peers_max = 8;
    let mut bench = Bench::joined(config);
    let dialled: Vec<_> = (0..10).map(|_| bench.subscriber_of(Direction::Outbound, Version::V1_2)).collect();
    let others = bench.subscribers(30);
    bench.heartbeat();
    bench.take();
    bench.publish(&message(1));
    let mesh = bench.mesh.mesh_peers(&topic()).to_vec();
    let reached = |peers: &[PeerHandle]| {
        peers.iter().filter(|peer| !mesh.contains(peer) && bench.copies_to(**peer, &message(1)) == 1).count()
    };
    let free = dialled.iter().filter(|peer| !mesh.contains(peer)).count();
    assert_eq!((reached(&dialled), reached(&others)), (free.min(8), 8 - free.min(8)));
}

#[test]
fn own_messages_are_not_sent_below_the_publish_threshold() {
    for (flood_publish, join) in [(true, true), (false, false)] {
        let mut config = config();
        config.relay.flood_publish = flood_publish;
        let mut bench = Bench::new(config);
        if join {
            bench.input(Input::Subscribe { topic: topic() });
        }
        let peers = bench.subscribers(4);
        bench.publish(&message(1));
        // Below publish (-1000), above graylist (-2500): -10 x (17 - 6)^2.
        bench.input(Input::Misbehaved { peer: peers[0], penalties: 17 });
        let score = bench.mesh.score(peers[0]);
        assert!(score < bench.mesh.thresholds().publish && score > bench.mesh.thresholds().graylist);
        bench.heartbeat();
        assert!(!bench.mesh.fanout_peers(&topic()).contains(&peers[0]));
        bench.take();
        bench.publish(&message(2));
        let copies: Vec<usize> = peers.iter().map(|peer| bench.copies_to(*peer, &message(2))).collect();
        assert_eq!(copies, [0, 1, 1, 1]);
    }
}

#[test]
fn a_message_published_into_a_small_mesh_goes_to_d_peers_all_the_same() {
    let mut config = config();
    config.relay.flood_publish = false;
    let mut bench = Bench::joined(config);
    let peers = bench.subscribers(20);
    for peer in &peers {
        bench.prune_from(*peer, Some(60));
    }
    assert_eq!(bench.mesh.mesh_degree(&topic()), 0);
    bench.take();
    bench.publish(&message(1));
    assert_eq!(peers.iter().filter(|peer| bench.copies_to(**peer, &message(1)) == 1).count(), 6);
}

#[test]
fn own_messages_and_priority_topics_go_first() {
    let mut bench = Bench::joined(config());
    bench.input(Input::Subscribe { topic: other_topic() });
    let (one, two) = (bench.subscriber(), bench.subscriber());
    bench.subscribe(one, &other_topic());
    bench.subscribe(two, &other_topic());
    bench.take();
    bench.publish(&message(1));
    bench.publish_from(one, &message(2));
    let block = starling_protocol::message::Payload::new(&other_topic(), b"block");
    bench.publish_from(one, &block);
    bench.judge(Verdict::Accept);
    let classes = bench.frames_to(two).into_iter().filter_map(|frame| match frame {
        Frame::Publish { payload, class } => Some((payload.id(), class)),
        _ => None,
    });
    let expected =
        [(message(1).id(), Class::Priority), (message(2).id(), Class::Forward), (block.id(), Class::Priority)];
    assert_eq!(classes.collect::<Vec<_>>(), expected);
}

#[test]
fn a_message_is_never_sent_back_nor_twice() {
    let mut bench = Bench::joined(config());
    let peers = bench.subscribers(4);
    bench.take();
    bench.publish_from(peers[0], &message(1));
    bench.publish_from(peers[1], &message(1));
    bench.judge(Verdict::Accept);
    let copies: Vec<usize> = peers.iter().map(|peer| bench.copies_to(*peer, &message(1))).collect();
    assert_eq!(copies, [0, 0, 1, 1], "the two that sent it have it");
    bench.take();
    bench.publish_from(peers[2], &message(1));
    bench.publish(&message(1));
    assert!(bench.tickets().is_empty() && bench.frames_to(peers[3]).is_empty(), "known is known");
}

#[test]
fn what_was_seen_is_forgotten_in_the_end() {
    let mut bench = Bench::joined(config());
    let peer = bench.subscriber();
    for verdict in [Verdict::Accept, Verdict::Ignore] {
        bench.take();
        bench.publish_from(peer, &message(1));
        assert_eq!(bench.tickets().len(), 1);
        bench.judge(verdict);
        bench.pass(MS * 119_000);
        bench.take();
        bench.publish_from(peer, &message(1));
        assert!(bench.tickets().is_empty());
        bench.pass(MS * 121_000);
    }
}

#[test]
fn messages_survive_loss_duplication_and_reordering() {
    let mut network = Network::new(24, 8, |_| config());
    network.connect_some(6, MS * 20);
    network.run(MS * 2_000);
    network.faults = Faults { loss_permille: 100, duplication_permille: 100, jitter: MS * 60, ..Faults::NONE };
    let payloads: Vec<_> = (0..60).map(message).collect();
    for (index, payload) in payloads.iter().enumerate() {
        network.publish(index % 24, payload);
        network.run(MS * 50);
    }
    network.run(MS * 4_000);
    for (index, payload) in payloads.iter().enumerate() {
        assert_eq!(network.reached(payload), 23, "message {index}");
    }
}

#[test]
fn silent_peers_that_announce_and_never_deliver_stop_nothing() {
    // Two in three take places in meshes, announce what they have, and send no message.
    let mut network = Network::new(30, 9, |_| config());
    network.silent = (0..20).collect();
    network.connect_some(7, MS * 25);
    network.run(MS * 2_000);
    let mut published = Vec::new();
    for number in 0..100 {
        let payload = message(number);
        published.push((payload.clone(), network.now));
        network.publish(20 + usize::try_from(number % 10).expect("few"), &payload);
        network.run(MS * 130);
    }
    network.run(MS * 5_000);
    let mut slowest = Duration::ZERO;
    for (payload, at) in published {
        assert_eq!(network.reached(&payload), 29, "{:?}", payload.data());
        let arrivals = network.nodes.iter().filter_map(|node| node.delivered.get(&payload.id()));
        slowest = slowest.max(arrivals.map(|arrival| arrival.since(at)).max().expect("somebody"));
    }
    assert!(slowest > MS * 500, "pushes alone were enough: nothing is tested");
    assert!(slowest < MS * 3_500, "{slowest:?}");
}
