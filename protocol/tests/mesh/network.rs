//! Many engines in virtual time, with latency, loss, duplication and reordering.
//!
//! Frames that one engine emits for one peer at one moment travel as one RPC, as the send queue would coalesce them. Links keep
//! their order unless jitter is configured. Validation takes one millisecond and follows the message's first bytes:
//! `bad` is rejected, `ignore` ignored, everything else accepted.

use crate::bench::topic;
use starling_protocol::id::{Direction, HandleAllocator, MessageId, PeerHandle, PeerId, Topic, Version};
use starling_protocol::mesh::{Event, Input, Mesh, MeshConfig, Output, PruneReason, ValidationTicket, Verdict};
use starling_protocol::message::Payload;
use starling_protocol::random::{Stream, Streams};
use starling_protocol::rpc::{ExchangedPeer, Frame, IHave, Rpc};
use starling_protocol::time::{Duration, Time};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

/// What links do to what they carry.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Faults {
    /// Of whole RPCs.
    pub(crate) loss_permille: u64,
    /// Of single messages; control arrives.
    pub(crate) message_loss_permille: u64,
    pub(crate) duplication_permille: u64,
    /// Up to so much is added to the latency of each RPC, which reorders them.
    pub(crate) jitter: Duration,
}

impl Faults {
    pub(crate) const NONE: Self =
        Self { loss_permille: 0, message_loss_permille: 0, duplication_permille: 0, jitter: Duration::ZERO };
}

/// One engine and what it has done.
pub(crate) struct Node {
    pub(crate) mesh: Mesh,
    handles: HandleAllocator,
    /// The other end of each connection, by our handle.
    links: BTreeMap<PeerHandle, Link>,
    pub(crate) delivered: BTreeMap<MessageId, Time>,
    /// Copies received, first ones included.
    pub(crate) copies: u64,
    pub(crate) sent: FrameCounts,
    /// The earliest wake in the queue.
    wake: Option<Time>,
}

#[derive(Clone, Copy)]
struct Link {
    node: usize,
    theirs: PeerHandle,
    latency: Duration,
}

/// Frames sent, by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct FrameCounts {
    pub(crate) publish: u64,
    pub(crate) graft: u64,
    pub(crate) prune: u64,
    pub(crate) ihave: u64,
    pub(crate) iwant: u64,
    pub(crate) idontwant: u64,
}

enum Happening {
    Arrive { node: usize, peer: PeerHandle, rpc: Rpc },
    Verdict { node: usize, ticket: ValidationTicket, verdict: Verdict },
    Wake { node: usize },
}

pub(crate) struct Network {
    pub(crate) nodes: Vec<Node>,
    pub(crate) now: Time,
    pub(crate) faults: Faults,
    /// Whether `Mesh::check` is called after every step of every engine; the network is slow then.
    pub(crate) checked: bool,
    /// Whether `trace` is kept.
    pub(crate) traced: bool,
    random: Stream,
    queue: BTreeMap<(Time, u64), Happening>,
    sequence: u64,
    /// A running hash over everything that the engines emit.
    pub(crate) trace: u64,
    /// Who was offered whom in peer exchange.
    pub(crate) exchanged: Vec<(usize, ExchangedPeer)>,
    /// Nodes that take part in everything but send no messages.
    pub(crate) silent: BTreeSet<usize>,
    /// Who was pruned from a mesh for its score, as (where, whom).
    pub(crate) blamed: Vec<(usize, usize)>,
}

impl Network {
    /// So many engines, unconnected, all joined to the topic.
    pub(crate) fn new(count: usize, seed: u8, config: impl Fn(usize) -> MeshConfig) -> Self {
        let streams = Streams::new([seed; 32]);
        let nodes = (0..count).map(|index| {
            let config = config(index).validate().expect("a valid configuration");
            Node {
                mesh: Mesh::new(config, streams.derive(&format!("node {index}")), Time::ZERO),
                handles: HandleAllocator::default(),
                links: BTreeMap::new(),
                delivered: BTreeMap::new(),
                copies: 0,
                sent: FrameCounts::default(),
                wake: None,
            }
        });
        let mut network = Self {
            nodes: nodes.collect(),
            now: Time::ZERO,
            faults: Faults::NONE,
            checked: true,
            traced: false,
            random: streams.stream("network"),
            queue: BTreeMap::new(),
            sequence: 0,
            trace: 0,
            exchanged: Vec::new(),
            silent: BTreeSet::new(),
            blamed: Vec::new(),
        };
        (0..count).for_each(|node| network.join(node, &topic()));
        network
    }

    pub(crate) fn join(&mut self, node: usize, topic: &Topic) {
        self.input(node, Input::Subscribe { topic: topic.clone() });
    }

    pub(crate) fn leave(&mut self, node: usize, topic: &Topic) {
        self.input(node, Input::Unsubscribe { topic: topic.clone() });
    }

    pub(crate) fn peer_id(node: usize) -> PeerId {
        PeerId::from_number(node as u64)
    }

    /// Connects two engines; the first dials.
    pub(crate) fn connect(&mut self, dialler: usize, listener: usize, latency: Duration) {
        self.connect_versions(dialler, listener, latency, Version::V1_2);
    }

    pub(crate) fn connect_versions(&mut self, dialler: usize, listener: usize, latency: Duration, version: Version) {
        let ours = self.nodes[dialler].handles.allocate();
        let theirs = self.nodes[listener].handles.allocate();
        self.nodes[dialler].links.insert(ours, Link { node: listener, theirs, latency });
        self.nodes[listener].links.insert(theirs, Link { node: dialler, theirs: ours, latency });
        let ends = [(dialler, ours, listener, Direction::Outbound), (listener, theirs, dialler, Direction::Inbound)];
        for (node, peer, other, direction) in ends {
            let id = Self::peer_id(other);
            let ip = IpAddr::V4(Ipv4Addr::from(0x0a00_0001 + u32::try_from(other).expect("few nodes")));
            self.input(node, Input::Connected { peer, id, ip, direction, version });
            self.input(node, Input::Rtt { peer, rtt: latency * 2 });
        }
    }

    pub(crate) fn are_connected(&self, one: usize, other: usize) -> bool {
        self.nodes[one].links.values().any(|link| link.node == other)
    }

    /// Ends the connection between two engines.
    pub(crate) fn disconnect(&mut self, one: usize, other: usize) {
        let Some((ours, link)) = self.nodes[one].links.iter().find(|(_, link)| link.node == other) else { return };
        let (ours, theirs) = (*ours, link.theirs);
        self.nodes[one].links.remove(&ours);
        self.nodes[other].links.remove(&theirs);
        for (node, peer) in [(one, ours), (other, theirs)] {
            self.input(node, Input::Disconnected { peer });
            self.nodes[node].handles.release(peer);
        }
    }

    /// Each engine dials so many random others.
    pub(crate) fn connect_some(&mut self, dials: usize, latency: Duration) {
        for node in 0..self.nodes.len() {
            let mut others: Vec<usize> = (0..self.nodes.len()).filter(|other| *other != node).collect();
            self.random.sample(&mut others, dials);
            for other in others {
                if !self.are_connected(node, other) {
                    self.connect(node, other, latency);
                }
            }
        }
    }

    pub(crate) fn publish(&mut self, node: usize, payload: &Arc<Payload>) {
        self.input(node, Input::Publish { payload: payload.clone() });
    }

    /// The handle by which `node` knows `other`.
    pub(crate) fn handle(&self, node: usize, other: usize) -> PeerHandle {
        let link = self.nodes[node].links.iter().find(|(_, link)| link.node == other);
        *link.expect("the two are connected").0
    }

    pub(crate) fn input(&mut self, node: usize, input: Input<'_>) {
        let mut out = Vec::new();
        self.nodes[node].mesh.handle(self.now, input, &mut out);
        self.effects(node, out);
    }

    /// Runs everything that happens within the duration.
    pub(crate) fn run(&mut self, duration: Duration) {
        let end = self.now + duration;
        while let Some(((at, _), _)) = self.queue.first_key_value()
            && *at <= end
        {
            let ((at, _), happening) = self.queue.pop_first().expect("there is a first");
            self.now = at;
            match happening {
                Happening::Arrive { node, peer, rpc } => {
                    self.nodes[node].copies += rpc.publish.len() as u64;
                    self.input(node, Input::Rpc { peer, rpc: &rpc, received: at });
                }
                Happening::Verdict { node, ticket, verdict } => self.input(node, Input::Verdict { ticket, verdict }),
                Happening::Wake { node } => {
                    // Wakes of deadlines that have moved are spurious, which engines have to bear.
                    if self.nodes[node].wake == Some(at) {
                        self.nodes[node].wake = None;
                    }
                    let mut out = Vec::new();
                    self.nodes[node].mesh.on_wake(at, &mut out);
                    self.effects(node, out);
                }
            }
        }
        self.now = end;
    }

    /// How many nodes have delivered the message; its publisher does not.
    pub(crate) fn reached(&self, payload: &Arc<Payload>) -> usize {
        self.nodes.iter().filter(|node| node.delivered.contains_key(&payload.id())).count()
    }

    fn schedule(&mut self, at: Time, happening: Happening) {
        self.sequence += 1;
        self.queue.insert((at, self.sequence), happening);
    }

    fn effects(&mut self, node: usize, out: Vec<Output>) {
        if self.checked {
            self.nodes[node].mesh.check();
        }
        let mut rpcs: BTreeMap<PeerHandle, Rpc> = BTreeMap::new();
        for output in out {
            if self.traced {
                self.trace = fold(self.trace, &format!("{:?} {node} {output:?}", self.now));
            }
            match output {
                Output::Send { peer, frame } => {
                    self.nodes[node].sent.count(&frame);
                    append(rpcs.entry(peer).or_default(), frame);
                }
                Output::Validate { ticket, payload, .. } => {
                    let verdict = match payload.data() {
                        data if data.starts_with(b"bad") => Verdict::Reject,
                        data if data.starts_with(b"ignore") => Verdict::Ignore,
                        _ => Verdict::Accept,
                    };
                    let at = self.now + Duration::from_millis(1);
                    self.schedule(at, Happening::Verdict { node, ticket, verdict });
                }
                Output::Deliver { payload, .. } => {
                    let before = self.nodes[node].delivered.insert(payload.id(), self.now);
                    assert_eq!(before, None, "{:?} was delivered twice", payload.id());
                }
                Output::Disconnect { peer, .. } => {
                    if let Some(link) = self.nodes[node].links.get(&peer).copied() {
                        self.disconnect(node, link.node);
                    }
                }
                Output::PeerExchangeCandidates { candidates, .. } => {
                    self.exchanged.extend(candidates.into_iter().map(|candidate| (node, candidate)));
                }
                Output::Cancel { .. } | Output::Abandon { .. } => {}
                Output::Event(Event::Published { payload }) => {
                    assert!(!self.nodes[node].delivered.contains_key(&payload.id()), "published after delivery");
                }
                Output::Event(Event::Pruned { peer, reason: PruneReason::Score, .. }) => {
                    if let Some(link) = self.nodes[node].links.get(&peer) {
                        self.blamed.push((node, link.node));
                    }
                }
                Output::Event(_) => {}
            }
        }
        for (peer, mut rpc) in rpcs {
            if self.silent.contains(&node) {
                rpc.publish.clear();
            }
            let loss = self.faults.message_loss_permille;
            rpc.publish.retain(|_| !self.random.chance(loss, 1000));
            self.carry(node, peer, &rpc);
        }
        if let Some((due, _)) = self.nodes[node].mesh.next_wake()
            && self.nodes[node].wake.is_none_or(|wake| due < wake)
        {
            assert!(due >= self.now, "the engine wants to be woken in the past");
            self.nodes[node].wake = Some(due);
            self.schedule(due, Happening::Wake { node });
        }
    }

    fn carry(&mut self, node: usize, peer: PeerHandle, rpc: &Rpc) {
        let Some(link) = self.nodes[node].links.get(&peer).copied() else { return };
        if self.random.chance(self.faults.loss_permille, 1000) {
            return;
        }
        let copies = 1 + u64::from(self.random.chance(self.faults.duplication_permille, 1000));
        for _ in 0..copies {
            let jitter_us = self.random.below(u64::try_from(self.faults.jitter.as_micros()).expect("short") + 1);
            let at = self.now + link.latency + Duration::from_micros(jitter_us);
            self.schedule(at, Happening::Arrive { node: link.node, peer: link.theirs, rpc: rpc.clone() });
        }
    }
}

impl FrameCounts {
    fn count(&mut self, frame: &Frame) {
        match frame {
            Frame::Publish { .. } => self.publish += 1,
            Frame::Subscription(_) => {}
            Frame::Graft(_) => self.graft += 1,
            Frame::Prune(_) => self.prune += 1,
            Frame::IHave { .. } => self.ihave += 1,
            Frame::IWant(_) => self.iwant += 1,
            Frame::IDontWant(_) => self.idontwant += 1,
        }
    }
}

/// What the receiver decodes of a frame.
fn append(rpc: &mut Rpc, frame: Frame) {
    match frame {
        Frame::Publish { payload, .. } => rpc.publish.push(payload),
        Frame::Subscription(subscription) => rpc.subscriptions.push(subscription),
        Frame::Graft(topic) => rpc.graft.push(topic),
        Frame::Prune(prune) => rpc.prune.push(prune),
        Frame::IHave { topic, ids } => rpc.ihave.push(IHave { topic, ids: ids.to_vec() }),
        Frame::IWant(ids) => rpc.iwant.extend_from_slice(&ids),
        Frame::IDontWant(ids) => rpc.idontwant.extend_from_slice(&ids),
    }
}

/// FNV-1a, so that a trace is one number.
fn fold(hash: u64, text: &str) -> u64 {
    let start = if hash == 0 { 0xcbf2_9ce4_8422_2325 } else { hash };
    text.bytes().fold(start, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
