//! One number for everything that happened in a run.
//!
//! Each input that a machine is given is mixed in, in order: what it was, when, for whom, from whom and about what. Outputs come
//! back as inputs of others, so they need not be mixed in themselves. Two runs with the same hash took the same decisions, in
//! debug and in release and on any machine; the hash is no defence against anybody who wants two runs to look alike.

use core::fmt;

/// The hash of a run as far as it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceHash(u64);

impl Default for TraceHash {
    fn default() -> Self {
        // The digits of pi, so that an empty run is not zero.
        Self(0x243f_6a88_85a3_08d3)
    }
}

impl TraceHash {
    /// Mixes a word in. Each step is a bijection of the state for a given word, so nothing that differs once becomes equal by
    /// what follows being equal.
    pub fn mix(&mut self, word: u64) {
        // Constants of MurmurHash3's 64-bit mixer (Appleby, public domain).
        let mut state = (self.0 ^ word).wrapping_mul(0xff51_afd7_ed55_8ccd);
        state ^= state >> 33;
        self.0 = state.wrapping_mul(0xc4ce_b9fe_1a85_ec53).rotate_left(29);
    }

    /// Mixes in what `bytes` begin with.
    pub fn mix_prefix(&mut self, bytes: &[u8]) {
        let mut word = [0; 8];
        let length = bytes.len().min(8);
        word[..length].copy_from_slice(&bytes[..length]);
        self.mix(u64::from_le_bytes(word));
    }
}

impl fmt::Display for TraceHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(words: &[u64]) -> TraceHash {
        let mut trace = TraceHash::default();
        words.iter().for_each(|word| trace.mix(*word));
        trace
    }

    #[test]
    fn order_and_every_word_count() {
        assert_eq!(hash(&[1, 2]), hash(&[1, 2]));
        assert_ne!(hash(&[1, 2]), hash(&[2, 1]));
        assert_ne!(hash(&[0]), hash(&[0, 0]));
        assert_eq!(hash(&[]).to_string(), "243f6a8885a308d3");
    }
}
