//! What travels in messages, in files and in request bodies.

use crate::seeds::{genesis, genesis_with_stamp};
use bytes::Bytes;
use starling_crypto::SecretKey;
use starling_protocol::block::{Block, SignedHeader};
use starling_protocol::codec::{decode_canonical, encode};
use starling_protocol::genesis::{Genesis, GenesisParameters};
use starling_protocol::request::{Answer, Request, Response, Status};
use starling_protocol::transaction::{SignedTransaction, Transaction};

/// A decoded transaction is exactly the bytes it came from; its checks and its signature's verification never panic.
pub(super) fn transaction(bytes: &[u8]) {
    let shared = Bytes::copy_from_slice(bytes);
    for genesis in [genesis(), genesis_with_stamp()] {
        let decoded = Transaction::decode(shared.clone(), &genesis);
        let form = Transaction::decode_form(&shared, usize::MAX);
        assert!(decoded.is_err() || form.is_ok());
        let Ok(transaction) = form else { continue };
        assert_eq!(transaction.bytes(), bytes);
        assert_eq!(Transaction::from_parts(transaction.to_parts()).bytes(), bytes);
        assert_eq!(transaction.check(&genesis).is_ok(), decoded.is_ok());
        let _valid_or_not = transaction.check_expiry(u64::MAX, &genesis);
        let _valid_or_not = transaction.verify_signature();
    }
}

/// A decoded block is exactly the bytes it came from, and so are its parts.
pub(super) fn block(bytes: &[u8]) {
    let genesis = genesis();
    let Ok(block) = Block::decode(Bytes::copy_from_slice(bytes), &genesis) else { return };
    assert_eq!(block.bytes(), bytes);
    assert_eq!(Block::from_parts(*block.signed_header(), block.transactions().to_vec()).bytes(), bytes);
    assert!(block.encoded_len() <= genesis.limits().block_bytes_max as usize);
    let _valid_or_not = block.verify_header_signature(&genesis);
    let _valid_or_not = block.verify_bodies(&genesis);
}

/// A genesis that can be read can be written, and read again as the same network.
pub(super) fn genesis_toml(bytes: &[u8]) {
    let Ok(text) = core::str::from_utf8(bytes) else { return };
    match Genesis::from_toml(text) {
        Ok(genesis) => {
            let again = Genesis::from_toml(&genesis.to_toml()).expect("what is written can be read");
            assert_eq!(again.network_id(), genesis.network_id());
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// Whatever the codec accepts as any type is the one encoding of that value.
pub(super) fn codec_types(bytes: &[u8]) {
    fn canonical<T: for<'a> serde::Deserialize<'a> + serde::Serialize>(bytes: &[u8]) {
        if let Ok(value) = decode_canonical::<T>(bytes, bytes.len()) {
            assert_eq!(encode(&value), bytes);
        }
    }
    canonical::<SignedTransaction>(bytes);
    canonical::<SignedHeader>(bytes);
    canonical::<GenesisParameters>(bytes);
    canonical::<Request>(bytes);
    canonical::<Status>(bytes);
    assert!(decode_canonical::<u64>(bytes, 7).is_err());
}

/// Requests about the chain and responses.
pub(super) fn request(bytes: &[u8]) {
    if let Ok(request) = Request::decode(bytes) {
        assert_eq!(request.encode(), bytes);
    }
    if let Ok(response) = Response::decode(&Bytes::copy_from_slice(bytes), &genesis()) {
        assert_eq!(response.encode(), bytes);
        match response.answer {
            Answer::Blocks(blocks) => blocks.iter().for_each(|encoded| block(encoded)),
            Answer::Headers(headers) => headers.iter().for_each(|header| drop(header.verify(&genesis()))),
            Answer::Status | Answer::Busy => {}
        }
    }
}

/// A key file that can be read is written as a key file of the same key.
pub(super) fn key_pem(bytes: &[u8]) {
    let Ok(text) = core::str::from_utf8(bytes) else { return };
    if let Ok(key) = SecretKey::from_pem(text) {
        let again = SecretKey::from_pem(&key.to_pem()).expect("what is written can be read");
        assert_eq!(again.public_key().to_bytes(), key.public_key().to_bytes());
    }
}
