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
//! entries times connected peers. Operations are logarithmic in the number of entries, except [`MessageCache::gossip_ids`] (the
//! advertised windows) and [`MessageCache::disconnected`] (all entries).

use crate::id::{MessageId, PeerHandle, Topic};
use crate::message::Payload;
use std::collections::{BTreeMap, VecDeque};
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
    entries: BTreeMap<MessageId, Entry>,
    /// Ids by window, the current window first; within a window in order of arrival.
    windows: VecDeque<VecDeque<MessageId>>,
    bytes: usize,
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
        Self { config, entries: BTreeMap::new(), windows: VecDeque::from([VecDeque::new()]), bytes: 0 }
    }

    /// Keeps an accepted message in the current window. False when it is there already or can never fit.
    pub fn put(&mut self, payload: Arc<Payload>) -> bool {
        let (id, size) = (payload.id(), payload.encoded().len());
        if self.entries.contains_key(&id) || size > self.config.bytes_max {
            return false;
        }
        while self.entries.len() >= self.config.entries_max || self.bytes + size > self.config.bytes_max {
            self.evict_oldest();
        }
        self.bytes += size;
        self.entries.insert(id, Entry { payload, transmissions: Vec::new() });
        self.windows[0].push_back(id);
        true
    }

    /// The message, if it is kept.
    #[must_use]
    pub fn get(&self, id: &MessageId) -> Option<&Arc<Payload>> {
        self.entries.get(id).map(|entry| &entry.payload)
    }

    /// The message for a peer that asked for it, and how often the peer has asked, this time included.
    pub fn transmit(&mut self, id: &MessageId, peer: PeerHandle) -> Option<(Arc<Payload>, u32)> {
        let entry = self.entries.get_mut(id)?;
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
        let recent = self.windows.iter().take(self.config.gossip_windows).flatten();
        recent.filter(|id| self.entries.get(id).is_some_and(|entry| entry.payload.topic() == topic)).copied().collect()
    }

    /// Starts a new window and forgets the messages of the oldest one.
    pub fn shift(&mut self) {
        self.windows.push_front(VecDeque::new());
        while self.windows.len() > self.config.history_windows {
            for id in self.windows.pop_back().unwrap_or_default() {
                self.forget(&id);
            }
        }
    }

    /// Forgets a message. The search through its window makes this linear; it is meant for the rare message that turns out
    /// not to be worth serving.
    pub fn remove(&mut self, id: &MessageId) -> bool {
        if !self.forget(id) {
            return false;
        }
        self.windows.iter_mut().for_each(|window| window.retain(|other| other != id));
        true
    }

    /// Forgets what a peer that is gone has asked for.
    pub fn disconnected(&mut self, peer: PeerHandle) {
        for entry in self.entries.values_mut() {
            entry.transmissions.retain(|(other, _)| *other != peer);
        }
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
        let bytes: usize = self.entries.values().map(|entry| entry.payload.encoded().len()).sum();
        assert_eq!(self.bytes, bytes, "bytes equal a recount");
        let mut listed: Vec<&MessageId> = self.windows.iter().flatten().collect();
        listed.sort_unstable();
        assert!(listed.iter().copied().eq(self.entries.keys()), "each message is in exactly one window");
        for entry in self.entries.values() {
            let mut peers: Vec<PeerHandle> = entry.transmissions.iter().map(|(peer, _)| *peer).collect();
            peers.sort_unstable();
            peers.dedup();
            assert_eq!(peers.len(), entry.transmissions.len(), "one count per peer");
            assert!(entry.transmissions.iter().all(|(_, count)| *count > 0), "only transmissions are counted");
        }
    }

    fn evict_oldest(&mut self) {
        let oldest = self.windows.iter_mut().rev().find_map(VecDeque::pop_front);
        if let Some(id) = oldest {
            self.forget(&id);
        }
    }

    fn forget(&mut self, id: &MessageId) -> bool {
        let Some(entry) = self.entries.remove(id) else { return false };
        self.bytes -= entry.payload.encoded().len();
        true
    }
}
