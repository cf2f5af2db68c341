//! Senders by their loads, for eviction.
//!
//! *Rationale for having it only at times:* a pool of which blocks take nearly everything is far from full, and then nobody asks who has the
//! most. Keeping the order would cost two operations on an ordered set for each transaction that comes or goes.

use super::Account;
use crate::memory::tree_bytes;
use std::collections::BTreeSet;

/// What a sender takes up of the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Load {
    /// All of it; zero when the sender has nothing here.
    pub(super) all: usize,
    /// That of its future transactions.
    pub(super) future: usize,
}

/// All senders with a load, and those with a load of future transactions, each in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Loads {
    all: BTreeSet<(usize, Account)>,
    future: BTreeSet<(usize, Account)>,
}

impl FromIterator<(Account, Load)> for Loads {
    fn from_iter<I: IntoIterator<Item = (Account, Load)>>(senders: I) -> Self {
        let mut loads = Self::default();
        for (account, load) in senders {
            loads.change(&account, Load { all: 0, future: 0 }, load);
        }
        loads
    }
}

impl Loads {
    /// A sender's load has changed.
    pub(super) fn change(&mut self, account: &Account, before: Load, now: Load) {
        for (set, before, now) in [(&mut self.all, before.all, now.all), (&mut self.future, before.future, now.future)]
        {
            if before == now {
                continue;
            }
            if before > 0 {
                set.remove(&(before, *account));
            }
            if now > 0 {
                set.insert((now, *account));
            }
        }
    }

    /// The greatest load, and whose it is: of several, the one with the greatest key.
    pub(super) fn heaviest(&self) -> Option<(usize, Account)> {
        self.all.last().copied()
    }

    /// The same in future transactions.
    pub(super) fn heaviest_future(&self) -> Option<(usize, Account)> {
        self.future.last().copied()
    }

    /// Bytes that are allocated, estimated.
    pub(super) fn memory_bytes(&self) -> usize {
        tree_bytes::<(usize, Account)>(self.all.len() + self.future.len())
    }

    /// Asserts that it is what it should be.
    pub(super) fn check(&self, senders: impl Iterator<Item = (Account, Load)>) {
        assert_eq!(*self, senders.collect(), "the index by load");
    }
}
