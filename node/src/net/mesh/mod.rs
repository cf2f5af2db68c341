//! The mesh as a libp2p behaviour: gossipsub's streams, without any of its decisions.
//!
//! # What it promises
//! 1. **One peer, whatever the connections.** A peer is announced ([`Event::Connected`]) when an outbound mesh stream with
//!    it is open and it has been admitted ([`Behaviour::admit`]), and is gone ([`Event::Disconnected`]) when its last connection is.
//!    Between the two, every RPC that it sends on any of its connections is reported under one [`PeerHandle`]. Before, no frame
//!    is read from it or written to it.
//!    *Rationale:* gossipsub's protocol names are the same in every network, so the streams open before it is known whose
//!    peer it is, and a node of another network must not learn as much as the names of our topics.
//! 2. **We write on one connection of a peer and read on all.** Stock gossipsub uses the first connection and ignores a
//!    second, but which is first may differ between the two ends of simultaneous dials.
//! 3. **Of two connections the one dialled by the smaller peer id stays.** [`MeshConfig::settle_after`] the second came up, writing
//!    moves to that one; [`MeshConfig::close_after`] later the other is closed. Both ends follow the same rule at about the same time, and the
//!    wait in between lets what is on its way arrive, so nothing is lost. Of two connections in the same direction the dialler
//!    keeps the older one; the other end waits for it to do so.
//!    *Rationale:* closing at once, or refusing the second connection, lets two simultaneous dials kill each other.
//! 4. **Sending never blocks.** A frame goes into the peer's bounded queue (`starling_protocol::send_queue`) or is dropped
//!    and counted ([`Event::SendQueueFull`]). What waits survives a move from one connection to the other.
//! 5. A peer that does not read for [`MeshConfig::stall_max`], or whose streams keep breaking, loses its connection.
//!
//! Peers and connections are bounded by [`super::limits`]; per peer there are two small vectors and the queue.

mod event;
mod handler;
mod outbox;
mod protocol;
mod reader;
mod writer;

use crate::rate_limited;
use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use libp2p::core::transport::PortUse;
use libp2p::core::{ConnectedPoint, Endpoint};
use libp2p::swarm::behaviour::{ConnectionClosed, ConnectionEstablished};
use libp2p::swarm::{
    CloseConnection, ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, NotifyHandler, THandler,
    THandlerInEvent, THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId};
use starling_protocol::id::{Direction, HandleAllocator, MessageId, PeerHandle, Version};
use starling_protocol::rpc::Frame;
use starling_protocol::send_queue::{SendQueueConfig, SendQueueStats};
use starling_protocol::wire::{TopicInterner, WireLimits};
use tokio::time::{Instant, Sleep};

pub use event::Event;
pub use handler::{BAD_FRAMES_MAX, Handler, STREAM_ATTEMPTS_MAX};
use handler::{FromHandler, ToHandler};
use outbox::Outbox;
pub use protocol::{MeshUpgrade, PROTOCOLS};

/// Settings of the mesh behaviour.
#[derive(Clone, Debug)]
pub struct MeshConfig {
    /// Limits on received RPCs.
    pub wire_limits: WireLimits,
    /// Limits of each peer's send queue.
    pub send_queue: SendQueueConfig,
    /// Known topics, interned when they are decoded.
    pub topics: TopicInterner,
    /// The highest protocol version to speak.
    pub highest_version: Version,
    /// How long a stream may refuse bytes before the peer is given up.
    pub stall_max: Duration,
    /// How long after a second connection came up the mesh settles on one.
    pub settle_after: Duration,
    /// How long after that the other connection is closed.
    pub close_after: Duration,
}

impl Default for MeshConfig {
    fn default() -> Self {
        Self {
            wire_limits: WireLimits::default(),
            send_queue: SendQueueConfig::default(),
            topics: TopicInterner::default(),
            highest_version: Version::V1_2,
            // A guess: far beyond any jam that the peer will get out of.
            stall_max: Duration::from_secs(10),
            // A guess: a few round trips of a slow link, after which both ends know both connections.
            settle_after: Duration::from_secs(2),
            close_after: Duration::from_secs(3),
        }
    }
}

/// All send queues together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueTotals {
    /// Bytes that wait.
    pub bytes: usize,
    /// Bytes that wait in the fullest queue.
    pub largest_bytes: usize,
    /// What the queues have done since the start, those of departed peers included.
    pub stats: SendQueueStats,
}

/// Bytes of mesh frames, shared by all connections.
#[derive(Debug, Default)]
pub struct MeshCounters {
    read_bytes: AtomicU64,
    read_frames: AtomicU64,
    written_bytes: AtomicU64,
    written_frames: AtomicU64,
}

impl MeshCounters {
    /// Bytes of decoded frames, without length prefixes.
    #[must_use]
    pub fn read_bytes(&self) -> u64 {
        self.read_bytes.load(Ordering::Relaxed)
    }

    /// Decoded frames.
    #[must_use]
    pub fn read_frames(&self) -> u64 {
        self.read_frames.load(Ordering::Relaxed)
    }

    /// Bytes of frames begun to be written, with length prefixes.
    #[must_use]
    pub fn written_bytes(&self) -> u64 {
        self.written_bytes.load(Ordering::Relaxed)
    }

    /// Frames begun to be written.
    #[must_use]
    pub fn written_frames(&self) -> u64 {
        self.written_frames.load(Ordering::Relaxed)
    }

    fn add_read(&self, bytes: usize) {
        self.read_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.read_frames.fetch_add(1, Ordering::Relaxed);
    }

    fn add_written(&self, bytes: usize) {
        self.written_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.written_frames.fetch_add(1, Ordering::Relaxed);
    }
}

/// What all handlers share.
#[derive(Debug)]
struct Shared {
    wire_limits: WireLimits,
    topics: TopicInterner,
    highest_version: Version,
    stall_max: Duration,
    counters: Arc<MeshCounters>,
}

/// The behaviour; see the module documentation.
pub struct Behaviour {
    own: PeerId,
    send_queue: SendQueueConfig,
    settle_after: Duration,
    close_after: Duration,
    shared: Arc<Shared>,
    handles: HandleAllocator,
    /// By slot.
    peers: Vec<Option<Peer>>,
    /// Looked up, never iterated.
    slots: HashMap<PeerId, u32>,
    /// Peers with more than one connection, by the time at which something is to be done about it.
    unsettled: VecDeque<(Instant, PeerHandle, Step)>,
    timer: Option<Pin<Box<Sleep>>>,
    outputs: VecDeque<ToSwarm<Event, ToHandler>>,
    /// What the queues of departed peers did.
    departed: SendQueueStats,
}

#[derive(Debug)]
struct Peer {
    id: PeerId,
    handle: PeerHandle,
    /// Oldest first.
    connections: Vec<Connection>,
    /// The connection that we write on.
    active: ConnectionId,
    /// What was agreed on for the latest mesh stream that opened.
    opened: Option<Version>,
    admitted: bool,
    announced: bool,
    outbox: Arc<Outbox>,
    /// Bytes of decoded frames that it sent.
    read_bytes: u64,
    /// Frames dropped since the last report.
    dropped: u64,
}

#[derive(Clone, Debug)]
struct Connection {
    id: ConnectionId,
    direction: Direction,
    ip: IpAddr,
    address: Multiaddr,
}

/// What is to be done about a second connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Settle,
    Close,
}

impl Behaviour {
    /// No peers yet.
    #[must_use]
    pub fn new(own: PeerId, config: MeshConfig) -> Self {
        Self {
            own,
            send_queue: config.send_queue,
            settle_after: config.settle_after,
            close_after: config.close_after,
            shared: Arc::new(Shared {
                wire_limits: config.wire_limits,
                topics: config.topics,
                highest_version: config.highest_version,
                stall_max: config.stall_max,
                counters: Arc::default(),
            }),
            handles: HandleAllocator::default(),
            peers: Vec::new(),
            slots: HashMap::new(),
            unsettled: VecDeque::new(),
            timer: None,
            outputs: VecDeque::new(),
            departed: SendQueueStats::default(),
        }
    }

    /// Puts a frame into the peer's send queue. A handle that is not in force is ignored.
    pub fn send(&mut self, peer: PeerHandle, frame: Frame) {
        let Some(known) = self.peer_mut(peer) else { return };
        let dropped = known.outbox.push(frame);
        if dropped > 0 {
            let unreported = known.dropped > 0;
            known.dropped += dropped;
            if !unreported {
                // The number is filled in when the event goes out, so that a burst is one event.
                self.outputs.push_back(ToSwarm::GenerateEvent(Event::SendQueueFull { peer, dropped: 0 }));
            }
        }
    }

    /// Removes what is still queued of these messages for the peer.
    pub fn cancel(&mut self, peer: PeerHandle, ids: &[MessageId]) {
        if let Some(known) = self.peer_mut(peer) {
            known.outbox.cancel(ids);
        }
    }

    /// Closes all connections with the peer; `Disconnected` follows.
    pub fn disconnect(&mut self, peer: PeerHandle) {
        if let Some(known) = self.peer_mut(peer) {
            let peer_id = known.id;
            self.outputs.push_back(ToSwarm::CloseConnection { peer_id, connection: CloseConnection::All });
        }
    }

    /// Lets a connected peer into the mesh: it belongs to this network, or to none that we know of.
    pub fn admit(&mut self, id: &PeerId) {
        let Some(slot) = self.slots.get(id).copied() else { return };
        let Some(peer) = &mut self.peers[slot as usize] else { return };
        peer.admitted = true;
        self.announce(slot);
    }

    /// Whether this peer has been admitted.
    #[must_use]
    pub fn is_admitted(&self, id: &PeerId) -> bool {
        self.peer_by_id(id).is_some_and(|peer| peer.admitted)
    }

    /// The announced peer of this id.
    #[must_use]
    pub fn handle_of(&self, id: &PeerId) -> Option<PeerHandle> {
        let known = self.peer_by_id(id)?;
        known.announced.then_some(known.handle)
    }

    /// The id of an announced peer.
    #[must_use]
    pub fn id_of(&self, peer: PeerHandle) -> Option<PeerId> {
        let known = self.peers.get(peer.index())?.as_ref()?;
        (known.handle == peer && known.announced).then_some(known.id)
    }

    /// The other end of the connection that we write on.
    #[must_use]
    pub fn remote_address(&self, peer: PeerHandle) -> Option<&Multiaddr> {
        let known = self.peers.get(peer.index())?.as_ref().filter(|known| known.handle == peer)?;
        known.connections.iter().find(|connection| connection.id == known.active).map(|active| &active.address)
    }

    /// Bytes waiting for the peer and what its queue has done so far.
    #[must_use]
    pub fn queue_stats(&self, peer: PeerHandle) -> Option<(usize, SendQueueStats)> {
        let known = self.peers.get(peer.index())?.as_ref()?;
        (known.handle == peer).then(|| known.outbox.stats())
    }

    /// Bytes of mesh frames read from the peer and written to it, since it connected.
    #[must_use]
    pub fn traffic_bytes(&self, peer: PeerHandle) -> Option<(u64, u64)> {
        let known = self.peers.get(peer.index())?.as_ref()?;
        (known.handle == peer).then(|| (known.read_bytes, known.outbox.written_bytes()))
    }

    /// What all send queues have done and hold, those of departed peers included.
    #[must_use]
    pub fn queue_totals(&self) -> QueueTotals {
        let mut totals = QueueTotals { stats: self.departed, ..QueueTotals::default() };
        for peer in self.peers.iter().flatten() {
            let (bytes, stats) = peer.outbox.stats();
            totals.bytes += bytes;
            totals.largest_bytes = totals.largest_bytes.max(bytes);
            totals.stats += stats;
        }
        totals
    }

    /// Bytes read and written in mesh frames.
    #[must_use]
    pub fn counters(&self) -> &Arc<MeshCounters> {
        &self.shared.counters
    }

    fn peer_mut(&mut self, peer: PeerHandle) -> Option<&mut Peer> {
        self.peers.get_mut(peer.index())?.as_mut().filter(|known| known.handle == peer)
    }

    fn peer_by_id(&self, id: &PeerId) -> Option<&Peer> {
        self.peers.get(*self.slots.get(id)? as usize)?.as_ref()
    }

    fn tell(&mut self, peer_id: PeerId, connection: ConnectionId, event: ToHandler) {
        self.outputs.push_back(ToSwarm::NotifyHandler { peer_id, handler: NotifyHandler::One(connection), event });
    }

    fn close(&mut self, peer_id: PeerId, connection: ConnectionId) {
        let connection = CloseConnection::One(connection);
        self.outputs.push_back(ToSwarm::CloseConnection { peer_id, connection });
    }

    fn established(&mut self, id: PeerId, connection: ConnectionId, endpoint: &ConnectedPoint) {
        let direction = if endpoint.is_dialer() { Direction::Outbound } else { Direction::Inbound };
        let address = endpoint.get_remote_address();
        let ip = super::limits::ip_of(address).unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let new = Connection { id: connection, direction, ip, address: address.clone() };
        let Some(slot) = self.slots.get(&id).copied() else {
            let handle = self.handles.allocate();
            let outbox = Arc::new(Outbox::new(self.send_queue.clone()));
            let peer = Peer {
                id,
                handle,
                connections: vec![new],
                active: connection,
                opened: None,
                admitted: false,
                announced: false,
                outbox: Arc::clone(&outbox),
                read_bytes: 0,
                dropped: 0,
            };
            if self.peers.len() <= handle.index() {
                self.peers.resize_with(handle.index() + 1, || None);
            }
            self.peers[handle.index()] = Some(peer);
            self.slots.insert(id, handle.slot);
            self.tell(id, connection, ToHandler::Write(outbox));
            return;
        };
        let Some(peer) = &mut self.peers[slot as usize] else { return };
        peer.connections.push(new);
        let (handle, announced) = (peer.handle, peer.announced);
        if announced {
            self.tell(id, connection, ToHandler::Read);
        }
        self.unsettled.push_back((Instant::now() + self.settle_after, handle, Step::Settle));
        self.timer = None;
    }

    fn closed(&mut self, id: PeerId, connection: ConnectionId) {
        let Some(slot) = self.slots.get(&id).copied() else { return };
        let Some(peer) = &mut self.peers[slot as usize] else { return };
        peer.connections.retain(|other| other.id != connection);
        if let Some(next) = peer.connections.first().cloned() {
            if peer.active == connection {
                peer.active = next.id;
                let turned = peer.announced.then_some(Event::Turned { peer: peer.handle, direction: next.direction });
                self.outputs.extend(turned.map(ToSwarm::GenerateEvent));
                let outbox = Arc::clone(&peer.outbox);
                self.tell(id, next.id, ToHandler::Write(outbox));
            }
            return;
        }
        let (handle, announced) = (peer.handle, peer.announced);
        self.departed += peer.outbox.stats().1;
        self.peers[slot as usize] = None;
        self.slots.remove(&id);
        self.handles.release(handle);
        self.unsettled.retain(|(_, other, _)| *other != handle);
        if announced {
            self.outputs.push_back(ToSwarm::GenerateEvent(Event::Disconnected { peer: handle, id }));
        }
    }

    fn opened(&mut self, id: PeerId, connection: ConnectionId, version: Version) {
        let Some(slot) = self.slots.get(&id).copied() else { return };
        let Some(peer) = &mut self.peers[slot as usize] else { return };
        if peer.active == connection {
            peer.opened = Some(version);
            self.announce(slot);
        }
    }

    /// Announces the peer of this slot if its stream is open, it is admitted and it has not been announced.
    fn announce(&mut self, slot: u32) {
        let Some(peer) = &mut self.peers[slot as usize] else { return };
        let Some(version) = peer.opened.filter(|_| peer.admitted && !peer.announced) else { return };
        let Some(&Connection { direction, ip, .. }) = peer.connections.iter().find(|c| c.id == peer.active) else {
            return;
        };
        peer.announced = true;
        let (id, handle) = (peer.id, peer.handle);
        let connections: Vec<_> = peer.connections.iter().map(|connection| connection.id).collect();
        let connected = Event::Connected { peer: handle, id, ip, direction, version };
        self.outputs.push_back(ToSwarm::GenerateEvent(connected));
        for connection in connections {
            self.tell(id, connection, ToHandler::Read);
        }
    }

    /// The connection that both ends agree to keep, if there is one to agree on.
    fn settled(&self, peer: &Peer) -> Option<ConnectionId> {
        let first = peer.connections.first()?;
        let both_ways = peer.connections.iter().any(|other| other.direction != first.direction);
        let kept_direction =
            if self.own.to_bytes() < peer.id.to_bytes() { Direction::Outbound } else { Direction::Inbound };
        if both_ways {
            return peer.connections.iter().find(|other| other.direction == kept_direction).map(|other| other.id);
        }
        (first.direction == Direction::Outbound).then_some(first.id)
    }

    fn take_step(&mut self, handle: PeerHandle, step: Step) {
        let Some(peer) = self.peers.get(handle.index()).and_then(Option::as_ref) else { return };
        if peer.handle != handle || peer.connections.len() < 2 {
            return;
        }
        let Some(kept) = self.settled(peer) else { return };
        let (id, former, outbox) = (peer.id, peer.active, Arc::clone(&peer.outbox));
        let others: Vec<_> = peer.connections.iter().map(|c| c.id).filter(|other| *other != kept).collect();
        match step {
            Step::Settle => {
                if former != kept {
                    self.tell(id, former, ToHandler::StopWriting);
                    self.tell(id, kept, ToHandler::Write(outbox));
                    if let Some(peer) = self.peer_mut(handle) {
                        peer.active = kept;
                        let announced = peer.announced;
                        let kept = peer.connections.iter().find(|connection| connection.id == kept);
                        let turned = kept.filter(|_| announced).map(|kept| kept.direction);
                        let turned = turned.map(|direction| Event::Turned { peer: handle, direction });
                        self.outputs.extend(turned.map(ToSwarm::GenerateEvent));
                    }
                }
                self.unsettled.push_back((Instant::now() + self.close_after, handle, Step::Close));
            }
            Step::Close => {
                for other in others {
                    self.close(id, other);
                }
            }
        }
    }

    /// Does what is due about second connections and waits for the next.
    fn poll_unsettled(&mut self, context: &mut Context<'_>) {
        loop {
            let now = Instant::now();
            while let Some(index) = self.unsettled.iter().position(|(due, ..)| *due <= now) {
                if let Some((_, handle, step)) = self.unsettled.remove(index) {
                    self.take_step(handle, step);
                }
            }
            let Some(next) = self.unsettled.iter().map(|(due, ..)| *due).min() else {
                self.timer = None;
                return;
            };
            let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(next)));
            if timer.deadline() != next {
                timer.as_mut().reset(next);
            }
            if timer.as_mut().poll(context).is_pending() {
                return;
            }
        }
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Handler;
    type ToSwarm = Event;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Handler::new(Arc::clone(&self.shared)))
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Handler::new(Arc::clone(&self.shared)))
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(ConnectionEstablished { peer_id, connection_id, endpoint, .. }) => {
                self.established(peer_id, connection_id, endpoint);
            }
            FromSwarm::ConnectionClosed(ConnectionClosed { peer_id, connection_id, .. }) => {
                self.closed(peer_id, connection_id);
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, id: PeerId, connection: ConnectionId, event: THandlerOutEvent<Self>) {
        let handle = self.handle_of(&id);
        match (event, handle) {
            (FromHandler::Opened(version), _) => self.opened(id, connection, version),
            (FromHandler::Unsupported, _) => {
                let announced = handle.is_some();
                if !announced {
                    self.outputs.push_back(ToSwarm::GenerateEvent(Event::Unsupported { id }));
                }
            }
            (FromHandler::GaveUp(error), _) => {
                rate_limited!(debug, %id, %error, "closing a connection whose mesh stream does not work");
                self.close(id, connection);
            }
            (FromHandler::Rpc { rpc, received, frame_bytes }, Some(peer)) => {
                if let Some(known) = self.peer_mut(peer) {
                    known.read_bytes = known.read_bytes.saturating_add(frame_bytes as u64);
                }
                let event = Event::Rpc { peer, rpc, received, frame_bytes };
                self.outputs.push_back(ToSwarm::GenerateEvent(event));
            }
            (FromHandler::BadFrame(error), Some(peer)) => {
                self.outputs.push_back(ToSwarm::GenerateEvent(Event::BadFrame { peer, error }));
            }
            // The peer was closed meanwhile.
            (FromHandler::Rpc { .. } | FromHandler::BadFrame(_), None) => {}
        }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<ToSwarm<Event, THandlerInEvent<Self>>> {
        self.poll_unsettled(context);
        let Some(mut output) = self.outputs.pop_front() else { return Poll::Pending };
        if let ToSwarm::GenerateEvent(Event::SendQueueFull { peer, dropped }) = &mut output
            && let Some(known) = self.peer_mut(*peer)
        {
            *dropped = std::mem::take(&mut known.dropped);
        }
        Poll::Ready(output)
    }
}
