//! The combined behaviour and the transports, put together into a swarm.

use std::sync::Arc;
use std::time::Duration;

use libp2p::core::Transport;
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::timeout::TransportTimeout;
use libp2p::core::transport::{Boxed, OrTransport};
use libp2p::core::upgrade::Version as Negotiation;
use libp2p::identity::Keypair;
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::swarm::{NetworkBehaviour, Swarm};
use libp2p::{PeerId, identify, noise, ping, quic};

use super::confined::Confined;
use super::emulation::line::Emulation;
use super::external::Nat;
use super::network::{NetworkConfig, NetworkError};
use super::paced::Paced;
use super::transport::{SocketCounters, TcpTransport};
use super::{blocks, discovery, external, introduction, limits, mesh, muxer, names};

/// How long a connection may take to be established, handshake and multiplexing included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a connection without streams is kept.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);

/// Inbound streams of one connection that may be negotiating their protocol at once.
const NEGOTIATING_STREAMS_MAX: usize = 32;

/// QUIC's counterparts of the limits in [`muxer`]: bytes that may be on their way to us on one stream and in all.
const QUIC_STREAM_WINDOW_BYTES: u32 = 1 << 20;
const QUIC_CONNECTION_WINDOW_BYTES: u32 = 4 << 20;

/// What the identify protocol version of every Starling node begins with.
pub(crate) const NETWORK_NAME_PREFIX: &str = "/starling/";

/// Everything the node does on a connection. The limits come first, see [`limits::Behaviour`].
#[derive(NetworkBehaviour)]
pub(crate) struct Behaviour {
    /// Refuses what is too much.
    pub(crate) limits: limits::Behaviour,
    /// Gossipsub's streams.
    pub(crate) mesh: mesh::Behaviour,
    /// Kademlia.
    pub(crate) discovery: discovery::Behaviour,
    /// Who peers say they are.
    pub(crate) identify: introduction::Behaviour,
    /// Round-trip times.
    pub(crate) ping: ping::Behaviour,
    /// Requests for blocks.
    pub(crate) blocks: blocks::Behaviour,
    /// Has our addresses confirmed.
    pub(crate) reachability: Toggle<external::Client>,
    /// Confirms those of others.
    pub(crate) reachability_of_others: Toggle<external::server::Server>,
}

/// Builds a swarm that listens nowhere yet.
///
/// # Errors
/// When the identity's key cannot be used for encryption.
pub(crate) fn build_swarm(
    config: &NetworkConfig,
    keypair: &Keypair,
    counters: &Arc<SocketCounters>,
) -> Result<Swarm<Behaviour>, NetworkError> {
    let own = keypair.public().to_peer_id();
    let identify = identify::Config::new_with_signed_peer_record(network_name(&config.network), keypair)
        .with_agent_version(config.agent_version.clone())
        .with_interval(config.identify_interval)
        .with_hide_listen_addrs(matches!(config.nat, Nat::External(_)));
    let behaviour = Behaviour {
        limits: limits::Behaviour::new(config.limits.clone()),
        mesh: mesh::Behaviour::new(own, config.mesh.clone()),
        discovery: discovery::Behaviour::new(own, &config.network),
        identify: introduction::Behaviour::new(identify),
        ping: ping::Behaviour::new(ping::Config::new().with_interval(config.ping_interval)),
        blocks: blocks::behaviour(&config.network, config.response_bytes_max),
        reachability: Toggle::from((config.nat == Nat::Any).then(external::Client::new)),
        reachability_of_others: Toggle::from((config.nat != Nat::None).then(external::server::Server::new)),
    };
    let swarm_config = libp2p::swarm::Config::with_tokio_executor()
        .with_idle_connection_timeout(IDLE_TIMEOUT)
        .with_max_negotiating_inbound_streams(NEGOTIATING_STREAMS_MAX);
    Ok(Swarm::new(transport(config, keypair, counters)?, behaviour, own, swarm_config))
}

/// What a node of this network gives as its protocol version in identify.
pub(crate) fn network_name(network: &str) -> String {
    format!("{NETWORK_NAME_PREFIX}{network}")
}

type Authenticated = Boxed<(PeerId, StreamMuxerBox)>;

fn transport(
    config: &NetworkConfig,
    keypair: &Keypair,
    counters: &Arc<SocketCounters>,
) -> Result<Authenticated, NetworkError> {
    let emulation = config.link_emulation.as_ref().map(Emulation::new);
    let noise = noise::Config::new(keypair).map_err(|error| NetworkError::Identity(error.to_string()))?;
    let addressed = || {
        let tcp = TcpTransport::new(Arc::clone(counters), emulation.clone())
            .upgrade(Negotiation::V1Lazy)
            .authenticate(noise.clone())
            .multiplex(muxer::Config)
            .map(|(id, muxer), _| (id, StreamMuxerBox::new(Paced::new(muxer))))
            .boxed();
        if emulation.is_some() {
            return tcp;
        }
        OrTransport::new(tcp, quic_transport(keypair)).map(|either, _| either.into_inner()).boxed()
    };
    if config.confined {
        return Ok(TransportTimeout::new(Confined(addressed()), CONNECT_TIMEOUT).boxed());
    }
    let resolving = match names::with_names(addressed(), &config.name_servers) {
        Ok(resolving) => resolving.boxed(),
        Err(error) => {
            tracing::warn!(%error, "no name server is configured on this host; to dial addresses with names, give one with --dns-servers");
            addressed()
        }
    };
    Ok(TransportTimeout::new(resolving, CONNECT_TIMEOUT).boxed())
}

fn quic_transport(keypair: &Keypair) -> Authenticated {
    let mut config = quic::Config::new(keypair);
    config.max_stream_data = QUIC_STREAM_WINDOW_BYTES;
    config.max_connection_data = QUIC_CONNECTION_WINDOW_BYTES;
    config.max_concurrent_stream_limit = u32::try_from(muxer::STREAMS_MAX).unwrap_or(u32::MAX);
    quic::tokio::Transport::new(config).map(|(id, muxer), _| (id, StreamMuxerBox::new(Paced::new(muxer)))).boxed()
}
