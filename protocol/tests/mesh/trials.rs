//! Trials of silent peers: who brings nothing is replaced, who could bring something stays.

use crate::bench::{Bench, config, large_message, message};
use starling_protocol::id::{Direction, PeerHandle, Version};
use starling_protocol::mesh::{Event, MeshConfig, Output, PruneReason, Verdict};
use starling_protocol::rpc::Frame;
use starling_protocol::time::Duration;

/// A mesh of six, and as many others to choose from.
fn bench(config: MeshConfig) -> (Bench, Vec<PeerHandle>) {
    let mut bench = Bench::joined(config);
    let peers: Vec<PeerHandle> = (0..12).map(|_| bench.subscriber_of(Direction::Outbound, Version::V1_2)).collect();
    bench.heartbeat();
    bench.take();
    (bench, peers)
}

fn members(bench: &Bench, peers: &[PeerHandle]) -> Vec<PeerHandle> {
    peers.iter().copied().filter(|peer| bench.in_mesh(*peer)).collect()
}

/// The peer brings a message, and it is accepted.
fn accept_from(bench: &mut Bench, peer: PeerHandle, number: u64) {
    bench.publish_from(peer, &message(number));
    bench.judge(Verdict::Accept);
    bench.take();
    bench.pass(Duration::from_millis(50));
}

fn replaced(outputs: &[Output]) -> usize {
    let silent = |output: &&Output| matches!(output, Output::Event(Event::Pruned { reason: PruneReason::Silent, .. }));
    outputs.iter().filter(silent).count()
}

#[test]
fn a_peer_that_brings_nothing_is_replaced_and_not_punished() {
    let (mut bench, peers) = bench(config());
    let mesh = members(&bench, &peers);
    let (good, silent) = (mesh[0], mesh[1]);
    for number in 0..200 {
        accept_from(&mut bench, good, number);
    }
    assert!(bench.in_mesh(good), "who brings everything stays");
    assert!(!bench.in_mesh(silent), "who brings nothing does not");
    assert!(bench.mesh.counters().links_replaced >= 1);
    assert!(bench.mesh.score(silent) >= 0.0, "{}", bench.mesh.score(silent));
    assert!(members(&bench, &peers).len() >= mesh.len(), "somebody else has its place");
}

/// It hears of a message elsewhere and sends it on, because it does not know that we have it.
#[test]
fn a_peer_that_brings_what_was_held_back_stays() {
    let (mut bench, peers) = bench(config());
    let mesh = members(&bench, &peers);
    let good = mesh[0];
    for number in 0..200 {
        let payload = message(number);
        bench.publish_from(good, &payload);
        bench.judge(Verdict::Accept);
        for peer in &mesh[1..] {
            if bench.copies_to(*peer, &payload) == 0 {
                bench.publish_from(*peer, &payload);
            }
        }
        bench.take();
        bench.pass(Duration::from_millis(50));
    }
    assert_eq!(members(&bench, &peers), mesh);
    let counters = bench.mesh.counters();
    assert!(counters.trials >= 15 && counters.trials_passed == counters.trials, "{counters:?}");
    // Eight messages of patience at first, at most thirty-two later: five links, two hundred messages.
    assert!(counters.trials <= 100, "{counters:?}");
}

#[test]
fn sending_our_message_back_is_no_way_to_stay() {
    let (mut bench, peers) = bench(config());
    let mesh = members(&bench, &peers);
    let (good, mirror) = (mesh[0], mesh[1]);
    for number in 0..200 {
        let payload = message(number);
        bench.publish_from(good, &payload);
        bench.judge(Verdict::Accept);
        if bench.copies_to(mirror, &payload) > 0 {
            bench.publish_from(mirror, &payload);
        } else {
            // Nor is asking for what was held back, and sending it then.
            bench.iwant_from(mirror, &payload);
            bench.publish_from(mirror, &payload);
        }
        bench.take();
        bench.pass(Duration::from_millis(50));
    }
    assert!(!bench.in_mesh(mirror));
}

/// The peer may depend on us: it has the message when the trial is over.
#[test]
fn what_was_held_back_comes_late_and_not_never() {
    let (mut bench, peers) = bench(config());
    let mesh = members(&bench, &peers);
    let (good, dependent) = (mesh[0], mesh[1]);
    let (mut at_once, mut late) = (0, 0);
    for number in 0..30 {
        let payload = message(number);
        bench.publish_from(good, &payload);
        bench.judge(Verdict::Accept);
        // It has something to say, but nothing to bring.
        bench.idontwant_from(dependent, &message(1_000 + number));
        let here = bench.in_mesh(dependent);
        let now = bench.copies_to(dependent, &payload);
        bench.pass(Duration::from_millis(700));
        let after = bench.copies_to(dependent, &payload);
        assert!(!here || after == 1, "message {number} was sent {after} times");
        at_once += now;
        late += after - now;
        bench.take();
    }
    assert!(at_once >= 5 && late >= 3, "{at_once} at once and {late} late");
}

#[test]
fn a_suspect_is_not_told_to_keep_a_large_message() {
    let (mut bench, peers) = bench(config());
    let mesh = members(&bench, &peers);
    let (good, silent) = (mesh[0], mesh[1]);
    let mut told = Vec::new();
    for number in 0..12 {
        bench.publish_from(good, &large_message(number));
        let frames = bench.frames_to(silent);
        told.push(frames.iter().any(|frame| matches!(frame, Frame::IDontWant(_))));
        bench.judge(Verdict::Accept);
        bench.take();
    }
    assert_eq!(told[..8], [true; 8]);
    assert_eq!(told[8..], [false; 4], "eight messages came without a copy from it");
}

#[test]
fn with_nobody_to_take_its_place_a_silent_peer_stays() {
    let mut bench = Bench::joined(config());
    let peers = bench.subscribers(3);
    bench.heartbeat();
    for number in 0..200 {
        accept_from(&mut bench, peers[0], number);
    }
    assert_eq!(members(&bench, &peers), peers);
    assert_eq!(bench.mesh.counters().peers_gone, 2, "{:?}", bench.mesh.counters());
}

#[test]
fn with_nobody_to_take_its_place_a_silent_peer_leaves_when_enough_others_are_of_use() {
    for useful in [2, 3] {
        let mut bench = Bench::joined(config());
        let peers = bench.subscribers(5);
        bench.heartbeat();
        assert_eq!(members(&bench, &peers).len(), 5);
        let (mut left, mut silent) = (0, 0);
        for number in 0..60 {
            // Who is of use brings each message, one of them first.
            for peer in &peers[..useful] {
                bench.publish_from(*peer, &message(number));
            }
            bench.judge(Verdict::Accept);
            silent += replaced(&bench.take());
            bench.pass(Duration::from_millis(200));
            let outputs = bench.take();
            left += replaced(&outputs);
            // Not even a backoff of some heartbeats keeps them out for good.
            assert!(members(&bench, &peers).len() >= useful);
        }
        assert_eq!(silent, 0, "nobody leaves before its trial is over");
        assert_eq!(left > 0, useful == 3, "{left} left with {useful} of use");
    }
}

/// What comes while we are starved may be there and merely unread.
#[test]
fn our_own_lateness_is_nobodys_failure() {
    let (mut bench, peers) = bench(config());
    let mesh = members(&bench, &peers);
    for number in 0..100 {
        bench.publish_from(mesh[0], &message(number));
        bench.judge(Verdict::Accept);
        bench.starve(Duration::from_secs(3));
        assert_eq!(replaced(&bench.take()), 0);
    }
    let counters = bench.mesh.counters();
    assert!(counters.trials > 0 && counters.trials_failed == 0, "{counters:?}");
}

#[test]
fn trials_can_be_turned_off() {
    let mut config = config();
    config.trial.messages = 0;
    let (mut bench, peers) = bench(config);
    let mesh = members(&bench, &peers);
    for number in 0..100 {
        accept_from(&mut bench, mesh[0], number);
    }
    assert_eq!(bench.mesh.counters().trials, 0);
    assert_eq!(members(&bench, &peers), mesh);
}
