//! The chain, the mempool and the disk.

use super::series;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// Upper ends of the buckets for delays against a slot, in seconds: finest where a block is expected to arrive, with slots from a
/// second to a minute in mind.
const SLOT_DELAY_BUCKETS: [f64; 20] =
    [0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 30.0, 60.0];

/// The chain and the mempool.
#[derive(Debug)]
pub struct ChainMetrics {
    /// Transactions in the mempool.
    pub mempool_transactions: Gauge,
    /// Bytes in the mempool.
    pub mempool_bytes: Gauge,
    /// Height of the canonical head.
    pub height: Gauge,
    /// Slot of the canonical head.
    pub head_slot: Gauge,
    /// The present slot.
    pub slot: Gauge,
    /// Length of a slot.
    pub slot_seconds: super::messages::FractionGauge,
    /// Height of the longest chain that a peer claims, while it is fetched; else the head's.
    pub sync_target: Gauge,
    /// 1 while blocks are fetched to catch up.
    pub syncing: Gauge,
    /// Times that the head moved to another branch.
    pub reorganisations: Counter,
    /// Blocks of our own.
    pub produced: Counter,
    /// Blocks that another node has made with this node's producer key.
    pub key_elsewhere: Counter,
    /// Time from the beginning of a block's slot to the arrival of its first copy.
    pub arrival_delay_seconds: Histogram,
    /// Time from the beginning of a block's slot until it was the head.
    pub head_delay_seconds: Histogram,
}

impl ChainMetrics {
    pub(super) fn register(own: &mut Registry) -> Self {
        let (of, seconds) = (series::of, series::seconds);
        let delays = || Histogram::new(SLOT_DELAY_BUCKETS);
        let arrival = "Time from the beginning of a valid block's slot to the arrival of its first copy over the mesh";
        let head = "Time from the beginning of a block's slot until it was our head, catching up left out";
        Self {
            mempool_transactions: of("mempool_transactions", "Transactions in the mempool").single(own),
            mempool_bytes: series::bytes("mempool", "Bytes in the mempool").single(own),
            height: of("chain_height", "Height of the canonical head").single(own),
            head_slot: of("chain_head_slot", "Slot of the canonical head").single(own),
            slot: of("chain_slot", "The present slot by this node's clock").single(own),
            slot_seconds: seconds("chain_slot_length", "Length of a slot").single(own),
            sync_target: of("sync_target_height", "Height that is being caught up with, or our own").single(own),
            syncing: of("syncing", "1 while the node catches up with the chain, else 0").single(own),
            reorganisations: of("chain_reorganisations", "Moves of the head to another branch").single(own),
            produced: of("chain_blocks_produced", "Blocks that this node made").single(own),
            key_elsewhere: of(
                "chain_producer_key_elsewhere",
                "Blocks that another node made with this node's producer key",
            )
            .single(own),
            arrival_delay_seconds: seconds("block_arrival_delay", arrival).histogram(own, delays()),
            head_delay_seconds: seconds("block_head_delay", head).histogram(own, delays()),
        }
    }
}

/// The disk.
#[derive(Debug)]
pub struct StorageMetrics {
    /// Time from handing a batch to the storage thread until it was on the disk.
    pub commit_seconds: Histogram,
    /// 1 while what the node should keep is not stored.
    pub failing: Gauge,
    /// Blocks that wait to be stored.
    pub unsaved_blocks: Gauge,
    /// Submitted transactions on the disk that are not settled.
    pub pending_transactions: Gauge,
    /// Canonical blocks on the disk.
    pub blocks: Gauge,
}

impl StorageMetrics {
    pub(super) fn register(own: &mut Registry) -> Self {
        let of = series::of;
        let commit = "Time from handing a batch to the disk until it was durable, waiting for others included";
        // 250 µs to 8 s: an fsync takes half a millisecond on a good disk and seconds on a bad one.
        let buckets = Histogram::new(exponential_buckets(250e-6, 2.0, 16));
        Self {
            commit_seconds: series::seconds("storage_commit", commit).histogram(own, buckets),
            failing: of("storage_failing", "1 while what should be kept cannot be stored, else 0").single(own),
            unsaved_blocks: of("storage_unsaved_blocks", "Blocks that wait to be stored").single(own),
            pending_transactions: of(
                "storage_pending_transactions",
                "Transactions submitted here that are kept until they are included for good or have expired",
            )
            .single(own),
            blocks: of("storage_blocks", "Canonical blocks in the database").single(own),
        }
    }
}
