//! The file `config.toml`: its keys, and laying flags over it.

use super::ConfigError;
use crate::telemetry::LogFormat;
use serde::Deserialize;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// What `starling init` writes: every key with its default, commented out.
pub const TEMPLATE: &str = "\
# Configuration of a Starling node. Every setting stands here with its default, commented out; flags of
# `starling run` go before this file. Relative paths are taken from this directory.

# The network's genesis.
#genesis = \"genesis.toml\"

[network]
# Where to listen for peers; port 0 takes any free one.
#listen = [\"/ip4/0.0.0.0/tcp/26500\", \"/ip4/0.0.0.0/udp/26500/quic-v1\"]
# Peers to find others by: multiaddresses that end in /p2p/PEER_ID.
#bootnodes = []
# Peers to stay connected with, whatever their score.
#trusted_peers = []
# How many peers to look for, and how many to allow.
#target_peers = 24
#max_peers = 96
# Whether own messages go to all peers instead of the mesh alone: faster, for more bytes.
#flood_publish = false

[keys]
# Secret keys, PKCS#8 PEM with mode 0600. The first two are made when they are missing.
#node = \"node.pem\"
#account = \"account.pem\"
# The key that makes blocks; its public half must stand in the genesis.
#producer = \"producer.pem\"

[rpc]
# Where the JSON-RPC listens. Whoever reaches it can use the account key: keep it local.
#listen = \"127.0.0.1:26501\"
# Host names by which it may be called, besides this machine's addresses.
#allow_hosts = []
# Web pages that may call it, such as \"https://wallet.example\".
#allow_origins = []

[runtime]
# Threads for connections, the event loop and the RPC, besides those for signatures and the disk. One takes the least
# processor time for each message; more carry more traffic than one core can.
#threads = 1

[log]
# \"text\" or \"json\".
#format = \"text\"
# Levels and targets, such as \"info\" or \"warn,starling_node=debug\".
#filter = \"info,libp2p=warn,libp2p_kad=error,yamux=error,jsonrpsee=warn\"
";

/// All keys, by section; the empty section is the top of the file.
const KEYS: [(&str, &[&str]); 6] = [
    ("", &["genesis"]),
    ("network", &["listen", "bootnodes", "trusted_peers", "target_peers", "max_peers", "flood_publish"]),
    ("keys", &["node", "account", "producer"]),
    ("rpc", &["listen", "allow_hosts", "allow_origins"]),
    ("runtime", &["threads"]),
    ("log", &["format", "filter"]),
];

/// The settings of a file, or of the flags; what is absent is left to whatever comes below.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ConfigFile {
    /// Path of the genesis.
    pub genesis: Option<PathBuf>,
    /// Peers and addresses.
    pub network: NetworkSection,
    /// Paths of secret keys.
    pub keys: KeysSection,
    /// The local interface.
    pub rpc: RpcSection,
    /// Threads.
    pub runtime: RuntimeSection,
    /// Logging.
    pub log: LogSection,
}

/// Peers and addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NetworkSection {
    /// Multiaddresses to listen on.
    pub listen: Option<Vec<String>>,
    /// Multiaddresses of peers to find others by.
    pub bootnodes: Option<Vec<String>>,
    /// Multiaddresses of peers to stay connected with.
    pub trusted_peers: Option<Vec<String>>,
    /// How many peers to look for.
    pub target_peers: Option<usize>,
    /// How many peers to allow.
    pub max_peers: Option<usize>,
    /// Whether own messages go to all peers.
    pub flood_publish: Option<bool>,
}

/// Paths of secret keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KeysSection {
    /// The libp2p identity.
    pub node: Option<PathBuf>,
    /// What `tx_publish` signs with.
    pub account: Option<PathBuf>,
    /// What blocks are signed with.
    pub producer: Option<PathBuf>,
}

/// The local interface.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RpcSection {
    /// Where to listen.
    pub listen: Option<SocketAddr>,
    /// Further host names.
    pub allow_hosts: Option<Vec<String>>,
    /// Web pages.
    pub allow_origins: Option<Vec<String>>,
}

/// Threads.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RuntimeSection {
    /// Threads of the async runtime.
    pub threads: Option<usize>,
}

/// Logging.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogSection {
    /// Text or JSON.
    pub format: Option<LogFormat>,
    /// Levels and targets.
    pub filter: Option<String>,
}

impl ConfigFile {
    /// Reads a file; one that does not exist has no settings.
    ///
    /// # Errors
    /// If it cannot be read, is not TOML, has an unknown key or a value of the wrong type.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(path, &text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(source) => {
                Err(ConfigError::Unreadable { what: "the configuration file", path: path.to_owned(), source })
            }
        }
    }

    fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let wrong = |error: toml::de::Error| ConfigError::File {
            path: path.to_owned(),
            problem: error.to_string().trim_end().to_owned(),
        };
        let table: toml::Table = toml::from_str(text).map_err(wrong)?;
        check_keys(path, &table)?;
        toml::from_str(text).map_err(wrong)
    }

    /// These settings with relative paths taken from a directory.
    #[must_use]
    pub fn relative_to(mut self, directory: &Path) -> Self {
        let paths = [&mut self.genesis, &mut self.keys.node, &mut self.keys.account, &mut self.keys.producer];
        for path in paths.into_iter().flatten() {
            *path = directory.join(&*path);
        }
        self
    }

    /// These settings where they say something, and those of `below` elsewhere.
    #[must_use]
    pub fn over(self, below: Self) -> Self {
        Self {
            genesis: self.genesis.or(below.genesis),
            network: NetworkSection {
                listen: self.network.listen.or(below.network.listen),
                bootnodes: self.network.bootnodes.or(below.network.bootnodes),
                trusted_peers: self.network.trusted_peers.or(below.network.trusted_peers),
                target_peers: self.network.target_peers.or(below.network.target_peers),
                max_peers: self.network.max_peers.or(below.network.max_peers),
                flood_publish: self.network.flood_publish.or(below.network.flood_publish),
            },
            keys: KeysSection {
                node: self.keys.node.or(below.keys.node),
                account: self.keys.account.or(below.keys.account),
                producer: self.keys.producer.or(below.keys.producer),
            },
            rpc: RpcSection {
                listen: self.rpc.listen.or(below.rpc.listen),
                allow_hosts: self.rpc.allow_hosts.or(below.rpc.allow_hosts),
                allow_origins: self.rpc.allow_origins.or(below.rpc.allow_origins),
            },
            runtime: RuntimeSection { threads: self.runtime.threads.or(below.runtime.threads) },
            log: LogSection {
                format: self.log.format.or(below.log.format),
                filter: self.log.filter.or(below.log.filter),
            },
        }
    }
}

fn check_keys(path: &Path, table: &toml::Table) -> Result<(), ConfigError> {
    for (key, value) in table {
        let section = KEYS.iter().find(|(section, _)| section == key && !section.is_empty());
        match (section, value) {
            (Some((section, keys)), toml::Value::Table(inner)) => {
                if let Some(unknown) = inner.keys().find(|key| !keys.contains(&key.as_str())) {
                    return Err(unknown_key(path, section, unknown));
                }
            }
            // A section that is no table is reported with its line by the typed reading.
            (Some(_), _) => {}
            (None, _) if KEYS[0].1.contains(&key.as_str()) => {}
            (None, _) => return Err(unknown_key(path, "", key)),
        }
    }
    Ok(())
}

fn unknown_key(path: &Path, section: &str, key: &str) -> ConfigError {
    let full = |section: &str, key: &str| if section.is_empty() { key.to_owned() } else { format!("{section}.{key}") };
    let given = full(section, key);
    let mut known: Vec<String> =
        KEYS.iter().flat_map(|(section, keys)| keys.iter().map(move |key| full(section, key))).collect();
    if section.is_empty() {
        known.extend(KEYS.iter().filter(|(section, _)| !section.is_empty()).map(|(section, _)| (*section).to_owned()));
    }
    // The key alone is compared too, for one that was put into the wrong section.
    let similarity = |candidate: &str| {
        let last = candidate.rsplit('.').next().unwrap_or(candidate);
        strsim::jaro_winkler(&given, candidate).max(strsim::jaro_winkler(key, last))
    };
    let nearest = known.iter().max_by(|a, b| similarity(a).total_cmp(&similarity(b)));
    let remedy = match nearest {
        Some(nearest) if similarity(nearest) > 0.75 => format!("did you mean `{nearest}`?"),
        _ => format!("known keys are {}", known.join(", ")),
    };
    ConfigError::UnknownKey { path: path.to_owned(), key: given, remedy }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<ConfigFile, ConfigError> {
        ConfigFile::parse(Path::new("config.toml"), text)
    }

    #[test]
    fn the_template_names_every_key_and_is_valid_both_ways() {
        assert_eq!(parse(TEMPLATE).expect("valid"), ConfigFile::default());
        let active: String = TEMPLATE
            .lines()
            .map(|line| line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')).unwrap_or(line))
            .flat_map(|line| [line, "\n"])
            .collect();
        let file = parse(&active).expect("valid without the comment signs, too");
        assert!(file.genesis.is_some() && file.network.flood_publish.is_some() && file.keys.producer.is_some());
        let table: toml::Table = toml::from_str(&active).expect("TOML");
        for (section, keys) in KEYS {
            for key in keys {
                let found = if section.is_empty() { table.get(*key) } else { table[section].get(key) };
                assert!(found.is_some(), "{section}.{key} is missing from the template");
            }
        }
    }

    #[test]
    fn an_unknown_key_names_the_nearest_known_one() {
        for (text, expected) in [
            ("[network]\ntarget_peer = 3", "`network.target_peer`; did you mean `network.target_peers`?"),
            ("[network]\nboot_nodes = []", "did you mean `network.bootnodes`?"),
            ("[netwrok]\nlisten = []", "`netwrok`; did you mean `network`?"),
            ("genisis = \"x\"", "did you mean `genesis`?"),
            ("[log]\ntarget_peers = 3", "`log.target_peers`; did you mean `network.target_peers`?"),
            ("[log]\nzzz = 3", "known keys are genesis, network.listen"),
        ] {
            let error = parse(text).expect_err("unknown").to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn broken_toml_and_wrong_types_name_the_line() {
        for text in ["[network", "[network]\ntarget_peers = \"many\"", "network = 3", "[rpc]\nlisten = \"here\""] {
            let error = parse(text).expect_err("wrong").to_string();
            assert!(error.contains("config.toml") && error.contains("line"), "{error}");
        }
    }

    #[test]
    fn flags_go_before_the_file() {
        let file = parse("genesis = \"a\"\n[network]\ntarget_peers = 3\nmax_peers = 9").expect("valid");
        let network = NetworkSection { target_peers: Some(5), ..NetworkSection::default() };
        let merged = ConfigFile { network, ..ConfigFile::default() }.over(file.relative_to(Path::new("/d")));
        assert_eq!(merged.network.target_peers, Some(5));
        assert_eq!(merged.network.max_peers, Some(9));
        assert_eq!(merged.genesis.as_deref(), Some(Path::new("/d/a")));
    }
}
