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
//! - **It recovers.** After a failure nothing is stored until the database could be opened again and takes a write; then
//!   the machine emits again what it still wants stored ([`starling_protocol::store`], rule 4).
//! - **No panic.** A damaged file leads to an error ([`StoreError::Damaged`]), whatever the database library makes of it.
//!
//! # Layout
//! `docs/PROTOCOL.md`, section "Disk", lists every table. In short: blocks by id, canonical ids by height, the place of
//! each transaction of the canonical chain, the head, and what was submitted here and is not settled.
//!
//! Why redb: `docs/adr/0004-storage.md`. Why failures are handled as they are: `docs/adr/0010-durability.md`.

mod check;
mod datadir;
mod error;
mod keeper;
mod prune;
mod recent;
mod schema;
mod size;
mod thread;
mod transfer;

pub use check::CheckReport;
pub use datadir::{Addresses, DataDir, DataDirError, default_path};
pub use error::StoreError;
pub use keeper::{Keeper, load_or_set_aside};
pub use prune::{Keep, KeepsTooFew, Pruned, Retention};
pub use schema::SCHEMA;
pub(crate) use thread::remedy;
pub use thread::{Answer, QUEUE_MAX, StorageReport, StorageThread, ThreadOptions};
pub use transfer::{TransferError, Transferred, VERSION as EXPORT_VERSION};

use bytes::Bytes;
use error::{failed, guarded};
use redb::{Database, ReadTransaction, ReadableDatabase as _, ReadableTable};
use schema::{BLOCKS, CANONICAL, HEAD, HEIGHTS, Id, META, PENDING, POOL, SIGNED, TRANSACTIONS};
use starling_crypto::Digest;
use starling_protocol::block::SIGNED_HEADER_BYTES;
use starling_protocol::id::{BlockId, NetworkId, TransactionId};
use starling_protocol::store::{LoadRequest, StoreOp};
use std::fmt;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

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

/// What a store's file is, whatever name leads to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileIdentity {
    device: u64,
    inode: u64,
}

impl FileIdentity {
    fn of(path: &Path) -> Option<Self> {
        use std::os::unix::fs::MetadataExt as _;
        let metadata = std::fs::metadata(path).ok()?;
        Some(Self { device: metadata.dev(), inode: metadata.ino() })
    }
}

type Open = Box<dyn Fn(&Path) -> Result<Database, StoreError> + Send + Sync>;

/// The chain on disk. Every call may wait for the disk.
pub struct Store {
    path: PathBuf,
    network: NetworkId,
    open: Open,
    /// None when the store is not in a file, as in tests.
    file: Option<FileIdentity>,
    /// Why it is closed, if it is.
    database: Result<Database, String>,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("path", &self.path).field("network", &self.network).finish_non_exhaustive()
    }
}

impl Store {
    /// Opens the store in this file, or makes a new one for this network. A new one gets its name when it is complete, so
    /// that a process that is killed meanwhile leaves nothing that could not be opened. A store of an older schema is
    /// brought up to date.
    ///
    /// # Errors
    /// If the file is no store, has a newer schema, belongs to another network, is damaged or cannot be used.
    pub fn open(path: &Path, network: NetworkId) -> Result<Self, StoreError> {
        if !path.exists() {
            let io = |error| StoreError::Database { path: path.to_owned(), source: Box::new(redb::Error::Io(error)) };
            let unfinished = path.with_extension("new");
            crate::files::remove(&unfinished).map_err(io)?;
            drop(Self::open_with(&unfinished, network, Box::new(schema::open_database))?);
            std::fs::rename(&unfinished, path).map_err(io)?;
            crate::files::sync_parent(path).map_err(io)?;
        }
        let mut store = Self::open_with(path, network, Box::new(schema::open_database))?;
        store.file = FileIdentity::of(path);
        Ok(store)
    }

    /// Opens a store that is there already, of whatever network; none in an empty one.
    ///
    /// # Errors
    /// Those of [`Store::open`].
    pub fn network_of(path: &Path) -> Result<Option<NetworkId>, StoreError> {
        if !path.exists() {
            return Err(StoreError::Vanished(path.to_owned()));
        }
        guarded(path, || schema::network_of(&schema::open_database(path)?))
    }

    fn open_with(path: &Path, network: NetworkId, open: Open) -> Result<Self, StoreError> {
        let database = guarded(path, || {
            let database = open(path)?;
            schema::prepare(&database, path, network)?;
            Ok(database)
        })?;
        Ok(Self { path: path.to_owned(), network, open, file: None, database: Ok(database) })
    }

    /// Closes the database and opens it again, as is needed after a failed write.
    ///
    /// # Errors
    /// Those of [`Store::open`]; then the store stays closed, and every call fails.
    pub fn reopen(&mut self) -> Result<(), StoreError> {
        self.close("it is being opened again".into());
        let opened = self.check_file().and_then(|()| {
            guarded(&self.path, || {
                let database = (self.open)(&self.path)?;
                schema::prepare(&database, &self.path, self.network)?;
                Ok(database)
            })
        });
        match opened {
            Ok(database) => {
                self.database = Ok(database);
                Ok(())
            }
            Err(error) => {
                self.database = Err(error.to_string());
                Err(error)
            }
        }
    }

    /// Asserts that so many more bytes can be written, by writing and removing them.
    ///
    /// # Errors
    /// If they cannot.
    pub fn probe(&self, bytes: usize) -> Result<(), StoreError> {
        let filling = vec![0x5a; bytes];
        self.write(|transaction| {
            let mut meta = transaction.open_table(META).map_err(failed)?;
            meta.insert("probe", &filling[..]).map_err(failed)?;
            Ok(())
        })?;
        self.write(|transaction| {
            let mut meta = transaction.open_table(META).map_err(failed)?;
            meta.remove("probe").map_err(failed)?;
            Ok(())
        })
    }

    /// Applies batches, each in the order of its operations, as one transaction. When this returns, they are on the
    /// disk.
    ///
    /// # Errors
    /// If the database fails; then nothing of them is applied, or all of it: a failed flush leaves that open.
    pub fn apply<'a>(&self, batches: impl IntoIterator<Item = &'a [StoreOp]>) -> Result<(), StoreError> {
        self.apply_and_prune(batches, None).map(|_nothing| ())
    }

    /// Applies batches, and in the same transaction prunes some of what is older than `retention` says.
    ///
    /// # Errors
    /// Those of [`Store::apply`].
    pub fn apply_and_prune<'a>(
        &self,
        batches: impl IntoIterator<Item = &'a [StoreOp]>,
        retention: Option<&Retention>,
    ) -> Result<Pruned, StoreError> {
        self.check_file()?;
        self.write(|transaction| {
            let mut writer = Writer::new(transaction)?;
            if retention.is_some_and(Retention::counts_bytes) {
                writer.begin_counting()?;
            }
            for operation in batches.into_iter().flatten() {
                writer.apply(operation).map_err(failed)?;
            }
            let pruned = retention.map_or(Ok(Pruned::default()), |retention| prune::prune(&mut writer, retention))?;
            writer.keep_count()?;
            Ok(pruned)
        })
    }

    /// The last canonical block; `None` while the chain has only its beginning.
    ///
    /// # Errors
    /// If the database fails.
    pub fn head(&self) -> Result<Option<Head>, StoreError> {
        self.read(|transaction| {
            let head = transaction.open_table(HEAD).map_err(failed)?.get(()).map_err(failed)?;
            Ok(head.map(|row| {
                let (height, id, slot) = row.value();
                Head { height, id: block_id(id), slot }
            }))
        })
    }

    /// The lowest height whose canonical block is kept; `None` while there is none.
    ///
    /// # Errors
    /// If the database fails.
    pub fn earliest(&self) -> Result<Option<u64>, StoreError> {
        self.read(|transaction| {
            let canonical = transaction.open_table(CANONICAL).map_err(failed)?;
            Ok(canonical.first().map_err(failed)?.map(|(height, _)| height.value()))
        })
    }

    /// A block, canonical or not.
    ///
    /// # Errors
    /// If the database fails.
    pub fn block(&self, id: BlockId) -> Result<Option<StoredBlock>, StoreError> {
        self.read(|transaction| stored_block(&transaction.open_table(BLOCKS).map_err(failed)?, id))
    }

    /// The id of the canonical block at a height.
    ///
    /// # Errors
    /// If the database fails.
    pub fn canonical(&self, height: u64) -> Result<Option<BlockId>, StoreError> {
        self.read(|transaction| {
            let canonical = transaction.open_table(CANONICAL).map_err(failed)?;
            Ok(canonical.get(height).map_err(failed)?.map(|id| block_id(id.value())))
        })
    }

    /// Where a transaction stands in the canonical chain.
    ///
    /// # Errors
    /// If the database fails.
    pub fn transaction(&self, id: TransactionId) -> Result<Option<Location>, StoreError> {
        self.read(|transaction| {
            let transactions = transaction.open_table(TRANSACTIONS).map_err(failed)?;
            Ok(transactions.get(id.as_bytes()).map_err(failed)?.map(|row| {
                let (block, height, position) = row.value();
                Location { block: block_id(block), height, position }
            }))
        })
    }

    /// Transactions that were submitted here and are not settled, by their ids, with their encodings.
    ///
    /// # Errors
    /// If the database fails.
    pub fn pending(&self) -> Result<Vec<(TransactionId, Bytes)>, StoreError> {
        self.read(|transaction| {
            let pending = transaction.open_table(PENDING).map_err(failed)?;
            let mut found = Vec::new();
            for row in pending.iter().map_err(failed)? {
                let (id, row) = row.map_err(failed)?;
                found.push((TransactionId(Digest(id.value())), Bytes::copy_from_slice(row.value().1)));
            }
            Ok(found)
        })
    }

    /// The slot up to which this node may have signed blocks.
    ///
    /// # Errors
    /// If the database fails.
    pub fn signed(&self) -> Result<Option<u64>, StoreError> {
        self.read(|transaction| {
            let signed = transaction.open_table(SIGNED).map_err(failed)?.get(()).map_err(failed)?;
            Ok(signed.map(|row| row.value()))
        })
    }

    /// The encodings of what waited in the mempool when the node was last stopped, in the order of arrival.
    ///
    /// # Errors
    /// If the database fails.
    pub fn pool(&self) -> Result<Vec<Bytes>, StoreError> {
        self.read(|transaction| {
            let pool = transaction.open_table(POOL).map_err(failed)?;
            let rows = pool.iter().map_err(failed)?;
            rows.map(|row| Ok(Bytes::copy_from_slice(row.map_err(failed)?.1.value()))).collect()
        })
    }

    /// The canonical blocks of these heights, as far as there are such heights.
    fn canonical_blocks(&self, heights: RangeInclusive<u64>) -> Result<Vec<StoredBlock>, StoreError> {
        self.read(|transaction| {
            let canonical = transaction.open_table(CANONICAL).map_err(failed)?;
            let blocks = transaction.open_table(BLOCKS).map_err(failed)?;
            let rows = canonical.range(heights).map_err(failed)?;
            rows.map(|row| canonical_block(&blocks, block_id(row.map_err(failed)?.1.value()))).collect()
        })
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
        self.read(|transaction| {
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
        })
    }

    fn blocks(&self, ids: &[BlockId], bytes_max: u32) -> Result<Vec<Bytes>, StoreError> {
        self.read(|transaction| {
            let blocks = transaction.open_table(BLOCKS).map_err(failed)?;
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
        })
    }

    /// Where the store is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes that the file takes on the disk; 0 when that cannot be said.
    #[must_use]
    pub fn file_bytes(&self) -> u64 {
        disk_bytes(&self.path).unwrap_or(0)
    }

    /// Bytes that are free on the file's file system for whoever runs this; none when that cannot be said.
    #[must_use]
    pub fn free_bytes(&self) -> Option<u64> {
        free_bytes(&self.path)
    }

    /// Whether the name still leads to the file that is open. What is written to a file that was removed is lost.
    fn check_file(&self) -> Result<(), StoreError> {
        if self.file.is_some() && FileIdentity::of(&self.path) != self.file {
            return Err(StoreError::Vanished(self.path.clone()));
        }
        Ok(())
    }

    fn close(&mut self, reason: String) {
        let database = std::mem::replace(&mut self.database, Err(reason));
        // Closing may find the file impossible too; it is over all the same.
        let _damaged = guarded(&self.path, || {
            drop(database);
            Ok(())
        });
    }

    fn database(&self) -> Result<&Database, StoreError> {
        self.database.as_ref().map_err(|reason| StoreError::Closed(reason.clone()))
    }

    fn read<T>(&self, question: impl FnOnce(&ReadTransaction) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let database = self.database()?;
        guarded(&self.path, || question(&database.begin_read().map_err(failed)?))
    }

    fn write<T>(&self, change: impl FnOnce(&redb::WriteTransaction) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let database = self.database()?;
        guarded(&self.path, || {
            let transaction = schema::begin_write(database)?;
            let result = change(&transaction)?;
            transaction.commit().map_err(failed)?;
            Ok(result)
        })
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.close("it is closed".into());
    }
}

/// The tables of one write transaction.
struct Writer<'t> {
    blocks: redb::Table<'t, Id, (u64, u64, &'static [u8])>,
    heights: redb::Table<'t, (u64, Id), ()>,
    canonical: redb::Table<'t, u64, Id>,
    transactions: redb::Table<'t, Id, (Id, u64, u32)>,
    head: redb::Table<'t, (), (u64, Id, u64)>,
    pending: redb::Table<'t, Id, (u64, &'static [u8])>,
    signed: redb::Table<'t, (), u64>,
    pool: redb::Table<'t, u64, &'static [u8]>,
    meta: redb::Table<'t, &'static str, &'static [u8]>,
    /// What the blocks take, if that is counted ([`size`]).
    block_bytes: Option<u64>,
}

impl<'t> Writer<'t> {
    fn new(transaction: &'t redb::WriteTransaction) -> Result<Self, StoreError> {
        Ok(Self {
            blocks: transaction.open_table(BLOCKS).map_err(failed)?,
            heights: transaction.open_table(HEIGHTS).map_err(failed)?,
            canonical: transaction.open_table(CANONICAL).map_err(failed)?,
            transactions: transaction.open_table(TRANSACTIONS).map_err(failed)?,
            head: transaction.open_table(HEAD).map_err(failed)?,
            pending: transaction.open_table(PENDING).map_err(failed)?,
            signed: transaction.open_table(SIGNED).map_err(failed)?,
            pool: transaction.open_table(POOL).map_err(failed)?,
            meta: transaction.open_table(META).map_err(failed)?,
            block_bytes: None,
        })
    }

    fn apply(&mut self, operation: &StoreOp) -> Result<(), redb::StorageError> {
        match operation {
            StoreOp::PutBlock { id, height, slot, bytes } => {
                let before = self.blocks.insert(id.as_bytes(), (*height, *slot, &bytes[..]))?;
                let before = before.map_or(0, |row| size::of_block(row.value().2));
                self.block_bytes = self.block_bytes.map(|sum| (sum + size::of_block(bytes)).saturating_sub(before));
                self.heights.insert((*height, *id.as_bytes()), ())?;
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
            StoreOp::PutPending { transaction, expiry_slot, bytes } => {
                self.pending.insert(transaction.as_bytes(), (*expiry_slot, &bytes[..]))?;
            }
            StoreOp::RemovePending { transaction } => {
                self.pending.remove(transaction.as_bytes())?;
            }
            StoreOp::SetSigned { slot } => {
                let before = self.signed.get(())?.map_or(0, |row| row.value());
                self.signed.insert((), before.max(*slot))?;
            }
            StoreOp::ReplacePool { transactions } => {
                self.pool.retain(|_, _| false)?;
                for (place, bytes) in (0..).zip(transactions) {
                    self.pool.insert(place, &bytes[..])?;
                }
            }
        }
        Ok(())
    }
}

/// Bytes that a file takes on the disk, as `du` shows them: without the holes that it was lengthened by.
pub(crate) fn disk_bytes(path: &Path) -> Option<u64> {
    use std::os::unix::fs::MetadataExt as _;
    // In units of 512 bytes, whatever the file system's blocks are: stat(2).
    std::fs::metadata(path).ok().map(|metadata| metadata.blocks().saturating_mul(512))
}

/// Bytes that are free for whoever runs this where a file is, or its directory if the file has vanished.
pub(crate) fn free_bytes(path: &Path) -> Option<u64> {
    let place = if path.exists() { path } else { path.parent()? };
    let found = rustix::fs::statvfs(place).ok()?;
    Some(found.f_bavail.saturating_mul(found.f_frsize))
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
mod faults;
#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
