//! What the network can be told, and why it may not start.

use std::time::Duration;

use libp2p::Multiaddr;
use starling_protocol::genesis::Genesis;
use starling_protocol::request::Response;
use starling_protocol::wire::TopicInterner;

use crate::net::emulation::LinkEmulation;
use crate::net::external::Nat;
use crate::net::limits::ConnectionLimits;
use crate::net::mesh::MeshConfig;
use crate::net::names::NameServer;

/// Settings of the network.
#[derive(Clone, Debug)]
pub struct NetworkConfig {
    /// The first eight hex characters of the network's id; names the protocols.
    pub network: String,
    /// Where to listen; port 0 takes a free one.
    pub listen: Vec<Multiaddr>,
    /// Addresses at which the node can be reached from outside, if they differ from those it listens on.
    pub external: Vec<Multiaddr>,
    /// What is known of address translation.
    pub nat: Nat,
    /// Whom to ask for the addresses of names; nobody means those that the host asks.
    pub name_servers: Vec<NameServer>,
    /// Whether addresses of a laboratory are confirmed as well, for tests.
    pub confirm_local: bool,
    /// The gossipsub streams.
    pub mesh: MeshConfig,
    /// How many connections.
    pub limits: ConnectionLimits,
    /// Longest response to a request for blocks, in bytes.
    pub response_bytes_max: usize,
    /// What the node calls itself.
    pub agent_version: String,
    /// How often the round trip to every peer is measured.
    pub ping_interval: Duration,
    /// How often peers are asked anew who they are.
    pub identify_interval: Duration,
    /// Emulated links, over TCP only.
    pub link_emulation: Option<LinkEmulation>,
    /// Whether only this host is spoken to: see [`crate::net::confined`].
    pub confined: bool,
}

impl NetworkConfig {
    /// The defaults for a network: TCP and QUIC on every address, ports chosen by the system.
    ///
    /// # Panics
    /// Never: the addresses are constants.
    #[must_use]
    pub fn new(network: &str) -> Self {
        let parse = |address: &str| address.parse().expect("a constant address");
        Self {
            network: network.to_owned(),
            listen: vec![parse("/ip4/0.0.0.0/tcp/0"), parse("/ip4/0.0.0.0/udp/0/quic-v1")],
            external: Vec::new(),
            nat: Nat::Any,
            name_servers: Vec::new(),
            confirm_local: false,
            mesh: MeshConfig::default(),
            limits: ConnectionLimits::default(),
            response_bytes_max: starling_protocol::wire::limits::FRAME_BYTES_MAX,
            agent_version: concat!("starling/", env!("CARGO_PKG_VERSION")).to_owned(),
            // libp2p's default; the mesh needs no fresher figure.
            ping_interval: Duration::from_secs(15),
            // A guess: a peer whose dial-back had to be put off is looked at again after a minute.
            identify_interval: Duration::from_secs(60),
            link_emulation: None,
            confined: false,
        }
    }

    /// The defaults for the network with this genesis.
    #[must_use]
    pub fn of_genesis(genesis: &Genesis) -> Self {
        let topics = TopicInterner::new([genesis.transaction_topic().clone(), genesis.block_topic().clone()]);
        Self {
            response_bytes_max: Response::bytes_max(genesis),
            mesh: MeshConfig { topics, ..MeshConfig::default() },
            ..Self::new(&genesis.short_id())
        }
    }
}

/// Why the network did not start.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// The identity's key cannot be used.
    #[error("the node's identity key cannot be used for encryption: {0}; use an ed25519 key")]
    Identity(String),
    /// The operating system gave no random numbers.
    #[error("the operating system gives no random numbers: {0}; check that getrandom is permitted to this process")]
    Entropy(std::io::Error),
    /// A listening address cannot be used.
    #[error("cannot listen on {address}: {cause}; choose a free port (0 takes any) and an address of this host")]
    Listen {
        /// The address.
        address: Multiaddr,
        /// What the transport said.
        cause: String,
    },
    /// An address of other hosts was to be listened on by somebody who is to stay on this one.
    #[error("cannot listen on {address}, which is not a loopback address; give one in 127.0.0.0/8, or ::1")]
    Confined {
        /// The address.
        address: Multiaddr,
    },
    /// QUIC was asked for together with link emulation.
    #[error("cannot listen on {address} with link emulation, which works over TCP only; remove the QUIC address")]
    EmulatedQuic {
        /// The address.
        address: Multiaddr,
    },
}
