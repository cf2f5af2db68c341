//! Those who have proven useful.

use super::*;
use crate::peers::book::ANCHORS_MAX;
use crate::peers::book::acquaintances::{ACQUAINTANCES_MAX, FADES_AFTER, PROVEN};

/// Lets so many turns pass in which those of these numbers are of use. Says when it is then.
fn serve(book: &mut PeerBook, from: Time, turns: u8, numbers: &[u64]) -> Time {
    let mut now = from;
    for _ in 0..turns {
        now = now + Duration::from_secs(6);
        let ids: Vec<PeerId> = numbers.iter().map(|number| PeerId::from_number(*number)).collect();
        book.credit(now, |id| ids.contains(id).then_some(now));
        book.check();
    }
    now
}

fn known(book: &PeerBook) -> Vec<PeerId> {
    book.acquaintances().copied().collect()
}

fn ids(numbers: core::ops::RangeInclusive<u64>) -> Vec<PeerId> {
    numbers.map(PeerId::from_number).collect()
}

/// The next life of the same node.
fn restart(book: &PeerBook, target: usize, now: Time) -> PeerBook {
    let config = PeerConfig { candidates_max: 96, ..PeerConfig::for_target(target) };
    let parts = PeerParts { book: Some(book.to_file()), ..PeerParts::from(config) };
    PeerBook::new(parts, PeerId::from_number(0), Stream::from_seed([9; 32]), now)
}

#[test]
fn use_makes_acquaintances_and_presence_does_not() {
    let mut book = book(8);
    for number in 1..=6 {
        hear(&mut book, Time::ZERO, number);
        connect(&mut book, Time::ZERO, number, Direction::Outbound);
    }
    let now = serve(&mut book, Time::ZERO, PROVEN - 1, &[1, 2]);
    assert_eq!(known(&book), [], "not yet");
    // What was brought before the last turn has been counted.
    book.credit(now + Duration::from_secs(6), |_| Some(now));
    assert_eq!(known(&book), []);
    let now = serve(&mut book, now + Duration::from_secs(6), 1, &[1, 2, 9]);
    assert_eq!(known(&book), ids(1..=2));
    assert_eq!(book.merit(&PeerId::from_number(1)), PROVEN);
    assert_eq!(book.stats().acquaintances, 2);

    book.sent_away(PeerId::from_number(1));
    assert_eq!(known(&book), ids(2..=2), "who is sent away is none");
    book.credit(now + FADES_AFTER, |_| None);
    book.credit(now + FADES_AFTER * 2, |_| None);
    assert_eq!(known(&book), [], "who is of no use for hours is forgotten");
}

#[test]
fn who_is_banned_is_no_acquaintance() {
    let mut book = book(8);
    for number in 1..=3 {
        hear(&mut book, Time::ZERO, number);
        connect(&mut book, Time::ZERO, number, Direction::Outbound);
    }
    let now = serve(&mut book, Time::ZERO, PROVEN, &[1, 2, 3]);
    let subnet = Subnet::new(ip(2), 24).expect("short enough");
    for target in [BanTarget::Peer(PeerId::from_number(1)), BanTarget::Addresses(subnet)] {
        book.ban(now, Ban { target, until_unix_s: 1_000, reason: String::new() }).expect("room");
    }
    assert_eq!(known(&book), ids(3..=3));
}

#[test]
fn a_new_acquaintance_is_written_down_soon() {
    let mut book = book(8);
    hear(&mut book, Time::ZERO, 1);
    connect(&mut book, Time::ZERO, 1, Direction::Outbound);
    let saves = |book: &mut PeerBook, now| {
        let mut saves = 0;
        book.on_wake(now, |action| saves += usize::from(action == PeerAction::Save));
        saves
    };
    let later = Time::from_secs(400);
    assert_eq!(saves(&mut book, later), 1, "the address");
    let now = serve(&mut book, later, PROVEN, &[1]);
    assert_eq!(saves(&mut book, now + Duration::from_secs(29)), 0);
    assert_eq!(saves(&mut book, now + Duration::from_secs(30)), 1);
}

#[test]
fn after_a_restart_acquaintances_are_dialled_beyond_the_target_until_enough_are_back() {
    let mut former = book(8);
    for number in 1..=12 {
        hear(&mut former, Time::ZERO, number);
        connect(&mut former, Time::ZERO, number, Direction::Inbound);
    }
    serve(&mut former, Time::ZERO, PROVEN, &(1..=12).collect::<Vec<_>>());
    let start = Time::from_secs(1_000);
    let mut book = restart(&former, 4, start);
    assert_eq!(known(&book), ids(1..=12));
    // Strangers fill the target at once.
    for number in 50..58 {
        connect(&mut book, start, number, Direction::Outbound);
    }
    let dials = |book: &mut PeerBook, from: Time, duration: Duration| {
        let (mut now, mut dials) = (from, Vec::new());
        while now < from + duration {
            for id in wake(book, now).0 {
                dials.push(id);
                book.reached(now, id, &address(1)[0]);
                book.dial_failed(now, id);
            }
            now = now + Duration::from_millis(50);
        }
        dials
    };
    let mut first = dials(&mut book, start, Duration::from_secs(5));
    first.sort_unstable();
    first.dedup();
    assert_eq!(first, ids(1..=12), "each is dialled within seconds");
    for number in 1..=5 {
        connect(&mut book, start + Duration::from_secs(6), number, Direction::Outbound);
    }
    let more = dials(&mut book, start + Duration::from_secs(60), Duration::from_secs(20));
    assert!(more.len() >= 14, "five are not enough: {}", more.len());
    connect(&mut book, start + Duration::from_secs(90), 6, Direction::Outbound);
    assert_eq!(dials(&mut book, start + Duration::from_secs(100), Duration::from_secs(60)), [], "six are");
}

#[test]
fn addresses_at_which_nobody_answers_do_not_keep_acquaintances_from_being_dialled() {
    let mut former = book(8);
    for number in 1..=3 {
        hear(&mut former, Time::ZERO, number);
        connect(&mut former, Time::ZERO, number, Direction::Outbound);
    }
    serve(&mut former, Time::ZERO, PROVEN, &[1, 2, 3]);
    for number in 100..160 {
        hear(&mut former, Time::ZERO, number);
    }
    let start = Time::from_secs(1_000);
    let mut book = restart(&former, 60, start);
    let (mut now, mut dialled) = (start, Vec::new());
    // No dial is answered.
    while now < start + Duration::from_secs(3) {
        dialled.extend(wake(&mut book, now).0);
        now = now + Duration::from_millis(50);
    }
    let known = ids(1..=3);
    assert!(known.iter().all(|id| dialled.contains(id)), "{dialled:?}");
    assert_eq!(dialled.len(), book.config.dials_max, "no place is left unused when all have been dialled");
}

/// Only rule 2 of [`crate::peers::reunion`] dials them, and it spaces dials.
#[test]
fn nobody_is_woken_in_vain_for_acquaintances_that_are_not_in_the_tables() {
    let mut former = book(8);
    for number in 1..=3 {
        let id = PeerId::from_number(number);
        former.discovered(Time::ZERO, id, &address(number), Standing::Bootnode, Source::Operator);
        connect(&mut former, Time::ZERO, number, Direction::Inbound);
    }
    serve(&mut former, Time::ZERO, PROVEN, &[1, 2, 3]);
    let start = Time::from_secs(1_000);
    let mut book = restart(&former, 8, start);
    assert_eq!((known(&book), book.stats().known), (ids(1..=3), 0));
    let (mut now, mut dialled, mut wakes) = (start + Duration::from_secs(1), Vec::new(), 0);
    while now < start + Duration::from_secs(3) {
        dialled.extend(wake(&mut book, now).0);
        wakes += 1;
        assert!(book.next_wake() > now, "it wants to be woken at {now:?} again");
        now = book.next_wake();
    }
    dialled.sort_unstable();
    assert_eq!(dialled, ids(1..=3));
    assert!(wakes <= 6, "{wakes} wakes for three dials");
}

#[test]
fn anchors_are_taken_from_among_acquaintances_first() {
    let mut book = book(8);
    for number in 1..=8 {
        hear(&mut book, Time::ZERO, number);
        connect(&mut book, Time::from_secs(number), number, Direction::Outbound);
    }
    let now = serve(&mut book, Time::from_secs(10), PROVEN, &[6, 8]);
    book.mesh_has(now, |_| true);
    let anchors: Vec<PeerId> = book.book.anchors().iter().map(|anchor| anchor.id).collect();
    assert_eq!(anchors.len(), ANCHORS_MAX);
    assert_eq!(anchors, [1, 6, 8].map(PeerId::from_number), "and then by the length of the connection");
}

#[test]
fn as_many_acquaintances_as_there_can_be_survive_in_the_file() {
    let mut book = book(8);
    let numbers: Vec<u64> = (1..=80).collect();
    for number in &numbers {
        hear(&mut book, Time::ZERO, *number);
        connect(&mut book, Time::ZERO, *number, Direction::Outbound);
    }
    serve(&mut book, Time::ZERO, PROVEN + 2, &numbers);
    assert_eq!(known(&book).len(), ACQUAINTANCES_MAX);
    let again = restart(&book, 8, Time::ZERO);
    assert_eq!(known(&again), known(&book));
    assert_eq!(again.to_file(), book.to_file());
    again.check();
}

#[test]
fn merit_fades_once_an_hour_and_that_is_written_down() {
    let mut book = book(8);
    hear(&mut book, Time::ZERO, 1);
    connect(&mut book, Time::ZERO, 1, Direction::Outbound);
    serve(&mut book, Time::ZERO, 40, &[1]);
    book.disconnected(Time::from_secs(300), PeerId::from_number(1));
    let mut saves = 0;
    book.on_wake(Time::from_secs(3_000), |action| saves += usize::from(action == PeerAction::Save));
    assert_eq!(saves, 1);
    let mut merits = Vec::new();
    for quarter in 1..=9 {
        book.credit(Time::from_secs(900 * quarter), |_| None);
        merits.push(book.merit(&PeerId::from_number(1)));
    }
    assert_eq!(merits, [40, 40, 40, 20, 20, 20, 20, 10, 10]);
    book.on_wake(Time::from_secs(8_200), |action| saves += usize::from(action == PeerAction::Save));
    assert_eq!(saves, 2);
}

#[test]
fn who_dialled_us_and_whom_we_dialled_are_told_apart() {
    let mut book = book(8);
    hear(&mut book, Time::ZERO, 1);
    connect(&mut book, Time::ZERO, 1, Direction::Outbound);
    connect(&mut book, Time::ZERO, 2, Direction::Inbound);
    serve(&mut book, Time::ZERO, PROVEN, &[1, 2]);
    let dialled: Vec<bool> = book.book.acquaintances().iter().map(|(_, it)| it.dialled).collect();
    assert_eq!(dialled, [true, false]);
}

/// So many acquaintances that were connected from these numbers on, and the next life of their node.
fn after_restart(count: u64) -> (PeerBook, Time) {
    let mut former = book(8);
    for number in 1..=count {
        hear(&mut former, Time::ZERO, number);
        connect(&mut former, Time::ZERO, number, Direction::Inbound);
    }
    serve(&mut former, Time::ZERO, PROVEN, &(1..=count).collect::<Vec<_>>());
    let start = Time::from_secs(1_000);
    (restart(&former, 4, start), start)
}

/// Fewer than half of all are connected, but six of them are of use.
#[test]
fn acquaintances_are_missed_until_six_have_been_of_use() {
    let (mut book, start) = after_restart(20);
    assert_eq!(book.missed(), 20);
    for number in 1..=6 {
        connect(&mut book, start, number, Direction::Inbound);
    }
    for number in 50..60 {
        connect(&mut book, start, number, Direction::Inbound);
    }
    assert_eq!(book.missed(), 14);
    // Those that were none before do not count, nor does who is of use for long count for more than one.
    let others: Vec<u64> = (1..=5).chain(50..60).collect();
    let now = serve(&mut book, start, 8, &others);
    assert_eq!(book.missed(), 14);
    serve(&mut book, now, 1, &[6]);
    assert_eq!(book.missed(), 0);
    // Who is lost later is missed by the rules of a loss, whoever was found.
    let lost = now + Duration::from_secs(100);
    for number in 1..=6 {
        book.disconnected(lost, PeerId::from_number(number));
    }
    assert_eq!(book.missed(), 6);
    serve(&mut book, lost, 2, &others);
    assert_eq!(book.missed(), 6, "a start is over but once");
}

#[test]
fn acquaintances_are_missed_until_half_of_them_are_connected() {
    let (mut book, start) = after_restart(9);
    for number in 1..=4 {
        connect(&mut book, start, number, Direction::Inbound);
    }
    assert_eq!(book.missed(), 5);
    connect(&mut book, start, 5, Direction::Inbound);
    assert_eq!(book.missed(), 0);
}

#[test]
fn acquaintances_are_sought_in_an_order_that_nobody_knows() {
    let (book, start) = after_restart(12);
    let times: Vec<u128> = book.candidates.engaged().map(|(_, it)| it.retry_at.since(start).as_millis()).collect();
    assert!(times.iter().all(|at| *at < 1_000), "{times:?}");
    assert!(!times.is_sorted() && times.iter().max() > Some(&500), "{times:?}");
}

#[test]
fn a_node_does_not_seek_itself_nor_whom_it_cannot_find() {
    let mut former = book(8);
    for number in 1..=3 {
        connect(&mut former, Time::ZERO, number, Direction::Inbound);
    }
    hear(&mut former, Time::ZERO, 1);
    hear(&mut former, Time::ZERO, 2);
    serve(&mut former, Time::ZERO, PROVEN, &[1, 2, 3]);
    assert_eq!(known(&former), ids(1..=3));
    let parts = PeerParts { book: Some(former.to_file()), ..PeerParts::from(PeerConfig::for_target(4)) };
    let book = PeerBook::new(parts, PeerId::from_number(1), Stream::from_seed([9; 32]), Time::from_secs(1_000));
    assert_eq!((known(&book), book.missed()), (ids(2..=3), 1), "of the third nobody knows where it is");
    assert!(book.candidates.get(&PeerId::from_number(3)).is_none());
    book.check();
}

#[test]
fn only_peers_of_our_meshes_are_anchors_and_former_ones_stay_while_there_is_room() {
    let mut book = book(8);
    for number in 1..=6 {
        hear(&mut book, Time::ZERO, number);
        connect(&mut book, Time::from_secs(10 - number), number, Direction::Outbound);
    }
    let anchors = |book: &PeerBook| -> Vec<PeerId> { book.book.anchors().iter().map(|anchor| anchor.id).collect() };
    let among = |numbers: [u64; 2]| move |id: &PeerId| numbers.map(PeerId::from_number).contains(id);
    book.mesh_has(Time::from_secs(20), among([1, 2]));
    assert_eq!(anchors(&book), ids(1..=2));
    book.mesh_has(Time::from_secs(21), among([1, 3]));
    assert_eq!(anchors(&book), ids(1..=3), "a former one and both of the present ones");
    book.mesh_has(Time::from_secs(22), |id| *id != PeerId::from_number(3));
    assert_eq!(anchors(&book), ids(4..=6), "those that are connected for longest");
}

#[test]
fn a_change_of_the_anchors_is_written_down_soon() {
    let mut book = book(8);
    hear(&mut book, Time::ZERO, 1);
    connect(&mut book, Time::ZERO, 1, Direction::Outbound);
    let mut saves = 0;
    let mut wake_at = |book: &mut PeerBook, now| {
        book.on_wake(now, |action| saves += usize::from(action == PeerAction::Save));
        saves
    };
    let now = Time::from_secs(400);
    assert_eq!(wake_at(&mut book, now), 1, "the address");
    book.mesh_has(now, |_| true);
    assert_eq!(wake_at(&mut book, now + Duration::from_secs(4)), 1);
    assert_eq!(wake_at(&mut book, now + Duration::from_secs(5)), 2);
    book.mesh_has(now + Duration::from_secs(6), |_| true);
    assert_eq!(wake_at(&mut book, now + Duration::from_secs(400)), 2, "nothing has changed");
}

#[test]
fn acquaintances_keep_a_quarter_of_the_dials_free_and_no_more_than_they_need() {
    let mut former = book(8);
    for number in 1..=10 {
        hear(&mut former, Time::ZERO, number);
        connect(&mut former, Time::ZERO, number, Direction::Outbound);
    }
    serve(&mut former, Time::ZERO, PROVEN, &(1..=10).collect::<Vec<_>>());
    for number in 100..160 {
        hear(&mut former, Time::ZERO, number);
    }
    let start = Time::from_secs(1_000);
    let mut book = restart(&former, 60, start);
    let dials_max = book.config.dials_max;
    assert_eq!(wake(&mut book, start).0.len(), dials_max - dials_max / 4);

    // None is kept for those that are on their way.
    let (mut book, start) = after_restart(3);
    let later = start + Duration::from_secs(2);
    let mut now = start;
    while now < later {
        wake(&mut book, now);
        now = now + Duration::from_millis(50);
    }
    assert_eq!(book.candidates.counts().dialling, 3);
    for number in 1..=60 {
        connect(&mut book, later, 100 + number, Direction::Inbound);
        hear(&mut book, later, 200 + number);
    }
    wake(&mut book, later);
    assert_eq!(book.candidates.counts().dialling, dials_max);
}

#[test]
fn no_more_acquaintances_are_sought_than_there_is_room_for() {
    let (former, start) = after_restart(20);
    let config = PeerConfig { candidates_max: 8, ..PeerConfig::for_target(4) };
    let parts = PeerParts { book: Some(former.to_file()), ..PeerParts::from(config) };
    let book = PeerBook::new(parts, PeerId::from_number(0), Stream::from_seed([9; 32]), start);
    assert_eq!((book.missed(), known(&book).len()), (8, 20));
    book.check();
}
