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
//! A transaction's *load* is its bytes and what its place is worth ([`Config::place_bytes`]), a sender's that of all its transactions here. While the
//! pool is over a bound, one transaction goes:
//! 1. if there are future transactions, the last of the sender with the greatest load in future transactions;
//! 2. else the last of the sender with the greatest load.
//!
//! "The last" is the one with the highest nonce, so that no eviction makes a gap. Among senders with equal loads the
//! newcomer's gives way (no churn), then the one with the greatest key.
//!
//! A place is worth as many bytes as there are for each, so that both bounds count alike. *Rationale*: small transactions fill the places long before the
//! bytes. If their senders' loads were bytes alone, whoever has few large ones would have to give way to whoever has many small ones.
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
//! Insertion, removal and lookup take constant time, and O(sender quota) for the sender's run of executable transactions;
//! selection takes O(senders + k log senders) for k transactions. The order of senders by load is made when the pool becomes half full,
//! in O(senders), and kept from then on until it is nearly empty (`mempool::loads`).

mod check;
mod expiry;
mod loads;
mod outcome;
mod select;
mod senders;
#[cfg(test)]
mod tests;
mod types;

use crate::block::Block;
use crate::genesis::Genesis;
use crate::id::TransactionId;
use crate::keyed::{HasKey, KeyedSlab, Place};
use crate::memory::Fetch;
use crate::message::Payload;
use crate::random::Stream;
use crate::transaction::Transaction;
use core::cmp::Reverse;
use core::hint::black_box;
use expiry::Expiries;
use loads::{Load, Loads};
use outcome::Outcomes;
use senders::{Sender, Waiting};
pub use starling_crypto::PublicKeyBytes as Account;
use std::collections::{BTreeSet, BinaryHeap};
use std::sync::Arc;
pub use types::{
    Candidate, Change, Config, Fault, Inserted, MempoolError, OVERHEAD_BYTES, Settled, Source, Stats, Status,
};

/// The pool; see the head of this module.
#[derive(Clone, Debug)]
pub struct Mempool {
    config: Config,
    nonce_window: u64,
    expiry_slots_max: u64,
    entries: KeyedSlab<Entry>,
    senders: KeyedSlab<Sender>,
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
    message: Option<Arc<Payload>>,
    source: Source,
    /// Where its sender is.
    sender: Place,
    /// Numbers the insertions.
    arrival: u64,
    arrival_slot: u64,
}

impl HasKey for Entry {
    fn key(&self) -> &[u8; 32] {
        self.transaction.id_bytes()
    }
}

/// From which share of its bounds on, in percent, the pool knows its senders' loads in order, and below which it forgets them again.
const LOADS_FROM_PERCENT: usize = 50;
const LOADS_UNTIL_PERCENT: usize = 25;

fn load_of(transaction: &Transaction, config: &Config) -> u32 {
    u32::try_from(transaction.encoded_len().saturating_add(config.place_bytes())).unwrap_or(u32::MAX)
}

impl Mempool {
    /// An empty pool for the network of this genesis. What `secret` gives keys the tables, so that nobody can slow them down by choosing
    /// what is in them; it decides nothing.
    #[must_use]
    pub fn new(config: Config, genesis: &Genesis, mut secret: Stream) -> Self {
        let limits = genesis.limits();
        Self {
            nonce_window: limits.nonce_window.max(1),
            expiry_slots_max: limits.expiry_slots_max,
            entries: KeyedSlab::new(&mut secret),
            senders: KeyedSlab::new(&mut secret),
            loads: None,
            expiries: Expiries::default(),
            bytes: 0,
            future: 0,
            arrivals: 0,
            outcomes: Outcomes::new(config.outcomes_max, &mut secret),
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
        self.admissible(transaction, account_next_nonce, current_slot).map(|_sender| ())
    }

    /// Takes in a transaction whose signature is valid. The arguments are those of [`Mempool::precheck`].
    ///
    /// # Errors
    /// The first reason for refusal; the pool then holds what it held, unless the reason is [`MempoolError::Full`]:
    /// making room may have cost senders with larger shares some transactions.
    pub fn insert(
        &mut self,
        candidate: impl Into<Candidate>,
        source: Source,
        account_next_nonce: Option<u64>,
        current_slot: u64,
    ) -> Result<Inserted, MempoolError> {
        let Candidate { transaction, message } = candidate.into();
        let sender = self.admissible(&transaction, account_next_nonce, current_slot)?;
        let (id, account, nonce) = (transaction.id(), transaction.sender(), transaction.nonce());
        let (count, bytes) = (self.entries.len(), self.bytes);
        let arrival_slot = if source == Source::Reorganisation { 0 } else { current_slot };
        // When all that the sender had is superseded, its place is free.
        let sender = sender.filter(|sender| {
            self.advance(*sender, account_next_nonce);
            self.senders.get(*sender).is_some()
        });
        let sender = sender.unwrap_or_else(|| self.senders.insert(Sender::new(account)));
        self.outcomes.forget(&id);
        self.bytes += transaction.encoded_len();
        self.arrivals += 1;
        let (load, expiry_slot) = (load_of(&transaction, &self.config), transaction.expiry_slot());
        let place =
            self.entries.insert(Entry { transaction, message, source, sender, arrival: self.arrivals, arrival_slot });
        self.expiries.insert(expiry_slot, place);
        self.record(Change { id, sender: account, nonce, status: Status::Pending { executable: false } });
        self.change_sender(sender, |sender| {
            sender.next = account_next_nonce;
            sender.insert(Waiting { nonce, place, load });
        });
        self.keep_loads();

        let mut evicted = Vec::new();
        while let Some(victim) = self.victim(sender) {
            if victim == place {
                self.remove(victim);
                self.changes.iter_mut().for_each(|changes| changes.retain(|change| change.id != id));
                return Err(MempoolError::Full { count, bytes });
            }
            evicted.extend(self.retire(victim, Status::Evicted));
        }
        Ok(Inserted { executable: self.is_executable(sender, nonce), evicted })
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
            if let Some(place) = self.place_of(&transaction.id()) {
                self.remove(place);
            }
        }
        let touched: BTreeSet<Account> =
            adopted.iter().chain(undone).flat_map(Block::transactions).map(Transaction::sender).collect();
        for account in &touched {
            if let Some(sender) = self.senders.find(account.as_bytes()) {
                settled.superseded += self.advance(sender, next_nonce(account));
            }
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
        while let Some((slot, places)) = self.expiries.pop_before(current_slot) {
            // A place may have been used again since.
            let entries = places.into_iter().filter_map(|place| Some((self.entries.get(place)?, place)));
            let due = entries.filter(|(entry, _)| entry.transaction.expiry_slot() == slot);
            let mut due: Vec<_> = due.map(|(entry, place)| (entry.transaction.id(), place)).collect();
            due.sort_unstable();
            due.dedup();
            count += due.len();
            for (_, place) in due {
                self.retire(place, Status::Expired);
            }
        }
        count
    }

    /// Has fetched what taking in a transaction touches: first, with none, what is the same for all. See [`Fetch`].
    pub(crate) fn fetch(&self, transaction: Option<&Transaction>, fetch: &mut impl Fetch) {
        let Some(transaction) = transaction else {
            fetch.value(&self.config);
            fetch.value(&self.expiries);
            fetch.value(&self.outcomes);
            fetch.value(&self.bytes);
            self.senders.fetch(fetch);
            return self.entries.fetch(fetch);
        };
        // The tables say where to look only by looking.
        black_box(self.entries.find(transaction.id_bytes()));
        let sender = self.senders.find(transaction.sender().as_bytes()).and_then(|place| self.senders.get(place));
        if let Some(sender) = sender {
            fetch.item(sender.waiting(), sender.waiting().len());
        }
    }

    /// The transaction with this id.
    #[must_use]
    pub fn get(&self, id: &TransactionId) -> Option<&Transaction> {
        self.entry(id).map(|entry| &entry.transaction)
    }

    /// Where the transaction with this id came from.
    #[must_use]
    pub fn source(&self, id: &TransactionId) -> Option<Source> {
        self.entry(id).map(|entry| entry.source)
    }

    /// The transaction of this sender with this nonce.
    #[must_use]
    pub fn get_by_nonce(&self, sender: &Account, nonce: u64) -> Option<&Transaction> {
        let place = self.sender(sender)?.get(nonce)?.place;
        self.entries.get(place).map(|entry| &entry.transaction)
    }

    /// What became of a transaction, as long as that is remembered. `None` says nothing about its being in the chain.
    #[must_use]
    pub fn status(&self, id: &TransactionId) -> Option<Status> {
        match self.entry(id) {
            Some(Entry { transaction, sender, .. }) => {
                Some(Status::Pending { executable: self.is_executable(*sender, transaction.nonce()) })
            }
            None => self.outcomes.get(id),
        }
    }

    /// The nonce that this sender should use for its next transaction, given its next one according to the chain: the
    /// first that neither the chain nor the pool has.
    #[must_use]
    pub fn next_free_nonce(&self, sender: &Account, account_next_nonce: Option<u64>) -> u64 {
        let pooled = self.sender(sender);
        let lowest = || pooled.and_then(|sender| sender.waiting().first()).map_or(0, |waiting| waiting.nonce);
        let first = account_next_nonce.unwrap_or_else(lowest);
        first.saturating_add(pooled.map_or(0, |sender| sender.run_from(first)) as u64)
    }

    /// All transactions, in the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = &Transaction> {
        self.page(None).map(|(transaction, _)| transaction)
    }

    /// The transactions whose ids come after `after` (all when none), in the order of their ids, each with the slot it
    /// arrived in: 0 when it came back from an undone block. Beginning takes O(n), and each of them O(log n).
    pub fn page(&self, after: Option<&TransactionId>) -> impl Iterator<Item = (&Transaction, u64)> {
        let entries = self.entries.iter().map(|(place, entry)| (entry.transaction.id(), place));
        let wanted = entries.filter(|(id, _)| after.is_none_or(|after| id > after));
        let mut ordered: BinaryHeap<Reverse<(TransactionId, Place)>> = wanted.map(Reverse).collect();
        let places = core::iter::from_fn(move || ordered.pop().map(|Reverse((_, place))| place));
        places.filter_map(|place| self.entries.get(place)).map(|entry| (&entry.transaction, entry.arrival_slot))
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
        let mut entries: Vec<&Entry> = self.entries.iter().map(|(_, entry)| entry).collect();
        entries.sort_unstable_by_key(|entry| entry.arrival);
        entries.into_iter().map(|entry| &entry.transaction).collect()
    }

    /// The messages that carry the youngest transactions, at most `count` of them, in the order in which they came. Where none is known, it is
    /// made, and known from then on.
    pub fn youngest(&mut self, count: usize, make: impl Fn(&Transaction) -> Arc<Payload>) -> Vec<Arc<Payload>> {
        let mut places: Vec<(u64, Place)> = self.entries.iter().map(|(place, entry)| (entry.arrival, place)).collect();
        places.sort_unstable();
        let youngest = &places[places.len().saturating_sub(count)..];
        youngest.iter().filter_map(|(_, place)| self.message_in(*place, &make)).collect()
    }

    /// The message that carries the transaction with this id, if that is here; as [`Self::youngest`].
    pub fn message(&mut self, id: &TransactionId, make: impl Fn(&Transaction) -> Arc<Payload>) -> Option<Arc<Payload>> {
        self.message_in(self.place_of(id)?, make)
    }

    fn message_in(&mut self, place: Place, make: impl Fn(&Transaction) -> Arc<Payload>) -> Option<Arc<Payload>> {
        let Entry { transaction, message, .. } = self.entries.get_mut(place)?;
        Some(Arc::clone(message.get_or_insert_with(|| make(transaction))))
    }

    /// How many transactions of this sender there are.
    #[must_use]
    pub fn count_of(&self, sender: &Account) -> usize {
        self.sender(sender).map_or(0, |sender| sender.waiting().len())
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

    fn place_of(&self, id: &TransactionId) -> Option<Place> {
        self.entries.find(id.as_bytes())
    }

    fn entry(&self, id: &TransactionId) -> Option<&Entry> {
        self.entries.get(self.place_of(id)?)
    }

    fn sender(&self, account: &Account) -> Option<&Sender> {
        self.senders.get(self.senders.find(account.as_bytes())?)
    }

    /// Points 1 to 4 of admission; says where the sender is, if it has anything here.
    fn admissible(
        &self,
        transaction: &Transaction,
        next: Option<u64>,
        slot: u64,
    ) -> Result<Option<Place>, MempoolError> {
        if self.place_of(&transaction.id()).is_some() {
            return Err(MempoolError::Known);
        }
        self.check_expiry(transaction, slot)?;
        let nonce = transaction.nonce();
        let place = self.senders.find(transaction.sender().as_bytes());
        let sender = place.and_then(|place| self.senders.get(place));
        self.check_nonce(nonce, next, sender)?;
        let Some(sender) = sender else { return Ok(None) };
        if let Some(taken) = sender.get(nonce) {
            let free = nonce.saturating_add(sender.run_from(nonce) as u64);
            let by = self.entries.get(taken.place).map_or(transaction.id(), |entry| entry.transaction.id());
            return Err(MempoolError::NonceTaken { nonce, by, free });
        }
        let count = sender.waiting().len();
        if count >= self.config.sender_transactions_max {
            return Err(MempoolError::SenderQuota { count });
        }
        Ok(place)
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
        let pooled = sender.map_or(&[][..], Sender::waiting);
        let lowest = pooled.first().map_or(nonce, |waiting| waiting.nonce);
        let highest = pooled.last().map_or(nonce, |waiting| waiting.nonce);
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
    fn advance(&mut self, sender: Place, next: Option<u64>) -> usize {
        let Some(known) = self.senders.get(sender) else { return 0 };
        let superseded = known.waiting().iter().take_while(|waiting| waiting.nonce < next.unwrap_or(0));
        let superseded: Vec<Place> = superseded.map(|waiting| waiting.place).collect();
        for place in &superseded {
            self.retire(*place, Status::Superseded);
        }
        if self.senders.get(sender).is_some_and(|sender| sender.next != next) {
            self.change_sender(sender, |sender| sender.next = next);
        }
        superseded.len()
    }

    fn is_executable(&self, sender: Place, nonce: u64) -> bool {
        self.senders.get(sender).is_some_and(|sender| sender.is_executable(nonce))
    }

    /// What has to go first while the pool is over a bound and a transaction of `newcomer` has just come.
    fn victim(&self, newcomer: Place) -> Option<Place> {
        if self.entries.len() <= self.config.transactions_max && self.held_bytes() <= self.config.bytes_max {
            return None;
        }
        let own = self.senders.get(newcomer);
        let own_load = own.map_or(Load { all: 0, future: 0 }, Sender::loads);
        let loads = self.loads.as_ref().expect("a pool over its bounds is filled enough to know the loads");
        let ((heaviest, account), own_load) = match loads.heaviest_future() {
            Some(heaviest) => (heaviest, own_load.future),
            None => (loads.heaviest()?, own_load.all),
        };
        let sender = if own_load >= heaviest { own } else { self.sender(&account) };
        sender?.waiting().last().map(|waiting| waiting.place)
    }

    /// What the bound on bytes is about.
    fn held_bytes(&self) -> usize {
        self.bytes + self.entries.len() * OVERHEAD_BYTES
    }

    /// Removes a transaction that was not included, and remembers what became of it.
    fn retire(&mut self, place: Place, status: Status) -> Option<TransactionId> {
        let transaction = self.remove(place)?;
        let id = transaction.id();
        self.record(Change { id, sender: transaction.sender(), nonce: transaction.nonce(), status });
        self.outcomes.remember(id, status);
        Some(id)
    }

    fn record(&mut self, change: Change) {
        if let Some(changes) = &mut self.changes {
            changes.push(change);
        }
    }

    fn remove(&mut self, place: Place) -> Option<Transaction> {
        let Entry { transaction, sender, .. } = self.entries.remove(place)?;
        self.bytes -= transaction.encoded_len();
        self.change_sender(sender, |sender| sender.remove(transaction.nonce()));
        if self.loads.is_some() && !self.is_filled_to(LOADS_UNTIL_PERCENT) {
            self.loads = None;
        }
        self.keep_expiries();
        Some(transaction)
    }

    /// Makes the order of senders by load once the pool is filled so far that it may be needed.
    fn keep_loads(&mut self) {
        if self.loads.is_none() && self.is_filled_to(LOADS_FROM_PERCENT) {
            self.loads = Some(self.senders.iter().map(|(_, sender)| (sender.account, sender.loads())).collect());
        }
    }

    /// Makes the index by expiry anew once most of what it names has gone.
    fn keep_expiries(&mut self) {
        if self.expiries.is_stale(self.entries.len()) {
            self.expiries = self.listed().collect();
        }
    }

    /// What the index by expiry has to name.
    fn listed(&self) -> impl Iterator<Item = (u64, Place)> {
        self.entries.iter().map(|(place, entry)| (entry.transaction.expiry_slot(), place))
    }

    /// Whether the pool has reached this share of one of its bounds.
    fn is_filled_to(&self, percent: usize) -> bool {
        let reaches = |value: usize, max: usize| value.saturating_mul(100) >= max.saturating_mul(percent);
        reaches(self.entries.len(), self.config.transactions_max) || reaches(self.held_bytes(), self.config.bytes_max)
    }

    /// The one place where a sender changes: keeps its figures and the indexes up to date.
    fn change_sender(&mut self, place: Place, change: impl FnOnce(&mut Sender)) {
        let Some(sender) = self.senders.get_mut(place) else { return };
        let before = sender.loads();
        self.future -= sender.future();
        change(sender);
        sender.recompute();
        self.future += sender.future();
        if let Some(loads) = &mut self.loads {
            loads.change(&sender.account, before, sender.loads());
        }
        if sender.waiting().is_empty() {
            self.senders.remove(place);
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
