//! Everything about a network that is decided before it starts: who is where, with which keys, under which genesis.
//!
//! It all follows from the options and the seed, but for the time at which slot 0 begins.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use starling_crypto::SecretKey;
use starling_node::keyfile;
use starling_node::storage::DataDir;
use starling_protocol::genesis::{Genesis, GenesisParameters, Limits};

use super::{ClusterError, Options, file_error, host};
use crate::wan::emulation::LinkEmulation;
use crate::wan::{Stream, Topology};

/// Nodes that make blocks, if there are that many. A guess: enough for blocks to start from different regions.
const PRODUCERS_MAX: usize = 8;
/// From the plan until slot 0, and how much more for each node. Blocks made while nodes are still starting would have to be
/// fetched later instead of spreading.
const GENESIS_LEAD_MS: u64 = 2_000;
const GENESIS_LEAD_MS_PER_NODE: u64 = 60;

/// The decided network.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) genesis: Genesis,
    pub(super) topology: Topology,
    pub(super) nodes: Vec<PlannedNode>,
}

/// One node of the plan.
#[derive(Debug)]
pub(super) struct PlannedNode {
    /// For example `n07`.
    pub(super) name: String,
    /// The node's own loopback address.
    pub(super) ip: Ipv4Addr,
    /// Its libp2p identity.
    pub(super) key: SecretKey,
    /// The key that it makes blocks with.
    pub(super) producer_key: Option<SecretKey>,
    /// Its data directory.
    pub(super) dir: PathBuf,
    /// Where its output goes.
    pub(super) log: PathBuf,
    /// Whether its links are emulated.
    pub(super) emulated: bool,
}

/// What of a plan does not follow from the options in the same way for everybody.
#[derive(Debug, Clone)]
pub(super) struct Design {
    /// Nodes that make blocks: the first ones.
    pub(super) producers: usize,
    /// What the genesis allows.
    pub(super) limits: Limits,
    /// When slot 0 begins, in milliseconds since 1970.
    pub(super) start_time_ms: u64,
    /// Whether links are emulated.
    pub(super) emulated: bool,
}

impl Design {
    /// That of a measured network. `unix_ms` is the present time in milliseconds since 1970.
    fn usual(options: &Options, unix_ms: u64) -> Self {
        Self {
            producers: PRODUCERS_MAX,
            limits: limits(options),
            start_time_ms: unix_ms + GENESIS_LEAD_MS + GENESIS_LEAD_MS_PER_NODE * options.nodes as u64,
            emulated: options.profile.is_emulated(),
        }
    }
}

impl PlannedNode {
    /// Where the node writes its trace.
    pub(super) fn trace(&self) -> PathBuf {
        self.dir.join("trace.csv")
    }

    /// Where the node reads how its links behave.
    pub(super) fn links(&self) -> PathBuf {
        self.dir.join("links.toml")
    }

    /// Where the node reads the key that it makes blocks with.
    pub(super) fn producer_key_file(&self) -> PathBuf {
        self.dir.join("producer.pem")
    }
}

impl Plan {
    /// Decides everything. `unix_ms` is the present time in milliseconds since 1970.
    pub(super) fn new(options: &Options, unix_ms: u64) -> Result<Self, ClusterError> {
        Self::of(options, &Design::usual(options, unix_ms))
    }

    /// Decides everything that a design leaves open.
    pub(super) fn of(options: &Options, design: &Design) -> Result<Self, ClusterError> {
        let Design { producers, limits, start_time_ms, emulated } = design.clone();
        let width = (options.nodes - 1).to_string().len().max(2);
        let mut node_keys = Stream::new(options.seed, "node keys");
        let mut producer_keys = Stream::new(options.seed, "producer keys");
        let nodes: Vec<PlannedNode> = (0..options.nodes)
            .map(|node| {
                let name = format!("n{node:0width$}");
                PlannedNode {
                    ip: address(options.seed, node),
                    key: secret_key(&mut node_keys),
                    producer_key: (node < producers).then(|| secret_key(&mut producer_keys)),
                    emulated,
                    dir: options.out.join("nodes").join(&name),
                    log: options.out.join("logs").join(format!("{name}.log")),
                    name,
                }
            })
            .collect();
        let mut producers: Vec<_> =
            nodes.iter().filter_map(|node| Some(node.producer_key.as_ref()?.public_key().to_bytes())).collect();
        if producers.is_empty() {
            // A genesis names somebody, who then makes no block.
            producers.push(secret_key(&mut producer_keys).public_key().to_bytes());
        }
        let genesis = Genesis::new(GenesisParameters {
            name: format!("testnet-{}", options.seed),
            start_time_ms,
            slot_ms: u64::try_from(options.slot.as_millis()).unwrap_or(u64::MAX),
            producers,
            limits,
            stamp_bits: 0,
        })
        .map_err(|error| ClusterError::Options(format!("no such network can be: {error}")))?;
        let topology = Topology::new(options.profile.clone(), options.nodes, options.seed);
        Ok(Self { genesis, topology, nodes })
    }

    /// Makes the run's folder and everything in it that the nodes read, if there is memory for so many of them.
    pub(super) fn write(&self, options: &Options) -> Result<(), ClusterError> {
        host::has_room(options.nodes, 0)?;
        make_empty(&options.out)?;
        let write = |path: PathBuf, text: &str| fs::write(&path, text).map_err(file_error("write", path));
        let genesis = self.genesis.to_toml();
        write(options.out.join("genesis.toml"), &genesis)?;
        write(options.out.join("profile.toml"), &options.profile_toml)?;
        let logs = options.out.join("logs");
        fs::create_dir_all(&logs).map_err(file_error("make the folder", logs))?;
        let ips: Vec<Ipv4Addr> = self.nodes.iter().map(|node| node.ip).collect();
        for (number, node) in self.nodes.iter().enumerate() {
            fs::create_dir_all(&node.dir).map_err(file_error("make the folder", &node.dir))?;
            write(DataDir::genesis_file(&node.dir), &genesis)?;
            keyfile::create(&DataDir::node_key_file(&node.dir), &node.key)?;
            if let Some(key) = &node.producer_key {
                keyfile::create(&node.producer_key_file(), key)?;
            }
            if node.emulated {
                let links = LinkEmulation::of(&self.topology, number, &ips, jitter_seed(options));
                write(node.links(), &links.to_toml())?;
            }
        }
        Ok(())
    }
}

/// From which the jitter of all nodes is drawn.
pub(super) fn jitter_seed(options: &Options) -> u64 {
    Stream::new(options.seed, "jitter").next_u64()
}

/// Makes the folder, or finds it empty.
pub(super) fn make_empty(out: &Path) -> Result<(), ClusterError> {
    let made = match fs::read_dir(out) {
        Ok(mut entries) => match entries.next() {
            None => Ok(()),
            Some(_) => return Err(ClusterError::OutNotEmpty(out.to_owned())),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => fs::create_dir_all(out),
        Err(error) => Err(error),
    };
    made.map_err(|error| {
        let out = out.display();
        ClusterError::Options(format!("cannot use {out} as the output folder: {error}; give another --out"))
    })
}

/// An address for each node. The second byte follows the seed, so that networks that run side by side rarely share any;
/// if they do, their ports differ all the same.
pub(super) fn address(seed: u64, node: usize) -> Ipv4Addr {
    let byte = |number: u64| u8::try_from(number).expect("below 256 by its making");
    let node = node as u64;
    Ipv4Addr::new(127, byte(1 + seed % 250), byte(node / 250), byte(1 + node % 250))
}

fn secret_key(stream: &mut Stream) -> SecretKey {
    let mut seed = [0; 32];
    stream.fill(&mut seed);
    SecretKey::from_seed(&seed)
}

/// The usual limits, raised where the load needs more: four slots' worth of transactions must fit into a block, so that a
/// missed slot leaves no lasting queue.
fn limits(options: &Options) -> Limits {
    let usual = Limits::default();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a cast of a float saturates")]
    let burst = (options.tx_rate * options.slot.as_secs_f64() * 4.0).ceil() as u32;
    let payload_bytes = u32::try_from(options.tx_bytes).unwrap_or(u32::MAX);
    let transactions =
        usual.transactions_per_block_max.max(burst).min(starling_protocol::genesis::TRANSACTIONS_PER_BLOCK_MAX);
    let transaction_bytes = payload_bytes.saturating_add(TRANSACTION_OVERHEAD_BYTES);
    let block_bytes = burst.saturating_mul(transaction_bytes).saturating_add(BLOCK_SPARE_BYTES);
    Limits {
        payload_bytes_max: usual.payload_bytes_max.max(payload_bytes),
        transactions_per_block_max: transactions,
        block_bytes_max: usual
            .block_bytes_max
            .max(block_bytes)
            .max(transaction_bytes.saturating_add(BLOCK_SPARE_BYTES))
            .min(starling_protocol::genesis::BLOCK_BYTES_MAX),
        ..usual
    }
}

/// Room for what a transaction has besides its payload; somewhat more than it is.
const TRANSACTION_OVERHEAD_BYTES: u32 = 256;
/// Room for what a block has besides its transactions; more than it is.
const BLOCK_SPARE_BYTES: u32 = 4_096;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use super::*;
    use crate::wan::Profile;
    use crate::wan::profile::WAN_TOML;

    fn options(out: &Path) -> Options {
        Options {
            nodes: 300,
            target_peers: 10,
            duration: Duration::from_secs(20),
            tx_rate: 50.0,
            tx_bytes: 256,
            slot: Duration::from_secs(2),
            profile: Profile::wan(),
            profile_toml: WAN_TOML.to_owned(),
            seed: 7,
            out: out.to_owned(),
            keep: false,
            trace: true,
            node_bin: None,
            node_args: Vec::new(),
            attackers: Vec::new(),
            command: Vec::new(),
        }
    }

    #[test]
    fn every_node_has_an_address_a_name_and_a_key_of_its_own() {
        let plan = Plan::new(&options(Path::new("out")), 0).expect("a plan");
        let ips: BTreeSet<_> = plan.nodes.iter().map(|node| node.ip).collect();
        let names: BTreeSet<_> = plan.nodes.iter().map(|node| &*node.name).collect();
        let keys: BTreeSet<_> = plan.nodes.iter().map(|node| *node.key.seed()).collect();
        assert_eq!((ips.len(), names.len(), keys.len()), (300, 300, 300));
        assert_eq!((plan.nodes[0].ip, plan.nodes[250].ip), (Ipv4Addr::new(127, 8, 0, 1), Ipv4Addr::new(127, 8, 1, 1)));
        assert_eq!((&*plan.nodes[7].name, &*plan.nodes[299].name), ("n007", "n299"));
        assert_eq!(plan.genesis.producers().len(), PRODUCERS_MAX);
    }

    #[test]
    fn the_seed_decides_the_keys() {
        let keys = |seed| {
            let options = Options { seed, nodes: 3, ..options(Path::new("out")) };
            let plan = Plan::new(&options, 0).expect("a plan");
            plan.nodes.iter().map(|node| *node.key.seed()).collect::<Vec<_>>()
        };
        assert_eq!(keys(1), keys(1));
        assert_ne!(keys(1), keys(2));
    }

    #[test]
    fn a_large_load_gets_blocks_that_can_hold_it() {
        let options = Options { tx_rate: 1_000.0, tx_bytes: 200, ..options(Path::new("out")) };
        let limits = limits(&options);
        assert_eq!(limits.transactions_per_block_max, 8_000);
        assert!(limits.block_bytes_max > 8_000 * 300);
        let options = Options { tx_rate: 1e9, tx_bytes: 1 << 20, ..options };
        let plan = Plan::new(&options, 0).expect("limits that a genesis allows");
        assert_eq!(plan.genesis.limits().payload_bytes_max, 1 << 20);
    }

    #[test]
    fn what_cannot_be_is_a_usage_error() {
        let too_large = Options { tx_bytes: 1 << 24, ..options(Path::new("out")) };
        let error = Plan::new(&too_large, 0).expect_err("a payload larger than any block");
        assert!(error.is_usage() && error.to_string().contains("payload_bytes_max"), "{error}");
    }

    #[test]
    fn a_folder_in_use_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let options = Options { nodes: 2, ..options(dir.path()) };
        let plan = Plan::new(&options, 0).expect("a plan");
        fs::write(dir.path().join("precious"), "").expect("written");
        let error = plan.write(&options).expect_err("not empty");
        assert!(error.is_usage() && error.to_string().contains("is not empty"), "{error}");
        assert_eq!(fs::read_dir(dir.path()).expect("readable").count(), 1);
        fs::remove_file(dir.path().join("precious")).expect("removed");
        plan.write(&options).expect("an empty folder will do");
        let links = fs::read_to_string(plan.nodes[1].links()).expect("links");
        assert!(links.contains(&plan.nodes[0].ip.to_string()));
    }
}
