//! Finding peers through Kademlia, without letting Kademlia choose our connections.
//!
//! # Rules
//! 1. **The network's own protocol name**, `/starling/<network>/kad/1`, so that tables of different networks cannot mix, and
//!    server mode from the start: `libp2p-kad` begins as a client, and a network of clients answers nobody.
//! 2. **Lookups talk to connected peers only.** Every dial that a lookup wants is turned into [`Event::Discovered`] and
//!    refused. Whom to connect to is decided by the peer book of `starling_protocol`, which has a target and a back-off.
//!    *Rationale:* a lookup dials some twenty peers near a random key, and each would become a peer of the mesh: in a small network
//!    everybody would end up connected to everybody. A walk still reaches further with each peer that the book connects.
//! 3. **Only proven addresses enter the table.** A peer is inserted when we reached it at an address that we dialled ourselves. An address
//!    that only dialled us is proven by a short *dial-back*: a fresh connection to an address that the peer claims, closed as
//!    soon as its handshake has shown the expected identity. Claimed addresses are dialled only if they have the IP address that
//!    the peer was seen at, so that nobody can aim our dials at others.
//!    *Rationale:* otherwise anybody fills tables with addresses that nobody answers at.
//! 4. Records and providers are neither stored nor answered with: this network has no use for them.
//!
//! # Bounds
//! At most [`DIAL_BACKS_MAX`] dial-backs run at once and [`DIAL_BACKS_WAITING_MAX`] wait; others are tried again when the peer is next
//! identified. One walk runs at a time.

use crate::rate_limited;
use std::collections::{BTreeMap, VecDeque};
use std::task::{Context, Poll};
use std::time::Duration;

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::kad::store::MemoryStore;
use libp2p::kad::{self, BucketInserts, Caching, Mode, QueryId, RoutingUpdate, StoreInserts};
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{
    CloseConnection, ConnectionDenied, ConnectionId, DialError, DialFailure, FromSwarm, NetworkBehaviour, THandler,
    THandlerInEvent, THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId, StreamProtocol, identify};

use super::limits::ip_of;

/// Dial-backs in progress at once. A guess: a bootnode of a local network meets everybody within a second.
pub const DIAL_BACKS_MAX: usize = 32;

/// Dial-backs waiting for their turn.
pub const DIAL_BACKS_WAITING_MAX: usize = 256;

/// Addresses tried in one dial-back.
const DIAL_BACK_ADDRESSES_MAX: usize = 2;

/// How long a lookup may take. Answers come from connected peers, so what takes longer is not worth waiting for.
const QUERY_TIMEOUT: Duration = Duration::from_secs(10);

/// What discovery found.
#[derive(Debug)]
pub enum Event {
    /// Somebody told us of this peer; nothing is proven.
    Discovered {
        /// Who.
        id: PeerId,
        /// Where it is said to be.
        addresses: Vec<Multiaddr>,
    },
    /// We reached this peer at this address.
    Proven {
        /// Who.
        id: PeerId,
        /// Where.
        address: Multiaddr,
    },
    /// What Kademlia reports, for metrics.
    Kademlia(Box<kad::Event>),
}

/// The behaviour; see the module documentation.
pub struct Behaviour {
    kad: kad::Behaviour<MemoryStore>,
    protocol: StreamProtocol,
    walk: Option<QueryId>,
    /// The remote address of every connection that was dialled by the remote.
    inbound: BTreeMap<ConnectionId, Multiaddr>,
    dial_backs: BTreeMap<ConnectionId, PeerId>,
    waiting: VecDeque<(PeerId, Vec<Multiaddr>)>,
    /// Dials with which Kademlia tests a peer that it might evict from a full bucket.
    eviction_tests: u32,
    outputs: VecDeque<ToSwarm<Event, THandlerInEvent<kad::Behaviour<MemoryStore>>>>,
}

impl Behaviour {
    /// An empty table for the network whose id begins with these eight hex characters.
    #[must_use]
    pub fn new(own: PeerId, network: &str) -> Self {
        let protocol = protocol(network);
        let mut config = kad::Config::new(protocol.clone());
        config
            .set_kbucket_inserts(BucketInserts::Manual)
            .set_record_filtering(StoreInserts::FilterBoth)
            .set_caching(Caching::Disabled)
            .set_replication_interval(None)
            .set_publication_interval(None)
            .set_provider_publication_interval(None)
            .set_periodic_bootstrap_interval(None)
            .set_query_timeout(QUERY_TIMEOUT)
            .disjoint_query_paths(true);
        let mut kad = kad::Behaviour::with_config(own, MemoryStore::new(own), config);
        kad.set_mode(Some(Mode::Server));
        Self {
            kad,
            protocol,
            walk: None,
            inbound: BTreeMap::new(),
            dial_backs: BTreeMap::new(),
            waiting: VecDeque::new(),
            eviction_tests: 0,
            outputs: VecDeque::new(),
        }
    }

    /// Looks up a random key, unless a walk is running. What it finds comes as [`Event::Discovered`].
    pub fn walk(&mut self) {
        if self.walk.is_none() {
            self.walk = Some(self.kad.get_closest_peers(PeerId::random()));
        }
    }

    /// Peers in the table.
    pub fn table_size(&mut self) -> usize {
        self.kad.kbuckets().map(|bucket| bucket.num_entries()).sum()
    }

    /// Tells what a peer said of itself: a peer that dialled us is dialled back.
    pub fn identified(&mut self, id: PeerId, connection: ConnectionId, info: &identify::Info) {
        let Some(seen_at) = self.inbound.get(&connection).and_then(ip_of) else { return };
        if !info.protocols.contains(&self.protocol) || self.is_known(id) {
            return;
        }
        let claimed = info.listen_addrs.iter().filter(|address| ip_of(address) == Some(seen_at));
        let addresses: Vec<_> = claimed.take(DIAL_BACK_ADDRESSES_MAX).cloned().collect();
        if !addresses.is_empty() && self.waiting.len() < DIAL_BACKS_WAITING_MAX {
            self.waiting.push_back((id, addresses));
            self.start_dial_backs();
        }
    }

    fn is_known(&mut self, id: PeerId) -> bool {
        let in_table = self.kad.kbucket(id).is_some_and(|b| b.iter().any(|entry| *entry.node.key.preimage() == id));
        in_table
            || self.dial_backs.values().any(|other| *other == id)
            || self.waiting.iter().any(|(other, _)| *other == id)
    }

    fn start_dial_backs(&mut self) {
        while self.dial_backs.len() < DIAL_BACKS_MAX {
            let Some((id, addresses)) = self.waiting.pop_front() else { return };
            let opts =
                DialOpts::peer_id(id).condition(PeerCondition::Always).addresses(addresses).allocate_new_port().build();
            self.dial_backs.insert(opts.connection_id(), id);
            self.outputs.push_back(ToSwarm::Dial { opts });
        }
    }

    fn insert(&mut self, id: PeerId, address: Multiaddr) {
        if self.kad.add_address(&id, address.clone()) == RoutingUpdate::Pending {
            self.eviction_tests += 1;
        }
        self.outputs.push_back(ToSwarm::GenerateEvent(Event::Proven { id, address }));
    }

    /// Reports whom Kademlia wants to dial and says that it failed, unless it tests a peer before evicting it.
    fn on_dial_wanted(&mut self, opts: DialOpts) {
        let Some(id) = opts.get_peer_id() else { return };
        let known = self.kad.handle_pending_outbound_connection(opts.connection_id(), Some(id), &[], Endpoint::Dialer);
        let addresses = known.unwrap_or_default();
        if !addresses.is_empty() {
            self.outputs.push_back(ToSwarm::GenerateEvent(Event::Discovered { id, addresses }));
        }
        if self.eviction_tests > 0 && self.walk.is_none() {
            self.eviction_tests -= 1;
            self.outputs.push_back(ToSwarm::Dial { opts });
            return;
        }
        self.kad.on_swarm_event(FromSwarm::DialFailure(DialFailure {
            peer_id: Some(id),
            error: &DialError::Aborted,
            connection_id: opts.connection_id(),
        }));
    }

    fn on_kad_event(&mut self, event: &kad::Event) {
        match event {
            kad::Event::RoutablePeer { peer, address } | kad::Event::PendingRoutablePeer { peer, address } => {
                self.insert(*peer, address.clone());
            }
            kad::Event::OutboundQueryProgressed { id, step, .. } if step.last && self.walk == Some(*id) => {
                self.walk = None;
            }
            _ => {}
        }
    }

    fn observe(&mut self, event: &FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(established) => {
                let address = established.endpoint.get_remote_address();
                if established.endpoint.is_listener() {
                    self.inbound.insert(established.connection_id, address.clone());
                }
                if let Some(id) = self.dial_backs.remove(&established.connection_id) {
                    self.insert(id, address.clone());
                    self.outputs.push_back(ToSwarm::CloseConnection {
                        peer_id: id,
                        connection: CloseConnection::One(established.connection_id),
                    });
                    self.start_dial_backs();
                }
            }
            FromSwarm::ConnectionClosed(closed) => {
                self.inbound.remove(&closed.connection_id);
            }
            FromSwarm::DialFailure(failure) => {
                if let Some(id) = self.dial_backs.remove(&failure.connection_id) {
                    rate_limited!(debug, %id, error = %failure.error, "a peer cannot be reached at the address it claims");
                    self.start_dial_backs();
                }
            }
            _ => {}
        }
    }
}

/// The Kademlia protocol's name.
///
/// # Panics
/// Never: the name begins with a slash.
#[must_use]
pub fn protocol(network: &str) -> StreamProtocol {
    StreamProtocol::try_from_owned(format!("/starling/{network}/kad/1")).expect("the name begins with a slash")
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = <kad::Behaviour<MemoryStore> as NetworkBehaviour>::ConnectionHandler;
    type ToSwarm = Event;

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.kad.handle_established_inbound_connection(connection, peer, local, remote)
    }

    fn handle_pending_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: Option<PeerId>,
        addresses: &[Multiaddr],
        role: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        self.kad.handle_pending_outbound_connection(connection, peer, addresses, role)
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        role: Endpoint,
        port_use: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.kad.handle_established_outbound_connection(connection, peer, address, role, port_use)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        self.observe(&event);
        self.kad.on_swarm_event(event);
    }

    fn on_connection_handler_event(&mut self, peer: PeerId, connection: ConnectionId, event: THandlerOutEvent<Self>) {
        self.kad.on_connection_handler_event(peer, connection, event);
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<ToSwarm<Event, THandlerInEvent<Self>>> {
        loop {
            if let Some(output) = self.outputs.pop_front() {
                return Poll::Ready(output);
            }
            match self.kad.poll(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(ToSwarm::Dial { opts }) => self.on_dial_wanted(opts),
                Poll::Ready(ToSwarm::GenerateEvent(event)) => {
                    self.on_kad_event(&event);
                    return Poll::Ready(ToSwarm::GenerateEvent(Event::Kademlia(Box::new(event))));
                }
                Poll::Ready(other) => return Poll::Ready(other.map_out(|event| Event::Kademlia(Box::new(event)))),
            }
        }
    }
}
