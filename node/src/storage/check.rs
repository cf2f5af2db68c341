//! Verifying a store: every invariant of [`starling_protocol::store`], and what its blocks say of each other.
//!
//! # What is verified
//! - The database's own structure and checksums.
//! - The canonical heights follow on each other without a gap, from the lowest kept to the head's, and the head's row
//!   names the last of them.
//! - Each block decodes, has the id, height and slot that its row says, and a row in the heights; each canonical one
//!   follows on the one before.
//! - The index of transactions has exactly those of canonical blocks, at their places.
//! - Each pending transaction decodes and has the id and expiry that its row says.
//! - In full: the signatures of blocks and transactions, and that nonces follow on each other.
//!
//! # Limits
//! Reads everything; memory for one block, and for the ids of the transactions of canonical blocks, 32 bytes each.

use super::error::{StoreError, failed, guarded};
use super::schema::{BLOCKS, CANONICAL, HEAD, HEIGHTS, PENDING, POOL, SIGNED, TRANSACTIONS};
use super::{Store, block_id};
use bytes::Bytes;
use redb::{ReadOnlyTable, ReadTransaction, ReadableTable as _, ReadableTableMetadata as _};
use serde::Serialize;
use starling_crypto::Digest;
use starling_protocol::block::Block;
use starling_protocol::chain::{self, Chain};
use starling_protocol::genesis::Genesis;
use starling_protocol::id::{BlockId, TransactionId};
use starling_protocol::transaction::Transaction;
use std::collections::BTreeSet;

/// Problems that are listed; a store with more is no less broken.
const PROBLEMS_MAX: usize = 20;

/// What was found in a store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CheckReport {
    /// Height of the head; 0 without blocks.
    pub height: u64,
    /// The head.
    pub head: Option<BlockId>,
    /// The lowest canonical height that is kept; 0 without blocks.
    pub earliest: u64,
    /// Canonical blocks.
    pub canonical_blocks: u64,
    /// Blocks of side branches.
    pub side_blocks: u64,
    /// Transactions in canonical blocks.
    pub transactions: u64,
    /// Submitted transactions that are not settled.
    pub pending: u64,
    /// Transactions kept from the last clean stop.
    pub pool: u64,
    /// The slot up to which this node may have signed blocks.
    pub signed_slot: Option<u64>,
    /// Bytes that the file takes on the disk.
    pub file_bytes: u64,
    /// Whether signatures and nonces were verified too.
    pub full: bool,
    /// What is wrong, the first of it; nothing in a good store.
    pub problems: Vec<String>,
}

impl CheckReport {
    fn problem(&mut self, problem: impl Into<String>) {
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(problem.into());
        }
    }
}

impl Store {
    /// Verifies everything; with `full`, signatures and nonces too, which takes some 50 µs for each transaction.
    ///
    /// # Errors
    /// If the database cannot be read. What is wrong with its content is in the report.
    pub fn check(&mut self, genesis: &Genesis, full: bool) -> Result<CheckReport, StoreError> {
        let file_bytes = self.file_bytes();
        let mut report = CheckReport { file_bytes, full, ..CheckReport::default() };
        let path = self.path.clone();
        let database = self.database.as_mut().map_err(|reason| StoreError::Closed(reason.clone()))?;
        let sound = guarded(&path, || database.check_integrity().map_err(failed))?;
        if !sound {
            report.problem("the database's checksums did not match; it was repaired as far as possible");
        }
        self.read(|transaction| {
            let indexed = check_canonical(transaction, genesis, full, &mut report)?;
            check_blocks(transaction, genesis, &mut report)?;
            check_index(transaction, &indexed, &mut report)?;
            check_own(transaction, genesis, &mut report)
        })?;
        Ok(report)
    }
}

fn table<K: redb::Key, V: redb::Value>(
    transaction: &ReadTransaction,
    definition: redb::TableDefinition<'_, K, V>,
) -> Result<ReadOnlyTable<K, V>, StoreError> {
    transaction.open_table(definition).map_err(failed)
}

/// Walks the canonical chain; returns the transactions in it.
fn check_canonical(
    transaction: &ReadTransaction,
    genesis: &Genesis,
    full: bool,
    report: &mut CheckReport,
) -> Result<BTreeSet<TransactionId>, StoreError> {
    let (canonical, blocks) = (table(transaction, CANONICAL)?, table(transaction, BLOCKS)?);
    let mut indexed = BTreeSet::new();
    let mut nonces = Nonces::new(genesis, full);
    let mut before: Option<(u64, BlockId)> = None;
    let index = table(transaction, TRANSACTIONS)?;
    for row in canonical.iter().map_err(failed)? {
        let (height, id) = row.map_err(failed)?;
        let (height, id) = (height.value(), block_id(id.value()));
        report.canonical_blocks += 1;
        match before {
            None => report.earliest = height,
            Some((last, _)) if height != last + 1 => {
                report.problem(format!("the canonical chain has a gap: height {height} follows on {last}"));
            }
            Some(_) => {}
        }
        let Some(row) = blocks.get(id.as_bytes()).map_err(failed)? else {
            report.problem(format!("canonical block {id} at height {height} is missing"));
            before = Some((height, id));
            continue;
        };
        let bytes = Bytes::copy_from_slice(row.value().2);
        // What is wrong with the block itself is found when all blocks are looked at.
        if let Ok(block) = Block::decode(bytes, genesis) {
            let parent = block.header().parent;
            let expected = before.map_or((height == 1).then(|| genesis.block_id()), |(_, last)| Some(last));
            if expected.is_some_and(|expected| expected != parent) {
                report.problem(format!("block {id} at height {height} does not follow on the one before"));
            }
            for (position, transaction) in (0..).zip(block.transactions()) {
                let key = transaction.id();
                report.transactions += 1;
                indexed.insert(key);
                let place = index.get(key.as_bytes()).map_err(failed)?.map(|row| row.value());
                if place != Some((*id.as_bytes(), height, position)) {
                    report.problem(format!("transaction {key} of block {id} is not indexed at its place"));
                }
            }
            nonces.follow(block, report);
        }
        before = Some((height, id));
    }
    let head = table(transaction, HEAD)?.get(()).map_err(failed)?.map(|row| row.value());
    let head = head.map(|(height, id, _)| (height, block_id(id)));
    if head.filter(|(height, _)| *height > 0) != before {
        report.problem("the row of the head does not name the last canonical block");
    }
    if let Some((height, id)) = before {
        (report.height, report.head) = (height, Some(id));
    }
    Ok(indexed)
}

/// Verifies that the chain's nonces follow on each other, by adopting its blocks.
struct Nonces {
    chain: Option<Chain>,
    full: bool,
    genesis: Genesis,
}

impl Nonces {
    fn new(genesis: &Genesis, full: bool) -> Self {
        Self { chain: None, full, genesis: genesis.clone() }
    }

    fn follow(&mut self, block: Block, report: &mut CheckReport) {
        if !self.full {
            return;
        }
        let (id, height) = (block.id(), block.header().height);
        if let Err(error) = block.verify_header_signature(&self.genesis) {
            report.problem(format!("block {id} at height {height}: {error}"));
        }
        if let Err(error) = block.verify_bodies(&self.genesis) {
            report.problem(format!("block {id} at height {height}: {error}"));
        }
        match &mut self.chain {
            None => {
                let config = chain::Config::default();
                match Chain::restore(self.genesis.clone(), config, [block]) {
                    Ok(chain) => self.chain = Some(chain),
                    Err(error) => report.problem(error.to_string()),
                }
            }
            Some(chain) => {
                let mut effects = Vec::new();
                let at = super::transfer::moment_of(&block);
                chain.insert_block(at, block, None, chain::Verified::Valid, &mut effects);
                if chain.head().id != id {
                    report.problem(format!("block {id} at height {height} cannot follow on the one before (nonces)"));
                }
            }
        }
    }
}

fn check_blocks(transaction: &ReadTransaction, genesis: &Genesis, report: &mut CheckReport) -> Result<(), StoreError> {
    let (blocks, heights) = (table(transaction, BLOCKS)?, table(transaction, HEIGHTS)?);
    let mut count = 0_u64;
    for row in blocks.iter().map_err(failed)? {
        let (id, row) = row.map_err(failed)?;
        let (id, (height, slot, bytes)) = (id.value(), row.value());
        count += 1;
        match Block::decode(Bytes::copy_from_slice(bytes), genesis) {
            Err(error) => report.problem(format!("block {}: {error}", block_id(id))),
            Ok(block) => {
                let found = (*block.id().as_bytes(), block.header().height, block.header().slot);
                if found != (id, height, slot) {
                    report.problem(format!("the row of block {} says another id, height or slot", block_id(id)));
                }
            }
        }
        if heights.get((height, id)).map_err(failed)?.is_none() {
            report.problem(format!("block {} has no row in the heights", block_id(id)));
        }
    }
    if heights.len().map_err(failed)? != count {
        report.problem("the heights have rows of blocks that are not there");
    }
    report.side_blocks = count.saturating_sub(report.canonical_blocks);
    Ok(())
}

fn check_index(
    transaction: &ReadTransaction,
    indexed: &BTreeSet<TransactionId>,
    report: &mut CheckReport,
) -> Result<(), StoreError> {
    let index = table(transaction, TRANSACTIONS)?;
    if index.len().map_err(failed)? != indexed.len() as u64 {
        report.problem("the index has transactions that stand in no canonical block");
    }
    Ok(())
}

fn check_own(transaction: &ReadTransaction, genesis: &Genesis, report: &mut CheckReport) -> Result<(), StoreError> {
    for row in table(transaction, PENDING)?.iter().map_err(failed)? {
        let (id, row) = row.map_err(failed)?;
        let (id, (expiry_slot, bytes)) = (TransactionId(Digest(id.value())), row.value());
        report.pending += 1;
        match Transaction::decode(Bytes::copy_from_slice(bytes), genesis) {
            Err(error) => report.problem(format!("pending transaction {id}: {error}")),
            Ok(found) if (found.id(), found.expiry_slot()) != (id, expiry_slot) => {
                report.problem(format!("the row of pending transaction {id} says another id or expiry"));
            }
            Ok(_) => {}
        }
    }
    report.pool = table(transaction, POOL)?.len().map_err(failed)?;
    report.signed_slot = table(transaction, SIGNED)?.get(()).map_err(failed)?.map(|row| row.value());
    Ok(())
}
