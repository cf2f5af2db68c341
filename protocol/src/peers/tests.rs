//! Tests of the peer book in virtual time.

use super::address::Subnet;
use super::bans::{Ban, BanTarget};
use super::*;
use proptest::prelude::*;

mod defences;
mod proven;
mod renewal;
mod reunion;

fn book(target: usize) -> PeerBook {
    let config = PeerConfig { candidates_max: 32, ..PeerConfig::for_target(target) };
    PeerBook::new(config.into(), PeerId::from_number(0), Stream::from_seed([7; 32]), Time::ZERO)
}

/// Each peer has a network of its own.
fn ip(number: u64) -> IpAddr {
    let [.., a, b] = number.to_be_bytes();
    IpAddr::from([20 + a, b, 1, 1])
}

fn address(number: u64) -> Vec<Address> {
    let IpAddr::V4(ip) = ip(number) else { unreachable!("an IPv4 address") };
    vec![Bytes::from([&[4][..], &ip.octets(), &[6, 1, 2]].concat())]
}

fn hear(book: &mut PeerBook, now: Time, number: u64) {
    book.discovered(now, PeerId::from_number(number), &address(number), Standing::Heard, Source::Lookup);
}

fn connect(book: &mut PeerBook, now: Time, number: u64, direction: Direction) {
    book.connected(now, PeerId::from_number(number), ip(number), direction);
}

fn wake(book: &mut PeerBook, now: Time) -> (Vec<PeerId>, usize) {
    let (mut dialled, mut walks) = (Vec::new(), 0);
    book.on_wake(now, |action| match action {
        PeerAction::Dial { id, purpose: DialPurpose::Connect, .. } => dialled.push(id),
        PeerAction::Dial { .. } => {}
        PeerAction::Discover => walks += 1,
        PeerAction::Save => {}
    });
    book.check();
    (dialled, walks)
}

#[test]
fn dials_up_to_the_target_and_no_further() {
    let mut book = book(4);
    for number in 1..=20 {
        hear(&mut book, Time::ZERO, number);
    }
    let (dialled, _) = wake(&mut book, Time::ZERO);
    assert_eq!(dialled.len(), 4);
    for id in dialled {
        book.connected(Time::ZERO, id, ip(1), Direction::Outbound);
    }
    assert_eq!(wake(&mut book, Time::from_secs(1)).0, vec![]);
}

#[test]
fn inbound_peers_do_not_take_the_place_of_our_own_links() {
    let mut book = book(4);
    for number in 1..=10 {
        connect(&mut book, Time::ZERO, number, Direction::Inbound);
    }
    for number in 11..=20 {
        hear(&mut book, Time::ZERO, number);
    }
    assert_eq!(wake(&mut book, Time::ZERO).0.len(), 5, "of fifteen, three tenths and a half");
}

#[test]
fn a_peer_that_was_sent_away_is_put_off_for_long_and_not_for_ever() {
    let mut book = book(1);
    let id = PeerId::from_number(1);
    hear(&mut book, Time::ZERO, 1);
    assert_eq!(wake(&mut book, Time::ZERO).0, [id]);
    book.connected(Time::ZERO, id, ip(1), Direction::Outbound);
    // Even after a connection that lasted.
    let (end, long) = (Time::ZERO + book.config.stable_after, book.config.retry_max);
    book.sent_away(id);
    book.disconnected(end, id);
    // Who tells of it again does not bring it back sooner.
    hear(&mut book, end, 1);
    assert_eq!(wake(&mut book, end + long - Duration::from_secs(1)).0, []);
    assert_eq!(wake(&mut book, end + long * 2).0, [id]);
}

#[test]
fn a_failing_peer_is_put_off_longer_each_time_and_then_forgotten() {
    let mut book = book(2);
    let id = PeerId::from_number(1);
    // Somebody is connected, so it is not our own network that fails.
    connect(&mut book, Time::ZERO, 2, Direction::Inbound);
    hear(&mut book, Time::ZERO, 1);
    let mut now = Time::ZERO;
    let mut waits = Vec::new();
    for _ in 0..super::book::NEW_FAILURES_MAX {
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
fn a_node_without_network_forgets_nobody() {
    let mut book = book(1);
    hear(&mut book, Time::ZERO, 1);
    let mut now = Time::ZERO;
    for _ in 0..40 {
        while wake(&mut book, now).0.is_empty() {
            now = book.next_wake();
        }
        book.dial_failed(now, PeerId::from_number(1));
    }
    assert_eq!(book.stats().known, 1);
}

#[test]
fn a_peer_that_answers_but_has_no_room_is_kept() {
    let mut book = book(2);
    connect(&mut book, Time::ZERO, 2, Direction::Inbound);
    hear(&mut book, Time::ZERO, 1);
    let mut now = Time::ZERO;
    for _ in 0..20 {
        while wake(&mut book, now).0.is_empty() {
            now = book.next_wake();
        }
        book.reached(now, PeerId::from_number(1), &address(1)[0]);
        book.dial_failed(now, PeerId::from_number(1));
    }
    assert_eq!((book.stats().new, book.stats().tried), (0, 1));
}

#[test]
fn a_trusted_peer_is_dialled_beyond_the_target_and_never_forgotten() {
    let mut book = book(1);
    let trusted = PeerId::from_number(9);
    connect(&mut book, Time::ZERO, 1, Direction::Outbound);
    book.discovered(Time::ZERO, trusted, &address(9), Standing::Trusted, Source::Operator);
    let mut now = Time::ZERO;
    for _ in 0..40 {
        while wake(&mut book, now).0.is_empty() {
            now = book.next_wake();
        }
        book.dial_failed(now, trusted);
    }
    assert!(book.candidates.get(&trusted).is_some());
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
fn news_after_a_pause_and_the_first_connection_make_discovery_begin_anew() {
    let mut book = book(4);
    let mut now = Time::ZERO;
    while book.discover_interval < book.config.discover_max {
        wake(&mut book, now);
        now = book.next_wake();
    }
    // A bootnode that is reached late.
    connect(&mut book, now, 1, Direction::Outbound);
    assert_eq!(wake(&mut book, now).1, 1, "there is somebody to ask");
    while book.discover_interval < book.config.discover_max {
        now = book.next_wake();
        wake(&mut book, now);
    }
    // An answer that comes late.
    hear(&mut book, now, 2);
    let soon = now + book.config.discover_first;
    wake(&mut book, now);
    assert_eq!(wake(&mut book, soon).1, 1, "where there is one, there are more");
}

#[test]
fn a_mesh_that_stays_short_of_links_has_more_peers_sought_for_a_while() {
    let mut book = book(4);
    let mut now = Time::ZERO;
    for number in 1..=20 {
        hear(&mut book, now, number);
    }
    let fill = |book: &mut PeerBook, now| {
        let (dialled, _) = wake(book, now);
        for id in &dialled {
            book.connected(now, *id, ip(1), Direction::Outbound);
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
    book.connected(Time::ZERO, id, ip(1), Direction::Outbound);
    assert_eq!(book.stats().outbound, 1);
    book.turned(id, Direction::Inbound);
    assert_eq!((book.stats().connected, book.stats().outbound), (1, 0));
}

#[test]
fn an_unanswered_dial_gives_its_place_back() {
    let mut book = book(1);
    book.discovered(Time::ZERO, PeerId::from_number(1), &address(1), Standing::Bootnode, Source::Operator);
    assert_eq!(wake(&mut book, Time::ZERO).0.len(), 1);
    assert_eq!(book.stats().dialling, 1);
    let later = Time::ZERO + book.config.dial_timeout;
    wake(&mut book, later);
    assert_eq!(book.stats().dialling, 0);
}

/// Who is killed in its first minutes is to know somebody when it starts again; others that nobody dials for have no other chance.
#[test]
fn the_first_that_were_heard_of_are_saved_soon() {
    let mut book = book(4);
    hear(&mut book, Time::ZERO, 1);
    let mut saved = Vec::new();
    for second in 0..=400 {
        if second == 100 {
            hear(&mut book, Time::from_secs(second), 2);
        }
        book.on_wake(Time::from_secs(second), |action| {
            if action == PeerAction::Save {
                saved.push(second);
            }
        });
    }
    assert_eq!(saved, [5, 305]);
}

/// When something is due next, by looking at everybody.
fn naive_wake(book: &PeerBook) -> Time {
    let room = book.room() > 0;
    let wanted = book.wanted() > 0 && book.room() > book.kept_for_missed();
    let mut wake = book.discover_at.min(book.feeler_at).min(book.next_missed().unwrap_or(Time::MAX));
    if book.unsaved {
        wake = wake.min(book.save_at);
    }
    let mut in_book = 0;
    for (id, it) in book.candidates.engaged().chain(book.candidates.resting()) {
        let is_in_book = book.book.contains(id);
        in_book += usize::from(is_in_book);
        let can_be_chosen = is_in_book || !it.missed || it.standing == Standing::Bootnode;
        let is_first = it.standing == Standing::Trusted || it.anchor;
        match it.state {
            State::Idle if room && book.may_be_dialled(id, it) && (wanted && can_be_chosen || is_first) => {
                wake = wake.min(it.retry_at);
            }
            State::Dialling { since, .. } => wake = wake.min(since + book.config.dial_timeout),
            State::Idle | State::Connected { .. } => {}
        }
    }
    let (new, tried) = book.book.sizes();
    if wanted && room && new + tried > in_book { Time::ZERO } else { wake }
}

#[derive(Clone, Debug)]
enum Step {
    Discovered(u64, u8),
    Connected(u64, bool),
    Reached(u64),
    Ban(u64),
    Unban(u64),
    Disconnected(u64),
    DialFailed(u64),
    Wait(u32),
    Credit,
    Renew(u8),
    LookNow,
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..80u64, 0..3u8).prop_map(|(n, s)| Step::Discovered(n, s)),
        (1..80u64, any::<bool>()).prop_map(|(n, o)| Step::Connected(n, o)),
        (1..80u64).prop_map(Step::Disconnected),
        (1..80u64).prop_map(Step::Reached),
        (1..80u64).prop_map(Step::Ban),
        (1..80u64).prop_map(Step::Unban),
        (1..80u64).prop_map(Step::DialFailed),
        (0..90_000_000u32).prop_map(Step::Wait),
        Just(Step::Credit),
        (0..4u8).prop_map(Step::Renew),
        Just(Step::LookNow),
        Just(Step::Restart),
    ]
}

proptest! {
    #[test]
    fn invariants_hold_whatever_happens(steps in prop::collection::vec(step(), 1..200)) {
        let mut book = book(6);
        let (mut now, mut replaced) = (Time::ZERO, 0);
        let standings = [Standing::Heard, Standing::Heard, Standing::Bootnode];
        for step in steps {
            match step {
                Step::Discovered(n, s) => {
                    let standing = standings[usize::from(s)];
                    book.discovered(now, PeerId::from_number(n), &address(n), standing, Source::Lookup);
                }
                Step::Connected(n, outbound) => {
                    let direction = if outbound { Direction::Outbound } else { Direction::Inbound };
                    connect(&mut book, now, n, direction);
                    book.mesh_has(now, |id| id.as_bytes()[7] % 2 == 0);
                }
                Step::Disconnected(n) => book.disconnected(now, PeerId::from_number(n)),
                Step::DialFailed(n) => book.dial_failed(now, PeerId::from_number(n)),
                Step::Reached(n) => book.reached(now, PeerId::from_number(n), &address(n)[0]),
                Step::Ban(n) => {
                    let subnet = Subnet::new(ip(n), 24).expect("short enough");
                    let target = if n % 2 == 0 { BanTarget::Peer(PeerId::from_number(n)) } else { BanTarget::Addresses(subnet) };
                    book.ban(now, Ban { target, until_unix_s: 1_000, reason: String::new() }).expect("room");
                    let banned = |action: PeerAction| {
                        if let PeerAction::Dial { id, .. } = action {
                            assert!(id != PeerId::from_number(n), "a banned peer is dialled");
                        }
                    };
                    book.on_wake(now, banned);
                }
                Step::Unban(n) => {
                    book.unban(BanTarget::Peer(PeerId::from_number(n)));
                }
                Step::Credit => book.credit(now, |id| (id.as_bytes()[7] % 3 == 0).then_some(now)),
                Step::Renew(links) => {
                    replaced += u64::from(links);
                    for id in book.renew(now, replaced, |id| (id.as_bytes()[7] % 5 > 0).then_some(id.as_bytes()[7] % 5 == 1)) {
                        let state = book.candidates.get(&id).map(|it| it.state);
                        let is_ours = matches!(state, Some(State::Connected { direction: Direction::Outbound, .. }));
                        prop_assert!(is_ours, "{id:?} is not ours to give up: {state:?}");
                        book.disconnected(now, id);
                    }
                }
                Step::LookNow => book.look_now(now),
                Step::Restart => {
                    replaced = 0;
                    let parts = PeerParts { book: Some(book.to_file()), ..PeerParts::from(book.config.clone()) };
                    book = PeerBook::new(parts, PeerId::from_number(0), Stream::from_seed([8; 32]), now);
                }
                Step::Wait(micros) => now = now + Duration::from_micros(u64::from(micros)),
            }
            book.check();
            prop_assert_eq!(book.next_wake(), naive_wake(&book));
            let due = book.next_wake() <= now;
            let (dialled, walks) = wake(&mut book, now);
            prop_assert_eq!(book.next_wake(), naive_wake(&book));
            prop_assert!(due || (dialled.is_empty() && walks == 0), "acted before next_wake");
            prop_assert!(book.next_wake() > now, "woken in vain for ever");
        }
    }
}
