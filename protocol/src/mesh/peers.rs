//! The table of connected peers: one slot per peer, holding everything that the engine knows of it except its score.
//!
//! One slot rather than one map per concern, so that a disconnect clears one place and nothing of the peer is left behind.
//! Every field that a remote can grow says its bound. Access is by [`PeerHandle`]; a handle of a former occupant of the
//! slot finds nothing. Iteration is in the order of slots, which the driver's inputs determine.

use super::seen::Fingerprint;
use super::topic::TopicSet;
use crate::id::{Direction, PeerHandle, PeerId, Version};
use crate::time::{Duration, Time};
use bytes::Bytes;
use std::collections::VecDeque;
use std::net::IpAddr;

/// What the engine knows of a connected peer.
#[derive(Debug)]
pub(super) struct PeerSlot {
    pub(super) handle: PeerHandle,
    pub(super) id: PeerId,
    pub(super) ip: IpAddr,
    pub(super) direction: Direction,
    pub(super) version: Version,
    /// Whether the configuration names it as a direct peer.
    pub(super) direct: bool,
    /// Whether we asked the driver to disconnect it. From then on it sends to no one and no one sends to it.
    pub(super) closing: bool,
    /// What it is subscribed to, among the configured topics.
    pub(super) subscribed: TopicSet,
    /// Whose mesh it is in; mirrors the meshes themselves.
    pub(super) mesh: TopicSet,
    /// The last measured round-trip time.
    pub(super) rtt: Option<Duration>,
    /// Its own signed peer record; at most `ExchangeConfig::record_bytes_max` bytes.
    pub(super) record: Option<Bytes>,
    /// Messages that it does not want; at most `idontwant_ids_max` for each of `idontwant_ticks` heartbeats.
    pub(super) unwanted: Unwanted,
    /// Validations under way of messages it sent first; at most `pending_per_peer_max`.
    pub(super) pending: u32,
    /// Heartbeats in a row in which its send queue overflowed.
    pub(super) slow_ticks: u32,
    /// By topic.
    pub(super) links: Vec<TopicLink>,
    /// What it did since the last heartbeat.
    pub(super) budget: Budget,
}

/// What is remembered of a peer on one topic.
#[derive(Clone, Copy, Debug)]
pub(super) struct TopicLink {
    /// The heartbeat at which messages were last announced to it outside the mesh, or at which it connected.
    pub(super) announced_at: u64,
    /// When it last entered our mesh; the epoch when it never did.
    pub(super) grafted_at: Time,
}

/// What a peer has used up since the last heartbeat.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Budget {
    /// IHAVE announcements received.
    pub(super) ihave_messages: u32,
    /// Ids put on the list of what to ask of it.
    pub(super) asked_ids: u32,
    /// Ids in its IWANTs.
    pub(super) iwant_ids: u32,
    /// Bytes served to it.
    pub(super) served_bytes: usize,
    /// Ids in its IDONTWANTs.
    pub(super) idontwant_ids: u32,
    /// Whether its send queue overflowed.
    pub(super) overflowed: bool,
}

impl PeerSlot {
    /// Whether a message of this id should not be sent to it.
    pub(super) fn refuses(&self, key: Fingerprint) -> bool {
        self.unwanted.contains(key)
    }

    /// Whether it understands IDONTWANT.
    pub(super) fn has_idontwant(&self) -> bool {
        self.version >= Version::V1_2
    }
}

/// The messages that a peer said it does not want, by the heartbeat at which that is forgotten.
///
/// Looking through all of them is linear, and cheaper than any index for the dozens that an honest peer says; for the most that a peer
/// may say it is a microsecond.
#[derive(Debug, Default)]
pub(super) struct Unwanted {
    /// Ascending heartbeats.
    groups: VecDeque<(u64, Vec<Fingerprint>)>,
    /// The allocation of a group that was forgotten.
    spare: Vec<Fingerprint>,
}

impl Unwanted {
    /// Adds a message, to be forgotten at the heartbeat `until`, which never falls from call to call.
    pub(super) fn insert(&mut self, key: Fingerprint, until: u64) {
        match self.groups.back_mut() {
            Some((tick, keys)) if *tick == until => keys.push(key),
            _ => {
                let mut keys = core::mem::take(&mut self.spare);
                keys.push(key);
                self.groups.push_back((until, keys));
            }
        }
    }

    fn contains(&self, key: Fingerprint) -> bool {
        self.groups.iter().any(|(_, keys)| keys.contains(&key))
    }

    /// Forgets what is due at the heartbeat `tick`.
    pub(super) fn forget(&mut self, tick: u64) {
        while self.groups.front().is_some_and(|(until, _)| *until <= tick)
            && let Some((_, mut keys)) = self.groups.pop_front()
        {
            keys.clear();
            // What a flood has left behind is given back.
            self.spare = if keys.capacity() <= UNWANTED_KEPT { keys } else { Vec::new() };
        }
    }

    /// How many there are, repetitions included.
    pub(super) fn len(&self) -> usize {
        self.groups.iter().map(|(_, keys)| keys.len()).sum()
    }
}

/// An allocation for at most so many messages is kept for the next heartbeat.
const UNWANTED_KEPT: usize = 64;

/// All connected peers.
#[derive(Debug, Default)]
pub(super) struct PeerTable {
    slots: Vec<Option<PeerSlot>>,
    connected: usize,
}

impl PeerTable {
    /// The peer of this handle, if it is still the occupant of its slot.
    pub(super) fn get(&self, peer: PeerHandle) -> Option<&PeerSlot> {
        self.slots.get(peer.index())?.as_ref().filter(|slot| slot.handle == peer)
    }

    /// As [`PeerTable::get`], for changing it.
    pub(super) fn get_mut(&mut self, peer: PeerHandle) -> Option<&mut PeerSlot> {
        self.slots.get_mut(peer.index())?.as_mut().filter(|slot| slot.handle == peer)
    }

    /// The present occupant of the handle's slot, of whatever generation.
    pub(super) fn occupant(&self, peer: PeerHandle) -> Option<PeerHandle> {
        self.slots.get(peer.index())?.as_ref().map(|slot| slot.handle)
    }

    /// Puts a peer into its slot, which must be free.
    pub(super) fn insert(&mut self, slot: PeerSlot) {
        let index = slot.handle.index();
        if index >= self.slots.len() {
            self.slots.resize_with(index + 1, || None);
        }
        assert!(self.slots[index].is_none(), "slot {index} is occupied");
        self.slots[index] = Some(slot);
        self.connected += 1;
    }

    /// Takes the peer out of its slot.
    pub(super) fn remove(&mut self, peer: PeerHandle) -> Option<PeerSlot> {
        self.get(peer)?;
        self.connected -= 1;
        self.slots[peer.index()].take()
    }

    /// All peers in the order of their slots.
    pub(super) fn iter(&self) -> impl Iterator<Item = &PeerSlot> {
        self.slots.iter().flatten()
    }

    /// As [`PeerTable::iter`], for changing them.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut PeerSlot> {
        self.slots.iter_mut().flatten()
    }

    /// How many peers are connected.
    pub(super) fn len(&self) -> usize {
        self.connected
    }

    /// Asserts that the count and the slots' own handles agree with the table.
    pub(super) fn check(&self) {
        assert_eq!(self.iter().count(), self.connected, "the count of connected peers has drifted");
        for (index, slot) in self.slots.iter().enumerate() {
            if let Some(slot) = slot {
                assert_eq!(slot.handle.index(), index, "{:?} is in the wrong slot", slot.handle);
            }
        }
    }
}
