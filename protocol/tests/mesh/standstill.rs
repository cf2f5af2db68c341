//! Peers that stand still: who goes on stays, who has stopped is found, and neither is punished.

use crate::bench::{Bench, config, message};
use starling_protocol::id::{Direction, PeerHandle, Version};
use starling_protocol::mesh::{Event, Output, PruneReason, Verdict};
use starling_protocol::rpc::Frame;
use starling_protocol::time::Duration;

/// Between two messages.
const STEP: Duration = Duration::from_millis(50);

/// Long enough to be known.
const FAMILIAR: Duration = Duration::from_secs(24);

/// A mesh whose peers all bring what comes, for as long as they speak.
struct Network {
    bench: Bench,
    mesh: Vec<PeerHandle>,
    number: u64,
    /// Whether the last message was held back from one that was silent.
    held: bool,
    /// What those were told for how long to keep away who were taken out of the mesh.
    backoffs: Vec<(PeerHandle, Option<u64>)>,
}

impl Network {
    fn new() -> Self {
        Self::of(12)
    }

    /// With so many peers connected.
    fn of(count: usize) -> Self {
        let mut bench = Bench::joined(config());
        let peers: Vec<PeerHandle> =
            (0..count).map(|_| bench.subscriber_of(Direction::Outbound, Version::V1_2)).collect();
        bench.heartbeat();
        bench.take();
        let mesh = peers.into_iter().filter(|peer| bench.in_mesh(*peer)).collect();
        Self { bench, mesh, number: 0, held: false, backoffs: Vec::new() }
    }

    /// One of the mesh brings a message, by turns, and all others but these a copy; says who was taken out of the mesh for silence meanwhile.
    fn message(&mut self, silent: &[PeerHandle]) -> Vec<PeerHandle> {
        let payload = message(self.number);
        self.number += 1;
        let mut speakers: Vec<PeerHandle> = self.mesh.clone();
        speakers.retain(|peer| !silent.contains(peer));
        let turn = usize::try_from(self.number).expect("few messages") % speakers.len();
        speakers.rotate_left(turn);
        for peer in speakers {
            self.bench.publish_from(peer, &payload);
        }
        self.bench.judge(Verdict::Accept);
        self.held = silent.iter().any(|peer| self.bench.copies_to(*peer, &payload) == 0);
        let mut gone = self.gone();
        self.bench.pass(STEP);
        gone.extend(self.gone());
        gone
    }

    fn messages(&mut self, duration: Duration, silent: &[PeerHandle]) -> Vec<PeerHandle> {
        let count = duration.as_millis() / STEP.as_millis();
        (0..count).flat_map(|_| self.message(silent)).collect()
    }

    fn gone(&mut self) -> Vec<PeerHandle> {
        let outputs = self.bench.take();
        let gone = outputs.iter().filter_map(|output| match output {
            Output::Event(Event::Pruned { peer, reason: PruneReason::Silent, .. }) => Some(*peer),
            _ => None,
        });
        let gone: Vec<PeerHandle> = gone.collect();
        self.backoffs.extend(outputs.iter().filter_map(|output| match output {
            Output::Send { peer, frame: Frame::Prune(prune) } if gone.contains(peer) => {
                Some((*peer, prune.backoff_seconds))
            }
            _ => None,
        }));
        gone
    }
}

#[test]
fn a_peer_that_stands_still_and_goes_on_stays() {
    let mut network = Network::new();
    let slow = network.mesh[1];
    for pause_ms in [900, 2_500, 300, 2_900, 1_500, 2_000, 2_950, 200, 2_700] {
        assert_eq!(network.messages(Duration::from_millis(600), &[]), []);
        assert_eq!(network.messages(Duration::from_millis(pause_ms), &[slow]), [], "{pause_ms} ms");
    }
    assert!(network.bench.in_mesh(slow));
}

#[test]
fn a_peer_that_has_stopped_is_replaced_within_two_seconds_and_not_punished() {
    let mut network = Network::new();
    let stopped = network.mesh[1];
    assert_eq!(network.messages(FAMILIAR, &[]), []);
    assert_eq!(network.messages(Duration::from_millis(1_450), &[stopped]), []);
    assert_eq!(network.messages(Duration::from_millis(550), &[stopped]), [stopped]);
    let mesh = &network.bench.mesh;
    assert_eq!((mesh.counters().peers_gone, mesh.counters().links_replaced), (1, 1));
    assert!(mesh.score(stopped) >= 0.0);
    // It brought messages until a moment ago, so it need not wait for long when it speaks again.
    assert_eq!(network.backoffs, [(stopped, Some(10))]);
}

#[test]
fn where_nothing_is_said_nobody_is_gone() {
    let mut network = Network::new();
    let quiet = network.mesh[1];
    assert_eq!(network.messages(FAMILIAR, &[]), []);
    // It is being tried when the network falls silent.
    assert_eq!(network.messages(Duration::from_secs(1), &[quiet]), []);
    network.bench.pass(Duration::from_secs(600));
    assert_eq!(network.gone(), []);
    assert!(network.bench.in_mesh(quiet));
}

#[test]
fn what_came_while_we_were_away_is_read_before_anybody_is_judged() {
    let mut network = Network::new();
    assert_eq!(network.messages(FAMILIAR, &[]), []);
    let stopped = network.mesh[1];
    for _ in 0..20 {
        let others = network.mesh[1..].to_vec();
        // Everybody is silent for as long as it takes to be tried, and we are away then.
        assert_eq!(network.messages(Duration::from_millis(600), &others), []);
        network.bench.starve(Duration::from_millis(2_000));
        assert_eq!(network.gone(), []);
        assert_eq!(network.messages(Duration::from_millis(500), &[]), []);
    }
    // Of whom there is nothing in the backlog is gone: our absence is part of its silence.
    assert_eq!(network.messages(Duration::from_millis(600), &[stopped]), []);
    network.bench.starve(Duration::from_millis(4_000));
    let gone = network.messages(Duration::from_millis(900), &[stopped]);
    assert_eq!(gone, [stopped]);
}

#[test]
fn where_nearly_everybody_stands_still_the_fault_may_be_ours() {
    // Four are many, and more than half of five; three are more than half too, but not many.
    for (count, doubts) in [(4, true), (3, false)] {
        let mut network = Network::of(5);
        let still = network.mesh[..count].to_vec();
        assert_eq!((network.mesh.len(), network.messages(Duration::from_secs(3), &[])), (5, vec![]));
        assert_eq!(network.bench.mesh.counters().doubts, 0);
        network.messages(Duration::from_secs(3), &still);
        let counters = network.bench.mesh.counters();
        assert!(counters.trials >= count as u64, "{counters:?}");
        assert_eq!(counters.doubts > 0, doubts, "{count} stand still");
    }
}

/// It says something all the time, but never while a message is held back from it.
#[test]
fn falling_silent_in_trials_is_no_way_to_stay() {
    let mut network = Network::new();
    let sly = network.mesh[1];
    let mut silent_for = 0;
    for number in 0..600 {
        if network.message(&[sly]) == [sly] {
            assert!(number > 100, "a few trials are not enough to tell it from one that stands still");
            return;
        }
        silent_for = if network.held { 13 } else { silent_for - 1 };
        if silent_for <= 0 {
            network.bench.idontwant_from(sly, &message(10_000 + number));
        }
    }
    panic!("it stays for half a minute");
}
