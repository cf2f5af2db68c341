//! What scoring promises beyond the specification.

use super::*;
use proptest::prelude::*;

fn blocks() -> TopicIndex {
    TopicIndex(1)
}

fn two_topics() -> Scores {
    Scores::new(ValidScoreConfig::default(), 2)
}

/// Gives the peer the best score that can be had.
fn bank_everything(scores: &mut Scores, peer: PeerHandle) {
    for topic in [TOPIC, blocks()] {
        scores.grafted(Time::ZERO, peer, topic);
    }
    scores.decay(Time::from_secs(100_000));
    for topic in [TOPIC, blocks()] {
        (0..10_000).for_each(|_| scores.first_delivery(Time::from_secs(100_000), peer, topic));
    }
    scores.set_application_score(peer, f64::MAX);
}

#[test]
fn three_rejections_graylist_whatever_was_banked_and_however_they_are_spread() {
    for spread in [[TOPIC; 3], [blocks(); 3], [TOPIC, blocks(), TOPIC], [blocks(), TOPIC, blocks()]] {
        let mut scores = two_topics();
        let peer = connect(&mut scores, Time::ZERO, 0);
        bank_everything(&mut scores, peer);
        assert_eq!(scores.score(peer), 200.0, "a hundred earned and a hundred given");
        spread.iter().for_each(|topic| scores.invalid_message(peer, *topic));
        // It still holds half a minute later.
        scores.decay(Time::from_secs(100_030));
        assert!(scores.score(peer) < scores.thresholds().graylist, "{spread:?} left {}", scores.score(peer));
    }
}

#[test]
fn one_rejection_outweighs_everything_on_its_topic() {
    let mut scores = two_topics();
    let peer = connect(&mut scores, Time::ZERO, 0);
    bank_everything(&mut scores, peer);
    scores.invalid_message(peer, blocks());
    assert!(scores.topic_score(peer, blocks()) < 0.0);
    assert!(scores.topic_score(peer, TOPIC) > 0.0, "the other topic's own score is unharmed");
}

fn with_deficits() -> Scores {
    let mut config = ScoreConfig::default();
    config.topics[1].mesh_deliveries = MeshDeliveriesConfig::relative_to_traffic();
    Scores::new(config.validate().expect("valid parameters"), 2)
}

/// CVE-2022-47547: good on one topic, silent on the other.
#[test]
fn withholding_one_topic_shows_in_its_score_whatever_is_earned_elsewhere() {
    let mut scores = with_deficits();
    let (honest, withholder) = (connect(&mut scores, Time::ZERO, 0), connect(&mut scores, Time::ZERO, 1));
    for peer in [honest, withholder] {
        scores.grafted(Time::ZERO, peer, TOPIC);
        scores.grafted(Time::ZERO, peer, blocks());
    }
    let mut out_after_s = None;
    for second in 1..=120 {
        let now = Time::from_secs(second);
        (0..20).for_each(|_| scores.first_delivery(now, withholder, TOPIC));
        scores.first_delivery(now, honest, blocks());
        scores.decay(now);
        scores.check();
        assert!(scores.topic_score(honest, blocks()) >= 0.0);
        if scores.topic_score(withholder, blocks()) < 0.0 {
            out_after_s.get_or_insert(second);
        }
    }
    let out_after_s = out_after_s.expect("the withholder is found out");
    assert!((30..=60).contains(&out_after_s), "found out after {out_after_s} s");
    assert!(scores.topic_score(withholder, TOPIC) > 48.0, "all the while the other topic is served perfectly");
    assert!(scores.rank(withholder, blocks()) < scores.rank(honest, blocks()));
}

#[test]
fn an_idle_network_prunes_nobody() {
    let mut scores = with_deficits();
    let (a, b) = (connect(&mut scores, Time::ZERO, 0), connect(&mut scores, Time::ZERO, 1));
    for peer in [a, b] {
        scores.grafted(Time::ZERO, peer, blocks());
    }
    // Much traffic by one of them, then none for a day, then a trickle by the other.
    (0..1_000).for_each(|_| scores.first_delivery(Time::from_secs(1), a, blocks()));
    (0..2).for_each(|_| scores.duplicate_delivery(Time::from_secs(1), b, blocks(), None));
    for second in 2..=86_400 {
        scores.decay(Time::from_secs(second));
        if second % 60 == 0 && second > 43_200 {
            scores.first_delivery(Time::from_secs(second), b, blocks());
        }
        if second > 600 {
            assert!(scores.topic_score(a, blocks()) >= 0.0 && scores.topic_score(b, blocks()) >= 0.0, "at {second} s");
        }
    }
}

#[test]
fn while_we_are_late_nobody_owes_deliveries_or_promises() {
    let mut config = ScoreConfig::default();
    config.topics[0].mesh_deliveries =
        MeshDeliveriesConfig { traffic_fraction: None, ..MeshDeliveriesConfig::relative_to_traffic() };
    config.behaviour.threshold = 0.0;
    let mut scores = Scores::new(config.validate().expect("valid parameters"), 2);
    let peer = connect(&mut scores, Time::ZERO, 0);
    scores.grafted(Time::ZERO, peer, TOPIC);
    scores.decay(Time::from_secs(40));
    assert!(scores.topic_score(peer, TOPIC) < 0.0);
    scores.suspend_deficits(Time::from_secs(60));
    scores.suspend_deficits(Time::from_secs(50));
    assert!(scores.topic_score(peer, TOPIC) >= 0.0);
    scores.broken_promises(Time::from_secs(59), peer, 3);
    scores.pruned(Time::from_secs(59), peer, TOPIC);
    assert!(scores.score(peer) >= 0.0);
    scores.penalize(peer, 1);
    assert_eq!(scores.score(peer), -10.0, "other breaches count as ever");
    scores.broken_promises(Time::from_secs(60), peer, 1);
    assert_eq!(scores.score(peer), -40.0, "afterwards promises count again");
    scores.check();
}

#[test]
fn ranking_ignores_waiting_and_what_was_earned_elsewhere() {
    let mut scores = two_topics();
    let peers = [0, 1, 2].map(|slot| connect(&mut scores, Time::ZERO, slot));
    let [sleeper, elsewhere, useful] = peers;
    scores.grafted(Time::ZERO, sleeper, TOPIC);
    scores.decay(Time::from_secs(10_000));
    scores.first_delivery(Time::from_secs(10_000), useful, TOPIC);
    (0..5).for_each(|_| scores.first_delivery(Time::from_secs(10_000), elsewhere, blocks()));
    assert!(scores.score(sleeper) > scores.score(useful) && scores.score(elsewhere) > scores.score(useful));
    assert_eq!(peers.map(|peer| scores.rank(peer, TOPIC)), [0.0, 0.0, 0.5]);
    scores.invalid_message(useful, blocks());
    assert_eq!(scores.rank(useful, TOPIC), -999.5, "penalties count from everywhere");
}

#[test]
fn at_most_the_threshold_of_peers_on_one_address_are_eligible_however_good_they_are() {
    let mut scores = two_topics();
    let peers: Vec<PeerHandle> =
        (0..6).map(|slot| connect_from(&mut scores, Time::ZERO, slot, IpAddr::from([9, 9, 9, 9]))).collect();
    for peer in &peers {
        bank_everything(&mut scores, *peer);
        scores.set_application_score(*peer, 0.0);
    }
    assert!(peers.iter().all(|peer| scores.score(*peer) < 0.0));
    scores.disconnected(Time::from_secs(100_000), peers[0]);
    assert!(peers[1..].iter().all(|peer| scores.score(*peer) > 0.0));
}

#[test]
fn a_stale_handle_changes_nothing() {
    let mut scores = two_topics();
    let stale = connect(&mut scores, Time::ZERO, 0);
    scores.disconnected(Time::ZERO, stale);
    let current = PeerHandle { slot: 0, generation: 1 };
    scores.connected(Time::ZERO, current, PeerId::from_number(7), IpAddr::from([1, 1, 1, 1]));
    scores.invalid_message(stale, TOPIC);
    scores.penalize(stale, 100);
    scores.first_delivery(Time::ZERO, stale, TOPIC);
    scores.grafted(Time::ZERO, stale, TOPIC);
    scores.set_application_score(stale, -5.0);
    scores.disconnected(Time::ZERO, stale);
    assert_eq!(scores.score(current), 0.0);
    assert_eq!((scores.score(stale), scores.rank(stale, TOPIC), scores.topic_score(stale, TOPIC)), (0.0, 0.0, 0.0));
    assert!(scores.breakdown(stale).is_none() && scores.breakdown(current).is_some());
    let beyond = PeerHandle { slot: 1_000, generation: 0 };
    assert_eq!(scores.score(beyond), 0.0);
    scores.check();
}

#[test]
fn leaving_the_network_does_not_wash_penalties_away_and_keeps_no_merit() {
    let mut scores = two_topics();
    let (bad, good) = (connect(&mut scores, Time::ZERO, 0), connect(&mut scores, Time::ZERO, 1));
    scores.invalid_message(bad, TOPIC);
    scores.penalize(bad, 10);
    scores.first_delivery(Time::ZERO, good, TOPIC);
    let before = scores.score(bad);
    scores.disconnected(Time::ZERO, bad);
    scores.disconnected(Time::ZERO, good);
    assert_eq!(scores.retained_len(), 1);
    let (bad, good) =
        (connect(&mut scores, Time::from_secs(3_600), 0), connect(&mut scores, Time::from_secs(3_600), 1));
    assert_eq!((scores.score(bad), scores.score(good)), (before, 0.0), "what is retained does not decay");
    scores.check();
}

#[test]
fn retained_records_are_bounded_and_the_worst_stay_longest() {
    let mut config = ScoreConfig::default();
    config.retention.entries_max = 4;
    let mut scores = Scores::new(config.validate().expect("valid parameters"), 2);
    let worst = connect(&mut scores, Time::ZERO, 0);
    (0..3).for_each(|_| scores.invalid_message(worst, TOPIC));
    let score = scores.score(worst);
    scores.disconnected(Time::ZERO, worst);
    for slot in 1..100 {
        let peer = connect(&mut scores, Time::ZERO, slot);
        scores.invalid_message(peer, TOPIC);
        scores.disconnected(Time::ZERO, peer);
        scores.check();
    }
    assert_eq!(scores.retained_len(), 4);
    let worst = connect(&mut scores, Time::ZERO, 0);
    assert_eq!(scores.score(worst), score);
}

#[test]
fn one_late_decay_equals_many_timely_ones() {
    let run = |steps: &[u64]| {
        let mut scores = two_topics();
        let peer = connect(&mut scores, Time::ZERO, 0);
        scores.grafted(Time::ZERO, peer, TOPIC);
        (0..50).for_each(|_| scores.first_delivery(Time::ZERO, peer, TOPIC));
        scores.invalid_message(peer, TOPIC);
        scores.penalize(peer, 20);
        steps.iter().for_each(|second| scores.decay(Time::from_secs(*second)));
        scores.check();
        scores.score(peer)
    };
    let every: Vec<u64> = (1..=90).collect();
    assert_close(run(&every), run(&[90]));
    assert_eq!(run(&[90]), run(&[90, 90, 90]), "decaying twice at one moment does nothing");
    assert!(run(&[u64::MAX]).is_finite());
}

#[test]
fn the_breakdown_adds_up() {
    let mut scores = two_topics();
    let peer = connect(&mut scores, Time::ZERO, 0);
    scores.grafted(Time::ZERO, peer, TOPIC);
    scores.first_delivery(Time::ZERO, peer, TOPIC);
    scores.first_delivery(Time::ZERO, peer, blocks());
    scores.invalid_message(peer, blocks());
    scores.penalize(peer, 9);
    scores.set_application_score(peer, 3.0);
    scores.decay(Time::from_secs(30));
    let parts = scores.breakdown(peer).expect("connected");
    let sum: f64 = parts.topics.iter().map(|topic| topic.score).sum();
    assert_close(sum + parts.application + parts.colocation + parts.behaviour, parts.total);
    assert_eq!(parts.total, scores.score(peer));
    for (index, topic) in parts.topics.iter().enumerate() {
        let each =
            [topic.time_in_mesh, topic.first_deliveries, topic.mesh_deliveries, topic.mesh_failure, topic.invalid];
        assert_close(each.iter().sum(), topic.score);
        assert_eq!((topic.topic, topic.in_mesh), (index, index == 0));
    }
}

proptest! {
    /// Relation 1, for any valid parameters rather than for the defaults.
    #[test]
    fn whatever_validates_graylists_after_three_rejections(
        weights in prop::array::uniform3(-2_000.0..0.0_f64),
        topic_weights in prop::array::uniform3(0.0..2.0_f64),
        positive_max in 0.0..500.0_f64,
        graylist in -3_000.0..-1.0_f64,
        spread in prop::array::uniform3(0_u8..5),
    ) {
        let topic = |index: usize| TopicScoreConfig {
            weight: topic_weights[index],
            positive_max,
            invalid: PenaltyConfig { weight: weights[index], decay: 0.9 },
            ..TopicScoreConfig::transactions()
        };
        let config = ScoreConfig {
            topics: vec![topic(0), topic(1)],
            other_topics: topic(2),
            positive_max,
            colocation: ColocationConfig { weight: -501.0, threshold: 1, allowed: Vec::new() },
            thresholds: Thresholds { gossip: -0.25, publish: -0.5, graylist, ..Thresholds::default() },
            ..ScoreConfig::default()
        };
        let Ok(valid) = config.validate() else { return Ok(()) };
        let mut scores = Scores::new(valid, 5);
        let peer = connect(&mut scores, Time::ZERO, 0);
        bank_everything(&mut scores, peer);
        spread.iter().for_each(|topic| scores.invalid_message(peer, TopicIndex(*topic)));
        prop_assert!(scores.score(peer) < graylist);
    }
}
