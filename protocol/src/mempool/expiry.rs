//! Transactions by the slot in which they expire.
//!
//! A list for each slot, to which ids are only added: that a transaction has gone is noticed when its slot comes. *Rationale:* transactions
//! are made shortly before they are sent and live for about the same time, so that those of a moment stand in few lists, and adding to
//! one touches less memory than an ordered set of all.
//!
//! Ids of what has gone are dropped with their slot, or when they are more than those of what is here ([`Expiries::is_stale`]); so there are at
//! most twice as many as transactions, and [`SPARE`].

use crate::id::TransactionId;
use std::collections::{BTreeMap, BTreeSet};

/// So many ids may be there in any case.
const SPARE: usize = 64;

#[derive(Clone, Debug, Default)]
pub(super) struct Expiries {
    by_slot: BTreeMap<u64, Vec<TransactionId>>,
    /// Ids in all lists.
    listed: usize,
}

impl FromIterator<(u64, TransactionId)> for Expiries {
    fn from_iter<I: IntoIterator<Item = (u64, TransactionId)>>(entries: I) -> Self {
        let mut expiries = Self::default();
        for (slot, id) in entries {
            expiries.insert(slot, id);
        }
        expiries
    }
}

impl Expiries {
    /// A transaction was taken in.
    pub(super) fn insert(&mut self, slot: u64, id: TransactionId) {
        self.by_slot.entry(slot).or_default().push(id);
        self.listed += 1;
    }

    /// Takes out what expires first, if that is before this slot: each id once, in ascending order, also of what has gone.
    pub(super) fn pop_before(&mut self, slot: u64) -> Option<Vec<TransactionId>> {
        let first = self.by_slot.first_entry().filter(|first| *first.key() < slot)?;
        let mut ids = first.remove();
        self.listed -= ids.len();
        ids.sort_unstable();
        ids.dedup();
        Some(ids)
    }

    /// Whether most ids are those of transactions that have gone, when so many are here.
    pub(super) fn is_stale(&self, transactions: usize) -> bool {
        self.listed > 2 * transactions + SPARE
    }

    /// Bytes that are allocated, estimated.
    pub(super) fn memory_bytes(&self) -> usize {
        self.by_slot.values().map(|ids| ids.capacity() * size_of::<TransactionId>()).sum()
    }

    /// Asserts that all these are listed, and how many ids there are.
    pub(super) fn check(&self, entries: impl Iterator<Item = (u64, TransactionId)>) {
        let listed: BTreeSet<(u64, TransactionId)> =
            self.by_slot.iter().flat_map(|(slot, ids)| ids.iter().map(|id| (*slot, *id))).collect();
        let mut count = 0;
        for (slot, id) in entries {
            assert!(listed.contains(&(slot, id)), "{id} would never expire");
            count += 1;
        }
        assert_eq!(self.listed, self.by_slot.values().map(Vec::len).sum::<usize>(), "the count of listed ids");
        assert!(!self.is_stale(count), "ids of what has gone pile up");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use starling_crypto::Digest;

    fn id(number: u8) -> TransactionId {
        TransactionId(Digest([number; 32]))
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Insert(u8),
        Remove(u8),
        Pass(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0_u8..200).prop_map(Step::Insert),
            4 => (0_u8..200).prop_map(Step::Remove),
            1 => (1_u64..3).prop_map(Step::Pass),
        ]
    }

    proptest! {
        /// Against the set of what is there, each with a slot that follows from its number.
        #[test]
        fn everything_that_is_there_comes_out_when_its_slot_has_passed(steps in prop::collection::vec(step(), 1..600)) {
            let (mut expiries, mut model, mut now) = (Expiries::default(), BTreeSet::new(), 0);
            for step in steps {
                match step {
                    Step::Insert(number) => {
                        let slot = u64::from(number % 7) + 3;
                        if slot >= now && model.insert((slot, id(number))) {
                            expiries.insert(slot, id(number));
                        }
                    }
                    Step::Remove(number) => {
                        model.remove(&(u64::from(number % 7) + 3, id(number)));
                        if expiries.is_stale(model.len()) {
                            expiries = model.iter().copied().collect();
                        }
                    }
                    Step::Pass(slots) => {
                        now += slots;
                        while let Some(ids) = expiries.pop_before(now) {
                            let (slot, _) = *model.first().unwrap_or(&(now, id(0)));
                            let there: Vec<TransactionId> = ids.into_iter().filter(|id| model.contains(&(slot, *id))).collect();
                            let expected: Vec<TransactionId> =
                                model.range((slot, id(0))..=(slot, id(255))).map(|(_, id)| *id).collect();
                            if slot < now && !there.is_empty() {
                                prop_assert_eq!(there, expected);
                                model.retain(|(other, _)| *other != slot);
                            }
                        }
                        prop_assert!(model.first().is_none_or(|(slot, _)| *slot >= now), "something has not come out");
                        if expiries.is_stale(model.len()) {
                            expiries = model.iter().copied().collect();
                        }
                    }
                }
                expiries.check(model.iter().copied());
            }
        }
    }
}
