//! Blocks that wait for their parents.
//!
//! Bounded in count and bytes, and in what one peer may have sent: a peer whose share is used up loses the
//! one of its own that is furthest from us (greatest height, then greatest id), which may be the new one. If the pool
//! is full in all, the peer with the most entries does. What waits for a dropped block goes with it. So a peer that
//! floods us pushes out only its own and what others built on that.

use crate::block::Block;
use crate::id::{BlockId, PeerHandle};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Debug)]
pub(super) struct Orphans {
    max: usize,
    bytes_max: usize,
    per_peer_max: usize,
    blocks: BTreeMap<BlockId, Orphan>,
    by_parent: BTreeMap<BlockId, BTreeSet<BlockId>>,
    /// What each sender has here, by height.
    shares: BTreeMap<Option<PeerHandle>, BTreeSet<(u64, BlockId)>>,
    bytes: usize,
}

#[derive(Clone, Debug)]
pub(super) struct Orphan {
    pub(super) block: Block,
    pub(super) from: Option<PeerHandle>,
}

impl Orphans {
    pub(super) fn new(max: usize, bytes_max: usize, per_peer_max: usize) -> Self {
        let (blocks, by_parent, shares) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { max, bytes_max, per_peer_max, blocks, by_parent, shares, bytes: 0 }
    }

    pub(super) fn contains(&self, id: &BlockId) -> bool {
        self.blocks.contains_key(id)
    }

    pub(super) fn len(&self) -> usize {
        self.blocks.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn get(&self, id: &BlockId) -> Option<&Orphan> {
        self.blocks.get(id)
    }

    /// Adds a block; returns what had to go, which may be the block itself.
    pub(super) fn insert(&mut self, block: Block, from: Option<PeerHandle>) -> Vec<Orphan> {
        let (id, height) = (block.id(), block.header().height);
        self.bytes += block.encoded_len();
        self.by_parent.entry(block.header().parent).or_default().insert(id);
        self.shares.entry(from).or_default().insert((height, id));
        self.blocks.insert(id, Orphan { block, from });

        let mut dropped = Vec::new();
        let own = |orphans: &Self| orphans.shares.get(&from).map_or(0, BTreeSet::len);
        while own(self) > self.per_peer_max {
            dropped.extend(self.drop_furthest(from));
        }
        while self.blocks.len() > self.max || self.bytes > self.bytes_max {
            let Some(largest) = self.shares.iter().max_by_key(|(_, share)| share.len()).map(|(from, _)| *from) else {
                break;
            };
            dropped.extend(self.drop_furthest(largest));
        }
        dropped
    }

    /// Removes all blocks that have this parent.
    pub(super) fn take_children(&mut self, parent: &BlockId) -> Vec<Orphan> {
        let children = self.by_parent.get(parent).cloned().unwrap_or_default();
        children.iter().filter_map(|id| self.remove(id)).collect()
    }

    /// Removes all blocks that descend from this one, which is not here itself.
    pub(super) fn take_descendants(&mut self, ancestor: &BlockId) -> Vec<Orphan> {
        let mut taken = self.take_children(ancestor);
        let mut next = 0;
        while let Some(orphan) = taken.get(next) {
            let children = self.take_children(&orphan.block.id());
            taken.extend(children);
            next += 1;
        }
        taken
    }

    /// The parents that blocks wait for and that do not wait here themselves, with one of the waiting blocks each.
    pub(super) fn missing(&self) -> impl Iterator<Item = (BlockId, &Orphan)> {
        let missing = self.by_parent.iter().filter(|(parent, _)| !self.blocks.contains_key(*parent));
        missing.filter_map(|(parent, children)| Some((*parent, self.blocks.get(children.first()?)?)))
    }

    /// Who sent the blocks that wait for this one.
    pub(super) fn senders_of_children(&self, parent: &BlockId) -> Vec<PeerHandle> {
        let children = self.by_parent.get(parent).into_iter().flatten();
        children.filter_map(|id| self.blocks.get(id)?.from).collect()
    }

    /// Whether some block waits for this one.
    pub(super) fn awaits(&self, parent: &BlockId) -> bool {
        self.by_parent.contains_key(parent)
    }

    /// Drops a sender's furthest block, and what waits for that: it would only make us ask for the dropped one again.
    fn drop_furthest(&mut self, from: Option<PeerHandle>) -> Vec<Orphan> {
        let furthest = self.shares.get(&from).and_then(|share| share.last()).map(|(_, id)| *id);
        let mut dropped: Vec<Orphan> = furthest.and_then(|id| self.remove(&id)).into_iter().collect();
        dropped.extend(furthest.map(|id| self.take_descendants(&id)).into_iter().flatten());
        dropped
    }

    fn remove(&mut self, id: &BlockId) -> Option<Orphan> {
        let orphan = self.blocks.remove(id)?;
        self.bytes -= orphan.block.encoded_len();
        let header = orphan.block.header();
        if let Some(siblings) = self.by_parent.get_mut(&header.parent) {
            siblings.remove(id);
            if siblings.is_empty() {
                self.by_parent.remove(&header.parent);
            }
        }
        if let Some(share) = self.shares.get_mut(&orphan.from) {
            share.remove(&(header.height, *id));
            if share.is_empty() {
                self.shares.remove(&orphan.from);
            }
        }
        Some(orphan)
    }

    pub(super) fn check(&self) {
        assert!(self.blocks.len() <= self.max && self.bytes <= self.bytes_max, "too many orphans");
        assert_eq!(self.bytes, self.blocks.values().map(|orphan| orphan.block.encoded_len()).sum::<usize>(), "bytes");
        assert!(self.shares.values().all(|share| share.len() <= self.per_peer_max), "a peer's share");
        assert_eq!(self.shares.values().map(BTreeSet::len).sum::<usize>(), self.blocks.len(), "shares");
        assert_eq!(self.by_parent.values().map(BTreeSet::len).sum::<usize>(), self.blocks.len(), "parents");
    }
}
