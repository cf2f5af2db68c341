//! Whether the nodes of a network agree about the chain.
//!
//! They agree if all heads lie on one chain and none is more than a block behind the highest: the last block may be on its way. A head
//! that is one lower and lies on no highest head's chain is a chain of its own, however small the difference of height.

use super::world::World;
use crate::report::format::counted;
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
    /// Those of a simulation.
    pub(crate) fn of(world: &World) -> Self {
        let nodes: Vec<&Node> = world.nodes().collect();
        let heads: Vec<(u64, BlockId)> =
            nodes.iter().map(|node| node.chain().head()).map(|head| (head.height, head.id)).collect();
        let highest = heads.iter().map(|(height, _)| *height).max();
        Self::new(&heads, |id| {
            let top = nodes.iter().filter(|node| Some(node.chain().head().height) == highest);
            top.into_iter().any(|node| node.chain().is_canonical(id))
        })
    }

    /// Of nodes with heads of these heights, where it is known whether a block one below the highest lies on the chain of a highest one.
    pub(crate) fn new(heads: &[(u64, BlockId)], is_below_top: impl Fn(&BlockId) -> bool) -> Self {
        let Some(highest) = heads.iter().map(|(height, _)| *height).max() else { return Self::default() };
        let at = |wanted: fn(u64, u64) -> bool| {
            heads.iter().filter(move |(height, _)| wanted(*height, highest)).map(|(_, id)| *id)
        };
        let (top, below) = (|height, highest| height == highest, |height: u64, highest| height + 1 == highest);
        let behind = |height: u64, highest| height + 1 < highest;
        let different = |wanted| at(wanted).collect::<BTreeSet<_>>();
        Self {
            highest,
            at_top: different(top).len(),
            beside: different(below).iter().filter(|id| !is_below_top(id)).count(),
            nodes_behind: at(behind).count(),
            behind: different(behind).len(),
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
            let (nodes, are) = (counted(nodes_behind as u64, "node"), if nodes_behind == 1 { "is" } else { "are" });
            findings.push(format!("{nodes} {are} more than a block behind the highest head, which is at {highest}"));
        }
        if at_top > 1 {
            findings.push(format!("there are {at_top} different heads at height {highest}"));
        }
        if beside > 0 {
            let (heads, are) = (counted(beside as u64, "head"), if beside == 1 { "is" } else { "are" });
            findings.push(format!("{heads} at height {} {are} on another chain", highest.saturating_sub(1)));
        }
        findings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u8) -> BlockId {
        BlockId(starling_crypto::Digest([number; 32]))
    }

    #[test]
    fn heads_agree_on_one_chain_and_at_most_a_block_apart() {
        let chains = |heads: &[(u64, u8)], below: &[u8]| {
            let heads: Vec<_> = heads.iter().map(|(height, number)| (*height, id(*number))).collect();
            let heads = Heads::new(&heads, |block| below.iter().any(|number| id(*number) == *block));
            assert_eq!(heads.findings().is_empty(), heads.chains() <= 1, "{heads:?}");
            heads.chains()
        };
        assert_eq!(chains(&[], &[]), 0);
        assert_eq!(chains(&[(7, 7), (7, 7)], &[]), 1);
        assert_eq!(chains(&[(7, 7), (6, 6)], &[6]), 1, "the last block is on its way");
        assert_eq!(chains(&[(7, 7), (6, 5)], &[6]), 2, "another chain, one block shorter");
        let shorter = Heads::new(&[(7, id(7)), (6, id(5)), (4, id(4))], |_| false).findings();
        let said = [
            "1 node is more than a block behind the highest head, which is at 7",
            "1 head at height 6 is on another chain",
        ];
        assert_eq!(shorter, said);
        assert_eq!(chains(&[(7, 7), (7, 8), (6, 6)], &[6]), 2);
        assert_eq!(chains(&[(7, 7), (5, 5), (5, 5)], &[6]), 2, "too far behind");
    }
}
