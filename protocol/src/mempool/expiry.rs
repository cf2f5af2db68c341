//! Transactions by the slot in which they expire.
//!
//! A list for each slot, to which places are only added: that a transaction has gone is noticed when its slot comes, and so is that another one has
//! its place. *Rationale:* transactions
//! are made shortly before they are sent and live for about the same time, so that those of a moment stand in few lists, and adding to
//! one touches less memory than an ordered set of all.
//!
//! Places of what has gone are dropped with their slot, or when they are more than those of what is here ([`Expiries::is_stale`]); so there are at
//! most twice as many as transactions, and [`SPARE`].

use crate::keyed::Place;
use std::collections::{BTreeMap, BTreeSet};

/// So many places may be there in any case.
const SPARE: usize = 64;

#[derive(Clone, Debug, Default)]
pub(super) struct Expiries {
    by_slot: BTreeMap<u64, Vec<Place>>,
    /// Places in all lists.
    listed: usize,
}

impl FromIterator<(u64, Place)> for Expiries {
    fn from_iter<I: IntoIterator<Item = (u64, Place)>>(entries: I) -> Self {
        let mut expiries = Self::default();
        for (slot, place) in entries {
            expiries.insert(slot, place);
        }
        expiries
    }
}

impl Expiries {
    /// A transaction was taken in.
    pub(super) fn insert(&mut self, slot: u64, place: Place) {
        self.by_slot.entry(slot).or_default().push(place);
        self.listed += 1;
    }

    /// Takes out what expires first, if that is before this slot: the slot, and the places that were listed there, in the order of their
    /// coming. What is in a place may have come for another slot, and a place may be listed twice.
    pub(super) fn pop_before(&mut self, slot: u64) -> Option<(u64, Vec<Place>)> {
        let first = self.by_slot.first_entry().filter(|first| *first.key() < slot)?;
        let (slot, places) = first.remove_entry();
        self.listed -= places.len();
        Some((slot, places))
    }

    /// Whether most places are those of transactions that have gone, when so many are here.
    pub(super) fn is_stale(&self, transactions: usize) -> bool {
        self.listed > 2 * transactions + SPARE
    }

    /// Bytes that are allocated, estimated.
    pub(super) fn memory_bytes(&self) -> usize {
        self.by_slot.values().map(|places| places.capacity() * size_of::<Place>()).sum()
    }

    /// Asserts that all these are listed, and how many places there are.
    pub(super) fn check(&self, entries: impl Iterator<Item = (u64, Place)>) {
        let listed: BTreeSet<(u64, Place)> =
            self.by_slot.iter().flat_map(|(slot, places)| places.iter().map(|place| (*slot, *place))).collect();
        let mut count = 0;
        for (slot, place) in entries {
            assert!(listed.contains(&(slot, place)), "what is in place {place} would never expire");
            count += 1;
        }
        assert_eq!(self.listed, self.by_slot.values().map(Vec::len).sum::<usize>(), "the count of listed places");
        assert!(!self.is_stale(count), "places of what has gone pile up");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn id(number: u8) -> Place {
        Place::from(number)
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

    #[test]
    fn places_of_what_has_gone_are_too_many_when_most_are() {
        let spare = u32::try_from(SPARE).expect("small");
        for transactions in [0, 1, 10] {
            let mut expiries: Expiries =
                (0..spare + 2 * transactions).map(|place| (u64::from(place % 3), place)).collect();
            let transactions = transactions as usize;
            assert!(!expiries.is_stale(transactions));
            expiries.insert(1, 1_000);
            assert!(expiries.is_stale(transactions) && !expiries.is_stale(transactions + 1));
        }
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
                        while let Some((slot, places)) = expiries.pop_before(now) {
                            let there: BTreeSet<Place> =
                                places.into_iter().filter(|place| model.contains(&(slot, *place))).collect();
                            let expected: BTreeSet<Place> =
                                model.range((slot, id(0))..=(slot, id(255))).map(|(_, place)| *place).collect();
                            prop_assert_eq!(there, expected);
                            model.retain(|(other, _)| *other != slot);
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
