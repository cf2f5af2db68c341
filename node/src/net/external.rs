//! At which addresses others reach the node, when it does not listen on them itself: behind address translation.
//!
//! # Rules
//! 1. What [`Nat`] says goes. `none`: nothing is looked for, and others are told where the node listens. `extip:IP`: others are told this address, with
//!    the ports listened on, and nothing else. `any`, the default: rules 2 to 4.
//! 2. A peer that we dialled tells in identify at which address it sees us. An address becomes a candidate when peers of
//!    [`WITNESSES`] groups (see [`Group`]) name it; each group has one voice, the last. *Rationale:* an inbound peer is not of our choosing, and
//!    one liar must not decide.
//! 3. A candidate is told to others only when AutoNAT v2 (libp2p specs, autonat) has confirmed it: another node dialled it and
//!    brought back what only we know. At most [`CANDIDATES_MAX`] are ever put to the test.
//! 4. The node does the same for others, within the rules of [`server`].
//!
//! Which of the addresses that the node listens on are told to whom, `introduction` says. A confirmed address holds until the node stops.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::task::{Context, Poll};

use libp2p::autonat::v2;
use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::behaviour::NewExternalAddrCandidate;
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId};
use starling_protocol::peers::address::{Group, Scope};

use super::limits::ip_of;

pub mod server;

/// Groups of peers that must name an address before it is tested.
pub const WITNESSES: usize = 2;

/// Groups whose word is remembered.
pub const VOICES_MAX: usize = 64;

/// Addresses that are put to the test in the life of a node.
pub const CANDIDATES_MAX: usize = 16;

/// What the operator says about address translation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Nat {
    /// Find out.
    #[default]
    Any,
    /// There is none.
    None,
    /// The node is reached at this address.
    External(IpAddr),
}

/// What is known of an address at which others may reach the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// The operator says so.
    Given,
    /// Another node has dialled it and met us.
    Confirmed,
    /// Others see us there, and another node has dialled it in vain.
    Failed,
}

impl std::str::FromStr for Nat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} says nothing about address translation; give any, none, or extip:192.0.2.7");
        match text {
            "any" => Ok(Self::Any),
            "none" => Ok(Self::None),
            _ => {
                let ip: IpAddr = text.strip_prefix("extip:").and_then(|ip| ip.parse().ok()).ok_or_else(wrong)?;
                Scope::of(ip).map(|_| Self::External(ip)).ok_or_else(wrong)
            }
        }
    }
}

/// The address with another IP address in front, if it is of the same family.
pub(crate) fn translated(listening: &Multiaddr, ip: IpAddr) -> Option<Multiaddr> {
    let own = ip_of(listening)?;
    (own.is_ipv4() == ip.is_ipv4()).then(|| {
        let rest = listening.iter().skip(1).filter(|part| !matches!(part, Protocol::P2p(_)));
        rest.fold(Multiaddr::from(ip), Multiaddr::with)
    })
}

/// What peers say of our address.
#[derive(Debug, Default)]
pub(crate) struct Voices {
    said: BTreeMap<Group, IpAddr>,
    /// Whether addresses of a laboratory count, for tests.
    local: bool,
}

impl Voices {
    pub(crate) fn new(local: bool) -> Self {
        Self { said: BTreeMap::new(), local }
    }

    /// Takes in what a peer at `from` says; the address if enough others say so too.
    pub(crate) fn hear(&mut self, from: IpAddr, observed: IpAddr) -> Option<IpAddr> {
        let global = Scope::of(observed) == Some(Scope::Global) && Scope::of(from) == Some(Scope::Global);
        if !global && !self.local {
            return None;
        }
        let group = Group::of(from)?;
        if self.said.len() >= VOICES_MAX && !self.said.contains_key(&group) {
            self.said.pop_first();
        }
        self.said.insert(group, observed);
        (self.said.values().filter(|said| **said == observed).count() >= WITNESSES).then_some(observed)
    }
}

/// AutoNAT's client, which tests the candidates that it is given and no others.
pub(crate) struct Client {
    inner: v2::client::Behaviour,
    given: BTreeSet<Multiaddr>,
}

impl Client {
    pub(crate) fn new() -> Self {
        Self { inner: v2::client::Behaviour::default(), given: BTreeSet::new() }
    }

    /// Puts an address to the test, once.
    pub(crate) fn test(&mut self, address: &Multiaddr) {
        if self.given.len() < CANDIDATES_MAX && self.given.insert(address.clone()) {
            let candidate = NewExternalAddrCandidate { addr: address };
            self.inner.on_swarm_event(FromSwarm::NewExternalAddrCandidate(candidate));
        }
    }
}

impl NetworkBehaviour for Client {
    type ConnectionHandler = <v2::client::Behaviour as NetworkBehaviour>::ConnectionHandler;
    type ToSwarm = v2::client::Event;

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.inner.handle_established_inbound_connection(connection, peer, local, remote)
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
        // Identify names one for every word of every peer; who may is decided by `Voices`.
        if !matches!(event, FromSwarm::NewExternalAddrCandidate(_)) {
            self.inner.on_swarm_event(event);
        }
    }

    fn on_connection_handler_event(&mut self, peer: PeerId, connection: ConnectionId, event: THandlerOutEvent<Self>) {
        self.inner.on_connection_handler_event(peer, connection, event);
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        self.inner.poll(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn one_network_alone_does_not_decide_our_address() {
        let mut voices = Voices::new(false);
        let claimed = ip("203.0.113.9");
        assert!((1..50).all(|host| voices.hear(ip(&format!("20.20.{host}.1")), claimed).is_none()));
        assert_eq!(voices.hear(ip("21.20.1.1"), ip("203.0.113.8")), None, "they do not agree");
        assert_eq!(voices.hear(ip("22.20.1.1"), claimed), Some(claimed));
        assert_eq!(voices.hear(ip("23.20.1.1"), ip("10.0.0.1")), None, "nobody outside reaches that");
        assert_eq!(voices.hear(ip("127.0.0.1"), claimed), None);
        for group in 30..200 {
            voices.hear(ip(&format!("{group}.1.1.1")), claimed);
        }
        assert!(voices.said.len() <= VOICES_MAX);
    }

    #[test]
    fn an_address_keeps_its_ports_and_its_transport() {
        let listening: Multiaddr = "/ip4/192.168.1.5/udp/26500/quic-v1".parse().expect("an address");
        let outside = translated(&listening, ip("203.0.113.9")).expect("the same family");
        assert_eq!(outside.to_string(), "/ip4/203.0.113.9/udp/26500/quic-v1");
        assert_eq!(translated(&listening, ip("2001:db8::1")), None);
    }

    #[test]
    fn what_the_operator_says_is_read() {
        assert_eq!("any".parse(), Ok(Nat::Any));
        assert_eq!("none".parse(), Ok(Nat::None));
        assert_eq!("extip:192.0.2.7".parse(), Ok(Nat::External(ip("192.0.2.7"))));
        for wrong in ["", "upnp", "extip:", "extip:host.example", "extip:0.0.0.0", "192.0.2.7"] {
            assert!(wrong.parse::<Nat>().expect_err(wrong).contains("extip:192.0.2.7"), "{wrong}");
        }
    }
}
