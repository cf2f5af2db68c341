//! The memory that a run takes, known before it starts.
//!
//! It is estimated from what was measured: see `docs/SIMULATOR.md`. Sums are made in 128 bits, and what is more than 64 bits can hold is the
//! most that they can: whoever asks for it is told that it does not fit.

use std::collections::BTreeMap;
use std::path::Path;

use starling_protocol::mempool;
use starling_protocol::mesh::seen::SeenConfig;
use starling_protocol::peers::PeerConfig;
use starling_protocol::time::{Duration, Time, micros};

use super::faults::{Action, partitions, spans, standstills};
use super::machine::Machine;
use super::observe::RECORD_BYTES;
use super::workload::{Submission, submissions_bytes, submissions_count, submissions_within};
use super::{Scenario, Wiring};
use crate::attack::{Attackers, memory};
use crate::host;
use crate::manifest::{Manifest, ManifestError};

/// The program itself, and what the allocator and the queue of events have before anything happens.
const PROGRAM_BYTES: u128 = 26 << 20;
/// A node without links.
const NODE_BYTES: u128 = 40 << 10;
/// One end of a link at a node: line, peer slot, scores, address book.
const LINK_BYTES: u128 = 3 << 10;
/// What a node is told of a bootnode.
const BOOTNODE_BYTES: u128 = 32;
/// What a node knows of somebody whom it could dial.
const CANDIDATE_BYTES: u128 = 180;
/// What a node remembers of a message of late: seen ids, caches.
const SEEN_BYTES: u128 = 200;
/// What a pool takes for a transaction that is pending, beside its own bytes.
const POOLED_BYTES: u128 = 200;
/// What a node and its disk take for a transaction that is in a block.
const INCLUDED_BYTES: u128 = 600;
/// What they take for a block without transactions.
const BLOCK_BYTES: u128 = 3 << 10;
/// What the report needs for one delivery, what its tables and charts are made of included.
const DELIVERY_BYTES: u128 = 280 + 3 * 8 + RECORD_BYTES as u128;
/// What a frame takes on its way, with its event.
const FRAME_BYTES: u128 = 220;
/// How many frames a message makes at each node: copies, and what is said of them.
const FRAMES: u128 = 12;
/// How many of them wait at a node, or on their way to it, while a fault holds up what is sent: fewer, because it leaves the meshes of others.
const HELD_FRAMES: u128 = 5;
/// For how long frames wait at lines on which every segment is lost once: that shortens with the loss.
const LOST_WAIT: Duration = Duration::from_millis(7_500);
/// What an experiment of the table of attacks needs for one: no more than its record and its latency, in a list that grows by being moved.
const FIGURE_BYTES: u128 = 3 * 8 + RECORD_BYTES as u128;
/// What is done to the network at a moment, in the timeline and in the queue.
const ACTION_BYTES: u128 = 128;

/// Whether the memory that there is will do for so many runs of a manifest at the same time. Paths in it count from `folder`.
///
/// # Errors
/// When a file that the manifest names cannot be used, or the runs would need more memory than there is.
pub fn fits(manifest: &Manifest, folder: &Path, jobs: usize) -> Result<(), ManifestError> {
    let room = |needed_mib: u64| match host::available_mib() {
        Some(available_mib) if available_mib < needed_mib.saturating_mul(jobs as u64) => {
            Err(ManifestError::Memory { needed_mib: needed_mib.saturating_mul(jobs as u64), available_mib, jobs })
        }
        _ => Ok(()),
    };
    // The timeline of faults is made with the scenario: it has to fit before.
    room(mib(u128::from(manifest.actions()) * ACTION_BYTES))?;
    room(memory_mib(&manifest.scenario(folder)?, &manifest.attack))
}

/// Memory that a run takes with its report, in MiB.
#[must_use]
pub fn memory_mib(scenario: &Scenario, attackers: &[Attackers]) -> u64 {
    mib(PROGRAM_BYTES + network(scenario, attackers) + deliveries(scenario) * DELIVERY_BYTES)
}

/// Memory that a run takes of which only figures are kept, in MiB.
pub(crate) fn experiment_mib(scenario: &Scenario, attackers: &[Attackers]) -> u64 {
    mib(PROGRAM_BYTES + network(scenario, attackers) + deliveries(scenario) * FIGURE_BYTES)
}

/// How many blocks there are.
fn blocks(scenario: &Scenario) -> u128 {
    if scenario.producers == 0 {
        return 0;
    }
    u128::from(scenario.end().as_micros() / micros(scenario.slot).max(1))
}

/// How many deliveries there are at most.
fn deliveries(scenario: &Scenario) -> u128 {
    scenario.nodes as u128 * (u128::from(submissions_count(scenario)) + blocks(scenario))
}

/// What nodes, attackers, links and messages take.
fn network(scenario: &Scenario, attackers: &[Attackers]) -> u128 {
    let messages = u128::from(submissions_count(scenario));
    let planned = messages * size_of::<Submission>() as u128 + scenario.faults.len() as u128 * ACTION_BYTES;
    let place_bytes = size_of::<Machine>() as u128;
    let of_attackers = memory::bytes(attackers, scenario, (place_bytes, LINK_BYTES), seen(scenario));
    machines(scenario, attackers)
        + of_attackers
        + payloads(scenario)
        + planned
        + kept_waiting(scenario)
        + held_up(scenario)
}

/// What faults hold up: what comes to processes that stand still or are slow, what is on paths that take longer, and what waits for paths that
/// are cut.
fn held_up(scenario: &Scenario) -> u128 {
    let end = scenario.end();
    let within = |time: Duration| u128::from(submissions_within(scenario, time)) * HELD_FRAMES * FRAME_BYTES;
    let lasts = |from: Time, until: Option<Time>| until.unwrap_or(end).min(end).since(from);
    let slow = spans(&scenario.faults, |action| match action {
        Action::Cpu(node, permille) => Some((*node, *permille > 1_000)),
        _ => None,
    });
    let at_nodes = standstills(&scenario.faults).into_iter().chain(slow);
    // A node that is held up several times has one after the other.
    let mut longest = BTreeMap::<u32, Duration>::new();
    for (node, from, until) in at_nodes {
        let longest = longest.entry(node).or_default();
        *longest = (*longest).max(lasts(from, until));
    }
    let on_paths = scenario.faults.iter().map(|(_, action)| match action {
        Action::Degrade(worse) => worse.latency,
        _ => Duration::ZERO,
    });
    let on_paths = on_paths.max().unwrap_or_default();
    let parted = partitions(&scenario.faults).into_iter().map(|parted| lasts(parted.from, parted.until));
    let cut = parted.max().unwrap_or_default().min(scenario.dead_after);
    longest.values().map(|time| within(*time)).sum::<u128>()
        + scenario.nodes as u128 * (within(on_paths) + within(cut) / HELD_FRAMES)
}

/// What waits for what was lost and is sent again.
fn kept_waiting(scenario: &Scenario) -> u128 {
    let of_faults = scenario.faults.iter().map(|(_, action)| match action {
        Action::Degrade(worse) => worse.loss_ppm,
        _ => 0,
    });
    let loss_ppm = of_faults.fold(scenario.loss_ppm, u32::max);
    let wait = Duration::from_micros(micros(LOST_WAIT) * u64::from(loss_ppm) / 1_000_000);
    u128::from(submissions_within(scenario, wait)) * scenario.nodes as u128 * FRAMES * FRAME_BYTES
}

fn machines(scenario: &Scenario, attackers: &[Attackers]) -> u128 {
    let nodes = scenario.nodes as u128;
    let known = match scenario.wiring {
        Wiring::Discovered { bootnodes, .. } => {
            let places = attackers.iter().map(Attackers::identities).fold(scenario.nodes, usize::saturating_add);
            let candidates = places.min(PeerConfig::for_target(1).candidates_max);
            bootnodes as u128 * BOOTNODE_BYTES + candidates as u128 * CANDIDATE_BYTES
        }
        _ => 0,
    };
    let included = if scenario.producers == 0 { 0 } else { u128::from(submissions_count(scenario)) };
    let remembered = seen(scenario) * SEEN_BYTES
        + pooled(scenario) * POOLED_BYTES
        + included * INCLUDED_BYTES
        + blocks(scenario) * BLOCK_BYTES;
    let links_bytes = link_ends(scenario) * LINK_BYTES;
    let whole = attackers.iter().filter(|some| some.follow_the_chain()).map(|some| u128::from(some.count));
    links_bytes
        + (nodes + whole.sum::<u128>()) * (NODE_BYTES + known + remembered)
        + starts(scenario) * (NODE_BYTES + links_bytes / nodes.max(1))
}

/// How many nodes begin again, each beside what the former process leaves.
fn starts(scenario: &Scenario) -> u128 {
    let started = scenario.faults.iter().filter(|(_, action)| matches!(action, Action::Start(_)));
    started.count().min(scenario.nodes) as u128
}

/// How many messages a node has seen of late at most.
fn seen(scenario: &Scenario) -> u128 {
    let config = SeenConfig::default();
    u128::from(submissions_within(scenario, config.accepted_age_max)).min(config.accepted_entries_max as u128)
}

/// How many transactions wait in a pool at most: all that it has room for, where no blocks are made.
fn pooled(scenario: &Scenario) -> u128 {
    let config = mempool::Config::default();
    let messages = u128::from(submissions_count(scenario));
    let each_bytes = submissions_bytes(scenario) / messages.max(1) + mempool::OVERHEAD_BYTES as u128;
    let of_senders = scenario.publishers_len() as u128 * config.sender_transactions_max as u128;
    messages.min(of_senders).min(config.transactions_max as u128).min(config.bytes_max as u128 / each_bytes)
}

/// How many ends the links of nodes have.
fn link_ends(scenario: &Scenario) -> u128 {
    match &scenario.wiring {
        Wiring::Given(links) => 2 * links.len() as u128,
        // Nobody has more links than there are others. Whoever finds peers is found, too.
        wiring => {
            let times = if matches!(wiring, Wiring::Discovered { .. }) { 2 } else { 1 };
            let links = wiring.target_peers().saturating_mul(times).min(scenario.limits.connections_max);
            scenario.nodes as u128 * links.min(scenario.nodes.saturating_sub(1)) as u128
        }
    }
}

/// What messages take themselves. Nodes share them, and all pools hold nearly the same ones; where RPCs are encoded each node has its own.
fn payloads(scenario: &Scenario) -> u128 {
    /// What is pending takes so many times its bytes more at worst, which is where links are slow: a fit to what was measured.
    const PENDING_TIMES: u128 = 4;
    /// What is pending is so many times what a pool holds, because pools differ in what they took first.
    const POOLS: u128 = 4;
    let all = submissions_bytes(scenario);
    let pool = mempool::Config::default().bytes_max as u128;
    let own = if scenario.encode { scenario.nodes as u128 * all.min(pool) } else { 0 };
    all + PENDING_TIMES * all.min(POOLS * pool) + own
}

/// Whole MiB.
fn mib(bytes: u128) -> u64 {
    u64::try_from(bytes >> 20).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::faults::Degradation;
    use std::sync::Arc;

    fn sybils(count: usize, connections: usize) -> Vec<Attackers> {
        vec![Attackers::new("sybil", count, connections)]
    }

    #[test]
    fn the_most_that_can_be_asked_for_is_counted() {
        let mut scenario = Scenario::scale(200, 1);
        scenario.wiring = Wiring::Discovered { bootnodes: 1, target_peers: u32::MAX as usize };
        scenario.limits.connections_max = u32::MAX as usize;
        assert!(memory_mib(&scenario, &sybils(1_000_000, usize::MAX)) > 1_000_000 * 8 / 1_024);
        scenario.nodes = 1 << 32;
        scenario.workloads[0].pace = crate::sim::Pace::Constant { messages_per_ks: u64::MAX };
        assert!(memory_mib(&scenario, &sybils(usize::MAX, usize::MAX)) > 1 << 40);
        assert!(experiment_mib(&scenario, &sybils(usize::MAX, usize::MAX)) > 1 << 40);
    }

    #[test]
    fn links_of_a_file_count_as_others_do() {
        let mut scenario = Scenario::scale(100, 1);
        scenario.wiring = Wiring::Random { degree: 99 };
        let random = memory_mib(&scenario, &[]);
        let all = (0..100).flat_map(|from| (0..from).map(move |to| (from, to))).collect();
        scenario.wiring = Wiring::Given(Arc::new(all));
        assert_eq!(memory_mib(&scenario, &[]), random);
    }

    #[test]
    fn what_is_published_counts_once_for_all_nodes() {
        let payloads_mib = |nodes, encode| {
            let mut scenario = Scenario { encode, ..Scenario::scale(nodes, 1) };
            scenario.workloads[0].payload_bytes = 1 << 20;
            payloads(&scenario) >> 20
        };
        // 300 messages of a MiB, of which 128 are pending.
        assert_eq!(payloads_mib(50, false), 300 + 4 * 128);
        assert_eq!(payloads_mib(500, false), 300 + 4 * 128);
        assert_eq!(payloads_mib(50, true), 300 + 4 * 128 + 50 * 32);
    }

    /// Of the table of attacks, too, of which no more than figures are kept.
    #[test]
    fn payloads_count_whatever_is_kept_of_a_run() {
        let with = |payload_bytes| {
            let mut scenario = Scenario::scale(50, 1);
            scenario.workloads[0].payload_bytes = payload_bytes;
            (memory_mib(&scenario, &[]), experiment_mib(&scenario, &[]))
        };
        // As many are pending in both cases.
        let (small, large) = (with(0), with(64 << 10));
        let mib = (5 * 300 * (64 << 10)) >> 20;
        assert!(large.0.abs_diff(small.0 + mib) <= 1 && large.1.abs_diff(small.1 + mib) <= 1, "{small:?} {large:?}");
        assert!(small.0 > small.1, "a report takes more");
    }

    /// What no node has seen of late is forgotten, and what it has no room for does not wait.
    #[test]
    fn messages_are_remembered_for_a_while_and_wait_while_there_is_room() {
        let scenario = |messages_per_ks, duration_s, producers| {
            let mut scenario = Scenario::scale(100, 1);
            scenario.workloads[0].pace = crate::sim::Pace::Constant { messages_per_ks };
            Scenario { duration: Duration::from_secs(duration_s), producers, ..scenario }
        };
        let (brief, long) = (scenario(10_000, 120, 0), scenario(10_000, 2_000, 0));
        assert_eq!((seen(&brief), seen(&long)), (1_200, 1_200));
        assert_eq!((pooled(&brief), pooled(&long)), (1_200, (32 << 20) / (2_048 + mempool::OVERHEAD_BYTES as u128)));
        let mut of_one = long;
        of_one.workloads[0].publishers = crate::sim::Publishers::Nodes(vec![7]);
        assert_eq!(pooled(&of_one), 256);
        // Two thousand transactions in 110 blocks, at each of a hundred nodes.
        let more = memory_mib(&scenario(10_000, 200, 1), &[]) - memory_mib(&scenario(10_000, 200, 0), &[]);
        let blocks = 110 * (BLOCK_BYTES + DELIVERY_BYTES);
        assert!(u128::from(more).abs_diff((100 * (2_000 * INCLUDED_BYTES + blocks)) >> 20) <= 1, "{more}");
    }

    /// As long as it lasts, for whom it concerns.
    #[test]
    fn what_faults_hold_up_counts() {
        let mut scenario = Scenario::scale(100, 1);
        assert_eq!(held_up(&scenario), 0);
        let at = Time::from_secs;
        let ten_a_second = |seconds: u128| seconds * 10 * HELD_FRAMES * FRAME_BYTES;
        scenario.faults = vec![
            (at(16), Action::Pause(7)),
            (at(18), Action::Resume(7)),
            (at(20), Action::Pause(7)),
            (at(20), Action::Cpu(9, 5_000)),
            (at(23), Action::Resume(7)),
            (at(24), Action::Cpu(9, 1_000)),
        ];
        assert_eq!(held_up(&scenario), ten_a_second(3) + ten_a_second(4));
        let (from, to) = (Arc::from([true]), Arc::from([true]));
        let latency = Duration::from_secs(2);
        scenario.faults = vec![(at(9), Action::Degrade(Degradation { number: 1, from, to, latency, loss_ppm: 0 }))];
        assert_eq!(held_up(&scenario), 100 * ten_a_second(2));
        scenario.dead_after = Duration::from_secs(5);
        scenario.faults = vec![(at(16), Action::Partition([0, 1].into())), (at(19), Action::Heal)];
        assert_eq!(held_up(&scenario), 100 * ten_a_second(3) / HELD_FRAMES);
        scenario.faults.pop();
        assert_eq!(held_up(&scenario), 100 * ten_a_second(5) / HELD_FRAMES, "then the connections end");
    }

    /// The greatest loss counts, whether it lasts or not.
    #[test]
    fn what_waits_for_what_was_lost_counts() {
        let mut scenario = Scenario::scale(100, 1);
        assert_eq!(kept_waiting(&scenario), 0);
        scenario.loss_ppm = 200_000;
        // Fifteen messages come within a second and a half.
        assert_eq!(kept_waiting(&scenario), 15 * 100 * 12 * 220);
        let (from, to) = (Arc::from([true]), Arc::from([true]));
        let worse = Degradation { number: 1, from, to, latency: Duration::ZERO, loss_ppm: 400_000 };
        scenario.faults = vec![(Time::from_secs(9), Action::Degrade(worse))];
        assert_eq!(kept_waiting(&scenario), 30 * 100 * 12 * 220);
    }

    #[test]
    fn attackers_that_are_machines_take_what_nodes_take() {
        let scenario = Scenario { producers: 1, ..Scenario::scale(100, 1) };
        let with = |kind| machines(&scenario, &[Attackers::new(kind, 100, 20)]);
        let (none, links) = (machines(&scenario, &[]), link_ends(&scenario) * LINK_BYTES);
        assert_eq!((with("sybil"), with("stall")), (none, none + none - links));
    }

    #[test]
    fn nodes_that_begin_again_take_their_place_twice() {
        let mut scenario = Scenario::scale(100, 1);
        let before = machines(&scenario, &[]);
        scenario.faults = (0..1_000).map(|second| (Time::from_secs(second), Action::Start(7))).collect();
        assert_eq!(machines(&scenario, &[]) - before, 100 * (NODE_BYTES + 40 * LINK_BYTES), "and no more often");
    }
}
