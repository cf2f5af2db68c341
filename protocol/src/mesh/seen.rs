//! Which messages have been seen, so that each is validated, delivered and forwarded once.
//!
//! # Promises
//!
//! - An id that was seen is found until it is older than its segment's maximum age, or until the segment is full and the id is
//!   the one longest untouched.
//! - **Invalid messages cannot push out accepted ones.** Accepted ids and refused ones (rejected or ignored) live in
//!   separate LRU segments. *Rationale:* a spammer can invent endless invalid messages; if they shared a segment with
//!   accepted ones, those would be forgotten and each could be brought back to life by a replay.
//! - **Nothing pushes out a message whose validation is running.** Pending ids live in a bounded table of their own, and
//!   [`SeenCache::insert_pending`] says no when it is full, which is the caller's cue to shed. *Rationale:* a pending id
//!   that were forgotten would be validated twice and delivered twice.
//! - Accepted is final: content-addressed messages do not change, so a later refusal of the same id is somebody's error.
//!
//! # Rules
//!
//! - Age counts from the last [`SeenCache::touch`], so that a message which is still going round stays known (the "last
//!   seen" strategy of go-libp2p-pubsub's time cache); every touch also makes the id the most recent one.
//!   The engine touches a message when a copy comes after what it remembers of recent messages has expired: copies within seconds of
//!   the first make no difference to an age of minutes.
//!   *Rationale:* recency order and age order are then the same, so expiry looks only at the oldest end.
//! - Keys are 61-bit fingerprints: a secret number of this node plus the inner product of the id, cut into three words of 56, 56 and 48
//!   bits, with three more, modulo the prime 2^61 - 1. This hash is strongly universal (Carter and Wegman, "Universal classes of hash functions", 1979; Lemire and
//!   Kaser, "Strongly universal string hashing is fast", 2014): for whoever does not know the numbers, the fingerprints of two
//!   different ids, however chosen, are independent and uniform, so that two ids collide with probability 2^-61, and share a place in a
//!   table no more often than random ones do. With 2^18 entries, a new message is mistaken for a seen one with probability 2^-43.
//!   *Rationale:* entries are small, and fingerprints are computed for every id of every announcement, a hundred for each message that is
//!   new; this takes a fifth of SipHash's time. *Limit:* a universal hash protects only as long as nobody sees its values. They stay in
//!   tables of this node that are looked up and never iterated for a decision; what is sent depends on them only by two being equal.
//!
//! # Limits and cost
//!
//! Look-ups are constant-time and do not disturb the order. Each insertion evicts at most one entry. Memory grows with use up to
//! the configured number of entries, at about 100 bytes each: the segments are created unbounded and evicted explicitly, because
//! `LruCache::new` allocates its whole table at once.

use crate::id::{MESSAGE_ID_BYTES, MessageId};
use crate::memory::{Fetch, boxed_bytes, table_bytes, tree_bytes};
use crate::random::Stream;
use crate::time::{Duration, Time};
use core::hash::{BuildHasherDefault, Hasher};
use lru::LruCache;
use std::collections::{BTreeMap, BTreeSet};
use thiserror::Error;

/// Bounds of a [`SeenCache`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeenConfig {
    /// Accepted ids kept at most.
    pub accepted_entries_max: usize,
    /// For how long an accepted id is kept after it was last seen.
    pub accepted_age_max: Duration,
    /// Rejected and ignored ids kept at most.
    pub refused_entries_max: usize,
    /// For how long a rejected or ignored id is kept after it was last seen, and a pending one without a verdict.
    pub refused_age_max: Duration,
    /// Ids whose validation may be running at once.
    pub pending_entries_max: usize,
}

impl Default for SeenConfig {
    fn default() -> Self {
        Self {
            // A guess: 1000 messages a second for two minutes, in some 13 MB.
            accepted_entries_max: 131_072,
            // go-libp2p-pubsub's TimeCacheDuration.
            accepted_age_max: Duration::from_secs(120),
            // A guess: an eighth of what is accepted; to forget a refusal early costs one more validation.
            refused_entries_max: 16_384,
            refused_age_max: Duration::from_secs(120),
            // A guess: a second's worth of validation on a few cores.
            pending_entries_max: 16_384,
        }
    }
}

/// Why a [`SeenConfig`] is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SeenConfigError {
    /// A bound on entries is zero.
    #[error("seen-cache bound {0} is zero, but it must be at least 1")]
    NoEntries(&'static str),
    /// A maximum age is zero.
    #[error("seen-cache age {0} is zero, but it must be longer than a message takes to cross the network")]
    NoAge(&'static str),
}

impl SeenConfig {
    /// # Errors
    /// When a bound is zero: a cache that remembers nothing lets every message circulate for ever.
    pub fn validate(&self) -> Result<(), SeenConfigError> {
        let entries = [
            ("accepted_entries_max", self.accepted_entries_max),
            ("refused_entries_max", self.refused_entries_max),
            ("pending_entries_max", self.pending_entries_max),
        ];
        if let Some((name, _)) = entries.iter().find(|(_, value)| *value == 0) {
            return Err(SeenConfigError::NoEntries(name));
        }
        let ages = [("accepted_age_max", self.accepted_age_max), ("refused_age_max", self.refused_age_max)];
        match ages.iter().find(|(_, value)| value.is_zero()) {
            Some((name, _)) => Err(SeenConfigError::NoAge(name)),
            None => Ok(()),
        }
    }
}

/// What is known of a seen message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeenState {
    /// Its validation is running.
    Pending,
    /// It was valid.
    Accepted,
    /// It was invalid in a way that its senders answer for.
    Rejected,
    /// It was dropped without blame.
    Ignored,
}

/// The seen messages.
#[derive(Debug)]
pub struct SeenCache {
    config: SeenConfig,
    /// The secret numbers, below [`PRIME`]: one for each word of an id, and the one that is added.
    secret: [u64; WORDS + 1],
    /// Value: when the entry is too old.
    accepted: LruCache<Fingerprint, Time, FingerprintHash>,
    /// Value: whether it was rejected (rather than ignored), and when the entry is too old.
    refused: LruCache<Fingerprint, (Refusal, Time), FingerprintHash>,
    /// Value: since when.
    pending: BTreeMap<Fingerprint, Time>,
    /// Pending fingerprints by age.
    pending_by_age: BTreeSet<(Time, Fingerprint)>,
}

/// What a message id is called in the tables of one node: its keyed hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(pub u64);

/// 2^61 - 1.
const PRIME: u64 = (1 << 61) - 1;
/// Words of an id, each below the prime, for which no words of eight bytes would do.
const WORDS: usize = 3;
const _: () = assert!(MESSAGE_ID_BYTES == 7 + 7 + 6);

/// The bytes of an id as numbers: seven, seven and six of them, little-endian.
fn words_of(id: &MessageId) -> [u64; WORDS] {
    /// The number in eight bytes from this place on.
    fn eight(bytes: &[u8; MESSAGE_ID_BYTES], place: usize) -> u64 {
        bytes[place..].first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
    }
    const SEVEN: u64 = (1 << 56) - 1;
    let MessageId(bytes) = id;
    [eight(bytes, 0) & SEVEN, eight(bytes, 7) & SEVEN, eight(bytes, 12) >> 16]
}

/// The remainder of a number below 2^122.
fn modulo_prime(value: u128) -> u64 {
    // 2^61 is one more than the prime, so the upper bits count as they are.
    let folded = (value & u128::from(PRIME)) + (value >> 61);
    let folded = u64::try_from(folded).expect("two numbers below 2^61");
    if folded >= PRIME { folded - PRIME } else { folded }
}

pub(super) type FingerprintHash = BuildHasherDefault<FingerprintHasher>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    Rejected,
    Ignored,
}

impl SeenCache {
    /// An empty cache. `secret` must be unpredictable to others; a seeded one makes runs repeatable.
    #[must_use]
    pub fn new(config: SeenConfig, mut secret: Stream) -> Self {
        Self {
            config,
            secret: core::array::from_fn(|_| secret.below(PRIME)),
            accepted: LruCache::unbounded_with_hasher(FingerprintHash::default()),
            refused: LruCache::unbounded_with_hasher(FingerprintHash::default()),
            pending: BTreeMap::new(),
            pending_by_age: BTreeSet::new(),
        }
    }

    /// What the message is called in all calls about it.
    #[must_use]
    #[inline]
    pub fn fingerprint(&self, id: &MessageId) -> Fingerprint {
        let [factors @ .., sum] = &self.secret;
        // Below 2^61 + 3 * 2^56 * 2^61.
        let mut sum = u128::from(*sum);
        for (word, factor) in words_of(id).into_iter().zip(factors) {
            sum += u128::from(word) * u128::from(*factor);
        }
        Fingerprint(modulo_prime(sum))
    }

    /// What is known of the message. Changes nothing.
    #[must_use]
    pub fn peek(&self, key: Fingerprint) -> Option<SeenState> {
        if self.accepted.contains(&key) {
            return Some(SeenState::Accepted);
        }
        if !self.pending.is_empty() && self.pending.contains_key(&key) {
            return Some(SeenState::Pending);
        }
        if self.refused.is_empty() {
            return None;
        }
        self.refused.peek(&key).map(|(refusal, _)| match refusal {
            Refusal::Rejected => SeenState::Rejected,
            Refusal::Ignored => SeenState::Ignored,
        })
    }

    /// A further copy arrived: the message, if known, becomes the most recent of its segment and its age starts anew. A
    /// running validation keeps its age.
    pub fn touch(&mut self, now: Time, key: Fingerprint) {
        if let Some(expires) = self.accepted.get_mut(&key) {
            *expires = now + self.config.accepted_age_max;
        } else if let Some((_, expires)) = self.refused.get_mut(&key) {
            *expires = now + self.config.refused_age_max;
        }
    }

    /// The validation of the message starts. False, and nothing changed, when it is known already or when too many
    /// validations are running.
    #[must_use = "when the table is full the message must be shed"]
    pub fn insert_pending(&mut self, now: Time, key: Fingerprint) -> bool {
        if self.pending.len() >= self.config.pending_entries_max || self.peek(key).is_some() {
            return false;
        }
        self.pending.insert(key, now);
        self.pending_by_age.insert((now, key));
        true
    }

    /// The message is valid, whatever was known of it before.
    pub fn accept(&mut self, now: Time, key: Fingerprint) {
        self.remove_pending(key);
        self.refused.pop(&key);
        self.accepted.put(key, now + self.config.accepted_age_max);
        if self.accepted.len() > self.config.accepted_entries_max {
            self.accepted.pop_lru();
        }
    }

    /// The message is invalid. Does nothing to an accepted one.
    pub fn reject(&mut self, now: Time, key: Fingerprint) {
        self.refuse(now, key, Refusal::Rejected);
    }

    /// The message was dropped without blame. Does nothing to an accepted one.
    pub fn ignore(&mut self, now: Time, key: Fingerprint) {
        self.refuse(now, key, Refusal::Ignored);
    }

    /// Forgets the message unless it was accepted, so that a later copy may try again.
    pub fn forget(&mut self, key: Fingerprint) {
        self.remove_pending(key);
        self.refused.pop(&key);
    }

    /// Forgets what is too old. Each entry is looked at once in its life, so this may be called often.
    pub fn expire(&mut self, now: Time) {
        while self.accepted.peek_lru().is_some_and(|(_, expires)| *expires <= now) {
            self.accepted.pop_lru();
        }
        while self.refused.peek_lru().is_some_and(|(_, (_, expires))| *expires <= now) {
            self.refused.pop_lru();
        }
        while let Some((since, key)) = self.pending_by_age.first().copied()
            && since + self.config.refused_age_max <= now
        {
            self.remove_pending(key);
        }
    }

    /// Has fetched what every question looks at; see [`Fetch`].
    pub(crate) fn fetch(&self, fetch: &mut impl Fetch) {
        fetch.value(&self.secret[0]);
        fetch.value(&self.secret[WORDS]);
        fetch.value(&self.accepted);
    }

    /// Bytes that are allocated, estimated.
    pub(crate) fn memory_bytes(&self) -> usize {
        // `lru` boxes each entry with two links, and keeps a table of pointers to keys and entries.
        let listed = self.accepted.len() + self.refused.len();
        boxed_bytes::<[u64; 4]>(listed)
            + table_bytes::<[u64; 2]>(listed * 4 / 3)
            + tree_bytes::<(Fingerprint, Time)>(2 * self.pending.len())
    }

    /// How many messages are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.accepted.len() + self.refused.len() + self.pending.len()
    }

    /// Whether no message is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Recomputes and asserts every invariant.
    ///
    /// # Panics
    /// When one does not hold.
    pub fn check(&self) {
        assert!(self.accepted.len() <= self.config.accepted_entries_max, "accepted ids stay bounded");
        assert!(self.refused.len() <= self.config.refused_entries_max, "refused ids stay bounded");
        assert!(self.pending.len() <= self.config.pending_entries_max, "pending ids stay bounded");
        assert_eq!(self.pending.len(), self.pending_by_age.len(), "every pending id has an age");
        for (key, since) in &self.pending {
            assert!(self.pending_by_age.contains(&(*since, *key)), "a pending id has its own age");
            assert!(!self.accepted.contains(key) && !self.refused.contains(key), "a pending id has no verdict");
        }
        for (key, _) in &self.refused {
            assert!(!self.accepted.contains(key), "an id is not both accepted and refused");
        }
        // Iteration starts at the most recent entry.
        assert!(self.accepted.iter().is_sorted_by(|(_, a), (_, b)| a >= b), "recency order is age order");
        assert!(self.refused.iter().is_sorted_by(|(_, (_, a)), (_, (_, b))| a >= b), "recency order is age order");
    }

    fn refuse(&mut self, now: Time, key: Fingerprint, refusal: Refusal) {
        self.remove_pending(key);
        if self.accepted.contains(&key) {
            return;
        }
        self.refused.put(key, (refusal, now + self.config.refused_age_max));
        if self.refused.len() > self.config.refused_entries_max {
            self.refused.pop_lru();
        }
    }

    fn remove_pending(&mut self, key: Fingerprint) {
        if let Some(since) = self.pending.remove(&key) {
            self.pending_by_age.remove(&(since, key));
        }
    }
}

/// Passes a fingerprint through, nearly: it is a keyed hash already.
#[derive(Clone, Copy, Debug, Default)]
pub struct FingerprintHasher(u64);

impl Hasher for FingerprintHasher {
    fn finish(&self) -> u64 {
        // Spreads 61 bits over all 64, of which the table looks at both ends.
        self.0.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32)
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("fingerprints are 64-bit numbers");
    }
}

#[cfg(test)]
mod tests;
