//! Names of things: peers, connections' slots, messages and topics.

use core::cmp::Ordering;
use core::fmt;
use serde::{Deserialize, Serialize};
use starling_crypto::{Digest, HexError, compare};
use std::sync::Arc;

/// The longest peer id of libp2p: an identity multihash of a key of up to 42 bytes has at most this many bytes
/// (libp2p specs, peer-ids; a SHA-256 multihash has 34).
pub const PEER_ID_BYTES_MAX: usize = 48;

/// A libp2p peer id: the bytes of a multihash of the peer's public key. Ordered bytewise, copied freely.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PeerId {
    // Unused bytes are zero.
    bytes: [u8; PEER_ID_BYTES_MAX],
    len: u8,
}

impl PeerId {
    /// Takes over the multihash bytes of a peer id; `None` when there are none or more than [`PEER_ID_BYTES_MAX`].
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let len = u8::try_from(bytes.len()).ok().filter(|len| *len > 0)?;
        let mut id = Self { bytes: [0; PEER_ID_BYTES_MAX], len };
        id.bytes.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(id)
    }

    /// An id made from a number, for simulations and tests.
    #[must_use]
    pub fn from_number(number: u64) -> Self {
        let mut id = Self { bytes: [0; PEER_ID_BYTES_MAX], len: 8 };
        id.bytes[..8].copy_from_slice(&number.to_be_bytes());
        id
    }

    /// The multihash bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl PartialOrd for PeerId {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for PeerId {
    /// The content first, then the length.
    #[inline]
    fn cmp(&self, other: &Self) -> Ordering {
        compare(&self.bytes, &other.bytes).then(self.len.cmp(&other.len))
    }
}

impl fmt::Debug for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The last bytes tell peers apart best: the first ones are the multihash's header.
        let bytes = self.as_bytes();
        f.write_str("peer ")?;
        bytes[bytes.len().saturating_sub(4)..].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A connected peer, as a dense slot and the generation of its occupant.
///
/// Slots are reused after a disconnect; the generation makes a late answer about a former occupant harmless, because it
/// no longer matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerHandle {
    /// Index into dense per-peer tables.
    pub slot: u32,
    /// Counts the occupants of the slot.
    pub generation: u32,
}

impl PeerHandle {
    /// The slot as an index.
    #[must_use]
    pub fn index(self) -> usize {
        self.slot as usize
    }
}

/// Hands out [`PeerHandle`]s: the lowest free slot first, so that per-peer tables stay dense.
#[derive(Debug, Default)]
pub struct HandleAllocator {
    generations: Vec<u32>,
    free: std::collections::BTreeSet<u32>,
}

impl HandleAllocator {
    /// A handle for a newly connected peer.
    ///
    /// # Panics
    /// When `u32::MAX` peers are connected.
    pub fn allocate(&mut self) -> PeerHandle {
        if let Some(slot) = self.free.pop_first() {
            return PeerHandle { slot, generation: self.generations[slot as usize] };
        }
        let slot = u32::try_from(self.generations.len()).expect("fewer than 2^32 connected peers");
        self.generations.push(0);
        PeerHandle { slot, generation: 0 }
    }

    /// Frees the slot of a disconnected peer. A handle that is not in force is ignored.
    pub fn release(&mut self, peer: PeerHandle) {
        if let Some(generation) = self.generations.get_mut(peer.index())
            && *generation == peer.generation
            && !self.free.contains(&peer.slot)
        {
            *generation = generation.wrapping_add(1);
            self.free.insert(peer.slot);
        }
    }
}

/// Bytes of a message id.
pub const MESSAGE_ID_BYTES: usize = 20;

/// The content address of a message: see [`crate::message::Payload`] for how it is computed. All ids of a Starling
/// network have the same length; an id of another length cannot name any of its messages.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct MessageId(pub [u8; MESSAGE_ID_BYTES]);

impl MessageId {
    /// The id in these bytes, if there are exactly [`MESSAGE_ID_BYTES`].
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// The bytes as they stand on the wire.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl PartialOrd for MessageId {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for MessageId {
    #[inline]
    fn cmp(&self, other: &Self) -> Ordering {
        compare(&self.0, &other.0)
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..6].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A gossipsub topic. Cheap to clone; equality tries the pointer first, because a decoder interns known topics.
#[derive(Clone, Eq, PartialOrd, Ord)]
pub struct Topic(Arc<str>);

impl Topic {
    /// The topic of this name.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self(Arc::from(name))
    }

    /// The name as it stands on the wire.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl PartialEq for Topic {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0 == other.0
    }
}

impl core::hash::Hash for Topic {
    fn hash<H: core::hash::Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Wraps a digest in a type that says what it names, with the digest's text form (64 hex digits) and binary form (32 bytes).
macro_rules! digest_name {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Digest);

        impl $name {
            /// The 32 bytes as they stand on the wire.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; Digest::LENGTH] {
                self.0.as_bytes()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.as_bytes()[..4].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl core::str::FromStr for $name {
            type Err = HexError;

            fn from_str(text: &str) -> Result<Self, HexError> {
                text.parse().map(Self).map_err(|error: HexError| error.about($what))
            }
        }
    };
}

digest_name! {
    /// Names a network: the digest of its genesis parameters (see [`crate::genesis`]).
    NetworkId, "a network id"
}

digest_name! {
    /// Names a transaction: the digest of its body, without the signature (see [`crate::transaction`]).
    TransactionId, "a transaction id"
}

digest_name! {
    /// Names a block: the digest of its header, without the signature (see [`crate::block`]).
    BlockId, "a block id"
}

/// Which gossipsub a peer speaks on our stream (libp2p specs, pubsub/gossipsub).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// `/meshsub/1.0.0`: no peer exchange or back-off in PRUNE.
    V1_0,
    /// `/meshsub/1.1.0`: peer exchange, back-off, scoring.
    V1_1,
    /// `/meshsub/1.2.0`: IDONTWANT.
    V1_2,
}

/// Who opened a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// The peer dialled us.
    Inbound,
    /// We dialled the peer.
    Outbound,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_released_slot_comes_back_with_a_new_generation() {
        let mut handles = HandleAllocator::default();
        let first = handles.allocate();
        let second = handles.allocate();
        handles.release(first);
        handles.release(first);
        let third = handles.allocate();
        assert_eq!(third.slot, first.slot);
        assert_ne!(third, first);
        assert_eq!(handles.allocate().slot, second.slot + 1);
    }

    #[test]
    fn peer_ids_keep_their_bytes_and_refuse_impossible_lengths() {
        let bytes: Vec<u8> = (0..38).collect();
        assert_eq!(PeerId::from_bytes(&bytes).expect("38 bytes fit").as_bytes(), bytes);
        assert_eq!(PeerId::from_bytes(&[]), None);
        assert_eq!(PeerId::from_bytes(&[1; PEER_ID_BYTES_MAX + 1]), None);
    }
}
