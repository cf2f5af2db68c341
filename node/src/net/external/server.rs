//! Testing for others whether their addresses can be reached: the server of AutoNAT v2
//! (<https://github.com/libp2p/specs/blob/master/autonat/autonat-v2.md>).
//!
//! # Rules
//! 1. An address is dialled only if it has the IP address that the client is seen at, and Starling listens on such addresses:
//!    `/ip4|ip6/…/tcp/…` or `/ip4|ip6/…/udp/…/quic-v1`. *Rationale:* whoever asks chooses the address. With this rule it can aim at itself
//!    alone: not at a third party, nor at what only this node can reach (loopback, private and link-local networks, names). In a laboratory on
//!    loopback or in a private network client and server see each other there, and the rule holds as it stands. The specification also lets
//!    a server dial strangers for a client that has sent some 64 KB before; the client's own address is all that a node needs, and
//!    another's may be tested by a server that sees the client there.
//! 2. At most [`TESTS_MAX`] dials at once, so that nobody can use up the node's dials.
//! 3. A test that was not made is not reported as failed: the client is told of an internal error, and may ask somebody else.
//!
//! # Bounds
//! One entry for each inbound connection, whose number `limits` bounds, and one for each dial of rule 2.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::task::{Context, Poll};

use libp2p::autonat::v2;
use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, DialError, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent,
    THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId};

use crate::net::limits::ip_of;
use crate::rate_limited;

/// Dials for others at once.
pub const TESTS_MAX: usize = 4;

/// Why an address is not dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an address is tested only for a client that is seen at its IP address; connect from there and ask again")]
struct NotTheClients;

/// AutoNAT's server; see the module documentation.
pub(crate) struct Server {
    inner: v2::server::Behaviour,
    /// From where the clients of inbound connections are seen.
    clients: BTreeMap<ConnectionId, (PeerId, IpAddr)>,
    dials: BTreeSet<ConnectionId>,
}

impl Server {
    pub(crate) fn new() -> Self {
        Self { inner: v2::server::Behaviour::default(), clients: BTreeMap::new(), dials: BTreeSet::new() }
    }

    /// Rule 1.
    fn check(&self, client: Option<PeerId>, addresses: &[Multiaddr]) -> Result<(), NotTheClients> {
        let is_the_clients = |address: &Multiaddr| {
            let seen = |ip| self.clients.values().any(|(id, seen_at)| Some(*id) == client && *seen_at == ip);
            is_plain(address) && ip_of(address).is_some_and(seen)
        };
        if addresses.iter().all(is_the_clients) { Ok(()) } else { Err(NotTheClients) }
    }

    /// Rule 3. The command to dial goes to the handler of the new connection, and with it goes the channel on which the client's
    /// request waits; a closed channel makes libp2p answer with `E_INTERNAL_ERROR`.
    fn never_mind(&mut self, connection: ConnectionId, client: Option<PeerId>) {
        let Some(client) = client else { return };
        let (nowhere, role, port_use) = (Multiaddr::empty(), Endpoint::Dialer, PortUse::New);
        drop(self.inner.handle_established_outbound_connection(connection, client, &nowhere, role, port_use));
    }
}

/// Whether it is an address of the kind that the node itself has, with or without a peer id.
fn is_plain(address: &Multiaddr) -> bool {
    let mut parts = address.iter();
    let is_ip = matches!(parts.next(), Some(Protocol::Ip4(_) | Protocol::Ip6(_)));
    let is_port = match parts.next() {
        Some(Protocol::Tcp(_)) => true,
        Some(Protocol::Udp(_)) => matches!(parts.next(), Some(Protocol::QuicV1)),
        _ => false,
    };
    is_ip && is_port && matches!((parts.next(), parts.next()), (None | Some(Protocol::P2p(_)), None))
}

impl NetworkBehaviour for Server {
    type ConnectionHandler = <v2::server::Behaviour as NetworkBehaviour>::ConnectionHandler;
    type ToSwarm = v2::server::Event;

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.inner.handle_established_inbound_connection(connection, peer, local, remote)
    }

    fn handle_pending_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: Option<PeerId>,
        addresses: &[Multiaddr],
        _: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        if self.dials.contains(&connection) {
            self.check(peer, addresses).map_err(|refused| {
                rate_limited!(debug, ?peer, ?addresses, "a peer wants an address tested that is not its own");
                ConnectionDenied::new(refused)
            })?;
        }
        Ok(Vec::new())
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        role: Endpoint,
        port_use: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.inner.handle_established_outbound_connection(connection, peer, address, role, port_use)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match &event {
            FromSwarm::ConnectionEstablished(established) => {
                self.dials.remove(&established.connection_id);
                let ip = ip_of(established.endpoint.get_remote_address());
                if let Some(ip) = ip.filter(|_| established.endpoint.is_listener()) {
                    self.clients.insert(established.connection_id, (established.peer_id, ip));
                }
            }
            FromSwarm::ConnectionClosed(closed) => {
                self.clients.remove(&closed.connection_id);
            }
            FromSwarm::DialFailure(failure) => {
                let is_test = self.dials.remove(&failure.connection_id);
                // Denied is what nobody has tried, because of rule 1 or for want of room.
                if is_test && matches!(failure.error, DialError::Denied { .. }) {
                    self.never_mind(failure.connection_id, failure.peer_id);
                }
            }
            _ => {}
        }
        self.inner.on_swarm_event(event);
    }

    fn on_connection_handler_event(&mut self, peer: PeerId, connection: ConnectionId, event: THandlerOutEvent<Self>) {
        self.inner.on_connection_handler_event(peer, connection, event);
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        loop {
            match self.inner.poll(context) {
                Poll::Ready(ToSwarm::Dial { opts }) if self.dials.len() >= TESTS_MAX => {
                    self.never_mind(opts.connection_id(), opts.get_peer_id());
                }
                Poll::Ready(ToSwarm::Dial { opts }) => {
                    self.dials.insert(opts.connection_id());
                    return Poll::Ready(ToSwarm::Dial { opts });
                }
                other => return other,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use libp2p::core::ConnectedPoint;
    use libp2p::swarm::behaviour::ConnectionEstablished;

    use super::*;

    /// A server with an inbound connection from each of these.
    fn server(seen_at: &[(PeerId, &str)]) -> Server {
        let mut server = Server::new();
        for (number, (peer_id, address)) in seen_at.iter().enumerate() {
            server.on_swarm_event(FromSwarm::ConnectionEstablished(ConnectionEstablished {
                peer_id: *peer_id,
                connection_id: ConnectionId::new_unchecked(number),
                endpoint: &ConnectedPoint::Listener {
                    local_addr: Multiaddr::empty(),
                    send_back_addr: address.parse().expect("an address"),
                },
                failed_addresses: &[],
                other_established: 0,
            }));
        }
        server
    }

    /// Whether a test for this client would be begun.
    fn dials(server: &mut Server, client: PeerId, address: &str) -> bool {
        let connection = ConnectionId::new_unchecked(99);
        server.dials.insert(connection);
        let addresses = [address.parse().expect("an address")];
        server.handle_pending_outbound_connection(connection, Some(client), &addresses, Endpoint::Dialer).is_ok()
    }

    #[test]
    fn a_client_can_have_nothing_dialled_but_itself() {
        let [client, other] = [PeerId::random(), PeerId::random()];
        let seen_at = [
            (client, "/ip4/198.51.100.1/tcp/50000"),
            (client, "/ip6/2001:db8::7/udp/50000/quic-v1"),
            (other, "/ip4/203.0.113.1/tcp/50000"),
        ];
        let mut server = server(&seen_at);
        for own in [
            "/ip4/198.51.100.1/tcp/26500".to_owned(),
            format!("/ip4/198.51.100.1/udp/26500/quic-v1/p2p/{client}"),
            "/ip6/2001:db8::7/tcp/26500".to_owned(),
            "/ip6/::ffff:198.51.100.1/tcp/26500".to_owned(),
        ] {
            assert!(dials(&mut server, client, &own), "{own}");
        }
        for wrong in [
            "/ip4/198.51.100.2/tcp/26500",
            "/ip4/203.0.113.1/tcp/26500",
            "/ip6/2001:db8::8/tcp/26500",
            "/ip4/127.0.0.1/tcp/22",
            "/ip4/10.0.0.1/tcp/80",
            "/ip4/192.168.0.1/tcp/80",
            "/ip4/169.254.169.254/tcp/80",
            "/ip4/0.0.0.0/tcp/26500",
            "/ip4/224.0.0.1/udp/26500/quic-v1",
            "/ip6/::1/tcp/26500",
            "/ip6/fe80::1/tcp/26500",
            "/ip6/fd00::1/tcp/26500",
            "/ip6zone/eth0/ip6/fe80::1/tcp/26500",
            "/dns4/198.51.100.1/tcp/26500",
            "/dnsaddr/victim.example",
            "/ip4/198.51.100.1/tcp/26500/dns4/victim.example",
            "/ip4/198.51.100.1/udp/26500",
            "/ip4/198.51.100.1/tcp/26500/ws",
            "",
        ] {
            assert!(!dials(&mut server, client, wrong), "{wrong}");
        }
    }

    #[test]
    fn a_laboratory_tests_its_own_and_nothing_else() {
        let [client, neighbour] = [PeerId::random(), PeerId::random()];
        let mut server = server(&[(client, "/ip4/127.0.0.5/tcp/50000"), (neighbour, "/ip4/10.0.0.5/tcp/50000")]);
        assert!(dials(&mut server, client, "/ip4/127.0.0.5/tcp/26500"));
        assert!(dials(&mut server, neighbour, "/ip4/10.0.0.5/tcp/26500"));
        assert!(!dials(&mut server, client, "/ip4/127.0.0.1/tcp/26500"));
        assert!(!dials(&mut server, client, "/ip4/10.0.0.5/tcp/26500"));
        assert!(!dials(&mut server, neighbour, "/ip4/127.0.0.5/tcp/26500"));
    }
}
