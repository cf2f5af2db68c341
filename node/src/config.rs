//! What a node runs with: flags over environment variables over the file `config.toml` in the data directory over defaults.
//!
//! # Promises
//! - **Declared once.** [`table::SETTINGS`] has one entry for each setting. The flags of `starling run`, the environment
//!   variables, the keys of the file, the commented file that `starling init` writes, `starling config show | check | diff`
//!   and the table in the documentation are made from it.
//! - **Checked once.** [`Layers::resolve`] reads all layers and finds everything that is wrong with them, not only the first
//!   mistake; [`Settings::from_values`] gives settings that cannot be wrong. An error names the flag, the variable, or the
//!   file with the line, the value, and what would be right.
//! - **No name is ignored.** An unknown key in the file and an unknown variable that begins with `STARLING_` are errors that
//!   name the nearest known one: a misspelt setting that silently keeps its default is worse than none.
//! - Relative paths in the file and names of keys are taken from the data directory; paths on the command line and in the
//!   environment from the working directory.
//! - **No secret is a setting.** Keys are named by the path of their file, so that nothing that shows settings shows a secret.
//!
//! # Adding a setting
//! 1. An entry in [`table::SETTINGS`], beside those of its section, on lines of its own. A value that stands for itself only
//!    within limits gets them in its [`Kind`]; what must hold between two settings gets an entry in [`table::RULES`].
//! 2. A field in [`Settings`] (or in the configuration of the component that it belongs to), filled in
//!    [`Settings::from_values`] with a getter of [`Values`]: `values.count("section.name")`, and in `node/tests/common`.
//! 3. `UPDATE_DOCS=1 cargo test -p starling-node --lib config` writes the new row into docs/CLI.md; without it that test
//!    fails and says so.
//!
//! A port that the node listens on by default belongs to [`INSTANCE_PORTS`]: use [`DefaultValue::PerInstance`].

mod bootnodes;
mod file;
mod preflight;
mod render;
mod setting;
mod suggest;
pub mod table;
mod units;
mod values;

pub use file::FileLayer;
pub use preflight::{preflight, socket};
pub use render::{differs, help, markdown, show, template};
pub use setting::{Check, DefaultValue, Kind, Setting, VARIABLE_PREFIX, Value};
pub use suggest::nearest;
pub use units::{format_bytes, format_duration, parse_bytes, parse_duration, parse_duration_ms};
pub use values::{Effective, Layers, Origin, Problem, Values};

use crate::keyfile::{self, KeyFileError};
use crate::net::emulation::{LinkEmulation, LinkEmulationError};
use crate::net::external::Nat;
use crate::net::names::NameServer;
use crate::rpc::RpcConfig;
use crate::storage::Keep;
use crate::telemetry::{FileLimits, LogConfig};
use libp2p::Multiaddr;
use starling_crypto::SecretKey;
use starling_protocol::genesis::{Genesis, GenesisError};
use std::path::{Path, PathBuf};

/// Ports of instance 0: the first for peers, the next for the RPC. Each further instance adds [`INSTANCE_PORTS`]. From the
/// range that IANA leaves to anyone and that Linux does not hand out by itself.
pub const BASE_PORT: u16 = 26_500;

/// Ports between two instances on one host.
pub const INSTANCE_PORTS: u16 = 10;

/// The highest instance number.
pub const INSTANCE_MAX: u16 = 200;

/// Why there are no settings.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file cannot be read.
    #[error("cannot read {what} {}: {source}; {}", .path.display(), unreadable_remedy(.source))]
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
    /// Settings are wrong.
    #[error("{}", listed(.0))]
    Settings(Vec<Problem>),
    /// A key cannot be read.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// The link emulation is wrong.
    #[error(transparent)]
    LinkEmulation(#[from] LinkEmulationError),
    /// A line of the file with bootnodes is wrong.
    #[error("{}, line {line}: {problem}", .path.display())]
    Bootnodes {
        /// Which file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// What is wrong with it.
        problem: String,
    },
    /// The environment names no home.
    #[error("neither XDG_DATA_HOME nor HOME is set; name the data directory with --datadir DIR")]
    NoHome,
}

/// A file that is to be read and is not there was named wrongly. An error of our own is about the content.
fn unreadable_remedy(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::NotFound | std::io::ErrorKind::Other => "name a file that can be read",
        _ => crate::remedy::of_io(error),
    }
}

/// One problem stands by itself, several below each other.
fn listed(problems: &[Problem]) -> String {
    match problems {
        [problem] => problem.to_string(),
        _ => problems
            .iter()
            .fold(format!("{} settings are wrong:", problems.len()), |text, problem| format!("{text}\n  {problem}")),
    }
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
    /// Address translation.
    pub nat: Nat,
    /// Whom to ask for the addresses of names; nobody means those that the host asks.
    pub dns_servers: Vec<NameServer>,
    /// Whether to look for peers that nobody has named.
    pub discovery: bool,
    /// How many peers to look for.
    pub target_peers: usize,
    /// How many peers to allow.
    pub max_peers: usize,
    /// Whether own messages go to all peers instead of the mesh alone.
    pub flood_publish: bool,
    /// After how many slots without news the node suspects that it is cut off.
    pub suspect_after_slots: u64,
    /// The local interface.
    pub rpc: RpcConfig,
    /// Threads of the async runtime.
    pub runtime_threads: usize,
    /// Where log lines go, and which.
    pub log: LogConfig,
    /// How much of the chain to keep on the disk.
    pub keep: Keep,
    /// Where to write the trace.
    pub trace: Option<PathBuf>,
    /// Delays and rates of emulated links.
    pub link_emulation: Option<LinkEmulation>,
}

impl Settings {
    /// Settings from values that have no problems; see [`Layers::resolve`]. Reads every file that they name, and changes
    /// nothing on the disk but for this: makes the node's and the account's key if they are missing, which takes a data
    /// directory.
    ///
    /// # Errors
    /// If a file is missing, or does not fit with the others; see [`ConfigError`].
    pub fn from_values(values: &Values) -> Result<Self, ConfigError> {
        let Files { genesis, producer_key, link_emulation, bootnodes } = Files::read(values)?;
        let (node_key, _) = keyfile::read_or_create(values.path("keys.node"))?;
        let (account_key, _) = keyfile::read_or_create(values.path("keys.account"))?;
        Ok(Self {
            datadir: values.path("datadir").to_owned(),
            rpc: rpc_config(values, &genesis),
            genesis,
            node_key,
            account_key,
            producer_key,
            listen: checked_list(values, "network.listen"),
            bootnodes: [checked_list(values, "network.bootnodes"), bootnodes].concat(),
            trusted_peers: checked_list(values, "network.trusted_peers"),
            nat: values.parsed("network.nat"),
            dns_servers: checked_list(values, "network.dns_servers"),
            discovery: values.bool("network.discovery"),
            target_peers: values.count("network.target_peers"),
            max_peers: values.count("network.max_peers"),
            flood_publish: values.bool("network.flood_publish"),
            suspect_after_slots: values.count_u64("network.suspect_after_slots"),
            runtime_threads: values.count("runtime.threads"),
            log: log_config(values),
            keep: keep(values),
            trace: values.optional_path("trace").map(Path::to_owned),
            link_emulation,
        })
    }
}

/// What the files say that settings name and that must be there.
#[derive(Debug)]
pub struct Files {
    /// The network.
    pub genesis: Genesis,
    /// The key that makes blocks; one that the genesis names.
    pub producer_key: Option<SecretKey>,
    /// Delays and rates of emulated links.
    pub link_emulation: Option<LinkEmulation>,
    /// Further bootnodes.
    pub bootnodes: Vec<Multiaddr>,
}

impl Files {
    /// Reads them, and checks them against each other. Changes nothing.
    ///
    /// # Errors
    /// The first thing that [`Files::read_all`] finds.
    pub fn read(values: &Values) -> Result<Self, ConfigError> {
        Self::read_all(values).map_err(|mut wrong| wrong.swap_remove(0))
    }

    /// Reads them, and checks them against each other. Changes nothing.
    ///
    /// # Errors
    /// Every one that is missing, unreadable, or does not fit with the others; at least one.
    pub fn read_all(values: &Values) -> Result<Self, Vec<ConfigError>> {
        let mut wrong = Vec::new();
        let genesis = good(read_genesis(values.path("genesis")), &mut wrong);
        // Whether the genesis names the producer can be told only when there is one.
        let producer_key = match (values.optional_path("keys.producer"), &genesis) {
            (Some(path), Some(genesis)) => good(read_producer(path, values, genesis), &mut wrong),
            (Some(path), None) => good(keyfile::read(path), &mut wrong),
            (None, _) => None,
        };
        let link_emulation =
            values.optional_path("link_emulation").and_then(|path| good(LinkEmulation::load(path), &mut wrong));
        let bootnodes =
            values.optional_path("network.bootnodes_file").and_then(|path| good(bootnodes::read(path), &mut wrong));
        match genesis {
            Some(genesis) if wrong.is_empty() => {
                Ok(Self { genesis, producer_key, link_emulation, bootnodes: bootnodes.unwrap_or_default() })
            }
            _ => Err(wrong),
        }
    }
}

/// What was read; what was not is put to the rest of what is wrong.
fn good<T, E: Into<ConfigError>>(read: Result<T, E>, wrong: &mut Vec<ConfigError>) -> Option<T> {
    read.map_err(|error| wrong.push(error.into())).ok()
}

/// The data directory of an instance, from that of instance 0: `starling`, `starling-1`, and so on.
#[must_use]
pub fn instance_datadir(first: PathBuf, instance: u16) -> PathBuf {
    if instance == 0 {
        return first;
    }
    let mut name = first.into_os_string();
    name.push(format!("-{instance}"));
    name.into()
}

/// Reads and checks a genesis file.
///
/// # Errors
/// If it is missing, unreadable or not acceptable.
pub fn read_genesis(path: &Path) -> Result<Genesis, ConfigError> {
    let text = match crate::bounded::read_text(path, crate::bounded::TEXT_BYTES_MAX) {
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

fn read_producer(path: &Path, values: &Values, genesis: &Genesis) -> Result<SecretKey, ConfigError> {
    let key = keyfile::read(path)?;
    let public = key.public_key();
    if genesis.producers().contains(&public) {
        return Ok(key);
    }
    let problem = format!(
        "it holds the key {public}, which is not among the producers of network {:?}; \
         name the key file of a producer, or leave it out to run without making blocks",
        genesis.name()
    );
    Err(ConfigError::Settings(vec![values.problem("keys.producer", problem)]))
}

/// How much of the chain the disk keeps.
fn keep(values: &Values) -> Keep {
    Keep { blocks: values.count_u64("storage.keep_blocks"), bytes: values.optional_bytes("storage.keep_bytes") }
}

fn rpc_config(values: &Values, genesis: &Genesis) -> RpcConfig {
    let default = RpcConfig::default();
    // A transaction in hex, with room for its frame, must always fit.
    let transaction_hex = genesis.limits().payload_bytes_max.saturating_mul(2).saturating_add(64 << 10);
    RpcConfig {
        listen: values.parsed("rpc.listen"),
        allow_hosts: values.list("rpc.allow_hosts").to_vec(),
        allow_origins: values.list("rpc.allow_origins").to_vec(),
        request_bytes_max: default.request_bytes_max.max(transaction_hex),
        connections_max: u32::try_from(values.count("rpc.connections_max")).unwrap_or(u32::MAX),
        units_per_second: u32::try_from(values.count("rpc.units_per_second")).unwrap_or(u32::MAX),
        admin_socket: admin_socket(values).map(Path::to_owned),
        ..default
    }
}

/// The admin socket's file; `none` stands for no socket.
fn admin_socket(values: &Values) -> Option<&Path> {
    Some(values.path("rpc.admin_socket")).filter(|path| path.file_name().is_none_or(|name| name != "none"))
}

fn log_config(values: &Values) -> LogConfig {
    let limits = FileLimits {
        bytes_max: values.bytes("log.file_bytes_max"),
        age_max: values.duration("log.file_age_max"),
        files_max: values.count("log.files_max"),
    };
    LogConfig {
        format: values.parsed("log.format"),
        filter: values.text("log.filter").to_owned(),
        file: values.optional_path("log.file").map(|path| (path.to_owned(), limits)),
    }
}

fn checked_list<T: std::str::FromStr>(values: &Values, key: &str) -> Vec<T> {
    let checked =
        |text: &String| text.parse().unwrap_or_else(|_wrong| panic!("the check of {key} lets a wrong value through"));
    values.list(key).iter().map(checked).collect()
}

#[cfg(test)]
mod tests;
