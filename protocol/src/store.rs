//! What a node keeps on disk, as operations that the machines emit and the driver carries out.
//!
//! # The stored state
//! - *Blocks* by id: encoding, height and slot.
//! - *Canonical*: the id of the canonical block at each height from the lowest kept to the head's; the lowest kept is 1
//!   unless older ones were pruned. The block that every chain starts from has no encoding and is not stored.
//! - *Transactions*: where in the canonical chain each one stands.
//! - *Head*: the last canonical block.
//! - *Pending*: transactions that were submitted to this node and acknowledged, until they are included for good or
//!   have expired ([`crate::node`] on submissions).
//! - *Signed*: the slot up to which this node may have signed blocks.
//! - *Pool*: what waited in the mempool when the node was last stopped.
//!
//! # Rules
//! 1. A [`Batch`] is applied whole or not at all, and in the order of its operations; batches in the order in which
//!    they were emitted. After each, the canonical heights are the lowest kept to the head's without a gap, and each has
//!    its block.
//! 2. Carrying out an operation again changes nothing, so a batch that may or may not have been applied before a crash
//!    can be applied again.
//! 3. A batch is answered once, as durable or not. What was answered as durable survives a crash at any later moment.
//! 4. After a batch that could not be stored, no later one is: all that were emitted before the machine is told that
//!    the store is back ([`crate::node::Input::StorageBack`]) are answered as not durable. The machine then emits again,
//!    in the old order, what it still wants stored. So the stored state may lag behind, but has no gaps, and nothing is
//!    stored whose predecessor was refused.
//! 5. The chain never deletes a block: one that left the canonical chain may come back, and a peer may still ask for it.
//!    What this costs is bounded by two blocks a slot ([`crate::chain`] on equivocation). The driver may *prune*: forget
//!    all blocks below a height, with their index rows, as long as it keeps what a restart needs
//!    ([`crate::node::NodeParts::restore_depth`]).
//!
//! Blocks on disk that lag behind are harmless: a node that restarts with a shorter chain fetches the rest again. So
//! the chain does not wait for an answer; submissions and the producer do, because their promises are made to somebody.

use crate::id::{BlockId, TransactionId};
use bytes::Bytes;

/// Operations that belong together.
pub type Batch = Vec<StoreOp>;

/// One change of the stored state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreOp {
    /// Keep a block.
    PutBlock {
        /// Its name.
        id: BlockId,
        /// How many blocks come before it.
        height: u64,
        /// The slot it was made in.
        slot: u64,
        /// Its encoding.
        bytes: Bytes,
    },
    /// The block, which is stored, is the canonical one at this height. Replaces what was there.
    SetCanonical {
        /// The height.
        height: u64,
        /// The block.
        id: BlockId,
    },
    /// No height from this one on has a canonical block.
    UnsetCanonicalFrom {
        /// The lowest height that loses its block.
        height: u64,
    },
    /// The transaction stands in a canonical block. Replaces what was known of it.
    IndexTransaction {
        /// The transaction.
        transaction: TransactionId,
        /// The block.
        block: BlockId,
        /// The block's height.
        height: u64,
        /// Place in the block, counted from 0.
        position: u32,
    },
    /// The transaction stands in no canonical block any more.
    UnindexTransaction {
        /// The transaction.
        transaction: TransactionId,
    },
    /// The last canonical block.
    SetHead {
        /// Its height.
        height: u64,
        /// Its name.
        id: BlockId,
        /// Its slot.
        slot: u64,
    },
    /// Keep a transaction that was submitted here, to be offered again after a restart.
    PutPending {
        /// Its name.
        transaction: TransactionId,
        /// The last slot in which it can be included.
        expiry_slot: u64,
        /// Its encoding.
        bytes: Bytes,
    },
    /// The transaction need not be offered any more.
    RemovePending {
        /// Its name.
        transaction: TransactionId,
    },
    /// This node may sign blocks up to this slot. Never lowers what is stored.
    SetSigned {
        /// The slot.
        slot: u64,
    },
    /// These are the encodings of what waits in the mempool, in the order of arrival. Replaces what was there.
    ReplacePool {
        /// The transactions.
        transactions: Vec<Bytes>,
    },
}

/// How many bytes of encodings a batch brings to the disk.
#[must_use]
pub fn batch_bytes(batch: &[StoreOp]) -> usize {
    batch
        .iter()
        .map(|op| match op {
            StoreOp::PutBlock { bytes, .. } | StoreOp::PutPending { bytes, .. } => bytes.len(),
            StoreOp::ReplacePool { transactions } => transactions.iter().map(Bytes::len).sum(),
            _ => 0,
        })
        .sum()
}

/// What the chain asks the store for, on behalf of a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoadRequest {
    /// The encoded headers of the canonical blocks that follow the first id in `locator` that is canonical, or that follow
    /// genesis if none is; in order, without gaps, at most `headers_max`. None if the first of them is not kept any
    /// more.
    Headers {
        /// Ids of the asking peer's chain, from its head downwards.
        locator: Vec<BlockId>,
        /// The most headers to load.
        headers_max: u16,
    },
    /// The encodings of the blocks with these ids, canonical or not, in this order, and an empty one for each that is
    /// not there. It ends before the one with which they would exceed `bytes_max`, but not before the first.
    Blocks {
        /// The blocks.
        ids: Vec<BlockId>,
        /// The most bytes to load.
        bytes_max: u32,
    },
}
