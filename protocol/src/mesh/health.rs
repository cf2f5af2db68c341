//! Whether so many peers turn bad at once that the fault is likely ours.
//!
//! One peer that breaks a promise or stands still is at fault, or in trouble. When most of them do so within the same second, our line is down,
//! our requests did not get out or their answers are unread (the idea of local health in Lifeguard, arXiv 1707.00788). Then
//! nobody is punished: deficits and broken promises are suspended as while our own heartbeat is late
//! ([`super::score::Scores::suspend_deficits`]).
//!
//! # Rules
//!
//! - A peer *turns bad* when it breaks a promise, and when it stands still in a trial ([`super::trial`]).
//! - If half of the connected peers, and [`PEERS_MIN`] at least, turned bad since the heartbeat before last, punishment is suspended for two
//!   heartbeats.
//! - Of each minute it is suspended for [`SUSPENDED_MAX`] at most. *Rationale:* attackers that are half of our peers can turn bad
//!   at once, too. It gains them these seconds of each minute, and a broken promise fades with a half-life of ten minutes.
//! - Only punishment is suspended. Whoever is of no use leaves the mesh, and what is invalid is paid for, whatever happens.
//!
//! # Limits and cost
//!
//! Two sets of slots. What turns bad costs a step for each word of them; a heartbeat costs nothing while nobody does.

use super::slots::SlotSet;
use crate::time::{Duration, Time, micros};

/// Fewer peers are no sign of anything. A guess.
pub(super) const PEERS_MIN: usize = 4;

/// For how long punishment may be suspended in [`EVERY`]. A guess: a line that is down for longer loses its connections.
pub(super) const SUSPENDED_MAX: Duration = Duration::from_secs(10);
const EVERY: Duration = Duration::from_secs(60);

/// Who turned bad of late.
#[derive(Debug)]
pub(super) struct Health {
    /// Since the last heartbeat, and between that and the one before.
    bad: [SlotSet; 2],
    /// For how long punishment may still be suspended, as of then.
    left: Duration,
    counted_at: Time,
    suspended_until: Time,
}

impl Health {
    pub(super) fn new(now: Time) -> Self {
        let bad = [SlotSet::default(), SlotSet::default()];
        Self { bad, left: SUSPENDED_MAX, counted_at: now, suspended_until: now }
    }

    /// A peer in this slot turned bad.
    pub(super) fn turned_bad(&mut self, slot: u32) {
        self.bad[0].insert(slot);
    }

    /// Until when punishment is to be suspended, if so many of the connected peers turned bad that the fault is likely ours.
    pub(super) fn doubt(&mut self, now: Time, connected: usize, time: Duration) -> Option<Time> {
        let (latest, former) = (&self.bad[0], &self.bad[1]);
        let count = latest.iter().count() + former.iter().filter(|slot| !latest.contains(*slot)).count();
        if count < PEERS_MIN || count * 2 < connected {
            return None;
        }
        // What was not used comes back evenly.
        let back_us = micros(now.since(self.counted_at)).saturating_mul(micros(SUSPENDED_MAX)) / micros(EVERY);
        self.left = (self.left + Duration::from_micros(back_us)).min(SUSPENDED_MAX);
        self.counted_at = now;
        let begins = self.suspended_until.max(now);
        let more = (now + time).since(begins).min(self.left);
        self.left = self.left.saturating_sub(more);
        self.suspended_until = begins + more;
        (self.suspended_until > now).then_some(self.suspended_until)
    }

    /// A heartbeat has passed.
    pub(super) fn beat(&mut self) {
        if self.bad.iter().any(|bad| *bad != SlotSet::default()) {
            self.bad.rotate_right(1);
            self.bad[0] = SlotSet::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: Duration = Duration::from_millis(1_400);

    fn bad(slots: impl IntoIterator<Item = u32>) -> Health {
        let mut health = Health::new(Time::ZERO);
        slots.into_iter().for_each(|slot| health.turned_bad(slot));
        health
    }

    #[test]
    fn half_of_the_peers_are_many_and_three_are_not() {
        let until = Some(Time::ZERO + TIME);
        for (count, connected, doubts) in [(3, 3, false), (4, 4, true), (4, 8, true), (4, 9, false), (64, 128, true)] {
            let found = bad((0..count).chain(0..count)).doubt(Time::ZERO, connected, TIME);
            assert_eq!(found, until.filter(|_| doubts), "{count} of {connected}");
        }
    }

    #[test]
    fn what_is_older_than_two_heartbeats_is_not_at_once() {
        let mut health = bad(0..3);
        health.beat();
        health.turned_bad(2);
        assert_eq!(health.doubt(Time::ZERO, 4, TIME), None, "three in all");
        health.turned_bad(3);
        assert!(health.doubt(Time::ZERO, 4, TIME).is_some());
        health.beat();
        assert_eq!(health.doubt(Time::ZERO, 4, TIME), None, "the first two have gone by");
    }

    #[test]
    fn it_is_for_ten_seconds_of_a_minute_at_most() {
        let mut health = Health::new(Time::ZERO);
        let mut suspended_ms = 0;
        let mut until = Time::ZERO;
        for ms in 0..300_000_u64 {
            let now = Time::from_millis(ms);
            if ms % 100 == 0 {
                (0..8).for_each(|slot| health.turned_bad(slot));
                until = until.max(health.doubt(now, 8, TIME).unwrap_or(until));
                health.beat();
            }
            suspended_ms += u64::from(now < until);
        }
        // What there is at first, and a sixth of the time; each of them is counted in whole milliseconds.
        assert!((58_000..=61_000).contains(&suspended_ms), "{suspended_ms} ms of five minutes");
    }
}
