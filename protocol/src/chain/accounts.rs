//! Next nonces, as far as they have to be remembered.
//!
//! # The rule (`docs/adr/0007-account-nonces.md`)
//! For a block of slot `s` a sender is *remembered* if one of its transactions in the blocks before has an expiry slot
//! of `s` or later. A remembered sender's next transaction must have the nonce after that of its last one; any other
//! sender may begin with any nonce.
//!
//! # Why this admits no replay
//! A transaction with nonce `n` and expiry slot `e` that was included keeps its sender remembered, with a next nonce
//! above `n`, for all blocks up to slot `e`. Later blocks may not include it, because it has expired. It is the
//! *greatest* expiry slot of the sender's included transactions that counts, not the last one's: otherwise a
//! short-lived transaction could make the chain forget a long-lived one before it.
//!
//! # Why it is bounded and a late joiner agrees
//! A transaction in a block of slot `b` expires by `b + expiry_slots_max`. So what is remembered for slot `s` follows
//! from the blocks of the slots from `s - expiry_slots_max` on, and nothing older; there are at most that many blocks'
//! transactions of entries.

use super::io::NonceError;
use crate::block::Block;
use crate::mempool::Account;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Accounts {
    entries: BTreeMap<Account, Entry>,
    by_expiry: BTreeSet<(u64, Account)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    next: u64,
    /// The greatest expiry slot of the transactions included.
    expiry_slot: u64,
}

/// What a block changed: the former entries, in the order in which they were replaced.
#[derive(Clone, Debug, Default)]
pub(super) struct Undo(Vec<(Account, Option<Entry>)>);

impl Accounts {
    /// The sender's next nonce in a block of `slot`; none if it may be any.
    pub(super) fn next_nonce(&self, account: &Account, slot: u64) -> Option<u64> {
        self.entries.get(account).filter(|entry| entry.expiry_slot >= slot).map(|entry| entry.next)
    }

    /// Applies a block, or leaves everything as it was.
    pub(super) fn apply(&mut self, block: &Block) -> Result<Undo, NonceError> {
        let slot = block.header().slot;
        let mut undo = Undo::default();
        for (index, transaction) in block.transactions().iter().enumerate() {
            let (account, found) = (transaction.sender(), transaction.nonce());
            let error = match (self.next_nonce(&account, slot), found.checked_add(1)) {
                (_, None) => NonceError::Exhausted { index },
                (Some(expected), _) if expected != found => NonceError::Unexpected { index, found, expected },
                (_, Some(next)) => {
                    let former = self.entries.get(&account).copied();
                    let longest = former.map_or(0, |former| former.expiry_slot);
                    let expiry_slot = transaction.expiry_slot().max(longest);
                    self.set(account, Some(Entry { next, expiry_slot }));
                    undo.0.push((account, former));
                    continue;
                }
            };
            self.undo(undo);
            return Err(error);
        }
        Ok(undo)
    }

    /// Takes back the last block that was applied.
    pub(super) fn undo(&mut self, undo: Undo) {
        for (account, former) in undo.0.into_iter().rev() {
            self.set(account, former);
        }
    }

    /// Forgets whom no block after `slot` needs remembered.
    pub(super) fn forget_up_to(&mut self, slot: u64) {
        while let Some((expiry_slot, account)) = self.by_expiry.first().copied()
            && expiry_slot <= slot
        {
            self.set(account, None);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn check(&self) {
        let by_expiry = self.entries.iter().map(|(account, entry)| (entry.expiry_slot, *account));
        assert_eq!(self.by_expiry, by_expiry.collect(), "the index by expiry");
    }

    fn set(&mut self, account: Account, entry: Option<Entry>) {
        let former = match entry {
            Some(entry) => {
                self.by_expiry.insert((entry.expiry_slot, account));
                self.entries.insert(account, entry)
            }
            None => self.entries.remove(&account),
        };
        if let Some(former) = former
            && entry.is_none_or(|entry| entry.expiry_slot != former.expiry_slot)
        {
            self.by_expiry.remove(&(former.expiry_slot, account));
        }
    }
}
