//! What the pool knows of one sender: which of its nonces wait here, and how many of them could be included.
//!
//! A sorted list, because a sender has few transactions here, and nearly always the next nonce is the highest.

use super::Account;
use super::loads::Load;
use crate::keyed::{HasKey, Place};

#[derive(Clone, Debug)]
pub(super) struct Sender {
    pub(super) account: Account,
    /// The next nonce as far as was last heard; none if the chain does not remember the sender.
    pub(super) next: Option<u64>,
    /// Ascending by nonce.
    waiting: Vec<Waiting>,
    /// How many of the first of these are executable.
    executable: usize,
    load: usize,
    future_load: usize,
}

/// One of a sender's transactions.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiting {
    pub(super) nonce: u64,
    pub(super) place: Place,
    pub(super) load: u32,
}

impl HasKey for Sender {
    fn key(&self) -> &[u8; 32] {
        self.account.as_bytes()
    }
}

impl Sender {
    pub(super) fn new(account: Account) -> Self {
        Self { account, next: None, waiting: Vec::new(), executable: 0, load: 0, future_load: 0 }
    }

    /// All its transactions, in the order of their nonces.
    pub(super) fn waiting(&self) -> &[Waiting] {
        &self.waiting
    }

    pub(super) fn get(&self, nonce: u64) -> Option<&Waiting> {
        self.position(nonce).ok().map(|position| &self.waiting[position])
    }

    /// Adds a transaction of which the nonce is not here.
    pub(super) fn insert(&mut self, waiting: Waiting) {
        if let Err(position) = self.position(waiting.nonce) {
            self.waiting.insert(position, waiting);
        }
    }

    pub(super) fn remove(&mut self, nonce: u64) {
        if let Ok(position) = self.position(nonce) {
            self.waiting.remove(position);
        }
    }

    /// How many transactions in a row have this nonce and those after it.
    pub(super) fn run_from(&self, nonce: u64) -> usize {
        let from = self.position(nonce).unwrap_or(self.waiting.len());
        let run = self.waiting[from..].iter().zip(nonce..=u64::MAX);
        run.take_while(|(waiting, expected)| waiting.nonce == *expected).count()
    }

    pub(super) fn is_executable(&self, nonce: u64) -> bool {
        self.waiting[..self.executable].last().is_some_and(|last| nonce <= last.nonce)
    }

    /// How many wait for a gap to be filled.
    pub(super) fn future(&self) -> usize {
        self.waiting.len() - self.executable
    }

    pub(super) fn loads(&self) -> Load {
        Load { all: self.load, future: self.future_load }
    }

    /// Brings the figures up to date.
    pub(super) fn recompute(&mut self) {
        // The nonce that has to be included before all others.
        let first = self.next.or_else(|| self.waiting.first().map(|waiting| waiting.nonce));
        let run = self.waiting.iter().zip(first.unwrap_or(0)..=u64::MAX);
        self.executable = run.take_while(|(waiting, expected)| waiting.nonce == *expected).count();
        let load_of = |waiting: &[Waiting]| waiting.iter().map(|waiting| waiting.load as usize).sum();
        self.future_load = load_of(&self.waiting[self.executable..]);
        self.load = self.future_load + load_of(&self.waiting[..self.executable]);
    }

    /// Bytes that are allocated.
    pub(super) fn memory_bytes(&self) -> usize {
        self.waiting.capacity() * size_of::<Waiting>()
    }

    /// Asserts the order and the figures.
    pub(super) fn check(&self) {
        assert!(self.waiting.is_sorted_by(|a, b| a.nonce < b.nonce), "nonces ascend");
        let mut recomputed = self.clone();
        recomputed.recompute();
        let figures = |sender: &Self| (sender.executable, sender.load, sender.future_load);
        assert_eq!(figures(self), figures(&recomputed), "a sender's figures");
        assert!(self.next.is_none_or(|next| self.waiting.first().is_none_or(|first| first.nonce >= next)));
    }

    fn position(&self, nonce: u64) -> Result<usize, usize> {
        self.waiting.binary_search_by_key(&nonce, |waiting| waiting.nonce)
    }
}
