//! Transactions, blocks and genesis as their users see them: made, sent, checked, refused.

mod block;
mod genesis;
mod transaction;

use starling_crypto::SecretKey;
use starling_protocol::genesis::{Genesis, GenesisParameters, Limits};
use starling_protocol::transaction::{Transaction, TransactionBuilder};

fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed(&[seed; 32])
}

/// Two producers (keys 1 and 2; odd slots are key 2's), small limits, and a little work for every transaction.
fn parameters() -> GenesisParameters {
    GenesisParameters {
        name: "test".into(),
        start_time_ms: 1_800_000_000_000,
        slot_ms: 2_000,
        producers: vec![key(1).public_key().to_bytes(), key(2).public_key().to_bytes()],
        limits: Limits {
            payload_bytes_max: 100,
            transactions_per_block_max: 4,
            block_bytes_max: 1_000,
            expiry_slots_max: 10,
            nonce_window: 8,
        },
        stamp_bits: 4,
    }
}

fn network() -> Genesis {
    Genesis::new(parameters()).expect("the values are within their bounds")
}

/// A valid transaction by key 9, which expires after slot 12.
fn transaction(genesis: &Genesis, nonce: u64) -> Transaction {
    let builder = TransactionBuilder::new(genesis, 12).nonce(nonce).payload(format!("payload {nonce}"));
    builder.build(&key(9)).expect("the payload is short")
}
