//! Retention: forgetting the oldest blocks, so that the disk does not fill.
//!
//! # Rules
//! 1. The oldest blocks go while there are more than [`Keep::blocks`] canonical ones, or while all that is kept
//!    takes more than [`Keep::bytes`], whichever asks for more.
//! 2. Everything that a restart, an undoing or the nonces' memory needs stays, whatever it takes: the last
//!    [`Retention::min`] blocks. A number of blocks below that is refused; what these blocks take is not known beforehand.
//! 3. What goes, goes whole: the block, its row in the heights, its place in the canonical chain and the index rows of
//!    its transactions; and the blocks of side branches at the same heights. So what is left is a store like any other
//!    whose canonical heights begin later.
//! 4. At most [`PRUNED_AT_ONCE`] blocks go in one transaction, together with what is stored anyway: in the long run one
//!    block comes and one goes, for no additional flush. A backlog, as after the setting was changed, is worked off
//!    while the disk has nothing else to do.
//!
//! # Limits
//! The file keeps the pages that become free and uses them again, so it does not shrink to speak of: a bound that is
//! there from the start bounds the file, with what [`super::size`] does not count on top; a bound that is lowered keeps it
//! from growing. `starling db prune --compact` returns free pages to the file system.

use super::error::{StoreError, failed};
use super::schema::Id;
use super::{Store, Writer};
use redb::{ReadableTable as _, ReadableTableMetadata as _};
use starling_protocol::block::Block;
use starling_protocol::genesis::Genesis;
use starling_protocol::node::NodeParts;

/// Blocks that are removed in one transaction. A guess: a few milliseconds.
const PRUNED_AT_ONCE: usize = 64;

/// How much is to be kept; everything by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keep {
    /// How many of the last canonical blocks; 0 for all.
    pub blocks: u64,
    /// How many bytes the blocks may take on the disk; none for no bound.
    pub bytes: Option<u64>,
}

/// How much is kept, of which network.
#[derive(Clone, Debug)]
pub struct Retention {
    genesis: Genesis,
    keep: Keep,
    /// The least number of blocks.
    blocks_min: u64,
}

/// Fewer blocks were to be kept than a node needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "keeping {keep} blocks is not enough: a node of this network needs the last {min} to start again; keep at least {min}, or 0 for all"
)]
pub struct KeepsTooFew {
    /// How many were to be kept.
    pub keep: u64,
    /// The least.
    pub min: u64,
}

/// What was pruned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Blocks that were removed, those of side branches included.
    pub blocks: usize,
    /// Whether there is more to remove.
    pub more: bool,
    /// What the rest takes, in bytes; none unless there is a bound on it.
    pub kept_bytes: Option<u64>,
}

impl Retention {
    /// So much is kept of this network's chain. None if that is everything.
    ///
    /// # Errors
    /// If a node needs more blocks.
    pub fn new(genesis: &Genesis, keep: Keep) -> Result<Option<Self>, KeepsTooFew> {
        let min = Self::min(genesis);
        match keep {
            Keep { blocks: 0, bytes: None } => Ok(None),
            Keep { blocks, .. } if (1..min).contains(&blocks) => Err(KeepsTooFew { keep: blocks, min }),
            keep => Ok(Some(Self { genesis: genesis.clone(), keep, blocks_min: min })),
        }
    }

    /// The same with another lower limit.
    #[cfg(test)]
    pub(super) fn keeping(genesis: &Genesis, keep: Keep, blocks_min: u64) -> Self {
        Self { genesis: genesis.clone(), keep, blocks_min }
    }

    /// The least number of blocks that can be kept in a network.
    #[must_use]
    pub fn min(genesis: &Genesis) -> u64 {
        NodeParts::restore_depth(genesis)
    }

    /// Whether it has to be known what the blocks take.
    pub(super) fn counts_bytes(&self) -> bool {
        self.keep.bytes.is_some()
    }

    /// Whether a block of this height has to go, when everything takes so many bytes.
    fn drops(&self, height: u64, head: u64, bytes: Option<u64>) -> bool {
        let is_among_last = |count: u64| height.saturating_add(count) > head;
        let too_old = self.keep.blocks > 0 && !is_among_last(self.keep.blocks);
        let too_much = self.keep.bytes.zip(bytes).is_some_and(|(keep, bytes)| bytes > keep);
        (too_old || too_much) && !is_among_last(self.blocks_min)
    }
}

/// Removes some of the blocks that need not be kept.
pub(super) fn prune(writer: &mut Writer<'_>, retention: &Retention) -> Result<Pruned, StoreError> {
    let head = writer.head.get(()).map_err(failed)?.map_or(0, |row| row.value().0);
    let mut pruned = Pruned::default();
    loop {
        pruned.kept_bytes = writer.bytes()?;
        let oldest = writer.heights.first().map_err(failed)?.map(|(row, _)| row.value());
        let Some((height, id)) = oldest.filter(|(height, _)| retention.drops(*height, head, pruned.kept_bytes)) else {
            return Ok(pruned);
        };
        if pruned.blocks == PRUNED_AT_ONCE {
            pruned.more = true;
            return Ok(pruned);
        }
        remove(writer, &retention.genesis, height, &id)?;
        pruned.blocks += 1;
    }
}

fn remove(writer: &mut Writer<'_>, genesis: &Genesis, height: u64, id: &Id) -> Result<(), StoreError> {
    let bytes = writer.blocks.remove(id).map_err(failed)?.map(|row| row.value().2.to_vec());
    writer.heights.remove((height, *id)).map_err(failed)?;
    let taken = bytes.as_ref().map_or(0, |bytes| super::size::of_block(bytes));
    writer.block_bytes = writer.block_bytes.map(|sum| sum.saturating_sub(taken));
    let canonical = writer.canonical.get(height).map_err(failed)?.is_some_and(|row| row.value() == *id);
    if !canonical {
        return Ok(());
    }
    writer.canonical.remove(height).map_err(failed)?;
    // A block that does not decode has no rows that could be found; `db check` names what is left of it.
    let block = bytes.and_then(|bytes| Block::decode(bytes, genesis).ok());
    for transaction in block.iter().flat_map(Block::transactions) {
        let key = *transaction.id().as_bytes();
        let here = writer.transactions.get(&key).map_err(failed)?.is_some_and(|row| row.value().0 == *id);
        if here {
            writer.transactions.remove(&key).map_err(failed)?;
        }
    }
    Ok(())
}

impl Store {
    /// How many blocks are stored, those of side branches included.
    ///
    /// # Errors
    /// If the database fails.
    pub fn blocks_len(&self) -> Result<u64, StoreError> {
        self.read(|transaction| transaction.open_table(super::BLOCKS).map_err(failed)?.len().map_err(failed))
    }

    /// Returns unused pages to the file system. Takes as long as copying the store, and room for a copy of parts of it.
    ///
    /// # Errors
    /// If the database fails.
    pub fn compact(&mut self) -> Result<bool, StoreError> {
        let Self { path, database, .. } = self;
        let database = database.as_mut().map_err(|reason| StoreError::Closed(reason.clone()))?;
        super::guarded(path, || database.compact().map_err(failed))
    }
}

#[cfg(test)]
mod tests;
