//! Trials of endurance: networks of real nodes that are killed while they work.
//!
//! - [`crash()`] kills nodes at chosen moments, a round at a time, and looks for anything acknowledged that was lost.
//! - [`soak()`] kills a node every so often under a steady load for a long time, and looks for anything that grows as well.
//!
//! Both submit their own signed transactions and write every acknowledgement down (`wallet`), and both end with the same
//! questions to the running nodes and to the disks (`verdict`). Neither needs root: nodes are killed by SIGKILL, and
//! parted by what they are told of each other.

pub(super) mod cli;
mod crash;
mod network;
mod soak;
mod verdict;
mod wallet;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use super::phases::interruption;
use super::{ClusterError, Options, file_error, host};
use crate::report::format::float;
use network::Network;
use wallet::{Accepted, Ledger};

pub use soak::soak;

/// What a crash test is to do.
#[derive(Debug, Clone)]
pub struct CrashOptions {
    /// The network and the load on it.
    pub network: Options,
    /// Rounds of kills.
    pub rounds: u32,
}

/// What a soak is to do.
#[derive(Debug, Clone)]
pub struct SoakOptions {
    /// The network and the load on it; `duration` is how long it lasts.
    pub network: Options,
    /// From one kill to the next.
    pub kill_every: Duration,
}

/// Runs a crash test and writes `summary.json` and `accepted.csv` into its folder. Returns what is wrong, in words: nothing, if
/// all is well, and then the data directories are removed unless they are to be kept.
///
/// # Errors
/// If the network cannot be run, a node does not start again, a file cannot be written, or a signal comes. No node is left
/// running in any case, and the data directories are left.
pub async fn crash(options: &CrashOptions) -> Result<Vec<String>, ClusterError> {
    let started = host::now_us();
    let mut network = Network::prepare(options.network.clone())?;
    let mut outcome = crash::Outcome::default();
    let tried = tokio::select! {
        tried = try_rounds(&mut network, &mut outcome, options.rounds) => tried,
        interrupted = interruption() => Err(interrupted),
    };
    network.fleet.stop().await;
    let tried = tried.map_err(|error| in_round(error, &outcome, &options.network))?;
    let (ledger, height) = tried;
    if outcome.findings.is_empty() {
        outcome.findings = check_disks(&network, &ledger.accepted, height).await;
    }
    let summary = CrashSummary {
        format: 1,
        kind: "crash",
        seed: options.network.seed,
        nodes: options.network.nodes,
        rounds_asked: options.rounds,
        kills: outcome.kills,
        seconds: float(host::now_us() - started) / 1e6,
        load: LoadSummary::of(&ledger),
        height,
        findings: &outcome.findings,
        rounds: &outcome.rounds,
    };
    write(&options.network.out.join("summary.json"), &(json(&summary) + "\n"))?;
    write(&options.network.out.join("accepted.csv"), &accepted_csv(&ledger.accepted, &network.names))?;
    say!("{}", summary.in_words());
    clean_up(&options.network, outcome.findings.is_empty())?;
    Ok(outcome.findings)
}

/// The test proper. Returns what was acknowledged, and the height up to which all nodes agreed in the end.
async fn try_rounds(
    network: &mut Network,
    outcome: &mut crash::Outcome,
    rounds: u32,
) -> Result<(Ledger, u64), ClusterError> {
    network.start().await?;
    let names = network.names.clone();
    let trial = crash::Trial::new(network, outcome);
    trial
        .run(rounds, |round| {
            let victims: Vec<&str> = round.victims.iter().map(|victim| &*names[*victim]).collect();
            note!(
                "round {:>3}/{rounds}  {:14}  {:5.1} s  height {:>5}  {:>6} acknowledged  killed {}{}",
                round.round,
                round.moment.name(),
                round.seconds,
                round.height,
                round.accepted,
                victims.join(" "),
                if round.met { "" } else { "  (the moment did not come)" },
            );
        })
        .await
}

/// Adds the round and the seed to an error that ended a test.
fn in_round(error: ClusterError, outcome: &crash::Outcome, options: &Options) -> ClusterError {
    match error {
        ClusterError::Interrupted(_) => error,
        error if error.is_usage() => error,
        error => ClusterError::Lost(format!(
            "in round {} of seed {}: {error}\nthe data directories are in {}",
            outcome.rounds.len() + 1,
            options.seed,
            options.out.join("nodes").display()
        )),
    }
}

/// What the data directories of the stopped nodes say against what was acknowledged, and against each other.
async fn check_disks(network: &Network, accepted: &[Accepted], height: u64) -> Vec<String> {
    let mut findings = Vec::new();
    let mut first: Option<Vec<_>> = None;
    for (number, node) in network.plan.nodes.iter().enumerate() {
        findings.extend(network.check_database(number).await);
        let chain = match verdict::stored_chain(&node.dir, &network.plan.genesis) {
            Ok(chain) => chain,
            Err(problem) => {
                findings.push(format!("on the disk of {}: {problem}", node.name));
                continue;
            }
        };
        let problems = chain.findings(accepted, &network.names);
        findings.extend(problems.into_iter().map(|problem| format!("on the disk of {}: {problem}", node.name)));
        let Some(agreed) = usize::try_from(height).ok().and_then(|height| chain.blocks.get(..height)) else {
            findings.push(format!(
                "the disk of {} has {} blocks, and all nodes had agreed on {height}",
                node.name,
                chain.height()
            ));
            continue;
        };
        let first = first.get_or_insert_with(|| agreed.to_vec());
        if first[..] != *agreed {
            findings.push(format!("the disks of {} and {} hold different chains", network.names[0], node.name));
        }
    }
    findings
}

/// What is written of the load.
#[derive(Debug, Serialize)]
struct LoadSummary {
    offered: u64,
    accepted: u64,
    held_back: u64,
    retries: u64,
    included_unacknowledged: u64,
    given_up: u64,
    refused: u64,
    refusals: Vec<String>,
}

impl LoadSummary {
    fn of(ledger: &Ledger) -> Self {
        Self {
            offered: ledger.offered,
            accepted: ledger.accepted.len() as u64,
            held_back: ledger.held_back,
            retries: ledger.retries,
            included_unacknowledged: ledger.included_unacknowledged,
            given_up: ledger.given_up,
            refused: ledger.refused,
            refusals: ledger.refusals.clone(),
        }
    }
}

#[derive(Debug, Serialize)]
struct CrashSummary<'a> {
    format: u32,
    kind: &'static str,
    seed: u64,
    nodes: usize,
    rounds_asked: u32,
    kills: u64,
    seconds: f64,
    load: LoadSummary,
    height: u64,
    findings: &'a [String],
    rounds: &'a [crash::Round],
}

impl CrashSummary<'_> {
    fn in_words(&self) -> String {
        let met = self.rounds.iter().filter(|round| round.met).count();
        format!(
            "{} rounds in {:.0} s, {} processes killed, {met} moments met; {} transactions acknowledged; height {}\n{}",
            self.rounds.len(),
            self.seconds,
            self.kills,
            self.load.accepted,
            self.height,
            if self.findings.is_empty() {
                "nothing acknowledged was lost, and every database is whole"
            } else {
                "it FAILED"
            }
        )
    }
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string_pretty(value).expect("figures and strings can be written as JSON")
}

fn accepted_csv(accepted: &[Accepted], names: &[String]) -> String {
    let mut csv = String::from("id,node,round,at_us,expiry_slot\n");
    for Accepted { id, node, at_us, round, expiry_slot } in accepted {
        csv.push_str(&format!("{id},{},{round},{at_us},{expiry_slot}\n", names[*node]));
    }
    csv
}

fn write(path: &Path, text: &str) -> Result<(), ClusterError> {
    fs::write(path, text).map_err(file_error("write", path))
}

/// Removes the data directories of a trial that found nothing, unless they are to be kept.
fn clean_up(options: &Options, all_well: bool) -> Result<(), ClusterError> {
    let data: PathBuf = options.out.join("nodes");
    if all_well && !options.keep {
        fs::remove_dir_all(&data).map_err(file_error("remove", data))?;
    }
    Ok(())
}
