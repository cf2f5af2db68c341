//! What the blocks of a store take on the disk.
//!
//! # What is counted
//! Pages, as the database hands them out, because they are what fills a disk:
//! - A row that does not fit into a page has as many to itself as the next power of two: a block of 1.1 MB takes 2 MiB.
//! - Smaller rows share pages, which are [two thirds full](https://doi.org/10.1007/BF00289075) in a B-tree of random
//!   keys; those of blocks of which no two fit into a page take one each.
//! - Each block has a row in the heights, each canonical one another, and each of its transactions one in the index.
//!
//! What is not counted is bounded otherwise: the pages that a commit frees are used by the one after the next, submitted
//! transactions are as many as the mempool takes, and everything else is some pages.
//!
//! # How
//! The rows of the small tables are numbered by the database. The sum over the blocks is kept in a row of its own, with the
//! head and the number of blocks that it was counted at. It is brought up to date only where somebody wants to know; if the
//! store was changed otherwise, head or number differ, and the blocks are counted anew, which reads all of them once.

use super::Writer;
use super::error::{StoreError, failed};
use super::schema::Id;
use redb::{ReadableTable, ReadableTableMetadata as _};

/// The database's page.
const PAGE_BYTES: u64 = 4_096;
/// What a row of a block has besides its encoding: key, height, slot and where it ends in its page.
const BLOCK_ROW_BYTES: u64 = 64;
/// A row of the index of transactions, in pages of random keys.
const INDEX_ROW_BYTES: u64 = shared(84);
/// A row of the heights. Keys that ascend leave pages half full behind.
const HEIGHT_ROW_BYTES: u64 = 2 * 44;
/// A row of the canonical chain.
const CANONICAL_ROW_BYTES: u64 = 2 * 44;

/// The name of the row in the table `meta`.
const ROW: &str = "kept";

/// What so many bytes of small rows take.
const fn shared(bytes: u64) -> u64 {
    bytes * 3 / 2
}

/// What a block with such an encoding takes.
pub(super) fn of_block(encoded: &[u8]) -> u64 {
    match encoded.len() as u64 + BLOCK_ROW_BYTES {
        row if row <= PAGE_BYTES / 2 => shared(row),
        row => row.next_power_of_two().max(PAGE_BYTES),
    }
}

/// What everything takes, of which the blocks take `block_bytes`.
pub(super) fn of_all(block_bytes: u64, blocks: u64, canonical: u64, transactions: u64) -> u64 {
    block_bytes + blocks * HEIGHT_ROW_BYTES + canonical * CANONICAL_ROW_BYTES + transactions * INDEX_ROW_BYTES
}

impl Writer<'_> {
    /// Begins to count what the blocks take.
    pub(super) fn begin_counting(&mut self) -> Result<(), StoreError> {
        let stamp = self.stamp()?;
        let row = self.meta.get(ROW).map_err(failed)?.map(|row| row.value().to_vec()).unwrap_or_default();
        let known = row.strip_prefix(&stamp[..]).and_then(|bytes| bytes.try_into().ok()).map(u64::from_le_bytes);
        self.block_bytes = Some(match known {
            Some(bytes) => bytes,
            None => count(&self.blocks)?,
        });
        Ok(())
    }

    /// Keeps what was counted.
    pub(super) fn keep_count(&mut self) -> Result<(), StoreError> {
        let Some(block_bytes) = self.block_bytes else { return Ok(()) };
        let row = [&self.stamp()?[..], &block_bytes.to_le_bytes()].concat();
        let same = self.meta.get(ROW).map_err(failed)?.is_some_and(|before| before.value() == row);
        if !same {
            self.meta.insert(ROW, &row[..]).map_err(failed)?;
        }
        Ok(())
    }

    /// What everything takes, if it is counted.
    pub(super) fn bytes(&self) -> Result<Option<u64>, StoreError> {
        let Some(block_bytes) = self.block_bytes else { return Ok(None) };
        let blocks = self.blocks.len().map_err(failed)?;
        let canonical = self.canonical.len().map_err(failed)?;
        let transactions = self.transactions.len().map_err(failed)?;
        Ok(Some(of_all(block_bytes, blocks, canonical, transactions)))
    }

    /// What a count belongs to: the head and the number of blocks.
    fn stamp(&self) -> Result<[u8; 40], StoreError> {
        let mut stamp = [0; 40];
        let head = self.head.get(()).map_err(failed)?.map_or([0; 32], |row| row.value().1);
        stamp[..32].copy_from_slice(&head);
        stamp[32..].copy_from_slice(&self.blocks.len().map_err(failed)?.to_le_bytes());
        Ok(stamp)
    }
}

fn count(blocks: &impl ReadableTable<Id, (u64, u64, &'static [u8])>) -> Result<u64, StoreError> {
    let mut bytes = 0;
    for row in blocks.iter().map_err(failed)? {
        bytes += of_block(row.map_err(failed)?.1.value().2);
    }
    Ok(bytes)
}
