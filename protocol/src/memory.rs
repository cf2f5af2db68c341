//! How much memory a machine has allocated, by component.
//!
//! The figures are estimates from the numbers and sizes of what is kept: std does not tell what its ordered maps allocate. They answer what
//! grows, and what to look at first, in a simulation of thousands of nodes or on a small machine; a test of the simulator holds their sum against
//! what the operating system counts. What is shared between nodes of one process, such as messages and configurations, is not in them.

use core::mem::size_of;

/// Has memory brought into the processor's caches before it is looked at, without waiting for it and without looking at it.
///
/// A driver of many nodes knows what its next inputs are, and that nothing of what they touch is in the caches any more. Machines know where
/// that is, and drivers how to have it fetched; neither has to know more of the other.
pub trait Fetch {
    /// Fetches the line of the cache in which the item at this place begins. There need not be such an item.
    fn item<T>(&mut self, items: &[T], place: usize);

    /// Fetches the line of the cache in which the value begins.
    fn value<T>(&mut self, value: &T) {
        self.item(core::slice::from_ref(value), 0);
    }
}

/// Bytes that a node has allocated, by component.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryLedger {
    /// The machine itself, apart from what it has allocated.
    pub node: usize,
    /// The seen-cache.
    pub seen: usize,
    /// What is remembered of recent messages: who has them, and who does not want them.
    pub recent: usize,
    /// Connected peers, what they announced, and back-offs.
    pub peers: usize,
    /// Scores and the gater.
    pub scores: usize,
    /// The lists of messages to be served and announced. The messages themselves are shared.
    pub cache: usize,
    /// The book of addresses, and who is dialled or connected.
    pub book: usize,
    /// The mempool. Its transactions share the messages' bytes.
    pub mempool: usize,
}

impl MemoryLedger {
    /// All components with their names.
    #[must_use]
    pub fn components(&self) -> [(&'static str, usize); 8] {
        let Self { node, seen, recent, peers, scores, cache, book, mempool } = *self;
        [
            ("node", node),
            ("seen", seen),
            ("recent", recent),
            ("peers", peers),
            ("scores", scores),
            ("cache", cache),
            ("book", book),
            ("mempool", mempool),
        ]
    }
}

/// What an allocator keeps beside each allocation, and rounding.
const ALLOCATION_BYTES: usize = 16;

/// Bytes of `std`'s ordered map or set with so many entries: its nodes hold 11 and are about three quarters full.
pub(crate) const fn tree_bytes<T>(entries: usize) -> usize {
    entries * size_of::<T>() * 4 / 3 + entries.div_ceil(8) * ALLOCATION_BYTES
}

/// Bytes of `std`'s hash map with this capacity: one byte of control for each place, of which seven in eight are used.
pub(crate) const fn table_bytes<T>(capacity: usize) -> usize {
    (capacity * 8).div_ceil(7) * (size_of::<T>() + 1)
}

/// Bytes of so many allocations of a value.
pub(crate) const fn boxed_bytes<T>(count: usize) -> usize {
    count * (size_of::<T>() + ALLOCATION_BYTES)
}
