//! When a network is ready: every node has enough mesh links on both topics, and has had them for a while.

use super::trace::Class;

/// Watches mesh degrees until every node has held enough of them for one heartbeat.
///
/// A node that has held its links once stays ready: losing a link later is the mesh's daily work.
#[derive(Debug)]
pub struct Readiness {
    degree_min: u32,
    heartbeat_us: u64,
    nodes: Vec<Node>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Node {
    degrees: [u32; 2],
    /// Since when each topic has had enough links.
    enough_since_us: [Option<u64>; 2],
    ready_us: Option<u64>,
}

impl Readiness {
    /// Watches `nodes` nodes; each needs `degree_min` links on both topics throughout `heartbeat_us` microseconds.
    #[must_use]
    pub fn new(nodes: usize, degree_min: u32, heartbeat_us: u64) -> Self {
        Self { degree_min, heartbeat_us, nodes: vec![Node::default(); nodes] }
    }

    /// A node's mesh degree changed. Changes of one node come in the order of time.
    pub fn record(&mut self, node: usize, t_us: u64, class: Class, degree: u32) {
        self.settle(node, t_us);
        let state = &mut self.nodes[node];
        state.degrees[class.index()] = degree;
        let since = &mut state.enough_since_us[class.index()];
        *since = (degree >= self.degree_min).then(|| since.unwrap_or(t_us));
    }

    /// When the last node became ready, if all are by `now_us`.
    #[must_use]
    pub fn ready_us(&mut self, now_us: u64) -> Option<u64> {
        (0..self.nodes.len()).for_each(|node| self.settle(node, now_us));
        self.nodes.iter().map(|node| node.ready_us).try_fold(0, |latest, ready| Some(latest.max(ready?)))
    }

    /// The nodes that are not ready as far as is known, with their latest degrees for transactions and blocks.
    pub fn waiting(&self) -> impl Iterator<Item = (usize, [u32; 2])> {
        self.nodes.iter().enumerate().filter(|(_, node)| node.ready_us.is_none()).map(|(at, node)| (at, node.degrees))
    }

    /// A node's latest mesh degrees, for transactions and blocks.
    #[must_use]
    pub fn degrees(&self, node: usize) -> [u32; 2] {
        self.nodes[node].degrees
    }

    /// Marks a node ready if its links have held until `now_us`.
    fn settle(&mut self, node: usize, now_us: u64) {
        let state = &mut self.nodes[node];
        if let ([Some(transactions_us), Some(blocks_us)], None) = (state.enough_since_us, state.ready_us) {
            let held_us = transactions_us.max(blocks_us).saturating_add(self.heartbeat_us);
            state.ready_us = (held_us <= now_us).then_some(held_us);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_topics_of_every_node_must_hold_for_a_heartbeat() {
        let mut readiness = Readiness::new(2, 3, 1_000);
        readiness.record(0, 10, Class::Transaction, 3);
        readiness.record(0, 50, Class::Block, 5);
        readiness.record(1, 20, Class::Transaction, 3);
        readiness.record(1, 20, Class::Block, 2);
        assert_eq!(readiness.ready_us(5_000), None, "node 1 lacks a link on one topic");
        assert_eq!(readiness.waiting().collect::<Vec<_>>(), [(1, [3, 2])]);
        readiness.record(1, 6_000, Class::Block, 3);
        assert_eq!(readiness.ready_us(6_999), None, "not yet for a whole heartbeat");
        readiness.record(1, 6_500, Class::Block, 4);
        assert_eq!(readiness.ready_us(7_000), Some(7_000), "a change above the minimum starts nothing anew");
        assert_eq!(readiness.waiting().count(), 0);
    }

    #[test]
    fn a_loss_within_the_heartbeat_starts_anew_and_one_after_it_does_not() {
        let mut readiness = Readiness::new(1, 2, 1_000);
        readiness.record(0, 0, Class::Transaction, 2);
        readiness.record(0, 0, Class::Block, 2);
        readiness.record(0, 900, Class::Block, 1);
        readiness.record(0, 950, Class::Block, 2);
        assert_eq!(readiness.ready_us(1_949), None);
        readiness.record(0, 1_960, Class::Block, 0);
        assert_eq!(readiness.ready_us(9_000), Some(1_950), "the links had held when they were lost");
    }

    #[test]
    fn a_lone_node_needs_no_links() {
        let mut readiness = Readiness::new(1, 0, 1_000);
        readiness.record(0, 5, Class::Transaction, 0);
        readiness.record(0, 7, Class::Block, 0);
        assert_eq!(readiness.ready_us(2_000), Some(1_007));
    }
}
