//! The decoded form of a gossipsub RPC, and the frames that go the other way.
//!
//! [`Rpc`] is what a connection task hands to the engine after the wire limits held and the bytes decoded. [`Frame`] is one
//! item for one peer on its way out; the send queue ([`crate::send_queue`]) coalesces frames into RPCs and drops or
//! cancels them one by one, which is why an RPC is never built by the engine itself.

use crate::id::{MessageId, PeerId, Topic};
use crate::message::Payload;
use bytes::Bytes;
use std::sync::Arc;

/// A received RPC. Ids of another length than [`crate::id::MESSAGE_ID_BYTES`] cannot name a message of this network and are
/// left out by the decoder, which counts them in `foreign`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rpc {
    /// Subscriptions and their withdrawal, in order.
    pub subscriptions: Vec<Subscription>,
    /// Messages, in order.
    pub publish: Vec<Arc<Payload>>,
    /// Messages refused at decode because they carry an author, sequence number, signature or key, which StrictNoSign
    /// forbids (libp2p specs, pubsub, "Signature Policy Options"). The sender is answerable for them.
    pub publish_signed: u32,
    /// Advertised messages by topic.
    pub ihave: Vec<IHave>,
    /// Requested messages.
    pub iwant: Vec<MessageId>,
    /// Topics whose mesh the peer adds us to.
    pub graft: Vec<Topic>,
    /// Topics whose mesh the peer removes us from.
    pub prune: Vec<Prune>,
    /// Messages the peer does not want to be sent (gossipsub v1.2).
    pub idontwant: Vec<MessageId>,
    /// Ids left out because of their length.
    pub foreign_ids: u32,
}

/// A change of subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// Whether the topic is subscribed to or left.
    pub subscribe: bool,
    /// The topic.
    pub topic: Topic,
}

/// An advertisement of messages that the sender can serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IHave {
    /// The topic of all the ids.
    pub topic: Topic,
    /// The messages.
    pub ids: Vec<MessageId>,
}

/// Removal from a mesh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prune {
    /// The topic.
    pub topic: Topic,
    /// Seconds during which the receiver must not graft again; the decoder clamps it to
    /// [`crate::wire::limits::PRUNE_BACKOFF_SECONDS_MAX`]. None from a v1.0 peer.
    pub backoff_seconds: Option<u64>,
    /// Other peers of the topic, for peer exchange.
    pub peers: Vec<ExchangedPeer>,
}

/// A peer offered through peer exchange.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExchangedPeer {
    /// Whom it is about.
    pub id: PeerId,
    /// The signed envelope of the peer's own record (RFC 0003 of libp2p specs), unverified here.
    pub signed_record: Option<Bytes>,
}

/// Priority of a frame in a send queue, most urgent first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Subscriptions, GRAFT, PRUNE and IDONTWANT: small, and everything else depends on them.
    Control,
    /// Our own publications, and blocks.
    Priority,
    /// Messages forwarded over the mesh.
    Forward,
    /// Answers to IWANT.
    Reply,
    /// IHAVE and IWANT.
    Gossip,
}

/// One item for one peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// A message. `class` is one of `Priority`, `Forward` or `Reply`.
    Publish {
        /// The message, shared with every other queue.
        payload: Arc<Payload>,
        /// Where it stands in the queue.
        class: Class,
    },
    /// A change of our subscriptions.
    Subscription(Subscription),
    /// Adds the peer to our mesh.
    Graft(Topic),
    /// Removes the peer from our mesh.
    Prune(Prune),
    /// Advertises messages.
    IHave {
        /// The topic of all the ids.
        topic: Topic,
        /// The messages; shared between the peers that get the same selection.
        ids: Arc<[MessageId]>,
    },
    /// Asks for messages.
    IWant(Arc<[MessageId]>),
    /// Says that these messages need not be sent to us; shared between the peers that are told.
    IDontWant(Arc<[MessageId]>),
}

impl Frame {
    /// The class that the frame waits in.
    #[must_use]
    pub fn class(&self) -> Class {
        match self {
            Self::Publish { class, .. } => *class,
            Self::Subscription(_) | Self::Graft(_) | Self::Prune(_) | Self::IDontWant(_) => Class::Control,
            Self::IHave { .. } | Self::IWant(_) => Class::Gossip,
        }
    }
}
