//! Who must not be grafted on which topic, and until when (gossipsub v1.1, "Prune Backoff and Peer Exchange").
//!
//! # Rules
//!
//! - After a PRUNE in either direction, neither side grafts the other on that topic until the back-off ends.
//! - A back-off is never shortened: of two, the later end counts.
//! - A peer's own number is clamped to `duration_max`, and all arithmetic saturates. *Rationale:* a back-off near `u64::MAX`
//!   seconds crashed the rust implementation, first at parse and then at the heartbeat (CVE-2026-33040, CVE-2026-34219).
//! - We keep away from a peer for `slack` longer than agreed ([`Backoffs::forbids_grafting`]), but blame a peer only for what it
//!   does before the agreed end ([`Backoffs::violation`]). *Rationale:* clocks and latencies differ; the stricter side must be us.
//! - A back-off belongs to the peer's identity, not to its connection. *Rationale:* reconnecting, or joining a topic anew, must not
//!   end it.
//! - Who is sent away again and again without having brought anything is kept away for twice as long each time, up to a maximum
//!   ([`Backoffs::set_growing`]). That it was is remembered for as long after the end as the back-off lasted: who does its part meanwhile begins anew.
//!   *Rationale:* it takes a mesh some seconds to find out that a peer is of no use. With the same back-off each time, peers that know that come
//!   back as often as they like.
//!
//! # Limits and cost
//!
//! At most `entries_max` back-offs; beyond, the one that would be forgotten soonest is dropped. *Rationale:* a peer gets back-offs only on
//! configured topics, so filling the table takes identities, and what they push out is what would have gone first. All
//! operations are logarithmic.

use super::topic::TopicIndex;
use crate::id::PeerId;
use crate::memory::tree_bytes;
use crate::time::{Duration, Time};
use crate::wire::limits::PRUNE_BACKOFF_SECONDS_MAX;
use std::collections::{BTreeMap, BTreeSet};

/// Bounds and margins of [`Backoffs`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackoffConfig {
    /// Longest back-off that is honoured.
    pub duration_max: Duration,
    /// For how much longer than agreed we keep away.
    pub slack: Duration,
    /// A graft within this time of the prune is a flood and counts twice.
    pub flood_window: Duration,
    /// Back-offs at most.
    pub entries_max: usize,
}

impl Default for BackoffConfig {
    fn default() -> Self {
        Self {
            duration_max: Duration::from_secs(PRUNE_BACKOFF_SECONDS_MAX),
            // One heartbeat of one second, as in the rust implementation's `backoff_slack`.
            slack: Duration::from_secs(1),
            // go-libp2p-pubsub's GossipSubGraftFloodThreshold.
            flood_window: Duration::from_secs(10),
            // A guess: some 1 MB.
            entries_max: 8_192,
        }
    }
}

/// How a graft during a back-off is to be judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Violation {
    /// During the back-off.
    Early,
    /// Right after the prune.
    Flood,
}

/// The back-offs in force.
#[derive(Debug)]
pub struct Backoffs {
    config: BackoffConfig,
    entries: BTreeMap<(TopicIndex, PeerId), Backoff>,
    /// By when they are forgotten.
    by_end: BTreeSet<(Time, TopicIndex, PeerId)>,
}

#[derive(Clone, Copy, Debug)]
struct Backoff {
    pruned_at: Time,
    end: Time,
    /// The last back-off that grew; zero if none did.
    grown: Duration,
    /// Until when that is remembered; `end` at the earliest.
    known_until: Time,
}

impl Backoffs {
    /// No back-offs.
    #[must_use]
    pub fn new(config: BackoffConfig) -> Self {
        Self { config, entries: BTreeMap::new(), by_end: BTreeSet::new() }
    }

    /// A PRUNE was sent or received at `now`, and grafting is forbidden for `duration`.
    pub fn set(&mut self, now: Time, topic: TopicIndex, id: PeerId, duration: Duration) {
        let agreed = now + duration.min(self.config.duration_max);
        let known = self.remove(topic, id);
        let end = known.map_or(agreed, |known| known.end.max(agreed));
        let (grown, known_until) =
            known.map_or((Duration::ZERO, end), |known| (known.grown, known.known_until.max(end)));
        self.insert(topic, id, Backoff { pruned_at: now, end, grown, known_until });
    }

    /// As [`Backoffs::set`], for twice as long as the last time that this was called for the peer if that is remembered, for `first` if it is
    /// not, and for `most` at most. Returns for how long.
    pub fn set_growing(
        &mut self,
        now: Time,
        topic: TopicIndex,
        id: PeerId,
        first: Duration,
        most: Duration,
    ) -> Duration {
        let grown = self.entries.get(&(topic, id)).map_or(Duration::ZERO, |known| known.grown);
        let duration = grown.saturating_mul(2).max(first).min(most).min(self.config.duration_max);
        self.set(now, topic, id, duration);
        if let Some(known) = self.remove(topic, id) {
            let known_until = known.known_until.max(known.end + duration);
            self.insert(topic, id, Backoff { grown: duration, known_until, ..known });
        }
        duration
    }

    fn insert(&mut self, topic: TopicIndex, id: PeerId, backoff: Backoff) {
        self.entries.insert((topic, id), backoff);
        self.by_end.insert((backoff.known_until, topic, id));
        while self.entries.len() > self.config.entries_max {
            let Some((_, topic, id)) = self.by_end.first().copied() else { break };
            self.remove(topic, id);
        }
    }

    /// Whether we must not graft the peer, slack included.
    #[must_use]
    pub fn forbids_grafting(&self, now: Time, topic: TopicIndex, id: &PeerId) -> bool {
        self.entries.get(&(topic, *id)).is_some_and(|backoff| now < backoff.end + self.config.slack)
    }

    /// How a graft by the peer at `now` is to be judged; None when it is allowed.
    #[must_use]
    pub fn violation(&self, now: Time, topic: TopicIndex, id: &PeerId) -> Option<Violation> {
        let backoff = self.entries.get(&(topic, *id)).filter(|backoff| now < backoff.end)?;
        let flood = now < backoff.pruned_at + self.config.flood_window;
        Some(if flood { Violation::Flood } else { Violation::Early })
    }

    /// What is left of the agreed time, without slack; zero when grafting is allowed.
    #[must_use]
    pub fn remaining(&self, now: Time, topic: TopicIndex, id: &PeerId) -> Duration {
        self.entries.get(&(topic, *id)).map_or(Duration::ZERO, |backoff| backoff.end.since(now))
    }

    /// Forgets the back-offs that are over, slack included, and not to be remembered for longer.
    pub fn expire(&mut self, now: Time) {
        while let Some((end, topic, id)) = self.by_end.first().copied()
            && end + self.config.slack <= now
        {
            self.remove(topic, id);
        }
    }

    /// Bytes that are allocated, estimated.
    pub(crate) fn memory_bytes(&self) -> usize {
        tree_bytes::<((TopicIndex, PeerId), Backoff)>(self.entries.len())
            + tree_bytes::<(Time, TopicIndex, PeerId)>(self.by_end.len())
    }

    /// How many back-offs are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether none is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Recomputes and asserts every invariant.
    ///
    /// # Panics
    /// When one does not hold.
    pub fn check(&self) {
        assert!(self.entries.len() <= self.config.entries_max, "back-offs stay bounded");
        assert_eq!(self.entries.len(), self.by_end.len(), "one end per back-off");
        for ((topic, id), backoff) in &self.entries {
            assert!(self.by_end.contains(&(backoff.known_until, *topic, *id)), "every back-off ends");
            assert!(backoff.end.since(backoff.pruned_at) <= self.config.duration_max, "no back-off is too long");
            assert!(backoff.end <= backoff.known_until, "no back-off is forgotten before it ends");
            assert!(backoff.grown <= self.config.duration_max, "no back-off grows too long");
        }
    }

    fn remove(&mut self, topic: TopicIndex, id: PeerId) -> Option<Backoff> {
        let backoff = self.entries.remove(&(topic, id))?;
        self.by_end.remove(&(backoff.known_until, topic, id));
        Some(backoff)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TOPIC: TopicIndex = TopicIndex(0);
    const SECOND: Duration = Duration::from_secs(1);

    fn id(number: u64) -> PeerId {
        PeerId::from_number(number)
    }

    fn backoffs() -> Backoffs {
        Backoffs::new(BackoffConfig::default())
    }

    /// CVE-2026-33040 and CVE-2026-34219: a back-off near the end of the number range, and looking at it later.
    #[test]
    fn a_backoff_of_any_length_is_clamped_and_ends() {
        for duration in [Duration::MAX, Duration::from_secs(u64::MAX), Duration::from_secs(u64::MAX - 1)] {
            for start in [Time::ZERO, Time::from_secs(100), Time::MAX] {
                let mut backoffs = backoffs();
                backoffs.set(start, TOPIC, id(1), duration);
                backoffs.check();
                let _ = backoffs.remaining(Time::MAX, TOPIC, &id(1));
                let _ = backoffs.violation(Time::MAX, TOPIC, &id(1));
                backoffs.expire(Time::MAX);
                assert!(backoffs.is_empty());
            }
        }
        let mut backoffs = backoffs();
        backoffs.set(Time::ZERO, TOPIC, id(1), Duration::MAX);
        assert_eq!(backoffs.remaining(Time::ZERO, TOPIC, &id(1)), Duration::from_secs(3_600));
        assert!(backoffs.forbids_grafting(Time::from_secs(3_600), TOPIC, &id(1)));
        assert!(!backoffs.forbids_grafting(Time::from_secs(3_601), TOPIC, &id(1)));
    }

    #[test]
    fn we_keep_away_for_longer_than_we_blame() {
        let mut backoffs = backoffs();
        backoffs.set(Time::ZERO, TOPIC, id(1), 60 * SECOND);
        let at = |seconds| backoffs.violation(Time::from_secs(seconds), TOPIC, &id(1));
        assert_eq!([at(0), at(9)], [Some(Violation::Flood); 2]);
        assert_eq!([at(10), at(59)], [Some(Violation::Early); 2]);
        assert_eq!(at(60), None);
        assert!(backoffs.forbids_grafting(Time::from_secs(60), TOPIC, &id(1)));
        assert!(!backoffs.forbids_grafting(Time::from_secs(61), TOPIC, &id(1)));
        assert_eq!(backoffs.violation(Time::ZERO, TopicIndex(1), &id(1)), None, "other topics are free");
    }

    #[test]
    fn a_backoff_is_never_shortened() {
        let mut backoffs = backoffs();
        backoffs.set(Time::ZERO, TOPIC, id(1), 60 * SECOND);
        backoffs.set(Time::from_secs(20), TOPIC, id(1), 10 * SECOND);
        assert_eq!(backoffs.remaining(Time::from_secs(20), TOPIC, &id(1)), 40 * SECOND);
        assert_eq!(backoffs.violation(Time::from_secs(25), TOPIC, &id(1)), Some(Violation::Flood));
        backoffs.check();
    }

    #[test]
    fn a_backoff_grows_until_it_has_been_forgotten() {
        let (mut backoffs, most) = (backoffs(), 300 * SECOND);
        let mut now = Time::ZERO;
        for grown in [60, 120, 240, 300, 300] {
            assert_eq!(backoffs.set_growing(now, TOPIC, id(1), 60 * SECOND, most), grown * SECOND);
            assert_eq!(backoffs.remaining(now, TOPIC, &id(1)), grown * SECOND);
            backoffs.check();
            // An ordinary one in between changes nothing about it.
            now = now + (grown + 2) * SECOND;
            backoffs.expire(now);
            assert!(!backoffs.forbids_grafting(now, TOPIC, &id(1)));
            backoffs.set(now, TOPIC, id(1), 10 * SECOND);
            now = now + 20 * SECOND;
            backoffs.expire(now);
        }
        assert_eq!(backoffs.len(), 1, "it is remembered");
        assert_eq!(backoffs.set_growing(now, TopicIndex(1), id(1), 60 * SECOND, most), 60 * SECOND, "by topic");
        now = now + 300 * SECOND;
        backoffs.expire(now);
        assert!(backoffs.is_empty(), "for as long as it lasted");
        assert_eq!(backoffs.set_growing(now, TOPIC, id(1), 60 * SECOND, most), 60 * SECOND);
        let mut short = Backoffs::new(BackoffConfig { duration_max: 90 * SECOND, ..BackoffConfig::default() });
        short.set_growing(now, TOPIC, id(1), 60 * SECOND, most);
        assert_eq!(short.set_growing(now, TOPIC, id(1), 60 * SECOND, most), 90 * SECOND);
        short.check();
    }

    #[test]
    fn the_table_is_bounded_and_drops_what_would_have_ended_first() {
        let mut backoffs = Backoffs::new(BackoffConfig { entries_max: 10, ..BackoffConfig::default() });
        backoffs.set(Time::ZERO, TOPIC, id(1_000), 3_600 * SECOND);
        for number in 0..100 {
            backoffs.set(Time::ZERO, TOPIC, id(number), 60 * SECOND);
            backoffs.check();
        }
        assert_eq!(backoffs.len(), 10);
        assert!(backoffs.forbids_grafting(Time::from_secs(3_000), TOPIC, &id(1_000)));
    }

    proptest! {
        #[test]
        fn backoffs_agree_with_the_naive_model(
            steps in prop::collection::vec((0_u64..30, 0_u8..2, 0_u64..4, prop_oneof![0_u64..90, Just(u64::MAX)]), 1..80)
        ) {
            let mut backoffs = backoffs();
            // Every prune ever, never forgotten: topic, peer, when, until.
            let mut prunes: Vec<(u8, u64, u64, u64)> = Vec::new();
            let mut now_s = 0;
            for (pass_s, topic, peer, duration_s) in steps {
                now_s += pass_s;
                let now = Time::from_secs(now_s);
                backoffs.expire(now);
                backoffs.set(now, TopicIndex(topic), id(peer), Duration::from_secs(duration_s));
                prunes.push((topic, peer, now_s, now_s + duration_s.min(3_600)));
                backoffs.check();
                for (topic, peer) in (0..2).flat_map(|topic| (0..4).map(move |peer| (topic, peer))) {
                    let own = || prunes.iter().filter(|prune| (prune.0, prune.1) == (topic, peer));
                    let end_s = own().map(|prune| prune.3).max();
                    let pruned_s = own().map(|prune| prune.2).max().unwrap_or(0);
                    let expected = end_s.filter(|end_s| now_s < *end_s).map(|_| {
                        if now_s < pruned_s + 10 { Violation::Flood } else { Violation::Early }
                    });
                    prop_assert_eq!(backoffs.violation(now, TopicIndex(topic), &id(peer)), expected);
                    let forbidden = end_s.is_some_and(|end_s| now_s < end_s + 1);
                    prop_assert_eq!(backoffs.forbids_grafting(now, TopicIndex(topic), &id(peer)), forbidden);
                }
            }
        }
    }
}
