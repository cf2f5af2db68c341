//! IDONTWANT (gossipsub v1.2).

use crate::bench::{Bench, config, large_message, message, topic};
use starling_protocol::id::{Direction, PeerHandle, Version};
use starling_protocol::mesh::{Output, Verdict};
use starling_protocol::message::Payload;
use starling_protocol::rpc::{Frame, Rpc};
use std::sync::Arc;

/// How many IDONTWANTs for the message the peer was sent since outputs were last taken.
fn unwanted_by(bench: &Bench, peer: PeerHandle, payload: &Arc<Payload>) -> usize {
    let names = |frame: &Frame| matches!(frame, Frame::IDontWant(ids) if ids.contains(&payload.id()));
    bench.frames_to(peer).iter().filter(|frame| names(frame)).count()
}

/// A bench with a mesh of three.
fn meshed() -> (Bench, [PeerHandle; 3]) {
    let mut bench = Bench::joined(config());
    let peers = [bench.subscriber(), bench.subscriber(), bench.subscriber()];
    assert!(peers.iter().all(|peer| bench.in_mesh(*peer)));
    bench.take();
    (bench, peers)
}

#[test]
fn gossipsub_idontwant_send() {
    let (mut bench, peers) = meshed();
    bench.publish_from(peers[0], &large_message(1));
    // Before validation, and once.
    assert_eq!(unwanted_by(&bench, peers[1], &large_message(1)), 1);
    bench.judge(Verdict::Accept);
    bench.publish_from(peers[1], &large_message(1));
    assert_eq!(unwanted_by(&bench, peers[2], &large_message(1)), 1);
}

#[test]
fn gossipsub_idontwant_receive() {
    let (mut bench, peers) = meshed();
    bench.idontwant_from(peers[1], &large_message(1));
    bench.publish_from(peers[0], &large_message(1));
    bench.judge(Verdict::Accept);
    assert_eq!(bench.copies_to(peers[1], &large_message(1)), 0);
    assert_eq!(bench.copies_to(peers[2], &large_message(1)), 1);
}

#[test]
fn gossipsub_idontwant_is_not_sent_to_the_sender() {
    let (mut bench, peers) = meshed();
    bench.publish_from(peers[0], &large_message(1));
    assert_eq!(unwanted_by(&bench, peers[0], &large_message(1)), 0);
}

#[test]
fn gossipsub_idontwant_before_first_publish() {
    let (mut bench, peers) = meshed();
    bench.publish(&large_message(1));
    for peer in peers {
        let frames = bench.frames_to(peer);
        let unwanted = frames.iter().position(|frame| matches!(frame, Frame::IDontWant(_)));
        let publish = frames.iter().position(|frame| matches!(frame, Frame::Publish { .. }));
        assert!(unwanted.is_some() && unwanted < publish, "{frames:?}");
    }
}

#[test]
fn gossipsub_idontwant_non_mesh() {
    let mut bench = Bench::joined(config());
    let peers = bench.subscribers(10);
    bench.take();
    bench.publish_from(peers[0], &large_message(1));
    for peer in peers.iter().skip(1) {
        let expected = usize::from(bench.in_mesh(*peer));
        assert_eq!(unwanted_by(&bench, *peer, &large_message(1)), expected);
    }
}

#[test]
fn gossipsub_idontwant_incompatible_peer() {
    let mut bench = Bench::joined(config());
    let source = bench.subscriber();
    let old = bench.subscriber_of(Direction::Inbound, Version::V1_1);
    let new = bench.subscriber();
    bench.take();
    bench.publish_from(source, &large_message(1));
    assert_eq!(unwanted_by(&bench, old, &large_message(1)), 0);
    assert_eq!(unwanted_by(&bench, new, &large_message(1)), 1);
}

#[test]
fn gossipsub_idontwant_small_message() {
    let (mut bench, peers) = meshed();
    bench.publish_from(peers[0], &message(1));
    bench.publish(&message(2));
    assert!(peers.iter().all(|peer| unwanted_by(&bench, *peer, &message(1)) == 0));
    assert!(peers.iter().all(|peer| unwanted_by(&bench, *peer, &message(2)) == 0));
}

#[test]
fn gossipsub_idontwant_before_iwant() {
    let (mut bench, peers) = meshed();
    bench.publish_from(peers[0], &large_message(1));
    bench.judge(Verdict::Accept);
    bench.take();
    bench.idontwant_from(peers[1], &large_message(1));
    bench.iwant_from(peers[1], &large_message(1));
    assert_eq!(bench.copies_to(peers[1], &large_message(1)), 0);
    bench.iwant_from(peers[2], &large_message(1));
    assert_eq!(bench.copies_to(peers[2], &large_message(1)), 1);
}

#[test]
fn gossipsub_idontwant_clear() {
    let (mut bench, peers) = meshed();
    bench.idontwant_from(peers[1], &large_message(1));
    bench.heartbeat();
    bench.heartbeat();
    bench.publish_from(peers[0], &large_message(1));
    bench.judge(Verdict::Accept);
    assert_eq!(bench.copies_to(peers[1], &large_message(1)), 0, "still in force after two heartbeats");
    bench.heartbeat();
    bench.iwant_from(peers[1], &large_message(1));
    assert_eq!(bench.copies_to(peers[1], &large_message(1)), 1, "forgotten after three");
}

#[test]
fn gossipsub_idontwant_cancels_what_is_queued() {
    let (mut bench, peers) = meshed();
    bench.publish(&large_message(1));
    bench.take();
    // The second id names nothing that could be queued.
    let idontwant = vec![large_message(1).id(), large_message(2).id()];
    bench.rpc(peers[1], &Rpc { idontwant, ..Rpc::default() });
    let cancelled: Vec<_> = bench
        .take()
        .into_iter()
        .filter_map(|output| match output {
            Output::Cancel { peer, ids } => Some((peer, ids)),
            _ => None,
        })
        .collect();
    assert_eq!(cancelled, [(peers[1], vec![large_message(1).id()])]);
}

#[test]
fn gossipsub_idontwant_cancels_a_pending_iwant() {
    let mut bench = Bench::joined(config());
    let mesh = bench.subscribers(8);
    let announcer = *mesh.iter().find(|peer| !bench.in_mesh(**peer)).expect("eight do not fit");
    let source = *mesh.iter().find(|peer| bench.in_mesh(**peer)).expect("a mesh peer");
    bench.ihave_from(announcer, &[large_message(1)]);
    bench.pass(starling_protocol::time::Duration::from_millis(150));
    assert!(bench.frames_to(announcer).iter().any(|frame| matches!(frame, Frame::IWant(_))));
    bench.publish_from(source, &large_message(1));
    assert_eq!(unwanted_by(&bench, announcer, &large_message(1)), 1);
    assert!(bench.mesh.mesh_peers(&topic()).iter().all(|peer| *peer != announcer));
}
