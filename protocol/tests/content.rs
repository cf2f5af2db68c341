//! Transactions, blocks and genesis as their users see them: made, sent, checked, refused.

use starling_crypto::SecretKey;
use starling_protocol::block::Block;
use starling_protocol::genesis::{Genesis, GenesisParameters, Limits};
use starling_protocol::transaction::{Transaction, TransactionBuilder};

fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed(&[seed; 32])
}

fn genesis() -> Genesis {
    Genesis::new(GenesisParameters {
        name: "test".into(),
        start_time_ms: 1_800_000_000_000,
        slot_ms: 2_000,
        producers: vec![key(1).public_key().to_bytes(), key(2).public_key().to_bytes()],
        limits: Limits::default(),
        stamp_bits: 0,
    })
    .expect("the values are within their bounds")
}

#[test]
fn a_block_of_transactions_arrives_as_it_was_made() {
    let genesis = genesis();
    let transactions: Vec<_> = (0..5)
        .map(|nonce| {
            let builder = TransactionBuilder::new(&genesis, 20).nonce(nonce).payload(format!("payload {nonce}"));
            let made = builder.build(&key(9)).expect("a short payload is allowed");
            let received = Transaction::decode(made.bytes().clone(), &genesis).expect("it was just made");
            assert_eq!(received, made);
            assert_eq!((received.id(), received.nonce()), (made.id(), nonce));
            received.verify_signature().expect("it was just signed");
            received
        })
        .collect();
    let made = Block::produce(&genesis, &key(2), (3, 1, genesis.block_id()), transactions).expect("slot 3 is theirs");
    let received = Block::decode(made.bytes().clone(), &genesis).expect("it was just made");
    assert_eq!((received.id(), received.header()), (made.id(), made.header()));
    assert_eq!(received.transactions(), made.transactions());
    received.verify_header_signature(&genesis).expect("it was just signed");
    received.verify_bodies(&genesis).expect("its transactions are valid");
}
