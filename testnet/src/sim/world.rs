//! The loop: takes out the next event, hands it to its machine, and carries out what the machine wants.

use super::effects::{Effects, Shared};
use super::link::{Line, Uplink, byte_ps};
use super::machine::{Machine, address, peer_id};
use super::observe::Observer;
use super::parcel::Parcel;
use super::scenario::Scenario;
use super::topology::random_regular;
use super::trace::TraceHash;
use crate::wan::{Stream, Topology};
use bytes::Bytes;
use starling_crypto::SecretKey;
use starling_protocol::genesis::{Genesis, GenesisParameters, Limits};
use starling_protocol::id::{Direction, PeerHandle, PeerId, Version};
use starling_protocol::mesh::MeshConfig;
use starling_protocol::node::{Input, Node, NodeParts, Ticket, topics};
use starling_protocol::time::{Duration, Time, micros};
use starling_protocol::verify::Outcome;
use std::rc::Rc;

/// Something that happens to a node.
#[derive(Debug)]
pub(super) enum Event {
    /// The last bit of an RPC has come to the receiver's downlink.
    Arrive { node: u32, peer: PeerHandle, parcel: Rc<Parcel> },
    /// An RPC has come in whole.
    Deliver { node: u32, peer: PeerHandle, parcel: Rc<Parcel> },
    /// A line that waited for its window may go on.
    Line { node: u32, slot: u32, generation: u32 },
    /// Lines that waited for the uplink may go on.
    Uplink { node: u32 },
    /// Something is due.
    Wake { node: u32 },
    /// A signature was verified.
    Verified { node: u32, ticket: u64, valid: bool },
    /// Anything that happens seldom.
    Rare { node: u32, what: Box<Rare> },
}

#[derive(Debug)]
pub(super) enum Rare {
    Connect { to: u32 },
    Connected { peer: PeerHandle, far: u32, direction: Direction },
    Rtt { peer: PeerHandle, rtt: Duration },
    Submit,
    QueueFull { peer: PeerHandle, dropped: u32 },
    DialFailed { id: PeerId },
    Verified { ticket: Ticket, outcome: Outcome },
    Persisted { ticket: Ticket },
    Request { ticket: Ticket, peer: PeerHandle, body: Bytes },
    Response { ticket: Ticket, body: Option<Bytes> },
    Responded { ticket: Ticket },
    Loaded { ticket: Ticket, blocks: Vec<Bytes> },
}

const _: () = assert!(size_of::<Event>() <= 32);

/// How much happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventCounts {
    /// RPCs that a machine took in.
    pub deliveries: u64,
    /// Verdicts that a machine took in.
    pub verdicts: u64,
    /// Wakes at which something was due.
    pub timers: u64,
    /// Everything else.
    pub others: u64,
}

impl EventCounts {
    /// Engine events: inputs that consumed a delivery, a verdict or a due timer.
    #[must_use]
    pub fn engine(&self) -> u64 {
        self.deliveries + self.verdicts + self.timers
    }
}

/// What was sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WireCounts {
    /// RPCs.
    pub rpcs: u64,
    /// Bytes of RPCs, with their length prefixes.
    pub bytes: u64,
    /// Messages in them.
    pub messages: u64,
    /// Messages that were taken out of a queue because the peer had them.
    pub cancelled: u64,
    /// Frames that a queue had no room for.
    pub dropped: u64,
    /// Chunks of which a segment was lost and sent again.
    pub chunks_lost: u64,
}

/// A network in virtual time.
#[derive(Debug)]
pub struct World {
    machines: Vec<Machine>,
    counts: EventCounts,
    payloads: Stream,
    shared: Shared,
}

impl World {
    /// The network of this scenario at its beginning.
    ///
    /// # Panics
    /// When the scenario contradicts itself.
    #[must_use]
    pub fn new(scenario: Scenario) -> Self {
        let producers: Vec<SecretKey> =
            (0..scenario.producers.max(1)).map(|place| key(scenario.seed, "producer", place)).collect();
        let genesis = Genesis::new(GenesisParameters {
            name: "simulation".into(),
            start_time_ms: START_MS,
            slot_ms: u64::try_from(scenario.slot.as_millis()).expect("a slot is short"),
            producers: producers.iter().map(|key| key.public_key().to_bytes()).collect(),
            limits: Limits {
                payload_bytes_max: 1 << 20,
                block_bytes_max: 2 << 20,
                nonce_window: 4_096,
                ..Limits::default()
            },
            stamp_bits: 0,
        })
        .expect("the parameters of a simulated network are valid");
        let network = Topology::new(scenario.profile.clone(), scenario.nodes, scenario.seed);
        let mut seeds = Stream::new(scenario.seed, "nodes");
        let mesh = MeshConfig::with_topics(topics(&genesis)).validate().expect("the defaults are valid");
        let machines = (0..scenario.nodes)
            .map(|index| {
                let node = u32::try_from(index).expect("fewer than 2^32 nodes");
                let mut parts = NodeParts::new(genesis.clone(), peer_id(node), scenario.links).expect("valid parts");
                // One for all nodes, so that it stays in the processor's caches.
                parts.mesh = mesh.clone();
                parts.account = Some(key(scenario.seed, "account", index));
                if index < scenario.producers {
                    parts.producer = Some(producers[index].clone());
                }
                let mut seed = [0; 32];
                seeds.fill(&mut seed);
                Machine {
                    node: Node::new(parts, seed, Time::ZERO),
                    lines: Vec::new(),
                    loop_free_ns: 0,
                    verifier_free_ns: 0,
                    uplink: Uplink::new(network.site(index).uplink_bits_per_s),
                    downlink_free_ns: 0,
                    wake_at: Time::MAX,
                }
            })
            .collect();
        let links = random_regular(scenario.nodes, scenario.links, &mut Stream::new(scenario.seed, "topology"));
        let mut world = Self {
            machines,
            counts: EventCounts::default(),
            payloads: Stream::new(scenario.seed, "payloads"),
            shared: Shared::new(scenario, genesis, network),
        };
        world.schedule(&links);
        world
    }

    fn schedule(&mut self, links: &[(u32, u32)]) {
        let mut when = Stream::new(self.shared.scenario.seed, "connect");
        for (from, to) in links {
            let at = Time::from_micros(when.below(1_000_000));
            self.shared.rare(at, *from, Rare::Connect { to: *to });
        }
        for node in 0..self.machines.len() {
            let node = u32::try_from(node).expect("fewer than 2^32 nodes");
            self.input(Time::ZERO, node, Input::WallClock { unix_us_at_zero: START_MS * 1_000 });
        }
        let Scenario { load, warm_up, duration, nodes, .. } = &self.shared.scenario;
        let count = micros(*duration) * u64::from(load.messages_per_s) / 1_000_000;
        let publishers = load.publishers.clamp(1, *nodes) as u64;
        let stride = *nodes as u64 / publishers;
        let submissions: Vec<(Time, u32)> = (0..count)
            .map(|number| {
                let offset = Duration::from_micros(number * 1_000_000 / u64::from(load.messages_per_s));
                let node = u32::try_from(number % publishers * stride).expect("fewer than 2^32 nodes");
                (Time::ZERO + *warm_up + offset, node)
            })
            .collect();
        for (at, node) in submissions {
            self.shared.rare(at, node, Rare::Submit);
        }
    }

    /// Runs the whole scenario.
    pub fn run(&mut self) {
        let Scenario { warm_up, duration, drain, .. } = self.shared.scenario;
        self.run_until(Time::ZERO + warm_up + duration + drain);
    }

    /// Runs up to and including this moment.
    pub fn run_until(&mut self, end: Time) {
        while let Some((at, event)) = self.shared.queue.pop(end) {
            self.happen(at, event);
        }
    }

    /// What happened so far.
    #[must_use]
    pub fn counts(&self) -> EventCounts {
        self.counts
    }

    /// The trace so far.
    #[must_use]
    pub fn trace(&self) -> TraceHash {
        self.shared.trace
    }

    /// What was measured.
    #[must_use]
    pub fn observer(&self) -> &Observer {
        &self.shared.observer
    }

    /// What was sent so far.
    #[must_use]
    pub fn wire(&self) -> WireCounts {
        self.shared.wire
    }

    /// All machines.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.machines.iter().map(|machine| &machine.node)
    }

    /// Asserts the invariants of every machine.
    ///
    /// # Panics
    /// When one does not hold.
    pub fn check(&self) {
        self.nodes().for_each(Node::check);
    }

    fn happen(&mut self, at: Time, event: Event) {
        let cpu = self.shared.scenario.cpu;
        match event {
            Event::Deliver { node, peer, parcel } => {
                self.counts.deliveries += 1;
                let cost_ns = cpu.rpc_ns + cpu.byte_ns * u64::from(parcel.wire_bytes);
                let now = self.begin(at, node, cost_ns);
                self.shared.trace.mix(u64::from(peer.slot) << 32 | u64::from(parcel.wire_bytes));
                let input = Input::Rpc { peer, rpc: &parcel.rpc, received: now };
                self.act(now, node, |machine, effects| machine.handle(now, input, effects));
            }
            Event::Arrive { node, peer, parcel } => {
                let machine = &mut self.machines[node as usize];
                let bytes = u64::from(parcel.wire_bytes);
                let time_ns = bytes * byte_ps(self.shared.scenario.downlink_bits_per_s) / 1_000;
                // Its first bit came when the last one would have left the downlink behind it, had nothing else come.
                machine.downlink_free_ns = (machine.downlink_free_ns + time_ns).max(at.as_micros() * 1_000);
                let whole = Time::from_micros(machine.downlink_free_ns.div_ceil(1_000));
                self.shared.queue.push(whole, Event::Deliver { node, peer, parcel });
            }
            Event::Line { node, slot, generation } => {
                self.carry(at, node, |effects| effects.line_goes_on(slot, generation));
            }
            Event::Uplink { node } => self.carry(at, node, |effects| effects.serve_uplink()),
            Event::Wake { node } => self.wake(at, node),
            Event::Verified { node, ticket, valid } => {
                self.counts.verdicts += 1;
                let outcome = if valid { Outcome::Valid } else { Outcome::Invalid { index: 0 } };
                self.shared.trace.mix(ticket);
                self.input(at, node, Input::Verified { ticket: Ticket(ticket), outcome });
            }
            Event::Rare { node, what } => self.rare(at, node, *what),
        }
    }

    fn wake(&mut self, at: Time, node: u32) {
        let machine = &mut self.machines[node as usize];
        if machine.wake_at == at {
            machine.wake_at = Time::MAX;
        }
        if machine.node.next_wake().is_some_and(|(due, _)| due <= at) {
            self.counts.timers += 1;
            let now = self.begin(at, node, self.shared.scenario.cpu.input_ns);
            self.act(now, node, |machine, effects| machine.on_wake(now, effects));
        } else {
            self.plan(node);
        }
    }

    fn rare(&mut self, at: Time, node: u32, what: Rare) {
        self.counts.others += 1;
        match what {
            Rare::Connect { to } => self.connect(at, node, to),
            Rare::Connected { peer, far, direction } => {
                let (id, ip) = (peer_id(far), address(far));
                self.input(at, node, Input::Connected { peer, id, ip, direction, version: Version::V1_2 });
            }
            Rare::Rtt { peer, rtt } => self.input(at, node, Input::Rtt { peer, rtt }),
            Rare::Submit => {
                let mut payload = vec![0; self.shared.scenario.load.payload_bytes];
                self.payloads.fill(&mut payload);
                let ticket = self.shared.ticket();
                self.input(at, node, Input::SubmitPayload { ticket, payload: &payload });
            }
            Rare::QueueFull { peer, dropped } => self.input(at, node, Input::SendQueueFull { peer, dropped }),
            Rare::DialFailed { id } => self.input(at, node, Input::DialFailed { id }),
            Rare::Verified { ticket, outcome } => {
                self.counts.verdicts += 1;
                self.input(at, node, Input::Verified { ticket, outcome });
            }
            Rare::Persisted { ticket } => self.input(at, node, Input::Persisted { ticket, durable: true }),
            Rare::Request { ticket, peer, body } => self.input(at, node, Input::Request { ticket, peer, body: &body }),
            Rare::Response { ticket, body } => self.input(at, node, Input::Response { ticket, body }),
            Rare::Responded { ticket } => self.input(at, node, Input::Responded { ticket }),
            Rare::Loaded { ticket, blocks } => self.input(at, node, Input::Loaded { ticket, blocks }),
        }
    }

    fn connect(&mut self, at: Time, from: u32, to: u32) {
        let latency_us = self.shared.network.one_way_us(from as usize, to as usize);
        let latency = Duration::from_micros(latency_us);
        let handle = |machine: &Machine| PeerHandle {
            slot: u32::try_from(machine.lines.len()).expect("few peers"),
            generation: 0,
        };
        let (near, far) = (handle(&self.machines[from as usize]), handle(&self.machines[to as usize]));
        let line = |far, far_handle| Line {
            generation: 0,
            far,
            far_handle,
            latency_us: u32::try_from(latency_us).expect("a latency is short"),
            arrival_us: 0,
            open: None,
            busy: None,
            window: None,
        };
        self.machines[from as usize].lines.push(line(to, far));
        self.machines[to as usize].lines.push(line(from, near));
        let up = at + latency * 2;
        self.shared.rare(up, from, Rare::Connected { peer: near, far: to, direction: Direction::Outbound });
        self.shared.rare(up, to, Rare::Connected { peer: far, far: from, direction: Direction::Inbound });
        let measured = up + latency * 2;
        self.shared.rare(measured, from, Rare::Rtt { peer: near, rtt: latency * 2 });
        self.shared.rare(measured, to, Rare::Rtt { peer: far, rtt: latency * 2 });
    }

    /// Hands in anything but an RPC.
    fn input(&mut self, at: Time, node: u32, input: Input<'_>) {
        let now = self.begin(at, node, self.shared.scenario.cpu.input_ns);
        self.act(now, node, |machine, effects| machine.handle(now, input, effects));
    }

    /// The node begins a piece of work; says when it is done, which is when the machine hears of it.
    fn begin(&mut self, at: Time, node: u32, cost_ns: u64) -> Time {
        let now = self.machines[node as usize].work(at, cost_ns);
        self.shared.trace.mix(now.as_micros());
        self.shared.trace.mix(u64::from(node));
        now
    }

    fn act(&mut self, now: Time, node: u32, act: impl FnOnce(&mut Node, &mut Effects<'_>)) {
        let (machine, mut effects) = Self::split(&mut self.machines, &mut self.shared, now, node);
        act(machine, &mut effects);
        effects.flush();
        self.plan(node);
    }

    fn carry(&mut self, now: Time, node: u32, act: impl FnOnce(&mut Effects<'_>)) {
        let (_, mut effects) = Self::split(&mut self.machines, &mut self.shared, now, node);
        act(&mut effects);
    }

    fn split<'a>(
        machines: &'a mut [Machine],
        shared: &'a mut Shared,
        now: Time,
        index: u32,
    ) -> (&'a mut Node, Effects<'a>) {
        let Machine { node, lines, uplink, verifier_free_ns, .. } = &mut machines[index as usize];
        (node, Effects { now, index, lines, uplink, verifier_free_ns, shared })
    }

    /// Has the machine woken when it wants to be.
    fn plan(&mut self, node: u32) {
        let machine = &mut self.machines[node as usize];
        if let Some((due, _)) = machine.node.next_wake()
            && due < machine.wake_at
        {
            machine.wake_at = due.max(self.shared.queue.now());
            self.shared.queue.push(machine.wake_at, Event::Wake { node });
        }
    }
}

/// When slot 0 begins, and with it the simulation.
const START_MS: u64 = 1_000_000_000;

fn key(seed: u64, purpose: &str, number: usize) -> SecretKey {
    let mut bytes = [0; 32];
    Stream::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(number as u64), purpose).fill(&mut bytes);
    SecretKey::from_seed(&bytes)
}
