//! Payloads that are submitted here, to be signed with the node's own account key.
//!
//! # Rules
//! 1. **One after the other.** Where the genesis asks for a stamp, searching for it takes a while. A payload gets its
//!    nonce when its search begins, and the next payload's search begins when that has ended; the nonces of those that
//!    are being written to the disk count as used ([`super::persist`]). So no two get the same nonce and no failure
//!    leaves a gap. *Rationale:* searching for several stamps at once would need nonces to be
//!    reserved, and a search that fails would hold up all that come after it.
//! 2. **Off the event loop, in pieces.** A search is a chain of [`Job::Stamp`]s, each of a few milliseconds and less
//!    urgent than what a message waits for. So at most one worker searches, and never for long at a time.
//! 3. **Bounded.** At most [`DRAFTS_MAX`] payloads wait, the one being searched for included; a further one is refused
//!    as overload. A search ends after [`stamp_tries_max`] tries.
//! 4. If the nonce was used meanwhile (by a transaction signed elsewhere with the same key), the search begins again
//!    with the next, at most [`RESTARTS_MAX`] times.

use super::io::{Output, SubmitError};
use super::{Node, Ticket, Verification};
use crate::mesh::Sink;
use crate::time::Time;
use crate::transaction::{Transaction, TransactionBody, TransactionBuilder, TransactionError, stamp_tries_max};
use crate::verify::{Job, Outcome, STAMP_TRIES};
use starling_crypto::Digest;

/// Payloads that may wait for their stamps. A guess: some seconds of work with twenty bits, and at most a mebibyte or
/// so.
pub(super) const DRAFTS_MAX: usize = 64;

/// How often the search for a stamp begins again because the nonce was used meanwhile.
const RESTARTS_MAX: u32 = 3;

/// A payload that waits for its stamp.
#[derive(Debug)]
pub(super) struct Draft {
    ticket: Ticket,
    payload: Vec<u8>,
    restarts: u32,
    search: Option<Search>,
}

#[derive(Debug)]
struct Search {
    body: TransactionBody,
    content: Digest,
    /// How many numbers were tried.
    tried: u64,
}

impl Node {
    pub(super) fn submit_payload(&mut self, now: Time, ticket: Ticket, payload: &[u8], out: &mut impl Sink<Output>) {
        let refused = match self.body_of(now, payload) {
            Ok(body) if self.genesis.stamp_bits() == 0 => return self.sign_and_store(now, ticket, body, out),
            Ok(_) if self.drafts.len() >= DRAFTS_MAX => SubmitError::Overloaded,
            Ok(_) => {
                self.drafts.push_back(Draft { ticket, payload: payload.to_vec(), restarts: 0, search: None });
                if self.drafts.len() == 1 {
                    self.begin_search(now, out);
                }
                return;
            }
            Err(error) => error,
        };
        out.emit(Output::SubmitResult { ticket, result: Err(refused) });
    }

    /// A piece of the search for the first draft's stamp has ended.
    pub(super) fn stamp_sought(&mut self, now: Time, outcome: &Outcome, out: &mut impl Sink<Output>) {
        let Some(mut draft) = self.drafts.pop_front() else { return };
        let Some(mut search) = draft.search.take() else { return };
        let refused = match outcome {
            Outcome::Stamp(None) => {
                search.tried = search.tried.saturating_add(STAMP_TRIES);
                let (needed, tries) = (self.genesis.stamp_bits(), search.tried);
                if tries < stamp_tries_max(needed) {
                    draft.search = Some(search);
                    self.drafts.push_front(draft);
                    return self.search_on(out);
                }
                TransactionError::StampNotFound { needed, tries }.into()
            }
            Outcome::Stamp(Some(stamp)) => {
                let nonce = self.body_of(now, &draft.payload).map(|body| body.nonce);
                if nonce != Ok(search.body.nonce) && draft.restarts < RESTARTS_MAX {
                    draft.restarts += 1;
                    self.drafts.push_front(draft);
                    return self.begin_search(now, out);
                }
                self.sign_and_store(now, draft.ticket, TransactionBody { stamp: *stamp, ..search.body }, out);
                return self.begin_search(now, out);
            }
            Outcome::Shed | Outcome::Valid | Outcome::Invalid { .. } | Outcome::Block(_) => SubmitError::Overloaded,
        };
        out.emit(Output::SubmitResult { ticket: draft.ticket, result: Err(refused) });
        self.begin_search(now, out);
    }

    /// Begins the search for the first draft's stamp, after refusing what no stamp would make acceptable.
    fn begin_search(&mut self, now: Time, out: &mut impl Sink<Output>) {
        while let Some(mut draft) = self.drafts.pop_front() {
            let body = self.body_of(now, &draft.payload).and_then(|body| {
                self.precheck_own(now, &self.sign(body.clone())?)?;
                Ok(body)
            });
            match body {
                Ok(body) => {
                    draft.search = Some(Search { content: body.content(), body, tried: 0 });
                    self.drafts.push_front(draft);
                    return self.search_on(out);
                }
                Err(error) => out.emit(Output::SubmitResult { ticket: draft.ticket, result: Err(error) }),
            }
        }
    }

    /// Has the next numbers tried for the first draft. If the workers are overloaded, all drafts are refused: they
    /// would be one by one.
    fn search_on(&mut self, out: &mut impl Sink<Output>) {
        let bits = self.genesis.stamp_bits();
        let search = self.drafts.front().and_then(|draft| draft.search.as_ref());
        let Some(job) = search.map(|search| Job::Stamp { content: search.content, bits, first: search.tried }) else {
            return;
        };
        if !self.verify(job, Verification::Stamp, out) {
            for Draft { ticket, .. } in core::mem::take(&mut self.drafts) {
                out.emit(Output::SubmitResult { ticket, result: Err(SubmitError::Overloaded) });
            }
        }
    }

    /// The transaction that this payload would go into now, neither stamped nor signed.
    fn body_of(&self, now: Time, payload: &[u8]) -> Result<TransactionBody, SubmitError> {
        let sender = self.account().ok_or(SubmitError::NoAccountKey)?;
        let slot = self.slot_or_zero(now);
        // Half of the allowed lifetime: long enough to be included, and safe from clocks that run ahead or behind.
        let lifetime = (self.genesis.limits().expiry_slots_max / 2).max(1);
        let nonce = self.next_free_nonce(&sender, slot);
        let builder = TransactionBuilder::new(&self.genesis, slot.saturating_add(lifetime)).nonce(nonce);
        Ok(builder.payload(payload).body(sender)?)
    }

    fn sign(&self, body: TransactionBody) -> Result<Transaction, SubmitError> {
        Ok(body.sign(self.account.as_ref().ok_or(SubmitError::NoAccountKey)?))
    }

    fn sign_and_store(&mut self, now: Time, ticket: Ticket, body: TransactionBody, out: &mut impl Sink<Output>) {
        // We sign it ourselves: there is nothing to verify.
        match self.sign(body) {
            Ok(transaction) => self.store_own(now, ticket, &transaction, out),
            Err(error) => out.emit(Output::SubmitResult { ticket, result: Err(error) }),
        }
    }

    pub(super) fn check_drafts(&self) {
        assert!(self.drafts.len() <= DRAFTS_MAX, "too many payloads wait");
        let searches = self.verifications.iter().filter(|(_, each)| matches!(each, Verification::Stamp)).count();
        assert_eq!(searches, self.drafts.len().min(1), "one stamp is sought while payloads wait");
        for (place, draft) in self.drafts.iter().enumerate() {
            assert_eq!(draft.search.is_some(), place == 0, "only the first payload has a nonce");
        }
    }
}
