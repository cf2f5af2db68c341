//! Peers that send messages which are not valid, or not any more.
//!
//! A spammer joins meshes, forwards nothing, and publishes at its own rate to everybody it is connected with, the same message to all: what it
//! costs is the work and the room of whoever takes it in. An invalid message costs most when only its signature is wrong, since
//! that is found last.

use super::Adversary;
use super::flood::greet;
use super::forge::Forger;
use super::links::Links;
use crate::wan::Stream;
use starling_crypto::SecretKey;
use starling_protocol::genesis::Genesis;
use starling_protocol::id::{MessageId, PeerHandle, Topic};
use starling_protocol::mesh::Sink;
use starling_protocol::message::Payload;
use starling_protocol::node::{Input, Output};
use starling_protocol::rpc::{Class, Frame, Rpc};
use starling_protocol::time::{Duration, Time, micros};
use starling_protocol::transaction::TransactionBuilder;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

/// Between two portions.
pub(super) const PORTION: Duration = Duration::from_millis(20);
/// Bytes of a message of nonsense.
const GARBAGE_BYTES: usize = 300;
/// For so many slots own transactions are valid.
const LASTS_SLOTS: u64 = 100;
/// Old messages kept to be sent again.
const KEPT_MAX: usize = 20_000;

/// What is sent.
#[derive(Clone, Debug)]
pub(super) enum Spam {
    /// Transactions of nobody's: their payload is not what was signed.
    BadSignature {
        /// One that was signed, but for its payload.
        model: Vec<u8>,
        /// Where its payload is.
        payload_at: usize,
    },
    /// Blocks under the names of producers.
    Forged(Box<Forger>),
    /// Transactions that were seen, with another signature: they cannot stand beside what they were made from.
    Conflict,
    /// Bytes that mean nothing.
    Garbage,
    /// Messages that were seen so long ago.
    Replay {
        /// How long.
        age: Duration,
    },
    /// Transactions of the spammer's own whose time is over.
    Expired {
        /// Signs them.
        key: Box<SecretKey>,
    },
    /// Pairs of transactions of the spammer's own, each valid by itself, that cannot stand beside each other: one for half of its peers, the other
    /// for the others, so that all honest forwarders of the one send what is of no use to those that have the other.
    Rivals {
        /// Signs them.
        key: Box<SecretKey>,
    },
    /// Valid transactions of the spammer's own.
    Ground {
        /// Signs them.
        key: Box<SecretKey>,
    },
}

impl Spam {
    /// Transactions whose signature is found wrong when it is verified, and not before, for as long as 200 slots after `slot`.
    pub(super) fn bad_signature(genesis: &Genesis, slot: u64, key: &SecretKey) -> Self {
        const PAYLOAD: [u8; 100] = [0x5a; 100];
        let transaction = TransactionBuilder::new(genesis, slot + 200).payload(PAYLOAD).build(key);
        let model = transaction.expect("it is small and in time").bytes().to_vec();
        let payload_at = model.windows(PAYLOAD.len()).position(|bytes| bytes == PAYLOAD).expect("it is in there");
        Self::BadSignature { model, payload_at }
    }
}

/// A peer that spams.
#[derive(Debug)]
pub(super) struct Spammer {
    spam: Spam,
    /// Messages in a portion, on average, and the part of one that is still to come.
    portion: f64,
    owed: f64,
    genesis: Genesis,
    topics: [Topic; 2],
    links: Links,
    random: Stream,
    /// Messages that were seen, and when.
    seen: VecDeque<(Time, Arc<Payload>)>,
    portion_at: Option<Time>,
    nonce: u64,
    /// Until when it forwards what it hears and spams nobody, and what it has forwarded.
    turns: Time,
    forwarded: BTreeSet<MessageId>,
}

impl Spammer {
    pub(super) fn new(spam: Spam, per_s: f64, genesis: Genesis, links: Links, random: Stream) -> Self {
        let portion = per_s * micros(PORTION) as f64 / 1e6;
        let topics = [genesis.transaction_topic().clone(), genesis.block_topic().clone()];
        Self {
            spam,
            portion,
            owed: 0.0,
            genesis,
            topics,
            links,
            random,
            seen: VecDeque::new(),
            portion_at: None,
            nonce: 0,
            turns: Time::ZERO,
            forwarded: BTreeSet::new(),
        }
    }

    /// The same, which is a good peer until then.
    pub(super) fn turning(self, turns: Time) -> Self {
        Self { turns, ..self }
    }

    /// Forwards what it has not heard before to everybody.
    fn forward(&mut self, from: PeerHandle, rpc: &Rpc, out: &mut dyn Sink<Output>) {
        for payload in rpc.publish.iter().filter(|payload| self.forwarded.insert(payload.id())) {
            for peer in self.links.connected().filter(|peer| *peer != from) {
                let frame = Frame::Publish { payload: payload.clone(), class: Class::Forward };
                out.emit(Output::Send { peer, frame });
            }
        }
    }

    fn message(&mut self, now: Time) -> Option<Arc<Payload>> {
        let topic = &self.topics[0];
        match &mut self.spam {
            Spam::Garbage => {
                let mut bytes = [0; GARBAGE_BYTES];
                self.random.fill(&mut bytes);
                Some(Payload::new(topic, &bytes))
            }
            Spam::BadSignature { model, payload_at } => {
                let mut bytes = model.clone();
                self.random.fill(&mut bytes[*payload_at..*payload_at + 8]);
                Some(Payload::new(topic, &bytes))
            }
            Spam::Forged(forger) => forger.next(now, |bytes| self.random.fill(bytes)),
            Spam::Conflict => {
                let (_, model) = self.seen.back()?;
                let mut bytes = model.data().to_vec();
                let at = bytes.len().checked_sub(40)?;
                self.random.fill(&mut bytes[at..at + 8]);
                Some(Payload::new(topic, &bytes))
            }
            Spam::Replay { age } => {
                let old = self.seen.front().is_some_and(|(since, _)| now.since(*since) >= *age);
                let (_, payload) = if old { self.seen.pop_front() } else { None }?;
                Some(payload)
            }
            Spam::Expired { key } => {
                self.nonce += 1;
                let transaction = TransactionBuilder::new(&self.genesis, 0).nonce(self.nonce).payload(vec![0; 100]);
                transaction.build(key).ok().map(|transaction| Payload::new(topic, transaction.bytes()))
            }
            Spam::Ground { key } | Spam::Rivals { key } => {
                let key = key.clone();
                self.nonce += 1;
                self.own(now, &key, [0; 100])
            }
        }
    }

    /// What the other half of its peers is sent in place of the last message.
    fn rival(&self, now: Time) -> Option<Arc<Payload>> {
        let Spam::Rivals { key } = &self.spam else { return None };
        self.own(now, key, [1; 100])
    }

    /// A valid transaction of this key with the present nonce.
    fn own(&self, now: Time, key: &SecretKey, payload: [u8; 100]) -> Option<Arc<Payload>> {
        let expires = micros(now.since(Time::ZERO)) / self.genesis.slot_us() + LASTS_SLOTS;
        let transaction = TransactionBuilder::new(&self.genesis, expires).nonce(self.nonce);
        let built = transaction.payload(payload.to_vec()).build(key);
        built.ok().map(|transaction| Payload::new(&self.topics[0], transaction.bytes()))
    }
}

impl Adversary for Spammer {
    fn handle(&mut self, now: Time, input: Input<'_>, out: &mut dyn Sink<Output>) {
        match &input {
            Input::WallClock { unix_us_at_zero } => {
                if let Spam::Forged(forger) = &mut self.spam {
                    forger.tell_time(*unix_us_at_zero);
                }
                self.links.begin(out);
                self.portion_at = Some(self.turns.max(now + PORTION));
            }
            Input::Rpc { peer, rpc, .. } if now < self.turns => self.forward(*peer, rpc, out),
            Input::Rpc { peer, rpc, .. } => {
                if matches!(self.spam, Spam::Conflict) && self.seen.is_empty() {
                    // Who is in nobody's mesh has nothing to begin with but what it asks for.
                    let announced = rpc.ihave.iter().filter(|announced| announced.topic == self.topics[0]);
                    if let Some(id) = announced.flat_map(|announced| announced.ids.iter()).next() {
                        out.emit(Output::Send { peer: *peer, frame: Frame::IWant([*id].into()) });
                    }
                }
                if let Spam::Forged(forger) = &mut self.spam {
                    let blocks = rpc.publish.iter().filter(|payload| *payload.topic() == self.topics[1]);
                    blocks.for_each(|payload| forger.hear(payload));
                }
                let kept = match self.spam {
                    Spam::Replay { .. } => KEPT_MAX,
                    Spam::Conflict => 1,
                    Spam::Garbage
                    | Spam::Forged(_)
                    | Spam::BadSignature { .. }
                    | Spam::Expired { .. }
                    | Spam::Rivals { .. }
                    | Spam::Ground { .. } => 0,
                };
                let transactions = rpc.publish.iter().filter(|payload| *payload.topic() == self.topics[0]);
                self.seen.extend(transactions.map(|payload| (now, payload.clone())));
                self.seen.drain(..self.seen.len().saturating_sub(kept));
            }
            _ => {}
        }
        if let Some(peer) = self.links.handle(now, &input) {
            greet(&self.topics, peer, out);
        }
    }

    fn on_wake(&mut self, now: Time, out: &mut dyn Sink<Output>) {
        self.links.on_wake(now, out);
        if self.portion_at.is_some_and(|at| at <= now) {
            self.forwarded.clear();
            self.portion_at = Some(now + PORTION);
            self.owed += self.portion;
            while self.owed >= 1.0 {
                self.owed -= 1.0;
                let Some(payload) = self.message(now) else { break };
                let rival = self.rival(now);
                for peer in self.links.connected() {
                    let payload = rival.as_ref().filter(|_| peer.slot % 2 == 1).unwrap_or(&payload);
                    let frame = Frame::Publish { payload: payload.clone(), class: Class::Forward };
                    out.emit(Output::Send { peer, frame });
                }
            }
        }
    }

    fn next_wake(&self) -> Option<Time> {
        self.portion_at.into_iter().chain(self.links.next_wake()).min()
    }
}
