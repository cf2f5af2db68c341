//! What goes into the mesh engine and what comes out.
//!
//! The engine is a state machine: `handle(now, input, sink)` mutates it and emits effects into the driver's sink;
//! `on_wake(now, sink)` does what is due; `next_wake()` says when that is. Nothing is queued inside. The surrounding
//! [`crate::node`] machine decides about validity and passes the rest through to the outer driver.

use crate::id::{Direction, MessageId, PeerHandle, PeerId, Topic, Version};
use crate::message::Payload;
use crate::rpc::{ExchangedPeer, Frame, Rpc};
use crate::time::{Duration, Time};
use bytes::Bytes;
use std::net::IpAddr;
use std::sync::Arc;

/// Names one pending validation; never reused within a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ValidationTicket(pub u64);

/// What happened to the mesh.
#[derive(Clone, Debug)]
pub enum Input<'a> {
    /// A peer's gossipsub stream is up. At most one connection of a peer is ever announced at a time.
    Connected {
        /// The handle by which the driver will refer to the peer until `Disconnected`.
        peer: PeerHandle,
        /// Who it is.
        id: PeerId,
        /// The remote address, for colocation scoring (P6).
        ip: IpAddr,
        /// Who dialled.
        direction: Direction,
        /// The negotiated protocol.
        version: Version,
    },
    /// The peer's mesh goes over another connection now, which somebody else dialled.
    Turned {
        /// Who.
        peer: PeerHandle,
        /// Who dialled.
        direction: Direction,
    },
    /// The peer is gone.
    Disconnected {
        /// Who.
        peer: PeerHandle,
    },
    /// An RPC was decoded.
    Rpc {
        /// From whom.
        peer: PeerHandle,
        /// The content.
        rpc: &'a Rpc,
        /// When it was decoded; at or before `now`.
        received: Time,
    },
    /// Publish a message of our own; it counts as accepted. Nothing happens when it was accepted before.
    Publish {
        /// The message, on any configured topic, joined or not.
        payload: Arc<Payload>,
    },
    /// Send an accepted message again, to the peers that a message of our own would go to: they may not have been there, or
    /// not in touch with others, when it was published.
    Repeat {
        /// The message.
        payload: Arc<Payload>,
    },
    /// Announce accepted messages to a peer that may lack them, and serve them for some heartbeats. Unlike others they are not announced to
    /// anybody else.
    Offer {
        /// To whom.
        peer: PeerHandle,
        /// Messages that we vouch for, all on one configured topic.
        payloads: &'a [Arc<Payload>],
    },
    /// The answer to [`Output::Validate`]. An unknown ticket (late, or already expired) is ignored.
    Verdict {
        /// Which validation.
        ticket: ValidationTicket,
        /// How it ended.
        verdict: Verdict,
    },
    /// A message that was accepted turns out to be one that honest peers may have reason to refuse: trials by it end without a verdict ([`super::trial`]).
    Disputed {
        /// Which.
        id: MessageId,
    },
    /// Join a topic.
    Subscribe {
        /// Which; must be among the configured topics.
        topic: Topic,
    },
    /// Leave a topic.
    Unsubscribe {
        /// Which.
        topic: Topic,
    },
    /// A round-trip time was measured.
    Rtt {
        /// To whom.
        peer: PeerHandle,
        /// How long.
        rtt: Duration,
    },
    /// The peer's own signed record arrived by identify; it will be offered in peer exchange.
    PeerRecord {
        /// Whose.
        peer: PeerHandle,
        /// The signed envelope, verified by the driver to be that peer's.
        signed_record: Bytes,
    },
    /// The peer's send queue was full and these frames were dropped.
    SendQueueFull {
        /// Whose queue.
        peer: PeerHandle,
        /// How many frames.
        dropped: u32,
    },
    /// A fault of the peer that the driver saw: undecodable frames, wire limits exceeded.
    Misbehaved {
        /// Who.
        peer: PeerHandle,
        /// How many behaviour penalties (P7) it costs.
        penalties: u32,
    },
}

/// How a validation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// Valid: deliver and forward.
    Accept,
    /// The same of a message that honest peers may have had long ago, or may have reason to refuse: nobody is judged by whether it brings this one
    /// ([`super::trial`]). [`Event::Validated`] says [`Verdict::Accept`].
    AcceptWithoutTrial,
    /// Neither valid nor blameworthy (expired on the way, already known in other form): drop without penalty.
    Ignore,
    /// Invalid in a way that the sender is answerable for: drop and penalise (P4).
    Reject,
    /// Dropped by our own overload: no penalty, and the id is forgotten so that a later copy may try again.
    Shed,
}

/// How the first copy of a message reached us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Arrival {
    /// Sent to us unasked.
    Pushed,
    /// Sent in answer to our IWANT.
    Pulled,
}

/// An effect for the driver.
#[derive(Clone, Debug)]
pub enum Output {
    /// Put a frame into the peer's send queue.
    Send {
        /// To whom.
        peer: PeerHandle,
        /// What.
        frame: Frame,
    },
    /// Remove what is still queued of these messages for the peer (it said IDONTWANT).
    Cancel {
        /// Whose queue.
        peer: PeerHandle,
        /// Which messages.
        ids: Vec<MessageId>,
    },
    /// Decide about a message that is seen for the first time; answer with [`Input::Verdict`].
    Validate {
        /// To be given back.
        ticket: ValidationTicket,
        /// The message.
        payload: Arc<Payload>,
        /// Who sent the first copy.
        peer: PeerHandle,
    },
    /// What these validations find is not wanted any more: their messages came from a peer that is being sent away, and from nobody else.
    /// What has not begun need not begin; a verdict changes nothing.
    Abandon {
        /// Which validations.
        tickets: Vec<ValidationTicket>,
    },
    /// A message was accepted; it is delivered to the application exactly once.
    Deliver {
        /// The message.
        payload: Arc<Payload>,
        /// Who sent the first copy.
        peer: PeerHandle,
    },
    /// Close the connection with the peer.
    Disconnect {
        /// Who.
        peer: PeerHandle,
        /// Why, for logs and events.
        reason: DisconnectReason,
    },
    /// A pruning peer with a good score offers others to dial.
    PeerExchangeCandidates {
        /// Who offers.
        peer: PeerHandle,
        /// Whom.
        candidates: Vec<ExchangedPeer>,
    },
    /// Something to be observed; nobody has to act on it.
    Event(Event),
}

/// Why a connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DisconnectReason {
    /// The score fell below the graylist threshold.
    Graylisted,
    /// A peer with too many addresses in common, or a useless one, made room.
    Evicted,
    /// The operator asked for it.
    Requested,
}

/// An observation, for traces, metrics and logs.
#[derive(Clone, Debug)]
pub enum Event {
    /// A message of our own entered the mesh.
    Published {
        /// The message.
        payload: Arc<Payload>,
    },
    /// The first copy of a message arrived.
    Arrived {
        /// The message.
        payload: Arc<Payload>,
        /// From whom.
        peer: PeerHandle,
        /// When it was decoded.
        received: Time,
        /// Pushed or pulled.
        how: Arrival,
    },
    /// A further copy of a message arrived.
    Duplicate {
        /// Which message.
        id: MessageId,
        /// Its topic.
        topic: Topic,
        /// From whom.
        peer: PeerHandle,
        /// When it was decoded.
        received: Time,
        /// Bytes of the `publish` field.
        frame_bytes: u32,
    },
    /// A validation ended.
    Validated {
        /// The message.
        payload: Arc<Payload>,
        /// Who sent the first copy.
        peer: PeerHandle,
        /// How it ended.
        verdict: Verdict,
    },
    /// The peer entered our mesh of the topic.
    Grafted {
        /// Who.
        peer: PeerHandle,
        /// Where.
        topic: Topic,
    },
    /// The peer left our mesh of the topic.
    Pruned {
        /// Who.
        peer: PeerHandle,
        /// Where.
        topic: Topic,
        /// Why.
        reason: PruneReason,
    },
    /// A heartbeat ended with this mesh degree.
    MeshDegree {
        /// Of which topic.
        topic: Topic,
        /// How many peers.
        degree: u32,
    },
}

/// Why a peer left our mesh.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PruneReason {
    /// It pruned us.
    ByPeer,
    /// The mesh had more than D_high peers.
    Excess,
    /// Its score, in all or on the topic, was negative.
    Score,
    /// Its send queue kept overflowing.
    Slow,
    /// It brought nothing, even what was left to it to bring ([`super::trial`]).
    Silent,
    /// One of the two left the topic.
    Unsubscribed,
    /// The connection ended.
    Disconnected,
}

/// Why the engine wants to be woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WakeReason {
    /// The next heartbeat is due.
    Heartbeat,
    /// A validation has taken too long.
    ValidationDeadline,
    /// An announced message is to be asked for.
    Pull,
    /// A trial of a silent peer ends.
    Trial,
}

/// Where a machine puts its effects. The sink belongs to the driver, so nothing is queued inside a machine.
pub trait Sink<T> {
    /// Takes one effect.
    fn emit(&mut self, output: T);

    /// Takes a frame for a peer: the effect that says so. The same frame often goes to many peers one after the other, so whoever needs no
    /// copy for each of them can do without.
    fn send(&mut self, peer: PeerHandle, frame: &Frame)
    where
        T: From<(PeerHandle, Frame)>,
    {
        self.emit(T::from((peer, frame.clone())));
    }

    /// Takes the wish that messages be taken out of a peer's queue: the effect that says so. Nearly always they are not there.
    fn cancel(&mut self, peer: PeerHandle, ids: &[MessageId])
    where
        T: From<(PeerHandle, Vec<MessageId>)>,
    {
        self.emit(T::from((peer, ids.to_vec())));
    }

    /// Takes the news of a further copy: the effect that says so. Most of what a mesh takes in are copies, so whoever does not keep the news
    /// can do without an effect for each of them.
    fn copied(&mut self, copy: &Copied<'_>)
    where
        T: for<'a> From<&'a Copied<'a>>,
    {
        self.emit(T::from(copy));
    }
}

/// A further copy of a message came: what [`Event::Duplicate`] says, by reference.
#[derive(Clone, Copy, Debug)]
pub struct Copied<'a> {
    /// The message.
    pub payload: &'a Payload,
    /// From whom.
    pub peer: PeerHandle,
    /// When it was decoded.
    pub received: Time,
}

impl From<&Copied<'_>> for Event {
    fn from(copy: &Copied<'_>) -> Self {
        let Copied { payload, peer, received } = *copy;
        let frame_bytes = u32::try_from(payload.encoded().len()).unwrap_or(u32::MAX);
        Self::Duplicate { id: payload.id(), topic: payload.topic().clone(), peer, received, frame_bytes }
    }
}

impl From<(PeerHandle, Vec<MessageId>)> for Output {
    fn from((peer, ids): (PeerHandle, Vec<MessageId>)) -> Self {
        Self::Cancel { peer, ids }
    }
}

impl From<&Copied<'_>> for Output {
    fn from(copy: &Copied<'_>) -> Self {
        Self::Event(copy.into())
    }
}

impl From<(PeerHandle, Frame)> for Output {
    fn from((peer, frame): (PeerHandle, Frame)) -> Self {
        Self::Send { peer, frame }
    }
}

impl<T> Sink<T> for Vec<T> {
    fn emit(&mut self, output: T) {
        self.push(output);
    }
}
