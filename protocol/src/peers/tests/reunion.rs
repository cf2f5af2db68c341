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

#[test]
fn a_quarter_of_the_peers_is_a_cut_and_fewer_are_not() {
    for (lost, missed) in [(2, 0), (3, 3)] {
        let mut book = connected();
        lose(&mut book, Time::from_secs(100), 1..=lost);
        assert_eq!(book.missed(), missed, "{lost} of twelve");
    }
    let mut book = book(8);
    for number in 1..=3 {
        hear(&mut book, Time::ZERO, number);
        connect(&mut book, Time::ZERO, number, Direction::Outbound);
    }
    lose(&mut book, Time::from_secs(100), 1..=1);
    assert_eq!(book.missed(), 0, "one of three, but only one");
    // The same one again is one still.
    connect(&mut book, Time::from_secs(101), 1, Direction::Outbound);
    lose(&mut book, Time::from_secs(102), 1..=1);
    assert_eq!(book.missed(), 0);
    lose(&mut book, Time::from_secs(103), 2..=2);
    assert_eq!(book.missed(), 2);
}

#[test]
fn who_is_connected_again_is_not_missed_and_a_quarter_of_them_is_enough() {
    let mut book = connected();
    let cut = Time::from_secs(100);
    lose(&mut book, cut, 1..=1);
    connect(&mut book, cut, 1, Direction::Inbound);
    lose(&mut book, cut, 2..=9);
    assert_eq!(book.missed(), 8, "the first is back");
    let healed = cut + Duration::from_secs(1);
    connect(&mut book, healed, 2, Direction::Outbound);
    assert_eq!(book.missed(), 7, "an eighth");
    let found = book.candidates.get(&PeerId::from_number(2)).expect("connected");
    assert!(found.addresses.is_empty(), "the tables know its addresses");
    connect(&mut book, healed, 3, Direction::Outbound);
    assert_eq!(book.missed(), 0, "a quarter");
    // What was lost before does not count towards the next cut.
    lose(&mut book, healed, 10..=10);
    assert_eq!(book.missed(), 0);
}

#[test]
fn the_cut_ends_the_waits_of_those_who_had_failed() {
    let mut book = connected();
    let id = PeerId::from_number(1);
    lose(&mut book, Time::from_secs(100), 1..=1);
    // It is dialled now and then, and put off for longer each time.
    book.candidates.change(id, |it| it.retry_at = Time::from_secs(1_000)).expect("it was connected");
    lose(&mut book, Time::from_secs(110), 2..=4);
    let dials = fail_for(&mut book, Time::from_secs(110), Duration::from_secs(10));
    assert!(dials.iter().any(|(_, other)| *other == id), "{dials:?}");
}

#[test]
fn at_most_half_of_the_dials_in_flight_are_of_those_who_are_missed() {
    let mut book = book(30);
    for number in 1..=30 {
        hear(&mut book, Time::ZERO, number);
        connect(&mut book, Time::ZERO, number, Direction::Outbound);
    }
    for number in 41..=50 {
        connect(&mut book, Time::ZERO, number, Direction::Outbound);
    }
    let cut = Time::from_secs(100);
    lose(&mut book, cut, 1..=30);
    for number in 51..=80 {
        connect(&mut book, cut, number, Direction::Outbound);
    }
    let (mut now, mut dialled) = (cut, 0);
    // Nobody answers, and no dial has failed yet.
    while now < cut + Duration::from_secs(15) {
        dialled += wake(&mut book, now).0.len();
        let next = book.next_wake();
        assert!(next > now, "woken in vain at {now:?}");
        now = next.min(now + Duration::from_secs(1));
    }
    assert_eq!(dialled, book.config.dials_max / 2);
    // However often it is woken for something else.
    book.wake = now;
    assert_eq!(wake(&mut book, now + Duration::from_secs(1)).0, []);
}

#[test]
fn after_an_hour_a_wake_ends_it() {
    let mut book = connected();
    let cut = Time::from_secs(100);
    lose(&mut book, cut, 1..=4);
    // Nothing else is due then: nobody can be dialled.
    let end = cut + MISSED_FOR;
    for number in 1..=4 {
        let id = PeerId::from_number(number);
        book.candidates.change(id, |it| it.retry_at = end + Duration::from_secs(100)).expect("missed");
    }
    assert_eq!(book.next_missed(), Some(end));
}
