//! What is to be simulated.

use super::faults::Action;
use super::link::WindowModel;
use super::workload::{self, Pace, Publishers, Workload};
use crate::wan::Profile;
use starling_protocol::genesis::Limits;
use starling_protocol::mesh::MeshConfig;
use starling_protocol::time::{Duration, Time};
use std::collections::BTreeSet;
use std::sync::Arc;

/// A run, wholly described: the same scenario gives the same trace.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// From which everything is drawn.
    pub seed: u64,
    /// How many nodes there are.
    pub nodes: usize,
    /// Who is connected with whom.
    pub wiring: Wiring,
    /// When the first operator names a peer, and with it the first node dials.
    pub connect_from: Duration,
    /// Within how long from then on all of them do.
    pub connect_within: Duration,
    /// Regions, delays, uplinks.
    pub profile: Profile,
    /// What a node receives in all, in bits a second; none when receiving is not limited.
    pub downlink_bits_per_s: Option<u64>,
    /// Of a million segments, how many are lost and sent again.
    pub loss_ppm: u32,
    /// How the congestion window of a connection behaves; none when it is no limit.
    pub window: Option<WindowModel>,
    /// After how long a connection on which nothing comes through counts as broken. Real ones: 30 s over QUIC (RFC 9000,
    /// section 10.1, with common settings), up to a quarter of an hour over TCP.
    pub dead_after: Duration,
    /// How many connections a node takes.
    pub limits: ConnectionLimits,
    /// How long computations take.
    pub cpu: CpuModel,
    /// How long writing and reading take.
    pub disk: DiskModel,
    /// Messages.
    pub workloads: Vec<Workload>,
    /// How long the network runs before messages are published.
    pub warm_up: Duration,
    /// How long messages are published.
    pub duration: Duration,
    /// How long the last messages have to arrive.
    pub drain: Duration,
    /// How many producers make blocks; none when zero.
    pub producers: usize,
    /// How many producers more the genesis names whose keys no node has: attackers may have them.
    pub absent_producers: usize,
    /// Length of a slot.
    pub slot: Duration,
    /// What goes wrong, in the order of time.
    pub faults: Vec<(Time, Action)>,
    /// What of the engine's configuration is not as it is by default, by a name and what changes it.
    pub engine: Engine,
    /// Whether every RPC is encoded and decoded rather than shared, which is slow and changes nothing.
    pub encode: bool,
}

/// A configuration of the engine, by what it changes of the default one.
#[derive(Clone, Copy, Debug)]
pub struct Engine {
    /// For people.
    pub name: &'static str,
    /// Changes the default configuration.
    pub configure: fn(&mut MeshConfig),
}

impl Default for Engine {
    fn default() -> Self {
        Self { name: "starling", configure: |_| {} }
    }
}

/// Who is connected with whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wiring {
    /// Links drawn at random, so many of each node, half of which it dialled ([`super::topology::random_regular`]).
    Random {
        /// Links of each node.
        degree: usize,
    },
    /// Of a node's links, so many in a hundred lead to nodes of its own region, as far as there are any.
    Regional {
        /// Links of each node.
        degree: usize,
        /// Links within the region, in percent.
        near_percent: u32,
    },
    /// A ring of neighbours of which so many links in a thousand lead anywhere instead (Watts and Strogatz, "Collective dynamics of
    /// 'small-world' networks", 1998).
    SmallWorld {
        /// Links of each node.
        degree: usize,
        /// Links that are moved, in thousandths.
        moved_permille: u32,
    },
    /// Exactly these: the first one dials the second.
    Given(Arc<Vec<(u32, u32)>>),
    /// Whatever the machines' own peer policy makes of a directory of all nodes, beginning with some bootnodes.
    Discovered {
        /// How many nodes are everybody's bootnodes: the first ones.
        bootnodes: usize,
        /// Connected peers that each node aims at.
        target_peers: usize,
    },
}

impl Wiring {
    /// Connected peers that each node aims at.
    #[must_use]
    pub fn target_peers(&self) -> usize {
        match self {
            Self::Random { degree } | Self::Regional { degree, .. } | Self::SmallWorld { degree, .. } => *degree,
            // Nobody dials beyond the links that are given.
            Self::Given(_) => 1,
            Self::Discovered { target_peers, .. } => *target_peers,
        }
    }
}

/// How many connections a node takes, as real nodes do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// In all.
    pub connections_max: usize,
    /// Those that others dialled.
    pub inbound_max: usize,
    /// With one host.
    pub per_ip_max: usize,
    /// With one subnet.
    pub per_subnet_max: usize,
}

impl Default for ConnectionLimits {
    /// Those of a real node that is told nothing: it looks for 24 peers, allows eight times as many, and keeps a third of the places for those
    /// that it dials.
    fn default() -> Self {
        Self { connections_max: 192, inbound_max: 128, per_ip_max: 8, per_subnet_max: 32 }
    }
}

/// How long a node computes. All work of a kind is done one piece after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuModel {
    /// Taking in an RPC: system calls, decryption, demultiplexing, and the machine itself.
    pub rpc_ns: u64,
    /// Decrypting, copying and hashing, for each byte of an RPC.
    pub byte_ns: u64,
    /// Any other input: a timer, a verdict, a submission.
    pub input_ns: u64,
    /// Verifying a signature, on the verifier's own queue.
    pub signature_ns: u64,
}

impl Default for CpuModel {
    /// Guesses for one core of a small server, to be replaced by what a comparison with processes shows.
    fn default() -> Self {
        Self { rpc_ns: 15_000, byte_ns: 3, input_ns: 5_000, signature_ns: 60_000 }
    }
}

/// How long a disk takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskModel {
    /// Until something small is written for good, or read.
    pub latency: Duration,
    /// How fast the rest follows.
    pub bytes_per_s: u64,
}

impl Default for DiskModel {
    /// Guesses at a server's solid-state disk.
    fn default() -> Self {
        Self { latency: Duration::from_millis(2), bytes_per_s: 400_000_000 }
    }
}

impl Scenario {
    /// What the genesis of a network allows that runs a scenario: large payloads, and whoever publishes often.
    #[must_use]
    pub fn genesis_limits() -> Limits {
        Limits { payload_bytes_max: 1 << 20, block_bytes_max: 2 << 20, nonce_window: 4_096, ..Limits::default() }
    }

    /// The preset that speed and memory are measured with: 10 messages a second of 2 KiB for 30 s after 15 s of warm-up,
    /// 40 links each.
    #[must_use]
    pub fn scale(nodes: usize, seed: u64) -> Self {
        Self {
            seed,
            nodes,
            wiring: Wiring::Random { degree: 40 },
            connect_from: Duration::ZERO,
            connect_within: Duration::from_secs(1),
            profile: Profile::wan(),
            downlink_bits_per_s: None,
            loss_ppm: 0,
            window: None,
            dead_after: Duration::from_secs(30),
            limits: ConnectionLimits::default(),
            cpu: CpuModel::default(),
            disk: DiskModel::default(),
            workloads: vec![Workload {
                pace: Pace::Constant { messages_per_ks: 10_000 },
                payload_bytes: 2 << 10,
                publishers: Publishers::Spread(64),
                from: Duration::ZERO,
                until: None,
            }],
            warm_up: Duration::from_secs(15),
            duration: Duration::from_secs(30),
            drain: Duration::from_secs(5),
            producers: 0,
            absent_producers: 0,
            slot: Duration::from_secs(2),
            faults: Vec::new(),
            engine: Engine::default(),
            encode: false,
        }
    }

    /// The nodes that publish, in ascending order.
    #[must_use]
    pub fn publishers(&self) -> Vec<u32> {
        let all: BTreeSet<u32> = workload::submissions(self).iter().map(|submission| submission.node).collect();
        all.into_iter().collect()
    }

    /// How many nodes publish at most, known without making what they publish.
    #[must_use]
    pub fn publishers_len(&self) -> usize {
        let named = |workload: &Workload| match &workload.publishers {
            Publishers::Spread(count) => *count,
            Publishers::Nodes(nodes) => nodes.len(),
        };
        self.workloads.iter().map(named).fold(0, usize::saturating_add).min(self.nodes)
    }

    /// When it ends.
    #[must_use]
    pub fn end(&self) -> Time {
        Time::ZERO + self.warm_up + self.duration + self.drain
    }
}
