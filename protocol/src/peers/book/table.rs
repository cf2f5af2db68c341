//! A table of buckets with a bounded number of slots each.

use crate::id::PeerId;
use crate::memory::tree_bytes;
use crate::random::Stream;
use std::collections::BTreeMap;

/// Random draws before all places are looked at. A guess: enough unless few are eligible.
const DRAWS: usize = 16;

/// A slot of a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) bucket: u16,
    pub(super) slot: u16,
}

/// Who is where. Only occupied places take memory.
#[derive(Debug)]
pub(super) struct Table {
    occupied: BTreeMap<Place, PeerId>,
    /// Occupied slots of each bucket.
    counts: Vec<u16>,
}

impl Table {
    pub(super) fn new(buckets: u16) -> Self {
        Self { occupied: BTreeMap::new(), counts: vec![0; usize::from(buckets)] }
    }

    pub(super) fn len(&self) -> usize {
        self.occupied.len()
    }

    /// Bytes that are allocated, estimated.
    pub(super) fn memory_bytes(&self) -> usize {
        tree_bytes::<(Place, PeerId)>(self.occupied.len()) + self.counts.capacity() * size_of::<u16>()
    }

    pub(super) fn get(&self, place: Place) -> Option<PeerId> {
        self.occupied.get(&place).copied()
    }

    /// Takes a free place.
    pub(super) fn insert(&mut self, place: Place, id: PeerId) {
        let former = self.occupied.insert(place, id);
        assert!(former.is_none(), "two entries in one place");
        self.counts[usize::from(place.bucket)] += 1;
    }

    pub(super) fn remove(&mut self, place: Place) {
        if self.occupied.remove(&place).is_some() {
            self.counts[usize::from(place.bucket)] -= 1;
        }
    }

    /// A random entry: first a bucket, each that has entries equally likely, then an entry of it.
    ///
    /// *Rationale:* who fills few buckets to the brim is not chosen more often than who has one entry in as many.
    pub(super) fn pick(&self, random: &mut Stream, mut eligible: impl FnMut(PeerId) -> bool) -> Option<PeerId> {
        let buckets: Vec<u16> = (0..).zip(&self.counts).filter(|(_, count)| **count > 0).map(|(it, _)| it).collect();
        for _ in 0..DRAWS {
            let bucket = *random.choose(&buckets)?;
            let nth = random.index(usize::from(self.counts[usize::from(bucket)]));
            let id = self.bucket(bucket).nth(nth)?;
            if eligible(id) {
                return Some(id);
            }
        }
        let members = |bucket: &u16| self.bucket(*bucket).filter(|id| eligible(*id)).collect::<Vec<_>>();
        let buckets: Vec<Vec<PeerId>> = buckets.iter().map(members).filter(|all| !all.is_empty()).collect();
        random.choose(&buckets).and_then(|bucket| random.choose(bucket)).copied()
    }

    fn bucket(&self, bucket: u16) -> impl Iterator<Item = PeerId> {
        let place = |slot| Place { bucket, slot };
        self.occupied.range(place(0)..=place(u16::MAX)).map(|(_, id)| *id)
    }

    pub(super) fn check(&self) {
        for (bucket, count) in (0..).zip(&self.counts) {
            assert_eq!(self.bucket(bucket).count(), usize::from(*count), "the count of a bucket has drifted");
        }
        let total: usize = self.counts.iter().map(|count| usize::from(*count)).sum();
        assert_eq!(total, self.occupied.len(), "an entry is in no bucket");
    }
}
