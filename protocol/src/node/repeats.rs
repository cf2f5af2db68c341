//! Sending our own transactions again while they wait.
//!
//! A message is pushed once and announced for some seconds. A transaction that is submitted while the node is cut off,
//! or has no peers yet, would stay where it is until it expires. So the node that it was submitted to sends it again.
//!
//! # Rules
//! 1. Only transactions that were submitted here are repeated, while they wait in the mempool. *Rationale:* whoever
//!    submitted it relies on this node; if every node repeated everything, a backlog would become a flood.
//! 2. The first time after [`FIRST_WAIT_SLOTS`], then after twice as many slots each time; what is due while there is
//!    nobody to send it to stays due. In a network that includes transactions within a few slots nothing is ever
//!    repeated.
//! 3. At most [`REPEATS_PER_SLOT`] a slot, those that are due for longest first; at most [`REPEATS_MAX`] are
//!    remembered, and those submitted beyond that are not repeated.

use super::Node;
use super::io::Output;
use crate::id::TransactionId;
use crate::mesh::{self, Sink};
use crate::message::Payload;
use crate::time::Time;
use std::collections::BTreeMap;

/// How many slots a transaction waits before it is sent again. A guess: blocks that follow the submission at once are
/// made without it only if something is wrong.
const FIRST_WAIT_SLOTS: u64 = 4;
/// How many transactions are sent again at the beginning of a slot. A guess: a burst that no link notices.
const REPEATS_PER_SLOT: usize = 16;
/// How many transactions are remembered for sending again. A guess: a quarter of the mempool.
pub(super) const REPEATS_MAX: usize = 4_096;

/// When to send what again.
#[derive(Debug, Default)]
pub(super) struct Repeats {
    /// By the slot in which it is due; with how many slots it will have waited then.
    due: BTreeMap<(u64, TransactionId), u64>,
}

impl Repeats {
    /// Remembers a transaction that was submitted in `slot`.
    pub(super) fn submitted(&mut self, slot: u64, id: TransactionId) {
        if self.due.len() < REPEATS_MAX {
            self.due.insert((slot.saturating_add(FIRST_WAIT_SLOTS), id), FIRST_WAIT_SLOTS);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.due.len()
    }
}

impl Node {
    /// Sends again what is due in `slot`.
    pub(super) fn repeat_transactions(&mut self, now: Time, slot: u64, out: &mut impl Sink<Output>) {
        if self.mesh.topic_peers(self.genesis.transaction_topic()) == 0 {
            return;
        }
        for _ in 0..REPEATS_PER_SLOT {
            let Some(first) = self.repeats.due.first_entry().filter(|first| first.key().0 <= slot) else { return };
            let ((_, id), waited) = first.remove_entry();
            let Some(transaction) = self.mempool.get(&id) else { continue };
            let payload = Payload::new(self.genesis.transaction_topic(), transaction.bytes());
            self.repeats.due.insert((slot.saturating_add(waited.saturating_mul(2)), id), waited.saturating_mul(2));
            self.mesh_input(now, mesh::Input::Repeat { payload }, out);
        }
    }
}
