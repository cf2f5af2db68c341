//! Running a manifest and reporting on it.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Instant;

use starling_protocol::id::MessageId;
use starling_protocol::mesh::MeshConfig;
use starling_protocol::time::{Duration, Time, micros};

use super::faults::{self, Action};
use super::heads::Heads;
use super::{Scenario, World};
use crate::attack::recruits;
use crate::host;
use crate::manifest::{Fault, Manifest, ManifestError};
use crate::measure::{self, Activity, Class, Counters, Deliveries, How, Window};
use crate::report::format::{counted, float, grouped};
use crate::report::{self, HostLoad, NodeUsage, Partition, Run, Simulation, Verdict};

/// Simulated time between two reports of progress.
const STEP: Duration = Duration::from_millis(250);

/// How far a run is.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Simulated time.
    pub now: Time,
    /// When it ends.
    pub end: Time,
    /// Engine events so far.
    pub events: u64,
}

/// What a run has shown.
#[derive(Debug)]
pub struct Simulated {
    /// The report.
    pub run: Run,
    /// What is wrong at the end; nothing if every transaction came, over the mesh or in a block, and all nodes agree.
    pub findings: Vec<String>,
}

/// Runs a manifest. Paths in it count from `folder`. A run that is `watched` checks the rules of [`super::safety`] all the time.
///
/// Whether there is memory for it is asked before ([`super::memory::fits`]), of all runs that are to be made together: this process keeps what
/// earlier runs have taken, so that what the system has left says little about a later one.
///
/// # Errors
/// When the manifest cannot be run.
pub fn simulate(
    manifest: &Manifest,
    folder: &Path,
    watched: bool,
    mut progress: impl FnMut(Progress),
) -> Result<Simulated, ManifestError> {
    let started = host::date_time();
    let (began, worked_s) = (Instant::now(), host::own_thread_s());
    let mut world = world(manifest, folder)?;
    if watched {
        world.watch();
    }
    let (load_start, end) = (Time::ZERO + world.scenario().warm_up, world.scenario().end());
    let load_end = load_start + world.scenario().duration;
    let mut seen = Seen::of(&world);
    advance(&mut world, |world, now| seen.look(world, now), &mut progress);
    // Processor time, because a busy host says nothing of the simulator; time on the wall where the system does not tell.
    let computed_s = match (worked_s, host::own_thread_s()) {
        (Some(before_s), Some(after_s)) => after_s - before_s,
        _ => began.elapsed().as_secs_f64(),
    };
    let events = world.counts().engine();
    let simulation = Simulation {
        trace_hash: world.trace().to_string(),
        events,
        events_per_s: float(events) / computed_s.max(1e-9),
        computed_s,
        resident_mib_max: float(host::own_rss_kib_max()) / 1_024.0,
    };
    let window = Window {
        load_start_us: load_start.as_micros(),
        load_end_us: load_end.as_micros(),
        drain_end_us: end.as_micros(),
    };
    let mut findings = world.look().to_vec();
    let disagreement = Heads::of(&world).findings();
    let one_chain = disagreement.is_empty();
    findings.extend(disagreement);
    if world.running().next().is_none() {
        findings.push("no node runs at the end, so there is nobody of whom anything could be said".into());
    }
    if let (refused, Some(reason)) = world.refused_submissions() {
        findings.push(format!(
            "{refused} of the transactions that were to be published were refused by their own nodes, the first one because {reason}; publish \
             fewer, or spread them over more publishers"
        ));
    }
    let mut notes = Vec::new();
    if world.unpublished() > 0 {
        notes.push(unpublished(world.unpublished()));
    }
    let partition = seen.partition();
    notes.extend(partition.map(|partition| partition.words()));
    let deliveries = deliveries(&world, &window);
    let publishes = !manifest.workload.is_empty() || manifest.blocks.producers > 0;
    if publishes && deliveries.messages().is_empty() {
        findings.push(
            "nothing was published, so nothing can be said of it; publish more, for longer, or from nodes that run"
                .into(),
        );
    }
    findings.extend(lost_transactions(&world, &deliveries));
    if deliveries.messages().len().saturating_mul(deliveries.nodes()) > report::DELIVERIES_ROWS_MAX {
        notes.push("There are too many deliveries for a table: deliveries.csv was left out.".into());
    }
    let run = Run {
        manifest: facts(manifest, &world, started),
        bounds: honest_bounds(&world),
        deliveries,
        window,
        host: HostLoad { cores: host::cores(), cpu_busy_fraction: 0.0 },
        nodes: usage(&world, &seen.before),
        ready_s: seen.ready.map(|ready| float(ready.as_micros()) / 1e6),
        refused: Vec::new(),
        notes,
        attackers: Vec::new(),
        passed_on: 0,
        verdict: Some(Verdict::new(one_chain, findings.clone())),
        partition,
        simulation: Some(simulation),
    };
    Ok(Simulated { run, findings })
}

/// What is noted while a world runs.
#[derive(Debug)]
struct Seen {
    load_start: Time,
    /// Traffic of all nodes when the load began.
    before: Vec<[u64; 2]>,
    /// When the mesh was ready.
    ready: Option<Time>,
    /// Whether there is a partition.
    parted: bool,
    /// When the last one is healed, if that is before the end.
    healed: Option<Time>,
    /// Since when, after that, all nodes agree about the chain.
    agreed: Option<Time>,
}

impl Seen {
    fn of(world: &World) -> Self {
        let scenario = world.scenario();
        let (parted, healed) = last_partition(&scenario.faults, scenario.end());
        let load_start = Time::ZERO + scenario.warm_up;
        Self { load_start, before: world.traffic(), ready: None, parted, healed, agreed: None }
    }

    fn look(&mut self, world: &mut World, now: Time) {
        world.look();
        if now == self.load_start {
            self.before = world.traffic();
        }
        if self.ready.is_none() && is_ready(world) {
            self.ready = Some(now);
        }
        if self.agreed.is_none() && self.healed.is_some_and(|healed| healed <= now) {
            self.agreed = (Heads::of(world).chains() == 1).then_some(now);
        }
    }

    /// How the last partition ended, if there was one.
    fn partition(&self) -> Option<Partition> {
        let after_s = |healed| Some(float(micros(self.agreed?.since(healed))) / 1e6);
        self.parted.then(|| Partition {
            healed_at_s: self.healed.map(|healed| float(healed.as_micros()) / 1e6),
            one_head_after_s: self.healed.and_then(after_s),
        })
    }
}

/// Whether a timeline has a partition, and when the last one is healed, if that is before the end.
fn last_partition(faults: &[(Time, Action)], end: Time) -> (bool, Option<Time>) {
    let last = faults.iter().rfind(|(_, action)| matches!(action, Action::Partition(_) | Action::Heal));
    let healed = last.filter(|(at, action)| *action == Action::Heal && *at < end);
    (last.is_some(), healed.map(|(at, _)| *at))
}

/// What to say before the run of a manifest whose last partition lasts beyond the end: that may be wanted, and more often a heal was
/// forgotten. An earlier one cannot last, because there is one partition at a time.
#[must_use]
pub fn lasting_partition(manifest: &Manifest) -> Option<String> {
    let faults = || manifest.fault.iter().enumerate();
    let partitions = faults().filter_map(|(number, fault)| match fault {
        Fault::Partition { at_s, for_s, .. } => Some((*at_s, number, *for_s)),
        _ => None,
    });
    let (at_s, number, for_s) = partitions.max_by(|a, b| a.0.total_cmp(&b.0))?;
    if faults().any(|(_, fault)| matches!(fault, Fault::Heal { at_s: heal_s } if *heal_s > at_s)) {
        return None;
    }
    let end_s = manifest.time.warm_up_s + manifest.time.load_s + manifest.time.drain_s;
    let why = match for_s.map(|for_s| at_s + for_s) {
        None => "has neither for_s nor a heal after it".to_owned(),
        Some(until_s) if until_s >= end_s => format!("lasts until {until_s} s, and the run ends at {end_s} s"),
        Some(_) => return None,
    };
    Some(format!(
        "fault.{number}, the partition at {at_s} s, {why}: what one side publishes meanwhile never reaches the other, and where anything does the exit code is 1"
    ))
}

/// The world of a manifest at its beginning, with its attackers. Paths count from `folder`.
///
/// # Errors
/// When a file that it names cannot be used.
///
/// # Panics
/// Never with a manifest that was parsed: its attackers have been checked.
pub fn world(manifest: &Manifest, folder: &Path) -> Result<World, ManifestError> {
    let scenario = manifest.scenario(folder)?;
    Ok(World::with_adversaries(scenario, |setting| {
        recruits(&manifest.attack, setting).expect("the attackers of a manifest have been checked")
    }))
}

/// Runs a world to its end, step by step: looks at it after each step, and once when the load begins, and reports on progress.
pub fn advance(world: &mut World, mut look: impl FnMut(&mut World, Time), mut progress: impl FnMut(Progress)) {
    let (load_start, end) = (Time::ZERO + world.scenario().warm_up, world.scenario().end());
    let mut now = Time::ZERO;
    while now < end {
        let step = if now < load_start { (now + STEP).min(load_start) } else { now + STEP };
        now = step.min(end);
        world.run_until(now);
        look(world, now);
        progress(Progress { now, end, events: world.counts().engine() });
    }
}

/// Whether every node that runs has as many mesh links as it seeks at least, on both topics.
fn is_ready(world: &World) -> bool {
    let low = MeshConfig::with_topics(Vec::new()).degree.low.min(world.scenario().wiring.target_peers());
    let degrees = &world.observer().degrees;
    world.running().all(|(node, _)| degrees[node as usize].iter().all(|degree| *degree as usize >= low))
}

/// What to say of messages that their publisher could not publish.
pub(crate) fn unpublished(messages: u64) -> String {
    let (were, their) = if messages == 1 { ("was", "its") } else { ("were", "their") };
    format!("{} {were} not published, because {their} publisher did not run.", counted(messages, "message"))
}

/// Every node that runs has to have got every transaction over the mesh, or has to have it now.
fn lost_transactions(world: &World, deliveries: &Deliveries) -> Option<String> {
    let running: BTreeSet<usize> = world.running().map(|(node, _)| node as usize).collect();
    let lost = deliveries.missing().filter(|(message, node, _)| {
        let transaction = message.class == Class::Transaction;
        transaction && running.contains(node) && !message.receptions[*node].had_in_the_end
    });
    let lost: Vec<MessageId> = lost.map(|(message, ..)| message.id).collect();
    let transactions = lost.iter().collect::<BTreeSet<_>>().len();
    (!lost.is_empty()).then(|| lost_in_words(lost.len() as u64, transactions as u64))
}

/// What to say of so many lost deliveries, pairs of a transaction and a node.
pub(crate) fn lost_in_words(deliveries: u64, transactions: u64) -> String {
    let (lost, of) = (grouped(deliveries), counted(transactions, "transaction"));
    let deliveries = if deliveries == 1 { "delivery" } else { "deliveries" };
    format!("{lost} {deliveries} of {of} never happened, neither over the mesh nor in a block")
}

/// What became of the messages of the window.
fn deliveries(world: &World, window: &Window) -> Deliveries {
    let nodes = world.scenario().nodes;
    let counted = world.observer().messages().iter().filter(|message| {
        let t0_us = message.published.as_micros();
        let end_us = if message.is_block { window.load_end_us } else { window.drain_end_us };
        (window.load_start_us..end_us).contains(&t0_us)
    });
    let messages = counted.map(|message| {
        let t0_us = message.published.as_micros();
        let at_us = |offset_us: Option<u32>| offset_us.map(|offset_us| t0_us + u64::from(offset_us));
        let receptions = (0..).zip(message.receptions()).map(|(node, reception)| measure::Reception {
            had_in_the_end: reception.accepted_us.is_none()
                && message.transaction.is_some_and(|id| world.has_transaction(node, &id)),
            arrival: at_us(reception.arrival_us).map(|t_us| measure::Arrival {
                t_us,
                from: reception.from.map(|from| from as usize).filter(|from| *from < nodes),
                how: if reception.pulled { How::Pulled } else { How::Pushed },
            }),
            accepted_us: at_us(reception.accepted_us),
            in_block_us: at_us(reception.in_block_us),
            copies: u32::from(reception.copies),
            frame_bytes: u64::from(reception.copies) * u64::from(message.frame_bytes),
        });
        measure::Message {
            id: message.id,
            class: if message.is_block { Class::Block } else { Class::Transaction },
            origin: message.origin as usize,
            t0_us,
            payload_bytes: u64::from(message.payload_bytes),
            receptions: receptions.collect(),
        }
    });
    let all = messages.collect();
    Deliveries::new(nodes, all, window.drain_end_us, 0).with_absences(absences(world.scenario()))
}

/// From when until when nodes did not run, in microseconds, by their numbers.
pub(crate) fn absences(scenario: &Scenario) -> Vec<(usize, u64, u64)> {
    let until_us = |until: Option<Time>| until.map_or(u64::MAX, Time::as_micros);
    let absences = faults::absences(&scenario.faults).into_iter();
    absences.map(|(node, from, until)| (node as usize, from.as_micros(), until_us(until))).collect()
}

fn honest_bounds(world: &World) -> crate::wan::Bounds {
    let scenario = world.scenario();
    crate::wan::Topology::new(scenario.profile.clone(), scenario.nodes, scenario.seed).bounds()
}

fn usage(world: &World, before: &[[u64; 2]]) -> Vec<NodeUsage> {
    let running: BTreeSet<u32> = world.running().map(|(node, _)| node).collect();
    let after = world.traffic();
    let nodes = (0_u32..).zip(before.iter().zip(&after)).zip(&world.observer().degrees);
    nodes
        .map(|((node, (before, after)), degrees)| {
            let (bytes_in, bytes_out) = (after[0] - before[0], after[1] - before[1]);
            let bytes =
                Counters { socket_in: bytes_in, socket_out: bytes_out, frame_in: bytes_in, frame_out: bytes_out };
            NodeUsage {
                activity: Activity { bytes, lag_p99_us: None, degrees: *degrees, lines_dropped: 0 },
                cpu_us: 0,
                rss_kib_max: 0,
                lost: !running.contains(&node),
            }
        })
        .collect()
}

fn facts(manifest: &Manifest, world: &World, started: String) -> report::Manifest {
    let (scenario, network) = (world.scenario(), world.network());
    let width = (scenario.nodes - 1).to_string().len().max(2);
    let submissions = super::workload::submissions(scenario);
    let payload_bytes: u64 = submissions.iter().map(|submission| u64::from(submission.payload_bytes)).sum();
    let duration_s = scenario.duration.as_secs_f64();
    let node = |(place, ip): (usize, &std::net::IpAddr)| report::manifest::Node {
        name: format!("n{place:0width$}"),
        region: network.region_name(place).to_owned(),
        ip: match ip {
            std::net::IpAddr::V4(ip) => *ip,
            std::net::IpAddr::V6(_) => std::net::Ipv4Addr::UNSPECIFIED,
        },
        peer_id: hex::encode(super::peer_id(u32::try_from(place).unwrap_or(u32::MAX)).as_bytes()),
        producer: place < scenario.producers,
        last_mile_us: network.site(place).last_mile_us,
        uplink_bits_per_s: network.site(place).uplink_bits_per_s,
    };
    report::Manifest {
        format: 1,
        kind: "simulation".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        command: host::command_line(),
        started,
        seed: manifest.seed,
        network: report::manifest::Network {
            nodes: scenario.nodes,
            target_peers: scenario.wiring.target_peers(),
            slot_s: scenario.slot.as_secs_f64(),
            profile: scenario.profile.name().to_owned(),
            network_id: String::new(),
        },
        load: report::manifest::Load {
            duration_s,
            tx_rate: if duration_s > 0.0 { float(submissions.len() as u64) / duration_s } else { 0.0 },
            tx_bytes: usize::try_from(payload_bytes / (submissions.len() as u64).max(1)).unwrap_or(0),
        },
        host: host::facts(),
        node: world.addresses().iter().take(scenario.nodes).enumerate().map(node).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_forgets_to_heal_is_told_before() {
        let parted = |at_s: u32, rest: &str| {
            format!("[[fault]]\nkind = \"partition\"\nat_s = {at_s}\nwho = {{ nodes = [0] }}\n{rest}")
        };
        let heal = |at_s: u32| format!("[[fault]]\nkind = \"heal\"\nat_s = {at_s}\n");
        let said = |faults: &[String]| {
            let text =
                format!("format = 1\nnodes = 4\n[time]\nwarm_up_s = 5\nload_s = 40\ndrain_s = 5\n{}", faults.concat());
            lasting_partition(&Manifest::parse(&text, "m.toml").expect("it is allowed"))
        };
        assert_eq!(said(&[]), None);
        assert_eq!(said(&[parted(10, "for_s = 5\n")]), None);
        assert_eq!(said(&[heal(20), parted(10, "")]), None, "in the order of time, not in that of the file");
        assert_eq!(said(&[parted(10, "for_s = 60\n"), heal(20)]), None);
        let words = said(&[parted(10, "for_s = 5\n"), parted(20, "")]).expect("the second one lasts");
        assert!(words.starts_with("fault.1, the partition at 20 s, has neither for_s nor a heal after it"), "{words}");
        let words = said(&[parted(10, ""), heal(20), parted(20, "")]).expect("the heal is that of the first one");
        assert!(words.starts_with("fault.2"), "{words}");
        let words = said(&[parted(10, "for_s = 40\n")]).expect("it outlasts the run");
        assert!(
            words.starts_with("fault.0, the partition at 10 s, lasts until 50 s, and the run ends at 50 s"),
            "{words}"
        );
    }

    #[test]
    fn of_several_partitions_the_last_one_counts() {
        let at = Time::from_secs;
        let parted = |at_s| (at(at_s), Action::Partition([0, 1].into()));
        let healed = |at_s| (at(at_s), Action::Heal);
        let last = |faults: &[(Time, Action)]| last_partition(faults, at(60));
        assert_eq!(last(&[(at(1), Action::Kill(0))]), (false, None));
        assert_eq!(last(&[parted(2), healed(5), parted(7), healed(9), (at(10), Action::Kill(0))]), (true, Some(at(9))));
        assert_eq!(last(&[parted(2), healed(5), parted(7)]), (true, None), "the last one was never healed");
        assert_eq!(last(&[parted(2), healed(90)]), (true, None), "it outlasts the run");
    }

    #[test]
    fn how_a_partition_ended_is_said_in_a_sentence() {
        let of = |healed: Option<u64>, agreed_us: Option<u64>| {
            let (healed, agreed) = (healed.map(Time::from_secs), agreed_us.map(Time::from_micros));
            let seen = Seen { load_start: Time::ZERO, before: Vec::new(), ready: None, parted: true, healed, agreed };
            seen.partition().expect("there was a partition")
        };
        assert_eq!(of(None, None).words(), "The partition was not healed before the end of the run.");
        assert_eq!(of(Some(50), None).words(), "The nodes never had one head again after the partition was healed.");
        let ended = of(Some(40), Some(41_250_000));
        assert_eq!((ended.healed_at_s, ended.one_head_after_s), (Some(40.0), Some(1.25)));
        assert_eq!(ended.words(), "All nodes had one head again 1.25 s after the partition was healed.");
    }

    #[test]
    fn one_and_many_are_told_apart() {
        assert_eq!(unpublished(1), "1 message was not published, because its publisher did not run.");
        assert_eq!(unpublished(2), "2 messages were not published, because their publisher did not run.");
        assert!(lost_in_words(184, 60).starts_with("184 deliveries of 60 transactions never happened"));
        assert!(lost_in_words(1, 1).starts_with("1 delivery of 1 transaction never happened"));
    }
}
