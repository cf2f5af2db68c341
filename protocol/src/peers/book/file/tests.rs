//! What no book writes is refused, whatever its checksum.

use super::*;
use crate::peers::address::Scope;
use crate::time::Time;
use std::net::IpAddr;

fn at(ip: [u8; 4]) -> Address {
    Address::from([&[4][..], &ip, &[6, 1, 2]].concat())
}

fn group(ip: [u8; 4]) -> Group {
    Group::of(ip.into()).expect("reachable")
}

fn acquaintance_in(network: u8) -> Acquaintance {
    Acquaintance {
        addresses: vec![at([40, network, 1, 1])],
        group: group([40, network, 1, 1]),
        dialled: true,
        merit: 7,
    }
}

/// With three entries in tried, three in new, three anchors and three acquaintances, one without addresses.
fn book() -> AddressBook {
    let mut book = AddressBook::new(BookConfig::default(), [3; 16], Stream::from_seed([5; 32]));
    for (number, ip) in
        (1..=6).zip([[20, 1, 1, 1], [20, 2, 1, 1], [20, 3, 1, 1], [20, 4, 1, 1], [20, 5, 1, 1], [20, 6, 1, 1]])
    {
        assert!(book.add(PeerId::from_number(number), &[at(ip)], group([30, 1, 1, 1]), Scope::Global));
        if number <= 3 {
            book.reached(Time::ZERO, PeerId::from_number(number), &at(ip));
        }
    }
    let ids: Vec<PeerId> = (1..=3).map(PeerId::from_number).collect();
    assert!(book.set_anchors(&ids));
    for number in 1..=3 {
        let mut known = acquaintance_in(u8::try_from(number).expect("small"));
        known.dialled = number == 1;
        if number == 2 {
            known.addresses.clear();
        }
        assert!(book.acquaintances_mut().credit(PeerId::from_number(number), known));
    }
    assert_eq!(book.sizes(), (3, 3));
    book
}

fn read(file: &[u8]) -> Result<AddressBook, FileError> {
    AddressBook::from_file(file, BookConfig::default(), Stream::from_seed([1; 32]))
}

/// The error of a file whose content was changed, and whose checksum is right.
fn error_of(change: impl FnOnce(&mut Content)) -> Option<String> {
    let file = book().to_file();
    let body = FILE.open(&file).expect("whole");
    let mut content: Content = codec::decode_canonical(body, FILE_BYTES_MAX).expect("canonical");
    change(&mut content);
    match read(&FILE.seal(&codec::encode(&content))) {
        Ok(_) => None,
        Err(FileError::Content(error)) => Some(error),
        Err(error) => panic!("{error}"),
    }
}

fn id(number: u64) -> Vec<u8> {
    PeerId::from_number(number).as_bytes().to_vec()
}

fn known(number: u64, network: u8) -> AcquaintanceRecord {
    let Acquaintance { addresses, group, dialled, merit } = acquaintance_in(network);
    AcquaintanceRecord { id: id(number), addresses: address_records(&addresses), group, dialled, merit }
}

#[test]
fn everything_is_read_as_it_was() {
    let book = book();
    let again = read(&book.to_file()).expect("whole");
    assert_eq!(again.acquaintances(), book.acquaintances());
    assert_eq!(again.anchors(), book.anchors());
    let entries = |book: &AddressBook| -> Vec<(PeerId, bool, Vec<Address>)> {
        book.entries.iter().map(|(id, entry)| (*id, entry.tried, entry.addresses.clone())).collect()
    };
    assert_eq!(entries(&again), entries(&book));
    assert_eq!(again.to_file(), book.to_file());
    assert_eq!(error_of(|_| ()), None);
}

#[test]
fn lists_are_in_order_and_bounded() {
    let anchors = Some("the anchors are not in order".to_owned());
    assert_eq!(error_of(|content| content.anchors.swap(0, 2)), anchors);
    assert_eq!(error_of(|content| content.anchors[1].id = id(1)), anchors);
    let more = AnchorRecord { id: vec![0xff; 34], addresses: address_records(&[at([20, 9, 1, 1])]) };
    let greater = |content: &mut Content| {
        let mut more = more;
        more.id = id(u64::MAX);
        content.anchors.push(more);
    };
    assert_eq!(error_of(greater), Some("there are too many anchors".to_owned()));
    let entries = Some("the entries are not in order".to_owned());
    assert_eq!(error_of(|content| content.tried.swap(0, 1)), entries);
    assert_eq!(error_of(|content| content.new.swap(1, 2)), entries);
}

#[test]
fn acquaintances_keep_to_the_rules_of_their_list() {
    let rules = Some("the acquaintances break the rules of their list".to_owned());
    assert_eq!(error_of(|content| content.acquaintances.swap(0, 1)), rules);
    assert_eq!(error_of(|content| content.acquaintances[1].id = id(1)), rules);
    assert_eq!(error_of(|content| content.acquaintances[0].merit = 0), rules);
    // Four of a group are as many as there may be.
    assert_eq!(error_of(|content| content.acquaintances.extend((4..=6).map(|number| known(number, 1)))), None);
    assert_eq!(error_of(|content| content.acquaintances.extend((4..=7).map(|number| known(number, 1)))), rules);
    let fields = Some("an acquaintance has impossible fields".to_owned());
    assert_eq!(error_of(|content| content.acquaintances[0].group = Group::LOOKUPS), fields);
    assert_eq!(error_of(|content| content.acquaintances[0].group = impossible()), fields);
    assert_eq!(error_of(|content| content.acquaintances[0].addresses.push(AddressRecord(vec![1, 2, 3]))), fields);
    assert_eq!(error_of(|content| content.acquaintances[0].addresses.clear()), None, "it may have none");
}

/// A group of which no address is.
fn impossible() -> Group {
    let group = Group::host(IpAddr::from([0x2a00_u16, 1, 1, 1, 0, 0, 0, 0]));
    assert!(!group.is_possible());
    group
}

#[test]
fn entries_keep_to_the_rules_of_their_table() {
    let rules = Some("an entry breaks the rules of its table".to_owned());
    for broken in [Group::LOOKUPS, impossible()] {
        assert_eq!(error_of(|content| content.new[0].group = broken), rules);
    }
    assert_eq!(error_of(|content| content.new[0].source = Group::LOOKUPS), None, "lookups are a source");
    assert_eq!(error_of(|content| content.new[0].source = impossible()), rules);
    assert_eq!(error_of(|content| content.new[0].failures = super::super::TRIED_FAILURES_MAX), None);
    assert_eq!(error_of(|content| content.new[0].failures = super::super::TRIED_FAILURES_MAX + 1), rules);
    let both = |content: &mut Content| content.new.insert(0, record_of(&content.tried[0]));
    assert_eq!(error_of(both), rules, "nobody is in both tables");
}

fn record_of(record: &Record) -> Record {
    let addresses = record.addresses.iter().map(|address| AddressRecord(address.0.clone())).collect();
    Record { id: record.id.clone(), addresses, ..*record }
}

#[test]
fn a_place_is_taken_once() {
    let book = book();
    let (_, one) = book.entries.iter().find(|(_, entry)| !entry.tried).expect("three");
    let same = |number: &u64| book.new_place(PeerId::from_number(*number), one.group, one.source) == one.place;
    let number = (100..1_000_000).find(same).expect("one in eight thousand shares it");
    let change = |content: &mut Content| {
        let mut other = record_of(&content.new[content.new.len() - 1]);
        (other.id, other.group, other.source) = (id(number), one.group, one.source);
        content.new.push(other);
        content.new.sort_by(|a, b| PeerId::from_bytes(&a.id).cmp(&PeerId::from_bytes(&b.id)));
    };
    assert_eq!(error_of(change), Some("an entry breaks the rules of its table".to_owned()));
}

#[test]
fn addresses_are_such_as_a_book_takes() {
    let rules = Some("an entry breaks the rules of its table".to_owned());
    let fill = |count: u8| (0..count).map(|number| AddressRecord(at([20, 1, 1, number]).to_vec())).collect();
    let most = u8::try_from(BOOK_ADDRESSES_MAX).expect("few");
    assert_eq!(error_of(|content| content.new[0].addresses = fill(most)), None);
    assert_eq!(error_of(|content| content.new[0].addresses = fill(most + 1)), rules);
    assert_eq!(error_of(|content| content.new[0].addresses.clear()), rules);
    let long = |bytes: usize| [at([20, 1, 1, 1]).to_vec(), vec![0; bytes - 8]].concat();
    assert_eq!(error_of(|content| content.new[0].addresses[0].0 = long(ADDRESS_BYTES_MAX)), None);
    assert_eq!(error_of(|content| content.new[0].addresses[0].0 = long(ADDRESS_BYTES_MAX + 1)), rules);
    assert_eq!(error_of(|content| content.new[0].addresses[0].0 = b"\x35example".to_vec()), rules, "a name");
    let unreachable = at([0, 0, 0, 0]).to_vec();
    assert_eq!(error_of(|content| content.new[0].addresses[0].0 = unreachable), rules);
}
