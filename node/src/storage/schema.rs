//! The tables, the stamp that says whose they are, and how older ones are brought up to date.

use super::error::{StoreError, failed};
use redb::{Database, Durability, ReadableDatabase as _, ReadableTable as _, TableDefinition, WriteTransaction};
use starling_crypto::Digest;
use starling_protocol::id::NetworkId;
use std::path::Path;

/// The schema that this version writes. One of schema 1 is brought up to it when it is opened.
pub const SCHEMA: u64 = 2;

/// Memory for cached pages. redb's own default of 1 GiB is meant for a database server; a node reads recent blocks, and
/// a host may run dozens of nodes.
const CACHE_BYTES: usize = 16 << 20;

pub(super) type Id = [u8; 32];

/// `schema` and `network`.
pub(super) const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
/// Block id to height, slot and encoding.
pub(super) const BLOCKS: TableDefinition<'_, Id, (u64, u64, &[u8])> = TableDefinition::new("blocks");
/// Height to the id of the canonical block.
pub(super) const CANONICAL: TableDefinition<'_, u64, Id> = TableDefinition::new("canonical");
/// Transaction id to block id, height and position.
pub(super) const TRANSACTIONS: TableDefinition<'_, Id, (Id, u64, u32)> = TableDefinition::new("transactions");
/// One row, the head: height, id and slot.
pub(super) const HEAD: TableDefinition<'_, (), (u64, Id, u64)> = TableDefinition::new("head");
/// Height and id of every block that is stored, canonical or not: what is to be pruned is found by it.
pub(super) const HEIGHTS: TableDefinition<'_, (u64, Id), ()> = TableDefinition::new("heights");
/// Id of a transaction that was submitted here to its expiry slot and encoding.
pub(super) const PENDING: TableDefinition<'_, Id, (u64, &[u8])> = TableDefinition::new("pending");
/// One row: the slot up to which this node may have signed blocks.
pub(super) const SIGNED: TableDefinition<'_, (), u64> = TableDefinition::new("signed");
/// Place in the order of arrival to the encoding of a transaction that waited when the node was stopped.
pub(super) const POOL: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("pool");

/// Opens a database, and makes the file if it does not exist.
pub(super) fn open_database(path: &Path) -> Result<Database, StoreError> {
    let existed = path.exists();
    Database::builder().set_cache_size(CACHE_BYTES).create(path).map_err(|error| refused(error, path, existed))
}

/// Opens a database on a backend that a test provides.
#[cfg(test)]
pub(super) fn open_backend(backend: impl redb::StorageBackend, path: &Path) -> Result<Database, StoreError> {
    let builder = Database::builder().set_cache_size(CACHE_BYTES).create_with_backend(backend);
    builder.map_err(|error| refused(error, path, true))
}

fn refused(error: redb::DatabaseError, path: &Path, existed: bool) -> StoreError {
    let not_a_store = |problem| StoreError::NotAStore { path: path.to_owned(), problem };
    match error {
        redb::DatabaseError::DatabaseAlreadyOpen => StoreError::InUse(path.to_owned()),
        redb::DatabaseError::UpgradeRequired(version) => not_a_store(format!("its file format {version} is outdated")),
        redb::DatabaseError::Storage(redb::StorageError::Io(error))
            if existed && error.kind() == std::io::ErrorKind::InvalidData =>
        {
            not_a_store("it is another kind of file".into())
        }
        redb::DatabaseError::Storage(redb::StorageError::Io(error))
            if existed && error.kind() == std::io::ErrorKind::UnexpectedEof =>
        {
            StoreError::Damaged { path: path.to_owned(), problem: "it is cut short".into() }
        }
        redb::DatabaseError::Storage(redb::StorageError::Corrupted(problem)) => {
            StoreError::Damaged { path: path.to_owned(), problem }
        }
        other => failed(other),
    }
}

/// Stamps an empty database, or checks the stamp of one that is not, and brings its schema up to date.
pub(super) fn prepare(database: &Database, path: &Path, network: NetworkId) -> Result<(), StoreError> {
    let reading = database.begin_read().map_err(failed)?;
    if reading.list_tables().map_err(failed)?.next().is_none() {
        return stamp(database, network);
    }
    let odd = |problem: &str| StoreError::NotAStore { path: path.to_owned(), problem: problem.into() };
    let meta = match reading.open_table(META) {
        Ok(meta) => meta,
        Err(redb::TableError::Storage(error)) => return Err(failed(error)),
        Err(_absent_or_of_other_type) => return Err(odd("it has no schema stamp")),
    };
    let schema = meta.get("schema").map_err(failed)?.and_then(|row| row.value().try_into().ok());
    let schema = u64::from_le_bytes(schema.ok_or_else(|| odd("it has no schema stamp"))?);
    if !(1..=SCHEMA).contains(&schema) {
        return Err(StoreError::OtherSchema { path: path.to_owned(), found: schema });
    }
    let found = meta.get("network").map_err(failed)?.and_then(|row| row.value().try_into().ok());
    let found = NetworkId(Digest(found.ok_or_else(|| odd("it names no network"))?));
    if found != network {
        return Err(StoreError::OtherNetwork { path: path.to_owned(), found, expected: network });
    }
    drop((meta, reading));
    if schema < SCHEMA { migrate(database) } else { Ok(()) }
}

/// The network that a store was made for; none if it is empty.
pub(super) fn network_of(database: &Database) -> Result<Option<NetworkId>, StoreError> {
    let reading = database.begin_read().map_err(failed)?;
    let meta = match reading.open_table(META) {
        Ok(meta) => meta,
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let network = meta.get("network").map_err(failed)?.and_then(|row| row.value().try_into().ok());
    Ok(network.map(|network| NetworkId(Digest(network))))
}

/// Begins a transaction that is on the disk when it is committed.
pub(super) fn begin_write(database: &Database) -> Result<WriteTransaction, StoreError> {
    let mut transaction = database.begin_write().map_err(failed)?;
    transaction.set_durability(Durability::Immediate).map_err(failed)?;
    Ok(transaction)
}

/// Makes all tables, so that reading never meets one that does not exist yet, and stamps the store.
fn stamp(database: &Database, network: NetworkId) -> Result<(), StoreError> {
    let transaction = begin_write(database)?;
    {
        let mut meta = transaction.open_table(META).map_err(failed)?;
        meta.insert("schema", &SCHEMA.to_le_bytes()[..]).map_err(failed)?;
        meta.insert("network", &network.as_bytes()[..]).map_err(failed)?;
        transaction.open_table(BLOCKS).map_err(failed)?;
        transaction.open_table(CANONICAL).map_err(failed)?;
        transaction.open_table(TRANSACTIONS).map_err(failed)?;
        transaction.open_table(HEAD).map_err(failed)?;
        transaction.open_table(HEIGHTS).map_err(failed)?;
        transaction.open_table(PENDING).map_err(failed)?;
        transaction.open_table(SIGNED).map_err(failed)?;
        transaction.open_table(POOL).map_err(failed)?;
    }
    transaction.commit().map_err(failed)
}

/// From schema 1 to 2, in one transaction: the tables that are new, and the heights of the blocks that are there.
fn migrate(database: &Database) -> Result<(), StoreError> {
    let transaction = begin_write(database)?;
    {
        let blocks = transaction.open_table(BLOCKS).map_err(failed)?;
        let mut heights = transaction.open_table(HEIGHTS).map_err(failed)?;
        for row in blocks.iter().map_err(failed)? {
            let (id, block) = row.map_err(failed)?;
            heights.insert((block.value().0, id.value()), ()).map_err(failed)?;
        }
        transaction.open_table(PENDING).map_err(failed)?;
        transaction.open_table(SIGNED).map_err(failed)?;
        transaction.open_table(POOL).map_err(failed)?;
        let mut meta = transaction.open_table(META).map_err(failed)?;
        meta.insert("schema", &SCHEMA.to_le_bytes()[..]).map_err(failed)?;
    }
    transaction.commit().map_err(failed)
}
