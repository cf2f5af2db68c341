//! Trials of one peer, step by step: when they begin, how long they take, what counts for the peer and what against it.

use crate::bench::{Bench, config, message, other_topic, topic};
use starling_protocol::id::{Direction, PeerHandle, Version};
use starling_protocol::mesh::{Input, MeshConfig, Verdict};
use starling_protocol::message::Payload;
use starling_protocol::rpc::Frame;
use starling_protocol::time::Duration;
use std::sync::Arc;

/// Between two messages.
const STEP: Duration = Duration::from_millis(50);
/// So many messages long a peer has to be heard to be known.
const FAMILIAR: u32 = 480;
/// Longer than any trial, and than the time between two looks at a peer that is awaited.
const OVER: Duration = Duration::from_millis(1_100);

/// A mesh of four that bring everything, and one that is tried.
struct Link {
    bench: Bench,
    good: Vec<PeerHandle>,
    tried: PeerHandle,
    number: u64,
}

/// How a peer stands still in a trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Still {
    /// It says nothing from the beginning of the trial to long after its end.
    Wholly,
    /// It says something when the trial has begun, and nothing after that.
    SpokeFirst,
}

impl Link {
    fn new(config: MeshConfig, seed: u8) -> Self {
        Self::with(Direction::Inbound, config, seed)
    }

    /// With one that has dialled us or that we have dialled.
    fn with(direction: Direction, config: MeshConfig, seed: u8) -> Self {
        let mut bench = Bench::seeded(config, seed);
        bench.input(Input::Subscribe { topic: topic() });
        let good = (0..4).map(|_| bench.subscriber_of(Direction::Outbound, Version::V1_2)).collect();
        let tried = bench.subscriber_of(direction, Version::V1_2);
        bench.heartbeat();
        bench.take();
        assert_eq!(bench.mesh.mesh_degree(&topic()), 5);
        Self { bench, good, tried, number: 0 }
    }

    /// With somebody who could take the place of who is tried.
    fn with_spare() -> Self {
        let mut link = Self::new(config(), 1);
        link.bench.subscriber();
        link
    }

    /// Something comes from who is tried that brings nothing.
    fn speak(&mut self) {
        self.bench.idontwant_from(self.tried, &message(1_000_000 + self.number));
    }

    /// The others bring a message; whether it is held back from who is tried.
    fn publish(&mut self) -> (Arc<Payload>, bool) {
        self.bench.take();
        self.finish()
    }

    /// The others bring the next message, and it is accepted.
    fn finish(&mut self) -> (Arc<Payload>, bool) {
        let payload = message(self.number);
        self.number += 1;
        self.good.iter().for_each(|peer| self.bench.publish_from(*peer, &payload));
        self.bench.judge(Verdict::Accept);
        let held = self.in_mesh() && self.bench.copies_to(self.tried, &payload) == 0;
        (payload, held)
    }

    /// For so long messages come, and nothing from who is tried.
    fn silence(&mut self, duration: Duration) {
        for _ in 0..duration.as_millis() / STEP.as_millis() {
            self.publish();
            self.bench.pass(STEP);
        }
    }

    /// Messages come until one is held back from who is tried, which speaks until then; how many, and the last of them.
    fn until_held(&mut self) -> (u32, Arc<Payload>) {
        for count in 1..200 {
            self.speak();
            let (payload, held) = self.publish();
            if held {
                return (count, payload);
            }
            self.bench.pass(STEP);
        }
        panic!("it is not tried");
    }

    /// It passes a trial; how many messages it took to begin.
    fn pass_trial(&mut self) -> u32 {
        let (count, payload) = self.until_held();
        self.bench.publish_from(self.tried, &payload);
        count
    }

    /// It fails in a trial: it is there and brings nothing.
    fn fail_trial(&mut self) {
        self.until_held();
        self.speak();
        self.bench.pass(OVER);
    }

    /// It stands still in a trial, and goes on without having brought anything.
    fn stand_still(&mut self, still: Still) {
        self.until_held();
        self.bench.pass(STEP);
        if still == Still::SpokeFirst {
            self.publish();
            self.speak();
        }
        self.silence(Duration::from_millis(650));
    }

    fn go_on(&mut self) {
        self.speak();
        // Where no message comes, time stands still, and no other trial begins.
        self.bench.pass(OVER);
    }

    /// It is the first to bring a message.
    fn bring(&mut self) {
        self.bench.take();
        self.bench.publish_from(self.tried, &message(self.number));
        self.finish();
    }

    /// It brings a copy of a message that it was not sent, because it said that it need not be.
    fn bring_copy(&mut self) {
        let next = message(self.number);
        self.bench.idontwant_from(self.tried, &next);
        self.publish();
        self.bench.publish_from(self.tried, &next);
    }

    fn in_mesh(&self) -> bool {
        self.bench.in_mesh(self.tried)
    }

    /// The backoff in the PRUNE that it was sent since the last message, if it was.
    fn pruned_for_s(&self) -> Option<u64> {
        let backoff = |frame| if let Frame::Prune(prune) = frame { prune.backoff_seconds } else { None };
        self.bench.frames_to(self.tried).into_iter().find_map(backoff)
    }
}

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

#[test]
fn a_trial_in_which_we_were_away_is_no_failure() {
    let mut link = Link::with_spare();
    for _ in 0..8 {
        link.until_held();
        link.speak();
        link.bench.starve(Duration::from_secs(2));
    }
    let counters = link.bench.mesh.counters();
    assert_eq!((counters.trials, counters.trials_failed), (8, 0));
    assert!(link.in_mesh());
}

/// Half of the trial's 600 ms.
#[test]
fn who_was_silent_for_half_of_its_trial_stands_still() {
    for (silence_ms, failed) in [(100, 1), (250, 1), (300, 0), (550, 0)] {
        let mut link = Link::with_spare();
        link.until_held();
        link.bench.pass(STEP - Duration::from_millis(1));
        link.silence(Duration::from_millis(550 - silence_ms));
        link.publish();
        link.speak();
        link.bench.pass(STEP);
        link.silence(Duration::from_millis(silence_ms - 50));
        // Time is lived with messages: this one comes just before the trial ends.
        link.publish();
        link.bench.pass(STEP);
        assert_eq!(link.bench.mesh.counters().trials_failed, failed, "{silence_ms} ms");
    }
}

#[test]
fn standing_still_counts_for_half_until_something_is_brought() {
    for late in [false, true] {
        let mut link = Link::with_spare();
        link.bring();
        for round in 0..2 {
            for _ in 0..5 {
                link.stand_still(Still::Wholly);
                link.go_on();
            }
            assert!(link.in_mesh(), "late {late}, in round {round}");
            if round == 0 {
                if late { link.bring_copy() } else { link.bring() }
            }
        }
        link.stand_still(Still::Wholly);
        link.go_on();
        assert!(!link.in_mesh(), "six halves are three failures");
        assert_eq!(link.bench.mesh.counters().trials_failed, 0);
        assert_eq!(link.bench.mesh.counters().peers_gone, 0);
    }
}

/// Where few messages come, who says nothing for the time of a trial mostly has nothing to say.
#[test]
fn standing_still_is_a_failure_of_who_has_never_brought_anything() {
    let mut link = Link::with_spare();
    for _ in 0..3 {
        assert!(link.in_mesh());
        link.stand_still(Still::Wholly);
        link.go_on();
    }
    assert!(!link.in_mesh());
}

/// When what a peer was tried by comes after its trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Late {
    /// It spoke in the trial, and was sent the message when that was over.
    Crossing,
    /// It did not want the message, so it was not sent it.
    Refused,
    /// The same, and the message comes so late that it is of no use.
    RefusedAndUseless,
    /// It said nothing until then, and is judged when it goes on.
    Awaited,
}

/// The other end may have tried us by the same message, it may be a large one, or a segment of it was lost.
#[test]
fn what_comes_after_its_trial_makes_a_failure_half_of_one() {
    for direction in [Direction::Inbound, Direction::Outbound] {
        for late in [Late::Crossing, Late::Refused, Late::RefusedAndUseless, Late::Awaited] {
            for brings in [false, true] {
                let mut link = Link::with(direction, config(), 1);
                link.bench.subscriber();
                // A failure is a whole one until the copy has come. Who stands still is judged when it goes on.
                let borne = if late == Late::Awaited { 6 } else { 5 };
                for halves in 0..borne {
                    assert!(link.in_mesh(), "after {halves} halves: {direction:?}, {late:?}, brings {brings}");
                    let (_, held) = link.until_held();
                    if matches!(late, Late::Refused | Late::RefusedAndUseless) {
                        link.bench.idontwant_from(link.tried, &held);
                    }
                    match late {
                        Late::Awaited => {
                            link.bench.pass(STEP);
                            link.silence(Duration::from_millis(650));
                        }
                        Late::Crossing | Late::RefusedAndUseless => {
                            link.speak();
                            link.bench.pass(OVER);
                        }
                        Late::Refused => {
                            link.speak();
                            link.bench.pass(Duration::from_millis(700));
                        }
                    }
                    link.bench.publish_from(link.tried, &held);
                    link.go_on();
                    // Who has brought something before it stands still is judged by that.
                    if brings && late != Late::Awaited {
                        link.bring();
                    }
                }
                assert!(!link.in_mesh(), "{direction:?}, {late:?}, brings {brings}");
            }
        }
    }
}

/// Nothing was counted, so nothing is taken back.
#[test]
fn a_late_copy_takes_back_nothing_of_another_failure() {
    let mut link = Link::with_spare();
    link.fail_trial();
    for _ in 0..2 {
        let (_, held) = link.until_held();
        link.speak();
        link.bench.starve(Duration::from_secs(2));
        link.bench.publish_from(link.tried, &held);
    }
    assert_eq!(link.bench.mesh.counters().trials_failed, 1);
    link.fail_trial();
    assert!(link.in_mesh());
    link.fail_trial();
    assert!(!link.in_mesh());
}

/// A second after a message was accepted whoever announces it has brought it.
#[test]
fn a_copy_that_comes_too_late_is_of_no_use() {
    for (late_ms, trials) in [(1_000, 0), (1_001, 1)] {
        let mut link = Link::with_spare();
        for _ in 0..6 {
            for _ in 0..6 {
                link.speak();
                link.publish();
                link.bench.pass(STEP);
            }
            let next = message(link.number);
            link.bench.idontwant_from(link.tried, &next);
            link.publish();
            link.speak();
            link.bench.pass(Duration::from_millis(late_ms));
            link.bench.publish_from(link.tried, &next);
        }
        let counters = link.bench.mesh.counters();
        assert_eq!(counters.trials.min(1), trials, "{late_ms} ms: {counters:?}");
    }
}

/// Where messages come fast the next trial has begun before the copy of the other end can have come.
#[test]
fn a_copy_that_crosses_ends_the_next_trial_without_a_verdict() {
    for direction in [Direction::Inbound, Direction::Outbound] {
        let mut link = Link::with(direction, config(), 1);
        let (_, first) = link.until_held();
        link.speak();
        link.bench.pass(OVER);
        let (_, second) = link.until_held();
        assert_eq!(link.bench.mesh.counters().trials_failed, 1);
        link.bench.take();
        link.bench.publish_from(link.tried, &first);
        let voided = direction == Direction::Outbound;
        assert_eq!(link.bench.copies_to(link.tried, &second), usize::from(voided), "it may depend on us");
        link.speak();
        link.bench.pass(OVER);
        assert_eq!(link.bench.mesh.counters().trials_failed, if voided { 1 } else { 2 });
        // Once for each failure: sending it again does nothing.
        let (passed, third) = link.until_held();
        assert!(!voided || (4..=6).contains(&passed), "{passed}");
        link.bench.publish_from(link.tried, &first);
        link.speak();
        link.bench.pass(OVER);
        assert_eq!(link.bench.copies_to(link.tried, &third), 1);
        assert_eq!(link.bench.mesh.counters().trials_failed, if voided { 2 } else { 3 });
    }
}

/// It need not speak just before it is looked at: who says something each half a second might never be judged.
#[test]
fn who_has_spoken_since_it_is_awaited_goes_on() {
    let mut link = Link::with_spare();
    // Known for long, and near.
    for _ in 0..FAMILIAR {
        link.bring();
        link.bench.pass(STEP);
    }
    link.bench.input(Input::Rtt { peer: link.tried, rtt: Duration::from_millis(10) });
    link.stand_still(Still::Wholly);
    let mut halves_s = 0;
    while link.in_mesh() {
        link.speak();
        link.silence(STEP * 10);
        halves_s += 1;
        assert!(halves_s < 50, "for 25 s it spoke and brought nothing");
    }
    assert_eq!(link.bench.mesh.counters().peers_gone, 0);
}

#[test]
fn who_spoke_in_its_trial_before_it_stood_still_has_failed() {
    let mut link = Link::with_spare();
    for _ in 0..3 {
        assert!(link.in_mesh());
        link.stand_still(Still::SpokeFirst);
        link.go_on();
    }
    assert!(!link.in_mesh());
}

/// What it said may have been said while we were away, or it may have been kept from speaking as we were.
#[test]
fn who_spoke_in_a_trial_in_which_we_were_away_has_stood_still() {
    let mut link = Link::with_spare();
    link.bring();
    let (mut still, mut tries) = (0, 0);
    while still < 5 {
        assert!(link.in_mesh(), "after {still} halves of a failure");
        link.until_held();
        link.bench.pass(STEP);
        link.publish();
        link.speak();
        let heartbeat = link.bench.mesh.next_wake().expect("a heartbeat at least").0.since(link.bench.now);
        if heartbeat > STEP * 4 {
            // It is too late for a heartbeat that is late, and in time for the end of the trial: the next one begins at another time.
            link.bench.starve(Duration::from_secs(2));
            tries += 1;
            assert!(tries < 100, "no heartbeat is due soon");
            link.bench.pass(Duration::from_millis(7 * tries));
            continue;
        }
        link.bench.starve(heartbeat + STEP * 3);
        link.silence(Duration::from_millis(600));
        link.go_on();
        still += 1;
    }
    assert!(link.in_mesh());
    assert_eq!(link.bench.mesh.counters().trials_failed, 0);
}

/// More of what came meanwhile may be unread, and among it what is brought.
#[test]
fn who_is_awaited_is_not_judged_by_the_first_that_is_read_after_we_were_away() {
    for brings in [true, false] {
        let mut link = Link::with_spare();
        link.bring();
        for _ in 0..5 {
            link.stand_still(Still::Wholly);
            link.go_on();
        }
        link.stand_still(Still::Wholly);
        link.bench.starve(Duration::from_secs(2));
        link.publish();
        link.speak();
        // It is looked at, and what is read since does not take long enough yet.
        link.bench.pass(Duration::from_millis(60));
        assert!(link.in_mesh(), "five halves are no three failures");
        if brings {
            link.bring();
        }
        link.silence(Duration::from_millis(300));
        assert_eq!(link.in_mesh(), brings, "six halves are three failures, but not of who brings something");
    }
}

#[test]
fn nothing_is_said_against_who_is_awaited_and_brings_something() {
    let mut link = Link::with_spare();
    for _ in 0..8 {
        link.stand_still(Still::SpokeFirst);
        link.bring();
        link.go_on();
    }
    assert!(link.in_mesh());
}

/// Its silence after that is as anybody's who is not suspect: nobody looks.
#[test]
fn who_brings_a_copy_is_awaited_no_more() {
    let mut link = Link::with_spare();
    // Known for long.
    for _ in 0..FAMILIAR {
        link.bring();
        link.bench.pass(STEP);
    }
    // A pause so short makes nothing else bearable.
    link.bench.input(Input::Rtt { peer: link.tried, rtt: Duration::from_millis(10) });
    link.until_held();
    link.bench.pass(STEP);
    link.silence(STEP * 4);
    link.bring_copy();
    for _ in 0..8 {
        link.publish();
        link.bench.pass(STEP * 5);
    }
    assert!(link.in_mesh());
    assert_eq!(link.bench.mesh.counters().peers_gone, 0);
}

#[test]
fn who_is_awaited_is_looked_at_when_what_is_borne_is_over_and_each_second() {
    // Nobody knows it, and it goes on long before it would be gone.
    let mut link = Link::with_spare();
    link.bench.input(Input::Rtt { peer: link.tried, rtt: Duration::from_millis(10) });
    link.stand_still(Still::Wholly);
    let trials = link.bench.mesh.counters().trials;
    for _ in 0..40 {
        link.speak();
        link.publish();
        link.bench.pass(STEP);
    }
    assert!(link.bench.mesh.counters().trials > trials, "it is tried again");

    // It is known for long, and does not go on. That it has failed before is no news of its being gone.
    let mut link = Link::with_spare();
    link.bench.input(Input::Rtt { peer: link.tried, rtt: Duration::from_millis(10) });
    for _ in 0..FAMILIAR {
        link.bring();
        link.bench.pass(STEP);
    }
    link.fail_trial();
    link.until_held();
    link.bench.pass(STEP);
    // The message that it is tried by may have been the first for long, and counts for a quarter of a second then.
    link.silence(Duration::from_millis(1_150));
    assert!(link.in_mesh());
    link.silence(Duration::from_millis(400));
    assert!(!link.in_mesh(), "a second and a half is borne");
    assert_eq!(link.bench.mesh.counters().peers_gone, 1);
}

/// For how long who is gone has to keep away, by how long ago it brought something.
#[test]
fn who_is_gone_and_brought_something_of_late_may_come_back_soon() {
    let prune = config().prune;
    for (idle_s, backoff) in [(1, prune.surplus_backoff), (50, prune.surplus_backoff), (70, prune.backoff)] {
        let mut link = Link::with_spare();
        link.bring();
        link.bench.pass(Duration::from_secs(idle_s));
        let mut found = None;
        for _ in 0..200 {
            link.publish();
            link.bench.pass(STEP);
            found = link.pruned_for_s();
            if found.is_some() {
                break;
            }
        }
        assert_eq!(found, Some(backoff.as_secs()), "{idle_s} s");
        assert_eq!(link.bench.mesh.counters().peers_gone, 1);
    }
}
