//! One test for each advisory against other implementations that is about the mesh.

use crate::bench::{Bench, config, message, other_topic, topic};
use starling_protocol::id::{Direction, Topic, Version};
use starling_protocol::mesh::Input;
use starling_protocol::rpc::{Frame, Prune, Rpc, Subscription};
use starling_protocol::time::Duration;

const S: Duration = Duration::from_secs(1);

#[test]
fn cve_2026_33040_and_34219_a_prune_backoff_near_the_end_of_time() {
    for seconds in [u64::MAX, u64::MAX - 1, u64::MAX / 1_000_000, i64::MAX as u64, 3_601] {
        let mut bench = Bench::joined(config());
        let peer = bench.subscriber();
        bench.prune_from(peer, Some(seconds));
        bench.pass(S * 3_599);
        assert!(!bench.in_mesh(peer));
        bench.pass(S * 5);
        assert!(bench.in_mesh(peer), "the backoff is clamped to an hour");
    }
}

#[test]
fn ghsa_g3g5_x568_qvqx_grafts_of_topics_without_end() {
    let mut bench = Bench::joined(config());
    let peer = bench.connect(Direction::Inbound, Version::V1_2);
    let graft: Vec<Topic> = (0..1_000).map(|number| Topic::new(&format!("topic {number}"))).collect();
    bench.rpc(peer, &Rpc { graft, ..Rpc::default() });
    let view = bench.mesh.peer_view(peer).expect("connected");
    assert!(view.subscribed.is_empty() && view.mesh.is_empty());
}

#[test]
fn ghsa_vrx6_jcp8_vm7m_prune_and_graft_of_a_topic_that_we_have_not_joined() {
    let mut bench = Bench::joined(config());
    let peer = bench.subscriber();
    bench.take();
    let prune = vec![Prune { topic: other_topic(), backoff_seconds: Some(3_000), peers: Vec::new() }];
    bench.rpc(peer, &Rpc { graft: vec![other_topic()], prune, ..Rpc::default() });
    assert!(bench.frames_to(peer).is_empty(), "no answer");
    // Neither does it leave a backoff behind that would keep us from joining.
    bench.subscribe(peer, &other_topic());
    bench.input(Input::Subscribe { topic: other_topic() });
    assert!(bench.mesh.mesh_peers(&other_topic()).contains(&peer));
}

#[test]
fn cve_2026_46679_subscriptions_without_end() {
    let mut bench = Bench::joined(config());
    let peer = bench.connect(Direction::Inbound, Version::V1_2);
    for round in 0..100 {
        let subscriptions = (0..1_000)
            .map(|number| Subscription { subscribe: true, topic: Topic::new(&format!("topic {round} {number}")) });
        bench.rpc(peer, &Rpc { subscriptions: subscriptions.collect(), ..Rpc::default() });
    }
    assert!(bench.mesh.peer_view(peer).expect("connected").subscribed.is_empty());
    assert_eq!(bench.mesh.counters().topics_unknown, 100_000);
}

#[test]
fn jvm_472_subscribing_respects_a_backoff_in_force() {
    let mut bench = Bench::joined(config());
    let peer = bench.subscriber();
    bench.prune_from(peer, Some(60));
    bench.input(Input::Unsubscribe { topic: topic() });
    bench.pass(S);
    bench.publish(&message(1));
    assert_eq!(bench.mesh.fanout_peers(&topic()), [peer]);
    bench.take();
    bench.input(Input::Subscribe { topic: topic() });
    bench.heartbeat();
    assert!(!bench.frames_to(peer).iter().any(|frame| matches!(frame, Frame::Graft(_))));
    bench.pass(S * 62);
    assert!(bench.in_mesh(peer));
}

#[test]
fn a_backoff_survives_reconnecting() {
    let mut bench = Bench::joined(config());
    let id = starling_protocol::id::PeerId::from_number(9);
    let peer = bench.connect_as(id, Direction::Inbound, Version::V1_2);
    bench.subscribe(peer, &topic());
    bench.prune_from(peer, Some(60));
    bench.disconnect(peer);
    let again = bench.connect_as(id, Direction::Inbound, Version::V1_2);
    bench.subscribe(again, &topic());
    bench.heartbeat();
    assert!(!bench.in_mesh(again));
    bench.graft_from(again);
    assert!(!bench.in_mesh(again));
}
