//! Whether blocks arrive before their time, which tells a slow clock.
//!
//! A block whose slot has not begun by our clock is ignored without blame: either its sender's clock is fast or ours is slow. If
//! [`EARLY_MIN`] blocks in a row are early, from two peers at least, and no block was accepted in between, it is ours.
//!
//! *Rationale:* headers are judged by their slot before their signature, so anybody can make an early one. But whoever wants us to
//! doubt a clock that is right has to keep every valid block away from us: one resets the count. A node with a single peer
//! believes that one, and could do nothing about it if it lied.

use starling_protocol::id::PeerHandle;
use starling_protocol::time::Duration;

/// Blocks in a row that are reason enough.
const EARLY_MIN: u32 = 3;

/// A block this much early is taken for one of an honest producer whose clock is not quite ours.
const TOLERANCE: Duration = Duration::from_millis(500);

/// Counts blocks that arrive before their time.
#[derive(Debug, Default)]
pub(super) struct EarlyBlocks {
    in_a_row: u32,
    /// Who sent the first of them.
    first: Option<PeerHandle>,
    /// Whether somebody else sent one, too.
    several: bool,
    least: Duration,
}

impl EarlyBlocks {
    /// A block was ignored that arrived so long before its slot.
    pub(super) fn ignored(&mut self, peer: PeerHandle, early: Duration) {
        if early <= TOLERANCE {
            return;
        }
        self.least = if self.in_a_row == 0 { early } else { self.least.min(early) };
        self.in_a_row = self.in_a_row.saturating_add(1);
        self.several |= *self.first.get_or_insert(peer) != peer;
    }

    /// A block was accepted, so the clock cannot be slow; or the clock was set, and it is to be seen anew.
    pub(super) fn reset(&mut self) {
        *self = Self::default();
    }

    /// By how much our clock is slow, at least, if it is; `peers` are connected.
    pub(super) fn behind(&self, peers: usize) -> Option<Duration> {
        let reason = self.in_a_row >= EARLY_MIN && (self.several || peers == 1);
        reason.then_some(self.least)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use starling_protocol::id::HandleAllocator;

    const S: fn(u64) -> Duration = Duration::from_secs;

    #[test]
    fn early_blocks_from_several_peers_tell_a_slow_clock() {
        let mut handles = HandleAllocator::default();
        let (a, b) = (handles.allocate(), handles.allocate());
        let mut early = EarlyBlocks::default();
        early.ignored(a, S(30));
        early.ignored(a, S(25));
        early.ignored(a, S(40));
        // One peer of several may be lying, but a single one is all that there is to believe.
        assert_eq!(early.behind(2), None);
        assert_eq!(early.behind(1), Some(S(25)));
        early.ignored(b, S(31));
        assert_eq!(early.behind(2), Some(S(25)));
        early.reset();
        assert_eq!(early.behind(2), None);
        early.ignored(b, S(31));
        early.ignored(a, S(31));
        assert_eq!(early.behind(2), None, "two are chance");
    }

    #[test]
    fn small_differences_are_none() {
        let mut handles = HandleAllocator::default();
        let mut early = EarlyBlocks::default();
        for _ in 0..10 {
            early.ignored(handles.allocate(), TOLERANCE);
        }
        assert_eq!(early.behind(10), None);
    }
}
