//! The file in which a book outlives the process. `docs/PROTOCOL.md` has it byte by byte.
//!
//! It is canonical: entries in the order of their ids, each in the place that its key gives it. So what is read and written again is the
//! same, and a file that breaks a rule of the tables is refused as damaged.

use super::acquaintances::Acquaintance;
use super::{ANCHORS_MAX, Address, AddressBook, Anchor, BOOK_ADDRESSES_MAX, BookConfig, Entry, Group, Place, ip_of};
use crate::codec;
use crate::id::PeerId;
use crate::peers::ADDRESS_BYTES_MAX;
use crate::peers::sealed::{FileError, Kind};
use crate::random::Stream;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Longest file that is looked at: full tables of the longest addresses.
pub const FILE_BYTES_MAX: usize = 8 << 20;

const FILE: Kind = Kind { what: "address book", magic: *b"starbook", version: 2 };

#[derive(Serialize, Deserialize)]
struct Content {
    key: [u8; 16],
    anchors: Vec<AnchorRecord>,
    acquaintances: Vec<AcquaintanceRecord>,
    tried: Vec<Record>,
    new: Vec<Record>,
}

#[derive(Serialize, Deserialize)]
struct AnchorRecord {
    #[serde(with = "codec::byte_string")]
    id: Vec<u8>,
    addresses: Vec<AddressRecord>,
}

#[derive(Serialize, Deserialize)]
struct AcquaintanceRecord {
    #[serde(with = "codec::byte_string")]
    id: Vec<u8>,
    addresses: Vec<AddressRecord>,
    group: Group,
    dialled: bool,
    merit: u8,
}

#[derive(Serialize, Deserialize)]
struct AddressRecord(#[serde(with = "codec::byte_string")] Vec<u8>);

#[derive(Serialize, Deserialize)]
struct Record {
    #[serde(with = "codec::byte_string")]
    id: Vec<u8>,
    addresses: Vec<AddressRecord>,
    group: Group,
    source: Group,
    failures: u8,
}

impl AddressBook {
    /// The file that holds this book.
    #[must_use]
    pub fn to_file(&self) -> Vec<u8> {
        let records = |tried: bool| -> Vec<Record> {
            self.entries.iter().filter(|(_, entry)| entry.tried == tried).map(record).collect()
        };
        let anchors = self.anchors.iter().map(|anchor| AnchorRecord {
            id: anchor.id.as_bytes().to_vec(),
            addresses: address_records(&anchor.addresses),
        });
        let acquaintances = self.acquaintances.iter().map(|(id, known)| AcquaintanceRecord {
            id: id.as_bytes().to_vec(),
            addresses: address_records(&known.addresses),
            group: known.group,
            dialled: known.dialled,
            merit: known.merit,
        });
        let content = Content {
            key: self.key,
            anchors: anchors.collect(),
            acquaintances: acquaintances.collect(),
            tried: records(true),
            new: records(false),
        };
        FILE.seal(&codec::encode(&content))
    }

    /// Reads a file written by [`Self::to_file`].
    ///
    /// # Errors
    /// If it is damaged, or of another version.
    pub fn from_file(bytes: &[u8], config: BookConfig, random: Stream) -> Result<Self, FileError> {
        let body = FILE.open(bytes)?;
        let content: Content =
            codec::decode_canonical(body, FILE_BYTES_MAX).map_err(|error| FileError::Content(error.to_string()))?;
        let wrong = |what: &str| FileError::Content(what.to_owned());
        let mut book = Self::new(config, content.key, random);
        if content.anchors.len() > ANCHORS_MAX {
            return Err(wrong("there are too many anchors"));
        }
        for anchor in content.anchors {
            let id = PeerId::from_bytes(&anchor.id).ok_or_else(|| wrong("an anchor has an impossible id"))?;
            let addresses = addresses(anchor.addresses).ok_or_else(|| wrong("an anchor has impossible addresses"))?;
            if book.anchors.last().is_some_and(|last| last.id >= id) {
                return Err(wrong("the anchors are not in order"));
            }
            book.anchors.push(Anchor { id, addresses });
        }
        let mut last = None;
        for record in content.acquaintances {
            let (id, known) = acquaintance(record).ok_or_else(|| wrong("an acquaintance has impossible fields"))?;
            if last.replace(id) >= Some(id) || !book.acquaintances.restore(id, known) {
                return Err(wrong("the acquaintances break the rules of their list"));
            }
        }
        for (records, tried) in [(content.tried, true), (content.new, false)] {
            let mut last = None;
            for record in records {
                let id = book.restore(record, tried).ok_or_else(|| wrong("an entry breaks the rules of its table"))?;
                if last.replace(id) >= Some(id) {
                    return Err(wrong("the entries are not in order"));
                }
            }
        }
        Ok(book)
    }

    fn restore(&mut self, record: Record, tried: bool) -> Option<PeerId> {
        let id = PeerId::from_bytes(&record.id)?;
        let addresses = addresses(record.addresses)?;
        let Record { group, source, failures, .. } = record;
        let failures_max = super::TRIED_FAILURES_MAX;
        if !group.is_possible() || group == Group::LOOKUPS || !source.is_possible() || failures > failures_max {
            return None;
        }
        let place: Place = if tried { self.tried_place_in(id, group) } else { self.new_place(id, group, source) };
        let table = if tried { &mut self.tried } else { &mut self.new };
        if table.get(place).is_some() || self.entries.contains_key(&id) {
            return None;
        }
        table.insert(place, id);
        self.entries.insert(id, Entry { addresses, group, source, place, tried, failures, reached: None });
        Some(id)
    }
}

fn record((id, entry): (&PeerId, &Entry)) -> Record {
    Record {
        id: id.as_bytes().to_vec(),
        addresses: address_records(&entry.addresses),
        group: entry.group,
        source: entry.source,
        failures: entry.failures,
    }
}

fn acquaintance(record: AcquaintanceRecord) -> Option<(PeerId, Acquaintance)> {
    let AcquaintanceRecord { id, addresses: given, group, dialled, merit } = record;
    let addresses = if given.is_empty() { Vec::new() } else { addresses(given)? };
    let known = Acquaintance { addresses, group, dialled, merit };
    (group.is_possible() && group != Group::LOOKUPS).then_some((PeerId::from_bytes(&id)?, known))
}

fn address_records(addresses: &[Address]) -> Vec<AddressRecord> {
    addresses.iter().map(|address| AddressRecord(address.to_vec())).collect()
}

/// Addresses such as a book takes.
fn addresses(records: Vec<AddressRecord>) -> Option<Vec<Address>> {
    let fitting =
        |address: &Address| address.len() <= ADDRESS_BYTES_MAX && ip_of(address).and_then(Group::of).is_some();
    let addresses: Vec<Address> = records.into_iter().map(|record| Bytes::from(record.0)).collect();
    ((1..=BOOK_ADDRESSES_MAX).contains(&addresses.len()) && addresses.iter().all(fitting)).then_some(addresses)
}

#[cfg(test)]
mod tests;
