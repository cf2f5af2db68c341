//! Deterministic randomness.
//!
//! A machine is handed one 32-byte seed. [`Streams`] derives from it one independent [`Stream`] per concern, named by a
//! label, so that an extra draw in one place does not shift the draws of every other (the reason why a change in, say,
//! gossip selection leaves heartbeat phases untouched). A stream is ChaCha8 keyed by
//! `SHA-256("starling/random/1" || seed || label)`; eight rounds are unpredictable to a remote peer and cheap.
//!
//! All ranges are drawn on integers, by rejection (Lemire, "Fast Random Integer Generation in an Interval", 2019), and
//! are unbiased and the same on every platform. No floating point is involved.

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use sha2::{Digest, Sha256};

/// Tag in front of the hash that derives a stream's key.
const STREAM_TAG: &[u8] = b"starling/random/1";

/// A seed from which streams are derived by name.
#[derive(Clone)]
pub struct Streams {
    seed: [u8; 32],
}

impl Streams {
    /// Takes over the seed. In a node it is secret entropy; in a simulation it is derived from the run's seed.
    #[must_use]
    pub const fn new(seed: [u8; 32]) -> Self {
        Self { seed }
    }

    /// The stream of this label. The same seed and label give the same stream, so ask for each label once.
    #[must_use]
    pub fn stream(&self, label: &str) -> Stream {
        Stream { rng: ChaCha8Rng::from_seed(self.derive(label)) }
    }

    /// A seed for a machine within the machine; independent of all streams of other labels.
    #[must_use]
    pub fn derive(&self, label: &str) -> [u8; 32] {
        let mut hasher = Sha256::new();
        hasher.update(STREAM_TAG);
        hasher.update(self.seed);
        hasher.update(label.as_bytes());
        hasher.finalize().into()
    }

    /// A key for a keyed hasher, such as SipHash over remote-chosen keys.
    #[must_use]
    pub fn hash_key(&self, label: &str) -> [u8; 16] {
        let mut key = [0; 16];
        key.copy_from_slice(&self.derive(label)[..16]);
        key
    }
}

impl core::fmt::Debug for Streams {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        // In a node the seed is a secret.
        f.write_str("Streams")
    }
}

/// A sequence of random numbers for one concern.
#[derive(Clone)]
pub struct Stream {
    rng: ChaCha8Rng,
}

impl Stream {
    /// A stream from its own seed, for those that need only one.
    #[must_use]
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self { rng: ChaCha8Rng::from_seed(seed) }
    }

    /// A number of 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        self.rng.next_u64()
    }

    /// Fills the buffer with random bytes.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        self.rng.fill_bytes(bytes);
    }

    /// A number below `bound`, each equally likely.
    ///
    /// # Panics
    /// When `bound` is zero: there is no such number.
    pub fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "there is no number below zero");
        loop {
            let product = u128::from(self.rng.next_u64()) * u128::from(bound);
            #[expect(clippy::cast_possible_truncation, reason = "the low half decides about rejection")]
            let low = product as u64;
            // 2^64 mod bound values of the low half are one too many; drawing again for them removes the bias.
            if low >= bound || low >= bound.wrapping_neg() % bound {
                return (product >> 64) as u64;
            }
        }
    }

    /// An index below `len`, each equally likely.
    ///
    /// # Panics
    /// When `len` is zero.
    pub fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).expect("below a usize")
    }

    /// True with probability `numerator / denominator`.
    ///
    /// # Panics
    /// When `denominator` is zero.
    pub fn chance(&mut self, numerator: u64, denominator: u64) -> bool {
        self.below(denominator) < numerator
    }

    /// Puts the items into a random order, each order equally likely (Fisher and Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for end in (1..items.len()).rev() {
            let other = self.index(end + 1);
            items.swap(end, other);
        }
    }

    /// One of the items, each equally likely; `None` when there are none.
    pub fn choose<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        if items.is_empty() { None } else { items.get(self.index(items.len())) }
    }

    /// Keeps `count` of the items, each subset equally likely, in random order; all of them (shuffled) when there are
    /// no more than that.
    pub fn sample<T>(&mut self, items: &mut Vec<T>, count: usize) {
        let keep = count.min(items.len());
        for start in 0..keep {
            let other = start + self.index(items.len() - start);
            items.swap(start, other);
        }
        items.truncate(keep);
    }
}

impl core::fmt::Debug for Stream {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Stream")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_label_repeats_and_another_label_differs() {
        let streams = Streams::new([7; 32]);
        let draw = |label: &str| {
            let mut stream = streams.stream(label);
            [stream.next_u64(), stream.next_u64()]
        };
        assert_eq!(draw("a"), draw("a"));
        assert_ne!(draw("a"), draw("b"));
        assert_ne!(draw("a"), [Streams::new([8; 32]).stream("a").next_u64(), 0]);
    }

    #[test]
    fn a_stream_is_the_same_on_every_platform() {
        let mut stream = Streams::new([1; 32]).stream("golden");
        let mut items: Vec<u8> = (0..10).collect();
        stream.shuffle(&mut items);
        let drawn: Vec<u64> = (0..4).map(|_| stream.below(1000)).collect();
        assert_eq!((items, drawn), (GOLDEN_ORDER.to_vec(), GOLDEN_DRAWS.to_vec()));
    }

    /// Regenerating these is a decision: every simulation trace changes with them.
    const GOLDEN_ORDER: [u8; 10] = [8, 0, 7, 9, 2, 3, 4, 1, 6, 5];
    const GOLDEN_DRAWS: [u64; 4] = [338, 759, 651, 3];

    #[test]
    fn numbers_are_below_the_bound_and_evenly_spread() {
        let mut stream = Stream::from_seed([3; 32]);
        let mut counts = [0_u32; 6];
        for _ in 0..60_000 {
            counts[stream.index(6)] += 1;
        }
        assert!(counts.iter().all(|count| (9_500..10_500).contains(count)), "{counts:?}");
        assert_eq!(stream.below(1), 0);
        assert!((0..100).all(|_| stream.below(u64::MAX) < u64::MAX));
    }

    #[test]
    fn a_bound_just_above_half_the_range_is_unbiased() {
        // Without rejection the lower half of such a range would come up twice as often as the upper one.
        let mut stream = Stream::from_seed([4; 32]);
        let bound = (1_u64 << 63) + (1 << 62);
        let low = (0..30_000).filter(|_| stream.below(bound) < bound / 3).count();
        assert!((9_600..10_400).contains(&low), "{low}");
    }

    #[test]
    fn shuffles_and_samples_keep_the_items_and_reach_every_order() {
        let mut stream = Stream::from_seed([5; 32]);
        let mut orders = std::collections::BTreeMap::new();
        for _ in 0..6_000 {
            let mut items = [0, 1, 2];
            stream.shuffle(&mut items);
            *orders.entry(items).or_insert(0_u32) += 1;
        }
        assert_eq!(orders.len(), 6);
        assert!(orders.values().all(|count| (850..1_150).contains(count)), "{orders:?}");

        let mut pairs = std::collections::BTreeMap::new();
        for _ in 0..6_000 {
            let mut items = vec![0, 1, 2, 3];
            stream.sample(&mut items, 2);
            items.sort_unstable();
            *pairs.entry(items).or_insert(0_u32) += 1;
        }
        assert_eq!(pairs.len(), 6);
        assert!(pairs.values().all(|count| (850..1_150).contains(count)), "{pairs:?}");

        let mut few = vec![1, 2];
        stream.sample(&mut few, 5);
        few.sort_unstable();
        assert_eq!(few, [1, 2]);
        assert_eq!(stream.choose::<u8>(&[]), None);
    }
}
