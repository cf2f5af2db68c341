//! What happens in a simulated network.

use super::parcel::Parcel;
use bytes::Bytes;
use starling_protocol::id::{PeerHandle, PeerId};
use starling_protocol::node::Ticket;
use starling_protocol::peers::DialPurpose;
use starling_protocol::store::LoadRequest;
use starling_protocol::time::Time;
use starling_protocol::verify::Outcome;
use std::rc::Rc;

/// In place of the number of a life: whoever is there.
pub(super) const ANY_LIFE: u32 = 0;

/// Something that happens. The tag is as wide as it is, and fields stand in such an order, that everything is aligned without gaps: events are
/// moved several times, and moving what is not aligned stalls the processor.
#[derive(Debug)]
#[repr(u32)]
pub(super) enum Event {
    /// The last bit of an RPC has come to the receiver's downlink.
    Arrive { node: u32, peer: PeerHandle, parcel: Rc<Parcel> },
    /// An RPC has come in whole.
    Deliver { node: u32, peer: PeerHandle, parcel: Rc<Parcel> },
    /// A line that waited for its window may go on.
    Line { node: u32, slot: u32, generation: u32 },
    /// Lines that waited for the uplink may go on.
    Uplink { node: u32 },
    /// Something is due.
    Wake { node: u32 },
    /// A signature was verified.
    Verified { node: u32, life: u32, valid: bool, ticket: u64 },
    /// The event loop is free again for what came while it was busy.
    Free { node: u32, life: u32 },
    /// Anything that happens seldom.
    Rare { node: u32, life: u32, what: Box<Rare> },
    /// The fault with this place in the scenario.
    Fault { number: u32 },
}

impl Event {
    /// See [`Rare::is_of_the_host`].
    pub(super) fn is_of_the_host(&self) -> bool {
        matches!(self, Self::Rare { what, .. } if what.is_of_the_host())
    }
}

impl Rare {
    /// Whether it happens at the host, whatever the process there does: it may be busy, or stand still.
    pub(super) fn is_of_the_host(&self) -> bool {
        matches!(self, Self::Start | Self::Body { .. } | Self::Ended { .. })
    }
}

#[derive(Debug)]
pub(super) enum Rare {
    /// The process starts.
    Start,
    /// The operator names a peer.
    Named {
        peer: u32,
    },
    /// The machine dials somebody, or goes on with it where nobody has answered.
    Dial {
        id: PeerId,
        purpose: DialPurpose,
        since: Time,
    },
    /// The handshake of a dial is done.
    Reached {
        to: u32,
        purpose: DialPurpose,
    },
    DialFailed {
        id: PeerId,
    },
    /// The wall clock of the host was set.
    Clock {
        off_us: i64,
    },
    /// The machine asks who else there is.
    Discover,
    /// The answer to that.
    Found {
        peers: Vec<u32>,
    },
    /// The first round trip on a connection is over: both ends have measured it and said who they are.
    Identified {
        peer: PeerHandle,
    },
    /// The machine ends a connection.
    HangUp {
        peer: PeerHandle,
    },
    /// The end of a connection has come to the receiver's downlink, behind all that was sent before.
    Ended {
        peer: PeerHandle,
    },
    /// The other end has ended the connection.
    Closed {
        peer: PeerHandle,
    },
    /// The last bit of a request or a response of so many bytes has come to the receiver's downlink; the sender's uplink took so long for them.
    Body {
        bytes: u64,
        sent_in_ns: u64,
        what: Box<Rare>,
    },
    /// Nothing has come through for so long that the connection counts as broken, if that is so since this cut.
    GivenUp {
        peer: PeerHandle,
        cut: u32,
    },
    Submit {
        payload_bytes: u32,
    },
    QueueFull {
        peer: PeerHandle,
        dropped: u32,
    },
    Verified {
        ticket: Ticket,
        outcome: Outcome,
    },
    Persisted {
        ticket: Ticket,
    },
    Load {
        ticket: Ticket,
        what: LoadRequest,
    },
    Loaded {
        ticket: Ticket,
        blocks: Vec<Bytes>,
    },
    Request {
        ticket: Ticket,
        peer: PeerHandle,
        body: Bytes,
    },
    Response {
        ticket: Ticket,
        body: Option<Bytes>,
    },
    RequestTimeout {
        ticket: Ticket,
    },
    /// A request of our own, by our own ticket, was not answered.
    Unanswered {
        ticket: Ticket,
    },
    Responded {
        ticket: Ticket,
    },
}

const _: () = assert!(size_of::<Event>() == 24);

impl Event {
    /// Whom it happens to, if it is one.
    pub(super) fn node(&self) -> Option<u32> {
        match self {
            Self::Arrive { node, .. }
            | Self::Deliver { node, .. }
            | Self::Line { node, .. }
            | Self::Uplink { node }
            | Self::Wake { node }
            | Self::Free { node, .. }
            | Self::Verified { node, .. }
            | Self::Rare { node, .. } => Some(*node),
            Self::Fault { .. } => None,
        }
    }
}
