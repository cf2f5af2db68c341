//! Following the best block: undoing, adopting, and telling the store and the mempool.
//!
//! A branch is adopted block by block, each checked against its parent's state. If one turns out invalid, it goes with
//! all its descendants and the next best block is tried; the old head is still in the tree, so the search ends there at
//! the latest. What the driver hears of is the difference between the head before and the head after.

use super::io::{Effect, Event, Invalid, Location, Moment, Position};
use super::{Chain, Link, Undo};
use crate::block::Block;
use crate::id::BlockId;
use crate::mesh::Sink;
use crate::store::{Batch, StoreOp};

impl Chain {
    /// Makes the best valid block the head.
    pub(super) fn update_head(&mut self, at: Moment, out: &mut dyn Sink<Effect>) {
        // Stacks: the last of `undone` is the lowest one, the last of `adopted` is the head.
        let (mut undone, mut adopted): (Vec<Block>, Vec<Block>) = (Vec::new(), Vec::new());
        while self.tree.best().id != self.head.id {
            let (fork, branch) = self.branch_to(self.tree.best().id);
            while self.head.id != fork {
                let Some(block) = self.unlink() else { break };
                if adopted.pop().is_none() {
                    undone.push(block);
                }
            }
            for block in branch {
                match self.accounts.apply(&block) {
                    Err(error) => {
                        self.mark_invalid(&Position::of(&block), Invalid::Nonce(error), out);
                        break;
                    }
                    Ok(undo) => {
                        self.link(&block, undo);
                        if adopted.is_empty() && undone.last().is_some_and(|last| last.id() == block.id()) {
                            undone.pop();
                        } else {
                            adopted.push(block);
                        }
                    }
                }
            }
        }
        if !adopted.is_empty() || !undone.is_empty() {
            undone.reverse();
            self.unwritten += 1;
            out.emit(Effect::Persist(batch(&undone, &adopted, &self.head)));
            out.emit(Effect::HeadChanged { undone, adopted });
            self.head_moved(at);
        }
        self.enforce_bounds();
    }

    /// Makes a block that follows on the head the new one; its changes to the accounts are made already.
    pub(super) fn link(&mut self, block: &Block, undo: Undo) {
        let (id, height) = (block.id(), block.header().height);
        for (position, transaction) in (0..).zip(block.transactions()) {
            self.locations.insert(transaction.id(), Location { block: id, height, position });
        }
        self.canonical.push_back(Link { id, undo });
        self.head = Position::of(block);
    }

    /// Undoes the head.
    fn unlink(&mut self) -> Option<Block> {
        let Link { id, undo } = self.canonical.pop_back()?;
        self.accounts.undo(undo);
        let block = self.tree.get(&id)?.clone();
        for transaction in block.transactions() {
            self.locations.remove(&transaction.id());
        }
        self.head = self.tree.position(&block.header().parent)?;
        Some(block)
    }

    /// The blocks from the last canonical one, exclusive, to this one, inclusive, lowest first; and the canonical one.
    fn branch_to(&self, id: BlockId) -> (BlockId, Vec<Block>) {
        let (mut fork, mut branch) = (id, Vec::new());
        while !self.is_canonical(&fork)
            && let Some(block) = self.tree.get(&fork)
        {
            fork = block.header().parent;
            branch.push(block.clone());
        }
        branch.reverse();
        (fork, branch)
    }

    /// Remembers that a block is invalid, and removes it with all that descends from it.
    pub(super) fn mark_invalid(&mut self, position: &Position, reason: Invalid, out: &mut dyn Sink<Effect>) {
        if self.invalid.contains(&position.id) {
            return;
        }
        let (block, height) = (position.id, position.height);
        out.emit(Effect::Event(Event::Invalid { block, height, reason }));
        out.emit(Effect::Disputed { slot: position.slot });
        self.invalid.insert(position.id, position.slot);
        for descendant in self.tree.remove_branch(&position.id) {
            out.emit(Effect::Disputed { slot: descendant.header().slot });
            self.invalid.insert(descendant.id(), descendant.header().slot);
        }
        for orphan in self.orphans.take_descendants(&position.id) {
            self.invalid.insert(orphan.block.id(), orphan.block.header().slot);
        }
        self.fetch.no_longer_wanted(&position.id);
        self.forget_idle_wants();
    }

    /// Raises the root and drops side branches until the bounds hold again.
    pub(super) fn enforce_bounds(&mut self) {
        let (depth_max, depth_min) = (self.config.undo_depth, self.config.undo_depth_min.min(self.config.undo_depth));
        let too_heavy = |chain: &Self| chain.tree.bytes() > chain.config.tree_bytes_max;
        while self.canonical.len() > depth_max || (too_heavy(self) && self.canonical.len() > depth_min) {
            self.raise_root();
        }
        while self.tree.len() > self.config.tree_blocks_max || too_heavy(self) {
            let Some(leaf) = self.tree.worst_leaf(|id| self.is_canonical(id)) else { break };
            self.tree.remove_branch(&leaf);
        }
    }

    fn raise_root(&mut self) {
        let Some(link) = self.canonical.pop_front() else { return };
        for transaction in self.tree.get(&link.id).into_iter().flat_map(Block::transactions) {
            self.locations.remove(&transaction.id());
        }
        self.tree.advance_root(&link.id);
        let slot = self.tree.root().slot;
        self.accounts.forget_up_to(slot);
        self.headers.forget_up_to(slot);
        self.invalid.forget_up_to(slot);
    }
}

/// What the store has to do so that it has the new canonical chain.
fn batch(undone: &[Block], adopted: &[Block], head: &Position) -> Batch {
    let mut batch = Batch::new();
    if let Some(lowest) = undone.first() {
        batch.push(StoreOp::UnsetCanonicalFrom { height: lowest.header().height });
    }
    for transaction in undone.iter().flat_map(Block::transactions) {
        batch.push(StoreOp::UnindexTransaction { transaction: transaction.id() });
    }
    for block in adopted {
        let Position { id, height, slot } = Position::of(block);
        batch.push(StoreOp::PutBlock { id, height, slot, bytes: block.bytes().clone() });
        batch.push(StoreOp::SetCanonical { height, id });
        for (position, transaction) in (0..).zip(block.transactions()) {
            batch.push(StoreOp::IndexTransaction { transaction: transaction.id(), block: id, height, position });
        }
    }
    batch.push(StoreOp::SetHead { height: head.height, id: head.id, slot: head.slot });
    batch
}
