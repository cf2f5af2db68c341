//! The flags of `crash` and `soak`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::{CrashOptions, SoakOptions};
use crate::cluster::cli::{SEED_MAX, duration, node_program, out_folder, rate};
use crate::cluster::{ClusterError, Options};
use crate::wan::Profile;
use crate::wan::profile::LOOPBACK_TOML;

/// Examples and exit codes of `crash`.
pub(in crate::cluster) const CRASH_EXAMPLES: &str = "Examples:
  starling-testnet crash
      5 rounds with 4 nodes, about a quarter of a minute
  starling-testnet crash --rounds 100 --seed $(date +%s)
      the nightly form
  starling-testnet crash --rounds 20 --nodes 6 --keep --out try

Exit codes: 0 nothing acknowledged was lost and every database is whole; 1 something was lost, or the test could \
not be done; 2 usage; 130, 143 and 129 after SIGINT, SIGTERM and SIGHUP. No node is left running in any case.
After a failure the seed and the round are printed, and data directories and logs stay in the folder.";

/// Examples and exit codes of `soak`.
pub(in crate::cluster) const SOAK_EXAMPLES: &str = "Examples:
  starling-testnet soak
      8 nodes, 100 transactions a second for 30 minutes, a node killed and restarted every 20 s
  starling-testnet soak --duration 5m --kill-every 10s --seed 3 --out try
  starling-testnet soak --duration 2m --node-arg=--log-filter=debug

Ctrl-C ends the load, and what was measured so far is reported.
Exit codes: 0 all is well; 1 something was lost, the nodes are not on one chain, memory or file descriptors grow, or the \
soak could not be done; 2 usage; 130, 143 and 129 after SIGINT, SIGTERM and SIGHUP. No node is left running in any case.";

/// What both have in common.
#[derive(Debug, Args)]
struct Common {
    /// Payload bytes of each transaction
    #[arg(long, value_name = "BYTES", allow_negative_numbers = true, default_value_t = 256, value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    tx_bytes: u32,
    /// Decides who is killed when, keys, payloads and targets
    #[arg(long, value_name = "N", allow_negative_numbers = true, default_value_t = 1, value_parser = clap::value_parser!(u64).range(0..=SEED_MAX))]
    seed: u64,
    /// Folder for the results, new or empty [default: a new one under testnet-runs]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Leave the nodes' data directories in the folder
    #[arg(long)]
    keep: bool,
    /// The executable to run as a node [default: this one]
    #[arg(long, value_name = "FILE")]
    node_bin: Option<PathBuf>,
    /// One more argument for every node's `starling run`; can be repeated
    #[arg(long, value_name = "ARG", allow_hyphen_values = true)]
    node_arg: Vec<String>,
}

/// `crash`.
#[derive(Debug, Args)]
pub(crate) struct Crash {
    /// Rounds of kills
    #[arg(long, value_name = "N", allow_negative_numbers = true, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rounds: u32,
    /// How many nodes
    #[arg(long, value_name = "N", allow_negative_numbers = true, default_value_t = 4, value_parser = clap::value_parser!(u16).range(3..=100))]
    nodes: u16,
    /// Transactions a second, in all
    #[arg(long, value_name = "RATE", allow_negative_numbers = true, default_value = "20", value_parser = some_rate)]
    tx_rate: f64,
    /// Length of a slot
    #[arg(long, value_name = "TIME", default_value = "500ms", value_parser = duration)]
    slot: Duration,
    #[command(flatten)]
    common: Common,
}

/// `soak`.
#[derive(Debug, Args)]
pub(crate) struct Soak {
    /// For how long
    #[arg(long, value_name = "TIME", default_value = "30m", value_parser = duration)]
    duration: Duration,
    /// How many nodes
    #[arg(long, value_name = "N", allow_negative_numbers = true, default_value_t = 8, value_parser = clap::value_parser!(u16).range(3..=100))]
    nodes: u16,
    /// Transactions a second, in all
    #[arg(long, value_name = "RATE", allow_negative_numbers = true, default_value = "100", value_parser = some_rate)]
    tx_rate: f64,
    /// From one kill to the next
    #[arg(long, value_name = "TIME", default_value = "20s", value_parser = duration)]
    kill_every: Duration,
    /// Length of a slot
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = duration)]
    slot: Duration,
    #[command(flatten)]
    common: Common,
}

impl Crash {
    /// The options that were asked for.
    pub(in crate::cluster) fn options(self) -> Result<CrashOptions, ClusterError> {
        let Self { rounds, nodes, tx_rate, slot, common } = self;
        let network = common.options("crash", nodes, tx_rate, slot, Duration::ZERO)?;
        Ok(CrashOptions { network, rounds })
    }
}

impl Soak {
    /// The options that were asked for.
    pub(in crate::cluster) fn options(self) -> Result<SoakOptions, ClusterError> {
        let Self { duration, nodes, tx_rate, kill_every, slot, common } = self;
        let network = common.options("soak", nodes, tx_rate, slot, duration)?;
        Ok(SoakOptions { network, kill_every })
    }
}

impl Common {
    fn options(
        self,
        kind: &str,
        nodes: u16,
        tx_rate: f64,
        slot: Duration,
        duration: Duration,
    ) -> Result<Options, ClusterError> {
        let out = out_folder(self.out, &format!("{kind}-seed-{}", self.seed))?;
        Ok(Options {
            nodes: usize::from(nodes),
            target_peers: 10,
            duration,
            tx_rate,
            tx_bytes: self.tx_bytes as usize,
            slot,
            profile: Profile::loopback(),
            profile_toml: LOOPBACK_TOML.to_owned(),
            seed: self.seed,
            out,
            keep: self.keep,
            trace: false,
            node_bin: node_program(self.node_bin)?,
            node_args: self.node_arg,
            attackers: Vec::new(),
            command: crate::host::command_line(),
        })
    }
}

/// A rate above 0.
fn some_rate(text: &str) -> Result<f64, String> {
    let rate = rate(text)?;
    if rate >= 0.1 {
        Ok(rate)
    } else {
        Err("the rate must be at least 0.1: without a load nothing is tried".to_owned())
    }
}
