//! What a node keeps on disk: its data directory and, in it, the chain.
//!
//! # Promises
//! - **All or nothing.** A batch is one transaction of [redb](https://docs.rs/redb): after a crash at any moment it is
//!   there whole or not at all, and what was acknowledged is there.
//! - **No stranger's data.** A store carries a schema number and the network's id. A newer schema, another network or a
//!   file that is no store is refused with an error that names the remedy; nothing is changed then.
//! - **One process.** [`DataDir::open`] locks the directory; a second process gets a clear error instead of a damaged
//!   store.
//! - **The event loop never waits.** [`StorageThread`] owns the store and answers with messages.
//!
//! # Layout
//! `docs/PROTOCOL.md`, section "Disk", lists every table. In short: blocks by id, canonical ids by height, the place of
//! each transaction of the canonical chain, and the head.
//!
//! Why redb: `docs/adr/0004-storage.md`.

mod datadir;
mod keeper;
mod thread;

pub use datadir::{Addresses, DataDir, DataDirError, default_path};
pub use keeper::{Keeper, load_or_set_aside};
pub use thread::{Full, NotTaken, Persisted, QUEUE_MAX, StorageThread};

use bytes::Bytes;
use redb::{Database, Durability, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};
use starling_crypto::Digest;
use starling_protocol::block::SIGNED_HEADER_BYTES;
use starling_protocol::id::{BlockId, NetworkId, TransactionId};
use starling_protocol::store::{LoadRequest, StoreOp};
use std::path::{Path, PathBuf};

/// The schema that this version writes, and the only one it reads.
pub const SCHEMA: u64 = 1;

/// Memory for cached pages. redb's own default of 1 GiB is meant for a database server; a node reads recent blocks, and
/// a host may run dozens of nodes.
const CACHE_BYTES: usize = 16 << 20;

type Id = [u8; 32];

/// `schema` and `network`.
const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
/// Block id to height, slot and encoding.
const BLOCKS: TableDefinition<'_, Id, (u64, u64, &[u8])> = TableDefinition::new("blocks");
/// Height to the id of the canonical block.
const CANONICAL: TableDefinition<'_, u64, Id> = TableDefinition::new("canonical");
/// Transaction id to block id, height and position.
const TRANSACTIONS: TableDefinition<'_, Id, (Id, u64, u32)> = TableDefinition::new("transactions");
/// One row, the head: height, id and slot.
const HEAD: TableDefinition<'_, (), (u64, Id, u64)> = TableDefinition::new("head");

/// Why the store failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It was made for another network.
    #[error(
        "genesis does not match the data directory: {} holds network {found}, and the genesis file is that of network \
         {expected}; run with the genesis that the directory was made with, or give another --datadir", .path.display()
    )]
    OtherNetwork {
        /// The store.
        path: PathBuf,
        /// The network in the store.
        found: NetworkId,
        /// The network of the genesis.
        expected: NetworkId,
    },
    /// It was written by another version.
    #[error(
        "{} has schema {found}, and this version of starling reads schema {SCHEMA}; use the version that wrote it, \
         or give another --datadir and let the node fetch the chain again", .path.display()
    )]
    OtherSchema {
        /// The store.
        path: PathBuf,
        /// Its schema.
        found: u64,
    },
    /// The file is something else, or its stamp is damaged.
    #[error(
        "{} is not a store of starling ({problem}); move it away, and the node fetches the chain again", .path.display()
    )]
    NotAStore {
        /// The file.
        path: PathBuf,
        /// What is odd about it.
        problem: String,
    },
    /// Another process has it open.
    #[error("{} is in use by another process; stop that one first, or give another --datadir", .0.display())]
    InUse(PathBuf),
    /// The database failed, most often because the system refused to read or write.
    #[error("the store failed: {0}; check the disk's free space and health")]
    Database(#[source] Box<redb::Error>),
    /// What comes before could not be stored.
    #[error("blocks before it could not be stored, and a chain has no gaps; check the disk, then restart the node")]
    Gap,
}

/// redb has one error type for each kind of call; all of them convert to its general one.
fn failed(error: impl Into<redb::Error>) -> StoreError {
    StoreError::Database(Box::new(error.into()))
}

/// A block with what the store knows of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredBlock {
    /// Its name.
    pub id: BlockId,
    /// How many blocks come before it.
    pub height: u64,
    /// The slot it was made in.
    pub slot: u64,
    /// Its encoding.
    pub bytes: Bytes,
}

/// The last canonical block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Its height.
    pub height: u64,
    /// Its name.
    pub id: BlockId,
    /// Its slot.
    pub slot: u64,
}

/// Where a transaction stands in the canonical chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Location {
    /// The block.
    pub block: BlockId,
    /// The block's height.
    pub height: u64,
    /// Place in the block, from 0.
    pub position: u32,
}

/// The chain on disk. Every call may wait for the disk.
#[derive(Debug)]
pub struct Store {
    database: Database,
}

impl Store {
    /// Opens the store in this file, or makes a new one for this network. A new one gets its name when it is complete, so
    /// that a process that is killed meanwhile leaves nothing that could not be opened.
    ///
    /// # Errors
    /// If the file is no store, has another schema, belongs to another network or cannot be used.
    pub fn open(path: &Path, network: NetworkId) -> Result<Self, StoreError> {
        if path.exists() {
            return Self::open_file(path, network);
        }
        let io = |error| failed(redb::StorageError::Io(error));
        let unfinished = path.with_extension("new");
        if unfinished.exists() {
            std::fs::remove_file(&unfinished).map_err(io)?;
        }
        let store = Self::open_file(&unfinished, network)?;
        std::fs::rename(&unfinished, path).map_err(io)?;
        crate::keyfile::sync_parent(path).map_err(io)?;
        Ok(store)
    }

    fn open_file(path: &Path, network: NetworkId) -> Result<Self, StoreError> {
        let existed = path.exists();
        let database = Database::builder().set_cache_size(CACHE_BYTES).create(path).map_err(|error| match error {
            redb::DatabaseError::DatabaseAlreadyOpen => StoreError::InUse(path.to_owned()),
            redb::DatabaseError::UpgradeRequired(version) => StoreError::NotAStore {
                path: path.to_owned(),
                problem: format!("its file format {version} is outdated"),
            },
            redb::DatabaseError::Storage(redb::StorageError::Io(error))
                if existed && error.kind() == std::io::ErrorKind::InvalidData =>
            {
                StoreError::NotAStore { path: path.to_owned(), problem: "it is another kind of file".into() }
            }
            redb::DatabaseError::Storage(redb::StorageError::Corrupted(problem)) => {
                StoreError::NotAStore { path: path.to_owned(), problem: format!("it is damaged: {problem}") }
            }
            other => failed(other),
        })?;
        let store = Self { database };
        if store.is_empty()? {
            store.stamp(network)?;
        } else {
            store.check_stamp(path, network)?;
        }
        Ok(store)
    }

    /// Applies batches, each in the order of its operations, as one transaction. When this returns, they are on the
    /// disk.
    ///
    /// # Errors
    /// If the database fails; then nothing of them is applied.
    pub fn apply<'a>(&self, batches: impl IntoIterator<Item = &'a [StoreOp]>) -> Result<(), StoreError> {
        let transaction = self.begin_write()?;
        {
            let mut writer = Writer {
                blocks: transaction.open_table(BLOCKS).map_err(failed)?,
                canonical: transaction.open_table(CANONICAL).map_err(failed)?,
                transactions: transaction.open_table(TRANSACTIONS).map_err(failed)?,
                head: transaction.open_table(HEAD).map_err(failed)?,
            };
            for operation in batches.into_iter().flatten() {
                writer.apply(operation).map_err(failed)?;
            }
        }
        transaction.commit().map_err(failed)
    }

    /// The last canonical block; `None` while the chain has only its beginning.
    ///
    /// # Errors
    /// If the database fails.
    pub fn head(&self) -> Result<Option<Head>, StoreError> {
        let head = self.begin_read()?.open_table(HEAD).map_err(failed)?.get(()).map_err(failed)?;
        Ok(head.map(|row| {
            let (height, id, slot) = row.value();
            Head { height, id: block_id(id), slot }
        }))
    }

    /// A block, canonical or not.
    ///
    /// # Errors
    /// If the database fails.
    pub fn block(&self, id: BlockId) -> Result<Option<StoredBlock>, StoreError> {
        let blocks = self.begin_read()?.open_table(BLOCKS).map_err(failed)?;
        stored_block(&blocks, id)
    }

    /// The id of the canonical block at a height.
    ///
    /// # Errors
    /// If the database fails.
    pub fn canonical(&self, height: u64) -> Result<Option<BlockId>, StoreError> {
        let canonical = self.begin_read()?.open_table(CANONICAL).map_err(failed)?;
        Ok(canonical.get(height).map_err(failed)?.map(|id| block_id(id.value())))
    }

    /// Where a transaction stands in the canonical chain.
    ///
    /// # Errors
    /// If the database fails.
    pub fn transaction(&self, id: TransactionId) -> Result<Option<Location>, StoreError> {
        let transactions = self.begin_read()?.open_table(TRANSACTIONS).map_err(failed)?;
        Ok(transactions.get(id.as_bytes()).map_err(failed)?.map(|row| {
            let (block, height, position) = row.value();
            Location { block: block_id(block), height, position }
        }))
    }

    /// The canonical blocks from `slot_min` on, lowest first: what a restarting node needs to know again. At most the
    /// last `blocks_max`.
    ///
    /// # Errors
    /// If the database fails, or a canonical block is missing from it.
    pub fn recent_canonical(&self, slot_min: u64, blocks_max: usize) -> Result<Vec<StoredBlock>, StoreError> {
        let transaction = self.begin_read()?;
        let canonical = transaction.open_table(CANONICAL).map_err(failed)?;
        let blocks = transaction.open_table(BLOCKS).map_err(failed)?;
        let mut found = Vec::new();
        for row in canonical.iter().map_err(failed)?.rev().take(blocks_max) {
            let (_, id) = row.map_err(failed)?;
            let block = canonical_block(&blocks, block_id(id.value()))?;
            if block.slot < slot_min {
                break;
            }
            found.push(block);
        }
        found.reverse();
        Ok(found)
    }

    /// What the chain asks for on behalf of a peer.
    ///
    /// # Errors
    /// If the database fails, or a canonical block is missing from it.
    pub fn load(&self, request: &LoadRequest) -> Result<Vec<Bytes>, StoreError> {
        match request {
            LoadRequest::Headers { locator, headers_max } => self.headers(locator, *headers_max),
            LoadRequest::Blocks { ids, bytes_max } => self.blocks(ids, *bytes_max),
        }
    }

    fn headers(&self, locator: &[BlockId], headers_max: u16) -> Result<Vec<Bytes>, StoreError> {
        let transaction = self.begin_read()?;
        let canonical = transaction.open_table(CANONICAL).map_err(failed)?;
        let blocks = transaction.open_table(BLOCKS).map_err(failed)?;
        let mut known_height = 0;
        for id in locator {
            let Some(row) = blocks.get(id.as_bytes()).map_err(failed)? else { continue };
            let (height, _, _) = row.value();
            if canonical.get(height).map_err(failed)?.is_some_and(|at| at.value() == *id.as_bytes()) {
                known_height = height;
                break;
            }
        }
        let first = known_height.saturating_add(1);
        let mut found = Vec::new();
        for (expected, row) in (first..).zip(canonical.range(first..).map_err(failed)?.take(headers_max.into())) {
            let (height, id) = row.map_err(failed)?;
            // What was pruned leaves a gap below the first that is kept.
            if height.value() != expected {
                break;
            }
            let id = block_id(id.value());
            let row = blocks.get(id.as_bytes()).map_err(failed)?;
            let missing = || failed(redb::StorageError::Corrupted(format!("canonical block {id} is missing")));
            let (_, _, bytes) = row.as_ref().ok_or_else(missing)?.value();
            found.push(Bytes::copy_from_slice(bytes.get(..SIGNED_HEADER_BYTES).ok_or_else(missing)?));
        }
        Ok(found)
    }

    fn blocks(&self, ids: &[BlockId], bytes_max: u32) -> Result<Vec<Bytes>, StoreError> {
        let blocks = self.begin_read()?.open_table(BLOCKS).map_err(failed)?;
        let mut found = Vec::new();
        let mut bytes = 0_usize;
        for id in ids {
            let block = stored_block(&blocks, *id)?.map(|stored| stored.bytes).unwrap_or_default();
            bytes = bytes.saturating_add(block.len());
            if !found.is_empty() && bytes > bytes_max as usize {
                break;
            }
            found.push(block);
        }
        Ok(found)
    }

    fn begin_read(&self) -> Result<redb::ReadTransaction, StoreError> {
        self.database.begin_read().map_err(failed)
    }

    fn begin_write(&self) -> Result<WriteTransaction, StoreError> {
        let mut transaction = self.database.begin_write().map_err(failed)?;
        transaction.set_durability(Durability::Immediate).map_err(failed)?;
        Ok(transaction)
    }

    fn is_empty(&self) -> Result<bool, StoreError> {
        Ok(self.begin_read()?.list_tables().map_err(failed)?.next().is_none())
    }

    /// Makes all tables, so that reading never meets one that does not exist yet, and stamps the store.
    fn stamp(&self, network: NetworkId) -> Result<(), StoreError> {
        let transaction = self.begin_write()?;
        {
            let mut meta = transaction.open_table(META).map_err(failed)?;
            meta.insert("schema", &SCHEMA.to_le_bytes()[..]).map_err(failed)?;
            meta.insert("network", &network.as_bytes()[..]).map_err(failed)?;
            transaction.open_table(BLOCKS).map_err(failed)?;
            transaction.open_table(CANONICAL).map_err(failed)?;
            transaction.open_table(TRANSACTIONS).map_err(failed)?;
            transaction.open_table(HEAD).map_err(failed)?;
        }
        transaction.commit().map_err(failed)
    }

    fn check_stamp(&self, path: &Path, expected: NetworkId) -> Result<(), StoreError> {
        let odd = |problem: &str| StoreError::NotAStore { path: path.to_owned(), problem: problem.into() };
        let meta = match self.begin_read()?.open_table(META) {
            Ok(meta) => meta,
            Err(redb::TableError::Storage(error)) => return Err(failed(error)),
            Err(_absent_or_of_other_type) => return Err(odd("it has no schema stamp")),
        };
        let schema = meta.get("schema").map_err(failed)?.and_then(|row| row.value().try_into().ok());
        let found = u64::from_le_bytes(schema.ok_or_else(|| odd("it has no schema stamp"))?);
        if found != SCHEMA {
            return Err(StoreError::OtherSchema { path: path.to_owned(), found });
        }
        let network = meta.get("network").map_err(failed)?.and_then(|row| row.value().try_into().ok());
        let found = NetworkId(Digest(network.ok_or_else(|| odd("it names no network"))?));
        if found != expected {
            return Err(StoreError::OtherNetwork { path: path.to_owned(), found, expected });
        }
        Ok(())
    }
}

/// The tables of one write transaction.
struct Writer<'t> {
    blocks: redb::Table<'t, Id, (u64, u64, &'static [u8])>,
    canonical: redb::Table<'t, u64, Id>,
    transactions: redb::Table<'t, Id, (Id, u64, u32)>,
    head: redb::Table<'t, (), (u64, Id, u64)>,
}

impl Writer<'_> {
    fn apply(&mut self, operation: &StoreOp) -> Result<(), redb::StorageError> {
        match operation {
            StoreOp::PutBlock { id, height, slot, bytes } => {
                self.blocks.insert(id.as_bytes(), (*height, *slot, &bytes[..]))?;
            }
            StoreOp::SetCanonical { height, id } => {
                self.canonical.insert(height, id.as_bytes())?;
            }
            StoreOp::UnsetCanonicalFrom { height } => self.canonical.retain_in::<u64, _>(*height.., |_, _| false)?,
            StoreOp::IndexTransaction { transaction, block, height, position } => {
                self.transactions.insert(transaction.as_bytes(), (*block.as_bytes(), *height, *position))?;
            }
            StoreOp::UnindexTransaction { transaction } => {
                self.transactions.remove(transaction.as_bytes())?;
            }
            StoreOp::SetHead { height, id, slot } => {
                self.head.insert((), (*height, *id.as_bytes(), *slot))?;
            }
        }
        Ok(())
    }
}

fn block_id(bytes: Id) -> BlockId {
    BlockId(Digest(bytes))
}

fn stored_block(
    blocks: &impl ReadableTable<Id, (u64, u64, &'static [u8])>,
    id: BlockId,
) -> Result<Option<StoredBlock>, StoreError> {
    Ok(blocks.get(id.as_bytes()).map_err(failed)?.map(|row| {
        let (height, slot, bytes) = row.value();
        StoredBlock { id, height, slot, bytes: Bytes::copy_from_slice(bytes) }
    }))
}

/// A block that the canonical index names; that it is stored is rule 1 of [`starling_protocol::store`].
fn canonical_block(
    blocks: &impl ReadableTable<Id, (u64, u64, &'static [u8])>,
    id: BlockId,
) -> Result<StoredBlock, StoreError> {
    stored_block(blocks, id)?
        .ok_or_else(|| failed(redb::StorageError::Corrupted(format!("canonical block {id} is missing"))))
}

#[cfg(test)]
mod tests;
