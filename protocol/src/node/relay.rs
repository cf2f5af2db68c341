//! Between the mesh and the rest: messages to be judged, verdicts, and effects passed through.

use super::io::{Event, Output};
use super::{MessageClass, Node, Verification};
use crate::id::PeerHandle;
use crate::mempool::{Fault, Source};
use crate::mesh::{self, Sink, ValidationTicket, Verdict};
use crate::message::Payload;
use crate::rpc::Frame;
use crate::time::Time;
use crate::transaction::Transaction;
use crate::verify::{Job, Outcome};
use std::sync::Arc;

/// A message that the mesh wants judged.
pub(super) struct Validation {
    pub(super) ticket: ValidationTicket,
    pub(super) payload: Arc<Payload>,
    pub(super) peer: PeerHandle,
}

/// Passes the mesh's effects on to the driver's sink, and keeps what the node itself has to act on.
pub(super) struct MeshSink<'a, S> {
    out: &'a mut S,
    pub(super) validations: Vec<Validation>,
    /// Peers that are being disconnected for what they did.
    pub(super) sent_away: Vec<PeerHandle>,
}

impl<'a, S: Sink<Output>> MeshSink<'a, S> {
    pub(super) fn new(out: &'a mut S) -> Self {
        Self { out, validations: Vec::new(), sent_away: Vec::new() }
    }
}

impl<S: Sink<Output>> Sink<mesh::Output> for MeshSink<'_, S> {
    fn emit(&mut self, output: mesh::Output) {
        match output {
            mesh::Output::Send { peer, frame } => self.out.emit(Output::Send { peer, frame }),
            mesh::Output::Cancel { peer, ids } => self.out.emit(Output::Cancel { peer, ids }),
            mesh::Output::Disconnect { peer, reason } => {
                if reason == mesh::DisconnectReason::Graylisted {
                    self.sent_away.push(peer);
                }
                self.out.emit(Output::Disconnect { peer, reason });
            }
            mesh::Output::PeerExchangeCandidates { peer, candidates } => {
                self.out.emit(Output::PeerExchangeCandidates { peer, candidates });
            }
            mesh::Output::Event(event) => self.out.emit(Output::Event(Event::Mesh(event))),
            mesh::Output::Validate { ticket, payload, peer } => {
                self.validations.push(Validation { ticket, payload, peer });
            }
            // A message is taken in when it was verified, which is what made the mesh accept and deliver it.
            mesh::Output::Deliver { .. } => {}
        }
    }

    fn send(&mut self, peer: PeerHandle, frame: &Frame) {
        self.out.send(peer, frame);
    }
}

impl Node {
    /// Hands an input to the mesh and acts on what it asks for; says whether it asked for anything.
    pub(super) fn mesh_input(&mut self, now: Time, input: mesh::Input<'_>, out: &mut impl Sink<Output>) -> bool {
        let mut sink = MeshSink::new(out);
        self.mesh.handle(now, input, &mut sink);
        let MeshSink { validations, sent_away, .. } = sink;
        let asked = !validations.is_empty() || !sent_away.is_empty();
        if asked {
            self.follow_up(now, validations, &sent_away, out);
        }
        asked
    }

    /// Does what the mesh has asked the node itself to do.
    pub(super) fn follow_up(
        &mut self,
        now: Time,
        validations: Vec<Validation>,
        sent_away: &[PeerHandle],
        out: &mut impl Sink<Output>,
    ) {
        for peer in sent_away {
            if let Some(id) = self.peer_id(*peer) {
                self.peers.sent_away(id);
            }
        }
        self.validate(now, validations, out);
    }

    /// Judges messages as far as that is cheap, and asks for the verification of their signatures.
    fn validate(&mut self, now: Time, validations: Vec<Validation>, out: &mut impl Sink<Output>) {
        for validation in validations {
            let ticket = validation.ticket;
            let verdict = match self.class_of(validation.payload.topic()) {
                Some(MessageClass::Transaction) => self.validate_transaction(now, validation, out),
                Some(MessageClass::Block) => self.validate_block(now, validation, out),
                None => Some(Verdict::Ignore),
            };
            if let Some(verdict) = verdict {
                // A verdict never leads to further validations, so this recursion is one deep.
                self.mesh_input(now, mesh::Input::Verdict { ticket, verdict }, out);
            }
        }
    }

    /// The verdict, or none while the signature is being verified.
    fn validate_transaction(
        &mut self,
        now: Time,
        validation: Validation,
        out: &mut impl Sink<Output>,
    ) -> Option<Verdict> {
        let Validation { ticket, payload, peer } = validation;
        let Some(transaction) = Transaction::in_message(&payload, &self.genesis) else {
            return Some(Verdict::Reject);
        };
        if self.chain.includes(self.moment(now), &transaction) {
            // A block overtook it. It is valid, and nodes behind us may still lack it.
            return Some(Verdict::Accept);
        }
        if let Err(error) = self.precheck(now, &transaction) {
            return Some(self.verdict_of(now, error.fault()));
        }
        let purpose = Verification::Relay { validation: ticket, transaction: transaction.clone(), peer };
        if self.verify(Job::Transaction(transaction), purpose, out) { None } else { Some(Verdict::Shed) }
    }

    /// Takes a transaction of a peer into the mempool when its signature is valid.
    pub(super) fn admit(
        &mut self,
        now: Time,
        transaction: &Transaction,
        peer: PeerHandle,
        outcome: &Outcome,
    ) -> Verdict {
        match outcome {
            Outcome::Invalid { .. } => Verdict::Reject,
            Outcome::Shed | Outcome::Stamp(_) | Outcome::Block(_) => Verdict::Shed,
            Outcome::Valid => match self.insert(now, transaction, Source::Peer(peer)) {
                Ok(_inserted) => Verdict::Accept,
                Err(_) if self.chain.includes(self.moment(now), transaction) => Verdict::Accept,
                Err(error) => self.verdict_of(now, error.fault()),
            },
        }
    }

    /// What a refusal by the mempool means for whoever sent the transaction. The only fault that it finds is an expiry
    /// slot beyond what any honest clock would explain, and while we have no slot of our own we cannot say that.
    fn verdict_of(&self, now: Time, fault: Fault) -> Verdict {
        match fault {
            Fault::Peer if self.slot(now).is_some() => Verdict::Reject,
            Fault::Peer | Fault::Nobody => Verdict::Ignore,
        }
    }
}
