//! Seeded randomness on integers: one independent stream for each concern of one seed.
//!
//! Streams are independent so that one more draw in one place (say, a last mile) does not shift every draw
//! elsewhere (say, which node gets the next transaction), and two runs that differ in one setting stay comparable.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// A stream of random integers, wholly determined by a seed and the name of the concern that it serves.
#[derive(Debug, Clone)]
pub struct Stream(ChaCha8Rng);

impl Stream {
    /// The stream of `concern` under `seed`.
    ///
    /// # Panics
    /// If `concern` is longer than 24 bytes: it must fit the key beside the seed, so that no two names collide.
    #[must_use]
    pub fn new(seed: u64, concern: &str) -> Self {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        key[8..8 + concern.len()].copy_from_slice(concern.as_bytes());
        Self(ChaCha8Rng::from_seed(key))
    }

    /// A number drawn evenly from all of `u32`.
    pub fn next_u32(&mut self) -> u32 {
        self.0.next_u32()
    }

    /// A number drawn evenly from all of `u64`.
    pub fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Fills `bytes` with even random bytes.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        self.0.fill_bytes(bytes);
    }

    /// A number drawn evenly from `0..end`, without the bias of a remainder (Lemire 2019, "Fast random integer
    /// generation in an interval").
    ///
    /// # Panics
    /// If `end` is zero: there is nothing to draw from.
    pub fn below(&mut self, end: u64) -> u64 {
        assert!(end > 0, "cannot draw from an empty range");
        loop {
            let product = u128::from(self.next_u64()) * u128::from(end);
            let (high, low) = ((product >> 64) as u64, product & u128::from(u64::MAX));
            // The remainder, which takes a division, is below the end.
            if low >= u128::from(end) || low >= u128::from(end.wrapping_neg() % end) {
                return high;
            }
        }
    }

    /// An index drawn evenly from `0..len`.
    ///
    /// # Panics
    /// If `len` is zero.
    pub fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).expect("below a usize")
    }

    /// Puts `items` in an order drawn evenly from all orders (Fisher and Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.index(last + 1));
        }
    }

    /// An index into `weights`, each with the chance of its share of the sum.
    ///
    /// # Panics
    /// If the weights sum to zero.
    pub fn weighted(&mut self, weights: impl Iterator<Item = u32> + Clone) -> usize {
        let mut draw = self.below(weights.clone().map(u64::from).sum());
        for (index, weight) in weights.enumerate() {
            match draw.checked_sub(u64::from(weight)) {
                Some(rest) => draw = rest,
                None => return index,
            }
        }
        unreachable!("the draw is below the sum of the weights")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_of_one_seed_differ_and_repeat() {
        let draw = |seed, concern| Stream::new(seed, concern).next_u64();
        assert_eq!(draw(1, "a"), draw(1, "a"));
        assert_ne!(draw(1, "a"), draw(1, "b"));
        assert_ne!(draw(1, "a"), draw(2, "a"));
    }

    #[test]
    fn draws_from_a_small_range_are_even() {
        let mut stream = Stream::new(7, "even");
        let mut counts = [0_u32; 3];
        for _ in 0..30_000 {
            counts[stream.index(3)] += 1;
        }
        assert!(counts.iter().all(|&count| (9_600..10_400).contains(&count)), "{counts:?}");
    }

    #[test]
    fn a_weight_of_zero_is_never_drawn() {
        let mut stream = Stream::new(7, "weights");
        let mut counts = [0_u32; 4];
        for _ in 0..8_000 {
            counts[stream.weighted([0, 3, 0, 1].into_iter())] += 1;
        }
        assert_eq!((counts[0], counts[2]), (0, 0));
        assert!((5_800..6_200).contains(&counts[1]), "{counts:?}");
    }

    #[test]
    fn a_shuffle_keeps_every_item() {
        let mut items: Vec<u32> = (0..100).collect();
        Stream::new(1, "shuffle").shuffle(&mut items);
        assert_ne!(items, (0..100).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..100).collect::<Vec<_>>());
    }
}
