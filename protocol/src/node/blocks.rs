//! Between the chain and the rest: blocks on their way in, verification of bodies, and the chain's effects.

use super::io::{Event, Output};
use super::relay::Validation;
use super::{Node, Ticket, Verification};
use crate::block::{Block, BlockError, BodyError, SignedHeader};
use crate::chain::{
    CLOCK_ALLOWANCE, Effect, LoadTicket, Moment, PeerFault, Relay, RequestFailure, RequestId, ResponseTicket, Verified,
    VerifyTicket,
};
use crate::id::{MessageId, PeerHandle};
use crate::mesh::{self, Sink, ValidationTicket, Verdict};
use crate::message::message_id;
use crate::request::{Request, Response};
use crate::sync::Checked;
use crate::time::Time;
use crate::transaction::Transaction;
use crate::verify::{BODY_SIGNATURES_MAX, DecodedBlock, Job, Outcome};
use bytes::Bytes;

/// Behaviour penalties for what no honest peer does in answering a request. Two such faults outweigh everything a peer
/// can have earned.
const FAULT_PENALTIES: u32 = 5;

/// A block whose header or body is being verified.
#[derive(Debug)]
pub(super) struct BlockCheck {
    block: Block,
    purpose: Purpose,
    /// Jobs without an answer.
    jobs: usize,
}

impl BlockCheck {
    pub(super) fn jobs(&self) -> usize {
        self.jobs
    }
}

/// What follows when a block has been verified.
#[derive(Clone, Copy, Debug)]
enum Purpose {
    /// It was relayed, and becomes part of the tree.
    Insert { from: PeerHandle },
    /// The chain asked for it and wants to know.
    Fetched { ticket: VerifyTicket, header_verified: bool },
}

impl Node {
    /// The verdict on a block that came over the mesh, or none while its header's signature is being verified. Only its
    /// header is looked at here: to decode the largest block takes as long as some thousand other messages.
    pub(super) fn validate_block(
        &mut self,
        now: Time,
        validation: Validation,
        out: &mut impl Sink<Output>,
    ) -> Option<Verdict> {
        let Validation { ticket, payload, peer } = validation;
        let encoded = payload.data_bytes();
        let Ok(header) = SignedHeader::of_block(&encoded, &self.genesis) else {
            return Some(Verdict::Reject);
        };
        match self.chain.precheck_relay(self.moment(now), &header.header) {
            Relay::Accept => {
                let (message, bytes) = (payload.id(), encoded.len());
                let purpose = Verification::Relayed { validation: ticket, message, bytes, peer };
                if self.verify(Job::Relayed(encoded), purpose, out) { None } else { Some(Verdict::Shed) }
            }
            other => Some(verdict_of(other)),
        }
    }

    /// Relays a block whose header is signed by its producer and commits to its body, then has its body verified.
    pub(super) fn relayed_decoded(
        &mut self,
        now: Time,
        (validation, message, peer): (ValidationTicket, MessageId, PeerHandle),
        outcome: Outcome,
        out: &mut impl Sink<Output>,
    ) {
        let mut effects = Vec::new();
        let decoded = match outcome {
            Outcome::Block(decoded) => decoded.map_err(|_error| Verdict::Reject),
            Outcome::Invalid { .. } => Err(Verdict::Reject),
            Outcome::Shed | Outcome::Stamp(_) | Outcome::Valid => Err(Verdict::Shed),
        };
        let verdict = match &decoded {
            Ok(DecodedBlock { block, .. }) => {
                self.note_signer(now, block.header(), out);
                match self.chain.check_relay(self.moment(now), block.signed_header(), &mut effects) {
                    Relay::Accept => self.pass_on(now, block.header(), message),
                    ignored => verdict_of(ignored),
                }
            }
            Err(verdict) => *verdict,
        };
        self.mesh_input(now, mesh::Input::Verdict { ticket: validation, verdict }, out);
        self.chain_effects(now, effects, out);
        if let (Verdict::Accept | Verdict::AcceptWithoutTrial, Ok(DecodedBlock { block, body })) = (verdict, decoded) {
            self.news(now);
            self.report_transactions_in(&block, peer, out);
            self.check_block(now, block, body, Purpose::Insert { from: peer }, out);
        }
    }

    /// Takes in a block of our own: it is valid, because we made it.
    pub(super) fn insert_own_block(&mut self, now: Time, block: Block, out: &mut impl Sink<Output>) {
        let (at, mut effects) = (self.moment(now), Vec::new());
        // Remembers the header, so that another one for the slot is known as the second.
        if self.chain.check_relay(at, block.signed_header(), &mut effects) == Relay::Accept {
            self.chain.insert_block(at, block, None, Verified::Valid, &mut effects);
        }
        self.chain_effects(now, effects, out);
    }

    /// Has a block decoded that the chain asked for.
    fn decode_block(
        &mut self,
        now: Time,
        ticket: VerifyTicket,
        (encoded, header): (Bytes, Option<SignedHeader>),
        out: &mut impl Sink<Output>,
    ) {
        let purpose = Verification::Decode { ticket, header: header.map(Box::new) };
        if !self.verify(Job::Block(encoded), purpose, out) {
            self.fetched(now, ticket, Checked::Shed, out);
        }
    }

    /// A block that the chain asked for was decoded: now its signatures are verified.
    pub(super) fn block_decoded(
        &mut self,
        now: Time,
        ticket: VerifyTicket,
        header: Option<&SignedHeader>,
        outcome: Outcome,
        out: &mut impl Sink<Output>,
    ) {
        let Outcome::Block(decoded) = outcome else {
            return self.fetched(now, ticket, Checked::Shed, out);
        };
        match *decoded {
            Ok(DecodedBlock { block, body }) => {
                let header_verified = header == Some(block.signed_header());
                self.check_block(now, block, body, Purpose::Fetched { ticket, header_verified }, out);
            }
            Err(BlockError::Count { .. } | BlockError::Root { .. }) => {
                self.fetched(now, ticket, Checked::OtherBody, out);
            }
            Err(_) => self.fetched(now, ticket, Checked::Malformed, out),
        }
    }

    fn fetched(&mut self, now: Time, ticket: VerifyTicket, checked: Checked, out: &mut impl Sink<Output>) {
        if matches!(checked, Checked::Block(_, Verified::Valid)) {
            self.news(now);
        }
        let mut effects = Vec::new();
        self.chain.on_verified(self.moment(now), ticket, checked, &mut effects);
        self.chain_effects(now, effects, out);
    }

    /// Headers that the chain asked for were verified.
    pub(super) fn headers_verified(
        &mut self,
        now: Time,
        ticket: VerifyTicket,
        outcome: &Outcome,
        out: &mut impl Sink<Output>,
    ) {
        let verified = match outcome {
            Outcome::Valid => Verified::Valid,
            Outcome::Invalid { .. } => Verified::HeaderInvalid,
            Outcome::Shed | Outcome::Stamp(_) | Outcome::Block(_) => Verified::Shed,
        };
        let mut effects = Vec::new();
        self.chain.on_headers_verified(self.moment(now), ticket, &verified, &mut effects);
        self.chain_effects(now, effects, out);
    }

    /// Has verified what of a block was not verified before.
    fn check_block(
        &mut self,
        now: Time,
        block: Block,
        body: Result<(), BodyError>,
        purpose: Purpose,
        out: &mut impl Sink<Output>,
    ) {
        if let Err(error) = body {
            self.block_checked(now, block, purpose, Verified::BodyInvalid(error), out);
            return;
        }
        let mut jobs = Vec::new();
        if matches!(purpose, Purpose::Fetched { header_verified: false, .. }) {
            jobs.push(Job::Header(block.clone()));
        }
        let unverified: Vec<(usize, Transaction)> =
            block.transactions().iter().cloned().enumerate().filter(|(_, each)| !self.is_verified(each)).collect();
        jobs.extend(unverified.chunks(BODY_SIGNATURES_MAX).map(|chunk| Job::Body(chunk.to_vec())));
        if jobs.is_empty() {
            self.block_checked(now, block, purpose, Verified::Valid, out);
            return;
        }
        if self.verifications.len() + jobs.len() > self.config.verifications_max {
            self.block_checked(now, block, purpose, Verified::Shed, out);
            return;
        }
        let check = self.ticket();
        self.checks.insert(check, BlockCheck { block, purpose, jobs: jobs.len() });
        for job in jobs {
            let header = matches!(job, Job::Header(_));
            let started = self.verify(job, Verification::Block { check, header }, out);
            assert!(started, "there was room for every job");
        }
    }

    /// Whether the very same transaction, signature included, was verified when the mempool took it. The id alone would
    /// not do: it does not cover the signature.
    fn is_verified(&self, transaction: &Transaction) -> bool {
        self.mempool.get(&transaction.id()).is_some_and(|pending| pending.leaf() == transaction.leaf())
    }

    /// One job of a block's verification has ended. The first failure decides; later answers find nothing to decide.
    pub(super) fn block_job_done(
        &mut self,
        now: Time,
        (check, header): (Ticket, bool),
        outcome: &Outcome,
        out: &mut impl Sink<Output>,
    ) {
        let Some(state) = self.checks.get_mut(&check) else { return };
        state.jobs -= 1;
        let verified = match outcome {
            Outcome::Valid if state.jobs > 0 => return,
            Outcome::Valid => Verified::Valid,
            Outcome::Shed | Outcome::Stamp(_) | Outcome::Block(_) => Verified::Shed,
            Outcome::Invalid { .. } if header => Verified::HeaderInvalid,
            Outcome::Invalid { index } => match body_error(&state.block, *index) {
                Some(error) => Verified::BodyInvalid(error),
                None => Verified::Shed,
            },
        };
        if let Some(BlockCheck { block, purpose, .. }) = self.checks.remove(&check) {
            self.block_checked(now, block, purpose, verified, out);
        }
    }

    fn block_checked(
        &mut self,
        now: Time,
        block: Block,
        purpose: Purpose,
        verified: Verified,
        out: &mut impl Sink<Output>,
    ) {
        let (at, mut effects) = (self.moment(now), Vec::new());
        // What cannot be kept is not adopted; it is fetched again when there is room.
        let full = verified == Verified::Valid && self.import_is_paused();
        let verified = if full { Verified::Shed } else { verified };
        match purpose {
            Purpose::Insert { from } => self.chain.insert_block(at, block, Some(from), verified, &mut effects),
            Purpose::Fetched { ticket, .. } => {
                if verified == Verified::Valid {
                    self.note_signer(now, block.header(), out);
                }
                return self.fetched(now, ticket, Checked::Block(block, verified), out);
            }
        }
        self.chain_effects(now, effects, out);
    }

    pub(super) fn block_request(
        &mut self,
        now: Time,
        (ticket, peer): (Ticket, PeerHandle),
        body: &[u8],
        out: &mut impl Sink<Output>,
    ) {
        match Request::decode(body) {
            Ok(request) => {
                let mut effects = Vec::new();
                self.chain.on_request(self.moment(now), peer, ResponseTicket(ticket.0), request, &mut effects);
                self.chain_effects(now, effects, out);
            }
            Err(_malformed) => {
                self.mesh_input(now, mesh::Input::Misbehaved { peer, penalties: FAULT_PENALTIES }, out);
                out.emit(Output::Respond { ticket, body: None });
            }
        }
    }

    pub(super) fn block_response(
        &mut self,
        now: Time,
        ticket: Ticket,
        body: Option<&Bytes>,
        out: &mut impl Sink<Output>,
    ) {
        let response = body
            .ok_or(RequestFailure::Failed)
            .and_then(|body| Response::decode(body, &self.genesis).map_err(|_malformed| RequestFailure::Malformed));
        let mut effects = Vec::new();
        self.chain.on_response(self.moment(now), RequestId(ticket.0), response, &mut effects);
        self.chain_effects(now, effects, out);
    }

    pub(super) fn blocks_loaded(
        &mut self,
        now: Time,
        ticket: Ticket,
        blocks: Option<Vec<Bytes>>,
        out: &mut impl Sink<Output>,
    ) {
        let mut effects = Vec::new();
        self.chain.on_loaded(now, LoadTicket(ticket.0), blocks, &mut effects);
        self.chain_effects(now, effects, out);
    }

    /// A batch of the chain is on the disk.
    pub(super) fn batch_persisted(&mut self, now: Time, out: &mut impl Sink<Output>) {
        let mut effects = Vec::new();
        self.chain.on_persisted(self.moment(now), &mut effects);
        self.chain_effects(now, effects, out);
    }

    /// Carries out what the chain asks for. An effect may lead to further ones; they are carried out in turn.
    pub(super) fn chain_effects(&mut self, now: Time, effects: Vec<Effect>, out: &mut impl Sink<Output>) {
        for effect in effects {
            match effect {
                Effect::Verify { ticket, encoded, header } => self.decode_block(now, ticket, (encoded, header), out),
                Effect::VerifyHeaders { ticket, headers } => {
                    if !self.verify(Job::Headers(headers), Verification::Headers { ticket }, out) {
                        self.headers_verified(now, ticket, &Outcome::Shed, out);
                    }
                }
                Effect::Request { request, peer, body } => {
                    out.emit(Output::Request { ticket: Ticket(request.0), peer, body: body.encode().into() });
                }
                Effect::Respond { ticket, response } => {
                    let body = response.map(|response| response.encode().into());
                    out.emit(Output::Respond { ticket: Ticket(ticket.0), body });
                }
                Effect::Load { ticket, what } => out.emit(Output::Load { ticket: Ticket(ticket.0), what }),
                Effect::Persist(batch) => self.save(batch, out),
                Effect::Disputed { slot } => self.dispute(now, slot, out),
                Effect::HeadChanged { undone, adopted } => self.head_changed(now, &undone, &adopted, out),
                Effect::PeerFault { peer, fault } => self.peer_fault(now, peer, fault, out),
                Effect::Event(event) => out.emit(Output::Event(Event::Chain(event))),
            }
        }
    }

    fn head_changed(&mut self, now: Time, undone: &[Block], adopted: &[Block], out: &mut impl Sink<Output>) {
        let slot = self.slot_or_zero(now);
        let chain = &self.chain;
        let settled = self.mempool.on_head_changed(undone, adopted, slot, |account| chain.next_nonce(account, slot));
        let included = self.own.on_head_changed(slot, undone, adopted, self.chain.root().height);
        self.remove_rows(included, out);
        out.emit(Output::Event(Event::HeadChanged { head: self.chain.head(), undone: undone.len(), settled }));
        self.offer_returned(now, undone, out);
    }

    fn peer_fault(&mut self, now: Time, peer: PeerHandle, fault: PeerFault, out: &mut impl Sink<Output>) {
        self.mesh_input(now, mesh::Input::Misbehaved { peer, penalties: FAULT_PENALTIES }, out);
        out.emit(Output::Event(Event::PeerFault { peer, fault }));
    }

    /// Reports the transactions that a block brought before the mesh did.
    fn report_transactions_in(&self, block: &Block, peer: PeerHandle, out: &mut impl Sink<Output>) {
        let topic = self.genesis.transaction_topic().as_str();
        for transaction in block.transactions() {
            if self.mempool.get(&transaction.id()).is_some() {
                continue;
            }
            let message = message_id(topic, transaction.bytes());
            if !self.mesh.has_seen(&message) {
                out.emit(Output::Event(Event::InBlock { message, peer }));
            }
        }
    }

    pub(super) fn moment(&self, now: Time) -> Moment {
        match self.clock.unix_us(now) {
            Some(unix_us) => Moment::new(now, unix_us, &self.genesis, CLOCK_ALLOWANCE),
            None => Moment { now, slot: 0, slot_ahead: 0 },
        }
    }
}

/// What is wrong with the transaction at this place, whose signature was found invalid.
fn body_error(block: &Block, index: usize) -> Option<BodyError> {
    let error = block.transactions().get(index)?.verify_signature().err()?;
    Some(BodyError::Transaction { index, error })
}

fn verdict_of(relay: Relay) -> Verdict {
    match relay {
        Relay::Accept => Verdict::Accept,
        Relay::Ignore(_) => Verdict::Ignore,
    }
}
