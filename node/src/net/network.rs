//! The node's network as the driver sees it: peers by handle, addresses as bytes, nothing of libp2p's types.
//!
//! # Contract
//! - [`Network::start`] binds every listening address before it returns, so the bound ports are known.
//! - [`Network::next_event`] waits for what happens next. It is cancel-safe: in a `select!` nothing is lost when another branch
//!   wins. All methods only queue work, which is carried out while `next_event` is awaited, so the driver must keep awaiting it.
//! - A peer exists between [`NetEvent::Connected`] and [`NetEvent::Disconnected`], under one [`PeerHandle`]; a slot is reused with a
//!   new generation. Every method ignores a handle that is no longer in force.
//! - [`Network::dial`] is answered by `Connected` or by [`NetEvent::DialFailed`], once, with a [`NetEvent::Reached`] before when the
//!   handshake and identify have shown who is there. A peer that speaks no gossipsub counts as a failure and is disconnected.
//!   A feeler is answered by `Reached` or `DialFailed`, and its connection is closed at once; the mesh never hears of it.
//! - **Identify comes before the mesh.** No mesh frame is written to a peer or read from it before identify has told who it is.
//!   A node that says that it belongs to another Starling network is disconnected, and counts as a failure. A peer that
//!   names no Starling network, or speaks no identify, is a gossipsub implementation of another kind and is let in; one whose
//!   identify fails in any other way is disconnected, because nobody knows who it is.
//! - A visitor, which [`limits`](super::limits) let in beyond the bound on peers, is served by Kademlia and identify alone.
//! - [`Network::request`] is answered by exactly one [`NetEvent::Response`] with its ticket; a [`NetEvent::Request`] is to be
//!   answered with [`Network::respond`] within [`TIMEOUT`](super::blocks::TIMEOUT), or not at all.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use libp2p::Multiaddr;
use libp2p::core::transport::ListenerId;
use libp2p::identity::Keypair;
use libp2p::metrics::Registry;
use libp2p::multiaddr::Protocol;
use libp2p::request_response::{InboundRequestId, OutboundRequestId, ResponseChannel};
use libp2p::swarm::dial_opts::DialOpts;
use libp2p::swarm::{DialError, Swarm, SwarmEvent};
use starling_protocol::id::{MessageId, PeerHandle, PeerId};
use starling_protocol::peers::bans::BanList;
use starling_protocol::peers::eviction::Newcomer;
use starling_protocol::peers::{Address, DialPurpose};
use starling_protocol::rpc::Frame;
use starling_protocol::send_queue::SendQueueStats;

use super::confined::is_on_this_host;
use super::external::{Nat, Reach, Voices, translated};
use super::mesh;
use super::mesh::MeshCounters;
use super::swarm::{Behaviour, build_swarm, network_name};
use super::telemetry::SwarmMetrics;
use super::transport::SocketCounters;

mod config;
mod event;
#[cfg(test)]
mod tests;
mod translate;
mod words;

pub use config::{NetworkConfig, NetworkError};
pub use event::{InboundRequest, NetEvent, RequestError};
use translate::Early;
use words::{dial_words, listen_error};

/// Silence after which the listeners have reported all their addresses. A guess: the reports are local and come at once.
const LISTEN_PAUSE: Duration = Duration::from_millis(20);

/// How long starting may take until every listener has reported its address.
const LISTEN_TIMEOUT: Duration = Duration::from_secs(5);

/// A running network.
pub struct Network {
    /// Boxed, because it has some ten kilobytes and lives in futures.
    swarm: Box<Swarm<Behaviour>>,
    own: PeerId,
    network_name: String,
    sockets: Arc<SocketCounters>,
    metrics: SwarmMetrics,
    listening: Vec<Multiaddr>,
    /// Dials that were asked for and are unanswered, and what they are for. Bounded by the limit on pending dials.
    dials: BTreeMap<PeerId, DialPurpose>,
    /// What became known of connected peers before their mesh stream opened; reported when it does.
    early: BTreeMap<libp2p::PeerId, Early>,
    /// Our unanswered requests.
    asked: HashMap<OutboundRequestId, (PeerHandle, u64)>,
    /// Peers' unanswered requests.
    to_answer: BTreeMap<InboundRequest, ResponseChannel<Vec<u8>>>,
    /// Those, and peers' requests whose answers have not gone out.
    answering: HashMap<InboundRequestId, InboundRequest>,
    next_request: u64,
    /// What peers say of our address.
    voices: Voices,
    /// Addresses of ours that others have tried to reach, and whether they did; no more than the client tests.
    tested: BTreeMap<Multiaddr, bool>,
    events: VecDeque<NetEvent>,
}

impl Network {
    /// Starts listening. libp2p's metrics are registered in `registry`.
    ///
    /// # Errors
    /// When the key cannot be used, an address cannot be listened on, or QUIC is to be emulated.
    pub async fn start(
        config: &NetworkConfig,
        keypair: &Keypair,
        registry: &mut Registry,
    ) -> Result<Self, NetworkError> {
        let sockets = Arc::new(SocketCounters::default());
        let mut config = config.clone();
        // Message ids can be ground, so the hash index of the queues is keyed by what nobody knows.
        rustix::rand::getrandom(&mut config.mesh.send_queue.hash_key, rustix::rand::GetRandomFlags::empty())
            .map_err(|error| NetworkError::Entropy(error.into()))?;
        let config = &config;
        let swarm = Box::new(build_swarm(config, keypair, &sockets)?);
        let own = to_protocol_id(swarm.local_peer_id());
        let mut network = Self {
            own: own.ok_or_else(|| NetworkError::Identity("its peer id is too long".to_owned()))?,
            swarm,
            network_name: network_name(&config.network),
            sockets,
            metrics: SwarmMetrics::new(registry),
            listening: Vec::new(),
            dials: BTreeMap::new(),
            early: BTreeMap::new(),
            asked: HashMap::new(),
            to_answer: BTreeMap::new(),
            answering: HashMap::new(),
            next_request: 0,
            voices: Voices::new(config.confirm_local),
            tested: BTreeMap::new(),
            events: VecDeque::new(),
        };
        for address in &config.external {
            network.swarm.add_external_address(address.clone());
        }
        network.listen(config).await?;
        if let Nat::External(ip) = config.nat {
            for address in network.listening.clone() {
                if let Some(outside) = translated(&address, ip) {
                    network.swarm.add_external_address(outside);
                }
            }
        }
        Ok(network)
    }

    async fn listen(&mut self, config: &NetworkConfig) -> Result<(), NetworkError> {
        let mut waiting: Vec<(ListenerId, Multiaddr)> = Vec::new();
        for address in &config.listen {
            let is_quic = address.iter().any(|part| matches!(part, Protocol::QuicV1));
            if is_quic && config.link_emulation.is_some() {
                return Err(NetworkError::EmulatedQuic { address: address.clone() });
            }
            if config.confined && !is_on_this_host(address) {
                return Err(NetworkError::Confined { address: address.clone() });
            }
            let listener = self.swarm.listen_on(address.clone()).map_err(|error| listen_error(address, &error))?;
            waiting.push((listener, address.clone()));
        }
        let deadline = tokio::time::Instant::now() + LISTEN_TIMEOUT;
        while let Some((_, address)) = waiting.first().cloned() {
            let next = tokio::time::timeout_at(deadline, self.swarm.select_next_some()).await;
            let event = next.map_err(|late| listen_error(&address, &late))?;
            match &event {
                SwarmEvent::NewListenAddr { listener_id, .. } => {
                    waiting.retain(|(waiting, _)| waiting != listener_id);
                }
                SwarmEvent::ListenerClosed { listener_id, reason: Err(error), .. }
                | SwarmEvent::ListenerError { listener_id, error } => {
                    if let Some((_, address)) = waiting.iter().find(|(waiting, _)| waiting == listener_id) {
                        return Err(listen_error(address, error));
                    }
                }
                _ => {}
            }
            self.translate(event);
        }
        // A listener on all addresses reports one for each interface, one after the other.
        while let Ok(event) = tokio::time::timeout(LISTEN_PAUSE, self.swarm.select_next_some()).await {
            self.translate(event);
            if tokio::time::Instant::now() >= deadline {
                break;
            }
        }
        Ok(())
    }

    /// Waits for the next event. Cancel-safe.
    pub async fn next_event(&mut self) -> NetEvent {
        loop {
            if let Some(event) = self.events.pop_front() {
                return event;
            }
            let event = self.swarm.select_next_some().await;
            self.translate(event);
        }
    }

    /// The node's own peer id.
    #[must_use]
    pub fn own_id(&self) -> PeerId {
        self.own
    }

    /// The addresses listened on, without the peer id.
    #[must_use]
    pub fn listening(&self) -> &[Multiaddr] {
        &self.listening
    }

    /// Puts a frame into the peer's send queue.
    pub fn send(&mut self, peer: PeerHandle, frame: Frame) {
        self.swarm.behaviour_mut().mesh.send(peer, frame);
    }

    /// Removes what is still queued of these messages for the peer.
    pub fn cancel(&mut self, peer: PeerHandle, ids: &[MessageId]) {
        self.swarm.behaviour_mut().mesh.cancel(peer, ids);
    }

    /// Closes every connection with the peer; `Disconnected` follows.
    pub fn disconnect(&mut self, peer: PeerHandle) {
        self.swarm.behaviour_mut().mesh.disconnect(peer);
    }

    /// Dials a peer at any of these binary multiaddrs; those that cannot be read are left out.
    pub fn dial(&mut self, id: PeerId, addresses: &[Address]) {
        self.dial_for(DialPurpose::Connect, id, addresses);
    }

    /// Dials a peer only to see whether it is there.
    pub fn probe(&mut self, id: PeerId, addresses: &[Address]) {
        self.dial_for(DialPurpose::Feeler, id, addresses);
    }

    fn dial_for(&mut self, purpose: DialPurpose, id: PeerId, addresses: &[Address]) {
        let Ok(peer) = libp2p::PeerId::from_bytes(id.as_bytes()) else {
            return self.dial_failed(id, "the peer id is not a multihash".to_owned());
        };
        if self.swarm.behaviour().mesh.handle_of(&peer).is_some() {
            return self.dial_failed(id, "the peer is connected already".to_owned());
        }
        let addresses = addresses.iter().filter_map(|bytes| Multiaddr::try_from(bytes.to_vec()).ok()).collect();
        let opts = DialOpts::peer_id(peer).addresses(addresses).allocate_new_port().build();
        match self.swarm.dial(opts) {
            // A dial or a young connection of the peer's own is in the way; its outcome answers ours.
            Ok(()) | Err(DialError::DialPeerConditionFalse(_)) => {
                self.dials.insert(id, purpose);
            }
            Err(error) => self.dial_failed(id, dial_words(&error)),
        }
    }

    /// Looks for peers: one random walk through Kademlia, unless one is running.
    pub fn discover(&mut self) {
        self.swarm.behaviour_mut().discovery.walk();
    }

    /// Asks the peer about the chain; the answer carries the ticket.
    pub fn request(&mut self, peer: PeerHandle, ticket: u64, body: Vec<u8>) {
        let behaviour = self.swarm.behaviour_mut();
        let Some(id) = behaviour.mesh.id_of(peer) else {
            let result = Err(RequestError::Disconnected);
            return self.events.push_back(NetEvent::Response { peer, ticket, result });
        };
        let request = behaviour.blocks.send_request(&id, body);
        self.asked.insert(request, (peer, ticket));
    }

    /// Closes the stream of a peer's request without an answer.
    pub fn refuse(&mut self, request: InboundRequest) {
        self.to_answer.remove(&request);
    }

    /// Answers a peer's request; too late an answer is dropped.
    pub fn respond(&mut self, request: InboundRequest, body: Vec<u8>) {
        if let Some(channel) = self.to_answer.remove(&request) {
            // An error says that the peer has gone, which is reported elsewhere.
            let _ = self.swarm.behaviour_mut().blocks.send_response(channel, body);
        }
    }

    /// The address of the connection's other end, as long as the peer is connected.
    #[must_use]
    pub fn remote_address(&self, peer: PeerHandle) -> Option<&Multiaddr> {
        self.swarm.behaviour().mesh.remote_address(peer)
    }

    /// Bytes waiting for the peer and what its send queue has done.
    #[must_use]
    pub fn queue_stats(&self, peer: PeerHandle) -> Option<(usize, SendQueueStats)> {
        self.swarm.behaviour().mesh.queue_stats(peer)
    }

    /// Bytes of mesh frames read from the peer and written to it, since it connected.
    #[must_use]
    pub fn traffic_bytes(&self, peer: PeerHandle) -> Option<(u64, u64)> {
        self.swarm.behaviour().mesh.traffic_bytes(peer)
    }

    /// What waits to be sent to all peers, and what their queues have done.
    #[must_use]
    pub fn queue_totals(&self) -> mesh::QueueTotals {
        self.swarm.behaviour().mesh.queue_totals()
    }

    /// Enforces these bans: whom they are about is disconnected, and neither let in nor dialled.
    pub fn set_bans(&mut self, bans: BanList) {
        self.swarm.behaviour_mut().limits.set_bans(bans);
    }

    /// Whether such a newcomer would find no room now; then [`Self::set_evictable`] is of use.
    #[must_use]
    pub fn is_full(&self, newcomer: Newcomer) -> bool {
        self.swarm.behaviour().limits.is_full(newcomer)
    }

    /// Has this peer make room for the next such newcomer that finds none.
    pub fn set_evictable(&mut self, newcomer: Newcomer, id: &PeerId) {
        if let Ok(peer) = libp2p::PeerId::from_bytes(id.as_bytes()) {
            self.swarm.behaviour_mut().limits.set_evictable(newcomer, peer);
        }
    }

    /// Says who has proven useful, and is let in by an allowance of its own.
    pub fn set_acquaintances<'a>(&mut self, ids: impl Iterator<Item = &'a PeerId>) {
        let peers = ids.filter_map(|id| libp2p::PeerId::from_bytes(id.as_bytes()).ok()).collect();
        self.swarm.behaviour_mut().limits.set_acquaintances(peers);
    }

    /// How many connections were refused since the start, by reason.
    pub fn refused(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.swarm.behaviour().limits.refused()
    }

    /// Established connections: inbound and outbound.
    #[must_use]
    pub fn connections(&self) -> (usize, usize) {
        self.swarm.behaviour().limits.established()
    }

    /// Peers in the Kademlia table.
    pub fn table_size(&mut self) -> usize {
        self.swarm.behaviour_mut().discovery.table_size()
    }

    /// Bytes through TCP sockets.
    #[must_use]
    pub fn socket_counters(&self) -> &Arc<SocketCounters> {
        &self.sockets
    }

    /// Bytes in mesh frames.
    #[must_use]
    pub fn mesh_counters(&self) -> &Arc<MeshCounters> {
        self.swarm.behaviour().mesh.counters()
    }

    fn dial_failed(&mut self, id: PeerId, reason: String) {
        self.dials.remove(&id);
        self.events.push_back(NetEvent::DialFailed { id, reason });
    }

    fn dial_failed_if_asked(&mut self, id: &libp2p::PeerId, reason: impl FnOnce() -> String) {
        if let Some(id) = to_protocol_id(id)
            && self.dials.contains_key(&id)
        {
            self.dial_failed(id, reason());
        }
    }

    /// The addresses at which others have confirmed that they reach the node, and those that the operator gave.
    pub fn external(&self) -> impl Iterator<Item = &Multiaddr> {
        self.swarm.external_addresses()
    }

    /// The addresses at which others may reach the node without its listening there, and what is known of each.
    pub fn reach(&self) -> Vec<(&Multiaddr, Reach)> {
        let given = self.external().map(|address| match self.tested.get(address) {
            Some(true) => (address, Reach::Confirmed),
            Some(false) | None => (address, Reach::Given),
        });
        let failed = self.tested.iter().filter(|(_, reached)| !**reached).map(|(address, _)| (address, Reach::Failed));
        given.chain(failed).collect()
    }
}

/// The binary form of an address, without the `/p2p/..` that some sources put behind it: whose address it is stands beside it.
pub(crate) fn to_address(mut address: Multiaddr) -> Address {
    if matches!(address.iter().last(), Some(Protocol::P2p(_))) {
        address.pop();
    }
    Bytes::from(address.to_vec())
}

/// A peer id as libp2p writes it.
#[must_use]
pub fn peer_id_text(id: &PeerId) -> String {
    libp2p::PeerId::from_bytes(id.as_bytes()).map_or_else(|_| format!("{id:?}"), |id| id.to_string())
}

/// The protocol's form of a libp2p peer id; `None` for one that is longer than any correct id.
#[must_use]
pub fn to_protocol_id(id: &libp2p::PeerId) -> Option<PeerId> {
    PeerId::from_bytes(&id.to_bytes())
}
