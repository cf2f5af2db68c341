//! Attackers as processes, against the nodes of a run.
//!
//! # What runs
//! The attackers are those of [`crate::attack`], unchanged: each [`Adversary`](crate::attack::Adversary) that the simulator hosts is hosted here by
//! a process of its own kind ([`process`]), which gives it what the node's driver gives a machine: the same transports, handshakes, streams, queues
//! and limits on frames. Attackers of one kind share a process, because they may conspire; each has an identity and a loopback address of its own.
//!
//! Time zero of attackers is the start of the load, so `at_s = 5` comes 5 s into it; of a manifest's attackers it is the start of the run, as in
//! the simulator. They are not slowed by the emulated
//! links of the profile: what they send arrives at once.
//!
//! # What is measured
//! Attackers write down when they were connected with whom. Nodes are asked for their peers several times a second ([`watch`]). The nodes' traces tell
//! of honest messages, as in any run. [`judge`] puts that together.
//!
//! # Bounds
//! An attacking process speaks to this host only: it refuses to be told of a node elsewhere, and its network dials and listens to
//! loopback addresses alone, whoever names another ([`starling_node::net::confined`]). So this is no tool against anybody's network.
//! It ends when its standard input closes, as nodes do.

pub(super) mod judge;
pub(super) mod process;
mod siege;
mod watch;

use std::net::Ipv4Addr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::attack::Attackers;

pub(super) use siege::{LEAD, Siege};

/// What an attacking process is told: the file that it is given.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Orders {
    /// The network's genesis.
    pub(super) genesis: PathBuf,
    /// Decides keys and everything that is drawn.
    pub(super) seed: u64,
    /// Who attacks.
    pub(super) attackers: Attackers,
    /// Where the honest nodes listen, by their numbers: multiaddresses that end in their peer ids.
    pub(super) nodes: Vec<String>,
    /// Where each attacker is at home.
    pub(super) homes: Vec<Ipv4Addr>,
    /// When the attackers' time begins, in microseconds of the host's monotonic clock.
    pub(super) zero_us: u64,
    /// Where to write [`Entry`]s.
    pub(super) diary: PathBuf,
}

/// A line of an attacking process's diary, as JSON. Times are microseconds of the host's monotonic clock.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub(super) enum Entry {
    /// An attacker has begun.
    Up { attacker: usize, peer_id: String },
    /// It is connected with a node.
    Connected { attacker: usize, node: usize, t_us: u64 },
    /// It is not any more.
    Disconnected { attacker: usize, node: usize, t_us: u64 },
    /// Bytes of mesh frames since its beginning; written once a second and after each connection.
    Traffic { attacker: usize, sent_bytes: u64, received_bytes: u64 },
}
