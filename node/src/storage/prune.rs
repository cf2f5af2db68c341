//! Retention: forgetting the oldest blocks, so that the disk does not fill.
//!
//! # Rules
//! 1. The last [`Retention::keep_blocks`] canonical blocks are kept, and with them everything that a restart, an undoing
//!    or the nonces' memory needs: fewer than [`Retention::min`] are refused.
//! 2. What goes, goes whole: the block, its row in the heights, its place in the canonical chain and the index rows of
//!    its transactions; and the blocks of side branches at the same heights. So what is left is a store like any other
//!    whose canonical heights begin later.
//! 3. At most [`PRUNED_AT_ONCE`] blocks go in one transaction, together with what is stored anyway: in the long run one
//!    block comes and one goes, for no additional flush. A backlog, as after the setting was changed, is worked off
//!    while the disk has nothing else to do.
//!
//! # Limits
//! The file does not shrink: the database uses freed pages again. `starling db prune --compact` returns them.

use super::error::{StoreError, failed};
use super::schema::Id;
use super::{Store, Writer};
use redb::{ReadableTable as _, ReadableTableMetadata as _};
use starling_protocol::block::Block;
use starling_protocol::genesis::Genesis;
use starling_protocol::node::NodeParts;

/// Blocks that are removed in one transaction. A guess: a few milliseconds.
const PRUNED_AT_ONCE: usize = 64;

/// How many blocks are kept.
#[derive(Clone, Debug)]
pub struct Retention {
    genesis: Genesis,
    keep_blocks: u64,
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
}

impl Retention {
    /// The last `keep_blocks` canonical blocks are kept; all if that is 0.
    ///
    /// # Errors
    /// If a node needs more of them.
    pub fn new(genesis: &Genesis, keep_blocks: u64) -> Result<Option<Self>, KeepsTooFew> {
        let min = Self::min(genesis);
        match keep_blocks {
            0 => Ok(None),
            keep if keep < min => Err(KeepsTooFew { keep, min }),
            keep_blocks => Ok(Some(Self { genesis: genesis.clone(), keep_blocks })),
        }
    }

    /// The same without the lower limit.
    #[cfg(test)]
    pub(super) fn keeping(genesis: &Genesis, keep_blocks: u64) -> Self {
        Self { genesis: genesis.clone(), keep_blocks }
    }

    /// The least number of blocks that can be kept in a network.
    #[must_use]
    pub fn min(genesis: &Genesis) -> u64 {
        NodeParts::restore_depth(genesis)
    }

    /// How many blocks are kept.
    #[must_use]
    pub fn keep_blocks(&self) -> u64 {
        self.keep_blocks
    }
}

/// Removes some of the blocks that need not be kept.
pub(super) fn prune(writer: &mut Writer<'_>, retention: &Retention) -> Result<Pruned, StoreError> {
    let head = writer.head.get(()).map_err(failed)?.map_or(0, |row| row.value().0);
    // The lowest height that is kept.
    let keep_from = head.saturating_sub(retention.keep_blocks - 1);
    let mut old: Vec<(u64, Id)> = Vec::new();
    for row in writer.heights.range(..(keep_from, [0; 32])).map_err(failed)?.take(PRUNED_AT_ONCE + 1) {
        old.push(row.map_err(failed)?.0.value());
    }
    let more = old.len() > PRUNED_AT_ONCE;
    old.truncate(PRUNED_AT_ONCE);
    for (height, id) in &old {
        remove(writer, &retention.genesis, *height, id)?;
    }
    Ok(Pruned { blocks: old.len(), more })
}

fn remove(writer: &mut Writer<'_>, genesis: &Genesis, height: u64, id: &Id) -> Result<(), StoreError> {
    let bytes = writer.blocks.remove(id).map_err(failed)?.map(|row| row.value().2.to_vec());
    writer.heights.remove((height, *id)).map_err(failed)?;
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
