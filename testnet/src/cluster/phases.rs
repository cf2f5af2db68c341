//! The phases of a run, from an empty folder to a finished report.

use std::fs;
use std::time::Duration;

use starling_protocol::mesh::config::{DegreeConfig, HeartbeatConfig};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep};

use super::attackers::judge::judge_in_figures;
use super::attackers::{LEAD, Siege};
use super::fleet::Fleet;
use super::host::{self, HostTicks};
use super::load::{self, Load};
use super::plan::Plan;
use super::progress::{Phase, Progress};
use super::{ClusterError, DRAIN, Options, file_error};
use crate::measure::{Class, Readiness, Recorder, Window};
use crate::report::attackers::AttackerGroup;
use crate::report::{self, HostLoad, Manifest, NodeUsage, Run, manifest};

/// How long the mesh may take to form, and how much more for each node.
const MESH_DEADLINE: Duration = Duration::from_secs(30);
const MESH_DEADLINE_PER_NODE: Duration = Duration::from_millis(500);
/// How often traces are read.
const POLL: Duration = Duration::from_millis(200);
/// After the last missing delivery has arrived, how long further copies may follow.
const SETTLE: Duration = Duration::from_millis(700);

/// Runs a network, measures it and writes the report into the output folder.
///
/// # Errors
/// If the options cannot be met, a node does not start, the mesh does not form, a file cannot be written, or a signal
/// comes. No node is left running in any case.
pub async fn run(options: &Options) -> Result<Run, ClusterError> {
    let progress = Progress::new();
    let mut fleet = Fleet::new(options)?;
    let plan = Plan::new(options, host::unix_us() / 1_000)?;
    plan.write(options)?;
    let started = host::date_time();
    let measured = tokio::select! {
        measured = measure(&plan, options, &mut fleet, &progress) => measured,
        interrupted = interruption() => Err(interrupted),
    };
    progress.begin(Phase::Stop, 1);
    let killed = fleet.stop().await;
    progress.finish();
    let mut measured = measured?;
    // What the nodes flushed while they stopped.
    fleet.read_traces(&mut measured.recorder)?;
    let run = assemble(&plan, options, &fleet, started, measured, &killed);
    report::write(&run, &options.out).map_err(file_error("complete", &options.out))?;
    if !options.keep && run.is_complete() {
        let data = options.out.join("nodes");
        fs::remove_dir_all(&data).map_err(file_error("remove", data))?;
    }
    Ok(run)
}

/// What the phases leave for the report.
struct Measured {
    recorder: Recorder,
    window: Window,
    ready_s: f64,
    host: HostLoad,
    cpu_us: Vec<u64>,
    rss_kib_max: Vec<u64>,
    load: load::Outcome,
    lost: Vec<(usize, String)>,
    attackers: Vec<AttackerGroup>,
}

async fn measure(
    plan: &Plan,
    options: &Options,
    fleet: &mut Fleet,
    progress: &Progress,
) -> Result<Measured, ClusterError> {
    let spawn_us = host::now_us();
    let (mut recorder, ready_us) = bring_up(plan, options, fleet, progress).await?;
    // Before slot 0 there are no blocks, and transactions could not say when they expire.
    let genesis_us = plan.genesis.slot_start(0);
    while host::unix_us() < genesis_us {
        sleep(POLL).await;
    }
    let siege = besiege(plan, options, fleet).await?;
    let (cpu_before_us, ticks_before) = (cpu_us(fleet), HostTicks::now());
    let (window, host_load, mut load) = spread(plan, options, fleet, progress, &mut recorder, ticks_before).await?;
    drain(fleet, progress, &mut recorder, &window, &mut load).await?;
    let attackers = match siege {
        Some(siege) => siege.end().await?,
        None => Vec::new(),
    };
    let cpu_us = cpu_us(fleet).iter().zip(cpu_before_us).map(|(after, before)| after.saturating_sub(before)).collect();
    let rss_kib_max = fleet.nodes().iter().map(|node| host::rss_kib_max(node.pid)).collect();
    let ready_s = report::format::float(ready_us.saturating_sub(spawn_us)) / 1e6;
    Ok(Measured {
        recorder,
        window,
        ready_s,
        host: host_load,
        cpu_us,
        rss_kib_max,
        load: load.finish(),
        lost: fleet.lost(),
        attackers,
    })
}

/// Starts the attackers, if there are to be any, and waits until their time begins.
async fn besiege(plan: &Plan, options: &Options, fleet: &Fleet) -> Result<Option<Siege>, ClusterError> {
    if options.attackers.is_empty() {
        return Ok(None);
    }
    let zero_us = host::now_us() + u64::try_from(LEAD.as_micros()).expect("a second");
    let siege = Siege::begin(plan, options, fleet, zero_us)?;
    while host::now_us() < zero_us {
        sleep(POLL).await;
    }
    Ok(Some(siege))
}

/// Starts all nodes and waits for the mesh. Returns a recorder that has read the traces so far, and when the last node was
/// ready.
pub(super) async fn bring_up(
    plan: &Plan,
    options: &Options,
    fleet: &mut Fleet,
    progress: &Progress,
) -> Result<(Recorder, u64), ClusterError> {
    let nodes = options.nodes;
    progress.begin(Phase::Start, nodes as u64);
    fleet.start(plan, options, |up| progress.update(up as u64, format!("{up} of {nodes} are up"))).await?;
    progress.begin(Phase::Mesh, nodes as u64);
    let degree_min = u32::try_from(DegreeConfig::default().low.min(nodes - 1)).expect("a small number");
    let heartbeat_us = u64::try_from(HeartbeatConfig::default().interval.as_micros()).expect("about a second");
    let mut recorder = Recorder::new(fleet.peer_ids(), Readiness::new(nodes, degree_min, heartbeat_us));
    let allowed = MESH_DEADLINE + MESH_DEADLINE_PER_NODE * u32::try_from(nodes).unwrap_or(u32::MAX);
    let deadline = Instant::now() + allowed;
    loop {
        fleet.read_traces(&mut recorder)?;
        // A node's trace lags behind its clock by as much as it buffers: judge by what is sure to be written.
        let known_us = host::now_us().saturating_sub(TRACE_LAG_US);
        if let Some(ready_us) = recorder.readiness().ready_us(known_us) {
            return Ok((recorder, ready_us));
        }
        let waiting: Vec<_> = recorder.readiness().waiting().collect();
        let ready = nodes - waiting.len();
        progress.update(ready as u64, format!("{ready} of {nodes} have their links"));
        if let Some((_, reason)) = fleet.lost().into_iter().next() {
            return Err(ClusterError::Lost(reason));
        }
        if Instant::now() > deadline {
            let named = waiting.iter().take(8).map(|(node, [transactions, blocks])| {
                format!("{} has {transactions} transaction and {blocks} block links", fleet.nodes()[*node].name)
            });
            return Err(ClusterError::Deadline {
                waited_s: allowed.as_secs(),
                missing: format!(
                    "{} nodes do not hold the {degree_min} mesh links that they need ({})",
                    waiting.len(),
                    named.collect::<Vec<_>>().join("; ")
                ),
                logs: options.out.join("logs"),
            });
        }
        sleep(POLL).await;
    }
}

/// How much later than the event a line of a trace may be in the file: the nodes' flush interval and some.
const TRACE_LAG_US: u64 = 200_000;

/// Applies the load. Returns the window that counts, how busy the host was, and the load with what is still unanswered.
async fn spread(
    plan: &Plan,
    options: &Options,
    fleet: &mut Fleet,
    progress: &Progress,
    recorder: &mut Recorder,
    ticks_before: HostTicks,
) -> Result<(Window, HostLoad, Load), ClusterError> {
    let (load_start_us, start) = (host::now_us(), Instant::now());
    let duration_us = u64::try_from(options.duration.as_micros()).unwrap_or(u64::MAX);
    let drain_us = u64::try_from(DRAIN.as_micros()).expect("ten seconds");
    let load_end_us = load_start_us.saturating_add(duration_us);
    let window = Window { load_start_us, load_end_us, drain_end_us: load_end_us.saturating_add(drain_us) };
    let targets = fleet.rpc_clients();
    let end = start + options.duration;
    let mut load = Load::new(&plan.genesis, targets, options.tx_rate, options.tx_bytes, options.seed, (start, end));
    progress.begin(Phase::Load, duration_us / 1_000);
    while Instant::now() < end {
        load.run_until((Instant::now() + POLL).min(end)).await;
        fleet.read_traces(recorder)?;
        let [transactions, blocks] = Class::ALL.map(|class| recorder.progress(class, &window).0);
        let elapsed_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
        progress.update(elapsed_ms, format!("{transactions} transactions, {blocks} blocks"));
    }
    // On a busy host the last round may have come late: what was due before the end is submitted all the same.
    load.run_until(end).await;
    let cpu_busy_fraction = HostTicks::now().busy_fraction_since(ticks_before);
    Ok((window, HostLoad { cores: host::cores(), cpu_busy_fraction }, load))
}

/// Waits until nothing is missing any more, at most until the window's end.
async fn drain(
    fleet: &mut Fleet,
    progress: &Progress,
    recorder: &mut Recorder,
    window: &Window,
    load: &mut Load,
) -> Result<(), ClusterError> {
    let drain_us = window.drain_end_us - window.load_end_us;
    progress.begin(Phase::Drain, drain_us / 1_000);
    let mut complete_since = None;
    loop {
        fleet.read_traces(recorder)?;
        let now_us = host::now_us();
        let missing: usize = Class::ALL.map(|class| recorder.progress(class, window).1).iter().sum();
        progress.update(now_us.saturating_sub(window.load_end_us) / 1_000, format!("{missing} deliveries missing"));
        if missing > 0 || !load.is_answered() {
            complete_since = None;
        }
        let settled = *complete_since.get_or_insert(now_us);
        let settle_us = u64::try_from(SETTLE.as_micros()).expect("below a second");
        let complete = missing == 0 && load.is_answered() && now_us >= settled + settle_us;
        // A little beyond the end, so that what arrived just in time has been written, too.
        if complete || now_us >= window.drain_end_us + TRACE_LAG_US {
            return Ok(());
        }
        sleep(POLL).await;
    }
}

fn cpu_us(fleet: &Fleet) -> Vec<u64> {
    fleet.nodes().iter().map(|node| host::cpu_us(node.pid)).collect()
}

/// Puts the run together from all its parts.
fn assemble(
    plan: &Plan,
    options: &Options,
    fleet: &Fleet,
    started: String,
    measured: Measured,
    killed: &[String],
) -> Run {
    let Measured { recorder, window, ready_s, host, cpu_us, rss_kib_max, load, lost, mut attackers } = measured;
    let is_lost = |node: usize| lost.iter().any(|(number, _)| *number == node);
    let nodes: Vec<NodeUsage> = (0..options.nodes)
        .map(|node| NodeUsage {
            activity: recorder.activity(node, &window),
            cpu_us: cpu_us[node],
            rss_kib_max: rss_kib_max[node],
            lost: is_lost(node) || killed.contains(&plan.nodes[node].name),
        })
        .collect();
    let deliveries = recorder.deliveries(&window);
    let passed_on = judge_in_figures(&mut attackers, &deliveries, &recorder);
    let mut notes: Vec<String> = lost.into_iter().map(|(_, reason)| reason).collect();
    notes.extend(killed.iter().map(|name| format!("Node {name} did not stop when asked to and was killed.")));
    notes.extend(fleet.cut_off_traces().map(|name| format!("The trace of node {name} ends in the middle of a line.")));
    for (node, planned) in nodes.iter().zip(&plan.nodes) {
        if node.activity.lines_dropped > 0 {
            notes.push(format!(
                "Node {} left {} lines out of its trace: some deliveries named missing may have happened.",
                planned.name, node.activity.lines_dropped
            ));
        }
    }
    let published = deliveries.of_class(Class::Transaction).count();
    if published < load.submitted {
        notes.push(format!(
            "{} transactions were taken in, but only {published} were published in time.",
            load.submitted
        ));
    }
    Run {
        manifest: manifest_of(plan, options, fleet, started),
        deliveries,
        bounds: plan.topology.bounds(),
        window,
        host,
        nodes,
        ready_s: Some(ready_s),
        refused: load.refused,
        notes,
        attackers,
        passed_on,
        verdict: None,
        partition: None,
        simulation: None,
    }
}

pub(super) fn manifest_of(plan: &Plan, options: &Options, fleet: &Fleet, started: String) -> Manifest {
    let mut peer_ids = fleet.peer_ids();
    let node = |(number, planned): (usize, &super::plan::PlannedNode)| manifest::Node {
        name: planned.name.clone(),
        region: plan.topology.region_name(number).to_owned(),
        ip: planned.ip,
        peer_id: peer_ids.next().unwrap_or_default(),
        producer: planned.producer_key.is_some(),
        last_mile_us: plan.topology.site(number).last_mile_us,
        uplink_bits_per_s: plan.topology.site(number).uplink_bits_per_s,
    };
    Manifest {
        format: 1,
        kind: "processes".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        command: options.command.clone(),
        started,
        seed: options.seed,
        network: manifest::Network {
            nodes: options.nodes,
            target_peers: options.target_peers,
            slot_s: options.slot.as_secs_f64(),
            profile: options.profile.name().to_owned(),
            network_id: plan.genesis.network_id().to_string(),
        },
        load: manifest::Load {
            duration_s: options.duration.as_secs_f64(),
            tx_rate: options.tx_rate,
            tx_bytes: options.tx_bytes,
        },
        host: host::facts(),
        node: plan.nodes.iter().enumerate().map(node).collect(),
    }
}

/// Waits for a signal that asks this process to end. A second one ends it at once: the nodes then see their standard input
/// close and end by themselves.
pub(super) async fn interruption() -> ClusterError {
    let mut interrupt = signal(SignalKind::interrupt()).expect("signal handlers can be installed");
    let mut terminate = signal(SignalKind::terminate()).expect("signal handlers can be installed");
    let mut hangup = signal(SignalKind::hangup()).expect("signal handlers can be installed");
    let name = tokio::select! {
        _ = interrupt.recv() => "SIGINT",
        _ = terminate.recv() => "SIGTERM",
        _ = hangup.recv() => "SIGHUP",
    };
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        std::process::exit(INTERRUPTED_TWICE);
    });
    ClusterError::Interrupted(name)
}

/// What a shell reports of a process that SIGINT ended.
const INTERRUPTED_TWICE: i32 = 130;
