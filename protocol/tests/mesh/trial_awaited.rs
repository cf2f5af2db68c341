//! Trials of a peer that stands still, or in which we do.

use crate::bench::config;
use crate::trial_link::{FAMILIAR, Link, STEP, Still};
use starling_protocol::mesh::Input;
use starling_protocol::time::Duration;

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
