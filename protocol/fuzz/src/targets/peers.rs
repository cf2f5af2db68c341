//! The files in which a node keeps whom it remembers and whom it keeps out.

use starling_protocol::peers::bans::BanList;
use starling_protocol::peers::book::{AddressBook, BookConfig};
use starling_protocol::random::Stream;

/// Frames the input as a file would be, so that mutations reach what is behind the checksum.
fn with_checksum(bytes: &[u8]) -> Vec<u8> {
    use sha2::{Digest as _, Sha256};
    let content = bytes.len().saturating_sub(32);
    let mut framed = bytes[..content].to_vec();
    let checksum = Sha256::digest(&framed);
    framed.extend(checksum);
    framed
}

/// An address book that can be read keeps its invariants, and is written as the same bytes.
pub(super) fn address_book(bytes: &[u8]) {
    for file in [bytes.to_vec(), with_checksum(bytes)] {
        let read = AddressBook::from_file(&file, BookConfig::default(), Stream::from_seed([0; 32]));
        if let Ok(mut book) = read {
            book.check();
            assert_eq!(book.to_file(), file);
            if let Some(id) = book.choose(|_, _| true) {
                (0..20).for_each(|_| book.failed(id));
                assert!(!book.contains(&id));
            }
            book.check();
        }
    }
}

/// A list of bans that can be read is written as the same bytes.
pub(super) fn bans(bytes: &[u8]) {
    for file in [bytes.to_vec(), with_checksum(bytes)] {
        if let Ok(bans) = BanList::from_file(&file) {
            assert_eq!(bans.to_file(), file);
        }
    }
}
