//! The chain: which blocks there are, which of them are canonical, and how missing ones are come by.
//!
//! # What it promises
//! - **Convergence.** Nodes that have the same valid blocks have the same head, whatever the order in which the blocks
//!   came (`chain/tree.rs`: greatest height, then lowest slot, then lowest id).
//! - **No replay.** No transaction is included twice in one chain (`chain/accounts.rs`).
//! - **No wedge.** A block that was missed is fetched when its child arrives; a node that was away, or is new, catches
//!   up from any honest peer; a peer that is silent, useless or lying is replaced ([`crate::sync`]).
//! - **Bounds.** Blocks in memory are bounded in count and bytes, and so are blocks that wait for their parents,
//!   requests, and what is remembered of invalid blocks and of equivocation ([`Config`]).
//! - **Blame where it belongs.** Relays answer for what they check before relaying, producers for the rest.
//!
//! It executes nothing and is no consensus protocol: producers take turns by slot, and nothing is ever final but by
//! depth.
//!
//! # The way of a block that the mesh brings
//! ```text
//! Block::decode            size, encoding, network, turn, transaction root         on error: Reject
//! Chain::precheck_relay    not from the future, not long past, not known invalid   as it says
//! verify_header_signature  by a worker                                             on error: Reject
//! Chain::check_relay       the same again, and follows its parent if that is here  as it says; then the mesh relays
//! verify_bodies            by a worker
//! Chain::insert_block      with the result
//! ```
//! Relaying does not wait for the body, because verifying hundreds of signatures at every hop would cost more than the
//! network does. So a block with a bad transaction travels; it is the producer who signed for it, and no node builds on
//! it. Nonces are checked when the block is adopted, against its parent's state.
//!
//! Our own blocks come in by [`Chain::insert_block`] too, without a sender. Blocks that the chain has asked a peer for
//! come in by [`Chain::on_response`] and go out for verification as [`Effect::Verify`].
//!
//! # Equivocation
//! A producer that signs two blocks for one slot has proved its own fault. Two headers are kept as evidence and
//! reported as [`Event::Equivocation`]. Both blocks are relayed, so that all nodes see the same two candidates and the
//! evidence; further ones are not. Who relays is not to blame. A third block still becomes part of the tree when a
//! descendant makes us fetch it: ignoring it there would let an equivocator split the network for good.
//!
//! # Undoing
//! The last [`Config::undo_depth`] canonical blocks can be undone; the block below them is the *root*. A fork that
//! began below the root is refused with [`Event::DeepFork`]: after so long a partition, which side to be on is the
//! operator's decision.
//!
//! # Driving it
//! Each call takes the present [`Moment`] and emits [`Effect`]s into the driver's sink; nothing is queued inside.
//! [`Chain::next_wake`] says when to call [`Chain::on_wake`]; any call may change it.
//!
//! # Cost
//! Inserting a block that extends the head takes O(transactions log transactions remembered); a reorganisation that for
//! each block undone or adopted. Lookups take O(log n).

mod accounts;
mod adopt;
mod catch_up;
mod fetch;
mod io;
mod orphans;
mod relay;
mod serve;
mod tree;

use crate::block::{BLOCK_OVERHEAD_BYTES, Block};
use crate::genesis::Genesis;
use crate::id::{BlockId, PeerHandle, TransactionId};
use crate::mempool::{Account, Mempool};
use crate::mesh::Sink;
use crate::sync::Sync;
use crate::time::{Duration, Time};
use crate::transaction::Transaction;
use accounts::{Accounts, Undo};
use fetch::Fetch;
pub use io::{
    CLOCK_ALLOWANCE, Config, Effect, Event, IgnoreReason, Invalid, LoadTicket, Location, Misplaced, Moment, NonceError,
    PeerFault, Position, Relay, RequestFailure, RequestId, ResponseTicket, SERVED_PER_PEER_MAX, Verified, VerifyTicket,
};
use orphans::{Orphan, Orphans};
use relay::{Headers, InvalidBlocks};
use serve::Serve;
pub use serve::ServeCounters;
use std::collections::{BTreeMap, VecDeque};
use tree::Tree;

/// The chain; see the head of this module.
#[derive(Clone, Debug)]
pub struct Chain {
    genesis: Genesis,
    config: Config,
    tree: Tree,
    /// The canonical blocks above the root, lowest first.
    canonical: VecDeque<Link>,
    head: Position,
    /// What is remembered of senders after the head.
    accounts: Accounts,
    /// Where the transactions of the canonical blocks above the root stand.
    locations: BTreeMap<TransactionId, Location>,
    invalid: InvalidBlocks,
    headers: Headers,
    orphans: Orphans,
    fetch: Fetch,
    sync: Sync,
    serve: Serve,
    /// The lowest height from which on the store keeps canonical blocks.
    earliest: u64,
    /// Batches that the disk has not written.
    unwritten: usize,
}

#[derive(Clone, Debug)]
struct Link {
    id: BlockId,
    undo: Undo,
}

/// What a producer needs to make a block ([`Block::produce`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    /// The slot to make it for.
    pub slot: u64,
    /// Its height.
    pub height: u64,
    /// Its parent.
    pub parent: BlockId,
    /// Its transactions.
    pub transactions: Vec<Transaction>,
}

/// Why stored blocks are no chain.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// A block does not follow on the one before.
    #[error(
        "stored block {found} at height {height} does not follow on block {before}; delete the data directory and let the node fetch the chain again"
    )]
    Gap {
        /// The block.
        found: BlockId,
        /// Its height.
        height: u64,
        /// The block before.
        before: BlockId,
    },
    /// A stored block is invalid.
    #[error(
        "stored block {block} at height {height} is invalid: {reason}; delete the data directory and let the node fetch the chain again"
    )]
    Invalid {
        /// The block.
        block: BlockId,
        /// Its height.
        height: u64,
        /// Why.
        reason: NonceError,
    },
}

/// Where a block went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Placed {
    /// Its parent is in the tree, and so is it, unless it was invalid.
    Connected,
    /// It waits for its parent, unless there was no room.
    Orphaned,
    /// It was here already.
    Known,
    /// It is invalid, or belongs to a fork that began below the root.
    Refused,
}

impl Chain {
    /// A chain of no blocks.
    #[must_use]
    pub fn new(genesis: Genesis, config: Config) -> Self {
        let root = Position { id: genesis.block_id(), height: 0, slot: 0 };
        Self::with_root(genesis, config, root)
    }

    /// How many of the last canonical blocks [`Chain::restore`] needs, so that everything that can be undone can be,
    /// and every sender that has to be remembered is. Fewer will do only if there are no more.
    #[must_use]
    pub fn restore_depth(genesis: &Genesis, config: &Config) -> u64 {
        // Slots grow with heights, so the blocks of the last n slots before the root are at most n.
        genesis.limits().expiry_slots_max.saturating_add(config.undo_depth as u64).saturating_add(1)
    }

    /// The chain that ends with these canonical blocks, which follow on each other; at least the last
    /// [`Chain::restore_depth`], or all. Signatures are not verified again.
    ///
    /// # Errors
    /// If the blocks do not follow on each other, or cannot have been valid.
    pub fn restore(
        genesis: Genesis,
        config: Config,
        blocks: impl IntoIterator<Item = Block>,
    ) -> Result<Self, RestoreError> {
        let mut chain = Self::new(genesis.clone(), config.clone());
        let mut blocks = blocks.into_iter().peekable();
        if let Some(first) = blocks.peek().filter(|first| first.header().height > 1) {
            // The first block only says what the others stand on.
            chain = Self::with_root(genesis, config, Position::of(first));
            chain.replay(first)?;
            blocks.next();
        }
        for block in blocks {
            let (header, before) = (*block.header(), chain.head);
            if header.parent != before.id || header.height != before.height + 1 || header.slot <= before.slot {
                return Err(RestoreError::Gap { found: block.id(), height: header.height, before: before.id });
            }
            let undo = chain.replay(&block)?;
            chain.tree.insert(block.clone());
            chain.link(&block, undo);
            chain.enforce_bounds();
        }
        Ok(chain)
    }

    /// Takes in a block after verification. `from` is who sent it; none if it is our own.
    pub fn insert_block(
        &mut self,
        at: Moment,
        block: Block,
        from: Option<PeerHandle>,
        verified: Verified,
        out: &mut impl Sink<Effect>,
    ) {
        self.fetch.body_verified(&block.id());
        match verified {
            Verified::Valid => {
                self.place(at, block, from, 0, out);
            }
            Verified::BodyInvalid(error) => self.mark_invalid(&Position::of(&block), Invalid::Body(error), out),
            // Under the same id there may be a copy with the right signature, or with time to verify it.
            Verified::HeaderInvalid | Verified::Shed => {}
        }
    }

    /// Does what is due. A spurious call does nothing.
    pub fn on_wake(&mut self, at: Moment, out: &mut impl Sink<Effect>) {
        self.run_timers(at, out);
        self.wake_sync(at, out);
    }

    /// When to call [`Chain::on_wake`], if ever.
    #[must_use]
    pub fn next_wake(&self) -> Option<Time> {
        [self.fetch.next_wake(), self.sync.next_wake()].into_iter().flatten().min()
    }

    /// What a block of `slot` on our head would contain; none if the slot is not after the head's, or a block was
    /// signed for it already, so that no producer signs two. The caller knows whether it is its turn and whether the
    /// slot has come.
    #[must_use]
    pub fn produce_candidate(&self, slot: u64, mempool: &Mempool) -> Option<Template> {
        if slot <= self.head.slot || self.headers.has(slot) {
            return None;
        }
        let limits = self.genesis.limits();
        let bytes_max = (limits.block_bytes_max as usize).saturating_sub(BLOCK_OVERHEAD_BYTES);
        let transactions = mempool.select(limits.transactions_per_block_max as usize, bytes_max, slot, |account| {
            self.next_nonce(account, slot)
        });
        Some(Template { slot, height: self.head.height + 1, parent: self.head.id, transactions })
    }

    /// The last canonical block.
    #[must_use]
    pub fn head(&self) -> Position {
        self.head
    }

    /// The last canonical block that cannot be undone.
    #[must_use]
    pub fn root(&self) -> Position {
        *self.tree.root()
    }

    /// The block with this id, canonical or not, if it is in memory. Others may be on disk.
    #[must_use]
    pub fn block(&self, id: &BlockId) -> Option<&Block> {
        self.tree.get(id)
    }

    /// The canonical block at this height, if it is in memory. Those at or below the root's height are on disk.
    #[must_use]
    pub fn block_at(&self, height: u64) -> Option<&Block> {
        self.tree.get(&self.canonical_id(height)?)
    }

    /// Whether the block is canonical; only asks the memory, so that it is false for blocks below the root.
    #[must_use]
    pub fn is_canonical(&self, id: &BlockId) -> bool {
        self.tree.position(id).is_some_and(|position| self.canonical_id(position.height) == Some(*id))
    }

    /// Where a transaction stands in the canonical blocks above the root. For older ones ask the store.
    #[must_use]
    pub fn transaction_location(&self, id: &TransactionId) -> Option<Location> {
        self.locations.get(id).copied()
    }

    /// The slot of the canonical block, of those in which blocks are relayed, in which this very transaction stands, signature included. It is valid then, and should be relayed even though the mempool has no use for it: a block can overtake
    /// its transactions, and if every node dropped those that came after it, nodes behind them would never see them.
    #[must_use]
    pub fn includes(&self, at: Moment, transaction: &Transaction) -> Option<u64> {
        let location = self.locations.get(&transaction.id())?;
        let block = self.tree.get(&location.block)?;
        let slot = block.header().slot;
        let recent = slot.saturating_add(self.config.relay_slots_max) >= at.slot;
        let included = block.transactions().get(location.position as usize)?;
        (recent && included.leaf() == transaction.leaf()).then_some(slot)
    }

    /// The sender's next nonce in a block of `slot` on our head; none if it may be any (see
    /// `docs/adr/0007-account-nonces.md`).
    #[must_use]
    pub fn next_nonce(&self, account: &Account, slot: u64) -> Option<u64> {
        self.accounts.next_nonce(account, slot)
    }

    /// How many senders are remembered.
    #[must_use]
    pub fn accounts_len(&self) -> usize {
        self.accounts.len()
    }

    /// How many blocks wait for their parents, and their bytes.
    #[must_use]
    pub fn orphans(&self) -> (usize, usize) {
        (self.orphans.len(), self.orphans.bytes())
    }

    /// How many requests to peers, verifications of what they sent, and loads for peers are not answered.
    #[must_use]
    pub fn under_way(&self) -> usize {
        self.fetch.under_way() + self.sync.under_way() + self.serve.under_way()
    }

    /// How many blocks are in memory, and their bytes.
    #[must_use]
    pub fn blocks_in_memory(&self) -> (usize, usize) {
        (self.tree.len(), self.tree.bytes())
    }

    /// Ids of our canonical chain: the last ten, then ever further apart down to the root, and the block that every
    /// chain starts from.
    #[must_use]
    pub fn locator(&self) -> Vec<BlockId> {
        let root = self.tree.root().height;
        let mut ids = Vec::new();
        let (mut height, mut step) = (self.head.height, 1);
        loop {
            ids.extend(self.canonical_id(height));
            if height == root {
                break;
            }
            if ids.len() >= 10 {
                step *= 2;
            }
            height = height.saturating_sub(step).max(root);
        }
        if root > 0 {
            ids.push(self.genesis.block_id());
        }
        ids
    }

    /// Recomputes what is derived and asserts that it is what it should be.
    ///
    /// # Panics
    /// If it is not.
    pub fn check(&self) {
        self.tree.check();
        self.accounts.check();
        self.orphans.check();
        self.headers.check();
        self.invalid.check();
        self.check_fetch();
        self.check_sync();
        self.check_serve();
        let (config, root) = (&self.config, self.tree.root());
        assert!(self.canonical.len() <= config.undo_depth, "too many blocks can be undone");
        assert!(self.tree.len() <= config.tree_blocks_max, "too many blocks in memory");
        assert_eq!(self.head, self.tree.best(), "the head is the best block");
        let (mut before, mut transactions) = (root.id, 0);
        for link in &self.canonical {
            let block = self.tree.get(&link.id).expect("canonical blocks above the root are in memory");
            assert_eq!(block.header().parent, before, "canonical blocks follow on each other");
            for (position, transaction) in block.transactions().iter().enumerate() {
                let location = self.locations.get(&transaction.id()).expect("is indexed");
                assert_eq!((location.block, location.position as usize), (link.id, position), "a location");
            }
            transactions += block.transactions().len();
            before = link.id;
        }
        assert_eq!(before, self.head.id, "the canonical blocks end with the head");
        assert_eq!(transactions, self.locations.len(), "the index of transactions");
    }

    fn with_root(genesis: Genesis, mut config: Config, root: Position) -> Self {
        // With long slots a quiet chain is no stalled one.
        let slots = Duration::from_micros(genesis.slot_us().saturating_mul(3));
        config.sync.stall_after = config.sync.stall_after.max(slots);
        Self {
            tree: Tree::new(root),
            canonical: VecDeque::new(),
            head: root,
            accounts: Accounts::default(),
            locations: BTreeMap::new(),
            invalid: InvalidBlocks::default(),
            headers: Headers::default(),
            orphans: Orphans::new(config.orphans_max, config.orphan_bytes_max, config.orphans_per_peer_max),
            fetch: Fetch::new(&config),
            sync: Sync::default(),
            serve: Serve::default(),
            earliest: 1,
            unwritten: 0,
            genesis,
            config,
        }
    }

    fn replay(&mut self, block: &Block) -> Result<Undo, RestoreError> {
        let (block_id, height) = (block.id(), block.header().height);
        self.accounts.apply(block).map_err(|reason| RestoreError::Invalid { block: block_id, height, reason })
    }

    /// The canonical block at a height from the root's on.
    fn canonical_id(&self, height: u64) -> Option<BlockId> {
        let above = height.checked_sub(self.tree.root().height)?;
        match above.checked_sub(1) {
            None => Some(self.tree.root().id),
            Some(index) => self.canonical.get(usize::try_from(index).ok()?).map(|link| link.id),
        }
    }

    /// Puts a verified block where it belongs and follows up. `depth` counts the blocks that were fetched one by one to
    /// get here.
    fn place(
        &mut self,
        at: Moment,
        block: Block,
        from: Option<PeerHandle>,
        depth: u64,
        out: &mut dyn Sink<Effect>,
    ) -> Placed {
        let (position, parent) = (Position::of(&block), block.header().parent);
        if let Some(from) = from {
            self.sync.saw(from, position.height);
        }
        self.fetch.no_longer_wanted(&position.id);
        if self.is_of_the_future(at, &block, out) {
            return Placed::Refused;
        }
        if self.tree.position(&position.id).is_some() || self.orphans.contains(&position.id) {
            return Placed::Known;
        }
        if self.invalid.contains(&position.id) {
            return Placed::Refused;
        }
        if self.invalid.contains(&parent) {
            self.mark_invalid(&position, Invalid::Ancestor(parent), out);
            return Placed::Refused;
        }
        if self.tree.position(&parent).is_some() {
            self.connect(at, block, from, out);
            return Placed::Connected;
        }
        let root = *self.tree.root();
        if position.height <= root.height + 1 || position.slot <= root.slot {
            let (block, height) = (position.id, position.height);
            out.emit(Effect::Event(Event::DeepFork { block, height, root_height: root.height, from }));
            self.drop_orphans_of(&position.id, out);
            return Placed::Refused;
        }
        out.emit(Effect::Event(Event::Orphaned { block: position.id, parent }));
        let dropped = self.orphans.insert(block, from);
        if !dropped.is_empty() {
            out.emit(Effect::Event(Event::OrphansDropped { count: dropped.len() }));
            self.forget_idle_wants();
        }
        self.want_missing(at, depth, out);
        Placed::Orphaned
    }

    /// Adds a block whose parent is in the tree, and all that waited for it.
    fn connect(&mut self, at: Moment, block: Block, from: Option<PeerHandle>, out: &mut dyn Sink<Effect>) {
        self.insert_with_waiting(Orphan { block, from }, out);
        self.update_head(at, out);
        self.want_missing(at, 0, out);
    }

    fn insert_with_waiting(&mut self, first: Orphan, out: &mut dyn Sink<Effect>) {
        let mut ready = vec![first];
        while let Some(Orphan { block, .. }) = ready.pop() {
            let position = Position::of(&block);
            match self.follows(&block) {
                Err(reason) => self.mark_invalid(&position, Invalid::Position(reason), out),
                Ok(()) => {
                    self.record_header(block.signed_header(), false, out);
                    self.tree.insert(block);
                    ready.extend(self.orphans.take_children(&position.id));
                }
            }
        }
    }

    /// Whether height and slot follow on the parent's, if the parent is known.
    fn follows(&self, block: &Block) -> Result<(), Misplaced> {
        self.header_follows(block.header())
    }

    /// Whether the slot of a block has not come; then what waits for it is dropped, because no block follows on a later one. *Rationale:*
    /// a producer may sign blocks of slots that are far away, and have them fetched as the parents of one of today. On such a head nobody could
    /// build until its slot has come.
    fn is_of_the_future(&mut self, at: Moment, block: &Block, out: &mut dyn Sink<Effect>) -> bool {
        let early = block.header().slot > at.slot_ahead;
        if early {
            self.drop_orphans_of(&block.id(), out);
        }
        early
    }

    /// Drops the blocks that wait for this one, directly or not.
    fn drop_orphans_of(&mut self, id: &BlockId, out: &mut dyn Sink<Effect>) {
        let count = self.orphans.take_descendants(id).len();
        if count > 0 {
            out.emit(Effect::Event(Event::OrphansDropped { count }));
        }
        self.forget_idle_wants();
    }
}
