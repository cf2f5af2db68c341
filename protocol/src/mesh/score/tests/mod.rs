//! Tests of scoring. `cases` and `parameters` have the names of go-libp2p-pubsub's `score_test.go` and
//! `score_params_test.go`; `hardening` is about what goes beyond the specification; `model` runs a naive copy in lockstep.

mod cases;
mod gater;
mod hardening;
mod model;
mod parameters;

use super::*;

/// The one topic of most tests.
const TOPIC: TopicIndex = TopicIndex(0);
const SECOND: Duration = Duration::from_secs(1);

/// A topic on which nothing counts.
fn silent_topic() -> TopicScoreConfig {
    TopicScoreConfig {
        weight: 1.0,
        positive_max: 1e9,
        time_in_mesh: TimeInMeshConfig::OFF,
        first_deliveries: FirstDeliveriesConfig::OFF,
        mesh_deliveries: MeshDeliveriesConfig::OFF,
        mesh_failure: PenaltyConfig::OFF,
        invalid: PenaltyConfig::OFF,
    }
}

/// A configuration with one topic, in which nothing else counts.
fn only_topic(topic: TopicScoreConfig) -> ScoreConfig {
    ScoreConfig {
        topics: vec![topic],
        other_topics: silent_topic(),
        positive_max: 1e9,
        application: ApplicationConfig { weight: 0.0, magnitude_max: 1e6 },
        colocation: ColocationConfig { weight: 0.0, threshold: 1, allowed: Vec::new() },
        behaviour: BehaviourConfig { weight: 0.0, threshold: 0.0, decay: 0.5 },
        decay_interval: SECOND,
        decay_to_zero: 0.01,
        retention: RetentionConfig { duration: SECOND, entries_max: 16 },
        thresholds: Thresholds::default(),
    }
}

/// Scores with parameters that need not obey the rules, so that one parameter can be tested alone.
fn scores(config: ScoreConfig) -> Scores {
    let topics = config.topics.len();
    Scores::new(ValidScoreConfig(std::sync::Arc::new(config)), topics)
}

fn handle(slot: u32) -> PeerHandle {
    PeerHandle { slot, generation: 0 }
}

/// Connects the peer in this slot from an address of its own.
fn connect(scores: &mut Scores, now: Time, slot: u32) -> PeerHandle {
    connect_from(scores, now, slot, IpAddr::from([10, 0, 0, u8::try_from(slot).expect("few peers")]))
}

fn connect_from(scores: &mut Scores, now: Time, slot: u32, ip: IpAddr) -> PeerHandle {
    let peer = handle(slot);
    scores.connected(now, peer, PeerId::from_number(u64::from(slot)), ip);
    peer
}

/// Asserts equality up to the rounding of the last bits.
#[track_caller]
fn assert_close(actual: f64, expected: f64) {
    let tolerance = 1e-9 * expected.abs().max(1.0);
    assert!((actual - expected).abs() <= tolerance, "got {actual}, expected {expected}");
}
