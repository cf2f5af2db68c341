//! A producer that signs two blocks for one slot.
//!
//! It is a node machine with a producer's key, honest but for one thing: of each block of its own that carries transactions it makes a second
//! one, for the same slot, and sends the first one to half of its peers and the second one to the others. Nobody else can make such blocks.
//!
//! - On the same parent, without the last transaction, both are valid by themselves, so nodes have to choose among them without a word with each other, and end with the same chain.
//! - On the first one, and empty, the second is valid for whoever does not know that, and for nobody else, since a block has to be of a later slot than its parent. So one half of the
//!   nodes passes on what the other half knows to be wrong.

use super::links::Links;
use super::machine::Machine;
use crate::attack::Adversary;
use starling_crypto::SecretKey;
use starling_protocol::block::Block;
use starling_protocol::genesis::Genesis;
use starling_protocol::id::{MessageId, PeerId};
use starling_protocol::mesh::Sink;
use starling_protocol::message::Payload;
use starling_protocol::node::{Input, NodeParts, Output};
use starling_protocol::rpc::Frame;
use starling_protocol::time::Time;
use std::sync::Arc;

/// A producer that signs two blocks for one slot.
#[derive(Debug)]
pub(super) struct Equivocator {
    machine: Machine,
    twins: Twins,
}

/// What the second block follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Second {
    /// What the first one follows.
    SameParent,
    /// The first one.
    First,
}

impl Second {
    /// That of a kind of attackers; none if they make no second block.
    pub(super) fn named(kind: &str) -> Option<Self> {
        match kind {
            "equivocate" => Some(Self::SameParent),
            "misplace" => Some(Self::First),
            _ => None,
        }
    }
}

/// The blocks that others are sent in place of its own.
#[derive(Debug)]
struct Twins {
    second: Second,
    genesis: Genesis,
    key: SecretKey,
    /// The last block of its own, and the other one for the same slot.
    last: Option<(MessageId, Arc<Payload>)>,
}

impl Equivocator {
    /// One with this key, under this id.
    pub(super) fn new(
        second: Second,
        (genesis, key): (&Genesis, SecretKey),
        id: PeerId,
        links: Links,
        seed: u64,
    ) -> Self {
        let parts = NodeParts::new(genesis.clone(), id, 1).expect("valid parts");
        let parts = parts.with_producer(key.clone()).expect("the genesis names the key");
        let machine = Machine::new(parts, links, seed);
        Self { machine, twins: Twins { second, genesis: genesis.clone(), key, last: None } }
    }
}

impl Twins {
    /// The other block for the slot of this one, if it is its own and has transactions.
    fn twin(&mut self, payload: &Payload) -> Option<Arc<Payload>> {
        if let Some((_, twin)) = self.last.as_ref().filter(|(id, _)| *id == payload.id()) {
            return Some(twin.clone());
        }
        let block = Block::decode(bytes::Bytes::copy_from_slice(payload.data()), &self.genesis).ok()?;
        let header = block.header();
        if header.producer != self.key.public_key().to_bytes() {
            return None;
        }
        let (_, fewer) = block.transactions().split_last()?;
        let (place, transactions) = match self.second {
            Second::SameParent => ((header.slot, header.height, header.parent), fewer),
            Second::First => ((header.slot, header.height + 1, block.id()), &[][..]),
        };
        let twin = Block::produce(&self.genesis, &self.key, place, transactions.to_vec()).ok()?;
        let twin = Payload::new(self.genesis.block_topic(), twin.bytes());
        self.last = Some((payload.id(), twin.clone()));
        Some(twin)
    }
}

/// Passes on what the machine says, but for blocks of its own to every second peer.
struct Twist<'a> {
    out: &'a mut dyn Sink<Output>,
    twins: &'a mut Twins,
}

impl Sink<Output> for Twist<'_> {
    fn emit(&mut self, output: Output) {
        let output = match output {
            Output::Send { peer, frame: Frame::Publish { payload, class } }
                if payload.topic() == self.twins.genesis.block_topic() && peer.slot % 2 == 1 =>
            {
                let payload = self.twins.twin(&payload).unwrap_or(payload);
                Output::Send { peer, frame: Frame::Publish { payload, class } }
            }
            other => other,
        };
        self.out.emit(output);
    }
}

impl Adversary for Equivocator {
    fn handle(&mut self, now: Time, input: Input<'_>, out: &mut dyn Sink<Output>) {
        self.machine.handle(now, input, &mut Twist { out, twins: &mut self.twins });
    }

    fn on_wake(&mut self, now: Time, out: &mut dyn Sink<Output>) {
        self.machine.on_wake(now, &mut Twist { out, twins: &mut self.twins });
    }

    fn next_wake(&self) -> Option<Time> {
        self.machine.next_wake()
    }
}
