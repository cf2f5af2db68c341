//! A node's disk: what survives when the node is killed.
//!
//! Batches are applied in the order in which they were emitted, each when it is answered as durable, so a kill loses what was not
//! answered yet ([`starling_protocol::store`]); a process that ends in order waits for all of it. The disk does one thing after the other: what is handed in while it is at work
//! begins when that is done, together, and waits for its latency once. Encodings share the memory of the messages that they came in.

use bytes::Bytes;
use starling_protocol::block::{Block, SIGNED_HEADER_BYTES};
use starling_protocol::genesis::Genesis;
use starling_protocol::id::{BlockId, TransactionId};
use starling_protocol::node::NodeParts;
use starling_protocol::store::{Batch, LoadRequest, StoreOp};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// What is stored.
#[derive(Debug, Default)]
pub(super) struct Disk {
    /// When it is done with what it is at, in microseconds.
    at_work_until_us: u64,
    /// When it is done with what waits as well.
    free_us: u64,
    /// Batches that are not durable yet, in order.
    writing: VecDeque<Batch>,
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
    /// Hands in what takes so long to begin with and so long to transfer, in microseconds; says when it is done.
    pub(super) fn work(&mut self, now_us: u64, latency_us: u64, transfer_us: u64) -> u64 {
        let group_waits = if now_us >= self.free_us {
            (self.at_work_until_us, self.free_us) = (now_us, now_us);
            false
        } else if now_us >= self.at_work_until_us {
            // What waited is what it is at now.
            self.at_work_until_us = self.free_us;
            false
        } else {
            self.free_us > self.at_work_until_us
        };
        let idle = self.free_us == now_us;
        let latency_us = if group_waits { 0 } else { latency_us };
        self.free_us = self.free_us.saturating_add(latency_us).saturating_add(transfer_us);
        if idle {
            self.at_work_until_us = self.free_us;
        }
        self.free_us
    }

    /// Takes in a batch that will be durable later.
    pub(super) fn write(&mut self, batch: Batch) {
        self.writing.push_back(batch);
    }

    /// The batch that was handed in first is durable now.
    pub(super) fn written(&mut self) {
        if let Some(batch) = self.writing.pop_front() {
            self.apply(&batch);
        }
    }

    /// The process ends, and has waited for what it has written or not.
    pub(super) fn close(&mut self, waits: bool) {
        while waits && !self.writing.is_empty() {
            self.written();
        }
        self.writing.clear();
        (self.at_work_until_us, self.free_us) = (0, 0);
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_written_together_and_after_what_came_before() {
        let mut disk = Disk::default();
        let (latency, second) = (1_000, 1_000_000);
        // The first one at once; the others, which come while it is at work, together.
        let done: Vec<u64> = (0..10).map(|number| disk.work(number, latency, second)).collect();
        let expected: Vec<u64> =
            (1..=10).map(|number| number * second + if number == 1 { 1 } else { 2 } * latency).collect();
        assert_eq!(done, expected);
        // While that is written, another one waits for it, and for the disk.
        let now = 5 * second;
        assert_eq!(disk.work(now, latency, 7), 10 * second + 3 * latency + 7);
        assert_eq!(disk.work(now, latency, 7), 10 * second + 3 * latency + 14);
        assert_eq!(disk.work(20 * second, latency, 7), 20 * second + latency + 7, "it was idle");
    }

    #[test]
    fn who_ends_in_order_waits_for_the_disk_and_who_is_killed_does_not() {
        for waits in [true, false] {
            let mut disk = Disk::default();
            for slot in 1..=3 {
                disk.write(vec![StoreOp::SetSigned { slot }]);
            }
            disk.written();
            assert_eq!(disk.signed, Some(1));
            disk.close(waits);
            assert_eq!(disk.signed, Some(if waits { 3 } else { 1 }));
            disk.written();
            assert_eq!(disk.signed, Some(if waits { 3 } else { 1 }), "nothing is left");
        }
    }
}
