//! A node's disk: what survives when the node is killed.
//!
//! Batches are applied in the order in which they were emitted, each when it is answered as durable, so a kill loses what was not
//! answered yet ([`starling_protocol::store`]). Encodings share the memory of the messages that they came in.

use bytes::Bytes;
use starling_protocol::block::{Block, SIGNED_HEADER_BYTES};
use starling_protocol::genesis::Genesis;
use starling_protocol::id::{BlockId, TransactionId};
use starling_protocol::node::NodeParts;
use starling_protocol::store::{LoadRequest, StoreOp};
use std::collections::{BTreeMap, BTreeSet};

/// What is stored.
#[derive(Debug, Default)]
pub(super) struct Disk {
    /// When the last batch is done that was handed in, in microseconds.
    pub(super) free_us: u64,
    blocks: BTreeMap<BlockId, Bytes>,
    canonical: BTreeMap<u64, BlockId>,
    /// Transactions in canonical blocks.
    pub(super) included: BTreeSet<TransactionId>,
    pub(super) pending: BTreeMap<TransactionId, Bytes>,
    pub(super) signed: Option<u64>,
    pub(super) pool: Vec<Bytes>,
    /// The file of peers.
    pub(super) peers: Option<Vec<u8>>,
}

impl Disk {
    pub(super) fn apply(&mut self, batch: &[StoreOp]) {
        for op in batch {
            match op {
                StoreOp::PutBlock { id, bytes, .. } => {
                    self.blocks.insert(*id, bytes.clone());
                }
                StoreOp::SetCanonical { height, id } => {
                    self.canonical.insert(*height, *id);
                }
                StoreOp::UnsetCanonicalFrom { height } => drop(self.canonical.split_off(height)),
                StoreOp::PutPending { transaction, bytes, .. } => {
                    self.pending.insert(*transaction, bytes.clone());
                }
                StoreOp::RemovePending { transaction } => {
                    self.pending.remove(transaction);
                }
                StoreOp::SetSigned { slot } => self.signed = self.signed.max(Some(*slot)),
                StoreOp::ReplacePool { transactions } => self.pool.clone_from(transactions),
                StoreOp::IndexTransaction { transaction, .. } => {
                    self.included.insert(*transaction);
                }
                StoreOp::UnindexTransaction { transaction } => {
                    self.included.remove(transaction);
                }
                // The head follows from the canonical blocks.
                StoreOp::SetHead { .. } => {}
            }
        }
    }

    pub(super) fn load(&self, what: &LoadRequest) -> Vec<Bytes> {
        match what {
            LoadRequest::Headers { locator, headers_max } => {
                let height = |id| self.canonical.iter().find(|(_, other)| *other == id).map(|(height, _)| *height);
                let common = locator.iter().find_map(height).unwrap_or(0);
                let ids = self.canonical.range(common + 1..).map(|(_, id)| id).take(usize::from(*headers_max));
                ids.filter_map(|id| Some(self.blocks.get(id)?.slice(..SIGNED_HEADER_BYTES))).collect()
            }
            LoadRequest::Blocks { ids, bytes_max } => {
                let (mut loaded, mut bytes) = (Vec::new(), 0);
                for id in ids {
                    let block = self.blocks.get(id).cloned().unwrap_or_default();
                    bytes += block.len();
                    if bytes > *bytes_max as usize && !loaded.is_empty() {
                        break;
                    }
                    loaded.push(block);
                }
                loaded
            }
        }
    }

    /// The last canonical blocks, as many as a node needs to go on.
    pub(super) fn blocks(&self, genesis: &Genesis) -> Vec<Block> {
        let depth = usize::try_from(NodeParts::restore_depth(genesis)).unwrap_or(usize::MAX);
        let skipped = self.canonical.len().saturating_sub(depth);
        let ids = self.canonical.values().skip(skipped);
        ids.filter_map(|id| Block::decode(self.blocks.get(id)?.clone(), genesis).ok()).collect()
    }
}
