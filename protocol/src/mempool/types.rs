//! What goes into the mempool and what comes out.

use super::Account;
use crate::id::{PeerHandle, TransactionId};
use crate::message::Payload;
use crate::transaction::Transaction;
use std::sync::Arc;

/// What a transaction is counted with besides its bytes: an estimate of what its entries in the pool's indexes take.
pub const OVERHEAD_BYTES: usize = 512;

/// Bounds that a node chooses for itself; the rules of the network come from its genesis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The most transactions held.
    pub transactions_max: usize,
    /// The most bytes held, [`OVERHEAD_BYTES`] for each transaction included.
    pub bytes_max: usize,
    /// The most transactions held of one sender.
    pub sender_transactions_max: usize,
    /// How many transactions that left the pool without being included are remembered.
    pub outcomes_max: usize,
    /// How many slots beyond the latest allowed expiry are put down to the relay's clock rather than to the relay.
    pub expiry_grace_slots: u64,
}

impl Config {
    /// What a place is worth in bytes, when it is asked who takes up most of the pool: as much as there is for each, and no less than it takes.
    #[must_use]
    pub fn place_bytes(&self) -> usize {
        (self.bytes_max / self.transactions_max.max(1)).max(OVERHEAD_BYTES)
    }
}

impl Default for Config {
    /// The figures are guesses that suit a node with some hundred MiB of memory: at 300 bytes a transaction, the count
    /// is reached first.
    fn default() -> Self {
        Self {
            transactions_max: 16_384,
            bytes_max: 32 << 20,
            sender_transactions_max: 256,
            outcomes_max: 4_096,
            expiry_grace_slots: 2,
        }
    }
}

/// A transaction to be taken in, and the message that carries it, if there is one. *Rationale for keeping that:* what is pending is announced
/// to peers again and again, by the id of its message, and to make a message is to hash all of it.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The transaction.
    pub transaction: Transaction,
    /// The message; it keeps its bytes alive.
    pub message: Option<Arc<Payload>>,
}

impl From<Transaction> for Candidate {
    fn from(transaction: Transaction) -> Self {
        Self { transaction, message: None }
    }
}

/// Where a transaction came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// Submitted to this node.
    Local,
    /// Received from a peer.
    Peer(PeerHandle),
    /// Taken out of a block that left the canonical chain.
    Reorganisation,
    /// It waited here when the node was last stopped.
    Restored,
}

/// Who is answerable for a transaction that was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// Whoever sent it: no honest node would have passed it on.
    Peer,
    /// Nobody, as far as one can tell.
    Nobody,
}

/// Why a transaction was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MempoolError {
    /// It is here already.
    #[error("the transaction is in the pool already; wait for a block to include it")]
    Known,
    /// It may not be included any more.
    #[error(
        "the transaction expired at the end of slot {expiry_slot} and it is slot {slot}; sign it again with a later expiry slot"
    )]
    Expired {
        /// Its last slot.
        expiry_slot: u64,
        /// The current slot.
        slot: u64,
    },
    /// It would live longer than the genesis allows.
    #[error(
        "expiry slot {expiry_slot} is too far ahead: the latest allowed now is {latest}; sign it again with an earlier one"
    )]
    ExpiryTooFar {
        /// Its last slot.
        expiry_slot: u64,
        /// The latest allowed.
        latest: u64,
        /// Whether it is further off than any honest clock would explain.
        blatant: bool,
    },
    /// A transaction with this nonce, or a later one, is in the chain.
    #[error("nonce {nonce} of this sender is already used; the next one is {next}")]
    NonceUsed {
        /// The transaction's nonce.
        nonce: u64,
        /// The sender's next nonce.
        next: u64,
    },
    /// The nonce is too far ahead.
    #[error(
        "nonce {nonce} is too far ahead: this sender's nonces {first} to {last} are taken in now; send the missing ones first"
    )]
    NonceGap {
        /// The transaction's nonce.
        nonce: u64,
        /// The lowest nonce taken in.
        first: u64,
        /// The highest.
        last: u64,
    },
    /// The highest number is no nonce, because none could follow it.
    #[error("nonce 18446744073709551615 is never valid, since none can follow it; use a lower one, or another key")]
    NonceExhausted,
    /// Another transaction of the sender has the nonce.
    #[error(
        "nonce {nonce} of this sender is taken by transaction {by} in the pool, and there is no replacement; use nonce {free}, or wait until that one expires"
    )]
    NonceTaken {
        /// The nonce of both.
        nonce: u64,
        /// The one in the pool.
        by: TransactionId,
        /// The first free nonce after it.
        free: u64,
    },
    /// The sender has as many transactions here as one may have.
    #[error(
        "this sender has {count} transactions in the pool, which is the most that one may have; wait until some are included"
    )]
    SenderQuota {
        /// How many it has.
        count: usize,
    },
    /// There is no room.
    #[error(
        "the pool is full with {count} transactions of {bytes} bytes, and no other sender has a larger share; try again after the next block"
    )]
    Full {
        /// Transactions in the pool.
        count: usize,
        /// Their bytes.
        bytes: usize,
    },
}

impl MempoolError {
    /// Who is answerable.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            Self::ExpiryTooFar { blatant: true, .. } => Fault::Peer,
            _ => Fault::Nobody,
        }
    }
}

/// A transaction was taken in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inserted {
    /// Whether it could go into the next block, or waits for a gap in the nonces to be filled.
    pub executable: bool,
    /// What had to make room for it.
    pub evicted: Vec<TransactionId>,
}

/// What the pool knows of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Status {
    /// It is here.
    Pending {
        /// Whether it could go into the next block.
        executable: bool,
    },
    /// It expired here without having been included.
    Expired,
    /// Another transaction with its nonce, or a later one, was included instead.
    Superseded,
    /// It made room for others.
    Evicted,
}

/// What became of one transaction; see [`super::Mempool::take_changes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// Which transaction.
    pub id: TransactionId,
    /// Whose it is.
    pub sender: Account,
    /// Its nonce.
    pub nonce: u64,
    /// What it is now. `Pending` means that it was taken in; whether it is executable is not looked at.
    pub status: Status,
}

/// How full the pool is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Transactions.
    pub transactions: usize,
    /// Those of them that wait for a gap in the nonces to be filled.
    pub future: usize,
    /// Their bytes, without overhead.
    pub bytes: usize,
    /// Senders with at least one transaction.
    pub senders: usize,
}

/// What a change of the chain's head did to the pool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// How many transactions of undone blocks came back.
    pub returned: usize,
    /// How many transactions of undone blocks were refused.
    pub refused: usize,
    /// How many were superseded.
    pub superseded: usize,
    /// How many expired.
    pub expired: usize,
}
