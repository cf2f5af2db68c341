//! What the node says of itself to whoever connects: identify (<https://github.com/libp2p/specs/blob/master/identify/README.md>), with
//! those of its addresses that are of use to who asks.
//!
//! # Rules
//! 1. An address that the node listens on is told to a peer only if its [`Scope`] is at least as wide as that of the connection: on
//!    the internet the global ones, in a private network the private ones too, on one machine all. *Rationale:* a peer cannot reach the others
//!    and would not believe them (see `starling_protocol::peers::address`), and in which private networks a host is, is nobody's business.
//! 2. A peer that was dialled by its name is told all: the operator chose it, and libp2p does not say which address the name stood for.
//! 3. Addresses of [`external`](super::external), confirmed or given by the operator, are told to everybody; with `--nat extip:IP` they alone are.
//! 4. What peers say of their own addresses is not kept for dials. *Rationale:* libp2p would add it to the dials of Kademlia and of requests,
//!    and whom to dial where is decided by the peer book and by proof.
//!
//! # How
//! libp2p's behaviour tells every peer the same. So there is one for the connections of each scope, which is told of the addresses that its
//! peers may hear of. Their events are handled by one of them, which needs nothing of the connection for that.

use std::task::{Context, Poll};

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId, identify};
use starling_protocol::peers::address::Scope;

use super::limits::ip_of;

/// Identify; see the module documentation.
pub(crate) struct Behaviour {
    loopback: identify::Behaviour,
    private: identify::Behaviour,
    global: identify::Behaviour,
}

impl Behaviour {
    pub(crate) fn new(config: identify::Config) -> Self {
        let config = config.with_cache_size(0);
        let new = || identify::Behaviour::new(config.clone());
        Self { loopback: new(), private: new(), global: new() }
    }

    /// Who introduces the node on a connection with this address at its other end.
    fn to(&mut self, remote: &Multiaddr) -> &mut identify::Behaviour {
        // Only a dial has a name.
        let scope = ip_of(remote).map_or(Some(Scope::Loopback), Scope::of);
        match scope {
            Some(Scope::Loopback) => &mut self.loopback,
            Some(Scope::Private) => &mut self.private,
            Some(Scope::Global) | None => &mut self.global,
        }
    }

    fn each(&mut self) -> [(Scope, &mut identify::Behaviour); 3] {
        let Self { loopback, private, global } = self;
        [(Scope::Loopback, loopback), (Scope::Private, private), (Scope::Global, global)]
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = <identify::Behaviour as NetworkBehaviour>::ConnectionHandler;
    type ToSwarm = identify::Event;

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.to(remote).handle_established_inbound_connection(connection, peer, local, remote)
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        role: Endpoint,
        port_use: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.to(address).handle_established_outbound_connection(connection, peer, address, role, port_use)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::NewListenAddr(new) => {
                let own = ip_of(new.addr).and_then(Scope::of);
                for (scope, identify) in self.each() {
                    if own.is_some_and(|own| own >= scope) {
                        identify.on_swarm_event(event);
                    }
                }
            }
            FromSwarm::ConnectionEstablished(established) => {
                self.to(established.endpoint.get_remote_address()).on_swarm_event(event);
            }
            // All that has ended too: what a connection has seen is kept by the one that handles its events.
            _ => self.each().into_iter().for_each(|(_, identify)| identify.on_swarm_event(event)),
        }
    }

    fn on_connection_handler_event(&mut self, peer: PeerId, connection: ConnectionId, event: THandlerOutEvent<Self>) {
        self.loopback.on_connection_handler_event(peer, connection, event);
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        for (_, identify) in self.each() {
            if let Poll::Ready(output) = identify.poll(context) {
                return Poll::Ready(output);
            }
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::pin::Pin;
    use std::sync::atomic::{AtomicU16, Ordering};
    use std::time::Duration;

    use futures::{FutureExt as _, StreamExt as _};
    use libp2p::core::muxing::StreamMuxerBox;
    use libp2p::core::transport::{Boxed, DialOpts, ListenerId, MemoryTransport, TransportError, TransportEvent};
    use libp2p::core::upgrade::Version;
    use libp2p::core::{PeerRecord, Transport};
    use libp2p::identity::Keypair;
    use libp2p::multiaddr::Protocol;
    use libp2p::noise;
    use libp2p::swarm::behaviour::NewListenAddr;
    use libp2p::swarm::{Swarm, SwarmEvent};

    use super::*;

    /// Memory channels that are dialled at any address whose TCP port is their number.
    struct Disguised(MemoryTransport);

    impl Transport for Disguised {
        type Output = <MemoryTransport as Transport>::Output;
        type Error = <MemoryTransport as Transport>::Error;
        type ListenerUpgrade = <MemoryTransport as Transport>::ListenerUpgrade;
        type Dial = <MemoryTransport as Transport>::Dial;

        fn listen_on(&mut self, id: ListenerId, address: Multiaddr) -> Result<(), TransportError<Self::Error>> {
            self.0.listen_on(id, address)
        }

        fn remove_listener(&mut self, id: ListenerId) -> bool {
            self.0.remove_listener(id)
        }

        fn dial(&mut self, address: Multiaddr, options: DialOpts) -> Result<Self::Dial, TransportError<Self::Error>> {
            let port = address.iter().find_map(|part| if let Protocol::Tcp(port) = part { Some(port) } else { None });
            self.0.dial(Protocol::Memory(port.expect("a port").into()).into(), options)
        }

        fn poll(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
        ) -> Poll<TransportEvent<Self::ListenerUpgrade, Self::Error>> {
            Pin::new(&mut self.0).poll(context)
        }
    }

    fn swarm(hide: bool) -> Swarm<Behaviour> {
        let keypair = Keypair::generate_ed25519();
        let transport: Boxed<(PeerId, StreamMuxerBox)> = Disguised(MemoryTransport::default())
            .upgrade(Version::V1Lazy)
            .authenticate(noise::Config::new(&keypair).expect("a key"))
            .multiplex(crate::net::muxer::Config)
            .map(|(id, muxer), _| (id, StreamMuxerBox::new(muxer)))
            .boxed();
        let identify = identify::Config::new_with_signed_peer_record("test".into(), &keypair);
        let behaviour = Behaviour::new(identify.with_hide_listen_addrs(hide));
        let config = libp2p::swarm::Config::with_tokio_executor().with_idle_connection_timeout(Duration::from_secs(60));
        Swarm::new(transport, behaviour, keypair.public().to_peer_id(), config)
    }

    static NEXT_PORT: AtomicU16 = AtomicU16::new(1);

    const OWN: [&str; 4] =
        ["/ip4/127.0.0.1/tcp/1", "/ip4/192.168.1.5/tcp/1", "/ip6/fe80::1/tcp/1", "/ip4/198.51.100.5/tcp/1"];

    /// What a node that listens at [`OWN`] tells a peer that it has dialled there; what stands in its signed record has to be the same.
    async fn told(remote: &str, external: &[&str], hide: bool) -> BTreeSet<String> {
        let (mut node, mut peer) = (swarm(hide), swarm(false));
        for address in OWN {
            let (listener_id, addr) = (ListenerId::next(), address.parse().expect("an address"));
            let new = NewListenAddr { listener_id, addr: &addr };
            node.behaviour_mut().on_swarm_event(FromSwarm::NewListenAddr(new));
        }
        external.iter().for_each(|address| node.add_external_address(address.parse().expect("an address")));
        // Memory channels of all tests in the process share their numbers.
        let port = NEXT_PORT.fetch_add(1, Ordering::Relaxed);
        peer.listen_on(Multiaddr::from(Protocol::Memory(port.into()))).expect("it listens");
        let address: Multiaddr = format!("{remote}/tcp/{port}").parse().expect("an address");
        node.dial(address).expect("begun");
        let info = loop {
            tokio::select! {
                _ = node.select_next_some() => {}
                event = peer.select_next_some() => {
                    if let SwarmEvent::Behaviour(identify::Event::Received { info, .. }) = event {
                        break info;
                    }
                }
            }
        };
        while let Some(event) = peer.select_next_some().now_or_never() {
            assert!(!matches!(event, SwarmEvent::NewExternalAddrOfPeer { .. }), "nothing is kept for dials: {event:?}");
        }
        let record = PeerRecord::from_signed_envelope(info.signed_peer_record.expect("signed")).expect("a record");
        let signed: BTreeSet<String> = record.addresses().iter().map(ToString::to_string).collect();
        let plain = info.listen_addrs.iter().map(ToString::to_string).collect();
        assert_eq!(signed, plain);
        plain
    }

    fn own(which: &[usize]) -> BTreeSet<String> {
        which.iter().map(|index| OWN[*index].to_owned()).collect()
    }

    #[tokio::test]
    async fn everybody_is_told_the_addresses_that_can_be_of_use_and_no_others() {
        for (remote, expected) in [
            ("/ip4/203.0.113.9", own(&[3])),
            ("/ip6/2001:db8::9", own(&[3])),
            ("/ip4/10.1.2.3", own(&[1, 2, 3])),
            ("/ip6/fd00::9", own(&[1, 2, 3])),
            ("/ip4/127.0.0.9", own(&[0, 1, 2, 3])),
            ("/dns4/boot.example", own(&[0, 1, 2, 3])),
        ] {
            assert_eq!(told(remote, &[], false).await, expected, "{remote}");
        }
    }

    #[tokio::test]
    async fn external_addresses_are_told_to_everybody_and_alone_if_the_operator_gave_them() {
        let external = "/ip4/192.168.77.7/tcp/1";
        let one = BTreeSet::from([external.to_owned()]);
        for remote in ["/ip4/203.0.113.9", "/ip4/10.1.2.3", "/ip4/127.0.0.9"] {
            assert!(told(remote, &[external], false).await.is_superset(&one), "{remote}");
            assert_eq!(told(remote, &[external], true).await, one, "{remote}");
        }
    }
}
