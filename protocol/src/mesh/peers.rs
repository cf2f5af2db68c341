//! The table of connected peers: one slot per peer, holding everything that the engine knows of it except its score.
//!
//! One slot rather than one map per concern, so that a disconnect clears one place and nothing of the peer is left behind.
//! Every field that a remote can grow says its bound. Access is by [`PeerHandle`]; a handle of a former occupant of the
//! slot finds nothing. Iteration is in the order of slots, which the driver's inputs determine.

use super::pulse::{Lived, Rhythm};
use super::topic::TopicSet;
use super::trial::Use;
use crate::id::{Direction, PeerHandle, PeerId, Version};
use crate::memory::{Fetch, boxed_bytes};
use crate::time::{Duration, Time};
use bytes::Bytes;
use std::net::IpAddr;

/// What the engine knows of a connected peer: one line of the processor's cache with all that most inputs look at, and the rest elsewhere.
#[derive(Debug)]
#[repr(align(64))]
pub(super) struct PeerSlot {
    pub(super) handle: PeerHandle,
    /// What is seldom looked at.
    pub(super) rest: Box<PeerRest>,
    /// When something came from it last.
    pub(super) heard: Lived,
    /// What it did since the last heartbeat.
    pub(super) budget: Budget,
    /// What it is subscribed to, among the configured topics.
    pub(super) subscribed: TopicSet,
    /// Whose mesh it is in; mirrors the meshes themselves.
    pub(super) mesh: TopicSet,
    /// Validations under way of messages it sent first; at most `pending_per_peer_max`.
    pub(super) pending: u32,
    /// Copies of known messages that the gater has not been told of.
    pub(super) duplicates: u32,
    /// Heartbeats in a row in which its send queue overflowed.
    pub(super) slow_ticks: u16,
    /// Whether its send queue overflowed since the last heartbeat.
    pub(super) overflowed: bool,
    /// Whether the configuration names it as a direct peer.
    pub(super) direct: bool,
    /// Whether it has announced a message of late.
    pub(super) told: Told,
    /// Whether we asked the driver to disconnect it. From then on it sends to no one and no one sends to it.
    pub(super) closing: bool,
    pub(super) direction: Direction,
    pub(super) version: Version,
}

const _: () = assert!(size_of::<Option<PeerSlot>>() == 64);

/// Whether a peer has announced a recent message that we had accepted, or that has come since then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// Since this was last asked ([`Mesh::take_told`](super::Mesh::take_told)).
    Now,
    /// In the turn before that and not since.
    Before,
    Nothing,
}

/// What is seldom looked at of a connected peer.
#[derive(Debug)]
pub(super) struct PeerRest {
    pub(super) id: PeerId,
    pub(super) ip: IpAddr,
    /// The last measured round-trip time.
    pub(super) rtt: Option<Duration>,
    /// Its own signed peer record; at most `ExchangeConfig::record_bytes_max` bytes.
    pub(super) record: Option<Bytes>,
    /// How it is heard.
    pub(super) rhythm: Rhythm,
    /// By topic.
    pub(super) links: Vec<TopicLink>,
}

/// What is remembered of a peer on one topic.
#[derive(Clone, Copy, Debug)]
pub(super) struct TopicLink {
    /// When it last entered our mesh; the epoch when it never did.
    pub(super) grafted_at: Time,
    /// When it last brought the first copy of a message that was accepted.
    pub(super) brought_at: Option<Time>,
    /// When it last brought a copy of an accepted message, the first or a further one, that we had not sent to it.
    pub(super) served_at: Option<Time>,
    /// What was known of its use when it left our mesh by itself.
    pub(super) left: Option<Use>,
    /// Whether it is in our mesh, or was last, because we asked it.
    pub(super) sought: bool,
    /// Whether a PRUNE of it may offer peers: once for each time that it enters.
    pub(super) may_offer: bool,
}

impl TopicLink {
    /// Of a peer that was never in our mesh.
    pub(super) const NEVER: Self =
        Self { grafted_at: Time::ZERO, brought_at: None, served_at: None, left: None, sought: false, may_offer: false };
}

/// What a peer has used up since the last heartbeat.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Budget {
    /// IHAVE announcements received.
    pub(super) ihave_messages: u32,
    /// Ids put on the list of what to ask of it.
    pub(super) asked_ids: u32,
    /// Ids in its IWANTs, whether or not they were looked at.
    pub(super) iwant_ids: u32,
    /// Bytes served to it, up to `u32::MAX`.
    pub(super) served_bytes: u32,
    /// Ids in its IDONTWANTs.
    pub(super) idontwant_ids: u32,
}

impl PeerSlot {
    /// Whether it understands IDONTWANT.
    pub(super) fn has_idontwant(&self) -> bool {
        self.version >= Version::V1_2
    }
}

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

    /// See [`Fetch`].
    pub(super) fn fetch(&self, peer: PeerHandle, fetch: &mut impl Fetch) {
        fetch.item(&self.slots, peer.index());
    }

    /// As [`Self::fetch`], for all peers.
    pub(super) fn fetch_all(&self, fetch: &mut impl Fetch) {
        (0..self.slots.len()).for_each(|slot| fetch.item(&self.slots, slot));
    }

    /// The present occupant of the slot.
    pub(super) fn occupant(&self, slot: u32) -> Option<PeerHandle> {
        self.slots.get(slot as usize)?.as_ref().map(|slot| slot.handle)
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

    /// Bytes that are allocated, estimated.
    pub(super) fn memory_bytes(&self) -> usize {
        let links: usize = self.iter().map(|slot| slot.rest.links.capacity() * size_of::<TopicLink>()).sum();
        let records: usize = self.iter().filter_map(|slot| slot.rest.record.as_ref()).map(Bytes::len).sum();
        self.slots.capacity() * size_of::<Option<PeerSlot>>()
            + boxed_bytes::<PeerRest>(self.connected)
            + links
            + records
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
