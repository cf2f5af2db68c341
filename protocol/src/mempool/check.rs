//! What has to hold of the pool at any time, and what it takes in memory.

use super::loads::Loads;
use super::senders::Waiting;
use super::{LOADS_FROM_PERCENT, Mempool, load_of};
use crate::transaction::Transaction;

impl Mempool {
    /// Recomputes every index and asserts that it is what it should be.
    ///
    /// # Panics
    /// If it is not.
    pub fn check(&self) {
        let config = &self.config;
        assert!(self.entries.len() <= config.transactions_max, "too many transactions");
        assert!(self.held_bytes() <= config.bytes_max, "too many bytes");
        self.entries.check();
        self.senders.check();
        match &self.loads {
            Some(loads) => loads.check(self.senders.iter().map(|(_, sender)| (sender.account, sender.loads()))),
            None => assert!(
                self.entries.is_empty() || !self.is_filled_to(LOADS_FROM_PERCENT),
                "a pool that fills up does not know the loads"
            ),
        }
        self.expiries.check(self.listed());
        assert_eq!(self.bytes, self.iter().map(Transaction::encoded_len).sum::<usize>(), "bytes");
        assert_eq!(self.future, self.senders.iter().map(|(_, sender)| sender.future()).sum::<usize>(), "future");
        let mut places = 0;
        for (number, sender) in self.senders.iter() {
            assert!(!sender.waiting().is_empty(), "a sender without transactions is kept");
            assert!(sender.waiting().len() <= config.sender_transactions_max, "a sender's quota is exceeded");
            sender.check();
            for Waiting { nonce, place, load } in sender.waiting() {
                let entry = self.entries.get(*place).expect("what waits is here");
                let transaction = &entry.transaction;
                assert_eq!((transaction.sender(), transaction.nonce()), (sender.account, *nonce), "a place");
                assert_eq!(
                    (entry.sender, *load),
                    (number, load_of(transaction, config)),
                    "a sender's place, and a load"
                );
                places += 1;
            }
        }
        assert_eq!(places, self.entries.len(), "each transaction has one place");
        self.outcomes.check();
    }

    /// Bytes that are allocated but for the transactions, estimated.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.entries.memory_bytes()
            + self.senders.memory_bytes()
            + self.senders.iter().map(|(_, sender)| sender.memory_bytes()).sum::<usize>()
            + self.expiries.memory_bytes()
            + self.loads.as_ref().map_or(0, Loads::memory_bytes)
            + self.outcomes.memory_bytes()
    }
}
