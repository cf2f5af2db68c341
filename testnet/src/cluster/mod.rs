//! Networks of real node processes on this host: started, loaded, measured and torn down.
//!
//! # A run
//! 1. **Prepare.** Everything that can be decided is decided from the seed (`plan`): regions, addresses, keys, the
//!    genesis. An output folder that is not empty is refused before anything is written.
//! 2. **Start.** Two nodes first; the others are told only of those two and find each other through Kademlia. As many nodes
//!    start at a time as the host has processors for, so that starting is quick without being a stampede.
//! 3. **Mesh.** Until every node has held enough mesh links on both topics for one heartbeat.
//! 4. **Load.** Signed transactions go by RPC to random nodes at a steady rate, while producers make blocks; and attackers attack, if there
//!    are to be any (`attackers`).
//! 5. **Drain.** Until every message is everywhere, at most [`DRAIN`].
//! 6. **Stop** and report.
//!
//! # Teardown
//! Every node holds the reading end of a pipe whose writing end is this process's alone, and ends when that closes. So when
//! this process is gone, however it went, so are the nodes. While it lives it stops them with SIGTERM, and with SIGKILL
//! those that have not ended some seconds later. Nodes are in process groups of their own, so that Ctrl-C reaches this
//! process only, which then does just that.
//!
//! # Limits
//! All nodes share this host: when its processors are busy the latencies measure that, which the report then states.

pub(crate) mod attackers;
pub mod cli;
pub mod endure;
mod fleet;
mod host;
mod load;
mod phases;
mod plan;
mod progress;
pub mod reality;
pub mod scripted;
mod up;

use std::path::PathBuf;
use std::time::Duration;

use crate::attack::Attackers;
use crate::measure::trace::TraceError;
use crate::wan::Profile;

pub use phases::run;
pub use up::up;

/// How long after the load what is under way may still arrive.
pub const DRAIN: Duration = Duration::from_secs(10);

/// What network to run and what to do with it.
#[derive(Debug, Clone)]
pub struct Options {
    /// How many nodes, at least two.
    pub nodes: usize,
    /// Connections that each node seeks.
    pub target_peers: usize,
    /// For how long transactions are submitted.
    pub duration: Duration,
    /// Transactions a second, in all; none if zero.
    pub tx_rate: f64,
    /// The payload of each transaction.
    pub tx_bytes: usize,
    /// The length of a slot.
    pub slot: Duration,
    /// The wide-area network to imitate.
    pub profile: Profile,
    /// The text of that profile, for the run's folder.
    pub profile_toml: String,
    /// Decides everything that is drawn.
    pub seed: u64,
    /// The run's folder; made if absent, refused if not empty.
    pub out: PathBuf,
    /// Whether to leave the nodes' data directories.
    pub keep: bool,
    /// Whether the nodes write what they receive, for measuring.
    pub trace: bool,
    /// The node's executable; if absent, this one is executed again.
    pub node_bin: Option<PathBuf>,
    /// Further arguments for every node.
    pub node_args: Vec<String>,
    /// Who attacks while the load runs.
    pub attackers: Vec<Attackers>,
    /// The command line, for the manifest.
    pub command: Vec<String>,
}

/// Why a network could not be run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClusterError {
    /// The output folder is in use.
    #[error("{} is not empty, and a run never writes over another; give another --out, or remove the folder", .0.display())]
    OutNotEmpty(PathBuf),
    /// The options cannot be met.
    #[error("{0}")]
    Options(String),
    /// A manifest cannot be run.
    #[error(transparent)]
    Manifest(#[from] crate::manifest::ManifestError),
    /// A file or folder could not be written.
    #[error("cannot {doing} {}: {source}", .path.display())]
    File {
        /// What was attempted.
        doing: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A node's key could not be written.
    #[error(transparent)]
    Key(#[from] starling_node::keyfile::KeyFileError),
    /// A node could not be started at all.
    #[error("cannot start {}: {source}; give the node's executable with --node-bin", .program.display())]
    Spawn {
        /// What was to be executed.
        program: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A node ended before the network was up.
    #[error("node {name} ended while it started ({status}); the end of its log, {}:\n{log_end}", .log.display())]
    Died {
        /// The node's name.
        name: String,
        /// How it ended.
        status: std::process::ExitStatus,
        /// Its log.
        log: PathBuf,
        /// The last lines of it.
        log_end: String,
    },
    /// A node ended before anything was measured.
    #[error("{0}")]
    Lost(String),
    /// Something took too long.
    #[error("{waited_s} s have passed and {missing}; the nodes' logs are in {}", .logs.display())]
    Deadline {
        /// How long.
        waited_s: u64,
        /// What did not happen.
        missing: String,
        /// Where to look.
        logs: PathBuf,
    },
    /// A node's trace makes no sense.
    #[error(transparent)]
    Trace(#[from] TraceError),
    /// A signal came.
    #[error("interrupted by {0}; all nodes are stopped, and nothing was reported")]
    Interrupted(&'static str),
    /// A signal came, and the report tells of the time until then.
    #[error("interrupted by {0}; all nodes are stopped, and the report tells of the time until then")]
    CutShort(&'static str),
}

impl ClusterError {
    /// Whether the user asked for something impossible, rather than something having failed.
    #[must_use]
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::OutNotEmpty(_) | Self::Options(_) | Self::Manifest(_))
    }
}

/// Adds what was attempted, and with what, to an error of the system.
fn file_error(doing: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> ClusterError {
    let path = path.into();
    move |source| ClusterError::File { doing, path, source }
}
