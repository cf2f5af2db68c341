//! libp2p's own metrics, as far as no peer can make them grow.
//!
//! libp2p labels some of its metrics with the protocol stack of an address (`/ip4/tcp`), and some of these addresses are
//! whatever a peer says in identify: what it listens on, and where it claims to have seen us. A stack is a free sequence of
//! words, so such labels let anybody fill the registry and the monitor behind it. What is recorded here has labels that come
//! from our own listeners, from dials that our transports completed, or from enumerations.

use libp2p::metrics::{Metrics, Recorder, Registry};
use libp2p::swarm::SwarmEvent;
use libp2p::{identify, kad, ping};

/// Records events of libp2p. See the module for which.
pub(super) struct SwarmMetrics(Metrics);

impl SwarmMetrics {
    /// Registers libp2p's metrics.
    pub(super) fn new(registry: &mut Registry) -> Self {
        Self(Metrics::new(registry))
    }

    pub(super) fn swarm<E>(&self, event: &SwarmEvent<E>) {
        let bounded = match event {
            SwarmEvent::ConnectionEstablished { .. }
            | SwarmEvent::ConnectionClosed { .. }
            | SwarmEvent::IncomingConnection { .. }
            | SwarmEvent::IncomingConnectionError { .. }
            | SwarmEvent::OutgoingConnectionError { .. }
            | SwarmEvent::NewListenAddr { .. }
            | SwarmEvent::ExpiredListenAddr { .. }
            | SwarmEvent::ListenerClosed { .. }
            | SwarmEvent::ListenerError { .. }
            | SwarmEvent::Dialing { .. } => true,
            // External addresses are what peers say that ours is.
            _ => false,
        };
        if bounded {
            self.0.record(event);
        }
    }

    pub(super) fn identify(&self, event: &identify::Event) {
        // Of a received one libp2p keeps the addresses for labels.
        if !matches!(event, identify::Event::Received { .. }) {
            self.0.record(event);
        }
    }

    pub(super) fn kademlia(&self, event: &kad::Event) {
        self.0.record(event);
    }

    pub(super) fn ping(&self, event: &ping::Event) {
        self.0.record(event);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use libp2p::swarm::ConnectionId;
    use libp2p::{Multiaddr, PeerId};

    fn series(registry: &Registry) -> usize {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, registry).expect("encodes");
        text.lines().filter(|line| !line.starts_with('#')).count()
    }

    /// An address whose protocol stack is the number's digits in base two.
    fn odd_address(number: usize) -> Multiaddr {
        let word = |bit: usize| if number >> bit & 1 == 0 { "/tcp/1" } else { "/udp/1" };
        (0..8).map(word).collect::<String>().parse().expect("a multiaddr")
    }

    #[test]
    fn nothing_that_a_peer_says_makes_a_series() {
        let mut registry = Registry::default();
        let metrics = SwarmMetrics::new(&mut registry);
        let keypair = libp2p::identity::Keypair::generate_ed25519();
        let mut before = None;
        for number in 0..200 {
            let address = odd_address(number);
            metrics.swarm(&SwarmEvent::<()>::NewExternalAddrCandidate { address: address.clone() });
            metrics.swarm(&SwarmEvent::<()>::ExternalAddrConfirmed { address: address.clone() });
            metrics.swarm(&SwarmEvent::<()>::ExternalAddrExpired { address: address.clone() });
            let info = identify::Info {
                public_key: keypair.public(),
                protocol_version: format!("/{number}"),
                agent_version: format!("agent {number}"),
                listen_addrs: (number..number + 50).map(odd_address).collect(),
                protocols: Vec::new(),
                observed_addr: address,
                signed_peer_record: None,
            };
            let (connection_id, peer_id) = (ConnectionId::new_unchecked(number), PeerId::random());
            metrics.identify(&identify::Event::Received { connection_id, peer_id, info });
            metrics.identify(&identify::Event::Sent { connection_id, peer_id });
            let now = series(&registry);
            assert_eq!(*before.get_or_insert(now), now, "event {number} added series");
        }
    }
}
