//! What must hold whatever was killed: one chain, and in it exactly once every transaction that a node acknowledged.
//!
//! It is looked at twice. [`Follower`] asks the running nodes, which shows that the network as its users see it has converged.
//! [`stored_chain`] reads the data directories of the stopped nodes, which shows that the disks agree with that. Neither
//! takes an index of the node's for granted: both go through the blocks.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use starling_node::api::BlockSelector;
use starling_node::rpc::client::RpcClient;
use starling_node::storage::{DataDir, Store};
use starling_protocol::block::Block;
use starling_protocol::genesis::Genesis;
use starling_protocol::id::{BlockId, TransactionId};
use tokio::time::{Instant, sleep};

use super::wallet::Accepted;

/// How often nodes are asked while waiting for them to agree.
const POLL: Duration = Duration::from_millis(100);
/// How many transactions a finding names.
const NAMED_MAX: usize = 5;

/// A chain as one node has it, or as all have it up to some height.
#[derive(Debug, Clone, Default)]
pub(super) struct Chain {
    /// The ids of its blocks, from height 1 on.
    pub(super) blocks: Vec<BlockId>,
    /// Where each transaction stands: the slots of the blocks that hold it.
    included: BTreeMap<TransactionId, Vec<u64>>,
}

impl Chain {
    fn extend(&mut self, block: BlockId, slot: u64, transactions: impl IntoIterator<Item = TransactionId>) {
        self.blocks.push(block);
        for id in transactions {
            self.included.entry(id).or_default().push(slot);
        }
    }

    pub(super) fn height(&self) -> u64 {
        self.blocks.len() as u64
    }

    /// How many different transactions are in its blocks.
    pub(super) fn transactions(&self) -> usize {
        self.included.len()
    }

    /// Those of the acknowledged transactions that are in no block.
    pub(super) fn missing<'a>(&self, accepted: &'a [Accepted]) -> Vec<&'a Accepted> {
        accepted.iter().filter(|accepted| !self.included.contains_key(&accepted.id)).collect()
    }

    /// What is wrong with this chain, given what was acknowledged; nothing if nothing is. `names` are those of the nodes.
    pub(super) fn findings(&self, accepted: &[Accepted], names: &[String]) -> Vec<String> {
        let mut findings = Vec::new();
        let missing = self.missing(accepted);
        if !missing.is_empty() {
            findings.push(format!(
                "{} of {} acknowledged transactions are in no block: {}",
                missing.len(),
                accepted.len(),
                named(&missing, names)
            ));
        }
        let twice = self.included.iter().filter(|(_, slots)| slots.len() > 1);
        let twice: Vec<String> = twice.map(|(id, slots)| format!("{id} in slots {slots:?}")).take(NAMED_MAX).collect();
        if !twice.is_empty() {
            findings.push(format!("transactions stand in the chain more than once: {}", twice.join(", ")));
        }
        let late = |accepted: &&Accepted| {
            self.included.get(&accepted.id).is_some_and(|slots| slots.iter().any(|slot| *slot > accepted.expiry_slot))
        };
        let late: Vec<&Accepted> = accepted.iter().filter(late).collect();
        if !late.is_empty() {
            findings.push(format!("transactions were included after they had expired: {}", named(&late, names)));
        }
        findings
    }
}

/// Names some transactions with who acknowledged them, and when.
pub(super) fn named(accepted: &[&Accepted], names: &[String]) -> String {
    let mut named: Vec<String> = accepted
        .iter()
        .take(NAMED_MAX)
        .map(|accepted| {
            let Accepted { id, node, round, expiry_slot, .. } = accepted;
            let node = names.get(*node).map_or("?", String::as_str);
            format!("{id} (acknowledged by {node} in round {round}, good until slot {expiry_slot})")
        })
        .collect();
    if accepted.len() > NAMED_MAX {
        named.push(format!("and {} more", accepted.len() - NAMED_MAX));
    }
    named.join(", ")
}

/// Follows the chain on which all nodes agree.
#[derive(Debug, Default)]
pub(super) struct Follower {
    pub(super) chain: Chain,
}

impl Follower {
    /// Waits until all nodes have the same chain, that chain is above `height`, and it holds everything in `accepted`.
    ///
    /// # Errors
    /// What is still not so after `patience`, in words.
    pub(super) async fn agree(
        &mut self,
        nodes: &[RpcClient],
        names: &[String],
        height: u64,
        accepted: &[Accepted],
        patience: Duration,
    ) -> Result<(), String> {
        let deadline = Instant::now() + patience;
        loop {
            let problem = match common(nodes, names).await {
                Ok((at, _)) if at <= height => {
                    format!("the chain does not go on: it was at height {height} and is at {at}")
                }
                Ok((at, id)) => match self.follow(&nodes[0], at, id).await {
                    Err(problem) => problem,
                    Ok(()) => {
                        let missing = self.chain.missing(accepted);
                        if missing.is_empty() {
                            return Ok(());
                        }
                        format!(
                            "{} acknowledged transactions are in no block up to height {at}: {}",
                            missing.len(),
                            named(&missing, names)
                        )
                    }
                },
                Err(problem) => problem,
            };
            if Instant::now() > deadline {
                return Err(format!("after {} s {problem}", patience.as_secs()));
            }
            sleep(POLL).await;
        }
    }

    /// Reads the blocks up to block `id` at `height`, which all nodes agree on.
    async fn follow(&mut self, node: &RpcClient, height: u64, id: BlockId) -> Result<(), String> {
        if self.chain.height() > height {
            self.chain = Chain::default();
        }
        for at in self.chain.height() + 1..=height {
            let block = node.chain_block(BlockSelector::Height(at)).await.map_err(|error| error.to_string())?;
            let block = block.ok_or_else(|| format!("the first node has no block at height {at}"))?;
            if self.chain.blocks.last().is_some_and(|last| *last != block.parent_id) {
                // A reorganisation went below what was read before.
                self.chain = Chain::default();
                return Err("the chain was reorganised while it was read".into());
            }
            self.chain.extend(block.block_id, block.slot, block.transactions);
        }
        if self.chain.blocks.last().is_some_and(|last| *last != id) {
            self.chain = Chain::default();
            return Err("the chain was reorganised while it was read".into());
        }
        Ok(())
    }
}

/// The highest block that all nodes could agree on, if they do: the one at the height of the node that is furthest behind.
///
/// # Errors
/// Who does not answer, or where the nodes are, in words.
pub(super) async fn common(nodes: &[RpcClient], names: &[String]) -> Result<(u64, BlockId), String> {
    let mut heads = Vec::with_capacity(nodes.len());
    for (node, name) in nodes.iter().zip(names) {
        heads.push(node.chain_head().await.map_err(|error| format!("{name} does not answer: {error}"))?);
    }
    let height = heads.iter().map(|head| head.height).min().unwrap_or(0);
    let mut ids = Vec::with_capacity(nodes.len());
    for ((node, name), head) in nodes.iter().zip(names).zip(&heads) {
        if head.height == height {
            ids.push(head.block_id);
        } else {
            let block = node.chain_block(BlockSelector::Height(height)).await;
            let block = block.map_err(|error| format!("{name} does not answer: {error}"))?;
            // Height 0 is the beginning, of which there is no block.
            ids.push(block.map_or(heads[0].block_id, |block| block.block_id));
        }
    }
    let behind = heads.iter().map(|head| head.height).max().unwrap_or(0) - height;
    if ids.windows(2).all(|pair| pair[0] == pair[1]) && (height > 0 || behind == 0) && behind <= BEHIND_MAX {
        return Ok((height, ids[0]));
    }
    let heads: Vec<String> = names
        .iter()
        .zip(&heads)
        .map(|(name, head)| format!("{name} at {} ({})", head.height, short(&head.block_id)))
        .collect();
    Err(format!("the nodes are not on one chain: {}", heads.join(", ")))
}

/// How far a node may be behind another when they are said to agree: blocks that are just being made.
const BEHIND_MAX: u64 = 3;

fn short(id: &BlockId) -> String {
    let mut text = id.to_string();
    text.truncate(8);
    text
}

/// The canonical chain in a stopped node's data directory, every block decoded and its place checked.
///
/// # Errors
/// What is wrong with it, in words.
pub(super) fn stored_chain(datadir: &Path, genesis: &Genesis) -> Result<Chain, String> {
    let path = DataDir::store_file(datadir);
    let store = Store::open(&path, genesis.network_id()).map_err(|error| error.to_string())?;
    let blocks = store.recent_canonical(u64::MAX).map_err(|error| error.to_string())?;
    let mut chain = Chain::default();
    let mut parent = genesis.block_id();
    for stored in blocks {
        let height = chain.height() + 1;
        let odd = |problem: String| format!("{} at height {height}: {problem}", path.display());
        let stored = stored.map_err(|error| odd(error.to_string()))?;
        let block = Block::decode(stored.bytes, genesis).map_err(|error| odd(error.to_string()))?;
        let header = block.header();
        if block.id() != stored.id || header.height != height || header.parent != parent {
            return Err(odd(format!("block {} does not follow on {parent}", stored.id)));
        }
        parent = block.id();
        chain.extend(parent, header.slot, block.transactions().iter().map(|transaction| transaction.id()));
    }
    let head = store.head().map_err(|error| error.to_string())?;
    let head = head.map_or((0, genesis.block_id()), |head| (head.height, head.id));
    if head != (chain.height(), parent) {
        return Err(format!(
            "{}: the head is block {} at height {}, and the canonical chain ends with {parent} at {}",
            path.display(),
            head.1,
            head.0,
            chain.height()
        ));
    }
    Ok(chain)
}

#[cfg(test)]
mod tests {
    use starling_crypto::Digest;

    use super::*;

    fn id(number: u8) -> TransactionId {
        TransactionId(Digest([number; 32]))
    }

    fn accepted(number: u8, expiry_slot: u64) -> Accepted {
        Accepted { id: id(number), node: 0, at_us: 0, round: 7, expiry_slot }
    }

    fn chain(blocks: &[(u64, &[u8])]) -> Chain {
        let mut chain = Chain::default();
        for (slot, transactions) in blocks {
            let block = BlockId(Digest([u8::try_from(*slot).expect("small"); 32]));
            chain.extend(block, *slot, transactions.iter().map(|number| id(*number)));
        }
        chain
    }

    #[test]
    fn a_chain_that_keeps_its_promises_has_no_findings() {
        let chain = chain(&[(1, &[1, 2]), (4, &[3])]);
        assert_eq!(chain.findings(&[accepted(1, 9), accepted(3, 4)], &["n0".into()]), [""; 0]);
        assert_eq!((chain.height(), chain.transactions()), (2, 3));
    }

    #[test]
    fn every_broken_promise_is_named() {
        let names = ["n0".to_owned()];
        let chain = chain(&[(1, &[1, 2]), (4, &[2, 3])]);
        let [missing, twice, late] = &chain.findings(&[accepted(9, 9), accepted(3, 3)], &names)[..] else {
            panic!("three findings")
        };
        assert!(missing.contains("1 of 2") && missing.contains("by n0 in round 7"), "{missing}");
        assert!(missing.contains(&id(9).to_string()) && !missing.contains(&id(3).to_string()), "{missing}");
        assert!(twice.contains(&id(2).to_string()) && twice.contains("[1, 4]"), "{twice}");
        assert!(late.contains(&id(3).to_string()) && late.contains("good until slot 3"), "{late}");
    }
}
