//! The transactions that were submitted here: each is on the disk before its submission is acknowledged, and is offered
//! to the network until it stands in a block for good or has expired.
//!
//! # Rules
//! 1. A transaction enters by `OwnTransactions::insert` when the disk has confirmed its row, or after a restart from
//!    its row. It leaves when it is *settled*: included in a block that cannot be undone, or expired both by the clock
//!    and by the chain. `OwnTransactions` then names the rows to be removed. *Rationale for both:* a clock that jumps
//!    ahead must not cost anybody a transaction, and a chain that stands still includes none.
//! 2. What waits is sent again: the first time after `FIRST_WAIT_SLOTS`, then after twice as many slots each time;
//!    what was found on the disk at the start, at once. What is due while there is nobody to send it to stays due. In a
//!    network that includes transactions within a few slots nothing is ever repeated. *Rationale:* a message is pushed
//!    once and announced for some seconds. A transaction that is submitted while the node is cut off, or has no peers
//!    yet, would stay where it is; whoever submitted it relies on this node. If every node repeated everything, a
//!    backlog would become a flood.
//! 3. At most `REPEATS_PER_SLOT` a slot, of `REPEAT_BYTES_PER_SLOT` bytes (though always one), those that are due for
//!    longest first, and in the order of submission among those.
//! 4. A transaction that lost its place in the mempool to others is put back when it is due.
//! 5. At most [`OWN_TRANSACTIONS_MAX`] transactions of [`OWN_BYTES_MAX`] bytes. Where room is lacking, what was included
//!    longest ago goes first: nearly settled. When only waiting ones are left, a new one is refused.
//!
//! An included transaction costs no more than its id: should its block be undone, that block has it.
//!
//! # Cost
//! Everything takes O(log n), and a change of the head that for each transaction in it.

use super::Node;
use super::io::Output;
use crate::block::Block;
use crate::id::TransactionId;
use crate::mempool::Source;
use crate::mesh::{self, Sink};
use crate::message::Payload;
use crate::time::Time;
use crate::transaction::Transaction;
use std::collections::{BTreeMap, BTreeSet};

/// The most rows on the disk. A guess: ten minutes of a hundred transactions a second.
pub const OWN_TRANSACTIONS_MAX: usize = 65_536;
/// The most bytes of transactions in these rows. A guess.
pub const OWN_BYTES_MAX: usize = 64 << 20;
/// How many slots a transaction waits before it is sent again. A guess: blocks that follow the submission at once are
/// made without it only if something is wrong.
const FIRST_WAIT_SLOTS: u64 = 4;
/// How many transactions are sent again at the beginning of a slot. A guess: what a node that was away for half a minute
/// finds on its disk is gone within some slots.
const REPEATS_PER_SLOT: usize = 128;
/// How many bytes of transactions are sent again at the beginning of a slot. A guess: a burst that no link notices.
const REPEAT_BYTES_PER_SLOT: usize = 256 << 10;

/// The transactions that were submitted here and are not settled.
#[derive(Debug, Default)]
pub(super) struct OwnTransactions {
    entries: BTreeMap<TransactionId, Entry>,
    /// Bytes of all of them, included ones too: their rows are still there.
    bytes: usize,
    waiting: usize,
    waiting_bytes: usize,
    by_expiry: BTreeSet<(u64, TransactionId)>,
    /// By the height of the canonical block that they stand in.
    included: BTreeSet<(u64, TransactionId)>,
    /// By the slot in which they are due, in the order of submission.
    due: BTreeSet<(u64, u64, TransactionId)>,
    /// Numbers the submissions.
    order: u64,
}

#[derive(Debug)]
struct Entry {
    expiry_slot: u64,
    bytes: usize,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Not in the canonical chain. `waits` is how many slots it will have waited when it is due.
    Waiting { transaction: Transaction, due: u64, order: u64, waits: u64 },
    /// In the canonical block of this height.
    Included { height: u64 },
}

impl OwnTransactions {
    /// Whether there is room for `count` more of so many bytes, if those that are included make room.
    pub(super) fn has_room(&self, count: usize, bytes: usize) -> bool {
        self.waiting.saturating_add(count) <= OWN_TRANSACTIONS_MAX
            && self.waiting_bytes.saturating_add(bytes) <= OWN_BYTES_MAX
    }

    /// Takes in a transaction whose row is on the disk, due after so many slots; `height` says where it is included, if
    /// it is. Returns what had to make room.
    pub(super) fn insert(
        &mut self,
        slot: u64,
        waits: u64,
        transaction: &Transaction,
        height: Option<u64>,
    ) -> Vec<TransactionId> {
        let (id, bytes) = (transaction.id(), transaction.encoded_len());
        if self.entries.contains_key(&id) {
            return Vec::new();
        }
        self.order += 1;
        let state = match height {
            Some(height) => State::Included { height },
            None => State::Waiting {
                transaction: transaction.detached(),
                due: slot.saturating_add(waits),
                order: self.order,
                waits,
            },
        };
        self.bytes += bytes;
        self.by_expiry.insert((transaction.expiry_slot(), id));
        self.entries.insert(id, Entry { expiry_slot: transaction.expiry_slot(), bytes, state });
        self.index(&id);
        let mut evicted = Vec::new();
        while self.entries.len() > OWN_TRANSACTIONS_MAX || self.bytes > OWN_BYTES_MAX {
            let Some((_, oldest)) = self.included.first().copied() else { break };
            self.remove(&oldest);
            evicted.push(oldest);
        }
        evicted
    }

    pub(super) fn contains(&self, id: &TransactionId) -> bool {
        self.entries.contains_key(id)
    }

    /// Follows a change of the canonical chain; names the transactions that are settled because they stand at or below
    /// the height of the last block that cannot be undone.
    pub(super) fn on_head_changed(
        &mut self,
        slot: u64,
        undone: &[Block],
        adopted: &[Block],
        root_height: u64,
    ) -> Vec<TransactionId> {
        for transaction in undone.iter().flat_map(Block::transactions) {
            if self.entries.contains_key(&transaction.id()) {
                self.order += 1;
                let (due, order) = (slot.saturating_add(FIRST_WAIT_SLOTS), self.order);
                let transaction = transaction.detached();
                let id = transaction.id();
                self.change(&id, State::Waiting { transaction, due, order, waits: FIRST_WAIT_SLOTS });
            }
        }
        for block in adopted {
            for transaction in block.transactions() {
                if self.entries.contains_key(&transaction.id()) {
                    self.change(&transaction.id(), State::Included { height: block.header().height });
                }
            }
        }
        let mut settled = Vec::new();
        while let Some((height, id)) = self.included.first().copied()
            && height <= root_height
        {
            self.remove(&id);
            settled.push(id);
        }
        settled
    }

    /// Names the transactions that can be included no more, neither by the clock nor by the chain, whose head is of
    /// `head_slot`.
    pub(super) fn expire(&mut self, slot: u64, head_slot: u64) -> Vec<TransactionId> {
        let mut expired = Vec::new();
        while let Some((expiry_slot, id)) = self.by_expiry.first().copied()
            && expiry_slot < slot.min(head_slot)
        {
            self.remove(&id);
            expired.push(id);
        }
        expired
    }

    /// Takes the next transaction that is due in `slot`, and plans its next turn.
    fn next_due(&mut self, slot: u64) -> Option<Transaction> {
        let (_, _, id) = self.due.first().filter(|(due, ..)| *due <= slot).copied()?;
        let State::Waiting { transaction, order, waits, .. } = &self.entries.get(&id)?.state else { return None };
        let (transaction, order, waits) = (transaction.clone(), *order, waits.saturating_mul(2).max(FIRST_WAIT_SLOTS));
        let due = slot.saturating_add(waits);
        self.change(&id, State::Waiting { transaction: transaction.clone(), due, order, waits });
        Some(transaction)
    }

    /// Rows on the disk, and bytes of transactions in them.
    pub(super) fn rows(&self) -> (usize, usize) {
        (self.entries.len(), self.bytes)
    }

    fn change(&mut self, id: &TransactionId, state: State) {
        self.unindex(id);
        if let Some(entry) = self.entries.get_mut(id) {
            entry.state = state;
        }
        self.index(id);
    }

    fn remove(&mut self, id: &TransactionId) {
        self.unindex(id);
        if let Some(entry) = self.entries.remove(id) {
            self.bytes -= entry.bytes;
            self.by_expiry.remove(&(entry.expiry_slot, *id));
        }
    }

    fn index(&mut self, id: &TransactionId) {
        match self.entries.get(id).map(|entry| (&entry.state, entry.bytes)) {
            Some((State::Waiting { due, order, .. }, bytes)) => {
                self.due.insert((*due, *order, *id));
                self.waiting += 1;
                self.waiting_bytes += bytes;
            }
            Some((State::Included { height }, _)) => {
                self.included.insert((*height, *id));
            }
            None => {}
        }
    }

    fn unindex(&mut self, id: &TransactionId) {
        match self.entries.get(id).map(|entry| (&entry.state, entry.bytes)) {
            Some((State::Waiting { due, order, .. }, bytes)) => {
                self.due.remove(&(*due, *order, *id));
                self.waiting -= 1;
                self.waiting_bytes -= bytes;
            }
            Some((State::Included { height }, _)) => {
                self.included.remove(&(*height, *id));
            }
            None => {}
        }
    }

    pub(super) fn check(&self) {
        assert!(self.waiting <= OWN_TRANSACTIONS_MAX && self.waiting_bytes <= OWN_BYTES_MAX, "too much waits");
        assert!(self.entries.len() <= OWN_TRANSACTIONS_MAX && self.bytes <= OWN_BYTES_MAX, "too many rows");
        assert_eq!(self.bytes, self.entries.values().map(|entry| entry.bytes).sum::<usize>(), "bytes of rows");
        let by_expiry: BTreeSet<_> = self.entries.iter().map(|(id, entry)| (entry.expiry_slot, *id)).collect();
        assert_eq!(self.by_expiry, by_expiry, "the index by expiry");
        let (mut due, mut included, mut waiting_bytes) = (BTreeSet::new(), BTreeSet::new(), 0);
        for (id, entry) in &self.entries {
            match &entry.state {
                State::Waiting { due: slot, order, .. } => {
                    due.insert((*slot, *order, *id));
                    waiting_bytes += entry.bytes;
                }
                State::Included { height } => {
                    included.insert((*height, *id));
                }
            }
        }
        assert_eq!((due.len(), waiting_bytes), (self.waiting, self.waiting_bytes), "what waits");
        assert_eq!((&self.due, &self.included), (&due, &included), "the indexes by turn and by height");
    }
}

impl Node {
    /// Keeps a transaction whose row is on the disk; it has just been sent.
    pub(super) fn keep_own(&mut self, now: Time, transaction: &Transaction, out: &mut impl Sink<Output>) {
        let height = self.chain.transaction_location(&transaction.id()).map(|location| location.height);
        let evicted = self.own.insert(self.slot_or_zero(now), FIRST_WAIT_SLOTS, transaction, height);
        self.remove_rows(evicted, out);
    }

    /// Keeps a transaction that was found on the disk; it is due at once.
    pub(super) fn keep_own_again(&mut self, now: Time, transaction: &Transaction, out: &mut impl Sink<Output>) {
        let height = self.chain.transaction_location(&transaction.id()).map(|location| location.height);
        let evicted = self.own.insert(self.slot_or_zero(now), 0, transaction, height);
        self.remove_rows(evicted, out);
    }

    /// Sends again what is due in `slot`.
    pub(super) fn repeat_transactions(&mut self, now: Time, slot: u64, out: &mut impl Sink<Output>) {
        let expired = self.own.expire(slot, self.chain.head().slot);
        self.remove_rows(expired, out);
        if self.mesh.topic_peers(self.genesis.transaction_topic()) == 0 {
            return;
        }
        let mut bytes = 0_usize;
        for _ in 0..REPEATS_PER_SLOT {
            if bytes >= REPEAT_BYTES_PER_SLOT {
                return;
            }
            let Some(transaction) = self.own.next_due(slot) else { return };
            let id = transaction.id();
            let is_here = self.mempool.get(&id).is_some();
            if !is_here && self.insert(now, transaction.clone(), Source::Local).is_err() {
                continue;
            }
            bytes = bytes.saturating_add(transaction.encoded_len());
            let topic = self.genesis.transaction_topic();
            let payload = self.mempool.message(&id, |transaction| Payload::new(topic, transaction.bytes()));
            let Some(payload) = payload else { continue };
            self.mesh_input(now, mesh::Input::Repeat { payload }, out);
        }
    }
}
