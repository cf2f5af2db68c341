//! What a store holds, told as plainly as possible: maps that the operations change. The tests compare stores with it.

use super::*;
use std::collections::BTreeMap;

/// Everything that is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Model {
    pub(super) blocks: BTreeMap<Id, StoredBlock>,
    pub(super) canonical: BTreeMap<u64, BlockId>,
    pub(super) transactions: BTreeMap<Id, Location>,
    pub(super) head: Option<Head>,
    pub(super) pending: BTreeMap<TransactionId, Bytes>,
    pub(super) signed: Option<u64>,
    pub(super) pool: Vec<Bytes>,
}

impl Model {
    pub(super) fn apply(&mut self, operation: &StoreOp) {
        match operation.clone() {
            StoreOp::PutBlock { id, height, slot, bytes } => {
                self.blocks.insert(*id.as_bytes(), StoredBlock { id, height, slot, bytes });
            }
            StoreOp::SetCanonical { height, id } => {
                self.canonical.insert(height, id);
            }
            StoreOp::UnsetCanonicalFrom { height } => self.canonical.retain(|at, _| *at < height),
            StoreOp::IndexTransaction { transaction, block, height, position } => {
                self.transactions.insert(*transaction.as_bytes(), Location { block, height, position });
            }
            StoreOp::UnindexTransaction { transaction } => {
                self.transactions.remove(transaction.as_bytes());
            }
            StoreOp::SetHead { height, id, slot } => self.head = Some(Head { height, id, slot }),
            StoreOp::PutPending { transaction, bytes, .. } => {
                self.pending.insert(transaction, bytes);
            }
            StoreOp::RemovePending { transaction } => {
                self.pending.remove(&transaction);
            }
            StoreOp::SetSigned { slot } => self.signed = self.signed.max(Some(slot)),
            StoreOp::ReplacePool { transactions } => self.pool = transactions,
        }
    }

    /// Reads a whole store.
    pub(super) fn of(store: &Store) -> Result<Self, StoreError> {
        let (blocks, canonical, transactions) = store.read(|transaction| {
            let (mut blocks, mut canonical, mut transactions) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
            for row in transaction.open_table(BLOCKS).map_err(failed)?.iter().map_err(failed)? {
                let (id, row) = row.map_err(failed)?;
                let (height, slot, bytes) = row.value();
                let bytes = Bytes::copy_from_slice(bytes);
                blocks.insert(id.value(), StoredBlock { id: block_id(id.value()), height, slot, bytes });
            }
            for row in transaction.open_table(CANONICAL).map_err(failed)?.iter().map_err(failed)? {
                let (height, id) = row.map_err(failed)?;
                canonical.insert(height.value(), block_id(id.value()));
            }
            for row in transaction.open_table(TRANSACTIONS).map_err(failed)?.iter().map_err(failed)? {
                let (id, row) = row.map_err(failed)?;
                let (block, height, position) = row.value();
                transactions.insert(id.value(), Location { block: block_id(block), height, position });
            }
            Ok((blocks, canonical, transactions))
        })?;
        let (head, signed, pool) = (store.head()?, store.signed()?, store.pool()?);
        let pending = store.pending()?.into_iter().collect();
        Ok(Self { blocks, canonical, transactions, head, pending, signed, pool })
    }
}
