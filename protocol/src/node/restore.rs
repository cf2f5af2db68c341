//! What an earlier life left on the disk: transactions that were submitted here, and what waited in the mempool.
//!
//! # Rules
//! 1. Everything is checked again, as if it had just come: the file may be old, and the chain has moved. At most
//!    [`RESTORED_AT_ONCE`] signatures are under way for it, so that a large pool does not keep news waiting.
//! 2. Own transactions come first, in the order of their nonces, and are offered to the network again ([`super::own`]).
//!    One that cannot be included yet or any more is kept until it is settled, because the chain may change its mind.
//! 3. The others only wait here again: those that they came from have spread them. They are not sent.
//! 4. What is invalid is dropped, and an own transaction's row removed.

use super::io::{Event, Output};
use super::{Node, Verification};
use crate::id::TransactionId;
use crate::mempool::Source;
use crate::mesh::Sink;
use crate::time::Time;
use crate::transaction::Transaction;
use crate::verify::{Job, Outcome};
use bytes::Bytes;
use std::collections::VecDeque;

/// Signatures of restored transactions that are verified at the same time. A guess: some milliseconds of work.
const RESTORED_AT_ONCE: usize = 64;

/// Restored transactions that are not verified yet.
#[derive(Debug, Default)]
pub(super) struct Restoring {
    waiting: VecDeque<(Transaction, bool)>,
    under_way: usize,
    begun: bool,
    pending: usize,
    pool: usize,
}

impl Restoring {
    pub(super) fn len(&self) -> usize {
        self.waiting.len() + self.under_way
    }
}

impl Node {
    pub(super) fn restore(
        &mut self,
        now: Time,
        pending: Vec<(TransactionId, Bytes)>,
        pool: Vec<Bytes>,
        out: &mut impl Sink<Output>,
    ) {
        let (mut own, mut invalid) = (Vec::new(), Vec::new());
        for (id, bytes) in pending {
            match Transaction::decode(bytes, &self.genesis) {
                Ok(transaction) if transaction.id() == id => own.push(transaction),
                _ => invalid.push(id),
            }
        }
        self.remove_rows(invalid, out);
        own.sort_by_key(|transaction| (transaction.nonce(), transaction.id()));
        for transaction in own {
            if self.own.has_room(1, transaction.encoded_len()) {
                self.restoring.waiting.push_back((transaction, true));
            }
        }
        let others = pool.into_iter().take(self.mempool.config().transactions_max);
        let others = others.filter_map(|bytes| Transaction::decode(bytes, &self.genesis).ok());
        self.restoring.waiting.extend(others.map(|transaction| (transaction, false)));
        self.restoring.begun = true;
        self.restore_more(now, out);
    }

    /// Has the next signatures verified.
    pub(super) fn restore_more(&mut self, now: Time, out: &mut impl Sink<Output>) {
        while self.restoring.under_way < RESTORED_AT_ONCE
            && let Some((transaction, own)) = self.restoring.waiting.pop_front()
        {
            let included = self.chain.transaction_location(&transaction.id()).is_some();
            // An own transaction is verified even if the mempool has no use for it now: it may have later.
            let wanted = if own { !included } else { self.precheck(now, &transaction).is_ok() };
            if own && included {
                self.keep_own_again(now, &transaction, out);
            }
            if wanted {
                let purpose = Verification::Restored { transaction: transaction.clone(), own };
                if !self.verify(Job::Transaction(transaction.clone()), purpose, out) {
                    self.restoring.waiting.push_front((transaction, own));
                    return;
                }
                self.restoring.under_way += 1;
            }
        }
        if self.restoring.begun && self.restoring.len() == 0 {
            self.restoring.begun = false;
            let Restoring { pending, pool, .. } = self.restoring;
            out.emit(Output::Event(Event::Restored { pending, pool }));
        }
    }

    pub(super) fn restored_verified(
        &mut self,
        now: Time,
        (transaction, own): (Transaction, bool),
        outcome: &Outcome,
        out: &mut impl Sink<Output>,
    ) {
        self.restoring.under_way -= 1;
        match outcome {
            // Tried again when the next one is done or the next slot begins.
            Outcome::Shed | Outcome::Stamp(_) | Outcome::Block(_) => {
                return self.restoring.waiting.push_back((transaction, own));
            }
            Outcome::Invalid { .. } if own => self.remove_rows(vec![transaction.id()], out),
            Outcome::Invalid { .. } => {}
            Outcome::Valid => {
                let source = if own { Source::Local } else { Source::Restored };
                let inserted = self.insert(now, transaction.clone(), source).is_ok();
                if own {
                    self.keep_own_again(now, &transaction, out);
                    self.restoring.pending += 1;
                } else {
                    self.restoring.pool += usize::from(inserted);
                }
            }
        }
        self.restore_more(now, out);
    }
}
