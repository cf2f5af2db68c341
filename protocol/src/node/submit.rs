//! Transactions that are submitted here, ready-made. What follows a valid signature is in [`super::persist`].

use super::io::{Output, SubmitError};
use super::{Node, Ticket, Verification};
use crate::mempool::{Candidate, Inserted, MempoolError, Source};
use crate::mesh::Sink;
use crate::time::Time;
use crate::transaction::Transaction;
use crate::verify::{Job, Outcome};
use bytes::Bytes;

impl Node {
    /// Everything that can be said about a transaction before its signature is looked at.
    pub(super) fn precheck(&self, now: Time, transaction: &Transaction) -> Result<(), MempoolError> {
        let slot = self.slot_or_zero(now);
        self.mempool.precheck(transaction, self.next_nonce(&transaction.sender(), slot), slot)
    }

    /// Takes a verified transaction into the mempool. Its bytes must be its own or a message's: in a larger allocation, they would
    /// keep that alive.
    pub(super) fn insert(
        &mut self,
        now: Time,
        candidate: impl Into<Candidate>,
        source: Source,
    ) -> Result<Inserted, MempoolError> {
        let (slot, candidate) = (self.slot_or_zero(now), candidate.into());
        let next_nonce = self.next_nonce(&candidate.transaction.sender(), slot);
        self.mempool.insert(candidate, source, next_nonce, slot)
    }

    pub(super) fn submit(&mut self, now: Time, ticket: Ticket, bytes: &[u8], out: &mut impl Sink<Output>) {
        let checked = Transaction::decode(Bytes::copy_from_slice(bytes), &self.genesis)
            .map_err(SubmitError::from)
            .and_then(|transaction| Ok(self.precheck(now, &transaction).map(|()| transaction)?));
        match checked {
            Err(error) => out.emit(Output::SubmitResult { ticket, result: Err(error) }),
            Ok(transaction) => {
                let purpose = Verification::Submission { ticket, transaction: transaction.clone() };
                if !self.verify(Job::Transaction(transaction), purpose, out) {
                    out.emit(Output::SubmitResult { ticket, result: Err(SubmitError::Overloaded) });
                }
            }
        }
    }

    pub(super) fn submission_verified(
        &mut self,
        now: Time,
        ticket: Ticket,
        transaction: &Transaction,
        outcome: &Outcome,
        out: &mut impl Sink<Output>,
    ) {
        let refused = match outcome {
            Outcome::Valid => return self.store_own(now, ticket, transaction, out),
            Outcome::Invalid { .. } => SubmitError::BadSignature,
            Outcome::Shed | Outcome::Stamp(_) | Outcome::Block(_) => SubmitError::Overloaded,
        };
        out.emit(Output::SubmitResult { ticket, result: Err(refused) });
    }
}
