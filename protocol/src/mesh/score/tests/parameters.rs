//! The cases of go-libp2p-pubsub's `score_params_test.go`, parameter by parameter, and our own relations.

use super::*;

/// A change that must be refused, and what the error must name.
type Case<T> = (fn(&mut T), &'static str);

#[track_caller]
fn refused<T: Clone>(base: &T, cases: &[Case<T>], validate: impl Fn(T) -> Option<ScoreConfigError>) {
    assert_eq!(validate(base.clone()), None, "the starting point is valid");
    for (change, expected) in cases {
        let mut config = base.clone();
        change(&mut config);
        let error = validate(config).unwrap_or_else(|| panic!("{expected}: must be refused")).to_string();
        assert!(error.contains(expected), "{error:?} must name {expected:?}");
    }
}

fn thresholds() -> Thresholds {
    Thresholds { gossip: -1.0, publish: -2.0, graylist: -3.0, accept_peer_exchange: 1.0, opportunistic_graft: 2.0 }
}

fn topic() -> TopicScoreConfig {
    TopicScoreConfig {
        weight: 1.0,
        positive_max: 10.1,
        time_in_mesh: TimeInMeshConfig { weight: 0.01, quantum: SECOND, quanta_max: 10.0 },
        first_deliveries: FirstDeliveriesConfig { weight: 1.0, decay: 0.5, deliveries_max: 10.0 },
        mesh_deliveries: MeshDeliveriesConfig {
            weight: -1.0,
            decay: 0.5,
            deliveries_max: 10.0,
            threshold: 5.0,
            window: Duration::from_millis(1),
            activation: SECOND,
            traffic_fraction: None,
        },
        mesh_failure: PenaltyConfig { weight: -1.0, decay: 0.5 },
        invalid: PenaltyConfig { weight: -1.0, decay: 0.5 },
    }
}

fn whole() -> ScoreConfig {
    ScoreConfig {
        topics: vec![topic()],
        other_topics: topic(),
        positive_max: 0.5,
        application: ApplicationConfig { weight: 1.0, magnitude_max: 0.0 },
        colocation: ColocationConfig { weight: -1.0, threshold: 1, allowed: Vec::new() },
        behaviour: BehaviourConfig { weight: -1.0, threshold: 0.0, decay: 0.999 },
        thresholds: Thresholds { graylist: -2.0, ..thresholds() },
        ..only_topic(topic())
    }
}

fn refused_topic(cases: &[Case<TopicScoreConfig>]) {
    refused(&topic(), cases, |topic| topic.validate("topics[0]").err());
}

fn refused_whole(cases: &[Case<ScoreConfig>]) {
    refused(&whole(), cases, |config| config.validate().err());
}

#[test]
fn peer_score_thresholds_validation() {
    let cases: &[Case<Thresholds>] = &[
        (|t| t.gossip = 1.0, "thresholds.gossip"),
        (|t| t.publish = 1.0, "thresholds.publish"),
        (|t| t.publish = 0.0, "must fall from gossip"),
        (|t| t.graylist = 0.0, "must fall from gossip"),
        (|t| *t = Thresholds { gossip: 0.0, publish: 0.0, graylist: 0.0, ..*t }, "negative"),
        (|t| t.accept_peer_exchange = -1.0, "thresholds.accept_peer_exchange"),
        (|t| t.opportunistic_graft = -1.0, "thresholds.opportunistic_graft"),
    ];
    refused(&thresholds(), cases, |thresholds| thresholds.validate().err());
}

#[test]
fn peer_score_thresholds_validation_of_infinite_and_undefined_numbers() {
    let cases: &[Case<Thresholds>] = &[
        (|t| t.gossip = f64::NEG_INFINITY, "thresholds.gossip"),
        (|t| t.publish = f64::NEG_INFINITY, "thresholds.publish"),
        (|t| t.graylist = f64::NEG_INFINITY, "thresholds.graylist"),
        (|t| t.accept_peer_exchange = f64::NAN, "thresholds.accept_peer_exchange"),
        (|t| t.opportunistic_graft = f64::INFINITY, "thresholds.opportunistic_graft"),
    ];
    refused(&thresholds(), cases, |thresholds| thresholds.validate().err());
}

#[test]
fn topic_score_params_validation_of_weight_and_cap() {
    refused_topic(&[
        (|t| t.weight = -1.0, "topics[0].weight"),
        (|t| t.weight = f64::INFINITY, "topics[0].weight"),
        (|t| t.positive_max = -1.0, "topics[0].positive_max"),
    ]);
}

#[test]
fn topic_score_params_validation_of_time_in_mesh() {
    refused_topic(&[
        (|t| t.time_in_mesh.weight = -1.0, "time_in_mesh.weight"),
        (|t| t.time_in_mesh.weight = f64::NAN, "time_in_mesh.weight"),
        (|t| t.time_in_mesh.quantum = Duration::ZERO, "time_in_mesh.quantum"),
        (|t| t.time_in_mesh.quanta_max = -1.0, "time_in_mesh.quanta_max"),
    ]);
}

#[test]
fn topic_score_params_validation_of_first_deliveries() {
    refused_topic(&[
        (|t| t.first_deliveries.weight = -1.0, "first_deliveries.weight"),
        (|t| t.first_deliveries.weight = f64::INFINITY, "first_deliveries.weight"),
        (|t| t.first_deliveries.decay = -1.0, "first_deliveries.decay"),
        (|t| t.first_deliveries.decay = 2.0, "first_deliveries.decay"),
        (|t| t.first_deliveries.deliveries_max = -1.0, "first_deliveries.deliveries_max"),
    ]);
}

#[test]
fn topic_score_params_validation_of_mesh_deliveries() {
    refused_topic(&[
        (|t| t.mesh_deliveries.weight = 1.0, "mesh_deliveries.weight"),
        (|t| t.mesh_deliveries.weight = f64::NEG_INFINITY, "mesh_deliveries.weight"),
        (|t| t.mesh_deliveries.decay = -1.0, "mesh_deliveries.decay"),
        (|t| t.mesh_deliveries.decay = 2.0, "mesh_deliveries.decay"),
        (|t| t.mesh_deliveries.decay = f64::NAN, "mesh_deliveries.decay"),
        (|t| t.mesh_deliveries.deliveries_max = -1.0, "mesh_deliveries.deliveries_max"),
        (|t| t.mesh_deliveries.deliveries_max = 4.0, "mesh_deliveries.deliveries_max"),
        (|t| t.mesh_deliveries.deliveries_max = f64::INFINITY, "mesh_deliveries.deliveries_max"),
        (|t| t.mesh_deliveries.threshold = -3.0, "mesh_deliveries.threshold"),
        (|t| t.mesh_deliveries.activation = Duration::from_millis(1), "mesh_deliveries.activation"),
        (|t| t.mesh_deliveries.traffic_fraction = Some(1.5), "mesh_deliveries.traffic_fraction"),
    ]);
    assert!(
        TopicScoreConfig { mesh_deliveries: MeshDeliveriesConfig::OFF, mesh_failure: PenaltyConfig::OFF, ..topic() }
            .validate("topics[0]")
            .is_ok()
    );
}

#[test]
fn topic_score_params_validation_of_penalties() {
    refused_topic(&[
        (|t| t.mesh_failure.weight = 1.0, "mesh_failure.weight"),
        (|t| t.mesh_failure.decay = -1.0, "mesh_failure.decay"),
        (|t| t.mesh_failure.decay = 2.0, "mesh_failure.decay"),
        (|t| t.invalid.weight = 1.0, "invalid.weight"),
        (|t| t.invalid.weight = f64::INFINITY, "invalid.weight"),
        (|t| t.invalid.decay = -1.0, "invalid.decay"),
        (|t| t.invalid.decay = 2.0, "invalid.decay"),
    ]);
}

#[test]
fn peer_score_params_validation() {
    refused_whole(&[
        (|c| c.positive_max = -1.0, "positive_max"),
        (|c| c.application.weight = -1.0, "application.weight"),
        (|c| c.application.magnitude_max = f64::INFINITY, "application.magnitude_max"),
        (|c| c.colocation.weight = 1.0, "colocation.weight"),
        (|c| c.colocation.weight = f64::NEG_INFINITY, "colocation.weight"),
        (|c| c.colocation.threshold = 0, "colocation.threshold"),
        (|c| c.behaviour.weight = 1.0, "behaviour.weight"),
        (|c| c.behaviour.threshold = -1.0, "behaviour.threshold"),
        (|c| c.behaviour.decay = 0.0, "behaviour.decay"),
        (|c| c.behaviour.decay = 2.0, "behaviour.decay"),
        (|c| c.behaviour.decay = f64::NAN, "behaviour.decay"),
    ]);
}

#[test]
fn peer_score_params_validation_of_decay() {
    refused_whole(&[
        (|c| c.decay_interval = Duration::from_millis(1), "decay_interval"),
        (|c| c.decay_to_zero = -1.0, "decay_to_zero"),
        (|c| c.decay_to_zero = 2.0, "decay_to_zero"),
        (|c| c.decay_to_zero = f64::INFINITY, "decay_to_zero"),
    ]);
}

#[test]
fn peer_score_params_validation_reaches_every_topic() {
    refused_whole(&[
        (|c| c.topics[0].weight = -1.0, "topics[0].weight"),
        (|c| c.other_topics.invalid.decay = 3.0, "other_topics.invalid.decay"),
    ]);
}

#[test]
fn score_parameter_decay() {
    let hour = decay_factor(Duration::from_secs(3_600), SECOND);
    assert!((hour - 0.998_721_603_904_830_3).abs() < 1e-12, "got {hour}");
    assert_close(decay_factor(SECOND, SECOND), 0.01);
    assert_close(decay_factor(Duration::ZERO, SECOND), 0.01);
}

#[test]
fn the_relations_between_parameters_are_enforced() {
    refused_whole(&[
        (|c| c.topics[0].positive_max = 25.0, "topics[0] a peer that delivers nothing"),
        (|c| c.positive_max = 1.0, "is not below the graylist threshold"),
        (|c| c.topics[0].invalid.weight = -0.01, "is not below the graylist threshold"),
        (|c| c.other_topics.invalid.weight = 0.0, "is not below the graylist threshold"),
        (|c| c.colocation.weight = -0.5, "one peer too many on an address"),
    ]);
    ScoreConfig::default().validate().expect("the defaults obey every rule");
    let mut gated = ScoreConfig::default();
    gated.topics.iter_mut().for_each(|topic| topic.mesh_deliveries = MeshDeliveriesConfig::relative_to_traffic());
    gated.validate().expect("the deficit that is offered obeys every rule");
}
