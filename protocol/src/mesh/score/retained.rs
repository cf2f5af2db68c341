//! What is remembered of peers that left, so that reconnecting does not wash a penalty away.
//!
//! Only penalties are kept, of peers whose score was not positive (gossipsub v1.1, "Peer Scoring": positive scores are not
//! retained). They do not decay while the peer is away and are forgotten after the retention time. The map is bounded; when
//! full, the least bad record goes first. *Rationale:* an attacker with many identities can fill the map only with records
//! that are worse than what they push out.
//!
//! Every operation is logarithmic in the number of records.

use super::config::RetentionConfig;
use crate::id::PeerId;
use crate::memory::tree_bytes;
use crate::time::Time;
use core::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

/// Penalties of a peer that left.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Record {
    /// P3b and P4 counters by topic.
    pub(super) topics: Box<[TopicPenalties]>,
    /// The P7 counter.
    pub(super) behaviour: f64,
    /// The P5 value, when negative.
    pub(super) application: f64,
    /// The score with which the peer left, to rank records.
    pub(super) score: f64,
}

impl Record {
    /// Whether there is anything to remember: a peer may leave with a negative score for its address alone.
    pub(super) fn is_a_penalty(&self) -> bool {
        self.behaviour > 0.0
            || self.application < 0.0
            || self.topics.iter().any(|topic| *topic != TopicPenalties::default())
    }
}

/// Penalty counters of one topic.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct TopicPenalties {
    pub(super) mesh_failure: f64,
    pub(super) invalid: f64,
}

/// Records by peer.
#[derive(Debug)]
pub(super) struct Retained {
    config: RetentionConfig,
    records: BTreeMap<PeerId, (Time, Record)>,
    by_expiry: BTreeSet<(Time, PeerId)>,
    by_score: BTreeSet<(OrderedScore, Time, PeerId)>,
}

impl Retained {
    /// Bytes that are allocated, estimated.
    pub(super) fn memory_bytes(&self) -> usize {
        let topics: usize = self.records.values().map(|(_, record)| record.topics.len()).sum();
        tree_bytes::<(PeerId, (Time, Record))>(self.records.len())
            + tree_bytes::<(Time, PeerId)>(self.by_expiry.len())
            + tree_bytes::<(OrderedScore, Time, PeerId)>(self.by_score.len())
            + topics * size_of::<TopicPenalties>()
    }

    pub(super) fn new(config: RetentionConfig) -> Self {
        Self { config, records: BTreeMap::new(), by_expiry: BTreeSet::new(), by_score: BTreeSet::new() }
    }

    /// Remembers a peer, in place of an earlier record of it.
    pub(super) fn insert(&mut self, now: Time, id: PeerId, record: Record) {
        self.remove(&id);
        let expires = now + self.config.duration;
        self.by_expiry.insert((expires, id));
        self.by_score.insert((OrderedScore(record.score), expires, id));
        self.records.insert(id, (expires, record));
        while self.records.len() > self.config.entries_max {
            let Some((_, _, least_bad)) = self.by_score.last().copied() else { break };
            self.remove(&least_bad);
        }
    }

    /// Takes the record of a peer that is back, unless it has expired.
    pub(super) fn take(&mut self, now: Time, id: &PeerId) -> Option<Record> {
        self.expire(now);
        self.remove(id)
    }

    /// Forgets what has expired.
    pub(super) fn expire(&mut self, now: Time) {
        while let Some((_, id)) = self.by_expiry.first().copied().filter(|(expires, _)| *expires <= now) {
            self.remove(&id);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.records.len()
    }

    pub(super) fn check(&self) {
        assert!(self.records.len() <= self.config.entries_max.max(1), "retained scores must stay bounded");
        assert_eq!(self.by_expiry.len(), self.records.len(), "one expiry per retained score");
        assert_eq!(self.by_score.len(), self.records.len(), "one rank per retained score");
        for (id, (expires, record)) in &self.records {
            assert!(record.score <= 0.0, "positive scores are not retained");
            assert!(self.by_expiry.contains(&(*expires, *id)), "every retained score expires");
            assert!(self.by_score.contains(&(OrderedScore(record.score), *expires, *id)), "every record is ranked");
        }
    }

    fn remove(&mut self, id: &PeerId) -> Option<Record> {
        let (expires, record) = self.records.remove(id)?;
        self.by_expiry.remove(&(expires, *id));
        self.by_score.remove(&(OrderedScore(record.score), expires, *id));
        Some(record)
    }
}

/// A score with the total order of IEEE 754.
#[derive(Clone, Copy, Debug)]
struct OrderedScore(f64);

impl Ord for OrderedScore {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl PartialOrd for OrderedScore {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for OrderedScore {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for OrderedScore {}
