//! Processes: how they start, stop, are killed and go on.
//!
//! A process that is killed loses its memory and what its disk has not confirmed; its connections break as soon as the far ends
//! hear of it. The next one in its place begins with what the disk has, as a real node does: the last blocks, the transactions that were
//! submitted to it, the pool and the peers that it remembered if there was time to save them, and the slot up to which it may
//! have signed.

use super::actor::{Actor, Recruit};
use super::event::{Event, Rare};
use super::machine::Phase;
use super::scenario::Wiring;
use super::topology;
use super::world::{START_MS, World, key};
use super::{directory, peer_id};
use crate::wan::Stream;
use starling_protocol::message::message_id;
use starling_protocol::node::{Input, Node, NodeParts};
use starling_protocol::peers::{PeerConfig, Source, Standing};
use starling_protocol::time::{Time, micros};

impl World {
    /// Has the nodes start and their operators name their peers.
    pub(super) fn schedule_nodes(&mut self) {
        let scenario = &self.shared.scenario;
        let links = topology::links(&scenario.wiring, &self.shared.network, scenario.nodes, scenario.seed);
        for (from, to) in &links {
            self.named[*from as usize].push(*to);
        }
        for node in 0..self.shared.honest {
            self.shared.rare(Time::ZERO, node, Rare::Start);
        }
        let mut when = Stream::new(self.shared.scenario.seed, "connect");
        let first = Time::ZERO + self.shared.scenario.connect_from;
        let spread_us = micros(self.shared.scenario.connect_within).max(1);
        for (from, to) in links {
            let at = first + starling_protocol::time::Duration::from_micros(when.below(spread_us));
            self.shared.rare(at, from, Rare::Named { peer: to });
        }
    }

    pub(super) fn schedule_recruits(&mut self, recruits: Vec<Recruit>) {
        for (number, recruit) in (self.shared.honest..).zip(recruits) {
            self.machines[number as usize].actor = Actor::Adversary(recruit.adversary);
            if let Some(ip) = recruit.ip {
                self.addresses[number as usize] = ip;
            }
            self.shared.rare(recruit.starts, number, Rare::Start);
        }
    }

    /// A process starts, unless one runs.
    pub(super) fn start(&mut self, at: Time, node: u32) {
        if self.machines[node as usize].phase != Phase::Down {
            return;
        }
        if node < self.shared.honest {
            let machine = self.machine(at, node);
            self.machines[node as usize].actor = Actor::Node(machine);
        }
        let machine = &mut self.machines[node as usize];
        machine.life += 1;
        machine.phase = Phase::Up;
        let off_us = machine.clock_off_us;
        let (pending, pool) = (&machine.disk.pending, &machine.disk.pool);
        let pending: Vec<_> = pending.iter().map(|(id, bytes)| (*id, bytes.clone())).collect();
        let pool = pool.clone();
        if let Some(safety) = self.shared.safety.as_mut().filter(|_| node < self.shared.honest) {
            let topic = self.shared.genesis.transaction_topic().as_str();
            let stored = pending.iter().map(|(_, bytes)| bytes).chain(&pool);
            stored.for_each(|bytes| safety.restored(node, message_id(topic, bytes)));
        }
        let again = machine.life > 1;
        self.tell_time(at, node, off_us);
        if !pending.is_empty() || !pool.is_empty() {
            self.input(at, node, Input::Restore { pending, pool });
        }
        if again {
            // At the first start they are named by and by, so that not everybody dials at the same moment.
            for peer in self.named[node as usize].clone() {
                self.named(at, node, peer);
            }
        }
    }

    /// The machine of a node, with what its disk has.
    fn machine(&self, at: Time, node: u32) -> Node {
        let scenario = &self.shared.scenario;
        let genesis = &self.shared.genesis;
        let place = node as usize;
        let machine = &self.machines[place];
        let parts = NodeParts::new(genesis.clone(), peer_id(node), 1).expect("valid parts");
        let mut parts = parts.with_stored_blocks(machine.disk.blocks(genesis)).expect("a stored chain is one");
        parts.mesh = self.mesh.clone();
        let mut peers: starling_protocol::peers::PeerParts =
            PeerConfig::for_target(scenario.wiring.target_peers()).into();
        peers.book.clone_from(&machine.disk.peers);
        parts.peers = peers;
        parts.account = Some(key(scenario.seed, "account", place));
        parts.producer = (place < scenario.producers).then(|| self.producers[place].clone());
        parts.signed_slot = machine.disk.signed;
        // A stream of its own for each life, so that one more restart changes nothing for others.
        let mut seed = [0; 32];
        let number = u64::from(machine.life) << 32 | u64::from(node);
        Stream::new(scenario.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(number), "node").fill(&mut seed);
        Node::new(parts, seed, at)
    }

    /// An operator names a peer: one to be connected with always, or one to begin with, by the wiring.
    pub(super) fn named(&mut self, at: Time, node: u32, peer: u32) {
        let standing = match self.shared.scenario.wiring {
            Wiring::Discovered { .. } => Standing::Bootnode,
            _ => Standing::Trusted,
        };
        let addresses = [directory::multiaddr(self.addresses[peer as usize])];
        let input = Input::Discovered { id: peer_id(peer), addresses: &addresses, standing, source: Source::Operator };
        self.input(at, node, input);
    }

    /// Sets the wall clock of a node.
    pub(super) fn tell_time(&mut self, at: Time, node: u32, off_us: i64) {
        self.machines[node as usize].clock_off_us = off_us;
        let unix_us_at_zero = (START_MS * 1_000).saturating_add_signed(off_us);
        self.input(at, node, Input::WallClock { unix_us_at_zero });
    }

    /// A process ends at once.
    pub(super) fn kill(&mut self, at: Time, node: u32) {
        for peer in self.machines[node as usize].handles() {
            self.abandon(at, node, peer);
        }
        self.shared.askers.forget(node);
        let machine = &mut self.machines[node as usize];
        machine.actor = Actor::Nobody;
        machine.phase = Phase::Down;
        let held = core::mem::take(&mut machine.held);
        let waited = core::mem::take(&mut machine.inbox);
        machine.uplink.waiting.clear();
        // The event with which it would go on may have been held.
        machine.uplink.armed = false;
        (machine.loop_free_ns, machine.verifier_free_ns) = (0, 0);
        machine.disk.close(false);
        // A wake that is due meanwhile finds nobody, and the next process asks for its own.
        machine.wake_at = Time::MAX;
        // Nobody is there any more to publish what came while it stood still.
        held.into_iter().chain(waited).for_each(|event| self.hold(node, event));
    }

    /// A process ends after it has saved what it can.
    pub(super) fn stop(&mut self, at: Time, node: u32) {
        if let Some(batch) = self.machines[node as usize].actor.node().map(Node::pool_batch) {
            let disk = &mut self.machines[node as usize].disk;
            disk.close(true);
            disk.apply(&batch);
            self.save_peers(node);
        }
        self.kill(at, node);
    }

    /// A process is stopped and keeps its memory.
    pub(super) fn pause(&mut self, node: u32) {
        let machine = &mut self.machines[node as usize];
        if machine.phase == Phase::Up {
            machine.phase = Phase::Paused;
        }
    }

    /// A process that was stopped goes on, with all that came meanwhile.
    pub(super) fn resume(&mut self, at: Time, node: u32) {
        let machine = &mut self.machines[node as usize];
        if machine.phase != Phase::Paused {
            return;
        }
        machine.phase = Phase::Up;
        for event in core::mem::take(&mut machine.held) {
            self.shared.queue.push(at, event);
        }
        self.plan(node);
    }

    pub(super) fn save_peers(&mut self, node: u32) {
        let machine = &mut self.machines[node as usize];
        if let Some(file) = machine.actor.node().map(Node::peers_file) {
            machine.disk.peers = Some(file);
        }
    }

    /// Something came for a process that does not go on, or not for the one that runs.
    pub(super) fn hold(&mut self, node: u32, event: Event) {
        let machine = &mut self.machines[node as usize];
        match machine.phase {
            Phase::Paused => machine.held.push(event),
            Phase::Down => {
                let submission = |what: &Rare| matches!(what, Rare::Submit { .. });
                self.unpublished += u64::from(matches!(&event, Event::Rare { what, .. } if submission(what)));
            }
            Phase::Up => {}
        }
    }
}
