//! One machine on a bench: the test plays its peers, its workers, its disk and its clock.

use crate::support::*;
use starling_protocol::block::Block;
use starling_protocol::chain::Position;
use starling_protocol::genesis::Genesis;
use starling_protocol::id::{Direction, HandleAllocator, PeerHandle, PeerId, Topic, Version};
use starling_protocol::mesh::{self, Verdict};
use starling_protocol::message::{Payload, message_id};
use starling_protocol::node::{Event, Input, Node, NodeParts, Output, SubmitError, Submitted, Ticket};
use starling_protocol::request::{Answer, Request, Response, Status};
use starling_protocol::rpc::{Frame, Rpc, Subscription};
use starling_protocol::store::Batch;
use starling_protocol::time::{Duration, Time};
use starling_protocol::transaction::Transaction;
use starling_protocol::verify::{Job, Outcome};
use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};

pub(crate) struct Bench {
    pub(crate) node: Node,
    pub(crate) genesis: Genesis,
    pub(crate) now: Time,
    /// Verifications that were asked for and not done.
    pub(crate) jobs: Vec<(Ticket, Job)>,
    /// Everything that came out, verifications and batches excepted.
    pub(crate) out: Vec<Output>,
    /// What the disk does with batches.
    pub(crate) disk: Disk,
    /// Batches that were not answered.
    pub(crate) batches: VecDeque<(Ticket, Batch)>,
    /// What is on the disk.
    pub(crate) store: Store,
    handles: HandleAllocator,
    peers: u64,
    tickets: u64,
}

/// What the disk does with batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Disk {
    /// It stores them at once.
    Prompt,
    /// It lets them wait.
    Slow,
    /// It refuses them.
    Full,
}

/// How a message was judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Judgement {
    pub(crate) verdict: Option<Verdict>,
    /// Whether a signature was verified.
    pub(crate) verified: bool,
    /// Whether whoever sent it has a worse score than before.
    pub(crate) blamed: bool,
}

impl Bench {
    /// A node at the middle of slot 0 that is not a producer.
    pub(crate) fn new(genesis: &Genesis) -> Self {
        Self::with(genesis, |_| {})
    }

    pub(crate) fn with(genesis: &Genesis, change: impl FnOnce(&mut NodeParts)) -> Self {
        let mut parts = NodeParts::new(genesis.clone(), PeerId::from_number(1), 8).expect("a valid node");
        parts.account = Some(key(100));
        change(&mut parts);
        let node = Node::new(parts, [7; 32], Time::ZERO);
        let (genesis, handles) = (genesis.clone(), HandleAllocator::default());
        let (jobs, out) = (Vec::new(), Vec::new());
        let (disk, batches, store) = (Disk::Prompt, VecDeque::new(), Store::default());
        let now = Time::ZERO;
        let mut bench = Self { node, genesis, now, jobs, out, disk, batches, store, handles, peers: 0, tickets: 0 };
        bench.set_clock(0);
        bench.run(Duration::from_millis(SLOT_MS / 2));
        bench
    }

    /// Sets the wall clock so that slot 0 began so long before (or, if negative, begins after) the epoch of monotonic
    /// time.
    pub(crate) fn set_clock(&mut self, ahead_ms: i64) {
        let unix_us_at_zero = START_MS.checked_add_signed(ahead_ms).expect("no clock is that far behind") * 1_000;
        self.input(Input::WallClock { unix_us_at_zero });
    }

    pub(crate) fn input(&mut self, input: Input<'_>) {
        let mut out = Vec::new();
        self.node.handle(self.now, input, &mut out);
        self.take(out);
    }

    /// Lets time pass.
    pub(crate) fn run(&mut self, duration: Duration) {
        let end = self.now + duration;
        while let Some((due, _)) = self.node.next_wake()
            && due <= end
        {
            self.now = self.now.max(due);
            let mut out = Vec::new();
            self.node.on_wake(self.now, &mut out);
            assert!(self.node.next_wake().is_none_or(|(next, _)| next > self.now), "no progress");
            self.take(out);
        }
        self.now = end;
    }

    /// Lets time pass until the middle of a slot, by an exact clock.
    pub(crate) fn run_to_slot(&mut self, slot: u64) {
        let until = Time::from_millis(slot * SLOT_MS + SLOT_MS / 2);
        self.run(until.since(self.now));
        assert_eq!(self.node.slot(self.now), Some(slot));
    }

    /// Connects a peer that is subscribed to both topics.
    pub(crate) fn connect(&mut self) -> PeerHandle {
        self.connect_as(Direction::Inbound)
    }

    pub(crate) fn connect_as(&mut self, direction: Direction) -> PeerHandle {
        self.peers += 1;
        let (peer, id) = (self.handles.allocate(), PeerId::from_number(100 + self.peers));
        let ip = IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + u32::try_from(self.peers).expect("few")));
        self.input(Input::Connected { peer, id, ip, direction, version: Version::V1_2 });
        let topics = [self.genesis.transaction_topic().clone(), self.genesis.block_topic().clone()];
        let subscriptions = topics.map(|topic| Subscription { subscribe: true, topic }).to_vec();
        self.rpc(peer, &Rpc { subscriptions, ..Rpc::default() });
        peer
    }

    pub(crate) fn disconnect(&mut self, peer: PeerHandle) {
        self.input(Input::Disconnected { peer });
        self.handles.release(peer);
    }

    pub(crate) fn rpc(&mut self, peer: PeerHandle, rpc: &Rpc) {
        self.input(Input::Rpc { peer, rpc, received: self.now });
    }

    /// Has a peer send a message.
    pub(crate) fn send(&mut self, peer: PeerHandle, topic: &Topic, data: &[u8]) {
        self.rpc(peer, &Rpc { publish: vec![Payload::new(topic, data)], ..Rpc::default() });
    }

    pub(crate) fn send_block(&mut self, peer: PeerHandle, block: &Block) {
        let topic = self.genesis.block_topic().clone();
        self.send(peer, &topic, block.bytes());
    }

    /// Has a new peer send a message, and all verifications done; says how it was judged.
    pub(crate) fn judge(&mut self, topic: &Topic, data: &[u8]) -> Judgement {
        let peer = self.connect();
        self.work();
        let before = self.score(peer);
        self.out.clear();
        self.send(peer, topic, data);
        let verified = !self.jobs.is_empty();
        self.work();
        let judgement = Judgement { verdict: self.verdict(topic, data), verified, blamed: self.score(peer) < before };
        self.disconnect(peer);
        judgement
    }

    pub(crate) fn judge_transaction(&mut self, transaction: &Transaction) -> Judgement {
        let topic = self.genesis.transaction_topic().clone();
        self.judge(&topic, transaction.bytes())
    }

    pub(crate) fn judge_block(&mut self, block: &Block) -> Judgement {
        let topic = self.genesis.block_topic().clone();
        self.judge(&topic, block.bytes())
    }

    /// Does all verifications that were asked for, and those that follow.
    pub(crate) fn work(&mut self) {
        while !self.jobs.is_empty() {
            for (ticket, job) in std::mem::take(&mut self.jobs) {
                let outcome = job.run(&self.genesis);
                self.input(Input::Verified { ticket, outcome });
            }
        }
    }

    /// Drops all verifications that were asked for.
    pub(crate) fn shed(&mut self) {
        for (ticket, _) in std::mem::take(&mut self.jobs) {
            self.input(Input::Verified { ticket, outcome: Outcome::Shed });
        }
    }

    pub(crate) fn score(&self, peer: PeerHandle) -> f64 {
        let views = self.node.mesh().peer_views();
        views.iter().find(|view| view.handle == peer).map_or(f64::NEG_INFINITY, |view| view.score.total)
    }

    /// How the validation of a message ended, as far as the log says.
    pub(crate) fn verdict(&self, topic: &Topic, data: &[u8]) -> Option<Verdict> {
        let id = message_id(topic.as_str(), data);
        self.out.iter().rev().find_map(|output| match output {
            Output::Event(Event::Mesh(mesh::Event::Validated { payload, verdict, .. })) if payload.id() == id => {
                Some(*verdict)
            }
            _ => None,
        })
    }

    /// The peers that a message was sent to, as far as the log says.
    pub(crate) fn sent_to(&self, data: &[u8]) -> Vec<PeerHandle> {
        let sent = self.out.iter().filter_map(|output| match output {
            Output::Send { peer, frame: Frame::Publish { payload, .. } } if payload.data() == data => Some(*peer),
            _ => None,
        });
        sent.collect()
    }

    /// Requests to peers in the log.
    pub(crate) fn requests(&self) -> Vec<(Ticket, PeerHandle, Request)> {
        let requests = self.out.iter().filter_map(|output| match output {
            Output::Request { ticket, peer, body } => {
                Some((*ticket, *peer, Request::decode(body).expect("our own requests decode")))
            }
            _ => None,
        });
        requests.collect()
    }

    pub(crate) fn submit(&mut self, transaction: &Transaction) -> Ticket {
        self.submit_bytes(transaction.bytes())
    }

    pub(crate) fn submit_bytes(&mut self, bytes: &[u8]) -> Ticket {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        self.input(Input::Submit { ticket, bytes });
        ticket
    }

    pub(crate) fn publish(&mut self, payload: &[u8]) -> Ticket {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        self.input(Input::SubmitPayload { ticket, payload });
        ticket
    }

    /// The answer to a submission, as far as the log says; there is never more than one.
    pub(crate) fn answer(&self, ticket: Ticket) -> Option<Result<Submitted, SubmitError>> {
        let mut answers = self.out.iter().filter_map(|output| match output {
            Output::SubmitResult { ticket: answered, result } if *answered == ticket => Some(result.clone()),
            _ => None,
        });
        let first = answers.next();
        assert!(answers.next().is_none(), "{ticket:?} is answered twice");
        first
    }

    /// The blocks made here, by slot, as far as the log says.
    pub(crate) fn produced(&self) -> Vec<u64> {
        let produced = self.out.iter().filter_map(|output| match output {
            Output::Event(Event::Produced { slot, .. }) => Some(*slot),
            _ => None,
        });
        produced.collect()
    }

    /// Has the disk answer the batches that wait, and those that follow.
    pub(crate) fn write(&mut self, durable: bool) {
        while let Some((ticket, batch)) = self.batches.pop_front() {
            if durable {
                self.store.apply(&batch);
            }
            self.input(Input::Persisted { ticket, durable });
        }
    }

    fn take(&mut self, out: Vec<Output>) {
        self.node.check();
        for output in out {
            match output {
                Output::Verify { ticket, job } => self.jobs.push((ticket, job)),
                Output::Persist { ticket, batch } => self.batches.push_back((ticket, batch)),
                other => self.out.push(other),
            }
        }
        match self.disk {
            Disk::Prompt => self.write(true),
            Disk::Slow => {}
            Disk::Full => self.write(false),
        }
    }
}

/// What a peer whose chain ends there answers.
pub(crate) fn response(genesis: &Genesis, head: &Position, answer: Answer) -> bytes::Bytes {
    let status = Status { network: genesis.network_id(), head: head.head(), earliest: 1 };
    Response { status, answer }.encode().into()
}
