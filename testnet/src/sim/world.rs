//! The loop: takes out the next event, hands it to whoever acts in its place, and carries out what that one wants.
//!
//! Starting and ending processes is in `lives`, connecting and disconnecting in `connect`, faults are in `faults`; all of them are
//! events (`event`) like others. What the next events will look at is read in `ahead`.

use super::actor::{Actor, Recruit, Setting};
use super::counts::{EventCounts, WireCounts};
use super::directory::{addresses, peer_id};
use super::effects::{Effects, Shared};
use super::event::{Event, Rare};
use super::faults::Faults;
use super::link::{Uplink, byte_ps};
use super::machine::{Machine, Phase};
use super::observe::Observer;
use super::scenario::Scenario;
use super::trace::TraceHash;
use super::workload;
use crate::wan::{Stream, Topology};
use bytes::Bytes;
use starling_crypto::SecretKey;
use starling_protocol::genesis::{Genesis, GenesisParameters};
use starling_protocol::id::{PeerHandle, PeerId, TransactionId};
use starling_protocol::mesh::{MeshConfig, ValidMeshConfig};
use starling_protocol::node::{Input, Node, SubmitError, Ticket, TransactionStatus, topics};
use starling_protocol::time::Time;
use starling_protocol::verify::Outcome;
use std::net::IpAddr;

/// A network in virtual time.
#[derive(Debug)]
pub struct World {
    pub(super) machines: Vec<Machine>,
    pub(super) counts: EventCounts,
    /// Messages that were not published because nobody was there to do it.
    pub(super) unpublished: u64,
    /// How many connections honest nodes have had with attackers.
    pub(crate) attackers_connected: u64,
    payloads: Stream,
    /// Which peers the directory names.
    pub(super) found: Stream,
    pub(super) shared: Shared,
    /// How many of the last events of the present bucket have not been looked at: see `ahead`.
    pub(super) unfetched: usize,
    /// Where each node can be reached.
    pub(super) addresses: Vec<IpAddr>,
    /// Whom each node's operator has named.
    pub(super) named: Vec<Vec<u32>>,
    pub(super) faults: Faults,
    /// One for all nodes, so that it stays in the processor's caches.
    pub(super) mesh: ValidMeshConfig,
    pub(super) producers: Vec<SecretKey>,
}

impl World {
    /// The network of this scenario at its beginning.
    ///
    /// # Panics
    /// When the scenario contradicts itself.
    #[must_use]
    pub fn new(scenario: Scenario) -> Self {
        Self::with_adversaries(scenario, |_| Vec::new())
    }

    /// The same with others beside the honest nodes. Their numbers follow those of the nodes, and nothing that concerns only
    /// honest nodes changes because of them: the same nodes are in the same places with the same links.
    ///
    /// # Panics
    /// When the scenario contradicts itself.
    #[must_use]
    pub fn with_adversaries(scenario: Scenario, recruit: impl FnOnce(&Setting<'_>) -> Vec<Recruit>) -> Self {
        let seed = scenario.seed;
        let producers: Vec<SecretKey> = (0..(scenario.producers + scenario.absent_producers).max(1))
            .map(|place| key(seed, "producer", place))
            .collect();
        let genesis = genesis(&scenario, &producers);
        let honest = u32::try_from(scenario.nodes).expect("fewer than 2^32 nodes");
        let submissions = workload::submissions(&scenario);
        let mut publishers: Vec<u32> = submissions.iter().map(|submission| submission.node).collect();
        publishers.sort_unstable();
        publishers.dedup();
        let ids: Vec<PeerId> = (0..honest).map(peer_id).collect();
        let absent = &producers[scenario.producers.min(producers.len())..];
        let setting = Setting {
            seed,
            genesis: &genesis,
            honest: &ids,
            publishers: &publishers,
            absent,
            first_slot: 0,
            first: honest,
        };
        let recruits = recruit(&setting);
        let network = Topology::new(scenario.profile.clone(), scenario.nodes, seed).and_more(recruits.len(), seed);
        let places = scenario.nodes + recruits.len();
        let machines = (0..places).map(|node| Machine::new(Uplink::new(network.site(node).uplink_bits_per_s)));
        let mut world = Self {
            machines: machines.collect(),
            counts: EventCounts::default(),
            unpublished: 0,
            attackers_connected: 0,
            payloads: Stream::new(seed, "payloads"),
            found: Stream::new(seed, "discovery"),
            addresses: addresses(places),
            named: vec![Vec::new(); places],
            faults: Faults::default(),
            mesh: mesh(&scenario, &genesis),
            producers,
            unfetched: 0,
            shared: Shared::new(scenario, genesis, network),
        };
        world.schedule_nodes();
        world.schedule_recruits(recruits);
        for submission in submissions {
            let what = Rare::Submit { payload_bytes: submission.payload_bytes };
            world.shared.rare(submission.at, submission.node, what);
        }
        for (number, (at, _)) in (0_u32..).zip(&world.shared.scenario.faults) {
            world.shared.queue.push(*at, Event::Fault { number });
        }
        world
    }

    /// Runs the whole scenario.
    pub fn run(&mut self) {
        let Scenario { warm_up, duration, drain, .. } = self.shared.scenario;
        self.run_until(Time::ZERO + warm_up + duration + drain);
    }

    /// Runs up to and including this moment.
    pub fn run_until(&mut self, end: Time) {
        while let Some((at, event)) = self.shared.queue.pop(end) {
            self.anticipate(&event);
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

    /// The connections of a place, and who is at their other ends.
    pub fn connections(&self, node: u32) -> impl Iterator<Item = (PeerHandle, u32)> + '_ {
        let machine = self.machines.get(node as usize);
        machine
            .into_iter()
            .flat_map(|machine| machine.handles().into_iter().map(|peer| (peer, machine.lines[peer.index()].far)))
    }

    /// Messages that were not published because their publisher did not run.
    #[must_use]
    pub fn unpublished(&self) -> u64 {
        self.unpublished
    }

    /// How many messages their own nodes refused to publish, and why the first one.
    #[must_use]
    pub fn refused_submissions(&self) -> (u64, Option<&SubmitError>) {
        (self.shared.refused_submissions, self.shared.first_refusal.as_ref())
    }

    /// The machines of all nodes that run, by their numbers.
    pub fn running(&self) -> impl Iterator<Item = (u32, &Node)> {
        (0_u32..).zip(&self.machines).filter_map(|(number, machine)| Some((number, machine.actor.node()?)))
    }

    /// The machines of all nodes that run.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.running().map(|(_, node)| node)
    }

    /// What was measured, to have it watch something.
    pub fn observer_mut(&mut self) -> &mut Observer {
        &mut self.shared.observer
    }

    /// Whether a running node has this transaction, in its chain or among those that wait.
    #[must_use]
    pub fn has_transaction(&self, node: u32, id: &TransactionId) -> bool {
        let Some(machine) = self.machines.get(node as usize) else { return false };
        let status = machine.actor.node().map(|node| node.transaction_status(id));
        machine.disk.included.contains(id)
            || matches!(status, Some(TransactionStatus::Included(_) | TransactionStatus::Pending))
    }

    /// Bytes that each honest node has received and sent so far.
    #[must_use]
    pub fn traffic(&self) -> Vec<[u64; 2]> {
        let honest = self.machines.iter().take(self.shared.scenario.nodes);
        honest.map(|machine| [machine.received_bytes, machine.uplink.sent_bytes]).collect()
    }

    /// The scenario.
    #[must_use]
    pub fn scenario(&self) -> &Scenario {
        &self.shared.scenario
    }

    /// Where the nodes are.
    #[must_use]
    pub fn network(&self) -> &Topology {
        &self.shared.network
    }

    /// Where each place can be reached, attackers' included.
    #[must_use]
    pub fn addresses(&self) -> &[IpAddr] {
        &self.addresses
    }

    /// The present time: when the event happened that was handled last.
    #[must_use]
    pub fn now(&self) -> Time {
        self.shared.queue.now()
    }

    /// Has the rules of [`super::safety`] watched from now on. To be called before anything has happened.
    pub fn watch(&mut self) {
        self.shared.safety = Some(Box::default());
    }

    /// Has those who watch look at everything; gives what they have found so far.
    pub fn look(&mut self) -> &[String] {
        // They see the world without themselves.
        if let Some(mut safety) = self.shared.safety.take() {
            safety.look(self);
            self.shared.safety = Some(safety);
        }
        self.shared.safety.as_ref().map_or(&[], |safety| safety.violations())
    }

    /// Asserts the invariants of every machine.
    ///
    /// # Panics
    /// When one does not hold.
    pub fn check(&self) {
        self.nodes().for_each(Node::check);
    }

    /// What happens to a process waits while it stands still or is busy; what happens on its lines and at its links does not.
    #[inline]
    fn happen(&mut self, at: Time, event: Event) {
        if let Event::Deliver { node, .. }
        | Event::Verified { node, .. }
        | Event::Wake { node }
        | Event::Rare { node, .. } = event
            && !event.is_of_the_host()
        {
            let machine = &mut self.machines[node as usize];
            if machine.phase != Phase::Up {
                return self.hold(node, event);
            }
            if machine.is_busy(at) {
                return self.wait(at, node, event);
            }
        }
        self.take(at, event);
    }

    /// The process takes it in when its event loop is free and everything that came before was taken in.
    #[inline(never)]
    fn wait(&mut self, at: Time, node: u32, event: Event) {
        let machine = &mut self.machines[node as usize];
        machine.inbox.push_back(event);
        if machine.inbox.len() == 1 {
            let (life, free_at) = (machine.life, machine.free_at().max(at));
            self.shared.queue.push(free_at, Event::Free { node, life });
        }
    }

    /// The event loop is free: it takes in what has waited longest.
    fn go_on(&mut self, at: Time, node: u32, life: u32) {
        let machine = &mut self.machines[node as usize];
        if machine.life != life {
            return;
        }
        if machine.phase != Phase::Up {
            return self.hold(node, Event::Free { node, life });
        }
        let Some(event) = machine.inbox.pop_front() else { return };
        self.take(at, event);
        let machine = &self.machines[node as usize];
        if machine.life == life && !machine.inbox.is_empty() {
            let free_at = machine.free_at().max(at);
            self.shared.queue.push(free_at, Event::Free { node, life });
        }
    }

    /// When what a process has begun is done, and its lines may be written to: nothing leaves before it was made.
    fn done(&self, at: Time, node: u32) -> Time {
        at.max(self.machines[node as usize].free_at())
    }

    fn take(&mut self, at: Time, event: Event) {
        let cpu = self.shared.scenario.cpu;
        match event {
            Event::Deliver { node, peer, parcel } => {
                let machine = &mut self.machines[node as usize];
                machine.received_bytes += u64::from(parcel.wire_bytes);
                self.counts.deliveries += 1;
                let cost_ns = cpu.rpc_ns.saturating_add(cpu.byte_ns.saturating_mul(u64::from(parcel.wire_bytes)));
                let now = self.begin(at, node, cost_ns);
                self.shared.trace.mix(u64::from(peer.slot) << 32 | u64::from(parcel.wire_bytes));
                self.shared.trace.mix(u64::from(peer.generation));
                if let Some(message) = parcel.rpc.publish.first() {
                    self.shared.trace.mix_prefix(message.id().as_bytes());
                }
                if let Some(gaps) = &mut self.shared.gaps {
                    gaps.heard(now, node, peer);
                }
                let input = Input::Rpc { peer, rpc: &parcel.rpc, received: now };
                self.act(now, node, |actor, effects| actor.handle(now, input, effects));
            }
            Event::Arrive { node, peer, parcel } => {
                let bytes = u64::from(parcel.wire_bytes);
                let sender = self.machines[node as usize].line(peer).map(|line| line.far as usize);
                let sent_in_ns = sender.map_or(0, |sender| self.machines[sender].uplink.time_ns(bytes));
                let downlink = (bytes, byte_ps(self.shared.scenario.downlink_bits_per_s));
                let whole = self.machines[node as usize].receive(at, downlink, sent_in_ns);
                self.shared.queue.push(whole, Event::Deliver { node, peer, parcel });
            }
            Event::Line { node, .. } | Event::Uplink { node }
                if self.machines[node as usize].phase == Phase::Paused =>
            {
                // Who stands still writes nothing.
                self.hold(node, event);
            }
            Event::Line { node, slot, generation } => {
                let at = self.done(at, node);
                self.carry(at, node, |effects| effects.line_goes_on(slot, generation));
            }
            Event::Uplink { node } => {
                let at = self.done(at, node);
                self.carry(at, node, |effects| effects.serve_uplink());
            }
            Event::Free { node, life } => self.go_on(at, node, life),
            Event::Wake { node } => self.wake(at, node),
            Event::Verified { node, life, ticket, valid } => {
                if self.machines[node as usize].life != life {
                    return;
                }
                self.counts.verdicts += 1;
                let outcome = if valid { Outcome::Valid } else { Outcome::Invalid { index: 0 } };
                self.shared.trace.mix(ticket << 1 | u64::from(valid));
                self.input(at, node, Input::Verified { ticket: Ticket(ticket), outcome });
            }
            Event::Rare { node, life, what } => {
                // A host takes in what comes for a process that stands still.
                let machine = &self.machines[node as usize];
                let is_there = match machine.phase {
                    Phase::Up => machine.lives(life),
                    Phase::Paused => what.is_of_the_host(),
                    Phase::Down => false,
                };
                if !is_there && !matches!(*what, Rare::Start) {
                    return;
                }
                self.counts.others += 1;
                self.rare(at, node, *what);
            }
            Event::Fault { number } => self.strike(at, number),
        }
    }

    fn wake(&mut self, at: Time, node: u32) {
        let machine = &mut self.machines[node as usize];
        if machine.wake_at <= at {
            machine.wake_at = Time::MAX;
        }
        if machine.actor.next_wake().is_some_and(|due| due <= at) {
            self.counts.timers += 1;
            let now = self.begin(at, node, self.shared.scenario.cpu.input_ns);
            self.act(now, node, |actor, effects| actor.on_wake(now, effects));
        } else {
            self.plan(node);
        }
    }

    fn rare(&mut self, at: Time, node: u32, what: Rare) {
        match what {
            Rare::Start => self.start(at, node),
            Rare::Named { peer } => self.named(at, node, peer),
            Rare::Dial { id, purpose, since } => self.dial(at, node, id, purpose, since),
            Rare::Reached { to, purpose } => self.reached(at, node, to, purpose),
            Rare::DialFailed { id } => self.input(at, node, Input::DialFailed { id }),
            Rare::Clock { off_us } => self.tell_time(at, node, off_us),
            Rare::Discover => self.discover(at, node),
            Rare::Found { peers } => self.found(at, node, &peers),
            Rare::Identified { peer } => self.identified(at, node, peer),
            Rare::HangUp { peer } => self.hang_up(at, node, peer),
            Rare::Closed { peer } => self.closed(at, node, peer),
            Rare::Ended { peer } => {
                let whole = at.max(Time::from_micros(self.machines[node as usize].downlink_free_ns.div_ceil(1_000)));
                self.shared.rare(whole, node, Rare::Closed { peer });
            }
            Rare::Body { bytes, sent_in_ns, what } => {
                let downlink = (bytes, byte_ps(self.shared.scenario.downlink_bits_per_s));
                let machine = &mut self.machines[node as usize];
                if machine.phase != Phase::Down {
                    machine.received_bytes += bytes;
                }
                let whole = machine.receive(at, downlink, sent_in_ns);
                self.shared.rare(whole, node, *what);
            }
            Rare::GivenUp { peer, cut } => self.given_up(at, node, peer, cut),
            Rare::Submit { payload_bytes } => {
                let mut payload = vec![0; payload_bytes as usize];
                self.payloads.fill(&mut payload);
                let ticket = self.shared.ticket();
                self.input(at, node, Input::SubmitPayload { ticket, payload: &payload });
            }
            Rare::QueueFull { peer, dropped } => self.input(at, node, Input::SendQueueFull { peer, dropped }),
            Rare::Verified { ticket, outcome } => {
                self.counts.verdicts += 1;
                self.input(at, node, Input::Verified { ticket, outcome });
            }
            Rare::Persisted { ticket } => {
                self.machines[node as usize].disk.written();
                self.input(at, node, Input::Persisted { ticket, durable: true });
            }
            Rare::Load { ticket, what } => {
                let blocks = self.machines[node as usize].disk.load(&what);
                let (_, mut effects) = Self::split(&mut self.machines, &mut self.shared, at, node);
                let done = effects.disk_done(blocks.iter().map(Bytes::len).sum());
                let life = effects.life;
                self.shared.rare_in(done, node, life, Rare::Loaded { ticket, blocks });
            }
            Rare::Loaded { ticket, blocks } => self.input(at, node, Input::Loaded { ticket, blocks: Some(blocks) }),
            Rare::Request { ticket, peer, body } => {
                if self.machines[node as usize].line(peer).is_some() {
                    self.input(at, node, Input::Request { ticket, peer, body: &body });
                }
            }
            Rare::Response { ticket, body } => {
                if let Some(asker) = self.shared.askers.remove(ticket) {
                    self.input(at, asker.node, Input::Response { ticket: asker.ticket, body });
                }
            }
            Rare::RequestTimeout { ticket } => {
                if let Some(asker) = self.shared.askers.remove(ticket) {
                    self.input(at, asker.node, Input::Response { ticket: asker.ticket, body: None });
                }
            }
            Rare::Unanswered { ticket } => self.input(at, node, Input::Response { ticket, body: None }),
            Rare::Responded { ticket } => self.input(at, node, Input::Responded { ticket }),
        }
    }

    /// Hands in anything but an RPC.
    pub(super) fn input(&mut self, at: Time, node: u32, input: Input<'_>) {
        let now = self.begin(at, node, self.shared.scenario.cpu.input_ns);
        self.act(now, node, |actor, effects| actor.handle(now, input, effects));
    }

    /// The node begins a piece of work; says when it is done, which is when the machine hears of it.
    fn begin(&mut self, at: Time, node: u32, cost_ns: u64) -> Time {
        let now = self.machines[node as usize].work(at, cost_ns);
        self.shared.trace.mix(now.as_micros());
        self.shared.trace.mix(u64::from(node));
        now
    }

    fn act(&mut self, now: Time, node: u32, act: impl FnOnce(&mut Actor, &mut Effects<'_>)) {
        let (actor, mut effects) = Self::split(&mut self.machines, &mut self.shared, now, node);
        act(actor, &mut effects);
        effects.flush();
        if core::mem::take(&mut self.shared.save_peers) {
            self.save_peers(node);
        }
        self.plan(node);
    }

    pub(super) fn carry(&mut self, now: Time, node: u32, act: impl FnOnce(&mut Effects<'_>)) {
        let (_, mut effects) = Self::split(&mut self.machines, &mut self.shared, now, node);
        act(&mut effects);
    }

    fn split<'a>(
        machines: &'a mut [Machine],
        shared: &'a mut Shared,
        now: Time,
        index: u32,
    ) -> (&'a mut Actor, Effects<'a>) {
        let Machine { actor, life, lines, uplink, verifier_free_ns, disk, cpu_permille, disk_permille, .. } =
            &mut machines[index as usize];
        let effects = Effects {
            now,
            index,
            life: *life,
            cpu_permille: *cpu_permille,
            disk_permille: *disk_permille,
            lines,
            uplink,
            verifier_free_ns,
            disk,
            shared,
        };
        (actor, effects)
    }

    /// Has the machine woken when it wants to be.
    pub(super) fn plan(&mut self, node: u32) {
        let machine = &mut self.machines[node as usize];
        if let Some(due) = machine.actor.next_wake()
            && due < machine.wake_at
        {
            machine.wake_at = due.max(self.shared.queue.now());
            self.shared.queue.push(machine.wake_at, Event::Wake { node });
        }
    }
}

fn mesh(scenario: &Scenario, genesis: &Genesis) -> ValidMeshConfig {
    let mut config = MeshConfig::with_topics(topics(genesis));
    (scenario.engine.configure)(&mut config);
    config.validate().expect("the configuration of a scenario's engine is valid")
}

/// When slot 0 begins, and with it the simulation.
pub(super) const START_MS: u64 = 1_000_000_000;

fn genesis(scenario: &Scenario, producers: &[SecretKey]) -> Genesis {
    Genesis::new(GenesisParameters {
        name: "simulation".into(),
        start_time_ms: START_MS,
        slot_ms: u64::try_from(scenario.slot.as_millis()).expect("a slot is short"),
        producers: producers.iter().map(|key| key.public_key().to_bytes()).collect(),
        limits: Scenario::genesis_limits(),
        stamp_bits: 0,
    })
    .expect("the parameters of a simulated network are valid")
}

pub(super) fn key(seed: u64, purpose: &str, number: usize) -> SecretKey {
    let mut bytes = [0; 32];
    Stream::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(number as u64), purpose).fill(&mut bytes);
    SecretKey::from_seed(&bytes)
}
