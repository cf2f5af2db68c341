//! Makes inputs from the corpus: without coverage to guide it, it stays close to what is valid.

use starling_protocol::random::Stream;

/// Numbers at which lengths and arithmetic go wrong.
const INTERESTING: [u64; 12] =
    [0, 1, 0x7f, 0x80, 0xff, 0x7fff, 0xffff, 0x7fff_ffff, 0xffff_ffff, 1 << 62, i64::MAX as u64, u64::MAX];

/// Mutations beyond this length are cut.
const BYTES_MAX: usize = 64 * 1024;

/// A stream of mutated inputs; the same corpus and seed give the same ones.
#[derive(Debug)]
pub struct Mutator<'a> {
    corpus: &'a [Vec<u8>],
    random: Stream,
}

impl<'a> Mutator<'a> {
    /// Mutates these inputs.
    ///
    /// # Panics
    /// When there are none.
    #[must_use]
    pub fn new(corpus: &'a [Vec<u8>], seed: u64) -> Self {
        assert!(!corpus.is_empty(), "there is nothing to mutate; write the seeds first");
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        Self { corpus, random: Stream::from_seed(key) }
    }

    /// The next input.
    pub fn next_input(&mut self) -> Vec<u8> {
        let mut input = self.corpus[self.random.index(self.corpus.len())].clone();
        for _ in 0..=self.random.below(4) {
            self.mutate(&mut input);
        }
        input.truncate(BYTES_MAX);
        input
    }

    fn mutate(&mut self, input: &mut Vec<u8>) {
        let at = self.random.index(input.len() + 1);
        let len = self.random.index((input.len() - at).min(64) + 1);
        match self.random.below(9) {
            0 => {
                if let Some(byte) = input.get_mut(at) {
                    *byte ^= 1 << self.random.below(8);
                }
            }
            1 => {
                if let Some(byte) = input.get_mut(at) {
                    *byte = self.random.next_u64().to_le_bytes()[0];
                }
            }
            2 => input.truncate(at),
            3 => drop(input.drain(at..at + len)),
            4 => {
                let copied = input[at..at + len].to_vec();
                let to = self.random.index(input.len() + 1);
                input.splice(to..to, copied);
            }
            5 => {
                let mut fresh = vec![0; self.random.index(9)];
                self.random.fill(&mut fresh);
                input.splice(at..at, fresh);
            }
            6 => self.put_number(input, at),
            7 => {
                let number = INTERESTING[self.random.index(INTERESTING.len())];
                input.splice(at..at, varint(number));
            }
            _ => {
                // The beginning of one and the end of another.
                let other = &self.corpus[self.random.index(self.corpus.len())];
                input.truncate(at);
                input.extend_from_slice(&other[self.random.index(other.len() + 1)..]);
            }
        }
    }

    /// Writes an interesting number over what is there, in one of the usual widths.
    fn put_number(&mut self, input: &mut [u8], at: usize) {
        let number = INTERESTING[self.random.index(INTERESTING.len())].to_le_bytes();
        let width = 1 << self.random.below(4);
        input[at..].iter_mut().zip(&number[..width]).for_each(|(byte, new)| *byte = *new);
    }
}

fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number > 0x7f {
        bytes.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    bytes.push(number.to_le_bytes()[0]);
    bytes
}
