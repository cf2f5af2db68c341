//! The keys of a manifest.

use super::check::{NODES_MAX, PAYLOAD_BYTES_MAX};
use crate::attack::Attackers;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is to be run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The format of this file: 1.
    #[schemars(extend("const" = super::FORMAT))]
    pub format: u32,
    /// A short name, for reports.
    #[serde(default = "unnamed")]
    pub name: String,
    /// What it is for, in a line.
    #[serde(default)]
    pub about: String,
    /// From which everything is drawn.
    #[serde(default = "one")]
    pub seed: u64,
    /// How many honest nodes there are, numbered from 0.
    #[schemars(range(min = 2, max = NODES_MAX))]
    pub nodes: u32,
    /// Whether every RPC is encoded and decoded instead of being shared: slow, for small networks, and with the same outcome.
    #[serde(default)]
    pub encode: bool,
    /// How long the parts of the run are.
    #[serde(default)]
    pub time: Times,
    /// Who is connected with whom. If absent, links are drawn at random, 40 for each node, or to all others where there are fewer.
    #[serde(default)]
    pub topology: Topology,
    /// Whether nothing was said of it, so that it follows the number of nodes.
    #[serde(skip)]
    pub usual_topology: bool,
    /// How links behave.
    #[serde(default)]
    pub links: Links,
    /// How many connections a node takes.
    #[serde(default)]
    pub limits: Limits,
    /// How long computations take.
    #[serde(default)]
    pub cpu: Cpu,
    /// How long the disk takes.
    #[serde(default)]
    pub disk: Disk,
    /// Who makes blocks.
    #[serde(default)]
    pub blocks: Blocks,
    /// What is published.
    #[serde(default)]
    pub workload: Vec<Workload>,
    /// What goes wrong.
    #[serde(default)]
    pub fault: Vec<Fault>,
    /// Who attacks.
    #[serde(default)]
    pub attack: Vec<Attackers>,
}

/// How long the parts of a run are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Times {
    /// From the start until messages are published.
    pub warm_up_s: f64,
    /// How long messages are published.
    pub load_s: f64,
    /// How long the last ones have to arrive.
    pub drain_s: f64,
    /// When the first node dials its peers.
    pub connect_from_s: f64,
    /// Within how long from then on all of them do.
    pub connect_within_s: f64,
}

impl Default for Times {
    fn default() -> Self {
        Self { warm_up_s: 15.0, load_s: 30.0, drain_s: 5.0, connect_from_s: 0.0, connect_within_s: 1.0 }
    }
}

/// Who is connected with whom.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, tag = "kind", rename_all = "snake_case")]
pub enum Topology {
    /// Links drawn at random.
    Random {
        /// Links of each node, half of which it dials.
        degree: u32,
    },
    /// Links drawn at random, a part of them within the region.
    Regional {
        /// Links of each node.
        degree: u32,
        /// How many of them in a hundred lead to nodes of the same region, as far as it has so many.
        #[schemars(range(max = 100))]
        near_percent: u32,
    },
    /// A ring of neighbours with shortcuts.
    SmallWorld {
        /// Links of each node.
        degree: u32,
        /// How many of them in a hundred lead anywhere instead of to a neighbour.
        moved_percent: f64,
    },
    /// Exactly the links of a file.
    File {
        /// Its path, from the manifest's folder: a line `A B` for each link, which node A dials.
        path: String,
    },
    /// The nodes find each other, beginning with bootnodes, and decide themselves whom to connect with.
    Discovered {
        /// How many nodes are everybody's bootnodes: the first ones.
        #[serde(default = "three")]
        bootnodes: u32,
        /// Connected peers that each node aims at.
        #[serde(default = "twenty_four")]
        target_peers: u32,
    },
}

impl Default for Topology {
    fn default() -> Self {
        Self::usual(u32::MAX)
    }
}

impl Topology {
    /// What a network of so many nodes has if nothing else is said.
    pub(super) fn usual(nodes: u32) -> Self {
        Self::Random { degree: nodes.saturating_sub(1).clamp(1, 40) }
    }
}

/// How links behave.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Links {
    /// Regions, latencies, last miles, jitter and uplinks: `wan`, `flat`, `loopback`, or the path of a profile, from the manifest's folder.
    pub profile: String,
    /// How many segments in a hundred are lost and sent again.
    pub loss_percent: f64,
    /// What a node sends in all, in place of the profile's uplinks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uplink_mbit_per_s: Option<f64>,
    /// What a node receives in all; not limited if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub downlink_mbit_per_s: Option<f64>,
    /// How connections' congestion windows behave; they are no limit if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<Window>,
    /// After how long a connection on which nothing comes through counts as broken.
    pub dead_after_s: f64,
}

impl Default for Links {
    fn default() -> Self {
        Self {
            profile: "wan".into(),
            loss_percent: 0.0,
            uplink_mbit_per_s: None,
            downlink_mbit_per_s: None,
            window: None,
            dead_after_s: 30.0,
        }
    }
}

/// How congestion windows behave.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Window {
    /// Segments of 1460 bytes that are on their way at first, and again after a pause.
    pub initial_segments: u32,
    /// Bytes on their way at most.
    pub bytes_max: u64,
    /// After how long a pause a connection begins anew.
    pub idle_ms: f64,
}

impl Default for Window {
    fn default() -> Self {
        Self { initial_segments: 10, bytes_max: 4 << 20, idle_ms: 300.0 }
    }
}

/// How many connections a node takes. The defaults are those of real nodes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// In all.
    pub connections_max: u32,
    /// Those that others dialled.
    pub inbound_max: u32,
    /// With one host.
    pub per_ip_max: u32,
    /// With one subnet.
    pub per_subnet_max: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections_max: 192, inbound_max: 128, per_ip_max: 8, per_subnet_max: 32 }
    }
}

/// How long computations take.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Cpu {
    /// Taking in an RPC.
    pub rpc_us: f64,
    /// For each byte of an RPC.
    pub byte_ns: u64,
    /// Taking in anything else.
    pub input_us: f64,
    /// Verifying a signature, beside the others.
    pub signature_us: f64,
}

impl Default for Cpu {
    fn default() -> Self {
        Self { rpc_us: 15.0, byte_ns: 3, input_us: 5.0, signature_us: 60.0 }
    }
}

/// How long the disk takes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Disk {
    /// Until something small is written for good, or read.
    pub latency_ms: f64,
    /// How fast the rest follows.
    pub mbyte_per_s: f64,
}

impl Default for Disk {
    fn default() -> Self {
        Self { latency_ms: 2.0, mbyte_per_s: 400.0 }
    }
}

/// Who makes blocks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Blocks {
    /// How many nodes make blocks, by turns: the first ones. None if 0.
    pub producers: u32,
    /// Length of a slot, in each of which there is at most one block.
    pub slot_s: f64,
}

impl Default for Blocks {
    fn default() -> Self {
        Self { producers: 0, slot_s: 2.0 }
    }
}

/// What is published while the load lasts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, tag = "kind", rename_all = "snake_case")]
pub enum Workload {
    /// Transactions at regular intervals.
    Constant {
        /// Of all publishers together.
        per_s: f64,
        /// Payload of each.
        #[schemars(range(max = PAYLOAD_BYTES_MAX))]
        bytes: u32,
        /// By whom.
        #[serde(default)]
        publishers: Publishers,
        /// From when on, from the beginning of the load.
        #[serde(default)]
        from_s: f64,
        /// Until when; to the end of the load if absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until_s: Option<f64>,
    },
    /// Transactions at times that do not depend on each other.
    Poisson {
        /// Of all publishers together, on average.
        per_s: f64,
        /// Payload of each.
        #[schemars(range(max = PAYLOAD_BYTES_MAX))]
        bytes: u32,
        /// By whom.
        #[serde(default)]
        publishers: Publishers,
        /// From when on, from the beginning of the load.
        #[serde(default)]
        from_s: f64,
        /// Until when; to the end of the load if absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until_s: Option<f64>,
    },
    /// Several transactions at once, at regular intervals.
    Bursts {
        /// Between two bursts.
        every_s: f64,
        /// Transactions of each.
        messages: u32,
        /// Payload of each.
        #[schemars(range(max = PAYLOAD_BYTES_MAX))]
        bytes: u32,
        /// By whom.
        #[serde(default)]
        publishers: Publishers,
        /// From when on, from the beginning of the load.
        #[serde(default)]
        from_s: f64,
        /// Until when; to the end of the load if absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until_s: Option<f64>,
    },
}

/// Who publishes, by turns.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Publishers {
    /// So many nodes, spread evenly over the numbers; all if there are fewer.
    Count(u32),
    /// These nodes.
    Nodes(Vec<u32>),
}

impl Default for Publishers {
    fn default() -> Self {
        Self::Count(64)
    }
}

/// Whom something concerns.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Who {
    /// These nodes.
    Nodes(Vec<u32>),
    /// So many nodes in a hundred, drawn from the seed.
    Percent(f64),
    /// The nodes of these regions.
    Regions(Vec<String>),
    /// All nodes, if true.
    All(bool),
}

/// Something that goes wrong.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, tag = "kind", rename_all = "snake_case")]
pub enum Fault {
    /// Processes end without warning and lose what the disk has not confirmed.
    Kill {
        /// When.
        at_s: f64,
        /// Which.
        who: Who,
        /// After how long they start again; never if absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        for_s: Option<f64>,
    },
    /// Processes end orderly and start again.
    Restart {
        /// When.
        at_s: f64,
        /// Which.
        who: Who,
        /// After how long they start again.
        #[serde(default = "one_second")]
        for_s: f64,
    },
    /// Processes stand still and go on.
    Pause {
        /// When.
        at_s: f64,
        /// Which.
        who: Who,
        /// After how long they go on.
        for_s: f64,
    },
    /// Some nodes and the others do not reach each other.
    Partition {
        /// When.
        at_s: f64,
        /// One side; all others are on the other one.
        who: Who,
        /// After how long it heals; never, or by a `heal`, if absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        for_s: Option<f64>,
    },
    /// Everybody reaches everybody again.
    Heal {
        /// When.
        at_s: f64,
    },
    /// Paths become worse, in both directions.
    Degrade {
        /// When.
        at_s: f64,
        /// Between these nodes
        from: Who,
        /// and these.
        #[serde(default = "everybody")]
        to: Who,
        /// Added to the one-way latency.
        #[serde(default)]
        latency_ms: f64,
        /// Segments in a hundred that are lost and sent again, if that is more than usual.
        #[serde(default)]
        loss_percent: f64,
        /// For how long; to the end if absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        for_s: Option<f64>,
    },
    /// Nodes are killed and start again all the time.
    Churn {
        /// From when on.
        at_s: f64,
        /// For how long.
        for_s: f64,
        /// How many nodes in a hundred are killed each minute.
        percent_per_min: f64,
        /// How long each of them is gone.
        down_s: f64,
    },
    /// Wall clocks are set wrong.
    Clock {
        /// When.
        at_s: f64,
        /// Whose.
        who: Who,
        /// How far they are ahead; behind if negative.
        skew_s: f64,
    },
    /// Computations take longer.
    SlowCpu {
        /// When.
        at_s: f64,
        /// Whose.
        who: Who,
        /// How many times as long.
        factor: f64,
        /// For how long; to the end if absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        for_s: Option<f64>,
    },
    /// Disks take longer.
    SlowDisk {
        /// When.
        at_s: f64,
        /// Whose.
        who: Who,
        /// How many times as long.
        factor: f64,
        /// For how long; to the end if absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        for_s: Option<f64>,
    },
}

fn unnamed() -> String {
    "unnamed".into()
}

fn everybody() -> Who {
    Who::All(true)
}

const fn one() -> u64 {
    1
}

const fn one_second() -> f64 {
    1.0
}

const fn three() -> u32 {
    3
}

const fn twenty_four() -> u32 {
    24
}
