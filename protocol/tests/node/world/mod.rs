//! Many node machines in virtual time: a discrete-event simulation in which everything outside of the machines is a
//! model.
//!
//! # The model
//! - **Links.** Every connection has a latency of its own. Frames wait in the real send queue, are encoded by the real
//!   wire code, sent one after the other at [`BYTES_PER_MS`], and decoded at the other end; on the way each may be
//!   lost, duplicated or delayed out of order ([`Faults`]).
//! - **Requests** for blocks travel beside the frames; they may fail at once, or be answered after their asker has
//!   given up.
//! - **Connecting.** A dial succeeds if the peer runs and is on the same side of a partition. Discovery finds three
//!   random running nodes. Peer exchange is not modelled.
//! - **Workers.** A verification takes [`VERIFYING`], a chunk of stamps too; some are shed.
//! - **Disks** lag by [`DISK`]; what was not written when a node is killed is lost.
//! - **Clocks.** Each node has a wall clock that is off by a constant, until a test sets it.
//! - **Stalls.** A node whose event loop hangs takes in everything late, in order. One that is deaf reads nothing, and its
//!   peers cannot write.
//! - **Lives.** A killed node loses its memory and comes back from its store. Whatever was on its way to the former
//!   life is dropped.
//!
//! # What is asserted at every step
//! The machine's own `check`; that waking leads to progress; that every ticket is used once and every submission
//! answered once; that no invalid message is accepted or sent.
//!
//! The order of events is that of (time, sequence number), and all chance comes from one seed, so a run repeats
//! exactly.

mod carry;
mod machine;

use crate::support::{START_MS, producer};
pub(crate) use machine::Machine;
use machine::{Far, Link};
use starling_protocol::block::Block;
use starling_protocol::genesis::Genesis;
use starling_protocol::id::{BlockId, Direction, MessageId, PeerHandle, TransactionId, Version};
use starling_protocol::mesh::DisconnectReason;
use starling_protocol::message::Payload;
use starling_protocol::node::{Input, NodeConfig, SubmitError, Submitted, Ticket, TransactionStatus};
use starling_protocol::peers::{Address, Source, Standing};
use starling_protocol::random::{Stream, Streams};
use starling_protocol::rpc::Rpc;
use starling_protocol::store::LoadRequest;
use starling_protocol::time::{Duration, Time};
use starling_protocol::transaction::Transaction;
use starling_protocol::verify::{Job, Outcome};
use starling_protocol::wire;
use std::collections::{BTreeMap, BTreeSet};

const VERIFYING: Duration = Duration::from_micros(300);
const DISK: Duration = Duration::from_millis(20);
/// How long a disk refuses batches.
const DISK_IS_DOWN: Duration = Duration::from_millis(700);
const DIALLING: Duration = Duration::from_millis(60);
const BYTES_PER_MS: u64 = 1_000;

/// What goes wrong, in thousandths of the cases.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Faults {
    pub(crate) loss: u64,
    pub(crate) duplication: u64,
    /// How much is added to the latency of a frame at most, which reorders frames.
    pub(crate) jitter: Duration,
    pub(crate) request_failure: u64,
    pub(crate) shed: u64,
    pub(crate) dial_failure: u64,
    /// A batch is refused, and all that follow for a while.
    pub(crate) disk: u64,
}

/// How a world begins.
pub(crate) struct Options {
    /// The network of each node, and its place among the producers if it has one.
    pub(crate) nodes: Vec<(Genesis, Option<usize>)>,
    pub(crate) seed: u64,
    pub(crate) faults: Faults,
    /// Latencies of connections are drawn from 1 ms up to this.
    pub(crate) latency_max: Duration,
    /// Wall clocks are off by up to so much, one way or the other.
    pub(crate) skew_max: Duration,
    pub(crate) config: NodeConfig,
    /// A machine is checked after each so many events.
    pub(crate) check_every: u64,
}

impl Options {
    /// So many nodes, the first of which are the genesis' producers.
    pub(crate) fn new(genesis: &Genesis, nodes: usize, seed: u64) -> Self {
        let producers = genesis.producers().len();
        Self {
            nodes: (0..nodes).map(|index| (genesis.clone(), (index < producers).then_some(index))).collect(),
            seed,
            faults: Faults::default(),
            latency_max: Duration::from_millis(60),
            skew_max: Duration::from_millis(200),
            config: NodeConfig::default(),
            check_every: 1,
        }
    }
}

/// What was seen that an honest network should not show, by whom.
#[derive(Debug, Default)]
pub(crate) struct Oddities {
    pub(crate) rejected: Vec<(usize, MessageId)>,
    pub(crate) peer_faults: Vec<(usize, String)>,
    pub(crate) equivocations: Vec<(usize, u64)>,
    pub(crate) disconnects: Vec<(usize, PeerHandle, DisconnectReason)>,
    pub(crate) bad_frames: usize,
    /// Who suspected to be cut off, and for how many slots.
    pub(crate) cut_off: Vec<(usize, u64)>,
}

enum Happening {
    Wake,
    /// The line of this peer is free for the next frame.
    Transmit {
        peer: PeerHandle,
    },
    Frame {
        peer: PeerHandle,
        bytes: Vec<u8>,
    },
    Closed {
        peer: PeerHandle,
    },
    Verify {
        ticket: Ticket,
        job: Job,
    },
    Dialled {
        target: usize,
    },
    Discovered,
    Request {
        peer: PeerHandle,
        asker: Asker,
        body: bytes::Bytes,
    },
    Response {
        ticket: Ticket,
        body: Option<bytes::Bytes>,
    },
    Responded {
        ticket: Ticket,
    },
    Persisted,
    DiskIsBack,
    Load {
        ticket: Ticket,
        what: LoadRequest,
    },
}

/// Who waits for a response.
#[derive(Clone, Copy, Debug)]
struct Asker {
    node: usize,
    life: u64,
    ticket: Ticket,
    latency: Duration,
}

pub(crate) struct World {
    pub(crate) now: Time,
    pub(crate) machines: Vec<Machine>,
    pub(crate) faults: Faults,
    pub(crate) odd: Oddities,
    /// Every event and output, folded into a number; kept if asked for.
    pub(crate) trace: Option<u64>,
    /// How many events there were.
    pub(crate) events: u64,
    latency_max: Duration,
    config: NodeConfig,
    check_every: u64,
    streams: Streams,
    random: Stream,
    queue: BTreeMap<(Time, u64), (usize, u64, Happening)>,
    sequence: u64,
    tickets: u64,
    /// Whether a message is valid, so that each is verified once here too.
    validity: BTreeMap<MessageId, bool>,
}

impl World {
    /// The nodes, all running; each knows the first one as its bootnode.
    pub(crate) fn new(options: Options) -> Self {
        let Options { nodes, seed, faults, latency_max, skew_max, config, check_every } = options;
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let streams = Streams::new(bytes);
        let mut random = streams.stream("world");
        let skew_us = i64::try_from(skew_max.as_micros()).expect("small");
        let machines = nodes.into_iter().map(|(genesis, place)| {
            let off_us = i64::try_from(random.below(2 * skew_us.unsigned_abs() + 1)).expect("small") - skew_us;
            Machine::new(genesis, place.map(producer), off_us)
        });
        let mut world = Self {
            now: Time::ZERO,
            machines: machines.collect(),
            faults,
            odd: Oddities::default(),
            trace: None,
            events: 0,
            latency_max,
            config,
            check_every,
            streams,
            random,
            queue: BTreeMap::new(),
            sequence: 0,
            tickets: 0,
            validity: BTreeMap::new(),
        };
        (0..world.machines.len()).for_each(|index| world.start(index));
        world
    }

    /// Starts a node that is not running, with what its store has.
    pub(crate) fn start(&mut self, index: usize) {
        let life = self.machines[index].life + 1;
        let seed = self.streams.derive(&format!("node {index} life {life}"));
        self.machines[index].start(index, self.config.clone(), seed, self.now);
        self.set_clock(index, self.machines[index].off_us);
        let store = &self.machines[index].store;
        let pending = store.pending.iter().map(|(id, bytes)| (*id, bytes.clone())).collect();
        let pool = store.pool.clone();
        self.input(index, Input::Restore { pending, pool });
        // The first node is everybody's bootnode, and the second its own.
        self.introduce(index, usize::from(index == 0), Standing::Bootnode);
    }

    /// Sets how far a node's wall clock is off.
    pub(crate) fn set_clock(&mut self, index: usize, off_us: i64) {
        self.machines[index].off_us = off_us;
        let unix_us_at_zero = (START_MS * 1_000).checked_add_signed(off_us).expect("no clock is that far behind");
        self.input(index, Input::WallClock { unix_us_at_zero });
    }

    /// Ends a node at once, with all that it had in memory.
    pub(crate) fn kill(&mut self, index: usize) {
        let written = self.random.below(self.machines[index].batches.len() as u64 + 1);
        let machine = &mut self.machines[index];
        if !machine.disk_is_down {
            // Some batches were written, but the node did not hear of it.
            for (_, batch) in machine.batches.drain(..usize::try_from(written).expect("small")) {
                machine.store.apply(&batch);
            }
        }
        machine.node = None;
        let (links, askers) = (std::mem::take(&mut machine.links), std::mem::take(&mut machine.askers));
        machine.batches.clear();
        machine.submissions.retain(|_, answer| answer.is_some());
        for link in links.into_values() {
            self.close_far_end(&link);
        }
        for asker in askers.into_values() {
            self.respond(asker, None);
        }
    }

    /// Puts each node on a side; nodes on different sides lose their connections and cannot connect.
    pub(crate) fn partition(&mut self, side: impl Fn(usize) -> u8) {
        for index in 0..self.machines.len() {
            self.machines[index].side = side(index);
        }
        for index in 0..self.machines.len() {
            let cut: Vec<PeerHandle> = self.machines[index]
                .links
                .iter()
                .filter_map(|(peer, link)| match link.far {
                    Far::Node { node, .. } => (side(node) != side(index)).then_some(*peer),
                    Far::Puppet => None,
                })
                .collect();
            cut.into_iter().for_each(|peer| self.close(index, peer));
        }
    }

    /// Lets all nodes connect again.
    pub(crate) fn heal(&mut self) {
        self.machines.iter_mut().for_each(|machine| machine.side = 0);
    }

    /// Has a node's event loop hang for so long.
    pub(crate) fn stall(&mut self, index: usize, duration: Duration) {
        self.machines[index].stalled_until = self.now + duration;
    }

    /// Has a node read nothing for so long: what the others have for it waits in their queues.
    pub(crate) fn deafen(&mut self, index: usize, duration: Duration) {
        self.machines[index].deaf_until = self.now + duration;
    }

    /// Submits a transaction to a running node.
    pub(crate) fn submit(&mut self, index: usize, transaction: &Transaction) -> Ticket {
        let ticket = self.expect_answer(index);
        self.input(index, Input::Submit { ticket, bytes: transaction.bytes() });
        ticket
    }

    /// Has a running node sign and publish a payload.
    pub(crate) fn publish(&mut self, index: usize, payload: &[u8]) -> Ticket {
        let ticket = self.expect_answer(index);
        self.input(index, Input::SubmitPayload { ticket, payload });
        ticket
    }

    /// The answer to a submission, once there is one.
    pub(crate) fn answer(&self, index: usize, ticket: Ticket) -> Option<&Result<Submitted, SubmitError>> {
        self.machines[index].submissions.get(&ticket)?.as_ref()
    }

    /// Connects a peer that the test plays itself; what it is sent is only counted.
    pub(crate) fn puppet(&mut self, index: usize, number: u64) -> PeerHandle {
        let peer = self.machines[index].connect(Far::Puppet, Duration::ZERO);
        let (id, ip) = (Machine::peer_id_of(1_000 + number), Machine::ip_of(1_000 + number));
        self.input(index, Input::Connected { peer, id, ip, direction: Direction::Inbound, version: Version::V1_2 });
        peer
    }

    /// Has a puppet send a message.
    pub(crate) fn puppet_sends(&mut self, index: usize, peer: PeerHandle, payload: &std::sync::Arc<Payload>) {
        let rpc = Rpc { publish: vec![payload.clone()], ..Rpc::default() };
        self.input(index, Input::Rpc { peer, rpc: &rpc, received: self.now });
    }

    /// Runs for so long.
    pub(crate) fn run(&mut self, duration: Duration) {
        let end = self.now + duration;
        self.run_until(end, |_| false);
        self.now = end;
    }

    /// Runs until the condition holds, for so long at most; says whether it does.
    pub(crate) fn run_while_not(&mut self, within: Duration, holds: impl Fn(&Self) -> bool) -> bool {
        let end = self.now + within;
        // The condition may be costly, so it is looked at ten times a second.
        while self.now < end {
            if holds(self) {
                return true;
            }
            self.run(Duration::from_millis(100));
        }
        holds(self)
    }

    fn run_until(&mut self, end: Time, stop: impl Fn(&Self) -> bool) {
        while let Some(entry) = self.queue.first_entry()
            && entry.key().0 <= end
        {
            let ((at, _), (index, life, happening)) = entry.remove_entry();
            self.now = at;
            let machine = &self.machines[index];
            if machine.node.is_some() && machine.life == life {
                if machine.stalled_until > at {
                    self.schedule(index, machine.stalled_until, happening);
                } else {
                    self.events += 1;
                    self.happen(index, happening);
                }
            }
            if stop(self) {
                return;
            }
        }
    }

    /// The nodes that run.
    pub(crate) fn running(&self) -> impl Iterator<Item = (usize, &Machine)> {
        self.machines.iter().enumerate().filter(|(_, machine)| machine.node.is_some())
    }

    /// The heads of all running nodes.
    pub(crate) fn heads(&self) -> BTreeSet<BlockId> {
        self.running().map(|(_, machine)| machine.node().chain().head().id).collect()
    }

    /// Whether all running nodes say of this transaction that it is in the chain.
    pub(crate) fn included_everywhere(&self, id: &TransactionId) -> bool {
        self.running().all(|(_, machine)| {
            let node = machine.node();
            matches!(node.transaction_status(id), TransactionStatus::Included(_))
        })
    }

    /// Asserts that a node's chain is one, from its first block to its head, and holds no transaction twice; returns
    /// it.
    pub(crate) fn check_chain(&self, index: usize) -> Vec<Block> {
        let machine = &self.machines[index];
        let (chain, genesis) = (machine.node().chain(), &machine.genesis);
        let root = usize::try_from(chain.root().height).expect("small");
        let mut blocks = machine.store.chain(genesis);
        blocks.truncate(root);
        assert_eq!(blocks.len(), root, "what cannot be undone is stored");
        blocks.extend(
            (chain.root().height + 1..=chain.head().height)
                .map(|height| chain.block_at(height).expect("what can be undone is in memory").clone()),
        );
        let (mut parent, mut slot, mut included) = (genesis.block_id(), 0, BTreeSet::new());
        for (height, block) in (1..).zip(&blocks) {
            let header = block.header();
            assert_eq!((header.parent, header.height), (parent, height), "blocks follow on each other");
            assert!(header.slot > slot && block.verify_header_signature(genesis).is_ok(), "{block:?}");
            for transaction in block.transactions() {
                assert!(included.insert(transaction.id()), "{transaction:?} is in the chain twice");
                assert!(transaction.check_expiry(header.slot, genesis).is_ok(), "{transaction:?} in slot {slot}");
            }
            (parent, slot) = (block.id(), header.slot);
        }
        assert_eq!(parent, chain.head().id, "the chain ends with the head");
        blocks
    }

    /// Tells a node of another.
    pub(crate) fn introduce(&mut self, index: usize, target: usize, standing: Standing) {
        if index != target && target < self.machines.len() {
            let number = u8::try_from(target).expect("few nodes");
            let address = Address::from(vec![4, 20, number, 1, 1, 6, 1, 2]);
            let (id, source) = (Machine::peer_id(target), Source::Lookup);
            self.input(index, Input::Discovered { id, addresses: &[address], standing, source });
        }
    }

    pub(crate) fn input(&mut self, index: usize, input: Input<'_>) {
        let mut out = Vec::new();
        self.machines[index].node_mut().handle(self.now, input, &mut out);
        self.carry_out(index, out);
    }

    fn expect_answer(&mut self, index: usize) -> Ticket {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        self.machines[index].submissions.insert(ticket, None);
        ticket
    }

    fn happen(&mut self, index: usize, happening: Happening) {
        match happening {
            Happening::Wake => self.wake(index),
            Happening::Transmit { peer } => self.transmit(index, peer),
            Happening::Frame { peer, bytes } => self.frame(index, peer, &bytes),
            Happening::Closed { peer } => self.close(index, peer),
            Happening::Verify { ticket, job } => {
                let outcome =
                    if self.chance(self.faults.shed) { Outcome::Shed } else { job.run(&self.machines[index].genesis) };
                self.machines[index].tickets.verify.take(ticket);
                self.input(index, Input::Verified { ticket, outcome });
            }
            Happening::Dialled { target } => self.dialled(index, target),
            Happening::Discovered => {
                let mut others: Vec<usize> = self.running().map(|(other, _)| other).collect();
                self.random.sample(&mut others, 3);
                others.into_iter().for_each(|other| self.introduce(index, other, Standing::Heard));
            }
            Happening::Request { peer, asker, body } => {
                self.tickets += 1;
                let ticket = Ticket(self.tickets);
                self.machines[index].askers.insert(ticket, asker);
                self.input(index, Input::Request { ticket, peer, body: &body });
            }
            Happening::Response { ticket, body } => {
                self.machines[index].tickets.request.take(ticket);
                self.input(index, Input::Response { ticket, body });
            }
            Happening::Responded { ticket } => self.input(index, Input::Responded { ticket }),
            Happening::Persisted => {
                let fails = self.chance(self.faults.disk);
                let machine = &mut self.machines[index];
                let Some((ticket, batch)) = machine.batches.pop_front() else { return };
                machine.tickets.persist.take(ticket);
                let was_down = machine.disk_is_down;
                machine.disk_is_down |= fails;
                let durable = !machine.disk_is_down;
                if durable {
                    machine.store.apply(&batch);
                } else if !was_down {
                    self.schedule(index, self.now + DISK_IS_DOWN, Happening::DiskIsBack);
                }
                self.input(index, Input::Persisted { ticket, durable });
            }
            Happening::DiskIsBack => {
                while let Some((ticket, _)) = self.machines[index].batches.pop_front() {
                    self.machines[index].tickets.persist.take(ticket);
                    self.input(index, Input::Persisted { ticket, durable: false });
                }
                self.machines[index].disk_is_down = false;
                self.input(index, Input::StorageBack);
            }
            Happening::Load { ticket, what } => {
                let blocks = self.machines[index].store.load(&what);
                self.machines[index].tickets.load.take(ticket);
                self.input(index, Input::Loaded { ticket, blocks: Some(blocks) });
            }
        }
    }

    fn wake(&mut self, index: usize) {
        if self.machines[index].wake.is_some_and(|wake| wake <= self.now) {
            self.machines[index].wake = None;
        }
        let mut out = Vec::new();
        let node = self.machines[index].node_mut();
        node.on_wake(self.now, &mut out);
        let next = node.next_wake();
        assert!(next.is_none_or(|(at, _)| at > self.now), "waking did not lead to progress: {next:?} at {}", self.now);
        self.carry_out(index, out);
    }

    fn frame(&mut self, index: usize, peer: PeerHandle, bytes: &[u8]) {
        let machine = &self.machines[index];
        if !machine.links.contains_key(&peer) {
            return;
        }
        match wire::decode(bytes, &wire::WireLimits::default(), &machine.topics) {
            Ok(rpc) => self.input(index, Input::Rpc { peer, rpc: &rpc, received: self.now }),
            Err(_) => {
                self.odd.bad_frames += 1;
                self.input(index, Input::Misbehaved { peer, penalties: 5 });
            }
        }
    }

    fn dialled(&mut self, index: usize, target: usize) {
        let (id, other) = (Machine::peer_id(target), &self.machines[target]);
        let connected = self.machines[index].link_to(target).is_some();
        let reachable = other.node.is_some() && other.side == self.machines[index].side;
        if connected || !reachable || self.chance(self.faults.dial_failure) {
            self.input(index, Input::DialFailed { id });
        } else {
            self.connect(index, target);
        }
    }

    /// Connects two running nodes; the first dials.
    pub(crate) fn connect(&mut self, dialler: usize, listener: usize) {
        let latency_us = 1_000 + self.random.below(u64::try_from(self.latency_max.as_micros()).expect("short"));
        let latency = Duration::from_micros(latency_us);
        let unknown = PeerHandle { slot: 0, generation: 0 };
        let ours = self.machines[dialler].connect(Far::Node { node: listener, theirs: unknown }, latency);
        let theirs = self.machines[listener].connect(Far::Node { node: dialler, theirs: ours }, latency);
        self.machines[dialler].links.get_mut(&ours).expect("just made").far = Far::Node { node: listener, theirs };
        let ends = [(dialler, ours, listener, Direction::Outbound), (listener, theirs, dialler, Direction::Inbound)];
        for (node, peer, other, direction) in ends {
            let (id, ip) = (Machine::peer_id(other), Machine::ip_of(other as u64));
            self.input(node, Input::Connected { peer, id, ip, direction, version: Version::V1_2 });
            self.input(node, Input::Rtt { peer, rtt: latency * 2 });
        }
    }

    /// Ends a connection from this end; the other hears of it a moment later.
    pub(crate) fn close(&mut self, index: usize, peer: PeerHandle) {
        let Some(link) = self.machines[index].links.remove(&peer) else { return };
        self.close_far_end(&link);
        self.input(index, Input::Disconnected { peer });
        self.machines[index].handles.release(peer);
    }

    fn close_far_end(&mut self, link: &Link) {
        if let Far::Node { node, theirs } = link.far {
            self.schedule(node, self.now + link.latency, Happening::Closed { peer: theirs });
        }
    }

    fn schedule(&mut self, index: usize, at: Time, happening: Happening) {
        self.sequence += 1;
        let life = self.machines[index].life;
        self.queue.insert((at, self.sequence), (index, life, happening));
    }

    fn chance(&mut self, permille: u64) -> bool {
        self.random.chance(permille, 1_000)
    }
}
