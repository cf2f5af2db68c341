//! What a peer was tried by, and what else it brings, when it comes late.

use crate::bench::{config, message};
use crate::trial_link::{Link, OVER, STEP};
use starling_protocol::id::Direction;
use starling_protocol::time::Duration;

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
