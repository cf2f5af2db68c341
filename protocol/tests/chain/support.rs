//! What the tests build chains with.

use starling_crypto::SecretKey;
use starling_protocol::block::{Block, Header, SIGNED_HEADER_BYTES};
use starling_protocol::chain::{Effect, Moment, Position};
use starling_protocol::genesis::{Genesis, GenesisParameters, Limits};
use starling_protocol::id::{BlockId, PeerHandle, TransactionId};
use starling_protocol::store::{LoadRequest, StoreOp};
use starling_protocol::time::Time;
use starling_protocol::transaction::{Transaction, TransactionBuilder};
use std::collections::BTreeMap;
use std::sync::{LazyLock, Mutex};

pub(crate) const PRODUCERS: u8 = 3;
pub(crate) const EXPIRY_SLOTS_MAX: u64 = 20;

/// Derived once: curve arithmetic would take most of the tests' time.
static KEYS: LazyLock<Vec<SecretKey>> =
    LazyLock::new(|| (0..=u8::MAX).map(|number| SecretKey::from_seed(&[number; 32])).collect());

static GENESIS: LazyLock<Genesis> =
    LazyLock::new(|| genesis_with(Limits { expiry_slots_max: EXPIRY_SLOTS_MAX, ..Limits::default() }));

pub(crate) fn key(number: u8) -> SecretKey {
    KEYS[usize::from(number)].clone()
}

pub(crate) fn account(number: u8) -> starling_crypto::PublicKeyBytes {
    key(number).public_key().to_bytes()
}

pub(crate) fn genesis() -> Genesis {
    GENESIS.clone()
}

pub(crate) fn genesis_with(limits: Limits) -> Genesis {
    Genesis::new(GenesisParameters {
        name: "chain".into(),
        start_time_ms: 0,
        slot_ms: 1_000,
        producers: (0..PRODUCERS).map(|number| account(200 + number)).collect(),
        limits,
        stamp_bits: 0,
    })
    .expect("a valid genesis")
}

pub(crate) fn producer_key(slot: u64) -> SecretKey {
    key(200 + u8::try_from(slot % u64::from(PRODUCERS)).expect("small"))
}

/// A moment in the middle of a slot.
pub(crate) fn at(slot: u64) -> Moment {
    Moment { now: Time::from_millis(slot * 1_000 + 500), slot, slot_ahead: slot }
}

pub(crate) fn peer(slot: u32) -> PeerHandle {
    PeerHandle { slot, generation: 0 }
}

pub(crate) fn transaction(sender: u8, nonce: u64, expiry_slot: u64) -> Transaction {
    transaction_saying(sender, nonce, expiry_slot, b"")
}

pub(crate) fn transaction_saying(sender: u8, nonce: u64, expiry_slot: u64, payload: &[u8]) -> Transaction {
    let builder = TransactionBuilder::new(&genesis(), expiry_slot).nonce(nonce).payload(payload);
    builder.build(&key(sender)).expect("a valid transaction")
}

pub(crate) fn origin(genesis: &Genesis) -> Position {
    Position { id: genesis.block_id(), height: 0, slot: 0 }
}

/// A block in its producer's turn.
pub(crate) fn block(genesis: &Genesis, parent: &Position, slot: u64, transactions: Vec<Transaction>) -> Block {
    Block::produce(genesis, &producer_key(slot), (slot, parent.height + 1, parent.id), transactions)
        .expect("a valid block")
}

/// A block whose height and slot need not follow on its parent's.
pub(crate) fn misplaced(genesis: &Genesis, parent: BlockId, slot: u64, height: u64) -> Block {
    let honest = block(genesis, &Position { id: parent, height: 0, slot: 0 }, slot, Vec::new());
    let header = Header { height, ..*honest.header() };
    Block::from_parts(header.sign(&producer_key(slot)), Vec::new())
}

/// `count` blocks, one a slot, after `parent`.
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

/// Blocks that many tests need, made as far as they were asked for.
pub(crate) struct SharedChain(Mutex<Vec<Block>>);

impl SharedChain {
    pub(crate) const fn new() -> Self {
        Self(Mutex::new(Vec::new()))
    }

    /// The first blocks, one a slot; `contents` makes the transactions of a slot.
    pub(crate) fn first(&self, count: u64, contents: impl Fn(u64) -> Vec<Transaction>) -> Vec<Block> {
        let genesis = genesis();
        let mut blocks = self.0.lock().expect("no test panics while it makes blocks");
        while (blocks.len() as u64) < count {
            let parent = blocks.last().map_or_else(|| origin(&genesis), Position::of);
            let slot = parent.slot + 1;
            blocks.push(block(&genesis, &parent, slot, contents(slot)));
        }
        blocks[..usize::try_from(count).expect("few blocks")].to_vec()
    }
}

/// A store that asserts its own rules.
#[derive(Clone, Debug, Default)]
pub(crate) struct Store {
    pub(crate) blocks: BTreeMap<BlockId, bytes::Bytes>,
    pub(crate) canonical: BTreeMap<u64, BlockId>,
    pub(crate) transactions: BTreeMap<TransactionId, (BlockId, u64, u32)>,
    pub(crate) head: Option<(u64, BlockId)>,
}

impl Store {
    pub(crate) fn apply(&mut self, batch: &[StoreOp]) {
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
                StoreOp::IndexTransaction { transaction, block, height, position } => {
                    self.transactions.insert(*transaction, (*block, *height, *position));
                }
                StoreOp::UnindexTransaction { transaction } => {
                    self.transactions.remove(transaction);
                }
                StoreOp::SetHead { height, id, .. } => self.head = Some((*height, *id)),
                StoreOp::PutPending { .. }
                | StoreOp::RemovePending { .. }
                | StoreOp::SetSigned { .. }
                | StoreOp::ReplacePool { .. } => panic!("the chain emits no {op:?}"),
            }
        }
        let head = self.head.expect("each batch sets the head");
        assert!(head.0 == 0 || self.canonical[&head.0] == head.1, "the head is canonical");
        let (first, last) = (self.canonical.first_key_value(), self.canonical.last_key_value());
        assert!(first.is_none_or(|(height, _)| *height == 1) && last.is_none_or(|(height, _)| *height == head.0));
        assert_eq!(self.canonical.len() as u64, head.0, "canonical heights are without gaps");
        let last = self.canonical.values().rev().take(batch.len());
        assert!(last.into_iter().all(|id| self.blocks.contains_key(id)), "canonical blocks are stored");
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

    pub(crate) fn canonical_blocks(&self, genesis: &Genesis) -> Vec<Block> {
        let blocks = self.canonical.values().map(|id| Block::decode(self.blocks[id].clone(), genesis));
        blocks.collect::<Result<_, _>>().expect("stored blocks decode")
    }
}

/// The effects of one kind.
pub(crate) fn events(effects: &[Effect]) -> Vec<&starling_protocol::chain::Event> {
    effects.iter().filter_map(|effect| if let Effect::Event(event) = effect { Some(event) } else { None }).collect()
}
