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
//! Everything takes constant time. Look-ups do not disturb the order, and one that finds nothing, which is what each new message costs, looks at
//! one line of the processor's cache. Each insertion evicts at most one entry. All segments are lists through the same slots, behind one
//! index. Memory grows with use up to the configured number of entries, at 50 to 100 bytes each.

use super::index::Index;
use crate::id::{MESSAGE_ID_BYTES, MessageId};
use crate::random::Stream;
use crate::time::{Duration, Time};
use core::hash::{BuildHasherDefault, Hasher};
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
    /// Where each message stands among the slots.
    index: Index,
    slots: Vec<Slot>,
    /// Slots without a message.
    free: Vec<u32>,
    accepted: Segment,
    refused: Segment,
    pending: Segment,
}

/// A message that was seen.
#[derive(Clone, Copy, Debug)]
struct Slot {
    key: Fingerprint,
    /// When it is too old.
    expires: Time,
    /// The slots of the next older and the next younger message of the segment; [`NONE`] at the ends.
    older: u32,
    younger: u32,
    state: SeenState,
}

const _: () = assert!(size_of::<Slot>() == 32);

/// In place of a slot.
const NONE: u32 = u32::MAX;

/// Messages in the order in which they were touched, which is that of their ages.
#[derive(Debug)]
struct Segment {
    oldest: u32,
    youngest: u32,
    len: usize,
}

impl Default for Segment {
    fn default() -> Self {
        Self { oldest: NONE, youngest: NONE, len: 0 }
    }
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

impl SeenCache {
    /// An empty cache. `secret` must be unpredictable to others; a seeded one makes runs repeatable.
    #[must_use]
    pub fn new(config: SeenConfig, mut secret: Stream) -> Self {
        Self {
            config,
            secret: core::array::from_fn(|_| secret.below(PRIME)),
            index: Index::default(),
            slots: Vec::new(),
            free: Vec::new(),
            accepted: Segment::default(),
            refused: Segment::default(),
            pending: Segment::default(),
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
        let (place, _) = self.index.find(key)?;
        Some(self.slots[place].state)
    }

    /// A further copy arrived: the message, if known, becomes the most recent of its segment and its age starts anew. A
    /// running validation keeps its age.
    pub fn touch(&mut self, now: Time, key: Fingerprint) {
        if let Some(state) = self.peek(key).filter(|state| *state != SeenState::Pending) {
            self.put(now, key, state);
        }
    }

    /// The validation of the message starts. False, and nothing changed, when it is known already or when too many
    /// validations are running.
    #[must_use = "when the table is full the message must be shed"]
    pub fn insert_pending(&mut self, now: Time, key: Fingerprint) -> bool {
        if self.pending.len >= self.config.pending_entries_max || self.peek(key).is_some() {
            return false;
        }
        self.put(now, key, SeenState::Pending);
        true
    }

    /// The message is valid, whatever was known of it before.
    pub fn accept(&mut self, now: Time, key: Fingerprint) {
        self.put(now, key, SeenState::Accepted);
        if self.accepted.len > self.config.accepted_entries_max {
            self.remove(self.accepted.oldest);
        }
    }

    /// The message is invalid. Does nothing to an accepted one.
    pub fn reject(&mut self, now: Time, key: Fingerprint) {
        self.refuse(now, key, SeenState::Rejected);
    }

    /// The message was dropped without blame. Does nothing to an accepted one.
    pub fn ignore(&mut self, now: Time, key: Fingerprint) {
        self.refuse(now, key, SeenState::Ignored);
    }

    /// Forgets the message unless it was accepted, so that a later copy may try again.
    pub fn forget(&mut self, key: Fingerprint) {
        if let Some((place, _)) = self.index.find(key)
            && self.slots[place].state != SeenState::Accepted
        {
            self.remove(number(place));
        }
    }

    /// Forgets what is too old. Each entry is looked at once in its life, so this may be called often.
    pub fn expire(&mut self, now: Time) {
        for segment in [SeenState::Accepted, SeenState::Rejected, SeenState::Pending] {
            loop {
                let oldest = self.segment(segment).oldest;
                if self.slots.get(oldest as usize).is_none_or(|slot| slot.expires > now) {
                    break;
                }
                self.remove(oldest);
            }
        }
    }

    /// See [`crate::node::Node::anticipate`].
    pub(crate) fn anticipate(&self) -> u64 {
        self.secret[0] ^ self.secret[WORDS] ^ self.index.len() as u64
    }

    /// Bytes that are allocated, estimated.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.index.memory_bytes() + self.slots.capacity() * size_of::<Slot>() + self.free.capacity() * size_of::<u32>()
    }

    /// How many messages are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.index.len()
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
        assert!(self.accepted.len <= self.config.accepted_entries_max, "accepted ids stay bounded");
        assert!(self.refused.len <= self.config.refused_entries_max, "refused ids stay bounded");
        assert!(self.pending.len <= self.config.pending_entries_max, "pending ids stay bounded");
        assert_eq!(self.index.len() + self.free.len(), self.slots.len(), "every slot is in use or free");
        let lens = self.accepted.len + self.refused.len + self.pending.len;
        assert_eq!(lens, self.index.len(), "every known id is in a segment");
        for state in [SeenState::Accepted, SeenState::Rejected, SeenState::Pending] {
            let segment = self.segment(state);
            let (mut older, mut place, mut len, mut expires) = (NONE, segment.oldest, 0, Time::ZERO);
            while let Some(slot) = self.slots.get(place as usize) {
                assert_eq!(self.index.find(slot.key), Some((place as usize, false)), "a known id is found in its slot");
                assert_eq!(slot.older, older, "the links of a segment agree");
                assert!(core::ptr::eq(self.segment(slot.state), segment), "an id is in the segment of its state");
                assert!(slot.expires >= expires, "recency order is age order");
                (older, place, len, expires) = (place, slot.younger, len + 1, slot.expires);
            }
            assert_eq!((segment.youngest, segment.len), (older, len), "a segment knows its end and its length");
        }
    }

    fn refuse(&mut self, now: Time, key: Fingerprint, state: SeenState) {
        if self.peek(key) == Some(SeenState::Accepted) {
            return;
        }
        self.put(now, key, state);
        if self.refused.len > self.config.refused_entries_max {
            self.remove(self.refused.oldest);
        }
    }

    /// Gives the message this state, and makes it the youngest of the segment.
    fn put(&mut self, now: Time, key: Fingerprint, state: SeenState) {
        let age_max = match state {
            SeenState::Accepted => self.config.accepted_age_max,
            SeenState::Pending | SeenState::Rejected | SeenState::Ignored => self.config.refused_age_max,
        };
        let place = match self.index.find(key) {
            Some((place, _)) => {
                self.unlink(place);
                place
            }
            None => self.make(key),
        };
        let older = self.segment(state).youngest;
        self.slots[place] = Slot { key, expires: now + age_max, older, younger: NONE, state };
        match self.slots.get_mut(older as usize) {
            Some(older) => older.younger = number(place),
            None => self.segment_mut(state).oldest = number(place),
        }
        let segment = self.segment_mut(state);
        segment.youngest = number(place);
        segment.len += 1;
    }

    /// A slot for a message that has none.
    fn make(&mut self, key: Fingerprint) -> usize {
        let place = self.free.pop().unwrap_or_else(|| number(self.slots.len()));
        self.index.insert(key, place);
        if place as usize == self.slots.len() {
            let (expires, state) = (Time::ZERO, SeenState::Pending);
            self.slots.push(Slot { key, expires, older: NONE, younger: NONE, state });
        }
        place as usize
    }

    /// Forgets the message in this slot.
    fn remove(&mut self, place: u32) {
        self.unlink(place as usize);
        self.index.remove(self.slots[place as usize].key);
        self.free.push(place);
    }

    /// Takes the message out of its segment.
    fn unlink(&mut self, place: usize) {
        let Slot { older, younger, state, .. } = self.slots[place];
        match self.slots.get_mut(older as usize) {
            Some(slot) => slot.younger = younger,
            None => self.segment_mut(state).oldest = younger,
        }
        match self.slots.get_mut(younger as usize) {
            Some(slot) => slot.older = older,
            None => self.segment_mut(state).youngest = older,
        }
        self.segment_mut(state).len -= 1;
    }

    fn segment(&self, state: SeenState) -> &Segment {
        match state {
            SeenState::Accepted => &self.accepted,
            SeenState::Rejected | SeenState::Ignored => &self.refused,
            SeenState::Pending => &self.pending,
        }
    }

    fn segment_mut(&mut self, state: SeenState) -> &mut Segment {
        match state {
            SeenState::Accepted => &mut self.accepted,
            SeenState::Rejected | SeenState::Ignored => &mut self.refused,
            SeenState::Pending => &mut self.pending,
        }
    }
}

/// The number of a slot.
fn number(place: usize) -> u32 {
    u32::try_from(place).expect("the configuration bounds the slots")
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
