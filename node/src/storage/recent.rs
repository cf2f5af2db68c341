//! The last canonical blocks, for a node that starts: read a page at a time.
//!
//! *Rationale:* what a node needs to know again are some hundred blocks, of which it keeps the bodies of the newer half
//! only. With the largest blocks that a genesis allows, all of them at once would take gigabytes, and even with small ones
//! the memory of a node that was restarted would stay above that of one that was not.

use super::{Store, StoreError, StoredBlock};
use std::ops::RangeInclusive;

/// Blocks read in one go.
const PAGE: u64 = 8;

/// The answer of [`Store::recent_canonical`]: blocks, lowest first, or why one could not be read.
#[derive(Debug)]
pub struct RecentBlocks<'a> {
    store: &'a Store,
    heights: RangeInclusive<u64>,
    page: std::vec::IntoIter<StoredBlock>,
}

impl Store {
    /// The last `blocks_max` canonical blocks, lowest first: what a restarting node needs to know again.
    ///
    /// # Errors
    /// If the database fails. Each item, too: if a canonical block is missing from it.
    pub fn recent_canonical(&self, blocks_max: u64) -> Result<RecentBlocks<'_>, StoreError> {
        let head = self.head()?.map_or(0, |head| head.height);
        let earliest = self.earliest()?.unwrap_or(1);
        let first = head.saturating_add(1).saturating_sub(blocks_max).max(earliest);
        Ok(RecentBlocks { store: self, heights: first..=head, page: Vec::new().into_iter() })
    }
}

impl Iterator for RecentBlocks<'_> {
    type Item = Result<StoredBlock, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.page.as_slice().is_empty() && !self.heights.is_empty() {
            let (start, end) = self.heights.clone().into_inner();
            let last = start.saturating_add(PAGE - 1).min(end);
            self.heights = last + 1..=end;
            match self.store.canonical_blocks(start..=last) {
                Ok(page) => self.page = page.into_iter(),
                Err(error) => {
                    self.heights = RangeInclusive::new(1, 0);
                    return Some(Err(error));
                }
            }
        }
        self.page.next().map(Ok)
    }
}
