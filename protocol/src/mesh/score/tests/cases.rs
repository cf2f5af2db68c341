//! The cases of go-libp2p-pubsub's `score_test.go`.

use super::*;

fn first_deliveries(decay: f64, deliveries_max: f64) -> TopicScoreConfig {
    let first_deliveries = FirstDeliveriesConfig { weight: 1.0, decay, deliveries_max };
    TopicScoreConfig { first_deliveries, ..silent_topic() }
}

fn mesh_deliveries(weight: f64, decay: f64, activation: Duration) -> MeshDeliveriesConfig {
    MeshDeliveriesConfig {
        weight,
        decay,
        deliveries_max: 100.0,
        threshold: 20.0,
        window: Duration::from_millis(10),
        activation,
        traffic_fraction: None,
    }
}

fn invalid(decay: f64) -> TopicScoreConfig {
    TopicScoreConfig { invalid: PenaltyConfig { weight: -1.0, decay }, ..silent_topic() }
}

fn deliver(scores: &mut Scores, now: Time, peer: PeerHandle, count: u32) {
    (0..count).for_each(|_| scores.first_delivery(now, peer, TOPIC));
}

#[test]
fn score_time_in_mesh() {
    let time_in_mesh = TimeInMeshConfig { weight: 1.0, quantum: Duration::from_millis(1), quanta_max: 3_600.0 };
    let mut scores = scores(only_topic(TopicScoreConfig { weight: 0.5, time_in_mesh, ..silent_topic() }));
    let peer = connect(&mut scores, Time::ZERO, 0);
    assert_eq!(scores.score(peer), 0.0);
    scores.grafted(Time::ZERO, peer, TOPIC);
    scores.decay(Time::from_millis(1_200));
    assert_close(scores.score(peer), 0.5 * 1_200.0);
    scores.pruned(Time::from_millis(1_200), peer, TOPIC);
    assert_eq!(scores.score(peer), 0.0, "outside the mesh its time does not count");
    scores.grafted(Time::from_millis(1_300), peer, TOPIC);
    assert_eq!(scores.score(peer), 0.0, "time starts anew with each graft");
    scores.check();
}

#[test]
fn score_time_in_mesh_cap() {
    let time_in_mesh = TimeInMeshConfig { weight: 1.0, quantum: Duration::from_millis(1), quanta_max: 10.0 };
    let mut scores = scores(only_topic(TopicScoreConfig { weight: 0.5, time_in_mesh, ..silent_topic() }));
    let peer = connect(&mut scores, Time::ZERO, 0);
    scores.grafted(Time::ZERO, peer, TOPIC);
    scores.decay(Time::from_secs(40));
    assert_close(scores.score(peer), 0.5 * 10.0);
}

#[test]
fn score_first_message_deliveries() {
    let mut scores = scores(only_topic(first_deliveries(1.0, 2_000.0)));
    let peer = connect(&mut scores, Time::ZERO, 0);
    deliver(&mut scores, Time::ZERO, peer, 100);
    scores.decay(Time::from_secs(1));
    assert_close(scores.score(peer), 100.0);
}

#[test]
fn score_first_message_deliveries_cap() {
    let mut scores = scores(only_topic(first_deliveries(1.0, 50.0)));
    let peer = connect(&mut scores, Time::ZERO, 0);
    deliver(&mut scores, Time::ZERO, peer, 100);
    scores.decay(Time::from_secs(1));
    assert_close(scores.score(peer), 50.0);
    scores.check();
}

#[test]
fn score_first_message_deliveries_decay() {
    let mut scores = scores(only_topic(first_deliveries(0.9, 2_000.0)));
    let peer = connect(&mut scores, Time::ZERO, 0);
    deliver(&mut scores, Time::ZERO, peer, 100);
    scores.decay(Time::from_secs(1));
    assert_close(scores.score(peer), 90.0);
    let mut expected = 90.0;
    for second in 2..12 {
        expected *= 0.9;
        scores.decay(Time::from_secs(second));
    }
    assert_close(scores.score(peer), expected);
    scores.decay(Time::from_secs(1_000));
    assert_eq!(scores.score(peer), 0.0, "what has decayed below the floor is nothing");
}

#[test]
fn score_mesh_message_deliveries() {
    let mesh_deliveries = mesh_deliveries(-1.0, 1.0, Duration::from_millis(500));
    let mut scores = scores(only_topic(TopicScoreConfig { mesh_deliveries, ..silent_topic() }));
    // The first delivers first, the second within the window, the third too late, the fourth while we validate.
    let peers: Vec<PeerHandle> = (0..4).map(|slot| connect(&mut scores, Time::ZERO, slot)).collect();
    for peer in &peers {
        scores.grafted(Time::from_millis(900), *peer, TOPIC);
    }
    scores.decay(Time::from_millis(1_000));
    assert!(peers.iter().all(|peer| scores.score(*peer) == 0.0), "no deficit before the activation");
    for message in 0..100 {
        let validated = Time::from_millis(1_500 + message);
        scores.duplicate_delivery(validated, peers[3], TOPIC, None);
        scores.first_delivery(validated, peers[0], TOPIC);
        scores.duplicate_delivery(validated + Duration::from_millis(10), peers[1], TOPIC, Some(validated));
        scores.duplicate_delivery(validated + Duration::from_millis(11), peers[2], TOPIC, Some(validated));
    }
    scores.decay(Time::from_secs(2));
    assert_eq!([0, 1, 3].map(|index| scores.score(peers[index])), [0.0; 3]);
    assert_close(scores.score(peers[2]), -400.0);
    scores.check();
}

#[test]
fn score_mesh_message_deliveries_decay() {
    let mesh_deliveries = mesh_deliveries(-1.0, 0.9, Duration::ZERO);
    let mut scores = scores(only_topic(TopicScoreConfig { mesh_deliveries, ..silent_topic() }));
    let peer = connect(&mut scores, Time::ZERO, 0);
    scores.grafted(Time::ZERO, peer, TOPIC);
    deliver(&mut scores, Time::ZERO, peer, 40);
    scores.decay(Time::from_secs(1));
    assert_eq!(scores.score(peer), 0.0);
    let mut count = 40.0 * 0.9;
    for second in 2..22 {
        scores.decay(Time::from_secs(second));
        count *= 0.9;
    }
    let deficit = 20.0 - count;
    assert_close(scores.score(peer), -deficit * deficit);
}

#[test]
fn score_mesh_failure_penalty() {
    let mesh_deliveries = mesh_deliveries(0.0, 1.0, Duration::ZERO);
    let mesh_failure = PenaltyConfig { weight: -1.0, decay: 1.0 };
    let mut scores = scores(only_topic(TopicScoreConfig { mesh_deliveries, mesh_failure, ..silent_topic() }));
    let (busy, idle) = (connect(&mut scores, Time::ZERO, 0), connect(&mut scores, Time::ZERO, 1));
    scores.grafted(Time::ZERO, busy, TOPIC);
    scores.grafted(Time::ZERO, idle, TOPIC);
    deliver(&mut scores, Time::ZERO, busy, 100);
    scores.decay(Time::from_secs(1));
    assert_eq!((scores.score(busy), scores.score(idle)), (0.0, 0.0), "the penalty waits for the prune");
    scores.pruned(Time::from_secs(1), busy, TOPIC);
    scores.pruned(Time::from_secs(1), idle, TOPIC);
    scores.decay(Time::from_secs(2));
    assert_eq!(scores.score(busy), 0.0);
    assert_close(scores.score(idle), -400.0);
    scores.pruned(Time::from_secs(2), idle, TOPIC);
    assert_close(scores.score(idle), -400.0);
}

#[test]
fn score_invalid_message_deliveries() {
    let mut scores = scores(only_topic(invalid(1.0)));
    let peer = connect(&mut scores, Time::ZERO, 0);
    (0..100).for_each(|_| scores.invalid_message(peer, TOPIC));
    scores.decay(Time::from_secs(1));
    assert_close(scores.score(peer), -10_000.0);
}

#[test]
fn score_invalid_message_deliveries_decay() {
    let mut scores = scores(only_topic(invalid(0.9)));
    let peer = connect(&mut scores, Time::ZERO, 0);
    (0..100).for_each(|_| scores.invalid_message(peer, TOPIC));
    let mut count = 100.0;
    for second in 1..=11 {
        scores.decay(Time::from_secs(second));
        count *= 0.9;
    }
    assert_close(scores.score(peer), -count * count);
}

/// In go-libp2p-pubsub the score decides what a rejection means; here the verdict does, and the score has no say: ignored and
/// shed messages are not reported at all, and every sender of a rejected one is.
#[test]
fn score_reject_message_deliveries() {
    let mut scores = scores(only_topic(invalid(1.0)));
    let (first, second) = (connect(&mut scores, Time::ZERO, 0), connect(&mut scores, Time::ZERO, 1));
    scores.grafted(Time::ZERO, first, TOPIC);
    assert_eq!((scores.score(first), scores.score(second)), (0.0, 0.0));
    scores.invalid_message(first, TOPIC);
    scores.invalid_message(second, TOPIC);
    assert_eq!((scores.score(first), scores.score(second)), (-1.0, -1.0));
    assert_eq!(scores.topic_score(first, TOPIC), -1.0);
}

#[test]
fn score_application_score() {
    let application = ApplicationConfig { weight: 0.5, magnitude_max: 80.0 };
    let mut scores = scores(ScoreConfig { application, ..only_topic(silent_topic()) });
    let peer = connect(&mut scores, Time::ZERO, 0);
    for value in -100..100 {
        scores.set_application_score(peer, f64::from(value));
        assert_close(scores.score(peer), 0.5 * f64::from(value.clamp(-80, 80)));
    }
    scores.set_application_score(peer, f64::NAN);
    assert_eq!(scores.score(peer), 0.0);
    scores.check();
}

fn colocated(allowed: Vec<IpNetwork>) -> Scores {
    scores(ScoreConfig {
        colocation: ColocationConfig { weight: -1.0, threshold: 1, allowed },
        ..only_topic(silent_topic())
    })
}

#[test]
fn score_ip_colocation() {
    let mut scores = colocated(Vec::new());
    let alone = connect_from(&mut scores, Time::ZERO, 0, IpAddr::from([1, 2, 3, 4]));
    let shared: IpAddr = [2, 3, 4, 5].into();
    let mapped: IpAddr = "::ffff:2.3.4.5".parse().expect("an address");
    let together = [
        connect_from(&mut scores, Time::ZERO, 1, shared),
        connect_from(&mut scores, Time::ZERO, 2, shared),
        connect_from(&mut scores, Time::ZERO, 3, mapped),
    ];
    assert_eq!(scores.score(alone), 0.0);
    assert_eq!(together.map(|peer| scores.score(peer)), [-4.0; 3]);
    scores.disconnected(Time::ZERO, together[0]);
    assert_eq!(scores.score(together[1]), -1.0);
    scores.disconnected(Time::ZERO, together[1]);
    assert_eq!(scores.score(together[2]), 0.0);
    scores.check();
}

#[test]
fn score_ip_colocation_counts_a_64_bit_prefix_as_one_address() {
    let mut scores = colocated(Vec::new());
    let at = |text: &str| text.parse::<IpAddr>().expect("an address");
    let one = connect_from(&mut scores, Time::ZERO, 0, at("2001:db8:1:2::1"));
    let two = connect_from(&mut scores, Time::ZERO, 1, at("2001:db8:1:2:ffff::9"));
    let other = connect_from(&mut scores, Time::ZERO, 2, at("2001:db8:1:3::1"));
    assert_eq!([one, two, other].map(|peer| scores.score(peer)), [-1.0, -1.0, 0.0]);
}

#[test]
fn score_ip_colocation_whitelist() {
    let network = IpNetwork { address: IpAddr::from([2, 3, 0, 0]), prefix_bits: 16 };
    let mut scores = colocated(vec![network, IpNetwork::LOOPBACK_V6]);
    let inside: Vec<PeerHandle> =
        (0..4).map(|slot| connect_from(&mut scores, Time::ZERO, slot, IpAddr::from([2, 3, 4, 5]))).collect();
    let outside: Vec<PeerHandle> =
        (4..6).map(|slot| connect_from(&mut scores, Time::ZERO, slot, IpAddr::from([2, 4, 4, 5]))).collect();
    assert!(inside.iter().all(|peer| scores.score(*peer) == 0.0));
    assert!(outside.iter().all(|peer| scores.score(*peer) == -1.0));
    scores.check();
}

#[test]
fn score_behaviour_penalty() {
    let behaviour = BehaviourConfig { weight: -1.0, threshold: 1.0, decay: 0.99 };
    let mut scores = scores(ScoreConfig { behaviour, ..only_topic(silent_topic()) });
    scores.penalize(handle(0), 1);
    assert_eq!(scores.score(handle(0)), 0.0, "a peer that is not there cannot be penalised");
    let peer = connect(&mut scores, Time::ZERO, 0);
    assert_eq!(scores.score(peer), 0.0);
    scores.penalize(peer, 1);
    assert_eq!(scores.score(peer), 0.0, "up to the threshold breaches are free");
    scores.penalize(peer, 1);
    assert_eq!(scores.score(peer), -1.0);
    scores.penalize(peer, 1);
    assert_eq!(scores.score(peer), -4.0);
    scores.decay(Time::from_secs(1));
    let surplus = 3.0 * 0.99 - 1.0;
    assert_close(scores.score(peer), -surplus * surplus);
    scores.penalize(peer, u32::MAX);
    scores.check();
}

#[test]
fn score_retention() {
    let application = ApplicationConfig { weight: 1.0, magnitude_max: 1_000.0 };
    let mut scores = scores(ScoreConfig { application, ..only_topic(silent_topic()) });
    let peer = connect(&mut scores, Time::ZERO, 0);
    scores.set_application_score(peer, -1_000.0);
    assert_eq!(scores.score(peer), -1_000.0);
    scores.disconnected(Time::ZERO, peer);
    assert_eq!((scores.score(peer), scores.retained_len()), (0.0, 1));
    let back = connect(&mut scores, Time::from_millis(500), 0);
    assert_eq!((scores.score(back), scores.retained_len()), (-1_000.0, 0));
    scores.disconnected(Time::from_millis(500), back);
    let late = connect(&mut scores, Time::from_millis(1_500), 0);
    assert_eq!(scores.score(late), 0.0, "after the retention time the record is gone");
    scores.check();
}

#[test]
fn score_recap_topic_params() {
    let mut config = only_topic(first_deliveries(0.5, 200.0));
    config.other_topics = first_deliveries(0.5, 200.0);
    let mut scores = scores(config);
    let (full, low) = (connect(&mut scores, Time::ZERO, 0), connect(&mut scores, Time::ZERO, 1));
    deliver(&mut scores, Time::ZERO, full, 100);
    deliver(&mut scores, Time::ZERO, low, 20);
    let lower = TopicScoreConfig { weight: 2.0, ..first_deliveries(0.5, 50.0) };
    scores.set_topic_config(TOPIC, lower).expect("the new parameters are valid");
    assert_eq!((scores.score(full), scores.score(low)), (2.0 * 50.0, 2.0 * 20.0));
    scores.check();
}

#[test]
fn score_reset_topic_params() {
    let mut config = only_topic(invalid(0.5));
    config.other_topics = invalid(0.5);
    config.positive_max = 0.0;
    config.application.magnitude_max = 0.0;
    config.thresholds = Thresholds { gossip: -0.25, publish: -0.5, graylist: -1.0, ..config.thresholds };
    let mut scores = scores(config);
    let peer = connect(&mut scores, Time::ZERO, 0);
    scores.invalid_message(peer, TOPIC);
    assert_eq!(scores.score(peer), -1.0);
    let mut harsher =
        TopicScoreConfig { first_deliveries: first_deliveries(0.5, 1.0).first_deliveries, ..invalid(0.5) };
    harsher.invalid.weight = -10.0;
    scores.set_topic_config(TOPIC, harsher.clone()).expect("the new parameters are valid");
    assert_eq!(scores.score(peer), -10.0);
    harsher.invalid.weight = 10.0;
    scores.set_topic_config(TOPIC, harsher).expect_err("a penalty must not be positive");
    assert_eq!(scores.score(peer), -10.0, "a refused change changes nothing");
}
