//! A whole node put together from its settings: data directory, store, machine, network, RPC and event loop.
//!
//! [`Service::start`] returns when everything is bound and loaded, so that its addresses are known and every mistake in the
//! settings has been reported. [`Service::run`] then runs until it is told to stop, and leaves nothing half-written.

use crate::api::NodeHandle;
use crate::clock;
use crate::config::Settings;
use crate::driver::{Driver, DriverParts, Keeping, KnownPeer, Restored};
use crate::keyfile::libp2p_keypair;
use crate::metrics::Metrics;
use crate::net::limits::ConnectionLimits;
use crate::net::network::{Network, NetworkConfig, NetworkError, to_protocol_id};
use crate::notify::Notifier;
use crate::rpc::{RpcError, RpcServer};
use crate::storage::{
    DataDir, DataDirError, Keeper, KeepsTooFew, Retention, StorageThread, Store, StoreError, ThreadOptions,
    load_or_set_aside,
};
use crate::trace::Trace;
use crate::workers::Workers;
use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;
use prometheus_client::registry::Registry;
use starling_protocol::block::Block;
use starling_protocol::genesis::Genesis;
use starling_protocol::mesh::MeshConfig;
use starling_protocol::node::{Node, NodeConfigError, NodeParts, topics};
use starling_protocol::peers::bans::{self, BanList};
use starling_protocol::peers::{Address, PeerBook, PeerConfig, Standing, book};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// Threads that verify signatures: one for each core, up to a number that no gossip network keeps busy.
const VERIFY_THREADS_MAX: usize = 4;

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory cannot be used.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The stored chain cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Fewer blocks were to be kept than the node needs.
    #[error("{0} with --keep-blocks")]
    Retention(#[from] KeepsTooFew),
    /// The machine's configuration is contradictory, or the stored blocks are no chain.
    #[error(transparent)]
    Node(#[from] NodeConfigError),
    /// The network cannot be started.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The RPC cannot be served.
    #[error(transparent)]
    Rpc(#[from] RpcError),
    /// The trace file cannot be written.
    #[error("cannot write the trace to {path}: {source}; choose a file in a directory that exists and can be written")]
    Trace {
        /// Which file.
        path: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// The operating system refused something.
    #[error("the operating system refused {what}: {source}")]
    System {
        /// What was asked for.
        what: &'static str,
        /// What it says.
        source: std::io::Error,
    },
}

/// A node that is ready to run.
pub struct Service {
    driver: Driver,
    rpc: RpcServer,
    handle: NodeHandle,
    listening: Vec<Multiaddr>,
    peer_id: libp2p::PeerId,
    /// Locks the data directory for as long as the node runs.
    _datadir: DataDir,
}

impl Service {
    /// Starts everything but the event loop. The service manager is told how the node is doing, from the beginning.
    ///
    /// # Errors
    /// What cannot be used, and what to do about it.
    pub async fn start(settings: Settings, notifier: Notifier) -> Result<Self, StartError> {
        let genesis = settings.genesis.clone();
        let datadir = DataDir::open(&settings.datadir)?;
        let (file, network_id) = (DataDir::store_file(&settings.datadir), genesis.network_id());
        let store = patiently(&notifier, move || Store::open(&file, network_id)).await?;
        let keypair = libp2p_keypair(&settings.node_key);
        let peer_id = keypair.public().to_peer_id();
        let known_peers = known_peers(&settings);
        let retention = Retention::new(&genesis, settings.keep)?;
        let restored = Restored::read(&store)?;
        let node = machine(&settings, &genesis, &store, peer_id, &known_peers)?;

        let mut registry = Registry::default();
        let mut network = Network::start(&network_config(&settings, &genesis), &keypair, &mut registry).await?;
        network.set_bans(node.bans().clone());
        let listening = network.listening().iter().map(|a| a.clone().with(Protocol::P2p(peer_id))).collect();

        let metrics = Metrics::new(registry, &DataDir::store_file(&settings.datadir));
        let storage_options = ThreadOptions { retention };
        let (handle, commands) = NodeHandle::channel();
        let rpc = RpcServer::start(&settings.rpc, handle.clone(), metrics.clone()).await?;
        let system = |what| move |source| StartError::System { what, source };
        let mut driver = Driver::new(DriverParts {
            node,
            network,
            workers: Workers::start(verify_threads(), &genesis).map_err(system("threads to verify signatures"))?,
            storage: StorageThread::start(store, storage_options).map_err(system("a thread for the disk"))?,
            restored,
            commands,
            trace: trace(settings.trace.as_deref())?,
            metrics,
            keeping: Keeping {
                datadir: settings.datadir.clone(),
                keeper: Keeper::start().map_err(system("a thread for small files"))?,
            },
            known_peers,
            discovery: settings.discovery,
            peers_target: settings.target_peers,
            peers_max: settings.max_peers,
            keep: settings.keep,
        });
        driver.set_notifier(notifier);
        Ok(Self { driver, rpc, handle, listening, peer_id, _datadir: datadir })
    }

    /// The addresses that peers can dial, each ending in `/p2p/<peer id>`, with the ports that were bound.
    #[must_use]
    pub fn listening(&self) -> &[Multiaddr] {
        &self.listening
    }

    /// Where the RPC is served, with the port that was bound.
    #[must_use]
    pub fn rpc_address(&self) -> SocketAddr {
        self.rpc.local_address()
    }

    /// The admin socket's file, if there is one.
    #[must_use]
    pub fn admin_socket(&self) -> Option<&Path> {
        self.rpc.admin_socket()
    }

    /// The node's libp2p peer id.
    #[must_use]
    pub fn peer_id(&self) -> libp2p::PeerId {
        self.peer_id
    }

    /// A handle to ask the node things while it runs.
    #[must_use]
    pub fn handle(&self) -> NodeHandle {
        self.handle.clone()
    }

    /// Has `asked` told when the RPC asks for the end, so that somebody can see to it that the end comes.
    #[must_use]
    pub fn with_stop_watched(mut self, asked: oneshot::Sender<()>) -> Self {
        self.driver.set_stop_watched(asked);
        self
    }

    /// Runs until `stop` fires or is dropped, or the RPC asks for the end.
    pub async fn run(self, stop: oneshot::Receiver<()>) {
        Box::pin(self.driver.run(stop)).await;
        self.rpc.stop().await;
    }
}

/// How often it is told that the store is still being opened.
const OPENING_TOLD_EVERY: Duration = Duration::from_secs(5);

/// How much longer the service manager is asked to wait each time.
const OPENING_EXTENDS: Duration = Duration::from_secs(60);

/// Opens the store beside the event loop, so that the node can be stopped meanwhile: after a kill or a power cut the database
/// reads all of its file, which takes as long as the disk needs for that.
async fn patiently<T, E>(notifier: &Notifier, open: impl FnOnce() -> Result<T, E> + Send + 'static) -> Result<T, E>
where
    T: Send + 'static,
    E: Send + 'static,
{
    let began = Instant::now();
    let mut opening = tokio::task::spawn_blocking(open);
    let mut tell = tokio::time::interval_at(began + OPENING_TOLD_EVERY, OPENING_TOLD_EVERY);
    loop {
        tokio::select! {
            opened = &mut opening => {
                return opened.unwrap_or_else(|panicked| std::panic::resume_unwind(panicked.into_panic()));
            }
            _ = tell.tick() => {
                notifier.starting(OPENING_EXTENDS, "reading the stored chain");
                tracing::warn!(
                    elapsed_s = began.elapsed().as_secs(),
                    "the stored chain is still being opened; after a kill or a power cut all of it is read once"
                );
            }
        }
    }
}

fn machine(
    settings: &Settings,
    genesis: &Genesis,
    store: &Store,
    peer_id: libp2p::PeerId,
    known_peers: &[KnownPeer],
) -> Result<Node, StartError> {
    let own_id =
        to_protocol_id(&peer_id).ok_or_else(|| NetworkError::Identity("its peer id is too long".to_owned()))?;
    let mut mesh = MeshConfig::with_topics(topics(genesis));
    mesh.relay.flood_publish = settings.flood_publish;
    mesh.direct_peers = known_peers.iter().filter(|p| p.standing == Standing::Trusted).map(|p| p.id).collect();
    let (mut stored, mut failure) = (store.recent_canonical(NodeParts::restore_depth(genesis))?, None);
    let blocks = std::iter::from_fn(|| stored.next()?.map_err(|error| failure = Some(error)).ok());
    // What was stored was valid; a block that does not decode ends the part of the chain that can be used.
    let blocks = blocks.map_while(|stored| Block::decode(stored.bytes, genesis).ok());
    let parts = NodeParts::new(genesis.clone(), own_id, settings.target_peers)?.with_stored_blocks(blocks);
    if let Some(error) = failure {
        return Err(error.into());
    }
    let mut parts = parts?;
    parts.mesh = mesh.validate().map_err(NodeConfigError::from)?;
    parts.config.suspect_after_slots = settings.suspect_after_slots;
    parts.config.listen_first = std::time::Duration::from_micros(genesis.slot_us() / 2);
    parts.account = Some(settings.account_key.clone());
    (parts.peers.book, parts.peers.bans) = remembered(&settings.datadir, &parts.peers.config);
    parts.signed_slot = store.signed()?;
    if let Some(key) = &settings.producer_key {
        parts = parts.with_producer(key.clone())?;
    }
    let mut seed = [0; 32];
    rustix::rand::getrandom(&mut seed, rustix::rand::GetRandomFlags::empty())
        .map_err(|source| StartError::System { what: "random numbers", source: source.into() })?;
    Ok(Node::new(parts, seed, clock::now()))
}

/// The address book and the bans of a former life.
fn remembered(datadir: &Path, config: &PeerConfig) -> (Option<Vec<u8>>, BanList) {
    let lost = "the node looks for peers anew, from its bootnodes";
    let check = |bytes: &[u8]| PeerBook::check_file(config, bytes).map(|()| bytes.to_vec());
    let book = load_or_set_aside(&DataDir::peers_file(datadir), book::FILE_BYTES_MAX, lost, check);
    let lost = "nobody is banned any more: repeat the bans that are still needed";
    let bans = load_or_set_aside(&DataDir::bans_file(datadir), bans::FILE_BYTES_MAX, lost, BanList::from_file);
    (book, bans.unwrap_or_default())
}

fn network_config(settings: &Settings, genesis: &Genesis) -> NetworkConfig {
    let mut config = NetworkConfig::of_genesis(genesis);
    config.listen.clone_from(&settings.listen);
    config.nat = settings.nat;
    config.name_servers.clone_from(&settings.dns_servers);
    config.link_emulation.clone_from(&settings.link_emulation);
    config.limits = ConnectionLimits::for_peers(settings.max_peers);
    config
}

fn known_peers(settings: &Settings) -> Vec<KnownPeer> {
    let named = |addresses: &[Multiaddr], standing| -> Vec<KnownPeer> {
        let peer = |address: &Multiaddr| {
            let id = address.iter().find_map(|part| match part {
                Protocol::P2p(id) => to_protocol_id(&id),
                _ => None,
            })?;
            Some(KnownPeer { id, address: Address::from(address.to_vec()), standing, text: address.to_string() })
        };
        addresses.iter().filter_map(peer).collect()
    };
    [named(&settings.bootnodes, Standing::Bootnode), named(&settings.trusted_peers, Standing::Trusted)].concat()
}

fn trace(path: Option<&Path>) -> Result<Trace, StartError> {
    match path {
        None => Ok(Trace::disabled()),
        Some(path) => {
            Trace::create(path).map_err(|source| StartError::Trace { path: path.display().to_string(), source })
        }
    }
}

fn verify_threads() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| cores.get().min(VERIFY_THREADS_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixDatagram;

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_a_long_start_is_told_that_it_goes_on() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("notify");
        let manager = UnixDatagram::bind(&path).expect("bound");
        manager.set_nonblocking(true).expect("set");
        let told = || {
            let mut buffer = [0; 256];
            manager.recv(&mut buffer).ok().map(|length| String::from_utf8_lossy(&buffer[..length]).into_owned())
        };
        let notifier = Notifier::connect(path.as_os_str(), None).expect("reached");
        let (release, held) = std::sync::mpsc::sync_channel::<u32>(1);
        // Virtual time stands still while the store is being opened, unless it is moved on.
        let mut opening = std::pin::pin!(patiently(&notifier, move || held.recv()));
        assert!(futures::poll!(&mut opening).is_pending());
        assert_eq!(told(), None, "most starts are short");
        for _ in 0..3 {
            tokio::time::advance(OPENING_TOLD_EVERY).await;
            assert!(futures::poll!(&mut opening).is_pending());
            assert_eq!(told().as_deref(), Some("EXTEND_TIMEOUT_USEC=60000000\nSTATUS=reading the stored chain"));
            assert_eq!(told(), None);
        }
        release.send(7).expect("it waits");
        assert_eq!(opening.await, Ok(7));
    }
}
