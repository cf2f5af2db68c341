//! Tables by digest.

use core::hash::{BuildHasherDefault, Hasher};
use std::collections::HashMap;

/// A table by what digests begin with. Two digests of a run that begin with the same eight bytes would be taken for one; among a
/// million that happens once in 37 million runs. It is looked up and never iterated, so nothing depends on its order.
#[derive(Debug)]
pub(super) struct DigestMap<V>(HashMap<u64, V, BuildHasherDefault<Identity>>);

impl<V> Default for DigestMap<V> {
    fn default() -> Self {
        Self(HashMap::default())
    }
}

impl<V> DigestMap<V> {
    pub(super) fn get(&self, digest: &[u8]) -> Option<&V> {
        self.0.get(&prefix(digest))
    }

    pub(super) fn insert(&mut self, digest: &[u8], value: V) {
        self.0.insert(prefix(digest), value);
    }
}

fn prefix(digest: &[u8]) -> u64 {
    digest.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

/// Digests are hashes already.
#[derive(Clone, Copy, Debug, Default)]
struct Identity(u64);

impl Hasher for Identity {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("prefixes of digests are 64-bit numbers");
    }
}
