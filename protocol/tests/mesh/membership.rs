//! GRAFT, PRUNE, backoffs, degrees, links well chosen, peer exchange.

use crate::bench::{Bench, config, message, other_topic, topic};
use crate::network::{Faults, Network};
use bytes::Bytes;
use starling_protocol::id::{Direction, PeerHandle, PeerId, Version};
use starling_protocol::mesh::{Event, Input, Output, PruneReason, Verdict};
use starling_protocol::rpc::{Class, ExchangedPeer, Frame, Prune, Rpc, Subscription};
use starling_protocol::time::Duration;

const MS: Duration = Duration::from_millis(1);
const S: Duration = Duration::from_secs(1);

fn prunes_to(bench: &Bench, peer: PeerHandle) -> Vec<Prune> {
    let frames = bench.frames_to(peer).into_iter();
    frames
        .filter_map(|frame| match frame {
            Frame::Prune(prune) => Some(prune),
            _ => None,
        })
        .collect()
}

fn was_grafted(bench: &Bench, peer: PeerHandle) -> bool {
    bench.frames_to(peer).contains(&Frame::Graft(topic()))
}

#[test]
fn a_new_peer_is_told_our_subscriptions() {
    let mut bench = Bench::joined(config());
    let peer = bench.connect(Direction::Outbound, Version::V1_2);
    assert!(
        matches!(&bench.frames_to(peer)[..], [Frame::Subscription(told)] if told.subscribe && told.topic == topic())
    );
    bench.take();
    bench.input(Input::Unsubscribe { topic: topic() });
    assert!(matches!(&bench.frames_to(peer)[..], [Frame::Subscription(told)] if !told.subscribe));
}

#[test]
fn gossipsub_graft() {
    // Two engines that meet are in each other's mesh after one round trip, without a heartbeat.
    let mut network = Network::new(2, 11, |_| config());
    network.connect(0, 1, MS * 10);
    network.run(MS * 25);
    for node in &network.nodes {
        assert_eq!(node.mesh.mesh_degree(&topic()), 1);
        assert_eq!(node.mesh.counters().heartbeats, 0);
    }
}

#[test]
fn gossipsub_prune() {
    let mut network = Network::new(10, 12, |_| config());
    network.connect_some(9, MS * 10);
    network.run(S * 3);
    network.leave(3, &topic());
    network.run(MS * 11);
    for node in [0, 1, 2, 4, 5, 6, 7, 8, 9] {
        let gone = network.handle(node, 3);
        assert!(!network.nodes[node].mesh.mesh_peers(&topic()).contains(&gone));
    }
    let payload = message(1);
    network.publish(0, &payload);
    network.run(S);
    assert_eq!(network.reached(&payload), 8, "all but the publisher and the one that left");
}

#[test]
fn gossipsub_prune_backoff_time() {
    let mut bench = Bench::joined(config());
    let peer = bench.subscriber();
    assert!(bench.in_mesh(peer));
    bench.prune_from(peer, Some(20));
    assert!(!bench.in_mesh(peer));
    bench.take();
    bench.pass(S * 20);
    assert!(!was_grafted(&bench, peer), "grafted within the backoff");
    bench.pass(S * 3);
    assert!(was_grafted(&bench, peer), "not grafted after the backoff and its slack");
    // A PRUNE without a time, as of v1.0, means one minute.
    bench.prune_from(peer, None);
    bench.take();
    bench.pass(S * 60);
    assert!(!was_grafted(&bench, peer));
    bench.pass(S * 3);
    assert!(was_grafted(&bench, peer));
}

#[test]
fn gossipsub_graft_prune_retry() {
    // Links break, and a fifth of the RPCs by which the meshes repair themselves are lost, GRAFTs and PRUNEs among them.
    let mut network = Network::new(16, 13, |_| config());
    network.connect_some(10, MS * 10);
    network.run(S * 2);
    let grafts = |network: &Network| network.nodes.iter().map(|node| node.sent.graft).sum::<u64>();
    let before = grafts(&network);
    network.faults = Faults { loss_permille: 200, ..Faults::NONE };
    for node in 0..16 {
        network.disconnect(node, (node + 1) % 16);
        network.disconnect(node, (node + 2) % 16);
        network.disconnect(node, (node + 3) % 16);
    }
    network.run(S * 10);
    network.faults = Faults::NONE;
    network.run(S * 3);
    assert!(network.nodes.iter().all(|node| node.mesh.mesh_degree(&topic()) >= 5));
    assert!(grafts(&network) > before + 5, "nothing had to be repaired");
    for number in 0..16 {
        let payload = message(number);
        network.publish(usize::try_from(number).expect("few"), &payload);
        network.run(S * 2);
        assert_eq!(network.reached(&payload), 15, "message {number}");
    }
}

#[test]
fn gossipsub_control_piggyback() {
    // Control travels in its own class, ahead of whatever else waits for the peer.
    let mut bench = Bench::joined(config());
    let peer = bench.subscriber();
    bench.publish(&message(1));
    bench.input(Input::Unsubscribe { topic: topic() });
    let frames = bench.frames_to(peer);
    let class_of = |wanted: fn(&Frame) -> bool| frames.iter().find(|frame| wanted(frame)).map(Frame::class);
    assert_eq!(class_of(|frame| matches!(frame, Frame::Graft(_))), Some(Class::Control));
    assert_eq!(class_of(|frame| matches!(frame, Frame::Prune(_))), Some(Class::Control));
    assert_eq!(class_of(|frame| matches!(frame, Frame::Subscription(_))), Some(Class::Control));
    assert!(class_of(|frame| matches!(frame, Frame::Publish { .. })) > Some(Class::Control));
}

#[test]
fn degrees_stay_between_low_and_high() {
    let mut bench = Bench::joined(config());
    let peers = bench.subscribers(30);
    bench.heartbeat();
    assert!((5..=8).contains(&bench.mesh.mesh_degree(&topic())));
    for peer in &peers {
        bench.graft_from(*peer);
    }
    assert_eq!(bench.mesh.mesh_degree(&topic()), 8, "inbound grafts stop at D_high");
    for peer in bench.mesh.mesh_peers(&topic()).to_vec() {
        bench.disconnect(peer);
    }
    assert_eq!(bench.mesh.mesh_degree(&topic()), 0, "the others were refused: nobody is asked within that backoff");
    bench.pass(S);
    assert_eq!(bench.mesh.mesh_degree(&topic()), 0);
    bench.pass(S * 4);
    assert_eq!(bench.mesh.mesh_degree(&topic()), 6, "the heartbeat fills the mesh to D");
}

#[test]
fn a_mesh_that_loses_an_established_link_is_filled_at_once_but_a_refusal_waits() {
    let mut bench = Bench::joined(config());
    let peers = bench.subscribers(5);
    bench.pass(S * 2);
    let spare = bench.subscribers(3);
    let degree = |bench: &Bench| bench.mesh.mesh_degree(&topic());
    assert!(degree(&bench) == 5 && !bench.in_mesh(spare[0]));
    bench.prune_from(peers[0], Some(60));
    assert_eq!(degree(&bench), 5);
    bench.disconnect(peers[1]);
    assert_eq!(degree(&bench), 5);
    let subscriptions = vec![Subscription { subscribe: false, topic: topic() }];
    bench.rpc(peers[2], &Rpc { subscriptions, ..Rpc::default() });
    assert_eq!(degree(&bench), 5);
    assert!(spare.iter().all(|peer| bench.in_mesh(*peer)));
    // A newcomer that refuses at once is replaced at the heartbeat.
    let others = bench.subscribers(2);
    bench.prune_from(spare[0], Some(60));
    assert_eq!(degree(&bench), 4);
    bench.heartbeat();
    assert_eq!(degree(&bench), 6);
    assert!(others.iter().all(|peer| bench.in_mesh(*peer)));
}

#[test]
fn links_that_we_dialled_keep_their_quota_and_enter_a_full_mesh() {
    let mut bench = Bench::joined(config());
    bench.subscribers(20);
    bench.heartbeat();
    let outbound: Vec<_> = (0..4).map(|_| bench.subscriber_of(Direction::Outbound, Version::V1_2)).collect();
    bench.heartbeat();
    let kept = |bench: &Bench| outbound.iter().filter(|peer| bench.in_mesh(**peer)).count();
    assert!(kept(&bench) >= 2, "D_out is 2");
    outbound.iter().for_each(|peer| bench.graft_from(*peer));
    assert_eq!(kept(&bench), 4, "a graft over a link that we dialled is taken at any degree");
    bench.pass(S * 2);
    assert!(bench.mesh.mesh_degree(&topic()) <= 8);
    assert!(kept(&bench) >= 2);
}

#[test]
fn excess_is_pruned_to_d_keeping_the_best_and_d_out() {
    for seed in 0..8 {
        let mut config = config();
        config.degree.high = 12;
        config.heartbeat.nearer_ticks = 0;
        let mut bench = Bench::seeded(config, seed);
        bench.input(Input::Subscribe { topic: topic() });
        let outbound: Vec<_> = (0..2).map(|_| bench.subscriber_of(Direction::Outbound, Version::V1_2)).collect();
        let peers = bench.subscribers(10);
        peers.iter().chain(&outbound).for_each(|peer| bench.graft_from(*peer));
        assert_eq!(bench.mesh.mesh_degree(&topic()), 12);
        // Four peers deliver first; they are the D_score best.
        let best = &peers[3..7];
        for (number, peer) in (0..40).zip(best.iter().cycle()) {
            bench.publish_from(*peer, &message(number));
        }
        bench.judge(Verdict::Accept);
        let extra = bench.subscriber_of(Direction::Outbound, Version::V1_2);
        bench.graft_from(extra);
        assert_eq!(bench.mesh.mesh_degree(&topic()), 13);
        bench.take();
        bench.heartbeat();
        assert_eq!(bench.mesh.mesh_degree(&topic()), 6);
        assert!(best.iter().all(|peer| bench.in_mesh(*peer)), "the best stay");
        let kept = outbound.iter().chain([&extra]).filter(|peer| bench.in_mesh(**peer)).count();
        assert_eq!(kept, 2, "and D_out links that we dialled");
    }
}

#[test]
fn some_links_are_near_and_others_random() {
    let mut near_total = 0;
    for round in 0..20_u64 {
        let mut config = config();
        config.heartbeat.nearer_ticks = 0;
        let mut bench = Bench::new(config);
        let peers = bench.subscribers(40);
        for (index, peer) in peers.iter().enumerate() {
            let rtt = MS * u32::try_from((index + usize::try_from(round).expect("few")) % 40 + 1).expect("few");
            bench.input(Input::Rtt { peer: *peer, rtt });
        }
        bench.input(Input::Subscribe { topic: topic() });
        let near = bench
            .mesh
            .peer_views()
            .into_iter()
            .filter(|view| !view.mesh.is_empty() && view.rtt.is_some_and(|rtt| rtt <= MS * 3));
        near_total += near.count();
    }
    // The three nearest of forty are in each mesh of six; a random choice would have them 9 times in 20 rounds.
    assert_eq!(near_total, 60);
}

#[test]
fn nearer_links_are_found_after_the_mesh_has_formed_without_shaking_it() {
    let mut bench = Bench::joined(config());
    let peers = bench.subscribers(30);
    bench.pass(S * 2);
    for (index, peer) in peers.iter().rev().enumerate() {
        bench.input(Input::Rtt { peer: *peer, rtt: MS * u32::try_from(10 + 10 * index).expect("few") });
    }
    bench.take();
    bench.pass(S * 60);
    let nearest = &peers[27..];
    assert!(nearest.iter().all(|peer| bench.in_mesh(*peer)), "the three nearest are in the mesh");
    let changes = |bench: &mut Bench| {
        bench.take().iter().filter(|output| matches!(output, Output::Event(Event::Grafted { .. }))).count()
    };
    let settling = changes(&mut bench);
    assert!(settling <= 10, "{settling} grafts in a minute");
    bench.pass(S * 600);
    assert_eq!(changes(&mut bench), 0, "and then the mesh is at rest");
    assert!((5..=8).contains(&bench.mesh.mesh_degree(&topic())));
}

#[test]
fn near_links_keep_their_place_against_better_deliverers_and_hardly_nearer_ones() {
    let mut config = config();
    // These near links bring nothing, for once.
    config.trial.messages = 0;
    let mut bench = Bench::joined(config);
    let peers = bench.subscribers(20);
    for (index, peer) in peers.iter().enumerate() {
        let millis = if index < 3 { 100 } else { 300 };
        bench.input(Input::Rtt { peer: *peer, rtt: MS * millis });
    }
    bench.pass(S * 60);
    assert!(peers[..3].iter().all(|peer| bench.in_mesh(*peer)));
    // A tenth nearer is not worth a change.
    let candidate = *peers[3..].iter().find(|peer| !bench.in_mesh(**peer)).expect("twenty do not fit");
    bench.input(Input::Rtt { peer: candidate, rtt: MS * 90 });
    let far: Vec<_> = peers[3..].iter().copied().filter(|peer| bench.in_mesh(*peer)).collect();
    for number in 0..300 {
        bench.publish_from(far[usize::try_from(number).expect("few") % far.len()], &message(number));
        bench.judge(Verdict::Accept);
        bench.take();
        // Others press into the mesh all the time, so that a surplus has to go every few heartbeats.
        let pressing = peers[4 + usize::try_from(number).expect("few") % 16];
        if pressing != candidate {
            bench.graft_from(pressing);
        }
        bench.pass(S);
        assert!(peers[..3].iter().all(|peer| bench.in_mesh(*peer)), "a near link went at {number} s");
        bench.take();
    }
    assert_eq!(bench.mesh.counters().grafts_nearer, 0, "a link changed for a tenth");
}

#[test]
fn a_graft_is_refused_with_a_prune_for_each_reason() {
    let mut config = config();
    config.degree.high = 6;
    let mut bench = Bench::joined(config);
    let mesh = bench.subscribers(5);
    let sixth = bench.subscriber();
    bench.graft_from(sixth);
    assert!(bench.in_mesh(sixth));
    let full = bench.subscriber();
    bench.take();
    bench.graft_from(full);
    assert_eq!(prunes_to(&bench, full).len(), 1, "at D_high");
    assert_eq!(prunes_to(&bench, full)[0].backoff_seconds, Some(2), "no fault of its own");
    bench.disconnect(mesh[0]);
    let bad = bench.subscriber();
    bench.prune_from(bad, Some(1));
    bench.pass(S * 3);
    bench.input(Input::Misbehaved { peer: bad, penalties: 8 });
    assert!(bench.mesh.score(bad) < 0.0);
    bench.take();
    bench.graft_from(bad);
    assert_eq!(prunes_to(&bench, bad).len(), 1, "negative score");
    assert!(prunes_to(&bench, bad)[0].peers.is_empty(), "no exchange with whom we do not trust");
}

#[test]
fn an_old_peer_is_pruned_in_its_own_words() {
    let mut bench = Bench::joined(config());
    let peer = bench.subscriber_of(Direction::Inbound, Version::V1_0);
    let other = bench.subscriber();
    bench.input(Input::PeerRecord { peer: other, signed_record: Bytes::from_static(b"record") });
    bench.take();
    bench.input(Input::Unsubscribe { topic: topic() });
    let prunes = prunes_to(&bench, peer);
    assert_eq!(prunes, [Prune { topic: topic(), backoff_seconds: None, peers: Vec::new() }]);
}

#[test]
fn leaving_prunes_with_the_unsubscribe_backoff_and_offers_peers() {
    let mut bench = Bench::joined(config());
    let (one, two) = (bench.subscriber(), bench.subscriber());
    let signed_record = Bytes::from_static(b"signed");
    bench.input(Input::PeerRecord { peer: two, signed_record: signed_record.clone() });
    bench.take();
    bench.input(Input::Unsubscribe { topic: topic() });
    let prunes = prunes_to(&bench, one);
    let id = PeerId::from_number(2);
    assert_eq!(prunes[0].backoff_seconds, Some(10));
    assert_eq!(prunes[0].peers, [ExchangedPeer { id, signed_record: Some(signed_record) }]);
    assert!(prunes_to(&bench, two)[0].peers.is_empty(), "nobody is offered itself, nor a peer without a record");
}

#[test]
fn offers_name_peers_of_merit_with_records_of_bounded_size() {
    let mut bench = Bench::joined(config());
    let peers = bench.subscribers(12);
    for peer in &peers[1..] {
        bench.input(Input::PeerRecord { peer: *peer, signed_record: Bytes::from(vec![7; 1_000]) });
    }
    let (bad, oversized) = (peers[1], peers[2]);
    bench.input(Input::Misbehaved { peer: bad, penalties: 8 });
    bench.input(Input::PeerRecord { peer: oversized, signed_record: Bytes::from(vec![7; 1_025]) });
    bench.take();
    let mut offered = std::collections::BTreeSet::new();
    for _ in 0..20 {
        bench.input(Input::Unsubscribe { topic: topic() });
        for prune in bench.mesh.peer_views().iter().flat_map(|view| prunes_to(&bench, view.handle)) {
            assert!(prune.peers.len() <= 6, "6 KiB of records of 1000 bytes");
            offered.extend(prune.peers.into_iter().map(|peer| peer.id));
        }
        bench.pass(S * 12);
        bench.take();
        bench.input(Input::Subscribe { topic: topic() });
        bench.input(Input::Misbehaved { peer: bad, penalties: 1 });
    }
    let id = |peer: PeerHandle| PeerId::from_number(u64::from(peer.slot) + 1);
    assert_eq!(offered.len(), 9, "all but the one without a record, the bad and the oversized");
    assert!(!offered.contains(&id(bad)) && !offered.contains(&id(oversized)));
}

#[test]
fn backoffs_are_forgotten_when_they_are_over() {
    let mut bench = Bench::joined(config());
    for peer in bench.subscribers(10) {
        bench.prune_from(peer, Some(60));
    }
    assert_eq!(bench.mesh.backoffs_len(), 10);
    bench.pass(S * 63);
    assert_eq!(bench.mesh.backoffs_len(), 0);
}

#[test]
fn offers_are_bounded_and_believed_only_from_good_peers() {
    let mut config = config();
    config.score.thresholds.accept_peer_exchange = 1.0;
    let mut bench = Bench::joined(config);
    let (good, stranger) = (bench.subscriber(), bench.subscriber());
    for number in 0..10 {
        bench.publish_from(good, &message(number));
    }
    bench.judge(Verdict::Accept);
    assert!(bench.mesh.score(good) >= 1.0);
    let offered = |number| ExchangedPeer { id: PeerId::from_number(number), signed_record: None };
    let prune = Prune { topic: topic(), backoff_seconds: Some(1), peers: (100..200).map(offered).collect() };
    // Each offer has to be verified, and one is enough.
    let rpc = Rpc { prune: vec![prune; 32], ..Rpc::default() };
    assert!(bench.in_mesh(good) && bench.in_mesh(stranger));
    bench.take();
    bench.rpc(stranger, &rpc);
    bench.rpc(good, &rpc);
    let candidates: Vec<_> = bench
        .take()
        .into_iter()
        .filter_map(|output| match output {
            Output::PeerExchangeCandidates { peer, candidates } => Some((peer, candidates.len())),
            _ => None,
        })
        .collect();
    assert_eq!(candidates, [(good, 16)]);
    let offers = |bench: &mut Bench| {
        bench.take().iter().filter(|output| matches!(output, Output::PeerExchangeCandidates { .. })).count()
    };
    bench.rpc(good, &rpc);
    assert_eq!(offers(&mut bench), 0, "in no mesh");
    // Whoever leaves the topic says so first, and offers peers then.
    bench.pass(S * 3);
    bench.graft_from(good);
    assert!(bench.in_mesh(good));
    bench.take();
    let subscriptions = vec![Subscription { subscribe: false, topic: topic() }];
    bench.rpc(good, &Rpc { subscriptions, ..rpc });
    assert_eq!(offers(&mut bench), 1);
}

#[test]
fn a_slow_peer_leaves_the_mesh_without_a_penalty() {
    let mut bench = Bench::joined(config());
    let peer = bench.subscriber();
    for _ in 0..3 {
        bench.input(Input::SendQueueFull { peer, dropped: 5 });
        bench.heartbeat();
    }
    assert!(!bench.in_mesh(peer));
    assert!(bench.mesh.score(peer) >= 0.0);
    let slow = |output: &Output| matches!(output, Output::Event(Event::Pruned { reason: PruneReason::Slow, .. }));
    assert!(bench.take().iter().any(slow));
}

#[test]
fn topics_are_independent() {
    let mut bench = Bench::joined(config());
    let peer = bench.subscriber();
    assert_eq!(bench.mesh.mesh_degree(&other_topic()), 0);
    bench.input(Input::Subscribe { topic: other_topic() });
    assert_eq!(bench.mesh.mesh_degree(&other_topic()), 0, "the peer is not subscribed there");
    bench.subscribe(peer, &other_topic());
    assert_eq!(bench.mesh.mesh_degree(&other_topic()), 1);
    bench.prune_from(peer, Some(60));
    assert_eq!((bench.mesh.mesh_degree(&topic()), bench.mesh.mesh_degree(&other_topic())), (0, 1));
}
