//! The mempool: valid transactions that wait for a block.
//!
//! # What it promises
//! - **Bounds.** At most [`Config::transactions_max`] transactions and [`Config::bytes_max`] bytes in all, and
//!   [`Config::sender_transactions_max`] of one sender. Nothing that a remote sends makes it grow further.
//! - **One transaction for each sender and nonce; the first wins.** There are no fees, hence no price by which a second
//!   one could be worth more: replacement would only let a sender make every node carry the same slot again and again.
//! - **Nonce order.** [`Mempool::select`] hands out a sender's transactions in the order of their nonces and without
//!   gaps.
//! - **Future transactions never push out executable ones.** A transaction is *executable* if it and all its sender's
//!   transactions from the next nonce on are here; otherwise it is *future*: it waits for a gap to be filled.
//! - **Determinism.** The same calls give the same pool and the same selections; no decision depends on the order of a
//!   hash map, on a clock or on chance.
//!
//! # Admission, in this order
//! 1. Not here already.
//! 2. Not expired, and not expiring later than the genesis allows.
//! 3. The nonce is neither used nor [`Limits::nonce_window`](crate::genesis::Limits) or more beyond the sender's next
//!    one. For a sender that the chain does not remember any nonce may be the first
//!    (`docs/adr/0007-account-nonces.md`), and the window is measured from the lowest nonce that waits here.
//! 4. No other transaction of the sender has this nonce, and the sender's quota is not used up.
//! 5. There is room, if need be after eviction.
//!
//! [`Mempool::precheck`] does 1 to 4, so that a driver can do it before it verifies the signature; that signature, the
//! payload's size and the proof of work are checked outside.
//!
//! # Eviction
//! A transaction's *load* is its bytes and [`OVERHEAD_BYTES`], a sender's that of all its transactions here. While the
//! pool is over a bound, one transaction goes:
//! 1. if there are future transactions, the last of the sender with the greatest load in future transactions;
//! 2. else the last of the sender with the greatest load.
//!
//! "The last" is the one with the highest nonce, so that no eviction makes a gap. Among senders with equal loads the
//! newcomer's gives way (no churn), then the one with the greatest key.
//!
//! *Rationale*: without fees, fairness is all there is to go by. Dropping from the longest queue (stochastic fairness
//! queueing, McKenney 1990) gives every sender its share whatever the others send. It does not stop somebody with
//! thousands of keys; that is what the proof-of-work stamp is for, and the expiry, which bounds how long a place can be
//! held.
//!
//! # Whose fault
//! [`MempoolError::fault`] says whether whoever *sent* the transaction is answerable. Nearly all refusals are nobody's
//! fault: an honest relay may have a younger or an older head, or have passed the transaction on just before it
//! expired.
//!
//! # Cost
//! Insertion, removal and lookup take O(log n), and O(sender quota) for the sender's run of executable transactions;
//! selection takes O(senders + k log senders) for k transactions. The order of senders by load is made when the pool becomes half full,
//! in O(senders), and kept from then on until it is nearly empty (`mempool::loads`).

mod expiry;
mod loads;
mod outcome;
mod select;
#[cfg(test)]
mod tests;
mod types;

use crate::block::Block;
use crate::genesis::Genesis;
use crate::id::TransactionId;
use crate::memory::tree_bytes;
use crate::transaction::Transaction;
use core::ops::Bound;
use expiry::Expiries;
use loads::{Load, Loads};
use outcome::Outcomes;
pub use starling_crypto::PublicKeyBytes as Account;
use std::collections::{BTreeMap, BTreeSet};
pub use types::{Change, Config, Fault, Inserted, MempoolError, OVERHEAD_BYTES, Settled, Source, Stats, Status};

/// The pool; see the head of this module.
#[derive(Clone, Debug)]
pub struct Mempool {
    config: Config,
    nonce_window: u64,
    expiry_slots_max: u64,
    entries: BTreeMap<TransactionId, Entry>,
    senders: BTreeMap<Account, Sender>,
    /// Senders by load, for eviction; none while the pool is far from full.
    loads: Option<Loads>,
    expiries: Expiries,
    bytes: usize,
    future: usize,
    arrivals: u64,
    outcomes: Outcomes,
    /// What has changed since it was last asked for; none while nobody asks.
    changes: Option<Vec<Change>>,
}

#[derive(Clone, Debug)]
struct Entry {
    transaction: Transaction,
    source: Source,
    /// Numbers the insertions.
    arrival: u64,
    arrival_slot: u64,
}

#[derive(Clone, Debug, Default)]
struct Sender {
    /// The next nonce as far as was last heard; none if the chain does not remember the sender.
    next: Option<u64>,
    by_nonce: BTreeMap<u64, Place>,
    /// How many of the first entries of `by_nonce` are executable.
    executable: usize,
    load: usize,
    future_load: usize,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    id: TransactionId,
    load: usize,
}

impl Sender {
    /// The nonce that has to be included before all others; none without transactions.
    fn first(&self) -> Option<u64> {
        self.next.or_else(|| self.by_nonce.first_key_value().map(|(nonce, _)| *nonce))
    }

    fn recompute(&mut self) {
        let first = self.first().unwrap_or(0);
        self.executable =
            self.by_nonce.keys().zip(first..=u64::MAX).take_while(|(nonce, expected)| **nonce == *expected).count();
        self.load = self.by_nonce.values().map(|place| place.load).sum();
        self.future_load = self.by_nonce.values().skip(self.executable).map(|place| place.load).sum();
    }

    fn future(&self) -> usize {
        self.by_nonce.len() - self.executable
    }

    fn loads(&self) -> Load {
        Load { all: self.load, future: self.future_load }
    }
}

/// From which share of its bounds on, in percent, the pool knows its senders' loads in order, and below which it forgets them again.
const LOADS_FROM_PERCENT: usize = 50;
const LOADS_UNTIL_PERCENT: usize = 25;

fn load_of(transaction: &Transaction) -> usize {
    transaction.encoded_len().saturating_add(OVERHEAD_BYTES)
}

impl Mempool {
    /// An empty pool for the network of this genesis.
    #[must_use]
    pub fn new(config: Config, genesis: &Genesis) -> Self {
        let limits = genesis.limits();
        Self {
            nonce_window: limits.nonce_window.max(1),
            expiry_slots_max: limits.expiry_slots_max,
            entries: BTreeMap::new(),
            senders: BTreeMap::new(),
            loads: None,
            expiries: Expiries::default(),
            bytes: 0,
            future: 0,
            arrivals: 0,
            outcomes: Outcomes::new(config.outcomes_max),
            config,
            changes: None,
        }
    }

    /// The bounds.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Everything that [`Mempool::insert`] checks, but for room. `account_next_nonce` is the sender's next nonce
    /// according to the chain for a block of the current slot, or `None` if the chain does not remember the sender.
    ///
    /// # Errors
    /// The first reason for refusal.
    pub fn precheck(
        &self,
        transaction: &Transaction,
        account_next_nonce: Option<u64>,
        current_slot: u64,
    ) -> Result<(), MempoolError> {
        if self.entries.contains_key(&transaction.id()) {
            return Err(MempoolError::Known);
        }
        self.check_expiry(transaction, current_slot)?;
        let nonce = transaction.nonce();
        let sender = self.senders.get(&transaction.sender());
        self.check_nonce(nonce, account_next_nonce, sender)?;
        let Some(sender) = sender else { return Ok(()) };
        if let Some(place) = sender.by_nonce.get(&nonce) {
            let taken = sender.by_nonce.range(nonce..).zip(nonce..=u64::MAX);
            let free = taken.take_while(|((nonce, _), expected)| **nonce == *expected).count();
            let free = nonce.saturating_add(free as u64);
            return Err(MempoolError::NonceTaken { nonce, by: place.id, free });
        }
        let count = sender.by_nonce.len();
        if count >= self.config.sender_transactions_max {
            return Err(MempoolError::SenderQuota { count });
        }
        Ok(())
    }

    /// Takes in a transaction whose signature is valid. The arguments are those of [`Mempool::precheck`].
    ///
    /// # Errors
    /// The first reason for refusal; the pool then holds what it held, unless the reason is [`MempoolError::Full`]:
    /// making room may have cost senders with larger shares some transactions.
    pub fn insert(
        &mut self,
        transaction: Transaction,
        source: Source,
        account_next_nonce: Option<u64>,
        current_slot: u64,
    ) -> Result<Inserted, MempoolError> {
        self.precheck(&transaction, account_next_nonce, current_slot)?;
        let (id, account, nonce) = (transaction.id(), transaction.sender(), transaction.nonce());
        let (count, bytes) = (self.entries.len(), self.bytes);
        let arrival_slot = if source == Source::Reorganisation { 0 } else { current_slot };
        self.advance(&account, account_next_nonce);
        self.outcomes.forget(&id);
        self.bytes += transaction.encoded_len();
        self.expiries.insert(transaction.expiry_slot(), id);
        let place = Place { id, load: load_of(&transaction) };
        self.arrivals += 1;
        self.entries.insert(id, Entry { transaction, source, arrival: self.arrivals, arrival_slot });
        self.record(Change { id, sender: account, nonce, status: Status::Pending { executable: false } });
        self.change_sender(account, |sender| {
            sender.next = account_next_nonce;
            sender.by_nonce.insert(nonce, place);
        });
        self.keep_loads();

        let mut evicted = Vec::new();
        while let Some(victim) = self.victim(&account) {
            if victim == id {
                self.remove(&victim);
                self.changes.iter_mut().for_each(|changes| changes.retain(|change| change.id != id));
                return Err(MempoolError::Full { count, bytes });
            }
            self.retire(&victim, Status::Evicted);
            evicted.push(victim);
        }
        Ok(Inserted { executable: self.is_executable(&account, nonce), evicted })
    }

    /// Follows a change of the chain's head: what was included goes, what is superseded or expired goes and is
    /// remembered, and the transactions of undone blocks come back if they still may. `undone` and `adopted` are in the
    /// order of the chain, `next_nonce` answers for the new head and the current slot.
    pub fn on_head_changed(
        &mut self,
        undone: &[Block],
        adopted: &[Block],
        current_slot: u64,
        next_nonce: impl Fn(&Account) -> Option<u64>,
    ) -> Settled {
        let mut settled = Settled::default();
        let mut included = BTreeSet::new();
        for transaction in adopted.iter().flat_map(Block::transactions) {
            included.insert(transaction.id());
            self.outcomes.forget(&transaction.id());
            self.remove(&transaction.id());
        }
        let touched: BTreeSet<Account> =
            adopted.iter().chain(undone).flat_map(Block::transactions).map(Transaction::sender).collect();
        for account in &touched {
            settled.superseded += self.advance(account, next_nonce(account));
        }
        for transaction in undone.iter().flat_map(Block::transactions) {
            if included.contains(&transaction.id()) {
                continue;
            }
            let next = next_nonce(&transaction.sender());
            // The block must not stay in memory for the sake of one transaction.
            let outcome = self.insert(transaction.detached(), Source::Reorganisation, next, current_slot);
            match outcome {
                Ok(_) | Err(MempoolError::Known) => settled.returned += 1,
                Err(error) => {
                    settled.refused += 1;
                    let status = status_of(&error);
                    self.outcomes.remember(transaction.id(), status);
                    let (id, sender, nonce) = (transaction.id(), transaction.sender(), transaction.nonce());
                    self.record(Change { id, sender, nonce, status });
                }
            }
        }
        settled.expired = self.expire(current_slot);
        settled
    }

    /// Removes what may not be included in a block of `current_slot` or later any more; says how many that were.
    pub fn expire(&mut self, current_slot: u64) -> usize {
        let mut count = 0;
        while let Some(ids) = self.expiries.pop_before(current_slot) {
            for id in ids {
                if self.entries.contains_key(&id) {
                    self.retire(&id, Status::Expired);
                    count += 1;
                }
            }
        }
        count
    }

    /// The transaction with this id.
    #[must_use]
    pub fn get(&self, id: &TransactionId) -> Option<&Transaction> {
        self.entries.get(id).map(|entry| &entry.transaction)
    }

    /// Where the transaction with this id came from.
    #[must_use]
    pub fn source(&self, id: &TransactionId) -> Option<Source> {
        self.entries.get(id).map(|entry| entry.source)
    }

    /// The transaction of this sender with this nonce.
    #[must_use]
    pub fn get_by_nonce(&self, sender: &Account, nonce: u64) -> Option<&Transaction> {
        self.get(&self.senders.get(sender)?.by_nonce.get(&nonce)?.id)
    }

    /// What became of a transaction, as long as that is remembered. `None` says nothing about its being in the chain.
    #[must_use]
    pub fn status(&self, id: &TransactionId) -> Option<Status> {
        match self.entries.get(id) {
            Some(Entry { transaction, .. }) => {
                Some(Status::Pending { executable: self.is_executable(&transaction.sender(), transaction.nonce()) })
            }
            None => self.outcomes.get(id),
        }
    }

    /// The nonce that this sender should use for its next transaction, given its next one according to the chain: the
    /// first that neither the chain nor the pool has.
    #[must_use]
    pub fn next_free_nonce(&self, sender: &Account, account_next_nonce: Option<u64>) -> u64 {
        let pooled = self.senders.get(sender).map(|sender| &sender.by_nonce);
        let lowest = || pooled.and_then(|by_nonce| by_nonce.first_key_value()).map_or(0, |(nonce, _)| *nonce);
        let first = account_next_nonce.unwrap_or_else(lowest);
        let run = pooled.map_or(0, |by_nonce| {
            let run = by_nonce.range(first..).zip(first..=u64::MAX);
            run.take_while(|((nonce, _), expected)| **nonce == *expected).count()
        });
        first.saturating_add(run as u64)
    }

    /// All transactions, in the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = &Transaction> {
        self.entries.values().map(|entry| &entry.transaction)
    }

    /// The transactions whose ids come after `after` (all when none), in the order of their ids, each with the slot it
    /// arrived in: 0 when it came back from an undone block.
    pub fn page(&self, after: Option<&TransactionId>) -> impl Iterator<Item = (&Transaction, u64)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.entries.range((from, Bound::Unbounded)).map(|(_, entry)| (&entry.transaction, entry.arrival_slot))
    }

    /// Begins to record changes for [`Mempool::take_changes`], or stops and forgets them. Whoever begins must take them
    /// after every step, because nothing else bounds the record.
    pub fn record_changes(&mut self, on: bool) {
        self.changes = on.then(Vec::new);
    }

    /// What has changed since this was last asked, in order; empty unless changes are recorded. That a transaction was
    /// included is not among it: the chain knows.
    pub fn take_changes(&mut self) -> Vec<Change> {
        self.changes.as_mut().map(core::mem::take).unwrap_or_default()
    }

    /// All transactions, in the order in which they came.
    #[must_use]
    pub fn by_arrival(&self) -> Vec<&Transaction> {
        let mut entries: Vec<&Entry> = self.entries.values().collect();
        entries.sort_unstable_by_key(|entry| entry.arrival);
        entries.into_iter().map(|entry| &entry.transaction).collect()
    }

    /// How many transactions of this sender there are.
    #[must_use]
    pub fn count_of(&self, sender: &Account) -> usize {
        self.senders.get(sender).map_or(0, |sender| sender.by_nonce.len())
    }

    /// How many transactions there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How full the pool is.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats { transactions: self.entries.len(), future: self.future, bytes: self.bytes, senders: self.senders.len() }
    }

    /// Recomputes every index and asserts that it is what it should be.
    ///
    /// # Panics
    /// If it is not.
    pub fn check(&self) {
        let config = &self.config;
        assert!(self.entries.len() <= config.transactions_max, "too many transactions");
        assert!(self.load() <= config.bytes_max, "too many bytes");
        match &self.loads {
            Some(loads) => loads.check(self.senders.iter().map(|(account, sender)| (*account, sender.loads()))),
            None => assert!(
                self.entries.is_empty() || !self.is_filled_to(LOADS_FROM_PERCENT),
                "a pool that fills up does not know the loads"
            ),
        }
        self.expiries.check(self.entries.iter().map(|(id, entry)| (entry.transaction.expiry_slot(), *id)));
        assert_eq!(self.bytes, self.iter().map(Transaction::encoded_len).sum::<usize>(), "bytes");
        assert_eq!(self.future, self.senders.values().map(Sender::future).sum::<usize>(), "future transactions");
        let mut places = 0;
        for (account, sender) in &self.senders {
            assert!(!sender.by_nonce.is_empty(), "a sender without transactions is kept");
            assert!(sender.by_nonce.len() <= config.sender_transactions_max, "a sender's quota is exceeded");
            let mut recomputed = sender.clone();
            recomputed.recompute();
            let figures = |sender: &Sender| (sender.executable, sender.load, sender.future_load);
            assert_eq!(figures(sender), figures(&recomputed), "a sender's figures");
            assert!(sender.next.is_none_or(|next| *sender.by_nonce.keys().next().expect("not empty") >= next));
            for (nonce, place) in &sender.by_nonce {
                let transaction = &self.entries[&place.id].transaction;
                assert_eq!((transaction.sender(), transaction.nonce()), (*account, *nonce), "a place");
                assert_eq!(place.load, load_of(transaction), "a load");
                places += 1;
            }
        }
        assert_eq!(places, self.entries.len(), "each transaction has one place");
        self.outcomes.check();
    }

    /// Bytes that are allocated but for the transactions, estimated.
    pub(crate) fn memory_bytes(&self) -> usize {
        let (entries, senders) = (self.entries.len(), self.senders.len());
        tree_bytes::<(TransactionId, Entry)>(entries)
            + self.expiries.memory_bytes()
            + tree_bytes::<(u64, Place)>(entries)
            + tree_bytes::<(Account, Sender)>(senders)
            + self.loads.as_ref().map_or(0, Loads::memory_bytes)
            + self.outcomes.memory_bytes()
    }

    fn check_expiry(&self, transaction: &Transaction, slot: u64) -> Result<(), MempoolError> {
        let expiry_slot = transaction.expiry_slot();
        if expiry_slot < slot {
            return Err(MempoolError::Expired { expiry_slot, slot });
        }
        let latest = slot.saturating_add(self.expiry_slots_max);
        if expiry_slot > latest {
            let blatant = expiry_slot > latest.saturating_add(self.config.expiry_grace_slots);
            return Err(MempoolError::ExpiryTooFar { expiry_slot, latest, blatant });
        }
        Ok(())
    }

    fn check_nonce(&self, nonce: u64, next: Option<u64>, sender: Option<&Sender>) -> Result<(), MempoolError> {
        if let Some(next) = next
            && nonce < next
        {
            return Err(MempoolError::NonceUsed { nonce, next });
        }
        if nonce == u64::MAX {
            return Err(MempoolError::NonceExhausted);
        }
        let pooled = sender.map(|sender| &sender.by_nonce);
        let lowest = pooled.and_then(|by_nonce| by_nonce.first_key_value()).map_or(nonce, |(nonce, _)| *nonce);
        let highest = pooled.and_then(|by_nonce| by_nonce.last_key_value()).map_or(nonce, |(nonce, _)| *nonce);
        // Without a next nonce from the chain, the window may still be moved down to take in what all others wait for.
        let from = next.unwrap_or_else(|| lowest.min(nonce));
        let top = if next.is_some() { nonce } else { highest.max(nonce) };
        if top - from >= self.nonce_window {
            let first = next.unwrap_or_else(|| highest.saturating_sub(self.nonce_window - 1));
            let last = next.unwrap_or(lowest).saturating_add(self.nonce_window - 1);
            return Err(MempoolError::NonceGap { nonce, first, last });
        }
        Ok(())
    }

    /// Sets a sender's next nonce and removes what that supersedes; says how many transactions that were.
    fn advance(&mut self, account: &Account, next: Option<u64>) -> usize {
        let Some(sender) = self.senders.get(account) else { return 0 };
        let superseded: Vec<TransactionId> =
            sender.by_nonce.range(..next.unwrap_or(0)).map(|(_, place)| place.id).collect();
        for id in &superseded {
            self.retire(id, Status::Superseded);
        }
        if self.senders.get(account).is_some_and(|sender| sender.next != next) {
            self.change_sender(*account, |sender| sender.next = next);
        }
        superseded.len()
    }

    fn is_executable(&self, account: &Account, nonce: u64) -> bool {
        let Some(sender) = self.senders.get(account) else { return false };
        sender.by_nonce.keys().take(sender.executable).next_back().is_some_and(|last| nonce <= *last)
    }

    /// What has to go first while the pool is over a bound and a transaction of `newcomer` has just come.
    fn victim(&self, newcomer: &Account) -> Option<TransactionId> {
        if self.entries.len() <= self.config.transactions_max && self.load() <= self.config.bytes_max {
            return None;
        }
        let own = self.senders.get(newcomer);
        let loads = self.loads.as_ref().expect("a pool over its bounds is filled enough to know the loads");
        let (heaviest, own_load) = match loads.heaviest_future() {
            Some(heaviest) => (heaviest, own.map_or(0, |sender| sender.future_load)),
            None => (loads.heaviest()?, own.map_or(0, |sender| sender.load)),
        };
        let account = if own_load >= heaviest.0 { *newcomer } else { heaviest.1 };
        self.senders.get(&account)?.by_nonce.last_key_value().map(|(_, place)| place.id)
    }

    fn load(&self) -> usize {
        self.bytes + self.entries.len() * OVERHEAD_BYTES
    }

    /// Removes a transaction that was not included, and remembers what became of it.
    fn retire(&mut self, id: &TransactionId, status: Status) {
        if let Some(transaction) = self.remove(id) {
            self.record(Change { id: *id, sender: transaction.sender(), nonce: transaction.nonce(), status });
        }
        self.outcomes.remember(*id, status);
    }

    fn record(&mut self, change: Change) {
        if let Some(changes) = &mut self.changes {
            changes.push(change);
        }
    }

    fn remove(&mut self, id: &TransactionId) -> Option<Transaction> {
        let Entry { transaction, .. } = self.entries.remove(id)?;
        self.bytes -= transaction.encoded_len();
        self.change_sender(transaction.sender(), |sender| {
            sender.by_nonce.remove(&transaction.nonce());
        });
        if self.loads.is_some() && !self.is_filled_to(LOADS_UNTIL_PERCENT) {
            self.loads = None;
        }
        self.keep_expiries();
        Some(transaction)
    }

    /// Makes the order of senders by load once the pool is filled so far that it may be needed.
    fn keep_loads(&mut self) {
        if self.loads.is_none() && self.is_filled_to(LOADS_FROM_PERCENT) {
            self.loads = Some(self.senders.iter().map(|(account, sender)| (*account, sender.loads())).collect());
        }
    }

    /// Makes the index by expiry anew once most of what it names has gone.
    fn keep_expiries(&mut self) {
        if self.expiries.is_stale(self.entries.len()) {
            let entries = self.entries.iter().map(|(id, entry)| (entry.transaction.expiry_slot(), *id));
            self.expiries = entries.collect();
        }
    }

    /// Whether the pool has reached this share of one of its bounds.
    fn is_filled_to(&self, percent: usize) -> bool {
        let reaches = |value: usize, max: usize| value.saturating_mul(100) >= max.saturating_mul(percent);
        reaches(self.entries.len(), self.config.transactions_max) || reaches(self.load(), self.config.bytes_max)
    }

    /// The one place where a sender changes: keeps its figures and the indexes up to date.
    fn change_sender(&mut self, account: Account, change: impl FnOnce(&mut Sender)) {
        let sender = self.senders.entry(account).or_default();
        let before = sender.loads();
        self.future -= sender.future();
        change(sender);
        sender.recompute();
        self.future += sender.future();
        if let Some(loads) = &mut self.loads {
            loads.change(&account, before, sender.loads());
        }
        if sender.by_nonce.is_empty() {
            self.senders.remove(&account);
        }
    }
}

fn status_of(error: &MempoolError) -> Status {
    match error {
        MempoolError::Expired { .. } => Status::Expired,
        MempoolError::NonceUsed { .. } | MempoolError::NonceTaken { .. } => Status::Superseded,
        _ => Status::Evicted,
    }
}
