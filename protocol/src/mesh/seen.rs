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
//! - Keys are 61-bit fingerprints: a secret number of this node plus the inner product of the id's five words with five more, modulo
//!   the prime 2^61 - 1. This hash is strongly universal (Carter and Wegman, "Universal classes of hash functions", 1979; Lemire and
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
use crate::memory::{boxed_bytes, table_bytes, tree_bytes};
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
    /// The secret numbers, below [`PRIME`]: one for each word, and the one that is added.
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
const WORD_BYTES: usize = 4;
const WORDS: usize = MESSAGE_ID_BYTES / WORD_BYTES;
const _: () = assert!(MESSAGE_ID_BYTES.is_multiple_of(WORD_BYTES));

/// The remainder of a number below 2^121.
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

    /// What the message is called in all calls about it. Computing it costs more than most of these calls.
    #[must_use]
    pub fn fingerprint(&self, id: &MessageId) -> Fingerprint {
        let [factors @ .., sum] = &self.secret;
        // Below 2^61 + 5 * 2^32 * 2^61.
        let mut sum = u128::from(*sum);
        for (bytes, factor) in id.as_bytes().chunks_exact(WORD_BYTES).zip(factors) {
            let word = bytes.first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes));
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
        if self.peek(key).is_some() || self.pending.len() >= self.config.pending_entries_max {
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

    /// See [`crate::node::Node::anticipate`].
    pub(crate) fn anticipate(&self) -> u64 {
        self.secret[0] ^ self.secret[WORDS] ^ self.accepted.len() as u64
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
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CONFIG: SeenConfig = SeenConfig {
        accepted_entries_max: 4,
        accepted_age_max: Duration::from_secs(20),
        refused_entries_max: 3,
        refused_age_max: Duration::from_secs(10),
        pending_entries_max: 3,
    };

    fn id(number: u32) -> Fingerprint {
        Fingerprint(u64::from(number))
    }

    fn cache() -> SeenCache {
        SeenCache::new(CONFIG, Stream::from_seed([7; 32]))
    }

    #[test]
    fn endless_refused_messages_never_push_an_accepted_one_out() {
        let mut cache = cache();
        cache.accept(Time::ZERO, id(0));
        for number in 1..10_000 {
            let pending = cache.insert_pending(Time::ZERO, id(number));
            assert!(pending, "a settled validation leaves room for the next");
            if number % 2 == 0 { cache.reject(Time::ZERO, id(number)) } else { cache.ignore(Time::ZERO, id(number)) }
        }
        cache.check();
        assert_eq!(cache.peek(id(0)), Some(SeenState::Accepted));
        assert_eq!(cache.peek(id(9_999)), Some(SeenState::Ignored));
        assert_eq!(cache.peek(id(9_998)), Some(SeenState::Rejected));
        assert_eq!(cache.len(), 1 + CONFIG.refused_entries_max);
    }

    #[test]
    fn nothing_pushes_out_a_message_under_validation() {
        let mut cache = cache();
        assert!((0..3).all(|number| cache.insert_pending(Time::ZERO, id(number))));
        assert!(!cache.insert_pending(Time::ZERO, id(3)), "a full table sheds the newcomer");
        for number in 10..100 {
            cache.reject(Time::ZERO, id(number));
            cache.accept(Time::ZERO, id(number + 100));
        }
        assert!((0..3).all(|number| cache.peek(id(number)) == Some(SeenState::Pending)));
        cache.forget(id(0));
        assert!(cache.insert_pending(Time::ZERO, id(3)));
        cache.expire(Time::from_secs(10));
        assert_eq!(cache.peek(id(1)), None, "without a verdict for so long it is forgotten");
        cache.check();
    }

    #[test]
    fn remainders_are_those_of_division() {
        let largest = (1 + 5 * u128::from(u32::MAX)) * u128::from(PRIME - 1);
        let prime = u128::from(PRIME);
        for value in [0, 1, prime - 1, prime, prime + 1, 2 * prime - 1, 2 * prime, 1 << 61, 1 << 92, largest] {
            assert_eq!(u128::from(modulo_prime(value)), value % prime, "{value}");
        }
    }

    /// Ids that are multiples of one another are what a remote would choose against a hash without the added number: theirs would be
    /// multiples too.
    #[test]
    fn fingerprints_of_multiples_are_no_multiples() {
        let of = |factor: u8| {
            let mut bytes = [0; MESSAGE_ID_BYTES];
            bytes[0] = factor;
            cache().fingerprint(&MessageId(bytes)).0
        };
        assert_ne!(of(0), 0);
        assert_ne!(u128::from(of(2)), u128::from(of(1)) * 2 % u128::from(PRIME));
    }

    #[test]
    fn fingerprints_depend_on_the_id_and_on_the_key() {
        let [a, b] = [1, 2].map(|first| MessageId([first; 20]));
        assert_eq!(cache().fingerprint(&a), cache().fingerprint(&a));
        assert_ne!(cache().fingerprint(&a), cache().fingerprint(&b));
        assert_ne!(cache().fingerprint(&a), SeenCache::new(CONFIG, Stream::from_seed([8; 32])).fingerprint(&a));
    }

    #[test]
    fn accepted_is_final() {
        let mut cache = cache();
        cache.accept(Time::ZERO, id(1));
        cache.reject(Time::ZERO, id(1));
        cache.ignore(Time::ZERO, id(1));
        cache.forget(id(1));
        assert!(!cache.insert_pending(Time::ZERO, id(1)));
        assert_eq!(cache.peek(id(1)), Some(SeenState::Accepted));
        cache.reject(Time::ZERO, id(2));
        cache.accept(Time::ZERO, id(2));
        assert_eq!((cache.peek(id(2)), cache.len()), (Some(SeenState::Accepted), 2));
    }

    #[test]
    fn a_message_that_is_still_going_round_stays_known() {
        let mut cache = cache();
        cache.accept(Time::ZERO, id(1));
        cache.accept(Time::ZERO, id(2));
        cache.touch(Time::from_secs(19), id(1));
        cache.expire(Time::from_secs(20));
        assert_eq!((cache.peek(id(1)), cache.peek(id(2))), (Some(SeenState::Accepted), None));
        cache.expire(Time::from_secs(39));
        assert!(cache.is_empty());
    }

    #[test]
    fn an_empty_cache_of_any_bound_allocates_nothing_for_it() {
        let config = SeenConfig { accepted_entries_max: usize::MAX, refused_entries_max: usize::MAX, ..CONFIG };
        let mut cache = SeenCache::new(config, Stream::from_seed([0; 32]));
        cache.accept(Time::MAX, id(1));
        cache.expire(Time::MAX);
        cache.check();
    }

    #[test]
    fn bounds_of_zero_are_refused() {
        SeenConfig::default().validate().expect("the defaults are valid");
        let error = SeenConfig { refused_entries_max: 0, ..CONFIG }.validate().expect_err("no room");
        assert_eq!(error, SeenConfigError::NoEntries("refused_entries_max"));
        let error = SeenConfig { accepted_age_max: Duration::ZERO, ..CONFIG }.validate().expect_err("no time");
        assert_eq!(error, SeenConfigError::NoAge("accepted_age_max"));
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Pending(u32),
        Accept(u32),
        Reject(u32),
        Ignore(u32),
        Forget(u32),
        Touch(u32),
        Pass(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        let message = 0_u32..12;
        prop_oneof![
            4 => message.clone().prop_map(Step::Pending),
            2 => message.clone().prop_map(Step::Accept),
            2 => message.clone().prop_map(Step::Reject),
            1 => message.clone().prop_map(Step::Ignore),
            1 => message.clone().prop_map(Step::Forget),
            2 => message.prop_map(Step::Touch),
            2 => (0_u64..8).prop_map(Step::Pass),
        ]
    }

    /// All that is known, in one list from the least to the most recently touched.
    #[derive(Debug, Default)]
    struct Model {
        known: Vec<(u32, SeenState, u64)>,
    }

    impl Model {
        fn state(&self, message: u32) -> Option<SeenState> {
            self.known.iter().find(|(other, ..)| *other == message).map(|(_, state, _)| *state)
        }

        fn segment_len(&self, segment: impl Fn(SeenState) -> bool) -> usize {
            self.known.iter().filter(|(_, state, _)| segment(*state)).count()
        }

        fn settle(&mut self, now_s: u64, message: u32, verdict: SeenState) {
            if self.state(message) == Some(SeenState::Accepted) && verdict != SeenState::Accepted {
                return;
            }
            self.known.retain(|(other, ..)| *other != message);
            self.known.push((message, verdict, now_s));
            let (same, most): (fn(SeenState) -> bool, usize) = match verdict {
                SeenState::Accepted => (|state| state == SeenState::Accepted, CONFIG.accepted_entries_max),
                _ => (is_refused, CONFIG.refused_entries_max),
            };
            if self.segment_len(same) > most {
                let oldest = self.known.iter().position(|(_, state, _)| same(*state)).expect("the segment is full");
                self.known.remove(oldest);
            }
        }
    }

    fn is_refused(state: SeenState) -> bool {
        matches!(state, SeenState::Rejected | SeenState::Ignored)
    }

    fn apply(step: Step, now_s: &mut u64, cache: &mut SeenCache, model: &mut Model) {
        let now = Time::from_secs(*now_s);
        match step {
            Step::Pending(message) => {
                let room = model.segment_len(|state| state == SeenState::Pending) < CONFIG.pending_entries_max;
                let expected = room && model.state(message).is_none();
                assert_eq!(cache.insert_pending(now, id(message)), expected);
                if expected {
                    model.known.push((message, SeenState::Pending, *now_s));
                }
            }
            Step::Accept(message) => {
                cache.accept(now, id(message));
                model.settle(*now_s, message, SeenState::Accepted);
            }
            Step::Reject(message) => {
                cache.reject(now, id(message));
                model.settle(*now_s, message, SeenState::Rejected);
            }
            Step::Ignore(message) => {
                cache.ignore(now, id(message));
                model.settle(*now_s, message, SeenState::Ignored);
            }
            Step::Forget(message) => {
                cache.forget(id(message));
                model.known.retain(|(other, state, _)| *other != message || *state == SeenState::Accepted);
            }
            Step::Touch(message) => {
                cache.touch(now, id(message));
                if let Some(state) = model.state(message).filter(|state| *state != SeenState::Pending) {
                    model.known.retain(|(other, ..)| *other != message);
                    model.known.push((message, state, *now_s));
                }
            }
            Step::Pass(seconds) => {
                *now_s += seconds;
                cache.expire(Time::from_secs(*now_s));
                let age_max_s = |state| if state == SeenState::Accepted { 20 } else { 10 };
                model.known.retain(|(_, state, since_s)| since_s + age_max_s(*state) > *now_s);
            }
        }
    }

    proptest! {
        #[test]
        fn the_cache_agrees_with_the_naive_model(steps in prop::collection::vec(step(), 1..200)) {
            let (mut cache, mut model, mut now_s) = (cache(), Model::default(), 0);
            for step in steps {
                apply(step, &mut now_s, &mut cache, &mut model);
                cache.check();
                for message in 0..12 {
                    prop_assert_eq!(cache.peek(id(message)), model.state(message));
                }
                prop_assert_eq!(cache.len(), model.known.len());
            }
        }
    }
}
