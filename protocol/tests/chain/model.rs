//! The chain in lockstep with a naive one that recomputes everything from the first block on.

use crate::support::*;
use proptest::prelude::*;
use starling_crypto::PublicKeyBytes;
use starling_protocol::block::Block;
use starling_protocol::chain::{Chain, Config, Effect, Position, Verified};
use starling_protocol::genesis::Genesis;
use starling_protocol::id::BlockId;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// How one block of a random tree is made.
#[derive(Clone, Debug)]
struct Plan {
    /// Which of the blocks made before is the parent; counted modulo.
    parent: usize,
    /// How many slots after the parent.
    slots: u64,
    /// Sender, how far from the right nonce, and how many slots it lives.
    transactions: Vec<(u8, u64, u64)>,
}

fn plan() -> impl Strategy<Value = Plan> {
    // Mostly the right nonce, sometimes one too low (as u64::MAX, by wrapping) or one too high.
    let nonce = prop_oneof![8 => Just(0), 1 => Just(u64::MAX), 1 => Just(1)];
    let transactions = prop::collection::vec((1_u8..4, nonce, 0_u64..=EXPIRY_SLOTS_MAX), 0..3);
    (prop_oneof![2 => Just(usize::MAX), 1 => 0_usize..20], 1_u64..9, transactions)
        .prop_map(|(parent, slots, transactions)| Plan { parent, slots, transactions })
}

/// The next nonce by definition: from all transactions of the chain, in order.
fn naive_next(chain: &[&Block], sender: &PublicKeyBytes, slot: u64) -> Option<u64> {
    let own = chain.iter().flat_map(|block| block.transactions()).filter(|transaction| transaction.sender() == *sender);
    let own: Vec<_> = own.collect();
    let remembered = own.iter().any(|transaction| transaction.expiry_slot() >= slot);
    remembered.then(|| own[own.len() - 1].nonce() + 1)
}

fn naive_valid(chain: &[&Block]) -> bool {
    (0..chain.len()).all(|height| {
        let slot = chain[height].header().slot;
        let mut before: Vec<&Block> = chain[..height].to_vec();
        let transactions = chain[height].transactions();
        // Each transaction is a block of its own, so to speak.
        let singles: Vec<Block> = transactions
            .iter()
            .map(|one| Block::from_parts(*chain[height].signed_header(), vec![one.clone()]))
            .collect();
        singles.iter().all(|single| {
            let transaction = &single.transactions()[0];
            let next = naive_next(&before, &transaction.sender(), slot);
            before.push(single);
            next.is_none_or(|next| next == transaction.nonce())
        })
    })
}

struct Forest {
    genesis: Genesis,
    blocks: Vec<Block>,
}

impl Forest {
    fn new(plans: &[Plan]) -> Self {
        let mut forest = Self { genesis: genesis(), blocks: Vec::new() };
        for plan in plans {
            let parent = match forest.blocks.len() {
                0 => None,
                count if plan.parent == usize::MAX => Some(count - 1),
                count => Some(plan.parent % (count + 1)).filter(|place| *place < count),
            };
            let parent = parent.map(|place| forest.blocks[place].clone());
            let position = parent.as_ref().map_or(origin(&forest.genesis), Position::of);
            let slot = position.slot + plan.slots;
            let chain = parent.as_ref().map(|parent| forest.path(parent)).unwrap_or_default();
            let mut transactions: Vec<starling_protocol::transaction::Transaction> = Vec::new();
            for (sender, off, lives) in &plan.transactions {
                let within = transactions.iter().filter(|other| other.sender() == account(*sender)).count() as u64;
                let next = naive_next(&chain, &account(*sender), slot).unwrap_or(if within > 0 { 2 } else { 3 });
                let nonce = next.wrapping_add(within).wrapping_add(*off).min(1 << 40);
                transactions.push(transaction(*sender, nonce, slot + lives));
            }
            transactions.dedup();
            let next = block(&forest.genesis, &position, slot, transactions);
            if next.verify_bodies(&forest.genesis).is_ok() && !forest.blocks.contains(&next) {
                forest.blocks.push(next);
            }
        }
        forest
    }

    fn get(&self, id: &BlockId) -> Option<&Block> {
        self.blocks.iter().find(|block| block.id() == *id)
    }

    /// The chain from the first block to this one.
    fn path(&self, last: &Block) -> Vec<&Block> {
        let mut path: Vec<&Block> = self.get(&last.id()).into_iter().collect();
        while let Some(parent) = path.last().and_then(|block| self.get(&block.header().parent)) {
            path.push(parent);
        }
        path.reverse();
        path
    }

    /// The best chain among the delivered blocks, by definition.
    fn best(&self, delivered: &BTreeSet<BlockId>) -> Vec<&Block> {
        let paths = self.blocks.iter().map(|block| self.path(block));
        let paths = paths.filter(|path| path.iter().all(|block| delivered.contains(&block.id())) && naive_valid(path));
        let rank = |path: &Vec<&Block>| {
            let position = Position::of(path[path.len() - 1]);
            (position.height, Reverse(position.slot), Reverse(position.id))
        };
        paths.max_by_key(rank).unwrap_or_default()
    }
}

/// What follows the chain by its effects alone.
#[derive(Default)]
struct Follower {
    chain: Vec<BlockId>,
    store: Store,
}

impl Follower {
    fn follow(&mut self, effects: &[Effect]) {
        for effect in effects {
            match effect {
                Effect::Persist(batch) => self.store.apply(batch),
                Effect::HeadChanged { undone, adopted } => {
                    let kept = self.chain.len() - undone.len();
                    assert_eq!(self.chain.split_off(kept), undone.iter().map(Block::id).collect::<Vec<_>>());
                    self.chain.extend(adopted.iter().map(Block::id));
                }
                _ => {}
            }
        }
    }
}

fn compare(chain: &Chain, follower: &Follower, expected: &[&Block]) -> Result<(), TestCaseError> {
    let ids: Vec<BlockId> = expected.iter().map(|block| block.id()).collect();
    prop_assert_eq!(&follower.chain, &ids, "the effects tell the canonical chain");
    prop_assert_eq!(chain.head().height, ids.len() as u64);
    prop_assert_eq!(follower.store.canonical.values().copied().collect::<Vec<_>>(), ids);
    let head_slot = chain.head().slot;
    for sender in 1..4 {
        for slot in [head_slot + 1, head_slot + 7, head_slot + EXPIRY_SLOTS_MAX] {
            let found = chain.next_nonce(&account(sender), slot);
            prop_assert_eq!(found, naive_next(expected, &account(sender), slot), "sender {} in slot {}", sender, slot);
        }
    }
    let indexed: BTreeMap<_, _> = expected
        .iter()
        .flat_map(|block| block.transactions().iter().enumerate().map(|(place, one)| (one.id(), (block.id(), place))))
        .collect();
    prop_assert_eq!(indexed.len(), expected.iter().map(|block| block.transactions().len()).sum::<usize>(), "no replay");
    for (id, (block, place)) in indexed {
        let location = chain.transaction_location(&id).expect("is in the chain");
        prop_assert_eq!((location.block, location.position as usize), (block, place));
        prop_assert_eq!(follower.store.transactions[&id].0, block);
    }
    Ok(())
}

fn config() -> Config {
    Config { orphans_per_peer_max: 64, sync_gap: 1_000, ..Config::default() }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    /// Whatever the order of arrival, with duplicates: head, nonces, index, store and effects are what the definitions say.
    #[test]
    fn fork_choice_and_nonces_are_those_of_the_naive_chain(
        plans in prop::collection::vec(plan(), 1..22),
        order in prop::collection::vec(any::<prop::sample::Index>(), 0..40),
    ) {
        let forest = Forest::new(&plans);
        if forest.blocks.is_empty() {
            return Ok(());
        }
        let (mut chain, mut follower) = (Chain::new(forest.genesis.clone(), config()), Follower::default());
        let mut effects = Vec::new();
        // A peer that never answers keeps blocks waiting for their parents.
        chain.peer_connected(at(500), peer(0), &mut effects);
        let mut delivered = BTreeSet::new();
        let random = order.iter().map(|index| index.get(&forest.blocks));
        for block in random.chain(&forest.blocks) {
            effects.clear();
            chain.insert_block(at(500), block.clone(), Some(peer(0)), Verified::Valid, &mut effects);
            chain.check();
            follower.follow(&effects);
            delivered.insert(block.id());
            compare(&chain, &follower, &forest.best(&delivered))?;
        }
        prop_assert_eq!(chain.orphans().0, 0);
        let restored = Chain::restore(forest.genesis.clone(), config(), follower.store.canonical_blocks(&forest.genesis));
        compare(&restored.expect("a chain"), &follower, &forest.best(&delivered))?;
    }
}
