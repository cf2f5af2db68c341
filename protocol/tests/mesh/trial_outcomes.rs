//! Trials of one peer: when they begin, how long they take, what counts for the peer and what against it.

use crate::bench::{config, message, other_topic, topic};
use crate::trial_link::{FAMILIAR, Link, OVER, STEP};
use starling_protocol::id::Direction;
use starling_protocol::mesh::{Input, Verdict};
use starling_protocol::message::Payload;
use starling_protocol::time::Duration;
use std::sync::Arc;

#[test]
fn patience_doubles_with_each_success_up_to_its_maximum() {
    let mut fewest = [u32::MAX; 4];
    for seed in 0..16 {
        let mut link = Link::new(config(), seed);
        for fewest in &mut fewest {
            *fewest = (*fewest).min(link.pass_trial());
        }
        assert_eq!(link.bench.mesh.counters().trials_passed, 4);
    }
    // The message that makes it suspect is not held back yet.
    assert_eq!(fewest, [9, 17, 33, 33]);
}

/// How a peer answers to a trial in which it does not bring what was held back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    /// It says something else.
    Spoke,
    /// It tried us by the same message: its copy comes when its own trial is over, and crosses ours.
    Crossed,
    /// It says nothing at all, and goes on.
    StoodStill,
    /// The same, and what it says when it goes on is that copy.
    StoodStillAndCrossed,
    /// It has never brought anything, says nothing at all, and goes on.
    StoodStillAsStranger,
}

/// All neighbours of a peer that is far from the publishers suspect it at the same time, and so do both ends of a link that is of use to neither: after
/// a trial in which both held the same message back, they hardly ever do that again.
#[test]
fn by_which_of_the_next_messages_a_suspect_is_tried_is_drawn() {
    let cases = [
        (Direction::Inbound, Answer::Spoke, 1..=3),
        (Direction::Outbound, Answer::Spoke, 1..=3),
        (Direction::Inbound, Answer::Crossed, 1..=3),
        (Direction::Outbound, Answer::Crossed, 4..=6),
        (Direction::Inbound, Answer::StoodStill, 1..=2),
        (Direction::Outbound, Answer::StoodStill, 1..=2),
        (Direction::Inbound, Answer::StoodStillAndCrossed, 1..=2),
        (Direction::Outbound, Answer::StoodStillAndCrossed, 4..=5),
        (Direction::Inbound, Answer::StoodStillAsStranger, 1..=3),
    ];
    for (direction, answer, expected) in cases {
        let (mut first, mut again) = ([0; 6], [0; 7]);
        for seed in 0..60 {
            let mut link = Link::with(direction, config(), seed);
            link.bench.pass(Duration::from_secs(1));
            if answer != Answer::StoodStillAsStranger {
                link.bring();
            }
            let (count, held) = link.until_held();
            first[count as usize - 8] += 1;
            if matches!(answer, Answer::Spoke | Answer::Crossed) {
                link.speak();
                link.bench.pass(OVER);
            } else {
                link.bench.pass(STEP);
                link.silence(Duration::from_millis(650));
            }
            if matches!(answer, Answer::Crossed | Answer::StoodStillAndCrossed) {
                link.bench.publish_from(link.tried, &held);
            }
            link.go_on();
            again[link.until_held().0 as usize] += 1;
        }
        assert!(first[0] == 0 && first[1..].iter().all(|count| *count >= 3), "{direction:?}: {first:?}");
        for (count, number) in again.iter().zip(0..) {
            assert_eq!(*count >= 10, expected.contains(&number), "{direction:?} {answer:?}: {again:?}");
        }
        assert_eq!(again[*expected.start()..=*expected.end()].iter().sum::<u32>(), 60, "{again:?}");
    }
}

/// Only what a peer was tried by last says that it held the same message back.
#[test]
fn who_sends_another_message_back_is_tried_as_soon_as_anybody() {
    let mut again = [0; 7];
    for seed in 0..100 {
        let mut link = Link::with(Direction::Outbound, config(), seed);
        link.bench.pass(Duration::from_secs(1));
        let (other, _) = link.publish();
        link.until_held();
        link.speak();
        link.bench.pass(OVER);
        link.bench.publish_from(link.tried, &other);
        again[link.until_held().0 as usize] += 1;
    }
    assert_eq!(again[1..=3].iter().sum::<u32>(), 100, "{again:?}");
}

/// What was drawn for a suspicion that has ended says nothing about the next one: who brings something between the two would know that it
/// is tried sooner.
#[test]
fn by_which_message_a_suspect_is_tried_is_drawn_each_time() {
    let mut second = [0; 6];
    for seed in 0..100 {
        let mut link = Link::new(config(), seed);
        let mut held = false;
        // The ninth is the first by which it may be tried.
        for _ in 0..9 {
            link.speak();
            held = link.publish().1;
            link.bench.pass(STEP);
        }
        if !held {
            link.bring();
            second[link.until_held().0 as usize - 8] += 1;
        }
    }
    assert!(second[0] == 0 && second[1..].iter().all(|count| *count >= 8), "{second:?}");
}

#[test]
fn what_is_repeated_and_comes_back_is_of_no_use() {
    for refused in [false, true] {
        repeat_to_a_mirror(refused);
    }
}

/// Messages of ours are repeated to who sends them back, and perhaps has said before that it does not want them.
fn repeat_to_a_mirror(refused: bool) {
    let mut link = Link::with_spare();
    let own: Vec<Arc<Payload>> = (0..30).map(|number| message(2_000_000 + number)).collect();
    own.iter().for_each(|payload| link.bench.publish(payload));
    link.bench.pass(Duration::from_secs(20));
    for payload in own {
        if refused {
            link.bench.idontwant_from(link.tried, &payload);
        }
        link.bench.input(Input::Repeat { payload: payload.clone() });
        link.bench.publish_from(link.tried, &payload);
        link.speak();
        link.publish();
        link.bench.pass(STEP);
    }
    assert!(link.bench.mesh.counters().trials > 0, "it brings nothing but what it was sent");
}

#[test]
fn every_other_message_is_held_back_from_who_has_failed() {
    let mut config = config();
    config.trial.strikes = u8::MAX;
    let mut link = Link::new(config, 1);
    link.fail_trial();
    let mut held = 0;
    for _ in 0..200 {
        link.speak();
        held += u32::from(link.publish().1);
        link.speak();
        link.bench.pass(OVER);
    }
    assert!((80..=120).contains(&held), "{held} of two hundred");
    assert_eq!(link.bench.mesh.counters().trials_failed, u64::from(held) + 1);
}

#[test]
fn a_trial_takes_some_round_trips_and_a_retransmission() {
    for (rtt_ms, trial_ms) in [(Some(10), 230), (Some(100), 500), (Some(1_000), 600), (None, 600)] {
        let mut link = Link::new(config(), 1);
        if let Some(rtt) = rtt_ms.map(Duration::from_millis) {
            link.bench.input(Input::Rtt { peer: link.tried, rtt });
        }
        let (_, payload) = link.until_held();
        let sent = link.bench.mesh.counters().messages_sent;
        link.bench.pass(Duration::from_millis(trial_ms - 1));
        assert_eq!(link.bench.copies_to(link.tried, &payload), 0, "{trial_ms} ms");
        link.bench.pass(Duration::from_millis(1));
        assert_eq!(link.bench.copies_to(link.tried, &payload), 1, "{trial_ms} ms");
        assert_eq!(link.bench.mesh.counters().messages_sent, sent + 1);
    }
}

#[test]
fn failures_count_until_a_success() {
    let mut link = Link::with_spare();
    link.fail_trial();
    link.fail_trial();
    link.pass_trial();
    link.fail_trial();
    link.fail_trial();
    // What it brings otherwise is not what was held back.
    link.bring();
    link.bring_copy();
    assert!(link.in_mesh());
    link.fail_trial();
    assert!(!link.in_mesh(), "the third");
    let counters = link.bench.mesh.counters();
    assert_eq!((counters.trials_passed, counters.trials_failed, counters.peers_gone), (1, 5, 0));
    // It has brought something and was there, so the backoff is neither the growing one nor the short one.
    assert_eq!(link.pruned_for_s(), Some(config().prune.backoff.as_secs()));
}

#[test]
fn who_has_brought_something_keeps_away_no_longer_the_second_time() {
    let mut link = Link::with_spare();
    for round in 0..2 {
        link.bring();
        for _ in 0..3 {
            link.fail_trial();
        }
        assert_eq!(link.pruned_for_s(), Some(60), "in round {round}");
        let spare = link.bench.mesh.mesh_peers(&topic()).iter().copied().find(|peer| !link.good.contains(peer));
        link.bench.disconnect(spare.expect("somebody took its place"));
        link.bench.pass(Duration::from_secs(63));
        assert!(link.in_mesh(), "there is nobody else");
        link.bench.subscriber();
    }
}

/// It is known from one mesh when it enters another.
#[test]
fn who_is_in_another_mesh_is_no_stranger() {
    let mut link = Link::with_spare();
    link.bench.input(Input::Rtt { peer: link.tried, rtt: Duration::from_millis(10) });
    link.bench.subscribe(link.tried, &other_topic());
    for _ in 0..FAMILIAR {
        link.bring();
        link.bench.pass(STEP);
    }
    link.until_held();
    link.bench.pass(STEP);
    link.silence(STEP * 10);
    link.bench.input(Input::Subscribe { topic: other_topic() });
    link.silence(STEP * 18);
    assert!(link.bench.mesh.mesh_peers(&other_topic()).contains(&link.tried) && link.in_mesh());
    link.silence(STEP * 3);
    assert!(!link.in_mesh(), "a second and a half is borne");
}

#[test]
fn another_message_is_not_held_back_and_does_not_pass_a_trial() {
    let mut link = Link::with_spare();
    link.until_held();
    for _ in 0..4 {
        assert!(!link.publish().1);
    }
    link.bring_copy();
    link.bench.pass(OVER);
    let counters = link.bench.mesh.counters();
    assert_eq!((counters.trials, counters.trials_passed, counters.trials_failed), (1, 0, 1));
}

/// It refused the message, so it was not sent it when its trial was over.
#[test]
fn what_was_held_back_is_no_success_when_the_trial_is_over() {
    let mut link = Link::with_spare();
    let (_, payload) = link.until_held();
    link.bench.idontwant_from(link.tried, &payload);
    link.bench.pass(STEP);
    link.silence(Duration::from_millis(650));
    assert_eq!(link.bench.copies_to(link.tried, &payload), 0);
    link.bench.publish_from(link.tried, &payload);
    assert_eq!(link.bench.mesh.counters().trials_passed, 0);
}

#[test]
fn by_a_message_that_others_may_refuse_nobody_is_judged() {
    let mut link = Link::with_spare();
    let mut within = 12;
    for disputed in [true, true, true, false] {
        let (count, held) = link.until_held();
        assert!(count <= within, "{count}");
        within = if disputed { 2 } else { 12 };
        let other = message(link.number - 2);
        let id = if disputed { held.id() } else { other.id() };
        link.bench.input(Input::Disputed { id });
        assert_eq!(link.bench.copies_to(link.tried, &held), usize::from(disputed), "it may depend on us");
        link.speak();
        link.bench.pass(OVER);
        assert_eq!(link.bench.copies_to(link.tried, &held), 1);
        assert_eq!(link.bench.mesh.counters().trials_failed, u64::from(!disputed));
    }
}

/// It is known only when its trial is over that others may refuse the message: what was said against the peer is taken back.
#[test]
fn a_failure_by_a_message_that_others_may_refuse_is_none() {
    let mut link = Link::with_spare();
    for _ in 0..10 {
        let (_, held) = link.until_held();
        link.speak();
        link.bench.pass(OVER);
        link.bench.input(Input::Disputed { id: held.id() });
    }
    assert!(link.in_mesh());
    (0..3).for_each(|_| link.fail_trial());
    assert!(!link.in_mesh());
}

#[test]
fn a_failure_awaited_by_a_message_that_others_may_refuse_is_none() {
    let mut link = Link::with_spare();
    for _ in 0..10 {
        let (_, held) = link.until_held();
        link.bench.pass(STEP);
        link.silence(Duration::from_millis(650));
        link.bench.input(Input::Disputed { id: held.id() });
        link.go_on();
    }
    assert!(link.in_mesh());
}

/// By what others may have had long ago nobody is tried, and nobody becomes a suspect.
#[test]
fn a_message_without_trial_says_nothing_about_anybody() {
    let mut link = Link::with_spare();
    for number in 0..40 {
        let payload = message(1_000 + number);
        link.bench.take();
        link.bench.publish_from(link.good[0], &payload);
        link.bench.judge(Verdict::AcceptWithoutTrial);
        assert_eq!(link.bench.copies_to(link.tried, &payload), 1);
        link.bench.pass(STEP);
    }
    let (count, _) = link.until_held();
    assert!(count > 8, "{count}");
}

#[test]
fn with_nobody_to_take_its_place_twice_as_many_failures_are_borne() {
    let mut link = Link::new(config(), 1);
    for _ in 0..5 {
        link.fail_trial();
    }
    assert!(link.in_mesh());
    link.fail_trial();
    assert!(!link.in_mesh());
    assert_eq!(link.pruned_for_s(), Some(config().prune.surplus_backoff.as_secs()), "it may come back soon");
}
