//! How fast messages could be at best: a lower bound of latency, from who is connected with whom.
//!
//! Whatever an engine does, a message travels over connections, and at every node on its way it is taken in and verified before it goes
//! on. So no copy arrives sooner than on the shortest path through the graph of connections, where a connection costs its one-way delay
//! without jitter and taking in, and a node on the way costs verifying. An engine that pushes every message on all connections at once reaches this bound,
//! but for jitter and bandwidth, at the cost of a copy for every connection; a mesh has fewer links and longer paths.
//!
//! The bound is taken over the links that the scenario gives, not over those that come about: attackers add none that help.
//!
//! # Cost
//! Dijkstra's algorithm from each publisher, of 64 at most.

use crate::measure::statistics::nearest_rank;
use crate::sim::{Scenario, topology};
use crate::wan::Topology;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Publishers from which paths are looked for: enough for a 99th percentile.
const ORIGINS_MAX: usize = 64;

/// The 99th percentile of the least latencies, over all messages of the scenario and all nodes, in microseconds.
#[must_use]
pub fn least_p99_us(scenario: &Scenario) -> u64 {
    let network = Topology::new(scenario.profile.clone(), scenario.nodes, scenario.seed);
    let mut neighbours: Vec<Vec<(u32, u64)>> = vec![Vec::new(); scenario.nodes];
    let payload_bytes = scenario.workloads.iter().map(|workload| u64::from(workload.payload_bytes)).min().unwrap_or(0);
    let taking_in_us = scenario.cpu.rpc_ns.saturating_add(scenario.cpu.byte_ns.saturating_mul(payload_bytes)) / 1_000;
    for (a, b) in topology::links(&scenario.wiring, &network, scenario.nodes, scenario.seed) {
        let cost_us = network.one_way_us(a as usize, b as usize) + taking_in_us;
        neighbours[a as usize].push((b, cost_us));
        neighbours[b as usize].push((a, cost_us));
    }
    let mut latencies_us = Vec::new();
    for origin in scenario.publishers().into_iter().take(ORIGINS_MAX) {
        let reached_us = shortest_us(&neighbours, origin, scenario.cpu.signature_ns / 1_000);
        let others = (0_u32..).zip(reached_us).filter(|(node, _)| *node != origin);
        latencies_us.extend(others.map(|(_, reached_us)| reached_us));
    }
    latencies_us.sort_unstable();
    nearest_rank(&latencies_us, 99).unwrap_or(0)
}

/// When each node hears of a message at the earliest.
fn shortest_us(neighbours: &[Vec<(u32, u64)>], origin: u32, verifying_us: u64) -> Vec<u64> {
    let mut reached_us = vec![u64::MAX; neighbours.len()];
    let mut next = BinaryHeap::from([Reverse((0, origin))]);
    reached_us[origin as usize] = 0;
    while let Some(Reverse((at_us, node))) = next.pop() {
        if at_us > reached_us[node as usize] {
            continue;
        }
        let leaves_us = if node == origin { at_us } else { at_us + verifying_us };
        for (other, cost_us) in &neighbours[node as usize] {
            let there_us = leaves_us + cost_us;
            if there_us < reached_us[*other as usize] {
                reached_us[*other as usize] = there_us;
                next.push(Reverse((there_us, *other)));
            }
        }
    }
    reached_us
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::{Publishers, Wiring};
    use crate::wan::Profile;
    use std::sync::Arc;

    /// A line of four nodes with a shortcut that is longer than the way around it.
    #[test]
    fn the_way_through_others_counts_with_their_work() {
        let mut scenario = Scenario::scale(4, 1);
        scenario.profile = Profile::loopback();
        scenario.wiring = Wiring::Given(Arc::new(vec![(0, 1), (1, 2), (2, 3)]));
        scenario.workloads[0].publishers = Publishers::Nodes(vec![0]);
        let one_way_us = Topology::new(scenario.profile.clone(), 4, 1).one_way_us(0, 1);
        let taking_in_us = (scenario.cpu.rpc_ns + scenario.cpu.byte_ns * 2_048) / 1_000;
        let far_us = 3 * (one_way_us + taking_in_us) + 2 * scenario.cpu.signature_ns / 1_000;
        assert_eq!(least_p99_us(&scenario), far_us);
        scenario.wiring = Wiring::Given(Arc::new(vec![(0, 1), (1, 2), (2, 3), (3, 0)]));
        let two_us = 2 * (one_way_us + taking_in_us) + scenario.cpu.signature_ns / 1_000;
        assert_eq!(least_p99_us(&scenario), two_us);
        scenario.cpu.byte_ns = u64::MAX;
        assert!(least_p99_us(&scenario) >= u64::MAX / 1_000, "too long to be counted, and no error");
    }
}
