//! The tables against their rules and against a naive copy.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;

/// Small enough that places are taken often.
const SMALL: BookConfig =
    BookConfig { new_buckets: 4, new_buckets_per_source: 2, tried_buckets: 4, tried_buckets_per_group: 2, slots: 2 };

fn book(config: BookConfig) -> AddressBook {
    AddressBook::new(config, [3; 16], Stream::from_seed([5; 32]))
}

fn peer(number: u64) -> PeerId {
    PeerId::from_number(number)
}

fn at(ip: [u8; 4]) -> Address {
    Address::from([&[4][..], &ip, &[6, 1, 2]].concat())
}

/// A host of its own in a network that it shares with every 16th.
fn home(number: u64) -> Address {
    let [.., a, b] = number.to_be_bytes();
    at([20, b % 16, a, b])
}

fn group(ip: [u8; 4]) -> Group {
    Group::of(ip.into()).expect("reachable")
}

fn tell(book: &mut AddressBook, number: u64, source: Group) -> bool {
    book.add(peer(number), &[home(number)], source, Scope::Global)
}

fn is_tried(book: &AddressBook, number: u64) -> bool {
    book.entries.get(&peer(number)).is_some_and(|entry| entry.tried)
}

#[test]
fn one_source_reaches_its_share_of_new_and_no_more() {
    let mut book = book(BookConfig::default());
    let source = group([9, 9, 9, 9]);
    for number in 0..30_000u64 {
        let [.., a, b] = number.to_be_bytes();
        book.add(peer(number), &[at([30 + a % 100, b, a, b])], source, Scope::Global);
    }
    let buckets: BTreeSet<u16> = book.entries.values().map(|entry| entry.place.bucket).collect();
    assert!(buckets.len() <= 32, "{} buckets", buckets.len());
    assert!(book.sizes().0 <= 32 * 32 && book.sizes().0 > 900, "{:?}", book.sizes());
    book.check();
}

#[test]
fn one_group_reaches_its_share_of_tried_and_no_more() {
    let mut book = book(BookConfig::default());
    for number in 0..3_000u64 {
        let [.., a, b] = number.to_be_bytes();
        book.reached(Time::ZERO, peer(number), &at([30, 30, a, b]));
    }
    let buckets: BTreeSet<u16> = book.entries.values().map(|entry| entry.place.bucket).collect();
    assert!(buckets.len() <= 4, "{} buckets", buckets.len());
    assert_eq!(book.sizes(), (0, book.entries.len()));
    assert!(book.sizes().1 <= 4 * 32);
    book.check();
}

#[test]
fn who_fills_few_buckets_is_not_chosen_more_often_for_it() {
    let mut book = book(BookConfig::default());
    // One network with a hundred nodes against twenty networks with one each.
    for number in 0..100 {
        book.reached(Time::ZERO, peer(number), &at([30, 30, 1, u8::try_from(number).expect("small")]));
    }
    for number in 100..120 {
        book.reached(Time::ZERO, peer(number), &at([31, u8::try_from(number).expect("small"), 1, 1]));
    }
    let mut crowd = 0;
    for _ in 0..2_000 {
        let id = book.choose(|_, _| true).expect("somebody");
        crowd += u32::from(id.as_bytes() < peer(100).as_bytes());
    }
    // 5 in 6 were it by entries; 4 buckets of some 21 it is.
    assert!(crowd < 700, "{crowd} of 2000");
}

#[test]
fn an_address_is_believed_from_its_own_scope_only() {
    let mut book = book(BookConfig::default());
    let source = group([9, 9, 9, 9]);
    for (ip, scope, believed) in [
        ([127, 0, 0, 1], Scope::Global, false),
        ([10, 0, 0, 1], Scope::Global, false),
        ([10, 0, 0, 1], Scope::Private, true),
        ([127, 0, 0, 1], Scope::Private, false),
        ([127, 0, 0, 1], Scope::Loopback, true),
        ([224, 0, 0, 1], Scope::Loopback, false),
        ([9, 0, 0, 1], Scope::Loopback, true),
    ] {
        book.forget(peer(1));
        assert_eq!(book.add(peer(1), &[at(ip)], source, scope), believed, "{ip:?} from {scope:?}");
    }
    let name = Address::from_static(b"\x36\x01a\x06\x01\x02");
    assert!(!book.add(peer(2), &[name], source, Scope::Loopback), "names are for the operator");
}

#[test]
fn whoever_is_in_new_stays_unless_it_does_not_answer() {
    let mut book = book(BookConfig { new_buckets: 1, new_buckets_per_source: 1, slots: 1, ..SMALL });
    let source = Group::LOOKUPS;
    assert!(tell(&mut book, 1, source));
    assert!(!tell(&mut book, 2, source), "the place is taken");
    book.failed(peer(1));
    assert!(tell(&mut book, 2, source), "the first one did not answer");
    assert!(!book.contains(&peer(1)));
    for _ in 0..NEW_FAILURES_MAX {
        book.failed(peer(2));
    }
    assert_eq!(book.sizes(), (0, 0));
}

#[test]
fn whoever_is_in_tried_is_tested_before_it_is_replaced() {
    let config = BookConfig { tried_buckets: 1, tried_buckets_per_group: 1, slots: 1, new_buckets: 256, ..SMALL };
    let mut book = book(config);
    let now = Time::from_secs(1);
    book.reached(now, peer(1), &home(1));
    for number in 2..4 {
        assert!(tell(&mut book, number, Group::LOOKUPS));
        book.reached(now, peer(number), &home(number));
    }
    assert!(is_tried(&book, 1) && !is_tried(&book, 2), "the place is taken");
    let idle = |_: PeerId| true;
    let nobody = |_: PeerId| false;
    // It was reached a moment ago: no test is needed, and those who wait stay in new.
    let chosen = book.choose_for_feeler(now, idle, nobody).expect("one of new");
    assert_ne!(chosen, peer(1));
    assert!(book.collisions.is_empty());

    let later = now + RECENT;
    book.reached(later, peer(2), &home(2));
    assert_eq!(book.choose_for_feeler(later, idle, nobody), Some(peer(1)), "its test is due");
    // It passes.
    book.reached(later, peer(1), &home(1));
    assert_ne!(book.choose_for_feeler(later, idle, nobody), Some(peer(1)));
    assert!(is_tried(&book, 1) && book.collisions.is_empty());

    let latest = later + RECENT;
    book.reached(latest, peer(3), &home(3));
    assert_ne!(book.choose_for_feeler(latest, idle, |id| id == peer(1)), Some(peer(1)), "connected is proof enough");
    book.reached(latest, peer(3), &home(3));
    assert_eq!(book.choose_for_feeler(latest, idle, nobody), Some(peer(1)));
    // It fails.
    book.failed(peer(1));
    assert!(is_tried(&book, 3) && !is_tried(&book, 1) && book.contains(&peer(1)), "they change places");
    book.check();
}

#[test]
fn a_failure_without_a_rival_costs_an_old_acquaintance_little() {
    let mut book = book(BookConfig::default());
    book.reached(Time::ZERO, peer(1), &home(1));
    for _ in 1..TRIED_FAILURES_MAX {
        book.failed(peer(1));
        assert!(is_tried(&book, 1));
    }
    book.failed(peer(1));
    assert_eq!(book.sizes(), (1, 0), "back among the new");
    book.failed(peer(1));
    assert_eq!(book.sizes(), (0, 0), "and then forgotten");
}

#[test]
fn gossip_does_not_push_out_where_a_peer_was_reached() {
    let mut book = book(BookConfig::default());
    book.reached(Time::ZERO, peer(1), &home(1));
    for number in 2..20 {
        book.add(peer(1), &[home(number)], Group::LOOKUPS, Scope::Global);
    }
    let addresses = book.addresses(&peer(1)).expect("known");
    assert_eq!((addresses.len(), &addresses[0]), (BOOK_ADDRESSES_MAX, &home(1)));
    let kept = addresses.to_vec();
    book.add(peer(1), &[home(30)], Group::LOOKUPS, Scope::Global);
    assert_eq!(book.addresses(&peer(1)), Some(&kept[..]));
    book.check();
}

#[test]
fn the_keys_decide_where_an_entry_goes() {
    // Which buckets one network reaches in tried and one source in new, and which slots.
    let reached = |key| {
        let book = AddressBook::new(BookConfig::default(), key, Stream::from_seed([0; 32]));
        // So many that every bucket in reach is reached.
        let places = 0..=255u8;
        let tried = places.clone().map(|n| book.tried_place_in(peer(n.into()), group([20, 1, 1, 1]))).collect();
        let networks = places.flat_map(|n| (20..24).map(move |first| (n, [first, n, 1, 1])));
        let new = networks.map(|(n, ip)| book.new_place(peer(n.into()), group(ip), Group::LOOKUPS)).collect();
        [tried, new].map(|places: Vec<Place>| {
            let slots: Vec<u16> = places.iter().map(|place| place.slot).collect();
            (places.into_iter().map(|place| place.bucket).collect::<BTreeSet<u16>>(), slots)
        })
    };
    assert_eq!(reached([1; 16]), reached([1; 16]));
    for (one, other) in reached([1; 16]).into_iter().zip(reached([2; 16])) {
        assert!(one.0 != other.0, "an attacker can compute the buckets: {one:?}");
        assert!(one.1 != other.1, "an attacker can compute the slots: {one:?}");
    }
}

#[test]
fn anchors_survive_in_the_file_even_without_a_place_in_the_tables() {
    let mut book = book(BookConfig::default());
    for number in 1..5 {
        book.reached(Time::ZERO, peer(number), &home(number));
    }
    assert!(book.set_anchors(&[peer(9), peer(3), peer(1), peer(4), peer(2)]), "nobody knows where 9 is");
    assert!(!book.set_anchors(&[peer(1), peer(4), peer(3)]), "the same three");
    book.forget(peer(1));
    let read = AddressBook::from_file(&book.to_file(), BookConfig::default(), Stream::from_seed([1; 32]));
    let read = read.expect("whole");
    let ids: Vec<PeerId> = read.anchors().iter().map(|anchor| anchor.id).collect();
    assert_eq!(ids, [peer(1), peer(3), peer(4)]);
    assert_eq!(read.anchors()[0].addresses, [home(1)]);
}

/// A copy of the rules that keeps plain lists and searches them.
#[derive(Default)]
struct Naive {
    /// Peer, whether it is tried, failures, whether it was reached, source.
    entries: Vec<(u64, bool, u8, bool, Group)>,
    waiting: Vec<u64>,
}

impl Naive {
    fn find(&self, number: u64) -> Option<usize> {
        self.entries.iter().position(|entry| entry.0 == number)
    }

    fn place(&self, book: &AddressBook, number: u64, tried: bool, source: Group) -> (bool, Place) {
        let group = Group::of(ip_of(&home(number)).expect("an address")).expect("reachable");
        let place =
            if tried { book.tried_place_in(peer(number), group) } else { book.new_place(peer(number), group, source) };
        (tried, place)
    }

    /// Who has the place that this peer would have.
    fn holder(&self, book: &AddressBook, number: u64, tried: bool, source: Group) -> Option<usize> {
        let wanted = self.place(book, number, tried, source);
        let holds = |entry: &&(u64, bool, u8, bool, Group)| self.place(book, entry.0, entry.1, entry.4) == wanted;
        self.entries.iter().position(|entry| holds(&entry))
    }

    fn remove(&mut self, number: u64) {
        self.entries.retain(|entry| entry.0 != number);
        self.waiting.retain(|other| *other != number);
    }

    /// Whether there is room in new after a weak holder has gone.
    fn make_room(&mut self, book: &AddressBook, number: u64, source: Group) -> bool {
        let Some(holder) = self.holder(book, number, false, source) else { return true };
        let (other, _, failures, reached, _) = self.entries[holder];
        let weak = failures >= REPLACEABLE_FAILURES || (failures > 0 && !reached);
        if weak {
            self.remove(other);
        }
        weak
    }

    fn add(&mut self, book: &AddressBook, number: u64, source: Group) {
        if self.find(number).is_none() && self.make_room(book, number, source) {
            self.entries.push((number, false, 0, false, source));
        }
    }

    fn reached(&mut self, book: &AddressBook, number: u64) {
        let own = Group::of(ip_of(&home(number)).expect("an address")).expect("reachable");
        let free = self.holder(book, number, true, own).is_none();
        match self.find(number) {
            None if free => self.entries.push((number, true, 0, true, own)),
            None => {}
            Some(index) => {
                let entry = &mut self.entries[index];
                (entry.2, entry.3) = (0, true);
                if !entry.1 && free {
                    entry.1 = true;
                } else if !entry.1 && !self.waiting.contains(&number) && self.waiting.len() < COLLISIONS_MAX {
                    self.waiting.push(number);
                }
            }
        }
    }

    fn failed(&mut self, book: &AddressBook, number: u64) {
        let Some(index) = self.find(number) else { return };
        self.entries[index].2 = self.entries[index].2.saturating_add(1);
        let (_, tried, failures, _, source) = self.entries[index];
        if !tried {
            if failures >= NEW_FAILURES_MAX {
                self.remove(number);
            }
            return;
        }
        let place = |number| self.place(book, number, true, source);
        let rival = self.waiting.iter().copied().find(|rival| {
            place(*rival) == place(number) && self.find(*rival).is_some_and(|index| !self.entries[index].1)
        });
        if rival.is_none() && failures < TRIED_FAILURES_MAX {
            return;
        }
        if self.make_room(book, number, source) {
            let index = self.find(number).expect("still there");
            self.entries[index].1 = false;
        } else {
            self.remove(number);
        }
        if let Some(index) = rival.and_then(|rival| self.find(rival)) {
            self.entries[index].1 = true;
            self.waiting.retain(|other| Some(*other) != rival);
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Add(u64, u8),
    Reached(u64),
    Failed(u64),
    Forget(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..40u64, 0..4u8).prop_map(|(number, source)| Step::Add(number, source)),
        3 => (0..40u64).prop_map(Step::Reached),
        4 => (0..40u64).prop_map(Step::Failed),
        1 => (0..40u64).prop_map(Step::Forget),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn the_tables_do_what_the_naive_copy_does(steps in prop::collection::vec(step(), 1..150)) {
        let mut book = book(SMALL);
        let mut naive = Naive::default();
        for step in steps {
            match step {
                Step::Add(number, source) => {
                    let source = group([9, source, 1, 1]);
                    naive.add(&book, number, source);
                    tell(&mut book, number, source);
                }
                Step::Reached(number) => {
                    naive.reached(&book, number);
                    book.reached(Time::ZERO, peer(number), &home(number));
                }
                Step::Failed(number) => {
                    naive.failed(&book, number);
                    book.failed(peer(number));
                }
                Step::Forget(number) => {
                    naive.remove(number);
                    book.forget(peer(number));
                }
            }
            book.check();
            let mut expected: Vec<_> = naive.entries.iter().map(|(number, tried, failures, ..)| (peer(*number), *tried, *failures)).collect();
            expected.sort_unstable();
            let found: Vec<_> = book.entries.iter().map(|(id, entry)| (*id, entry.tried, entry.failures)).collect();
            prop_assert_eq!(found, expected);
        }
        let read = AddressBook::from_file(&book.to_file(), SMALL, Stream::from_seed([1; 32])).expect("whole");
        read.check();
        prop_assert_eq!(read.to_file(), book.to_file());
        prop_assert_eq!(read.sizes(), book.sizes());
    }
}
