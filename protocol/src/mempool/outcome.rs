//! What became of transactions that left the pool without being included, for as long as there is room to remember.
//!
//! At most a fixed number of outcomes; the one that was recorded first is forgotten first. A lookup does not refresh:
//! how often somebody asks about a transaction says nothing about who will ask next.
//!
//! Every transaction that is taken in asks whether there is an outcome to forget, and nearly always there is none. So they are found by keyed hash
//! ([`crate::keyed`]), and each names the ones before and after it in the order in which they were recorded. Everything takes constant time.

use super::Status;
use crate::id::TransactionId;
use crate::keyed::{HasKey, KeyedSlab, Place};
use crate::random::Stream;

#[derive(Clone, Debug)]
pub(super) struct Outcomes {
    max: usize,
    all: KeyedSlab<Outcome>,
    oldest: Option<Place>,
    newest: Option<Place>,
}

#[derive(Clone, Debug)]
struct Outcome {
    id: TransactionId,
    status: Status,
    older: Option<Place>,
    newer: Option<Place>,
}

impl HasKey for Outcome {
    fn key(&self) -> &[u8; 32] {
        self.id.as_bytes()
    }
}

impl Outcomes {
    /// Remembers at most so many, and keys their table with what `secret` gives.
    pub(super) fn new(max: usize, secret: &mut Stream) -> Self {
        Self { max, all: KeyedSlab::new(secret), oldest: None, newest: None }
    }

    pub(super) fn remember(&mut self, id: TransactionId, status: Status) {
        self.forget(&id);
        let place = self.all.insert(Outcome { id, status, older: self.newest, newer: None });
        match self.newest.replace(place).and_then(|before| self.all.get_mut(before)) {
            Some(before) => before.newer = Some(place),
            None => self.oldest = Some(place),
        }
        if self.all.len() > self.max
            && let Some(oldest) = self.oldest
        {
            self.remove(oldest);
        }
    }

    pub(super) fn forget(&mut self, id: &TransactionId) {
        if let Some(place) = self.all.find(id.as_bytes()) {
            self.remove(place);
        }
    }

    pub(super) fn get(&self, id: &TransactionId) -> Option<Status> {
        let outcome = self.all.get(self.all.find(id.as_bytes())?)?;
        Some(outcome.status)
    }

    /// Bytes that are allocated, estimated.
    pub(super) fn memory_bytes(&self) -> usize {
        self.all.memory_bytes()
    }

    pub(super) fn check(&self) {
        assert!(self.all.len() <= self.max, "too many outcomes");
        self.all.check();
        let (mut next, mut before, mut count) = (self.oldest, None, 0);
        while let Some(outcome) = next.and_then(|place| self.all.get(place)) {
            assert_eq!(outcome.older, before, "each outcome names the one before it");
            (before, next, count) = (next, outcome.newer, count + 1);
        }
        assert_eq!((before, count), (self.newest, self.all.len()), "all outcomes are in one order");
    }

    fn remove(&mut self, place: Place) {
        let Some(Outcome { older, newer, .. }) = self.all.remove(place) else { return };
        match older.and_then(|older| self.all.get_mut(older)) {
            Some(older) => older.newer = newer,
            None => self.oldest = newer,
        }
        match newer.and_then(|newer| self.all.get_mut(newer)) {
            Some(newer) => newer.older = older,
            None => self.newest = older,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use starling_crypto::Digest;

    proptest! {
        /// Against a list in the order of recording.
        #[test]
        fn the_first_that_was_recorded_is_forgotten_first(steps in prop::collection::vec((0_u8..12, 0_u8..3), 0..200)) {
            const MAX: usize = 5;
            let mut outcomes = Outcomes::new(MAX, &mut Stream::from_seed([1; 32]));
            let mut naive: Vec<(TransactionId, Status)> = Vec::new();
            for (number, what) in steps {
                let id = TransactionId(Digest([number; 32]));
                naive.retain(|(other, _)| what == 2 || *other != id);
                match what {
                    0 => outcomes.forget(&id),
                    1 => {
                        let status = if number.is_multiple_of(2) { Status::Expired } else { Status::Evicted };
                        outcomes.remember(id, status);
                        naive.push((id, status));
                        naive.drain(..naive.len().saturating_sub(MAX));
                    }
                    _ => {}
                }
                outcomes.check();
                prop_assert_eq!(outcomes.all.len(), naive.len());
                for (id, status) in &naive {
                    prop_assert_eq!(outcomes.get(id), Some(*status));
                }
                prop_assert_eq!(outcomes.get(&id), naive.iter().find(|(other, _)| *other == id).map(|(_, it)| *it));
            }
        }
    }
}
