//! The blocks above the root, and which of them is the best.
//!
//! The *root* is the last canonical block that cannot be undone. The tree holds blocks that descend from it and are not
//! known to be invalid, with their bodies. Whether their nonces are right shows only when a branch is adopted.
//!
//! # Fork choice
//! The greatest height, then the lowest slot, then the lowest id. It depends on the set of blocks alone and not on the
//! order in which they came, so nodes with the same valid blocks have the same head.

use super::io::Position;
use crate::block::Block;
use crate::id::BlockId;
use core::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// Greater is better.
pub(super) type Rank = (u64, Reverse<u64>, Reverse<BlockId>);

pub(super) fn rank(position: &Position) -> Rank {
    (position.height, Reverse(position.slot), Reverse(position.id))
}

#[derive(Clone, Debug)]
pub(super) struct Tree {
    root: Position,
    blocks: BTreeMap<BlockId, Block>,
    children: BTreeMap<BlockId, BTreeSet<BlockId>>,
    ranked: BTreeSet<Rank>,
    bytes: usize,
}

impl Tree {
    pub(super) fn new(root: Position) -> Self {
        Self { root, blocks: BTreeMap::new(), children: BTreeMap::new(), ranked: BTreeSet::new(), bytes: 0 }
    }

    pub(super) fn root(&self) -> &Position {
        &self.root
    }

    pub(super) fn get(&self, id: &BlockId) -> Option<&Block> {
        self.blocks.get(id)
    }

    /// Where a block of the tree, or its root, stands.
    pub(super) fn position(&self, id: &BlockId) -> Option<Position> {
        if *id == self.root.id { Some(self.root) } else { self.blocks.get(id).map(Position::of) }
    }

    pub(super) fn len(&self) -> usize {
        self.blocks.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The best block, which is the root if there is no other.
    pub(super) fn best(&self) -> Position {
        let best = self.ranked.last().map(|(height, slot, id)| Position { id: id.0, height: *height, slot: slot.0 });
        best.unwrap_or(self.root)
    }

    /// Adds a block whose parent is in the tree or its root.
    pub(super) fn insert(&mut self, block: Block) {
        self.bytes += block.encoded_len();
        self.ranked.insert(rank(&Position::of(&block)));
        self.children.entry(block.header().parent).or_default().insert(block.id());
        self.blocks.insert(block.id(), block);
    }

    /// Removes a block and all that descends from it; returns them, ancestors first.
    pub(super) fn remove_branch(&mut self, id: &BlockId) -> Vec<Block> {
        let mut removed = Vec::new();
        let mut waiting = vec![*id];
        while let Some(id) = waiting.pop() {
            waiting.extend(self.children.get(&id).into_iter().flatten());
            removed.extend(self.remove(&id));
        }
        removed
    }

    /// Makes a child of the root the new one. Other branches from the old root go.
    pub(super) fn advance_root(&mut self, to: &BlockId) {
        let siblings: Vec<BlockId> = self.children.get(&self.root.id).into_iter().flatten().copied().collect();
        for sibling in siblings.iter().filter(|sibling| *sibling != to) {
            self.remove_branch(sibling);
        }
        if let Some(block) = self.remove(to) {
            self.root = Position::of(&block);
        }
    }

    /// The worst block without children that `keep` does not hold on to.
    pub(super) fn worst_leaf(&self, keep: impl Fn(&BlockId) -> bool) -> Option<BlockId> {
        let leaf = |id: &BlockId| !self.children.contains_key(id);
        self.ranked.iter().map(|(_, _, id)| id.0).find(|id| leaf(id) && !keep(id))
    }

    fn remove(&mut self, id: &BlockId) -> Option<Block> {
        let block = self.blocks.remove(id)?;
        self.bytes -= block.encoded_len();
        self.ranked.remove(&rank(&Position::of(&block)));
        let parent = block.header().parent;
        if let Some(siblings) = self.children.get_mut(&parent) {
            siblings.remove(id);
            if siblings.is_empty() {
                self.children.remove(&parent);
            }
        }
        Some(block)
    }

    pub(super) fn check(&self) {
        let ranked = self.blocks.values().map(|block| rank(&Position::of(block)));
        assert_eq!(self.ranked, ranked.collect(), "the index by rank");
        assert_eq!(self.bytes, self.blocks.values().map(Block::encoded_len).sum::<usize>(), "bytes");
        let mut children: BTreeMap<BlockId, BTreeSet<BlockId>> = BTreeMap::new();
        for (id, block) in &self.blocks {
            let header = block.header();
            let parent = self.position(&header.parent).expect("every block's parent is in the tree or its root");
            assert_eq!(parent.height + 1, header.height, "heights");
            assert!(parent.slot < header.slot, "slots");
            children.entry(header.parent).or_default().insert(*id);
        }
        assert_eq!(self.children, children, "the index of children");
    }
}
