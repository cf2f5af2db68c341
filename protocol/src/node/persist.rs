//! What has to be on the disk, and what follows when it is or cannot be.
//!
//! # Three kinds of promises
//! - **Submissions** wait for the disk: a transaction is published, and its submission answered, when its row is
//!   durable. Until then it is *in flight*: nobody else gets its nonce, and the same transaction submitted again waits
//!   for the same row. If the row could not be stored, the submission is refused, and nothing of it is left: it was
//!   neither sent nor in the mempool, and its nonce is free.
//! - **Turns of the producer** wait for the disk too, but ahead of time: while a slot lasts, the producer has its right
//!   to sign in the next one recorded. So neither a kill nor a clock that is set back makes two blocks for one slot, and
//!   no block is late for the sake of it. What was recorded and not used is lost with a restart: a slot without a block.
//! - **Everything else** (blocks, the index, rows to be removed) does not wait. A batch that could not be stored is kept
//!   and emitted again when the store is back, in the old order, so that the chain on disk catches up without a gap.
//!
//! # While nothing can be stored
//! Submissions are refused at once, and no block is made; relaying goes on, and the chain in memory grows, for as long
//! as what waits is within [`UNSAVED_BLOCKS_MAX`] and [`UNSAVED_BYTES_MAX`]. Beyond, blocks are still relayed but not
//! adopted: a node that cannot keep what it adopts stops at what it can hold, and fetches the rest when it has recovered.
//!
//! # Limits
//! At most [`IN_FLIGHT_MAX`] submissions wait for the disk, and [`WAITERS_MAX`] for one transaction.

use super::io::{Event, Output, SubmitError, Submitted};
use super::{Node, Ticket};
use crate::id::TransactionId;
use crate::mempool::{Account, Candidate, MempoolError, Source};
use crate::mesh::{self, Sink};
use crate::message::Payload;
use crate::store::{Batch, StoreOp, batch_bytes};
use crate::time::Time;
use crate::transaction::Transaction;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Blocks that may wait to be stored before no more are adopted. A guess: twice what can be undone.
pub const UNSAVED_BLOCKS_MAX: usize = 512;
/// Bytes that may wait to be stored before no more blocks are adopted. A guess: half of what the chain may hold in
/// memory anyway, which most of it is.
pub const UNSAVED_BYTES_MAX: usize = 64 << 20;
/// Submissions that may wait for the disk. A guess: a second's on a disk that takes half of that for a flush.
pub const IN_FLIGHT_MAX: usize = 1_024;
/// Submissions of one transaction that may wait for its row.
pub const WAITERS_MAX: usize = 16;

/// What was emitted to be stored and has not been answered, or has to be emitted again.
#[derive(Debug, Default)]
pub(super) struct Persistence {
    failing: bool,
    unsaved: VecDeque<Unsaved>,
    unsaved_blocks: usize,
    unsaved_bytes: usize,
    in_flight: BTreeMap<TransactionId, InFlight>,
    in_flight_bytes: usize,
    /// Which transaction each batch of a submission is for.
    rows: BTreeMap<Ticket, TransactionId>,
    /// The nonces of what is in flight.
    reserved: BTreeSet<(Account, u64)>,
}

#[derive(Debug)]
struct Unsaved {
    /// None after it was answered as not stored.
    ticket: Option<Ticket>,
    batch: Batch,
    blocks: usize,
    bytes: usize,
}

#[derive(Debug)]
struct InFlight {
    transaction: Transaction,
    waiters: Vec<Ticket>,
}

/// How the machine stands with its disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StorageView {
    /// Whether a batch could not be stored and the store is not back.
    pub failing: bool,
    /// Blocks that are not known to be on the disk.
    pub unsaved_blocks: usize,
    /// Bytes that are not known to be on the disk.
    pub unsaved_bytes: usize,
    /// Whether so much waits that no more blocks are adopted.
    pub import_paused: bool,
    /// Submitted transactions on the disk that are not settled.
    pub pending_rows: usize,
    /// Bytes of these transactions.
    pub pending_bytes: usize,
    /// Submissions that wait for the disk.
    pub in_flight: usize,
}

impl Node {
    /// How the node stands with its disk.
    #[must_use]
    pub fn storage(&self) -> StorageView {
        let Persistence { failing, unsaved_blocks, unsaved_bytes, .. } = self.persistence;
        let (pending_rows, pending_bytes) = self.own.rows();
        let import_paused = self.import_is_paused();
        let in_flight = self.persistence.in_flight.len();
        StorageView { failing, unsaved_blocks, unsaved_bytes, import_paused, pending_rows, pending_bytes, in_flight }
    }

    /// What a node that is being stopped leaves for its next life: everything that waits in the mempool, but for own
    /// transactions, which have rows of their own.
    #[must_use]
    pub fn pool_batch(&self) -> Batch {
        let others = self.mempool.by_arrival().into_iter().filter(|transaction| !self.own.contains(&transaction.id()));
        let transactions = others.map(|transaction| bytes::Bytes::copy_from_slice(transaction.bytes())).collect();
        vec![StoreOp::ReplacePool { transactions }]
    }

    /// Whether so much waits to be stored that no more blocks are adopted.
    pub(super) fn import_is_paused(&self) -> bool {
        let Persistence { unsaved_blocks, unsaved_bytes, .. } = self.persistence;
        unsaved_blocks >= UNSAVED_BLOCKS_MAX || unsaved_bytes >= UNSAVED_BYTES_MAX
    }

    /// Has a batch stored, if not now then later. Nobody waits for it.
    pub(super) fn save(&mut self, batch: Batch, out: &mut impl Sink<Output>) {
        let blocks = batch.iter().filter(|op| matches!(op, StoreOp::PutBlock { .. })).count();
        let bytes = batch_bytes(&batch);
        self.persistence.unsaved_blocks += blocks;
        self.persistence.unsaved_bytes += bytes;
        let ticket = (!self.persistence.failing).then(|| self.ticket());
        if let Some(ticket) = ticket {
            out.emit(Output::Persist { ticket, batch: batch.clone() });
        }
        self.persistence.unsaved.push_back(Unsaved { ticket, batch, blocks, bytes });
    }

    /// Has the rows of these transactions removed.
    pub(super) fn remove_rows(&mut self, ids: Vec<TransactionId>, out: &mut impl Sink<Output>) {
        if !ids.is_empty() {
            self.save(ids.into_iter().map(|transaction| StoreOp::RemovePending { transaction }).collect(), out);
        }
    }

    /// Everything that can be said about an own transaction before it is stored: what the mempool says, given that those
    /// in flight will be there.
    pub(super) fn precheck_own(&self, now: Time, transaction: &Transaction) -> Result<(), MempoolError> {
        self.precheck(now, transaction)?;
        let (sender, nonce) = (transaction.sender(), transaction.nonce());
        if self.persistence.reserved.contains(&(sender, nonce)) {
            let others = self.persistence.in_flight.values().map(|in_flight| &in_flight.transaction);
            let mut rivals = others.filter(|other| (other.sender(), other.nonce()) == (sender, nonce));
            let by = rivals.next().map_or(transaction.id(), Transaction::id);
            let free = self.next_free_nonce(&sender, self.slot_or_zero(now));
            return Err(MempoolError::NonceTaken { nonce, by, free });
        }
        let in_flight = self.persistence.reserved.range((sender, 0)..=(sender, u64::MAX)).count();
        let count = self.mempool.count_of(&sender).saturating_add(in_flight);
        if count >= self.mempool.config().sender_transactions_max {
            return Err(MempoolError::SenderQuota { count });
        }
        Ok(())
    }

    /// The sender's first nonce from this one on that is neither in the mempool nor in flight.
    pub(super) fn free_nonce_from(&self, sender: &Account, first: u64) -> u64 {
        let mut nonce = first;
        loop {
            if self.persistence.reserved.contains(&(*sender, nonce)) {
                nonce = nonce.saturating_add(1);
            }
            let free = self.mempool.next_free_nonce(sender, Some(nonce));
            if free == nonce && !self.persistence.reserved.contains(&(*sender, nonce)) || nonce == u64::MAX {
                return nonce;
            }
            nonce = free;
        }
    }

    /// Has a transaction stored whose signature is valid; the submission is answered when it is.
    pub(super) fn store_own(
        &mut self,
        now: Time,
        ticket: Ticket,
        transaction: &Transaction,
        out: &mut impl Sink<Output>,
    ) {
        if let Err(error) = self.begin_storing(now, ticket, transaction, out) {
            out.emit(Output::SubmitResult { ticket, result: Err(error) });
        }
    }

    fn begin_storing(
        &mut self,
        now: Time,
        ticket: Ticket,
        transaction: &Transaction,
        out: &mut impl Sink<Output>,
    ) -> Result<(), SubmitError> {
        let (id, length) = (transaction.id(), transaction.encoded_len());
        if let Some(in_flight) = self.persistence.in_flight.get_mut(&id) {
            if in_flight.transaction.leaf() != transaction.leaf() {
                return Err(MempoolError::Known.into());
            }
            if in_flight.waiters.len() >= WAITERS_MAX {
                return Err(SubmitError::Overloaded);
            }
            in_flight.waiters.push(ticket);
            return Ok(());
        }
        self.precheck_own(now, transaction)?;
        if self.persistence.failing {
            return Err(SubmitError::Storage);
        }
        let (count, bytes) = (self.persistence.in_flight.len(), self.persistence.in_flight_bytes);
        if count >= IN_FLIGHT_MAX || !self.own.has_room(count + 1, bytes.saturating_add(length)) {
            return Err(SubmitError::Overloaded);
        }
        let transaction = transaction.detached();
        let bytes = bytes::Bytes::copy_from_slice(transaction.bytes());
        let row = StoreOp::PutPending { transaction: id, expiry_slot: transaction.expiry_slot(), bytes };
        self.persistence.reserved.insert((transaction.sender(), transaction.nonce()));
        self.persistence.in_flight_bytes += length;
        self.persistence.in_flight.insert(id, InFlight { transaction, waiters: vec![ticket] });
        let ticket = self.ticket();
        self.persistence.rows.insert(ticket, id);
        out.emit(Output::Persist { ticket, batch: vec![row] });
        Ok(())
    }

    /// The answer to a batch.
    pub(super) fn persisted(&mut self, now: Time, ticket: Ticket, durable: bool, out: &mut impl Sink<Output>) {
        if !durable && !core::mem::replace(&mut self.persistence.failing, true) {
            out.emit(Output::Event(Event::StorageFailed));
        }
        if let Some(id) = self.persistence.rows.remove(&ticket) {
            return self.row_stored(now, id, durable, out);
        }
        if self.turn_recorded(now, ticket, durable, out) {
            return;
        }
        let persistence = &mut self.persistence;
        let Some(place) = persistence.unsaved.iter().position(|unsaved| unsaved.ticket == Some(ticket)) else { return };
        if !durable {
            persistence.unsaved[place].ticket = None;
        } else if let Some(saved) = persistence.unsaved.remove(place) {
            persistence.unsaved_blocks -= saved.blocks;
            persistence.unsaved_bytes -= saved.bytes;
            if saved.batch.iter().any(|op| matches!(op, StoreOp::SetHead { .. })) {
                self.batch_persisted(now, out);
            }
        }
    }

    /// The store works again: what waited is emitted again.
    pub(super) fn storage_is_back(&mut self, out: &mut impl Sink<Output>) {
        if !core::mem::replace(&mut self.persistence.failing, false) {
            return;
        }
        out.emit(Output::Event(Event::StorageBack));
        for place in 0..self.persistence.unsaved.len() {
            let ticket = self.ticket();
            let unsaved = &mut self.persistence.unsaved[place];
            unsaved.ticket = Some(ticket);
            out.emit(Output::Persist { ticket, batch: unsaved.batch.clone() });
        }
    }

    pub(super) fn storage_is_failing(&self) -> bool {
        self.persistence.failing
    }

    /// A submission's row has been written, or could not be.
    fn row_stored(&mut self, now: Time, id: TransactionId, durable: bool, out: &mut impl Sink<Output>) {
        let Some(InFlight { transaction, waiters }) = self.persistence.in_flight.remove(&id) else { return };
        self.persistence.in_flight_bytes -= transaction.encoded_len();
        self.persistence.reserved.remove(&(transaction.sender(), transaction.nonce()));
        let result = if durable { self.accept_own(now, &transaction, out) } else { Err(SubmitError::Storage) };
        if durable && result.is_err() {
            // Somebody else's transaction took its place while it was being written.
            self.remove_rows(vec![id], out);
        }
        for ticket in waiters {
            out.emit(Output::SubmitResult { ticket, result: result.clone() });
        }
    }

    /// Takes in and publishes a transaction that is on the disk.
    fn accept_own(
        &mut self,
        now: Time,
        transaction: &Transaction,
        out: &mut impl Sink<Output>,
    ) -> Result<Submitted, SubmitError> {
        let (id, nonce) = (transaction.id(), transaction.nonce());
        let payload = Payload::new(self.genesis.transaction_topic(), transaction.bytes());
        let message = payload.id();
        let included = self.chain.transaction_location(&id).is_some();
        let publish = match self.insert(
            now,
            Candidate { transaction: transaction.clone(), message: Some(payload.clone()) },
            Source::Local,
        ) {
            Ok(_inserted) => true,
            // A peer had it too, or a block has: it is on its way, and kept all the same.
            Err(MempoolError::Known) => false,
            Err(_) if included => false,
            Err(error) => return Err(error.into()),
        };
        self.keep_own(now, transaction, out);
        if publish {
            self.mesh_input(now, mesh::Input::Publish { payload }, out);
        }
        Ok(Submitted { id, message, nonce })
    }

    pub(super) fn check_persistence(&self) {
        let persistence = &self.persistence;
        let (blocks, bytes) = persistence
            .unsaved
            .iter()
            .fold((0, 0), |(blocks, bytes), unsaved| (blocks + unsaved.blocks, bytes + unsaved.bytes));
        assert_eq!((blocks, bytes), (persistence.unsaved_blocks, persistence.unsaved_bytes), "what waits to be stored");
        assert!(persistence.in_flight.len() <= IN_FLIGHT_MAX, "too many submissions wait for the disk");
        let in_flight = || persistence.in_flight.values().map(|each| &each.transaction);
        let reserved: BTreeSet<_> = in_flight().map(|each| (each.sender(), each.nonce())).collect();
        assert_eq!(reserved.len(), persistence.in_flight.len(), "two transactions in flight have one nonce");
        assert_eq!(reserved, persistence.reserved, "the nonces in flight");
        assert_eq!(in_flight().map(Transaction::encoded_len).sum::<usize>(), persistence.in_flight_bytes);
        let rows: BTreeSet<_> = persistence.rows.values().collect();
        assert_eq!(rows, persistence.in_flight.keys().collect(), "each transaction in flight waits for one row");
        assert!(persistence.in_flight.values().all(|each| (1..=WAITERS_MAX).contains(&each.waiters.len())));
        self.own.check();
    }
}
