//! Tests of the peer book in virtual time.

use super::*;
use proptest::prelude::*;

fn book(target: usize) -> PeerBook {
    let config = PeerConfig { candidates_max: 32, ..PeerConfig::for_target(target) };
    PeerBook::new(config, PeerId::from_number(0), Stream::from_seed([7; 32]), Time::ZERO)
}

fn address(number: u64) -> Vec<Address> {
    vec![Bytes::copy_from_slice(&number.to_be_bytes())]
}

fn wake(book: &mut PeerBook, now: Time) -> (Vec<PeerId>, usize) {
    let (mut dialled, mut walks) = (Vec::new(), 0);
    book.on_wake(now, |action| match action {
        PeerAction::Dial { id, .. } => dialled.push(id),
        PeerAction::Discover => walks += 1,
    });
    book.check();
    (dialled, walks)
}

#[test]
fn dials_up_to_the_target_and_no_further() {
    let mut book = book(4);
    for number in 1..=20 {
        book.discovered(Time::ZERO, PeerId::from_number(number), &address(number), Standing::Heard);
    }
    let (dialled, _) = wake(&mut book, Time::ZERO);
    assert_eq!(dialled.len(), 4);
    for id in dialled {
        book.connected(Time::ZERO, id, Direction::Outbound);
    }
    assert_eq!(wake(&mut book, Time::from_secs(1)).0, vec![]);
}

#[test]
fn inbound_peers_do_not_take_the_place_of_our_own_links() {
    let mut book = book(4);
    for number in 1..=10 {
        book.connected(Time::ZERO, PeerId::from_number(number), Direction::Inbound);
    }
    for number in 11..=20 {
        book.discovered(Time::ZERO, PeerId::from_number(number), &address(number), Standing::Heard);
    }
    assert_eq!(wake(&mut book, Time::ZERO).0.len(), 2, "three tenths of four, rounded up");
}

#[test]
fn a_peer_that_was_sent_away_is_put_off_for_long_and_not_for_ever() {
    let mut book = book(1);
    let id = PeerId::from_number(1);
    book.discovered(Time::ZERO, id, &address(1), Standing::Heard);
    assert_eq!(wake(&mut book, Time::ZERO).0, [id]);
    book.connected(Time::ZERO, id, Direction::Outbound);
    // Even after a connection that lasted.
    let (end, long) = (Time::ZERO + book.config.stable_after, book.config.retry_max);
    book.sent_away(id);
    book.disconnected(end, id);
    // Who tells of it again does not bring it back sooner.
    book.discovered(end, id, &address(1), Standing::Heard);
    assert_eq!(wake(&mut book, end + long - Duration::from_secs(1)).0, []);
    assert_eq!(wake(&mut book, end + long * 2).0, [id]);
}

#[test]
fn a_failing_peer_is_put_off_longer_each_time_and_then_forgotten() {
    let mut book = book(1);
    let id = PeerId::from_number(1);
    book.discovered(Time::ZERO, id, &address(1), Standing::Heard);
    let mut now = Time::ZERO;
    let mut waits = Vec::new();
    for _ in 0..book.config.failures_max {
        while wake(&mut book, now).0.is_empty() {
            let next = book.next_wake();
            assert!(next > now, "next_wake in the past must lead to an action");
            now = next;
        }
        book.dial_failed(now, id);
        if let Some(candidate) = book.candidates.get(&id) {
            waits.push(candidate.retry_at.since(now));
        }
    }
    assert!(waits.windows(2).all(|w| w[0] <= w[1]), "{waits:?}");
    assert_eq!(book.stats().known, 0);
}

#[test]
fn a_trusted_peer_is_dialled_beyond_the_target_and_never_forgotten() {
    let mut book = book(1);
    let trusted = PeerId::from_number(9);
    book.connected(Time::ZERO, PeerId::from_number(1), Direction::Outbound);
    book.discovered(Time::ZERO, trusted, &address(9), Standing::Trusted);
    let mut now = Time::ZERO;
    for _ in 0..40 {
        while wake(&mut book, now).0.is_empty() {
            now = book.next_wake();
        }
        book.dial_failed(now, trusted);
    }
    assert!(book.candidates.contains_key(&trusted));
}

#[test]
fn discovery_slows_down_while_it_brings_nothing() {
    let mut book = book(4);
    let mut now = Time::ZERO;
    let mut walks = 0;
    while now < Time::from_secs(60) {
        walks += wake(&mut book, now).1;
        now = book.next_wake();
    }
    assert!((5..15).contains(&walks), "{walks}");
    assert!(book.discover_interval == book.config.discover_max);
}

#[test]
fn a_mesh_that_stays_short_of_links_has_more_peers_sought_for_a_while() {
    let mut book = book(4);
    let mut now = Time::ZERO;
    for number in 1..=20 {
        book.discovered(now, PeerId::from_number(number), &address(number), Standing::Heard);
    }
    let fill = |book: &mut PeerBook, now| {
        let (dialled, _) = wake(book, now);
        for id in &dialled {
            book.connected(now, *id, Direction::Outbound);
        }
        dialled.len()
    };
    book.mesh_is_short(now, true);
    assert_eq!(fill(&mut book, now), 4);
    let mut counts = Vec::new();
    for _ in 0..8 {
        book.mesh_is_short(now, true);
        counts.push(fill(&mut book, now));
        now = now + Duration::from_secs(1);
    }
    assert_eq!(counts, [0, 0, 2, 0, 0, 0, 0, 0], "two more after two seconds, which is half as much again");
    for _ in 0..130 {
        book.mesh_is_short(now, false);
        now = now + Duration::from_secs(1);
    }
    for number in 1..=20 {
        book.disconnected(now, PeerId::from_number(number));
    }
    now = now + book.config.retry_max * 2;
    assert_eq!(fill(&mut book, now), 4, "the target again");
}

#[test]
fn a_link_that_turns_out_to_be_the_peers_own_is_not_counted_as_ours() {
    let mut book = book(4);
    let id = PeerId::from_number(1);
    book.connected(Time::ZERO, id, Direction::Outbound);
    assert_eq!(book.stats().outbound, 1);
    book.turned(id, Direction::Inbound);
    assert_eq!((book.stats().connected, book.stats().outbound), (1, 0));
}

#[test]
fn an_unanswered_dial_gives_its_place_back() {
    let mut book = book(1);
    book.discovered(Time::ZERO, PeerId::from_number(1), &address(1), Standing::Bootnode);
    assert_eq!(wake(&mut book, Time::ZERO).0.len(), 1);
    assert_eq!(book.stats().dialling, 1);
    let later = Time::ZERO + book.config.dial_timeout;
    wake(&mut book, later);
    assert_eq!(book.stats().dialling, 0);
}

#[derive(Clone, Debug)]
enum Step {
    Discovered(u64, u8),
    Connected(u64, bool),
    Disconnected(u64),
    DialFailed(u64),
    Wait(u32),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..80u64, 0..3u8).prop_map(|(n, s)| Step::Discovered(n, s)),
        (1..80u64, any::<bool>()).prop_map(|(n, o)| Step::Connected(n, o)),
        (1..80u64).prop_map(Step::Disconnected),
        (1..80u64).prop_map(Step::DialFailed),
        (0..90_000_000u32).prop_map(Step::Wait),
    ]
}

proptest! {
    #[test]
    fn invariants_hold_whatever_happens(steps in prop::collection::vec(step(), 1..200)) {
        let mut book = book(6);
        let mut now = Time::ZERO;
        let standings = [Standing::Heard, Standing::Heard, Standing::Bootnode];
        for step in steps {
            match step {
                Step::Discovered(n, s) => {
                    book.discovered(now, PeerId::from_number(n), &address(n), standings[usize::from(s)]);
                }
                Step::Connected(n, outbound) => {
                    let direction = if outbound { Direction::Outbound } else { Direction::Inbound };
                    book.connected(now, PeerId::from_number(n), direction);
                }
                Step::Disconnected(n) => book.disconnected(now, PeerId::from_number(n)),
                Step::DialFailed(n) => book.dial_failed(now, PeerId::from_number(n)),
                Step::Wait(micros) => now = now + Duration::from_micros(u64::from(micros)),
            }
            book.check();
            let due = book.next_wake() <= now;
            let (dialled, walks) = wake(&mut book, now);
            prop_assert!(due || (dialled.is_empty() && walks == 0), "acted before next_wake");
            prop_assert!(book.next_wake() > now, "woken in vain for ever");
        }
    }
}
