//! The memory that a run takes, known before it starts.
//!
//! It is estimated from what was measured: see `docs/SIMULATOR.md`. Sums are made in 128 bits, and what is more than 64 bits can hold is the
//! most that they can: whoever asks for it is told that it does not fit.

use std::path::Path;

use starling_protocol::mempool;
use starling_protocol::time::micros;

use super::observe::RECORD_BYTES;
use super::workload::{Submission, submissions_bytes, submissions_count};
use super::{Scenario, Wiring};
use crate::attack::Attackers;
use crate::host;
use crate::manifest::{Manifest, ManifestError};

/// A node without links.
const NODE_BYTES: u128 = 40 << 10;
/// One end of a link: line, peer slot, scores, address book.
const LINK_BYTES: u128 = 3 << 10;
/// What a node is told of a bootnode.
const BOOTNODE_BYTES: u128 = 32;
/// What one node remembers of one message: seen ids, caches, mempool.
const MESSAGE_BYTES: u128 = 200;
/// What the report needs for one delivery.
const DELIVERY_BYTES: u128 = 80 + 3 * 8 + RECORD_BYTES as u128;
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
    let attackers = manifest.attack.iter().map(Attackers::identities).fold(0, usize::saturating_add);
    room(memory_mib(&manifest.scenario(folder)?, attackers))
}

/// Memory that a run takes, in MiB.
#[must_use]
pub fn memory_mib(scenario: &Scenario, attackers: usize) -> u64 {
    let messages = u128::from(submissions_count(scenario));
    let blocks = if scenario.producers == 0 { 0 } else { micros(scenario.duration) / micros(scenario.slot).max(1) };
    let deliveries = scenario.nodes as u128 * (messages + u128::from(blocks));
    let planned = messages * size_of::<Submission>() as u128 + scenario.faults.len() as u128 * ACTION_BYTES;
    mib(machines(scenario, attackers) + deliveries * DELIVERY_BYTES + payloads(scenario) + planned)
}

/// What nodes, attackers and links take of it.
pub(crate) fn machines_bytes(scenario: &Scenario, attackers: usize) -> u64 {
    u64::try_from(machines(scenario, attackers)).unwrap_or(u64::MAX)
}

fn machines(scenario: &Scenario, attackers: usize) -> u128 {
    let nodes = scenario.nodes as u128;
    let remembered = u128::from(submissions_count(scenario).min(20_000));
    let bootnodes = match scenario.wiring {
        Wiring::Discovered { bootnodes, .. } => bootnodes as u128,
        _ => 0,
    };
    let ends = link_ends(scenario);
    // At worst an attacker has as many links as a node, and each ends at one.
    attackers as u128 * 2 * ends.div_ceil(nodes.max(1)) * LINK_BYTES
        + ends * LINK_BYTES
        + nodes * (NODE_BYTES + bootnodes * BOOTNODE_BYTES + remembered * MESSAGE_BYTES)
}

/// How many ends the links of nodes have.
fn link_ends(scenario: &Scenario) -> u128 {
    match &scenario.wiring {
        Wiring::Given(links) => 2 * links.len() as u128,
        // Nobody has more links than there are others.
        wiring => (scenario.nodes * wiring.target_peers().min(scenario.nodes.saturating_sub(1))) as u128,
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
    use std::sync::Arc;

    #[test]
    fn the_most_that_can_be_asked_for_is_counted() {
        let mut scenario = Scenario::scale(200, 1);
        scenario.wiring = Wiring::Discovered { bootnodes: 1, target_peers: u32::MAX as usize };
        scenario.limits.connections_max = u32::MAX as usize;
        let all = machines_bytes(&scenario, 1_000_000);
        assert!(all > 1_000_000 * 2 * 199 * 3_000 && all < 2_000_000 * 2 * 199 * 3_000, "{all}");
        assert_eq!(machines_bytes(&scenario, usize::MAX), u64::MAX);
        scenario.nodes = 1 << 32;
        scenario.workloads[0].pace = crate::sim::Pace::Constant { messages_per_ks: u64::MAX };
        assert!(memory_mib(&scenario, usize::MAX) > 1 << 40);
    }

    #[test]
    fn links_of_a_file_count_as_others_do() {
        let mut scenario = Scenario::scale(100, 1);
        scenario.wiring = Wiring::Random { degree: 99 };
        let random = machines_bytes(&scenario, 0);
        let all = (0..100).flat_map(|from| (0..from).map(move |to| (from, to))).collect();
        scenario.wiring = Wiring::Given(Arc::new(all));
        assert_eq!(machines_bytes(&scenario, 0), random);
    }

    #[test]
    fn what_is_published_counts_once_for_all_nodes() {
        let payloads_mib = |nodes, encode| {
            let mut scenario = Scenario { encode, ..Scenario::scale(nodes, 1) };
            scenario.workloads[0].payload_bytes = 0;
            let without = memory_mib(&scenario, 0);
            scenario.workloads[0].payload_bytes = 1 << 20;
            memory_mib(&scenario, 0) - without
        };
        // 300 messages of a MiB, of which 128 are pending.
        assert_eq!(payloads_mib(50, false), 300 + 4 * 128);
        assert_eq!(payloads_mib(500, false), 300 + 4 * 128);
        assert_eq!(payloads_mib(50, true), 300 + 4 * 128 + 50 * 32);
    }
}
