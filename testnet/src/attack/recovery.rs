//! How a network recovers: one that was divided, and nodes that were started again among attackers.
//!
//! - *One head*: all nodes that run have the same head at the same moment. A block on its way makes that untrue for a tenth of a second, so
//!   the first moment counts.
//! - *Pending*: transactions that any node held as pending between the end of the division and the one head, those among them that
//!   were in blocks which are not in the chain any more. Each has to be in the chain or pending at every node.
//! - *Caught up*: a node that was down, and has missed blocks, has as long a chain as any honest node had when it came back.
//! - *Eclipsed*: of a node's links in the mesh of transactions none leads to an honest node, half a minute after its start, and two minutes after it.

use super::look::is_honest;
use crate::sim::World;
use serde::{Deserialize, Serialize};
use starling_protocol::id::TransactionId;
use starling_protocol::node::TransactionStatus;
use starling_protocol::time::{Duration, Time};
use std::collections::BTreeSet;

/// How long after its start a node is looked at.
const SETTLED: Duration = Duration::from_secs(30);
/// And how long after it once more, if it is not started again before: by then those that bring nothing should have been found out.
const FOUND_OUT: Duration = Duration::from_secs(120);

/// What became of a network that was divided, or of nodes that were started again.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Recovery {
    /// Seconds from the healing until all nodes had the same head; none if they never had.
    pub head_s: Option<f64>,
    /// Slots from then on until no node missed a pending transaction; none if one missed one to the end.
    pub pending_slots: Option<f64>,
    /// How many transactions were pending.
    pub pending: u64,
    /// Different heads in the end, those not counted that are one block behind another.
    pub heads: u64,
    /// The lowest head in the end, where heads are looked at.
    pub height: u64,
    /// Slots of the run, where heads are looked at.
    pub slots: u64,
    /// Starts that were looked at.
    pub restarts: u64,
    /// Of these, how many left a node without an honest peer in its mesh half a minute later.
    pub eclipsed: u64,
    /// Starts after which the node was up for two minutes.
    pub restarts_long: u64,
    /// Of these, how many left a node without an honest peer in its mesh then.
    pub eclipsed_long: u64,
    /// Nodes that came back and had missed blocks.
    pub came_back: u64,
    /// Of these, how many caught up.
    pub caught_up: u64,
    /// Seconds that the last of them took for it.
    pub caught_up_s: f64,
}

impl Recovery {
    pub(super) fn add(&mut self, other: &Self) {
        self.restarts += other.restarts;
        self.eclipsed += other.eclipsed;
        self.restarts_long += other.restarts_long;
        self.eclipsed_long += other.eclipsed_long;
        self.heads = self.heads.max(other.heads);
        (self.height, self.slots) = (self.height + other.height, self.slots + other.slots);
        self.came_back += other.came_back;
        self.caught_up += other.caught_up;
        self.caught_up_s = self.caught_up_s.max(other.caught_up_s);
    }
}

/// A network that was divided and is one again.
#[derive(Debug)]
pub(super) struct Healing {
    healed: Time,
    pending: Option<BTreeSet<TransactionId>>,
    one_head: Option<Time>,
    /// Who misses what, once there is one head.
    missing: BTreeSet<(u32, TransactionId)>,
    nothing_missing: Option<Time>,
    slot: Duration,
}

impl Healing {
    pub(super) fn new(healed: Time) -> Self {
        Self {
            healed,
            pending: None,
            one_head: None,
            missing: BTreeSet::new(),
            nothing_missing: None,
            slot: Duration::ZERO,
        }
    }

    pub(super) fn at(&mut self, world: &World, now: Time) {
        if now < self.healed || self.nothing_missing.is_some() {
            return;
        }
        self.slot = world.scenario().slot;
        if self.pending.is_none() {
            self.pending = Some(pending(world, self.healed));
        }
        if self.one_head.is_none() && is_one(world) {
            self.one_head = Some(now);
            let mut all = self.pending.take().unwrap_or_default();
            all.extend(pending(world, self.healed));
            let missing = world.running().flat_map(|(number, _)| all.iter().map(move |id| (number, *id)));
            self.missing = missing.collect();
            self.pending = Some(all);
        }
        if self.one_head.is_some() {
            self.missing.retain(|(number, id)| !world.has_transaction(*number, id));
            if self.missing.is_empty() {
                self.nothing_missing = Some(now);
            }
        }
    }

    pub(super) fn finish(self) -> Recovery {
        let since = |from: Time, until: Option<Time>| until.map(|until| until.since(from).as_secs_f64());
        let pending_s = self.one_head.and_then(|one_head| since(one_head, self.nothing_missing));
        Recovery {
            head_s: since(self.healed, self.one_head),
            pending_slots: pending_s.map(|pending_s| pending_s / self.slot.as_secs_f64()),
            pending: self.pending.map_or(0, |pending| pending.len() as u64),
            ..Recovery::default()
        }
    }
}

fn is_one(world: &World) -> bool {
    let mut heads = world.nodes().map(|node| node.chain().head().id);
    let first = heads.next();
    heads.all(|head| Some(head) == first)
}

/// Transactions that were published before this moment and that any node holds as pending.
fn pending(world: &World, before: Time) -> BTreeSet<TransactionId> {
    let published = world.observer().messages().iter().filter(|message| message.published < before);
    let transactions = published.filter_map(|message| message.transaction);
    let waits =
        |id: &TransactionId| world.nodes().any(|node| node.transaction_status(id) == TransactionStatus::Pending);
    transactions.filter(waits).collect()
}

/// Nodes that are started again.
#[derive(Debug)]
pub(super) struct Restarts {
    /// When who is to be looked at, so long after its start; the next one last.
    due: Vec<(Time, u32, Duration)>,
    found: Recovery,
}

impl Restarts {
    /// Within a run that ends then.
    pub(super) fn new(restarts: &[(u32, Time)], end: Time) -> Self {
        let again = |node: u32, from: Time, to: Time| {
            restarts.iter().any(|(other, at)| *other == node && (from < *at && *at <= to))
        };
        let looks = |(node, at): &(u32, Time)| [SETTLED, FOUND_OUT].map(|age| (*at + age, *node, age));
        let looks = restarts.iter().flat_map(looks);
        let mut due: Vec<_> = looks.filter(|(at, node, age)| *at <= end && !again(*node, *at - *age, *at)).collect();
        due.sort_unstable_by(|a, b| b.cmp(a));
        Self { due, found: Recovery::default() }
    }

    pub(super) fn at(&mut self, world: &World, now: Time) {
        while let Some((_, number, age)) = self.due.pop_if(|(at, ..)| *at <= now) {
            let node = world.running().find(|(running, _)| *running == number);
            let honest = node.is_some_and(|(_, node)| {
                let mesh = node.mesh().mesh_peers(node.genesis().transaction_topic());
                mesh.iter().any(|peer| is_honest(world, node, *peer))
            });
            let found = &mut self.found;
            let (restarts, eclipsed) = match age {
                SETTLED => (&mut found.restarts, &mut found.eclipsed),
                _ => (&mut found.restarts_long, &mut found.eclipsed_long),
            };
            *restarts += 1;
            *eclipsed += u64::from(!honest);
        }
    }

    pub(super) fn finish(self) -> Recovery {
        assert!(self.due.is_empty(), "a restart that was not looked at");
        self.found
    }
}

/// Nodes that come back and have missed blocks.
#[derive(Debug)]
pub(super) struct Returns {
    /// When who comes back.
    due: Vec<(Time, u32)>,
    /// Who is back since when, and the height that it has to reach.
    behind: Vec<(Time, u32, u64)>,
    found: Recovery,
}

impl Returns {
    pub(super) fn new(returns: &[(u32, Time)]) -> Self {
        let due = returns.iter().map(|(node, at)| (*at, *node)).collect();
        Self { due, behind: Vec::new(), found: Recovery::default() }
    }

    pub(super) fn at(&mut self, world: &World, now: Time) {
        let highest = world.nodes().map(|node| node.chain().head().height).max().unwrap_or(0);
        let height_of = |number: u32| {
            let node = world.running().find(|(running, _)| *running == number);
            node.map_or(0, |(_, node)| node.chain().head().height)
        };
        for (at, node) in self.due.extract_if(.., |(at, _)| *at <= now) {
            if height_of(node) < highest {
                self.found.came_back += 1;
                self.behind.push((at, node, highest));
            }
        }
        for (since, ..) in self.behind.extract_if(.., |(_, node, goal)| height_of(*node) >= *goal) {
            self.found.caught_up += 1;
            self.found.caught_up_s = self.found.caught_up_s.max(now.since(since).as_secs_f64());
        }
    }

    pub(super) fn finish(self) -> Recovery {
        assert!(self.due.is_empty(), "a node that never came back");
        self.found
    }
}
