//! Those who were lost together.

use super::*;
use crate::peers::reunion::{LOST_WITHIN, MISSED_FOR, MISSED_SPACING};

/// A book with a target of eight that is connected with twelve peers, of which it dialled every other one.
fn connected() -> PeerBook {
    let mut book = book(8);
    for number in 1..=12 {
        hear(&mut book, Time::ZERO, number);
        let direction = if number % 2 == 0 { Direction::Inbound } else { Direction::Outbound };
        connect(&mut book, Time::ZERO, number, direction);
    }
    wake(&mut book, Time::ZERO);
    book
}

fn lose(book: &mut PeerBook, now: Time, numbers: core::ops::RangeInclusive<u64>) {
    for number in numbers {
        book.disconnected(now, PeerId::from_number(number));
        book.check();
    }
}

/// Lets time pass; every dial fails after a while. Says when each dial began.
fn fail_for(book: &mut PeerBook, from: Time, duration: Duration) -> Vec<(Time, PeerId)> {
    let (mut now, end, mut dials, mut failing) = (from, from + duration, Vec::new(), Vec::new());
    while now < end {
        for id in wake(book, now).0 {
            dials.push((now, id));
            failing.push((now + Duration::from_secs(3), id));
        }
        while let Some((at, id)) = failing.first().copied().filter(|(at, _)| *at <= now) {
            failing.remove(0);
            book.dial_failed(at, id);
        }
        now = (now + Duration::from_millis(50)).min(end);
    }
    dials
}

#[test]
fn many_that_are_lost_at_once_are_dialled_beyond_the_target_until_some_are_back() {
    let mut book = connected();
    let cut = Time::from_secs(100);
    lose(&mut book, cut, 1..=4);
    // Eight are left, which is the target; after ten minutes they still are looked for as often.
    let dials = fail_for(&mut book, cut, Duration::from_secs(600));
    let late = |number| {
        let id = PeerId::from_number(number);
        dials.iter().filter(|(at, other)| *other == id && at.since(cut) > Duration::from_secs(540)).count()
    };
    assert!((1..=4).all(|number| (4..=9).contains(&late(number))), "{:?}", (1..=4).map(late).collect::<Vec<_>>());
    assert!((5..=12).all(|number| late(number) == 0));
    let healed = cut + Duration::from_secs(610);
    connect(&mut book, healed, 3, Direction::Outbound);
    assert_eq!(fail_for(&mut book, healed, Duration::from_secs(60)), [], "one of four is back, and the target decides");
}

#[test]
fn those_that_go_one_by_one_are_not_missed() {
    let mut book = connected();
    for number in 1..=4 {
        let now = Time::from_secs(100) + LOST_WITHIN * 2 * u32::try_from(number).expect("small");
        lose(&mut book, now, number..=number);
    }
    let dials = fail_for(&mut book, Time::from_secs(400), Duration::from_secs(60));
    assert_eq!(dials, [], "eight are left");
}

#[test]
fn those_that_we_sent_away_are_not_missed() {
    let mut book = connected();
    (1..=4).for_each(|number| book.sent_away(PeerId::from_number(number)));
    lose(&mut book, Time::from_secs(100), 1..=4);
    assert_eq!(fail_for(&mut book, Time::from_secs(100), Duration::from_secs(60)), []);
}

#[test]
fn missed_peers_take_half_of_the_dials_and_not_for_ever() {
    let mut book = connected();
    let cut = Time::from_secs(100);
    lose(&mut book, cut, 1..=12);
    let dials = fail_for(&mut book, cut, Duration::from_secs(30));
    assert!(dials.is_sorted_by_key(|(at, _)| *at));
    for number in 21..=28 {
        hear(&mut book, cut, number);
        connect(&mut book, cut + Duration::from_secs(31), number, Direction::Outbound);
    }
    let missed: Vec<Time> = fail_for(&mut book, cut + Duration::from_secs(40), Duration::from_secs(60))
        .into_iter()
        .map(|(at, _)| at)
        .collect();
    assert!(missed.len() > 12, "with the target reached they are still sought, {} times", missed.len());
    assert!(missed.windows(2).all(|two| two[1].since(two[0]) >= MISSED_SPACING), "they are spread: {missed:?}");
    let end = cut + MISSED_FOR;
    assert_eq!(fail_for(&mut book, end + Duration::from_secs(1), Duration::from_secs(60)), []);
}
