//! Sequences of inputs to the whole node machine: peers that send valid and damaged transactions and blocks of several
//! branches, answer requests honestly or not, and workers, storage and clocks that are slow, absent or wrong.

use crate::input::Input as Choices;
use bytes::Bytes;
use starling_crypto::{SecretKey, Signature};
use starling_protocol::block::Block;
use starling_protocol::genesis::Genesis;
use starling_protocol::id::{BlockId, Direction, HandleAllocator, PeerHandle, PeerId, Topic, Version};
use starling_protocol::message::Payload;
use starling_protocol::node::{Input, Node, NodeParts, Output, Ticket};
use starling_protocol::peers::{Source, Standing};
use starling_protocol::request::{Answer, Head, Request, Response, Status};
use starling_protocol::rpc::{IHave, Rpc, Subscription};
use starling_protocol::time::{Duration, Time};
use starling_protocol::transaction::{Transaction, TransactionBuilder};
use starling_protocol::verify::{Job, Outcome};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, LazyLock};

/// More peers than this are not connected at a time.
const PEERS_MAX: usize = 12;

/// What travels in this network.
struct World {
    genesis: Genesis,
    transactions: Vec<Transaction>,
    blocks: Vec<Block>,
}

static WORLD: LazyLock<World> = LazyLock::new(World::new);

fn key(number: u8) -> SecretKey {
    SecretKey::from_seed(&[number; 32])
}

impl World {
    fn new() -> Self {
        let producers = [1, 2].map(|number| format!("\"{}\"", key(number).public_key().to_bytes())).join(", ");
        let genesis = Genesis::from_toml(&format!(
            "name = \"fuzz\"\nstart_time = 2026-01-01T00:00:00Z\nslot_ms = 1000\nstamp_bits = 0\nproducers = [{producers}]\n\n\
             [limits]\npayload_bytes_max = 1024\ntransactions_per_block_max = 100\nblock_bytes_max = 65536\n\
             expiry_slots_max = 1000\nnonce_window = 4\n"
        ))
        .expect("a valid genesis");
        let transaction = |account: u8, nonce, expiry| {
            TransactionBuilder::new(&genesis, expiry)
                .nonce(nonce)
                .payload([account; 40])
                .build(&key(account))
                .expect("valid")
        };
        let mut transactions: Vec<Transaction> = [10, 11]
            .into_iter()
            .flat_map(|account| (0..6).map(move |nonce| (account, nonce)))
            .map(|(a, n)| transaction(a, n, 100))
            .collect();
        transactions.push(transaction(10, 0, 60));
        transactions.push(transaction(11, 0, 2));
        let mut forged = transaction(10, 1, 90).to_parts();
        forged.signature = Signature([7; 64]);
        transactions.push(Transaction::from_parts(forged));

        let make = |slot: u64, height: u64, parent: BlockId, included: &[usize]| {
            let body = included.iter().map(|index| transactions[*index].clone()).collect();
            let producer = key(if slot.is_multiple_of(2) { 1 } else { 2 });
            Block::produce(&genesis, &producer, (slot, height, parent), body).expect("a block in turn")
        };
        let mut blocks: Vec<Block> = Vec::new();
        // Slot, height, parent (an index here, or the first block), transactions.
        let plan: [(u64, u64, Option<usize>, &[usize]); 13] = [
            (1, 1, None, &[0]),
            (2, 2, Some(0), &[1, 6]),
            (3, 3, Some(1), &[2]),
            (4, 4, Some(2), &[]),
            // A longer branch, with some of the same transactions.
            (3, 2, Some(0), &[6, 7]),
            (5, 3, Some(4), &[1]),
            (6, 4, Some(5), &[2, 8]),
            (7, 5, Some(6), &[]),
            // A second block of slot 3, by the same producer.
            (3, 3, Some(1), &[7]),
            // A nonce too early, a forged signature, and a child of that.
            (5, 5, Some(3), &[5]),
            (6, 5, Some(3), &[14]),
            (7, 6, Some(10), &[]),
            // A block in a far slot.
            (900, 6, Some(7), &[3]),
        ];
        for (slot, height, parent, included) in plan {
            let parent = parent.map_or(genesis.block_id(), |index| blocks[index].id());
            blocks.push(make(slot, height, parent, included));
        }
        blocks.push(make(9, 9, BlockId(blocks[0].transactions()[0].leaf()), &[]));
        Self { genesis, transactions, blocks }
    }

    fn transaction(&self, choices: &mut Choices<'_>) -> &Transaction {
        &self.transactions[usize::from(choices.byte()) % self.transactions.len()]
    }

    fn block(&self, choices: &mut Choices<'_>) -> &Block {
        &self.blocks[usize::from(choices.byte()) % self.blocks.len()]
    }

    fn message(&self, choices: &mut Choices<'_>) -> Arc<Payload> {
        let (topic, bytes) = if choices.below(2) == 0 {
            (self.genesis.transaction_topic(), self.transaction(choices).bytes())
        } else {
            (self.genesis.block_topic(), self.block(choices).bytes())
        };
        Payload::new(topic, bytes)
    }
}

struct Driver<'w> {
    world: &'w World,
    node: Node,
    now: Time,
    handles: HandleAllocator,
    connected: Vec<PeerHandle>,
    /// What the node waits for.
    jobs: Vec<(Ticket, Job)>,
    requests: Vec<(Ticket, Request)>,
    loads: Vec<Ticket>,
    /// Tickets that the node issued, by what for (each kind has its own): none twice.
    issued: BTreeSet<(&'static str, Ticket)>,
    /// What waits for the node: submissions and requests of peers, each answered once.
    ours: u64,
    submissions: BTreeSet<Ticket>,
    asked: BTreeSet<Ticket>,
    verdicts: BTreeMap<Vec<u8>, Outcome>,
}

/// After every input all machines' invariants hold, every answer is to a question, and what was due is done.
pub(super) fn node(bytes: &[u8]) {
    drive(bytes).finish();
}

fn drive(bytes: &[u8]) -> Driver<'static> {
    let world = &*WORLD;
    let mut parts = NodeParts::new(world.genesis.clone(), PeerId::from_number(1), 8).expect("valid parts");
    let mut choices = Choices::new(bytes);
    if choices.below(2) == 1 {
        parts = parts.with_producer(key(1)).expect("a producer");
        parts.account = Some(key(12));
    }
    let mut driver = Driver {
        world,
        node: Node::new(parts, [9; 32], Time::ZERO),
        now: Time::ZERO,
        handles: HandleAllocator::default(),
        connected: Vec::new(),
        jobs: Vec::new(),
        requests: Vec::new(),
        loads: Vec::new(),
        issued: BTreeSet::new(),
        ours: 0,
        submissions: BTreeSet::new(),
        asked: BTreeSet::new(),
        verdicts: BTreeMap::new(),
    };
    while !choices.is_empty() {
        driver.step(&mut choices);
        driver.node.check();
    }
    driver
}

impl Driver<'_> {
    fn step(&mut self, choices: &mut Choices<'_>) {
        match choices.below(16) {
            0 => self.connect(choices),
            1 => {
                if let Some(peer) = self.peer(choices) {
                    self.disconnect(peer);
                }
            }
            2 => self.control(choices),
            3..=5 => {
                let payload = self.world.message(choices);
                self.rpc(choices, &Rpc { publish: vec![payload], ..Rpc::default() });
            }
            6 => {
                let message = self.world.message(choices);
                let mut data = message.data().to_vec();
                let at = usize::from(choices.short()) % data.len();
                data[at] ^= choices.byte();
                data.truncate(data.len() - usize::from(choices.below(3)));
                let payload = Payload::new(message.topic(), &data);
                self.rpc(choices, &Rpc { publish: vec![payload], ..Rpc::default() });
            }
            7..=9 => self.verified(choices),
            10 => self.response(choices),
            11 => self.request(choices),
            12 => self.submit(choices),
            13 => {
                let index = usize::from(choices.byte());
                let blocks = (0..choices.below(4)).map(|_| self.world.block(choices).bytes().clone()).collect();
                if !self.loads.is_empty() {
                    let ticket = self.loads.swap_remove(index % self.loads.len());
                    self.handle(Input::Loaded { ticket, blocks: Some(blocks) });
                }
            }
            14 => {
                // The network starts at the beginning of 2026; clocks are right, somewhat wrong, or far off.
                let start_ms = 1_767_225_600_000;
                let offset_ms = [0, 5_000, 7_500, u64::from(choices.byte()) << 12, 200_000_000_000_000];
                let unix_us_at_zero = (start_ms + offset_ms[usize::from(choices.below(5))]) * 1_000;
                self.handle(Input::WallClock { unix_us_at_zero });
            }
            _ => {
                self.now = self.now + Duration::from_millis(u64::from(choices.byte()) * 16);
                let mut out = Vec::new();
                self.node.on_wake(self.now, &mut out);
                self.took(out);
                let next = self.node.next_wake();
                assert!(next.is_none_or(|(due, _)| due > self.now), "{next:?} is due after waking at {}", self.now);
            }
        }
    }

    fn finish(mut self) {
        while let Some((ticket, _job)) = self.jobs.pop() {
            self.handle(Input::Verified { ticket, outcome: Outcome::Shed });
        }
        assert!(self.submissions.is_empty(), "every submission was answered");
        while let Some(peer) = self.connected.last().copied() {
            self.disconnect(peer);
        }
        self.node.check();
    }

    fn connect(&mut self, choices: &mut Choices<'_>) {
        if self.connected.len() == PEERS_MAX {
            return;
        }
        let peer = self.handles.allocate();
        let id = PeerId::from_number(1_000 + u64::from(peer.slot));
        let ip = IpAddr::V4(Ipv4Addr::new(10, 0, choices.below(4), choices.byte()));
        let direction = if choices.below(2) == 0 { Direction::Inbound } else { Direction::Outbound };
        self.connected.push(peer);
        self.handle(Input::Connected { peer, id, ip, direction, version: Version::V1_2 });
        let addresses = [Bytes::from_static(b"\x04\x0a\x00\x00\x01\x06\x04\xd2")];
        let standing = if peer.slot.is_multiple_of(4) { Standing::Bootnode } else { Standing::Heard };
        self.handle(Input::Discovered { id, addresses: &addresses, standing, source: Source::Peer(id) });
        if peer.slot.is_multiple_of(2) {
            self.handle(Input::Reached { id, address: addresses[0].clone() });
        }
    }

    fn disconnect(&mut self, peer: PeerHandle) {
        self.connected.retain(|other| *other != peer);
        self.handle(Input::Disconnected { peer });
        self.handles.release(peer);
    }

    /// Subscribes and grafts, or announces or asks for a message.
    fn control(&mut self, choices: &mut Choices<'_>) {
        let topics: [Topic; 2] =
            [self.world.genesis.transaction_topic().clone(), self.world.genesis.block_topic().clone()];
        let id = self.world.message(choices).id();
        let topic = topics[usize::from(choices.below(2))].clone();
        let rpc = match choices.below(4) {
            0 | 1 => {
                let subscribe = |topic: &Topic| Subscription { subscribe: true, topic: topic.clone() };
                Rpc { subscriptions: topics.iter().map(subscribe).collect(), graft: topics.to_vec(), ..Rpc::default() }
            }
            2 => Rpc { ihave: vec![IHave { topic, ids: vec![id] }], ..Rpc::default() },
            _ => Rpc { iwant: vec![id], idontwant: vec![id], ..Rpc::default() },
        };
        self.rpc(choices, &rpc);
    }

    fn rpc(&mut self, choices: &mut Choices<'_>, rpc: &Rpc) {
        if let Some(peer) = self.peer(choices) {
            self.handle(Input::Rpc { peer, rpc, received: self.now });
        }
    }

    fn verified(&mut self, choices: &mut Choices<'_>) {
        let (index, shed) = (usize::from(choices.byte()), choices.below(16) == 0);
        if self.jobs.is_empty() {
            return;
        }
        let (ticket, job) = self.jobs.swap_remove(index % self.jobs.len());
        let outcome = if shed { Outcome::Shed } else { self.run(&job) };
        self.handle(Input::Verified { ticket, outcome });
    }

    /// The job's outcome; signatures are slow, and the same ones come again and again.
    fn run(&mut self, job: &Job) -> Outcome {
        let key: Vec<u8> = match job {
            Job::Transaction(transaction) => transaction.bytes().to_vec(),
            Job::Header(block) => block.bytes().to_vec(),
            // The same block may be the content of another job.
            Job::Relayed(encoded) => [b"relayed", &encoded[..]].concat(),
            Job::Body(transactions) => {
                transactions.iter().flat_map(|(_, transaction)| transaction.bytes().to_vec()).collect()
            }
            Job::Headers(_) | Job::Block(_) | Job::Stamp { .. } => return job.run(&self.world.genesis),
        };
        self.verdicts.entry(key).or_insert_with(|| job.run(&self.world.genesis)).clone()
    }

    fn response(&mut self, choices: &mut Choices<'_>) {
        let index = usize::from(choices.byte());
        let first = usize::from(choices.byte()) % self.world.blocks.len();
        let count = usize::from(choices.below(6));
        let blocks = self.world.blocks.iter().skip(first).take(count);
        let height = u64::from(choices.byte());
        let head = Head { height, id: self.world.block(choices).id(), slot: height + 1 };
        // Mostly what fits what was asked.
        let asked = self.requests.get(index % self.requests.len().max(1)).map(|(_, request)| request);
        let kind = match (choices.below(8), asked) {
            (0, _) | (_, None) => choices.below(4),
            (_, Some(Request::Status(_))) => 0,
            (_, Some(Request::Headers { .. })) => 1,
            (_, Some(Request::Blocks(_))) => 2,
        };
        let answer = match (kind, asked) {
            (0, _) => Answer::Status,
            (1, _) => Answer::Headers(blocks.map(|block| *block.signed_header()).collect()),
            (2, Some(Request::Blocks(ids))) => {
                let block = |id| self.world.blocks.iter().find(|block| block.id() == id);
                Answer::Blocks(
                    ids.iter().map(|id| block(*id).map(|block| block.bytes().clone()).unwrap_or_default()).collect(),
                )
            }
            (2, _) => Answer::Blocks(blocks.map(|block| block.bytes().clone()).collect()),
            _ => Answer::Busy,
        };
        let earliest = u64::from(choices.below(8) / 7 * 3 + 1);
        let network = self.world.genesis.network_id();
        let mut body = Response { status: Status { network, head, earliest }, answer }.encode();
        let kind = choices.below(6);
        if kind == 1 {
            let at = usize::from(choices.short()) % body.len();
            body[at] ^= choices.byte();
        }
        if !self.requests.is_empty() {
            let (ticket, _) = self.requests.swap_remove(index % self.requests.len());
            self.handle(Input::Response { ticket, body: (kind != 0).then(|| body.into()) });
        }
    }

    fn request(&mut self, choices: &mut Choices<'_>) {
        let Some(peer) = self.peer(choices) else { return };
        let locator: Vec<BlockId> = (0..choices.below(3)).map(|_| self.world.block(choices).id()).collect();
        let body = match choices.below(4) {
            0 => choices.bytes(40).to_vec(),
            1 => Request::Blocks([locator, vec![self.world.block(choices).id()]].concat()).encode(),
            2 => Request::Headers { locator, headers_max: choices.short() }.encode(),
            _ => {
                let height = u64::from(choices.byte());
                let head = Head { height, id: self.world.block(choices).id(), slot: height };
                let network = self.world.genesis.network_id();
                Request::Status(Status { network, head, earliest: 1 }).encode()
            }
        };
        let ticket = self.our_ticket();
        self.asked.insert(ticket);
        self.handle(Input::Request { ticket, peer, body: &body });
    }

    fn submit(&mut self, choices: &mut Choices<'_>) {
        let ticket = self.our_ticket();
        self.submissions.insert(ticket);
        if choices.below(2) == 0 {
            let bytes = self.world.transaction(choices).bytes().clone();
            self.handle(Input::Submit { ticket, bytes: &bytes });
        } else {
            let payload = [choices.byte()];
            self.handle(Input::SubmitPayload { ticket, payload: &payload });
        }
    }

    fn our_ticket(&mut self) -> Ticket {
        self.ours += 1;
        Ticket(self.ours)
    }

    fn peer(&self, choices: &mut Choices<'_>) -> Option<PeerHandle> {
        let index = usize::from(choices.byte());
        (!self.connected.is_empty()).then(|| self.connected[index % self.connected.len()])
    }

    fn handle(&mut self, input: Input<'_>) {
        let mut out = Vec::new();
        self.node.handle(self.now, input, &mut out);
        self.took(out);
    }

    fn took(&mut self, outputs: Vec<Output>) {
        for output in outputs {
            match output {
                Output::Send { peer, .. } | Output::Cancel { peer, .. } | Output::Disconnect { peer, .. } => {
                    assert!(self.connected.contains(&peer), "{peer:?} is connected");
                }
                Output::Verify { ticket, job } => {
                    assert!(self.issued.insert(("verify", ticket)), "a ticket is issued once");
                    self.jobs.push((ticket, job));
                }
                Output::Request { ticket, peer, body } => {
                    assert!(self.connected.contains(&peer), "{peer:?} is connected");
                    assert!(self.issued.insert(("request", ticket)), "a ticket is issued once");
                    self.requests.push((ticket, Request::decode(&body).expect("our own requests decode")));
                }
                Output::Load { ticket, .. } => {
                    assert!(self.issued.insert(("load", ticket)), "a ticket is issued once");
                    self.loads.push(ticket);
                }
                Output::SubmitResult { ticket, .. } => {
                    assert!(self.submissions.remove(&ticket), "a submission is answered once");
                }
                Output::Respond { ticket, .. } => {
                    assert!(self.asked.remove(&ticket), "a request is answered once");
                    self.handle(Input::Responded { ticket });
                }
                Output::Persist { ticket, .. } => self.handle(Input::Persisted { ticket, durable: true }),
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seeds::seeds;

    /// Mutations are worth little if what they start from is refused at the door.
    #[test]
    fn the_seeds_reach_every_machine() {
        for (name, bytes) in seeds("node").into_iter().take(2) {
            let driver = drive(&bytes);
            assert!(driver.node.chain().head().height >= 4, "{name}: {:?}", driver.node.chain().head());
            assert!(driver.node.chain().accounts_len() >= 2, "{name}: transactions were included");
            assert!(!driver.connected.is_empty() && driver.issued.iter().any(|(kind, _)| *kind == "request"), "{name}");
        }
    }
}
