//! What the engine does with scores.

use crate::bench::{Bench, config, large_message, message, other_topic, topic};
use crate::network::{Faults, Network};
use starling_protocol::id::{Direction, Version};
use starling_protocol::mesh::score::MeshDeliveriesConfig;
use starling_protocol::mesh::{DisconnectReason, Input, Output, Verdict};
use starling_protocol::message::Payload;
use starling_protocol::rpc::{Frame, Rpc};
use starling_protocol::time::Duration;

const MS: Duration = Duration::from_millis(1);
const S: Duration = Duration::from_secs(1);

fn was_graylisted(bench: &mut Bench) -> usize {
    let graylisted =
        |output: &&Output| matches!(output, Output::Disconnect { reason: DisconnectReason::Graylisted, .. });
    bench.take().iter().filter(graylisted).count()
}

#[test]
fn gossipsub_negative_score() {
    let mut bench = Bench::joined(config());
    let peers = bench.subscribers(5);
    assert!(bench.in_mesh(peers[0]));
    bench.input(Input::Misbehaved { peer: peers[0], penalties: 10 });
    assert!(bench.mesh.score(peers[0]) < 0.0);
    bench.heartbeat();
    assert!(!bench.in_mesh(peers[0]), "a negative score ends membership");
    // Below the graylist threshold nothing it says is heard, and it is disconnected, once.
    bench.input(Input::Misbehaved { peer: peers[0], penalties: 100 });
    assert_eq!(was_graylisted(&mut bench), 1);
    bench.publish_from(peers[0], &message(1));
    bench.graft_from(peers[0]);
    bench.heartbeat();
    assert!(bench.tickets().is_empty());
    assert_eq!(was_graylisted(&mut bench), 0);
    assert!(bench.frames_to(peers[0]).is_empty());
}

#[test]
fn a_peer_that_we_asked_to_be_disconnected_is_not_heard_again_whatever_becomes_of_its_score() {
    let mut bench = Bench::joined(config());
    let peer = bench.subscriber();
    // Just below the graylist threshold: -10 x (22 - 6)^2.
    bench.input(Input::Misbehaved { peer, penalties: 22 });
    assert_eq!(was_graylisted(&mut bench), 1);
    bench.pass(S * 120);
    assert!(bench.mesh.score(peer) > bench.mesh.thresholds().graylist);
    bench.publish_from(peer, &message(1));
    bench.graft_from(peer);
    assert!(bench.tickets().is_empty() && !bench.in_mesh(peer));
}

#[test]
fn a_graylisted_peer_that_comes_back_is_sent_away() {
    let mut bench = Bench::joined(config());
    let id = starling_protocol::id::PeerId::from_number(77);
    let peer = bench.connect_as(id, Direction::Inbound, Version::V1_2);
    bench.input(Input::Misbehaved { peer, penalties: 100 });
    bench.disconnect(peer);
    bench.take();
    bench.connect_as(id, Direction::Inbound, Version::V1_2);
    assert_eq!(was_graylisted(&mut bench), 1);
}

#[test]
fn gossipsub_opportunistic_grafting() {
    let mut config = config();
    config.heartbeat.opportunistic_ticks = 5;
    config.heartbeat.nearer_ticks = 0;
    // Otherwise they are grafted because they are of use.
    config.trial.messages = 0;
    let mut bench = Bench::joined(config);
    let mesh = bench.subscribers(5);
    let good = bench.subscribers(3);
    // The mesh delivers nothing; others, outside it, do.
    for (number, peer) in (0..60).zip(good.iter().cycle()) {
        bench.publish_from(*peer, &message(number));
    }
    bench.judge(Verdict::Accept);
    assert!(good.iter().all(|peer| bench.mesh.score(*peer) > 5.0 && !bench.in_mesh(*peer)));
    for _ in 0..5 {
        bench.heartbeat();
    }
    assert_eq!(good.iter().filter(|peer| bench.in_mesh(**peer)).count(), 2, "two at a time");
    assert_eq!(mesh.iter().filter(|peer| bench.in_mesh(**peer)).count(), 5);
    for _ in 0..5 {
        bench.heartbeat();
    }
    assert!(bench.mesh.counters().grafts_opportunistic >= 2);
}

#[test]
fn gossipsub_score_graylists_after_three_rejections_whatever_was_banked() {
    let mut bench = Bench::joined(config());
    let peer = bench.subscriber();
    for number in 0..500 {
        bench.publish_from(peer, &message(number));
    }
    bench.judge(Verdict::Accept);
    bench.take();
    for number in 1_000..1_003 {
        bench.publish_from(peer, &message(number));
        bench.judge(Verdict::Reject);
        bench.heartbeat();
    }
    assert_eq!(was_graylisted(&mut bench), 1);
    bench.publish_from(peer, &message(2_000));
    assert!(bench.tickets().is_empty(), "what it still sends is dropped unverified");
}

#[test]
fn everybody_who_sent_a_rejected_message_answers_for_it_and_nobody_for_an_ignored_one() {
    let mut bench = Bench::joined(config());
    let peers = bench.subscribers(4);
    bench.publish_from(peers[0], &message(1));
    bench.publish_from(peers[1], &message(1));
    bench.judge(Verdict::Reject);
    bench.take();
    bench.publish_from(peers[2], &message(1));
    assert!(bench.tickets().is_empty(), "known to be invalid: not validated again");
    assert!(peers[..3].iter().all(|peer| bench.mesh.score(*peer) < 0.0));
    assert!(bench.mesh.score(peers[3]) >= 0.0);
    bench.publish_from(peers[3], &message(2));
    bench.judge(Verdict::Ignore);
    bench.publish_from(peers[3], &message(2));
    assert!(bench.mesh.score(peers[3]) >= 0.0);
}

/// A bench on two topics with P3 on the second, and two peers in both meshes.
fn watched() -> (Bench, [starling_protocol::id::PeerHandle; 2]) {
    let mut config = config();
    // The silent peer is to be seen through its score alone.
    config.trial.messages = 0;
    // Silence on blocks costs 20 points, more than can be earned there and less than can be earned on transactions.
    config.score.topics[1].positive_max = 10.0;
    config.score.topics[1].mesh_deliveries =
        MeshDeliveriesConfig { weight: -20.0, ..MeshDeliveriesConfig::relative_to_traffic() };
    let mut bench = Bench::joined(config);
    bench.input(Input::Subscribe { topic: other_topic() });
    let peers = [bench.subscriber(), bench.subscriber()];
    peers.iter().for_each(|peer| bench.subscribe(*peer, &other_topic()));
    (bench, peers)
}

fn block(number: u64) -> std::sync::Arc<Payload> {
    Payload::new(&other_topic(), format!("block {number}").as_bytes())
}

#[test]
fn withholding_one_topic_ends_membership_there_cve_2022_47547() {
    let (mut bench, [honest, withholder]) = watched();
    for number in 0..90 {
        bench.publish_from(honest, &block(number));
        // Plenty of good deliveries on the other topic bank a positive total.
        for other in 0..3 {
            bench.publish_from(withholder, &message(number * 10 + other));
        }
        bench.judge(Verdict::Accept);
        bench.take();
        for _ in 0..10 {
            bench.pass(MS * 100);
            // The sum over topics would not have ended it yet.
            assert!(bench.mesh.score(withholder) >= 0.0, "only the sum over topics ends membership");
        }
        if !bench.mesh.mesh_peers(&other_topic()).contains(&withholder) {
            assert!(number < 60, "out within 60 s");
            assert!(bench.mesh.mesh_peers(&other_topic()).contains(&honest));
            return;
        }
    }
    panic!("the withholder is still in the mesh of blocks");
}

#[test]
fn mirroring_our_own_messages_earns_nothing() {
    let (mut bench, [honest, mirror]) = watched();
    let credit = |bench: &Bench| bench.mesh.peer_view(mirror).expect("connected").score.topics[1].mesh_deliveries;
    let mut deficit = false;
    for number in 0..60 {
        bench.publish_from(honest, &block(number));
        bench.judge(Verdict::Accept);
        assert_eq!(bench.copies_to(mirror, &block(number)), 1, "we sent it");
        bench.take();
        bench.pass(MS * 10);
        bench.publish_from(mirror, &block(number));
        bench.pass(S);
        deficit |= credit(&bench) < 0.0;
        if !bench.mesh.mesh_peers(&other_topic()).contains(&mirror) {
            return;
        }
    }
    panic!("the mirror stays in the mesh, in deficit: {deficit}");
}

#[test]
fn a_copy_during_validation_or_soon_after_is_a_delivery() {
    let (mut bench, [first, second]) = watched();
    for number in 0..60 {
        bench.publish_from(first, &block(number));
        bench.publish_from(second, &block(number));
        bench.judge(Verdict::Accept);
        bench.take();
        bench.pass(S);
    }
    assert_eq!(bench.mesh.mesh_degree(&other_topic()), 2, "both deliver what both know");
}

#[test]
fn a_signed_message_is_misbehaviour() {
    let mut bench = Bench::joined(config());
    let peer = bench.subscriber();
    bench.rpc(peer, &Rpc { publish_signed: 12, ..Rpc::default() });
    assert!(bench.mesh.score(peer) < 0.0);
    bench.rpc(peer, &Rpc { publish_signed: u32::MAX, ..Rpc::default() });
    assert_eq!(was_graylisted(&mut bench), 1);
}

#[test]
fn a_good_score_elsewhere_does_not_buy_a_graft() {
    let (mut bench, [_, peer]) = watched();
    for number in 0..50 {
        bench.publish_from(peer, &message(number));
    }
    bench.judge(Verdict::Accept);
    // An invalid block: negative there, and with what was banked in all, still below zero by the configured relation.
    bench.publish_from(peer, &block(1));
    for ticket in bench.tickets().into_iter().rev().take(1) {
        bench.input(Input::Verdict { ticket, verdict: Verdict::Reject });
    }
    bench.heartbeat();
    assert!(!bench.mesh.mesh_peers(&other_topic()).contains(&peer));
    bench.take();
    bench.rpc(peer, &Rpc { graft: vec![other_topic()], ..Rpc::default() });
    assert!(bench.frames_to(peer).iter().any(|frame| matches!(frame, Frame::Prune(_))));
    assert!(topic() != other_topic());
}

#[test]
fn honest_peers_are_not_blamed_in_a_lossy_network_with_large_and_small_messages() {
    let mut network = Network::new(16, 31, |_| {
        let mut config = config();
        for topic in &mut config.score.topics {
            topic.mesh_deliveries = MeshDeliveriesConfig::relative_to_traffic();
        }
        config
    });
    network.checked = false;
    network.connect_some(6, MS * 30);
    network.run(S * 2);
    network.faults = Faults { message_loss_permille: 20, jitter: MS * 20, ..Faults::NONE };
    for number in 0..600 {
        let payload = if number % 10 == 0 { large_message(number) } else { message(number) };
        network.publish(usize::try_from(number * 7 % 16).expect("few"), &payload);
        network.run(S);
    }
    assert_eq!(network.blamed, []);
}
