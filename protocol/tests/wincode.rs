//! The encoding against a second implementation: `wincode`, maintained and made to be compatible with bincode, reads
//! and writes the same bytes. Should bincode have to go, this is the evidence that its successor changes nothing.
//!
//! The mirrors are tuples written from `docs/PROTOCOL.md`, not derived from our types, so that a field moved there is
//! noticed here.

use proptest::prelude::*;
use starling_crypto::{Digest, PublicKeyBytes, Signature};
use starling_protocol::block::{Header, SignedHeader};
use starling_protocol::codec;
use starling_protocol::genesis::{GenesisParameters, Limits};
use starling_protocol::id::{BlockId, NetworkId};
use starling_protocol::transaction::{SignedTransaction, TransactionBody};

type TransactionMirror = ([u8; 32], [u8; 32], u64, u64, Vec<u8>, u64, [u8; 64]);
type HeaderMirror = ([u8; 32], u64, u64, [u8; 32], [u8; 32], u32, [u8; 32], [u8; 64]);
type GenesisMirror = (String, u64, u64, Vec<[u8; 32]>, (u32, u32, u32, u64, u64), u8);

fn transaction(mirror: TransactionMirror) -> SignedTransaction {
    let (network, sender, nonce, expiry_slot, payload, stamp, signature) = mirror;
    let (network, sender) = (NetworkId(Digest(network)), PublicKeyBytes(sender));
    let body = TransactionBody { network, sender, nonce, expiry_slot, payload, stamp };
    SignedTransaction { body, signature: Signature(signature) }
}

fn header(mirror: HeaderMirror) -> SignedHeader {
    let (network, slot, height, parent, root, transaction_count, producer, signature) = mirror;
    let header = Header {
        network: NetworkId(Digest(network)),
        slot,
        height,
        parent: BlockId(Digest(parent)),
        transaction_root: Digest(root),
        transaction_count,
        producer: PublicKeyBytes(producer),
    };
    SignedHeader { header, signature: Signature(signature) }
}

fn genesis(mirror: GenesisMirror) -> GenesisParameters {
    let (name, start_time_ms, slot_ms, producers, limits, stamp_bits) = mirror;
    let (payload_bytes_max, transactions_per_block_max, block_bytes_max, expiry_slots_max, nonce_window) = limits;
    let limits =
        Limits { payload_bytes_max, transactions_per_block_max, block_bytes_max, expiry_slots_max, nonce_window };
    let producers = producers.into_iter().map(PublicKeyBytes).collect();
    GenesisParameters { name, start_time_ms, slot_ms, producers, limits, stamp_bits }
}

fn any_transaction() -> impl Strategy<Value = TransactionMirror> {
    let payload = prop::collection::vec(any::<u8>(), 0..300);
    (any::<[u8; 32]>(), any::<[u8; 32]>(), any::<u64>(), any::<u64>(), payload, any::<u64>(), any_signature())
}

fn any_header() -> impl Strategy<Value = HeaderMirror> {
    let (bytes, number) = (any::<[u8; 32]>, any::<u64>);
    (bytes(), number(), number(), bytes(), bytes(), any::<u32>(), bytes(), any_signature())
}

fn any_signature() -> impl Strategy<Value = [u8; 64]> {
    prop::collection::vec(any::<u8>(), 64).prop_map(|bytes| bytes.try_into().expect("64 bytes"))
}

fn any_genesis() -> impl Strategy<Value = GenesisMirror> {
    let producers = prop::collection::vec(any::<[u8; 32]>(), 0..5);
    (".{0,40}", any::<u64>(), any::<u64>(), producers, any::<(u32, u32, u32, u64, u64)>(), any::<u8>())
}

/// Bytes made from an encoding by cutting it short, adding to it, or putting another byte or length somewhere.
fn damage(mut bytes: Vec<u8>, (place, byte, kind): (prop::sample::Index, u8, u8)) -> Vec<u8> {
    let place = place.index(bytes.len());
    match kind {
        0 => bytes.truncate(place),
        1 => bytes.push(byte),
        2 => bytes[place] = byte,
        // The payload's length of a transaction, at offset 80.
        3 => bytes[80..88].copy_from_slice(&u64::from(byte).to_le_bytes()),
        _ => bytes[80..88].fill(byte),
    }
    bytes
}

proptest! {
    #[test]
    fn both_write_the_same_transaction(mirror in any_transaction()) {
        prop_assert_eq!(wincode::serialize(&mirror).unwrap(), codec::encode(&transaction(mirror)));
    }

    #[test]
    fn both_write_the_same_header(mirror in any_header()) {
        prop_assert_eq!(wincode::serialize(&mirror).unwrap(), codec::encode(&header(mirror)));
    }

    #[test]
    fn both_write_the_same_genesis(mirror in any_genesis()) {
        prop_assert_eq!(wincode::serialize(&mirror).unwrap(), codec::encode(&genesis(mirror)));
    }

    #[test]
    fn both_write_the_same_list(mirrors in prop::collection::vec(any_transaction(), 0..4)) {
        let ours: Vec<_> = mirrors.iter().cloned().map(transaction).collect();
        prop_assert_eq!(wincode::serialize(&mirrors).unwrap(), codec::encode(&ours));
    }

    #[test]
    fn both_read_the_same_or_refuse(mirror in any_transaction(), damage_how in (any::<prop::sample::Index>(), any::<u8>(), 0_u8..5)) {
        let bytes = damage(wincode::serialize(&mirror).unwrap(), damage_how);
        let theirs = wincode::deserialize_exact::<TransactionMirror>(&bytes).ok().map(transaction);
        // Reading through the decoded form takes the borrowing path that the network takes.
        let ours = starling_protocol::transaction::Transaction::decode_form(&bytes.clone().into(), bytes.len());
        prop_assert_eq!(ours.ok().map(|transaction| transaction.to_parts()), theirs);
    }

    #[test]
    fn both_read_the_same_genesis_or_refuse(mirror in any_genesis(), place: prop::sample::Index, byte: u8) {
        let mut bytes = wincode::serialize(&mirror).unwrap();
        let place = place.index(bytes.len());
        bytes[place] = byte;
        let theirs = wincode::deserialize_exact::<GenesisMirror>(&bytes).ok().map(genesis);
        prop_assert_eq!(codec::decode_canonical::<GenesisParameters>(&bytes, bytes.len()).ok(), theirs);
    }
}
