//! Whether the nodes of a network agree about the chain.
//!
//! They agree if all heads lie on one chain and none is more than a block behind the highest: the last block may be on its way. A head
//! that is one lower and lies on no highest head's chain is a chain of its own, however small the difference of height.

use super::world::World;
use starling_protocol::id::BlockId;
use starling_protocol::node::Node;
use std::collections::BTreeSet;

/// The heads of all nodes that run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Heads {
    /// The height of the highest.
    pub highest: u64,
    /// Different heads of that height.
    pub at_top: usize,
    /// Different heads one lower that none of these has below it.
    pub beside: usize,
    /// Nodes that are more than a block behind.
    pub nodes_behind: usize,
    /// Their different heads.
    pub behind: usize,
}

impl Heads {
    pub(crate) fn of(world: &World) -> Self {
        let nodes: Vec<&Node> = world.nodes().collect();
        let height_of = |node: &&&Node| node.chain().head().height;
        let Some(highest) = nodes.iter().map(|node| height_of(&node)).max() else { return Self::default() };
        let different = |nodes: &mut dyn Iterator<Item = &&Node>| -> BTreeSet<BlockId> {
            nodes.map(|node| node.chain().head().id).collect()
        };
        let top = || nodes.iter().filter(|node| height_of(node) == highest);
        let behind = || nodes.iter().filter(|node| height_of(node) + 1 < highest);
        let beside = |id: &BlockId| !top().any(|node| node.chain().is_canonical(id));
        let lower = different(&mut nodes.iter().filter(|node| height_of(node) + 1 == highest));
        Self {
            highest,
            at_top: different(&mut top()).len(),
            beside: lower.iter().filter(|id| beside(id)).count(),
            nodes_behind: behind().count(),
            behind: different(&mut behind()).len(),
        }
    }

    /// How many chains there are, as far as heads tell: one if all agree.
    pub(crate) fn chains(&self) -> usize {
        self.at_top + self.beside + self.behind
    }

    /// What is wrong, in sentences; nothing if all agree.
    pub(crate) fn findings(&self) -> Vec<String> {
        let Self { highest, at_top, beside, nodes_behind, .. } = *self;
        let mut findings = Vec::new();
        if nodes_behind > 0 {
            findings.push(format!(
                "{nodes_behind} nodes are more than a block behind the highest head, which is at {highest}"
            ));
        }
        if at_top > 1 {
            findings.push(format!("there are {at_top} different heads at height {highest}"));
        }
        if beside > 0 {
            findings.push(format!("{beside} heads at height {} are on another chain", highest.saturating_sub(1)));
        }
        findings
    }
}
