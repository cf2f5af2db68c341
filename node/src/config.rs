//! What a node runs with: defaults, below the file `config.toml` in the data directory, below the command line's flags.
//!
//! # Promises
//! - **Checked once.** [`Settings::load`] reads every file that is named, checks every value and gives either settings that
//!   cannot be wrong or an error that names the file or flag, what is wrong with it and what would be right.
//! - **No key is ignored.** An unknown key in the file is an error that names the nearest known one: a misspelt setting that
//!   silently keeps its default is worse than none.
//! - Relative paths in the file and names of keys are taken from the data directory; paths on the command line from the
//!   working directory.

mod file;

pub use file::{ConfigFile, KeysSection, LogSection, NetworkSection, RpcSection, RuntimeSection, TEMPLATE};

use crate::keyfile::{self, KeyFileError};
use crate::net::emulation::{LinkEmulation, LinkEmulationError};
use crate::rpc::RpcConfig;
use crate::storage::DataDir;
use crate::telemetry::{DEFAULT_FILTER, FilterError, LogFormat, parse_filter};
use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;
use starling_crypto::SecretKey;
use starling_protocol::genesis::{Genesis, GenesisError};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Ports of instance 0: the first for peers, the next for the RPC. Each further instance adds [`INSTANCE_PORTS`]. From the
/// range that IANA leaves to anyone and that Linux does not hand out by itself.
pub const BASE_PORT: u16 = 26_500;

/// Ports between two instances on one host.
pub const INSTANCE_PORTS: u16 = 10;

/// The highest instance number.
pub const INSTANCE_MAX: u16 = 200;

/// Peers aimed at; see [`starling_protocol::peers::PeerConfig`].
const TARGET_PEERS: usize = 24;

/// The most peers that can be asked for; beyond this a host runs out of sockets before it gains anything.
const PEERS_MAX: usize = 1_000;

/// Threads of the async runtime unless told otherwise.
///
/// *Rationale:* a message is a few microseconds of work spread over a connection's task, the swarm and the event loop. On
/// one thread they follow each other without a wake-up; on several, waking the next thread costs more than the work.
const RUNTIME_THREADS: usize = 1;

/// The most threads that can be asked for: beyond this, something else is the bottleneck.
const RUNTIME_THREADS_MAX: usize = 64;

/// Why there are no settings.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file cannot be read.
    #[error("cannot read {what} {}: {source}", .path.display())]
    Unreadable {
        /// What it should be.
        what: &'static str,
        /// Which file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// There is no genesis to run with.
    #[error(
        "there is no genesis file {}; name one that exists, as in `starling run --genesis FILE` or \
         `starling init --genesis FILE`, or make a new network with `starling genesis new`", .0.display()
    )]
    NoGenesis(PathBuf),
    /// The genesis is not acceptable.
    #[error("{}: {source}", .path.display())]
    Genesis {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        source: GenesisError,
    },
    /// The configuration file is not TOML, or a value has the wrong type.
    #[error("the configuration file {} cannot be used: {problem}", .path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What is wrong, with the line.
        problem: String,
    },
    /// The configuration file has a key that means nothing.
    #[error("the configuration file {} has an unknown key `{key}`; {remedy}", .path.display())]
    UnknownKey {
        /// Which file.
        path: PathBuf,
        /// The key, with its section.
        key: String,
        /// The nearest known key, or all of them.
        remedy: String,
    },
    /// A value cannot be.
    #[error("{name}: {problem}")]
    Value {
        /// The setting's key and flag.
        name: &'static str,
        /// What is wrong and what would be right.
        problem: String,
    },
    /// A key cannot be read.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// The link emulation is wrong.
    #[error(transparent)]
    LinkEmulation(#[from] LinkEmulationError),
    /// The log filter is wrong.
    #[error(transparent)]
    Filter(#[from] FilterError),
    /// The environment names no home.
    #[error("neither XDG_DATA_HOME nor HOME is set; name the data directory with --datadir DIR")]
    NoHome,
}

/// What can be said only on the command line.
#[derive(Clone, Debug, Default)]
pub struct RunFlags {
    /// Number of the instance on this host; moves the default ports.
    pub instance: u16,
    /// Where to write the trace.
    pub trace: Option<PathBuf>,
    /// Delays and rates of emulated links.
    pub link_emulation: Option<PathBuf>,
}

/// Everything that a node runs with, checked.
#[derive(Debug)]
pub struct Settings {
    /// The data directory.
    pub datadir: PathBuf,
    /// The network.
    pub genesis: Genesis,
    /// The libp2p identity.
    pub node_key: SecretKey,
    /// The account that `tx_publish` signs for.
    pub account_key: SecretKey,
    /// The key that makes blocks; one that the genesis names.
    pub producer_key: Option<SecretKey>,
    /// Where to listen for peers.
    pub listen: Vec<Multiaddr>,
    /// Peers to find others by; each ends in `/p2p/<peer id>`.
    pub bootnodes: Vec<Multiaddr>,
    /// Peers to stay connected with, whatever their score; each ends in `/p2p/<peer id>`.
    pub trusted_peers: Vec<Multiaddr>,
    /// How many peers to look for.
    pub target_peers: usize,
    /// How many peers to allow.
    pub max_peers: usize,
    /// Whether own messages go to all peers instead of the mesh alone.
    pub flood_publish: bool,
    /// The local interface.
    pub rpc: RpcConfig,
    /// Threads of the async runtime.
    pub runtime_threads: usize,
    /// How log lines are written.
    pub log_format: LogFormat,
    /// Which log lines are written.
    pub log_filter: String,
    /// Where to write the trace.
    pub trace: Option<PathBuf>,
    /// Delays and rates of emulated links.
    pub link_emulation: Option<LinkEmulation>,
}

impl Settings {
    /// Reads `config.toml` in the data directory, lays `flags` over it, and checks everything. Makes the node's and the
    /// account's key if they are missing.
    ///
    /// # Errors
    /// If anything is wrong; see [`ConfigError`].
    pub fn load(datadir: &Path, flags: ConfigFile, run: &RunFlags) -> Result<Self, ConfigError> {
        let from_file = ConfigFile::read(&DataDir::config_file(datadir))?.relative_to(datadir);
        let ConfigFile { genesis, network, keys, rpc, runtime, log } = flags.over(from_file);
        check_instance(run.instance)?;

        let genesis = read_genesis(&genesis.unwrap_or_else(|| DataDir::genesis_file(datadir)))?;
        let node_path = keys.node.unwrap_or_else(|| DataDir::node_key_file(datadir));
        let (node_key, _) = keyfile::read_or_create(&node_path)?;
        let account_path = keys.account.unwrap_or_else(|| DataDir::account_key_file(datadir));
        let (account_key, _) = keyfile::read_or_create(&account_path)?;
        let producer_key = match &keys.producer {
            Some(path) => Some(read_producer(path, &genesis)?),
            None => None,
        };
        let target_peers = peers("network.target_peers (--target-peers)", network.target_peers, TARGET_PEERS)?;
        let max_peers = peers("network.max_peers (--max-peers)", network.max_peers, target_peers.saturating_mul(4))?;
        if max_peers < target_peers {
            return Err(ConfigError::Value {
                name: "network.max_peers (--max-peers)",
                problem: format!("{max_peers} is less than the target of {target_peers} peers; raise it or lower that"),
            });
        }
        let log_filter = log.filter.unwrap_or_else(|| DEFAULT_FILTER.to_owned());
        parse_filter(&log_filter)?;
        Ok(Self {
            datadir: datadir.to_owned(),
            rpc: rpc_config(rpc, &genesis, run.instance)?,
            runtime_threads: runtime_threads(runtime.threads)?,
            genesis,
            node_key,
            account_key,
            producer_key,
            listen: listen(network.listen, run.instance)?,
            bootnodes: peer_addresses("network.bootnodes (--bootnodes)", network.bootnodes)?,
            trusted_peers: peer_addresses("network.trusted_peers (--trusted-peers)", network.trusted_peers)?,
            target_peers,
            max_peers,
            flood_publish: network.flood_publish.unwrap_or(false),
            log_format: log.format.unwrap_or_default(),
            log_filter,
            trace: run.trace.clone(),
            link_emulation: run.link_emulation.as_deref().map(LinkEmulation::load).transpose()?,
        })
    }
}

/// Reads and checks a genesis file.
///
/// # Errors
/// If it is missing, unreadable or not acceptable.
pub fn read_genesis(path: &Path) -> Result<Genesis, ConfigError> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(ConfigError::NoGenesis(path.to_owned()));
        }
        Err(source) => {
            return Err(ConfigError::Unreadable { what: "the genesis file", path: path.to_owned(), source });
        }
    };
    Genesis::from_toml(&text).map_err(|source| ConfigError::Genesis { path: path.to_owned(), source })
}

fn check_instance(instance: u16) -> Result<(), ConfigError> {
    if instance <= INSTANCE_MAX {
        return Ok(());
    }
    let problem = format!("{instance} is not between 0 and {INSTANCE_MAX}; the ports would run out");
    Err(ConfigError::Value { name: "--instance", problem })
}

fn read_producer(path: &Path, genesis: &Genesis) -> Result<SecretKey, ConfigError> {
    let key = keyfile::read(path)?;
    let public = key.public_key();
    if genesis.producers().contains(&public) {
        return Ok(key);
    }
    Err(ConfigError::Value {
        name: "keys.producer (--producer-key)",
        problem: format!(
            "{} holds the key {public}, which is not among the producers of network {:?}; \
             name the key file of a producer, or leave it out to run without making blocks",
            path.display(),
            genesis.name()
        ),
    })
}

fn peers(name: &'static str, given: Option<usize>, default: usize) -> Result<usize, ConfigError> {
    match given {
        None => Ok(default.min(PEERS_MAX)),
        Some(count) if (1..=PEERS_MAX).contains(&count) => Ok(count),
        Some(count) => Err(ConfigError::Value { name, problem: format!("{count} is not between 1 and {PEERS_MAX}") }),
    }
}

fn runtime_threads(given: Option<usize>) -> Result<usize, ConfigError> {
    let threads = given.unwrap_or(RUNTIME_THREADS);
    if (1..=RUNTIME_THREADS_MAX).contains(&threads) {
        return Ok(threads);
    }
    Err(ConfigError::Value {
        name: "runtime.threads (--threads)",
        problem: format!("{threads} is not between 1 and {RUNTIME_THREADS_MAX}; give at most one for each core"),
    })
}

fn rpc_config(section: RpcSection, genesis: &Genesis, instance: u16) -> Result<RpcConfig, ConfigError> {
    let default = RpcConfig::default();
    let port = BASE_PORT + 1 + instance * INSTANCE_PORTS;
    for origin in section.allow_origins.iter().flatten() {
        let authority = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        if authority.is_none_or(|authority| authority.is_empty() || authority.contains('/')) {
            return Err(ConfigError::Value {
                name: "rpc.allow_origins (--rpc-allow-origin)",
                problem: format!("{origin:?} is no origin; one looks like https://wallet.example, without a path"),
            });
        }
    }
    for host in section.allow_hosts.iter().flatten() {
        if host.is_empty() || host.contains(['/', ':', '*', ' ']) {
            return Err(ConfigError::Value {
                name: "rpc.allow_hosts (--rpc-allow-host)",
                problem: format!("{host:?} is no host name; one looks like node.example, without a scheme or port"),
            });
        }
    }
    // A transaction in hex, with room for its frame, must always fit.
    let transaction_hex = genesis.limits().payload_bytes_max.saturating_mul(2).saturating_add(64 << 10);
    Ok(RpcConfig {
        listen: section.listen.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], port))),
        allow_hosts: section.allow_hosts.unwrap_or_default(),
        allow_origins: section.allow_origins.unwrap_or_default(),
        request_bytes_max: default.request_bytes_max.max(transaction_hex),
        ..default
    })
}

fn listen(given: Option<Vec<String>>, instance: u16) -> Result<Vec<Multiaddr>, ConfigError> {
    let name = "network.listen (--listen)";
    let port = BASE_PORT + instance * INSTANCE_PORTS;
    let default = || vec![format!("/ip4/0.0.0.0/tcp/{port}"), format!("/ip4/0.0.0.0/udp/{port}/quic-v1")];
    let mut addresses = Vec::new();
    for text in given.unwrap_or_else(default) {
        let address = multiaddr(name, &text)?;
        let parts: Vec<_> = address.iter().collect();
        let usable = matches!(
            parts[..],
            [Protocol::Ip4(_) | Protocol::Ip6(_), Protocol::Tcp(_)]
                | [Protocol::Ip4(_) | Protocol::Ip6(_), Protocol::Udp(_), Protocol::QuicV1]
        );
        if !usable {
            return Err(ConfigError::Value {
                name,
                problem: format!(
                    "cannot listen on {text:?}; addresses look like /ip4/0.0.0.0/tcp/26500 or \
                     /ip4/0.0.0.0/udp/26500/quic-v1"
                ),
            });
        }
        addresses.push(address);
    }
    if addresses.is_empty() {
        return Err(ConfigError::Value { name, problem: "at least one address is needed".into() });
    }
    Ok(addresses)
}

fn peer_addresses(name: &'static str, given: Option<Vec<String>>) -> Result<Vec<Multiaddr>, ConfigError> {
    let mut addresses = Vec::new();
    for text in given.unwrap_or_default() {
        let address = multiaddr(name, &text)?;
        if !matches!(address.iter().last(), Some(Protocol::P2p(_))) {
            return Err(ConfigError::Value {
                name,
                problem: format!(
                    "{text:?} does not say which peer is meant; append /p2p/PEER_ID \
                     (the node prints its addresses in this form when it starts)"
                ),
            });
        }
        addresses.push(address);
    }
    Ok(addresses)
}

fn multiaddr(name: &'static str, text: &str) -> Result<Multiaddr, ConfigError> {
    text.parse().map_err(|error| ConfigError::Value {
        name,
        problem: format!(
            "{text:?} is no multiaddress ({error}); one looks like /ip4/192.0.2.1/tcp/26500/p2p/12D3KooW…"
        ),
    })
}

#[cfg(test)]
mod tests;
