//! Real processes, driven by a manifest: the same file that the simulator runs.
//!
//! # What is the same as in the simulator
//! The network is the simulator's own [`Scenario`]: places, latencies and uplinks, who dials whom, who publishes what and when, which fault
//! strikes which node at what time, and what the genesis allows are all worked out once, by `crate::manifest` and `crate::sim`, from
//! the seed. Nodes sign what they publish with their own accounts, as simulated ones do.
//!
//! # How faults are done
//! | fault | by |
//! |---|---|
//! | kill, churn | SIGKILL, and a new process with the same directory, address and ports |
//! | restart | SIGTERM, and the same; the new process waits for the end of the old one |
//! | pause | SIGSTOP and SIGCONT |
//! | partition, heal, degrade, loss | each node's file of emulated links, which nodes follow |
//!
//! # Attackers
//! Those of the manifest run as processes and are judged as with `run --attack` (module `attackers`). Emulated links do not slow them.
//!
//! # Time
//! Time 0 is when all processes are up and slot 0 begins. Until then, and until `time.connect_from_s`, every path is cut, so that nobody is
//! ahead of the others; what dialled before is connected then. `time.connect_within_s` has no meaning here: all dial as soon as they can. Without
//! emulated links (the profile `loopback`, and nothing wrong with any path) they are connected as they start.
//!
//! # Verdict
//! As in the simulator: every transaction has to have come to every node that runs, over the mesh, in a block, or to wait in its mempool at
//! the end; and all nodes have to have one head, but for a block that is on its way. What did not run, or ended within 5 s of a publication, is
//! not expected to have got it. Besides, no process may end that nobody ended, no node may refuse what it is given, and every attacker has to be
//! dropped.
//!
//! # Limits
//! Faults strike when this process gets to them: some milliseconds late, a change of paths up to 50 ms more. A node that starts again
//! takes the time that a process takes to start; so do attackers who are to come in the first second.

mod stage;
mod verdict;

use std::path::PathBuf;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::attackers::Siege;
use super::attackers::judge::judge_in_figures;
use super::host::{self, HostTicks};
use super::phases::{interruption, manifest_of};
use super::progress::{Phase, Progress};
use super::{ClusterError, Options, file_error};
use crate::attack::{Attackers, Targets};
use crate::manifest::Manifest;
use crate::measure::{Class, Recorder, Window};
use crate::report::attackers::AttackerGroup;
use crate::report::{self, HostLoad, NodeUsage, Partition, Run, Verdict};
use crate::sim::Scenario;
use crate::sim::run::lasting_partition;
use crate::sim::workload::{Submission, submissions, submissions_count};
use stage::Stage;

/// How often processes and traces are looked at.
const POLL: Duration = Duration::from_millis(100);
/// How often it is asked whether all have one head again after a partition.
const HEADS_INTERVAL: Duration = Duration::from_millis(500);

/// What to run.
#[derive(Debug, Clone)]
pub struct ScriptOptions {
    /// The manifest.
    pub manifest: Manifest,
    /// The folder from which its paths count.
    pub base: PathBuf,
    /// The run's folder; made if absent, refused if not empty.
    pub out: PathBuf,
    /// Whether to leave the nodes' data directories.
    pub keep: bool,
    /// The node's executable; if absent, this one is executed again.
    pub node_bin: Option<PathBuf>,
    /// Further arguments for every node.
    pub node_args: Vec<String>,
    /// The command line, for the report.
    pub command: Vec<String>,
}

/// What a run has shown.
#[derive(Debug)]
pub struct Played {
    /// The report.
    pub run: Run,
    /// What is wrong at the end; nothing if all is well.
    pub findings: Vec<String>,
}

/// Runs a manifest on real processes and writes the report into the output folder.
///
/// # Errors
/// If the manifest asks for what processes cannot do, a node does not start, a file cannot be written, or a signal comes. No node is left
/// running in any case.
pub async fn play(options: &ScriptOptions) -> Result<Played, ClusterError> {
    let progress = Progress::new();
    let scenario = options.manifest.scenario(&options.base)?;
    options.manifest.for_processes()?;
    host::has_room(scenario.nodes, submissions_count(&scenario))?;
    let network = network_options(options, &scenario)?;
    let started = host::date_time();
    let mut stage = Stage::prepare(scenario, network)?;
    if let Some(words) = lasting_partition(&options.manifest) {
        note!("{words}");
    }
    let played = tokio::select! {
        played = perform(&mut stage, &progress) => played,
        interrupted = interruption() => Err(interrupted),
    };
    progress.begin(Phase::Stop, 1);
    let killed = stage.fleet.stop().await;
    progress.finish();
    let measured = played?;
    stage.read_traces()?;
    let played = assemble(&mut stage, started, measured, &killed);
    let out = &options.out;
    crate::cli::folder::keep_scenario(out, &options.manifest, &options.base).map_err(|error| {
        ClusterError::Lost(format!("the manifest could not be written into the run's folder: {error}"))
    })?;
    report::write(&played.run, out).map_err(file_error("complete", out))?;
    if !options.keep && played.findings.is_empty() {
        let data = out.join("nodes");
        std::fs::remove_dir_all(&data).map_err(file_error("remove", data))?;
    }
    Ok(played)
}

/// The network of a scenario, as the launcher of processes takes it.
fn network_options(options: &ScriptOptions, scenario: &Scenario) -> Result<Options, ClusterError> {
    let ScriptOptions { manifest, base, out, keep, node_bin, node_args, command } = options.clone();
    let load = submissions(scenario);
    let payload_bytes: usize = load.iter().map(|submission| submission.payload_bytes as usize).sum();
    let duration_s = scenario.duration.as_secs_f64();
    let count = report::format::float(load.len() as u64);
    Ok(Options {
        nodes: scenario.nodes,
        target_peers: scenario.wiring.target_peers(),
        duration: scenario.duration,
        tx_rate: if duration_s > 0.0 { count / duration_s } else { 0.0 },
        tx_bytes: payload_bytes / load.len().max(1),
        slot: scenario.slot,
        profile: scenario.profile.clone(),
        profile_toml: manifest.profile_toml(&base)?,
        seed: scenario.seed,
        out,
        keep,
        trace: true,
        node_bin,
        node_args,
        attackers: aimed(&manifest.attack, scenario),
        command,
    })
}

/// Attackers of a manifest, with those who aim at publishers told who these are.
fn aimed(attackers: &[Attackers], scenario: &Scenario) -> Vec<Attackers> {
    let aim = |some: &Attackers| match &some.targets {
        Targets::Named(name) if name == "publishers" => some.clone().aimed(Targets::Nodes(scenario.publishers())),
        _ => some.clone(),
    };
    attackers.iter().map(aim).collect()
}

/// What the performance leaves for the report.
struct Measured {
    window: Window,
    zero_us: u64,
    host: HostLoad,
    cpu_us: Vec<u64>,
    rss_kib_max: Vec<u64>,
    one_chain: bool,
    findings: Vec<String>,
    partition: Option<Partition>,
    notes: Vec<String>,
    attackers: Vec<AttackerGroup>,
}

/// Starts everybody, plays the timeline to its end, and judges.
async fn perform(stage: &mut Stage, progress: &Progress) -> Result<Measured, ClusterError> {
    progress.begin(Phase::Start, stage.options.nodes as u64);
    let nodes = stage.options.nodes;
    stage.start(|up| progress.update(up as u64, format!("{up} of {nodes} are up"))).await?;
    let (zero, zero_us) = (Instant::now(), host::now_us());
    stage.begin(zero_us);
    let attacked = !stage.options.attackers.is_empty();
    let siege = attacked.then(|| Siege::begin(&stage.plan, &stage.options, &stage.fleet, zero_us)).transpose()?;
    let scenario = stage.scenario.clone();
    let at_us = |after: Duration| zero_us + u64::try_from(after.as_micros()).unwrap_or(u64::MAX);
    let load_end = scenario.warm_up + scenario.duration;
    let window = Window {
        load_start_us: at_us(scenario.warm_up),
        load_end_us: at_us(load_end),
        drain_end_us: at_us(load_end + scenario.drain),
    };
    play_until(stage, progress, zero, scenario.warm_up).await?;
    let (cpu_before_us, ticks) = (stage.cpu_us(), HostTicks::now());
    play_until(stage, progress, zero, load_end + scenario.drain).await?;
    let busy = HostTicks::now().busy_fraction_since(ticks);
    let cpu_us = stage.cpu_us().iter().zip(cpu_before_us).map(|(after, before)| after.saturating_sub(before)).collect();
    let attackers = match siege {
        Some(siege) => siege.end().await?,
        None => Vec::new(),
    };
    let (one_chain, findings) = verdict::findings(stage, &window).await;
    Ok(Measured {
        window,
        zero_us,
        host: HostLoad { cores: host::cores(), cpu_busy_fraction: busy },
        cpu_us,
        rss_kib_max: stage.fleet.nodes().iter().map(|node| host::rss_kib_max(node.pid)).collect(),
        one_chain,
        findings,
        partition: stage.partition,
        notes: stage.notes(),
        attackers,
    })
}

/// Plays the timeline up to this time after `zero`.
async fn play_until(stage: &mut Stage, progress: &Progress, zero: Instant, end: Duration) -> Result<(), ClusterError> {
    let whole = stage.scenario.warm_up + stage.scenario.duration + stage.scenario.drain;
    let millis = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    progress.begin(Phase::Load, millis(whole));
    let mut looked = Instant::now();
    loop {
        let now = zero.elapsed();
        stage.act_until(now.min(end)).await?;
        if looked.elapsed() >= POLL {
            looked = Instant::now();
            stage.look().await?;
            progress.update(millis(now), format!("{:.0} of {:.0} s", now.as_secs_f64(), whole.as_secs_f64()));
        }
        if now >= end {
            return Ok(());
        }
        let next = stage.next_due().map_or(end, |due| due.min(end));
        sleep_until((zero + next).min(looked + POLL)).await;
    }
}

/// Puts the report together.
fn assemble(stage: &mut Stage, started: String, measured: Measured, killed: &[String]) -> Played {
    let Measured {
        window,
        zero_us,
        host,
        cpu_us,
        rss_kib_max,
        one_chain,
        mut findings,
        partition,
        mut notes,
        mut attackers,
    } = measured;
    let (recorder, absences) = (&mut stage.recorder, stage.absences.clone());
    let ready_us = recorder.readiness().ready_us(window.drain_end_us);
    let nodes = (0..stage.options.nodes)
        .map(|node| NodeUsage {
            activity: recorder.activity(node, &window),
            cpu_us: cpu_us[node],
            rss_kib_max: rss_kib_max[node],
            lost: !stage.phases[node].is_there(),
        })
        .collect();
    let refused = std::mem::take(&mut stage.refused);
    if !refused.is_empty() {
        findings.push(format!("{} submissions were refused, the first because: {}", refused.len(), refused[0]));
    }
    notes.extend(killed.iter().map(|name| format!("Node {name} did not stop when asked to and was killed.")));
    let deliveries = deliveries(recorder, &window, absences);
    let passed_on = judge_in_figures(&mut attackers, &deliveries, recorder);
    if passed_on > 0 {
        findings.push(format!("{passed_on} messages of attackers were passed on by nodes"));
    }
    findings.extend(attackers.iter().flat_map(|group| group.complaints.clone()));
    let run = Run {
        manifest: manifest_of(&stage.plan, &stage.options, &stage.fleet, started),
        deliveries,
        bounds: stage.plan.topology.bounds(),
        window,
        host,
        nodes,
        ready_s: ready_us.map(|ready_us| report::format::float(ready_us.saturating_sub(zero_us)) / 1e6),
        refused,
        notes,
        simulation: None,
        attackers,
        passed_on,
        verdict: Some(Verdict::new(one_chain, findings.clone())),
        partition,
    };
    Played { run, findings }
}

fn deliveries(recorder: &Recorder, window: &Window, absences: Vec<(usize, u64, u64)>) -> crate::measure::Deliveries {
    recorder.deliveries(window).with_absences(absences)
}

/// What is published and struck in what order. At one moment faults come first, as they do in the simulator when they were there first.
fn merged(scenario: &Scenario) -> Vec<(Duration, Cue)> {
    let since = |at: starling_protocol::time::Time| Duration::from_micros(at.as_micros());
    let strikes = scenario.faults.iter().map(|(at, action)| (since(*at), Cue::Strike(action.clone())));
    let publications =
        submissions(scenario).into_iter().map(|submission| (since(submission.at), Cue::Publish(submission)));
    let connected = std::iter::once((scenario.connect_from, Cue::Connect));
    let mut all: Vec<_> = connected.chain(strikes).chain(publications).collect();
    all.sort_by_key(|(at, _)| *at);
    all
}

/// Something on the timeline.
#[derive(Debug, Clone)]
enum Cue {
    /// Paths are opened for the first time.
    Connect,
    Strike(crate::sim::faults::Action),
    Publish(Submission),
}

/// The classes of which deliveries are judged.
const JUDGED: Class = Class::Transaction;
