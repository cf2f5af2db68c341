//! What became of transactions that left the pool without being included, for as long as there is room to remember.
//!
//! At most a fixed number of outcomes; the one that was recorded first is forgotten first. A lookup does not refresh:
//! how often somebody asks about a transaction says nothing about who will ask next.

use super::Status;
use crate::id::TransactionId;
use crate::memory::tree_bytes;
use std::collections::BTreeMap;

#[derive(Clone, Debug)]
pub(super) struct Outcomes {
    max: usize,
    recorded: u64,
    by_id: BTreeMap<TransactionId, (Status, u64)>,
    by_age: BTreeMap<u64, TransactionId>,
}

impl Outcomes {
    pub(super) fn new(max: usize) -> Self {
        Self { max, recorded: 0, by_id: BTreeMap::new(), by_age: BTreeMap::new() }
    }

    pub(super) fn remember(&mut self, id: TransactionId, status: Status) {
        self.forget(&id);
        self.recorded += 1;
        self.by_id.insert(id, (status, self.recorded));
        self.by_age.insert(self.recorded, id);
        if self.by_age.len() > self.max
            && let Some((_, oldest)) = self.by_age.pop_first()
        {
            self.by_id.remove(&oldest);
        }
    }

    pub(super) fn forget(&mut self, id: &TransactionId) {
        if !self.by_id.is_empty()
            && let Some((_, age)) = self.by_id.remove(id)
        {
            self.by_age.remove(&age);
        }
    }

    pub(super) fn get(&self, id: &TransactionId) -> Option<Status> {
        self.by_id.get(id).map(|(status, _)| *status)
    }

    /// Bytes that are allocated, estimated.
    pub(super) fn memory_bytes(&self) -> usize {
        tree_bytes::<(TransactionId, (Status, u64))>(self.by_id.len())
            + tree_bytes::<(u64, TransactionId)>(self.by_age.len())
    }

    pub(super) fn check(&self) {
        assert!(self.by_id.len() <= self.max, "too many outcomes");
        assert_eq!(self.by_id.len(), self.by_age.len(), "each outcome has one age");
    }
}
