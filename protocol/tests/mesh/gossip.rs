//! IHAVE and IWANT.

use crate::bench::{Bench, config, message, topic};
use crate::network::Network;
use starling_protocol::id::{Direction, MessageId, PeerHandle, PeerId, Version};
use starling_protocol::mesh::promises::PromiseConfig;
use starling_protocol::mesh::{Arrival, Event, Output, Verdict};
use starling_protocol::rpc::{Class, Frame};
use starling_protocol::time::Duration;

const MS: Duration = Duration::from_millis(1);

fn announced_to(bench: &Bench, peer: PeerHandle) -> usize {
    let counts = bench.frames_to(peer).into_iter().map(|frame| match frame {
        Frame::IHave { ids, .. } => ids.len(),
        _ => 0,
    });
    counts.sum()
}

fn is_announced(bench: &Bench, peer: PeerHandle, id: MessageId) -> bool {
    bench.frames_to(peer).into_iter().any(|frame| matches!(frame, Frame::IHave { ids, .. } if ids.contains(&id)))
}

fn asked_of(bench: &Bench, peer: PeerHandle) -> usize {
    let counts = bench.frames_to(peer).into_iter().map(|frame| match frame {
        Frame::IWant(ids) => ids.len(),
        _ => 0,
    });
    counts.sum()
}

#[test]
fn gossipsub_gossip() {
    // A mesh of degree two in a dense network: what it does not bring in time comes by gossip.
    let mut network = Network::new(20, 9, |_| {
        let mut config = config();
        config.degree.target = 2;
        config.degree.low = 1;
        config.degree.high = 2;
        config.degree.score = 1;
        config.degree.outbound = 0;
        config.degree.near = 0;
        config.heartbeat.nearer_ticks = 0;
        config
    });
    network.connect_some(10, MS * 20);
    network.run(MS * 3_000);
    for number in 0..20 {
        let payload = message(number);
        network.publish(usize::try_from(number).expect("few"), &payload);
        network.run(MS * 3_000);
        assert_eq!(network.reached(&payload), 19, "message {number}");
    }
    assert!(network.nodes.iter().any(|node| node.sent.iwant > 0), "the mesh alone was enough: nothing is tested");
}

#[test]
fn gossip_reaches_d_lazy_or_a_third_of_the_peers_outside_the_mesh() {
    for (count, expected) in [(18, 6), (88, 28)] {
        let mut bench = Bench::joined(config());
        let peers = bench.subscribers(count);
        bench.prune_from(peers[0], Some(60));
        while bench.mesh.mesh_degree(&topic()) < 8 {
            let peer = *peers[1..].iter().find(|peer| !bench.in_mesh(**peer)).expect("many are outside");
            bench.graft_from(peer);
        }
        bench.publish(&message(1));
        bench.take();
        bench.heartbeat();
        let announced: Vec<_> = peers.iter().filter(|peer| announced_to(&bench, **peer) > 0).collect();
        assert!(announced.iter().all(|peer| !bench.in_mesh(**peer)));
        assert_eq!(announced.len(), expected, "of {count} peers, 8 of them in the mesh");
        // Announced in three windows, then no more.
        bench.heartbeat();
        bench.heartbeat();
        bench.take();
        bench.heartbeat();
        assert!(peers.iter().all(|peer| announced_to(&bench, *peer) == 0));
    }
}

#[test]
fn a_peer_that_enters_the_mesh_is_announced_what_it_missed() {
    let mut bench = Bench::joined(config());
    bench.publish(&message(1));
    bench.take();
    let peer = bench.subscriber();
    assert!(bench.in_mesh(peer));
    assert_eq!(announced_to(&bench, peer), 1);
    bench.iwant_from(peer, &message(1));
    assert_eq!(bench.copies_to(peer, &message(1)), 1);
}

/// Whoever has one honest link, outside of the mesh, hears of everything by it alone.
#[test]
fn every_message_is_announced_to_every_peer_outside_the_mesh() {
    for count in [20, 40, 41, 150] {
        let mut bench = Bench::joined(config());
        let peers = bench.subscribers(count);
        bench.prune_from(peers[0], Some(60));
        // Until nobody enters or leaves the mesh any more, and everybody has a place among those who wait.
        (0..20).for_each(|_| announce(&mut bench));
        let outside: Vec<PeerHandle> = peers.iter().copied().filter(|peer| !bench.in_mesh(*peer)).collect();
        assert!(outside.len() + 8 >= count, "{} of {count}", outside.len());
        for _ in 0..10 {
            announce(&mut bench);
            let id = message(bench.mesh.counters().heartbeats - 1).id();
            let mut missed = outside.clone();
            for more in 0..3 {
                if more > 0 {
                    bench.take();
                    bench.heartbeat();
                }
                missed.retain(|peer| !is_announced(&bench, *peer, id));
            }
            assert!(missed.is_empty(), "three times a third of {}: {missed:?}", outside.len());
        }
    }
}

/// Those who come back after each turn of theirs cannot have others wait for more than a message is announced.
#[test]
fn who_stays_hears_of_everything_however_many_come_back() {
    let mut bench = Bench::joined(config());
    let peers = bench.subscribers(150);
    bench.prune_from(peers[0], Some(60));
    (0..20).for_each(|_| announce(&mut bench));
    let staying: Vec<PeerHandle> = peers.iter().copied().filter(|peer| !bench.in_mesh(*peer)).take(40).collect();
    let mut back: Vec<PeerHandle> =
        peers.iter().copied().filter(|peer| !bench.in_mesh(*peer) && !staying.contains(peer)).collect();
    let mut missing: Vec<(PeerHandle, MessageId, u32)> = Vec::new();
    for _ in 0..40 {
        let id = message(bench.mesh.counters().heartbeats).id();
        missing.extend(staying.iter().map(|peer| (*peer, id, 0)));
        announce(&mut bench);
        missing.retain_mut(|(peer, id, turns)| {
            *turns += 1;
            !is_announced(&bench, *peer, *id)
        });
        let missed = missing.iter().filter(|(_, _, turns)| *turns >= 3).count();
        assert_eq!(missed, 0, "at heartbeat {}", bench.mesh.counters().heartbeats);
        for peer in &mut back {
            if announced_to(&bench, *peer) > 0 {
                bench.disconnect(*peer);
                *peer = bench.subscriber();
            }
        }
    }
}

/// Publishes a message and has it announced.
fn announce(bench: &mut Bench) {
    bench.publish(&message(bench.mesh.counters().heartbeats));
    bench.take();
    bench.heartbeat();
}

#[test]
fn who_came_before_there_was_anything_to_announce_does_not_go_first() {
    let mut late_first = 0;
    for seed in 0..16 {
        let mut bench = Bench::seeded(config(), seed);
        bench.input(starling_protocol::mesh::Input::Subscribe { topic: topic() });
        bench.subscribers(24);
        (0..20).for_each(|_| bench.heartbeat());
        let late = bench.subscribers(24);
        announce(&mut bench);
        late_first += late.iter().filter(|peer| announced_to(&bench, **peer) > 0).count();
    }
    // Some six of 16 mesh places are taken by the early ones, so more than half of the ten turns or so belong to the late ones.
    assert!(late_first >= 16 * 5, "{late_first} turns of sixteen times ten or so");
}

/// Turns of each of forty peers that stay, and of each of eight that come back, every time or only when they have just had a turn.
fn turns_of_who_stays_and_who_comes_back(when_served: bool) -> (f64, f64) {
    let mut bench = Bench::joined(config());
    let stay = bench.subscribers(40);
    bench.heartbeat();
    let mut back = bench.subscribers(8);
    let (mut staying, mut returning) = (0, 0);
    for _ in 0..200 {
        announce(&mut bench);
        let served = |peer: &PeerHandle| announced_to(&bench, *peer) > 0;
        staying += stay.iter().filter(|peer| served(peer)).count();
        let leave: Vec<bool> = back.iter().map(|peer| !when_served || served(peer)).collect();
        returning += back.iter().filter(|peer| served(peer)).count();
        for (peer, _) in back.iter_mut().zip(leave).filter(|(_, leaves)| *leaves) {
            bench.disconnect(*peer);
            *peer = bench.subscriber();
        }
    }
    // Of those who stay six to twelve are in the mesh.
    (staying as f64 / 31.0, returning as f64 / 8.0)
}

#[test]
fn coming_back_gains_nobody_another_turn_for_each_that_it_has() {
    let (stays, comes) = turns_of_who_stays_and_who_comes_back(false);
    assert!(
        comes < stays * 1.2 && comes > stays * 0.5,
        "{comes} turns of who comes anew each time, {stays} of who stays"
    );
    let (stays, comes) = turns_of_who_stays_and_who_comes_back(true);
    assert!(comes < stays * 2.0, "{comes} turns of who comes anew after each turn, {stays} of who stays");
}

#[test]
fn gossipsub_gossip_piggyback() {
    // Announcements of several topics and control leave in the same heartbeat.
    let mut bench = Bench::joined(config());
    let other = crate::bench::other_topic();
    bench.input(starling_protocol::mesh::Input::Subscribe { topic: other.clone() });
    let peers = bench.subscribers(20);
    peers.iter().for_each(|peer| bench.subscribe(*peer, &other));
    bench.publish(&message(1));
    bench.publish(&starling_protocol::message::Payload::new(&other, b"block"));
    bench.take();
    bench.heartbeat();
    let topics: std::collections::BTreeSet<_> = peers
        .iter()
        .flat_map(|peer| bench.frames_to(*peer))
        .filter_map(|frame| match frame {
            Frame::IHave { topic, .. } => Some(topic),
            _ => None,
        })
        .collect();
    assert_eq!(topics.into_iter().collect::<Vec<_>>(), [other, topic()]);
}

#[test]
fn gossipsub_gossip_propagation() {
    // Two halves joined by one node that is in no mesh: only gossip can cross.
    let mut network = Network::new(21, 10, |_| config());
    for half in [0..10_usize, 10..20] {
        for one in half.clone() {
            for other in half.clone().filter(|other| *other > one) {
                network.connect(one, other, MS * 10);
            }
        }
    }
    network.run(MS * 2_000);
    (0..20).for_each(|node| network.connect(20, node, MS * 10));
    for node in 0..20 {
        let peer = network.handle(20, node);
        let prune =
            vec![starling_protocol::rpc::Prune { topic: topic(), backoff_seconds: Some(60), peers: Vec::new() }];
        let rpc = starling_protocol::rpc::Rpc { prune, ..Default::default() };
        network.input(20, starling_protocol::mesh::Input::Rpc { peer, rpc: &rpc, received: network.now });
        let peer = network.handle(node, 20);
        network.input(node, starling_protocol::mesh::Input::Rpc { peer, rpc: &rpc, received: network.now });
    }
    network.run(MS * 1_000);
    assert_eq!(network.nodes[20].mesh.mesh_degree(&topic()), 0);
    let payload = message(1);
    network.publish(0, &payload);
    network.run(MS * 5_000);
    assert_eq!(network.reached(&payload), 20);
}

#[test]
fn an_announced_message_is_pulled_and_served_once() {
    let mut bench = Bench::joined(config());
    let peer = bench.subscriber();
    bench.take();
    bench.ihave_from(peer, &[message(1)]);
    bench.ihave_from(peer, &[message(1)]);
    bench.pass(MS * 200);
    assert_eq!(asked_of(&bench, peer), 1);
    bench.take();
    bench.publish_from(peer, &message(1));
    let pulled = bench
        .take()
        .into_iter()
        .any(|output| matches!(output, Output::Event(Event::Arrived { how: Arrival::Pulled, .. })));
    assert!(pulled);
    bench.ihave_from(peer, &[message(1)]);
    bench.pass(MS * 200);
    assert_eq!(asked_of(&bench, peer), 0, "what was seen is not asked for");
}

#[test]
fn a_push_during_the_wait_saves_the_pull() {
    let mut bench = Bench::joined(config());
    let (announcer, source) = (bench.subscriber(), bench.subscriber());
    bench.take();
    bench.ihave_from(announcer, &[message(1)]);
    bench.publish_from(source, &message(1));
    bench.pass(MS * 1_000);
    assert_eq!(asked_of(&bench, announcer), 0);
}

#[test]
fn an_unanswered_request_moves_on_and_costs_a_penalty_in_the_end() {
    let mut bench = Bench::joined(config());
    let (silent, other) = (bench.subscriber(), bench.subscriber());
    bench.take();
    bench.ihave_from(silent, &[message(1)]);
    bench.ihave_from(other, &[message(1)]);
    bench.pass(MS * 150);
    assert_eq!((asked_of(&bench, silent), asked_of(&bench, other)), (1, 0), "one request at a time");
    bench.pass(MS * 1_100);
    assert_eq!(asked_of(&bench, other), 1, "the next announcer is asked");
    bench.publish_from(other, &message(1));
    bench.pass(MS * 5_000);
    assert_eq!(bench.mesh.counters().promises_broken, 0, "an arrival from anybody settles the promise");
    bench.ihave_from(silent, &[message(2)]);
    bench.pass(MS * 5_000);
    assert_eq!(bench.mesh.counters().promises_broken, 1);
    assert_eq!(bench.mesh.wanted_len(), 0);
}

#[test]
fn broken_promises_are_forgiven_while_we_are_late_ourselves() {
    let mut config = config();
    config.promise = PromiseConfig::classic();
    let mut bench = Bench::joined(config);
    let peer = bench.subscriber();
    bench.pass(MS * 1_000);
    // Ten requests at different moments are ten promises.
    for number in 0..10 {
        bench.ihave_from(peer, &[message(number)]);
        bench.pass(MS * 20);
    }
    // Starved: the next wake comes after six seconds. Whatever arrived meanwhile is still in the socket.
    bench.starve(MS * 6_000);
    assert!(bench.mesh.counters().heartbeats_late > 0);
    assert!(bench.mesh.counters().promises_broken > 6);
    assert!(bench.mesh.score(peer) >= 0.0, "score {}", bench.mesh.score(peer));
}

/// The scores of `count` peers that break a promise each at the same time, where others are connected beside them, and whether one of these
/// was sent away that asks for far too much meanwhile.
fn scores_after_breaking_promises(count: usize, others: usize) -> (Vec<f64>, bool) {
    let mut config = config();
    config.promise = PromiseConfig::classic();
    let asked = 40 * config.gossip.iwant_ids_max as usize;
    let mut bench = Bench::joined(config);
    let peers = bench.subscribers(count);
    let asker = bench.subscribers(others)[0];
    bench.pass(MS * 1_000);
    // Several promises each, because the first one is free.
    for round in 0..8 {
        // Nobody breaks one at the same moment as another.
        for (number, peer) in peers.iter().enumerate() {
            bench.ihave_from(*peer, &[message(100 * round + number as u64)]);
            bench.pass(MS * 3);
        }
    }
    while bench.mesh.counters().promises_broken < 3 * count as u64 {
        bench.pass(MS * 10);
    }
    let unknown = vec![message(9_999).id(); asked];
    bench.rpc(asker, &starling_protocol::rpc::Rpc { iwant: unknown, ..Default::default() });
    bench.take();
    bench.pass(MS * 1_300);
    let sent_away = |output: &Output| matches!(output, Output::Disconnect { peer, .. } if *peer == asker);
    let is_sent_away = bench.take().iter().any(sent_away);
    assert_eq!(bench.mesh.counters().promises_broken, 8 * count as u64);
    assert_eq!(bench.mesh.counters().heartbeats_late, 0);
    (peers.iter().map(|peer| bench.mesh.score(*peer)).collect(), is_sent_away)
}

#[test]
fn broken_promises_are_forgiven_where_half_of_all_peers_break_them_at_once() {
    let (scores, is_sent_away) = scores_after_breaking_promises(6, 6);
    assert!(scores.iter().all(|score| *score >= 0.0), "it is rather our line");
    assert!(is_sent_away, "a line that is down explains no requests");
    let (scores, _) = scores_after_breaking_promises(5, 6);
    assert!(scores.iter().all(|score| *score < 0.0), "they are fewer than half");
    let (scores, _) = scores_after_breaking_promises(3, 1);
    assert!(scores.iter().all(|score| *score < 0.0), "three are not many");
}

/// Else it would break promises for nothing, as often as it comes back.
#[test]
fn who_breaks_promises_and_leaves_before_the_heartbeat_pays() {
    let mut config = config();
    config.promise = PromiseConfig::classic();
    let mut bench = Bench::joined(config);
    let id = PeerId::from_number(77);
    let peer = bench.connect_as(id, Direction::Inbound, Version::V1_2);
    bench.subscribe(peer, &topic());
    bench.heartbeat();
    // From the second one on they come an interval apart.
    bench.heartbeat();
    bench.pass(MS * 200);
    for number in 0..10 {
        bench.ihave_from(peer, &[message(number)]);
        bench.pass(MS * 3);
    }
    bench.pass(MS * 2_900);
    assert_eq!(bench.mesh.counters().promises_broken, 0);
    let heartbeats = bench.mesh.counters().heartbeats;
    bench.pass(MS * 200);
    let counters = bench.mesh.counters();
    assert_eq!((counters.promises_broken, counters.heartbeats), (10, heartbeats));
    assert!(bench.mesh.score(peer) >= 0.0, "nothing is charged before the heartbeat");
    bench.disconnect(peer);
    let back = bench.connect_as(id, Direction::Inbound, Version::V1_2);
    // P7 bears six.
    assert!(bench.mesh.score(back) <= -10.0 * 16.0, "score {}", bench.mesh.score(back));
}

#[test]
fn gossip_is_neither_sent_to_nor_taken_from_a_peer_below_the_threshold() {
    let mut bench = Bench::joined(config());
    let peers = bench.subscribers(12);
    let outside = *peers.iter().find(|peer| !bench.in_mesh(**peer)).expect("twelve do not fit");
    bench.publish(&message(1));
    // Below gossip (-500), above graylist (-2500): -10 x (15 - 6)^2.
    bench.input(starling_protocol::mesh::Input::Misbehaved { peer: outside, penalties: 15 });
    let score = bench.mesh.score(outside);
    assert!(score < bench.mesh.thresholds().gossip && score > bench.mesh.thresholds().graylist);
    bench.take();
    bench.heartbeat();
    assert_eq!(announced_to(&bench, outside), 0);
    bench.iwant_from(outside, &message(1));
    assert_eq!(bench.copies_to(outside, &message(1)), 0);
    bench.ihave_from(outside, &[message(2)]);
    bench.pass(MS * 200);
    assert_eq!(asked_of(&bench, outside), 0);
}

#[test]
fn replies_wait_behind_forwards_and_only_accepted_messages_are_served() {
    let mut bench = Bench::joined(config());
    let (source, peer) = (bench.subscriber(), bench.subscriber());
    bench.publish_from(source, &message(1));
    bench.iwant_from(peer, &message(1));
    assert_eq!(bench.copies_to(peer, &message(1)), 0, "not validated yet");
    bench.judge(Verdict::Reject);
    bench.iwant_from(peer, &message(1));
    assert_eq!(bench.copies_to(peer, &message(1)), 0, "rejected");
    bench.publish(&message(2));
    bench.take();
    bench.iwant_from(peer, &message(2));
    let frames = bench.frames_to(peer);
    assert!(matches!(frames[..], [Frame::Publish { class: Class::Reply, .. }]), "{frames:?}");
}

#[test]
fn service_is_bounded_in_bytes_and_ids() {
    let mut config = config();
    config.gossip.iwant_bytes_max = 10_000;
    config.gossip.iwant_ids_max = 50;
    let mut bench = Bench::joined(config);
    let peer = bench.subscriber();
    let large: Vec<_> = (0..20).map(crate::bench::large_message).collect();
    large.iter().for_each(|payload| bench.publish(payload));
    bench.take();
    large.iter().for_each(|payload| bench.iwant_from(peer, payload));
    let served: usize = large.iter().map(|payload| bench.copies_to(peer, payload)).sum();
    assert_eq!(served, 5, "messages of 2 KB until 10 KB are reached");
    bench.heartbeat();
    bench.take();
    let unknown = vec![message(99).id(); 50];
    bench.rpc(peer, &starling_protocol::rpc::Rpc { iwant: unknown, ..Default::default() });
    bench.iwant_from(peer, &large[10]);
    assert_eq!(bench.copies_to(peer, &large[10]), 0, "the ids of this heartbeat are used up");
    bench.heartbeat();
    bench.iwant_from(peer, &large[10]);
    assert_eq!(bench.copies_to(peer, &large[10]), 1);
}

#[test]
fn nobody_is_blamed_for_what_we_no_longer_want() {
    let mut bench = Bench::joined(config());
    let peer = bench.subscriber();
    bench.ihave_from(peer, &[message(1), message(2)]);
    bench.pass(MS * 200);
    assert_eq!(asked_of(&bench, peer), 2);
    // One we publish ourselves, the other arrives after we have left the topic.
    bench.publish(&message(1));
    bench.input(starling_protocol::mesh::Input::Unsubscribe { topic: topic() });
    bench.publish_from(peer, &message(2));
    bench.pass(MS * 5_000);
    assert_eq!((bench.mesh.counters().promises_broken, bench.mesh.wanted_len()), (0, 0));
}
