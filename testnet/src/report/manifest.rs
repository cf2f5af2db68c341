//! `manifest.toml`: what was run, with what, where and when: all it takes to do the run again or to doubt it.

use std::net::Ipv4Addr;

use serde::Serialize;

/// The manifest of a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Manifest {
    /// The manifest's own format.
    pub format: u32,
    /// What ran the nodes: `processes`, or another word for another driver.
    pub kind: String,
    /// The version of the tool.
    pub version: String,
    /// The command line, word by word.
    pub command: Vec<String>,
    /// When the run began, in RFC 3339, UTC.
    pub started: String,
    /// Decides placement, keys, targets of submissions and payloads.
    pub seed: u64,
    /// How many nodes, and how they are connected.
    pub network: Network,
    /// What was submitted.
    pub load: Load,
    /// The machine.
    pub host: Host,
    /// The nodes, numbered from zero in this order.
    pub node: Vec<Node>,
}

/// The network of a manifest.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Network {
    /// How many nodes.
    pub nodes: usize,
    /// Connections that each node seeks.
    pub target_peers: usize,
    /// The length of a slot.
    pub slot_s: f64,
    /// The name of the WAN profile. Its text is in `profile.toml` beside the manifest.
    pub profile: String,
    /// The hash of the genesis, which names the network; empty if there is none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub network_id: String,
}

/// The load of a manifest.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Load {
    /// For how long transactions were submitted.
    pub duration_s: f64,
    /// Transactions a second, in all.
    pub tx_rate: f64,
    /// The payload of each transaction.
    pub tx_bytes: usize,
}

/// The machine of a manifest.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Host {
    /// Operating system, its version, and architecture.
    pub system: String,
    /// The processor's name, if known.
    pub processor: String,
    /// Processors that the run could use.
    pub cores: usize,
    /// Memory in all.
    pub memory_mib: u64,
}

/// A node of a manifest.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Node {
    /// For example `n07`: the name of its data directory.
    pub name: String,
    /// Its region in the profile.
    pub region: String,
    /// Its own address.
    pub ip: Ipv4Addr,
    /// Its peer id, in base 58.
    pub peer_id: String,
    /// Whether it makes blocks.
    pub producer: bool,
    /// The one-way delay between it and its region.
    pub last_mile_us: u64,
    /// What it can send in all; absent if not limited.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uplink_bits_per_s: Option<u64>,
}

impl Manifest {
    /// The file's text.
    #[must_use]
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("plain fields before tables before lists of tables are always TOML")
    }
}
