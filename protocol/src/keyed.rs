//! Values that are found by a digest or a public key, in numbered places.
//!
//! # What it promises
//! - A value stays in its place until it is removed, so that others can refer to it by a [`Place`], which is four bytes where the key is 32.
//!   A place is used again.
//! - **Nobody can slow it down by choosing keys.** The table is one of hashes that are keyed with a secret of this node: a secret number plus the
//!   inner product of the key's words with as many more, modulo a prime (Carter and Wegman 1979; the reasons are those of
//!   [`crate::mesh::seen`]). Two different keys, however chosen, share a hash with probability 2^-61.
//! - Values are listed in the order of places, which follows from the calls alone, never in that of hashes.
//!
//! # Cost
//! Everything takes constant time but listing. An entry costs five bytes and the key nothing: it is asked of the value.

use crate::memory::{Fetch, table_bytes};
use crate::random::Stream;
use hashbrown::HashTable;

/// Bytes of a key.
const KEY_BYTES: usize = 32;
const WORD_BYTES: usize = 4;
const WORDS: usize = KEY_BYTES / WORD_BYTES;
/// 2^61 - 1.
const PRIME: u64 = (1 << 61) - 1;

/// Where a value is.
pub(crate) type Place = u32;

/// A value that names its own key.
pub(crate) trait HasKey {
    /// The key, which never changes.
    fn key(&self) -> &[u8; KEY_BYTES];
}

/// Values by key; see the head of this module.
#[derive(Clone, Debug)]
pub(crate) struct KeyedSlab<T> {
    /// One number for each word, and the one that is added; all below [`PRIME`].
    secret: [u64; WORDS + 1],
    table: HashTable<Place>,
    values: Vec<Option<T>>,
    free: Vec<Place>,
}

impl<T: HasKey> KeyedSlab<T> {
    /// Nothing. `secret` must be unpredictable to others; a seeded one makes runs repeatable.
    pub(crate) fn new(secret: &mut Stream) -> Self {
        Self {
            secret: core::array::from_fn(|_| secret.below(PRIME)),
            table: HashTable::new(),
            values: Vec::new(),
            free: Vec::new(),
        }
    }

    /// Where the value with this key is.
    pub(crate) fn find(&self, key: &[u8; KEY_BYTES]) -> Option<Place> {
        if self.table.is_empty() {
            return None;
        }
        let is_it = |place: &Place| self.get(*place).is_some_and(|value| value.key() == key);
        self.table.find(hash(&self.secret, key), is_it).copied()
    }

    /// Takes in a value of which the key is not here.
    pub(crate) fn insert(&mut self, value: T) -> Place {
        let hash_of = |value: &T| hash(&self.secret, value.key());
        let key_hash = hash_of(&value);
        let place = self.free.pop().unwrap_or_else(|| {
            self.values.push(None);
            Place::try_from(self.values.len() - 1).expect("fewer than 2^32 values")
        });
        let values = &mut self.values;
        values[place as usize] = Some(value);
        self.table.insert_unique(key_hash, place, |place| values[*place as usize].as_ref().map_or(0, hash_of));
        place
    }

    /// Takes out the value in this place.
    pub(crate) fn remove(&mut self, place: Place) -> Option<T> {
        let value = self.values.get_mut(place as usize)?.take()?;
        if let Ok(entry) = self.table.find_entry(hash(&self.secret, value.key()), |other| *other == place) {
            entry.remove();
        }
        self.free.push(place);
        Some(value)
    }

    /// The value in this place.
    pub(crate) fn get(&self, place: Place) -> Option<&T> {
        self.values.get(place as usize)?.as_ref()
    }

    /// As [`Self::get`], for changing it; but not its key.
    pub(crate) fn get_mut(&mut self, place: Place) -> Option<&mut T> {
        self.values.get_mut(place as usize)?.as_mut()
    }

    /// All values and their places, in the order of these.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Place, &T)> {
        (0..).zip(&self.values).filter_map(|(place, value)| Some((place, value.as_ref()?)))
    }

    /// Has fetched what any question looks at, and where the next value goes; see [`Fetch`].
    pub(crate) fn fetch(&self, fetch: &mut impl Fetch) {
        fetch.value(&self.secret[0]);
        fetch.value(&self.secret[WORDS]);
        fetch.value(&self.table);
        fetch.value(&self.values);
        fetch.item(&self.values, self.values.len());
        fetch.item(&self.values, self.values.len() + 1);
    }

    /// How many values there are.
    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Bytes that are allocated but for what values point at, estimated.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.values.capacity() * size_of::<Option<T>>()
            + self.free.capacity() * size_of::<Place>()
            + table_bytes::<Place>(self.table.capacity())
    }

    /// Asserts that every value is found by its key, and that every place is in use or free.
    pub(crate) fn check(&self) {
        for (place, value) in self.iter() {
            assert_eq!(self.find(value.key()), Some(place), "a value is not found by its key");
        }
        assert_eq!(self.iter().count(), self.len(), "the table has as many entries as there are values");
        assert_eq!(self.values.len(), self.len() + self.free.len(), "every place is in use or free");
    }
}

/// The keyed hash of a key, spread over all 64 bits.
fn hash(secret: &[u64; WORDS + 1], key: &[u8; KEY_BYTES]) -> u64 {
    let [factors @ .., sum] = secret;
    // Below 2^61 + 8 * 2^32 * 2^61.
    let mut sum = u128::from(*sum);
    let (words, _) = key.as_chunks::<WORD_BYTES>();
    for (word, factor) in words.iter().zip(factors) {
        sum += u128::from(u32::from_le_bytes(*word)) * u128::from(*factor);
    }
    // 2^61 is one more than the prime, so the upper bits count as they are.
    let folded = (sum & u128::from(PRIME)) + (sum >> 61);
    let folded = u64::try_from(folded).expect("two numbers below 2^61");
    let remainder = if folded >= PRIME { folded - PRIME } else { folded };
    // The table looks at both ends.
    remainder.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    impl HasKey for ([u8; KEY_BYTES], u32) {
        fn key(&self) -> &[u8; KEY_BYTES] {
            &self.0
        }
    }

    fn slab(seed: u8) -> KeyedSlab<([u8; KEY_BYTES], u32)> {
        KeyedSlab::new(&mut Stream::from_seed([seed; 32]))
    }

    /// Keys that differ in one place only, first or last.
    fn key(number: u8) -> [u8; KEY_BYTES] {
        let mut key = [7; KEY_BYTES];
        key[if number.is_multiple_of(2) { 0 } else { KEY_BYTES - 1 }] = number;
        key
    }

    proptest! {
        #[test]
        fn it_keeps_what_an_ordered_map_keeps(steps in prop::collection::vec((any::<bool>(), 0_u8..40), 0..200)) {
            let (mut slab, mut model) = (slab(1), BTreeMap::new());
            for (number, (insert, chosen)) in (0..).zip(steps) {
                match (slab.find(&key(chosen)), insert) {
                    (None, true) => {
                        model.insert(key(chosen), (slab.insert((key(chosen), number)), number));
                    }
                    (Some(place), false) => {
                        let removed = slab.remove(place).map(|(_, value)| (place, value));
                        prop_assert_eq!(removed, model.remove(&key(chosen)));
                    }
                    (found, _) => prop_assert_eq!(found, model.get(&key(chosen)).map(|(place, _)| *place)),
                }
                slab.check();
                for (place, value) in model.values() {
                    prop_assert_eq!(slab.get(*place).map(|(_, value)| value), Some(value), "a value stays in its place");
                }
                prop_assert_eq!(slab.len(), model.len());
            }
        }
    }

    #[test]
    fn places_are_used_again() {
        let mut slab = slab(1);
        slab.insert((key(0), 0));
        for number in 1..100 {
            let place = slab.insert((key(number), u32::from(number)));
            assert_eq!((place, slab.values.len()), (1, 2));
            slab.remove(place);
        }
    }

    #[test]
    fn hashes_depend_on_the_secret_and_on_every_word() {
        let [a, b] = [slab(1).secret, slab(2).secret];
        assert_ne!(hash(&a, &key(0)), hash(&b, &key(0)));
        for byte in 0..KEY_BYTES {
            let mut other = key(0);
            other[byte] ^= 1;
            assert_ne!(hash(&a, &other), hash(&a, &key(0)), "byte {byte} counts");
        }
    }
}
