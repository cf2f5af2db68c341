//! Sets of peers, by their slots.
//!
//! The first 64 slots are one word in place, which is all that most nodes ever need; further ones are allocated when they are used. Slots are
//! dense, so a set takes an eighth of a byte for each peer that was connected at once.

/// A set of slots.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct SlotSet {
    low: u64,
    /// The words after the first one; behind a pointer, because there are sets in every entry of large tables.
    high: Option<Box<High>>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct High(Vec<u64>);

const _: () = assert!(size_of::<SlotSet>() == 16);

impl SlotSet {
    #[inline]
    pub(super) fn contains(&self, slot: u32) -> bool {
        let (word, bit) = place_of(slot);
        self.word(word) & bit != 0
    }

    /// Adds the slot; false when it was in the set already.
    pub(super) fn insert(&mut self, slot: u32) -> bool {
        let (word, bit) = place_of(slot);
        let new = self.word(word) & bit == 0;
        if word == 0 {
            self.low |= bit;
            return new;
        }
        let High(words) = &mut **self.high.get_or_insert_default();
        if words.len() < word {
            words.resize(word, 0);
        }
        words[word - 1] |= bit;
        new
    }

    pub(super) fn remove(&mut self, slot: u32) {
        let (word, bit) = place_of(slot);
        if word == 0 {
            self.low &= !bit;
        } else if let Some(high) = self.high.as_mut().and_then(|high| high.0.get_mut(word - 1)) {
            *high &= !bit;
        }
    }

    /// The slots in ascending order.
    pub(super) fn iter(&self) -> impl Iterator<Item = u32> {
        let words = core::iter::once(&self.low).chain(self.high.iter().flat_map(|high| &high.0));
        words.zip(0..).flat_map(|(word, place): (&u64, u32)| {
            let mut rest = *word;
            core::iter::from_fn(move || {
                let bit = (rest != 0).then(|| rest.trailing_zeros())?;
                rest &= rest - 1;
                Some(place * u64::BITS + bit)
            })
        })
    }

    fn word(&self, place: usize) -> u64 {
        match place.checked_sub(1) {
            None => self.low,
            Some(place) => self.high.as_ref().and_then(|high| high.0.get(place)).copied().unwrap_or(0),
        }
    }
}

fn place_of(slot: u32) -> (usize, u64) {
    ((slot / u64::BITS) as usize, 1 << (slot % u64::BITS))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn a_set_does_what_an_ordered_set_does(steps in prop::collection::vec((any::<bool>(), 0_u32..300), 0..60)) {
            let (mut set, mut model) = (SlotSet::default(), BTreeSet::new());
            for (insert, slot) in steps {
                if insert {
                    prop_assert_eq!(set.insert(slot), model.insert(slot));
                } else {
                    set.remove(slot);
                    model.remove(&slot);
                }
                prop_assert_eq!(set.contains(slot), model.contains(&slot));
                prop_assert!(set.iter().eq(model.iter().copied()));
            }
        }
    }
}
