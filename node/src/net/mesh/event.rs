//! What the mesh behaviour reports.

use std::net::IpAddr;

use libp2p::PeerId;
use starling_protocol::id::{Direction, PeerHandle, Version};
use starling_protocol::rpc::Rpc;
use starling_protocol::time::Time;
use starling_protocol::wire::WireError;

/// What happened to the mesh's streams.
#[derive(Debug)]
pub enum Event {
    /// A peer's mesh stream is open.
    Connected {
        /// Its handle until `Disconnected`.
        peer: PeerHandle,
        /// Who it is.
        id: PeerId,
        /// Its address.
        ip: IpAddr,
        /// Who dialled the connection that we write on.
        direction: Direction,
        /// What was agreed on.
        version: Version,
    },
    /// The mesh settled on another connection of an announced peer, which somebody else dialled.
    Turned {
        /// Which.
        peer: PeerHandle,
        /// Who dialled the connection that we write on now.
        direction: Direction,
    },
    /// The last connection of an announced peer is gone.
    Disconnected {
        /// Which; the handle is void from now on.
        peer: PeerHandle,
        /// Who it was.
        id: PeerId,
    },
    /// An RPC was decoded.
    Rpc {
        /// From whom.
        peer: PeerHandle,
        /// The content.
        rpc: Box<Rpc>,
        /// When it was decoded, on the clock of [`crate::clock`].
        received: Time,
        /// Bytes of its frame, without the length prefix.
        frame_bytes: usize,
    },
    /// Frames were dropped because the peer's queue was full.
    SendQueueFull {
        /// Whose.
        peer: PeerHandle,
        /// How many, since the last such event.
        dropped: u64,
    },
    /// A frame of the peer could not be decoded.
    BadFrame {
        /// Whose.
        peer: PeerHandle,
        /// What was wrong.
        error: WireError,
    },
    /// A peer is connected that speaks no version of gossipsub; it has no handle.
    Unsupported {
        /// Who.
        id: PeerId,
    },
}
