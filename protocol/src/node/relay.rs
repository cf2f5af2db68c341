//! Between the mesh and the rest: messages to be judged, verdicts, and effects passed through.
//!
//! A transaction that the pool would refuse for nobody's fault, because it conflicts with one that is here, comes too late or too early, is
//! verified all the same, while there is little else to verify, and one of a peer at a time. *Rationale:* whoever passes it on in good faith has verified it and found it
//! valid, so a signature that is not tells who has not: it is rejected, as any other, and three of them end a connection. Without that, random bytes
//! under a name that was seen would be free to send. What is validly signed is ignored and costs its sender the allowance of
//! [`crate::mesh::score::gater`], no more: nodes on the two sides of a conflict never hold it against each other, however many there are.

use super::io::{Event, Output};
use super::{MessageClass, Node, Ticket, Verification};
use crate::id::{MessageId, PeerHandle, Topic};
use crate::mempool::{Candidate, Fault, MempoolError, Source};
use crate::mesh::{self, Sink, ValidationTicket, Verdict};
use crate::message::{Payload, message_id};
use crate::rpc::Frame;
use crate::time::Time;
use crate::transaction::Transaction;
use crate::verify::{Job, Outcome};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Transactions that are of no use are verified while fewer verifications than this are under way: what costs nobody a wait.
const IN_DOUBT_MAX: usize = 8;

/// A message that the mesh wants judged.
pub(super) struct Validation {
    pub(super) ticket: ValidationTicket,
    pub(super) payload: Arc<Payload>,
    pub(super) peer: PeerHandle,
}

/// What the mesh asks the node itself to do; nearly always nothing, and then nothing is made.
#[derive(Default)]
pub(super) struct Asks {
    validations: Vec<Validation>,
    /// Peers that are being disconnected for what they did.
    sent_away: Vec<PeerHandle>,
    /// Validations that nobody waits for any more.
    abandoned: Vec<ValidationTicket>,
    /// Who entered a mesh of ours, and which.
    grafted: Vec<(PeerHandle, Topic)>,
}

/// Passes the mesh's effects on to the driver's sink, and keeps what the node itself has to act on.
pub(super) struct MeshSink<'a, S> {
    out: &'a mut S,
    asks: Option<Asks>,
}

impl<'a, S: Sink<Output>> MeshSink<'a, S> {
    pub(super) fn new(out: &'a mut S) -> Self {
        Self { out, asks: None }
    }

    pub(super) fn into_asks(self) -> Option<Asks> {
        self.asks
    }

    fn asks(&mut self) -> &mut Asks {
        self.asks.get_or_insert_default()
    }
}

impl<S: Sink<Output>> Sink<mesh::Output> for MeshSink<'_, S> {
    fn emit(&mut self, output: mesh::Output) {
        match output {
            mesh::Output::Send { peer, frame } => self.out.emit(Output::Send { peer, frame }),
            mesh::Output::Cancel { peer, ids } => self.out.emit(Output::Cancel { peer, ids }),
            mesh::Output::Disconnect { peer, reason } => {
                if reason == mesh::DisconnectReason::Graylisted {
                    self.asks().sent_away.push(peer);
                }
                self.out.emit(Output::Disconnect { peer, reason });
            }
            mesh::Output::PeerExchangeCandidates { peer, candidates } => {
                self.out.emit(Output::PeerExchangeCandidates { peer, candidates });
            }
            mesh::Output::Event(event) => {
                if let mesh::Event::Grafted { peer, topic } = &event {
                    self.asks().grafted.push((*peer, topic.clone()));
                }
                self.out.emit(Output::Event(Event::Mesh(event)));
            }
            mesh::Output::Validate { ticket, payload, peer } => {
                self.asks().validations.push(Validation { ticket, payload, peer });
            }
            mesh::Output::Abandon { tickets } => self.asks().abandoned.extend(tickets),
            // A message is taken in when it was verified, which is what made the mesh accept and deliver it.
            mesh::Output::Deliver { .. } => {}
        }
    }

    fn send(&mut self, peer: PeerHandle, frame: &Frame) {
        self.out.send(peer, frame);
    }

    fn cancel(&mut self, peer: PeerHandle, ids: &[MessageId]) {
        self.out.cancel(peer, ids);
    }

    fn copied(&mut self, copy: &mesh::Copied<'_>) {
        self.out.copied(copy);
    }
}

impl Node {
    /// Hands an input to the mesh and acts on what it asks for. Says whether that reached anything but the mesh, the mempool and
    /// verifications, which are never the ones that want to be woken next.
    pub(super) fn mesh_input(&mut self, now: Time, input: mesh::Input<'_>, out: &mut impl Sink<Output>) -> bool {
        let mut sink = MeshSink::new(out);
        self.mesh.handle(now, input, &mut sink);
        sink.into_asks().is_some_and(|asks| self.follow_up(now, asks, out))
    }

    /// Does what the mesh has asked the node itself to do; says the same as [`Self::mesh_input`].
    pub(super) fn follow_up(&mut self, now: Time, asks: Asks, out: &mut impl Sink<Output>) -> bool {
        let Asks { validations, sent_away, abandoned, grafted } = asks;
        self.abandon(&abandoned, out);
        let mut others = !sent_away.is_empty();
        for peer in sent_away {
            if let Some(id) = self.peer_id(peer) {
                self.peers.sent_away(id);
            }
        }
        for (peer, topic) in grafted {
            if topic == *self.genesis.transaction_topic() {
                others |= self.offer_pending(now, peer, out);
            }
        }
        for validation in validations {
            others |= self.validate(now, validation, out);
        }
        others
    }

    /// Has the verifications ended that nobody waits for any more.
    fn abandon(&mut self, abandoned: &[ValidationTicket], out: &mut impl Sink<Output>) {
        if abandoned.is_empty() {
            return;
        }
        let abandoned: BTreeSet<ValidationTicket> = abandoned.iter().copied().collect();
        let of_it = |it: &Verification| it.validation().is_some_and(|ticket| abandoned.contains(&ticket));
        let tickets: Vec<Ticket> =
            self.verifications.iter().filter(|(_, it)| of_it(it)).map(|(ticket, _)| *ticket).collect();
        for ticket in &tickets {
            self.verifications.remove(*ticket);
        }
        if !tickets.is_empty() {
            out.emit(Output::Abandon { tickets });
        }
    }

    /// Judges a message as far as that is cheap, and asks for the verification of its signature; says the same as [`Self::mesh_input`].
    fn validate(&mut self, now: Time, validation: Validation, out: &mut impl Sink<Output>) -> bool {
        let ticket = validation.ticket;
        if !self.mesh.is_validating(ticket) {
            // What came before it in the same RPC had its sender sent away.
            return false;
        }
        let class = self.class_of(validation.payload.topic());
        let verdict = match class {
            Some(MessageClass::Transaction) => self.validate_transaction(now, validation, out),
            Some(MessageClass::Block) => self.validate_block(now, validation, out),
            None => Some(Verdict::Ignore),
        };
        // A verdict never leads to further validations, so this recursion is one deep.
        let judged = verdict.is_some_and(|verdict| self.mesh_input(now, mesh::Input::Verdict { ticket, verdict }, out));
        judged || class == Some(MessageClass::Block)
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
        if let Some(verdict) = self.verdict_if_included(now, &transaction) {
            // A block overtook it. It is valid, and nodes behind us may still lack it.
            return Some(verdict);
        }
        if let Err(error) = self.precheck(now, &transaction) {
            let verdict = self.verdict_of(now, error.fault());
            // The same with another signature, which its name does not cover, is not the same.
            let is_here = self.mempool.get(&transaction.id()).is_some_and(|here| here.leaf() == transaction.leaf());
            if verdict != Verdict::Ignore
                || is_here
                || self.verifications.len() >= IN_DOUBT_MAX
                || self.verifies_for(peer)
            {
                return Some(verdict);
            }
        }
        let candidate = Candidate { transaction: transaction.clone(), message: Some(payload) };
        let purpose = Verification::Relay { validation: ticket, candidate, peer };
        if self.verify(Job::Transaction(transaction), purpose, out) { None } else { Some(Verdict::Shed) }
    }

    /// Whether a transaction of this peer is being verified: to be asked while few are.
    fn verifies_for(&self, peer: PeerHandle) -> bool {
        let of_it = |it: &Verification| matches!(it, Verification::Relay { peer: of, .. } if *of == peer);
        self.verifications.iter().any(|(_, it)| of_it(it))
    }

    /// Takes a transaction of a peer into the mempool when its signature is valid. Says how it is judged, and by which message of its sender nobody is
    /// to be tried because of it: nodes that have seen the one of two that conflict do not pass on the other.
    pub(super) fn admit(
        &mut self,
        now: Time,
        candidate: Candidate,
        peer: PeerHandle,
        outcome: &Outcome,
    ) -> (Verdict, Option<MessageId>) {
        let transaction = candidate.transaction.clone();
        let verdict = match outcome {
            Outcome::Invalid { .. } => Verdict::Reject,
            Outcome::Shed | Outcome::Stamp(_) | Outcome::Block(_) => Verdict::Shed,
            Outcome::Valid => match self.insert(now, candidate, Source::Peer(peer)) {
                // Where it came a moment later it has expired.
                Ok(_inserted) if self.expires_soon(now, &transaction) => Verdict::AcceptWithoutTrial,
                Ok(_inserted) => Verdict::Accept,
                Err(error) => {
                    if let Some(verdict) = self.verdict_if_included(now, &transaction) {
                        return (verdict, None);
                    }
                    let rival = match error {
                        MempoolError::NonceTaken { by, .. } => self.mempool.get(&by),
                        // Its sender has signed it twice.
                        MempoolError::Known => self.mempool.get(&transaction.id()),
                        _ => None,
                    };
                    let topic = self.genesis.transaction_topic().as_str();
                    let rival = rival.map(|rival| message_id(topic, rival.bytes()));
                    return (self.verdict_of(now, error.fault()), rival);
                }
            },
        };
        (verdict, None)
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
