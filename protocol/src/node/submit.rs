//! Transactions that are submitted here.

use super::io::{Output, SubmitError};
use super::{Node, Ticket, Verification};
use crate::mempool::{Inserted, MempoolError, Source};
use crate::mesh::{self, Sink};
use crate::message::Payload;
use crate::time::Time;
use crate::transaction::{Transaction, TransactionBuilder};
use crate::verify::{Job, Outcome};
use bytes::Bytes;

impl Node {
    /// Everything that can be said about a transaction before its signature is looked at.
    pub(super) fn precheck(&self, now: Time, transaction: &Transaction) -> Result<(), MempoolError> {
        let slot = self.slot_or_zero(now);
        self.mempool.precheck(transaction, self.next_nonce(&transaction.sender(), slot), slot)
    }

    /// Takes a verified transaction into the mempool.
    pub(super) fn insert(
        &mut self,
        now: Time,
        transaction: &Transaction,
        source: Source,
    ) -> Result<Inserted, MempoolError> {
        let slot = self.slot_or_zero(now);
        let next_nonce = self.next_nonce(&transaction.sender(), slot);
        // A transaction that came inside a large buffer must not keep that buffer alive.
        self.mempool.insert(transaction.detached(), source, next_nonce, slot)
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
        outcome: Outcome,
        out: &mut impl Sink<Output>,
    ) {
        let result = match outcome {
            Outcome::Valid => self.accept_own(now, transaction, out),
            Outcome::Invalid { .. } => Err(SubmitError::BadSignature),
            Outcome::Shed => Err(SubmitError::Overloaded),
        };
        out.emit(Output::SubmitResult { ticket, result });
    }

    pub(super) fn submit_payload(&mut self, now: Time, ticket: Ticket, payload: &[u8], out: &mut impl Sink<Output>) {
        let result = self.sign_payload(now, payload).and_then(|transaction| {
            // We signed it ourselves: there is nothing to verify.
            self.precheck(now, &transaction)?;
            self.accept_own(now, &transaction, out)
        });
        out.emit(Output::SubmitResult { ticket, result });
    }

    fn sign_payload(&self, now: Time, payload: &[u8]) -> Result<Transaction, SubmitError> {
        let account = self.account.as_ref().ok_or(SubmitError::NoAccountKey)?;
        let sender = account.public_key().to_bytes();
        let slot = self.slot_or_zero(now);
        let nonce = self.next_free_nonce(&sender, slot);
        // Half of the allowed lifetime: long enough to be included, and safe from clocks that run ahead or behind.
        let lifetime = (self.genesis.limits().expiry_slots_max / 2).max(1);
        let expiry = slot.saturating_add(lifetime);
        Ok(TransactionBuilder::new(&self.genesis, expiry).nonce(nonce).payload(payload).build(account)?)
    }

    /// Takes in and publishes a transaction whose signature is known to be valid.
    fn accept_own(
        &mut self,
        now: Time,
        transaction: &Transaction,
        out: &mut impl Sink<Output>,
    ) -> Result<super::io::Submitted, SubmitError> {
        let (id, nonce) = (transaction.id(), transaction.nonce());
        let payload = Payload::new(self.genesis.transaction_topic(), transaction.bytes());
        let message = payload.id();
        self.insert(now, transaction, Source::Local)?;
        self.mesh_input(now, mesh::Input::Publish { payload }, out);
        Ok(super::io::Submitted { id, message, nonce })
    }
}
