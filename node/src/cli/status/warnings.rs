//! What in a node's answers an operator should look at, and what to do about it.

use super::Status;
use super::{FREE_BYTES_LITTLE, FREE_BYTES_MIN, format};
use crate::api::{ClockState, WaitReason};
use serde::Serialize;

/// Below this share of outbound links, strangers chose most of the node's neighbours. The node aims at three in ten.
const OUTBOUND_PERCENT_MIN: u64 = 25;

/// With fewer peers than this the share of outbound links says nothing.
const PEERS_FOR_SHARE: u64 = 8;

/// A node is given this long to find its place before its absence is worth a warning.
const SETTLING_S: u64 = 60;

/// So many slots without a block are a silence: with producers that take turns, several are down, or the node is cut off.
const SILENT_SLOTS: u64 = 10;

/// For so long it is told that another node has signed with the producer key. Whoever has stopped it need not see that for ever.
const ELSEWHERE_S: u64 = 3_600;

/// From this share on, the mempool counts as full.
const FULL_PERCENT: u64 = 90;

/// Something that an operator should look at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(in crate::cli) struct Warning {
    /// How bad it is.
    pub(in crate::cli) severity: Severity,
    /// What is the matter.
    pub(in crate::cli) what: String,
    /// What to do.
    pub(in crate::cli) remedy: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::cli) enum Severity {
    /// The node does not do what it is for.
    Bad,
    /// It may stop doing so.
    Warn,
}

/// All warnings, the worst first.
pub(in crate::cli) fn warnings(status: &Status) -> Vec<Warning> {
    let mut found = Vec::new();
    let mut add = |severity, what: String, remedy: &str| {
        found.push(Warning { severity, what, remedy: remedy.to_owned() });
    };
    // What the node says itself in its state, with what to do, is not said again.
    let told = |reason| status.ready.reasons.contains(&reason);
    let (node, net, head, pool) = (&status.node, &status.net, &status.head, &status.mempool);
    let (inbound, outbound) = (u64::from(net.peers_inbound), u64::from(net.peers_outbound));
    let (peers, settled) = (inbound + outbound, node.uptime_s >= SETTLING_S);
    if let ClockState::Stepped { by_ms } = status.ready.clock {
        let direction = if by_ms < 0 { "back" } else { "forward" };
        #[expect(clippy::cast_precision_loss, reason = "for people")]
        let seconds = by_ms.unsigned_abs() as f64 / 1_000.0;
        add(
            Severity::Warn,
            format!("this machine's clock was set {seconds:.1} s {direction} within the last quarter of an hour"),
            "check that it is right now, and let NTP keep it; a laptop that slept does the same",
        );
    }
    let elsewhere = node.producer_elsewhere_slot.map(|slot| node.slot_now.saturating_sub(slot));
    if let Some(slots) = elsewhere.filter(|slots| slots.saturating_mul(node.slot_ms) <= ELSEWHERE_S * 1_000) {
        add(
            Severity::Bad,
            format!(
                "another node signs blocks with this node's producer key, last {} ago",
                format::counted(slots, "slot")
            ),
            "stop one of the two at once: two blocks of one producer for one slot are proof of misbehaviour",
        );
    }
    if peers == 0 && settled && !told(WaitReason::NoPeers) {
        add(
            Severity::Bad,
            "no peers".into(),
            "give --bootnodes that run, and let the firewall pass outgoing connections; `starling doctor` checks more",
        );
    }
    if settled && peers >= PEERS_FOR_SHARE && outbound * 100 < peers * OUTBOUND_PERCENT_MIN {
        add(
            Severity::Warn,
            format!(
                "only {} of the links ({outbound} of {peers}) are of this node's choosing",
                format::percent(outbound, peers)
            ),
            "strangers could surround it; let the firewall pass outgoing connections, give more --bootnodes",
        );
    }
    for topic in &net.topics {
        let enough = topic.mesh_degree_low.min(topic.peers_subscribed);
        if settled && peers > 0 && topic.mesh_degree < enough && !told(WaitReason::Mesh) {
            add(
                Severity::Warn,
                format!("only {} of {enough} links in the mesh of {}s", topic.mesh_degree, topic.class.name()),
                "`starling peers` shows whose scores are low; more peers (--target-peers) help",
            );
        }
    }
    let silence = head.slot_now.saturating_sub(head.slot);
    let explained = told(WaitReason::Isolated) || told(WaitReason::Chain) || told(WaitReason::NoPeers);
    if silence >= SILENT_SLOTS && settled && !explained {
        add(
            Severity::Bad,
            format!("no new block for {silence} slots"),
            "if another node's status shows newer ones, check this node's peers and clock; else the producers",
        );
    }
    if head.slot > head.slot_now && !told(WaitReason::Clock) {
        add(
            Severity::Bad,
            format!(
                "the head's slot lies {} ahead of this machine's clock",
                format::counted(head.slot - head.slot_now, "slot")
            ),
            "set the clock, and let NTP keep it",
        );
    }
    let full =
        |part: u64, whole: u64| whole > 0 && u128::from(part) * 100 >= u128::from(whole) * u128::from(FULL_PERCENT);
    if full(pool.transactions, pool.transactions_max) || full(pool.held_bytes, pool.held_bytes_max) {
        add(
            Severity::Warn,
            "the mempool is nearly full".into(),
            "more is submitted than the producers include: submit more slowly, or expect refusals",
        );
    }
    // A disk that fails has said so, with what to do.
    if let Some(free) =
        status.ready.disk.free_bytes.filter(|free| *free < FREE_BYTES_LITTLE && !told(WaitReason::Storage))
    {
        add(
            if free < FREE_BYTES_MIN { Severity::Bad } else { Severity::Warn },
            format!("only {} are free on the disk", format::bytes(free)),
            "make room, or keep fewer blocks with --keep-blocks or --keep-bytes; without room nothing can be stored",
        );
    }
    let disk = &status.ready.disk;
    if let Some((keep, kept)) = disk.keep_bytes.zip(disk.kept_bytes).filter(|(keep, kept)| kept > keep) {
        add(
            Severity::Warn,
            format!("the blocks take {}, and should take {}", format::bytes(kept), format::bytes(keep)),
            "wait while old ones are removed; if it stays, those needed for a restart take more: raise --keep-bytes",
        );
    }
    if peers >= u64::from(net.peers_max) && net.peers_max > 0 {
        add(
            Severity::Warn,
            format!("all {peers} places for peers are taken"),
            "raise --max-peers if memory and bandwidth allow",
        );
    }
    found.sort_by_key(|warning| warning.severity);
    found
}
