//! Whether so many peers turn bad at once that the fault is likely ours.
//!
//! One peer that breaks a promise or stands still is at fault, or in trouble. When most of them do so within the same second, our line is down,
//! our requests did not get out or their answers are unread (the idea of local health in Lifeguard, arXiv 1707.00788). Then
//! nobody is punished for it: deficits and broken promises are suspended as while our own heartbeat is late
//! ([`super::score::Scores::suspend_deficits`]).
//!
//! # Rules
//!
//! - A peer *turns bad* when it breaks a promise, and when it stands still in a trial ([`super::trial`]).
//! - Broken promises are charged at the next heartbeat, or when the peer leaves before. *Rationale:* the first to break one when a line goes down
//!   are no worse than the last.
//! - At a heartbeat at which half of the connected peers, and [`PEERS_MIN`] at least, have turned bad since the heartbeat before last, punishment is
//!   suspended for two heartbeats.
//! - That begins at most [`SUSPENDED_MAX`] after it began for the first time, and then not for the rest of [`EVERY`]. *Rationale:* attackers that are half of our
//!   peers can turn bad at once, too. It gains them that in ten seconds of each minute the promises that they break cost them nothing.
//! - Only punishment is suspended. Whoever is of no use leaves the mesh, and what is invalid or too much is paid for, whatever happens.
//!
//! # Limits and cost
//!
//! Only who was asked for something or tried can turn bad, so a node with many peers that it asks nothing notices nothing; six broken promises are
//! borne of everybody in any case. Two sets of slots and a count for each peer that has broken promises since the last heartbeat, which all are
//! forgotten when the peer leaves.

use super::slots::SlotSet;
use crate::id::PeerHandle;
use crate::time::{Duration, Time};
use std::collections::BTreeMap;

/// Fewer peers are no sign of anything. A guess.
pub(super) const PEERS_MIN: usize = 4;

/// For how long punishment may be suspended in [`EVERY`]. A guess: a line that is down for longer loses its connections.
pub(super) const SUSPENDED_MAX: Duration = Duration::from_secs(10);
pub(super) const EVERY: Duration = Duration::from_secs(60);

/// Who turned bad of late.
#[derive(Debug, Default)]
pub(super) struct Health {
    /// Since the last heartbeat, and between that and the one before.
    bad: [SlotSet; 2],
    /// Promises broken since the last heartbeat.
    broken: BTreeMap<PeerHandle, u32>,
    /// When punishment was suspended for the first time within [`EVERY`].
    suspended_from: Option<Time>,
}

impl Health {
    /// A peer turned bad.
    pub(super) fn turned_bad(&mut self, peer: PeerHandle) {
        self.bad[0].insert(peer.slot);
    }

    /// A peer broke so many promises.
    pub(super) fn broke(&mut self, peer: PeerHandle, count: u32) {
        self.turned_bad(peer);
        let all = self.broken.entry(peer).or_default();
        *all = all.saturating_add(count);
    }

    /// A peer is gone; gives how many promises it has broken since the last heartbeat.
    pub(super) fn disconnected(&mut self, peer: PeerHandle) -> Option<u32> {
        self.bad.iter_mut().for_each(|bad| bad.remove(peer.slot));
        self.broken.remove(&peer)
    }

    /// A heartbeat: whether so many of the connected peers turned bad that the fault is likely ours.
    pub(super) fn beat(&mut self, now: Time, connected: usize) -> bool {
        if self.bad.iter().all(|bad| *bad == SlotSet::default()) {
            return false;
        }
        let [latest, former] = &self.bad;
        let count = latest.iter().count() + former.iter().filter(|slot| !latest.contains(*slot)).count();
        self.bad.rotate_right(1);
        self.bad[0] = SlotSet::default();
        if count < PEERS_MIN || count * 2 < connected {
            return false;
        }
        let from = *self.suspended_from.get_or_insert(now);
        if now.since(from) >= EVERY {
            self.suspended_from = Some(now);
            return true;
        }
        now.since(from) <= SUSPENDED_MAX
    }

    /// The promises that were broken since the last heartbeat, in the order of peers.
    pub(super) fn take_broken(&mut self) -> impl Iterator<Item = (PeerHandle, u32)> + use<> {
        core::mem::take(&mut self.broken).into_iter()
    }

    /// Bytes that are allocated, estimated.
    pub(super) fn memory_bytes(&self) -> usize {
        crate::memory::tree_bytes::<(PeerHandle, u32)>(self.broken.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(slot: u32) -> PeerHandle {
        PeerHandle { slot, generation: 1 }
    }

    fn bad(slots: impl IntoIterator<Item = u32>) -> Health {
        let mut health = Health::default();
        slots.into_iter().for_each(|slot| health.turned_bad(peer(slot)));
        health
    }

    #[test]
    fn half_of_the_peers_are_many_and_three_are_not() {
        for (count, connected, doubts) in [(3, 3, false), (4, 4, true), (4, 8, true), (4, 9, false), (64, 128, true)] {
            let found = bad((0..count).chain(0..count)).beat(Time::ZERO, connected);
            assert_eq!(found, doubts, "{count} of {connected}");
        }
    }

    #[test]
    fn what_is_older_than_two_heartbeats_is_not_at_once() {
        let mut health = bad(0..3);
        assert!(!health.beat(Time::ZERO, 4), "three in all");
        health.turned_bad(peer(2));
        assert!(!health.beat(Time::ZERO, 4), "still three");
        health.turned_bad(peer(3));
        assert!(!health.beat(Time::ZERO, 4), "the first two have gone by");
        let mut health = bad(0..3);
        health.beat(Time::ZERO, 4);
        health.turned_bad(peer(3));
        assert!(health.beat(Time::ZERO, 4));
    }

    #[test]
    fn who_leaves_is_counted_no_more_and_pays() {
        let mut health = bad(0..3);
        health.broke(peer(3), 2);
        health.broke(peer(3), 1);
        assert_eq!((health.disconnected(peer(3)), health.disconnected(peer(2))), (Some(3), None));
        assert_eq!(health.take_broken().count(), 0);
        assert!(!health.beat(Time::ZERO, 3), "two are left");
    }

    #[test]
    fn it_is_for_ten_seconds_of_a_minute_at_most() {
        let mut health = Health::default();
        // All turn bad all the time.
        let beats: Vec<u64> = (0..3_000)
            .map(|tenth| tenth * 100)
            .filter(|ms| {
                (0..8).for_each(|slot| health.turned_bad(peer(slot)));
                health.beat(Time::from_millis(*ms), 8)
            })
            .collect();
        let most = beats.iter().map(|from| beats.iter().filter(|ms| (*from..from + 60_000).contains(ms)).count()).max();
        // Ten seconds of tenths, both ends counted.
        assert_eq!((most, beats.len()), (Some(101), 505));
    }
}
