//! A node whose peers are of no use.

use super::*;
use crate::peers::book::acquaintances::PROVEN;
use crate::peers::renewal::{IDLE_TURNS, RENEWED, RENEWED_IN_SILENCE};

/// How long a turn takes.
const TURN: Duration = Duration::from_secs(6);

/// A book that is connected with these, all of which it has dialled, and knows forty others.
fn connected(numbers: core::ops::RangeInclusive<u64>) -> PeerBook {
    let config = PeerConfig { candidates_max: 96, ..PeerConfig::for_target(8) };
    let mut book = PeerBook::new(config.into(), PeerId::from_number(0), Stream::from_seed([7; 32]), Time::ZERO);
    (60..100).for_each(|number| hear(&mut book, Time::ZERO, number));
    for number in numbers {
        hear(&mut book, Time::ZERO, number);
        connect(&mut book, Time::ZERO, number, Direction::Outbound);
    }
    book
}

/// One turn after the other in which no link is replaced, and those of these numbers are of use. Says when it is then.
fn quiet(book: &mut PeerBook, from: Time, turns: u8, of_use: &[u64]) -> Time {
    let mut now = from;
    for _ in 0..turns {
        now = now + TURN;
        assert_eq!(turn(book, now, 0, of_use), [], "nothing is wrong");
    }
    now
}

/// A turn by the end of which so many links have been replaced; the numbers of those who are to go.
fn turn(book: &mut PeerBook, now: Time, replaced: u64, of_use: &[u64]) -> Vec<u64> {
    let gone = book.renew(now, replaced, |id| Some(of_use.iter().any(|number| PeerId::from_number(*number) == *id)));
    book.check();
    (1..100).filter(|number| gone.contains(&PeerId::from_number(*number))).collect()
}

#[test]
fn who_was_idle_for_long_makes_room_when_links_are_replaced() {
    let mut book = connected(1..=10);
    connect(&mut book, Time::ZERO, 11, Direction::Inbound);
    let now = quiet(&mut book, Time::ZERO, IDLE_TURNS, &[1, 2]);
    // A newcomer has had no time to be of use.
    connect(&mut book, now, 12, Direction::Outbound);
    let now = now + TURN;
    let gone = turn(&mut book, now, 2, &[1, 2]);
    assert_eq!(gone.len(), 2 * RENEWED, "for each that was replaced");
    assert!(gone.iter().all(|number| (3..=10).contains(number)), "{gone:?}: idle, and of our choosing");
    assert_eq!(turn(&mut book, now + TURN, 2, &[1, 2]), [], "none was replaced since");
}

#[test]
fn turns_have_to_be_in_a_row_and_outside_of_the_mesh() {
    let mut book = connected(1..=3);
    let now = quiet(&mut book, Time::ZERO, IDLE_TURNS - 1, &[]);
    let now = quiet(&mut book, now, 1, &[1]);
    // The second one is in the mesh for a turn, which is not counted, the third one is idle all the time.
    let of_second = |id: &PeerId| (*id != PeerId::from_number(2)).then_some(false);
    assert_eq!(book.renew(now + TURN, 0, of_second), []);
    let id = |number| PeerId::from_number(number);
    assert_eq!(book.renew(now + TURN * 2, 1, |_| Some(false)), [id(3), id(2)], "who was idle for longer comes first");
    let mut book = connected(1..=2);
    let now = quiet(&mut book, Time::ZERO, IDLE_TURNS, &[1]);
    assert_eq!(turn(&mut book, now + TURN, 1, &[1]), [2]);
}

#[test]
fn a_new_connection_begins_anew_and_trusted_peers_stay() {
    let mut book = connected(1..=2);
    book.discovered(Time::ZERO, PeerId::from_number(3), &address(3), Standing::Trusted, Source::Operator);
    connect(&mut book, Time::ZERO, 3, Direction::Outbound);
    let now = quiet(&mut book, Time::ZERO, IDLE_TURNS, &[]);
    book.disconnected(now, PeerId::from_number(1));
    connect(&mut book, now, 1, Direction::Outbound);
    assert_eq!(turn(&mut book, now + TURN, 5, &[]), [2]);
}

#[test]
fn the_youngest_of_those_who_are_as_idle_and_no_bootnode() {
    let mut book = connected(1..=1);
    for number in 2..=9 {
        let at = Time::from_secs(number);
        if number >= 8 {
            book.discovered(at, PeerId::from_number(number), &address(number), Standing::Bootnode, Source::Operator);
        }
        connect(&mut book, at, number, Direction::Outbound);
    }
    let now = quiet(&mut book, Time::from_secs(10), IDLE_TURNS, &[]);
    assert_eq!(turn(&mut book, now + TURN, 1, &[]), [5, 6, 7]);
}

/// Whose time to be dialled again has come is somebody else as well as who was never dialled.
#[test]
fn others_are_those_who_may_be_dialled_again_too() {
    let mut book = connected(1..=8);
    (60..100).for_each(|number| {
        connect(&mut book, Time::ZERO, number, Direction::Outbound);
        // One by one, and not because many were lost at once.
        book.disconnected(Time::from_secs(31 * number), PeerId::from_number(number));
    });
    let later = Time::from_secs(31 * 100) + book.config.retry_max * 2;
    let now = quiet(&mut book, later, IDLE_TURNS, &[]);
    assert_eq!(turn(&mut book, now + TURN, 9, &[]).len(), 8);
}

#[test]
fn others_are_dialled_though_the_target_is_reached_without() {
    let mut book = connected(1..=30);
    let now = quiet(&mut book, Time::ZERO, IDLE_TURNS, &[]);
    assert_eq!(wake(&mut book, now).0, []);
    let gone = turn(&mut book, now + TURN, 1, &[]);
    gone.iter().for_each(|number| book.disconnected(now + TURN, PeerId::from_number(*number)));
    let (dialled, _) = wake(&mut book, now + TURN);
    assert_eq!((gone.len(), dialled.len()), (RENEWED, RENEWED));
    dialled.iter().for_each(|id| book.connected(now + TURN, *id, ip(50), Direction::Outbound));
    assert_eq!(wake(&mut book, now + TURN).0, [], "one for one");
    assert_eq!(book.stats().connected, 30);
}

#[test]
fn nobody_makes_room_where_there_is_nobody_else() {
    let mut book = connected(1..=8);
    (62..100).for_each(|number| {
        book.ban(
            Time::ZERO,
            Ban { target: BanTarget::Peer(PeerId::from_number(number)), until_unix_s: 1_000, reason: String::new() },
        )
        .expect("room");
    });
    let now = quiet(&mut book, Time::ZERO, IDLE_TURNS, &[]);
    assert_eq!(turn(&mut book, now + TURN, 9, &[]).len(), 2, "two others are known");
}

#[test]
fn who_made_room_is_put_off_for_long_and_is_no_loss() {
    let mut book = connected(1..=8);
    let now = quiet(&mut book, Time::ZERO, IDLE_TURNS * 2, &[]);
    let gone = turn(&mut book, now, 9, &[]);
    assert_eq!(gone.len(), 8, "all of them");
    gone.iter().for_each(|number| book.disconnected(now, PeerId::from_number(*number)));
    assert_eq!(book.missed(), 0, "they are not taken to be lost together");
    let (dialled, _) = wake(&mut book, now + TURN);
    assert_eq!(dialled.len(), 8, "others are dialled in their stead");
    let is_one = |id: &PeerId| gone.iter().any(|number| PeerId::from_number(*number) == *id);
    assert!(!dialled.iter().any(is_one));
    dialled.iter().for_each(|id| book.dial_failed(now + TURN, *id));
    let (long, later) = (now + book.config.retry_max, now + book.config.retry_max * 4);
    let mut again = wake(&mut book, long - TURN).0;
    assert!(!again.iter().any(is_one));
    let mut now = long - TURN;
    while !again.iter().any(is_one) {
        again.drain(..).for_each(|id| book.dial_failed(now, id));
        now = now + TURN;
        assert!(now < later, "for ever");
        again = wake(&mut book, now).0;
    }
}

/// Connected peers beside the acquaintances: more than the target.
const OTHERS: [u64; 10] = [5, 6, 7, 8, 9, 10, 11, 12, 13, 14];

/// Four acquaintances, of which none is connected any more, and others that are.
fn estranged() -> (PeerBook, Time) {
    let mut book = connected(1..=14);
    let mut now = Time::ZERO;
    for _ in 0..PROVEN {
        now = now + TURN;
        book.credit(now, |id| (1..=4).any(|number| PeerId::from_number(number) == *id).then_some(now));
    }
    for number in 1..=4 {
        // One by one, and not because many were lost at once.
        now = now + Duration::from_secs(60);
        book.disconnected(now, PeerId::from_number(number));
        now = quiet(&mut book, now, 1, &OTHERS);
    }
    assert_eq!(book.missed(), 0);
    (book, now)
}

#[test]
fn acquaintances_are_sought_while_links_are_replaced() {
    let (mut book, now) = estranged();
    assert_eq!(turn(&mut book, now + TURN, 1, &OTHERS), []);
    assert_eq!(book.missed(), 4);
    let seen = |book: &mut PeerBook, from: Time| {
        let times = (0..20).map(|quarter| from + Duration::from_millis(250) * quarter);
        times.flat_map(|at| wake(book, at).0).collect::<std::collections::BTreeSet<_>>()
    };
    let dialled = seen(&mut book, now + TURN);
    // One of them may be sent a feeler instead.
    assert!((3..=4).contains(&dialled.len()), "beyond the target, within seconds: {dialled:?}");
    for number in 1..=4 {
        book.dial_failed(now + TURN * 2, PeerId::from_number(number));
    }
    assert_eq!(turn(&mut book, now + TURN * 2, 2, &OTHERS), []);
    assert_eq!(book.missed(), 4, "as long as links are replaced");
    assert_eq!(turn(&mut book, now + TURN * 3, 2, &OTHERS), []);
    assert_eq!(book.missed(), 0, "and no longer");
}

#[test]
fn half_of_them_are_enough() {
    let (mut book, now) = estranged();
    turn(&mut book, now + TURN, 1, &[]);
    connect(&mut book, now + TURN, 1, Direction::Outbound);
    assert_eq!(book.missed(), 3);
    connect(&mut book, now + TURN, 2, Direction::Inbound);
    assert_eq!(book.missed(), 0);
}

#[test]
fn an_acquaintance_that_was_sent_away_or_made_room_keeps_away() {
    let (mut book, now) = estranged();
    connect(&mut book, now, 1, Direction::Outbound);
    let now = quiet(&mut book, now, IDLE_TURNS, &OTHERS);
    assert_eq!(turn(&mut book, now + TURN, 1, &OTHERS), [1], "that it was of use once does not help it");
    book.disconnected(now + TURN, PeerId::from_number(1));
    turn(&mut book, now + TURN * 2, 2, &OTHERS);
    assert_eq!(book.missed(), 3);
}

/// When nothing at all is heard no link is replaced.
#[test]
fn a_node_that_suspects_to_be_cut_off_does_both() {
    let (mut book, now) = estranged();
    let now = quiet(&mut book, now, IDLE_TURNS, &[]);
    book.look_now(now);
    book.check();
    assert_eq!(book.missed(), 4);
    assert_eq!(turn(&mut book, now + TURN, 0, &[]).len(), RENEWED_IN_SILENCE);
    assert_eq!(book.missed(), 4);
    assert_eq!(turn(&mut book, now + TURN * 2, 0, &[]), [], "once");
    assert_eq!(book.missed(), 0);
}

/// A friend that was away for long is dialled as soon as others when it is sought again.
#[test]
fn who_did_not_answer_for_long_is_sought_again() {
    let (mut book, now) = estranged();
    for _ in 0..40 {
        book.dial_failed(now, PeerId::from_number(2));
    }
    turn(&mut book, now + TURN, 1, &OTHERS);
    assert_eq!(book.missed(), 4);
}

#[test]
fn nobody_is_sought_while_half_of_all_acquaintances_are_connected() {
    let (mut book, now) = estranged();
    connect(&mut book, now, 1, Direction::Outbound);
    connect(&mut book, now, 2, Direction::Outbound);
    turn(&mut book, now + TURN, 1, &OTHERS);
    assert_eq!(book.missed(), 0);
}

/// A book that has lost nine of its peers together, while acquaintances are sought or before; and when that was.
fn divided(sought_before: bool) -> (PeerBook, Time) {
    let (mut book, mut now) = estranged();
    // In turns of their own, of which each ends without a replaced link.
    if sought_before {
        now = now + TURN;
        turn(&mut book, now, 1, &OTHERS);
        assert_eq!(book.missed(), 4);
    }
    for number in 5..=13 {
        now = now + Duration::from_secs(1);
        book.disconnected(now, PeerId::from_number(number));
        if number % 3 == 0 {
            turn(&mut book, now, u64::from(sought_before), &OTHERS);
        }
    }
    (book, now)
}

/// Parts of a network that was divided look for each other for an hour, however many acquaintances are found in either.
#[test]
fn those_who_were_lost_together_are_sought_for_as_long_as_ever() {
    for sought_before in [false, true] {
        let (mut book, now) = divided(sought_before);
        let lost = |book: &PeerBook| {
            (5..=13)
                .filter(|number| book.candidates.get(&PeerId::from_number(*number)).is_some_and(|it| it.missed))
                .count()
        };
        // The book may have forgotten one.
        let all = lost(&book);
        assert!(all >= 8, "with {sought_before}: {all}");
        turn(&mut book, now + TURN, 5, &[14]);
        for number in 1..=4 {
            connect(&mut book, now + TURN, number, Direction::Outbound);
            book.check();
        }
        assert_eq!(lost(&book), all, "acquaintances of our own part are no reunion");
        turn(&mut book, now + TURN * 2, 5, &[14]);
        turn(&mut book, now + TURN * 3, 5, &[14]);
        assert_eq!(lost(&book), all, "nor is it one that nothing is replaced any more");
        for number in 5..=7 {
            connect(&mut book, now + TURN * 3, number, Direction::Outbound);
        }
        assert_eq!(book.missed(), 0, "a quarter is back");
    }
}

#[test]
fn a_reunion_and_the_search_for_acquaintances_end_apart() {
    let (mut book, now) = estranged();
    let now = now + TURN;
    turn(&mut book, now, 1, &OTHERS);
    (5..=12).for_each(|number| book.disconnected(now, PeerId::from_number(number)));
    assert!((11..=12).contains(&book.missed()), "{}, of which the book may have forgotten one", book.missed());
    // A quarter of those who were lost, and not of all.
    (5..=6).for_each(|number| connect(&mut book, now, number, Direction::Outbound));
    assert_eq!(book.missed(), 3, "acquaintances, but for the one that was lost a moment before the others");
    (1..=2).for_each(|number| connect(&mut book, now, number, Direction::Outbound));
    assert_eq!(book.missed(), 0);
}
