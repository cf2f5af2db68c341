//! The message cache of gossipsub v1.0 ("Message Cache"): recent messages, to be advertised and served.
//!
//! # Rules
//!
//! - Time goes in windows; the heartbeat starts a new one with [`MessageCache::shift`]. A message stays for `history_windows`
//!   windows and is advertised during the first `gossip_windows` of them, newest first.
//! - Only accepted messages belong here: what is served is vouched for.
//! - Each peer's requests for a message are counted ([`MessageCache::transmit`]), so that the engine can refuse to send the same
//!   bytes again and again.
//! - Beyond a bound on entries or bytes the oldest message goes first. *Rationale:* its propagation is the most complete. A
//!   message larger than the whole bound is not kept.
//!
//! # Limits and cost
//!
//! Bytes are those of the encoded messages, which live once however often they are queued. Counts of requests are bounded by
//! entries times connected peers. Messages are found by the fingerprints of their ids ([`super::seen`]). Operations take constant time,
//! except [`MessageCache::gossip_ids`] (the advertised windows) and [`MessageCache::disconnected`] (all entries).

use super::seen::{Fingerprint, FingerprintHash};
use crate::id::{MessageId, PeerHandle, Topic};
use crate::memory::table_bytes;
use crate::message::Payload;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use thiserror::Error;

/// Bounds of a [`MessageCache`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheConfig {
    /// Windows (heartbeats) for which a message is served.
    pub history_windows: usize,
    /// Windows for which it is advertised; at most `history_windows`.
    pub gossip_windows: usize,
    /// Messages at most.
    pub entries_max: usize,
    /// Bytes of encoded messages at most.
    pub bytes_max: usize,
}

impl Default for CacheConfig {
    fn default() -> Self {
        Self {
            // The specification's mcache_len and mcache_gossip.
            history_windows: 5,
            gossip_windows: 3,
            // Guesses: what a node of modest size can spare.
            entries_max: 16_384,
            bytes_max: 64 << 20,
        }
    }
}

/// So many messages have room in any case.
const SPARE: usize = 32;

/// Why a [`CacheConfig`] is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum CacheConfigError {
    /// Nothing would be kept.
    #[error("message cache bound {0} is zero, but it must be at least 1")]
    Zero(&'static str),
    /// Messages would be advertised that can no longer be served.
    #[error(
        "the message cache advertises {gossip} windows but serves only {history}: lower gossip_windows or raise history_windows"
    )]
    GossipBeyondHistory {
        /// As given.
        gossip: usize,
        /// As given.
        history: usize,
    },
}

impl CacheConfig {
    /// # Errors
    /// When a bound is zero, or more windows are advertised than kept.
    pub fn validate(&self) -> Result<(), CacheConfigError> {
        let bounds = [
            ("history_windows", self.history_windows),
            ("gossip_windows", self.gossip_windows),
            ("entries_max", self.entries_max),
            ("bytes_max", self.bytes_max),
        ];
        if let Some((name, _)) = bounds.iter().find(|(_, value)| *value == 0) {
            return Err(CacheConfigError::Zero(name));
        }
        let (gossip, history) = (self.gossip_windows, self.history_windows);
        if gossip > history {
            return Err(CacheConfigError::GossipBeyondHistory { gossip, history });
        }
        Ok(())
    }
}

/// Recent messages.
#[derive(Debug)]
pub struct MessageCache {
    config: CacheConfig,
    entries: HashMap<Fingerprint, Entry, FingerprintHash>,
    /// Messages by window, the current window first; within a window in order of arrival.
    windows: VecDeque<VecDeque<Listed>>,
    /// The topics of all messages that were ever put here: as few as are configured.
    topics: Vec<Topic>,
    bytes: usize,
}

/// A message in its window, with what is asked of it when messages are announced.
#[derive(Clone, Copy, Debug)]
struct Listed {
    key: Fingerprint,
    id: MessageId,
    /// Where its topic stands among `topics`.
    topic: u32,
}

#[derive(Debug)]
struct Entry {
    payload: Arc<Payload>,
    /// How often each peer was sent the message on request.
    transmissions: Vec<(PeerHandle, u32)>,
}

impl MessageCache {
    /// An empty cache.
    #[must_use]
    pub fn new(config: CacheConfig) -> Self {
        let windows = VecDeque::from([VecDeque::new()]);
        Self { config, entries: HashMap::default(), windows, topics: Vec::new(), bytes: 0 }
    }

    /// Keeps an accepted message in the current window. False when it is there already or can never fit.
    pub fn put(&mut self, key: Fingerprint, payload: &Arc<Payload>) -> bool {
        self.put_into(0, key, payload)
    }

    /// Keeps an accepted message to be served but not advertised, if there are windows for that: in the first one that is not advertised.
    /// False when it is there already or can never fit.
    pub fn keep(&mut self, key: Fingerprint, payload: &Arc<Payload>) -> bool {
        self.put_into(self.config.gossip_windows.min(self.config.history_windows - 1), key, payload)
    }

    fn put_into(&mut self, window: usize, key: Fingerprint, payload: &Arc<Payload>) -> bool {
        let size = payload.encoded().len();
        if self.entries.contains_key(&key) || size > self.config.bytes_max {
            return false;
        }
        while self.entries.len() >= self.config.entries_max || self.bytes + size > self.config.bytes_max {
            self.evict_oldest();
        }
        self.bytes += size;
        let topic = self.number_of(payload.topic());
        self.entries.insert(key, Entry { payload: Arc::clone(payload), transmissions: Vec::new() });
        while self.windows.len() <= window {
            self.windows.push_back(VecDeque::new());
        }
        self.windows[window].push_back(Listed { key, id: payload.id(), topic });
        true
    }

    /// The message, if it is kept.
    #[must_use]
    pub fn get(&self, key: Fingerprint) -> Option<&Arc<Payload>> {
        self.entries.get(&key).map(|entry| &entry.payload)
    }

    /// The message for a peer that asked for it, and how often the peer has asked, this time included.
    pub fn transmit(&mut self, key: Fingerprint, peer: PeerHandle) -> Option<(Arc<Payload>, u32)> {
        let entry = self.entries.get_mut(&key)?;
        let count = match entry.transmissions.iter_mut().find(|(other, _)| *other == peer) {
            Some((_, count)) => {
                *count = count.saturating_add(1);
                *count
            }
            None => {
                entry.transmissions.push((peer, 1));
                1
            }
        };
        Some((Arc::clone(&entry.payload), count))
    }

    /// The ids to advertise on a topic: those of the newest `gossip_windows`, newest window first.
    #[must_use]
    pub fn gossip_ids(&self, topic: &Topic) -> Vec<MessageId> {
        let Some(topic) = self.topics.iter().zip(0..).find_map(|(name, number)| (name == topic).then_some(number))
        else {
            return Vec::new();
        };
        let recent = || self.windows.iter().take(self.config.gossip_windows);
        let mut ids = Vec::with_capacity(recent().map(VecDeque::len).sum());
        ids.extend(recent().flatten().filter(|listed| listed.topic == topic).map(|listed| listed.id));
        ids
    }

    /// Starts a new window and forgets the messages of the oldest one.
    pub fn shift(&mut self) {
        self.windows.push_front(VecDeque::new());
        while self.windows.len() > self.config.history_windows {
            for listed in self.windows.pop_back().unwrap_or_default() {
                self.forget(listed.key);
            }
        }
        // What is offered to a newcomer comes and goes at once, and its room with it.
        if self.entries.capacity() > 4 * self.entries.len() + SPARE {
            self.entries.shrink_to(2 * self.entries.len() + SPARE);
        }
    }

    /// Forgets a message. The search through its window makes this linear; it is meant for the rare message that turns out
    /// not to be worth serving.
    pub fn remove(&mut self, key: Fingerprint) -> bool {
        if !self.forget(key) {
            return false;
        }
        self.windows.iter_mut().for_each(|window| window.retain(|other| other.key != key));
        true
    }

    /// Forgets what a peer that is gone has asked for.
    pub fn disconnected(&mut self, peer: PeerHandle) {
        for Listed { key, .. } in self.windows.iter().flatten() {
            if let Some(entry) = self.entries.get_mut(key) {
                entry.transmissions.retain(|(other, _)| *other != peer);
            }
        }
    }

    /// Whether requests of the peer are still counted.
    #[must_use]
    pub fn knows(&self, peer: PeerHandle) -> bool {
        self.listed().any(|entry| entry.transmissions.iter().any(|(other, _)| *other == peer))
    }

    /// How many messages are kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether no message is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes that are allocated but for the messages, estimated.
    pub(crate) fn memory_bytes(&self) -> usize {
        let listed: usize = self.windows.iter().map(VecDeque::capacity).sum();
        let counts: usize = self.listed().map(|entry| entry.transmissions.capacity()).sum();
        table_bytes::<(Fingerprint, Entry)>(self.entries.capacity())
            + listed * size_of::<Listed>()
            + counts * size_of::<(PeerHandle, u32)>()
    }

    /// Bytes of the encoded messages that are kept.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Recomputes and asserts every invariant.
    ///
    /// # Panics
    /// When one does not hold.
    pub fn check(&self) {
        assert!(self.entries.len() <= self.config.entries_max, "cached messages stay bounded");
        assert!(self.bytes <= self.config.bytes_max, "cached bytes stay bounded");
        assert!((1..=self.config.history_windows).contains(&self.windows.len()), "there is always a current window");
        let bytes: usize = self.listed().map(|entry| entry.payload.encoded().len()).sum();
        assert_eq!(self.bytes, bytes, "bytes equal a recount");
        let listed: BTreeSet<Fingerprint> = self.windows.iter().flatten().map(|listed| listed.key).collect();
        assert_eq!(listed.len(), self.windows.iter().map(VecDeque::len).sum::<usize>(), "each message is listed once");
        assert_eq!(listed.len(), self.entries.len(), "each message is in a window");
        for Listed { key, id, topic } in self.windows.iter().flatten() {
            let payload = self.entries.get(key).map(|entry| &entry.payload).expect("what is listed is kept");
            assert_eq!(payload.id(), *id, "a message is listed under another id");
            assert_eq!(
                self.topics.get(*topic as usize),
                Some(payload.topic()),
                "a message is listed under another topic"
            );
        }
        for entry in self.listed() {
            let mut peers: Vec<PeerHandle> = entry.transmissions.iter().map(|(peer, _)| *peer).collect();
            peers.sort_unstable();
            peers.dedup();
            assert_eq!(peers.len(), entry.transmissions.len(), "one count per peer");
            assert!(entry.transmissions.iter().all(|(_, count)| *count > 0), "only transmissions are counted");
        }
    }

    /// All messages, the newest window first.
    fn listed(&self) -> impl Iterator<Item = &Entry> {
        self.windows.iter().flatten().filter_map(|listed| self.entries.get(&listed.key))
    }

    fn evict_oldest(&mut self) {
        let oldest = self.windows.iter_mut().rev().find_map(VecDeque::pop_front);
        if let Some(listed) = oldest {
            self.forget(listed.key);
        }
    }

    fn number_of(&mut self, topic: &Topic) -> u32 {
        let known = self.topics.iter().position(|name| name == topic);
        let place = known.unwrap_or_else(|| {
            self.topics.push(topic.clone());
            self.topics.len() - 1
        });
        u32::try_from(place).expect("few topics are configured")
    }

    fn forget(&mut self, key: Fingerprint) -> bool {
        let Some(entry) = self.entries.remove(&key) else { return false };
        self.bytes -= entry.payload.encoded().len();
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Of small messages there may be six, and of large ones fewer.
    const CONFIG: CacheConfig = CacheConfig { history_windows: 4, gossip_windows: 2, entries_max: 6, bytes_max: 200 };

    fn peer(slot: u32) -> PeerHandle {
        PeerHandle { slot, generation: 0 }
    }

    fn key(number: u8) -> Fingerprint {
        Fingerprint(u64::from(number))
    }

    /// Message `number` on topic "a" or "b", of ten to fifty bytes; number 11 is larger than the whole cache.
    fn message(number: u8) -> Arc<Payload> {
        let topic = Topic::new(if number.is_multiple_of(2) { "a" } else { "b" });
        let length = if number == 11 { 500 } else { 10 * (usize::from(number) % 5 + 1) };
        Payload::new(&topic, &vec![number; length])
    }

    #[test]
    fn a_message_is_advertised_for_some_windows_and_served_for_more() {
        let mut cache = MessageCache::new(CONFIG);
        let old = message(0);
        assert!(cache.put(key(0), &old));
        assert!(!cache.put(key(0), &old), "once is enough");
        cache.shift();
        let new = message(2);
        cache.put(key(2), &new);
        cache.put(key(1), &message(1));
        assert_eq!(cache.gossip_ids(&Topic::new("a")), [new.id(), old.id()], "the newest window comes first");
        cache.shift();
        assert_eq!(cache.gossip_ids(&Topic::new("a")), [new.id()]);
        cache.shift();
        assert!(cache.gossip_ids(&Topic::new("a")).is_empty());
        assert!(cache.get(key(0)).is_some() && cache.get(key(2)).is_some());
        cache.shift();
        assert!(cache.get(key(0)).is_none() && cache.get(key(2)).is_some());
        cache.check();
    }

    #[test]
    fn what_is_only_kept_is_served_and_not_advertised() {
        for (gossip_windows, lives) in [(2, 2), (4, 1)] {
            let mut cache = MessageCache::new(CacheConfig { gossip_windows, ..CONFIG });
            assert!(
                cache.keep(key(0), &message(0)) && !cache.keep(key(0), &message(0)) && !cache.put(key(0), &message(0))
            );
            assert_eq!(cache.gossip_ids(&Topic::new("a")).is_empty(), gossip_windows < 4);
            for _ in 0..lives {
                assert!(cache.get(key(0)).is_some());
                cache.check();
                cache.shift();
            }
            assert!(cache.get(key(0)).is_none());
            cache.check();
        }
    }

    #[test]
    fn requests_are_counted_by_peer_and_forgotten_with_it() {
        let mut cache = MessageCache::new(CONFIG);
        cache.put(key(0), &message(0));
        let mut ask = |slot| cache.transmit(key(0), peer(slot)).map(|(_, count)| count);
        assert_eq!([ask(0), ask(0), ask(1), ask(0)], [Some(1), Some(2), Some(1), Some(3)]);
        cache.disconnected(peer(0));
        assert_eq!(cache.transmit(key(0), peer(0)).map(|(_, count)| count), Some(1));
        assert!(cache.transmit(key(1), peer(0)).is_none());
        cache.check();
    }

    #[test]
    fn beyond_its_bounds_the_oldest_message_goes_first() {
        let mut cache = MessageCache::new(CacheConfig { bytes_max: 1_000_000, ..CONFIG });
        for number in 0..7 {
            cache.put(key(number), &message(number));
            if number == 2 {
                cache.shift();
            }
        }
        assert!(cache.get(key(0)).is_none(), "the oldest made room");
        assert!((1..7).all(|number| cache.get(key(number)).is_some()));
        assert!(cache.remove(key(3)) && !cache.remove(key(3)));
        cache.check();
        assert!(!MessageCache::new(CONFIG).put(key(11), &message(11)), "what can never fit is not kept");
    }

    #[test]
    fn contradictory_bounds_are_refused() {
        CacheConfig::default().validate().expect("the defaults are valid");
        let error = CacheConfig { gossip_windows: 6, ..CacheConfig::default() }.validate().expect_err("too long");
        assert_eq!(error, CacheConfigError::GossipBeyondHistory { gossip: 6, history: 5 });
        let error = CacheConfig { bytes_max: 0, ..CacheConfig::default() }.validate().expect_err("no room");
        assert_eq!(error, CacheConfigError::Zero("bytes_max"));
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Put(u8),
        Transmit(u8, u32),
        Remove(u8),
        Shift,
        Disconnect(u32),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0_u8..12).prop_map(Step::Put),
            3 => (0_u8..12, 0_u32..3).prop_map(|(number, slot)| Step::Transmit(number, slot)),
            1 => (0_u8..12).prop_map(Step::Remove),
            2 => Just(Step::Shift),
            1 => (0_u32..3).prop_map(Step::Disconnect),
        ]
    }

    /// Messages from oldest to newest, each with its age in windows and the requests for it.
    #[derive(Debug, Default)]
    struct Model {
        messages: Vec<(u8, usize, Vec<u32>)>,
    }

    impl Model {
        fn bytes(&self) -> usize {
            self.messages.iter().map(|(number, ..)| message(*number).encoded().len()).sum()
        }

        fn position(&self, number: u8) -> Option<usize> {
            self.messages.iter().position(|(other, ..)| *other == number)
        }

        fn gossip(&self, topic: &Topic) -> Vec<MessageId> {
            let windows = 0..CONFIG.gossip_windows;
            let of_age = |age| self.messages.iter().filter(move |(_, other, _)| *other == age);
            windows
                .flat_map(of_age)
                .map(|(number, ..)| message(*number))
                .filter(|payload| payload.topic() == topic)
                .map(|payload| payload.id())
                .collect()
        }
    }

    fn apply(step: Step, cache: &mut MessageCache, model: &mut Model) {
        match step {
            Step::Put(number) => {
                let expected = model.position(number).is_none() && number != 11;
                assert_eq!(cache.put(key(number), &message(number)), expected);
                if expected {
                    model.messages.push((number, 0, Vec::new()));
                    while model.messages.len() > CONFIG.entries_max || model.bytes() > CONFIG.bytes_max {
                        model.messages.remove(0);
                    }
                }
            }
            Step::Transmit(number, slot) => {
                let expected = model.position(number).map(|index| {
                    let requests = &mut model.messages[index].2;
                    requests.push(slot);
                    requests.iter().filter(|other| **other == slot).count()
                });
                let actual = cache.transmit(key(number), peer(slot)).map(|(_, count)| count);
                assert_eq!(actual, expected.map(|count| u32::try_from(count).expect("few requests")));
            }
            Step::Remove(number) => {
                assert_eq!(cache.remove(key(number)), model.position(number).is_some());
                model.messages.retain(|(other, ..)| *other != number);
            }
            Step::Shift => {
                cache.shift();
                model.messages.iter_mut().for_each(|(_, age, _)| *age += 1);
                model.messages.retain(|(_, age, _)| *age < CONFIG.history_windows);
            }
            Step::Disconnect(slot) => {
                cache.disconnected(peer(slot));
                model.messages.iter_mut().for_each(|(.., requests)| requests.retain(|other| *other != slot));
            }
        }
    }

    proptest! {
        #[test]
        fn the_cache_agrees_with_the_naive_model(steps in prop::collection::vec(step(), 1..120)) {
            let (mut cache, mut model) = (MessageCache::new(CONFIG), Model::default());
            for step in steps {
                apply(step, &mut cache, &mut model);
                cache.check();
                prop_assert_eq!((cache.len(), cache.bytes()), (model.messages.len(), model.bytes()));
                for number in 0..12 {
                    prop_assert_eq!(cache.get(key(number)).is_some(), model.position(number).is_some());
                }
                for topic in ["a", "b"].map(Topic::new) {
                    prop_assert_eq!(cache.gossip_ids(&topic), model.gossip(&topic));
                }
            }
        }
    }
}
