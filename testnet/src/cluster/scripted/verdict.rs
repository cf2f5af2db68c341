//! What is wrong at the end of a run: the same questions that are asked of a simulation.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use starling_node::api::{BlockSelector, TransactionStatus};
use tokio::time::sleep;

use super::stage::{Phase, Stage};
use super::{JUDGED, deliveries};
use crate::measure::Window;
use crate::sim::heads::Heads;
use crate::sim::run::lost_in_words;

/// Nodes are asked one after the other, and a block may come meanwhile: how often they are asked again before that counts, and how long after.
const ATTEMPTS: u32 = 10;
const PAUSE: Duration = Duration::from_millis(150);

/// Whether all nodes agree about the chain, and everything that is wrong.
pub(super) async fn findings(stage: &mut Stage, window: &Window) -> (bool, Vec<String>) {
    let mut heads = disagreement(stage).await;
    for _ in 1..ATTEMPTS {
        if heads.is_empty() {
            break;
        }
        sleep(PAUSE).await;
        heads = disagreement(stage).await;
    }
    stage.settle().await;
    let one_chain = heads.is_empty();
    let mut findings = heads;
    if let Err(error) = stage.look().await {
        findings.push(error.to_string());
    }
    findings.extend(lost_transactions(stage, window).await);
    let lost = (0..stage.phases.len()).filter(|node| stage.phases[*node] == Phase::Lost);
    let lost: Vec<usize> = lost.collect();
    for node in lost {
        let how = stage.fleet.ended(node).map_or_else(|| "unknown".to_owned(), |status| status.to_string());
        let (name, log) = (&stage.plan.nodes[node].name, stage.plan.nodes[node].log.display());
        findings.push(format!("node {name} ended during the run although nothing ended it ({how}); see {log}"));
    }
    (one_chain, findings)
}

/// All nodes that run have to have the same head, but for the last block, which may be on its way.
pub(super) async fn disagreement(stage: &Stage) -> Vec<String> {
    let mut findings = Vec::new();
    let mut heads = Vec::new();
    for (node, rpc) in stage.rpcs.iter().enumerate().filter(|(node, _)| stage.phases[*node] == Phase::Up) {
        match rpc.chain_head().await {
            Ok(head) => heads.push((head.height, head.block_id, rpc)),
            Err(error) => findings.push(format!("{} does not tell its head: {error}", stage.plan.nodes[node].name)),
        }
    }
    let highest = heads.iter().map(|(height, ..)| *height).max();
    let top: BTreeMap<_, _> =
        heads.iter().filter(|(height, ..)| Some(*height) == highest).map(|(_, id, rpc)| (*id, rpc)).collect();
    let mut parents = BTreeSet::new();
    for (id, rpc) in top {
        if let Ok(Some(block)) = rpc.chain_block(BlockSelector::Id(id)).await {
            parents.insert(block.parent_id);
        }
    }
    let heads: Vec<_> = heads.into_iter().map(|(height, id, _)| (height, id)).collect();
    findings.extend(Heads::new(&heads, |id| parents.contains(id)).findings());
    findings
}

/// Every node that ran has to have got every transaction over the mesh, or has to have it now.
async fn lost_transactions(stage: &Stage, window: &Window) -> Option<String> {
    let deliveries = deliveries(&stage.recorder, window, stage.absences.clone());
    let mut lost: BTreeMap<usize, usize> = BTreeMap::new();
    let mut transactions = BTreeSet::new();
    for (message, node, _) in deliveries.missing().filter(|(message, ..)| message.class == JUDGED) {
        if stage.phases[node] != Phase::Up {
            continue;
        }
        let has = match stage.published.get(&message.id.to_string()) {
            // It was published, but whoever did so has not said under which name.
            None => false,
            Some(id) => {
                let status = stage.rpcs[node].tx_get(id).await.map(|reply| reply.status);
                matches!(status, Ok(TransactionStatus::Pending | TransactionStatus::Included { .. }))
            }
        };
        if !has {
            *lost.entry(node).or_default() += 1;
            transactions.insert(message.id);
        }
    }
    let all: usize = lost.values().sum();
    let named: Vec<&str> = lost.keys().map(|node| &*stage.plan.nodes[*node].name).collect();
    (all > 0).then(|| {
        let named = named.join(", ");
        format!("{}: {named} lack some", lost_in_words(all as u64, transactions.len() as u64))
    })
}
