//! One node of a world: the machine and what surrounds it.

use super::Asker;
use crate::support::{Store, key};
use starling_crypto::SecretKey;
use starling_protocol::genesis::Genesis;
use starling_protocol::id::{HandleAllocator, PeerHandle, PeerId};
use starling_protocol::node::{Node, NodeConfig, NodeParts, SubmitError, Submitted, Ticket};
use starling_protocol::send_queue::{SendQueue, SendQueueConfig};
use starling_protocol::store::Batch;
use starling_protocol::time::{Duration, Time};
use starling_protocol::wire::TopicInterner;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr};

/// How many peers a node aims at.
const TARGET_PEERS: usize = 5;

pub(crate) struct Machine {
    /// None while it is down.
    pub(crate) node: Option<Node>,
    pub(crate) genesis: Genesis,
    pub(crate) store: Store,
    /// How far the wall clock is off.
    pub(crate) off_us: i64,
    /// Counts the starts.
    pub(super) life: u64,
    pub(super) side: u8,
    pub(super) stalled_until: Time,
    /// Until when it reads nothing from its connections.
    pub(super) deaf_until: Time,
    pub(super) topics: TopicInterner,
    pub(super) handles: HandleAllocator,
    pub(super) links: BTreeMap<PeerHandle, Link>,
    /// Batches being written, oldest first.
    pub(super) batches: VecDeque<(Ticket, Batch)>,
    /// Whether it refuses batches.
    pub(super) disk_is_down: bool,
    /// Peers' requests that are not answered.
    pub(super) askers: BTreeMap<Ticket, Asker>,
    /// All submissions of this life and the answers to them, and the answered ones of former lives.
    pub(super) submissions: BTreeMap<Ticket, Option<Result<Submitted, SubmitError>>>,
    /// The earliest wake in the queue.
    pub(super) wake: Option<Time>,
    pub(super) tickets: Tickets,
    pub(super) steps: u64,
    producer: Option<SecretKey>,
}

/// Tickets that the machine gave out, by kind.
#[derive(Debug, Default)]
pub(super) struct Tickets {
    pub(super) verify: Given,
    pub(super) request: Given,
    pub(super) load: Given,
    pub(super) persist: Given,
}

/// Tickets of one kind. They rise, so none is used twice.
#[derive(Debug, Default)]
pub(super) struct Given {
    open: BTreeSet<Ticket>,
    last: Option<Ticket>,
}

impl Given {
    pub(super) fn give(&mut self, ticket: Ticket) {
        assert!(self.last.replace(ticket) < Some(ticket), "{ticket:?} is used twice");
        self.open.insert(ticket);
    }

    pub(super) fn take(&mut self, ticket: Ticket) {
        assert!(self.open.remove(&ticket), "{ticket:?} is answered twice");
    }
}

pub(super) struct Link {
    pub(super) far: Far,
    pub(super) latency: Duration,
    pub(super) queue: SendQueue,
    /// Whether a frame is on the line, so that the next one has to wait.
    pub(super) busy: bool,
}

/// The other end of a connection.
#[derive(Clone, Copy)]
pub(super) enum Far {
    Node {
        node: usize,
        theirs: PeerHandle,
    },
    /// The test itself.
    Puppet,
}

impl Machine {
    pub(super) fn new(genesis: Genesis, producer: Option<SecretKey>, off_us: i64) -> Self {
        let topics = [genesis.transaction_topic().clone(), genesis.block_topic().clone()];
        Self {
            node: None,
            genesis,
            store: Store::default(),
            off_us,
            life: 0,
            side: 0,
            stalled_until: Time::ZERO,
            deaf_until: Time::ZERO,
            topics: TopicInterner::new(topics),
            handles: HandleAllocator::default(),
            links: BTreeMap::new(),
            batches: VecDeque::new(),
            disk_is_down: false,
            askers: BTreeMap::new(),
            submissions: BTreeMap::new(),
            wake: None,
            tickets: Tickets::default(),
            steps: 0,
            producer,
        }
    }

    pub(super) fn start(&mut self, index: usize, config: NodeConfig, seed: [u8; 32], now: Time) {
        assert!(self.node.is_none(), "it runs already");
        let depth = usize::try_from(NodeParts::restore_depth(&self.genesis)).expect("small");
        let mut blocks = self.store.chain(&self.genesis);
        blocks.drain(..blocks.len().saturating_sub(depth));
        let mut parts = NodeParts::new(self.genesis.clone(), Self::peer_id(index), TARGET_PEERS)
            .and_then(|parts| parts.with_stored_blocks(blocks))
            .expect("what is stored is a chain");
        parts.config = config;
        parts.producer = self.producer.clone();
        parts.signed_slot = self.store.signed;
        parts.account = Some(key(100 + u8::try_from(index).expect("few nodes")));
        self.node = Some(Node::new(parts, seed, now));
        self.life += 1;
        self.disk_is_down = false;
        self.handles = HandleAllocator::default();
        self.wake = None;
        self.tickets = Tickets::default();
    }

    /// The machine, which runs.
    pub(crate) fn node(&self) -> &Node {
        self.node.as_ref().expect("it runs")
    }

    pub(super) fn node_mut(&mut self) -> &mut Node {
        self.node.as_mut().expect("it runs")
    }

    pub(super) fn connect(&mut self, far: Far, latency: Duration) -> PeerHandle {
        let peer = self.handles.allocate();
        let queue = SendQueue::new(SendQueueConfig::default());
        self.links.insert(peer, Link { far, latency, queue, busy: false });
        peer
    }

    /// The connection with another node.
    pub(crate) fn link_to(&self, other: usize) -> Option<PeerHandle> {
        let to_other = |link: &Link| matches!(link.far, Far::Node { node, .. } if node == other);
        self.links.iter().find(|(_, link)| to_other(link)).map(|(peer, _)| *peer)
    }

    /// Submissions of this life without an answer.
    pub(crate) fn unanswered(&self) -> usize {
        self.submissions.values().filter(|answer| answer.is_none()).count()
    }

    /// Questions of the machine without an answer, and peers' requests that it has not answered.
    pub(crate) fn under_way(&self) -> usize {
        let Tickets { verify, request, load, persist } = &self.tickets;
        [verify, request, load, persist].iter().map(|given| given.open.len()).sum::<usize>() + self.askers.len()
    }

    pub(crate) fn peer_id(index: usize) -> PeerId {
        Self::peer_id_of(index as u64)
    }

    pub(super) fn peer_id_of(number: u64) -> PeerId {
        PeerId::from_number(number + 1)
    }

    pub(super) fn ip_of(number: u64) -> IpAddr {
        IpAddr::V4(Ipv4Addr::from(0x0a00_0001 + u32::try_from(number).expect("few nodes")))
    }
}
