//! What keeps a node from being surrounded: each rule of the module by itself.

use super::*;
use crate::peers::bans::Ban;

/// A wake that answers nothing: whom it dials, and what for.
fn dials(book: &mut PeerBook, now: Time) -> Vec<(PeerId, DialPurpose)> {
    let mut dials = Vec::new();
    book.on_wake(now, |action| {
        if let PeerAction::Dial { id, purpose, .. } = action {
            dials.push((id, purpose));
        }
    });
    book.check();
    dials
}

/// Has the book hear of a peer, dial it and reach it, so that it has a link of its own.
fn befriend(book: &mut PeerBook, now: Time, number: u64) {
    let id = PeerId::from_number(number);
    hear(book, now, number);
    while !dials(book, now).contains(&(id, DialPurpose::Connect)) {
        assert!(book.next_wake() <= now, "{number} is not dialled");
    }
    book.reached(now, id, &address(number)[0]);
    connect(book, now, number, Direction::Outbound);
}

#[test]
fn whoever_answers_without_room_loses_nothing_in_the_book() {
    let mut book = book(4);
    connect(&mut book, Time::ZERO, 2, Direction::Inbound);
    hear(&mut book, Time::ZERO, 1);
    let id = PeerId::from_number(1);
    assert_eq!(wake(&mut book, Time::ZERO).0, [id]);
    book.reached(Time::ZERO, id, &address(1)[0]);
    let before = book.to_file();
    book.dial_failed(Time::ZERO, id);
    assert_eq!(book.to_file(), before, "it answered");

    let again = book.next_wake().max(Time::from_secs(10));
    assert_eq!(wake(&mut book, again).0, [id]);
    book.dial_failed(again, id);
    assert_ne!(book.to_file(), before, "now it did not, and that counts");
}

/// A book that was saved with two anchors and a hundred others, in the next life.
fn with_anchors(target: usize) -> PeerBook {
    let mut former = book(2);
    for number in [1, 2] {
        befriend(&mut former, Time::ZERO, number);
    }
    former.mesh_has(Time::ZERO, |_| true);
    for number in 3..100 {
        hear(&mut former, Time::ZERO, number);
    }
    assert_eq!(former.stats().anchors, 2);
    let config = PeerConfig { candidates_max: 32, ..PeerConfig::for_target(target) };
    let parts = PeerParts { book: Some(former.to_file()), ..PeerParts::from(config) };
    PeerBook::new(parts, PeerId::from_number(0), Stream::from_seed([8; 32]), Time::ZERO)
}

#[test]
fn the_anchors_are_dialled_first_after_a_restart() {
    let anchors = [1, 2].map(|number| (PeerId::from_number(number), DialPurpose::Connect));
    let mut restarted = with_anchors(12);
    let first = dials(&mut restarted, Time::ZERO);
    assert_eq!(first[..2], anchors);
    assert_eq!(first.len(), 12, "and then others");
}

#[test]
fn the_anchors_are_dialled_beyond_the_target_until_they_have_failed_often_enough() {
    let mut book = with_anchors(2);
    // Attackers take every place before the first dial.
    for number in 50..54 {
        connect(&mut book, Time::ZERO, number, Direction::Outbound);
    }
    let mut now = Time::ZERO;
    let mut tries = 0;
    // A dozen steps would do.
    for _ in 0..200 {
        for (id, purpose) in dials(&mut book, now) {
            tries += usize::from(purpose == DialPurpose::Connect);
            book.dial_failed(now, id);
        }
        now = book.next_wake().max(now);
    }
    assert_eq!(tries, 2 * ANCHOR_FAILURES_MAX as usize);
    assert_eq!(book.stats().anchors, 2, "they stay anchors until there are better ones");
}

#[test]
fn a_feeler_goes_out_now_and_then_and_proves_what_was_only_heard_of() {
    let mut book = book(2);
    let mut now = Time::ZERO;
    for number in [1, 2] {
        befriend(&mut book, now, number);
    }
    for number in 10..30 {
        hear(&mut book, now, number);
    }
    let (new, tried) = (book.stats().new, book.stats().tried);
    let mut sent = Vec::new();
    for _ in 0..1_000 {
        if sent.len() == 10 {
            break;
        }
        now = book.next_wake();
        for (id, purpose) in dials(&mut book, now) {
            assert_eq!(purpose, DialPurpose::Feeler, "the target is reached");
            sent.push(now);
            book.reached(now, id, &address(u64::from_be_bytes(*id.as_bytes().first_chunk().expect("a number")))[0]);
        }
    }
    assert_eq!(sent.len(), 10, "{sent:?}");
    let interval = book.config.feeler_interval;
    let waits = sent.windows(2).map(|pair| pair[1].since(pair[0]));
    assert!(waits.clone().all(|wait| wait >= interval / 2 && wait <= interval * 3 / 2), "{sent:?}");
    assert_eq!((book.stats().new, book.stats().tried), (new - 10, tried + 10));
}

#[test]
fn three_in_ten_links_are_sought_outbound_however_many_come_in() {
    for inbound in [0, 7, 14, 70, 140] {
        let mut book = book(4);
        for number in 1..=inbound {
            connect(&mut book, Time::ZERO, number, Direction::Inbound);
        }
        for number in 200..400 {
            hear(&mut book, Time::ZERO, number);
        }
        loop {
            let dialled = dials(&mut book, Time::ZERO);
            if dialled.is_empty() {
                break;
            }
            for (id, _) in dialled {
                book.connected(Time::ZERO, id, ip(1), Direction::Outbound);
            }
        }
        let stats = book.stats();
        assert!(stats.outbound * 10 >= stats.connected * 3, "{stats:?}");
        let needed = (stats.connected - stats.outbound) * 3;
        assert!(stats.outbound <= 4.max(needed.div_ceil(7)), "no more than that: {stats:?}");
    }
}

#[test]
fn a_banned_peer_is_dialled_again_when_its_ban_has_ended_and_not_before() {
    let mut book = book(2);
    book.set_wall_clock(0);
    let id = PeerId::from_number(1);
    book.discovered(Time::ZERO, id, &address(1), Standing::Bootnode, Source::Operator);
    let ban = Ban { target: BanTarget::Peer(id), until_unix_s: 100, reason: String::new() };
    book.ban(Time::ZERO, ban).expect("room");
    for second in 0..100 {
        let now = Time::from_secs(second);
        assert!(!book.expire_bans(now) && book.is_banned(now, id, None));
        assert_eq!(dials(&mut book, now), [], "at {second} s");
    }
    let end = Time::from_secs(100);
    assert!(!book.is_banned(end, id, None) && book.expire_bans(end));
    assert_eq!(dials(&mut book, end), [(id, DialPurpose::Connect)]);
}

/// An address of this peer in this network.
fn at(ip: [u8; 4]) -> Vec<Address> {
    vec![Bytes::from([&[4][..], &ip, &[6, 1, 2]].concat())]
}

#[test]
fn what_the_internet_tells_of_private_networks_is_not_remembered() {
    let now = Time::ZERO;
    let [public, neighbour, told] = [1, 2, 3].map(PeerId::from_number);
    let knows = |book: &mut PeerBook, from: Source, ip: [u8; 4]| {
        book.discovered(now, told, &at(ip), Standing::Heard, from);
        let known = book.book.contains(&told);
        book.book.forget(told);
        known
    };
    let local = [[127, 0, 0, 1], [10, 1, 1, 1], [192, 168, 1, 1], [172, 16, 0, 1], [169, 254, 1, 1], [100, 64, 0, 1]];
    let mut book = book(4);
    assert!(!local.iter().any(|ip| knows(&mut book, Source::Lookup, *ip)), "nobody is connected who could say so");
    book.connected(now, public, [20, 1, 1, 1].into(), Direction::Inbound);
    for source in [Source::Peer(public), Source::Lookup, Source::Peer(PeerId::from_number(9))] {
        assert!(!local.iter().any(|ip| knows(&mut book, source, *ip)), "{source:?}");
        assert!(knows(&mut book, source, [30, 1, 1, 1]));
    }
    // A neighbour may tell of the neighbourhood; an answer to a lookup may still be the stranger's.
    book.connected(now, neighbour, [10, 1, 1, 2].into(), Direction::Outbound);
    assert!(knows(&mut book, Source::Peer(neighbour), [10, 1, 1, 1]));
    assert!(!knows(&mut book, Source::Peer(neighbour), [127, 0, 0, 1]), "its loopback is not ours");
    assert!(!knows(&mut book, Source::Lookup, [10, 1, 1, 1]));
    book.disconnected(now, public);
    assert!(knows(&mut book, Source::Lookup, [10, 1, 1, 1]), "only neighbours are asked");
}

#[test]
fn who_is_banned_is_forgotten_everywhere_and_that_is_written_down() {
    let mut book = book(8);
    for number in 1..=3 {
        hear(&mut book, Time::ZERO, number);
        connect(&mut book, Time::ZERO, number, Direction::Outbound);
    }
    book.mesh_has(Time::ZERO, |_| true);
    let mut saves = 0;
    book.on_wake(Time::from_secs(400), |action| saves += usize::from(action == PeerAction::Save));
    assert_eq!((saves, book.stats().known, book.stats().anchors), (1, 3, 3));
    let subnet = Subnet::new(ip(2), 24).expect("short enough");
    for target in [BanTarget::Peer(PeerId::from_number(1)), BanTarget::Addresses(subnet)] {
        book.ban(Time::from_secs(401), Ban { target, until_unix_s: 1_000, reason: String::new() }).expect("room");
    }
    assert_eq!((book.stats().known, book.stats().anchors), (1, 1));
    book.on_wake(Time::from_secs(800), |action| saves += usize::from(action == PeerAction::Save));
    assert_eq!(saves, 2);
}

#[test]
fn a_trusted_peer_is_dialled_as_soon_as_its_ban_ends() {
    let mut book = book(8);
    let id = PeerId::from_number(1);
    let target = BanTarget::Peer(id);
    book.ban(Time::ZERO, Ban { target, until_unix_s: 1_000, reason: String::new() }).expect("room");
    book.discovered(Time::ZERO, id, &address(1), Standing::Trusted, Source::Operator);
    assert_eq!(wake(&mut book, Time::ZERO).0, []);
    assert!(book.unban(target));
    assert_eq!(wake(&mut book, Time::ZERO).0, [id]);
}
