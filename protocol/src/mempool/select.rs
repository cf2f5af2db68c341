//! Which transactions go into the next block.
//!
//! Senders take turns: everybody's first transaction comes before anybody's second. Within a turn, whose transaction
//! has waited longest goes first. A transaction that does not fit ends its sender's part (nonce order), not the
//! selection.
//!
//! # Senders that the chain does not remember
//! Any nonce may be their first, and including nonce 5 makes 0 to 4 unusable as long as 5 lives. On their way through
//! the network a sender's first transactions may overtake each other. So the lowest nonce here is taken at once only if
//! it is 0, where nothing can be missing; otherwise after it has waited for a whole slot, in which a lower one would
//! have come. That is a courtesy and no rule of validity: a block by a less patient producer is valid.

use super::{Account, Entry, Mempool};
use crate::keyed::Place;
use crate::transaction::Transaction;
use std::collections::BTreeSet;

impl Mempool {
    /// Transactions for a block of `slot`: at most `count_max`, of at most `bytes_max` bytes in all. `next_nonce`
    /// answers for the block's parent and slot.
    #[must_use]
    pub fn select(
        &self,
        count_max: usize,
        bytes_max: usize,
        slot: u64,
        next_nonce: impl Fn(&Account) -> Option<u64>,
    ) -> Vec<Transaction> {
        // Ordered by turn, then by waiting time, of which no two are the same; the sender and its nonce ride along.
        let mut queue: BTreeSet<(usize, u64, Place, u64)> = BTreeSet::new();
        for (place, sender) in self.senders.iter() {
            let next = next_nonce(&sender.account);
            let Some(first) = next.or_else(|| sender.waiting().first().map(|waiting| waiting.nonce)) else { continue };
            let Some(entry) = self.entry_of(place, first) else { continue };
            let waited = entry.arrival_slot.saturating_add(1) < slot;
            if next.is_some() || first == 0 || waited {
                queue.insert((0, entry.arrival, place, first));
            }
        }
        let (mut selected, mut bytes) = (Vec::new(), 0_usize);
        while selected.len() < count_max
            && let Some((turn, _, sender, nonce)) = queue.pop_first()
        {
            let Some(Entry { transaction, .. }) = self.entry_of(sender, nonce) else { continue };
            let expiry_slot = transaction.expiry_slot();
            let may = expiry_slot >= slot && expiry_slot <= slot.saturating_add(self.expiry_slots_max);
            let total = bytes.saturating_add(transaction.encoded_len());
            if !may || total > bytes_max {
                continue;
            }
            bytes = total;
            selected.push(transaction.clone());
            if let Some(next) = nonce.checked_add(1)
                && let Some(entry) = self.entry_of(sender, next)
            {
                queue.insert((turn + 1, entry.arrival, sender, next));
            }
        }
        selected
    }

    fn entry_of(&self, sender: Place, nonce: u64) -> Option<&Entry> {
        self.entries.get(self.senders.get(sender)?.get(nonce)?.place)
    }
}
