//! A network that ends at this host: nobody elsewhere is dialled, and nobody elsewhere can dial.
//!
//! # Rules
//! 1. Nothing is dialled but `/ip4/127.…` and `/ip6/::1`, whoever wants it: the caller, Kademlia, or a peer that told of an address. Names are
//!    not looked up, because what they stand for is another's choice. An address with anything else in front, a relay or a name, is refused.
//! 2. A listener has a loopback address, to which the kernel delivers from this host alone.
//!
//! *Rationale:* whatever plays by other rules on purpose, such as an attacker of a local test network, must be of no use against anybody else's
//! nodes. The rule stands under everything that dials, so that no list of addresses and no peer's word leads past it.

use std::net::IpAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use libp2p::Multiaddr;
use libp2p::core::Transport;
use libp2p::core::transport::{DialOpts, ListenerId, TransportError, TransportEvent};
use libp2p::multiaddr::Protocol;
use starling_crypto::SecretKey;
use starling_protocol::genesis::Genesis;
use starling_protocol::id::PeerId;
use starling_protocol::peers::Address;

use super::external::Nat;
use super::limits::ConnectionLimits;
use super::network::{Network, NetworkConfig, NetworkError, to_address, to_protocol_id};
use super::port::Port;
use crate::keyfile::libp2p_keypair;

/// Connections of an attacker; more than a host has nodes.
const CONNECTIONS_MAX: usize = 10_000;

/// A port to a network of this host alone, under the identity of `key`, listening on `ip` at a port that the system chooses.
///
/// # Errors
/// When `ip` is not a loopback address or cannot be listened on, or the system gives no random numbers.
pub async fn port(genesis: &Genesis, ip: IpAddr, key: &SecretKey) -> Result<Port, NetworkError> {
    let mut config = NetworkConfig::of_genesis(genesis);
    config.listen = vec![Multiaddr::from(ip).with(Protocol::Tcp(0))];
    config.nat = Nat::None;
    config.confined = true;
    config.limits = ConnectionLimits {
        per_ip_max: CONNECTIONS_MAX,
        pending_outbound_max: CONNECTIONS_MAX,
        ..ConnectionLimits::for_peers(CONNECTIONS_MAX)
    };
    let network = Network::start(&config, &libp2p_keypair(key), &mut libp2p::metrics::Registry::default()).await?;
    Ok(Port::new(network))
}

/// Reads where a node of this host is: an address that ends in `/p2p/ID`.
///
/// # Errors
/// If it is no such address, or does not lead to this host.
pub fn peer(text: &str) -> Result<(PeerId, Address), NotHere> {
    let address: Multiaddr = text.parse().map_err(|_not_one| NotHere::Unreadable(text.to_owned()))?;
    let id = address.iter().find_map(|part| match part {
        Protocol::P2p(id) => to_protocol_id(&id),
        _ => None,
    });
    let id = id.ok_or_else(|| NotHere::Unreadable(text.to_owned()))?;
    if !is_on_this_host(&address) {
        return Err(NotHere::Elsewhere(text.to_owned()));
    }
    Ok((id, to_address(address)))
}

/// Why a node cannot be spoken to from a network that ends at this host.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotHere {
    /// It is no address.
    #[error("{0:?} is no address of a node; give a multiaddress such as /ip4/127.0.0.1/tcp/26500/p2p/ID")]
    Unreadable(String),
    /// It leads elsewhere.
    #[error(
        "{0} is not on this host, and attacks are for nodes of this host only; give a node that listens in 127.0.0.0/8 or on ::1"
    )]
    Elsewhere(String),
}

/// Whether an address can only lead to this host.
#[must_use]
pub fn is_on_this_host(address: &Multiaddr) -> bool {
    match address.iter().next() {
        Some(Protocol::Ip4(ip)) => ip.is_loopback(),
        Some(Protocol::Ip6(ip)) => ip.is_loopback(),
        _ => false,
    }
}

/// Rules 1 and 2, in front of a transport.
#[derive(Debug)]
pub(crate) struct Confined<T>(pub(crate) T);

impl<T: Transport + Unpin> Transport for Confined<T> {
    type Output = T::Output;
    type Error = T::Error;
    type ListenerUpgrade = T::ListenerUpgrade;
    type Dial = T::Dial;

    fn listen_on(&mut self, id: ListenerId, address: Multiaddr) -> Result<(), TransportError<T::Error>> {
        if !is_on_this_host(&address) {
            return Err(TransportError::MultiaddrNotSupported(address));
        }
        self.0.listen_on(id, address)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.0.remove_listener(id)
    }

    fn dial(&mut self, address: Multiaddr, options: DialOpts) -> Result<T::Dial, TransportError<T::Error>> {
        if !is_on_this_host(&address) {
            return Err(TransportError::MultiaddrNotSupported(address));
        }
        self.0.dial(address, options)
    }

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<TransportEvent<T::ListenerUpgrade, T::Error>> {
        Pin::new(&mut self.0).poll(context)
    }
}

#[cfg(test)]
mod tests {
    use super::super::network::{NetEvent, peer_id_text};
    use super::*;
    use starling_protocol::genesis::{GenesisParameters, Limits};
    use std::net::Ipv4Addr;

    const ID: &str = "12D3KooWHyku2BBBqEaCYPbayhhTne15vYwV3P7YFTLrwVb2dmo4";

    fn genesis() -> Genesis {
        let key = SecretKey::from_seed(&[1; 32]);
        Genesis::new(GenesisParameters {
            name: "confined".into(),
            start_time_ms: 1,
            slot_ms: 1_000,
            producers: vec![key.public_key().to_bytes()],
            limits: Limits::default(),
            stamp_bits: 0,
        })
        .expect("a valid genesis")
    }

    #[test]
    fn only_a_node_of_this_host_is_read() {
        for good in ["/ip4/127.3.0.9/tcp/1", "/ip6/::1/udp/1/quic-v1"] {
            let (id, address) = peer(&format!("{good}/p2p/{ID}")).expect(good);
            assert_eq!(peer_id_text(&id), ID);
            assert_eq!(Multiaddr::try_from(address.to_vec()).expect("an address").to_string(), good);
        }
        for elsewhere in
            ["/ip4/192.0.2.1/tcp/1", "/dns4/localhost/tcp/1", "/ip6/2001:db8::1/tcp/1", "/ip6/::ffff:7f00:1/tcp/1"]
        {
            let text = format!("{elsewhere}/p2p/{ID}");
            assert_eq!(peer(&text), Err(NotHere::Elsewhere(text)));
        }
        for unreadable in ["", "127.0.0.1:1", "/ip4/127.0.0.1/tcp/1"] {
            assert_eq!(peer(unreadable), Err(NotHere::Unreadable(unreadable.to_owned())));
        }
    }

    #[tokio::test]
    async fn nobody_elsewhere_is_dialled_or_listened_to() {
        let key = SecretKey::from_seed(&[2; 32]);
        let refused = port(&genesis(), Ipv4Addr::UNSPECIFIED.into(), &key).await.err().expect("all addresses");
        assert!(refused.to_string().contains("127.0.0.0/8"), "{refused}");

        let mut port = port(&genesis(), Ipv4Addr::new(127, 0, 0, 1).into(), &key).await.expect("a loopback address");
        // A listener on this host, at an address of another kind: the dial would succeed if it were made.
        let listener = std::net::TcpListener::bind("0.0.0.0:0").expect("bound");
        listener.set_nonblocking(true).expect("a socket");
        let at = listener.local_addr().expect("an address").port();
        let addresses =
            [format!("/ip4/0.0.0.0/tcp/{at}"), format!("/dns4/localhost/tcp/{at}"), "/ip4/192.0.2.1/tcp/1".into()];
        let addresses: Vec<Address> =
            addresses.iter().map(|address| address.parse::<Multiaddr>().expect("an address").to_vec().into()).collect();
        let (id, _) = peer(&format!("/ip4/127.0.0.1/tcp/1/p2p/{ID}")).expect("a node");
        port.network.dial(id, &addresses);
        let event = tokio::time::timeout(std::time::Duration::from_secs(20), port.network.next_event()).await;
        let Ok(NetEvent::DialFailed { reason, .. }) = event else { panic!("{event:?}") };
        assert_eq!(reason, "no transport for the address");
        assert!(listener.accept().is_err(), "somebody has come");
    }
}
