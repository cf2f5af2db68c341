//! What the network reports.

use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use starling_protocol::id::{Direction, PeerHandle, PeerId, Version};
use starling_protocol::peers::Address;
use starling_protocol::rpc::Rpc;
use starling_protocol::time::Time;
use starling_protocol::wire::WireError;

/// What happened on the network.
#[derive(Debug)]
pub enum NetEvent {
    /// A peer's mesh stream is open.
    Connected {
        /// Its handle until `Disconnected`.
        peer: PeerHandle,
        /// Who it is.
        id: PeerId,
        /// Its address.
        ip: IpAddr,
        /// Who dialled.
        direction: Direction,
        /// The gossipsub version agreed on.
        version: Version,
    },
    /// Of two connections with a peer one was settled on, and somebody else dialled it than was said before.
    Turned {
        /// Which.
        peer: PeerHandle,
        /// Who dialled the connection that is used now.
        direction: Direction,
    },
    /// A peer is gone.
    Disconnected {
        /// Which.
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
        /// Bytes of its frame.
        frame_bytes: usize,
    },
    /// Frames for the peer were dropped because it reads too slowly.
    SendQueueFull {
        /// Whose.
        peer: PeerHandle,
        /// How many.
        dropped: u64,
    },
    /// A frame of the peer could not be decoded.
    BadFrame {
        /// Whose.
        peer: PeerHandle,
        /// What was wrong with it.
        error: WireError,
    },
    /// A dial that was asked for did not lead to a mesh peer.
    DialFailed {
        /// Who was dialled.
        id: PeerId,
        /// Why, for logs.
        reason: String,
    },
    /// A dial that was asked for reached the peer: identify has shown that it is the one, and not of another Starling network.
    Reached {
        /// Who.
        id: PeerId,
        /// Where.
        address: Address,
    },
    /// We heard of a peer, or proved its address.
    Discovered {
        /// Who.
        id: PeerId,
        /// Where it is.
        addresses: Vec<Address>,
        /// Whether we have reached it there.
        proven: bool,
    },
    /// A peer said who it is.
    Identified {
        /// Which.
        peer: PeerHandle,
        /// What it calls itself.
        agent_version: String,
        /// Where it listens, unproven.
        addresses: Vec<Address>,
        /// Its signed record, checked to be its own.
        signed_record: Option<Bytes>,
    },
    /// A round trip was measured.
    Rtt {
        /// To whom.
        peer: PeerHandle,
        /// How long.
        rtt: Duration,
    },
    /// A peer asks about the chain; answer with [`Network::respond`](super::Network::respond) or
    /// [`Network::refuse`](super::Network::refuse).
    Request {
        /// Who asks.
        peer: PeerHandle,
        /// Names the request in the answer.
        request: InboundRequest,
        /// What it asks.
        body: Vec<u8>,
    },
    /// A peer's request is over: the answer has gone out, or cannot any more.
    Responded {
        /// Which.
        request: InboundRequest,
    },
    /// The answer to [`Network::request`](super::Network::request).
    Response {
        /// Who was asked; the handle may be void by now.
        peer: PeerHandle,
        /// As given with the request.
        ticket: u64,
        /// The answer's bytes, or why there is none.
        result: Result<Bytes, RequestError>,
    },
}

/// Names a peer's request until it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InboundRequest(pub(super) u64);

/// Why a request was not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The peer is not connected, or was lost before it answered.
    #[error("the peer is not connected; ask another one")]
    Disconnected,
    /// No answer came in time.
    #[error("the peer did not answer in time; ask another one")]
    Timeout,
    /// The peer does not serve blocks of this network.
    #[error("the peer does not speak this network's protocol for blocks; ask another one")]
    Unsupported,
    /// The stream broke, or the answer was malformed or too long.
    #[error("the answer could not be read; ask another one")]
    Broken,
}
