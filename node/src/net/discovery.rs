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
//! 4. **No operator fills the table.** A peer is inserted only while its host (IPv4 address, IPv6 /56) has fewer than [`TABLE_PER_HOST`] entries in
//!    the table, and its subnet (IPv4 /24, IPv6 /48) fewer than [`TABLE_PER_SUBNET`], of which fewer than [`BUCKET_PER_SUBNET`] in the peer's
//!    bucket. Private addresses have the limit per host alone, loopback ones none: a laboratory lives in one subnet.
//!    *Rationale:* keys are free, so without it a few hosts can surround any key. The numbers per subnet are those of go-ethereum's table;
//!    go-libp2p counts 3 in the table and 2 in a bucket by /16, which would leave a young network on one hosting provider without a table.
//! 5. Records and providers are neither stored nor answered with: this network has no use for them.
//!
//! # Bounds
//! At most [`DIAL_BACKS_MAX`] dial-backs run at once and [`DIAL_BACKS_WAITING_MAX`] wait; others are tried again when the peer is next
//! identified. One walk runs at a time.

use crate::rate_limited;
use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
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

use starling_protocol::peers::address::{Group, Scope};

use super::limits::ip_of;

/// Dial-backs in progress at once. A guess: a bootnode of a local network meets everybody within a second.
pub const DIAL_BACKS_MAX: usize = 32;

/// Dial-backs waiting for their turn.
pub const DIAL_BACKS_WAITING_MAX: usize = 256;

/// Addresses tried in one dial-back.
const DIAL_BACK_ADDRESSES_MAX: usize = 2;

/// Entries of one host in the table.
pub const TABLE_PER_HOST: usize = 3;

/// Entries of one subnet in the table.
pub const TABLE_PER_SUBNET: usize = 10;

/// Entries of one subnet in a bucket.
pub const BUCKET_PER_SUBNET: usize = 2;

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
        let mut kad = kad::Behaviour::with_config(own, MemoryStore::new(own), kademlia(network));
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
        if !self.has_room(id, &address) {
            rate_limited!(debug, %id, %address, "the table has enough peers of this network");
        } else if self.kad.add_address(&id, address.clone()) == RoutingUpdate::Pending {
            self.eviction_tests += 1;
        }
        self.outputs.push_back(ToSwarm::GenerateEvent(Event::Proven { id, address }));
    }

    /// Rule 4.
    fn has_room(&mut self, id: PeerId, address: &Multiaddr) -> bool {
        let Some(ip) = ip_of(address) else { return true };
        let scope = Scope::of(ip);
        if scope == Some(Scope::Loopback) {
            return true;
        }
        let same_host = |other: &IpAddr| Group::host(*other) == Group::host(ip);
        let same_subnet = |other: &IpAddr| Group::subnet(*other) == Group::subnet(ip);
        let in_table: Vec<IpAddr> = self.kad.kbuckets().flat_map(|bucket| others_in(&bucket, id)).collect();
        if in_table.iter().filter(|other| same_host(other)).count() >= TABLE_PER_HOST {
            return false;
        }
        let in_bucket = self.kad.kbucket(id).map(|bucket| others_in(&bucket, id)).unwrap_or_default();
        scope == Some(Scope::Private)
            || (in_table.iter().filter(|other| same_subnet(other)).count() < TABLE_PER_SUBNET
                && in_bucket.iter().filter(|other| same_subnet(other)).count() < BUCKET_PER_SUBNET)
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

/// How Kademlia is configured in this network. Lookups go by paths that have no peer in common, so that one who lies spoils one of them
/// (Baumgart and Mies, "S/Kademlia", 2007).
#[must_use]
pub fn kademlia(network: &str) -> kad::Config {
    let mut config = kad::Config::new(protocol(network));
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
    config
}

type BucketRef<'a> = kad::KBucketRef<'a, kad::KBucketKey<PeerId>, kad::Addresses>;

/// The IP addresses of a bucket's entries, but for this peer's own.
fn others_in(bucket: &BucketRef<'_>, id: PeerId) -> Vec<IpAddr> {
    let others = bucket.iter().filter(|entry| *entry.node.key.preimage() != id);
    others.filter_map(|entry| ip_of(entry.node.value.first())).collect()
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

#[cfg(test)]
mod tests {
    use libp2p::multiaddr::Protocol;

    use super::*;

    fn behaviour() -> Behaviour {
        Behaviour::new(PeerId::random(), "0123abcd")
    }

    fn insert(behaviour: &mut Behaviour, ip: &str) -> bool {
        let before = behaviour.table_size();
        behaviour.insert(PeerId::random(), Multiaddr::from(ip.parse::<IpAddr>().unwrap()).with(Protocol::Tcp(1)));
        behaviour.table_size() > before
    }

    #[test]
    fn one_host_and_one_subnet_get_their_share_of_the_table() {
        let mut behaviour = behaviour();
        let of_host = (0..20).filter(|_| insert(&mut behaviour, "198.51.100.1")).count();
        assert!((1..=TABLE_PER_HOST).contains(&of_host), "{of_host}");
        for host in 0..100 {
            insert(&mut behaviour, &format!("203.0.113.{host}"));
        }
        let in_subnet = |bucket: &BucketRef<'_>| {
            let ips = others_in(bucket, PeerId::random());
            ips.iter().filter(|ip| ip.to_string().starts_with("203.0.113.")).count()
        };
        let counts: Vec<usize> = behaviour.kad.kbuckets().map(|bucket| in_subnet(&bucket)).collect();
        assert!(counts.iter().all(|count| *count <= BUCKET_PER_SUBNET), "{counts:?}");
        assert!((5..=TABLE_PER_SUBNET).contains(&counts.iter().sum::<usize>()), "{counts:?}");
        assert!(insert(&mut behaviour, "192.0.2.1"), "others have room");
    }

    #[test]
    fn a_laboratory_is_not_limited_and_a_private_network_only_by_host() {
        let mut behaviour = behaviour();
        // The first bucket takes twenty, which half of all keys fall into.
        let loopback = (0..30).filter(|_| insert(&mut behaviour, "127.0.0.1")).count();
        assert!(loopback > 20, "{loopback}");
        let private = (0..20).filter(|host| insert(&mut behaviour, &format!("10.0.0.{host}"))).count();
        assert!(private > BUCKET_PER_SUBNET * 2, "{private}");
        let same = (0..10).filter(|_| insert(&mut behaviour, "10.0.1.1")).count();
        assert!(same <= TABLE_PER_HOST, "{same}");
    }

    fn identified(behaviour: &mut Behaviour, seen_at: &str, claimed: &[&str], speaks_kademlia: bool) -> usize {
        let connection = ConnectionId::new_unchecked(7);
        behaviour.inbound.insert(connection, seen_at.parse().unwrap());
        let mut protocols = vec![StreamProtocol::new("/ipfs/id/1.0.0")];
        protocols.extend(speaks_kademlia.then(|| behaviour.protocol.clone()));
        let keypair = libp2p::identity::Keypair::generate_ed25519();
        let info = identify::Info {
            public_key: keypair.public(),
            protocol_version: "/starling/0123abcd".to_owned(),
            agent_version: String::new(),
            listen_addrs: claimed.iter().map(|address| address.parse().unwrap()).collect(),
            protocols,
            observed_addr: Multiaddr::empty(),
            signed_peer_record: None,
        };
        behaviour.identified(keypair.public().to_peer_id(), connection, &info);
        let dials = behaviour.outputs.drain(..).filter(|output| matches!(output, ToSwarm::Dial { .. })).count();
        behaviour.dial_backs.clear();
        dials
    }

    #[test]
    fn nobody_can_aim_a_dial_back_at_somebody_else() {
        let mut behaviour = behaviour();
        let seen_at = "/ip4/198.51.100.1/tcp/50000";
        let own = "/ip4/198.51.100.1/tcp/4001";
        assert_eq!(identified(&mut behaviour, seen_at, &[own], true), 1);
        assert_eq!(identified(&mut behaviour, seen_at, &["/ip4/198.51.100.2/tcp/4001"], true), 0, "a victim's address");
        assert_eq!(identified(&mut behaviour, seen_at, &["/dns4/victim.example/tcp/4001"], true), 0);
        assert_eq!(identified(&mut behaviour, seen_at, &[own], false), 0, "it does not speak our Kademlia");
        assert_eq!(behaviour.table_size(), 0, "nothing is inserted before the dial-back has ended well");
    }
}
