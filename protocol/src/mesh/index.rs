//! Where what belongs to a message stands in a list, by the message's fingerprint.
//!
//! An open table with linear probing: a place holds a fingerprint, a number, and one bit of the owner's, so that four places fill a line of
//! the processor's cache and the commonest question, whether a message is known, is answered without a look at anything else. A
//! fingerprint is where its search begins. That takes no further mixing, because fingerprints are uniform and secret
//! ([`super::seen`]): nobody can choose ids that crowd one part of the table.
//!
//! # Cost
//! At most two thirds of the places are taken, so a search looks at two to five of them on average. Removing closes the gap (Knuth, "The Art of
//! Computer Programming", volume 3, section 6.4, algorithm R), so searches do not grow longer with time. The table never shrinks. It
//! cannot be iterated, because its order depends on the secret.

use super::seen::Fingerprint;
use crate::memory::Fetch;

/// Numbers of list elements by fingerprint, each with a flag.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// None, or a power of two of them.
    places: Vec<Place>,
    taken: usize,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    /// The fingerprint, or [`FREE`].
    key: u64,
    number: u32,
    flag: bool,
}

/// Fingerprints are below 2^61.
const FREE: u64 = u64::MAX;
const PLACES_MIN: usize = 16;

const _: () = assert!(size_of::<Place>() == 16);

impl Index {
    /// The number of this fingerprint, and its flag.
    #[inline]
    pub(super) fn find(&self, key: Fingerprint) -> Option<(usize, bool)> {
        let place = self.places[self.search(key)?];
        Some((place.number as usize, place.flag))
    }

    /// Has fetched where the search for the fingerprint begins; see [`Fetch`].
    pub(super) fn fetch(&self, key: Fingerprint, fetch: &mut impl Fetch) {
        fetch.item(&self.places, self.home(key.0));
    }

    /// Sets the flag of a fingerprint that is there.
    pub(super) fn set_flag(&mut self, key: Fingerprint, flag: bool) {
        if let Some(at) = self.search(key) {
            self.places[at].flag = flag;
        }
    }

    /// Adds a fingerprint that is not there, without the flag.
    pub(super) fn insert(&mut self, key: Fingerprint, number: u32) {
        self.taken += 1;
        if self.taken * 3 > self.places.len() * 2 {
            let places = (self.places.len() * 2).max(PLACES_MIN);
            let former =
                core::mem::replace(&mut self.places, vec![Place { key: FREE, number: 0, flag: false }; places]);
            former.into_iter().filter(|place| place.key != FREE).for_each(|place| self.put(place));
        }
        self.put(Place { key: key.0, number, flag: false });
    }

    /// Takes a fingerprint out; says which number it had.
    pub(super) fn remove(&mut self, key: Fingerprint) -> Option<usize> {
        let mut gap = self.search(key)?;
        let number = self.places[gap].number as usize;
        let mut at = gap;
        loop {
            at = self.after(at);
            let place = self.places[at];
            if place.key == FREE {
                break;
            }
            // What stands behind the gap moves into it, unless its search begins behind the gap.
            if self.distance(self.home(place.key), at) >= self.distance(gap, at) {
                self.places[gap] = place;
                gap = at;
            }
        }
        self.places[gap].key = FREE;
        self.taken -= 1;
        Some(number)
    }

    /// How many fingerprints there are.
    pub(super) fn len(&self) -> usize {
        self.taken
    }

    /// Bytes that are allocated.
    pub(super) fn memory_bytes(&self) -> usize {
        self.places.capacity() * size_of::<Place>()
    }

    /// Where the fingerprint stands.
    #[inline]
    fn search(&self, key: Fingerprint) -> Option<usize> {
        let mut at = self.home(key.0);
        loop {
            // There is always a free place, unless there are none at all.
            match self.places.get(at)?.key {
                FREE => return None,
                found if found == key.0 => return Some(at),
                _ => at = self.after(at),
            }
        }
    }

    /// Puts what is not there into the first free place from where its search begins.
    fn put(&mut self, place: Place) {
        let mut at = self.home(place.key);
        while self.places[at].key != FREE {
            at = self.after(at);
        }
        self.places[at] = place;
    }

    #[inline]
    fn home(&self, key: u64) -> usize {
        #[expect(clippy::cast_possible_truncation, reason = "only the lowest bits count")]
        let bits = key as usize;
        bits & self.mask()
    }

    #[inline]
    fn after(&self, at: usize) -> usize {
        (at + 1) & self.mask()
    }

    /// How many steps it is from one place to another.
    fn distance(&self, from: usize, to: usize) -> usize {
        to.wrapping_sub(from) & self.mask()
    }

    #[inline]
    fn mask(&self) -> usize {
        self.places.len().wrapping_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Insert(u64),
        Flag(u64, bool),
        Remove(u64),
    }

    /// Keys that crowd around the end of the table, where searches go on at its beginning.
    fn step() -> impl Strategy<Value = Step> {
        let key = (0_u64..4, prop_oneof![0_u64..3, 13_u64..16, 28_u64..34]).prop_map(|(high, low)| high << 20 | low);
        prop_oneof![
            5 => key.clone().prop_map(Step::Insert),
            2 => (key.clone(), any::<bool>()).prop_map(|(key, flag)| Step::Flag(key, flag)),
            4 => key.prop_map(Step::Remove),
        ]
    }

    proptest! {
        #[test]
        fn a_table_does_what_an_ordered_map_does(steps in prop::collection::vec(step(), 1..200)) {
            let (mut index, mut model) = (Index::default(), BTreeMap::new());
            let mut keys: Vec<u64> = Vec::new();
            for (step, number) in steps.into_iter().zip(0_u32..) {
                match step {
                    Step::Insert(key) if !model.contains_key(&key) => {
                        index.insert(Fingerprint(key), number);
                        model.insert(key, (number as usize, false));
                        keys.push(key);
                    }
                    Step::Insert(_) => {}
                    Step::Flag(key, flag) => {
                        index.set_flag(Fingerprint(key), flag);
                        model.entry(key).and_modify(|known| known.1 = flag);
                    }
                    Step::Remove(key) => {
                        let expected = model.remove(&key).map(|(number, _)| number);
                        prop_assert_eq!(index.remove(Fingerprint(key)), expected);
                        keys.push(key);
                    }
                }
                prop_assert_eq!(index.len(), model.len());
                for key in &keys {
                    prop_assert_eq!(index.find(Fingerprint(*key)), model.get(key).copied(), "{}", key);
                }
            }
        }
    }
}
