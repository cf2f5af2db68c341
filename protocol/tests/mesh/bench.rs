//! One engine and scripted peers around it.

use starling_protocol::id::{Direction, HandleAllocator, PeerHandle, PeerId, Topic, Version};
use starling_protocol::mesh::{Input, Mesh, MeshConfig, Output, TopicConfig, ValidationTicket, Verdict};
use starling_protocol::message::Payload;
use starling_protocol::rpc::{Frame, IHave, Prune, Rpc, Subscription};
use starling_protocol::time::{Duration, Time};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

/// The topic of most tests; configured in every bench and network.
pub(crate) fn topic() -> Topic {
    Topic::new("tx")
}

/// A second configured topic, with priority.
pub(crate) fn other_topic() -> Topic {
    Topic::new("blocks")
}

/// The default configuration with the two topics.
pub(crate) fn config() -> MeshConfig {
    MeshConfig::with_topics(vec![
        TopicConfig { topic: topic(), priority: false },
        TopicConfig { topic: other_topic(), priority: true },
    ])
}

/// A small message.
pub(crate) fn message(number: u64) -> Arc<Payload> {
    Payload::new(&topic(), format!("message {number}").as_bytes())
}

/// A message large enough for IDONTWANT.
pub(crate) fn large_message(number: u64) -> Arc<Payload> {
    Payload::new(&topic(), format!("{number:02000}").as_bytes())
}

/// One engine; the test plays all of its peers. Every step is followed by `Mesh::check`.
pub(crate) struct Bench {
    pub(crate) mesh: Mesh,
    pub(crate) now: Time,
    handles: HandleAllocator,
    next_id: u64,
    out: Vec<Output>,
}

impl Bench {
    pub(crate) fn new(config: MeshConfig) -> Self {
        Self::seeded(config, 1)
    }

    pub(crate) fn seeded(config: MeshConfig, seed: u8) -> Self {
        let mesh = Mesh::new(config.validate().expect("a valid configuration"), [seed; 32], Time::ZERO);
        Self { mesh, now: Time::ZERO, handles: HandleAllocator::default(), next_id: 0, out: Vec::new() }
    }

    /// A bench that has joined the topic.
    pub(crate) fn joined(config: MeshConfig) -> Self {
        let mut bench = Self::new(config);
        bench.input(Input::Subscribe { topic: topic() });
        bench.take();
        bench
    }

    pub(crate) fn input(&mut self, input: Input<'_>) {
        self.mesh.handle(self.now, input, &mut self.out);
        self.mesh.check();
    }

    /// Everything that the engine has put out since the last call.
    pub(crate) fn take(&mut self) -> Vec<Output> {
        core::mem::take(&mut self.out)
    }

    /// The frames that the peer was sent since outputs were last taken.
    pub(crate) fn frames_to(&self, peer: PeerHandle) -> Vec<Frame> {
        let frames = self.out.iter().filter_map(|output| match output {
            Output::Send { peer: to, frame } if *to == peer => Some(frame.clone()),
            _ => None,
        });
        frames.collect()
    }

    /// Lets time pass, waking the engine whenever it wants to be.
    pub(crate) fn pass(&mut self, duration: Duration) {
        let end = self.now + duration;
        while let Some((due, _)) = self.mesh.next_wake().filter(|(due, _)| *due <= end) {
            assert!(due >= self.now, "the engine wants to be woken in the past");
            self.now = due;
            self.mesh.on_wake(self.now, &mut self.out);
            self.mesh.check();
        }
        self.now = end;
    }

    /// Lets time pass in which the engine gets no processor, then wakes it once.
    pub(crate) fn starve(&mut self, duration: Duration) {
        self.now = self.now + duration;
        self.mesh.on_wake(self.now, &mut self.out);
        self.mesh.check();
    }

    /// Lets one heartbeat pass.
    pub(crate) fn heartbeat(&mut self) {
        let before = self.mesh.counters().heartbeats;
        while self.mesh.counters().heartbeats == before {
            self.pass(Duration::from_millis(10));
        }
    }

    /// Connects a peer of its own address.
    pub(crate) fn connect(&mut self, direction: Direction, version: Version) -> PeerHandle {
        self.next_id += 1;
        self.connect_as(PeerId::from_number(self.next_id), direction, version)
    }

    pub(crate) fn connect_as(&mut self, id: PeerId, direction: Direction, version: Version) -> PeerHandle {
        let peer = self.handles.allocate();
        let ip = IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + u32::try_from(self.next_id).expect("few peers")));
        self.input(Input::Connected { peer, id, ip, direction, version });
        peer
    }

    pub(crate) fn disconnect(&mut self, peer: PeerHandle) {
        self.input(Input::Disconnected { peer });
        self.handles.release(peer);
    }

    /// Connects an inbound peer of the newest version that is subscribed to the topic.
    pub(crate) fn subscriber(&mut self) -> PeerHandle {
        self.subscriber_of(Direction::Inbound, Version::V1_2)
    }

    /// As many of these.
    pub(crate) fn subscribers(&mut self, count: usize) -> Vec<PeerHandle> {
        (0..count).map(|_| self.subscriber()).collect()
    }

    pub(crate) fn subscriber_of(&mut self, direction: Direction, version: Version) -> PeerHandle {
        let peer = self.connect(direction, version);
        self.subscribe(peer, &topic());
        peer
    }

    pub(crate) fn subscribe(&mut self, peer: PeerHandle, topic: &Topic) {
        let subscriptions = vec![Subscription { subscribe: true, topic: topic.clone() }];
        self.rpc(peer, &Rpc { subscriptions, ..Rpc::default() });
    }

    pub(crate) fn rpc(&mut self, peer: PeerHandle, rpc: &Rpc) {
        self.input(Input::Rpc { peer, rpc, received: self.now });
    }

    pub(crate) fn publish_from(&mut self, peer: PeerHandle, payload: &Arc<Payload>) {
        self.rpc(peer, &Rpc { publish: vec![payload.clone()], ..Rpc::default() });
    }

    pub(crate) fn publish(&mut self, payload: &Arc<Payload>) {
        self.input(Input::Publish { payload: payload.clone() });
    }

    pub(crate) fn graft_from(&mut self, peer: PeerHandle) {
        self.rpc(peer, &Rpc { graft: vec![topic()], ..Rpc::default() });
    }

    pub(crate) fn prune_from(&mut self, peer: PeerHandle, backoff_seconds: Option<u64>) {
        let prune = vec![Prune { topic: topic(), backoff_seconds, peers: Vec::new() }];
        self.rpc(peer, &Rpc { prune, ..Rpc::default() });
    }

    pub(crate) fn ihave_from(&mut self, peer: PeerHandle, payloads: &[Arc<Payload>]) {
        let ids = payloads.iter().map(|payload| payload.id()).collect();
        self.rpc(peer, &Rpc { ihave: vec![IHave { topic: topic(), ids }], ..Rpc::default() });
    }

    pub(crate) fn iwant_from(&mut self, peer: PeerHandle, payload: &Arc<Payload>) {
        self.rpc(peer, &Rpc { iwant: vec![payload.id()], ..Rpc::default() });
    }

    pub(crate) fn idontwant_from(&mut self, peer: PeerHandle, payload: &Arc<Payload>) {
        self.rpc(peer, &Rpc { idontwant: vec![payload.id()], ..Rpc::default() });
    }

    /// The tickets handed out since outputs were last taken.
    pub(crate) fn tickets(&self) -> Vec<ValidationTicket> {
        let tickets = self.out.iter().filter_map(|output| match output {
            Output::Validate { ticket, .. } => Some(*ticket),
            _ => None,
        });
        tickets.collect()
    }

    /// Gives the same verdict on everything that was handed out since outputs were last taken.
    pub(crate) fn judge(&mut self, verdict: Verdict) {
        for ticket in self.tickets() {
            self.input(Input::Verdict { ticket, verdict });
        }
    }

    pub(crate) fn in_mesh(&self, peer: PeerHandle) -> bool {
        self.mesh.mesh_peers(&topic()).contains(&peer)
    }

    /// How many copies of the message the peer was sent since outputs were last taken.
    pub(crate) fn copies_to(&self, peer: PeerHandle, payload: &Arc<Payload>) -> usize {
        let copies =
            |frame: &&Frame| matches!(frame, Frame::Publish { payload: sent, .. } if sent.id() == payload.id());
        self.frames_to(peer).iter().filter(copies).count()
    }
}
