//! What the tests build networks, transactions and blocks with, and a model of the disk.

use starling_crypto::SecretKey;
use starling_protocol::block::{Block, SIGNED_HEADER_BYTES};
use starling_protocol::chain::Position;
use starling_protocol::genesis::{Genesis, GenesisParameters, Limits};
use starling_protocol::id::{BlockId, TransactionId};
use starling_protocol::store::{LoadRequest, StoreOp};
use starling_protocol::transaction::{Transaction, TransactionBuilder};
use std::collections::BTreeMap;

/// When slot 0 begins. Not at the beginning of time, so that a clock can be behind.
pub(crate) const START_MS: u64 = 1_000_000_000;
pub(crate) const SLOT_MS: u64 = 1_000;
pub(crate) const EXPIRY_SLOTS_MAX: u64 = 40;

pub(crate) fn key(number: u8) -> SecretKey {
    SecretKey::from_seed(&[number; 32])
}

/// The key of the producer with this place in the genesis.
pub(crate) fn producer(place: usize) -> SecretKey {
    key(200 + u8::try_from(place).expect("few producers"))
}

/// A network of so many producers.
pub(crate) fn genesis(producers: usize) -> Genesis {
    genesis_with(producers, |_| {})
}

pub(crate) fn genesis_with(producers: usize, change: impl FnOnce(&mut GenesisParameters)) -> Genesis {
    let mut parameters = GenesisParameters {
        name: "world".into(),
        start_time_ms: START_MS,
        slot_ms: SLOT_MS,
        producers: (0..producers).map(|place| producer(place).public_key().to_bytes()).collect(),
        limits: Limits { expiry_slots_max: EXPIRY_SLOTS_MAX, payload_bytes_max: 4 << 10, ..Limits::default() },
        stamp_bits: 0,
    };
    change(&mut parameters);
    Genesis::new(parameters).expect("a valid genesis")
}

pub(crate) fn transaction(genesis: &Genesis, sender: u8, nonce: u64, expiry_slot: u64) -> Transaction {
    let builder = TransactionBuilder::new(genesis, expiry_slot).nonce(nonce).payload([sender; 100]);
    builder.build(&key(sender)).expect("a valid transaction")
}

/// The position of the block that every chain starts from.
pub(crate) fn origin(genesis: &Genesis) -> Position {
    Position { id: genesis.block_id(), height: 0, slot: 0 }
}

/// A block in its producer's turn.
pub(crate) fn block(genesis: &Genesis, parent: &Position, slot: u64, transactions: Vec<Transaction>) -> Block {
    let place = usize::try_from(slot).expect("small") % genesis.producers().len();
    Block::produce(genesis, &producer(place), (slot, parent.height + 1, parent.id), transactions)
        .expect("a valid block")
}

/// `count` blocks without transactions, one a slot.
pub(crate) fn blocks_after(genesis: &Genesis, parent: &Position, count: u64) -> Vec<Block> {
    let mut parent = *parent;
    (0..count)
        .map(|_| {
            let next = block(genesis, &parent, parent.slot + 1, Vec::new());
            parent = Position::of(&next);
            next
        })
        .collect()
}

/// A disk that asserts the rules of [`starling_protocol::store`].
#[derive(Clone, Debug, Default)]
pub(crate) struct Store {
    pub(crate) blocks: BTreeMap<BlockId, bytes::Bytes>,
    pub(crate) canonical: BTreeMap<u64, BlockId>,
    pub(crate) pending: BTreeMap<TransactionId, bytes::Bytes>,
    pub(crate) signed: Option<u64>,
    pub(crate) pool: Vec<bytes::Bytes>,
}

impl Store {
    pub(crate) fn apply(&mut self, batch: &[StoreOp]) {
        let mut head = None;
        for op in batch {
            match op {
                StoreOp::PutBlock { id, bytes, .. } => {
                    self.blocks.insert(*id, bytes.clone());
                }
                StoreOp::SetCanonical { height, id } => {
                    self.canonical.insert(*height, *id);
                }
                StoreOp::UnsetCanonicalFrom { height } => {
                    self.canonical.split_off(height);
                }
                StoreOp::SetHead { height, id, .. } => head = Some((*height, *id)),
                StoreOp::IndexTransaction { .. } | StoreOp::UnindexTransaction { .. } => {}
                StoreOp::PutPending { transaction, bytes, .. } => {
                    self.pending.insert(*transaction, bytes.clone());
                }
                StoreOp::RemovePending { transaction } => {
                    self.pending.remove(transaction);
                }
                StoreOp::SetSigned { slot } => self.signed = self.signed.max(Some(*slot)),
                StoreOp::ReplacePool { transactions } => self.pool.clone_from(transactions),
            }
        }
        let has_blocks = batch.iter().any(|op| matches!(op, StoreOp::PutBlock { .. } | StoreOp::SetCanonical { .. }));
        let Some((height, id)) = head else {
            assert!(!has_blocks, "a batch of blocks sets the head");
            return;
        };
        assert!(height == 0 || self.canonical[&height] == id, "the head is canonical");
        assert_eq!(self.canonical.len() as u64, height, "canonical heights are without gaps");
    }

    /// The whole canonical chain, lowest first.
    pub(crate) fn chain(&self, genesis: &Genesis) -> Vec<Block> {
        let blocks = self.canonical.values().map(|id| Block::decode(self.blocks[id].clone(), genesis));
        blocks.collect::<Result<_, _>>().expect("stored blocks decode")
    }

    pub(crate) fn load(&self, what: &LoadRequest) -> Vec<bytes::Bytes> {
        match what {
            LoadRequest::Headers { locator, headers_max } => {
                let height = |id| self.canonical.iter().find(|(_, other)| *other == id).map(|(height, _)| *height);
                let common = locator.iter().find_map(height).unwrap_or(0);
                let ids = self.canonical.range(common + 1..).map(|(_, id)| id).take(usize::from(*headers_max));
                ids.map(|id| self.blocks[id].slice(..SIGNED_HEADER_BYTES)).collect()
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
}
