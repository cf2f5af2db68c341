//! The commands of `starling-testnet` that run real nodes.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use starling_protocol::genesis::SLOT_MS_RANGE;

use super::attackers;
use super::endure;
use super::endure::cli::{CRASH_EXAMPLES, Crash, SOAK_EXAMPLES, Soak};
use super::fleet::NODE_SUBCOMMAND;
use super::reality::{self, RealityOptions};
use super::scripted::{self, Played, ScriptOptions};
use super::{ClusterError, Options, host};
use crate::attack::Attackers;
use crate::attack::processes::{check_as_processes, order};
use crate::input::{TEXT_BYTES_MAX, text};
use crate::manifest::Manifest;
use crate::report::terminal;
use crate::wan::Profile;
use crate::wan::profile::{FLAT_TOML, LOOPBACK_TOML, WAN_TOML};

/// Exit code when every message reached every node.
const COMPLETE: u8 = 0;
/// Exit code when a delivery is missing or the run failed.
const INCOMPLETE: u8 = 1;
/// Exit code when what was asked for cannot be.
const USAGE: u8 = 2;
/// Exit codes after a signal: 128 and its number, as shells have it.
const INTERRUPTED: u8 = 130;
const HUNG_UP: u8 = 129;
const TERMINATED: u8 = 143;

/// The load of `run` if none is asked for, in transactions a second. `up` has none then.
const TX_RATE: f64 = 50.0;

/// The largest seed: what a TOML integer can hold, since seeds are written into manifests.
pub(super) const SEED_MAX: u64 = i64::MAX.unsigned_abs();

/// Commands that run real nodes.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start a network, spread transactions and blocks, measure, report, and stop it
    #[command(after_long_help = RUN_EXAMPLES)]
    Run(Box<RunArguments>),
    /// Simulate manifests and run them on processes, and state how far the simulator is off
    #[command(after_long_help = REALITY_EXAMPLES)]
    Reality(RealityArguments),
    /// Start a network and keep it running until Ctrl-C, to play with
    #[command(after_long_help = UP_EXAMPLES)]
    Up(Network),
    /// Kill nodes at chosen moments, and see that nothing acknowledged is lost
    #[command(after_long_help = CRASH_EXAMPLES)]
    Crash(Crash),
    /// Run a network under load for long while nodes are killed and restarted, and see that nothing is lost or grows
    #[command(after_long_help = SOAK_EXAMPLES)]
    Soak(Soak),
}

const RUN_EXAMPLES: &str = "Examples:
  starling-testnet run
      16 nodes spread over the world, 50 transactions a second for 20 s
  starling-testnet run --nodes 64 --tx-rate 20 --seed 3
  starling-testnet run --profile loopback --duration 5s --out try
  starling-testnet run --profile my.toml --tx-bytes 1000 --slot 500ms
  starling-testnet run --nodes 14 --target-peers 13 --attack invalid:2 --attack iwant:1
      attack the nodes of this host while the load runs, and see that they hold; docs/ATTACKS.md has the kinds
  starling-testnet run --manifest partition
      16 nodes that are parted and healed, as `sim partition` simulates them
  starling-testnet run --manifest my.toml --set links.loss_percent=2 --seed 4

Exit codes: 0 every message reached every node, and attackers were dropped; 1 a delivery is missing, an \
attacker was not dropped, or the run failed; 2 usage; \
with a manifest as of `sim`: 0 every message reached every node that ran, over the mesh or in a block, and all of them agree; \
130, 143 and 129 after SIGINT, SIGTERM and SIGHUP. No node is left running in any case.";

const REALITY_EXAMPLES: &str = "Examples:
  starling-testnet reality
      the manifests that the model is held against, one after the other, some five minutes
  starling-testnet reality reality-16-small my.toml --set seed=9

Each gets two folders, `simulated` and `processes`, with the usual reports. Run it on a host that does nothing else. The first message \
of a kind is shown and not judged: with it processes touch memory for the first time.
Exit codes: 0 p50 and p99 are within what is allowed; 1 they are not, the host was saturated, or a run failed; 2 usage.";

/// The manifests that `reality` takes if none is named.
const REALITY_PRESETS: [&str; 6] = [
    "reality-16-small",
    "reality-16-large",
    "reality-48-small",
    "reality-48-large",
    "reality-32-small",
    "reality-32-large",
];

const UP_EXAMPLES: &str = "Examples:
  starling-testnet up --nodes 5 --profile loopback
  starling-testnet up --nodes 32 --tx-rate 10

The nodes' RPC addresses are printed when the network is ready. Ctrl-C stops \
all nodes and removes their data directories unless --keep is given; genesis \
and logs stay in the folder.
Exit codes: 0 stopped by a signal; 1 it failed; 2 usage.
No node is left running in any case.";

/// `reality`.
#[derive(Debug, Args)]
pub(crate) struct RealityArguments {
    /// Paths of manifests, or names of presets [default: all that begin with `reality`]
    manifests: Vec<String>,
    /// Set a value of all manifests by its dotted path; can be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// By how much the simulator's p50 and p99 may be off
    #[arg(long, value_name = "PERCENT", allow_negative_numbers = true, default_value = "15%", value_parser = percent)]
    within: f64,
    /// Folder for the results, new or empty [default: a new one under testnet-runs]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Leave the nodes' data directories in the folder
    #[arg(long)]
    keep: bool,
}

/// `run`.
#[derive(Debug, Args)]
pub(crate) struct RunArguments {
    /// Do what the manifest in this file says, or the preset of this name: the same that `sim` takes
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with_all = ["nodes", "target_peers", "duration", "tx_rate", "tx_bytes", "slot", "profile", "attack"]
    )]
    manifest: Option<String>,
    /// Set a value of the manifest by its dotted path; can be repeated
    #[arg(long = "set", value_name = "KEY=VALUE", requires = "manifest")]
    set: Vec<String>,
    #[command(flatten)]
    network: Network,
}

#[derive(Debug, Args)]
pub(crate) struct Network {
    /// How many nodes
    #[arg(long, value_name = "N", allow_negative_numbers = true, default_value_t = 16, value_parser = clap::value_parser!(u16).range(2..=1000))]
    nodes: u16,
    /// Connections that each node seeks
    #[arg(long, value_name = "N", allow_negative_numbers = true, default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=500))]
    target_peers: u16,
    /// For how long transactions are submitted; `up` submits until it is stopped
    #[arg(long, value_name = "TIME", default_value = "20s", value_parser = duration)]
    duration: Duration,
    /// Transactions a second, in all; 0 for none [default: 50, and none for `up`]
    #[arg(long, value_name = "RATE", allow_negative_numbers = true, value_parser = rate)]
    tx_rate: Option<f64>,
    /// Payload bytes of each transaction
    #[arg(long, value_name = "BYTES", allow_negative_numbers = true, default_value_t = 256, value_parser = clap::value_parser!(u32).range(0..=4_000_000))]
    tx_bytes: u32,
    /// Length of a slot; there is at most one block in each
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = slot)]
    slot: Duration,
    /// The network to imitate: wan, flat, loopback, or the path of a profile
    #[arg(long, value_name = "PROFILE", default_value = "wan")]
    profile: String,
    /// Decides regions, keys, payloads and targets [default: 1, or what a manifest says]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = clap::value_parser!(u64).range(0..=SEED_MAX))]
    seed: Option<u64>,
    /// Folder for the results, new or empty [default: a new one under testnet-runs]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Leave the nodes' data directories and traces in the folder
    #[arg(long)]
    keep: bool,
    /// The executable to run as a node [default: this one]
    #[arg(long, value_name = "FILE")]
    node_bin: Option<PathBuf>,
    /// One more argument for every node's `starling run`; can be repeated
    #[arg(long, value_name = "ARG", allow_hyphen_values = true)]
    node_arg: Vec<String>,
    /// Attackers that come when the load begins, and settings of theirs; can be repeated. Only `run` takes it
    #[arg(long, value_name = "KIND:COUNT[,KEY=VALUE]", value_parser = order)]
    attack: Vec<Attackers>,
}

/// Runs a node in place of the tool, if that is what this process was started for.
pub(crate) fn node() -> Option<ExitCode> {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    arguments.get(1).filter(|argument| *argument == NODE_SUBCOMMAND)?;
    let node_arguments = std::iter::once(OsString::from("starling")).chain(arguments.into_iter().skip(2));
    Some(starling_node::cli::main_with_args(node_arguments))
}

/// Attacks in place of the tool, if that is what this process was started for.
pub(crate) fn attack() -> Option<ExitCode> {
    attackers::process::attack()
}

/// Carries out a command; says with which exit code to end.
pub(crate) fn execute(command: Command) -> u8 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("an async runtime can be made unless the system is out of file descriptors");
    match command {
        Command::Run(arguments) => match arguments.task() {
            Ok(Task::Network(options)) => runtime.block_on(run(&options)),
            Ok(Task::Script(options)) => runtime.block_on(Box::pin(play(&options))),
            Err(error) => failed(&error),
        },
        Command::Reality(arguments) => match arguments.options() {
            Ok(options) => runtime.block_on(Box::pin(compare(&options))),
            Err(error) => failed(&error),
        },
        Command::Up(network) => match network.options(0.0) {
            Ok(options) => runtime.block_on(up(&options)),
            Err(error) => failed(&error),
        },
        Command::Crash(crash) => match crash.options() {
            Ok(options) => {
                let findings = runtime.block_on(Box::pin(endure::crash(&options)));
                tried(findings, &options.network)
            }
            Err(error) => failed(&error),
        },
        Command::Soak(soak) => match soak.options() {
            Ok(options) => {
                let findings = runtime.block_on(Box::pin(endure::soak(&options)));
                tried(findings, &options.network)
            }
            Err(error) => failed(&error),
        },
    }
}

async fn run(options: &Options) -> u8 {
    let run = match super::run(options).await {
        Ok(run) => run,
        Err(error) => return failed(&error),
    };
    say!("{}", terminal::figures(&run));
    say!("report           {}", options.out.join("report.html").display());
    for line in terminal::complaints(&run).iter().chain(run.attackers.iter().flat_map(|group| &group.complaints)) {
        note!("{line}");
    }
    if run.deliveries.messages().is_empty() {
        note!("no message was published while the load ran; give a longer --duration or a --tx-rate above 0");
        return INCOMPLETE;
    }
    if run.is_complete() { COMPLETE } else { INCOMPLETE }
}

async fn play(options: &ScriptOptions) -> u8 {
    let Played { run, findings } = match scripted::play(options).await {
        Ok(played) => played,
        Err(error) => return failed(&error),
    };
    say!("{}", terminal::figures(&run));
    say!("report           {}", options.out.join("report.html").display());
    for finding in &findings {
        note!("error: {finding}");
    }
    if findings.is_empty() { COMPLETE } else { INCOMPLETE }
}

async fn compare(options: &RealityOptions) -> u8 {
    let reality = match reality::reality(options).await {
        Ok(reality) => reality,
        Err(error) => return failed(&error),
    };
    say!("results          {}", options.out.display());
    for finding in &reality.findings {
        note!("error: {finding}");
    }
    if reality.findings.is_empty() { COMPLETE } else { INCOMPLETE }
}

async fn up(options: &Options) -> u8 {
    if !options.attackers.is_empty() {
        return failed(&ClusterError::Options("attackers come with `run` only; leave --attack out".to_owned()));
    }
    super::up(options).await.map_or_else(|error| failed(&error), |()| COMPLETE)
}

/// Says what a trial found, and returns the exit code for it.
fn tried(findings: Result<Vec<String>, ClusterError>, options: &Options) -> u8 {
    match findings {
        Ok(findings) if findings.is_empty() => COMPLETE,
        Ok(findings) => {
            for finding in &findings {
                note!("error: {finding}");
            }
            let out = options.out.display();
            note!("seed {}; data directories and logs are in {out}", options.seed);
            INCOMPLETE
        }
        Err(error) => failed(&error),
    }
}

/// Says what went wrong and returns the exit code for it.
fn failed(error: &ClusterError) -> u8 {
    note!("error: {error}");
    match error {
        ClusterError::Interrupted("SIGINT") | ClusterError::CutShort("SIGINT") => INTERRUPTED,
        ClusterError::Interrupted("SIGHUP") | ClusterError::CutShort("SIGHUP") => HUNG_UP,
        ClusterError::Interrupted(_) | ClusterError::CutShort(_) => TERMINATED,
        error if error.is_usage() => USAGE,
        _ => INCOMPLETE,
    }
}

/// What `run` is to do.
enum Task {
    /// A network with a steady load.
    Network(Box<Options>),
    /// What a manifest says.
    Script(Box<ScriptOptions>),
}

impl RealityArguments {
    fn options(self) -> Result<RealityOptions, ClusterError> {
        let usual = || REALITY_PRESETS.map(str::to_owned).to_vec();
        let names = if self.manifests.is_empty() { usual() } else { self.manifests };
        let manifest = |name: &String| {
            let (manifest, base) = Manifest::named_for_processes(name, !self.set.is_empty())?;
            let manifest = if self.set.is_empty() { manifest } else { manifest.with(&self.set)? };
            manifest.for_processes()?;
            Ok((manifest, base))
        };
        let manifests = names.iter().map(manifest).collect::<Result<Vec<_>, ClusterError>>()?;
        let mut folders = std::collections::BTreeSet::new();
        if let Some((twice, _)) = manifests.iter().find(|(manifest, _)| !folders.insert(&manifest.name)) {
            let name = &twice.name;
            let message = format!(
                "two of the manifests have the name {name:?}, which is that of a folder; give one of them another"
            );
            return Err(ClusterError::Options(message));
        }
        Ok(RealityOptions {
            manifests,
            within_percent: self.within,
            out: out_folder(self.out, "reality")?,
            keep: self.keep,
            command: host::command_line(),
        })
    }
}

/// A share such as `15%` or `15`.
fn percent(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').unwrap_or(text).trim().parse::<f64>().ok();
    number.filter(|share| (0.0..=1e6).contains(share)).ok_or_else(|| "write a share such as 15%".to_owned())
}

/// What is set of a manifest. The last one counts, which is the seed, as in a simulation.
fn assignments(set: Vec<String>, seed: Option<u64>) -> Vec<String> {
    set.into_iter().chain(seed.map(|seed| format!("seed={seed}"))).collect()
}

impl RunArguments {
    fn task(self) -> Result<Task, ClusterError> {
        let Self { manifest: Some(name), set, network, .. } = self else {
            return Ok(Task::Network(Box::new(self.network.options(TX_RATE)?)));
        };
        let set = assignments(set, network.seed);
        let (manifest, base) = Manifest::named_for_processes(&name, !set.is_empty())?;
        let manifest = if set.is_empty() { manifest } else { manifest.with(&set)? };
        manifest.for_processes()?;
        let node_bin = node_program(network.node_bin)?;
        let purpose = format!("run-{}-seed-{}", manifest.name, manifest.seed);
        Ok(Task::Script(Box::new(ScriptOptions {
            out: out_folder(network.out, &purpose)?,
            manifest,
            base,
            keep: network.keep,
            node_bin,
            node_args: network.node_arg,
            command: host::command_line(),
        })))
    }
}

impl Network {
    /// The options that were asked for, with a transaction rate if none was.
    fn options(self, tx_rate: f64) -> Result<Options, ClusterError> {
        let usage = |error: String| ClusterError::Options(error);
        let profile = Profile::named(&self.profile).map_err(|error| usage(error.to_string()))?;
        let profile_toml = match &*self.profile {
            "wan" => WAN_TOML.to_owned(),
            "loopback" => LOOPBACK_TOML.to_owned(),
            "flat" => FLAT_TOML.to_owned(),
            path => {
                text(Path::new(path), TEXT_BYTES_MAX).map_err(|error| usage(format!("cannot read {path}: {error}")))?
            }
        };
        let checked = check_as_processes(&self.attack, usize::from(self.nodes), self.duration.as_secs_f64());
        checked.map_err(|(number, error)| usage(format!("--attack {}: {error}", self.attack[number].kind)))?;
        let node_bin = node_program(self.node_bin)?;
        let seed = self.seed.unwrap_or(1);
        let out = out_folder(self.out, &format!("seed-{seed}"))?;
        Ok(Options {
            nodes: usize::from(self.nodes),
            target_peers: usize::from(self.target_peers),
            duration: self.duration,
            tx_rate: self.tx_rate.unwrap_or(tx_rate),
            tx_bytes: self.tx_bytes as usize,
            slot: self.slot,
            profile,
            profile_toml,
            seed,
            out,
            keep: self.keep,
            trace: true,
            node_bin,
            node_args: self.node_arg,
            attackers: self.attack,
            command: host::command_line(),
        })
    }
}

/// The executable to run as a node, if one is named.
pub(super) fn node_program(named: Option<PathBuf>) -> Result<Option<PathBuf>, ClusterError> {
    if let Some(program) = named.as_ref().filter(|program| !program.is_file()) {
        return Err(ClusterError::Options(format!(
            "--node-bin {} is no file; give the path of a starling executable",
            program.display()
        )));
    }
    // A bare name would be looked for in PATH, not here.
    Ok(named.map(|program| std::path::absolute(&program).unwrap_or(program)))
}

/// The folder for the results: the one that is named, or a new one for this time and purpose.
pub(super) fn out_folder(named: Option<PathBuf>, purpose: &str) -> Result<PathBuf, ClusterError> {
    let out = named.unwrap_or_else(|| {
        let time = host::date_time().replace([':', '-'], "");
        PathBuf::from("testnet-runs").join(format!("{time}-{purpose}"))
    });
    // The nodes are given paths inside it and must not depend on this process's working directory.
    std::path::absolute(&out).map_err(|error| ClusterError::Options(format!("cannot use {}: {error}", out.display())))
}

/// A time such as `20s`, `500ms` or `2m`, from 1 ms to 24 h.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    const EXPECTED: &str = "write a number and a unit, such as 20s, 500ms, 2m or 1h";
    let unit_at = text.find(|character: char| !character.is_ascii_digit() && character != '.').ok_or(EXPECTED)?;
    let (number, unit) = text.split_at(unit_at);
    let number: f64 = number.parse().map_err(|_not_a_number| EXPECTED)?;
    let unit_s = match unit {
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3_600.0,
        _ => return Err(EXPECTED.to_owned()),
    };
    let seconds = number * unit_s;
    if (0.001..=86_400.0).contains(&seconds) {
        Ok(Duration::from_secs_f64(seconds))
    } else {
        Err("the time must be from 1ms to 24h".to_owned())
    }
}

/// The length of a slot, within what a genesis takes.
fn slot(text: &str) -> Result<Duration, String> {
    let length = duration(text)?;
    let range = SLOT_MS_RANGE;
    let fits = u64::try_from(length.as_millis()).is_ok_and(|length_ms| range.contains(&length_ms));
    fits.then_some(length).ok_or_else(|| format!("a slot must last from {}ms to {}ms", range.start(), range.end()))
}

/// A rate from 0 to 100 000.
pub(super) fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse::<f64>().ok().filter(|rate| (0.0..=100_000.0).contains(rate));
    rate.ok_or_else(|| "the rate must be a number from 0 to 100000".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(subcommand)]
        command: Command,
    }

    #[test]
    fn a_seed_counts_more_than_one_that_is_set() {
        let manifest = Manifest::parse("format = 1\nnodes = 2\n", "two").expect("a manifest");
        let with = |seed| manifest.with(&assignments(vec!["seed=5".into()], seed)).expect("it can be set").seed;
        assert_eq!((with(None), with(Some(3))), (5, 3));
    }

    #[test]
    fn a_negative_rate_is_a_wrong_rate_and_not_an_unknown_flag() {
        let error = Cli::try_parse_from(["starling-testnet", "run", "--tx-rate", "-5"]).unwrap_err().to_string();
        assert!(error.contains("the rate must be a number from 0"), "{error}");
    }

    #[test]
    fn times_have_units() {
        assert_eq!(duration("20s"), Ok(Duration::from_secs(20)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("1.5m"), Ok(Duration::from_secs(90)));
        for wrong in ["20", "", "s", "20 s", "20x", "-1s", "0s", "25h", "1.2.3s", "1e3s"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn slots_are_as_long_as_a_genesis_takes() {
        assert_eq!(slot("100ms"), Ok(Duration::from_millis(100)));
        assert_eq!(slot("1h"), Ok(Duration::from_secs(3_600)));
        for wrong in ["99ms", "61m"] {
            assert!(slot(wrong).is_err_and(|error| error.contains("from 100ms to 3600000ms")), "{wrong}");
        }
    }

    #[test]
    fn rates_are_finite_and_not_negative() {
        assert_eq!(rate("0"), Ok(0.0));
        assert_eq!(rate("12.5"), Ok(12.5));
        for wrong in ["-1", "nan", "inf", "x", "1e9"] {
            assert!(rate(wrong).is_err(), "{wrong}");
        }
    }
}
